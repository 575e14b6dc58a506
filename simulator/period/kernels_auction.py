"""Kernels of the period engine: rank a block of opportunities, sell the slots, charge the budgets.

Dimension names: A = agents, n = opportunities of the tick, K = slots at most, L = opportunities of
a block, P = K + 1 ranked places.

The rules, which ``tests/reference/period.py`` states once more without any of what makes them fast:

* A bid is weight * value in float32, of which the six lowest bits are dropped: bids lie on a grid
  with steps of at most 2^-17 of themselves. Ties go to the lower agent. In auctions and charges a
  bid is whole micros (rounded down) and at most BID_MICROS_MAX.
* Bids at or above the hard floor take the slots in order; ``market.auction.kernels.price`` prices
  them; under second price and GSP the soft floor then applies (``seam.Supply``).
* Exposed slots are charged. If an exposed winner has less left than its price, all such winners are
  out for the rest of the period and the opportunity is auctioned anew among the others: money is
  never overspent, and a broke agent neither holds a slot nor sets a price.
* Who takes part in an opportunity that carries a deal, and at what price, is for ``kernels_deals``.
* An agent that is left with less than min_remaining_micros is out from the next opportunity on.

Why it is fast: the agent's number rides in the six dropped bits, so ranking is a branch-free
compare-exchange of floats over rows that stay in the first cache level. With more than NARROW_MAX
agents the same bids ride in float64, whose low bits hold any number of agents: same results, half
the lanes. A block without deals is sold as if nobody could run dry; where that turns out wrong, it
is sold again with a look at every price. When somebody is out in the middle of a block, the rest of
the block is ranked again without it, at most A times a period, so the block's length changes no
result.
"""
# As in market.kernels: an int of the compiler is an np.int64, to numpy's stubs they are strangers.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from market.auction.kernels import FIRST_PRICE, GSP, SECOND_PRICE, VCG, price
from market.kernel import bare_kernel, kernel
from simulator.period.kernels_deals import DealScratch, book_deal, entry_floor, sell_dealt

if TYPE_CHECKING:
    from simulator.period.seam import DealAccounts, Deals

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

NARROW_MAX = 64
AGENTS_MAX = 2**20
BID_MICROS_MAX = 10**12
"""A million units of currency per exposure; keeps weight * bid of VCG inside int64."""

_NARROW_ID = np.int32(NARROW_MAX - 1)
_NARROW_BID = np.int32(~(NARROW_MAX - 1))
_WIDE_ID = np.int64(AGENTS_MAX - 1)
_WIDE_BID = np.int64(~(2**35 - 1))
"""float64 has 29 bits of mantissa more than float32, and six of float32's are dropped."""
_BID_MAX = np.float64(BID_MICROS_MAX)
_ABSENT = np.uint8(0)
_LIVE = np.uint8(1)
_OUT = np.uint8(2)

assert (FIRST_PRICE, SECOND_PRICE, GSP, VCG) == (1, 2, 3, 4)


@kernel
def come_and_go(tick: int, enter_tick: I64, leave_tick: I64, status: U8) -> None:
    """Sets status[A] of agents that enter or leave at ``tick``; whoever is out stays out."""
    for a in range(status.shape[0]):
        if tick < enter_tick[a] or tick >= leave_tick[a]:
            status[a] = _ABSENT
        elif status[a] == _ABSENT:
            status[a] = _LIVE


@bare_kernel
def _insert(key: npt.NDArray[np.floating], top: npt.NDArray[np.floating], count: int) -> None:
    """Puts key[:count] into the ranked rows top[P, :count]; ``key`` is used up.

    Rows are taken four, then one at a time: each pass carries what falls out to the next.
    """
    places = top.shape[0]
    p = 0
    while p + 4 <= places:
        t0, t1, t2, t3 = top[p], top[p + 1], top[p + 2], top[p + 3]
        for j in range(count):
            x = key[j]
            y = t0[j]
            t0[j] = y if y > x else x
            x = x if y > x else y
            y = t1[j]
            t1[j] = y if y > x else x
            x = x if y > x else y
            y = t2[j]
            t2[j] = y if y > x else x
            x = x if y > x else y
            y = t3[j]
            t3[j] = y if y > x else x
            key[j] = x if y > x else y
        p += 4
    while p < places:
        t0 = top[p]
        for j in range(count):
            x = key[j]
            y = t0[j]
            t0[j] = y if y > x else x
            key[j] = x if y > x else y
        p += 1


