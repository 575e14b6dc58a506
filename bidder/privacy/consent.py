"""What a TC string permits us: which purposes each use of a user needs, and whether we have them.

Sources: IAB Tech Lab, "Consent string and vendor list formats v2", sections "What are publisher
restrictions?", "Managing conflicting string versions" and "The Core String"; IAB Europe TCF
policies, appendix A (purposes and special features).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bidder.privacy.consent_string import ConsentString, Restriction
from bidder.privacy.use import Use
from market.errors import BadInput


class Needs(NamedTuple):
    """The TCF purposes and special features that one use of a user stands on, all of them."""

    purposes: tuple[int, ...]
    special_features: tuple[int, ...] = ()


NEEDS: Final[dict[Use, Needs]] = {
    Use.USER_ID: Needs((1, 2, 7)),
    Use.SEGMENTS: Needs((1, 3, 4)),
    Use.PRECISE_GEO: Needs((2,), (1,)),
    Use.DEMOGRAPHICS: Needs((1, 3, 4)),
    Use.EIDS: Needs((1, 2, 3, 4, 7)),
}
"""Purposes: 1 store and access information on a device, 2 limited data to select advertising
(frequency caps are named in it), 3 profiles for personalised advertising, 4 select personalised
advertising by them, 7 measure advertising. Special feature: 1 precise geolocation.

A user id both caps and joins the events that measure, so it needs 2 and 7; extended ids may be
matched to audiences too, so they need everything."""

CONSENT_ONLY: Final = frozenset({1, 3, 4, 5, 6})
"""Purposes without legitimate interest: 1 ever, 3 to 6 since TCF 2.2."""

_POLICY_VERSION_MIN: Final = 4
"""Strings of older policies (before TCF 2.2) are invalid since 30 September 2023."""
_POLICY_VERSION_DISCLOSING: Final = 5
_DISCLOSED_SINCE_MS: Final = 1_772_323_200_000
"""1 March 2026: strings made from here on need the disclosed vendors segment (TCF 2.3)."""


class Registration(NamedTuple):
    """How a vendor is registered in the global vendor list.

    Attributes:
        vendor_id: its number, from 1.
        legitimate_interests: purposes it declares on legitimate interest; all others on consent.
        flexible: purposes for which it takes whichever of the two a publisher requires.
    """

    vendor_id: int
    legitimate_interests: frozenset[int] = frozenset()
    flexible: frozenset[int] = frozenset()


def check_valid(consent: ConsentString) -> None:
    """Expects a string that may be relied on at all.

    Raises:
        BadInput: global scope, an outdated policy, or no disclosed vendors where they are required.
    """
    if not consent.is_service_specific:
        raise BadInput("consent string: IsServiceSpecific is 0; it must be 1 (no global scope)")
    if consent.policy_version < _POLICY_VERSION_MIN:
        raise BadInput(
            f"consent string: TcfPolicyVersion is {consent.policy_version}; "
            f"it must be >= {_POLICY_VERSION_MIN}"
        )
    is_disclosing = (
        consent.policy_version >= _POLICY_VERSION_DISCLOSING
        or consent.updated_ms >= _DISCLOSED_SINCE_MS
    )
    if is_disclosing and consent.disclosed_vendors is None:
        raise BadInput("consent string: no disclosed vendors segment; TCF 2.3 requires it")


def permits(consent: ConsentString, registration: Registration, use: Use) -> bool:
    """Returns whether a valid string lets the vendor make ``use`` of the user."""
    disclosed = consent.disclosed_vendors
    if disclosed is not None and not disclosed.holds(registration.vendor_id):
        return False
    needs = NEEDS[use]
    return consent.special_features.issuperset(needs.special_features) and all(
        may_process(consent, registration, purpose) for purpose in needs.purposes
    )


def may_process(consent: ConsentString, registration: Registration, purpose: int) -> bool:
    """Returns whether the vendor has a legal basis for one purpose, publisher restrictions obeyed.

    A purpose 1 that was not disclosed (PurposeOneTreatment) was not consented to either: whether
    the publisher's law needs no consent for it is not ours to decide.
    """
    if purpose == 1 and consent.purpose_one_treatment:
        return False
    by_interest = purpose in registration.legitimate_interests
    is_flexible = purpose in registration.flexible
    demanded = {
        restriction.kind
        for restriction in consent.restrictions
        if restriction.purpose == purpose and restriction.vendors.holds(registration.vendor_id)
    }
    if len(demanded) > 1:  # they contradict each other
        return False
    for kind in demanded:
        if kind in (Restriction.NOT_ALLOWED, Restriction.UNDEFINED):
            return False
        wants_interest = kind is Restriction.REQUIRE_LEGITIMATE_INTEREST
        if wants_interest != by_interest and not is_flexible:
            return False
        by_interest = wants_interest
    if by_interest:
        return (
            purpose not in CONSENT_ONLY
            and purpose in consent.legitimate_interests
            and consent.vendors_legitimate_interest.holds(registration.vendor_id)
        )
    return purpose in consent.purposes and consent.vendors.holds(registration.vendor_id)
