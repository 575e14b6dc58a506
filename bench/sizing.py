"""What a deployment of a given size needs, computed from what one core does here.

    python -m bench sizing --json > deploy/figures.json     # measures, about two minutes
    python -m bench.sizing deploy/figures.json > docs/sizing.md

The page is arithmetic over measured figures and stated assumptions; a test holds the page in
``docs`` to the figures in ``deploy``. Beyond one machine it is a sum on paper, and says so.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from bench import store
from bench.bodies import bodies, templates
from bench.line_items import campaigns_for
from bench.servers import compiled, workers
from ledger.allotment import REPORT_MS
from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.record import Recorder
from ledger.segment import SegmentWriter
from market.events import EVENT_DTYPE, EventKind
from market.exchange import DEFAULT_EXCHANGES

LINE_ITEMS: Final = 10_000
REQUESTS: Final = 6_000
CONNECTIONS: Final = 16
RECORDED: Final = 200_000
RECORDED_BATCH: Final = 1_000
RATES: Final = (1_000, 10_000, 100_000, 1_000_000)
_SEED: Final = 11
_DAY_S: Final = 86_400


class Figures(msgspec.Struct, frozen=True):
    """What was measured, on one core each; CPU in microseconds."""

    request_cpu_us: float
    recorder_cpu_us_per_event: float
    log_bytes_per_event: float
    load_cpu_us_per_event: float
    merge_cpu_us_per_event: float
    rollup_cpu_us_per_event: float
    table_bytes_per_event: float
    rollup_rows_per_day: int
    rollup_bytes_per_row: float
    postgres_statements_per_s: float
    machine: str
    """What it was measured on, and how busy that was."""


class Assumptions(msgspec.Struct, frozen=True):
    """What is taken for granted, and can be changed."""

    bid_share: float = 0.3
    """Of requests."""
    win_rate: float = 0.1
    """Of bids."""
    loss_share: float = 0.5
    """Of lost bids whose exchange says so."""
    click_rate: float = 0.005
    """Of impressions."""
    no_bid_sample_rate: float = 1 / 64
    core_use: float = 0.6
    """Of a core that is planned with; the rest is for peaks and failures."""
    cores_per_machine: int = 16
    budgets_per_machine: int = 2_000
    """Of those that machines share: bid on all the time."""
    log_days: int = 3
    """Segments and Kafka."""
    kafka_copies: int = 3
    event_days: int = 90
    hour_days: int = 760


class Size(msgspec.Struct, frozen=True):
    """What one rate needs."""

    requests_per_s: int
    events_per_s: float
    worker_cores: int
    recorder_cores: int
    machines: int
    loader_cores: int
    log_mb_per_s: float
    kafka_tb: float
    events_tb: float
    hours_gb: float
    settlements_per_s: float
    statements_per_s: float
    postgres_use: float
    """Of the one server that owns the shared budgets; above 1 it does not keep up."""


def run(rounds: int) -> dict[str, object]:
    """Measures; see ``Figures``."""
    stored = store.run(rounds)
    figures = Figures(
        request_cpu_us=_request_cpu_us(rounds),
        recorder_cpu_us_per_event=_recorder_cpu_us(),
        machine=(
            f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the end: other work "
            "ran beside it, so CPU is a little high and rates are low"
        ),
        **{name: stored[name] for name in Figures.__struct_fields__ if name in stored},  # pyright: ignore[reportArgumentType]
    )
    return msgspec.to_builtins(figures)


def size_of(rate: int, figures: Figures, assumed: Assumptions) -> Size:
    """Returns what ``rate`` requests a second need."""
    bids = rate * assumed.bid_share
    wins = bids * assumed.win_rate
    events = (
        bids
        + wins * (2 + assumed.click_rate)  # billing notice and impression
        + (bids - wins) * assumed.loss_share
        + (rate - bids) * assumed.no_bid_sample_rate
    )

    def cores(cpu_us_per_s: float) -> int:
        return max(1, math.ceil(cpu_us_per_s / 1e6 / assumed.core_use))

    worker_cores = cores(rate * figures.request_cpu_us)
    recorder_cores = cores(events * figures.recorder_cpu_us_per_event)
    machines = math.ceil((worker_cores + recorder_cores) / assumed.cores_per_machine)
    statements = machines * assumed.budgets_per_machine * 1000 / REPORT_MS
    log_bytes = events * figures.log_bytes_per_event
    return Size(
        requests_per_s=rate,
        events_per_s=events,
        worker_cores=worker_cores,
        recorder_cores=recorder_cores,
        machines=machines,
        loader_cores=cores(
            events
            * (
                figures.load_cpu_us_per_event
                + figures.merge_cpu_us_per_event
                + figures.rollup_cpu_us_per_event
            )
        ),
        log_mb_per_s=log_bytes / 1e6,
        kafka_tb=log_bytes * _DAY_S * assumed.log_days * assumed.kafka_copies / 1e12,
        events_tb=events * figures.table_bytes_per_event * _DAY_S * assumed.event_days / 1e12,
        hours_gb=figures.rollup_rows_per_day
        * figures.rollup_bytes_per_row
        * assumed.hour_days
        / 1e9,
        settlements_per_s=wins,
        statements_per_s=statements,
        postgres_use=statements / figures.postgres_statements_per_s,
    )


def page_of(figures: Figures, assumed: Assumptions) -> str:
    """Returns the page, in Markdown."""
    sizes = [size_of(rate, figures, assumed) for rate in RATES]
    heads = [
        "requests/s", "events/s", "worker cores", "recorder cores", "machines", "store cores",
        "log MB/s", "Kafka TB", "events TB", "hours GB", "settlements/s", "statements/s",
        "PostgreSQL use",
    ]  # fmt: skip
    rows = [
        [
            f"{size.requests_per_s:,}", f"{size.events_per_s:,.0f}", f"{size.worker_cores:,}",
            f"{size.recorder_cores:,}", f"{size.machines:,}", f"{size.loader_cores:,}",
            f"{size.log_mb_per_s:,.1f}", f"{size.kafka_tb:,.2f}", f"{size.events_tb:,.2f}",
            f"{size.hours_gb:,.2f}", f"{size.settlements_per_s:,.0f}",
            f"{size.statements_per_s:,.0f}", f"{size.postgres_use:.0%}",
        ]
        for size in sizes
    ]  # fmt: skip
    measured = [
        f"| {name} | {value} |"
        for name, value in msgspec.to_builtins(figures).items()
        if name != "machine"
    ]
    assumptions = [f"| {name} | {value:.6g} |" for name, value in _numbers(assumed).items()]
    return "\n".join(
        [
            "# How large a deployment must be",
            "",
            "Written by `python -m bench.sizing deploy/figures.json`; the figures are measured by",
            "`python -m bench sizing --json > deploy/figures.json`. One machine was measured; more",
            "than one is a sum on paper.",
            "",
            "| " + " | ".join(heads) + " |",
            "|" + "---:|" * len(heads),
            *("| " + " | ".join(row) + " |" for row in rows),
            "",
            f"Measured on {figures.machine}:",
            "",
            "| figure | |",
            "|---|---:|",
            *measured,
            "",
            "Assumed (`bench.sizing.Assumptions`):",
            "",
            "| assumption | |",
            "|---|---:|",
            *assumptions,
            "",
            "## How it is computed",
            "",
            "- events = bids + wins x (billing + impression + click_rate) + losses that are told +",
            "  sampled no-bids; a win costs two notices more, a no-bid a 64th of a record.",
            "- cores = rate x CPU per request or event / core_use, rounded up. Workers and the",
            "  recorder share a machine; each machine has one recorder.",
            "- store cores: load, merge and roll-up of every event, once. Questions come on top.",
            "- log: a fixed record per event, before Kafka's compression; Kafka keeps log_days of",
            "  it, in kafka_copies.",
            "- events TB: the table on disk after merges, for event_days; hours GB: the roll-up of",
            "  one such tenant set, which grows with creatives and hours, not with traffic.",
            "- settlements happen in each machine's recorder. Where machines share budgets, each",
            f"  says what it did and asks for more every {REPORT_MS // 1000} s per active budget",
            "  (statements/s; `ledger.allotment`), whatever the number of bids. All go to one",
            "  PostgreSQL server; PostgreSQL use is their share of what it took with four nodes",
            "  that draw on the same budgets. Campaigns of one machine alone need no server.",
            "",
        ]
    )


def _numbers(assumed: Assumptions) -> dict[str, float]:
    return {name: getattr(assumed, name) for name in assumed.__struct_fields__}


def _request_cpu_us(rounds: int) -> float:
    """CPU of a bid worker per request: the load of ``bench.serving``, nothing beside it."""
    found, _ = templates()
    sent = bodies(found, REQUESTS, 100_000, _SEED)
    now_ms = time.time_ns() // 1_000_000
    snapshot = compiled(campaigns_for(found, LINE_ITEMS, _SEED), now_ms)
    cores = sorted(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory() as folder,
        workers(Path(folder), snapshot, [cores[0]]) as own,
    ):
        loads = [own.closed_loop(sent, CONNECTIONS) for _ in range(rounds + 1)]
    return round(statistics.median(load.cpu_us_per_request for load in loads[1:]), 2)


def _recorder_cpu_us() -> float:
    """CPU of the recorder's core per event: reservation and log, on the disk here."""
    rng = np.random.default_rng(_SEED)
    events = np.zeros(RECORDED, EVENT_DTYPE)
    events["kind"] = EventKind.BID
    for name in ("bid_hi", "bid_lo", "opportunity_hi", "opportunity_lo"):
        events[name] = rng.integers(0, 2**64, RECORDED, np.uint64)
    events["deadline_ms"] = 1_000_000
    events["budgets"][:, 0] = 1
    with tempfile.TemporaryDirectory() as folder:
        core = Recorder(DEFAULT_EXCHANGES, 1)
        with SegmentWriter(Path(folder), RealDisk(), EVENT_LOG) as writer:
            core.write_to(writer)
            core.ledger.define(store.budgets())
            core.step(0)
            begun = time.process_time()
            for at in range(0, RECORDED, RECORDED_BATCH):
                core.take_bids(events[at : at + RECORDED_BATCH], 0)
                core.commit()
            spent = time.process_time() - begun
    return round(1e6 * spent / RECORDED, 3)


def main(arguments: list[str]) -> int:
    """Writes the page of the figures in a file to standard output."""
    figures = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=Figures)
    sys.stdout.write(page_of(figures, Assumptions()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
