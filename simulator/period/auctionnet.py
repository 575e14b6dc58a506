"""The AuctionNet market as a world of the period engine, without its defects.

As in AuctionNet, values are conversion probabilities that are independent between agents, and a
shown ad converts with exactly that probability. Unlike it, every purpose has draws of its own, no
two ticks share any, and a lone bidder wins. What it does not have: users, features, correlation
between agents, delays; ``simulator.world`` has.

Source: Su et al., "AuctionNet: a novel benchmark for decision-making in large-scale games", NeurIPS
2024, and its code (alimama-tech/AuctionNet), whose parameters ``scenarios/auctionnet.toml`` holds.

Dimension names: A = agents, n = opportunities of a tick, K = slots, T = ticks.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from market.chance import Purpose
from market.kernels import at_opportunity, stream, uniform
from market.money import MICROS
from simulator.period import kernels_auctionnet as kernels
from simulator.period.engine import Agents, run_periods
from simulator.period.scenario import LAWS, RULES, deals_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.period.engine import PeriodResult
    from simulator.period.scenario import PeriodScenario
    from simulator.period.seam import F64, I64, Accounts, Deals, Exposures, Supply

PRIOR_CONVERSIONS = 20.0
"""Weight of "the forecast is right" in the laws: what the PID was tuned with."""


class AuctionNetWorld:
    """One period of the market (a ``seam.World``)."""

    def __init__(self, scenario: PeriodScenario, agents: Agents, seed: int, period: int) -> None:
        """Draws the period's traffic and the shape of every agent's values."""
        self._seed, self._period = seed, period
        self._worth = agents.unit_micros.astype(np.int64)
        self._rule = int(RULES[scenario.auction.rule])
        self._floor = scenario.auction.floor_micros
        self._soft_floor = scenario.auction.soft_floor_micros
        self._counts = _counts(scenario, seed, period)
        self._slot_weights = slot_weights_micros(scenario)
        shape = (scenario.ticks, scenario.agent_count)
        self._mean, self._deviation = np.empty(shape, np.float32), np.empty(shape, np.float32)
        values = scenario.values
        kernels.value_shapes(
            seed,
            period,
            values.mean,
            values.category_factor,
            values.advertiser_factor,
            values.factor_ticks,
            (values.spread_mean, values.spread_sd, values.spread_jitter),
            len(scenario.advertisers.cost_limits),
            self._mean,
            self._deviation,
        )
        self._deals = deals_of(
            scenario.deals, [deal.floor_micros for deal in scenario.deals], scenario.agent_count
        )
        self._deal_shares = np.cumsum([deal.share for deal in scenario.deals])
        self._keys = np.empty(int(self._counts.max(initial=0)), np.uint64)

    @property
    def opportunity_counts(self) -> I64:
        """[T] opportunities of each tick."""
        return self._counts

    @property
    def agent_count(self) -> int:
        """A."""
        return self._mean.shape[1]

    @property
    def slot_weights_micros(self) -> I64:
        """[K] probability that a sold slot is exposed, times 10^6."""
        return self._slot_weights

    @property
    def deals(self) -> Deals:
        """The scenario's deals, in the order of the file."""
        return self._deals

    def fill(self, tick: int, first: int, supply: Supply) -> None:
        """Draws the values of a tick and which slots are exposed."""
        count = supply.value.shape[1]
        supply.floor_micros[:] = self._floor
        supply.soft_floor_micros[:] = self._soft_floor
        supply.slot_count[:] = self._slot_weights.shape[0]
        supply.rule[:] = self._rule
        kernels.exposure_draws(self._seed, self._period, first, supply.exposure_draw)
        if self._deal_shares.size:
            kernels.deal_draws(self._seed, self._period, first, self._deal_shares, supply.deal)
        kernels.fill_values(
            self._seed,
            self._period,
            first,
            self._mean[tick],
            self._deviation[tick],
            self._keys[:count],
            supply.value,
        )

    def settle(
        self, tick: int, first: int, supply: Supply, exposures: Exposures, accounts: Accounts
    ) -> None:
        """Draws who converts: at once, worth what the advertiser may pay for it."""
        del tick
        kernels.settle_conversions(
            self._seed,
            self._period,
            first,
            supply.value,
            exposures.opportunity,
            exposures.agent,
            self._worth,
            accounts.expected_conversions,
            accounts.conversions,
            accounts.return_micros,
        )

    def finish(self, accounts: Accounts) -> None:
        """Nothing comes late."""


