"""A process that follows the log, or a topic, until it is told to stop; what all of them share."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from market.deployment import read_deployment
from market.errors import Corrupt, LodestoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from market.deployment import Deployment

_LOOK_S: Final = 0.05


class Complaint:
    """What a process lacks, said once for as long as it lasts."""

    def __init__(self, name: str) -> None:
        """Lacks nothing yet."""
        self._name = name
        self._text = ""

    def say(self, text: str) -> None:
        """Says ``text`` unless it was the last that was said."""
        if text != self._text:
            self._text = text
            _say(self._name, text)

    def is_over(self) -> None:
        """Takes note that nothing is lacking now."""
        self._text = ""


async def until_stopped(
    work: Coroutine[object, object, None], is_told_to_stop: Callable[[], bool]
) -> None:
    """Runs ``work`` until SIGTERM, SIGINT or ``is_told_to_stop``; an error of it is raised."""
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    working = asyncio.create_task(work)
    waiting = asyncio.create_task(stopping.wait())
    try:
        while not (stopping.is_set() or is_told_to_stop() or working.done()):
            await asyncio.wait({working, waiting}, timeout=_LOOK_S)
        if working.done():
            working.result()
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)


def run_follower(
    name: str,
    run: Callable[[Deployment], Coroutine[object, object, None]],
    arguments: list[str],
) -> int:
    """Runs a process on the deployment whose path is given.

    Returns the exit code: 2 for damage that an operator must look at, 1 for other errors.
    """
    if len(arguments) != 1:
        _say(name, "give it the path of deployment.json")
        return 2
    try:
        asyncio.run(run(read_deployment(Path(arguments[0]))))
    except LodestoneError as error:
        _say(name, str(error))
        return 2 if isinstance(error, Corrupt) else 1
    return 0


def _say(name: str, line: str) -> None:
    sys.stderr.write(f"{name}: {line}\n")
    sys.stderr.flush()
