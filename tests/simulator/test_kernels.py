"""The twin's kernels against their slow twins; every draw is keyed, so equal means equal."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.chance import Purpose
from market.features import CONTEXT_BUCKETS, CONTEXT_DIMENSIONS
from simulator import kernels
from simulator.scenario import Delivery
from tests.reference import chance, money
from tests.reference import simulator as reference

WORDS = st.integers(0, 2**64 - 1)
SEEDS = st.integers(0, 2**62)
KEYS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6)
SHARES = st.floats(0, 1)
SPANS = st.tuples(st.integers(0, 5_000), st.integers(0, 5_000)).map(sorted).map(tuple)

# The order in which the kernel takes the ranges of delivery.
RANGES = (
    "loss_ms", "win_ms", "billing_ms", "impression_ms", "click_ms", "repeat_ms", "late_ms",
)  # fmt: skip

pytestmark = pytest.mark.plain


def columns(keys):
    table = np.array(keys, np.uint64).reshape(len(keys), 2)
    return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])


@given(SEEDS, st.sampled_from(list(Purpose)), KEYS, st.lists(st.integers(0, 99), max_size=4))
def test_a_table_of_uniform_draws_is_that_of_single_draws(seed, purpose, keys, actors):
    table = kernels.uniform_table(seed, int(purpose), *columns(keys), np.array(actors, np.int64))
    assert table.tolist() == [
        [reference.draws(seed, purpose, key)(actor) for actor in actors] for key in keys
    ]


@given(SEEDS, st.sampled_from(list(Purpose)), KEYS)
def test_a_table_of_normal_draws_is_that_of_single_draws(seed, purpose, keys):
    table = kernels.normal_table(seed, int(purpose), *columns(keys), 3)
    for row, key in zip(table, keys, strict=True):
        expected = [reference.normal(seed, purpose, key, actor) for actor in range(3)]
        assert row == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(SEEDS, st.integers(0, 10**9), st.integers(0, 9))
def test_arrival_offsets_are_draws_of_the_requests_number(seed, first, count):
    offsets = kernels.arrival_offsets(seed, first, count)
    assert offsets.tolist() == [reference.arrival_offset(seed, first + i) for i in range(count)]


@given(SEEDS, KEYS, st.integers(1, 5), st.integers(1, 7), st.data())
def test_arrivals_are_those_of_inverse_transform_sampling(seed, keys, scenes, users, data):
    weights = st.lists(st.floats(0.01, 1), min_size=1, max_size=users)
    scene_cdf = cumulated(data.draw(st.lists(st.floats(0.01, 1), min_size=scenes, max_size=scenes)))
    pools = [cumulated(data.draw(weights)) for _ in range(2)]
    members = [list(range(10 * i, 10 * i + len(pool))) for i, pool in enumerate(pools)]
    of_scene = [data.draw(st.integers(0, 1)) for _ in range(scenes)]
    floors = [(data.draw(st.integers(0, 10**7)), data.draw(SHARES)) for _ in range(scenes)]
    scene, user, floor = kernels.draw_arrivals(
        seed,
        *columns(keys),
        np.zeros(len(keys), np.int64),
        np.array([scene_cdf]),
        np.array(of_scene, np.int32),
        np.array([0, len(pools[0]), len(pools[0]) + len(pools[1])], np.int64),
        np.array(pools[0] + pools[1]),
        np.array(members[0] + members[1], np.int32),
        np.array([mean for mean, _ in floors], np.int64),
        np.array([spread for _, spread in floors], np.float64),
    )
    drawn = list(zip(scene.tolist(), user.tolist(), floor.tolist(), strict=True))
    by_scene = [(pools[i], members[i]) for i in of_scene]
    assert drawn == [reference.arrival(seed, key, scene_cdf, by_scene, floors) for key in keys]


def cumulated(weights):
    shares = np.cumsum(weights) / sum(weights)
    return [*shares[:-1].tolist(), 1.0]


@given(SEEDS, KEYS, st.integers(0, 4), st.integers(0, 3 * 10**6), st.data())
def test_the_best_rival_is_the_highest_bid_that_reaches_the_floor(seed, keys, rivals, floor, data):
    unit = st.floats(-1, 1)
    presence = [data.draw(SHARES) for _ in range(rivals)]
    sigma = [data.draw(st.floats(0, 1)) for _ in range(rivals)]
    log_cpm = [data.draw(unit) for _ in range(rivals)]
    taste = [[data.draw(unit), data.draw(unit)] for _ in range(rivals)]
    interest = [data.draw(unit), data.draw(unit)]
    found = kernels.best_rivals(
        seed,
        *columns(keys),
        np.zeros(len(keys), np.int32),
        np.zeros(len(keys), np.int32),
        np.full(len(keys), floor),
        np.array(presence, np.float64),
        np.array(log_cpm, np.float64).reshape(rivals, 1),
        np.array(taste, np.float64).reshape(rivals, 2),
        np.array(sigma, np.float64),
        np.array([interest]),
    )
    means = [
        base + own[0] * interest[0] + own[1] * interest[1]
        for base, own in zip(log_cpm, taste, strict=True)
    ]
    expected = [
        reference.best_rival(seed, key, floor, list(zip(presence, means, sigma, strict=True)))
        for key in keys
    ]
    # exp() of two libraries may differ in the last bit, and with it the last micro.
    for mine, theirs in zip(found.tolist(), expected, strict=True):
        assert abs(mine - theirs) <= 1


@given(st.lists(st.floats(-3, 3), min_size=14, max_size=14), SHARES)
def test_probabilities_are_logistic_in_user_scene_ad_and_match(numbers, view):
    intercept, scale, user, scene, ad, appeal = (numbers[2 * i : 2 * i + 2] for i in range(6))
    interest = numbers[12:14]
    found = kernels.response_probabilities(
        *(np.zeros(1, np.int32) for _ in range(3)),
        np.array(intercept),
        np.array(scale),
        np.array(user).reshape(2, 1),
        np.array(scene).reshape(2, 1),
        np.array(ad).reshape(2, 1),
        np.array([[[appeal[0], appeal[1]]], [[appeal[1], appeal[0]]]]),
        np.array([interest]),
        np.array([view]),
    )
    match = [
        interest[0] * appeal[0] + interest[1] * appeal[1],
        interest[0] * appeal[1] + interest[1] * appeal[0],
    ]
    odds = [
        intercept[kind] + user[kind] + scene[kind] + ad[kind] + scale[kind] * match[kind]
        for kind in (0, 1)
    ]
    expected = [view, reference.logistic(odds[0]), reference.logistic(odds[1])]
    assert [part[0] for part in found] == pytest.approx(expected, rel=1e-9)


@given(SEEDS, KEYS, SHARES, SHARES, SHARES)
def test_a_user_clicks_only_what_it_saw_and_converts_only_after_a_click(
    seed, keys, view, click, conversion
):
    steps = [np.full(len(keys), share) for share in (view, click, conversion)]
    found = kernels.draw_responses(seed, *columns(keys), *steps)
    expected = [reference.response(seed, key, view, click, conversion) for key in keys]
    assert list(zip(*(part.astype(bool).tolist() for part in found), strict=True)) == expected


@given(SEEDS, KEYS, st.floats(1, 10**7), st.floats(0, 2), SPANS, st.floats(0, 1))
def test_orders_come_after_a_log_normal_time_with_a_log_normal_value(
    seed, keys, median, sigma, bounds, value_sigma
):
    delay, factor = kernels.draw_orders(
        seed, *columns(keys), np.array([median, sigma, *bounds], np.float64), value_sigma
    )
    for i, key in enumerate(keys):
        at, worth = reference.order(seed, key, median, sigma, *bounds, value_sigma)
        assert abs(delay[i] - at) <= 1
        assert factor[i] == pytest.approx(worth, rel=1e-12)


@given(SHARES.filter(lambda u: u < 1), SPANS)
def test_a_spread_stays_within_its_bounds(u, bounds):
    found = kernels.spread_between(u, *bounds)
    assert found == reference.between(u, bounds)
    assert bounds[0] <= found <= bounds[1]


@given(
    SEEDS, KEYS, st.lists(st.integers(0, 3), min_size=6, max_size=6), st.tuples(SHARES, SHARES),
    SHARES, st.lists(SPANS, min_size=7, max_size=7), st.integers(1, 2_000),
)  # fmt: skip
def test_notices_are_scheduled_as_the_rules_of_delivery_say(
    seed, keys, outcomes, held, repeated, spans, slice_ms
):
    delivery = Delivery(
        **dict(zip(RANGES, spans, strict=True)),
        repeated_share=repeated,
        delayed_share=held[0],
        late_share=held[1],
    )
    arrival, deadline, delay = 10**12, 10**12 + 20_000, 777
    count = len(keys)
    due, bid, kind, copy, how = kernels.schedule_notices(
        seed,
        slice_ms,
        np.array([repeated, *held]),
        np.array(spans, np.int64),
        *columns(keys),
        np.full(count, arrival),
        np.full(count, deadline),
        np.array(outcomes[:count], np.uint8),
        np.full(count, delay),
    )
    rows = list(zip(due.tolist(), kind.tolist(), copy.tolist(), how.tolist(), strict=True))
    for i, key in enumerate(keys):
        mine = sorted(row for row, b in zip(rows, bid.tolist(), strict=True) if b == i)
        assert mine == sorted(
            reference.notices(seed, key, delivery, slice_ms, arrival, deadline, outcomes[i], delay)
        )


@given(
    st.lists(
        st.tuples(st.integers(0, 10**10), st.integers(0, 10**9), st.integers(1, 2 * 10**6)),
        max_size=5,
    )
)
def test_amounts_are_those_of_the_money_rule(rows):
    table = np.array(rows, np.int64).reshape(len(rows), 3).T
    found = kernels.amounts_micros(*(np.ascontiguousarray(column) for column in table))
    assert found.tolist() == [money.amount(*row) for row in rows]


@given(st.lists(WORDS, min_size=16, max_size=16), st.lists(WORDS, min_size=3, max_size=3))
def test_feature_rows_are_those_of_the_market(codes, segments):
    context = np.array(CONTEXT_DIMENSIONS, np.int64)
    found = kernels.feature_rows(
        context, np.array([codes], np.uint64), np.array([segments], np.uint64), CONTEXT_BUCKETS, 12
    )
    assert found[0].tolist() == chance.context_features(
        context.tolist(), codes, segments, CONTEXT_BUCKETS, 12
    )


def test_the_logistic_function_is_a_half_at_zero():
    assert kernels.logistic(0.0) == pytest.approx(0.5)
    assert kernels.logistic(math.log(3.0)) == pytest.approx(0.75)
