"""A tick of the period engine, one opportunity at a time, from the rules as they are written down.

Rules: the head of ``simulator.period.kernels_auction`` in words; prices from
``tests.reference.auction`` (written from the papers). Control laws: the formulas at the head of
``market.kernels_control`` and, for the PID, ``tests.reference.pid``. The AuctionNet market: its
published parameters.
"""

from __future__ import annotations

import math
import struct

from tests.reference import auction, chance

RULES = {1: auction.first_price, 2: auction.gsp, 3: auction.gsp, 4: auction.vcg}
"""Second price of several slots is GSP; of one slot they are the same."""
BID_MAX = 10**12


def single(x):
    """The float32 next to x."""
    return struct.unpack("<f", struct.pack("<f", x))[0]


def on_grid(weight, value):
    """The bid: float32 product of two float32, the six lowest bits dropped.

    The product of two float32 is exact in a Python float, so it is rounded once.
    """
    (word,) = struct.unpack("<i", struct.pack("<f", single(weight) * single(value)))
    return struct.unpack("<f", struct.pack("<i", word & ~63))[0]


def sell(agents, offer, slot_weights, *, rule):
    """[(agent, price)] by slot of one opportunity; agents: {agent: bid on the grid}."""
    order = sorted((a for a in agents if agents[a] > 0), key=lambda a: (-agents[a], a))
    whole = [min(math.floor(agents[a]), BID_MAX) for a in order]
    weights = slot_weights[: offer["slots"]]
    if not weights:
        return []
    # The papers' twin breaks ties by place: here places are ranks, which finer bids have settled.
    sales = [(order[i], p) for i, p in RULES[rule](whole, offer["floor"], weights)]
    soft = offer["soft_floor"]
    if soft and rule in (2, 3):
        own = dict(zip(order, whole, strict=True))
        sales = [(a, max(p, soft) if own[a] >= soft else own[a]) for a, p in sales]
    return sales


def sell_dealt(agents, offer, slot_weights, *, rule):
    """[(agent, price, whether on the deal)] by slot, and the bids that took part, in their order.

    offer["deal"]: {"floor", "at" (0 = as the opportunity), "is_private", "seats"}; OpenRTB 2.6
    3.2.11 and 3.2.12, and a preferred deal's first look.
    """
    deal = offer["deal"]
    whole = {a: min(math.floor(bid), BID_MAX) for a, bid in agents.items()}
    on_deal = {a for a in agents if a in deal["seats"] and whole[a] >= deal["floor"]}
    opens = {
        a for a in agents if a not in on_deal and whole[a] >= offer["floor"]
        and not deal["is_private"]
    }  # fmt: skip

    def best_first(names):
        return sorted(names, key=lambda a: (-agents[a], a))

    if deal["at"] == 3:
        order = best_first(on_deal) + best_first(opens)
    else:
        order = best_first(on_deal | opens)
    weights = slot_weights[: offer["slots"]]
    sales = []
    for k, a in enumerate(order[: len(weights)]):
        floor = deal["floor"] if a in on_deal else offer["floor"]
        own = deal["at"] if a in on_deal and deal["at"] else rule
        if own == 3 and a in on_deal and deal["at"] == 3:
            sales.append((a, floor, True))
            continue
        # Whoever ranks above is gone: its price depends on the bids below only.
        below = [whole[b] for b in order[k:]]
        (_, price), *_ = RULES[own](below, floor, weights[k:])
        soft = offer["soft_floor"]
        if soft and a not in on_deal and rule in (2, 3):
            price = max(price, soft) if whole[a] >= soft else whole[a]
        sales.append((a, price, a in on_deal))
    return sales, [whole[a] for a in order]


def sell_any(bids, offer, slot_weights):
    """Sales and bids of ``sell_dealt`` where there is a deal, and the floor to enter."""
    if offer.get("deal"):
        sales, ranked = sell_dealt(bids, offer, slot_weights, rule=offer["rule"])
        is_private = offer["deal"]["is_private"]
        return sales, ranked, offer["deal"]["floor"] if is_private else offer["floor"]
    sales = sell(bids, offer, slot_weights, rule=offer["rule"])
    ranked = sorted((min(math.floor(bid), BID_MAX) for bid in bids.values()), reverse=True)
    return [(*sale, False) for sale in sales], ranked, offer["floor"]


