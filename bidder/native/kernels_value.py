"""Values of single fields: text to codes, numbers to integers, into the cells of a request.

Every reader takes what the default path takes without a second thought, and bails on the rest: a
fraction where an integer belongs, a flag where text belongs, a scalar where an array belongs.
``null`` leaves a cell as it is, which is absent.
"""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

# An error leaves by a return at once, bytes are told apart by plain comparisons, which become jump
# tables: the rules that count returns and branches or want sets are for other code than this.
# ruff: noqa: C901, PLR0911, PLR1714, SIM110

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bidder.native.cells import ABSENT, Cell
from bidder.native.fields import Action
from bidder.native.kernels_key import currency_at
from bidder.native.kernels_load import byte_at
from bidder.native.kernels_name import code_at, is_blank
from bidder.native.kernels_scan import (
    IS_ESCAPED,
    IS_WIDE,
    NUMBER,
    PLACE,
    code_unit,
    first_inside,
    is_null,
    next_inside,
    number,
    skip_value,
    string_end,
    whole_number,
)
from bidder.native.wire import BODY_PAD, CODES_MAX, TEXT_MAX, Bail
from market.kernel import bare_kernel as kernel
from market.opportunity import CURRENCY_COUNT_MAX

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Cells = npt.NDArray[np.int64]
    Codes = npt.NDArray[np.uint64]

_TYPE: Final = -int(Bail.TYPE)
_ESCAPE: Final = -int(Bail.ESCAPE)
_CAPACITY: Final = -int(Bail.CAPACITY)
_REQUIRED: Final = -int(Bail.REQUIRED)
_UNREAD: Final = -int(Bail.UNREAD)
_TEXT: Final = -int(Bail.TEXT)
_STAGED = int(Cell.STAGED_COUNT)
_TEXT_END = TEXT_MAX - BODY_PAD
_QUOTE, _BACKSLASH, _COMMA, _NULL, _MINUS = 34, 92, 44, 110, 45
_OPEN_ARRAY, _CLOSE_ARRAY = 91, 93
_NO_CODE = np.uint64(0)
# Actions as plain integers: the compiler makes a jump table of comparisons with constants.
_UNREAD_FIELD = int(Action.UNREAD)
_INTEGER, _NUMBER, _CODE, _NUMBER_CODE = (
    int(action) for action in (Action.INTEGER, Action.NUMBER, Action.CODE, Action.NUMBER_CODE)
)
_CODES, _ONE_MORE, _KEYWORDS = (
    int(action) for action in (Action.CODES, Action.ONE_MORE, Action.KEYWORDS)
)
_SPAN, _ID, _CURRENCY, _CURRENCIES = (
    int(action) for action in (Action.SPAN, Action.ID, Action.CURRENCY, Action.CURRENCIES)
)
_NAME, _PRIMARY_CODE, _PRIMARY_CODES = (
    int(action) for action in (Action.NAME, Action.PRIMARY_CODE, Action.PRIMARY_CODES)
)


@kernel
def null_end(body: Bytes, at: int) -> int:
    """Returns the position behind ``null``; any other value there is of the wrong type."""
    return at + 4 if is_null(body, at) else _TYPE


@kernel
def is_digit_start(byte: int) -> bool:
    """Returns whether a number begins with the byte."""
    return byte == _MINUS or 48 <= byte <= 57


@kernel
def write_wide(unit: int, text: Bytes, count: int) -> int:
    """Writes a code point as UTF-8 to ``text`` from ``count`` on; returns the count behind it."""
    if unit < 0x80:
        text[count] = unit
        return count + 1
    if unit < 0x800:
        text[count] = 0xC0 | unit >> 6
        text[count + 1] = 0x80 | unit & 63
        return count + 2
    if unit < 0x10000:
        text[count] = 0xE0 | unit >> 12
        text[count + 1] = 0x80 | unit >> 6 & 63
        text[count + 2] = 0x80 | unit & 63
        return count + 3
    text[count] = 0xF0 | unit >> 18
    text[count + 1] = 0x80 | unit >> 12 & 63
    text[count + 2] = 0x80 | unit >> 6 & 63
    text[count + 3] = 0x80 | unit & 63
    return count + 4


