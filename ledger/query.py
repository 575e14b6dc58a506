"""The query API: what an advertiser may ask of the store, and of whose events.

A query names dimensions, measures and filters out of closed lists, a stretch of time and an order;
no text of it ever becomes SQL but as a quoted value. Whose events are read is not part of a query:
it is the ``Scope`` beside it, which the caller takes from the key that the request came with. A
query that names an advertiser has a field too many, and is refused.

The answer is read from the hourly roll-ups where those are up to date and from the deduplicated
events where they are not, so it is the same with roll-ups and without (``ledger.rollup``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ledger.measures import DIVIDED, HOUR_MS, KEYS, MONEY, SUMS
from ledger.rollup import Freshness, freshness, hours_of
from ledger.sql import Cell, Value
from market.errors import BadInput
from market.events import DAY_MS
from market.money import CURRENCY_NAMES, CURRENCY_NUMBERS
from market.opportunity import Format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ledger.sql import Analytics

ROWS_MAX: Final = 100_000
HOURS_MAX: Final = 24 * 800
FILTER_VALUES_MAX: Final = 1_000
_NAMES_MAX: Final = 32
_OFFSET_MAX: Final = 10_000_000

DIMENSIONS: Final[dict[str, str]] = {
    "month": "toStartOfMonth(toDate(toUInt16(intDiv(hour_ms, 86400000))))",
    "day": "toDate(toUInt16(intDiv(hour_ms, 86400000)))",
    "hour_ms": "hour_ms",
    "hour_of_day": "modulo(intDiv(hour_ms, 3600000), 24)",
    "campaign_id": "campaign_id",
    "line_item_id": "line_item_id",
    "creative_id": "creative_id",
    "exchange": "exchange",
    "format": "format",
    "currency": "account_currency",
}
"""What may be grouped by; times are of the event, UTC."""

_OPERATORS: Final = {"advertiser_id": "advertiser_id"}

FILTERS: Final[dict[str, str]] = {
    name: column for name, column in DIMENSIONS.items() if column in KEYS and name != "hour_ms"
}
"""What may be filtered by, and the column that it is."""

MEASURES: Final = (*SUMS, *DIVIDED)
"""What may be asked for."""


class Scope(NamedTuple):
    """Whose events are read: of one advertiser, or, for an operator, of all of them.

    Attributes:
        advertiser_id: whose key asks; None: an operator of the engine, never a caller from outside.
    """

    advertiser_id: int | None


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question in the words of the API.

    Attributes:
        measures: out of ``MEASURES``.
        start_ms, end_ms: of the events, epoch milliseconds, whole hours, the end exclusive.
        dimensions: out of ``DIMENSIONS``. Where a measure is money, ``currency`` is added.
        filters: by name out of ``FILTERS``, the values that are let through.
        order_by: names of dimensions and of measures that are sums, "-" before one: descending.
            Rows that are equal in these follow their dimensions.
        limit, offset: which rows of the ordered answer.
    """

    measures: tuple[str, ...]
    start_ms: int
    end_ms: int
    dimensions: tuple[str, ...] = ()
    filters: dict[str, tuple[int | str, ...]] = {}
    order_by: tuple[str, ...] = ()
    limit: int = 1_000
    offset: int = 0


