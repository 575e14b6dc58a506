"""How many line items an opportunity leaves, for ``bench.eligible``."""

# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bidder.kernels_bundle import Kind, opened
from bidder.kernels_match import look_up, match_group
from market.kernel import bare_kernel as kernel
from market.snapshot import GROUP_WORDS

if TYPE_CHECKING:
    import numpy.typing as npt


@kernel
def count_eligible(
    address: int,
    kind: Kind,
    records: npt.NDArray[np.void],
    codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void],
    out: npt.NDArray[np.int64],
) -> None:
    """Fills out[N] with how many line items targeting, formats, sizes and exchange rules leave.

    address, kind: of a decider's bundle. Caps, budgets and prices are not asked.
    """
    arrays, _, _, work, _ = opened(address, kind)
    for n in range(records.shape[0]):
        look_up(address, kind, records[n], codes, deals, True)
        out[n] = 0
        for group in range(arrays.index_defaults.shape[0]):
            reason, _ = match_group(address, kind, records[n], group)
            if reason != 0:
                continue
            for w in range(GROUP_WORDS):
                for bit in range(64):
                    if (work.found.words[w] >> np.uint64(bit)) & np.uint64(1):
                        x = group * 64 * GROUP_WORDS + w * 64 + bit
                        out[n] += arrays.expression_first[x + 1] - arrays.expression_first[x]
