"""Names as numbers: what they are equal for, and that they stay what recorded runs say."""

from __future__ import annotations

import string
from hashlib import blake2b

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from market.chance import Purpose, code_of, opportunity_key, pair_code, user_key
from market.kernels import hash_pair
from tests.reference import chance as reference
from tests.reference.siphash import siphash

TEXTS = st.text(st.characters(), max_size=20)
WORDS = st.integers(0, 2**64 - 1)
RECORDED_PURPOSES = {
    "ARRIVAL": 1, "USER": 2, "SCENE": 3, "FLOOR": 4, "COMPETITOR_VALUE": 5,
    "COMPETITOR_PRESENCE": 6, "VIEW": 7, "CLICK": 8, "CONVERSION": 9, "CONVERSION_DELAY": 10,
    "CONVERSION_VALUE": 11, "CREATIVE_CHOICE": 12, "NO_BID_SAMPLE": 13, "NOTICE_REPEAT": 14,
    "NOTICE_DELAY": 15, "POPULATION": 16, "CREATIVE_TASTE": 17, "ORGANIC": 18, "PROPENSITY": 19,
    "NOISE": 20,
}  # fmt: skip


def sip_number(content, key=bytes(16)):
    return int.from_bytes(siphash(key, content), "little")


def test_a_purpose_keeps_the_number_that_recorded_runs_used():
    numbers = {purpose.name: int(purpose) for purpose in Purpose}
    assert RECORDED_PURPOSES.items() <= numbers.items()
    assert len(set(numbers.values())) == len(numbers)


def test_a_code_is_the_siphash_of_the_text_in_lower_case():
    assert code_of("USA") == sip_number(b"usa")
    assert code_of("Straße") == sip_number("straße".encode())


@given(TEXTS, st.sampled_from(["", " ", "\t", "\n "]))
def test_a_code_knows_neither_case_nor_surrounding_blanks_and_is_never_zero(text, blank):
    code = code_of(text)
    assert 0 < code < 2**64
    assert code_of(f"{blank}{text}{blank}") == code
    assert (
        code_of(text.translate(str.maketrans(string.ascii_uppercase, string.ascii_lowercase)))
        == code
    )


def test_half_a_surrogate_pair_from_a_dirty_request_has_a_code_and_keys():
    assert code_of("\ud800") != code_of("\ud801")
    assert opportunity_key("x", "\ud800", "1") != opportunity_key("x", "\ud801", "1")
    assert user_key(b"salt", "\ud800") != user_key(b"salt", "\ud801")


def test_a_hundred_thousand_texts_have_as_many_codes():
    assert len({code_of(f"segment {n}") for n in range(100_000)}) == 100_000


@given(WORDS, WORDS)
def test_a_pair_code_is_the_kernel_s_name_of_the_pair(a, b):
    assert pair_code(a, b) == reference.hash_pair(a, b)
    assert pair_code(a, b) == int(hash_pair(np.uint64(a), np.uint64(b)))


@given(st.integers(-(2**63), -1), WORDS)
def test_a_negative_number_is_named_as_its_two_s_complement(a, b):
    assert pair_code(a, b) == reference.hash_pair(a + 2**64, b)


def test_an_opportunity_s_key_is_the_hash_of_exchange_request_and_imp():
    digest = siphash(bytes(16), b"twin\x00r-1\x001", 16)
    assert opportunity_key("twin", "r-1", "1") == (
        int.from_bytes(digest[:8], "little"),
        int.from_bytes(digest[8:], "little"),
    )


def test_exchange_request_and_imp_each_give_an_opportunity_another_name():
    keys = {
        opportunity_key(exchange, request, imp)
        for exchange in ("a", "b")
        for request in ("1", "12")
        for imp in ("2", "22", "")
    }
    assert len(keys) == 12
    assert len({hi for hi, _ in keys}) == len({lo for _, lo in keys}) == 12


def test_a_user_s_pseudonym_is_keyed_by_the_salt():
    key = blake2b(b"salt", digest_size=16).digest()
    assert user_key(b"salt", "u-1") == sip_number(b"u-1", key)
    assert user_key(b"salt", "u-1") != user_key(b"pepper", "u-1")
    assert user_key(b"salt", "u-1") != user_key(b"salt", "u-2")
    assert user_key(b"salt", "") != 0