def slot_weights_micros(scenario: PeriodScenario) -> I64:
    """Returns [K] the exposure probabilities of the slots, times 10^6."""
    weights = np.array(scenario.auction.slot_weights)
    return np.round(weights * MICROS).astype(np.int64)


def agents_of(scenario: PeriodScenario, seed: int) -> Agents:
    """Returns the advertisers of a market: the same in all periods.

    Advertiser a is of category a // limits; each category holds every cost limit once, in an order
    drawn by the seed.
    """
    people = scenario.advertisers
    limits = np.array(people.cost_limits)
    order = np.concatenate([_order(seed, c, limits.shape[0]) for c in range(people.categories)])
    count = order.shape[0]
    dealt = [people.laws[a % len(people.laws)] for a in range(count)]
    return Agents(
        budget_micros=np.round(np.array(people.budgets)[order] * MICROS).astype(np.int64),
        unit_micros=limits[order] * MICROS,
        has_target=np.ones(count, np.uint8),
        is_return=np.zeros(count, np.uint8),
        law=np.array([LAWS[each.law] for each in dealt], np.uint8),
        gain=np.array([each.gain for each in dealt]),
        prior=np.full(count, PRIOR_CONVERSIONS),
        enter_tick=np.zeros(count, np.int64),
        leave_tick=np.full(count, scenario.ticks, np.int64),
    )


def run(
    scenario: PeriodScenario, seed: int, periods: Sequence[int], *, threads: int = 1
) -> list[PeriodResult]:
    """Returns the results of the periods with these numbers; the same for any ``threads``."""
    agents = agents_of(scenario, seed)
    return run_periods(
        partial(AuctionNetWorld, scenario, agents, seed),
        lambda _: agents,
        periods,
        threads=threads,
        min_remaining_micros=scenario.auction.min_remaining_micros,
    )


def score(result: PeriodResult, agents: Agents) -> F64:
    """Returns [A] the scores of a period, of what converted."""
    accounts = result.accounts
    return score_of(accounts.conversions, accounts.spend_micros, agents.unit_micros)


def score_of(conversions: F64 | I64, spend_micros: I64, unit_micros: F64) -> F64:
    """Returns [A] conversions * min(1, (cost limit / cost per conversion)^2), AuctionNet's score.

    0 for an agent without conversions. Source: AuctionNet, Tracker/PlayerAnalysis.py.
    """
    allowed = unit_micros * conversions
    ratio = allowed / np.maximum(spend_micros, 1)
    return np.asarray(conversions, np.float64) * np.minimum(1.0, ratio**2)


def _order(seed: int, category: int, count: int) -> I64:
    # Keys come back as Python ints, which a kernel that has met a small one refuses above 2^63.
    key = np.uint64(stream(seed, int(Purpose.COST_LIMIT)))
    own = np.uint64(at_opportunity(key, np.uint64(0), np.uint64(category)))
    return np.argsort([uniform(own, i) for i in range(count)])


def _counts(scenario: PeriodScenario, seed: int, period: int) -> I64:
    traffic = scenario.traffic
    shares = np.array(traffic.shares)
    kernels.traffic_shares(seed, period, shares.copy(), *traffic.jitter, shares)
    per_window = scenario.ticks // shares.shape[0]
    by_tick = np.repeat(shares / per_window, per_window)
    return np.floor(by_tick * traffic.opportunity_count).astype(np.int64)
