"""Which budgets a campaign draws on: one a calendar day, whatever clocks do, and one for all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.budgets import BudgetRow, budget_id, budgets_of, day_bounds_ms
from market.campaign import Budget, Campaign, Goal, GoalKind
from market.snapshot import BUDGET_DTYPE
from tests.reference import chance as reference

HOUR_MS = 3_600_000
ZONES = sorted(available_timezones())
# 2012 to 2035. Until 2011 clocks in Newfoundland and Labrador went back at 0:01, so that the first
# minute of a day came before the last hour of the day before it: no interval is such a day.
TIMES = st.integers(1_325_376_000_000, 2_051_222_400_000)


def campaign(zone="UTC", daily=10, lifetime=100, campaign_id=7):
    return Campaign(
        name="c",
        currency="EUR",
        time_zone=zone,
        goal=Goal(GoalKind.TARGET_CPA, target_cpa_micros=1),
        budget=Budget(daily, lifetime),
        advertiser_domain="a.example",
        campaign_id=campaign_id,
    )


def at(text):
    """Epoch milliseconds of an ISO instant."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("zone", "now", "start", "end", "hours"),
    [
        ("UTC", "2026-03-01T12:00Z", "2026-03-01T00:00Z", "2026-03-02T00:00Z", 24),
        # Half and quarter hours from UTC.
        ("Asia/Kathmandu", "2026-03-01T18:14Z", "2026-02-28T18:15Z", "2026-03-01T18:15Z", 24),
        ("Asia/Kathmandu", "2026-03-01T18:15Z", "2026-03-01T18:15Z", "2026-03-02T18:15Z", 24),
        # Clocks go forward at 2:00 and back at 3:00.
        ("Europe/Berlin", "2026-03-29T12:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z", 23),
        ("Europe/Berlin", "2026-10-25T00:30Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z", 25),
        ("Europe/Berlin", "2026-10-25T01:30Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z", 25),
        ("America/New_York", "2026-03-08T12:00Z", "2026-03-08T05:00Z", "2026-03-09T04:00Z", 23),
        # By half an hour.
        (
            "Australia/Lord_Howe",
            "2026-04-05T05:00Z", "2026-04-04T13:00Z", "2026-04-05T13:30Z", 24.5,
        ),
        # There is no midnight: clocks go from 24:00 to 1:00, and the day begins then.
        ("America/Sao_Paulo", "2018-11-04T12:00Z", "2018-11-04T03:00Z", "2018-11-05T02:00Z", 23),
        ("Africa/Cairo", "2024-04-26T12:00Z", "2024-04-25T22:00Z", "2024-04-26T21:00Z", 23),
        # There are two midnights: the day begins with the first and holds both.
        ("America/Havana", "2026-11-01T04:30Z", "2026-11-01T04:00Z", "2026-11-02T05:00Z", 25),
        ("America/Havana", "2026-11-01T05:30Z", "2026-11-01T04:00Z", "2026-11-02T05:00Z", 25),
        # Clocks go from 24:00 back to 23:00, so the old day has 25 hours.
        ("America/Sao_Paulo", "2018-02-18T02:30Z", "2018-02-17T02:00Z", "2018-02-18T03:00Z", 25),
        # A calendar day that was left out belongs to nobody.
        ("Pacific/Apia", "2011-12-30T09:59Z", "2011-12-29T10:00Z", "2011-12-30T10:00Z", 24),
        ("Pacific/Apia", "2011-12-30T10:00Z", "2011-12-30T10:00Z", "2011-12-31T10:00Z", 24),
    ],
)  # fmt: skip
def test_a_day_is_the_calendar_day_of_the_zone_however_long_it_is(zone, now, start, end, hours):
    bounds = day_bounds_ms(campaign(zone), at(now))
    assert bounds == (at(start), at(end))
    assert bounds[1] - bounds[0] == hours * HOUR_MS


