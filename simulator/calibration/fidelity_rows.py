"""What a fidelity report compares, row by row: a curve, a distance, and what 20 % would look like.

A row is made for a held-back log, so that its bins are those of that log. Its distance is relative:
0.1 is a tenth of the held-back log's own level.

* prices: Wasserstein-1 distance over the mean price, within hours and weighted by their rows
* rates: differences of rates, weighted by how often each bin was tried, over the overall rate
* counts: differences of counts, over their sum
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, SupportsFloat

import numpy as np

from market.chance import Purpose
from simulator.calibration.log import DAY_HOURS, F64, I64, NEVER, Log, log_knows_clicks, summed
from simulator.calibration.play import is_second_price
from simulator.calibration.rates import COVERED_MIN
from simulator.kernels import uniform_table

if TYPE_CHECKING:
    from collections.abc import Callable

MULTIPLIERS = (0.5, 0.75, 1.0, 1.5, 2.0)
DELAY_EDGES_MS = (
    0, 300_000, 900_000, 3_600_000, 10_800_000, 21_600_000, 86_400_000, 259_200_000, NEVER,
)  # fmt: skip
DELAY_NAMES = ("5 min", "15 min", "1 h", "3 h", "6 h", "1 d", "3 d", "later")

_BID_BINS = 10
_HOURS = tuple(f"{hour}" for hour in range(DAY_HOURS))


class Curve(NamedTuple):
    """Values of a row's bins, [X], and how much each weighs, [X]."""

    value: F64
    weight: F64


class Row(NamedTuple):
    """One line of the report.

    Attributes:
        name: such as ``CTR by slot``.
        kind: ``marginal`` or ``conditional``.
        axis: what the bins are.
        unit: of the values.
        bins: [X] names of the bins.
        curve: of any log with the same scenes.
        distance: of the second log from the first, relative to the first.
        perturb: the log with everything that the row looks at different by a share; the last
            argument is a seed.
        floor_min: the noise floor is not below this, whatever resamplings say: where all of n rows
            are alike, so are all resamplings, yet up to 3 / n of such rows may be unlike (the rule
            of three: Hanley and Lippman-Hand, JAMA 249 (1983)).
    """

    name: str
    kind: str
    axis: str
    unit: str
    bins: tuple[str, ...]
    curve: Callable[[Log], Curve]
    distance: Callable[[Log, Log], float]
    perturb: Callable[[Log, float, int], Log]
    floor_min: float = 0.0


def rows_for(held_back: Log) -> tuple[Row, ...]:
    """Returns the rows that a held-back log has anything to say to."""
    rows = [*_supply_rows(held_back)]
    if held_back.has_prices:
        unit = f"{held_back.currency} per thousand"
        rows.append(_price_row(held_back, "win price", unit, _win_price, is_by_hour=False))
        rows.append(_price_row(held_back, "win price by hour", unit, _win_price, is_by_hour=True))
    if held_back.has_bids:
        told = held_back.is_told[held_back.is_decided > 0]
        if told.size and told.mean() > 0.5:
            unit = f"{held_back.currency} per thousand"
            rows.append(
                _price_row(held_back, "price to win by hour", unit, _told_price, is_by_hour=True)
            )
            rows.append(_spend_row(held_back))
        rows.append(
            _rate_row(held_back, "win rate", "", ("all",), _all, _bids_of, _wins_of, "has_won")
        )
        edges = np.unique(
            np.quantile(held_back.bid_cpm_micros, np.arange(1, _BID_BINS) / _BID_BINS)
        )
        names = (*(f"{edge / 1e6:.2f}" for edge in edges), "more")

        def bid_bin(log: Log) -> I64:
            return np.searchsorted(edges, log.bid_cpm_micros, side="left").astype(np.int64)

        axis = f"bid up to, {held_back.currency} per thousand"
        rows.append(_rate_row(
            held_back, "win rate by bid", axis, names, bid_bin, _bids_of, _wins_of, "has_won"
        ))  # fmt: skip
    # Where nobody clicked or ordered, that is no evidence, and said to be: the row stays.
    rows.append(_rate_row(held_back, "CTR", "", ("all",), _all, _wins_of, _clicks_of, "clicked"))
    if len(held_back.scenes) > 1:
        rows.append(_rate_row(
            held_back, "CTR by slot", "slot", held_back.scenes, _slot, _wins_of, _clicks_of,
            "clicked",
        ))  # fmt: skip
    if log_knows_clicks(held_back):
        rows.append(_rate_row(
            held_back, "conversions per click", "", ("all",), _all, _clicks_of, _orders_of,
            "converted",
        ))  # fmt: skip
        rows.append(_delay_row(held_back))
    return tuple(rows)


def thinned(log: Log, column: str, share: float, seed: int) -> Log:
    """Returns the log with that share of the ones in a 0-1 column taken back, at random."""
    u = uniform_table(
        seed, int(Purpose.NOISE), np.full(log.row_count, 7, np.uint64),
        np.arange(log.row_count, dtype=np.uint64), np.zeros(1, np.int64),
    )[:, 0]  # fmt: skip
    kept = getattr(log, column) * (u >= share).astype(np.uint8)
    return log._replace(**{column: kept})


