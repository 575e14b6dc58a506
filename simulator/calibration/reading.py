"""Readers of foreign logs: iPinYou-style files and the Open Bandit data set. Nothing is dropped.

A line that breaks a rule is handed back as a ``BadLine``; what was used and what was not add up to
what the file holds.

iPinYou-style: one won impression a line, ``click price pctr hour``, separated by blanks: 0 or 1,
the market price in CNY fen per thousand (the second price, so what was paid is what it took to
win), the publisher's pCTR, the number of the hour. Source: Zhang et al., "Real-Time Bidding
Benchmarking with iPinYou Dataset", arXiv 1407.7073, section 2.

Open Bandit: CSV with a header, one impression a line, of which ``timestamp``, ``position`` and
``click`` are read. Source: Saito et al., "Open Bandit Dataset and Pipeline", arXiv 2008.07146.
"""

from __future__ import annotations

import csv
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from market.errors import BadInput
from simulator.calibration.log import DAY_HOURS, HOUR_MS, NEVER, BadLine, Log, Reading, summed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

FEN_CPM_MICROS = 10_000
"""A fen is a hundredth of a yuan."""

_PRICE_FEN_MAX = 100_000.0
_HOUR_MAX = 50_000
_TEXT_MAX = 400


class _Row(NamedTuple):
    """What both formats say of an impression."""

    at_ms: int
    scene: str
    is_clicked: int
    price_cpm_micros: int


def read_ipinyou(path: Path) -> Reading:
    """Returns the log of a file of ``click price pctr hour`` lines.

    Raises:
        BadInput: the file cannot be read.
    """
    rows: list[_Row] = []
    bad: list[BadLine] = []
    for number, line in enumerate(_lines(path), 1):
        row = _ipinyou_row(line)
        if isinstance(row, str):
            bad.append(BadLine(path.name, number, row, line.rstrip("\n")[:_TEXT_MAX]))
        else:
            rows.append(row)
    log = _won_log("ipinyou", "CNY", rows, scenes=("all",), is_hourly=True)
    return Reading(log, tuple(bad), {"lines": len(rows) + len(bad)})


def read_open_bandit(path: Path) -> Reading:
    """Returns the log of an Open Bandit ``all.csv``.

    Raises:
        BadInput: the file cannot be read, or its header lacks a column.
    """
    lines = iter(_lines(path))
    header = _fields(next(lines, ""))
    try:
        columns = [header.index(name) for name in ("timestamp", "position", "click")]
    except ValueError as error:
        raise BadInput(
            f"{path}: {error}; the header must name timestamp, position, click"
        ) from error
    rows: list[_Row] = []
    bad: list[BadLine] = []
    for number, line in enumerate(lines, 2):
        row = _bandit_row(_fields(line), columns, len(header))
        if isinstance(row, str):
            bad.append(BadLine(path.name, number, row, line.rstrip("\r\n")[:_TEXT_MAX]))
        else:
            rows.append(row)
    scenes = tuple(sorted({row.scene for row in rows}))
    log = _won_log("open_bandit", "", rows, scenes=scenes, is_hourly=False)
    return Reading(log, tuple(bad), {"lines": len(rows) + len(bad)})


def _lines(path: Path) -> Iterable[str]:
    try:
        # A byte that is no UTF-8 spoils its line, not the file.
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            yield from file
    except OSError as error:
        raise BadInput(f"log '{path}': {error.strerror}; it must be a readable file") from error


def _fields(line: str) -> list[str]:
    """Returns the fields of a line of CSV, by itself: an open quote ends with its line."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        # A field beyond the parser's limit.
        return []


def _ipinyou_row(line: str) -> _Row | str:
    """Returns the row of a line, or the rule that it breaks."""
    fields = line.split()
    if len(fields) != 4:
        return f"{len(fields)} fields; a line has 4: click price pctr hour"
    try:
        click, price, pctr, hour = (float(field) for field in fields)
    except ValueError:
        return "a field is no number"
    for is_kept, rule in (
        (click in {0.0, 1.0}, "click must be 0 or 1"),
        (0.0 <= price <= _PRICE_FEN_MAX, f"price must be 0 to {_PRICE_FEN_MAX:.0f} fen"),
        (0.0 <= pctr <= 1.0, "pctr must be 0 to 1"),
        (
            0.0 <= hour <= _HOUR_MAX and hour == math.floor(hour),
            f"hour must be a whole number, 0 to {_HOUR_MAX}",
        ),
    ):
        if not is_kept:
            return rule
    return _Row(int(hour) * HOUR_MS, "all", int(click), round(price * FEN_CPM_MICROS))


def _bandit_row(fields: Sequence[str], columns: Sequence[int], width: int) -> _Row | str:
    if len(fields) != width:
        return f"{len(fields)} fields; the header has {width}"
    at, position, click = (fields[column] for column in columns)
    if click not in {"0", "1"}:
        return "click must be 0 or 1"
    if not position.isdigit():
        return "position must be a whole number"
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        return "timestamp must be ISO 8601"
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _Row(int(moment.timestamp() * 1000), f"position {position}", int(click), 0)


def _won_log(
    source: str, currency: str, rows: list[_Row], *, scenes: tuple[str, ...], is_hourly: bool
) -> Log:
    """Returns a log of won impressions whose market price is what was paid.

    Where only hours are told, the first and the last may be cut, so they are not counted as
    covered, unless a day begins or ends there.
    """
    at_ms = np.array([row.at_ms for row in rows], np.int64)
    order = np.argsort(at_ms, kind="stable")
    at_ms = at_ms[order]
    count = at_ms.shape[0]
    first = int(at_ms[0]) // HOUR_MS if count else 0
    hours = int(at_ms[-1]) // HOUR_MS - first + 1 if count else 0
    requests = summed(at_ms // HOUR_MS - first, None, hours)
    covered = np.ones(hours)
    if is_hourly:
        covered[requests == 0] = 0.0
        if hours and first % DAY_HOURS:
            covered[0] = 0.0
        if hours and (first + hours) % DAY_HOURS:
            covered[-1] = 0.0
    elif count:
        covered[0] -= at_ms[0] % HOUR_MS / HOUR_MS
        covered[-1] = (at_ms[-1] % HOUR_MS + 1) / HOUR_MS
    price = np.array([row.price_cpm_micros for row in rows], np.int64)[order]
    place = {name: row for row, name in enumerate(scenes)}
    has_price = np.full(count, bool(currency))
    nothing = np.zeros(count, np.int64)
    return Log(
        source=source,
        currency=currency,
        hour_first=first,
        requests=requests,
        request_unit=1.0,
        covered=covered,
        scenes=scenes,
        at_ms=at_ms,
        key_hi=np.full(count, 1, np.uint64),
        key_lo=np.arange(count, dtype=np.uint64),
        user=np.zeros(count, np.uint64),
        scene=np.array([place[row.scene] for row in rows], np.int32)[order],
        bid_cpm_micros=nothing,
        floor_cpm_micros=nothing,
        least_cpm_micros=np.where(has_price, price, 0),
        most_cpm_micros=np.where(has_price, price, NEVER),
        has_won=np.ones(count, np.uint8),
        is_decided=has_price.astype(np.uint8),
        paid_cpm_micros=price,
        clicked=np.array([row.is_clicked for row in rows], np.uint8)[order],
        converted=np.zeros(count, np.uint8),
        delay_ms=np.full(count, -1, np.int64),
        followed_ms=np.full(count, -1, np.int64),
        delay_tick_ms=1,
        end_ms=int(at_ms[-1]) + (HOUR_MS if is_hourly else 1) if count else 0,
    )
