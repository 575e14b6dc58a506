"""Matching as machine code: which targeting expressions an opportunity satisfies.

An inverted index (``bidder.index``): for every (table, value) that some expression names there are
bits over expressions, in blocks of 512; an opportunity looks its values up once and then ANDs, for
each group of 512 expressions that is worth it, one block per value.
"""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bidder.kernels_bundle import Kind, opened
from market.decision import LIST_DETAIL, NoBidReason
from market.kernel import bare_kernel as kernel
from market.opportunity import DIMENSION_COUNT, FORMAT_COUNT, CodeList
from market.snapshot import GROUP_WORDS, SIZE_CODE, Table

if TYPE_CHECKING:
    import numpy.typing as npt

    from bidder.work import Found
    from market.snapshot import SnapshotArrays


Record: TypeAlias = Any
"""One record of a structured array (``np.void``): numpy's stubs take its fields for arrays."""

_U0 = np.uint64(0)
_U1 = np.uint64(1)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ODD = np.uint64(0xD1342543DE82EF95)
_PAIRS = np.uint64(0x5555555555555555)
_QUADS = np.uint64(0x3333333333333333)
_BYTES = np.uint64(0x0F0F0F0F0F0F0F0F)
_ONES = np.uint64(0x0101010101010101)
_TABLE_FORMAT = int(Table.FORMAT)
_TABLE_DEAL = int(Table.DEAL)
_SIZE_CODE = np.uint64(SIZE_CODE)

R_FORMAT = int(NoBidReason.FORMAT_NOT_SERVED)
R_DEAL = int(NoBidReason.DEAL_REQUIRED)
R_DIMENSION = int(NoBidReason.TARGETING_DIMENSION)

# Exchange rules over lists: (list, table, reason, 0 = must have one of them, 1 = must have none).
_RULES = np.array(
    [
        [CodeList.SEAT_ALLOWED, Table.SEAT, NoBidReason.SEAT_NOT_ALLOWED, 0],
        [CodeList.SEAT_BLOCKED, Table.SEAT, NoBidReason.SEAT_BLOCKED, 1],
        [CodeList.CATEGORY_ALLOWED, Table.AD_CATEGORY, NoBidReason.CATEGORY_NOT_ALLOWED, 0],
        [CodeList.TAXONOMY, Table.AD_CATEGORY, NoBidReason.CATEGORY_TAXONOMY, 0],
        [CodeList.CATEGORY_BLOCKED, Table.AD_CATEGORY, NoBidReason.CATEGORY_BLOCKED, 1],
        [CodeList.ADVERTISER_BLOCKED, Table.ADVERTISER_DOMAIN, NoBidReason.ADVERTISER_BLOCKED, 1],
        [CodeList.APP_BLOCKED, Table.APP_BUNDLE, NoBidReason.APP_BLOCKED, 1],
    ],
    np.int64,
)
# What a line item may target in lists: (list, asks, refuses, reason, detail). In the order of the
# reasons' ranks, then of the details, so that what left nobody is the furthest check.
_AUDIENCE = np.array(
    [
        [
            CodeList.SITE, Table.SITE, Table.SITE_EXCLUDED,
            R_DIMENSION, LIST_DETAIL + CodeList.SITE,
        ],
        [
            CodeList.SEGMENT, Table.SEGMENT, Table.SEGMENT_EXCLUDED,
            NoBidReason.TARGETING_SEGMENT, 0,
        ],
        [
            CodeList.EID_SOURCE, Table.EID_SOURCE, Table.EID_SOURCE_EXCLUDED,
            NoBidReason.TARGETING_SEGMENT, LIST_DETAIL + CodeList.EID_SOURCE,
        ],
        [
            CodeList.CATEGORY, Table.CATEGORY, Table.CATEGORY_EXCLUDED,
            NoBidReason.TARGETING_CATEGORY, 0,
        ],
        [
            CodeList.KEYWORD, Table.KEYWORD, Table.KEYWORD_EXCLUDED,
            NoBidReason.TARGETING_KEYWORD, 0,
        ],
        [
            CodeList.USER_KEYWORD, Table.USER_KEYWORD, Table.USER_KEYWORD_EXCLUDED,
            NoBidReason.TARGETING_KEYWORD, LIST_DETAIL + CodeList.USER_KEYWORD,
        ],
    ],
    np.int64,
)  # fmt: skip
_RULE_COUNT = _RULES.shape[0]
_AUDIENCE_COUNT = _AUDIENCE.shape[0]
# Places in ``Found.list_first``: formats, the rules, what is asked for, what is refused, deals.
_FIRST_RULE = 1
_FIRST_ASKED = _FIRST_RULE + _RULE_COUNT
_FIRST_REFUSED = _FIRST_ASKED + _AUDIENCE_COUNT
_DEALS = _FIRST_REFUSED + _AUDIENCE_COUNT
LOOKED_UP_LISTS = _DEALS + 1
_DEALS_MAX = 32
_NOBODY_NAMES = -1
_IS_NOT_TARGETED = -2


