"""The bid of one line item as machine code: deal, floor, currency, value, price, money."""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bidder.kernels_cap import cap_obstacle
from bidder.kernels_creative import choose_creative, creatives_obstacle
from bidder.kernels_match import find_row
from market.decision import NoBidReason
from market.events import BUDGETS_PER_LINE_ITEM
from market.kernel import bare_kernel as kernel
from market.kernels import amount_micros, scale_down, scale_up
from market.money import PRICE_CPM_MICROS_MAX
from market.snapshot import Table

if TYPE_CHECKING:
    import numpy.typing as npt

    from market.control import LiveArrays
    from market.snapshot import SnapshotArrays
    from market.state import BidState


Record: TypeAlias = Any
"""One record of a structured array (``np.void``): numpy's stubs take its fields for arrays."""

_U0 = np.uint64(0)
_U1 = np.uint64(1)
_FIXED_PRICE = 3
_NO_RATE = np.int64(2**62)
_PRICE_MAX = np.int64(PRICE_CPM_MICROS_MAX)
_TABLE_DOMAIN = int(Table.ADVERTISER_DOMAIN)

R_DEAL = int(NoBidReason.DEAL_REQUIRED)
R_FLIGHT = int(NoBidReason.OUTSIDE_FLIGHT)
R_NOT_ACTIVE = int(NoBidReason.NOT_ACTIVE)
R_CURRENCY = int(NoBidReason.CURRENCY_NOT_CONVERTIBLE)
R_SIZE = int(NoBidReason.SIZE_NOT_OFFERED)
R_BUDGET = int(NoBidReason.BUDGET_EXHAUSTED)
R_FLOOR = int(NoBidReason.BELOW_FLOOR)


@kernel
def find_deal(
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void],
    arrays: SnapshotArrays,
    line_item: Record,
    row: int,
) -> int:
    """Returns the index (in the opportunity's deals) of the best deal to bid on, -1 for none.

    A deal fits if the line item holds its id, its seat list, if any, has the line item's seat, and
    its list of advertiser domains, if any, has the line item's. Among several the one with the
    lowest floor in USD, the first of equals; a deal whose floor has no rate comes last.
    """
    best = np.int64(-1)
    best_floor = np.int64(0)
    for i in range(opportunity["deal_count"]):
        deal: Record = deals[opportunity["deal_first"] + i]
        is_held = False
        for k in range(line_item["deal_first"], line_item["deal_first"] + line_item["deal_count"]):
            is_held = is_held or arrays.deal_codes[k] == deal["code"]
        if not is_held:
            continue
        may_bid = deal["seat_count"] == 0
        for k in range(deal["seat_first"], deal["seat_first"] + deal["seat_count"]):
            may_bid = may_bid or codes[k] == line_item["seat_code"]
        may_bid = may_bid and is_domain_allowed(deal, codes, arrays, row)
        if not may_bid:
            continue
        floor, floor_currency = deal_floor(opportunity, deal)
        index = currency_index(arrays.currencies, floor_currency)
        floor_usd = scale_up(floor, arrays.rates_micros[0, index]) if index >= 0 else _NO_RATE
        if best < 0 or floor_usd < best_floor:
            best = np.int64(i)
            best_floor = np.int64(floor_usd)
    return best


@kernel
def is_domain_allowed(
    deal: Record, codes: npt.NDArray[np.uint64], arrays: SnapshotArrays, row: int
) -> bool:
    """Returns whether the advertiser of line item ``row`` may bid on it (2.6 ``wadomain``)."""
    if deal["domain_count"] == 0:
        return True
    bit = np.uint64(row & 63)
    for k in range(deal["domain_first"], deal["domain_first"] + deal["domain_count"]):
        named = find_row(arrays.row_keys, arrays.row_values, _TABLE_DOMAIN, codes[k])
        if named >= 0 and (arrays.rows[named, row >> 6] >> bit) & _U1 != _U0:
            return True
    return False


@kernel
def deal_floor(opportunity: Record, deal: Record) -> tuple[int, int]:
    """Returns (floor, its currency) of a bid on this deal: the deal's own, else the imp's."""
    if deal["floor_cpm_micros"] >= 0:
        return deal["floor_cpm_micros"], deal["floor_currency"]
    return opportunity["floor_cpm_micros"], opportunity["floor_currency"]


@kernel
def currency_index(currencies: npt.NDArray[np.uint16], number: int) -> int:
    """Returns the index of an ISO 4217 number in ``currencies``, -1 if it has no rate."""
    for i in range(currencies.shape[0]):
        if currencies[i] == number:
            return np.int64(i)
    return np.int64(-1)


@kernel
def bid_currency_index(opportunity: Record, arrays: SnapshotArrays, account: int) -> int:
    """Returns the index of the bid's currency: the account's if accepted, else the first known."""
    first = np.int64(-1)
    for k in range(opportunity["currencies"].shape[0]):
        if opportunity["currencies"][k] == 0:
            break
        i = currency_index(arrays.currencies, opportunity["currencies"][k])
        if i == account and i >= 0:
            return i
        if first < 0:
            first = i
    return first


