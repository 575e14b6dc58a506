"""Periods on Ray are the periods of one core, number for number."""

from __future__ import annotations

import numpy as np
import pytest

from policies.training.periods import cut, run_on_ray
from simulator.period import auctionnet
from simulator.period.scenario import read
from simulator.scenario import text_of


def small():
    text, _ = text_of("auctionnet")
    return read(text.replace("opportunity_count = 500_000", "opportunity_count = 3_000"), "small")


def test_periods_on_ray_are_those_of_one_core():
    scenario = small()
    alone = auctionnet.run(scenario, 5, range(5))
    found = run_on_ray(scenario, 5, range(5), cpus=2)
    assert len(found) == 5
    for mine, other in zip(found, alone, strict=True):
        for name, array in mine.accounts._asdict().items():
            assert np.array_equal(array, getattr(other.accounts, name)), name
        for name, array in mine.trace._asdict().items():
            assert np.array_equal(array, getattr(other.trace, name)), name
        assert mine.opportunities == other.opportunities > 2_000


@pytest.mark.parametrize(("count", "cpus", "sizes"), [(5, 2, [1] * 5), (17, 2, [3] * 5 + [2])])
def test_tasks_take_runs_of_periods(count, cpus, sizes):
    assert [len(part) for part in cut(range(count), cpus)] == sizes
