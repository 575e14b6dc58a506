"""Calibration: turning a logit into a probability that money can be multiplied with.

Nothing bids on an uncalibrated score. A calibrator is fitted on a slice of time later than the
training rows, and how much of it may be fitted depends on how many positives that slice holds: with
p positives the level of the predictions is known to a relative error of about 1 / sqrt(p) only.

Dimension names: N = rows, all of one head. Weights say how many rows like it a row stands for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize
from scipy.special import expit

if TYPE_CHECKING:
    from collections.abc import Callable

F64 = npt.NDArray[np.float64]

SLOPE_POSITIVES_MIN = 300
"""Fewest positives (and negatives) for slope and intercept: level within about 6 %."""

INTERCEPT_POSITIVES_MIN = 100
"""Fewest for the intercept alone: level within about 10 %. Below it the training slice, which holds
several times as many positives, knows the level better, and the logit stays as it is."""

PROBABILITY_MIN = 1e-7
"""Probabilities are clipped to [PROBABILITY_MIN, 1 - PROBABILITY_MIN] in every LogLoss."""

_SLOPE_MAX = 50.0
"""In logits per standard deviation of the score: beyond any response an advertisement has, and the
bound that keeps a perfectly separable slice from running to infinity."""


def calibrated(logits: F64, calibration: F64) -> F64:
    """Returns [N] sigmoid(slope * logit + intercept); calibration[2] = (slope, intercept)."""
    return cast("F64", expit(calibration[0] * logits + calibration[1]))


def fit_platt(logits: F64, labels: npt.NDArray[np.uint8], weights: F64) -> F64:
    """Returns (slope, intercept) of the most likely calibrator that the slice can carry.

    Slope and intercept from SLOPE_POSITIVES_MIN positives, the intercept alone (slope 1) from
    INTERCEPT_POSITIVES_MIN, else (1, 0). The slope is never negative: a score that ranks backwards
    on this slice is worth nothing, and a constant says so. Wherever an intercept is fitted, the
    weighted mean prediction equals the weighted rate.

    Shapes: logits[N], labels[N] of 0 and 1, weights[N] >= 0.
    Source: Platt 1999, section 2, with the likelihood unregularised since small slices are refused.
    """
    labelled = labels.astype(np.float64)
    positives = int(labels.sum())
    rarer = min(positives, labels.shape[0] - positives)
    if rarer < INTERCEPT_POSITIVES_MIN:
        return np.array([1.0, 0.0])
    centre = float(np.average(logits, weights=weights))
    spread = float(np.sqrt(np.average((logits - centre) ** 2, weights=weights)))
    slope = 1.0
    if rarer >= SLOPE_POSITIVES_MIN and spread > 0.0:
        scaled = (logits - centre) / spread
        total = float(weights.sum())
        rate = float(np.average(labelled, weights=weights))

        def loss(parameters: F64) -> tuple[float, F64]:
            z = parameters[0] * scaled + parameters[1]
            error = weights * (cast("F64", expit(z)) - labelled)
            value = float(np.dot(weights, np.logaddexp(0.0, z) - labelled * z)) / total
            return value, np.array([np.dot(error, scaled), error.sum()]) / total

        found = cast(
            "Any",
            minimize(
                cast("Callable[..., float]", loss),
                np.array([spread, np.log(rate / (1.0 - rate))]),
                jac=True,
                method="L-BFGS-B",
                bounds=[(0.0, _SLOPE_MAX), (None, None)],
                options={"ftol": 1e-13, "gtol": 1e-9},
            ),
        )
        slope = float(found.x[0]) / spread
    return np.array([slope, _intercept(slope * logits, labelled, weights)])


def bias_ratio(probabilities: F64, labels: npt.NDArray[np.uint8], weights: F64) -> float | None:
    """Returns mean prediction / observed rate, weighted; None without a positive.

    1 is unbiased; 1.2 means that bids are 20 % too high. Its standard error is about
    1 / sqrt(positives).
    """
    observed = float(np.dot(weights, labels.astype(np.float64)))
    return float(np.dot(weights, probabilities)) / observed if observed > 0.0 else None


def expected_calibration_error(
    probabilities: F64, labels: npt.NDArray[np.uint8], weights: F64, bin_count: int = 15
) -> float:
    """Returns the weighted mean of |mean prediction - rate| over bins of equal weight.

    Rows are ordered by prediction; ties keep their order, so a constant prediction is compared over
    time rather than by label. A perfectly calibrated model still shows about
    sqrt(2 bin_count * rate / (pi N)), which is noise and not error.

    Source: Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", AAAI
    2015, with bins of equal mass instead of equal width.
    """
    order = np.argsort(probabilities, kind="stable")
    weight = weights[order]
    total = float(weight.sum())
    middle = np.cumsum(weight) - weight / 2.0
    bins = np.minimum((middle * (bin_count / total)).astype(np.int64), bin_count - 1)
    gap = np.bincount(bins, weight * (probabilities[order] - labels[order]), bin_count)
    return float(np.abs(gap).sum()) / total


def log_loss(probabilities: F64, labels: npt.NDArray[np.uint8], weights: F64) -> float:
    """Returns the weighted mean of -ln(probability of what happened), clipped as above."""
    p = np.clip(probabilities, PROBABILITY_MIN, 1.0 - PROBABILITY_MIN)
    return float(np.average(-np.where(labels == 1, np.log(p), np.log1p(-p)), weights=weights))


def _intercept(scaled_logits: F64, labels: F64, weights: F64) -> float:
    """Returns the intercept at which the mean prediction is the rate (its likelihood equation)."""
    observed = float(np.dot(weights, labels))
    level = float(np.log(observed) - np.log(float(weights.sum()) - observed))

    def excess(intercept: float) -> float:
        return float(np.dot(weights, cast("F64", expit(scaled_logits + intercept)))) - observed

    # at these ends every single prediction is below, and above, the rate
    low = level - float(scaled_logits.max()) - 1.0
    high = level - float(scaled_logits.min()) + 1.0
    return float(cast("float", brentq(excess, low, high, xtol=1e-12)))
