"""From a body to cells: follows the grammar of `bidder.native.fields` through nested objects.

One loop over keys: a key's entry says what becomes of its value; an object or an array of objects
that is read opens a frame. Values are read in `kernels_value`, meaning is `kernels_offer`'s.
"""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

# An error leaves by a return at once, bytes are told apart by plain comparisons, which become jump
# tables: the rules that count returns and branches or want sets are for other code than this.
# ruff: noqa: C901, PLR0911, PLR0912, PLR0915, PLR1714, SIM109

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bidder.native.cells import (
    ABSENT,
    BLANK_DEAL,
    BLANK_IMP,
    BLANK_REQUEST,
    DEAL_CELLS,
    DEALS_AT,
    FRAME_CELLS,
    FRAMES_AT,
    FRAMES_MAX,
    GROUP_COUNT,
    HASH_WORDS,
    IMP_CELLS,
    IMPS_AT,
    Cell,
    ImpCell,
)
from bidder.native.fields import Action, Group, Kind
from bidder.native.kernels_key import read_key
from bidder.native.kernels_load import byte_at
from bidder.native.kernels_name import absorb, finished_key, start_key
from bidder.native.kernels_scan import (
    MALFORMED,
    first_inside,
    is_null,
    next_inside,
    skip_space,
    skip_value,
)
from bidder.native.kernels_value import read_value
from bidder.native.wire import DEALS_MAX, IMPS_MAX, Bail
from market.kernel import bare_kernel as kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Cells = npt.NDArray[np.int64]
    Codes = npt.NDArray[np.uint64]

_TYPE: Final = -int(Bail.TYPE)
_DUPLICATE: Final = -int(Bail.DUPLICATE)
_CAPACITY: Final = -int(Bail.CAPACITY)
_DEPTH: Final = -int(Bail.DEPTH)
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY, _NULL = 123, 125, 91, 93, 110
_OBJECT, _OBJECTS = int(Action.OBJECT), int(Action.OBJECTS)
_REQUEST, _IMP, _DEAL = int(Kind.REQUEST), int(Kind.IMP), int(Kind.DEAL)
_SOURCE = int(Kind.SOURCE)  # the one object that senders fill with text; that is dropped
_SLOT = int(Group.SLOT)
_IMP_COUNT, _DEAL_COUNT = int(Cell.IMP_COUNT), int(Cell.DEAL_COUNT)
_HASHES = int(Cell.HASHES)
_SLOT_HASH = _HASHES + _SLOT * HASH_WORDS
_FIRST_DEAL, _DEALS_OF_IMP = int(ImpCell.DEAL_FIRST), int(ImpCell.DEAL_COUNT)
_SLOT_KEY = int(ImpCell.SLOT_KEY)
_END_OF_OBJECT = 0xFFFF
_ONE = np.uint64(1)


@kernel
def _fill(cells: Cells, place: int, blank: Cells) -> None:
    for i in range(blank.shape[0]):
        cells[place + i] = blank[i]


@kernel
def _new_row(kind: int, base: int, cells: Cells, k0: np.uint64, k1: np.uint64) -> int:
    """Returns the first cell of a new object's row: its own for an imp or a deal, else its owner's.

    ``-CAPACITY`` when there are too many.
    """
    if kind == _IMP:
        count = cells[_IMP_COUNT]
        if count >= IMPS_MAX:
            return _CAPACITY
        cells[_IMP_COUNT] = count + 1
        base = IMPS_AT + count * IMP_CELLS
        _fill(cells, base, BLANK_IMP)
        start_key(cells, _SLOT_HASH, k0, k1)
    elif kind == _DEAL:
        count = cells[_DEAL_COUNT]
        if count >= DEALS_MAX:
            return _CAPACITY
        cells[_DEAL_COUNT] = count + 1
        if cells[base + _FIRST_DEAL] == ABSENT:
            cells[base + _FIRST_DEAL] = count
        cells[base + _DEALS_OF_IMP] += 1
        base = DEALS_AT + count * DEAL_CELLS
        _fill(cells, base, BLANK_DEAL)
    return base


@kernel
def _open(body: Bytes, at: int, last: int, entry: int, base: int, cells: Cells) -> tuple[int, bool]:
    """Enters the value of an OBJECT or OBJECTS entry: (position, whether anything is inside).

    The position is that of the first key's object's bracket, or behind the value.
    """
    if byte_at(body, at) == _NULL:
        return (at + 4 if is_null(body, at) else MALFORMED), False
    if entry >> 8 & 255 == _OBJECT:
        if byte_at(body, at) != _OPEN_OBJECT:
            is_dropped = entry >> 24 & 255 == _SOURCE and byte_at(body, at) != _OPEN_ARRAY
            return (skip_value(body, at, last) if is_dropped else _TYPE), False
        place = entry >> 32
        if place != 0:
            cells[base + place - 1] = 1
        return at, True
    if byte_at(body, at) != _OPEN_ARRAY:
        return _TYPE, False
    at = first_inside(body, at, last, _OPEN_ARRAY)
    if at < 0:
        return at, False
    if byte_at(body, at) == _CLOSE_ARRAY:
        return at + 1, False
    return at, True


