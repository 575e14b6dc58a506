"""A response log whose probabilities are known: a logistic with latent factors on both sides.

Written apart from the model: it works on values of fields, not on rows of tables, and knows the
probability of every click and conversion, which bounds what any model can score.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from market.events import FEATURE_COUNT
from market.features import AD_BUCKETS, CONTEXT_BUCKETS
from market.protocols import ResponseLog

AD_FIELD_COUNT = 6
CONTEXT_VALUES = 8
AD_VALUES = 5
START_MS = 1_700_000_000_000


class KnownWorld(NamedTuple):
    """A log and the truth behind it.

    Attributes:
        log: what a model may see.
        pctr: [N] probability of a click.
        pcvr: [N] probability of a conversion given a click.
    """

    log: ResponseLog
    pctr: npt.NDArray[np.float64]
    pcvr: npt.NDArray[np.float64]


def known_world(
    seed: int, count: int, click_logit: float = -2.8, conversion_logit: float = -1.0
) -> KnownWorld:
    """Returns ``count`` impressions, one a second; users and ads meet at random.

    Every field has a linear effect; the first context fields also have tastes of two dimensions for
    what the first ad fields offer, about as strong as all linear effects together.
    """
    rng = np.random.default_rng(seed)
    context = rng.integers(0, CONTEXT_VALUES, (count, FEATURE_COUNT))
    ad = rng.integers(0, AD_VALUES, (count, AD_FIELD_COUNT))
    probabilities: list[npt.NDArray[np.float64]] = []
    for level in (click_logit, conversion_logit):
        linear = np.zeros(count)
        taste, offer = np.zeros((count, 2)), np.zeros((count, 2))
        for field in range(FEATURE_COUNT):
            linear += rng.normal(0.0, 0.15, CONTEXT_VALUES)[context[:, field]]
        for field in range(4):
            taste += rng.normal(0.0, 0.5, (CONTEXT_VALUES, 2))[context[:, field]]
        for field in range(AD_FIELD_COUNT):
            linear += rng.normal(0.0, 0.15, AD_VALUES)[ad[:, field]]
        for field in range(3):
            offer += rng.normal(0.0, 0.5, (AD_VALUES, 2))[ad[:, field]]
        probabilities.append(1.0 / (1.0 + np.exp(-(level + linear + (taste * offer).sum(1)))))
    pctr, pcvr = probabilities
    clicked = rng.random(count) < pctr
    converted = clicked & (rng.random(count) < pcvr)
    log = ResponseLog(
        features=(context + 1 + np.arange(FEATURE_COUNT) * CONTEXT_BUCKETS).astype(np.uint32),
        ad_features=(ad + 1 + np.arange(AD_FIELD_COUNT) * AD_BUCKETS).astype(np.uint32),
        clicked=clicked.astype(np.uint8),
        converted=converted.astype(np.uint8),
        ts_ms=START_MS + 1000 * np.arange(count, dtype=np.int64),
        weight=np.ones(count, np.float32),
    )
    return KnownWorld(log, pctr, pcvr)