@kernel
def rank_narrow(
    value: F32, weight: F32, status: U8, lo: int, count: int, key: F32, top: F32
) -> None:
    """Fills top[P, :count] with the best bids on opportunities lo .. lo + count, best first.

    Shapes: value[A, n], weight[A], status[A], key[L] scratch; A at most NARROW_MAX.
    """
    top[:, :count] = np.float32(0.0)
    bits = key.view(np.int32)
    for a in range(value.shape[0]):
        if status[a] != _LIVE or weight[a] <= np.float32(0.0):
            continue
        factor = weight[a]
        row = value[a, lo : lo + count]
        name = _NARROW_ID - np.int32(a)
        for j in range(count):
            key[j] = factor * row[j]
        for j in range(count):
            bits[j] = (bits[j] & _NARROW_BID) | name
        _insert(key, top, count)


@kernel
def rank_wide(value: F32, weight: F32, status: U8, lo: int, count: int, key: F64, top: F64) -> None:
    """As ``rank_narrow``, for up to AGENTS_MAX agents."""
    top[:, :count] = 0.0
    bits = key.view(np.int64)
    for a in range(value.shape[0]):
        if status[a] != _LIVE or weight[a] <= np.float32(0.0):
            continue
        factor = weight[a]
        row = value[a, lo : lo + count]
        name = _WIDE_ID - np.int64(a)
        for j in range(count):
            key[j] = np.float64(np.float32(factor * row[j]))
        for j in range(count):
            bits[j] = (bits[j] & _WIDE_BID) | name
        _insert(key, top, count)


@bare_kernel
def read_narrow(top: F32, count: int, ladder: I64, winner: I32) -> None:
    """Fills ladder[:count, P] and winner[:count, P] from top[P, L]: whole micros, and whose.

    What is read is gone: the agents' numbers are cleared from the bids in place.
    """
    bits = top.view(np.int32)
    for k in range(top.shape[0]):
        for j in range(count):
            winner[j, k] = _NARROW_ID - (bits[k, j] & _NARROW_ID)
            bits[k, j] &= _NARROW_BID
        for j in range(count):
            ladder[j, k] = np.int64(min(np.float64(top[k, j]), _BID_MAX))


@bare_kernel
def read_wide(top: F64, count: int, ladder: I64, winner: I32) -> None:
    """As ``read_narrow``, for ``rank_wide``."""
    bits = top.view(np.int64)
    for k in range(top.shape[0]):
        for j in range(count):
            winner[j, k] = np.int32(_WIDE_ID - (bits[k, j] & _WIDE_ID))
            bits[k, j] &= _WIDE_BID
        for j in range(count):
            ladder[j, k] = np.int64(min(top[k, j], _BID_MAX))


@bare_kernel
def price_slots(
    rule: int,
    ladder: I64,
    floor: int,
    soft_floor: int,
    slot_weights_micros: I64,
    slots: int,
    sold: int,
    prices: I64,
) -> None:
    """Fills prices[:sold] with what an exposure of each sold slot costs.

    Shapes: ladder[P] whole micros, best first, of which slots + 1 count; slot_weights_micros[K].
    """
    price(np.int64(rule), ladder[: slots + 1], floor, slot_weights_micros[:slots], sold, prices)
    if soft_floor > 0 and rule in (GSP, SECOND_PRICE):
        for k in range(sold):
            prices[k] = max(prices[k], soft_floor) if ladder[k] >= soft_floor else ladder[k]


