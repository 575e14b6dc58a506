"""Starts the processes of one engine, watches them, and ends them.

Embedded default, one machine: recorder, store, controller, N bid workers, control plane, each a
process of its own in its own session, so that a Ctrl-C reaches only the supervisor, which then ends
the others in order. When the supervisor itself is killed they all die with it
(``campaigns.lifeline``).

A part that dies is started again, and the others go on meanwhile: workers bid from the leases and
the snapshot that they hold. What ends the engine: a part that finds a file of the run damaged, one
other than a worker that dies more than RESTARTS_MAX times within RESTART_WINDOW_S, and in an
episode any loss but a worker's, because a run with a gap cannot be repeated.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from bidder.caps import create_cap_file
from bidder.metrics import create_metrics_file
from campaigns.lifeline import tied
from market.control import ControlBlock, Word, WorkerWord
from market.deployment import Deployment, write_deployment
from market.errors import Corrupt, NotReady

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedWriter
    from pathlib import Path

STOP_S_MAX = 1.9
"""Within this time after a stop every process has left, or is killed."""

WORKER_STOP_S_MAX = 0.5
"""The workers' part of it: they go first, so that the recorder can take their last events."""

RESTARTS_MAX = 3
RESTART_WINDOW_S = 60.0

WORKER_PACE_S = 1.0
"""A worker that dies at once is started again no sooner than this after its last start."""

_EXIT_CORRUPT = 2
_POLL_S = 0.02


class Endpoints(msgspec.Struct, frozen=True):
    """What ``lodestone serve --json`` prints first."""

    bid_url: str
    notice_url: str
    api_url: str
    console_url: str
    api_key_file: str
    folder: str


def endpoints_of(deployment: Deployment) -> Endpoints:
    """Returns the addresses at which this engine answers."""
    host = deployment.host
    return Endpoints(
        bid_url=f"http://{host}:{deployment.bid_port}/bid/default",
        notice_url=f"http://{host}:{deployment.notice_port}/n/",
        api_url=f"http://{host}:{deployment.control_port}/api/v1",
        console_url=f"http://{host}:{deployment.control_port}/",
        api_key_file=str(deployment.root / "api_key"),
        folder=deployment.folder,
    )


def new_deployment(
    folder: Path, *, worker_count: int, is_episode: bool = False, seed: int = 1, tick_ms: int
) -> Deployment:
    """Returns a deployment on free loopback ports with fresh secrets; nothing is written yet."""
    bid_port, notice_port, control_port = _free_ports(3)
    return Deployment(
        folder=str(folder.resolve()),
        worker_count=worker_count,
        bid_port=bid_port,
        notice_port=notice_port,
        control_port=control_port,
        base_url=f"http://127.0.0.1:{notice_port}",
        notice_key_hex=secrets.token_hex(32),
        user_salt_hex=secrets.token_hex(16),
        seed=seed,
        is_episode=is_episode,
        tick_ms=tick_ms,
    )


