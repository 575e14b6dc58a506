"""Reads the bit fields of consent strings: base64url text, big-endian integers, Fibonacci codes.

Shared by the TC string and the GPP string, which are built of the same parts. Everything here is
fed by strangers: whatever is not written as the specifications say raises `BadInput`, and a string
longer than `TEXT_MAX` is not looked at.

Sources: IAB TCF consent string format v2, "TC String Format"; IAB GPP consent string
specification, "Section Encoding" (data types) and "Fibonacci Encoding"; RFC 4648 section 5.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final

from market.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable

TEXT_MAX: Final = 8_192
"""Characters of the longest consent string that is read: a cookie, where most of them live, holds
half as many."""

ID_MAX: Final = 65_535
"""The largest vendor id that 16 bits can name."""

_ALPHABET: Final = re.compile(r"[A-Za-z0-9_-]+")
_FIBONACCI_BITS_MAX: Final = 40
_SHOWN: Final = 24


class Bits:
    """The bits of one base64url text, read from left to right."""

    def __init__(self, text: str) -> None:
        """Takes the text of one segment, six bits a character.

        Raises:
            BadInput: it is empty, too long, or not of the URL-safe alphabet (padding included).
        """
        if len(text) > TEXT_MAX or _ALPHABET.fullmatch(text) is None:
            raise BadInput(f"consent text '{text[:_SHOWN]}': it must be 1-{TEXT_MAX} base64url")
        self._bytes = base64.urlsafe_b64decode(text + "A" * (-len(text) % 4))
        self._count = 6 * len(text)
        self._at = 0

    @property
    def left(self) -> int:
        """Bits that are not read yet, padding included."""
        return self._count - self._at

    def take(self, width: int) -> int:
        """Returns the next ``width`` bits as an unsigned integer, first bit highest.

        Raises:
            BadInput: fewer are left.
        """
        end = self._at + width
        if end > self._count:
            raise BadInput(
                f"consent text of {self._count} bits: it must have {width} more at bit {self._at}"
            )
        last = (end + 7) // 8
        window = int.from_bytes(self._bytes[self._at // 8 : last], "big")
        self._at = end
        return (window >> (last * 8 - end)) & ((1 << width) - 1)

    def flag(self) -> bool:
        """Returns the next bit."""
        return self.take(1) == 1

    def text(self, length: int) -> str:
        """Returns the next ``length`` letters, six bits each, A = 0."""
        codes = [self.take(6) for _ in range(length)]
        if max(codes) > 25:
            raise BadInput(f"consent text: letter codes are {codes}; they must be 0-25")
        return "".join(chr(ord("A") + code) for code in codes)

    def ids(self, width: int) -> frozenset[int]:
        """Returns the 1-based places of the bits that are set among the next ``width``."""
        digits = format(self.take(width), f"0{width}b")
        return frozenset(place for place, digit in enumerate(digits, 1) if digit == "1")

    def fibonacci(self) -> int:
        """Returns the next integer in Fibonacci coding: weights 1, 2, 3, 5, ...; "11" ends it."""
        value, weight, following, was_set = 0, 1, 2, False
        for _ in range(_FIBONACCI_BITS_MAX):
            is_set = self.flag()
            if is_set and was_set:
                return value
            value += weight if is_set else 0
            weight, following, was_set = following, weight + following, is_set
        raise BadInput(f"consent text: no Fibonacci code ends within {_FIBONACCI_BITS_MAX} bits")

    def end(self) -> None:
        """Expects nothing but padding from here on.

        Raises:
            BadInput: a bit is set that no field has read, so the fields were not what they seemed.
        """
        if self.take(self.left):
            raise BadInput("consent text: bits are set behind its last field; padding must be 0")


def merged(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Returns inclusive ranges in rising order, those that touch or overlap joined."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)
