"""The slow twin of ``ledger.attribution``: windows, models and shares by plain Python.

Written from the definitions: who is one person by a walk over links, windows by comparing every
touch with every conversion, shares as exact fractions, the chain solved anew without each channel
(Anderl et al. 2016), the Shapley value by its formula over all coalitions (Shapley 1953) of the
game in which a coalition is worth the conversion rates of all channel sets inside it (Zhao,
Mahboobi, Bagheri 2018).
"""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, pairwise
from math import factorial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

CREDIT = 1_000_000


class Touch(NamedTuple):
    at_ms: int
    is_click: bool
    bid: tuple[int, int]
    advertiser: int
    person: object
    channel: int
    clicked_ms: int | None


def persons(links: Iterable[tuple[int, int]]) -> dict[int, int]:
    """The least user key that each user key is linked with, by (user key, person code)."""
    near: dict[tuple[str, int], set[tuple[str, int]]] = {}
    for user, code in links:
        near.setdefault(("user", user), set()).add(("code", code))
        near.setdefault(("code", code), set()).add(("user", user))
    found: dict[int, int] = {}
    for node in near:
        seen, pending = {node}, [node]
        while pending:
            for other in near[pending.pop()] - seen:
                seen.add(other)
                pending.append(other)
        if node[0] == "user":
            found[node[1]] = min(name for kind, name in seen if kind == "user")
    return found


def touches_of(
    bids: Iterable[Mapping[str, Any]], level: str, person: Mapping[int, int]
) -> list[Touch]:
    touches = []
    for bid in bids:
        who = _who(bid, person)
        for is_click, at_ms in ((False, bid["shown_ms"]), (True, bid["clicked_ms"])):
            if at_ms is not None:
                touches.append(
                    Touch(
                        at_ms, is_click, (bid["bid_hi"], bid["bid_lo"]), bid["advertiser_id"], who,
                        bid[level], bid["clicked_ms"],
                    )
                )  # fmt: skip
    return sorted(touches, key=lambda touch: touch[:3])


def _who(row: Mapping[str, Any], person: Mapping[int, int]) -> object:
    if row["user_key"] == 0:
        return ("bid", row["bid_hi"], row["bid_lo"])
    return person.get(row["user_key"], row["user_key"])


def path_of(
    touches: Sequence[Touch],
    conversion: Mapping[str, Any],
    person: Mapping[int, int],
    click_ms: int,
    view_ms: int,
    touches_max: int,
) -> list[Touch]:
    at = conversion["at_ms"]

    def clicks(when: int | None) -> bool:
        return when is not None and when <= at < when + click_ms

    path = [
        touch
        for touch in touches
        if touch.advertiser == conversion["advertiser_id"]
        and touch.person == _who(conversion, person)
        and touch.at_ms <= at
        and (
            clicks(touch.at_ms)
            if touch.is_click
            else at < touch.at_ms + view_ms and not clicks(touch.clicked_ms)
        )
    ]
    return path[-touches_max:]


def idle_paths(touches: Iterable[Touch], paths: Iterable[Sequence[Touch]]) -> list[list[Touch]]:
    used = {touch for path in paths for touch in path}
    idle: dict[object, list[Touch]] = {}
    for touch in touches:
        if touch not in used and (touch.is_click or touch.clicked_ms is None):
            idle.setdefault((touch.advertiser, touch.person), []).append(touch)
    return list(idle.values())


def shares(weights: Mapping[int, float | Fraction]) -> dict[int, Fraction]:
    total = sum(Fraction(weight) for weight in weights.values())
    return {
        channel: Fraction(weight) / total if total else Fraction(1, len(weights))
        for channel, weight in weights.items()
    }


def by_position(path: Sequence[int], first: float, last: float) -> dict[int, Fraction]:
    places = [Fraction(0)] * len(path)
    middle = Fraction(1) - Fraction(first) - Fraction(last)
    for i in range(1, len(path) - 1):
        places[i] = middle / (len(path) - 2)
    places[0] += Fraction(first)
    places[-1] += Fraction(last)
    return _by_channel(path, places)