def wasserstein(a: F64, b: F64) -> float:
    """Returns the Wasserstein-1 distance of two samples: the area between their distributions."""
    if not a.size or not b.size:
        return float("nan")
    both = np.sort(np.concatenate((a, b)))
    share_a = np.searchsorted(np.sort(a), both[:-1], side="right") / a.size
    share_b = np.searchsorted(np.sort(b), both[:-1], side="right") / b.size
    return float(np.abs(share_a - share_b) @ np.diff(both))


def _price_row(
    held_back: Log, name: str, unit: str, of: Callable[[Log], tuple[F64, I64]], *, is_by_hour: bool
) -> Row:
    def curve(log: Log) -> Curve:
        price, hour = of(log)
        place = hour if is_by_hour else np.zeros_like(hour)
        size = DAY_HOURS if is_by_hour else 1
        weight = summed(place, None, size)
        total = summed(place, price, size)
        return Curve(_ratio(total, weight), weight)

    def distance(a: Log, b: Log) -> float:
        (price_a, hour_a), (price_b, hour_b) = of(a), of(b)
        if not price_a.any() or not price_b.size:
            # Nothing to be relative to: a log without a price is a whole price away from others.
            return float(price_a.any() != price_b.any())
        if not is_by_hour:
            return wasserstein(price_a, price_b) / float(price_a.mean())
        total = 0.0
        for hour in np.unique(hour_a):
            here, there = price_a[hour_a == hour], price_b[hour_b == hour]
            # An hour that the other log lacks is as far away as its whole price.
            apart = wasserstein(here, there) if there.size else float(here.mean())
            total += here.size * apart
        return total / price_a.size / float(price_a.mean())

    def perturb(log: Log, share: float, seed: int) -> Log:
        del seed
        least, most, paid = (
            np.where(column < NEVER, np.rint(column * (1.0 + share)), column).astype(np.int64)
            for column in (log.least_cpm_micros, log.most_cpm_micros, log.paid_cpm_micros)
        )
        floor = np.rint(log.floor_cpm_micros * (1.0 + share)).astype(np.int64)
        return log._replace(
            least_cpm_micros=least, most_cpm_micros=most, paid_cpm_micros=paid,
            floor_cpm_micros=floor,
        )  # fmt: skip

    bins = _HOURS if is_by_hour else ("all",)
    kind = "conditional" if is_by_hour else "marginal"
    floor_min = _unseen(of(held_back)[0].size)
    axis = _hour_axis(held_back) if is_by_hour else ""
    return Row(name, kind, axis, unit, bins, curve, distance, perturb, floor_min)


def _rate_row(
    held_back: Log,
    name: str,
    axis: str,
    bins: tuple[str, ...],
    bin_of: Callable[[Log], I64],
    tries_of: Callable[[Log], F64],
    hits_of: Callable[[Log], F64],
    column: str,
) -> Row:
    def curve(log: Log) -> Curve:
        place = bin_of(log)
        tries = summed(place, tries_of(log), len(bins))
        hits = summed(place, hits_of(log), len(bins))
        return Curve(_ratio(hits, tries), tries)

    def perturb(log: Log, share: float, seed: int) -> Log:
        return thinned(log, column, share, seed)

    kind = "conditional" if len(bins) > 1 else "marginal"
    value, tries = curve(held_back)
    level = _level(value @ tries / max(float(tries.sum()), 1e-12), tries.sum())
    return Row(
        name, kind, axis, "share", bins, curve, _curve_distance(curve, held_back), perturb,
        _unseen(tries.sum()) / level,
    )  # fmt: skip


def _delay_row(held_back: Log) -> Row:
    def curve(log: Log) -> Curve:
        clicks = max(float(_clicks_of(log).sum()), 1.0)
        delay = log.delay_ms[log.converted > 0]
        count = np.histogram(delay, np.array(DELAY_EDGES_MS, np.float64))[0]
        return Curve(count / clicks, np.ones(count.shape[0]))

    clicks = _clicks_of(held_back).sum()
    level = _level(curve(held_back).value.sum(), clicks)

    def distance(a: Log, b: Log) -> float:
        here, there = curve(a).value, curve(b).value
        return float(np.abs(here - there).sum() / level)

    def perturb(log: Log, share: float, seed: int) -> Log:
        return thinned(log, "converted", share, seed)

    name = "conversions by delay"
    return Row(
        name, "conditional", "within", "per click", DELAY_NAMES, curve, distance, perturb,
        _unseen(clicks) / level,
    )  # fmt: skip


