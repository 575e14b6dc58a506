"""SHA-512, HMAC and base64url with Python's integers and strings, as their standards write them.

Sources: FIPS 180-4 (sections 2.2.2, 4.1.3, 4.2.3, 5.1.2, 5.3.5, 6.4.2); RFC 2104 section 2;
RFC 4648 sections 4 and 5; the layout of a token is that of ``market.notices.Token``.
"""

from __future__ import annotations

from itertools import count, islice
from math import isqrt
from string import ascii_lowercase, ascii_uppercase, digits

WORD = 2**64
BLOCK_BYTES = 128


def primes():
    return (n for n in count(2) if all(n % d for d in range(2, isqrt(n) + 1)))


def cube_root(value):
    low, high = 0, value + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**3 <= value else (low, middle)
    return low


K = [cube_root(p * 2**192) % WORD for p in islice(primes(), 80)]
H0 = [isqrt(p * 2**128) % WORD for p in islice(primes(), 8)]


def rotr(x, n):
    return (x >> n) | (x << (64 - n)) % WORD


def big_sigma_0(x):
    return rotr(x, 28) ^ rotr(x, 34) ^ rotr(x, 39)


def big_sigma_1(x):
    return rotr(x, 14) ^ rotr(x, 18) ^ rotr(x, 41)


def sigma_0(x):
    return rotr(x, 1) ^ rotr(x, 8) ^ (x >> 7)


def sigma_1(x):
    return rotr(x, 19) ^ rotr(x, 61) ^ (x >> 6)


def ch(x, y, z):
    return (x & y) ^ ((WORD - 1 - x) & z)


def maj(x, y, z):
    return (x & y) ^ (x & z) ^ (y & z)


def compress(state, block):
    """The state after a block of 128 bytes (6.4.2)."""
    w = [int.from_bytes(block[8 * t : 8 * t + 8], "big") for t in range(16)]
    for t in range(16, 80):
        w.append((sigma_1(w[t - 2]) + w[t - 7] + sigma_0(w[t - 15]) + w[t - 16]) % WORD)
    a, b, c, d, e, f, g, h = state
    for t in range(80):
        t1 = h + big_sigma_1(e) + ch(e, f, g) + K[t] + w[t]
        t2 = big_sigma_0(a) + maj(a, b, c)
        a, b, c, d, e, f, g, h = (t1 + t2) % WORD, a, b, c, (d + t1) % WORD, e, f, g
    return [(x + y) % WORD for x, y in zip(state, (a, b, c, d, e, f, g, h), strict=True)]


def sha512(message):
    """The digest of a message (5.1.2: one bit, zeros, the length in 128 bits)."""
    padded = message + b"\x80"
    padded += bytes(-(len(padded) + 16) % BLOCK_BYTES) + (8 * len(message)).to_bytes(16, "big")
    state = H0
    for at in range(0, len(padded), BLOCK_BYTES):
        state = compress(state, padded[at : at + BLOCK_BYTES])
    return b"".join(word.to_bytes(8, "big") for word in state)


def hmac_sha512(key, message):
    if len(key) > BLOCK_BYTES:
        key = sha512(key)
    key += bytes(BLOCK_BYTES - len(key))
    inner = sha512(bytes(byte ^ 0x36 for byte in key) + message)
    return sha512(bytes(byte ^ 0x5C for byte in key) + inner)


def base64url(source):
    """Six bits a character; a source of whole groups of three bytes has no "="."""
    assert len(source) % 3 == 0
    alphabet = ascii_uppercase + ascii_lowercase + digits + "-_"
    bits = "".join(f"{byte:08b}" for byte in source)
    return "".join(alphabet[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6))


TOKEN_LAYOUT = (
    ("bid_hi", 8), ("bid_lo", 8), ("advertiser_id", 4), ("campaign_id", 4), ("line_item_id", 4),
    ("creative_id", 4), ("reserved_micros", 8), ("rate_micros", 8), ("quantity_micros", 8),
    ("bid_ms", 8), ("deadline_ms", 8), ("exchange", 2), ("bid_currency", 2),
    ("account_currency", 2), ("format", 1), ("is_test", 1), ("worker", 2), (None, 2),
)  # fmt: skip
"""Field of a token and its bytes, little-endian; the last two fill up to a multiple of three."""


def signed(key, token):
    """(token text, tags of all notices) of a ``market.notices.Token``."""
    body = b"".join(
        (getattr(token, name) if name else 0).to_bytes(size, "little")
        for name, size in TOKEN_LAYOUT
    )
    return base64url(body), base64url(hmac_sha512(key, body)[:63])
