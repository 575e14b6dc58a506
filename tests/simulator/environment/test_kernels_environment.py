"""The environments' kernels: against the slow twin, and against the period engine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.chance import Purpose
from market.kernels_control import EXTERNAL
from simulator.environment import kernels_environment as kernels
from simulator.environment.markets import LOG_ALPHA_MAX, Markets, observation_bounds
from simulator.period import auctionnet
from simulator.period.engine import run_period
from simulator.period.scenario import read
from simulator.scenario import text_of
from tests.reference import chance
from tests.reference import environment as reference
from tests.reference import period as period_reference

TINY = """
ticks = 2
traffic = { opportunity_count = 12, shares = [1.0], jitter = [1.0, 1.0] }
[values]
mean = 0.3
category_factor = [0.5, 1.5]
advertiser_factor = [0.5, 1.5]
factor_ticks = 1
spread_mean = 0.5
spread_sd = 0.1
spread_jitter = 0.2
[auction]
rule = "RULE"
slot_weights = SLOTS
floor_micros = 900_000
soft_floor_micros = SOFT
min_remaining_micros = 1_000_000
[advertisers]
categories = 1
cost_limits = [8.0, 12.0]
budgets = [30.0, 20.0]
laws = [{ law = "constant" }]
[price_process]
level = 3.0
spread = 0.5
step = 0.5
level_spread = 0.3
level_memory = 0.8
[campaign]
budget_factor = [0.1, 1.0]
"""
SCORES = st.floats(0, 1e3)


def tiny(rule, *, soft=0):
    slots = "[1.0]" if rule == "second_price" else "[1.0, 0.8, 0.48]"
    text = TINY.replace("RULE", rule).replace("SLOTS", slots).replace("SOFT", str(soft))
    return read(text, "tiny")


@pytest.mark.plain
@pytest.mark.parametrize(
    ("rule", "soft"),
    [("first_price", 0), ("second_price", 2_000_000), ("gsp", 2_000_000), ("gsp", 0), ("vcg", 0)],
)
def test_a_campaign_among_prices_meets_what_the_slow_twin_says(rule, soft):
    """Every tick of some episodes; the level of prices and the values are the kernel's own."""
    markets = Markets(tiny(rule, soft=soft), 4)
    markets.reset([5, 6, 7, 8])
    c, market, outs = markets.campaigns, markets.market, 0
    for tick in range(2):
        level = market.price_level_micros * np.exp(c.log_level)
        campaigns = [
            {
                "live": bool(c.status[e, 0] == 1), "budget": int(c.budget_micros[e, 0]),
                "spend": int(c.spend_micros[e, 0]), "wins": int(c.wins[e, 0]),
                "expected": float(c.expected_conversions[e, 0]),
                "conversions": int(c.conversions[e, 0]), "floor": market.floor_micros,
                "soft_floor": soft, "min_remaining": market.min_remaining_micros,
            }
            for e in range(4)
        ]  # fmt: skip
        actions = np.array([-0.2, 0.0, 0.1, 0.5], np.float32)
        markets.step(actions)
        for e, campaign in enumerate(campaigns):
            campaign["weight"] = float(c.weight[e, 0])
            alpha = np.exp(np.float64(np.float32(LOG_ALPHA_MAX) * actions[e]))
            assert campaign["weight"] == pytest.approx(alpha * c.unit_micros[e, 0])
            offers = []
            for number in range(6 * tick, 6 * tick + 6):
                seed = int(c.seed[e])
                value = np.empty((1, 1), np.float32)
                kernels.fill_values(seed, 0, number, c.mean[e, tick], c.deviation[e, tick],
                                    np.empty(1, np.uint64), value)  # fmt: skip
                draw = period_reference.exposure_draw(seed, Purpose.EXPOSURE, 0, number)
                offers.append({"number": number, "value": float(value[0, 0]), "draw": draw})
            price = reference.tick(
                int(c.seed[e]), 0, offers, market.slot_weights_micros.tolist(), market.rule,
                campaign, (float(level[e]), market.price_spread, market.price_step),
                (Purpose.COMPETITOR_VALUE, Purpose.CONVERSION),
            )  # fmt: skip
            assert c.last[e, 5] == pytest.approx(price, rel=1e-5)
            values = [offer["value"] for offer in offers]
            assert c.last[e, 4] == pytest.approx(sum(values) / len(values))
            assert abs(c.spend_micros[e, 0] - campaign["spend"]) <= 20  # float32 of the twin's z
            assert c.wins[e, 0] == campaign["wins"]
            assert c.conversions[e, 0] == campaign["conversions"]
            assert c.expected_conversions[e, 0] == pytest.approx(campaign["expected"])
            assert (c.status[e, 0] == 1) == campaign["live"]
            outs += not campaign["live"]
    assert outs > 0
    assert c.wins.sum() > 10


@pytest.mark.plain
def test_the_level_of_prices_is_an_autoregression_of_its_own_draws():
    """Started in its stationary law: as wide at the first tick as at any other."""
    markets = Markets(tiny("gsp"), 3)
    markets.reset([5, 6, 7])
    markets.reset()
    c, level = markets.campaigns, [0.0] * 3
    for tick in range(3):
        for e, seed in enumerate((5, 6, 7)):
            key = chance.at_opportunity(chance.stream(seed, Purpose.PRICE_LEVEL), 1, tick)
            noise = 0.3 * chance.normal(key, 0)
            level[e] = 0.8 * level[e] + 0.6 * noise if tick else noise
        assert c.log_level == pytest.approx(level)
        markets.step(np.zeros(3, np.float32))


