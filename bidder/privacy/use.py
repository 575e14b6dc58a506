"""The uses that a bidder can make of what a request says of a user."""

from __future__ import annotations

import enum


class Use(enum.IntEnum):
    """What a signal permits or forbids, each for itself. Numbers are places in `Permission`."""

    USER_ID = 0
    """``user.id``, ``user.buyeruid``, ``device.ifa``: recognise the user, cap, measure."""
    SEGMENTS = 1
    """``user.data``, ``user.keywords``, ``user.kwarray``, ``user.customdata``."""
    PRECISE_GEO = 2
    """``geo.lat`` and ``geo.lon`` beyond two decimals, ``geo.city``, ``geo.zip``."""
    DEMOGRAPHICS = 3
    """``user.yob``, ``user.gender``."""
    EIDS = 4
    """``user.eids``."""
