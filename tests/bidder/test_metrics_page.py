"""The page that a scrape of any worker gets."""

from __future__ import annotations

import pytest

from bidder.metrics import (
    STATUS_204,
    Gauge,
    Stage,
    WorkerMetrics,
    map_metrics,
)
from bidder.metrics_page import Counted, families
from ledger.exposition import MetricsPage
from market.control import ControlBlock, Word, WorkerWord
from market.decision import NoBidReason
from market.exchange import DEFAULT_EXCHANGES
from tests.pages import sample, samples_of


def page_of(rows, deployment, now_ns=0, words=()):
    block = ControlBlock.create(deployment.control_path)
    for word, value in words:
        block.words[word] = value
    block.worker(1)[WorkerWord.IS_READY] = 1
    counted = Counted(rows, deployment, block, now_ns)
    page = MetricsPage(lambda: families(counted), lambda: now_ns).answer()
    return samples_of(page.split(b"\r\n\r\n", 1)[1].decode())


def test_whoever_is_asked_tells_of_all_workers(rows, deployment):
    mine = WorkerMetrics(rows[0], deployment.exchanges)
    others = WorkerMetrics(
        map_metrics(deployment.metrics_path, deployment)[1], deployment.exchanges
    )
    mine.meters[1].responses[STATUS_204] += 2
    others.meters[3].no_bids[NoBidReason.OVERLOADED] += 5
    others.stages.add(Stage.DECIDE, 3_000)
    others.gauges[Gauge.SHED_SHARE_PPM] = 250_000
    page = page_of(rows, deployment)
    answered = sample("lodestone_bid_responses_total", worker=0, exchange="default", status=204)
    assert page[answered] == 2
    refused = sample("lodestone_no_bids_total", worker=1, exchange="verbose", reason="overloaded")
    assert page[refused] == 5
    of = {"worker": 1, "stage": "decide"}
    assert page[sample("lodestone_stage_seconds_count", **of)] == 1
    assert page[sample("lodestone_stage_seconds_sum", **of)] == pytest.approx(3e-6)
    assert page[sample("lodestone_stage_seconds_bucket", le="2e-06", **of)] == 0
    for bound in ("5e-06", "0.05", "+Inf"):
        assert page[sample("lodestone_stage_seconds_bucket", le=bound, **of)] == 1
    assert page[sample("lodestone_shed_share", worker=1)] == 0.25
    assert page[sample("lodestone_worker_ready", worker=1)] == 1


def test_the_silence_of_recorder_and_controller_is_told_once_they_were_heard(rows, deployment):
    second = 1_000_000_000
    assert not any("silence" in name for name, _ in page_of(rows, deployment, 9 * second))
    words = [(Word.RECORDER_BEAT_NS, 4 * second), (Word.CONTROLLER_BEAT_NS, 9 * second)]
    page = page_of(rows, deployment, 9 * second, words)
    assert page[sample("lodestone_silence_seconds", process="recorder")] == 5
    assert page[sample("lodestone_silence_seconds", process="controller")] == 0


def test_labels_take_their_values_from_fixed_sets(rows, deployment):
    for worker in range(2):
        for row in (rows[worker],):
            row["no_bids"][:, [int(reason) for reason in NoBidReason]] = 1
    page = page_of(rows, deployment)
    exchanges = len(DEFAULT_EXCHANGES)
    assert len(page) < 2 * (exchanges * (4 + 4 + len(NoBidReason)) + len(Stage) * 25) + 100
