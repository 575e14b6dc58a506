"""What does not change in a period: users, products, creatives, scenes, traffic, effects.

A mechanism that is off is a neutral number here (an effect of 0, a factor of 1), so that kernels
know no switches. ``building`` makes the tables of a scenario.

Dimension names: U = users, A = agents, K = interests, J = attributes of style, G = creatives of an
agent, C = categories, S = scenes, M = channels, R = regions, D = devices (of
deal_cdf: deals), T = ticks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from simulator.period.seam import Deals
    from simulator.world.scenario import WorldScenario

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]


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
        traits: [U, 2 K + J + 2] taste, other, style, sensitivity and turn of a user side by side,
            since whoever needs one needs all, and users are met in no order.
        interest_count: K.
    """

    region_first: I64
    region: U8
    device: U8
    traits: F32
    interest_count: int

    @property
    def taste(self) -> F32:
        """[U, K] standard normal."""
        return self.traits[:, : self.interest_count]

    @property
    def other(self) -> F32:
        """[U, K] standard normal."""
        return self.traits[:, self.interest_count : 2 * self.interest_count]

    @property
    def style(self) -> F32:
        """[U, J] what a user thinks of attributes of creatives; standard normal."""
        return self.traits[:, 2 * self.interest_count : -2]

    @property
    def sensitivity(self) -> F32:
        """[U] to prices, times its effect."""
        return self.traits[:, -2]

    @property
    def turn(self) -> F32:
        """[U] radians per tick."""
        return self.traits[:, -1]


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
        deal_cdf: [S, D] shares of opportunities that carry each deal, cumulated; above the last
            they carry none.
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
    deal_cdf: F64
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
        need_count: needs that arise in a tick on average; need_size: what each is worth, 0 = off.
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
    need_count: float
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
    deals: Deals
