"""Reservations: every bid that the owner of the budgets still knows, and what became of it.

A bid's event is kept whole, so that its notices can copy who and what it was. It lives in a slot of
one pool of bytes; a slot number is valid until the bid is forgotten. What a bid costs is none of
this file's business: ``ledger.budget`` moves the money.
"""

from __future__ import annotations

import enum
import heapq
from array import array
from typing import Final, NamedTuple

import msgspec
import numpy as np

from ledger.event_bytes import EVENT_BYTES, event_fields
from market.events import EVENT_DTYPE, SCHEMA_VERSION, EventFlag, EventKind, read_events

CHARGED_MEMORY_MS: Final = 7 * 86_400_000
"""How long after its deadline a charged bid is known: as long as a charging notice is taken."""

RELEASED_MEMORY_MS: Final = 300_000
"""The same for a bid that was not charged. A win that comes later is settled from its token.

A known bid takes about half a kilobyte, so what is open, and this, decide the recorder's memory:
2,000 bids a second with a window of five minutes are 600 MB.
"""

IS_BID: Final = 1 << EventKind.BID
"""In ``seen``: the bid's own event is known, not only a notice of it."""

_BUCKET_BITS: Final = 10
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
_KEY: Final = event_fields("bid_hi", "bid_lo")

_FREE, _OPEN, _CHARGED = (
    int(ReservationState.FREE),
    int(ReservationState.OPEN),
    int(ReservationState.CHARGED),
)


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


def bid_key(bid_hi: int, bid_lo: int) -> int:
    """Returns the 128-bit bid id as one number."""
    return bid_hi << 64 | bid_lo


