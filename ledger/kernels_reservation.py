"""The pool of known bids as machine code: find, add, expire and forget, each in constant time.

What is open is on a list by the second of its deadline, and a bid leaves that list the moment it is
closed. The table of bids grows by one bucket with each bid (linear hashing), and bids whose memory
is over are looked for at a few slots with each new one. So no step ever waits for all of it: a
table that doubles, or a sweep over the whole pool, would hold up every commit behind it.

Source: W. Litwin, "Linear hashing: a new tool for file and table addressing", VLDB 1980.
"""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from market.events import EventKind
from market.kernel import bare_kernel as kernel

if TYPE_CHECKING:
    import numpy.typing as npt

FREE, OPEN, RELEASED, CHARGED = 0, 1, 2, 3
CHARGED_MEMORY_MS = 7 * 86_400_000
"""How long after its deadline a charged bid is known: as long as a charging notice is taken."""

RELEASED_MEMORY_MS = 300_000
"""The same for a bid that was not charged. A win that comes later is settled from its token.

A known bid takes 370 bytes, so what is open, and this, decide the recorder's memory: 2,000 bids a
second with a window of five minutes are half a gigabyte.
"""

SLOT_DTYPE = np.dtype(
    [
        ("bid_hi", np.uint64),
        ("bid_lo", np.uint64),
        ("deadline_ms", np.int64),
        # slots + 1, 0 = none: next of the bucket (of a free slot: next free one), and the
        # neighbours among the open bids of its second
        ("chain", np.int32),
        ("before", np.int32),
        ("after", np.int32),
        ("seen", np.uint16),
        ("state", np.uint8),
    ],
    align=True,
)

SECONDS = 4_096
"""Lists of open bids, by second (of 1,024 ms); deadlines a turn of the lists apart share one."""

_BITS = 10
BUCKETS_MIN = 64
_LOOKED_AT = 4
_HAS_ORDERS = 1 << int(EventKind.CONVERSION)

# Places in ``Pool.marks``.
FREED, FRESH, KNOWN, MASK, SPLIT, HAND, SECOND, OPEN_COUNT = range(8)
MARK_COUNT = 8

DONE, IS_FULL, HAS_ORDERS, NO_ACCOUNT = 0, 1, 2, 3
"""Why a kernel stopped: at the end; no slot is free; slot ``HAND`` must be forgotten by the caller,
who keeps orders for it; a lease that there is no account for."""

_C1 = np.uint64(0x9E3779B97F4A7C15)
_C2 = np.uint64(0xBF58476D1CE4E5B9)
_C3 = np.uint64(0x94D049BB133111EB)
_U27, _U30, _U31 = np.uint64(27), np.uint64(30), np.uint64(31)


class Pool(NamedTuple):
    """Known bids. S = slots, B = buckets.

    Attributes:
        records: [S] of EVENT_DTYPE.
        slots: [S] of SLOT_DTYPE.
        buckets: [B >= S] int32, slot + 1 of the first bid; 0 = none.
        seconds: [SECONDS, 2] int32, slot + 1 of the first and last open bid; 0 = none.
        marks: [MARK_COUNT] int64: first free slot + 1, slots never used start here, known bids,
            mask and split of linear hashing, where forgetting goes on, the second before which
            nothing is open, open bids.
    """

    records: npt.NDArray[np.void]
    slots: npt.NDArray[np.void]
    buckets: npt.NDArray[np.int32]
    seconds: npt.NDArray[np.int32]
    marks: npt.NDArray[np.int64]


@kernel
def _hash(bid_hi: np.uint64, bid_lo: np.uint64) -> np.int64:
    h = bid_hi * _C1 + bid_lo
    h = (h ^ (h >> _U30)) * _C2
    h = (h ^ (h >> _U27)) * _C3
    return np.int64((h ^ (h >> _U31)) >> np.uint64(1))


