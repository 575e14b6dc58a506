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
from market.events import EventKind
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
_NOTICE_REPEAT = int(Purpose.NOTICE_REPEAT)
_NOTICE_DELAY = int(Purpose.NOTICE_DELAY)

_WIN = int(EventKind.WIN)
_BILLING = int(EventKind.BILLING)
_IMPRESSION = int(EventKind.IMPRESSION)
_CLICKED = int(EventKind.CLICK)
_CONVERTED = int(EventKind.CONVERSION)
_LOSS = int(EventKind.LOSS)

# Actors of an opportunity's NOTICE_DELAY draws: a kind's base delay has the kind's number; what
# becomes of the notice on the way, and for how long it is held back, the kind's plus these.
_FATE, _HOLD = 16, 32
# Of its NOTICE_REPEAT draws: whether has the kind's number, how long after the kind's plus this.
_AFTER = 16

NOTICES_PER_BID_MAX = 10
"""WIN, BILLING, IMPRESSION, CLICK and CONVERSION, each twice."""

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
U8 = npt.NDArray[np.uint8]


class SupplyArrays(NamedTuple):
    """Who can arrive where; in the order in which ``draw_arrivals`` takes them.

    Tables are handed to kernels one by one: numba looks at the type of a tuple anew at each call,
    which costs more than a slice of the demo's traffic.

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
    """What rivals value; in the order in which ``best_rivals`` takes them.

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
    """What users do; in the order in which ``response_probabilities`` takes them.

    Index 0 of the leading axis is the click, 1 the conversion.

    Attributes:
        intercept: [2] of the log odds.
        match_scale: [2] log odds per unit of (taste of user) . (appeal of ad).
        user_effect: [2, U] log odds.
        scene_effect: [2, S] log odds.
        ad_effect: [2, C] log odds.
        appeal: [2, C, K] what the ad speaks to.
        interest: [U, K] tastes of the users.
        viewability: [S] probability that an impression comes into view.
    """

    intercept: F64
    match_scale: F64
    user_effect: F64
    scene_effect: F64
    ad_effect: F64
    appeal: F64
    interest: F64
    viewability: F64


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
    seed: int,
    key_hi: U64,
    key_lo: U64,
    quarter: I64,
    scene_cdf: F64,
    pool: I32,
    pool_first: I64,
    pool_cdf: F64,
    pool_user: I32,
    floor_cpm_micros: I64,
    floor_spread: F64,
) -> tuple[I32, I32, I64]:
    """Returns scene[N], user[N] and floor_cpm_micros[N] of the opportunities with these keys.

    The arrays from scene_cdf on are ``SupplyArrays``.

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
        cdf = scene_cdf[quarter[i]]
        s = _first_above(cdf, 0, cdf.shape[0], u)
        scene[i] = s
        u = uniform(at_opportunity(user_key, key_hi[i], key_lo[i]), 0)
        lo, hi = int(pool_first[pool[s]]), int(pool_first[pool[s] + 1])
        user[i] = pool_user[_first_above(pool_cdf, lo, hi, u)]
        u = uniform(at_opportunity(floor_key, key_hi[i], key_lo[i]), 0)
        factor = 1.0 + floor_spread[s] * (2.0 * u - 1.0)
        floor[i] = np.int64(np.floor(floor_cpm_micros[s] * factor / 1e4 + 0.5)) * 10_000
    return scene, user, floor


@kernel
def best_rivals(
    seed: int,
    key_hi: U64,
    key_lo: U64,
    scene: I32,
    user: I32,
    floor_cpm_micros: I64,
    presence: F64,
    log_cpm: F64,
    taste: F64,
    sigma: F64,
    interest: F64,
) -> I64:
    """Returns [N] the highest rival bid in micros CPM that reaches the floor; 0 = no rival.

    presence .. sigma are ``RivalArrays``, interest[U, K] the tastes of the users. Competitor j
    bids with probability presence[j]; the log of its bid is normal around
    log_cpm[j, scene] + taste[j] . interest[user] with spread sigma[j].
    """
    n = key_hi.shape[0]
    best = np.zeros(n, np.int64)
    presence_key = stream(seed, _COMPETITOR_PRESENCE)
    value_key = stream(seed, _COMPETITOR_VALUE)
    for i in range(n):
        own_presence = at_opportunity(presence_key, key_hi[i], key_lo[i])
        own_value = at_opportunity(value_key, key_hi[i], key_lo[i])
        for j in range(presence.shape[0]):
            if uniform(own_presence, j) >= presence[j]:
                continue
            log_bid = log_cpm[j, scene[i]] + sigma[j] * normal(own_value, j)
            for k in range(interest.shape[1]):
                log_bid += taste[j, k] * interest[user[i], k]
            # Nobody bids above e^9 CPM, which keeps the integer far from its end.
            price = np.int64(np.floor(np.exp(min(log_bid, 9.0)) * 1e6))
            if price >= floor_cpm_micros[i] and price > best[i]:
                best[i] = price
    return best


@kernel
def logistic(x: float) -> float:
    """Returns 1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-x))