@kernel
def index_key(table: int, code: np.uint64) -> np.uint64:
    """Returns the name of a value in the index, never 0; codes are hashes, so a product will do."""
    key = (np.uint64(code) ^ (np.uint64(table) * _GOLDEN)) * _ODD
    return key if key != _U0 else _U1


@kernel
def fill_index_keys(
    tables: npt.NDArray[np.int64], codes: npt.NDArray[np.uint64], out: npt.NDArray[np.uint64]
) -> None:
    """Fills out[V] with the keys of (tables[V], codes[V])."""
    for v in range(out.shape[0]):
        out[v] = index_key(tables[v], codes[v])


@kernel
def find_slot(slots: npt.NDArray[np.void], table: int, code: np.uint64) -> int:
    """Returns the index slot of (table, code), -1 if no expression names that value."""
    key = index_key(table, code)
    last = np.uint64(slots.shape[0] - 1)
    at = (key >> np.uint64(32)) & last
    while slots[at]["key"] != _U0:
        if slots[at]["key"] == key:
            return np.int64(at)
        at = (at + _U1) & last
    return np.int64(_NOBODY_NAMES)


@kernel
def bit_count(word: np.uint64) -> int:
    """Returns how many bits of ``word`` are set (the compiler makes one instruction of it)."""
    word = word - ((word >> _U1) & _PAIRS)
    word = (word & _QUADS) + ((word >> np.uint64(2)) & _QUADS)
    word = (word + (word >> np.uint64(4))) & _BYTES
    return np.int64((word * _ONES) >> np.uint64(56))


@kernel
def place_of(slot: Record, group: int) -> int:
    """Returns the place in ``index_blocks`` of a value's block in ``group``, -1 if it has none."""
    word = group >> 6
    bit = _U1 << np.uint64(group & 63)
    if slot["present"][word] & bit == _U0:
        return np.int64(-1)
    place = np.int64(slot["first"]) + bit_count(slot["present"][word] & (bit - _U1))
    for w in range(word):
        place += bit_count(slot["present"][w])
    return place


@kernel
def _look_up_list(
    arrays: SnapshotArrays,
    table: int,
    codes: npt.NDArray[np.uint64],
    first: int,
    count: int,
    out: npt.NDArray[np.int64],
    at: int,
) -> int:
    """Appends to out[at:] the slots of those codes that some expression names; returns the end."""
    if arrays.index_named[table]:
        for k in range(first, first + count):
            slot = find_slot(arrays.index_slots, table, codes[k])
            if slot >= 0:
                out[at] = slot
                at += 1
    return at


@kernel
def _look_up_formats(
    opportunity: Record, arrays: SnapshotArrays, found: Found, is_narrow: bool
) -> int:
    """Starts ``found.slots`` with the formats' slots; a narrow look asks for banners by size."""
    at = 0
    has_sizes = is_narrow and opportunity["size_count"] > 0 and opportunity["ratios"][0] == 0
    for bit in range(FORMAT_COUNT):
        if not opportunity["formats"] & (1 << bit):
            continue
        count = np.int64(opportunity["size_count"]) if has_sizes and bit == 0 else 1
        for k in range(count):
            code = np.uint64(1 << bit)
            if has_sizes and bit == 0:
                code = _SIZE_CODE | np.uint64(opportunity["sizes"][k])
            slot = find_slot(arrays.index_slots, _TABLE_FORMAT, code)
            if slot >= 0:
                found.slots[at] = slot
                at += 1
    return at


