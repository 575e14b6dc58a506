"""Gymnasium environments of one campaign, and of many at once.

An episode is a period, a step a tick. The action in [-1, 1] sets the campaign's bids for a tick to
exp(2 action) * target * value; ``docs/simulator.md`` says what the fields of an observation mean.
Rewards add up to the episode's score, conversions * min(1, (target / cost per conversion)^2).

Needs the extra ``research``; nothing else of lodestone does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from market.errors import BadInput
from simulator.environment.markets import (
    SEED_MAX,
    Markets,
    observation_bounds,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from simulator.environment.markets import Competition, Reward
    from simulator.period.scenario import PeriodScenario

    Observations = npt.NDArray[np.float32]


ENVIRONMENT_ID = "lodestone/Campaign-v0"
"""Name for ``gymnasium.make`` and ``make_vec``; importing this module registers it."""


def observation_space() -> spaces.Box:
    """Returns the space of one campaign's observation."""
    low, high = observation_bounds()
    return spaces.Box(low, high, dtype=np.float32)


def action_space() -> spaces.Box:
    """Returns the space of one campaign's action."""
    return spaces.Box(-1.0, 1.0, (1,), np.float32)


class CampaignEnv(gymnasium.Env["Observations", "Observations"]):
    """One campaign. The seed given to ``reset`` determines everything.

    A reset without a seed starts the next episode of the last seed; the first of all draws one.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium's attribute

    def __init__(
        self,
        scenario: PeriodScenario | str = "campaign",
        *,
        competition: Competition = "prices",
        reward: Reward = "expected",
        render_mode: str | None = None,
    ) -> None:
        """Makes the environment; see ``markets.Markets`` for the arguments and errors."""
        self._markets = Markets(scenario, 1, competition=competition, reward=reward)
        self.observation_space = observation_space()
        self.action_space = action_space()
        self.render_mode = render_mode
        self._is_started = False
        self._is_over = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Starts an episode; returns its first observation and what ``info`` says."""
        super().reset(seed=seed)
        _check_options(options)
        if seed is None and not self._is_started:
            seed = int(self.np_random.integers(SEED_MAX))
        observation = self._markets.reset(None if seed is None else [seed])[0]
        self._is_started, self._is_over = True, False
        return observation, _info(self._markets, 0)

    def step(self, action: Observations) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Bids for a tick. Episodes end by themselves after the last tick, never earlier."""
        if not self._is_started or self._is_over:
            raise ResetNeeded("the episode is over or never began: call reset first")
        stepped = self._markets.step(np.asarray(action, np.float32).reshape(1))
        self._is_over = bool(stepped.is_over[0])
        return (
            stepped.observation[0],
            float(stepped.reward[0]),
            self._is_over,
            False,
            _info(self._markets, 0),
        )


class CampaignVectorEnv(VectorEnv["Observations", "Observations", "npt.NDArray[Any]"]):
    """Many campaigns in one kernel call per step.

    Environment i of seed s is ``CampaignEnv`` of seed s + i. The step after an episode's last
    starts the next one (``AutoresetMode.NEXT_STEP``): its action is ignored, its reward 0.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - Gymnasium's attribute
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int,
        scenario: PeriodScenario | str = "campaign",
        *,
        competition: Competition = "prices",
        reward: Reward = "expected",
    ) -> None:
        """Makes ``num_envs`` environments; see ``markets.Markets`` for arguments and errors."""
        self._markets = Markets(scenario, num_envs, competition=competition, reward=reward)
        self.num_envs = num_envs
        self.single_observation_space = observation_space()
        self.single_action_space = action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._is_started = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Starts an episode everywhere; a list must hold a seed for each environment."""
        super().reset(seed=seed if isinstance(seed, int) else None)
        _check_options(options)
        if isinstance(seed, list):
            seeds = [_whole(each) for each in seed]
        elif seed is not None:
            seeds = list(range(seed, seed + self.num_envs))
        elif not self._is_started:
            first = int(self.np_random.integers(SEED_MAX - self.num_envs))
            seeds = list(range(first, first + self.num_envs))
        else:
            seeds = None
        self._is_started = True
        return self._markets.reset(seeds), _infos(self._markets)

    def step(
        self, actions: Observations
    ) -> tuple[Observations, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
        """Bids for a tick in every environment; actions[E, 1]."""
        if not self._is_started:
            raise ResetNeeded("no episode ever began: call reset first")
        stepped = self._markets.step(np.asarray(actions, np.float32).reshape(self.num_envs))
        return (
            stepped.observation,
            stepped.reward,
            stepped.is_over.astype(np.bool_),
            np.zeros(self.num_envs, np.bool_),
            _infos(self._markets),
        )


gymnasium.register(
    ENVIRONMENT_ID,
    entry_point="simulator.environment.gymnasium:CampaignEnv",
    vector_entry_point="simulator.environment.gymnasium:CampaignVectorEnv",
)


def _whole(seed: int | None) -> int:
    if seed is None:
        raise BadInput("seeds: one is None; a list must hold a seed for each environment")
    return seed


def _check_options(options: dict[str, Any] | None) -> None:
    """Refuses what would be ignored: a mask of environments to reset, say."""
    if options:
        raise BadInput(f"reset options: {sorted(options)}; there are none")


def _info(markets: Markets, i: int) -> dict[str, Any]:
    return {name: values[i].item() for name, values in _infos(markets).items()}


def _infos(markets: Markets) -> dict[str, Any]:
    """What reports want to know: money and results of the episode so far, per environment."""
    c = markets.campaigns
    return {
        "budget_micros": c.budget_micros[:, 0].copy(),
        "target_micros": c.unit_micros[:, 0].copy(),
        "spend_micros": c.spend_micros[:, 0].copy(),
        "conversions": c.conversions[:, 0].copy(),
        "expected_conversions": c.expected_conversions[:, 0].copy(),
        "score": c.score.copy(),
    }
