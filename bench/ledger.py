"""The ledger's core: rings to disk, notices answered after their commit, replay, and the store.

Every event has the full schema. The recorder runs as it ships, in a process of its own; the bench
stands in for workers, exchange and controller.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ledger import reports
from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.loader import Loader
from ledger.measures import HOUR_MS
from ledger.record import Recorder
from ledger.recorder import CREDITS_RING_CAPACITY, EVENTS_RING_CAPACITY
from ledger.ring import Ring
from ledger.rollup import build_changed
from ledger.segment import RECORDS, SegmentReader, SegmentWriter, recover
from ledger.sql import Rows, Value, bind
from market.control import ControlBlock, Word, WorkerWord
from market.deployment import Deployment, write_deployment
from market.events import EVENT_DTYPE, EventFlag, EventKind, event_digest
from market.exchange import DEFAULT_EXCHANGES
from market.notices import Token, notice_path, sign
from market.snapshot import snapshot_path, write_snapshot
from market.state import CREDIT_DTYPE
from tests.ledger.bids import snapshot_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ledger.analytics import AnalyticsEngine

OFFERED_PER_S = 100_000
OFFERED_S = 30
WORKERS = 2
BUDGETS = (1, 2)
LIMIT_MICROS = 10**15
CONNECTIONS = 64
NOTICES = 40_000
EVENTS_PER_ROUND = 2_000_000
FRAME_EVENTS = 1_000
_BLOCK = 200
_WAIT_S = 120.0


def run(rounds: int) -> dict[str, object]:
    """Measures everything; ``rounds`` times 2,000,000 events are replayed and loaded."""
    found: dict[str, object] = {"cores": os.cpu_count(), "load_1m": round(os.getloadavg()[0], 1)}
    with tempfile.TemporaryDirectory() as home:
        found |= _group_commit(Path(home) / "disk")
        found |= _through_the_rings(Path(home) / "rings")
        found |= _notices(Path(home) / "notices")
    with tempfile.TemporaryDirectory() as home:
        found |= _replay_and_load(Path(home), rounds * EVENTS_PER_ROUND)
    return found


def made_events(start: int, count: int, *, worker: int = 0) -> npt.NDArray[np.void]:
    """[count] bid events with every field filled in and ids of their own."""
    rng = np.random.default_rng(start)
    events = np.zeros(count, EVENT_DTYPE)
    numbers = np.arange(start, start + count, dtype=np.uint64)
    for name in ("opportunity_hi", "opportunity_lo", "user_key"):
        events[name] = rng.integers(0, 2**63, count)
    events["kind"] = EventKind.BID
    events["bid_hi"], events["bid_lo"] = numbers, numbers * np.uint64(3) + np.uint64(worker)
    for name, value in {
        "price_cpm_micros": 2_000_000, "amount_micros": 2_000, "floor_cpm_micros": 500_000,
        "value_micros": 9_000, "advertiser_id": 1, "exchange": 1, "bid_currency": 840,
        "account_currency": 840, "worker": worker, "format": 1, "weight": 1.0,
        "rate_micros": 1_000_000, "quantity_micros": 1_000_000, "size": (300 << 16) | 250,
        "snapshot_version": 1, "shading_factor": 0.8, "propensity": 1.0,
    }.items():  # fmt: skip
        events[name] = value
    events["campaign_id"] = rng.integers(1, 50, count)
    events["line_item_id"] = events["campaign_id"] * 10
    events["creative_id"] = events["campaign_id"] * 100
    events["features"] = rng.integers(0, 2**32, (count, 12), np.uint32)
    events["pctr"], events["pcvr"] = rng.random((2, count))
    events["budgets"][:, : len(BUDGETS)] = BUDGETS
    events["caps"][:, 0] = rng.integers(1, 2**62, count)
    return events


class _Place:
    """A run folder with a recorder, and the bench as its workers."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.deployment = Deployment(
            folder=str(folder), bid_port=1, notice_port=_free_port(), control_port=2,
            worker_count=WORKERS, base_url="http://127.0.0.1", notice_key_hex="11" * 32,
            user_salt_hex="22" * 16,
        )  # fmt: skip
        self.deployment.log_folder.mkdir()
        self.deployment.ring_folder.mkdir()
        self.deployment.snapshot_folder.mkdir()
        self.control = ControlBlock.create(self.deployment.control_path)
        snapshot = snapshot_of(dict.fromkeys(BUDGETS, LIMIT_MICROS))
        write_snapshot(snapshot_path(self.deployment.snapshot_folder, 1), snapshot)
        self.control.words[Word.SNAPSHOT_VERSION] = 1
        for worker in range(WORKERS):
            self.control.worker(worker)[WorkerWord.PID] = os.getpid()
        rings = self.deployment.ring_folder
        self.rings = [
            Ring.create(rings / f"events-{n}.ring", EVENT_DTYPE, EVENTS_RING_CAPACITY)
            for n in range(WORKERS)
        ]
        self.credits = [
            Ring.create(rings / f"credits-{n}.ring", CREDIT_DTYPE, CREDITS_RING_CAPACITY)
            for n in range(WORKERS)
        ]
        path = write_deployment(self.deployment)
        self.process = subprocess.Popen([sys.executable, "-m", "ledger.recorder", str(path)])
        deadline = time.monotonic() + _WAIT_S
        while not self.control.words[Word.RECORDER_READY]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the recorder did not start")
            time.sleep(0.01)
        while not all(ring.pending_count() for ring in self.credits):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the recorder granted no lease")
            time.sleep(0.01)

    def __enter__(self) -> _Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)


