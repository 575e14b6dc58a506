"""Scenarios: what ships is valid, and what is wrong is named."""

from __future__ import annotations

import itertools
import math
import tomllib
from pathlib import Path

import msgspec
import pytest

from market.errors import BadInput
from simulator import scenario as scenarios
from simulator.period.scenario import read as read_period
from simulator.scenario import load, read, slices, text_of
from simulator.world.scenario import WORLDS_FOLDER
from simulator.world.scenario import read as read_world
from tests.simulator.markets import changed, scenario_of

FOLDER = Path(scenarios.__file__).parent / "scenarios"
PARITY = (FOLDER / "parity.toml").read_text("utf-8")


@pytest.mark.parametrize("name", ["demo", "parity"])
def test_a_scenario_that_ships_says_its_own_name(name):
    assert load(name).name == name


def test_the_demo_is_a_day_of_at_least_66_000_requests():
    demo = scenario_of("demo")
    assert demo.duration_ms == 86_400_000
    assert demo.requests_per_day >= 66_000
    assert {country.name for country in demo.people.countries} == {"USA", "DEU", "GBR"}


def test_a_scenario_can_be_read_from_a_path(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(PARITY, "utf-8")
    assert load(str(path)) == load("parity")


@pytest.mark.parametrize("name", ["nowhere", "missing/file.toml"])
def test_an_unknown_scenario_is_an_error_that_lists_those_that_ship(name):
    with pytest.raises(BadInput, match=r"demo, parity"):
        load(name)


# What is written instead of what, where the error points, and what it says.
PUBLISHERS = "/publishers"
BREAKS = [
    ("tmax_ms =", "tmx_ms =", "/tmx_ms", "unknown field"),
    ("group_share =", "groop_share =", "/people/groop_share", "unknown field"),
    ("presence = 0.6\ncpm", "cpm", "/competitors/0/presence", "missing"),
    ("ctr = 0.15", "ctr = 0.7", "/response/ctr", "< 0.5"),
    ("slice_ms = 120_000", 'slice_ms = "2m"', "/slice_ms", "Expected `int`"),
    ("767_139_200_000", "767_139_200_001", "/start_at_ms", "midnight"),
    ('topic = "food"', 'topic = "cooking"', f"{PUBLISHERS}/1/topic", "autos, food"),
    ('hour_shape = "flat"', 'hour_shape = "round"', f"{PUBLISHERS}/0/hour_shape", "flat"),
    ('countries = ["IND"]', 'countries = ["ATL"]', f"{PUBLISHERS}/1/countries", "USA, IND"),
    ('interest = "travel"', 'interest = "trips"', "/competitors/0/interest", "travel"),
    ("flat = [1,", "flat = [0,", "/hour_shapes/flat", "without traffic"),
    ("flat = [1, 1,", "flat = [1,", "/hour_shapes/flat", "must hold 24"),
    ('"320x50"', '"320 by 50"', f"{PUBLISHERS}/1/placements/0/banner_sizes", "WxH"),
    ('"image/png"', '"image/bmp"', f"{PUBLISHERS}/0/placements/1/banner_mimes", "image/jpeg"),
    ("types = [2]", "types = [7]", f"{PUBLISHERS}/0/placements/0/device_types", "users have"),
    ("= 5_000", "= 5_500", f"{PUBLISHERS}/2/placements/0/video/duration_ms_min", "whole seconds"),
    ("win_ms = [80, 900]", "win_ms = [900, 80]", "/delivery/win_ms", "least, most"),
    ("palette = 1.5", "pallet = 1.5", "/response/ad_weights/pallet", "headline"),
    ("[ad_vocabulary]", '[ad_vocabulary]\nsize = ["1x1"]', "/ad_vocabulary/size", "follow from"),
    ('currency = "USD"', 'currency = "usd"', "/currency", "ISO 4217"),
    ("F = 0.45", "G = 0.45", "/people/gender_shares", "Invalid enum value 'G'"),
    ("s = 330\nl", "s = 331\nl", "/people/countries/1/utc_offset_minutes", "quarters"),
]


@pytest.mark.parametrize(("old", "new", "pointer", "text"), BREAKS)
def test_a_broken_rule_is_an_error_that_names_the_field(old, new, pointer, text):
    assert old in PARITY
    with pytest.raises(BadInput, match=text) as caught:
        read(PARITY.replace(old, new, 1), "mine")
    assert caught.value.pointer == pointer
    assert pointer in str(caught.value)
    assert "mine" in str(caught.value)


def _numbers(at, path=()):
    """The paths of all numbers in what a TOML text says; of a list the first two."""
    if isinstance(at, dict):
        parts = at.items()
    elif isinstance(at, list):
        parts = list(enumerate(at))[:2]
    else:
        return [path] if type(at) in (int, float) else []
    return [found for name, part in parts for found in _numbers(part, (*path, name))]


@pytest.mark.parametrize(
    ("reader", "name", "folder"),
    [(read, "parity", FOLDER), (read_period, "campaign", FOLDER),
     (read_world, "market_day", WORLDS_FOLDER)],
)  # fmt: skip
def test_no_number_may_be_infinite(reader, name, folder):
    """TOML knows inf; a share or a factor of it would be a crash in the middle of a day."""
    text, _ = text_of(name, folder)
    places = _numbers(tomllib.loads(text))
    assert len(places) > 20
    for path in places:
        whole = tomllib.loads(text)
        at = whole
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = math.inf
        with pytest.raises(BadInput):
            reader(msgspec.toml.encode(whole).decode(), name)


def test_text_that_is_no_toml_is_an_error():
    with pytest.raises(BadInput, match="must be TOML"):
        read("name = ", "mine")


def test_a_scenario_that_is_changed_in_code_keeps_the_same_rules():
    with pytest.raises(BadInput, match="midnight"):
        changed(scenario_of(), start_at_ms=1)


def test_slices_cover_traffic_and_drain_without_gap_or_overlap():
    scenario = changed(scenario_of(), duration_ms=250_000, drain_ms=120_000)
    pieces = list(slices(scenario))
    assert [piece.has_traffic for piece in pieces] == [True, True, True, False]
    assert pieces[0].start_ms == scenario.start_at_ms
    assert all(a.end_ms == b.start_ms for a, b in itertools.pairwise(pieces))
    assert pieces[2].end_ms == scenario.end_at_ms
    assert pieces[-1].end_ms == scenario.end_at_ms + 120_000
