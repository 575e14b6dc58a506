"""Kernels of the environments: one tick of many campaigns in one call.

Dimension names: E = environments, A = agents of each (row 0 is the campaign that is steered, the
others compete; A = 1 where competitors are a price process), T = ticks, K = slots, F = fields of an
observation, n = opportunities of a tick.

All draws are keyed by (seed of the environment, purpose, period, opportunity), the period being the
number of the episode. What is done in one environment changes nothing in another.
"""
# As in market.kernels: an int of the compiler is an np.int64, to numpy's stubs they are strangers.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from market.chance import Purpose
from market.kernel import kernel
from market.kernels import at_opportunity, normal, stream, uniform
from market.kernels_control import believed_value, set_weights, start_laws
from simulator.period.kernels_auction import BID_MICROS_MAX, clear_tick, price_slots
from simulator.period.kernels_auctionnet import (
    exposure_draws,
    fill_values,
    near_normal,
    settle_conversions,
    traffic_shares,
    value_shapes,
)
from simulator.period.kernels_deals import DealScratch
from simulator.period.seam import STATUS_LIVE, STATUS_OUT, DealAccounts, Deals

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U64 = npt.NDArray[np.uint64]
U8 = npt.NDArray[np.uint8]

OBSERVATION = (
    "time_left",
    "budget_left",
    "log_target",
    "log_budget",
    "cost_ratio",
    "log_alpha",
    "win_share",
    "exposure_share",
    "spend_pace",
    "log_price",
    "log_value",
    "traffic",
    "traffic_next",
    "traffic_left",
    "conversions",
    "forecast",
)
"""Fields of an observation, in order; what each means stands in ``docs/simulator.md``."""
FIELD_COUNT = len(OBSERVATION)

RATIO_MAX = 5.0
"""Ratios in an observation are cut off here; logarithms at plus and minus it."""
PRIOR_CONVERSIONS = 20.0
BLOCK = 256

# Columns of Campaigns.last[E, LAST_COUNT]: what happened in the tick before.
_OPPORTUNITIES, _WINS, _EXPOSURES, _SPEND, _VALUE, _PRICE, _LOG_ALPHA = range(7)
LAST_COUNT = 7

_CAMPAIGN = int(Purpose.CAMPAIGN)
_PRICE_LEVEL = int(Purpose.PRICE_LEVEL)
_CONVERSION = int(Purpose.CONVERSION)
_COMPETITOR_VALUE = int(Purpose.COMPETITOR_VALUE)
_LIVE = np.uint8(STATUS_LIVE)
_OUT = np.uint8(STATUS_OUT)
_BID_MAX = np.float64(BID_MICROS_MAX)


class Market(NamedTuple):
    """What all environments share and no step changes.

    Attributes:
        traffic_weights: [W] of the windows of a period.
        traffic_jitter: least and most factor on each.
        opportunity_count: of a period.
        traffic_profile: [T] share of a period's traffic that a tick has without jitter.
        value_mean: conversion probability.
        category_factor: as ``value_shapes``, down to per_category.
        advertiser_factor: see there.
        factor_ticks: see there.
        spread: see there.
        per_category: see there.
        rule: ``market.auction.Rule``.
        floor_micros: hard floor.
        soft_floor_micros: 0 = none.
        slot_weights_micros: [K].
        min_remaining_micros: an agent with less is out.
        limits_micros: [L] targets, and budgets_micros [L] that go with them, of which an episode's
            campaign draws one.
        budgets_micros: see limits_micros.
        budget_factor: least and most factor on the campaign's budget.
        target_mean_micros: mean of limits_micros, to which observations relate.
        price_level_micros: median highest competing bid (price process).
        price_spread: of its logarithm, per opportunity.
        price_step: how far each lower competing bid is below the next higher, at most; in [0, 1].
        level_spread: standard deviation of the log price level over time.
        level_memory: correlation of the log price level from tick to tick.
        agent_unit_micros: [A] what a conversion may cost the agents; row 0 is drawn per episode.
        agent_budget_micros: [A] their budgets, the same.
        law: [A] control laws; row 0 is EXTERNAL.
        gain: [A] of the laws.
        ones: [A] of uint8: all have a target.
        zeros: [A] of uint8: none has a return goal.
        prior: [A] of the laws.
        enter_tick: [A].
        leave_tick: [A].
        is_reactive: competitors are agents; else a price process.
        is_sampled: rewards count conversions that happened, else expected ones.
    """

    traffic_weights: F64
    traffic_jitter: tuple[float, float]
    opportunity_count: int
    traffic_profile: F64
    value_mean: float
    category_factor: tuple[float, float]
    advertiser_factor: tuple[float, float]
    factor_ticks: int
    spread: tuple[float, float, float]
    per_category: int
    rule: int
    floor_micros: int
    soft_floor_micros: int
    slot_weights_micros: I64
    min_remaining_micros: int
    limits_micros: F64
    budgets_micros: F64
    budget_factor: tuple[float, float]
    target_mean_micros: float
    price_level_micros: float
    price_spread: float
    price_step: float
    level_spread: float
    level_memory: float
    agent_unit_micros: F64
    agent_budget_micros: I64
    law: U8
    gain: F64
    ones: U8
    zeros: U8
    prior: F64
    enter_tick: I64
    leave_tick: I64
    is_reactive: bool
    is_sampled: bool


