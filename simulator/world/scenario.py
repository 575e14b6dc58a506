"""The scenario of a world: every number of it, as a TOML file in ``simulator/world/scenarios``.

A key that is not in the schema is an error that names it; so is a value that breaks a rule. Shares
of one list are weights: they need not add up to 1. A period is one day, from midnight UTC.

Effects are in log-odds: 0 changes nothing, 0.7 doubles the odds of a click or of a cart. Whatever
is listed in ``off`` keeps its numbers and draws and has no effect.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from market.errors import BadInput
from market.money import CURRENCY_NUMBERS
from simulator.period.scenario import SHARES_ROUNDING, Law, check_deals
from simulator.scenario import read_as, text_of
from simulator.world.mechanisms import Mechanism

if TYPE_CHECKING:
    from collections.abc import Iterable

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Rate = Annotated[float, Meta(gt=0.0, lt=1.0)]
Weight = Annotated[float, Meta(ge=0.0, le=1e9)]
Spread = Annotated[float, Meta(ge=0.0, le=5.0)]
LogOdds = Annotated[float, Meta(ge=-10.0, le=10.0)]
Factor = Annotated[float, Meta(ge=0.0, le=1000.0)]
Hours = Annotated[float, Meta(gt=0.0, le=10_000.0)]
Micros = Annotated[int, Meta(ge=0, le=10**13)]
Price = Annotated[int, Meta(ge=1, le=10**12)]

HOURS_PER_DAY = 24
AGENTS_MAX = 1_024
"""What users remember is held per user and agent, so memory is users times agents."""
PARTS_MAX = 255
"""Regions and devices are bytes in the users' arrays."""
WORLDS_FOLDER = Path(__file__).parent / "scenarios"


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a scenario: immutable, and a misspelt key is an error."""


class Region(_Part, frozen=True):
    """Where users live.

    Attributes:
        name: as reports show it.
        share: of the users.
        utc_offset_h: of its local time.
        cart: effect on P(cart | click).
    """

    name: str
    share: Weight
    utc_offset_h: Annotated[float, Meta(ge=-12.0, le=14.0)] = 0.0
    cart: LogOdds = 0.0


class Device(_Part, frozen=True):
    """What users look at: effects on P(click | view) and P(cart | click)."""

    name: str
    share: Weight
    click: LogOdds = 0.0
    cart: LogOdds = 0.0


class Users(_Part, frozen=True, kw_only=True):
    """The users.

    Attributes:
        count: distinct users; traffic / count is how often one is met.
        interest_count: dimensions of taste.
        activity_sigma: log-normal spread of how often a user is met.
        drift_radians_per_day: root mean square of the angle by which tastes turn in a day; a tenth
            is hardly noticed, 1.5 makes them other tastes.
        needs_per_day: how often a need for some category arises in a user.
        need_half_life_h: how long a need lasts; also what clicks and orders leave behind.
        regions, devices: where they live and what they look at.
    """

    count: Annotated[int, Meta(ge=1, le=10_000_000)]
    interest_count: Annotated[int, Meta(ge=1, le=64)] = 8
    activity_sigma: Spread = 0.8
    drift_radians_per_day: Annotated[float, Meta(ge=0.0, le=100.0)] = 0.5
    needs_per_day: Annotated[float, Meta(ge=0.0, le=100.0)] = 1.0
    need_half_life_h: Hours = 6.0
    regions: tuple[Region, ...]
    devices: tuple[Device, ...]


class Responses(_Part, frozen=True):
    """What moves people, as effects in log-odds.

    Attributes:
        click_rate: P(click | view) where every effect is 0.
        cart_rate: P(cart | click) where every effect is 0.
        order_rate: P(order | cart).
        taste_click, taste_cart: of one standard deviation of a user's liking of a product.
        need_click, need_cart: of one need for the product's category.
        sensitivity_cart: of one standard deviation of price above its category's, on a user one
            standard deviation more sensitive to prices than the average.
        fatigue_click: taken off for each remembered exposure of the same agent.
        memory_half_life_h: how long exposures are remembered.
        left_cart: of a fresh cart of the same product.
        cart_half_life_h: how long a cart is thought of.
        halo_need: need that a click leaves behind.
        substitute_need: need that an order takes away, in its own category.
        complement_need: need that an order adds, in each category that goes with its own.
    """

    click_rate: Rate = 0.02
    cart_rate: Rate = 0.15
    order_rate: Rate = 0.35
    taste_click: Spread = 0.6
    taste_cart: Spread = 0.6
    need_click: LogOdds = 0.5
    need_cart: LogOdds = 0.8
    sensitivity_cart: Spread = 0.4
    fatigue_click: Spread = 0.15
    memory_half_life_h: Hours = 12.0
    left_cart: LogOdds = 1.5
    cart_half_life_h: Hours = 8.0
    halo_need: Annotated[float, Meta(ge=0.0, le=20.0)] = 0.5
    substitute_need: Annotated[float, Meta(ge=0.0, le=20.0)] = 3.0
    complement_need: Annotated[float, Meta(ge=0.0, le=20.0)] = 1.0


class Category(_Part, frozen=True):
    """A kind of product.

    Attributes:
        name: unique in the scenario.
        share: of the agents, and of the needs that arise.
        price_micros: median price; of an app, 0.
        price_sigma: log-normal spread of prices over products.
        margin: share of an order's value that is the advertiser's profit.
        is_app: an order is an install, whose value is what ``orders.app`` brings.
        complements: names of categories that go with this one.
    """

    name: str
    share: Weight = 1.0
    price_micros: Micros = 0
    price_sigma: Spread = 0.5
    margin: Share = 0.3
    is_app: bool = False
    complements: tuple[str, ...] = ()


class Department(_Part, frozen=True):
    """A branch of the tree of categories: what lies in it speaks to the same tastes."""

    name: str
    categories: tuple[Category, ...]


class Products(_Part, frozen=True):
    """How products of a branch resemble one another: shares of the variance of their appeal.

    Attributes:
        department_share: common to a department.
        category_share: common to a category, beyond its department; the rest is a product's own.
        click_sigma, cart_sigma: spread of products' own effects.
        reach_share: probability that a product is sold in a region.
    """

    department_share: Share = 0.35
    category_share: Share = 0.45
    click_sigma: Spread = 0.2
    cart_sigma: Spread = 0.2
    reach_share: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.9


class Creatives(_Part, frozen=True):
    """What is shown; the creatives of an agent are shown in turn, whoever sees them.

    Attributes:
        count: per agent.
        attribute_count: dimensions of style.
        style_click: log-odds of a click, per standard deviation of a user's liking of a style.
        quality_sigma: spread of what a creative does to everybody.
    """

    count: Annotated[int, Meta(ge=1, le=64)] = 4
    attribute_count: Annotated[int, Meta(ge=1, le=16)] = 4
    style_click: Spread = 0.3
    quality_sigma: Spread = 0.15


class Agents(_Part, frozen=True):
    """Who bids; each agent sells one product.

    Attributes:
        count: agents.
        budget_micros: mean budget of a day; budget_sigma its log-normal spread.
        target_share: what a conversion may cost, as a share of the profit it brings on average.
        laws: how they bid; dealt out in turn.
        value: what an exposure is worth to a bidder: the predicted probability of a conversion, or
            the predicted return in units of currency.
        bias_sigma: log-normal spread of how far agents' predictions are off as a whole.
        scene_error_sigma: of how far they are off by scene; the same all day.
        late_share, early_share: of agents that enter after the first tick, leave before the last.
    """

    count: Annotated[int, Meta(ge=1, le=AGENTS_MAX)] = 48
    budget_micros: Price = 100_000_000
    budget_sigma: Spread = 0.4
    target_share: Annotated[float, Meta(gt=0.0, le=10.0)] = 0.8
    laws: tuple[Law, ...] = (Law(law="pid"),)
    value: Literal["conversion", "return"] = "conversion"
    bias_sigma: Spread = 0.1
    scene_error_sigma: Spread = 0.15
    late_share: Share = 0.1
    early_share: Share = 0.1


class Placement(_Part, frozen=True):
    """A place for ads.

    Attributes:
        tag: as reports show it.
        share: of the publisher's traffic.
        slots: sold at once, at most as many as ``slot_weights``.
        rule: what a winner pays.
        viewability: probability that what is exposed comes into view.
        floor_cpm_micros: median hard floor.
        floor_sigma: log-normal spread of floors over opportunities.
        soft_floor_factor: soft floor as a multiple of the hard floor; 0 = none.
        click: effect on P(click | view).
    """

    tag: str
    share: Weight = 1.0
    slots: Annotated[int, Meta(ge=1, le=255)] = 1
    rule: Literal["first_price", "second_price", "gsp", "vcg"] = "gsp"
    viewability: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.7
    floor_cpm_micros: Micros = 0
    floor_sigma: Spread = 0.3
    soft_floor_factor: Annotated[float, Meta(ge=0.0, le=100.0)] = 0.0
    click: LogOdds = 0.0


class Publisher(_Part, frozen=True, kw_only=True):
    """Who sells; its placements are the scenes of the world."""

    name: str
    channel: str
    share: Weight = 1.0
    placements: tuple[Placement, ...]


class Deal(_Part, frozen=True):
    """A deal that some opportunities carry, in the words of OpenRTB; see ``seam.Deals``.

    Attributes:
        id: as reports show it.
        share: of the opportunities that carry it; each carries one deal at most.
        floor_cpm_micros: ``bidfloor``; at fixed price the agreed price.
        publisher: name of the only one who sells on it; "" = all.
        at: auction type: 1 first price, 2 second price, 3 fixed price; absent: the placement's.
        wseat: numbers of the agents that may use it, from 0; empty = all.
        private_auction: whether these opportunities take bids on the deal only.
    """

    id: Annotated[str, Meta(min_length=1)]
    share: Annotated[float, Meta(gt=0.0, le=1.0)]
    floor_cpm_micros: Annotated[int, Meta(ge=1, le=10**12)]
    publisher: str = ""
    at: Literal[1, 2, 3] | None = None
    wseat: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    private_auction: bool = False


class Channel(_Part, frozen=True, kw_only=True):
    """A kind of media: feed, search, short video, live room.

    Attributes:
        name: publishers refer to it.
        share: of the traffic.
        hour_shape: name of one of ``hour_shapes``.
        audience_pull: how much more often a user one standard deviation fonder of the channel's
            topic is met there, as a logarithm.
        click, cart: effects on P(click | view) and P(cart | click).
        floor_factor: multiplies the floors of its placements.
    """

    name: str
    share: Weight
    hour_shape: str
    audience_pull: Spread = 0.5
    click: LogOdds = 0.0
    cart: LogOdds = 0.0
    floor_factor: Annotated[float, Meta(gt=0.0, le=1000.0)] = 1.0


class Organic(_Part, frozen=True):
    """Orders without an ad.

    Attributes:
        visits_per_opportunity: visits to products' pages per opportunity of the scenario.
        cart_rate: P(cart | visit) where every effect is 0.
    """

    visits_per_opportunity: Annotated[float, Meta(ge=0.0, le=100.0)] = 0.1
    cart_rate: Rate = 0.03


class App(_Part, frozen=True):
    """What an install brings over its lifetime.

    Attributes:
        ads_micros: mean revenue from in-app ads; ads_sigma its log-normal spread.
        payer_share: of installs that ever buy in the app.
        purchase_micros: mean that a payer spends; purchase_sigma its log-normal spread.
    """

    ads_micros: Micros = 400_000
    ads_sigma: Spread = 1.0
    payer_share: Share = 0.03
    purchase_micros: Micros = 25_000_000
    purchase_sigma: Spread = 1.2


class Orders(_Part, frozen=True):
    """What an order brings, and when.

    Attributes:
        value_sigma: log-normal spread of order values around the price.
        delay_median_h, delay_sigma: from exposure to order; log-normal.
        repeat_share: P(another order | the one before), after the first.
        repeat_value_factor: value of each of these, relative to the first.
        return_share: of orders of goods that are sent back; return_delay_h: after how long.
        app: what an install brings.
    """

    value_sigma: Spread = 0.5
    delay_median_h: Annotated[float, Meta(ge=0.0, le=10_000.0)] = 1.0
    delay_sigma: Spread = 1.0
    repeat_share: Annotated[float, Meta(ge=0.0, le=0.95)] = 0.2
    repeat_value_factor: Annotated[float, Meta(ge=0.0, le=10.0)] = 0.8
    return_share: Share = 0.1
    return_delay_h: Annotated[float, Meta(ge=0.0, le=10_000.0)] = 4.0
    app: App = App()


class Attribution(_Part, frozen=True):
    """How reports err.

    Attributes:
        missed_share: of orders made by ads that no report knows.
        claimed_share: of organic orders of users who remember an exposure of the agent that are
            reported as its conversions.
        claim_memory: exposures that must still be remembered for that.
    """

    missed_share: Share = 0.05
    claimed_share: Share = 0.3
    claim_memory: Annotated[float, Meta(gt=0.0, le=1000.0)] = 0.5


class _Shock(_Part, frozen=True, kw_only=True, tag_field="kind"):
    """What happens from the hour ``from_h`` to ``to_h`` (UTC)."""

    from_h: Annotated[float, Meta(ge=0.0, le=24.0)]
    to_h: Annotated[float, Meta(ge=0.0, le=24.0)]


class Holiday(_Shock, frozen=True, kw_only=True, tag="holiday"):
    """More traffic and organic visits, by a factor, and an effect on P(cart | click)."""

    traffic_factor: Factor = 1.5
    cart: LogOdds = 0.5


class CompetitorSurge(_Shock, frozen=True, kw_only=True, tag="competitor_surge"):
    """``share`` of the agents value exposures ``value_factor`` times as high as they predict."""

    share: Share = 0.25
    value_factor: Factor = 2.0


class SupplyDrop(_Shock, frozen=True, kw_only=True, tag="supply_drop"):
    """The traffic of ``channel`` ("" = all) is multiplied by ``traffic_factor``."""

    channel: str = ""
    traffic_factor: Share = 0.3


class TrackingLoss(_Shock, frozen=True, kw_only=True, tag="tracking_loss"):
    """``share`` of the orders that fall due are not reported."""

    share: Share = 0.5


class WorldScenario(_Part, frozen=True, kw_only=True):
    """A world, written down. See the module.

    Attributes:
        name: as reports show it.
        world_seed: shapes users, products and scenes; the seed of a run draws only what happens.
        currency: ISO 4217.
        tick_count: ticks of a day.
        opportunity_count: of a day without shocks.
        slot_weights: [K] probability that a sold slot is exposed, never increasing.
        is_carried: whether users go from one period to the next with their needs, memories and
            carts, and orders with their delays; else each period starts anew, and periods are
            independent.
        off: mechanisms that are switched off.
        hour_shapes: 24 weights by local hour, midnight first.
    """

    name: str
    world_seed: Annotated[int, Meta(ge=0, le=2**62)]
    currency: str = "USD"
    tick_count: Annotated[int, Meta(ge=1, le=1_440)] = 48
    opportunity_count: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 500_000
    slot_weights: tuple[Annotated[float, Meta(gt=0.0, le=1.0)], ...] = (1.0, 0.8, 0.48)
    is_carried: bool = False
    off: tuple[Mechanism, ...] = ()
    users: Users
    responses: Responses = Responses()
    departments: tuple[Department, ...]
    products: Products = Products()
    creatives: Creatives = Creatives()
    agents: Agents = Agents()
    channels: tuple[Channel, ...]
    publishers: tuple[Publisher, ...]
    deals: tuple[Deal, ...] = ()
    organic: Organic = Organic()
    orders: Orders = Orders()
    attribution: Attribution = Attribution()
    shocks: tuple[Holiday | CompetitorSurge | SupplyDrop | TrackingLoss, ...] = ()
    hour_shapes: dict[str, tuple[Weight, ...]]

    def __post_init__(self) -> None:
        """Checks what spans several keys.

        Raises:
            BadInput: a rule is broken; the message and the pointer name the key.
        """
        _rule(
            self.currency in CURRENCY_NUMBERS, "/currency", self.currency,
            "must be an ISO 4217 code in capitals, such as USD",
        )  # fmt: skip
        _rule(
            self.slot_weights and list(self.slot_weights) == sorted(self.slot_weights)[::-1],
            "/slot_weights", list(self.slot_weights), "must hold at least one and never increase",
        )  # fmt: skip
        _rule(
            len(set(self.off)) == len(self.off), "/off", [str(name) for name in self.off],
            "must name each mechanism once",
        )  # fmt: skip
        self._check_users()
        self._check_products()
        self._check_scenes()
        self._check_deals()
        _rule(self.agents.laws, "/agents/laws", "empty", "must hold at least one law")
        for i, shock in enumerate(self.shocks):
            _rule(
                shock.from_h < shock.to_h, f"/shocks/{i}/to_h", shock.to_h,
                f"must be above from_h, which is {shock.from_h}",
            )  # fmt: skip
            if isinstance(shock, SupplyDrop) and shock.channel:
                self._check_channel(shock.channel, f"/shocks/{i}/channel")

    def _check_users(self) -> None:
        for name, parts in (("regions", self.users.regions), ("devices", self.users.devices)):
            _rule(
                len(parts) <= PARTS_MAX, f"/users/{name}", len(parts),
                f"must be at most {PARTS_MAX}",
            )  # fmt: skip
        _check_list([(r.name, r.share) for r in self.users.regions], "/users/regions")
        _check_list([(d.name, d.share) for d in self.users.devices], "/users/devices")

    def _check_products(self) -> None:
        _check_list([(department.name, 1.0) for department in self.departments], "/departments")
        categories = self.categories
        _check_list([(c.name, c.share) for c in categories], "/departments/categories")
        known = [category.name for category in categories]
        for i, department in enumerate(self.departments):
            for j, category in enumerate(department.categories):
                at = f"/departments/{i}/categories/{j}"
                for name in category.complements:
                    _rule(
                        name in known and name != category.name, f"{at}/complements", name,
                        f"must be another category: one of {', '.join(known)}",
                    )  # fmt: skip
                _rule(
                    category.is_app == (category.price_micros == 0), f"{at}/price_micros",
                    category.price_micros, "must be 0 for an app and above 0 for goods",
                )  # fmt: skip
        shares = self.products.department_share + self.products.category_share
        _rule(
            shares <= 1.0, "/products/category_share", self.products.category_share,
            "must not exceed 1 together with department_share",
        )  # fmt: skip

    def _check_scenes(self) -> None:
        _check_list([(channel.name, channel.share) for channel in self.channels], "/channels")
        for name, shape in self.hour_shapes.items():
            at = f"/hour_shapes/{name}"
            _rule(len(shape) == HOURS_PER_DAY, at, f"{len(shape)} weights", "must hold 24")
            _rule(min(shape) > 0, at, list(shape), "must hold no hour without traffic")
        for i, channel in enumerate(self.channels):
            _rule(
                channel.hour_shape in self.hour_shapes, f"/channels/{i}/hour_shape",
                channel.hour_shape, f"must be one of {', '.join(self.hour_shapes)}",
            )  # fmt: skip
            own = sum(p.share for p in self.publishers if p.channel == channel.name)
            _rule(
                own > 0 or channel.share == 0, f"/channels/{i}/share", channel.share,
                "must be 0, for no publisher with a share above 0 sells in the channel",
            )  # fmt: skip
        _check_list([(p.name, p.share) for p in self.publishers], "/publishers")
        for i, publisher in enumerate(self.publishers):
            at = f"/publishers/{i}"
            self._check_channel(publisher.channel, f"{at}/channel")
            _check_list([(p.tag, p.share) for p in publisher.placements], f"{at}/placements")
            for j, placement in enumerate(publisher.placements):
                _rule(
                    placement.slots <= len(self.slot_weights), f"{at}/placements/{j}/slots",
                    placement.slots,
                    f"must be at most {len(self.slot_weights)}, the number of slot_weights",
                )  # fmt: skip
                single = placement.rule in ("first_price", "second_price")
                _rule(
                    not single or placement.slots == 1 or placement.rule == "first_price",
                    f"{at}/placements/{j}/slots", placement.slots,
                    "must be 1 at second price: with several slots that is gsp",
                )  # fmt: skip

    def _check_deals(self) -> None:
        check_deals(self.deals, self.agents.count)
        known = [publisher.name for publisher in self.publishers]
        for i, deal in enumerate(self.deals):
            _rule(
                deal.publisher in ("", *known), f"/deals/{i}/publisher", deal.publisher,
                f"must be one of {', '.join(known)}, or absent for all",
            )  # fmt: skip
        for name in known:
            total = sum(deal.share for deal in self.deals if deal.publisher in ("", name))
            _rule(
                total <= 1.0 + SHARES_ROUNDING, "/deals", f"{total:.6g} in all for '{name}'",
                "must not hold shares above 1: an opportunity carries one deal at most",
            )  # fmt: skip

    def _check_channel(self, name: str, at: str) -> None:
        known = [channel.name for channel in self.channels]
        _rule(name in known, at, name, f"must be one of {', '.join(known)}")

    @property
    def categories(self) -> tuple[Category, ...]:
        """The leaves of the tree, in the order of the file."""
        return tuple(category for part in self.departments for category in part.categories)

    def has(self, mechanism: Mechanism) -> bool:
        """Returns whether ``mechanism`` is switched on."""
        return mechanism not in self.off

    def without(self, *mechanisms: Mechanism) -> WorldScenario:
        """Returns the scenario with ``mechanisms`` switched off, too."""
        more = tuple(name for name in mechanisms if name not in self.off)
        return msgspec.structs.replace(self, off=self.off + more)


def _rule(is_kept: object, pointer: str, value: object, text: str) -> None:
    if not is_kept:
        raise BadInput(f"{pointer}: is {value}; {text}", pointer)


def _check_list(weights: Iterable[tuple[str, float]], at: str) -> None:
    """Checks that names are distinct and that some weight is above 0."""
    pairs = list(weights)
    names = [name for name, _ in pairs]
    _rule(len(set(names)) == len(names), at, names, "must have distinct names")
    _rule(sum(weight for _, weight in pairs) > 0, at, pairs, "must hold a share above 0")


def load(name: str) -> WorldScenario:
    """Returns the world that ships under this name, or in the ``.toml`` file of this path.

    Raises:
        BadInput: there is none, or it breaks the schema.
    """
    return read(*text_of(name, WORLDS_FOLDER))


def read(text: str, name: str) -> WorldScenario:
    """Returns the world that a TOML text describes; ``name`` is what errors call it.

    Raises:
        BadInput: the text is no TOML, a key is unknown, missing or of the wrong type, or a value
            breaks its rule; the message and the pointer name the key.
    """
    return read_as(WorldScenario, text, name)


def shipped() -> tuple[str, ...]:
    """Returns the names of the worlds that ship."""
    return tuple(sorted(path.stem for path in WORLDS_FOLDER.glob("*.toml")))
