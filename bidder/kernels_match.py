"""Matching as machine code: which line items an opportunity may be served by.

An inverted index: for every (table, value) that some line item names there is one bitset, and an
opportunity ANDs a few of them. Dimension names: W = words of a bitset.
"""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from market.decision import NoBidReason
from market.kernel import bare_kernel as kernel
from market.kernels import hash_pair
from market.opportunity import DIMENSION_COUNT, FORMAT_COUNT, CodeList
from market.snapshot import Table

if TYPE_CHECKING:
    import numpy.typing as npt

    from market.snapshot import SnapshotArrays


Record: TypeAlias = Any
"""One record of a structured array (``np.void``): numpy's stubs take its fields for arrays."""

_U0 = np.uint64(0)
_U1 = np.uint64(1)
_TABLE_FORMAT = int(Table.FORMAT)

R_FORMAT = int(NoBidReason.FORMAT_NOT_SERVED)
R_DIMENSION = int(NoBidReason.TARGETING_DIMENSION)

# Exchange rules over lists: (list, table, reason, 0 = must have one of them, 1 = must have none).
_RULES = np.array(
    [
        [CodeList.SEAT_ALLOWED, Table.SEAT, NoBidReason.SEAT_NOT_ALLOWED, 0],
        [CodeList.SEAT_BLOCKED, Table.SEAT, NoBidReason.SEAT_BLOCKED, 1],
        [CodeList.CATEGORY_ALLOWED, Table.AD_CATEGORY, NoBidReason.CATEGORY_NOT_ALLOWED, 0],
        [CodeList.CATEGORY_BLOCKED, Table.AD_CATEGORY, NoBidReason.CATEGORY_BLOCKED, 1],
        [CodeList.ADVERTISER_BLOCKED, Table.ADVERTISER_DOMAIN, NoBidReason.ADVERTISER_BLOCKED, 1],
        [CodeList.APP_BLOCKED, Table.APP_BUNDLE, NoBidReason.APP_BLOCKED, 1],
    ],
    np.int64,
)
# What a line item may target in lists: (list, asks, refuses, reason).
_AUDIENCE = np.array(
    [
        [CodeList.SEGMENT, Table.SEGMENT, Table.SEGMENT_EXCLUDED, NoBidReason.TARGETING_SEGMENT],
        [
            CodeList.CATEGORY,
            Table.CATEGORY,
            Table.CATEGORY_EXCLUDED,
            NoBidReason.TARGETING_CATEGORY,
        ],
        [CodeList.KEYWORD, Table.KEYWORD, Table.KEYWORD_EXCLUDED, NoBidReason.TARGETING_KEYWORD],
    ],
    np.int64,
)


@kernel
def find_row(
    row_keys: npt.NDArray[np.uint64], row_values: npt.NDArray[np.int32], table: int, code: np.uint64
) -> int:
    """Returns the bitset row of (table, code), -1 if no line item names that value."""
    key = hash_pair(np.uint64(table), code)
    last = np.uint64(row_keys.shape[0] - 1)
    slot = key & last
    while row_keys[slot] != _U0:
        if row_keys[slot] == key:
            return np.int64(row_values[slot])
        slot = (slot + _U1) & last
    return np.int64(-1)


@kernel
def _is_empty(words: npt.NDArray[np.uint64]) -> bool:
    seen = _U0
    for w in range(words.shape[0]):
        seen |= words[w]
    return seen == _U0


@kernel
def _union(
    arrays: SnapshotArrays,
    table: int,
    codes: npt.NDArray[np.uint64],
    first: int,
    count: int,
    out: npt.NDArray[np.uint64],
) -> bool:
    """Fills out[W] with the line items that some of ``codes`` names; True if any code is named."""
    is_named = False
    out[:] = _U0
    for k in range(first, first + count):
        row = find_row(arrays.row_keys, arrays.row_values, table, codes[k])
        if row >= 0:
            is_named = True
            for w in range(out.shape[0]):
                out[w] |= arrays.rows[row, w]
    return is_named


