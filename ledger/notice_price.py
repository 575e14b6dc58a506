"""The clearing price of a notice, as its exchange writes it: in clear, encoded or encrypted.

What an exchange agreed to is all that is believed: a price in clear where an encrypted one was
agreed could be anybody's, and is refused.
"""

from __future__ import annotations

import binascii
import enum
from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING, Final

from market.errors import BadInput
from market.money import PRICE_CPM_MICROS_MAX, price_from_text
from market.price_encryption import PriceCipher, PriceEncoding, is_message, iv_ms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from market.exchange import ExchangeProfile
    from market.price_encryption import PriceKeys

AUDIT: Final = "AUDIT"
"""What an exchange fills a macro with when it renders the ad as a test (OpenRTB 2.6 4.4)."""

CLOCK_SKEW_MS: Final = 300_000
"""How far an exchange's clock and ours may differ."""


class Fault(enum.Enum):
    """Why a notice cannot be read: the name of its counter."""

    QUERY = "query"
    """A value is no UTF-8."""
    PRICE_MISSING = "price_missing"
    """A notice that charges tells no price."""
    PRICE_UNREADABLE = "price_unreadable"
    """No number, negative, not finite, or too large to be believed."""
    PRICE_IN_CLEAR = "price_in_clear"
    """A plain number where the exchange agreed to encode or encrypt it."""
    PRICE_ENCRYPTED = "price_encrypted"
    """An encrypted price of an exchange that agreed to none."""
    PRICE_CUT = "price_cut"
    """An encrypted price that is too short or too long."""
    PRICE_FORGED = "price_forged"
    """An encrypted price that was altered, or made with other keys."""
    PRICE_STALE = "price_stale"
    """An encrypted price from before the bid, or from the future."""
    LOSS_REASON = "loss_reason"
    """No OpenRTB code."""
    ORDER = "order"
    """An order id that is too long."""
    VALUE = "value"
    """The value of an order is no number, or too large to be believed."""


class Unreadable(BadInput):
    """A notice with an intact signature says something that cannot be read.

    Attributes:
        fault: what is wrong.
    """

    def __init__(self, fault: Fault, message: str) -> None:
        """Keeps the fault."""
        super().__init__(message)
        self.fault = fault


class Prices:
    """Reads the prices of every exchange."""

    def __init__(self, exchanges: Sequence[ExchangeProfile], keys: Mapping[str, PriceKeys]) -> None:
        """Takes the profiles, and the keys of those that encrypt.

        Raises:
            BadInput: an exchange that encrypts has no keys, one that does not has some, or keys
                are damaged.
        """
        self._encodings = {profile.exchange_id: profile.price_encoding for profile in exchanges}
        encrypting = {
            profile.name: profile.exchange_id
            for profile in exchanges
            if profile.price_encoding is PriceEncoding.GOOGLE
        }
        for name in encrypting.keys() ^ keys.keys():
            rule = "has none" if name in encrypting else "is no exchange that encrypts prices"
            raise BadInput(f"price_keys: exchange '{name}' {rule}; the deployment must agree")
        self._ciphers = {
            encrypting[name]: PriceCipher(pair, f"price_keys: exchange '{name}'")
            for name, pair in keys.items()
        }

    def read(self, exchange: int, text: str, bid_ms: int, now_ms: int) -> int | None:
        """Returns the price that a notice tells, CPM micros; None for a test render.

        Args:
            exchange: number of the exchange.
            text: what stands where its price macro stood.
            bid_ms: when the bid was made.
            now_ms: when the notice came.

        Raises:
            Unreadable: it is no price, or not written as agreed.
        """
        if text == AUDIT:
            return None
        encoding = self._encodings.get(exchange, PriceEncoding.CLEAR)
        if encoding is PriceEncoding.BASE64:
            text = _plain(text)
            return None if text == AUDIT else read_price(text)
        if encoding is PriceEncoding.GOOGLE:
            return self._decrypt(exchange, text, bid_ms, now_ms)
        if is_message(text):
            raise Unreadable(Fault.PRICE_ENCRYPTED, f"price '{text}': this exchange agreed to none")
        return read_price(text)

    def _decrypt(self, exchange: int, text: str, bid_ms: int, now_ms: int) -> int:
        if not is_message(text):
            if _is_number(text):
                raise Unreadable(Fault.PRICE_IN_CLEAR, "price in clear: it must be encrypted")
            raise Unreadable(Fault.PRICE_CUT, f"encrypted price of {len(text)} characters")
        try:
            per_impression, iv = self._ciphers[exchange].decrypt(text)
        except BadInput as error:
            raise Unreadable(Fault.PRICE_FORGED, str(error)) from error
        if not bid_ms - CLOCK_SKEW_MS <= iv_ms(iv) <= now_ms + CLOCK_SKEW_MS:
            raise Unreadable(
                Fault.PRICE_STALE, f"price encrypted at {iv_ms(iv)} ms: the bid was at {bid_ms} ms"
            )
        price = per_impression * 1_000
        if price > PRICE_CPM_MICROS_MAX:
            raise Unreadable(Fault.PRICE_UNREADABLE, f"price of {price} CPM micros: too high")
        return price


def read_price(text: str) -> int:
    """Returns a price in clear, CPM micros.

    Raises:
        Unreadable: it is no price.
    """
    # A decimal of Python also has underscores, blanks and the digits of other scripts.
    if not text.isascii() or "_" in text or " " in text:
        raise Unreadable(Fault.PRICE_UNREADABLE, f"price '{text[:80]}': no decimal number")
    try:
        return price_from_text(text)
    except BadInput as error:
        raise Unreadable(Fault.PRICE_UNREADABLE, str(error)) from error


def _plain(text: str) -> str:
    """Returns what a text in base64 or base64url, padded or not, says."""
    if "." in text and _is_number(text):
        raise Unreadable(Fault.PRICE_IN_CLEAR, "price in clear: it must be in base64")
    spelled = text.rstrip("=").translate(str.maketrans("+/ ", "-_-"))
    try:
        body = urlsafe_b64decode(spelled.encode("ascii") + b"=" * (-len(spelled) % 4))
        return body.decode("ascii")
    except (UnicodeError, binascii.Error) as error:
        raise Unreadable(Fault.PRICE_UNREADABLE, f"price '{text[:80]}': no base64") from error


def _is_number(text: str) -> bool:
    try:
        price_from_text(text)
    except BadInput:
        return False
    return True