@kernel
def _look_up_deals(
    opportunity: Record, deals: npt.NDArray[np.void], arrays: SnapshotArrays, found: Found, at: int
) -> int:
    """Appends the slots of a private opportunity's deals; returns the end."""
    for k in range(opportunity["deal_count"]):
        slot = find_slot(
            arrays.index_slots, _TABLE_DEAL, deals[opportunity["deal_first"] + k]["code"]
        )
        if slot >= 0:
            found.slots[at] = slot
            at += 1
    return at


@kernel
def look_up(
    address: int,
    kind: Kind,
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void],
    is_narrow: bool,
) -> None:
    """Fills the bundle's ``work.found`` with the index slots of all that the opportunity says.

    is_narrow: whoever has no banner of an accepted size, or none of a private auction's deals, is
    left out too. So nobody who could bid is, but the reason of those who could not is lost.
    """
    arrays, _, _, work, _ = opened(address, kind)
    found = work.found
    for d in range(DIMENSION_COUNT):
        slot = np.int64(_IS_NOT_TARGETED)
        if arrays.index_named[d]:
            slot = np.int64(_NOBODY_NAMES)
            if opportunity["dimensions"][d] != _U0:
                slot = find_slot(arrays.index_slots, d, opportunity["dimensions"][d])
        found.dimensions[d] = slot
    found.list_first[0] = 0
    at = _look_up_formats(opportunity, arrays, found, is_narrow)
    for rule in range(_RULE_COUNT):
        found.list_first[_FIRST_RULE + rule] = at
        which = _RULES[rule, 0]
        at = _look_up_list(
            arrays, _RULES[rule, 1], codes, opportunity["list_first"][which],
            opportunity["list_count"][which], found.slots, at,
        )  # fmt: skip
    for side in range(2):
        for a in range(_AUDIENCE_COUNT):
            found.list_first[_FIRST_ASKED + side * _AUDIENCE_COUNT + a] = at
            which = _AUDIENCE[a, 0]
            at = _look_up_list(
                arrays, _AUDIENCE[a, 1 + side], codes, opportunity["list_first"][which],
                opportunity["list_count"][which], found.slots, at,
            )  # fmt: skip
    found.list_first[_DEALS] = at
    found.is_private[0] = (
        is_narrow and opportunity["is_private"] != 0 and opportunity["deal_count"] <= _DEALS_MAX
    )
    if found.is_private[0]:
        at = _look_up_deals(opportunity, deals, arrays, found, at)
    found.list_first[LOOKED_UP_LISTS] = at


@kernel
def _union(address: int, kind: Kind, which: int, group: int, out: npt.NDArray[np.uint64]) -> None:
    """Fills out[GROUP_WORDS] with the expressions of ``group`` that name a value of this list.

    Word by word in variables, of which the compiler makes one register.
    """
    arrays, _, _, work, _ = opened(address, kind)
    found = work.found
    a = b = c = d = e = f = g = h = _U0
    for k in range(found.list_first[which], found.list_first[which + 1]):
        place = place_of(arrays.index_slots[found.slots[k]], group)
        if place >= 0:
            block = arrays.index_blocks[place]
            a |= block[0]
            b |= block[1]
            c |= block[2]
            d |= block[3]
            e |= block[4]
            f |= block[5]
            g |= block[6]
            h |= block[7]
    out[0], out[1], out[2], out[3], out[4], out[5], out[6], out[7] = a, b, c, d, e, f, g, h


@kernel
def _is_empty(words: npt.NDArray[np.uint64]) -> bool:
    seen = _U0
    for w in range(GROUP_WORDS):
        seen |= words[w]
    return seen == _U0


