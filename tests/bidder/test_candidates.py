"""The snapshot of campaigns: rows that stay, read-only tables, and T of the bid formula."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidder.candidates import Compilation, Compiler, Lift, allocate_rows, conversion_micros
from market.campaign import Goal, GoalKind
from market.control import LINE_ITEM_ROWS_MAX
from market.errors import BadInput
from market.money import BUDGET_MICROS_MAX
from market.snapshot import SnapshotArrays, read_snapshot, snapshot_path, write_snapshot
from tests.bidder.worlds import (
    NOW_MS,
    RATES,
    World,
    campaign_of,
    campaigns_of,
    exact_weights,
    snapshot_of,
)


def test_line_items_keep_their_row_and_new_ones_take_the_first_free():
    first, second, third = campaigns_of(random.Random(2), 3)
    rows = allocate_rows({}, (first, third))
    again = allocate_rows(rows, (third, second))
    assert all(again[item] == row for item, row in rows.items())
    assert sorted(again.values()) == list(range(len(again)))


def test_more_line_items_than_rows_are_refused_by_name():
    taken = {-n - 1: n for n in range(LINE_ITEM_ROWS_MAX)}
    with pytest.raises(BadInput, match=r"line item 10: all 131072 rows are taken"):
        allocate_rows(taken, (campaign_of(random.Random(1), 1),))


@pytest.mark.parametrize(
    ("goal", "observed", "expected"),
    [
        (Goal(GoalKind.TARGET_CPA, target_cpa_micros=7), 99, 7),
        (Goal(GoalKind.MAX_CONVERSIONS, value_per_conversion_micros=8), 99, 8),
        (Goal(GoalKind.TARGET_ROAS, target_roas=4.0, value_per_conversion_micros=80), None, 20),
        (Goal(GoalKind.TARGET_ROAS, target_roas=4.0, value_per_conversion_micros=80), 120, 30),
        # What no arithmetic may overflow on, whoever stored it.
        (
            Goal(GoalKind.TARGET_ROAS, target_roas=1e-300, value_per_conversion_micros=10**15),
            None,
            BUDGET_MICROS_MAX,
        ),
    ],
)
def test_a_conversion_may_cost_what_its_goal_says(goal, observed, expected):
    campaign = msgspec.structs.replace(campaign_of(random.Random(1), 1), goal=goal)
    assert conversion_micros(campaign, observed) == expected


def test_a_snapshot_is_read_only_and_survives_its_file(tmp_path):
    snapshot = World(random.Random(5)).snapshot()
    path = snapshot_path(tmp_path, 1)
    write_snapshot(path, snapshot)
    read = read_snapshot(path)
    assert read.head == snapshot.head
    for name, made, mapped in zip(
        snapshot.arrays._fields, snapshot.arrays, read.arrays, strict=True
    ):
        assert not made.flags.writeable, name
        assert made.dtype == mapped.dtype, name
        assert (made == mapped).all(), name


def test_a_rate_turns_bid_currency_into_account_currency():
    arrays = snapshot_of(campaigns_of(random.Random(1), 1)).arrays
    usd, eur = (np.flatnonzero(arrays.currencies == number)[0] for number in (840, 978))
    assert usd == 0, "USD comes first: bids are ranked in it"
    assert arrays.rates_micros[usd, eur] == 1_080_000
    assert arrays.rates_micros[eur, usd] == round(10**12 / 1_080_000)


DAY_MS = 86_400_000


@settings(max_examples=15)
@given(st.integers(0, 2**32))
def test_a_compiler_that_has_seen_other_versions_makes_what_a_new_one_makes(seed):
    """Campaigns change, end, come and come back; days, seats, posteriors and values change too."""
    rng = random.Random(seed)
    known = campaigns_of(rng, 9)
    kept, rows = Compiler(), {}
    for version in range(1, 5):
        chosen = [each for each in known if rng.random() < 0.7]
        changed = rng.choice(known).campaign_id
        campaigns = tuple(
            campaign_of(rng, each.campaign_id) if each.campaign_id == changed else each
            for each in chosen
        )
        rows = allocate_rows(rows, campaigns)
        ids = [creative.creative_id for campaign in campaigns for item in campaign.line_items
               for creative in item.creatives]  # fmt: skip
        given = Compilation(
            version=version, policy_version=1, intent_version=version,
            now_ms=NOW_MS + rng.choice((0, DAY_MS)), seed=1, rates_micros=RATES,
            default_seat=rng.choice(("one", "two")), rows=rows,
            lifts={each: Lift(3.0, 2.0, rng.random() < 0.5) for each in ids if rng.random() < 0.3},
            conversion_values={each.campaign_id: 7 for each in campaigns if rng.random() < 0.3},
        )  # fmt: skip
        found = kept.compile(campaigns, exact_weights(), given)
        expected = Compiler().compile(campaigns, exact_weights(), given)
        assert found.head == expected.head
        for name, mine, theirs in zip(
            SnapshotArrays._fields, found.arrays, expected.arrays, strict=True
        ):
            assert mine.dtype == theirs.dtype, name
            assert mine.shape == theirs.shape, name
            assert mine.tobytes() == theirs.tobytes(), name


def test_line_items_that_target_alike_share_an_expression_and_others_do_not():
    rng = random.Random(3)
    campaign = campaign_of(rng, 1)
    one = campaign.line_items[0]
    alike = msgspec.structs.replace(one, line_item_id=98, bid_cpm_micros_max=5)
    other = msgspec.structs.replace(one, line_item_id=99, seat="of its own")
    arrays = snapshot_of(
        (msgspec.structs.replace(campaign, line_items=(one, alike, other)),)
    ).arrays
    expressions = arrays.line_items["expression"].tolist()
    assert expressions[0] == expressions[1] != expressions[2]
    assert arrays.expression_first.shape[0] - 1 == 2
    for row, x in enumerate(expressions):
        first, end = arrays.expression_first[x], arrays.expression_first[x + 1]
        assert row in arrays.expression_rows[first:end].tolist()
