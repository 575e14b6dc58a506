"""What is counted of events, by hour: the one place that says how, for roll-ups and questions.

Every measure holds to the rules of ``ledger.reports``: an event counts once (``FINAL``), a test
counts nowhere, a disputed notice only as disputed, money that was spent is the sum of
``amount_micros`` over CHARGED events in the account's currency, and amounts in two currencies are
never added up.

Traffic that ``ledger.fraud`` marked as invalid is counted like any other, because it was recorded
and charged like any other; what of each measure is invalid stands beside it as a measure of its
own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from market.events import EventFlag, EventKind

if TYPE_CHECKING:
    from collections.abc import Sequence

HOUR_MS: Final = 3_600_000

KEYS: Final = (
    "hour_ms", "advertiser_id", "campaign_id", "line_item_id", "creative_id", "exchange", "format",
    "account_currency",
)  # fmt: skip
"""Columns of ``delivery_hours`` that a row's sums belong to."""

_NUMBERS: Final = {
    **{f"is_{kind.name.lower()}": f"kind = {int(kind)}" for kind in EventKind},
    "is_clear": f"bitAnd(flags, {int(EventFlag.DISPUTED)}) = 0",
    "is_disputed": f"bitAnd(flags, {int(EventFlag.DISPUTED)}) != 0",
    "is_charged": f"bitAnd(flags, {int(EventFlag.CHARGED)}) != 0",
    "is_late": f"bitAnd(flags, {int(EventFlag.LATE)}) != 0",
}

_SUMS: Final[dict[str, str]] = {
    "bids": "countIf({is_bid} AND {is_clear})",
    "wins": "countIf({is_win} AND {is_clear})",
    "losses": "countIf({is_loss} AND {is_clear})",
    "impressions": "countIf({is_impression} AND {is_clear})",
    "clicks": "countIf({is_click} AND {is_clear})",
    "conversions": "countIf({is_conversion} AND {is_clear})",
    "conversion_value_micros": "sumIf(value_micros, {is_conversion} AND {is_clear})",
    "spend_micros": "sumIf(amount_micros, {is_charged})",
    "late_spend_micros": "sumIf(amount_micros, {is_charged} AND {is_late})",
    "disputed": "countIf({is_disputed})",
    "disputed_micros": "sumIf(amount_micros, {is_disputed})",
    "invalid_impressions": "countIf({is_impression} AND {is_clear} AND is_invalid)",
    "invalid_clicks": "countIf({is_click} AND {is_clear} AND is_invalid)",
    "invalid_conversions": "countIf({is_conversion} AND {is_clear} AND is_invalid)",
    "invalid_conversion_value_micros":
        "sumIf(value_micros, {is_conversion} AND {is_clear} AND is_invalid)",
    "invalid_spend_micros": "sumIf(amount_micros, {is_charged} AND is_invalid)",
}  # fmt: skip

SUMS: Final = tuple(_SUMS)
"""Columns of ``delivery_hours`` that are sums, in the order of the table."""

DIVIDED: Final[dict[str, tuple[str, str, int]]] = {
    "win_rate": ("wins", "bids", 1),
    "ctr": ("clicks", "impressions", 1),
    "cvr": ("conversions", "clicks", 1),
    "roas": ("conversion_value_micros", "spend_micros", 1),
    "invalid_click_rate": ("invalid_clicks", "clicks", 1),
    "ecpm_micros": ("spend_micros", "impressions", 1_000),
    "cpc_micros": ("spend_micros", "clicks", 1),
    "cpa_micros": ("spend_micros", "conversions", 1),
}
"""Measures that are a quotient of two sums: (above, below, factor); by zero there is none."""

MONEY: Final = frozenset(
    {name for name in (*SUMS, *DIVIDED) if name.endswith("_micros")} | {"roas"}
)
"""Measures that mean something in one currency only."""

_EVENT_COLUMNS: Final = (
    "day", "advertiser_id", "campaign_id", "line_item_id", "creative_id", "exchange", "format",
    "account_currency", "kind", "flags", "amount_micros", "value_micros",
)  # fmt: skip


def hours_sql(where: str, days: str, keys: Sequence[str] = KEYS, sums: Sequence[str] = SUMS) -> str:
    """Returns a SELECT with columns of ``delivery_hours``, made from the events.

    Args:
        where: A condition on columns of ``events``, with ``%(name)s`` for values.
        days: The condition on ``day`` within it, which the marks are looked up by, too.
        keys: What is summed over, out of ``KEYS``.
        sums: Which sums, out of ``SUMS``; marks are looked up where one of them asks for that.
    """
    # The names inside differ from columns of the events, whose place an alias would take in WHERE.
    made = (f"toInt64({_SUMS[name].format_map(_NUMBERS)}) AS {name}" for name in sums)
    listed = ", ".join((*keys, *made))
    inner = ", ".join(_EVENT_COLUMNS)
    marks = (
        f"""(id_hi, id_lo) IN (
            SELECT id_hi, id_lo FROM invalid_traffic FINAL WHERE {days} AND reasons != 0
        )"""  # noqa: S608 - of names of ours
        if any("is_invalid" in _SUMS[name] for name in sums)
        else "0"
    )
    return f"""
SELECT day, {listed}
FROM (
    SELECT {inner}, toInt64(intDiv(ts_ms, {HOUR_MS}) * {HOUR_MS}) AS hour_ms, {marks} AS is_invalid
    FROM events FINAL
    WHERE {where} AND {days} AND kind != {int(EventKind.NO_BID)}
        AND bitAnd(flags, {int(EventFlag.TEST)}) = 0
) AS counted
GROUP BY {", ".join(("day", *keys))}
"""  # noqa: S608 - of names and numbers of ours; values are bound by the caller
