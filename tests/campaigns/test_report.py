from __future__ import annotations

import msgspec
import pytest

from campaigns.report import Recorder, numbers_of, report_of
from ledger.view import ActivityView, BudgetView, LedgerView
from market.budgets import budgets_of
from market.campaign import Budget
from market.errors import NotReady

NOW_MS = 1_760_000_000_000
replace = msgspec.structs.replace


def activity(part_id, **numbers):
    fields = dict.fromkeys(ActivityView.__struct_fields__, 0)
    return ActivityView(**{**fields, "id": part_id, **numbers})


def view_of(budgets=(), line_items=(), creatives=()):
    return LedgerView(NOW_MS, 1, True, 0, tuple(budgets), tuple(line_items), tuple(creatives), ())


def test_a_campaign_that_did_not_bid_yet_has_zeros_and_no_ratios(asked):
    numbers = numbers_of(asked, {1, 2}, view_of())
    assert (numbers.bids, numbers.spend_micros, numbers.budget_used) == (0, 0, 0.0)
    assert (numbers.cpa_micros, numbers.roas) == (None, None)
    assert [budget.limit_micros for budget in numbers.budgets] == [100_000_000]


def test_numbers_are_the_sums_over_the_campaigns_line_items_and_no_others(asked):
    view = view_of(
        line_items=[
            activity(1, bids=10, wins=4, impressions=3, clicks=2, conversions=1, spend_micros=7),
            activity(2, bids=1, conversions=1, conversion_value_micros=50, spend_micros=5),
            activity(3, bids=1000, spend_micros=1000, conversions=1000),
        ]
    )
    numbers = numbers_of(asked, {1, 2}, view)
    assert (numbers.bids, numbers.wins, numbers.impressions, numbers.clicks) == (11, 4, 3, 2)
    assert (numbers.spend_micros, numbers.conversion_value_micros) == (12, 50)
    assert numbers.cpa_micros == 6
    assert numbers.roas == pytest.approx(50 / 12)


def test_the_budget_of_today_in_the_campaigns_time_zone_is_the_one_that_counts(asked):
    campaign = replace(
        asked, campaign_id=7, budget=Budget(daily_micros=1_000, lifetime_micros=100_000)
    )
    day, life = budgets_of(campaign, NOW_MS)
    yesterday, _ = budgets_of(campaign, NOW_MS - 86_400_000)
    view = view_of(
        budgets=[
            BudgetView(yesterday.budget_id, 1_000, 999, 0, 0, 0),
            BudgetView(day.budget_id, 900, 400, 100, 50, 3),
            BudgetView(life.budget_id, 100_000, 1_399, 100, 50, 3),
        ]
    )
    numbers = numbers_of(campaign, {1}, view)
    daily, lifetime = numbers.budgets
    assert daily.is_daily
    assert daily.start_at_ms <= NOW_MS < daily.end_at_ms
    assert (daily.limit_micros, daily.spent_micros, daily.spent_late_micros) == (1_000, 500, 100)
    assert (daily.held_micros, daily.open_count) == (50, 3)
    assert (lifetime.is_daily, lifetime.spent_micros) == (False, 1_499)
    assert numbers.budget_used == 0.5


def test_a_report_has_the_parts_of_its_campaign(asked):
    item = asked.line_items[0]
    creatives = tuple(
        replace(each, creative_id=i) for i, each in enumerate(item.creatives, start=5)
    )
    campaign = replace(asked, line_items=(replace(item, creatives=creatives),))
    view = view_of(
        line_items=[activity(1, bids=3), activity(9, bids=9)],
        creatives=[activity(5, bids=2), activity(6, bids=1), activity(7, bids=9)],
    )
    report = report_of(campaign, {1, 4}, view)
    assert report.bids == 3
    assert [part.id for part in report.line_items] == [1]
    assert [part.id for part in report.creatives] == [5, 6]


@pytest.fixture
def recorder(deployment):
    asking = Recorder(f"http://127.0.0.1:{deployment.notice_port}", deployment.ledger_token)
    yield asking
    asking.close()


def test_the_recorder_is_asked_over_http(recorder, ledger):
    ledger.view = view_of(line_items=[activity(1, bids=3, spend_micros=2**62)])
    assert recorder.view() == ledger.view


def test_a_recorder_that_is_away_is_not_ready(recorder):
    with pytest.raises(NotReady, match="recorder"):
        recorder.view()


def test_a_recorder_that_answers_otherwise_is_not_ready(recorder, ledger):
    ledger.view = view_of()
    ledger.status = 503
    with pytest.raises(NotReady, match="503"):
        recorder.view()
    ledger.status, ledger.view = 200, {"at_ms": 1}
    with pytest.raises(NotReady, match="recorder"):
        recorder.view()
    ledger.view = view_of()
    assert recorder.view() == view_of()
