"""The US sections of a GPP string: national (7) and the states (8-23), and what they permit.

Every section is a row of two-bit fields; they differ in which. The drafts for Maryland, Indiana,
Kentucky and Rhode Island (24-27) are out for comment with a layout of their own: they are not read,
and a section in force that is not read permits nothing.

Source: IAB Tech Lab, Global Privacy Platform, "Sections/US-National" (MSPA US National Technical
Specification 1.0 and 2.0) and "Sections/US-States" (the specification of each state).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bidder.privacy.bits import Bits
from bidder.privacy.use import Use
from market.errors import BadInput

_GPC_SUBSECTION: Final = 1
_UNDEFINED: Final = 3
GIVEN: Final = 1
"""Of a notice."""
NOT_GIVEN: Final = 2
NO_CONSENT: Final = 1
NOT_OPTED_OUT: Final = 2
"""Of an opt-out; of a consent, that it was given."""
YES: Final = 1
NOT_APPLICABLE: Final = 0

SENSITIVE: Final = "SensitiveDataProcessing"
CHILDREN: Final = "KnownChildSensitiveDataConsents"
ACTIVITIES: Final = ("Sale", "Sharing", "TargetedAdvertising")
"""What a user may opt out of: fields ``<activity>OptOutNotice`` and ``<activity>OptOut``."""
_NOTICES: Final = ("SharingNotice", "ProcessingNotice")
_SENSITIVE_NOTICES: Final = (
    "SensitiveDataProcessingOptOutNotice", "SensitiveDataLimitUseNotice",
    "SensitiveDataOptOutNotice",
)  # fmt: skip
_CONSENTS: Final = ("PersonalDataConsents", "AdditionalDataProcessingConsent")


class Layout(NamedTuple):
    """The fields of one section's core segment, behind its version.

    Attributes:
        name: of the section, as in the API ("usca").
        versions: that have this layout.
        fields: (name, how many two-bit entries), in order.
        geo: place of precise geolocation in SensitiveDataProcessing, from 1; 0 where it has none.
    """

    name: str
    versions: tuple[int, ...]
    fields: tuple[tuple[str, int], ...]
    geo: int

    @property
    def bit_count(self) -> int:
        """Bits of the core segment, without padding."""
        return 6 + 2 * sum(count for _, count in self.fields)


class UsSection(NamedTuple):
    """One section as sent.

    Attributes:
        layout: how it was read.
        version: of the section's specification.
        values: entries of each field, by field name.
        has_gpc: the Global Privacy Control signal; False where the section has none.
    """

    layout: Layout
    version: int
    values: dict[str, tuple[int, ...]]
    has_gpc: bool

    def value(self, field: str) -> int:
        """Returns the first entry of a field, not applicable where the section has no such one."""
        return self.values.get(field, (NOT_APPLICABLE,))[0]


def _layout(
    name: str, before: str, sensitive: int, children: int, after: str = "", geo: int = 8,
    versions: tuple[int, ...] = (1,),
) -> Layout:  # fmt: skip
    mspa = ("MspaCoveredTransaction", "MspaOptOutOptionMode", "MspaServiceProviderMode")
    fields = (
        *((field, 1) for field in before.split()),
        (SENSITIVE, sensitive),
        (CHILDREN, children),
        *((field, 1) for field in (*after.split(), *mspa)),
    )
    return Layout(name, versions, fields, geo)


_OFFERS = "SaleOptOutNotice TargetedAdvertisingOptOutNotice"
_CHOICES = "SaleOptOut TargetedAdvertisingOptOut"
_SHARING = f"SharingNotice {_OFFERS} {_CHOICES}"
_PROCESSING = f"ProcessingNotice {_OFFERS} {_CHOICES}"
_ADDITIONAL = "AdditionalDataProcessingConsent"
_NATIONAL = (
    "SharingNotice SaleOptOutNotice SharingOptOutNotice TargetedAdvertisingOptOutNotice "
    "SensitiveDataProcessingOptOutNotice SensitiveDataLimitUseNotice "
    "SaleOptOut SharingOptOut TargetedAdvertisingOptOut"
)
_CALIFORNIA = (
    "SaleOptOutNotice SharingOptOutNotice SensitiveDataLimitUseNotice SaleOptOut SharingOptOut"
)
_UTAH = f"SharingNotice {_OFFERS} SensitiveDataProcessingOptOutNotice {_CHOICES}"
_IOWA = f"ProcessingNotice {_OFFERS} SensitiveDataOptOutNotice {_CHOICES}"

LAYOUTS: Final[dict[int, tuple[Layout, ...]]] = {
    7: (
        _layout("usnat", _NATIONAL, 16, 3, "PersonalDataConsents", versions=(1, 2)),
        _layout("usnat", _NATIONAL, 12, 2, "PersonalDataConsents"),
    ),
    8: (_layout("usca", _CALIFORNIA, 9, 2, "PersonalDataConsents", geo=3),),
    9: (_layout("usva", _SHARING, 8, 1),),
    10: (_layout("usco", _SHARING, 7, 1, geo=0),),
    11: (_layout("usut", _UTAH, 8, 1),),
    12: (_layout("usct", _SHARING, 8, 3),),
    13: (_layout("usfl", _PROCESSING, 8, 3, _ADDITIONAL),),
    14: (_layout("usmt", _SHARING, 8, 3, _ADDITIONAL),),
    15: (_layout("usor", _PROCESSING, 11, 3, _ADDITIONAL, geo=11),),
    16: (_layout("ustx", _PROCESSING, 8, 1, _ADDITIONAL),),
    17: (_layout("usde", _PROCESSING, 9, 5, _ADDITIONAL),),
    18: (_layout("usia", _IOWA, 8, 1),),
    19: (_layout("usne", _PROCESSING, 8, 1, _ADDITIONAL),),
    20: (_layout("usnh", _PROCESSING, 8, 3, _ADDITIONAL),),
    21: (_layout("usnj", _PROCESSING, 10, 5, _ADDITIONAL),),
    22: (_layout("ustn", _PROCESSING, 8, 1, _ADDITIONAL),),
    23: (_layout("usmn", _PROCESSING, 8, 1, _ADDITIONAL),),
}
"""By section id; where a version has two layouts (the national section's first one grew in place)
the first that the text is long enough for."""


def decode_us_section(section_id: int, text: str) -> UsSection:
    """Returns what a US section of ``LAYOUTS`` says.

    Raises:
        BadInput: a version that is not known, too few bits, a field of value 3, a subsection
            other than one GPC.
    """
    core, *subsections = text.split(".")
    bits = Bits(core)
    layouts = [each for each in LAYOUTS[section_id] if each.bit_count <= bits.left]
    version = bits.take(6)
    layout = next((each for each in layouts if version in each.versions), None)
    if layout is None:
        raise BadInput(
            f"GPP section {section_id} of {bits.left + 6} bits: version is {version}; "
            "no known layout has this version and fits"
        )
    values = {field: tuple(bits.take(2) for _ in range(count)) for field, count in layout.fields}
    bits.end()
    if any(_UNDEFINED in entries for entries in values.values()):
        raise BadInput(f"GPP section {section_id}: a field is {_UNDEFINED}; it must be 0-2")
    return UsSection(layout, version, values, _gpc(section_id, subsections))


def _gpc(section_id: int, subsections: list[str]) -> bool:
    if len(subsections) > 1:
        raise BadInput(f"GPP section {section_id}: {len(subsections)} subsections; at most 1")
    has_gpc = False
    for text in subsections:
        bits = Bits(text)
        kind, has_gpc = bits.take(2), bits.flag()
        bits.end()
        if kind != _GPC_SUBSECTION:
            raise BadInput(f"GPP section {section_id}: subsection type is {kind}; it must be 1")
    return has_gpc


def us_section_permits(section: UsSection, use: Use) -> bool:
    """Returns whether a section lets a buyer make ``use`` of the user.

    Needed for any use: the user was offered to opt out of at least one activity and did not, no
    activity was opted out of or offered without an answer, no notice is missing, nobody is known
    to be a child (whatever a parent consented to), no consent is refused, no Global Privacy
    Control, and the buyer is no mere service provider of the publisher. Precise geolocation is
    sensitive data: it needs its own consent, or that the user did not opt out of it.
    """
    if use is Use.PRECISE_GEO and not _permits_precise_geo(section):
        return False
    choices = [
        (section.value(f"{activity}OptOutNotice"), section.value(f"{activity}OptOut"))
        for activity in ACTIVITIES
    ]
    offered = [choice for choice in choices if choice != (NOT_APPLICABLE, NOT_APPLICABLE)]
    return (
        bool(offered)
        and all(choice == (GIVEN, NOT_OPTED_OUT) for choice in offered)
        and all(section.value(notice) != NOT_GIVEN for notice in _NOTICES)
        and not any(section.values[CHILDREN])
        and all(section.value(consent) != NO_CONSENT for consent in _CONSENTS)
        and section.value("MspaCoveredTransaction") != NOT_APPLICABLE
        and section.value("MspaServiceProviderMode") != YES
        and not section.has_gpc
    )


def _permits_precise_geo(section: UsSection) -> bool:
    place = section.layout.geo
    return (
        place > 0
        and section.values[SENSITIVE][place - 1] == NOT_OPTED_OUT
        and all(section.value(notice) != NOT_GIVEN for notice in _SENSITIVE_NOTICES)
    )
