"""What holds of every policy on the ladder, and of the names by which campaigns ask for them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from market.campaign import Campaign
from market.errors import BadInput
from policies.bidding import POLICIES, policy_named
from policies.bidding.protocol import multiplier_setting
from tests.policies.days import DAYS, PLANS


@pytest.mark.parametrize("name", POLICIES)
@given(a_plan=PLANS, day=DAYS)
def test_every_setting_of_every_policy_can_go_into_the_bid_formula(name, a_plan, day):
    policy = policy_named(name)
    state = policy.start(a_plan)
    for tick in day:
        state, setting = policy.step(state, a_plan, tick)
        assert all(math.isfinite(number) for number in setting[:3])
        assert setting.pacing_lambda > 0
        assert setting.ratio_mu >= 0
        assert 0 < setting.shading_factor <= 1
        assert setting.reason


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_a_file_of_its_name(name):
    assert policy_named(name).__name__ == f"policies.bidding.{name}"


def test_the_policy_that_a_campaign_has_by_default_is_on_the_ladder():
    (default,) = (f.default for f in fields(Campaign) if f.name == "policy")
    assert default in POLICIES


def test_an_unknown_policy_is_refused_with_the_names_of_those_that_exist():
    with pytest.raises(BadInput, match=r"policy 'rl': it must be one of constant, pid") as refused:
        policy_named("rl")
    assert refused.value.pointer == "/policy"


@given(alpha=st.floats(0.01, 10), value=st.floats(1, 1e9))
def test_a_multiplier_setting_bids_so_many_times_the_value(alpha, value):
    setting = multiplier_setting(alpha, "why")
    bid = value * (1 + setting.ratio_mu) / (setting.pacing_lambda + setting.ratio_mu)
    assert bid == pytest.approx(alpha * value)
