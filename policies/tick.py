"""The control loop without its process: progress in, settings and snapshots out.

At every tick each campaign's policy sees that campaign's progress and sets its bid formula; the
creatives' posteriors are renewed; a new snapshot is compiled. Everything here is a pure function of
intent, ledger view and time plus the state that is kept between ticks, so the process behind HTTP
and the twin in process run the very same loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bidder.candidates import (
    Compilation,
    Compiler,
    Lift,
    allocate_rows,
    conversion_micros,
)
from market.budgets import BudgetRow, budgets_of
from market.campaign import Campaign, GoalKind, Status
from policies.bidding import policy_named
from policies.bidding.protocol import Plan, Progress, Setting

if TYPE_CHECKING:
    from collections.abc import Callable

    from bidder.recommendation.network import Weights
    from ledger.view import LedgerView
    from market.control import LiveArrays
    from market.intent import Intent
    from market.landscape import Landscape
    from market.snapshot import Snapshot

LAG_MS = 3_600_000
"""Conversions of the last hour are under way; see ``Progress.expected_conversions_lagged``."""

COLD_EXPECTED_CLICKS = 30.0
"""A creative stays in cold start until the model expected this many clicks of it."""

LIFT_PRIOR = 4.0
"""Shape and rate of the lift's prior: as if 4 clicks had been seen of 4 expected."""


_NEVER_MS = 2**62


class Counts(NamedTuple):
    """A campaign's counters, summed over its line items."""

    spend_micros: int
    impressions: int
    clicks: int
    conversions: int
    conversion_value_micros: int
    expected_conversions: float


class TickRecord(NamedTuple):
    """What a tick set for one campaign, and why: kept for people to read."""

    at_ms: int
    campaign_id: int
    policy: str
    pacing_lambda: float
    ratio_mu: float
    spend_micros: int
    budget_micros: int
    reason: str


class Acted(NamedTuple):
    """What one round of the loop made: to be published, and to be kept."""

    snapshot: Snapshot
    records: tuple[TickRecord, ...]


class _CampaignState(NamedTuple):
    """What is kept of a campaign between ticks.

    ``base`` and ``base_lagged`` are the counts, and the expected conversions an hour earlier, when
    the plan began; ``base_budget_micros`` is what its budget had spent before. ``history`` holds
    (time, expected conversions) of the last ticks, for the lag.
    """

    policy: str
    plan: Plan
    policy_state: Any
    budget_id: int
    base: Counts
    base_lagged: float
    base_budget_micros: int
    history: tuple[tuple[int, float], ...]
    setting: Setting | None


