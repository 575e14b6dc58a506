"""Delays: how long conversions take after the click, of a log that ends while some are on the way.

A click converts with probability c, after a log-normal time. A click that was followed for f and
has not converted either never will, or will later than f: its likelihood is 1 - c + c S(f), so the
share that never converts and the delay are fitted together (Chapelle, "Modeling delayed feedback in
display advertising", KDD 2014, equations 7-10, with a log-normal in place of the exponential law).

On an exchange's clock of ticks click and conversion are each told at the next tick, so a logged
delay says within a tick, on either side, what the true one was. Where in its tick a click happened
is not told, but the time of its bid is, and people click soon after the bid or not at all: how many
ticks pass from bid to click says how soon. The likelihood integrates over what that leaves open.
(To take clicks for uniform within their tick would bias delays by up to half a tick.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, ndtr

from simulator.calibration.terms import DelayFit, Estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.calibration.log import F64, Log

CONVERSIONS_MIN = 8
"""A spread of fewer delays says nothing."""

Z95 = 1.959963984540054
_STEP = 1e-4
_TICK_SHARE = 1e-3
_PLACES = 8
"""Points at which the place of a click within its tick is integrated over."""


def fit_delays(log: Log) -> tuple[DelayFit, Estimate] | None:
    """Returns the delay and the conversion rate per click; None with under ``CONVERSIONS_MIN``."""
    clicked = log.followed_ms >= 0
    has_converted = log.converted[clicked] > 0
    delay = log.delay_ms[clicked][has_converted].astype(np.float64)
    followed = np.maximum(log.followed_ms[clicked][~has_converted], 1).astype(np.float64)
    if delay.shape[0] < CONVERSIONS_MIN:
        return None
    tick = float(log.delay_tick_ms)
    told = log.end_ms - log.followed_ms[clicked]
    place = click_places((told - log.at_ms[clicked]).astype(np.float64), tick)
    converted_at, others_at = place[has_converted], place[~has_converted]

    def loss(theta: F64) -> float:
        return -delay_log_likelihood(theta, delay, followed, tick, converted_at, others_at)

    positive = np.log(np.maximum(delay, 0.5 * tick))
    share = delay.shape[0] / (delay.shape[0] + followed.shape[0])
    start = np.array(
        [np.log(share / (1.0 - share + 1e-3)), positive.mean(), np.log(positive.std() + 0.1)]
    )
    found = minimize(loss, start, method="Nelder-Mead", options={
        "xatol": 1e-6, "fatol": 1e-7, "maxiter": 4000, "maxfev": 4000,
    })  # fmt: skip
    theta = found.x
    error = np.sqrt(np.maximum(np.diag(np.linalg.pinv(_hessian(loss, theta))), 0.0))
    odds, median, sigma = (
        _estimate(theta[i], error[i], scale)
        for i, scale in enumerate((lambda x: float(expit(x)), _exp, _exp))
    )
    return DelayFit(median_ms=median, sigma=sigma), odds


def click_places(told_ms: F64, tick_ms: float) -> F64:
    """Returns [N, Q] where in its tick each click may have happened, ms from its start, as likely.

    The time from bid to click is taken for exponential, so that the whole ticks in it are
    geometric: their success probability has the prior of Jeffreys, and the mean of its posterior is
    used.

    Args:
        told_ms: [N] from the bid to the tick at which the click was told.
        tick_ms: of the clock.

    Source: Jeffreys, "An invariant form for the prior probability in estimation problems",
    Proceedings of the Royal Society A 186 (1946): 1 / (q sqrt(1 - q)) for a geometric law.
    """
    passed = np.maximum(np.ceil(told_ms / tick_ms) - 1.0, 0.0)
    goes_on = (passed.sum() + 0.5) / (passed.shape[0] + passed.sum() + 0.5)
    mean_ms = -tick_ms / np.log(goes_on)
    # Nobody clicks before the bid.
    first = np.clip(tick_ms - told_ms, 0.0, tick_ms * (1.0 - 1e-6))[:, None]
    u = (np.arange(_PLACES) + 0.5) / _PLACES
    return first - mean_ms * np.log1p(u * np.expm1(-(tick_ms - first) / mean_ms))


def delay_log_likelihood(
    theta: F64,
    delay_ms: F64,
    followed_ms: F64,
    tick_ms: float,
    converted_at_ms: F64,
    others_at_ms: F64,
) -> float:
    """Returns the log likelihood of delays and of clicks that have not converted.

    Args:
        theta: log odds of converting, log median in ms, log of the spread.
        delay_ms: [N] of those that converted, from click to conversion as told.
        followed_ms: [M] how long each of the others was followed since its click was told.
        tick_ms: of the clock.
        converted_at_ms: [N, Q] where in its tick the click may have happened, as likely.
        others_at_ms: [M, Q] the same.
    """
    odds, median, log_sigma = theta
    sigma = np.exp(np.clip(log_sigma, -5.0, 3.0))
    converts = expit(odds)
    fine = tick_ms <= _TICK_SHARE * delay_ms
    z = (np.log(np.maximum(delay_ms, 1e-9)) - median) / sigma
    smooth = -0.5 * z**2 - 0.5 * np.log(2.0 * np.pi) - np.log(sigma * np.maximum(delay_ms, 1e-9))
    # Told at tick k after the click's: between k and k + 1 ticks after the start of the click's.
    longest = delay_ms[:, None] + tick_ms - converted_at_ms
    within = _below(longest, median, sigma) - _below(longest - tick_ms, median, sigma)
    rough = np.log(np.maximum(within.mean(axis=1), 1e-300) / tick_ms)
    known = np.where(fine, smooth, rough) + np.log(converts)
    since = followed_ms[:, None] + tick_ms - others_at_ms
    survival = ndtr(-(np.log(since) - median) / sigma).mean(axis=1)
    open_ended = np.log1p(-converts * (1.0 - survival))
    return float(known.sum() + open_ended.sum())


def _below(x: F64, median: float, sigma: float) -> F64:
    """Returns a log-normal's distribution function; 0 below 0."""
    return np.where(x > 0, ndtr((np.log(np.maximum(x, 1e-9)) - median) / sigma), 0.0)


def _hessian(loss: Callable[[F64], float], theta: F64) -> F64:
    """Returns [3, 3] second derivatives by central differences."""
    size = theta.shape[0]
    out = np.zeros((size, size))
    for i in range(size):
        for j in range(i, size):
            value = 0.0
            for a, b, sign in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
                at = theta.copy()
                at[i] += a * _STEP
                at[j] += b * _STEP
                value += sign * loss(at)
            out[i, j] = out[j, i] = value / (4.0 * _STEP**2)
    return out


def _estimate(middle: float, error: float, scale: Callable[[float], float]) -> Estimate:
    low, high = middle - Z95 * error, middle + Z95 * error
    return Estimate.of(scale(middle), scale(low), scale(high))


def _exp(x: float) -> float:
    return float(np.exp(np.clip(x, -50.0, 50.0)))