def rule_shares(
    model: str, path: Sequence[Touch], at_ms: int, first: float, last: float, half_life_ms: int
) -> dict[int, Fraction]:
    """What each channel of a path that is not empty gets of one conversion."""
    channels = [touch.channel for touch in path]
    if model == "LAST_CLICK":
        clicks = [touch for touch in path if touch.is_click]
        return {(clicks or path)[-1].channel: Fraction(1)}
    if model == "FIRST":
        return {channels[0]: Fraction(1)}
    if model == "LINEAR":
        return shares(_by_channel(channels, [Fraction(1)] * len(path)))
    if model == "POSITION":
        return shares(by_position(channels, first, last))
    return shares(
        _by_channel(
            channels, [Fraction(0.5 ** ((at_ms - touch.at_ms) / half_life_ms)) for touch in path]
        )
    )


def _by_channel(path: Sequence[int], weights: Sequence[Fraction]) -> dict[int, Fraction]:
    summed: dict[int, Fraction] = {}
    for channel, weight in zip(path, weights, strict=True):
        summed[channel] = summed.get(channel, Fraction(0)) + weight
    return summed


def removal_effects(
    converted: Sequence[Sequence[int]], idle: Sequence[Sequence[int]]
) -> dict[int, float]:
    """1 - P(conversion without c) / P(conversion); each path counts once."""
    names = sorted({channel for path in [*converted, *idle] for channel in path})
    if not names:
        return {}
    state = {channel: i + 1 for i, channel in enumerate(names)}
    size = len(names) + 3
    conversion, null = size - 2, size - 1
    counts = np.zeros((size, size))
    for paths, end in ((converted, conversion), (idle, null)):
        for path in paths:
            states = [0, *(state[channel] for channel in path), end]
            if path:
                for a, b in pairwise(states):
                    counts[a, b] += 1

    def converts(removed: int | None) -> float:
        moves = counts.copy()
        if removed is not None:
            moves[:, null] += moves[:, removed]
            moves[:, removed] = 0
            moves[removed] = 0
        moves[conversion, conversion] = moves[null, null] = 1
        total = moves.sum(axis=1, keepdims=True)
        moves = np.divide(moves, total, out=np.zeros_like(moves), where=total > 0)
        alive = [i for i in range(size - 2) if total[i] > 0]
        inner = moves[np.ix_(alive, alive)]
        reached = np.linalg.solve(np.eye(len(alive)) - inner, moves[alive, conversion])
        return float(reached[0])

    whole = converts(None)
    return {c: 1 - converts(state[c]) / whole if whole else 0.0 for c in names}


def set_rates(
    converted: Iterable[Iterable[int]], idle: Iterable[Iterable[int]]
) -> dict[frozenset[int], Fraction]:
    tally: dict[frozenset[int], list[int]] = {}
    for paths, conversions in ((converted, 1), (idle, 0)):
        for path in paths:
            row = tally.setdefault(frozenset(path), [0, 0])
            row[0] += conversions
            row[1] += 1
    return {each: Fraction(*row) for each, row in tally.items() if each}


def shapley(
    players: frozenset[int], rates: Mapping[frozenset[int], Fraction]
) -> dict[int, Fraction]:
    def worth(coalition: frozenset[int]) -> Fraction:
        return sum((rate for each, rate in rates.items() if each <= coalition), Fraction(0))

    return shapley_of(players, worth)


def shapley_of(
    players: frozenset[int], worth: Callable[[frozenset[int]], Fraction]
) -> dict[int, Fraction]:
    n = len(players)
    values: dict[int, Fraction] = {}
    for player in players:
        value = Fraction(0)
        for size in range(n):
            chance = Fraction(factorial(size) * factorial(n - size - 1), factorial(n))
            for others in combinations(sorted(players - {player}), size):
                coalition = frozenset(others)
                value += chance * (worth(coalition | {player}) - worth(coalition))
        values[player] = value
    return values
