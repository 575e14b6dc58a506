"""Fidelity: how far the calibrated twin is from days that it was not fitted to.

For every row (``fidelity_rows``) four distances from the held-back log:

* the twin's: of days played by the calibrated market on the held-back requests and bids
* the naive one's: of days resampled from the fitted part, hour by hour (an hour of the day that it
  lacks is resampled from all hours)
* the floor: of two resamplings of the held-back log from each other, 95 % point; below it a
  difference is sampling noise. Users are resampled whole
* the smallest detectable difference: the least relative change of the held-back log itself that
  would exceed the floor in 80 % of resamplings

A row that could not detect 20 % says "no evidence", whatever the twin's distance is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import numpy as np

from market.chance import Purpose, pair_code
from simulator.calibration.fidelity_rows import Row, rows_for
from simulator.calibration.kernels import poisson_counts
from simulator.calibration.log import DAY_HOURS, F64, Log, rows_of, summed
from simulator.calibration.play import own_seed, play, poisson
from simulator.calibration.rates import COVERED_MIN
from simulator.calibration.rivals import clusters
from simulator.kernels import uniform_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.calibration.log import Split
    from simulator.calibration.terms import Calibration

Verdict = Literal["better", "within noise", "worse", "no evidence"]

DETECTABLE_MAX = 0.2
"""A row that cannot tell this much is no evidence."""

CHANGES = (0.02, 0.05, 0.1, 0.2, 0.5)

_POWER = 0.8
_CONFIDENCE = 0.95


class RowReport(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report; distances as ``fidelity_rows`` defines them.

    Attributes:
        name, kind, axis, unit, bins: of the row.
        twin, naive: mean distance from the held-back log.
        floor: 95 % point of the sampling noise, at least ``Row.floor_min``.
        detectable: smallest of ``CHANGES`` that the row would notice; None = none of them.
        lead: mean distance of naive less that of the twin, and its standard error over the days
            that were drawn.
        verdict: ``no evidence`` if ``detectable`` is above 20 % or unknown; ``within noise`` if the
            twin is below the floor; else ``better`` where the lead is above two standard errors,
            and ``worse`` where the twin is not shown to be better.
        held_back_values, twin_values, naive_values: of the bins, the last two means over days;
            None where the held-back log has nothing in a bin.
    """

    name: str
    kind: str
    axis: str
    unit: str
    bins: tuple[str, ...]
    twin: float
    naive: float
    floor: float
    detectable: float | None
    lead: tuple[float, float]
    verdict: Verdict
    held_back_values: tuple[float | None, ...]
    twin_values: tuple[float, ...]
    naive_values: tuple[float, ...]


class Step(msgspec.Struct, frozen=True):
    """A finished part of the work: what a checkpoint keeps.

    Attributes:
        phase: ``twin``, ``naive`` or ``floor``.
        number: of the day or pair.
        distances: by row; of ``floor``, then of each of ``CHANGES``.
        values: of the bins, by row; empty in phase ``floor``.
    """

    phase: str
    number: int
    distances: dict[str, tuple[float, ...]]
    values: dict[str, tuple[float, ...]]


class Effort(NamedTuple):
    """How many days are drawn: more say more precisely the same.

    Attributes:
        twin_days, naive_days: of which the mean distance is reported.
        floor_pairs: of resamplings of the held-back log.
    """

    twin_days: int = 20
    naive_days: int = 20
    floor_pairs: int = 60

    def steps(self) -> tuple[tuple[str, int], ...]:
        """Returns phase and number of every step, in order."""
        phases = zip(("twin", "naive", "floor"), self, strict=True)
        return tuple((phase, number) for phase, count in phases for number in range(count))


FULL = Effort()


def compare(
    calibration: Calibration,
    split: Split,
    *,
    seed: int,
    effort: Effort = FULL,
    done: tuple[Step, ...] = (),
    on_step: Callable[[Step], None] | None = None,
) -> tuple[RowReport, ...]:
    """Returns the rows of the report.

    Args:
        calibration: fitted to ``split.fitted``.
        split: the log in two.
        seed: of all draws.
        effort: how many days are drawn.
        done: steps of an interrupted run, which are not done again.
        on_step: told of every new step, in order.
    """
    rows = rows_for(split.held_back)
    found = {(step.phase, step.number): step for step in done}
    for phase, number in effort.steps():
        if (phase, number) in found:
            continue
        step = _step(phase, number, rows, calibration, split, seed)
        found[phase, number] = step
        if on_step is not None:
            on_step(step)
    return tuple(_report(row, split.held_back, list(found.values())) for row in rows)


def resampled(log: Log, seed: int, dispersion: float) -> Log:
    """Returns the log drawn anew from itself: users (or rows) with Poisson weights, hours too.

    ``dispersion`` is the variance of an hour's requests over their mean (``SupplyFit``).
    """
    own = own_seed(seed)
    index = np.repeat(
        np.arange(log.row_count), poisson_counts(own, int(Purpose.USER), clusters(log))
    )
    return rows_of(log, index)._replace(requests=poisson(log.requests, dispersion, own))


