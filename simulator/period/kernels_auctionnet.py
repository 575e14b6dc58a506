"""Kernels of the AuctionNet market: fill a tick's supply, draw who converts.

Dimension names: A = agents, n = opportunities of the tick, E = exposures, T = ticks, W = windows.

Values are drawn for every agent and opportunity, so this draw is the engine's most frequent one:
the four 16-bit lanes of one hash are summed and bent by a step of Cornish and Fisher's expansion.
The result has mean 0, variance 1 and ends at +-3.8; its distribution function is within 0.001 of
the standard normal's. Not for what depends on extreme tails.
"""
# As in market.kernels: an int of the compiler is an np.int64, to numpy's stubs they are strangers.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from market.chance import Purpose
from market.kernel import kernel
from market.kernels import at_opportunity, mix, normal, stream, uniform

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U64 = npt.NDArray[np.uint64]

_EXPOSURE = int(Purpose.EXPOSURE)
_DEAL = int(Purpose.DEAL)
_CONVERSION = int(Purpose.CONVERSION)
_TRAFFIC = int(Purpose.TRAFFIC)
_CATEGORY_FACTOR = int(Purpose.CATEGORY_FACTOR)
_ADVERTISER_FACTOR = int(Purpose.ADVERTISER_FACTOR)
_SPREAD = int(Purpose.SPREAD)
_SPREAD_JITTER = int(Purpose.SPREAD_JITTER)
_AGENT_VALUE = int(Purpose.AGENT_VALUE)

_BLOCK = 1024
"""Opportunities or exposures that are drawn at a time; changes no result."""
_ODD = np.uint64(0xD1342543DE82EF95)
_LANE = np.uint64(0xFFFF)
_S16 = np.uint64(16)
_S32 = np.uint64(32)
_S40 = np.uint64(40)
_S48 = np.uint64(48)
_LANES_MEAN = np.float32(2.0 * 65535.0)
_LANES_SCALE = np.float32(1.0 / np.sqrt((65536.0**2 - 1.0) / 3.0))
"""Four independent uniforms on 0 .. 65535 have the variance 4 (65536^2 - 1) / 12 together."""
# Excess kurtosis of the sum is -0.3; Cornish and Fisher: z + 0.3 / 24 (z^3 - 3 z). The fourth and
# sixth moments of the sum are 2.7 and 10.9286, so that has the variance that is divided out here.
_BEND = np.float32(0.0125)
_BENT_SCALE = np.float32(1.0 / np.sqrt(1.0 - 0.6 * 0.0125 + 3.7286 * 0.0125**2))


@kernel
def opportunity_keys(seed: int, purpose: int, period: int, first: int, out: U64) -> None:
    """Fills out[n] with the keys of opportunities ``first + j``, from which actors draw."""
    key = stream(seed, purpose)
    for j in range(out.shape[0]):
        out[j] = at_opportunity(key, np.uint64(period), np.uint64(first + j))


@kernel
def exposure_draws(seed: int, period: int, first: int, out: F32) -> None:
    """Fills out[n] with uniform draws in [0, 1), exact in float32 (24 bits)."""
    key = stream(seed, _EXPOSURE)
    for j in range(out.shape[0]):
        own = at_opportunity(key, np.uint64(period), np.uint64(first + j))
        out[j] = np.float32(mix(own) >> _S40) * np.float32(2.0**-24)


@kernel
def deal_draws(seed: int, period: int, first: int, shares: F64, out: U8) -> None:
    """Fills out[n] with the deals that opportunities carry; shares[D] are cumulated, 0 = none."""
    key = stream(seed, _DEAL)
    for j in range(out.shape[0]):
        own = at_opportunity(key, np.uint64(period), np.uint64(first + j))
        drawn = uniform(own, 0)
        d = 0
        while d < shares.shape[0] and drawn >= shares[d]:
            d += 1
        out[j] = d + 1 if d < shares.shape[0] else 0


@kernel
def near_normal(word: np.uint64) -> np.float32:
    """Returns the near-normal number of a 64-bit hash (see the module)."""
    lanes = (word & _LANE) + ((word >> _S16) & _LANE) + ((word >> _S32) & _LANE) + (word >> _S48)
    z = (np.float32(np.int32(lanes)) - _LANES_MEAN) * _LANES_SCALE
    return z * (np.float32(1.0) + _BEND * (z * z - np.float32(3.0))) * _BENT_SCALE


