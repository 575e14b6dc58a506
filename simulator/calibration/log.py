"""The log that calibration reads: one row per bid, with what is known of the price it met.

Readers of different files all make this. What a log does not say is left open, never guessed: the
price that it took to win (the market price) is known to lie in [least, most] of its row, which is
one price where the exchange told it, and half a line where it did not.

Dimension names: N = bids (or impressions, in logs of won ones only), H = hours of the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from market.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable

HOUR_MS = 3_600_000
DAY_HOURS = 24
HOURS_MIN = 6
"""A log of fewer hours says nothing of a day."""
HOURS_MAX = 10 * 366 * DAY_HOURS
"""A longer one has a row whose time is wrong."""
HELD_BACK_MIN = 0.1
"""Share of the rows that must be left to judge by."""
HOURS_SLACK = 0.05
"""The first and last row of whole hours are not quite that far apart."""

NEVER = np.int64(1) << np.int64(60)
"""Above every price: the ``most`` of a market price that has no upper bound."""

I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U64 = npt.NDArray[np.uint64]
U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]


class Log(NamedTuple):
    """What happened, in order of time.

    Attributes:
        source: ``ledger``, ``ipinyou`` or ``open_bandit``.
        currency: ISO 4217 code of all prices; "" where the log has none.
        hour_first: epoch hours (or the log's own count) of ``requests[0]``.
        requests: [H] float64 requests by hour, as far as they were logged (sampled ones weighted).
        request_unit: how many requests a logged one stands for on average, weighted by how many
            it stands for: 1, or more where no-bids were sampled. It is how much wider than chance
            counts scatter.
        covered: [H] float64 share of the hour that the log covers; 0 = the log does not say.
        scenes: names of the scenes (placements, positions).
        at_ms: [N] when the request came; only its hour means anything where logs say no more.
        key_hi, key_lo: [N] uint64 names of the opportunities, for keyed draws.
        user: [N] uint64 pseudonym; 0 = not known.
        scene: [N] int32 row of ``scenes``.
        bid_cpm_micros: [N] what was bid; 0 = not logged (then every row is a won impression).
        floor_cpm_micros: [N]; 0 = none or not logged.
        least_cpm_micros, most_cpm_micros: [N] bounds of the market price; 0 and ``NEVER`` where the
            log says nothing of it.
        has_won: [N] uint8.
        is_decided: [N] uint8, 1 where price alone decided: won, or lost to a price.
        paid_cpm_micros: [N] price of the won; 0 where lost or not logged.
        clicked, converted: [N] uint8.
        delay_ms: [N] from click to conversion; -1 where there is none.
        followed_ms: [N] from click to the end of the log; -1 where there is no click.
        delay_tick_ms: delays are whole multiples of this.
        end_ms: until when the log was kept: what came later is not in it.
    """

    source: str
    currency: str
    hour_first: int
    requests: F64
    request_unit: float
    covered: F64
    scenes: tuple[str, ...]
    at_ms: I64
    key_hi: U64
    key_lo: U64
    user: U64
    scene: I32
    bid_cpm_micros: I64
    floor_cpm_micros: I64
    least_cpm_micros: I64
    most_cpm_micros: I64
    has_won: U8
    is_decided: U8
    paid_cpm_micros: I64
    clicked: U8
    converted: U8
    delay_ms: I64
    followed_ms: I64
    delay_tick_ms: int
    end_ms: int

    @property
    def row_count(self) -> int:
        """N."""
        return self.at_ms.shape[0]

    @property
    def hour(self) -> I64:
        """[N] hour of the UTC day (of the log's own day, where it counts hours only)."""
        return self.at_ms // HOUR_MS % DAY_HOURS

    @property
    def has_bids(self) -> bool:
        """Whether bids were logged, so that losses and other bids can be told of."""
        return bool((self.bid_cpm_micros > 0).any())

    @property
    def has_prices(self) -> bool:
        """Whether prices were logged at all."""
        return bool((self.paid_cpm_micros > 0).any())

    @property
    def is_told(self) -> U8:
        """[N] 1 where the market price is known, or known to lie below the floor."""
        is_exact = self.least_cpm_micros == self.most_cpm_micros
        is_floor = (self.least_cpm_micros == 0) & (
            self.most_cpm_micros <= np.maximum(self.floor_cpm_micros, 1)
        )
        return ((is_exact | is_floor) & (self.is_decided > 0)).astype(np.uint8)


ROW_COLUMNS = (
    "at_ms", "key_hi", "key_lo", "user", "scene", "bid_cpm_micros", "floor_cpm_micros",
    "least_cpm_micros", "most_cpm_micros", "has_won", "is_decided", "paid_cpm_micros", "clicked",
    "converted", "delay_ms", "followed_ms",
)  # fmt: skip


class BadLine(msgspec.Struct, frozen=True):
    """A line or record that could not be used, as the quarantine file holds it.

    Attributes:
        file: where it was.
        line: its number, from 1 (of records: in the order read).
        why: the rule that it breaks.
        text: what it says.
    """

    file: str
    line: int
    why: str
    text: str


class Reading(NamedTuple):
    """What a reader made of a file.

    Attributes:
        log: the rows that could be used.
        bad: those that could not.
        counts: what else was met, in words, such as repeated events.
    """

    log: Log
    bad: tuple[BadLine, ...]
    counts: dict[str, int]


class Split(NamedTuple):
    """A log cut in two: what is fitted, and what is held back to judge by."""

    fitted: Log
    held_back: Log
    rule: str


def rows_of(log: Log, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Log:
    """Returns the log with the rows of ``index`` only (repeats allowed); hours as they are."""
    return log._replace(**{name: getattr(log, name)[index] for name in ROW_COLUMNS})


def hours_of(log: Log, first: int, end: int) -> Log:
    """Returns the part of the log from epoch hour ``first`` to before ``end``.

    What is known of its rows' conversions is cut at the end of that part, too: what came later was
    not known then.
    """
    lo, hi = max(first - log.hour_first, 0), max(end - log.hour_first, 0)
    at_hour = log.at_ms // HOUR_MS
    part = rows_of(log, (at_hour >= first) & (at_hour < end))
    has_click = part.followed_ms >= 0
    click_ms = log.end_ms - part.followed_ms
    end_ms = min(end * HOUR_MS, log.end_ms)
    followed = np.where(has_click, end_ms - click_ms, -1)
    is_clicked = has_click & (followed >= 0)
    is_converted = is_clicked & (part.converted > 0) & (part.delay_ms <= followed)
    return part._replace(
        hour_first=log.hour_first + lo,
        requests=log.requests[lo:hi],
        covered=log.covered[lo:hi],
        clicked=np.where(log_knows_clicks(part), is_clicked, part.clicked).astype(np.uint8),
        converted=is_converted.astype(np.uint8),
        delay_ms=np.where(is_converted, part.delay_ms, -1),
        followed_ms=np.where(is_clicked, followed, -1),
        end_ms=end_ms,
    )


def log_knows_clicks(log: Log) -> bool:
    """Returns whether the log says when clicks happened, and not only that they did."""
    return log.source == "ledger"


def split(log: Log) -> Split:
    """Returns the log cut by time: last quarter of its days held back, or of its hours.

    A log that lies on one day only is cut by hours, and so is one that a cut by days would leave
    under ``HOURS_MIN`` hours to fit, or under ``HELD_BACK_MIN`` of the rows to judge by.

    Raises:
        BadInput: a part would have under ``HOURS_MIN`` hours.
    """
    check_hours(log, "the log")
    first, end = log.hour_first, log.hour_first + log.requests.shape[0]
    first_day, last_day = first // DAY_HOURS, (end - 1) // DAY_HOURS
    days = max(1, (last_day - first_day + 1) // 4)
    cut = (last_day - days + 1) * DAY_HOURS
    rows_min = HELD_BACK_MIN * log.row_count
    while _rows_after(log, cut) < rows_min and cut - first > DAY_HOURS:
        cut -= DAY_HOURS
    if cut - first >= HOURS_MIN and _rows_after(log, cut) >= rows_min:
        rule = f"held back: the last {-(-(end - cut) // DAY_HOURS)} of its days"
    else:
        cut = end - max(1, (end - first) // 4)
        rule = f"held back: the last {end - cut} of its hours, as it has too few whole days"
    fitted, held_back = hours_of(log, first, cut), hours_of(log, cut, end)
    check_hours(fitted, "the part to fit")
    return Split(fitted, held_back, rule)


def check_hours(log: Log, what: str) -> None:
    """Checks that a log can be calibrated to.

    Raises:
        BadInput: it is empty, or covers under ``HOURS_MIN`` or over ``HOURS_MAX`` hours.
    """
    if log.row_count == 0:
        raise BadInput(f"{what}: empty, no usable row; there is nothing to calibrate to")
    hours = int(np.count_nonzero(log.requests))
    span = (int(log.at_ms.max()) - int(log.at_ms.min())) / HOUR_MS
    # Logs that say the hour only have a span of whole hours between first and last.
    length = span if log_knows_clicks(log) or log.source == "open_bandit" else span + 1
    if length > HOURS_MAX:
        raise BadInput(
            f"{what}: {length:.0f} hours from first to last row; it must be at most {HOURS_MAX}, "
            "so take the rows whose time is wrong out of it"
        )
    if length < HOURS_MIN - HOURS_SLACK or hours < HOURS_MIN:
        raise BadInput(
            f"{what}: {length:.1f} hours from first to last row, {hours} of them with traffic; it "
            f"must cover {HOURS_MIN} hours, since supply and prices are fitted by the hour"
        )


def joined_scenes(names: Iterable[str], counts: I64, rows_min: int) -> tuple[I32, tuple[str, ...]]:
    """Returns for each scene its new row, and the new names: rare scenes become ``other``.

    Args:
        names: of the scenes.
        counts: rows of each.
        rows_min: scenes with fewer share one row.
    """
    kept: list[str] = []
    place = np.zeros(counts.shape[0], np.int32)
    rare: list[int] = []
    for row, name in enumerate(names):
        if counts[row] < rows_min:
            rare.append(row)
        else:
            place[row] = len(kept)
            kept.append(name)
    if rare:
        place[rare] = len(kept)
        kept.append("other")
    return place, tuple(kept)


def _rows_after(log: Log, hour: int) -> int:
    return int(np.count_nonzero(log.at_ms // HOUR_MS >= hour))


def summed(place: npt.NDArray[np.integer[Any]], weight: npt.NDArray[Any] | None, size: int) -> F64:
    """Returns [size] float64 sums of ``weight`` (None: counts) over the rows of each place."""
    return np.bincount(place, weights=weight, minlength=size).astype(np.float64)
