"""CPU per bid request of the worker that ships, against a FastAPI endpoint that echoes the body.

Whole path: HTTP, decode, edge, match, score, price, reserve, sign, respond, event. The worker runs
in its own process with its real rings and snapshot; the bench plays recorder (drains events) and
exchange. Load: the twin's bid requests of one day, 20,000 users, shuffled; 10 line items of 3
creatives that target country, device and interests, half of them capped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import uvloop

from bench.load import Load, drive
from bidder.candidates import Compilation, allocate_rows, compile_snapshot
from bidder.caps import create_cap_file
from bidder.recommendation.network import read_artefact
from ledger.ring import Ring
from market.campaign import (
    Budget,
    Campaign,
    Creative,
    FrequencyCap,
    Goal,
    GoalKind,
    LineItem,
    Targeting,
)
from market.control import ControlBlock, Word, WorkerWord
from market.deployment import Deployment, write_deployment
from market.events import EVENT_DTYPE
from market.snapshot import snapshot_path, write_snapshot
from market.state import CREDIT_DTYPE, CreditKind
from simulator.bid_request import RequestWriter
from simulator.exchange import Exchange
from simulator.scenario import load as load_scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

REQUESTS_PER_ROUND = 10_000
CONNECTIONS = 16
LINE_ITEMS = 10
_SALT = bytes(16)
_SIZES = ((300, 250), (320, 50), (728, 90))


def run(rounds: int) -> dict[str, object]:
    """Returns medians over rounds in which both servers take turns."""
    bodies = _bodies()
    # Servers on one core, load on the other: nobody is moved about, both servers are treated alike.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    with tempfile.TemporaryDirectory() as folder, _worker(Path(folder)) as worker, _echo() as echo:
        for pid in (worker.pid, echo[0]):
            pin(pid, cores[0])
        ours: list[Load] = []
        theirs: list[Load] = []
        for n in range(rounds + 1):
            random.Random(n).shuffle(bodies)
            pair = (worker.load(bodies), echo_load(echo, bodies))
            if n:  # the first round warms both up
                ours.append(pair[0])
                theirs.append(pair[1])
    requests = sum(sum(load.statuses.values()) for load in ours)
    bids = sum(load.statuses.get(200, 0) for load in ours)
    cpu = statistics.median(load.cpu_us_per_request for load in ours)
    echo_cpu = statistics.median(load.cpu_us_per_request for load in theirs)
    latency = np.concatenate([load.latency_us for load in ours])
    return {
        "cpu_us_per_request": round(cpu, 2),
        "fastapi_echo_cpu_us": round(echo_cpu, 2),
        "cpu_ratio_to_fastapi_echo": round(
            statistics.median(
                a.cpu_us_per_request / b.cpu_us_per_request
                for a, b in zip(ours, theirs, strict=True)
            ),
            3,
        ),
        "latency_us_p50": round(float(np.percentile(latency, 50)), 1),
        "latency_us_p99": round(float(np.percentile(latency, 99)), 1),
        "requests": requests,
        "bid_share": round(bids / requests, 3),
        "line_items": LINE_ITEMS,
        "body_bytes_mean": round(statistics.mean(map(len, bodies))),
        "rounds": rounds,
        "connections": CONNECTIONS,
    }


def pin(pid: int, core: int) -> None:
    """Keeps every thread of a process on one core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def echo_load(echo: tuple[int, int], bodies: list[bytes]) -> Load:
    pid, port = echo
    return uvloop.run(drive(pid, port, "/echo", bodies, CONNECTIONS))


class _Worker:
    """A running bid worker, with the bench in the place of its recorder."""

    def __init__(self, process: subprocess.Popen[bytes], deployment: Deployment) -> None:
        self.pid = process.pid
        self._port = deployment.bid_port
        self._ring = Ring(deployment.ring_folder / "events-0.ring", EVENT_DTYPE)

    def load(self, bodies: list[bytes]) -> Load:
        return uvloop.run(self._load(bodies))

    async def _load(self, bodies: list[bytes]) -> Load:
        drain = asyncio.create_task(self._drain())
        load = await drive(self.pid, self._port, "/bid/twin", bodies, CONNECTIONS)
        drain.cancel()
        return load

    async def _drain(self) -> None:
        while True:
            self._ring.drain(4096)
            await asyncio.sleep(0.01)


