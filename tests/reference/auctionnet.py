"""A tick's auctions as AuctionNet runs them, operation for operation, in numpy.

Written from the description of its bidding environment (Su et al., NeurIPS 2024, and the notes on
its code): a dense matrix of bids, an argsort per opportunity, exposure, value noise by truncated
normals for every cell, conversions for every cell, and on overspend random wins of the offenders
dropped and the whole tick run again. It is what the engine's speed is measured against, and what
the tests show to be wrong; nothing else uses it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

SLOT_SHOWN = (1.0, 0.8, 0.6)
"""Of the slot, given that the one above is shown."""
RESERVE = 0.0001
MIN_REMAINING = 0.1
SIGMA_RATIO = 0.15


class Outcome(NamedTuple):
    """What a tick made of N opportunities and A agents; cells are [N, A]."""

    slot: np.ndarray
    cost: np.ndarray
    is_exposed: np.ndarray
    has_converted: np.ndarray
    least_winning_cost: np.ndarray
    passes: int


def auction_pass(bids, reserve=RESERVE):
    """Slots, costs and the fourth bid, by sorting every opportunity's bids.

    A winner whose price is the reserve counts as unsold: the defect that throws the last bidder
    away.
    """
    count = bids.shape[0]
    order = np.argsort(-bids, axis=1)
    ranked = np.take_along_axis(bids, order, axis=1)
    slot = np.zeros(bids.shape, np.int64)
    cost = np.zeros(bids.shape)
    rows = np.arange(count)
    for k in range(len(SLOT_SHOWN)):
        price = np.maximum(ranked[:, k + 1], reserve)
        is_sold = price > reserve
        slot[rows, order[:, k]] = np.where(is_sold, k + 1, 0)
        cost[rows, order[:, k]] = np.where(is_sold, price, 0.0)
    return slot, cost, np.maximum(ranked[:, len(SLOT_SHOWN)], reserve)


def run_tick(value, bids, remaining):
    """The outcome of a tick; value[N, A], bids[N, A], remaining[A] in units of currency.

    Generators are made anew with the same seed at every use, as there. On overspend each offender
    loses a random share of its wins, and everything is computed again.
    """
    bids = np.where(remaining >= MIN_REMAINING, bids, 0.0)
    passes = 0
    while True:
        passes += 1
        slot, cost, least = auction_pass(bids)
        is_exposed = exposures(slot)
        paid = cost * is_exposed
        has_converted = conversions(value, is_exposed)
        total = paid.sum(axis=0)
        over = np.maximum((total - remaining) / (total + 1e-4), 0.0)
        if not (over > 0).any():
            return Outcome(slot, paid, is_exposed, has_converted, least, passes)
        rng = np.random.default_rng(1)
        for agent in np.flatnonzero(over > 0):
            won = np.flatnonzero(slot[:, agent])
            some = rng.choice(won, int(np.ceil(won.size * over[agent])), replace=False)
            bids[some, agent] = 0.0


def exposures(slot):
    """Whether each sold cell is shown: the slots of an opportunity in turn."""
    rng = np.random.default_rng(1)
    is_shown = np.ones(slot.shape[0], bool)
    is_exposed = np.zeros(slot.shape, bool)
    for k, probability in enumerate(SLOT_SHOWN):
        is_shown &= rng.binomial(1, probability, slot.shape[0]) == 1
        is_exposed |= (slot == k + 1) & is_shown[:, None]
    return is_exposed


def conversions(value, is_exposed):
    """Whether each exposed cell converts: noise on the probability of every cell, then a coin.

    Each advertiser's noise is a normal cut off at bounds of its own, up to one deviation away.
    Noise and coin are made from the same uniforms: whoever converts has its noise at the upper
    bound.
    """
    upper = np.random.default_rng(2).random(value.shape[1])
    noisy = stats.truncnorm.rvs(
        upper - 1.0, upper, loc=value, scale=np.maximum(SIGMA_RATIO * value, 1e-12),
        size=value.shape, random_state=np.random.default_rng(1),
    )  # fmt: skip
    coin = np.random.default_rng(1).binomial(1, np.clip(noisy, 0.0, 1.0))
    return is_exposed & (coin == 1)