@kernel
def bid_value(
    conversion_micros: int, pctr: float, pcvr: float, pacing_lambda: float, ratio_mu: float
) -> tuple[float, float]:
    """Returns (value, bid before shading) of one impression, micros as float.

    v = pctr * pcvr * T and b = v (1 + mu) / (lambda + mu): the optimum of maximising conversions
    under a budget (lambda) and a ratio (mu) constraint. Source: Aggarwal, Badanidiyuru and Mehta,
    "Autobidding with constraints", WINE 2019; T is what a conversion may cost or is worth.
    """
    value = pctr * pcvr * np.float64(conversion_micros)
    return value, value * (1.0 + ratio_mu) / (pacing_lambda + ratio_mu)


@kernel
def evaluate(  # noqa: C901, PLR0911, PLR0912, PLR0915 - one check after the other
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void],
    arrays: SnapshotArrays,
    live: LiveArrays,
    state: BidState,
    row: int,
    worker: int,
    seed: int,
    vector: npt.NDArray[np.float64],
    bias: npt.NDArray[np.float64],
    chosen: npt.NDArray[np.float64],
    offer: Record,
) -> int:
    """Fills offer[...] with the bid of line item ``row``; returns the NoBidReason that stops it.

    offer is one record of DECISION_DTYPE. Returns 0 (BID) when the offer stands.
    """
    line_item: Record = arrays.line_items[row]
    deal_index = find_deal(opportunity, codes, deals, arrays, line_item, row)
    if deal_index < 0 and (opportunity["is_private"] or line_item["is_deal_only"]):
        return R_DEAL
    if not line_item["start_at_ms"] <= opportunity["arrival_ms"] < line_item["end_at_ms"]:
        return R_FLIGHT
    if not live.is_active[row]:
        return R_NOT_ACTIVE
    account = currency_index(arrays.currencies, line_item["account_currency"])
    currency = bid_currency_index(opportunity, arrays, account)
    if account < 0 or currency < 0:
        return R_CURRENCY
    floor = opportunity["floor_cpm_micros"]
    floor_currency = opportunity["floor_currency"]
    auction_type = opportunity["auction_type"]
    deal_code = _U0
    if deal_index >= 0:
        deal: Record = deals[opportunity["deal_first"] + deal_index]
        deal_code = deal["code"]
        floor, floor_currency = deal_floor(opportunity, deal)
        if deal["auction_type"] != 0:
            auction_type = deal["auction_type"]
    floor_index = currency_index(arrays.currencies, floor_currency)
    if floor_index < 0:
        return R_CURRENCY
    reason = cap_obstacle(opportunity, arrays, state.cap_slots, worker, line_item, -1)
    if reason != 0:
        # A cap is only reached by what could be shown.
        obstacle = creatives_obstacle(opportunity, arrays, line_item)
        return obstacle if obstacle != 0 else reason
    creative_row, reached = choose_creative(
        opportunity, arrays, state.cap_slots, worker, line_item, vector, bias, seed, chosen
    )
    if creative_row < 0:
        return reached if reached != 0 else R_SIZE
    rate = arrays.rates_micros[account, currency]
    value, bid = bid_value(
        line_item["conversion_micros"], chosen[0], chosen[1],
        live.pacing_lambda[row], live.ratio_mu[row],
    )  # fmt: skip
    shading = live.shading_factor[row] if auction_type == 1 else 1.0
    # The ceiling is taken before the cast: a float beyond int64 has no integer.
    bid_cpm = np.int64(min(1000.0 * bid * shading, np.float64(line_item["bid_cpm_micros_max"])))
    # A price above the maximum would be refused when its notice states it.
    price = min(np.int64(scale_down(bid_cpm, rate)), _PRICE_MAX)
    floor_price = scale_up(floor, arrays.rates_micros[currency, floor_index])
    is_fixed = deal_index >= 0 and auction_type == _FIXED_PRICE
    if is_fixed and price >= floor_price:
        price = floor_price
    reserved = amount_micros(price, opportunity["quantity_micros"], rate)
    for k in range(BUDGETS_PER_LINE_ITEM):
        budget_row = line_item["budget_rows"][k]
        offer["budgets"][k] = _U0
        if budget_row >= 0:
            budget: Record = arrays.budgets[budget_row]
            offer["budgets"][k] = budget["budget_id"]
            if state.available_micros[budget_row] < reserved:
                return R_BUDGET
    if price <= 0 or price < floor_price:
        return R_FLOOR
    creative = arrays.creatives[creative_row]
    offer["line_item_row"] = row
    offer["creative_row"] = creative_row
    offer["advertiser_id"] = line_item["advertiser_id"]
    offer["campaign_id"] = line_item["campaign_id"]
    offer["line_item_id"] = line_item["line_item_id"]
    offer["creative_id"] = creative["creative_id"]
    offer["bid_cpm_micros"] = price
    offer["reserved_micros"] = reserved
    offer["floor_cpm_micros"] = floor_price
    offer["value_micros"] = np.int64(value)
    offer["rate_micros"] = rate
    offer["deadline_ms"] = opportunity["arrival_ms"] + opportunity["billing_window_ms"]
    offer["deal_code"] = deal_code
    offer["deal_index"] = deal_index
    offer["bid_currency"] = arrays.currencies[currency]
    offer["account_currency"] = line_item["account_currency"]
    offer["size"] = creative["size"]
    offer["pctr"] = chosen[0]
    offer["pcvr"] = chosen[1]
    offer["shading_factor"] = shading
    offer["format"] = creative["format"]
    return 0
