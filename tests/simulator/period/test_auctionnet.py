"""The AuctionNet market: its published numbers, and each defect that it must not have."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from market.chance import Purpose
from market.errors import BadInput
from market.kernels_control import CONSTANT, PACING, PID
from simulator.period import auctionnet
from simulator.period import kernels_auctionnet as kernels
from simulator.period.engine import check_supply, run_period
from simulator.period.scenario import load, read
from simulator.period.seam import new_accounts, new_supply
from simulator.scenario import text_of
from tests.reference import chance
from tests.reference import period as reference

SEED = 7
WORDS = st.integers(0, 2**64 - 1)


@pytest.fixture(scope="module")
def scenario():
    return load("auctionnet")


@pytest.fixture(scope="module")
def small():
    """A day of 20,000 opportunities and likelier conversions."""
    text, name = text_of("auctionnet")
    text = text.replace("opportunity_count = 500_000", "opportunity_count = 20_000")
    return read(text.replace("mean = 0.0005", "mean = 0.02"), name)


def world_of(scenario, period=0, seed=SEED):
    agents = auctionnet.agents_of(scenario, seed)
    return auctionnet.AuctionNetWorld(scenario, agents, seed, period), agents


def filled(world, tick):
    counts = world.opportunity_counts
    supply = new_supply(world.agent_count, int(counts[tick]))
    world.fill(tick, int(counts[:tick].sum()), supply)
    return supply


@pytest.mark.plain
@given(WORDS)
def test_the_near_normal_number_is_what_its_moments_say(word):
    assert float(kernels.near_normal(np.uint64(word))) == pytest.approx(
        reference.near_normal(word), abs=2e-6
    )


@pytest.mark.plain
@given(st.integers(0, 2**62), st.integers(0, 2**40), st.integers(0, 2**40))
def test_supply_is_drawn_as_its_twin_draws_it(seed, period, first):
    draws, keys = np.empty(3, np.float32), np.empty(3, np.uint64)
    value = np.empty((2, 3), np.float32)
    mean, deviation = np.array([0.2, 0.4], np.float32), np.array([0.1, 0.6], np.float32)
    kernels.exposure_draws(seed, period, first, draws)
    kernels.fill_values(seed, period, first, mean, deviation, keys, value)
    for j in range(3):
        assert draws[j] == reference.exposure_draw(seed, Purpose.EXPOSURE, period, first + j)
        for a in range(2):
            assert value[a, j] == pytest.approx(
                reference.value(seed, Purpose.AGENT_VALUE, period, first + j, a,
                                float(mean[a]), float(deviation[a])), abs=2e-6,
            )  # fmt: skip


@pytest.mark.plain
@given(st.integers(0, 2**62), st.integers(0, 2**40), st.integers(0, 2**40))
def test_conversions_are_drawn_as_their_twin_draws_them(seed, period, first):
    value = np.full((3, 4), 0.5, np.float32)
    opportunity, agent = np.array([0, 0, 2, 3], np.int32), np.array([0, 2, 1, 0], np.int32)
    expected, conversions, returned = np.zeros(3), np.zeros(3, np.int64), np.zeros(3, np.int64)
    kernels.settle_conversions(
        seed, period, first, value, opportunity, agent, np.array([5, 7, 9]), expected, conversions,
        returned,
    )  # fmt: skip
    assert expected.tolist() == [1.0, 0.5, 0.5]
    wanted = [0, 0, 0]
    for j, a in zip(opportunity.tolist(), agent.tolist(), strict=True):
        wanted[a] += reference.has_converted(seed, Purpose.CONVERSION, period, first + j, a, 0.5)
    assert conversions.tolist() == wanted
    assert returned.tolist() == [5 * wanted[0], 7 * wanted[1], 9 * wanted[2]]


@pytest.mark.plain
@given(st.integers(0, 2**62), st.integers(0, 2**40))
def test_traffic_and_shapes_are_drawn_as_their_formulas_say(seed, period):
    shares = np.empty(3)
    kernels.traffic_shares(seed, period, np.array([1.0, 2.0, 5.0]), 0.6, 1.4, shares)

    def uniform(purpose, number, actor=0):
        own = chance.at_opportunity(chance.stream(seed, purpose), period, number)
        return chance.uniform(own, actor)

    def normal(purpose, number, actor):
        own = chance.at_opportunity(chance.stream(seed, purpose), period, number)
        return chance.normal(own, actor)

    wanted = [w * (0.6 + 0.8 * uniform(Purpose.TRAFFIC, i)) for i, w in enumerate((1, 2, 5))]
    assert shares == pytest.approx([each / sum(wanted) for each in wanted])

    mean, deviation = np.empty((4, 4), np.float32), np.empty((4, 4), np.float32)
    kernels.value_shapes(
        seed, period, 0.01, (0.3, 1.7), (0.5, 1.5), 2, (0.5, 0.1, 0.2), 2, mean, deviation
    )
    for t in range(4):
        for a in range(4):
            value = 0.01 * (0.3 + 1.4 * uniform(Purpose.CATEGORY_FACTOR, t // 2, a // 2))
            if a % 2:
                value *= 0.5 + uniform(Purpose.ADVERTISER_FACTOR, t // 2, a)
            ratio = (0.5 + 0.1 * normal(Purpose.SPREAD, 0, a)) * (
                1 + 0.2 * normal(Purpose.SPREAD_JITTER, t, a)
            )
            ratio = 0.1 if ratio < 0 else min(ratio, 1)
            assert mean[t, a] == pytest.approx(value, rel=1e-6)
            assert deviation[t, a] == pytest.approx(value * ratio, rel=1e-6)


def test_values_are_normal_where_they_are_not_clipped():
    value, keys = np.empty((8, 50_000), np.float32), np.empty(50_000, np.uint64)
    half, tenth = np.full(8, 0.5, np.float32), np.full(8, 0.1, np.float32)
    kernels.fill_values(SEED, 0, 0, half, tenth, keys, value)
    z = (value.astype(float) - 0.5) / 0.1
    size = z.size
    assert abs(z.mean()) < 3 / math.sqrt(size)
    assert abs(z.var() - 1) < 3 * math.sqrt(2 / size)
    # The largest gap of the distribution functions is below .001 by construction; the sample adds.
    assert stats.kstest(z.ravel(), "norm").statistic < 0.001 + 1.36 / math.sqrt(size)
    # Neighbouring agents, and neighbouring opportunities, have nothing to do with each other.
    for a, b in ((z[0], z[1]), (z[2, :-1], z[2, 1:])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 3 / math.sqrt(a.size)


def test_draws_of_a_hundred_thousand_actors_never_repeat():
    value, keys = np.empty((100_000, 2), np.float32), np.empty(2, np.uint64)
    half = np.full(100_000, 0.5, np.float32)
    kernels.fill_values(SEED, 0, 0, half, half / 5, keys, value)
    # Packing actors into 12 bits would repeat opportunity 0's draws at opportunity 1.
    assert not (value[4096:, 0] == value[:-4096, 1]).mean() > 0.001
    for a, b in ((value[4096:, 0], value[:-4096, 0]), (value[:, 0], value[:, 1])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 3 / math.sqrt(a.size)


def test_the_market_is_the_published_one(scenario):
    world, agents = world_of(scenario)
    assert world.agent_count == 48
    assert 499_900 <= world.opportunity_counts.sum() <= 500_000
    assert agents.budget_micros.sum() == 150_000_000_000
    assert sorted(agents.budget_micros.tolist())[:8] == [2_000_000_000] * 6 + [2_300_000_000] * 2
    for category in agents.unit_micros.reshape(6, 8):
        assert sorted(category / 1e6) == [60, 70, 80, 90, 100, 110, 120, 130]
    assert np.corrcoef(agents.unit_micros, agents.budget_micros)[0, 1] < -0.96
    assert 1_700 < (agents.budget_micros / agents.unit_micros).sum() < 1_900
    shares = np.concatenate(
        [world_of(scenario, period)[0].opportunity_counts / 5e5 for period in range(40)]
    )
    assert shares.min() > 0.002
    assert shares.max() < 0.05
    check_supply(filled(world, 0), 3)
    means = [float(filled(world_of(scenario, period)[0], 0).value.mean()) for period in range(20)]
    error = statistics.stdev(means) / math.sqrt(20)
    assert abs(statistics.mean(means) - 0.0005) < 3 * error


def test_two_ticks_and_two_periods_share_no_draw(small):
    """AuctionNet starts its generators anew in every tick: the same cells convert in all."""
    counts = []
    value = np.full((48, 400), 0.5, np.float32)
    agent = np.repeat(np.arange(48, dtype=np.int32), 400)
    opportunity = np.tile(np.arange(400, dtype=np.int32), 48)
    for period, first in ((0, 0), (0, 400), (1, 0)):
        has = np.zeros(agent.size)
        for e in range(0, agent.size, 1):
            accounts = np.zeros(48, np.int64)
            kernels.settle_conversions(
                SEED, period, first, value, opportunity[e : e + 1], agent[e : e + 1],
                np.zeros(48, np.int64), np.zeros(48), accounts, np.zeros(48, np.int64),
            )  # fmt: skip
            has[e] = accounts.sum()
        counts.append(has)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        agreement = (counts[a] == counts[b]).mean()
        assert abs(agreement - 0.5) < 3 * 0.5 / math.sqrt(agent.size)


def test_conversions_are_as_frequent_as_they_are_likely(small):
    """AuctionNet's are 1.13-1.32 times as frequent: value noise and conversion share a uniform."""
    results = auctionnet.run(small, SEED, range(6))
    conversions = np.sum([r.accounts.conversions for r in results], axis=0)
    expected = np.sum([r.accounts.expected_conversions for r in results], axis=0)
    assert abs(conversions.sum() - expected.sum()) < 3 * math.sqrt(expected.sum())
    z = (conversions - expected) / np.sqrt(expected)
    # 48 agents: mean square near 1, and none beyond what 48 draws show.
    assert (z**2).mean() < 1 + 3 * math.sqrt(2 / 48)
    assert abs(z).max() < 4.5


