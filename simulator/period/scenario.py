"""``PeriodScenario``: a market of many advertisers, written down in TOML.

Files lie in ``simulator/scenarios`` beside those of the OpenRTB twin. A field that is not in the
schema is an error that names it; so is a value that breaks a rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import msgspec
import numpy as np
from msgspec import Meta

from market.auction import AGENTS_MAX, Rule
from market.errors import BadInput
from market.kernels_control import CONSTANT, PACING, PID
from simulator.period.seam import Deals
from simulator.scenario import read_as, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Amount = Annotated[float, Meta(gt=0.0, le=1e9)]
Limit = Annotated[float, Meta(gt=0.0, le=100_000.0)]
"""A cost limit: times the highest gain and 10^6 it is ``seam.WEIGHT_MAX``."""
Positive = Annotated[float, Meta(gt=0.0, le=1e9)]
Share = Annotated[float, Meta(gt=0.0, le=1.0)]
Spread = Annotated[float, Meta(ge=0.0, le=5.0)]
Micros = Annotated[int, Meta(ge=0, le=10**12)]

RULES = {
    "first_price": Rule.FIRST_PRICE,
    "second_price": Rule.SECOND_PRICE,
    "gsp": Rule.GSP,
    "vcg": Rule.VCG,
}
DEALS_MAX = 255
"""The deal of an opportunity is a byte."""
SHARES_ROUNDING = 1e-9
LAWS = {"constant": CONSTANT, "pid": PID, "pacing": PACING}


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of a scenario: immutable, and a misspelt field is an error."""


class Traffic(_Part, frozen=True):
    """When opportunities come.

    Attributes:
        opportunity_count: of a period, before jitter moves it by a few.
        shares: of equal windows of the period; weights.
        jitter: least and most factor that a window's share is multiplied by, each period anew.
    """

    opportunity_count: Count
    shares: tuple[Positive, ...]
    jitter: tuple[Positive, Positive]


class Values(_Part, frozen=True):
    """What an exposure is worth: conversion probabilities, drawn for each agent on its own.

    Attributes:
        mean: conversion probability.
        category_factor: least and most factor on it, by category and window of factor_ticks.
        advertiser_factor: the same by advertiser; the first of each category has none.
        factor_ticks: for how many ticks the two hold.
        spread_mean: mean over advertisers of sd / mean of its values.
        spread_sd: standard deviation over advertisers of the same, drawn per period.
        spread_jitter: relative standard deviation of the same from tick to tick.
    """

    mean: Share
    category_factor: tuple[Positive, Positive]
    advertiser_factor: tuple[Positive, Positive]
    factor_ticks: Count
    spread_mean: Spread
    spread_sd: Spread
    spread_jitter: Spread


class Auction(_Part, frozen=True):
    """How slots are sold.

    Attributes:
        rule: what the winner of a slot pays.
        slot_weights: probability that a sold slot is exposed, best slot first.
        floor_micros: hard floor, per exposure.
        soft_floor_micros: 0 = none.
        min_remaining_micros: an agent with less left is out.
    """

    rule: Literal["first_price", "second_price", "gsp", "vcg"]
    slot_weights: Annotated[tuple[Share, ...], Meta(max_length=255)]
    floor_micros: Annotated[int, Meta(ge=1, le=10**12)]
    soft_floor_micros: Micros = 0
    min_remaining_micros: Annotated[int, Meta(ge=1, le=10**15)] = 1


class Deal(_Part, frozen=True):
    """A deal that some opportunities carry, in the words of OpenRTB; see ``seam.Deals``.

    Attributes:
        id: as reports show it.
        share: of the opportunities that carry it; each carries one deal at most.
        floor_micros: ``bidfloor``, per exposure; at fixed price the agreed price.
        at: auction type: 1 first price, 2 second price, 3 fixed price; absent: the auction's rule.
        wseat: numbers of the agents that may use it, from 0; empty = all.
        private_auction: whether these opportunities take bids on the deal only.
    """

    id: Annotated[str, Meta(min_length=1)]
    share: Share
    floor_micros: Annotated[int, Meta(ge=1, le=10**12)]
    at: Literal[1, 2, 3] | None = None
    wseat: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    private_auction: bool = False


