"""What may be used of a user: the one place where all privacy signals meet.

Conservative by design: a signal that cannot be read in our favour is read against us.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from bidder.privacy.consent import Registration, check_valid, permits
from bidder.privacy.consent_string import decode_consent
from bidder.privacy.gpp import decode_gpp
from bidder.privacy.signals import Signals, signals_of
from bidder.privacy.us_privacy import decode_us_privacy, us_privacy_permits
from bidder.privacy.us_section import LAYOUTS, decode_us_section, us_section_permits
from bidder.privacy.use import Use
from market.errors import BadInput

if TYPE_CHECKING:
    from market.openrtb import BidRequest

FORBIDDING_FIELDS: Final = (
    "", "device.dnt", "device.lmt", "device.ifa", "regs.coppa", "regs.gdpr", "user.consent",
    "regs.us_privacy", "regs.gpp_sid", "regs.gpp",
)  # fmt: skip
"""Everything a permission can name as forbidding; the number of a field is its place, 0 allows.
Stored nowhere, so they may change with the program."""

_READ_FOR: Final = {
    "user.id": Use.USER_ID,
    "user.data": Use.SEGMENTS,
    "user.keywords": Use.SEGMENTS,
    "device.geo.city": Use.PRECISE_GEO,
    "device.geo.zip": Use.PRECISE_GEO,
    "device.geo.lat": Use.PRECISE_GEO,
    "user.gender": Use.DEMOGRAPHICS,
    "user.yob": Use.DEMOGRAPHICS,
    "user.eids": Use.EIDS,
}
"""What the fields that ``bidder.no_bid`` names begin with, and the use they are read for."""

_TCF_SECTION: Final = 2
_US_PRIVACY_SECTION: Final = 6
_NONE_IN_FORCE: Final = -1
"""``gpp_sid``: no section applies to this transaction (GPP CMP API, ``applicableSections``)."""
_MEMO_MAX: Final = 4_096
_FIELD_BITS: Final = 4
_MAY_BITS: Final = len(Use)


class Permission(NamedTuple):
    """By `Use`: the OpenRTB field that forbids it, "" where it is allowed."""

    user_id: str = ""
    segments: str = ""
    precise_geo: str = ""
    demographics: str = ""
    eids: str = ""

    @property
    def may_use_user_id(self) -> bool:
        """Whether the user may be recognised across requests: ids, frequency caps, events."""
        return not self.user_id

    @property
    def may_use_segments(self) -> bool:
        """Whether segments and keywords of the user may be used."""
        return not self.segments

    @property
    def may_use_precise_geo(self) -> bool:
        """Whether a place smaller than a region may be used."""
        return not self.precise_geo

    @property
    def may_use_demographics(self) -> bool:
        """Whether year of birth and gender may be used."""
        return not self.demographics

    @property
    def may_use_eids(self) -> bool:
        """Whether extended ids may be used."""
        return not self.eids

    @property
    def forbidden_by(self) -> str:
        """The field that forbids something, the first in the order of uses; "" if nothing is."""
        return next((field for field in self if field), "")

    def blamed(self, field: str) -> str:
        """Returns the signal that keeps request field ``field`` from being read, else ``field``.

        Where a line item wants what may not be looked at, the signal is why there is no bid.
        """
        for start, use in _READ_FOR.items():
            if field.startswith(start):
                return self[use] or field
        return field


ALLOWED: Final = Permission()


_SILENT: Final = Signals()


def permission_of(request: BidRequest, tcf_vendor_id: int | None = None) -> Permission:
    """Returns what a request permits.

    COPPA, GDPR without a TC string that covers us, a US opt-out, a GPP section in force that does
    not permit or is not known, the device's own do-not-track and limit-ad-tracking flags and a
    zeroed advertising id each forbid. A request with a TC string that does not say whether GDPR
    applies is under GDPR; one with a GPP string must say which of its sections are in force.

    Args:
        request: as decoded; only `PRIVACY_FIELDS` and `ZEROED_FIELDS` are looked at.
        tcf_vendor_id: ours in the global vendor list. Without one, no consent can cover us.

    Sources: OpenRTB 2.6 sections 3.2.3, 3.2.18, 3.2.20 and 7.5; those of the strings are named
    where they are decoded.
    """
    signals = signals_of(request)
    return ALLOWED if signals == _SILENT else _decide(signals, tcf_vendor_id)


@lru_cache(_MEMO_MAX)
def _decide(signals: Signals, tcf_vendor_id: int | None) -> Permission:
    """Returns the permission; per use, the first signal that forbids it is named.

    Remembered: a page view asks many times with one TC string, and decoding that takes longer than
    the rest of a decision.
    """
    blanket = _blanket(signals)
    if blanket:
        return Permission(*(blanket for _ in Use))
    rules = _rules(signals, tcf_vendor_id)
    return Permission(
        *(next((field for field, uses in rules if use not in uses), "") for use in Use)
    )


_Rule: TypeAlias = tuple[str, frozenset[Use]]
"""The field that speaks, and the uses that it leaves."""
_NOTHING: Final[frozenset[Use]] = frozenset()
_EVERYTHING: Final = frozenset(Use)


def _blanket(signals: Signals) -> str:
    """Returns the field that forbids every use by itself, "" if none does."""
    if signals.dnt:
        return "device.dnt"
    if signals.lmt:
        return "device.lmt"
    if signals.coppa:
        return "regs.coppa"
    return "device.ifa" if signals.is_ifa_zeroed else ""


def _rules(signals: Signals, tcf_vendor_id: int | None) -> list[_Rule]:
    """Returns what each signal that is in force leaves, in the order in which they are blamed."""
    in_force = dict.fromkeys(
        section_id for ids in signals.gpp_sid if ids != (_NONE_IN_FORCE,) for section_id in ids
    )
    strings = [sections for text in signals.gpp if (sections := _sections_of(text)) is not None]
    texts = {
        section_id: [sections[section_id] for sections in strings if section_id in sections]
        for section_id in in_force
    }
    rules = _gdpr_rules(signals, texts.get(_TCF_SECTION), tcf_vendor_id)
    rules += [("regs.us_privacy", _us_privacy_uses(text)) for text in signals.us_privacy]
    if len(strings) < len(signals.gpp) or (signals.gpp and not signals.gpp_sid):
        return [*rules, ("regs.gpp", _NOTHING)]
    for section_id, said in texts.items():
        # The two sections that are older than the GPP may stand in their own fields instead.
        is_elsewhere = section_id == _US_PRIVACY_SECTION and signals.us_privacy and not said
        if section_id != _TCF_SECTION and not is_elsewhere:
            rules += _section_rules(section_id, said)
    return rules


def _sections_of(text: str) -> dict[int, str] | None:
    """Returns the sections of a GPP string by id; None, and none of them is used, if unreadable."""
    try:
        return decode_gpp(text)
    except BadInput:
        return None


def _gdpr_rules(
    signals: Signals, sections: list[str] | None, tcf_vendor_id: int | None
) -> list[_Rule]:
    """Returns the rules of GDPR; ``sections`` are GPP's TC strings, None where not in force."""
    if signals.gdpr:
        said_by = "regs.gdpr"
    elif sections is not None:
        said_by = "regs.gpp_sid"
    elif signals.gdpr is None and signals.consents:
        said_by = "user.consent"
    else:
        return []
    if tcf_vendor_id is None or not (signals.consents or sections):
        return [(said_by, _NOTHING)]
    return [
        *(("user.consent", _consent_uses(text, tcf_vendor_id)) for text in signals.consents),
        *(("regs.gpp", _consent_uses(text, tcf_vendor_id)) for text in sections or ()),
    ]


