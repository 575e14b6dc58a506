"""Prices and amounts in exact fractions, rounded only where the rule rounds.

Sources: OpenRTB 2.6, 4.2.3 (a price is for a thousand impressions) and 3.2.31 (qty.multiplier).
"""

from __future__ import annotations

import math
from fractions import Fraction

MICROS = 1_000_000


def scale_up(value, factor_micros):
    return math.ceil(Fraction(value * factor_micros, MICROS))


def scale_down(value, factor_micros):
    return math.floor(Fraction(value * MICROS, factor_micros))


def exact_amount(price_cpm_micros, quantity_micros, rate_micros):
    """What the impressions cost, not rounded, in micros of the account's currency."""
    price = Fraction(price_cpm_micros) * Fraction(rate_micros, MICROS)
    return price * Fraction(quantity_micros, MICROS) / 1000


def amount(price_cpm_micros, quantity_micros, rate_micros):
    """The same, in whole micros: the price is rounded up, then what it amounts to."""
    price = math.ceil(Fraction(price_cpm_micros) * Fraction(rate_micros, MICROS))
    return math.ceil(price * Fraction(quantity_micros, MICROS) / 1000)
