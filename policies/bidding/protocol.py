"""What every bid policy speaks: it sees one campaign's progress and sets its bid formula.

One variant is one file with the same two functions: ``start(plan) -> State`` and
``step(state, plan, progress) -> (State, Setting)``. Both are pure; a policy never reads a clock, a
file or another campaign. A setting always comes with its reason, in words a media buyer knows.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Plan(NamedTuple):
    """What the campaign wants on this budget day; money in account micros.

    Attributes:
        budget_micros: what may be spent from start to end (the tightest budget in force), > 0.
        conversion_micros: T of the bid formula (what a conversion may cost or is worth).
        has_target: True if spend / (conversions x T) must not exceed 1 (target CPA or ROAS).
        start_at_ms, end_at_ms: the span over which the budget is to last.
        tick_ms: time between two steps.
    """

    budget_micros: int
    conversion_micros: int
    has_target: bool
    start_at_ms: int
    end_at_ms: int
    tick_ms: int


class Progress(NamedTuple):
    """What the ledger says of the campaign.

    ``budget_spend_micros`` counts from ``plan.start_at_ms``. All others count from the first tick
    that saw the plan, so that money and results are of the same time whatever went before (a
    restart may come in the middle of a day).

    Attributes:
        now_ms: of the tick.
        budget_spend_micros: spent of ``plan.budget_micros``; settled, late wins included.
        spend_micros: settled, late wins included.
        impressions, clicks, conversions: counted events.
        expected_conversions: sum of pctr x pcvr over impressions: the model's own forecast, which
            does not wait for conversions that are still under way.
        expected_conversions_lagged: the same one hour earlier, to be held against ``conversions``.
    """

    now_ms: int
    budget_spend_micros: int
    spend_micros: int
    impressions: int
    clicks: int
    conversions: int
    expected_conversions: float
    expected_conversions_lagged: float


class Setting(NamedTuple):
    """The bid formula's numbers for a campaign's line items, and why.

    b = v (1 + mu) / (lambda + mu), times the shading factor in first-price auctions.
    """

    pacing_lambda: float
    ratio_mu: float
    shading_factor: float
    reason: str


class BidPolicy(Protocol):
    """A module of this package: ``policies.bidding.constant``, ``pid``, ..."""

    __name__: str

    def start(self, plan: Plan) -> Any:  # noqa: ANN401 - each policy has its own state type
        """Returns the state before the first step."""
        ...

    def step(self, state: Any, plan: Plan, progress: Progress) -> tuple[Any, Setting]:  # noqa: ANN401
        """Returns the next state and the setting until the next tick."""
        ...


def multiplier_setting(alpha: float, reason: str) -> Setting:
    """Returns the setting that bids ``alpha`` times the value: lambda = 1 / alpha, mu = 0."""
    return Setting(pacing_lambda=1.0 / alpha, ratio_mu=0.0, shading_factor=1.0, reason=reason)
