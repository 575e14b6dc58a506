"""The twin with many learning advertisers, for RLlib: each agent sets its own multiplier each tick.

A step is a tick of a period; observations and actions mean what they mean in
``simulator.environment``. The auctions are those of ``simulator.period``, whose other agents follow
their control laws. An agent that ran out of money is observed to the end; what it does then
changes nothing. Source of the interface: RLlib 2.60, ``MultiAgentEnv`` of the new API stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import numpy.typing as npt
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from market.errors import BadInput
from market.kernels_control import EXTERNAL
from simulator.environment.kernels_environment import OBSERVATION, PRIOR_CONVERSIONS, RATIO_MAX
from simulator.environment.markets import LOG_ALPHA_MAX, observation_bounds
from simulator.period.auctionnet import AuctionNetWorld, agents_of, score_of
from simulator.period.engine import PeriodResult, View, play
from simulator.period.scenario import PeriodScenario, load
from simulator.period.seam import STATUS_LIVE

if TYPE_CHECKING:
    from collections.abc import Generator

    from ray.rllib.utils.typing import MultiAgentDict

    from simulator.period.seam import Feedback, Supply

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


PERIODS_PER_SEED = 1_000_003
SEED_MAX = 2**40
"""Periods of the largest seed still have numbers below 2^63."""


class ManyAdvertisers(MultiAgentEnv):
    """One period after the other, with the agents ``agent_0``, ``agent_1``, ... that learn.

    Configuration (``env_config``):

        scenario: name or path of a ``PeriodScenario``, or the scenario; default ``auctionnet``.
        learners: rows of the advertisers that learn; default: all.
        seed: of the market: who the advertisers are; default 1.
        rewards: "expected" conversions (less noise, the default) or "sampled" ones.

    Rewards add up to the agent's score, conversions x min(1, (target / cost)^2). ``reset(seed=s)``
    begins with period s * 1,000,003; later resets go on with the next period. A first reset without
    a seed draws one, so that runners that were given none do not all play the same periods.

    Attributes:
        period: number of the period that is being played.
    """

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        """Reads the configuration; nothing is played yet.

        Raises:
            BadInput: it breaks a rule.
        """
        super().__init__()
        config = dict(config or {})
        named = config.pop("scenario", "auctionnet")
        self._scenario = named if isinstance(named, PeriodScenario) else load(named)
        self._seed = int(config.pop("seed", 1))
        agents = agents_of(self._scenario, self._seed)
        count = self._scenario.agent_count
        learners = tuple(config.pop("learners", range(count)))
        rewards = config.pop("rewards", "expected")
        if config:
            raise BadInput(f"env_config: {sorted(config)} is unknown; see ManyAdvertisers")
        if not learners or not all(0 <= row < count for row in learners):
            raise BadInput(
                f"env_config.learners: is {learners}; it must name rows 0 to {count - 1}"
            )
        if rewards not in ("expected", "sampled"):
            raise BadInput(
                f"env_config.rewards: is {rewards!r}; it must be 'expected' or 'sampled'"
            )
        self._rows = np.array(sorted(set(learners)))
        self._is_sampled = rewards == "sampled"
        law = agents.law.copy()
        law[self._rows] = EXTERNAL
        self._agents = agents._replace(law=law)
        self.possible_agents = [f"agent_{row}" for row in self._rows]
        self.agents = list(self.possible_agents)
        space = gymnasium.spaces.Box(*observation_bounds(), dtype=np.float32)
        action = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.observation_spaces = dict.fromkeys(self.possible_agents, space)
        self.action_spaces = dict.fromkeys(self.possible_agents, action)
        self.period = -1
        self._game: Generator[View, F32 | None, PeriodResult] | None = None
        self._observer = _Observer(self._scenario, self._agents.unit_micros)
        self._score = np.zeros(0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[MultiAgentDict, MultiAgentDict]:
        """Starts the next period, or the first of ``seed``; returns (observations, {}).

        Raises:
            BadInput: the seed is out of range.
        """
        if seed is not None and not 0 <= seed <= SEED_MAX:
            raise BadInput(f"seed {seed}: it must be 0 to {SEED_MAX}")
        super().reset(seed=seed, options=options)
        if seed is None and self.period < 0:
            seed = int(self.np_random.integers(SEED_MAX))
        self.period = seed * PERIODS_PER_SEED if seed is not None else self.period + 1
        world = AuctionNetWorld(self._scenario, self._agents, self._seed, self.period)
        self._game = play(
            world, self._agents,
            min_remaining_micros=self._scenario.auction.min_remaining_micros,
        )  # fmt: skip
        self._score = np.zeros(self._scenario.agent_count)
        self.agents = list(self.possible_agents)
        self._observer.start()
        return self._told(self._observer.see(next(self._game))), {}

    def step(
        self, action_dict: MultiAgentDict
    ) -> tuple[MultiAgentDict, MultiAgentDict, MultiAgentDict, MultiAgentDict, MultiAgentDict]:
        """Plays a tick with the actions; returns (observations, rewards, ends, cuts, infos)."""
        assert self._game is not None, "reset comes first"
        actions = np.array([action_dict[name][0] for name in self.agents], np.float64)
        if not np.isfinite(actions).all():
            raise BadInput(f"actions of period {self.period}: must be finite, are {actions}")
        log_alpha = LOG_ALPHA_MAX * np.clip(actions, -1.0, 1.0)
        weight = np.zeros(self._scenario.agent_count, np.float32)
        weight[self._rows] = np.exp(log_alpha) * self._agents.unit_micros[self._rows]
        is_over = False
        try:
            view = self._game.send(weight)
            accounts = view.accounts
            seen = self._observer.see(view)
        except StopIteration as ended:
            is_over = True
            accounts = ended.value.accounts
            seen = self._observer.last()
        found = accounts.conversions if self._is_sampled else accounts.expected_conversions
        score = score_of(found, accounts.spend_micros, self._agents.unit_micros)
        gained = (score - self._score)[self._rows]
        self._score = score
        rewards = dict(zip(self.agents, gained.tolist(), strict=True))
        ends = dict.fromkeys([*self.agents, "__all__"], is_over)
        cuts = dict.fromkeys([*self.agents, "__all__"], False)
        told = self._told(seen)
        if is_over:
            self.agents = []
        return told, rewards, ends, cuts, {}

    def _told(self, seen: F32) -> MultiAgentDict:
        rows = zip(self.possible_agents, self._rows, strict=True)
        return {name: seen[row].copy() for name, row in rows}


class _Observer:
    """What every agent may know before a tick, as numbers near one."""

    def __init__(self, scenario: PeriodScenario, unit_micros: F64) -> None:
        shares = np.array(scenario.traffic.shares)
        per_window = scenario.ticks // shares.shape[0]
        self._scenario = scenario
        self._unit_micros = unit_micros
        self._profile = np.repeat(shares / shares.sum() / per_window, per_window)
        self._before = np.zeros((3, unit_micros.shape[0]))
        self._seen = np.zeros((unit_micros.shape[0], len(OBSERVATION)), np.float32)

    def start(self) -> None:
        """Forgets the period before."""
        self._before[:] = 0.0
        self._seen = np.zeros_like(self._seen)

    def see(self, view: View) -> F32:
        """Returns [A, F] of OBSERVATION."""
        scenario, unit, accounts = self._scenario, self._unit_micros, view.accounts
        ticks, tick = scenario.ticks, view.tick
        budget, spend = accounts.budget_micros.astype(np.float64), accounts.spend_micros
        now = np.stack([accounts.wins, accounts.exposures, spend]).astype(np.float64)
        wins, exposures, spent = now - self._before
        self._before = now
        wanted = budget / unit
        believed = accounts.value_sum * (
            (accounts.conversions + PRIOR_CONVERSIONS) / (accounts.value_sum + PRIOR_CONVERSIONS)
        )
        offered, value, price = 0, np.zeros_like(unit), np.zeros_like(unit)
        log_alpha = np.zeros_like(unit)
        if view.supply is not None and view.feedback is not None:
            offered = view.supply.value.shape[1]
            value, price = _means(view, view.supply, view.feedback)
            log_alpha = _log(view.weight / unit)
        worth, count = unit * value, max(offered, 1)
        traffic = offered * ticks / scenario.traffic.opportunity_count
        columns = (
            (ticks - tick) / ticks,
            1.0 - spend / budget,
            _log(unit / unit.mean()),
            _log(wanted),
            _ratio(spend, unit * believed),
            log_alpha,
            wins / count,
            exposures / count,
            _ratio(spent, budget / ticks),
            np.where(worth > 0, _log(price / np.maximum(worth, 1e-300)), 0.0),
            np.where(worth > 0, _log(value / scenario.values.mean), 0.0),
            min(traffic, RATIO_MAX),
            min(self._profile[tick] * ticks, RATIO_MAX),
            self._profile[tick:].sum(),
            _ratio(accounts.conversions, wanted),
            _ratio(accounts.value_sum, wanted),
        )
        for field, column in enumerate(columns):
            self._seen[:, field] = column
        return self._seen

    def last(self) -> F32:
        """Returns what was seen last: there is no tick after the end to know anything of."""
        return self._seen


def _means(view: View, supply: Supply, feedback: Feedback) -> tuple[F64, F64]:
    """Returns [A] the mean value, and the mean bid to beat, of the tick before; 0 if it was empty.

    What was to be beaten: the last slot's bid, or, where the agent has a slot, the next.
    """
    count = max(supply.value.shape[1], 1)
    bids = view.weight[:, None] * supply.value
    enters = feedback.min_to_enter_micros
    has_slot = (bids >= enters) & (view.accounts.status == STATUS_LIVE)[:, None]
    price = np.where(has_slot, feedback.min_to_win_micros, enters)
    mean_value = supply.value.sum(axis=1, dtype=np.float64) / count
    return mean_value, price.sum(axis=1, dtype=np.float64) / count


def _log(ratio: F64 | float) -> F64:
    floor = np.exp(-RATIO_MAX)
    return np.clip(np.log(np.maximum(ratio, floor)), -RATIO_MAX, RATIO_MAX)


def _ratio(above: F64 | npt.NDArray[np.int64], below: F64) -> F64:
    return np.clip(np.where(below > 0, above / np.maximum(below, 1e-300), 0.0), 0.0, RATIO_MAX)
