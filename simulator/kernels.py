"""The twin's inner loops: who arrives where, what rivals bid, what users do. All draws are keyed.

Dimension names: N = opportunities, S = scenes, U = users, K = interests, J = competitors,
C = registered creatives, A = actors of one draw, Q = quarters of a day (96).

A draw of opportunity i is ``uniform(at_opportunity(stream(seed, purpose), key_hi[i], key_lo[i]),
actor)`` (``market.kernels``): it depends on nothing that anybody bid.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from market.chance import Purpose
from market.kernel import kernel
from market.kernels import (
    amount_micros,
    at_opportunity,
    context_features,
    normal,
    stream,
    uniform,
)

_ARRIVAL = int(Purpose.ARRIVAL)
_USER = int(Purpose.USER)
_SCENE = int(Purpose.SCENE)
_FLOOR = int(Purpose.FLOOR)
_COMPETITOR_VALUE = int(Purpose.COMPETITOR_VALUE)
_COMPETITOR_PRESENCE = int(Purpose.COMPETITOR_PRESENCE)
_VIEW = int(Purpose.VIEW)
_CLICK = int(Purpose.CLICK)
_CONVERSION = int(Purpose.CONVERSION)
_CONVERSION_DELAY = int(Purpose.CONVERSION_DELAY)
_CONVERSION_VALUE = int(Purpose.CONVERSION_VALUE)

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
U8 = npt.NDArray[np.uint8]


class SupplyArrays(NamedTuple):
    """Who can arrive where.

    Attributes:
        scene_cdf: [Q, S] cumulated probability of a scene, by quarter of the UTC day; last is 1.
        pool: [S] which pool of users a scene draws from.
        pool_first: [pools + 1] slices of the next two.
        pool_cdf: [*] cumulated probability of the users of a pool; last of a pool is 1.
        pool_user: [*] rows of users.
        floor_cpm_micros: [S] mean floor.
        floor_spread: [S] floors lie within this share around the mean.
    """

    scene_cdf: F64
    pool: I32
    pool_first: I64
    pool_cdf: F64
    pool_user: I32
    floor_cpm_micros: I64
    floor_spread: F64


class RivalArrays(NamedTuple):
    """What rivals value.

    Attributes:
        presence: [J] probability of a bid.
        log_cpm: [J, S] median log bid in units of currency per thousand.
        taste: [J, K] log bid per standard deviation of an interest.
        sigma: [J] spread of log bids.
    """

    presence: F64
    log_cpm: F64
    taste: F64
    sigma: F64


class ResponseArrays(NamedTuple):
    """What users do. Index 0 of the leading axis is the click, 1 the conversion.

    Attributes:
        intercept: [2] of the log odds.
        match_scale: [2] log odds per unit of (taste of user) . (appeal of ad).
        user_effect: [2, U] log odds.
        scene_effect: [2, S] log odds.
        ad_effect: [2, C] log odds.
        appeal: [2, C, K] what the ad speaks to.
        interest: [U, K] tastes of the users.
        viewability: [S] probability that an impression comes into view.
        delay: [4] median, log spread, least and most milliseconds from click to conversion.
        value_sigma: [1] log spread of an order's value.
    """

    intercept: F64
    match_scale: F64
    user_effect: F64
    scene_effect: F64
    ad_effect: F64
    appeal: F64
    interest: F64
    viewability: F64
    delay: F64
    value_sigma: F64


@kernel
def uniform_table(seed: int, purpose: int, key_hi: U64, key_lo: U64, actors: I64) -> F64:
    """Returns [N, A] uniform draws of each actor at each opportunity (or entity) key."""
    out = np.empty((key_hi.shape[0], actors.shape[0]))
    key = stream(seed, purpose)
    for i in range(key_hi.shape[0]):
        own = at_opportunity(key, key_hi[i], key_lo[i])
        for a in range(actors.shape[0]):
            out[i, a] = uniform(own, actors[a])
    return out


@kernel
def normal_table(seed: int, purpose: int, key_hi: U64, key_lo: U64, count: int) -> F64:
    """Returns [N, count] standard normal draws of actors 0 .. count - 1 at each key."""
    out = np.empty((key_hi.shape[0], count))
    key = stream(seed, purpose)
    for i in range(key_hi.shape[0]):
        own = at_opportunity(key, key_hi[i], key_lo[i])
        for a in range(count):
            out[i, a] = normal(own, a)
    return out


@kernel
def arrival_offsets(seed: int, first: int, count: int) -> F64:
    """Returns [count] in [0, 1): how far request ``first + i`` arrives into its share of traffic.

    Request n arrives when the expected number of requests reaches n + offset(n): a stratified
    point process, whose order of arrival is its numbering and which any slicing of time cuts alike.
    """
    out = np.empty(count)
    key = stream(seed, _ARRIVAL)
    for i in range(count):
        own = at_opportunity(key, np.uint64(0), np.uint64(first + i))
        out[i] = uniform(own, 0)
    return out


@kernel
def _first_above(cdf: F64, lo: int, hi: int, u: float) -> int:
    """Returns the first row of cdf[lo:hi] that exceeds ``u``; ``hi - 1`` if none does."""
    last = hi - 1
    while lo < last:
        middle = (lo + last) // 2
        if cdf[middle] > u:
            last = middle
        else:
            lo = middle + 1
    return lo


@kernel
def draw_arrivals(
    seed: int, key_hi: U64, key_lo: U64, quarter: I64, supply: SupplyArrays
) -> tuple[I32, I32, I64]:
    """Returns scene[N], user[N] and floor_cpm_micros[N] of the opportunities with these keys.

    The scene is drawn by its traffic in the quarter of the UTC day in which the request arrives,
    the user from the scene's pool. Floors are whole cents per thousand.
    """
    n = key_hi.shape[0]
    scene = np.empty(n, np.int32)
    user = np.empty(n, np.int32)
    floor = np.empty(n, np.int64)
    scene_key = stream(seed, _SCENE)
    user_key = stream(seed, _USER)
    floor_key = stream(seed, _FLOOR)
    for i in range(n):
        u = uniform(at_opportunity(scene_key, key_hi[i], key_lo[i]), 0)
        cdf = supply.scene_cdf[quarter[i]]
        s = _first_above(cdf, 0, cdf.shape[0], u)
        scene[i] = s
        u = uniform(at_opportunity(user_key, key_hi[i], key_lo[i]), 0)
        pool = supply.pool[s]
        lo, hi = supply.pool_first[pool], supply.pool_first[pool + 1]
        user[i] = supply.pool_user[_first_above(supply.pool_cdf, lo, hi, u)]
        u = uniform(at_opportunity(floor_key, key_hi[i], key_lo[i]), 0)
        factor = 1.0 + supply.floor_spread[s] * (2.0 * u - 1.0)
        floor[i] = np.int64(np.floor(supply.floor_cpm_micros[s] * factor / 1e4 + 0.5)) * 10_000
    return scene, user, floor


@kernel
def best_rivals(
    seed: int,
    key_hi: U64,
    key_lo: U64,
    scene: I32,
    user: I32,
    floor_cpm_micros: I64,
    rivals: RivalArrays,
    interest: F64,
) -> I64:
    """Returns [N] the highest rival bid in micros CPM that reaches the floor; 0 = no rival.

    Competitor j bids with probability presence[j]; the log of its bid is normal around
    log_cpm[j, scene] + taste[j] . interest[user] with spread sigma[j].
    """
    n = key_hi.shape[0]
    best = np.zeros(n, np.int64)
    presence_key = stream(seed, _COMPETITOR_PRESENCE)
    value_key = stream(seed, _COMPETITOR_VALUE)
    for i in range(n):
        presence = at_opportunity(presence_key, key_hi[i], key_lo[i])
        value = at_opportunity(value_key, key_hi[i], key_lo[i])
        for j in range(rivals.presence.shape[0]):
            if uniform(presence, j) >= rivals.presence[j]:
                continue
            log_cpm = rivals.log_cpm[j, scene[i]] + rivals.sigma[j] * normal(value, j)
            for k in range(interest.shape[1]):
                log_cpm += rivals.taste[j, k] * interest[user[i], k]
            # Nobody bids above e^9 CPM, which keeps the integer far from its end.
            price = np.int64(np.floor(np.exp(min(log_cpm, 9.0)) * 1e6))
            if price >= floor_cpm_micros[i] and price > best[i]:
                best[i] = price
    return best


@kernel
def log_odds(kind: int, user: int, scene: int, creative: int, response: ResponseArrays) -> float:
    """Returns the log odds of a click (kind 0) of a viewed ad, or a conversion (1) of a click."""
    match = 0.0
    for k in range(response.interest.shape[1]):
        match += response.interest[user, k] * response.appeal[kind, creative, k]
    return (
        response.intercept[kind]
        + response.user_effect[kind, user]
        + response.scene_effect[kind, scene]
        + response.ad_effect[kind, creative]
        + response.match_scale[kind] * match
    )


@kernel
def logistic(x: float) -> float:
    """Returns 1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-x))


