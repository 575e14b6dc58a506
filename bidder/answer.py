"""The answer: from decisions to a bid response, with signed notice URLs and finished markup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bidder.native_ad import Clip, native_markup
from bidder.pods import is_dynamic
from market.decision import DECISION_DTYPE
from market.events import EventKind
from market.money import CURRENCY_NAMES, price_to_wire
from market.notices import KIND_NAMES, TAG_CHARS, Token, query_of, sign, tag_place
from market.openrtb import Bid, BidResponse, SeatBid, encode_response
from market.openrtb_reading import number_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from market.creative import NativeParts
    from market.exchange import ExchangeProfile
    from market.openrtb import Deal, Imp, Native
    from market.snapshot import Snapshot

IMPRESSION_URL = "{{IMPRESSION_URL}}"
CLICK_URL = "{{CLICK_URL}}"

_BID_KINDS = (
    EventKind.WIN,
    EventKind.BILLING,
    EventKind.LOSS,
    EventKind.IMPRESSION,
    EventKind.CLICK,
)
BID_TAG_PLACES = tuple(tag_place(kind) for kind in _BID_KINDS)
"""Where among the tags of a signature those of a bid's notices begin: nurl, burl, lurl, then the
impression and click URLs of its markup."""
_NAMES = DECISION_DTYPE.names or ()
_RENDITION_ROW, _RATIO = (_NAMES.index(name) for name in ("rendition_row", "ratio"))
_PLAYED = {2: "video", 4: "audio"}
_NATIVE = 8
_MTYPE = {1: 1, 2: 2, 4: 3, 8: 4}
"""Format bit -> OpenRTB mtype (2.6 section 4.2.3)."""


class BidPlace(NamedTuple):
    """What a bid's notices must know that the decision does not say; see ``market.notices``."""

    arrival_ms: int
    exchange_id: int
    quantity_micros: int
    is_test: int
    worker: int
    price_suffix: str = ""
    taxonomy: int = 1
    """In which the exchange wants the ad's categories named (``cattax`` of the request)."""


class Shown(NamedTuple):
    """What is the same in every bid of one rendition: looked up at its first bid in a snapshot.

    Attributes:
        native: parts that the answer puts together as the request asks; None = ``adm`` is finished.
        duration_ms: of what is played.
        media_bit: media type of what is played.
        others: categories by the other taxonomies in which the ad has some.
    """

    adm: str
    adomain: tuple[str, ...]
    bundle: str | None
    cat: tuple[str, ...]
    crid: str
    iurl: str | None
    language: str | None
    attributes: tuple[int, ...] | None
    apis: tuple[int, ...] | None
    duration_s: int | None
    protocol: int | None
    native: NativeParts | None
    duration_ms: int
    media_bit: int
    others: dict[int, tuple[str, ...]]


class Special(NamedTuple):
    """What a bid says only where the imp asks for something special.

    Attributes:
        native: the slot whose assets are answered; None for another format.
        ratio: w << 16 | h of a flexible size, 0 = an exact one.
        slotinpod: 0 = any place, in a dynamic pod; None = not for such a pod.
        taxonomy: of the ad's categories, 1 = the usual one.
    """

    native: Native | None
    ratio: int
    slotinpod: int | None
    taxonomy: int


NOTHING_SPECIAL = Special(None, 0, None, 1)


