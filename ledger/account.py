"""Accounts: what a budget and a lease are made of, what may become of a charge, what is leased.

``ledger.budget`` moves the money between them.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ledger.lease import Credit

RESERVATIONS_PER_LEASE: Final = 4
"""A lease is worth at least so many of the largest reservations seen, while there is money."""

ALL: Final = 2**63 - 1
"""The allotment of a budget that no other machine draws on."""


class Charge(enum.Enum):
    """What a charging notice does to the money."""

    ON_TIME = "on_time"
    LATE = "late"
    """Paid as a late win: after the deadline, or after a loss notice, or without a lease."""
    DUPLICATE = "duplicate"
    DISPUTED = "disputed"
    """Above the reservation: not charged; the reservation is released when it expires."""
    TEST = "test"


class Settlement(NamedTuple):
    """What the owner says to a charging notice; ``amount_micros`` is 0 unless it is charged."""

    charge: Charge
    amount_micros: int


class Reserved(NamedTuple):
    """What became of a worker's events.

    Attributes:
        new: indices of the events that are new, in order.
        repeats: what their worker took for bids that were known already.
    """

    new: list[int]
    repeats: list[Credit]


class BudgetTotals(NamedTuple):
    """One budget, for people and policies; money in the budget's currency."""

    budget_id: int
    limit_micros: int
    spent_on_time_micros: int
    spent_late_micros: int
    held_micros: int
    open_count: int
    adjusted_micros: int


class Position(NamedTuple):
    """Where one budget stands on this machine, for ``ledger.allotment``; money in micros."""

    budget_id: int
    is_defined: bool
    limit_micros: int
    end_at_ms: int
    allotted_micros: int
    spent_on_time_micros: int
    spent_late_micros: int
    adjusted_micros: int
    held_micros: int
    open_micros: int
    reserved_micros_max: int

    @property
    def spent_micros(self) -> int:
        """On time, late and adjusted."""
        return self.spent_on_time_micros + self.spent_late_micros + self.adjusted_micros


class BudgetAccount:
    """One budget's money, and who holds how much of it."""

    __slots__ = (
        "adjusted_micros",
        "allotted_micros",
        "end_at_ms",
        "held_micros",
        "is_defined",
        "leases",
        "limit_micros",
        "open_count",
        "reserved_micros_max",
        "spent_late_micros",
        "spent_on_time_micros",
    )

    def __init__(self) -> None:
        """Starts without money; until a snapshot names the budget its limit is not known."""
        self.is_defined = False
        self.limit_micros = 0
        # Where machines share budgets, what this one may spend and hold of it.
        self.allotted_micros = ALL
        self.end_at_ms = 0
        self.adjusted_micros = 0
        self.spent_on_time_micros = 0
        self.spent_late_micros = 0
        self.held_micros = 0
        self.open_count = 0
        self.reserved_micros_max = 0
        self.leases: dict[int, LeaseAccount] = {}

    def free_micros(self) -> int:
        """What may still be leased."""
        return max(0, -self.over_micros())

    def over_micros(self) -> int:
        """What is spent and held above the limit; below 0: what may still be leased."""
        spent = self.spent_on_time_micros + self.spent_late_micros + self.adjusted_micros
        return spent + self.held_micros - min(self.limit_micros, self.allotted_micros)


class LeaseAccount:
    """What one worker holds: reserved by open bids, frozen, or available to it."""

    __slots__ = ("frozen_micros", "frozen_until_ms", "held_micros", "open_micros", "used_ms")

    def __init__(self) -> None:
        """Starts with nothing."""
        self.used_ms = 0
        self.held_micros = 0
        self.open_micros = 0
        self.frozen_micros = 0
        self.frozen_until_ms = 0

    def available_micros(self) -> int:
        """What it may still reserve."""
        return self.held_micros - self.open_micros - self.frozen_micros


def lease_amounts(
    free_micros: int, reserved_micros_max: int, available_micros: Mapping[int, int], parts: int
) -> list[tuple[int, int]]:
    """Returns (worker, amount) of the leases that a budget grants now, in order of workers.

    A worker whose available money is below half of the target gets what is missing to the target:

        target = max(RESERVATIONS_PER_LEASE * largest reservation, free // (2 * parts))

    so one pass leases at most half of what is free until only a few reservations are left, and what
    is stranded in a crashed worker stays small.

    Args:
        free_micros: B - S_on - S_late - sum(held).
        reserved_micros_max: the largest reservation seen.
        available_micros: by worker, what it may still reserve; only these are granted anything.
        parts: workers that share the budget, those that are granted nothing included.
    """
    target = max(RESERVATIONS_PER_LEASE * reserved_micros_max, free_micros // (2 * parts))
    granted: list[tuple[int, int]] = []
    for worker, available in sorted(available_micros.items()):
        amount = min(target - available, free_micros)
        if amount > 0 and 2 * available < target:
            free_micros -= amount
            granted.append((worker, amount))
    return granted
