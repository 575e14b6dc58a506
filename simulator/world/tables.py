"""Builds what does not change in a period: users, products, creatives, scenes, traffic, effects.

A function of the scenario alone; the same for all periods and seeds of a run. A mechanism that is
off is a neutral number here (an effect of 0, a factor of 1), so that kernels know no switches, and
its draws are made all the same.

Dimension names: U = users, A = agents, K = interests, J = attributes of style, G = creatives of an
agent, C = categories, S = scenes, M = channels, R = regions, D = devices, T = ticks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from market.auction import Rule
from market.chance import Purpose
from market.money import MICROS
from simulator.kernels import normal_table, uniform_table
from simulator.period.engine import Agents
from simulator.period.scenario import LAWS, RULES
from simulator.world.kernels_tables import alias_tables
from simulator.world.mechanisms import Mechanism
from simulator.world.scenario import (
    HOURS_PER_DAY,
    CompetitorSurge,
    Holiday,
    SupplyDrop,
    TrackingLoss,
)

if TYPE_CHECKING:
    from simulator.world.scenario import WorldScenario

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

PRIOR_CONVERSIONS = 20.0
"""Weight of "the forecast is right" in the control laws: what the PID was tuned with."""


class UserArrays(NamedTuple):
    """The users, one row each, those of a region side by side.

    At tick t the taste of a user is cos(turn t) taste + sin(turn t) other: a stationary Gaussian
    process that needs no state. Source: Shinozuka and Jan, "Digital simulation of random processes
    and its applications", Journal of Sound and Vibration 25, 1972 (sums of cosines with random
    frequency; here one frequency per user).

    Attributes:
        region_first: [R + 1] first user of each region, then U.
        region: [U].
        device: [U].
        taste, other: [U, K] standard normal.
        turn: [U] radians per tick.
        style: [U, J] what a user thinks of attributes of creatives; standard normal.
        sensitivity: [U] to prices, times its effect.
    """

    region_first: I64
    region: U8
    device: U8
    taste: F32
    other: F32
    turn: F32
    style: F32
    sensitivity: F32


class AgentArrays(NamedTuple):
    """The agents: their product and their creatives.

    Attributes:
        category: [A].
        click, cart: [A] log-odds where every other effect is 0.
        appeal: [A, K] liking = taste . appeal has variance 1 over users.
        price_level: [A] standardised log price within the category.
        quality: [A, G] log-odds of a creative.
        style: [A, G, J] log-odds per unit of a user's style.
        shift: [A] where the agent starts in the turn of its creatives.
        sold: [A, R] 1 where the product is sold, else 0.
        belief: [A, S R] what the bidder believes, per true conversion probability, in units of
            value, in scene s and region r at s R + r; 0 where the product is not sold.
        price_micros: [A] mean value of a first order; 0 of an app.
        value_micros: [A] mean of all that a conversion brings, before returns.
        margin: [A] share of the value that is profit.
        is_app: [A].
    """

    category: I32
    click: F32
    cart: F32
    appeal: F32
    price_level: F32
    quality: F32
    style: F32
    shift: F32
    sold: F32
    belief: F32
    price_micros: F64
    value_micros: F64
    margin: F64
    is_app: U8


class SceneArrays(NamedTuple):
    """The scenes: a placement of a publisher, in a channel.

    Attributes:
        channel: [S].
        click, cart: [S] effects of placement and channel.
        viewability: [S] probability that an exposure comes into view.
        floor_micros: [S] median hard floor of one exposure.
        floor_sigma: [S].
        soft_floor_factor: [S].
        slots: [S].
        rule: [S] ``market.auction.Rule``.
        device_click, device_cart: [D] effects of devices.
        region_cart: [R] effects of regions.
    """

    channel: I32
    click: F32
    cart: F32
    viewability: F32
    floor_micros: F64
    floor_sigma: F64
    soft_floor_factor: F64
    slots: U8
    rule: U8
    device_click: F32
    device_cart: F32
    region_cart: F32


class TrafficArrays(NamedTuple):
    """Who comes where and when. Row M of what is by channel is of visits to shops.

    Attributes:
        counts: [T] opportunities.
        visits: [T] visits to products' pages.
        scene_cdf: [T, S] cumulated.
        region_cdf: [T, M + 1, R] cumulated.
        alias_share, alias_user: [M + 1, U] Vose's tables of the users of each region.
        product_cdf: [A] cumulated, of visits.
        need_cdf: [C] cumulated, of needs.
        holiday_cart: [T] effect.
        surge: [T, A] factor on what agents believe.
        tracking_loss: [T + 1] share of orders that are not reported; the last is after the period.
    """

    counts: I64
    visits: I64
    scene_cdf: F64
    region_cdf: F64
    alias_share: F64
    alias_user: I32
    product_cdf: F64
    need_cdf: F64
    holiday_cart: F32
    surge: F32
    tracking_loss: F64


class Effects(NamedTuple):
    """Numbers that all users share; see ``scenario.Responses`` for those that are named there.

    Attributes:
        need_count: needs that arise in a tick; need_size: what each is worth, 0 = off.
        need_decay: what is left of a need after a tick.
        memory_decay, cart_decay: [T + 1] what is left after so many ticks.
        complement: [C, C] need that an order in the first category adds to the second.
    """

    taste_click: float
    taste_cart: float
    need_click: float
    need_cart: float
    fatigue_click: float
    left_cart: float
    order_rate: float
    organic_cart: float
    halo_need: float
    substitute_need: float
    need_count: int
    need_size: float
    need_decay: float
    memory_decay: F32
    cart_decay: F32
    complement: F32


class OrderEffects(NamedTuple):
    """What orders bring; see ``scenario.Orders``, ``App`` and ``Attribution``. Times in ticks."""

    value_sigma: float
    delay_median: float
    delay_sigma: float
    repeat_share: float
    repeat_value_factor: float
    ads_micros: float
    ads_sigma: float
    payer_share: float
    purchase_micros: float
    purchase_sigma: float
    return_share: float
    return_delay: float
    missed_share: float
    claimed_share: float
    claim_memory: float


class Tables(NamedTuple):
    """All that does not change in a period."""

    scenario: WorldScenario
    users: UserArrays
    agents: AgentArrays
    scenes: SceneArrays
    traffic: TrafficArrays
    effects: Effects
    orders: OrderEffects


def build_tables(scenario: WorldScenario) -> Tables:
    """Returns the tables of a scenario."""
    users = _users(scenario)
    scenes = _scenes(scenario)
    orders = _orders(scenario)
    agents = _agents(scenario, orders)
    return Tables(
        scenario=scenario,
        users=users,
        agents=agents,
        scenes=scenes,
        traffic=_traffic(scenario, users, agents),
        effects=_effects(scenario),
        orders=orders,
    )


def agents_of(tables: Tables) -> Agents:
    """Returns who bids, with which budget and law: the same in all periods.

    A conversion may cost ``target_share`` of the profit it brings on average.
    """
    scenario, agents = tables.scenario, tables.agents
    people = scenario.agents
    count, ticks = people.count, scenario.tick_count
    spread = people.budget_sigma
    z = _normals(scenario, Purpose.BUDGET, count, 1)[:, 0]
    dealt = [people.laws[a % len(people.laws)] for a in range(count)]
    is_return = people.value == "return"
    profit = agents.margin * (MICROS if is_return else agents.value_micros)
    draws = _uniforms(scenario, Purpose.WORLD_ENTRY, count, 4)
    is_on = scenario.has(Mechanism.ENTRY)
    half = ticks // 2
    enter = np.minimum(1 + (draws[:, 1] * half).astype(np.int64), half)
    leave = half + 1 + (draws[:, 3] * (ticks - half - 1)).astype(np.int64)
    return Agents(
        budget_micros=np.ceil(
            people.budget_micros * np.exp(spread * z - 0.5 * spread * spread)
        ).astype(np.int64),
        unit_micros=people.target_share * profit,
        has_target=np.ones(count, np.uint8),
        is_return=np.full(count, is_return, np.uint8),
        law=np.array([LAWS[each.law] for each in dealt], np.uint8),
        gain=np.array([each.gain for each in dealt]),
        prior=PRIOR_CONVERSIONS * (agents.value_micros / MICROS if is_return else np.ones(count)),
        enter_tick=np.where(is_on & (draws[:, 0] < people.late_share), enter, 0),
        leave_tick=np.where(is_on & (draws[:, 2] < people.early_share), leave, ticks),
    )


def _uniforms(scenario: WorldScenario, purpose: Purpose, rows: int, width: int, kind: int = 0) -> F64:
    keys = np.arange(rows, dtype=np.uint64)
    return uniform_table(
        scenario.world_seed, int(purpose), np.full_like(keys, kind), keys, np.arange(width)
    )


def _normals(scenario: WorldScenario, purpose: Purpose, rows: int, width: int, kind: int = 0) -> F64:
    keys = np.arange(rows, dtype=np.uint64)
    return normal_table(scenario.world_seed, int(purpose), np.full_like(keys, kind), keys, width)


def _cdf(weights: F64) -> F64:
    """Returns the weights of the last axis cumulated, ending at 1."""
    cumulated = np.cumsum(weights, axis=-1)
    return cumulated / cumulated[..., -1:]


def _log_odds(rate: float) -> float:
    return float(np.log(rate / (1.0 - rate)))


def _quotas(shares: F64, count: int) -> I64:
    """Returns [count] rows of ``shares``, each as often as its share says, in order."""
    rows = np.searchsorted(_cdf(shares), (np.arange(count) + 0.5) / count, side="right")
    return np.minimum(rows, shares.shape[0] - 1)


def _users(scenario: WorldScenario) -> UserArrays:
    people = scenario.users
    count = people.count
    region = _quotas(np.array([each.share for each in people.regions]), count)
    first = np.searchsorted(region, np.arange(len(people.regions) + 1)).astype(np.int64)
    devices = _cdf(np.array([each.share for each in people.devices]))
    device = np.searchsorted(
        devices, _uniforms(scenario, Purpose.WORLD_DEVICE, count, 1)[:, 0], side="right"
    )
    drift = _normals(scenario, Purpose.WORLD_DRIFT, count, people.interest_count + 1)
    per_tick = people.drift_radians_per_day / scenario.tick_count
    turn = per_tick * drift[:, -1] * scenario.has(Mechanism.DRIFT)
    effect = scenario.responses.sensitivity_cart * scenario.has(Mechanism.PRICE_SENSITIVITY)
    sensitivity = effect * _normals(scenario, Purpose.WORLD_SENSITIVITY, count, 1)[:, 0]
    attributes = scenario.creatives.attribute_count
    return UserArrays(
        region_first=first,
        region=region.astype(np.uint8),
        device=device.astype(np.uint8),
        taste=_taste(scenario),
        other=drift[:, :-1].astype(np.float32),
        turn=turn.astype(np.float32),
        style=_normals(scenario, Purpose.WORLD_STYLE, count, attributes).astype(np.float32),
        sensitivity=sensitivity.astype(np.float32),
    )


def _taste(scenario: WorldScenario) -> F32:
    people = scenario.users
    draws = _normals(scenario, Purpose.WORLD_TASTE, people.count, people.interest_count)
    return draws.astype(np.float32)


def _agents(scenario: WorldScenario, orders: OrderEffects) -> AgentArrays:
    count = scenario.agents.count
    categories = scenario.categories
    products, responses = scenario.products, scenario.responses
    category = _quotas(np.array([each.share for each in categories]), count)
    effects = _normals(scenario, Purpose.WORLD_PRODUCT, count, 2, 1)
    level, price = _prices(scenario, category)
    is_app = np.array([each.is_app for each in categories])[category]
    creatives = scenario.creatives
    width = creatives.attribute_count
    drawn = _normals(
        scenario, Purpose.WORLD_CREATIVE, count, creatives.count * (width + 1)
    ).reshape(count, creatives.count, width + 1)
    is_creative = scenario.has(Mechanism.CREATIVES)
    reach = _uniforms(scenario, Purpose.WORLD_REACH, count, len(scenario.users.regions))
    is_sold = (reach < products.reach_share) | (not scenario.has(Mechanism.GEO))
    # A product that is sold nowhere would be no product.
    is_sold |= reach == reach.min(axis=1, keepdims=True)
    value = np.where(is_app, _app_micros(orders), price * _order_factor(orders))
    is_return = scenario.agents.value == "return"
    unit = value / MICROS if is_return else np.ones(count)
    return AgentArrays(
        category=category.astype(np.int32),
        click=(_log_odds(responses.click_rate) + products.click_sigma * effects[:, 0]).astype(
            np.float32
        ),
        cart=(_log_odds(responses.cart_rate) + products.cart_sigma * effects[:, 1]).astype(
            np.float32
        ),
        appeal=_appeal(scenario, category),
        price_level=level.astype(np.float32),
        quality=(is_creative * creatives.quality_sigma * drawn[..., -1]).astype(np.float32),
        style=(is_creative * creatives.style_click * drawn[..., :-1] / np.sqrt(width)).astype(
            np.float32
        ),
        shift=_uniforms(scenario, Purpose.WORLD_ROTATION, count, 1)[:, 0].astype(np.float32),
        sold=is_sold.astype(np.float32),
        belief=(unit[:, None, None] * _judgement(scenario)[:, :, None] * is_sold[:, None, :])
        .reshape(count, -1)
        .astype(np.float32),
        price_micros=price,
        value_micros=value,
        margin=np.array([each.margin for each in categories])[category],
        is_app=is_app.astype(np.uint8),
    )


def _appeal(scenario: WorldScenario, category: I64) -> F32:
    """Returns [A, K]: what products speak to, by department, category and on their own."""
    departments = np.repeat(
        np.arange(len(scenario.departments)),
        [len(department.categories) for department in scenario.departments],
    )
    width = scenario.users.interest_count
    by_department = _normals(
        scenario, Purpose.WORLD_CATEGORY, len(scenario.departments), width, 0
    )
    by_category = _normals(scenario, Purpose.WORLD_CATEGORY, len(scenario.categories), width, 1)
    own = _normals(scenario, Purpose.WORLD_PRODUCT, category.shape[0], width)
    is_tree = scenario.has(Mechanism.CATEGORY_TREE)
    upper = scenario.products.department_share * is_tree
    middle = scenario.products.category_share * is_tree
    appeal = (
        np.sqrt(upper) * by_department[departments[category]]
        + np.sqrt(middle) * by_category[category]
        + np.sqrt(1.0 - upper - middle) * own
    )
    return (appeal / np.sqrt(width)).astype(np.float32)


def _prices(scenario: WorldScenario, category: I64) -> tuple[F64, F64]:
    """Returns [A] standardised log price within the category, and the mean value of an order.

    Without price bands every product costs the median of its category.
    """
    drawn = _normals(scenario, Purpose.WORLD_PRICE, category.shape[0], 1)[:, 0]
    level = drawn * scenario.has(Mechanism.PRICE_BANDS)
    median = np.array([each.price_micros for each in scenario.categories], np.float64)[category]
    sigma = np.array([each.price_sigma for each in scenario.categories])[category]
    return np.where(median > 0, level, 0.0), median * np.exp(sigma * level)


def _judgement(scenario: WorldScenario) -> F64:
    """Returns [A, S] belief / truth; mean 1 over agents."""
    scene_count = sum(len(publisher.placements) for publisher in scenario.publishers)
    drawn = _normals(scenario, Purpose.WORLD_JUDGEMENT, scenario.agents.count, scene_count + 1)
    if not scenario.has(Mechanism.MISJUDGEMENT):
        return np.ones((scenario.agents.count, scene_count))
    bias, error = scenario.agents.bias_sigma, scenario.agents.scene_error_sigma
    exponent = bias * drawn[:, :1] + error * drawn[:, 1:] - 0.5 * (bias**2 + error**2)
    return np.exp(exponent)


def _scenes(scenario: WorldScenario) -> SceneArrays:
    has_channels, has_floors = scenario.has(Mechanism.CHANNELS), scenario.has(Mechanism.FLOORS)
    names = [channel.name for channel in scenario.channels]
    places = [
        (names.index(publisher.channel), placement)
        for publisher in scenario.publishers
        for placement in publisher.placements
    ]
    channel = np.array([number for number, _ in places], np.int32)
    by_channel = scenario.channels
    factor = np.array([by_channel[m].floor_factor if has_channels else 1.0 for m in channel])
    click = np.array([place.click for _, place in places])
    click += [by_channel[m].click * has_channels for m in channel]
    view = [place.viewability for _, place in places]
    is_viewed = not scenario.has(Mechanism.VIEWABILITY)
    has_devices, has_geo = scenario.has(Mechanism.DEVICES), scenario.has(Mechanism.GEO)
    devices, regions = scenario.users.devices, scenario.users.regions
    return SceneArrays(
        channel=channel,
        click=click.astype(np.float32),
        cart=np.array([by_channel[m].cart * has_channels for m in channel], np.float32),
        viewability=np.maximum(np.array(view), float(is_viewed)).astype(np.float32),
        floor_micros=np.array([place.floor_cpm_micros / 1000 * has_floors for _, place in places])
        * factor,
        floor_sigma=np.array([place.floor_sigma for _, place in places]),
        soft_floor_factor=np.array(
            [
                place.soft_floor_factor * has_floors * (RULES[place.rule] in _HAS_SOFT_FLOOR)
                for _, place in places
            ]
        ),
        slots=np.array([place.slots for _, place in places], np.uint8),
        rule=np.array([int(RULES[place.rule]) for _, place in places], np.uint8),
        device_click=np.array([each.click * has_devices for each in devices], np.float32),
        device_cart=np.array([each.cart * has_devices for each in devices], np.float32),
        region_cart=np.array([each.cart * has_geo for each in regions], np.float32),
    )


_HAS_SOFT_FLOOR = (Rule.SECOND_PRICE, Rule.GSP)
"""At first price and VCG a soft floor has no meaning, and the engine takes none."""


def tick_hours(scenario: WorldScenario) -> F64:
    """Returns [T] the middle of each tick in hours of UTC."""
    return (np.arange(scenario.tick_count) + 0.5) * HOURS_PER_DAY / scenario.tick_count


def _traffic(scenario: WorldScenario, users: UserArrays, agents: AgentArrays) -> TrafficArrays:
    weight = _audience(scenario, users)
    share, aliases = alias_tables(weight, users.region_first)
    first = users.region_first
    by_region = np.stack(
        [weight[:, first[r] : first[r + 1]].sum(axis=1) for r in range(first.shape[0] - 1)], axis=1
    )
    by_region /= by_region.sum(axis=1, keepdims=True)
    shape = by_region * _shapes(scenario)
    by_channel = shape[:, :-1].sum(axis=2)
    by_channel /= by_channel.sum(axis=0)
    channel_share = np.array([channel.share for channel in scenario.channels])
    by_channel *= channel_share / channel_share.sum() * _supply_factor(scenario)
    visits = shape[:, -1].sum(axis=1)
    visits /= visits.sum()
    crowding = _holiday(scenario, 1.0, "traffic_factor") * scenario.opportunity_count
    per_visit = scenario.organic.visits_per_opportunity * scenario.has(Mechanism.ORGANIC)
    scene_weight, channel = _scene_shares(scenario)
    categories = np.array([each.share for each in scenario.categories])
    peers = np.bincount(agents.category, minlength=categories.shape[0])
    return TrafficArrays(
        counts=np.round(by_channel.sum(axis=1) * crowding).astype(np.int64),
        visits=np.round(visits * per_visit * crowding).astype(np.int64),
        scene_cdf=_cdf(_never_empty(by_channel)[:, channel] * scene_weight),
        region_cdf=_cdf(shape),
        alias_share=share,
        alias_user=aliases,
        product_cdf=_cdf(categories[agents.category] / peers[agents.category]),
        need_cdf=_cdf(categories),
        holiday_cart=_holiday(scenario, 0.0, "cart").astype(np.float32),
        surge=_surge(scenario),
        tracking_loss=_tracking_loss(scenario),
    )


def _never_empty(weights: F64) -> F64:
    """Returns weights[T, M] with a tick without traffic, which draws nothing, made even."""
    return weights + (weights.sum(axis=1, keepdims=True) == 0)


def _audience(scenario: WorldScenario, users: UserArrays) -> F64:
    """Returns [M + 1, U] how often users are met in each channel, and last in shops."""
    sigma = scenario.users.activity_sigma
    z = _normals(scenario, Purpose.WORLD_ACTIVITY, scenario.users.count, 1)[:, 0]
    activity = np.exp(sigma * z - 0.5 * sigma * sigma)
    width = scenario.users.interest_count
    topics = _normals(scenario, Purpose.WORLD_TOPIC, len(scenario.channels), width)
    topics /= np.linalg.norm(topics, axis=1, keepdims=True)
    has_channels = scenario.has(Mechanism.CHANNELS)
    rows = [
        activity * np.exp(channel.audience_pull * has_channels * (users.taste @ topic))
        for channel, topic in zip(scenario.channels, topics, strict=True)
    ]
    return np.stack([*rows, activity])


def _shapes(scenario: WorldScenario) -> F64:
    """Returns [T, M + 1, R] the weight of the local hour; visits follow the channels' mean."""
    offsets = np.array([region.utc_offset_h for region in scenario.users.regions])
    hour = ((tick_hours(scenario)[:, None] + offsets) % HOURS_PER_DAY).astype(np.int64)
    if not scenario.has(Mechanism.HOURS):
        return np.ones((scenario.tick_count, len(scenario.channels) + 1, offsets.shape[0]))
    rows: list[F64] = []
    for channel in scenario.channels:
        shape = np.array(scenario.hour_shapes[channel.hour_shape])
        rows.append((shape / shape.mean())[hour])
    share = np.array([channel.share for channel in scenario.channels])
    rows.append(np.tensordot(share / share.sum(), np.stack(rows), axes=1))
    return np.stack(rows, axis=1)


