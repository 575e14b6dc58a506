"""Paths and credits against the slow twin, over random small worlds and published examples."""

from __future__ import annotations

import gzip
from collections import Counter, defaultdict
from csv import DictReader
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.attribution.identity import NOBODY_LINKED, identity_of
from ledger.attribution.kernels import NEVER
from ledger.attribution.models import MARKOV_CHANNELS_MAX, credits_of, removal_effects
from ledger.attribution.paths import Bids, Conversions, paths_of
from ledger.attribution.terms import CREDIT_MICROS, NOBODY, Level, Lookback, Model, Rules
from market.errors import BadInput
from tests.ledger.attribution.worlds import world
from tests.reference import attribution as reference

LEVELS = {
    Level.CAMPAIGN: "campaign_id",
    Level.LINE_ITEM: "line_item_id",
    Level.CREATIVE: "creative_id",
    Level.EXCHANGE: "exchange",
}
LINKS = [(1, 70), (2, 70), (2, 71), (4, 71), (3, 90)]


def twin_paths(made, rules, person, level):
    touches = reference.touches_of(made.bid_rows, LEVELS[level], person)
    paths = []
    for row in made.conversion_rows:
        lookback = rules.lookback_of(row["advertiser_id"])
        paths.append(
            reference.path_of(
                touches, row, person, lookback.click_ms, lookback.view_ms, rules.touches_max
            )
        )
    return touches, paths


def twin_shares(made, rules, person, level, model):
    """Of each conversion, the share of each channel."""
    touches, paths = twin_paths(made, rules, person, level)
    idle = reference.idle_paths(touches, paths)
    learned = {}
    for advertiser in {row["advertiser_id"] for row in made.conversion_rows}:
        own = [
            [touch.channel for touch in path]
            for path, row in zip(paths, made.conversion_rows, strict=True)
            if row["advertiser_id"] == advertiser
        ]
        own_idle = [[t.channel for t in path] for path in idle if path[0].advertiser == advertiser]
        learned[advertiser] = (
            reference.removal_effects(own, own_idle),
            reference.set_rates(own, own_idle),
        )
    for path, row in zip(paths, made.conversion_rows, strict=True):
        channels = frozenset(touch.channel for touch in path)
        effects, rates = learned[row["advertiser_id"]]
        if not path:
            yield {NOBODY: Fraction(1)}
        elif model is Model.MARKOV:
            yield reference.shares({c: max(0.0, effects[c]) for c in channels})
        elif model is Model.SHAPLEY:
            yield reference.shares(reference.shapley(channels, rates))
        else:
            yield reference.rule_shares(
                model.name, path, row["at_ms"], rules.position_first, rules.position_last,
                rules.half_life_ms,
            )  # fmt: skip


def check_is_the_twins(made, rules, identity, person, model, level):
    found = credits_of(paths_of(made.bids, made.conversions, rules, identity), model, level, rules)
    got = defaultdict(dict)
    for conversion, channel, credit, value in zip(*(c.tolist() for c in found), strict=True):
        assert channel not in got[conversion]
        got[conversion][channel] = (credit, value)
    for v, shares in enumerate(twin_shares(made, rules, person, level, model)):
        value = made.conversion_rows[v]["value_micros"]
        assert set(got[v]) <= set(shares)
        assert sum(credit for credit, _ in got[v].values()) == CREDIT_MICROS
        assert sum(part for _, part in got[v].values()) == value
        for channel, share in shares.items():
            credit, part = got[v].get(channel, (0, 0))
            assert abs(credit - share * CREDIT_MICROS) <= 1.01
            assert abs(part - share * value) <= 1.01 + abs(value) / 2**28


@pytest.mark.plain
@pytest.mark.parametrize("model", list(Model))
@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    bid_count=st.integers(0, 40),
    conversion_count=st.integers(0, 12),
    level=st.sampled_from(list(Level)),
    view_ms=st.sampled_from([0, 1, 7, 40]),
    touches_max=st.sampled_from([1, 3, 1000]),
    is_linked=st.booleans(),
)
def test_credits_are_the_twins(
    model, seed, bid_count, conversion_count, level, view_ms, touches_max, is_linked
):
    made = world(seed, bid_count, conversion_count, span_ms=60)
    rules = Rules(
        lookback=Lookback(click_ms=30, view_ms=view_ms),
        lookbacks={2: Lookback(click_ms=5, view_ms=20)},
        half_life_ms=9,
        touches_max=touches_max,
        position_first=0.5,
        position_last=0.25,
    )
    links = np.array(LINKS, np.uint64)
    identity = identity_of(links[:, 0], links[:, 1]) if is_linked else NOBODY_LINKED
    person = reference.persons(LINKS) if is_linked else {}
    check_is_the_twins(made, rules, identity, person, model, level)