@kernel
def match_format(
    opportunity: Record, arrays: SnapshotArrays, words: npt.NDArray[np.uint64]
) -> None:
    """Fills words[W] with the line items that have a creative of an accepted format."""
    words[:] = _U0
    for bit in range(FORMAT_COUNT):
        if opportunity["formats"] & (1 << bit):
            row = find_row(arrays.row_keys, arrays.row_values, _TABLE_FORMAT, np.uint64(1 << bit))
            if row >= 0:
                for w in range(words.shape[0]):
                    words[w] |= arrays.rows[row, w]


@kernel
def match_rules(
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    arrays: SnapshotArrays,
    words: npt.NDArray[np.uint64],
    scratch: npt.NDArray[np.uint64],
) -> int:
    """Takes out of words[W] whom the exchange's allow and block lists forbid; reason if all."""
    for rule in range(_RULES.shape[0]):
        which = _RULES[rule, 0]
        count = opportunity["list_count"][which]
        if count == 0:
            continue
        first = opportunity["list_first"][which]
        is_named = _union(arrays, _RULES[rule, 1], codes, first, count, scratch)
        if _RULES[rule, 3] == 0:
            for w in range(words.shape[0]):
                words[w] &= scratch[w]
        elif is_named:
            for w in range(words.shape[0]):
                words[w] &= ~scratch[w]
        if _is_empty(words):
            return _RULES[rule, 2]
    return 0


@kernel
def match_dimensions(
    opportunity: Record, arrays: SnapshotArrays, words: npt.NDArray[np.uint64]
) -> int:
    """Takes out of words[W] who does not target this; the dimension that left nobody, else -1."""
    for d in range(DIMENSION_COUNT):
        row = np.int64(-1)
        if opportunity["dimensions"][d] != _U0:
            row = find_row(arrays.row_keys, arrays.row_values, d, opportunity["dimensions"][d])
        if row < 0:
            row = np.int64(arrays.any_rows[d])
        left = _U0
        for w in range(words.shape[0]):
            words[w] &= arrays.rows[row, w]
            left |= words[w]
        if left == _U0:
            return d
    return -1


@kernel
def match_audience(
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    arrays: SnapshotArrays,
    words: npt.NDArray[np.uint64],
    scratch: npt.NDArray[np.uint64],
) -> int:
    """Takes out of words[W] who asks for other lists, or refuses one of these."""
    for a in range(_AUDIENCE.shape[0]):
        first = opportunity["list_first"][_AUDIENCE[a, 0]]
        count = opportunity["list_count"][_AUDIENCE[a, 0]]
        _union(arrays, _AUDIENCE[a, 1], codes, first, count, scratch)
        row = np.int64(arrays.any_rows[_AUDIENCE[a, 1]])
        for w in range(words.shape[0]):
            words[w] &= arrays.rows[row, w] | scratch[w]
        if count and _union(arrays, _AUDIENCE[a, 2], codes, first, count, scratch):
            for w in range(words.shape[0]):
                words[w] &= ~scratch[w]
        if _is_empty(words):
            return _AUDIENCE[a, 3]
    return 0


@kernel
def match(
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    arrays: SnapshotArrays,
    words: npt.NDArray[np.uint64],
    scratch: npt.NDArray[np.uint64],
) -> tuple[int, int]:
    """Leaves in words[W] the line items that may serve; returns (reason, detail) if none, (0, 0).

    Bit i is line item row i. Order of the checks: formats, the exchange's allow and block lists,
    the single-valued dimensions, then segments, categories and keywords.
    """
    match_format(opportunity, arrays, words)
    if _is_empty(words):
        return R_FORMAT, 0
    reason = match_rules(opportunity, codes, arrays, words, scratch)
    if reason != 0:
        return reason, 0
    dimension = match_dimensions(opportunity, arrays, words)
    if dimension >= 0:
        return R_DIMENSION, dimension
    return match_audience(opportunity, codes, arrays, words, scratch), 0
