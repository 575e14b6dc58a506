"""Prices, angles and years from digits are those of the default path."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.native.cells import ABSENT
from bidder.native.kernels_number import degrees_micros, price_micros, year_of
from bidder.native.kernels_scan import number
from market.money import PRICE_CPM_MICROS_MAX, price_from_wire
from market.targeting import degrees_e6
from tests.bidder.native.test_kernels_scan import padded

pytestmark = pytest.mark.plain

DECIMALS = st.one_of(
    st.decimals(-1_000, 20_000, places=7), st.decimals(-200, 200, places=15),
    st.floats(-1e6, 1e6), st.integers(-10, 10**12), st.integers(0,
    10**7).map(lambda n: f"{n}.5e-6"),
).map(str)  # fmt: skip


def parts_of(text):
    end, mantissa, scale = (int(part) for part in number(padded(text.encode()), 0, len(text)))
    return (mantissa, scale) if end == len(text) else None


@given(DECIMALS)
def test_a_price_is_that_of_the_float_that_the_digits_mean(text):
    parts = parts_of(text)
    if parts is not None:
        is_sure, price = price_micros(*parts)
        assert not is_sure or price == price_from_wire(float(text))
        if len(text.strip("-0.")) < 15:
            assert is_sure


def test_an_absent_price_is_nothing_and_an_absurd_one_the_most():
    assert price_micros(ABSENT, ABSENT) == (True, 0)
    for text in ("10000", "10000.000001", "99999.99", "1e9", "123456789012345678"):
        assert price_micros(*parts_of(text)) == (True, PRICE_CPM_MICROS_MAX)


@given(DECIMALS, st.sampled_from([90.0, 180.0]))
def test_an_angle_is_that_of_the_float_that_the_digits_mean(text, most):
    parts = parts_of(text)
    if parts is None:
        return
    is_sure, is_angle, angle = degrees_micros(*parts, most)
    if is_sure:
        assert bool(is_angle) == (-most <= float(text) <= most)
        assert not is_angle or angle == degrees_e6(float(text))


@pytest.mark.parametrize("text", ["90", "-90.0", "90.00000000000001", "89.99999999999999999999"])
def test_an_angle_at_the_pole_is_right_or_not_sure(text):
    is_sure, is_angle, _ = degrees_micros(*parts_of(text), 90.0)
    assert not is_sure or bool(is_angle) == (float(text) <= 90)


@given(st.integers(-62_000_000_000_000, 253_402_300_799_999))
def test_the_year_of_an_instant_is_that_of_the_calendar(epoch_ms):
    moment = np.datetime64(epoch_ms, "ms")
    expected = int(str(moment.astype("datetime64[Y]")))
    assert year_of(epoch_ms) == expected
