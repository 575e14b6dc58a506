"""The edge: from an OpenRTB request to opportunities, field by field.

Everything that may be dirty is read here once; behind the edge there are only arrays. An imp (or a
deal) that cannot be used is dropped with its reason and the field that caused it, and the others
go on: no optional field costs the request.
"""

from __future__ import annotations

import struct
from array import array
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from bidder.codes import CodeBook
from bidder.context import FLAG_CODES, Place, dimensions_of, languages_of, lists_of
from bidder.desk import RECORDS_MAX
from bidder.floors import DealRow, currency_of, deal_row, imp_duration_floors
from bidder.pods import ads_of
from bidder.privacy import ALLOWED, Permission, permission_of, user_id_of
from bidder.slot import FORMAT_NAMES, NO_REST, REST, Slot, block_struct, slot_of
from bidder.supply_chain import NO_SUPPLY, Supply
from market.chance import opportunity_key, pair_code, user_key
from market.decision import NoBidReason
from market.exchange import auction_type_of
from market.money import CURRENCY_NUMBERS, price_from_wire
from market.openrtb_reading import currencies_of, number_text
from market.opportunity import (
    CURRENCY_COUNT_MAX,
    DEAL_DTYPE,
    LANGUAGE_COUNT_MAX,
    OPPORTUNITY_DTYPE,
    Opportunities,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from market.exchange import ExchangeProfile
    from market.openrtb import BidRequest, Deal, Imp

_USERS_MAX = 65_536
"""Users whose pseudonym is remembered: they come back within the minute."""
_USER_ID_CHARS_MAX = 256
_VIEWABILITY = "viewability"


class Refusal(NamedTuple):
    """Why an imp (or the whole request) cannot be used, and the field that caused it."""

    imp_index: int
    reason: NoBidReason
    field: str


class Offer(NamedTuple):
    """What a request offers after the edge.

    A dynamic pod is offered once for each ad that may fit into it, any other imp once: as one
    record per deal that somebody here holds, in the order sent, and then, unless it is a private
    auction, as one open record: each record gets its own bid or none, so
    that no deal's bid is dropped for an open one (implementation guide, section 7.3).

    Attributes:
        opportunities: the records.
        imps: the imp of each record.
        deals: per record the deals that its deal slice stands for, one or none.
        quantities_micros: per record impressions per bid, times 10^6.
        refusals: what was dropped; imp_index -1 refuses the request as a whole.
        imp_indexes: place in the request of the imp of each record.
        permission: what may be used of the user; the records hold nothing else.
    """

    opportunities: Opportunities
    imps: tuple[Imp, ...]
    deals: tuple[tuple[Deal, ...], ...]
    quantities_micros: tuple[int, ...]
    refusals: tuple[Refusal, ...]
    imp_indexes: tuple[int, ...]
    permission: Permission = ALLOWED


def _record_struct() -> struct.Struct:
    """One packer for a whole record: a single call instead of ninety field assignments.

    The columns that only a special slot fills come as one piece of bytes (``bidder.slot.REST``).
    """
    first, end = REST
    head = block_struct("key_hi", first)
    tail = block_struct(end, "")
    return struct.Struct(f"{head.format}{len(NO_REST)}s{tail.format[1:]}")


_RECORD = _record_struct()
assert _RECORD.size == OPPORTUNITY_DTYPE.itemsize


class Edge:
    """Turns requests into opportunities; keeps only a book of codes between requests.

    Attributes:
        deals_held: codes of the deals that a line item holds (``snapshot.arrays.deal_codes``); a
            deal that nobody holds is no offer to us. None = every deal counts.

    Keys of the request used here: id, imp, test, at, cur, wlang, wlangb and, of an imp: id, tagid,
    bidfloor, bidfloorcur, secure, instl, rwdd, metric.{type,value}, banner.pos,
    video.{pos,plcmt,mincpmpersec,durfloors}, audio.{mincpmpersec,durfloors},
    pmp.{private_auction,deals.{id,bidfloor,bidfloorcur,at,wseat,wadomain,guar,mincpmpersec,
    durfloors}}. The rest: ``bidder.context`` (where and to whom), ``bidder.slot`` (formats),
    ``bidder.privacy``, ``bidder.supply_chain``.
    """

    def __init__(
        self, user_salt: bytes, tcf_vendor_id: int | None = None, supply: Supply = NO_SUPPLY
    ) -> None:
        """Takes the salt of user pseudonyms, our TCF vendor id and the operator's supply lists."""
        self.deals_held: frozenset[int] | None = None
        self._tcf_vendor_id = tcf_vendor_id
        self._supply = supply
        self._codes = CodeBook()
        self._key_of = partial(user_key, user_salt)
        self._known_keys = lru_cache(_USERS_MAX)(self._key_of)
        self._windows: dict[tuple[str, int], int] = {}

    def read(self, request: BidRequest, profile: ExchangeProfile, arrival_ms: int) -> Offer:
        """Returns what ``request`` offers through the exchange of ``profile``."""
        whole = self._whole_refusal(request, profile)
        if whole is not None:
            return Offer(_NOTHING, (), (), (), (whole,), ())
        shared, pool = self._shared(request, profile, arrival_ms)
        packed = bytearray()
        records: list[tuple[int, Imp, tuple[Deal, ...], int]] = []
        deal_rows: list[DealRow] = []
        refusals: list[Refusal] = []
        for index, imp in enumerate(request.imp):
            slot = slot_of(imp)
            floors = slot if isinstance(slot, str) else imp_duration_floors(imp, pool)
            if isinstance(slot, str) or isinstance(floors, str):
                refusals.append(Refusal(index, NoBidReason.UNUSABLE_IMP, str(floors)))
                continue
            record = self._record(request, imp, slot, shared, floors)
            deals = self._deals(imp, profile, pool, deal_rows)
            first = len(deal_rows) - len(deals)
            is_open = imp.pmp is None or imp.pmp.private_auction != 1
            ads, room = ads_of(imp), RECORDS_MAX - len(records)
            # Whole ads only, and all of an imp's: who watches over a pod counts them.
            deals = deals[: max(room // ads - is_open, 0)]
            if ads * (len(deals) + is_open) > room:
                refusals.append(Refusal(index, NoBidReason.UNUSABLE_IMP, "imp"))
                break
            for sequence in range(ads):
                ad = record if sequence == 0 else _next_record(record, sequence)
                for k, deal in enumerate(deals):
                    packed += _deal_record(ad, first + k, deal_rows[first + k][0])
                    records.append((index, imp, (deal,), slot.quantity_micros))
                if is_open:
                    packed += ad
                    records.append((index, imp, (), slot.quantity_micros))
            if not is_open and not deals:
                refusals.append(Refusal(index, NoBidReason.DEAL_REQUIRED, "imp.pmp.deals"))
        opportunities = Opportunities(
            records=np.frombuffer(packed, OPPORTUNITY_DTYPE) if packed else _NOTHING.records,
            codes=np.frombuffer(array("Q", pool), np.uint64) if pool else _NOTHING.codes,
            deals=np.array(deal_rows, DEAL_DTYPE) if deal_rows else _NOTHING.deals,
        )
        indexes, imps, deals_of, quantities = zip(*records, strict=True) if records else _NO_RECORDS
        return Offer(
            opportunities, imps, deals_of, quantities, tuple(refusals), indexes, shared.permission
        )  # fmt: skip

    def permission(self, request: BidRequest) -> Permission:
        """Returns what may be used of the request's user."""
        return permission_of(request, self._tcf_vendor_id)

    def _user_key(self, user_id: str) -> int:
        """Returns the pseudonym of a user; long ids are made up, and are not remembered."""
        is_usual = len(user_id) <= _USER_ID_CHARS_MAX
        return self._known_keys(user_id) if is_usual else self._key_of(user_id)

    def _whole_refusal(self, request: BidRequest, profile: ExchangeProfile) -> Refusal | None:
        """Returns why nothing of a request can be used, None if it can."""
        contradiction = _contradiction(request)
        if contradiction:
            return Refusal(-1, NoBidReason.CONTRADICTORY_REQUEST, contradiction)
        if auction_type_of(request.at, profile) is None:
            return Refusal(-1, NoBidReason.AUCTION_TYPE_UNKNOWN, "at")
        objection = self._supply.objection(request, profile)
        return None if objection is None else Refusal(-1, *objection)

    def _shared(
        self, request: BidRequest, profile: ExchangeProfile, arrival_ms: int
    ) -> tuple[_Shared, list[int]]:
        """Returns what all imps of the request have in common, and the pool of its codes."""
        permission = self.permission(request)
        user_id = user_id_of(request) if permission.may_use_user_id else None
        pool: list[int] = []
        dimensions, place = dimensions_of(
            request, profile.name, arrival_ms, permission, self._codes
        )
        list_first, list_count = lists_of(request, permission, self._codes, pool)
        languages = _NO_LANGUAGES
        if request.wlang or request.wlangb:
            codes = [self._codes[name] for name in languages_of(request)[:LANGUAGE_COUNT_MAX]]
            languages = (*codes, *_NO_LANGUAGES[len(codes) :])
        auction_type = auction_type_of(request.at, profile)
        assert auction_type is not None, "refused before"
        return _Shared(
            profile, arrival_ms, self._user_key(user_id) if user_id else 0, dimensions,
            list_first, list_count, _currencies(request, profile), auction_type,
            int(request.test == 1), place, languages, permission,
        ), pool  # fmt: skip

    def _record(
        self, request: BidRequest, imp: Imp, slot: Slot, shared: _Shared, floors: tuple[int, ...]
    ) -> bytes:
        """Returns the bytes of the imp's open record."""
        key_hi, key_lo = opportunity_key(shared.profile.name, request.id, imp.id)
        dimensions = shared.dimensions
        self._fill_imp(dimensions, imp)
        window = self._window_ms(shared.profile, slot.formats)
        return _RECORD.pack(
            key_hi, key_lo, shared.arrival_ms, shared.user_key, shared.profile.exchange_id,
            *dimensions, *shared.list_first, *shared.list_count, 0, 0, 0, slot.formats,
            shared.auction_type, shared.is_test, int(imp.secure == 1),
            price_from_wire(imp.bidfloor or 0.0), currency_of(imp.bidfloorcur), *shared.currencies,
            *slot.sizes, slot.size_count, *slot.duration_ms_min, *slot.duration_ms_max,
            *slot.attributes_blocked, *slot.protocols, *slot.media_types, slot.rest,
            slot.quantity_micros, min(window, slot.exp_ms or window),
            *shared.place, _viewability_ppm(imp), *shared.languages, *floors,
        )  # fmt: skip

    def _fill_imp(self, dimensions: list[int], imp: Imp) -> None:
        """Sets the dimensions that are an imp's own."""
        codes = self._codes
        dimensions[11] = codes.of(imp.tagid)
        position = (imp.banner and imp.banner.pos) or (imp.video and imp.video.pos)
        dimensions[21] = codes[str(position)] if position else 0
        placement = imp.video and imp.video.plcmt
        dimensions[22] = codes[str(placement)] if placement else 0
        dimensions[23] = FLAG_CODES[imp.instl == 1]
        dimensions[24] = FLAG_CODES[imp.rwdd == 1]

    def _deals(
        self, imp: Imp, profile: ExchangeProfile, pool: list[int], rows: list[DealRow]
    ) -> tuple[Deal, ...]:
        """Appends the rows of the imp's usable deals and returns those deals."""
        if imp.pmp is None or not imp.pmp.deals:
            return ()
        held = self.deals_held
        kept: list[Deal] = []
        seen: set[int] = set()
        for deal in imp.pmp.deals:
            if held is not None and self._codes[number_text(deal.id) or ""] not in held:
                continue
            row = deal_row(deal, profile, self._codes, pool)
            # A deal that is listed twice is one deal: two bids on it would share a name.
            if row is not None and row[0] not in seen:
                seen.add(row[0])
                rows.append(row)
                kept.append(deal)
        return tuple(kept)

    def _window_ms(self, profile: ExchangeProfile, formats: int) -> int:
        """Returns the longest billing window over the imp's formats: any of them may be shown."""
        key = (profile.name, formats)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = max(
                profile.billing_window_ms[name]
                for bit, name in FORMAT_NAMES.items()
                if formats & bit
            )
        return window


class _Shared(NamedTuple):
    """What all imps of a request have in common."""

    profile: ExchangeProfile
    arrival_ms: int
    user_key: int
    dimensions: list[int]
    list_first: list[int]
    list_count: list[int]
    currencies: tuple[int, ...]
    auction_type: int
    is_test: int
    place: Place
    languages: tuple[int, ...]
    permission: Permission


_NO_LANGUAGES = (0,) * LANGUAGE_COUNT_MAX
_NO_RECORDS: tuple[tuple[Any, ...], ...] = ((), (), (), ())
_NOTHING = Opportunities(
    records=np.zeros(0, OPPORTUNITY_DTYPE),
    codes=np.zeros(1, np.uint64),
    deals=np.zeros(1, DEAL_DTYPE),
)


def _offset(name: str) -> int:
    return cast("Mapping[str, tuple[Any, ...]]", OPPORTUNITY_DTYPE.fields)[name][1]


_KEY_AT = _offset("key_hi")
_DEAL_AT = _offset("deal_first")
_KEY = struct.Struct("<Q")
_DEAL = struct.Struct("<iiB")
assert [_offset(name) - _DEAL_AT for name in ("deal_count", "is_private")] == [4, 8]


def _next_record(record: bytes, sequence: int) -> bytes:
    """Returns the record of a further ad in a dynamic pod, with a key of its own."""
    own = bytearray(record)
    (key_hi,) = _KEY.unpack_from(own, _KEY_AT)
    _KEY.pack_into(own, _KEY_AT, pair_code(key_hi, sequence))
    return bytes(own)


def _deal_record(record: bytes, deal_row: int, deal_code: int) -> bytearray:
    """Returns the record of one deal of the imp: private to it, with a key of its own."""
    own = bytearray(record)
    (key_hi,) = _KEY.unpack_from(own, _KEY_AT)
    _KEY.pack_into(own, _KEY_AT, pair_code(key_hi, deal_code))
    _DEAL.pack_into(own, _DEAL_AT, deal_row, 1, 1)
    return own


def _contradiction(request: BidRequest) -> str:
    """Returns the field by which a request contradicts itself, "" if none does."""
    if request.site is not None and request.app is not None:
        return "app"
    if request.dooh is not None and (request.site is not None or request.app is not None):
        return "dooh"
    if len(request.imp) > 1 and len({imp.id for imp in request.imp}) < len(request.imp):
        return "imp.id"
    return ""


_ONE_CURRENCY: dict[str | float, tuple[int, ...]] = {
    name: (number, *(0,) * (CURRENCY_COUNT_MAX - 1)) for name, number in CURRENCY_NUMBERS.items()
}


def _currencies(request: BidRequest, profile: ExchangeProfile) -> tuple[int, ...]:
    """Returns ISO numbers of accepted currencies, 0-padded; unknown names are left out.

    Where none is named it is the exchange's own (``ExchangeProfile.currency``, USD by default).
    """
    named = request.cur
    if not named:
        return _ONE_CURRENCY[profile.currency]
    if len(named) == 1 and named[0] in _ONE_CURRENCY:
        return _ONE_CURRENCY[named[0]]
    known = [CURRENCY_NUMBERS[c] for c in currencies_of(request) if c in CURRENCY_NUMBERS]
    known = known[:CURRENCY_COUNT_MAX]
    return (*known, *(0,) * (CURRENCY_COUNT_MAX - len(known)))


def _viewability_ppm(imp: Imp) -> int:
    """Returns the lowest viewability that a metric of the imp states, in millionths; 0 = unsaid.

    A metric is a probability (2.6 section 3.2.5): what is not within 0 to 1 says nothing.
    """
    if not imp.metric:
        return 0
    stated = [
        metric.value
        for metric in imp.metric
        if metric.value is not None
        and 0 <= metric.value <= 1
        and (number_text(metric.type) or "").strip().lower() == _VIEWABILITY
    ]
    return max(round(min(stated) * 1_000_000), 1) if stated else 0
