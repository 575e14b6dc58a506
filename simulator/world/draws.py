"""Tables of keyed draws, one row per user, product, category or channel, and shares cumulated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.kernels import normal_table, uniform_table

if TYPE_CHECKING:
    from market.chance import Purpose
    from simulator.world.scenario import WorldScenario
    from simulator.world.tables import F64


def uniforms(
    scenario: WorldScenario, purpose: Purpose, rows: int, width: int, kind: int = 0
) -> F64:
    """Returns [rows, width] uniform draws of the world's seed; ``kind`` keeps tables apart."""
    keys = np.arange(rows, dtype=np.uint64)
    return uniform_table(
        scenario.world_seed, int(purpose), np.full_like(keys, kind), keys, np.arange(width)
    )


def normals(scenario: WorldScenario, purpose: Purpose, rows: int, width: int, kind: int = 0) -> F64:
    """As ``uniforms``, standard normal."""
    keys = np.arange(rows, dtype=np.uint64)
    return normal_table(scenario.world_seed, int(purpose), np.full_like(keys, kind), keys, width)


def cdf(weights: F64) -> F64:
    """Returns the weights of the last axis cumulated, ending at 1."""
    cumulated = np.cumsum(weights, axis=-1)
    return cumulated / cumulated[..., -1:]
