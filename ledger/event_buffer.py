"""What the next commit makes durable: events and messages, in the order in which they came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ledger.event_bytes import EVENT_BYTES
from ledger.frame import BODY_BYTES_MAX, CONTROL, RECORDS
from ledger.lease import encode_message
from ledger.log import MemoryLog

if TYPE_CHECKING:
    from ledger.lease import LeaseMessage
    from ledger.log import Log

_BUFFER_BYTES_MAX: Final = 8 << 20
_BODY_BYTES: Final = BODY_BYTES_MAX // EVENT_BYTES * EVENT_BYTES


class EventBuffer:
    """Events on their way to a log.

    Attributes:
        log: where they go.
        pending_count: events that the next commit will make durable.
    """

    def __init__(self) -> None:
        """Starts empty, and forgets what it is given until it has a log."""
        self.log: Log = MemoryLog()
        self.pending_count = 0
        self._events: list[bytes | bytearray] = []
        self._bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether more bids may be taken; not while too much waits for a log that stands still."""
        return self._bytes < _BUFFER_BYTES_MAX

    def write(self, events: bytes | bytearray) -> None:
        """Takes records; they must not change any more."""
        self._events.append(events)
        self._bytes += len(events)
        self.pending_count += len(events) // EVENT_BYTES

    def say(self, message: LeaseMessage) -> None:
        """Takes a message, after all events before it.

        Raises:
            NotReady: too much waits for the log.
        """
        self.flush()
        self.log.append(CONTROL, encode_message(message))

    def flush(self) -> None:
        """Gives the events to the log.

        Raises:
            NotReady: too much waits for the log.
        """
        if not self._events:
            return
        body = b"".join(self._events)
        for at in range(0, len(body), _BODY_BYTES):
            self.log.append(RECORDS, body[at : at + _BODY_BYTES])
        self._events.clear()
        self._bytes = 0

    def commit(self) -> int:
        """Makes everything durable; returns the last frame of the log.

        Raises:
            NotReady: the log cannot be written; what waits is kept for the next try.
        """
        self.flush()
        sequence = self.log.commit()
        self.pending_count = 0
        return sequence
