"""Bid answers: what a bidder said to one request, checked as a strict exchange checks it.

Faults do not raise: a bid that breaks a rule is refused with the loss reason that OpenRTB has for
it, and counted under a name of its own.
"""

from __future__ import annotations

import html
import re
from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from market.errors import BadInput
from market.events import EventKind
from market.money import price_from_wire
from market.openrtb import Bid, BidResponse
from market.price_encryption import PriceCipher, PriceEncoding, new_iv
from simulator.exchange import LossReason
from simulator.supply import IMP_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from market.exchange import ExchangeProfile
    from market.price_encryption import PriceKeys

CLICK_TOKEN = "lsclk"  # noqa: S105 - the name of a query parameter
"""Query parameter of a click's ``Location`` that holds the conversion token."""

_RESPONSE = msgspec.json.Decoder(BidResponse)
_BID_ID = re.compile(r"^[0-9a-f]{32}$")
_AD_URL = re.compile(r"https?://[^\s\"'<>\])]+?/n/(impression|click)/[^\s\"'<>\])]*")
_MACRO = re.compile(
    r"(?:\$|%24)(?:\{|%7B)([A-Z_]+)(?:(?::|%3A)([A-Z0-9_]+))?(?:\}|%7D)", re.IGNORECASE
)
_PRICE = "AUCTION_PRICE"
_AD_KINDS = {"impression": EventKind.IMPRESSION, "click": EventKind.CLICK}


class LiveBid(NamedTuple):
    """One bid as it came over the wire.

    Attributes:
        bid_hi, bid_lo: the bid id as a number; of ids that are not 32 hex digits, their hash.
        price_cpm_micros: in the exchange's currency.
        creative_id: 0 if ``crid`` is no number.
        size: w << 16 | h; 0 = not said.
        format: ``market.opportunity.Format`` bit; 0 = not said.
        reason: 0, or why it is refused.
        fault: name of what is wrong, "" if nothing is.
        urls: per kind of notice, its URL with macros unfilled.
        seat: buyer seat, "" if not said.
        ad_id: ``adid``, "" if not said.
        response_id: ``bidid`` of the response, "" if not said.
    """

    bid_id: str
    bid_hi: int
    bid_lo: int
    price_cpm_micros: int
    creative_id: int
    size: int
    format: int
    reason: LossReason
    fault: str
    urls: dict[EventKind, str]
    seat: str
    ad_id: str
    response_id: str


def read_answer(body: bytes, request_id: str, currency: str) -> tuple[LiveBid | None, int]:
    """Returns the bid in the body of a 200 answer (None: no bid), and how many others came with it.

    Raises:
        BadInput: the body is no OpenRTB bid response.
    """
    try:
        response = _RESPONSE.decode(body)
    except msgspec.MsgspecError as error:
        raise BadInput(f"answer to request '{request_id}': {error}") from error
    offered = [(bid, seat.seat or "") for seat in response.seatbid or () for bid in seat.bid]
    if not offered:
        return None, 0
    bid, seat = offered[0]
    reason, fault = _fault(response, bid, request_id, currency)
    bid_hi, bid_lo = _bid_number(bid.id)
    crid = bid.crid or ""
    return LiveBid(
        bid_id=bid.id,
        bid_hi=bid_hi,
        bid_lo=bid_lo,
        price_cpm_micros=price_from_wire(bid.price),
        creative_id=int(crid) if crid.isascii() and crid.isdigit() and len(crid) <= 10 else 0,
        size=bid.w << 16 | bid.h if bid.w and bid.h else 0,
        format=1 << (bid.mtype - 1) if bid.mtype and 1 <= bid.mtype <= 4 else 0,
        reason=reason,
        fault=fault,
        urls=_urls(bid),
        seat=seat,
        ad_id=bid.adid or "",
        response_id=response.bidid or "",
    ), len(offered) - 1


