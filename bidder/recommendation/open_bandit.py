"""Open Bandit logs: read, mapped to our hashed fields, and used to judge a click model off-policy.

The format: ``<policy>_all/all.csv`` with one row per impression (timestamp, item_id, position,
click, propensity_score, user_feature_0..3, and affinities), ``<policy>_all/item_context.csv`` with
one row per item (item_feature_0 a number, 1..3 hashed texts). Policies: ``random`` shows each of 80
items alike, ``bts`` is a Thompson sampler.

What the hashed columns mean is not disclosed, so that each simply gets a field of its own:

    position           -> placement          user_feature_2    -> first segment
    timestamp (UTC)    -> hour of the week   user_feature_3    -> second segment
    user_feature_0     -> gender             item_feature_1    -> category
    user_feature_1     -> age band           item_feature_2    -> format
                                             item_feature_3    -> size
    item_feature_0, by fifths of the items   -> layout
    item_id                                  -> headline

The other fields are absent. Affinities are left out: they belong to a pair of a user and an item,
which the split of the model forbids, and in these logs nearly all are zero. Both policies' hashes
of item features differ while their item ids agree, so item features are always those of ``random``.

Source: Saito et al., "Open Bandit Dataset and Pipeline", NeurIPS 2021, section 3.
"""

from __future__ import annotations

import csv
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from bidder.recommendation.card import Scores
from bidder.recommendation.evaluation import HeadEvaluation, evaluate, logits_of_rows
from bidder.recommendation.off_policy import OffPolicyValue, off_policy_value
from market.chance import code_of
from market.creative import AD_FIELDS
from market.errors import BadInput
from market.events import FEATURE_COUNT
from market.features import (
    CONTEXT_BUCKETS,
    CONTEXT_DIMENSIONS,
    ad_feature_rows,
)
from market.kernels import feature_row
from market.opportunity import Dimension
from market.protocols import ResponseLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from bidder.recommendation.calibration import F64
    from bidder.recommendation.network import Weights

CLIP = 10.0
"""Greatest weight in clipped estimates: under the Thompson log, unclipped ones reach hundreds."""

TRAINING_SHARE = 0.5
"""Earliest share of the random log, for learning."""

CALIBRATION_SHARE = 0.2
"""The share after it, for choosing and calibrating; what is left is for judging."""

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CONTEXT_COLUMNS = {
    "position": CONTEXT_DIMENSIONS.index(Dimension.PLACEMENT),
    "hour_of_week": CONTEXT_DIMENSIONS.index(Dimension.HOUR_OF_WEEK),
    "user_feature_0": CONTEXT_DIMENSIONS.index(Dimension.GENDER),
    "user_feature_1": CONTEXT_DIMENSIONS.index(Dimension.AGE_BAND),
    "user_feature_2": len(CONTEXT_DIMENSIONS),
    "user_feature_3": len(CONTEXT_DIMENSIONS) + 1,
}
_AD_COLUMNS = {
    "category": "item_feature_1",
    "format": "item_feature_2",
    "size": "item_feature_3",
    "headline": "item_id",
    "layout": "fifth",
}


class BanditLog(NamedTuple):
    """Impressions with the choice that was made and how likely it was.

    Attributes:
        features: [N, F] uint32 rows of the context table.
        items: [N] int64, which of the K items was shown.
        clicked: [N] uint8.
        propensity: [N] float64, probability with which the logging policy showed it there.
        ts_ms: [N] int64, not decreasing.
        item_features: [K, A] uint32 rows of the ad table.
    """

    features: npt.NDArray[np.uint32]
    items: npt.NDArray[np.int64]
    clicked: npt.NDArray[np.uint8]
    propensity: npt.NDArray[np.float64]
    ts_ms: npt.NDArray[np.int64]
    item_features: npt.NDArray[np.uint32]


class PolicyValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Clicks per impression of a policy, estimated from a log.

    Attributes:
        log: "random" (the part that the model has not seen) or "bts".
        policy: "uniform", whose true value the random log shows, or "model": items in proportion
            to the odds of a click that the model gives them.
        value: the estimate.
    """

    log: str
    policy: str
    value: OffPolicyValue


class OpenBanditReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A click model trained on the early part of the random log, judged on all the rest.

    Attributes:
        scores: of training, with the logistic regression beside it.
        random: the model on the rows of the random log after its training slice.
        bts: the model on the Thompson sampler's log, every row of which is new to it.
        values: off-policy estimates, each unclipped and clipped at CLIP.
        caution: how few clicks stand behind all this, in words.
    """

    scores: Scores
    random: HeadEvaluation
    bts: HeadEvaluation
    values: tuple[PolicyValue, ...]
    caution: str