@bare_kernel
def sell_open(
    rule: int,
    ladder: I64,
    floor: int,
    soft_floor: int,
    slot_weights_micros: I64,
    slots: int,
    prices: I64,
) -> int:
    """Prices the slots of an opportunity without a deal; returns how many are sold."""
    sold = 0
    while sold < slots and ladder[sold] >= floor:
        sold += 1
    if sold > 0:
        price_slots(rule, ladder, floor, soft_floor, slot_weights_micros, slots, sold, prices)
    return sold


@bare_kernel
def count_shown(sold: int, draw: float, shown_below: F32) -> int:
    """Returns how many of the sold slots are exposed."""
    shown = 0
    while shown < sold and draw < shown_below[shown]:
        shown += 1
    return shown


@bare_kernel
def mark_broke(
    winner: I32, prices: I64, shown: int, budget_micros: I64, spend_micros: I64, status: U8
) -> bool:
    """Sets the status of exposed winners that cannot pay to out; returns whether there are any."""
    is_any = False
    for k in range(shown):
        a = winner[k]
        if budget_micros[a] - spend_micros[a] < prices[k]:
            status[a] = _OUT
            is_any = True
    return is_any


@bare_kernel
def sell_block(
    lo: int,
    count: int,
    ladder: I64,
    winner: I32,
    prices: I64,
    shown_below: F32,
    weight: F32,
    value: F32,
    floor_micros: F32,
    soft_floor_micros: F32,
    exposure_draw: F32,
    slot_count: U8,
    rule: U8,
    deal: U8,
    deals: Deals,
    deal_accounts: DealAccounts,
    deal_scratch: DealScratch,
    slot_weights_micros: I64,
    min_remaining_micros: int,
    budget_micros: I64,
    spend_micros: I64,
    status: U8,
    wins: I64,
    exposures: I64,
    value_sum: F64,
    revenue_micros: I64,
    written: int,
    opportunity: I32,
    slot: U8,
    agent: I32,
    price_micros: I64,
    min_to_win_micros: F32,
    min_to_enter_micros: F32,
) -> tuple[int, int]:
    """Sells opportunities lo .. lo + count as ranked, until somebody is out.

    Returns how many were sold for good (the rest must be ranked again without who is out), and
    how many exposures are now written. ladder[L, P] and winner[L, P] are of ``read_narrow``,
    prices[K] is scratch, shown_below[K] the slot weights; the others are those of ``clear_tick``.
    """
    slots = slot_weights_micros.shape[0]
    has_deals = deals.floor_micros.shape[0] > 0
    for j in range(count):
        n = lo + j
        here = min(np.int64(slot_count[n]), slots)
        bids, who = ladder[j], winner[j]
        floor, soft = np.int64(floor_micros[n]), np.int64(soft_floor_micros[n])
        is_dealt = has_deals and deal[n] > 0
        if is_dealt:
            d = np.int64(deal[n]) - 1
            sold = sell_dealt(
                n, d, here, weight, value, status, rule[n], floor, soft, _BID_MAX,
                slot_weights_micros, deals, deal_scratch, bids, who, prices,
            )  # fmt: skip
            floor = entry_floor(d, deals, floor)
        else:
            sold = sell_open(rule[n], bids, floor, soft, slot_weights_micros, here, prices)
        min_to_win_micros[n] = np.float32(max(bids[here], floor))
        min_to_enter_micros[n] = np.float32(max(bids[max(here - 1, 0)], floor))
        if sold == 0:
            continue
        shown = count_shown(sold, exposure_draw[n], shown_below)
        if mark_broke(who, prices, shown, budget_micros, spend_micros, status):
            return j, written
        if is_dealt:
            book_deal(np.int64(deal[n]) - 1, shown, who, prices, deal_scratch, deal_accounts)
        for k in range(sold):
            wins[who[k]] += 1
        has_out = False
        for k in range(shown):
            a = who[k]
            exposures[a] += 1
            spend_micros[a] += prices[k]
            value_sum[a] += np.float64(value[a, n])
            revenue_micros[k] += prices[k]
            opportunity[written] = n
            slot[written] = k
            agent[written] = a
            price_micros[written] = prices[k]
            written += 1
            if budget_micros[a] - spend_micros[a] < min_remaining_micros:
                status[a] = _OUT
                has_out = True
        if has_out:
            return j + 1, written
    return count, written


