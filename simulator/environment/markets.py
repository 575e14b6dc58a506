"""The state and the arrays that the environments share: many campaigns, stepped by one kernel.

Dimension names: E = environments, F = fields of an observation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from market.errors import BadInput
from market.kernels_control import EXTERNAL, MEMORY_SIZE
from market.money import MICROS
from simulator.environment import kernels_environment as kernels
from simulator.environment.kernels_environment import FIELD_COUNT, LAST_COUNT, OBSERVATION
from simulator.period import auctionnet
from simulator.period.scenario import RULES, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.environment.kernels_environment import F32, F64, U8, Campaigns, Market
    from simulator.period.scenario import PeriodScenario

Competition = Literal["prices", "agents"]
Reward = Literal["expected", "sampled"]

LOG_ALPHA_MAX = 2.0
"""Bids are exp(LOG_ALPHA_MAX * action) * target * value, with actions in [-1, 1]."""
SEED_MAX = 2**62
ENVIRONMENTS_MAX = 1_000_000


class Stepped(NamedTuple):
    """What a step brought: observation[E, F], reward[E], is_over[E]; copies."""

    observation: F32
    reward: F64
    is_over: U8


class Markets:
    """E independent markets with one steered campaign each, in lock step or not.

    All of what happens is determined by the seeds: an environment's first episode has the number
    0, and each reset without a seed goes on to the next.
    """

    def __init__(
        self,
        scenario: PeriodScenario | str = "campaign",
        count: int = 1,
        *,
        competition: Competition = "prices",
        reward: Reward = "expected",
    ) -> None:
        """Makes ``count`` markets of a scenario; ``reset`` starts them.

        Args:
            scenario: or its name or path.
            count: E.
            competition: "prices": a process that nothing moves; "agents": the scenario's
                advertisers, of which the campaign takes the first's place, react to it and to one
                another. Their cost limits and order are those of the scenario's seed 0.
            reward: rewards add up to the score of expected conversions (less noise) or of sampled.

        Raises:
            BadInput: the scenario lacks what the environment needs, or an argument is none.
        """
        if isinstance(scenario, str):
            scenario = load(scenario)
        if not 1 <= count <= ENVIRONMENTS_MAX:
            raise BadInput(f"environments: {count}; there must be 1 to {ENVIRONMENTS_MAX}")
        if competition not in ("prices", "agents"):
            raise BadInput(f"competition '{competition}': it must be prices or agents")
        if reward not in ("expected", "sampled"):
            raise BadInput(f"reward '{reward}': it must be expected or sampled")
        self.count = count
        self.ticks = scenario.ticks
        self.market = _market(
            scenario, is_reactive=competition == "agents", is_sampled=reward == "sampled"
        )
        self.campaigns = _campaigns(count, scenario.ticks, self.market.law.shape[0])
        self._scratch = _scratch(scenario, self.market)
        self._observation = np.zeros((count, FIELD_COUNT), np.float32)
        self._reward = np.zeros(count)
        self._is_over = np.zeros(count, np.uint8)
        self._is_started = False

    def reset(self, seeds: Sequence[int] | None = None) -> F32:
        """Starts episode 0 of these seeds, or without them the next episode; returns [E, F].

        Raises:
            BadInput: there are not E seeds, or one is out of range.
        """
        if seeds is None:
            self.campaigns.period[:] += 1
        else:
            if len(seeds) != self.count:
                raise BadInput(f"seeds: {len(seeds)}; there must be {self.count}")
            for seed in seeds:
                if not 0 <= seed <= SEED_MAX:
                    raise BadInput(f"seed {seed}: it must be 0 to {SEED_MAX}")
            self.campaigns.seed[:] = seeds
            self.campaigns.period[:] = 0
        self._is_started = True
        kernels.reset_all(self.market, self.campaigns, self._observation)
        return self._observation.copy()

    def step(self, actions: F32) -> Stepped:
        """Steps all markets by one tick; actions[E] are cut off at -1 and 1.

        A market whose episode is over starts the next one, whatever the action.

        Raises:
            BadInput: an action is not a number, or there are not E.
        """
        assert self._is_started, "reset comes before the first step"
        if actions.shape != (self.count,):
            raise BadInput(f"actions: shape {actions.shape}; it must be ({self.count},)")
        if np.isnan(actions).any():
            raise BadInput("actions: one is not a number; each must be")
        log_alpha = np.clip(actions, -1.0, 1.0).astype(np.float32) * np.float32(LOG_ALPHA_MAX)
        kernels.step_all(
            self.market, self.campaigns, self._scratch, log_alpha, self._observation, self._reward,
            self._is_over,
        )  # fmt: skip
        return Stepped(self._observation.copy(), self._reward.copy(), self._is_over.copy())


def observation_bounds() -> tuple[F32, F32]:
    """Returns [F] least and most of every field."""
    low, high = np.zeros(FIELD_COUNT, np.float32), np.ones(FIELD_COUNT, np.float32)
    for i, name in enumerate(OBSERVATION):
        if name.startswith("log_"):
            low[i], high[i] = -kernels.RATIO_MAX, kernels.RATIO_MAX
        elif name not in SHARES:
            high[i] = kernels.RATIO_MAX
    return low, high


SHARES = ("time_left", "budget_left", "win_share", "exposure_share", "traffic_left")
"""Fields that lie in [0, 1]."""


def _market(scenario: PeriodScenario, *, is_reactive: bool, is_sampled: bool) -> Market:
    prices, campaign = scenario.price_process, scenario.campaign
    if campaign is None:
        raise BadInput("scenario: /campaign is missing; an environment needs it", "/campaign")
    if prices is None and not is_reactive:
        raise BadInput(
            "scenario: /price_process is missing; an environment without competing agents needs it",
            "/price_process",
        )
    agents = auctionnet.agents_of(scenario, 0)
    count = agents.law.shape[0] if is_reactive else 1
    law = agents.law[:count].copy()
    law[0] = EXTERNAL
    limits = np.array(scenario.advertisers.cost_limits) * MICROS
    shares = np.array(scenario.traffic.shares)
    per_window = scenario.ticks // shares.shape[0]
    values = scenario.values
    return kernels.Market(
        traffic_weights=shares,
        traffic_jitter=scenario.traffic.jitter,
        opportunity_count=scenario.traffic.opportunity_count,
        traffic_profile=np.repeat(shares / shares.sum() / per_window, per_window),
        value_mean=values.mean,
        category_factor=values.category_factor,
        advertiser_factor=values.advertiser_factor,
        factor_ticks=values.factor_ticks,
        spread=(values.spread_mean, values.spread_sd, values.spread_jitter),
        per_category=limits.shape[0],
        rule=int(RULES[scenario.auction.rule]),
        floor_micros=scenario.auction.floor_micros,
        soft_floor_micros=scenario.auction.soft_floor_micros,
        slot_weights_micros=auctionnet.slot_weights_micros(scenario),
        min_remaining_micros=scenario.auction.min_remaining_micros,
        limits_micros=limits,
        budgets_micros=np.array(scenario.advertisers.budgets) * MICROS,
        budget_factor=campaign.budget_factor,
        target_mean_micros=float(limits.mean()),
        price_level_micros=prices.level * MICROS if prices else 0.0,
        price_spread=prices.spread if prices else 0.0,
        price_step=prices.step if prices else 0.0,
        level_spread=prices.level_spread if prices else 0.0,
        level_memory=prices.level_memory if prices else 0.0,
        agent_unit_micros=agents.unit_micros[:count].copy(),
        agent_budget_micros=agents.budget_micros[:count].copy(),
        law=law,
        gain=agents.gain[:count].copy(),
        ones=np.ones(count, np.uint8),
        zeros=np.zeros(count, np.uint8),
        prior=agents.prior[:count].copy(),
        enter_tick=agents.enter_tick[:count].copy(),
        leave_tick=agents.leave_tick[:count].copy(),
        is_reactive=is_reactive,
        is_sampled=is_sampled,
    )


def _campaigns(count: int, ticks: int, agents: int) -> Campaigns:
    def amounts() -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        return np.zeros((count, agents), np.int64)

    return kernels.Campaigns(
        seed=np.zeros(count, np.int64),
        period=np.zeros(count, np.int64),
        tick=np.zeros(count, np.int64),
        first=np.zeros(count, np.int64),
        is_over=np.zeros(count, np.uint8),
        counts=np.zeros((count, ticks), np.int64),
        mean=np.zeros((count, ticks, agents), np.float32),
        deviation=np.zeros((count, ticks, agents), np.float32),
        log_level=np.zeros(count),
        budget_micros=amounts(),
        spend_micros=amounts(),
        status=np.zeros((count, agents), np.uint8),
        wins=amounts(),
        exposures=amounts(),
        value_sum=np.zeros((count, agents)),
        expected_conversions=np.zeros((count, agents)),
        conversions=amounts(),
        return_micros=amounts(),
        unit_micros=np.zeros((count, agents)),
        memory=np.zeros((count, agents, MEMORY_SIZE)),
        weight=np.zeros((count, agents), np.float32),
        score=np.zeros(count),
        last=np.zeros((count, LAST_COUNT)),
    )


def _scratch(scenario: PeriodScenario, market: Market) -> kernels.Scratch:
    """Returns room for the largest tick that jitter can make."""
    low, high = scenario.traffic.jitter
    share = float(market.traffic_profile.max())
    most = min(share * high / low, 1.0)
    n = int(np.ceil(most * scenario.traffic.opportunity_count)) + 1
    slots = market.slot_weights_micros.shape[0]
    return kernels.Scratch(
        keys=np.zeros(n, np.uint64),
        value=np.zeros(n * market.law.shape[0], np.float32),
        floor_micros=np.full(n, market.floor_micros, np.float32),
        soft_floor_micros=np.full(n, market.soft_floor_micros, np.float32),
        exposure_draw=np.zeros(n, np.float32),
        slot_count=np.full(n, slots, np.uint8),
        rule=np.full(n, market.rule, np.uint8),
        revenue_micros=np.zeros(slots, np.int64),
        opportunity=np.zeros(n * slots, np.int32),
        slot=np.zeros(n * slots, np.uint8),
        agent=np.zeros(n * slots, np.int32),
        price_micros=np.zeros(n * slots, np.int64),
        min_to_win_micros=np.zeros(n, np.float32),
        min_to_enter_micros=np.zeros(n, np.float32),
    )
