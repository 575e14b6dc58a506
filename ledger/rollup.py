"""Roll-ups: the sums of each day's events by hour, and how one knows that they are still true.

A day's hours are computed from the deduplicated events as a whole, in a table beside the one that
is read, and take the old ones' place at once. Nothing is ever added to a sum, so an event that was
loaded twice counts once here as everywhere.

Whether a day's hours are up to date is not believed but known: the engine counts the rows that were
ever inserted for the day (``touched_days``), and the hours say at which count they were computed.
A day that has changed since is answered from its events until it is computed again, so whoever asks
through ``ledger.query`` gets the same numbers with roll-ups and without.

Days before ``kept_from`` have lost their events to retention: their hours are all there is, and are
never computed again.
"""

from __future__ import annotations

import datetime
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from ledger.analytics import EngineAnalytics
from ledger.measures import KEYS, SUMS, hours_sql
from ledger.sql import bind
from market.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.analytics import AnalyticsEngine
    from ledger.sql import Analytics, Value

_TOUCHED: Final = (
    "SELECT toUInt16(day) AS day_number, sum(inserted) AS n FROM touched_days GROUP BY day_number"
)
_BUILT: Final = (
    "SELECT toUInt16(day) AS day_number, max(build) AS n FROM rollup_days GROUP BY day_number"
)
_RECORDED: Final = (
    "SELECT toUInt16(day) AS day_number, argMax(events, build) AS n FROM rollup_days "
    "GROUP BY day_number"
)
_COUNT: Final = "SELECT count() AS n FROM events FINAL WHERE kind != %(no_bid)s"
_KEPT_FROM: Final = (
    "SELECT toUInt16(max(kept_from)) AS day_number FROM retention WHERE name = %(name)s"
)

SLICE_ROWS: Final = 4_000_000
_ID_MAX: Final = (1 << 32) - 1
_CAMPAIGNS: Final = """
SELECT advertiser_id, campaign_id, count() AS n FROM events WHERE day = toDate(%(day)s)
GROUP BY advertiser_id, campaign_id ORDER BY advertiser_id, campaign_id
"""
_IN_SLICE: Final = """
advertiser_id >= %(advertiser_first)s AND advertiser_id <= %(advertiser_last)s
    AND campaign_id >= %(campaign_least)s AND campaign_id <= %(campaign_most)s
    AND (advertiser_id, campaign_id) >= (%(advertiser_first)s, %(campaign_first)s)
    AND (advertiser_id, campaign_id) <= (%(advertiser_last)s, %(campaign_last)s)
"""
# As in schema.sql: 18.16 wants the key said again for a table that is made like another.
_SORTED_BY: Final = (
    "advertiser_id, campaign_id, hour_ms, line_item_id, creative_id, exchange, format, "
    "account_currency"
)


class Freshness(NamedTuple):
    """Which days to read where; days since 1970, UTC, of the bid.

    Attributes:
        rolled: days whose hours are up to date, or all that is left of them.
        changed: days whose events must be read.
    """

    rolled: frozenset[int]
    changed: frozenset[int]


def touched_days(engine: AnalyticsEngine) -> dict[int, int]:
    """Returns how many rows were ever inserted for each day; it grows with every change."""
    return _numbers_by_day(EngineAnalytics(engine), _TOUCHED)


def kept_from(analytics: Analytics, name: str) -> int:
    """Returns the first day of which table ``name`` still has rows that retention kept; 0 = all."""
    ((day,),) = analytics.query(_KEPT_FROM, name=name).rows
    assert isinstance(day, int)
    return day


def freshness(analytics: Analytics) -> Freshness:
    """Returns which days' hours can be read now."""
    # First the hours, then the events: what comes in between makes a day changed, never rolled.
    built = _numbers_by_day(analytics, _BUILT)
    touched = _numbers_by_day(analytics, _TOUCHED)
    first = kept_from(analytics, "events")
    rolled = {day for day, build in built.items() if day < first or build >= touched.get(day, 0)}
    return Freshness(frozenset(rolled), frozenset(touched.keys() - rolled - set(range(first))))


def recorded_events(analytics: Analytics) -> int:
    """Returns how many events of every kind but no-bids there are, tests included, each once.

    Days whose events retention dropped count as when they were last computed.
    """
    days = freshness(analytics)
    known = {
        day: count
        for day, count in _numbers_by_day(analytics, _RECORDED).items()
        if day in days.rolled and count >= 0
    }
    counted = [iso_day(day) for day in sorted((days.rolled | days.changed) - known.keys())]
    if not counted:
        return sum(known.values())
    ((count,),) = analytics.query(
        f"{_COUNT} AND day IN %(days)s", no_bid=int(EventKind.NO_BID), days=counted
    ).rows
    assert isinstance(count, int)
    return sum(known.values()) + count


def hours_of(
    days: Freshness,
    keys: Sequence[str],
    sums: Sequence[str],
    hours_where: str = "",
    events_where: str = "",
) -> tuple[str, dict[str, Value]]:
    """Returns a SELECT of these columns over hours of rolled days and events of changed ones.

    A key may come twice, once from each: the caller sums.

    Args:
        days: ``freshness`` of now.
        keys: out of ``measures.KEYS``.
        sums: out of ``measures.SUMS``.
        hours_where: more conditions on columns of ``delivery_hours``, begun with AND.
        events_where: the same conditions on columns of ``events``.

    Returns:
        The SELECT, and the values of its own ``%(name)s`` (those in the conditions are not).
    """
    values: dict[str, Value] = {}
    listed = ", ".join((*keys, *sums))
    parts: list[str] = []
    if days.rolled or not days.changed:
        values["rolled"] = [iso_day(day) for day in sorted(days.rolled)] or ["1970-01-01"]
        parts.append(
            f"SELECT {listed} FROM delivery_hours FINAL "  # noqa: S608 - names of ours
            f"WHERE day IN %(rolled)s{hours_where}"
        )
    if days.changed:
        values["changed"] = [iso_day(day) for day in sorted(days.changed)]
        counted = hours_sql(f"1 = 1{events_where}", "day IN %(changed)s", keys, sums)
        parts.append(f"SELECT {listed} FROM ({counted}) AS counted_hours")  # noqa: S608
    return " UNION ALL ".join(parts), values


