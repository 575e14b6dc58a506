"""From trials to what can be said: forecasts with bands, paired differences with intervals.

A difference is taken within each period, which both settings played on the same coins, and only
then averaged. Its interval is Student's t over periods. A cost per conversion is a ratio of sums,
so its interval is the jackknife's: leave one period out, in turn.

Sources: Student's paired t interval; B. Efron and C. Stein, "The jackknife estimate of variance",
Annals of Statistics 9, 1981; L. Kelton and A. Law, "Simulation modeling and analysis", chapter 11
(common random numbers).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.what_if.trial import Plan, Trial

F64 = npt.NDArray[np.float64]

CONFIDENCE: Final = 0.95
SUMS: Final = ("spend_micros", "conversions", "expected_conversions", "return_micros", "score")
"""Metrics that add up over periods; ``cost_per_conversion_micros`` is made of the first two."""
COST: Final = "cost_per_conversion_micros"


class Band(msgspec.Struct, frozen=True):
    """Where a period's value lies: 10 %, half and 90 % of periods are below."""

    p10: float
    p50: float
    p90: float


class Forecast(msgspec.Struct, frozen=True):
    """What a setting brings in one period.

    Attributes:
        mean: by metric; the cost per conversion is that of all periods together.
        bands: by metric, over periods.
        periods_without_conversions: they have no cost per conversion and are not in its band.
        spend_by_tick: mean micros in each tick.
    """

    setting: str
    mean: dict[str, float | None]
    bands: dict[str, Band | None]
    periods_without_conversions: int
    spend_by_tick: tuple[float, ...]


class Difference(msgspec.Struct, frozen=True):
    """A setting minus the first one, per period, on the same coins.

    Attributes:
        mean, low, high: with its 95 % interval; None where it cannot be said.
        relative: mean / that of the first setting; None where that is 0.
        is_clear: the interval does not hold 0.
    """

    setting: str
    metric: str
    mean: float | None
    low: float | None
    high: float | None
    relative: float | None
    is_clear: bool


class Comparison(msgspec.Struct, frozen=True):
    """All of it. ``baseline`` is the setting that the others are held against."""

    scenario: str
    seed: int
    rows: tuple[int, ...]
    periods: int
    baseline: str
    forecasts: tuple[Forecast, ...]
    differences: tuple[Difference, ...]


def compare(plan: Plan, trials: Sequence[Trial]) -> Comparison:
    """Returns what the trials of a plan say; there must be at least two."""
    assert len(trials) >= 2, "an interval needs two periods"
    tables = [
        {name: np.array([getattr(t.outcomes[s], name) for t in trials], float) for name in SUMS}
        for s in range(len(plan.settings))
    ]
    ticks = [
        np.mean([t.outcomes[s].spend_by_tick for t in trials], axis=0).tolist()
        for s in range(len(plan.settings))
    ]
    forecasts = tuple(
        _forecast(setting.name, table, tuple(by_tick))
        for setting, table, by_tick in zip(plan.settings, tables, ticks, strict=True)
    )
    differences = tuple(
        _difference(setting.name, metric, table, tables[0])
        for setting, table in zip(plan.settings[1:], tables[1:], strict=True)
        for metric in (*SUMS, COST)
    )
    return Comparison(
        plan.scenario, plan.seed, plan.rows, len(trials), plan.settings[0].name, forecasts,
        differences,
    )  # fmt: skip


def paired_interval(differences: F64) -> tuple[float, float, float]:
    """Returns (mean, low, high) of differences [N], N >= 2, by Student's t."""
    count = differences.shape[0]
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1)) * error
    return mean, mean - reach, mean + reach


def jackknife_interval(whole: float, without: F64) -> tuple[float, float, float]:
    """Returns (estimate, low, high) from the estimate and those without each of N periods."""
    count = without.shape[0]
    variance = (count - 1) / count * float(((without - without.mean()) ** 2).sum())
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1)) * math.sqrt(variance)
    return whole, whole - reach, whole + reach


def _forecast(name: str, table: dict[str, F64], by_tick: tuple[float, ...]) -> Forecast:
    has = table["conversions"] > 0
    cost = table["spend_micros"][has] / table["conversions"][has]
    mean: dict[str, float | None] = {metric: float(table[metric].mean()) for metric in SUMS}
    mean[COST] = _cost(table["spend_micros"].sum(), table["conversions"].sum())
    bands = {metric: _band(table[metric]) for metric in SUMS} | {COST: _band(cost)}
    return Forecast(name, mean, bands, int(np.count_nonzero(~has)), by_tick)


def _band(values: F64) -> Band | None:
    return Band(*np.percentile(values, (10, 50, 90)).tolist()) if values.size else None


def _cost(spend_micros: float, conversions: float) -> float | None:
    return float(spend_micros / conversions) if conversions > 0 else None


def _difference(name: str, metric: str, table: dict[str, F64], base: dict[str, F64]) -> Difference:
    if metric != COST:
        mean, low, high = paired_interval(table[metric] - base[metric])
        before = float(base[metric].mean())
        is_clear = not low <= 0.0 <= high
        return Difference(
            name, metric, mean, low, high, mean / before if before else None, is_clear
        )
    costs = [_cost(t["spend_micros"].sum(), t["conversions"].sum()) for t in (table, base)]
    without = [_costs_without(t) for t in (table, base)]
    if costs[0] is None or costs[1] is None or not np.isfinite(without).all():
        return Difference(name, metric, None, None, None, None, is_clear=False)
    mean, low, high = jackknife_interval(costs[0] - costs[1], without[0] - without[1])
    is_clear = not low <= 0.0 <= high
    return Difference(
        name, metric, mean, low, high, mean / costs[1] if costs[1] else None, is_clear
    )


def _costs_without(table: dict[str, F64]) -> F64:
    """Returns [N] the cost per conversion of all periods but each; inf where nothing is left."""
    spend = table["spend_micros"].sum() - table["spend_micros"]
    conversions = table["conversions"].sum() - table["conversions"]
    return np.where(conversions > 0, spend / np.maximum(conversions, 1), np.inf)
