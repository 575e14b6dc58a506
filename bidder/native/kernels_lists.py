"""Lists of codes: from the order of the body into the order of the pool (``context.lists_of``)."""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

# Errors are handed on as counts below 0, and taxonomies told apart by plain comparisons.
# ruff: noqa: C901, PLR1714

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bidder.native.cells import ABSENT, Cell
from bidder.native.kernels_load import byte_at
from bidder.native.kernels_name import code_at
from bidder.native.kernels_scan import (
    IS_ESCAPED,
    PLACE,
    first_inside,
    next_inside,
    string_end,
)
from bidder.native.kernels_value import write_integer
from bidder.native.vocabulary import EIDS, SEGMENTS
from bidder.native.wire import BODY_PAD, CODES_MAX, TEXT_MAX, Bail
from market.kernel import bare_kernel as kernel
from market.openrtb_reading import DOMAIN_CHARS_MAX
from market.opportunity import LANGUAGE_COUNT_MAX, CodeList

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Cells = npt.NDArray[np.int64]
    Codes = npt.NDArray[np.uint64]

_CAPACITY: Final = -int(Bail.CAPACITY)
_ESCAPE: Final = -int(Bail.ESCAPE)
_TYPE: Final = -int(Bail.TYPE)
_QUOTE, _COLON, _OPEN_ARRAY, _CLOSE_ARRAY, _POINT = 34, 58, 91, 93, 46
_WWW = np.uint64(int.from_bytes(b"www.", "little"))
_FOUR_BYTES = np.uint64(0xFFFFFFFF)
_CASE = np.uint64(0x20202020)
_TEXT_END = TEXT_MAX - BODY_PAD


@kernel
def add_list(cells: Cells, place: int, staged: Codes, codes: Codes, count: int) -> int:
    """Appends a staged list to the pool; returns the new count of the pool, or ``-CAPACITY``."""
    first, length = cells[place], cells[place + 1]
    if first == ABSENT or count < 0:
        return count  # not sent, or an earlier list did not fit
    if count + length > CODES_MAX:
        return _CAPACITY
    for i in range(length):
        codes[count + i] = staged[first + i]
    return count + length


@kernel
def is_first_taxonomy(taxonomy: int) -> bool:
    """Returns whether categories go by their plain names: IAB content taxonomy 1.0, or unsaid."""
    return taxonomy == ABSENT or taxonomy == 1


@kernel
def add_categories(
    body: Bytes, last: int, place: int, taxonomy: int, cells: Cells, staged: Codes, codes: Codes,
    text: Bytes, count: int,
) -> int:  # fmt: skip
    """Appends a list of categories, each as ``6:483`` in another taxonomy than the first."""
    if cells[place] == ABSENT or is_first_taxonomy(taxonomy) or count < 0:
        return add_list(cells, place, staged, codes, count)
    return _add_prefixed(body, last, cells[place + 3], taxonomy, codes, text, count)


@kernel
def _add_prefixed(
    body: Bytes, last: int, at: int, taxonomy: int, codes: Codes, text: Bytes, count: int
) -> int:
    """Appends the codes of the array at ``at`` once more, with the taxonomy before each text."""
    prefix = write_integer(taxonomy, text)
    text[prefix] = _COLON
    prefix += 1
    at = first_inside(body, at, last, _OPEN_ARRAY)
    while byte_at(body, at) != _CLOSE_ARRAY:
        # Read before: it is an array of texts and integers.
        if byte_at(body, at) != _QUOTE:
            return _TYPE
        end = string_end(body, at + 1, last)
        if end & IS_ESCAPED:
            return _ESCAPE
        end &= PLACE
        length = end - at - 1
        if length > 0:
            if count >= CODES_MAX or prefix + length > _TEXT_END:
                return _CAPACITY
            for i in range(length):
                text[prefix + i] = byte_at(body, at + 1 + i)
            codes[count] = code_at(text, 0, prefix + length)
            count += 1
        at = next_inside(body, end + 1, last, _CLOSE_ARRAY)
    return count


