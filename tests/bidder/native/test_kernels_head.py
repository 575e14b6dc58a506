"""The head kernel against its twin: the usual request is read, every doubt is left."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.native.kernels_head import LEFT, read_head
from tests.reference import http_head as reference

pytestmark = pytest.mark.plain

PATHS = [b"/bid/default", b"/bid/def", b"/bid/twin"]
PATH_LENGTHS = np.array([len(path) for path in PATHS], np.int64)
PATH_ROWS = np.zeros((len(PATHS), 32), np.uint8)
for row, path in zip(PATH_ROWS, PATHS, strict=True):
    row[: len(path)] = np.frombuffer(path, np.uint8)

USUAL = (
    b"POST /bid/twin HTTP/1.1\r\nHost: bidder.example:80\r\nContent-Type: application/json\r\n"
    b"X-OpenRTB-Version: 2.6\r\nAccept-Encoding: deflate, GZip\r\nConnection: Keep-Alive\r\n"
    b'Content-Length: 11\r\n\r\n{"id": "1"}'
)
LINES = [
    b"Host: a", b"host:", b"Content-Length: 3", b"content-length:\t3 ", b"Content-Length: 03",
    b"Content-Length: -3", b"Content-Length: 3, 3", b"content-length: 9999999999",
    b"Content-Type: application/json; charset=utf-8", b"content-type: application/x-protobuf",
    b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", b"Expect: 100-continue",
    b"Upgrade: h2c", b"Connection: close", b"connection: keep-alive", b"Connection: keep-alive, x",
    b"x-openrtb-version: 3.0", b"x-openrtb-version: 2.5", b"accept-encoding: gzip, br",
    b"accept-encoding: identity", b"X-Forwarded-For: 198.51.100.7", b" folded: yes", b"bad name: x",
    b"x: na\xc3\xafve", b"x: a\x00b", b"x: a\rb", b": nothing", b"no colon", b"content-lengthy: 3",
]  # fmt: skip


def read(data, first=0, last=None):
    last = len(data) if last is None else last
    found = read_head(np.frombuffer(data, np.uint8), first, last, PATH_ROWS, PATH_LENGTHS)
    path, body, end, accepts_gzip = (int(value) for value in found)
    return None if path == LEFT else (path, body - first, end - first, bool(accepts_gzip))


def test_the_usual_request_is_read():
    path, first, last, accepts_gzip = read(USUAL)
    assert PATHS[path] == b"/bid/twin"
    assert USUAL[first:last] == b'{"id": "1"}'
    assert accepts_gzip


def test_a_request_that_is_not_whole_is_left():
    assert all(read(USUAL[:count]) is None for count in range(len(USUAL)))


def test_what_follows_a_request_is_no_part_of_it():
    assert read(USUAL + b"POST") == read(USUAL)
    assert read(b"xyz" + USUAL, 3) == read(USUAL)
    assert read(USUAL + USUAL, len(USUAL)) == read(USUAL)


@given(st.lists(st.sampled_from(LINES), max_size=5), st.sampled_from([*PATHS, b"/bid/twi", b"/"]))
def test_any_headers_are_read_as_the_twin_reads_them_or_left(lines, path):
    head = b"\r\n".join([b"POST %s HTTP/1.1" % path, *lines, b"", b""])
    for data in (head + b"abc", head + b"Content-Length: 3\r\n\r\nabc"):
        assert read(data) == reference.read_head(data, PATHS)


@given(st.integers(0, len(USUAL) - 1), st.integers(0, 255), st.sampled_from(["put", "cut", "add"]))
def test_one_wrong_byte_is_read_as_the_twin_reads_it(place, byte, how):
    data = bytearray(USUAL)
    if how == "put":
        data[place] = byte
    elif how == "cut":
        del data[place]
    else:
        data.insert(place, byte)
    assert read(bytes(data)) == reference.read_head(bytes(data), PATHS)