class ControlLoop:
    """Campaigns' policies, their states, and the versions of what was published.

    Attributes:
        snapshot_version: of the snapshot compiled last.
        policy_version: counts ticks.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        seed: int,
        rates_micros: dict[str, int],
        tick_ms: int,
        default_seat: str = "lodestone",
        asset_base_url: str = "",
        landscapes: tuple[Landscape, ...] = (),
        snapshot_version: int = 0,
        rows: dict[int, int] | None = None,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        """Takes the model and what every snapshot needs; ``rows`` of an earlier run stay put.

        ``announce`` is called after every write to the live arrays.
        """
        self._weights = weights
        self._seed = seed
        self._rates_micros = rates_micros
        self._tick_ms = tick_ms
        self._default_seat = default_seat
        self._asset_base_url = asset_base_url
        self._landscapes = landscapes
        self._rows: dict[int, int] = dict(rows or {})
        self._compiler = Compiler()
        self._announce = announce
        self._campaigns: dict[int, _CampaignState] = {}
        self._intent_version = -1
        self._next_tick_ms = 0
        self._day_ends_at_ms = _NEVER_MS
        self.snapshot_version = snapshot_version
        self.policy_version = 0

    def act(
        self, intent: Intent, now_ms: int, read_view: Callable[[], LedgerView], live: LiveArrays
    ) -> Acted | None:
        """Does what is due at ``now_ms``: a policy tick, and what a changed intent asks for.

        A pause is written into ``live`` before anything else, so it does not wait for a ledger that
        answers slowly. An edit of one campaign steps no other campaign's policy.

        Args:
            intent: what the advertisers want now.
            now_ms: of the run's clock.
            read_view: asks the ledger; only called when something is due.
            live: the live arrays, written in place.

        Returns:
            The snapshot to publish and what was set; None when nothing was due.
        """
        is_changed = intent.version != self._intent_version
        is_due = now_ms >= self._next_tick_ms
        # A new budget day needs its budgets in a snapshot at once, whenever the next tick is.
        is_new_day = now_ms >= self._day_ends_at_ms
        if not is_changed and not is_due and not is_new_day:
            return None
        self._write_live(intent, live)
        view = read_view()
        records = self._tick(intent, view, now_ms, is_due=is_due)
        if is_due:
            self._next_tick_ms = self._tick_after(now_ms)
        snapshot = self._snapshot(intent, view, now_ms)
        budgets = snapshot.arrays.budgets
        self._day_ends_at_ms = int(budgets["end_at_ms"].min()) if budgets.size else _NEVER_MS
        self._write_live(intent, live)
        self._intent_version = intent.version
        return Acted(snapshot, records)

    def _tick_after(self, now_ms: int) -> int:
        """Returns the next multiple of ``tick_ms`` after ``now_ms``, from the first tick on."""
        if self._next_tick_ms == 0:
            return now_ms + self._tick_ms
        late_ms = now_ms - self._next_tick_ms
        return self._next_tick_ms + self._tick_ms * (late_ms // self._tick_ms + 1)

    def _snapshot(self, intent: Intent, view: LedgerView, now_ms: int) -> Snapshot:
        """Returns the next snapshot of these campaigns with today's budgets and posteriors."""
        self._rows = allocate_rows(self._rows, intent.campaigns)
        self.snapshot_version += 1
        return self._compiler.compile(
            intent.campaigns,
            self._weights,
            Compilation(
                version=self.snapshot_version,
                policy_version=self.policy_version,
                intent_version=intent.version,
                now_ms=now_ms,
                seed=self._seed,
                rates_micros=self._rates_micros,
                default_seat=self._default_seat,
                rows=self._rows,
                lifts=_lifts(view),
                conversion_values=_conversion_values(intent, view),
                asset_base_url=self._asset_base_url,
                landscapes=self._landscapes,
            ),
        )

    def _tick(
        self, intent: Intent, view: LedgerView, now_ms: int, *, is_due: bool
    ) -> tuple[TickRecord, ...]:
        """Steps the policy of every campaign, or only of new ones; returns what was set and why."""
        self.policy_version += is_due
        spent = {
            # Where machines share a budget, its plan is about what all of them spend.
            budget.budget_id: budget.spent_on_time_micros
            + budget.spent_late_micros
            + budget.others_spent_micros
            for budget in view.budgets
        }
        counts = _counts_by_campaign(intent, view)
        values = _conversion_values(intent, view)
        records: list[TickRecord] = []
        for campaign in intent.campaigns:
            campaign_id = campaign.campaign_id
            if not is_due and campaign_id in self._campaigns:
                continue
            budget = _binding_budget(campaign, spent, now_ms)
            plan = plan_of(campaign, budget, now_ms, self._tick_ms, values.get(campaign_id))
            begun = self._begun(campaign, plan, budget, spent, counts[campaign_id], now_ms)
            records.append(self._step(campaign, begun, spent, budget, counts[campaign_id], now_ms))
        return tuple(records)

    def _begun(
        self, campaign: Campaign, plan: Plan, budget: BudgetRow, spent: dict[int, int],
        counts: Counts, now_ms: int,
    ) -> _CampaignState:  # fmt: skip
        """Returns the campaign's state with ``plan`` in it: the kept one, or a new beginning.

        A new day, budget or target is a new plan, but the policy keeps what it has learned of the
        market unless the policy itself was changed.
        """
        kept = self._campaigns.get(campaign.campaign_id)
        if kept is not None and kept.policy == campaign.policy:
            if (kept.plan.start_at_ms, kept.budget_id) == (plan.start_at_ms, budget.budget_id):
                return kept._replace(plan=_rest(plan, kept.base_budget_micros))
            state, history = kept.policy_state, kept.history
        else:
            state, history = policy_named(campaign.policy).start(plan), ()
        # A budget that began before its plan did has spent on earlier plans.
        is_whole = bool(budget.is_daily) or campaign.flight.start_at_ms is not None
        before_micros = 0 if is_whole else spent.get(budget.budget_id, 0)
        return _CampaignState(
            policy=campaign.policy,
            plan=_rest(plan, before_micros),
            policy_state=state,
            budget_id=budget.budget_id,
            base=counts,
            base_lagged=_lagged(
                history, now_ms, history[0][1] if history else counts.expected_conversions
            ),
            base_budget_micros=before_micros,
            history=history,
            setting=None,
        )

    def _step(
        self, campaign: Campaign, begun: _CampaignState, spent: dict[int, int], budget: BudgetRow,
        counts: Counts, now_ms: int,
    ) -> TickRecord:  # fmt: skip
        """Steps one campaign's policy and keeps its state; returns what was set and why."""
        base, plan = begun.base, begun.plan
        expected = counts.expected_conversions
        lagged = _lagged(begun.history, now_ms, begun.base_lagged)
        progress = Progress(
            now_ms=now_ms,
            budget_spend_micros=spent.get(budget.budget_id, 0) - begun.base_budget_micros,
            spend_micros=counts.spend_micros - base.spend_micros,
            impressions=counts.impressions - base.impressions,
            clicks=counts.clicks - base.clicks,
            conversions=counts.conversions - base.conversions,
            expected_conversions=expected - base.expected_conversions,
            expected_conversions_lagged=lagged - begun.base_lagged,
        )
        policy = policy_named(campaign.policy)
        state, setting = policy.step(begun.policy_state, plan, progress)
        self._campaigns[campaign.campaign_id] = begun._replace(
            policy_state=state, history=_remembered(begun.history, now_ms, expected),
            setting=setting,
        )  # fmt: skip
        return TickRecord(
            now_ms, campaign.campaign_id, campaign.policy, setting.pacing_lambda, setting.ratio_mu,
            progress.budget_spend_micros, plan.budget_micros, setting.reason,
        )  # fmt: skip

    def _write_live(self, intent: Intent, live: LiveArrays) -> None:
        """Writes every line item's setting and whether it may bid into the live arrays.

        A line item that intent no longer holds is switched off; its row stays taken.
        """
        seen: set[int] = set()
        for campaign in intent.campaigns:
            kept = self._campaigns.get(campaign.campaign_id)
            is_active = kept is not None and campaign.status is Status.ACTIVE
            for line_item in campaign.line_items:
                row = self._rows.get(line_item.line_item_id)
                if row is None:
                    continue
                seen.add(row)
                if kept is not None and kept.setting is not None:
                    live.pacing_lambda[row] = kept.setting.pacing_lambda
                    live.ratio_mu[row] = kept.setting.ratio_mu
                    live.shading_factor[row] = kept.setting.shading_factor
                live.is_active[row] = is_active
        for row in set(self._rows.values()) - seen:
            live.is_active[row] = 0
        self._announce()


