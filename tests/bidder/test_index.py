"""The inverted index against sets: who takes, asks for or refuses which value."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.index import Names, build_index
from bidder.kernels_match import bit_count, find_slot, place_of
from market.opportunity import DIMENSION_COUNT, Dimension
from market.snapshot import GROUP_SIZE, TABLE_COUNT, Table

pytestmark = pytest.mark.plain

TABLES = (Dimension.COUNTRY, Dimension.OS, Table.SEGMENT, Table.SEAT)


def names_of(named, asks):
    """``named``: a set of (table, code) per expression."""
    values = sorted(set().union(*named))
    pairs = [(values.index(value), x) for x, mine in enumerate(named) for value in mine]
    return Names(
        asks=np.array(asks, np.uint64),
        tables=np.array([table for table, _ in values], np.int64),
        codes=np.array([code for _, code in values], np.uint64),
        values=np.array([value for value, _ in pairs], np.int64),
        owners=np.array([x for _, x in pairs], np.int64),
    )


def bits_of(words):
    return np.unpackbits(words.view(np.uint8), bitorder="little")


def holders(index, table, code):
    """Expressions whose bit is set for this value, over all groups."""
    slot = find_slot(index.index_slots, table, np.uint64(code))
    found = set()
    for group in range(index.index_defaults.shape[0]):
        words = index.index_defaults[group, table]
        if slot >= 0:
            place = place_of(index.index_slots[slot], group)
            is_dimension = table < DIMENSION_COUNT
            words = index.index_blocks[place] if place >= 0 else words * np.uint64(is_dimension)
        found |= {group * GROUP_SIZE + int(bit) for bit in np.flatnonzero(bits_of(words.copy()))}
    return found


@given(st.integers(0, 2**32), st.sampled_from((1, 40, 600, 1_500)))
def test_a_value_has_the_bits_of_those_that_treat_it_so(seed, count):
    rng = random.Random(seed)
    asks = [sum(1 << table for table in TABLES if rng.random() < 0.5) for _ in range(count)]
    codes = [rng.randrange(1, 2**64) for _ in range(5)]
    named = [
        {(int(table), rng.choice(codes)) for table in TABLES if rng.random() < 0.1}
        for _ in range(count)
    ]
    index = build_index(names_of(named, asks))
    for table in map(int, TABLES):
        open_to_all = {x for x in range(count) if not asks[x] >> table & 1}
        assert holders(index, table, 1 << 63) == open_to_all
        for code in codes:
            mine = {x for x in range(count) if (table, code) in named[x]}
            if not mine:
                assert find_slot(index.index_slots, table, np.uint64(code)) == -1
            elif table < DIMENSION_COUNT:
                assert holders(index, table, code) == open_to_all ^ mine
            else:
                assert holders(index, table, code) == mine


def test_a_dimension_that_is_asked_for_without_a_value_is_not_passed_over():
    """Whoever includes and excludes the same value takes nothing, and nobody names anything."""
    index = build_index(names_of([set(), {(int(Table.SEAT), 5)}], [1 << Dimension.OS, 0]))
    assert np.flatnonzero(index.index_named).tolist() == [Dimension.OS, Table.SEAT]
    assert index.index_defaults.shape == (1, TABLE_COUNT, 8)


@given(st.integers(0, 2**64 - 1))
def test_set_bits_are_counted(word):
    assert bit_count(np.uint64(word)) == word.bit_count()