@kernel
def response_probabilities(
    user: I32,
    scene: I32,
    creative: I32,
    intercept: F64,
    match_scale: F64,
    user_effect: F64,
    scene_effect: F64,
    ad_effect: F64,
    appeal: F64,
    interest: F64,
    viewability: F64,
) -> tuple[F64, F64, F64]:
    """Returns [N] each: P(view), P(click | viewed), P(conversion | click).

    The arrays from intercept on are ``ResponseArrays``. A click's (kind 0) and a conversion's (1)
    log odds are intercept + user + scene + ad effect + match_scale * (interest . appeal).
    """
    n = user.shape[0]
    view = np.empty(n)
    probability = np.empty((2, n))
    for i in range(n):
        view[i] = viewability[scene[i]]
        for kind in range(2):
            match = 0.0
            for k in range(interest.shape[1]):
                match += interest[user[i], k] * appeal[kind, creative[i], k]
            log_odds = (
                intercept[kind]
                + user_effect[kind, user[i]]
                + scene_effect[kind, scene[i]]
                + ad_effect[kind, creative[i]]
                + match_scale[kind] * match
            )
            probability[kind, i] = logistic(log_odds)
    return view, probability[0], probability[1]


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
def draw_orders(
    seed: int, key_hi: U64, key_lo: U64, bounds: F64, value_sigma: float
) -> tuple[I64, F64]:
    """Returns [N] each: milliseconds from click to conversion, and value relative to its mean.

    Both log-normal; ``bounds`` holds median, log spread, least and most of the delay; the value's
    factor has mean 1.
    """
    n = key_hi.shape[0]
    delay = np.empty(n, np.int64)
    factor = np.empty(n)
    delay_key = stream(seed, _CONVERSION_DELAY)
    value_key = stream(seed, _CONVERSION_VALUE)
    median, sigma, least, most = bounds
    for i in range(n):
        z = normal(at_opportunity(delay_key, key_hi[i], key_lo[i]), 0)
        delay[i] = np.int64(min(max(median * np.exp(sigma * z), least), most))
        z = normal(at_opportunity(value_key, key_hi[i], key_lo[i]), 0)
        factor[i] = np.exp(value_sigma * z - 0.5 * value_sigma * value_sigma)
    return delay, factor


@kernel
def spread_between(u: float, least: int, most: int) -> int:
    """Returns the whole number that a uniform draw falls on, within [least, most]."""
    return least + int(np.floor(u * (most - least + 1)))


