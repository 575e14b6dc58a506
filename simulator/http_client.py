"""A lean HTTP/1.1 client for the twin: keep-alive connections, pipelined where the caller does so.

What it leaves out on purpose: redirects (a click's answer is one, and is wanted as it is), TLS and
pools. A request that is cut off is an error of the caller's to judge, never repeated.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from httptools import HttpResponseParser

from market.errors import BadInput


class Answer(NamedTuple):
    """What a server answered; ``location`` is "" without that header."""

    status: int
    location: str
    body: bytes


class Target(NamedTuple):
    """Where a URL leads: the server, and what to ask it for."""

    host: str
    port: int
    path: str


def target_of(url: str) -> Target:
    """Returns where a plain-HTTP URL leads.

    Raises:
        BadInput: it is no http URL with a host.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError as error:
        raise BadInput(f"URL '{url[:200]}': {error}") from error
    if parts.scheme != "http" or not host:
        raise BadInput(f"URL '{url[:200]}': must be http with a host; the twin speaks no TLS")
    path = parts.path or "/"
    return Target(host, port, f"{path}?{parts.query}" if parts.query else path)


def get_request(target: Target) -> bytes:
    """Returns the bytes of a GET request."""
    return f"GET {target.path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n\r\n".encode()


def post_head(target: Target) -> bytes:
    """Returns the bytes of a bid request's head up to the number of its ``Content-Length``.

    Source: OpenRTB 2.6, section 2.1-2.4 (POST, JSON, version header).
    """
    return (
        f"POST {target.path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
        "Content-Type: application/json\r\nX-OpenRTB-Version: 2.6\r\nContent-Length: "
    ).encode()


class _Connection(asyncio.Protocol):
    """One open connection; answers come in the order of the requests."""

    def __init__(self) -> None:
        self.is_open = False
        self._parser = HttpResponseParser(self)
        self._location = ""
        self._body: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._answers: deque[asyncio.Future[Answer]] = deque()

    def ask(self, request: bytes, answer: asyncio.Future[Answer]) -> None:
        assert self._transport is not None
        self._answers.append(answer)
        self._transport.write(request)

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport, self.is_open = cast("asyncio.Transport", transport), True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._fail(ConnectionResetError(f"connection closed before the answer ended: {exc}"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except Exception as error:  # noqa: BLE001 - httptools raises its own tree for bad bytes
            self.close()
            self._fail(ConnectionError(f"answer is no HTTP: {error}"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"location":
            self._location = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        answer = Answer(self._parser.get_status_code(), self._location, b"".join(self._body))
        self._location, self._body = "", []
        if not self._parser.should_keep_alive():
            self.close()
        # A parser reads one message on from where the last one ended.
        if self._answers:
            waiting = self._answers.popleft()
            if not waiting.done():
                waiting.set_result(answer)

    def _fail(self, error: ConnectionError) -> None:
        while self._answers:
            waiting = self._answers.popleft()
            if not waiting.done():
                waiting.set_exception(error)


class Lane:
    """One connection to one server, opened when needed.

    Requests that are asked for before the answer to the last one came are pipelined: they are
    answered in order, over the same connection.
    """

    def __init__(self, host: str, port: int) -> None:
        """Names the server; nothing is opened yet."""
        self.host, self.port = host, port
        self._connection: _Connection | None = None
        self._opening = asyncio.Lock()

    async def ask(self, request: bytes) -> Answer:
        """Returns the answer to one request.

        Raises:
            OSError: the server cannot be reached, or closed the connection before it answered.
        """
        loop = asyncio.get_running_loop()
        if self._connection is None or not self._connection.is_open:
            async with self._opening:
                # The lock is fair, so requests that waited for the connection keep their order.
                if self._connection is None or not self._connection.is_open:
                    _, self._connection = await loop.create_connection(
                        _Connection, self.host, self.port
                    )
        answer: asyncio.Future[Answer] = loop.create_future()
        self._connection.ask(request, answer)
        return await answer

    def close(self) -> None:
        """Closes the connection, if one is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
