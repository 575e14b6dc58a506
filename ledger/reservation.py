"""Reservations: every bid that the owner of the budgets still knows, and what became of it.

A bid's event is kept whole, so that its notices can copy who and what it was. It lives in a slot of
one pool of bytes; a slot number is valid until the bid is forgotten. What a bid costs is none of
this file's business: ``ledger.budget`` moves the money.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np

from ledger.event_bytes import EVENT_BYTES, event_fields
from ledger.growing import GrowingArray
from ledger.kernels_reservation import (
    BUCKETS_MIN,
    CHARGED_MEMORY_MS,
    HAND,
    HAS_ORDERS,
    IS_FULL,
    KNOWN,
    MARK_COUNT,
    MASK,
    RELEASED_MEMORY_MS,
    SECONDS,
    SLOT_DTYPE,
    Pool,
    add_all,
    close,
    due,
    find,
    forget,
)
from market.events import EVENT_DTYPE, SCHEMA_VERSION, EventFlag, EventKind, read_events
from market.kernel import SameTypes

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["CHARGED_MEMORY_MS", "RELEASED_MEMORY_MS", "Pool"]

IS_BID: Final = 1 << EventKind.BID
"""In ``seen``: the bid's own event is known, not only a notice of it."""

_UINT64_MAX: Final = 2**64 - 1
_NEVER_MS: Final = -(2**62)
_TEST: Final = int(EventFlag.TEST)


class ReservationState(enum.IntEnum):
    """What became of a bid's reservation."""

    FREE = 0
    """No bid is in this slot."""
    OPEN = 1
    """Reserved: a notice may still charge it on time."""
    RELEASED = 2
    """Given back (lost, expired), or never backed by a lease: a win is paid as a late one."""
    CHARGED = 3
    """Settled, for good."""


class Reservation(NamedTuple):
    """What a notice needs to know of its bid; money in account currency."""

    bid_ms: int
    deadline_ms: int
    reserved_micros: int
    line_item_id: int
    creative_id: int
    exchange: int
    worker: int
    flags: int
    format: int
    pctr: float
    pcvr: float
    budget_1: int
    budget_2: int
    budget_3: int
    cap_1: int
    cap_2: int
    cap_3: int
    rate_micros: int
    quantity_micros: int

    @property
    def budgets(self) -> list[int]:
        """Ids of the budgets it draws on."""
        return [key for key in (self.budget_1, self.budget_2, self.budget_3) if key]

    @property
    def caps(self) -> list[int]:
        """Keys of the frequency counters it counts in."""
        return [key for key in (self.cap_1, self.cap_2, self.cap_3) if key]

    @property
    def is_test(self) -> bool:
        """Whether nothing is ever charged for it."""
        return bool(self.flags & _TEST)


_FIELDS: Final = event_fields(
    "bid_ms", "deadline_ms", "amount_micros", "line_item_id", "creative_id", "exchange", "worker",
    "flags", "format", "pctr", "pcvr", "budgets", "caps", "rate_micros", "quantity_micros",
)  # fmt: skip


class BidsState(msgspec.Struct, frozen=True):
    """Every known bid, as a checkpoint keeps it.

    Attributes:
        schema_version: of the records.
        records: [N] of the bids' events.
        states: [N] uint8 of ``ReservationState``.
        seen: [N] uint16, see ``Reservations``.
        orders: by index, codes of the orders of a bid's conversions.
    """

    schema_version: int
    records: bytes
    states: bytes
    seen: bytes
    orders: dict[int, list[int]]


_find = SameTypes(find)
_close = SameTypes(close)
_add_events = SameTypes(add_all)


def bid_key(bid_hi: int, bid_lo: int) -> int:
    """Returns the 128-bit bid id as one number."""
    return bid_hi << 64 | bid_lo


