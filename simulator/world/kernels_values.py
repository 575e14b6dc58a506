"""What is on offer in a tick, and what each agent believes an exposure to be worth.

For agent a with creative g, user u in scene s at tick t:

    click = agent click + scene click + device click + quality[a, g] + style[u] . style[a, g]
            + taste_click liking + need_click need - fatigue_click shown
    cart  = agent cart + scene cart + device cart + region cart + holiday
            + taste_cart liking + need_cart need - sensitivity[u] price_level[a] + left_cart left
    P(order | exposed) = viewability[s] logistic(click) logistic(cart) order_rate
    value = P(order | exposed) belief[a, s, region of u] surge[t, a]

where liking = taste of u at t . appeal[a], need = need + made of u in the category of a, shown and
left are what is remembered of exposures and of a cart. Draws are keyed by (seed, purpose, period,
tick and column): nothing that anybody bids, and no other tick's traffic, changes one.

Dimension names: as in ``simulator.world.tables``; n = opportunities of a tick, L = of a block.
"""
# As in market.kernels: an int of the compiler is an np.int64, to numpy's stubs they are strangers.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from market.chance import Purpose
from market.kernel import bare_kernel, kernel
from market.kernels import mix, normal, stream, uniform

if TYPE_CHECKING:
    from simulator.world.tables import (
        AgentArrays,
        Effects,
        SceneArrays,
        TrafficArrays,
        UserArrays,
    )

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

_SCENE = int(Purpose.WORLD_SCENE)
_REGION = int(Purpose.WORLD_REGION)
_VISITOR = int(Purpose.WORLD_VISITOR)
_FLOOR = int(Purpose.WORLD_FLOOR)
_ROTATION = int(Purpose.WORLD_ROTATION)
_EXPOSURE = int(Purpose.EXPOSURE)
_DEAL = int(Purpose.DEAL)

_S32 = np.uint64(32)
_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)
_BLOCK = 128
"""Opportunities at a time: what 48 agents need of them fits the second cache level."""
_LINE = 16
"""Single-precision numbers in a cache line."""
_FETCHED = 15
_STRIDE = _BLOCK + 16
"""Width of a block's rows: one of a power of two would put a column into few sets of the cache."""

SCORE_MAX = np.float32(30.0)
"""Log-odds are cut at this: beyond, a probability is 0 or 1 to single precision and in any use."""
_LOG2_E = np.float32(1.4426950408889634)
# Taylor coefficients of 2^x: ln(2)^k / k!.
_E1 = np.float32(0.6931471805599453)
_E2 = np.float32(0.2402265069591007)
_E3 = np.float32(0.05550410866482158)
_E4 = np.float32(0.009618129107628477)
_E5 = np.float32(0.0013333558146428443)
_E6 = np.float32(0.00015403530393381608)
_SHIFT23 = np.int32(23)
FLOOR_MICROS_MAX = 2.0**24
"""Floors are whole numbers in single precision."""
_TWO24 = 2.0**24


class UserState(NamedTuple):
    """What changes about users in a period.

    Attributes:
        need: [U, C] needs that arose by themselves.
        made: [U, C] needs that clicks and orders made (or took away).
        made_alone: [U, C] the same had no ad been shown.
        memory: [U, A, 3] what is remembered of agents, in order of their first exposure, as of the
            tick when it was last written: AGENT, exposures in view SHOWN, whether a cart was LEFT.
            Side by side, since users are met in no order and each array would be fetched anew.
        head: [U, 2] how many agents are remembered, KNOWN, and when that was written, WRITTEN.
    """

    need: F32
    made: F32
    made_alone: F32
    memory: F32
    head: I32


# Columns of UserState.memory and head.
AGENT, SHOWN, LEFT = 0, 1, 2
KNOWN, WRITTEN = 0, 1


class Crowd(NamedTuple):
    """Who is where in a tick.

    Attributes:
        user: [n].
        scene: [n].
        turn: [n] uniform in [0, 1): where the turn of the creatives stands.
    """

    user: I32
    scene: I32
    turn: F32