@kernel
def response_probabilities(
    user: I32, scene: I32, creative: I32, response: ResponseArrays
) -> tuple[F64, F64, F64]:
    """Returns [N] each: P(view), P(click | viewed), P(conversion | click)."""
    n = user.shape[0]
    view = np.empty(n)
    click = np.empty(n)
    conversion = np.empty(n)
    for i in range(n):
        view[i] = response.viewability[scene[i]]
        click[i] = logistic(log_odds(0, user[i], scene[i], creative[i], response))
        conversion[i] = logistic(log_odds(1, user[i], scene[i], creative[i], response))
    return view, click, conversion


@kernel
def draw_responses(
    seed: int, key_hi: U64, key_lo: U64, view: F64, click: F64, conversion: F64
) -> tuple[U8, U8, U8]:
    """Returns [N] each: viewed, clicked, converted, given the probabilities of each step.

    One coin per opportunity and step, whatever ad is shown: two policies that show different ads
    to a user meet the same mood, so their difference has less noise (common random numbers).
    """
    n = key_hi.shape[0]
    viewed = np.zeros(n, np.uint8)
    clicked = np.zeros(n, np.uint8)
    converted = np.zeros(n, np.uint8)
    view_key = stream(seed, _VIEW)
    click_key = stream(seed, _CLICK)
    conversion_key = stream(seed, _CONVERSION)
    for i in range(n):
        if uniform(at_opportunity(view_key, key_hi[i], key_lo[i]), 0) >= view[i]:
            continue
        viewed[i] = 1
        if uniform(at_opportunity(click_key, key_hi[i], key_lo[i]), 0) >= click[i]:
            continue
        clicked[i] = 1
        if uniform(at_opportunity(conversion_key, key_hi[i], key_lo[i]), 0) < conversion[i]:
            converted[i] = 1
    return viewed, clicked, converted


