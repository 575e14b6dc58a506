"""Kernels of calibration against their slow twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.chance import Purpose
from simulator.calibration import kernels
from tests.reference import calibration as reference

pytestmark = pytest.mark.plain

RIVALS = st.lists(
    st.tuples(st.floats(0.05, 0.95), st.floats(0.5, 5.0), st.floats(0.2, 1.0)),
    min_size=1, max_size=3,
)  # fmt: skip
PRICES = st.floats(0.3, 12.0)
WORDS = st.integers(0, 2**64 - 1)
IMPOSSIBLE = -60.0
"""Of what happens once in 10^26: there the kernel only has to say that it is rare."""


def numbers(rivals):
    presence, median, sigma = (np.array(column) for column in zip(*rivals, strict=True))
    return np.log(presence / (1.0 - presence)), np.log(sigma), np.log(median)


def terms(rivals, slant, shifts, rows):
    """rival_terms of rows (scene, worth, price, known)."""
    scene, worth, price, known = zip(*rows, strict=True)
    return kernels.rival_terms(
        *numbers(rivals), slant, np.array(shifts), np.array(scene, np.int32), np.array(worth),
        np.log(price), np.array(known, np.uint8),
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    RIVALS,
    st.floats(-0.5, 0.5),
    st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
    st.lists(
        st.tuples(st.integers(0, 1), st.floats(-1, 1), PRICES, st.integers(0, 2)),
        min_size=1, max_size=4,
    ),
)  # fmt: skip
def test_the_likelihood_is_that_of_the_best_of_log_normal_rivals(rivals, slant, shifts, rows):
    value, _ = terms(rivals, slant, shifts, rows)
    for got, (scene, worth, price, known) in zip(value, rows, strict=True):
        shift = shifts[scene] + slant * worth
        wanted = reference.price_log_likelihood(known, price, rivals, shift)
        if wanted < IMPOSSIBLE:
            # The kernel keeps such a price from making a whole log impossible.
            assert got < IMPOSSIBLE
            continue
        assert got == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(RIVALS, st.floats(-0.3, 0.3), PRICES, st.integers(0, 2), st.floats(-1, 1))
def test_the_gradient_is_the_slope_of_the_likelihood(rivals, slant, price, known, worth):
    def value(theta):
        k = len(rivals)
        got, _ = kernels.rival_terms(
            theta[:k], theta[k : 2 * k], theta[2 * k : 3 * k], float(theta[3 * k]),
            theta[3 * k + 1 :], np.zeros(1, np.int32), np.array([worth]),
            np.log([price]), np.array([known], np.uint8),
        )  # fmt: skip
        return got[0]

    theta = np.concatenate((*numbers(rivals), [slant, 0.1]))
    _, gradient = terms(rivals, slant, [0.1], [(0, worth, price, known)])
    for place in range(theta.shape[0]):
        step = np.zeros_like(theta)
        step[place] = 1e-5
        slope = (value(theta + step) - value(theta - step)) / 2e-5
        assert gradient[0, place] == pytest.approx(slope, rel=1e-4, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(RIVALS, st.floats(0.0, 10.0), st.floats(0.0, 4.0), st.floats(-0.5, 0.5))
def test_a_bid_wins_above_floor_and_rivals(rivals, bid, floor, shift):
    micros = np.array([round(bid * 1e6)]), np.array([round(floor * 1e6)])
    got = kernels.win_probabilities(
        *numbers(rivals), 0.5, np.array([shift]), np.zeros(1, np.int32), np.zeros(1), *micros
    )
    wanted = reference.win_probability(micros[0][0] / 1e6, micros[1][0] / 1e6, rivals, shift)
    assert got[0] == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@given(st.integers(0, 2**62), st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5))
def test_a_landscape_price_is_drawn_by_its_key(seed, keys):
    quantiles = np.array([[1, 5, 9], [2, 2, 80]], np.int64)
    hi, lo = (np.array(column, np.uint64) for column in zip(*keys, strict=True))
    hour = np.arange(len(keys), dtype=np.int64) % 2
    got = kernels.landscape_prices(seed, int(Purpose.COMPETITOR_VALUE), hi, lo, hour, quantiles)
    wanted = [
        reference.landscape_price(seed, key, quantiles[row % 2].tolist())
        for row, key in enumerate(keys)
    ]
    assert got.tolist() == wanted


@given(st.integers(0, 2**62), st.lists(WORDS, min_size=1, max_size=8))
def test_bootstrap_weights_are_poisson_by_key(seed, keys):
    got = kernels.poisson_counts(seed, int(Purpose.USER), np.array(keys, np.uint64))
    assert got.tolist() == [reference.poisson_count(seed, key) for key in keys]


def test_bootstrap_weights_have_the_mean_and_variance_of_poisson_1():
    got = kernels.poisson_counts(4, int(Purpose.USER), np.arange(4_000, dtype=np.uint64))
    error = 1.0 / math.sqrt(got.shape[0])
    assert abs(got.mean() - 1.0) < 4 * error
    assert abs(got.var() - 1.0) < 4 * math.sqrt(3.0) * error
