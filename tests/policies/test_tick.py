from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.recommendation.network import read_artefact
from market.budgets import budgets_of
from market.campaign import Budget, Flight, Goal, GoalKind, Status
from market.control import new_live_arrays
from market.errors import NotReady
from policies.bidding import pid
from policies.tick import LAG_MS, ControlLoop, plan_of
from tests.policies.intents import (
    DAY_MS,
    MIDNIGHT_MS,
    RATES,
    activity,
    campaign,
    creative,
    intent,
    line_item,
    spent_by,
    view,
)

TICK_MS = 1_800_000
WEIGHTS = read_artefact()


class Loop:
    """A control loop, its live arrays, and the ledger it is shown."""

    def __init__(self, **given):
        self.loop = ControlLoop(WEIGHTS, seed=1, rates_micros=RATES, tick_ms=TICK_MS, **given)
        self.live = new_live_arrays()
        self.asked = 0

    def act(self, an_intent, now_ms, ledger=None):
        def read_view():
            self.asked += 1
            if isinstance(ledger, Exception):
                raise ledger
            return ledger or view()

        return self.loop.act(an_intent, now_ms, read_view, self.live)

    def row(self, acted, line_item_id):
        rows = np.flatnonzero(acted.snapshot.arrays.line_items["line_item_id"] == line_item_id)
        return int(rows[0])


@pytest.fixture
def loop():
    return Loop()


def replaced(a_campaign, **values):
    return msgspec.structs.replace(a_campaign, **values)


# When it acts.


def test_nothing_is_due_between_ticks_and_the_ledger_is_not_asked(loop):
    first = loop.act(intent(campaign()), MIDNIGHT_MS)
    assert first.snapshot.head.version == 1
    assert loop.act(intent(campaign()), MIDNIGHT_MS + TICK_MS - 1) is None
    assert loop.asked == 1
    second = loop.act(intent(campaign()), MIDNIGHT_MS + TICK_MS)
    assert (second.snapshot.head.version, second.snapshot.head.policy_version) == (2, 2)


@given(late=st.lists(st.integers(0, 5 * TICK_MS), min_size=1, max_size=5))
def test_ticks_keep_to_multiples_of_the_tick_from_the_first_on(late):
    loop = Loop()
    begun = MIDNIGHT_MS + 17
    loop.act(intent(campaign()), begun)
    now = begun
    for wait in late:
        now += wait
        is_due = (now - begun) // TICK_MS > (now - wait - begun) // TICK_MS
        assert (loop.act(intent(campaign()), now) is not None) == is_due


def test_an_edit_of_one_campaign_steps_no_other_policy_and_restarts_none(loop):
    one, two = campaign(1), campaign(2)
    loop.act(intent(one, two), MIDNIGHT_MS)
    behind = loop.act(intent(one, two), MIDNIGHT_MS + TICK_MS)
    assert [record.campaign_id for record in behind.records] == [1, 2]
    before = behind.records[0].pacing_lambda
    cheaper = replaced(one, goal=Goal(kind=GoalKind.TARGET_CPA, target_cpa_micros=1_000_000))
    edited = loop.act(intent(cheaper, two, version=2), MIDNIGHT_MS + TICK_MS + 1)
    assert edited.records == ()
    assert edited.snapshot.head.policy_version == behind.snapshot.head.policy_version
    assert edited.snapshot.arrays.line_items["conversion_micros"].tolist() == [1_000_000, 5_000_000]
    assert loop.live.pacing_lambda[loop.row(edited, 10)] == before
    state = loop.loop._campaigns[1].policy_state
    loop.act(intent(cheaper, two, version=2), MIDNIGHT_MS + 2 * TICK_MS)
    assert state.error_sum > 0
    assert loop.loop._campaigns[1].policy_state.error_sum > state.error_sum


def test_a_new_campaign_bids_at_once_and_steps_nobody_else(loop):
    loop.act(intent(campaign(1)), MIDNIGHT_MS)
    acted = loop.act(intent(campaign(1), campaign(2), version=2), MIDNIGHT_MS + 1)
    assert [record.campaign_id for record in acted.records] == [2]
    assert loop.live.is_active[loop.row(acted, 20)] == 1


def test_another_policy_starts_afresh(loop):
    loop.act(intent(campaign(1)), MIDNIGHT_MS)
    other = replaced(campaign(1), policy="constant")
    loop.act(intent(other, version=2), MIDNIGHT_MS + 1)
    (record,) = loop.act(intent(other, version=2), MIDNIGHT_MS + TICK_MS).records
    assert (record.policy, record.pacing_lambda) == ("constant", 1.0)


