"""Live numbers of campaigns, from the recorder's totals: what was spent, won and gained so far.

The recorder speaks of line items and budgets; which of them are a campaign's is known here. A line
item that was taken out of a campaign still counts: its money was the campaign's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import msgspec

from ledger.view import ActivityView, BudgetView, LedgerView
from market.budgets import budgets_of
from market.errors import NotReady

if TYPE_CHECKING:
    from collections.abc import Collection

    from market.campaign import Campaign

_TIMEOUT_S = 2.0


class BudgetReport(msgspec.Struct, frozen=True):
    """One budget that the campaign draws on now; money in the campaign's currency.

    Attributes:
        is_daily: of the calendar day [start_at_ms, end_at_ms); else for the whole lifetime.
        limit_micros: what may be spent.
        spent_micros: charged, on time and late.
        spent_late_micros: the part paid for wins that came after their deadline.
        held_micros: leased to workers and not yet spent.
        open_count: bids that may still be charged on time.
    """

    is_daily: bool
    start_at_ms: int
    end_at_ms: int
    limit_micros: int
    spent_micros: int
    spent_late_micros: int
    held_micros: int
    open_count: int


class CampaignNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """What one campaign has spent and gained since it was created.

    Attributes:
        at_ms: as of, on the clock of the run.
        currency: of every amount.
        bids, wins, impressions, clicks, conversions: counted once a bid, conversions per order.
        spend_micros: charged.
        conversion_value_micros: reported with the conversions.
        cpa_micros: spend per conversion, null before the first.
        roas: value per spend, null before the first spend.
        budget_used: spent share of the budget with the smallest share left, 1 = all of it.
        budgets: those in force now.
    """

    campaign_id: int
    at_ms: int
    currency: str
    bids: int
    wins: int
    impressions: int
    clicks: int
    conversions: int
    spend_micros: int
    conversion_value_micros: int
    cpa_micros: int | None
    roas: float | None
    budget_used: float
    budgets: tuple[BudgetReport, ...]


class CampaignReport(CampaignNumbers, frozen=True, kw_only=True):
    """The numbers of a campaign, and the same by line item (ended ones too) and by creative.

    Attributes:
        line_items: those that ever bid, by id.
        creatives: those of the campaign as it is now that ever bid, by id.
    """

    line_items: tuple[ActivityView, ...]
    creatives: tuple[ActivityView, ...]


class Recorder:
    """Asks the recorder process for its totals."""

    def __init__(self, base_url: str, token: str) -> None:
        """Takes where the recorder answers, and to whom; connects when first asked."""
        # Loopback needs no proxy, whatever the environment says.
        self._client = httpx.Client(
            base_url=base_url, timeout=_TIMEOUT_S, trust_env=False,
            headers={"authorization": f"Bearer {token}"},
        )  # fmt: skip

    def view(self) -> LedgerView:
        """Returns the totals as of the recorder's last commit.

        Raises:
            NotReady: it does not answer, or not with totals.
        """
        try:
            response = self._client.get("/ledger")
            response.raise_for_status()
            return msgspec.json.decode(response.content, type=LedgerView)
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            raise NotReady(f"recorder: {error}; it may be starting") from error

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


def numbers_of(
    campaign: Campaign, line_item_ids: Collection[int], view: LedgerView
) -> CampaignNumbers:
    """Returns the numbers of a campaign.

    Args:
        campaign: as it is now.
        line_item_ids: of every line item it has or ever had.
        view: the recorder's totals.
    """
    parts = _of_ids(view.line_items, line_item_ids)
    spend = sum(part.spend_micros for part in parts)
    conversions = sum(part.conversions for part in parts)
    value = sum(part.conversion_value_micros for part in parts)
    budgets = _budgets(campaign, view)
    return CampaignNumbers(
        campaign_id=campaign.campaign_id,
        at_ms=view.at_ms,
        currency=campaign.currency,
        bids=sum(part.bids for part in parts),
        wins=sum(part.wins for part in parts),
        impressions=sum(part.impressions for part in parts),
        clicks=sum(part.clicks for part in parts),
        conversions=conversions,
        spend_micros=spend,
        conversion_value_micros=value,
        cpa_micros=round(spend / conversions) if conversions else None,
        roas=value / spend if spend else None,
        budget_used=max(budget.spent_micros / budget.limit_micros for budget in budgets),
        budgets=budgets,
    )


def report_of(
    campaign: Campaign, line_item_ids: Collection[int], view: LedgerView
) -> CampaignReport:
    """Returns the numbers of a campaign with their parts; arguments as ``numbers_of``."""
    creative_ids = {each.creative_id for item in campaign.line_items for each in item.creatives}
    return CampaignReport(
        **msgspec.structs.asdict(numbers_of(campaign, line_item_ids, view)),
        line_items=_of_ids(view.line_items, line_item_ids),
        creatives=_of_ids(view.creatives, creative_ids),
    )


def _of_ids(parts: tuple[ActivityView, ...], ids: Collection[int]) -> tuple[ActivityView, ...]:
    return tuple(part for part in parts if part.id in ids)


def _budgets(campaign: Campaign, view: LedgerView) -> tuple[BudgetReport, ...]:
    # The recorder's clock decides which day it is, so that its numbers and the day agree.
    known = {budget.budget_id: budget for budget in view.budgets}
    found: list[BudgetReport] = []
    for row in budgets_of(campaign, view.at_ms):
        budget = known.get(row.budget_id, BudgetView(row.budget_id, 0, 0, 0, 0, 0))
        found.append(
            BudgetReport(
                is_daily=row.is_daily == 1,
                start_at_ms=row.start_at_ms,
                end_at_ms=row.end_at_ms,
                # What was asked for; the recorder follows once a snapshot has told it.
                limit_micros=row.limit_micros,
                spent_micros=budget.spent_on_time_micros + budget.spent_late_micros,
                spent_late_micros=budget.spent_late_micros,
                held_micros=budget.held_micros,
                open_count=budget.open_count,
            )
        )
    return tuple(found)
