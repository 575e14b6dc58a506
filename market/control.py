"""The control block: the few words that change between two snapshots, in one mapped file.

Every word has one writer, so no lock is needed: aligned eight-byte stores are whole. Who writes
what is said beside each word. Multipliers and active bits are per line item row of the current
snapshot; a worker reads them live, so that a pause stops bids at the next request.
"""

from __future__ import annotations

import enum
import mmap
import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from market.errors import Corrupt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MAGIC = 0x4C4F4445_4354524C  # "LODECTRL"
LINE_ITEM_ROWS_MAX = 131_072
WORKERS_MAX = 64


class Word(enum.IntEnum):
    """Index of a word in the block, with its one writer."""

    MAGIC = 0
    SNAPSHOT_VERSION = 1
    """Controller: the snapshot that workers must serve; 0 = none yet."""
    CLOCK_MS = 2
    """The exchange that drives an episode; 0 = the wall clock is the clock."""
    CLOCK_STEP = 3
    """The exchange: counts its clock steps; others acknowledge this number."""
    RECORDER_STEP = 4
    """Recorder: the last clock step whose notices, expiries and grants are all done."""
    CONTROLLER_STEP = 5
    """Controller: the last clock step it has ticked through."""
    STOP = 6
    """Supervisor: 1 asks every process to finish and leave."""
    RECORDER_READY = 7
    """Recorder: 1 once it answers."""
    CONTROLLER_READY = 8
    """Controller: 1 once the first snapshot is out."""
    INTENT_VERSION = 9
    """Controller: the intent version that the live words and the snapshot reflect."""
    DURABLE_SEQUENCE = 10
    """Recorder: the last frame of the event log that is on disk; 0 = nothing said yet."""
    RECORDER_BEAT_NS = 11
    """Recorder: the machine's monotonic clock at its last turn; 0 = no turn yet."""
    CONTROLLER_BEAT_NS = 12
    """Controller: the same."""
    LIVE_EPOCH = 13
    """Controller: counts changes of the live arrays, stored after them."""
    STORE_SEQUENCE = 14
    """Store: the last frame of the event log whose events can be asked for."""
    STORE_ROWS = 15
    """Store: events that it inserted since it started, repeats included."""
    STORE_CAUGHT_UP_NS = 16
    """Store: the latest time (the machine's monotonic clock) of which is known that all that was
    durable then is done; 0 = never yet."""
    SHIPPER_SEQUENCE = 17
    """Shipper: the last frame of the event log that Kafka acknowledged."""
    SHIPPER_CAUGHT_UP_NS = 18
    """Shipper: as STORE_CAUGHT_UP_NS."""
    KAFKA_LOADER_ROWS = 19
    """Kafka loader: events that it inserted since it started, repeats included."""
    KAFKA_LOADER_QUARANTINED = 20
    """Kafka loader: messages that it could not read since it started."""
    KAFKA_LOADER_CAUGHT_UP_NS = 21
    """Kafka loader: as STORE_CAUGHT_UP_NS, of its partitions."""


class WorkerWord(enum.IntEnum):
    """Index of a word in a worker's own row; the worker is the one writer."""

    PID = 0
    SNAPSHOT_VERSION = 1
    """The snapshot it serves now: an acknowledgement."""
    IS_READY = 2
    REQUEST_COUNT = 3
    BID_COUNT = 4
    CPU_NS = 5
    """CPU time of the process since it became ready."""
    SNAPSHOTS_REFUSED = 6
    RECORDER_BEHIND_COUNT = 7
    """Requests that were refused because the ring had no room for their events."""
    MALFORMED_COUNT = 8


WORKER_WORDS = 16
_HEAD_WORDS = 64


class LiveArrays(NamedTuple):
    """What a policy sets per line item row, [LINE_ITEM_ROWS_MAX] each; the controller writes.

    Attributes:
        pacing_lambda: lambda of the bid formula b = v (1 + mu) / (lambda + mu), > 0.
        ratio_mu: mu of the bid formula, >= 0.
        shading_factor: bid / value in first-price auctions, (0, 1].
        is_active: 1 = may bid.
    """

    pacing_lambda: npt.NDArray[np.float64]
    ratio_mu: npt.NDArray[np.float64]
    shading_factor: npt.NDArray[np.float64]
    is_active: npt.NDArray[np.uint8]