@kernel
def fill_values(
    seed: int, period: int, first: int, mean: F32, spread: F32, keys: U64, value: F32
) -> None:
    """Fills value[A, n] with normal draws around mean[A], with sd spread[A], clipped to [0, 1].

    keys[n] is scratch, walked in blocks that stay in the first cache level.
    """
    opportunity_keys(seed, _AGENT_VALUE, period, first, keys)
    for lo in range(0, keys.shape[0], _BLOCK):
        own = keys[lo : lo + _BLOCK]
        for a in range(value.shape[0]):
            row = value[a, lo : lo + _BLOCK]
            actor = np.uint64(a) * _ODD
            centre, scale = mean[a], spread[a]
            for j in range(row.shape[0]):
                p = centre + scale * near_normal(mix(own[j] + actor))
                p = p if p > np.float32(0.0) else np.float32(0.0)
                row[j] = p if p < np.float32(1.0) else np.float32(1.0)


@kernel
def settle_conversions(
    seed: int,
    period: int,
    first: int,
    value: F32,
    opportunity: I32,
    agent: I32,
    worth_micros: I64,
    expected_conversions: F64,
    conversions: I64,
    return_micros: I64,
) -> None:
    """Draws for each exposure whether it converts, with probability value[agent, opportunity].

    Shapes: value[A, n], opportunity[E] and agent[E] (``seam.Exposures``), worth_micros[A] of a
    conversion; the last three [A] are ``seam.Accounts`` and added to.
    """
    key = stream(seed, _CONVERSION)
    coin = np.empty(min(_BLOCK, opportunity.shape[0]))
    for lo in range(0, opportunity.shape[0], _BLOCK):
        where, who = opportunity[lo : lo + _BLOCK], agent[lo : lo + _BLOCK]
        # Coins by themselves: a loop without branches, whose turns the compiler makes abreast.
        for e in range(where.shape[0]):
            number = np.uint64(first + np.int64(where[e]))
            own = at_opportunity(key, np.uint64(period), number)
            coin[e] = uniform(own, np.uint64(who[e]))
        for e in range(where.shape[0]):
            a = np.int64(who[e])
            p = np.float64(value[a, where[e]])
            expected_conversions[a] += p
            if coin[e] < p:
                conversions[a] += 1
                return_micros[a] += worth_micros[a]


@kernel
def traffic_shares(
    seed: int, period: int, shares: F64, least: float, most: float, out: F64
) -> None:
    """Fills out[W] with each window's share of a period's traffic; they add up to 1.

    Shapes: shares[W] weights, each multiplied by a uniform factor from least to most.
    """
    key = stream(seed, _TRAFFIC)
    total = 0.0
    for w in range(shares.shape[0]):
        u = uniform(at_opportunity(key, np.uint64(period), np.uint64(w)), 0)
        out[w] = shares[w] * (least + (most - least) * u)
        total += out[w]
    for w in range(shares.shape[0]):
        out[w] /= total


@kernel
def value_shapes(
    seed: int,
    period: int,
    base: float,
    category_factor: tuple[float, float],
    advertiser_factor: tuple[float, float],
    factor_ticks: int,
    spread: tuple[float, float, float],
    per_category: int,
    mean: F32,
    deviation: F32,
) -> None:
    """Fills mean[T, A] and deviation[T, A] of the values that agents see in each tick.

    Agent a belongs to category a // per_category. Both factors (least, most) are drawn anew every
    factor_ticks; spread is (mean, sd, jitter) of deviation / mean: the first two over agents, the
    third relative and per tick; a ratio below 0 becomes .1, one above 1 becomes 1.
    """
    category_key = stream(seed, _CATEGORY_FACTOR)
    advertiser_key = stream(seed, _ADVERTISER_FACTOR)
    spread_key = at_opportunity(stream(seed, _SPREAD), np.uint64(period), np.uint64(0))
    jitter_key = stream(seed, _SPREAD_JITTER)
    for t in range(mean.shape[0]):
        window = np.uint64(t // factor_ticks)
        of_category = at_opportunity(category_key, np.uint64(period), window)
        of_advertiser = at_opportunity(advertiser_key, np.uint64(period), window)
        of_tick = at_opportunity(jitter_key, np.uint64(period), np.uint64(t))
        for a in range(mean.shape[1]):
            low, high = category_factor
            value = base * (low + (high - low) * uniform(of_category, a // per_category))
            if a % per_category != 0:
                low, high = advertiser_factor
                value *= low + (high - low) * uniform(of_advertiser, a)
            ratio = spread[0] + spread[1] * normal(spread_key, a)
            ratio *= 1.0 + spread[2] * normal(of_tick, a)
            if ratio < 0.0:
                ratio = 0.1
            mean[t, a] = value
            deviation[t, a] = value * min(ratio, 1.0)