class Law(_Part, frozen=True):
    """A control law and its gain (``market.kernels_control``)."""

    law: Literal["constant", "pid", "pacing"]
    gain: Annotated[float, Meta(ge=0.0, le=10.0)] = 1.0


class Advertisers(_Part, frozen=True):
    """Who bids: categories times cost_limits advertisers.

    Attributes:
        categories: each has one advertiser for every cost limit, in an order drawn by the seed.
        cost_limits: what a conversion may cost, in units of currency.
        budgets: of a period, in units of currency, by cost limit.
        laws: how they bid; dealt out in turn.
    """

    categories: Count
    cost_limits: tuple[Limit, ...]
    budgets: tuple[Amount, ...]
    laws: tuple[Law, ...]


class PriceProcess(_Part, frozen=True):
    """Competing bids that nothing moves: what a campaign meets where competitors do not react.

    Attributes:
        level: median highest competing bid, in units of currency per exposure.
        spread: standard deviation of its logarithm, per opportunity.
        step: each lower competing bid is up to this share below the next higher.
        level_spread: standard deviation of the logarithm of the level over time.
        level_memory: correlation of that logarithm from one tick to the next.
    """

    level: Amount
    spread: Spread
    step: Annotated[float, Meta(ge=0.0, le=1.0)]
    level_spread: Spread
    level_memory: Annotated[float, Meta(ge=0.0, lt=1.0)]


class Campaign(_Part, frozen=True):
    """The campaign that an environment steers.

    Attributes:
        budget_factor: least and most factor on the budget that goes with its cost limit.
    """

    budget_factor: tuple[Positive, Positive]


class PeriodScenario(_Part, frozen=True):
    """One market. See the attributes' types.

    Attributes:
        ticks: of a period.
        deals: that opportunities may carry.
        price_process: needed by environments without competitors that react.
        campaign: needed by environments.
    """

    ticks: Count
    traffic: Traffic
    values: Values
    auction: Auction
    advertisers: Advertisers
    deals: tuple[Deal, ...] = ()
    price_process: PriceProcess | None = None
    campaign: Campaign | None = None

    def __post_init__(self) -> None:
        """Checks the rules that no single field can state.

        Raises:
            BadInput: one is broken; the pointer names the field.
        """
        shares = self.traffic.shares
        _rule(
            shares and self.ticks % len(shares) == 0, "/traffic/shares", f"{len(shares)} shares",
            f"must be as many as divide the {self.ticks} ticks evenly",
        )  # fmt: skip
        for pointer, pair in (
            ("/campaign/budget_factor", self.campaign.budget_factor if self.campaign else (1, 1)),
            ("/traffic/jitter", self.traffic.jitter),
            ("/values/category_factor", self.values.category_factor),
            ("/values/advertiser_factor", self.values.advertiser_factor),
        ):
            _rule(pair[0] <= pair[1], pointer, list(pair), "must be least, most")
        weights = self.auction.slot_weights
        _rule(
            weights and list(weights) == sorted(weights, reverse=True), "/auction/slot_weights",
            list(weights), "must hold at least one weight, never increasing",
        )  # fmt: skip
        # A weight below a millionth would be one of 0.
        _rule(min(weights) >= 1e-6, "/auction/slot_weights", list(weights), "must be 10^-6 or more")
        _rule(
            self.auction.rule != "second_price" or len(weights) == 1, "/auction/slot_weights",
            list(weights), "must be one slot where the rule is second_price (gsp sells several)",
        )  # fmt: skip
        for name in ("floor_micros", "soft_floor_micros"):
            floor = getattr(self.auction, name)
            _rule(
                float(np.float32(floor)) == floor, f"/auction/{name}", floor,
                "must be a number that float32 holds, as any up to 16777216",
            )  # fmt: skip
        soft = self.auction.soft_floor_micros
        _rule(
            soft == 0 or self.auction.rule in ("second_price", "gsp"), "/auction/soft_floor_micros",
            soft, "must be 0 unless the rule is second_price or gsp",
        )  # fmt: skip
        people = self.advertisers
        _rule(people.cost_limits, "/advertisers/cost_limits", "empty", "must hold at least one")
        _rule(
            len(people.budgets) == len(people.cost_limits), "/advertisers/budgets",
            f"{len(people.budgets)} budgets", f"must be {len(people.cost_limits)}, as cost_limits",
        )  # fmt: skip
        _rule(
            self.agent_count <= AGENTS_MAX, "/advertisers/categories", people.categories,
            f"times {len(people.cost_limits)} cost limits there must be at most {AGENTS_MAX}",
        )  # fmt: skip
        _rule(people.laws, "/advertisers/laws", "empty", "must hold at least one law")
        check_deals(self.deals, self.agent_count)
        total = sum(deal.share for deal in self.deals)
        _rule(
            total <= 1.0 + SHARES_ROUNDING, "/deals", f"{total:.6g} in all",
            "must not hold shares above 1: an opportunity carries one deal at most",
        )  # fmt: skip
        _rule(
            not self.deals or self.campaign is None, "/deals", f"{len(self.deals)} deals",
            "must be absent where /campaign is given: environments know no deals",
        )  # fmt: skip

    @property
    def agent_count(self) -> int:
        """A."""
        return self.advertisers.categories * len(self.advertisers.cost_limits)


