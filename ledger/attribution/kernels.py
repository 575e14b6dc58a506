"""The heavy part of attribution: grouping touches by person, windows, weights, exact shares.

Dimensions: N = touches in the order of (person, time), G = persons, V = conversions, E = entries of
all paths, C = channels, R = rows of credit. A path is a stretch
``first[v]:first[v + 1]`` of entries, oldest first.

Touches of one moment are ordered by kind (a view before a click) and by bid id, so that nothing
depends on the order in which events came.
"""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The three rules that compare them are off
# inside; callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ledger.attribution.terms import Model
from market.kernel import kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    I64 = npt.NDArray[np.int64]
    U64 = npt.NDArray[np.uint64]
    F64 = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]

NEVER = np.iinfo(np.int64).max
"""When something happened that did not."""

_SMALL = 32
_WEIGHT_SCALE = 1 << 30
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX2 = np.uint64(0xBF58476D1CE4E5B9)
_S31 = np.uint64(31)
_S29 = np.uint64(29)

_LAST_CLICK = int(Model.LAST_CLICK)
_FIRST = int(Model.FIRST)
_LINEAR = int(Model.LINEAR)
_POSITION = int(Model.POSITION)


@kernel
def _mixed(high: np.uint64, low: np.uint64) -> np.uint64:
    word = (np.uint64(high) * _MIX) ^ np.uint64(low)
    word = (word ^ (word >> _S31)) * _MIX2
    return word ^ (word >> _S29)


@kernel
def _grown(
    slots: npt.NDArray[np.int32], seen_at: I64, high: U64, low: U64
) -> npt.NDArray[np.int32]:
    """Returns a hash table of twice the slots that holds the same numbers."""
    larger = np.full(2 * slots.shape[0], -1, np.int32)
    mask = larger.shape[0] - 1
    for slot in slots:
        if slot >= 0:
            at = seen_at[slot]
            place = np.int64(_mixed(high[at], low[at]) & np.uint64(mask))
            while larger[place] >= 0:
                place = (place + 1) & mask
            larger[place] = slot
    return larger


@kernel
def dense_codes(high: U64, low: U64) -> tuple[I64, I64]:
    """Numbers distinct pairs from 0 on, in the order in which they are first seen; below 2^31.

    A hash table with open addressing that grows with what is distinct, and so stays in the cache
    where many touches are of few persons.

    Returns:
        [N] the number of each pair, and the index at which each number was first seen.
    """
    count = high.shape[0]
    slots = np.full(1 << 12, -1, np.int32)
    mask = slots.shape[0] - 1
    codes = np.empty(count, np.int64)
    seen_at = np.empty(count, np.int64)
    found = 0
    for i in range(count):
        place = np.int64(_mixed(high[i], low[i]) & np.uint64(mask))
        while slots[place] >= 0:
            at = seen_at[slots[place]]
            if high[at] == high[i] and low[at] == low[i]:
                break
            place = (place + 1) & mask
        if slots[place] < 0:
            slots[place] = found
            seen_at[found] = i
            found += 1
        codes[i] = slots[place]
        if 2 * found > slots.shape[0]:
            slots = _grown(slots, seen_at, high, low)
            mask = slots.shape[0] - 1
    return codes, seen_at[:found].copy()


@kernel
def components(one: I64, other: I64, node_count: int) -> I64:
    """Returns [node_count] the least node that each node is linked with, over any number of links.

    Union-find with path halving (Tarjan, van Leeuwen 1984); a root is the least of its set.
    """
    parent = np.arange(node_count)
    for i in range(one.shape[0]):
        a = one[i]
        b = other[i]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a < b:
            parent[b] = a
        else:
            parent[a] = b
    for i in range(node_count):
        parent[i] = parent[parent[i]]  # the parent is smaller, so it already has its root
    return parent


