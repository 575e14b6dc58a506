"""The terms of a bid as machine code: deals, conditions beside the index, floors."""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from market.decision import NoBidReason
from market.kernel import bare_kernel as kernel
from market.opportunity import Format, PositionKind

if TYPE_CHECKING:
    import numpy.typing as npt


Record: TypeAlias = Any
"""One record of a structured array (``np.void``): numpy's stubs take its fields for arrays."""

_U0 = np.uint64(0)
_VIDEO, _AUDIO = int(Format.VIDEO), int(Format.AUDIO)
_NO_POSITION = int(PositionKind.NONE)
_POSITION_FROM_IP = int(PositionKind.IP)
_EARTH_RADIUS_M = 6_371_008.8
"""Mean radius R1 of the IUGG."""
_RADIANS_PER_E6 = np.pi / 180.0 / 1e6
_METRES_PER_E6 = _EARTH_RADIUS_M * _RADIANS_PER_E6

R_OS_VERSION = int(NoBidReason.TARGETING_OS_VERSION)
R_VIEWABILITY = int(NoBidReason.TARGETING_VIEWABILITY)
R_AREA = int(NoBidReason.TARGETING_AREA)


@kernel
def find_deal(
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void],
    deal_codes: npt.NDArray[np.uint64],
    domain_codes: npt.NDArray[np.uint64],
    line_item: Record,
) -> int:
    """Returns the index (in the opportunity's deals) of the first deal to bid on, -1 for none.

    A deal fits if the line item holds its id, its seat list, if any, has the line item's seat, and
    its list of advertiser domains, if any, has the advertiser's or one above it.
    """
    for i in range(opportunity["deal_count"]):
        deal: Record = deals[opportunity["deal_first"] + i]
        is_held = False
        for k in range(line_item["deal_first"], line_item["deal_first"] + line_item["deal_count"]):
            is_held = is_held or deal_codes[k] == deal["code"]
        if not is_held:
            continue
        may_bid = deal["seat_count"] == 0
        for k in range(deal["seat_first"], deal["seat_first"] + deal["seat_count"]):
            may_bid = may_bid or codes[k] == line_item["seat_code"]
        if may_bid and is_domain_allowed(deal, codes, domain_codes, line_item):
            return np.int64(i)
    return np.int64(-1)


@kernel
def is_domain_allowed(
    deal: Record,
    codes: npt.NDArray[np.uint64],
    domain_codes: npt.NDArray[np.uint64],
    line_item: Record,
) -> bool:
    """Returns whether the advertiser of a line item may bid on a deal (2.6 ``wadomain``)."""
    is_allowed = deal["domain_count"] == 0
    own_first = line_item["domain_first"]
    for k in range(deal["domain_first"], deal["domain_first"] + deal["domain_count"]):
        for own in range(own_first, own_first + line_item["domain_count"]):
            is_allowed = is_allowed or domain_codes[own] == codes[k]
    return is_allowed


@kernel
def condition_obstacle(opportunity: Record, areas: npt.NDArray[np.void], line_item: Record) -> int:
    """Returns the NoBidReason of a condition that no index holds, 0 if all are met."""
    if line_item["os_version_max"] != _U0 and not (
        line_item["os_version_min"] <= opportunity["os_version"]
        and opportunity["os_version"] <= line_item["os_version_max"]
    ):
        return R_OS_VERSION
    if opportunity["viewability_ppm"] < line_item["viewability_ppm_min"]:
        return R_VIEWABILITY
    if line_item["area_count"] > 0 and not is_in_area(opportunity, areas, line_item):
        return R_AREA
    return 0