class Reservations:
    """The bids that are known, by slot.

    Attributes:
        state: [slots] of ``ReservationState``; ``close`` changes it.
        seen: [slots], bit k set: an event of kind k was recorded for the bid.
        orders: by slot, codes of the orders of its conversions; ``seen`` says that there are some.
    """

    state: memoryview
    seen: memoryview

    def __init__(self, capacity: int = 4_096) -> None:
        """Starts empty, with room for ``capacity`` bids; it grows as needed."""
        self.orders: dict[int, set[int]] = {}
        self._records = GrowingArray(EVENT_DTYPE)
        self._slots = GrowingArray(SLOT_DTYPE)
        self._buckets = GrowingArray(np.dtype(np.int32))
        self._seconds = np.zeros((SECONDS, 2), np.int32)
        self._marks = np.zeros(MARK_COUNT, np.int64)
        self._marks[MASK] = BUCKETS_MIN - 1
        self._cells = self._marks.data
        self._progress = np.zeros(2, np.int64)
        self._grow(capacity)

    def __len__(self) -> int:
        """How many bids are known."""
        return self._cells[KNOWN]

    def items(self) -> list[tuple[int, int]]:
        """Returns (bid key, slot) of every known bid."""
        slots = self.pool.slots
        known = np.flatnonzero(slots["state"])
        keys = zip(slots["bid_hi"][known].tolist(), slots["bid_lo"][known].tolist(), strict=True)
        return [
            (bid_key(hi, lo), slot) for (hi, lo), slot in zip(keys, known.tolist(), strict=True)
        ]

    def find(self, key: int) -> int | None:
        """Returns the slot of the bid with this ``bid_key``; None when it is not known."""
        slot = int(_find(self.pool, np.uint64(key >> 64), np.uint64(key & _UINT64_MAX)))
        return slot if slot >= 0 else None

    def add(self, event: bytes | bytearray | memoryview, state: int, now_ms: int) -> int:
        """Returns the slot of a new bid.

        Args:
            event: its record of EVENT_DTYPE; it must not be known.
            state: a ``ReservationState``.
            now_ms: bids whose memory is over by then are forgotten, some with every new bid.
        """
        events = np.frombuffer(bytearray(event), EVENT_DTYPE)
        self._add_all(events, np.full(1, state, np.uint8), np.zeros(1, np.uint16), now_ms)
        return int(self._progress[1])

    def go_on(self, why: int) -> None:
        """Does what a kernel stopped for, IS_FULL or HAS_ORDERS; call it again."""
        if why == IS_FULL:
            self._grow(2 * len(self.state))
        else:
            assert why == HAS_ORDERS, why
            self.forget(self._cells[HAND])

    def forget(self, slot: int) -> None:
        """Frees the slot of a bid that is not open."""
        self.orders.pop(slot, None)
        forget(self.pool, slot)

    def is_over(self, slot: int, now_ms: int) -> bool:
        """Whether the bid may be forgotten by ``now_ms``: its memory is over."""
        state = self.state[slot]
        memory_ms = CHARGED_MEMORY_MS if state == ReservationState.CHARGED else RELEASED_MEMORY_MS
        deadline_ms = int(self.pool.slots["deadline_ms"][slot])
        return state >= ReservationState.RELEASED and deadline_ms < now_ms - memory_ms

    def close(self, slot: int, state: ReservationState) -> None:
        """Gives a known bid a state that is not OPEN."""
        _close(self.pool, slot, int(state))

    def event(self, slot: int) -> bytearray:
        """Returns a copy of the bid's record."""
        at = slot * EVENT_BYTES
        return bytearray(self._records.bytes[at : at + EVENT_BYTES])

    def reservation(self, slot: int) -> Reservation:
        """Returns what a notice needs to know of the bid."""
        return reservation_of(self._records.bytes, slot * EVENT_BYTES)

    def due(self, now_ms: int, count_max: int) -> npt.NDArray[np.int64]:
        """Returns slots of open bids whose deadline is before ``now_ms``, at most so many.

        In order of deadlines by second, then of arrival. Close them before asking again.
        """
        slots = np.empty(count_max, np.int64)
        return slots[: due(self.pool, now_ms, slots)]

    def state_of_all(self) -> BidsState:
        """Returns every known bid, in order of slots."""
        slots = self.pool.slots
        known = np.flatnonzero(slots["state"])
        indices = {slot: index for index, slot in enumerate(known.tolist()) if slot in self.orders}
        # As bytes: numpy copies a record with fields field by field.
        rows = np.frombuffer(self._records.bytes, f"V{EVENT_BYTES}")
        return BidsState(
            schema_version=SCHEMA_VERSION,
            records=rows[known].tobytes(),
            states=slots["state"][known].tobytes(),
            seen=slots["seen"][known].astype("<u2").tobytes(),
            orders={index: sorted(self.orders[slot]) for slot, index in indices.items()},
        )

    def restore(self, saved: BidsState) -> None:
        """Adds the bids that ``state_of_all`` returned to a pool that has none.

        Raises:
            Corrupt: they are of a version that this build cannot read.
        """
        assert len(self) == 0
        events = np.frombuffer(
            bytearray(read_events(saved.records, saved.schema_version).tobytes()), EVENT_DTYPE
        )
        # Nothing is forgotten here, and so slots are numbered from 0 on.
        self._add_all(
            events,
            np.frombuffer(bytearray(saved.states), np.uint8),
            np.frombuffer(bytearray(saved.seen), np.uint16),
            _NEVER_MS,
        )
        self.orders = {slot: set(codes) for slot, codes in saved.orders.items()}

    def _add_all(
        self,
        events: npt.NDArray[np.void],
        states: npt.NDArray[np.uint8],
        seen: npt.NDArray[np.uint16],
        now_ms: int,
    ) -> None:
        self._progress[0] = 0
        while why := _add_events(self.pool, events, states, seen, now_ms, self._progress):
            self.go_on(why)

    def _grow(self, capacity: int) -> None:
        # Views keep an array where it is.
        self.__dict__.pop("pool", None)
        self.__dict__.pop("state", None)
        self.__dict__.pop("seen", None)
        for array in (self._records, self._slots):
            array.grow(capacity)
        self._buckets.grow(max(capacity, BUCKETS_MIN) + 1)
        self.pool = Pool(
            self._records.array, self._slots.array, self._buckets.array, self._seconds, self._marks
        )
        self.state = self.pool.slots["state"].data
        self.seen = self.pool.slots["seen"].data


def reservation_of(event: bytes | bytearray | memoryview, at: int = 0) -> Reservation:
    """Returns what a notice needs to know of the bid whose record starts at ``event[at:]``."""
    return Reservation._make(_FIELDS.unpack_from(event, at))


assert EVENT_DTYPE["budgets"].shape == EVENT_DTYPE["caps"].shape == (3,)
