"""Control laws: how a bidder sets the multiplier of its bids from what it spent and what it got.

A law is a scalar kernel, one agent's step; ``set_weights`` steps many agents at a tick. A bid is
alpha * T * value, where T is what a unit of value may cost; laws move alpha.

* constant: alpha = gain.
* pid: min-pacing PID, the law of ``policies/bidding/pid.py``, which computes by this kernel.
* pacing: adaptive pacing, alpha = 1 / (1 + mu), where mu >= 0 is the multiplier of the budget
  constraint and moves against the tick's spend:
  mu <- clip(mu + gain (spend of the tick / planned spend of a tick - 1), 0, MU_MAX).
  Source: Balseiro and Gur, "Learning in repeated auctions with budgets: regret minimization and
  equilibrium", Management Science 65, 2019, algorithm 1; scaled by the plan so that one gain fits
  all budgets, and stepped per tick instead of per auction.

Dimension names: A = agents.
"""
# As in market.kernels: an int of the compiler is an np.int64, to numpy's stubs they are strangers.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from market.kernel import kernel

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

EXTERNAL = 0
"""The agent's weight is set from outside."""
CONSTANT = 1
PID = 2
PACING = 3
LAWS = (EXTERNAL, CONSTANT, PID, PACING)

PACE_START = 0.125
PACE_GAIN = 6.0
PACE_INTEGRAL_GAIN = 0.1
LIMIT_GAIN = 0.1
LIMIT_MIN = -2.0
LIMIT_MAX = 1.5
LOG_ALPHA_MIN = -3.0
LOG_ALPHA_MAX = 1.0
TICKS_TUNED = 48
"""Ticks of the span that the gains of both PID sums were tuned for."""
MU_MAX = 20.0

# Columns of the memory [A, MEMORY_SIZE] of set_weights.
ERROR_SUM = 0
LIMIT = 1
MU = 2
SPEND_BEFORE = 3
MEMORY_SIZE = 4


@kernel
def believed_value(forecast: float, observed: float, forecast_lagged: float, prior: float) -> float:
    """Returns the forecast corrected by observed / forecast, shrunk towards 1 by ``prior``.

    What is observed late is held against the forecast of then (``forecast_lagged``), so that what
    is still under way does not read as a failure.
    """
    return forecast * ((observed + prior) / (forecast_lagged + prior))


@kernel
def pid_step(
    error_sum: float,
    limit: float,
    money_left: float,
    time_left: float,
    tick_weight: float,
    cost_ratio: float,
    has_target: bool,
) -> tuple[float, float, float, float]:
    """Returns the next error_sum and limit, then pace and alpha, of the min-pacing PID.

    Args:
        error_sum: weighted sum of pacing errors; 0 at the start.
        limit: log alpha that the target allows; PACE_START at the start.
        money_left: share of the budget.
        time_left: share of the span.
        tick_weight: min(TICKS_TUNED ticks / ticks of the span, 1).
        cost_ratio: cost / (believed value * T); below 0: nothing to go by yet.
        has_target: whether the cost ratio must not exceed 1.
    """
    error = money_left - time_left
    error_sum = error_sum + tick_weight * error
    pace = PACE_START + PACE_GAIN * error + PACE_INTEGRAL_GAIN * error_sum
    bound = pace
    if has_target:
        if cost_ratio >= 0.0:
            limit = limit + LIMIT_GAIN * tick_weight * (1.0 - cost_ratio)
        limit = min(max(limit, LIMIT_MIN), LIMIT_MAX)
        bound = min(pace, limit)
    alpha = math.exp(min(max(bound, LOG_ALPHA_MIN), LOG_ALPHA_MAX))
    return error_sum, limit, pace, alpha


@kernel
def pacing_step(mu: float, gain: float, spend: float, planned: float) -> float:
    """Returns the next multiplier of the budget constraint; ``planned`` > 0, as ``spend``."""
    return min(max(mu + gain * (spend / planned - 1.0), 0.0), MU_MAX)


@kernel
def start_laws(memory: F64) -> None:
    """Fills memory[A, MEMORY_SIZE] with what laws start from.

    A pacing agent starts at mu = 1 (alpha = 1/2).
    """
    for a in range(memory.shape[0]):
        memory[a, ERROR_SUM] = 0.0
        memory[a, LIMIT] = PACE_START
        memory[a, MU] = 1.0
        memory[a, SPEND_BEFORE] = 0.0


@kernel
def set_weights(
    tick: int,
    law: U8,
    gain: F64,
    unit_micros: F64,
    has_target: U8,
    is_return: U8,
    prior: F64,
    enter_tick: I64,
    leave_tick: I64,
    budget_micros: I64,
    spend_micros: I64,
    value_sum: F64,
    value_sum_lagged: F64,
    conversions: I64,
    return_micros: I64,
    memory: F64,
    weight: F32,
) -> None:
    """Sets weight[A], micros per unit of value, for ``tick``; an EXTERNAL agent keeps its own.

    Args:
        tick: about to start.
        law: [A] of LAWS.
        gain: [A] constant: alpha; pacing: step size; unused by pid.
        unit_micros: [A] T, what a unit of value may cost.
        has_target: [A] whether spend / (value * T) must not exceed 1.
        is_return: [A] 0: value is a probability and conversions are what is observed; 1: value is a
            return in units of currency and return_micros is.
        prior: [A] weight of "the forecast is right", in units of value.
        enter_tick: [A] first tick in which the agent bids.
        leave_tick: [A] first tick after it in which it does not.
        budget_micros: [A] to be spent between the two, > 0.
        spend_micros: [A] so far.
        value_sum: [A] forecast of what the exposures so far bring.
        value_sum_lagged: [A] the same, as of when what is observed now was shown.
        conversions: [A] so far.
        return_micros: [A] so far.
        memory: [A, MEMORY_SIZE] of ``start_laws``; changed in place.
        weight: [A] written.
    """
    for a in range(law.shape[0]):
        if law[a] == EXTERNAL or tick < enter_tick[a] or tick >= leave_tick[a]:
            continue
        alpha = gain[a]
        span = np.float64(leave_tick[a] - enter_tick[a])
        if law[a] == PID:
            observed = np.float64(conversions[a])
            if is_return[a]:
                observed = np.float64(return_micros[a]) / 1e6
            worth = unit_micros[a] * believed_value(
                value_sum[a], observed, value_sum_lagged[a], prior[a]
            )
            memory[a, ERROR_SUM], memory[a, LIMIT], _, alpha = pid_step(
                memory[a, ERROR_SUM],
                memory[a, LIMIT],
                1.0 - spend_micros[a] / budget_micros[a],
                np.float64(leave_tick[a] - tick) / span,
                min(TICKS_TUNED / span, 1.0),
                spend_micros[a] / worth if worth > 0.0 else -1.0,
                has_target[a] != 0,
            )
        elif law[a] == PACING:
            if tick > enter_tick[a]:
                memory[a, MU] = pacing_step(
                    memory[a, MU],
                    gain[a],
                    np.float64(spend_micros[a]) - memory[a, SPEND_BEFORE],
                    budget_micros[a] / span,
                )
            memory[a, SPEND_BEFORE] = np.float64(spend_micros[a])
            alpha = 1.0 / (1.0 + memory[a, MU])
        weight[a] = np.float32(alpha * unit_micros[a])
