"""Money: integer micros of a named currency. A price is per thousand; an amount is what is paid.

``*_cpm_micros`` is a price, ``*_micros`` an amount, and ``market.kernels.amount_micros`` is the one
function that turns the first into the second. Floats exist only at the OpenRTB edge, where
``price_from_wire`` and ``price_to_wire`` live.
"""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, Decimal, InvalidOperation

from market.errors import BadInput
from market.kernels import amount_micros

PRICE_CPM_MICROS_MAX = 10_000_000_000
"""10,000 units of currency per thousand: no bid, floor or clearing price above it is believed."""

BUDGET_MICROS_MAX = 10**15
"""One billion units of currency: an upper bound that keeps every sum far inside int64."""

MICROS = 1_000_000
"""Micros per unit of currency; also the scale of ``rate_micros`` and ``quantity_micros``."""

_MICRO = Decimal("0.000001")
_FLOAT_NOISE = Decimal("1e-11")

# ISO 4217: alphabetic code -> (numeric code). Those that exchanges name in `cur`.
CURRENCY_NUMBERS: dict[str, int] = {
    "AED": 784, "ARS": 32, "AUD": 36, "BRL": 986, "CAD": 124, "CHF": 756, "CLP": 152, "CNY": 156,
    "COP": 170, "CZK": 203, "DKK": 208, "EGP": 818, "EUR": 978, "GBP": 826, "HKD": 344, "HUF": 348,
    "IDR": 360, "ILS": 376, "INR": 356, "JPY": 392, "KRW": 410, "MXN": 484, "MYR": 458, "NOK": 578,
    "NZD": 554, "PEN": 604, "PHP": 608, "PLN": 985, "RON": 946, "RUB": 643, "SAR": 682, "SEK": 752,
    "SGD": 702, "THB": 764, "TRY": 949, "TWD": 901, "UAH": 980, "USD": 840, "VND": 704, "ZAR": 710,
}  # fmt: skip
CURRENCY_NAMES: dict[int, str] = {number: name for name, number in CURRENCY_NUMBERS.items()}

__all__ = [
    "BUDGET_MICROS_MAX",
    "CURRENCY_NAMES",
    "CURRENCY_NUMBERS",
    "MICROS",
    "PRICE_CPM_MICROS_MAX",
    "amount_micros",
    "currency_number",
    "micros_to_text",
    "price_from_text",
    "price_from_wire",
    "price_to_wire",
]


def currency_number(name: str, pointer: str = "") -> int:
    """Returns the ISO 4217 number of a currency name such as ``USD``.

    Raises:
        BadInput: the name is none of those an auction may use.
    """
    number = CURRENCY_NUMBERS.get(name.strip().upper())
    if number is None:
        raise BadInput(f"currency '{name}': it must be a known ISO 4217 code such as USD", pointer)
    return number


def price_from_wire(cpm: float) -> int:
    """Returns a wire price (CPM, float) in micros, clamped to [0, PRICE_CPM_MICROS_MAX].

    Nearest micro: 2.5 -> 2,500,000. Negative, NaN and absurd values come from dirty requests; a
    floor that is too high to be believed becomes the maximum, which no bid reaches.
    """
    if math.isnan(cpm) or cpm <= 0.0:
        return 0
    return min(round(min(cpm, 1e5) * 1e6), PRICE_CPM_MICROS_MAX)


def price_to_wire(price_cpm_micros: int) -> float:
    """Returns the CPM as the float that goes on the wire; ``price_from_wire`` gives it back."""
    return price_cpm_micros / 1e6


def price_from_text(text: str) -> int:
    """Returns the price a macro such as ``${AUCTION_PRICE}`` was filled with, in CPM micros.

    Exact (decimal): "1.234567" -> 1,234,567; digits beyond the micro are rounded up, so that a
    price is never understated. What a binary float leaves behind (0.30000000000000004) is no digit:
    a rest below 10^-11 is dropped, or a price equal to the bid would read as one above it.

    Raises:
        BadInput: not a decimal number, negative, or above PRICE_CPM_MICROS_MAX.
    """
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise BadInput(f"price '{text}': it must be a decimal number (CPM)") from error
    if not value.is_finite() or value < 0 or value > PRICE_CPM_MICROS_MAX // MICROS:
        raise BadInput(
            f"price '{text}': it must be between 0 and {PRICE_CPM_MICROS_MAX // MICROS} CPM"
        )
    # quantize rounds once, from all digits; a product would first be cut to 28 of them.
    whole = value.quantize(_MICRO, ROUND_FLOOR)
    if value - whole > _FLOAT_NOISE:
        whole += _MICRO
    return int(whole.scaleb(6))


def micros_to_text(amount: int, currency: str) -> str:
    """Returns an amount for people: ``1234560000, "USD"`` -> ``1,234.56 USD``."""
    return f"{amount / MICROS:,.2f} {currency}"