class Scratch(NamedTuple):
    """Room for a block of opportunities; shown and left are 0 between blocks."""

    taste: F32
    style: F32
    need: F32
    shown: F32
    left: F32
    base_click: F32
    base_cart: F32
    sensitivity: F32
    chance: F32
    liking: F32
    click: F32
    cart: F32
    look: F32
    turn: F32
    place: I32
    which: I32


def new_scratch(interests: int, attributes: int, categories: int, agents: int) -> Scratch:
    """Returns room for ``fill_values``."""
    rows = (interests, attributes, categories, agents, agents)
    return Scratch(
        *(np.zeros((count, _STRIDE), np.float32) for count in rows),
        *(np.zeros(_BLOCK, np.float32) for _ in range(9)),
        *(np.zeros(_BLOCK, np.int32) for _ in range(2)),
    )


@kernel
def base_key(seed: int, purpose: int, period: int) -> np.uint64:
    """Returns what ``named_key`` makes keys of, for one purpose in one period."""
    return mix(np.uint64(stream(seed, purpose)) ^ np.uint64(period))


@kernel
def named_key(base: np.uint64, tick: int, column: int) -> np.uint64:
    """Returns the key of an opportunity: ``at_opportunity`` of (period, tick << 32 | column)."""
    return mix(np.uint64(base) + ((np.uint64(tick) << _S32) | np.uint64(column)))


@kernel
def first_above(cdf: F64, u: float) -> int:
    """Returns the first place of ``cdf`` above u, the last if none is."""
    lo, hi = 0, cdf.shape[0] - 1
    while lo < hi:
        middle = (lo + hi) // 2
        if cdf[middle] > u:
            hi = middle
        else:
            lo = middle + 1
    return lo


@kernel
def pick_user(share: F64, alias: I32, first: int, end: int, even: float, keep: float) -> int:
    """Returns a user of first .. end from two uniform draws (``kernels_tables.alias_tables``)."""
    u = first + min(np.int64(even * (end - first)), end - first - 1)
    return u if keep < share[u] else np.int64(alias[u])


@bare_kernel
def draw_crowd(
    seed: int,
    period: int,
    tick: int,
    users: UserArrays,
    scenes: SceneArrays,
    traffic: TrafficArrays,
    crowd: Crowd,
) -> None:
    """Fills who is where in a tick: a scene, a region of those awake, a user of the audience."""
    scene_base = base_key(seed, _SCENE, period)
    region_base = base_key(seed, _REGION, period)
    visitor_base = base_key(seed, _VISITOR, period)
    rotation_base = base_key(seed, _ROTATION, period)
    scene_cdf = traffic.scene_cdf[tick]
    region_cdf = traffic.region_cdf[tick]
    share, alias, first = traffic.alias_share, traffic.alias_user, users.region_first
    channel = scenes.channel
    user, scene, turn = crowd.user, crowd.scene, crowd.turn
    for j in range(user.shape[0]):
        s = first_above(scene_cdf, uniform(named_key(scene_base, tick, j), 0))
        m = channel[s]
        r = first_above(region_cdf[m], uniform(named_key(region_base, tick, j), 0))
        key = named_key(visitor_base, tick, j)
        u = pick_user(share[m], alias[m], first[r], first[r + 1], uniform(key, 0), uniform(key, 1))
        user[j] = u
        scene[j] = s
        turn[j] = uniform(named_key(rotation_base, tick, j), 0)


