"""From a key's bytes to what is done with its value: one multiplication and one comparison."""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bidder.native.fields import KEY_MULTIPLIERS, KEY_TABLES
from bidder.native.kernels_load import byte_at, word_at
from bidder.native.kernels_name import KEPT
from bidder.native.kernels_scan import (
    IS_ESCAPED,
    MALFORMED,
    PLACE,
    string_end,
    value_start,
)
from bidder.native.vocabulary import CURRENCY_MULTIPLIER, CURRENCY_TABLE
from bidder.native.wire import Bail
from bidder.native.words import KEY_BYTES_MAX, SECOND_WORD, THIRD_WORD
from market.kernel import bare_kernel as kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]

_ESCAPE: Final = -int(Bail.ESCAPE)
_SECOND = np.uint64(SECOND_WORD)
_THIRD = np.uint64(THIRD_WORD)
_ROW_SHIFT = np.uint64(57)
_NONE = np.uint64(0)
_UPPER = np.uint64(0xDFDFDFDFDFDFDFDF)
_QUOTE = 34


@kernel
def key_row(first: np.uint64, second: np.uint64, third: np.uint64, multiplier: np.uint64) -> int:
    """Returns the row of a word table in which three words may stand (`words.key_slot`)."""
    return np.int64(((first ^ second * _SECOND ^ third * _THIRD) * multiplier) >> _ROW_SHIFT)


@kernel
def entry_of(body: Bytes, first: int, last: int, kind: int) -> int:
    """Returns the packed entry (`fields.packed`) of the key body[first:last], 0 if none."""
    length = last - first
    if length > KEY_BYTES_MAX:
        return 0
    one = word_at(body, first) & KEPT[min(length, 8)]
    two = _NONE
    three = _NONE
    if length > 8:
        two = word_at(body, first + 8) & KEPT[min(length - 8, 8)]
        if length > 16:
            three = word_at(body, first + 16) & KEPT[length - 16]
    row = key_row(one, two, three, KEY_MULTIPLIERS[kind])
    if (
        KEY_TABLES[kind, row, 0] != one
        or KEY_TABLES[kind, row, 1] != two
        or KEY_TABLES[kind, row, 2] != three
    ):
        return 0
    return np.int64(KEY_TABLES[kind, row, 3])


@kernel
def read_key(body: Bytes, at: int, last: int, kind: int) -> tuple[int, int]:
    """Returns (where the value begins, packed entry) of the key at ``at`` in an object of a kind.

    A key with escapes bails: it may be a known one in disguise.
    """
    if byte_at(body, at) != _QUOTE:
        return MALFORMED, 0
    end = string_end(body, at + 1, last)
    if end < 0:
        return end, 0
    if end & IS_ESCAPED:
        return _ESCAPE, 0
    end &= PLACE
    return value_start(body, end + 1, last), entry_of(body, at + 1, end, kind)


@kernel
def currency_at(body: Bytes, first: int, last: int) -> int:
    """Returns the ISO 4217 number of the ASCII text body[first:last] without blanks, 0 if none."""
    if last - first != 3:
        return 0
    word = word_at(body, first) & KEPT[3]
    for i in range(3):
        if not 65 <= byte_at(body, first + i) & 0xDF <= 90:
            return 0
    word &= _UPPER
    row = key_row(word, _NONE, _NONE, CURRENCY_MULTIPLIER)
    return np.int64(CURRENCY_TABLE[row, 3]) if CURRENCY_TABLE[row, 0] == word else 0