class Campaigns(NamedTuple):
    """The state of all environments; steps change it in place.

    Attributes:
        seed: [E] of the draws.
        period: [E] number of the episode.
        tick: [E] about to start.
        first: [E] number of the tick's first opportunity.
        is_over: [E] 1 after the last tick, until the next step resets.
        counts: [E, T] opportunities of each tick.
        mean: [E, T, A] of values.
        deviation: [E, T, A] of values.
        log_level: [E] log price level, relative to its median.
        budget_micros: [E, A]; this and the next eight are ``seam.Accounts``.
        spend_micros: [E, A].
        status: [E, A].
        wins: [E, A].
        exposures: [E, A].
        value_sum: [E, A].
        expected_conversions: [E, A].
        conversions: [E, A].
        return_micros: [E, A].
        unit_micros: [E, A] what a conversion may cost.
        memory: [E, A, MEMORY_SIZE] of the laws.
        weight: [E, A].
        score: [E] so far, of what rewards add up to.
        last: [E, LAST_COUNT].
    """

    seed: I64
    period: I64
    tick: I64
    first: I64
    is_over: U8
    counts: I64
    mean: F32
    deviation: F32
    log_level: F64
    budget_micros: I64
    spend_micros: I64
    status: U8
    wins: I64
    exposures: I64
    value_sum: F64
    expected_conversions: F64
    conversions: I64
    return_micros: I64
    unit_micros: F64
    memory: F64
    weight: F32
    score: F64
    last: F64


class Scratch(NamedTuple):
    """Room for one tick of one environment, in the order and of the types of ``clear_tick``.

    Attributes:
        keys: [n].
        value: [A * n].
        floor_micros: [n] filled once with the floor.
        soft_floor_micros: [n] filled once.
        exposure_draw: [n].
        slot_count: [n] filled once with K.
        rule: [n] filled once.
        revenue_micros: [K].
        opportunity: [n * K].
        slot: [n * K].
        agent: [n * K].
        price_micros: [n * K].
        min_to_win_micros: [n].
        min_to_enter_micros: [n].
    """

    keys: U64
    value: F32
    floor_micros: F32
    soft_floor_micros: F32
    exposure_draw: F32
    slot_count: U8
    rule: U8
    revenue_micros: I64
    opportunity: I32
    slot: U8
    agent: I32
    price_micros: I64
    min_to_win_micros: F32
    min_to_enter_micros: F32


@kernel
def _bounded(ratio: float) -> float:
    return min(max(ratio, 0.0), RATIO_MAX)


@kernel
def _bounded_log(ratio: float) -> float:
    if ratio <= 0.0:
        return -RATIO_MAX
    return min(max(np.log(ratio), -RATIO_MAX), RATIO_MAX)


@kernel
def score_of(conversions: float, spend_micros: float, target_micros: float) -> float:
    """Returns conversions * min(1, (target / cost per conversion)^2): AuctionNet's score."""
    if conversions <= 0.0:
        return 0.0
    ratio = target_micros * conversions / max(spend_micros, 1.0)
    return conversions * min(1.0, ratio * ratio)


