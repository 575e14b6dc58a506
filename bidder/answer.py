"""The answer: from decisions to a bid response, with signed notice URLs and finished markup."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from market.decision import DECISION_DTYPE
from market.events import EventKind
from market.exchange import ExchangeProfile
from market.money import CURRENCY_NAMES, price_to_wire
from market.notices import MACROS, Token, notice_path, sign
from market.openrtb import Bid, BidResponse, Deal, Imp, SeatBid, encode_response
from market.openrtb_reading import number_text
from market.opportunity import OPPORTUNITY_DTYPE
from market.snapshot import Snapshot

IMPRESSION_URL = "{{IMPRESSION_URL}}"
CLICK_URL = "{{CLICK_URL}}"

_DECISION_NAMES = tuple(DECISION_DTYPE.names or ())
_OPPORTUNITY_NAMES = tuple(OPPORTUNITY_DTYPE.names or ())
_BID_KINDS = (EventKind.WIN, EventKind.BILLING, EventKind.LOSS)
_MTYPE = {1: 1, 2: 2, 4: 3, 8: 4}
"""Format bit -> OpenRTB mtype (2.6 section 4.2.3)."""


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
        self._base_url = base_url
        self._seats = snapshot.head.seats
        self._seat_codes = snapshot.arrays.line_items["seat_code"]
        self._shown = tuple(
            _shown(snapshot, row) for row in range(snapshot.arrays.creatives.shape[0])
        )

    def bid(
        self,
        imp: Imp,
        deals: tuple[Deal, ...],
        decision: npt.NDArray[np.void],
        opportunity: npt.NDArray[np.void],
        worker: int,
    ) -> tuple[str, Bid]:
        """Returns (seat, bid) of one decision that bids, as OpenRTB 2.6 section 4.2.3."""
        # .item() turns a record into Python values in one call; field by field costs ten times that.
        d = dict(zip(_DECISION_NAMES, decision.item(), strict=True))
        o = dict(zip(_OPPORTUNITY_NAMES, opportunity.item(), strict=True))
        token = Token(
            d["bid_hi"], d["bid_lo"], d["advertiser_id"], d["campaign_id"], d["line_item_id"],
            d["creative_id"], d["reserved_micros"], d["rate_micros"], o["quantity_micros"],
            o["arrival_ms"], d["deadline_ms"], o["exchange"], d["bid_currency"],
            d["account_currency"], d["format"], o["is_test"], worker,
        )  # fmt: skip
        text, tags = sign(self._key, token)
        nurl, burl, lurl = (
            f"{self._base_url}{notice_path(kind, text, tags)}{MACROS[kind]}" for kind in _BID_KINDS
        )
        impression = (
            f"{self._base_url}{notice_path(EventKind.IMPRESSION, text, tags)}"
            f"{MACROS[EventKind.IMPRESSION]}"
        )
        click = f"{self._base_url}{notice_path(EventKind.CLICK, text, tags)}"
        shown = self._shown[d["creative_row"]]
        size = d["size"]
        seat_code = int(self._seat_codes[d["line_item_row"]])
        return self._seats[seat_code], Bid(
            id=f"{d['bid_hi']:016x}{d['bid_lo']:016x}",
            impid=imp.id,
            price=price_to_wire(d["bid_cpm_micros"]),
            nurl=nurl,
            burl=burl,
            lurl=lurl,
            adm=shown.adm.replace(IMPRESSION_URL, impression).replace(CLICK_URL, click),
            adid=shown.crid,
            adomain=shown.adomain,
            iurl=shown.iurl,
            cid=str(d["campaign_id"]),
            crid=shown.crid,
            cat=shown.cat,
            attr=shown.attributes,
            protocol=shown.protocol,
            language=shown.language,
            dealid=number_text(deals[d["deal_index"]].id) if d["deal_index"] >= 0 else None,
            w=size >> 16 or None,
            h=size & 0xFFFF or None,
            exp=(d["deadline_ms"] - o["arrival_ms"]) // 1000,
            dur=shown.duration_s,
            mtype=_MTYPE[d["format"]],
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
