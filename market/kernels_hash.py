"""SipHash-2-4 over bytes: how a text becomes a number, in a kernel and in Python alike.

One keyed hash names everything: texts (key 0, ``market.chance.code_of``), users (keyed by the
deployment's salt) and opportunities (128 bits). It is a pseudorandom function with a 128-bit key
that costs tens of nanoseconds for a short text, so that a reader of raw requests names what it
finds without leaving machine code.

Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012, section 2; the
128-bit output is that of the authors' reference code (v1 ^= 0xee, then 0xee and 0xdd).
"""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The three rules that compare them are off
# inside; callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from market.kernel import bare_kernel as kernel

if TYPE_CHECKING:
    import numpy.typing as npt

_V0 = np.uint64(0x736F6D6570736575)
_V1 = np.uint64(0x646F72616E646F6D)
_V2 = np.uint64(0x6C7967656E657261)
_V3 = np.uint64(0x7465646279746573)
_S13, _S16, _S17, _S21, _S32 = (np.uint64(n) for n in (13, 16, 17, 21, 32))
_S51, _S48, _S47, _S43 = (np.uint64(n) for n in (51, 48, 47, 43))
_BYTE = np.uint64(8)
_LENGTH = np.uint64(56)
_XEE = np.uint64(0xEE)
_XDD = np.uint64(0xDD)
_XFF = np.uint64(0xFF)


@kernel
def sip_round(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Returns the state after one SipRound (figure 2.1 of the paper)."""
    v0 += v1
    v1 = (v1 << _S13) | (v1 >> _S51)
    v1 ^= v0
    v0 = (v0 << _S32) | (v0 >> _S32)
    v2 += v3
    v3 = (v3 << _S16) | (v3 >> _S48)
    v3 ^= v2
    v0 += v3
    v3 = (v3 << _S21) | (v3 >> _S43)
    v3 ^= v0
    v2 += v1
    v1 = (v1 << _S17) | (v1 >> _S47)
    v1 ^= v2
    v2 = (v2 << _S32) | (v2 >> _S32)
    return v0, v1, v2, v3


@kernel
def _absorbed(
    k0: np.uint64, k1: np.uint64, text: npt.NDArray[np.uint8], first: int, last: int, tweak: int
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Returns the state after text[first:last] and its length; ``tweak`` enters v1."""
    v0 = np.uint64(k0) ^ _V0
    v1 = np.uint64(k1) ^ _V1 ^ np.uint64(tweak)
    v2 = np.uint64(k0) ^ _V2
    v3 = np.uint64(k1) ^ _V3
    count = last - first
    at = first
    while at + 8 <= last:
        m = np.uint64(0)
        for i in range(8):
            m |= np.uint64(text[at + i]) << (_BYTE * np.uint64(i))
        at += 8
        v3 ^= m
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0 ^= m
    m = np.uint64(count & 255) << _LENGTH
    for i in range(last - at):
        m |= np.uint64(text[at + i]) << (_BYTE * np.uint64(i))
    v3 ^= m
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0 ^= m
    return v0, v1, v2, v3


@kernel
def sip_hash(
    k0: np.uint64, k1: np.uint64, text: npt.NDArray[np.uint8], first: int, last: int
) -> np.uint64:
    """Returns SipHash-2-4 of text[first:last] under the key (k0, k1), little-endian words."""
    v0, v1, v2, v3 = _absorbed(k0, k1, text, first, last, 0)
    v2 ^= _XFF
    for _ in range(4):
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


@kernel
def sip_hash_128(
    k0: np.uint64, k1: np.uint64, text: npt.NDArray[np.uint8], first: int, last: int
) -> tuple[np.uint64, np.uint64]:
    """Returns SipHash-2-4-128 of text[first:last]: the first and the second eight bytes."""
    v0, v1, v2, v3 = _absorbed(k0, k1, text, first, last, _XEE)
    v2 ^= _XEE
    for _ in range(4):
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    low = v0 ^ v1 ^ v2 ^ v3
    v1 ^= _XDD
    for _ in range(4):
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    return low, v0 ^ v1 ^ v2 ^ v3


@kernel
def fold_text(
    text: npt.NDArray[np.uint8], first: int, last: int, out: npt.NDArray[np.uint8]
) -> int:
    """Writes text[first:last] to ``out`` without blanks around it, ASCII letters in lower case.

    The form in which texts are compared (``market.chance.code_of``). Returns the bytes written; the
    caller sees to it that ``out`` holds last - first.
    """
    while first < last and (text[first] == 32 or 9 <= text[first] <= 13):
        first += 1
    while first < last and (text[last - 1] == 32 or 9 <= text[last - 1] <= 13):
        last -= 1
    for i in range(last - first):
        byte = text[first + i]
        out[i] = byte + np.uint8(32) if 65 <= byte <= 90 else byte
    return last - first
