"""Prices that come as floats and texts, and amounts that people read."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import kernels, money
from market.errors import BadInput
from market.money import (
    CURRENCY_NAMES,
    CURRENCY_NUMBERS,
    MICROS,
    PRICE_CPM_MICROS_MAX,
    currency_number,
    micros_to_text,
    price_from_text,
    price_from_wire,
    price_to_wire,
)

PRICES = st.integers(0, PRICE_CPM_MICROS_MAX)


@given(PRICES)
def test_a_price_survives_the_wire(price):
    assert price_from_wire(price_to_wire(price)) == price


@given(PRICES)
def test_a_price_survives_its_text(price):
    assert price_from_text(f"{price // MICROS}.{price % MICROS:06d}") == price


@given(PRICES)
def test_a_price_that_an_exchange_prints_as_a_float_comes_back_to_the_micro(price):
    assert price_from_text(repr(price_to_wire(price))) == price


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_every_float_of_a_dirty_request_becomes_a_price(cpm):
    price = price_from_wire(cpm)
    assert isinstance(price, int)
    assert 0 <= price <= PRICE_CPM_MICROS_MAX


@pytest.mark.parametrize(
    ("cpm", "price"),
    [
        (2.5, 2_500_000),
        (0.1, 100_000),
        (1e-6, 1),
        (4e-7, 0),
        (0.0, 0),
        (-0.0, 0),
        (-3.0, 0),
        (math.nan, 0),
        (-math.inf, 0),
        (math.inf, PRICE_CPM_MICROS_MAX),
        (1e300, PRICE_CPM_MICROS_MAX),
        (10_000.0, PRICE_CPM_MICROS_MAX),
        (10_000.000001, PRICE_CPM_MICROS_MAX),
    ],
)
def test_a_wire_price_is_the_nearest_micro_within_what_is_believed(cpm, price):
    assert price_from_wire(cpm) == price


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("1.234567", 1_234_567),
        ("0", 0),
        ("-0", 0),
        ("1e-2", 10_000),
        ("10000", PRICE_CPM_MICROS_MAX),
        ("1.2345670001", 1_234_568),
        ("1.00000000002", 1_000_001),
        # What binary floats leave behind is no price: it would put a bid's own price above the bid.
        ("0.30000000000000004", 300_000),
        ("1.0000000000000000000000000000000000000001", 1_000_000),
        ("1e-1000100", 0),
    ],
)
def test_a_price_in_text_is_exact_but_for_the_noise_of_floats(text, price):
    assert price_from_text(text) == price


@given(st.decimals(0, 10_000, allow_nan=False, allow_infinity=False))
def test_a_price_in_text_is_the_least_number_of_micros_that_covers_it(value):
    price = price_from_text(str(value))
    exact = Fraction(value)
    assert Fraction(price - 1, MICROS) < exact <= Fraction(price, MICROS) + Fraction(1, 10**11)


@pytest.mark.parametrize(
    "text", ["", "abc", "1,5", "0x10", "${AUCTION_PRICE}", "%24%7BAUCTION_PRICE%7D", "1.2.3"]
)
def test_a_price_that_is_no_number_is_refused_with_its_text_and_the_rule(text):
    with pytest.raises(BadInput) as refused:
        price_from_text(text)
    assert str(refused.value) == f"price '{text}': it must be a decimal number (CPM)"


@pytest.mark.parametrize(
    "text",
    ["-0.000001", "10000.000001", "NaN", "sNaN", "Infinity", "-Infinity", "1e999999", "9" * 5_000],
)
def test_a_price_that_nobody_can_mean_is_refused_with_its_text_and_the_rule(text):
    with pytest.raises(BadInput) as refused:
        price_from_text(text)
    assert str(refused.value) == f"price '{text}': it must be between 0 and 10000 CPM"


def test_a_currency_is_known_by_its_name_in_any_case():
    assert currency_number("USD") == currency_number(" usd ") == 840
    assert CURRENCY_NAMES[978] == "EUR"


def test_every_currency_has_a_number_of_its_own():
    assert len(CURRENCY_NAMES) == len(CURRENCY_NUMBERS)
    assert all(len(name) == 3 and name.isupper() for name in CURRENCY_NUMBERS)
    assert all(0 < number < 1_000 for number in CURRENCY_NUMBERS.values())


def test_an_unknown_currency_is_refused_with_the_field_that_names_it():
    with pytest.raises(BadInput, match="currency 'BTC': it must be a known ISO 4217 code") as found:
        currency_number("BTC", "/cur/0")
    assert found.value.pointer == "/cur/0"


def test_there_is_one_function_from_a_price_to_an_amount():
    assert money.amount_micros is kernels.amount_micros


def test_an_amount_is_shown_in_units_with_its_currency():
    assert micros_to_text(1_234_560_000, "USD") == "1,234.56 USD"
    assert micros_to_text(0, "EUR") == "0.00 EUR"
    assert micros_to_text(-2_500_000, "EUR") == "-2.50 EUR"


def test_the_largest_believed_price_is_ten_thousand_units():
    assert Decimal(PRICE_CPM_MICROS_MAX) / MICROS == 10_000
