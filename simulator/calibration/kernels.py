"""Inner loops of calibration: likelihood of rivals' bids, prices of a landscape, resampling.

Dimension names: N = rows of a log, K = rivals, S = scenes, H = hours of a day, Q = quantiles of a
landscape.

Rival k bids with probability p[k], log-normal around median[k] + slant * worth + shift[scene] with
spread sigma[k], where worth is what our own bid says of the user; so the best of them lies below x
with probability

    F(x) = product over k of F[k](x),  F[k](x) = 1 - p[k] + p[k] Phi((log x - ...) / sigma[k])

which is what ``simulator.kernels.best_rivals`` draws from.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from market.kernel import kernel
from market.kernels import at_opportunity, stream, uniform

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U64 = npt.NDArray[np.uint64]
U8 = npt.NDArray[np.uint8]

EXACT, BELOW, ABOVE = 0, 1, 2
"""What is known of a market price: its value, an upper bound, a lower bound."""

_ROOT_HALF = math.sqrt(0.5)
_LOG_ROOT_2PI = 0.5 * math.log(2.0 * math.pi)
_TINY = 1e-300


@kernel
def rival_terms(
    odds: F64,
    log_sigma: F64,
    median: F64,
    slant: float,
    shift: F64,
    scene: I32,
    worth: F64,
    log_price: F64,
    known: U8,
) -> tuple[F64, F64]:
    """Returns log likelihood[N] and its gradient[N, 3K + 2] of market prices, row by row.

    The gradient is in odds[K], log_sigma[K], median[K], slant and the shift of the row's scene.

    Args:
        odds: [K] log odds of presence.
        log_sigma: [K] log of the spread of log bids.
        median: [K] log of the median bid.
        slant: rivals' log bid per unit of ``worth``.
        shift: [S] of all log bids in a scene.
        scene: [N].
        worth: [N] our own log bid, centred.
        log_price: [N] log of the price that ``known`` speaks of.
        known: [N] ``EXACT``, ``BELOW`` (no rival, or one below) or ``ABOVE``.

    Source: likelihood of a doubly censored sample, Turnbull, JASA 69 (1974), section 2, for the
    distribution in the module docstring.
    """
    n, rivals = scene.shape[0], odds.shape[0]
    value = np.empty(n)
    gradient = np.zeros((n, 3 * rivals + 2))
    below = np.empty(rivals)
    above_own = np.empty(rivals)
    chance = np.empty(rivals)
    sigma = np.exp(log_sigma)
    for i in range(n):
        log_below, log_rest, hazard, above = 0.0, 0.0, 0.0, 1.0
        level = log_price[i] - slant * worth[i] - shift[scene[i]]
        for k in range(rivals):
            p = 1.0 / (1.0 + math.exp(-odds[k]))
            z = (level - median[k]) / sigma[k]
            density = math.exp(-0.5 * z * z - _LOG_ROOT_2PI)
            rest = p * 0.5 * math.erfc(z * _ROOT_HALF)
            above_own[k] = rest
            below[k] = max(1.0 - rest, _TINY)
            chance[k] = p * density / sigma[k]
            log_below += math.log(below[k])
            log_rest += math.log1p(-min(rest, 1.0 - 1e-16))
            hazard += chance[k] / below[k]
        if known[i] == EXACT:
            value[i] = log_below + math.log(max(hazard, _TINY)) - log_price[i]
        elif known[i] == BELOW:
            value[i] = log_below
        else:
            # 1 - F without cancellation where F is close to 1.
            above = max(-math.expm1(log_rest), _TINY)
            value[i] = math.log(above)
        for k in range(rivals):
            p = 1.0 / (1.0 + math.exp(-odds[k]))
            z = (level - median[k]) / sigma[k]
            own = chance[k]
            # F[k] and its density in the rival's three numbers; both per unit of log price.
            f_odds = -(1.0 - p) * above_own[k]
            f_sigma = -own * sigma[k] * z
            f_median = -own
            weight = 1.0 / below[k]
            if known[i] == ABOVE:
                weight = -math.exp(log_below) / above / below[k]
            d_odds, d_sigma, d_median = weight * f_odds, weight * f_sigma, weight * f_median
            if known[i] == EXACT:
                scale = 1.0 / (below[k] * max(hazard, _TINY))
                ratio = own / below[k]
                d_odds += scale * (own * (1.0 - p) - ratio * f_odds)
                d_sigma += scale * (own * (z * z - 1.0) - ratio * f_sigma)
                d_median += scale * (own * z / sigma[k] - ratio * f_median)
            gradient[i, k] = d_odds
            gradient[i, rivals + k] = d_sigma
            gradient[i, 2 * rivals + k] = d_median
            gradient[i, 3 * rivals + 1] += d_median
        gradient[i, 3 * rivals] = gradient[i, 3 * rivals + 1] * worth[i]
    return value, gradient


@kernel
def win_probabilities(
    odds: F64,
    log_sigma: F64,
    median: F64,
    slant: float,
    shift: F64,
    scene: I32,
    worth: F64,
    bid_cpm_micros: I64,
    floor_cpm_micros: I64,
) -> F64:
    """Returns [N] probability that a bid wins: it reaches the floor, and no rival reaches it.

    The rivals' numbers are those of ``rival_terms``, prices in units of currency per thousand.
    """
    rivals = odds.shape[0]
    presence = 1.0 / (1.0 + np.exp(-odds))
    sigma = np.exp(log_sigma)
    out = np.zeros(scene.shape[0])
    for i in range(scene.shape[0]):
        if bid_cpm_micros[i] <= 0 or bid_cpm_micros[i] < floor_cpm_micros[i]:
            continue
        log_bid = math.log(bid_cpm_micros[i] * 1e-6) - slant * worth[i] - shift[scene[i]]
        chance = 1.0
        for k in range(rivals):
            z = (log_bid - median[k]) / sigma[k]
            chance *= 1.0 - presence[k] * 0.5 * math.erfc(z * _ROOT_HALF)
        out[i] = chance
    return out


@kernel
def landscape_prices(
    seed: int, purpose: int, key_hi: U64, key_lo: U64, hour: I64, quantiles: I64
) -> I64:
    """Returns [N] market prices drawn from the landscape of each row's hour, in micros CPM.

    Args:
        seed: of the draws.
        purpose: ``market.chance.Purpose`` of the draws.
        key_hi: [N] of the opportunities.
        key_lo: [N] of the opportunities.
        hour: [N] of the day.
        quantiles: [H, Q] prices at shares 0.5/Q, 1.5/Q, .. of the landscape; each is as likely.
    """
    n = key_hi.shape[0]
    out = np.empty(n, np.int64)
    key = stream(seed, purpose)
    steps = quantiles.shape[1]
    for i in range(n):
        u = uniform(at_opportunity(key, key_hi[i], key_lo[i]), 0)
        out[i] = quantiles[hour[i], int(u * steps)]
    return out


@kernel
def poisson_counts(seed: int, purpose: int, key: U64) -> I64:
    """Returns [N] draws of a Poisson law of mean 1, one per key: weights of a bootstrap.

    Rows of one key (one user) get the same draw, so that they are drawn together.

    Source: Hanley and MacGibbon, "Creating non-parametric bootstrap samples using Poisson
    frequencies", Computer Methods and Programs in Biomedicine 83 (2006); inversion by search.
    """
    n = key.shape[0]
    out = np.empty(n, np.int64)
    own = stream(seed, purpose)
    for i in range(n):
        u = uniform(at_opportunity(own, np.uint64(0), key[i]), 0)
        term = math.exp(-1.0)
        total, count = term, 0
        while u >= total and count < 64:
            count += 1
            term /= count
            total += term
        out[i] = count
    return out