def _scene_shares(scenario: WorldScenario) -> tuple[F64, I64]:
    """Returns [S] the share of each scene within its channel, and [S] the channel."""
    names = [channel.name for channel in scenario.channels]
    weights: list[float] = []
    channels: list[int] = []
    for publisher in scenario.publishers:
        whole = sum(placement.share for placement in publisher.placements)
        weights += [publisher.share * each.share / whole for each in publisher.placements]
        channels += [names.index(publisher.channel)] * len(publisher.placements)
    weight, channel = np.array(weights), np.array(channels)
    totals = np.bincount(channel, weight, len(names))
    return weight / np.where(totals > 0, totals, 1.0)[channel], channel


def _is_during(scenario: WorldScenario, from_h: float, to_h: float) -> npt.NDArray[np.bool_]:
    hours = tick_hours(scenario)
    return (from_h <= hours) & (hours < to_h)


def _holiday(scenario: WorldScenario, neutral: float, field: str) -> F64:
    """Returns [T] the field of the holidays: factors multiply, effects add up."""
    found = np.full(scenario.tick_count, neutral)
    if scenario.has(Mechanism.HOLIDAY):
        for shock in scenario.shocks:
            if isinstance(shock, Holiday):
                now = _is_during(scenario, shock.from_h, shock.to_h)
                if field == "traffic_factor":
                    found[now] *= shock.traffic_factor
                else:
                    found[now] += shock.cart
    return found