# What may bid.


def test_a_pause_is_written_before_the_ledger_is_asked(loop):
    acted = loop.act(intent(campaign(1), campaign(2)), MIDNIGHT_MS)
    one, two = loop.row(acted, 10), loop.row(acted, 20)
    assert loop.live.is_active[[one, two]].tolist() == [1, 1]
    paused = intent(replaced(campaign(1), status=Status.PAUSED), campaign(2), version=2)
    with pytest.raises(NotReady):
        loop.act(paused, MIDNIGHT_MS + 1, NotReady("recorder"))
    assert loop.live.is_active[[one, two]].tolist() == [0, 1]
    # The ledger is back: what could not be published is published now, and the pause stays.
    assert loop.act(paused, MIDNIGHT_MS + 2).snapshot.head.intent_version == 2
    assert loop.live.is_active[[one, two]].tolist() == [0, 1]
    resumed = intent(campaign(1), campaign(2), version=3)
    loop.act(resumed, MIDNIGHT_MS + 3)
    assert loop.live.is_active[[one, two]].tolist() == [1, 1]


def test_an_ended_line_item_is_switched_off_and_its_row_kept(loop):
    both = campaign(1, (line_item(10), line_item(11)))
    acted = loop.act(intent(both), MIDNIGHT_MS)
    first, second = loop.row(acted, 10), loop.row(acted, 11)
    rest = campaign(1, (line_item(11), line_item(12)))
    acted = loop.act(intent(rest, version=2), MIDNIGHT_MS + 1)
    assert loop.live.is_active[[first, second]].tolist() == [0, 1]
    assert loop.row(acted, 11) == second
    assert loop.row(acted, 12) not in (first, second)
    assert not acted.snapshot.arrays.line_items["is_used"][first]
    acted = loop.act(intent(both, version=3), MIDNIGHT_MS + 2)
    assert (loop.row(acted, 10), loop.live.is_active[first]) == (first, 1)


def test_a_campaign_that_is_gone_is_switched_off(loop):
    acted = loop.act(intent(campaign(1), campaign(2)), MIDNIGHT_MS)
    loop.act(intent(campaign(2), version=2), MIDNIGHT_MS + 1)
    assert loop.live.is_active[loop.row(acted, 10)] == 0
    assert loop.live.is_active[loop.row(acted, 20)] == 1


def test_rows_of_an_earlier_run_stay_put_and_versions_go_on():
    loop = Loop(snapshot_version=41, rows={10: 3})
    acted = loop.act(intent(campaign(1), campaign(2)), MIDNIGHT_MS)
    assert acted.snapshot.head.version == 42
    assert (loop.row(acted, 10), loop.row(acted, 20)) == (3, 0)


# What policies see.


def progress_of(monkeypatch):
    """Records every (state, plan, progress) that the PID policy is shown."""
    seen = []
    step = pid.step

    def recorded(state, plan, progress):
        seen.append((state, plan, progress))
        return step(state, plan, progress)

    monkeypatch.setattr(pid, "step", recorded)
    return seen


def test_a_new_day_is_a_new_plan_but_keeps_what_was_learned(loop, monkeypatch):
    seen = progress_of(monkeypatch)
    one = campaign()
    counted = activity(10, impressions=900, conversions=9, spend_micros=70_000_000,
                       expected_conversions=12.0)  # fmt: skip
    evening = MIDNIGHT_MS + DAY_MS - TICK_MS
    loop.act(intent(one), MIDNIGHT_MS)
    loop.act(intent(one), evening, view(spent_by(one, evening, 70_000_000), [counted]))
    learned = loop.loop._campaigns[1].policy_state
    midnight = MIDNIGHT_MS + DAY_MS
    loop.act(intent(one), midnight, view(spent_by(one, evening, 70_000_000), [counted]))
    state, plan, progress = seen[-1]
    assert state == learned != pid.start(plan)
    assert (plan.start_at_ms, plan.end_at_ms) == (midnight, midnight + DAY_MS)
    assert progress[1:6] == (0, 0, 0, 0, 0)
    assert progress.expected_conversions == progress.expected_conversions_lagged == 0.0


