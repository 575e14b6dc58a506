"""The way of the log to the tables, with everybody on it killed: shipper, Kafka, loader, store.

Log -> ``ledger.shipper`` -> Apache Kafka -> ``ledger.kafka_loader`` -> ClickHouse, all real and in
processes of their own; and log -> ``ledger.store`` with the embedded engine.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from bench.ledger import made_events
from ledger.clickhouse import ClickHouseEngine, address_of
from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.segment import RECORDS, SegmentWriter
from ledger.shipper import CursorFile
from market.control import Word
from market.deployment import write_deployment
from market.errors import BadInput, NotReady
from market.events import EventFlag, EventKind, event_id
from tests.ledger.brokers import Broker
from tests.ledger.stores import ClickHouseServer, RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).parents[1]
_BATCH = 100
_WRITE_EVERY_S = 0.05
_WAIT_S = 90.0
_CHARGED = (
    f"SELECT count() AS n, sum(amount_micros) AS s FROM events FINAL "
    f"WHERE bitAnd(flags, {int(EventFlag.CHARGED)}) != 0"
)


class Counted(NamedTuple):
    """Charged notices in a store, each once, and what they charge; -1 while it does not answer."""

    events: int
    micros: int


class _Log:
    """A log that the bench writes; it knows what must arrive."""

    def __init__(self, run: Any) -> None:  # noqa: ANN401 - of tests
        self.run = run
        self.count = 0
        self.micros = 0
        self.writer = SegmentWriter(run.deployment.segment_folder, RealDisk(), EVENT_LOG)
        self._is_writing = True
        self._thread = threading.Thread(target=self._write_on, daemon=True)

    def start(self) -> None:
        """Writes a batch every now and then from here on."""
        self._thread.start()

    def stop(self) -> None:
        """Writes no more."""
        self._is_writing = False
        self._thread.join()

    def _write_on(self) -> None:
        while self._is_writing:
            self.write()
            time.sleep(_WRITE_EVERY_S)

    def write(self) -> None:
        """Commits a batch of billing notices, which count as acknowledged."""
        events = made_events(self.count, _BATCH)
        events["kind"], events["flags"] = EventKind.BILLING, EventFlag.CHARGED
        events["bid_ms"] = events["ts_ms"] = events["recv_ms"] = 1_767_225_600_000
        for event in events:
            key = int(event["bid_hi"]), int(event["bid_lo"])
            event["id_hi"], event["id_lo"] = event_id(EventKind.BILLING, *key)
        self.writer.append(RECORDS, events.tobytes())
        self.run.control.words[Word.DURABLE_SEQUENCE] = self.writer.commit()
        self.count += _BATCH
        self.micros += int(events["amount_micros"].sum())


def _wait(is_so: Callable[[], bool], what: str, wait_s: float = _WAIT_S) -> None:
    give_up = time.monotonic() + wait_s
    while not is_so():
        if time.monotonic() > give_up:
            raise RuntimeError(f"{what} did not happen in {wait_s} s")
        time.sleep(0.02)


class _Child:
    """A process of ours that is started again after every kill."""

    def __init__(self, module: str, run: Any) -> None:  # noqa: ANN401 - of tests
        self._command = [sys.executable, "-m", module, str(run.path)]
        self.start()

    def start(self) -> None:
        """Starts it."""
        self.process = subprocess.Popen(
            self._command, cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()


class _Pipeline:
    """The four processes between the log and the tables, and what each has done since it started.

    Attributes:
        victims: by kind, what ``kill`` and ``start`` are called of.
    """

    def __init__(self, folder: Path) -> None:
        """Starts all of them."""
        for name in ("broker", "clickhouse", "run"):
            (folder / name).mkdir(parents=True)
        self._broker = Broker(folder / "broker")
        self._server = ClickHouseServer(folder / "clickhouse")
        run: Any = RunFolder(folder / "run", self._server.new_database())
        run.deployment = msgspec.structs.replace(
            run.deployment,
            kafka_servers=self._broker.servers,
            kafka_topic=self._broker.create_topic("faults"),
        )
        run.deployment.log_folder.mkdir()
        write_deployment(run.deployment)
        self.log = _Log(run)
        self.address = address_of(run.deployment.analytics_url)
        self._cursor = CursorFile(run.deployment.root / "shipper.cursor", RealDisk())
        self._children = {
            name: _Child(f"ledger.{name}", run) for name in ("shipper", "kafka_loader")
        }
        self.victims: dict[str, Any] = {
            "kafka": self._broker, "clickhouse": self._server, **self._children
        }  # fmt: skip
        self._since = dict.fromkeys(self.victims, 0)

    def done(self, name: str) -> int:
        """Returns how far what ``name`` has to acknowledge has come.

        The broker acknowledges to the shipper, whose cursor then moves; the server to the loader,
        whose rows are then in the tables.
        """
        if name in ("kafka", "shipper"):
            return self._cursor.read()
        return counted(self.address).events

    def kill(self, name: str) -> None:
        """kill -9 and a start; remembers how far everything was."""
        self.victims[name].kill()
        self.victims[name].start()
        self._since[name] = max(0, self.done(name))

    def watch(self) -> None:
        """Starts again whoever ended by itself, as a supervisor does.

        A loader that comes up while the server is down says so and ends.
        """
        for name, child in self._children.items():
            if child.process.poll() is not None:
                child.start()
                self._since[name] = max(0, self.done(name))

    def acknowledged(self) -> list[str]:
        """Returns the kinds that acknowledged something since they were last started."""
        self.watch()
        return [name for name, since in self._since.items() if self.done(name) > since]

    def stop(self) -> None:
        """Ends all of them."""
        self.log.stop()
        for child in self._children.values():
            child.kill()
        self._server.stop()
        self._broker.stop()


def pipeline_kills(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Kills each of the four ``kills`` times, at random moments, while the log grows.

    Whoever has acknowledged something since it was last started may be next, drawn by how often it
    must still be killed. So the others are killed while a dead loader's place in its group is still
    kept, which takes ten seconds.
    """
    chance = random.Random(seed)
    pipeline = _Pipeline(folder)
    left = dict.fromkeys(pipeline.victims, kills)
    idle = 0
    log = pipeline.log
    try:
        log.start()
        while any(left.values()):
            give_up = time.monotonic() + _WAIT_S
            while not (ready := [name for name in pipeline.acknowledged() if left[name]]):
                if time.monotonic() > give_up:
                    idle += 1
                    ready = [name for name in left if left[name]]
                    break
                time.sleep(0.02)
            time.sleep(chance.uniform(0.0, 0.2))
            name = chance.choices(ready, [left[name] for name in ready])[0]
            pipeline.kill(name)
            left[name] -= 1
        log.stop()

        def has_all() -> bool:
            pipeline.watch()
            return counted(pipeline.address).events >= log.count

        _wait(has_all, "the rest of the load")
        stored = counted(pipeline.address)
    finally:
        pipeline.stop()
    return {
        "kills": dict.fromkeys(left, kills),
        "kills_without_acks": idle,
        **_compared(log, stored),
    }