def _supply_factor(scenario: WorldScenario) -> F64:
    """Returns [T, M] what supply drops leave of the traffic."""
    factor = np.ones((scenario.tick_count, len(scenario.channels)))
    if scenario.has(Mechanism.SUPPLY_DROP):
        for shock in scenario.shocks:
            if isinstance(shock, SupplyDrop):
                is_here = np.array([shock.channel in ("", c.name) for c in scenario.channels])
                now = _is_during(scenario, shock.from_h, shock.to_h)
                factor[np.ix_(now, is_here)] *= shock.traffic_factor
    return factor


def _surge(scenario: WorldScenario) -> F32:
    """Returns [T, A] the factor on what agents believe; each shock has its own group of agents."""
    factor = np.ones((scenario.tick_count, scenario.agents.count))
    for i, shock in enumerate(scenario.shocks):
        if isinstance(shock, CompetitorSurge) and scenario.has(Mechanism.COMPETITOR_SURGE):
            draws = _uniforms(scenario, Purpose.WORLD_SURGE, scenario.agents.count, 1, i)[:, 0]
            now = _is_during(scenario, shock.from_h, shock.to_h)
            factor[np.ix_(now, draws < shock.share)] *= shock.value_factor
    return factor.astype(np.float32)


def _tracking_loss(scenario: WorldScenario) -> F64:
    kept = np.ones(scenario.tick_count + 1)
    if scenario.has(Mechanism.TRACKING_LOSS):
        for shock in scenario.shocks:
            if isinstance(shock, TrackingLoss):
                kept[:-1][_is_during(scenario, shock.from_h, shock.to_h)] *= 1.0 - shock.share
    return 1.0 - kept