@kernel
def unescape(body: Bytes, first: int, last: int, text: Bytes) -> int:
    """Writes the string text body[first:last], known to be well formed, without its escapes.

    Returns the bytes written. Control characters other than tab and line ends bail: Python strips
    some of them as white space.
    """
    count = 0
    at = first
    while at < last:
        if count > _TEXT_END - 4:
            return _CAPACITY
        byte = int(byte_at(body, at))
        if byte != _BACKSLASH:
            text[count] = byte
            count += 1
            at += 1
            continue
        byte = int(byte_at(body, at + 1))
        at += 2
        unit = byte
        if byte == 110:
            unit = 10
        elif byte == 114:
            unit = 13
        elif byte == 116:
            unit = 9
        elif byte == 98 or byte == 102:
            return _TEXT
        elif byte == 117:
            unit = code_unit(body, at)
            at += 4
            if unit < 32 and not (unit == 9 or unit == 10 or unit == 13):
                return _TEXT
            if 0xD800 <= unit <= 0xDBFF:
                unit = 0x10000 + (unit - 0xD800 << 10) + code_unit(body, at + 2) - 0xDC00
                at += 6
        count = write_wide(unit, text, count)
    return count


@kernel
def write_integer(value: int, text: Bytes) -> int:
    """Writes ``str(value)`` to ``text``; returns the bytes written, at most 20."""
    count = 0
    if value < 0:
        text[0] = _MINUS
        count = 1
        value = -value
    digits = 1
    rest = value // 10
    while rest:
        digits += 1
        rest //= 10
    for i in range(digits):
        text[count + digits - 1 - i] = 48 + value % 10
        value //= 10
    return count + digits


@kernel
def read_integer(body: Bytes, at: int, last: int) -> tuple[int, int]:
    """Returns (position behind, integer): from 3, 3.0 or "3", ABSENT from ``null``."""
    byte = byte_at(body, at)
    is_quoted = byte == _QUOTE
    if is_quoted:
        at += 1
        byte = byte_at(body, at)
    elif byte == _NULL:
        return null_end(body, at), ABSENT
    if not is_digit_start(byte):
        return _TYPE, 0
    at, mantissa, scale = number(body, at, last)
    if at < 0:
        return at, 0
    is_whole, value = whole_number(mantissa, scale)
    if not is_whole:
        return NUMBER, 0
    if is_quoted:
        if byte_at(body, at) != _QUOTE or scale != 0:
            return _TYPE, 0
        at += 1
    return at, value


@kernel
def read_number(body: Bytes, at: int, last: int) -> tuple[int, int, int]:
    """Returns (position behind, mantissa, scale) of 1.5 or "1.5", ABSENT from ``null``."""
    byte = byte_at(body, at)
    is_quoted = byte == _QUOTE
    if is_quoted:
        at += 1
        byte = byte_at(body, at)
    elif byte == _NULL:
        return null_end(body, at), ABSENT, 0
    if not is_digit_start(byte):
        return _TYPE, 0, 0
    at, mantissa, scale = number(body, at, last)
    if at >= 0 and is_quoted:
        if byte_at(body, at) != _QUOTE:
            return _TYPE, 0, 0
        at += 1
    return at, mantissa, scale


@kernel
def read_code(body: Bytes, at: int, last: int, text: Bytes) -> tuple[int, np.uint64]:
    """Returns (position behind, code) of a text that may be an integer; 0 if it says nothing."""
    byte = byte_at(body, at)
    if byte == _QUOTE:
        end = string_end(body, at + 1, last)
        if end < 0:
            return end, _NO_CODE
        place = end & PLACE
        if place == at + 1:
            return place + 1, _NO_CODE
        if not end & IS_ESCAPED:
            return place + 1, code_at(body, at + 1, place)
        count = unescape(body, at + 1, place, text)
        return (place + 1 if count >= 0 else count), code_at(text, 0, max(count, 0))
    if byte == _NULL:
        return null_end(body, at), _NO_CODE
    if not is_digit_start(byte):
        return _TYPE, _NO_CODE
    at, value = read_integer(body, at, last)
    return at, code_at(text, 0, write_integer(value, text)) if at >= 0 else _NO_CODE


