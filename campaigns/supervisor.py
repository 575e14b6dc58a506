"""Starts the processes of one engine, watches them, and ends them.

Embedded default, one machine: recorder, store, controller, N bid workers, control plane, each a
process of its own in its own session, so that a Ctrl-C reaches only the supervisor, which then ends
the others in order. A bid worker that dies is started again; any other loss ends the engine,
because bidding without its ledger or controller would only run down the leases.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bidder.caps import create_cap_file
from ledger.ring import Ring
from market.control import ControlBlock, Word, WorkerWord
from market.deployment import Deployment, write_deployment
from market.errors import NotReady
from market.events import EVENT_DTYPE
from market.state import CREDIT_DTYPE

if TYPE_CHECKING:
    from collections.abc import Callable

EVENT_RING_RECORDS = 16_384
CREDIT_RING_RECORDS = 65_536
STOP_S_MAX = 2.0
"""Within this time after a stop every process has left, or is killed."""

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
        """Lays out the run folder: control block, rings, deployment file."""
        self.deployment = deployment
        for folder in (
            deployment.root, deployment.snapshot_folder, deployment.segment_folder,
            deployment.ring_folder, deployment.store_folder, deployment.asset_folder,
            deployment.log_folder,
        ):  # fmt: skip
            folder.mkdir(parents=True, exist_ok=True)
        self.block = ControlBlock.create(deployment.control_path)
        for worker in range(deployment.worker_count):
            _ring(deployment.ring_folder / f"events-{worker}.ring", EVENT_DTYPE, EVENT_RING_RECORDS)
            _ring(
                deployment.ring_folder / f"credits-{worker}.ring", CREDIT_DTYPE, CREDIT_RING_RECORDS
            )
        create_cap_file(deployment.ring_folder / "caps.bin", deployment.worker_count)
        self._deployment_path = write_deployment(deployment)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, said: Callable[[str], None] = lambda _: None) -> None:
        """Starts everything in order; returns when each part answers.

        In an episode the workers become ready only at the exchange's first clock step, because
        there is no snapshot before; they are started but not waited for.

        Raises:
            NotReady: a process left or did not answer in time; the message has its last words.
        """
        words = self.block.words
        self._launch("recorder", "ledger.recorder")
        self._launch("store", "ledger.store")
        self._launch("control plane", "campaigns.server")
        said("recorder")
        self._wait("recorder", lambda: words[Word.RECORDER_READY] == 1)
        said("control plane")
        self._wait("control plane", lambda: _answers(self.deployment.control_port))
        said("store")
        self._wait("store", self.deployment.store_socket.exists)
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
        """Looks once after every process; a dead worker is started again.

        Raises:
            NotReady: another process has left.
        """
        for name, process in list(self._processes.items()):
            if process.poll() is None:
                continue
            if name.startswith("worker "):
                worker = int(name.split()[1])
                self.block.worker(worker)[WorkerWord.IS_READY] = 0
                self._launch_worker(worker)
            else:
                raise NotReady(f"{name} left with code {process.returncode}: {self._tail(name)}")

    def process_id(self, name: str) -> int:
        """Returns the process id of a part, such as ``recorder`` or ``worker 0``."""
        return self._processes[name].pid

    def stop(self) -> dict[str, int]:
        """Ends every process within STOP_S_MAX seconds; returns exit codes (-9: was killed).

        Workers leave first, so that the recorder can drain their last events.
        """
        self.block.words[Word.STOP] = 1
        deadline = time.monotonic() + STOP_S_MAX
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        codes: dict[str, int] = {}
        for name, process in self._processes.items():
            try:
                codes[name] = process.wait(timeout=max(deadline - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        self._processes.clear()
        return codes

    def _launch_worker(self, worker: int) -> None:
        self._launch(_worker_name(worker), "bidder.worker", str(worker))

    def _launch(self, name: str, module: str, *arguments: str) -> None:
        log = self._log_path(name)
        with log.open("ab") as file:
            self._processes[name] = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", module, str(self._deployment_path), *arguments],
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
                raise NotReady(f"{name} left with code {code} at start: {self._tail(name)}")
            if time.monotonic() > deadline:
                raise NotReady(f"{name} did not answer within {timeout_s:.0f} s: {self._tail(name)}")
            time.sleep(_POLL_S)

    def _log_path(self, name: str) -> Path:
        return self.deployment.log_folder / f"{name.replace(' ', '-')}.log"

    def _tail(self, name: str) -> str:
        lines = self._log_path(name).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _worker_name(worker: int) -> str:
    return f"worker {worker}"


def _ring(path: Path, dtype: object, capacity: int) -> None:
    """Creates a ring unless the run already has it: what a crash left in it must be drained."""
    if not path.exists():
        Ring.create(path, dtype, capacity)  # pyright: ignore[reportArgumentType]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _environment() -> dict[str, str]:
    """One BLAS thread per process: more only fight for the cores that bid."""
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
