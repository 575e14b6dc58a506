"""Delays: how long conversions take after the click, of a log that ends while some are on the way.

A click converts with probability c, after a log-normal time. A click that was followed for f and
has not converted either never will, or will later than f: its likelihood is 1 - c + c S(f), so the
share that never converts and the delay are fitted together (Chapelle, "Modeling delayed feedback in
display advertising", KDD 2014, equations 7-10, with a log-normal in place of the exponential law).

On an exchange's clock of ticks the time of click and conversion are each rounded up, so a logged
delay is off by a triangular error of a tick on either side; the likelihood integrates over it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_ndtr, ndtr

from simulator.calibration.terms import DelayFit, Estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.calibration.log import F64, Log

CONVERSIONS_MIN = 8
"""A spread of fewer delays says nothing."""

Z95 = 1.959963984540054
_STEP = 1e-4
_TICK_SHARE = 1e-3


def fit_delays(log: Log) -> tuple[DelayFit, Estimate] | None:
    """Returns the delay and the conversion rate per click; None with under ``CONVERSIONS_MIN``."""
    clicked = log.followed_ms >= 0
    has_converted = log.converted[clicked] > 0
    delay = log.delay_ms[clicked][has_converted].astype(np.float64)
    followed = np.maximum(log.followed_ms[clicked][~has_converted], 1).astype(np.float64)
    if delay.shape[0] < CONVERSIONS_MIN:
        return None
    tick = float(log.delay_tick_ms)

    def loss(theta: F64) -> float:
        return -delay_log_likelihood(theta, delay, followed, tick)

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


def delay_log_likelihood(theta: F64, delay_ms: F64, followed_ms: F64, tick_ms: float) -> float:
    """Returns the log likelihood of delays and of clicks that have not converted.

    Args:
        theta: log odds of converting, log median in ms, log of the spread.
        delay_ms: of those that converted.
        followed_ms: how long each of the others was followed.
        tick_ms: of the clock.
    """
    odds, median, log_sigma = theta
    sigma = np.exp(np.clip(log_sigma, -5.0, 3.0))
    converts = expit(odds)
    fine = tick_ms <= _TICK_SHARE * delay_ms
    z = (np.log(np.maximum(delay_ms, 1e-9)) - median) / sigma
    smooth = -0.5 * z**2 - 0.5 * np.log(2.0 * np.pi) - np.log(sigma * np.maximum(delay_ms, 1e-9))
    second = (
        _below_sum(delay_ms + tick_ms, median, sigma)
        - 2.0 * _below_sum(delay_ms, median, sigma)
        + _below_sum(delay_ms - tick_ms, median, sigma)
    )
    rough = np.log(np.maximum(second, 1e-300) / tick_ms**2)
    known = np.where(fine, smooth, rough) + np.log(converts)
    survival = np.exp(log_ndtr(-(np.log(followed_ms) - median) / sigma))
    open_ended = np.log1p(-converts * (1.0 - survival))
    return float(known.sum() + open_ended.sum())


def _below_sum(x: F64, median: float, sigma: float) -> F64:
    """Returns the integral from 0 to x of a log-normal's distribution function; 0 below 0.

    Integration by parts: x F(x) - E[D; D <= x]. Its second difference over a tick is the density
    seen through the triangular error of two roundings.
    """
    log_x = np.log(np.maximum(x, 1e-9))
    z = (log_x - median) / sigma
    mean = np.exp(median + 0.5 * sigma**2)
    return np.where(x > 0, x * ndtr(z) - mean * ndtr(z - sigma), 0.0)


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
