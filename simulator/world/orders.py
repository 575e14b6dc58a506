"""Orders, one row each, and what advertising added to them.

An order is of an ad (it came of an exposure) or organic (of a visit to the product's page). An
organic one is *real* if it happened, and *alone* if it had happened had no ad been shown: most are
both; one that is only alone was taken away by advertising (the need was already met), one that is
only real was made by it (by a need or a cart that an ad left behind). Hence, in orders or in money,
for every agent and exactly:

    total = ad + organic = alone + incremental,   incremental = ad + made - taken

``alone`` does not depend on what anybody bids, so two policies are held against the same baseline.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]

ORDER_DTYPE = np.dtype(
    [
        ("tick", np.int32),
        ("column", np.int64),
        ("agent", np.int32),
        ("user", np.int32),
        ("scene", np.int32),
        ("is_ad", np.uint8),
        ("is_real", np.uint8),
        ("is_alone", np.uint8),
        ("is_reported", np.uint8),
        ("due_tick", np.int64),
        ("refund_tick", np.int64),
        ("first_micros", np.int64),
        ("repeat_count", np.int64),
        ("repeat_micros", np.int64),
        ("in_app_micros", np.int64),
        ("refund_micros", np.int64),
    ],
    align=True,
)
"""One order.

tick: of its exposure or visit; column: of its opportunity (or ORGANIC_COLUMN + visit); scene: -1 of
an organic order; is_reported: the agent's accounts know it; due_tick: when it comes, refund_tick:
when what is sent back is paid back; first, repeat, in_app and refund: what it brings in all, not
discounted. Of ads, is_real is 1 and is_alone 0.
"""


class Split(NamedTuple):
    """One quantity by where it comes from, all [A] int64; see the module for the identity.

    Attributes:
        ad: of exposures.
        organic: without an ad, as it happened.
        alone: what had happened without advertising.
        made: organic, and not without advertising.
        taken: not, because of advertising.
    """

    ad: I64
    organic: I64
    alone: I64
    made: I64
    taken: I64

    @property
    def total(self) -> I64:
        """What happened."""
        return self.ad + self.organic

    @property
    def incremental(self) -> I64:
        """What advertising added."""
        return self.ad + self.made - self.taken


class Incrementality(NamedTuple):
    """Ground truth of what advertising did.

    Attributes:
        orders: counts.
        value_micros: what orders bring, less returns (gross merchandise value over the lifetime).
        profit_micros: the margin on that; what ads cost is not taken off.
    """

    orders: Split
    value_micros: Split
    profit_micros: Split


def value_micros(orders: npt.NDArray[np.void]) -> I64:
    """Returns [O] what orders bring over their lifetime, less returns."""
    return (
        orders["first_micros"]
        + orders["repeat_micros"]
        + orders["in_app_micros"]
        - orders["refund_micros"]
    )


def incrementality(orders: npt.NDArray[np.void], margin: npt.NDArray[np.float64]) -> Incrementality:
    """Returns the ground truth of ``orders`` (ORDER_DTYPE) for agents with these margins [A]."""
    value = value_micros(orders)
    profit = np.floor(value * margin[orders["agent"]]).astype(np.int64)
    ones = np.ones(orders.shape[0], np.int64)
    return Incrementality(
        *(_split(orders, each, margin.shape[0]) for each in (ones, value, profit))
    )


def _split(orders: npt.NDArray[np.void], amount: I64, agent_count: int) -> Split:
    is_ad, is_real = orders["is_ad"] == 1, orders["is_real"] == 1
    is_alone = orders["is_alone"] == 1

    def summed(mask: npt.NDArray[np.bool_]) -> I64:
        totals = np.zeros(agent_count, np.int64)
        np.add.at(totals, orders["agent"][mask], amount[mask])
        return totals

    return Split(
        ad=summed(is_ad),
        organic=summed(~is_ad & is_real),
        alone=summed(is_alone),
        made=summed(~is_ad & is_real & ~is_alone),
        taken=summed(~is_real & is_alone),
    )
