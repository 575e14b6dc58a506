"""Targeting: who may be reached, as an advertiser says it, and the rules it must keep."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import msgspec

from market.opportunity import CodeList, Dimension
from market.user_agent import VERSION_PART_MAX, packed_version

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGETABLE: tuple[str, ...] = (
    *(dimension.name.lower() for dimension in Dimension),
    CodeList.SEGMENT.name.lower(),
    CodeList.CATEGORY.name.lower(),
    CodeList.KEYWORD.name.lower(),
    CodeList.USER_KEYWORD.name.lower(),
    CodeList.EID_SOURCE.name.lower(),
    CodeList.SITE.name.lower(),
)
"""Names a targeting expression may use: the dimensions, and what an opportunity has lists of."""

AREAS_MAX = 1_000
RADIUS_M_MAX = 1_000_000
_VERSION = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5}){0,2}")


class Area(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A circle on the map in which the device must be.

    Attributes:
        latitude: degrees, north is positive.
        longitude: degrees, east is positive.
        radius_m: metres.
        accepts_ip: a position looked up from an IP address will do.
    """

    latitude: float
    longitude: float
    radius_m: int
    accepts_ip: bool = False


class Targeting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may be reached: per name of TARGETABLE, values to include or to exclude.

    An opportunity matches if, for every name with an include list, its value is in the list, and
    none of its values is in an exclude list. An unknown value matches no include list. Likewise
    for what is no list of values:

    Attributes:
        include: values by name, at least one of which must be there.
        exclude: values by name, none of which may be there.
        areas: the device must be in one of them.
        os_version_min: lowest version of the operating system, such as ``14`` or ``14.2.1``.
        os_version_max: highest; ``14`` takes all of 14.x.
        viewability_min: least share of past impressions of the imp that were seen, 0 = any.
    """

    include: dict[str, tuple[str, ...]] = {}
    exclude: dict[str, tuple[str, ...]] = {}
    areas: tuple[Area, ...] = ()
    os_version_min: str = ""
    os_version_max: str = ""
    viewability_min: float = 0.0


def degrees_e6(degrees: float) -> int:
    """Returns an angle in millionths of a degree, as opportunities and snapshots hold it."""
    return math.floor(degrees * 1e6 + 0.5)


def os_version_range(targeting: Targeting) -> tuple[int, int]:
    """Returns (lowest, highest) packed versions that are meant, both inclusive; (0, 0) = any."""
    lowest, highest = targeting.os_version_min, targeting.os_version_max
    if not lowest and not highest:
        return 0, 0
    parts = [int(part) for part in highest.split(".")] if highest else []
    parts += [VERSION_PART_MAX] * (3 - len(parts))
    return max(packed_version(lowest), 1), parts[0] << 32 | parts[1] << 16 | parts[2]


def targeting_problems(targeting: Targeting) -> Iterator[tuple[str, str, str]]:
    """Yields (pointer below the targeting, value, rule) of every rule that it breaks."""
    for side, lists in (("include", targeting.include), ("exclude", targeting.exclude)):
        for name, values in lists.items():
            if name not in TARGETABLE:
                yield f"{side}/{name}", repr(name), f"must be one of {', '.join(TARGETABLE)}"
            elif not values or any(not value.strip() for value in values):
                yield f"{side}/{name}", repr(values), "must hold values that are not empty"
            elif name == "site" and any(value.lower().startswith("www.") for value in values):
                yield f"{side}/{name}", repr(values), "must name domains without www."
    yield from _area_problems(targeting.areas)
    yield from _version_problems(targeting)
    if not 0 <= targeting.viewability_min <= 1:
        yield "viewability_min", repr(targeting.viewability_min), "must be 0 to 1"


def _area_problems(areas: tuple[Area, ...]) -> Iterator[tuple[str, str, str]]:
    if len(areas) > AREAS_MAX:
        yield "areas", repr(len(areas)), f"must have at most {AREAS_MAX} entries"
    for i, area in enumerate(areas):
        if not -90 <= area.latitude <= 90:
            yield f"areas/{i}/latitude", repr(area.latitude), "must be -90 to 90 degrees"
        if not -180 <= area.longitude <= 180:
            yield f"areas/{i}/longitude", repr(area.longitude), "must be -180 to 180 degrees"
        if not 1 <= area.radius_m <= RADIUS_M_MAX:
            yield f"areas/{i}/radius_m", repr(area.radius_m), f"must be 1-{RADIUS_M_MAX} metres"


def _version_problems(targeting: Targeting) -> Iterator[tuple[str, str, str]]:
    lowest, highest = targeting.os_version_min, targeting.os_version_max
    are_versions = True
    for name, text in (("os_version_min", lowest), ("os_version_max", highest)):
        if text and not _VERSION.fullmatch(text):
            are_versions = False
            yield name, repr(text), "must be a version such as 14 or 14.2.1"
    if are_versions and lowest and highest:
        least, most = os_version_range(targeting)
        if least > most:
            yield "os_version_max", repr(highest), "must not be below os_version_min"