class _Terms(Protocol):
    """What deals of all scenarios share."""

    @property
    def id(self) -> str: ...
    @property
    def wseat(self) -> tuple[int, ...]: ...
    @property
    def at(self) -> int | None: ...
    @property
    def private_auction(self) -> bool: ...


def check_deals(deals: Sequence[_Terms], agent_count: int) -> None:
    """Checks the ids and seats of a scenario's deals.

    Raises:
        BadInput: one breaks a rule; the pointer names the field.
    """
    names = [deal.id for deal in deals]
    _rule(len(set(names)) == len(names), "/deals", names, "must have distinct ids")
    _rule(len(names) <= DEALS_MAX, "/deals", len(names), f"must be at most {DEALS_MAX}")
    for i, deal in enumerate(deals):
        seats = list(deal.wseat)
        _rule(
            len(set(seats)) == len(seats) and max(seats, default=0) < agent_count,
            f"/deals/{i}/wseat", seats, f"must be distinct agents, each below {agent_count}",
        )  # fmt: skip


def deals_of(deals: Sequence[_Terms], floor_micros: Sequence[int], agent_count: int) -> Deals:
    """Returns the deals of a scenario as the engine takes them; floors are of one exposure."""
    may_use = np.zeros((len(deals), agent_count), np.uint8)
    for row, deal in zip(may_use, deals, strict=True):
        row[list(deal.wseat) or slice(None)] = 1
    return Deals(
        floor_micros=np.array(floor_micros, np.int64),
        auction_type=np.array([deal.at or 0 for deal in deals], np.uint8),
        is_private=np.array([deal.private_auction for deal in deals], np.uint8),
        may_use=may_use,
    )


def load(name: str) -> PeriodScenario:
    """Returns the scenario that ships under this name, or in the ``.toml`` file of this path.

    Raises:
        BadInput: there is none, or it breaks the schema.
    """
    return read(*text_of(name))


def read(text: str, name: str) -> PeriodScenario:
    """Returns the scenario that a TOML text describes; ``name`` is what errors call it.

    Raises:
        BadInput: the text is no TOML, a field is unknown, missing or of the wrong type, or a value
            breaks its rule; the message and the pointer name the field.
    """
    return read_as(PeriodScenario, text, name)


def _rule(is_kept: object, pointer: str, value: Any, text: str) -> None:  # noqa: ANN401
    if not is_kept:
        raise BadInput(f"{pointer}: is {value}; {text}", pointer)
