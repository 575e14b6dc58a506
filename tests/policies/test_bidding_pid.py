from __future__ import annotations

import math

import pytest
from hypothesis import given

from policies.bidding import pid
from tests.policies.days import DAY_MS, DAYS, PLANS, START_MS, plan, progress
from tests.reference import pid as reference


def run(a_plan, day):
    """The settings of a day, tick by tick."""
    state, found = pid.start(a_plan), []
    for tick in day:
        state, setting = pid.step(state, a_plan, tick)
        found.append(setting)
    return found


def alpha_of(a_plan, *day):
    return 1 / run(a_plan, day)[-1].pacing_lambda


@given(a_plan=PLANS, day=DAYS)
def test_the_multipliers_of_a_day_are_those_of_the_slow_twin(a_plan, day):
    found = [1 / setting.pacing_lambda for setting in run(a_plan, day)]
    assert found == pytest.approx(reference.alphas(a_plan, day), rel=1e-6)


@given(a_plan=PLANS, day=DAYS)
def test_a_setting_is_always_finite_and_within_its_bounds(a_plan, day):
    for setting in run(a_plan, day):
        alpha = 1 / setting.pacing_lambda
        assert math.exp(-3) * 0.999 <= alpha <= math.e * 1.001
        assert (setting.ratio_mu, setting.shading_factor) == (0.0, 1.0)
        assert setting.reason.startswith(f"bids {alpha:.2f} x value: ")


@given(a_plan=PLANS, day=DAYS)
def test_the_same_day_gives_the_same_settings(a_plan, day):
    assert run(a_plan, day) == run(a_plan, day)


def test_less_spent_than_planned_raises_the_bid_and_more_spent_lowers_it():
    no_target = plan(has_target=False)
    spends = [0, 20_000_000, 45_000_000, 50_000_000, 55_000_000, 70_000_000, 100_000_000]
    alphas = [alpha_of(no_target, progress(budget_spend_micros=spend)) for spend in spends]
    assert alphas == sorted(alphas, reverse=True)
    assert alphas[0] > alphas[3] > alphas[-1]


def test_a_lasting_shortfall_raises_the_bid_further_each_tick():
    no_target = plan(has_target=False)
    behind = progress(budget_spend_micros=49_000_000)
    settings = run(no_target, [behind] * 5)
    lambdas = [setting.pacing_lambda for setting in settings]
    assert lambdas == sorted(lambdas, reverse=True)
    assert len(set(lambdas)) == 5


def test_a_cost_above_target_lowers_the_bid_tick_by_tick_and_one_below_raises_it():
    # Far behind plan, so that the target decides.
    for spend, is_rising in ((80_000_000, False), (20_000_000, True)):
        tick = progress(budget_spend_micros=10_000_000, spend_micros=spend)
        lambdas = [setting.pacing_lambda for setting in run(plan(), [tick] * 4)]
        assert lambdas == sorted(lambdas, reverse=is_rising)
        assert len(set(lambdas)) == 4


def test_without_a_target_the_cost_per_result_changes_nothing():
    cheap = progress(spend_micros=1_000_000)
    dear = progress(spend_micros=900_000_000)
    no_target = plan(has_target=False)
    assert alpha_of(no_target, cheap, cheap) == alpha_of(no_target, dear, dear)
    assert alpha_of(plan(), cheap, cheap) != alpha_of(plan(), dear, dear)


def test_the_lower_of_budget_and_target_sets_the_bid_and_the_reason_names_it():
    dear = progress(budget_spend_micros=10_000_000, spend_micros=100_000_000)
    (setting,) = run(plan(), [dear])
    assert "cost per result is 200% of target (above), the target limits" in setting.reason
    cheap = progress(budget_spend_micros=10_000_000, spend_micros=25_000_000)
    (setting,) = run(plan(), [cheap])
    assert "cost per result is 50% of target (below), the target limits" in setting.reason
    ahead = progress(budget_spend_micros=80_000_000, spend_micros=25_000_000)
    (setting,) = run(plan(), [ahead])
    assert "spend is 30.0% of budget ahead of plan, the budget sets the bid" in setting.reason
    (setting,) = run(plan(has_target=False), [progress(budget_spend_micros=40_000_000)])
    assert "spend is 10.0% of budget behind plan, the budget sets the bid" in setting.reason


def test_conversions_under_way_do_not_read_as_failures():
    """The model expects 40; the 10 that an hour ago were expected have all come."""
    young = progress(
        budget_spend_micros=10_000_000, spend_micros=150_000_000, conversions=10,
        expected_conversions=40.0, expected_conversions_lagged=10.0,
    )  # fmt: skip
    assert pid.believed_conversions(young) == 40.0
    none_came = young._replace(conversions=0)
    assert pid.believed_conversions(none_came) == pytest.approx(40 * 20 / 30)
    assert alpha_of(plan(), none_came) < alpha_of(plan(), young)


def test_thirty_short_ticks_add_up_to_what_one_long_tick_does():
    tick = progress(budget_spend_micros=10_000_000, spend_micros=60_000_000)
    one = alpha_of(plan(), tick)
    thirty = alpha_of(plan(tick_ms=60_000), *[tick] * 30)
    assert thirty == pytest.approx(one, rel=1e-9)


def test_after_the_end_of_the_span_it_still_answers():
    late = progress(budget_spend_micros=100_000_000)._replace(now_ms=START_MS + 3 * DAY_MS)
    assert math.isfinite(alpha_of(plan(), late))
