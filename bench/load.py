"""A closed-loop HTTP client for benches, and the CPU time of a process from the kernel."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import NamedTuple, cast

import httptools
import numpy as np


class Load(NamedTuple):
    """What a round of load saw: counts by status, and each request's round trip."""

    statuses: dict[int, int]
    latency_us: np.ndarray
    cpu_us_per_request: float


def cpu_ns(pid: int) -> int:
    """Returns the CPU time of all threads of a process: its schedstat, in nanoseconds."""
    return sum(
        int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )


class _Client(asyncio.Protocol):
    """Sends requests from a shared list, one at a time, until the list is empty."""

    def __init__(self, requests: list[bytes], load: _Shared) -> None:
        self._requests = requests
        self._load = load
        self._parser = httptools.HttpResponseParser(self)
        self._sent_ns = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        if not self._requests:
            self._transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self._sent_ns = time.perf_counter_ns()
        self._transport.write(self._requests.pop())

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._load.latency_ns.append(time.perf_counter_ns() - self._sent_ns)
        status = self._parser.get_status_code()
        self._load.statuses[status] = self._load.statuses.get(status, 0) + 1
        self._parser = httptools.HttpResponseParser(self)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))


class _Shared:
    def __init__(self) -> None:
        self.latency_ns: list[int] = []
        self.statuses: dict[int, int] = {}


async def drive(pid: int, port: int, path: str, bodies: list[bytes], connections: int) -> Load:
    """Sends every body once over so many connections; returns what came back and what it cost."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        "content-length: "
    ).encode()
    requests = [b"%s%d\r\n\r\n%s" % (head, len(body), body) for body in bodies]
    shared = _Shared()
    before = cpu_ns(pid)
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: _Client(requests, shared), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for client in clients))
    spent_ns = cpu_ns(pid) - before
    return Load(shared.statuses, np.array(shared.latency_ns) / 1e3, spent_ns / 1e3 / len(bodies))