class Answers:
    """Builds responses for one snapshot; made anew when the snapshot changes."""

    def __init__(self, snapshot: Snapshot, base_url: str, notice_key: bytes) -> None:
        """Takes the snapshot, the address of the notices and the secret that signs them."""
        self._key = notice_key
        self._base_url = base_url
        # By the suffix of the exchange's price macro, (prefix, query) of each of a bid's notices.
        self._urls: dict[str, tuple[tuple[str, str], ...]] = {}
        self._snapshot = snapshot
        # Filled at first use: a new snapshot with 30,000 creatives must not stall its worker.
        self._shown: dict[int, Shown] = {}
        self._seats: dict[int, str] = {}

    def shown(self, creative_row: int, rendition_row: int) -> Shown:
        """Returns what every bid of a creative in one of its renditions says."""
        shown = self._shown.get(rendition_row)
        if shown is None:
            shown = _shown(self._snapshot, creative_row, rendition_row)
            self._shown[rendition_row] = shown
        return shown

    def seat(self, line_item_row: int) -> str:
        """Returns the buyer seat that a line item bids for."""
        seat = self._seats.get(line_item_row)
        if seat is None:
            code = int(self._snapshot.arrays.line_items["seat_code"][line_item_row])
            seat = self._seats[line_item_row] = self._snapshot.head.seats.get(code, "")
        return seat

    def bid(
        self,
        imp: Imp,
        deals: tuple[Deal, ...],
        decision: tuple[Any, ...],
        at: BidPlace,
    ) -> tuple[str, Bid]:
        """Returns (seat, bid) of one decision that bids, as OpenRTB 2.6 section 4.2.3.

        Args:
            imp: what it is for.
            deals: of the imp, as the decision counts them.
            decision: a record of DECISION_DTYPE as a tuple (``record.item()``).
            at: what the notices must know besides.
        """
        (
            bid_hi, bid_lo, line_item_row, creative_row, advertiser_id, campaign_id, line_item_id,
            creative_id, bid_cpm_micros, reserved_micros, _, _, rate_micros, deadline_ms, _,
            deal_index, bid_currency, account_currency, size, _, _, _, _, _, _, format_bit, *_,
        ) = decision  # fmt: skip
        arrival_ms = at.arrival_ms
        ratio = decision[_RATIO]
        text, tags = sign(
            self._key,
            Token(
                bid_hi, bid_lo, advertiser_id, campaign_id, line_item_id, creative_id,
                reserved_micros, rate_micros, at.quantity_micros, arrival_ms, deadline_ms,
                at.exchange_id, bid_currency, account_currency, format_bit, at.is_test, at.worker,
            ),
        )  # fmt: skip
        return self.seat(line_item_row), self.fill(
            self.shown(creative_row, decision[_RENDITION_ROW]),
            bid_id=f"{bid_hi:016x}{bid_lo:016x}",
            imp_id=imp.id,
            price=price_to_wire(bid_cpm_micros),
            signed=[text + tags[place : place + TAG_CHARS] for place in BID_TAG_PLACES],
            cid=str(campaign_id),
            dealid=number_text(deals[deal_index].id) if deal_index >= 0 else None,
            # A flexible size is answered as the ratio that was asked for (2.6 section 4.2.3).
            w=None if ratio else size >> 16 or None,
            h=None if ratio else size & 0xFFFF or None,
            exp=(deadline_ms - arrival_ms) // 1000,
            mtype=_MTYPE[format_bit],
            price_suffix=at.price_suffix,
            special=_special(imp, format_bit, ratio, at.taxonomy),
        )

    def fill(
        self,
        shown: Shown,
        *,
        bid_id: str,
        imp_id: str,
        price: float,
        signed: list[str],
        cid: str,
        dealid: str | None,
        w: int | None,
        h: int | None,
        exp: int,
        mtype: int,
        price_suffix: str = "",
        special: Special = NOTHING_SPECIAL,
    ) -> Bid:
        """Returns the bid of one creative: what it always says, and what this bid alone says.

        The native renderer calls it with marks in place of values and cuts its fragments at them,
        so a field that is the same in every bid of a creative belongs in ``Shown`` and nothing
        else; one that is not becomes an argument here and a slot in ``bidder.native.renderer``.
        ``signed`` is token and tag of each of the bid's notices, in order of BID_TAG_PLACES.
        ``special`` is nothing in every bid that the native renderer makes, save a native ad's slot.
        """
        nurl, burl, lurl, impression, click = [
            f"{prefix}{one}{macros}"
            for (prefix, macros), one in zip(self._urls_of(price_suffix), signed, strict=True)
        ]
        adm = shown.adm.replace(IMPRESSION_URL, impression).replace(CLICK_URL, click)
        if shown.native is not None and special.native is not None:
            clip = Clip(adm, shown.protocol or 0, shown.duration_ms, shown.media_bit)
            adm = native_markup(special.native, shown.native, clip, impression, click)
        other = shown.others.get(special.taxonomy)
        return Bid(
            id=bid_id,
            impid=imp_id,
            price=price,
            nurl=nurl,
            burl=burl,
            lurl=lurl,
            adm=adm,
            adid=shown.crid,
            adomain=shown.adomain,
            bundle=shown.bundle,
            iurl=shown.iurl,
            cid=cid,
            crid=shown.crid,
            cattax=None if other is None else special.taxonomy,
            cat=other or shown.cat,
            attr=shown.attributes,
            apis=shown.apis,
            protocol=shown.protocol,
            language=shown.language,
            dealid=dealid,
            w=w,
            h=h,
            wratio=special.ratio >> 16 or None,
            hratio=special.ratio & 0xFFFF or None,
            exp=exp,
            dur=shown.duration_s,
            mtype=mtype,
            slotinpod=special.slotinpod,
        )

    def _urls_of(self, price_suffix: str) -> tuple[tuple[str, str], ...]:
        urls = self._urls.get(price_suffix)
        if urls is None:
            urls = self._urls[price_suffix] = tuple(
                (f"{self._base_url}/n/{KIND_NAMES[kind]}/", query_of(kind, price_suffix))
                for kind in _BID_KINDS
            )
        return urls


