"""The opportunity: one offered imp, as arrays. The contract between an exchange and a decision.

The bidder's edge fills one from an OpenRTB request; the twin fills thousands at a time. Nothing in
it depends on a snapshot: texts are 64-bit codes (``market.chance.code_of``), lists of codes lie in
one pool, so an opportunity recorded today can be decided against tomorrow's snapshot.

Dimension names used in docstrings: N = opportunities, P = codes in the pool, Q = deals.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Format(enum.IntFlag):
    """What may be shown in an imp. Bit k is OpenRTB ``mtype`` k + 1 (2.6 section 4.2.3)."""

    BANNER = 1
    VIDEO = 2
    AUDIO = 4
    NATIVE = 8


FORMAT_COUNT = 4


class Dimension(enum.IntEnum):
    """Single-valued targeting dimensions: an opportunity has one code each, 0 when unknown.

    The value text that is hashed is the OpenRTB one, in lower case: country alpha-3, device type
    number, ``sun 0`` .. ``sat 23`` for the hour of the week in the user's time zone, and so on.
    """

    EXCHANGE = 0
    COUNTRY = 1
    REGION = 2
    CITY = 3
    DEVICE_TYPE = 4
    OS = 5
    CONNECTION = 6
    LANGUAGE = 7
    INVENTORY_TYPE = 8
    INVENTORY = 9
    PUBLISHER = 10
    PLACEMENT = 11
    HOUR_OF_WEEK = 12
    GENDER = 13
    AGE_BAND = 14
    CARRIER = 15


DIMENSION_COUNT = 16


class CodeList(enum.IntEnum):
    """Multi-valued lists of codes; each opportunity has a slice of the pool for each.

    SEGMENT, CATEGORY and KEYWORD are what a line item may target; the others are the exchange's
    rules: allow lists (a seat, an ad category) and block lists (2.6 sections 3.2.1 and 3.2.4).
    """

    SEGMENT = 0
    CATEGORY = 1
    KEYWORD = 2
    SEAT_ALLOWED = 3
    SEAT_BLOCKED = 4
    CATEGORY_ALLOWED = 5
    CATEGORY_BLOCKED = 6
    ADVERTISER_BLOCKED = 7
    APP_BLOCKED = 8


CODE_LIST_COUNT = 9
SIZE_COUNT_MAX = 16
CURRENCY_COUNT_MAX = 8

OPPORTUNITY_DTYPE = np.dtype(
    [
        # hi and lo of market.chance.opportunity_key
        ("key_hi", np.uint64),
        ("key_lo", np.uint64),
        # epoch milliseconds of the episode or wall clock when the bytes arrived; the decision's now
        ("arrival_ms", np.int64),
        # market.chance.user_key, 0 when there is no id or privacy forbids its use
        ("user_key", np.uint64),
        # exchange_id of the profile it came through
        ("exchange", np.uint16),
        # codes by Dimension, 0 = unknown
        ("dimensions", np.uint64, (DIMENSION_COUNT,)),
        # slices of the code pool by CodeList
        ("list_first", np.int32, (CODE_LIST_COUNT,)),
        ("list_count", np.int32, (CODE_LIST_COUNT,)),
        # slice of the deals array
        ("deal_first", np.int32),
        ("deal_count", np.int32),
        # 1: only deals may bid (pmp.private_auction)
        ("is_private", np.uint8),
        # Format bits that the imp accepts
        ("formats", np.uint8),
        # 1 first price, 2 second price plus, 3 the deal's fixed price, >= 500 exchange-specific
        ("auction_type", np.uint16),
        ("is_test", np.uint8),
        # 1: every asset and URL must be https
        ("is_secure", np.uint8),
        # imp.bidfloor in micros CPM of floor_currency (ISO 4217 number)
        ("floor_cpm_micros", np.int64),
        ("floor_currency", np.uint16),
        # currencies a bid may be in, in order of preference; 0 ends the list
        ("currencies", np.uint16, (CURRENCY_COUNT_MAX,)),
        # accepted banner sizes (also video player size) as w << 16 | h; size 0 = any
        ("sizes", np.uint32, (SIZE_COUNT_MAX,)),
        ("size_count", np.uint8),
        # video and audio: accepted duration, milliseconds; 0, 0 = any
        ("duration_ms_min", np.int64),
        ("duration_ms_max", np.int64),
        # bit k set: AdCOM creative attribute k is blocked (battr); protocol k accepted; 0 = any
        ("attributes_blocked", np.uint64),
        ("protocols", np.uint64),
        # bits of market.campaign.MediaType accepted, 0 = any
        ("media_types", np.uint64),
        # impressions per bid times 10^6 (qty.multiplier), 1,000,000 except for DOOH
        ("quantity_micros", np.int64),
        # how long after the bid its billing notice may arrive and still settle on time
        ("billing_window_ms", np.int64),
    ],
    align=True,
)

DEAL_DTYPE = np.dtype(
    [
        ("code", np.uint64),
        # the deal's own floor, in its own currency (absent = USD: it does not inherit)
        ("floor_cpm_micros", np.int64),
        ("floor_currency", np.uint16),
        # 0: as the request's auction type
        ("auction_type", np.uint16),
        # slice of the code pool: seats that may bid on this deal; empty = all
        ("seat_first", np.int32),
        ("seat_count", np.int32),
        # slice of the code pool: advertiser domains that may bid on this deal; empty = all
        ("domain_first", np.int32),
        ("domain_count", np.int32),
    ],
    align=True,
)


class Opportunities(NamedTuple):
    """A block of opportunities in order of arrival.

    Attributes:
        records: [N] of OPPORTUNITY_DTYPE.
        codes: [P] uint64, the pool that the list slices point into.
        deals: [Q] of DEAL_DTYPE.
    """

    records: npt.NDArray[np.void]
    codes: npt.NDArray[np.uint64]
    deals: npt.NDArray[np.void]


def no_opportunities(count: int, code_count: int, deal_count: int) -> Opportunities:
    """Returns a zeroed block with room for so many opportunities, codes and deals."""
    return Opportunities(
        records=np.zeros(count, OPPORTUNITY_DTYPE),
        codes=np.zeros(code_count, np.uint64),
        deals=np.zeros(deal_count, DEAL_DTYPE),
    )
