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
    OS and BROWSER are ``device.os`` and the brand in ``device.sua``, else the names that
    ``market.user_agent`` reads in ``device.ua``. POSITION is ``banner.pos`` or ``video.pos``,
    VIDEO_PLACEMENT ``video.plcmt``; flags (INTERSTITIAL, REWARDED, LIVESTREAM) are ``0`` or ``1``.
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
    METRO = 16
    ZIP = 17
    MAKE = 18
    MODEL = 19
    BROWSER = 20
    POSITION = 21
    VIDEO_PLACEMENT = 22
    INTERSTITIAL = 23
    REWARDED = 24
    CONTENT_SERIES = 25
    CONTENT_LANGUAGE = 26
    LIVESTREAM = 27


DIMENSION_COUNT = 28


class CodeList(enum.IntEnum):
    """Multi-valued lists of codes; each opportunity has a slice of the pool for each.

    SEGMENT, CATEGORY, KEYWORD, USER_KEYWORD, EID_SOURCE and SITE are what a line item may target;
    the others are the exchange's rules: allow lists (a seat, an ad category, the taxonomy in which
    an ad must be categorised) and block lists (2.6 sections 3.2.1 and 3.2.4).

    SITE holds the site's domain and the domains above it, or the app's bundle, so that a list that
    names ``news.example`` also covers ``sport.news.example``.
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
    USER_KEYWORD = 9
    EID_SOURCE = 10
    SITE = 11
    TAXONOMY = 12


CODE_LIST_COUNT = 13
SIZE_COUNT_MAX = 16
CURRENCY_COUNT_MAX = 8
LANGUAGE_COUNT_MAX = 8
FLOOR_FORMATS = (Format.VIDEO, Format.AUDIO)
"""Formats with floors by duration; index in the columns ``second_*`` and ``duration_floor_*``."""


class PositionKind(enum.IntEnum):
    """What ``latitude_e6`` and ``longitude_e6`` of an opportunity are worth (AdCOM geo types)."""

    NONE = 0
    DEVICE = 1
    """From the device's location services or said by the user (or of unsaid origin)."""
    IP = 2
    """Looked up from the IP address: good for a city, not for a street."""


