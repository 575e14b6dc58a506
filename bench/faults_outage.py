"""What nobody on the bid path waits for goes down: broker and store; or the recorder hangs.

The whole way runs: workers, recorder, shipper, Apache Kafka, loader, ClickHouse. Windows with the
fault and without alternate under a steady light load, and the p99 that the worker itself measured
in each is compared within its pair; a pair is begun by turns with either.
"""

from __future__ import annotations

import signal
import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.faults_engine import Engine, Traffic, campaigns_with, wait_for
from bench.faults_log import events_of, key_of, money
from bench.faults_pipeline import counted
from bidder.metrics import BOUNDS_NS, map_metrics
from ledger.clickhouse import address_of
from market.campaign import Budget
from market.events import EventFlag, EventKind
from tests.ledger.brokers import Broker
from tests.ledger.stores import ClickHouseServer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

_PER_SECOND = 300.0
_ENDLESS_MICROS = 10**13
_CATCH_UP_S = 600.0


class Windows(NamedTuple):
    """How long each of the windows is, how many pairs of them, how long the long outage."""

    seconds: float
    pairs: int
    outage_s: float


def outage(folder: Path, sent: list[bytes], windows: Windows, seed: int) -> dict[str, object]:
    """Kills the broker and the store in every other window, and then for the long outage.

    Lost is what was acknowledged and is not in the store after it caught up; how long that takes
    counts from the end of the long outage, the start of both servers included.
    """
    for name in ("broker", "clickhouse"):
        (folder / name).mkdir(parents=True)
    broker = Broker(folder / "broker")
    server = ClickHouseServer(folder / "clickhouse")
    engine = Engine(
        folder / "run", campaigns_with([Budget(lifetime_micros=_ENDLESS_MICROS)]),
        kafka_servers=broker.servers, kafka_topic=broker.create_topic("outage"),
        analytics_url=server.new_database(),
    )  # fmt: skip
    address = address_of(engine.deployment.analytics_url)
    children: list[subprocess.Popen[bytes]] = []
    try:
        engine.start()
        children = [engine.spawn(f"ledger.{name}") for name in ("shipper", "kafka_loader")]
        traffic = Traffic(engine, sent, _PER_SECOND, seed).start()
        wait_for("the first load", lambda: counted(address).events > 0, 60, traffic.errors)

        def down() -> None:
            broker.kill()
            server.kill()

        def up() -> None:
            broker.start()
            server.start()

        def caught_up() -> None:
            told = len(traffic.acked)
            wait_for(
                "catching up", lambda: counted(address).events >= told, _CATCH_UP_S, traffic.errors
            )

        ratios = _ratios(engine, windows, down, up, caught_up)
        down()
        before = traffic.told_count
        time.sleep(windows.outage_s)
        during = traffic.told_count - before
        began = time.monotonic()
        up()
        caught_up()
        catch_up_s = time.monotonic() - began
        traffic.stop()
        wait_for(
            "the rest of the load",
            lambda: counted(address).events >= len(traffic.acked), _CATCH_UP_S, (),
        )  # fmt: skip
        stored = counted(address)
        found = money(engine.deployment.segment_folder, traffic.acked, engine.ledger().budgets)
    finally:
        for child in children:
            child.kill()
            child.wait()
        engine.stop()
        server.stop()
        broker.stop()
    logged = {
        key_of(event): int(event["amount_micros"])
        for event in events_of(engine.deployment.segment_folder)
        if int(event["flags"]) & EventFlag.CHARGED
    }
    return {
        "outage_s": windows.outage_s,
        "notices_acked_meanwhile": during,
        "catch_up_s": round(catch_up_s, 1),
        "catch_up_ratio": round(catch_up_s / windows.outage_s, 2),
        "bids_answered": len(traffic.answered),
        **found,
        "money_events_lost": found["money_events_lost"] + max(0, len(logged) - stored.events),
        "duplicates_after_dedup": found["duplicates_after_dedup"]
        + max(0, stored.events - len(logged)),
        "wrong_micros": abs(stored.micros - sum(logged.values())),
        **ratios,
    }


