"""Signed notice URLs: how an exchange tells us what became of a bid, and nobody else can.

A bid's token says everything that a settlement needs. One HMAC-SHA512 of the token yields 84
base64url characters; each of the six kinds of notice carries its own 14 of them (84 bits), so that
six URLs cost one HMAC and a win URL can not be turned into a billing URL. The signature covers kind
and token: everything but the macros, which the exchange (or, for a conversion, the advertiser's
page) fills in as query parameters.

    {base}/n/{kind}/{token, 112 characters}{tag, 14 characters}?p=${AUCTION_PRICE}...

Sources: OpenRTB 2.6 section 4.4 (macros); HMAC and its truncation to not less than 80 bits:
RFC 2104 sections 2 and 5.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from typing import NamedTuple, Protocol

from market.errors import BadInput, Forbidden
from market.events import EventKind

# Padded to 84 bytes, a multiple of 3: base64 then has no spare bits and no "=".
_TOKEN = struct.Struct("<QQIIIIqqqqqHHHBBH2x")
_TOKEN_CHARS = 112
TAG_CHARS = 14
_DIGEST_BYTES = 63
_BLOCK_BYTES = 128
# The place of each kind's tag among the characters of the HMAC.
NOTICE_KINDS: tuple[EventKind, ...] = (
    EventKind.WIN,
    EventKind.BILLING,
    EventKind.LOSS,
    EventKind.IMPRESSION,
    EventKind.CLICK,
    EventKind.CONVERSION,
)
_PLACE = {kind: place * TAG_CHARS for place, kind in enumerate(NOTICE_KINDS)}
KIND_NAMES: dict[EventKind, str] = {kind: kind.name.lower() for kind in NOTICE_KINDS}
KINDS_BY_NAME: dict[str, EventKind] = {name: kind for kind, name in KIND_NAMES.items()}

QUERY_PRICE = "p"
"""Clearing price after any discount, CPM in bid currency: ${AUCTION_PRICE}."""
QUERY_CURRENCY = "c"
"""Currency of the bid, for confirmation: ${AUCTION_CURRENCY}."""
QUERY_MULTIPLIER = "q"
"""Impressions won with this one bid (digital out of home): ${AUCTION_MULTIPLIER}."""
QUERY_IMP_TS = "t"
"""When the impression was shown, epoch milliseconds: ${AUCTION_IMP_TS}."""
QUERY_LOSS = "l"
"""OpenRTB loss reason code: ${AUCTION_LOSS}."""
QUERY_MIN_TO_WIN = "m"
"""Least price that would have won, CPM: ${AUCTION_MIN_TO_WIN}."""
QUERY_ORDER = "o"
"""Order id of a conversion, set by the advertiser's page."""
QUERY_VALUE = "v"
"""Value of the order in units of the account's currency (decimal), set by the advertiser's page."""

QUERY_MACROS: dict[str, str] = {
    "i": "AUCTION_ID",
    "b": "AUCTION_BID_ID",
    "n": "AUCTION_IMP_ID",
    "s": "AUCTION_SEAT_ID",
    "a": "AUCTION_AD_ID",
    QUERY_PRICE: "AUCTION_PRICE",
    QUERY_CURRENCY: "AUCTION_CURRENCY",
    "r": "AUCTION_MBR",
    QUERY_LOSS: "AUCTION_LOSS",
    QUERY_MIN_TO_WIN: "AUCTION_MIN_TO_WIN",
    QUERY_MULTIPLIER: "AUCTION_MULTIPLIER",
    QUERY_IMP_TS: "AUCTION_IMP_TS",
    "d": "AUCTION_DISCOUNT_PCT",
    "e": "AUCTION_DISCOUNT_CPM",
}
"""The parameter of each OpenRTB macro (2.6 section 4.4): all are read, what helps is sent."""

PRICE_MACRO = "${AUCTION_PRICE}"

MACROS: dict[EventKind, str] = {
    EventKind.WIN: f"?{QUERY_PRICE}={PRICE_MACRO}&{QUERY_MIN_TO_WIN}=${{AUCTION_MIN_TO_WIN}}",
    EventKind.BILLING: (
        f"?{QUERY_PRICE}={PRICE_MACRO}&{QUERY_CURRENCY}=${{AUCTION_CURRENCY}}"
        f"&{QUERY_MULTIPLIER}=${{AUCTION_MULTIPLIER}}&{QUERY_IMP_TS}=${{AUCTION_IMP_TS}}"
    ),
    EventKind.LOSS: (
        f"?{QUERY_LOSS}=${{AUCTION_LOSS}}&{QUERY_PRICE}={PRICE_MACRO}"
        f"&{QUERY_MIN_TO_WIN}=${{AUCTION_MIN_TO_WIN}}"
    ),
    # One parameter, so that no "&" stands in markup.
    EventKind.IMPRESSION: f"?{QUERY_PRICE}={PRICE_MACRO}",
    EventKind.CLICK: "",
    EventKind.CONVERSION: "",
}
"""Query of the URL that is sent in a bid, macros unfilled."""


