"""Deals, conditions and floors of a bid, against the slow twin and case by case."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.kernels_terms import (
    condition_obstacle,
    distance_m,
    duration_floor,
    find_deal,
    floor_of,
    is_in_area,
)
from market.decision import NoBidReason
from market.opportunity import DEAL_DTYPE, OPPORTUNITY_DTYPE, Format, PositionKind
from market.snapshot import AREA_DTYPE, LINE_ITEM_DTYPE
from market.targeting import Area, Targeting, os_version_range
from market.user_agent import packed_version
from tests.reference import price

pytestmark = pytest.mark.plain

BERLIN = (52_520_000, 13_405_000)
LATITUDES = st.integers(-90_000_000, 90_000_000)
LONGITUDES = st.integers(-180_000_000, 180_000_000)


def areas_of(*areas):
    return np.array(list(areas), AREA_DTYPE)


def one(dtype, **columns):
    record = np.zeros(1, dtype)
    for name, value in columns.items():
        record[name] = value
    return record[0]


# Areas.


@given(LATITUDES, LONGITUDES, LATITUDES, LONGITUDES)
def test_a_distance_is_that_along_the_great_circle(lat, lon, to_lat, to_lon):
    expected = price.distance_m((lat / 1e6, lon / 1e6), (to_lat / 1e6, to_lon / 1e6))
    assert math.isclose(distance_m(lat, lon, to_lat, to_lon), expected, rel_tol=1e-7, abs_tol=0.5)


def test_distances_known_from_maps():
    # Paris to London: 343.5 km on a sphere of 6,371 km; one degree of the meridian: 111.195 km.
    assert abs(distance_m(48_856_600, 2_352_200, 51_507_400, -127_800) - 343_560) < 500
    assert abs(distance_m(0, 0, 1_000_000, 0) - 111_195) < 1
    assert distance_m(10, 179_999_999, 10, -179_999_999) < 1, "across the date line"


@given(
    st.integers(52_300_000, 52_700_000), st.integers(13_000_000, 13_800_000),
    st.integers(1, 40_000), st.sampled_from(PositionKind), st.sampled_from((0, 10, 5_000)),
    st.booleans(),
)  # fmt: skip
def test_a_device_is_in_an_area_as_the_twin_says(lat, lon, radius, kind, accuracy, accepts_ip):
    opportunity = one(
        OPPORTUNITY_DTYPE, latitude_e6=lat, longitude_e6=lon, accuracy_m=accuracy,
        position_kind=kind,
    )  # fmt: skip
    area = Area(52.52, 13.405, radius, accepts_ip)
    found = is_in_area(
        opportunity, areas_of((*BERLIN, radius, accepts_ip)),
        one(LINE_ITEM_DTYPE, area_count=1),
    )  # fmt: skip
    said = {name: int(opportunity[name]) for name in
            ("latitude_e6", "longitude_e6", "accuracy_m", "position_kind")}  # fmt: skip
    assert found == price.is_within(said, area)


def test_one_of_several_areas_is_enough_and_only_the_line_items_own_count():
    here = one(OPPORTUNITY_DTYPE, latitude_e6=BERLIN[0], longitude_e6=BERLIN[1], position_kind=1)
    areas = areas_of((0, 0, 9, 0), (0, 0, 9, 0), (*BERLIN, 9, 0))
    assert is_in_area(here, areas, one(LINE_ITEM_DTYPE, area_first=1, area_count=2))
    assert not is_in_area(here, areas, one(LINE_ITEM_DTYPE, area_first=0, area_count=2))


# Versions and viewability.


@pytest.mark.parametrize(
    ("lowest", "highest", "version", "is_met"),
    [
        ("14", "", "14", True), ("14", "", "13.9.9", False), ("14", "", "", False),
        ("", "14", "14.8.1", True), ("", "14", "15", False), ("", "14.2", "14.2.9", True),
        ("", "14.2", "14.3", False), ("9", "10", "10.0.1", True), ("", "14", "", False),
        ("", "", "", True),
    ],
)  # fmt: skip
def test_a_version_is_compared_by_its_numbers(lowest, highest, version, is_met):
    least, most = os_version_range(Targeting(os_version_min=lowest, os_version_max=highest))
    item = one(LINE_ITEM_DTYPE, os_version_min=least, os_version_max=most)
    opportunity = one(OPPORTUNITY_DTYPE, os_version=packed_version(version))
    stop = condition_obstacle(opportunity, areas_of(), item)
    assert stop == (0 if is_met else NoBidReason.TARGETING_OS_VERSION)


def test_a_viewability_that_is_asked_for_must_be_stated():
    item = one(LINE_ITEM_DTYPE, viewability_ppm_min=500_000)
    stops = [
        condition_obstacle(one(OPPORTUNITY_DTYPE, viewability_ppm=ppm), areas_of(), item)
        for ppm in (0, 499_999, 500_000)
    ]
    assert stops == [NoBidReason.TARGETING_VIEWABILITY, NoBidReason.TARGETING_VIEWABILITY, 0]


# Deals.


def test_a_deal_fits_by_its_id_its_seats_and_the_domains_of_the_advertiser():
    deal_codes, domain_codes = np.array([7, 8], np.uint64), np.array([50, 51], np.uint64)
    codes = np.array([1, 2, 51, 99], np.uint64)
    item = one(LINE_ITEM_DTYPE, deal_count=2, domain_count=2, seat_code=2)
    opportunity = one(OPPORTUNITY_DTYPE, deal_count=1)

    def index(**deal):
        deals = np.zeros(1, DEAL_DTYPE)
        deals[0] = one(DEAL_DTYPE, **deal)
        return find_deal(opportunity, codes, deals, deal_codes, domain_codes, item)

    assert index(code=8) == 0
    assert index(code=9) == -1, "nobody here holds it"
    assert index(code=7, seat_first=0, seat_count=2) == 0
    assert index(code=7, seat_first=0, seat_count=1) == -1
    assert index(code=7, domain_first=2, domain_count=2) == 0
    assert index(code=7, domain_first=3, domain_count=1) == -1


# Floors.


def test_ranges_are_of_whole_seconds_and_the_highest_of_several_counts():
    pool = np.array([5, 1_000, 15_000, 9, 10_000, 0, 4, 16_000, 20_000, 11], np.uint64)

    def floor(duration_ms):
        return duration_floor(pool, 0, 1, 3, duration_ms)

    assert [floor(ms) for ms in (999, 1_000, 15_000, 15_999, 16_000, 21_000)] == [
        -1, 9, 9, 9, 11, 4,
    ]  # fmt: skip


def test_a_price_per_second_is_rounded_up_and_gives_way_to_a_range():
    pool = np.array([0, 15_000, 7], np.uint64)
    assert duration_floor(pool, 333_333, 0, 0, 1_500) == 500_000
    assert duration_floor(pool, 1, 0, 0, 1) == 1
    assert duration_floor(pool, 333_333, 0, 1, 15_000) == 7
    assert duration_floor(pool, 10, 0, 1, 30_000) == 300, "no range holds it"
    assert duration_floor(pool, 0, 0, 1, 30_000) == -1


FLOORS = st.lists(
    st.tuples(
        st.integers(0, 40).map(lambda s: s * 1000), st.integers(0, 40).map(lambda s: s * 1000),
        st.integers(0, 10**9),
    ),
    max_size=4,
)  # fmt: skip
SECOND = st.sampled_from((0, 0, 33_333))


class Shown:
    def __init__(self, name, duration_ms):
        self.format, self.duration_ms = name, duration_ms


@given(
    FLOORS, FLOORS, FLOORS, SECOND, SECOND, SECOND, st.sampled_from((-1, 0, 2_000_000)),
    st.sampled_from(("banner", "video", "audio", "native")), st.integers(1, 45_000), st.booleans(),
)  # fmt: skip
def test_a_floor_is_that_of_the_twin(
    of_deal, of_video, of_audio, second, of_video_second, of_audio_second, deal_floor, name,
    duration_ms, is_deal,
):  # fmt: skip
    duration_ms = duration_ms if name in ("video", "audio") else 0
    pool, places = [], []
    for floors in (of_deal, of_video, of_audio):
        places.append((len(pool), len(floors)))
        pool += [number for floor in floors for number in floor]
    opportunity = one(
        OPPORTUNITY_DTYPE, floor_cpm_micros=1_500_000, floor_currency=826, deal_count=1,
        second_cpm_micros=(of_video_second, of_audio_second),
        duration_floor_first=[places[1][0], places[2][0]],
        duration_floor_count=[places[1][1], places[2][1]],
    )  # fmt: skip
    deals = np.zeros(1, DEAL_DTYPE)
    deals[0] = one(
        DEAL_DTYPE, floor_cpm_micros=deal_floor, floor_currency=840, second_cpm_micros=second,
        duration_floor_first=places[0][0], duration_floor_count=places[0][1],
    )  # fmt: skip
    found = floor_of(
        opportunity, np.array(pool or [0], np.uint64), deals, 0 if is_deal else -1,
        int(Format[name.upper()]), duration_ms,
    )  # fmt: skip
    o = {
        "floor_cpm_micros": 1_500_000, "floor_currency": 826,
        "second_cpm_micros": (of_video_second, of_audio_second),
        "duration_floors": (of_video, of_audio),
    }  # fmt: skip
    deal = {
        "floor_cpm_micros": deal_floor, "floor_currency": 840, "second_cpm_micros": second,
        "duration_floors": of_deal,
    }  # fmt: skip
    assert found == price.floor_of(o, deal if is_deal else None, Shown(name, duration_ms))
