"""The auction kernels against the rules, one opportunity at a time; money, budgets, blocks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.auction import Rule
from simulator.period.engine import TickRoom, clear_tick
from simulator.period.kernels_auction import BID_MICROS_MAX
from simulator.period.seam import (
    STATUS_LIVE,
    STATUS_OUT,
    Deals,
    Supply,
    new_accounts,
    no_deals,
)
from tests.reference import period as reference

SLOT_WEIGHTS = np.array([1_000_000, 800_000, 480_000])
LEVELS = st.integers(0, 6).map(float) | st.floats(0, 40, width=32) | st.just(0.0)
"""Few whole values, so that ties and bids at the floor are common, and others."""


class Tick(NamedTuple):
    """One case: who bids what on what, with which money."""

    weight: np.ndarray
    supply: Supply
    slot_weights: np.ndarray
    budget: np.ndarray
    min_remaining: int


class Sold(NamedTuple):
    """What the engine made of it, as plain lists."""

    exposures: list
    feedback: list
    revenue: list
    accounts: list


def supply_of(value, *, floor=1, soft=0, draw=None, slots=3, rule=Rule.GSP):
    value = np.ascontiguousarray(value, np.float32)
    n = value.shape[1]
    return Supply(
        value,
        np.full(n, floor, np.float32),
        np.full(n, soft, np.float32),
        np.zeros(n, np.float32) if draw is None else np.asarray(draw, np.float32),
        np.full(n, slots, np.uint8),
        np.full(n, rule, np.uint8),
        np.zeros(n, np.uint8),
        no_deals(value.shape[0]),
    )


def sold(tick, *, block=512, is_wide=None):
    accounts = new_accounts(tick.budget)
    slots = tick.slot_weights.shape[0]
    revenue = np.zeros(slots, np.int64)
    supply = tick.supply
    room = TickRoom(tick.budget.shape[0], supply.value.shape[1], slots, supply.deals)
    exposures, feedback = clear_tick(
        accounts, tick.weight, tick.supply, tick.slot_weights, revenue, room,
        min_remaining_micros=tick.min_remaining, block=block, is_wide=is_wide,
    )  # fmt: skip
    return Sold(
        list(zip(*(array.tolist() for array in exposures), strict=True)),
        list(zip(*(array.tolist() for array in feedback), strict=True)),
        revenue.tolist(),
        [
            {
                "live": status == STATUS_LIVE, "budget": budget, "spend": spend, "wins": wins,
                "exposures": shown, "value_sum": value,
                "deals": {
                    d: (int(room.deal_accounts.exposures[d, a]), paid)
                    for d, paid in enumerate(room.deal_accounts.spend_micros[:, a].tolist())
                    if paid
                },
            }
            for a, (status, budget, spend, wins, shown, value) in enumerate(zip(
                accounts.status.tolist(), accounts.budget_micros.tolist(),
                accounts.spend_micros.tolist(), accounts.wins.tolist(),
                accounts.exposures.tolist(), accounts.value_sum.tolist(), strict=True,
            ))
        ],
    )  # fmt: skip


def slowly_sold(tick):
    accounts = [
        {"live": budget >= tick.min_remaining, "budget": budget, "spend": 0, "wins": 0,
         "exposures": 0, "value_sum": 0.0, "deals": {}}
        for budget in tick.budget.tolist()
    ]  # fmt: skip
    supply = tick.supply
    deals = [
        {"name": d, "floor": int(floor), "at": int(at), "is_private": bool(is_private),
         "seats": set(np.flatnonzero(seats).tolist())}
        for d, (floor, at, is_private, seats) in enumerate(zip(*supply.deals, strict=True))
    ]  # fmt: skip
    offers = [
        {
            "value": supply.value[:, n].tolist(),
            "floor": int(supply.floor_micros[n]),
            "soft_floor": int(supply.soft_floor_micros[n]),
            "draw": float(supply.exposure_draw[n]),
            "slots": int(supply.slot_count[n]),
            "rule": int(supply.rule[n]),
            "deal": deals[supply.deal[n] - 1] if supply.deal[n] else None,
        }
        for n in range(supply.value.shape[1])
    ]
    return Sold(
        *reference.clear_tick(
            tick.weight.tolist(), offers, tick.slot_weights.tolist(), accounts, tick.min_remaining
        ),
        accounts,
    )


@st.composite
def ticks(draw):
    agents, n = draw(st.integers(1, 4)), draw(st.integers(0, 5))

    def row(element, kind):
        return np.array(draw(st.lists(element, min_size=n, max_size=n)), kind)

    values = [row(LEVELS, np.float32) for _ in range(agents)]
    count = draw(st.integers(0, 3))

    def column(element, kind):
        return np.array(draw(st.lists(element, min_size=count, max_size=count)), kind)

    deals = Deals(
        column(st.integers(1, 8), np.int64),
        column(st.integers(0, 3), np.uint8),
        column(st.integers(0, 1), np.uint8),
        np.array([column(st.integers(0, 1), np.uint8) for _ in range(agents)]).T.copy(),
    )
    supply = Supply(
        np.array(values, np.float32).reshape(agents, n),
        row(st.integers(1, 6), np.float32),
        row(st.integers(0, 9), np.float32),
        row(st.integers(0, 2**24 - 1).map(lambda k: k / 2**24), np.float32),
        row(st.integers(0, 3), np.uint8),
        row(st.sampled_from([int(rule) for rule in Rule]), np.uint8),
        row(st.integers(0, count), np.uint8),
        deals,
    )
    weights = st.sampled_from([0.0, 0.5, 1.0, 1.0, 3.7])
    budgets = st.integers(1, 30) | st.just(10**9)
    return Tick(
        np.array(draw(st.lists(weights, min_size=agents, max_size=agents)), np.float32),
        supply,
        SLOT_WEIGHTS,
        np.array(draw(st.lists(budgets, min_size=agents, max_size=agents)), np.int64),
        draw(st.integers(1, 4)),
    )


@pytest.mark.plain
@given(ticks(), st.integers(1, 4), st.booleans())
def test_a_tick_sells_what_the_rules_say(tick, block, is_wide):
    assert sold(tick, block=block, is_wide=is_wide) == slowly_sold(tick)


def random_tick(agents, n, *, budget, seed=1, rule=Rule.GSP, soft=0, slot_weights=SLOT_WEIGHTS):
    rng = np.random.default_rng(seed)
    value = np.maximum(rng.normal(5e-4, 2.5e-4, (agents, n)), 0)
    supply = supply_of(
        value, floor=100, soft=soft, draw=rng.random(n), slots=slot_weights.shape[0], rule=rule
    )
    weight = rng.uniform(60e6, 130e6, agents).astype(np.float32)
    return Tick(weight, supply, slot_weights, np.full(agents, budget), 1)


@pytest.mark.parametrize("rule", list(Rule))
@pytest.mark.parametrize("agents", [7, 48, 64])
def test_the_length_of_a_block_changes_nothing(rule, agents):
    """Also not by a micro: everybody runs dry, each in the middle of some block."""
    weights = SLOT_WEIGHTS[:1] if rule is Rule.SECOND_PRICE else SLOT_WEIGHTS
    tick = random_tick(agents, 3_000, budget=2_000_000, rule=rule, slot_weights=weights)
    expected = sold(tick, block=1)
    assert sum(not account["live"] for account in expected.accounts) > agents // 2
    for block in (7, 256, 512, 1024, 2048):
        assert sold(tick, block=block) == expected
    assert sold(tick, is_wide=True) == expected


@pytest.mark.parametrize("budget", [10**9, 400_000])
def test_all_rules_and_floors_in_one_block_with_money_enough_and_without(budget):
    """A block that nobody's budget ends is sold by other code than one that somebody's does."""
    rng = np.random.default_rng(4)
    tick = random_tick(12, 300, budget=budget)
    mixed = tick.supply._replace(
        floor_micros=rng.integers(1, 60_000, 300).astype(np.float32),
        soft_floor_micros=np.where(rng.random(300) < 0.5, 0, rng.integers(1, 90_000, 300)).astype(
            np.float32
        ),
        slot_count=rng.integers(0, 4, 300).astype(np.uint8),
        rule=rng.choice([int(rule) for rule in Rule], 300).astype(np.uint8),
    )
    expected = slowly_sold(tick._replace(supply=mixed))
    assert all(account["live"] for account in expected.accounts) == (budget == 10**9)
    for block in (1, 64, 512):
        assert sold(tick._replace(supply=mixed), block=block) == expected
    assert sold(tick._replace(supply=mixed), is_wide=True) == expected


def test_a_market_of_many_agents_is_the_small_one_when_the_others_stay_away():
    """200 agents are ranked by other code than 48; whose bids are alike must meet the same fate."""
    small = random_tick(48, 2_000, budget=3_000_000)
    value = np.zeros((200, 2_000), np.float32)
    places = np.sort(np.random.default_rng(3).choice(200, 48, replace=False))
    value[places] = small.supply.value
    weight, budget = np.ones(200, np.float32), np.full(200, 3_000_000)
    weight[places] = small.weight
    supply = small.supply._replace(value=value, deals=no_deals(200))
    large = sold(small._replace(weight=weight, supply=supply, budget=budget))
    expected = sold(small)
    assert [(n, k, places.tolist().index(a), p) for n, k, a, p in large.exposures] == (
        expected.exposures
    )
    assert [large.accounts[place] for place in places] == expected.accounts
    assert large.feedback == expected.feedback


def test_two_hundred_agents_against_the_rules():
    tick = random_tick(200, 60, budget=150_000, soft=70_000)
    assert sold(tick) == slowly_sold(tick)
    assert any(not account["live"] for account in sold(tick).accounts)


@pytest.mark.parametrize("rule", list(Rule))
def test_money_is_conserved_to_the_micro(rule):
    weights = SLOT_WEIGHTS[:1] if rule is Rule.SECOND_PRICE else SLOT_WEIGHTS
    tick = random_tick(48, 4_000, budget=2_345_678, rule=rule, slot_weights=weights)
    found = sold(tick)
    charged = [price for _, _, _, price in found.exposures]
    assert sum(charged) == sum(found.revenue) == sum(a["spend"] for a in found.accounts) > 0
    for account in found.accounts:
        assert account["spend"] <= account["budget"]


def test_whoever_is_out_could_not_pay_a_price():
    """Nobody leaves with more than the highest price of the tick, and nobody stays broke."""
    tick = random_tick(48, 20_000, budget=2_000_000)
    found = sold(tick)
    top = max(price for _, _, _, price in found.exposures)
    out = [account for account in found.accounts if not account["live"]]
    assert len(out) > 20
    assert all(account["budget"] - account["spend"] < top for account in out)


def test_a_lone_bidder_wins_at_the_floor():
    """AuctionNet throws the last bidder away (winners whose price is the reserve)."""
    for rule in (Rule.SECOND_PRICE, Rule.GSP, Rule.VCG):
        tick = Tick(np.ones(1, np.float32), supply_of([[5.0]], floor=2, rule=rule), SLOT_WEIGHTS,
                    np.array([100]), 1)  # fmt: skip
        assert sold(tick).exposures == [(0, 0, 0, 2)]


@pytest.mark.parametrize("bidders", range(6))
def test_as_many_slots_are_sold_as_there_are_bidders_above_the_floor(bidders):
    value = np.array([[3.0]] * bidders + [[1.0]] * (6 - bidders))
    tick = Tick(np.ones(6, np.float32), supply_of(value, floor=2), SLOT_WEIGHTS, np.full(6, 50), 1)
    assert sum(account["wins"] for account in sold(tick).accounts) == min(3, bidders)


@pytest.mark.parametrize(
    ("bid", "price"), [(1.0, None), (2.0, 2), (5.0, 5), (7.0, 6), (9.0, 6)]
)  # fmt: skip
def test_between_the_floors_a_winner_pays_its_bid_and_above_at_least_the_soft_floor(bid, price):
    tick = Tick(np.ones(1, np.float32), supply_of([[bid]], floor=2, soft=6), SLOT_WEIGHTS,
                np.array([100]), 1)  # fmt: skip
    assert [charged for *_, charged in sold(tick).exposures] == ([] if price is None else [price])


def test_the_exposure_draw_shows_slots_from_the_best_down():
    value = np.array([[9.0] * 3, [8.0] * 3, [7.0] * 3])
    supply = supply_of(value, draw=[0.479, 0.481, 0.8])
    found = sold(Tick(np.ones(3, np.float32), supply, SLOT_WEIGHTS, np.full(3, 99), 1))
    assert [(n, k) for n, k, *_ in found.exposures] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1),
                                                        (2, 0)]  # fmt: skip
    assert [account["wins"] for account in found.accounts] == [3, 3, 3]


def test_an_agent_with_less_than_the_minimum_does_not_bid():
    tick = Tick(np.ones(2, np.float32), supply_of([[5.0], [4.0]]), SLOT_WEIGHTS,
                np.array([9, 10]), 10)  # fmt: skip
    assert sold(tick).exposures == [(0, 0, 1, 1)]


def test_absurd_bids_are_the_highest_believed_one():
    tick = Tick(np.full(2, 1e12, np.float32), supply_of([[1e6], [1e6]]), SLOT_WEIGHTS,
                np.array([10**15, 10**15]), 1)  # fmt: skip
    assert sold(tick).exposures == [(0, 0, 0, BID_MICROS_MAX), (0, 1, 1, 1)]


def test_whoever_is_out_stays_out_of_later_ticks_unless_its_status_is_set():
    supply = supply_of([[5.0], [4.0]])
    accounts = new_accounts(np.array([3, 99]))
    room, revenue = TickRoom(2, 1, 3), np.zeros(3, np.int64)
    weight = np.ones(2, np.float32)
    clear_tick(accounts, weight, supply, SLOT_WEIGHTS, revenue, room)
    assert accounts.status.tolist() == [STATUS_OUT, STATUS_LIVE]
    accounts.budget_micros[0] = 99
    exposures, _ = clear_tick(accounts, weight, supply, SLOT_WEIGHTS, revenue, room)
    assert exposures.agent.tolist() == [1]
    accounts.status[0] = STATUS_LIVE
    exposures, _ = clear_tick(accounts, weight, supply, SLOT_WEIGHTS, revenue, room)
    assert exposures.agent.tolist() == [0, 1]
