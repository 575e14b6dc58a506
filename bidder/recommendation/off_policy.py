"""Off-policy evaluation: what a policy would have earned, from a log that another policy wrote.

Each logged row says how likely the logging policy was to choose as it did. A row counts
w = target probability / logging probability times; that is unbiased wherever the logging policy
could choose what the target chooses, and its variance grows with w. So weights may be clipped,
estimates are self-normalised, and the effective sample size says how many rows are left of the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from market.errors import BadInput

if TYPE_CHECKING:
    from bidder.recommendation.calibration import F64


class OffPolicyValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Estimated mean reward per row of a target policy.

    Attributes:
        clip: greatest weight allowed, None = as they are; clipping trades variance for a bias
            towards the logging policy.
        row_count: rows of the log.
        reward_count: rows with a reward; below some hundreds every figure here is a rough one.
        ips: inverse propensity score estimate, mean of w r.
        ips_error: its standard error.
        snips: self-normalised estimate, sum of w r / sum of w.
        snips_error: its standard error, by the delta method.
        effective_sample_size: (sum of w)^2 / sum of w^2.
        weight_max: greatest w after clipping.
    """

    clip: float | None
    row_count: int
    reward_count: int
    ips: float
    ips_error: float
    snips: float
    snips_error: float
    effective_sample_size: float
    weight_max: float


def off_policy_value(
    rewards: F64, target: F64, logging: F64, clip: float | None = None
) -> OffPolicyValue:
    """Returns the value of a target policy.

    Shapes: rewards[N]; target[N] and logging[N], probability of the choice that was logged.
    Source: Swaminathan and Joachims, "The self-normalized estimator for counterfactual learning",
    NeurIPS 2015, equations 4 (IPS) and 9 (SNIPS); Kong, 1992, for the effective sample size.

    Raises:
        BadInput: there is no row, a logging probability is not above 0, or the target policy never
            chooses what was logged.
    """
    count = rewards.shape[0]
    if not count or not (logging > 0.0).all():
        raise BadInput(
            f"off-policy log of {count} rows: least logging probability is "
            f"{logging.min(initial=np.inf)}; there must be rows, each with a probability > 0"
        )
    weights = target / logging
    if clip is not None:
        weights = np.minimum(weights, clip)
    total = float(weights.sum())
    if total <= 0.0:
        raise BadInput("off-policy log: the target policy never chooses what was logged")
    ips = float(np.dot(weights, rewards)) / count
    snips = float(np.dot(weights, rewards)) / total
    return OffPolicyValue(
        clip=clip,
        row_count=count,
        reward_count=int(np.count_nonzero(rewards)),
        ips=ips,
        ips_error=float(np.std(weights * rewards) / np.sqrt(count)),
        snips=snips,
        snips_error=float(np.sqrt(np.dot(weights**2, (rewards - snips) ** 2))) / total,
        effective_sample_size=total**2 / float(np.dot(weights, weights)),
        weight_max=float(weights.max()),
    )
