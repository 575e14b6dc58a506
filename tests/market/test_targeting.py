"""Targeting: every rule broken alone, and what versions and angles mean as numbers."""

from __future__ import annotations

import pytest

from market.targeting import (
    AREAS_MAX,
    TARGETABLE,
    Area,
    Targeting,
    degrees_e6,
    os_version_range,
    targeting_problems,
)

HERE = Area(52.5, 13.4, 100)


def version(*parts):
    return sum(part << (32 - 16 * place) for place, part in enumerate(parts))


@pytest.mark.parametrize(
    ("targeting", "pointer"),
    [
        (Targeting(include={"planet": ("mars",)}), "include/planet"),
        (Targeting(exclude={"country": ()}), "exclude/country"),
        (Targeting(exclude={"country": (" ",)}), "exclude/country"),
        (Targeting(include={"site": ("www.news.example",)}), "include/site"),
        (Targeting(areas=(HERE,) * (AREAS_MAX + 1)), "areas"),
        (Targeting(areas=(HERE, Area(90.1, 0, 1))), "areas/1/latitude"),
        (Targeting(areas=(Area(0, -180.5, 1),)), "areas/0/longitude"),
        (Targeting(areas=(Area(0, float("nan"), 1),)), "areas/0/longitude"),
        (Targeting(areas=(Area(0, 0, 0),)), "areas/0/radius_m"),
        (Targeting(areas=(Area(0, 0, 1_000_001),)), "areas/0/radius_m"),
        (Targeting(os_version_min="iOS 14"), "os_version_min"),
        (Targeting(os_version_max="1.2.3.4"), "os_version_max"),
        (Targeting(os_version_min="14.1", os_version_max="14.0.9"), "os_version_max"),
        (Targeting(viewability_min=1.01), "viewability_min"),
        (Targeting(viewability_min=float("nan")), "viewability_min"),
    ],
)
def test_a_broken_rule_is_named_by_its_field(targeting, pointer):
    assert [found for found, _, _ in targeting_problems(targeting)] == [pointer]


def test_everything_may_be_targeted_at_once():
    values = dict.fromkeys(TARGETABLE, ("x",))
    kept = Targeting(
        include=values, exclude=values, areas=(HERE,), os_version_min="14",
        os_version_max="14", viewability_min=1.0,
    )  # fmt: skip
    assert not list(targeting_problems(kept))
    assert {"site", "eid_source", "user_keyword", "browser", "video_placement"} <= set(TARGETABLE)


def test_a_version_stands_for_all_that_begin_with_it():
    def span(lowest, highest):
        return os_version_range(Targeting(os_version_min=lowest, os_version_max=highest))

    assert span("", "") == (0, 0)
    assert span("14", "14") == (version(14), version(14, 65_535, 65_535))
    assert span("14.2.1", "") == (version(14, 2, 1), version(65_535, 65_535, 65_535))
    assert span("", "14.2") == (1, version(14, 2, 65_535)), "an unknown version (0) is not below it"


def test_angles_are_rounded_to_millionths():
    assert degrees_e6(52.5200066) == 52_520_007
    assert degrees_e6(-0.0000005) == 0
    assert degrees_e6(-179.9999996) == -180_000_000
