"""Counting bids by line item and by creative as machine code: two tables of counts."""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ledger.kernels_budget import NEW
from market.events import EventFlag, EventKind
from market.kernel import bare_kernel as kernel

if TYPE_CHECKING:
    import numpy.typing as npt

_BID = int(EventKind.BID)
_TEST = int(EventFlag.TEST)
_C1 = np.uint64(0x9E3779B97F4A7C15)
_U32 = np.uint64(32)


@kernel
def count_one(table: npt.NDArray[np.int64], key: int, count: int) -> bool:
    """Adds ``count`` to a key's; False, and nothing done, where the table is half full.

    Args:
        table: [1 + a power of two, 2]: rows of (key + 1, count), 0 = none; row 0: keys there are.
        key: a uint32.
        count: to add.
    """
    size = table.shape[0] - 1
    place = np.int64((np.uint64(key) * _C1) >> _U32) & (size - 1)
    while table[1 + place, 0] != key + 1:
        if table[1 + place, 0] == 0:
            if 2 * table[0, 0] >= size:
                return False
            table[0, 0] += 1
            table[1 + place, 0] = key + 1
            break
        place = (place + 1) & (size - 1)
    table[1 + place, 1] += count
    return True


@kernel
def count_bids(
    events: npt.NDArray[np.void],
    became: npt.NDArray[np.uint8],
    line_items: npt.NDArray[np.int64],
    creatives: npt.NDArray[np.int64],
    first: int,
) -> int:
    """Counts bids that are new and no test, of events[N] from ``first`` on, in both tables.

    Returns N, or where a table was half full: that event is in neither.
    """
    for i in range(first, events.shape[0]):
        event = events[i]
        if became[i] != NEW or event["kind"] != _BID or event["flags"] & _TEST:
            continue
        if not count_one(line_items, np.int64(event["line_item_id"]), 1):
            return i
        if not count_one(creatives, np.int64(event["creative_id"]), 1):
            count_one(line_items, np.int64(event["line_item_id"]), -1)
            return i
    return events.shape[0]