def _spend_row(held_back: Log) -> Row:
    def curve(log: Log) -> Curve:
        told = log.is_told > 0
        market = np.where(log.least_cpm_micros > 0, log.least_cpm_micros, 0)[told]
        bid, floor = log.bid_cpm_micros[told], log.floor_cpm_micros[told]
        is_second = is_second_price(log)
        spend = []
        for multiplier in MULTIPLIERS:
            scaled = bid * multiplier
            wins = (scaled > market) & (scaled >= floor)
            paid = np.maximum(market, floor) if is_second else scaled
            spend.append(float(np.sum(np.where(wins, paid, 0.0))) / max(bid.shape[0], 1) / 1e6)
        return Curve(np.array(spend), np.ones(len(MULTIPLIERS)))

    level = np.maximum(curve(held_back).value, 1e-12)

    def distance(a: Log, b: Log) -> float:
        here, there = curve(a).value, curve(b).value
        return float(np.mean(np.abs(here - there) / level))

    def perturb(log: Log, share: float, seed: int) -> Log:
        # That share of the auctions gets a price that no bid reaches.
        marked = thinned(
            log._replace(has_won=np.ones(log.row_count, np.uint8)), "has_won", share, seed
        )
        is_out = (marked.has_won == 0) & (log.is_told > 0)
        never = np.where(is_out, NEVER - 1, log.least_cpm_micros)
        most = np.where(is_out, NEVER - 1, log.most_cpm_micros)
        return log._replace(least_cpm_micros=never, most_cpm_micros=most)

    names = tuple(f"{multiplier:g}" for multiplier in MULTIPLIERS)
    return Row(
        "spend by bid multiplier", "conditional", "times the logged bid",
        f"{held_back.currency} per thousand bids", names, curve, distance, perturb,
        _unseen(np.count_nonzero(held_back.is_told)),
    )  # fmt: skip


def _hour_axis(log: Log) -> str:
    return "hour of the day, " + ("as the log counts" if log.source == "ipinyou" else "UTC")


def _supply_rows(held_back: Log) -> tuple[Row, Row]:
    def curve(log: Log) -> Curve:
        used = log.covered >= COVERED_MIN
        hour = (log.hour_first + np.flatnonzero(used)) % DAY_HOURS
        count = summed(hour, log.requests[used], DAY_HOURS)
        held = summed(hour, log.covered[used], DAY_HOURS)
        return Curve(_ratio(count, held), held)

    def shape(log: Log) -> Curve:
        value, weight = curve(log)
        return Curve(value / max(float(np.sum(value * weight)), 1e-12), weight)

    def level(log: Log) -> Curve:
        value, weight = curve(log)
        total = np.array([np.sum(value * weight) / max(float(weight.sum()), 1e-12)])
        return Curve(total, np.ones(1))

    def more(log: Log, share: float, seed: int) -> Log:
        del seed
        return log._replace(requests=log.requests * (1.0 + share))

    def tilted(log: Log, share: float, seed: int) -> Log:
        del seed
        hours = log.hour_first + np.arange(log.requests.shape[0])
        return log._replace(requests=log.requests * np.where(hours % 2, 1.0 + share, 1.0 - share))

    axis = _hour_axis(held_back)
    return (
        Row(
            "requests per hour", "marginal", "", "requests", ("all",), level,
            _curve_distance(level, held_back), more,
        ),
        Row(
            "requests by hour", "conditional", axis, "share of the requests", _HOURS, shape,
            _curve_distance(shape, held_back), tilted,
        ),
    )  # fmt: skip


def _curve_distance(curve: Callable[[Log], Curve], held_back: Log) -> Callable[[Log, Log], float]:
    """Returns the distance of curves, relative to the held-back log's level."""
    own = curve(held_back)
    tries = float(own.weight.sum())
    level = _level(own.value @ own.weight / max(tries, 1e-12), tries)

    def distance(a: Log, b: Log) -> float:
        here, there = curve(a), curve(b)
        apart = np.abs(here.value - there.value)
        return float(apart @ here.weight / max(float(here.weight.sum()), 1e-12) / level)

    return distance


def _level(value: SupportsFloat, tries: SupportsFloat) -> float:
    """Returns what distances are relative to; of nothing seen in so many tries, half a hit."""
    return float(value) if float(value) > 0 else 0.5 / max(float(tries), 1.0)


def _unseen(rows: SupportsFloat) -> float:
    """Returns the share of rows that may be unlike all of these, at 95 %."""
    return 3.0 / max(float(rows), 1.0)


def _ratio(hits: F64, tries: F64) -> F64:
    return np.where(tries > 0, hits / np.maximum(tries, 1e-12), 0.0)


def _win_price(log: Log) -> tuple[F64, I64]:
    won = log.has_won > 0
    return log.paid_cpm_micros[won] / 1e6, log.hour[won]


def _told_price(log: Log) -> tuple[F64, I64]:
    told = log.is_told > 0
    price = np.maximum(log.least_cpm_micros, log.floor_cpm_micros)[told]
    return price / 1e6, log.hour[told]


def _all(log: Log) -> I64:
    return np.zeros(log.row_count, np.int64)


def _slot(log: Log) -> I64:
    return log.scene.astype(np.int64)


def _bids_of(log: Log) -> F64:
    return log.is_decided.astype(np.float64)


def _wins_of(log: Log) -> F64:
    return log.has_won.astype(np.float64)


def _clicks_of(log: Log) -> F64:
    return (log.clicked & log.has_won).astype(np.float64)


def _orders_of(log: Log) -> F64:
    return (log.converted & log.clicked & log.has_won).astype(np.float64)
