"""Finding the best bid as machine code: bounds first, then exactly, so the answer is the argmax.

Groups of 512 expressions are visited in the order of what they could be worth now; the search ends
at the first group that cannot beat the best bid found. In a group the expressions that match are
few, and bounds per expression and per line item leave a handful to ``evaluate``, which decides.
"""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bidder.kernels_bid import currency_index, evaluate
from bidder.kernels_bound import (
    centre_logits,
    context_excess,
    item_bound,
    near_bound,
    spread,
)
from bidder.kernels_bundle import Kind, opened
from bidder.kernels_match import look_up, match_group
from bidder.work import CANDIDATES_MAX
from market.decision import REASON_RANKS, NoBidReason
from market.kernel import bare_kernel as kernel
from market.kernels import scale_up
from market.snapshot import GROUP_SIZE, GROUP_WORDS

if TYPE_CHECKING:
    import numpy.typing as npt

    from market.snapshot import SnapshotArrays


Record: TypeAlias = Any
"""One record of a structured array (``np.void``): numpy's stubs take its fields for arrays."""

_U0 = np.uint64(0)
_U1 = np.uint64(1)
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_FIRST_PRICE = 1
_MARGIN = 1e-4
"""Logs are kept as float32 in places: what is within this of the best is looked at exactly."""
_MARGIN_PER_UNIT = 1e-6
_UNBOUNDED = 1e9
"""A log above that of any money."""
_SPREAD_MIN = 0.05
"""Where a line item is this near to its expression's centre, its own embedding says no more."""
_CANDIDATES_FIRST = 4
REASON_ITEMS_MAX = 64
"""Line items that are asked why they do not bid. A request on which nobody bids is the usual one at
an exchange, and must not cost more than one that is bid on."""
_RANKS = REASON_RANKS
_FURTHEST = int(NoBidReason.BELOW_FLOOR)
"""The last check of ``evaluate``."""
_RANK_NOT_ACTIVE = int(REASON_RANKS[NoBidReason.NOT_ACTIVE])


def _places() -> npt.NDArray[np.int64]:
    places = np.zeros(64, np.int64)
    for n in range(64):
        places[((int(_DE_BRUIJN) << n) & (2**64 - 1)) >> 58] = n
    return places


_PLACES = _places()


@kernel
def trailing_zeros(low: np.uint64) -> int:
    """Returns the index of the one set bit of ``low``.

    Source: Leiserson, Prokop and Randall, "Using de Bruijn sequences to index a 1 in a computer
    word", 1998.
    """
    return _PLACES[(low * _DE_BRUIJN) >> np.uint64(58)]


@kernel
def rank_of(arrays: SnapshotArrays, offer: Record) -> int:
    """Returns what is maximised: the bid in micros of USD per thousand, rounded up."""
    currency = currency_index(arrays.currencies, offer["bid_currency"])
    return scale_up(offer["bid_cpm_micros"], arrays.rates_micros[0, currency])


@kernel
def least_rank(opportunity: Record, deals: npt.NDArray[np.void], arrays: SnapshotArrays) -> int:
    """Returns a rank that no bid on this opportunity is below: its lowest floor, at least 1.

    1 where floors depend on the duration of what is shown.
    """
    if (
        opportunity["second_cpm_micros"][0] > 0
        or opportunity["second_cpm_micros"][1] > 0
        or opportunity["duration_floor_count"][0] > 0
        or opportunity["duration_floor_count"][1] > 0
    ):
        return np.int64(1)
    least = _floor_rank(
        opportunity, arrays, opportunity["floor_cpm_micros"], opportunity["floor_currency"]
    )
    first = opportunity["deal_first"]
    for k in range(first, first + opportunity["deal_count"]):
        deal: Record = deals[k]
        if deal["second_cpm_micros"] > 0 or deal["duration_floor_count"] > 0:
            return np.int64(1)
        if deal["floor_cpm_micros"] >= 0:
            least = min(
                least,
                _floor_rank(opportunity, arrays, deal["floor_cpm_micros"], deal["floor_currency"]),
            )
    return max(least, np.int64(1))


