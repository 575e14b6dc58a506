import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidder.recommendation.scores import auc, fit_of


def pairwise_auc(scores, labels, weights):
    """By definition: over all pairs of a positive and a negative, half a point for a tie."""
    won = total = 0.0
    for score, label, weight in zip(scores, labels, weights, strict=True):
        for other, other_label, other_weight in zip(scores, labels, weights, strict=True):
            if label == 1 and other_label == 0:
                total += weight * other_weight
                won += weight * other_weight * ((score > other) + 0.5 * (score == other))
    return won / total


ROWS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 1), st.integers(1, 4)), min_size=2, max_size=40
).filter(lambda rows: len({label for _, label, _ in rows}) == 2)


@given(ROWS)
@settings(deadline=None)
def test_the_area_is_the_share_of_pairs_in_the_right_order(rows):
    scores, labels, weights = (np.array(column) for column in zip(*rows, strict=True))
    found, error = auc(scores.astype(float), labels.astype(np.uint8), weights.astype(float))
    assert found == pytest.approx(pairwise_auc(scores, labels, weights))
    assert error >= 0.0


def test_the_areas_error_is_the_spread_over_repeated_samples():
    rng = np.random.default_rng(1)
    areas, errors = [], []
    for _ in range(300):
        labels = (rng.random(800) < 0.1).astype(np.uint8)
        area, error = auc(rng.normal(0.0, 1.0, 800) + labels, labels, np.ones(800))
        areas.append(area)
        errors.append(error)
    # two normals one standard deviation apart: Phi(1 / sqrt 2)
    expected = 0.5 * (1.0 + math.erf(0.5))
    assert np.mean(areas) == pytest.approx(expected, abs=4.0 * np.std(areas) / np.sqrt(300))
    assert np.mean(errors) == pytest.approx(np.std(areas), rel=0.2)


def test_one_class_has_no_area():
    assert auc(np.arange(3.0), np.ones(3, np.uint8), np.ones(3)) == (None, None)


def test_a_fit_tells_the_raw_level_from_the_calibrated_one():
    rng = np.random.default_rng(2)
    p = rng.uniform(0.02, 0.3, 50_000)
    labels = (rng.random(50_000) < p).astype(np.uint8)
    logits = np.log(p / (1.0 - p)) + 1.0
    fit = fit_of(logits, labels, np.ones(50_000), np.array([1.0, -1.0]))
    assert fit.bias_ratio == pytest.approx(1.0, abs=0.05)
    assert fit.bias_ratio_raw > 1.5
    assert fit.log_loss < fit.log_loss_raw
