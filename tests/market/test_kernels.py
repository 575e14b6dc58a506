"""Keyed random numbers and the price-to-amount rule, against their twins and as statistics."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from market.chance import Purpose
from market.features import CONTEXT_BUCKETS
from market.kernels import (
    amount_micros,
    at_opportunity,
    context_features,
    feature_row,
    hash_pair,
    mix,
    normal,
    scale_down,
    scale_up,
    stream,
    uniform,
)
from market.money import MICROS, PRICE_CPM_MICROS_MAX
from tests.reference import chance as reference
from tests.reference import money

pytestmark = pytest.mark.plain

WORDS = st.integers(0, 2**64 - 1)
SEEDS = st.integers(0, 2**63 - 1)
ACTORS = st.integers(0, 2**62 - 1)
DRAW_COUNT = 65_536
ACTOR_COUNT = 100_000
# A correlation of n independent pairs is normal with deviation n^-1/2; 4.5 of them are one in
# 150,000, and the draws are fixed, so what passes once passes always.
CORRELATION_MAX = 4.5 / DRAW_COUNT**0.5

PRICES = st.integers(0, PRICE_CPM_MICROS_MAX)
RATES = st.integers(1, 16_000_000_000) | st.integers(1, 2**40 - 1)
QUANTITIES = st.integers(0, 1_000_000_000) | st.just(MICROS)
VALUES = st.integers(0, 2**40 - 1)
FACTORS = st.integers(1, 2**40 - 1) | st.sampled_from([1, MICROS - 1, MICROS, MICROS + 1])


# Where kernels run as plain Python, an overflow must stop the test: only hashes may wrap around.
without_overflow = np.errstate(over="raise")


def of_opportunities(seed, purpose, count=DRAW_COUNT, hi=7, actor=0):
    """Draws of one actor for ``count`` neighbouring opportunities."""
    key = np.uint64(stream(seed, int(purpose)))
    return np.array(
        [
            uniform(np.uint64(at_opportunity(key, np.uint64(hi), np.uint64(lo))), actor)
            for lo in range(count)
        ]
    )


def of_actors(key, count=DRAW_COUNT, first=0):
    """Draws of ``count`` neighbouring actors under one key."""
    key = np.uint64(key)
    return np.array([uniform(key, actor) for actor in range(first, first + count)])


def correlation(a, b):
    return float(np.corrcoef(a, b)[0, 1])


def opportunity(lo, seed=1, purpose=Purpose.CLICK):
    key = np.uint64(stream(seed, int(purpose)))
    return np.uint64(at_opportunity(key, np.uint64(3), np.uint64(lo)))


# --- twins ------------------------------------------------------------------------------------


@given(WORDS)
def test_mix_is_its_twin_and_can_be_undone(z):
    mixed = int(mix(np.uint64(z)))
    assert mixed == reference.mix(z)
    assert reference.unmix(mixed) == z


def test_mix_gives_the_published_sequence_of_splitmix64():
    """The first outputs of the generator for seed 1234567, as its C code prints them."""
    state, outputs = 1_234_567, []
    for _ in range(5):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        outputs.append(int(mix(np.uint64(state))))
    assert outputs == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(SEEDS, st.integers(0, 2**16))
def test_stream_is_its_twin(seed, purpose):
    assert int(stream(seed, purpose)) == reference.stream(seed, purpose)


@given(WORDS, WORDS, WORDS)
def test_at_opportunity_is_its_twin(key, hi, lo):
    found = at_opportunity(np.uint64(key), np.uint64(hi), np.uint64(lo))
    assert int(found) == reference.at_opportunity(key, hi, lo)


@given(WORDS, ACTORS)
def test_uniform_is_its_twin_and_lies_in_zero_one(key, actor):
    draw = uniform(np.uint64(key), actor)
    assert draw == reference.uniform(key, actor)
    assert 0.0 <= draw < 1.0


@given(st.integers(0, 2**63 - 1), ACTORS)
def test_a_key_that_comes_back_from_python_as_a_plain_int_is_still_a_key(key, actor):
    """A compiled kernel returns a uint64 as an int, which the next one takes for an int64."""
    assert int(mix(key)) == reference.mix(key)
    assert uniform(key, actor) == reference.uniform(key, actor)
    assert normal(key, actor) == normal(np.uint64(key), actor)
    assert int(at_opportunity(key, 1, 2)) == reference.at_opportunity(key, 1, 2)
    assert int(hash_pair(key, actor)) == reference.hash_pair(key, actor)


@given(WORDS, ACTORS)
def test_normal_is_its_twin_up_to_the_last_bits_of_the_logarithm(key, actor):
    draw = normal(np.uint64(key), actor)
    assert np.isfinite(draw)
    assert draw == pytest.approx(reference.normal(key, actor), rel=1e-12, abs=1e-12)


@given(WORDS, WORDS)
def test_hash_pair_is_its_twin_and_knows_the_order(a, b):
    found = int(hash_pair(np.uint64(a), np.uint64(b)))
    assert found == reference.hash_pair(a, b)
    if a != b:
        assert found != int(hash_pair(np.uint64(b), np.uint64(a)))


@given(st.integers(0, 11), st.just(0) | WORDS, st.sampled_from([2, 256, CONTEXT_BUCKETS]))
def test_feature_row_is_its_twin_and_stays_in_its_field(field, code, buckets):
    row = int(feature_row(field, np.uint64(code), buckets))
    assert row == reference.feature_row(field, code, buckets)
    assert field * buckets <= row < (field + 1) * buckets
    assert (row == field * buckets) == (code == 0)


@given(
    st.lists(st.integers(0, 15), min_size=0, max_size=9, unique=True),
    st.lists(st.just(0) | WORDS, min_size=16, max_size=16),
    st.lists(WORDS, max_size=6),
    st.integers(9, 14),
)
def test_context_features_are_dimensions_then_segments_then_absent(
    context_dimensions, dimensions, segments, count
):
    out = np.full(count, 2**32 - 1, np.uint32)
    context_features(
        np.array(context_dimensions, np.int64),
        np.array(dimensions, np.uint64),
        np.array(segments, np.uint64),
        CONTEXT_BUCKETS,
        out,
    )
    assert out.tolist() == reference.context_features(
        context_dimensions, dimensions, segments, CONTEXT_BUCKETS, count
    )


# --- money ------------------------------------------------------------------------------------


@given(PRICES, QUANTITIES, RATES)
@without_overflow
def test_an_amount_is_its_twin_and_within_the_stated_bound_of_the_exact_one(price, quantity, rate):
    """Two ceilings, the first of which is then multiplied: 0 <= error < 1 + quantity / 10^9."""
    amount = int(amount_micros(price, quantity, rate))
    exact = money.exact_amount(price, quantity, rate)
    assert amount == money.amount(price, quantity, rate)
    assert 0 <= amount - exact < 1 + Fraction(quantity, 10**9)


@without_overflow
def test_the_bound_of_an_amount_is_reached_to_within_two_millionths():
    """At the largest quantity the error comes as near to 2 micros as one can see."""
    price, quantity, rate = 87_803, 999_999_999, 11_389_132_467
    error = int(amount_micros(price, quantity, rate)) - money.exact_amount(price, quantity, rate)
    assert 1.999_998 < error < 2


@without_overflow
def test_one_impression_costs_a_thousandth_of_its_price():
    assert int(amount_micros(2_500_000, MICROS, MICROS)) == 2_500
    assert int(amount_micros(2_500_001, MICROS, MICROS)) == 2_501
    assert int(amount_micros(2_500_000, 3 * MICROS, 1_080_000)) == 8_100


@given(VALUES, FACTORS)
@without_overflow
def test_scale_up_is_its_twin(value, factor):
    assert int(scale_up(value, factor)) == money.scale_up(value, factor)


@given(VALUES, FACTORS)
@without_overflow
def test_scale_down_is_its_twin(value, factor):
    assert int(scale_down(value, factor)) == money.scale_down(value, factor)


@given(VALUES, FACTORS)
@without_overflow
def test_down_then_up_never_exceeds_what_it_started_from(value, factor):
    """A ceiling that is turned into bid currency and back reserves no more than the ceiling."""
    assert int(scale_up(scale_down(value, factor), factor)) <= value


@given(VALUES, FACTORS)
@without_overflow
def test_up_then_down_never_falls_below_what_it_started_from(value, factor):
    assert int(scale_down(scale_up(value, factor), factor)) >= value


@given(VALUES, VALUES, FACTORS)
@without_overflow
def test_scaling_keeps_the_order_of_prices(one, other, factor):
    low, high = sorted((one, other))
    assert int(scale_up(low, factor)) <= int(scale_up(high, factor))
    assert int(scale_down(low, factor)) <= int(scale_down(high, factor))


# --- statistics -------------------------------------------------------------------------------

SERIES = {
    "opportunities": lambda: of_opportunities(11, Purpose.CLICK),
    "actors": lambda: of_actors(opportunity(0)),
    "actors of a stream": lambda: of_actors(stream(11, int(Purpose.NOISE))),
    "seeds": lambda: np.array(
        [uniform(np.uint64(stream(seed, int(Purpose.USER))), 0) for seed in range(DRAW_COUNT)]
    ),
}


@pytest.mark.parametrize("series", SERIES)
def test_draws_are_uniform(series):
    draws = SERIES[series]()
    mean_deviation = (1 / 12 / DRAW_COUNT) ** 0.5
    variance_deviation = (1 / 180 / DRAW_COUNT) ** 0.5
    assert abs(draws.mean() - 1 / 2) < 4 * mean_deviation
    assert abs(draws.var() - 1 / 12) < 4 * variance_deviation
    bins = np.bincount((draws * 256).astype(int), minlength=256)
    assert bins.shape == (256,)
    assert 1e-4 < stats.chisquare(bins).pvalue < 1 - 1e-4
    assert stats.kstest(draws, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("series", SERIES)
def test_a_draw_says_nothing_about_the_next_one(series):
    draws = SERIES[series]()
    for lag in (1, 2, 64):
        assert abs(correlation(draws[:-lag], draws[lag:])) < CORRELATION_MAX
    # Neighbours fill the unit square evenly, not only without a linear trend.
    cells = (draws[:-1] * 16).astype(int) * 16 + (draws[1:] * 16).astype(int)
    assert stats.chisquare(np.bincount(cells[::2], minlength=256)).pvalue > 1e-4


def test_purposes_do_not_know_each_other():
    purposes = list(Purpose)
    count = 4_096
    draws = np.array([of_opportunities(1, purpose, count) for purpose in purposes])
    between = np.corrcoef(draws)[np.triu_indices(len(purposes), 1)]
    assert np.abs(between).max() < 4.5 / count**0.5


def test_seeds_do_not_know_each_other():
    one, two = of_opportunities(1, Purpose.CLICK), of_opportunities(2, Purpose.CLICK)
    assert abs(correlation(one, two)) < CORRELATION_MAX


def test_neighbouring_opportunities_do_not_know_each_other():
    one, two = of_actors(opportunity(41)), of_actors(opportunity(42))
    assert abs(correlation(one, two)) < CORRELATION_MAX
    shifted = of_opportunities(1, Purpose.CLICK, hi=8)
    assert abs(correlation(of_opportunities(1, Purpose.CLICK, hi=7), shifted)) < CORRELATION_MAX


def test_neighbouring_actors_do_not_know_each_other():
    one = of_opportunities(1, Purpose.CLICK, actor=4_095)
    two = of_opportunities(1, Purpose.CLICK, actor=4_096)
    assert abs(correlation(one, two)) < CORRELATION_MAX


def test_a_hundred_thousand_actors_stay_independent_and_never_repeat():
    one, two = (of_actors(opportunity(lo), ACTOR_COUNT) for lo in (0, 1))
    assert np.unique(np.concatenate((one, two))).shape == (2 * ACTOR_COUNT,)
    bound = 4.5 / ACTOR_COUNT**0.5
    assert abs(correlation(one, two)) < bound
    for shift in (1, 4_096, 65_536):
        assert abs(correlation(one[shift:], two[:-shift])) < 4.5 / (ACTOR_COUNT - shift) ** 0.5
        assert abs(correlation(one[shift:], one[:-shift])) < 4.5 / (ACTOR_COUNT - shift) ** 0.5


def test_an_event_of_small_probability_happens_as_often_as_it_should():
    """Conversions are rare: their rate must be right where a plain test of uniformity is blind."""
    draws = np.concatenate([of_actors(opportunity(lo), ACTOR_COUNT) for lo in (5, 6)])
    for probability in (0.0005, 0.01):
        deviation = (probability * (1 - probability) / draws.shape[0]) ** 0.5
        assert abs((draws < probability).mean() - probability) < 3 * deviation


def test_streams_of_all_purposes_and_a_thousand_seeds_differ():
    keys = {int(stream(seed, int(purpose))) for seed in range(1_000) for purpose in Purpose}
    assert len(keys) == 1_000 * len(Purpose)


def test_one_bit_of_input_moves_every_bit_of_output():
    """Avalanche: each output bit flips with probability one half, whichever input bit flips."""
    words = [reference.mix(n) for n in range(256)]
    flips = np.zeros((64, 64))
    for bit in range(64):
        for word in words:
            moved = int(mix(np.uint64(word))) ^ int(mix(np.uint64(word ^ (1 << bit))))
            flips[bit] += [moved >> place & 1 for place in range(64)]
    share = flips / len(words)
    assert abs(share.mean() - 0.5) < 0.005
    assert np.abs(share - 0.5).max() < 5 * 0.5 / len(words) ** 0.5


def test_normal_draws_are_normal():
    key = opportunity(3, purpose=Purpose.NOISE)
    draws = np.array([normal(key, actor) for actor in range(DRAW_COUNT)])
    n = DRAW_COUNT**0.5
    assert abs(draws.mean()) < 4 / n
    assert abs(draws.var() - 1) < 4 * 2**0.5 / n
    assert abs(stats.skew(draws)) < 4 * 6**0.5 / n
    assert abs(stats.kurtosis(draws)) < 4 * 24**0.5 / n
    assert stats.kstest(draws, "norm").pvalue > 1e-4
    assert np.abs(draws).max() > 3.5
    assert abs(correlation(draws[:-1], draws[1:])) < CORRELATION_MAX


def test_a_normal_draw_shares_nothing_with_the_uniform_draws_of_its_key():
    key = opportunity(9, purpose=Purpose.NOISE)
    draws = np.array([normal(key, actor) for actor in range(DRAW_COUNT)])
    uniforms = of_actors(key, 2 * DRAW_COUNT)
    for others in (uniforms[:DRAW_COUNT], uniforms[::2], uniforms[1::2]):
        assert abs(correlation(draws, others)) < CORRELATION_MAX
        assert abs(correlation(draws**2, others)) < CORRELATION_MAX


def test_feature_rows_fill_their_field_evenly():
    rows = [int(feature_row(2, np.uint64(code), 256)) for code in range(1, 20_001)]
    counts = np.bincount(np.array(rows) - 512, minlength=256)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > 1e-4
