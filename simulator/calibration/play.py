"""The calibrated market: what becomes of logged bids, drawn by the twin's own kernels.

``play`` answers a log's requests with a day of the fitted market: rivals by
``simulator.kernels.best_rivals``, auctions by ``market.auction``, clicks, conversions and delays by
``draw_responses`` and ``draw_orders``. What comes out is a ``Log`` again, to be held against the
real one. ``forecast`` says how many wins and how much spend other bids would have had, with what is
not known of the market in its range.

All draws are keyed; a seed must not be one that the log itself was drawn with, so ``play`` mixes it
with a name of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import expit

from market import auction
from market.chance import Purpose, code_of, pair_code
from market.errors import BadInput
from market.money import MICROS
from simulator.calibration.kernels import landscape_prices
from simulator.calibration.kernels import win_probabilities as chances
from simulator.calibration.log import DAY_HOURS, NEVER
from simulator.calibration.rivals import numbers_at, scaled_bids, theta_of, worth_of
from simulator.calibration.terms import Estimate
from simulator.kernels import (
    amounts_micros,
    best_rivals,
    draw_orders,
    draw_responses,
    normal_table,
    uniform_table,
)

if TYPE_CHECKING:
    from simulator.calibration.log import F64, I64, Log
    from simulator.calibration.terms import Calibration, RivalsFit, SupplyFit

DRAWS = 400
"""Of the market's parameters, in a forecast."""

_OWN = code_of("calibration")
_ONE_SLOT = np.array([MICROS], np.int64)
_NO_END_MS = 1e15


class Forecast(NamedTuple):
    """What bids would have bought: 10 %, 50 % and 90 % points.

    Attributes:
        wins: of won impressions.
        spend_micros: of their prices.
    """

    wins: tuple[float, float, float]
    spend_micros: tuple[float, float, float]


