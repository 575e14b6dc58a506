"""A decision, slow and obvious: campaigns as they were written, dicts and exact numbers.

Written from the plan ("One decision, everywhere"), the docstrings of ``market.campaign``,
``market.opportunity`` and ``market.decision``, and OpenRTB 2.6 (floors 7.11 of the implementation
guide, blocking 3.2.1, deals 3.2.12); not from the kernels. One line item after the other, one check
after the other; what is known of users, budgets and counters lies in dicts.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

from market.budgets import budgets_of
from market.campaign import PERIOD_MS, CapScope, GoalKind, format_bit
from market.chance import Purpose, code_of
from market.decision import LIST_DETAIL, REASON_RANKS, NoBidReason
from market.events import FEATURE_COUNT
from market.features import CONTEXT_BUCKETS, CONTEXT_DIMENSIONS, ad_features
from market.money import CURRENCY_NAMES, MICROS
from market.opportunity import CodeList, Dimension
from tests.reference import chance, price, recommendation
from tests.reference.creative_fit import not_showable


class Multipliers(NamedTuple):
    pacing_lambda: float = 1.0
    ratio_mu: float = 0.0
    shading_factor: float = 1.0
    is_active: bool = True


class Answer(NamedTuple):
    """What the twin says of an opportunity; ids are 0 and ``deal_index`` -1 without a bid."""

    reason: int
    detail: int = 0
    line_item_id: int = 0
    creative_id: int = 0
    bid_cpm_micros: int = 0
    reserved_micros: int = 0
    floor_cpm_micros: int = 0
    bid_currency: int = 0
    account_currency: int = 0
    deal_index: int = -1
    size: int = 0
    format: int = 0


class _Offer(NamedTuple):
    rank: int
    answer: Answer
    counters: frozenset
    budgets: tuple


class Twin:
    """Decides one opportunity at a time and remembers what it reserved and counted."""

    def __init__(self, campaigns, weights, *, rates_micros, default_seat, seed, now_ms,
                 lifts=None, conversion_values=None, multipliers=None, available=None,
                 landscapes=()):  # fmt: skip
        self.campaigns = campaigns
        self.weights = weights
        self.rates_micros = rates_micros
        self.default_seat = default_seat
        self.seed = seed
        self.lifts = lifts or {}
        self.conversion_values = conversion_values or {}
        self.multipliers = multipliers or {}
        self.landscapes = landscapes
        self.budgets = {
            campaign.campaign_id: budgets_of(campaign, now_ms) for campaign in campaigns
        }
        self.available = dict(available or {})
        self.counters = {}
        self._known = {}

    def decide(self, opportunity):
        """Answers one opportunity of ``plain``; a bid takes its money and counts."""
        offers, stops = [], []
        if not any(item.creatives for campaign in self.campaigns for item in campaign.line_items):
            return Answer(NoBidReason.NO_ACTIVE_LINE_ITEM)
        for campaign in self.campaigns:
            for line_item in campaign.line_items:
                found = self._evaluate(opportunity, campaign, line_item)
                (offers if isinstance(found, _Offer) else stops).append(found)
        if not offers:
            return Answer(*max(stops, key=turn))
        best = min(offers, key=lambda offer: (-offer.rank, offer.answer.line_item_id))
        for counter in best.counters:
            self.counters[counter] = self.counters.get(counter, 0) + 1
        for budget in best.budgets:
            self.available[budget.budget_id] -= best.answer.reserved_micros
        return best.answer

    def _evaluate(  # noqa: C901, PLR0911 - one check after the other
        self, o, campaign, line_item
    ):
        """Returns the offer of a line item, or (furthest check it failed, detail)."""
        if not any(format_bit(c.format) & o["formats"] for c in line_item.creatives):
            return NoBidReason.FORMAT_NOT_SERVED, 0
        stop = self._forbidden(o, campaign, line_item) or not_targeted(o, line_item.targeting)
        if stop:
            return stop
        live = self.multipliers.get(line_item.line_item_id, Multipliers())
        held = {code_of(deal) for deal in line_item.deals}
        domains = {code_of(name) for name in domain_and_parents(campaign.advertiser_domain)}
        deal_index, deal = price.deal_for(o, held, self._seat(line_item), domains)
        if deal is None and (o["is_private"] or line_item.is_deal_only):
            return NoBidReason.DEAL_REQUIRED, 0
        flight = campaign.flight
        if (flight.start_at_ms or 0) > o["arrival_ms"]:
            return NoBidReason.OUTSIDE_FLIGHT, 0
        if flight.end_at_ms is not None and flight.end_at_ms <= o["arrival_ms"]:
            return NoBidReason.OUTSIDE_FLIGHT, 0
        if not live.is_active:
            return NoBidReason.NOT_ACTIVE, 0
        stop = price.unmet_condition(o, line_item.targeting)
        if stop:
            return stop, 0
        currency = self._currency(o, campaign)
        if currency is None:
            return NoBidReason.CURRENCY_NOT_CONVERTIBLE, 0
        chosen = self._choose(o, campaign, line_item)
        if isinstance(chosen, NoBidReason):
            return chosen, 0
        creative, pctr, pcvr = chosen
        value = pctr * pcvr * self._conversion_micros(campaign)
        bid = value * (1 + live.ratio_mu) / (live.pacing_lambda + live.ratio_mu)
        floor, number = price.floor_of(o, deal, creative)
        floor_currency = CURRENCY_NAMES.get(number)
        if floor_currency not in self.rates_micros:
            return NoBidReason.CURRENCY_NOT_CONVERTIBLE, 0
        floor = math.ceil(Fraction(floor * self._rate_micros(currency, floor_currency), MICROS))
        rate = self._rate_micros(campaign.currency, currency)
        bid_price = price.price_of(
            o, deal, creative, bid, line_item, live.shading_factor, self.landscapes,
            (rate, self._rate_micros(currency, "USD")), floor,
        )  # fmt: skip
        charged_cpm = math.ceil(Fraction(bid_price * rate, MICROS))
        reserved = math.ceil(Fraction(charged_cpm * o["quantity_micros"], 1000 * MICROS))
        budgets = self.budgets[campaign.campaign_id]
        if any(
            self.available.get(budget.budget_id, 0) < reserved
            or not budget.start_at_ms <= o["arrival_ms"] < budget.end_at_ms
            for budget in budgets
        ):
            return NoBidReason.BUDGET_EXHAUSTED, 0
        if bid_price <= 0 or bid_price < floor:
            return NoBidReason.BELOW_FLOOR, 0
        numbers = {name: number for number, name in CURRENCY_NAMES.items()}
        return _Offer(
            rank=math.ceil(Fraction(bid_price * self._rate_micros("USD", currency), MICROS)),
            answer=Answer(
                NoBidReason.BID, 0, line_item.line_item_id, creative.creative_id, bid_price,
                reserved, floor, numbers[currency], numbers[campaign.currency], deal_index,
                creative.width << 16 | creative.height, format_bit(creative.format),
            ),
            counters=frozenset(
                counter for counter, _ in self._counters(o, campaign, line_item, creative)
            ),
            budgets=budgets,
        )  # fmt: skip

    def _seat(self, line_item):
        return code_of(line_item.seat or self.default_seat)

    def _forbidden(self, o, campaign, line_item):
        """The exchange's allow and block lists, in the order of the reasons."""
        seat = {self._seat(line_item)}
        categories = {code_of(name) for name in ancestors(campaign.category)}
        for taxonomy, names in campaign.categories_by_taxonomy.items():
            categories |= {code_of(f"{taxonomy}:{name}") for name in ("", *names)}
        apps = {code_of(campaign.app_bundle)} if campaign.app_bundle else set()
        domains = {code_of(name) for name in domain_and_parents(campaign.advertiser_domain)}
        for listed, mine, is_allow, reason in (
            (CodeList.SEAT_ALLOWED, seat, True, NoBidReason.SEAT_NOT_ALLOWED),
            (CodeList.SEAT_BLOCKED, seat, False, NoBidReason.SEAT_BLOCKED),
            (CodeList.CATEGORY_ALLOWED, categories, True, NoBidReason.CATEGORY_NOT_ALLOWED),
            (CodeList.TAXONOMY, categories, True, NoBidReason.CATEGORY_TAXONOMY),
            (CodeList.CATEGORY_BLOCKED, categories, False, NoBidReason.CATEGORY_BLOCKED),
            (CodeList.ADVERTISER_BLOCKED, domains, False, NoBidReason.ADVERTISER_BLOCKED),
            (CodeList.APP_BLOCKED, apps, False, NoBidReason.APP_BLOCKED),
        ):
            values = set(o["lists"][listed])
            if values and bool(values & mine) != is_allow:
                return reason, 0
        return None

    def _currency(self, o, campaign):
        """The account's currency if the request takes it, else the first that has a rate."""
        accepted = [
            name
            for number in o["currencies"]
            if (name := CURRENCY_NAMES.get(number)) in self.rates_micros
        ]
        if campaign.currency in accepted:
            return campaign.currency
        return accepted[0] if accepted else None

    def _rate_micros(self, one, other):
        """Units of ``one`` per unit of ``other``, times 10^6."""
        if one == other:
            return MICROS
        return round(Fraction(self.rates_micros[other] * MICROS, self.rates_micros[one]))

    def _conversion_micros(self, campaign):
        goal = campaign.goal
        if goal.kind is GoalKind.TARGET_CPA:
            return goal.target_cpa_micros
        if goal.kind is GoalKind.MAX_CONVERSIONS:
            return goal.value_per_conversion_micros
        observed = self.conversion_values.get(campaign.campaign_id)
        return int((observed or goal.value_per_conversion_micros) / goal.target_roas)

    def _counters(self, o, campaign, line_item, creative):
        """(counter, most impressions) of every cap that binds this creative."""
        ids = {
            CapScope.CAMPAIGN: campaign.campaign_id,
            CapScope.LINE_ITEM: line_item.line_item_id,
            CapScope.CREATIVE: creative.creative_id,
        }
        return [
            (
                (cap.scope, ids[cap.scope], cap.period, o["user_key"],
                 o["arrival_ms"] // PERIOD_MS[cap.period]),
                cap.impressions,
            )
            for cap in line_item.frequency_caps
        ]  # fmt: skip

    def _choose(self, o, campaign, line_item):
        """(creative, pctr, pcvr) of the one with the highest worth, else the furthest reason."""
        best, best_worth, stops = None, -1.0, []
        for creative in line_item.creatives:
            stop = not_showable(o, creative)
            for counter, most in self._counters(o, campaign, line_item, creative):
                if stop is None and o["user_key"] == 0:
                    stop = NoBidReason.USER_UNKNOWN_FOR_CAP
                if stop is None and self.counters.get(counter, 0) >= most:
                    stop = NoBidReason.FREQUENCY_CAP
            if stop is not None:
                stops.append(stop)
                continue
            pctr, pcvr = self._probabilities(o, campaign, creative)
            shape, rate, is_cold = self.lifts.get(creative.creative_id, (4.0, 4.0, True))
            lift = self._drawn_lift(o, creative, shape, rate) if is_cold else shape / rate
            if pctr * pcvr * lift > best_worth:
                best_worth = pctr * pcvr * lift
                best = creative, min(pctr * (shape / rate), 1.0), pcvr
        return best if best is not None else max(stops, key=lambda stop: REASON_RANKS[stop])

    def _drawn_lift(self, o, creative, shape, rate):
        """Wilson and Hilferty 1931: the cube root of a gamma variable is nearly normal."""
        key = chance.stream(self.seed, Purpose.CREATIVE_CHOICE)
        key = chance.at_opportunity(key, o["key_hi"], o["key_lo"])
        root = 1 - 1 / (9 * shape) + chance.normal(key, creative.creative_id) / math.sqrt(9 * shape)
        return shape / rate * max(root, 0.0) ** 3

    def _probabilities(self, o, campaign, creative):
        features = chance.context_features(
            CONTEXT_DIMENSIONS, o["dimensions"], o["lists"][CodeList.SEGMENT], CONTEXT_BUCKETS,
            FEATURE_COUNT,
        )  # fmt: skip
        key = (*features, campaign.campaign_id, creative.creative_id)
        if key not in self._known:
            ad = ad_features(campaign, creative).tolist()
            self._known[key] = tuple(
                recommendation.probability(head, features, ad, self.weights) for head in (0, 1)
            )
        return self._known[key]


def not_targeted(o, targeting):
    """The first targeting check that fails, None if the opportunity is matched."""
    for dimension in Dimension:
        value = o["dimensions"][dimension]
        included = targeting.include.get(dimension.name.lower())
        excluded = targeting.exclude.get(dimension.name.lower(), ())
        if included is not None and value not in map(code_of, included):
            return NoBidReason.TARGETING_DIMENSION, int(dimension)
        if value in map(code_of, excluded):
            return NoBidReason.TARGETING_DIMENSION, int(dimension)
    for listed, reason in (
        (CodeList.SITE, NoBidReason.TARGETING_DIMENSION),
        (CodeList.SEGMENT, NoBidReason.TARGETING_SEGMENT),
        (CodeList.EID_SOURCE, NoBidReason.TARGETING_SEGMENT),
        (CodeList.CATEGORY, NoBidReason.TARGETING_CATEGORY),
        (CodeList.KEYWORD, NoBidReason.TARGETING_KEYWORD),
        (CodeList.USER_KEYWORD, NoBidReason.TARGETING_KEYWORD),
    ):
        has_own_reason = listed in (CodeList.SEGMENT, CodeList.CATEGORY, CodeList.KEYWORD)
        detail = 0 if has_own_reason else LIST_DETAIL + listed
        values = set(o["lists"][listed])
        included = targeting.include.get(listed.name.lower())
        excluded = targeting.exclude.get(listed.name.lower(), ())
        if included is not None and not values & set(map(code_of, included)):
            return reason, detail
        if values & set(map(code_of, excluded)):
            return reason, detail
    return None


def turn(stop):
    """When the check that said no had its turn: the furthest counts, then the highest detail."""
    reason, detail = stop
    return int(REASON_RANKS[reason]), detail


def ancestors(category):
    """A category of the first taxonomy and the tier above it: IAB18-2 belongs to IAB18."""
    return {category, category.partition("-")[0]}


def domain_and_parents(domain):
    """eu.shop.example belongs to shop.example; exchanges write either with or without www."""
    labels = domain.removeprefix("www.").split(".")
    names = {".".join(labels[i:]) for i in range(len(labels) - 1)}
    return names | {f"www.{name}" for name in names}


def plain(opportunities, n):
    """Opportunity ``n`` of a block as a dict of Python values; lists are lists of codes."""
    record = opportunities.records[n]
    o = {name: record[name].tolist() for name in record.dtype.names}
    codes = opportunities.codes.tolist()

    def piece(first, count):
        return codes[first : first + count]

    def triples(first, count):
        return [tuple(piece(first + 3 * k, 3)) for k in range(count)]

    o["lists"] = {
        listed: piece(o["list_first"][listed], o["list_count"][listed]) for listed in CodeList
    }
    o["sizes"] = o["sizes"][: o["size_count"]]
    o["currencies"] = [*o["currencies"], 0][: [*o["currencies"], 0].index(0)]
    o["duration_floors"] = [
        triples(*place)
        for place in zip(o["duration_floor_first"], o["duration_floor_count"], strict=True)
    ]
    o["deals"] = []
    for row in opportunities.deals[o["deal_first"] : o["deal_first"] + o["deal_count"]]:
        deal = {name: row[name].tolist() for name in row.dtype.names}
        deal["seats"] = piece(deal["seat_first"], deal["seat_count"])
        deal["domains"] = piece(deal["domain_first"], deal["domain_count"])
        place = deal["duration_floor_first"], deal["duration_floor_count"]
        deal["duration_floors"] = triples(*place)
        o["deals"].append(deal)
    return o
