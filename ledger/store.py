"""The store process and its client: analytics beside the engine, never in the way of money.

``python -m ledger.store DEPLOYMENT`` opens the analytics engine, follows the event log into it
(``ledger.loader``) and answers questions on a unix socket. It may lag, crash or be killed: after a
restart it goes on from its cursor, and no process waits for it but those that ask.

One thread has the engine. Batches and questions take turns in it, first come, first served: a
question waits for at most one batch (about 50,000 rows, half a second), a batch for at most the
questions before it (each at most ``embedded.QUERY_SECONDS_MAX``). The other thread serves sockets,
signals and the stop word, so that the process leaves at once, whatever the engine is doing: leaving
in the middle of a batch is no different from a crash, and harmless.

Once the log is loaded, the same thread keeps the tables in order, a little at a time
(``ledger.housekeeping``): one day's roll-up, users that were erased. What an operator wants done to
the store is done there, too, since no other process may write to it.

The wire: a length (u32, little-endian), then a msgpack message: ``Question``, ``Progress`` or a
``Chore`` in, ``Rows``, ``Loaded``, what was ``Done`` or ``Refusal`` out; in order, any number per
connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from ledger.chores import Chore, Done
from ledger.disk import RealDisk
from ledger.sql import Rows, Value, bind, check_is_question
from market.control import ControlBlock, Word
from market.deployment import read_deployment
from market.errors import BadInput, Corrupt, LodestoneError, NotReady

if TYPE_CHECKING:
    from collections.abc import Callable

    from ledger.analytics import AnalyticsEngine
    from ledger.housekeeping import Housekeeper
    from ledger.loader import Loader
    from ledger.progress import LogProgress
    from market.deployment import Deployment

POLL_S: Final = 0.2
"""Between two looks at the log when there is little to load."""

RETRY_S: Final = 1.0
"""Between two tries of a batch that the engine or the disk refused."""

PROGRESS_WAIT_S: Final = 5.0
"""How long ``Progress`` waits for its sequence before it answers how far loading has come."""

UPKEEP_S: Final = 60.0
"""Between two looks for days to roll up; while one finds something, the next follows at once."""

CHORE_S: Final = 3_600.0
"""How long a client waits for a chore."""

_STOP_POLL_S: Final = 0.05
_FULL_BATCH_ROWS: Final = 20_000
_QUESTION_BYTES_MAX: Final = 1 << 20
_ANSWER_BYTES_MAX: Final = 256 << 20
_SOCKET_PATH_BYTES_MAX: Final = 107
_LENGTH: Final = struct.Struct("<I")

Result = TypeVar("Result")


class Question(msgspec.Struct, frozen=True, tag="question"):
    """Asks for the rows of one SELECT."""

    sql: str
    parameters: dict[str, bool | int | float | str | list[bool | int | float | str] | None]


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Asks how far the log is loaded, once that is ``at_least`` or ``PROGRESS_WAIT_S`` are over."""

    at_least: int


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """How far the log is loaded."""

    sequence: int


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """Why there is no answer."""

    error: str
    is_retryable: bool


