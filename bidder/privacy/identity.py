"""Who the user is, once it may be known: the id to recognise the user by, and ids that are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from market.openrtb_reading import number_text

if TYPE_CHECKING:
    from market.openrtb import BidRequest

PLACEHOLDERS: Final = frozenset({"null", "none", "unknown", "undefined"})
ZEROED_DIGITS: Final = 32
"""Digits of an advertising id: fewer zeros are a placeholder for none."""


def user_id_of(request: BidRequest) -> str | None:
    """Returns the id by which the user can be recognised: buyeruid, then id, then the device's ifa.

    Zeroed and placeholder ids name nobody.
    """
    user, device = request.user, request.device
    candidates = (
        user and user.buyeruid,
        user and user.id,
        device and device.ifa,
    )
    for candidate in candidates:
        text = number_text(candidate)
        if text and text.strip("0- ") and text.lower() not in PLACEHOLDERS:
            return text
    return None


def is_zeroed(ifa: str | float | None) -> bool:
    """Returns whether an advertising id is all zeros: how a platform says not to track.

    iOS and Android hand out 00000000-0000-0000-0000-000000000000 where the user limits tracking
    (iOS from version 10, Android since the end of 2021), so it is a signal, not a missing id.
    """
    return isinstance(ifa, str) and not ifa.strip("0- ") and ifa.count("0") >= ZEROED_DIGITS
