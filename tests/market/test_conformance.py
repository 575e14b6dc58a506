"""The conformance suite: an honest agent passes, and each way to cheat is found and named."""

from __future__ import annotations

import numpy as np
import pytest

from market.conformance import Standing, check_agent
from market.decision import DECISION_DTYPE, NoBidReason
from market.kernels import amount_micros
from market.money import PRICE_CPM_MICROS_MAX
from market.opportunity import Format, no_opportunities

COUNT = 150
USD, EUR = 840, 978
ARRIVAL_MS = 1_700_000_000_000
WINDOW_MS = 300_000
# Opportunities with something special, which every block of the tests has at these places.
PRIVATE, ON_A_DEAL, DEAL_WITHOUT_FLOOR, MANY, VIDEO = 3, 4, 5, 6, 8


def block():
    """Banner imps with floors from 0 to 3 USD, most of them in EUR or USD."""
    rng = np.random.Generator(np.random.PCG64(1))
    opportunities = no_opportunities(COUNT, 0, 2)
    records = opportunities.records
    records["key_hi"] = rng.integers(1, 2**62, COUNT)
    records["key_lo"] = np.arange(COUNT)
    records["arrival_ms"] = ARRIVAL_MS + np.arange(COUNT)
    records["formats"] = Format.BANNER
    records["auction_type"] = 1
    records["floor_cpm_micros"] = rng.integers(0, 3_000_000, COUNT)
    records["floor_currency"] = USD
    records["currencies"][::3, :2] = (USD, EUR)
    records["sizes"][:, :2] = (300 << 16 | 250, 320 << 16 | 50)
    records["size_count"] = 2
    records["quantity_micros"] = 1_000_000
    records["quantity_micros"][MANY] = 12_500_000
    records["billing_window_ms"] = WINDOW_MS
    records["floor_cpm_micros"][[MANY, VIDEO]] = 500_000
    records["formats"][VIDEO] = Format.VIDEO | Format.BANNER
    opportunities.deals["code"] = (11, 22)
    opportunities.deals["floor_cpm_micros"] = (2_500_000, -1)
    opportunities.deals["floor_currency"] = USD
    records["is_private"][PRIVATE] = 1
    records["deal_count"][[PRIVATE, ON_A_DEAL, DEAL_WITHOUT_FLOOR]] = 1
    records["deal_first"][DEAL_WITHOUT_FLOOR] = 1
    return opportunities


class HonestAgent:
    """Bids 2 USD wherever that reaches the floor, the deal's floor on a deal, until it is broke."""

    bid_cpm_micros = 2_000_000

    def __init__(self, standing):
        self.standing = standing
        self.available_micros = 0 if standing is Standing.UNFUNDED else 10**9
        self.bid_count = 0

    def decide(self, opportunities):
        decisions = np.zeros(opportunities.records.shape[0], DECISION_DTYPE)
        for decision, opportunity in zip(decisions, opportunities.records, strict=True):
            self.answer(decision, opportunity, opportunities.deals)
        return decisions

    def answer(self, decision, opportunity, deals):
        floor, price, deal_index, code = opportunity["floor_cpm_micros"], self.bid_cpm_micros, -1, 0
        if opportunity["deal_count"]:
            deal = deals[opportunity["deal_first"]]
            deal_index, code = 0, deal["code"]
            if deal["floor_cpm_micros"] >= 0:
                floor = price = deal["floor_cpm_micros"]
        reserved = amount_micros(int(price), int(opportunity["quantity_micros"]), 920_000)
        reason = NoBidReason.BID
        if self.standing is Standing.PAUSED:
            reason = NoBidReason.NOT_ACTIVE
        elif price < floor:
            reason = NoBidReason.BELOW_FLOOR
        elif self.available_micros < reserved:
            reason = NoBidReason.BUDGET_EXHAUSTED
        decision["reason"] = reason
        decision["line_item_row"] = decision["creative_row"] = decision["deal_index"] = -1
        if reason is not NoBidReason.BID:
            return
        self.available_micros -= reserved
        self.bid_count += 1
        for name, value in {
            "bid_hi": opportunity["key_hi"], "bid_lo": opportunity["key_lo"] + 1,
            "line_item_row": 0, "creative_row": 0, "line_item_id": 1, "creative_id": 1,
            "bid_cpm_micros": price, "reserved_micros": reserved, "floor_cpm_micros": floor,
            "rate_micros": 920_000, "bid_currency": USD, "account_currency": EUR,
            "deal_index": deal_index, "deal_code": code, "size": 320 << 16 | 50,
            "format": Format.BANNER, "propensity": 1, "shading_factor": 1,
            "deadline_ms": opportunity["arrival_ms"] + opportunity["billing_window_ms"],
        }.items():  # fmt: skip
            decision[name] = value

    def notice(self, notices):
        pass

    def advance(self, now_ms):
        pass