def build_day(engine: AnalyticsEngine, day: int, slice_rows: int = SLICE_ROWS) -> int:
    """Computes one day's hours anew and returns how many rows they are.

    The table beside has a name of its own each time, so that two processes that build one day at
    the same time do not take each other's rows away.

    Args:
        engine: The store.
        day: Since 1970, UTC, of the bids.
        slice_rows: Rows that one statement sums, about; never less than a campaign's.

    Raises:
        NotReady: the engine cannot now; the old hours stay and the day stays changed.
    """
    build = touched_days(engine).get(day, 0)
    columns = ", ".join(("day", *KEYS, *SUMS))
    hours = hours_sql(_IN_SLICE, "day = toDate(%(day_number)s)")
    beside = f"delivery_hours_{secrets.token_hex(8)}"
    engine.execute(
        f"CREATE TABLE {beside} AS delivery_hours ENGINE = ReplacingMergeTree(build) "
        f"PARTITION BY day ORDER BY ({_SORTED_BY})"
    )
    try:
        for part in _slices(engine, day, slice_rows):
            engine.execute(
                bind(
                    f"INSERT INTO {beside} ({columns}, build) "  # noqa: S608 - names of ours
                    f"SELECT {columns}, toUInt64(%(build)s) AS build FROM ({hours}) AS made",
                    {"day_number": day, "build": build, **part.values()},
                )
            )
        recorded = bind(
            f"{_COUNT} AND day = toDate(%(day_number)s)",
            {"no_bid": int(EventKind.NO_BID), "day_number": day},
        )
        ((events,),) = engine.execute(recorded).rows
        ((count,),) = engine.execute(f"SELECT count() AS n FROM {beside}").rows  # noqa: S608
        # chDB refuses to replace a partition by none, which is what a day without deliveries is.
        change = f"REPLACE PARTITION %(day)s FROM {beside}" if count else "DROP PARTITION %(day)s"
        engine.execute(bind(f"ALTER TABLE delivery_hours {change}", {"day": iso_day(day)}))
    finally:
        engine.execute(f"DROP TABLE IF EXISTS {beside}")
    import pyarrow as pa  # noqa: PLC0415 - who only asks reads this module, too

    rows = {
        "day": pa.array([day], pa.int32()).cast(pa.date32()),
        "build": pa.array([build], pa.uint64()),
        "events": pa.array([events], pa.int64()),
    }
    engine.insert("rollup_days", pa.table(rows))
    assert isinstance(count, int)
    return count


class _Slice(NamedTuple):
    """Neighbours in the table's order, from one (advertiser, campaign) to another."""

    advertiser_first: int
    campaign_first: int
    advertiser_last: int
    campaign_last: int

    def values(self) -> dict[str, Value]:
        """Returns the values of ``_IN_SLICE``; bounds on campaigns help within one advertiser."""
        is_of_one = self.advertiser_first == self.advertiser_last
        return {
            **self._asdict(),
            "campaign_least": self.campaign_first if is_of_one else 0,
            "campaign_most": self.campaign_last if is_of_one else _ID_MAX,
        }


def _slices(engine: AnalyticsEngine, day: int, slice_rows: int) -> list[_Slice]:
    """Returns parts of a day that the engine can sum within the time that it gives a question."""
    slices: list[_Slice] = []
    row_count = slice_rows
    for row in engine.execute(bind(_CAMPAIGNS, {"day": day})).rows:
        advertiser, campaign, rows = (int(str(cell)) for cell in row)
        if row_count >= slice_rows:
            slices.append(_Slice(advertiser, campaign, advertiser, campaign))
            row_count = 0
        slices[-1] = slices[-1]._replace(advertiser_last=advertiser, campaign_last=campaign)
        row_count += rows
    return slices


def build_changed(engine: AnalyticsEngine, day_count_max: int = 1_000) -> tuple[int, ...]:
    """Computes the hours of changed days, the oldest first, and returns which days they were.

    Raises:
        NotReady: the engine cannot now; the same call goes on.
    """
    changed = sorted(freshness(EngineAnalytics(engine)).changed)[:day_count_max]
    for day in changed:
        build_day(engine, day)
    return tuple(changed)


def drop_days(engine: AnalyticsEngine, table: str, first_kept: int) -> int:
    """Drops the partitions of ``table`` before day ``first_kept``; returns how many there were."""
    found = engine.execute(
        bind(
            f"SELECT toUInt16(day) AS day_number FROM {table} "  # noqa: S608 - of ours
            "WHERE day < toDate(%(first)s) GROUP BY day_number ORDER BY day_number",
            {"first": first_kept},
        )
    )
    for (day,) in found.rows:
        assert isinstance(day, int)
        engine.execute(bind(f"ALTER TABLE {table} DROP PARTITION %(day)s", {"day": iso_day(day)}))
    return len(found.rows)


def iso_day(day: int) -> str:
    """Returns a day since 1970 as ISO 8601 text."""
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()


def _numbers_by_day(analytics: Analytics, sql: str) -> dict[int, int]:
    found: dict[int, int] = {}
    for day, number in analytics.query(sql).rows:
        assert isinstance(day, int)
        assert isinstance(number, int)
        found[day] = number
    return found
