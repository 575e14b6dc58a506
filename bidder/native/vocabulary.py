"""Words and codes that kernels look up, built from the constants that the default path uses."""

from __future__ import annotations

from typing import Final

import numpy as np

from bidder.context import ACCURACY_M_MAX, EPOCH_WEEKDAY, FLAG_CODES, GEO_FROM_IP, HOUR_CODES
from bidder.native.words import word_table
from bidder.privacy import Use
from bidder.privacy.identity import PLACEHOLDERS
from market.chance import code_of
from market.money import CURRENCY_NUMBERS

__all__ = [
    "ACCURACY_M_MAX",
    "CURRENCY_MULTIPLIER",
    "CURRENCY_TABLE",
    "DEMOGRAPHICS",
    "EIDS",
    "FLAGS",
    "GEO_FROM_IP",
    "HOURS",
    "HOURS_SHIFT",
    "INVENTORY_TYPES",
    "PLACEHOLDER_MULTIPLIER",
    "PLACEHOLDER_TABLE",
    "PRECISE_GEO",
    "SEGMENTS",
    "USD",
    "USER_ID",
    "ZERO_TEXT",
]

_multiplier, CURRENCY_TABLE = word_table(CURRENCY_NUMBERS)
CURRENCY_MULTIPLIER: Final = np.uint64(_multiplier)
"""Names in upper case, as in the table; the value is the ISO 4217 number."""

_multiplier, PLACEHOLDER_TABLE = word_table(dict.fromkeys(sorted(PLACEHOLDERS), 1))
PLACEHOLDER_MULTIPLIER: Final = np.uint64(_multiplier)
"""Ids that name nobody, in lower case."""

HOURS: Final = np.array(HOUR_CODES, np.uint64)
"""[168] codes of ``sun 0`` to ``sat 23``."""
HOURS_SHIFT: Final = EPOCH_WEEKDAY * 24
USD: Final = CURRENCY_NUMBERS["USD"]
FLAGS: Final = np.array(FLAG_CODES, np.uint64)
INVENTORY_TYPES: Final = np.array([code_of(name) for name in ("site", "app", "dooh")], np.uint64)
ZERO_TEXT: Final = np.uint64(code_of("0"))

USER_ID, SEGMENTS, PRECISE_GEO, DEMOGRAPHICS, EIDS = (1 << use for use in Use)
"""Bits of ``bidder.privacy.permission_bits``: the use is allowed."""
