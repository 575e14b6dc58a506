"""The way of the log to the tables, with everybody on it killed: shipper, Kafka, loader, store.

Log -> ``ledger.shipper`` -> Apache Kafka -> ``ledger.kafka_loader`` -> ClickHouse, all real and in
processes of their own; and log -> ``ledger.store`` with the embedded engine.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bench.ledger import made_events
from ledger.clickhouse import ClickHouseEngine, address_of
from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.segment import RECORDS, SegmentWriter
from market.control import Word
from market.deployment import write_deployment
from market.errors import BadInput, NotReady
from market.events import EventFlag, EventKind, event_id
from tests.ledger.brokers import Broker
from tests.ledger.stores import ClickHouseServer, RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).parents[1]
_BATCH = 200
_WAIT_S = 90.0


class _Log:
    """A log that the bench writes; it knows what must arrive."""

    def __init__(self, run: Any) -> None:  # noqa: ANN401 - of tests
        self.run = run
        self.count = 0
        self.micros = 0
        self.writer = SegmentWriter(run.deployment.segment_folder, RealDisk(), EVENT_LOG)

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


def _wait(is_so: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + _WAIT_S
    while not is_so():
        if time.monotonic() > give_up:
            raise RuntimeError(f"{what} did not happen in {_WAIT_S} s")
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


def pipeline_kills(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Kills each of the four in turn, ``kills`` times, while the log grows; then counts."""
    chance = random.Random(seed)
    (folder / "broker").mkdir(parents=True)
    (folder / "clickhouse").mkdir()
    (folder / "run").mkdir()
    broker, server = Broker(folder / "broker"), ClickHouseServer(folder / "clickhouse")
    run: Any = RunFolder(folder / "run", server.new_database())
    run.deployment = msgspec.structs.replace(
        run.deployment, kafka_servers=broker.servers, kafka_topic=broker.create_topic("faults")
    )
    run.deployment.log_folder.mkdir()
    write_deployment(run.deployment)
    log = _Log(run)
    address = address_of(run.deployment.analytics_url)
    children = {name: _Child(f"ledger.{name}", run) for name in ("shipper", "kafka_loader")}
    victims: dict[str, Any] = {"kafka": broker, "clickhouse": server, **children}
    done = dict.fromkeys(victims, 0)
    idle = dict.fromkeys(victims, 0)
    try:
        for _ in range(kills):
            for name in chance.sample(sorted(victims), len(victims)):
                before = _counted(address)[0]
                log.write()
                try:
                    _wait(lambda before=before: _counted(address)[0] > before, "progress")
                except RuntimeError:
                    idle[name] += 1
                log.write()
                time.sleep(chance.uniform(0.0, 0.2))
                victims[name].kill()
                victims[name].start()
                done[name] += 1
        _wait(lambda: _counted(address)[0] >= log.count, "the rest of the load")
        count, micros = _counted(address)
    finally:
        for child in children.values():
            child.kill()
        server.stop()
        broker.stop()
    return {
        "kills": done,
        "kills_without_acks": sum(idle.values()),
        "money_events": log.count,
        "money_events_lost": max(0, log.count - count),
        "duplicates_after_dedup": max(0, count - log.count),
        "wrong_micros": abs(micros - log.micros),
    }


def _counted(address: Any) -> tuple[int, int]:  # noqa: ANN401 - of the engine
    try:
        engine = ClickHouseEngine(address)
    except NotReady:
        return -1, 0
    try:
        ((count, micros),) = engine.execute(
            "SELECT count() AS n, sum(amount_micros) AS s FROM events FINAL"
        ).rows
        return int(str(count)), int(str(micros))
    except (NotReady, BadInput):
        return -1, 0
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
        _wait(lambda before=before: run.loaded() > before, "progress")
        log.write()
        time.sleep(chance.uniform(0.0, 0.05))
        child.kill()
        idle += run.control.words[Word.DURABLE_SEQUENCE] <= before
    child = _Child("ledger.store", run)
    _wait(lambda: run.loaded() >= log.writer.durable_sequence, "the rest of the load")
    ((count, micros),) = run.client.query(
        "SELECT count() AS n, sum(amount_micros) AS s FROM events FINAL"
    ).rows
    child.kill()
    return {
        "kills": kills,
        "kills_without_acks": idle,
        "money_events": log.count,
        "money_events_lost": max(0, log.count - int(str(count))),
        "duplicates_after_dedup": max(0, int(str(count)) - log.count),
        "wrong_micros": abs(int(str(micros)) - log.micros),
    }
