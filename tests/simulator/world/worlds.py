"""Small worlds that the tests of the world share."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import msgspec
import numpy as np

from simulator.period.seam import Exposures, new_accounts, new_supply
from simulator.world.building import build_tables
from simulator.world.mechanisms import Mechanism
from simulator.world.scenario import load
from simulator.world.world import PeriodWorld


def changed(scenario, **changes):
    """The scenario with fields of parts (``part__field``), or top-level fields, replaced."""
    for path, value in changes.items():
        part, _, field = path.partition("__")
        whole = (
            msgspec.structs.replace(getattr(scenario, part), **{field: value}) if field else value
        )
        scenario = msgspec.structs.replace(scenario, **{part: whole})
    return scenario


@cache
def market_day():
    return load("market_day")


@cache
def small(name, *off):
    """Tables of ``tiny`` (48 users), or of ``town`` (3,000 users who respond readily)."""
    if name == "tiny":
        scenario = changed(
            market_day(),
            tick_count=6,
            opportunity_count=180,
            users__count=48,
            users__interest_count=5,
            creatives__count=3,
            creatives__attribute_count=5,
            agents__count=7,
            responses__click_rate=0.5,
            responses__cart_rate=0.5,
            responses__order_rate=0.6,
            organic__visits_per_opportunity=0.5,
            organic__cart_rate=0.5,
            orders__delay_median_h=4.0,
        )
    else:
        scenario = changed(
            market_day(),
            tick_count=24,
            opportunity_count=60_000,
            users__count=3_000,
            users__drift_radians_per_day=3.0,
            agents__count=16,
            responses__click_rate=0.25,
            responses__cart_rate=0.45,
            responses__order_rate=0.2,
            responses__left_cart=3.0,
            responses__complement_need=2.5,
            organic__visits_per_opportunity=0.5,
            organic__cart_rate=0.2,
        )
    return build_tables(scenario.without(*(Mechanism(each) for each in off)))


class Day(NamedTuple):
    """A period in which exposures were dealt out, and not sold."""

    world: PeriodWorld
    values: list  # [T] of [A, n]
    users: list  # [T] of [n]
    scenes: list
    turns: list
    supplies: list
    accounts: object
    believed: np.ndarray  # [A] sum of the values of the agent's exposures


def dealt(count, agents, share):
    """Exposures that depend on nothing: opportunity j shows agents j and j + 3, modulo A."""
    if not share:
        empty = np.zeros(0, np.int32)
        return Exposures(empty, empty.astype(np.uint8), empty, np.zeros(0, np.int64))
    j = np.repeat(np.arange(count, dtype=np.int32), 2)
    slot = np.tile(np.arange(2, dtype=np.uint8), count)
    agent = ((j + 3 * slot) % agents).astype(np.int32)
    return Exposures(j, slot, agent, np.full(j.shape[0], 1000, np.int64))


def live(tables, *, seed=5, period=0, has_ads=True, keep=True):
    """A day with (or without) exposures dealt out."""
    world = PeriodWorld(tables, seed, period)
    agents = world.agent_count
    accounts = new_accounts(np.ones(agents, np.int64))
    day = Day(world, [], [], [], [], [], accounts, np.zeros(agents))
    first = 0
    for tick, count in enumerate(world.opportunity_counts.tolist()):
        supply = new_supply(agents, count, tables.deals)
        world.fill(tick, first, supply)
        if keep:
            day.values.append(supply.value)
            day.users.append(world.crowd.user.copy())
            day.scenes.append(world.crowd.scene.copy())
            day.turns.append(world.crowd.turn.copy())
            day.supplies.append(supply)
        exposures = dealt(count, agents, has_ads)
        np.add.at(
            day.believed, exposures.agent, supply.value[exposures.agent, exposures.opportunity]
        )
        world.settle(tick, first, supply, exposures, accounts)
        first += count
    world.finish(accounts)
    return day
