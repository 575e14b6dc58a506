"""What people do after a tick's exposures, what they buy anyway, and what both leave behind.

Probabilities are those of the tick's values, from the state at its start; all outcomes of a tick
are drawn before any of them changes the state.

A visit to a product's page is a potential order twice over: with the needs that advertising left
behind, and with those that there had been without it (``made_alone``). Both are held against one
draw, so that the difference between them is what advertising did, and not chance.

Dimension names: as in ``simulator.world.tables``; E = exposures of a tick, V = visits, O = orders.
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
from market.kernel import bare_kernel
from market.kernels import normal, uniform
from simulator.world.kernels_values import (
    AGENT,
    KNOWN,
    LEFT,
    SHOWN,
    WRITTEN,
    base_key,
    first_above,
    named_key,
    pick_user,
)

if TYPE_CHECKING:
    from simulator.world.kernels_values import Crowd, UserState
    from simulator.world.tables import (
        AgentArrays,
        Effects,
        OrderEffects,
        SceneArrays,
        TrafficArrays,
        UserArrays,
    )

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

_VIEW = int(Purpose.VIEW)
_CLICK = int(Purpose.CLICK)
_CART = int(Purpose.CART)
_CONVERSION = int(Purpose.CONVERSION)
_DELAY = int(Purpose.CONVERSION_DELAY)
_VALUE = int(Purpose.CONVERSION_VALUE)
_REPEAT = int(Purpose.REPEAT)
_LIFETIME = int(Purpose.LIFETIME)
_RETURN = int(Purpose.RETURN)
_ATTRIBUTION = int(Purpose.ATTRIBUTION)
_TRACKING = int(Purpose.TRACKING)
_NEED = int(Purpose.WORLD_NEED)
_VISITOR = int(Purpose.ORGANIC_VISITOR)
_PRODUCT = int(Purpose.ORGANIC_PRODUCT)
_ORDER = int(Purpose.ORGANIC_ORDER)

# How far an exposure came.
EXPOSED, VIEWED, CLICKED, CARTED, ORDERED = 0, 1, 2, 3, 4

ORGANIC_COLUMN = 1 << 31
"""Visit k has the column ORGANIC_COLUMN + k: no opportunity has it, so no draw is shared."""
DELAY_TICKS_MAX = 1_000_000_000.0
VALUE_MICROS_MAX = 1e14
"""No order is worth more, so that no sum of repeats leaves 64 bits."""
_F32_ONE = np.float32(1.0)


class OrderColumns(NamedTuple):
    """What ``draw_orders`` finds, all [O]; see ``orders.ORDER_DTYPE``."""

    due_tick: I64
    refund_tick: I64
    first_micros: I64
    repeat_count: I64
    repeat_micros: I64
    in_app_micros: I64
    refund_micros: I64
    is_reported: U8


@bare_kernel
def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(x, -30.0), 30.0)))


@bare_kernel
def _liking(tick: int, u: int, a: int, users: UserArrays, agents: AgentArrays) -> float:
    appeal, own = agents.appeal[a], users.traits[u]
    interests = appeal.shape[0]
    angle = np.float64(own[own.shape[0] - 1]) * tick
    cosine, sine = math.cos(angle), math.sin(angle)
    found = 0.0
    for k in range(interests):
        found += appeal[k] * (cosine * own[k] + sine * own[interests + k])
    return found


@bare_kernel
def cart_score(
    u: int,
    a: int,
    liking: float,
    need: float,
    holiday_cart: float,
    users: UserArrays,
    agents: AgentArrays,
    scenes: SceneArrays,
    effects: Effects,
) -> float:
    """Returns the log-odds of a cart, less what the scene and a cart that was left do to them."""
    return (
        agents.cart[a] + scenes.device_cart[users.device[u]]
        + scenes.region_cart[users.region[u]] + holiday_cart
        + effects.taste_cart * liking + effects.need_cart * need
        - users.traits[u, users.traits.shape[1] - 2] * agents.price_level[a]
    )  # fmt: skip


@bare_kernel
def _place_of(u: int, a: int, state: UserState) -> int:
    """Returns where a user remembers an agent; -1 = nowhere."""
    memory = state.memory
    for i in range(state.head[u, KNOWN]):
        if memory[u, i, AGENT] == a:
            return i
    return -1


@bare_kernel
def _shown(tick: int, u: int, a: int, effects: Effects, state: UserState) -> float:
    """Returns the exposures that are remembered."""
    i = _place_of(u, a, state)
    if i < 0:
        return 0.0
    return state.memory[u, i, SHOWN] * effects.memory_decay[tick - state.head[u, WRITTEN]]


@bare_kernel
def _left_cart(tick: int, u: int, a: int, effects: Effects, state: UserState) -> float:
    """Returns the effect of what is remembered of a cart that was left."""
    i = _place_of(u, a, state)
    if i < 0:
        return 0.0
    remembered = state.memory[u, i, LEFT] * effects.cart_decay[tick - state.head[u, WRITTEN]]
    return effects.left_cart * remembered


@bare_kernel
def draw_outcomes(
    seed: int,
    period: int,
    tick: int,
    opportunity: I32,
    agent: I32,
    crowd: Crowd,
    users: UserArrays,
    agents: AgentArrays,
    scenes: SceneArrays,
    surge: F32,
    order_rate: float,
    value: F32,
    against: F32,
    outcome: U8,
    expected_conversions: F64,
) -> None:
    """Fills outcome[E] and adds P(order | exposed) to expected_conversions[A].

    value[A, n] and against[A, n] are those of ``fill_values``: what is believed, less the error of
    belief, is the probability of an order, and the odds say how much of it is the click's. Where
    nothing is believed (the product is not sold there) nobody bids, and nobody could order.
    """
    view_base = base_key(seed, _VIEW, period)
    click_base = base_key(seed, _CLICK, period)
    cart_base = base_key(seed, _CART, period)
    order_base = base_key(seed, _CONVERSION, period)
    user, scene, region = crowd.user, crowd.scene, users.region
    belief, viewability = agents.belief, scenes.viewability
    regions = scenes.region_cart.shape[0]
    for e in range(opportunity.shape[0]):
        j, a = opportunity[e], agent[e]
        s = scene[j]
        believed = np.float64(belief[a, s * regions + region[user[j]]]) * surge[a]
        p_order = value[a, j] / believed if believed > 0.0 else 0.0
        expected_conversions[a] += p_order
        reached = EXPOSED
        if uniform(named_key(view_base, tick, j), a) < viewability[s]:
            reached = VIEWED
            p_click = 1.0 / (1.0 + against[a, j])
            if uniform(named_key(click_base, tick, j), a) < p_click:
                reached = CLICKED
                p_cart = p_order / (viewability[s] * p_click * order_rate)
                if uniform(named_key(cart_base, tick, j), a) < p_cart:
                    reached = CARTED
                    if uniform(named_key(order_base, tick, j), a) < order_rate:
                        reached = ORDERED
        outcome[e] = reached


@bare_kernel
def draw_visits(
    seed: int,
    period: int,
    tick: int,
    users: UserArrays,
    agents: AgentArrays,
    scenes: SceneArrays,
    traffic: TrafficArrays,
    effects: Effects,
    state: UserState,
    holiday_cart: float,
    user: I32,
    agent: I32,
    has_ordered: U8,
    had_ordered: U8,
    memory: F32,
) -> None:
    """Fills the visits of a tick, all [V]: who came, for what, and whether an order came of it.

    has_ordered is what happened, had_ordered what had happened without advertising; memory is what
    is remembered of the agent's exposures. A product is never ordered where it is not sold.
    """
    visitor_base = base_key(seed, _VISITOR, period)
    product_base = base_key(seed, _PRODUCT, period)
    order_base = base_key(seed, _ORDER, period)
    shop = traffic.alias_share.shape[0] - 1
    share, alias, first = traffic.alias_share[shop], traffic.alias_user[shop], users.region_first
    region_cdf = traffic.region_cdf[tick, shop]
    for v in range(user.shape[0]):
        column = ORGANIC_COLUMN + v
        key = named_key(visitor_base, tick, column)
        r = first_above(region_cdf, uniform(key, 0))
        u = pick_user(share, alias, first[r], first[r + 1], uniform(key, 1), uniform(key, 2))
        a = first_above(traffic.product_cdf, uniform(named_key(product_base, tick, column), 0))
        c = agents.category[a]
        liking = _liking(tick, u, a, users, agents)
        alone = state.need[u, c] + state.made_alone[u, c]
        score = effects.organic_cart + cart_score(
            u, a, liking, alone, holiday_cart, users, agents, scenes, effects
        )
        # The need enters linearly: what advertising changed is its difference.
        moved = effects.need_cart * (state.made[u, c] - state.made_alone[u, c])
        moved += _left_cart(tick, u, a, effects, state)
        drawn = uniform(named_key(order_base, tick, column), 0) / effects.order_rate
        is_sold = agents.sold[a, r] > 0
        user[v] = u
        agent[v] = a
        had_ordered[v] = is_sold and drawn < _logistic(score)
        has_ordered[v] = is_sold and drawn < _logistic(score + moved)
        memory[v] = _shown(tick, u, a, effects, state)


@bare_kernel
def remember_exposures(
    tick: int,
    opportunity: I32,
    agent: I32,
    outcome: U8,
    crowd: Crowd,
    agents: AgentArrays,
    effects: Effects,
    state: UserState,
) -> None:
    """Changes the state by a tick's exposures [E]."""
    for e in range(opportunity.shape[0]):
        if outcome[e] == EXPOSED:
            continue
        u, a = crowd.user[opportunity[e]], agent[e]
        _write(tick, u, effects, state)
        i = _meet(u, a, state)
        state.memory[u, i, SHOWN] += _F32_ONE
        if outcome[e] >= CLICKED:
            state.made[u, agents.category[a]] += np.float32(effects.halo_need)
        if outcome[e] == CARTED:
            state.memory[u, i, LEFT] = _F32_ONE
        if outcome[e] == ORDERED:
            state.memory[u, i, LEFT] = np.float32(0.0)
            _satisfy(state.made[u], agents.category[a], effects)


