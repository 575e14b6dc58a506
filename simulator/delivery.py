"""Delivery: when each notice of a cleared bid arrives, how often, and in which order.

Notices travel over a network, so some arrive twice, some after later ones, and, where a scenario
asks for it, some after the bidder has given up waiting. All of it is keyed by the opportunity, so
two policies meet the same network.

Dimension names: M = bids, R = scheduled notices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from market.events import EventKind
from simulator.kernels import schedule_notices

if TYPE_CHECKING:
    from simulator.scenario import Delivery

NOTICE_DTYPE = np.dtype(
    [
        # episode clock from which it may be delivered
        ("due_ms", np.int64),
        # number of the request it speaks of
        ("sequence", np.int64),
        ("bid_hi", np.uint64),
        ("bid_lo", np.uint64),
        # as market.protocols.Notice
        ("price_cpm_micros", np.int64),
        ("value_micros", np.int64),
        ("min_to_win_cpm_micros", np.int64),
        ("reason", np.uint16),
        ("kind", np.uint8),
        # 0 the first delivery, 1 its repetition
        ("copy", np.uint8),
        # 0 on time; 1 delayed, so that later ones overtake it; 2 late, beyond the billing window
        ("held", np.uint8),
    ]
)


class Settled(NamedTuple):
    """What delivery needs to know of M cleared bids; all [M].

    Attributes:
        key_hi, key_lo: of the opportunity.
        sequence: number of the request.
        arrival_ms: of the opportunity.
        billing_window_ms: how long its charging notice may take.
        bid_hi, bid_lo: of the bid.
        price_cpm_micros: clearing price if won, else the least price that would have won.
        reason: loss reason; 0 if won.
        outcome: uint8: 0 lost, 1 won, 2 clicked, 3 converted.
        delay_ms: from click to conversion.
        value_micros: of the order.
        min_to_win_cpm_micros: the least price that would have won.
    """

    key_hi: npt.NDArray[np.uint64]
    key_lo: npt.NDArray[np.uint64]
    sequence: npt.NDArray[np.int64]
    arrival_ms: npt.NDArray[np.int64]
    billing_window_ms: npt.NDArray[np.int64]
    bid_hi: npt.NDArray[np.uint64]
    bid_lo: npt.NDArray[np.uint64]
    price_cpm_micros: npt.NDArray[np.int64]
    reason: npt.NDArray[np.uint16]
    outcome: npt.NDArray[np.uint8]
    delay_ms: npt.NDArray[np.int64]
    value_micros: npt.NDArray[np.int64]
    min_to_win_cpm_micros: npt.NDArray[np.int64]


def schedule(
    seed: int, delivery: Delivery, slice_ms: int, settled: Settled
) -> npt.NDArray[np.void]:
    """Returns [R] of NOTICE_DTYPE: everything that will be said of these bids, in no order.

    Won: WIN, BILLING and IMPRESSION each, CLICK and CONVERSION if they happened. Lost: LOSS.
    """
    ranges = (
        delivery.loss_ms, delivery.win_ms, delivery.billing_ms, delivery.impression_ms,
        delivery.click_ms, delivery.repeat_ms, delivery.late_ms,
    )  # fmt: skip
    due, bid, kind, copy, held = schedule_notices(
        seed,
        slice_ms,
        np.array([delivery.repeated_share, delivery.delayed_share, delivery.late_share]),
        np.array(ranges, np.int64),
        settled.key_hi,
        settled.key_lo,
        settled.arrival_ms,
        settled.arrival_ms + settled.billing_window_ms,
        settled.outcome,
        settled.delay_ms,
    )
    rows = np.empty(due.shape[0], NOTICE_DTYPE)
    rows["due_ms"], rows["kind"], rows["copy"], rows["held"] = due, kind, copy, held
    for name in ("sequence", "bid_hi", "bid_lo", "reason"):
        rows[name] = getattr(settled, name)[bid]
    has_price = (kind != EventKind.CLICK) & (kind != EventKind.CONVERSION)
    rows["price_cpm_micros"] = np.where(has_price, settled.price_cpm_micros[bid], 0)
    rows["value_micros"] = np.where(kind == EventKind.CONVERSION, settled.value_micros[bid], 0)
    least = settled.min_to_win_cpm_micros[bid]
    rows["min_to_win_cpm_micros"] = np.where(kind == EventKind.WIN, least, 0)
    return rows


def in_order(rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Returns the notices in the order of delivery; the same for any order given."""
    return rows[np.lexsort((rows["copy"], rows["kind"], rows["sequence"], rows["due_ms"]))]


def longest_base_ms(delivery: Delivery) -> int:
    """Returns the longest time from the opportunity to a billing or impression notice on time."""
    return delivery.win_ms[1] + max(delivery.billing_ms[1], delivery.impression_ms[1])
