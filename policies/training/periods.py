"""Periods of the twin as Ray tasks: each task runs some whole periods, in order.

A period is never split, because budgets are sequential; so results are those of one core.
"""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from policies.training.distributed import ray_map
from simulator.period import auctionnet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.period.engine import PeriodResult
    from simulator.period.scenario import PeriodScenario

TASKS_PER_CPU = 4
"""Tasks are this much smaller than a core's share, so that a slow core does not hold up all."""


def run_on_ray(
    scenario: PeriodScenario,
    seed: int,
    periods: Sequence[int],
    *,
    cpus: int,
) -> list[PeriodResult]:
    """Returns what ``simulator.period.auctionnet.run`` returns for the same arguments.

    Args:
        scenario: the market.
        seed: of everything that happens.
        periods: numbers of periods.
        cpus: tasks at once.

    Raises:
        NotReady: Ray is not installed.
    """
    parts = ray_map(partial(auctionnet.run, scenario, seed), cut(periods, cpus), cpus=cpus)
    return list(chain.from_iterable(parts))


def cut(periods: Sequence[int], cpus: int) -> list[Sequence[int]]:
    """Returns the periods in the runs that one task takes each."""
    size = max(1, -(-len(periods) // (TASKS_PER_CPU * cpus)))
    return [periods[at : at + size] for at in range(0, len(periods), size)]
