"""Deals: who may bid on what terms, who wins, what it costs, and how a scenario says so.

The kernels are held against the slow twin in ``test_kernels_auction``, deals included.
"""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from market.auction import Rule
from market.chance import Purpose
from market.errors import BadInput
from simulator.period import auctionnet
from simulator.period.engine import TickRoom, check_deals, check_supply
from simulator.period.scenario import Deal, load, read
from simulator.period.seam import Deals, no_deals
from simulator.scenario import text_of
from tests.reference import chance
from tests.simulator.period.test_kernels_auction import SLOT_WEIGHTS, Tick, random_tick, sold

FIXED, SECOND, FIRST, AS_AUCTION = 3, 2, 1, 0


def deal_of(floor, at, seats, *, is_private=False, agents=3):
    may_use = np.zeros((1, agents), np.uint8)
    may_use[0, seats] = 1
    return Deals(
        np.array([floor]), np.array([at], np.uint8), np.array([is_private], np.uint8), may_use
    )


def sales(bids, deals, *, slots=1, floor=2, soft=0, rule=Rule.GSP):
    """[(agent, price)] by slot of one opportunity that carries the deal, all slots shown."""
    supply = random_tick(len(bids), 1, budget=1, rule=rule).supply._replace(
        value=np.array(bids, np.float32)[:, None], floor_micros=np.array([floor], np.float32),
        soft_floor_micros=np.array([soft], np.float32), exposure_draw=np.zeros(1, np.float32),
        slot_count=np.array([slots], np.uint8), deal=np.ones(1, np.uint8), deals=deals,
    )  # fmt: skip
    tick = Tick(np.ones(len(bids), np.float32), supply, SLOT_WEIGHTS, np.full(len(bids), 99), 1)
    return [(agent, price) for _, _, agent, price in sold(tick).exposures]


def test_a_preferred_deal_has_the_first_look_at_the_agreed_price():
    deals = deal_of(4, FIXED, [1, 2])
    assert sales([9.0, 5.0, 6.0], deals) == [(2, 4)]
    assert sales([9.0, 5.0, 6.0], deals, slots=3) == [(2, 4), (1, 4), (0, 2)]


def test_nobody_pays_an_agreed_price_above_its_bid():
    assert sales([9.0, 3.0, 3.0], deal_of(4, FIXED, [1, 2])) == [(0, 3)]


def test_whoever_does_not_reach_the_deal_s_floor_bids_in_the_open_auction():
    assert sales([1.0, 5.0, 3.0], deal_of(6, FIRST, [1]), rule=Rule.SECOND_PRICE) == [(1, 3)]
    assert sales([1.0, 5.0, 3.0], deal_of(6, FIRST, [1], is_private=True)) == []


def test_a_private_auction_takes_bids_on_the_deal_only():
    deals = deal_of(4, SECOND, [1, 2], is_private=True)
    assert sales([90.0, 8.0, 6.0], deals, slots=3) == [(1, 6), (2, 4)]


@pytest.mark.parametrize(
    ("at", "price"), [(FIRST, 8), (SECOND, 7), (AS_AUCTION, 7), (FIXED, 4)]
)  # fmt: skip
def test_a_winner_on_the_deal_pays_by_its_auction_type(at, price):
    assert sales([7.0, 8.0, 3.0], deal_of(4, at, [1])) == [(1, price)]


def test_a_deal_s_floor_replaces_both_floors_of_the_opportunity():
    """Lower than the open floor, it lets in who could not bid; no soft floor lifts its price."""
    deals = deal_of(3, SECOND, [1])
    assert sales([1.0, 5.0, 1.0], deals, floor=9, soft=20) == [(1, 3)]
    assert sales([12.0, 5.0, 1.0], deals, floor=9, soft=20, slots=2) == [(0, 12), (1, 3)]


def test_open_winners_pay_by_the_rule_and_a_deal_bid_can_set_their_price():
    assert sales([9.0, 5.0, 1.0], deal_of(4, FIRST, [1]), slots=2) == [(0, 5), (1, 5)]


def dealt_tick(agents, n, *, budget, rule=Rule.GSP):
    rng = np.random.default_rng(8)
    tick = random_tick(agents, n, budget=budget, rule=rule)
    deals = Deals(
        np.array([30_000, 70_000, 45_000, 1]), np.array([3, 2, 1, 0], np.uint8),
        np.array([0, 1, 0, 0], np.uint8), (rng.random((4, agents)) < 0.4).astype(np.uint8),
    )  # fmt: skip
    carried = np.where(rng.random(n) < 0.3, rng.integers(1, 5, n), 0).astype(np.uint8)
    supply = tick.supply._replace(deal=carried, deals=deals)
    check_supply(supply, 3)
    return tick._replace(supply=supply)


@pytest.mark.parametrize("rule", [Rule.FIRST_PRICE, Rule.GSP, Rule.VCG])
def test_money_is_exact_and_the_length_of_a_block_changes_nothing(rule):
    tick = dealt_tick(48, 2_000, budget=2_000_000, rule=rule)
    expected = sold(tick, block=1)
    assert sum(not account["live"] for account in expected.accounts) > 24
    charged = [price for _, _, _, price in expected.exposures]
    assert sum(charged) == sum(expected.revenue) == sum(a["spend"] for a in expected.accounts)
    on_deals = [account["deals"].values() for account in expected.accounts]
    paid = sum(spend for deals in on_deals for _, spend in deals)
    assert 0.02 * sum(charged) < paid < sum(charged)
    for account in expected.accounts:
        assert account["spend"] <= account["budget"]
    for block in (7, 512, 2048):
        assert sold(tick, block=block) == expected
    assert sold(tick, is_wide=True) == expected


