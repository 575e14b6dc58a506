"""What the render kernel writes for single values, and when it refuses to write."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidder.native.kernels_render import (
    NUMBER_EXPIRY_S,
    NUMBER_HEIGHT,
    NUMBER_MTYPE,
    NUMBER_WIDTH,
    number_of,
    write_bid_id,
    write_number,
    write_price,
)
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
