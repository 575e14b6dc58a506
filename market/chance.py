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
from market.kernels_hash import sip_hash, sip_hash_128

_U64 = 2**64 - 1
_ZERO = np.uint64(0)


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
    EXPOSURE = 40
    TRAFFIC = 41
    CATEGORY_FACTOR = 42
    ADVERTISER_FACTOR = 43
    SPREAD = 44
    SPREAD_JITTER = 45
    COST_LIMIT = 46
    BUDGET = 47
    AGENT_VALUE = 48
    MARKET = 49
    PRICE_LEVEL = 50
    CAMPAIGN = 51
    WORLD_SCENE = 60
    WORLD_REGION = 61
    WORLD_VISITOR = 62
    WORLD_FLOOR = 63
    WORLD_DEVICE = 64
    WORLD_REACH = 65
    WORLD_TASTE = 66
    WORLD_DRIFT = 67
    WORLD_NEED = 68
    WORLD_SENSITIVITY = 69
    WORLD_ACTIVITY = 70
    WORLD_CATEGORY = 71
    WORLD_PRODUCT = 72
    WORLD_PRICE = 73
    WORLD_STYLE = 74
    WORLD_CREATIVE = 75
    WORLD_ROTATION = 76
    WORLD_JUDGEMENT = 77
    WORLD_ENTRY = 78
    WORLD_TOPIC = 79
    CART = 80
    REPEAT = 81
    LIFETIME = 82
    RETURN = 83
    ATTRIBUTION = 84
    TRACKING = 85
    ORGANIC_VISITOR = 86
    ORGANIC_PRODUCT = 87
    ORGANIC_ORDER = 88
    WORLD_SURGE = 89
    DEAL = 91


def code_of(text: str) -> int:
    """Returns the 64-bit code of a text value (a country, a domain, a segment), never 0.

    Codes stand for texts wherever the middle works on arrays; 0 is kept for "absent". Texts are
    compared without surrounding blanks and without the case of ASCII letters, as
    ``market.kernels_hash.fold_text`` does it. The hash is SipHash-2-4 under the key 0; two of a
    million texts share a code with probability below 10^-7 (birthday bound), but whoever wants to
    can find two that do: a code is no proof of a text.
    """
    name = text.encode(errors="surrogatepass").strip().lower()
    return _sip(_ZERO, _ZERO, name) or 1


def pair_code(a: int, b: int) -> int:
    """Returns the 64-bit name of an ordered pair of codes: ``hash_pair`` for Python callers.

    Negative numbers (times before 1970) count as their two's complement. The casts matter: a
    compiled kernel that has met a small int refuses one above 2^63.
    """
    return int(hash_pair(np.uint64(a & _U64), np.uint64(b & _U64)))


def opportunity_key(exchange: str, request_id: str, imp_id: str) -> tuple[int, int]:
    """Returns the 128-bit name of an offered imp as (hi, lo); same texts, same name.

    SipHash-2-4-128 under the key 0 of the three texts with a zero byte between them.
    """
    name = f"{exchange}\x00{request_id}\x00{imp_id}".encode(errors="surrogatepass")
    text = np.frombuffer(name, np.uint8)
    hi, lo = sip_hash_128(_ZERO, _ZERO, text, 0, len(name))
    return int(hi), int(lo)


def salt_words(salt: bytes) -> tuple[int, int]:
    """Returns the key of user pseudonyms that a salt of any length stands for, as two words."""
    key = blake2b(salt, digest_size=16).digest()
    return int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")


def user_key(salt: bytes, user_id: str) -> int:
    """Returns the keyed 64-bit pseudonym of a user id, never 0 (0 means: no user may be known).

    SipHash-2-4 keyed by ``salt_words``: the number in an event cannot be turned back into the id
    without the salt, and a new salt makes old pseudonyms meaningless.
    """
    k0, k1 = salt_words(salt)
    return _sip(np.uint64(k0), np.uint64(k1), user_id.encode(errors="surrogatepass")) or 1


def _sip(k0: np.uint64, k1: np.uint64, text: bytes) -> int:
    return int(sip_hash(k0, k1, np.frombuffer(text, np.uint8), 0, len(text)))