@kernel
def stage(cells: Cells, staged: Codes, place: int, code: np.uint64) -> int:
    """Adds a code to the list at ``place``, unless it is 0; returns 0, or ``-CAPACITY``."""
    cells[place + 2] += 1
    if code == _NO_CODE:
        return 0
    count = cells[_STAGED]
    if count >= CODES_MAX:
        return _CAPACITY
    staged[count] = code
    cells[_STAGED] = count + 1
    cells[place + 1] += 1
    return 0


@kernel
def start_list(cells: Cells, place: int) -> None:
    """Begins the list at ``place`` behind what is staged."""
    cells[place] = cells[_STAGED]
    cells[place + 1] = 0
    cells[place + 2] = 0


@kernel
def read_codes(
    body: Bytes, at: int, last: int, place: int, cells: Cells, staged: Codes, text: Bytes
) -> int:
    """Stages the codes of an array of texts, without the empty ones; returns the place behind."""
    if byte_at(body, at) == _NULL:
        return null_end(body, at)
    if byte_at(body, at) != _OPEN_ARRAY:
        return _TYPE
    start_list(cells, place)
    cells[place + 3] = at
    at = first_inside(body, at, last, _OPEN_ARRAY)
    while at >= 0 and byte_at(body, at) != _CLOSE_ARRAY:
        if byte_at(body, at) == _NULL:
            return _TYPE
        at, code = read_code(body, at, last, text)
        if at < 0:
            return at
        cause = stage(cells, staged, place, code)
        if cause < 0:
            return cause
        at = next_inside(body, at, last, _CLOSE_ARRAY)
    return at + 1 if at >= 0 else at


@kernel
def is_foreign_blank(text: Bytes, first: int, last: int) -> bool:
    """Returns whether text[first:last] begins or ends with white space beyond ASCII.

    Python strips it and ``code_of`` does not. Source: White_Space in Unicode's PropList.txt.
    """
    for at in (first, last - 3):
        if at < first or at + 3 > last:
            continue
        lead = byte_at(text, at)
        second, third = byte_at(text, at + 1), byte_at(text, at + 2)
        if (lead == 0xE1 and second == 0x9A and third == 0x80) or (
            lead == 0xE3 and second == 0x80 and third == 0x80
        ):
            return True
        if lead == 0xE2 and (
            (second == 0x80 and (third <= 0x8A or 0xA8 <= third <= 0xAF))
            or (second == 0x81 and third == 0x9F)
        ):
            return True
    for at in (first, last - 2):
        if at >= first and at + 2 <= last and byte_at(text, at) == 0xC2:
            second = byte_at(text, at + 1)
            if second == 0x85 or second == 0xA0:
                return True
    return False


@kernel
def stage_keywords(
    text: Bytes, first: int, last: int, place: int, cells: Cells, staged: Codes
) -> int:
    """Stages the code of each comma separated keyword of text[first:last]; returns 0 or -cause."""
    at = first
    while at <= last:
        start = at
        while at < last and byte_at(text, at) != _COMMA:
            at += 1
        begin, end = start, at
        while begin < end and is_blank(byte_at(text, begin)):
            begin += 1
        while begin < end and is_blank(byte_at(text, end - 1)):
            end -= 1
        if begin < end:
            if is_foreign_blank(text, begin, end):
                return _TEXT
            cause = stage(cells, staged, place, code_at(text, begin, end))
            if cause < 0:
                return cause
        at += 1
    return 0


@kernel
def read_keywords(
    body: Bytes, at: int, last: int, place: int, cells: Cells, staged: Codes, text: Bytes
) -> int:
    """Stages the codes of a keyword text; returns the position behind it."""
    if byte_at(body, at) != _QUOTE:
        return null_end(body, at)
    end = string_end(body, at + 1, last)
    if end < 0:
        return end
    start_list(cells, place)
    stop = end & PLACE
    if end & IS_ESCAPED:
        count = unescape(body, at + 1, stop, text)
        if count < 0:
            return count
        cause = stage_keywords(text, 0, count, place, cells, staged)
    else:
        cause = stage_keywords(body, at + 1, stop, place, cells, staged)
    return stop + 1 if cause >= 0 else cause