def counted(address: Any) -> Counted:  # noqa: ANN401 - of the engine
    """Returns what a ClickHouse server has of charged notices."""
    try:
        engine = ClickHouseEngine(address)
    except NotReady:
        return Counted(-1, 0)
    try:
        ((count, micros),) = engine.execute(_CHARGED).rows
        return Counted(int(str(count)), int(str(micros)))
    except (NotReady, BadInput):
        return Counted(-1, 0)
    finally:
        engine.close()


def store_kills(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Kills the store with the embedded engine while it loads a log that grows; then counts."""
    chance = random.Random(seed)
    folder.mkdir()
    run: Any = RunFolder(folder)
    log = _Log(run)
    idle = 0
    for _ in range(kills):
        child = _Child("ledger.store", run)
        _wait(lambda: run.loaded() >= 0, "the store's start")
        before = run.loaded()
        log.write()
        try:
            _wait(lambda before=before: run.loaded() > before, "progress")
        except RuntimeError:
            idle += 1
        log.write()
        time.sleep(chance.uniform(0.0, 0.05))
        child.kill()
    child = _Child("ledger.store", run)
    _wait(lambda: run.loaded() >= log.writer.durable_sequence, "the rest of the load")
    ((count, micros),) = run.client.query(_CHARGED).rows
    child.kill()
    stored = Counted(int(str(count)), int(str(micros)))
    return {"kills": kills, "kills_without_acks": idle, **_compared(log, stored)}


def _compared(log: _Log, stored: Counted) -> dict[str, int]:
    return {
        "money_events_acked": log.count,
        "money_events_lost": max(0, log.count - stored.events),
        "duplicates_after_dedup": max(0, stored.events - log.count),
        "wrong_micros": abs(stored.micros - log.micros),
    }