def filled(url: str, macros: Mapping[str, str], price_suffix: str = "") -> str:
    """Returns a URL with its substitution macros filled; one without a value becomes "".

    Args:
        url: with macros such as ``${AUCTION_PRICE}`` or ``${AUCTION_SEAT_ID:B64}``.
        macros: values by name.
        price_suffix: that of the price's agreed encoding; its value is encoded already.

    A macro with the suffix of an encoding that nobody agreed on stays as it is.

    Source: OpenRTB 2.6, section 4.4.
    """

    def value_of(found: re.Match[str]) -> str:
        name, suffix = found[1].upper(), found[2] or ""
        value = macros.get(name, "")
        if suffix and not (name == _PRICE and suffix == price_suffix):
            if suffix.upper() != "B64":
                return found[0]
            value = urlsafe_b64encode(value.encode()).decode()
        return quote(value, safe="")

    return _MACRO.sub(value_of, url)


class PriceWriter:
    """Writes clearing prices as an exchange's profile says."""

    def __init__(self, profile: ExchangeProfile, price_keys: Mapping[str, PriceKeys]) -> None:
        """Takes the profile, and the keys of the deployment by exchange name.

        Raises:
            BadInput: the exchange encrypts its prices and has no keys, or damaged ones.
        """
        self._encoding = profile.price_encoding
        self._cipher = None
        if profile.price_encoding is PriceEncoding.GOOGLE:
            keys = price_keys.get(profile.name)
            if keys is None:
                raise BadInput(f"price_keys: exchange '{profile.name}' encrypts and has none")
            self._cipher = PriceCipher(keys, f"price_keys: exchange '{profile.name}'")

    def told(self, price_cpm_micros: int) -> int:
        """Returns the price that can be told: encrypted, it is a whole micro per impression."""
        return price_cpm_micros if self._cipher is None else price_cpm_micros // 1_000 * 1_000

    def text(self, price_cpm_micros: int, at_ms: int, nonce: int) -> str:
        """Returns what fills the price macro; ``nonce`` is of this impression alone."""
        if self._cipher is not None:
            return self._cipher.encrypt(price_cpm_micros // 1_000, new_iv(at_ms, nonce))
        text = price_text(price_cpm_micros)
        if self._encoding is PriceEncoding.BASE64:
            return urlsafe_b64encode(text.encode()).decode()
        return text


def price_text(price_cpm_micros: int) -> str:
    """Returns a price for a macro, exact: 1,234,567 -> ``1.234567``."""
    return f"{price_cpm_micros // 1_000_000}.{price_cpm_micros % 1_000_000:06d}"


def click_token(location: str) -> str:
    """Returns the conversion token in a click's ``Location``; "" if there is none."""
    try:
        found = parse_qs(urlsplit(location).query).get(CLICK_TOKEN, [""])
    except ValueError:
        return ""
    return found[0]


def _fault(
    response: BidResponse, bid: Bid, request_id: str, currency: str
) -> tuple[LossReason, str]:
    """Returns the first rule that a bid breaks, whatever the auction says. Source: 2.6, 4.2."""
    if response.id != request_id:
        return LossReason.INVALID_RESPONSE, "wrong_request_id"
    if bid.impid != IMP_ID:
        return LossReason.INVALID_RESPONSE, "wrong_imp_id"
    if (response.cur or "USD") != currency:
        return LossReason.INVALID_RESPONSE, "wrong_currency"
    if not bid.crid:
        return LossReason.MISSING_CREATIVE_ID, "missing_crid"
    if not bid.adm:
        return LossReason.MISSING_MARKUP, "missing_adm"
    return LossReason.WON, ""


def _bid_number(bid_id: str) -> tuple[int, int]:
    if _BID_ID.match(bid_id):
        return int(bid_id[:16], 16), int(bid_id[16:], 16)
    digest = blake2b(bid_id.encode(errors="surrogatepass"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def _urls(bid: Bid) -> dict[EventKind, str]:
    """Returns the notice URLs of a bid: nurl, burl, lurl, and the first of each kind in adm."""
    urls = {
        kind: url
        for kind, url in (
            (EventKind.WIN, bid.nurl),
            (EventKind.BILLING, bid.burl),
            (EventKind.LOSS, bid.lurl),
        )
        if url
    }
    for found in _AD_URL.finditer(bid.adm or ""):
        urls.setdefault(_AD_KINDS[found[1]], html.unescape(found[0]))
    return urls
