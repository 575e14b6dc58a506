"""Rates: requests by hour of the day, clicks per impression, conversions per click.

Counts have conjugate posteriors: gamma for a Poisson rate, beta for a share, both with the prior of
Jeffreys, widened by how much more the counts vary than independent ones would. Click rates of
scenes are drawn towards the common one as far as they are uncertain (empirical Bayes: Morris,
JASA 78 (1983)).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from market.errors import BadInput
from simulator.calibration.log import DAY_HOURS, F64, I64, Log, summed
from simulator.calibration.rivals import clusters
from simulator.calibration.terms import Estimate, ResponseFit, SupplyFit

COVERED_MIN = 0.05
"""Less of an hour says nothing of its rate."""

_NEAR_HOURS = 2.0
_FAR_WEIGHT = 1e-6
_TAILS = (0.025, 0.975)


class _Hours(NamedTuple):
    """Counts and hours covered, by hour of the day; both [24]."""

    requests: F64
    exposure: F64


def fit_supply(log: Log) -> SupplyFit:
    """Returns requests per day and per hour of the day.

    An hour of the day that was not seen gets what its neighbours on the clock say.

    Raises:
        BadInput: no hour is covered.
    """
    hours = _by_hour(log)
    seen = hours.exposure > 0
    if not seen.any():
        raise BadInput("supply: no hour of the log is covered as a whole; give it a longer log")
    dispersion, day_sigma = _dispersions(log, hours)
    own, held = hours.requests.copy(), hours.exposure.copy()
    borrowed = np.where(seen, 0.0, _borrowing_error(hours) if not seen.all() else 0.0)
    for row in np.flatnonzero(~seen):
        own[row] = _borrowed(hours, int(row))
        # What is borrowed counts as one hour, however many it comes from.
        held[row] = 1.0
    rates = tuple(_rate(own[row], held[row], dispersion, borrowed[row]) for row in range(DAY_HOURS))
    mean = float(np.sum(own / held))
    days = max(float(hours.exposure.sum()) / DAY_HOURS, 1.0)
    # The day's variance: its hours' and what whole days differ by. A gamma law of both moments.
    variance = float(np.sum((own * dispersion + 0.5) / held**2)) + (mean * day_sigma) ** 2 / days
    # Hours that were not seen lie together, so what is wrong with them is wrong with all of them.
    variance += float(borrowed.sum()) ** 2
    shape = mean**2 / variance if mean > 0 else 0.5
    low, high = stats.gamma.ppf(_TAILS, shape, scale=max(mean, 1e-9) / shape)
    return SupplyFit(
        requests_per_day=Estimate.of(mean, float(low), float(high)),
        requests_per_hour=rates,
        is_seen=tuple(bool(known) for known in seen),
        dispersion=dispersion,
        day_sigma=day_sigma,
    )


def _by_hour(log: Log) -> _Hours:
    whole = log.covered >= COVERED_MIN
    hour = _hour_of(log)[whole]
    return _Hours(
        summed(hour, log.requests[whole], DAY_HOURS),
        summed(hour, log.covered[whole], DAY_HOURS),
    )


def _hour_of(log: Log) -> I64:
    return (log.hour_first + np.arange(log.requests.shape[0])) % DAY_HOURS


def _borrowed(hours: _Hours, row: int) -> float:
    """Returns the rate of an hour that was not seen, as those near it on the clock tell it."""
    weight = hour_weights(row, _NEAR_HOURS, _FAR_WEIGHT)
    return float(np.sum(weight * hours.requests) / np.sum(weight * hours.exposure))


def _borrowing_error(hours: _Hours) -> float:
    """Returns by how much a seen hour's rate, borrowed as if it were not seen, is off (RMS)."""
    seen = hours.exposure > 0
    if int(seen.sum()) < 2:
        return float(np.sum(hours.requests) / np.sum(hours.exposure))
    error = [
        _borrowed(_Hours(np.where(left, 0.0, hours.requests), np.where(left, 0.0, hours.exposure)),
                  int(row)) - hours.requests[row] / hours.exposure[row]
        for row in np.flatnonzero(seen)
        for left in (np.arange(DAY_HOURS) == row,)
    ]  # fmt: skip
    return float(np.sqrt(np.mean(np.square(error))))


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
    shown = summed(scene, None, scenes)
    clicks = summed(scene, clicked, scenes)
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


def _rate(count: float, exposure: float, dispersion: float, error: float) -> Estimate:
    """Returns a Poisson rate per hour, prior of Jeffreys, its information divided by dispersion.

    An error of the rate beyond its own chance widens the interval to a gamma law of that variance.
    """
    shape = count / dispersion + 0.5
    if error > 0.0 and count > 0.0:
        mean = count / exposure
        shape = mean**2 / (count * dispersion / exposure**2 + error**2)
        low, high = stats.gamma.ppf(_TAILS, shape, scale=mean / shape)
        return Estimate.of(mean, low, high)
    low, high = stats.gamma.ppf(_TAILS, shape, scale=dispersion / exposure)
    return Estimate.of(count / exposure, float(low), float(high))


def _dispersions(log: Log, hours: _Hours) -> tuple[float, float]:
    """Returns variance over mean of an hour's count within a day, and the spread of days' levels.

    The first is at least 1; both are told apart by fitting a level for each day.
    """
    hour = _hour_of(log)
    day = (log.hour_first + np.arange(hour.shape[0])) // DAY_HOURS
    day -= day[0] if day.size else 0
    rate = hours.requests / np.maximum(hours.exposure, 1e-9)
    expected = rate[hour] * log.covered
    used = (log.covered >= COVERED_MIN) & (expected > 0)
    of_day = np.bincount(day[used], weights=expected[used])
    level = np.bincount(day[used], weights=log.requests[used]) / np.maximum(of_day, 1e-9)
    freedom = int(used.sum()) - int(np.count_nonzero(hours.requests > 0)) - level.shape[0] + 1
    if freedom < 1:
        return log.request_unit, 0.0
    told = expected[used] * level[day[used]]
    chi2 = np.sum((log.requests[used] - told) ** 2 / np.maximum(told, 1e-9))
    dispersion = max(float(chi2) / freedom, log.request_unit)
    seen = of_day > 0
    by_chance = float(np.mean(dispersion / of_day[seen]))
    variance = float(np.var(level[seen], ddof=1)) - by_chance if int(seen.sum()) > 1 else 0.0
    return dispersion, float(np.sqrt(max(variance, 0.0)))


def _share(hits: float, tries: float, a: float, b: float) -> Estimate:
    low, high = stats.beta.ppf(_TAILS, hits + a, tries - hits + b)
    return Estimate.of((hits + a) / (tries + a + b), float(low), float(high))


def _click_dispersion(log: Log, won: npt.NDArray[np.bool_], clicked: F64) -> float:
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
