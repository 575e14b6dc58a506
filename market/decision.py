"""The decision: what to answer to one opportunity, and every reason not to bid.

A decision is line item, creative, price, expected value and reason; the arrays here are what
``bidder.decide`` returns and what an exchange (HTTP or twin) is handed.
"""

from __future__ import annotations

import enum

import numpy as np

from market.events import BUDGETS_PER_LINE_ITEM, CAPS_PER_LINE_ITEM, FEATURE_COUNT


class NoBidReason(enum.IntEnum):
    """Why there is no bid, in the order in which the checks run: the furthest one reached counts.

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


NO_BID_REASON_COUNT = 64

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
        # NoBidReason, and for TARGETING_DIMENSION the Dimension that left nobody
        ("reason", np.uint8),
        ("detail", np.uint8),
        # the Format shown
        ("format", np.uint8),
        ("features", np.uint32, (FEATURE_COUNT,)),
        ("budgets", np.uint64, (BUDGETS_PER_LINE_ITEM,)),
        ("caps", np.uint64, (CAPS_PER_LINE_ITEM,)),
    ],
    align=True,
)
