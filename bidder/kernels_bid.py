"""The bid of one line item as machine code: value, price, money."""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bidder.kernels_bundle import Kind, opened
from bidder.kernels_cap import cap_obstacle
from bidder.kernels_creative import choose_creative, creatives_obstacle, show
from bidder.kernels_terms import condition_obstacle, find_deal, floor_of
from market.decision import NoBidReason
from market.events import BUDGETS_PER_LINE_ITEM
from market.kernel import bare_kernel as kernel
from market.kernels import amount_micros, scale_down, scale_up
from market.money import PRICE_CPM_MICROS_MAX
from market.snapshot import LANDSCAPE_POINTS

if TYPE_CHECKING:
    import numpy.typing as npt

    from market.snapshot import SnapshotArrays


Record: TypeAlias = Any
"""One record of a structured array (``np.void``): numpy's stubs take its fields for arrays."""

_U0 = np.uint64(0)
_FIRST_PRICE, _FIXED_PRICE = 1, 3
_PRICE_MAX = np.int64(PRICE_CPM_MICROS_MAX)

R_DEAL = int(NoBidReason.DEAL_REQUIRED)
R_FLIGHT = int(NoBidReason.OUTSIDE_FLIGHT)
R_NOT_ACTIVE = int(NoBidReason.NOT_ACTIVE)
R_CURRENCY = int(NoBidReason.CURRENCY_NOT_CONVERTIBLE)
R_SIZE = int(NoBidReason.SIZE_NOT_OFFERED)
R_BUDGET = int(NoBidReason.BUDGET_EXHAUSTED)
R_FLOOR = int(NoBidReason.BELOW_FLOOR)


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
def landscape_row(landscape: npt.NDArray[np.void], exchange: int, shown_format: int) -> int:
    """Returns the row of the price landscape for this exchange and format, -1 for none.

    That of the format itself, else that of all the exchange's formats.
    """
    general = np.int64(-1)
    for i in range(landscape.shape[0]):
        if landscape[i]["exchange"] == exchange:
            if landscape[i]["format"] == shown_format:
                return np.int64(i)
            if landscape[i]["format"] == 0:
                general = np.int64(i)
    return general


@kernel
def shaded_price(
    points: Record, value: int, price_max: int, floor: int, usd_rate_micros: int
) -> int:
    """Returns the price in [floor, price_max] with the highest expected surplus.

    Surplus is (value - price) P(win | price), with P the step function of ``points`` (one record
    of LANDSCAPE_DTYPE, in USD): it is highest at a point or at the floor. Of equals the lowest
    price. Where no price up to ``price_max`` has a surplus, ``price_max``: whoever never bids there
    never learns whether it wins. Money in micros CPM of the bid's currency; ``usd_rate_micros`` is
    units of it per USD. Source: Krishna, "Auction Theory" (2010), section 2.3, against a known
    distribution of the highest other bid.
    """
    best = np.int64(price_max)
    best_surplus = 0.0
    for k in range(LANDSCAPE_POINTS):
        price = max(scale_up(points["price_cpm_micros"][k], usd_rate_micros), floor)
        if price > price_max:
            break
        surplus = np.float64(value - price) * points["win_probability"][k]
        if surplus > best_surplus:
            best = np.int64(price)
            best_surplus = surplus
    return best


@kernel
def price_offer(
    address: int,
    kind: Kind,
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void],
    deal_index: int,
    line_item: Record,
    creative: Record,
    bid: float,
    factor: float,
    account: int,
    currency: int,
    offer: Record,
) -> int:
    """Fills price, floor, deal and shading of offer[...]; R_CURRENCY if the floor has no rate.

    bid: of one impression before shading, account micros; factor: shades it where the exchange has
    no price landscape; account, currency: indexes of the account's and the bid's currency. The
    price may be below the floor.
    """
    arrays, _, _, _, _ = opened(address, kind)
    rate = arrays.rates_micros[account, currency]
    floor, floor_currency = floor_of(
        opportunity, codes, deals, deal_index, creative["format"], creative["duration_ms"]
    )
    floor_index = currency_index(arrays.currencies, floor_currency)
    if floor_index < 0:
        return R_CURRENCY
    floor_price = np.int64(scale_up(floor, arrays.rates_micros[currency, floor_index]))
    auction_type = np.int64(opportunity["auction_type"])
    is_guaranteed = False
    offer["deal_index"] = deal_index
    offer["deal_code"] = _U0
    if deal_index >= 0:
        deal: Record = deals[opportunity["deal_first"] + deal_index]
        offer["deal_code"] = deal["code"]
        is_guaranteed = deal["is_guaranteed"] != 0
        if deal["auction_type"] != 0:
            auction_type = np.int64(deal["auction_type"])
    points = np.int64(-1)
    if auction_type == _FIRST_PRICE and deal_index < 0:
        # A landscape is of the open auction: on a deal others bid.
        points = landscape_row(arrays.landscape, opportunity["exchange"], creative["format"])
    shading = factor if auction_type == _FIRST_PRICE and points < 0 else 1.0
    # The ceiling is taken before the cast: a float beyond int64 has no integer.
    ceiling = np.float64(line_item["bid_cpm_micros_max"])
    bid_cpm = np.int64(min(1000.0 * bid * shading, ceiling))
    # A price above the maximum would be refused when its notice states it.
    price = min(np.int64(scale_down(bid_cpm, rate)), _PRICE_MAX)
    if points >= 0 and price > 0:
        worth_cpm = np.int64(min(1000.0 * bid, np.float64(_PRICE_MAX)))
        whole = price
        price = shaded_price(
            arrays.landscape[points], min(np.int64(scale_down(worth_cpm, rate)), _PRICE_MAX),
            whole, floor_price, arrays.rates_micros[currency, 0],
        )  # fmt: skip
        shading = np.float64(price) / np.float64(whole)
    if is_guaranteed and price < floor_price:
        # The seller counts on this bid: what it is worth today does not matter, the ceiling does.
        dearest = min(np.int64(scale_down(line_item["bid_cpm_micros_max"], rate)), _PRICE_MAX)
        price = min(floor_price, dearest)
    if deal_index >= 0 and auction_type == _FIXED_PRICE and price >= floor_price:
        price = floor_price
    offer["bid_cpm_micros"] = price
    offer["floor_cpm_micros"] = floor_price
    offer["rate_micros"] = rate
    offer["shading_factor"] = shading
    return 0


