"""What bids do to the money, as machine code: a block reserves, a block of due ones is released.

The rules are those of ``ledger.budget``, which owns the accounts and does everything else.
"""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ledger.kernels_reservation import (
    DONE,
    NO_ACCOUNT,
    OPEN,
    RELEASED,
    Pool,
    add,
    close,
    find,
    make_room,
)
from market.events import EventKind
from market.kernel import bare_kernel as kernel

if TYPE_CHECKING:
    import numpy.typing as npt

_BID = int(EventKind.BID)
_IS_BID = 1 << _BID
_U0 = np.uint64(0)
_BUDGETS = 3
_CAPS = 3

# Columns of ``Accounts.budgets``.
IS_DEFINED, LIMIT, ALLOTTED, END, ADJUSTED, SPENT, LATE, HELD, OPEN_COUNT, LARGEST = range(10)
IS_TOUCHED = 10
BUDGET_COLUMNS = 11
# Columns of ``Accounts.leases``; OWED and KEPT are 0 but between a release and its credits.
BUDGET_ID, BUDGET, WORKER, USED, LEASED, RESERVED, FROZEN, FROZEN_UNTIL, OWED, KEPT = range(10)
LEASE_COLUMNS = 10

NEW, REPEAT = 1, 2
"""What became of an event: to be recorded; a bid that is known already."""

CAP_BACK_DTYPE = np.dtype([("key", np.uint64), ("worker", np.int64)], align=True)
"""A frequency counter that gets one back, and whose bid it was."""

# Places in the ``progress`` of ``reserve``.
AT, UNFUNDED = 0, 1

_C1 = np.uint64(0x9E3779B97F4A7C15)
_C2 = np.uint64(0xBF58476D1CE4E5B9)
_U29, _U32 = np.uint64(29), np.uint64(32)


class Accounts(NamedTuple):
    """Budgets and leases in rows, money in micros.

    Attributes:
        budgets: [budgets, BUDGET_COLUMNS] int64.
        leases: [leases, LEASE_COLUMNS] int64; the id of the budget as the bits of a uint64.
        table: [a power of two] int32, row of a lease + 1, 0 = none, by budget id and worker.
    """

    budgets: npt.NDArray[np.int64]
    leases: npt.NDArray[np.int64]
    table: npt.NDArray[np.int32]


@kernel
def _place(table: npt.NDArray[np.int32], budget_id: np.uint64, worker: int) -> np.int64:
    h = (budget_id + np.uint64(worker) * _C1) * _C2
    h = (h ^ (h >> _U29)) * _C1
    return np.int64(h >> _U32) & (table.shape[0] - 1)


@kernel
def index_lease(accounts: Accounts, row: int) -> None:
    """Enters the lease in ``row`` into the table, which must have room."""
    lease = accounts.leases[row]
    place = _place(accounts.table, np.uint64(lease[BUDGET_ID]), lease[WORKER])
    while accounts.table[place]:
        place = (place + 1) & (accounts.table.shape[0] - 1)
    accounts.table[place] = row + 1


@kernel
def _lease_of(accounts: Accounts, budget_id: np.uint64, worker: int) -> int:
    """Returns the row of a lease; -1 when there is none."""
    place = _place(accounts.table, budget_id, worker)
    while accounts.table[place]:
        row = np.int64(accounts.table[place]) - 1
        lease = accounts.leases[row]
        if np.uint64(lease[BUDGET_ID]) == budget_id and lease[WORKER] == worker:
            return row
        place = (place + 1) & (accounts.table.shape[0] - 1)
    return -1


@kernel
def _hold(accounts: Accounts, event: np.void, now_ms: int) -> int:
    """Takes a reservation from all of a bid's budgets, or from none.

    Whether it can is a matter of what is held and open, which the log says; what is frozen is not
    in the log, so a replay could not decide by it.

    Returns 1 or 0; -1 where an account is missing: open it and call again.
    """
    amount = np.int64(event["amount_micros"])
    worker = np.int64(event["worker"])
    for k in range(_BUDGETS):
        budget_id = event["budgets"][k]
        if budget_id == _U0:
            continue
        row = _lease_of(accounts, budget_id, worker)
        if row < 0:
            return -1
        lease = accounts.leases[row]
        budget = accounts.budgets[lease[BUDGET]]
        budget[LARGEST] = max(budget[LARGEST], amount)
        lease[USED] = now_ms
        if lease[LEASED] - lease[RESERVED] < amount:
            return 0
        budget[IS_TOUCHED] = 1
    for k in range(_BUDGETS):
        budget_id = event["budgets"][k]
        if budget_id == _U0:
            continue
        lease = accounts.leases[_lease_of(accounts, budget_id, worker)]
        accounts.budgets[lease[BUDGET], OPEN_COUNT] += 1
        lease[RESERVED] += amount
        # A bid of a worker that was thought dead: what it reserved may not be given back.
        lease[FROZEN] = min(lease[FROZEN], lease[LEASED] - lease[RESERVED])
    return 1