@kernel
def _bucket(marks: npt.NDArray[np.int64], bid_hi: np.uint64, bid_lo: np.uint64) -> int:
    h = _hash(bid_hi, bid_lo)
    bucket = h & marks[MASK]
    if bucket < marks[SPLIT]:
        bucket = h & (2 * marks[MASK] + 1)
    return bucket


@kernel
def find(pool: Pool, bid_hi: np.uint64, bid_lo: np.uint64) -> int:
    """Returns the slot of a bid; -1 when it is not known."""
    slot = np.int64(pool.buckets[_bucket(pool.marks, bid_hi, bid_lo)]) - 1
    while slot >= 0:
        row = pool.slots[slot]
        if row["bid_hi"] == bid_hi and row["bid_lo"] == bid_lo:
            break
        slot = np.int64(row["chain"]) - 1
    return slot


@kernel
def _split(pool: Pool) -> None:
    """Adds one bucket, and moves to it what belongs there."""
    marks = pool.marks
    old = marks[SPLIT]
    new = old + marks[MASK] + 1
    mask = 2 * marks[MASK] + 1
    slot = np.int64(pool.buckets[old]) - 1
    kept = np.int64(0)
    moved = np.int64(0)
    while slot >= 0:
        row = pool.slots[slot]
        following = np.int64(row["chain"]) - 1
        if _hash(row["bid_hi"], row["bid_lo"]) & mask == new:
            row["chain"] = moved
            moved = slot + 1
        else:
            row["chain"] = kept
            kept = slot + 1
        slot = following
    pool.buckets[old] = kept
    pool.buckets[new] = moved
    marks[SPLIT] += 1
    if marks[SPLIT] > marks[MASK]:
        marks[MASK] = mask
        marks[SPLIT] = 0


@kernel
def _open(pool: Pool, slot: int) -> None:
    """Puts a bid at the end of the open ones of its second."""
    row = pool.slots[slot]
    second = np.int64(row["deadline_ms"]) >> _BITS
    marks = pool.marks
    if marks[OPEN_COUNT] == 0 or second < marks[SECOND]:
        marks[SECOND] = second
    marks[OPEN_COUNT] += 1
    ends = pool.seconds[second & (SECONDS - 1)]
    row["before"] = ends[1]
    row["after"] = 0
    if ends[1]:
        pool.slots[ends[1] - 1]["after"] = slot + 1
    else:
        ends[0] = slot + 1
    ends[1] = slot + 1


@kernel
def close(pool: Pool, slot: int, state: int) -> None:
    """Gives a known bid another state than OPEN."""
    row = pool.slots[slot]
    if row["state"] == OPEN:
        before, after = np.int64(row["before"]), np.int64(row["after"])
        ends = pool.seconds[(np.int64(row["deadline_ms"]) >> _BITS) & (SECONDS - 1)]
        if before:
            pool.slots[before - 1]["after"] = after
        else:
            ends[0] = after
        if after:
            pool.slots[after - 1]["before"] = before
        else:
            ends[1] = before
        pool.marks[OPEN_COUNT] -= 1
    row["state"] = state


@kernel
def forget(pool: Pool, slot: int) -> None:
    """Frees the slot of a known bid that is not open."""
    row = pool.slots[slot]
    bucket = _bucket(pool.marks, row["bid_hi"], row["bid_lo"])
    at = np.int64(pool.buckets[bucket]) - 1
    if at == slot:
        pool.buckets[bucket] = row["chain"]
    else:
        while np.int64(pool.slots[at]["chain"]) - 1 != slot:
            at = np.int64(pool.slots[at]["chain"]) - 1
        pool.slots[at]["chain"] = row["chain"]
    row["state"] = FREE
    row["chain"] = pool.marks[FREED]
    pool.marks[FREED] = slot + 1
    pool.marks[KNOWN] -= 1


