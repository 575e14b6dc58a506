"""Reports: what happened and what it cost, by SQL over the deduplicated events.

Totals, and series in whole hours, are read from the hourly roll-ups of days where those are up to
date (``ledger.rollup``), everything else from the events; the answer is the same.

What every report holds to:

- ``FROM events FINAL``: an event counts once, however often its notice came; the row that was
  received last speaks for it.
- Events with the TEST flag count nowhere but in ``Totals.events_recorded``.
- A disputed notice counts as disputed (``irregular``) and as nothing else.
- Money that was spent is the sum of ``amount_micros`` over events with the CHARGED flag, whatever
  their kind, in the account's currency. The amount of a bid is a reservation and is never summed.
- Amounts in two currencies are never added up.

What is deliberately not here: requests. A request that got no bid is recorded as a sample only
(``no_bids``), so the number of requests is told by the workers' counters (``market.control``), not
by events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from ledger.measures import HOUR_MS
from ledger.rollup import freshness, hours_of, recorded_events
from ledger.sql import Rows
from market.decision import NoBidReason
from market.errors import BadInput
from market.events import EventFlag, EventKind
from market.money import CURRENCY_NAMES

if TYPE_CHECKING:
    from ledger.sql import Analytics, Cell, Value

Record = TypeVar("Record", bound=msgspec.Struct)

# The numbers that stand in events, by the names that the questions below use.
_NUMBERS: Final[dict[str, int]] = {
    **{kind.name.lower(): int(kind) for kind in EventKind},
    **{f"is_{flag.name.lower()}": int(flag) for flag in EventFlag if flag.name},
}

BUCKETS_MAX: Final = 10_000
"""Buckets of one report at most."""


class Window(msgspec.Struct, frozen=True):
    """A stretch of the run's clock, cut into buckets; the last one may be shorter.

    Raises:
        BadInput: it is empty, or has more than ``BUCKETS_MAX`` buckets.
    """

    start_ms: int
    end_ms: int
    """Exclusive."""
    bucket_ms: int

    def __post_init__(self) -> None:
        """Checks that there is a sensible number of buckets."""
        if self.bucket_ms <= 0 or self.end_ms <= self.start_ms or self.bucket_count > BUCKETS_MAX:
            raise BadInput(
                f"window [{self.start_ms}, {self.end_ms}) in buckets of {self.bucket_ms} ms: it "
                f"must have between 1 and {BUCKETS_MAX} buckets"
            )

    @property
    def bucket_count(self) -> int:
        """How many buckets there are."""
        return -(-(self.end_ms - self.start_ms) // self.bucket_ms)


class CampaignTotals(msgspec.Struct, frozen=True):
    """One campaign from its first event to its last; money in ``currency``."""

    campaign_id: int
    currency: str
    bids: int
    wins: int
    impressions: int
    clicks: int
    conversions: int
    conversion_value_micros: int
    spend_micros: int


class Totals(msgspec.Struct, frozen=True):
    """The whole run."""

    bids: int
    wins: int
    impressions: int
    clicks: int
    conversions: int
    events_recorded: int
    """Events of every kind but sampled no-bids (1 to 8), each once, tests included."""
    spend_micros_by_currency: dict[str, int]

    @property
    def spend_micros(self) -> int:
        """What was spent, where all campaigns have one currency; 0 where there was none.

        Raises:
            BadInput: there are several currencies, and their amounts have no sum.
        """
        if len(self.spend_micros_by_currency) > 1:
            raise BadInput(
                f"spend in {', '.join(self.spend_micros_by_currency)}: amounts in several "
                "currencies have no sum; read spend_micros_by_currency"
            )
        return sum(self.spend_micros_by_currency.values())


class CampaignSeries(msgspec.Struct, frozen=True):
    """One number per bucket of a window."""

    campaign_id: int
    currency: str
    values: tuple[int, ...]
    """[bucket_count] micros of ``currency``, or a count."""


class PriceHistogram(msgspec.Struct, frozen=True):
    """How often which clearing price was paid, in one currency of bids."""

    currency: str
    bucket_cpm_micros: int
    counts: tuple[int, ...]
    """Bucket i holds prices in [i, i + 1) times ``bucket_cpm_micros``; the last one is open."""


class NoBids(msgspec.Struct, frozen=True):
    """Opportunities that got no bid for one reason, estimated from a sample."""

    reason: str
    """Name of a ``NoBidReason``."""
    samples: int
    opportunities: float
    """How many the samples stand for: the sum of their weights."""


class Irregular(msgspec.Struct, frozen=True):
    """What did not go by the book, of one campaign; money in ``currency``."""

    campaign_id: int
    currency: str
    disputed: int
    disputed_micros: int
    """Amount in the disputed notices, which was not charged."""
    late: int
    late_spend_micros: int
    """What was charged for notices that came after their reservation had ended."""


class TimeSpan(msgspec.Struct, frozen=True):
    """When the first and the last event happened; both 0 when there is none."""

    first_ms: int
    last_ms: int


class _SeriesRow(msgspec.Struct, frozen=True):
    campaign_id: int
    currency: str
    bucket: int
    value: int


class _RangeRow(msgspec.Struct, frozen=True):
    bid_currency: int
    currency: str
    high_cpm_micros: int


class _CountRow(msgspec.Struct, frozen=True):
    bucket: int
    wins: int


_CAMPAIGN_SUMS: Final = (
    "bids", "wins", "impressions", "clicks", "conversions", "conversion_value_micros",
    "spend_micros",
)  # fmt: skip

_SPEND_OVER_TIME: Final = """
SELECT campaign_id, account_currency AS currency,
    intDiv(ts_ms - %(start_ms)s, %(bucket_ms)s) AS bucket,
    sum(amount_micros) AS value