@bare_kernel
def remember_visits(
    user: I32,
    agent: I32,
    has_ordered: U8,
    had_ordered: U8,
    agents: AgentArrays,
    effects: Effects,
    state: UserState,
) -> None:
    """Changes the state by a tick's visits [V]."""
    for v in range(user.shape[0]):
        u, a = user[v], agent[v]
        if has_ordered[v]:
            i = _place_of(u, a, state)
            if i >= 0:
                state.memory[u, i, LEFT] = np.float32(0.0)
            _satisfy(state.made[u], agents.category[a], effects)
        if had_ordered[v]:
            _satisfy(state.made_alone[u], agents.category[a], effects)


@bare_kernel
def _write(tick: int, u: int, effects: Effects, state: UserState) -> None:
    """Brings what a user remembers up to ``tick``."""
    since = tick - state.head[u, WRITTEN]
    if since > 0:
        memory = state.memory[u]
        for i in range(state.head[u, KNOWN]):
            memory[i, SHOWN] *= effects.memory_decay[since]
            memory[i, LEFT] *= effects.cart_decay[since]
        state.head[u, WRITTEN] = tick


@bare_kernel
def end_period(ticks: int, effects: Effects, state: UserState) -> None:
    """Brings what users remember up to the end of a period, and counts from there."""
    for u in range(state.head.shape[0]):
        _write(ticks, u, effects, state)
        state.head[u, WRITTEN] = 0