def read_bandit_log(folder: Path, policy: str) -> BanditLog:
    """Returns the log of ``policy`` ("random" or "bts") in ``folder``.

    Raises:
        BadInput: a file is missing, or a row of it does not have the format.
    """
    items = list(_read_csv(folder / "random_all" / "item_context.csv"))
    path = folder / f"{policy}_all" / "all.csv"
    rows = list(_read_csv(path))
    try:
        item_features = _item_features(items)
        times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
        features = np.empty((len(rows), FEATURE_COUNT), np.uint32)
        known: dict[tuple[int, str], int] = {}
        absent = [_context_row(field, "") for field in range(FEATURE_COUNT)]
        for n, (row, at) in enumerate(zip(rows, times, strict=True)):
            features[n] = absent
            texts = {**row, "hour_of_week": f"{_DAYS[at.weekday()]} {at.hour}"}
            for column, field in _CONTEXT_COLUMNS.items():
                key = (field, texts[column])
                if key not in known:
                    known[key] = _context_row(*key)
                features[n, field] = known[key]
        log = BanditLog(
            features=features,
            items=np.array([int(row["item_id"]) for row in rows], np.int64),
            clicked=np.array([int(row["click"]) for row in rows], np.uint8),
            propensity=np.array([float(row["propensity_score"]) for row in rows]),
            ts_ms=np.array([round(at.timestamp() * 1000.0) for at in times], np.int64),
            item_features=item_features,
        )
    except (KeyError, ValueError) as error:
        raise BadInput(f"open bandit log {path}: {error!r}; it must have the format") from error
    if not rows or log.items.min() < 0 or log.items.max() >= item_features.shape[0]:
        raise BadInput(f"open bandit log {path}: it must have rows, of items in item_context.csv")
    return log


def response_log_of(log: BanditLog) -> ResponseLog:
    """Returns the impressions of ``log`` as a response log; it knows no conversions."""
    return ResponseLog(
        features=log.features,
        ad_features=log.item_features[log.items],
        clicked=log.clicked,
        converted=np.zeros_like(log.clicked),
        ts_ms=log.ts_ms,
        weight=np.ones(log.clicked.shape[0], np.float32),
    )


def model_policy(weights: Weights, log: BanditLog) -> F64:
    """Returns [N, K]: with what probability the model's policy shows each item in each row's place.

    In proportion to the odds of a click, exp(logit): a policy that explores, so that its weights
    stay finite under any log.
    """
    count, item_count = log.features.shape[0], log.item_features.shape[0]
    logits = logits_of_rows(
        weights,
        np.repeat(log.features, item_count, axis=0),
        np.tile(log.item_features, (count, 1)),
    )[:, 0]
    slope = float(weights.calibration[0, 0])
    return np.asarray(softmax(slope * logits.reshape(count, item_count), axis=1), np.float64)


def judge_open_bandit(
    folder: Path, train: Callable[[ResponseLog], tuple[Weights, Scores]]
) -> OpenBanditReport:
    """Returns how a click model does that ``train`` makes from the early part of the random log.

    Args:
        folder: with ``random_all`` and ``bts_all``.
        train: learns from at most the first TRAINING_SHARE + CALIBRATION_SHARE of the rows.

    Raises:
        BadInput: a file is missing or broken.
    """
    uniform, thompson = (read_bandit_log(folder, policy) for policy in ("random", "bts"))
    weights, scores = train(response_log_of(uniform))
    seen = int((TRAINING_SHARE + CALIBRATION_SHARE) * uniform.ts_ms.shape[0])
    # a later row of the very same instant counts as unseen to the training, so also here
    first = int(np.searchsorted(uniform.ts_ms, uniform.ts_ms[seen]))
    unseen = uniform._replace(
        features=uniform.features[first:],
        items=uniform.items[first:],
        clicked=uniform.clicked[first:],
        propensity=uniform.propensity[first:],
        ts_ms=uniform.ts_ms[first:],
    )
    values: list[PolicyValue] = []
    for name, log in (("random", unseen), ("bts", thompson)):
        rows = np.arange(log.items.shape[0])
        targets = {
            "uniform": np.full(rows.shape[0], 1.0 / log.item_features.shape[0]),
            "model": model_policy(weights, log)[rows, log.items],
        }
        for policy, target in targets.items():
            for clip in (None, CLIP):
                value = off_policy_value(
                    log.clicked.astype(np.float64), target, log.propensity, clip
                )
                values.append(PolicyValue(name, policy, value))
    return OpenBanditReport(
        scores=scores,
        random=evaluate(weights, response_log_of(unseen)).pctr,
        bts=evaluate(weights, response_log_of(thompson)).pctr,
        values=tuple(values),
        caution=(
            f"trained and calibrated on {int(uniform.clicked[:first].sum())} clicks, judged on "
            f"{int(unseen.clicked.sum())} (random) and {int(thompson.clicked.sum())} (bts): "
            "differences within two standard errors mean nothing"
        ),
    )


def _read_csv(path: Path) -> Iterable[dict[str, str]]:
    try:
        with path.open(newline="") as file:
            yield from csv.DictReader(file)
    except OSError as error:
        raise BadInput(
            f"open bandit logs: {path} is missing "
            f"({error.strerror}); they are not part of the package"
        ) from error


def _context_row(field: int, text: str) -> int:
    return feature_row(field, np.uint64(code_of(text) if text else 0), CONTEXT_BUCKETS)


def _item_features(items: list[dict[str, str]]) -> npt.NDArray[np.uint32]:
    numbers = np.array([float(item["item_feature_0"]) for item in items])
    fifths = np.searchsorted(np.quantile(numbers, [0.2, 0.4, 0.6, 0.8]), numbers)
    table = np.empty((len(items), len(AD_FIELDS)), np.uint32)
    for item, fifth in zip(items, fifths, strict=True):
        texts = {**item, "fifth": str(fifth)}
        table[int(item["item_id"])] = ad_feature_rows(
            [texts[_AD_COLUMNS[field]] if field in _AD_COLUMNS else "" for field in AD_FIELDS]
        )
    return table