def respond(request_id: str, currency: int, bids: list[tuple[str, Bid]]) -> bytes:
    """Returns the body of a response that bids: one seatbid per seat, seats in order of bids."""
    seats: dict[str, list[Bid]] = {}
    for seat, bid in bids:
        seats.setdefault(seat, []).append(bid)
    return encode_response(
        response_of(request_id, bids[0][1].id, CURRENCY_NAMES[currency], seats.items())
    )


def response_of(
    request_id: str, bid_id: str, currency: str, seats: Iterable[tuple[str, Sequence[Bid]]]
) -> BidResponse:
    """Returns a response that bids; the native renderer calls it with marks, as ``fill``."""
    return BidResponse(
        id=request_id,
        bidid=bid_id,
        cur=currency,
        seatbid=tuple(SeatBid(seat=seat, bid=tuple(bids)) for seat, bids in seats),
    )


def refuse(request_id: str, nbr: int, profile: ExchangeProfile) -> bytes | None:
    """Returns the body that says no with its reason, None where the exchange wants a plain 204."""
    if not profile.answers_nbr:
        return None
    return encode_response(BidResponse(id=request_id, seatbid=(), nbr=nbr))


def _special(imp: Imp, format_bit: int, ratio: int, taxonomy: int) -> Special:
    """Returns what a bid for this imp says beyond the usual."""
    if format_bit == _NATIVE:
        return Special(imp.native, 0, None, taxonomy)
    played = _PLAYED.get(format_bit)
    # What we bid with may stand anywhere in the pod; where it is one slot, that is known.
    slotinpod = 0 if played and is_dynamic(getattr(imp, played)) else None
    if ratio == 0 and slotinpod is None and taxonomy == 1:
        return NOTHING_SPECIAL
    return Special(None, ratio, slotinpod, taxonomy)


def _shown(snapshot: Snapshot, creative_row: int, rendition_row: int) -> Shown:
    creative = snapshot.arrays.creatives[creative_row]
    text = snapshot.head.creatives[creative_row]
    place = rendition_row - int(creative["rendition_first"])
    return Shown(
        adm=text.adms[place],
        adomain=(text.advertiser_domain,),
        bundle=text.app_bundle or None,
        cat=(text.category,),
        crid=str(creative["creative_id"]),
        iurl=text.image_url or None,
        language=text.language or None,
        attributes=_codes(int(creative["attributes"])),
        apis=_codes(int(creative["apis"])),
        duration_s=int(creative["duration_ms"]) // 1000 or None,
        protocol=int(creative["protocols"][place]) or None,
        native=text.native,
        duration_ms=int(creative["duration_ms"]),
        media_bit=int(creative["media_type"]),
        others=text.categories_by_taxonomy,
    )


def _codes(mask: int) -> tuple[int, ...] | None:
    """Returns the codes whose bits are set, None if none is."""
    return tuple(code for code in range(mask.bit_length()) if mask >> code & 1) or None
