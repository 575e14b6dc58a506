"""One decision, everywhere: the face of the decision kernels for the HTTP bidder and the twin.

``Decider`` holds a snapshot, the live arrays and the state, and calls ``bidder.kernels`` on a block
of opportunities in order of arrival. The HTTP worker hands it one request's imps, the twin
thousands; nothing else in the house decides a bid (the slow twin in the tests excepted).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bidder.kernels import decide_block
from bidder.kernels_bound import prepare, refresh
from bidder.kernels_bundle import Bundle
from bidder.kernels_cap import cap_add
from bidder.work import CODES_MIN, Work, new_found, new_work
from market.control import Word
from market.decision import DECISION_DTYPE
from market.events import EVENT_DTYPE
from market.kernel import compiled_for
from market.kernels import mix
from market.opportunity import no_opportunities
from market.state import CreditKind, new_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from market.control import LiveArrays
    from market.opportunity import Opportunities
    from market.snapshot import Snapshot
    from market.state import BidState


_CAP = int(CreditKind.CAP)
_RESET = int(CreditKind.RESET)
_FIRST_LOOK, _LOOK_GROWTH = 256, 32
"""After how many opportunities the bounds are made for the contexts that were met, and again."""
_LIVE_EPOCH = int(Word.LIVE_EPOCH)
_WINDOW_MS_MAX = 604_800_000
"""A count that comes back after its counter was dropped is kept for the longest window."""


class Decider:
    """Decides opportunities against the current snapshot and its own state.

    Attributes:
        snapshot: the one that decisions are made against.
        state: what changes between two opportunities.
        worker: index of this decider among those that share ``cap_slots``.
        sample_rate: share of no-bids that get an event.
        bundle: what the kernels read, laid out; another one after a swap, and after ``make_ready``.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        live: LiveArrays,
        *,
        worker: int = 0,
        cap_slots: npt.NDArray[np.void] | None = None,
        no_bid_sample_rate: float = 0.0,
        words: memoryview | None = None,
    ) -> None:
        """Takes the snapshot and the live arrays as they are.

        Args:
            snapshot: what to decide against, see ``swap``.
            live: of the control block or in process; read at every decision.
            worker: index of this decider's row of ``cap_slots``.
            cap_slots: [W, S] of CAP_SLOT_DTYPE, shared by workers; None: one of its own.
            no_bid_sample_rate: share of no-bids that get an event.
            words: of the control block that ``live`` is of: its LIVE_EPOCH says when they changed.
                None: whoever writes the live arrays calls ``refresh``.
        """
        self.snapshot = snapshot
        self.worker = worker
        self._live = live
        self.sample_rate = no_bid_sample_rate
        self._words = words
        self._live_epoch = 0
        self._next_look = _FIRST_LOOK
        self._code_count = CODES_MIN
        self._work = self._new_work()
        self._parked: dict[int, int] = {}
        state = new_state(snapshot.arrays.budgets.shape[0])
        self.state: BidState = state if cap_slots is None else state._replace(cap_slots=cap_slots)
        self._budget_rows = _budget_rows(snapshot)
        self._versions = _versions(snapshot)
        self.refresh()
        self._bind()

    def swap(self, snapshot: Snapshot) -> None:
        """Makes ``snapshot`` the current one; money and counts carry over by budget id."""
        for budget, row in self._budget_rows.items():
            self._parked[budget] = int(self.state.available_micros[row])
        self.snapshot = snapshot
        self._budget_rows = _budget_rows(snapshot)
        available = np.zeros(snapshot.arrays.budgets.shape[0], np.int64)
        for budget, row in self._budget_rows.items():
            available[row] = self._parked.pop(budget, 0)
        self.state = self.state._replace(available_micros=available)
        traffic = self._work.bounds.traffic
        self._work = self._new_work()
        self._work.bounds.traffic[:] = traffic
        self.refresh()
        self._versions = _versions(snapshot)
        self._bind()

    def refresh(self) -> None:
        """Takes in that live arrays changed: makes the bounds of the search anew.

        Must follow every write to the live arrays; with ``words`` it does so by itself. Until then
        a line item that was switched on, or now bids more, may be overlooked.
        """
        if self._words is not None:
            # Read before the arrays: a change while they are read is a change still to be seen.
            self._live_epoch = self._words[_LIVE_EPOCH]
        refresh(self.snapshot.arrays, self._live, self._work.bounds)

    def _new_work(self) -> Work:
        work = new_work(self.snapshot, self._code_count)
        prepare(self.snapshot.arrays, work.bounds)
        return work

    def make_ready(self, opportunities: Opportunities) -> None:
        """Before a block: follows the live arrays, and makes room for as many codes.

        For callers of the kernels; the methods here do it by themselves.
        """
        if self._words is not None and self._words[_LIVE_EPOCH] != self._live_epoch:
            self.refresh()
        if opportunities.codes.shape[0] > self._code_count:
            self._code_count = 2 * opportunities.codes.shape[0]
            self._work = self._work._replace(found=new_found(self._code_count))
            self._bind()

    def credit(self, records: npt.NDArray[np.void], now_ms: int) -> None:
        """Takes credits from the budgets' owner, [N] of ``market.state.CREDIT_DTYPE``, in order."""
        available = self.state.available_micros
        for key, amount, kind in records.tolist():
            if kind == _CAP:
                cap_add(
                    self.state.cap_slots, self.worker, np.uint64(key), -amount, now_ms,
                    now_ms + _WINDOW_MS_MAX,
                )  # fmt: skip
            elif kind == _RESET:
                available[:] = 0
                self._parked.clear()
            elif key in self._budget_rows:
                available[self._budget_rows[key]] += amount
            else:
                self._parked[key] = self._parked.get(key, 0) + amount
        if self._work.bounds.traffic[0] >= self._next_look:
            # Bounds are tighter for contexts like those that were met.
            self._next_look *= _LOOK_GROWTH
            self.refresh()

    def available(self) -> dict[int, int]:
        """Returns what may still be reserved, by budget id, those of past snapshots included."""
        current = {
            budget: int(self.state.available_micros[row])
            for budget, row in self._budget_rows.items()
        }
        return {**self._parked, **current}

    def decide_into(
        self,
        opportunities: Opportunities,
        decisions: npt.NDArray[np.void],
        events: npt.NDArray[np.void],
    ) -> None:
        """Decides a block into ``decisions`` [N] and ``events`` [N] (kind 0: none), in order."""
        self.make_ready(opportunities)
        decide_block(
            self.bundle.address, self.bundle.kind,
            opportunities.records, opportunities.codes, opportunities.deals,
            self.worker, self.snapshot.head.seed, self.sample_rate, decisions, events,
        )  # fmt: skip

    def decide_one(
        self,
        opportunities: Opportunities,
        decisions: npt.NDArray[np.void],
        events: npt.NDArray[np.void],
    ) -> None:
        """As ``decide_into`` for what ``bidder.edge`` makes: contiguous, writable arrays, always.

        Skips the kernel's look at the types of its arguments, which costs as much as a decision.
        """
        self.make_ready(opportunities)
        self._code(
            self.bundle.address, self.bundle.kind,
            opportunities.records, opportunities.codes, opportunities.deals,
            self.worker, self.snapshot.head.seed, self.sample_rate, decisions, events,
        )  # fmt: skip

    def _bind(self) -> None:
        """Lays out what decisions read, and looks up their machine code.

        Follows every exchange of one of these arrays for another. The empty block that the lookup
        runs changes nothing.
        """
        self.bundle = Bundle(
            self.snapshot.arrays, self._live, self.state, self._work, self._versions
        )
        block = no_opportunities(0, 1, 1)
        self._code: Callable[..., None] = compiled_for(
            decide_block,
            self.bundle.address, self.bundle.kind, block.records, block.codes, block.deals,
            self.worker, self.snapshot.head.seed, self.sample_rate,
            np.zeros(0, DECISION_DTYPE), np.zeros(0, EVENT_DTYPE),
        )  # fmt: skip

    def decide(
        self, opportunities: Opportunities
    ) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
        """Returns (decisions [N], events [M]): one each, and the events worth recording."""
        count = opportunities.records.shape[0]
        decisions = np.zeros(count, DECISION_DTYPE)
        events = np.zeros(count, EVENT_DTYPE)
        self.decide_into(opportunities, decisions, events)
        return decisions, events[events["kind"] != 0]

    def warm_up(self) -> None:
        """Compiles (or loads) the kernels for the very arrays that requests will use."""
        block = no_opportunities(1, 1, 1)
        before = self.state.no_bids.copy()
        self.decide(block)
        cap_add(self.state.cap_slots, self.worker, mix(np.uint64(1)), -1, 0, 0)
        self.state.no_bids[:] = before


def _budget_rows(snapshot: Snapshot) -> dict[int, int]:
    return {int(budget): row for row, budget in enumerate(snapshot.arrays.budgets["budget_id"])}


def _versions(snapshot: Snapshot) -> npt.NDArray[np.uint32]:
    head = snapshot.head
    return np.array([head.version, head.model_version, head.policy_version], np.uint32)
