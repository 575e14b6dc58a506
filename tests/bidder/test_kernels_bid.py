"""The price of a bid: shading against a landscape, by brute force and case by case."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.kernels_bid import landscape_row, shaded_price
from market.landscape import Landscape, landscape_array
from market.money import PRICE_CPM_MICROS_MAX
from market.opportunity import Format
from tests.reference import price

pytestmark = pytest.mark.plain

PRICES = st.integers(1, 20_000_000)


@st.composite
def landscapes(draw):
    prices = sorted(draw(st.sets(PRICES, min_size=1, max_size=32)))
    chances = sorted(draw(st.lists(st.floats(0, 1), min_size=len(prices), max_size=len(prices))))
    return Landscape(exchange_id=1, price_cpm_micros=tuple(prices), win_probability=tuple(chances))


@given(
    landscapes(), PRICES, PRICES, st.sampled_from((0, 1, 700_000, 3_000_000)),
    st.sampled_from((1_000_000, 925_926, 149_253_731)),
)  # fmt: skip
def test_a_shaded_price_is_the_best_that_brute_force_finds(landscape, value, most, floor, usd_rate):
    most = min(value, most)
    found = shaded_price(landscape_array((landscape,))[0], value, most, floor, usd_rate)
    assert found == price.best_against(
        landscape, value=value, most=most, floor=floor, usd_rate=usd_rate
    )
    assert found <= most, "shading never raises a bid"


def test_a_price_that_wins_more_often_is_worth_paying_for_up_to_a_point():
    landscape = Landscape(
        exchange_id=1, price_cpm_micros=(1_000, 2_000, 4_000), win_probability=(0.1, 0.7, 0.8)
    )
    points = landscape_array((landscape,))[0]

    def bid(value, most=10**6, floor=0):
        return shaded_price(points, value, most, floor, 1_000_000)

    assert bid(1_100) == 1_000
    assert bid(3_000) == 2_000
    assert bid(100_000) == 4_000
    assert bid(100_000, most=3_999) == 2_000, "the ceiling"
    assert bid(100_000, floor=2_500) == 4_000
    assert bid(6_000, floor=2_500) == 2_500, "at the floor, as often as at the point below it"
    assert bid(900, most=900) == 900, "below all points nobody ever won: the whole bid"
    assert bid(5_000, most=2_400, floor=2_500) == 2_400, "and below the floor, which is seen later"


def test_a_landscape_of_the_format_comes_before_that_of_the_exchange():
    def one(exchange_id, name):
        return Landscape(
            exchange_id=exchange_id, format=name, price_cpm_micros=(1,), win_probability=(1.0,)
        )

    rows = landscape_array((one(1, ""), one(2, "video"), one(1, "video")))
    assert landscape_row(rows, 1, Format.VIDEO) == 2
    assert landscape_row(rows, 1, Format.BANNER) == 0
    assert landscape_row(rows, 2, Format.BANNER) == -1
    assert landscape_row(rows[:0], 1, Format.VIDEO) == -1


def test_the_dearest_prices_do_not_overflow():
    landscape = Landscape(
        exchange_id=1, price_cpm_micros=(PRICE_CPM_MICROS_MAX,), win_probability=(1.0,)
    )
    points = landscape_array((landscape,))[0]
    rate = np.int64(150_000_000)
    assert shaded_price(points, PRICE_CPM_MICROS_MAX, PRICE_CPM_MICROS_MAX, 0, rate) == (
        PRICE_CPM_MICROS_MAX
    )
