"""The servers that the serving bench compares: our workers, FastAPI's echo, nginx.

A worker runs as it ships, in its own process with its real rings, snapshot and cap file; the bench
stands in for the recorder, which drains its events.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import uvloop

from bench.load import Load, drive, drive_at
from bidder.candidates import Compilation, allocate_rows, compile_snapshot
from bidder.caps import create_cap_file
from bidder.metrics import create_metrics_file, map_metrics
from bidder.recommendation.network import read_artefact
from ledger.ring import Ring
from market.control import ControlBlock, Word, WorkerWord
from market.deployment import Deployment, write_deployment
from market.events import EVENT_DTYPE
from market.snapshot import snapshot_path, write_snapshot
from market.state import CREDIT_DTYPE, CreditKind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import numpy.typing as npt

    from market.campaign import Campaign
    from market.snapshot import Snapshot

_RING_RECORDS = 65_536
_GRANT_MICROS = 10**13


class Server(NamedTuple):
    """A running server: its processes (the first answers), its port, and the path to post to."""

    pids: list[int]
    port: int
    path: str


def pin(pid: int, core: int) -> None:
    """Keeps every thread of a process on one core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def closed_loop(server: Server, bodies: list[bytes], connections: int) -> Load:
    """Sends every body once; each connection waits for its answer."""
    return uvloop.run(drive(server.pids, server.port, server.path, bodies, connections))


class Workers:
    """Running bid workers, with the bench in the place of their recorder."""

    def __init__(self, pids: list[int], deployment: Deployment) -> None:
        self.server = Server(pids, deployment.bid_port, "/bid/default")
        self._rings = [
            Ring(deployment.ring_folder / f"events-{n}.ring", EVENT_DTYPE) for n in range(len(pids))
        ]
        self._rows = map_metrics(deployment.metrics_path, deployment)

    def stages(self) -> npt.NDArray[np.float64]:
        """Returns, by ``Stage``, (nanoseconds, requests timed) since the workers started."""
        rows = self._rows
        counts = rows["stage_counts"].sum(axis=(0, 2))
        return np.stack([rows["stage_ns"].sum(axis=0), counts], axis=1).astype(np.float64)

    def closed_loop(self, bodies: list[bytes], connections: int) -> Load:
        """As ``closed_loop`` of the module, while events are drained."""
        server = self.server
        return uvloop.run(
            self._drained(drive(server.pids, server.port, server.path, bodies, connections))
        )

    def open_loop(self, bodies: list[bytes], connections: int, per_second: float) -> Load:
        """Sends at a fixed rate; latency counts from the time a request was due."""
        server = self.server
        return uvloop.run(
            self._drained(
                drive_at(server.pids, server.port, server.path, bodies, connections, per_second)
            )
        )

    async def _drained(self, load: asyncio.Future[Load] | object) -> Load:
        drain = asyncio.create_task(self._drain())
        try:
            return await load  # pyright: ignore[reportGeneralTypeIssues] a coroutine of Load
        finally:
            drain.cancel()

    async def _drain(self) -> None:
        while True:
            for ring in self._rings:
                ring.drain(_RING_RECORDS)
            await asyncio.sleep(0.02)


def compiled(campaigns: tuple[Campaign, ...], now_ms: int) -> Snapshot:
    """Returns the snapshot of a bench's campaigns with the model that ships."""
    return compile_snapshot(
        campaigns, read_artefact(),
        Compilation(
            version=1, policy_version=1, intent_version=1, now_ms=now_ms, seed=1,
            rates_micros=Deployment(
                folder="", bid_port=1, notice_port=2, control_port=3, base_url="",
                notice_key_hex="", user_salt_hex="",
            ).rates_micros,
            default_seat="lodestone", rows=allocate_rows({}, campaigns),
        ),
    )  # fmt: skip