@kernel
def has_guarantee(opportunity: Record, deals: npt.NDArray[np.void]) -> bool:
    """Returns whether a deal is guaranteed: on it a bid may be above what it is worth."""
    first = opportunity["deal_first"]
    is_found = False
    for k in range(first, first + opportunity["deal_count"]):
        is_found = is_found or deals[k]["is_guaranteed"] != 0
    return is_found


@kernel
def _floor_rank(
    opportunity: Record, arrays: SnapshotArrays, floor_cpm_micros: int, floor_currency: int
) -> int:
    """Returns the lowest rank of a price at the floor, over the currencies a bid may be in."""
    floor_index = currency_index(arrays.currencies, floor_currency)
    least = np.int64(2**62)
    for k in range(opportunity["currencies"].shape[0]):
        if opportunity["currencies"][k] == 0:
            break
        bid = currency_index(arrays.currencies, opportunity["currencies"][k])
        if bid >= 0 and floor_index >= 0:
            price = scale_up(floor_cpm_micros, arrays.rates_micros[bid, floor_index])
            least = min(least, np.int64(scale_up(price, arrays.rates_micros[0, bid])))
    return least


@kernel
def _threshold(rank: int, context: npt.NDArray[np.float64]) -> float:
    """Returns the log that a bound must exceed to allow a rank of at least ``rank``.

    A rank is less than one micro above the bid that the bound is of: it is rounded up.
    """
    if rank <= 1:
        return -np.inf
    size = abs(context[0]) + context[1] + abs(context[2]) + context[3]
    return np.log(np.float64(rank) - 1.0) - _MARGIN - _MARGIN_PER_UNIT * size


@kernel
def search(  # noqa: C901 - three loops, one inside the other
    address: int,
    kind: Kind,
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void],
    worker: int,
    seed: int,
) -> None:
    """Leaves the best offer in work.best[0]; its line_item_row stays -1 if nobody bids.

    ``look_up`` and ``take_context`` come first. The best has the highest ``rank_of``, among equals
    the lowest line_item_id.
    """
    arrays, _, _, work, _ = opened(address, kind)
    bounds, found = work.bounds, work.found
    # A line item's own shading holds at first price without a deal and without a price landscape.
    is_shaded = (
        opportunity["auction_type"] == _FIRST_PRICE
        and opportunity["deal_count"] == 0
        and arrays.landscape.shape[0] == 0
    )
    price = 0 if is_shaded else 1
    work.best[0]["line_item_row"] = -1
    work.best[0]["line_item_id"] = 0
    # The rank to beat, or to meet with a lower id (nobody's is below 0).
    best_rank = np.int64(least_rank(opportunity, deals, arrays)) - 1
    log_rank = _threshold(best_rank + 1, work.context)
    # What a bound may be above its typical value; with a guarantee no bound holds but the ceiling.
    excess = _UNBOUNDED if has_guarantee(opportunity, deals) else context_excess(work)
    # Few at first: one good bid early spares the look at most of the others.
    limit = _CANDIDATES_FIRST
    for n in range(bounds.group_ceilings.shape[0]):
        group = bounds.group_order[price, n]
        if not bounds.group_values[price, group] + excess > log_rank:
            break
        if bounds.group_ceilings[group] < best_rank:
            continue
        reason, _ = match_group(address, kind, opportunity, group)
        if reason != 0:
            continue
        count = 0
        for w in range(GROUP_WORDS):
            word = found.words[w]
            while word != _U0:
                low = word & (~word + _U1)
                word ^= low
                x = group * GROUP_SIZE + w * 64 + trailing_zeros(low)
                expression = bounds.expressions[x]
                if (
                    not np.float64(expression["value"][price]) + excess > log_rank
                    or expression["ceiling"] < best_rank
                ):
                    continue
                click, conversion = centre_logits(work, x)
                for i in range(arrays.expression_first[x], arrays.expression_first[x + 1]):
                    bound = excess
                    if excess < _UNBOUNDED:
                        bound = item_bound(bounds.items[i], price, work.context, click, conversion)
                    if not bound > log_rank:
                        continue
                    work.candidates.places[count] = i
                    work.candidates.bounds[count] = bound
                    count += 1
                    if count == limit:
                        limit = min(2 * limit, CANDIDATES_MAX)
                        best_rank = evaluate_best(
                            address, kind, opportunity, codes, deals, worker, seed, price, count,
                            best_rank,
                        )  # fmt: skip
                        log_rank = _threshold(best_rank, work.context)
                        count = 0
        if count > 0:
            best_rank = evaluate_best(
                address, kind, opportunity, codes, deals, worker, seed, price, count, best_rank,
            )  # fmt: skip
            log_rank = _threshold(best_rank, work.context)