def plan_of(
    campaign: Campaign,
    budget: BudgetRow,
    now_ms: int,
    tick_ms: int,
    observed_value_micros: int | None = None,
) -> Plan:
    """Returns the span and money that a policy has to plan with.

    A daily budget is to last its calendar day (from the flight's start if that is today); a
    lifetime budget its flight, or the current day (UTC) if the flight has no end.
    """
    start, end = budget.start_at_ms, budget.end_at_ms
    flight = campaign.flight
    if not budget.is_daily:
        start = flight.start_at_ms or now_ms - now_ms % 86_400_000
        end = flight.end_at_ms or now_ms - now_ms % 86_400_000 + 86_400_000
    if flight.start_at_ms is not None:
        start = max(start, flight.start_at_ms)
    if flight.end_at_ms is not None:
        end = min(end, flight.end_at_ms)
    return Plan(
        budget_micros=budget.limit_micros,
        conversion_micros=conversion_micros(campaign, observed_value_micros),
        has_target=campaign.goal.kind is not GoalKind.MAX_CONVERSIONS,
        start_at_ms=start,
        end_at_ms=max(end, start + tick_ms),
        tick_ms=tick_ms,
    )


def _rest(plan: Plan, before_micros: int) -> Plan:
    """Returns ``plan`` with the money that earlier plans have left of its budget."""
    return plan._replace(budget_micros=max(plan.budget_micros - before_micros, 1))


def _lagged(history: tuple[tuple[int, float], ...], now_ms: int, default: float) -> float:
    """Returns the expected conversions of an hour ago, ``default`` if nothing is that old."""
    return max((e for at_ms, e in history if at_ms <= now_ms - LAG_MS), default=default)


def _remembered(
    history: tuple[tuple[int, float], ...], now_ms: int, expected: float
) -> tuple[tuple[int, float], ...]:
    """Returns ``history`` with this tick, without what no later tick can ask for."""
    old = sum(at_ms <= now_ms - LAG_MS for at_ms, _ in history)
    return (*history[max(old - 1, 0) :], (now_ms, expected))


def _binding_budget(campaign: Campaign, spent: dict[int, int], now_ms: int) -> BudgetRow:
    """Returns the budget with the least left: the one that the plan has to obey."""
    return min(
        budgets_of(campaign, now_ms),
        key=lambda row: (row.limit_micros - spent.get(row.budget_id, 0), row.budget_id),
    )


def _counts_by_campaign(intent: Intent, view: LedgerView) -> dict[int, Counts]:
    by_line_item = {activity.id: activity for activity in view.line_items}
    found: dict[int, Counts] = {}
    for campaign in intent.campaigns:
        counters = [
            by_line_item[item.line_item_id]
            for item in campaign.line_items
            if item.line_item_id in by_line_item
        ]
        found[campaign.campaign_id] = Counts(
            spend_micros=sum(c.spend_micros for c in counters),
            impressions=sum(c.impressions for c in counters),
            clicks=sum(c.clicks for c in counters),
            conversions=sum(c.conversions for c in counters),
            conversion_value_micros=sum(c.conversion_value_micros for c in counters),
            expected_conversions=sum(c.expected_conversions for c in counters),
        )
    return found


def _lifts(view: LedgerView) -> dict[int, Lift]:
    """Returns each creative's click lift posterior: gamma(prior + clicks, prior + expected)."""
    return {
        creative.id: Lift(
            shape=LIFT_PRIOR + creative.clicks,
            rate=LIFT_PRIOR + creative.expected_clicks,
            is_cold=creative.expected_clicks < COLD_EXPECTED_CLICKS,
        )
        for creative in view.creatives
    }


def _conversion_values(intent: Intent, view: LedgerView) -> dict[int, int]:
    """Returns campaign id -> mean value per conversion, where 20 or more were seen."""
    return {
        campaign_id: counts.conversion_value_micros // counts.conversions
        for campaign_id, counts in _counts_by_campaign(intent, view).items()
        if counts.conversions >= 20 and counts.conversion_value_micros > 0
    }
