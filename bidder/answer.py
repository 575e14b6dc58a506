"""The answer: from decisions to a bid response, with signed notice URLs and finished markup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from market.events import EventKind
from market.money import CURRENCY_NAMES, price_to_wire
from market.notices import KIND_NAMES, MACROS, TAG_CHARS, Token, sign, tag_place
from market.openrtb import Bid, BidResponse, Deal, Imp, SeatBid, encode_response
from market.openrtb_reading import number_text

if TYPE_CHECKING:
    from market.exchange import ExchangeProfile
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
_MTYPE = {1: 1, 2: 2, 4: 3, 8: 4}
"""Format bit -> OpenRTB mtype (2.6 section 4.2.3)."""


class BidPlace(NamedTuple):
    """What a bid's notices must know that the decision does not say; see ``market.notices``."""

    arrival_ms: int
    exchange_id: int
    quantity_micros: int
    is_test: int
    worker: int


class _Shown(NamedTuple):
    """What is the same in every bid of one creative: looked up once per snapshot."""

    adm: str
    adomain: tuple[str, ...]
    cat: tuple[str, ...]
    crid: str
    iurl: str | None
    language: str | None
    attributes: tuple[int, ...] | None
    duration_s: int | None
    protocol: int | None


class Answers:
    """Builds responses for one snapshot; made anew when the snapshot changes."""

    def __init__(self, snapshot: Snapshot, base_url: str, notice_key: bytes) -> None:
        """Takes the snapshot, the address of the notices and the secret that signs them."""
        self._key = notice_key
        self._urls = tuple(
            (f"{base_url}/n/{KIND_NAMES[kind]}/", tag_place(kind), MACROS[kind])
            for kind in _BID_KINDS
        )
        seats = snapshot.head.seats
        self._seats_by_row = tuple(
            seats.get(int(code), "") for code in snapshot.arrays.line_items["seat_code"]
        )
        self._shown = tuple(
            _shown(snapshot, row) for row in range(snapshot.arrays.creatives.shape[0])
        )

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
        text, tags = sign(
            self._key,
            Token(
                bid_hi, bid_lo, advertiser_id, campaign_id, line_item_id, creative_id,
                reserved_micros, rate_micros, at.quantity_micros, arrival_ms, deadline_ms,
                at.exchange_id, bid_currency, account_currency, format_bit, at.is_test, at.worker,
            ),
        )  # fmt: skip
        nurl, burl, lurl, impression, click = [
            f"{prefix}{text}{tags[place : place + TAG_CHARS]}{macros}"
            for prefix, place, macros in self._urls
        ]
        shown = self._shown[creative_row]
        return self._seats_by_row[line_item_row], Bid(
            id=f"{bid_hi:016x}{bid_lo:016x}",
            impid=imp.id,
            price=price_to_wire(bid_cpm_micros),
            nurl=nurl,
            burl=burl,
            lurl=lurl,
            adm=shown.adm.replace(IMPRESSION_URL, impression).replace(CLICK_URL, click),
            adid=shown.crid,
            adomain=shown.adomain,
            iurl=shown.iurl,
            cid=str(campaign_id),
            crid=shown.crid,
            cat=shown.cat,
            attr=shown.attributes,
            protocol=shown.protocol,
            language=shown.language,
            dealid=number_text(deals[deal_index].id) if deal_index >= 0 else None,
            w=size >> 16 or None,
            h=size & 0xFFFF or None,
            exp=(deadline_ms - arrival_ms) // 1000,
            dur=shown.duration_s,
            mtype=_MTYPE[format_bit],
        )


def respond(request_id: str, currency: int, bids: list[tuple[str, Bid]]) -> bytes:
    """Returns the body of a response that bids: one seatbid per seat, seats in order of bids."""
    seats: dict[str, list[Bid]] = {}
    for seat, bid in bids:
        seats.setdefault(seat, []).append(bid)
    return encode_response(
        BidResponse(
            id=request_id,
            bidid=bids[0][1].id,
            cur=CURRENCY_NAMES[currency],
            seatbid=tuple(SeatBid(seat=seat, bid=tuple(of)) for seat, of in seats.items()),
        )
    )


def refuse(request_id: str, nbr: int, profile: ExchangeProfile) -> bytes | None:
    """Returns the body that says no with its reason, None where the exchange wants a plain 204."""
    if not profile.answers_nbr:
        return None
    return encode_response(BidResponse(id=request_id, seatbid=(), nbr=nbr))


def _shown(snapshot: Snapshot, row: int) -> _Shown:
    creative = snapshot.arrays.creatives[row]
    text = snapshot.head.creatives[row]
    attributes = tuple(k for k in range(64) if int(creative["attributes"]) >> k & 1)
    return _Shown(
        adm=text.adm,
        adomain=(text.advertiser_domain,),
        cat=(text.category,),
        crid=str(creative["creative_id"]),
        iurl=text.image_url or None,
        language=text.language or None,
        attributes=attributes or None,
        duration_s=int(creative["duration_ms"]) // 1000 or None,
        protocol=int(creative["protocol"]) or None,
    )
