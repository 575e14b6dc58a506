"""Which field of which OpenRTB object the reader takes, how, and where to: the reader's grammar.

One entry a field; `kernels_read` follows the table that `key_table` makes of them and knows no
field by name. A field of the default path's Structs (`market.openrtb`) that has no entry and is not
in `IGNORED` makes the reader bail where it is sent, so a field that the default path begins to obey
is never overlooked; keys that no Struct has are skipped, as the default path does.

What this file does not do: say what values mean (`kernels_offer`).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from bidder.native.cells import GROUP_COUNT, Cell, DealCell, ImpCell
from bidder.native.words import KEY_SLOTS, word_table
from market import openrtb
from market.opportunity import Dimension

if TYPE_CHECKING:
    from collections.abc import Mapping

    import msgspec
    import numpy.typing as npt


class Action(enum.IntEnum):
    """How the value of a field is read. ``null`` is taken as absent by all of them but ID."""

    SKIP = 0
    """Checked to be JSON; of use as part of a memo key (`Group`)."""
    UNREAD = 1
    """Bails: the default path obeys the field and the reader does not know it."""
    OBJECT = 2
    """Its fields are read; the place, if any, becomes 1."""
    OBJECTS = 3
    """An array of objects, whose fields are read; the place, if any, becomes their number."""
    INTEGER = 4
    """The place becomes the integer."""
    NUMBER = 5
    """Two places: mantissa, and power of ten."""
    CODE = 6
    """The place becomes the code of the text (``market.chance.code_of``), 0 for empty text."""
    NUMBER_CODE = 7
    """The place becomes the code of the integer's digits."""
    PRIMARY_CODE = 8
    """The place becomes the code of a language tag's first part, 0 for none."""
    CODES = 9
    """An array of texts. `LIST_CELLS` places: first and count of the staged codes, number of
    elements, and where the array begins."""
    ONE_MORE = 10
    """A text whose code is added to the list at the place, over several objects."""
    KEYWORDS = 11
    """Comma separated text; places as CODES."""
    PRIMARY_CODES = 12
    """An array of language tags; places as CODES, each code once."""
    NAME = 13
    """Three places: as CODE, then where in the body the ASCII text lies."""
    SPAN = 14
    """Two places: where in the body the ASCII text lies, without quotes. For ids of users."""
    ID = 15
    """Two places: the same, for text that must be there, has no escapes and is not empty."""
    CURRENCY = 16
    """The place becomes the ISO 4217 number, 0 where unknown."""
    CURRENCIES = 17
    """An array of currencies: ``1 + CURRENCY_COUNT_MAX`` places, how many were named, numbers."""


class Group(enum.IntEnum):
    """Keys of the memo tables: the raw tokens of their fields are hashed together.

    What a table remembers under a key is worked out by the default path's own functions
    (`bidder.native.memo`), so that rules are written once, in Python.
    """

    NONE = 0
    PRIVACY = 1
    """Consent signals: what may be used of the user (``bidder.privacy``)."""
    SLOT = 2
    """An imp's formats: all columns of a record that depend on nothing else (``bidder.slot``)."""
    AGENT = 3
    """Operating system, its version, browser (``bidder.context``)."""
    SUPPLY = 4
    """The hands a request came through (``bidder.supply_chain``)."""


assert len(Group) == GROUP_COUNT


class Kind(enum.IntEnum):
    """The objects that are read; one OpenRTB object at different places may be several kinds."""

    REQUEST = 0
    IMP = 1
    BANNER = 2
    VIDEO = 3
    AUDIO = 4
    NATIVE = 5
    PMP = 6
    DEAL = 7
    SITE = 8
    APP = 9
    DOOH = 10
    PUBLISHER = 11
    CONTENT = 12
    DEVICE = 13
    GEO = 14
    USER = 15
    USER_EXT = 16
    DATA = 17
    SEGMENT = 18
    EID = 19
    EXT_EID = 20
    REGS = 21
    REGS_EXT = 22
    SOURCE = 23
    SOURCE_EXT = 24


KIND_COUNT: Final = len(Kind)


class Entry(NamedTuple):
    """What becomes of one field."""

    action: Action
    place: int = -1
    """First cell, from the first cell of the object's row; -1: none."""
    kind: Kind = Kind.REQUEST
    """Of the object or the objects in the field."""
    group: Group = Group.NONE
    """The memo key that the raw token becomes a part of."""


