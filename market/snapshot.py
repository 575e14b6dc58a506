"""The snapshot: everything a decision needs to know about campaigns, immutable and versioned.

One file a version: a header, then structures of arrays, each 64-byte aligned, with a checksum over
all of it. The controller writes a temporary file and renames it; a worker maps it and checks magic,
layout and checksum before it serves. What changes between two snapshots (multipliers, pauses) is
not here but in ``market.control``.

Dimension names: L = line item rows, C = creatives, B = budgets, K = frequency caps, X = targeting
expressions, G = groups of 512 expressions, T = slots of the index (a power of two), S = stored
blocks of the index, M = currencies, V = context feature rows, E = embedding width of one head
(pctr, pcvr).
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from market.creative import NativeParts
from market.errors import Corrupt
from market.opportunity import NATIVE_DATA_COUNT, NATIVE_IMAGE_COUNT

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"LODESNAP"
LAYOUT_VERSION = 3
_PREFIX = struct.Struct("<8sIIQI")
"""Magic, layout version, snapshot version, whole length, header length."""
_CHECKSUM = struct.Struct("<I")
"""CRC-32 of everything else: the prefix before it, header and body after it."""
_HEADER_AT = _PREFIX.size + _CHECKSUM.size

RENDITION_COUNT_MAX = 6
"""Protocols that one creative can be rendered in."""

LINE_ITEM_DTYPE = np.dtype(
    [
        ("line_item_id", np.uint32),
        ("campaign_id", np.uint32),
        ("advertiser_id", np.uint32),
        # 0: a free row (its line item ended); rows never move while a lease on them is open
        ("is_used", np.uint8),
        # 0 max_conversions, 1 target_cpa, 2 target_roas
        ("goal", np.uint8),
        ("is_deal_only", np.uint8),
        ("account_currency", np.uint16),
        # what a conversion may cost or is worth, account currency; the factor T of the bid
        ("conversion_micros", np.int64),
        ("bid_cpm_micros_max", np.int64),
        ("start_at_ms", np.int64),
        ("end_at_ms", np.int64),
        # rows of budgets it draws on, -1 = none
        ("budget_rows", np.int32, (3,)),
        # slices of creatives, caps and deal_codes
        ("creative_first", np.int32),
        ("creative_count", np.int32),
        ("cap_first", np.int32),
        ("cap_count", np.int32),
        ("deal_first", np.int32),
        ("deal_count", np.int32),
        ("seat_code", np.uint64),
        # slice of areas: the device must be in one of them; none = anywhere
        ("area_first", np.int32),
        ("area_count", np.int32),
        # as os_version of an opportunity, both inclusive; 0, 0 = any
        ("os_version_min", np.uint64),
        ("os_version_max", np.uint64),
        # least viewability metric of the imp; 0 = any
        ("viewability_ppm_min", np.int32),
        # slice of domain_codes: the advertiser's domain and those above it
        ("domain_first", np.int32),
        ("domain_count", np.int32),
        # its targeting expression, -1 for a free row
        ("expression", np.int32),
    ],
    align=True,
)

AREA_DTYPE = np.dtype(
    [
        ("latitude_e6", np.int32),
        ("longitude_e6", np.int32),
        ("radius_m", np.int32),
        # 1: a position looked up from the IP address will do
        ("accepts_ip", np.uint8),
    ],
    align=True,
)

LANDSCAPE_POINTS = 32
"""Points of a price landscape."""

LANDSCAPE_DTYPE = np.dtype(
    [
        ("exchange", np.uint16),
        # the Format it was measured on, 0 = all of the exchange
        ("format", np.uint8),
        # ascending prices in micros of USD per thousand, and P(win | a bid of that price): a step
        # function from the left, never falling; unused points repeat the last one
        ("price_cpm_micros", np.int64, (LANDSCAPE_POINTS,)),
        ("win_probability", np.float64, (LANDSCAPE_POINTS,)),
    ],
    align=True,
)

CREATIVE_DTYPE = np.dtype(
    [
        ("creative_id", np.uint32),
        ("line_item_row", np.int32),
        # a single Format bit
        ("format", np.uint8),
        ("is_secure", np.uint8),
        # 1: still in cold start, chosen by a Thompson draw
        ("is_cold", np.uint8),
        ("protocol", np.uint8),
        # w << 16 | h; 0 = any
        ("size", np.uint32),
        ("duration_ms", np.int64),
        # bit k: AdCOM creative attribute k
        ("attributes", np.uint64),
        # one bit of market.creative.MEDIA_TYPES
        ("media_type", np.uint64),
        # row of its first rendition, and the protocol of each, the best first; 0 ends the list
        ("rendition_first", np.int32),
        ("protocols", np.uint8, (RENDITION_COUNT_MAX,)),
        # bit k set = it needs API framework k; it expands in direction k
        ("apis", np.uint64),
        ("expand_directions", np.uint8),
        ("banner_type", np.uint8),
        ("linearity", np.uint8),
        ("delivery", np.uint8),
        # kilobits per second, 0 = unknown
        ("bitrate_kbps", np.uint32),
        # when a viewer may skip it; only of meaning with attribute 16
        ("skip_after_ms", np.uint32),
        # native: characters of the title and of the data assets by type, 0 = it has none
        ("title_chars", np.uint16),
        ("data_chars", np.uint16, (NATIVE_DATA_COUNT,)),
        # native: size (w << 16 | h, 0 = none) and media type of icon and main image
        ("image_sizes", np.uint32, (NATIVE_IMAGE_COUNT,)),
        ("image_types", np.uint64, (NATIVE_IMAGE_COUNT,)),
        # gamma posterior of its click lift over the model's prediction: shape and rate
        ("lift_shape", np.float64),
        ("lift_rate", np.float64),
        # code of its language (ISO 639-1), 0 = none stated
        ("language_code", np.uint64),
    ],
    align=True,
)

BUDGET_DTYPE = np.dtype(
    [
        ("budget_id", np.uint64),
        ("limit_micros", np.int64),
        ("campaign_id", np.uint32),
        ("currency", np.uint16),
        # 0 lifetime, 1 daily
        ("is_daily", np.uint8),
        # a daily budget belongs to [start, end) of its day in the campaign's time zone
        ("start_at_ms", np.int64),
        ("end_at_ms", np.int64),
    ],
    align=True,
)

CAP_DTYPE = np.dtype(
    [
        # scope and its id as one code: users x scope x window name the counter
        ("scope_code", np.uint64),
        # -1: any creative of the line item; else only this creative row
        ("creative_row", np.int32),
        ("impressions_max", np.int32),
        ("period_ms", np.int64),
    ],
    align=True,
)


GROUP_SIZE = 512
"""Expressions in a group: one block of the index has a bit for each, a cache line in all."""
GROUP_WORDS = GROUP_SIZE // 64
GROUPS_MAX = 256

INDEX_SLOT_DTYPE = np.dtype(
    [
        # bidder.kernels_match.index_key(Table, code); 0 = empty
        ("key", np.uint64),
        # bit g: the value has a block of its own in group g; elsewhere its table's default holds
        ("present", np.uint64, (GROUPS_MAX // 64,)),
        # place of its first block; the others follow in the order of their groups
        ("first", np.int32),
        ("spare", np.uint32, (5,)),
    ],
    align=True,
)
"""One value of the index: its key and where its bits are, side by side on one cache line."""
assert INDEX_SLOT_DTYPE.itemsize == 64


class Table(enum.IntEnum):
    """Tables of the index. Below SEGMENT they are ``market.opportunity.Dimension``; then lists.

    For a dimension the bits of a value are the expressions that accept it. For what may be targeted
    in lists (SEGMENT .. SITE) they are those that ask for it, for ``*_EXCLUDED`` those that refuse
    it. For the others they are the expressions that are it or have it; AD_CATEGORY also has ``6:``
    for those categorised in taxonomy 6, and ``6:483`` for a category.
    """

    SEGMENT = 32
    CATEGORY = 33
    KEYWORD = 34
    USER_KEYWORD = 35
    EID_SOURCE = 36
    SITE = 37
    SEGMENT_EXCLUDED = 38
    CATEGORY_EXCLUDED = 39
    KEYWORD_EXCLUDED = 40
    USER_KEYWORD_EXCLUDED = 41
    EID_SOURCE_EXCLUDED = 42
    SITE_EXCLUDED = 43
    SEAT = 44
    AD_CATEGORY = 45
    ADVERTISER_DOMAIN = 46
    APP_BUNDLE = 47
    FORMAT = 48
    """A format bit; of a banner also its size (``size_code``)."""
    DEAL = 49


TABLE_COUNT = 50


def size_code(size: int) -> int:
    """Returns the code in FORMAT of banners of one size, w << 16 | h."""
    return SIZE_CODE | size


SIZE_CODE = 1 << 40


class SnapshotArrays(NamedTuple):
    """The arrays a decision reads. A tuple, so that kernels take it as one argument.

    Attributes:
        line_items: [L] of LINE_ITEM_DTYPE.
        creatives: [C] of CREATIVE_DTYPE, grouped by line item.
        budgets: [B] of BUDGET_DTYPE.
        caps: [K] of CAP_DTYPE, grouped by line item.
        deal_codes: [*] uint64, codes of deal ids, grouped by line item.
        domain_codes: [*] uint64, codes of the advertisers' domains, grouped by campaign.
        areas: [*] of AREA_DTYPE, grouped by line item.
        landscape: [*] of LANDSCAPE_DTYPE, at most one per (exchange, format).
        index_slots: [T] of INDEX_SLOT_DTYPE, open addressing: where the bits of a value are.
        index_blocks: [S, GROUP_WORDS] uint64; bit i of a block of group g: expression 512 g + i.
        index_defaults: [G, TABLE_COUNT, GROUP_WORDS] uint64 by ``Table``: for a dimension who takes
            a value that nobody names, for SEGMENT .. SITE who asks for nothing, else nobody.
        index_named: [TABLE_COUNT] uint8, 1 where some expression names or asks for a value.
        expression_first: [X + 1] int32, slices of expression_rows; expressions lie in the order of
            what they could be worth when the snapshot was made, highest first.
        expression_rows: [*] int32, rows of line items, grouped by expression.
        currencies: [M] uint16, ISO 4217 numbers.
        rates_micros: [M, M] int64; [a, b] = units of account currency a per unit of b, x 10^6.
        context_vectors: [V, 2E] float32, first E columns pctr, the others pcvr.
        context_bias: [V, 2] float32.
        ad_vectors: [C, 2E] float32: sum of the creative's ad field embeddings.
        ad_bias: [C, 2] float32: linear and pairwise terms of the ad fields, and the model's bias.
        calibration: [2, 2] float64: Platt slope and intercept of pctr and pcvr.
    """

    line_items: npt.NDArray[np.void]
    creatives: npt.NDArray[np.void]
    budgets: npt.NDArray[np.void]
    caps: npt.NDArray[np.void]
    deal_codes: npt.NDArray[np.uint64]
    domain_codes: npt.NDArray[np.uint64]
    areas: npt.NDArray[np.void]
    landscape: npt.NDArray[np.void]
    index_slots: npt.NDArray[np.void]
    index_blocks: npt.NDArray[np.uint64]
    index_defaults: npt.NDArray[np.uint64]
    index_named: npt.NDArray[np.uint8]
    expression_first: npt.NDArray[np.int32]
    expression_rows: npt.NDArray[np.int32]
    currencies: npt.NDArray[np.uint16]
    rates_micros: npt.NDArray[np.int64]
    context_vectors: npt.NDArray[np.float32]
    context_bias: npt.NDArray[np.float32]
    ad_vectors: npt.NDArray[np.float32]
    ad_bias: npt.NDArray[np.float32]
    calibration: npt.NDArray[np.float64]


class CreativeText(msgspec.Struct, frozen=True, gc=False):
    """What the bid response needs of a creative and no kernel does; same order as ``creatives``.

    Attributes:
        adms: markup of each rendition, in the order of the column ``protocols``; of a native ad
            with parts the VAST of its video, or "".
        landing_url: where a click leads.
        advertiser_domain: ``adomain``.
        category: ``cat`` in the first taxonomy.
        language: ISO 639-1, "" if none.
        image_url: a picture of the ad for people who check it, "" if there is none.
        app_bundle: of the advertised app, "" if none.
        native: the parts of a native ad, None if its markup is finished.
        categories_by_taxonomy: ``cat`` in other taxonomies, by their number (``cattax``).
    """

    adms: tuple[str, ...]
    landing_url: str
    advertiser_domain: str
    category: str
    language: str
    image_url: str
    app_bundle: str = ""
    native: NativeParts | None = None
    categories_by_taxonomy: dict[int, tuple[str, ...]] = {}


class SnapshotHead(msgspec.Struct, frozen=True):
    """What a snapshot says of itself.

    Attributes:
        version: counts snapshots, the epoch that workers compare.
        model_version: of the recommendation model whose tables are inside.
        policy_version: of the controller's tick that wrote it.
        intent_version: of the campaign store it was made from.
        created_at_ms: episode or wall clock.
        seed: of the decision's keyed draws (creative choice, no-bid sampling).
        creatives: texts, [C].
        seats: text of every seat code in use.
    """

    version: int
    model_version: int
    policy_version: int
    intent_version: int
    created_at_ms: int
    seed: int
    creatives: tuple[CreativeText, ...]
    seats: dict[int, str]


class Snapshot(NamedTuple):
    """A mapped snapshot: its head and its arrays (read-only views of the file)."""

    head: SnapshotHead
    arrays: SnapshotArrays


class _Section(msgspec.Struct, frozen=True, array_like=True):
    name: str
    descr: str
    shape: tuple[int, ...]
    offset: int
    byte_count: int


class _Header(msgspec.Struct, frozen=True):
    head: SnapshotHead
    sections: tuple[_Section, ...]


_DTYPES: dict[str, np.dtype[np.void]] = {
    "line_items": LINE_ITEM_DTYPE,
    "creatives": CREATIVE_DTYPE,
    "budgets": BUDGET_DTYPE,
    "caps": CAP_DTYPE,
    "index_slots": INDEX_SLOT_DTYPE,
    "areas": AREA_DTYPE,
    "landscape": LANDSCAPE_DTYPE,
}


def snapshot_path(folder: Path, version: int) -> Path:
    """Returns where the snapshot of this version lies in ``folder``."""
    return folder / f"snapshot-{version:010d}.bin"


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Writes a snapshot so that a reader sees all of it or none (temporary file, then rename)."""
    sections: list[_Section] = []
    offset = 0
    for name, array in zip(SnapshotArrays._fields, snapshot.arrays, strict=True):
        descr = "" if name in _DTYPES else array.dtype.str
        sections.append(_Section(name, descr, array.shape, offset, array.nbytes))
        offset = -(-(offset + array.nbytes) // 64) * 64
    header = msgspec.msgpack.encode(_Header(snapshot.head, tuple(sections)))
    body_at = -(-(_HEADER_AT + len(header)) // 64) * 64
    body = bytearray(body_at + offset)
    body[_HEADER_AT : _HEADER_AT + len(header)] = header
    for section, array in zip(sections, snapshot.arrays, strict=True):
        at = body_at + section.offset
        body[at : at + section.byte_count] = np.ascontiguousarray(array).tobytes()
    _PREFIX.pack_into(
        body, 0, _MAGIC, LAYOUT_VERSION, snapshot.head.version, len(body), len(header)
    )
    _CHECKSUM.pack_into(body, _PREFIX.size, _checksum(memoryview(body)))
    temporary = path.with_suffix(f".tmp{os.getpid()}")
    temporary.write_bytes(body)
    temporary.rename(path)


def read_snapshot(path: Path) -> Snapshot:
    """Returns the snapshot in ``path``, mapped and checked.

    Raises:
        Corrupt: it is missing, or magic, layout, length or checksum are wrong.
    """
    try:
        with path.open("rb") as file:
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise Corrupt(f"snapshot {path.name}: {error}; {_CURE}") from error
    if len(view) < _HEADER_AT:
        raise Corrupt(f"snapshot {path.name}: {len(view)} bytes is no header; {_CURE}")
    magic, layout, _, length, header_length = _PREFIX.unpack_from(view, 0)
    if magic != _MAGIC or layout != LAYOUT_VERSION:
        raise Corrupt(
            f"snapshot {path.name}: magic {magic!r} layout {layout}; this build reads "
            f"{_MAGIC!r} layout {LAYOUT_VERSION}; {_CURE}"
        )
    (checksum,) = _CHECKSUM.unpack_from(view, _PREFIX.size)
    if length != len(view) or _checksum(memoryview(view)) != checksum:
        raise Corrupt(f"snapshot {path.name}: length or checksum is wrong; {_CURE}")
    try:
        header = msgspec.msgpack.decode(
            memoryview(view)[_HEADER_AT : _HEADER_AT + header_length], type=_Header
        )
    except (UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise Corrupt(f"snapshot {path.name}: {error}; {_CURE}") from error
    body_at = -(-(_HEADER_AT + header_length) // 64) * 64
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for section in header.sections:
        dtype = _DTYPES.get(section.name) or np.dtype(section.descr)
        count = section.byte_count // dtype.itemsize
        arrays[section.name] = np.frombuffer(view, dtype, count, body_at + section.offset).reshape(
            section.shape
        )
    return Snapshot(header.head, SnapshotArrays(**arrays))  # pyright: ignore[reportArgumentType]


def _checksum(file: memoryview) -> int:
    return zlib.crc32(file[_HEADER_AT:], zlib.crc32(file[: _PREFIX.size]))


_CURE = "delete it and restart the controller, which writes a new one from the campaign store"