@kernel
def _is_before(a: int, b: int, at_ms: I64, is_click: Flags, high: U64, low: U64) -> bool:
    if at_ms[a] != at_ms[b]:
        return at_ms[a] < at_ms[b]
    if is_click[a] != is_click[b]:
        return is_click[b]
    if high[a] != high[b]:
        return high[a] < high[b]
    return low[a] < low[b]


@kernel
def _sort(order: I64, at_ms: I64, is_click: Flags, high: U64, low: U64) -> None:
    """Sorts the touches of one person in place: by insertion, or many by stable sorts."""
    if order.shape[0] > _SMALL:
        order[:] = order[np.argsort(low[order], kind="mergesort")]
        order[:] = order[np.argsort(high[order], kind="mergesort")]
        order[:] = order[np.argsort(is_click[order].astype(np.int64), kind="mergesort")]
        order[:] = order[np.argsort(at_ms[order], kind="mergesort")]
        return
    for i in range(1, order.shape[0]):
        moved = order[i]
        j = i
        while j > 0 and _is_before(moved, order[j - 1], at_ms, is_click, high, low):
            order[j] = order[j - 1]
            j -= 1
        order[j] = moved


@kernel
def grouped_order(
    group: I64, group_count: int, at_ms: I64, is_click: Flags, high: U64, low: U64
) -> tuple[I64, I64]:
    """Sorts touches by group and, inside, by (time, view before click, bid id).

    Counting sort by group, which keeps the order of arrival; only a group in which that is not the
    order of time is sorted.

    Returns:
        order[N], indices in the new order, and start[G + 1], where each group begins in it.
    """
    count = group.shape[0]
    start = np.zeros(group_count + 1, np.int64)
    for i in range(count):
        start[group[i] + 1] += 1
    for g in range(group_count):
        start[g + 1] += start[g]
    place = start[:-1].copy()
    order = np.empty(count, np.int64)
    for i in range(count):
        order[place[group[i]]] = i
        place[group[i]] += 1
    for g in range(group_count):
        for i in range(start[g] + 1, start[g + 1]):
            if _is_before(order[i], order[i - 1], at_ms, is_click, high, low):
                _sort(order[start[g] : start[g + 1]], at_ms, is_click, high, low)
                break
    return order, start


@kernel
def _is_touch(
    at_ms: int, is_click: bool, clicked_ms: int, conversion_ms: int, click_ms: int, view_ms: int
) -> bool:
    age = conversion_ms - at_ms
    if is_click:
        return age < click_ms
    # A bid is one touch: its click speaks for it where the click counts.
    if clicked_ms <= conversion_ms and conversion_ms - clicked_ms < click_ms:
        return False
    return age < view_ms


@kernel
def paths(
    start: I64, at_ms: I64, is_click: Flags, clicked_ms: I64,
    group: I64, conversion_ms: I64, click_ms: I64, view_ms: I64, touches_max: int,
) -> tuple[I64, I64]:  # fmt: skip
    """Finds the touches of each conversion: those of its person inside the windows.

    A touch counts if it is not after the conversion and younger than the window of its kind; a view
    does not count where the same bid's click does. Of more than ``touches_max`` the latest count.

    Args:
        start: [G + 1], see ``grouped_order``; at_ms, is_click, clicked_ms: [N] in that order,
            ``clicked_ms`` of a view when its bid was clicked, else ``NEVER``.
        at_ms: when it was seen or clicked.
        is_click: whether it is a click.
        clicked_ms: see above.
        group: [V] the person, -1 for one without touches.
        conversion_ms: [V] when it happened.
        click_ms: [V] window of clicks.
        view_ms: [V] window of views.
        touches_max: entries of a path at most.

    Returns:
        first[V + 1] and touch[E], the touches of each path, oldest first.
    """
    count = group.shape[0]
    last = np.empty(count, np.int64)
    first = np.zeros(count + 1, np.int64)
    for v in range(count):
        length = 0
        last[v] = -1
        if group[v] >= 0:
            begin, end = start[group[v]], start[group[v] + 1]
            low, high = begin, end
            while low < high:
                middle = (low + high) // 2
                if at_ms[middle] <= conversion_ms[v]:
                    low = middle + 1
                else:
                    high = middle
            last[v] = low - 1
            oldest = conversion_ms[v] - max(click_ms[v], view_ms[v])
            i = low - 1
            while i >= begin and at_ms[i] > oldest and length < touches_max:
                if _is_touch(
                    at_ms[i], is_click[i], clicked_ms[i], conversion_ms[v], click_ms[v], view_ms[v]
                ):
                    length += 1
                i -= 1
        first[v + 1] = first[v] + length
    touch = np.empty(first[count], np.int64)
    for v in range(count):
        place = first[v + 1]
        i = last[v]
        while place > first[v]:
            if _is_touch(
                at_ms[i], is_click[i], clicked_ms[i], conversion_ms[v], click_ms[v], view_ms[v]
            ):
                place -= 1
                touch[place] = i
            i -= 1
    return first, touch


