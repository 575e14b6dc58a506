"""A period from its first tick to its last: who bids when, what is booked, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from market.auction import Rule
from market.errors import BadInput
from market.kernels_control import CONSTANT, EXTERNAL, PACE_START, PACING, PID, pid_step
from simulator.period.engine import Agents, check_supply, run_period, run_periods
from simulator.period.seam import STATUS_ABSENT, STATUS_LIVE, STATUS_OUT, new_supply, no_deals

WEIGHTS = np.array([1_000_000, 500_000])


class Fixed:
    """A world in which values are what a test says and every exposure brings two conversions."""

    slot_weights_micros = WEIGHTS

    def __init__(self, value, counts, *, late=0):
        self._value = np.asarray(value, np.float32)
        self.opportunity_counts = np.asarray(counts, np.int64)
        self._late, self.calls = late, []

    @property
    def agent_count(self):
        return self._value.shape[0]

    @property
    def deals(self):
        return no_deals(self.agent_count)

    def fill(self, tick, first, supply):
        self.calls.append(("fill", tick, first, supply.value.shape[1]))
        supply.value[:] = self._value[:, None]
        supply.floor_micros[:] = 2
        supply.soft_floor_micros[:] = 0
        supply.exposure_draw[:] = 0.25
        supply.slot_count[:] = 2
        supply.rule[:] = Rule.GSP
        check_supply(supply, 2)

    def settle(self, tick, first, supply, exposures, accounts):
        self.calls.append(("settle", tick, first, exposures.agent.shape[0]))
        np.add.at(accounts.conversions, exposures.agent, 2)

    def finish(self, accounts):
        accounts.conversions[:] += self._late


def agents(count, ticks, **given):
    made = Agents(
        budget_micros=np.full(count, 10**6),
        unit_micros=np.full(count, 10.0),
        has_target=np.zeros(count, np.uint8),
        is_return=np.zeros(count, np.uint8),
        law=np.full(count, CONSTANT, np.uint8),
        gain=np.ones(count),
        prior=np.full(count, 20.0),
        enter_tick=np.zeros(count, np.int64),
        leave_tick=np.full(count, ticks),
    )
    return made._replace(**{
        name: np.asarray(value, getattr(made, name).dtype) for name, value in given.items()
    })  # fmt: skip


def test_a_period_is_booked_tick_by_tick_and_adds_up():
    world = Fixed([3.0, 2.0, 1.0], [4, 0, 5], late=7)
    result = run_period(world, agents(3, 3))
    assert world.calls == [
        ("fill", 0, 0, 4), ("settle", 0, 0, 8), ("fill", 1, 4, 0), ("settle", 1, 4, 0),
        ("fill", 2, 4, 5), ("settle", 2, 4, 10),
    ]  # fmt: skip
    assert result.opportunities == 9
    # The first pays the second's 20, the second the third's 10.
    assert result.accounts.spend_micros.tolist() == [180, 90, 0]
    assert result.revenue_micros.tolist() == [180, 90]
    assert result.trace.spend_micros.tolist() == [[80, 40, 0], [80, 40, 0], [180, 90, 0]]
    assert result.trace.conversions[-1].tolist() == [18, 18, 0]
    assert result.accounts.conversions.tolist() == [25, 25, 7]
    assert result.accounts.value_sum.tolist() == [27.0, 18.0, 0.0]


def test_agents_bid_from_when_they_enter_until_they_leave():
    result = run_period(
        Fixed([3.0, 2.0, 1.0], [1] * 5), agents(3, 5, enter_tick=[2, 0, 0], leave_tick=[4, 5, 3])
    )
    assert result.trace.wins.tolist() == [
        [0, 1, 1], [0, 2, 2], [1, 3, 2], [2, 4, 2], [2, 5, 2],
    ]  # fmt: skip
    assert result.accounts.status.tolist() == [STATUS_ABSENT, STATUS_LIVE, STATUS_ABSENT]


def test_whoever_ran_dry_does_not_come_back_when_others_enter():
    result = run_period(
        Fixed([3.0, 2.0], [3, 3]), agents(2, 2, budget_micros=[45, 10**6], enter_tick=[0, 1])
    )
    assert result.accounts.spend_micros.tolist() == [26, 6]
    result = run_period(Fixed([3.0, 2.0], [3, 3]), agents(2, 2, budget_micros=[45, 10**6]))
    assert result.accounts.spend_micros.tolist() == [40, 12]
    assert result.accounts.status.tolist() == [STATUS_OUT, STATUS_LIVE]


def test_weights_from_outside_hold_for_external_agents_only():
    seen = []

    def bidders(view):
        seen.append((view.tick, view.accounts.spend_micros.tolist(), view.feedback is None))
        return np.full(2, 5.0 + view.tick, np.float32)

    result = run_period(Fixed([3.0, 2.0], [2, 2]), agents(2, 2, law=[CONSTANT, EXTERNAL]),
                        bidders=bidders)  # fmt: skip
    assert result.trace.weight.tolist() == [[10.0, 5.0], [10.0, 6.0]]
    assert seen == [(0, [0, 0], True), (1, [20, 4], False)]


@pytest.mark.parametrize(
    "weight", [[float("nan")], [float("inf")], [-1.0], [1e13], [1.0, 1.0], 1.0]
)
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(BadInput, match="weights of tick 0: must be 1, each 0 to"):
        run_period(Fixed([1.0], [1]), agents(1, 1, law=[EXTERNAL]),
                   bidders=lambda _: np.array(weight, np.float32))  # fmt: skip


@pytest.mark.parametrize("lag", [0, 1, 4])
def test_laws_hold_what_is_observed_against_the_forecast_of_then(lag):
    """Before tick t what was shown up to tick t - 1 - lag is taken for observed, nothing later."""
    given = agents(2, 12, law=[PID, PACING], has_target=[1, 1], unit_micros=[50.0, 50.0])
    found = run_period(Fixed([3.0, 2.0], [5] * 12), given, lag_ticks=lag).trace
    total, limit = 0.0, PACE_START
    for tick in range(12):
        left, ratio = 1.0, -1.0
        if tick > 0:
            left = 1.0 - found.spend_micros[tick - 1, 0] / 10**6
            then = found.value_sum[tick - 1 - lag, 0] if tick - 1 - lag >= 0 else 0.0
            believed = found.value_sum[tick - 1, 0] * (
                (found.conversions[tick - 1, 0] + 20.0) / (then + 20.0)
            )
            ratio = found.spend_micros[tick - 1, 0] / (50.0 * believed)
        total, limit, _, alpha = pid_step(total, limit, left, 1 - tick / 12, 1.0, ratio, True)
        assert found.weight[tick, 0] == np.float32(50.0 * alpha)


def test_whoever_has_less_than_the_minimum_left_is_out():
    result = run_period(
        Fixed([3.0, 2.0], [3, 3]), agents(2, 2, budget_micros=[45, 10**6]), min_remaining_micros=30
    )
    # 20 of 45 are spent, and 25 are too few.
    assert result.accounts.spend_micros.tolist() == [20, 12]


def test_periods_come_back_in_order():
    found = run_periods(
        lambda period: Fixed([3.0, 2.0], [period]), lambda _: agents(2, 1), [3, 1, 2], threads=2
    )
    assert [result.opportunities for result in found] == [3, 1, 2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"budget_micros": [5, 0]}, r"agents.budget_micros\[1\]: is 0; it must be > 0"),
        ({"unit_micros": [-1.0, 1.0]}, r"agents.unit_micros\[0\]: is -1.0; it must be 0 to"),
        ({"unit_micros": [float("nan"), 1.0]}, r"agents.unit_micros\[0\]: is nan"),
        ({"law": [9, 1]}, r"agents.law\[0\]: is 9; it must be one of"),
        ({"gain": [1.0, -1.0]}, r"agents.gain\[1\]: is -1.0; it must be >= 0"),
        ({"gain": [1e12, 1.0]}, r"agents.gain\[0\]"),
        ({"prior": [0.0, 1.0]}, r"agents.prior\[0\]: is 0.0; it must be > 0"),
        ({"leave_tick": [0, 2]}, r"agents.leave_tick\[0\]: is 0; it must be after enter_tick"),
        ({"enter_tick": [5, 0], "leave_tick": [9, 9]}, r"agents.enter_tick\[0\]: is 5; it must be"),
        ({"gain": [1.0]}, r"agents.gain: shape \(1,\); it must be \(2,\)"),
    ],
)
def test_agents_that_break_a_rule_are_refused_by_name(given, message):
    with pytest.raises(BadInput, match=message):
        run_period(Fixed([1.0, 1.0], [1, 1]), agents(2, 2, **given))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_remaining_micros": 0}, "min_remaining_micros: is 0; it must be at least 1"),
        ({"lag_ticks": -1}, "lag_ticks: is -1; it must not be negative"),
    ],
)
def test_options_that_break_a_rule_are_refused(options, message):
    with pytest.raises(BadInput, match=message):
        run_period(Fixed([1.0], [1]), agents(1, 1), **options)


def test_somebody_must_bid_for_external_agents():
    with pytest.raises(BadInput, match="bidders must be given"):
        run_period(Fixed([1.0, 1.0], [1]), agents(2, 1, law=[CONSTANT, EXTERNAL]))


@pytest.mark.parametrize("weights", [[], [0], [500_000, 600_000], [1_000_001]])
def test_slot_weights_that_are_none_are_refused(weights):
    world = Fixed([1.0], [1])
    world.slot_weights_micros = np.array(weights, np.int64)
    with pytest.raises(BadInput, match="slot_weights_micros: is"):
        run_period(world, agents(1, 1))


@pytest.mark.parametrize(
    ("name", "value"),
    [("value", np.nan), ("value", -1), ("floor_micros", 0), ("floor_micros", 2.5),
     ("soft_floor_micros", -1), ("exposure_draw", 1.0), ("slot_count", 3), ("rule", 0)],
)  # fmt: skip
def test_a_world_that_breaks_the_rules_of_supply_is_seen(name, value):
    supply = new_supply(2, 3)
    supply.rule[:] = Rule.GSP
    check_supply(supply, 2)
    getattr(supply, name)[...] = value
    with pytest.raises(AssertionError):
        check_supply(supply, 2)
