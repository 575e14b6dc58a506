"""Rates: requests by hour of the day, clicks per impression, conversions per click.

Counts have conjugate posteriors: gamma for a Poisson rate, beta for a share, both with the prior of
Jeffreys, widened by how much more the counts vary than independent ones would. Click rates of
scenes are drawn towards the common one as far as they are uncertain (empirical Bayes: Morris,
JASA 78 (1983)).
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from simulator.calibration.log import DAY_HOURS, F64, Log
from simulator.calibration.rivals import clusters
from simulator.calibration.terms import Estimate, ResponseFit, SupplyFit

COVERED_MIN = 0.05
"""Less of an hour says nothing of its rate."""

_TAILS = (0.025, 0.975)


def fit_supply(log: Log, bandwidth_hours: float = 2.0, pooled_weight: float = 0.01) -> SupplyFit:
    """Returns requests per day and per hour of the day.

    Args:
        log: with at least one covered hour.
        bandwidth_hours: how far hours that were not seen borrow from others.
        pooled_weight: of hours far away, relative to near ones.
    """
    hour = (log.hour_first + np.arange(log.requests.shape[0])) % DAY_HOURS
    whole = log.covered >= COVERED_MIN
    count = np.bincount(hour[whole], weights=log.requests[whole], minlength=DAY_HOURS)
    exposure = np.bincount(hour[whole], weights=log.covered[whole], minlength=DAY_HOURS)
    seen = exposure > 0
    dispersion = _dispersion(log, hour, whole, count, exposure)
    own, held = count.copy(), exposure.copy()
    for row in np.flatnonzero(~seen):
        weight = hour_weights(int(row), bandwidth_hours, pooled_weight) * seen
        # What is borrowed counts as one hour, however many it comes from.
        own[row] = np.sum(weight * count) / np.sum(weight * exposure)
        held[row] = 1.0
    hours = tuple(_rate(own[row], held[row], dispersion) for row in range(DAY_HOURS))
    mean = float(np.sum(own / held))
    # The day's variance is the sum of its hours': a gamma law of that mean and variance.
    variance = float(np.sum((own * dispersion + 0.5) / held**2))
    shape = mean**2 / variance if mean > 0 else 0.5
    low, high = stats.gamma.ppf(_TAILS, shape, scale=max(mean, 1e-9) / shape)
    return SupplyFit(
        requests_per_day=Estimate(value=mean, low=float(low), high=float(high)),
        requests_per_hour=hours,
        is_seen=tuple(bool(known) for known in seen),
        dispersion=dispersion,
    )


def hour_weights(hour: int, bandwidth_hours: float, pooled_weight: float) -> F64:
    """Returns [24] weights of the hours of a day for one of them: near ones more, far ones a rest.

    A normal kernel over the distance on the clock, plus ``pooled_weight`` everywhere.
    """
    apart = np.abs(np.arange(DAY_HOURS) - hour)
    apart = np.minimum(apart, DAY_HOURS - apart)
    return np.exp(-0.5 * (apart / bandwidth_hours) ** 2) + pooled_weight


def fit_response(log: Log, cvr: Estimate | None) -> ResponseFit:
    """Returns the click rate, over all and by scene; ``cvr`` is fitted with the delays."""
    won = log.has_won > 0
    clicked = log.clicked[won].astype(np.float64)
    scene = log.scene[won]
    scenes = len(log.scenes)
    shown = np.bincount(scene, minlength=scenes).astype(np.float64)
    clicks = np.bincount(scene, weights=clicked, minlength=scenes)
    total, sum_clicks = float(shown.sum()), float(clicks.sum())
    spread = _click_dispersion(log, won, clicked)
    ctr = _share(sum_clicks / spread, total / spread, 0.5, 0.5)
    middle = (sum_clicks + 0.5) / (total + 1.0)
    strength = _strength(clicks, shown, middle)
    by_scene = tuple(
        _share(
            clicks[s] / spread, shown[s] / spread,
            strength * middle, strength * (1.0 - middle),
        )
        for s in range(scenes)
    )  # fmt: skip
    return ResponseFit(ctr=ctr, ctr_by_scene=by_scene, cvr=cvr)


def _rate(count: float, exposure: float, dispersion: float) -> Estimate:
    """Returns a Poisson rate per hour, prior of Jeffreys, its information divided by dispersion."""
    shape = count / dispersion + 0.5
    low, high = stats.gamma.ppf(_TAILS, shape, scale=dispersion / exposure)
    return Estimate(value=count / exposure, low=float(low), high=float(high))


def _dispersion(log: Log, hour: F64, whole: F64, count: F64, exposure: F64) -> float:
    """Returns variance over mean of an hour's counts over the days; at least 1."""
    expected = (count / np.maximum(exposure, 1e-9))[hour] * log.covered
    used = whole & (expected > 0)
    freedom = int(used.sum()) - int(np.count_nonzero(count > 0))
    if freedom < 1:
        return 1.0
    chi2 = np.sum((log.requests[used] - expected[used]) ** 2 / expected[used])
    return max(float(chi2) / freedom, 1.0)


def _share(hits: float, tries: float, a: float, b: float) -> Estimate:
    low, high = stats.beta.ppf(_TAILS, hits + a, tries - hits + b)
    return Estimate(value=(hits + a) / (tries + a + b), low=float(low), high=float(high))


def _click_dispersion(log: Log, won: F64, clicked: F64) -> float:
    """Returns variance of clicks over that of independent ones, by user; at least 1."""
    if not clicked.shape[0]:
        return 1.0
    rate = clicked.mean()
    if rate <= 0.0 or rate >= 1.0:
        return 1.0
    _, cluster = np.unique(clusters(log)[won], return_inverse=True)
    residual = np.bincount(cluster, weights=clicked - rate)
    return max(float(np.sum(residual**2) / (clicked.shape[0] * rate * (1.0 - rate))), 1.0)


def _strength(clicks: F64, shown: F64, middle: float) -> float:
    """Returns the sum of the beta prior's parameters: how many impressions it is worth.

    By the method of moments: what the scenes' rates vary beyond their own chance.
    """
    seen = shown > 0
    if int(seen.sum()) < 2:
        return 1.0
    rate = clicks[seen] / shown[seen]
    excess = float(np.sum(shown[seen] * (rate - middle) ** 2))
    excess -= (int(seen.sum()) - 1) * middle * (1.0 - middle)
    scale = float(shown.sum() - np.sum(shown**2) / shown.sum())
    between = excess / scale if scale > 0 else 0.0
    # No prior is worth more than what is known of the middle itself.
    most = float(shown.sum())
    if between <= 0:
        return most
    return float(np.clip(middle * (1.0 - middle) / between - 1.0, 1.0, most))
