"""An HTTP client for benches, closed or open loop; and the CPU time of a process."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple, cast

import httptools
import numpy as np
import numpy.typing as npt


class Load(NamedTuple):
    """What a round of load saw.

    Attributes:
        statuses: answers by HTTP status.
        latency_us: [requests]; from sending, or in an open loop from the time it was due.
        cpu_us_per_request: CPU of the server, all its threads, over the answers.
        seconds: from the first request to the last answer.
    """

    statuses: dict[int, int]
    latency_us: npt.NDArray[np.float64]
    cpu_us_per_request: float
    seconds: float


def cpu_ns(pid: int) -> int:
    """Returns the CPU time of all threads of a process: its schedstat, in nanoseconds."""
    return sum(
        int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )


class _Seen:
    """What all clients of a round saw."""

    def __init__(self) -> None:
        self.latency_ns: list[int] = []
        self.statuses: dict[int, int] = {}


class _Client(asyncio.Protocol):
    """One connection: sends what it is told to, in order, and notes how long each answer took."""

    def __init__(self, seen: _Seen) -> None:
        self._seen = seen
        self._parser = httptools.HttpResponseParser(self)
        self._due_ns: deque[int] = deque()
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, due_ns: int) -> None:
        self._due_ns.append(due_ns)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        seen = self._seen
        seen.latency_ns.append(time.perf_counter_ns() - self._due_ns.popleft())
        status = self._parser.get_status_code()
        seen.statuses[status] = seen.statuses.get(status, 0) + 1
        self.answered()

    def answered(self) -> None:
        """Called after each answer."""

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))

    def close(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        self._transport.close()


class _Closed(_Client):
    """Sends the next request of a shared list when an answer came, until the list is empty."""

    def __init__(self, requests: list[bytes], seen: _Seen) -> None:
        super().__init__(seen)
        self._requests = requests

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.answered()

    def answered(self) -> None:
        if self._requests:
            self.send(self._requests.pop(), time.perf_counter_ns())
        else:
            self.close()


def framed(path: str, bodies: list[bytes]) -> list[bytes]:
    """Returns each body as one whole HTTP request."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        "x-openrtb-version: 2.6\r\ncontent-length: "
    ).encode()
    return [b"%s%d\r\n\r\n%s" % (head, len(body), body) for body in bodies]


async def drive(
    pids: list[int], port: int, path: str, bodies: list[bytes], connections: int
) -> Load:
    """Sends every body once over so many connections, each waiting for its answer."""
    requests = framed(path, bodies)
    seen = _Seen()
    before, start = sum(map(cpu_ns, pids)), time.perf_counter()
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: _Closed(requests, seen), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for client in clients))
    seconds = time.perf_counter() - start
    spent_ns = sum(map(cpu_ns, pids)) - before
    return _load(seen, spent_ns, len(bodies), seconds)


async def drive_at(
    pids: list[int], port: int, path: str, bodies: list[bytes], connections: int, per_second: float
) -> Load:
    """Sends the bodies at a fixed rate whatever comes back; latency counts from the due time."""
    requests = framed(path, bodies)
    seen = _Seen()
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: _Client(seen), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    before, start_ns = sum(map(cpu_ns, pids)), time.perf_counter_ns()
    gap_ns = 1e9 / per_second
    sent = 0
    while sent < len(requests):
        due = min(int((time.perf_counter_ns() - start_ns) / gap_ns) + 1, len(requests))
        for n in range(sent, due):
            clients[n % connections].send(requests[n], start_ns + int(n * gap_ns))
        sent = due
        await asyncio.sleep(0)
    while len(seen.latency_ns) < len(requests):
        if time.perf_counter_ns() - start_ns > 60e9 + gap_ns * len(requests):
            raise TimeoutError(f"{len(requests) - len(seen.latency_ns)} answers never came")
        await asyncio.sleep(0.001)
    seconds = (time.perf_counter_ns() - start_ns) / 1e9
    spent_ns = sum(map(cpu_ns, pids)) - before
    for client in clients:
        client.close()
    return _load(seen, spent_ns, len(bodies), seconds)


def _load(seen: _Seen, spent_ns: int, count: int, seconds: float) -> Load:
    return Load(seen.statuses, np.array(seen.latency_ns) / 1e3, spent_ns / 1e3 / count, seconds)