FROM events FINAL
WHERE bitAnd(flags, %(is_charged)s) != 0 AND bitAnd(flags, %(is_test)s) = 0
    AND ts_ms >= %(start_ms)s AND ts_ms < %(end_ms)s
GROUP BY campaign_id, currency, bucket
ORDER BY campaign_id, currency, bucket
"""

_SPEND_IN_HOURS: Final = """
SELECT campaign_id, account_currency AS currency,
    intDiv(hour_ms - %(start_ms)s, %(bucket_ms)s) AS bucket,
    sum(spend_micros) AS value
FROM ({hours}) AS hours
GROUP BY campaign_id, currency, bucket
ORDER BY campaign_id, currency, bucket
"""

_CONVERSIONS_OVER_TIME: Final = """
SELECT campaign_id, account_currency AS currency,
    intDiv(ts_ms - %(start_ms)s, %(bucket_ms)s) AS bucket,
    count() AS value
FROM events FINAL
WHERE kind = %(conversion)s AND bitAnd(flags, %(is_test)s + %(is_disputed)s) = 0
    AND ts_ms >= %(start_ms)s AND ts_ms < %(end_ms)s
GROUP BY campaign_id, currency, bucket
ORDER BY campaign_id, currency, bucket
"""

_PRICE_RANGES: Final = """
SELECT bid_currency, bid_currency AS currency,
    quantileExact(0.99)(price_cpm_micros) AS high_cpm_micros
FROM events FINAL
WHERE kind = %(win)s AND bitAnd(flags, %(is_test)s + %(is_disputed)s) = 0
GROUP BY bid_currency
ORDER BY bid_currency
"""

_PRICE_COUNTS: Final = """
SELECT least(intDiv(price_cpm_micros, %(bucket_cpm_micros)s), %(last_bucket)s) AS bucket,
    count() AS wins
FROM events FINAL
WHERE kind = %(win)s AND bitAnd(flags, %(is_test)s + %(is_disputed)s) = 0
    AND bid_currency = %(bid_currency)s
