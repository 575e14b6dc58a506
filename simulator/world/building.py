"""Builds the tables of a scenario, and who bids in it.

A function of the scenario alone; the same for all periods and seeds of a run. Draws of a mechanism
that is off are made all the same.

Dimension names: as in ``simulator.world.tables``.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from market.auction import Rule
from market.chance import Purpose
from market.errors import BadInput
from market.money import MICROS
from simulator.period.engine import Agents
from simulator.period.scenario import LAWS, RULES, deals_of
from simulator.period.seam import VALUE_MAX
from simulator.world.draws import cdf, normals, uniforms
from simulator.world.mechanisms import Mechanism
from simulator.world.scenario import HOURS_PER_DAY
from simulator.world.tables import (
    AgentArrays,
    Effects,
    OrderEffects,
    SceneArrays,
    Tables,
    UserArrays,
)
from simulator.world.traffic import build_traffic

if TYPE_CHECKING:
    from simulator.period.seam import Deals
    from simulator.world.scenario import WorldScenario
    from simulator.world.tables import F32, F64, I64

PRIOR_CONVERSIONS = 20.0
"""Weight of "the forecast is right" in the control laws: what the PID was tuned with."""


def build_tables(scenario: WorldScenario) -> Tables:
    """Returns the tables of a scenario.

    Raises:
        BadInput: with its prices and spreads an exposure may be worth more than VALUE_MAX.
    """
    users = _users(scenario)
    scenes = _scenes(scenario)
    orders = _orders(scenario)
    agents = _agents(scenario, orders)
    traffic = build_traffic(scenario, users, agents)
    largest = float(agents.belief.max(initial=0.0) * traffic.surge.max(initial=0.0))
    if largest > VALUE_MAX:
        raise BadInput(
            f"/departments: an exposure may be worth {largest:.3g} units of currency with these "
            f"prices, spreads and surges; it must be at most {VALUE_MAX:.3g}",
            "/departments",
        )
    return Tables(
        scenario=scenario,
        users=users,
        agents=agents,
        scenes=scenes,
        traffic=traffic,
        effects=_effects(scenario),
        orders=orders,
        deals=_deals(scenario),
    )


def agents_of(tables: Tables) -> Agents:
    """Returns who bids, with which budget and law: the same in all periods.

    A conversion may cost ``target_share`` of the profit it brings on average.
    """
    scenario, agents = tables.scenario, tables.agents
    people = scenario.agents
    count, ticks = people.count, scenario.tick_count
    spread = people.budget_sigma
    z = normals(scenario, Purpose.BUDGET, count, 1)[:, 0]
    dealt = [people.laws[a % len(people.laws)] for a in range(count)]
    is_return = people.value == "return"
    profit = agents.margin * (MICROS if is_return else agents.value_micros)
    # An app without revenue is worth nothing: its agent bids nothing, whatever its prior.
    worth = agents.value_micros / MICROS
    is_worth = worth > 0
    draws = uniforms(scenario, Purpose.WORLD_ENTRY, count, 4)
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
        prior=PRIOR_CONVERSIONS * np.where(is_return & is_worth, worth, 1.0),
        enter_tick=np.where(is_on & (draws[:, 0] < people.late_share), enter, 0),
        leave_tick=np.where(is_on & (draws[:, 2] < people.early_share), leave, ticks),
    )


def lag_ticks_of(tables: Tables) -> int:
    """Returns after how many ticks half of the orders that an exposure brings have fallen due.

    What control laws take for observed (``engine.run_period``): 0 where orders have no delay.
    """
    return int(tables.orders.delay_median)


def _log_odds(rate: float) -> float:
    return float(np.log(rate / (1.0 - rate)))


def _quotas(shares: F64, count: int) -> I64:
    """Returns [count] rows of ``shares``, each as often as its share says, in order."""
    rows = np.searchsorted(cdf(shares), (np.arange(count) + 0.5) / count, side="right")
    return np.minimum(rows, shares.shape[0] - 1)


def _users(scenario: WorldScenario) -> UserArrays:
    people = scenario.users
    count = people.count
    region = _quotas(np.array([each.share for each in people.regions]), count)
    first = np.searchsorted(region, np.arange(len(people.regions) + 1)).astype(np.int64)
    devices = cdf(np.array([each.share for each in people.devices]))
    device = np.searchsorted(
        devices, uniforms(scenario, Purpose.WORLD_DEVICE, count, 1)[:, 0], side="right"
    )
    drift = normals(scenario, Purpose.WORLD_DRIFT, count, people.interest_count + 1)
    per_tick = people.drift_radians_per_day / scenario.tick_count
    turn = per_tick * drift[:, -1] * scenario.has(Mechanism.DRIFT)
    effect = scenario.responses.sensitivity_cart * scenario.has(Mechanism.PRICE_SENSITIVITY)
    sensitivity = effect * normals(scenario, Purpose.WORLD_SENSITIVITY, count, 1)[:, 0]
    attributes = scenario.creatives.attribute_count
    return UserArrays(
        region_first=first,
        region=region.astype(np.uint8),
        device=device.astype(np.uint8),
        traits=np.hstack(
            [
                _taste(scenario),
                drift[:, :-1],
                normals(scenario, Purpose.WORLD_STYLE, count, attributes),
                sensitivity[:, None],
                turn[:, None],
            ]
        ).astype(np.float32),
        interest_count=people.interest_count,
    )


def _taste(scenario: WorldScenario) -> F32:
    people = scenario.users
    draws = normals(scenario, Purpose.WORLD_TASTE, people.count, people.interest_count)
    return draws.astype(np.float32)


def _agents(scenario: WorldScenario, orders: OrderEffects) -> AgentArrays:
    count = scenario.agents.count
    categories = scenario.categories
    products, responses = scenario.products, scenario.responses
    category = _quotas(np.array([each.share for each in categories]), count)
    effects = normals(scenario, Purpose.WORLD_PRODUCT, count, 2, 1)
    level, price = _prices(scenario, category)
    is_app = np.array([each.is_app for each in categories])[category]
    creatives = scenario.creatives
    width = creatives.attribute_count
    drawn = normals(scenario, Purpose.WORLD_CREATIVE, count, creatives.count * (width + 1)).reshape(
        count, creatives.count, width + 1
    )
    is_creative = scenario.has(Mechanism.CREATIVES)
    reach = uniforms(scenario, Purpose.WORLD_REACH, count, len(scenario.users.regions))
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
        shift=uniforms(scenario, Purpose.WORLD_ROTATION, count, 1)[:, 0].astype(np.float32),
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
    by_department = normals(scenario, Purpose.WORLD_CATEGORY, len(scenario.departments), width, 0)
    by_category = normals(scenario, Purpose.WORLD_CATEGORY, len(scenario.categories), width, 1)
    own = normals(scenario, Purpose.WORLD_PRODUCT, category.shape[0], width)
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
    drawn = normals(scenario, Purpose.WORLD_PRICE, category.shape[0], 1)[:, 0]
    level = drawn * scenario.has(Mechanism.PRICE_BANDS)
    median = np.array([each.price_micros for each in scenario.categories], np.float64)[category]
    sigma = np.array([each.price_sigma for each in scenario.categories])[category]
    return np.where(median > 0, level, 0.0), median * np.exp(sigma * level)


def _judgement(scenario: WorldScenario) -> F64:
    """Returns [A, S] belief / truth; mean 1 over agents."""
    scene_count = sum(len(publisher.placements) for publisher in scenario.publishers)
    drawn = normals(scenario, Purpose.WORLD_JUDGEMENT, scenario.agents.count, scene_count + 1)
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
        deal_cdf=_deal_cdf(scenario),
        device_click=np.array([each.click * has_devices for each in devices], np.float32),
        device_cart=np.array([each.cart * has_devices for each in devices], np.float32),
        region_cart=np.array([each.cart * has_geo for each in regions], np.float32),
    )


def _deals(scenario: WorldScenario) -> Deals:
    floors = [ceil(deal.floor_cpm_micros / 1000) for deal in scenario.deals]
    return deals_of(scenario.deals, floors, scenario.agents.count)


def _deal_cdf(scenario: WorldScenario) -> F64:
    """Returns [S, D] cumulated shares; without the mechanism no opportunity carries a deal."""
    is_on = scenario.has(Mechanism.DEALS)
    rows = [
        [deal.share * is_on * (deal.publisher in ("", publisher.name)) for deal in scenario.deals]
        for publisher in scenario.publishers
        for _ in publisher.placements
    ]
    return np.cumsum(np.array(rows, np.float64), axis=1)


_HAS_SOFT_FLOOR = (Rule.SECOND_PRICE, Rule.GSP)
"""At first price and VCG a soft floor has no meaning, and the engine takes none."""


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
        need_count=people.needs_per_day * people.count / scenario.tick_count,
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
