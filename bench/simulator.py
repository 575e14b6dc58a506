"""``python -m bench simulator``: what a cell of the period engine costs, alone and in whole days.

A cell is one opportunity seen by one agent. The shape is AuctionNet's day: 500,000 opportunities,
48 ticks, 48 agents, three slots.

* ``auction_cells_per_s``: ranking, GSP, budgets, charges, feedback, of a tick that is filled;
  ``_first_price``, ``_vcg``: by these rules; ``_200_agents``: GSP among so many, ranked in float64.
* ``period_cells_per_s``: whole days, drawing of all values, control laws and responses included.
* ``ratio_to_numpy_reference``: auctions and responses of one day, for the same values and weights,
  against ``tests/reference/auctionnet.py``, which does what AuctionNet does: sort, truncated
  normals for all cells, the tick again while anybody overspends (``reference_passes`` per tick).
  ``ratio_single_pass`` is the same with budgets that nobody exhausts, so that every tick runs once.
* ``share_of_memory_bandwidth``: bytes of values that the auction reads in a second, against what
  ``c = a + b`` over long arrays moves in the same run.
* ``peak_rss_mb``: of a process of its own that runs one day.
* ``two_thread_ratio``: two threads over independent days against one. What the machine allows at
  that moment, measured in turns with it: ``two_process_ratio``, the same days in two processes,
  which share no interpreter; ``two_thread_ratio_of_arithmetic``, a kernel that stays in the first
  cache level.
* ``env_steps_per_s``: steps of ``simulator.environment``'s vector environment, one step being one
  tick of one campaign, against a price process; ``env_steps_per_s_reactive`` with 47 competitors
  that react; both with about 60 auctions a step.
* what ``bench.world`` adds: the same with users, products, creatives and scenes.

Figures are the best of the rounds; ratios of two to one are those of the best times.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from bench import world
from bench.kernels_arithmetic import multiply_add
from market.auction import Rule
from simulator.environment.markets import Markets
from simulator.period import auctionnet
from simulator.period.engine import TickRoom, clear_tick, run_period
from simulator.period.scenario import PeriodScenario, load
from simulator.period.seam import new_accounts
from tests.reference import auctionnet as reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.environment.markets import Competition
    from simulator.period.engine import Agents
    from simulator.period.seam import Accounts, Exposures, Supply, WorldMaker

SEED = 1
REFERENCE_SHARE = 8
"""Both run a day of an eighth of the opportunities and budgets: the reference takes seconds."""
REFERENCE_CELLS_PER_S_MIN = 5e5
THREAD_DAYS = 4
THREAD_REPEATS = 8
"""Short runs, often: on a busy machine both cores are free for moments only."""
ARITHMETIC_FLOATS = 2_048
ARITHMETIC_ROUNDS = 100_000
STREAM_FLOATS = 2**25
ENVIRONMENTS = {"prices": 256, "agents": 64}
ENVIRONMENT_STEPS = 480


class TickCase(NamedTuple):
    """A tick that is filled, ready to be sold over and over."""

    supply: Supply
    weight: np.ndarray
    slot_weights: np.ndarray
    room: TickRoom


def run(rounds: int) -> dict[str, object]:
    """Returns the figures; see the module."""
    scenario = load("auctionnet")
    found: dict[str, object] = {}
    auction = max(_auction_cells_per_s(scenario) for _ in range(rounds))
    found["auction_cells_per_s"] = round(auction)
    for name, rule in (("first_price", Rule.FIRST_PRICE), ("vcg", Rule.VCG)):
        found[f"auction_cells_per_s_{name}"] = round(
            max(_auction_cells_per_s(scenario, rule) for _ in range(rounds))
        )
    many = msgspec.structs.replace(
        scenario, advertisers=msgspec.structs.replace(scenario.advertisers, categories=25)
    )
    found["auction_cells_per_s_200_agents"] = round(
        max(_auction_cells_per_s(many) for _ in range(rounds))
    )
    agents = auctionnet.agents_of(scenario, SEED)
    found["period_cells_per_s"] = round(
        period_cells_per_s(_maker(scenario, agents), agents, rounds)
    )
    found |= world.figures(rounds, period_cells_per_s)
    found |= _against_reference(scenario, rounds)
    bandwidth = max(_stream_bytes_per_s() for _ in range(rounds))
    found["memory_bandwidth_gb_per_s"] = round(bandwidth / 1e9, 1)
    found["share_of_memory_bandwidth"] = round(4.0 * auction / bandwidth, 3)
    found["peak_rss_mb"] = _peak_rss_mb()
    found |= _two_against_one(scenario, rounds)
    found["env_steps_per_s"] = round(max(_env_steps_per_s("prices") for _ in range(rounds)))
    found["env_steps_per_s_reactive"] = round(
        max(_env_steps_per_s("agents") for _ in range(rounds))
    )
    slow = float(str(found["reference_cells_per_s"]))
    if slow < REFERENCE_CELLS_PER_S_MIN:
        found["void"] = (
            f"the reference ran at {slow:.3g} cells/s, below {REFERENCE_CELLS_PER_S_MIN}"
        )
    return found


def period_cells_per_s(maker: WorldMaker, agents: Agents, rounds: int) -> float:
    """Returns the best rate of whole periods of a world, four a round, after one to warm up."""
    run_period(maker(0), agents)
    best = 0.0
    for period in range(1, 4 * rounds + 1):
        start = time.perf_counter()
        result = run_period(maker(period), agents)
        spent = time.perf_counter() - start
        best = max(best, result.opportunities * agents.budget_micros.shape[0] / spent)
    return best


def _maker(scenario: PeriodScenario, agents: Agents) -> WorldMaker:
    return lambda period: auctionnet.AuctionNetWorld(scenario, agents, SEED, period)


def _tick_case(scenario: PeriodScenario, agents: Agents) -> TickCase:
    """Returns the tick of the day that is nearest to an average one."""
    world = auctionnet.AuctionNetWorld(scenario, agents, SEED, 0)
    counts = world.opportunity_counts
    tick = int(np.argmin(np.abs(counts - counts.mean())))
    room = TickRoom(world.agent_count, int(counts[tick]), world.slot_weights_micros.shape[0])
    supply = room.supply(int(counts[tick]))
    world.fill(tick, int(counts[:tick].sum()), supply)
    weight = agents.unit_micros.astype(np.float32)
    return TickCase(supply, weight, world.slot_weights_micros, room)


def _sell(case: TickCase, accounts: Accounts) -> Exposures:
    revenue = np.zeros(case.slot_weights.shape[0], np.int64)
    exposures, _ = clear_tick(
        accounts, case.weight, case.supply, case.slot_weights, revenue, case.room
    )
    return exposures


def _auction_cells_per_s(scenario: PeriodScenario, rule: Rule = Rule.GSP) -> float:
    agents = auctionnet.agents_of(scenario, SEED)
    case = _tick_case(scenario, agents)
    case.supply.rule[:] = rule
    _sell(case, new_accounts(agents.budget_micros))
    spent = _best(lambda: _sell(case, new_accounts(agents.budget_micros)), 10)
    return case.supply.value.size / spent


def _against_reference(scenario: PeriodScenario, rounds: int) -> dict[str, object]:
    small = msgspec.structs.replace(
        scenario,
        traffic=msgspec.structs.replace(
            scenario.traffic,
            opportunity_count=scenario.traffic.opportunity_count // REFERENCE_SHARE,
        ),
    )
    agents = auctionnet.agents_of(small, SEED)
    agents = agents._replace(budget_micros=agents.budget_micros // REFERENCE_SHARE)
    slow, fast, passes = _both_days(small, agents, rounds)
    rich = agents._replace(budget_micros=agents.budget_micros * 1000)
    slow_once, fast_once, passes_once = _both_days(small, rich, rounds)
    assert passes_once == 1.0
    cells = _cells(small, agents)
    return {
        "reference_cells_per_s": round(cells / slow),
        "reference_passes": round(passes, 2),
        "ratio_to_numpy_reference": round(slow / fast, 1),
        "reference_single_pass_cells_per_s": round(cells / slow_once),
        "ratio_single_pass": round(slow_once / fast_once, 1),
    }


def _both_days(scenario: PeriodScenario, agents: Agents, rounds: int) -> tuple[float, float, float]:
    """Returns the best seconds of reference and engine, run in turns, and passes per tick."""
    slow, fast, passes = float("inf"), float("inf"), 0.0
    for _ in range(rounds):
        spent, passes = _reference_day(scenario, agents)
        slow = min(slow, spent)
        fast = min(fast, _engine_day(scenario, agents))
    return slow, fast, passes


def _cells(scenario: PeriodScenario, agents: Agents) -> int:
    world = auctionnet.AuctionNetWorld(scenario, agents, SEED, 0)
    return int(world.opportunity_counts.sum()) * world.agent_count


def _reference_day(scenario: PeriodScenario, agents: Agents) -> tuple[float, float]:
    """Returns the seconds of auctions and responses in numpy, and passes per tick."""
    world = auctionnet.AuctionNetWorld(scenario, agents, SEED, 0)
    remaining = agents.budget_micros / 1e6
    limit = agents.unit_micros / 1e6
    spent, passes, first = 0.0, 0, 0
    for tick, count in enumerate(world.opportunity_counts.tolist()):
        supply = TickRoom(world.agent_count, count, 3).supply(count)
        world.fill(tick, first, supply)
        value = np.ascontiguousarray(supply.value.T, np.float64)
        sigma = reference.sigmas(value)
        start = time.perf_counter()
        outcome = reference.run_tick(value, sigma, value * limit, remaining)
        spent += time.perf_counter() - start
        remaining = remaining - outcome.cost.sum(axis=0)
        passes += outcome.passes
        first += count
    return spent, passes / world.opportunity_counts.shape[0]


def _engine_day(scenario: PeriodScenario, agents: Agents) -> float:
    """Returns the seconds of auctions and responses by the engine, of the same day."""
    world = auctionnet.AuctionNetWorld(scenario, agents, SEED, 0)
    accounts = new_accounts(agents.budget_micros)
    weight = agents.unit_micros.astype(np.float32)
    revenue = np.zeros(world.slot_weights_micros.shape[0], np.int64)
    room = TickRoom(world.agent_count, int(world.opportunity_counts.max()), revenue.shape[0])
    spent, first = 0.0, 0
    for tick, count in enumerate(world.opportunity_counts.tolist()):
        supply = room.supply(count)
        world.fill(tick, first, supply)
        start = time.perf_counter()
        exposures, _ = clear_tick(
            accounts, weight, supply, world.slot_weights_micros, revenue, room,
            min_remaining_micros=scenario.auction.min_remaining_micros,
        )  # fmt: skip
        world.settle(tick, first, supply, exposures, accounts)
        spent += time.perf_counter() - start
        first += count
    return spent


def _env_steps_per_s(competition: Competition) -> float:
    count = ENVIRONMENTS[competition]
    markets = Markets("campaign", count, competition=competition)
    markets.reset(range(count))
    actions = np.full(count, 0.1, np.float32)
    steps = ENVIRONMENT_STEPS if competition == "prices" else ENVIRONMENT_STEPS // 4
    start = time.perf_counter()
    for _ in range(steps):
        markets.step(actions)
    return steps * count / (time.perf_counter() - start)


def _stream_bytes_per_s() -> float:
    a, b = np.ones(STREAM_FLOATS, np.float32), np.ones(STREAM_FLOATS, np.float32)
    c = np.empty_like(a)
    return 3 * a.nbytes / _best(lambda: np.add(a, b, out=c), 3)


def _best(call: Callable[[], object], times: int) -> float:
    found: list[float] = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def _two_against_one(scenario: PeriodScenario, rounds: int) -> dict[str, object]:
    """Returns how much faster two threads are than one, and two processes; see the module."""
    halves = [range(k, THREAD_DAYS, 2) for k in range(2)]
    with (
        ThreadPoolExecutor(2) as threads,
        ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes,
    ):
        turns: dict[str, Callable[[], object]] = {
            "day_1": lambda: _days(scenario, range(THREAD_DAYS)),
            "day_threads": lambda: _days(scenario, range(THREAD_DAYS), 2),
            "day_processes": lambda: list(processes.map(_days, [scenario] * 2, halves)),
            "arithmetic_1": lambda: [_arithmetic() for _ in range(2)],
            "arithmetic_threads": lambda: [
                done.result() for done in [threads.submit(_arithmetic) for _ in range(2)]
            ],
        }
        for turn in turns.values():
            turn()
        best = dict.fromkeys(turns, float("inf"))
        for _ in range(rounds * THREAD_REPEATS):
            for name, turn in turns.items():
                best[name] = min(best[name], _best(turn, 1))
    return {
        "two_thread_ratio": round(best["day_1"] / best["day_threads"], 2),
        "two_process_ratio": round(best["day_1"] / best["day_processes"], 2),
        "two_thread_ratio_of_arithmetic": round(
            best["arithmetic_1"] / best["arithmetic_threads"], 2
        ),
    }


def _days(scenario: PeriodScenario, days: range, threads: int = 1) -> None:
    auctionnet.run(scenario, SEED, days, threads=threads)


def _arithmetic() -> None:
    x, y, z = (np.full(ARITHMETIC_FLOATS, 0.5, np.float32) for _ in range(3))
    multiply_add(x, y, z, ARITHMETIC_ROUNDS)


# The high-water mark of the process's own memory: ru_maxrss would carry over that of this one.
_ONE_DAY = """
from pathlib import Path
from simulator.period import auctionnet
from simulator.period.scenario import load
result, = auctionnet.run(load("auctionnet"), 1, [0])
assert result.opportunities > 499_000
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024)
"""


def _peak_rss_mb() -> int:
    done = subprocess.run(
        [sys.executable, "-c", _ONE_DAY], capture_output=True, text=True, check=True
    )
    return int(done.stdout)
