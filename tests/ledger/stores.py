"""A running store, a real ClickHouse server and made-up events, for the tests of this folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from ledger.clickhouse import ClickHouseEngine, address_of
from ledger.disk import RealDisk
from ledger.embedded import ChdbEngine
from ledger.event_log import EVENT_LOG
from ledger.segment import RECORDS, SegmentWriter
from ledger.sql import Rows, Value, bind
from ledger.store import StoreClient
from market.control import ControlBlock
from market.deployment import Deployment, write_deployment
from market.errors import NotReady
from market.events import EVENT_DTYPE, EventFlag, EventKind, event_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ledger.analytics import AnalyticsEngine

START_MS = 1_767_225_600_000
"""2026-01-01, the first day of the made-up events."""

DEADLINE_S = 120.0


def wait_until(is_so: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    give_up = time.monotonic() + deadline_s
    while not is_so():
        assert time.monotonic() < give_up, f"{what} did not happen within {deadline_s} s"
        time.sleep(0.002)


def made_up_events(count: int, seed: int, days: int = 2) -> npt.NDArray[np.void]:
    """[count] events of every kind with distinct ids, over ``days`` days and five campaigns."""
    rng = np.random.default_rng(seed)
    events = np.zeros(count, EVENT_DTYPE)
    for name in ("bid_hi", "bid_lo", "opportunity_hi", "opportunity_lo", "user_key", "deal_code"):
        events[name] = rng.integers(0, 2**64, count, np.uint64)
    events["kind"] = rng.choice(
        np.array([*EventKind], np.uint8),
        count,
        p=[0.3, 0.2, 0.15, 0.1, 0.05, 0.05, 0.1, 0.01, 0.04],
    )
    events["order_code"] = np.where(
        events["kind"] == EventKind.CONVERSION, rng.integers(1, 2**64, count, np.uint64), 0
    )
    ids = [
        event_id(*key)
        for key in zip(
            *(events[name].tolist() for name in ("kind", "bid_hi", "bid_lo", "order_code")),
            strict=True,
        )
    ]
    events["id_hi"], events["id_lo"] = np.array(ids, np.uint64).T
    events["bid_ms"] = START_MS + rng.integers(0, days * 86_400_000, count)
    events["ts_ms"] = events["bid_ms"] + rng.integers(0, 3_600_000, count)
    events["recv_ms"] = events["ts_ms"] + 7
    events["deadline_ms"] = events["bid_ms"] + 600_000
    events["campaign_id"] = rng.integers(1, 6, count)
    events["advertiser_id"] = (events["campaign_id"] + 1) // 2
    events["line_item_id"] = events["campaign_id"] * 10
    events["creative_id"] = events["campaign_id"] * 100 + rng.integers(0, 4, count)
    events["account_currency"] = np.where(events["campaign_id"] == 5, 978, 840)
    events["bid_currency"] = rng.choice(np.array([840, 978], np.uint16), count)
    for name in ("price_cpm_micros", "amount_micros", "floor_cpm_micros", "value_micros"):
        events[name] = rng.lognormal(14, 1, count)
    events["flags"] = rng.choice(
        np.array(
            [
                0,
                EventFlag.CHARGED,
                EventFlag.TEST,
                EventFlag.DISPUTED,
                EventFlag.LATE,
                EventFlag.LATE | EventFlag.CHARGED,
            ],
            np.uint16,
        ),
        count,
        p=[0.55, 0.3, 0.05, 0.03, 0.03, 0.04],
    )
    is_ours = (events["kind"] == EventKind.BID) | (events["kind"] == EventKind.NO_BID)
    events["flags"] &= np.where(is_ours, int(EventFlag.TEST), 0xFFFF).astype(np.uint16)
    events["reason"] = np.where(events["kind"] == EventKind.NO_BID, rng.integers(1, 34, count), 0)
    events["weight"] = np.where(events["kind"] == EventKind.NO_BID, 64.0, 1.0)
    events["features"] = rng.integers(0, 2**32, events["features"].shape, np.uint32)
    events["budgets"][:, :2] = rng.integers(1, 2**64, (count, 2), np.uint64)
    events["caps"] = rng.integers(0, 2**64, events["caps"].shape, np.uint64)
    for name in ("pctr", "pcvr", "propensity", "shading_factor"):
        events[name] = rng.random(count)
    events["rate_micros"] = rng.integers(1, 10**9, count)
    events["quantity_micros"] = 1_000_000
    events["size"] = (300 << 16) | 250
    for name in ("snapshot_version", "model_version", "policy_version", "exchange", "worker"):
        events[name] = rng.integers(0, 100, count)
    events["format"] = 1
    return events


class RunFolder:
    """A deployment whose event log the test writes, in the recorder's place."""

    def __init__(self, root: Path, analytics_url: str = "") -> None:
        self.deployment = Deployment(
            folder=str(root),
            analytics_url=analytics_url,
            bid_port=1,
            notice_port=2,
            control_port=3,
            base_url="http://127.0.0.1:2",
            notice_key_hex="00" * 32,
            user_salt_hex="00" * 16,
        )
        self.path = write_deployment(self.deployment)
        self.control = ControlBlock.create(self.deployment.control_path)
        self.client = StoreClient(self.deployment.store_socket)

    def write(self, *batches: npt.NDArray[np.void]) -> int:
        """Commits each batch as a frame and returns the last one's sequence."""
        with SegmentWriter(self.deployment.segment_folder, RealDisk(), EVENT_LOG) as writer:
            for batch in batches:
                writer.append(RECORDS, batch.tobytes())
                writer.commit()
            return writer.durable_sequence

    def start(self, working_folder: Path | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ledger.store", str(self.path)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=working_folder,
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """A store that is ended by SIGTERM, and must then leave at once and in order."""
        process = self.start()
        try:
            self.wait_for(0, process)
            yield process
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(10) == 0
        finally:
            process.kill()
            process.communicate()

    def loaded(self) -> int:
        """How far the store has come; -1 while it does not answer."""
        try:
            return self.client.loaded_sequence()
        except NotReady:
            return -1

    def wait_for(self, sequence: int, process: subprocess.Popen[str]) -> None:
        def is_loaded() -> bool:
            assert process.poll() is None, process.communicate()[1]
            return self.loaded() >= sequence

        wait_until(is_loaded, f"loading up to sequence {sequence}")

    def count(self, table: str = "events FINAL") -> int:
        ((count,),) = self.client.query(f"SELECT count() AS count FROM {table}").rows
        assert isinstance(count, int)
        return count


class ClickHouseServer:
    """A real server on loopback, a child process of this one; ``engine`` speaks to it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._databases = 0
        self._http_port, self.port = free_ports(2)
        (folder / "server.xml").write_text(
            f"""<?xml version="1.0"?>
<yandex>
  <logger><level>warning</level><log>log/server.log</log><errorlog>log/error.log</errorlog></logger>
  <listen_host>127.0.0.1</listen_host>
  <http_port>{self._http_port}</http_port>
  <tcp_port>{self.port}</tcp_port>
  <path>data/</path>
  <tmp_path>tmp/</tmp_path>
  <mark_cache_size>268435456</mark_cache_size>
  <users_config>users.xml</users_config>
  <timezone>UTC</timezone>
</yandex>"""
        )
        (folder / "users.xml").write_text(
            """<?xml version="1.0"?>
<yandex>
  <profiles><default/></profiles>
  <users><default>
    <password/><networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile><quota>default</quota>
  </default></users>
  <quotas><default/></quotas>
</yandex>"""
        )
        self.start()

    @property
    def url(self) -> str:
        return f"clickhouse://127.0.0.1:{self.port}/default"

    def new_database(self) -> str:
        """Returns the URL of an empty database of its own."""
        self._databases += 1
        name = f"test_{self._databases}"
        engine = ClickHouseEngine(address_of(self.url))
        engine.execute(f"CREATE DATABASE {name}")
        engine.close()
        return self.url.replace("/default", f"/{name}")

    def start(self) -> None:
        """Starts the server on what its folder holds."""
        self.process = subprocess.Popen(
            ["clickhouse-server", "--config=server.xml"],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._is_up, "the ClickHouse server's start")

    def kill(self) -> None:
        """Kills it as a power cut would, but for the page cache."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def _is_up(self) -> bool:
        if self.process.poll() is not None:
            log = self._folder / "log" / "error.log"
            raise AssertionError(log.read_text() if log.exists() else "the server left at once")
        try:
            return httpx.get(f"http://127.0.0.1:{self._http_port}/ping").status_code == 200
        except httpx.TransportError:
            return False


def clickhouse_or_skip(folder: Path) -> ClickHouseServer:
    """Returns a running server; where none is installed, skips, or fails if one is required."""
    if shutil.which("clickhouse-server") is None:
        lacking = "clickhouse-server is not on PATH; Debian's package clickhouse-server has it"
        if "clickhouse" in os.environ.get("LODESTONE_REQUIRE", ""):
            pytest.fail(lacking)
        pytest.skip(lacking)
    return ClickHouseServer(folder)


@contextlib.contextmanager
def opened_engine(name: str, folder: Path) -> Iterator[AnalyticsEngine]:
    """An empty engine: ``chdb``, or ``clickhouse-server``, whose server then ends with it."""
    if name == "chdb":
        embedded = ChdbEngine(folder)
        yield embedded
        embedded.close()
        return
    running = clickhouse_or_skip(folder)
    try:
        remote = ClickHouseEngine(address_of(running.url))
        yield remote
        remote.close()
    finally:
        running.stop()


def empty_tables(engine: AnalyticsEngine) -> None:
    """Leaves the engine as a new one is."""
    found = engine.execute(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%Tree'"
    )
    for (name,) in found.rows:
        if name != "schema_versions":
            engine.execute(f"TRUNCATE TABLE {name}")


class Asked:
    """An engine as whoever asks the store sees it."""

    def __init__(self, engine: AnalyticsEngine) -> None:
        self.engine = engine

    def query(self, sql: str, /, **parameters: Value) -> Rows:
        return self.engine.execute(bind(sql, parameters))


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            for _ in range(count)
        ]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