def _group_commit(folder: Path) -> dict[str, object]:
    """The disk alone: what one thread can append with a sync every 1,000 records."""
    body = made_events(0, FRAME_EVENTS).tobytes()
    took: list[float] = []
    with SegmentWriter(folder, RealDisk(), EVENT_LOG) as writer:
        began = time.perf_counter()
        for _ in range(300):
            writer.append(RECORDS, body)
            before = time.perf_counter()
            writer.commit()
            took.append(time.perf_counter() - before)
        seconds = time.perf_counter() - began
    return {
        "writer_events_per_s": round(300 * FRAME_EVENTS / seconds),
        "writer_sync_ms_p50": _ms(took, 50),
        "writer_sync_ms_p99": _ms(took, 99),
    }


def _through_the_rings(folder: Path) -> dict[str, object]:
    """OFFERED_PER_S events a second through the workers' rings, from enqueue to durable.

    Offered by the clock: a block is due whether or not the one before it is durable, and is dropped
    where its ring is full. Each bid reserves from two budgets and counts for one cap; after two
    seconds it expires, which gives all of that back. An event is durable when the recorder has
    given its room back, which it does after the commit; its wait runs from just after its push to
    the first look at the ring that saw that, and looks are half a millisecond apart, so waits are
    never told too short. ``segment_offer_cpu_us_per_event`` is what the bench itself takes, and
    ``segment_offer_late_ms_p99`` how much later than by the clock it pushed: where that is large,
    it is the machine that is short of cores.
    """
    total = OFFERED_PER_S * OFFERED_S
    blocks = [made_events(n * _BLOCK, _BLOCK, worker=n % WORKERS) for n in range(64)]
    waits: list[float] = []
    late: list[float] = []
    dropped = 0
    with _Place(folder) as place:
        pushed: list[list[tuple[int, float]]] = [[] for _ in place.rings]
        seen = [0] * WORKERS
        number = 64 * _BLOCK
        cpu_before = _cpu_s(place.process.pid)
        own_cpu_before = time.process_time()
        began = time.perf_counter()
        offered = 0
        while True:
            now = time.perf_counter()
            due = min(total, int((now - began) * OFFERED_PER_S))
            while offered + _BLOCK <= due:
                index = offered // _BLOCK % WORKERS
                block = blocks[offered // _BLOCK % len(blocks)]
                block["bid_hi"] += np.uint64(number)
                block["bid_ms"] = block["ts_ms"] = time.time_ns() // 1_000_000
                block["deadline_ms"] = block["bid_ms"] + 2_000
                late.append(time.perf_counter() - began - (offered + _BLOCK) / OFFERED_PER_S)
                if place.rings[index].push(block):
                    pushed[index].append((place.rings[index].head, time.perf_counter()))
                else:
                    dropped += _BLOCK
                offered += _BLOCK
            for index, ring in enumerate(place.rings):
                tail, now = ring.tail, time.perf_counter()
                own = pushed[index]
                while seen[index] < len(own) and own[seen[index]][0] <= tail:
                    waits.append(now - own[seen[index]][1])
                    seen[index] += 1
                place.credits[index].drain(1_000_000)
            if offered >= total and all(s == len(p) for s, p in zip(seen, pushed, strict=True)):
                break
            time.sleep(0.0005)
        seconds = time.perf_counter() - began
        cpu_s = _cpu_s(place.process.pid) - cpu_before
        own_cpu_s = time.process_time() - own_cpu_before
    durable = offered - dropped
    return {
        "segment_events_per_s": round(durable / seconds),
        "segment_offered_per_s": OFFERED_PER_S,
        "segment_dropped": dropped,
        "commit_ms_p50": _ms(waits, 50),
        "commit_ms_p99": _ms(waits, 99),
        "recorder_cpu_us_per_event": round(cpu_s / durable * 1e6, 2),
        "segment_offer_cpu_us_per_event": round(own_cpu_s / offered * 1e6, 2),
        "segment_offer_late_ms_p99": _ms(late, 99),
    }


def _notices(folder: Path) -> dict[str, object]:
    """Billing notices over keep-alive connections; each is answered after its commit."""
    with _Place(folder) as place:
        key = bytes.fromhex(place.deployment.notice_key_hex)
        now_ms = time.time_ns() // 1_000_000
        paths: list[bytes] = []
        for n in range(NOTICES):
            token = Token(
                n, n + 1, 1, 2, 7, 70, 2_000, 1_000_000, 1_000_000, now_ms, now_ms + 600_000, 1,
                840, 840, 1, 0, 0,
            )  # fmt: skip
            path = notice_path(EventKind.BILLING, *sign(key, token))
            paths.append(f"GET {path}?p=1.5 HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        events = made_events(0, NOTICES)
        numbers = np.arange(NOTICES, dtype=np.uint64)
        events["bid_hi"], events["bid_lo"] = numbers, numbers + np.uint64(1)
        events["bid_ms"], events["deadline_ms"] = now_ms, now_ms + 600_000
        ring = place.rings[0]
        for at in range(0, NOTICES, 1_000):
            while not ring.push(events[at : at + 1_000]):
                time.sleep(0.001)
        while ring.tail < ring.head:
            time.sleep(0.001)
        port = place.deployment.notice_port
        seconds, took, refused = asyncio.run(_send_all(port, paths))
    return {
        "notices_per_s": round(NOTICES / seconds),
        "notice_ms_p50": _ms(took, 50),
        "notice_ms_p99": _ms(took, 99),
        "notices_refused": refused,
    }


async def _send_all(port: int, requests: list[bytes]) -> tuple[float, list[float], int]:
    took: list[float] = []
    refused = 0

    async def client(own: Iterator[bytes]) -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in own:
            before = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            took.append(time.perf_counter() - before)
            refused += not head.startswith(b"HTTP/1.1 200")
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client(iter(requests[n::CONNECTIONS])) for n in range(CONNECTIONS)))
    return time.perf_counter() - began, took, refused


