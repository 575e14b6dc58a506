"""The TC string of the IAB Transparency & Consent Framework v2.x, decoded in full.

What this file does not do: judge. What a decoded string permits is `bidder.privacy.consent`.

Source: IAB Tech Lab, "Consent string and vendor list formats v2", section "TC String Format"
(versions 2.0 to 2.3 share the layout; 2.3 made the disclosed vendors segment mandatory).
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from bidder.privacy.bits import ID_MAX, Bits, merged
from market.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION: Final = 2
_PURPOSES: Final = 24
_SPECIAL_FEATURES: Final = 12
_DECISECOND_MS: Final = 100
_ONES: Final = re.compile("1+")


class Segment(enum.IntEnum):
    """Segments behind the core, by the 3 bits they start with."""

    DISCLOSED_VENDORS = 1
    ALLOWED_VENDORS = 2
    """Out of use since 2.1, still found in strings; it permits nothing."""
    PUBLISHER_TC = 3


class Restriction(enum.IntEnum):
    """What a publisher demands of vendors for one purpose (2 bits)."""

    NOT_ALLOWED = 0
    REQUIRE_CONSENT = 1
    REQUIRE_LEGITIMATE_INTEREST = 2
    UNDEFINED = 3


class VendorIds(NamedTuple):
    """A set of vendor ids as inclusive ranges, rising and apart; small whatever it holds."""

    ranges: tuple[tuple[int, int], ...]

    def holds(self, vendor_id: int) -> bool:
        """Returns whether ``vendor_id`` is in the set."""
        return any(first <= vendor_id <= last for first, last in self.ranges)

    def each(self) -> Iterator[int]:
        """Yields the ids in rising order."""
        for first, last in self.ranges:
            yield from range(first, last + 1)


class PublisherRestriction(NamedTuple):
    """One publisher restriction: a purpose, what is demanded, and of whom."""

    purpose: int
    kind: Restriction
    vendors: VendorIds


class PublisherConsent(NamedTuple):
    """The publisher's own purposes (segment 3); no business of a vendor, decoded for people."""

    purposes: frozenset[int]
    legitimate_interests: frozenset[int]
    custom_purposes: frozenset[int]
    custom_legitimate_interests: frozenset[int]


class ConsentString(NamedTuple):
    """One TC string. Field names follow the specification.

    Attributes:
        version: of the format, 2.
        created_ms, updated_ms: epoch milliseconds; both are the day of the last change since 2.1.
        cmp_id, cmp_version, consent_screen: who asked, and where.
        language: of the question, two letters.
        vendor_list_version: of the global vendor list that was shown.
        policy_version: of the TCF policies it was asked under; 4 is TCF 2.2, 5 is TCF 2.3.
        is_service_specific: False was the global scope, invalid since 2021.
        uses_non_standard_texts: the texts shown were not the standard ones.
        special_features: opted in to; 1 is precise geolocation.
        purposes: consented to.
        legitimate_interests: purposes whose legitimate interest was disclosed and not objected to.
        purpose_one_treatment: purpose 1 was not disclosed at all.
        publisher_country: whose law the publisher is under, two letters.
        vendors: that have the user's consent.
        vendors_legitimate_interest: whose legitimate interest stands.
        restrictions: of the publisher, as sent.
        disclosed_vendors: that the user was shown; None when the segment is missing.
        publisher: the publisher's own purposes; None when the segment is missing.
    """

    version: int
    created_ms: int
    updated_ms: int
    cmp_id: int
    cmp_version: int
    consent_screen: int
    language: str
    vendor_list_version: int
    policy_version: int
    is_service_specific: bool
    uses_non_standard_texts: bool
    special_features: frozenset[int]
    purposes: frozenset[int]
    legitimate_interests: frozenset[int]
    purpose_one_treatment: bool
    publisher_country: str
    vendors: VendorIds
    vendors_legitimate_interest: VendorIds
    restrictions: tuple[PublisherRestriction, ...]
    disclosed_vendors: VendorIds | None = None
    publisher: PublisherConsent | None = None


