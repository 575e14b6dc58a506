"""Any bytes on the two hot ports: no 5xx, no hang, and a process that is well afterwards.

Real worker and recorder, real sockets. Cases come by seed as those of ``tests.test_fuzz_bodies``:
``--fuzz-cases`` also scales these, ``--fuzz-seed S:N`` runs one.
"""

from __future__ import annotations

import errno
import json
import re
import signal
import socket
import struct
import time
from pathlib import Path

import pytest

from market.control import WorkerWord
from market.notices import NOTICE_KINDS
from tests import mutations
from tests.bidder.requests import body_of
from tests.bidder.workers import WorkerPlace
from tests.ledger.recorders import WAIT_S, Place, until

BID = "/bid/twin"
STATUSES = {100, 200, 204, 400, 404, 405, 413, 431}
SHARE = 6
"""One socket case for so many of the bodies' cases."""
GROWTH_KB_MAX = 48 << 10
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
CALM = ["ready", "snapshot", "leaving"]
"""What a worker logs that nothing happens to."""
_CLOSED = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
_LINGER = struct.pack("ii", 1, 0)

HEADS = (
    b"host: x", b"Host:", b"content-type: application/json", b"content-type: text/html",
    b"content-type: application/x-protobuf", b"accept-encoding: gzip", b"accept-encoding: *;q=0",
    b"x-openrtb-version: 2.6", b"x-openrtb-version: \xff", b"expect: 100-continue",
    b"connection: close", b"connection: keep-alive", b"connection: upgrade\r\nupgrade: h2c",
    b"content-encoding: gzip", b"content-encoding: identity", b"content-length: 0",
    b"content-length: 7", b"content-length: 99999999999999999999", b"content-length: -1",
    b"transfer-encoding: chunked", b"transfer-encoding: gzip, chunked", b"te: trailers",
    b"x: " + b"y" * 40_000, b"bad header", b": empty", b"x\x00: y", b" folded: z", b"cookie: a\tb",
)  # fmt: skip
LINES = (
    b"POST /bid/twin HTTP/1.1", b"POST /bid/twin?x=1 HTTP/1.1", b"POST /bid/nobody HTTP/1.1",
    b"GET /bid/twin HTTP/1.1", b"GET /live HTTP/1.1", b"GET /ready HTTP/1.1", b"HEAD / HTTP/1.1",
    b"POST /bid/twin HTTP/1.0", b"POST /bid/twin HTTP/2.0", b"OPTIONS * HTTP/1.1",
    b"CONNECT x:1 HTTP/1.1", b"POST http://x/bid/twin HTTP/1.1", b"PRI * HTTP/2.0",
    b"POST /bid/" + b"a" * 9_000 + b" HTTP/1.1", b"post /bid/twin http/1.1", b"POST  HTTP/1.1",
    b"POST /bid/\xff\x00 HTTP/1.1", b"GET /metrics HTTP/1.1", b"\x16\x03\x01\x02\x00\x01\x00",
)  # fmt: skip


def request_case(chosen):
    """One request, or what is sent for one."""
    kind = chosen.random()
    body, extra = b"", []
    if kind < 0.5:
        body = mutations.body_case(chosen)[:200_000]
    elif kind < 0.6:
        coding, body = mutations.packed_case(chosen)
        extra.append(b"content-encoding: " + coding)
    elif kind < 0.9:
        body = chosen.choice(mutations.sources()).body
    else:
        return chosen.randbytes(chosen.randrange(300))
    line = LINES[0] if chosen.random() < 0.7 else chosen.choice(LINES)
    if chosen.random() < 0.4:
        extra += [chosen.choice(HEADS) for _ in range(chosen.choice((1, 1, 3)))]
    if chosen.random() < 0.15:
        extra.append(b"transfer-encoding: chunked")
        cut = chosen.randrange(len(body) + 1)
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:cut], body[cut:]))
        body += b"0\r\n\r\n" if chosen.random() < 0.5 else b""
    else:
        extra.append(b"content-length: %d" % (len(body) + chosen.choice((0, 0, 0, 0, 0, 0, -1, 3))))
    return b"\r\n".join((line, *extra, b"", body))


def connection_case(seed, number):
    """What one connection sends, in pieces."""
    chosen = mutations.chance_of(seed, number)
    sent = b"".join(request_case(chosen) for _ in range(chosen.choice((1, 1, 1, 2, 5))))
    if chosen.random() < 0.3:
        sent = mutations.broken(sent, chosen)
    if chosen.random() < 0.7:
        return [sent]
    cuts = sorted(chosen.randrange(len(sent) + 1) for _ in range(chosen.choice((1, 2, 6))))
    return [sent[first:end] for first, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]