class _Asked:
    """An engine as whoever asks the store sees it."""

    def __init__(self, engine: AnalyticsEngine) -> None:
        self._engine = engine

    def query(self, sql: str, /, **parameters: Value) -> Rows:
        """See ``ledger.sql.Analytics``."""
        return self._engine.execute(bind(sql, parameters))


def _replay_and_load(home: Path, count: int) -> dict[str, object]:
    """A log of bids and billing notices: read, replayed, and loaded into each engine there is.

    ``replay_read_s`` is the follower's way through the log, ``replay_check_s`` the recorder's
    (every frame read and its checksum compared), and ``replay_apply_s`` what the events themselves
    take: ``replay_s`` without the check.
    """
    folder = home / "segments"
    _write_log(folder, count)
    began = time.perf_counter()
    reader = SegmentReader(folder, RealDisk(), EVENT_LOG)
    while reader.read(8 << 20):
        pass
    read_s = time.perf_counter() - began
    began = time.perf_counter()
    recover(folder, RealDisk(), EVENT_LOG)
    check_s = time.perf_counter() - began
    core = Recorder(DEFAULT_EXCHANGES, 1)
    began = time.perf_counter()
    recover(folder, RealDisk(), EVENT_LOG, replay=core.replay)
    replay_s = time.perf_counter() - began
    found: dict[str, object] = {
        "replay_events": count,
        "replay_read_s": round(read_s, 2),
        "replay_check_s": round(check_s, 2),
        "replay_apply_s": round(replay_s - check_s, 2),
        "replay_s": round(replay_s, 2),
        "replay_events_per_s": round(count / replay_s),
        "replay_rss_gb_max": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    del core
    from ledger.embedded import ChdbEngine  # noqa: PLC0415 - it takes half a gigabyte

    engine = ChdbEngine(home / "chdb")
    found |= _loaded("chdb", engine, folder, count)
    engine.close()
    return found | _clickhouse(home, folder, count)


def _write_log(folder: Path, count: int) -> None:
    """Half bids, half their billing notices, on one day, in commits of 1,000 events."""
    day_ms = 1_767_225_600_000
    half = FRAME_EVENTS // 2
    with SegmentWriter(folder, _Unsynced(), EVENT_LOG) as writer:
        frames: list[npt.NDArray[np.void]] = [made_events(n * half, half) for n in range(20)]
        for n in range(count // FRAME_EVENTS):
            bids = frames[n % len(frames)]
            bids["bid_hi"] = np.arange(n * half, (n + 1) * half, dtype=np.uint64)
            at = day_ms + n * 80_000_000 // max(1, count // FRAME_EVENTS)
            bids["bid_ms"] = bids["ts_ms"] = bids["recv_ms"] = at
            bids["deadline_ms"] = at + 300_000
            notices = bids.copy()
            notices["kind"], notices["flags"] = EventKind.BILLING, EventFlag.CHARGED
            for events in (bids, notices):
                body = bytearray(events.tobytes())
                ids = zip(events["bid_hi"].tolist(), events["bid_lo"].tolist(), strict=True)
                width = EVENT_DTYPE.itemsize
                for i, (hi, lo) in enumerate(ids):
                    kind = int(events["kind"][0])
                    body[i * width : i * width + 16] = event_digest(kind, hi, lo)
                writer.append(RECORDS, bytes(body))
            writer.commit()


class _Unsynced(RealDisk):
    """For a log that is made to be read."""

    def fdatasync(self, descriptor: int) -> None:
        """Does nothing."""


def _loaded(name: str, engine: AnalyticsEngine, folder: Path, count: int) -> dict[str, object]:
    """From segment bytes to rows that can be asked for, and what reports over them take."""
    loader = Loader(engine, folder, RealDisk(), lambda: None)
    began = time.perf_counter()
    loaded = 0
    while rows := loader.load_batch():
        loaded += rows
    seconds = time.perf_counter() - began
    asked = _Asked(engine)
    (row,) = asked.query("SELECT count() AS n FROM events FINAL").rows
    if row[0] != count or loaded != count:
        raise RuntimeError(f"{name} has {row[0]} of {count} rows")
    span = reports.time_span(asked)
    first, end = span.first_ms // HOUR_MS * HOUR_MS, span.last_ms // HOUR_MS * HOUR_MS + HOUR_MS
    window = reports.Window(first, end, HOUR_MS)
    counted, counted_s = _reported(asked, window)
    # As the store does by itself, a minute after a day has changed.
    began = time.perf_counter()
    build_changed(engine)
    roll_up_s = time.perf_counter() - began
    rolled, rolled_s = _reported(asked, window)
    if rolled != counted:
        raise RuntimeError(f"{name}: reports from roll-ups are not those from the events")
    return {
        f"{name}_rows_per_s": round(count / seconds),
        f"{name}_report_s": rolled_s,
        f"{name}_report_from_events_s": counted_s,
        f"{name}_roll_up_s": round(roll_up_s, 2),
    }


def _reported(asked: _Asked, window: reports.Window) -> tuple[list[object], dict[str, float]]:
    answers: list[object] = []
    took: dict[str, float] = {}
    for report, ask in (
        ("campaign_totals", lambda: reports.campaign_totals(asked)),
        ("totals", lambda: reports.totals(asked)),
        ("spend_over_time", lambda: reports.spend_over_time(asked, window)),
    ):
        before = time.perf_counter()
        answers.append(ask())
        took[report] = round(time.perf_counter() - before, 3)
    return answers, took


def _clickhouse(home: Path, folder: Path, count: int) -> dict[str, object]:
    """The same with a ClickHouse server, where one is installed."""
    from tests.ledger.stores import ClickHouseServer  # noqa: PLC0415 - the one that tests start

    if shutil.which("clickhouse-server") is None:
        return {"clickhouse_rows_per_s": "clickhouse-server is not on PATH"}
    from ledger.clickhouse import ClickHouseEngine, address_of  # noqa: PLC0415 - as above

    place = home / "clickhouse"
    place.mkdir()
    server: Any = ClickHouseServer(place)
    try:
        engine = ClickHouseEngine(address_of(server.url))
        found = _loaded("clickhouse", engine, folder, count)
        engine.close()
    finally:
        server.stop()
    return found


def _ms(seconds: list[float], percentile: float) -> float:
    return round(float(np.percentile(np.array(seconds), percentile)) * 1e3, 2)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
