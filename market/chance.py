"""Chance as an argument: what the keyed draws of ``market.kernels`` are for, and names as numbers.

A draw is named by (seed, purpose, opportunity, actor). The opportunity is named by the 128-bit hash
of (exchange, request id, imp id), so that the bidder behind HTTP and the twin in process give the
same opportunity the same coins.
"""

from __future__ import annotations

import enum
from hashlib import blake2b

import numpy as np

from market.kernels import hash_pair

_U64 = 2**64 - 1


class Purpose(enum.IntEnum):
    """What a draw decides. Numbers are part of every recorded run: add, never renumber."""

    ARRIVAL = 1
    USER = 2
    SCENE = 3
    FLOOR = 4
    COMPETITOR_VALUE = 5
    COMPETITOR_PRESENCE = 6
    VIEW = 7
    CLICK = 8
    CONVERSION = 9
    CONVERSION_DELAY = 10
    CONVERSION_VALUE = 11
    CREATIVE_CHOICE = 12
    NO_BID_SAMPLE = 13
    NOTICE_REPEAT = 14
    NOTICE_DELAY = 15
    POPULATION = 16
    CREATIVE_TASTE = 17
    ORGANIC = 18
    PROPENSITY = 19
    NOISE = 20


def code_of(text: str) -> int:
    """Returns the 64-bit code of a text value (a country, a domain, a segment), never 0.

    Codes stand for texts wherever the middle works on arrays; 0 is kept for "absent". Texts are
    compared without case and surrounding blanks. Two of a million texts share a code with
    probability below 10^-7 (birthday bound).
    """
    name = text.strip().lower().encode(errors="surrogatepass")
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "little") or 1


def pair_code(a: int, b: int) -> int:
    """Returns the 64-bit name of an ordered pair of codes: ``hash_pair`` for Python callers.

    Negative numbers (times before 1970) count as their two's complement. The casts matter: a
    compiled kernel that has met a small int refuses one above 2^63.
    """
    return int(hash_pair(np.uint64(a & _U64), np.uint64(b & _U64)))


def opportunity_key(exchange: str, request_id: str, imp_id: str) -> tuple[int, int]:
    """Returns the 128-bit name of an offered imp as (hi, lo); same texts, same name."""
    digest = blake2b(
        f"{exchange}\x00{request_id}\x00{imp_id}".encode(errors="surrogatepass"), digest_size=16
    ).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def user_key(salt: bytes, user_id: str) -> int:
    """Returns the keyed 64-bit pseudonym of a user id, never 0 (0 means: no user may be known).

    Keyed, so that the number in an event cannot be turned back into the id without the salt, and
    a new salt makes old pseudonyms meaningless.
    """
    digest = blake2b(user_id.encode(errors="surrogatepass"), digest_size=8, key=salt).digest()
    return int.from_bytes(digest, "little") or 1
