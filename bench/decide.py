"""``python -m bench decide``: what a decision costs, alone and inside a server, and against numpy.

* ``p50_us``, ``p99_us``: one decision after the other in a process that does nothing else.
* ``in_server_us``: CPU that a decision adds to an ``asyncio.Protocol`` server: the same server with
  and without it, in turns, pinned to one core, the load from this process on another. Both write
  the opportunity into their arrays, as the bidder's edge does.
* ``speedup_over_numpy``: against boolean masks over all line items, one matrix product and an
  argmax; both must name the same line item on every request.

Workloads A and B are those of ``bench.decide_world``.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.decide_reference import Reference
from bench.decide_world import decider_of, read_world, world_of, write_world
from bench.load import drive
from bidder.candidates import Compiler
from market.decision import DECISION_DTYPE
from market.events import EVENT_DTYPE

if TYPE_CHECKING:
    from bench.decide_world import Loaded
    from bidder.decide import Decider

COUNTS = (1_000, 10_000, 100_000)
MAIN_COUNT = 10_000
OPPORTUNITIES = 1_000
CONNECTIONS = 16
LOADED_REQUESTS = 8_000
NUMPY_US_MAX = 300.0


def run(rounds: int) -> dict[str, object]:
    """Returns the figures of both workloads at every size; medians of ``rounds``."""
    found: dict[str, object] = {}
    for name in ("A", "B"):
        for count in COUNTS:
            with tempfile.TemporaryDirectory() as folder:
                found |= {
                    f"{name}_{count}_{key}": value
                    for key, value in _measure(name, count, rounds, Path(folder)).items()
                }
    for key in ("p50_us", "p99_us", "in_server_us", "speedup_over_numpy", "numpy_us"):
        worst = min if key == "speedup_over_numpy" else max
        found[key] = worst(float(str(found[f"{name}_{MAIN_COUNT}_{key}"])) for name in "AB")
    found["in_server_us_100k"] = max(
        float(str(found[f"{name}_100000_in_server_us"])) for name in "AB"
    )
    if float(str(found["numpy_us"])) > NUMPY_US_MAX:
        found["void"] = f"numpy took {found['numpy_us']} us, above {NUMPY_US_MAX}"
    return found


def _measure(name: str, count: int, rounds: int, folder: Path) -> dict[str, object]:
    world = world_of(name, count, OPPORTUNITIES)
    start = time.perf_counter()
    snapshot = Compiler().compile(world.campaigns, world.weights, world.compilation)
    found: dict[str, object] = {"compile_s": round(time.perf_counter() - start, 2)}
    write_world(world, snapshot, folder)
    loaded = read_world(folder)
    decider = decider_of(loaded)
    times = _alone(decider, loaded, rounds)
    found["expressions"] = loaded.snapshot.arrays.expression_first.shape[0] - 1
    found["p50_us"] = round(float(np.median(times)), 2)
    found["p99_us"] = round(float(np.percentile(times, 99)), 2)
    start = time.perf_counter()
    decider.refresh()
    found["refresh_us"] = round(1e6 * (time.perf_counter() - start), 1)
    if count <= MAIN_COUNT:
        found |= _against_numpy(Reference(world), decider, loaded, times)
    found["in_server_us"] = round(_in_server(folder, rounds), 2)
    return found


def _alone(decider: Decider, loaded: Loaded, rounds: int) -> np.ndarray:
    """Returns the time of every decision in microseconds, the median of its rounds."""
    decision, event = np.zeros(1, DECISION_DTYPE), np.zeros(1, EVENT_DTYPE)
    source = loaded.one_by_one
    for n in range(source.count):
        decider.decide_one(source.make(n), decision, event)
    decider.refresh()
    times = np.empty((rounds, source.count))
    for each in times:
        for n in range(source.count):
            one = source.make(n)
            start = time.perf_counter_ns()
            decider.decide_one(one, decision, event)
            each[n] = time.perf_counter_ns() - start
    return np.median(times, axis=0) / 1e3


def _against_numpy(
    reference: Reference, decider: Decider, loaded: Loaded, times: np.ndarray
) -> dict[str, object]:
    decisions, _ = decider.decide(loaded.opportunities)
    spent = np.empty(OPPORTUNITIES)
    differing = 0
    for n in range(OPPORTUNITIES):
        start = time.perf_counter_ns()
        line_item_id = reference.decide(n)
        spent[n] = time.perf_counter_ns() - start
        differing += line_item_id != int(decisions["line_item_id"][n])
    numpy_us = float(np.median(spent)) / 1e3
    return {
        "numpy_us": round(numpy_us, 1),
        "speedup_over_numpy": round(numpy_us / float(np.median(times)), 1),
        "answers_that_differ": differing,
        "answers": OPPORTUNITIES,
        "eligible_p50": int(np.median(reference.eligible)),
        "bid_share": round(float((decisions["reason"] == 0).mean()), 3),
    }


def _in_server(folder: Path, rounds: int) -> float:
    """Returns the median over rounds of (CPU a request with the decision - without it), in us."""
    cores = sorted(os.sched_getaffinity(0))
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.decide_server", str(folder), str(cores[0])],
        stdout=subprocess.PIPE,
    )
    os.sched_setaffinity(0, {cores[-1]})
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        added = [
            _cpu_us(server.pid, port, "/decide") - _cpu_us(server.pid, port, "/plain")
            for _ in range(rounds + 1)
        ][1:]
    finally:
        os.sched_setaffinity(0, cores)
        server.terminate()
        server.wait(10)
    return float(np.median(added))


def _cpu_us(pid: int, port: int, path: str) -> float:
    load = asyncio.run(drive([pid], port, path, [b"{}"] * LOADED_REQUESTS, CONNECTIONS))
    assert set(load.statuses) == {200}, load.statuses
    return load.cpu_us_per_request
