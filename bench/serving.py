"""CPU per bid request of the worker that ships, against a FastAPI endpoint that echoes the body.

Whole path: HTTP, decode, privacy, match over all line items, caps, score, price, reserve, sign,
respond, event. Load: the published bodies of many exchanges (``bench.bodies``), every request one
of 100,000 users, shuffled; line items as ``bench.line_items`` describes them. Servers run on one
core, the load on the other, in turns; ratios are medians over rounds of ratios within a round.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.bodies import bodies, templates
from bench.eligible import eligible_p50
from bench.line_items import campaigns_for
from bench.servers import Workers, closed_loop, compiled, fastapi_echo, fixed_answer, nginx, workers
from bidder.metrics import Stage

if TYPE_CHECKING:
    import numpy.typing as npt

    from bench.load import Load

LINE_ITEMS = 10_000
USERS = 100_000
REQUESTS_PER_ROUND = 20_000
CONNECTIONS = 16
ELIGIBLE_SAMPLE = 2_000
_SEED = 11
_GROWTH = (1_000, 10_000, 100_000)


class Bench(NamedTuple):
    """What every part of the bench shares."""

    bodies: list[bytes]
    rounds: int
    core: int


def run(rounds: int) -> dict[str, object]:
    """Returns the figures of the serving path; see the module for what is run."""
    found, source = templates()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    bench = Bench(bodies(found, REQUESTS_PER_ROUND * 5, USERS, _SEED), rounds, cores[0])
    now_ms = time.time_ns() // 1_000_000
    result: dict[str, object] = {
        "bodies": source,
        "body_bytes_mean": round(statistics.mean(map(len, bench.bodies))),
        "users": USERS,
        "rounds": rounds,
        "requests_per_round": REQUESTS_PER_ROUND,
        "connections": CONNECTIONS,
    }
    campaigns = campaigns_for(found, LINE_ITEMS, _SEED)
    targeted = [
        len(item.targeting.include) + len(item.targeting.exclude)
        for campaign in campaigns
        for item in campaign.line_items
    ]
    result["line_items"] = len(targeted)
    result["dimensions_targeted_p50"] = statistics.median(targeted)
    snapshot = compiled(campaigns, now_ms)
    result["eligible_p50"] = eligible_p50(snapshot, bench.bodies[:ELIGIBLE_SAMPLE])
    with tempfile.TemporaryDirectory() as folder:
        result |= _against_baselines(bench, Path(folder), snapshot)
    result |= _growth(bench, found, now_ms, result)
    if len(cores) > 1:
        with tempfile.TemporaryDirectory() as folder:
            result |= _two_workers(bench, Path(folder), snapshot, cores[:2])
    return result


def _round(bench: Bench, number: int) -> list[bytes]:
    """Returns the bodies of a round: other users than in the round before."""
    at = number * REQUESTS_PER_ROUND % len(bench.bodies)
    return bench.bodies[at : at + REQUESTS_PER_ROUND]


def _against_baselines(bench: Bench, folder: Path, snapshot: object) -> dict[str, object]:
    ours: list[Load] = []
    echoes: list[Load] = []
    fixed: list[Load] = []
    nginxes: list[Load] = []
    stages = np.zeros(0)
    with (
        workers(folder, snapshot, [bench.core]) as worker,  # pyright: ignore[reportArgumentType]
        fastapi_echo(bench.core) as echo,
        fixed_answer(bench.core) as fixed_server,
        nginx(folder, bench.core) as static,
    ):
        for number in range(bench.rounds + 1):
            sent = _round(bench, number)
            loads = [worker.closed_loop(sent, CONNECTIONS), closed_loop(echo, sent, CONNECTIONS)]
            loads.append(closed_loop(fixed_server, sent, CONNECTIONS))
            if static is not None:
                loads.append(closed_loop(static, sent, CONNECTIONS))
            if number == 0:
                stages = worker.stages()
            else:  # the first round warms everything up
                for kept, load in zip((ours, echoes, fixed, nginxes), loads, strict=False):
                    kept.append(load)
        stages = worker.stages() - stages
        half = _half_load(bench, worker, ours)
    requests = sum(sum(load.statuses.values()) for load in ours)
    result: dict[str, object] = {
        "cpu_us_per_request": _median_cpu(ours),
        "fastapi_echo_cpu_us": _median_cpu(echoes),
        "cpu_ratio_to_fastapi_echo": _ratio(ours, echoes),
        "cpu_ratio_to_fastapi_echo_rounds": [
            round(a.cpu_us_per_request / b.cpu_us_per_request, 3)
            for a, b in zip(ours, echoes, strict=True)
        ],
        "echo_cpu_us": _median_cpu(fixed),
        "echo_cpu_ratio_to_fastapi_echo": _ratio(fixed, echoes),
        "bid_share": round(sum(load.statuses.get(200, 0) for load in ours) / requests, 3),
        "statuses": ours[-1].statuses,
        "stages_us": _stages_us(stages, _median_cpu(ours)),
        **half,
    }
    if nginxes:
        result["nginx_cpu_us"] = _median_cpu(nginxes)
        result["transport_cpu_ratio_to_nginx"] = _ratio(fixed, nginxes)
    return result


def _stages_us(stages: npt.NDArray[np.float64], cpu_us: float) -> dict[str, float]:
    """Returns the time of each stage of the worker's own metrics; ``loop`` is what is left.

    The stages are taken by the clock at one request in 16, the total is CPU time of the process:
    where another process took the core for a moment, a stage looks longer than it was.
    """
    found = {
        stage.name.lower(): round(float(ns / count / 1e3), 2)
        for stage, (ns, count) in zip(Stage, stages, strict=True)
        if count
    }
    return {**found, "loop": round(cpu_us - sum(found.values()), 2)}


def _half_load(bench: Bench, worker: Workers, ours: list[Load]) -> dict[str, object]:
    """Open loop at half of the rate that one core can answer."""
    capacity = 1e6 / statistics.median(load.cpu_us_per_request for load in ours)
    sent = _round(bench, 1)
    loads = [worker.open_loop(sent, CONNECTIONS, capacity / 2) for _ in range(bench.rounds)]
    p50 = statistics.median(float(np.percentile(load.latency_us, 50)) for load in loads)
    p99 = statistics.median(float(np.percentile(load.latency_us, 99)) for load in loads)
    return {
        "half_load_per_second": round(capacity / 2),
        "half_load_reached_per_second": round(
            statistics.median(len(sent) / load.seconds for load in loads)
        ),
        "latency_us_p50_at_half_load": round(p50, 1),
        "latency_us_p99_at_half_load": round(p99, 1),
        "p99_over_p50_at_half_load": round(p99 / p50, 2),
    }


def _growth(
    bench: Bench, found: object, now_ms: int, sofar: dict[str, object]
) -> dict[str, object]:
    """CPU of the whole path by number of line items."""
    cpu: dict[int, float] = {}
    for count in _GROWTH:
        if count == LINE_ITEMS:
            cpu[count] = float(sofar["cpu_us_per_request"])  # pyright: ignore[reportArgumentType]
            continue
        snapshot = compiled(campaigns_for(found, count, _SEED), now_ms)  # pyright: ignore[reportArgumentType]
        with (
            tempfile.TemporaryDirectory() as folder,
            workers(Path(folder), snapshot, [bench.core]) as worker,
        ):
            loads = [
                worker.closed_loop(_round(bench, number), CONNECTIONS)
                for number in range(bench.rounds + 1)
            ]
        cpu[count] = _median_cpu(loads[1:])
    return {
        "cpu_us_by_line_items": {str(count): us for count, us in cpu.items()},
        "growth_1k_to_10k": round(cpu[10_000] / cpu[1_000], 2),
        "growth_10k_to_100k": round(cpu[100_000] / cpu[10_000], 2),
    }


def _two_workers(
    bench: Bench, folder: Path, snapshot: object, cores: list[int]
) -> dict[str, object]:
    """CPU per request of one worker and of two at the same rate each, in an open loop."""
    one_folder, two_folder = folder / "one", folder / "two"
    one_folder.mkdir()
    two_folder.mkdir()
    ratios: list[float] = []
    with (
        workers(one_folder, snapshot, cores[:1]) as one,  # pyright: ignore[reportArgumentType]
        workers(two_folder, snapshot, cores) as two,  # pyright: ignore[reportArgumentType]
    ):
        rate = 3_000.0
        for number in range(bench.rounds + 1):
            sent = _round(bench, number)
            half = sent[: len(sent) // 2]
            alone = one.open_loop(half, CONNECTIONS, rate)
            both = two.open_loop(sent, 2 * CONNECTIONS, 2 * rate)
            if number:
                ratios.append(both.cpu_us_per_request / alone.cpu_us_per_request)
    return {"cpu_per_request_2_workers_over_1": round(statistics.median(ratios), 3)}


def _median_cpu(loads: list[Load]) -> float:
    return round(statistics.median(load.cpu_us_per_request for load in loads), 2)


def _ratio(ours: list[Load], theirs: list[Load]) -> float:
    return round(
        statistics.median(
            a.cpu_us_per_request / b.cpu_us_per_request for a, b in zip(ours, theirs, strict=True)
        ),
        3,
    )