def statuses_of(port, pieces):
    """The statuses that come back until the worker has said all; raises if it never does."""
    with socket.create_connection(("127.0.0.1", port), WAIT_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        received = []
        try:
            for piece in pieces:
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            while data := client.recv(1 << 16):
                received.append(data)
        except TimeoutError:
            raise
        except OSError as error:
            if error.errno not in _CLOSED:  # else: refused and closed before it was all sent
                raise
    return [int(status) for status in _STATUS.findall(b"".join(received))]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = WorkerPlace(tmp_path_factory.mktemp("fuzz") / "run").start()
    yield place
    place.stop(signal.SIGKILL)


def resident_kb(place):
    text = Path(f"/proc/{place.process.pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0])


def is_well(place):
    place.drain()
    return place.process.poll() is None and place.ask("POST", BID, body_of())[0] == 200


def test_no_bytes_on_the_socket_bring_a_5xx_or_a_hang_or_the_worker_down(place, fuzz):
    assert is_well(place)
    port = place.deployment.bid_port
    seen = dict.fromkeys(STATUSES, 0)
    grown_from = 0
    some = mutations.cases(fuzz.seed, max(fuzz.count // SHARE, 1), seed=20_260_102)
    for done, (seed, number) in enumerate(some):
        try:
            for status in statuses_of(port, connection_case(seed, number)):
                seen[status] += 1
        except Exception as error:
            error.add_note(f"pytest tests/test_fuzz_socket.py --fuzz-seed {seed}:{number}")
            raise
        if done % 250 == 0:
            assert is_well(place), f"after case {seed}:{number}"
        if done == len(some) // 2:
            grown_from = resident_kb(place)
    assert is_well(place)
    if len(some) >= 1_000:
        assert all(seen[status] > 0 for status in (200, 204, 400, 404, 405, 413)), seen
        assert seen[200] + seen[204] > len(some) // 8
        assert resident_kb(place) - grown_from < GROWTH_KB_MAX
    assert place.row[WorkerWord.IS_READY] == 1


def test_the_worker_had_nothing_to_complain_of(place):
    code, said, _ = place.stop()
    assert code == 0
    assert [json.loads(line)["event"] for line in said.splitlines()] == CALM


QUERIES = (
    b"p=0.05", b"p=0.1", b"p=0.101", b"p=", b"p=-1", b"p=nan", b"p=1e999", b"p=AUDIT", b"p=%FF",
    b"l=102", b"l=x", b"m=0.2", b"c=EUR", b"c=USD", b"q=0.5", b"q=2", b"q=-1", b"t=0", b"t=1e30",
    b"o=A", b"o=" + b"x" * 300, b"v=9.5", b"v=much", b"p=${AUCTION_PRICE}", b"&&&", b"=", b"p",
)  # fmt: skip


def notice_case(chosen, paths):
    """A notice of the bid, its query made up, and sometimes a few bytes wrong."""
    kind = chosen.choice(paths)
    query = b"&".join(chosen.choice(QUERIES) for _ in range(chosen.choice((0, 1, 1, 2, 4))))
    target = b"%s?%s" % (kind, query)
    if chosen.random() < 0.3:
        target = mutations.broken(target, chosen).replace(b" ", b"").replace(b"\n", b"")
    return b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n"


def test_no_notice_brings_the_recorder_down_or_costs_more_than_was_reserved(tmp_path, fuzz):
    place = Place(tmp_path / "run").start()
    try:
        worker = place.worker()
        until(lambda: worker.take_credits() is not None and worker.available)
        now_ms = time.time_ns() // 1_000_000
        bid = {"bid_ms": now_ms, "deadline_ms": now_ms + 3_600_000, "reserved": 100}
        assert worker.bid(1, **bid)
        paths = [place.path_of(kind, 1, **bid).encode() for kind in NOTICE_KINDS]
        for seed, number in mutations.cases(fuzz.seed, fuzz.count // 30, seed=20_260_103):
            sent = notice_case(mutations.chance_of(seed, number), paths)
            found = statuses_of(place.deployment.notice_port, [sent])
            assert set(found) <= {200, 302, 400, 403, 404, 405}, f"--fuzz-seed {seed}:{number}"
        assert sum(place.spent()) <= 100
        view = place.ledger()
        assert view.unfunded_bids == 0
        assert [each.id for each in view.line_items] == [7]
        code, said, _ = place.stop()
        assert (code, said.count("\n")) == (0, 1)
    finally:
        place.stop(signal.SIGKILL)
