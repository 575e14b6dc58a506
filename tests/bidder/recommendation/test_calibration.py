import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidder.recommendation.calibration import (
    INTERCEPT_POSITIVES_MIN,
    SLOPE_POSITIVES_MIN,
    bias_ratio,
    calibrated,
    expected_calibration_error,
    fit_platt,
    log_loss,
)


def drawn_slice(seed, count, slope, intercept, spread=1.5):
    """Returns logits whose true calibration is (slope, intercept), their labels, and weights."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-3.0, spread, count)
    p = 1.0 / (1.0 + np.exp(-(slope * logits + intercept)))
    return logits, (rng.random(count) < p).astype(np.uint8), np.ones(count)


@given(slope=st.floats(0.4, 2.0), intercept=st.floats(-1.0, 1.0), seed=st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_a_fit_finds_the_calibration_that_made_the_labels(slope, intercept, seed):
    logits, labels, weights = drawn_slice(seed, 20_000, slope, intercept)
    assert labels.sum() >= SLOPE_POSITIVES_MIN
    found = fit_platt(logits, labels, weights)
    # standard errors from the Fisher information at the truth
    p = 1.0 / (1.0 + np.exp(-(slope * logits + intercept)))
    design = np.stack([logits, np.ones_like(logits)])
    errors = np.sqrt(np.diag(np.linalg.inv((design * p * (1.0 - p)) @ design.T)))
    assert abs(found[0] - slope) < 5.0 * errors[0]
    assert abs(found[1] - intercept) < 5.0 * errors[1]


def test_a_fit_predicts_the_weighted_rate_of_its_slice():
    logits, labels, _ = drawn_slice(1, 20_000, 0.7, 0.4)
    weights = np.where(labels == 1, 1.0, 10.0)
    probabilities = calibrated(logits, fit_platt(logits, labels, weights))
    assert bias_ratio(probabilities, labels, weights) == pytest.approx(1.0, abs=1e-9)


def test_a_fit_is_a_minimum_of_log_loss():
    logits, labels, weights = drawn_slice(2, 20_000, 0.8, 0.3)
    found = fit_platt(logits, labels, weights)
    least = log_loss(calibrated(logits, found), labels, weights)
    for step in ([0.02, 0.0], [-0.02, 0.0], [0.0, 0.02], [0.0, -0.02], [0.02, 0.06]):
        assert log_loss(calibrated(logits, found + step), labels, weights) > least


def test_a_weight_counts_as_so_many_rows():
    logits, labels, weights = drawn_slice(3, 8_000, 0.9, 0.2)
    weights = weights + (np.arange(8_000) % 3)
    repeated = np.repeat(np.arange(8_000), weights.astype(np.int64))
    by_weight = fit_platt(logits, labels, weights)
    by_rows = fit_platt(logits[repeated], labels[repeated], np.ones(repeated.shape[0]))
    assert by_weight == pytest.approx(by_rows, abs=1e-6)


@pytest.mark.parametrize(
    ("positives", "is_slope_fitted", "is_intercept_fitted"),
    [
        (INTERCEPT_POSITIVES_MIN - 1, False, False),
        (INTERCEPT_POSITIVES_MIN, False, True),
        (SLOPE_POSITIVES_MIN - 1, False, True),
        (SLOPE_POSITIVES_MIN, True, True),
    ],
)
def test_how_much_is_fitted_depends_on_the_positives(
    positives, is_slope_fitted, is_intercept_fitted
):
    rng = np.random.default_rng(4)
    labels = np.zeros(5_000, np.uint8)
    labels[:positives] = 1
    logits = rng.normal(-1.0, 1.0, 5_000) + 0.5 * labels
    slope, intercept = fit_platt(logits, labels, np.ones(5_000))
    assert (slope != 1.0) == is_slope_fitted
    assert (intercept != 0.0) == is_intercept_fitted


def test_a_score_that_ranks_backwards_becomes_a_constant():
    logits, labels, weights = drawn_slice(5, 20_000, 1.0, 0.0)
    slope, _ = fit_platt(-logits, labels, weights)
    assert slope == 0.0


def test_a_separable_slice_and_a_constant_score_give_finite_calibrations():
    labels = np.repeat([0, 1], 500).astype(np.uint8)
    separable = fit_platt(np.linspace(-3.0, 3.0, 1000), labels, np.ones(1000))
    assert np.isfinite(separable).all()
    constant = fit_platt(np.full(1000, -2.0), labels, np.ones(1000))
    assert calibrated(np.array([-2.0]), constant) == pytest.approx([0.5], abs=1e-9)


def test_a_slice_without_positives_leaves_the_logit_alone():
    found = fit_platt(np.zeros(9_000), np.zeros(9_000, np.uint8), np.ones(9_000))
    assert found.tolist() == [1.0, 0.0]


def test_log_loss_is_the_mean_surprise_and_never_infinite():
    labels = np.array([1, 0], np.uint8)
    found = log_loss(np.array([0.8, 0.4]), labels, np.array([3.0, 1.0]))
    assert found == pytest.approx((3.0 * -math.log(0.8) - math.log(0.6)) / 4.0)
    assert log_loss(np.array([0.0, 1.0]), labels, np.ones(2)) == pytest.approx(-math.log(1e-7))


def test_a_bias_ratio_is_predicted_over_observed():
    labels = np.array([1, 0, 0, 0], np.uint8)
    assert bias_ratio(np.full(4, 0.5), labels, np.ones(4)) == pytest.approx(2.0)
    assert bias_ratio(np.full(4, 0.5), np.zeros(4, np.uint8), np.ones(4)) is None


def test_calibration_error_is_the_mean_gap_of_the_bins():
    # 15 bins of 100 rows; predictions too high by 0.02 in one third of the bins, right elsewhere
    rate = np.repeat((np.arange(15) + 1) / 20.0, 100)
    labels = (np.tile(np.arange(100), 15) < np.round(rate * 100)).astype(np.uint8)
    probabilities = rate + np.where(np.arange(1500) >= 1000, 0.02, 0.0)
    found = expected_calibration_error(probabilities, labels, np.ones(1500))
    assert found == pytest.approx(0.02 / 3.0)


def test_calibration_error_of_the_truth_is_its_sampling_noise():
    rng = np.random.default_rng(8)
    p = rng.uniform(0.01, 0.05, 90_000)
    labels = (rng.random(90_000) < p).astype(np.uint8)
    noise = np.sqrt(2.0 * 15 * p.mean() / (np.pi * 90_000))
    assert expected_calibration_error(p, labels, np.ones(90_000)) < 2.0 * noise
    assert expected_calibration_error(1.3 * p, labels, np.ones(90_000)) > 4.0 * noise