@kernel
def add_code(codes: Codes, code: np.uint64, count: int) -> int:
    """Appends a code, unless it is 0; returns the new count, or ``-CAPACITY``."""
    if code == np.uint64(0) or count < 0:
        return count
    if count >= CODES_MAX:
        return _CAPACITY
    codes[count] = code
    return count + 1


@kernel
def add_domains(body: Bytes, first: int, last: int, codes: Codes, count: int) -> int:
    """Appends a domain and those above it (``market.openrtb_reading.domain_and_parents``).

    What is too long to be a domain is left to the default path.
    """
    if last - first > DOMAIN_CHARS_MAX:
        return -Bail.CAPACITY
    while first < last and byte_at(body, first) == 32:
        first += 1
    while first < last and byte_at(body, last - 1) == 32:
        last -= 1
    is_www = last - first >= 4
    if is_www:
        for i in range(4):
            byte = byte_at(body, first + i)
            is_www = is_www and (byte == _POINT if i == 3 else byte | 32 == 119)
    if is_www:
        first += 4
    labels = 1
    for at in range(first, last):
        if byte_at(body, at) == _POINT:
            labels += 1
    if labels == 1:
        return add_code(codes, code_at(body, first, last), count) if last > first else count
    start = first
    for _ in range(labels - 1):
        count = add_code(codes, code_at(body, start, last), count)
        while byte_at(body, start) != _POINT:
            start += 1
        start += 1
    return count


@kernel
def end_list(shared: np.void, which: int, start: int, count: int) -> int:
    """Notes the slice of a list that began at ``start``; returns the count, which may be -cause."""
    shared["list_first"][which] = start
    shared["list_count"][which] = count - start
    return count


@kernel
def _add_content(
    body: Bytes, last: int, cells: Cells, staged: Codes, codes: Codes, text: Bytes,
    shared: np.void, count: int,
) -> int:  # fmt: skip
    """Appends CATEGORY and KEYWORD."""
    start = count
    taxonomy = cells[Cell.CHANNEL_TAXONOMY]
    for place in (Cell.CHANNEL_CATEGORIES, Cell.SECTION_CATEGORIES, Cell.PAGE_CATEGORIES):
        count = add_categories(body, last, place, taxonomy, cells, staged, codes, text, count)
    place, taxonomy = Cell.CONTENT_CATEGORIES, cells[Cell.CONTENT_TAXONOMY]
    count = add_categories(body, last, place, taxonomy, cells, staged, codes, text, count)
    start = end_list(shared, CodeList.CATEGORY, start, count)
    for place in (
        Cell.CHANNEL_KEYWORDS, Cell.CHANNEL_WORDS, Cell.CONTENT_KEYWORDS, Cell.CONTENT_WORDS,
    ):  # fmt: skip
        count = add_list(cells, place, staged, codes, count)
    return end_list(shared, CodeList.KEYWORD, start, count)


@kernel
def _add_rules(
    body: Bytes, last: int, cells: Cells, staged: Codes, codes: Codes, text: Bytes,
    shared: np.void, count: int,
) -> int:  # fmt: skip
    """Appends SEAT_ALLOWED to APP_BLOCKED."""
    taxonomy = cells[Cell.CATEGORY_TAXONOMY]
    start = count
    count = add_list(cells, Cell.SEATS_ALLOWED, staged, codes, count)
    start = end_list(shared, CodeList.SEAT_ALLOWED, start, count)
    count = add_list(cells, Cell.SEATS_BLOCKED, staged, codes, count)
    start = end_list(shared, CodeList.SEAT_BLOCKED, start, count)
    place = Cell.CATEGORIES_ALLOWED
    count = add_categories(body, last, place, taxonomy, cells, staged, codes, text, count)
    start = end_list(shared, CodeList.CATEGORY_ALLOWED, start, count)
    place = Cell.CATEGORIES_BLOCKED
    count = add_categories(body, last, place, taxonomy, cells, staged, codes, text, count)
    start = end_list(shared, CodeList.CATEGORY_BLOCKED, start, count)
    count = add_list(cells, Cell.ADVERTISERS_BLOCKED, staged, codes, count)
    start = end_list(shared, CodeList.ADVERTISER_BLOCKED, start, count)
    count = add_list(cells, Cell.APPS_BLOCKED, staged, codes, count)
    return end_list(shared, CodeList.APP_BLOCKED, start, count)


