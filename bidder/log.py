"""A worker's log: one JSON object a line; what happened to the worker, never who asked for what.

A line says what changed (a snapshot taken, load shed, a process fallen silent), not what was
answered: requests are counted (``bidder.metrics``), so none leaves a line. Fields and their types
are fixed here, and none of them can hold what a request said: no user, no address, no consent
string. Of one event at most one line a second is written, with how many were left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

Event: TypeAlias = Literal[
    "ready", "snapshot", "snapshot_refused", "shedding", "shedding_over", "silent", "heard_again",
    "out_of_money", "money_again", "leaving",
]  # fmt: skip

LINE_S_MIN: Final = 1.0


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line.

    Attributes:
        at_ms: the run's clock.
        event: what happened.
        worker: index of the worker.
        left_out: lines of this event that were not written since its last one.
        version: of a snapshot.
        process: recorder or controller.
        share: of the requests that is refused, per cent.
        requests: answered so far.
        error: why a file was refused; it names the file and the rule.
    """

    at_ms: int
    event: Event
    worker: int
    left_out: int = 0
    version: int = 0
    process: str = ""
    share: int = 0
    requests: int = 0
    error: str = ""


class WorkerLog:
    """Writes the lines of one worker."""

    def __init__(
        self,
        stream: TextIO,
        worker: int,
        now_ms: Callable[[], int],
        clock_ns: Callable[[], int],
    ) -> None:
        """Takes where to write, the run's clock for the lines, a monotonic one for their pace."""
        self._stream = stream
        self._worker = worker
        self._now_ms = now_ms
        self._clock_ns = clock_ns
        self._next_ns: dict[Event, int] = {}
        self._left_out: dict[Event, int] = {}

    def say(
        self,
        event: Event,
        *,
        version: int = 0,
        process: Literal["", "recorder", "controller"] = "",
        share: int = 0,
        requests: int = 0,
        error: str = "",
    ) -> bool:
        """Writes one line, unless one of the same event was written within the last second.

        Returns whether it was written: what has to be told in the end is said again later.
        """
        now_ns = self._clock_ns()
        if now_ns < self._next_ns.get(event, 0):
            self._left_out[event] = self._left_out.get(event, 0) + 1
            return False
        self._next_ns[event] = now_ns + int(LINE_S_MIN * 1e9)
        line = Line(
            self._now_ms(), event, self._worker, self._left_out.pop(event, 0), version, process,
            share, requests, error,
        )  # fmt: skip
        self._stream.write(msgspec.json.encode(line).decode() + "\n")
        self._stream.flush()
        return True
