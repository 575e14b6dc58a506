"""The decision: what to answer to one opportunity, and every reason not to bid.

A decision is line item, creative, price, expected value and reason; the arrays here are what
``bidder.decide`` returns and what an exchange (HTTP or twin) is handed.
"""

from __future__ import annotations

import enum

import numpy as np
import numpy.typing as npt

from market.events import BUDGETS_PER_LINE_ITEM, CAPS_PER_LINE_ITEM, FEATURE_COUNT


class NoBidReason(enum.IntEnum):
    """Why there is no bid. Of several the one that was reached last counts (``REASON_RANKS``).

    Numbers 1..63 are ours and stored in events; ``bidder.no_bid`` maps them to OpenRTB ``nbr``
    codes and to the request field that caused them.
    """

    BID = 0
    MALFORMED_REQUEST = 1
    TOO_LITTLE_TIME = 2
    OVERLOADED = 3
    RECORDER_BEHIND = 4
    UNUSABLE_IMP = 5
    CONTRADICTORY_REQUEST = 6
    PRIVACY_FORBIDS = 7
    NO_ACTIVE_LINE_ITEM = 8
    FORMAT_NOT_SERVED = 9
    SEAT_NOT_ALLOWED = 10
    SEAT_BLOCKED = 11
    CATEGORY_NOT_ALLOWED = 12
    CATEGORY_BLOCKED = 13
    ADVERTISER_BLOCKED = 14
    APP_BLOCKED = 15
    TARGETING_DIMENSION = 16
    TARGETING_SEGMENT = 17
    TARGETING_CATEGORY = 18
    TARGETING_KEYWORD = 19
    DEAL_REQUIRED = 20
    OUTSIDE_FLIGHT = 21
    NOT_ACTIVE = 22
    CURRENCY_NOT_CONVERTIBLE = 23
    SIZE_NOT_OFFERED = 24
    DURATION_NOT_ACCEPTED = 25
    PROTOCOL_NOT_ACCEPTED = 26
    MEDIA_TYPE_NOT_ACCEPTED = 27
    ATTRIBUTE_BLOCKED = 28
    NOT_SECURE = 29
    USER_UNKNOWN_FOR_CAP = 30
    FREQUENCY_CAP = 31
    BUDGET_EXHAUSTED = 32
    BELOW_FLOOR = 33
    CATEGORY_TAXONOMY = 34
    LANGUAGE_NOT_ALLOWED = 35
    TARGETING_AREA = 36
    TARGETING_OS_VERSION = 37
    TARGETING_VIEWABILITY = 38
    AUCTION_TYPE_UNKNOWN = 39
    SUPPLY_CHAIN_INCOMPLETE = 40
    SUPPLY_CHAIN_BLOCKED = 41
    SELLERS_FILE_MISSING = 42
    SELLER_NOT_AUTHORISED = 43
    API_NOT_SUPPORTED = 44
    BANNER_TYPE_BLOCKED = 45
    EXPANSION_NOT_ALLOWED = 46
    LINEARITY_NOT_ACCEPTED = 47
    DELIVERY_NOT_ACCEPTED = 48
    SKIP_NOT_ACCEPTED = 49
    NATIVE_ASSET_MISSING = 50
    POD_FULL = 51
    THROTTLED = 56
    NOT_READY = 57
    CRAWLER = 61
    NON_HUMAN = 62
    DATACENTRE_IP = 63


NO_BID_REASON_COUNT = 64
LIST_DETAIL = 64
"""Added to a CodeList in ``detail``: lists that have no reason of their own."""

