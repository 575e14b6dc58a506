"""The table ``invalid_traffic``: which events are invalid, and why.

Marks of a day are computed anew from its events and compared with what is stored; only differences
are written, one version higher, and a mark that no longer holds becomes one without reasons. So
days can be judged any number of times, with the same or with other rules. What came from a data
centre is evidence and no judgement: once told, it stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from ledger.analytics import EngineAnalytics
from ledger.chores import Marked
from ledger.fraud.kernels import in_bursts
from ledger.fraud.terms import Reason
from market.errors import BadInput
from market.events import EventFlag, EventKind, event_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from ledger.analytics import AnalyticsEngine
    from ledger.chores import Marking
    from ledger.sql import Analytics, Value

PART_ROWS: Final = 250_000
DAYS_MAX: Final = 400
_IDS_PER_QUESTION: Final = 2_000
_DAY_BEFORE: Final = 1

_KINDS: Final = {
    "impression": int(EventKind.IMPRESSION),
    "click": int(EventKind.CLICK),
    "conversion": int(EventKind.CONVERSION),
    "bid": int(EventKind.BID),
    "no_bid": int(EventKind.NO_BID),
    "left_out": int(EventFlag.TEST | EventFlag.DISPUTED),
}
_COUNTED: Final = "bitAnd(flags, %(left_out)s) = 0"
_SPAN: Final = "day >= toDate(%(first)s) AND day <= toDate(%(last)s)"

# A user's events all lie in one part, so that its bursts are seen whole.
_OF_USERS: Final = f"""
FROM events FINAL
WHERE {_SPAN} AND {_COUNTED} AND kind = %(kind)s AND user_key != 0
"""
_BURSTS: Final = f"""
SELECT groupArray(toUInt16(day)), groupArray(id_hi), groupArray(id_lo), groupArray(user_key),
    groupArray(ts_ms)
FROM (
    SELECT day, id_hi, id_lo, user_key, ts_ms {_OF_USERS}
        AND modulo(user_key, %(parts)s) = %(part)s
    ORDER BY user_key, ts_ms
) AS seen
"""  # noqa: S608 - of constants
_FLOODED: Final = f"""
SELECT line_item_id, exchange, intDiv(ts_ms, 3600000) AS hour,
    countIf(kind = %(click)s) AS clicks, countIf(kind = %(impression)s) AS impressions
FROM events FINAL
WHERE {_SPAN} AND {_COUNTED} AND kind IN (%(click)s, %(impression)s)
GROUP BY line_item_id, exchange, hour
HAVING clicks >= %(clicks_min)s AND clicks > impressions * %(ctr_max)s
"""  # noqa: S608 - of constants
_CLICKS_OF_HOURS: Final = f"""
SELECT toUInt16(day) AS day_number, id_hi, id_lo FROM events FINAL
WHERE {_SPAN} AND {_COUNTED} AND kind = %(click)s
    AND (line_item_id, exchange, intDiv(ts_ms, 3600000)) IN %(hours)s
"""  # noqa: S608 - of constants
# ALL, which both engines mean alike: a conversion of each order of a click, and one click a bid.
_SHORT: Final = f"""
SELECT toUInt16(day) AS day_number, id_hi, id_lo
FROM (
    SELECT day, id_hi, id_lo, bid_hi, bid_lo, ts_ms FROM events FINAL
    WHERE {_SPAN} AND {_COUNTED} AND kind = %(conversion)s
) AS converted
ALL INNER JOIN (
    SELECT bid_hi, bid_lo, min(ts_ms) AS clicked_ms FROM events FINAL
    WHERE {_SPAN} AND {_COUNTED} AND kind = %(click)s
    GROUP BY bid_hi, bid_lo
) AS clicked USING (bid_hi, bid_lo)
WHERE ts_ms - clicked_ms < %(conversion_ms_min)s
"""  # noqa: S608 - of constants
_IDS: Final = f"""
SELECT toUInt16(day) AS day_number, id_hi, id_lo, kind, bid_hi, bid_lo, advertiser_id, flags,
    amount_micros, account_currency
FROM events FINAL WHERE {_SPAN} AND (id_hi, id_lo) IN %(ids)s
"""  # noqa: S608 - of constants
_OF_BIDS: Final = f"""
SELECT toUInt16(day) AS day_number, id_hi, id_lo, kind, bid_hi, bid_lo, advertiser_id, flags,
    amount_micros, account_currency