@bare_kernel
def _meet(u: int, a: int, state: UserState) -> int:
    """Returns where a user remembers an agent from now on."""
    i = _place_of(u, a, state)
    if i >= 0:
        return i
    count = np.int64(state.head[u, KNOWN])
    state.memory[u, count, AGENT] = a
    state.memory[u, count, SHOWN] = np.float32(0.0)
    state.memory[u, count, LEFT] = np.float32(0.0)
    state.head[u, KNOWN] = count + 1
    return count


@bare_kernel
def _satisfy(made: F32, category: int, effects: Effects) -> None:
    """Changes made[C], the needs of one user, by an order."""
    made[category] -= np.float32(effects.substitute_need)
    for c in range(made.shape[0]):
        made[c] += effects.complement[category, c]


@bare_kernel
def pass_time(effects: Effects, state: UserState) -> None:
    """Lets needs fade by a tick."""
    factor = np.float32(effects.need_decay)
    for needs in (state.need, state.made, state.made_alone):
        for u in range(needs.shape[0]):
            for c in range(needs.shape[1]):
                needs[u, c] *= factor


@bare_kernel
def raise_needs(
    seed: int, period: int, step: int, size: float, count: int, need_cdf: F64, need: F32
) -> None:
    """Adds ``size`` to ``count`` elements of need[U, C]: users evenly, categories by need_cdf.

    ``step`` numbers the ticks of the period and those before it, whose needs are still felt.
    """
    base = base_key(seed, _NEED, period)
    users = need.shape[0]
    for i in range(count):
        key = named_key(base, step, i)
        u = min(np.int64(uniform(key, 0) * users), users - 1)
        need[u, first_above(need_cdf, uniform(key, 1))] += np.float32(size)


