"""The reader of bit fields: what it takes, in which order, and what it refuses."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.privacy.bits import TEXT_MAX, Bits, merged
from market.errors import BadInput
from tests.reference import privacy as reference


@pytest.mark.parametrize(
    ("value", "code"),
    [(1, "11"), (2, "011"), (3, "0011"), (4, "1011"), (5, "00011"), (6, "10011"), (7, "01011")],
)
def test_a_fibonacci_code_is_the_one_in_the_table_of_the_specification(value, code):
    assert reference.fibonacci(value) == code
    assert Bits(reference.text_of(code)).fibonacci() == value


@given(st.lists(st.integers(1, 10_000_000), min_size=1, max_size=20))
def test_fibonacci_codes_in_a_row_are_read_back(values):
    bits = Bits(reference.text_of("".join(reference.fibonacci(value) for value in values)))
    assert [bits.fibonacci() for _ in values] == values
    bits.end()


fields_of_widths = st.lists(
    st.integers(1, 40).flatmap(lambda w: st.tuples(st.just(w), st.integers(0, 2**w - 1))),
    min_size=1,
    max_size=30,
)


@given(fields_of_widths)
def test_integers_of_any_width_are_read_back_in_order(fields):
    digits = "".join(reference.number(value, width) for width, value in fields)
    bits = Bits(reference.text_of(digits))
    assert [bits.take(width) for width, _ in fields] == [value for _, value in fields]
    assert bits.left == -len(digits) % 6


@pytest.mark.parametrize("text", ["", "AB=", "A+", "A/", "A B", "Ä", "A\n", "A" * (TEXT_MAX + 1)])
def test_text_outside_the_url_safe_alphabet_or_over_long_is_refused(text):
    with pytest.raises(BadInput, match="base64url"):
        Bits(text)


def test_bits_beyond_the_end_are_not_made_up():
    bits = Bits("AA")
    bits.take(11)
    with pytest.raises(BadInput, match="2 more"):
        bits.take(2)
    assert bits.take(1) == 0


def test_a_fibonacci_code_that_never_ends_is_refused():
    with pytest.raises(BadInput, match="Fibonacci"):
        Bits("A" * 100).fibonacci()


def test_bits_set_behind_the_last_field_are_refused():
    bits = Bits("AB")
    bits.take(6)
    with pytest.raises(BadInput, match="padding"):
        bits.end()


def test_letters_beyond_z_are_refused():
    with pytest.raises(BadInput, match="0-25"):
        Bits("AaAA").text(2)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), max_size=12))
def test_merged_ranges_hold_the_same_ids_rising_and_apart(pairs):
    found = merged((first, first + more) for first, more in pairs)
    ids = {each for first, more in pairs for each in range(first, first + more + 1)}
    assert {each for first, last in found for each in range(first, last + 1)} == ids
    assert all(one[1] + 1 < other[0] for one, other in itertools.pairwise(found))