_LATER: dict[NoBidReason, tuple[NoBidReason, ...]] = {
    # Of a pod that is full some ad before got a bid, or a reason that says more.
    NoBidReason.UNUSABLE_IMP: (NoBidReason.POD_FULL,),
    NoBidReason.CONTRADICTORY_REQUEST: (
        NoBidReason.AUCTION_TYPE_UNKNOWN,
        NoBidReason.CRAWLER,
        NoBidReason.NON_HUMAN,
        NoBidReason.DATACENTRE_IP,
        NoBidReason.SUPPLY_CHAIN_INCOMPLETE,
        NoBidReason.SUPPLY_CHAIN_BLOCKED,
        NoBidReason.SELLERS_FILE_MISSING,
        NoBidReason.SELLER_NOT_AUTHORISED,
    ),
    NoBidReason.CATEGORY_NOT_ALLOWED: (NoBidReason.CATEGORY_TAXONOMY,),
    NoBidReason.NOT_ACTIVE: (
        NoBidReason.TARGETING_OS_VERSION,
        NoBidReason.TARGETING_VIEWABILITY,
        NoBidReason.TARGETING_AREA,
    ),
    NoBidReason.NOT_SECURE: (NoBidReason.LANGUAGE_NOT_ALLOWED,),
    NoBidReason.SIZE_NOT_OFFERED: (
        NoBidReason.BANNER_TYPE_BLOCKED,
        NoBidReason.LINEARITY_NOT_ACCEPTED,
    ),
    NoBidReason.MEDIA_TYPE_NOT_ACCEPTED: (
        NoBidReason.DELIVERY_NOT_ACCEPTED,
        NoBidReason.NATIVE_ASSET_MISSING,
    ),
    NoBidReason.ATTRIBUTE_BLOCKED: (
        NoBidReason.SKIP_NOT_ACCEPTED,
        NoBidReason.EXPANSION_NOT_ALLOWED,
        NoBidReason.API_NOT_SUPPORTED,
    ),
}
"""Checks whose numbers came later than their turn, after the check that they follow."""


def _ranks() -> npt.NDArray[np.uint8]:
    turn: list[NoBidReason] = []
    added = {reason for reasons in _LATER.values() for reason in reasons}
    for reason in NoBidReason:
        if reason not in added:
            turn += [reason, *_LATER.get(reason, ())]
    ranks = np.zeros(NO_BID_REASON_COUNT, np.uint8)
    ranks[turn] = np.arange(len(turn))
    ranks.setflags(write=False)
    return ranks


REASON_RANKS = _ranks()
"""[NO_BID_REASON_COUNT] uint8: the turn of each reason's check, BID first."""

DECISION_DTYPE = np.dtype(
    [
        ("bid_hi", np.uint64),
        ("bid_lo", np.uint64),
        # rows in the snapshot; -1 when there is no bid
        ("line_item_row", np.int32),
        ("creative_row", np.int32),
        ("advertiser_id", np.uint32),
        ("campaign_id", np.uint32),
        ("line_item_id", np.uint32),
        ("creative_id", np.uint32),
        # the bid in bid_currency, and what it reserves in account_currency
        ("bid_cpm_micros", np.int64),
        ("reserved_micros", np.int64),
        ("floor_cpm_micros", np.int64),
        # expected value of one impression, account currency
        ("value_micros", np.int64),
        ("rate_micros", np.int64),
        ("deadline_ms", np.int64),
        ("deal_code", np.uint64),
        ("deal_index", np.int32),
        ("bid_currency", np.uint16),
        ("account_currency", np.uint16),
        # w << 16 | h
        ("size", np.uint32),
        ("pctr", np.float32),
        ("pcvr", np.float32),
        ("propensity", np.float32),
        ("shading_factor", np.float32),
        # NoBidReason; the Dimension that left nobody (TARGETING_DIMENSION), or LIST_DETAIL +
        # CodeList
        ("reason", np.uint8),
        ("detail", np.uint8),
        # the Format shown
        ("format", np.uint8),
        ("features", np.uint32, (FEATURE_COUNT,)),
        ("budgets", np.uint64, (BUDGETS_PER_LINE_ITEM,)),
        ("caps", np.uint64, (CAPS_PER_LINE_ITEM,)),
        # a creative in one protocol (``market.snapshot``), -1 when there is no bid
        ("rendition_row", np.int32),
        # w << 16 | h of the flexible size that the banner fills, 0 = an exact size
        ("ratio", np.uint32),
    ],
    align=True,
)
