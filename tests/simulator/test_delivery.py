"""Delivery: every win is told once and for all, some twice, some late, none lost."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from market.events import EventKind
from simulator.delivery import in_order, longest_base_ms
from tests.simulator.markets import bids_on, changed, exchange_of, scenario_of
from tests.simulator.test_exchange import fitting

HOUR_MS = 3_600_000
PER_WIN = (EventKind.WIN, EventKind.BILLING, EventKind.IMPRESSION)
TRAVELLING = (*PER_WIN, EventKind.LOSS)


def told(scenario, price=2_500_000):
    """(clearing, offers, every scheduled notice) of a day."""
    exchange = exchange_of(scenario)
    offers = exchange.offers(scenario.start_at_ms, scenario.end_at_ms)
    clearing = exchange.clear(offers, bids_on(offers, price, fitting(exchange, offers)))
    return clearing, offers, exchange.due_rows(2**62)


@pytest.fixture(scope="module")
def busy():
    return told(changed(scenario_of(), requests_per_day=24_000))


def assert_share(found, count, share):
    assert abs(found / count - share) <= 4 * np.sqrt(share * (1 - share) / count)


def test_each_win_has_exactly_one_distinct_win_billing_and_impression(busy):
    clearing, offers, rows = busy
    first = rows[rows["copy"] == 0]
    counts = Counter(zip(first["sequence"].tolist(), first["kind"].tolist(), strict=True))
    assert set(counts.values()) == {1}
    for has_won, number in zip(clearing.has_won.tolist(), offers.sequence.tolist(), strict=True):
        found = [kind for kind in TRAVELLING if (number, kind) in counts]
        assert found == (list(PER_WIN) if has_won else [EventKind.LOSS])


def test_clicks_and_conversions_are_told_where_they_happened(busy):
    clearing, offers, rows = busy
    first = rows[rows["copy"] == 0]
    for kind, happened in (
        (EventKind.CLICK, clearing.has_clicked), (EventKind.CONVERSION, clearing.has_converted),
    ):  # fmt: skip
        assert sorted(first["sequence"][first["kind"] == kind].tolist()) == (
            offers.sequence[happened].tolist()
        )


def test_notices_are_repeated_as_often_as_asked_and_never_before_the_first(busy):
    _, _, rows = busy
    first = rows[rows["copy"] == 0]
    assert_share(np.count_nonzero(rows["copy"]), first.shape[0], 0.02)
    at = {(r["sequence"], r["kind"]): r["due_ms"] for r in first}
    least, most = scenario_of().delivery.repeat_ms
    for row in rows[rows["copy"] == 1]:
        assert least <= row["due_ms"] - at[row["sequence"], row["kind"]] <= most


def test_notices_are_delayed_as_often_as_asked(busy):
    _, _, rows = busy
    first = rows[(rows["copy"] == 0) & np.isin(rows["kind"], TRAVELLING)]
    assert_share(np.count_nonzero(first["held"] == 1), first.shape[0], 0.02)
    others = rows[~np.isin(rows["kind"], TRAVELLING)]
    assert not others["held"].any()


def test_a_delayed_notice_is_overtaken_yet_within_the_billing_window(busy):
    _, offers, rows = busy
    scenario = scenario_of()
    arrival = dict(
        zip(
            offers.sequence.tolist(),
            offers.opportunities.records[["arrival_ms", "billing_window_ms"]].tolist(),
            strict=True,
        )
    )
    on_time = longest_base_ms(scenario.delivery)
    for row in rows[(rows["held"] == 1) & (rows["copy"] == 0)]:
        arrived, window = arrival[row["sequence"]]
        # Every notice that is not held back is there by now; the clock moves slice by slice.
        assert row["due_ms"] - arrived >= scenario.slice_ms
        assert row["due_ms"] - arrived > on_time
        steps = -(-(row["due_ms"] - scenario.start_at_ms) // scenario.slice_ms)
        assert scenario.start_at_ms + steps * scenario.slice_ms <= arrived + window


def test_late_notices_come_only_where_a_scenario_asks_for_them(busy):
    _, _, rows = busy
    assert not (rows["held"] == 2).any()
    scenario = changed(
        scenario_of(), requests_per_day=24_000, delivery__late_share=0.05,
        delivery__late_ms=(1_000, 60_000),
    )  # fmt: skip
    _, offers, rows = told(scenario)
    first = rows[rows["copy"] == 0]
    late = first[first["held"] == 2]
    assert set(late["kind"].tolist()) == {EventKind.BILLING, EventKind.IMPRESSION}
    charging = np.isin(first["kind"], (EventKind.BILLING, EventKind.IMPRESSION))
    assert_share(late.shape[0], np.count_nonzero(charging), 0.05)
    records = offers.opportunities.records[late["sequence"]]
    past = late["due_ms"] - records["arrival_ms"] - records["billing_window_ms"]
    assert 1_000 < past.min() < past.max() <= 60_001


def test_steps_of_a_bids_life_follow_each_other_within_their_ranges(busy):
    _, offers, rows = busy
    delivery = scenario_of().delivery
    arrival = dict(
        zip(
            offers.sequence.tolist(),
            offers.opportunities.records["arrival_ms"].tolist(),
            strict=True,
        )
    )
    by_bid = defaultdict(dict)
    for row in rows[(rows["copy"] == 0) & (rows["held"] == 0)]:
        by_bid[row["sequence"]][row["kind"]] = row["due_ms"]
    steps = (
        (None, EventKind.WIN, delivery.win_ms),
        (None, EventKind.LOSS, delivery.loss_ms),
        (EventKind.WIN, EventKind.BILLING, delivery.billing_ms),
        (EventKind.WIN, EventKind.IMPRESSION, delivery.impression_ms),
        (EventKind.IMPRESSION, EventKind.CLICK, delivery.click_ms),
    )
    checked = Counter()
    for number, times in by_bid.items():
        for before, after, (least, most) in steps:
            start = arrival[number] if before is None else times.get(before)
            if after in times and start is not None:
                assert least <= times[after] - start <= most
                checked[after] += 1
    assert min(checked[after] for _, after, _ in steps) > 100


def test_conversions_follow_their_click_by_minutes_to_hours():
    scenario = changed(
        scenario_of(), requests_per_day=24_000, response__ctr=0.45, response__cvr=0.8
    )
    _, _, rows = told(scenario, price=90_000_000)
    rows = rows[rows["copy"] == 0]
    click = {r["sequence"]: r["due_ms"] for r in rows[rows["kind"] == EventKind.CLICK]}
    converted = rows[rows["kind"] == EventKind.CONVERSION]
    delay = converted["due_ms"] - [click[number] for number in converted["sequence"]]
    rules = scenario.response
    assert rules.delay_ms_min <= delay.min()
    assert delay.max() <= rules.delay_ms_max
    # Sign test around the median.
    assert_share(np.count_nonzero(delay < rules.delay_ms_median), delay.shape[0], 0.5)


def test_the_order_of_delivery_does_not_depend_on_the_order_of_scheduling(busy):
    _, _, rows = busy
    shuffled = np.random.Generator(np.random.PCG64(3)).permutation(rows)
    assert np.array_equal(in_order(shuffled), in_order(rows))
    ordered = in_order(rows)
    assert (np.diff(ordered["due_ms"]) >= 0).all()
    again = defaultdict(list)
    for row in ordered:
        again[row["sequence"], row["kind"]].append(int(row["copy"]))
    assert all(copies == sorted(copies) for copies in again.values())