@contextlib.contextmanager
def workers(folder: Path, snapshot: Snapshot, cores: Sequence[int]) -> Generator[Workers]:
    """Runs one worker a core on a snapshot, with every budget full and every line item active."""
    deployment = Deployment(
        folder=str(folder), bid_port=free_port(), notice_port=1, control_port=2,
        base_url="https://notices.bench.example", notice_key_hex="00" * 32,
        user_salt_hex=bytes(16).hex(), worker_count=len(cores),
    )  # fmt: skip
    for path in (
        deployment.ring_folder, deployment.snapshot_folder, deployment.log_folder,
    ):  # fmt: skip
        path.mkdir(parents=True, exist_ok=True)
    block = ControlBlock.create(deployment.control_path)
    create_cap_file(deployment.ring_folder / "caps.bin", len(cores))
    create_metrics_file(deployment.metrics_path, deployment)
    write_snapshot(snapshot_path(deployment.snapshot_folder, 1), snapshot)
    block.live.is_active[: snapshot.arrays.line_items.shape[0]] = 1
    block.words[Word.SNAPSHOT_VERSION] = 1
    grants = np.array(
        [(b["budget_id"], _GRANT_MICROS, CreditKind.BUDGET) for b in snapshot.arrays.budgets],
        CREDIT_DTYPE,
    )
    for n in range(len(cores)):
        Ring.create(deployment.ring_folder / f"events-{n}.ring", EVENT_DTYPE, _RING_RECORDS)
        Ring.create(
            deployment.ring_folder / f"credits-{n}.ring", CREDIT_DTYPE, len(grants) + 1
        ).push(grants)
    path = str(write_deployment(deployment))
    processes = [
        subprocess.Popen([sys.executable, "-m", "bidder.worker", path, str(n)])
        for n in range(len(cores))
    ]
    try:
        for n, process in enumerate(processes):
            _wait(lambda n=n: block.worker(n)[WorkerWord.IS_READY] == 1, process)
            pin(process.pid, cores[n])
        yield Workers([process.pid for process in processes], deployment)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


@contextlib.contextmanager
def fastapi_echo(core: int) -> Generator[Server]:
    """Runs the baseline: FastAPI on uvicorn, uvloop and httptools, which echoes the raw body."""
    port = free_port()
    arguments = [
        sys.executable, "-m", "uvicorn", "bench.fastapi_echo:app", "--port", str(port),
        "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
    ]  # fmt: skip
    with _running(arguments, port, core) as pids:
        yield Server(pids, port, "/echo")


@contextlib.contextmanager
def fixed_answer(core: int) -> Generator[Server]:
    """Runs our transport and our reader with one fixed bid as the answer: no decision."""
    port = free_port()
    with _running([sys.executable, "-m", "bench.fixed_answer", str(port)], port, core) as pids:
        yield Server(pids, port, "/bid/default")


@contextlib.contextmanager
def nginx(folder: Path, core: int) -> Generator[Server | None]:
    """Runs nginx with a static answer of a bid's size; None where it is not installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        yield None
        return
    port = free_port()
    configuration = folder / "nginx.conf"
    answer = "x" * 1_200
    configuration.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        "events { worker_connections 256; }\n"
        "http { access_log off; keepalive_requests 1000000000; server { "
        f"listen 127.0.0.1:{port}; location / {{ return 200 '{answer}'; }} }} }}\n"
    )
    with _running([program, "-c", str(configuration), "-p", str(folder)], port, core) as pids:
        yield Server(pids, port, "/")


@contextlib.contextmanager
def _running(arguments: list[str], port: int, core: int) -> Generator[list[int]]:
    process = subprocess.Popen(arguments)
    try:
        _wait(lambda: _answers(port), process)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        pids = [process.pid, *map(int, children)]
        for pid in pids:
            pin(pid, core)
        yield pids
    finally:
        process.terminate()
        process.wait()


def _wait(
    is_done: Callable[[], bool], process: subprocess.Popen[bytes], timeout_s: float = 300.0
) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_done():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"a server of the bench did not start: {process.args}")
        time.sleep(0.05)


def free_port() -> int:
    """Returns a port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
