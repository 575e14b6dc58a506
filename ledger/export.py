"""Exports: a store's events as Parquet files, one folder a day, for whoever works with other tools.

The layout is ``day=2026-01-31/part-0000.parquet`` below the folder, which DuckDB, Spark, polars and
``pyarrow.dataset`` read as one table. Numbers keep their types: money is Int64 micros, ids are
UInt64. A file appears under its name only when it is whole, and ``manifest.json``, which names
every file with its rows and its SHA-256, is written last: a folder without one is not finished.

An advertiser gets its own events, without what tells of users or of how the engine works; an
operator gets all of them.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from ledger.rollup import iso_day
from market.errors import BadInput
from market.events import EVENT_DTYPE, SCHEMA_VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.analytics import ArrowTable
    from ledger.query import Answer, Scope
    from ledger.sql import Analytics, Value

PART_ROWS: Final = 50_000
"""Rows of a file, about: what one question answers."""

MANIFEST: Final = "manifest.json"

_HIDDEN: Final = frozenset(
    {
        "user_key", "features", "caps", "budgets", "worker", "snapshot_version", "model_version",
        "policy_version", "propensity", "shading_factor", "opportunity_hi", "opportunity_lo",
        "weight",
    }
)  # fmt: skip
"""Columns of events that an advertiser does not get."""

_DAYS: Final = """
SELECT toUInt16(day) AS day_number FROM events
WHERE day >= toDate(%(first)s) AND day <= toDate(%(last)s){scope}
GROUP BY day_number ORDER BY day_number
"""


class ExportedFile(msgspec.Struct, frozen=True):
    """A file of an export; ``path`` is relative to the folder."""

    path: str
    rows: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What an export holds.

    Attributes:
        advertiser_id: whose events; None = of all.
        first_day, last_day: ISO 8601, of the bids, as they were asked for.
        schema_version: of events.
        columns: names, in the order of the files.
        rows: over all files.
        files: in order of day and part.
    """

    advertiser_id: int | None
    first_day: str
    last_day: str
    schema_version: int
    columns: tuple[str, ...]
    rows: int
    files: tuple[ExportedFile, ...]


def export_events(
    analytics: Analytics,
    scope: Scope,
    first_day: int,
    last_day: int,
    folder: Path,
    part_rows: int = PART_ROWS,
) -> Manifest:
    """Writes the deduplicated events of bids in first_day..last_day and returns the manifest.

    Args:
        analytics: The store.
        scope: Whose events.
        first_day: Day since 1970, UTC.
        last_day: The last one, itself included.
        folder: Empty, or missing.
        part_rows: Rows of a file, about.

    Raises:
        BadInput: the folder is not empty, or the days are none.
        NotReady: the store cannot now; begin again with an empty folder.
    """
    if not 0 <= first_day <= last_day < 1 << 16:
        raise BadInput(f"days {first_day} to {last_day}: they must be ascending days since 1970")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BadInput(f"export folder {folder}: it must be empty")
    names = tuple(
        name
        for name in EVENT_DTYPE.names or ()
        if scope.advertiser_id is None or name not in _HIDDEN
    )
    own = "" if scope.advertiser_id is None else " AND advertiser_id = %(advertiser_id)s"
    values: dict[str, Value] = (
        {} if scope.advertiser_id is None else {"advertiser_id": scope.advertiser_id}
    )
    days = analytics.query(_DAYS.format(scope=own), first=first_day, last=last_day, **values).rows
    files: list[ExportedFile] = []
    for (day,) in days:
        assert isinstance(day, int)
        where = f"day = toDate(%(day)s){own}"
        of_day: dict[str, Value] = {"day": day, **values}
        ((count,),) = analytics.query(
            f"SELECT count() AS n FROM events FINAL WHERE {where}",  # noqa: S608 - of ours
            **of_day,
        ).rows
        assert isinstance(count, int)
        parts = max(1, -(-count // part_rows))
        for part in range(parts):
            in_part = f"{where} AND modulo(id_lo, %(parts)s) = %(part)s"
            table = _read(analytics, names, in_part, {**of_day, "parts": parts, "part": part})
            path = folder / f"day={iso_day(day)}" / f"part-{part:04}.parquet"
            files.append(_write(table, path, folder))
    manifest = Manifest(
        advertiser_id=scope.advertiser_id,
        first_day=iso_day(first_day),
        last_day=iso_day(last_day),
        schema_version=SCHEMA_VERSION,
        columns=names,
        rows=sum(file.rows for file in files),
        files=tuple(files),
    )
    _write_whole(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


def export_answer(answer: Answer, path: Path) -> ExportedFile:
    """Writes the answer to a query as one Parquet file, a column each; numbers stay exact."""
    columns = zip(*answer.rows, strict=True) if answer.rows else [()] * len(answer.columns)
    arrays = [pa.array(list(column)) for column in columns]
    table = pa.table(dict(zip(answer.columns, arrays, strict=True)))
    return _write(table, path, path.parent)


def _read(
    analytics: Analytics, names: tuple[str, ...], where: str, values: dict[str, Value]
) -> ArrowTable:
    """Returns events as columns: an answer is one row whose cells are whole columns."""
    asked: list[str] = []
    for name in names:
        width = EVENT_DTYPE[name].shape
        asked += [f"{name}[{i + 1}]" for i in range(width[0])] if width else [name]
    sql = ", ".join(f"groupArray({each})" for each in asked)
    ordered = ", ".join(names)
    (row,) = analytics.query(
        f"SELECT {sql} FROM (SELECT {ordered} FROM events FINAL WHERE {where} "  # noqa: S608
        "ORDER BY ts_ms, id_hi, id_lo) AS chosen",
        **values,
    ).rows
    cells = iter(row)
    columns: dict[str, pa.Array] = {}
    for name in names:
        dtype = EVENT_DTYPE[name]
        if not dtype.shape:
            columns[name] = pa.array(np.array(next(cells), dtype))
            continue
        lists = np.stack([np.array(next(cells), dtype.base) for _ in range(dtype.shape[0])], axis=1)
        flat = pa.array(np.ascontiguousarray(lists).ravel())
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, dtype.shape[0])
    return pa.table(columns)


def _write(table: ArrowTable, path: Path, folder: Path) -> ExportedFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = pa.BufferOutputStream()
    parquet.write_table(table, buffer, compression="zstd")
    body = buffer.getvalue().to_pybytes()
    _write_whole(path, body)
    return ExportedFile(
        str(path.relative_to(folder)), table.num_rows, hashlib.sha256(body).hexdigest()
    )


def _write_whole(path: Path, body: bytes) -> None:
    """Writes a file that is there as a whole or not at all, also after a power cut."""
    beside = path.with_name(f".{path.name}.part")
    with beside.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
