"""Deals, conditions, floors and prices, slow and obvious: exact numbers, brute force.

Written from OpenRTB 2.6 (2.6.md sections 3.2.1, 3.2.11, 3.2.12, 3.2.35; implementation.md sections
7.3 and 7.11) and the docstrings of ``market.campaign``, ``market.landscape`` and
``market.opportunity``; not from the kernels.
"""

from __future__ import annotations

import math
from fractions import Fraction

from market.decision import NoBidReason
from market.money import MICROS, PRICE_CPM_MICROS_MAX
from market.opportunity import PositionKind

FIRST_PRICE, SECOND_PRICE, FIXED_PRICE = 1, 2, 3
EARTH_RADIUS_M = 6_371_008.8


def deal_for(o, held, seat, domains):
    """(index, deal) of the first offered deal that may be bid on, (-1, None) for none."""
    for index, deal in enumerate(o["deals"]):
        if deal["code"] not in held:
            continue
        if deal["seats"] and seat not in deal["seats"]:
            continue
        if deal["domains"] and not domains & set(deal["domains"]):
            continue
        return index, deal
    return -1, None


def unmet_condition(o, targeting):
    """The first condition of a targeting that is no list of values and is not met."""
    if targeting.os_version_min or targeting.os_version_max:
        version = unpacked(o["os_version"])
        lowest = tuple(int(part) for part in targeting.os_version_min.split(".") if part)
        highest = tuple(int(part) for part in targeting.os_version_max.split(".") if part)
        if o["os_version"] == 0 or version < lowest:
            return NoBidReason.TARGETING_OS_VERSION
        if highest and version[: len(highest)] > highest:
            return NoBidReason.TARGETING_OS_VERSION
    if o["viewability_ppm"] / MICROS < targeting.viewability_min:
        return NoBidReason.TARGETING_VIEWABILITY
    if targeting.areas and not any(is_within(o, area) for area in targeting.areas):
        return NoBidReason.TARGETING_AREA
    return None


def unpacked(version):
    return version >> 32, version >> 16 & 0xFFFF, version & 0xFFFF


def is_within(o, area):
    """Whether the device's position is good enough for an area, and inside."""
    if o["position_kind"] == PositionKind.NONE or o["accuracy_m"] > area.radius_m:
        return False
    if o["position_kind"] == PositionKind.IP and not area.accepts_ip:
        return False
    here = o["latitude_e6"] / 1e6, o["longitude_e6"] / 1e6
    return distance_m(here, (area.latitude, area.longitude)) <= area.radius_m


def distance_m(one, other):
    """Along the great circle, by the angle between two vectors from the centre of the Earth."""

    def vector(place):
        latitude, longitude = map(math.radians, place)
        return (
            math.cos(latitude) * math.cos(longitude),
            math.cos(latitude) * math.sin(longitude),
            math.sin(latitude),
        )

    a, b = vector(one), vector(other)
    cross = (
        a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0],
    )  # fmt: skip
    return EARTH_RADIUS_M * math.atan2(math.hypot(*cross), sum(x * y for x, y in zip(a, b)))  # noqa: B905


def floor_of(o, deal, creative):
    """(micros CPM, ISO number of the currency) of what a bid with this creative must reach."""
    is_timed = creative.format in ("video", "audio") and creative.duration_ms > 0
    if deal is not None:
        own = None
        if is_timed:
            own = duration_floor(
                deal["second_cpm_micros"], deal["duration_floors"], creative.duration_ms
            )
        if own is None and deal["floor_cpm_micros"] >= 0:
            own = deal["floor_cpm_micros"]
        if own is not None:
            return own, deal["floor_currency"]
        if deal["second_cpm_micros"] or deal["duration_floors"]:
            return o["floor_cpm_micros"], o["floor_currency"]
    if is_timed:
        which = ("video", "audio").index(creative.format)
        own = duration_floor(
            o["second_cpm_micros"][which], o["duration_floors"][which], creative.duration_ms
        )
        if own is not None:
            return own, o["floor_currency"]
    return o["floor_cpm_micros"], o["floor_currency"]


def duration_floor(second_cpm_micros, duration_floors, duration_ms):
    """The highest floor whose range of seconds holds the duration, else so much per second."""
    seconds = duration_ms // 1000
    floors = [
        floor
        for shortest_ms, longest_ms, floor in duration_floors
        if shortest_ms / 1000 <= seconds <= (longest_ms / 1000 or math.inf)
    ]
    if floors:
        return max(floors)
    if second_cpm_micros:
        return math.ceil(Fraction(second_cpm_micros * duration_ms, 1000))
    return None


def landscape_of(landscapes, exchange, creative):
    """The landscape of the exchange's format, else of the exchange, else None."""
    mine = {format_name.format: format_name for format_name in landscapes
            if format_name.exchange_id == exchange}  # fmt: skip
    return mine.get(creative.format, mine.get(""))


def price_of(o, deal, creative, bid, line_item, factor, landscapes, rates, floor_price):
    """What to bid in micros CPM of the bid's currency; it may be below the floor.

    bid: before shading, micros per impression of the account; rates: (units of account per unit of
    bid currency, units of bid currency per USD), both times 10^6.
    """
    account_rate, usd_rate = rates

    def in_bid_currency(account_cpm):
        return min(math.floor(Fraction(account_cpm * MICROS, account_rate)), PRICE_CPM_MICROS_MAX)

    ceiling = line_item.bid_cpm_micros_max
    auction_type = (deal and deal["auction_type"]) or o["auction_type"]
    landscape = landscape_of(landscapes, o["exchange"], creative) if deal is None else None
    if auction_type != FIRST_PRICE:
        price = in_bid_currency(min(math.floor(1000 * bid), ceiling))
    elif landscape is None:
        price = in_bid_currency(min(math.floor(1000 * bid * factor), ceiling))
    else:
        price = best_against(
            landscape,
            value=in_bid_currency(min(math.floor(1000 * bid), PRICE_CPM_MICROS_MAX)),
            most=in_bid_currency(min(math.floor(1000 * bid), ceiling)),
            floor=floor_price,
            usd_rate=usd_rate,
        )
    if deal is not None and deal["is_guaranteed"] and price < floor_price:
        price = min(floor_price, in_bid_currency(ceiling))
    if deal is not None and auction_type == FIXED_PRICE and price >= floor_price:
        price = floor_price
    return price


def best_against(landscape, *, value, most, floor, usd_rate):
    """The price in [floor, most] with the highest expected surplus, by trying all that matter.

    The chance to win only rises at the landscape's points: any price between two of them costs more
    than the lower one and wins no more often. ``most`` where no price has a surplus.
    """
    points = [
        (math.ceil(Fraction(usd * usd_rate, MICROS)), chance)
        for usd, chance in zip(landscape.price_cpm_micros, landscape.win_probability, strict=True)
    ]

    def chance_at(price):
        return max((chance for point, chance in points if point <= price), default=0.0)

    candidates = sorted({floor, *(point for point, _ in points)})
    best, best_surplus = most, 0.0
    for price in candidates:
        surplus = float(value - price) * chance_at(price)
        if floor <= price <= most and surplus > best_surplus:
            best, best_surplus = price, surplus
    return best