@kernel
def make_room(pool: Pool, now_ms: int) -> int:
    """Forgets what is over among the next few slots; returns why it stopped."""
    marks = pool.marks
    for _ in range(_LOOKED_AT):
        if marks[HAND] >= marks[FRESH]:
            marks[HAND] = 0
            if marks[FRESH] == 0:
                break
        row = pool.slots[marks[HAND]]
        state = row["state"]
        if state >= RELEASED:
            memory_ms = CHARGED_MEMORY_MS if state == CHARGED else RELEASED_MEMORY_MS
            if row["deadline_ms"] < now_ms - memory_ms:
                if row["seen"] & _HAS_ORDERS:
                    return HAS_ORDERS
                forget(pool, marks[HAND])
        marks[HAND] += 1
    return IS_FULL if marks[FREED] == 0 and marks[FRESH] == pool.slots.shape[0] else DONE


@kernel
def add(pool: Pool, event: np.void, state: int, seen: int) -> int:
    """Returns the slot of a new bid; one must be free (``make_room``)."""
    marks = pool.marks
    slot = marks[FREED] - 1
    if slot >= 0:
        marks[FREED] = np.int64(pool.slots[slot]["chain"])
    else:
        slot = marks[FRESH]
        marks[FRESH] += 1
    pool.records[slot] = event
    row = pool.slots[slot]
    row["bid_hi"] = event["bid_hi"]
    row["bid_lo"] = event["bid_lo"]
    row["deadline_ms"] = event["deadline_ms"]
    row["state"] = state
    row["seen"] = seen
    marks[KNOWN] += 1
    if marks[KNOWN] > marks[MASK] + 1 + marks[SPLIT]:
        _split(pool)
    bucket = _bucket(marks, event["bid_hi"], event["bid_lo"])
    row["chain"] = pool.buckets[bucket]
    pool.buckets[bucket] = slot + 1
    if state == OPEN:
        _open(pool, slot)
    return slot


@kernel
def add_all(
    pool: Pool,
    events: npt.NDArray[np.void],
    states: npt.NDArray[np.uint8],
    seen: npt.NDArray[np.uint16],
    now_ms: int,
    progress: npt.NDArray[np.int64],
) -> int:
    """Adds events[N] from ``progress[0]`` on; returns why it stopped there. Last slot: [1]."""
    while progress[0] < events.shape[0]:
        why = make_room(pool, now_ms)
        if why != DONE:
            return why
        i = progress[0]
        progress[1] = add(pool, events[i], states[i], seen[i])
        progress[0] += 1
    return DONE


@kernel
def _next_second(pool: Pool, second: int, last: int) -> int:
    """Returns the next second after ``second`` with an open bid, at most ``last + 1``."""
    found = last + 1
    for place in range(SECONDS):
        slot = np.int64(pool.seconds[place, 0]) - 1
        while slot >= 0:
            own = np.int64(pool.slots[slot]["deadline_ms"]) >> _BITS
            if second < own < found:
                found = own
            slot = np.int64(pool.slots[slot]["after"]) - 1
    return found


@kernel
def due(pool: Pool, now_ms: int, slots: npt.NDArray[np.int64]) -> int:
    """Writes the open bids with a deadline before ``now_ms`` into slots[N]; returns how many.

    By second, and by arrival within one. Fewer than N: these were all. They stay open, so close
    them before the next call.
    """
    marks = pool.marks
    last = now_ms >> _BITS
    count = np.int64(0)
    if marks[OPEN_COUNT] == 0 or marks[SECOND] > last:
        return count
    second = marks[SECOND]
    empty = 0
    while second <= last:
        empty += 1
        slot = np.int64(pool.seconds[second & (SECONDS - 1), 0]) - 1
        while slot >= 0:
            row = pool.slots[slot]
            if np.int64(row["deadline_ms"]) >> _BITS == second:
                empty = 0
                if row["deadline_ms"] < now_ms:
                    if count == slots.shape[0]:
                        return count
                    slots[count] = slot
                    count += 1
            slot = np.int64(row["after"]) - 1
        if empty == SECONDS:
            # Time jumped, by hours at least: the lists say where it goes on.
            second = _next_second(pool, second, last)
            empty = 0
        else:
            second += 1
    marks[SECOND] = last
    return count