def naive_day(fitted: Log, held_back: Log, seed: int, dispersion: float) -> Log:
    """Returns the held-back hours filled with rows of the fitted part.

    Every held-back row becomes a row of the same hour of the day, or, where there was none, any.
    """
    own = own_seed(seed)
    by_hour = [np.flatnonzero(fitted.hour == hour) for hour in range(DAY_HOURS)]
    everything = np.arange(fitted.row_count)
    u = uniform_table(
        own, int(Purpose.USER), np.full(held_back.row_count, 5, np.uint64),
        np.arange(held_back.row_count, dtype=np.uint64), np.zeros(1, np.int64),
    )[:, 0]  # fmt: skip
    pick = np.empty(held_back.row_count, np.int64)
    hours = held_back.hour
    for hour in range(DAY_HOURS):
        here = hours == hour
        pool = by_hour[hour] if by_hour[hour].size else everything
        pick[here] = pool[(u[here] * pool.size).astype(np.int64)]
    drawn = rows_of(fitted, pick)
    return drawn._replace(
        at_ms=held_back.at_ms,
        hour_first=held_back.hour_first,
        covered=held_back.covered,
        requests=poisson(_naive_requests(fitted, held_back), dispersion, own),
        end_ms=held_back.end_ms,
    )


def verdict_of(
    twin: float, floor: float, detectable: float | None, lead: tuple[float, float]
) -> Verdict:
    """Returns what a row says, see ``RowReport``; one that cannot detect 20 % says nothing."""
    if detectable is None or detectable > DETECTABLE_MAX:
        return "no evidence"
    if twin <= floor:
        return "within noise"
    return "better" if lead[0] > 2.0 * lead[1] else "worse"


def _step(
    phase: str, number: int, rows: tuple[Row, ...], calibration: Calibration, split: Split,
    seed: int,
) -> Step:  # fmt: skip
    held_back = split.held_back
    own = pair_code(seed, number) >> 2
    dispersion = calibration.supply.dispersion
    if phase == "floor":
        first, second = (resampled(held_back, 2 * own + n, dispersion) for n in (0, 1))
        distances = {
            row.name: (
                row.distance(first, second),
                *(row.distance(first, row.perturb(second, change, own)) for change in CHANGES),
            )
            for row in rows
        }
        return Step(phase, number, distances, {})
    drawn = (
        play(calibration, held_back, seed=own)
        if phase == "twin"
        else naive_day(split.fitted, held_back, own, dispersion)
    )
    return Step(
        phase, number,
        {row.name: (row.distance(held_back, drawn),) for row in rows},
        {row.name: tuple(row.curve(drawn).value.tolist()) for row in rows},
    )  # fmt: skip


def _report(row: Row, held_back: Log, steps: list[Step]) -> RowReport:
    def told(phase: str) -> F64:
        return np.array([step.distances[row.name] for step in steps if step.phase == phase])

    def values(phase: str) -> tuple[float, ...]:
        found = [step.values[row.name] for step in steps if step.phase == phase]
        return tuple(np.mean(found, axis=0).tolist())

    noise = told("floor")
    floor = max(float(np.quantile(noise[:, 0], _CONFIDENCE)), row.floor_min)
    noticed = (noise[:, 1:] > floor).mean(axis=0) >= _POWER
    detectable = CHANGES[int(np.argmax(noticed))] if noticed.any() else None
    of_twin, of_naive = told("twin"), told("naive")
    twin, naive = float(of_twin.mean()), float(of_naive.mean())
    error = np.sqrt(of_twin.var() / of_twin.size + of_naive.var() / of_naive.size)
    lead = naive - twin, float(error)
    own = row.curve(held_back)
    return RowReport(
        name=row.name, kind=row.kind, axis=row.axis, unit=row.unit, bins=row.bins,
        twin=twin, naive=naive, floor=floor, detectable=detectable,
        lead=lead, verdict=verdict_of(twin, floor, detectable, lead),
        held_back_values=tuple(
            value if weight > 0 else None
            for value, weight in zip(own.value.tolist(), own.weight.tolist(), strict=True)
        ),
        twin_values=values("twin"),
        naive_values=values("naive"),
    )  # fmt: skip


def _naive_requests(fitted: Log, held_back: Log) -> F64:
    """Returns [H] requests of the held-back hours if they were as in the fitted part."""
    used = fitted.covered >= COVERED_MIN
    hour = (fitted.hour_first + np.flatnonzero(used)) % DAY_HOURS
    count = summed(hour, fitted.requests[used], DAY_HOURS)
    held = summed(hour, fitted.covered[used], DAY_HOURS)
    mean = count.sum() / max(float(held.sum()), 1e-9)
    rate = np.where(held > 0, count / np.maximum(held, 1e-9), mean)
    wanted = (held_back.hour_first + np.arange(held_back.requests.shape[0])) % DAY_HOURS
    return rate[wanted] * held_back.covered
