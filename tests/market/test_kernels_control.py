"""Control laws against their formulas, and what they do in a market."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import kernels_control as control
from policies.bidding import pid
from tests.policies.days import DAYS, PLANS
from tests.reference import period as reference
from tests.reference import pid as pid_reference

pytestmark = pytest.mark.plain

SHARES = st.floats(0, 1)


class Desk:
    """Agents at a tick, one attribute per argument of ``set_weights``."""

    def __init__(self, count, **given):
        self.law = np.full(count, control.PID, np.uint8)
        self.gain = np.ones(count)
        self.unit_micros = np.full(count, 50e6)
        self.has_target = np.ones(count, np.uint8)
        self.is_return = np.zeros(count, np.uint8)
        self.prior = np.full(count, 20.0)
        self.enter_tick = np.zeros(count, np.int64)
        self.leave_tick = np.full(count, 48)
        self.budget_micros = np.full(count, 10**9)
        self.spend_micros = np.zeros(count, np.int64)
        self.value_sum = np.zeros(count)
        self.value_sum_lagged = np.zeros(count)
        self.conversions = np.zeros(count, np.int64)
        self.return_micros = np.zeros(count, np.int64)
        self.memory = np.empty((count, control.MEMORY_SIZE))
        self.weight = np.zeros(count, np.float32)
        control.start_laws(self.memory)
        for name, value in given.items():
            getattr(self, name)[:] = value

    def step(self, tick):
        control.set_weights(tick, *vars(self).values())
        return (self.weight / self.unit_micros).tolist()


@given(a_plan=PLANS, day=DAYS)
def test_the_policy_and_the_twin_s_agents_bid_by_one_pid(a_plan, day):
    """A day of the policy, tick by tick, through the vectorised step: the same multipliers."""
    span = a_plan.end_at_ms - a_plan.start_at_ms
    state, memory = pid.start(a_plan), np.empty((1, control.MEMORY_SIZE))
    control.start_laws(memory)
    limits = (memory[0, control.ERROR_SUM], memory[0, control.LIMIT])
    wanted = pid_reference.alphas(a_plan, day)
    for tick, alpha in zip(day, wanted, strict=True):
        state, setting = pid.step(state, a_plan, tick)
        worth = pid.believed_conversions(tick) * a_plan.conversion_micros
        *limits, _, mine = control.pid_step(
            *limits,
            1.0 - tick.budget_spend_micros / a_plan.budget_micros,
            min(max(a_plan.end_at_ms - tick.now_ms, 0) / span, 1.0),
            min(48 * a_plan.tick_ms / span, 1.0),
            tick.spend_micros / worth if worth > 0 else -1.0,
            a_plan.has_target,
        )
        assert tuple(limits) == tuple(state)
        assert 1.0 / mine == setting.pacing_lambda
        assert mine == pytest.approx(alpha, rel=1e-6)


@given(
    st.lists(st.tuples(st.integers(0, 3 * 10**7), st.floats(0, 2), st.integers(0, 3)), min_size=48,
             max_size=48),
    st.booleans(),
)  # fmt: skip
def test_a_day_of_pid_weights_is_the_slow_twin_s(steps, has_target):
    desk, wanted = Desk(1, has_target=has_target), []
    errors, limit = [], 0.125
    for tick, (spend, value, conversions) in enumerate(steps):
        errors.append((1 - int(desk.spend_micros[0]) / 1e9) - (48 - tick) / 48)
        log_alpha = 0.125 + 6 * errors[-1] + 0.1 * sum(errors)
        if has_target:
            seen = float(desk.value_sum[0])
            worth = seen * (int(desk.conversions[0]) + 20) / (seen + 20) * 50e6
            if worth > 0:
                limit += 0.1 * (1 - int(desk.spend_micros[0]) / worth)
            limit = min(max(limit, -2), 1.5)
            log_alpha = min(log_alpha, limit)
        wanted.append(math.exp(min(max(log_alpha, -3), 1)))
        assert desk.step(tick) == pytest.approx([wanted[-1]], rel=1e-6)
        desk.spend_micros += spend
        desk.value_sum += value
        desk.value_sum_lagged[:] = desk.value_sum
        desk.conversions += conversions


@given(st.lists(st.integers(0, 10**8), min_size=12, max_size=12), st.floats(0, 2))
def test_a_day_of_pacing_is_the_slow_twin_s(spends, gain):
    desk = Desk(1, law=control.PACING, gain=gain, leave_tick=12)
    found = []
    for tick, spend in enumerate(spends):
        found += desk.step(tick)
        desk.spend_micros += spend
    assert found == pytest.approx(reference.pacing_alphas(gain, 10**9, 12, spends), rel=1e-6)


def test_each_agent_follows_its_own_law_in_its_own_time():
    desk = Desk(
        5,
        law=[control.CONSTANT, control.PACING, control.PID, control.EXTERNAL, control.CONSTANT],
        gain=[0.7, 0.2, 1.0, 1.0, 0.9],
        enter_tick=[0, 0, 0, 0, 3],
        weight=[1, 2, 3, 4, 5],
    )
    alphas = desk.step(0)
    assert alphas[:3] == pytest.approx([0.7, 0.5, math.exp(0.125)])
    assert desk.weight[3:].tolist() == [4, 5]
    desk.step(3)
    assert desk.weight[4] == pytest.approx(0.9 * 50e6)


def test_a_late_agent_paces_over_its_own_span():
    """Half the ticks for the same budget: on plan at twice the spend of a tick, behind at less."""
    desk = Desk(3, law=control.PACING, gain=0.5, enter_tick=[0, 24, 24])
    for tick in range(30):
        alphas = desk.step(tick)
        desk.spend_micros[0] += 10**9 // 48
        if tick >= 24:
            desk.spend_micros[1:] += [2 * 10**9 // 48, 10**9 // 48]
    assert alphas[:2] == pytest.approx([0.5, 0.5], rel=1e-6)
    assert alphas[2] > 0.6


def test_pid_counts_the_time_that_an_agent_has():
    """At the first tick of its span everybody is on plan; half way with all its money, behind."""
    desk = Desk(2, enter_tick=[0, 24], has_target=0)
    assert desk.step(24)[1] == pytest.approx(math.exp(0.125))
    desk.spend_micros[1] = 45 * 10**7
    # 55 % of the money for half of the time: e = .05, and it was 0 before.
    assert desk.step(36)[1] == pytest.approx(math.exp(0.125 + 6 * 0.05 + 0.1 * 0.05), rel=1e-6)


@pytest.mark.parametrize(("ticks", "share"), [(12, 1.0), (48, 1.0), (96, 0.5)])
def test_a_longer_day_adds_up_errors_in_smaller_steps(ticks, share):
    """Gains were tuned for 48 ticks: twice as many count half, fewer are not stretched."""
    desk = Desk(1, leave_tick=ticks, has_target=0)
    desk.step(ticks // 4)
    assert desk.memory[0, control.ERROR_SUM] == pytest.approx(0.25 * share)


def test_a_return_goal_reads_returns():
    """T = 1 / ROAS: a return of 2 per unit spent is at target when 2 are wanted."""
    good, bad = Desk(1, is_return=1, unit_micros=0.5e6), Desk(1, is_return=1, unit_micros=0.5e6)
    for desk, earned in ((good, 300), (bad, 100)):
        desk.spend_micros[:] = 100_000_000
        desk.value_sum[:] = desk.value_sum_lagged[:] = 200.0
        desk.return_micros[:] = earned * 1_000_000
        desk.step(5)
    assert good.memory[0, control.LIMIT] > control.PACE_START > bad.memory[0, control.LIMIT]


@given(SHARES, st.floats(-5, 5), st.floats(0, 10))
def test_the_multiplier_of_the_budget_stays_in_its_bounds(mu, gain, spend):
    assert 0.0 <= control.pacing_step(mu, abs(gain), spend, 1.0) <= control.MU_MAX
