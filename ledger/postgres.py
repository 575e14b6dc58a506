"""The owner of budgets that machines share, in PostgreSQL's rows: see ``ledger.allotment``.

A turn is one transaction, durable when it returns (``synchronous_commit`` is set, whatever the
server's default). It first takes its own node's row, which holds the epoch: whoever opens the node
waits for a turn under way, and from its commit on every transaction of an older process is refused
(``Fenced``). Then it locks its budgets in the order of their ids, one order for everybody, so that
no two nodes wait for each other. A turn whose answer was lost has happened or has not; the next one
makes the same sense in both cases.

The rules of what is granted are ``ledger.allotment.answer_to``; here are rows and transactions.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psycopg
from psycopg.rows import tuple_row

from ledger.allotment import Answer, Others, Told, answer_to
from ledger.lease import Allotment
from market.errors import BadInput, Forbidden, NotReady

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ledger.allotment import Statement
    from market.deployment import Deployment

    Connection = psycopg.Connection[tuple[Any, ...]]

_SCHEMA_LOCK: Final = 0x10DE
"""Number of the lock under which the tables are made: CREATE IF NOT EXISTS is not safe alone."""

_SIGN: Final = 1 << 63

_SESSION: Final = (
    "SET synchronous_commit = on; SET statement_timeout = '10s'; "
    "SET idle_in_transaction_session_timeout = '10s'"
)
_ROWS_OF_BUDGETS: Final = (
    "INSERT INTO shared_budgets (budget_id, limit_micros, intent_version, end_at_ms) "
    "SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) "
    "AS said (id, most, version, ends) ORDER BY id "
    "ON CONFLICT (budget_id) DO UPDATE SET limit_micros = excluded.limit_micros, "
    "intent_version = excluded.intent_version, end_at_ms = excluded.end_at_ms "
    "WHERE excluded.intent_version > shared_budgets.intent_version "
    "OR (excluded.intent_version = shared_budgets.intent_version "
    "AND excluded.limit_micros < shared_budgets.limit_micros)"
)
"""Takes limits of newer intents, the lower one of two that say they are equally new; it locks every
row, also those that it leaves as they are."""

_OTHERS: Final = (
    "SELECT budget_id, b.limit_micros, coalesce(sum(a.allotted_micros), 0)::bigint, "
    "coalesce(sum(a.spent_on_time_micros + a.spent_late_micros + a.adjusted_micros), 0)::bigint, "
    "coalesce(sum(a.waiting_micros), 0)::bigint "
    "FROM shared_budgets AS b LEFT JOIN budget_allotments AS a USING (budget_id) "
    "WHERE b.budget_id = ANY(%s) AND a.log_id IS DISTINCT FROM %s GROUP BY budget_id"
)
_ALLOT: Final = (
    "INSERT INTO budget_allotments AS old (budget_id, log_id, allotted_micros, "
    "spent_on_time_micros, spent_late_micros, adjusted_micros, open_micros, waiting_micros) "
    "SELECT id, %s, allotted, on_time, late, adjusted, open, waiting FROM unnest(%s::bigint[], "
    "%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) "
    "AS said (id, allotted, on_time, late, adjusted, open, waiting) "
    "ON CONFLICT (budget_id, log_id) DO UPDATE SET allotted_micros = excluded.allotted_micros, "
    "spent_on_time_micros = greatest(old.spent_on_time_micros, excluded.spent_on_time_micros), "
    "spent_late_micros = greatest(old.spent_late_micros, excluded.spent_late_micros), "
    "adjusted_micros = excluded.adjusted_micros, open_micros = excluded.open_micros, "
    "waiting_micros = excluded.waiting_micros"
)
# Who has not spoken for a minute is gone, and nobody gives anything back for it.
_WANTED: Final = (
    "SELECT DISTINCT mine.budget_id FROM budget_allotments AS waiting "
    "JOIN budget_nodes AS n ON n.log_id = waiting.log_id "
    "JOIN budget_allotments AS mine ON mine.budget_id = waiting.budget_id AND mine.log_id = %s "
    "WHERE waiting.waiting_micros > 0 AND waiting.log_id <> mine.log_id "
    "AND n.contact_at > now() - interval '60 seconds'"
)
_NODES: Final = (
    "SELECT n.node, n.log_id, n.is_closed, extract(epoch FROM now() - n.contact_at)::bigint, "
    "count(a.budget_id), coalesce(sum(a.allotted_micros), 0)::bigint, "
    "coalesce(sum(a.spent_on_time_micros + a.spent_late_micros + a.adjusted_micros), 0)::bigint, "
    "coalesce(sum(a.open_micros), 0)::bigint "
    "FROM budget_nodes AS n LEFT JOIN budget_allotments AS a USING (log_id) "
    "GROUP BY n.log_id ORDER BY n.is_closed, n.node, n.log_id"
)


class Fenced(Forbidden):
    """Another process opened the node, or an operator closed it: this process must end."""


class NodeView(msgspec.Struct, frozen=True):
    """One node as the owner sees it, for operators; sums over its budgets, of all currencies.

    Attributes:
        node: its name.
        log_id: names its log.
        is_closed: whether an operator closed it.
        silent_s: since it spoke last.
        budgets: that it draws on or drew on.
        allotted_micros: what it may have spent and held.
        spent_micros: what it said it had spent.
        open_micros: reserved by its open bids when it spoke last.
    """

    node: str
    log_id: str
    is_closed: bool
    silent_s: int
    budgets: int
    allotted_micros: int
    spent_micros: int
    open_micros: int


class PostgresOwner:
    """The owner as one node's process sees it: an ``ledger.allotment.Owner``.

    Attributes:
        epoch: of this process; 0 before ``open``.
    """

    def __init__(self, url: str, password: str = "") -> None:
        """Connects to nothing yet.

        Args:
            url: Connection string or URL of the database.
            password: Where it is not in the URL; libpq also looks in ``PGPASSWORD`` and its file.
        """
        self.epoch = 0
        self._node = self._log_id = ""
        self._url = url
        self._password = password
        self._open_connection: Connection | None = None

    @classmethod
    def of(cls, deployment: Deployment) -> PostgresOwner:
        """Returns the owner that a deployment names.

        Raises:
            BadInput: it names none, or the file with its password cannot be read.
        """
        if not deployment.budgets_url:
            raise BadInput("deployment: budgets_url is empty: its budgets are this machine's alone")
        password = ""
        if deployment.budgets_password_file:
            try:
                password = Path(deployment.budgets_password_file).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise BadInput(f"deployment: budgets_password_file: {error}") from error
        return cls(deployment.budgets_url, password.strip())

    def open(self, node: str, log_id: str, sequence: int) -> tuple[Allotment, ...]:
        """See ``ledger.allotment.Owner``."""
        with self._transaction() as connection:
            # One after the other, so that the rules below see what they are about.
            connection.execute("LOCK TABLE budget_nodes IN SHARE ROW EXCLUSIVE MODE")
            rows = connection.execute(
                "SELECT log_id, sequence FROM budget_nodes "
                "WHERE log_id = %s OR (node = %s AND NOT is_closed)",
                (log_id, node),
            ).fetchall()
            known: dict[str, int] = dict(rows)
            others = set(known) - {log_id}
            if others:
                raise BadInput(
                    f"node '{node}': its name belongs to another log ({others.pop()}); name this "
                    "machine otherwise, start it with that log, or close the node "
                    "(`lodestone ledger close-node`)"
                )
            if known.get(log_id, 0) > sequence:
                raise BadInput(
                    f"node '{node}': its log ends at frame {sequence}, and the owner of the "
                    f"budgets has heard of frame {known[log_id]}; restore the whole log, or close "
                    "the node and start with an empty one"
                )
            row = connection.execute(
                "INSERT INTO budget_nodes AS old (log_id, node, sequence) VALUES (%s, %s, %s) "
                "ON CONFLICT (log_id) DO UPDATE SET node = excluded.node, epoch = old.epoch + 1, "
                "sequence = excluded.sequence, is_closed = false, contact_at = now() "
                "RETURNING epoch",
                (log_id, node, sequence),
            ).fetchone()
            allotted = connection.execute(
                "SELECT budget_id, allotted_micros FROM budget_allotments WHERE log_id = %s",
                (log_id,),
            ).fetchall()
        assert row is not None
        self.epoch, self._node, self._log_id = row[0], node, log_id
        return tuple(sorted(Allotment(unsigned(key), amount) for key, amount in allotted))

    def turn(self, sequence: int, statements: Sequence[Statement]) -> Answer:
        """See ``ledger.allotment.Owner``."""
        with self._transaction() as connection:
            self._hold_node(connection, sequence)
            told = self._take(connection, statements) if statements else ()
            wanted = connection.execute(_WANTED, (self._log_id,)).fetchall()
        return Answer(told, frozenset(unsigned(row[0]) for row in wanted))

    def close(self) -> None:
        """Lets the connection go; the node stays this process's until the next opens it."""
        connection, self._open_connection = self._open_connection, None
        if connection is not None:
            connection.close()

    # For operators.

    def nodes(self) -> list[NodeView]:
        """Returns every node, the open ones first."""
        with self._transaction() as connection:
            return _nodes(connection)

    def close_node(self, node: str) -> NodeView:
        """Closes an open node: what it did not say to have spent goes back to its budgets.

        Returns the node as it was: allotted less spent is what may be overspent, if the machine
        still runs or its open bids win.

        Raises:
            BadInput: no open node has that name.
        """
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT log_id FROM budget_nodes WHERE node = %s AND NOT is_closed FOR UPDATE",
                (node,),
            ).fetchone()
            if row is None:
                names = ", ".join(each.node for each in _nodes(connection) if not each.is_closed)
                raise BadInput(f"node '{node}': no open node has this name; there are: {names}")
            (found,) = (each for each in _nodes(connection) if each.log_id == row[0])
            connection.execute(
                "UPDATE budget_nodes SET is_closed = true, epoch = epoch + 1 WHERE log_id = %s",
                row,
            )
            connection.execute(
                "UPDATE budget_allotments SET waiting_micros = 0, allotted_micros = "
                "spent_on_time_micros + spent_late_micros + adjusted_micros WHERE log_id = %s",
                row,
            )
        return found

    # Within.

    @contextlib.contextmanager
    def _transaction(self) -> Generator[Connection]:
        """One transaction; connects where there is no connection, and says trouble in words.

        After an error of the connection the next call makes a new one. The epoch stays: a process
        that another has replaced stays fenced.

        Raises:
            NotReady: the server is not there, or refuses. The message holds no password.
        """
        try:
            if self._open_connection is None:
                self._open_connection = self._connected()
            with self._open_connection.transaction():
                yield self._open_connection
        except (
            psycopg.OperationalError,
            psycopg.InterfaceError,
            psycopg.errors.ReadOnlySqlTransaction,  # a server that is not the first one any more
        ) as error:
            self.close()
            text = " ".join(str(error).split())[:300]
            raise NotReady(f"PostgreSQL: {text}; start the server, or ask again") from error
        except psycopg.errors.InsufficientPrivilege as error:
            text = " ".join(str(error).split())[:300]
            raise NotReady(f"PostgreSQL: {text}; grant it to the user of budgets_url") from error

    def _connected(self) -> Connection:
        """Returns a connection to a database that has the tables."""
        connection: Connection = psycopg.connect(
            self._url, autocommit=True, row_factory=tuple_row, connect_timeout=5,
            keepalives_idle=5, tcp_user_timeout=10_000, application_name="lodestone",
            password=self._password or None,
        )  # fmt: skip
        with contextlib.ExitStack() as undo:
            undo.callback(connection.close)
            connection.execute(_SESSION)
            statements = Path(__file__).with_name("postgres.sql").read_bytes()
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
                connection.execute(statements)
            undo.pop_all()
        return connection

    def _hold_node(self, connection: Connection, sequence: int) -> None:
        """Locks the node's row for this transaction.

        Raises:
            Fenced: it is not this process's any more.
        """
        row = connection.execute(
            "UPDATE budget_nodes SET contact_at = now(), sequence = greatest(sequence, %s) "
            "WHERE log_id = %s AND epoch = %s AND NOT is_closed RETURNING epoch",
            (sequence, self._log_id, self.epoch),
        ).fetchone()
        if row is None:
            raise Fenced(
                f"node '{self._node}': epoch {self.epoch} of its budgets is over: another process "
                "opened its log, or an operator closed the node; this process must end"
            )

    def _take(self, connection: Connection, statements: Sequence[Statement]) -> tuple[Told, ...]:
        ids = [signed(said.budget_id) for said in statements]
        connection.execute(
            _ROWS_OF_BUDGETS,
            (
                ids,
                [said.limit_micros for said in statements],
                [said.version for said in statements],
                [said.end_at_ms for said in statements],
            ),
        )
        row = connection.execute("SELECT count(*) FROM budget_nodes WHERE NOT is_closed").fetchone()
        assert row is not None
        limits: dict[int, int] = dict(
            connection.execute(
                "SELECT budget_id, limit_micros FROM shared_budgets WHERE budget_id = ANY(%s)",
                (ids,),
            ).fetchall()
        )
        others = {
            key: Others(*rest) for key, *rest in connection.execute(_OTHERS, (ids, self._log_id))
        }
        told = tuple(
            answer_to(said, others.get(key, Others(limits[key], 0, 0, 0)), row[0])
            for key, said in zip(ids, statements, strict=True)
        )
        connection.execute(
            _ALLOT,
            (
                self._log_id,
                ids,
                [each.allotted_micros for each in told],
                [said.spent_on_time_micros for said in statements],
                [said.spent_late_micros for said in statements],
                [said.adjusted_micros for said in statements],
                [said.open_micros for said in statements],
                [each.refused_micros for each in told],
            ),
        )
        return told


def signed(number: int) -> int:
    """Returns the signed 64-bit number of the same bits."""
    return number - (1 << 64) if number >= _SIGN else number


def unsigned(number: int) -> int:
    """Returns the unsigned 64-bit number of the same bits."""
    return number + (1 << 64) if number < 0 else number


def _nodes(connection: Connection) -> list[NodeView]:
    return [NodeView(*row) for row in connection.execute(_NODES)]
