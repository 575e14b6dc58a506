"""What may be known of a user, decided in one place and obeyed by features and events alike.

Conservative by design: a signal that cannot be read in our favour is read against us. Where a
user may not be known there is no user key, no segment, no birth year, no gender and no city, so
that neither a feature nor an event can hold what a rule forbids.
"""

from __future__ import annotations

from typing import NamedTuple

from market.openrtb import BidRequest
from market.openrtb_reading import gdpr_of, gpp_of, number_text, us_privacy_of

_ZERO_IDS = frozenset({"00000000-0000-0000-0000-000000000000", "0", "null", "unknown"})


class Permission(NamedTuple):
    """Whether the user may be recognised, and the OpenRTB field that forbids it ("" = allowed)."""

    may_know_user: bool
    forbidden_by: str


_ALLOWED = Permission(may_know_user=True, forbidden_by="")


def permission_of(request: BidRequest) -> Permission:
    """Returns what this request permits.

    COPPA, GDPR, a US opt-out of sale, any GPP section in force, and the device's own do-not-track
    and limit-ad-tracking flags each forbid recognition. Under GDPR a consent string would have to
    name our vendor id; without a registered one there is no consent that covers us.

    Sources: OpenRTB 2.6 sections 3.2.3 and 3.2.18; IAB CCPA us_privacy string 1.0 (third
    character: opt-out of sale); GPP section ids.
    """
    device = request.device
    if device is not None:
        if device.dnt == 1:
            return Permission(may_know_user=False, forbidden_by="device.dnt")
        if device.lmt == 1:
            return Permission(may_know_user=False, forbidden_by="device.lmt")
    if request.regs is None:
        return _ALLOWED
    if request.regs.coppa == 1:
        return Permission(may_know_user=False, forbidden_by="regs.coppa")
    if gdpr_of(request) == 1:
        return Permission(may_know_user=False, forbidden_by="regs.gdpr")
    us_privacy = us_privacy_of(request)
    if us_privacy is not None and us_privacy[2:3].upper() == "Y":
        return Permission(may_know_user=False, forbidden_by="regs.us_privacy")
    if gpp_of(request)[1]:
        return Permission(may_know_user=False, forbidden_by="regs.gpp_sid")
    return _ALLOWED


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
        if text and text.lower() not in _ZERO_IDS:
            return text
    return None
