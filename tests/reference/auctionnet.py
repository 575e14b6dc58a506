"""A tick's auctions as AuctionNet runs them, operation for operation, in numpy.

Written from its bidding environment (Su et al., NeurIPS 2024; the code at alimama-tech/AuctionNet,
``simul_bidding_env/Environment/BiddingEnv.py`` and the loop of ``run/run_test.py``): dense matrices
throughout; bids sorted twice per opportunity, for places and for prices; a coin of exposure, noise
by a truncated normal and a coin of conversion for every cell; unsold slots found by their price; on
overspend random wins of the offenders dropped and the whole tick run again. Left out is what comes
before and after the auctions: values and their noise, strategies, histories, logs. It is what the
engine's speed is measured against, and what the tests show to be wrong; nothing else uses it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

SLOT_SHOWN = np.array([1.0, 0.8, 0.6])
"""Of the slot, given that the one above is shown."""
SLOTS = SLOT_SHOWN.size
RESERVE = 0.0001
MIN_REMAINING = 0.1


class Outcome(NamedTuple):
    """What a tick made of N opportunities and A agents; cells are [N, A]."""

    slot: np.ndarray
    cost: np.ndarray
    is_exposed: np.ndarray
    has_converted: np.ndarray
    least_winning_cost: np.ndarray
    passes: int


def auction_pass(bids, reserve=RESERVE):
    """Slots (0: none), costs and the prices of the slots [N, 3], by sorting all bids twice."""
    places = np.argsort(-bids, axis=1)[:, :SLOTS]
    prices = np.maximum(-np.sort(-bids, axis=1)[:, 1 : SLOTS + 1], reserve)
    slot = np.zeros(bids.shape, np.int64)
    np.put_along_axis(slot, places, np.arange(1, SLOTS + 1)[None, :], axis=1)
    cost = prices[np.indices(slot.shape)[0], slot - 1]
    cost[slot == 0] = 0.0
    return slot, cost, prices


def drop_unsold(slot, cost, is_exposed, has_converted, reserve=RESERVE):
    """Clears cells whose price is the reserve: the defect that throws the last bidder away."""
    is_unsold = cost == reserve
    for cells in (slot, cost, is_exposed, has_converted):
        cells[is_unsold] = 0


def run_tick(value, sigma, bids, remaining):
    """The outcome of a tick; [N, A] values, deviations of their noise, and bids; remaining[A].

    Bids and money are in units of currency. Generators are made anew with the same seed at every
    use, as there. On overspend each offender loses a random share of its wins of each slot, and
    everything is computed again.
    """
    bids = np.where(remaining >= MIN_REMAINING, bids, 0.0)
    passes = 0
    while True:
        passes += 1
        slot, cost, prices = auction_pass(bids)
        is_exposed = exposures(slot)
        has_converted = conversions(value, sigma, is_exposed)
        drop_unsold(slot, cost, is_exposed, has_converted)
        paid = cost * is_exposed
        total = paid.sum(axis=0)
        over = np.maximum((total - remaining) / (total + 1e-4), 0.0)
        winner = winners(slot)
        if not (over > 0).any():
            return Outcome(slot, paid, is_exposed, has_converted, prices[:, -1], passes)
        for agent in np.flatnonzero(over > 0):
            for k in range(SLOTS):
                rng = np.random.default_rng(1)
                won = np.flatnonzero(winner[:, k] == agent)
                some = rng.choice(won, int(np.ceil(won.size * over[agent])), replace=False)
                bids[some, agent] = 0.0


def winners(slot):
    """[N, 3] who has each slot; -1: nobody."""
    winner = np.full((slot.shape[0], SLOTS), -1)
    for k in range(SLOTS):
        rows, agents = np.nonzero(slot == k + 1)
        winner[rows, k] = agents
    return winner


def exposures(slot):
    """1 where a cell's slot is shown: a coin for every cell; slot 3 only where slot 2 is."""
    chance = SLOT_SHOWN[slot - 1]
    chance[slot == 0] = 0.0
    is_exposed = np.random.default_rng(1).binomial(1, np.clip(chance, 0.0, 1.0))
    is_second_hidden = ((slot == 2) & (is_exposed == 0)).any(axis=1)
    is_exposed[is_second_hidden[:, None] & (slot == 3)] = 0
    return is_exposed


def conversions(value, sigma, is_exposed):
    """1 where an exposed cell converts: noise on the probability of every cell, then a coin.

    Each advertiser's noise is a normal cut off at bounds of its own, up to two deviations away.
    Noise and coin are made from the same uniforms: whoever converts has its noise at the upper
    bound.
    """
    lower, upper = np.random.default_rng(2).random((2, 1, value.shape[1]))
    noisy = stats.truncnorm.rvs(
        -2.0 * lower, 2.0 * upper, loc=value, scale=sigma, random_state=np.random.default_rng(1)
    )
    coin = np.random.default_rng(1).binomial(1, np.clip(noisy, 0.0, 1.0))
    return is_exposed * coin


def sigmas(value):
    """The deviation of every cell's noise: a ratio per advertiser, jittered per cell, times value.

    Source: ``PvGenerator/NeurIPSPvGen.py``; made before the auctions, as there.
    """
    rng = np.random.default_rng(3)
    of_agent = np.abs(rng.normal(0.15, 0.06, value.shape[1]))
    of_agent = np.where(of_agent > 0.3, 0.2, of_agent)
    return np.minimum(np.abs(rng.normal(of_agent, of_agent / 2, value.shape)), 0.3) * value
