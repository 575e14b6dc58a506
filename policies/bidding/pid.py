"""Min-pacing PID: one loop keeps the spend on plan, another keeps the ratio; the lower one bids.

    e     = remaining / B - time left / span            (positive: underspent)
    pace  = P0 + P e + I sum(w e)
    limit = clip(limit + G w (1 - C / (V T)), -2, 1.5)   (only with a target)
    log a = clip(min(pace, limit), -3, 1), bid = a v

V is the model's expected conversions corrected by what was observed, so that conversions that are
still under way do not read as failures. Gains and bounds: tuned on 400 simulated days of a
second-price market elsewhere (policy notes of this project, "PID, min-pacing": score/U .924, target
exceeded by more than 5 % on 1.5 % of days), with 48 ticks a day: w = min(48 tick / span, 1) makes
shorter ticks add up to the same. The correction and w are ours. The twin's agents bid by the same
kernel (``market.kernels_control.pid_step``). In a first-price auction the
cost of a win is the bid, so at C = V T the loop settles near a = 1.
"""

from __future__ import annotations

from typing import NamedTuple

from market.kernels_control import PACE_START, TICKS_TUNED, believed_value, pid_step
from policies.bidding.protocol import Plan, Progress, Setting, multiplier_setting

PRIOR_CONVERSIONS = 20.0
"""Weight of "the model is right" in the correction, in conversions."""


class State(NamedTuple):
    """Sum of pacing errors, and the log multiplier that the target allows."""

    error_sum: float
    limit: float


def start(plan: Plan) -> State:  # noqa: ARG001 - same signature in every policy
    """Returns the state before the first tick."""
    return State(error_sum=0.0, limit=PACE_START)


def step(state: State, plan: Plan, progress: Progress) -> tuple[State, Setting]:
    """Returns the next state and multiplier from the spend and conversions so far."""
    span_ms = plan.end_at_ms - plan.start_at_ms
    time_left = min(max(plan.end_at_ms - progress.now_ms, 0) / span_ms, 1.0)
    money_left = 1.0 - progress.budget_spend_micros / plan.budget_micros
    cost_ratio = -1.0
    if plan.has_target:
        worth_micros = believed_conversions(progress) * plan.conversion_micros
        if worth_micros > 0.0:
            cost_ratio = progress.spend_micros / worth_micros
    error_sum, limit, pace, alpha = pid_step(
        state.error_sum,
        state.limit,
        money_left,
        time_left,
        min(TICKS_TUNED * plan.tick_ms / span_ms, 1.0),
        cost_ratio,
        plan.has_target,
    )
    is_limited = plan.has_target and limit < pace
    reason = _reason(alpha, money_left - time_left, max(cost_ratio, 0.0), is_limited=is_limited)
    return State(error_sum, limit), multiplier_setting(alpha, reason)


def believed_conversions(progress: Progress) -> float:
    """Returns expected conversions corrected by observed / expected, shrunk towards 1."""
    return believed_value(
        float(progress.expected_conversions),
        float(progress.conversions),
        float(progress.expected_conversions_lagged),
        PRIOR_CONVERSIONS,
    )


def _reason(alpha: float, error: float, cost_ratio: float, *, is_limited: bool) -> str:
    if is_limited:
        side = "above" if cost_ratio > 1.0 else "below"
        return (
            f"bids {alpha:.2f} x value: cost per result is {cost_ratio:.0%} of target ({side}), "
            "the target limits the bid"
        )
    side = "behind" if error > 0 else "ahead of"
    return (
        f"bids {alpha:.2f} x value: spend is {abs(error):.1%} of budget {side} plan, "
        "the budget sets the bid"
    )
