"""Shapley values of channels in the games that observed sets of channels make.

Dimensions: V = paths, E = their entries, C = channels, D = distinct sets of channels.
Set d is ``member[member_first[d]:member_first[d + 1]]``, ascending. See ``kernels``.
"""

# As in ledger.attribution.kernels, where it is explained.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from market.kernel import kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    I64 = npt.NDArray[np.int64]
    U64 = npt.NDArray[np.uint64]
    F64 = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]


@kernel
def set_keys(first: I64, channel: I64, is_first: Flags, channel_key: U64) -> U64:
    """Returns [V] a key of each path's set of channels: the sum of their random 64-bit keys."""
    keys = np.zeros(first.shape[0] - 1, np.uint64)
    for v in range(first.shape[0] - 1):
        for e in range(first[v], first[v + 1]):
            if is_first[e]:
                keys[v] += channel_key[channel[e]]
    return keys


@kernel
def set_members(example: I64, first: I64, channel: I64, is_first: Flags) -> tuple[I64, I64]:
    """Returns the channels of each set, ascending, read from a path [D] that has it.

    Returns:
        member_first[D + 1] and member.
    """
    member_first = np.zeros(example.shape[0] + 1, np.int64)
    for d in range(example.shape[0]):
        begin, end = first[example[d]], first[example[d] + 1]
        member_first[d + 1] = member_first[d] + np.count_nonzero(is_first[begin:end])
    member = np.empty(member_first[-1], np.int64)
    for d in range(example.shape[0]):
        place = member_first[d]
        for e in range(first[example[d]], first[example[d] + 1]):
            if is_first[e]:
                member[place] = channel[e]
                place += 1
        member[member_first[d] : place].sort()
    return member_first, member


@kernel
def _set_at(key: np.uint64, set_key: U64) -> int:
    low, high = 0, set_key.shape[0]
    while low < high:
        middle = (low + high) // 2
        if set_key[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low if low < set_key.shape[0] and set_key[low] == key else -1


@kernel
def _add_named(set_key: U64, rate: F64, players: I64, channel_key: U64, phi: F64) -> None:
    """Adds the shares of all observed sets among ``players`` by naming each subset of them."""
    size = players.shape[0]
    for subset in range(1, 1 << size):
        key = np.uint64(0)
        held = 0
        for j in range(size):
            if subset >> j & 1:
                key += channel_key[players[j]]
                held += 1
        found = _set_at(key, set_key)
        if found >= 0:
            for j in range(size):
                if subset >> j & 1:
                    phi[j] += rate[found] / held


@kernel
def _by_least(member_first: I64, member: I64, channel_count: int) -> tuple[I64, I64]:
    """Returns the sets that are not empty by their least channel: start[C + 1] and the sets."""
    start = np.zeros(channel_count + 1, np.int64)
    for t in range(member_first.shape[0] - 1):
        if member_first[t + 1] > member_first[t]:
            start[member[member_first[t]] + 1] += 1
    for c in range(channel_count):
        start[c + 1] += start[c]
    place = start[:-1].copy()
    sets = np.empty(start[channel_count], np.int64)
    for t in range(member_first.shape[0] - 1):
        if member_first[t + 1] > member_first[t]:
            least = member[member_first[t]]
            sets[place[least]] = t
            place[least] += 1
    return start, sets


@kernel
def _add_scanned(
    member_first: I64, member: I64, rate: F64, start: I64, sets: I64, players: I64, place: I64,
    phi: F64,
) -> None:  # fmt: skip
    """Adds the same by looking at the observed sets whose least channel is a player.

    ``place`` is [C], -1 before and after.
    """
    for j in range(players.shape[0]):
        place[players[j]] = j
    for j in range(players.shape[0]):
        for s in range(start[players[j]], start[players[j] + 1]):
            t = sets[s]
            begin, end = member_first[t], member_first[t + 1]
            is_inside = True
            for m in range(begin + 1, end):
                if place[member[m]] < 0:
                    is_inside = False
                    break
            if is_inside:
                for m in range(begin, end):
                    phi[place[member[m]]] += rate[t] / (end - begin)
    for j in range(players.shape[0]):
        place[players[j]] = -1


@kernel
def shapley_values(
    member_first: I64, member: I64, set_key: U64, rate: F64, is_asked: Flags, channel_key: U64
) -> F64:
    """Returns, beside ``member``, the Shapley value of each channel in the game of its set P.

    The game is v(S) = sum of rate(T) over observed T inside S, whose Shapley value is
    phi_k(P) = sum of rate(T) / |T| over observed T inside P that hold k. Exact. The sets inside P
    are found by naming all 2^|P|, or by looking at observed ones where those are fewer.

    Args:
        member_first: [D + 1].
        member: channels of each set, in ascending order.
        set_key: [D] ascending, sums of ``channel_key``.
        rate: [D] observed conversion rate of each set.
        is_asked: [D] sets whose values are wanted; others get 0.
        channel_key: [C].

    Source: Zhao, Mahboobi, Bagheri, "Shapley Value Methods for Attribution Modeling in Online
    Advertising", arXiv:1804.05327 (2018), the simplified computation.
    """
    phi = np.zeros(member.shape[0], np.float64)
    place = np.full(channel_key.shape[0], -1, np.int64)
    start, sets = _by_least(member_first, member, channel_key.shape[0])
    for p in range(set_key.shape[0]):
        begin, end = member_first[p], member_first[p + 1]
        if not is_asked[p]:
            continue
        players, values = member[begin:end], phi[begin:end]
        candidates = 0
        for channel in players:
            candidates += start[channel + 1] - start[channel]
        if end - begin <= 40 and (1 << (end - begin)) <= candidates:
            _add_named(set_key, rate, players, channel_key, values)
        else:
            _add_scanned(member_first, member, rate, start, sets, players, place, values)
    return phi


@kernel
def set_weights(
    first: I64, channel: I64, is_first: Flags, set_of: I64, member_first: I64, member: I64,
    phi: F64, channel_count: int,
) -> F64:  # fmt: skip
    """Returns [E] the value of an entry's channel in its path's set, at the first entry of each."""
    value = np.zeros(channel_count, np.float64)
    weight = np.zeros(channel.shape[0], np.float64)
    for v in range(first.shape[0] - 1):
        for m in range(member_first[set_of[v]], member_first[set_of[v] + 1]):
            value[member[m]] = phi[m]
        for e in range(first[v], first[v + 1]):
            if is_first[e]:
                weight[e] = value[channel[e]]
    return weight
