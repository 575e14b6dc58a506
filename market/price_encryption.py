"""Encrypted clearing prices: Google's scheme, which other exchanges took over.

    message   = iv (16 bytes) | price ^ pad (8 bytes) | signature (4 bytes), unpadded base64url
    pad       = first 8 bytes of HMAC-SHA1(encryption key, iv)
    signature = first 4 bytes of HMAC-SHA1(integrity key, price | iv)

The price is what one impression costs, in micros, big-endian: a thousandth of the price per
thousand that OpenRTB's macro holds in clear. The initialization vector starts with the time at
which the price was encrypted: seconds, then microseconds, as two big-endian 32-bit numbers. A
message that is years old, or from before the bid, was taken from somewhere else.

Four bytes of signature stop garbage and other keys' messages, not somebody who may try four billion
times: what a notice charges is bounded by its own signature and its reservation.

Source: Google Authorized Buyers, "Decrypt Price Confirmations"; the unit: "Authorized Buyers macro
support", WINNING_PRICE (cost per impression in micros, not per thousand).
"""

from __future__ import annotations

import enum
import hmac
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final

import msgspec

from market.errors import BadInput, Forbidden

MESSAGE_CHARS: Final = 38
"""Length of an encrypted price: 28 bytes in base64 without padding."""

IV_BYTES: Final = 16
_KEY_BYTES: Final = 32
_MESSAGE: Final = re.compile(rf"[A-Za-z0-9_-]{{{MESSAGE_CHARS}}}")
_IV = struct.Struct(">IIQ")
_PRICE = struct.Struct(">Q")
_SIGNATURE_BYTES: Final = 4


class PriceEncoding(enum.Enum):
    """How an exchange writes the clearing price where its macro stands."""

    CLEAR = "clear"
    """A decimal number."""
    BASE64 = "base64"
    """A decimal number in base64url: hides it from eyes, not from readers."""
    GOOGLE = "google"
    """Encrypted by the scheme of this file."""


class PriceKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The two secrets that an exchange gave us; never printed.

    Attributes:
        encryption_hex: 32 bytes, hides the price.
        integrity_hex: 32 bytes, shows that it was not altered.
    """

    encryption_hex: str
    integrity_hex: str

    def __repr__(self) -> str:
        """Says nothing: keys end in no log and no traceback."""
        return "PriceKeys(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Says nothing."""
        return []


class PriceCipher:
    """Encrypts and decrypts prices with one exchange's keys."""

    def __init__(self, keys: PriceKeys, owner: str) -> None:
        """Takes the keys; ``owner`` names the exchange in errors.

        Raises:
            BadInput: a key is not 32 bytes in hexadecimal digits.
        """
        self._encryption_key = _key_of(keys.encryption_hex, f"{owner}: its encryption key")
        self._integrity_key = _key_of(keys.integrity_hex, f"{owner}: its integrity key")

    def encrypt(self, price_micros: int, iv: bytes) -> str:
        """Returns the message for the price of one impression; ``iv`` must be used only once.

        Raises:
            BadInput: the price does not fit in 8 bytes, or the vector is not 16 bytes long.
        """
        if len(iv) != IV_BYTES:
            raise BadInput(f"initialization vector of {len(iv)} bytes: it must have {IV_BYTES}")
        if not 0 <= price_micros < 1 << 64:
            raise BadInput(f"price {price_micros} micros: it must be from 0 to 2^64 - 1")
        price = _PRICE.pack(price_micros)
        body = iv + self._pad(price, iv) + self._signature(price, iv)
        return urlsafe_b64encode(body).rstrip(b"=").decode()

    def decrypt(self, text: str) -> tuple[int, bytes]:
        """Returns (price of one impression in micros, initialization vector) of a message.

        Raises:
            BadInput: it has another length, or is no base64url.
            Forbidden: its signature does not fit: altered, or made with other keys.
        """
        if not is_message(text):
            raise BadInput(
                f"encrypted price of {len(text)} characters: it must be unpadded base64url, "
                f"{MESSAGE_CHARS} characters"
            )
        body = urlsafe_b64decode(text + "==")
        if urlsafe_b64encode(body).rstrip(b"=").decode() != text:
            raise BadInput("encrypted price: the spare bits of its last character must be 0")
        iv, hidden = body[:IV_BYTES], body[IV_BYTES : IV_BYTES + _PRICE.size]
        price = self._pad(hidden, iv)
        if not hmac.compare_digest(self._signature(price, iv), body[-_SIGNATURE_BYTES:]):
            raise Forbidden("encrypted price: it was altered, or made with other keys")
        return int.from_bytes(price), iv

    def _pad(self, price: bytes, iv: bytes) -> bytes:
        pad = hmac.digest(self._encryption_key, iv, "sha1")
        return bytes(one ^ other for one, other in zip(price, pad, strict=False))

    def _signature(self, price: bytes, iv: bytes) -> bytes:
        return hmac.digest(self._integrity_key, price + iv, "sha1")[:_SIGNATURE_BYTES]


def is_message(text: str) -> bool:
    """Returns whether a text has the shape of an encrypted price; only its keys tell more."""
    return _MESSAGE.fullmatch(text) is not None


def new_iv(at_ms: int, nonce: int) -> bytes:
    """Returns an initialization vector: the time, and 64 bits that no other one of it has."""
    seconds, ms = divmod(at_ms, 1_000)
    return _IV.pack(seconds & 0xFFFFFFFF, ms * 1_000, nonce)


def iv_ms(iv: bytes) -> int:
    """Returns when an initialization vector says it was made, epoch milliseconds."""
    seconds, micros, _ = _IV.unpack(iv)
    return seconds * 1_000 + micros // 1_000


def _key_of(text: str, what: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        # The text stays out of the message, and so does the error that quotes it.
        raise BadInput(f"{what} must be {_KEY_BYTES} bytes in hexadecimal digits") from None
    return key
