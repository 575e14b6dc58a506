"""What may be known of a user, decided in one place and obeyed by features and events alike.

Conservative by design: a signal that cannot be read in our favour is read against us. Where a
user may not be known there is no user key, no segment, no birth year, no gender and no city, so
that neither a feature nor an event can hold what a rule forbids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from market.openrtb_reading import consent_of, gdpr_of, gpp_of, number_text, us_privacy_of

if TYPE_CHECKING:
    from market.openrtb import BidRequest

_PLACEHOLDERS = frozenset({"null", "none", "unknown", "undefined"})
_US_PRIVACY_ALLOWS = ("N", "-")
"""Third character: the user has not opted out of the sale, or the law does not apply."""


class Permission(NamedTuple):
    """Whether the user may be recognised, and the OpenRTB field that forbids it ("" = allowed)."""

    may_know_user: bool
    forbidden_by: str


_ALLOWED = Permission(may_know_user=True, forbidden_by="")


def permission_of(request: BidRequest) -> Permission:
    """Returns what this request permits.

    COPPA, GDPR, a US opt-out of sale, any GPP string or section in force, and the device's own
    do-not-track and limit-ad-tracking flags each forbid recognition. Under GDPR a consent string
    would have to name our vendor id; without a registered one there is no consent that covers us. A
    request with a consent string that does not say whether GDPR applies is under GDPR.

    Sources: OpenRTB 2.6 sections 3.2.3 and 3.2.18; IAB CCPA us_privacy string 1.0 (third
    character: opt-out of sale); GPP section ids.
    """
    forbidden_by = _forbidden_by_device(request) or _forbidden_by_law(request)
    if forbidden_by:
        return Permission(may_know_user=False, forbidden_by=forbidden_by)
    return _ALLOWED


def _forbidden_by_device(request: BidRequest) -> str:
    device = request.device
    if device is None:
        return ""
    if device.dnt:
        return "device.dnt"
    return "device.lmt" if device.lmt else ""


def _forbidden_by_law(request: BidRequest) -> str:
    if request.regs is None:
        return "user.consent" if consent_of(request) else ""
    if request.regs.coppa:
        return "regs.coppa"
    gdpr = gdpr_of(request)
    if gdpr or (gdpr is None and consent_of(request)):
        return "regs.gdpr" if gdpr else "user.consent"
    us_privacy = us_privacy_of(request)
    if us_privacy is not None and us_privacy[2:3].upper() not in _US_PRIVACY_ALLOWS:
        return "regs.us_privacy"
    gpp, sections = gpp_of(request)
    if sections:
        return "regs.gpp_sid"
    return "regs.gpp" if gpp else ""


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
        if text and text.strip("0- ") and text.lower() not in _PLACEHOLDERS:
            return text
    return None