class Answer(msgspec.Struct, frozen=True):
    """The answer to a query.

    Attributes:
        columns: dimensions, then measures, in the order in which they were asked for.
        rows: numbers; a quotient by zero is None; days as ISO 8601 text.
        is_cut: there are more rows after these.
        days_rolled: days of bids that were read from roll-ups.
        days_counted: days of bids whose events were counted.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    is_cut: bool
    days_rolled: int
    days_counted: int


class _Asked(NamedTuple):
    dimensions: tuple[str, ...]
    measures: tuple[str, ...]
    sums: tuple[str, ...]
    allowed: dict[str, str]


def read_query(body: bytes) -> Query:
    """Returns the query in a JSON body.

    Raises:
        BadInput: it is none; ``answer`` checks what its words mean.
    """
    try:
        return msgspec.json.decode(body, type=Query)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadInput(f"query: {error}") from error


def answer(analytics: Analytics, scope: Scope, query: Query) -> Answer:
    """Returns what ``query`` asks for, of the events that ``scope`` may see.

    Raises:
        BadInput: a name, a value or the stretch of time breaks a rule; ``pointer`` says which.
        NotReady: the store is not there or cannot now.
    """
    asked = _checked(scope, query)
    days = _before(query.end_ms, freshness(analytics))
    sql, values = _sql_of(asked, scope, query, days)
    found = analytics.query(sql, **values).rows
    names = [_SHOWN.get(name) for name in asked.dimensions]
    width = len(names)
    rows: list[tuple[Cell, ...]] = []
    for row in found[: query.limit]:
        keys = [
            cell if show is None else show(cell)
            for cell, show in zip(row[:width], names, strict=True)
        ]
        sums = dict(zip(asked.sums, row[width:], strict=True))
        rows.append((*keys, *(_measure(name, sums) for name in asked.measures)))
    return Answer(
        columns=(*asked.dimensions, *asked.measures),
        rows=tuple(rows),
        is_cut=len(found) > query.limit,
        days_rolled=len(days.rolled),
        days_counted=len(days.changed),
    )


def _before(end_ms: int, days: Freshness) -> Freshness:
    """Returns the days whose bids can have events before ``end_ms``; a day more, for clocks."""
    last = end_ms // DAY_MS + 1
    return Freshness(
        frozenset(day for day in days.rolled if day <= last),
        frozenset(day for day in days.changed if day <= last),
    )


def _checked(scope: Scope, query: Query) -> _Asked:
    allowed = DIMENSIONS if scope.advertiser_id is not None else {**DIMENSIONS, **_OPERATORS}
    _check_names("dimensions", query.dimensions, allowed)
    _check_names("measures", query.measures, MEASURES)
    if not query.measures:
        raise BadInput("query: it must ask for at least one measure", "/measures")
    dimensions = query.dimensions
    if "currency" not in dimensions and any(name in MONEY for name in query.measures):
        dimensions = (*dimensions, "currency")
    needed: dict[str, None] = {}
    for name in query.measures:
        needed |= dict.fromkeys(DIVIDED[name][:2] if name in DIVIDED else (name,))
    _check_span(query)
    _check_order(query, (*dimensions, *needed))
    return _Asked(dimensions, query.measures, tuple(needed), allowed)


def _check_names(field: str, names: Sequence[str], allowed: Iterable[str]) -> None:
    known = list(allowed)
    for at, name in enumerate(names):
        if name not in known:
            raise BadInput(
                f"{field} '{name[:40]}': it must be one of {', '.join(known)}", f"/{field}/{at}"
            )
    if len(set(names)) < len(names) or len(names) > _NAMES_MAX:
        raise BadInput(f"{field}: each name may stand there once", f"/{field}")


def _check_span(query: Query) -> None:
    for name, value in (("start_ms", query.start_ms), ("end_ms", query.end_ms)):
        if value % HOUR_MS or not 0 <= value < 1 << 52:
            raise BadInput(f"{name} {value}: it must be a whole hour since 1970", f"/{name}")
    hours = (query.end_ms - query.start_ms) // HOUR_MS
    if not 1 <= hours <= HOURS_MAX:
        raise BadInput(
            f"start_ms {query.start_ms} to end_ms {query.end_ms}: {hours} hours; there must be "
            f"between 1 and {HOURS_MAX}",
            "/end_ms",
        )
    if not 1 <= query.limit <= ROWS_MAX:
        raise BadInput(f"limit {query.limit}: it must be in 1..{ROWS_MAX}", "/limit")
    if not 0 <= query.offset <= _OFFSET_MAX:
        raise BadInput(f"offset {query.offset}: it must be in 0..{_OFFSET_MAX}", "/offset")


def _check_order(query: Query, known: Sequence[str]) -> None:
    for at, name in enumerate(query.order_by):
        if name.removeprefix("-") not in known:
            raise BadInput(
                f"order_by '{name[:40]}': it must be one of {', '.join(known)}, with '-' before it "
                "for descending",
                f"/order_by/{at}",
            )


def _sql_of(
    asked: _Asked, scope: Scope, query: Query, days: Freshness
) -> tuple[str, dict[str, Value]]:
    values: dict[str, Value] = {
        "start_ms": query.start_ms, "end_ms": query.end_ms,
        "row_count": query.limit + 1, "first_row": query.offset,
    }  # fmt: skip
    wanted = _filters(scope, query, values)
    span = "hour_ms >= %(start_ms)s AND hour_ms < %(end_ms)s"
    hours, of_days = hours_of(
        days,
        KEYS,
        asked.sums,
        f" AND {span}{wanted}",
        f" AND ts_ms >= %(start_ms)s AND ts_ms < %(end_ms)s{wanted}",
    )
    values |= of_days
    groups = ", ".join(f"{asked.allowed[name]} AS by_{name}" for name in asked.dimensions)
    sums = ", ".join(f"sum({name}) AS of_{name}" for name in asked.sums)
    aliases = {name: f"by_{name}" for name in asked.dimensions}
    order = [_order_of(name, aliases) for name in query.order_by]
    order += [alias for alias in aliases.values() if alias not in order]
    sql = f"""
