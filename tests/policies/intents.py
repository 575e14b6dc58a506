"""Campaigns and ledger views for the tests of the control loop."""

from __future__ import annotations

from ledger.view import ActivityView, BudgetView, LedgerView
from market.budgets import budgets_of
from market.campaign import Budget, Campaign, Creative, Goal, GoalKind, LineItem
from market.intent import Intent

DAY_MS = 86_400_000
MIDNIGHT_MS = 1_700_006_400_000
"""00:00 UTC of a day; campaigns are in UTC."""
RATES = {"USD": 1_000_000, "EUR": 1_080_000}


def creative(number, **values):
    return Creative(
        **{
            "creative_id": number, "width": 300, "height": 250, "adm": "<p>x</p>",
            "landing_url": "https://shop.example/", **values,
        }
    )  # fmt: skip


def line_item(number, creatives=None, **values):
    """Line item ``number`` with creatives ``number * 10 + 1`` and ``+ 2``."""
    if creatives is None:
        creatives = (creative(number * 10 + 1), creative(number * 10 + 2))
    return LineItem(line_item_id=number, name=f"line {number}", creatives=creatives, **values)


def campaign(number=1, line_items=None, **values):
    """Campaign ``number`` with line item ``number * 10``, a target CPA and 100 a day."""
    items = (line_item(number * 10),) if line_items is None else line_items
    return Campaign(
        **{
            "campaign_id": number, "advertiser_id": 1, "name": f"campaign {number}",
            "currency": "USD", "time_zone": "UTC", "advertiser_domain": "shop.example",
            "goal": Goal(kind=GoalKind.TARGET_CPA, target_cpa_micros=5_000_000),
            "budget": Budget(daily_micros=100_000_000), "line_items": items, **values,
        }
    )  # fmt: skip


def intent(*campaigns, version=1):
    return Intent(version=version, campaigns=campaigns)


def activity(number, **values):
    names = (
        "bids", "wins", "impressions", "clicks", "conversions", "conversion_value_micros",
        "spend_micros", "expected_clicks", "expected_conversions",
    )  # fmt: skip
    return ActivityView(**{"id": number, **dict.fromkeys(names, 0), **values})


def spent_by(a_campaign, now_ms, micros):
    """The budgets of a campaign at a time, with the same amount spent of each."""
    return tuple(
        BudgetView(row.budget_id, row.limit_micros, micros, 0, 0, 0)
        for row in budgets_of(a_campaign, now_ms)
    )


def view(budgets=(), line_items=(), creatives=()):
    return LedgerView(
        at_ms=0, sequence=0, is_writable=True, unfunded_bids=0, budgets=tuple(budgets),
        line_items=tuple(line_items), creatives=tuple(creatives), exchanges=(),
    )  # fmt: skip
