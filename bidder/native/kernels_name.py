"""Names as numbers, from where they lie: codes of texts, pseudonyms, and keys of memo tables.

The same SipHash as `market.kernels_hash`, a word at a load and without a copy: texts may be folded
on the way (`market.chance.code_of`), and a memo's key is absorbed token by token.
"""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bidder.native.kernels_load import byte_at, word_at
from market.kernel import bare_kernel as kernel
from market.kernels_hash import sip_round

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]

_V0 = np.uint64(0x736F6D6570736575)
_V1 = np.uint64(0x646F72616E646F6D)
_V2 = np.uint64(0x6C7967656E657261)
_V3 = np.uint64(0x7465646279746573)
_LENGTH = np.uint64(56)
_FINISH = np.uint64(0xFF)
_WIDE = np.uint64(0xEE)
_SECOND_HALF = np.uint64(0xDD)
_NONE = np.uint64(0)
_ONE = np.uint64(1)
_TAG = np.uint64(32)
_LOW_BITS = np.uint64(0x7F7F7F7F7F7F7F7F)
_HIGH_BITS = np.uint64(0x8080808080808080)
_TO_A = np.uint64(0x3F3F3F3F3F3F3F3F)  # 128 - 'A'
_BEHIND_Z = np.uint64(0x2525252525252525)  # 128 - ('Z' + 1)
_CASE = np.uint64(2)
KEPT = np.array([(1 << 8 * n) - 1 for n in range(8)] + [2**64 - 1], np.uint64)
"""Mask of the first n bytes of a word."""


@kernel
def lower_case(word: np.uint64) -> np.uint64:
    """Returns eight bytes with ASCII letters in lower case, bytes beyond ASCII as they are."""
    low = word & _LOW_BITS
    is_upper = (low + _TO_A) & ~(low + _BEHIND_Z) & ~word & _HIGH_BITS
    return word | (is_upper >> _CASE)


@kernel
def _hash_of(
    k0: np.uint64, k1: np.uint64, text: Bytes, first: int, last: int, is_folded: bool
) -> np.uint64:
    v0, v1, v2, v3 = k0 ^ _V0, k1 ^ _V1, k0 ^ _V2, k1 ^ _V3
    at = first
    while at + 8 <= last:
        m = word_at(text, at)
        if is_folded:
            m = lower_case(m)
        v3 ^= m
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0 ^= m
        at += 8
    m = word_at(text, at) & KEPT[last - at]
    if is_folded:
        m = lower_case(m)
    m |= np.uint64((last - first) & 255) << _LENGTH
    v3 ^= m
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0 ^= m
    v2 ^= _FINISH
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


@kernel
def opportunity_key_at(text: Bytes, first: int, last: int) -> tuple[np.uint64, np.uint64]:
    """Returns ``market.chance.opportunity_key`` of the three names joined in text[first:last]."""
    v0, v1, v2, v3 = _V0, _V1 ^ _WIDE, _V2, _V3
    at = first
    while at + 8 <= last:
        m = word_at(text, at)
        v3 ^= m
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0 ^= m
        at += 8
    m = word_at(text, at) & KEPT[last - at] | np.uint64((last - first) & 255) << _LENGTH
    v3 ^= m
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0 ^= m
    v2 ^= _WIDE
    for _ in range(4):
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    high = v0 ^ v1 ^ v2 ^ v3
    v1 ^= _SECOND_HALF
    for _ in range(4):
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    return high, v0 ^ v1 ^ v2 ^ v3


@kernel
def is_blank(byte: int) -> bool:
    """Returns whether a byte is ASCII white space as ``bytes.strip`` has it."""
    return byte == 32 or 9 <= byte <= 13


@kernel
def code_at(text: Bytes, first: int, last: int) -> np.uint64:
    """Returns ``market.chance.code_of`` of the UTF-8 text[first:last]; 8 bytes behind are read."""
    while first < last and is_blank(byte_at(text, first)):
        first += 1
    while first < last and is_blank(byte_at(text, last - 1)):
        last -= 1
    code = _hash_of(_NONE, _NONE, text, first, last, True)
    return code if code != _NONE else _ONE


@kernel
def user_key_at(k0: np.uint64, k1: np.uint64, text: Bytes, first: int, last: int) -> np.uint64:
    """Returns ``market.chance.user_key`` of the id text[first:last] under ``salt_words``."""
    key = _hash_of(np.uint64(k0), np.uint64(k1), text, first, last, False)
    return key if key != _NONE else _ONE


@kernel
def start_key(cells: npt.NDArray[np.int64], place: int, k0: np.uint64, k1: np.uint64) -> None:
    """Starts a memo key in four cells from ``place``, under the process's random key."""
    cells[place] = np.int64(np.uint64(k0) ^ _V0)
    cells[place + 1] = np.int64(np.uint64(k1) ^ _V1)
    cells[place + 2] = np.int64(np.uint64(k0) ^ _V2)
    cells[place + 3] = np.int64(np.uint64(k1) ^ _V3)


@kernel
def absorb(
    cells: npt.NDArray[np.int64], place: int, tag: int, body: Bytes, first: int, last: int
) -> None:
    """Adds a tagged raw token to a memo key: a word of tag and length, then its words.

    Whole words with the length ahead of them: two different sequences of tokens are never the same
    words. ``tag`` is below 2^32.
    """
    v0, v1 = np.uint64(cells[place]), np.uint64(cells[place + 1])
    v2, v3 = np.uint64(cells[place + 2]), np.uint64(cells[place + 3])
    m = np.uint64(tag) << _TAG | np.uint64(last - first)
    at = first
    while True:
        v3 ^= m
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0 ^= m
        if at >= last:
            break
        m = word_at(body, at) & KEPT[min(last - at, 8)]
        at += 8
    cells[place], cells[place + 1] = np.int64(v0), np.int64(v1)
    cells[place + 2], cells[place + 3] = np.int64(v2), np.int64(v3)


@kernel
def finished_key(cells: npt.NDArray[np.int64], place: int) -> np.uint64:
    """Returns a memo key, never 0; the cells keep what was absorbed."""
    v0, v1 = np.uint64(cells[place]), np.uint64(cells[place + 1])
    v2, v3 = np.uint64(cells[place + 2]), np.uint64(cells[place + 3])
    v2 ^= _FINISH
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    key = v0 ^ v1 ^ v2 ^ v3
    return key if key != _NONE else _ONE