@given(st.sampled_from(ZONES), TIMES)
def test_every_moment_lies_in_its_day_and_days_leave_no_gap(zone, now_ms):
    start, end = day_bounds_ms(campaign(zone), now_ms)
    assert start <= now_ms < end
    assert day_bounds_ms(campaign(zone), start) == (start, end)
    assert day_bounds_ms(campaign(zone), end - 1) == (start, end)
    assert day_bounds_ms(campaign(zone), end)[0] == end
    assert day_bounds_ms(campaign(zone), start - 1)[1] == start


@given(st.sampled_from(ZONES), TIMES)
def test_all_moments_of_a_day_have_one_date_on_the_wall(zone, now_ms):
    def date(ms):
        return (
            (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms))
            .astimezone(ZoneInfo(zone))
            .date()
        )

    start, end = day_bounds_ms(campaign(zone), now_ms)
    assert date(start) == date(now_ms) == date(end - 1)
    assert date(end) > date(now_ms)


def test_a_campaign_draws_on_its_day_and_on_its_lifetime():
    now = at("2026-03-01T12:00Z")
    daily, lifetime = budgets_of(campaign(), now)
    assert daily == BudgetRow(
        budget_id=budget_id(7, at("2026-03-01T00:00Z"), is_daily=True),
        limit_micros=10,
        campaign_id=7,
        currency=978,
        is_daily=1,
        start_at_ms=at("2026-03-01T00:00Z"),
        end_at_ms=at("2026-03-02T00:00Z"),
    )
    assert lifetime == BudgetRow(
        budget_id=budget_id(7, 0, is_daily=False),
        limit_micros=100,
        campaign_id=7,
        currency=978,
        is_daily=0,
        start_at_ms=0,
        end_at_ms=2**62,
    )


@pytest.mark.parametrize(("daily", "lifetime", "kinds"), [(5, None, [1]), (None, 5, [0])])
def test_a_budget_that_is_not_set_is_not_drawn_on(daily, lifetime, kinds):
    rows = budgets_of(campaign(daily=daily, lifetime=lifetime), 0)
    assert [row.is_daily for row in rows] == kinds
    assert [row.limit_micros for row in rows] == [5]


def test_a_budget_row_fits_the_snapshot_s_array():
    rows = budgets_of(campaign(), at("2026-03-01T12:00Z"))
    array = np.array(list(rows), BUDGET_DTYPE)
    assert BudgetRow._fields == BUDGET_DTYPE.names
    assert [BudgetRow(*record.item()) for record in array] == list(rows)


def test_the_ids_of_a_campaign_s_days_and_lifetime_differ():
    day = 86_400_000
    ids = {
        row.budget_id
        for campaign_id in (1, 2, 2**32 - 1)
        for now in range(0, 400 * day, day)
        for row in budgets_of(campaign(campaign_id=campaign_id), now)
    }
    assert len(ids) == 3 * (400 + 1)
    assert 0 not in ids


@given(st.sampled_from(ZONES), TIMES)
def test_an_id_is_the_same_at_every_moment_of_a_day(zone, now_ms):
    start, end = day_bounds_ms(campaign(zone), now_ms)
    of_day = [budgets_of(campaign(zone), each) for each in (start, now_ms, end - 1)]
    assert of_day[0] == of_day[1] == of_day[2]


def test_an_id_does_not_change_with_the_limit_or_the_name():
    """A raised budget is the same budget; what was spent of it stays spent."""
    before = campaign()
    after = msgspec.structs.replace(before, name="other", budget=Budget(20, 200), version=2)
    ids = [[row.budget_id for row in budgets_of(each, 5)] for each in (before, after)]
    assert ids[0] == ids[1]


def test_an_id_is_the_one_that_ledgers_hold():
    """Changing it would give every running campaign its spent budget again."""
    assert budget_id(7, 0, is_daily=False) == reference.hash_pair(7, 0)
    assert budget_id(7, 86_400_000, is_daily=True) == reference.hash_pair(7, 86_400_001)
    assert budget_id(7, 0, is_daily=True) == reference.hash_pair(7, 1)
