"""The frame's bytes: fixed by the format, and the same after a round trip."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.frame import BODY_BYTES_MAX, MAGIC, Frame, Schema, file_head, frame_head, parse_frame
from market.errors import BadInput


def test_the_layout_is_the_documented_one():
    expected = b"\xf5LSG" + bytes([2, 0, 3, 0, 4, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0])
    crc = zlib.crc32(expected + b"body").to_bytes(4, "little")
    assert frame_head(2, 3, 7, b"body") == expected + crc


def test_a_file_starts_with_format_record_size_and_name():
    found = parse_frame(file_head(Schema("events", 3, 256), 41), 0)
    body = bytes([1, 0, 0, 1, 0, 0]) + b"events"
    assert found == Frame(sequence=41, kind=0, schema_version=3, body=body)


@given(
    kind=st.integers(0, 255),
    version=st.integers(0, 0xFFFF),
    sequence=st.integers(0, 2**64 - 1),
    body=st.binary(max_size=200),
    before=st.binary(max_size=20),
    after=st.binary(max_size=20),
)
def test_a_frame_is_found_where_it_was_put_and_whole_or_not_at_all(
    kind, version, sequence, body, before, after
):
    data = frame_head(kind, version, sequence, body) + body
    assert parse_frame(before + data + after, len(before)) == Frame(sequence, kind, version, body)
    assert isinstance(parse_frame(before + data[:-1], len(before)), str)


def test_a_damaged_length_asks_for_no_memory():
    head = bytearray(frame_head(2, 1, 1, b"body"))
    head[8:12] = (BODY_BYTES_MAX + 1).to_bytes(4, "little")
    assert "above" in str(parse_frame(bytes(head) + b"body", 0))


def test_no_text_holds_the_magic():
    with pytest.raises(UnicodeDecodeError):
        MAGIC.decode()


@pytest.mark.parametrize(
    ("name", "version", "record_bytes", "message"),
    [
        ("", 1, 4, "must be 1 to 64 bytes long"),
        ("é" * 33, 1, 4, "must be 1 to 64 bytes long"),
        ("events", 0, 4, "version 0 must be in 1..65535"),
        ("events", 65536, 4, "version 65536 must be in 1..65535"),
        ("events", 1, -1, "record_bytes -1 must be in"),
        ("events", 1, BODY_BYTES_MAX + 1, "record_bytes 16777217 must be in"),
    ],
)
def test_a_schema_outside_the_format_is_refused(name, version, record_bytes, message):
    with pytest.raises(BadInput, match=message):
        Schema(name, version, record_bytes)
