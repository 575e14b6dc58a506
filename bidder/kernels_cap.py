"""Frequency counters as machine code: users x scope x window, a table per worker."""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from market.decision import NoBidReason
from market.kernel import bare_kernel as kernel
from market.kernels import hash_pair
from market.state import CAP_PROBES

if TYPE_CHECKING:
    import numpy.typing as npt


Record: TypeAlias = Any
"""One record of a structured array (``np.void``): numpy's stubs take its fields for arrays."""

_U0 = np.uint64(0)
_U1 = np.uint64(1)

R_USER = int(NoBidReason.USER_UNKNOWN_FOR_CAP)
R_CAP = int(NoBidReason.FREQUENCY_CAP)


@kernel
def cap_counter_key(
    scope_code: np.uint64, user_key: np.uint64, arrival_ms: int, period_ms: int
) -> np.uint64:
    """Returns the name of the counter of (scope, user, window that holds ``arrival_ms``)."""
    window = np.uint64(arrival_ms // period_ms)
    key = hash_pair(hash_pair(scope_code, user_key), window)
    return key if key != _U0 else _U1


@kernel
def cap_count(slots: npt.NDArray[np.void], key: np.uint64, now_ms: int) -> int:
    """Returns the count of ``key`` over all workers' slots[W, S]."""
    last = np.uint64(slots.shape[1] - 1)
    total = np.int64(0)
    for worker in range(slots.shape[0]):
        for probe in range(CAP_PROBES):
            slot = slots[worker, (key + np.uint64(probe)) & last]
            if slot["key"] == key:
                if slot["expires_ms"] > now_ms:
                    total += slot["count"]
                break
            if slot["key"] == _U0:
                break
    return total


@kernel
def cap_slot(slots: npt.NDArray[np.void], worker: int, key: np.uint64, now_ms: int) -> int:
    """Returns the worker's own slot for ``key``: the one it has, else a free one, -1 if full."""
    last = np.uint64(slots.shape[1] - 1)
    free = np.int64(-1)
    for probe in range(CAP_PROBES):
        at = np.int64((key + np.uint64(probe)) & last)
        if slots[worker, at]["key"] == key:
            return at
        if free < 0 and (
            slots[worker, at]["key"] == _U0 or slots[worker, at]["expires_ms"] <= now_ms
        ):
            free = at
        if slots[worker, at]["key"] == _U0:
            break
    return free


@kernel
def cap_add(
    slots: npt.NDArray[np.void],
    worker: int,
    key: np.uint64,
    amount: int,
    now_ms: int,
    expires_ms: int,
) -> None:
    """Adds ``amount`` to the worker's counter of ``key``; a missing one is only made to grow."""
    at = cap_slot(slots, worker, key, now_ms)
    if at < 0:
        return
    if slots[worker, at]["key"] != key:
        if amount < 0:
            return
        slots[worker, at]["key"] = key
        slots[worker, at]["count"] = np.int64(0)
        slots[worker, at]["expires_ms"] = expires_ms
    elif slots[worker, at]["expires_ms"] <= now_ms:
        slots[worker, at]["count"] = np.int64(0)
    slots[worker, at]["count"] = max(np.int64(0), slots[worker, at]["count"] + np.int64(amount))


@kernel
def cap_obstacle(
    opportunity: Record,
    caps: npt.NDArray[np.void],
    slots: npt.NDArray[np.void],
    worker: int,
    line_item: Record,
    creative_row: int,
) -> int:
    """Returns the NoBidReason by which a cap of this scope forbids the bid, 0 if none does.

    ``creative_row`` -1 checks the caps of line item and campaign, else those of that creative.
    A user who may not be known cannot be counted: a capped line item then does not bid.
    """
    for c in range(line_item["cap_first"], line_item["cap_first"] + line_item["cap_count"]):
        cap = caps[c]
        if cap["creative_row"] != creative_row:
            continue
        if opportunity["user_key"] == _U0:
            return R_USER
        key = cap_counter_key(
            cap["scope_code"], opportunity["user_key"], opportunity["arrival_ms"], cap["period_ms"]
        )
        if cap_count(slots, key, opportunity["arrival_ms"]) >= cap["impressions_max"]:
            return R_CAP
        if cap_slot(slots, worker, key, opportunity["arrival_ms"]) < 0:
            return R_CAP
    return 0