FROM events FINAL WHERE {_SPAN} AND kind != %(bid)s AND kind != %(no_bid)s
    AND (bid_hi, bid_lo) IN %(ids)s
"""  # noqa: S608 - of constants
_STORED: Final = f"""
SELECT toUInt16(day) AS day_number, id_hi, id_lo, advertiser_id, reasons, version
FROM invalid_traffic FINAL WHERE {_SPAN}
"""  # noqa: S608 - of constants

Id = tuple[int, int]


class _Event(NamedTuple):
    day: int
    id: Id
    kind: int
    bid: Id
    advertiser_id: int
    flags: int
    amount_micros: int
    currency: int


def mark(engine: AnalyticsEngine, marking: Marking) -> Marked:
    """Judges some days and makes their marks what the rules say.

    Raises:
        BadInput: the days are none, or too many.
        NotReady: the engine cannot now; the same call does the rest.
    """
    if not 0 <= marking.last_day - marking.first_day < DAYS_MAX or marking.first_day < 0:
        raise BadInput(
            f"days {marking.first_day} to {marking.last_day}: between 1 and {DAYS_MAX} ascending "
            "days since 1970"
        )
    analytics = EngineAnalytics(engine)
    span: dict[str, Value] = {"first": marking.first_day, "last": marking.last_day}
    stored = _stored(analytics, span)
    reasons: dict[Id, int] = {}
    for each, (_, _, bits, _) in stored.items():
        if bits & Reason.DATA_CENTRE:
            reasons[each] = int(Reason.DATA_CENTRE)
    for kind, hi, lo in marking.from_data_centres:
        _add(reasons, event_id(kind, hi, lo), Reason.DATA_CENTRE)
    for reason, each in _judged(analytics, marking):
        _add(reasons, each, reason)
    events = {event.id: event for event in _events(analytics, _IDS, list(reasons), span)}
    # Evidence of other days, or of events that were never recorded, marks nothing here.
    reasons = {each: bits for each, bits in reasons.items() if each in events}
    for event in _followers(analytics, events, span):
        if event.id not in reasons:
            events[event.id] = event
            reasons[event.id] = int(Reason.INVALID_BID)
    written = _store(engine, events, reasons, stored)
    return _summary(written, events, reasons)


def _judged(analytics: Analytics, marking: Marking) -> Iterator[tuple[Reason, Id]]:
    """Yields (reason, event id) of what breaks a rule on its own account."""
    rules, first, last = marking.rules, marking.first_day, marking.last_day
    span: dict[str, Value] = {"first": max(0, first - _DAY_BEFORE), "last": last}
    bursts = (
        (Reason.CLICK_RATE, "click", rules.click_window_ms, rules.clicks_max),
        (Reason.DEVICE_STORM, "impression", rules.storm_window_ms, rules.impressions_max),
    )
    for reason, kind, window_ms, count_max in bursts:
        for each in _bursts(analytics, span, _KINDS[kind], window_ms, count_max):
            yield reason, each
    limits: dict[str, Value] = {
        "clicks_min": rules.flood_clicks_min, "ctr_max": rules.flood_ctr_max,
    }  # fmt: skip
    hours = [
        (int(str(item)), int(str(exchange)), int(str(hour)))
        for item, exchange, hour, _, _ in _ask(analytics, _FLOODED, {**span, **limits})
    ]
    for at in range(0, len(hours), _IDS_PER_QUESTION):
        some = hours[at : at + _IDS_PER_QUESTION]
        for _, hi, lo in _ask(analytics, _CLICKS_OF_HOURS, {**span, "hours": some}):
            yield Reason.CLICK_FLOOD, (int(str(hi)), int(str(lo)))
    short: dict[str, Value] = {**span, "conversion_ms_min": rules.conversion_ms_min}
    for _, hi, lo in _ask(analytics, _SHORT, short):
        yield Reason.SHORT_CONVERSION, (int(str(hi)), int(str(lo)))


def _bursts(
    analytics: Analytics, span: dict[str, Value], kind: int, window_ms: int, count_max: int
) -> Iterator[Id]:
    of_kind: dict[str, Value] = {**span, "kind": kind}
    ((row_count,),) = _ask(analytics, f"SELECT count() AS n {_OF_USERS}", of_kind)
    parts = max(1, -(-int(str(row_count)) // PART_ROWS))
    for part in range(parts):
        in_part: dict[str, Value] = {**of_kind, "parts": parts, "part": part}
        ((_, his, los, users, times),) = _ask(analytics, _BURSTS, in_part)
        found: npt.NDArray[np.bool_] = in_bursts(
            np.array(users, np.uint64), np.array(times, np.int64), window_ms, count_max
        )
        assert isinstance(his, list)
        assert isinstance(los, list)
        for i in np.flatnonzero(found).tolist():
            yield int(his[i]), int(los[i])


def _followers(
    analytics: Analytics, events: dict[Id, _Event], span: dict[str, Value]
) -> Iterator[_Event]:
    """Yields what came on a bid after something invalid, as far as that makes it invalid, too."""
    shown = {event.bid for event in events.values() if event.kind == EventKind.IMPRESSION}
    clicked = {event.bid for event in events.values() if event.kind == EventKind.CLICK}
    # A notice carries the day of its bid, so all of a bid's events lie in one day.
    for event in list(_events(analytics, _OF_BIDS, sorted(shown | clicked), span)):
        if event.bid in shown or event.kind == EventKind.CONVERSION:
            yield event


def _events(
    analytics: Analytics, sql: str, ids: Sequence[Id], span: dict[str, Value]
) -> Iterator[_Event]:
    for at in range(0, len(ids), _IDS_PER_QUESTION):
        some = list(ids[at : at + _IDS_PER_QUESTION])
        for row in _ask(analytics, sql, {**span, "ids": some}):
            day, hi, lo, kind, bid_hi, bid_lo, advertiser, flags, amount, currency = (
                int(str(cell)) for cell in row
            )
            yield _Event(day, (hi, lo), kind, (bid_hi, bid_lo), advertiser, flags, amount, currency)


def _stored(analytics: Analytics, span: dict[str, Value]) -> dict[Id, tuple[int, int, int, int]]:
    """Returns (day, advertiser, reasons, version) of the stored marks, by event id."""
    found: dict[Id, tuple[int, int, int, int]] = {}
    for row in _ask(analytics, _STORED, span):
        day, hi, lo, advertiser, reasons, version = (int(str(cell)) for cell in row)
        found[hi, lo] = (day, advertiser, reasons, version)
    return found


def _store(
    engine: AnalyticsEngine,
    events: dict[Id, _Event],
    reasons: dict[Id, int],
    stored: dict[Id, tuple[int, int, int, int]],
) -> int:
    """Writes the marks that differ from what is stored; returns how many."""
    rows: list[tuple[int, int, int, int, int, int]] = []
    for each, bits in reasons.items():
        _, _, old, version = stored.get(each, (0, 0, 0, 0))
        if bits != old:
            event = events[each]
            rows.append((event.day, *each, event.advertiser_id, bits, version + 1))
    for each, (day, advertiser, old, version) in stored.items():
        if old and each not in reasons:
            rows.append((day, *each, advertiser, 0, version + 1))
    if rows:
        days, his, los, advertisers, bits, versions = zip(*rows, strict=True)
        table = {
            "day": pa.array(days, pa.int32()).cast(pa.date32()),
            "id_hi": pa.array(his, pa.uint64()),
            "id_lo": pa.array(los, pa.uint64()),
            "advertiser_id": pa.array(advertisers, pa.uint32()),
            "reasons": pa.array(bits, pa.uint16()),
            "version": pa.array(versions, pa.uint64()),
        }
        engine.insert("invalid_traffic", pa.table(table))
    return len(rows)


def _summary(written: int, events: dict[Id, _Event], reasons: dict[Id, int]) -> Marked:
    by_reason: dict[str, int] = {}
    spend: dict[int, int] = {}
    for each, bits in reasons.items():
        for reason in Reason:
            if bits & reason and reason.name:
                by_reason[reason.name] = by_reason.get(reason.name, 0) + 1
        event = events[each]
        if event.flags & EventFlag.CHARGED:
            spend[event.currency] = spend.get(event.currency, 0) + event.amount_micros
    return Marked(written, len(reasons), by_reason, spend)


def _add(reasons: dict[Id, int], each: Id, reason: Reason) -> None:
    reasons[each] = reasons.get(each, 0) | int(reason)


def _ask(analytics: Analytics, sql: str, values: dict[str, Any]) -> list[list[Any]]:
    numbers = {name: number for name, number in _KINDS.items() if f"%({name})s" in sql}
    return analytics.query(sql, **numbers, **values).rows