@kernel
def is_in_area(opportunity: Record, areas: npt.NDArray[np.void], line_item: Record) -> bool:
    """Returns whether the device is known to be in one of the line item's areas.

    A position that is less exact than the area is wide says nothing about it.
    """
    if opportunity["position_kind"] == _NO_POSITION:
        return False
    for k in range(line_item["area_first"], line_item["area_first"] + line_item["area_count"]):
        area: Record = areas[k]
        if opportunity["accuracy_m"] > area["radius_m"]:
            continue
        if opportunity["position_kind"] == _POSITION_FROM_IP and not area["accepts_ip"]:
            continue
        radius = np.float64(area["radius_m"])
        # No way between two latitudes is shorter than along the meridian: saves the sines.
        north = np.float64(opportunity["latitude_e6"] - area["latitude_e6"]) * _METRES_PER_E6
        if abs(north) > radius * 1.000001:
            continue
        if (
            distance_m(
                opportunity["latitude_e6"], opportunity["longitude_e6"],
                area["latitude_e6"], area["longitude_e6"],
            )
            <= radius
        ):  # fmt: skip
            return True
    return False


@kernel
def distance_m(
    latitude_e6: int, longitude_e6: int, to_latitude_e6: int, to_longitude_e6: int
) -> float:
    """Returns the great-circle distance in metres, on a sphere of Earth's mean radius.

    Haversine formula (Sinnott, "Virtues of the Haversine", Sky and Telescope 68, 1984).
    """
    one = np.float64(latitude_e6) * _RADIANS_PER_E6
    other = np.float64(to_latitude_e6) * _RADIANS_PER_E6
    north = np.sin((other - one) / 2.0)
    east = np.sin(np.float64(to_longitude_e6 - longitude_e6) * _RADIANS_PER_E6 / 2.0)
    half = north * north + np.cos(one) * np.cos(other) * east * east
    return 2.0 * _EARTH_RADIUS_M * np.arcsin(np.sqrt(min(half, 1.0)))


@kernel
def duration_floor(
    codes: npt.NDArray[np.uint64], second_cpm_micros: int, first: int, count: int, duration_ms: int
) -> int:
    """Returns the floor that a duration has in one object's guidance, -1 if it says nothing of it.

    The ranges are of whole seconds, as ``bid.dur`` is; they may overlap (2.6 section 3.2.35), and
    then the highest floor counts. Else the price per second, times the duration, rounded up.
    """
    floor = np.int64(-1)
    seconds_ms = duration_ms // 1000 * 1000
    for k in range(first, first + 3 * count, 3):
        longest = np.int64(codes[k + 1])
        if seconds_ms >= np.int64(codes[k]) and (longest == 0 or seconds_ms <= longest):
            floor = max(floor, np.int64(codes[k + 2]))
    if floor < 0 and second_cpm_micros > 0:
        floor = -((-second_cpm_micros * duration_ms) // 1000)
    return floor


@kernel
def floor_of(
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void],
    deal_index: int,
    shown_format: int,
    duration_ms: int,
) -> tuple[int, int]:
    """Returns (floor, its currency) of a creative that is shown in this imp on this deal (or none).

    The deal's own guidance, else that of the video or audio object, else the imp's floor (OpenRTB
    2.6 implementation guide, section 7.11). A deal has its own currency; all others the imp's.
    """
    imp_currency = opportunity["floor_currency"]
    timed = -1
    if duration_ms > 0 and shown_format == _VIDEO:
        timed = 0
    if duration_ms > 0 and shown_format == _AUDIO:
        timed = 1
    if deal_index >= 0:
        deal: Record = deals[opportunity["deal_first"] + deal_index]
        own = np.int64(-1)
        if timed >= 0:
            own = duration_floor(
                codes, deal["second_cpm_micros"], deal["duration_floor_first"],
                deal["duration_floor_count"], duration_ms,
            )  # fmt: skip
        if own < 0:
            own = np.int64(deal["floor_cpm_micros"])
        if own >= 0:
            return own, deal["floor_currency"]
        if deal["second_cpm_micros"] > 0 or deal["duration_floor_count"] > 0:
            return opportunity["floor_cpm_micros"], imp_currency
    if timed >= 0:
        own = duration_floor(
            codes, opportunity["second_cpm_micros"][timed],
            opportunity["duration_floor_first"][timed], opportunity["duration_floor_count"][timed],
            duration_ms,
        )  # fmt: skip
        if own >= 0:
            return own, imp_currency
    return opportunity["floor_cpm_micros"], imp_currency
