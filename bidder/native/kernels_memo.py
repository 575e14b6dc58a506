"""Memo tables in a kernel: what the default path worked out for a text, by the text's keyed hash.

Open addressing with linear probing over a power of two of places, at most half of them full.
"""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from market.kernel import bare_kernel as kernel

if TYPE_CHECKING:
    import numpy.typing as npt

UNKNOWN = -1


class Memo(NamedTuple):
    """What is remembered; written by `bidder.native.memo`, read by kernels.

    G = groups (`bidder.native.fields.Group`), C = places of a table, a power of two.

    Attributes:
        keys: [G, C] uint64, 0 = empty.
        values: [G, C] int64: PRIVACY, bits of ``bidder.privacy.permission_bits``; SLOT, a row of
            ``slots``, or ``-1 - b`` for a slot that always bails; AGENT, a row of ``agents``;
            SUPPLY, 0 or NoBidReason << 32 | field number.
        slots: [S] of OPPORTUNITY_DTYPE, the record that the default edge makes of a slot.
        faults: [S] int64: 0, or NoBidReason << 32 | field number for a slot that is refused.
        agents: [A, 4] uint64: OS code, OS version, browser code, model code by the hints.
        held: [H] uint64 rising, codes of the deals that line items hold.
        limits: [1] int64: how many of ``held``, -1 = every deal counts.
    """

    keys: npt.NDArray[np.uint64]
    values: npt.NDArray[np.int64]
    slots: npt.NDArray[np.void]
    faults: npt.NDArray[np.int64]
    agents: npt.NDArray[np.uint64]
    held: npt.NDArray[np.uint64]
    limits: npt.NDArray[np.int64]


@kernel
def place_of(keys: npt.NDArray[np.uint64], group: int, key: np.uint64) -> int:
    """Returns the place of a key in its group's table, or of the gap where it would stand."""
    mask = keys.shape[1] - 1
    place = np.int64(key & np.uint64(mask))
    while keys[group, place] != np.uint64(0) and keys[group, place] != key:
        place = (place + 1) & mask
    return place


@kernel
def holds(held: npt.NDArray[np.uint64], count: int, code: np.uint64) -> bool:
    """Returns whether the code is among the first ``count`` of ``held``; -1 holds everything."""
    if count < 0:
        return True
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if held[middle] < code:
            low = middle + 1
        else:
            high = middle
    return low < count and held[low] == code
