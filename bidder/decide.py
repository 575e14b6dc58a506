"""One decision, everywhere: the face of the decision kernels for the HTTP bidder and the twin.

``Decider`` holds a snapshot, the live arrays and the state, and calls ``bidder.kernels`` on a block
of opportunities in order of arrival. The HTTP worker hands it one request's imps, the twin
thousands; nothing else in the house decides a bid (the slow twin in the tests excepted).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from bidder.kernels import decide_block
from bidder.kernels_cap import cap_add
from market.decision import DECISION_DTYPE
from market.events import EVENT_DTYPE, FEATURE_COUNT
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
PROPENSITY_DRAWS = 32
"""Keyed draws by which the probability of a creative's choice is estimated."""
_WINDOW_MS_MAX = 604_800_000
"""A count that comes back after its counter was dropped is kept for the longest window."""


class Work(NamedTuple):
    """Scratch of one decision: reused, never read across opportunities.

    Shapes: words[W], scratch[W] uint64; features[F] uint32; vector[2E], bias[2] float64;
    chosen[2] float64 = pctr, pcvr; draws[2, 32] float64; best, offer, nothing: [1] of
    DECISION_DTYPE.
    """

    words: npt.NDArray[np.uint64]
    scratch: npt.NDArray[np.uint64]
    features: npt.NDArray[np.uint32]
    vector: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    chosen: npt.NDArray[np.float64]
    draws: npt.NDArray[np.float64]
    best: npt.NDArray[np.void]
    offer: npt.NDArray[np.void]
    nothing: npt.NDArray[np.void]


def new_work(snapshot: Snapshot) -> Work:
    """Returns scratch of the sizes that this snapshot needs."""
    words = snapshot.arrays.rows.shape[1]
    nothing = np.zeros(1, DECISION_DTYPE)
    nothing["line_item_row"] = nothing["creative_row"] = nothing["deal_index"] = -1
    return Work(
        words=np.zeros(words, np.uint64),
        scratch=np.zeros(words, np.uint64),
        features=np.zeros(FEATURE_COUNT, np.uint32),
        vector=np.zeros(snapshot.arrays.context_vectors.shape[1]),
        bias=np.zeros(2),
        chosen=np.zeros(2),
        draws=np.zeros((2, PROPENSITY_DRAWS)),
        best=np.zeros(1, DECISION_DTYPE),
        offer=np.zeros(1, DECISION_DTYPE),
        nothing=nothing,
    )


class Decider:
    """Decides opportunities against the current snapshot and its own state.

    Attributes:
        snapshot: the one that decisions are made against.
        state: what changes between two opportunities.
        worker: index of this decider among those that share ``cap_slots``.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        live: LiveArrays,
        *,
        worker: int = 0,
        cap_slots: npt.NDArray[np.void] | None = None,
        no_bid_sample_rate: float = 0.0,
    ) -> None:
        """Takes the snapshot; ``cap_slots`` [W, S] is shared by workers (None: one of its own)."""
        self.snapshot = snapshot
        self.worker = worker
        self._live = live
        self._sample_rate = no_bid_sample_rate
        self._work = new_work(snapshot)
        self._parked: dict[int, int] = {}
        state = new_state(snapshot.arrays.budgets.shape[0])
        self.state: BidState = state if cap_slots is None else state._replace(cap_slots=cap_slots)
        self._budget_rows = _budget_rows(snapshot)
        self._versions = _versions(snapshot)
        self._code: Callable[..., None] | None = None

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
        self._work = new_work(snapshot)
        self._versions = _versions(snapshot)
        self._code = None

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
        decide_block(
            opportunities.records, opportunities.codes, opportunities.deals,
            self.snapshot.arrays, self._live, self.state, self._work, self._versions,
            self.worker, self.snapshot.head.seed, self._sample_rate, decisions, events,
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
        assert opportunities.records.flags.c_contiguous
        code = self._code or self._bind()
        code(
            opportunities.records, opportunities.codes, opportunities.deals,
            self.snapshot.arrays, self._live, self.state, self._work, self._versions,
            self.worker, self.snapshot.head.seed, self._sample_rate, decisions, events,
        )  # fmt: skip

    def _bind(self) -> Callable[..., None]:
        """Looks up the machine code for this snapshot's arrays; an empty block changes nothing."""
        block = no_opportunities(0, 1, 1)
        self._code = compiled_for(
            decide_block,
            block.records, block.codes, block.deals,
            self.snapshot.arrays, self._live, self.state, self._work, self._versions,
            self.worker, self.snapshot.head.seed, self._sample_rate,
            np.zeros(0, DECISION_DTYPE), np.zeros(0, EVENT_DTYPE),
        )  # fmt: skip
        return self._code

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
        self._bind()


def _budget_rows(snapshot: Snapshot) -> dict[int, int]:
    return {int(budget): row for row, budget in enumerate(snapshot.arrays.budgets["budget_id"])}


def _versions(snapshot: Snapshot) -> npt.NDArray[np.uint32]:
    head = snapshot.head
    return np.array([head.version, head.model_version, head.policy_version], np.uint32)
