"""What changes between two opportunities: budget remainders, frequency counts, counters.

``decide(snapshot, state, ...) -> (decisions, state)`` writes these arrays in place; they are the
whole memory of a decision. Credits from the budgets' owner come in through ``CREDIT_DTYPE``.

Dimension names: B = budgets of the snapshot, W = workers, S = slots (a power of two).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from market.decision import NO_BID_REASON_COUNT

CAP_SLOT_DTYPE = np.dtype(
    [
        # name of (scope, user, window); 0 = never used
        ("key", np.uint64),
        # bids that are open or became impressions
        ("count", np.int64),
        # end of the window: from then on the slot may be taken by another key
        ("expires_ms", np.int64),
    ],
    align=True,
)

CAP_SLOT_COUNT = 65_536
"""Default slots per worker."""

CAP_PROBES = 16
"""Slots looked at for one key; when all are taken the cap fails closed."""


class CreditKind(enum.IntEnum):
    """What a credit gives back."""

    BUDGET = 1
    """key: budget id, amount: micros that may be reserved (again)."""
    CAP = 2
    """key: counter key, amount: how many counts are taken back."""
    RESET = 3
    """Every available_micros becomes 0: the owner takes back what was not reserved (a restart)."""


CREDIT_DTYPE = np.dtype([("key", np.uint64), ("amount", np.int64), ("kind", np.uint64)], align=True)


class BidState(NamedTuple):
    """The arrays that a decision reads and writes; one per worker.

    Attributes:
        available_micros: [B] what this worker may still reserve of each budget.
        cap_slots: [W, S] of CAP_SLOT_DTYPE; a worker writes its own row and reads all.
        no_bids: [NO_BID_REASON_COUNT] int64, opportunities answered with each reason.
    """

    available_micros: npt.NDArray[np.int64]
    cap_slots: npt.NDArray[np.void]
    no_bids: npt.NDArray[np.int64]


def new_state(budget_count: int, worker_count: int = 1, slots: int = CAP_SLOT_COUNT) -> BidState:
    """Returns a state with no money, no counts: nothing can be bid until a credit arrives."""
    assert slots & (slots - 1) == 0, "slots must be a power of two"
    return BidState(
        available_micros=np.zeros(budget_count, np.int64),
        cap_slots=np.zeros((worker_count, slots), CAP_SLOT_DTYPE),
        no_bids=np.zeros(NO_BID_REASON_COUNT, np.int64),
    )
