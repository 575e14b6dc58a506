"""The twin's inner loops, one opportunity at a time, in plain Python.

Written from the rules that ``simulator.kernels`` and ``simulator.scenario`` state: inverse
transform sampling for choices, log-normal first-price rivals, logistic responses, log-normal
delays, and the life of a notice. Keys of draws are those of ``market.chance.Purpose``.
"""

from __future__ import annotations

import math

from market.chance import Purpose
from market.events import EventKind
from tests.reference import chance


def draws(seed, purpose, key):
    """The keyed draws of one opportunity: a function of the actor."""
    own = chance.at_opportunity(chance.stream(seed, purpose), *key)
    return lambda actor: chance.uniform(own, actor)


def normal(seed, purpose, key, actor=0):
    return chance.normal(chance.at_opportunity(chance.stream(seed, purpose), *key), actor)


def arrival_offset(seed, number):
    return draws(seed, Purpose.ARRIVAL, (0, number))(0)


def pick(cumulated, u):
    """The first place whose cumulated probability exceeds u; the last if none does."""
    for place, probability in enumerate(cumulated):
        if probability > u:
            return place
    return len(cumulated) - 1


def arrival(seed, key, scene_cdf, pools, floors):
    """(scene, user, floor) of a request, given the cdf of its quarter of the day.

    ``pools[scene]`` is (cdf, users), ``floors[scene]`` (mean in micros, spread).
    """
    scene = pick(scene_cdf, draws(seed, Purpose.SCENE, key)(0))
    cdf, users = pools[scene]
    user = users[pick(cdf, draws(seed, Purpose.USER, key)(0))]
    mean, spread = floors[scene]
    factor = 1 + spread * (2 * draws(seed, Purpose.FLOOR, key)(0) - 1)
    cents = math.floor(mean * factor / 10_000 + 0.5)
    return scene, user, cents * 10_000


def best_rival(seed, key, floor, rivals):
    """The highest bid that reaches the floor; ``rivals`` are (presence, mean log bid, sigma)."""
    present = draws(seed, Purpose.COMPETITOR_PRESENCE, key)
    bids = [0]
    for j, (presence, mean, sigma) in enumerate(rivals):
        if present(j) < presence:
            log_bid = mean + sigma * normal(seed, Purpose.COMPETITOR_VALUE, key, j)
            bids.append(math.floor(math.exp(min(log_bid, 9)) * 1_000_000))
    return max(bid for bid in bids if bid == 0 or bid >= floor)


def logistic(odds):
    return 1 / (1 + math.exp(-odds))


def response(seed, key, view, click, conversion):
    """(viewed, clicked, converted): each step only after the one before."""
    viewed = draws(seed, Purpose.VIEW, key)(0) < view
    clicked = viewed and draws(seed, Purpose.CLICK, key)(0) < click
    converted = clicked and draws(seed, Purpose.CONVERSION, key)(0) < conversion
    return viewed, clicked, converted


def order(seed, key, median, sigma, least, most, value_sigma):
    """(milliseconds from click to conversion, value relative to the mean)."""
    delay = median * math.exp(sigma * normal(seed, Purpose.CONVERSION_DELAY, key))
    z = normal(seed, Purpose.CONVERSION_VALUE, key)
    return int(min(max(delay, least), most)), math.exp(value_sigma * z - value_sigma**2 / 2)


def between(u, bounds):
    """The whole number among least .. most on which u falls, all equally likely."""
    least, most = bounds
    return least + math.floor(u * (most - least + 1))


def notices(seed, key, delivery, slice_ms, arrival_ms, deadline_ms, outcome, delay_ms):
    """Every delivery about one bid: (due_ms, kind, copy, held); outcome 0 lost .. 3 converted.

    ``delivery`` has the fields of ``simulator.scenario.Delivery``.
    """
    way = draws(seed, Purpose.NOTICE_DELAY, key)
    repeat = draws(seed, Purpose.NOTICE_REPEAT, key)
    win = arrival_ms + between(way(EventKind.WIN), delivery.win_ms)
    impression = win + between(way(EventKind.IMPRESSION), delivery.impression_ms)
    click = impression + between(way(EventKind.CLICK), delivery.click_ms)
    lost = arrival_ms + between(way(EventKind.LOSS), delivery.loss_ms)
    billing = win + between(way(EventKind.BILLING), delivery.billing_ms)
    said = {EventKind.LOSS: lost} if outcome == 0 else {}
    if outcome >= 1:
        said |= {
            EventKind.WIN: win,
            EventKind.BILLING: billing,
            EventKind.IMPRESSION: impression,
        }
    if outcome >= 2:
        said[EventKind.CLICK] = click
    if outcome >= 3:
        said[EventKind.CONVERSION] = click + delay_ms
    found = []
    for kind, due in said.items():
        at, held = held_back(kind, due, way, delivery, slice_ms, deadline_ms)
        found.append((at, int(kind), 0, held))
        if repeat(kind) < delivery.repeated_share:
            again = at + between(repeat(kind + 16), delivery.repeat_ms)
            found.append((again, int(kind), 1, held))
    return found


def held_back(kind, due, way, delivery, slice_ms, deadline_ms):
    """(when, 0 on time | 1 overtaken | 2 after the deadline)."""
    if kind in (EventKind.CLICK, EventKind.CONVERSION):
        return due, 0
    fate, hold = way(kind + 16), way(kind + 32)
    last = deadline_ms - slice_ms
    if fate < delivery.delayed_share:
        room = max(last - (due + slice_ms), 0)
        return min(due + slice_ms + math.floor(hold * room), last), 1
    charges = kind in (EventKind.BILLING, EventKind.IMPRESSION)
    if charges and fate < delivery.delayed_share + delivery.late_share:
        return deadline_ms + 1 + between(hold, delivery.late_ms), 2
    return due, 0