RATIO_COUNT_MAX = 4
TIMED_COUNT = 3
"""What is played has a duration: 0 the video, 1 the audio, 2 the video asset of a native ad. Index
``k`` of a timed column belongs to index ``k + 1`` of a column by format."""
DURATION_COUNT_MAX = 8
NATIVE_DATA_COUNT = 13
"""Native data assets by type, 1 (sponsored) to 12 (call to action); 0 is not used."""
NATIVE_IMAGE_COUNT = 2
"""Native images: 0 the icon, 1 the main image."""
NO_LENGTH_LIMIT = 65_535

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
        # exact banner sizes as w << 16 | h
        ("sizes", np.uint32, (SIZE_COUNT_MAX,)),
        ("size_count", np.uint8),
        # accepted duration, milliseconds; 0, 0 = any; by what is played (TIMED_COUNT)
        ("duration_ms_min", np.int64, (TIMED_COUNT,)),
        ("duration_ms_max", np.int64, (TIMED_COUNT,)),
        # by format: bit k set = AdCOM creative attribute k is blocked (battr)
        ("attributes_blocked", np.uint64, (FORMAT_COUNT,)),
        # by what is played: bit k set = protocol k is accepted, 0 = any
        ("protocols", np.uint64, (TIMED_COUNT,)),
        # by format: bits of market.creative.MEDIA_TYPES accepted, 0 = any; native: its video asset
        ("media_types", np.uint64, (FORMAT_COUNT,)),
        # From here to native_needs_video all is 0 in a slot that asks for nothing special
        # (``bidder.slot.REST``).
        # by format: bit k set = API framework k is there; a creative may need no other
        ("apis", np.uint64, (FORMAT_COUNT,)),
        # banner: sizes given as a ratio, w << 16 | h, and the least width of each; 0 ends the list
        ("ratios", np.uint32, (RATIO_COUNT_MAX,)),
        ("ratio_widths_min", np.uint16, (RATIO_COUNT_MAX,)),
        # by what is played: the exact durations of which one is needed, ms; 0 ends the list
        ("durations_ms", np.uint32, (TIMED_COUNT * DURATION_COUNT_MAX,)),
        # kilobits per second, 0 = open
        ("bitrate_kbps_min", np.uint32, (TIMED_COUNT,)),
        ("bitrate_kbps_max", np.uint32, (TIMED_COUNT,)),
        # video: a creative that can be skipped must be longer than, and be seen for at least
        ("skippable_ms_min", np.uint32),
        ("skip_after_ms_min", np.uint32),
        # video: size of the player where other shapes may not be boxed in, 0 = they may
        ("player_size", np.uint32),
        # bit k set = delivery method k is accepted, 0 = any
        ("deliveries", np.uint8, (TIMED_COUNT,)),
        # 1 linear, 2 not, 0 = any
        ("linearity", np.uint8),
        # bit k set = banner type k is blocked (btype); direction k is free to expand (expdir)
        ("banner_types_blocked", np.uint8),
        ("expand_directions", np.uint8),
        # native: most characters of the title and of the data assets that are required, by data
        # type; 0 = not required, NO_LENGTH_LIMIT = of any length
        ("native_title_chars", np.uint16),
        ("native_data_chars", np.uint16, (NATIVE_DATA_COUNT,)),
        # native: bit k set = image k (NATIVE_IMAGE_COUNT) is required; its size and media types
        ("native_images_required", np.uint8),
        ("native_width_min", np.uint16, (NATIVE_IMAGE_COUNT,)),
        ("native_width_max", np.uint16, (NATIVE_IMAGE_COUNT,)),
        ("native_height_min", np.uint16, (NATIVE_IMAGE_COUNT,)),
        ("native_height_max", np.uint16, (NATIVE_IMAGE_COUNT,)),
        ("native_image_types", np.uint64, (NATIVE_IMAGE_COUNT,)),
        ("native_needs_video", np.uint8),
        # impressions per bid times 10^6 (qty.multiplier), 1,000,000 except for DOOH
        ("quantity_micros", np.int64),
        # how long after the bid its billing notice may arrive and still settle on time
        ("billing_window_ms", np.int64),
        # major << 32 | minor << 16 | patch, each at most 65,535; 0 = unknown
        ("os_version", np.uint64),
        # millionths of a degree, metres (0 = unsaid), PositionKind
        ("latitude_e6", np.int32),
        ("longitude_e6", np.int32),
        ("accuracy_m", np.int32),
        ("position_kind", np.uint8),
        # viewability metric of the imp in parts per million, 0 = unsaid
        ("viewability_ppm", np.int32),
        # codes of the languages a creative may be in; 0 ends the list, first 0 = any
        ("languages", np.uint64, (LANGUAGE_COUNT_MAX,)),
        # by FLOOR_FORMATS: floor per second of the creative in micros CPM, 0 = none; and a slice of
        # the code pool: triples of shortest ms, longest ms (0 = open), floor in micros CPM
        ("second_cpm_micros", np.int64, (2,)),
        ("duration_floor_first", np.int32, (2,)),
        ("duration_floor_count", np.int32, (2,)),
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
        # floors by duration, as in an opportunity
        ("second_cpm_micros", np.int64),
        ("duration_floor_first", np.int32),
        ("duration_floor_count", np.int32),
        # 1: the seller counts on a bid (deal.guar)
        ("is_guaranteed", np.uint8),
    ],
    align=True,
)


class Opportunities(NamedTuple):
    """A block of opportunities in order of arrival.

    Attributes:
        records: [N] of OPPORTUNITY_DTYPE.
        codes: [P] uint64, the pool that the list and duration floor slices point into.
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
