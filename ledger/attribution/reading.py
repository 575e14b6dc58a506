"""Reading touches and conversions out of the analytics store, as columns.

An answer is one row whose cells are whole columns (``groupArray``), and a stretch of time is asked
for in parts of some hundred thousand rows, so that neither the engine's nor the store's limit on an
answer is met. An event counts once (``FINAL``); tests and disputed notices are no touches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ledger.attribution.kernels import NEVER
from ledger.attribution.paths import Bids, Conversions
from market.events import EventFlag, EventKind

if TYPE_CHECKING:
    from ledger.sql import Analytics, Value

PART_ROWS: Final = 250_000
"""Rows that one question is meant to answer."""

_NUMBERS: Final[dict[str, int]] = {
    "impression": int(EventKind.IMPRESSION),
    "billing": int(EventKind.BILLING),
    "click": int(EventKind.CLICK),
    "conversion": int(EventKind.CONVERSION),
    "left_out": int(EventFlag.TEST | EventFlag.DISPUTED),
    "never": NEVER,
}

_TOUCHES: Final = """
FROM events FINAL
WHERE kind IN (%(impression)s, %(billing)s, %(click)s) AND bitAnd(flags, %(left_out)s) = 0
    AND ts_ms >= %(start_ms)s AND ts_ms < %(end_ms)s
"""

_CONVERTED: Final = """
FROM events FINAL
WHERE kind = %(conversion)s AND bitAnd(flags, %(left_out)s) = 0
    AND ts_ms >= %(start_ms)s AND ts_ms < %(end_ms)s
"""

# Columns stand in the order of the fields of ``Bids`` and ``Conversions``. They have no names: an
# alias that is also a column's name would be what WHERE sees.
# Numbers of one bid are equal in all its events; max() only names one of them.
_BIDS: Final = f"""
SELECT groupArray(bid_hi), groupArray(bid_lo),
    groupArray(advertiser), groupArray(user),
    groupArray(shown), groupArray(clicked),
    groupArray(campaign), groupArray(line_item),
    groupArray(creative), groupArray(place)
FROM (
    SELECT bid_hi, bid_lo, max(advertiser_id) AS advertiser, max(user_key) AS user,
        min(if(kind = %(click)s, toInt64(%(never)s), ts_ms)) AS shown,
        min(if(kind = %(click)s, ts_ms, toInt64(%(never)s))) AS clicked,
        max(campaign_id) AS campaign, max(line_item_id) AS line_item,
        max(creative_id) AS creative, max(exchange) AS place
    {_TOUCHES} AND modulo(bitXor(bid_hi, bid_lo), %(parts)s) = %(part)s
    GROUP BY bid_hi, bid_lo
) AS seen
"""  # noqa: S608 - of constants

_CONVERSIONS: Final = f"""
SELECT groupArray(id_hi), groupArray(id_lo),
    groupArray(bid_hi), groupArray(bid_lo),
    groupArray(advertiser_id), groupArray(user_key),
    groupArray(ts_ms), groupArray(value_micros),
    groupArray(account_currency)
{_CONVERTED} AND modulo(id_lo, %(parts)s) = %(part)s
"""

_BID_TYPES: Final = (
    np.uint64, np.uint64, np.uint32, np.uint64, np.int64, np.int64, np.uint32, np.uint32,
    np.uint32, np.uint32,
)  # fmt: skip
_CONVERSION_TYPES: Final = (
    np.uint64, np.uint64, np.uint64, np.uint64, np.uint32, np.uint64, np.int64, np.int64,
    np.uint16,
)  # fmt: skip


def read_bids(analytics: Analytics, start_ms: int, end_ms: int, part_rows: int = PART_ROWS) -> Bids:
    """Returns every bid that was seen or clicked in [start_ms, end_ms)."""
    span: dict[str, Value] = {"start_ms": start_ms, "end_ms": end_ms}
    return Bids(*_columns(analytics, _TOUCHES, _BIDS, _BID_TYPES, span, part_rows))


def read_conversions(
    analytics: Analytics, start_ms: int, end_ms: int, part_rows: int = PART_ROWS
) -> Conversions:
    """Returns every conversion in [start_ms, end_ms)."""
    span: dict[str, Value] = {"start_ms": start_ms, "end_ms": end_ms}
    return Conversions(
        *_columns(analytics, _CONVERTED, _CONVERSIONS, _CONVERSION_TYPES, span, part_rows)
    )


def _columns(
    analytics: Analytics,
    counted: str,
    asked: str,
    types: tuple[type[np.generic], ...],
    span: dict[str, Value],
    part_rows: int,
) -> list[Any]:
    """Returns the columns of ``asked``, put together from as many parts as it takes."""
    sql = f"SELECT count() AS n {counted}"
    ((row_count,),) = analytics.query(sql, **_numbers(sql), **span).rows
    assert isinstance(row_count, int)
    parts = max(1, -(-row_count // part_rows))
    numbers = _numbers(asked)
    pieces: list[list[Any]] = [[] for _ in types]
    for part in range(parts):
        answer = analytics.query(asked, **numbers, **span, parts=parts, part=part)
        for piece, cell, kind in zip(pieces, answer.rows[0], types, strict=True):
            piece.append(np.array(cell, kind))
    return [np.concatenate(piece) for piece in pieces]


def _numbers(sql: str) -> dict[str, int]:
    return {name: number for name, number in _NUMBERS.items() if f"%({name})s" in sql}
