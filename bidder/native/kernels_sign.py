"""Signs a bid in machine code: token, HMAC-SHA512 and base64url, as ``market.notices.sign`` does.

Everything is held as SHA-512 sees it, numbers of 64 bits whose first byte is the highest, and never
as bytes; a token's fields are little-endian, so they are reversed on their way in. A token and the
hash inside an HMAC both fit one block with their padding, so a signature is two compressions from
states that depend on the key alone (RFC 2104 section 4).

Sources: FIPS 180-4 (SHA-512: sections 4.1.3, 4.2.3, 5.1.2, 6.4.2); RFC 2104; RFC 4648 section 5.
"""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The three rules that compare them are off
# inside; callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from market.kernel import bare_kernel as kernel

if TYPE_CHECKING:
    import numpy.typing as npt


Record: TypeAlias = Any
"""One element of a structured array; its fields are read as ``record["name"]``."""


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found


def _cube_root(value: int) -> int:
    """Returns the largest integer whose cube is at most ``value`` (Newton's method, from above)."""
    root = 1 << -(-value.bit_length() // 3)
    while root**3 > value:
        root = (2 * root + value // root**2) // 3
    return root


ROUND_COUNT = 80
BLOCK_WORDS = 16
STATE_WORDS = 8
TOKEN_BYTES = 84
TOKEN_CHARS = 112
TAG_GROUPS = 21
"""Groups of three bytes of the digest that become the tags: 63 of its 64 bytes."""
SIGNED_CHARS = 196
"""Characters of a token and of all its tags: 112 and 84."""

# The first 64 bits of the fractional parts of the cube roots of the first 80 primes (4.2.3) and of
# the square roots of the first 8 (5.3.5).
_ROUND_CONSTANTS = np.array(
    [_cube_root(prime << 192) % 2**64 for prime in _primes(ROUND_COUNT)], np.uint64
)
INITIAL_STATE = np.array([isqrt(prime << 128) % 2**64 for prime in _primes(8)], np.uint64)

_ALPHABET = np.frombuffer(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", np.uint8
).copy()
_64 = np.uint64(64)
_1, _6, _7, _8, _14, _16, _18, _19, _24, _28 = (
    np.uint64(n) for n in (1, 6, 7, 8, 14, 16, 18, 19, 24, 28)
)
_32, _34, _39, _40, _41, _46, _48, _52 = (np.uint64(n) for n in (32, 34, 39, 40, 41, 46, 48, 52))
_56, _58, _61 = (np.uint64(n) for n in (56, 58, 61))
_SIX_BITS = np.uint64(63)
_BYTE = np.uint64(0xFF)
_INNER_BITS = np.uint64(8 * (128 + TOKEN_BYTES))
_OUTER_BITS = np.uint64(8 * (128 + 64))
_END_OF_TOKEN = np.uint64(0x80 << 24)
_END_OF_DIGEST = np.uint64(1 << 63)

SIGNING_DTYPE = np.dtype(
    [
        # SHA-512 after the inner and after the outer padded key (RFC 2104)
        ("inner", np.uint64, (STATE_WORDS,)),
        ("outer", np.uint64, (STATE_WORDS,)),
        # scratch of a compression, its first 16 words the block
        ("schedule", np.uint64, (ROUND_COUNT,)),
        ("state", np.uint64, (STATE_WORDS,)),
        # base64url of the token, then of the tags of all notices
        ("text", np.uint8, (SIGNED_CHARS,)),
    ]
)
"""A notice key, and room for one signature."""


@kernel
def _rotated(x: np.uint64, n: np.uint64) -> np.uint64:
    return (x >> n) | (x << (_64 - n))


@kernel
def reversed_bytes(x: np.uint64) -> np.uint64:
    """Returns the word with its eight bytes in the other order."""
    return (
        (x << _56)
        | ((x & (_BYTE << _8)) << _40)
        | ((x & (_BYTE << _16)) << _24)
        | ((x & (_BYTE << _24)) << _8)
        | ((x >> _8) & (_BYTE << _24))
        | ((x >> _24) & (_BYTE << _16))
        | ((x >> _40) & (_BYTE << _8))
        | (x >> _56)
    )


@kernel
def _round(
    a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64, e: np.uint64, f: np.uint64,
    g: np.uint64, h: np.uint64, added: np.uint64,
) -> tuple[np.uint64, np.uint64]:  # fmt: skip
    """Returns the new e and a of one round; the other six variables only change their names.

    Ch and Maj in forms that take an operation less than those of section 4.1.3.
    """
    t1 = h + (_rotated(e, _14) ^ _rotated(e, _18) ^ _rotated(e, _41)) + (g ^ (e & (f ^ g))) + added
    t2 = (_rotated(a, _28) ^ _rotated(a, _34) ^ _rotated(a, _39)) + ((a & b) | (c & (a | b)))
    return d + t1, t1 + t2


@kernel
def compress(
    before: npt.NDArray[np.uint64],
    schedule: npt.NDArray[np.uint64],
    after: npt.NDArray[np.uint64],
) -> None:
    """Fills after[8] with the state that follows before[8] by one block (FIPS 180-4 6.4.2).

    The block is schedule[:16], words as numbers; the rest of schedule[80] is overwritten. Eight
    rounds a turn, because after eight each variable has its own name again: nothing is moved.
    """
    for t in range(BLOCK_WORDS, ROUND_COUNT):
        x = schedule[t - 2]
        y = schedule[t - 15]
        schedule[t] = (
            (_rotated(x, _19) ^ _rotated(x, _61) ^ (x >> _6))
            + schedule[t - 7]
            + (_rotated(y, _1) ^ _rotated(y, _8) ^ (y >> _7))
            + schedule[t - 16]
        )
    a, b, c, d = before[0], before[1], before[2], before[3]
    e, f, g, h = before[4], before[5], before[6], before[7]
    for t in range(0, ROUND_COUNT, STATE_WORDS):
        d, h = _round(a, b, c, d, e, f, g, h, _ROUND_CONSTANTS[t] + schedule[t])
        c, g = _round(h, a, b, c, d, e, f, g, _ROUND_CONSTANTS[t + 1] + schedule[t + 1])
        b, f = _round(g, h, a, b, c, d, e, f, _ROUND_CONSTANTS[t + 2] + schedule[t + 2])
        a, e = _round(f, g, h, a, b, c, d, e, _ROUND_CONSTANTS[t + 3] + schedule[t + 3])
        h, d = _round(e, f, g, h, a, b, c, d, _ROUND_CONSTANTS[t + 4] + schedule[t + 4])
        g, c = _round(d, e, f, g, h, a, b, c, _ROUND_CONSTANTS[t + 5] + schedule[t + 5])
        f, b = _round(c, d, e, f, g, h, a, b, _ROUND_CONSTANTS[t + 6] + schedule[t + 6])
        e, a = _round(b, c, d, e, f, g, h, a, _ROUND_CONSTANTS[t + 7] + schedule[t + 7])
    after[0] = before[0] + a
    after[1] = before[1] + b
    after[2] = before[2] + c
    after[3] = before[3] + d
    after[4] = before[4] + e
    after[5] = before[5] + f
    after[6] = before[6] + g
    after[7] = before[7] + h


@kernel
def base64url(
    words: npt.NDArray[np.uint64], group_count: int, out: npt.NDArray[np.uint8], at: int
) -> None:
    """Writes the first ``group_count`` groups of three bytes in ``words`` from out[at].

    Whole groups, so that there is no "=". A group begins at any byte of a word and may end in the
    next one.
    """
    for group in range(group_count):
        first_bit = 24 * group
        word = first_bit >> 6
        shift = first_bit & 63
        bits = words[word] << np.uint64(shift)
        if shift > 40:
            bits |= words[word + 1] >> np.uint64(64 - shift)
        out[at] = _ALPHABET[np.int64(bits >> _58)]
        out[at + 1] = _ALPHABET[np.int64((bits >> _52) & _SIX_BITS)]
        out[at + 2] = _ALPHABET[np.int64((bits >> _46) & _SIX_BITS)]
        out[at + 3] = _ALPHABET[np.int64((bits >> _40) & _SIX_BITS)]
        at += 4


@kernel
def pack_token(
    decision: Record, opportunity: Record, worker: int, block: npt.NDArray[np.uint64]
) -> None:
    """Fills block[:16] with the token of a decision and its padding for the inner hash.

    ``market.notices.Token`` field by field, 84 bytes; then the one bit, zeros, and the length in
    bits of what an inner hash reads: the padded key and the token (FIPS 180-4 5.1.2).
    """
    block[0] = reversed_bytes(decision["bid_hi"])
    block[1] = reversed_bytes(decision["bid_lo"])
    block[2] = reversed_bytes(
        np.uint64(decision["advertiser_id"]) | np.uint64(decision["campaign_id"]) << _32
    )
    block[3] = reversed_bytes(
        np.uint64(decision["line_item_id"]) | np.uint64(decision["creative_id"]) << _32
    )
    block[4] = reversed_bytes(np.uint64(decision["reserved_micros"]))
    block[5] = reversed_bytes(np.uint64(decision["rate_micros"]))
    block[6] = reversed_bytes(np.uint64(opportunity["quantity_micros"]))
    block[7] = reversed_bytes(np.uint64(opportunity["arrival_ms"]))
    block[8] = reversed_bytes(np.uint64(decision["deadline_ms"]))
    block[9] = reversed_bytes(
        np.uint64(opportunity["exchange"])
        | np.uint64(decision["bid_currency"]) << _16
        | np.uint64(decision["account_currency"]) << _32
        | np.uint64(decision["format"]) << _48
        | np.uint64(opportunity["is_test"]) << _56
    )
    block[10] = reversed_bytes(np.uint64(worker)) | _END_OF_TOKEN
    for k in range(11, BLOCK_WORDS - 1):
        block[k] = np.uint64(0)
    block[BLOCK_WORDS - 1] = _INNER_BITS


@kernel
def sign_into(decision: Record, opportunity: Record, worker: int, signing: Record) -> None:
    """Fills signing["text"] with the token's 112 characters and the 84 of the tags of all notices.

    ``decision`` of DECISION_DTYPE that bids, ``opportunity`` of OPPORTUNITY_DTYPE that it is for,
    ``signing`` of SIGNING_DTYPE.
    """
    schedule, state, text = signing["schedule"], signing["state"], signing["text"]
    pack_token(decision, opportunity, worker, schedule)
    base64url(schedule, TOKEN_CHARS // 4, text, 0)
    compress(signing["inner"], schedule, state)
    for k in range(STATE_WORDS):
        schedule[k] = state[k]
        schedule[STATE_WORDS + k] = np.uint64(0)
    schedule[STATE_WORDS] = _END_OF_DIGEST
    schedule[BLOCK_WORDS - 1] = _OUTER_BITS
    compress(signing["outer"], schedule, state)
    base64url(state, TAG_GROUPS, text, TOKEN_CHARS)
