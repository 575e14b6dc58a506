"""The world's part of ``python -m bench simulator``: whole days with every mechanism on.

The shape is AuctionNet's: 500,000 opportunities, 48 ticks, 48 agents; 50,000 users; the scenario is
``market_day``, scaled so that its shocks leave 500,000.

* ``period_cells_per_s_all_mechanisms``: whole days: traffic, values, auctions, laws, outcomes,
  organic orders, memories of users; on one core.
* ``period_cells_per_core_s_all_mechanisms``: the same per second of the thread's time on a core:
  what remains of the figure on a machine that others use, whose caches they share.
* ``period_share_*``: where the time of such a day goes.
* ``value_cells_per_s_all_mechanisms``: values alone, of an evening's tick, users' memories full.
* ``value_share_of_arithmetic``: floating-point operations of that (``OPERATIONS_PER_CELL``) against
  what the same core does with data in its first cache level, in the same run. What is missing is
  fetching users: each opportunity's lie elsewhere in some tens of megabytes.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bench.kernels_arithmetic import multiply_add
from simulator.period import engine
from simulator.period.seam import new_supply
from simulator.world import kernels_outcome, kernels_values
from simulator.world.building import agents_of, build_tables
from simulator.world.scenario import load
from simulator.world.world import PeriodWorld

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.period.engine import Agents
    from simulator.period.seam import Supply, WorldMaker
    from simulator.world.scenario import WorldScenario
    from simulator.world.tables import Tables

SEED = 1
OPPORTUNITIES = 500_000
TICK = 40
ARITHMETIC_FLOATS = 2_048
ARITHMETIC_ROUNDS = 20_000
# Per cell of 8 interests, 4 creatives of 4 attributes: liking 16, whose turn 4, creatives 4 * 11,
# scores 14, two exponentials of 19, probability 6.
OPERATIONS_PER_CELL = 16 + 4 + 4 * 11 + 14 + 2 * 19 + 6

_STEPS = (
    ("crowd", kernels_values, "draw_crowd"),
    ("values", kernels_values, "fill_values"),
    ("auctions", engine, "clear_tick"),
    ("outcomes", kernels_outcome, "draw_outcomes"),
    ("memories", kernels_outcome, "remember_exposures"),
    ("visits", kernels_outcome, "draw_visits"),
)


def figures(
    rounds: int, period_cells_per_s: Callable[[WorldMaker, Agents, int], float]
) -> dict[str, object]:
    """Returns the figures; see the module."""
    tables = build_tables(_scenario())
    agents = agents_of(tables)
    maker = partial(PeriodWorld, tables, SEED)
    found: dict[str, object] = {
        "period_cells_per_s_all_mechanisms": round(period_cells_per_s(maker, agents, rounds)),
        "period_cells_per_core_s_all_mechanisms": round(_cells_per_core_s(maker, agents, rounds)),
        "opportunities_all_mechanisms": int(tables.traffic.counts.sum()),
    }
    found |= _shares(maker, agents)
    values = max(_value_cells_per_s(tables, agents) for _ in range(rounds))
    arithmetic = max(_operations_per_s() for _ in range(rounds))
    found["value_cells_per_s_all_mechanisms"] = round(values)
    found["value_share_of_arithmetic"] = round(values * OPERATIONS_PER_CELL / arithmetic, 3)
    return found


def _scenario() -> WorldScenario:
    """``market_day`` scaled so that its shocks leave OPPORTUNITIES."""
    scenario = load("market_day")
    counts = build_tables(scenario).traffic.counts.sum()
    scaled = round(scenario.opportunity_count * OPPORTUNITIES / counts)
    return msgspec.structs.replace(scenario, opportunity_count=scaled)


def _cells_per_core_s(maker: WorldMaker, agents: Agents, rounds: int) -> float:
    """As ``period_cells_per_s``, by the clock of the thread."""
    best = 0.0
    for period in range(1, rounds + 1):
        start = time.thread_time()
        result = engine.run_period(maker(period), agents)
        spent = time.thread_time() - start
        best = max(best, result.opportunities * agents.budget_micros.shape[0] / spent)
    return best


def _shares(maker: WorldMaker, agents: Agents) -> dict[str, object]:
    """Returns the shares of a day's time, by kernel; the rest is Python and what is not named."""
    spent = dict.fromkeys((name for name, _, _ in _STEPS), 0.0)
    kept = [getattr(module, kernel_name) for _, module, kernel_name in _STEPS]
    for (name, module, kernel_name), function in zip(_STEPS, kept, strict=True):
        setattr(module, kernel_name, _timed(function, spent, name))
    start = time.perf_counter()
    try:
        engine.run_period(maker(0), agents)
    finally:
        for (_, module, kernel_name), function in zip(_STEPS, kept, strict=True):
            setattr(module, kernel_name, function)
    whole = time.perf_counter() - start
    return {f"period_share_{name}": round(each / whole, 3) for name, each in spent.items()}


def _timed(
    function: Callable[..., object], spent: dict[str, float], name: str
) -> Callable[..., object]:
    def timed(*arguments: object, **named: object) -> object:
        start = time.perf_counter()
        found = function(*arguments, **named)
        spent[name] += time.perf_counter() - start
        return found

    return timed


class _Evening(PeriodWorld):
    """Keeps the time of filling one tick, again and again, and runs on."""

    best_s = float("inf")

    def fill(self, tick: int, first: int, supply: Supply) -> None:
        super().fill(tick, first, supply)
        if tick == TICK:
            tables, room = self._tables, new_supply(self.agent_count, supply.value.shape[1])
            for _ in range(10):
                start = time.perf_counter()
                kernels_values.fill_values(
                    tick,
                    self.crowd,
                    tables.users,
                    tables.agents,
                    tables.scenes,
                    tables.effects,
                    self.state,
                    0.0,
                    tables.traffic.surge[tick],
                    self._scratch,
                    room.value,
                    self._against(room.value.shape[1]),
                )
                self.best_s = min(self.best_s, time.perf_counter() - start)


def _value_cells_per_s(tables: Tables, agents: Agents) -> float:
    world = _Evening(tables, SEED, 0)
    engine.run_period(world, agents)
    return int(world.opportunity_counts[TICK]) * world.agent_count / world.best_s


def _operations_per_s() -> float:
    x, y, z = (np.full(ARITHMETIC_FLOATS, 0.5, np.float32) for _ in range(3))
    multiply_add(x, y, z, 1)
    start = time.perf_counter()
    multiply_add(x, y, z, ARITHMETIC_ROUNDS)
    return 18.0 * ARITHMETIC_FLOATS * ARITHMETIC_ROUNDS / (time.perf_counter() - start)
