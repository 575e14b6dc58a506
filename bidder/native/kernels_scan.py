"""JSON as bytes: strict scanning of strings, numbers, keys and values, without making anything.

A position is an index into the body's array. A function that moves returns the position behind what
it read, or ``-cause`` (`bidder.native.wire.Bail`) where the text is no JSON or is beyond the
reader; a caller hands a negative position up. Positions handed in lie before ``last``, the end of
the body; behind it the array has `bidder.native.wire.BODY_PAD` readable bytes of any value, so a
short text is looked at in one load.

Stricter than the default path's decoder, never laxer: what it would refuse or mend here bails.
Source of the grammar: RFC 8259; of well-formed UTF-8: The Unicode Standard, table 3-7.
"""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The three rules that compare them are off
# inside; callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

# An error leaves by a return at once, bytes are told apart by plain comparisons, which become jump
# tables: the rules that count returns and branches or want sets are for other code than this.
# ruff: noqa: C901, PLR0911, PLR0912, PLR1714, SIM109

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bidder.native.kernels_load import byte_at, first_bit, special_bits, word_at
from bidder.native.wire import Bail
from market.kernel import bare_kernel as kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]

MALFORMED: Final = -int(Bail.MALFORMED)
ENCODING: Final = -int(Bail.ENCODING)
NUMBER: Final = -int(Bail.NUMBER)
DEPTH: Final = -int(Bail.DEPTH)

IS_ESCAPED: Final = 1 << 32
"""Flag on the end of a string: it holds escapes."""
IS_WIDE: Final = 1 << 33
"""Flag on the end of a string: it holds bytes beyond ASCII (as they stand, not by escapes)."""
PLACE: Final = IS_ESCAPED - 1
"""Mask of the position in an end with flags."""

DEPTH_MAX: Final = 60
_QUOTE, _BACKSLASH, _COMMA, _COLON = 34, 92, 44, 58
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY = 123, 125, 91
_ZERO, _NINE, _MINUS, _PLUS, _POINT = 48, 57, 45, 43, 46
_TRUE = np.uint64(int.from_bytes(b"true", "little"))
_NULL = np.uint64(int.from_bytes(b"null", "little"))
_FALSE = np.uint64(int.from_bytes(b"false", "little"))
_FOUR_BYTES = np.uint64(0xFFFFFFFF)
_FIVE_BYTES = np.uint64(0xFFFFFFFFFF)
_ONE = np.uint64(1)
_NONE = np.uint64(0)

SCALE_MAX: Final = 22
"""10^22 is the largest power of ten that a float64 holds exactly."""
MANTISSA_MAX: Final = 10**18
FLOAT_MANTISSA_MAX: Final = 2**53
_SKIPPED_DIGITS_MAX = 300
_POWERS = np.array([10.0**k for k in range(SCALE_MAX + 1)])
_WHOLE_POWERS = np.array([10**k for k in range(19)], np.int64)


@kernel
def skip_space(body: Bytes, at: int, last: int) -> int:
    """Returns the position of the next byte that is no JSON white space, or ``last``."""
    while at < last:
        byte = byte_at(body, at)
        if byte > 32 or not (byte == 32 or byte == 10 or byte == 13 or byte == 9):
            return at
        at += 1
    return last


@kernel
def escape_end(body: Bytes, at: int) -> int:
    """Returns the position behind the escape that starts with the backslash at ``at``.

    A surrogate must be half of a pair, which counts as one escape. What lies behind the body is
    read, not believed: the caller checks the end of the string.
    """
    byte = byte_at(body, at + 1)
    if byte != 117:  # u
        known = (
            byte == _QUOTE or byte == _BACKSLASH or byte == 47 or byte == 98 or byte == 102
            or byte == 110 or byte == 114 or byte == 116
        )  # fmt: skip
        return at + 2 if known else MALFORMED
    unit = code_unit(body, at + 2)
    if unit < 0:
        return MALFORMED
    if unit < 0xD800 or unit > 0xDFFF:
        return at + 6
    if unit > 0xDBFF or byte_at(body, at + 6) != _BACKSLASH or byte_at(body, at + 7) != 117:
        return ENCODING
    low = code_unit(body, at + 8)
    return at + 12 if 0xDC00 <= low <= 0xDFFF else ENCODING