class Supervisor:
    """The processes of one deployment.

    Attributes:
        deployment: what runs.
        block: its control block.
    """

    def __init__(self, deployment: Deployment) -> None:
        """Lays out the run folder: control block, cap counters, deployment file.

        The recorder makes the rings, because it has to know whether one was lost.

        Raises:
            NotReady: another engine runs in the folder.
        """
        self.deployment = deployment
        deployment.root.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(deployment.root)
        for folder in (
            deployment.snapshot_folder, deployment.segment_folder,
            deployment.ring_folder, deployment.store_folder, deployment.asset_folder,
            deployment.log_folder,
        ):  # fmt: skip
            folder.mkdir(parents=True, exist_ok=True)
        self.block = ControlBlock.create(deployment.control_path)
        now_ms = time.time_ns() // 1_000_000
        create_cap_file(deployment.ring_folder / "caps.bin", deployment.worker_count, now_ms=now_ms)
        create_metrics_file(deployment.metrics_path, deployment)
        self._deployment_path = write_deployment(deployment)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, tuple[str, ...]] = {}
        self._started_s: dict[str, list[float]] = {}

    def start(self, said: Callable[[str], None] = lambda _: None) -> None:
        """Starts everything in order; returns when each part answers.

        In an episode the workers become ready only at the exchange's first clock step, because
        there is no snapshot before; they are started but not waited for.

        Raises:
            NotReady: a process left or did not answer in time; the message has its last words.
            Corrupt: it left because a file of the run is damaged.
        """
        words = self.block.words
        control_address = socket.AF_INET, (self.deployment.host, self.deployment.control_port)
        store_address = str(self.deployment.store_socket)
        self._launch("recorder", "ledger.recorder")
        self._launch("store", "ledger.store")
        self._launch("control plane", "campaigns.server")
        said("recorder")
        self._wait("recorder", lambda: words[Word.RECORDER_READY] == 1)
        said("control plane")
        self._wait("control plane", lambda: _answers(*control_address))
        said("store")
        self._wait("store", lambda: _answers(socket.AF_UNIX, store_address))
        self._launch("controller", "policies.controller")
        for worker in range(self.deployment.worker_count):
            self._launch_worker(worker)
        if self.deployment.is_episode:
            return
        said("controller")
        self._wait("controller", lambda: words[Word.CONTROLLER_READY] == 1)
        said("bid workers")
        for worker in range(self.deployment.worker_count):
            row = self.block.worker(worker)
            self._wait(_worker_name(worker), lambda row=row: row[WorkerWord.IS_READY] == 1)

    def watch(self) -> None:
        """Looks once after every process; one that crashed is started again.

        Raises:
            NotReady: one that is no worker has left too often.
            Corrupt: one has left because a file of the run is damaged.
        """
        now_s = time.monotonic()
        for name, process in list(self._processes.items()):
            code = process.poll()
            if code is None:
                continue
            is_worker = name.startswith("worker ")
            if code == _EXIT_CORRUPT or not (is_worker or self._may_start_again(name, now_s)):
                raise self._loss(name, code)
            if is_worker:
                self.block.worker(int(name.split()[1]))[WorkerWord.IS_READY] = 0
                if now_s - self._started_s[name][-1] < WORKER_PACE_S:
                    continue
            self._launch(name, *self._commands[name])

    def _may_start_again(self, name: str, now_s: float) -> bool:
        if self.deployment.is_episode:
            return False
        starts = [at_s for at_s in self._started_s[name] if at_s > now_s - RESTART_WINDOW_S]
        # The first start of all is none again.
        is_first_among = starts[:1] == self._started_s[name][:1]
        return len(starts) - is_first_among < RESTARTS_MAX

    def process_id(self, name: str) -> int:
        """Returns the process id of a part, such as ``recorder`` or ``worker 0``."""
        return self._processes[name].pid

    def stop(self) -> dict[str, int]:
        """Ends every process within STOP_S_MAX seconds; returns exit codes (-9: was killed).

        Workers leave first, so that the recorder can take their last events. May be called again.
        """
        begun = time.monotonic()
        names = list(self._processes)
        workers = [name for name in names if name.startswith("worker ")]
        codes = self._end(workers, begun + WORKER_STOP_S_MAX)
        self.block.words[Word.STOP] = 1
        codes |= self._end([name for name in names if name not in workers], begun + STOP_S_MAX)
        self._lock.close()
        return codes

    def _end(self, names: list[str], deadline: float) -> dict[str, int]:
        for name in names:
            if self._processes[name].poll() is None:
                self._processes[name].send_signal(signal.SIGTERM)
        codes: dict[str, int] = {}
        for name in names:
            process = self._processes[name]
            try:
                codes[name] = process.wait(timeout=max(deadline - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
            del self._processes[name]
        return codes

    def _launch_worker(self, worker: int) -> None:
        self._launch(_worker_name(worker), "bidder.worker", str(worker))

    def _launch(self, name: str, module: str, *arguments: str) -> None:
        self._commands[name] = (module, *arguments)
        self._started_s.setdefault(name, []).append(time.monotonic())
        log = self._log_path(name)
        with log.open("ab") as file:
            self._processes[name] = subprocess.Popen(  # noqa: S603 - our own module
                tied([sys.executable, "-m", module, str(self._deployment_path), *arguments]),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                env=_environment(),
            )

    def _wait(self, name: str, is_done: Callable[[], bool], timeout_s: float = 120.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_done():
            code = self._processes[name].poll()
            if code is not None:
                raise self._loss(name, code)
            if time.monotonic() > deadline:
                raise NotReady(
                    f"{name} did not answer within {timeout_s:.0f} s: {self._tail(name)}"
                )
            time.sleep(_POLL_S)

    def _loss(self, name: str, code: int) -> NotReady | Corrupt:
        """Returns what to raise of a process that has left: who, how, and its last words."""
        if code == _EXIT_CORRUPT:
            return Corrupt(f"{name} stopped: {self._tail(name)}")
        how = f"was ended by signal {-code}" if code < 0 else f"left with code {code}"
        return NotReady(f"{name} {how}: {self._tail(name)}")

    def _log_path(self, name: str) -> Path:
        return self.deployment.log_folder / f"{name.replace(' ', '-')}.log"

    def _tail(self, name: str) -> str:
        lines = self._log_path(name).read_text(errors="replace").strip().splitlines()
        return lines[-1].removeprefix(f"{name}: ") if lines else "it said nothing"


def lock_folder(folder: Path) -> BufferedWriter:
    """Returns the open lock of a run folder: while it is open no other engine runs there.

    Raises:
        NotReady: another engine holds it.
    """
    file = (folder / "engine.lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise NotReady(f"run folder '{folder}': another engine runs in it; end it first") from error
    return file


def _worker_name(worker: int) -> str:
    return f"worker {worker}"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _answers(family: socket.AddressFamily, address: tuple[str, int] | str) -> bool:
    with socket.socket(family) as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(address) == 0


def _environment() -> dict[str, str]:
    """One BLAS thread per process: more only fight for the cores that bid."""
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
