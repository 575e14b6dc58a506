"""A price as a shop of the locale would print it: ``$49.99``, ``49,99 €``, ``¥5,200``.

Not a money library: amounts stay int micros everywhere else, and this is the last step before ink.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from market.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable

_MINOR_DIGITS = {
    **dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
"""ISO 4217 minor units where they are not 2."""

_SYMBOLS = {
    "AUD": "A$",
    "BRL": "R$",
    "CAD": "C$",
    "CNY": "\u00a5",
    "EUR": "\u20ac",
    "GBP": "\u00a3",
    "INR": "\u20b9",
    "JPY": "\u00a5",
    "KRW": "\u20a9",
    "USD": "$",
}

_COMMA_LANGUAGES = frozenset(
    ("cs", "da", "de", "es", "fi", "fr", "it", "nb", "nl", "pl", "pt", "ru", "sv", "tr", "uk"),
)
"""Decimal comma, symbol last (CLDR common/main, currency formats of these languages)."""

_SPACE_GROUPED = frozenset(("cs", "fi", "fr", "nb", "pl", "ru", "sv", "uk"))
"""Among them, those that group thousands by a no-break space, not by a full stop."""


def price_label(
    price_micros: int,
    currency: str,
    language: str,
    covers: Callable[[str], bool] = lambda _symbol: True,
) -> str:
    """Returns the price in the habits of a language; "" for 0, which means that none is shown.

    Whole amounts lose their decimals (``$49``, not ``$49.00``).

    Args:
        price_micros: millionths of one unit of ``currency``.
        currency: ISO 4217 code.
        language: ISO 639 code; unknown languages are written as English is.
        covers: whether the fonts hold a text; where they lack the symbol the ISO code stands in.

    Raises:
        BadInput: the price is finer than the currency's smallest unit.
    """
    if price_micros == 0:
        return ""
    digits = _MINOR_DIGITS.get(currency, 2)
    minor, rest = divmod(price_micros * 10**digits, 1_000_000)
    if rest:
        msg = (
            f"product.price_micros is {price_micros}; a price in {currency} must be whole in units "
            f"of {10 ** (6 - digits)} micros"
        )
        raise BadInput(msg, "/product/price_micros")
    whole, fraction = divmod(minor, 10**digits)
    is_comma = language in _COMMA_LANGUAGES
    number = f"{whole:,}"
    if is_comma:
        number = number.replace(",", "\u00a0" if language in _SPACE_GROUPED else ".")
    if fraction:
        number += f"{',' if is_comma else '.'}{fraction:0{digits}d}"
    symbol = _SYMBOLS.get(currency, currency)
    if not covers(symbol):
        symbol = currency
    if is_comma:
        return f"{number}\u00a0{symbol}"
    return f"{symbol}{number}" if symbol != currency else f"{currency}\u00a0{number}"