def test_a_new_budget_day_is_published_at_midnight_whenever_the_next_tick_is(loop):
    one = campaign()
    midnight = MIDNIGHT_MS + DAY_MS
    late = midnight - TICK_MS // 2
    yesterday = loop.act(intent(one), late).snapshot.arrays.budgets
    assert loop.act(intent(one), midnight - 1) is None
    acted = loop.act(intent(one), midnight)
    assert acted is not None
    assert acted.records == (), "no policy steps before its tick"
    today = acted.snapshot.arrays.budgets
    assert today["start_at_ms"].min() == midnight
    assert not set(today["budget_id"].tolist()) & set(yesterday["budget_id"].tolist())
    assert loop.act(intent(one), midnight + 1) is None


def test_conversions_of_yesterday_are_held_against_what_yesterday_expected(loop, monkeypatch):
    """As expected all along: 10 in each half hour, and each comes an hour later."""
    seen = progress_of(monkeypatch)
    one = campaign()
    begun = MIDNIGHT_MS + DAY_MS - 6 * TICK_MS
    for tick in range(12):
        counted = activity(
            10, impressions=1, expected_conversions=10.0 * tick, conversions=10 * max(tick - 2, 0)
        )
        loop.act(intent(one), begun + tick * TICK_MS, view(line_items=[counted]))
        _, plan, progress = seen[-1]
        assert progress.conversions == progress.expected_conversions_lagged
    assert plan.start_at_ms == MIDNIGHT_MS + DAY_MS
    assert (progress.conversions, progress.expected_conversions) == (50, 50.0)


def test_a_restart_in_the_middle_of_a_day_counts_money_and_results_from_the_same_time(
    loop, monkeypatch
):
    seen = progress_of(monkeypatch)
    one = campaign()
    noon = MIDNIGHT_MS + DAY_MS // 2
    morning = activity(10, conversions=10, spend_micros=50_000_000, expected_conversions=10.0)
    loop.act(intent(one), noon, view(spent_by(one, noon, 50_000_000), [morning]))
    _, plan, progress = seen[-1]
    assert (plan.start_at_ms, progress.budget_spend_micros) == (MIDNIGHT_MS, 50_000_000)
    assert (progress.spend_micros, progress.conversions, progress.expected_conversions) == (0, 0, 0)
    later = activity(10, conversions=12, spend_micros=60_000_000, expected_conversions=12.0)
    now = noon + TICK_MS
    loop.act(intent(one), now, view(spent_by(one, now, 60_000_000), [later]))
    _, _, progress = seen[-1]
    assert (progress.spend_micros, progress.conversions) == (10_000_000, 2)
    assert progress.budget_spend_micros == 60_000_000