@kernel
def read_id(body: Bytes, at: int, last: int, place: int, cells: Cells) -> int:
    """Notes where the text of a required id lies; returns the position behind it.

    Escapes bail, because the id is given back as it came; so do numbers, which need quotes then.
    """
    if byte_at(body, at) != _QUOTE:
        return _REQUIRED
    end = string_end(body, at + 1, last)
    if end < 0:
        return end
    if end & IS_ESCAPED:
        return _ESCAPE
    end &= PLACE
    if end == at + 1:
        return _REQUIRED
    cells[place], cells[place + 1] = at + 1, end
    return end + 1


@kernel
def read_span(body: Bytes, at: int, last: int, place: int, cells: Cells) -> int:
    """Notes where the ASCII text of a user's id lies, an integer's digits too; returns the end."""
    byte = byte_at(body, at)
    if byte == _QUOTE:
        end = string_end(body, at + 1, last)
        if end < 0:
            return end
        if end & IS_ESCAPED:
            return _ESCAPE
        if end & IS_WIDE:
            return _TEXT
        cells[place], cells[place + 1] = at + 1, end
        return end + 1
    if byte == _NULL:
        return null_end(body, at)
    if not is_digit_start(byte):
        return _TYPE
    end, mantissa, _ = number(body, at, last)
    if end < 0:
        return end
    for i in range(at, end):
        # 12.0 and 1e2 read otherwise than they are written, and -0 is 0.
        if not 48 <= byte_at(body, i) <= 57 and (i > at or mantissa == 0):
            return NUMBER
    cells[place], cells[place + 1] = at, end
    return end


@kernel
def read_name(body: Bytes, at: int, last: int, place: int, cells: Cells) -> int:
    """Notes code and place of a name that more is made of than its code; returns the end."""
    if byte_at(body, at) != _QUOTE:
        return null_end(body, at)
    end = read_span(body, at, last, place + 1, cells)
    if end > at + 2:
        cells[place] = np.int64(code_at(body, at + 1, end - 1))
    return end


@kernel
def read_primary(body: Bytes, at: int, last: int) -> tuple[int, np.uint64]:
    """Returns (position behind, code) of the language of a BCP 47 tag: ``en`` of ``en-GB``.

    0 if it names none. A blank before the first hyphen bails: two such texts may be one code.
    """
    if byte_at(body, at) != _QUOTE:
        return null_end(body, at), _NO_CODE
    end = string_end(body, at + 1, last)
    if end < 0:
        return end, _NO_CODE
    if end & (IS_ESCAPED | IS_WIDE):
        return _TEXT, _NO_CODE
    first = at + 1
    while first < end and byte_at(body, first) == 32:
        first += 1
    stop = first
    while stop < end and not (byte_at(body, stop) == 45 or byte_at(body, stop) == 95):
        stop += 1
    if stop == end:
        while stop > first and byte_at(body, stop - 1) == 32:
            stop -= 1
    elif stop > first and byte_at(body, stop - 1) == 32:
        return _TEXT, _NO_CODE
    return end + 1, code_at(body, first, stop) if stop > first else _NO_CODE


@kernel
def read_primaries(body: Bytes, at: int, last: int, place: int, cells: Cells, staged: Codes) -> int:
    """Stages the languages of an array of tags, each once; returns the position behind it."""
    if byte_at(body, at) == _NULL:
        return null_end(body, at)
    if byte_at(body, at) != _OPEN_ARRAY:
        return _TYPE
    start_list(cells, place)
    at = first_inside(body, at, last, _OPEN_ARRAY)
    while at >= 0 and byte_at(body, at) != _CLOSE_ARRAY:
        if byte_at(body, at) != _QUOTE:
            return _TYPE
        at, code = read_primary(body, at, last)
        if at < 0:
            return at
        for i in range(cells[place], cells[_STAGED]):
            if staged[i] == code:
                code = _NO_CODE
        cause = stage(cells, staged, place, code)
        if cause < 0:
            return cause
        at = next_inside(body, at, last, _CLOSE_ARRAY)
    return at + 1 if at >= 0 else at


