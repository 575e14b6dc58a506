"""Judges a trained network on a response log that it has not seen.

Scores come from the serving kernels, not from the training code, so what is judged is what bids.
Open Bandit logs, which also say how likely each choice was, are judged in ``open_bandit``.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from bidder.recommendation.calibration import F64, SLOPE_POSITIVES_MIN, bias_ratio
from bidder.recommendation.card import Fit
from bidder.recommendation.kernels import block_logits, block_probabilities
from bidder.recommendation.network import Weights, check_rows, creative_tables
from bidder.recommendation.response_log import check_log
from bidder.recommendation.scores import fit_of
from market.creative import AD_FIELDS
from market.features import CONTEXT_ROWS
from market.protocols import ResponseLog


class CategorySpread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far the bias ratio differs between ad categories.

    Attributes:
        category_count: categories with at least SLOPE_POSITIVES_MIN positives; others say nothing.
        bias_ratio_min: least of their mean prediction / rate; None if there are none.
        bias_ratio_max: greatest of them.
    """

    category_count: int
    bias_ratio_min: float | None
    bias_ratio_max: float | None


class HeadEvaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One head on one log.

    Attributes:
        row_count: impressions, or for pcvr clicks.
        positive_count: clicks, or for pcvr conversions.
        fit: the scores; None without a row.
        categories: spread of the bias ratio over ad categories.
    """

    row_count: int
    positive_count: int
    fit: Fit | None
    categories: CategorySpread


class Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Both heads on one log."""

    pctr: HeadEvaluation
    pcvr: HeadEvaluation


class _Split(NamedTuple):
    """Rows of a log as requests and creatives, ready for kernels."""

    features: npt.NDArray[np.uint32]
    creative_rows: npt.NDArray[np.int64]
    ad_vectors: npt.NDArray[np.float32]
    ad_bias: npt.NDArray[np.float32]


def logits_of_rows(
    weights: Weights, features: npt.NDArray[np.integer], ad_features: npt.NDArray[np.integer]
) -> F64:
    """Returns [N, 2] uncalibrated logits of features [N, F] with ad_features [N, A].

    Raises:
        BadInput: a row is out of range.
    """
    split = _split(weights, features, ad_features)
    logits = np.empty((features.shape[0], 2), np.float64)
    block_logits(
        split.features, split.creative_rows, weights.context_vectors, weights.context_bias,
        split.ad_vectors, split.ad_bias, logits,
    )  # fmt: skip
    return logits


def probabilities_of_rows(
    weights: Weights, features: npt.NDArray[np.integer], ad_features: npt.NDArray[np.integer]
) -> F64:
    """Returns [N, 2] calibrated (pctr, pcvr) of features [N, F] with ad_features [N, A].

    Raises:
        BadInput: a row is out of range.
    """
    split = _split(weights, features, ad_features)
    probabilities = np.empty((features.shape[0], 2), np.float64)
    block_probabilities(
        split.features, split.creative_rows, weights.context_vectors, weights.context_bias,
        split.ad_vectors, split.ad_bias, weights.calibration, probabilities,
    )  # fmt: skip
    return probabilities


def evaluate(weights: Weights, log: ResponseLog) -> Evaluation:
    """Returns the scores of ``weights`` on ``log``, whose rows it must not have learnt from.

    Raises:
        BadInput: the log breaks a rule (``check_log``).
    """
    check_log(log)
    logits = logits_of_rows(weights, log.features, log.ad_features)
    probabilities = probabilities_of_rows(weights, log.features, log.ad_features)
    heads = [
        _evaluate_head(
            ResponseLog._make(array[is_row] for array in log),
            label,
            logits[is_row, head],
            probabilities[is_row, head],
            weights.calibration[head],
        )
        for head, (label, is_row) in enumerate(
            (("clicked", np.ones_like(log.clicked, np.bool_)), ("converted", log.clicked == 1))
        )
    ]
    return Evaluation(heads[0], heads[1])


def _evaluate_head(
    log: ResponseLog, label: str, logits: F64, probabilities: F64, calibration: F64
) -> HeadEvaluation:
    labels: npt.NDArray[np.uint8] = getattr(log, label)
    weights = log.weight.astype(np.float64)
    categories = log.ad_features[:, AD_FIELDS.index("category")]
    ratios = [
        bias_ratio(probabilities[is_in], labels[is_in], weights[is_in])
        for is_in in (categories == row for row in np.unique(categories))
        if int(labels[is_in].sum()) >= SLOPE_POSITIVES_MIN
    ]
    known = [ratio for ratio in ratios if ratio is not None]
    return HeadEvaluation(
        row_count=labels.shape[0],
        positive_count=int(labels.sum()),
        fit=fit_of(logits, labels, weights, calibration) if labels.size else None,
        categories=CategorySpread(len(known), min(known, default=None), max(known, default=None)),
    )


def _split(
    weights: Weights, features: npt.NDArray[np.integer], ad_features: npt.NDArray[np.integer]
) -> _Split:
    check_rows(features, CONTEXT_ROWS, "features")
    creatives, creative_rows = np.unique(ad_features, axis=0, return_inverse=True)
    vectors, bias = creative_tables(weights, creatives)
    return _Split(features.astype(np.uint32), creative_rows.astype(np.int64), vectors, bias)
