"""Campaign vocabulary: what an advertiser intends, and the rules a campaign must keep.

    Campaign (advertiser, currency, time zone, goal, budgets, flight)
      └── LineItem (targeting, deals, frequency caps, highest bid)
            └── Creative (what is shown)

``problems_of`` checks everything that types cannot: it returns every broken rule with the JSON
pointer of the field, so that a form can show all of them at once.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import msgspec

from market.creative import Creative, faults_of
from market.errors import BadInput
from market.money import BUDGET_MICROS_MAX, CURRENCY_NUMBERS, PRICE_CPM_MICROS_MAX
from market.opportunity import Format
from market.targeting import Targeting, targeting_problems

LINE_ITEMS_MAX = 50
CREATIVES_MAX = 100
_YEAR_10000_MS = 253_402_300_800_000
_DOMAIN = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_CATEGORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_TAXONOMY = re.compile(r"[2-9]|[1-9][0-9]{1,3}")
_TIME_ZONES = available_timezones()


class GoalKind(enum.StrEnum):
    """What the campaign maximises, and the ratio it must keep."""

    MAX_CONVERSIONS = "max_conversions"
    TARGET_CPA = "target_cpa"
    TARGET_ROAS = "target_roas"


class Status(enum.StrEnum):
    """Whether a campaign may bid."""

    ACTIVE = "active"
    PAUSED = "paused"


class CapScope(enum.StrEnum):
    """What a frequency cap counts together."""

    CAMPAIGN = "campaign"
    LINE_ITEM = "line_item"
    CREATIVE = "creative"


class CapPeriod(enum.StrEnum):
    """The window of a frequency cap: fixed windows of the episode clock, in UTC."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


PERIOD_MS = {
    CapPeriod.HOUR: 3_600_000,
    CapPeriod.DAY: 86_400_000,
    CapPeriod.WEEK: 604_800_000,
}


class Goal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bid goal of a campaign.

    Attributes:
        kind: what to maximise.
        target_cpa_micros: highest average cost per conversion; required by target_cpa.
        target_roas: lowest value / spend; required by target_roas.
        value_per_conversion_micros: what a conversion is expected to be worth; required by
            max_conversions and target_roas, whose bids start from it.
    """

    kind: GoalKind
    target_cpa_micros: int | None = None
    target_roas: float | None = None
    value_per_conversion_micros: int | None = None


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be spent. A day is a calendar day in the campaign's time zone."""

    daily_micros: int | None = None
    lifetime_micros: int | None = None


