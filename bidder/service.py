"""One bid request in, one answer out: decode, read, decide, record, respond. No sockets here.

The HTTP worker, ``lodestone replay`` and the tests all answer through ``BidService``; what differs
is where the events go (a ring, a list) and who moves the clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from bidder.answer import Answers, BidPlace, refuse, respond
from bidder.edge import Edge, Offer, Refusal
from bidder.no_bid import explain
from market.decision import DECISION_DTYPE, NO_BID_REASON_COUNT, NoBidReason
from market.errors import BadInput
from market.events import EVENT_DTYPE
from market.openrtb_decode import decode_request

if TYPE_CHECKING:
    from bidder.decide import Decider
    from market.exchange import ExchangeProfile
    from market.openrtb import Bid, BidRequest
    from market.snapshot import Snapshot

_IMPS_MAX = 64
"""Imps of one request that are looked at; further ones get no bid."""


_NAMES = DECISION_DTYPE.names or ()
_LINE_ITEM_ROW, _REASON, _DETAIL, _BID_CURRENCY = (
    _NAMES.index(name) for name in ("line_item_row", "reason", "detail", "bid_currency")
)


class EventSink(Protocol):
    """Where bid events go before an answer leaves: a ring to the recorder, or a list."""

    def free_count(self) -> int:
        """Returns how many events can be taken right now."""
        ...

    def push(self, records: npt.NDArray[np.void]) -> bool:
        """Takes all of ``records`` ([N] of EVENT_DTYPE) or none; False if there is no room."""
        ...


class Answered(NamedTuple):
    """The answer to one request.

    Attributes:
        status: 200 with bids (or a reason the exchange asked for), 204, or 400.
        body: the response, b"" for 204 and 400.
        reason: the NoBidReason of the first imp that got no bid, BID if every imp got one.
        bid_count: bids in the answer.
    """

    status: int
    body: bytes
    reason: NoBidReason
    bid_count: int


class Examined(NamedTuple):
    """What became of each imp: for an answer, and for people who ask why.

    Attributes:
        request_id: of the request.
        bids: (seat, bid) in the order of imps.
        currency: ISO number of all bids, 0 if none.
        refusals: why an imp got none; imp_index as in the request, -1 for all of it.
    """

    request_id: str
    bids: tuple[tuple[str, Bid], ...]
    currency: int
    refusals: tuple[Refusal, ...]


class BidService:
    """Answers requests for one worker.

    Attributes:
        no_bids: [NO_BID_REASON_COUNT] int64, imps (or requests) that got no bid, by reason.
        malformed_count: bodies that were no OpenRTB request.
        bid_count: bids made.
    """

    def __init__(
        self, decider: Decider, edge: Edge, sink: EventSink, base_url: str, notice_key: bytes
    ) -> None:
        """Takes the decider with its snapshot, the edge, and where events go."""
        self._decider = decider
        self._edge = edge
        self._sink = sink
        self._base_url = base_url
        self._notice_key = notice_key
        self._answers = Answers(decider.snapshot, base_url, notice_key)
        self._decisions = np.zeros(_IMPS_MAX, DECISION_DTYPE)
        self._events = np.zeros(_IMPS_MAX, EVENT_DTYPE)
        self._one_decision, self._one_event = self._decisions[:1], self._events[:1]
        self.no_bids = np.zeros(NO_BID_REASON_COUNT, np.int64)
        self.malformed_count = 0
        self.bid_count = 0

    def swap(self, snapshot: Snapshot) -> None:
        """Serves ``snapshot`` from the next request on."""
        self._decider.swap(snapshot)
        self._answers = Answers(snapshot, self._base_url, self._notice_key)

    def answer(
        self, body: bytes, profile: ExchangeProfile, arrival_ms: int, spent_ms: float = 0.0
    ) -> Answered:
        """Returns the answer to one body; never raises for what a body says.

        Args:
            body: as sent, already inflated.
            profile: of the exchange it came from.
            arrival_ms: epoch milliseconds, the decision's now.
            spent_ms: real time since its bytes arrived.
        """
        try:
            request = decode_request(body)
        except BadInput:
            self.malformed_count += 1
            self.no_bids[NoBidReason.MALFORMED_REQUEST] += 1
            return Answered(400, b"", NoBidReason.MALFORMED_REQUEST, 0)
        return self.conclude(self.examine(request, profile, arrival_ms, spent_ms), profile)

    def conclude(self, examined: Examined, profile: ExchangeProfile) -> Answered:
        """Returns the answer that says what became of a request."""
        first = examined.refusals[0].reason if examined.refusals else NoBidReason.BID
        if examined.bids:
            response = respond(examined.request_id, examined.currency, list(examined.bids))
            return Answered(200, response, first, len(examined.bids))
        refusal = refuse(examined.request_id, explain(first).nbr, profile)
        return Answered(204 if refusal is None else 200, refusal or b"", first, 0)

    def examine(
        self,
        request: BidRequest,
        profile: ExchangeProfile,
        arrival_ms: int,
        spent_ms: float = 0.0,
    ) -> Examined:
        """Decides every imp of a decoded request and records the events; says what became of it."""
        whole = self._whole_refusal(request, profile, spent_ms)
        if whole is not None:
            return self._refused(request, whole)
        offer = self._edge.read(request, profile, arrival_ms)
        refusals = list(offer.refusals)
        for refusal in offer.refusals:
            self.no_bids[refusal.reason] += 1
        count = min(len(offer.imps), _IMPS_MAX)
        if self._sink.free_count() < count:
            return self._refused(request, Refusal(-1, NoBidReason.RECORDER_BEHIND, ""))
        self._decide(offer, count)
        # The usual single imp is pushed as it lies: numpy copies a record field by field.
        events = self._one_event
        if count != 1:
            events = self._events[:count]
            events = events[events["kind"] != 0]
        if events.shape[0] and events["kind"][0]:
            is_taken = self._sink.push(events)
            assert is_taken, "room was checked above and this worker is the one producer"
        bids: list[tuple[str, Bid]] = []
        currency = 0
        is_test = int(request.test == 1)
        for n in range(count):
            # One call for the whole record; field by field costs ten times that.
            decision = self._decisions[n].item()
            if decision[_LINE_ITEM_ROW] < 0:
                reason = NoBidReason(decision[_REASON])
                self.no_bids[reason] += 1
                refusals.append(
                    Refusal(
                        _index_of(request, offer, n), reason,
                        explain(reason, decision[_DETAIL]).field,
                    )
                )  # fmt: skip
                continue
            currency = decision[_BID_CURRENCY]
            at = BidPlace(
                arrival_ms, profile.exchange_id, offer.quantities_micros[n], is_test,
                self._decider.worker,
            )  # fmt: skip
            bids.append(self._answers.bid(offer.imps[n], offer.deals[n], decision, at))
        self.bid_count += len(bids)
        return Examined(request.id, tuple(bids), currency, tuple(refusals))

    def _whole_refusal(
        self, request: BidRequest, profile: ExchangeProfile, spent_ms: float
    ) -> Refusal | None:
        tmax = request.tmax if request.tmax is not None and request.tmax > 0 else None
        allowed = (tmax or profile.tmax_ms_default) - profile.network_buffer_ms
        if min(allowed, profile.time_ms_max) - spent_ms <= 0:
            return Refusal(-1, NoBidReason.TOO_LITTLE_TIME, "tmax")
        return None

    def _refused(self, request: BidRequest, refusal: Refusal) -> Examined:
        self.no_bids[refusal.reason] += 1
        return Examined(request.id, (), 0, (refusal,))

    def _decide(self, offer: Offer, count: int) -> None:
        """Fills the decisions and events of the first ``count`` imps.

        A response has one currency: after the first bid the later imps may only use that one.
        """
        block = offer.opportunities
        if count == 1:
            self._decider.decide_one(block, self._one_decision, self._one_event)
            return
        for n in range(count):
            one = block._replace(records=block.records[n : n + 1])
            self._decider.decide_into(one, self._decisions[n : n + 1], self._events[n : n + 1])
            if self._decisions[n]["line_item_row"] >= 0:
                block.records["currencies"][n + 1 :] = 0
                block.records["currencies"][n + 1 :, 0] = self._decisions[n]["bid_currency"]


def _index_of(request: BidRequest, offer: Offer, n: int) -> int:
    """Returns the place in the request of the n-th imp of the offer."""
    dropped = {refusal.imp_index for refusal in offer.refusals}
    return [index for index in range(len(request.imp)) if index not in dropped][n]