class _Hash(Protocol):
    """What ``hashlib`` returns."""

    def copy(self) -> _Hash: ...
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class Token(NamedTuple):
    """What a notice URL says of its bid. Times in epoch milliseconds, money in micros.

    ``reserved_micros`` is in account currency; ``rate_micros`` is account currency per unit of bid
    currency times 10^6; ``quantity_micros`` is impressions per bid times 10^6.
    """

    bid_hi: int
    bid_lo: int
    advertiser_id: int
    campaign_id: int
    line_item_id: int
    creative_id: int
    reserved_micros: int
    rate_micros: int
    quantity_micros: int
    bid_ms: int
    deadline_ms: int
    exchange: int
    bid_currency: int
    account_currency: int
    format: int
    is_test: int
    worker: int


def query_of(kind: EventKind, price_suffix: str = "") -> str:
    """Returns the query of a notice URL, its price macro with the suffix of an encoding."""
    query = MACROS[kind]
    if not price_suffix:
        return query
    return query.replace(PRICE_MACRO, f"{PRICE_MACRO[:-1]}:{price_suffix}}}")


def tag_place(kind: EventKind) -> int:
    """Returns where in the tags of ``sign`` the TAG_CHARS characters of ``kind`` begin."""
    return _PLACE[kind]


def sign(key: bytes, token: Token) -> tuple[str, str]:
    """Returns (token text, tags of all kinds) for ``notice_path``; once per bid."""
    body = _TOKEN.pack(*token)
    return urlsafe_b64encode(body).decode(), _tags(key, body)


def notice_path(kind: EventKind, text: str, tags: str) -> str:
    """Returns ``/n/{kind}/{token}{tag}`` of one notice, without its query."""
    place = _PLACE[kind]
    return f"/n/{KIND_NAMES[kind]}/{text}{tags[place : place + TAG_CHARS]}"


def open_notice(key: bytes, kind_name: str, signed: str) -> tuple[EventKind, Token]:
    """Returns the kind and the token of a notice path's two parts.

    Raises:
        BadInput: no such kind of notice.
        Forbidden: the token is damaged, altered or forged, or belongs to another kind.
    """
    kind = KINDS_BY_NAME.get(kind_name)
    if kind is None:
        raise BadInput(f"notice kind '{kind_name}': it must be one of {', '.join(KINDS_BY_NAME)}")
    text, tag = signed[:_TOKEN_CHARS], signed[_TOKEN_CHARS:]
    try:
        body = urlsafe_b64decode(text)
    except ValueError as error:
        raise Forbidden(f"{kind_name} notice: its token is not base64url") from error
    # b64decode skips foreign characters, so a text that does not encode back was altered.
    if len(body) != _TOKEN.size or urlsafe_b64encode(body) != text.encode(errors="replace"):
        raise Forbidden(f"{kind_name} notice: its token was altered")
    place = _PLACE[kind]
    expected = _tags(key, body)[place : place + TAG_CHARS]
    if not hmac.compare_digest(tag.encode(errors="replace"), expected.encode()):
        raise Forbidden(f"{kind_name} notice: its signature does not match")
    return kind, Token(*_TOKEN.unpack(body))


def _tags(key: bytes, body: bytes) -> str:
    """Returns the first 84 base64url characters of HMAC-SHA512(key, body)."""
    inner, outer = _states(key)
    first = inner.copy()
    first.update(body)
    second = outer.copy()
    second.update(first.digest())
    return urlsafe_b64encode(second.digest()[:_DIGEST_BYTES]).decode()


@lru_cache(maxsize=16)
def _states(key: bytes) -> tuple[_Hash, _Hash]:
    """Returns SHA-512 after the inner and the outer padded key: computed once per key.

    Source: RFC 2104 section 4 ("the intermediate results of the compression function on the
    B-byte blocks can be precomputed"); it halves the time of a signature.
    """
    padded = (hashlib.sha512(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(
        _BLOCK_BYTES, b"\0"
    )
    return (
        hashlib.sha512(bytes(byte ^ 0x36 for byte in padded)),
        hashlib.sha512(bytes(byte ^ 0x5C for byte in padded)),
    )
