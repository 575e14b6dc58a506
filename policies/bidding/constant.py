"""The first rung: bid the value, spend the budget as fast as the market gives it (accelerated).

Every other policy must beat it on paired episodes. Source of the comparison: the "constant"
baseline of auto-bidding benchmarks; a constant multiplier is optimal when prices and values do not
drift and the budget does not bind (Aggarwal, Badanidiyuru and Mehta, WINE 2019).
"""

from __future__ import annotations

from policies.bidding.protocol import Plan, Progress, Setting, multiplier_setting

ALPHA = 1.0


class State(tuple[()]):
    """Nothing to remember."""

    __slots__ = ()


def start(plan: Plan) -> State:  # noqa: ARG001 - same signature in every policy
    """Returns the empty state."""
    return State()


def step(state: State, plan: Plan, progress: Progress) -> tuple[State, Setting]:
    """Returns the constant multiplier, whatever happened."""
    left = max(plan.budget_micros - progress.budget_spend_micros, 0) / plan.budget_micros
    return state, multiplier_setting(
        ALPHA, f"accelerated delivery: bids the full value while budget is left ({left:.0%})"
    )
