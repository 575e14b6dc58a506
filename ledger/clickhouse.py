"""The analytics engine at scale: a ClickHouse server, through clickhouse-driver.

The same DDL, the same questions and the same loader as the embedded engine (``ledger.embedded``);
what differs is who keeps the files. Tested against Debian's 18.16; settings that only later servers
know are set where the server lists them, so that nothing is assumed of its version.

Several stores may load one log into one server: an event id names its row, so that a repeat is
harmless, and the cursor only ever grows.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
from clickhouse_driver import Client
from clickhouse_driver.errors import Error, ServerException

from ledger.analytics import SYNCED_TABLES
from ledger.clickhouse_blocks import ColumnClient
from ledger.migration import migrate
from ledger.sql import Rows, schema_versions
from market.errors import BadInput, NotReady

if TYPE_CHECKING:
    from ledger.analytics import ArrowTable

QUERY_SECONDS_MAX: Final = 20
RESULT_ROWS_MAX: Final = 1_000_000
QUERY_BYTES_MAX: Final = 4 << 30
"""A question over many small parts reads each column of each through a buffer of a megabyte."""
CONNECT_S: Final = 5.0

_QUESTION_SETTINGS: Final = {
    "max_execution_time": QUERY_SECONDS_MAX,
    "max_result_rows": RESULT_ROWS_MAX,
    "max_memory_usage": QUERY_BYTES_MAX,
}
# Of an insert: as in ``ledger.embedded``, where they are explained.
_INSERT_SETTINGS: Final = {"max_partitions_per_insert_block": 0, "optimize_on_insert": 0}
_TABLE_SETTINGS: Final = ("fsync_after_insert", "fsync_part_directory")

# Codes of ClickHouse's ErrorCodes.cpp that speak of the moment and not of the question:
# TIMEOUT_EXCEEDED, TOO_SLOW, CANNOT_ALLOCATE_MEMORY, TOO_MANY_SIMULTANEOUS_QUERIES,
# MEMORY_LIMIT_EXCEEDED, TABLE_IS_READ_ONLY, NOT_ENOUGH_SPACE, TOO_MANY_PARTS, CANNOT_SCHEDULE_TASK.
_CODES_OF_THE_MOMENT: Final = frozenset({159, 160, 173, 202, 241, 242, 243, 252, 439})
_MESSAGE_CHARACTERS_MAX: Final = 400


class Address(msgspec.Struct, frozen=True):
    """Where a server is, and who asks it."""

    host: str
    port: int
    user: str
    password: str
    database: str


def address_of(url: str) -> Address:
    """Returns the address in ``clickhouse://user:password@host:port/database``.

    Port 9000, user and database ``default`` where the URL leaves them out.

    Raises:
        BadInput: it is no such URL. The message does not repeat it: it may hold a password.
    """
    parts = urlsplit(url)
    try:
        port = parts.port or 9000
    except ValueError:
        port = 0
    if parts.scheme != "clickhouse" or not parts.hostname or not port:
        raise BadInput("ClickHouse URL: it must be clickhouse://user:password@host:port/database")
    return Address(
        host=parts.hostname,
        port=port,
        user=unquote(parts.username or "default"),
        password=unquote(parts.password or ""),
        database=parts.path.strip("/") or "default",
    )


class ClickHouseEngine:
    """An ``AnalyticsEngine`` in another process, perhaps on another machine."""

    def __init__(self, address: Address) -> None:
        """Connects and brings the tables to the last version of ``schema.sql``.

        Raises:
            Corrupt: the tables were made by a later build.
            NotReady: the server is not there, or refuses the user.
        """
        self._name = f"{address.host}:{address.port}/{address.database}"
        arguments: dict[str, Any] = {
            "host": address.host, "port": address.port, "user": address.user,
            "password": address.password, "database": address.database,
            "connect_timeout": CONNECT_S,
        }  # fmt: skip
        self._questions = Client(**arguments)
        self._inserts = ColumnClient(**arguments)
        known = self._known("system.settings", (*_QUESTION_SETTINGS, *_INSERT_SETTINGS))
        self._question_settings = _only(known, _QUESTION_SETTINGS)
        self._insert_settings = _only(known, _INSERT_SETTINGS)
        migrate(self, schema_versions())
        for name in sorted(self._known("system.merge_tree_settings", _TABLE_SETTINGS)):
            for table in SYNCED_TABLES:
                self.execute(f"ALTER TABLE {table} MODIFY SETTING {name} = 1")

    def execute(self, sql: str) -> Rows:
        """See ``AnalyticsEngine``."""
        try:
            answer = self._questions.execute(
                sql, with_column_types=True, settings=self._question_settings
            )
        except (Error, OSError, EOFError) as error:
            raise self._error_of(sql, error) from error
        if not isinstance(answer, tuple):
            return Rows(columns=[], rows=[])
        rows, columns = answer
        return Rows(
            columns=[name for name, _ in columns],
            rows=[[_cell(value) for value in row] for row in rows],
        )

    def insert(self, table: str, rows: ArrowTable) -> None:
        """See ``AnalyticsEngine``."""
        names = ", ".join(rows.column_names)
        try:
            self._inserts.insert(
                f"INSERT INTO {table} ({names}) VALUES", rows, self._insert_settings
            )
        except (Error, OSError, EOFError) as error:
            self._inserts.disconnect()
            raise NotReady(
                f"analytics table {table} at {self._name}: {rows.num_rows} rows were not taken: "
                f"{_short(error)}; they are kept and inserted again"
            ) from error

    def close(self) -> None:
        """See ``AnalyticsEngine``."""
        self._questions.disconnect()
        self._inserts.disconnect()

    def _known(self, table: str, names: tuple[str, ...]) -> set[str]:
        """Returns those of ``names`` that this server has a setting for."""
        listed = ", ".join(f"'{name}'" for name in names)
        rows: Any
        try:
            rows = self._questions.execute(
                f"SELECT name FROM {table} WHERE name IN ({listed})"  # noqa: S608 - names of ours
            )
        except ServerException as error:
            raise NotReady(
                f"ClickHouse at {self._name}: {_short(error)}; check user, password and database"
            ) from error
        except (Error, OSError, EOFError) as error:
            raise NotReady(
                f"ClickHouse at {self._name}: {_short(error)}; start it, or correct its URL"
            ) from error
        return {str(name) for (name,) in rows}

    def _error_of(self, sql: str, error: Exception) -> BadInput | NotReady:
        if isinstance(error, ServerException) and error.code not in _CODES_OF_THE_MOMENT:
            return BadInput(f"statement '{' '.join(sql.split())[:200]}': {_short(error)}")
        # A connection that broke in the middle of an answer must not begin the next one.
        self._questions.disconnect()
        return NotReady(f"ClickHouse at {self._name}: {_short(error)}; retry")


def _only(known: set[str], settings: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in settings.items() if name in known}


def _cell(value: Any) -> Any:  # noqa: ANN401 - whatever the driver makes of a column's type
    return value.isoformat() if isinstance(value, datetime.date) else value


def _short(error: Exception) -> str:
    """Returns what the server said, without its stack trace."""
    text = " ".join(str(error).split()).split(" Stack trace:")[0].split(" Expected one of: ")[0]
    return text[:_MESSAGE_CHARACTERS_MAX] or type(error).__name__
