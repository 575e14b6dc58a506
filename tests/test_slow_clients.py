"""Slow and deaf clients hold no worker: others are answered all the while, and they are cut off."""

from __future__ import annotations

import json
import selectors
import signal
import socket
import time

import pytest

from ledger.http import REQUEST_S_MAX
from tests.bidder.requests import body_of
from tests.bidder.workers import WorkerPlace
from tests.ledger.recorders import WAIT_S
from tests.test_fuzz_socket import CALM

BID = "/bid/twin"
SLOW_COUNT = 400
DEAF_COUNT = 40
HEAD = b"POST /bid/twin HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n"
ASKED = b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n"
SWEEPS_S = 40
"""More than the time between two looks at who is slow, on a busy machine."""


@pytest.fixture
def place(tmp_path):
    place = WorkerPlace(tmp_path / "run").start()
    yield place
    place.stop(signal.SIGKILL)


def connections(place, count):
    made = []
    for _ in range(count):
        client = socket.socket()
        # Little room, so that what is never read is soon too much.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.settimeout(WAIT_S)
        client.connect(("127.0.0.1", place.deployment.bid_port))
        client.setblocking(False)
        made.append(client)
    return made


def drip(clients, turn):
    """Sends one more byte of an unfinished request over each; returns those still open."""
    left = []
    for number, client in enumerate(clients):
        # Some never finish their head, some never their body.
        sent = HEAD if number % 2 else HEAD[:-2] + b"x: " + b"y" * 900
        try:
            client.send(sent[turn % len(sent) :][:1])
            if client.recv(1) == b"":
                raise ConnectionResetError
        except BlockingIOError:
            left.append(client)
        except OSError:
            client.close()
    return left


def pour(clients):
    """Sends as much as each takes and reads nothing; returns those still open."""
    left = []
    for client in clients:
        try:
            while client.send(ASKED * 200):
                pass
        except BlockingIOError:
            left.append(client)
        except OSError:
            client.close()
    return left


def test_who_behaves_is_answered_while_others_drip_bytes_or_never_read(place):
    body = body_of()
    slow, deaf = connections(place, SLOW_COUNT), connections(place, DEAF_COUNT)
    good = place.connect()
    deadline = time.monotonic() + REQUEST_S_MAX + SWEEPS_S
    statuses, turn = [], 0
    pause = selectors.DefaultSelector()
    try:
        while slow or deaf:
            assert time.monotonic() < deadline, f"{len(slow)} slow, {len(deaf)} deaf still held"
            slow, deaf = drip(slow, turn), pour(deaf)
            place.drain()
            statuses.append(place.ask("POST", BID, body, good)[0])
            turn += 1
            pause.select(0.05)
    finally:
        for client in (*slow, *deaf):
            client.close()
        good.close()
        pause.close()
    # A worker that is busy may refuse a bid for its lateness, but it answers.
    assert set(statuses) <= {200, 204}
    assert statuses.count(200) > max(20, len(statuses) // 2)
    place.drain()
    assert place.ask("POST", BID, body)[0] == 200
    code, said, _ = place.stop()
    assert code == 0
    logged = {json.loads(line)["event"] for line in said.splitlines()}
    assert logged <= {*CALM, "shedding", "shedding_over"}