@kernel
def idle_paths(start: I64, is_click: Flags, clicked_ms: I64, touch: I64) -> tuple[I64, I64]:
    """Finds what led nowhere: of each person, the touches that are in no conversion's path.

    A view whose bid was clicked is left out: its click is the touch.

    Returns:
        first[P + 1] and touch of the P persons who have such touches.
    """
    count = is_click.shape[0]
    is_idle = np.ones(count, np.bool_)
    for i in touch:
        is_idle[i] = False
    idle = np.empty(count, np.int64)
    first = np.zeros(start.shape[0], np.int64)
    filled = 0
    path_count = 0
    for g in range(start.shape[0] - 1):
        for i in range(start[g], start[g + 1]):
            if is_idle[i] and (is_click[i] or clicked_ms[i] == NEVER):
                idle[filled] = i
                filled += 1
        if filled > first[path_count]:
            path_count += 1
            first[path_count] = filled
    return first[: path_count + 1].copy(), idle[:filled].copy()


@kernel
def _last_click(begin: int, end: int, touch: I64, is_click: Flags) -> int:
    for e in range(end - 1, begin - 1, -1):
        if is_click[touch[e]]:
            return e
    return end - 1


@kernel
def rule_weights(
    model: int, first: I64, touch: I64, at_ms: I64, is_click: Flags,
    position_first: float, position_last: float, half_life_ms: int,
) -> F64:  # fmt: skip
    """Returns [E] the weight of each entry under a model that looks at its own path only.

    LAST_CLICK: 1 for the last click, or the last view where there is no click. FIRST: 1 for the
    first. LINEAR: 1 each. POSITION: the first, the last, and what is left over those between; two
    share as first to last. DECAY: 2^(-age / half-life), where the age is counted from the latest
    touch: that scales all weights of a path alike and keeps them from vanishing.
    """
    weight = np.zeros(touch.shape[0], np.float64)
    for v in range(first.shape[0] - 1):
        begin, end = first[v], first[v + 1]
        if begin == end:
            continue
        if model == _LAST_CLICK:
            weight[_last_click(begin, end, touch, is_click)] = 1.0
        elif model == _FIRST:
            weight[begin] = 1.0
        elif model == _LINEAR:
            weight[begin:end] = 1.0
        elif model == _POSITION:
            if end - begin > 2:
                middle = (1.0 - position_first - position_last) / (end - begin - 2)
                weight[begin + 1 : end - 1] = middle
            weight[begin] += position_first
            weight[end - 1] += position_last
        else:
            for e in range(begin, end):
                age = at_ms[touch[end - 1]] - at_ms[touch[e]]
                weight[e] = 2.0 ** (-age / half_life_ms)
    return weight


