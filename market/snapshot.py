"""The snapshot: everything a decision needs to know about campaigns, immutable and versioned.

One file a version: a header, then structures of arrays, each 64-byte aligned, with a checksum over
all of it. The controller writes a temporary file and renames it; a worker maps it and checks magic,
layout and checksum before it serves. What changes between two snapshots (multipliers, pauses) is
not here but in ``market.control``.

Dimension names: L = line item rows, C = creatives, B = budgets, K = frequency caps, R = bitset
rows, W = 64-bit words of a bitset over line item rows, T = slots of the row table (a power of two),
M = currencies, V = context feature rows, E = embedding width of one head (pctr, pcvr).
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

from market.errors import Corrupt

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"LODESNAP"
LAYOUT_VERSION = 1
_PREFIX = struct.Struct("<8sIIQI")
"""Magic, layout version, snapshot version, whole length, header length."""
_CHECKSUM = struct.Struct("<I")
"""CRC-32 of everything else: the prefix before it, header and body after it."""
_HEADER_AT = _PREFIX.size + _CHECKSUM.size

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
        # one bit of market.campaign.MEDIA_TYPES
        ("media_type", np.uint64),
        # gamma posterior of its click lift over the model's prediction: shape and rate
        ("lift_shape", np.float64),
        ("lift_rate", np.float64),
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


class Table(enum.IntEnum):
    """Tables of bitset rows. 0..15 are ``market.opportunity.Dimension``; the rest are lists.

    For a dimension the row of a value holds the line items that accept it. For SEGMENT, CATEGORY
    and KEYWORD it holds those that ask for it, ``*_EXCLUDED`` those that refuse it, and
    ``any_rows`` those that ask for nothing. The others hold the line items that are or have it.
    """

    SEGMENT = 16
    CATEGORY = 17
    KEYWORD = 18
    SEGMENT_EXCLUDED = 19
    CATEGORY_EXCLUDED = 20
    KEYWORD_EXCLUDED = 21
    SEAT = 22
    AD_CATEGORY = 23
    ADVERTISER_DOMAIN = 24
    APP_BUNDLE = 25
    FORMAT = 26


TABLE_COUNT = 27


class SnapshotArrays(NamedTuple):
    """The arrays a decision reads. A tuple, so that kernels take it as one argument.

    Attributes:
        line_items: [L] of LINE_ITEM_DTYPE.
        creatives: [C] of CREATIVE_DTYPE, grouped by line item.
        budgets: [B] of BUDGET_DTYPE.
        caps: [K] of CAP_DTYPE, grouped by line item.
        deal_codes: [*] uint64, codes of deal ids, grouped by line item.
        rows: [R, W] uint64; bit i of a row: line item row i accepts (or has) this value.
        row_keys: [T] uint64, open addressing over ``hash_pair(Table, code)``; 0 = empty.
        row_values: [T] int32, the row of ``rows`` for that key.
        any_rows: [*] int32 by ``Table``: the row for a value that nobody names.
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
    rows: npt.NDArray[np.uint64]
    row_keys: npt.NDArray[np.uint64]
    row_values: npt.NDArray[np.int32]
    any_rows: npt.NDArray[np.int32]
    currencies: npt.NDArray[np.uint16]
    rates_micros: npt.NDArray[np.int64]
    context_vectors: npt.NDArray[np.float32]
    context_bias: npt.NDArray[np.float32]
    ad_vectors: npt.NDArray[np.float32]
    ad_bias: npt.NDArray[np.float32]
    calibration: npt.NDArray[np.float64]


class CreativeText(msgspec.Struct, frozen=True, gc=False):
    """What the bid response needs of a creative and no kernel does; same order as ``creatives``."""

    adm: str
    landing_url: str
    advertiser_domain: str
    category: str
    language: str
    image_url: str


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
