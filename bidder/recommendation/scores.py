"""Scores of a response model on rows that it has not seen.

AUC says how well it ranks and nothing about the level; LogLoss and the bias ratio say whether bids
made from it are right. No score stands without the count of positives behind it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bidder.recommendation.calibration import (
    F64,
    bias_ratio,
    calibrated,
    expected_calibration_error,
    log_loss,
)
from bidder.recommendation.card import Fit

_IDENTITY = np.array([1.0, 0.0])


def fit_of(logits: F64, labels: npt.NDArray[np.uint8], weights: F64, calibration: F64) -> Fit:
    """Returns the scores of ``logits`` [N] for ``labels`` [N] under ``calibration`` [2]."""
    raw = calibrated(logits, _IDENTITY)
    probabilities = calibrated(logits, calibration)
    area, error = auc(probabilities, labels, weights)
    return Fit(
        auc=area,
        auc_error=error,
        log_loss_raw=log_loss(raw, labels, weights),
        log_loss=log_loss(probabilities, labels, weights),
        bias_ratio_raw=bias_ratio(raw, labels, weights),
        bias_ratio=bias_ratio(probabilities, labels, weights),
        ece=expected_calibration_error(probabilities, labels, weights),
    )


def auc(
    scores: F64, labels: npt.NDArray[np.uint8], weights: F64
) -> tuple[float, float] | tuple[None, None]:
    """Returns the weighted area under the ROC curve and its standard error; None with one class.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988, equations 3-5: the area is the
    mean over positives of the share of negatives below them, and its variance is the sum of the
    variances of both sides' placements.
    """
    is_positive = labels == 1
    positive, negative = weights * is_positive, weights * ~is_positive
    positive_total, negative_total = float(positive.sum()), float(negative.sum())
    if positive_total <= 0.0 or negative_total <= 0.0:
        return None, None
    levels, level_of = np.unique(scores, return_inverse=True)
    positive_at = np.bincount(level_of, positive, levels.shape[0])
    negative_at = np.bincount(level_of, negative, levels.shape[0])
    # placements: share of the other class that this row beats (or, for a negative, that beats it)
    below = (np.cumsum(negative_at) - negative_at / 2.0) / negative_total
    above = 1.0 - (np.cumsum(positive_at) - positive_at / 2.0) / positive_total
    area = float(np.dot(positive_at, below)) / positive_total
    variance = float(
        np.dot(positive**2, (below[level_of] - area) ** 2) / positive_total**2
        + np.dot(negative**2, (above[level_of] - area) ** 2) / negative_total**2
    )
    return area, float(np.sqrt(variance))
