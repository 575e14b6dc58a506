"""Our transport and our reader with one fixed bid as the answer: what is left without a decision.

    python -m bench.fixed_answer PORT

Every request is read to opportunity records, as the worker reads it, and gets the same bytes.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import numpy as np
import uvloop

from bidder.kernels_bundle import Bundle
from bidder.native.kernels_head import read_head
from bidder.native.kernels_request import read_bundled
from bidder.native.reader import Reader
from bidder.native.wire import BODY_PAD
from bidder.server import framed
from ledger.http import Headers, HttpServer
from market.exchange import DEFAULT_EXCHANGES
from market.kernel import compiled_for
from market.openrtb_decode import decode_request

_BUFFER_BYTES = 1 << 18
_BID = b'{"id":"1","impid":"1","price":1.5,"adm":"%s"}' % (b"x" * 1_100)
_ANSWER = framed(b'{"id":"1","seatbid":[{"bid":[%s]}]}' % _BID)


class Fixed:
    """Reads every request and answers it with the same bytes."""

    def __init__(self) -> None:
        profile = DEFAULT_EXCHANGES[0]
        path = f"/bid/{profile.name}".encode()
        self._profile = profile
        self._reader = Reader(bytes(16), (1, 2))
        rows = self._reader.profile(profile).reshape(1)
        keys = np.array([*self._reader.salts, *self._reader.memo_key], np.uint64)
        self._buffer = np.zeros(_BUFFER_BYTES + BODY_PAD, np.uint8)
        self._view = self._buffer.data
        self._paths = np.frombuffer(bytearray(path), np.uint8).reshape(1, -1)
        self._lengths = np.array([len(path)], np.int64)
        self._bundle = Bundle(
            self._buffer, rows, keys, self._reader.memory.tables, self._reader.wire
        )
        self._head: Any = compiled_for(read_head, self._buffer, 0, 0, self._paths, self._lengths)
        self._read: Any = compiled_for(
            read_bundled, self._bundle.address, self._bundle.kind, 0, 0, 0, 0
        )

    def stream(self, data: bytes, arrived_ns: int) -> tuple[bytes, int]:
        """A ``ledger.http.Stream``."""
        del arrived_ns
        count = len(data)
        self._view[:count] = data
        lane, first, last, _ = self._head(self._buffer, 0, count, self._paths, self._lengths)
        if lane < 0:
            return b"", 0
        bundle = self._bundle
        if self._read(bundle.address, bundle.kind, first, last, 0, 0):
            request = decode_request(data[first:last])
            if self._reader.remember(request, self._profile):
                self._read(bundle.address, bundle.kind, first, last, 0, 0)
        return _ANSWER, last

    def answer(
        self, method: bytes, path: bytes, query: bytes, headers: Headers, body: bytes, at_ns: int
    ) -> bytes:
        """Answers what the stream left."""
        del method, path, query, headers, body, at_ns
        return _ANSWER


async def main(port: int) -> None:
    """Serves until it is ended."""
    fixed = Fixed()
    server = HttpServer(fixed.answer, time.monotonic_ns, stream=fixed.stream)
    await server.listen("127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