SELECT {f"{groups}, " if groups else ""}{sums}
FROM ({hours}) AS hours
{f"GROUP BY {', '.join(aliases.values())}" if aliases else ""}
{f"ORDER BY {', '.join(order)}" if order else ""}
LIMIT %(first_row)s, %(row_count)s
"""  # noqa: S608 - of allow-listed names; values are bound
    return sql, values


def _filters(scope: Scope, query: Query, values: dict[str, Value]) -> str:
    """Returns the conditions on keys, each begun with AND; their values go into ``values``."""
    conditions: list[str] = []
    if scope.advertiser_id is not None:
        values["advertiser_id"] = scope.advertiser_id
        conditions.append("advertiser_id = %(advertiser_id)s")
    allowed = FILTERS if scope.advertiser_id is not None else {**FILTERS, **_OPERATORS}
    for name, wanted in query.filters.items():
        pointer = f"/filters/{name[:40]}"
        if name not in allowed:
            raise BadInput(f"filter '{name[:40]}': it must be one of {', '.join(allowed)}", pointer)
        if not 1 <= len(wanted) <= FILTER_VALUES_MAX:
            raise BadInput(
                f"filter '{name}': {len(wanted)} values; there must be between 1 and "
                f"{FILTER_VALUES_MAX}",
                pointer,
            )
        values[f"of_{name}"] = [_number_of(name, value, pointer) for value in wanted]
        conditions.append(f"{allowed[name]} IN %(of_{name})s")
    return "".join(f" AND {condition}" for condition in conditions)


def _number_of(name: str, value: int | str, pointer: str) -> int:
    names = _NUMBERED.get(name, {})
    if isinstance(value, str):
        number = names.get(value.upper())
        if number is None:
            rule = f"one of {', '.join(names)}" if names else "a whole number"
            raise BadInput(f"filter '{name}' value '{value[:40]}': it must be {rule}", pointer)
        return number
    if isinstance(value, bool) or not 0 <= value < 1 << 32:
        raise BadInput(f"filter '{name}' value {value}: it must be in 0..2^32-1", pointer)
    return value


def _order_of(name: str, aliases: dict[str, str]) -> str:
    bare = name.removeprefix("-")
    direction = " DESC" if name.startswith("-") else ""
    return f"{aliases.get(bare, f'of_{bare}')}{direction}"


def _measure(name: str, sums: dict[str, Cell]) -> Cell:
    if name not in DIVIDED:
        return sums[name]
    above, below, factor = DIVIDED[name]
    over, under = sums[above], sums[below]
    assert isinstance(over, int)
    assert isinstance(under, int)
    if under == 0:
        return None
    if name.endswith("_micros"):
        # To the nearest micro, in whole numbers: a sum of micros can be beyond what a float holds.
        return (2 * over * factor + under) // (2 * under)
    return over * factor / under


def _currency(number: Cell) -> str:
    assert isinstance(number, int)
    return CURRENCY_NAMES.get(number, f"ISO 4217 {number}")


def _format(number: Cell) -> str:
    try:
        return Format(number).name or f"FORMAT_{number}"
    except (TypeError, ValueError):
        return f"FORMAT_{number}"


_SHOWN: Final[dict[str, Callable[[Cell], str]]] = {"currency": _currency, "format": _format}
_NUMBERED: Final[dict[str, dict[str, int]]] = {
    "currency": CURRENCY_NUMBERS,
    "format": {name: int(form) for name, form in Format.__members__.items()},
}