@kernel
def reserve(
    pool: Pool,
    accounts: Accounts,
    events: npt.NDArray[np.void],
    now_ms: int,
    latest_ms: npt.NDArray[np.int64],
    became: npt.NDArray[np.uint8],
    progress: npt.NDArray[np.int64],
) -> int:
    """Takes events[N] of workers, from ``progress[AT]`` on; see ``BudgetLedger.reserve``.

    Args:
        pool: known bids.
        accounts: the money.
        events: [N] of EVENT_DTYPE.
        now_ms: the run's clock.
        latest_ms: [workers] last deadline of any bid, by worker.
        became: [N], NEW or REPEAT is written.
        progress: [2] the next event; bids that took more than was held are added up.

    Returns DONE, or why it stopped at ``progress[AT]``, whose event did nothing yet.
    """
    while progress[AT] < events.shape[0]:
        i = progress[AT]
        event = events[i]
        if event["kind"] != _BID:
            became[i] = NEW
        elif find(pool, event["bid_hi"], event["bid_lo"]) >= 0:
            became[i] = REPEAT
        else:
            why = make_room(pool, now_ms)
            if why != DONE:
                return why
            is_held = _hold(accounts, event, now_ms)
            if is_held < 0:
                return NO_ACCOUNT
            if is_held == 0:
                progress[UNFUNDED] += 1
            add(pool, event, OPEN if is_held else RELEASED, _IS_BID)
            worker = np.int64(event["worker"])
            latest_ms[worker] = max(latest_ms[worker], np.int64(event["deadline_ms"]))
            became[i] = NEW
        progress[AT] += 1
    return DONE


@kernel
def release(
    pool: Pool,
    accounts: Accounts,
    slots: npt.NDArray[np.int64],
    withholds: bool,
    leases: npt.NDArray[np.int64],
    caps: npt.NDArray[np.void],
    counts: npt.NDArray[np.int64],
) -> None:
    """Releases open bids, in order; what their workers get back is left in OWED.

    With ``withholds``, what comes back of a budget above its limit is left in KEPT instead, and
    leaves the lease: see ``BudgetLedger.withhold``.

    Args:
        pool: known bids.
        accounts: the money.
        slots: [N] of open bids.
        withholds: whether anything is kept back.
        leases: [3 N], rows of leases with something in OWED or KEPT are written, each once.
        caps: [3 N] of CAP_BACK_DTYPE, the counters that get one back, are written.
        counts: [2] how many of each were written.
    """
    counts[0] = 0
    counts[1] = 0
    for n in range(slots.shape[0]):
        record = pool.records[slots[n]]
        amount = np.int64(record["amount_micros"])
        worker = np.int64(record["worker"])
        close(pool, slots[n], RELEASED)
        for k in range(_BUDGETS):
            budget_id = record["budgets"][k]
            if budget_id == _U0:
                continue
            row = _lease_of(accounts, budget_id, worker)
            lease = accounts.leases[row]
            budget = accounts.budgets[lease[BUDGET]]
            budget[OPEN_COUNT] -= 1
            lease[RESERVED] -= amount
            if amount > 0 and lease[OWED] == 0 and lease[KEPT] == 0:
                leases[counts[0]] = row
                counts[0] += 1
            limit = min(budget[LIMIT], budget[ALLOTTED])
            over = budget[SPENT] + budget[LATE] + budget[ADJUSTED] + budget[HELD] - limit
            kept = np.int64(0)
            if withholds and budget[IS_DEFINED] != 0 and over > 0:
                kept = min(over, amount)
                budget[HELD] -= kept
                lease[LEASED] -= kept
            lease[KEPT] += kept
            lease[OWED] += amount - kept
        for k in range(_CAPS):
            if record["caps"][k] != _U0:
                caps[counts[1]]["key"] = record["caps"][k]
                caps[counts[1]]["worker"] = worker
                counts[1] += 1
