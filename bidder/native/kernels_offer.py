"""From cells to records: what the default edge (`bidder.edge`) makes of a request, byte for byte.

In the edge's order: objections to the whole request, what all imps share, then imp by imp its deals
and its open record. What takes rules that may change, or a grammar of its own (formats, consent,
user agents, sellers), comes from the memo tables.
"""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

# An error leaves by a return at once, bytes are told apart by plain comparisons, which become jump
# tables: the rules that count returns and branches or want sets are for other code than this.
# ruff: noqa: PLR0911, SIM110

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bidder.native.cells import (
    ABSENT,
    DEAL_CELLS,
    DEALS_AT,
    HASH_WORDS,
    IMP_CELLS,
    IMPS_AT,
    Cell,
    DealCell,
    Field,
    ImpCell,
)
from bidder.native.fields import SLOT_DIMENSIONS, Group
from bidder.native.kernels_lists import add_list, fill_languages, fill_lists
from bidder.native.kernels_load import byte_at
from bidder.native.kernels_memo import holds, place_of
from bidder.native.kernels_name import absorb, code_at, finished_key, opportunity_key_at
from bidder.native.kernels_number import price_micros
from bidder.native.kernels_place import fill_dimensions, fill_position
from bidder.native.kernels_user import is_zeroed, user_key_of
from bidder.native.vocabulary import USD, USER_ID, ZERO_TEXT
from bidder.native.wire import BODY_PAD, IMPS_MAX, TEXT_MAX, Bail, Count
from market.decision import NoBidReason
from market.kernel import bare_kernel as kernel
from market.kernels import hash_pair, mix
from market.opportunity import (
    CODE_LIST_COUNT,
    CURRENCY_COUNT_MAX,
    DIMENSION_COUNT,
    LANGUAGE_COUNT_MAX,
    Dimension,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from bidder.native.kernels_memo import Memo
    from bidder.native.wire import Wire

    Bytes = npt.NDArray[np.uint8]
    Cells = npt.NDArray[np.int64]

_ZEROED_TAG: Final = 0xFFFE
_LEFT_OUT: Final = -1
_ID_BYTES_MAX: Final = 256
"""Of an imp: ids are compared with one another."""
_SECOND_PRICE, _FIXED_PRICE = 2, 3
_DIMENSIONS_OF_SLOT = np.array(SLOT_DIMENSIONS, np.int64)
_NO_FIELD, _APP, _DOOH, _IMP_ID = (
    int(field) for field in (Field.NONE, Field.APP, Field.DOOH, Field.IMP_ID)
)
_FIELD_MASK = 0xFFFFFFFF
_REASON_SHIFT = 32


@kernel
def _refuse(wire: Wire, imp: int, reason: int, field: int) -> None:
    """Notes a refusal; there is room for one an imp."""
    n = wire.counts[Count.REFUSALS]
    wire.refusals[n, 0], wire.refusals[n, 1], wire.refusals[n, 2] = imp, reason, field
    wire.counts[Count.REFUSALS] = n + 1


@kernel
def _refuse_whole(wire: Wire, reason: int, field: int) -> int:
    _refuse(wire, -1, reason, field)
    wire.counts[Count.REQUEST_REFUSAL] = reason
    return 0


@kernel
def lacks_ids(cells: Cells) -> bool:
    """Returns whether the request has no id, no imp, or an imp without an id."""
    if cells[Cell.ID] == ABSENT or cells[Cell.IMP_COUNT] == 0:
        return True
    for n in range(cells[Cell.IMP_COUNT]):
        if cells[IMPS_AT + n * IMP_CELLS + ImpCell.ID] == ABSENT:
            return True
    for n in range(cells[Cell.DEAL_COUNT]):
        if cells[DEALS_AT + n * DEAL_CELLS + DealCell.ID] == ABSENT:
            return True
    return False


@kernel
def _is_same_text(body: Bytes, one: int, other: int, length: int) -> bool:
    for i in range(length):
        if byte_at(body, one + i) != byte_at(body, other + i):
            return False
    return True


@kernel
def has_same_imps(body: Bytes, cells: Cells) -> bool:
    """Returns whether two imps have one id."""
    for n in range(1, cells[Cell.IMP_COUNT]):
        place = IMPS_AT + n * IMP_CELLS + ImpCell.ID
        length = cells[place + 1] - cells[place]
        for m in range(n):
            other = IMPS_AT + m * IMP_CELLS + ImpCell.ID
            if cells[other + 1] - cells[other] == length and _is_same_text(
                body, cells[place], cells[other], length
            ):
                return True
    return False


@kernel
def contradiction(body: Bytes, cells: Cells) -> int:
    """Returns the field by which a request contradicts itself, NONE if none does."""
    if cells[Cell.HAS_SITE] and cells[Cell.HAS_APP]:
        return _APP
    if cells[Cell.HAS_DOOH] and (cells[Cell.HAS_SITE] or cells[Cell.HAS_APP]):
        return _DOOH
    return _IMP_ID if has_same_imps(body, cells) else _NO_FIELD


@kernel
def auction_type(said: int, profile: np.void) -> int:
    """Returns ``market.exchange.auction_type_of``, 0 for a code that the exchange never named."""
    if said == ABSENT or said <= 0:
        return _SECOND_PRICE
    if said <= _FIXED_PRICE:
        return said
    for i in range(profile["auction_count"]):
        if profile["auction_codes"][i] == said:
            return np.int64(profile["auction_kinds"][i])
    return 0


@kernel
def _group_key(cells: Cells, group: int) -> np.uint64:
    return finished_key(cells, Cell.HASHES + group * HASH_WORDS)


@kernel
def _miss(group: int, key: np.uint64, imp: int, wire: Wire) -> None:
    n = wire.missed_count[0]
    if n < wire.missed.shape[0]:
        wire.missed[n, 0], wire.missed[n, 1] = np.uint64(group), key
        wire.missed_imps[n] = imp
        wire.missed_count[0] = n + 1


@kernel
def _remembered(
    keys: npt.NDArray[np.uint64], group: int, key: np.uint64, imp: int, wire: Wire
) -> int:
    """Returns the place of a key in its table, -1 for one that is not there, which is noted.

    ``imp`` is the imp that the key is of, -1 for the request.
    """
    place = place_of(keys, group, key)
    if keys[group, place] == key:
        return place
    _miss(group, key, imp, wire)
    return -1


@kernel
def seller_key(cells: Cells, profile: np.void) -> np.uint64:
    """Returns the SUPPLY key of the request at an exchange.

    The group's texts do not say where they stood: a publisher of an app is none of a screen.
    """
    channel = 1 if cells[Cell.HAS_SITE] else 2 if cells[Cell.HAS_APP] else 3
    if channel == 3 and not cells[Cell.HAS_DOOH]:
        channel = 0
    return _group_key(cells, Group.SUPPLY) ^ np.uint64(profile["tweak"]) ^ mix(np.uint64(channel))


@kernel
def slot_key(cells: Cells, imp: int, profile: np.void) -> np.uint64:
    """Returns the SLOT key of an imp at an exchange, never 0."""
    key = np.uint64(cells[IMPS_AT + imp * IMP_CELLS + ImpCell.SLOT_KEY])
    key ^= np.uint64(profile["tweak"])
    return key if key != np.uint64(0) else np.uint64(1)


@kernel
def _whole(body: Bytes, profile: np.void, memo: Memo, wire: Wire) -> int:
    """Refuses the whole request where the edge does; returns 1 to go on, 0, or -cause."""
    cells = wire.cells
    field = contradiction(body, cells)
    if field != _NO_FIELD:
        return _refuse_whole(wire, NoBidReason.CONTRADICTORY_REQUEST, field)
    if auction_type(cells[Cell.AUCTION_TYPE], profile) == 0:
        return _refuse_whole(wire, NoBidReason.AUCTION_TYPE_UNKNOWN, Field.AUCTION_TYPE)
    if not profile["checks_supply"]:
        return 1
    if profile["checks_addresses"] or (cells[Cell.HAS_SITE] and cells[Cell.DOMAIN] == 0):
        return -Bail.SUPPLY
    place = _remembered(memo.keys, Group.SUPPLY, seller_key(cells, profile), -1, wire)
    if place < 0:
        return -Bail.SUPPLY_MISS
    verdict = memo.values[Group.SUPPLY, place]
    if verdict != 0:
        return _refuse_whole(wire, verdict >> _REASON_SHIFT, verdict & _FIELD_MASK)
    return 1


@kernel
def _fill_currencies(cells: Cells, currencies: np.ndarray, own: int) -> None:
    named = cells[Cell.CURRENCIES]
    for i in range(CURRENCY_COUNT_MAX):
        currencies[i] = 0 if named == ABSENT else cells[Cell.CURRENCIES + 1 + i]
    if named == ABSENT:
        currencies[0] = own
    elif named == 0:
        currencies[0] = USD


@kernel
def _share(
    body: Bytes, last: int, profile: np.void, arrival_ms: int, k0: np.uint64, k1: np.uint64,
    memo: Memo, wire: Wire,
) -> int:  # fmt: skip
    """Fills what all imps have in common; returns the pool's count or -cause."""
    cells = wire.cells
    shared = wire.shared[0]
    if is_zeroed(body, cells):
        absorb(cells, Cell.HASHES + Group.PRIVACY * HASH_WORDS, _ZEROED_TAG, body, 0, 0)
    known = _remembered(memo.keys, Group.PRIVACY, _group_key(cells, Group.PRIVACY), -1, wire)
    agent = -1
    agent_place = 0
    if cells[Cell.HAS_DEVICE]:
        agent_place = _remembered(memo.keys, Group.AGENT, _group_key(cells, Group.AGENT), -1, wire)
    if known < 0:
        return -Bail.PRIVACY_MISS
    if agent_place < 0:
        return -Bail.AGENT_MISS
    if cells[Cell.HAS_DEVICE]:
        agent = memo.values[Group.AGENT, agent_place]
    permission = memo.values[Group.PRIVACY, known]
    if cells[Cell.HAS_APP] and np.uint64(cells[Cell.BUNDLE]) == ZERO_TEXT:
        return -Bail.TEXT  # a number 0 is a name for a dimension and none for a list
    fill_dimensions(
        cells, wire.text, memo.agents, agent, np.uint64(profile["code"]), arrival_ms, permission,
        shared,
    )  # fmt: skip
    cause = fill_position(cells, permission, shared)
    if cause < 0:
        return cause
    fill_languages(cells, wire.staged, shared)
    _fill_currencies(cells, shared["currencies"], profile["currency"])
    shared["arrival_ms"] = arrival_ms
    shared["exchange"] = profile["exchange_id"]
    shared["auction_type"] = auction_type(cells[Cell.AUCTION_TYPE], profile)
    shared["is_test"] = 1 if cells[Cell.TEST] == 1 else 0
    shared["user_key"] = np.uint64(0)
    if permission & USER_ID:
        shared["user_key"] = user_key_of(body, cells, k0, k1)
    return fill_lists(body, last, permission, cells, wire.staged, wire.codes, wire.text, shared)


@kernel
def _write_shared(shared: np.void, record: np.void) -> None:
    """Copies what all imps have in common into a record that holds its slot."""
    record["arrival_ms"] = shared["arrival_ms"]
    record["user_key"] = shared["user_key"]
    record["exchange"] = shared["exchange"]
    record["auction_type"] = shared["auction_type"]
    record["is_test"] = shared["is_test"]
    record["os_version"] = shared["os_version"]
    record["latitude_e6"] = shared["latitude_e6"]
    record["longitude_e6"] = shared["longitude_e6"]
    record["accuracy_m"] = shared["accuracy_m"]
    record["position_kind"] = shared["position_kind"]
    for i in range(CODE_LIST_COUNT):
        record["list_first"][i] = shared["list_first"][i]
        record["list_count"][i] = shared["list_count"][i]
    for i in range(CURRENCY_COUNT_MAX):
        record["currencies"][i] = shared["currencies"][i]
    for i in range(LANGUAGE_COUNT_MAX):
        record["languages"][i] = shared["languages"][i]


@kernel
def _write_dimensions(shared: np.void, slot: np.void, tag: np.uint64, record: np.void) -> None:
    for d in range(DIMENSION_COUNT):
        record["dimensions"][d] = shared["dimensions"][d]
    for d in _DIMENSIONS_OF_SLOT:
        record["dimensions"][d] = slot["dimensions"][d]
    record["dimensions"][Dimension.PLACEMENT] = tag


@kernel
def imp_key(
    body: Bytes, profile: np.void, cells: Cells, base: int, text: Bytes
) -> tuple[bool, np.uint64, np.uint64]:
    """Returns (whether the names fit, key_hi, key_lo): ``market.chance.opportunity_key``."""
    names = profile["name_bytes"]
    first, last = cells[Cell.ID], cells[Cell.ID + 1]
    imp_first, imp_last = cells[base + ImpCell.ID], cells[base + ImpCell.ID + 1]
    if names + (last - first) + (imp_last - imp_first) + 2 > TEXT_MAX - BODY_PAD:
        return False, np.uint64(0), np.uint64(0)
    at = 0
    for i in range(names):
        text[at] = profile["name"][i]
        at += 1
    text[at] = 0
    at += 1
    for i in range(first, last):
        text[at] = byte_at(body, i)
        at += 1
    text[at] = 0
    at += 1
    for i in range(imp_first, imp_last):
        text[at] = byte_at(body, i)
        at += 1
    high, low = opportunity_key_at(text, 0, at)
    return True, high, low


@kernel
def _add_deal(base: int, code: np.uint64, count: int, profile: np.void, wire: Wire) -> int:
    """Appends the row of a usable deal (``floors.deal_row``).

    Returns the pool's new count, `_LEFT_OUT` for a deal that is left out, or a lower -cause.
    """
    cells = wire.cells
    said = cells[base + DealCell.AUCTION_TYPE]
    kind = 0 if said == ABSENT else auction_type(said, profile)
    mantissa = cells[base + DealCell.FLOOR]
    if (said != ABSENT and kind == 0) or (mantissa != ABSENT and mantissa < 0):
        return _LEFT_OUT
    is_sure, floor = price_micros(mantissa, cells[base + DealCell.FLOOR + 1])
    if not is_sure:
        return _LEFT_OUT - Bail.NUMBER
    seats = count
    count = add_list(cells, base + DealCell.SEATS, wire.staged, wire.codes, count)
    domains = count
    count = add_list(cells, base + DealCell.DOMAINS, wire.staged, wire.codes, count)
    if count < 0:
        return _LEFT_OUT - Bail.CAPACITY
    n = wire.counts[Count.DEALS]
    deal = wire.deals[n]
    currency = cells[base + DealCell.FLOOR_CURRENCY]
    deal["code"] = code
    deal["floor_cpm_micros"] = -1 if mantissa == ABSENT else floor
    deal["floor_currency"] = USD if currency == ABSENT else currency
    deal["auction_type"] = kind
    deal["seat_first"], deal["seat_count"] = seats, domains - seats
    deal["domain_first"], deal["domain_count"] = domains, count - domains
    deal["second_cpm_micros"] = 0
    deal["duration_floor_first"], deal["duration_floor_count"] = 0, 0
    deal["is_guaranteed"] = 1 if cells[base + DealCell.IS_GUARANTEED] == 1 else 0
    wire.deal_spans[n, 0] = cells[base + DealCell.ID] - 1
    wire.deal_spans[n, 1] = cells[base + DealCell.ID + 1] + 1
    wire.counts[Count.DEALS] = n + 1
    return count


@kernel
def _add_record(imp: int, base: int, source: np.void, wire: Wire) -> int:
    """Appends a copy of ``source`` as a record of the imp; returns its place, -1 without room."""
    n = wire.counts[Count.RECORDS]
    if n >= IMPS_MAX:
        return -1
    wire.records[n] = source
    wire.imp_index[n] = imp
    wire.spans[1 + n, 0] = wire.cells[base + ImpCell.ID] - 1
    wire.spans[1 + n, 1] = wire.cells[base + ImpCell.ID + 1] + 1
    wire.counts[Count.RECORDS] = n + 1
    return n


@kernel
def _note_slot(key: np.uint64, first: int, wire: Wire) -> None:
    """Says of the records from ``first`` on which slot they are of."""
    for n in range(first, wire.counts[Count.RECORDS]):
        wire.slot_keys[n] = key


@kernel
def _open_record(
    body: Bytes, base: int, profile: np.void, slot: np.void, cells: Cells, text: Bytes,
    shared: np.void, record: np.void,
) -> int:  # fmt: skip
    """Fills the imp's open record; returns 0 or -cause."""
    is_sure, floor = price_micros(cells[base + ImpCell.FLOOR], cells[base + ImpCell.FLOOR + 1])
    if not is_sure:
        return -Bail.NUMBER
    is_fitting, high, low = imp_key(body, profile, cells, base, text)
    if not is_fitting:
        return -Bail.CAPACITY
    _write_shared(shared, record)
    _write_dimensions(shared, slot, np.uint64(cells[base + ImpCell.TAG]), record)
    currency = cells[base + ImpCell.FLOOR_CURRENCY]
    record["key_hi"], record["key_lo"] = high, low
    record["deal_first"], record["deal_count"], record["is_private"] = 0, 0, 0
    record["is_secure"] = 1 if cells[base + ImpCell.IS_SECURE] == 1 else 0
    record["floor_cpm_micros"] = floor
    record["floor_currency"] = USD if currency == ABSENT else currency
    return 0


@kernel
def _add_imp(body: Bytes, imp: int, count: int, profile: np.void, memo: Memo, wire: Wire) -> int:
    """Appends the records of one imp, deals first; returns the pool's count or -cause."""
    cells = wire.cells
    base = IMPS_AT + imp * IMP_CELLS
    if cells[base + ImpCell.FLOOR] != ABSENT and cells[base + ImpCell.FLOOR] < 0:
        return -Bail.SLOT
    key = slot_key(cells, imp, profile)
    place = _remembered(memo.keys, Group.SLOT, key, imp, wire)
    if place < 0:
        return -Bail.SLOT_MISS
    row = memo.values[Group.SLOT, place]
    if row < 0:
        return -Bail.SLOT
    if memo.faults[row] != 0:
        fault = memo.faults[row]
        _refuse(wire, imp, fault >> _REASON_SHIFT, fault & _FIELD_MASK)
        return count
    # The open record is made in place and stays, unless the auction is private.
    record = wire.open[0]
    wire.open[0] = memo.slots[row]
    cause = _open_record(
        body, base, profile, memo.slots[row], cells, wire.text, wire.shared[0], record
    )
    if cause < 0:
        return cause
    dealt = wire.counts[Count.DEALS]
    first = wire.counts[Count.RECORDS]
    count = _add_deals(body, imp, count, profile, memo, wire)
    if count < 0:
        return count
    if cells[base + ImpCell.IS_PRIVATE] != 1:
        if _add_record(imp, base, wire.open[0], wire) < 0:
            return -Bail.CAPACITY
    elif wire.counts[Count.DEALS] == dealt:
        _refuse(wire, imp, NoBidReason.DEAL_REQUIRED, Field.DEALS)
    _note_slot(key, first, wire)
    return count


@kernel
def _add_deals(body: Bytes, imp: int, count: int, profile: np.void, memo: Memo, wire: Wire) -> int:
    """Appends a record per usable deal of the imp; returns the pool's count or -cause.

    Each is the open record made private to the deal, with a key of its own.
    """
    cells = wire.cells
    base = IMPS_AT + imp * IMP_CELLS
    first = wire.counts[Count.DEALS]
    for k in range(cells[base + ImpCell.DEAL_COUNT]):
        deal = DEALS_AT + (cells[base + ImpCell.DEAL_FIRST] + k) * DEAL_CELLS
        code = code_at(body, cells[deal + DealCell.ID], cells[deal + DealCell.ID + 1])
        if not holds(memo.held, memo.limits[0], code):
            continue
        is_known = False
        for other in range(first, wire.counts[Count.DEALS]):
            is_known = is_known or wire.deals[other]["code"] == code
        if is_known:
            continue
        found = _add_deal(deal, code, count, profile, wire)
        if found == _LEFT_OUT:
            continue
        if found < 0:
            return found - _LEFT_OUT
        count = found
        n = _add_record(imp, base, wire.open[0], wire)
        if n < 0:
            return -Bail.CAPACITY
        own = wire.records[n]
        own["key_hi"] = hash_pair(own["key_hi"], code)
        own["deal_first"] = wire.counts[Count.DEALS] - 1
        own["deal_count"], own["is_private"] = 1, 1
    return count


@kernel
def fill_offer(
    body: Bytes, last: int, profile: np.void, arrival_ms: int, k0: np.uint64, k1: np.uint64,
    memo: Memo, wire: Wire,
) -> int:  # fmt: skip
    """Makes the records of a request whose cells are read; returns 0 or -cause.

    A miss does not end it at once: what else is missed is noted too, so that one answer of the
    default path fills all of it.
    """
    cells = wire.cells
    for i in range(wire.counts.shape[0]):
        wire.counts[i] = 0
    wire.missed_count[0] = 0
    if lacks_ids(cells):
        return -Bail.REQUIRED
    for imp in range(cells[Cell.IMP_COUNT]):
        own = IMPS_AT + imp * IMP_CELLS + ImpCell.ID
        if cells[own + 1] - cells[own] > _ID_BYTES_MAX:
            return -Bail.CAPACITY
    wire.counts[Count.IMPS] = cells[Cell.IMP_COUNT]
    wire.counts[Count.TMAX_MS] = max(cells[Cell.TMAX], 0)
    wire.counts[Count.IS_TEST] = 1 if cells[Cell.TEST] == 1 else 0
    taxonomy = cells[Cell.CATEGORY_TAXONOMY]
    wire.counts[Count.TAXONOMY] = 1 if taxonomy in (ABSENT, 0) else taxonomy
    wire.spans[0, 0], wire.spans[0, 1] = cells[Cell.ID] - 1, cells[Cell.ID + 1] + 1
    whole = _whole(body, profile, memo, wire)
    if whole == 0:
        return 0
    count = _share(body, last, profile, arrival_ms, k0, k1, memo, wire)
    miss = min(whole, count, 0)
    count = max(count, 0)
    for imp in range(cells[Cell.IMP_COUNT]):
        found = _add_imp(body, imp, count, profile, memo, wire)
        if found < 0:
            miss = miss if miss < 0 else found
        else:
            count = found
    wire.counts[Count.CODES] = count
    return miss