class Reservations:
    """The bids that are known, by slot.

    Attributes:
        state: [slots] of ``ReservationState``.
        seen: [slots], bit k set: an event of kind k was recorded for the bid.
        orders: by slot, codes of the orders of its conversions.
    """

    def __init__(self, capacity: int = 4_096) -> None:
        """Starts empty, with room for ``capacity`` bids; it grows as needed."""
        self.state = bytearray(capacity)
        self.seen = array("H", bytes(2 * capacity))
        self.orders: dict[int, set[int]] = {}
        self._deadlines = array("q", bytes(8 * capacity))
        self._records = bytearray(capacity * EVENT_BYTES)
        self._slots: dict[int, int] = {}
        self._free = list(range(capacity - 1, -1, -1))
        # Slots by deadline, in buckets of about a second, and the buckets in order of time.
        self._due: dict[int, list[int]] = {}
        self._buckets: list[int] = []

    def __len__(self) -> int:
        """How many bids are known."""
        return len(self._slots)

    def find(self, key: int) -> int | None:
        """Returns the slot of the bid with this ``bid_key``; None when it is not known."""
        return self._slots.get(key)

    def add(
        self,
        key: int,
        event: bytes | bytearray | memoryview,
        deadline_ms: int,
        state: int,
        now_ms: int,
    ) -> int:
        """Returns the slot of a new bid.

        Args:
            key: its ``bid_key``; it must not be known.
            event: its record of EVENT_DTYPE.
            deadline_ms: of its reservation.
            state: a ``ReservationState``.
            now_ms: bids whose memory is over by then make room before the pool grows.
        """
        if not self._free:
            self._make_room(now_ms)
        slot = self._free.pop()
        self._slots[key] = slot
        at = slot * EVENT_BYTES
        self._records[at : at + EVENT_BYTES] = event
        self._deadlines[slot] = deadline_ms
        self.state[slot] = state
        self.seen[slot] = 0
        if state == _OPEN:
            bucket = deadline_ms >> _BUCKET_BITS
            slots = self._due.get(bucket)
            if slots is None:
                self._due[bucket] = [slot]
                heapq.heappush(self._buckets, bucket)
            else:
                slots.append(slot)
        return slot

    def event(self, slot: int) -> bytearray:
        """Returns a copy of the bid's record."""
        at = slot * EVENT_BYTES
        return self._records[at : at + EVENT_BYTES]

    def reservation(self, slot: int) -> Reservation:
        """Returns what a notice needs to know of the bid."""
        return reservation_of(self._records, slot * EVENT_BYTES)

    def deadline_ms(self, slot: int) -> int:
        """Returns until when a notice settles on time."""
        return self._deadlines[slot]

    def pop_due(self, now_ms: int) -> list[int]:
        """Returns the open bids whose deadline is before ``now_ms``, in order of arrival by second.

        They are not handed out again, so the caller must release them.
        """
        due: list[int] = []
        while self._buckets and self._buckets[0] <= now_ms >> _BUCKET_BITS:
            bucket = self._buckets[0]
            left: list[int] = []
            for slot in self._due[bucket]:
                # A slot may have been given to another bid since: then its deadline is another.
                deadline_ms = self._deadlines[slot]
                if self.state[slot] != _OPEN or deadline_ms >> _BUCKET_BITS != bucket:
                    continue
                (due if deadline_ms < now_ms else left).append(slot)
            if left:
                self._due[bucket] = left
                break
            del self._due[bucket]
            heapq.heappop(self._buckets)
        return due

    def state_of_all(self) -> BidsState:
        """Returns every known bid, in order of slots."""
        slots = sorted(self._slots.values())
        return BidsState(
            schema_version=SCHEMA_VERSION,
            records=b"".join(self.event(slot) for slot in slots),
            states=bytes(self.state[slot] for slot in slots),
            seen=np.array([self.seen[slot] for slot in slots], "<u2").tobytes(),
            orders={
                index: sorted(self.orders[slot])
                for index, slot in enumerate(slots)
                if slot in self.orders
            },
        )

    def restore(self, saved: BidsState) -> None:
        """Adds the bids that ``state_of_all`` returned.

        Raises:
            Corrupt: they are of a version that this build cannot read.
        """
        events = read_events(saved.records, saved.schema_version)
        body = events.tobytes()
        seen: list[int] = np.frombuffer(saved.seen, "<u2").tolist()
        for i, (hi, lo, deadline_ms) in enumerate(
            zip(*(events[name].tolist() for name in ("bid_hi", "bid_lo", "deadline_ms")),
                strict=True)
        ):  # fmt: skip
            event = body[i * EVENT_BYTES : (i + 1) * EVENT_BYTES]
            # Nothing is forgotten here: what is over by now is asked at the next ``add``.
            slot = self.add(bid_key(hi, lo), event, deadline_ms, saved.states[i], _NEVER_MS)
            self.seen[slot] = seen[i]
            if i in saved.orders:
                self.orders[slot] = set(saved.orders[i])

    def _make_room(self, now_ms: int) -> None:
        """Forgets bids whose memory is over; doubles the pool where that is not much."""
        state = np.frombuffer(self.state, np.uint8)
        memory_ms = np.where(state == _CHARGED, CHARGED_MEMORY_MS, RELEASED_MEMORY_MS)
        over = np.frombuffer(self._deadlines, np.int64) + memory_ms < now_ms
        forgotten: list[int] = np.flatnonzero(over & (state != _OPEN)).tolist()
        del state, over
        for slot in forgotten:
            hi, lo = _KEY.unpack_from(self._records, slot * EVENT_BYTES)
            del self._slots[bid_key(hi, lo)]
            self.state[slot] = _FREE
            self.orders.pop(slot, None)
        self._free.extend(reversed(forgotten))
        capacity = len(self.state)
        if len(self._free) <= capacity // 4:
            self._free.extend(range(2 * capacity - 1, capacity - 1, -1))
            self.state.extend(bytes(capacity))
            self.seen.frombytes(bytes(2 * capacity))
            self._deadlines.frombytes(bytes(8 * capacity))
            self._records.extend(bytes(capacity * EVENT_BYTES))


def reservation_of(event: bytes | bytearray | memoryview, at: int = 0) -> Reservation:
    """Returns what a notice needs to know of the bid whose record starts at ``event[at:]``."""
    return Reservation._make(_FIELDS.unpack_from(event, at))


assert EVENT_DTYPE["budgets"].shape == EVENT_DTYPE["caps"].shape == (3,)
