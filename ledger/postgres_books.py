"""The books of some budgets: their rows, locked, as one transaction sees and changes them.

The rules by which money moves between a budget, what a worker holds of it and a reservation; the
transactions around them are in ``ledger.postgres``. Ids are unsigned here and the signed number of
the same bits in the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ledger.lease import Credit
from ledger.reservation import Reservation, ReservationState
from market.state import CreditKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

_OPEN: Final = int(ReservationState.OPEN)
_SIGN: Final = 1 << 63


class BudgetRow:
    """One budget, as ``budgets`` has it; money in micros."""

    __slots__ = ("end_at_ms", "held", "late", "limit", "on_time", "open_count", "reserved_max")

    def __init__(self, row: tuple[int, ...]) -> None:
        """Takes the columns behind the id, in the order of the table."""
        self.limit, self.end_at_ms, self.on_time, self.late = row[:4]
        self.held, self.open_count, self.reserved_max = row[4:7]

    def free(self) -> int:
        """Returns what may still be leased."""
        return max(0, self.limit - self.on_time - self.late - self.held)

    def row(self) -> tuple[int, ...]:
        """Returns the columns that it was made from."""
        return (
            self.limit, self.end_at_ms, self.on_time, self.late, self.held, self.open_count,
            self.reserved_max,
        )  # fmt: skip


class LeaseRow:
    """What one worker holds of one budget, as ``leases`` has it; money in micros."""

    __slots__ = ("frozen", "frozen_until_ms", "held", "is_frozen", "open", "used_ms")

    def __init__(self, row: tuple[Any, ...] = (0, 0, 0, 0, False, 0)) -> None:
        """Takes the columns behind the key, in the order of the table; by default nothing held."""
        self.held, self.open, self.frozen, self.frozen_until_ms, self.is_frozen, self.used_ms = row

    def available(self) -> int:
        """Returns what the worker may reserve."""
        return self.held - self.open - self.frozen

    def row(self) -> tuple[Any, ...]:
        """Returns the columns that it was made from."""
        return (
            self.held, self.open, self.frozen, self.frozen_until_ms, self.is_frozen, self.used_ms,
        )  # fmt: skip


class Books:
    """Some budgets and all their leases, locked, as one transaction sees and changes them."""

    def __init__(self, connection: Connection, budget_ids: Iterable[int]) -> None:
        """Locks the budgets, in the order of their ids; new ones are made, with nothing in them."""
        self._connection = connection
        ids = sorted(signed(budget_id) for budget_id in set(budget_ids))
        connection.execute(
            "INSERT INTO budgets (budget_id) SELECT unnest(%s::bigint[]) ON CONFLICT DO NOTHING",
            (ids,),
        )
        # One order for everybody, so that no two owners wait for each other.
        rows = connection.execute(
            "SELECT budget_id, limit_micros, end_at_ms, spent_on_time_micros, spent_late_micros, "
            "held_micros, open_count, reserved_micros_max FROM budgets "
            "WHERE budget_id = ANY(%s) ORDER BY budget_id FOR UPDATE",
            (ids,),
        ).fetchall()
        self.budgets = {unsigned(row[0]): BudgetRow(row[1:]) for row in rows}
        found = connection.execute(
            "SELECT budget_id, worker, held_micros, open_micros, frozen_micros, frozen_until_ms, "
            "is_frozen, used_ms FROM leases WHERE budget_id = ANY(%s)",
            (ids,),
        ).fetchall()
        self.leases = {(unsigned(row[0]), row[1]): LeaseRow(row[2:]) for row in found}
        self._before = {key: lease.row() for key, lease in self.leases.items()}
        self._budgets_before = {key: budget.row() for key, budget in self.budgets.items()}
        self.touched: set[int] = set()

    def lease(self, budget_id: int, worker: int) -> LeaseRow:
        """Returns a worker's lease, an empty one where it had none."""
        return self.leases.setdefault((budget_id, worker), LeaseRow())

    def hold(self, worker: int, bid: Reservation, now_ms: int) -> bool:
        """Takes a reservation from all of a bid's budgets, or from none."""
        pairs: list[tuple[BudgetRow, LeaseRow]] = []
        for budget_id in bid.budgets:
            budget, lease = self.budgets[budget_id], self.lease(budget_id, worker)
            budget.reserved_max = max(budget.reserved_max, bid.reserved_micros)
            lease.used_ms = now_ms
            if lease.held - lease.open < bid.reserved_micros:
                return False
            self.touched.add(budget_id)
            pairs.append((budget, lease))
        for budget, lease in pairs:
            budget.open_count += 1
            lease.open += bid.reserved_micros
        return True

    def release(self, bid: Reservation) -> list[Credit]:
        """Gives an open reservation back to its worker."""
        for budget_id in bid.budgets:
            self.budgets[budget_id].open_count -= 1
            self.lease(budget_id, bid.worker).open -= bid.reserved_micros
        return taken_by(bid.worker, bid)

    def settle(
        self, bid: Reservation, state: int, amount_micros: int, *, is_late: bool
    ) -> list[Credit]:
        """Moves the money of a notice that is charged."""
        was_open = state == _OPEN
        told: list[Credit] = []
        for budget_id in bid.budgets:
            budget, lease = self.budgets[budget_id], self.lease(budget_id, bid.worker)
            if was_open:
                budget.open_count -= 1
                lease.open -= bid.reserved_micros
                back = bid.reserved_micros - (0 if is_late else amount_micros)
                if back:
                    told.append(Credit(bid.worker, CreditKind.BUDGET, budget_id, back))
            if is_late:
                budget.late += amount_micros
            else:
                budget.on_time += amount_micros
                budget.held -= amount_micros
                lease.held -= amount_micros
            self.touched.add(budget_id)
        if is_late and not was_open:
            told += [Credit(bid.worker, CreditKind.CAP, key, -1) for key in bid.caps]
        return told

    def save(self) -> None:
        """Writes what has changed."""
        budgets = [
            (signed(key), *budget.row(), key in self.touched)
            for key, budget in self.budgets.items()
            if key in self.touched or budget.row() != self._budgets_before[key]
        ]
        if budgets:
            self._connection.execute(
                "UPDATE budgets SET limit_micros = n.a, end_at_ms = n.b, "
                "spent_on_time_micros = n.c, spent_late_micros = n.d, held_micros = n.e, "
                "open_count = n.f, reserved_micros_max = n.g, is_touched = is_touched OR n.h "
                "FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], "
                "%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::boolean[]) "
                "AS n (id, a, b, c, d, e, f, g, h) WHERE budget_id = n.id",
                columns(budgets),
            )
        leases = [
            (signed(budget_id), worker, *lease.row())
            for (budget_id, worker), lease in self.leases.items()
            if lease.row() != self._before.get((budget_id, worker))
        ]
        if leases:
            self._connection.execute(
                "INSERT INTO leases (budget_id, worker, held_micros, open_micros, frozen_micros, "
                "frozen_until_ms, is_frozen, used_ms) SELECT * FROM unnest(%s::bigint[], "
                "%s::integer[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], "
                "%s::boolean[], %s::bigint[]) ON CONFLICT (budget_id, worker) DO UPDATE SET "
                "held_micros = excluded.held_micros, open_micros = excluded.open_micros, "
                "frozen_micros = excluded.frozen_micros, "
                "frozen_until_ms = excluded.frozen_until_ms, is_frozen = excluded.is_frozen, "
                "used_ms = excluded.used_ms",
                columns(leases),
            )


def taken_by(worker: int, bid: Reservation) -> list[Credit]:
    """Returns the credits that give ``worker`` back all that it took for one bid."""
    money = [
        Credit(worker, CreditKind.BUDGET, budget_id, bid.reserved_micros)
        for budget_id in bid.budgets
    ]
    return money + [Credit(worker, CreditKind.CAP, key, 1) for key in bid.caps]


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Returns rows as the arrays that ``unnest`` takes; none for no rows."""
    return [list(column) for column in zip(*rows, strict=True)]


def signed(number: int) -> int:
    """Returns the signed 64-bit number of the same bits."""
    return number - (1 << 64) if number >= _SIGN else number


def unsigned(number: int) -> int:
    """Returns the unsigned 64-bit number of the same bits."""
    return number + (1 << 64) if number < 0 else number