_UNREAD: Final = Entry(Action.UNREAD)
_PRIVACY: Final = Entry(Action.SKIP, group=Group.PRIVACY)
_SLOT: Final = Entry(Action.SKIP, group=Group.SLOT)
_AGENT: Final = Entry(Action.SKIP, group=Group.AGENT)
_SUPPLY: Final = Entry(Action.SKIP, group=Group.SUPPLY)


def _code(dimension: Dimension) -> Entry:
    return Entry(Action.CODE, Cell.DIMENSIONS + dimension)


def _number_code(dimension: Dimension) -> Entry:
    return Entry(Action.NUMBER_CODE, Cell.DIMENSIONS + dimension)


def _codes(place: Cell) -> Entry:
    return Entry(Action.CODES, place)


def _object(kind: Kind, place: int = -1, group: Group = Group.NONE) -> Entry:
    return Entry(Action.OBJECT, place, kind, group)


def _slot_fields(struct: type[msgspec.Struct], *ignored: str) -> dict[str, Entry]:
    """Every field of a Struct as part of the slot's key: none of its rules is known here."""
    return {name: _SLOT for name in struct.__struct_fields__ if name not in ignored}


_DISTRIBUTION: Final = {
    "domain": Entry(Action.NAME, Cell.DOMAIN, group=Group.SUPPLY),
    "keywords": Entry(Action.KEYWORDS, Cell.CHANNEL_KEYWORDS),
    "publisher": _object(Kind.PUBLISHER),
    "content": _object(Kind.CONTENT),
}
_DIGITAL: Final = {
    **_DISTRIBUTION,
    "cattax": Entry(Action.INTEGER, Cell.CHANNEL_TAXONOMY),
    "cat": _codes(Cell.CHANNEL_CATEGORIES),
    "sectioncat": _codes(Cell.SECTION_CATEGORIES),
    "pagecat": _codes(Cell.PAGE_CATEGORIES),
    "kwarray": _codes(Cell.CHANNEL_WORDS),
    "inventorypartnerdomain": _SUPPLY,
}

STRUCTS: Final[Mapping[Kind, type[msgspec.Struct]]] = {
    Kind.REQUEST: openrtb.BidRequest,
    Kind.IMP: openrtb.Imp,
    Kind.BANNER: openrtb.Banner,
    Kind.VIDEO: openrtb.Video,
    Kind.AUDIO: openrtb.Audio,
    Kind.NATIVE: openrtb.Native,
    Kind.PMP: openrtb.Pmp,
    Kind.DEAL: openrtb.Deal,
    Kind.SITE: openrtb.Site,
    Kind.APP: openrtb.App,
    Kind.DOOH: openrtb.Dooh,
    Kind.PUBLISHER: openrtb.Publisher,
    Kind.CONTENT: openrtb.Content,
    Kind.DEVICE: openrtb.Device,
    Kind.GEO: openrtb.Geo,
    Kind.USER: openrtb.User,
    Kind.USER_EXT: openrtb.UserExt,
    Kind.DATA: openrtb.Data,
    Kind.SEGMENT: openrtb.Segment,
    Kind.EID: openrtb.Eid,
    Kind.EXT_EID: openrtb.Eid,
    Kind.REGS: openrtb.Regs,
    Kind.REGS_EXT: openrtb.RegsExt,
    Kind.SOURCE: openrtb.Source,
    Kind.SOURCE_EXT: openrtb.SourceExt,
}