@kernel
def _add_user(
    cells: Cells, staged: Codes, codes: Codes, permission: int, shared: np.void, count: int
) -> int:
    """Appends USER_KEYWORD and EID_SOURCE."""
    start = count
    if permission & SEGMENTS:
        count = add_list(cells, Cell.USER_KEYWORDS, staged, codes, count)
        count = add_list(cells, Cell.USER_WORDS, staged, codes, count)
    start = end_list(shared, CodeList.USER_KEYWORD, start, count)
    if permission & EIDS:
        place = Cell.EID_SOURCES if cells[Cell.EID_COUNT] > 0 else Cell.EXT_EID_SOURCES
        count = add_list(cells, place, staged, codes, count)
    return end_list(shared, CodeList.EID_SOURCE, start, count)


@kernel
def _add_site(
    body: Bytes, cells: Cells, codes: Codes, text: Bytes, shared: np.void, count: int
) -> int:
    """Appends SITE and TAXONOMY."""
    start = count
    if cells[Cell.HAS_SITE]:
        if cells[Cell.DOMAIN + 1] != ABSENT:
            first, stop = cells[Cell.DOMAIN + 1], cells[Cell.DOMAIN + 2]
            count = add_domains(body, first, stop, codes, count)
    elif cells[Cell.HAS_APP]:
        name = cells[Cell.BUNDLE] if cells[Cell.BUNDLE] != 0 else cells[Cell.DOMAIN]
        count = add_code(codes, np.uint64(name), count)
    start = end_list(shared, CodeList.SITE, start, count)
    taxonomy = cells[Cell.CATEGORY_TAXONOMY]
    blocked = Cell.CATEGORIES_BLOCKED
    if not is_first_taxonomy(taxonomy) and cells[blocked] != ABSENT and cells[blocked + 2] > 0:
        length = write_integer(taxonomy, text)
        text[length] = _COLON
        count = add_code(codes, code_at(text, 0, length + 1), count)
    return end_list(shared, CodeList.TAXONOMY, start, count)


@kernel
def fill_lists(
    body: Bytes, last: int, permission: int, cells: Cells, staged: Codes, codes: Codes,
    text: Bytes, shared: np.void,
) -> int:  # fmt: skip
    """Fills the pool and the slices of the shared record; returns the pool's count or -cause."""
    count = 0
    if permission & SEGMENTS:
        count = add_list(cells, Cell.SEGMENTS, staged, codes, count)
    end_list(shared, CodeList.SEGMENT, 0, count)
    count = _add_content(body, last, cells, staged, codes, text, shared, count)
    count = _add_rules(body, last, cells, staged, codes, text, shared, count)
    count = _add_user(cells, staged, codes, permission, shared, count)
    return _add_site(body, cells, codes, text, shared, count)


@kernel
def fill_languages(cells: Cells, staged: Codes, shared: np.void) -> None:
    """Fills the languages of the shared record: ``wlang``, else ``wlangb``; the first few."""
    languages = shared["languages"]
    for i in range(LANGUAGE_COUNT_MAX):
        languages[i] = np.uint64(0)
    place = Cell.LANGUAGES
    if cells[place] == ABSENT or cells[place + 2] == 0:
        place = Cell.LANGUAGE_TAGS
    if cells[place] == ABSENT:
        return
    for i in range(min(cells[place + 1], LANGUAGE_COUNT_MAX)):
        languages[i] = staged[cells[place] + i]