def decode_consent(text: str) -> ConsentString:
    """Returns what a TC string says.

    Raises:
        BadInput: it is no TC string v2: another version, another alphabet, cut off, a range that
            runs backwards or beyond its own maximum, a segment twice, bits behind the last field.
    """
    core, *others = text.split(".")
    consent = _core(Bits(core))
    seen: set[Segment] = set()
    for part in others:
        bits = Bits(part)
        kind = _segment(bits.take(3))
        if kind in seen:
            raise BadInput(f"consent string: segment {kind.name} stands there twice")
        seen.add(kind)
        if kind is Segment.PUBLISHER_TC:
            consent = consent._replace(publisher=_publisher(bits))
            continue
        vendors = _vendor_ids(bits)
        if kind is Segment.DISCLOSED_VENDORS:
            consent = consent._replace(disclosed_vendors=vendors)
        bits.end()
    return consent


def _core(bits: Bits) -> ConsentString:
    version = bits.take(6)
    if version != VERSION:
        raise BadInput(f"consent string: version is {version}; it must be {VERSION}")
    consent = ConsentString(
        version=version,
        created_ms=bits.take(36) * _DECISECOND_MS,
        updated_ms=bits.take(36) * _DECISECOND_MS,
        cmp_id=bits.take(12),
        cmp_version=bits.take(12),
        consent_screen=bits.take(6),
        language=bits.text(2),
        vendor_list_version=bits.take(12),
        policy_version=bits.take(6),
        is_service_specific=bits.flag(),
        uses_non_standard_texts=bits.flag(),
        special_features=bits.ids(_SPECIAL_FEATURES),
        purposes=bits.ids(_PURPOSES),
        legitimate_interests=bits.ids(_PURPOSES),
        purpose_one_treatment=bits.flag(),
        publisher_country=bits.text(2),
        vendors=_vendor_ids(bits),
        vendors_legitimate_interest=_vendor_ids(bits),
        restrictions=tuple(_restriction(bits) for _ in range(bits.take(12))),
    )
    bits.end()
    return consent


def _segment(number: int) -> Segment:
    if number not in tuple(Segment):
        raise BadInput(f"consent string: a segment has type {number}; it must be 1, 2 or 3")
    return Segment(number)


def _restriction(bits: Bits) -> PublisherRestriction:
    purpose, kind = bits.take(6), Restriction(bits.take(2))
    return PublisherRestriction(purpose, kind, _ranges(bits, ID_MAX))


def _publisher(bits: Bits) -> PublisherConsent:
    purposes, interests = bits.ids(_PURPOSES), bits.ids(_PURPOSES)
    count = bits.take(6)
    empty: frozenset[int] = frozenset()
    custom = (bits.ids(count), bits.ids(count)) if count else (empty, empty)
    bits.end()
    return PublisherConsent(purposes, interests, *custom)


def _vendor_ids(bits: Bits) -> VendorIds:
    """Returns a vendor section: its maximum id, then a bit per id or ranges."""
    id_max = bits.take(16)
    if bits.flag():
        return _ranges(bits, id_max)
    if not id_max:
        return VendorIds(())
    digits = format(bits.take(id_max), f"0{id_max}b")
    return VendorIds(tuple((run.start() + 1, run.end()) for run in _ONES.finditer(digits)))


def _ranges(bits: Bits, id_max: int) -> VendorIds:
    """Returns a range section: a count, then single ids or first and last ones, 16 bits each."""
    found: list[tuple[int, int]] = []
    for _ in range(bits.take(12)):
        is_range = bits.flag()
        first = bits.take(16)
        last = bits.take(16) if is_range else first
        if not 1 <= first <= last <= id_max:
            raise BadInput(
                f"consent string: vendors {first}-{last}; they must rise within 1-{id_max}"
            )
        found.append((first, last))
    return VendorIds(merged(found))
