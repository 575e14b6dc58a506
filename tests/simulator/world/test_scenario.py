"""Scenarios: those that ship run; a wrong key or value is named, with what it must be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from market.errors import BadInput
from simulator.world import scenario as worlds
from simulator.world.building import build_tables
from simulator.world.mechanisms import Mechanism
from simulator.world.scenario import load, read, shipped
from simulator.world.world import run
from tests.simulator.world.worlds import changed

TEXT = (Path(worlds.__file__).parent / "scenarios" / "market_day.toml").read_text()


def broken(old, new):
    assert TEXT.count(old) >= 1, old
    return TEXT.replace(old, new, 1)


@pytest.mark.parametrize("name", shipped())
def test_a_world_that_ships_runs_small(name):
    scenario = load(name)
    assert scenario.name == name
    scenario = changed(
        scenario, opportunity_count=4_000, users__count=800, agents__budget_micros=2_000_000
    )
    (result, world), *_ = run(build_tables(scenario), 1, [0])
    assert (result.accounts.exposures > 0).sum() > scenario.agents.count / 2
    assert (result.accounts.spend_micros <= result.accounts.budget_micros).all()
    assert world.funnel.views.sum() > 0


def test_the_market_day_has_every_mechanism_and_every_shock():
    scenario = load("market_day")
    assert not scenario.off
    assert len({type(shock) for shock in scenario.shocks}) == 4


def test_without_switches_off_once():
    scenario = load("market_day").without(Mechanism.DRIFT).without(Mechanism.DRIFT, Mechanism.HALO)
    assert scenario.off == (Mechanism.DRIFT, Mechanism.HALO)
    assert scenario.has(Mechanism.FATIGUE)
    assert not scenario.has(Mechanism.HALO)


WRONG = {
    "/users/counts": ("count = 50_000", "counts = 50_000", "unknown field.*'count', |required"),
    "/users/need_half_life_h": ("need_half_life_h = 6.0", "need_half_life_h = 0.0", "> 0.0"),
    "/off/0": ("off = []", 'off = ["gravity"]', "must be one of .*'fatigue'"),
    "/off": ("off = []", 'off = ["drift", "drift"]', "each mechanism once"),
    "/currency": ('"USD"', '"usd"', "ISO 4217"),
    "/slot_weights": ("[1.0, 0.8, 0.48]", "[0.8, 1.0]", "never increase"),
    "/hour_shapes/office": ("office = [1, ", "office = [", "is 23 weights; must hold 24"),
    "/hour_shapes/evening": ("evening = [4, 2,", "evening = [4, 0,", "no hour without traffic"),
    "/channels/0/hour_shape": ('hour_shape = "market"', 'hour_shape = "noon"', "one of market"),
    "/publishers/0/channel": ('channel = "feed"', 'channel = "radio"', "one of feed, search"),
    "/departments/0/categories/0/complements": ('["accessories", "apps"]', '["phones"]', "another"),
    "/departments/3/categories/0/price_micros": (
        "is_app = true, margin", "is_app = true, price_micros = 5, margin", "0 for an app",
    ),
    "/products/category_share": ("category_share = 0.35", "category_share = 0.8", "exceed 1"),
    "/publishers/2/placements/1/slots": (
        'rule = "second_price", view', 'rule = "second_price", slots = 2, view', "gsp",
    ),
    "/publishers/0/placements/0/slots": ("0.4, slots = 3", "0.4, slots = 4", "at most 3"),
    "/publishers/0/placements/1/viewability": ("viewability = 0.55", "viewability = 1.5", "<= 1.0"),
    "/shocks/0/to_h": ("to_h = 24.0", "to_h = 15.0", "is 15.0; must be above from_h, which is 16"),
    "/shocks/2/channel": ('channel = "short_video"\ntraffic', 'channel = "tv"\ntraffic', "one of"),
    "/agents/laws": ("laws = [{ law", "laws = [] # [{ law", "at least one law"),
    "/agents/value": ('value = "conversion"', 'value = "click"', "one of 'conversion', 'return'"),
    "/channels/0/share": ("\nshare = ", "\nshare = inf # ", "<= 1"),
    "/deals": ('id = "finder-private"', 'id = "daily-preferred"', "distinct ids"),
    "/deals/0/publisher": ('publisher = "daily"', 'publisher = "weekly"', "one of daily, friends"),
    "/deals/1/wseat": ("[1, 3, 4, 6]", "[1, 48]", "below 48"),
    "/deals/2/at": ("at = 1", "at = 5", "5"),
    "/users/regions": ('{ name = "middle"', '{ name = "east"', "distinct names"),
}  # fmt: skip


@pytest.mark.parametrize("pointer", list(WRONG))
def test_a_wrong_key_is_named_with_what_it_must_be(pointer):
    old, new, rule = WRONG[pointer]
    with pytest.raises(BadInput, match=rule) as caught:
        read(broken(old, new), "mine")
    assert caught.value.pointer == pointer
    assert f"scenario 'mine': {pointer}" in str(caught.value)


def test_a_channel_that_nobody_sells_in_has_no_share():
    text = re.sub(r'\[\[publishers\]\]\nname = "stage".*?\n\n', "", TEXT, flags=re.DOTALL)
    with pytest.raises(BadInput, match="must be 0, for no publisher") as caught:
        read(text, "mine")
    assert caught.value.pointer == "/channels/3/share"


def test_an_unknown_name_lists_what_ships():
    with pytest.raises(BadInput, match="market_day, rush_hour, still_day"):
        load("atlantis")
