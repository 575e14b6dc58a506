"""The routes of a bid worker over a real socket."""

from __future__ import annotations

import asyncio
import gzip
import json
import time

import msgspec
import pytest
import uvloop

from bidder.metrics import memory_metrics
from bidder.server import BidHandler
from bidder.shedding import Shedder
from ledger.http import HttpServer, response
from market.decision import NoBidReason
from market.exchange import DEFAULT_EXCHANGES, check_profiles
from tests.bidder.requests import body_of
from tests.bidder.services import NOW_MS, service_of

PROFILES = (
    *DEFAULT_EXCHANGES,
    msgspec.structs.replace(DEFAULT_EXCHANGES[0], name="packed", exchange_id=9, answers_gzip=True),
    msgspec.structs.replace(
        DEFAULT_EXCHANGES[2],
        name="patient",
        exchange_id=7,
        time_ms_max=60_000,
        tmax_ms_default=60_000,
    ),
    msgspec.structs.replace(DEFAULT_EXCHANGES[0], name="small", exchange_id=8, body_bytes_max=60),
)


METRICS = memory_metrics(PROFILES)


def post(path, body, **headers):
    lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "\r\n")).encode() + body


def get(path):
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


def talk(sent, count, *, service=None, before=lambda: None, shedder=None):
    """Sends bytes at once over one connection; returns (status, headers, body) of each answer."""
    handler = BidHandler(
        check_profiles(PROFILES), lambda: NOW_MS, time.monotonic_ns, before,
        shedder or Shedder(PROFILES), METRICS, lambda: response(200, b"all counts"),
    )  # fmt: skip
    handler.service = service

    async def main():
        server = HttpServer(handler, time.monotonic_ns, 1 << 20)
        port = await server.listen("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        answers = []
        async with asyncio.timeout(20):
            for _ in range(count):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                status, *lines = head.strip().split("\r\n")
                headers = dict(line.split(": ", 1) for line in lines)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                answers.append((int(status.split()[1]), headers, body))
        writer.close()
        server.close()
        return answers

    return uvloop.run(main()), handler


@pytest.fixture(scope="module")
def service():
    return service_of(metrics=METRICS)


def test_a_bid_is_200_with_json_and_the_version(service):
    ((status, headers, body),), handler = talk(post("/bid/default", body_of()), 1, service=service)
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert headers["x-openrtb-version"] == "2.6"
    assert json.loads(body)["id"] == "r1"
    assert handler.request_count == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post("/bid/default", body_of({"bidfloor": 9_000})), 204),
        (post("/bid/nobody", body_of()), 404),
        (post("/", body_of()), 404),
        (get("/bid/default"), 405),
        (post("/bid/default", b"{"), 400),
        (post("/bid/default", b""), 400),
        (post("/bid/default", body_of(), content_type="application/x-protobuf"), 400),
        (post("/bid/default", b"no gzip", content_encoding="gzip"), 400),
        (post("/bid/small", body_of()), 413),
        (get("/live"), 200),
        (get("/ready"), 200),
        (get("/metrics"), 200),
    ],
)
def test_every_kind_of_request_has_its_status(service, sent, status):
    ((found, _, body),), _ = talk(sent, 1, service=service)
    assert found == status
    assert not body or status == 200


def test_a_gzip_body_is_inflated_and_an_answer_packed_where_both_agree(service):
    packed = gzip.compress(body_of())
    (plain, small), _ = talk(
        post("/bid/default", packed, content_encoding="gzip", accept_encoding="gzip")
        + post("/bid/packed", packed, content_encoding="gzip", accept_encoding="gzip"),
        2, service=service,
    )  # fmt: skip
    assert json.loads(plain[2])["id"] == "r1"
    assert small[1]["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(small[2]))["id"] == "r1"


def test_pipelined_requests_are_answered_in_their_order(service):
    sent = b"".join(post("/bid/patient", body_of(id=f"r{n}")) for n in range(50))
    answers, _ = talk(sent, 50, service=service)
    assert [json.loads(body)["id"] for _, _, body in answers] == [f"r{n}" for n in range(50)]


def test_before_a_snapshot_it_is_alive_not_ready_and_does_not_bid():
    asked = []
    answers, handler = talk(
        get("/live") + get("/ready") + post("/bid/default", body_of()),
        3, before=lambda: asked.append(1),
    )  # fmt: skip
    assert [status for status, _, _ in answers] == [200, 503, 204]
    assert len(asked) == 2, "readiness and a bid request look for a snapshot"
    assert handler.request_count == 0


def counted(name):
    """(answers by status, no-bids by reason) of an exchange."""
    (profile,) = (profile for profile in PROFILES if profile.name == name)
    meter = METRICS.meters[profile.exchange_id]
    reasons = {NoBidReason(n): count for n, count in enumerate(meter.no_bids) if count}
    return list(meter.responses), reasons


@pytest.fixture(autouse=True)
def fresh_counts():
    for name in METRICS.row.dtype.names:
        METRICS.row[name] = 0


def test_a_shed_request_is_204_without_a_look_at_its_body_and_counted(service):
    shedder = Shedder(PROFILES)
    shedder.gates["default"].refuse(1.0)
    before = service.malformed_count
    answers, handler = talk(
        post("/bid/default", b"{") * 3 + post("/bid/verbose", body_of()), 4, service=service,
        shedder=shedder,
    )  # fmt: skip
    assert [status for status, _, _ in answers] == [204, 204, 204, 200]
    assert answers[0][1]["x-openrtb-version"] == "2.6"
    assert counted("default") == ([0, 3, 0, 0], {NoBidReason.OVERLOADED: 3})
    assert service.malformed_count == before
    assert handler.request_count == 4


def test_an_exchange_above_its_rate_gets_204_and_its_connection_stays(service):
    slow = msgspec.structs.replace(DEFAULT_EXCHANGES[0], qps_max=10)
    shedder = Shedder((slow, *PROFILES[1:]))
    answers, _ = talk(
        post("/bid/default", body_of()) * 4 + post("/bid/verbose", body_of()), 5,
        service=service, shedder=shedder,
    )  # fmt: skip
    assert [status for status, _, _ in answers] == [200, 204, 204, 204, 200]
    assert counted("default") == ([1, 3, 0, 0], {NoBidReason.THROTTLED: 3})


def test_pipelined_requests_whose_turn_comes_too_late_are_shed(service):
    hasty = msgspec.structs.replace(DEFAULT_EXCHANGES[0], time_ms_max=4)
    answers, _ = talk(
        post("/bid/default", body_of(*[{}] * 20)) * 200, 200, service=service,
        shedder=Shedder((hasty, *PROFILES[1:])),
    )  # fmt: skip
    statuses = [status for status, _, _ in answers]
    assert statuses[0] == 200
    assert 204 in statuses, "what was read at once takes longer than 2 ms"
    assert counted("default")[1][NoBidReason.OVERLOADED] == statuses.count(204)


def test_every_answer_to_a_bid_request_is_counted_by_status(service):
    talk(
        post("/bid/default", body_of()) + post("/bid/default", body_of({"bidfloor": 9_000}))
        + post("/bid/default", b"{") + post("/bid/small", body_of()),
        4, service=service,
    )  # fmt: skip
    assert counted("default")[0] == [1, 1, 1, 0]
    assert counted("small")[0] == [0, 0, 0, 1]


def test_before_a_snapshot_the_no_bid_says_that_the_worker_is_not_ready():
    talk(post("/bid/default", body_of()), 1)
    assert counted("default") == ([0, 1, 0, 0], {NoBidReason.NOT_READY: 1})
