"""The snapshot of campaigns: rows that stay, read-only tables, and T of the bid formula."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from bidder.candidates import allocate_rows, conversion_micros
from market.campaign import Goal, GoalKind
from market.control import LINE_ITEM_ROWS_MAX
from market.errors import BadInput
from market.money import BUDGET_MICROS_MAX
from market.snapshot import read_snapshot, snapshot_path, write_snapshot
from tests.bidder.worlds import World, campaign_of, campaigns_of, snapshot_of


def test_line_items_keep_their_row_and_new_ones_take_the_first_free():
    first, second, third = campaigns_of(random.Random(2), 3)
    rows = allocate_rows({}, (first, third))
    again = allocate_rows(rows, (third, second))
    assert all(again[item] == row for item, row in rows.items())
    assert sorted(again.values()) == list(range(len(again)))


def test_more_line_items_than_rows_are_refused_by_name():
    taken = {-n - 1: n for n in range(LINE_ITEM_ROWS_MAX)}
    with pytest.raises(BadInput, match=r"line item 10: all 16384 rows are taken"):
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