@kernel
def first_visits(first: I64, channel: I64, channel_count: int) -> Flags:
    """Returns [E] whether an entry is the first of its channel in its path."""
    seen_in = np.full(channel_count, -1, np.int64)
    is_first = np.zeros(channel.shape[0], np.bool_)
    for v in range(first.shape[0] - 1):
        for e in range(first[v], first[v + 1]):
            if seen_in[channel[e]] != v:
                seen_in[channel[e]] = v
                is_first[e] = True
    return is_first


@kernel
def _share(amount: int, parts: I64, count: int, total: int, shares: I64, left: I64) -> None:
    """Shares |amount| by whole parts into ``shares[:count]``, by the largest remainder, exactly."""
    sign = -1 if amount < 0 else 1
    whole, rest = abs(amount) // total, abs(amount) % total
    missing = rest
    for k in range(count):
        product = rest * parts[k]  # below 2^31 times 2^31
        shares[k] = whole * parts[k] + product // total
        left[k] = product % total
        missing -= product // total
    while missing > 0:
        best = 0
        for k in range(1, count):
            if left[k] > left[best]:
                best = k
        shares[best] += 1
        left[best] = -1
        missing -= 1
    for k in range(count):
        shares[k] *= sign


@kernel
def credit_rows(
    first: I64, channel: I64, weight: F64, credit_micros: int, value_micros: I64, channel_count: int
) -> tuple[I64, I64, I64, I64]:
    """Shares each conversion and its value over the channels of its path, to the last micro.

    Weights of a channel are added up and become whole parts of 2^30; amounts are shared by the
    largest remainder, ties to the channel that was seen first. A path whose weights are all 0 is
    shared equally by its entries. A conversion without a path goes to channel -1 as a whole.

    Args:
        first: [V + 1]; channel, weight: [E], weights at least 0.
        channel: see above.
        weight: see above.
        credit_micros: what one conversion is worth in credit.
        value_micros: [V], of any sign, its size below 2^62 / 10^3.
        channel_count: C.

    Returns:
        conversion[R], channel[R], credit_micros[R], value_micros[R]; rows of a conversion together,
        none of them all zero but of a conversion that has a single row.
    """
    rows = channel.shape[0] + value_micros.shape[0]
    of, to = np.empty(rows, np.int64), np.empty(rows, np.int64)
    credit, value = np.empty(rows, np.int64), np.empty(rows, np.int64)
    longest = 1
    for v in range(value_micros.shape[0]):
        longest = max(longest, first[v + 1] - first[v])
    place = np.full(channel_count, -1, np.int64)
    named, parts = np.empty(longest, np.int64), np.empty(longest, np.int64)
    summed, left = np.empty(longest, np.float64), np.empty(longest, np.int64)
    credit_share, value_share = np.empty(longest, np.int64), np.empty(longest, np.int64)
    filled = 0
    for v in range(value_micros.shape[0]):
        begin, end = first[v], first[v + 1]
        if begin == end:
            of[filled], to[filled] = v, -1
            credit[filled], value[filled] = credit_micros, value_micros[v]
            filled += 1
            continue
        total = 0.0
        for e in range(begin, end):
            total += weight[e]
        count = 0
        for e in range(begin, end):
            if place[channel[e]] < 0:
                place[channel[e]] = count
                named[count] = channel[e]
                summed[count] = 0.0
                count += 1
            summed[place[channel[e]]] += weight[e] / total if total > 0 else 1.0 / (end - begin)
        whole = 0
        for k in range(count):
            parts[k] = np.int64(summed[k] * _WEIGHT_SCALE + 0.5)
            whole += parts[k]
            place[named[k]] = -1
        _share(credit_micros, parts, count, whole, credit_share, left)
        _share(value_micros[v], parts, count, whole, value_share, left)
        for k in range(count):
            if credit_share[k] != 0 or value_share[k] != 0:
                of[filled], to[filled] = v, named[k]
                credit[filled], value[filled] = credit_share[k], value_share[k]
                filled += 1
    return of[:filled].copy(), to[:filled].copy(), credit[:filled].copy(), value[:filled].copy()
