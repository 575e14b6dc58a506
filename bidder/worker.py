"""A bid worker: one process, one core, one socket shared with the other workers.

    python -m bidder.worker DEPLOYMENT INDEX

It maps the current snapshot, answers bids, hands its events over its own ring, and takes credits
from the recorder over another. It never awaits anything to answer, and holds no framework: a test
looks into a running worker for chdb, pyarrow, fastapi, sqlalchemy and torch. SIGUSR1 writes the
names of all imported modules to ``logs/worker-INDEX.modules`` for it.

It needs no other process to answer. When recorder or controller fall silent it bids on, from the
leases and the snapshot that it holds, until those run out; its log and ``/metrics`` say since when.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import uvloop

from bidder.caps import map_cap_slots
from bidder.decide import Decider
from bidder.edge import Edge
from bidder.log import WorkerLog
from bidder.metrics import Gauge, WorkerMetrics, map_metrics, silences
from bidder.metrics_page import Counted, families
from bidder.native.engine import Engine
from bidder.native.reader import Reader
from bidder.native.renderer import Renderer
from bidder.server import HEAD, BidHandler
from bidder.service import BidService
from bidder.shedding import TICK_MS, Shedder, worth_of
from bidder.supply_chain import read_supply
from ledger.exposition import MetricsPage
from ledger.http import HttpServer
from ledger.ring import Ring
from market.control import ControlBlock, Word, WorkerWord
from market.decision import NoBidReason
from market.deployment import Deployment, read_deployment
from market.errors import BadInput, Corrupt, LodestoneError
from market.events import EVENT_DTYPE
from market.exchange import check_profiles
from market.snapshot import Snapshot, read_snapshot, snapshot_path
from market.state import CREDIT_DTYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Metric

SILENT_S = 3.0
"""A recorder or controller that gave no sign for so long is told in the log."""

_HEARTBEAT_S = 0.1
_ROLL_BEATS = 10
"""Heartbeats between two looks at what the stages took and what each exchange is worth."""
_CREDITS_MAX = 65_536


class Worker:
    """What a worker holds: snapshot, decider, rings, and its rows of the shared files."""

    def __init__(
        self,
        deployment: Deployment,
        index: int,
        wall: Callable[[], int],
        clock_ns: Callable[[], int],
    ) -> None:
        """Maps everything; serves nothing until the first snapshot is there.

        Args:
            deployment: of the run.
            index: of this worker, from 0.
            wall: epoch milliseconds of the machine.
            clock_ns: its monotonic clock.

        Raises:
            BadInput: an exchange's profile or a file of the supply folder breaks a rule.
            Corrupt: a mapped file is missing or damaged.
        """
        self._deployment = deployment
        self._index = index
        self._clock_ns = clock_ns
        self._block = ControlBlock(deployment.control_path)
        self._words = self._block.words
        self._row = self._block.worker(index)
        self._now_ms = self._block.clock(wall)
        self._events = Ring(deployment.ring_folder / f"events-{index}.ring", EVENT_DTYPE)
        self._credits = Ring(deployment.ring_folder / f"credits-{index}.ring", CREDIT_DTYPE)
        self._cap_slots = map_cap_slots(
            deployment.ring_folder / "caps.bin", deployment.worker_count
        )
        self._metrics_rows = map_metrics(deployment.metrics_path, deployment)
        self._metrics = WorkerMetrics(self._metrics_rows[index], deployment.exchanges)
        self.shedder = Shedder(
            deployment.exchanges, deployment.worker_count, is_on=not deployment.is_episode
        )
        self._log = WorkerLog(sys.stderr, index, self._now_ms, clock_ns)
        self._decider: Decider | None = None
        self._service: BidService | None = None
        self._engine: Engine | None = None
        self._version = self._told_version = 0
        self._refused_version = 0
        self._ready_cpu_ns = 0
        self._beats = 0
        self._silent: set[str] = set()
        self._was_shedding = self._was_broke = False
        folder = deployment.supply_folder
        self._supply = read_supply(Path(folder) if folder else None)
        self.handler = BidHandler(
            check_profiles(deployment.exchanges), self._now_ms, clock_ns, self.refresh,
            self.shedder, self._metrics, MetricsPage(self._families, clock_ns).answer,
        )  # fmt: skip
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
            self._log.say("snapshot_refused", version=version, error=str(error))
            return
        if self._service is None:
            self._start_service(snapshot)
        else:
            self._service.swap(snapshot)
            if self._engine is not None:
                self._engine.swap(snapshot)
        self._version = version
        self._row[WorkerWord.SNAPSHOT_VERSION] = version
        self._tell_snapshot()

    def _start_service(self, snapshot: Snapshot) -> None:
        """Compiles (or loads) every kernel, then says that it is ready."""
        deployment = self._deployment
        decider = Decider(
            snapshot,
            self._block.live,
            worker=self._index,
            cap_slots=self._cap_slots,
            no_bid_sample_rate=deployment.no_bid_sample_rate,
            words=self._words,
        )
        decider.warm_up()
        service = BidService(
            decider,
            Edge(
                bytes.fromhex(deployment.user_salt_hex),
                deployment.tcf_vendor_id,
                self._supply,
            ),
            self._events,
            deployment.base_url,
            bytes.fromhex(deployment.notice_key_hex),
            metrics=self._metrics,
            clock_ns=self._clock_ns,
        )
        service.warm_up(deployment.exchanges[0])
        if deployment.is_native:
            self._engine = self._native_engine(service, snapshot)
            self.handler.use(self._engine)
        self._decider = decider
        self._service = self.handler.service = service
        # Everything made so far lives as long as the process, and a request makes no cycles.
        gc.collect()
        gc.freeze()
        gc.disable()
        self._ready_cpu_ns = time.process_time_ns()
        self._row[WorkerWord.IS_READY] = 1
        self._log.say("ready")

    def _native_engine(self, service: BidService, snapshot: Snapshot) -> Engine:
        deployment = self._deployment
        reader = Reader(
            bytes.fromhex(deployment.user_salt_hex),
            (secrets.randbits(64), secrets.randbits(64)),
            deployment.tcf_vendor_id,
            self._supply,
        )
        renderer = Renderer(
            service.answers, snapshot, bytes.fromhex(deployment.notice_key_hex), self._index,
            HEAD + b"content-length: ",
        )  # fmt: skip
        engine = Engine(
            service, reader, renderer, check_profiles(deployment.exchanges), self._clock_ns
        )
        engine.swap(snapshot)
        return engine

    def beat(self) -> None:
        """Does what is due ten times a second: credits, counters, gauges, the log."""
        self.refresh()
        self.report()
        self._beats += 1
        if self._beats % _ROLL_BEATS == 0:
            self._metrics.stages.roll()
            by_id = self._metrics.meters
            # What an exchange is worth is what it brought lately.
            for meter in by_id.values():
                meter.value_micros *= 0.5
                meter.busy_ns //= 2
            self.shedder.learn(
                {
                    profile.name: worth_of(meter.value_micros, meter.busy_ns)
                    for profile in self._deployment.exchanges
                    for meter in (by_id[profile.exchange_id],)
                }
            )
        self._tell()

    def report(self) -> None:
        """Writes the worker's counters into its rows of the shared files."""
        row, gauges = self._row, self._metrics.gauges
        row[WorkerWord.CPU_NS] = time.process_time_ns() - self._ready_cpu_ns
        row[WorkerWord.REQUEST_COUNT] = self.handler.request_count
        gauges[Gauge.SHED_SHARE_PPM] = int(self.shedder.share * 1e6)
        gauges[Gauge.LAG_NS] = self.shedder.lag_ns
        gauges[Gauge.EVENTS_WAITING] = self._events.head - self._events.tail
        gauges[Gauge.EVENTS_CAPACITY] = self._events.capacity
        row[WorkerWord.RECORDER_BEHIND_COUNT] = sum(
            meter.no_bids[NoBidReason.RECORDER_BEHIND] for meter in self._metrics.meters.values()
        )
        if self._service is not None and self._decider is not None:
            row[WorkerWord.BID_COUNT] = self._service.bid_count
            row[WorkerWord.MALFORMED_COUNT] = self._service.malformed_count
            available = self._decider.state.available_micros
            gauges[Gauge.BUDGETS] = available.shape[0]
            gauges[Gauge.BUDGETS_FUNDED] = int(np.count_nonzero(available > 0))

    def _tell(self) -> None:
        """Logs what has changed since it was last told."""
        log = self._log
        self._tell_snapshot()
        for name, silence_s in silences(self._block, self._clock_ns()):
            is_silent = silence_s > SILENT_S
            event = "silent" if is_silent else "heard_again"
            if is_silent is not (name in self._silent) and log.is_due(event):
                log.say(event, process=name)
                self._silent ^= {name}
        is_shedding = self.shedder.share > 0
        event = "shedding" if is_shedding else "shedding_over"
        if is_shedding is not self._was_shedding and log.is_due(event):
            log.say(event, share=round(100 * self.shedder.share))
            self._was_shedding = is_shedding
        gauges = self._metrics.gauges
        is_broke = gauges[Gauge.BUDGETS] > 0 and gauges[Gauge.BUDGETS_FUNDED] == 0
        event = "out_of_money" if is_broke else "money_again"
        if is_broke is not self._was_broke and log.is_due(event):
            log.say(event)
            self._was_broke = is_broke

    def _tell_snapshot(self) -> None:
        """Logs the snapshot that is served, when it is another one than was last told."""
        if self._version != self._told_version and self._log.is_due("snapshot"):
            self._log.say("snapshot", version=self._version)
            self._told_version = self._version

    def leave(self) -> None:
        """Writes the last counters and the last line."""
        self.report()
        self._tell()
        self._log.say("leaving", requests=self.handler.request_count)

    def _families(self) -> Iterator[Metric]:
        self.report()
        return families(
            Counted(self._metrics_rows, self._deployment, self._block, self._clock_ns())
        )

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


