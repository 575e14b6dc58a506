"""The auction: who wins which slot of an imp, and what a slot costs.

Four rules over the same ranking: bids at or above the reserve take the slots in order of price, and
ties go to the lowest agent index. What the rules do not do: they hold no budgets, draw no exposure
and charge nobody. A slot's price is per exposure; a winner whose slot is not exposed pays nothing,
which is for the caller to draw.

Dimension names: A = agents, N = opportunities, K = slots, best first.

Sources: first price and second price (K = 1): Vickrey, "Counterspeculation, auctions, and
competitive sealed tenders", Journal of Finance 16, 1961. GSP: Edelman, Ostrovsky and Schwarz,
"Internet advertising and the generalized second-price auction", American Economic Review 97, 2007.
VCG of a position auction: the same, and Varian, "Position auctions", International Journal of
Industrial Organization 25, 2007.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from market.auction import kernels
from market.money import MICROS, PRICE_CPM_MICROS_MAX

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["AGENTS_MAX", "Outcome", "Rule", "clear"]

AGENTS_MAX = kernels.AGENTS_MAX
"""Agents that one auction can rank."""


class Rule(enum.IntEnum):
    """What the winner of a slot pays. The first two numbers are OpenRTB's ``at`` (2.6, 3.2.1)."""

    FIRST_PRICE = kernels.FIRST_PRICE
    """Its own bid."""
    SECOND_PRICE = kernels.SECOND_PRICE
    """The second highest bid, at least the reserve; one slot only."""
    GSP = kernels.GSP
    """The next lower bid, at least the reserve."""
    VCG = kernels.VCG
    """What its presence costs the others and the seller, per exposure, rounded up to a micro."""


class Outcome(NamedTuple):
    """What became of N auctions; the arrays are read-only.

    Attributes:
        winner: [N, K] int32 agent, -1 = unsold.
        price_cpm_micros: [N, K] int64 what the winner pays per thousand exposures; 0 where unsold
            (but 0 is also the price of a slot that is sold without rival and reserve).
        sold: [N, K] bool.
        min_to_win_cpm_micros: [N] int64, told to winners: at least the reserve; with a bid above
            it each of them would still have won some slot, with a bid below it none.
        min_to_enter_cpm_micros: [N] int64, told to losers: as above, for a bidder that won nothing.
    """

    winner: npt.NDArray[np.int32]
    price_cpm_micros: npt.NDArray[np.int64]
    sold: npt.NDArray[np.bool_]
    min_to_win_cpm_micros: npt.NDArray[np.int64]
    min_to_enter_cpm_micros: npt.NDArray[np.int64]


def clear(
    rule: Rule,
    bids_cpm_micros: npt.NDArray[np.int64],
    reserve_cpm_micros: npt.NDArray[np.int64],
    weights_micros: npt.NDArray[np.int64],
) -> Outcome:
    """Returns the outcome of N auctions.

    Only VCG looks at the size of the weights. Exact for any weights: sums are integers, and the
    one division rounds up, so that a price is never below the exact one and never above the bid.

    Args:
        rule: what winners pay.
        bids_cpm_micros: [A, N], 0 = no bid, at most PRICE_CPM_MICROS_MAX.
        reserve_cpm_micros: [N], at least 0; a bid that equals it is good.
        weights_micros: [K], probability that a slot is exposed given that it is sold, times 10^6,
            never increasing, the last above 0.
    """
    agents, count = bids_cpm_micros.shape
    assert agents <= AGENTS_MAX, f"{agents} agents, at most {AGENTS_MAX}"
    assert reserve_cpm_micros.shape == (count,), "one reserve per opportunity"
    assert not count or reserve_cpm_micros.min() >= 0, "a reserve is never negative"
    assert not bids_cpm_micros.size or (
        bids_cpm_micros.min() >= 0 and bids_cpm_micros.max() <= PRICE_CPM_MICROS_MAX
    ), f"bids are 0-{PRICE_CPM_MICROS_MAX} micros CPM"
    assert weights_micros.shape[0] > 0, "at least one slot"
    assert rule is not Rule.SECOND_PRICE or weights_micros.shape[0] == 1, "second price: one slot"
    assert weights_micros[0] <= MICROS, "a weight is a probability"
    assert weights_micros[-1] > 0, "a slot that is never exposed cannot be sold"
    assert (weights_micros[:-1] >= weights_micros[1:]).all(), "weights never increase"
    outcome = Outcome(
        *kernels.clear(int(rule), bids_cpm_micros, reserve_cpm_micros, weights_micros)
    )
    for array in outcome:
        array.flags.writeable = False
    return outcome
