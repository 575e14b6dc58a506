"""HTTP/1.1 for the two hot ports, bids and notices: one parser a connection, no framework.

A handler gets a whole request and returns the answer's bytes, or a future of them when it must wait
(a notice waits for its commit). Everything is synchronous inside ``data_received``; answers leave
in the order of their requests, in one write per batch of data.

    keep-alive, pipelining, partial reads, chunked bodies, 100-continue   supported
    gzip body        inflated up to the body limit; bad gzip 400, an unknown coding 400
    body too large   413 and close, whether sent, announced or inflated
    bad HTTP         400 and close; a head that is too long 431 and close
    a slow client    its connection is closed, after 10 s for a request and 150 s without one
    a deaf client    that does not read its answers is not read from, and cut off after 10 s
    too many         connections: those that were of no use for the longest time are cut off

What it deliberately does not do: routes, TLS (a proxy's work), HTTP/2, upgrades (ignored), and it
never reads the clock itself. A handler that raises is a bug: 500, close, and the loop's exception
handler is told.

Source: OpenRTB 2.6 section 2; RFC 9112 sections 3, 6, 7 and 9; RFC 9110 section 10.1.1.
"""

from __future__ import annotations

import asyncio
import heapq
import re
import resource
import zlib
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import httptools

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD_BYTES_MAX: Final = 32_768
"""Of the request line and headers that arrive after the first packet."""

PIPELINE_MAX: Final = 1_024
"""Answers that one connection may be owed; it is not read from while it is owed more."""

BATCH_BYTES: Final = 16_384
"""More than this at once is worked off in slices, others taking their turns between them."""

REQUEST_S_MAX: Final = 10
"""From the first byte of a request to its last."""

CONNECTIONS_MAX: Final = 4_096
"""Open connections of one server, or what the limit on open files leaves, if that is less."""

IDLE_S_MAX: Final = 150
"""Exchanges keep idle connections for 2.5 minutes (Authorized Buyers documentation)."""

# Files that a process has open besides its connections.
_FILES_KEPT: Final = 64
_SLICE_BYTES: Final = 4_096
_LINGER_S: Final = 1.0
_SWEEP_S: Final = 2.0
_SECOND_NS: Final = 1_000_000_000


class Headers:
    """The request headers that matter, b"" where absent; valid only while the handler runs."""

    __slots__ = (
        "accept_encoding",
        "authorization",
        "content_encoding",
        "content_type",
        "expect",
        "x_openrtb_version",
    )

    def __init__(self) -> None:
        """Starts without any."""
        self.clear()

    def clear(self) -> None:
        """Forgets the request before."""
        self.accept_encoding = b""
        self.authorization = b""
        self.content_encoding = b""
        self.content_type = b""
        self.expect = b""
        self.x_openrtb_version = b""


Answer: TypeAlias = "bytes | asyncio.Future[bytes]"
Handler: TypeAlias = "Callable[[bytes, bytes, bytes, Headers, bytes, int], Answer]"
"""(method, path, query, headers, body, arrived_ns) -> answer; query without its question mark.

``arrived_ns`` is the server's clock when the request's last bytes were read.
"""

Stream: TypeAlias = "Callable[[bytes, int], tuple[bytes, int]]"
"""(data, arrived_ns) -> (answers, bytes used): answers whole requests at the start of ``data``.

It is asked where a request begins and no answer is owed, and leaves what it does not know, from the
first such request on, to the parser here; so it may know as little of HTTP as it likes.
"""

_NO_WEIGHT: Final = re.compile(rb"q=0(\.0*)?")
_CONTENT_LENGTH: Final = b"content-length"
_FIELDS: Final[dict[bytes, str]] = {
    name.replace("_", "-").encode(): name for name in Headers.__slots__
}
_LENGTHS: Final = frozenset({len(name) for name in _FIELDS} | {len(_CONTENT_LENGTH)})


def response(status: int, body: bytes = b"", *headers: tuple[str, str]) -> bytes:
    """Returns the bytes of a whole answer; build the fixed ones once."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if status != HTTPStatus.NO_CONTENT:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join((*lines, "\r\n")).encode("latin-1") + body


_CLOSE: Final = ("connection", "close")
BAD_REQUEST: Final = response(400)
_BAD_HTTP: Final = response(400, b"", _CLOSE)
TOO_LARGE: Final = response(413, b"", _CLOSE)
"""A handler that answers with this very object also ends the connection."""
_HEAD_TOO_LONG: Final = response(431, b"", _CLOSE)
_FAILED: Final = response(500, b"", _CLOSE)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Refused(Exception):
    """Ends a connection from inside a callback of the parser, with this answer."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


