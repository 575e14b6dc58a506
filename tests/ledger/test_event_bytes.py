"""Packing fields of an event agrees with numpy's idea of the record."""

from __future__ import annotations

import numpy as np
import pytest

from ledger.event_bytes import EVENT_BYTES, event_fields, event_part
from market.events import EVENT_DTYPE


def random_event():
    return np.frombuffer(np.random.default_rng(3).bytes(EVENT_BYTES), EVENT_DTYPE)


def test_every_field_unpacks_to_the_value_that_numpy_sees():
    event = random_event()
    for name in EVENT_DTYPE.names:
        seen = event_fields(name).unpack_from(event.tobytes(), 0)
        assert np.array_equal(np.array(seen), np.ravel(event[name]), equal_nan=True), name


def test_fields_in_layout_order_unpack_together():
    event = random_event()
    fields = event_fields("bid_hi", "deadline_ms", "line_item_id", "flags", "budgets", "size")
    assert fields.unpack_from(event.tobytes(), 0) == (
        event["bid_hi"][0], event["deadline_ms"][0], event["line_item_id"][0], event["flags"][0],
        *event["budgets"][0], event["size"][0],
    )  # fmt: skip


def test_packing_a_part_changes_these_fields_and_no_other():
    event = random_event()
    part, at = event_part("reason", "worker", "flags", "kind")
    body = bytearray(event.tobytes())
    part.pack_into(body, at, 1, 2, 3, 4)
    changed = np.frombuffer(body, EVENT_DTYPE)
    for name in EVENT_DTYPE.names:
        expected = {"reason": 1, "worker": 2, "flags": 3, "kind": 4}.get(name)
        if expected is None:
            assert changed[name].tobytes() == event[name].tobytes()
        else:
            assert changed[name] == expected


def test_fields_out_of_order_and_parts_with_gaps_are_programmer_errors():
    with pytest.raises(AssertionError, match="bid_hi lies before"):
        event_fields("deadline_ms", "bid_hi")
    with pytest.raises(AssertionError, match="deadline_ms does not follow"):
        event_part("ts_ms", "deadline_ms")