@pytest.mark.plain
@pytest.mark.parametrize(("bid", "ranked"), [(900, [1000, 1000, 1000, 900]), (1000, [1000] * 4),
                                             (1001, [1001, 1000, 1000, 1000])])  # fmt: skip
def test_a_bid_that_equals_a_competing_one_ranks_below_it(bid, ranked):
    ladder = np.zeros(4, np.int64)
    rank, lowest = kernels.place_bid(bid, 1000.0, 0.0, 0.0, np.uint64(9), ladder)
    assert (rank, lowest) == (0 if bid > 1000 else 3, 1000)
    assert ladder.tolist() == ranked


@pytest.mark.plain
@given(SCORES, st.floats(0, 1e9), st.floats(1, 1e8))
def test_the_score_is_its_formula(conversions, spend, target):
    wanted = 0.0
    if conversions > 0:
        wanted = conversions * min(1.0, (target * conversions / max(spend, 1.0)) ** 2)
    assert kernels.score_of(conversions, spend, target) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "auction", ["", "soft_floor_micros = 900_000\nmin_remaining_micros = 9_000_000"]
)
def test_among_agents_an_episode_is_a_period_of_the_engine(auction):
    """Same seed, same weights of the campaign: the same accounts of everybody, to the micro."""
    text, name = text_of("campaign")
    scenario = read(text.replace("[auction]", f"[auction]\n{auction}"), name)
    markets = Markets(scenario, 3, competition="agents", reward="sampled")
    markets.reset([11, 12, 13])
    markets.reset()
    c = markets.campaigns
    actions = np.random.default_rng(4).uniform(-0.5, 0.5, (48, 3)).astype(np.float32)
    weights, scores = [], np.zeros(3)
    for tick in range(48):
        scores += markets.step(actions[tick]).reward
        weights.append(c.weight[:, 0].copy())
    for e in range(3):
        agents = auctionnet.agents_of(scenario, 0)
        agents.law[0] = EXTERNAL
        agents.unit_micros[0] = c.unit_micros[e, 0]
        agents.budget_micros[0] = c.budget_micros[e, 0]
        world = auctionnet.AuctionNetWorld(scenario, agents, 11 + e, 1)
        result = run_period(
            world, agents, bidders=lambda view, e=e: np.full(48, weights[view.tick][e], np.float32),
            min_remaining_micros=scenario.auction.min_remaining_micros,
        )  # fmt: skip
        for name in ("spend_micros", "status", "wins", "exposures", "value_sum", "conversions",
                     "expected_conversions", "return_micros"):  # fmt: skip
            assert np.array_equal(getattr(result.accounts, name), getattr(c, name)[e]), name
        assert auctionnet.score(result, agents)[0] == pytest.approx(scores[e])
        assert (result.accounts.status == 2).any()


@pytest.mark.parametrize("competition", ["prices", "agents"])
@pytest.mark.parametrize("rule", ["first_price", "gsp", "vcg"])
def test_observations_stay_in_their_bounds_and_money_in_the_budget(competition, rule):
    text, name = text_of("campaign")
    scenario = read(text.replace('rule = "gsp"', f'rule = "{rule}"'), name)
    markets = Markets(scenario, 8, competition=competition)
    low, high = observation_bounds()
    seen = [markets.reset(range(8))]
    rng = np.random.default_rng(2)
    for _ in range(100):
        stepped = markets.step(rng.uniform(-1, 1, 8).astype(np.float32))
        seen.append(stepped.observation)
        assert (markets.campaigns.spend_micros <= markets.campaigns.budget_micros).all()
    stacked = np.concatenate(seen)
    assert ((low <= stacked) & (stacked <= high)).all()
    # Every field tells something: none is constant.
    assert (stacked.std(axis=0) > 0).all()


@pytest.mark.parametrize("competition", ["prices", "agents"])
@pytest.mark.parametrize("reward", ["expected", "sampled"])
def test_rewards_add_up_to_the_score(competition, reward):
    markets = Markets("campaign", 4, competition=competition, reward=reward)
    markets.reset(range(4))
    total = sum(markets.step(np.full(4, 0.2, np.float32)).reward for _ in range(48))
    c = markets.campaigns
    found = c.expected_conversions if reward == "expected" else c.conversions
    for e in range(4):
        wanted = kernels.score_of(
            float(found[e, 0]), float(c.spend_micros[e, 0]), float(c.unit_micros[e, 0])
        )
        assert total[e] == pytest.approx(wanted)
        assert wanted > 0


def test_prices_are_moved_by_nobody_and_agents_by_the_campaign():
    def prices(competition, action):
        markets = Markets("campaign", 1, competition=competition)
        markets.reset([3])
        found = []
        for _ in range(20):
            markets.step(np.array([action], np.float32))
            found.append(float(markets.campaigns.last[0, 5]))
        return found

    assert prices("prices", -0.3) == prices("prices", 0.3)
    assert prices("agents", -0.3) != prices("agents", 0.3)
