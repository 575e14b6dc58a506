"""SipHash against its twin and against the vectors its authors published."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.kernels_hash import fold_text, sip_hash, sip_hash_128
from tests.reference.siphash import siphash

pytestmark = pytest.mark.plain

KEY = bytes(range(16))
# Appendix A of the paper, and the first lines of vectors.h of the authors' reference code.
VECTORS_64 = {
    0: "310e0edd47db6f72",
    1: "fd67dc93c539f874",
    8: "6224939a79f5f593",
    15: "e545be4961ca29a1",
}
VECTORS_128 = {0: "a3817f04ba25a8e66df67214c7550293", 1: "da87c1d86b99af44347659119b22fc45"}


def words(key):
    return np.uint64(int.from_bytes(key[:8], "little")), np.uint64(
        int.from_bytes(key[8:], "little")
    )


def kernel_64(key, message, before=b"", after=b""):
    text = np.frombuffer(before + message + after, np.uint8)
    tag = sip_hash(*words(key), text, len(before), len(before) + len(message))
    return int(tag).to_bytes(8, "little")


def kernel_128(key, message):
    low, high = sip_hash_128(*words(key), np.frombuffer(message, np.uint8), 0, len(message))
    return int(low).to_bytes(8, "little") + int(high).to_bytes(8, "little")


@pytest.mark.parametrize("length", sorted(VECTORS_64))
def test_the_published_64_bit_vectors_hold(length):
    message = bytes(range(length))
    assert siphash(KEY, message).hex() == VECTORS_64[length]
    assert kernel_64(KEY, message).hex() == VECTORS_64[length]


@pytest.mark.parametrize("length", sorted(VECTORS_128))
def test_the_published_128_bit_vectors_hold(length):
    message = bytes(range(length))
    assert siphash(KEY, message, 16).hex() == VECTORS_128[length]
    assert kernel_128(KEY, message).hex() == VECTORS_128[length]


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=300), st.binary(max_size=9))
def test_a_slice_of_a_text_has_the_hash_of_that_slice_alone(key, message, around):
    assert kernel_64(key, message, around, around) == siphash(key, message)
    assert kernel_128(key, message) == siphash(key, message, 16)


@given(st.binary(max_size=40), st.binary(max_size=5))
def test_folding_strips_ascii_blanks_and_lowers_ascii_letters(message, around):
    text = np.frombuffer(around + message + around, np.uint8)
    out = np.zeros(64, np.uint8)
    count = fold_text(text, len(around), len(around) + len(message), out)
    assert out[:count].tobytes() == message.strip().lower()