def test_expected_conversions_lag_by_an_hour_and_old_ticks_are_forgotten(loop, monkeypatch):
    seen = progress_of(monkeypatch)
    one = campaign()
    for tick in range(40):
        counted = activity(10, expected_conversions=float(tick))
        loop.act(intent(one), MIDNIGHT_MS + tick * TICK_MS, view(line_items=[counted]))
        assert seen[-1][2].expected_conversions == tick
        assert seen[-1][2].expected_conversions_lagged == max(tick - LAG_MS // TICK_MS, 0)
    assert len(loop.loop._campaigns[1].history) <= LAG_MS // TICK_MS + 1


def test_the_budget_with_the_least_left_is_planned_with(loop, monkeypatch):
    seen = progress_of(monkeypatch)
    flight = Flight(MIDNIGHT_MS - 9 * DAY_MS, MIDNIGHT_MS + DAY_MS)
    one = campaign(
        budget=Budget(daily_micros=100_000_000, lifetime_micros=900_000_000), flight=flight
    )
    daily, lifetime = budgets_of(one, MIDNIGHT_MS)
    assert (daily.is_daily, lifetime.is_daily) == (1, 0)
    loop.act(intent(one), MIDNIGHT_MS)
    assert seen[-1][1].budget_micros == 100_000_000
    spent = view(b for b in spent_by(one, MIDNIGHT_MS, 850_000_000) if b.limit_micros > 10**8)
    loop.act(intent(one), MIDNIGHT_MS + TICK_MS, spent)
    _, plan, progress = seen[-1]
    assert (plan.budget_micros, progress.budget_spend_micros) == (900_000_000, 850_000_000)
    assert (plan.start_at_ms, plan.end_at_ms) == (flight.start_at_ms, flight.end_at_ms)


def test_a_lifetime_budget_without_a_flight_plans_each_day_with_what_is_left(loop, monkeypatch):
    seen = progress_of(monkeypatch)
    one = campaign(budget=Budget(lifetime_micros=100_000_000))
    loop.act(intent(one), MIDNIGHT_MS)
    next_day = MIDNIGHT_MS + DAY_MS
    loop.act(intent(one), next_day, view(spent_by(one, next_day, 60_000_000)))
    _, plan, progress = seen[-1]
    assert (plan.budget_micros, progress.budget_spend_micros) == (40_000_000, 0)
    loop.act(intent(one), next_day + TICK_MS, view(spent_by(one, next_day, 70_000_000)))
    _, plan, progress = seen[-1]
    assert (plan.budget_micros, progress.budget_spend_micros) == (40_000_000, 10_000_000)
    loop.act(intent(one), next_day + DAY_MS, view(spent_by(one, next_day, 100_000_000)))
    assert seen[-1][1].budget_micros == 1


def test_late_wins_count_as_spend(loop, monkeypatch):
    seen = progress_of(monkeypatch)
    (budget,) = spent_by(campaign(), MIDNIGHT_MS, 30_000_000)
    budget = msgspec.structs.replace(budget, spent_late_micros=5_000_000)
    loop.act(intent(campaign()), MIDNIGHT_MS, view([budget]))
    assert seen[-1][2].budget_spend_micros == 35_000_000


@given(
    start=st.none() | st.integers(MIDNIGHT_MS - 3 * DAY_MS, MIDNIGHT_MS + 3 * DAY_MS),
    length=st.none() | st.integers(1, 5 * DAY_MS),
    budget=st.sampled_from([Budget(1), Budget(None, 10**9), Budget(10**6, 10**9)]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Kiritimati"]),
    at=st.integers(-3 * DAY_MS, 3 * DAY_MS),
)
def test_every_plan_has_a_span_and_money(start, length, budget, zone, at):
    end = None if length is None else (start or MIDNIGHT_MS) + length
    one = campaign(budget=budget, time_zone=zone, flight=Flight(start, end))
    for row in budgets_of(one, MIDNIGHT_MS + at):
        plan = plan_of(one, row, MIDNIGHT_MS + at, TICK_MS)
        assert plan.end_at_ms - plan.start_at_ms >= TICK_MS
        assert plan.budget_micros == row.limit_micros > 0
        assert start is None or plan.start_at_ms >= start


# What reaches the snapshot.


def test_lifts_reach_the_snapshot_and_many_clicks_end_the_cold_start(loop):
    seen = [
        activity(101, clicks=6, expected_clicks=2.0),
        activity(102, clicks=40, expected_clicks=50.0),
    ]
    acted = loop.act(intent(campaign()), MIDNIGHT_MS, view(creatives=seen))
    creatives = acted.snapshot.arrays.creatives
    assert creatives["creative_id"].tolist() == [101, 102]
    assert creatives["lift_shape"].tolist() == [10.0, 44.0]
    assert creatives["lift_rate"].tolist() == [6.0, 54.0]
    assert creatives["is_cold"].tolist() == [1, 0]


def test_the_observed_value_of_conversions_replaces_the_expected_one_in_bid_and_plan(
    loop, monkeypatch
):
    seen = progress_of(monkeypatch)
    goal = Goal(kind=GoalKind.TARGET_ROAS, target_roas=4.0, value_per_conversion_micros=8_000_000)
    one = campaign(1, (line_item(10), line_item(11, (creative(111),))), goal=goal)

    def conversion_micros(*counts):
        loop = Loop()
        items = [
            activity(item, conversions=count, conversion_value_micros=count * 10_000_000)
            for item, count in zip((10, 11), counts, strict=True)
        ]
        acted = loop.act(intent(one), MIDNIGHT_MS, view(line_items=items))
        found = set(acted.snapshot.arrays.line_items["conversion_micros"].tolist())
        assert found == {seen[-1][1].conversion_micros}
        return found.pop()

    assert conversion_micros(9, 10) == 2_000_000, "too few to say"
    assert conversion_micros(10, 10) == 2_500_000


def test_records_say_what_was_set_and_why(loop):
    acted = loop.act(intent(campaign()), MIDNIGHT_MS)
    (record,) = acted.records
    row = loop.row(acted, 10)
    assert (record.at_ms, record.campaign_id, record.policy) == (MIDNIGHT_MS, 1, "pid")
    assert record.pacing_lambda == loop.live.pacing_lambda[row]
    assert record.budget_micros == 100_000_000
    assert "the budget sets the bid" in record.reason