@pytest.mark.plain
@pytest.mark.parametrize("model", list(Model))
def test_credits_of_crowded_worlds_are_the_twins(model):
    """Where paths are long and mixed, which hypothesis seldom draws."""
    rules = Rules(
        lookback=Lookback(click_ms=30, view_ms=20),
        lookbacks={2: Lookback(click_ms=12, view_ms=40)},
        half_life_ms=9,
    )
    for seed in range(25):
        made = world(seed, 45, 12, span_ms=60, users=4)
        check_is_the_twins(made, rules, NOBODY_LINKED, {}, model, list(Level)[seed % 4])


@pytest.mark.parametrize("model", list(Model))
def test_a_person_with_thousands_of_touches_is_the_twins(model):
    made = world(5, 3_000, 6, span_ms=500, users=2)
    rules = Rules(lookback=Lookback(click_ms=300, view_ms=300), half_life_ms=50, touches_max=700)
    check_is_the_twins(made, rules, NOBODY_LINKED, {}, model, Level.CAMPAIGN)


@pytest.mark.parametrize("model", list(Model))
@given(seed=st.integers(0, 2**32))
def test_credits_do_not_depend_on_the_order_of_events(model, seed):
    made = world(seed, 60, 10, span_ms=40)
    rules = Rules(lookback=Lookback(click_ms=30, view_ms=20), half_life_ms=9)
    rng = np.random.default_rng(seed + 1)
    order = rng.permutation(60)
    shuffled = Bids(*(column[order] for column in made.bids))
    one = credits_of(paths_of(made.bids, made.conversions, rules), model, Level.EXCHANGE, rules)
    two = credits_of(paths_of(shuffled, made.conversions, rules), model, Level.EXCHANGE, rules)
    assert sorted(zip(*(c.tolist() for c in one), strict=True)) == sorted(
        zip(*(c.tolist() for c in two), strict=True)
    )


class Counted(NamedTuple):
    """Counted paths as bids and conversions, a person each; a touch a minute."""

    bids: Bids
    conversions: Conversions
    names: list[str]