@kernel
def read_currency(body: Bytes, at: int, last: int) -> tuple[int, int]:
    """Returns (position behind, ISO 4217 number): 0 if unknown, ABSENT from ``null`` and ""."""
    if byte_at(body, at) != _QUOTE:
        return null_end(body, at), ABSENT
    end = string_end(body, at + 1, last)
    if end < 0:
        return end, 0
    if end & IS_ESCAPED:
        return _ESCAPE, 0
    if end & IS_WIDE:
        return _TEXT, 0
    first, stop = at + 1, end
    if first == stop:
        return end + 1, ABSENT
    while first < stop and byte_at(body, first) == 32:
        first += 1
    while first < stop and byte_at(body, stop - 1) == 32:
        stop -= 1
    # Blanks alone name nothing, and nothing is no currency either.
    return end + 1, currency_at(body, first, stop)


@kernel
def _is_blank_text(body: Bytes, first: int, last: int) -> bool:
    for at in range(first, last):
        if byte_at(body, at) != 32:
            return False
    return True


@kernel
def read_currencies(body: Bytes, at: int, last: int, place: int, cells: Cells) -> int:
    """Notes how many currencies an array names and the known ones; returns the position behind.

    An empty array is none.
    """
    if byte_at(body, at) == _NULL:
        return null_end(body, at)
    if byte_at(body, at) != _OPEN_ARRAY:
        return _TYPE
    at = first_inside(body, at, last, _OPEN_ARRAY)
    if at < 0:
        return at
    if byte_at(body, at) == _CLOSE_ARRAY:
        return at + 1
    for i in range(1 + CURRENCY_COUNT_MAX):
        cells[place + i] = 0
    known = 0
    while at >= 0 and byte_at(body, at) != _CLOSE_ARRAY:
        if byte_at(body, at) != _QUOTE:
            return _TYPE
        end, currency = read_currency(body, at, last)
        if end < 0:
            return end
        if not _is_blank_text(body, at + 1, end - 1):
            cells[place] += 1
            if currency != 0 and known < CURRENCY_COUNT_MAX:
                known += 1
                cells[place + known] = currency
        at = next_inside(body, end, last, _CLOSE_ARRAY)
    return at + 1 if at >= 0 else at


@kernel
def _read_scalar(
    body: Bytes, at: int, last: int, action: int, place: int, cells: Cells, text: Bytes
) -> int:
    if action == _INTEGER:
        at, cells[place] = read_integer(body, at, last)
    elif action == _NUMBER:
        at, cells[place], cells[place + 1] = read_number(body, at, last)
    elif action == _CODE:
        at, code = read_code(body, at, last, text)
        cells[place] = np.int64(code)
    elif action == _NUMBER_CODE:
        at, value = read_integer(body, at, last)
        if at >= 0 and value != ABSENT:
            cells[place] = np.int64(code_at(text, 0, write_integer(value, text)))
    elif action == _ID:
        at = read_id(body, at, last, place, cells)
    elif action == _SPAN:
        at = read_span(body, at, last, place, cells)
    elif action == _CURRENCY:
        at, cells[place] = read_currency(body, at, last)
    elif action == _NAME:
        at = read_name(body, at, last, place, cells)
    elif action == _PRIMARY_CODE:
        at, code = read_primary(body, at, last)
        cells[place] = np.int64(code)
    elif action == _UNREAD_FIELD:
        at = at + 4 if is_null(body, at) else _UNREAD
    else:
        at = skip_value(body, at, last)
    return at


@kernel
def read_value(
    body: Bytes, at: int, last: int, action: int, place: int, cells: Cells, staged: Codes,
    text: Bytes,
) -> int:  # fmt: skip
    """Does with the value at ``at`` what ``action`` says; returns the position behind it."""
    if action == _CODES:
        return read_codes(body, at, last, place, cells, staged, text)
    if action == _KEYWORDS:
        return read_keywords(body, at, last, place, cells, staged, text)
    if action == _CURRENCIES:
        return read_currencies(body, at, last, place, cells)
    if action == _PRIMARY_CODES:
        return read_primaries(body, at, last, place, cells, staged)
    if action == _ONE_MORE:
        if cells[place] == ABSENT:
            start_list(cells, place)
        at, code = read_code(body, at, last, text)
        if at < 0:
            return at
        cause = stage(cells, staged, place, code)
        return cause if cause < 0 else at
    return _read_scalar(body, at, last, action, place, cells, text)