@kernel
def _keep(words: npt.NDArray[np.uint64], allowed: npt.NDArray[np.uint64]) -> bool:
    """ANDs ``allowed`` into ``words``; returns whether any bit is left."""
    left = _U0
    for w in range(GROUP_WORDS):
        words[w] &= allowed[w]
        left |= words[w]
    return left != _U0


@kernel
def _remove(words: npt.NDArray[np.uint64], forbidden: npt.NDArray[np.uint64]) -> bool:
    """Takes ``forbidden`` out of ``words``; returns whether any bit is left."""
    left = _U0
    for w in range(GROUP_WORDS):
        words[w] &= ~forbidden[w]
        left |= words[w]
    return left != _U0


@kernel
def _match_rules(address: int, kind: Kind, opportunity: Record, group: int) -> int:
    """Takes out whom the exchange's allow and block lists forbid; reason if nobody is left."""
    _, _, _, work, _ = opened(address, kind)
    found = work.found
    for rule in range(_RULE_COUNT):
        if opportunity["list_count"][_RULES[rule, 0]] == 0:
            continue
        _union(address, kind, _FIRST_RULE + rule, group, found.scratch)
        if _RULES[rule, 3] == 0:
            is_left = _keep(found.words, found.scratch)
        else:
            is_left = _remove(found.words, found.scratch)
        if not is_left:
            return _RULES[rule, 2]
    return 0


@kernel
def _match_dimensions(address: int, kind: Kind, group: int) -> int:
    """Takes out who does not target this; the dimension that left nobody, else -1."""
    arrays, _, _, work, _ = opened(address, kind)
    found = work.found
    for d in range(DIMENSION_COUNT):
        slot = found.dimensions[d]
        if slot == _IS_NOT_TARGETED:
            continue
        place = np.int64(-1)
        if slot >= 0:
            place = place_of(arrays.index_slots[slot], group)
        if place >= 0:
            is_left = _keep(found.words, arrays.index_blocks[place])
        else:
            is_left = _keep(found.words, arrays.index_defaults[group, d])
        if not is_left:
            return d
    return -1


@kernel
def _match_audience(address: int, kind: Kind, group: int) -> tuple[int, int]:
    """Takes out who asks for other lists, or refuses one of these; as ``match_group``."""
    arrays, _, _, work, _ = opened(address, kind)
    found = work.found
    for a in range(_AUDIENCE_COUNT):
        asked = _AUDIENCE[a, 1]
        if arrays.index_named[asked]:
            _union(address, kind, _FIRST_ASKED + a, group, found.scratch)
            for w in range(GROUP_WORDS):
                found.scratch[w] |= arrays.index_defaults[group, asked, w]
            if not _keep(found.words, found.scratch):
                return _AUDIENCE[a, 3], _AUDIENCE[a, 4]
        refused = _FIRST_REFUSED + a
        if found.list_first[refused] < found.list_first[refused + 1]:
            _union(address, kind, refused, group, found.scratch)
            if not _remove(found.words, found.scratch):
                return _AUDIENCE[a, 3], _AUDIENCE[a, 4]
    return 0, 0


@kernel
def match_group(address: int, kind: Kind, opportunity: Record, group: int) -> tuple[int, int]:
    """Leaves in work.found.words who of ``group`` may serve; (reason, detail) if nobody may.

    Bit i is expression 512 * group + i. ``look_up`` comes first. Order of the checks: formats, the
    exchange's allow and block lists, the single-valued dimensions, then what is targeted in lists.
    Returns (0, 0) if some may serve.
    """
    _, _, _, work, _ = opened(address, kind)
    found = work.found
    _union(address, kind, 0, group, found.words)
    if _is_empty(found.words):
        return R_FORMAT, 0
    if found.is_private[0]:
        _union(address, kind, _DEALS, group, found.scratch)
        if not _keep(found.words, found.scratch):
            return R_DEAL, 0
    reason = _match_rules(address, kind, opportunity, group)
    if reason != 0:
        return reason, 0
    dimension = _match_dimensions(address, kind, group)
    if dimension >= 0:
        return R_DIMENSION, dimension
    return _match_audience(address, kind, group)
