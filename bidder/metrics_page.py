"""What a worker's ``GET /metrics`` tells: the rows of all workers, and how the engine is.

Rows are ``bidder.metrics``; the format is ``ledger.exposition``. Apart from them, because whoever
answers bids without a port (a replay, the twin) counts but shows no page.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.utils import floatToGoString

from bidder.metrics import BOUNDS_NS, SAMPLE_EVERY, STATUSES, Gauge, Stage, silences
from bidder.native.wire import Bail
from ledger import progress
from market.control import WorkerWord
from market.decision import NoBidReason
from market.opportunity import Format

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from prometheus_client import Metric

    from market.control import ControlBlock
    from market.deployment import Deployment

_BOUNDS: Final = (*(floatToGoString(bound / 1e9) for bound in BOUNDS_NS), "+Inf")

_GAUGES: Final = (
    (Gauge.SHED_SHARE_PPM, "lodestone_shed_share", 1e-6, "Share refused for overload now."),
    (Gauge.LAG_NS, "lodestone_loop_lag_seconds", 1e-9, "Smallest lag of the last 100 ms."),
    (Gauge.EVENTS_WAITING, "lodestone_ring_events", 1, "Events the recorder has not taken."),
    (Gauge.EVENTS_CAPACITY, "lodestone_ring_capacity", 1, "Room for them; full: no bid."),
    (Gauge.BUDGETS, "lodestone_budgets", 1, "Budgets of the snapshot."),
    (Gauge.BUDGETS_FUNDED, "lodestone_budgets_funded", 1, "Budgets with money left."),
)
_WORDS: Final = (
    (WorkerWord.IS_READY, "lodestone_worker_ready", 1, "1: it answers bids."),
    (WorkerWord.SNAPSHOT_VERSION, "lodestone_snapshot_version", 1, "The snapshot it serves."),
    (WorkerWord.CPU_NS, "lodestone_worker_cpu_seconds", 1e-9, "CPU since it became ready."),
    (WorkerWord.SNAPSHOTS_REFUSED, "lodestone_snapshots_refused", 1, "Damaged snapshots."),
)


class Counted(NamedTuple):
    """What a page is made from.

    Attributes:
        rows: [workers] of ``bidder.metrics.row_dtype``.
        deployment: names of the exchanges.
        block: whether workers are ready, and when recorder and controller last gave a sign.
        now_ns: the machine's monotonic clock.
    """

    rows: npt.NDArray[np.void]
    deployment: Deployment
    block: ControlBlock
    now_ns: int

    def workers(self) -> Iterator[tuple[str, np.void]]:
        """Yields (label, row) of every worker."""
        for worker, row in enumerate(self.rows):
            yield str(worker), row

    def meters(self, counts: str) -> Iterator[tuple[str, str, list[int]]]:
        """Yields (worker, exchange, counts) of a field that has a row for each exchange."""
        names = [profile.name for profile in self.deployment.exchanges]
        for worker, row in self.workers():
            for exchange, found in zip(names, row[counts].tolist(), strict=True):
                yield worker, exchange, found


def families(counted: Counted) -> Iterator[Metric]:
    """Yields everything that ``GET /metrics`` of any worker tells."""
    yield from _answers(counted)
    yield from _stages(counted)
    yield from _gauges(counted)
    yield from progress.families(counted.block.words, counted.now_ns)


def _answers(counted: Counted) -> Iterator[Metric]:
    responses = CounterMetricFamily(
        "lodestone_bid_responses_total", "Answers to bid requests, by HTTP status.",
        labels=("worker", "exchange", "status"),
    )  # fmt: skip
    for worker, exchange, counts in counted.meters("responses"):
        for status, count in zip(STATUSES, counts, strict=True):
            responses.add_metric((worker, exchange, str(status)), count)
    yield responses

    bids = CounterMetricFamily(
        "lodestone_bids_total", "Imps that got a bid, by format of the creative.",
        labels=("worker", "exchange", "format"),
    )  # fmt: skip
    for worker, exchange, counts in counted.meters("bids"):
        for bit, count in enumerate(counts):
            bids.add_metric((worker, exchange, _format_name(bit)), count)
    yield bids

    no_bids = CounterMetricFamily(
        "lodestone_no_bids_total",
        "Imps, or whole requests, without a bid, by reason; those that never occurred are absent.",
        labels=("worker", "exchange", "reason"),
    )
    for worker, exchange, counts in counted.meters("no_bids"):
        for reason, count in enumerate(counts):
            if count:
                no_bids.add_metric((worker, exchange, NoBidReason(reason).name.lower()), count)
    yield no_bids

    left = CounterMetricFamily(
        "lodestone_left_to_default_total",
        "Requests that the native path left to the default one, by what it met.",
        labels=("worker", "cause"),
    )
    for worker, row in counted.workers():
        for cause in np.flatnonzero(row["left"]).tolist():
            left.add_metric((worker, Bail(cause).name.lower()), int(row["left"][cause]))
    yield left


def _stages(counted: Counted) -> Iterator[Metric]:
    times = HistogramMetricFamily(
        "lodestone_stage_seconds",
        f"Time of each stage of an answer, taken at one request in {SAMPLE_EVERY}.",
        labels=("worker", "stage"),
    )
    late = CounterMetricFamily(
        "lodestone_given_up_total",
        "Requests given up because too little time was left before this stage.",
        labels=("worker", "stage"),
    )
    for worker, row in counted.workers():
        for stage in Stage:
            labels = (worker, stage.name.lower())
            below = accumulate(row["stage_counts"][stage].tolist())
            buckets = list(zip(_BOUNDS, below, strict=True))
            times.add_metric(labels, buckets, int(row["stage_ns"][stage]) / 1e9)
            late.add_metric(labels, int(row["late"][stage]))
    yield times
    yield late


def _gauges(counted: Counted) -> Iterator[Metric]:
    for gauge, name, scale, text in _GAUGES:
        family = GaugeMetricFamily(name, text, labels=("worker",))
        for worker, row in counted.workers():
            family.add_metric((worker,), int(row["gauges"][gauge]) * scale)
        yield family
    for word, name, scale, text in _WORDS:
        family = GaugeMetricFamily(name, text, labels=("worker",))
        for worker in range(counted.rows.shape[0]):
            family.add_metric((str(worker),), counted.block.worker(worker)[word] * scale)
        yield family
    silence = GaugeMetricFamily(
        "lodestone_silence_seconds",
        "Time since this process last gave a sign; workers bid on from leases and snapshot.",
        labels=("process",),
    )
    for name, silence_s in silences(counted.block, counted.now_ns):
        silence.add_metric((name,), silence_s)
    yield silence


def _format_name(bit: int) -> str:
    return str(Format(1 << bit).name).lower()
