"""The table ``attributions``: who earned which conversion, kept a function of the events.

One row per (conversion, model, level, channel). A day is computed anew from the events as they are
now and compared with what is stored; only differences are written, under a version one higher, and
a row that is no longer earned becomes a row of zeros. So a day can be computed any number of times,
late events change what they must and nothing else, a crash in between is healed by the next run,
and no reader ever sees a day without its rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from ledger.analytics import EngineAnalytics
from ledger.attribution.identity import NOBODY_LINKED, Identity
from ledger.attribution.models import credits_of
from ledger.attribution.paths import Bids, Conversions, Paths, paths_of
from ledger.attribution.reading import read_bids, read_conversions
from ledger.attribution.terms import Level, Model, Rules
from ledger.rollup import kept_from
from market.events import DAY_MS, EventKind
from market.money import CURRENCY_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ledger.analytics import AnalyticsEngine, ArrowTable
    from ledger.reports import Window
    from ledger.sql import Analytics, Value

# One DDL for both engines, by the rules of ledger/schema.sql. The day is the UTC day on which the
# conversion happened, the day that is computed as a whole.
DDL: Final = """
CREATE TABLE IF NOT EXISTS attributions (
  day Date,
  id_hi UInt64,
  id_lo UInt64,
  ts_ms Int64,
  advertiser_id UInt32,
  account_currency UInt16,
  model UInt8,
  level UInt8,
  channel Int64,
  credit_micros Int64,
  value_micros Int64,
  version UInt64
) ENGINE = ReplacingMergeTree(version)
PARTITION BY day
ORDER BY (advertiser_id, model, level, id_hi, id_lo, channel)
"""

_ROWS_PER_QUESTION: Final = 100_000

_STORED: Final = """
SELECT advertiser_id, id_hi, id_lo, channel, ts_ms, account_currency, credit_micros, value_micros,
    version
FROM attributions FINAL
WHERE day = toDate(%(day)s) AND model = %(model)s AND level = %(level)s
    AND modulo(id_lo, %(parts)s) = %(part)s
"""

_STORED_COUNT: Final = """
SELECT count() AS n FROM attributions
WHERE day = toDate(%(day)s) AND model = %(model)s AND level = %(level)s
"""

_CREDITS: Final = """
SELECT model, channel, account_currency AS currency, count() AS conversions,
    sum(credit_micros) AS credit, sum(value_micros) AS value
FROM attributions FINAL
WHERE advertiser_id = %(advertiser_id)s AND level = %(level)s AND model IN %(models)s
    AND day >= toDate(%(first_day)s) AND day <= toDate(%(last_day)s)
    AND ts_ms >= %(start_ms)s AND ts_ms < %(end_ms)s
    AND (credit_micros != 0 OR value_micros != 0)
GROUP BY model, channel, currency
ORDER BY model, channel, currency
"""

_SPAN: Final = "SELECT min(ts_ms) AS first_ms, max(ts_ms) AS last_ms FROM events FINAL"

_CHANGED_CONVERSIONS: Final = """
SELECT DISTINCT intDiv(ts_ms, %(day_ms)s) AS day FROM events FINAL
WHERE kind = %(conversion)s AND recv_ms >= %(since_ms)s
"""

_CHANGED_TOUCHES: Final = """
SELECT DISTINCT intDiv(ts_ms, %(day_ms)s) AS day FROM events FINAL
WHERE kind IN (%(impression)s, %(billing)s, %(click)s) AND recv_ms >= %(since_ms)s
"""

_MOVED: Final = """
SELECT DISTINCT toUInt16(day) AS day FROM attributions
WHERE (id_hi, id_lo) IN (
    SELECT id_hi, id_lo FROM events WHERE kind = %(conversion)s AND recv_ms >= %(since_ms)s
)
"""

Key = tuple[int, int, int, int]
Values = tuple[int, int, int, int]


class CreditRow(NamedTuple):
    """A row of the table without day, model, level and version."""

    key: Key
    """(advertiser id, id_hi, id_lo, channel)."""
    values: Values
    """(ts_ms, account currency, credit micros, value micros)."""


class DayCredits(NamedTuple):
    """What one day's conversions earned whom, under one model at one level."""

    day: int
    model: Model
    level: Level
    rows: dict[Key, Values]


class ChannelCredit(msgspec.Struct, frozen=True):
    """What one channel earned under one model; money in ``currency``."""

    model: str
    channel: int
    """Id at the level; -1: nobody, conversions without a touch in their window."""
    currency: str
    conversions: int
    """In how many it had a share."""
    credit_micros: int
    """Conversions earned, times 10^6."""
    value_micros: int


class Recomputed(msgspec.Struct, frozen=True):
    """What a run did."""

    days: int
    conversions: int
    rows_written: int
    """New, changed and zeroed ones; 0 when nothing has changed."""


