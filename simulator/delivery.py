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

from market.chance import Purpose
from market.events import EventKind
from simulator.kernels import uniform_table

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
        ("reason", np.uint16),
        ("kind", np.uint8),
        # 0 the first delivery, 1 its repetition
        ("copy", np.uint8),
        # 1: held back, so that later ones overtake it
        ("is_delayed", np.uint8),
        # 1: held back beyond the billing window
        ("is_late", np.uint8),
    ]
)

# Actors of one opportunity's delivery draws: the kind's number is for its base delay and for
# whether it is repeated; these are added for the other draws.
_FATE = 16
_HOLD = 32
_REPEAT_AFTER = 16

_CHARGING = (EventKind.BILLING, EventKind.IMPRESSION)


class Settled(NamedTuple):
    """What delivery needs to know of M cleared bids; all [M].

    Attributes:
        key_hi, key_lo: of the opportunity.
        sequence: number of the request.
        arrival_ms: of the opportunity.
        billing_window_ms: how long its charging notice may take.
        bid_hi, bid_lo: of the bid.
        has_won: won the auction.
        price_cpm_micros: clearing price if won, else the least price that would have won.
        reason: loss reason; 0 if won.
        has_clicked, has_converted: what the user did.
        delay_ms: from click to conversion.
        value_micros: of the order.
    """

    key_hi: npt.NDArray[np.uint64]
    key_lo: npt.NDArray[np.uint64]
    sequence: npt.NDArray[np.int64]
    arrival_ms: npt.NDArray[np.int64]
    billing_window_ms: npt.NDArray[np.int64]
    bid_hi: npt.NDArray[np.uint64]
    bid_lo: npt.NDArray[np.uint64]
    has_won: npt.NDArray[np.bool_]
    price_cpm_micros: npt.NDArray[np.int64]
    reason: npt.NDArray[np.uint16]
    has_clicked: npt.NDArray[np.bool_]
    has_converted: npt.NDArray[np.bool_]
    delay_ms: npt.NDArray[np.int64]
    value_micros: npt.NDArray[np.int64]

    def only(self, rows: npt.NDArray[np.bool_]) -> Settled:
        """Returns the bids where ``rows`` is true."""
        return Settled(*(column[rows] for column in self))


def schedule(
    seed: int, delivery: Delivery, slice_ms: int, settled: Settled
) -> npt.NDArray[np.void]:
    """Returns [R] of NOTICE_DTYPE: everything that will be said of these bids, in no order.

    Won: WIN, BILLING and IMPRESSION each, CLICK and CONVERSION if they happened. Lost: LOSS.
    """
    parts: list[npt.NDArray[np.void]] = []
    lost = settled.only(~settled.has_won)
    if lost.has_won.shape[0]:
        due = lost.arrival_ms + _between(seed, EventKind.LOSS, lost, delivery.loss_ms)
        parts.append(_travel(seed, delivery, slice_ms, EventKind.LOSS, lost, due))
    won = settled.only(settled.has_won)
    if won.has_won.shape[0]:
        win = won.arrival_ms + _between(seed, EventKind.WIN, won, delivery.win_ms)
        billing = win + _between(seed, EventKind.BILLING, won, delivery.billing_ms)
        impression = win + _between(seed, EventKind.IMPRESSION, won, delivery.impression_ms)
        for kind, due in (
            (EventKind.WIN, win),
            (EventKind.BILLING, billing),
            (EventKind.IMPRESSION, impression),
        ):
            parts.append(_travel(seed, delivery, slice_ms, kind, won, due))
        clicked = won.only(won.has_clicked)
        click = impression[won.has_clicked]
        click = click + _between(seed, EventKind.CLICK, clicked, delivery.click_ms)
        # A click and what follows happen in the user's browser: nothing overtakes them.
        parts.append(_rows(EventKind.CLICK, clicked, click))
        converted = clicked.only(clicked.has_converted)
        parts.append(
            _rows(
                EventKind.CONVERSION,
                converted,
                click[clicked.has_converted] + converted.delay_ms,
            )
        )
        for part, own in ((parts[-2], clicked), (parts[-1], converted)):
            parts.append(_repetitions(seed, delivery, part, own))
    return np.concatenate(parts) if parts else np.zeros(0, NOTICE_DTYPE)


