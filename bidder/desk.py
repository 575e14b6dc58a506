"""The desk: where the records of one request are decided, recorded, or taken back.

Both paths of a worker work here, the one in Python (``bidder.service``) and the native one
(``bidder.native.engine``): whatever reads a request and whatever writes its answer, there is one
decision, one event and one reservation. It holds the decisions of the request at hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from market.decision import DECISION_DTYPE, NoBidReason
from market.events import EVENT_DTYPE
from market.opportunity import Opportunities
from market.state import CREDIT_DTYPE, CreditKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bidder.decide import Decider
    from bidder.pods import PodWatch

_POD_FULL = np.zeros((), DECISION_DTYPE)
_POD_FULL["line_item_row"] = _POD_FULL["creative_row"] = _POD_FULL["rendition_row"] = -1
_POD_FULL["reason"] = NoBidReason.POD_FULL

RECORDS_MAX = 64
"""Records of one request that are decided; further ones get no bid."""


class EventSink(Protocol):
    """Where bid events go before an answer leaves: a ring to the recorder, or a list."""

    def free_count(self) -> int:
        """Returns how many events can be taken right now."""
        ...

    def push_raw(self, record: memoryview) -> bool:
        """Takes one event, the bytes of a record of EVENT_DTYPE; False if there is no room."""
        ...


class Desk:
    """Decides for one worker.

    Attributes:
        decider: decides.
        sink: takes the events.
        decisions: [RECORDS_MAX] of DECISION_DTYPE, of the request at hand.
        rows: [RECORDS_MAX] int32, their line item rows; -1 = no bid.
        events: [RECORDS_MAX] of EVENT_DTYPE, of the decisions; kind 0: none.
    """

    def __init__(self, decider: Decider, sink: EventSink) -> None:
        """Takes what decides and where its events go."""
        self.decider = decider
        self.sink = sink
        self.decisions = np.zeros(RECORDS_MAX, DECISION_DTYPE)
        self.rows: npt.NDArray[np.int32] = self.decisions["line_item_row"]
        self.events = np.zeros(RECORDS_MAX, EVENT_DTYPE)
        # Views made once: a slice of a structured array takes as long as a small decision.
        self._one = [
            (self.decisions[n : n + 1], self.events[n : n + 1]) for n in range(RECORDS_MAX)
        ]
        self._kinds: npt.NDArray[np.uint8] = self.events["kind"]
        raw = self.events.view(np.uint8).data
        width = EVENT_DTYPE.itemsize
        self._raw = [raw[n * width : (n + 1) * width] for n in range(RECORDS_MAX)]

    def has_room(self, count: int) -> bool:
        """Returns whether the sink can take the events of so many records."""
        return self.sink.free_count() >= count

    def decide(
        self,
        block: Opportunities,
        count: int,
        records: Sequence[npt.NDArray[np.void]] | None = None,
        pods: PodWatch | None = None,
    ) -> None:
        """Decides the first ``count`` records of a request, in order.

        A response has one currency: after the first bid the later records may only use that one.
        What is bid in a pod narrows the rest of it.

        Args:
            block: contiguous and writable, as the edge or the native reader makes it.
            count: at most RECORDS_MAX.
            records: views of one record each of ``block``; None: they are made.
            pods: watches over the pods of the request, if it has any.
        """
        decide_one = self.decider.decide_one
        if count == 1 and pods is None:
            first = block if block.records.shape[0] == 1 else Opportunities(
                block.records[:1] if records is None else records[0], block.codes, block.deals
            )  # fmt: skip
            decide_one(first, *self._one[0])
            return
        currency = 0
        for n in range(count):
            decision, event = self._one[n]
            codes = block.codes if pods is None else pods.opportunities.codes
            if pods is not None and pods.is_full(n):
                decision[0] = _POD_FULL
                event["kind"] = 0
                continue
            record = block.records[n : n + 1] if records is None else records[n]
            if currency:
                record["currencies"] = 0
                record["currencies"][0, 0] = currency
            decide_one(Opportunities(record, codes, block.deals), decision, event)
            if self.rows[n] >= 0:
                currency = int(decision["bid_currency"][0])
                if pods is not None:
                    self._take(pods, n)

    def _take(self, pods: PodWatch, n: int) -> None:
        snapshot = self.decider.snapshot
        row = int(self.decisions["creative_row"][n])
        duration_ms = int(snapshot.arrays.creatives["duration_ms"][row])
        pods.take(n, snapshot.head.creatives[row], duration_ms)

    def record(self, count: int) -> None:
        """Hands over the events of the decisions at hand."""
        kinds, push_raw = self._kinds, self.sink.push_raw
        for n in range(count):
            if kinds[n]:
                is_taken = push_raw(self._raw[n])
                assert is_taken, "room was looked at before and this worker is the one producer"

    def take_back(self, count: int, arrival_ms: int) -> None:
        """Undoes the decisions at hand: nobody was told of them, so the owner has nothing to know.

        Their money may be reserved again, and their counts are taken off the frequency counters.
        """
        undone: list[tuple[int, int, int]] = []
        for decision in self.decisions[:count]:
            if decision["line_item_row"] < 0:
                continue
            reserved = int(decision["reserved_micros"])
            undone += [
                (key, reserved, CreditKind.BUDGET) for key in decision["budgets"].tolist() if key
            ]
            undone += [(key, 1, CreditKind.CAP) for key in decision["caps"].tolist() if key]
        self.decider.credit(np.array(undone, CREDIT_DTYPE), arrival_ms)

    def value_micros(self, count: int) -> float:
        """Returns the expected value of the bids at hand, in USD micros."""
        arrays = self.decider.snapshot.arrays
        decisions = self.decisions[:count]
        chosen = decisions[decisions["line_item_row"] >= 0]
        rates = dict(zip(arrays.currencies.tolist(), arrays.rates_micros[0].tolist(), strict=True))
        return sum(
            float(decision["value_micros"]) * rates[int(decision["account_currency"])] / 1e6
            for decision in chosen
        )
