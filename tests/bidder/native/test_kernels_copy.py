"""Copying bytes: the compiled copy against Python's slices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.native.kernels_copy import copy_bytes
from market.kernel import bare_kernel

pytestmark = pytest.mark.plain


@bare_kernel
def copied(source, first, count, out, at):
    """``copy_bytes`` as kernels call it: from Python it is only its slow twin."""
    return copy_bytes(source, first, count, out, at)


@given(st.binary(max_size=300), st.data())
def test_what_is_copied_is_the_slice_and_nothing_beside_it(text, data):
    first = data.draw(st.integers(0, len(text)))
    count = data.draw(st.integers(0, len(text) - first))
    at = data.draw(st.integers(0, 9))
    source = np.frombuffer(text, np.uint8).copy()
    out = np.full(at + count + 9, 255, np.uint8)
    assert copied(source, np.int32(first), np.int32(count), out, at) == at + count
    expected = b"\xff" * at + text[first : first + count] + b"\xff" * 9
    assert out.tobytes() == expected
    assert source.tobytes() == text


@given(st.binary(min_size=20, max_size=300), st.integers(0, 9), st.integers(0, 9))
def test_stretches_of_one_array_may_overlap(text, first, at):
    array = np.frombuffer(text, np.uint8).copy()
    copied(array, first, len(text) - 10, array, at)
    expected = bytearray(text)
    expected[at : at + len(text) - 10] = text[first : first + len(text) - 10]
    assert array.tobytes() == expected
