"""Small made-up worlds of bids and conversions, as arrays and as rows for the slow twin."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ledger.attribution.kernels import NEVER
from ledger.attribution.paths import Bids, Conversions


class World(NamedTuple):
    bids: Bids
    conversions: Conversions
    bid_rows: list[dict[str, Any]]
    conversion_rows: list[dict[str, Any]]


def world(seed: int, bid_count: int, conversion_count: int, span_ms: int, users: int = 6) -> World:
    """Few users, few advertisers, few moments: ties and shared persons are the rule."""
    rng = np.random.default_rng(seed)

    def pick(low: int, high: int, count: int, kind: type) -> Any:
        return rng.integers(low, high, count).astype(kind)

    shown = rng.integers(0, span_ms, bid_count)
    clicked = shown + rng.integers(0, span_ms // 4 + 1, bid_count)
    how = rng.integers(0, 4, bid_count)
    # Campaigns and what is below belong to one advertiser; exchanges are everybody's.
    advertiser = pick(1, 3, bid_count, np.uint32)
    campaign = advertiser * 10 + pick(0, 4, bid_count, np.uint32)
    bids = Bids(
        bid_hi=pick(0, 3, bid_count, np.uint64),
        bid_lo=rng.permutation(bid_count).astype(np.uint64),
        advertiser_id=advertiser,
        user_key=pick(0, users, bid_count, np.uint64),
        shown_ms=np.where(how == 0, NEVER, shown),
        clicked_ms=np.where(how <= 1, clicked, NEVER),
        campaign_id=campaign,
        line_item_id=campaign * 10,
        creative_id=campaign * 100 + pick(0, 3, bid_count, np.uint32),
        exchange=pick(1, 4, bid_count, np.uint32),
    )
    behind = rng.integers(0, max(1, bid_count), conversion_count)
    conversions = Conversions(
        id_hi=rng.integers(0, 2**64, conversion_count, np.uint64),
        id_lo=rng.integers(0, 2**64, conversion_count, np.uint64),
        bid_hi=bids.bid_hi[behind] if bid_count else np.zeros(conversion_count, np.uint64),
        bid_lo=bids.bid_lo[behind] if bid_count else np.zeros(conversion_count, np.uint64),
        advertiser_id=bids.advertiser_id[behind]
        if bid_count
        else np.ones(conversion_count, np.uint32),
        user_key=pick(0, users, conversion_count, np.uint64),
        at_ms=rng.integers(0, span_ms * 5 // 4, conversion_count),
        value_micros=rng.integers(-50, 2**45, conversion_count) >> rng.integers(0, 45),
        account_currency=np.full(conversion_count, 840, np.uint16),
    )
    return World(bids, conversions, rows_of(bids), rows_of(conversions))


def rows_of(columns: Bids | Conversions) -> list[dict[str, Any]]:
    return [
        {
            name: None if cell == NEVER else cell
            for name, cell in zip(columns._fields, row, strict=True)
        }
        for row in zip(*(column.tolist() for column in columns), strict=True)
    ]