GROUP BY bucket
ORDER BY bucket
"""

_NO_BIDS: Final = """
SELECT reason, count() AS samples, sum(weight) AS opportunities
FROM events FINAL
WHERE kind = %(no_bid)s AND bitAnd(flags, %(is_test)s) = 0
GROUP BY reason
ORDER BY opportunities DESC, reason
"""

_IRREGULAR: Final = """
SELECT campaign_id, account_currency AS currency,
    countIf(bitAnd(flags, %(is_disputed)s) != 0) AS disputed,
    sumIf(amount_micros, bitAnd(flags, %(is_disputed)s) != 0) AS disputed_micros,
    countIf(bitAnd(flags, %(is_late)s) != 0) AS late,
    sumIf(amount_micros, bitAnd(flags, %(is_late)s) != 0 AND bitAnd(flags, %(is_charged)s) != 0)
        AS late_spend_micros
FROM events FINAL
WHERE bitAnd(flags, %(is_disputed)s + %(is_late)s) != 0 AND bitAnd(flags, %(is_test)s) = 0
GROUP BY campaign_id, currency
ORDER BY campaign_id, currency
"""

_TIME_SPAN: Final = "SELECT min(ts_ms) AS first_ms, max(ts_ms) AS last_ms FROM events"


def campaign_totals(analytics: Analytics) -> tuple[CampaignTotals, ...]:
    """Returns what each campaign got and spent, by campaign id.

    A campaign whose currency was changed while it ran has a row for each; one that got nothing and
    spent nothing has none.
    """
    # The sums have names of their own inside: 18.16 takes an alias for the column it is made of.
    hours, values = hours_of(
        freshness(analytics), ("campaign_id", "account_currency"), _CAMPAIGN_SUMS
    )
    sums = ", ".join(f"sum({name}) AS of_{name}" for name in _CAMPAIGN_SUMS)
    named = ", ".join(f"of_{name} AS {name}" for name in _CAMPAIGN_SUMS)
    something = " OR ".join(f"of_{name} != 0" for name in _CAMPAIGN_SUMS)
    sql = f"""
SELECT campaign_id, currency, {named}
FROM (
    SELECT campaign_id, account_currency AS currency, {sums} FROM ({hours}) AS hours
    GROUP BY campaign_id, currency
) AS campaigns
WHERE {something}
ORDER BY campaign_id, currency
"""  # noqa: S608 - of names of ours
    return _ask(analytics, sql, CampaignTotals, **values)


def totals(analytics: Analytics) -> Totals:
    """Returns what the whole run got and spent: the sums of ``campaign_totals``."""
    campaigns = campaign_totals(analytics)
    spend: dict[str, int] = {}
    for row in campaigns:
        spend[row.currency] = spend.get(row.currency, 0) + row.spend_micros
    return Totals(
        bids=sum(row.bids for row in campaigns),
        wins=sum(row.wins for row in campaigns),
        impressions=sum(row.impressions for row in campaigns),
        clicks=sum(row.clicks for row in campaigns),
        conversions=sum(row.conversions for row in campaigns),
        events_recorded=recorded_events(analytics),
        spend_micros_by_currency=spend,
    )


def spend_over_time(analytics: Analytics, window: Window) -> tuple[CampaignSeries, ...]:
    """Returns what each campaign spent in each bucket, by campaign id.

    Campaigns that spent nothing in the window are absent. Money is spent at the time of the notice
    that charged it, on the run's clock.
    """
    if any(time % HOUR_MS for time in (window.start_ms, window.end_ms, window.bucket_ms)):
        return _series(analytics, _SPEND_OVER_TIME, window)
    span = "{time} >= %(start_ms)s AND {time} < %(end_ms)s"
    hours, values = hours_of(
        freshness(analytics),
        ("campaign_id", "account_currency", "hour_ms"),
        ("spend_micros",),
        f" AND {span.format(time='hour_ms')}",
        f" AND {span.format(time='ts_ms')}",
    )
    return _series(analytics, _SPEND_IN_HOURS.format(hours=hours), window, **values)


def conversions_over_time(analytics: Analytics, window: Window) -> tuple[CampaignSeries, ...]:
    """Returns how many conversions each campaign got in each bucket, as ``spend_over_time``."""
    return _series(analytics, _CONVERSIONS_OVER_TIME, window)


def win_prices(analytics: Analytics, bucket_count: int = 40) -> tuple[PriceHistogram, ...]:
    """Returns the clearing prices of win notices, one histogram per currency of bids.

    The buckets reach to the 99th percentile, rounded up to a width of 1, 2 or 5 times a power of
    ten; one more bucket holds all that is dearer.

    Raises:
        BadInput: ``bucket_count`` is not in 1..BUCKETS_MAX.
    """
    if not 1 <= bucket_count <= BUCKETS_MAX:
        raise BadInput(f"bucket_count {bucket_count}: it must be in 1..{BUCKETS_MAX}")
    histograms: list[PriceHistogram] = []
    for found in _ask(analytics, _PRICE_RANGES, _RangeRow):
        width = nice_width(found.high_cpm_micros, bucket_count)
        last = found.high_cpm_micros // width + 1
        counts = [0] * (last + 1)
        for row in _ask(
            analytics,
            _PRICE_COUNTS,
            _CountRow,
            bucket_cpm_micros=width,
            last_bucket=last,
            bid_currency=found.bid_currency,
        ):
            counts[row.bucket] = row.wins
        histograms.append(PriceHistogram(found.currency, width, tuple(counts)))
    return tuple(histograms)


def no_bids(analytics: Analytics) -> tuple[NoBids, ...]:
    """Returns why there was no bid, the most frequent reason first."""
    return _ask(analytics, _NO_BIDS, NoBids)


def irregular(analytics: Analytics) -> tuple[Irregular, ...]:
    """Returns disputed and late notices by campaign id; campaigns without any are absent."""
    return _ask(analytics, _IRREGULAR, Irregular)


def time_span(analytics: Analytics) -> TimeSpan:
    """Returns the stretch of the run's clock that the events cover."""
    (span,) = _ask(analytics, _TIME_SPAN, TimeSpan)
    return span