async def _serve(worker: Worker, deployment: Deployment, clock_ns: Callable[[], int]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGUSR1, worker.write_modules)
    server = HttpServer(
        worker.handler,
        clock_ns,
        max(profile.body_bytes_max for profile in deployment.exchanges),
        worker.handler.stream,
    )
    await server.listen(deployment.host, deployment.bid_port, is_shared=True)

    def beat() -> None:
        # Whatever a beat meets, the next one comes: it is also how the worker is told to stop.
        loop.call_later(_HEARTBEAT_S, beat)
        if worker.is_stopping:
            stopped.set()
        worker.beat()

    def tick(due_ns: int) -> None:
        now_ns = clock_ns()
        worker.shedder.tick(now_ns, due_ns)
        loop.call_later(TICK_MS / 1e3, tick, now_ns + TICK_MS * 1_000_000)

    beat()
    tick(clock_ns())
    await stopped.wait()
    server.close()
    worker.leave()


def main(deployment_path: str, index: int) -> int:
    """Runs a worker until SIGTERM, SIGINT or the stop word.

    Returns the exit code: 0; 2 when the deployment, an exchange's profile or a file that it names
    must be mended first; 1 when it cannot serve now (the port is taken). Both say why in one line.
    """
    try:
        deployment = read_deployment(Path(deployment_path))
        worker = Worker(deployment, index, lambda: time.time_ns() // 1_000_000, time.monotonic_ns)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(worker, deployment, time.monotonic_ns))
    except (LodestoneError, OSError) as error:
        sys.stderr.write(f"worker {index}: {error}\n")
        return 2 if isinstance(error, BadInput | Corrupt) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
