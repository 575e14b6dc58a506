"""The price landscape of a log of won impressions: price quantiles by hour of the day.

Where bids were not logged there are no rivals to fit: what is known is what was paid, and perhaps
that lost prices were above a bid. The distribution is the product-limit estimate (Kaplan and Meier,
JASA 53 (1958)), of the hour's rows and, with smaller weights, of those of the other hours: a normal
kernel over the clock plus a weight for all. Both numbers are chosen by leaving one hour of the
fitted log out after the other, so that an hour that was not seen gets what predicts best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from market.errors import BadInput
from simulator.calibration.log import DAY_HOURS, NEVER, summed
from simulator.calibration.rates import hour_weights
from simulator.calibration.terms import LandscapeFit

if TYPE_CHECKING:
    from simulator.calibration.log import F64, I64, Log

QUANTILES = 400
BANDWIDTHS_HOURS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
POOLED_WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0)
"""How far an hour of the day borrows from the others, see ``hour_weights``."""

_LEAST_WEIGHT = 1e-12


class _Counts(NamedTuple):
    """Rows by hour and price.

    Attributes:
        price: [U] distinct prices, rising.
        paid: [24, U] rows whose market price this is.
        above: [24, U] rows whose market price is above this.
    """

    price: I64
    paid: F64
    above: F64


def fit_landscape(log: Log) -> LandscapeFit:
    """Returns the landscape under which left-out hours are predicted best.

    Raises:
        BadInput: no row has a price.
    """
    counts = _counts(log)
    bandwidth, pooled = _choose(counts)
    tables = [
        _quantiles(counts, _survival(counts, _weights(hour, bandwidth, pooled)))
        for hour in range(DAY_HOURS)
    ]
    censored = float(counts.above.sum())
    return LandscapeFit(
        bandwidth_hours=bandwidth,
        pooled_weight=pooled,
        share_censored=censored / (censored + float(counts.paid.sum())),
        cpm_micros=tuple(tuple(table.tolist()) for table in tables),
    )


def product_limit(price: I64, is_above: I64, weight: F64) -> tuple[I64, F64]:
    """Returns distinct prices [U], rising, and the share [U] of the law above each.

    Args:
        price: [N] a market price, or, where ``is_above``, one that it lies above.
        is_above: [N] 0 or 1.
        weight: [N] of the rows.
    """
    distinct, place = np.unique(price, return_inverse=True)
    paid = summed(place, weight * (is_above == 0), distinct.shape[0])
    above = summed(place, weight * (is_above != 0), distinct.shape[0])
    return distinct, _survival_of(paid, above)


def _counts(log: Log) -> _Counts:
    is_exact = (log.least_cpm_micros == log.most_cpm_micros) & (log.has_won > 0)
    is_above = (log.most_cpm_micros == NEVER) & (log.least_cpm_micros > 0)
    used = is_exact | is_above
    if not is_exact.any():
        raise BadInput(
            f"landscape: none of {log.row_count} rows has a price; it must hold won prices"
        )
    price, place = np.unique(log.least_cpm_micros[used], return_inverse=True)
    cell = log.hour[used] * price.shape[0] + place
    size = DAY_HOURS * price.shape[0]
    paid = summed(cell, is_exact[used], size)
    above = summed(cell, is_above[used], size)
    shape = (DAY_HOURS, price.shape[0])
    return _Counts(price, paid.reshape(shape), above.reshape(shape))


def _weights(hour: int, bandwidth: float, pooled: float) -> F64:
    return hour_weights(hour, bandwidth, pooled) + _LEAST_WEIGHT


def _survival(counts: _Counts, weight: F64) -> F64:
    """Returns [U] share of prices above each, hours weighted."""
    return _survival_of(weight @ counts.paid, weight @ counts.above)


def _survival_of(paid: F64, above: F64) -> F64:
    here = paid + above
    at_risk = np.cumsum(here[::-1])[::-1]
    return np.cumprod(1.0 - paid / np.maximum(at_risk, _LEAST_WEIGHT**2)).astype(np.float64)


def _choose(counts: _Counts) -> tuple[float, float]:
    """Returns bandwidth and pooled weight with the least error over left-out hours.

    The error is the Wasserstein distance to the left-out hour's own law, relative to its mean.
    """
    rows = counts.paid.sum(axis=1)
    seen = np.flatnonzero(rows > 0)
    if seen.shape[0] < 2:
        return BANDWIDTHS_HOURS[0], 1.0
    step = np.diff(counts.price.astype(np.float64))
    own = {int(hour): _survival(counts, np.eye(DAY_HOURS)[hour]) for hour in seen}
    best = (np.inf, BANDWIDTHS_HOURS[0], 1.0)
    for bandwidth in BANDWIDTHS_HOURS:
        for pooled in POOLED_WEIGHTS:
            error = 0.0
            for hour, truth in own.items():
                weight = _weights(hour, bandwidth, pooled)
                weight[hour] = 0.0
                told = _survival(counts, weight)
                mean = max(float(np.sum(counts.paid[hour] * counts.price)) / rows[hour], 1.0)
                error += rows[hour] * float(np.abs(told - truth)[:-1] @ step) / mean
            best = min(best, (error, bandwidth, pooled))
    return best[1], best[2]


def _quantiles(counts: _Counts, survival: F64) -> I64:
    """Returns [Q] prices at shares 0.5/Q, 1.5/Q, ..; what is censored beyond the last is there."""
    share = (np.arange(QUANTILES) + 0.5) / QUANTILES
    below = 1.0 - survival
    place = np.searchsorted(below, share - 1e-12, side="left")
    return counts.price[np.minimum(place, counts.price.shape[0] - 1)]
