"""The golden bids again, as an exchange sees them: over HTTP, packed both ways."""

from __future__ import annotations

import asyncio
import gzip
import json

import msgspec
import pytest
import uvloop

from bidder.metrics import memory_metrics
from bidder.server import BidHandler
from bidder.shedding import Shedder
from ledger.http import HttpServer, response
from tests.bidder.services import NOW_MS
from tests.bidder.test_golden import CASES, bidder, masked


def exchange(case, body, *heads):
    """(status, headers, body) of a case's request, sent as ``body`` with these header lines."""
    profile, service = bidder(case)
    profile = msgspec.structs.replace(profile, answers_gzip=True)
    handler = BidHandler(
        {profile.name: profile}, lambda: NOW_MS, lambda: 0, lambda: None, Shedder((profile,)),
        memory_metrics((profile,)), lambda: response(200),
    )  # fmt: skip
    handler.service = service
    lines = [f"POST /bid/{profile.name} HTTP/1.1", "host: x", f"content-length: {len(body)}"]

    async def talk():
        server = HttpServer(handler, lambda: 0)
        port = await server.listen("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write("\r\n".join((*lines, *heads, "\r\n")).encode() + body)
        async with asyncio.timeout(20):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            status, *fields = head.strip().split("\r\n")
            headers = dict(field.split(": ", 1) for field in fields)
            answer = await reader.readexactly(int(headers.get("content-length", 0)))
        writer.close()
        server.close()
        return int(status.split()[1]), headers, answer

    return uvloop.run(talk())


@pytest.mark.parametrize("path", CASES, ids=[f"{p.parent.name}/{p.stem}" for p in CASES])
def test_a_golden_request_is_answered_the_same_over_http_packed_both_ways(path):
    case = json.loads(path.read_text())
    expected = case["expected"]
    body = json.dumps(case["request"]).encode()
    status, headers, packed = exchange(
        case, gzip.compress(body), "content-encoding: gzip", "accept-encoding: br, gzip",
        "x-openrtb-version: 2.6",
    )  # fmt: skip
    assert status == expected["status"]
    assert headers["x-openrtb-version"] == "2.6"
    if status == 200:
        assert headers["content-type"] == "application/json"
        assert headers["content-encoding"] == "gzip"
        assert masked(gzip.decompress(packed).decode()) == expected["response"]
    else:
        assert (packed, expected["response"]) == (b"", None)
        assert "content-length" not in headers


def test_an_exchange_that_takes_no_gzip_gets_none():
    case = json.loads(next(path for path in CASES if path.stem == "banner").read_text())
    body = json.dumps(case["request"]).encode()
    for heads in ((), ("accept-encoding: gzip;q=0",), ("accept-encoding: identity",)):
        status, headers, plain = exchange(case, body, *heads)
        assert status == 200
        assert "content-encoding" not in headers
        assert masked(plain.decode()) == case["expected"]["response"]


def test_a_reason_is_given_only_to_the_exchange_that_asks_for_it():
    """OpenRTB 2.6, 4.2.1: a reason in a response without bids; else nothing at all."""
    found = {}
    for path in CASES:
        case = json.loads(path.read_text())
        has_bids = bool((case["expected"]["response"] or {}).get("seatbid"))
        if not has_bids:
            found.setdefault(case["exchange"], []).append(case["expected"])
    assert all(expected["status"] == 204 for expected in found["default"])
    assert len(found["verbose"]) >= 10
    for expected in found["verbose"]:
        assert expected["status"] == 200
        assert expected["response"]["seatbid"] == []
        assert expected["response"]["nbr"] >= 0


@pytest.mark.parametrize(
    ("heads", "status"),
    [
        ((), 200),
        (("content-type: application/json; charset=utf-8",), 200),
        (("content-type: text/plain",), 200),
        (("content-type: application/x-protobuf",), 400),
        (("content-type: Application/X-Protobuf",), 400),
        (("content-type: avro/binary",), 400),
        (("x-openrtb-version: 2.5",), 200),
        (("x-openrtb-version: ",), 200),
    ],
)
def test_the_content_type_may_be_missing_but_not_foreign(heads, status):
    """OpenRTB 2.6, 2.2: JSON is the default; formats that were not agreed on are refused."""
    case = json.loads(next(path for path in CASES if path.stem == "banner").read_text())
    found, headers, _ = exchange(case, json.dumps(case["request"]).encode(), *heads)
    assert (found, headers["x-openrtb-version"]) == (status, "2.6")
