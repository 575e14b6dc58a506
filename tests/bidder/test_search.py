"""The search by bounds against the slow twin, whatever has changed since the snapshot was made."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidder.kernels_bound import centre_logits, item_bound, log_sigmoid, near_bound
from bidder.kernels_search import trailing_zeros
from market.decision import NoBidReason
from market.snapshot import GROUP_SIZE
from tests.bidder.test_decide import told
from tests.bidder.worlds import NOW_MS, World, campaigns_of, credits_of, opportunities_of
from tests.reference.decide import Multipliers, plain

pytestmark = pytest.mark.plain

SEEDS = st.integers(0, 2**32)


def rows_of(world):
    ids = [item.line_item_id for campaign in world.campaigns for item in campaign.line_items]
    return {line_item_id: row for row, line_item_id in enumerate(ids)}


def change_everything(rng, world, decider, twin):
    """New multipliers, pauses and budgets for both, as policies and the recorder would set them."""
    multipliers = {
        line_item_id: Multipliers(
            rng.choice((1e-6, 0.2, 1.0, 30.0)), rng.choice((0.0, 0.1, 4.0)),
            rng.choice((1.0, 0.9, 0.3)), rng.random() < 0.7,
        )
        for line_item_id in world.multipliers
    }  # fmt: skip
    twin.multipliers = multipliers
    live = decider._live
    for line_item_id, row in rows_of(world).items():
        live.pacing_lambda[row], live.ratio_mu[row], live.shading_factor[row], is_active = (
            multipliers[line_item_id]
        )
        live.is_active[row] = is_active
    decider.refresh()
    amounts = {budget: rng.choice((-1, 0, 2_000, 10**9)) for budget in world.limits}
    current = decider.available()
    decider.credit(
        credits_of({budget: amounts[budget] - current[budget] for budget in amounts}), NOW_MS
    )
    twin.available = dict(amounts)


@settings(max_examples=25)
@given(SEEDS)
def test_the_winner_is_the_best_also_after_everything_changed_without_a_new_snapshot(seed):
    rng = random.Random(seed)
    world = World(rng, campaign_count=rng.choice((3, 12)))
    decider, twin = world.decider(), world.twin()
    for part in range(3):
        block = opportunities_of(rng, 15)
        decisions, _ = decider.decide(block)
        for n in range(block.records.shape[0]):
            expected = twin.decide(plain(block, n))
            assert told(decisions[n]) == expected, f"part {part}, {n} of seed {seed}"
        change_everything(rng, world, decider, twin)


def a_large_world(rng, campaign_count=700):
    """More than two groups of expressions; line items are so alike that many bids are equal."""
    campaigns = []
    for campaign in campaigns_of(rng, campaign_count):
        items = tuple(
            msgspec.structs.replace(item, bid_cpm_micros_max=rng.choice((900_000, 2_000_000)))
            for item in campaign.line_items
        )
        campaigns.append(msgspec.structs.replace(campaign, line_items=items))
    return World(rng, campaigns=tuple(campaigns))


def test_among_thousands_of_line_items_the_best_wins_and_of_equals_the_lowest_id():
    rng = random.Random(11)
    world = a_large_world(rng)
    decider, twin = world.decider(), world.twin()
    assert decider.snapshot.arrays.index_defaults.shape[0] > 2
    block = opportunities_of(rng, 40)
    decisions, _ = decider.decide(block)
    for n in range(block.records.shape[0]):
        assert told(decisions[n]) == twin.decide(plain(block, n)), f"opportunity {n}"
    assert (decisions["reason"] == NoBidReason.BID).sum() > 10


def test_the_search_looks_at_few_of_the_groups_that_it_could():
    """Bounds are worth their keep: the last group need not be matched to know the winner."""
    rng = random.Random(11)
    world = a_large_world(rng)
    decider = world.decider()
    arrays = decider.snapshot.arrays
    worth = decider._work.bounds.group_values[1]
    assert arrays.expression_first.shape[0] - 1 > 2 * GROUP_SIZE
    assert worth.argmax() == 0
    assert worth.argmin() == worth.shape[0] - 1


@settings(max_examples=10)
@given(SEEDS)
def test_no_line_item_bids_above_its_bounds(seed):
    """Every single bid, made by switching all other line items off."""
    rng = random.Random(seed)
    world = World(rng, campaign_count=4)
    decider = world.decider()
    block = opportunities_of(rng, 12)
    rates = decider.snapshot.arrays.rates_micros[0]
    live, bounds = decider._live, decider._work.bounds
    rows = rows_of(world)
    for row in rows.values():
        live.is_active[:] = 0
        live.is_active[row] = 1
        decider.refresh()
        place = int(np.flatnonzero(bounds.items["row"] == row)[0])
        for n in range(block.records.shape[0]):
            one = block._replace(records=block.records[n : n + 1].copy())
            decision = decider.decide(one)[0][0]
            if decision["reason"] != NoBidReason.BID:
                continue
            currencies = decider.snapshot.arrays.currencies.tolist()
            rate = rates[currencies.index(int(decision["bid_currency"]))]
            rank = int(decision["bid_cpm_micros"]) * int(rate) / 1e6
            item, context = bounds.items[place], decider._work.context
            kind = 1 if one.records["auction_type"][0] != 1 or one.records["deal_count"][0] else 0
            if decider.snapshot.arrays.landscape.shape[0]:
                kind = 1
            if one.records["deal_count"][0] == 0:
                x = int(decider.snapshot.arrays.line_items["expression"][row])
                centre = centre_logits(decider._work, x)
                assert np.log(rank) <= item_bound(item, kind, context, *centre) + 1e-4
                assert np.log(rank) <= near_bound(item, kind, decider._work) + 1e-4
            assert rank <= item["ceiling"] + 1


@given(st.floats(-700, 700), st.floats(-700, 700))
def test_the_log_of_the_logistic_is_below_its_tangents(z, at):
    slope = 1 / (1 + np.exp(min(at, 700)))
    assert log_sigmoid(z) <= log_sigmoid(at) + slope * (z - at) + 1e-9 * (1 + abs(z - at))


@pytest.mark.parametrize("place", range(64))
def test_the_place_of_one_set_bit_is_found(place):
    assert trailing_zeros(np.uint64(1 << place)) == place
