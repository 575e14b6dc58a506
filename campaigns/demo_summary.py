"""What the demo reports: numbers from the store by SQL, held against the exchange's own count."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from ledger.report_page import CampaignPart, Fact, Latency, ReportData
from ledger.reports import (
    CampaignTotals,
    Window,
    campaign_totals,
    conversions_over_time,
    irregular,
    no_bids,
    spend_over_time,
    totals,
    win_prices,
)
from market.campaign import Campaign, GoalKind
from market.control import WORKERS_MAX, ControlBlock, WorkerWord
from market.money import MICROS, micros_to_text

if TYPE_CHECKING:
    from ledger.store import StoreClient
    from ledger.view import LedgerView
    from simulator.live_report import LiveReport

DAY_MS = 86_400_000
BUCKET_MS = 900_000


class CampaignRow(msgspec.Struct, frozen=True, kw_only=True):
    """One campaign of ``summary.json``: what was asked and what was achieved.

    Attributes:
        target: micros per conversion for target_cpa, a ratio for target_roas, else None.
        achieved: cost per conversion in micros, or value / spend, in the unit of ``target``; for
            max_conversions the cost per conversion.
        achieved_to_target: achieved / target, None without a target.
        is_budget_exhausted: less was left than the dearest bid it made had reserved.
    """

    campaign_id: int
    name: str
    goal: str
    policy: str
    currency: str
    target: float | None
    achieved: float | None
    achieved_to_target: float | None
    budget_micros: int
    spend_micros: int
    bids: int
    wins: int
    impressions: int
    clicks: int
    conversions: int
    conversion_value_micros: int
    is_budget_exhausted: bool


class Percentiles(msgspec.Struct, frozen=True):
    """Real time of a bid request, seen by the exchange, microseconds."""

    p50: float
    p99: float


class DemoSummary(msgspec.Struct, frozen=True, kw_only=True):
    """``summary.json``. Bids to spend are counted by SQL; requests and latency by the exchange.

    Attributes:
        cpu_us_per_request: CPU time of the bid workers since they were ready / their requests.
        events_recorded: distinct events in the store.
        events_expected: distinct events that the exchange process counted.
        disagreements: numbers that ledger, store and exchange count differently; must be empty.
    """

    requests: int
    bids: int
    no_bids_by_reason: dict[str, int]
    wins: int
    impressions: int
    clicks: int
    conversions: int
    spend_micros: int
    budget_micros: int
    overspend_micros: int
    budgets_exhausted: int
    duplicates_ignored: int
    latency_us: Percentiles
    cpu_us_per_request: float
    events_recorded: int
    events_expected: int
    wins_per_bid: float
    disputed: int
    late: int
    forged: int
    simulated_ms: int
    wall_s: float
    seed: int
    workers: int
    disagreements: tuple[str, ...]
    campaigns: tuple[CampaignRow, ...]


def worker_cpu_us_per_request(block: ControlBlock) -> float:
    """Returns CPU microseconds per request over all workers, 0 before the first request."""
    rows = [block.worker(i) for i in range(WORKERS_MAX)]
    requests = sum(row[WorkerWord.REQUEST_COUNT] for row in rows)
    cpu_ns = sum(row[WorkerWord.CPU_NS] for row in rows if row[WorkerWord.REQUEST_COUNT])
    return cpu_ns / 1e3 / requests if requests else 0.0


def summarise(
    store: StoreClient,
    view: LedgerView,
    live: LiveReport,
    block: ControlBlock,
    campaigns: tuple[Campaign, ...],
    start_at_ms: int,
) -> DemoSummary:
    """Returns the summary of a finished run, every count of events by SQL from the store."""
    whole = totals(store)
    by_id = {row.campaign_id: row for row in campaign_totals(store)}
    limits = {campaign.campaign_id: campaign.budget.daily_micros or 0 for campaign in campaigns}
    dearest = _dearest_reservations(store)
    rows = tuple(
        _campaign_row(campaign, by_id[campaign.campaign_id], dearest)
        for campaign in campaigns
        if campaign.campaign_id in by_id
    )
    expected = sum(live.events_expected.values())
    return DemoSummary(
        requests=live.requests,
        bids=whole.bids,
        no_bids_by_reason={row.reason: round(row.opportunities) for row in no_bids(store)},
        wins=whole.wins,
        impressions=whole.impressions,
        clicks=whole.clicks,
        conversions=whole.conversions,
        spend_micros=whole.spend_micros,
        budget_micros=sum(limits.values()),
        overspend_micros=sum(max(row.spend_micros - row.budget_micros, 0) for row in rows),
        budgets_exhausted=sum(row.is_budget_exhausted for row in rows),
        duplicates_ignored=sum(exchange.duplicates_ignored for exchange in view.exchanges),
        latency_us=Percentiles(
            round(live.latency_ms_p50 * 1e3, 1), round(live.latency_ms_p99 * 1e3, 1)
        ),
        cpu_us_per_request=round(worker_cpu_us_per_request(block), 2),
        events_recorded=whole.events_recorded,
        events_expected=expected,
        wins_per_bid=round(whole.wins / whole.bids, 4) if whole.bids else 0.0,
        disputed=sum(exchange.disputed for exchange in view.exchanges),
        late=sum(exchange.late for exchange in view.exchanges),
        forged=sum(exchange.forged for exchange in view.exchanges),
        simulated_ms=live.clock_ms - start_at_ms,
        wall_s=round(live.wall_s, 1),
        seed=live.seed,
        workers=sum(bool(block.worker(i)[WorkerWord.PID]) for i in range(WORKERS_MAX)),
        disagreements=_disagreements(whole.bids, rows, view, live, expected, whole.events_recorded),
        campaigns=rows,
    )


def _disagreements(
    bids: int,
    rows: tuple[CampaignRow, ...],
    view: LedgerView,
    live: LiveReport,
    expected: int,
    recorded: int,
) -> tuple[str, ...]:
    """Returns every pair of counts that should be equal and is not."""
    spend = sum(row.spend_micros for row in rows)
    ledger_spend = sum(activity.spend_micros for activity in view.line_items)
    pairs = (
        ("events: store", recorded, "exchange", expected),
        ("bids: store", bids, "exchange", live.bids),
        ("bids: store", bids, "ledger", sum(activity.bids for activity in view.line_items)),
        ("spend_micros: store", spend, "ledger", ledger_spend),
        ("spend_micros: store", spend, "exchange", live.spend_micros),
        ("notices refused", sum(live.notices_refused.values()), "must be", 0),
        ("answers that break OpenRTB", sum(live.errors.values()), "must be", 0),
        ("bids beyond a lease", view.unfunded_bids, "must be", 0),
        (
            "overspend_micros",
            sum(max(row.spend_micros - row.budget_micros, 0) for row in rows),
            "must be",
            0,
        ),
    )
    return tuple(f"{a} {first}, {b} {second}" for a, first, b, second in pairs if first != second)


def report_of(
    summary: DemoSummary,
    store: StoreClient,
    live: LiveReport,
    campaigns: tuple[Campaign, ...],
    start_at_ms: int,
) -> ReportData:
    """Returns what ``report.html`` shows of the run."""
    window = Window(start_at_ms, start_at_ms + DAY_MS, BUCKET_MS)
    return ReportData(
        title="A day in the twin",
        subtitle=(
            f"{summary.requests:,} bid requests over HTTP in {summary.wall_s:.0f} s, "
            f"{summary.workers} bid workers, seed {summary.seed}"
        ),
        facts=_facts(summary, campaigns[0].currency),
        window=window,
        campaigns=_parts(store, campaigns, window),
        win_prices=win_prices(store),
        latency=_latency(live),
        no_bids=no_bids(store),
        irregular=irregular(store),
        notes=(
            "Events, spend and conversions are counted by SQL from the analytics store; requests "
            "and latency by the exchange process.",
            f"{summary.events_recorded:,} events recorded, {summary.events_expected:,} expected by "
            "the exchange.",
            f"{summary.duplicates_ignored:,} repeated notices were answered and ignored.",
        ),
    )


def _facts(summary: DemoSummary, currency: str) -> tuple[Fact, ...]:
    return (
        Fact("Spend", micros_to_text(summary.spend_micros, currency), "charged by notices"),
        Fact("Overspend", micros_to_text(summary.overspend_micros, currency), "must be 0"),
        Fact("Conversions", f"{summary.conversions:,}"),
        Fact("Wins per bid", f"{summary.wins_per_bid:.1%}"),
        Fact("Latency p99", f"{summary.latency_us.p99 / 1e3:.2f} ms", "seen by the exchange"),
        Fact("CPU per request", f"{summary.cpu_us_per_request:.0f} us", "bid worker, all in"),
    )


def _parts(
    store: StoreClient, campaigns: tuple[Campaign, ...], window: Window
) -> tuple[CampaignPart, ...]:
    """Returns each campaign's part of the report; none for one without events."""
    spend = {each.campaign_id: each.values for each in spend_over_time(store, window)}
    conversions = {each.campaign_id: each.values for each in conversions_over_time(store, window)}
    totals_by_id = {row.campaign_id: row for row in campaign_totals(store)}
    nothing = (0,) * window.bucket_count
    return tuple(
        CampaignPart(
            name=campaign.name,
            goal=goal_text(campaign),
            budget_micros=campaign.budget.daily_micros,
            totals=totals_by_id[campaign.campaign_id],
            spend_micros=spend.get(campaign.campaign_id, nothing),
            plan_micros=_plan(campaign, window),
            conversions=conversions.get(campaign.campaign_id, nothing),
        )
        for campaign in campaigns
        if campaign.campaign_id in totals_by_id
    )