@kernel
def start_episode(market: Market, c: Campaigns, e: int) -> None:
    """Draws the campaign and the traffic of the episode ``c.period[e]`` and empties its books."""
    seed, period = c.seed[e], c.period[e]
    ticks = c.counts.shape[1]
    windows = market.traffic_weights.shape[0]
    shares = np.empty(windows)
    low, high = market.traffic_jitter
    traffic_shares(seed, period, market.traffic_weights, low, high, shares)
    per_window = ticks // windows
    for t in range(ticks):
        share = shares[t // per_window] / per_window
        c.counts[e, t] = np.int64(np.floor(share * market.opportunity_count))
    value_shapes(
        seed,
        period,
        market.value_mean,
        market.category_factor,
        market.advertiser_factor,
        market.factor_ticks,
        market.spread,
        market.per_category,
        c.mean[e],
        c.deviation[e],
    )
    own = at_opportunity(stream(seed, _CAMPAIGN), np.uint64(period), np.uint64(0))
    chosen = np.int64(np.floor(uniform(own, 0) * market.limits_micros.shape[0]))
    low, high = market.budget_factor
    factor = low + (high - low) * uniform(own, 1)
    c.unit_micros[e] = market.agent_unit_micros
    c.budget_micros[e] = market.agent_budget_micros
    c.unit_micros[e, 0] = market.limits_micros[chosen]
    c.budget_micros[e, 0] = max(np.int64(market.budgets_micros[chosen] * factor), np.int64(1))
    c.tick[e] = 0
    c.first[e] = 0
    c.is_over[e] = 0
    c.spend_micros[e] = 0
    c.status[e] = _LIVE
    c.wins[e] = 0
    c.exposures[e] = 0
    c.value_sum[e] = 0.0
    c.expected_conversions[e] = 0.0
    c.conversions[e] = 0
    c.return_micros[e] = 0
    c.weight[e] = np.float32(0.0)
    c.score[e] = 0.0
    c.last[e] = 0.0
    start_laws(c.memory[e])
    level_key = at_opportunity(stream(seed, _PRICE_LEVEL), np.uint64(period), np.uint64(0))
    c.log_level[e] = market.level_spread * normal(level_key, 0)


@kernel
def place_bid(
    bid: int, level: float, spread: float, step: float, rivals: np.uint64, ladder: I64
) -> tuple[int, int]:
    """Ranks ``bid`` among K competing ones in ladder[K + 1]; returns its place, and their lowest.

    The highest competing bid is level * exp(spread * z), each lower one up to ``step`` below the
    next higher; a bid that equals a competing one ranks below it. ``rivals`` is the opportunity's
    key.
    """
    slots = ladder.shape[0] - 1
    rival = level * np.exp(spread * np.float64(near_normal(rivals)))
    amount = np.int64(0)
    rank = 0
    for k in range(slots):
        if k > 0:
            rival *= 1.0 - step * uniform(rivals, k)
        amount = np.int64(min(rival, _BID_MAX))
        if amount >= bid:
            ladder[k] = amount
            rank = k + 1
        else:
            ladder[k + 1] = amount
    ladder[rank] = bid
    return rank, amount


@kernel
def pay(c: Campaigns, e: int, due: int, p: float, coin: float, min_remaining_micros: int) -> None:
    """Books an exposure of the campaign that costs ``due`` and converts if ``coin`` is below p."""
    c.exposures[e, 0] += 1
    c.spend_micros[e, 0] += due
    c.value_sum[e, 0] += p
    c.expected_conversions[e, 0] += p
    if coin < p:
        c.conversions[e, 0] += 1
        c.return_micros[e, 0] += np.int64(c.unit_micros[e, 0])
    if c.budget_micros[e, 0] - c.spend_micros[e, 0] < min_remaining_micros:
        c.status[e, 0] = _OUT


@kernel
def sell_to_prices(market: Market, c: Campaigns, s: Scratch, e: int, count: int) -> None:
    """One tick of the campaign against K competing bids per opportunity that nothing moves.

    The campaign takes the slot that its bid ranks at and pays what the auction's rule says of the
    ladder with its bid in it. A price that its budget does not cover ends its period, as in
    ``simulator.period``.
    """
    seed, period, first, tick = c.seed[e], c.period[e], c.first[e], c.tick[e]
    weights = market.slot_weights_micros
    slots = weights.shape[0]
    floor, soft = market.floor_micros, market.soft_floor_micros
    value = s.value[:count].reshape(1, count)
    fill_values(seed, period, first, c.mean[e, tick], c.deviation[e, tick], s.keys[:count], value)
    exposure_draws(seed, period, first, s.exposure_draw[:count])
    rival_key = stream(seed, _COMPETITOR_VALUE)
    conversion_key = stream(seed, _CONVERSION)
    level = market.price_level_micros * np.exp(c.log_level[e])
    ladder = np.empty(slots + 1, np.int64)
    prices = np.empty(slots, np.int64)
    value_total, price_total = 0.0, 0.0
    for j in range(count):
        number = np.uint64(first + j)
        bid = np.int64(min(np.float64(c.weight[e, 0] * value[0, j]), _BID_MAX))
        rivals = at_opportunity(rival_key, np.uint64(period), number)
        rank, lowest = place_bid(bid, level, market.price_spread, market.price_step, rivals, ladder)
        p = np.float64(value[0, j])
        value_total += p
        price_total += np.float64(max(lowest, floor))
        if c.status[e, 0] != _LIVE or rank == slots or bid < floor:
            continue
        price_slots(market.rule, ladder, floor, soft, weights, slots, rank + 1, prices)
        is_shown = s.exposure_draw[j] < np.float32(weights[rank]) / np.float32(1e6)
        if is_shown and c.budget_micros[e, 0] - c.spend_micros[e, 0] < prices[rank]:
            c.status[e, 0] = _OUT
            continue
        c.wins[e, 0] += 1
        if is_shown:
            coin = uniform(at_opportunity(conversion_key, np.uint64(period), number), 0)
            pay(c, e, prices[rank], p, coin, market.min_remaining_micros)
    c.last[e, _VALUE] = value_total / max(count, 1)
    c.last[e, _PRICE] = price_total / max(count, 1)
    rho = market.level_memory
    level_key = at_opportunity(stream(seed, _PRICE_LEVEL), np.uint64(period), np.uint64(tick + 1))
    noise = market.level_spread * normal(level_key, 0)
    c.log_level[e] = rho * c.log_level[e] + np.sqrt(1.0 - rho * rho) * noise


@kernel
def sell_to_agents(market: Market, c: Campaigns, s: Scratch, e: int, count: int) -> None:
    """One tick of the campaign among A - 1 agents that follow control laws: the period engine."""
    seed, period, first, tick = c.seed[e], c.period[e], c.first[e], c.tick[e]
    agents = c.weight.shape[1]
    set_weights(
        tick,
        market.law,
        market.gain,
        c.unit_micros[e],
        market.ones,
        market.zeros,
        market.prior,
        market.enter_tick,
        market.leave_tick,
        c.budget_micros[e],
        c.spend_micros[e],
        c.value_sum[e],
        c.value_sum[e],
        c.conversions[e],
        c.return_micros[e],
        c.memory[e],
        c.weight[e],
    )
    value = s.value[: agents * count].reshape(agents, count)
    keys = s.keys[:count]
    fill_values(seed, period, first, c.mean[e, tick], c.deviation[e, tick], keys, value)
    exposure_draws(seed, period, first, s.exposure_draw[:count])
    written = clear_tick(
        c.weight[e],
        value,
        s.floor_micros[:count],
        s.soft_floor_micros[:count],
        s.exposure_draw[:count],
        s.slot_count[:count],
        s.rule[:count],
        # There are no deals: slices of nothing, which cost nothing to make.
        s.rule[:0],
        Deals(s.price_micros[:0], s.rule[:0], s.rule[:0], c.status[:0]),
        DealAccounts(c.wins[:0], c.spend_micros[:0]),
        DealScratch(s.exposure_draw[:0], s.exposure_draw[:0], s.rule[:0], s.price_micros[:0]),
        market.slot_weights_micros,
        market.min_remaining_micros,
        c.budget_micros[e],
        c.spend_micros[e],
        c.status[e],
        c.wins[e],
        c.exposures[e],
        c.value_sum[e],
        s.revenue_micros,
        BLOCK,
        agents > 64,
        s.opportunity,
        s.slot,
        s.agent,
        s.price_micros,
        s.min_to_win_micros[:count],
        s.min_to_enter_micros[:count],
    )
    settle_conversions(
        seed,
        period,
        first,
        value,
        s.opportunity[:written],
        s.agent[:written],
        c.unit_micros[e].astype(np.int64),
        c.expected_conversions[e],
        c.conversions[e],
        c.return_micros[e],
    )
    value_total, price_total = 0.0, 0.0
    for j in range(count):
        value_total += np.float64(value[0, j])
        # What was to be beaten: the last slot's bid, or, where the campaign has a slot, the next.
        lowest = s.min_to_enter_micros[j]
        if c.status[e, 0] == _LIVE and c.weight[e, 0] * value[0, j] >= lowest:
            lowest = s.min_to_win_micros[j]
        price_total += np.float64(lowest)
    c.last[e, _VALUE] = value_total / max(count, 1)
    c.last[e, _PRICE] = price_total / max(count, 1)


@kernel
def observe(market: Market, c: Campaigns, e: int, out: F32) -> None:
    """Fills out[F] with the fields of OBSERVATION."""
    ticks = c.counts.shape[1]
    tick = c.tick[e]
    budget, spend = np.float64(c.budget_micros[e, 0]), np.float64(c.spend_micros[e, 0])
    target = c.unit_micros[e, 0]
    wanted = budget / target
    forecast = c.value_sum[e, 0]
    believed = believed_value(
        forecast, np.float64(c.conversions[e, 0]), forecast, PRIOR_CONVERSIONS
    )
    per_tick = market.opportunity_count / ticks
    seen = max(c.last[e, _OPPORTUNITIES], 1.0)
    left = 0.0
    for t in range(tick, ticks):
        left += market.traffic_profile[t]
    worth = target * c.last[e, _VALUE]
    out[0] = (ticks - tick) / ticks
    out[1] = 1.0 - spend / budget
    out[2] = _bounded_log(target / market.target_mean_micros)
    out[3] = _bounded_log(wanted)
    out[4] = _bounded(spend / (target * believed)) if believed > 0.0 else 0.0
    out[5] = c.last[e, _LOG_ALPHA]
    out[6] = c.last[e, _WINS] / seen
    out[7] = c.last[e, _EXPOSURES] / seen
    out[8] = _bounded(c.last[e, _SPEND] / (budget / ticks))
    out[9] = _bounded_log(c.last[e, _PRICE] / worth) if worth > 0.0 else 0.0
    out[10] = _bounded_log(c.last[e, _VALUE] / market.value_mean) if worth > 0.0 else 0.0
    out[11] = _bounded(c.last[e, _OPPORTUNITIES] / per_tick)
    out[12] = _bounded(market.traffic_profile[tick] * ticks) if tick < ticks else 0.0
    out[13] = left
    out[14] = _bounded(c.conversions[e, 0] / wanted)
    out[15] = _bounded(forecast / wanted)


@kernel
def reset_all(market: Market, c: Campaigns, out: F32) -> None:
    """Starts the episode ``c.period[e]`` of every environment; fills out[E, F]."""
    for e in range(c.tick.shape[0]):
        start_episode(market, c, e)
        observe(market, c, e, out[e])


@kernel
def step_all(
    market: Market, c: Campaigns, s: Scratch, log_alpha: F32, out: F32, reward: F64, is_over: U8
) -> None:
    """Steps every environment by a tick; one that was over starts its next episode instead.

    Shapes: log_alpha[E] logarithm of the bid multiplier; out[E, F], reward[E] and is_over[E] are
    written. A step that starts an episode ignores its action and has the reward 0.
    """
    for e in range(c.tick.shape[0]):
        reward[e] = 0.0
        is_over[e] = 0
        if c.is_over[e]:
            c.period[e] += 1
            start_episode(market, c, e)
            observe(market, c, e, out[e])
            continue
        count = c.counts[e, c.tick[e]]
        wins, exposures, spend = c.wins[e, 0], c.exposures[e, 0], c.spend_micros[e, 0]
        c.weight[e, 0] = np.float32(np.exp(np.float64(log_alpha[e])) * c.unit_micros[e, 0])
        if market.is_reactive:
            sell_to_agents(market, c, s, e, count)
        else:
            sell_to_prices(market, c, s, e, count)
        c.last[e, _OPPORTUNITIES] = count
        c.last[e, _WINS] = c.wins[e, 0] - wins
        c.last[e, _EXPOSURES] = c.exposures[e, 0] - exposures
        c.last[e, _SPEND] = c.spend_micros[e, 0] - spend
        c.last[e, _LOG_ALPHA] = log_alpha[e]
        found = c.expected_conversions[e, 0]
        if market.is_sampled:
            found = np.float64(c.conversions[e, 0])
        score = score_of(found, np.float64(c.spend_micros[e, 0]), c.unit_micros[e, 0])
        reward[e] = score - c.score[e]
        c.score[e] = score
        c.first[e] += count
        c.tick[e] += 1
        c.is_over[e] = c.tick[e] == c.counts.shape[1]
        is_over[e] = c.is_over[e]
        observe(market, c, e, out[e])
