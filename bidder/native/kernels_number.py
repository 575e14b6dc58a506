"""Numbers as opportunities hold them: prices, angles, years, counts of thousandths.

Each equals the Python function that it names, or says that it is not sure.
"""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

import numpy as np

from bidder.native.cells import ABSENT
from bidder.native.kernels_scan import float_number
from market.kernel import bare_kernel as kernel
from market.money import PRICE_CPM_MICROS_MAX

_DAY_MS = 86_400_000
_MICROS = 1e6
_CPM_MAX = PRICE_CPM_MICROS_MAX / 1e6
_MARGIN = 1e-13
"""Relative; what `number` cuts off and rounds is below 10^-15."""


@kernel
def price_micros(mantissa: int, scale: int) -> tuple[bool, int]:
    """Returns (whether it is sure, ``market.money.price_from_wire``) of a number, 0 if absent."""
    if mantissa == ABSENT or mantissa <= 0:
        return True, 0
    is_exact, value = float_number(mantissa, scale)
    # From ten times the largest price on, what is cut off does not matter.
    scaled = min(value, 10.0 * _CPM_MAX) * _MICROS
    if is_exact:
        return True, min(np.int64(np.rint(scaled)), PRICE_CPM_MICROS_MAX)
    margin = scaled * _MARGIN
    least = np.rint(scaled - margin)
    return least == np.rint(scaled + margin), min(np.int64(least), PRICE_CPM_MICROS_MAX)


@kernel
def degrees_micros(mantissa: int, scale: int, degrees_max: float) -> tuple[bool, bool, int]:
    """Returns (whether it is sure, whether it is an angle, ``market.targeting.degrees_e6`` of it).

    An angle lies between -degrees_max and degrees_max.
    """
    is_exact, value = float_number(mantissa, scale)
    margin = 0.0 if is_exact else 1e-9
    if abs(value) > degrees_max + margin:
        return True, False, 0
    if not is_exact and abs(value) > degrees_max - margin:
        return False, False, 0
    scaled = value * _MICROS + 0.5
    margin = 0.0 if is_exact else abs(scaled) * _MARGIN + 1e-9
    least = np.floor(scaled - margin)
    return least == np.floor(scaled + margin), True, np.int64(least)


@kernel
def year_of(epoch_ms: int) -> int:
    """Returns the UTC year of an instant.

    Source: the proleptic Gregorian calendar; 400 years are 146,097 days, counted from 1 March.
    """
    days = epoch_ms // _DAY_MS + 719_468
    era = days // 146_097
    day = days - era * 146_097
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day_of_year = day - (365 * year + year // 4 - year // 100)
    return year + era * 400 + (1 if day_of_year >= 306 else 0)
