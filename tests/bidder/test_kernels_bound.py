"""Bounds: what they bound is held in ``test_search``; here how they are made and kept."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from tests.bidder.worlds import World, opportunities_of

pytestmark = pytest.mark.plain


def bounds_of(seed=5):
    decider = World(random.Random(seed), campaign_count=12).decider()
    return decider, decider._work.bounds


def test_a_line_item_that_is_switched_off_has_no_bound_and_one_that_is_on_has():
    decider, bounds = bounds_of()
    decider._live.is_active[:] = 0
    decider.refresh()
    assert np.isneginf(bounds.items["value"]).all()
    assert np.isneginf(bounds.group_values).all()
    decider._live.is_active[:] = 1
    decider.refresh()
    can_bid = bounds.items["near_count"] > 0
    assert can_bid.any()
    assert np.isfinite(bounds.items["value"][can_bid]).all()
    assert np.isneginf(bounds.items["value"][~can_bid]).all()


def test_halving_lambda_raises_a_bound_by_the_log_of_two():
    decider, bounds = bounds_of()
    decider._live.is_active[:] = 1
    decider._live.ratio_mu[:] = 0
    decider.refresh()
    before = bounds.items["value"].copy()
    decider._live.pacing_lambda[:] /= 2
    decider.refresh()
    can_bid = bounds.items["near_count"] > 0
    assert np.allclose(bounds.items["value"][can_bid] - before[can_bid], np.log(2))


def test_an_expression_has_the_highest_bound_of_its_line_items_and_a_group_of_its_expressions():
    decider, bounds = bounds_of()
    decider.refresh()
    first = decider.snapshot.arrays.expression_first
    typical = bounds.items["slope"] @ bounds.typical[:, 0] + bounds.reaches @ bounds.typical[:, 1]
    for kind in range(2):
        values = bounds.items["value"][:, kind] + typical
        highest = [values[a:b].max() for a, b in pairwise(first)]
        assert np.allclose(bounds.expressions["value"][:, kind], highest, rtol=1e-6)
        assert np.isclose(bounds.group_values[kind, 0], max(highest), rtol=1e-6)


def test_the_contexts_that_are_met_become_the_typical_one_and_survive_a_swap():
    rng = random.Random(5)
    decider, bounds = bounds_of()
    before = bounds.typical.copy()
    decider.decide(opportunities_of(rng, 30))
    assert (bounds.typical == before).all()
    decider.refresh()
    assert bounds.traffic[0] == 30
    assert np.allclose(bounds.typical[:, 1], bounds.traffic[3:] / 30)
    decider.swap(decider.snapshot)
    assert (decider._work.bounds.traffic == bounds.traffic).all()


def test_groups_are_ordered_by_what_they_could_be_worth():
    _, bounds = bounds_of()
    for kind in range(2):
        values = bounds.group_values[kind][bounds.group_order[kind]]
        assert (np.diff(values) <= 0).all()
        assert sorted(bounds.group_order[kind].tolist()) == list(range(values.shape[0]))