def cheat(change):
    """An agent class that is honest but for ``change(decisions, is_bid)`` of its answers."""

    class Cheat(HonestAgent):
        def decide(self, opportunities):
            decisions = super().decide(opportunities)
            change(decisions, decisions["reason"] == NoBidReason.BID)
            return decisions

    return Cheat


def setting(name, value, *, of_bids=True):
    """A change that sets a column of every bid (or of every no-bid)."""

    def change(decisions, is_bid):
        decisions[name][is_bid if of_bids else ~is_bid] = value

    return cheat(change)


def setting_at(place, **values):
    """A change of one opportunity's answer, found by its arrival."""

    def change(decisions, is_bid):
        here = is_bid & (decisions["deadline_ms"] == ARRIVAL_MS + WINDOW_MS + place)
        for name, value in values.items():
            decisions[name][here] = value

    return cheat(change)


def adding(name, value):
    def change(decisions, is_bid):
        decisions[name][is_bid] += np.array(value).astype(decisions[name].dtype)

    return cheat(change)


class LiesAboutTheFloor(HonestAgent):
    """Bids its 2 USD on every imp and states a floor that it reaches."""

    def answer(self, decision, opportunity, deals):
        opportunity = opportunity.copy()
        opportunity["floor_cpm_micros"] = 0
        super().answer(decision, opportunity, deals)


class BidsTheSameIdTwice(HonestAgent):
    def answer(self, decision, opportunity, deals):
        opportunity = opportunity.copy()
        opportunity["key_hi"], opportunity["key_lo"] = 5, opportunity["key_lo"] // 2
        super().answer(decision, opportunity, deals)


class DependsOnTheBlock(HonestAgent):
    """Spends what is left of its second dollar on the last opportunity of a block."""

    def decide(self, opportunities):
        decisions = super().decide(opportunities)
        if decisions.shape[0] and decisions["reason"][-1] == NoBidReason.BID:
            decisions["pctr"][-1] = 0.5
        return decisions


class NamesBidsByCounting(HonestAgent):
    """Two agents that count together: the second gives other ids to the same bids."""

    total = 0

    def answer(self, decision, opportunity, deals):
        super().answer(decision, opportunity, deals)
        if decision["reason"] == NoBidReason.BID:
            type(self).total += 1
            decision["bid_lo"] = self.total


class WritesIntoTheOpportunities(HonestAgent):
    def decide(self, opportunities):
        opportunities.records["floor_cpm_micros"] = 0
        return super().decide(opportunities)


class BidsWhilePaused(HonestAgent):
    def __init__(self, standing):
        super().__init__(Standing.READY if standing is Standing.PAUSED else standing)


class BidsWithoutMoney(HonestAgent):
    def __init__(self, standing):
        super().__init__(Standing.READY if standing is Standing.UNFUNDED else standing)


class NeverBids(HonestAgent):
    def __init__(self, _):
        super().__init__(Standing.PAUSED)


class ForgetsTheLast(HonestAgent):
    def decide(self, opportunities):
        return super().decide(opportunities)[:-1]


class AnswersInLists(HonestAgent):
    def decide(self, opportunities):
        return np.zeros(opportunities.records.shape[0], np.int64)