def test_what_anybody_bids_changes_no_draw(small):
    """Supply is equal to the bit; an exposure that two runs share converts in both or neither."""
    world, agents = world_of(small)
    logs = []
    for gain in (0.4, 1.0):
        constant = agents._replace(law=np.full(48, 1, np.uint8), gain=np.full(48, gain))
        log = {}
        run_period(_Recorded(world_of(small)[0], log), constant)
        logs.append(log)
    assert logs[0]["supply"] == logs[1]["supply"]
    both = logs[0]["coins"].keys() & logs[1]["coins"].keys()
    assert len(both) > 1_000
    assert all(logs[0]["coins"][cell] == logs[1]["coins"][cell] for cell in both)
    assert logs[0]["coins"].keys() != logs[1]["coins"].keys()
    assert world.agent_count == 48


class _Recorded:
    """A world that remembers what it offered and which exposures converted."""

    def __init__(self, world, log):
        self._world, self._log = world, log
        log.update(supply=[], coins={})

    def __getattr__(self, name):
        return getattr(self._world, name)

    def fill(self, tick, first, supply):
        self._world.fill(tick, first, supply)
        self._log["supply"].append(tuple(array.tobytes() for array in supply[:-1]))

    def settle(self, tick, first, supply, exposures, accounts):
        for e in range(0, exposures.agent.shape[0], 7):
            one = type(exposures)(*(array[e : e + 1] for array in exposures))
            alone = new_accounts(np.ones(48, np.int64))
            self._world.settle(tick, first, supply, one, alone)
            cell = (first + int(one.opportunity[0]), int(one.agent[0]))
            self._log["coins"][cell] = int(alone.conversions.sum())
        self._world.settle(tick, first, supply, exposures, accounts)


