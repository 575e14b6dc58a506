"""Competitors: presence, medians and spreads as the scenario says."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from simulator.competitors import build_rivals
from simulator.kernels import best_rivals
from simulator.supply import scene_key, scenes_of
from tests.simulator.markets import changed, scenario_of

COUNT = 20_000


def lone(**changes):
    """A market with one competitor."""
    scenario = scenario_of()
    rival = msgspec.structs.replace(scenario.competitors[0], **changes)
    return changed(scenario, competitors=(rival,))


def bids_of_rivals(scenario, interest, floor=0):
    rivals = build_rivals(scenario, scenes_of(scenario))
    keys = np.arange(COUNT, dtype=np.uint64)
    zeros = np.zeros(COUNT, np.int32)
    return best_rivals(
        5, keys, keys, zeros, zeros, np.full(COUNT, floor), *rivals, np.array([interest])
    )


def test_a_competitor_is_present_as_often_as_it_says():
    bids = bids_of_rivals(lone(presence=0.3), [0.0] * 4)
    assert abs((bids > 0).mean() - 0.3) <= 4 * np.sqrt(0.3 * 0.7 / COUNT)


def test_bids_are_log_normal_around_the_median():
    bids = bids_of_rivals(lone(presence=1.0, scene_sigma=0.0, sigma=0.4, cpm_median=3.0), [0.0] * 4)
    logs = np.log(bids / 3e6)
    assert abs(logs.mean()) <= 4 * 0.4 / np.sqrt(COUNT)
    assert logs.std() == pytest.approx(0.4, abs=4 * 0.4 / np.sqrt(2 * COUNT))


def test_a_competitor_pays_for_its_interest():
    rival = lone(presence=1.0, sigma=0.0, scene_sigma=0.0, interest="food", interest_weight=0.5)
    plain = bids_of_rivals(rival, [0.0, 0.0, 0.0, 0.0])
    fond = bids_of_rivals(rival, [9.0, 1.0, 9.0, 9.0])
    assert fond[0] == pytest.approx(plain[0] * np.exp(0.5), abs=2)


def test_private_values_belong_to_placements_whatever_the_country():
    scenario = lone(scene_sigma=0.5)
    scenes = scenes_of(scenario)
    values = build_rivals(scenario, scenes).log_cpm[0]
    by_place = {}
    for scene, value in zip(scenes, values.tolist(), strict=True):
        by_place.setdefault(scene_key(scene), set()).add(value)
    assert all(len(own) == 1 for own in by_place.values())
    assert len({value for own in by_place.values() for value in own}) == len(by_place)


def test_a_rival_below_the_floor_does_not_bid():
    bids = bids_of_rivals(lone(presence=1.0), [0.0] * 4, floor=3_000_000)
    assert ((bids == 0) | (bids >= 3_000_000)).all()
    assert 0 < (bids == 0).mean() < 1


def test_a_market_may_have_no_competitor():
    assert not bids_of_rivals(changed(scenario_of(), competitors=()), [0.0] * 4).any()