def counted(rows):
    """[(path, conversions, total value micros, nulls)] as a world."""
    names = sorted({name for path, *_ in rows for name in path})
    number = {name: i + 1 for i, name in enumerate(names)}
    users, at, channels, buyers, bought_at, values = [], [], [], [], [], []
    user = 0
    for path, conversions, value, nulls in rows:
        for i in range(conversions + nulls):
            user += 1
            users += [user] * len(path)
            at += range(0, 60_000 * len(path), 60_000)
            channels += [number[name] for name in path]
            if i < conversions:
                buyers.append(user)
                bought_at.append(60_000 * len(path))
                values.append(value * (i + 1) // conversions - value * i // conversions)
    count, conversion_count = len(users), len(buyers)
    channel, ones = np.array(channels, np.uint32), np.ones(count, np.uint32)
    bids = Bids(
        np.zeros(count, np.uint64), np.arange(count, dtype=np.uint64), ones,
        np.array(users, np.uint64), np.full(count, NEVER), np.array(at, np.int64), channel,
        channel, channel, channel,
    )  # fmt: skip
    zeros = np.zeros(conversion_count, np.uint64)
    conversions = Conversions(
        zeros, np.arange(conversion_count, dtype=np.uint64), zeros, zeros,
        np.ones(conversion_count, np.uint32), np.array(buyers, np.uint64),
        np.array(bought_at, np.int64), np.array(values, np.int64),
        np.full(conversion_count, 978, np.uint16),
    )  # fmt: skip
    return Counted(bids, conversions, names)


def effects_of(made):
    paths = paths_of(made.bids, made.conversions, Rules())
    channels = paths.channels(Level.CAMPAIGN)
    found = removal_effects(
        channels, paths.first, channels.of_touch[paths.touch], paths.idle_first,
        channels.of_touch[paths.idle_touch],
    )  # fmt: skip
    return dict(zip(made.names, found.tolist(), strict=True))


@pytest.mark.plain
def test_removal_effects_of_the_textbook_example_are_as_published():
    """S. Bryl, "Marketing Multi-Channel Attribution model with R (part 1)", 2016: 0.5, 1, 1."""
    found = effects_of(counted([("123", 1, 0, 0), ("1", 0, 0, 1), ("23", 0, 0, 1)]))
    assert found == pytest.approx({"1": 0.5, "2": 1.0, "3": 1.0})


def test_removal_effects_are_those_that_another_tool_published_from_a_simulation():
    """README of pychattr (a port of ChannelAttribution): A 1.991, B 1.009 of 3 conversions."""
    found = effects_of(counted([("ABABBA", 1, 0, 0), ("ABBAA", 1, 0, 0), ("AA", 1, 0, 0)]))
    total = sum(found.values())
    assert 3 * found["A"] / total == pytest.approx(1.991106, abs=0.02)
    assert 3 * found["B"] / total == pytest.approx(1.008894, abs=0.02)
    assert found == pytest.approx({"A": 1.0, "B": 0.5})


@pytest.mark.plain
def test_shapley_shares_follow_the_observed_rates():
    # Rates: a 1/4, b 1/2, ab 1/1. phi_a = 1/4 + 1/2, phi_b = 1/2 + 1/2 of 7/4.
    made = counted([("a", 1, 0, 3), ("b", 1, 0, 1), ("ab", 1, 700, 0)])
    paths = paths_of(made.bids, made.conversions, Rules())
    found = credits_of(paths, Model.SHAPLEY, Level.CAMPAIGN, Rules())
    both = found.conversion == 2
    assert found.channel[both].tolist() == [1, 2]
    assert found.credit_micros[both].tolist() == [428_571, 571_429]
    assert found.value_micros[both].tolist() == [300, 400]


@pytest.mark.plain
def test_a_path_of_many_channels_has_the_exact_shapley_values():
    """Fourteen channels: more subsets than observed members, so that the sets are scanned."""
    names = "abcdefghijklmn"
    made = counted([(names, 1, 0, 0), ("ab", 1, 0, 2), ("c", 1, 0, 1), ("cde", 2, 0, 3)])
    paths = paths_of(made.bids, made.conversions, Rules())
    found = credits_of(paths, Model.SHAPLEY, Level.CAMPAIGN, Rules())
    whole = found.conversion == 0
    worth = dict.fromkeys(names, Fraction(1, 14))
    for path, rate in (("ab", Fraction(1, 3)), ("c", Fraction(1, 2)), ("cde", Fraction(2, 5))):
        for name in path:
            worth[name] += rate / len(path)
    total = sum(worth.values())
    for channel, credit in zip(found.channel[whole], found.credit_micros[whole], strict=True):
        assert abs(credit - worth[made.names[channel - 1]] / total * CREDIT_MICROS) <= 1


def test_too_many_channels_for_a_chain_are_refused():
    made = counted([([str(i)], 1, 0, 0) for i in range(MARKOV_CHANNELS_MAX + 1)])
    paths = paths_of(made.bids, made.conversions, Rules())
    with pytest.raises(BadInput, match="choose a coarser level"):
        credits_of(paths, Model.MARKOV, Level.CAMPAIGN, Rules())


@pytest.fixture(scope="module")
def real():
    folder = Path(__file__).parents[4] / "shared" / "data" / "conversion_paths"
    if not folder.exists():
        pytest.skip("../shared/data/conversion_paths is missing: 10,000 counted paths")
    with gzip.open(folder / "data.csv.gz", "rt") as file:
        return [
            (
                row["path"].split(" > "),
                int(row["total_conversions"]),
                round(float(row["total_conversion_value"]) * 1e6),
                int(row["total_null"]),
            )
            for row in DictReader(file)
        ]


@pytest.mark.parametrize("model", list(Model))
def test_real_paths_are_credited_as_the_twin_says(real, model):
    """Every conversion of the public data set; the twin weighs each distinct path."""
    rules = Rules(half_life_ms=300_000, touches_max=10_000)
    made = counted(real)
    number = {name: i + 1 for i, name in enumerate(made.names)}
    found = credits_of(paths_of(made.bids, made.conversions, rules), model, Level.CAMPAIGN, rules)
    if model is Model.MARKOV:
        spread = [(path, c) for path, c, _, _ in real]
        effects = reference.removal_effects(
            [path for path, n in spread for _ in range(n)],
            [path for path, _, _, nulls in real for _ in range(nulls)],
        )
    rates = reference.set_rates(
        (path for path, c, _, _ in real for _ in range(c)),
        (path for path, _, _, nulls in real for _ in range(nulls)),
    )
    values = {}
    expected = Counter()
    for path, conversions, _, _ in real:
        if not conversions:
            continue
        players = frozenset(path)
        if model is Model.MARKOV:
            shares = reference.shares({name: effects[name] for name in players})
        elif model is Model.SHAPLEY:
            if players not in values:
                values[players] = reference.shares(reference.shapley(players, rates))
            shares = values[players]
        else:
            touches = [
                reference.Touch(60_000 * i, True, (0, i), 1, 0, name, None)
                for i, name in enumerate(path)
            ]
            shares = reference.rule_shares(
                model.name, touches, 60_000 * len(path), 0.4, 0.4, rules.half_life_ms
            )
        for name, share in shares.items():
            expected[number[name]] += float(share) * conversions
    got = Counter()
    for channel, credit in zip(found.channel.tolist(), found.credit_micros.tolist(), strict=True):
        got[channel] += credit
    conversion_count = sum(c for _, c, _, _ in real)
    assert sum(got.values()) == conversion_count * CREDIT_MICROS == 19_785 * CREDIT_MICROS
    assert found.value_micros.sum() == sum(value for _, c, value, _ in real if c)
    for channel in number.values():
        # Each conversion is rounded to whole micros, each by less than one.
        assert abs(got[channel] / CREDIT_MICROS - expected[channel]) < 0.02
