"""What a worker counts: rows of a shared file, and moving times."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.metrics import (
    BOUNDS_NS,
    BUCKET_COUNT,
    Stage,
    StageTimes,
    map_metrics,
    memory_metrics,
    quantile_ns,
    row_dtype,
)
from market.errors import Corrupt
from market.exchange import DEFAULT_EXCHANGES


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