def play(calibration: Calibration, log: Log, *, seed: int, multiplier: float = 1.0) -> Log:
    """Returns a log like ``log`` (same requests and bids) with outcomes of the fitted market.

    Args:
        calibration: of a log with the same scenes.
        log: whose bids are played; a log without bids is of won impressions only, and stays so.
        seed: of the draws.
        multiplier: of the bids.

    Raises:
        BadInput: the calibration has other scenes, or no prices for a log with bids.
    """
    if calibration.scenes != log.scenes:
        raise BadInput(
            f"calibration of scenes {calibration.scenes}: the log has {log.scenes}; both must come "
            "from one reading"
        )
    own = own_seed(seed)
    priced = _priced(calibration, log, own, multiplier)
    won = np.flatnonzero(priced.has_won)
    key_hi, key_lo = priced.key_hi[won], priced.key_lo[won]
    rates = np.array([rate.value for rate in calibration.response.ctr_by_scene])
    cvr = calibration.response.cvr
    _, clicked, converts = draw_responses(
        own, key_hi, key_lo, np.ones(won.shape[0]), rates[log.scene[won]],
        np.full(won.shape[0], cvr.value if cvr else 0.0),
    )  # fmt: skip
    count = log.row_count
    has_clicked = np.zeros(count, np.uint8)
    has_clicked[won] = clicked
    followed = np.where(has_clicked > 0, log.end_ms - log.at_ms, -1)
    delay = np.full(count, -1, np.int64)
    if calibration.delay is not None:
        bounds = np.array(
            [calibration.delay.median_ms.value, calibration.delay.sigma.value, 0.0, _NO_END_MS]
        )
        drawn, _ = draw_orders(own, key_hi, key_lo, bounds, 0.0)
        tick = log.delay_tick_ms
        delay[won] = np.where(converts > 0, (drawn + tick // 2) // tick * tick, -1)
    is_known = (delay >= 0) & (delay <= followed)
    return priced._replace(
        requests=draw_requests(calibration.supply, log, own),
        clicked=has_clicked,
        converted=is_known.astype(np.uint8),
        delay_ms=np.where(is_known, delay, -1),
        followed_ms=followed,
    )


def forecast(
    fit: RivalsFit, log: Log, multiplier: float, *, seed: int, draws: int = DRAWS
) -> Forecast:
    """Returns what the bids of a log times ``multiplier`` would have won and spent at first price.

    What is uncertain in it: the fitted numbers (drawn from their covariance), which auctions are
    won, and that users who are met again make wins go together.

    Args:
        fit: of the market.
        log: whose bids are asked about; its outcomes are not looked at.
        multiplier: of the bids.
        seed: of the draws.
        draws: of the fitted numbers.
    """
    theta = _parameters(fit, seed, draws)
    bid, worth = scaled_bids(log, multiplier), worth_of(log, fit.bid_cpm_centre)
    amount, rivals = _amounts(bid).astype(np.float64), len(fit.rivals)
    keys = np.arange(draws, dtype=np.uint64)
    noise = normal_table(own_seed(seed), int(Purpose.NOISE), np.full_like(keys, 2), keys, 2)
    wins, spend = np.empty(draws), np.empty(draws)
    for draw in range(draws):
        chance = chances(
            *numbers_at(theta[draw], rivals), log.scene, worth, bid, log.floor_cpm_micros
        )
        spread = chance * (1.0 - chance) * fit.dispersion
        wins[draw] = chance.sum() + noise[draw, 0] * np.sqrt(spread.sum())
        spend[draw] = chance @ amount + noise[draw, 1] * np.sqrt(spread @ amount**2)
    points = (0.1, 0.5, 0.9)
    told_wins = np.maximum(np.quantile(wins, points), 0.0)
    told_spend = np.maximum(np.quantile(spend, points), 0.0)
    return Forecast(_three(told_wins), _three(told_spend))


def win_rate_interval(
    fit: RivalsFit, log: Log, multiplier: float, *, seed: int, draws: int = DRAWS
) -> Estimate:
    """Returns the share of a log's bids, times ``multiplier``, that win, and its 95 % interval.

    Unlike ``forecast`` this is of the market's win probability, without the chance of one day.
    """
    theta = _parameters(fit, seed, draws)
    bid, worth = scaled_bids(log, multiplier), worth_of(log, fit.bid_cpm_centre)

    def rate(at: F64) -> float:
        numbers = numbers_at(at, len(fit.rivals))
        return float(chances(*numbers, log.scene, worth, bid, log.floor_cpm_micros).mean())

    rates = np.array([rate(at) for at in theta])
    low, high = np.quantile(rates, (0.025, 0.975))
    return Estimate.of(rate(theta_of(fit)), float(low), float(high))


def draw_requests(supply: SupplyFit, log: Log, seed: int) -> F64:
    """Returns [H] requests of a log's hours, as the fitted supply would have them.

    Poisson, widened by the fitted dispersion; what days differ by beyond that is in the intervals
    of the fit only.
    """
    hours = log.requests.shape[0]
    hour = (log.hour_first + np.arange(hours)) % DAY_HOURS
    rates = np.array([rate.value for rate in supply.requests_per_hour])
    return poisson(rates[hour] * log.covered, supply.dispersion, seed)


def poisson(mean: F64, unit: float, seed: int) -> F64:
    """Returns [H] Poisson draws of requests that come ``unit`` at a time.

    The same seed has the same luck whatever the means.
    """
    keys = np.arange(mean.shape[0], dtype=np.uint64)
    u = uniform_table(
        seed, int(Purpose.ARRIVAL), np.full_like(keys, 2), keys, np.zeros(1, np.int64)
    )[:, 0]
    return stats.poisson.ppf(u, mean / unit) * unit


def own_seed(seed: int) -> int:
    """Returns the seed of the draws of calibration, which no market is drawn with."""
    return pair_code(seed, _OWN) >> 1


def _priced(calibration: Calibration, log: Log, seed: int, multiplier: float) -> Log:
    """Returns the log with the market prices, wins and payments of the fitted market."""
    fit = calibration.rivals
    if log.has_bids:
        if fit is None:
            raise BadInput("calibration without rivals: it cannot say which bids win")
        rival = _rivals(fit, log, seed)
        bid = scaled_bids(log, multiplier)
        entered = np.where(bid >= log.floor_cpm_micros, bid, 0)
        rule = auction.Rule.SECOND_PRICE if is_second_price(log) else auction.Rule.FIRST_PRICE
        outcome = auction.clear(rule, np.stack((rival, entered)), log.floor_cpm_micros, _ONE_SLOT)
        # What was not decided by price, such as a creative that was refused, is not here either.
        has_won = (outcome.winner[:, 0] == 1) & (log.is_decided > 0)
        no_rival = np.maximum(log.floor_cpm_micros, 1)
        paid = np.where(has_won, outcome.price_cpm_micros[:, 0], 0)
        least, most = rival, np.where(rival > 0, rival, no_rival)
        # What the log's exchange does not tell, this one does not either.
        if not _tells(log, log.has_won > 0):
            is_second = has_won & (paid < bid) & (paid > log.floor_cpm_micros)
            least = np.where(has_won, np.where(is_second, paid, 0), least)
            most = np.where(has_won, paid, most)
        if not _tells(log, log.has_won == 0):
            least, most = np.where(has_won, least, bid), np.where(has_won, most, NEVER)
        return log._replace(
            bid_cpm_micros=bid,
            least_cpm_micros=least,
            most_cpm_micros=most,
            has_won=has_won.astype(np.uint8),
            paid_cpm_micros=paid,
        )
    if calibration.landscape is None:
        return log
    price = landscape_prices(
        seed, int(Purpose.COMPETITOR_VALUE), log.key_hi, log.key_lo, log.hour,
        np.array(calibration.landscape.cpm_micros, np.int64),
    )  # fmt: skip
    return log._replace(least_cpm_micros=price, most_cpm_micros=price, paid_cpm_micros=price)


def is_second_price(log: Log) -> bool:
    """Returns whether most winners of a log paid less than they bid."""
    won = (log.has_won > 0) & (log.bid_cpm_micros > 0)
    paid_less = int(np.count_nonzero(log.paid_cpm_micros[won] < log.bid_cpm_micros[won]))
    return 2 * paid_less > int(won.sum())


def _tells(log: Log, side: npt.NDArray[np.bool_]) -> bool:
    """Returns whether a log says the market price of most decided rows of a side; of none, yes."""
    told = log.is_told[side & (log.is_decided > 0)]
    return not told.size or bool(told.mean() > 0.5)


def _rivals(fit: RivalsFit, log: Log, seed: int) -> I64:
    """Returns [N] best rival bids by the twin's kernel.

    Every row is a user of its own with one taste: what our bid says it is worth.
    """
    numbers = numbers_at(theta_of(fit), len(fit.rivals))
    worth = worth_of(log, fit.bid_cpm_centre)[:, None]
    return best_rivals(
        seed, log.key_hi, log.key_lo, log.scene, np.arange(log.row_count, dtype=np.int32),
        log.floor_cpm_micros, expit(numbers.odds),
        numbers.median[:, None] + numbers.shift[None, :],
        np.full((len(fit.rivals), 1), numbers.slant), np.exp(numbers.log_sigma), worth,
    )  # fmt: skip


def _parameters(fit: RivalsFit, seed: int, draws: int) -> F64:
    """Returns [draws, 3K + 1 + S] vectors from the fitted law of the rivals' numbers."""
    middle, rivals = theta_of(fit), len(fit.rivals)
    values, vectors = np.linalg.eigh(np.array(fit.covariance))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    keys = np.arange(draws, dtype=np.uint64)
    normal = normal_table(
        own_seed(seed), int(Purpose.NOISE), np.full_like(keys, 1), keys, middle.shape[0]
    )
    theta = middle + normal @ root.T
    theta[:, :rivals] = np.clip(theta[:, :rivals], -12.0, 12.0)
    theta[:, rivals : 2 * rivals] = np.clip(theta[:, rivals : 2 * rivals], -6.0, 3.0)
    return theta


def _amounts(price_cpm_micros: I64) -> I64:
    """Returns [N] what one impression costs at each price."""
    one = np.full(price_cpm_micros.shape[0], MICROS, np.int64)
    return amounts_micros(price_cpm_micros, one, one)


def _three(points: F64) -> tuple[float, float, float]:
    low, middle, high = (float(point) for point in points)
    return low, middle, high
