"""The ring: how events reach the recorder and credits reach a worker, through one mapped file.

One producer, one consumer, records of one dtype. The producer writes a record and then moves
``head``; the consumer copies records and then moves ``tail``. Each word has one writer and is
stored whole (aligned, eight bytes), so there is no lock, and either side may be killed and started
again: what was pushed and not released is still there. This relies on stores being seen in the
order in which they were made, as x86-64 promises.

What it deliberately does not do: it never drops or overwrites a record (a full ring says so and the
producer decides), and it does not survive a power cut (``was_made_since_boot`` tells).

File, little-endian: magic, record size, capacity, code of the boot (int64 each); ``head`` at byte
64, ``tail`` at 128, so that the two sides do not share a cache line; records from byte 192.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from market.chance import code_of
from market.errors import Corrupt

_MAGIC: Final = 0x4C4F4445_52494E47  # "LODERING"
_DATA_AT: Final = 192
_RECORD_BYTES, _CAPACITY, _BOOT, _HEAD, _TAIL = 1, 2, 3, 8, 16
_CURE: Final = "stop every process of this run, delete the file and start again"


class Ring:
    """A mapped ring. Use one side of it per process: produce, or consume.

    Positions count records since the ring was created and never wrap; a record's place is its
    position modulo the capacity.
    """

    def __init__(self, path: Path, dtype: np.dtype[np.void]) -> None:
        """Maps the ring in ``path``, made of records of ``dtype``.

        Raises:
            Corrupt: the file is missing, damaged, or a ring of other records.
        """
        try:
            with path.open("r+b") as file:
                view = mmap.mmap(file.fileno(), 0)
        except (OSError, ValueError) as error:
            raise Corrupt(f"ring {path.name}: {error}; {_CURE}") from error
        if len(view) < _DATA_AT or len(view) % 8:
            raise Corrupt(f"ring {path.name}: {len(view)} bytes are no ring; {_CURE}")
        words = memoryview(view).cast("q")
        record_bytes, capacity = words[_RECORD_BYTES], words[_CAPACITY]
        if words[0] != _MAGIC or record_bytes != dtype.itemsize:
            raise Corrupt(
                f"ring {path.name}: magic {words[0]:#x}, records of {record_bytes} bytes; this "
                f"build has {_MAGIC:#x} and {dtype.itemsize} bytes; {_CURE}"
            )
        if capacity < 1 or len(view) != _byte_count(record_bytes, capacity):
            raise Corrupt(
                f"ring {path.name}: {len(view)} bytes cannot hold {capacity} records of "
                f"{record_bytes} bytes; {_CURE}"
            )
        self.capacity: Final = capacity
        """Records that fit."""
        self._path = path
        self._words = words
        self._dtype = dtype
        self._record_bytes = record_bytes
        self._records: npt.NDArray[np.void] = np.frombuffer(view, dtype, capacity, _DATA_AT)
        # The same as bytes: numpy copies a record with fields field by field, which takes 10 us.
        self._bytes = memoryview(view)[_DATA_AT : _DATA_AT + capacity * record_bytes]
        self._head = words[_HEAD]
        self._tail = words[_TAIL]
        self._check(self._head, self._tail)
        # The consumer's place: read up to here, released up to the tail word.
        self._cursor = self._tail

    @classmethod
    def create(cls, path: Path, dtype: np.dtype[np.void], capacity: int) -> Ring:
        """Creates an empty ring, replacing any old one at once, and returns it mapped."""
        assert capacity >= 1
        body = bytearray(_byte_count(dtype.itemsize, capacity))
        words = memoryview(body).cast("q")
        words[0] = _MAGIC
        words[_RECORD_BYTES] = dtype.itemsize
        words[_CAPACITY] = capacity
        words[_BOOT] = _boot_code()
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(body)
        temporary.rename(path)
        return cls(path, dtype)

    @property
    def was_made_since_boot(self) -> bool:
        """Whether the machine has run ever since: then nothing that was pushed is missing."""
        return self._words[_BOOT] == _boot_code() != 0

    @property
    def head(self) -> int:
        """Position of the next record to be pushed."""
        return self._words[_HEAD]

    @property
    def tail(self) -> int:
        """Position of the first record that is not released yet."""
        return self._words[_TAIL]

    # The producer's side.

    def free_count(self) -> int:
        """Returns how many records can be pushed right now."""
        self._tail = self._words[_TAIL]
        return self.capacity - (self._head - self._tail)

    def push(self, records: npt.NDArray[np.void]) -> bool:
        """Appends all of ``records`` ([N], or one) or none; False when there is no room."""
        count = records.size
        if count > self.capacity - (self._head - self._tail) and count > self.free_count():
            return False
        width = self._record_bytes
        body = records.tobytes()
        at = self._head % self.capacity
        first = min(count, self.capacity - at)
        self._bytes[at * width : (at + first) * width] = body[: first * width]
        if first < count:
            self._bytes[: (count - first) * width] = body[first * width :]
        self._head += count
        self._words[_HEAD] = self._head
        return True

    def push_raw(self, record: memoryview) -> bool:
        """Appends one record, given as its bytes; False when there is no room.

        For the bid path: a record through numpy costs three times as much.
        """
        head = self._head
        if head - self._tail >= self.capacity and self.free_count() == 0:
            return False
        at = head % self.capacity * self._record_bytes
        self._bytes[at : at + self._record_bytes] = record
        self._head = self._words[_HEAD] = head + 1
        return True

    def slot(self) -> npt.NDArray[np.void] | None:
        """Returns the next record as a writable view [1], to be filled in place; None when full.

        It holds what an older record left there. Nothing is pushed before ``commit``.
        """
        if self._head - self._tail >= self.capacity and self.free_count() == 0:
            return None
        at = self._head % self.capacity
        return self._records[at : at + 1]

    def commit(self) -> None:
        """Pushes the record that ``slot`` returned."""
        assert self._head - self._tail < self.capacity, "commit without a slot"
        self._head += 1
        self._words[_HEAD] = self._head

    # The consumer's side.

    def pending_count(self) -> int:
        """Returns how many records were pushed and not yet read."""
        return self._words[_HEAD] - self._cursor

    def read(self, count_max: int) -> npt.NDArray[np.void]:
        """Returns a copy of the next records, at most so many; they stay until ``release``.

        Raises:
            Corrupt: the words in the file cannot be those of a ring.
        """
        head = self._words[_HEAD]
        self._check(head, self._cursor)
        count = min(head - self._cursor, count_max)
        at = self._cursor % self.capacity
        first = min(count, self.capacity - at)
        width = self._record_bytes
        taken = bytearray(self._bytes[at * width : (at + first) * width])
        if first < count:
            taken += self._bytes[: (count - first) * width]
        self._cursor += count
        return np.frombuffer(taken, self._dtype)

    def release(self) -> None:
        """Gives the room of everything read so far back to the producer."""
        self._words[_TAIL] = self._cursor

    def drain(self, count_max: int) -> npt.NDArray[np.void]:
        """Returns a copy of the next records, at most so many, and gives their room back."""
        taken = self.read(count_max)
        self.release()
        return taken

    def _check(self, head: int, tail: int) -> None:
        if not 0 <= tail <= head <= tail + self.capacity:
            raise Corrupt(
                f"ring {self._path.name}: head {head} and tail {tail} of {self.capacity} records "
                f"cannot be; {_CURE}"
            )


def _byte_count(record_bytes: int, capacity: int) -> int:
    return -(-(_DATA_AT + record_bytes * capacity) // 8) * 8


def _boot_code() -> int:
    """Returns a number that changes with every start of the machine; 0 = it cannot be known."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except FileNotFoundError:
        return 0
    return code_of(text) >> 1