FIELDS_READ: Final[Mapping[Kind, Mapping[str, Entry]]] = {
    Kind.REQUEST: {
        "id": Entry(Action.ID, Cell.ID),
        "imp": Entry(Action.OBJECTS, kind=Kind.IMP),
        "site": _object(Kind.SITE, Cell.HAS_SITE),
        "app": _object(Kind.APP, Cell.HAS_APP),
        "dooh": _object(Kind.DOOH, Cell.HAS_DOOH),
        "device": _object(Kind.DEVICE, Cell.HAS_DEVICE),
        "user": _object(Kind.USER, Cell.HAS_USER),
        "test": Entry(Action.INTEGER, Cell.TEST),
        "at": Entry(Action.INTEGER, Cell.AUCTION_TYPE),
        "tmax": Entry(Action.INTEGER, Cell.TMAX),
        "wseat": _codes(Cell.SEATS_ALLOWED),
        "bseat": _codes(Cell.SEATS_BLOCKED),
        "cur": Entry(Action.CURRENCIES, Cell.CURRENCIES),
        "wlang": Entry(Action.PRIMARY_CODES, Cell.LANGUAGES),
        "wlangb": Entry(Action.PRIMARY_CODES, Cell.LANGUAGE_TAGS),
        "acat": _codes(Cell.CATEGORIES_ALLOWED),
        "bcat": _codes(Cell.CATEGORIES_BLOCKED),
        "cattax": Entry(Action.INTEGER, Cell.CATEGORY_TAXONOMY),
        "badv": _codes(Cell.ADVERTISERS_BLOCKED),
        "bapp": _codes(Cell.APPS_BLOCKED),
        "source": _object(Kind.SOURCE),
        "regs": _object(Kind.REGS),
    },
    Kind.IMP: {
        "id": Entry(Action.ID, ImpCell.ID),
        "banner": _object(Kind.BANNER, group=Group.SLOT),
        "video": _object(Kind.VIDEO, group=Group.SLOT),
        "audio": _object(Kind.AUDIO, group=Group.SLOT),
        "native": _object(Kind.NATIVE, group=Group.SLOT),
        "pmp": _object(Kind.PMP),
        "tagid": Entry(Action.CODE, ImpCell.TAG),
        "bidfloor": Entry(Action.NUMBER, ImpCell.FLOOR),
        "bidfloorcur": Entry(Action.CURRENCY, ImpCell.FLOOR_CURRENCY),
        "secure": Entry(Action.INTEGER, ImpCell.IS_SECURE),
        "metric": _SLOT,
        "instl": _SLOT,
        "rwdd": _SLOT,
        "exp": _SLOT,
        "qty": _SLOT,
    },
    Kind.BANNER: _slot_fields(openrtb.Banner, "id", "ext"),
    Kind.VIDEO: _slot_fields(openrtb.Video, "ext"),
    Kind.AUDIO: _slot_fields(openrtb.Audio, "ext"),
    Kind.NATIVE: _slot_fields(openrtb.Native, "ext"),
    Kind.PMP: {
        "private_auction": Entry(Action.INTEGER, ImpCell.IS_PRIVATE),
        "deals": Entry(Action.OBJECTS, kind=Kind.DEAL),
    },
    Kind.DEAL: {
        "id": Entry(Action.ID, DealCell.ID),
        "bidfloor": Entry(Action.NUMBER, DealCell.FLOOR),
        "bidfloorcur": Entry(Action.CURRENCY, DealCell.FLOOR_CURRENCY),
        "at": Entry(Action.INTEGER, DealCell.AUCTION_TYPE),
        "guar": Entry(Action.INTEGER, DealCell.IS_GUARANTEED),
        "wseat": Entry(Action.CODES, DealCell.SEATS),
        "wadomain": Entry(Action.CODES, DealCell.DOMAINS),
        # Rare, and they put triples of numbers into the pool of codes.
        "mincpmpersec": _UNREAD,
        "durfloors": _UNREAD,
    },
    Kind.SITE: _DIGITAL,
    Kind.APP: {**_DIGITAL, "bundle": Entry(Action.CODE, Cell.BUNDLE, group=Group.SUPPLY)},
    Kind.DOOH: _DISTRIBUTION,
    Kind.PUBLISHER: {
        "id": Entry(Action.CODE, Cell.PUBLISHER, group=Group.SUPPLY),
        "domain": _SUPPLY,
    },
    Kind.CONTENT: {
        "series": _code(Dimension.CONTENT_SERIES),
        "cattax": Entry(Action.INTEGER, Cell.CONTENT_TAXONOMY),
        "cat": _codes(Cell.CONTENT_CATEGORIES),
        "keywords": Entry(Action.KEYWORDS, Cell.CONTENT_KEYWORDS),
        "kwarray": _codes(Cell.CONTENT_WORDS),
        "livestream": Entry(Action.INTEGER, Cell.LIVESTREAM),
        "language": _code(Dimension.CONTENT_LANGUAGE),
        "langb": Entry(Action.PRIMARY_CODE, Cell.CONTENT_LANGUAGE_TAG),
    },
    Kind.DEVICE: {
        "geo": _object(Kind.GEO, Cell.HAS_GEO),
        "dnt": _PRIVACY,
        "lmt": _PRIVACY,
        "ua": _AGENT,
        "sua": _AGENT,
        "devicetype": _number_code(Dimension.DEVICE_TYPE),
        "make": _code(Dimension.MAKE),
        "model": _code(Dimension.MODEL),
        "os": _AGENT,
        "osv": _AGENT,
        "language": _code(Dimension.LANGUAGE),
        "langb": Entry(Action.PRIMARY_CODE, Cell.LANGUAGE_TAG),
        "carrier": _code(Dimension.CARRIER),
        "connectiontype": _number_code(Dimension.CONNECTION),
        "ifa": Entry(Action.SPAN, Cell.DEVICE_ID),
    },
    Kind.GEO: {
        "lat": Entry(Action.NUMBER, Cell.LATITUDE),
        "lon": Entry(Action.NUMBER, Cell.LONGITUDE),
        "type": Entry(Action.INTEGER, Cell.GEO_TYPE),
        "accuracy": Entry(Action.INTEGER, Cell.ACCURACY),
        "ipservice": Entry(Action.INTEGER, Cell.IP_SERVICE),
        "country": _code(Dimension.COUNTRY),
        "region": _code(Dimension.REGION),
        "metro": _code(Dimension.METRO),
        "city": _code(Dimension.CITY),
        "zip": _code(Dimension.ZIP),
        "utcoffset": Entry(Action.INTEGER, Cell.UTC_OFFSET),
    },
    Kind.USER: {
        "id": Entry(Action.SPAN, Cell.USER_ID),
        "buyeruid": Entry(Action.SPAN, Cell.BUYER_ID),
        "yob": Entry(Action.INTEGER, Cell.BIRTH_YEAR),
        "gender": _code(Dimension.GENDER),
        "keywords": Entry(Action.KEYWORDS, Cell.USER_KEYWORDS),
        "kwarray": _codes(Cell.USER_WORDS),
        "data": Entry(Action.OBJECTS, kind=Kind.DATA),
        "eids": Entry(Action.OBJECTS, Cell.EID_COUNT, Kind.EID),
        "consent": _PRIVACY,
        "ext": _object(Kind.USER_EXT),
    },
    Kind.USER_EXT: {
        "consent": _PRIVACY,
        "eids": Entry(Action.OBJECTS, Cell.EXT_EID_COUNT, Kind.EXT_EID),
    },
    Kind.DATA: {"segment": Entry(Action.OBJECTS, kind=Kind.SEGMENT)},
    Kind.SEGMENT: {"id": Entry(Action.ONE_MORE, Cell.SEGMENTS)},
    Kind.EID: {"source": Entry(Action.ONE_MORE, Cell.EID_SOURCES)},
    Kind.EXT_EID: {"source": Entry(Action.ONE_MORE, Cell.EXT_EID_SOURCES)},
    Kind.REGS: {
        "coppa": _PRIVACY,
        "gdpr": _PRIVACY,
        "us_privacy": _PRIVACY,
        "gpp": _PRIVACY,
        "gpp_sid": _PRIVACY,
        "ext": _object(Kind.REGS_EXT),
    },
    Kind.REGS_EXT: {
        "gdpr": _PRIVACY,
        "us_privacy": _PRIVACY,
        "gpp": _PRIVACY,
        "gpp_sid": _PRIVACY,
    },
    Kind.SOURCE: {
        "pchain": _SUPPLY,
        "schain": _SUPPLY,
        "ext": _object(Kind.SOURCE_EXT),
    },
    Kind.SOURCE_EXT: {"schain": _SUPPLY},
}