@bare_kernel
def draw_terms(
    seed: int,
    period: int,
    tick: int,
    scene: I32,
    scenes: SceneArrays,
    floor_micros: F32,
    soft_floor_micros: F32,
    exposure_draw: F32,
    slot_count: U8,
    rule: U8,
    deal: U8,
) -> None:
    """Fills under which terms a tick's opportunities are sold; see ``seam.Supply``; all [n]."""
    floor_base = base_key(seed, _FLOOR, period)
    exposure_base = base_key(seed, _EXPOSURE, period)
    median, sigma, soft = scenes.floor_micros, scenes.floor_sigma, scenes.soft_floor_factor
    slots, rules = scenes.slots, scenes.rule
    deal_base, deal_cdf = base_key(seed, _DEAL, period), scenes.deal_cdf
    deals = deal_cdf.shape[1]
    for j in range(scene.shape[0]):
        s = scene[j]
        asked = 1.0
        if median[s] > 0.0:
            z = normal(named_key(floor_base, tick, j), 0)
            asked = math.ceil(median[s] * math.exp(sigma[s] * z))
        asked = min(max(asked, 1.0), FLOOR_MICROS_MAX)
        floor_micros[j] = asked
        soft_floor_micros[j] = min(math.ceil(asked * soft[s]), FLOOR_MICROS_MAX)
        # 24 bits are what single precision holds: more could round up to 1.
        drawn = uniform(named_key(exposure_base, tick, j), 0)
        exposure_draw[j] = math.floor(drawn * _TWO24) / _TWO24
        slot_count[j] = slots[s]
        rule[j] = rules[s]
        if deals > 0:
            drawn = uniform(named_key(deal_base, tick, j), 0)
            d = 0
            while d < deals and drawn >= deal_cdf[s, d]:
                d += 1
            deal[j] = d + 1 if d < deals else 0


@bare_kernel
def fill_values(
    tick: int,
    crowd: Crowd,
    users: UserArrays,
    agents: AgentArrays,
    scenes: SceneArrays,
    effects: Effects,
    state: UserState,
    holiday_cart: float,
    surge: F32,
    scratch: Scratch,
    value: F32,
    against: F32,
) -> None:
    """Fills value[A, n] and against[A, n] of a tick; surge[A]. See the module for the formula.

    ``against`` are the odds against a click of what comes into view, exp(-click): with the value,
    all that outcomes need to know of an exposure.

    Blocks of opportunities are turned round once, so that every loop over cells runs along
    contiguous rows and is compiled to vector instructions.
    """
    agent_count, count = value.shape
    click, cart, look = scratch.click, scratch.cart, scratch.look
    liking, chance, which = scratch.liking, scratch.chance, scratch.which
    shown, left, need = scratch.shown, scratch.left, scratch.need
    base_click, base_cart = scratch.base_click, scratch.base_cart
    sensitivity, place = scratch.sensitivity, scratch.place
    taste_click, taste_cart = np.float32(effects.taste_click), np.float32(effects.taste_cart)
    need_click, need_cart = np.float32(effects.need_click), np.float32(effects.need_cart)
    for lo in range(0, count, _BLOCK):
        m = min(_BLOCK, count - lo)
        scratch.look[0] = _fetch(lo, m, crowd.user, users.traits, state)
        _gather(tick, lo, m, crowd, users, scenes, effects, state, holiday_cart, scratch)
        for a in range(agent_count):
            row, odds = value[a, lo : lo + m], against[a, lo : lo + m]
            _like(agents.appeal[a], scratch.taste, m, liking)
            needed = need[agents.category[a]]
            known, waiting = shown[a], left[a]
            own_click, own_cart = agents.click[a], agents.cart[a]
            level = agents.price_level[a]
            for j in range(m):
                click[j] = (
                    own_click + base_click[j] + taste_click * liking[j]
                    + need_click * needed[j] - known[j]
                )  # fmt: skip
                cart[j] = (
                    own_cart + base_cart[j] + taste_cart * liking[j]
                    + need_cart * needed[j] - level * sensitivity[j] + waiting[j]
                )  # fmt: skip
            _show(
                agents.quality[a], agents.style[a], scratch.style, scratch.turn,
                agents.shift[a], m, which, look,
            )  # fmt: skip
            for j in range(m):
                click[j] += look[j]
            _exp_minus(click, m, which)
            _exp_minus(cart, m, which)
            belief = agents.belief[a]
            factor = surge[a]
            for j in range(m):
                odds[j] = click[j]
                row[j] = chance[j] / ((_ONE + click[j]) * (_ONE + cart[j])) * factor
            for j in range(m):
                row[j] *= belief[place[j]]
        _forget(lo, m, crowd, state, shown, left)


