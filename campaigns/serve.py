"""``lodestone serve``: the engine on this machine, until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

from campaigns.supervisor import Supervisor, endpoints_of, new_deployment
from market.deployment import Deployment, read_deployment

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

TICK_MS = 60_000
"""On the wall clock policies tick every minute."""


def run_serve(folder: Path, *, workers: int, as_json: bool) -> None:
    """Runs the engine in ``folder`` (a new run, or one that goes on) until Ctrl-C or SIGTERM.

    With ``as_json`` the first line is one JSON object with the addresses, printed once everything
    answers.

    Raises:
        NotReady: a process did not come up, or left.
        Corrupt: the folder's earlier run is damaged.
    """
    console = Console(stderr=as_json, highlight=False)
    supervisor = Supervisor(_deployment(folder, workers))
    signal.signal(signal.SIGTERM, interrupt)
    try:
        with console.status("starting") as status:
            supervisor.start(lambda part: status.update(f"starting {part}"))
        endpoints = endpoints_of(supervisor.deployment)
        if as_json:
            sys.stdout.write(msgspec.json.encode(endpoints).decode() + "\n")
            sys.stdout.flush()
        else:
            for name, value in msgspec.structs.asdict(endpoints).items():
                console.print(f"{name:<14} {value}")
            console.print("Ctrl-C ends it")
        while True:
            supervisor.watch()
            time.sleep(0.2)
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        end(supervisor)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Takes SIGTERM as a Ctrl-C: processes of their own sessions would outlive a plain exit.

    Raises:
        KeyboardInterrupt: always.
    """
    del number, frame
    raise KeyboardInterrupt


def end(supervisor: Supervisor) -> None:
    """Ends the engine; a second Ctrl-C does not leave half of it running."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    supervisor.stop()


def _deployment(folder: Path, workers: int) -> Deployment:
    """An earlier run in the folder goes on with its ports and secrets: notices must stay valid."""
    path = folder / "deployment.json"
    if path.exists():
        # A demo's run goes on by the wall clock: no exchange drives its episode any more.
        return msgspec.structs.replace(
            read_deployment(path), worker_count=workers, is_episode=False, tick_ms=TICK_MS
        )
    return new_deployment(folder, worker_count=workers, tick_ms=TICK_MS)
