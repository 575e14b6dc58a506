"""Writes consent strings, from the specifications: texts of 0 and 1, put together field by field.

Sources: IAB Tech Lab, "Consent string and vendor list formats v2" (TC string), "Global Privacy
Platform String" (header, Fibonacci coding) and the specifications of the US sections.
"""

from __future__ import annotations

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

_MSPA = "MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode"
US_FIELDS = {
    7: "SharingNotice SaleOptOutNotice SharingOptOutNotice TargetedAdvertisingOptOutNotice"
    " SensitiveDataProcessingOptOutNotice SensitiveDataLimitUseNotice SaleOptOut SharingOptOut"
    " TargetedAdvertisingOptOut SensitiveDataProcessing:16 KnownChildSensitiveDataConsents:3"
    f" PersonalDataConsents {_MSPA}",
    8: "SaleOptOutNotice SharingOptOutNotice SensitiveDataLimitUseNotice SaleOptOut SharingOptOut"
    " SensitiveDataProcessing:9 KnownChildSensitiveDataConsents:2 PersonalDataConsents"
    f" {_MSPA}",
    9: "SharingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut"
    " TargetedAdvertisingOptOut SensitiveDataProcessing:8 KnownChildSensitiveDataConsents:1"
    f" {_MSPA}",
    10: "SharingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut"
    " TargetedAdvertisingOptOut SensitiveDataProcessing:7 KnownChildSensitiveDataConsents:1"
    f" {_MSPA}",
    11: "SharingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice"
    " SensitiveDataProcessingOptOutNotice SaleOptOut TargetedAdvertisingOptOut"
    f" SensitiveDataProcessing:8 KnownChildSensitiveDataConsents:1 {_MSPA}",
    12: "SharingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut"
    " TargetedAdvertisingOptOut SensitiveDataProcessing:8 KnownChildSensitiveDataConsents:3"
    f" {_MSPA}",
    14: "SharingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut"
    " TargetedAdvertisingOptOut SensitiveDataProcessing:8 KnownChildSensitiveDataConsents:3"
    f" AdditionalDataProcessingConsent {_MSPA}",
    18: "ProcessingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice"
    " SensitiveDataOptOutNotice SaleOptOut TargetedAdvertisingOptOut SensitiveDataProcessing:8"
    f" KnownChildSensitiveDataConsents:1 {_MSPA}",
} | {
    section: "ProcessingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut"
    f" TargetedAdvertisingOptOut SensitiveDataProcessing:{sensitive}"
    f" KnownChildSensitiveDataConsents:{children} AdditionalDataProcessingConsent {_MSPA}"
    for section, sensitive, children in (
        (13, 8, 3), (15, 11, 3), (16, 8, 1), (17, 9, 5), (19, 8, 1), (20, 8, 3), (21, 10, 5),
        (22, 8, 1), (23, 8, 1),
    )
}  # fmt: skip
"""Fields of the core segment of each US section and how many two-bit entries they have."""

PRECISE_GEOLOCATION = dict.fromkeys(US_FIELDS, 8) | {8: 3, 10: None, 15: 11}
"""Which data activity is precise (or specific) geolocation, from 1; Colorado names none."""


def us_fields(section):
    """[(name, entries)] of a section."""
    parts = (field.partition(":") for field in US_FIELDS[section].split())
    return [(name, int(count or 1)) for name, _, count in parts]


def number(value, width):
    digits = bin(value)[2:].rjust(width, "0")
    assert len(digits) == width, (value, width)
    return digits


def letters(text):
    return "".join(number(ord(letter) - ord("A"), 6) for letter in text)


def one_per_id(ids, width):
    return "".join("1" if place in ids else "0" for place in range(1, width + 1))


def text_of(digits):
    """Six bits a character, the last one filled with zeros."""
    digits += "0" * (-len(digits) % 6)
    return "".join(ALPHABET[int(digits[at : at + 6], 2)] for at in range(0, len(digits), 6))


def runs(ids):
    """Inclusive (first, last) of consecutive ids."""
    found = []
    for each in sorted(ids):
        if found and found[-1][1] == each - 1:
            found[-1][1] = each
        else:
            found.append([each, each])
    return found


def ranges(ids):
    entries = "".join(
        "0" + number(first, 16) if first == last else "1" + number(first, 16) + number(last, 16)
        for first, last in runs(ids)
    )
    return number(len(runs(ids)), 12) + entries


def vendors(ids, *, as_ranges):
    id_max = max(ids, default=0)
    body = ranges(ids) if as_ranges else one_per_id(ids, id_max)
    return number(id_max, 16) + ("1" if as_ranges else "0") + body