def _effects(scenario: WorldScenario) -> Effects:
    responses, people = scenario.responses, scenario.users
    tick_h = HOURS_PER_DAY / scenario.tick_count
    ages = np.arange(scenario.tick_count + 1)
    has_interests = scenario.has(Mechanism.INTERESTS)
    names = [category.name for category in scenario.categories]
    complement = np.zeros((len(names), len(names)), np.float32)
    if scenario.has(Mechanism.COMPLEMENTS):
        for c, category in enumerate(scenario.categories):
            for name in category.complements:
                complement[c, names.index(name)] = responses.complement_need
    return Effects(
        taste_click=responses.taste_click * has_interests,
        taste_cart=responses.taste_cart * has_interests,
        need_click=responses.need_click,
        need_cart=responses.need_cart,
        fatigue_click=responses.fatigue_click * scenario.has(Mechanism.FATIGUE),
        left_cart=responses.left_cart * scenario.has(Mechanism.CARTS),
        order_rate=responses.order_rate,
        organic_cart=_log_odds(scenario.organic.cart_rate) - _log_odds(responses.cart_rate),
        halo_need=responses.halo_need * scenario.has(Mechanism.HALO),
        substitute_need=responses.substitute_need * scenario.has(Mechanism.SUBSTITUTES),
        need_count=round(people.needs_per_day * people.count / scenario.tick_count),
        need_size=float(scenario.has(Mechanism.INTENTS)),
        need_decay=0.5 ** (tick_h / people.need_half_life_h),
        memory_decay=(0.5 ** (ages * tick_h / responses.memory_half_life_h)).astype(np.float32),
        cart_decay=(0.5 ** (ages * tick_h / responses.cart_half_life_h)).astype(np.float32),
        complement=complement,
    )