@kernel
def read_fields(
    body: Bytes, at: int, last: int, cells: Cells, staged: Codes, text: Bytes,
    k0: np.uint64, k1: np.uint64,
) -> int:  # fmt: skip
    """Reads the root object at ``at`` into cells and staged codes; returns the position behind it.

    A frame of an open object holds: where its row begins, the keys seen in it, its kind, and the
    entry by which it was opened.
    """
    _fill(cells, 0, BLANK_REQUEST)
    for group in range(1, GROUP_COUNT):
        start_key(cells, _HASHES + group * HASH_WORDS, k0, k1)
    depth = 0
    kind, base, entry = _REQUEST, 0, 0
    seen = np.uint64(0)
    at = first_inside(body, at, last, _OPEN_OBJECT)
    while at >= 0:
        if byte_at(body, at) == _CLOSE_OBJECT:
            at += 1
            if kind == _IMP:
                cells[base + _SLOT_KEY] = np.int64(finished_key(cells, _SLOT_HASH))
            if depth == 0:
                return at
            depth -= 1
            frame = FRAMES_AT + depth * FRAME_CELLS
            opened = entry
            base, kind, entry = cells[frame], cells[frame + 2], cells[frame + 3]
            seen = np.uint64(cells[frame + 1])
            if opened >> 8 & 255 == _OBJECTS:
                at = next_inside(body, at, last, _CLOSE_ARRAY)
                if at < 0:
                    return at
                if byte_at(body, at) != _CLOSE_ARRAY:
                    # The next element: as if its key had been read again.
                    at, kind, base, entry, seen, depth = _enter(
                        body, at, last, opened, kind, base, entry, seen, depth, cells, k0, k1
                    )
                    continue
                at += 1
            if opened >> 16 & 255 == _SLOT:
                absorb(cells, _SLOT_HASH, _END_OF_OBJECT, body, at, at)
            at = next_inside(body, at, last, _CLOSE_OBJECT)
            continue
        at, found = read_key(body, at, last, kind)
        if at < 0:
            return at
        if found == 0:
            at = skip_value(body, at, last)
        else:
            bit = _ONE << np.uint64(found & 63)
            if seen & bit:
                return _DUPLICATE
            seen |= bit
            action = found >> 8 & 255
            group = found >> 16 & 255
            if action == _OBJECT or action == _OBJECTS:
                at, is_inside = _open(body, at, last, found, base, cells)
                if at >= 0 and is_inside:
                    if group == _SLOT:
                        absorb(cells, _SLOT_HASH, kind << 8 | found & 255, body, at, at)
                    at, kind, base, entry, seen, depth = _enter(
                        body, at, last, found, kind, base, entry, seen, depth, cells, k0, k1
                    )
                    continue
            else:
                start = at
                place = base + (found >> 32) - 1
                at = read_value(body, at, last, action, place, cells, staged, text)
                if at >= 0 and group != 0:
                    state = _HASHES + group * HASH_WORDS
                    absorb(cells, state, kind << 8 | found & 255, body, start, at)
        if at < 0:
            return at
        at = next_inside(body, at, last, _CLOSE_OBJECT)
    return at


@kernel
def _enter(
    body: Bytes, at: int, last: int, found: int, kind: int, base: int, entry: int, seen: np.uint64,
    depth: int, cells: Cells, k0: np.uint64, k1: np.uint64,
) -> tuple[int, int, int, int, np.uint64, int]:  # fmt: skip
    """Puts the open object aside and enters the one at ``at``, which ``found`` is the entry of.

    Returns the position of the first key, and the new kind, base, entry, keys seen and depth.
    """
    if depth >= FRAMES_MAX:
        return _DEPTH, kind, base, entry, seen, depth
    if byte_at(body, at) != _OPEN_OBJECT:
        return _TYPE, kind, base, entry, seen, depth
    frame = FRAMES_AT + depth * FRAME_CELLS
    cells[frame], cells[frame + 1] = base, np.int64(seen)
    cells[frame + 2], cells[frame + 3] = kind, entry
    child = found >> 24 & 255
    if found >> 8 & 255 == _OBJECTS and found >> 32 != 0:
        cells[base + (found >> 32) - 1] += 1
    row = _new_row(child, base, cells, k0, k1)
    if row < 0:
        return row, kind, base, entry, seen, depth
    at = first_inside(body, at, last, _OPEN_OBJECT)
    return at, child, row, found, np.uint64(0), depth + 1


@kernel
def read_body(
    body: Bytes, first: int, last: int, cells: Cells, staged: Codes, text: Bytes,
    k0: np.uint64, k1: np.uint64,
) -> int:  # fmt: skip
    """Reads body[first:last], one JSON object and white space, into cells; returns 0 or -cause."""
    at = skip_space(body, first, last)
    if at >= last:
        return MALFORMED
    at = read_fields(body, at, last, cells, staged, text, k0, k1)
    if at < 0:
        return at
    return 0 if at <= last and skip_space(body, at, last) == last else MALFORMED
