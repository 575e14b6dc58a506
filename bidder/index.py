"""The inverted index over targeting expressions: from who names what to blocks of bits.

An expression is everything about a line item that an opportunity's texts are held against: its
targeting, seat, ad category, advertiser domain and formats. Many line items share one, so the index
has a bit for each expression, not for each line item. For every (table, value) that some expression
names there is a row of bits, cut into groups of 512 expressions; only the blocks that differ from
what holds for a value that nobody names are stored. The arrays are sections of the snapshot, see
``market.snapshot.SnapshotArrays``; ``bidder.kernels_match`` reads them.

Dimension names: X = expressions, V = values that are named, N = (expression, value) pairs,
G = groups of 512 expressions, S = stored blocks, T = slots of the hash table (a power of two).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bidder.kernels_match import fill_index_keys
from market.opportunity import DIMENSION_COUNT
from market.snapshot import (
    GROUP_SIZE,
    GROUP_WORDS,
    INDEX_SLOT_DTYPE,
    TABLE_COUNT,
)

_SLOTS_MIN = 16


class Names(NamedTuple):
    """Which values every expression names.

    Attributes:
        asks: [X] uint64, bit t: the expression takes only values of table t that it names.
        tables: [V] int64, a ``market.snapshot.Table`` each; ascending by (table, code).
        codes: [V] uint64.
        values: [N] index of a value; for a dimension a pair means that the expression treats this
            value otherwise than one that it does not name, for a list that it names it.
        owners: [N] index of the expression; no pair occurs twice.
    """

    asks: npt.NDArray[np.uint64]
    tables: npt.NDArray[np.int64]
    codes: npt.NDArray[np.uint64]
    values: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]


class Index(NamedTuple):
    """Sections of the snapshot, see ``market.snapshot.SnapshotArrays``."""

    index_slots: npt.NDArray[np.void]
    index_blocks: npt.NDArray[np.uint64]
    index_defaults: npt.NDArray[np.uint64]
    index_named: npt.NDArray[np.uint8]


EMPTY_INDEX = Index(
    index_slots=np.zeros(_SLOTS_MIN, INDEX_SLOT_DTYPE),
    index_blocks=np.zeros((0, GROUP_WORDS), np.uint64),
    index_defaults=np.zeros((1, TABLE_COUNT, GROUP_WORDS), np.uint64),
    index_named=np.zeros(TABLE_COUNT, np.uint8),
)
"""The index over no expressions."""


def build_index(names: Names) -> Index:
    """Returns the index of these expressions; equal names give equal arrays."""
    groups = max(-(-names.asks.shape[0] // GROUP_SIZE), 1)
    defaults = _defaults(names.asks, groups)
    # One stored block for every (value, group) in which an expression names the value.
    group = names.owners // GROUP_SIZE
    stored, place = np.unique(names.values * groups + group, return_inverse=True)
    stored_value, stored_group = stored // groups, stored % groups
    table = names.tables[stored_value]
    blocks = np.where(
        (table < DIMENSION_COUNT)[:, np.newaxis], defaults[stored_group, table], np.uint64(0)
    )
    bit = names.owners % GROUP_SIZE
    np.bitwise_xor.at(
        blocks.reshape(-1),
        place * GROUP_WORDS + bit // 64,
        np.uint64(1) << (bit % 64).astype(np.uint64),
    )
    count = names.tables.shape[0]
    values = np.zeros(count, INDEX_SLOT_DTYPE)
    values["first"] = np.searchsorted(stored_value, np.arange(count))
    np.bitwise_or.at(
        values["present"],
        (stored_value, stored_group // 64),
        np.uint64(1) << (stored_group % 64).astype(np.uint64),
    )
    keys = np.empty(count, np.uint64)
    fill_index_keys(names.tables, names.codes, keys)
    values["key"] = keys
    named = np.zeros(TABLE_COUNT, np.uint8)
    named[names.tables] = 1
    # A dimension of which every value that is asked for is refused too: nobody takes anything.
    asked = int(np.bitwise_or.reduce(names.asks, initial=0))
    named[:DIMENSION_COUNT] |= np.array(
        [asked >> table & 1 for table in range(DIMENSION_COUNT)], np.uint8
    )
    return Index(_hashed(values), blocks, defaults, named)


def _defaults(asks: npt.NDArray[np.uint64], groups: int) -> npt.NDArray[np.uint64]:
    """Returns [G, TABLE_COUNT, GROUP_WORDS]: by table, who takes a value that nobody names."""
    bits = np.zeros((TABLE_COUNT, groups * GROUP_SIZE), np.uint8)
    for table in range(TABLE_COUNT):
        bits[table, : asks.shape[0]] = (asks >> np.uint64(table) & np.uint64(1)) == 0
    words = np.packbits(bits, axis=1, bitorder="little").view(np.uint64)
    by_group = words.reshape(TABLE_COUNT, groups, GROUP_WORDS).transpose(1, 0, 2)
    return np.ascontiguousarray(by_group)


def _hashed(values: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Returns [T]: the values by open addressing with linear probing, at most two thirds full.

    All values move at once, one probe a round; of those that meet in a slot the first stays.
    """
    size = _SLOTS_MIN
    while 2 * size < 3 * values.shape[0]:
        size *= 2
    slots = np.zeros(size, INDEX_SLOT_DTYPE)
    pending = np.arange(values.shape[0])
    at = (values["key"] >> np.uint64(32)).astype(np.int64) & (size - 1)
    while pending.size:
        slot, first = np.unique(at[pending], return_index=True)
        is_free = slots["key"][slot] == 0
        placed = pending[first[is_free]]
        slots[slot[is_free]] = values[placed]
        pending = np.setdiff1d(pending, placed, assume_unique=True)
        at[pending] = (at[pending] + 1) & (size - 1)
    return slots