@bare_kernel
def draw_orders(
    seed: int,
    period: int,
    tick: int,
    column: I64,
    agent: I32,
    is_ad: U8,
    has_ordered: U8,
    memory: F32,
    agents: AgentArrays,
    orders: OrderEffects,
    tracking_loss: F64,
    found: OrderColumns,
) -> None:
    """Fills what orders [O] bring, and when; see ``orders.ORDER_DTYPE``.

    An order without an ad falls due at once. Of an app, first_micros is 0 and in_app_micros what
    the install brings; of goods it is the other way round.
    """
    delay_base = base_key(seed, _DELAY, period)
    value_base = base_key(seed, _VALUE, period)
    repeat_base = base_key(seed, _REPEAT, period)
    lifetime_base = base_key(seed, _LIFETIME, period)
    return_base = base_key(seed, _RETURN, period)
    attribution_base = base_key(seed, _ATTRIBUTION, period)
    tracking_base = base_key(seed, _TRACKING, period)
    due_tick, refund_tick, is_reported = found.due_tick, found.refund_tick, found.is_reported
    first_micros, repeat_count = found.first_micros, found.repeat_count
    repeat_micros, in_app_micros = found.repeat_micros, found.in_app_micros
    refund_micros = found.refund_micros
    last = tracking_loss.shape[0] - 1
    for i in range(column.shape[0]):
        a, name = agent[i], column[i]
        delay = 0.0
        if is_ad[i]:
            z = normal(named_key(delay_base, tick, name), a)
            delay = orders.delay_median * math.exp(orders.delay_sigma * z)
        due_tick[i] = tick + np.int64(min(delay, DELAY_TICKS_MAX))
        first_micros[i] = 0
        repeat_count[i] = 0
        repeat_micros[i] = 0
        in_app_micros[i] = 0
        refund_micros[i] = 0
        if agents.is_app[a]:
            key = named_key(lifetime_base, tick, name)
            brought = _spread(orders.ads_micros, orders.ads_sigma, normal(key, 4 * a))
            if uniform(key, 4 * a + 3) < orders.payer_share:
                brought += _spread(
                    orders.purchase_micros, orders.purchase_sigma, normal(key, 4 * a + 1)
                )
            in_app_micros[i] = np.int64(brought)
        else:
            z = normal(named_key(value_base, tick, name), a)
            first_micros[i] = np.int64(_spread(agents.price_micros[a], orders.value_sigma, z))
            drawn = uniform(named_key(repeat_base, tick, name), a)
            if drawn < orders.repeat_share:
                # P(at least r) = share^r, so r = floor(log(draw) / log(share)).
                drawn = max(drawn, 1e-18)
                repeat_count[i] = np.int64(math.log(drawn) / math.log(orders.repeat_share))
            each = np.int64(orders.repeat_value_factor * first_micros[i])
            repeat_micros[i] = repeat_count[i] * each
            if uniform(named_key(return_base, tick, name), a) < orders.return_share:
                refund_micros[i] = first_micros[i]
        refund_tick[i] = due_tick[i] + np.int64(math.ceil(orders.return_delay))
        drawn = uniform(named_key(attribution_base, tick, name), a)
        if is_ad[i]:
            is_known = drawn >= orders.missed_share
        else:
            is_known = (
                has_ordered[i] and memory[i] >= orders.claim_memory
                and drawn < orders.claimed_share
            )  # fmt: skip
        lost = tracking_loss[min(due_tick[i], last)]
        is_reported[i] = is_known and uniform(named_key(tracking_base, tick, name), a) >= lost


@bare_kernel
def _spread(mean: float, sigma: float, z: float) -> float:
    """Returns a log-normal value of this mean, at most VALUE_MICROS_MAX."""
    return min(mean * math.exp(sigma * z - 0.5 * sigma * sigma), VALUE_MICROS_MAX)