class Connection(asyncio.Protocol):
    """One client: its parser, the request it is sending, and the answers it is owed."""

    def __init__(self, server: HttpServer) -> None:
        """Serves ``server``'s handler."""
        self._server = server
        self._clock_ns = server.clock_ns
        self._handle = server.handler
        self._stream = server.stream
        self._body_bytes_max = server.body_bytes_max
        self._headers = Headers()
        self._has_headers = False
        self._parser = httptools.HttpRequestParser(self)
        self._transport = cast("asyncio.Transport", None)
        # The request being received; its head is whole once _is_head_done.
        self._is_begun = False
        self._url = b""
        self._is_head_done = False
        self._head_bytes = 0
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._arrived_ns = self.started_ns = 0
        # When the last request was whole, 0 while none was.
        self.useful_ns = 0
        # Since when nothing can be written, 0 while something can.
        self._blocked_ns = 0
        # Answers to be written now, and from the first one that is waited for on.
        self._out: list[bytes] = []
        self._owed: deque[Answer] = deque()
        self._is_last = False
        self._is_refused = False
        self._is_old: bool | None = None
        self._owes_too_much = False
        self._reading_stops = 0
        # What was read and not yet parsed; it counts as one of the reading stops.
        self._backlog: bytes | memoryview = b""

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts."""
        self._transport = cast("asyncio.Transport", transport)
        self._arrived_ns = self.started_ns = self._clock_ns()
        self._server.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends; answers that are still owed have nobody to go to."""
        del exc
        self._owed.clear()
        self._backlog = b""
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Parses what came and answers every request that is whole."""
        if self._is_last:
            return
        self._arrived_ns = self._clock_ns()
        is_between = not (self._is_begun or self._owed or self._backlog)
        if self._stream is not None and is_between:
            answers, used = self._streamed(self._stream, data)
            if used:
                self.useful_ns = self._arrived_ns
                self._transport.write(answers)
                data = data[used:]
            if not data:
                return
        if len(data) <= BATCH_BYTES and not self._backlog:
            self._parse(data)
        elif self._backlog:
            self._backlog = bytes(self._backlog) + data
        else:
            self._backlog = memoryview(data)
            self._stop_reading()
            self._work_off()

    def _work_off(self) -> None:
        """Parses one slice of the backlog; goes on in the loop's next turn."""
        if not self._backlog or self._reading_stops > 1:
            return
        piece, self._backlog = self._backlog[:_SLICE_BYTES], self._backlog[_SLICE_BYTES:]
        self._parse(piece)
        if self._is_last:
            self._backlog = b""
        if not self._backlog:
            self._go_on_reading()
        elif self._reading_stops == 1:
            asyncio.get_running_loop().call_soon(self._work_off)

    def _parse(self, data: bytes | memoryview) -> None:
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError as error:
            self._refuse(self._answer_of(error.__context__))
        except httptools.HttpParserError:
            self._refuse_more(_BAD_HTTP)
        if self._url and not self._is_head_done:
            self._count_head(len(data))
        if self._out or self._is_last:
            self._write()

    def _streamed(self, stream: Stream, data: bytes) -> tuple[bytes, int]:
        """Returns what the stream does with ``data``; where it fails, the parser gets all of it."""
        try:
            return stream(data, self._arrived_ns)
        except Exception as error:  # noqa: BLE001 - told, and answered by the handler instead
            asyncio.get_running_loop().call_exception_handler(
                {"message": "requests could not be streamed", "exception": error}
            )
            return b"", 0

    def _count_head(self, byte_count: int) -> None:
        self._head_bytes += byte_count if self._head_bytes else 1
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse_more(_HEAD_TOO_LONG)

    def _refuse_more(self, answer: bytes) -> None:
        """Refuses what comes after the request that was to be the last, if none was."""
        if not self._is_last:
            self._refuse(answer)

    def _feed(self, data: bytes | memoryview) -> None:
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # An offer to leave HTTP/1.1 (Java's client makes it): answered as a plain request.
                # The parser does not skip a body of such a request, so one that may have a body is
                # the last.
                data = data[cast("int", upgrade.args[0]) :]
                self._is_last = self._is_last or self._parser.get_method() != b"GET"
                if data and not self._is_last:
                    continue
            return

    def pause_writing(self) -> None:
        """Stops reading: the client does not take its answers."""
        self._blocked_ns = self._clock_ns()
        self._stop_reading()

    def resume_writing(self) -> None:
        """Reads on."""
        self._blocked_ns = 0
        self._go_on_reading()

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Takes the first byte of a request."""
        self._is_begun = True
        self.started_ns = self._arrived_ns

    def on_url(self, url: bytes) -> None:
        """Takes a part of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps the headers that matter."""
        if len(name) not in _LENGTHS:
            return
        name = name.lower()
        field = _FIELDS.get(name)
        if field is not None:
            setattr(self._headers, field, value)
            self._has_headers = True
        elif name == _CONTENT_LENGTH and int(value) > self._body_bytes_max:
            raise _Refused(TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Asks for the body where the client waits for that."""
        self._is_head_done = True
        self._head_bytes = 0
        if self._has_headers and self._headers.expect.lower() == b"100-continue":
            self._answer(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """Takes a part of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > self._body_bytes_max:
            raise _Refused(TOO_LARGE)
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        """Answers the request."""
        path, _, query = self._url.partition(b"?")
        if path[:1] != b"/":
            path = _path_of(path)
        chunks = self._chunks
        body = b"" if not chunks else chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if self._is_old is None:
            self._is_old = self._parser.get_http_version() != "1.1"
        self._is_last = self._is_old or not self._parser.should_keep_alive()
        coding = self._headers.content_encoding
        inflated = inflate(coding, body, self._body_bytes_max) if coding else body
        if inflated is None:
            answer: Answer = BAD_REQUEST
        else:
            answer = self._handle(
                self._parser.get_method(), path, query, self._headers, inflated, self._arrived_ns
            )
            if answer is TOO_LARGE:
                raise _Refused(TOO_LARGE)
        self._is_begun = False
        self.useful_ns = self._arrived_ns
        self._url = b""
        self._is_head_done = False
        if chunks:
            chunks.clear()
            self._body_bytes = 0
        if self._has_headers:
            self._headers.clear()
            self._has_headers = False
        self._answer(answer)

    # Answers.

    def _answer(self, answer: Answer) -> None:
        if isinstance(answer, bytes):
            if self._owed:
                self._owed.append(answer)
            else:
                self._out.append(answer)
            return
        self._owed.append(answer)
        if len(self._owed) >= PIPELINE_MAX and not self._owes_too_much:
            self._owes_too_much = True
            self._stop_reading()
        answer.add_done_callback(self._on_answer)

    def _on_answer(self, _: asyncio.Future[bytes]) -> None:
        owed = self._owed
        while owed:
            first = owed[0]
            if isinstance(first, bytes):
                self._out.append(first)
            elif not first.done():
                break
            elif first.cancelled() or first.exception() is not None:
                cause = None if first.cancelled() else first.exception()
                owed.clear()
                self._refuse(self._answer_of(cause))
                break
            else:
                self._out.append(first.result())
            owed.popleft()
        if self._owes_too_much and len(owed) < PIPELINE_MAX:
            self._owes_too_much = False
            self._go_on_reading()
        if self._out:
            self._write()

    def _write(self) -> None:
        """Writes what may leave; ends the connection after its last answer."""
        out = self._out
        transport = self._transport
        if out:
            transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()
        if not self._is_last or self._owed or transport.is_closing():
            return
        if self._is_refused and transport.can_write_eof():
            # Closing with unread input resets the connection, and the answer with it.
            transport.write_eof()
            asyncio.get_running_loop().call_later(_LINGER_S, transport.close)
        else:
            transport.close()

    def _refuse(self, answer: bytes) -> None:
        """Makes ``answer`` the last one: what comes after it is not read."""
        self._is_last = self._is_refused = True
        self._is_begun = False
        self._url = b""
        self._chunks.clear()
        self._answer(answer)

    def _answer_of(self, cause: BaseException | None) -> bytes:
        if isinstance(cause, _Refused):
            return cause.answer
        context: dict[str, object] = {"message": "a request could not be answered"}
        if isinstance(cause, Exception):
            context["exception"] = cause
        asyncio.get_running_loop().call_exception_handler(context)
        return _FAILED

    # Limits.

    def _stop_reading(self) -> None:
        self._reading_stops += 1
        if self._reading_stops == 1 and not self._transport.is_closing():
            self._transport.pause_reading()

    def _go_on_reading(self) -> None:
        self._reading_stops -= 1
        if self._reading_stops == 0 and not self._transport.is_closing():
            self._transport.resume_reading()
        elif self._backlog and self._reading_stops == 1:
            asyncio.get_running_loop().call_soon(self._work_off)

    def end_if_slow(self, now_ns: int) -> None:
        """Ends a connection whose request takes too long, that nobody uses, or nobody reads."""
        if self._blocked_ns:
            if now_ns - self._blocked_ns > REQUEST_S_MAX * _SECOND_NS:
                # A close would wait for the client to read what it is owed.
                self._transport.abort()
            return
        if self._is_begun:
            is_over = now_ns - self.started_ns > REQUEST_S_MAX * _SECOND_NS
        else:
            is_over = not self._owed and now_ns - self._arrived_ns > IDLE_S_MAX * _SECOND_NS
        if is_over:
            self._transport.close()

    def cut_off(self) -> None:
        """Ends the connection at once, whatever it is owed."""
        self._transport.abort()

    def end(self) -> None:
        """Closes the connection once the answers it is owed are written."""
        self._is_last = True
        self._write()


class HttpServer:
    """Listens, and keeps the connections.

    Attributes:
        handler: answers requests.
        clock_ns: monotonic nanoseconds.
        body_bytes_max: limit of a body, as sent and inflated.
        stream: looks at what comes first, see ``Stream``; None = nobody.
        connections_max: open connections; see ``CONNECTIONS_MAX``.
        connections: that are open now.
    """

    def __init__(
        self,
        handler: Handler,
        clock_ns: Callable[[], int],
        body_bytes_max: int = 1 << 20,
        stream: Stream | None = None,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        """Serves ``handler`` once ``listen`` is called."""
        self.handler = handler
        self.clock_ns = clock_ns
        self.body_bytes_max = body_bytes_max
        self.stream = stream
        self.connections_max = connections_max
        self.connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int, *, is_shared: bool = False) -> int:
        """Starts to answer; returns the port, which the system picks when ``port`` is 0.

        Args:
            host: address to bind.
            port: to bind.
            is_shared: other processes may bind it too (SO_REUSEPORT), the kernel spreads clients.

        Raises:
            OSError: the address is taken or is none of ours.
        """
        files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files_max != resource.RLIM_INFINITY:
            self.connections_max = max(1, min(self.connections_max, files_max - _FILES_KEPT))
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Connection(self), host, port, reuse_port=is_shared, backlog=1_024
        )
        self._sweep = loop.call_later(_SWEEP_S, self._end_slow_ones, loop)
        return int(self._listener.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Listens no more, and ends each connection after the answers that it is owed."""
        if self._listener is not None:
            self._listener.close()
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in tuple(self.connections):
            connection.end()

    def admit(self, connection: Connection) -> None:
        """Takes a new connection; cuts others off where there are too many.

        First those that never sent a whole request, then those whose last one is longest ago: who
        opens connections to fill them up loses them before anybody who asks for something.
        """
        if len(self.connections) >= self.connections_max:
            count = 1 + self.connections_max // 16
            for other in heapq.nsmallest(count, self.connections, _usefulness):
                other.cut_off()
                self.connections.discard(other)
        self.connections.add(connection)

    def _end_slow_ones(self, loop: asyncio.AbstractEventLoop) -> None:
        now_ns = self.clock_ns()
        for connection in tuple(self.connections):
            connection.end_if_slow(now_ns)
        self._sweep = loop.call_later(_SWEEP_S, self._end_slow_ones, loop)


def _usefulness(connection: Connection) -> tuple[int, int]:
    return connection.useful_ns, connection.started_ns


def inflate(coding: bytes, body: bytes, bytes_max: int) -> bytes | None:
    """Returns the body without its content coding; None when it is damaged or not gzip.

    Never inflates more than ``bytes_max``, whatever the body promises: a longer one ends the
    connection with 413.
    """
    coding = coding.strip().lower()
    if coding in (b"", b"identity"):
        return body
    if coding not in (b"gzip", b"x-gzip"):
        return None
    inflater = zlib.decompressobj(31)
    try:
        inflated = inflater.decompress(body, bytes_max + 1)
    except zlib.error:
        return None
    if len(inflated) > bytes_max:
        raise _Refused(TOO_LARGE)
    return inflated if inflater.eof and not inflater.unused_data else None


def _path_of(target: bytes) -> bytes:
    """Returns the path of a target in absolute form (RFC 9112 3.2.2); other forms stay as sent."""
    try:
        return httptools.parse_url(target).path or b"/"
    except httptools.HttpParserInvalidURLError:
        return target


def inflate_or_status(coding: bytes, body: bytes, bytes_max: int) -> bytes | int:
    """Returns the body without its content coding, or the status that refuses it."""
    try:
        inflated = inflate(coding, body, bytes_max)
    except _Refused:
        return int(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return int(HTTPStatus.BAD_REQUEST) if inflated is None else inflated


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Returns whether an ``Accept-Encoding`` header takes gzip (RFC 9110 12.5.3)."""
    for part in accept_encoding.lower().split(b","):
        coding, _, weight = part.partition(b";")
        if coding.strip() in (b"gzip", b"x-gzip"):
            return not _NO_WEIGHT.fullmatch(weight.replace(b" ", b""))
    return False
