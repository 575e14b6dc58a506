"""Names computed from the body are the names that Python computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bidder.native.kernels_memo import holds, place_of
from bidder.native.kernels_name import (
    absorb,
    code_at,
    finished_key,
    lower_case,
    opportunity_key_at,
    start_key,
    user_key_at,
)
from bidder.native.wire import BODY_PAD
from market.chance import code_of, opportunity_key, salt_words, user_key

pytestmark = pytest.mark.plain

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def laid(text, before=b"xy"):
    """The text in an array, something before and behind it: (array, first, last)."""
    body = np.full(len(before) + len(text) + BODY_PAD, 0x41, np.uint8)
    body[len(before) : len(before) + len(text)] = np.frombuffer(text, np.uint8)
    return body, len(before), len(before) + len(text)


@given(st.one_of(TEXT, st.text("aBzZ@[`{ \t\n\r\v\f\u00e9", max_size=20)))
def test_the_code_of_a_text_in_a_body_is_its_code(text):
    assert int(code_at(*laid(text.encode()))) == code_of(text)


@given(st.binary(min_size=8, max_size=8))
def test_only_ascii_letters_are_folded(text):
    word = np.uint64(int.from_bytes(text, "little"))
    assert int(lower_case(word)).to_bytes(8, "little") == text.lower()


@given(TEXT, st.binary(min_size=1, max_size=30))
def test_a_pseudonym_from_the_body_is_the_pseudonym(text, salt):
    k0, k1 = salt_words(salt)
    key = user_key_at(np.uint64(k0), np.uint64(k1), *laid(text.encode()))
    assert int(key) == user_key(salt, text)


@given(TEXT, TEXT, TEXT)
def test_the_key_of_an_opportunity_is_that_of_its_three_names(exchange, request_id, imp_id):
    names = f"{exchange}\x00{request_id}\x00{imp_id}".encode()
    found = opportunity_key_at(*laid(names))
    assert tuple(int(half) for half in found) == opportunity_key(exchange, request_id, imp_id)


def memo_key(tokens, k0=1, k1=2):
    cells = np.zeros(4, np.int64)
    start_key(cells, 0, np.uint64(k0), np.uint64(k1))
    for tag, token in tokens:
        absorb(cells, 0, tag, *laid(token))
    return int(finished_key(cells, 0))


TOKENS = st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=20)), max_size=4)


@given(TOKENS, TOKENS)
def test_different_tokens_have_different_memo_keys(one, other):
    assume(one != other)
    assert memo_key(one) != memo_key(other)


@given(TOKENS)
def test_equal_tokens_have_one_memo_key_and_another_process_has_another(tokens):
    assert memo_key(tokens) == memo_key(list(tokens))
    assert memo_key(tokens) != memo_key(tokens, k1=3)


def test_a_token_that_is_cut_differently_is_another_key():
    assert memo_key([(1, b"ab"), (1, b"c")]) != memo_key([(1, b"a"), (1, b"bc")])
    assert memo_key([(1, b"a\0")]) != memo_key([(1, b"a")])
    assert memo_key([(1, b"")]) != memo_key([])


@given(st.lists(st.integers(1, 2**64 - 1), unique=True, max_size=8), st.integers(1, 2**64 - 1))
def test_a_table_finds_what_was_put_into_it(keys, other):
    table = np.zeros((2, 16), np.uint64)
    kept = {}
    for key in keys:
        place = int(place_of(table, 1, np.uint64(key)))
        assert table[1, place] == 0
        table[1, place] = key
        kept[key] = place
    assert {key: int(place_of(table, 1, np.uint64(key))) for key in keys} == kept
    assume(other not in kept)
    assert table[1, int(place_of(table, 1, np.uint64(other)))] == 0
    assert not table[0].any()


@given(st.lists(st.integers(0, 60), unique=True), st.integers(0, 60))
def test_a_deal_is_held_when_it_is_among_those_held(codes, code):
    held = np.zeros(64, np.uint64)
    held[: len(codes)] = sorted(codes)
    assert bool(holds(held, len(codes), np.uint64(code))) == (code in codes)
    assert holds(held, -1, np.uint64(code))