class CannotTakeALoss(HonestAgent):
    def notice(self, notices):
        assert not notices, "a loss was never heard of"


class CannotTakeTime(HonestAgent):
    def advance(self, now_ms):
        raise AssertionError(f"{now_ms} is too late")


class FailsOnAnEmptyBlock(HonestAgent):
    def decide(self, opportunities):
        decisions = super().decide(opportunities)
        return decisions if decisions.shape[0] else np.zeros(1, DECISION_DTYPE)


def test_an_honest_agent_passes():
    check_agent(HonestAgent, block())


def test_the_block_of_these_tests_has_bids_of_every_kind_and_refusals():
    decisions = HonestAgent(Standing.READY).decide(block())
    made = decisions["reason"] == NoBidReason.BID
    assert made[[PRIVATE, ON_A_DEAL, DEAL_WITHOUT_FLOOR, MANY, VIDEO]].all()
    assert 50 < made.sum() < COUNT


CHEATS = {
    "forgets one": (ForgetsTheLast, r"the shape \(149,\); there must be one for each of 150"),
    "another dtype": (AnswersInLists, "decisions are of int64; they must be of DECISION_DTYPE"),
    "writes": (WritesIntoTheOpportunities, "decide wrote into the opportunities"),
    "never bids": (NeverBids, "bid on no opportunity"),
    "no such reason": (
        setting("reason", 255, of_bids=False), "reason is 255; must be a NoBidReason",
    ),
    "a row without a bid": (
        setting("line_item_row", 0, of_bids=False), "line_item_row is 0; must be -1, no bid",
    ),
    "a creative without a bid": (
        setting("creative_row", 0, of_bids=False), "creative_row is 0; must be -1, no bid",
    ),
    "money without a bid": (
        setting("reserved_micros", 5, of_bids=False), "reserved_micros is 5; must be 0, no bid",
    ),
    "a price without a bid": (
        setting("bid_cpm_micros", 5, of_bids=False), "bid_cpm_micros is 5; must be 0, no bid",
    ),
    "an id without a bid": (setting("bid_hi", 5, of_bids=False), "bid_hi is 5; must be 0, no bid"),
    "the other half of it": (
        setting("bid_lo", 5, of_bids=False), "bid_lo is 5; must be 0, no bid",
    ),
    "a bid of nothing": (setting("bid_cpm_micros", 0), "bid_cpm_micros is 0; must be > 0"),
    "an absurd bid": (
        setting("bid_cpm_micros", PRICE_CPM_MICROS_MAX + 1),
        "bid_cpm_micros is 10000000001; must be > 0 and at most 10000000000",
    ),
    "below its own floor": (
        adding("floor_cpm_micros", 3_000_000), "must not be below the floor it states",
    ),
    "below the floor": (LiesAboutTheFloor, r"a bid must not be below the floor, \d+$"),
    "below the deal's floor": (
        setting_at(ON_A_DEAL, bid_cpm_micros=2_400_000, floor_cpm_micros=0),
        "opportunity 4: bid_cpm_micros is 2400000; a bid must not be below the floor, 2500000",
    ),
    "no currency": (setting("bid_currency", 1), "bid_currency is 1; must be an ISO 4217 number"),
    "no account": (
        setting("account_currency", 0), "account_currency is 0; must be an ISO 4217 number",
    ),
    "a currency not asked for": (
        setting("bid_currency", 826), "bid_currency is 826; must be one that the request lists",
    ),
    "no rate": (setting("rate_micros", 0), "rate_micros is 0; must be > 0"),
    "reserves too little": (
        adding("reserved_micros", -1),
        "reserved_micros is 1839; it must be amount_micros of price, quantity and rate, 1840",
    ),
    "reserves too much": (adding("reserved_micros", 1), "reserved_micros is 1841; it must be"),
    "forgets the quantity": (
        setting_at(MANY, reserved_micros=1_840),
        "opportunity 6: reserved_micros is 1840; .*, 23000",
    ),
    "no line item": (setting("line_item_id", 0), "line_item_id is 0; must be an id, > 0"),
    "no creative": (setting("creative_id", 0), "creative_id is 0; must be an id, > 0"),
    "no row": (setting("line_item_row", -1), "line_item_row is -1; must be a row"),
    "no creative row": (setting("creative_row", -1), "creative_row is -1; must be a row"),
    "another format": (
        setting("format", Format.NATIVE), "format is 8; must be one bit of the imp's formats",
    ),
    "two formats": (
        setting_at(VIDEO, format=Format.VIDEO | Format.BANNER),
        "opportunity 8: format is 3; must be one bit of the imp's formats",
    ),
    "another size": (
        setting("size", 728 << 16 | 90), "size is 47710298; a banner must have a size of the imp",
    ),
    "an empty size": (setting("size", 0), "size is 0; a banner must have a size of the imp"),
    "a deal that is not there": (
        setting("deal_index", 1), "deal_index is 1; must be the place of one of the imp's deals",
    ),
    "a negative deal": (setting("deal_index", -2), "deal_index is -2; must be the place"),
    "the code of another deal": (
        setting_at(ON_A_DEAL, deal_code=22),
        "opportunity 4: deal_code is 22; it must be that of its deal_index, 11",
    ),
    "a code without a deal": (
        setting("deal_code", 11), "deal_code is 11; it must be that of its deal_index, 0",
    ),
    "an open bid in a private auction": (
        setting_at(PRIVATE, deal_index=-1, deal_code=0),
        "opportunity 3: deal_index is -1; must name a deal where only deals may bid",
    ),
    "a short reservation": (
        adding("deadline_ms", -1), "a reservation must live as long as its billing notice may take",
    ),
    "no probability": (setting("pctr", 1.5), "pctr is 1.5; must be between 0 and 1"),
    "not a number": (setting("pcvr", np.nan), "pcvr is nan; must be between 0 and 1"),
    "never shown": (setting("propensity", 0), "propensity is 0.0; must be > 0"),
    "shaded to nothing": (setting("shading_factor", 0), "shading_factor is 0.0; must be > 0"),
    "shaded upwards": (setting("shading_factor", 2), "shading_factor is 2.0; must be between"),
    "an id twice": (BidsTheSameIdTwice, r"is also that of opportunity \d+; bid ids must be"),
    "no id": (cheat(lambda d, _: d.__setitem__("bid_hi", 0) or d.__setitem__("bid_lo", 0)),
        "the bid id is 0; it must name the bid",
    ),
    "depends on the block": (
        DependsOnTheBlock, r"pctr is 0\.5 in blocks of 1 and 0\.0 in one block",
    ),
    "depends on the run": (NamesBidsByCounting, r"bid_lo is \d+ in blocks of 1 and 1 in one"),
    "bids while paused": (BidsWhilePaused, "opportunity 0: the agent is paused and bids"),
    "bids without money": (BidsWithoutMoney, "opportunity 0: the agent is unfunded and bids"),
    "cannot lose": (CannotTakeALoss, "a loss was never heard of"),
    "cannot age": (CannotTakeTime, "is too late"),
    "answers nobody": (FailsOnAnEmptyBlock, "there must be one for each of 0 opportunities"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHEATS)
def test_an_agent_that_breaks_a_rule_is_found_out_by_that_rule(name):
    agent, message = CHEATS[name]
    with pytest.raises(AssertionError, match=message):
        check_agent(agent, block())


def test_a_bid_in_another_currency_than_the_floor_is_held_to_the_floor_it_states():
    """Between currencies the suite knows no rate, so it believes the agent's own floor."""
    opportunities = block()
    opportunities.records["floor_currency"] = EUR
    check_agent(HonestAgent, opportunities)


def test_an_empty_block_checks_nothing_and_says_so():
    with pytest.raises(AssertionError, match="the block holds no opportunity"):
        check_agent(HonestAgent, no_opportunities(0, 0, 0))