def _section_rules(section_id: int, texts: list[str]) -> list[_Rule]:
    """Returns what a section in force leaves, other than the TC string's."""
    if not texts:
        return [("regs.gpp_sid", _NOTHING)]
    if section_id == _US_PRIVACY_SECTION:
        return [("regs.gpp", _us_privacy_uses(text)) for text in texts]
    if section_id not in LAYOUTS:
        return [("regs.gpp_sid", _NOTHING)]
    return [("regs.gpp", _us_section_uses(section_id, text)) for text in texts]


def _consent_uses(text: str, tcf_vendor_id: int) -> frozenset[Use]:
    try:
        consent = decode_consent(text)
        check_valid(consent)
    except BadInput:  # read against us, like every string that cannot be read
        return _NOTHING
    ours = Registration(tcf_vendor_id)
    return frozenset(use for use in Use if permits(consent, ours, use))


def _us_privacy_uses(text: str) -> frozenset[Use]:
    try:
        found = decode_us_privacy(text)
    except BadInput:
        return _NOTHING
    return _EVERYTHING if us_privacy_permits(found) else _NOTHING


def _us_section_uses(section_id: int, text: str) -> frozenset[Use]:
    try:
        section = decode_us_section(section_id, text)
    except BadInput:
        return _NOTHING
    return frozenset(use for use in Use if us_section_permits(section, use))


def permission_bits(permission: Permission) -> int:
    """Returns a permission as an integer: bit u set = `Use` u allowed, then why not.

    Bits 0-4 are all that a kernel needs; above them, four bits a use are the place in
    `FORBIDDING_FIELDS`, so that `permission_from_bits` gives the whole of it back.
    """
    bits = 0
    for use, field in enumerate(permission):
        number = FORBIDDING_FIELDS.index(field)
        bits |= (not number) << use | number << (_MAY_BITS + _FIELD_BITS * use)
    return bits


def permission_from_bits(bits: int) -> Permission:
    """Returns the permission that `permission_bits` made ``bits`` of."""
    mask = (1 << _FIELD_BITS) - 1
    return Permission(
        *(FORBIDDING_FIELDS[bits >> (_MAY_BITS + _FIELD_BITS * use) & mask] for use in Use)
    )
