from __future__ import annotations

from hypothesis import given

from policies.bidding import constant
from tests.policies.days import DAYS, PLANS, plan, progress


@given(a_plan=PLANS, day=DAYS)
def test_it_bids_the_full_value_whatever_happens(a_plan, day):
    state = constant.start(a_plan)
    for tick in day:
        state, setting = constant.step(state, a_plan, tick)
        assert setting[:3] == (1.0, 0.0, 1.0)
        assert "accelerated delivery" in setting.reason


def test_its_reason_says_how_much_of_the_budget_is_left():
    state = constant.start(plan())
    _, half = constant.step(state, plan(), progress(budget_spend_micros=50_000_000))
    assert "(50%)" in half.reason
    _, over = constant.step(state, plan(), progress(budget_spend_micros=150_000_000))
    assert "(0%)" in over.reason
