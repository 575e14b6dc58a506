"""Paths: what led to each conversion, and what led nowhere, as arrays over persons and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ledger.attribution import kernels
from ledger.attribution.identity import NOBODY_LINKED, Identity, person_groups
from ledger.attribution.kernels import NEVER
from ledger.attribution.terms import Level

if TYPE_CHECKING:
    from ledger.attribution.terms import Rules

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]


class Bids(NamedTuple):
    """Bids that were seen or clicked, one row each; all [B].

    Attributes:
        bid_hi, bid_lo: the bid's id; no two rows have the same.
        advertiser_id: whose ad it was.
        user_key: who saw it; 0 = unknown.
        shown_ms: first impression or billing notice, ``NEVER`` if there is none.
        clicked_ms: first click, ``NEVER`` if there is none.
        campaign_id, line_item_id, creative_id, exchange: what may stand for a channel.
    """

    bid_hi: U64
    bid_lo: U64
    advertiser_id: U32
    user_key: U64
    shown_ms: I64
    clicked_ms: I64
    campaign_id: U32
    line_item_id: U32
    creative_id: U32
    exchange: U32

    def within(self, start_ms: int, end_ms: int) -> Bids:
        """Returns what happened in [start_ms, end_ms): what came later is not known yet."""
        is_shown = (self.shown_ms >= start_ms) & (self.shown_ms < end_ms)
        is_clicked = (self.clicked_ms >= start_ms) & (self.clicked_ms < end_ms)
        kept = is_shown | is_clicked
        clipped = self._replace(
            shown_ms=np.where(is_shown, self.shown_ms, NEVER),
            clicked_ms=np.where(is_clicked, self.clicked_ms, NEVER),
        )
        return Bids._make(column[kept] for column in clipped)


class Conversions(NamedTuple):
    """Conversions, one row each; all [V].

    Attributes:
        id_hi, id_lo: the event's id.
        bid_hi, bid_lo: the bid whose conversion URL was called.
        advertiser_id: whose customer it is.
        user_key: who converted; 0 = unknown.
        at_ms: when.
        value_micros: reported, in ``account_currency``, an ISO 4217 number.
        account_currency: see above.
    """

    id_hi: U64
    id_lo: U64
    bid_hi: U64
    bid_lo: U64
    advertiser_id: U32
    user_key: U64
    at_ms: I64
    value_micros: I64
    account_currency: npt.NDArray[np.uint16]

    def within(self, start_ms: int, end_ms: int) -> Conversions:
        """Returns what happened in [start_ms, end_ms)."""
        kept = (self.at_ms >= start_ms) & (self.at_ms < end_ms)
        return Conversions._make(column[kept] for column in self)


class Channels(NamedTuple):
    """Channels as numbers from 0 on, by (advertiser, id).

    Attributes:
        advertiser_id, id: [C] ascending.
        of_touch: [N] the channel of each touch.
    """

    advertiser_id: U32
    id: I64
    of_touch: I64


class Paths(NamedTuple):
    """Touches in the order of (person, time), and the paths over them.

    Attributes:
        conversions: [V] as they were given.
        bid: [N] the row in ``bids`` of each touch.
        at_ms: [N] when it was seen or clicked.
        is_click: [N].
        first: [V + 1] where each conversion's path begins in ``touch``.
        touch: [E] its touches, oldest first.
        idle_first, idle_touch: the same for what led to no conversion, a path a person.
        bids: [B] as they were given.
    """

    conversions: Conversions
    bid: I64
    at_ms: I64
    is_click: npt.NDArray[np.bool_]
    first: I64
    touch: I64
    idle_first: I64
    idle_touch: I64
    bids: Bids

    def channels(self, level: Level) -> Channels:
        """Returns which channel each touch is of, at one level."""
        column = {
            Level.CAMPAIGN: self.bids.campaign_id,
            Level.LINE_ITEM: self.bids.line_item_id,
            Level.CREATIVE: self.bids.creative_id,
            Level.EXCHANGE: self.bids.exchange,
        }[level]
        high, low = self.bids.advertiser_id.astype(np.uint64), column.astype(np.uint64)
        codes, seen_at = kernels.dense_codes(high, low)
        # By id and not by what was seen first: nothing may depend on the order of events.
        order = np.lexsort((low[seen_at], high[seen_at]))
        rank = np.empty(order.shape[0], np.int64)
        rank[order] = np.arange(order.shape[0])
        ids = seen_at[order]
        return Channels(
            self.bids.advertiser_id[ids], column[ids].astype(np.int64), rank[codes][self.bid]
        )


def paths_of(
    bids: Bids, conversions: Conversions, rules: Rules, identity: Identity = NOBODY_LINKED
) -> Paths:
    """Returns what led to each conversion under the windows of its advertiser."""
    count = bids.bid_hi.shape[0]
    groups, group_count = person_groups(
        identity,
        np.concatenate([bids.advertiser_id, conversions.advertiser_id]),
        np.concatenate([bids.user_key, conversions.user_key]),
        np.concatenate([bids.bid_hi, conversions.bid_hi]),
        np.concatenate([bids.bid_lo, conversions.bid_lo]),
    )
    shown, clicked = (
        np.flatnonzero(bids.shown_ms != NEVER),
        np.flatnonzero(bids.clicked_ms != NEVER),
    )
    bid = np.concatenate([shown, clicked])
    at_ms = np.concatenate([bids.shown_ms[shown], bids.clicked_ms[clicked]])
    is_click = np.arange(bid.shape[0]) >= shown.shape[0]
    order, start = kernels.grouped_order(
        groups[:count][bid], group_count, at_ms, is_click, bids.bid_hi[bid], bids.bid_lo[bid]
    )
    bid, at_ms, is_click = bid[order], at_ms[order], is_click[order]
    clicked_ms = bids.clicked_ms[bid]
    click_ms, view_ms = _windows(conversions.advertiser_id, rules)
    first, touch = kernels.paths(
        start, at_ms, is_click, clicked_ms, groups[count:], conversions.at_ms, click_ms, view_ms,
        rules.touches_max,
    )  # fmt: skip
    idle_first, idle_touch = kernels.idle_paths(start, is_click, clicked_ms, touch)
    return Paths(conversions, bid, at_ms, is_click, first, touch, idle_first, idle_touch, bids)


def _windows(advertiser_id: U32, rules: Rules) -> tuple[I64, I64]:
    """Returns [V] the windows of clicks and of views of each conversion."""
    advertisers, which = np.unique(advertiser_id, return_inverse=True)
    lookbacks = [rules.lookback_of(int(advertiser)) for advertiser in advertisers]
    click_ms = np.array([each.click_ms for each in lookbacks], np.int64)
    view_ms = np.array([each.view_ms for each in lookbacks], np.int64)
    return click_ms[which], view_ms[which]