@kernel
def code_unit(body: Bytes, at: int) -> int:
    """Returns the number that four hexadecimal digits say, -1 if they are none."""
    unit = 0
    for i in range(4):
        byte = int(byte_at(body, at + i))
        if _ZERO <= byte <= _NINE:
            digit = byte - _ZERO
        elif 65 <= byte <= 70:
            digit = byte - 55
        elif 97 <= byte <= 102:
            digit = byte - 87
        else:
            return -1
        unit = unit * 16 + digit
    return unit


@kernel
def wide_end(body: Bytes, at: int) -> int:
    """Returns the position behind the UTF-8 sequence of two to four bytes at ``at``."""
    lead = int(byte_at(body, at))
    second = int(byte_at(body, at + 1))
    if 0xC2 <= lead <= 0xDF:
        return at + 2 if second >> 6 == 2 else ENCODING
    third = int(byte_at(body, at + 2))
    if third >> 6 != 2:
        return ENCODING
    if 0xE0 <= lead <= 0xEF:
        least = 0xA0 if lead == 0xE0 else 0x80
        most = 0x9F if lead == 0xED else 0xBF  # above: surrogates
        return at + 3 if least <= second <= most else ENCODING
    if 0xF0 <= lead <= 0xF4:
        least = 0x90 if lead == 0xF0 else 0x80
        most = 0x8F if lead == 0xF4 else 0xBF
        fourth = int(byte_at(body, at + 3))
        return at + 4 if least <= second <= most and fourth >> 6 == 2 else ENCODING
    return ENCODING


@kernel
def string_end(body: Bytes, at: int, last: int) -> int:
    """Returns the position of the closing quote of the string whose text begins at ``at``.

    With IS_ESCAPED and IS_WIDE added where they hold; take the position with PLACE.
    """
    flags = 0
    while at < last:
        bits = special_bits(body, at)
        if bits == 0:
            at += 32
            continue
        at += first_bit(bits)
        if at >= last:
            return MALFORMED
        byte = byte_at(body, at)
        if byte == _QUOTE:
            return at + flags
        if byte == _BACKSLASH:
            at = escape_end(body, at)
            flags |= IS_ESCAPED
        elif byte >= 128:
            at = wide_end(body, at)
            flags |= IS_WIDE
        else:
            return MALFORMED
        if at < 0:
            return at
    return MALFORMED


@kernel
def number_end(body: Bytes, at: int, last: int) -> int:
    """Returns the position behind a number whose value does not matter.

    Exponents of three digits bail: the default path refuses a number beyond every float.
    """
    first = at
    if byte_at(body, at) == _MINUS:
        at += 1
    whole = at
    while at < last and _ZERO <= byte_at(body, at) <= _NINE:
        at += 1
    if at == whole or (byte_at(body, whole) == _ZERO and at > whole + 1):
        return MALFORMED
    if at < last and byte_at(body, at) == _POINT:
        at += 1
        whole = at
        while at < last and _ZERO <= byte_at(body, at) <= _NINE:
            at += 1
        if at == whole:
            return MALFORMED
    if at - first > _SKIPPED_DIGITS_MAX:
        return NUMBER
    if at < last and byte_at(body, at) | 32 == 101:  # e
        at += 1
        if byte_at(body, at) == _PLUS or byte_at(body, at) == _MINUS:
            at += 1
        whole = at
        while at < last and _ZERO <= byte_at(body, at) <= _NINE:
            at += 1
        if at == whole:
            return MALFORMED
        if at - whole > 2 or at - first > 100:
            return NUMBER
    return at