def in_order(rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Returns the notices in the order of delivery; the same for any order given."""
    return rows[np.lexsort((rows["copy"], rows["kind"], rows["sequence"], rows["due_ms"]))]


def longest_base_ms(delivery: Delivery) -> int:
    """Returns the longest time from the opportunity to a billing or impression notice on time."""
    return delivery.win_ms[1] + max(delivery.billing_ms[1], delivery.impression_ms[1])


def _travel(
    seed: int,
    delivery: Delivery,
    slice_ms: int,
    kind: EventKind,
    settled: Settled,
    due: npt.NDArray[np.int64],
) -> npt.NDArray[np.void]:
    """Returns the notices of one kind, some held back, some repeated."""
    rows = _rows(kind, settled, due)
    actors = np.array([kind + _FATE, kind + _HOLD], np.int64)
    fate, hold = uniform_table(
        seed, Purpose.NOTICE_DELAY, settled.key_hi, settled.key_lo, actors
    ).T
    deadline = settled.arrival_ms + settled.billing_window_ms
    # Delivery waits for the next step of the clock, so the last safe moment is a slice earlier.
    room = np.maximum(deadline - slice_ms - (due + slice_ms), 0)
    is_delayed = fate < delivery.delayed_share
    rows["is_delayed"] = is_delayed
    held = due + slice_ms + np.floor(hold * room).astype(np.int64)
    rows["due_ms"] = np.where(is_delayed, np.minimum(held, deadline - slice_ms), due)
    if kind in _CHARGING and delivery.late_share > 0.0:
        is_late = ~is_delayed & (fate < delivery.delayed_share + delivery.late_share)
        rows["is_late"] = is_late
        late = deadline + 1 + _spread(hold, delivery.late_ms)
        rows["due_ms"] = np.where(is_late, late, rows["due_ms"])
    return np.concatenate((rows, _repetitions(seed, delivery, rows, settled)))


def _repetitions(
    seed: int, delivery: Delivery, rows: npt.NDArray[np.void], settled: Settled
) -> npt.NDArray[np.void]:
    """Returns the second deliveries of ``rows``, which are one kind's and aligned with settled."""
    if not rows.shape[0]:
        return rows
    kind = int(rows["kind"][0])
    actors = np.array([kind, kind + _REPEAT_AFTER], np.int64)
    chance, after = uniform_table(
        seed, Purpose.NOTICE_REPEAT, settled.key_hi, settled.key_lo, actors
    ).T
    is_repeated = chance < delivery.repeated_share
    again = rows[is_repeated]
    again["copy"] = 1
    again["due_ms"] += _spread(after[is_repeated], delivery.repeat_ms)
    return again


def _rows(
    kind: EventKind, settled: Settled, due: npt.NDArray[np.int64]
) -> npt.NDArray[np.void]:
    rows = np.zeros(due.shape[0], NOTICE_DTYPE)
    rows["due_ms"], rows["kind"] = due, kind
    for name in ("sequence", "bid_hi", "bid_lo", "reason"):
        rows[name] = getattr(settled, name)
    if kind is EventKind.CONVERSION:
        rows["value_micros"] = settled.value_micros
    elif kind is not EventKind.CLICK:
        rows["price_cpm_micros"] = settled.price_cpm_micros
    return rows


def _between(
    seed: int, kind: EventKind, settled: Settled, bounds: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """Returns [M] base delays of one kind, uniform within ``bounds``."""
    draws = uniform_table(
        seed,
        Purpose.NOTICE_DELAY,
        settled.key_hi,
        settled.key_lo,
        np.array([kind], np.int64),
    )
    return _spread(draws[:, 0], bounds)


def _spread(
    uniforms: npt.NDArray[np.float64], bounds: tuple[int, int]
) -> npt.NDArray[np.int64]:
    least, most = bounds
    return least + np.floor(uniforms * (most - least + 1)).astype(np.int64)
