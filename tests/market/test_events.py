"""Events: logs of every schema version stay readable, and an id says what happened."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import Corrupt
from market.events import (
    EVENT_DTYPE,
    SCHEMA_VERSION,
    SCHEMAS,
    EventFlag,
    EventKind,
    event_id,
    read_events,
)
from tests.golden.events.make import RECORD_COUNT, path_of, records_of

WORDS = st.integers(0, 2**64 - 1)
# What a field holds that the version of a record did not have yet.
MISSING = {
    1: {
        "rate_micros": 1_000_000,
        "quantity_micros": 1_000_000,
        "order_code": 0,
        "shading_factor": 0,
        "size": 0,
    },
    2: {},
}


def test_every_schema_version_has_a_golden_body():
    assert all(path_of(version).exists() for version in SCHEMAS)
    assert max(SCHEMAS) == SCHEMA_VERSION


@pytest.mark.parametrize("version", SCHEMAS)
def test_a_golden_body_is_read_to_the_exact_values_that_were_written(version):
    records = read_events(path_of(version).read_bytes(), version)
    expected = records_of(version)
    assert records.dtype == EVENT_DTYPE
    assert records.shape == (RECORD_COUNT,)
    known = {name for fields in expected for name in fields}
    assert known | set(MISSING[version]) == set(EVENT_DTYPE.names)
    for record, fields in zip(records, expected, strict=True):
        for name, values in fields.items():
            assert np.atleast_1d(record[name]).tolist() == values, name
        for name, value in MISSING[version].items():
            assert record[name] == value, name


@pytest.mark.parametrize("version", SCHEMAS)
def test_a_body_is_read_through_a_view_as_well(version):
    body = path_of(version).read_bytes()
    through_view = read_events(memoryview(body), version)
    assert (through_view == read_events(body, version)).all()


def test_the_current_version_is_written_and_read_byte_for_byte():
    records = np.zeros(4, EVENT_DTYPE)
    records["ts_ms"] = [1, 2, 3, 4]
    body = records.tobytes()
    assert read_events(body, SCHEMA_VERSION).tobytes() == body


@pytest.mark.parametrize("version", SCHEMAS)
def test_an_empty_body_holds_no_events(version):
    assert read_events(b"", version).shape == (0,)


@pytest.mark.parametrize("version", [0, 3, -1])
def test_an_unknown_version_is_corrupt_and_says_which_are_read(version):
    with pytest.raises(Corrupt, match=rf"schema version {version}: this build reads \[1, 2\]"):
        read_events(b"", version)


@pytest.mark.parametrize("version", SCHEMAS)
@pytest.mark.parametrize("missing", [1, 8, 287])
def test_a_body_that_is_no_whole_number_of_records_is_corrupt(version, missing):
    body = path_of(version).read_bytes()[:-missing]
    size = SCHEMAS[version].itemsize
    with pytest.raises(Corrupt, match=rf"event frame of {len(body)} bytes: .* of {size} bytes"):
        read_events(body, version)


def test_a_record_has_a_place_for_everything_and_is_as_wide_as_ever():
    assert {version: dtype.itemsize for version, dtype in SCHEMAS.items()} == {1: 288, 2: 320}


def test_kinds_and_flags_keep_the_numbers_that_logs_hold():
    assert {kind.name: int(kind) for kind in EventKind} == {
        "BID": 1, "WIN": 2, "IMPRESSION": 3, "CLICK": 4, "CONVERSION": 5, "LOSS": 6,
        "BILLING": 7, "ADJUSTMENT": 8, "NO_BID": 9,
    }  # fmt: skip
    assert {flag.name: int(flag) for flag in EventFlag} == {
        "TEST": 1, "CHARGED": 2, "DISPUTED": 4, "LATE": 8,
    }  # fmt: skip


@given(st.sampled_from(EventKind), WORDS, WORDS, WORDS)
def test_an_event_s_id_is_two_words_and_always_the_same(kind, bid_hi, bid_lo, order_code):
    found = event_id(kind, bid_hi, bid_lo, order_code)
    assert found == event_id(int(kind), bid_hi, bid_lo, order_code)
    assert all(0 <= word < 2**64 for word in found)


def test_an_event_s_id_is_the_one_that_logs_hold():
    """Changing it would make every retried notice of a running log a new event."""
    assert event_id(EventKind.BILLING, 1, 2) == (0xDBA944C2C45C0A5B, 0xE4DFAC63F2C021FA)
    assert event_id(EventKind.CONVERSION, 1, 2, 3) == (0x540AF6CE59B9DF11, 0xF4E5634739057852)


@given(
    st.tuples(st.sampled_from(EventKind), WORDS, WORDS, WORDS),
    st.tuples(st.sampled_from(EventKind), WORDS, WORDS, WORDS),
)
def test_events_that_differ_in_anything_they_say_have_different_ids(one, other):
    assert (event_id(*one) == event_id(*other)) == (one == other)


def test_kind_bid_and_order_each_make_another_event():
    ids = {
        event_id(kind, bid_hi, bid_lo, order_code)
        for kind in EventKind
        for bid_hi in (0, 1, 11)
        for bid_lo in (0, 1, 11)
        for order_code in (0, 1, 11)
    }
    assert len(ids) == len(EventKind) * 27
