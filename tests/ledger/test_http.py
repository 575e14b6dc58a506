"""The HTTP server, over real sockets: order, limits, and input of every bad kind."""

from __future__ import annotations

import asyncio
import gzip
import random
import time
import zlib

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.http import (
    BATCH_BYTES,
    HEAD_BYTES_MAX,
    IDLE_S_MAX,
    PIPELINE_MAX,
    REQUEST_S_MAX,
    TOO_LARGE,
    HttpServer,
    accepts_gzip,
    response,
)

LIMIT = 10_000
SECOND_NS = 1_000_000_000


class Shop:
    """A server whose handler remembers requests and answers with what it got."""

    def __init__(self, body_bytes_max=LIMIT, **rest):
        self.requests = []
        self.held = []
        self.errors = []
        self.now_ns = None
        self.server = HttpServer(self.answer, self.clock_ns, body_bytes_max, **rest)

    def clock_ns(self):
        return time.monotonic_ns() if self.now_ns is None else self.now_ns

    def answer(self, method, path, query, headers, body, arrived_ns):
        kept = {name: getattr(headers, name) for name in headers.__slots__}
        self.requests.append((method, path, query, kept, body, arrived_ns))
        if path == b"/later":
            future = asyncio.get_running_loop().create_future()
            self.held.append((future, query))
            return future
        if path == b"/bug":
            raise ValueError("a bug in the handler")
        if path == b"/large":
            return TOO_LARGE
        return response(200, b"%s %s?%s %d" % (method, path, query, len(body)))

    def answer_held(self, index):
        future, query = self.held[index]
        future.set_result(response(200, b"held " + query))


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request):
    return request.param


