"""A bid worker: one process, one core, one socket shared with the other workers.

    python -m bidder.worker DEPLOYMENT INDEX

It maps the current snapshot, answers bids, hands its events over its own ring, and takes credits
from the recorder over another. It never awaits anything to answer, and holds no framework: a test
looks into a running worker for chdb, pyarrow, fastapi, sqlalchemy and torch. SIGUSR1 writes the
names of all imported modules to ``logs/worker-INDEX.modules`` for it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from bidder.caps import map_cap_slots
from bidder.decide import Decider
from bidder.edge import Edge
from bidder.server import BidHandler
from bidder.service import BidService
from ledger.http import HttpServer
from ledger.ring import Ring
from market.control import ControlBlock, Word, WorkerWord
from market.deployment import Deployment, read_deployment
from market.errors import Corrupt
from market.events import EVENT_DTYPE
from market.exchange import check_profiles
from market.snapshot import Snapshot, read_snapshot, snapshot_path
from market.state import CREDIT_DTYPE

if TYPE_CHECKING:
    from collections.abc import Callable

_HEARTBEAT_S = 0.1
_CREDITS_MAX = 65_536


class Worker:
    """What a worker holds: snapshot, decider, rings, and its row of the control block."""

    def __init__(self, deployment: Deployment, index: int, wall: Callable[[], int]) -> None:
        """Maps everything; serves nothing until the first snapshot is there.

        Raises:
            Corrupt: a mapped file is missing or damaged.
        """
        self._deployment = deployment
        self._index = index
        self._block = ControlBlock(deployment.control_path)
        self._words = self._block.words
        self._row = self._block.worker(index)
        self._now_ms = self._block.clock(wall)
        self._events = Ring(deployment.ring_folder / f"events-{index}.ring", EVENT_DTYPE)
        self._credits = Ring(deployment.ring_folder / f"credits-{index}.ring", CREDIT_DTYPE)
        self._cap_slots = map_cap_slots(
            deployment.ring_folder / "caps.bin", deployment.worker_count
        )
        self._decider: Decider | None = None
        self._service: BidService | None = None
        self._version = 0
        self._refused_version = 0
        self._ready_cpu_ns = 0
        self.handler = BidHandler(
            check_profiles(deployment.exchanges), self._now_ms, time.monotonic_ns, self.refresh
        )
        self._row[WorkerWord.IS_READY] = 0
        self._row[WorkerWord.SNAPSHOT_VERSION] = 0
        self._row[WorkerWord.PID] = os.getpid()

    def refresh(self) -> None:
        """Takes in a new snapshot and pending credits; a few loads when there is neither."""
        version = self._words[Word.SNAPSHOT_VERSION]
        if version not in (self._version, self._refused_version):
            self._take_snapshot(version)
        if self._decider is not None and self._credits.pending_count():
            self._decider.credit(self._credits.drain(_CREDITS_MAX), self._now_ms())

    def _take_snapshot(self, version: int) -> None:
        """Serves snapshot ``version`` from now on; a damaged one is refused and counted."""
        try:
            snapshot = read_snapshot(snapshot_path(self._deployment.snapshot_folder, version))
        except Corrupt as error:
            self._refused_version = version
            self._row[WorkerWord.SNAPSHOTS_REFUSED] += 1
            print(error, file=sys.stderr, flush=True)  # noqa: T201 - one line for the operator
            return
        if self._service is None:
            self._start_service(snapshot)
        else:
            self._service.swap(snapshot)
        self._version = version
        self._row[WorkerWord.SNAPSHOT_VERSION] = version

    def _start_service(self, snapshot: Snapshot) -> None:
        deployment = self._deployment
        self._decider = Decider(
            snapshot,
            self._block.live,
            worker=self._index,
            cap_slots=self._cap_slots,
            no_bid_sample_rate=deployment.no_bid_sample_rate,
        )
        self._decider.warm_up()
        self._service = self.handler.service = BidService(
            self._decider,
            Edge(bytes.fromhex(deployment.user_salt_hex)),
            self._events,
            deployment.base_url,
            bytes.fromhex(deployment.notice_key_hex),
        )
        # Everything made so far lives as long as the process, and a request makes no cycles.
        gc.collect()
        gc.freeze()
        gc.disable()
        self._ready_cpu_ns = time.process_time_ns()
        self._row[WorkerWord.IS_READY] = 1

    def report(self) -> None:
        """Writes the worker's counters into its row of the control block."""
        row = self._row
        row[WorkerWord.CPU_NS] = time.process_time_ns() - self._ready_cpu_ns
        row[WorkerWord.REQUEST_COUNT] = self.handler.request_count
        if self._service is not None:
            row[WorkerWord.BID_COUNT] = self._service.bid_count
            row[WorkerWord.MALFORMED_COUNT] = self._service.malformed_count

    def write_modules(self) -> None:
        """Writes the names of all imported modules, for the test that looks for frameworks."""
        path = self._deployment.log_folder / f"worker-{self._index}.modules"
        temporary = path.with_suffix(".tmp")
        temporary.write_text("\n".join(sorted(sys.modules)), encoding="utf-8")
        temporary.rename(path)

    @property
    def is_stopping(self) -> bool:
        """Whether the supervisor asked every process to leave."""
        return self._words[Word.STOP] != 0


async def _serve(worker: Worker, deployment: Deployment) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGUSR1, worker.write_modules)
    server = HttpServer(
        worker.handler,
        time.monotonic_ns,
        max(profile.body_bytes_max for profile in deployment.exchanges),
    )
    await server.listen(deployment.host, deployment.bid_port, is_shared=True)

    def beat() -> None:
        worker.refresh()
        worker.report()
        if worker.is_stopping:
            stopped.set()
        loop.call_later(_HEARTBEAT_S, beat)

    beat()
    await stopped.wait()
    server.close()
    worker.report()


def main(deployment_path: str, index: int) -> int:
    """Runs a worker until SIGTERM, SIGINT or the stop word; returns the exit code."""
    try:
        deployment = read_deployment(Path(deployment_path))
        worker = Worker(deployment, index, lambda: time.time_ns() // 1_000_000)
    except Corrupt as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(worker, deployment))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
