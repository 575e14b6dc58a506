"""What looks at a connection's bytes before the parser: order, fragments, answers that are owed."""

from __future__ import annotations

import asyncio
import time

import pytest
import uvloop

from ledger.http import HttpServer, response

FAST = b"GET /fast HTTP/1.1\r\nhost: a\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n"
LATER = b"GET /later HTTP/1.1\r\nhost: a\r\n\r\n"
ANSWERS = {
    FAST: response(200, b"fast"),
    SLOW: response(200, b"slow"),
    LATER: response(200, b"late"),
}


class Counter:
    """A server whose stream answers FAST requests, and whose handler answers the others."""

    def __init__(self):
        self.streamed = 0
        self.handled = []
        self.held = []
        self.held_one = asyncio.Event()
        self.two_asked = asyncio.Event()
        self.server = HttpServer(self.answer, time.monotonic_ns, stream=self.stream)

    def stream(self, data, arrived_ns):
        assert arrived_ns > 0
        used = 0
        while data.startswith(FAST, used):
            used += len(FAST)
        self.streamed += used // len(FAST)
        return ANSWERS[FAST] * (used // len(FAST)), used

    def answer(self, method, path, query, headers, body, arrived_ns):
        self.handled.append(path)
        if len(self.handled) == 2:
            self.two_asked.set()
        if path == b"/later":
            self.held.append(asyncio.get_running_loop().create_future())
            self.held_one.set()
            return self.held[-1]
        return ANSWERS[FAST] if path == b"/fast" else ANSWERS[SLOW]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request):
    return request.param


def talked(run, sent, expected, *, is_asked_twice=False):
    """Sends the pieces one by one; returns the server once it answered ``expected``.

    Held answers are given once the handler was asked, or asked twice.
    """
    shop = Counter()

    async def main():
        port = await shop.server.listen("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(20):
            for piece in sent:
                writer.write(piece)
                await writer.drain()
                if LATER in piece:
                    await shop.held_one.wait()
            if is_asked_twice:
                await shop.two_asked.wait()
            for future in shop.held:
                future.set_result(ANSWERS[LATER])
            assert await reader.readexactly(len(expected)) == expected
        writer.close()
        shop.server.close()

    run(main())
    return shop


def test_requests_of_both_kinds_in_one_packet_are_answered_in_order(run):
    kinds = [FAST, FAST, SLOW, FAST, SLOW]
    shop = talked(run, [b"".join(kinds)], b"".join(ANSWERS[kind] for kind in kinds))
    # Behind the first request that is left, the parser has the packet.
    assert shop.streamed == 2
    assert shop.handled == [b"/slow", b"/fast", b"/slow"]


@pytest.mark.parametrize("at", [1, 10, len(FAST) - 1])
def test_a_request_in_two_pieces_is_the_parser_s(run, at):
    shop = talked(run, [FAST, FAST[:at]], ANSWERS[FAST])
    assert shop.streamed == 1
    assert shop.handled == []


def test_nothing_is_streamed_past_an_answer_that_is_owed(run):
    shop = talked(run, [LATER, FAST], ANSWERS[LATER] + ANSWERS[FAST], is_asked_twice=True)
    assert shop.streamed == 0
    assert shop.handled == [b"/later", b"/fast"]
