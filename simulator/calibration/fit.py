"""From a log to a calibration: every part that the log can say something of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.calibration.delays import fit_delays
from simulator.calibration.log import check_hours
from simulator.calibration.prices import fit_landscape
from simulator.calibration.rates import fit_response, fit_supply
from simulator.calibration.rivals import fit_rivals
from simulator.calibration.terms import Calibration

if TYPE_CHECKING:
    from simulator.calibration.log import Log


def calibrate(log: Log) -> Calibration:
    """Returns what a log says of its market.

    Rivals are fitted where bids were logged, else the landscape of won prices, where there are any.

    Raises:
        BadInput: the log is empty, under 6 hours, or says nothing of where prices lie.
    """
    check_hours(log, "the log")
    rivals = fit_rivals(log) if log.has_bids else None
    landscape = fit_landscape(log) if log.has_prices and not log.has_bids else None
    delays = fit_delays(log)
    delay, cvr = delays if delays is not None else (None, None)
    return Calibration(
        source=log.source,
        currency=log.currency,
        row_count=log.row_count,
        scenes=log.scenes,
        supply=fit_supply(log),
        rivals=rivals,
        landscape=landscape,
        response=fit_response(log, cvr),
        delay=delay,
    )
