"""What a worker counts: rows of a shared file, moving times, and the page that a scrape gets."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.metrics import (
    BOUNDS_NS,
    BUCKET_COUNT,
    STATUS_204,
    Gauge,
    Stage,
    StageTimes,
    WorkerMetrics,
    create_metrics_file,
    expose,
    map_metrics,
    memory_metrics,
    quantile_ns,
    row_dtype,
)
from market.control import ControlBlock, Word, WorkerWord
from market.decision import NoBidReason
from market.deployment import Deployment
from market.errors import Corrupt
from market.exchange import DEFAULT_EXCHANGES


@pytest.fixture
def deployment(tmp_path):
    made = Deployment(
        folder=str(tmp_path), bid_port=1, notice_port=2, control_port=3, worker_count=2,
        base_url="", notice_key_hex="11" * 32, user_salt_hex="22" * 16,
    )  # fmt: skip
    made.ring_folder.mkdir()
    return made


@pytest.fixture
def rows(deployment):
    create_metrics_file(deployment.metrics_path, deployment)
    return map_metrics(deployment.metrics_path, deployment)


def page_of(rows, deployment, now_ns=0, words=()):
    block = ControlBlock.create(deployment.control_path)
    for word, value in words:
        block.words[word] = value
    block.worker(1)[WorkerWord.IS_READY] = 1
    text = expose(rows, deployment, block, now_ns).split(b"\r\n\r\n", 1)[1].decode()
    samples = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    assert len({name for name, _ in samples}) == len(samples), "no sample is told twice"
    return {name: float(value) for name, value in samples}


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
    labels = 'worker="0",exchange="default",status="204"'
    assert page[f"lodestone_bid_responses_total{{{labels}}}"] == 2
    labels = 'worker="1",exchange="verbose",reason="overloaded"'
    assert page[f"lodestone_no_bids_total{{{labels}}}"] == 5
    labels = 'worker="1",stage="decide"'
    assert page[f"lodestone_stage_seconds_count{{{labels}}}"] == 1
    assert page[f"lodestone_stage_seconds_sum{{{labels}}}"] == pytest.approx(3e-6)
    assert page[f'lodestone_stage_seconds_bucket{{{labels},le="2e-06"}}'] == 0
    assert page[f'lodestone_stage_seconds_bucket{{{labels},le="5e-06"}}'] == 1
    assert page['lodestone_shed_share{worker="1"}'] == 0.25
    assert page['lodestone_worker_ready{worker="1"}'] == 1


def test_the_silence_of_recorder_and_controller_is_told_once_they_were_heard(rows, deployment):
    second = 1_000_000_000
    assert not any("silence" in name for name in page_of(rows, deployment, 9 * second))
    words = [(Word.RECORDER_BEAT_NS, 4 * second), (Word.CONTROLLER_BEAT_NS, 9 * second)]
    page = page_of(rows, deployment, 9 * second, words)
    assert page['lodestone_silence_seconds{process="recorder"}'] == 5
    assert page['lodestone_silence_seconds{process="controller"}'] == 0


def test_labels_take_their_values_from_fixed_sets(rows, deployment):
    for worker in range(2):
        for row in (rows[worker],):
            row["no_bids"][:, [int(reason) for reason in NoBidReason]] = 1
    page = page_of(rows, deployment)
    exchanges = len(DEFAULT_EXCHANGES)
    assert len(page) < 2 * (exchanges * (4 + 4 + len(NoBidReason)) + len(Stage) * 25) + 100


def test_a_file_for_other_workers_or_exchanges_is_corrupt(rows, deployment):
    fewer = msgspec.structs.replace(deployment, worker_count=1)
    with pytest.raises(Corrupt, match="for 1 workers and 3 exchanges"):
        map_metrics(deployment.metrics_path, fewer)
    deployment.metrics_path.unlink()
    with pytest.raises(Corrupt, match=r"metrics\.bin"):
        map_metrics(deployment.metrics_path, deployment)


@given(st.lists(st.integers(0, 200_000_000), min_size=1, max_size=300))
def test_the_p99_is_at_least_what_99_of_100_took_and_at_most_one_bucket_more(times):
    times = sorted(times)
    row = np.zeros(1, row_dtype(1))[0]
    stages = StageTimes(row)
    for taken in times:
        stages.add(Stage.READ, taken)
    found = quantile_ns(row["stage_counts"][Stage.READ].astype(float), 0.99)
    exact = times[-(-99 * len(times) // 100) - 1]
    assert found >= min(exact, BOUNDS_NS[-1])
    above = [bound for bound in BOUNDS_NS if bound >= exact]
    assert not above or found <= above[0]
    assert row["stage_ns"][Stage.READ] == sum(times)


def test_what_a_stage_took_is_forgotten_by_halves():
    stages = memory_metrics(DEFAULT_EXCHANGES).stages
    assert stages.needs_ns == [0] * len(Stage)
    for _ in range(10):
        stages.add(Stage.RENDER, 40_000_000)
    stages.roll()
    assert stages.needs_ns[Stage.RENDER] == 50_000_000
    for _ in range(20):
        for _ in range(100):
            stages.add(Stage.RENDER, 900)
        stages.roll()
    assert stages.needs_ns[Stage.RENDER] == 1_000
    for _ in range(60):
        stages.roll()
    assert stages.needs_ns == [0] * len(Stage), "nothing lately: nothing to wait for"


def test_one_bad_moment_among_few_times_gives_nothing_up():
    stages = memory_metrics(DEFAULT_EXCHANGES).stages
    for taken in (1_000,) * 20 + (90_000_000,):
        stages.add(Stage.DECIDE, taken)
    stages.roll()
    assert stages.needs_ns[Stage.DECIDE] == 1_000


def test_a_time_falls_into_the_first_bucket_that_holds_it():
    row = np.zeros(1, row_dtype(1))[0]
    stages = StageTimes(row)
    for taken in (1_000, 1_001, 50_000_000, 50_000_001):
        stages.add(Stage.EVENT, taken)
    counts = row["stage_counts"][Stage.EVENT]
    assert np.flatnonzero(counts).tolist() == [0, 1, BUCKET_COUNT - 2, BUCKET_COUNT - 1]
