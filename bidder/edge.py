"""The edge: from an OpenRTB request to opportunities, field by field.

Everything that may be dirty is read here once; behind the edge there are only arrays. An imp (or a
deal) that cannot be used is dropped with its reason and the field that caused it, and the others
go on: no optional field costs the request.
"""

from __future__ import annotations

import struct
from array import array
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import numpy as np

from bidder.privacy import permission_of, user_id_of
from bidder.slot import FORMAT_NAMES, Slot, slot_of
from market.chance import code_of, opportunity_key, user_key
from market.decision import NoBidReason
from market.money import CURRENCY_NUMBERS, price_from_wire
from market.openrtb import (
    App,
    BidRequest,
    Deal,
    Imp,
    Site,
)
from market.openrtb_reading import (
    currencies_of,
    number_text,
    texts,
)
from market.opportunity import (
    CODE_LIST_COUNT,
    CURRENCY_COUNT_MAX,
    DEAL_DTYPE,
    DIMENSION_COUNT,
    OPPORTUNITY_DTYPE,
    SIZE_COUNT_MAX,
    Opportunities,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from market.exchange import ExchangeProfile

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_HOUR_CODES = tuple(code_of(f"{day} {hour}") for day in _DAYS for hour in range(24))
_INVENTORY_CODES = {name: code_of(name) for name in ("site", "app", "dooh")}
_EPOCH_WEEKDAY = 4
"""1 January 1970 was a Thursday; Sunday is day 0."""

_HOUR_MS = 3_600_000
_USD = CURRENCY_NUMBERS["USD"]
_CODE_BOOK_MAX = 500_000
_USERS_MAX = 65_536
"""Users whose pseudonym is remembered: they come back within the minute."""
_TAXONOMIES_KNOWN = (None, 1)
"""``cattax``: absent means 1, the IAB content taxonomy 1.0 (2.6 section 3.2.1)."""


class Refusal(NamedTuple):
    """Why an imp (or the whole request) cannot be used, and the field that caused it."""

    imp_index: int
    reason: NoBidReason
    field: str


class Offer(NamedTuple):
    """What a request offers after the edge.

    Attributes:
        opportunities: one record per usable imp.
        imps: the imps of those records, same order.
        deals: per record the deals that its deal slice stands for.
        quantities_micros: per record impressions per bid, times 10^6.
        refusals: what was dropped; imp_index -1 refuses the request as a whole.
    """

    opportunities: Opportunities
    imps: tuple[Imp, ...]
    deals: tuple[tuple[Deal, ...], ...]
    quantities_micros: tuple[int, ...]
    refusals: tuple[Refusal, ...]


DealRow: TypeAlias = tuple[int, int, int, int, int, int, int, int]
"""Values of one deal in the order of ``market.opportunity.DEAL_DTYPE``."""


class _CodeBook(dict[str, int]):
    """Codes of texts seen before: hashing a text once saves a microsecond at every later request.

    Bounded: texts come from outside, so a full book is emptied rather than grown for ever.
    """

    def __missing__(self, text: str) -> int:
        if len(self) >= _CODE_BOOK_MAX:
            self.clear()
        code = self[text] = code_of(text)
        return code


def _record_struct() -> struct.Struct:
    """One packer for a whole record: a single call instead of fifty field assignments."""
    letters = {"u8": "Q", "i8": "q", "u4": "I", "i4": "i", "u2": "H", "u1": "B"}
    layout, at = "<", 0
    fields = cast("Mapping[str, tuple[Any, ...]]", OPPORTUNITY_DTYPE.fields)
    for name in OPPORTUNITY_DTYPE.names or ():
        dtype, offset = fields[name][0], fields[name][1]
        base, shape = dtype.subdtype or (dtype, (1,))
        layout += f"{offset - at}x{shape[0]}{letters[base.str[1:]]}"
        at = offset + dtype.itemsize
    return struct.Struct(f"{layout}{OPPORTUNITY_DTYPE.itemsize - at}x")


_RECORD = _record_struct()
assert _RECORD.size == OPPORTUNITY_DTYPE.itemsize


class Edge:
    """Turns requests into opportunities; keeps only a book of codes between requests."""

    def __init__(self, user_salt: bytes) -> None:
        """Takes the salt of user pseudonyms (``Deployment.user_salt_hex``)."""
        self._codes = _CodeBook()
        self._user_keys = lru_cache(_USERS_MAX)(partial(user_key, user_salt))
        self._windows: dict[tuple[str, int], int] = {}

    def read(self, request: BidRequest, profile: ExchangeProfile, arrival_ms: int) -> Offer:
        """Returns what ``request`` offers through the exchange of ``profile``."""
        whole = _whole_refusal(request)
        if whole is not None:
            return Offer(_NOTHING, (), (), (), (whole,))
        permission = permission_of(request)
        user_id = user_id_of(request) if permission.may_know_user else None
        pool: list[int] = []
        dimensions = self._dimensions(request, profile, arrival_ms, is_known=user_id is not None)
        list_first, list_count = self._lists(request, pool, may_know=permission.may_know_user)
        currencies = _currencies(request)
        shared = _Shared(
            profile, arrival_ms, self._user_keys(user_id) if user_id else 0,
            dimensions, list_first, list_count, currencies, request.at or 2, int(request.test == 1),
        )  # fmt: skip
        packed = bytearray()
        imps: list[Imp] = []
        deals: list[tuple[Deal, ...]] = []
        deal_rows: list[DealRow] = []
        refusals: list[Refusal] = []
        quantities: list[int] = []
        for index, imp in enumerate(request.imp):
            slot = slot_of(imp)
            if isinstance(slot, str):
                refusals.append(Refusal(index, NoBidReason.UNUSABLE_IMP, slot))
                continue
            kept = self._deals(imp, pool, deal_rows)
            packed += self._record(
                request, imp, slot, shared, len(deal_rows) - len(kept), len(kept)
            )
            quantities.append(slot.quantity_micros)
            imps.append(imp)
            deals.append(kept)
        opportunities = Opportunities(
            records=np.frombuffer(packed, OPPORTUNITY_DTYPE) if packed else _NOTHING.records,
            codes=np.frombuffer(array("Q", pool), np.uint64) if pool else _NOTHING.codes,
            deals=np.array(deal_rows, DEAL_DTYPE) if deal_rows else _NOTHING.deals,
        )
        return Offer(opportunities, tuple(imps), tuple(deals), tuple(quantities), tuple(refusals))

    def _record(
        self, request: BidRequest, imp: Imp, slot: Slot, shared: _Shared, deal_first: int,
        deal_count: int,
    ) -> bytes:  # fmt: skip
        key_hi, key_lo = opportunity_key(shared.profile.name, request.id, imp.id)
        tag = number_text(imp.tagid)
        dimensions = shared.dimensions
        dimensions[11] = self._codes[tag] if tag else 0
        floor_currency = CURRENCY_NUMBERS.get((imp.bidfloorcur or "USD").strip().upper(), 0)
        window = self._window_ms(shared.profile, slot.formats)
        return _RECORD.pack(
            key_hi, key_lo, shared.arrival_ms, shared.user_key, shared.profile.exchange_id,
            *dimensions, *shared.list_first, *shared.list_count, deal_first, deal_count,
            int(imp.pmp is not None and imp.pmp.private_auction == 1), slot.formats,
            min(max(shared.auction_type, 0), 65_535), shared.is_test, int(imp.secure == 1),
            price_from_wire(imp.bidfloor or 0.0), floor_currency, *shared.currencies,
            *slot.sizes, *_ZERO_SIZES[len(slot.sizes) :], len(slot.sizes),
            slot.duration_ms_min, slot.duration_ms_max, slot.attributes_blocked, slot.protocols,
            slot.media_types, slot.quantity_micros, window,
        )  # fmt: skip

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

    def _dimensions(
        self, request: BidRequest, profile: ExchangeProfile, arrival_ms: int, *, is_known: bool
    ) -> list[int]:
        """Returns codes by ``market.opportunity.Dimension``; PLACEMENT is set per imp."""
        codes = self._codes
        found = [0] * DIMENSION_COUNT
        found[0] = codes[profile.name]
        offset_minutes = 0
        device = request.device
        if device is not None:
            geo = device.geo
            if geo is not None:
                found[1] = codes[geo.country] if geo.country else 0
                region = number_text(geo.region)
                found[2] = codes[region] if region else 0
                city = number_text(geo.city) if is_known else None
                found[3] = codes[city] if city else 0
                offset_minutes = min(max(geo.utcoffset or 0, -1440), 1440)
            if device.devicetype is not None:
                found[4] = codes[str(device.devicetype)]
            os_name = number_text(device.os)
            found[5] = codes[os_name] if os_name else 0
            if device.connectiontype is not None:
                found[6] = codes[str(device.connectiontype)]
            found[7] = codes[device.language] if device.language else 0
            carrier = number_text(device.carrier)
            found[15] = codes[carrier] if carrier else 0
        channel = request.site or request.app or request.dooh
        if channel is not None:
            inventory = channel.domain
            if isinstance(channel, Site):
                found[8] = _INVENTORY_CODES["site"]
            elif isinstance(channel, App):
                found[8] = _INVENTORY_CODES["app"]
                inventory = number_text(channel.bundle) or channel.domain
            else:
                found[8] = _INVENTORY_CODES["dooh"]
            found[9] = codes[inventory] if inventory else 0
            publisher = number_text(channel.publisher.id) if channel.publisher else None
            found[10] = codes[publisher] if publisher else 0
        hour = (arrival_ms // 60_000 + offset_minutes) // 60
        found[12] = _HOUR_CODES[(hour + _EPOCH_WEEKDAY * 24) % 168]
        user = request.user
        if user is not None and is_known:
            found[13] = codes[user.gender] if user.gender else 0
            if user.yob is not None:
                found[14] = codes[age_band(arrival_ms, user.yob)]
        return found

    def _lists(  # noqa: C901 - nine lists, one after the other
        self, request: BidRequest, pool: list[int], *, may_know: bool
    ) -> tuple[list[int], list[int]]:
        """Appends the lists of ``market.opportunity.CodeList`` to the pool; (first, count) each."""
        channel = request.site or request.app or request.dooh
        content = channel.content if channel is not None else None
        first: list[int] = []
        count: list[int] = []

        def end_list() -> None:
            start = first[-1] + count[-1] if first else 0
            first.append(start)
            count.append(len(pool) - start)

        user = request.user
        if may_know and user is not None and user.data:
            for data in user.data:
                for segment in data.segment or ():
                    self._add(pool, (segment.id,))
        end_list()
        if isinstance(channel, (Site, App)):
            self._add(pool, channel.cat)
        if content is not None:
            self._add(pool, content.cat)
        end_list()
        if channel is not None and channel.keywords:
            self._add(pool, _keywords(channel.keywords))
        if content is not None and content.keywords:
            self._add(pool, _keywords(content.keywords))
        end_list()
        for values in (
            request.wseat, request.bseat, request.acat, request.bcat, request.badv, request.bapp,
        ):  # fmt: skip
            start = len(pool)
            if values:
                self._add(pool, values)
            first.append(start)
            count.append(len(pool) - start)
        assert len(first) == CODE_LIST_COUNT
        return first, count

    def _add(self, pool: list[int], values: Sequence[str | float | None] | None) -> None:
        """Appends the codes of a list of identifiers; empty ones say nothing."""
        codes = self._codes
        for value in values or ():
            text = value if isinstance(value, str) else number_text(value)
            if text:
                pool.append(codes[text])

    def _deals(self, imp: Imp, pool: list[int], rows: list[DealRow]) -> tuple[Deal, ...]:
        """Appends the imp's usable deals to ``rows`` (DEAL_DTYPE order) and returns them."""
        if imp.pmp is None or not imp.pmp.deals:
            return ()
        kept: list[Deal] = []
        for deal in imp.pmp.deals:
            name = number_text(deal.id)
            if name is None or (deal.bidfloor is not None and deal.bidfloor < 0):
                continue
            seats = texts(deal.wseat)
            currency = CURRENCY_NUMBERS.get((deal.bidfloorcur or "USD").strip().upper(), 0)
            floor = -1 if deal.bidfloor is None else price_from_wire(deal.bidfloor)
            at = min(max(deal.at or 0, 0), 65_535)
            domains = texts(deal.wadomain)
            first = len(pool)
            rows.append(
                (
                    self._codes[name], floor, currency, at, first, len(seats),
                    first + len(seats), len(domains),
                )
            )  # fmt: skip
            pool.extend([self._codes[text] for text in (*seats, *domains)])
            kept.append(deal)
        return tuple(kept)


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


_ZERO_SIZES = (0,) * SIZE_COUNT_MAX
_NOTHING = Opportunities(
    records=np.zeros(0, OPPORTUNITY_DTYPE),
    codes=np.zeros(1, np.uint64),
    deals=np.zeros(1, DEAL_DTYPE),
)


def age_band(arrival_ms: int, birth_year: int) -> str:
    """Returns the decade of a user's age, such as ``30``, in the year of the arrival."""
    year = datetime.fromtimestamp(arrival_ms / 1000, UTC).year
    return str((year - birth_year) // 10 * 10)


def _whole_refusal(request: BidRequest) -> Refusal | None:
    """Returns why nothing of a request can be used, None if it can."""
    contradiction = _contradiction(request)
    if contradiction:
        return Refusal(-1, NoBidReason.CONTRADICTORY_REQUEST, contradiction)
    # Our ads are named in the first taxonomy: a block in another one cannot be checked.
    if request.bcat and request.cattax not in _TAXONOMIES_KNOWN:
        return Refusal(-1, NoBidReason.CATEGORY_BLOCKED, "cattax")
    return None


def _contradiction(request: BidRequest) -> str:
    """Returns the field by which a request contradicts itself, "" if none does."""
    if request.site is not None and request.app is not None:
        return "app"
    if request.dooh is not None and (request.site is not None or request.app is not None):
        return "dooh"
    if len(request.imp) > 1 and len({imp.id for imp in request.imp}) < len(request.imp):
        return "imp.id"
    return ""


_USD_ONLY = (_USD, *(0,) * (CURRENCY_COUNT_MAX - 1))


def _currencies(request: BidRequest) -> tuple[int, ...]:
    """Returns ISO numbers of accepted currencies, 0-padded; unknown names are left out."""
    if not request.cur or request.cur == ["USD"]:
        return _USD_ONLY
    known = [CURRENCY_NUMBERS[c] for c in currencies_of(request) if c in CURRENCY_NUMBERS]
    known = known[:CURRENCY_COUNT_MAX]
    return (*known, *(0,) * (CURRENCY_COUNT_MAX - len(known)))


def _keywords(text: str | None) -> tuple[str, ...]:
    return tuple(word for part in (text or "").split(",") if (word := part.strip()))
