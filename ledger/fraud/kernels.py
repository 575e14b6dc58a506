"""Counting in windows of time. N = events, ascending by group, then by time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from market.kernel import kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    U64 = npt.NDArray[np.uint64]
    I64 = npt.NDArray[np.int64]
    Bits = npt.NDArray[np.bool_]


@kernel
def in_bursts(group: U64, at_ms: I64, window_ms: int, count_max: int) -> Bits:
    """Returns [N] which events lie in a window with more than ``count_max`` of their group.

    A window is any stretch [t, t + window_ms). Each event enters and leaves the window once, and is
    marked once: the time is that of one pass.

    Shapes: group[N], at_ms[N], sorted by (group, at_ms).
    """
    count = group.shape[0]
    found = np.zeros(count, np.bool_)
    first = 0
    marked_to = 0
    for last in range(count):
        while group[first] != group[last] or at_ms[last] - at_ms[first] >= window_ms:
            if first == last:
                break
            first += 1
        if window_ms > 0 and last - first + 1 > count_max:
            for i in range(max(first, marked_to), last + 1):
                found[i] = True
            marked_to = last + 1
    return found
