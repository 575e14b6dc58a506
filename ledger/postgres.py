"""The owner of the budgets at scale: the same rules as ``ledger.budget``, in PostgreSQL's rows.

Every method is one transaction, which is durable when it returns: there is no log to write first
and none to replay. It locks the budgets that it moves money of, in the order of their ids, so that
any number of processes can own partitions of the line items and share budgets; a line item draws on
all its budgets or on none, because both happen in one transaction.

An owner of a partition has an epoch. Whoever opens it takes a higher one; from its commit on every
transaction of an older owner is refused (``Fenced``), also one that was under way, whose commit it
waited for. So a process that was thought dead and wakes up moves no money.

Bounds, words and cases are those of ``ledger.budget``: S_on + sum(held) <= B at every commit, per
budget, and overspend is at most what late wins cost.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import psycopg
from psycopg.rows import tuple_row

from ledger.account import BudgetTotals, Charge, Reserved, Settlement, lease_amounts
from ledger.lease import Lease
from ledger.postgres_books import Books, LeaseRow, columns, signed, taken_by, unsigned
from ledger.reservation import (
    CHARGED_MEMORY_MS,
    RELEASED_MEMORY_MS,
    Reservation,
    ReservationState,
    reservation_of,
)
from market.errors import Forbidden, NotReady
from market.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    import numpy as np
    import numpy.typing as npt

    from ledger.lease import Credit
    from ledger.postgres_books import Connection

_OPEN, _RELEASED, _CHARGED = (
    int(ReservationState.OPEN),
    int(ReservationState.RELEASED),
    int(ReservationState.CHARGED),
)
_SCHEMA_LOCK: Final = 0x10DE
"""Number of the lock under which the tables are made: CREATE IF NOT EXISTS is not safe alone."""

BidId = tuple[int, int]
"""(bid_hi, bid_lo), unsigned."""


class Fenced(Forbidden):
    """Another owner took the partition over: this process must end."""


class Notice(NamedTuple):
    """A charging notice, read and found to be ours.

    Attributes:
        bid: its bid id.
        amount_micros: what it would charge.
        now_ms: when it came, on the owner's clock.
    """

    bid: BidId
    amount_micros: int
    now_ms: int


class Settled(NamedTuple):
    """What became of a notice, and what its worker is told; None: the bid is not known."""

    settlement: Settlement | None
    credits: list[Credit]


class PostgresBudgets:
    """Budgets, leases and reservations in one database, for the owner of one partition.

    Attributes:
        epoch: of this owner.
    """

    def __init__(self, url: str, partition: str = "all") -> None:
        """Connects, makes the tables where they are missing, and takes the partition over.

        Args:
            url: Connection string or URL of the database; libpq reads passwords from its own file.
            partition: What this process owns; whoever owned it before is refused from now on.

        Raises:
            NotReady: the server is not there, or refuses. The message holds no password.
        """
        with _in_words():
            self._connection: Connection = psycopg.connect(
                url, autocommit=True, row_factory=tuple_row, connect_timeout=5
            )
            self._partition = partition
            statements = Path(__file__).with_name("postgres.sql").read_bytes()
            with self._connection.transaction():
                self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
                self._connection.execute(statements)
            with self._connection.transaction():
                row = self._connection.execute(
                    "INSERT INTO owners (partition, epoch) VALUES (%s, 1) "
                    "ON CONFLICT (partition) DO UPDATE SET epoch = owners.epoch + 1 "
                    "RETURNING epoch",
                    (partition,),
                ).fetchone()
        assert row is not None
        self.epoch: int = row[0]

    def close(self) -> None:
        """Lets the connection go; the partition stays this owner's until the next takes it over."""
        self._connection.close()

    # What the snapshot says.

    def define(self, budgets: npt.NDArray[np.void]) -> set[int]:
        """See ``BudgetLedger.define``."""
        holders: set[int] = set()
        names = ("budget_id", "limit_micros", "end_at_ms")
        rows: list[tuple[int, ...]] = list(
            zip(*(budgets[name].tolist() for name in names), strict=True)
        )
        with self._books(row[0] for row in rows) as books:
            for budget_id, limit, end_at_ms in rows:
                budget = books.budgets[budget_id]
                if (budget.limit, budget.end_at_ms) == (limit, end_at_ms):
                    continue
                is_lower = limit < budget.limit
                budget.limit, budget.end_at_ms = limit, end_at_ms
                books.touched.add(budget_id)
                if is_lower and limit < budget.on_time + budget.late + budget.held:
                    holders.update(
                        worker
                        for (of, worker), lease in books.leases.items()
                        if of == budget_id and lease.available() > 0
                    )
        return holders

    # Leases.

    def lease(self, now_ms: int, worker_count: int) -> tuple[Lease, ...]:
        """Grants what is due and returns it: ``BudgetLedger.top_up`` and ``grant`` in one."""
        granted: list[Lease] = []
        with self._transaction() as connection:
            suspended = _suspended(connection)
            due = [
                unsigned(row[0])
                for row in connection.execute("SELECT budget_id FROM budgets WHERE is_touched")
            ]
            books = Books(connection, due)
            for budget_id in sorted(books.budgets):
                budget = books.budgets[budget_id]
                if budget.end_at_ms <= now_ms:
                    continue
                available = {
                    worker: books.leases.get((budget_id, worker), LeaseRow()).available()
                    for worker in range(worker_count)
                    if worker not in suspended
                }
                for worker, amount in lease_amounts(
                    budget.free(), budget.reserved_max, available, worker_count
                ):
                    budget.held += amount
                    books.lease(budget_id, worker).held += amount
                    granted.append(Lease(worker, budget_id, amount))
            books.save()
            connection.execute(
                "UPDATE budgets SET is_touched = false WHERE budget_id = ANY(%s)",
                ([signed(budget_id) for budget_id in due],),
            )
        return tuple(granted)

    def suspend_worker(self, worker: int) -> None:
        """See ``BudgetLedger.suspend_worker``."""
        self._set_suspended(worker, is_suspended=True)

    def resume_worker(self, worker: int) -> None:
        """See ``BudgetLedger.resume_worker``."""
        self._set_suspended(worker, is_suspended=False)

    def close_worker(self, worker: int, until_ms: int) -> None:
        """See ``BudgetLedger.close_worker``."""
        with self._books_of("SELECT budget_id FROM leases WHERE worker = %s", (worker,)) as books:
            for budget_id in books.budgets:
                lease = books.leases.get((budget_id, worker))
                if lease is None or lease.held == lease.open:
                    continue
                lease.frozen = lease.held - lease.open
                lease.frozen_until_ms = max(lease.frozen_until_ms, until_ms)
                lease.is_frozen = True
                books.touched.add(budget_id)

    def thaw(self, now_ms: int) -> tuple[Lease, ...]:
        """Takes back the frozen leases whose time is over, and returns them."""
        over: list[Lease] = []
        question = "SELECT budget_id FROM leases WHERE is_frozen AND frozen_until_ms < %s"
        with self._books_of(question, (now_ms,)) as books:
            for (budget_id, worker), lease in sorted(books.leases.items()):
                if not lease.is_frozen or lease.frozen_until_ms >= now_ms:
                    continue
                lease.is_frozen = False
                if lease.frozen > 0:
                    over.append(Lease(worker, budget_id, lease.frozen))
                    books.budgets[budget_id].held -= lease.frozen
                    lease.held -= lease.frozen
                    lease.frozen = 0
                    books.touched.add(budget_id)
        return tuple(over)

    def deadline_ms_max(self, worker: int) -> int:
        """See ``BudgetLedger.deadline_ms_max``."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT deadline_ms_max FROM workers WHERE worker = %s", (worker,)
            ).fetchone()
        return row[0] if row else 0

    # Reservations.

    def reserve(self, events: npt.NDArray[np.void], now_ms: int) -> Reserved:
        """See ``BudgetLedger.reserve``; the bids of a call are durable together."""
        new: list[int] = []
        repeats: list[Credit] = []
        width = events.dtype.itemsize
        body = events.tobytes()
        kinds = events["kind"].tolist()
        ids: list[BidId] = list(
            zip(events["bid_hi"].tolist(), events["bid_lo"].tolist(), strict=True)
        )
        bids = [reservation_of(body, i * width) for i in range(len(kinds))]
        rows: list[tuple[int, int, int, int, bytes]] = []
        wanted = {key for bid in bids for key in bid.budgets}
        with self._books(wanted) as books:
            known = self._known([ids[i] for i, kind in enumerate(kinds) if kind == EventKind.BID])
            unfunded = 0
            latest: dict[int, int] = {}
            for i, (kind, bid) in enumerate(zip(kinds, bids, strict=True)):
                if kind != EventKind.BID:
                    new.append(i)
                    continue
                if ids[i] in known:
                    repeats += taken_by(bid.worker, bid)
                    continue
                known.add(ids[i])
                new.append(i)
                is_held = books.hold(bid.worker, bid, now_ms)
                unfunded += not is_held
                record = body[i * width : (i + 1) * width]
                state = _OPEN if is_held else _RELEASED
                rows.append((signed(ids[i][0]), signed(ids[i][1]), state, bid.deadline_ms, record))
                latest[bid.worker] = max(latest.get(bid.worker, 0), bid.deadline_ms)
            self._insert(rows, latest, unfunded)
        return Reserved(new, repeats)

    def settle(self, notices: Sequence[Notice]) -> list[Settled]:
        """Judges charging notices and moves their money, in order, in one transaction.

        The first notice of a bid that charges settles it for good; every later one is a duplicate.
        """
        with self._of_bids([notice.bid for notice in notices]) as (books, bids):
            found: list[Settled] = []
            for bid_id, amount_micros, now_ms in notices:
                if bid_id not in bids:
                    found.append(Settled(None, []))
                    continue
                state, bid = bids[bid_id]
                settlement = _judged(state, bid, amount_micros, now_ms)
                told: list[Credit] = []
                if settlement.charge in (Charge.ON_TIME, Charge.LATE):
                    is_late = settlement.charge is Charge.LATE
                    told = books.settle(bid, state, amount_micros, is_late=is_late)
                    bids[bid_id] = _CHARGED, bid
                found.append(Settled(settlement, told))
        return found

    def release(self, bid_ids: Sequence[BidId]) -> list[Credit]:
        """Gives open reservations back to their workers: lost. Others stay as they are."""
        told: list[Credit] = []
        with self._of_bids(bid_ids) as (books, bids):
            for bid_id in bid_ids:
                state, bid = bids.get(bid_id, (_RELEASED, None))
                if bid is not None and state == _OPEN:
                    told += books.release(bid)
                    bids[bid_id] = _RELEASED, bid
        return told

    def expire(self, now_ms: int, limit: int = 10_000) -> tuple[int, list[Credit]]:
        """Releases open reservations whose deadline is before ``now_ms``, the oldest first.

        Returns how many there were, and the credits. All notices that came by then must have been
        settled before. ``limit`` at most in one transaction: call again while it finds so many.
        """
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT bid_hi, bid_lo FROM reservations WHERE state = 1 AND deadline_ms < %s "
                "ORDER BY deadline_ms, bid_hi, bid_lo LIMIT %s",
                (now_ms, limit),
            ).fetchall()
        due = [(unsigned(hi), unsigned(lo)) for hi, lo in rows]
        return len(due), self.release(due)

    def forget(self, now_ms: int) -> int:
        """Forgets bids whose memory is over (``ledger.reservation``); returns how many."""
        with self._transaction() as connection:
            return connection.execute(
                "DELETE FROM reservations WHERE (state = 3 AND deadline_ms + %s < %s) "
                "OR (state = 2 AND deadline_ms + %s < %s)",
                (CHARGED_MEMORY_MS, now_ms, RELEASED_MEMORY_MS, now_ms),
            ).rowcount

    # What others see.

    def totals(self) -> list[BudgetTotals]:
        """See ``BudgetLedger.totals``."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT budget_id, limit_micros, spent_on_time_micros, spent_late_micros, "
                "held_micros, open_count FROM budgets"
            ).fetchall()
        found = [
            BudgetTotals(
                budget_id=unsigned(budget_id), limit_micros=limit, spent_on_time_micros=on_time,
                spent_late_micros=late, held_micros=held, open_count=open_count,
                # Adjustments are booked by the embedded owner only.
                adjusted_micros=0,
            )
            for budget_id, limit, on_time, late, held, open_count in rows
        ]  # fmt: skip
        return sorted(found)

    def available_micros(self, worker: int, budget_id: int) -> int:
        """See ``BudgetLedger.available_micros``."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT held_micros - open_micros - frozen_micros FROM leases "
                "WHERE budget_id = %s AND worker = %s",
                (signed(budget_id), worker),
            ).fetchone()
        return row[0] if row else 0

    @property
    def unfunded_count(self) -> int:
        """Bids that took more than their worker held: a worker that breaks the rules."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT unfunded_count FROM owners WHERE partition = %s", (self._partition,)
            ).fetchone()
        return row[0] if row else 0

    # Transactions.

    @contextlib.contextmanager
    def _transaction(self) -> Generator[Connection]:
        """One transaction, refused where another owner has taken over.

        The owner's row is locked against ``take_over`` until the commit, so that nothing of an old
        owner can be committed after a new one began.
        """
        with _in_words(), self._connection.transaction():
            row = self._connection.execute(
                "SELECT epoch FROM owners WHERE partition = %s FOR SHARE", (self._partition,)
            ).fetchone()
            if row is None or row[0] != self.epoch:
                raise Fenced(
                    f"budgets of partition '{self._partition}': epoch {self.epoch} is over, "
                    f"{row[0] if row else 'nobody'} owns them now; this process must end"
                )
            yield self._connection

    @contextlib.contextmanager
    def _books(self, budget_ids: Iterable[int]) -> Generator[Books]:
        with self._transaction() as connection:
            books = Books(connection, budget_ids)
            yield books
            books.save()

    @contextlib.contextmanager
    def _books_of(self, question: str, values: tuple[int, ...]) -> Generator[Books]:
        with self._transaction() as connection:
            rows = connection.execute(question.encode(), values).fetchall()
            books = Books(connection, (unsigned(row[0]) for row in rows))
            yield books
            books.save()

    @contextlib.contextmanager
    def _of_bids(
        self, bid_ids: Sequence[BidId]
    ) -> Generator[tuple[Books, dict[BidId, tuple[int, Reservation]]]]:
        """The books of some bids' budgets, and the bids by id as (state, bid); saves changes."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT r.bid_hi, r.bid_lo, r.state, r.event FROM reservations AS r "
                "JOIN unnest(%s::bigint[], %s::bigint[]) AS n (hi, lo) "
                "ON r.bid_hi = n.hi AND r.bid_lo = n.lo "
                "ORDER BY r.bid_hi, r.bid_lo FOR UPDATE OF r",
                columns([(signed(hi), signed(lo)) for hi, lo in set(bid_ids)]) or [[], []],
            ).fetchall()
            bids = {
                (unsigned(hi), unsigned(lo)): (state, reservation_of(event))
                for hi, lo, state, event in rows
            }
            before = {bid_id: state for bid_id, (state, _) in bids.items()}
            books = Books(connection, {key for _, bid in bids.values() for key in bid.budgets})
            yield books, bids
            books.save()
            changed = [
                (signed(hi), signed(lo), state)
                for (hi, lo), (state, _) in bids.items()
                if state != before[hi, lo]
            ]
            if changed:
                connection.execute(
                    "UPDATE reservations SET state = n.state FROM unnest(%s::bigint[], "
                    "%s::bigint[], %s::smallint[]) AS n (hi, lo, state) "
                    "WHERE bid_hi = n.hi AND bid_lo = n.lo",
                    columns(changed),
                )

    def _known(self, bid_ids: list[BidId]) -> set[BidId]:
        rows = self._connection.execute(
            "SELECT r.bid_hi, r.bid_lo FROM reservations AS r "
            "JOIN unnest(%s::bigint[], %s::bigint[]) AS n (hi, lo) "
            "ON r.bid_hi = n.hi AND r.bid_lo = n.lo",
            columns([(signed(hi), signed(lo)) for hi, lo in bid_ids]) or [[], []],
        ).fetchall()
        return {(unsigned(hi), unsigned(lo)) for hi, lo in rows}

    def _insert(
        self, rows: list[tuple[int, int, int, int, bytes]], latest: dict[int, int], unfunded: int
    ) -> None:
        if rows:
            self._connection.execute(
                "INSERT INTO reservations (bid_hi, bid_lo, state, deadline_ms, event) "
                "SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::smallint[], %s::bigint[], "
                "%s::bytea[])",
                columns(rows),
            )
            self._connection.execute(
                "INSERT INTO workers (worker, deadline_ms_max) "
                "SELECT * FROM unnest(%s::integer[], %s::bigint[]) ON CONFLICT (worker) "
                "DO UPDATE SET deadline_ms_max = "
                "greatest(workers.deadline_ms_max, excluded.deadline_ms_max)",
                columns(sorted(latest.items())),
            )
        if unfunded:
            # The row is locked for sharing by every owner's transaction, so not by an UPDATE of it
            # before the end of this one: it is this owner's alone.
            self._connection.execute(
                "UPDATE owners SET unfunded_count = unfunded_count + %s WHERE partition = %s",
                (unfunded, self._partition),
            )

    def _set_suspended(self, worker: int, *, is_suspended: bool) -> None:
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO workers (worker, is_suspended) VALUES (%s, %s) "
                "ON CONFLICT (worker) DO UPDATE SET is_suspended = excluded.is_suspended",
                (worker, is_suspended),
            )
            if not is_suspended:
                connection.execute(
                    "WITH locked AS (SELECT budget_id FROM budgets ORDER BY budget_id FOR UPDATE) "
                    "UPDATE budgets SET is_touched = true "
                    "WHERE budget_id IN (SELECT budget_id FROM locked)"
                )


def _judged(state: int, bid: Reservation, amount_micros: int, now_ms: int) -> Settlement:
    """Returns what a charging notice for a known bid does; as ``BudgetLedger.judge``."""
    if bid.is_test:
        return Settlement(Charge.TEST, 0)
    if state == _CHARGED:
        return Settlement(Charge.DUPLICATE, 0)
    if amount_micros > bid.reserved_micros:
        return Settlement(Charge.DISPUTED, 0)
    is_on_time = state == _OPEN and now_ms <= bid.deadline_ms
    return Settlement(Charge.ON_TIME if is_on_time else Charge.LATE, amount_micros)


def _suspended(connection: Connection) -> set[int]:
    return {row[0] for row in connection.execute("SELECT worker FROM workers WHERE is_suspended")}


@contextlib.contextmanager
def _in_words() -> Generator[None]:
    """Says in the words of the house what the server could not do."""
    try:
        yield
    except psycopg.OperationalError as error:
        text = " ".join(str(error).split())[:300]
        raise NotReady(
            f"PostgreSQL: {text}; nothing of it was done, ask again or start the server"
        ) from error
