"""Outcomes keep to probabilities, the ground truth adds up, accounts say what is reported."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from market.errors import BadInput
from simulator.period.engine import check_supply, run_period
from simulator.period.seam import new_accounts, new_supply
from simulator.world.building import agents_of, build_tables, lag_ticks_of
from simulator.world.mechanisms import Mechanism
from simulator.world.orders import value_micros
from simulator.world.scenario import Category, Department, SupplyDrop
from simulator.world.world import PeriodWorld, run
from tests.simulator.world.worlds import changed, dealt, live, market_day, small


@pytest.fixture(scope="module")
def day():
    return live(small("town"), seed=3)


@pytest.fixture(scope="module")
def day_without_ads():
    return live(small("town"), seed=3, has_ads=False, keep=False)


def test_a_supply_keeps_the_rules_of_the_seam(day):
    for supply in day.supplies:
        check_supply(supply, 3)


def test_orders_are_as_frequent_as_their_probability_says(day):
    expected, orders = day.accounts.expected_conversions, day.world.funnel.orders
    assert orders.sum() > 1000
    # A Bernoulli of probability p varies by less than p.
    assert abs(orders.sum() - expected.sum()) < 4 * np.sqrt(expected.sum())
    assert (np.abs(orders - expected) < 5 * np.sqrt(expected)).all()
    ads = day.world.orders[day.world.orders["is_ad"] == 1]
    assert np.bincount(ads["agent"], minlength=16).tolist() == orders.tolist()


def test_what_is_believed_without_error_is_the_probability():
    day = live(small("town", "misjudgement", "competitor_surge", "geo"), seed=3)
    assert np.allclose(day.believed, day.accounts.expected_conversions, rtol=1e-5)


def test_every_step_of_the_funnel_is_within_the_one_before(day):
    steps = list(day.world.funnel)
    assert (day.accounts.expected_conversions > 0).all()
    for earlier, later in pairwise(steps):
        assert (later <= earlier).all()
        assert later.sum() > 0


def test_total_is_alone_plus_incremental_to_the_last_order_and_micro(day):
    truth = day.world.incrementality
    orders = day.world.orders
    is_real = orders["is_real"] == 1
    assert truth.orders.total.sum() == is_real.sum()
    assert truth.value_micros.total.sum() == value_micros(orders)[is_real].sum()
    for split in truth:
        assert (split.total == split.alone + split.incremental).all()
        assert (split.organic == split.alone + split.made - split.taken).all()
    for field in ("ad", "organic", "alone", "made", "taken"):
        assert getattr(truth.orders, field).sum() > 0, field


def test_without_ads_people_buy_what_the_world_with_ads_says_they_had_bought(day, day_without_ads):
    orders, baseline = day.world.orders, day_without_ads.world.orders
    alone = orders[orders["is_alone"] == 1]
    assert np.array_equal(baseline["is_real"], baseline["is_alone"])
    assert baseline.shape == alone.shape
    for name in ("tick", "column", "user", "agent", "due_tick", *MONEY):
        assert np.array_equal(alone[name], baseline[name]), name
    truth = day_without_ads.world.incrementality
    assert truth.orders.incremental.sum() == 0
    assert np.array_equal(truth.value_micros.alone, day.world.incrementality.value_micros.alone)


MONEY = ("first_micros", "repeat_count", "repeat_micros", "in_app_micros", "refund_micros")


def test_accounts_say_what_is_reported_and_when():
    tables = small("town")
    world = PeriodWorld(tables, 8, 1)
    accounts = new_accounts(np.ones(16, np.int64))
    told = []
    for tick, count in enumerate(world.opportunity_counts.tolist()):
        supply = new_supply(16, count)
        world.fill(tick, 0, supply)
        world.settle(tick, 0, supply, dealt(count, 16, True), accounts)
        told.append(accounts.conversions.copy())
    orders = world.orders
    known = orders[orders["is_reported"] == 1]
    for tick, conversions in enumerate(told):
        due = known[known["due_tick"] <= tick]
        assert conversions.tolist() == np.bincount(due["agent"], minlength=16).tolist()
    assert (known["due_tick"] > 23).any()
    world.finish(accounts)
    assert accounts.conversions.sum() == known.shape[0]
    want = np.zeros(16, np.int64)
    np.add.at(want, known["agent"], value_micros(known))
    assert accounts.return_micros.tolist() == want.tolist()
    # Reports err both ways.
    assert (known["is_ad"] == 0).any()
    assert ((orders["is_reported"] == 0) & (orders["is_ad"] == 1)).any()
    assert not ((orders["is_reported"] == 1) & (orders["is_real"] == 0)).any()


def test_an_order_brings_on_average_what_its_product_says(day):
    tables = small("town")
    orders = np.concatenate([live(tables, seed=seed, keep=False).world.orders for seed in (3, 4)])
    gross = value_micros(orders) + orders["refund_micros"]
    ratio = gross / tables.agents.value_micros[orders["agent"]]
    is_app = tables.agents.is_app[orders["agent"]] == 1
    for part in (ratio[is_app], ratio[~is_app]):
        error = part.std() / np.sqrt(part.shape[0])
        assert error < 0.2
        assert abs(part.mean() - 1) < 4 * error
    goods = orders[~is_app]
    returned = (goods["refund_micros"] > 0).mean()
    assert abs(returned - 0.1) < 4 * np.sqrt(0.09 / goods.shape[0])


def test_needs_are_as_common_at_the_start_as_at_the_end():
    tables = small("town")
    world = PeriodWorld(tables, 3, 0)
    start = world.state.need.mean()
    end = live(tables, seed=3, keep=False).world.state.need.mean()
    # 3,000 users and some 0.35 needs each: what is felt varies by about 2 %.
    assert end == pytest.approx(start, rel=0.1)


def test_needs_that_are_rarer_than_ticks_arise_all_the_same():
    scenario = changed(small("tiny").scenario, users__needs_per_day=0.05, tick_count=96)
    tables = build_tables(scenario)
    assert tables.effects.need_count < 0.1
    # Each need fades to half in 6 hours: of 2.4 a day, 0.87 are felt at any time on average.
    felt = [PeriodWorld(tables, 3, period).state.need.sum() for period in range(3)]
    assert np.mean(felt) == pytest.approx(0.87, abs=0.3)


def test_tastes_turn_and_stay_as_diverse():
    users = small("town").users
    for tick in (0, 12, 24):
        angle = users.turn[:, None] * tick
        taste = np.cos(angle) * users.taste + np.sin(angle) * users.other
        assert taste.std() == pytest.approx(1.0, abs=0.02)


def test_periods_and_seeds_differ_and_repeat():
    tables = small("town")
    first = live(tables, seed=3, period=0, keep=False).world.orders
    again = live(tables, seed=3, period=0, keep=False).world.orders
    assert np.array_equal(first, again)
    for other in (
        live(tables, seed=4, period=0, keep=False).world.orders,
        live(tables, seed=3, period=1, keep=False).world.orders,
    ):
        shared = {(o["tick"], o["column"], o["agent"]) for o in first} & {
            (o["tick"], o["column"], o["agent"]) for o in other
        }
        assert len(shared) < 0.1 * first.shape[0]


def test_one_and_several_threads_give_the_same_periods():
    tables = small("town")
    one, several = (run(tables, 6, range(3), threads=n) for n in (1, 3))
    for (result, world), (other, other_world) in zip(one, several, strict=True):
        assert np.array_equal(world.orders, other_world.orders)
        for mine, theirs in zip(result.accounts, other.accounts, strict=True):
            assert np.array_equal(mine, theirs)
        assert result.accounts.exposures.sum() > 0


def test_laws_wait_for_orders_that_are_under_way():
    tables = small("tiny")
    # Four hours in ticks of four.
    assert lag_ticks_of(tables) == 1
    assert lag_ticks_of(small("tiny", "delay")) == 0
    (found, _), *_ = run(tables, 6, [0])
    alone = run_period(PeriodWorld(tables, 6, 0), agents_of(tables), lag_ticks=1)
    assert np.array_equal(found.trace.weight, alone.trace.weight)
    hasty = run_period(PeriodWorld(tables, 6, 0), agents_of(tables))
    assert not np.array_equal(found.trace.weight, hasty.trace.weight)


def test_agents_bid_only_while_they_are_there():
    tables = small("town")
    agents = agents_of(tables)
    result = run_period(PeriodWorld(tables, 6, 0), agents)
    wins = np.diff(result.trace.wins, axis=0, prepend=0)
    ticks = np.arange(24)[:, None]
    is_here = (agents.enter_tick <= ticks) & (ticks < agents.leave_tick)
    assert (~is_here).any()
    assert wins[~is_here].sum() == 0
    assert (wins.sum(axis=0) > 0).sum() > 8


def test_an_agent_that_bids_on_returns_believes_in_units_of_currency():
    tables = build_tables(changed(small("town").scenario, agents__value="return"))
    plain = small("town")
    value, worth = live(tables), live(plain)
    ratio = value.values[0].sum(axis=1) / worth.values[0].sum(axis=1)
    assert np.allclose(ratio, plain.agents.value_micros / 1e6, rtol=1e-4)
    agents = agents_of(tables)
    # Whoever pays unit_micros per unit of return spends target_share of the profit on it.
    assert np.allclose(agents.unit_micros, 0.8 * plain.agents.margin * 1e6)


def test_an_app_without_revenue_is_worth_nothing_to_who_bids_on_returns():
    scenario = changed(small("town").scenario, agents__value="return")
    tables = build_tables(scenario.without(Mechanism.LIFETIME))
    is_app = tables.agents.is_app == 1
    (result, _), *_ = run(tables, 1, [0])
    assert is_app.any()
    assert result.accounts.wins[is_app].sum() == 0
    assert result.accounts.wins[~is_app].sum() > 0


def test_a_world_in_which_an_exposure_is_worth_too_much_is_refused():
    yachts = Department(name="leisure", categories=(Category(name="yachts", price_micros=10**13),))
    scenario = changed(small("tiny").scenario, agents__value="return", departments=(yachts,))
    with pytest.raises(BadInput, match="must be at most 1e\\+06") as caught:
        build_tables(scenario)
    assert caught.value.pointer == "/departments"


def test_a_tick_without_traffic_passes():
    shock = SupplyDrop(from_h=4.0, to_h=9.0, channel="", traffic_factor=0.0)
    tables = build_tables(changed(small("town").scenario, shocks=(shock,)))
    counts = PeriodWorld(tables, 1, 0).opportunity_counts
    assert (counts == 0).sum() == 5
    (result, world), *_ = run(tables, 1, [0])
    assert result.opportunities == counts.sum()
    visits = world.orders[(world.orders["tick"] == 5) & (world.orders["is_ad"] == 0)]
    assert visits.shape[0] > 0


def test_a_world_of_more_agents_than_one_word_of_ids_runs():
    tables = build_tables(
        changed(
            market_day(),
            opportunity_count=6_000,
            tick_count=3,
            users__count=500,
            agents__count=80,
        )
    )
    (result, world), *_ = run(tables, 1, [0])
    assert world.agent_count == 80
    assert (result.accounts.exposures > 0).sum() > 40