class Attributor:
    """Keeps ``attributions`` up to date in one engine; used by the engine's thread."""

    def __init__(
        self, engine: AnalyticsEngine, rules: Rules, identity: Identity = NOBODY_LINKED
    ) -> None:
        """Makes the table where it is missing."""
        self._engine = engine
        self.analytics = EngineAnalytics(engine)
        self._rules = rules
        self._identity = identity
        engine.execute(DDL)

    def recompute(
        self,
        days: Iterable[int],
        models: Sequence[Model] = tuple(Model),
        levels: Sequence[Level] = tuple(Level),
    ) -> Recomputed:
        """Makes the rows of each day (UTC, since 1970) what the events say now.

        Days that retention has taken events from, or from what they look back on, are left as they
        are (``kept_days``).

        Raises:
            BadInput: a model cannot hold a level's channels.
            NotReady: the engine refuses; some days may be done, and the same call does the rest.
        """
        day_count = conversion_count = written = 0
        kept = self.kept_days(days)
        for day, paths in day_paths(self.analytics, kept, self._rules, self._identity):
            day_count += 1
            conversion_count += int(np.count_nonzero(paths.conversions.at_ms // DAY_MS == day))
            for model in models:
                for level in levels:
                    written += self.store(day_credits(paths, day, model, level, self._rules))
        return Recomputed(day_count, conversion_count, written)

    def kept_days(self, days: Iterable[int]) -> list[int]:
        """Returns those of ``days`` whose events are all there, ascending.

        A day is computed from its conversions, from those of the learning days before it, and from
        touches as far back as the longest window reaches. Where retention has dropped any of them,
        or forgotten whose they were, the rows that are stored know more than what is left.
        """
        first = max(kept_from(self.analytics, name) for name in ("events", "users"))
        lookback_days = -(-self._rules.lookback_ms_max // DAY_MS)
        reach = self._rules.learning_days - 1 + lookback_days if first else 0
        return sorted(day for day in set(days) if day - reach >= first)

    def stored_days(self) -> set[int]:
        """Returns the days that have rows."""
        rows = self.analytics.query("SELECT DISTINCT toUInt16(day) AS day FROM attributions").rows
        return {int(str(day)) for (day,) in rows}

    def days_to_redo(self, since_ms: int) -> tuple[int, ...]:
        """Returns the days whose credits events received since then may change, ascending.

        A late conversion changes its own day (and the one it was stored under before, if a repeat
        moved it); a late touch also those that look back on it; both change what the days after
        them learn.
        """
        learning = self._rules.learning_days - 1
        lookback_days = -(-self._rules.lookback_ms_max // DAY_MS)
        span = self.analytics.query(_SPAN).rows[0]
        last_day = int(str(span[1])) // DAY_MS
        asked: dict[str, Value] = {"since_ms": since_ms}
        conversion = {"conversion": int(EventKind.CONVERSION)}
        touch = {
            "impression": int(EventKind.IMPRESSION),
            "billing": int(EventKind.BILLING),
            "click": int(EventKind.CLICK),
        }
        redone: set[int] = set()
        for sql, numbers, reach in (
            (_CHANGED_CONVERSIONS, {**conversion, "day_ms": DAY_MS}, learning),
            (_CHANGED_TOUCHES, {**touch, "day_ms": DAY_MS}, learning + lookback_days),
            (_MOVED, conversion, learning),
        ):
            for (day,) in self.analytics.query(sql, **numbers, **asked).rows:
                assert isinstance(day, int)
                redone |= set(range(day, max(day, min(day + reach, last_day)) + 1))
        return tuple(sorted(redone))

    def store(self, wanted: DayCredits) -> int:
        """Makes the stored rows of one day, model and level these; returns how many were written.

        Raises:
            NotReady: the engine refuses; the same call does the rest.
        """
        stored, version = self._stored(wanted.day, wanted.model, wanted.level)
        rows = [
            CreditRow(key, values)
            for key, values in wanted.rows.items()
            if stored.get(key) != values
        ]
        rows += [
            CreditRow(key, (values[0], values[1], 0, 0))
            for key, values in stored.items()
            if key not in wanted.rows and (values[2] or values[3])
        ]
        if rows:
            self._engine.insert("attributions", _table(rows, wanted, version + 1))
        return len(rows)

    def _stored(self, day: int, model: Model, level: Level) -> tuple[dict[Key, Values], int]:
        asked: dict[str, Value] = {"day": day, "model": int(model), "level": int(level)}
        ((count,),) = self.analytics.query(_STORED_COUNT, **asked).rows
        assert isinstance(count, int)
        parts = max(1, -(-count // _ROWS_PER_QUESTION))
        stored: dict[Key, Values] = {}
        version = 0
        for part in range(parts):
            for row in self.analytics.query(_STORED, **asked, parts=parts, part=part).rows:
                numbers = [int(str(cell)) for cell in row]
                a, b, c, d, e, f, g, h, row_version = numbers
                stored[a, b, c, d] = (e, f, g, h)
                version = max(version, row_version)
        return stored, version


def day_paths(
    analytics: Analytics,
    days: Sequence[int],
    rules: Rules,
    identity: Identity = NOBODY_LINKED,
) -> Iterator[tuple[int, Paths]]:
    """Yields each day with the paths that its credits are made from.

    A day sees what happened before its end: its own conversions and those of the learning days
    before it, and touches as far back as the longest window reaches behind them. Neighbouring days
    are read together.
    """
    before_ms = (rules.learning_days - 1) * DAY_MS
    for stretch in _stretches(days, rules.learning_days):
        start_ms, end_ms = stretch[0] * DAY_MS - before_ms, (stretch[-1] + 1) * DAY_MS
        bids = read_bids(analytics, start_ms - rules.lookback_ms_max, end_ms)
        conversions = read_conversions(analytics, start_ms, end_ms)
        for day in stretch:
            yield day, _paths_of_day(bids, conversions, day, rules, identity)


def day_credits(paths: Paths, day: int, model: Model, level: Level, rules: Rules) -> DayCredits:
    """Returns the rows of one day, by their key."""
    found = credits_of(paths, model, level, rules)
    own = paths.conversions.at_ms[found.conversion] // DAY_MS == day
    of = found.conversion[own]
    conversions = paths.conversions
    keys = zip(
        conversions.advertiser_id[of].tolist(), conversions.id_hi[of].tolist(),
        conversions.id_lo[of].tolist(), found.channel[own].tolist(), strict=True,
    )  # fmt: skip
    values = zip(
        conversions.at_ms[of].tolist(), conversions.account_currency[of].tolist(),
        found.credit_micros[own].tolist(), found.value_micros[own].tolist(), strict=True,
    )  # fmt: skip
    return DayCredits(day, model, level, dict(zip(keys, values, strict=True)))


def channel_credits(
    analytics: Analytics,
    advertiser_id: int,
    window: Window,
    level: Level = Level.CAMPAIGN,
    models: Sequence[Model] = tuple(Model),
) -> tuple[ChannelCredit, ...]:
    """Returns what each channel of one advertiser earned by conversions in a window, by model.

    Raises:
        BadInput: no model is asked for, or the table was never made (run an attribution first).
    """
    answer = analytics.query(
        _CREDITS,
        advertiser_id=advertiser_id,
        level=int(level),
        models=[int(model) for model in models],
        first_day=window.start_ms // DAY_MS,
        last_day=(window.end_ms - 1) // DAY_MS,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
    )
    found: list[ChannelCredit] = []
    for row in answer.rows:
        model, channel, currency, conversions, credit, value = (int(str(cell)) for cell in row)
        name, money = Model(model).name.lower(), currency_name(currency)
        found.append(ChannelCredit(name, channel, money, conversions, credit, value))
    return tuple(found)


def currency_name(number: int) -> str:
    """Returns the alphabetic code of an ISO 4217 number."""
    return CURRENCY_NAMES.get(number, f"ISO 4217 {number}")


def _paths_of_day(
    bids: Bids, conversions: Conversions, day: int, rules: Rules, identity: Identity
) -> Paths:
    end_ms = (day + 1) * DAY_MS
    start_ms = end_ms - rules.learning_days * DAY_MS
    return paths_of(
        bids.within(start_ms - rules.lookback_ms_max, end_ms),
        conversions.within(start_ms, end_ms),
        rules,
        identity,
    )


def _stretches(days: Sequence[int], length_max: int) -> Iterator[list[int]]:
    """Yields neighbouring days together, at most ``length_max`` at a time."""
    stretch: list[int] = []
    for day in days:
        if stretch and (day != stretch[-1] + 1 or len(stretch) == length_max):
            yield stretch
            stretch = []
        stretch.append(day)
    if stretch:
        yield stretch


def _table(rows: list[CreditRow], of: DayCredits, version: int) -> ArrowTable:
    count = len(rows)
    keys = list(zip(*(row.key for row in rows), strict=True))
    values = list(zip(*(row.values for row in rows), strict=True))
    day = pa.array([of.day] * count, pa.int32()).cast(pa.date32())
    return pa.table(
        {
            "day": day,
            "id_hi": pa.array(keys[1], pa.uint64()),
            "id_lo": pa.array(keys[2], pa.uint64()),
            "ts_ms": pa.array(values[0], pa.int64()),
            "advertiser_id": pa.array(keys[0], pa.uint32()),
            "account_currency": pa.array(values[1], pa.uint16()),
            "model": pa.array([int(of.model)] * count, pa.uint8()),
            "level": pa.array([int(of.level)] * count, pa.uint8()),
            "channel": pa.array(keys[3], pa.int64()),
            "credit_micros": pa.array(values[2], pa.int64()),
            "value_micros": pa.array(values[3], pa.int64()),
            "version": pa.array([version] * count, pa.uint64()),
        }
    )