class StoreClient:
    """Asks the store of a deployment; every call is a connection of its own, from any thread."""

    def __init__(self, path: Path, timeout_s: float = 30.0) -> None:
        """Connects to nothing yet.

        Args:
            path: ``deployment.store_socket``.
            timeout_s: For each step of a call: connecting, sending, each part of the answer.
        """
        self._path = path
        self._timeout_s = timeout_s

    def query(self, sql: str, /, **parameters: Value) -> Rows:
        """Returns the answer to a SELECT whose ``%(name)s`` are filled with ``parameters``.

        A question about what happened must say ``FROM events FINAL``, so that an event counts once.

        Raises:
            BadInput: the question is none, or the store refuses it.
            NotReady: the store is not there, too slow, or out of memory; retry.
        """
        bind(sql, parameters)  # what cannot be quoted is refused here and not sent
        values = {
            name: list(value) if isinstance(value, (list, tuple)) else value
            for name, value in parameters.items()
        }
        return self._ask({"type": "question", "sql": sql, "parameters": values}, Rows)

    def loaded_sequence(self, at_least: int = 0) -> int:
        """Returns the sequence up to which the event log is in the tables.

        Args:
            at_least: The answer waits for it, but no longer than ``PROGRESS_WAIT_S``: compare.

        Raises:
            NotReady: the store is not there.
        """
        return self._ask({"type": "progress", "at_least": at_least}, Loaded).sequence

    def do(self, chore: Chore) -> Done:
        """Has the store do a chore, and returns what was done.

        Raises:
            BadInput: the chore breaks a rule.
            NotReady: the store is not there, or cannot now; the same chore does the rest.
        """
        return self._ask(chore, Done, CHORE_S)

    def _ask(self, request: object, kind: Any, timeout_s: float = 0.0) -> Any:  # noqa: ANN401
        message = msgspec.msgpack.encode(request)
        if len(message) > _QUESTION_BYTES_MAX:
            raise BadInput(
                f"question of {len(message)} bytes: it must be at most {_QUESTION_BYTES_MAX}"
            )
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(max(timeout_s, self._timeout_s))
                connection.connect(_address(self._path))
                connection.sendall(_LENGTH.pack(len(message)) + message)
                (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
                body = _receive(connection, length)
        except OSError as error:
            raise NotReady(
                f"store at {self._path.name}: {error}; it may be starting: retry, and if "
                "it stays away read the store's log and start it again"
            ) from error
        answer = msgspec.msgpack.decode(body, type=kind | Refusal)
        if isinstance(answer, Refusal):
            raise (NotReady if answer.is_retryable else BadInput)(answer.error)
        return answer


class Store:
    """What the process does: one engine and one loader in one thread, and who asks for them."""

    def __init__(
        self,
        engine: AnalyticsEngine,
        loader: Loader,
        keeper: Housekeeper,
        thread: ThreadPoolExecutor,
        progress: LogProgress,
        upkeep_s: float = UPKEEP_S,
    ) -> None:
        """Takes an engine, what fills it and what keeps it in order, and the one thread of all.

        ``progress`` is told how far the log is loaded.
        """
        self._engine = engine
        self._keeper = keeper
        self._upkeep_s = upkeep_s
        self._loader = loader
        self._progress = progress
        self._thread = thread
        self._has_progressed = asyncio.Condition()

    async def load(self) -> None:
        """Follows the log until cancelled.

        Raises:
            Corrupt: the log is damaged.
        """
        complaint = ""
        loop = asyncio.get_running_loop()
        upkeep_at = loop.time() + self._upkeep_s
        while True:
            try:
                row_count = await self._in_engine_thread(self._loader.load_batch)
            except NotReady as error:
                if str(error) != complaint:
                    complaint = str(error)
                    _say(complaint)
                await asyncio.sleep(RETRY_S)
                continue
            complaint = ""
            self._progress.moved(self._loader.loaded_sequence, row_count)
            async with self._has_progressed:
                self._has_progressed.notify_all()
            if row_count < _FULL_BATCH_ROWS:
                if loop.time() >= upkeep_at:
                    upkeep_at = loop.time() + await self._keep_up()
                await asyncio.sleep(POLL_S)

    async def _keep_up(self) -> float:
        """Does a little of the upkeep; returns in how many seconds to look again.

        What cannot be kept up is said and tried again: it makes questions slow, not wrong, and
        loading goes on.
        """
        try:
            found = await self._in_engine_thread(self._keeper.upkeep)
        except (NotReady, BadInput) as error:
            _say(f"upkeep: {error}")
            return self._upkeep_s
        return 0.0 if found else self._upkeep_s

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the messages of one connection until its other side closes it."""
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while (message := await _read_message(reader)) is not None:
                answer = await self._answer(message)
                writer.write(_LENGTH.pack(len(answer)) + answer)
                await writer.drain()

    async def _answer(self, message: bytes) -> bytes:
        try:
            request = msgspec.msgpack.decode(message, type=Question | Progress | Chore)
            if isinstance(request, Progress):
                return msgspec.msgpack.encode(Loaded(await self._wait_for(request.at_least)))
            if not isinstance(request, Question):
                done = await self._in_engine_thread(lambda: self._keeper.do(request))
                return msgspec.msgpack.encode(done)
            sql = bind(request.sql, request.parameters)
            check_is_question(sql)
            return await self._in_engine_thread(lambda: self._rows_message(sql))
        except (LodestoneError, msgspec.MsgspecError) as error:
            refusal = Refusal(str(error), is_retryable=isinstance(error, NotReady))
            return msgspec.msgpack.encode(refusal)

    def _rows_message(self, sql: str) -> bytes:
        message = msgspec.msgpack.encode(self._engine.execute(sql))
        if len(message) > _ANSWER_BYTES_MAX:
            raise BadInput(
                f"answer of {len(message)} bytes: it must be at most {_ANSWER_BYTES_MAX}; ask for "
                "fewer rows or columns"
            )
        return message

    async def _wait_for(self, sequence: int) -> int:
        async with self._has_progressed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    self._has_progressed.wait_for(lambda: self._loader.loaded_sequence >= sequence),
                    PROGRESS_WAIT_S,
                )
        return self._loader.loaded_sequence

    async def _in_engine_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


async def run(deployment: Deployment) -> None:
    """Loads and answers until SIGTERM, SIGINT or the stop word.

    Raises:
        Corrupt: the control block, the log or the engine's table is damaged.
        NotReady: another store has the folder open.
        BadInput: the socket's path is too long.
    """
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    words = ControlBlock(deployment.control_path).words
    working = asyncio.create_task(_work(deployment, words))
    try:
        while not (stopping.is_set() or words[Word.STOP]):
            ended, _ = await asyncio.wait({working}, timeout=_STOP_POLL_S)
            for task in ended:
                task.result()
    finally:
        working.cancel()


async def _work(deployment: Deployment, words: memoryview) -> None:
    # Here and not above: whoever imports StoreClient must not load an engine.
    from ledger.housekeeping import Housekeeper  # noqa: PLC0415
    from ledger.loader import Loader  # noqa: PLC0415
    from ledger.opening import open_engine  # noqa: PLC0415
    from ledger.progress import LogProgress  # noqa: PLC0415

    address = _address(deployment.store_socket)
    thread = ThreadPoolExecutor(1, "engine")

    def durable_sequence() -> int | None:
        return words[Word.DURABLE_SEQUENCE] or None

    def open_store() -> Store:
        engine = open_engine(deployment)
        loader = Loader(engine, deployment.segment_folder, RealDisk(), durable_sequence)
        progress = LogProgress(
            words, Word.STORE_SEQUENCE, Word.STORE_CAUGHT_UP_NS, time.monotonic_ns, Word.STORE_ROWS
        )
        return Store(engine, loader, Housekeeper(engine), thread, progress)

    store = await asyncio.get_running_loop().run_in_executor(thread, open_store)
    # Only now: the engine's folder is locked, so that a socket found here is nobody's.
    async with await asyncio.start_unix_server(store.serve, address):
        try:
            await store.load()
        finally:
            deployment.store_socket.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Runs the process; returns 2 for damage that an operator must look at, 1 for other errors."""
    try:
        deployment = read_deployment(Path(arguments[0]))
        root = deployment.root.resolve()
        # chDB takes a config.xml of the working folder for its own.
        os.chdir(root)
        os.umask(0o077)
        asyncio.run(run(msgspec.structs.replace(deployment, folder=str(root))))
    except LodestoneError as error:
        _say(str(error))
        return 2 if isinstance(error, Corrupt) else 1
    return 0


def _address(path: Path) -> str:
    address = str(path)
    if len(address.encode()) > _SOCKET_PATH_BYTES_MAX:
        raise BadInput(
            f"store socket '{address}': a unix socket's path is at most {_SOCKET_PATH_BYTES_MAX} "
            "bytes long; choose a run folder with a shorter path"
        )
    return address


async def _read_message(reader: asyncio.StreamReader) -> bytes | None:
    """Returns the next message; None at the end, or where no client of ours is speaking."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > _QUESTION_BYTES_MAX:
            return None
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        return None


def _receive(connection: socket.socket, count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        part = connection.recv(min(count, 1 << 20))
        if not part:
            raise ConnectionResetError("the store closed the connection")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _say(line: str) -> None:
    sys.stderr.write(f"store: {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    # Not sys.exit, which would wait for the engine's threads: leaving is as safe as a crash.
    os._exit(main(sys.argv[1:]))
