"""Accounts: what a budget and a lease are made of, what may become of a charge, what is leased.

``ledger.budget`` moves the money between them.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from ledger import kernels_budget as kernels

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from ledger.lease import Credit, Lease

RESERVATIONS_PER_LEASE: Final = 4
"""A lease is worth at least so many of the largest reservations seen, while there is money."""

ALL: Final = 2**63 - 1
"""The allotment of a budget that no other machine draws on."""


_ROWS: Final = 64
_UINT64_MAX: Final = 2**64 - 1


class _Row(Protocol):
    row: int

    @property
    def cells(self) -> memoryview: ...


RowT = TypeVar("RowT", bound=_Row)


class _Cell(Generic[RowT]):
    """One number of an account: a cell of its row."""

    __slots__ = ("_column",)

    def __init__(self, column: int) -> None:
        self._column = column

    def __get__(self, account: RowT, owner: object = None) -> int:
        found: int = account.cells[account.row, self._column]
        return found

    def __set__(self, account: RowT, value: int) -> None:
        account.cells[account.row, self._column] = value


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


class Released(NamedTuple):
    """What became of reservations that were released together.

    Attributes:
        bid_count: how many there were.
        told: money that workers get back, one credit a lease.
        kept: money that was withheld from them, one a lease (``BudgetLedger.withhold``).
        caps: [N] of ``ledger.kernels_budget.CAP_BACK_DTYPE``, frequency counts given back.
    """

    bid_count: int
    told: list[Credit]
    kept: list[Lease]
    caps: list[npt.NDArray[np.void]]


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
    """One budget's money, and who holds how much of it: a row of ``AccountBook.budgets``."""

    __slots__ = ("_book", "leases", "row")

    def __init__(self, book: AccountBook, row: int) -> None:
        """Is the budget in ``row``; until a snapshot names it its limit is not known."""
        self._book = book
        self.row: Final = row
        self.leases: dict[int, LeaseAccount] = {}

    is_defined = _Cell["BudgetAccount"](kernels.IS_DEFINED)
    limit_micros = _Cell["BudgetAccount"](kernels.LIMIT)
    allotted_micros = _Cell["BudgetAccount"](kernels.ALLOTTED)
    """Where machines share budgets, what this one may spend and hold of it; else ALL."""
    end_at_ms = _Cell["BudgetAccount"](kernels.END)
    adjusted_micros = _Cell["BudgetAccount"](kernels.ADJUSTED)
    spent_on_time_micros = _Cell["BudgetAccount"](kernels.SPENT)
    spent_late_micros = _Cell["BudgetAccount"](kernels.LATE)
    held_micros = _Cell["BudgetAccount"](kernels.HELD)
    open_count = _Cell["BudgetAccount"](kernels.OPEN_COUNT)
    reserved_micros_max = _Cell["BudgetAccount"](kernels.LARGEST)
    is_touched = _Cell["BudgetAccount"](kernels.IS_TOUCHED)
    """It may need a lease since the last top-up."""

    @property
    def cells(self) -> memoryview:
        """All budgets' cells."""
        return self._book.budget_cells

    def free_micros(self) -> int:
        """What may still be leased."""
        return max(0, -self.over_micros())

    def over_micros(self) -> int:
        """What is spent and held above the limit; below 0: what may still be leased."""
        spent = self.spent_on_time_micros + self.spent_late_micros + self.adjusted_micros
        return spent + self.held_micros - min(self.limit_micros, self.allotted_micros)


class LeaseAccount:
    """What one worker holds: reserved by open bids, frozen, or available to it."""

    __slots__ = ("_book", "row")

    def __init__(self, book: AccountBook, row: int) -> None:
        """Is the lease in ``row`` of ``AccountBook.leases``."""
        self._book = book
        self.row: Final = row

    used_ms = _Cell["LeaseAccount"](kernels.USED)
    held_micros = _Cell["LeaseAccount"](kernels.LEASED)
    open_micros = _Cell["LeaseAccount"](kernels.RESERVED)
    frozen_micros = _Cell["LeaseAccount"](kernels.FROZEN)
    frozen_until_ms = _Cell["LeaseAccount"](kernels.FROZEN_UNTIL)

    @property
    def cells(self) -> memoryview:
        """All leases' cells."""
        return self._book.lease_cells

    def available_micros(self) -> int:
        """What it may still reserve."""
        return self.held_micros - self.open_micros - self.frozen_micros


class AccountBook:
    """All budgets and leases, in rows that kernels work on.

    Attributes:
        budget_cells, lease_cells: the rows of ``arrays`` as [rows, columns] of int.
    """

    def __init__(self) -> None:
        """Starts empty."""
        self._budget_count = self._lease_count = 0
        self._budgets = np.zeros((_ROWS, kernels.BUDGET_COLUMNS), np.int64)
        self._leases = np.zeros((_ROWS, kernels.LEASE_COLUMNS), np.int64)
        self._table = np.zeros(4 * _ROWS, np.int32)
        self._renew()

    def _renew(self) -> None:
        self.arrays = kernels.Accounts(self._budgets, self._leases, self._table)
        self.budget_cells = self._budgets.data
        self.lease_cells = self._leases.data

    @property
    def budgets(self) -> npt.NDArray[np.int64]:
        """Returns the rows of the budgets there are."""
        return self._budgets[: self._budget_count]

    def open_budget(self) -> BudgetAccount:
        """Returns a new budget without money."""
        row = self._budget_count
        self._budget_count += 1
        if row == self._budgets.shape[0]:
            self._budgets = np.concatenate((self._budgets, np.zeros_like(self._budgets)))
            self._renew()
        self._budgets[row, kernels.ALLOTTED] = ALL
        return BudgetAccount(self, row)

    def open_lease(self, budget: BudgetAccount, budget_id: int, worker: int) -> LeaseAccount:
        """Returns a new lease without money, and enters it into its budget."""
        row = self._lease_count
        self._lease_count += 1
        if row == self._leases.shape[0]:
            self._leases = np.concatenate((self._leases, np.zeros_like(self._leases)))
            self._table = np.zeros(4 * self._leases.shape[0], np.int32)
            self._renew()
            for each in range(row):
                kernels.index_lease(self.arrays, each)
        lease = self._leases[row]
        lease[kernels.BUDGET_ID] = np.uint64(budget_id).view(np.int64)
        lease[kernels.BUDGET] = budget.row
        lease[kernels.WORKER] = worker
        kernels.index_lease(self.arrays, row)
        account = budget.leases[worker] = LeaseAccount(self, row)
        return account

    def collect(
        self, rows: npt.NDArray[np.int64]
    ) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
        """Returns what leases in ``rows`` are owed and what was kept of them, and clears both.

        Each as (worker, budget id, amount), without those of 0.
        """
        cells = self.lease_cells
        found: tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]] = ([], [])
        for row in rows.tolist():
            budget_id = cells[row, kernels.BUDGET_ID] & _UINT64_MAX
            for column, into in zip((kernels.OWED, kernels.KEPT), found, strict=True):
                if amount := cells[row, column]:
                    into.append((cells[row, kernels.WORKER], budget_id, amount))
                    cells[row, column] = 0
        return found


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
