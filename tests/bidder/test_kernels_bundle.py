"""Tuples of arrays behind an address: the same memory, whoever looks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from bidder.kernels_bundle import Bundle, opened
from market.kernel import bare_kernel, compiled_for

pytestmark = pytest.mark.plain


class Inner(NamedTuple):
    counts: np.ndarray
    table: np.ndarray


class Outer(NamedTuple):
    inner: Inner
    factor: np.ndarray


@bare_kernel
def add_up(address, kind, out):
    outer, more = opened(address, kind)
    outer.inner.counts[0] += 1
    total = outer.factor[0] * more[0]
    for row in range(outer.inner.table.shape[0]):
        for column in range(outer.inner.table.shape[1]):
            total += outer.inner.table[row, column]
    out[0] = total


def test_a_kernel_reads_and_writes_the_very_arrays_of_a_bundle():
    counts, factor = np.zeros(2, np.int64), np.array([3.0])
    table = np.arange(6.0).reshape(2, 3)
    bundle = Bundle(Outer(Inner(counts, table), factor), np.array([10.0]))
    out = np.zeros(1)
    add_up(bundle.address, bundle.kind, out)
    assert out[0] == 15 + 30
    table[1, 2], factor[0] = 100.0, 4.0
    code = compiled_for(add_up, bundle.address, bundle.kind, out)
    code(bundle.address, bundle.kind, out)
    assert out[0] == 110 + 40
    assert counts.tolist() == [3, 0]