def new_live_arrays() -> LiveArrays:
    """Returns live arrays in process memory: every row bids its value, no row is active."""
    return LiveArrays(
        pacing_lambda=np.ones(LINE_ITEM_ROWS_MAX),
        ratio_mu=np.zeros(LINE_ITEM_ROWS_MAX),
        shading_factor=np.ones(LINE_ITEM_ROWS_MAX),
        is_active=np.zeros(LINE_ITEM_ROWS_MAX, np.uint8),
    )


class ControlBlock:
    """The mapped block: ``words`` and ``workers`` (int64), ``live`` (LiveArrays)."""

    BYTE_COUNT = 8 * (_HEAD_WORDS + WORKERS_MAX * WORKER_WORDS) + LINE_ITEM_ROWS_MAX * (3 * 8 + 1)

    def __init__(self, path: Path) -> None:
        """Maps the block in ``path``.

        Raises:
            Corrupt: the file is missing, of the wrong size, or no control block.
        """
        try:
            with path.open("r+b") as file:
                view = mmap.mmap(file.fileno(), 0)
        except (OSError, ValueError) as error:
            raise Corrupt(f"control block {path.name}: {error}; start `lodestone serve`") from error
        if len(view) != self.BYTE_COUNT:
            raise Corrupt(
                f"control block {path.name}: {len(view)} bytes, must be {self.BYTE_COUNT}; "
                "stop every process of this run, delete the file and start again"
            )
        whole = memoryview(view).cast("q") if len(view) % 8 == 0 else None
        assert whole is not None
        # Plain memoryviews: reading a word through them takes a third of a numpy scalar's time.
        self.words = whole[:_HEAD_WORDS]
        self._workers = whole[_HEAD_WORDS : _HEAD_WORDS + WORKERS_MAX * WORKER_WORDS]
        if self.words[Word.MAGIC] != _MAGIC:
            raise Corrupt(
                f"control block {path.name}: wrong magic; delete the file and start again"
            )
        at = 8 * (_HEAD_WORDS + WORKERS_MAX * WORKER_WORDS)
        n = LINE_ITEM_ROWS_MAX

        def column(index: int) -> npt.NDArray[np.float64]:
            return np.frombuffer(view, np.float64, n, at + index * 8 * n)

        self.live = LiveArrays(
            pacing_lambda=column(0),
            ratio_mu=column(1),
            shading_factor=column(2),
            is_active=np.frombuffer(view, np.uint8, n, at + 3 * 8 * n),
        )

    @classmethod
    def create(cls, path: Path) -> ControlBlock:
        """Creates the file (replacing an old one) and returns it mapped."""
        block = bytearray(cls.BYTE_COUNT)
        block[:8] = _MAGIC.to_bytes(8, "little")
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(block)
        temporary.rename(path)
        created = cls(path)
        for array, value in zip(created.live, new_live_arrays(), strict=True):
            array[:] = value
        return created

    def worker(self, index: int) -> memoryview:
        """Returns the row of int64 words that worker ``index`` writes."""
        assert 0 <= index < WORKERS_MAX
        return self._workers[index * WORKER_WORDS : (index + 1) * WORKER_WORDS]

    def clock(self, wall: Callable[[], int]) -> Callable[[], int]:
        """Returns the clock of this run: the episode's if an exchange drives one, else ``wall``.

        Args:
            wall: epoch milliseconds of the machine.
        """
        words = self.words
        at = int(Word.CLOCK_MS)

        def now_ms() -> int:
            return words[at] or wall()

        return now_ms


class FollowedWords:
    """The words of the block in a path, also after an engine was started anew on it.

    A new engine creates a new file in the place of the old one, whose words stand still for ever:
    a process that no supervisor starts and ends must look which file it reads.
    """

    def __init__(self, path: Path) -> None:
        """Maps the block in ``path``.

        Raises:
            Corrupt: see ``ControlBlock``.
        """
        self._path = path
        self._block = ControlBlock(path)
        self._file = path.stat().st_ino

    def __getitem__(self, word: int) -> int:
        """Returns a word of the block that lies there now."""
        return self._looked_up().words[word]

    def __setitem__(self, word: int, value: int) -> None:
        """Sets a word of ours in the block that lies there now."""
        self._looked_up().words[word] = value

    def _looked_up(self) -> ControlBlock:
        try:
            file = self._path.stat().st_ino
        except FileNotFoundError:
            file = self._file
        if file != self._file:
            self._block, self._file = ControlBlock(self._path), file
        return self._block


def is_alive(pid: int) -> bool:
    """Returns whether there is a process of this id, ours or another's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