@bare_kernel
def price_block(
    lo: int,
    count: int,
    ladder: I64,
    floor_micros: F32,
    soft_floor_micros: F32,
    slot_count: U8,
    rule: U8,
    slot_weights_micros: I64,
    prices: I64,
) -> None:
    """Fills prices[:count, K] with the prices of opportunities lo .. lo + count.

    Those of ``price_slots`` wherever a slot is sold, any number elsewhere: what a slot costs does
    not depend on whether those below it are sold. ladder[L, P] is of ``read_narrow``. Nearly all
    opportunities have all slots and no soft floor; these are priced here, since a call for each
    would take as long as the rest.
    """
    slots = slot_weights_micros.shape[0]
    for j in range(count):
        n = lo + j
        here = min(np.int64(slot_count[n]), slots)
        floor, soft = np.int64(floor_micros[n]), np.int64(soft_floor_micros[n])
        if here < slots or soft > 0:
            price_slots(rule[n], ladder[j], floor, soft, slot_weights_micros, here, here, prices[j])
        elif rule[n] == FIRST_PRICE:
            for k in range(slots):
                prices[j, k] = ladder[j, k]
        elif rule[n] == VCG:
            due, below = np.int64(0), np.int64(0)
            for k in range(slots - 1, -1, -1):
                weight = slot_weights_micros[k]
                due += (weight - below) * max(ladder[j, k + 1], floor)
                below = weight
                prices[j, k] = -(-due // weight)
        else:
            for k in range(slots):
                prices[j, k] = max(ladder[j, k + 1], floor)


@bare_kernel
def charge(
    start: int,
    end: int,
    opportunity: I32,
    agent: I32,
    price_micros: I64,
    value: F32,
    spend_micros: I64,
    exposures: I64,
    value_sum: F64,
) -> None:
    """Books exposures start .. end to the accounts of who is to pay them."""
    for e in range(start, end):
        a = agent[e]
        exposures[a] += 1
        spend_micros[a] += price_micros[e]
        value_sum[a] += np.float64(value[a, opportunity[e]])


@bare_kernel
def is_anybody_out(
    min_remaining_micros: int, budget_micros: I64, spend_micros: I64, status: U8
) -> bool:
    """Returns whether an agent that is live has less than min_remaining_micros."""
    has_out = False
    for a in range(status.shape[0]):
        left = budget_micros[a] - spend_micros[a]
        has_out |= status[a] == _LIVE and left < min_remaining_micros
    return has_out


@bare_kernel
def copy_accounts(
    spend_micros: I64,
    wins: I64,
    exposures: I64,
    value_sum: F64,
    revenue_micros: I64,
    to: tuple[I64, I64, I64, F64, I64],
) -> None:
    """Copies what sales change to five arrays of the same shapes."""
    to_spend, to_wins, to_exposures, to_value_sum, to_revenue = to
    for a in range(spend_micros.shape[0]):
        to_spend[a] = spend_micros[a]
        to_wins[a] = wins[a]
        to_exposures[a] = exposures[a]
        to_value_sum[a] = value_sum[a]
    for k in range(revenue_micros.shape[0]):
        to_revenue[k] = revenue_micros[k]


@bare_kernel
def sell_whole_block(
    lo: int,
    count: int,
    ladder: I64,
    winner: I32,
    prices: I64,
    shown_below: F32,
    value: F32,
    floor_micros: F32,
    soft_floor_micros: F32,
    exposure_draw: F32,
    slot_count: U8,
    rule: U8,
    slot_weights_micros: I64,
    min_remaining_micros: int,
    budget_micros: I64,
    spend_micros: I64,
    status: U8,
    wins: I64,
    exposures: I64,
    value_sum: F64,
    revenue_micros: I64,
    written: int,
    opportunity: I32,
    slot: U8,
    agent: I32,
    price_micros: I64,
    min_to_win_micros: F32,
    min_to_enter_micros: F32,
    before: tuple[I64, I64, I64, F64, I64],
) -> int:
    """Sells a block without deals as ``sell_block`` if nobody is out.

    Returns how many exposures are written, or -1 where somebody is out: nothing is sold then.

    It sells as if money were no matter and looks at the end: spend only grows, so whoever then has
    min_remaining_micros left could pay every price on the way. Where somebody has less, accounts
    are set back. prices[L, K] is scratch, and so is ``before`` (what ``copy_accounts`` fills).
    Nothing branches on a coin: slots that are not shown are written too, and overwritten by the
    next.
    """
    slots = slot_weights_micros.shape[0]
    start = written
    copy_accounts(spend_micros, wins, exposures, value_sum, revenue_micros, before)
    price_block(
        lo,
        count,
        ladder,
        floor_micros,
        soft_floor_micros,
        slot_count,
        rule,
        slot_weights_micros,
        prices,
    )
    # Parts of arrays: an index that cannot be negative is one the compiler does not look at.
    floors, draws = floor_micros[lo : lo + count], exposure_draw[lo : lo + count]
    to_win, to_enter = min_to_win_micros[lo : lo + count], min_to_enter_micros[lo : lo + count]
    slots_here = slot_count[lo : lo + count]
    for j in range(count):
        here = min(np.int64(slots_here[j]), slots)
        bids, who = ladder[j], winner[j]
        floor = np.int64(floors[j])
        to_win[j] = np.float32(max(bids[here], floor))
        to_enter[j] = np.float32(max(bids[max(here - 1, 0)], floor))
        draw = draws[j]
        sold, shown = 0, 0
        for k in range(here):
            is_sold = np.int64(bids[k] >= floor)
            sold += is_sold
            shown += is_sold & np.int64(draw < shown_below[k])
        for k in range(sold):
            wins[who[k]] += 1
        for k in range(slots):
            opportunity[written + k] = lo + j
            slot[written + k] = k
            agent[written + k] = who[k]
            price_micros[written + k] = prices[j, k]
            revenue_micros[k] += prices[j, k] if k < shown else np.int64(0)
        written += shown
    charge(
        start,
        written,
        opportunity,
        agent,
        price_micros,
        value,
        spend_micros,
        exposures,
        value_sum,
    )
    if not is_anybody_out(min_remaining_micros, budget_micros, spend_micros, status):
        return written
    accounts = (spend_micros, wins, exposures, value_sum, revenue_micros)
    copy_accounts(before[0], before[1], before[2], before[3], before[4], accounts)
    return -1


@bare_kernel
def has_deal(deal: U8, deals: Deals, lo: int, count: int) -> bool:
    """Returns whether one of opportunities lo .. lo + count carries a deal."""
    if deals.floor_micros.shape[0] == 0:
        return False
    is_any = False
    for n in range(lo, lo + count):
        is_any |= deal[n] > 0
    return is_any


@kernel
def clear_tick(
    weight: F32,
    value: F32,
    floor_micros: F32,
    soft_floor_micros: F32,
    exposure_draw: F32,
    slot_count: U8,
    rule: U8,
    deal: U8,
    deals: Deals,
    deal_accounts: DealAccounts,
    deal_scratch: DealScratch,
    slot_weights_micros: I64,
    min_remaining_micros: int,
    budget_micros: I64,
    spend_micros: I64,
    status: U8,
    wins: I64,
    exposures: I64,
    value_sum: F64,
    revenue_micros: I64,
    block: int,
    is_wide: bool,
    opportunity: I32,
    slot: U8,
    agent: I32,
    price_micros: I64,
    min_to_win_micros: F32,
    min_to_enter_micros: F32,
) -> int:
    """Sells one tick; returns how many exposures it wrote.

    Args:
        weight: [A] micros per unit of value.
        value: [A, n]; this and the next seven are ``seam.Supply``.
        floor_micros: [n].
        soft_floor_micros: [n].
        exposure_draw: [n].
        slot_count: [n].
        rule: [n].
        deal: [n]; [0] where there are no deals.
        deals: [D].
        deal_accounts: [D, A] changed in place.
        deal_scratch: [K + 1]; [0] where there are no deals.
        slot_weights_micros: [K].
        min_remaining_micros: an agent with less is out; at least 1.
        budget_micros: [A]; this and the next five are ``seam.Accounts``, changed in place.
        spend_micros: [A].
        status: [A].
        wins: [A].
        exposures: [A].
        value_sum: [A].
        revenue_micros: [K] what each slot earned, summed over opportunities; changed in place.
        block: L, opportunities that are ranked at a time; changes no result.
        is_wide: rank in float64; must be set for more than NARROW_MAX agents, changes no result.
        opportunity: [n * K] at least; this and the next three are ``seam.Exposures``, written.
        slot: as opportunity.
        agent: as opportunity.
        price_micros: as opportunity.
        min_to_win_micros: [n] written; ``seam.Feedback``.
        min_to_enter_micros: [n] written.
    """
    slots = slot_weights_micros.shape[0]
    count = value.shape[1]
    length = min(block, count)
    narrow_key = np.empty(0 if is_wide else length, np.float32)
    narrow_top = np.empty((slots + 1, 0 if is_wide else length), np.float32)
    wide_key = np.empty(length if is_wide else 0, np.float64)
    wide_top = np.empty((slots + 1, length if is_wide else 0), np.float64)
    ladder = np.empty((length, slots + 1), np.int64)
    winner = np.empty((length, slots + 1), np.int32)
    prices = np.empty(slots, np.int64)
    block_prices = np.empty((length, slots), np.int64)
    before = (
        np.empty_like(spend_micros),
        np.empty_like(wins),
        np.empty_like(exposures),
        np.empty_like(value_sum),
        np.empty_like(revenue_micros),
    )
    shown_below = slot_weights_micros.astype(np.float32) / np.float32(1e6)
    for a in range(status.shape[0]):
        if status[a] == _LIVE and budget_micros[a] - spend_micros[a] < min_remaining_micros:
            status[a] = _OUT
    written = 0
    lo = 0
    while lo < count:
        m = min(length, count - lo)
        if is_wide:
            rank_wide(value, weight, status, lo, m, wide_key, wide_top)
            read_wide(wide_top, m, ladder, winner)
        else:
            rank_narrow(value, weight, status, lo, m, narrow_key, narrow_top)
            read_narrow(narrow_top, m, ladder, winner)
        after = -1
        if not has_deal(deal, deals, lo, m):
            after = sell_whole_block(
                lo,
                m,
                ladder,
                winner,
                block_prices,
                shown_below,
                value,
                floor_micros,
                soft_floor_micros,
                exposure_draw,
                slot_count,
                rule,
                slot_weights_micros,
                min_remaining_micros,
                budget_micros,
                spend_micros,
                status,
                wins,
                exposures,
                value_sum,
                revenue_micros,
                written,
                opportunity,
                slot,
                agent,
                price_micros,
                min_to_win_micros,
                min_to_enter_micros,
                before,
            )
        if after >= 0:
            written = after
            lo += m
            continue
        done, written = sell_block(
            lo,
            m,
            ladder,
            winner,
            prices,
            shown_below,
            weight,
            value,
            floor_micros,
            soft_floor_micros,
            exposure_draw,
            slot_count,
            rule,
            deal,
            deals,
            deal_accounts,
            deal_scratch,
            slot_weights_micros,
            min_remaining_micros,
            budget_micros,
            spend_micros,
            status,
            wins,
            exposures,
            value_sum,
            revenue_micros,
            written,
            opportunity,
            slot,
            agent,
            price_micros,
            min_to_win_micros,
            min_to_enter_micros,
        )
        lo += done
    return written
