"""A server process for ``python -m bench decide``: the same answer with and without a decision.

    python -m bench.decide_server FOLDER CORE

An ``asyncio.Protocol`` that makes the next opportunity and answers every request with the same
bytes; to a request for ``/decide`` it also decides the opportunity. Reads the world that
``bench.decide`` wrote.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path
from typing import cast

import httptools
import numpy as np
import uvloop

from bench.decide_world import decider_of, read_world
from market.decision import DECISION_DTYPE
from market.events import EVENT_DTYPE

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class _Deciding:
    """Makes and decides one opportunity after the other, around and around."""

    def __init__(self, folder: Path) -> None:
        world = read_world(folder)
        self._decider = decider_of(world)
        self._source = world.one_by_one
        self._decision = np.zeros(1, DECISION_DTYPE)
        self._event = np.zeros(1, EVENT_DTYPE)
        self._next = 0
        # Bounds are refreshed for the contexts that were met, as in a worker after its first tick.
        for _ in range(self._source.count):
            self.answer(is_deciding=True)
        self._decider.refresh()

    def answer(self, *, is_deciding: bool) -> None:
        """Makes the next opportunity, and decides it if asked to."""
        self._next = (self._next + 1) % self._source.count
        one = self._source.make(self._next)
        if is_deciding:
            self._decider.decide_one(one, self._decision, self._event)


class _Server(asyncio.Protocol):
    def __init__(self, deciding: _Deciding) -> None:
        self._deciding = deciding
        self._path = b""
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_message_complete(self) -> None:
        self._deciding.answer(is_deciding=self._path == b"/decide")
        self._transport.write(_ANSWER)


async def _serve(folder: Path) -> None:
    deciding = _Deciding(folder)
    gc.collect()
    gc.freeze()
    gc.disable()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Server(deciding), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # the bench reads it
    await server.serve_forever()


def main() -> None:
    """Serves until it is terminated; prints its port when it is ready."""
    os.sched_setaffinity(0, {int(sys.argv[2])})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