def nice_width(high: int, bucket_count: int) -> int:
    """Returns the least of 1, 2, 5, 10, 20, 50, ... of which ``bucket_count`` reach ``high``."""
    least = max(1, -(-high // bucket_count))
    power = 10 ** (len(str(least)) - 1)
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least)


def _ask(analytics: Analytics, sql: str, kind: type[Record], **values: Value) -> tuple[Record, ...]:
    """Returns the answer as ``kind``; names of event kinds and flags are filled in.

    A column ``currency`` or ``reason`` holds a number and comes back as its name.
    """
    numbers = {name: number for name, number in _NUMBERS.items() if f"%({name})s" in sql}
    answer = analytics.query(sql, **numbers, **values)
    names = [_NAMES.get(column) for column in answer.columns]
    rows = [
        [cell if name is None else name(cell) for name, cell in zip(names, row, strict=True)]
        for row in answer.rows
    ]
    return Rows(answer.columns, rows).records(kind)


def _series(
    analytics: Analytics, sql: str, window: Window, **values_of_hours: Value
) -> tuple[CampaignSeries, ...]:
    rows = _ask(
        analytics,
        sql,
        _SeriesRow,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        bucket_ms=window.bucket_ms,
        **values_of_hours,
    )
    values: dict[tuple[int, str], list[int]] = {}
    for row in rows:
        if row.value == 0:
            continue  # a charge of nothing
        series = values.setdefault((row.campaign_id, row.currency), [0] * window.bucket_count)
        series[row.bucket] = row.value
    return tuple(
        CampaignSeries(campaign_id, currency, tuple(series))
        for (campaign_id, currency), series in values.items()
    )


def _currency(number: Cell) -> str:
    assert isinstance(number, int)
    return CURRENCY_NAMES.get(number, f"ISO 4217 {number}")


def _reason(number: Cell) -> str:
    try:
        return NoBidReason(number).name
    except ValueError:
        return f"REASON_{number}"


_NAMES: Final = {"currency": _currency, "reason": _reason}