IGNORED: Final[Mapping[Kind, frozenset[str]]] = {
    Kind.REQUEST: frozenset({"allimps", "ext"}),
    Kind.IMP: frozenset({
        "displaymanager", "displaymanagerver", "clickbrowser", "iframebuster", "ssai", "dt",
        "refresh",
        "ext",
    }),
    Kind.BANNER: frozenset({"id", "ext"}),
    Kind.VIDEO: frozenset({"ext"}),
    Kind.AUDIO: frozenset({"ext"}),
    Kind.NATIVE: frozenset({"ext"}),
    Kind.PMP: frozenset({"ext"}),
    Kind.DEAL: frozenset({"ext"}),
    Kind.SITE: frozenset({
        "id", "name", "ext", "privacypolicy", "page", "ref", "search", "mobile",
    }),
    Kind.APP: frozenset({"id", "name", "ext", "privacypolicy", "storeurl", "ver", "paid"}),
    Kind.DOOH: frozenset({"id", "name", "ext", "venuetype", "venuetypetax"}),
    Kind.PUBLISHER: frozenset({"name", "cattax", "cat", "ext"}),
    Kind.CONTENT: frozenset({
        "id", "episode", "title", "season", "artist", "genre", "gtax", "genres", "album", "isrc",
        "producer", "url", "prodq", "videoquality", "context", "contentrating", "userrating",
        "qagmediarating", "sourcerelationship", "len", "embeddable", "data", "network", "channel",
        "realtime", "firstbroadcast", "ext",
    }),
    Kind.DEVICE: frozenset({
        "ip", "ipv6", "hwv", "h", "w", "ppi", "pxratio", "js", "geofetch", "flashver", "mccmnc",
        "didsha1", "didmd5", "dpidsha1", "dpidmd5", "macsha1", "macmd5", "ext",
    }),
    Kind.GEO: frozenset({"lastfix", "regionfips104", "ext"}),
    Kind.USER: frozenset({"customdata", "geo"}),
    Kind.USER_EXT: frozenset(),
    Kind.DATA: frozenset({"id", "name", "cids", "ext"}),
    Kind.SEGMENT: frozenset({"name", "value", "ext"}),
    Kind.EID: frozenset({"inserter", "matcher", "mm", "uids", "ext"}),
    Kind.EXT_EID: frozenset({"inserter", "matcher", "mm", "uids", "ext"}),
    Kind.REGS: frozenset(),
    Kind.REGS_EXT: frozenset(),
    Kind.SOURCE: frozenset({"fd", "tid"}),
    Kind.SOURCE_EXT: frozenset({"omidpn", "omidpv"}),
}  # fmt: skip
"""Fields of the Structs that change nothing in the default path's offer. A test sends each of them
and looks: one that begins to count must move up."""