def hung_recorder(
    folder: Path, sent: list[bytes], windows: Windows, seed: int
) -> dict[str, object]:
    """SIGSTOP for the windows with the fault: workers bid on from leases, notices wait."""
    engine = Engine(folder, campaigns_with([Budget(lifetime_micros=_ENDLESS_MICROS)])).start()
    try:
        assert engine.recorder is not None
        recorder = engine.recorder
        traffic = Traffic(engine, sent, _PER_SECOND, seed).start()
        wait_for("the first notice", lambda: traffic.told_count > 0, 60, traffic.errors)
        bids = 0

        def stop() -> None:
            nonlocal bids
            bids -= len(traffic.answered)
            recorder.send_signal(signal.SIGSTOP)

        def go_on() -> None:
            nonlocal bids
            recorder.send_signal(signal.SIGCONT)
            bids += len(traffic.answered)

        def caught_up() -> None:
            since = time.monotonic()
            wait_for(
                "catching up", lambda: not traffic.is_behind(since), _CATCH_UP_S, traffic.errors
            )

        ratios = _ratios(engine, windows, stop, go_on, caught_up)
        stop()
        time.sleep(windows.outage_s)
        go_on()
        began = time.monotonic()
        caught_up()
        catch_up_s = time.monotonic() - began
        traffic.stop()
        view = engine.ledger()
    finally:
        if engine.recorder is not None:
            engine.recorder.send_signal(signal.SIGCONT)
        engine.stop()
    logged = {
        key_of(event)
        for event in events_of(engine.deployment.segment_folder)
        if event["kind"] == EventKind.BID
    }
    return {
        "hung_s": windows.outage_s,
        "bids_meanwhile": bids,
        "bids_answered": len(traffic.answered),
        "bids_lost": sum(key not in logged for key in traffic.answered),
        "notices_refused": sum(traffic.refused.values()),
        "catch_up_s": round(catch_up_s, 1),
        "catch_up_ratio": round(catch_up_s / windows.outage_s, 2),
        **money(engine.deployment.segment_folder, traffic.acked, view.budgets),
        **ratios,
    }


def _ratios(
    engine: Engine,
    windows: Windows,
    begin: Callable[[], None],
    end: Callable[[], None],
    caught_up: Callable[[], None],
) -> dict[str, object]:
    """Measures pairs of windows; the fault begins before its window and ends after it.

    What it left behind is caught up with before the next window: the work of catching up is no
    window's, least of all that of one without a fault.
    """
    rows = map_metrics(engine.deployment.metrics_path, engine.deployment)
    ratios: list[float] = []
    p99s: dict[bool, list[float]] = {False: [], True: []}
    timed = 0
    for pair in range(windows.pairs):
        found: dict[bool, float] = {}
        for is_faulty in (False, True) if pair % 2 else (True, False):
            if is_faulty:
                begin()
            before = _counts(rows)
            time.sleep(windows.seconds)
            taken = _counts(rows) - before
            if is_faulty:
                end()
                caught_up()
            found[is_faulty] = p99_us(taken)
            p99s[is_faulty].append(round(found[is_faulty]))
            timed += int(taken.sum(axis=1).max())
        if found[False] > 0:
            ratios.append(found[True] / found[False])
    return {
        "window_s": windows.seconds,
        "requests_timed": timed,
        "p99_us_with_fault": p99s[True],
        "p99_us_without": p99s[False],
        "p99_ratio": round(statistics.median(ratios), 3) if ratios else None,
        "p99_ratios": [round(ratio, 3) for ratio in ratios],
    }


def _counts(rows: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    return rows["stage_counts"].sum(axis=0).copy()


def p99_us(counts: npt.NDArray[np.int64]) -> float:
    """Returns the p99 of an answer within the server: the sum of its stages' p99.

    Args:
        counts: [stages, buckets] of ``bidder.metrics``; within a bucket times are taken to lie
            evenly, as Prometheus' ``histogram_quantile`` does.
    """
    edges = np.array([0, *BOUNDS_NS, 2 * BOUNDS_NS[-1]], np.float64)
    total = 0.0
    for stage in counts:
        if stage.sum():
            reached = np.concatenate([[0], np.cumsum(stage)]) / stage.sum()
            total += float(np.interp(0.99, reached, edges))
    return total / 1e3