def test_opportunities_without_a_deal_are_sold_as_if_there_were_none():
    tick = dealt_tick(48, 500, budget=10**12)
    bare = sold(tick._replace(supply=tick.supply._replace(deal=np.zeros(500, np.uint8))))
    assert bare == sold(tick._replace(supply=tick.supply._replace(deals=no_deals(48))))
    carried = tick.supply.deal > 0
    ours = [sale for sale in sold(tick).exposures if not carried[sale[0]]]
    assert ours == [sale for sale in bare.exposures if not carried[sale[0]]]


DEALS = """
[[deals]]
id = "first-look"
share = 0.2
floor_micros = 40_000
at = 3
wseat = [3, 4]

[[deals]]
id = "club"
share = 0.1
floor_micros = 60_000
private_auction = true
"""


def test_a_scenario_s_deals_are_carried_by_their_shares_and_sold():
    text, name = text_of("auctionnet")
    text = text.replace("500_000", "40_000").replace("ticks = 48", "ticks = 12", 1)
    scenario = read(text + DEALS, name)
    agents = auctionnet.agents_of(scenario, 1)
    world = auctionnet.AuctionNetWorld(scenario, agents, 1, 3)
    counts = world.opportunity_counts
    room = TickRoom(48, int(counts.max()), 3, world.deals)
    drawn = []
    first = 0
    for tick, count in enumerate(counts.tolist()):
        supply = room.supply(count)
        world.fill(tick, first, supply)
        check_supply(supply, 3)
        drawn.append(supply.deal.copy())
        first += count
    carried = np.concatenate(drawn)
    assert np.bincount(carried, minlength=3) / first == pytest.approx([0.7, 0.2, 0.1], abs=0.01)
    stream = chance.stream(1, Purpose.DEAL)
    for number in range(50):
        u = chance.uniform(chance.at_opportunity(stream, 3, number), 0)
        assert carried[number] == (1 if u < 0.2 else 2 if u < 0.3 else 0)
    one, two = auctionnet.run(scenario, 1, [3, 4]), auctionnet.run(scenario, 1, [3, 4], threads=2)
    for result, other in zip(one, two, strict=True):
        assert np.array_equal(result.accounts.spend_micros, other.accounts.spend_micros)
        books = result.deal_accounts
        assert (books.spend_micros[0] == 40_000 * books.exposures[0]).all()
        assert np.flatnonzero(books.exposures[0]).tolist() == [3, 4]
        assert (books.exposures[1] > 0).sum() > 24
        assert (books.spend_micros.sum(axis=0) <= result.accounts.spend_micros).all()
        assert result.accounts.spend_micros.sum() == result.revenue_micros.sum()


@pytest.mark.parametrize(
    ("old", "new", "pointer", "words"),
    [
        ("share = 0.2", "share = 0.95", "/deals", "one deal at most"),
        ('id = "club"', 'id = "first-look"', "/deals", "distinct ids"),
        ("at = 3", "at = 4", "/deals/0/at", "is 4"),
        ("[3, 4]", "[3, 48]", "/deals/0/wseat", "below 48"),
        ("[3, 4]", "[3, 3]", "/deals/0/wseat", "distinct agents"),
        ("private_auction", "private", "/deals/1/private", "unknown field"),
        ("floor_micros = 60_000", "floor_micros = 0", "/deals/1/floor_micros", "is 0"),
    ],
)
def test_a_wrong_deal_is_named_with_what_it_must_be(old, new, pointer, words):
    text, name = text_of("auctionnet")
    assert DEALS.count(old) == 1
    with pytest.raises(BadInput, match="scenario 'auctionnet'") as caught:
        read(text + DEALS.replace(old, new), name)
    assert caught.value.pointer == pointer
    assert words in str(caught.value)


def test_an_environment_s_scenario_takes_no_deals():
    deal = Deal(id="x", share=0.1, floor_micros=5)
    with pytest.raises(BadInput, match="environments know no deals"):
        msgspec.structs.replace(load("campaign"), deals=(deal,))


def test_the_engine_refuses_deals_that_break_a_rule():
    good = deal_of(4, FIXED, [0])
    check_deals(good, 3)
    with pytest.raises(BadInput, match=r"deals.floor_micros\[0\]: is 0"):
        check_deals(good._replace(floor_micros=np.array([0])), 3)
    with pytest.raises(BadInput, match=r"deals.auction_type\[0\]: is 4"):
        check_deals(good._replace(auction_type=np.array([4], np.uint8)), 3)
    with pytest.raises(BadInput, match=r"deals\.may_use: shape"):
        check_deals(good, 4)


def test_nothing_is_booked_on_deals_by_whoever_is_broke():
    """Out of money at the agreed price: the slot goes to the next, at its own price."""
    deals = deal_of(4, FIXED, [1], agents=2)
    tick = Tick(
        np.ones(2, np.float32),
        random_tick(2, 1, budget=1).supply._replace(
            value=np.array([[3.0], [9.0]], np.float32), floor_micros=np.full(1, 2, np.float32),
            slot_count=np.ones(1, np.uint8), exposure_draw=np.zeros(1, np.float32),
            deal=np.ones(1, np.uint8), deals=deals,
        ),
        SLOT_WEIGHTS, np.array([50, 3]), 1,
    )  # fmt: skip
    found = sold(tick)
    assert [(a, p) for _, _, a, p in found.exposures] == [(0, 2)]
    assert [account["deals"] for account in found.accounts] == [{}, {}]