@kernel
def number(body: Bytes, at: int, last: int) -> tuple[int, int, int]:
    """Returns (position behind, mantissa, scale): the number is mantissa x 10^scale.

    Digits of a fraction beyond the 18th significant one are cut off: a mantissa above
    FLOAT_MANTISSA_MAX is good for a comparison with a margin only. -SCALE_MAX <= scale <=
    SCALE_MAX; what is beyond bails. The digits may be those of a number or of text in a string.
    """
    sign = 1
    if byte_at(body, at) == _MINUS:
        sign = -1
        at += 1
    first = at
    mantissa = 0
    while at < last and _ZERO <= byte_at(body, at) <= _NINE and at - first < 18:
        mantissa = mantissa * 10 + int(byte_at(body, at)) - _ZERO
        at += 1
    if at == first or (byte_at(body, first) == _ZERO and at > first + 1):
        return MALFORMED, 0, 0
    scale = 0
    if at < last and byte_at(body, at) == _POINT:
        at += 1
        first = at
        while at < last and _ZERO <= byte_at(body, at) <= _NINE:
            if mantissa < MANTISSA_MAX // 10:
                mantissa = mantissa * 10 + int(byte_at(body, at)) - _ZERO
                scale -= 1
            at += 1
        if at == first:
            return MALFORMED, 0, 0
    if scale < -SCALE_MAX or at - first > _SKIPPED_DIGITS_MAX:
        return NUMBER, 0, 0
    if at < last:
        byte = int(byte_at(body, at))
        if byte | 32 == 101:  # e
            at, exponent = _exponent(body, at + 1, last)
            scale += exponent
            if at >= 0 and (scale < -SCALE_MAX or scale > SCALE_MAX):
                return NUMBER, 0, 0
        elif _ZERO <= byte <= _NINE:
            return NUMBER, 0, 0
    return at, sign * mantissa, scale


@kernel
def _exponent(body: Bytes, at: int, last: int) -> tuple[int, int]:
    """Returns (position behind, exponent) of at most two digits, sign before them."""
    sign = 1
    if byte_at(body, at) == _MINUS:
        sign = -1
    if byte_at(body, at) == _MINUS or byte_at(body, at) == _PLUS:
        at += 1
    first = at
    exponent = 0
    while at < last and _ZERO <= byte_at(body, at) <= _NINE and at - first < 3:
        exponent = exponent * 10 + int(byte_at(body, at)) - _ZERO
        at += 1
    if at == first:
        return MALFORMED, 0
    return (NUMBER if at - first > 2 else at), sign * exponent


@kernel
def whole_number(mantissa: int, scale: int) -> tuple[bool, int]:
    """Returns (whether it is an int64 that a float64 holds, the integer) of ``number``'s pair."""
    if scale == 0:
        return True, mantissa
    if abs(mantissa) > FLOAT_MANTISSA_MAX or scale < -18:
        return False, 0
    if scale > 0:
        if scale > 15:
            return False, 0
        value = mantissa * _WHOLE_POWERS[scale]
        return abs(mantissa) <= FLOAT_MANTISSA_MAX // _WHOLE_POWERS[scale], value
    unit = _WHOLE_POWERS[-scale]
    return mantissa % unit == 0, mantissa // unit


@kernel
def float_number(mantissa: int, scale: int) -> tuple[bool, float]:
    """Returns (whether it is exact, the float64 nearest to the decimal) of ``number``'s pair.

    Both operands are exact, so one IEEE operation rounds once: the correctly rounded decimal.
    Otherwise it is within 10^-15 of it.
    Source: W. D. Clinger, "How to read floating point numbers accurately", PLDI 1990, section 2.
    """
    is_exact = abs(mantissa) <= FLOAT_MANTISSA_MAX
    if scale < 0:
        return is_exact, np.float64(mantissa) / _POWERS[-scale]
    return is_exact, np.float64(mantissa) * _POWERS[scale]


@kernel
def micros(mantissa: int, scale: int, shift: float) -> tuple[bool, int]:
    """Returns (whether it is sure, floor(number x 10^6 + shift)) of ``number``'s pair.

    The product is rounded as Python rounds it where the number is exact; where it is not, the
    result is sure when an error of a hundred times what was cut off would not change it.
    """
    is_exact, value = float_number(mantissa, scale)
    scaled = value * 1e6 + shift
    margin = 0.0 if is_exact else abs(scaled) * 1e-13 + 1e-9
    if not abs(scaled) < 4e15:
        return False, 0
    least = np.floor(scaled - margin)
    return least == np.floor(scaled + margin), np.int64(least)


