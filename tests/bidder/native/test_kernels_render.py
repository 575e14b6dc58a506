"""What the render kernel writes for single values, and when it refuses to write."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidder.native.kernels_memo import place_of
from bidder.native.kernels_render import (
    NUMBER_EXPIRY_S,
    NUMBER_HEIGHT,
    NUMBER_MTYPE,
    NUMBER_WIDTH,
    ROW_BY_REQUEST,
    ROW_BY_SLOT,
    ROW_DTYPE,
    ROW_MISSING,
    native_key,
    number_of,
    row_of,
    write_bid_id,
    write_number,
    write_price,
)
from bidder.native.renderer import Fragments
from market.decision import DECISION_DTYPE
from market.money import PRICE_CPM_MICROS_MAX, price_to_wire
from market.opportunity import OPPORTUNITY_DTYPE

pytestmark = pytest.mark.plain

ENCODE = msgspec.json.Encoder().encode
OUT = np.zeros(64, np.uint8)


def text_of(write, value):
    end = write(value, OUT, 3)
    return OUT[3:end].tobytes()


@given(st.integers(0, 2**63 - 1))
def test_a_number_is_written_in_decimal(value):
    assert text_of(write_number, value) == str(value).encode()


def test_every_price_of_the_lowest_ones_is_what_the_encoder_makes_of_its_float():
    # All shapes: an exponent (below 10 micros), leading zeros, trailing zeros, whole units.
    for micros in range(60_000):
        assert text_of(write_price, micros) == ENCODE(price_to_wire(micros)), micros


def test_prices_around_every_round_number_are_what_the_encoder_makes_of_them():
    for exponent in range(11):
        for digit in range(1, 11):
            for near in range(-30, 31):
                micros = digit * 10**exponent + near
                if 0 <= micros <= PRICE_CPM_MICROS_MAX:
                    assert text_of(write_price, micros) == ENCODE(price_to_wire(micros)), micros
    for micros in range(0, PRICE_CPM_MICROS_MAX + 1, PRICE_CPM_MICROS_MAX // 40_000):
        assert text_of(write_price, micros) == ENCODE(price_to_wire(micros)), micros


@settings(max_examples=2000)
@given(st.integers(0, PRICE_CPM_MICROS_MAX))
def test_any_price_is_what_the_encoder_makes_of_its_float(micros):
    assert text_of(write_price, micros) == ENCODE(price_to_wire(micros))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_bid_id_is_32_hexadecimal_digits_in_quotes(hi, lo):
    decision = np.zeros(1, DECISION_DTYPE)
    decision["bid_hi"], decision["bid_lo"] = hi, lo
    end = write_bid_id(decision[0], OUT, 3)
    assert OUT[3:end].tobytes() == f'"{hi:016x}{lo:016x}"'.encode()


def test_numbers_that_a_bid_leaves_out_are_negative():
    decision, opportunity = np.zeros(1, DECISION_DTYPE), np.zeros(1, OPPORTUNITY_DTYPE)
    decision["size"], decision["deadline_ms"], opportunity["arrival_ms"] = 728 << 16, 1999, 1000

    def number(which):
        return number_of(which, decision[0], opportunity[0])

    assert (number(NUMBER_WIDTH), number(NUMBER_HEIGHT), number(NUMBER_EXPIRY_S)) == (728, -1, 0)
    for bit, mtype in ((1, 1), (2, 2), (4, 3), (8, 4)):
        decision["format"] = bit
        assert number(NUMBER_MTYPE) == mtype


@given(st.data())
def test_a_native_ad_has_the_row_of_its_slot_and_every_other_bid_that_of_its_rendition(data):
    rendition_count, places = 6, 16
    kinds = data.draw(
        st.lists(
            st.sampled_from((ROW_BY_SLOT, ROW_BY_REQUEST, ROW_MISSING, 0, 40)),
            min_size=rendition_count, max_size=rendition_count,
        )
    )  # fmt: skip
    slots = st.integers(1, 2**64 - 1) | st.integers(1, 3)
    pairs = st.tuples(slots, st.integers(0, rendition_count - 1))
    known = data.draw(st.lists(pairs, max_size=places // 2, unique=True))
    fragments = Fragments(
        pool=np.zeros(1, np.uint8), ops=np.zeros((1, 4), np.int32),
        rows=np.zeros(rendition_count + places, ROW_DTYPE), seats=np.zeros(1, np.int32),
        spans=np.zeros((1, 2), np.int32), native_keys=np.zeros((1, places), np.uint64),
    )  # fmt: skip
    fragments.rows["op_first"][:rendition_count] = kinds
    expected = {}
    for slot, row in known:
        key = np.uint64(native_key(np.uint64(slot), row))
        place = place_of(fragments.native_keys, 0, key)
        fragments.native_keys[0, place] = key
        expected[slot, row] = rendition_count + place
    assert len(set(expected.values())) == len(known)
    decision = np.zeros(1, DECISION_DTYPE)
    for slot, row in [*known, *data.draw(st.lists(pairs, max_size=4)), (0, 0)]:
        decision["rendition_row"] = row
        by_slot = kinds[row] == ROW_BY_SLOT and slot != 0
        found = row_of(decision[0], np.uint64(slot), fragments)
        assert found == (expected.get((slot, row), -1) if by_slot else row)
