"""What tables and pages call things, and how they show a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from market.money import MICROS
from simulator.what_if.comparison import COST, SUMS

if TYPE_CHECKING:
    from simulator.what_if.comparison import Comparison

WORDS: Final = {
    "spend_micros": "spend",
    "conversions": "conversions",
    "expected_conversions": "conversions expected",
    "return_micros": "return",
    "score": "score",
    COST: "cost per conversion",
}


FORECAST_COLUMNS: Final = ("setting", "of", "mean", "p10", "p50", "p90")
DIFFERENCE_COLUMNS: Final = ("setting", "of", "difference", "from", "to", "relative", "shown?")


def forecast_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Returns the rows under FORECAST_COLUMNS."""
    rows: list[tuple[str, ...]] = []
    for each in comparison.forecasts:
        for metric in (*SUMS, COST):
            band = each.bands[metric]
            points = (None,) * 3 if band is None else (band.p10, band.p50, band.p90)
            cells = (shown(metric, value) for value in (each.mean[metric], *points))
            rows.append((each.setting, WORDS[metric], *cells))
    return rows


def difference_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Returns the rows under DIFFERENCE_COLUMNS."""
    rows: list[tuple[str, ...]] = []
    for each in comparison.differences:
        cells = (shown(each.metric, value) for value in (each.mean, each.low, each.high))
        relative = "-" if each.relative is None else f"{each.relative:+.1%}"
        answer = "no conversions" if each.mean is None else "yes" if each.is_clear else "no"
        rows.append((each.setting, WORDS[each.metric], *cells, relative, answer))
    return rows


def shown(metric: str, value: float | None) -> str:
    """Returns a metric's value as people read it; money in units of currency."""
    if value is None:
        return "-"
    return f"{value / MICROS if metric.endswith('_micros') else value:,.2f}"
