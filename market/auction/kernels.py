"""Kernels of ``market.auction``: rank the bids of a block of opportunities, then price the slots.

Dimension names: A = agents, N = opportunities, K = slots, L = opportunities of a block.

A bid and its agent ride in one integer, bid * 2^20 + (2^20 - 1 - agent): it sorts by bid, then by
the lower agent, so ranking is a branch-free compare-exchange over rows that stay in the first cache
level. Exact for bids below 2^43 micros, which also keeps weight * bid below 2^63.
"""
# As in market.kernels: an int of the compiler is an np.int64, to numpy's stubs they are strangers.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from market.kernel import bare_kernel, kernel

if TYPE_CHECKING:
    import numpy.typing as npt

FIRST_PRICE = 1
SECOND_PRICE = 2
GSP = 3
VCG = 4

AGENTS_MAX = 2**20
_AGENT_BITS = np.int64(20)
_AGENT_MASK = np.int64(AGENTS_MAX - 1)
_BLOCK = 512


@kernel
def rank(
    bids_cpm_micros: npt.NDArray[np.int64], first: int, count: int, ranked: npt.NDArray[np.int64]
) -> None:
    """Fills ranked[K + 1, :count] with the highest bids on ``count`` opportunities, best first.

    Shapes: bids_cpm_micros[A, N], opportunities first .. first + count of it; an entry holds bid
    and agent as the module says, a place that nobody took holds 0.
    """
    places = ranked.shape[0]
    ranked[:, :count] = 0
    row = np.empty(count, np.int64)
    for agent in range(bids_cpm_micros.shape[0]):
        name = _AGENT_MASK - np.int64(agent)
        for j in range(count):
            row[j] = (bids_cpm_micros[agent, first + j] << _AGENT_BITS) | name
        for place in range(places):
            for j in range(count):
                mine, other = row[j], ranked[place, j]
                ranked[place, j] = max(mine, other)
                row[j] = min(mine, other)


@bare_kernel
def price(
    rule: int,
    ladder: npt.NDArray[np.int64],
    reserve: int,
    weights_micros: npt.NDArray[np.int64],
    sold_count: int,
    out: npt.NDArray[np.int64],
) -> None:
    """Fills out[:sold_count] with the price per exposure of each sold slot, micros CPM.

    Shapes: ladder[K + 1] bids, best first, 0 where there is none; weights_micros[K]; out[K].
    With b(k) = ladder, r = reserve, w(K + 1) = 0:

    * first price: b(k); second price and GSP: max(b(k + 1), r);
    * VCG: sum over j = k .. K of (w(j) - w(j + 1)) / w(k) * max(b(j + 1), r), rounded up: without
      the winner of slot k every lower bid would move up one slot, and the exposures that this
      leaves unsold are worth r each to the seller.

    Source: Edelman, Ostrovsky and Schwarz 2007 (the rules of GSP and VCG); Varian 2007.
    """
    if rule == FIRST_PRICE:
        for k in range(sold_count):
            out[k] = ladder[k]
        return
    if rule != VCG:
        for k in range(sold_count):
            out[k] = max(ladder[k + 1], np.int64(reserve))
        return
    due = np.int64(0)
    below = np.int64(0)
    for k in range(weights_micros.shape[0] - 1, -1, -1):
        weight = weights_micros[k]
        due += (weight - below) * max(ladder[k + 1], np.int64(reserve))
        below = weight
        if k < sold_count:
            out[k] = -(-due // weight)


@kernel
def clear(
    rule: int,
    bids_cpm_micros: npt.NDArray[np.int64],
    reserve_cpm_micros: npt.NDArray[np.int64],
    weights_micros: npt.NDArray[np.int64],
) -> tuple[
    npt.NDArray[np.int32],
    npt.NDArray[np.int64],
    npt.NDArray[np.bool_],
    npt.NDArray[np.int64],
    npt.NDArray[np.int64],
]:
    """Returns the fields of ``market.auction.Outcome``, whose arguments these are, unchecked."""
    count = bids_cpm_micros.shape[1]
    slots = weights_micros.shape[0]
    winner = np.full((count, slots), -1, np.int32)
    prices = np.zeros((count, slots), np.int64)
    sold = np.zeros((count, slots), np.bool_)
    min_to_win = np.empty(count, np.int64)
    min_to_enter = np.empty(count, np.int64)
    ranked = np.empty((slots + 1, _BLOCK), np.int64)
    ladder = np.empty(slots + 1, np.int64)
    for first in range(0, count, _BLOCK):
        length = min(_BLOCK, count - first)
        rank(bids_cpm_micros, first, length, ranked)
        for j in range(length):
            n = first + j
            reserve = reserve_cpm_micros[n]
            sold_count = 0
            for k in range(slots + 1):
                ladder[k] = ranked[k, j] >> _AGENT_BITS
                # A bid of 0 is none, also where there is no reserve.
                if k < slots and ladder[k] >= max(reserve, np.int64(1)):
                    winner[n, k] = np.int32(_AGENT_MASK - (ranked[k, j] & _AGENT_MASK))
                    sold[n, k] = True
                    sold_count += 1
            price(rule, ladder, reserve, weights_micros, sold_count, prices[n])
            min_to_win[n] = max(ladder[slots], reserve)
            min_to_enter[n] = max(ladder[slots - 1], reserve)
    return winner, prices, sold, min_to_win, min_to_enter
