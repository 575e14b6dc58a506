"""The log as the recorder's core sees it: frames go in, and are durable after a commit."""

from __future__ import annotations

from typing import Protocol


class Log(Protocol):
    """Where frames go: ``ledger.segment.SegmentWriter``, or a ``MemoryLog``."""

    def append(self, kind: int, body: bytes) -> int:
        """Returns the sequence that the frame will have; NotReady when no more may wait."""
        ...

    def commit(self) -> int:
        """Returns the last durable sequence; NotReady when the disk refuses."""
        ...


class MemoryLog:
    """A log for the twin in process: durable at once, kept only where asked.

    Attributes:
        frames: (kind, body) of every frame, if kept.
    """

    def __init__(self, *, is_kept: bool = False) -> None:
        """Starts empty."""
        self.frames: list[tuple[int, bytes]] = []
        self._is_kept = is_kept
        self._sequence = 0

    def append(self, kind: int, body: bytes) -> int:
        """See ``Log``."""
        self._sequence += 1
        if self._is_kept:
            self.frames.append((kind, body))
        return self._sequence

    def commit(self) -> int:
        """See ``Log``."""
        return self._sequence