class Flight(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When bids may be made: [start_at_ms, end_at_ms), epoch milliseconds; None = open."""

    start_at_ms: int | None = None
    end_at_ms: int | None = None


class FrequencyCap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most ``impressions`` billed or open per user, scope and period."""

    impressions: int
    period: CapPeriod = CapPeriod.DAY
    scope: CapScope = CapScope.LINE_ITEM


class LineItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One targeting expression with its bid ceiling, deals and creatives.

    Attributes:
        line_item_id: unique over all advertisers; assigned by the control plane.
        bid_cpm_micros_max: never bid above this, in campaign currency.
        deals: deal ids it may bid on (a deal belongs to a line item, not to a seat).
        is_deal_only: bids on its deals and never in the open auction.
        seat: buyer seat it bids for, "" for the exchange profile's default.
        frequency_caps: at most 3.
    """

    line_item_id: int = 0
    name: str = ""
    targeting: Targeting = Targeting()
    bid_cpm_micros_max: int = 100_000_000
    deals: tuple[str, ...] = ()
    is_deal_only: bool = False
    seat: str = ""
    frequency_caps: tuple[FrequencyCap, ...] = ()
    creatives: tuple[Creative, ...] = ()


class Campaign(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An advertiser's goal, budgets and line items.

    Attributes:
        campaign_id: unique over all advertisers; assigned by the control plane.
        advertiser_id: owner; taken from the API key, never from a request body.
        advertiser_domain: what goes into ``adomain`` and is matched against ``badv``.
        category: IAB content category of the ad (``cat``), matched against ``bcat``.
        categories_by_taxonomy: the same in other taxonomies (AdCOM list "Category Taxonomies"),
            each with the tiers above it: ``{"6": ["483", "460"]}``. An exchange that blocks in a
            taxonomy is not bid by an ad that names no category in it.
        app_bundle: store id of the advertised app, "" if none; matched against ``bapp``.
        currency: ISO 4217; budgets, goals and ceilings are in it.
        time_zone: IANA name; the budget day starts at its midnight.
        policy: name of the bid policy, see ``policies.bidding``.
        version: counts changes, 1 for a new campaign.
    """

    name: str
    currency: str
    time_zone: str
    goal: Goal
    budget: Budget
    advertiser_domain: str
    category: str = "IAB24"
    categories_by_taxonomy: dict[str, tuple[str, ...]] = {}
    app_bundle: str = ""
    flight: Flight = Flight()
    status: Status = Status.ACTIVE
    policy: str = "pid"
    line_items: tuple[LineItem, ...] = ()
    campaign_id: int = 0
    advertiser_id: int = 0
    version: int = 1


class Problem(NamedTuple):
    """One broken rule: where, what was found, what must hold."""

    pointer: str
    value: str
    rule: str

    def __str__(self) -> str:
        """Returns the sentence that a person reads."""
        return f"{self.pointer}: is {self.value}; {self.rule}"


def problems_of(campaign: Campaign) -> tuple[Problem, ...]:
    """Returns every rule that ``campaign`` breaks, in document order; empty if it may be stored."""
    found: list[Problem] = []

    def rule(is_kept: bool, pointer: str, value: object, text: str) -> None:
        if not is_kept:
            found.append(Problem(pointer, repr(value), text))

    rule(0 < len(campaign.name.strip()) <= 200, "/name", campaign.name, "must be 1-200 characters")
    rule(
        campaign.currency in CURRENCY_NUMBERS, "/currency", campaign.currency,
        "must be an ISO 4217 code in capitals, such as USD",
    )  # fmt: skip
    rule(
        campaign.time_zone in _TIME_ZONES, "/time_zone", campaign.time_zone,
        "must be an IANA time zone, such as Europe/Berlin",
    )  # fmt: skip
    rule(
        bool(_DOMAIN.fullmatch(campaign.advertiser_domain)), "/advertiser_domain",
        campaign.advertiser_domain, "must be a host name in lower case, such as shop.example",
    )  # fmt: skip
    rule(
        bool(_CATEGORY.fullmatch(campaign.category)), "/category", campaign.category,
        "must be a category of the IAB content taxonomy, such as IAB18",
    )  # fmt: skip
    for taxonomy, names in campaign.categories_by_taxonomy.items():
        at = f"/categories_by_taxonomy/{taxonomy}"
        rule(
            bool(_TAXONOMY.fullmatch(taxonomy)), at, taxonomy,
            "must be a number of AdCOM's list Category Taxonomies other than 1",
        )  # fmt: skip
        rule(
            bool(names) and all(_CATEGORY.fullmatch(name) for name in names), at, names,
            "must name the ad's category in this taxonomy, and the tiers above it",
        )  # fmt: skip
    rule(
        len(campaign.app_bundle) <= 200 and not any(map(str.isspace, campaign.app_bundle)),
        "/app_bundle", campaign.app_bundle, "must be at most 200 characters without white space",
    )  # fmt: skip
    found.extend(_goal_problems(campaign.goal))
    found.extend(_budget_problems(campaign.budget))
    start, end = campaign.flight.start_at_ms, campaign.flight.end_at_ms
    for name, at_ms in (("start_at_ms", start), ("end_at_ms", end)):
        rule(
            at_ms is None or 0 <= at_ms < _YEAR_10000_MS, f"/flight/{name}", at_ms,
            "must be epoch milliseconds before the year 10000",
        )  # fmt: skip
    rule(
        start is None or end is None or start < end, "/flight/end_at_ms", end,
        "must be later than start_at_ms",
    )  # fmt: skip
    rule(
        len(campaign.line_items) <= LINE_ITEMS_MAX, "/line_items", len(campaign.line_items),
        f"must have at most {LINE_ITEMS_MAX} entries",
    )  # fmt: skip
    for i, line_item in enumerate(campaign.line_items):
        found.extend(_line_item_problems(line_item, f"/line_items/{i}"))
    return tuple(found)


def check(campaign: Campaign) -> Campaign:
    """Returns ``campaign`` unchanged if it keeps every rule.

    Raises:
        BadInput: it does not; the message names all broken rules, the pointer is the first.
    """
    problems = problems_of(campaign)
    if problems:
        raise BadInput("campaign " + "; ".join(map(str, problems)), problems[0].pointer)
    return campaign


def format_bit(name: str) -> int:
    """Returns the ``Format`` bit of a creative's format name."""
    return int(Format[name.upper()])


def time_zone_of(campaign: Campaign) -> ZoneInfo:
    """Returns the zone in which the campaign's budget days begin."""
    return ZoneInfo(campaign.time_zone)


def _goal_problems(goal: Goal) -> list[Problem]:
    found: list[Problem] = []
    cpa, roas, value = goal.target_cpa_micros, goal.target_roas, goal.value_per_conversion_micros
    if goal.kind is GoalKind.TARGET_CPA and cpa is None:
        found.append(Problem("/goal/target_cpa_micros", "missing", "goal target_cpa requires it"))
    if goal.kind is GoalKind.TARGET_ROAS and roas is None:
        found.append(Problem("/goal/target_roas", "missing", "goal target_roas requires it"))
    if goal.kind is not GoalKind.TARGET_CPA and value is None:
        found.append(
            Problem("/goal/value_per_conversion_micros", "missing", f"goal {goal.kind} requires it")
        )
    for pointer, micros in (("target_cpa_micros", cpa), ("value_per_conversion_micros", value)):
        if micros is not None and not 0 < micros <= BUDGET_MICROS_MAX:
            found.append(
                Problem(
                    f"/goal/{pointer}", repr(micros),
                    f"must be > 0 and at most {BUDGET_MICROS_MAX} micros",
                )
            )  # fmt: skip
    if roas is not None and not 0.001 <= roas <= 1000.0:
        found.append(Problem("/goal/target_roas", repr(roas), "must be 0.001-1000"))
    return found


def _budget_problems(budget: Budget) -> list[Problem]:
    found: list[Problem] = []
    if budget.daily_micros is None and budget.lifetime_micros is None:
        found.append(Problem("/budget", "empty", "must set daily_micros, lifetime_micros, or both"))
    for name, micros in (
        ("daily_micros", budget.daily_micros),
        ("lifetime_micros", budget.lifetime_micros),
    ):
        if micros is not None and not 0 < micros <= BUDGET_MICROS_MAX:
            found.append(
                Problem(
                    f"/budget/{name}", repr(micros),
                    f"must be > 0 and at most {BUDGET_MICROS_MAX} micros",
                )
            )  # fmt: skip
    daily, lifetime = budget.daily_micros, budget.lifetime_micros
    if daily is not None and lifetime is not None and 0 < lifetime < daily:
        found.append(
            Problem("/budget/daily_micros", repr(daily), "must not exceed lifetime_micros")
        )
    return found


def _line_item_problems(line_item: LineItem, at: str) -> list[Problem]:
    found: list[Problem] = []
    if not 0 < line_item.bid_cpm_micros_max <= PRICE_CPM_MICROS_MAX:
        found.append(
            Problem(
                f"{at}/bid_cpm_micros_max", repr(line_item.bid_cpm_micros_max),
                f"must be > 0 and at most {PRICE_CPM_MICROS_MAX} micros CPM",
            )
        )  # fmt: skip
    found.extend(
        Problem(f"{at}/targeting/{pointer}", value, rule)
        for pointer, value, rule in targeting_problems(line_item.targeting)
    )
    if line_item.is_deal_only and not line_item.deals:
        found.append(Problem(f"{at}/deals", "empty", "a deal-only line item needs a deal"))
    if len(line_item.frequency_caps) > 3:
        found.append(
            Problem(
                f"{at}/frequency_caps", repr(len(line_item.frequency_caps)),
                "must have at most 3 entries",
            )
        )  # fmt: skip
    found.extend(
        Problem(f"{at}/frequency_caps/{i}/impressions", repr(cap.impressions), "must be 1-10000")
        for i, cap in enumerate(line_item.frequency_caps)
        if not 1 <= cap.impressions <= 10_000
    )
    if len(line_item.creatives) > CREATIVES_MAX:
        found.append(
            Problem(
                f"{at}/creatives", repr(len(line_item.creatives)),
                f"must have at most {CREATIVES_MAX} entries",
            )
        )  # fmt: skip
    for i, creative in enumerate(line_item.creatives):
        found.extend(
            Problem(f"{at}/creatives/{i}/{fault.field}", repr(fault.value), fault.rule)
            for fault in faults_of(creative)
        )
    return found
