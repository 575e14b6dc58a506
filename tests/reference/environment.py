"""A campaign's tick against a price process, one opportunity at a time, from its description.

Source: what ``simulator.environment.kernels_environment.sell_to_prices`` says of itself: the
highest competing bid is level * exp(spread * z), each lower one up to a share below the next
higher; the campaign loses ties; prices are those of ``tests.reference.auction``.
"""

from __future__ import annotations

import math

from tests.reference import auction, chance, period

RULES = {1: auction.first_price, 2: auction.second_price, 3: auction.gsp, 4: auction.vcg}


def rivals(key, level, spread, step, slots):
    """Competing bids in whole micros, best first."""
    bid = level * math.exp(spread * period.near_normal(key))
    bids = [bid]
    for k in range(1, slots):
        bids.append(bids[-1] * (1 - step * chance.uniform(key, k)))
    return [min(math.floor(each), 10**12) for each in bids]


def tick(seed, number, offers, weights, rule, campaign, process, purposes):
    """Sells offers to the campaign, a dict, which is changed; returns the mean price to beat.

    offers: value, draw and opportunity number of each; process: level, spread, step; number: of the
    period; purposes: of the competing bids and of conversions.
    """
    lowest = []
    for offer in offers:
        key = chance.at_opportunity(chance.stream(seed, purposes[0]), number, offer["number"])
        others = rivals(key, *process, len(weights))
        lowest.append(max(others[-1], campaign["floor"]))
        bid = math.floor(period.single(campaign["weight"] * offer["value"]))
        if not campaign["live"] or bid < campaign["floor"]:
            continue
        # The campaign stands behind the others, so that it loses ties.
        sales = RULES[rule]([*others, bid], campaign["floor"], weights)
        mine = [(slot, price) for slot, (who, price) in enumerate(sales) if who == len(others)]
        if not mine:
            continue
        ((slot, price),) = mine
        soft = campaign["soft_floor"]
        if soft and rule in (2, 3):
            price = max(price, soft) if bid >= soft else bid
        is_shown = offer["draw"] < period.single(weights[slot] / 1e6)
        left = campaign["budget"] - campaign["spend"]
        if is_shown and price > left:
            campaign["live"] = False
            continue
        campaign["wins"] += 1
        if is_shown:
            campaign["spend"] += price
            campaign["expected"] += offer["value"]
            coin = chance.at_opportunity(chance.stream(seed, purposes[1]), number, offer["number"])
            campaign["conversions"] += chance.uniform(coin, 0) < offer["value"]
            if campaign["budget"] - campaign["spend"] < campaign["min_remaining"]:
                campaign["live"] = False
    return sum(lowest) / len(lowest)
