"""The analytics engine: where events are kept in columns and questions are answered.

One protocol, so that the store does not know which engine it runs on. ``ChdbEngine``
(``ledger.embedded``) is the embedded one, ``ClickHouseEngine`` (``ledger.clickhouse``) a server.
"""

from __future__ import annotations

from typing import Final, Protocol

from ledger.sql import Rows, Value, bind

SYNCED_TABLES: Final = ("events", "touched_days", "erased_users", "retention", "invalid_traffic")
"""Tables whose rows are on disk when an insert returns, where the engine can do that.

What else there is can be computed anew from these.
"""


class ArrowTable(Protocol):
    """What an engine may ask of a ``pyarrow.Table``, which comes without types of its own."""

    @property
    def num_rows(self) -> int:
        """How many rows it has."""
        ...

    @property
    def column_names(self) -> list[str]:
        """Names of its columns, in order."""
        ...


class AnalyticsEngine(Protocol):
    """An engine that holds the tables of ``schema.sql``; it is used by one thread at a time."""

    def execute(self, sql: str) -> Rows:
        """Runs one statement and returns its rows; a statement without an answer returns none.

        Raises:
            BadInput: the engine does not understand the statement, or its answer is too large.
            NotReady: the engine cannot do it now: no time, memory or disk.
        """
        ...

    def insert(self, table: str, rows: ArrowTable) -> None:
        """Adds ``rows`` to ``table``, by the columns' names, and returns when they are on disk.

        It is not atomic over partitions: after an error or a crash, some rows may be there, and
        the caller inserts the same rows again.

        Args:
            table: Name of a table of ``schema.sql``.
            rows: A ``pyarrow.Table``; dates are date32, arrays are lists.

        Raises:
            NotReady: the engine did not take them; nothing is known about which of them it has.
        """
        ...

    def close(self) -> None:
        """Lets the engine's files go."""
        ...


class EngineAnalytics:
    """An engine as ``ledger.sql.Analytics``, for whoever has it in hand."""

    def __init__(self, engine: AnalyticsEngine) -> None:
        """Takes the engine; the caller's thread is the one that may use it."""
        self._engine = engine

    def query(self, sql: str, /, **parameters: Value) -> Rows:
        """See ``ledger.sql.Analytics``."""
        return self._engine.execute(bind(sql, parameters))