def _latency(live: LiveReport) -> Latency:
    """Returns the exchange's histogram; its last bucket, "more", is open above."""
    bounds = [float(bound) for bound in live.latency_histogram if bound != "more"]
    counts = tuple(live.latency_histogram.values())
    return Latency((0.0, *bounds, 2 * bounds[-1]), counts, is_last_open=True)


def goal_text(campaign: Campaign) -> str:
    """Returns a campaign's goal in words."""
    goal = campaign.goal
    if goal.kind is GoalKind.TARGET_CPA:
        return f"target CPA {micros_to_text(goal.target_cpa_micros or 0, campaign.currency)}"
    if goal.kind is GoalKind.TARGET_ROAS:
        return f"target ROAS {goal.target_roas:g}"
    return "most conversions"


def _campaign_row(
    campaign: Campaign, found: CampaignTotals, dearest: dict[int, int]
) -> CampaignRow:
    goal = campaign.goal
    budget = campaign.budget.daily_micros or 0
    cpa = found.spend_micros / found.conversions if found.conversions else None
    target: float | None = None
    achieved = cpa
    if goal.kind is GoalKind.TARGET_CPA:
        target = float(goal.target_cpa_micros or 0)
    elif goal.kind is GoalKind.TARGET_ROAS:
        target = goal.target_roas
        spend = found.spend_micros
        achieved = found.conversion_value_micros / spend if spend else None
    return CampaignRow(
        campaign_id=campaign.campaign_id,
        name=campaign.name,
        goal=str(goal.kind),
        policy=campaign.policy,
        currency=campaign.currency,
        target=target,
        achieved=achieved,
        achieved_to_target=achieved / target if achieved is not None and target else None,
        budget_micros=budget,
        spend_micros=found.spend_micros,
        bids=found.bids,
        wins=found.wins,
        impressions=found.impressions,
        clicks=found.clicks,
        conversions=found.conversions,
        conversion_value_micros=found.conversion_value_micros,
        is_budget_exhausted=budget - found.spend_micros < dearest.get(campaign.campaign_id, 0),
    )


def _dearest_reservations(store: StoreClient) -> dict[int, int]:
    """Returns campaign id -> the largest reservation of any of its bids."""
    rows = store.query(
        "SELECT campaign_id, max(amount_micros) AS dearest FROM events FINAL "
        "WHERE kind = 1 GROUP BY campaign_id"
    ).rows
    return {int(cast("int", campaign)): int(cast("int", amount)) for campaign, amount in rows}


def _plan(campaign: Campaign, window: Window) -> tuple[int, ...]:
    """An even plan over the day; none for a campaign that spends as fast as it can."""
    daily = campaign.budget.daily_micros
    if daily is None or campaign.policy == "constant":
        return ()
    count = window.bucket_count
    return tuple(daily * (i + 1) // count - daily * i // count for i in range(count))


__all__ = ["MICROS", "CampaignRow", "DemoSummary", "goal_text", "report_of", "summarise"]