@kernel
def literal_end(body: Bytes, at: int) -> int:
    """Returns the position behind ``true``, ``false`` or ``null``."""
    word = word_at(body, at)
    if word & _FOUR_BYTES == _TRUE or word & _FOUR_BYTES == _NULL:
        return at + 4
    return at + 5 if word & _FIVE_BYTES == _FALSE else MALFORMED


@kernel
def is_null(body: Bytes, at: int) -> bool:
    """Returns whether ``null`` stands at ``at``."""
    return word_at(body, at) & _FOUR_BYTES == _NULL


@kernel
def value_start(body: Bytes, at: int, last: int) -> int:
    """Returns where the value begins whose key's closing quote lies before ``at``."""
    if byte_at(body, at) != _COLON:
        at = skip_space(body, at, last)
        if at >= last or byte_at(body, at) != _COLON:
            return MALFORMED
    at += 1
    if byte_at(body, at) <= 32:
        at = skip_space(body, at, last)
    return at if at < last else MALFORMED


@kernel
def first_inside(body: Bytes, at: int, last: int, opening: int) -> int:
    """Returns the position of the first key or element, or of the closing bracket if there is none.

    ``opening`` is the bracket that must stand at ``at``.
    """
    if byte_at(body, at) != opening:
        return MALFORMED
    at = skip_space(body, at + 1, last)
    return at if at < last else MALFORMED


@kernel
def next_inside(body: Bytes, at: int, last: int, closing: int) -> int:
    """Returns the position of the next key or element, or of the closing bracket, behind a value.

    A comma before the closing bracket is no JSON.
    """
    byte = byte_at(body, at)
    if byte <= 32:
        at = skip_space(body, at, last)
        byte = byte_at(body, at)
    if at >= last:
        return MALFORMED
    if byte == closing:
        return at
    if byte != _COMMA:
        return MALFORMED
    at += 1
    if byte_at(body, at) <= 32:
        at = skip_space(body, at, last)
    return at if at < last and byte_at(body, at) != closing else MALFORMED


@kernel
def _skip_key(body: Bytes, at: int, last: int) -> int:
    """Returns where the value begins of the key at ``at``."""
    if byte_at(body, at) != _QUOTE:
        return MALFORMED
    end = string_end(body, at + 1, last)
    return end if end < 0 else value_start(body, (end & PLACE) + 1, last)


@kernel
def _scalar_end(body: Bytes, at: int, last: int) -> int:
    byte = byte_at(body, at)
    if byte == _QUOTE:
        end = string_end(body, at + 1, last)
        return end if end < 0 else (end & PLACE) + 1
    if byte == _MINUS or _ZERO <= byte <= _NINE:
        return number_end(body, at, last)
    return literal_end(body, at)


@kernel
def skip_value(body: Bytes, at: int, last: int) -> int:
    """Returns the position behind the value at ``at``, checked to be JSON of at most DEPTH_MAX."""
    depth = 0
    is_object = _NONE  # one bit per open bracket, the innermost lowest
    while True:
        byte = byte_at(body, at)
        if byte == _OPEN_OBJECT or byte == _OPEN_ARRAY:
            if depth == DEPTH_MAX:
                return DEPTH
            depth += 1
            is_object = (is_object << _ONE) | (_ONE if byte == _OPEN_OBJECT else _NONE)
            at = skip_space(body, at + 1, last)
            if at >= last:
                return MALFORMED
            if byte_at(body, at) != byte + 2:  # closing brackets are two behind their opening ones
                if byte == _OPEN_OBJECT:
                    at = _skip_key(body, at, last)
                    if at < 0:
                        return at
                continue
        else:
            at = _scalar_end(body, at, last)
            if at < 0:
                return at
            if depth == 0:
                return at
            at = next_inside(body, at, last, 125 if is_object & _ONE else 93)
            if at < 0:
                return at
        closing = 125 if is_object & _ONE else 93
        while byte_at(body, at) == closing:
            depth -= 1
            is_object >>= _ONE
            at += 1
            if depth == 0:
                return at
            closing = 125 if is_object & _ONE else 93
            at = next_inside(body, at, last, closing)
            if at < 0:
                return at
        if is_object & _ONE:
            at = _skip_key(body, at, last)
            if at < 0:
                return at
