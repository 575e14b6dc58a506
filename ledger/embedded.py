"""The embedded analytics engine: chDB, which is ClickHouse as a library.

Importing this module loads chDB (about 500 MB once in use, some thirty threads, stalls of tens of
milliseconds): only the store process does. One process may have one folder open, and one folder is
open in one process. ``ledger.store`` gives the engine to one thread: chDB would let several share
the session, but then nobody could say what a query sees of a batch.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from chdb import session

from ledger.analytics import SYNCED_TABLES
from ledger.disk import RealDisk
from ledger.migration import migrate
from ledger.sql import Rows, schema_versions
from market.errors import BadInput, NotReady

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.analytics import ArrowTable

QUERY_SECONDS_MAX: Final = 20
RESULT_ROWS_MAX: Final = 1_000_000
QUERY_BYTES_MAX: Final = 1 << 30

_LIMITS: Final = (
    f"SET max_execution_time = {QUERY_SECONDS_MAX}",
    f"SET max_result_rows = {RESULT_ROWS_MAX}",
    f"SET max_memory_usage = {QUERY_BYTES_MAX}",
)
# An insert may take as long as the disk needs, and a log that is loaded late spans many days.
# Removing duplicates is left to merges and to FINAL; on insert it took a third of the time.
_INSERT_SETTINGS: Final = (
    "max_execution_time = 0, max_partitions_per_insert_block = 0, optimize_on_insert = 0"
)
# By default MergeTree leaves new parts to the page cache, and a power cut would take rows that the
# cursor calls loaded. Not in schema.sql: 18.16 does not know these settings.
# And where a part has a file for each column, an insert waits for a hundred files: those of one
# batch (uncompressed) lie in one file, merges make the other kind of them.
_TABLE_SETTINGS: Final = (
    "fsync_after_insert = 1, fsync_part_directory = 1, min_bytes_for_wide_part = 67108864"
)

_ERROR_CODE: Final = re.compile(r"Code: (\d+)\.")
# Codes of ClickHouse's ErrorCodes.cpp that speak of the moment and not of the question:
# TIMEOUT_EXCEEDED, TOO_SLOW, CANNOT_ALLOCATE_MEMORY, MEMORY_LIMIT_EXCEEDED, NOT_ENOUGH_SPACE,
# CANNOT_SCHEDULE_TASK.
_CODES_OF_THE_MOMENT: Final = frozenset({159, 160, 173, 241, 243, 439})
_MESSAGE_CHARACTERS_MAX: Final = 400
_DRAIN_TRIES: Final = 3


class ChdbEngine:
    """An ``AnalyticsEngine`` in this process, with its files in one folder."""

    def __init__(self, folder: Path) -> None:
        """Opens the folder (created where missing), with tables of the last version.

        Args:
            folder: The engine's own files. Every other process that opens it is refused until this
                one ends, however it ends.

        Raises:
            NotReady: another process has the folder open, or the disk refuses.
            Corrupt: the tables were made by a later build.
        """
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # chDB locks its folder too, but tells it on stderr and in a roundabout way.
        try:
            self._lock = RealDisk().lock(folder)
        except BlockingIOError as error:
            raise NotReady(
                f"analytics folder {folder}: another process has it open; stop that store first"
            ) from error
        try:
            self._session = session.Session(str(folder.resolve()))
        except RuntimeError as error:
            raise NotReady(
                f"analytics folder {folder}: chDB cannot open it: {_short(error)}"
            ) from error
        for statement in _LIMITS:
            self.execute(statement)
        migrate(self, schema_versions())
        for table in SYNCED_TABLES:
            self.execute(f"ALTER TABLE {table} MODIFY SETTING {_TABLE_SETTINGS}")

    def execute(self, sql: str) -> Rows:
        """See ``AnalyticsEngine``."""
        try:
            return _rows_of(self._session.query(sql, "ArrowTable"))
        except (RuntimeError, ValueError, OSError) as error:
            self._drain()
            raise _error_of(sql, error) from error

    def insert(self, table: str, rows: ArrowTable) -> None:
        """See ``AnalyticsEngine``."""
        names = ", ".join(rows.column_names)
        # chDB finds a table by the name that its variable has here: Python(rows).
        sql = (
            f"INSERT INTO {table} ({names}) SETTINGS {_INSERT_SETTINGS} "  # noqa: S608
            f"SELECT {names} FROM Python(rows)"
        )
        try:
            self._session.query(sql)
        except RuntimeError as error:
            self._drain()
            raise NotReady(
                f"analytics table {table} in {self._folder}: {rows.num_rows} rows were not taken: "
                f"{_short(error)}; they are kept and inserted again"
            ) from error

    def _drain(self) -> None:
        """Returns once answers are whole again after a statement that failed.

        chDB 26.9 begins an answer with what a failed statement before it had already written of
        its own, so that the next caller would read rows that nobody asked for.
        """
        for _ in range(_DRAIN_TRIES):
            with contextlib.suppress(RuntimeError, ValueError, OSError):
                if self._session.query("SELECT 1 AS one", "ArrowTable").to_pylist() == [{"one": 1}]:
                    return
        raise NotReady(
            f"analytics folder {self._folder}: chDB does not answer SELECT 1; restart the store"
        )

    def close(self) -> None:
        """See ``AnalyticsEngine``."""
        self._session.close()
        os.close(self._lock)


def _rows_of(answer: Any) -> Rows:  # noqa: ANN401 - a pyarrow.Table, which has no types, or None
    if answer is None:
        return Rows(columns=[], rows=[])
    columns = [
        (column.cast(pa.string()) if pa.types.is_temporal(column.type) else column).to_pylist()
        for column in answer.columns
    ]
    return Rows(columns=answer.column_names, rows=[list(row) for row in zip(*columns, strict=True)])


def _error_of(sql: str, error: Exception) -> BadInput | NotReady:
    code = _ERROR_CODE.search(str(error))
    if code and int(code[1]) in _CODES_OF_THE_MOMENT:
        return NotReady(f"analytics engine: {_short(error)}; retry")
    return BadInput(f"statement '{' '.join(sql.split())[:200]}': {_short(error)}")


def _short(error: Exception) -> str:
    """Returns what the engine said, without the list of all words that it would have understood."""
    text = " ".join(str(error).split()).split(" Expected one of: ")[0]
    return text[:_MESSAGE_CHARACTERS_MAX]
