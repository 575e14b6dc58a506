"""The HTTP client against a real server: keep-alive, cut connections, answers in pieces."""

from __future__ import annotations

import asyncio

import pytest

from market.errors import BadInput
from simulator.http_client import Lane, Target, get_request, post_head, target_of

REQUEST = get_request(Target("127.0.0.1", 1, "/x"))


def ask(script, times=1):
    """Answers of a server that writes ``script[i]`` (parts) to request i, and connections made.

    A part of None closes the connection.
    """

    async def run():
        made, asked = [], []

        async def serve(reader, writer):
            made.append(writer)
            try:
                while True:
                    asked.append(await reader.readuntil(b"\r\n\r\n"))
                    for part in script[len(asked) - 1]:
                        if part is None:
                            return
                        writer.write(part)
                        await writer.drain()
                        await asyncio.sleep(0)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass  # the client left
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        lane = Lane("127.0.0.1", server.sockets[0].getsockname()[1])
        answers = []
        try:
            for _ in range(times):
                try:
                    async with asyncio.timeout(10):
                        answers.append(await lane.ask(REQUEST))
                except ConnectionError as error:
                    answers.append(error)
        finally:
            lane.close()
            server.close()
            await server.wait_closed()
        return answers, len(made)

    return asyncio.run(run())


def test_a_connection_is_kept_for_the_next_request():
    ok = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"]
    answers, made = ask([ok, ok, [b"HTTP/1.1 204 No Content\r\n\r\n"]], times=3)
    assert [answer.status for answer in answers] == [200, 200, 204]
    assert [answer.body for answer in answers] == [b"hi", b"hi", b""]
    assert made == 1


def test_an_answer_may_come_in_pieces_and_chunks():
    parts = [
        b"HTTP/1.1 302 Fo", b"und\r\nLOCATION: http://a/b?lsclk=1\r\nTransfer-Encoding: chu",
        b"nked\r\n\r\n2\r\nab\r\n", b"1\r\nc\r\n0\r\n\r\n",
    ]  # fmt: skip
    (answer,), _ = ask([parts])
    assert answer == (302, "http://a/b?lsclk=1", b"abc")


def test_the_headers_of_one_answer_do_not_leak_into_the_next():
    moved = [b"HTTP/1.1 302 Found\r\nLocation: http://a/\r\nContent-Length: 0\r\n\r\n"]
    answers, _ = ask([moved, [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]], times=2)
    assert [answer.location for answer in answers] == ["http://a/", ""]


def test_a_server_that_closes_after_its_answer_is_dialled_again():
    last = [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", None]
    answers, made = ask([last, last], times=2)
    assert [answer.status for answer in answers] == [200, 200]
    assert made == 2


@pytest.mark.parametrize(
    "parts",
    [
        [None],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", None],
        [b"no http at all\r\n\r\n"],
    ],
)
def test_an_answer_that_breaks_off_is_an_error_and_the_next_request_goes_through(parts):
    good = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
    answers, made = ask([parts, good], times=2)
    assert isinstance(answers[0], ConnectionError)
    assert answers[1].status == 200
    assert made == 2


def test_requests_that_are_asked_at_once_share_a_connection_and_are_answered_in_order():
    async def run():
        made = []

        async def serve(reader, writer):
            made.append(writer)
            heads = [await reader.readuntil(b"\r\n\r\n") for _ in range(3)]
            # Only after the last request has come is the first one answered.
            for head in heads:
                path = head.split(b" ")[1]
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(path) + path)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        lane = Lane(host, port)
        async with asyncio.timeout(10):
            answers = await asyncio.gather(
                *(lane.ask(get_request(Target(host, port, f"/{i}"))) for i in range(3))
            )
        lane.close()
        server.close()
        await server.wait_closed()
        return [answer.body for answer in answers], len(made)

    assert asyncio.run(run()) == ([b"/0", b"/1", b"/2"], 1)


def test_a_port_that_nobody_listens_on_is_an_error():
    async def dial():
        server = await asyncio.start_server(lambda _, w: w.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        await Lane("127.0.0.1", port).ask(REQUEST)

    with pytest.raises(ConnectionRefusedError):
        asyncio.run(dial())


def test_a_url_is_split_into_server_and_path():
    assert target_of("http://localhost:81/n/win/x?p=1&m=2") == ("localhost", 81, "/n/win/x?p=1&m=2")
    assert target_of("http://shop.example") == ("shop.example", 80, "/")


@pytest.mark.parametrize("url", ["", "https://a/b", "ftp://a/b", "http:///b", "http://a:x/b"])
def test_a_url_that_is_not_plain_http_is_an_error(url):
    with pytest.raises(BadInput):
        target_of(url)


def test_requests_are_well_formed():
    target = Target("h", 5, "/bid/twin")
    assert get_request(target) == b"GET /bid/twin HTTP/1.1\r\nHost: h:5\r\n\r\n"
    head = post_head(target)
    assert head.startswith(b"POST /bid/twin HTTP/1.1\r\nHost: h:5\r\n")
    assert head.endswith(b"Content-Length: ")