@kernel
def draw_orders(seed: int, key_hi: U64, key_lo: U64, response: ResponseArrays) -> tuple[I64, F64]:
    """Returns [N] each: milliseconds from click to conversion, and value relative to its mean.

    Both log-normal; the value's factor has mean 1.
    """
    n = key_hi.shape[0]
    delay = np.empty(n, np.int64)
    factor = np.empty(n)
    delay_key = stream(seed, _CONVERSION_DELAY)
    value_key = stream(seed, _CONVERSION_VALUE)
    median, sigma, least, most = response.delay
    spread = response.value_sigma[0]
    for i in range(n):
        z = normal(at_opportunity(delay_key, key_hi[i], key_lo[i]), 0)
        delay[i] = np.int64(min(max(median * np.exp(sigma * z), least), most))
        z = normal(at_opportunity(value_key, key_hi[i], key_lo[i]), 0)
        factor[i] = np.exp(spread * z - 0.5 * spread * spread)
    return delay, factor


@kernel
def amounts_micros(price_cpm_micros: I64, quantity_micros: I64, rate_micros: I64) -> I64:
    """Returns [N] what each impression costs (``market.kernels.amount_micros``)."""
    out = np.empty(price_cpm_micros.shape[0], np.int64)
    for i in range(out.shape[0]):
        out[i] = amount_micros(price_cpm_micros[i], quantity_micros[i], rate_micros[i])
    return out


@kernel
def feature_rows(context: I64, dimensions: U64, segments: U64, buckets: int, count: int) -> U32:
    """Returns [N, count] rows of the context table (``market.kernels.context_features``).

    Shapes: context[D] dimensions that are fields, dimensions[N, DIMENSION_COUNT], segments[N, 3].
    """
    out = np.empty((dimensions.shape[0], count), np.uint32)
    for i in range(out.shape[0]):
        context_features(context, dimensions[i], segments[i], buckets, out[i])
    return out
