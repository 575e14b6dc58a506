"""Where what a request says is put down: the layout of the reader's cells.

A cell is an int64. A request's own come first, then a row for each imp and each deal, then the
frames of the objects that are open while it is read (`bidder.native.kernels_read`).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import numpy as np

from bidder.native.wire import CELLS_MAX, DEALS_MAX, IMPS_MAX
from market.opportunity import CURRENCY_COUNT_MAX, DIMENSION_COUNT

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

LIST_CELLS: Final = 4
"""Of a list: first and count of its staged codes, number of elements, where it begins."""
GROUP_COUNT: Final = 5
"""Memo keys under way at once (`bidder.native.fields.Group`)."""
ABSENT: Final = -(2**63)
"""In a cell: the field was not sent, or null."""


class Field(enum.IntEnum):
    """Fields at fault that the kernels name themselves; further numbers are the reader's."""

    NONE = 0
    APP = 1
    DOOH = 2
    IMP_ID = 3
    AUCTION_TYPE = 4
    DEALS = 5


FIELD_NAMES: Final = ("", "app", "dooh", "imp.id", "at", "imp.pmp.deals")
assert len(FIELD_NAMES) == len(Field)


class Cell(enum.IntEnum):
    """Places of what a request says once. Codes are stored as the int64 of the same bits."""

    ID = 0
    TMAX = 2
    TEST = 3
    AUCTION_TYPE = 4
    CATEGORY_TAXONOMY = 5
    CHANNEL_TAXONOMY = 6
    CONTENT_TAXONOMY = 7
    HAS_SITE = 8
    HAS_APP = 9
    HAS_DOOH = 10
    LIVESTREAM = 11
    DOMAIN = 12
    BUNDLE = 15
    PUBLISHER = 16
    LANGUAGE_TAG = 17
    CONTENT_LANGUAGE_TAG = 18
    BIRTH_YEAR = 19
    BUYER_ID = 20
    USER_ID = 22
    DEVICE_ID = 24
    UTC_OFFSET = 26
    LATITUDE = 27
    LONGITUDE = 29
    GEO_TYPE = 31
    IP_SERVICE = 32
    ACCURACY = 33
    HAS_GEO = 34
    HAS_DEVICE = 35
    HAS_USER = 36
    HAS_HINTS = 37
    CURRENCIES = 38
    IMP_COUNT = 47
    DEAL_COUNT = 48
    STAGED_COUNT = 49
    EID_COUNT = 50
    EXT_EID_COUNT = 51
    HASHES = 52
    SEGMENTS = 72
    CHANNEL_CATEGORIES = 76
    SECTION_CATEGORIES = 80
    PAGE_CATEGORIES = 84
    CONTENT_CATEGORIES = 88
    CHANNEL_KEYWORDS = 92
    CHANNEL_WORDS = 96
    CONTENT_KEYWORDS = 100
    CONTENT_WORDS = 104
    SEATS_ALLOWED = 108
    SEATS_BLOCKED = 112
    CATEGORIES_ALLOWED = 116
    CATEGORIES_BLOCKED = 120
    ADVERTISERS_BLOCKED = 124
    APPS_BLOCKED = 128
    USER_KEYWORDS = 132
    USER_WORDS = 136
    EID_SOURCES = 140
    EXT_EID_SOURCES = 144
    LANGUAGES = 148
    LANGUAGE_TAGS = 152
    DIMENSIONS = 156


CELL_COUNT: Final = Cell.DIMENSIONS + DIMENSION_COUNT
HASH_WORDS: Final = 4
"""Words of a hash under way: the state of SipHash. One for each group, from `Cell.HASHES`."""
assert Cell.IMP_COUNT - Cell.CURRENCIES == 1 + CURRENCY_COUNT_MAX
assert Cell.SEGMENTS - Cell.HASHES == GROUP_COUNT * HASH_WORDS


class ImpCell(enum.IntEnum):
    """Places of what an imp says, from the imp's first cell."""

    ID = 0
    FLOOR = 2
    FLOOR_CURRENCY = 4
    IS_SECURE = 5
    TAG = 6
    IS_PRIVATE = 7
    DEAL_FIRST = 8
    DEAL_COUNT = 9
    SLOT_KEY = 10


class DealCell(enum.IntEnum):
    """Places of what a deal says, from the deal's first cell."""

    ID = 0
    FLOOR = 2
    FLOOR_CURRENCY = 4
    AUCTION_TYPE = 5
    IS_GUARANTEED = 6
    SEATS = 7
    DOMAINS = 11


IMP_CELLS: Final = 16
DEAL_CELLS: Final = 16
IMPS_AT: Final = CELL_COUNT
DEALS_AT: Final = IMPS_AT + IMPS_MAX * IMP_CELLS
FRAMES_AT: Final = DEALS_AT + DEALS_MAX * DEAL_CELLS
"""First cells of the rows of imps and deals, and of the objects that are open (`kernels_read`)."""
FRAMES_MAX: Final = 12
FRAME_CELLS: Final = 4
assert FRAMES_AT + FRAMES_MAX * FRAME_CELLS <= CELLS_MAX
assert len(ImpCell) <= IMP_CELLS


def _blank_cells(count: int, zeros: Sequence[int]) -> npt.NDArray[np.int64]:
    cells = np.full(count, ABSENT, np.int64)
    cells[list(zeros)] = 0
    return cells


_ZERO_CELLS: Final = (
    Cell.HAS_SITE, Cell.HAS_APP, Cell.HAS_DOOH, Cell.HAS_GEO, Cell.HAS_DEVICE, Cell.HAS_USER,
    Cell.HAS_HINTS, Cell.DOMAIN, Cell.BUNDLE, Cell.PUBLISHER, Cell.LANGUAGE_TAG,
    Cell.CONTENT_LANGUAGE_TAG, Cell.IMP_COUNT, Cell.DEAL_COUNT, Cell.STAGED_COUNT, Cell.EID_COUNT,
    Cell.EXT_EID_COUNT, *range(Cell.DIMENSIONS, CELL_COUNT),
)  # fmt: skip
BLANK_REQUEST: Final = _blank_cells(CELL_COUNT, _ZERO_CELLS)
BLANK_IMP: Final = _blank_cells(IMP_CELLS, (ImpCell.TAG, ImpCell.DEAL_COUNT))
BLANK_DEAL: Final = _blank_cells(DEAL_CELLS, ())
"""Cells of which nothing was sent: codes, counts and presences are 0, all else ABSENT."""