def test_more_threads_give_the_same_days(small):
    one = auctionnet.run(small, SEED, range(6))
    two = auctionnet.run(small, SEED, range(6), threads=3)
    for a, b in zip(one, two, strict=True):
        assert a.opportunities == b.opportunities
        for part in ("accounts", "trace"):
            for mine, other in zip(getattr(a, part), getattr(b, part), strict=True):
                assert np.array_equal(mine, other)
    assert not np.array_equal(one[0].accounts.conversions, one[1].accounts.conversions)


def test_the_length_of_a_block_changes_no_day(small):
    text, name = text_of("auctionnet")
    poor = text.replace("opportunity_count = 500_000", "opportunity_count = 20_000")
    scenario = read(poor.replace("budgets = [4775.0", "budgets = [10.0"), name)
    agents = auctionnet.agents_of(scenario, SEED)
    agents = agents._replace(budget_micros=agents.budget_micros // 60)
    days = [
        run_period(world_of(scenario)[0], agents, min_remaining_micros=100_000, block=block)
        for block in (1, 256, 2048)
    ]
    assert (days[0].accounts.status == 2).sum() > 10
    for day in days[1:]:
        for mine, other in zip(day.accounts, days[0].accounts, strict=True):
            assert np.array_equal(mine, other)
    assert days[0].accounts.spend_micros.sum() == days[0].revenue_micros.sum()


def test_laws_are_dealt_in_turn_and_the_least_money_is_the_scenario_s():
    """With money for some dozen exposures it matters how little is too little."""
    text, name = text_of("auctionnet")
    text = text.replace("opportunity_count = 500_000", "opportunity_count = 2_000")
    text = text.replace("mean = 0.0005", "mean = 0.02")
    budgets = text.index("budgets = ["), text.index("]", text.index("budgets = ["))
    text = text[: budgets[0]] + "budgets = [" + ", ".join(["9.0"] * 8) + text[budgets[1] :]
    rich = read(text.replace("= 100_000", "= 3_000_000"), name)
    agents = auctionnet.agents_of(rich, SEED)
    assert agents.law.tolist() == [PID, PACING, CONSTANT] * 16
    assert agents.gain[1:3].tolist() == [0.3, 1.0]
    (found,) = auctionnet.run(rich, SEED, [0])
    left = found.accounts.budget_micros - found.accounts.spend_micros
    assert (left < 3_000_000).any()
    assert (found.accounts.status[left < 3_000_000] == 2).all()
    (poor,) = auctionnet.run(read(text, name), SEED, [0])
    assert not np.array_equal(poor.accounts.spend_micros, found.accounts.spend_micros)


def test_the_score_cuts_what_cost_more_than_allowed(small):
    result = auctionnet.run(small, SEED, [0])[0]
    accounts = result.accounts._replace(
        conversions=np.array([0, 10, 10, 10]),
        spend_micros=np.array([5, 50, 100, 200]) * 1_000_000,
    )
    agents = auctionnet.agents_of(small, SEED)._replace(unit_micros=np.full(4, 10e6))
    assert auctionnet.score(result._replace(accounts=accounts), agents) == pytest.approx(
        [0.0, 10.0, 10.0, 2.5]
    )


@pytest.mark.parametrize(
    ("old", "new", "pointer", "words"),
    [
        ("ticks = 48", "ticks = 47", "/traffic/shares", "divide the 47 ticks"),
        ("ticks = 48", "ticks = 0", "/ticks", "is 0"),
        ("mean = 0.0005", 'mean = "low"', "/values/mean", "got `str`"),
        ("mean = 0.0005", "mean = 3.0", "/values/mean", "is 3.0"),
        ("mean = 0.0005", "meen = 0.0005", "/values/meen", "unknown field"),
        ("jitter = [0.6, 1.4]", "jitter = [1.4, 0.6]", "/traffic/jitter", "least, most"),
        ('rule = "gsp"', 'rule = "second_price"', "/auction/slot_weights", "one slot"),
        ('rule = "gsp"', 'rule = "english"', "/auction/rule", "is 'english'"),
        ("[1.0, 0.8, 0.48]", "[0.8, 1.0]", "/auction/slot_weights", "never increasing"),
        ("[1.0, 0.8, 0.48]", "[]", "/auction/slot_weights", "at least one"),
        ("floor_micros = 100", "floor_micros = 0", "/auction/floor_micros", "is 0"),
        ('rule = "gsp"', 'rule = "vcg"\nsoft_floor_micros = 5', "/auction/soft_floor_micros",
         "second_price or gsp"),
        ("2300.0, 2000.0]", "2300.0]", "/advertisers/budgets", "must be 8"),
        ('{ law = "pid" },', '{ law = "luck" },', "/advertisers/laws/0/law", "is 'luck'"),
        ("shares = [4.7,", "shares = [inf,", "/traffic/shares/0", "is inf"),
        ("jitter = [0.6, 1.4]", "jitter = [0.6, inf]", "/traffic/jitter/1", "is inf"),
        ("[1.0, 0.8, 0.48]", str([1.0] * 256), "/auction/slot_weights", "length <= 255"),
        ("categories = 6", "categories = 200_000", "/advertisers/categories", "at most 1048576"),
        ("limits = [60.0,", "limits = [200_000.0,", "/advertisers/cost_limits/0", "is 200000.0"),
        ("floor_micros = 100\n", "floor_micros = 16_777_217\n", "/auction/floor_micros",
         "must be a number that float32 holds"),
        ('rule = "gsp"', 'rule = "gsp"\nsoft_floor_micros = 33_554_433',
         "/auction/soft_floor_micros", "must be a number that float32 holds"),
    ],
)  # fmt: skip
def test_a_scenario_that_breaks_a_rule_is_told_which(old, new, pointer, words):
    text, name = text_of("auctionnet")
    assert old in text
    with pytest.raises(BadInput, match="scenario 'auctionnet'") as caught:
        read(text.replace(old, new, 1), name)
    assert caught.value.pointer == pointer
    assert words in str(caught.value)


def test_the_largest_market_that_a_scenario_may_describe_is_played():
    """255 slots, the highest limit and gain: nothing overflows, money adds up."""
    text, name = text_of("auctionnet")
    for old, new in (
        ("opportunity_count = 500_000", "opportunity_count = 480"),
        ("[1.0, 0.8, 0.48]", str([1.0] * 255)),
        ("limits = [60.0,", "limits = [100_000.0,"),
        ('law = "pid" }', 'law = "constant", gain = 10.0 }'),
        ("mean = 0.0005", "mean = 1.0"),
    ):
        text = text.replace(old, new, 1)
    (result,) = auctionnet.run(read(text, name), 1, [0])
    assert result.accounts.spend_micros.sum() == result.revenue_micros.sum() > 0
    assert (result.accounts.spend_micros <= result.accounts.budget_micros).all()
    assert result.trace.weight.max() == np.float32(1e12)