SLOT_COLUMNS: Final = frozenset({
    "formats", "sizes", "size_count", "duration_ms_min", "duration_ms_max", "attributes_blocked",
    "protocols", "media_types", "apis", "ratios", "ratio_widths_min", "durations_ms",
    "bitrate_kbps_min", "bitrate_kbps_max", "skippable_ms_min", "skip_after_ms_min", "player_size",
    "deliveries", "linearity", "banner_types_blocked", "expand_directions", "native_title_chars",
    "native_data_chars", "native_images_required", "native_width_min", "native_width_max",
    "native_height_min", "native_height_max", "native_image_types", "native_needs_video",
    "quantity_micros", "billing_window_ms", "viewability_ppm", "second_cpm_micros",
    "duration_floor_first", "duration_floor_count",
})  # fmt: skip
"""Columns of an opportunity that follow from the slot and the exchange alone: taken from the record
that the default path made of the same slot."""

SLOT_DIMENSIONS: Final = (
    Dimension.POSITION, Dimension.VIDEO_PLACEMENT, Dimension.INTERSTITIAL, Dimension.REWARDED,
)  # fmt: skip
"""Dimensions of which the same is true."""

REQUEST_COLUMNS: Final = frozenset({
    "key_hi", "key_lo", "arrival_ms", "user_key", "exchange", "dimensions", "list_first",
    "list_count", "deal_first", "deal_count", "is_private", "auction_type", "is_test", "is_secure",
    "floor_cpm_micros", "floor_currency", "currencies", "os_version", "latitude_e6",
    "longitude_e6", "accuracy_m", "position_kind", "languages",
})  # fmt: skip
"""Columns that are written for every request (`kernels_offer`). A column in neither set fails a
test."""

_ACTION_SHIFT: Final = 8
_GROUP_SHIFT: Final = 16
_KIND_SHIFT: Final = 24
_PLACE_SHIFT: Final = 32


def packed(entry: Entry, number: int) -> int:
    """Returns an entry as the integer that the kernels take apart (`kernels_key`).

    From the lowest bit: 8 bits number within the kind, 8 action, 8 group, 8 kind, 16 place + 1.
    """
    return (
        number
        | entry.action << _ACTION_SHIFT
        | entry.group << _GROUP_SHIFT
        | entry.kind << _KIND_SHIFT
        | (entry.place + 1) << _PLACE_SHIFT
    )


def entries_of(kind: Kind) -> dict[str, Entry]:
    """Returns the entries of an object: those that are read, and UNREAD for all not ignored."""
    read = FIELDS_READ[kind]
    names = [name for name in STRUCTS[kind].__struct_fields__ if name not in IGNORED[kind]]
    return {name: read.get(name, _UNREAD) for name in names}


def _key_tables() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    multipliers = np.zeros(KIND_COUNT, np.uint64)
    tables = np.zeros((KIND_COUNT, KEY_SLOTS, 4), np.uint64)
    for kind in Kind:
        # Numbers from 1: an entry that is 0 is no entry.
        numbered = enumerate(entries_of(kind).items(), 1)
        values = {name: packed(entry, number) for number, (name, entry) in numbered}
        assert len(values) < 64, kind
        multipliers[kind], tables[kind] = word_table(values)
    return multipliers, tables


KEY_MULTIPLIERS, KEY_TABLES = _key_tables()
"""[KIND_COUNT] uint64 and [KIND_COUNT, KEY_SLOTS, 4] uint64: per kind the perfect hash of its keys,
rows of three words and the packed entry."""