@contextlib.contextmanager
def _worker(folder: Path) -> Generator[_Worker]:
    port = _free_port()
    deployment = Deployment(
        folder=str(folder), bid_port=port, notice_port=1, control_port=2,
        base_url="http://127.0.0.1:1", notice_key_hex="00" * 32, user_salt_hex=_SALT.hex(),
    )  # fmt: skip
    deployment.ring_folder.mkdir()
    deployment.snapshot_folder.mkdir()
    block = ControlBlock.create(deployment.control_path)
    Ring.create(deployment.ring_folder / "events-0.ring", EVENT_DTYPE, 16_384)
    credit_ring = Ring.create(deployment.ring_folder / "credits-0.ring", CREDIT_DTYPE, 4_096)
    create_cap_file(deployment.ring_folder / "caps.bin", 1)
    campaigns = _campaigns()
    snapshot = compile_snapshot(
        campaigns, read_artefact(),
        Compilation(
            version=1, policy_version=1, intent_version=1,
            now_ms=load_scenario("demo").start_at_ms, seed=1,
            rates_micros=deployment.rates_micros, default_seat="lodestone",
            rows=allocate_rows({}, campaigns),
        ),
    )  # fmt: skip
    write_snapshot(snapshot_path(deployment.snapshot_folder, 1), snapshot)
    block.live.is_active[:LINE_ITEMS] = 1
    block.words[Word.SNAPSHOT_VERSION] = 1
    credit_ring.push(
        np.array(
            [(b["budget_id"], 10**15, CreditKind.BUDGET) for b in snapshot.arrays.budgets],
            CREDIT_DTYPE,
        )
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "bidder.worker", str(write_deployment(deployment)), "0"]
    )
    try:
        _wait(lambda: block.worker(0)[WorkerWord.IS_READY] == 1, process)
        yield _Worker(process, deployment)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _echo() -> Generator[tuple[int, int]]:
    port = _free_port()
    process = subprocess.Popen(
        [
            sys.executable, "-m", "uvicorn", "bench.fastapi_echo:app", "--port", str(port),
            "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
        ]
    )  # fmt: skip
    try:
        _wait(lambda: _answers(port), process)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait()


def _bodies() -> list[bytes]:
    scenario = load_scenario("demo")
    exchange = Exchange(scenario, (), seed=11, user_salt=_SALT)
    writer = RequestWriter(exchange)
    offers = exchange.offers(scenario.start_at_ms, scenario.end_at_ms)
    places = random.Random(11).sample(range(len(offers.sequence)), REQUESTS_PER_ROUND)
    return [writer.body(offers, place) for place in places]


def _campaigns() -> tuple[Campaign, ...]:
    chosen = random.Random(11)
    countries = ("USA", "GBR", "DEU")
    interests = load_scenario("demo").people.interests
    return tuple(
        Campaign(
            campaign_id=n + 1, advertiser_id=n + 1, name=f"campaign {n}", currency="USD",
            time_zone="UTC", advertiser_domain=f"shop{n}.example",
            goal=Goal(GoalKind.TARGET_CPA, target_cpa_micros=20_000_000 + n * 100_000),
            budget=Budget(daily_micros=10**15),
            line_items=(
                LineItem(
                    line_item_id=n + 1,
                    targeting=Targeting(
                        include={
                            "country": tuple(chosen.sample(countries, 2)),
                            "device_type": ("2", "4", "5") if n % 3 else ("4",),
                            "segment": tuple(f"int-{i}" for i in chosen.sample(interests, 3)),
                        }
                        if n >= 3
                        else {}
                    ),
                    frequency_caps=(FrequencyCap(impressions=1000),) if n % 2 else (),
                    creatives=tuple(
                        Creative(
                            creative_id=10 * n + k + 1, width=w, height=h,
                            landing_url=f"https://shop{n}.example/",
                            adm='<a href="{{CLICK_URL}}"><img src="https://shop.example/a.jpg"></a>'
                            '<img src="{{IMPRESSION_URL}}" width="1" height="1">',
                        )
                        for k, (w, h) in enumerate(_SIZES)
                    ),
                ),
            ),
        )
        for n in range(LINE_ITEMS)
    )  # fmt: skip


def _wait(
    is_done: Callable[[], bool], process: subprocess.Popen[bytes], timeout_s: float = 120.0
) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_done():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"a server of the bench did not start: {process.args}")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
