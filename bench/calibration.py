"""``python -m bench calibration``: does calibration find what no public log shows?

Markets with hidden parameters (``bench.hidden_markets``), the ledger log of a day of the engine in
each, a fit, and then:

* ``coverage_95``: share of 95 % intervals that hold the truth, by parameter and over all
* ``forecast_coverage_80``: share of runs whose wins (and spend) on another day at half and at twice
  the logged bid lie between the forecast's 10 % and 90 % points
* ``fit_rows_per_s``: of bids, in the fit of the rivals, against ``fit_seconds`` of the whole run

A finished market is a line of ``runs/bench-calibration.ndjson``; a run that was interrupted goes on
behind the last one. The file is removed when all are done.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import track

from bench.hidden_markets import bid_day, hidden_market, outcomes_of, true_win_rates
from simulator.calibration.fit import calibrate
from simulator.calibration.play import forecast, win_rate_interval

if TYPE_CHECKING:
    from simulator.calibration.terms import Estimate

MARKETS = 200
MULTIPLIERS = (0.5, 1.0, 2.0)
CHECKPOINT = Path("runs/bench-calibration.ndjson")

_FIT_DAY, _NEXT_DAY, _FORECAST_SEED = 11, 12, 3


class Recovery(msgspec.Struct, frozen=True):
    """What was found in one market.

    Attributes:
        number: of the market.
        family: of the market.
        rows: bids that were fitted.
        fit_s: seconds of the fit.
        covered: by parameter, whether its 95 % interval holds the truth.
        forecast: by quantity and multiplier, whether the 10-90 % range holds what came.
        rivals: how many were fitted.
    """

    number: int
    family: str
    rows: int
    fit_s: float
    covered: dict[str, bool]
    forecast: dict[str, bool]
    rivals: int


def run(rounds: int) -> dict[str, object]:  # noqa: ARG001 - one pass: every market is a round
    """Returns the coverage over ``MARKETS`` markets (``BENCH_MARKETS`` overrides how many)."""
    count = int(os.environ.get("BENCH_MARKETS", str(MARKETS)))
    CHECKPOINT.parent.mkdir(exist_ok=True)
    done = _done()
    missing = [number for number in range(count) if number not in done]
    with CHECKPOINT.open("ab") as file:
        for number in track(missing, "markets", console=Console(stderr=True)):
            done[number] = recover(number)
            file.write(msgspec.json.encode(done[number]) + b"\n")
            file.flush()
    found = summary([done[number] for number in range(count)])
    CHECKPOINT.unlink()
    return found


def _done() -> dict[int, Recovery]:
    """Returns the markets of an interrupted run; a last line that was cut is done again."""
    lines = CHECKPOINT.read_bytes().split(b"\n")[:-1] if CHECKPOINT.exists() else []
    found = [msgspec.json.decode(line, type=Recovery) for line in lines]
    CHECKPOINT.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in found))
    return {one.number: one for one in found}


def recover(number: int) -> Recovery:
    """Returns what calibration finds in one market."""
    market = hidden_market(number)
    day = bid_day(market, _FIT_DAY)
    started = time.perf_counter()
    fitted = calibrate(day.log)
    fit_s = time.perf_counter() - started
    rivals = fitted.rivals
    assert rivals is not None
    after = bid_day(market, _NEXT_DAY)
    outcomes = outcomes_of(market, after, _NEXT_DAY, MULTIPLIERS)
    (here,) = outcomes_of(market, day, _FIT_DAY, (1.0,))
    there = outcomes[MULTIPLIERS.index(1.0)]
    clicks = here.clicks + there.clicks
    rules = market.scenario.response
    covered = {
        "ctr": fitted.response.ctr.covers(clicks / (here.wins + there.wins)),
        "requests_per_day": fitted.supply.requests_per_day.covers(market.scenario.requests_per_day),
    }
    if fitted.delay is not None and fitted.response.cvr is not None:
        rate = (here.conversions + there.conversions) / clicks
        covered["cvr"] = fitted.response.cvr.covers(rate)
        covered["delay_median_ms"] = fitted.delay.median_ms.covers(rules.delay_ms_median)
        covered["delay_sigma"] = fitted.delay.sigma.covers(rules.delay_sigma)
    rates = true_win_rates(market, day, _FIT_DAY, MULTIPLIERS)
    for multiplier, rate in zip(MULTIPLIERS, rates, strict=True):
        told = win_rate_interval(rivals, day.log, multiplier, seed=_FORECAST_SEED)
        covered[f"win_rate_at_{multiplier:g}"] = told.covers(rate)
    if market.family == "single":
        (truth,) = market.scenario.competitors
        (first, *_) = rivals.rivals
        for name, value in (
            ("presence", truth.presence), ("cpm_median", truth.cpm_median), ("sigma", truth.sigma),
        ):  # fmt: skip
            interval: Estimate = getattr(first, name)
            # Where more rivals were found than there are, none of them is the one.
            covered[name] = len(rivals.rivals) == 1 and interval.covers(value)
    held: dict[str, bool] = {}
    for multiplier, outcome in zip(MULTIPLIERS, outcomes, strict=True):
        told = forecast(rivals, after.log, multiplier, seed=_FORECAST_SEED)
        for name in ("wins", "spend_micros"):
            low, _, high = getattr(told, name)
            held[f"{name}_at_{multiplier:g}"] = low <= getattr(outcome, name) <= high
    return Recovery(
        number, market.family, day.log.row_count, fit_s, covered, held, len(rivals.rivals)
    )


def summary(found: list[Recovery]) -> dict[str, object]:
    """Returns the coverage over markets."""
    names = sorted({name for one in found for name in one.covered})
    by_name = {
        name: float(np.mean([one.covered[name] for one in found if name in one.covered]))
        for name in names
    }
    hits = [hit for one in found for hit in one.covered.values()]
    told = {
        name: float(np.mean([one.forecast[name] for one in found])) for name in found[0].forecast
    }
    return {
        "markets": len(found),
        "intervals": len(hits),
        "coverage_95": float(np.mean(hits)),
        "coverage_95_by_parameter": by_name,
        "forecast_coverage_80": told,
        "forecast_coverage_80_several": {
            name: float(np.mean([one.forecast[name] for one in found if one.family == "several"]))
            for name in found[0].forecast
        } if any(one.family == "several" for one in found) else {},
        "rivals_found": {
            family: float(np.mean([one.rivals for one in found if one.family == family]))
            for family in sorted({one.family for one in found})
        },
        "fit_rows_per_s": float(sum(one.rows for one in found) / sum(one.fit_s for one in found)),
    }  # fmt: skip