@kernel
def evaluate(  # noqa: C901, PLR0911 - one check after the other
    address: int,
    kind: Kind,
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void],
    row: int,
    worker: int,
    seed: int,
) -> int:
    """Fills work.offer[0] with the bid of line item ``row``; returns the NoBidReason that stops it.

    Returns 0 (BID) when the offer stands. Takes its arrays by address (``kernels_bundle``): by
    value, each call would move a hundred and fifty words.
    """
    arrays, live, state, work, _ = opened(address, kind)
    chosen, offer = work.chosen, work.offer[0]
    line_item: Record = arrays.line_items[row]
    deal_index = find_deal(
        opportunity, codes, deals, arrays.deal_codes, arrays.domain_codes, line_item
    )
    if deal_index < 0 and (opportunity["is_private"] or line_item["is_deal_only"]):
        return R_DEAL
    if not line_item["start_at_ms"] <= opportunity["arrival_ms"] < line_item["end_at_ms"]:
        return R_FLIGHT
    if not live.is_active[row]:
        return R_NOT_ACTIVE
    reason = condition_obstacle(opportunity, arrays.areas, line_item)
    if reason != 0:
        return reason
    account = currency_index(arrays.currencies, line_item["account_currency"])
    currency = bid_currency_index(opportunity, arrays, account)
    if account < 0 or currency < 0:
        return R_CURRENCY
    reason = cap_obstacle(opportunity, arrays.caps, state.cap_slots, worker, line_item, -1)
    if reason != 0:
        # A cap is only reached by what could be shown.
        obstacle = creatives_obstacle(opportunity, arrays.creatives, line_item)
        return obstacle if obstacle != 0 else reason
    creative_row, reached = choose_creative(address, kind, opportunity, line_item, worker, seed)
    if creative_row < 0:
        return reached if reached != 0 else R_SIZE
    value, bid = bid_value(
        line_item["conversion_micros"], chosen[0], chosen[1],
        live.pacing_lambda[row], live.ratio_mu[row],
    )  # fmt: skip
    creative: Record = arrays.creatives[creative_row]
    reason = price_offer(
        address, kind, opportunity, codes, deals, deal_index, line_item, creative, bid,
        live.shading_factor[row], account, currency, offer,
    )  # fmt: skip
    if reason != 0:
        return reason
    price = offer["bid_cpm_micros"]
    reserved = amount_micros(price, opportunity["quantity_micros"], offer["rate_micros"])
    for k in range(BUDGETS_PER_LINE_ITEM):
        budget_row = line_item["budget_rows"][k]
        offer["budgets"][k] = _U0
        if budget_row >= 0:
            budget: Record = arrays.budgets[budget_row]
            offer["budgets"][k] = budget["budget_id"]
            # A daily budget is of its own day: what is left of yesterday's is not today's.
            is_of_today = budget["start_at_ms"] <= opportunity["arrival_ms"] < budget["end_at_ms"]
            if not is_of_today or state.available_micros[budget_row] < reserved:
                return R_BUDGET
    if price <= 0 or price < offer["floor_cpm_micros"]:
        return R_FLOOR
    offer["line_item_row"] = row
    offer["creative_row"] = creative_row
    offer["advertiser_id"] = line_item["advertiser_id"]
    offer["campaign_id"] = line_item["campaign_id"]
    offer["line_item_id"] = line_item["line_item_id"]
    offer["creative_id"] = creative["creative_id"]
    offer["reserved_micros"] = reserved
    offer["value_micros"] = np.int64(value)
    offer["deadline_ms"] = opportunity["arrival_ms"] + opportunity["billing_window_ms"]
    offer["bid_currency"] = arrays.currencies[currency]
    offer["account_currency"] = line_item["account_currency"]
    offer["size"] = creative["size"]
    offer["pctr"] = chosen[0]
    offer["pcvr"] = chosen[1]
    offer["format"] = creative["format"]
    show(opportunity, creative, offer)
    return 0
