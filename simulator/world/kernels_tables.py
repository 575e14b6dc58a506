"""Alias tables: who of a region is met, at the cost of two draws whatever the number of users."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from market.kernel import kernel

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]


@kernel
def alias_tables(weight: F64, first: I64) -> tuple[F64, I32]:
    """Returns share[M, U] and alias[M, U] to draw users first[r] .. first[r + 1] by weight[M, U].

    Draw a user u of the region evenly and keep it with probability share[u], else take alias[u]. A
    region without weight is drawn from evenly.

    Source: Vose, "A linear algorithm for generating random numbers with a given distribution", IEEE
    Transactions on Software Engineering 17, 1991.
    """
    rows, users = weight.shape
    share = np.ones((rows, users))
    alias = np.zeros((rows, users), np.int32)
    small = np.empty(users, np.int64)
    large = np.empty(users, np.int64)
    for row in range(rows):
        for u in range(users):
            alias[row, u] = u
        for region in range(first.shape[0] - 1):
            start, end = first[region], first[region + 1]
            if weight[row, start:end].sum() > 0.0:
                _pair(weight[row], start, end, small, large, share[row], alias[row])
    return share, alias


@kernel
def _pair(
    weight: F64, start: int, end: int, small: I64, large: I64, share: F64, alias: I32
) -> None:
    """Fills share and alias of users start .. end: who has too little is paired with a rich one."""
    total = weight[start:end].sum()
    smalls, larges = 0, 0
    for u in range(start, end):
        share[u] = weight[u] / total * (end - start)
        if share[u] < 1.0:
            small[smalls] = u
            smalls += 1
        else:
            large[larges] = u
            larges += 1
    while smalls > 0 and larges > 0:
        smalls -= 1
        poor, rich = small[smalls], large[larges - 1]
        alias[poor] = rich
        share[rich] -= 1.0 - share[poor]
        if share[rich] < 1.0:
            larges -= 1
            small[smalls] = rich
            smalls += 1
    # What is left on either side is 1 up to rounding.
    share[small[:smalls]] = 1.0
    share[large[:larges]] = 1.0
