"""Which budgets a campaign draws on at a moment: ids that every process derives alike.

A daily budget is a budget of its own for each calendar day in the campaign's time zone, so that
a new day needs no reset, and a bid of yesterday settles against yesterday.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from market.campaign import Campaign, time_zone_of
from market.chance import pair_code
from market.money import currency_number

_OPEN_END_MS = 2**62


class BudgetRow(NamedTuple):
    """One budget; fields as ``market.snapshot.BUDGET_DTYPE``."""

    budget_id: int
    limit_micros: int
    campaign_id: int
    currency: int
    is_daily: int
    start_at_ms: int
    end_at_ms: int


def budget_id(campaign_id: int, start_at_ms: int, *, is_daily: bool) -> int:
    """Returns the 64-bit id of a budget, never 0: lifetime, or the day that starts then."""
    day = start_at_ms + 1 if is_daily else 0
    return pair_code(campaign_id, day) or 1


def day_bounds_ms(campaign: Campaign, now_ms: int) -> tuple[int, int]:
    """Returns [start, end) of the campaign's calendar day that holds ``now_ms``.

    Days are those of the wall clock in the campaign's time zone: 23 or 25 hours when the clock
    changes.
    """
    zone = time_zone_of(campaign)
    today = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone).date()

    def midnight_ms(days: int) -> int:
        day = today + timedelta(days=days)
        return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)

    return midnight_ms(0), midnight_ms(1)


def budgets_of(campaign: Campaign, now_ms: int) -> tuple[BudgetRow, ...]:
    """Returns the budgets that the campaign draws on at ``now_ms``: daily first, then lifetime."""
    currency = currency_number(campaign.currency)
    rows: list[BudgetRow] = []
    if campaign.budget.daily_micros is not None:
        start, end = day_bounds_ms(campaign, now_ms)
        rows.append(
            BudgetRow(
                budget_id(campaign.campaign_id, start, is_daily=True),
                campaign.budget.daily_micros, campaign.campaign_id, currency, 1, start, end,
            )
        )  # fmt: skip
    if campaign.budget.lifetime_micros is not None:
        rows.append(
            BudgetRow(
                budget_id(campaign.campaign_id, 0, is_daily=False),
                campaign.budget.lifetime_micros, campaign.campaign_id, currency, 0, 0, _OPEN_END_MS,
            )
        )  # fmt: skip
    return tuple(rows)
