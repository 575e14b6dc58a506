"""Who the user is, as ``bidder.privacy.identity`` says it, from where the ids lie in the body."""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

# An error leaves by a return at once, bytes are told apart by plain comparisons, which become jump
# tables: the rules that count returns and branches or want sets are for other code than this.
# ruff: noqa: PLR1714, SIM109

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bidder.native.cells import ABSENT, Cell
from bidder.native.kernels_key import key_row
from bidder.native.kernels_load import byte_at, word_at
from bidder.native.kernels_name import KEPT, lower_case, user_key_at
from bidder.native.vocabulary import PLACEHOLDER_MULTIPLIER, PLACEHOLDER_TABLE
from bidder.privacy.identity import ZEROED_DIGITS
from market.kernel import bare_kernel as kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Cells = npt.NDArray[np.int64]

_NONE = np.uint64(0)
_WORD_MAX = 16
_ZERO, _DASH, _BLANK = 48, 45, 32


@kernel
def is_placeholder(body: Bytes, first: int, last: int) -> bool:
    """Returns whether the ASCII text is a word that stands for no id, in any case."""
    length = last - first
    if length > _WORD_MAX:
        return False
    one = lower_case(word_at(body, first) & KEPT[min(length, 8)])
    two = lower_case(word_at(body, first + 8) & KEPT[max(length - 8, 0)])
    row = key_row(one, two, _NONE, PLACEHOLDER_MULTIPLIER)
    return (
        PLACEHOLDER_TABLE[row, 3] != _NONE
        and PLACEHOLDER_TABLE[row, 0] == one
        and PLACEHOLDER_TABLE[row, 1] == two
    )


@kernel
def zero_count(body: Bytes, first: int, last: int) -> int:
    """Returns how many zeros an id of zeros, dashes and blanks has; -1 for any other id."""
    count = 0
    for at in range(first, last):
        byte = byte_at(body, at)
        if byte == _ZERO:
            count += 1
        elif not (byte == _DASH or byte == _BLANK):
            return -1
    return count


@kernel
def is_zeroed(body: Bytes, cells: Cells) -> bool:
    """Returns whether the device's id is all zeros (``identity.is_zeroed``)."""
    first = cells[Cell.DEVICE_ID]
    if first == ABSENT:
        return False
    return zero_count(body, first, cells[Cell.DEVICE_ID + 1]) >= ZEROED_DIGITS


@kernel
def user_key_of(body: Bytes, cells: Cells, k0: np.uint64, k1: np.uint64) -> np.uint64:
    """Returns the pseudonym of the user: by buyeruid, id or the device's id; 0 if nobody."""
    for place in (Cell.BUYER_ID, Cell.USER_ID, Cell.DEVICE_ID):
        first, last = cells[place], cells[place + 1]
        if (
            first != ABSENT
            and zero_count(body, first, last) < 0
            and not is_placeholder(body, first, last)
        ):
            return user_key_at(k0, k1, body, first, last)
    return _NONE