def _orders(scenario: WorldScenario) -> OrderEffects:
    orders, attribution = scenario.orders, scenario.attribution
    app = orders.app
    tick_h = HOURS_PER_DAY / scenario.tick_count
    has_lifetime = scenario.has(Mechanism.LIFETIME)
    has_attribution = scenario.has(Mechanism.ATTRIBUTION)
    return OrderEffects(
        value_sigma=orders.value_sigma * scenario.has(Mechanism.ORDER_VALUE),
        delay_median=orders.delay_median_h / tick_h * scenario.has(Mechanism.DELAY),
        delay_sigma=orders.delay_sigma,
        repeat_share=orders.repeat_share * scenario.has(Mechanism.REPEATS),
        repeat_value_factor=orders.repeat_value_factor,
        ads_micros=float(app.ads_micros * has_lifetime),
        ads_sigma=app.ads_sigma,
        payer_share=app.payer_share * has_lifetime,
        purchase_micros=float(app.purchase_micros),
        purchase_sigma=app.purchase_sigma,
        return_share=orders.return_share * scenario.has(Mechanism.RETURNS),
        return_delay=orders.return_delay_h / tick_h,
        missed_share=attribution.missed_share * has_attribution,
        claimed_share=attribution.claimed_share * has_attribution,
        claim_memory=attribution.claim_memory,
    )


def _app_micros(orders: OrderEffects) -> float:
    """Returns the mean of what an install brings."""
    return orders.ads_micros + orders.payer_share * orders.purchase_micros


def _order_factor(orders: OrderEffects) -> float:
    """Returns the mean of what an order of goods brings, relative to its value."""
    repeats = orders.repeat_share / (1.0 - orders.repeat_share)
    return 1.0 + repeats * orders.repeat_value_factor
