"""A worker's log: one JSON object a line; what happened to the worker, never who asked for what.

A line says what changed (a snapshot taken, load shed, a process fallen silent), not what was
answered: requests are counted (``bidder.metrics``), so none leaves a line. Fields and their types
are fixed here, and none of them can hold what a request said: no user, no address, no consent
string. Of one event at most one line a second is written, with how many were left out.

structlog writes the lines, with a logger of the worker's own: nothing global is configured.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TextIO

    from structlog.typing import FilteringBoundLogger


@contextlib.contextmanager
def _without(module: str) -> Generator[None]:
    """Makes ``import module`` fail meanwhile, unless it is imported already.

    Source: Python Language Reference 5.3.1: ``sys.modules[name] = None`` stops an import.
    """
    if module in sys.modules:
        yield
        return
    modules = cast("dict[str, Any]", sys.modules)
    modules[module] = None
    try:
        yield
    finally:
        del modules[module]


# structlog takes rich for its coloured console if it finds it: 40 modules that no worker prints by.
with _without("rich"):
    import structlog

Event: TypeAlias = Literal[
    "ready", "snapshot", "snapshot_refused", "shedding", "shedding_over", "silent", "heard_again",
    "out_of_money", "money_again", "leaving",
]  # fmt: skip

LINE_S_MIN: Final = 1.0


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
        self._logger: FilteringBoundLogger = structlog.wrap_logger(
            structlog.WriteLogger(stream),
            processors=[structlog.processors.JSONRenderer(sort_keys=True)],
            wrapper_class=structlog.make_filtering_bound_logger("info"),
            worker=worker,
        )
        self._now_ms = now_ms
        self._clock_ns = clock_ns
        self._next_ns: dict[Event, int] = {}
        self._left_out: dict[Event, int] = {}

    def is_due(self, event: Event) -> bool:
        """Returns whether a line of this event would be written now.

        Who has to tell a state, and not every step to it, asks first and tells what is then so.
        """
        return self._clock_ns() >= self._next_ns.get(event, 0)

    def say(
        self,
        event: Event,
        *,
        version: int = 0,
        process: Literal["", "recorder", "controller"] = "",
        share: int = 0,
        requests: int = 0,
        error: str = "",
    ) -> None:
        """Writes one line, unless one of the same event was written within the last second.

        Args:
            event: what happened.
            version: of a snapshot.
            process: that fell silent, or was heard again.
            share: of the requests that is refused, per cent.
            requests: answered so far.
            error: why a file was refused; it names the file and the rule.
        """
        if not self.is_due(event):
            self._left_out[event] = self._left_out.get(event, 0) + 1
            return
        self._next_ns[event] = self._clock_ns() + int(LINE_S_MIN * 1e9)
        fields = {
            "left_out": self._left_out.pop(event, 0), "version": version, "process": process,
            "share": share, "requests": requests, "error": error,
        }  # fmt: skip
        said = {name: value for name, value in fields.items() if value}
        self._logger.info(event, at_ms=self._now_ms(), **said)