def served(run, talk, **rest):
    """Runs ``talk(shop, reader, writer)`` against a listening server; returns the shop."""
    shop = Shop(**rest)

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: shop.errors.append(context))
        port = await shop.server.listen("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(20):
                await talk(shop, reader, writer)
        finally:
            writer.close()
            shop.server.close()
            await until(lambda: not shop.server.connections)

    run(main())
    return shop


async def until(is_so):
    deadline = time.monotonic() + 15
    while not is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


async def read_answer(reader):
    """(status, headers, body) of one answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *lines = head.strip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(status.split()[1]), headers, body


def request(path="/a", method="GET", body=b"", **headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: x"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "\r\n")).encode() + body


def closes(run, sent, *statuses, shop_of=None, **rest):
    """Asserts that after ``sent`` these answers come and then the end of the connection."""

    async def talk(shop, reader, writer):
        writer.write(sent)
        for status in statuses:
            assert (await read_answer(reader))[0] == status
        assert await reader.read() == b""

    return served(run, talk, **rest)


# What works.


def test_a_request_reaches_the_handler_whole(run):
    async def talk(shop, reader, writer):
        writer.write(
            request(
                "/bid/x?a=1&b", "POST", b"{}", Content_Type="application/json",
                Accept_Encoding="gzip", X_OpenRTB_Version="2.6", User_Agent="u",
            )
        )  # fmt: skip
        assert await read_answer(reader) == (
            200,
            {"content-length": "19"},
            b"POST /bid/x?a=1&b 2",
        )

    before = time.monotonic_ns()
    ((method, path, query, headers, body, arrived_ns),) = served(run, talk).requests
    assert (method, path, query, body) == (b"POST", b"/bid/x", b"a=1&b", b"{}")
    assert headers == {
        "accept_encoding": b"gzip", "authorization": b"", "content_encoding": b"",
        "content_type": b"application/json", "expect": b"", "x_openrtb_version": b"2.6",
    }  # fmt: skip
    assert before < arrived_ns < time.monotonic_ns()


def test_headers_of_one_request_do_not_reach_the_next_one_on_the_connection(run):
    async def talk(shop, reader, writer):
        writer.write(request(CONTENT_TYPE="a/b", x_openrtb_version="2.5") + request())
        await read_answer(reader)
        await read_answer(reader)

    shop = served(run, talk)
    assert shop.requests[0][3]["content_type"] == b"a/b"
    assert shop.requests[0][3]["x_openrtb_version"] == b"2.5"
    assert set(shop.requests[1][3].values()) == {b""}


def test_pipelined_requests_are_answered_in_order_in_one_write(run):
    async def talk(shop, reader, writer):
        writer.write(b"".join(request(f"/{n}", body=b"x" * n) for n in range(200)))
        for n in range(200):
            assert (await read_answer(reader))[2] == b"GET /%d? %d" % (n, n)

    served(run, talk)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_request_may_arrive_in_any_pieces(run, size):
    sent = request("/a?b=c", "POST", b"body", Content_Type="x/y") + request("/b")

    async def talk(shop, reader, writer):
        writer.get_extra_info("socket").setsockopt(6, 1, 1)  # TCP_NODELAY: one packet a piece
        for at in range(0, len(sent), size):
            writer.write(sent[at : at + size])
            await asyncio.sleep(0)
        assert (await read_answer(reader))[2] == b"POST /a?b=c 4"
        assert (await read_answer(reader))[2] == b"GET /b? 0"

    served(run, talk)


def test_a_chunked_body_is_put_together(run):
    async def talk(shop, reader, writer):
        writer.write(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n" + request("/b"))
        assert (await read_answer(reader))[2] == b"POST /a? 7"
        assert (await read_answer(reader))[2] == b"GET /b? 0"

    assert served(run, talk).requests[0][4] == b"abcdefg"


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", " gzip "])
def test_a_gzip_body_is_inflated(run, coding):
    body = gzip.compress(b"hello" * 100)

    async def talk(shop, reader, writer):
        writer.write(request("/a", "POST", body, Content_Encoding=coding))
        assert (await read_answer(reader))[2] == b"POST /a? 500"

    assert served(run, talk).requests[0][4] == b"hello" * 100


def test_an_identity_coding_is_no_coding(run):
    async def talk(shop, reader, writer):
        writer.write(request("/a", "POST", b"abc", Content_Encoding="identity"))
        assert (await read_answer(reader))[2] == b"POST /a? 3"

    served(run, talk)


def test_a_client_that_waits_before_its_body_is_told_to_go_on(run):
    async def talk(shop, reader, writer):
        writer.write(
            b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await read_answer(reader))[2] == b"POST /a? 3"

    served(run, talk)


def test_a_target_in_absolute_form_has_its_path(run):
    async def talk(shop, reader, writer):
        writer.write(request("http://bid.example/a/b?c=d") + request("http://bid.example?x"))
        assert (await read_answer(reader))[2] == b"GET /a/b?c=d 0"
        assert (await read_answer(reader))[2] == b"GET /?x 0"

    served(run, talk)


def test_an_offer_to_upgrade_is_ignored(run):
    async def talk(shop, reader, writer):
        offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}
        writer.write(request("/a", **offer) + request("/b", **offer) + request("/c"))
        for path in (b"a", b"b", b"c"):
            assert (await read_answer(reader))[2] == b"GET /%s? 0" % path

    served(run, talk)


def test_an_offer_to_upgrade_with_a_body_is_answered_and_ends_the_connection(run):
    offer = {"Connection": "Upgrade", "Upgrade": "h2c"}
    closes(run, request("/a", "POST", b"GET /evil HTTP/1.1\r\n\r\n", **offer), 200)


# Answers that come later.


def test_answers_keep_the_order_of_their_requests_whichever_is_ready_first(run):
    async def talk(shop, reader, writer):
        writer.write(request("/later?0") + request("/a") + request("/later?1") + request("/b"))
        await until(lambda: len(shop.requests) == 4)
        shop.answer_held(1)
        await asyncio.sleep(0)
        shop.answer_held(0)
        bodies = [(await read_answer(reader))[2] for _ in range(4)]
        assert bodies == [b"held 0", b"GET /a? 0", b"held 1", b"GET /b? 0"]

    served(run, talk)


def test_an_answer_that_is_ready_leaves_while_a_later_one_is_waited_for(run):
    async def talk(shop, reader, writer):
        writer.write(request("/a") + request("/later?0"))
        assert (await read_answer(reader))[2] == b"GET /a? 0"
        shop.answer_held(0)
        assert (await read_answer(reader))[2] == b"held 0"

    served(run, talk)


def test_a_client_that_leaves_before_its_answer_harms_nobody(run):
    async def talk(shop, reader, writer):
        writer.write(request("/later?0"))
        await until(lambda: shop.held)
        writer.transport.abort()
        await until(lambda: not shop.server.connections)
        shop.answer_held(0)
        await asyncio.sleep(0)

    assert served(run, talk).errors == []


def test_a_future_that_fails_is_answered_500_and_told(run):
    async def talk(shop, reader, writer):
        writer.write(request("/later?0") + request("/a"))
        await until(lambda: len(shop.requests) == 2)
        shop.held[0][0].set_exception(ValueError("lost"))
        assert (await read_answer(reader))[0] == 500
        assert await reader.read() == b""

    assert [str(error["exception"]) for error in served(run, talk).errors] == ["lost"]


def test_a_handler_that_raises_is_answered_500_and_told(run):
    shop = closes(run, request("/a") + request("/bug") + request("/b"), 200, 500)
    assert [type(error["exception"]) for error in shop.errors] == [ValueError]
    assert len(shop.requests) == 2


def test_a_refusal_waits_for_the_answers_before_it(run):
    async def talk(shop, reader, writer):
        writer.write(request("/later?0") + b"garbage\r\n\r\n")
        await until(lambda: shop.held)
        await asyncio.sleep(0)
        shop.answer_held(0)
        assert (await read_answer(reader))[2] == b"held 0"
        assert (await read_answer(reader))[0] == 400
        assert await reader.read() == b""

    served(run, talk)


def test_a_client_that_sends_much_at_once_leaves_others_their_turns(run):
    async def talk(shop, reader, writer):
        port = shop.server._listener.sockets[0].getsockname()[1]
        other_reader, other = await asyncio.open_connection("127.0.0.1", port)
        count = 5_000
        writer.write(b"".join(request(f"/{n}") for n in range(count)))
        await until(lambda: shop.requests)
        other.write(request("/other"))
        assert (await read_answer(other_reader))[0] == 200
        for n in range(count):
            assert (await read_answer(reader))[2] == b"GET /%d? 0" % n
        other.close()
        paths = [path for _, path, *_ in shop.requests]
        assert len(paths) == count + 1
        assert paths.index(b"/other") < count

    served(run, talk)


def test_a_backlog_waits_while_answers_are_owed_and_not_read(run):
    async def talk(shop, reader, writer):
        count = 3 * PIPELINE_MAX
        writer.write(b"".join(request(f"/later?{n}") for n in range(count)) + b"garbage\r\n\r\n")
        (connection,) = shop.server.connections
        await until(lambda: connection._owes_too_much)
        assert len(shop.held) < 2 * PIPELINE_MAX
        for n in range(count):
            await until(lambda: n < len(shop.held))  # noqa: B023 - awaited here
            shop.answer_held(n)
        for n in range(count):
            assert (await read_answer(reader))[2] == b"held %d" % n
        assert (await read_answer(reader))[0] == 400
        assert await reader.read() == b""

    served(run, talk)


@pytest.mark.parametrize("cut", [1, 1_000, BATCH_BYTES - 1, BATCH_BYTES, BATCH_BYTES + 1, 40_000])
def test_a_long_body_is_whole_however_it_is_sliced(run, cut):
    body = random.Random(cut).randbytes(100_000)
    sent = request("/a", "POST", body) + request("/b")

    async def talk(shop, reader, writer):
        writer.write(sent[:cut])
        await asyncio.sleep(0)
        writer.write(sent[cut:])
        assert (await read_answer(reader))[2] == b"POST /a? 100000"
        assert (await read_answer(reader))[2] == b"GET /b? 0"

    assert served(run, talk, body_bytes_max=1 << 20).requests[0][4] == body


# Ends of connections.


def test_a_client_that_asks_for_it_is_closed_after_its_answer(run):
    closes(run, request(Connection="close") + request(), 200)


def test_an_old_client_is_closed_after_its_answer(run):
    closes(run, b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200)


def test_closing_the_server_lets_owed_answers_out_first(run):
    async def talk(shop, reader, writer):
        writer.write(request("/later?0"))
        await until(lambda: shop.held)
        shop.server.close()
        shop.answer_held(0)
        assert (await read_answer(reader))[2] == b"held 0"
        assert await reader.read() == b""

    served(run, talk)


def test_an_unfinished_request_and_an_idle_client_are_closed_in_time(run):
    async def talk(shop, reader, writer):
        writer.write(b"GET /a HT")
        await until(lambda: any(connection._url for connection in shop.server.connections))
        (connection,) = shop.server.connections
        started = connection.started_ns
        connection.end_if_slow(started + REQUEST_S_MAX * SECOND_NS)
        writer.write(b"TP/1.1\r\n\r\n")
        await read_answer(reader)
        now = connection._arrived_ns
        connection.end_if_slow(now + IDLE_S_MAX * SECOND_NS)
        writer.write(request("/b"))
        await read_answer(reader)
        connection.end_if_slow(connection._arrived_ns + IDLE_S_MAX * SECOND_NS + 1)
        assert await reader.read() == b""

    served(run, talk)


def test_a_client_that_drips_its_request_is_closed_although_it_is_never_idle(run):
    async def talk(shop, reader, writer):
        (connection,) = shop.server.connections
        for second in range(REQUEST_S_MAX + 2):
            assert not connection._transport.is_closing()
            shop.now_ns = second * SECOND_NS
            head_bytes = connection._head_bytes
            writer.write(b"X: y\r\n" if second else b"GET /a HTTP/1.1\r\n")
            await until(lambda: connection._head_bytes > head_bytes)  # noqa: B023 - awaited here
            connection.end_if_slow(shop.now_ns)
        assert connection._transport.is_closing()

    served(run, talk)


def test_a_client_that_drips_its_method_is_closed_too(run):
    async def talk(shop, reader, writer):
        shop.now_ns = SECOND_NS
        (connection,) = shop.server.connections
        writer.write(b"PO")
        await until(lambda: connection._is_begun)
        shop.now_ns += REQUEST_S_MAX * SECOND_NS + 1
        connection.end_if_slow(shop.now_ns)
        assert await reader.read() == b""

    served(run, talk)


def test_a_request_that_follows_another_one_has_its_own_time(run):
    async def talk(shop, reader, writer):
        shop.now_ns = SECOND_NS
        writer.write(b"GET /a HTT")
        (connection,) = shop.server.connections
        await until(lambda: connection._is_begun)
        shop.now_ns = REQUEST_S_MAX * SECOND_NS
        writer.write(b"P/1.1\r\n\r\nGET /b")
        await read_answer(reader)
        connection.end_if_slow(shop.now_ns + REQUEST_S_MAX * SECOND_NS)
        writer.write(b" HTTP/1.1\r\n\r\n")
        assert (await read_answer(reader))[2] == b"GET /b? 0"

    served(run, talk)


def test_a_client_that_never_reads_is_cut_off_and_its_answers_with_it(run):
    async def talk(shop, reader, writer):
        (connection,) = shop.server.connections
        while not connection._blocked_ns:
            writer.write(b"".join(request("/a" + "x" * 500) for _ in range(200)))
            await asyncio.sleep(0)
        blocked_ns = connection._blocked_ns
        connection.end_if_slow(blocked_ns + REQUEST_S_MAX * SECOND_NS)
        assert not connection._transport.is_closing()
        connection.end_if_slow(blocked_ns + REQUEST_S_MAX * SECOND_NS + 1)
        await until(lambda: not shop.server.connections)

    served(run, talk)


def test_with_too_many_connections_the_useless_ones_go_first(run):
    async def talk(shop, reader, writer):
        port = shop.server._listener.sockets[0].getsockname()[1]
        opened = []

        async def open_one():
            known = set(shop.server.connections)
            opened.append(await asyncio.open_connection("127.0.0.1", port))
            await until(lambda: shop.server.connections - known)
            return opened[-1]

        writer.write(request("/a"))
        await read_answer(reader)
        idle_reader, _ = await open_one()
        drips_reader, drips = await open_one()
        drips.write(b"GET /drip")
        new_reader, new = await open_one()
        assert len(shop.server.connections) == 3
        # The first that never asked for anything is gone, and nobody else.
        assert await idle_reader.read() == b""
        for of, to in ((reader, writer), (new_reader, new)):
            to.write(request("/b"))
            assert (await read_answer(of))[2] == b"GET /b? 0"
        drips.write(b" HTTP/1.1\r\n\r\n")
        assert (await read_answer(drips_reader))[2] == b"GET /drip? 0"
        for _, each in opened:
            each.close()

    served(run, talk, connections_max=3)


def test_a_client_that_is_owed_an_answer_is_not_idle(run):
    async def talk(shop, reader, writer):
        writer.write(request("/later?0"))
        await until(lambda: shop.held)
        (connection,) = shop.server.connections
        connection.end_if_slow(connection._arrived_ns + 10 * IDLE_S_MAX * SECOND_NS)
        shop.answer_held(0)
        assert (await read_answer(reader))[2] == b"held 0"

    served(run, talk)


# Limits.


@pytest.mark.parametrize(
    "sent",
    [
        request("/a", "POST", b"x" * (LIMIT + 1)),
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10001\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"400\r\n" + b"x" * 1024 + b"\r\n" + b"2400\r\n" + b"x" * 0x2400 + b"\r\n",
        request("/a", "POST", gzip.compress(bytes(LIMIT + 1)), Content_Encoding="gzip"),
    ],
)  # fmt: skip
def test_a_body_over_the_limit_is_answered_413_and_closed(run, sent):
    assert closes(run, sent, 413).requests == []


def test_a_handler_may_say_that_a_body_is_too_large_for_it(run):
    shop = closes(run, request("/a") + request("/large") + request("/b"), 200, 413)
    assert [path for _, path, *_ in shop.requests] == [b"/a", b"/large"]
    assert shop.errors == []


@pytest.mark.parametrize(
    ("header", "is_taken"),
    [
        (b"", False), (b"gzip", True), (b"GZIP", True), (b"x-gzip", True), (b"br", False),
        (b"gzip;q=0", False), (b"gzip; q=0.000", False), (b"gzip;q=0.001", True),
        (b"br, gzip;q=0.5", True), (b"notgzip", False), (b"deflate , gzip", True), (b"*", False),
        (b";,=", False),
    ],
)  # fmt: skip
def test_gzip_is_sent_only_to_who_takes_it(header, is_taken):
    assert accepts_gzip(header) == is_taken


def test_a_gzip_bomb_is_not_inflated(run):
    squeezer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = squeezer.compress(bytes(8 << 20)) + squeezer.flush()
    assert len(bomb) < LIMIT
    assert closes(run, request("/a", "POST", bomb, Content_Encoding="gzip"), 413).requests == []


def test_a_body_of_exactly_the_limit_is_taken(run):
    async def talk(shop, reader, writer):
        writer.write(request("/a", "POST", b"x" * LIMIT))
        assert (await read_answer(reader))[2] == b"POST /a? 10000"
        packed = gzip.compress(random.Random(1).randbytes(1_000) * 10)
        writer.write(request("/a", "POST", packed, Content_Encoding="gzip"))
        assert (await read_answer(reader))[2] == b"POST /a? 10000"

    served(run, talk)


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (b"no gzip", "gzip"),
        (gzip.compress(b"a" * 500)[:-4], "gzip"),
        (gzip.compress(b"a" * 500) + b"more", "gzip"),
        (b"abc", "br"),
        (b"abc", "deflate"),
        (b"abc", "gzip, gzip"),
    ],
)
def test_a_body_that_cannot_be_inflated_is_answered_400_and_the_connection_lives(run, body, coding):
    async def talk(shop, reader, writer):
        writer.write(request("/a", "POST", body, Content_Encoding=coding) + request("/b"))
        assert (await read_answer(reader))[0] == 400
        assert (await read_answer(reader))[2] == b"GET /b? 0"

    assert len(served(run, talk).requests) == 1


def test_an_endless_head_is_answered_431_and_closed(run):
    async def talk(shop, reader, writer):
        writer.write(b"GET /a HTTP/1.1\r\n")
        sent = 0
        while sent < 3 * HEAD_BYTES_MAX and not reader.at_eof():
            writer.write(b"X-Long: " + b"y" * 1_000 + b"\r\n")
            sent += 1_010
            await asyncio.sleep(0)
        assert (await read_answer(reader))[0] == 431

    assert served(run, talk).requests == []


def test_a_connection_is_not_read_while_it_is_owed_too_much(run):
    async def talk(shop, reader, writer):
        for n in range(3 * PIPELINE_MAX):
            writer.write(request(f"/later?{n}"))
            if n % 100 == 0:
                await asyncio.sleep(0)
        (connection,) = shop.server.connections
        await until(lambda: connection._owes_too_much)
        answered = 0
        while answered < 3 * PIPELINE_MAX:
            for index in range(answered, len(shop.held)):
                shop.answer_held(index)
            for _ in range(len(shop.held) - answered):
                assert (await read_answer(reader))[2] == b"held %d" % answered
                answered += 1

    served(run, talk)


def test_a_client_that_does_not_read_is_not_read_from_either(run):
    async def talk(shop, reader, writer):
        (connection,) = shop.server.connections
        asked = 0
        while not connection._blocked_ns:
            writer.write(b"".join(request("/a" + "x" * 500) for _ in range(200)))
            asked += 200
            await until(lambda: connection._blocked_ns or len(shop.requests) == asked)  # noqa: B023
        assert len(shop.requests) < asked
        for _ in range(asked):
            await read_answer(reader)
        await until(lambda: connection._reading_stops == 0)

    served(run, talk)


# Bad HTTP.


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /a HTTP/9.9\r\n\r\n",
        b"GET /a\x00b HTTP/1.1\r\n\r\n",
        b"FLY /a HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nContent-Length: abc\r\n\r\n",
        b"GET /a HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET /a HTTP/1.1\r\nbad header\r\n\r\n",
    ],
)
def test_bad_http_is_answered_400_and_closed(run, sent):
    assert closes(run, sent, 400).requests == []


def test_whole_requests_before_bad_http_are_answered(run):
    closes(run, request("/a") + b"garbage\r\n\r\n" + request("/b"), 200, 400)


@settings(max_examples=30)
@given(st.binary(max_size=400))
def test_no_bytes_bring_the_server_down(noise):
    async def talk(shop, reader, writer):
        writer.write(noise)
        writer.write_eof()
        await reader.read()
        port = shop.server._listener.sockets[0].getsockname()[1]
        other_reader, other = await asyncio.open_connection("127.0.0.1", port)
        other.write(request("/a"))
        assert (await read_answer(other_reader))[2] == b"GET /a? 0"
        other.close()

    assert served(uvloop.run, talk).errors == []