def clear_tick(weights, offers, slot_weights, accounts, min_remaining):
    """Sells offers in order; accounts (a list of dicts) are changed.

    An account's "deals" counts exposures and spend on deals, by the deal's name.

    Returns exposures [(opportunity, slot, agent, price)], [(min_to_win, min_to_enter)], revenue.
    """
    exposures, feedback, revenue = [], [], [0] * len(slot_weights)
    for n, offer in enumerate(offers):
        while True:
            bids = {
                a: on_grid(weights[a], offer["value"][a])
                for a, account in enumerate(accounts)
                if account["live"]
            }
            bids = {a: bid for a, bid in bids.items() if bid > 0}
            dealt, ranked, floor = sell_any(bids, offer, slot_weights)
            sales, is_on_deal = [sale[:2] for sale in dealt], [sale[2] for sale in dealt]
            shown = [k for k in range(len(sales)) if offer["draw"] < single(slot_weights[k] / 1e6)]
            broke = [
                accounts[a]
                for a, price in (sales[k] for k in shown)
                if accounts[a]["budget"] - accounts[a]["spend"] < price
            ]
            if not broke:
                break
            for account in broke:
                account["live"] = False
        ladder = ranked + [0] * (len(slot_weights) + 1)
        k = offer["slots"]
        feedback.append((max(ladder[k], floor), max(ladder[max(k - 1, 0)], floor)))
        for k, (a, price) in enumerate(sales):
            accounts[a]["wins"] += 1
            if k in shown:
                account = accounts[a]
                account["exposures"] += 1
                account["spend"] += price
                account["value_sum"] += single(offer["value"][a])
                revenue[k] += price
                if is_on_deal[k]:
                    count, paid = account["deals"].get(offer["deal"]["name"], (0, 0))
                    account["deals"][offer["deal"]["name"]] = (count + 1, paid + price)
                exposures.append((n, k, a, price))
        for account in accounts:
            if account["live"] and account["budget"] - account["spend"] < min_remaining:
                account["live"] = False
    return exposures, feedback, revenue


def exposure_draw(seed, purpose, period, number):
    own = chance.at_opportunity(chance.stream(seed, purpose), period, number)
    return (chance.mix(own) >> 40) / 2**24


def near_normal(word):
    """Four 16-bit lanes, standardised, one Cornish-Fisher step for their kurtosis of -0.3."""
    total = sum(word >> (16 * lane) & 0xFFFF for lane in range(4))
    z = (total - 2 * 65535) / math.sqrt((65536**2 - 1) / 3)
    b = 0.3 / 24
    # Var(z + b (z^3 - 3 z)) with E z^4 = 2.7 and E z^6 = 10.9286.
    variance = (1 - 3 * b) ** 2 + 2 * b * (1 - 3 * b) * 2.7 + b**2 * 10.9286
    return (z + b * (z**3 - 3 * z)) / math.sqrt(variance)


def value(seed, purpose, period, number, agent, mean, deviation):
    own = chance.at_opportunity(chance.stream(seed, purpose), period, number)
    word = chance.mix((own + agent * chance.ODD) % chance.WORD)
    return min(max(mean + deviation * near_normal(word), 0.0), 1.0)


def has_converted(seed, purpose, period, number, agent, probability):
    own = chance.at_opportunity(chance.stream(seed, purpose), period, number)
    return chance.uniform(own, agent) < probability


def pacing_alphas(gain, budget, ticks, spends):
    """Alpha of each tick, given the spend within each: Balseiro and Gur 2019, algorithm 1."""
    mu, found = 1.0, []
    for tick in range(ticks):
        if tick > 0:
            mu = min(max(mu + gain * (spends[tick - 1] / (budget / ticks) - 1), 0.0), 20.0)
        found.append(1 / (1 + mu))
    return found
