"""How the engine is: what the processes say of themselves in the control block.

It only looks. Whether a worker's process still lives is asked of the operating system, because a
process that died cannot take back what it wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from market.control import WORKERS_MAX, ControlBlock, Word, WorkerWord, is_alive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class WorkerHealth(msgspec.Struct, frozen=True):
    """One bid worker.

    Attributes:
        index: its number, from 0.
        pid: of its process.
        is_alive: the process exists.
        is_ready: it answers bids, by its own word.
        snapshot_version: what it serves now.
        request_count, bid_count: since it became ready.
        cpu_ns: CPU time since then.
        snapshots_refused: damaged snapshots that it did not take over.
        recorder_behind_count: requests refused because the ring had no room for their events.
        malformed_count: requests that were no OpenRTB.
    """

    index: int
    pid: int
    is_alive: bool
    is_ready: bool
    snapshot_version: int
    request_count: int
    bid_count: int
    cpu_ns: int
    snapshots_refused: int
    recorder_behind_count: int
    malformed_count: int


class EngineHealth(msgspec.Struct, frozen=True):
    """The engine as a whole.

    Attributes:
        clock_ms: epoch milliseconds of the episode's clock, 0 when the wall clock is the clock.
        recorder_is_ready: it answers notices, by its own word.
        controller_is_ready: the first snapshot is out.
        snapshot_version: what workers are to serve.
        intent_version_published: the newest intent.
        intent_version_in_force: the intent that snapshot and pauses reflect.
        workers: those that have ever started, by index.
    """

    clock_ms: int
    recorder_is_ready: bool
    controller_is_ready: bool
    snapshot_version: int
    intent_version_published: int
    intent_version_in_force: int
    workers: tuple[WorkerHealth, ...]


class EngineWatch:
    """Reads the control block of a run; never writes it."""

    def __init__(self, control_path: Path) -> None:
        """Maps the block.

        Raises:
            Corrupt: it is missing or damaged.
        """
        self._block = ControlBlock(control_path)

    @property
    def is_stopping(self) -> bool:
        """Whether the supervisor asked every process to leave."""
        return self._block.words[Word.STOP] != 0

    def clock(self, wall: Callable[[], int]) -> Callable[[], int]:
        """Returns the clock of the run (``ControlBlock.clock``)."""
        return self._block.clock(wall)

    def health(self, intent_version_published: int) -> EngineHealth:
        """Returns how the engine is at this moment."""
        words = self._block.words
        rows = ((index, self._block.worker(index)) for index in range(WORKERS_MAX))
        return EngineHealth(
            clock_ms=words[Word.CLOCK_MS],
            recorder_is_ready=words[Word.RECORDER_READY] == 1,
            controller_is_ready=words[Word.CONTROLLER_READY] == 1,
            snapshot_version=words[Word.SNAPSHOT_VERSION],
            intent_version_published=intent_version_published,
            intent_version_in_force=words[Word.INTENT_VERSION],
            workers=tuple(_worker(index, row) for index, row in rows if row[WorkerWord.PID]),
        )


def _worker(index: int, row: memoryview) -> WorkerHealth:
    pid = row[WorkerWord.PID]
    return WorkerHealth(
        index=index,
        pid=pid,
        is_alive=is_alive(pid),
        is_ready=row[WorkerWord.IS_READY] == 1,
        snapshot_version=row[WorkerWord.SNAPSHOT_VERSION],
        request_count=row[WorkerWord.REQUEST_COUNT],
        bid_count=row[WorkerWord.BID_COUNT],
        cpu_ns=row[WorkerWord.CPU_NS],
        snapshots_refused=row[WorkerWord.SNAPSHOTS_REFUSED],
        recorder_behind_count=row[WorkerWord.RECORDER_BEHIND_COUNT],
        malformed_count=row[WorkerWord.MALFORMED_COUNT],
    )