@kernel
def evaluate_best(
    address: int,
    kind: Kind,
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void],
    worker: int,
    seed: int,
    price: int,
    count: int,
    best_rank: int,
) -> int:
    """Evaluates the first ``count`` candidates, the highest bound first, while one can win.

    Returns the rank of work.best[0], or ``best_rank`` if none of them beats it.
    """
    arrays, _, _, work, _ = opened(address, kind)
    items, candidates = work.bounds.items, work.candidates
    best = work.best[0]
    log_rank = _threshold(best_rank + (1 if best["line_item_row"] < 0 else 0), work.context)
    for n in range(count):
        item = items[candidates.places[n]]
        if candidates.bounds[n] < _UNBOUNDED and spread(item, work.context) > _SPREAD_MIN:
            candidates.bounds[n] = min(candidates.bounds[n], near_bound(item, price, work))
    while True:
        first = 0
        for n in range(1, count):
            if candidates.bounds[n] > candidates.bounds[first]:
                first = n
        if not candidates.bounds[first] > log_rank:
            return best_rank
        candidates.bounds[first] = -np.inf
        item = items[candidates.places[first]]
        if item["ceiling"] < best_rank or (
            item["ceiling"] == best_rank and item["line_item_id"] > best["line_item_id"]
        ):
            continue
        stop = evaluate(address, kind, opportunity, codes, deals, item["row"], worker, seed)
        if stop != 0:
            continue
        rank = rank_of(arrays, work.offer[0])
        if rank > best_rank or (
            rank == best_rank and work.offer[0]["line_item_id"] < best["line_item_id"]
        ):
            best_rank = np.int64(rank)
            work.best[0] = work.offer[0]
            log_rank = _threshold(best_rank, work.context)


@kernel
def find_reason(
    address: int,
    kind: Kind,
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void],
    worker: int,
    seed: int,
) -> tuple[int, int]:
    """Returns (reason, detail) of an opportunity on which nobody bids: the furthest check reached.

    Looks at the matching line items in the order of the index, at no more than REASON_ITEMS_MAX,
    until nothing further can be found.
    """
    arrays, live, _, work, _ = opened(address, kind)
    look_up(address, kind, opportunity, codes, deals, False)
    found = work.found
    furthest, detail, looked = 0, 0, 0
    for group in range(arrays.index_defaults.shape[0]):
        reason, dimension = match_group(address, kind, opportunity, group)
        if _RANKS[reason] > _RANKS[furthest] or (reason == furthest and dimension > detail):
            furthest, detail = np.int64(reason), np.int64(dimension)
        if reason != 0:
            continue
        for w in range(GROUP_WORDS):
            word = found.words[w]
            while word != _U0:
                low = word & (~word + _U1)
                word ^= low
                x = group * GROUP_SIZE + w * 64 + trailing_zeros(low)
                for i in range(arrays.expression_first[x], arrays.expression_first[x + 1]):
                    row = arrays.expression_rows[i]
                    # One that is switched off comes no further than that.
                    if _RANKS[furthest] >= _RANK_NOT_ACTIVE and not live.is_active[row]:
                        continue
                    stop = evaluate(address, kind, opportunity, codes, deals, row, worker, seed)
                    if _RANKS[stop] > _RANKS[furthest]:
                        furthest, detail = np.int64(stop), np.int64(0)
                    looked += 1
                    if furthest == _FURTHEST or looked == REASON_ITEMS_MAX:
                        return furthest, detail
    return furthest, detail
