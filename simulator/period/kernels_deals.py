"""Kernels of opportunities that carry a deal: who takes part, in which order, and at what price.

The rules are those of ``seam.Deals``. Terms differ between agents here, so the ranking that all
opportunities share (``kernels_auction``) does not say who wins: such an opportunity is ranked once
more, one agent after the other, by the same bids on the same grid.

Dimension names: A = agents, n = opportunities of the tick, K = slots at most, P = K + 1 ranked
places, D = deals.
"""
# As in market.kernels: an int of the compiler is an np.int64, to numpy's stubs they are strangers.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from market.auction.kernels import GSP, SECOND_PRICE, price
from market.kernel import bare_kernel

if TYPE_CHECKING:
    from simulator.period.seam import DealAccounts, Deals

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

AS_OPPORTUNITY, FIXED_PRICE = 0, 3
"""Auction types of a deal besides those of ``market.auction`` (OpenRTB ``at``)."""

_GRID = np.int32(~63)
"""Bids have no six lowest bits: see ``kernels_auction``."""
_LIVE = np.uint8(1)


class DealScratch(NamedTuple):
    """Room for one opportunity.

    Attributes:
        cell: [1] a bid on its way to the grid.
        bid: [P] bids on the grid, in the order of the ladder.
        is_deal: [P] whether they are on the deal.
        price_micros: [K] on the deal.
    """

    cell: F32
    bid: F32
    is_deal: U8
    price_micros: I64


@bare_kernel
def rank_dealt(
    n: int,
    deal: int,
    weight: F32,
    value: F32,
    status: U8,
    floor: int,
    bid_max: float,
    deals: Deals,
    scratch: DealScratch,
    ladder: I64,
    winner: I32,
) -> int:
    """Fills ladder[P] and winner[P] with the bids that take part in opportunity n, best first.

    Returns how many are in. ``deal`` is a row of ``deals``, ``floor`` the opportunity's.
    """
    bits = scratch.cell.view(np.int32)
    bid, is_deal = scratch.bid, scratch.is_deal
    places = ladder.shape[0]
    for p in range(places):
        ladder[p] = 0
        winner[p] = 0
    agreed, is_fixed = deals.floor_micros[deal], deals.auction_type[deal] == FIXED_PRICE
    is_open = deals.is_private[deal] == 0
    may_use = deals.may_use[deal]
    count, first_looks = 0, 0
    for a in range(value.shape[0]):
        if status[a] != _LIVE or weight[a] <= np.float32(0.0):
            continue
        scratch.cell[0] = weight[a] * value[a, n]
        bits[0] &= _GRID
        mine = scratch.cell[0]
        whole = np.int64(min(np.float64(mine), bid_max))
        on_deal = may_use[a] > 0 and whole >= agreed
        if not on_deal and not (is_open and whole >= floor):
            continue
        has_first_look = on_deal and is_fixed
        lo = 0 if has_first_look else first_looks
        hi = first_looks if has_first_look else count
        # Ties go to the lower agent, who was here first.
        at = lo
        while at < hi and bid[at] >= mine:
            at += 1
        if has_first_look:
            first_looks = min(first_looks + 1, places)
        if at >= places:
            continue
        for p in range(min(count, places - 1), at, -1):
            ladder[p], winner[p] = ladder[p - 1], winner[p - 1]
            bid[p], is_deal[p] = bid[p - 1], is_deal[p - 1]
        ladder[at], winner[at], bid[at], is_deal[at] = whole, a, mine, on_deal
        count = min(count + 1, places)
    return count


@bare_kernel
def price_dealt(
    rule: int,
    ladder: I64,
    floor: int,
    soft_floor: int,
    deal: int,
    deals: Deals,
    scratch: DealScratch,
    slot_weights_micros: I64,
    slots: int,
    sold: int,
    prices: I64,
) -> None:
    """Fills prices[:sold] with what an exposure of each sold slot costs, by its winner's terms.

    Shapes: ladder[P] of ``rank_dealt``, of which slots + 1 count; slot_weights_micros[K].
    """
    whole, weights = ladder[: slots + 1], slot_weights_micros[:slots]
    price(np.int64(rule), whole, floor, weights, sold, prices)
    agreed, at = deals.floor_micros[deal], np.int64(deals.auction_type[deal])
    of_deal = np.int64(rule) if at == AS_OPPORTUNITY else at
    if at == SECOND_PRICE:
        of_deal = np.int64(GSP)
    if at != FIXED_PRICE:
        price(of_deal, whole, agreed, weights, sold, scratch.price_micros)
    has_soft = soft_floor > 0 and rule in (GSP, SECOND_PRICE)
    for k in range(sold):
        if scratch.is_deal[k]:
            prices[k] = agreed if at == FIXED_PRICE else scratch.price_micros[k]
        elif has_soft:
            prices[k] = max(prices[k], soft_floor) if ladder[k] >= soft_floor else ladder[k]


@bare_kernel
def sell_dealt(
    n: int,
    deal: int,
    slots: int,
    weight: F32,
    value: F32,
    status: U8,
    rule: int,
    floor: int,
    soft_floor: int,
    bid_max: float,
    slot_weights_micros: I64,
    deals: Deals,
    scratch: DealScratch,
    ladder: I64,
    winner: I32,
    prices: I64,
) -> int:
    """Ranks the bids on opportunity n and prices its slots; returns how many are sold."""
    bidders = rank_dealt(
        n, deal, weight, value, status, floor, bid_max, deals, scratch, ladder, winner
    )
    sold = min(bidders, slots)
    if sold > 0:
        price_dealt(
            rule, ladder, floor, soft_floor, deal, deals, scratch, slot_weights_micros, slots,
            sold, prices,
        )  # fmt: skip
    return sold


@bare_kernel
def entry_floor(deal: int, deals: Deals, floor: int) -> int:
    """Returns what whoever may still enter must bid at least."""
    return deals.floor_micros[deal] if deals.is_private[deal] > 0 else floor


@bare_kernel
def book_deal(
    deal: int,
    shown: int,
    winner: I32,
    prices: I64,
    scratch: DealScratch,
    accounts: DealAccounts,
) -> None:
    """Books what the exposed slots cost that were bought on the deal."""
    for k in range(shown):
        if scratch.is_deal[k] > 0:
            accounts.exposures[deal, winner[k]] += 1
            accounts.spend_micros[deal, winner[k]] += prices[k]