@bare_kernel
def _fetch(lo: int, m: int, user: I32, traits: F32, state: UserState) -> float:
    """Reads a word of every cache line that ``_gather`` will read; the sum means nothing.

    Users lie scattered over more than the caches hold. Loads that wait for nothing overlap, while
    the loop over users, which does more with each, would wait for one user's after the other's.
    """
    need, made, memory, head = state.need, state.made, state.memory, state.head
    found = _ZERO
    for j in range(lo, lo + m):
        u = user[j]
        found += need[u, 0] + made[u, 0] + np.float32(head[u, KNOWN])
        for k in range(0, traits.shape[1], _LINE):
            found += traits[u, k]
        # Of what is remembered the first lines: few users remember more.
        for i in range(0, min(memory.shape[1], _FETCHED), _LINE // 3):
            found += memory[u, i, AGENT]
    return found


@bare_kernel
def _gather(
    tick: int,
    lo: int,
    m: int,
    crowd: Crowd,
    users: UserArrays,
    scenes: SceneArrays,
    effects: Effects,
    state: UserState,
    holiday_cart: float,
    scratch: Scratch,
) -> None:
    """Turns what a block needs of its users and scenes round: column j is opportunity lo + j."""
    taste, style, need = scratch.taste, scratch.style, scratch.need
    shown, left = scratch.shown, scratch.left
    base_click, base_cart = scratch.base_click, scratch.base_cart
    sensitivity, chance, turn = scratch.sensitivity, scratch.chance, scratch.turn
    place = scratch.place
    user, scene = crowd.user, crowd.scene
    traits, interests = users.traits, taste.shape[0]
    first_style = 2 * interests
    last = first_style + style.shape[0]
    user_region, user_device = users.region, users.device
    arisen, made, memory, head = state.need, state.made, state.memory, state.head
    scene_click, scene_cart, viewability = scenes.click, scenes.cart, scenes.viewability
    device_click, device_cart, region_cart = (
        scenes.device_click, scenes.device_cart, scenes.region_cart,
    )  # fmt: skip
    region_count = region_cart.shape[0]
    memory_decay, cart_decay = effects.memory_decay, effects.cart_decay
    fatigue, stay = np.float32(effects.fatigue_click), np.float32(effects.left_cart)
    order_rate = np.float32(effects.order_rate)
    holiday = np.float32(holiday_cart)
    for j in range(m):
        u, s = user[lo + j], scene[lo + j]
        own = traits[u]
        angle = np.float64(own[last + 1]) * tick
        cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        for k in range(taste.shape[0]):
            taste[k, j] = cosine * own[k] + sine * own[interests + k]
        for k in range(style.shape[0]):
            style[k, j] = own[first_style + k]
        for c in range(need.shape[0]):
            need[c, j] = arisen[u, c] + made[u, c]
        since = tick - head[u, WRITTEN]
        faded, cooled = memory_decay[since] * fatigue, cart_decay[since] * stay
        for i in range(head[u, KNOWN]):
            a = np.int32(memory[u, i, AGENT])
            shown[a, j] = memory[u, i, SHOWN] * faded
            if memory[u, i, LEFT] > _ZERO:
                left[a, j] = memory[u, i, LEFT] * cooled
        r, d = user_region[u], user_device[u]
        base_click[j] = scene_click[s] + device_click[d]
        base_cart[j] = scene_cart[s] + device_cart[d] + region_cart[r] + holiday
        sensitivity[j] = own[last]
        chance[j] = viewability[s] * order_rate
        place[j] = s * region_count + r
        turn[j] = crowd.turn[lo + j]


@bare_kernel
def _forget(lo: int, m: int, crowd: Crowd, state: UserState, shown: F32, left: F32) -> None:
    """Clears what ``_gather`` wrote of memories: few users know more than a few agents."""
    user, memory, head = crowd.user, state.memory, state.head
    for j in range(m):
        u = user[lo + j]
        for i in range(head[u, KNOWN]):
            a = np.int32(memory[u, i, AGENT])
            shown[a, j] = _ZERO
            if memory[u, i, LEFT] > _ZERO:
                left[a, j] = _ZERO


@bare_kernel
def _like(appeal: F32, taste: F32, m: int, liking: F32) -> None:
    """Fills liking[L] = appeal[K] . taste[K, L]; four rows at a time, to write less often."""
    for j in range(m):
        liking[j] = _ZERO
    k = 0
    while k + 4 <= appeal.shape[0]:
        w0, w1, w2, w3 = appeal[k], appeal[k + 1], appeal[k + 2], appeal[k + 3]
        r0, r1, r2, r3 = taste[k], taste[k + 1], taste[k + 2], taste[k + 3]
        for j in range(m):
            liking[j] += w0 * r0[j] + w1 * r1[j] + w2 * r2[j] + w3 * r3[j]
        k += 4
    while k < appeal.shape[0]:
        w0, r0 = appeal[k], taste[k]
        for j in range(m):
            liking[j] += w0 * r0[j]
        k += 1


@bare_kernel
def _show(
    quality: F32, styles: F32, style: F32, turn: F32, shift: float, m: int, which: I32, look: F32
) -> None:
    """Fills look[L] with what the creative whose turn it is does to each user.

    Shapes: quality[G], styles[G, J], style[J, L], turn[L]. All creatives are computed and one is
    kept, which costs less than looking up: loops without look-ups are vector instructions. Adding
    a constant modulo 1 keeps a draw uniform, so one draw is the turn of all agents.
    """
    creatives, width = styles.shape
    count = np.float32(creatives)
    last = np.int32(creatives - 1)
    offset = np.float32(shift)
    for j in range(m):
        at = turn[j] + offset
        at = at - _ONE if at >= _ONE else at
        which[j] = min(np.int32(at * count), last)
        look[j] = _ZERO
    for g in range(creatives):
        number = np.int32(g)
        own = quality[g]
        k = 0
        while k + 4 <= width:
            w0, w1, w2, w3 = styles[g, k], styles[g, k + 1], styles[g, k + 2], styles[g, k + 3]
            r0, r1, r2, r3 = style[k], style[k + 1], style[k + 2], style[k + 3]
            for j in range(m):
                found = own + w0 * r0[j] + w1 * r1[j] + w2 * r2[j] + w3 * r3[j]
                look[j] += found if which[j] == number else _ZERO
            own = _ZERO
            k += 4
        while k < width:
            w0, r0 = styles[g, k], style[k]
            for j in range(m):
                look[j] += own + w0 * r0[j] if which[j] == number else _ZERO
            own = _ZERO
            k += 1


@bare_kernel
def _exp_minus(score: F32, m: int, whole: I32) -> None:
    """Replaces score[:m] by exp(-score), to a relative error of 10^-6; whole[L] is scratch.

    exp(-x) = 2^(n + f), n whole and f in [-1/2, 1/2]; 2^f by its Taylor polynomial of degree 6
    (error below 2 10^-7), 2^n by the exponent's bits. A call of the library's exp per cell would
    keep the loop from being vector instructions.
    """
    for j in range(m):
        x = min(max(score[j], -SCORE_MAX), SCORE_MAX) * -_LOG2_E
        n = np.floor(x + _HALF)
        f = x - n
        whole[j] = np.int32(n) << _SHIFT23
        score[j] = _ONE + f * (_E1 + f * (_E2 + f * (_E3 + f * (_E4 + f * (_E5 + f * _E6)))))
    bits = score.view(np.int32)
    for j in range(m):
        bits[j] += whole[j]
