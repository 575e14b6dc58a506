"""Competitors: what the rival bidders of a scenario value, as arrays for the draws.

Their bids do not react to ours: the best rival bid of an opportunity is the same whoever bids
against it, so that two policies meet the same market.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from market.chance import Purpose, code_of
from simulator.kernels import RivalArrays, normal_table
from simulator.supply import scene_key

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.supply import Scene


def build_rivals(scenario: Scenario, scenes: tuple[Scene, ...]) -> RivalArrays:
    """Returns the competitors of a scenario: a function of ``competitors`` and ``world_seed``."""
    rivals = scenario.competitors
    names = np.array([code_of(f"competitor {rival.name}") for rival in rivals], np.uint64)
    places = np.array([code_of(scene_key(scene)) for scene in scenes], np.uint64)
    log_cpm = np.zeros((len(rivals), len(scenes)))
    taste = np.zeros((len(rivals), len(scenario.people.interests)))
    for j, rival in enumerate(rivals):
        private = normal_table(
            scenario.world_seed,
            int(Purpose.COMPETITOR_VALUE),
            np.full_like(places, names[j]),
            places,
            1,
        )[:, 0]
        log_cpm[j] = np.log(rival.cpm_median) + rival.scene_sigma * private
        taste[j, scenario.people.interests.index(rival.interest)] = rival.interest_weight
    return RivalArrays(
        presence=np.array([rival.presence for rival in rivals], np.float64),
        log_cpm=log_cpm,
        taste=taste,
        sigma=np.array([rival.sigma for rival in rivals], np.float64),
    )