def consent_string(said, *, as_ranges=False):
    """The TC string that says ``said``: a dict of the specification's fields.

    Keys: version, created, updated (deciseconds), cmp_id, cmp_version, screen, language,
    vendor_list_version, policy_version, is_service_specific, non_standard, special_features,
    purposes, interests, one_treatment, country, vendors, vendors_interest, restrictions (purpose,
    kind, vendors), and optional disclosed (ids) and publisher (four sets and a number of customs).
    """
    core = (
        number(said["version"], 6)
        + number(said["created"], 36)
        + number(said["updated"], 36)
        + number(said["cmp_id"], 12)
        + number(said["cmp_version"], 12)
        + number(said["screen"], 6)
        + letters(said["language"])
        + number(said["vendor_list_version"], 12)
        + number(said["policy_version"], 6)
        + number(int(said["is_service_specific"]), 1)
        + number(int(said["non_standard"]), 1)
        + one_per_id(said["special_features"], 12)
        + one_per_id(said["purposes"], 24)
        + one_per_id(said["interests"], 24)
        + number(int(said["one_treatment"]), 1)
        + letters(said["country"])
        + vendors(said["vendors"], as_ranges=as_ranges)
        + vendors(said["vendors_interest"], as_ranges=as_ranges)
        + number(len(said["restrictions"]), 12)
    )
    for purpose, kind, ids in said["restrictions"]:
        core += number(purpose, 6) + number(kind, 2) + ranges(ids)
    segments = [core]
    if said.get("disclosed") is not None:
        segments.append("001" + vendors(said["disclosed"], as_ranges=as_ranges))
    if said.get("publisher") is not None:
        purposes, interests, customs, custom_interests, count = said["publisher"]
        segments.append(
            "011" + one_per_id(purposes, 24) + one_per_id(interests, 24) + number(count, 6)
            + one_per_id(customs, count) + one_per_id(custom_interests, count)
        )  # fmt: skip
    return ".".join(text_of(segment) for segment in segments)


def fibonacci(value):
    """The code word of the specification's algorithm: largest Fibonacci number first."""
    numbers = [1, 2]
    while numbers[-1] <= value:
        numbers.append(numbers[-1] + numbers[-2])
    digits = ["0"] * len(numbers)
    while value:
        place = max(place for place, each in enumerate(numbers) if each <= value)
        digits[place] = "1"
        value -= numbers[place]
    return "".join(digits).rstrip("0") + "1"


def gpp_string(sections, *, in_groups=True):
    """The GPP string of {section id: its text}; neighbouring ids as groups or one by one."""
    groups = runs(sections) if in_groups else [[each, each] for each in sorted(sections)]
    header, last_seen = "000011" + "000001" + number(len(groups), 12), 0
    for first, last in groups:
        header += ("0" if first == last else "1") + fibonacci(first - last_seen)
        header += "" if first == last else fibonacci(last - first)
        last_seen = last
    return "~".join([text_of(header), *(sections[each] for each in sorted(sections))])


def us_section(section, values, *, version=1, gpc=None):
    """A US section's text; ``values`` by field name, absent ones 0."""
    core = number(version, 6)
    for name, count in us_fields(section):
        entries = values.get(name, [0] * count)
        entries = [entries] if isinstance(entries, int) else entries
        assert len(entries) == count, name
        core += "".join(number(entry, 2) for entry in entries)
    text = text_of(core)
    return text if gpc is None else f"{text}.{text_of('01' + str(int(gpc)))}"


CONSENTING = {
    "version": 2,
    "created": 17_000_000_000,
    "updated": 17_000_000_000,
    "cmp_id": 31,
    "cmp_version": 4,
    "screen": 1,
    "language": "EN",
    "vendor_list_version": 250,
    "policy_version": 4,
    "is_service_specific": True,
    "non_standard": False,
    "special_features": {1},
    "purposes": {1, 2, 3, 4, 7},
    "interests": set(),
    "one_treatment": False,
    "country": "DE",
    "vendors": {7, 99, 755},
    "vendors_interest": set(),
    "restrictions": [],
}
"""A user who consented to everything that a bidder asks for, for vendors 7, 99 and 755."""


def permitting_us(section):
    """Values of a US section whose user was given every notice and opted out of nothing."""
    values = {}
    for name, count in us_fields(section):
        if name.endswith("Notice"):
            values[name] = 1
        elif name in ("SaleOptOut", "SharingOptOut", "TargetedAdvertisingOptOut"):
            values[name] = 2
        elif name == "SensitiveDataProcessing":
            values[name] = [2] * count
        elif name == "MspaCoveredTransaction":
            values[name] = 2
    return values