@kernel
def schedule_notices(
    seed: int,
    slice_ms: int,
    shares: F64,
    ranges: I64,
    key_hi: U64,
    key_lo: U64,
    arrival_ms: I64,
    deadline_ms: I64,
    outcome: U8,
    delay_ms: I64,
) -> tuple[I64, I64, U8, U8, U8]:
    """Returns due_ms[R], bid[R] (rows), kind[R], copy[R] and held[R] of all notices of M bids.

    Args:
        seed: of the draws.
        slice_ms: step of the clock on which notices are delivered.
        shares: [3] of notices that are repeated, delayed, late.
        ranges: [7, 2] least and most milliseconds: LOSS and WIN after the arrival, BILLING and
            IMPRESSION after the win, CLICK after the impression; a repetition after the first
            delivery; a late notice after its deadline.
        key_hi: [M] of the opportunities.
        key_lo: [M] of the opportunities.
        arrival_ms: [M] of the opportunities.
        deadline_ms: [M] until when a charging notice is on time.
        outcome: [M] 0 lost, 1 won, 2 clicked, 3 converted.
        delay_ms: [M] from click to conversion.

    A delayed notice (held 1) is at least a slice later than others sent at its time, and delivered
    by its deadline; delivery waits for the next step of the clock, so the last safe moment is a
    slice before the deadline. A late one (held 2, BILLING and IMPRESSION only) comes after it.
    """
    total = key_hi.shape[0] * NOTICES_PER_BID_MAX
    due = np.empty(total, np.int64)
    bid = np.empty(total, np.int64)
    kind = np.empty(total, np.uint8)
    copy = np.empty(total, np.uint8)
    held = np.empty(total, np.uint8)
    delay_key = stream(seed, _NOTICE_DELAY)
    repeat_key = stream(seed, _NOTICE_REPEAT)
    base = np.zeros(_BILLING + 1, np.int64)
    has_it = np.zeros(_BILLING + 1, np.uint8)
    r = 0
    for i in range(key_hi.shape[0]):
        delay = at_opportunity(delay_key, key_hi[i], key_lo[i])
        repeat = at_opportunity(repeat_key, key_hi[i], key_lo[i])
        loss_after = spread_between(uniform(delay, _LOSS), ranges[0, 0], ranges[0, 1])
        win_after = spread_between(uniform(delay, _WIN), ranges[1, 0], ranges[1, 1])
        billing_after = spread_between(uniform(delay, _BILLING), ranges[2, 0], ranges[2, 1])
        shown_after = spread_between(uniform(delay, _IMPRESSION), ranges[3, 0], ranges[3, 1])
        click_after = spread_between(uniform(delay, _CLICKED), ranges[4, 0], ranges[4, 1])
        base[_LOSS] = arrival_ms[i] + loss_after
        base[_WIN] = arrival_ms[i] + win_after
        base[_BILLING] = base[_WIN] + billing_after
        base[_IMPRESSION] = base[_WIN] + shown_after
        base[_CLICKED] = base[_IMPRESSION] + click_after
        base[_CONVERTED] = base[_CLICKED] + delay_ms[i]
        has_it[_LOSS] = outcome[i] == 0
        has_it[_WIN] = has_it[_BILLING] = has_it[_IMPRESSION] = outcome[i] >= 1
        has_it[_CLICKED] = outcome[i] >= 2
        has_it[_CONVERTED] = outcome[i] >= 3
        for k in range(_WIN, _BILLING + 1):
            if has_it[k] == 0:
                continue
            at, way = base[k], 0
            # A click and what follows happen in the user's browser: nothing overtakes them.
            if k not in (_CLICKED, _CONVERTED):
                fate = uniform(delay, k + _FATE)
                hold = uniform(delay, k + _HOLD)
                is_charging = k in (_BILLING, _IMPRESSION)
                if fate < shares[1]:
                    last = deadline_ms[i] - slice_ms
                    room = max(last - at - slice_ms, 0)
                    at = min(at + slice_ms + np.int64(np.floor(hold * room)), last)
                    way = 1
                elif is_charging and fate < shares[1] + shares[2]:
                    at = deadline_ms[i] + 1 + spread_between(hold, ranges[6, 0], ranges[6, 1])
                    way = 2
            times = 2 if uniform(repeat, k) < shares[0] else 1
            for c in range(times):
                due[r], bid[r], kind[r], copy[r], held[r] = at, i, k, c, way
                at += spread_between(uniform(repeat, k + _AFTER), ranges[5, 0], ranges[5, 1])
                r += 1
    return due[:r], bid[:r], kind[:r], copy[:r], held[:r]


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
