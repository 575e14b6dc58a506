"""The OpenRTB 2.6 words: what a bid request may say, and what we answer.

Field names and nesting are those of the specification (InteractiveAdvertisingBureau/openrtb2.x:
2.6.md, sections 3.2 and 4.2), so a request is read beside the page that defines it. Types are
wider than the specification, because exchanges are (`market.openrtb_types`): every field that is
not needed to name an impression is ``X | None``, and absent and ``null`` are the same.

What this file does not do: decode a body and mend it (`market.openrtb_decode`), turn the wide
types into plain ones (`market.openrtb_reading`), or judge whether a value makes sense (the
bidder's edge: a negative floor is a number here).

``ext`` is unparsed (``msgspec.Raw``; ``len(ext) == 0`` when absent) except where OpenRTB 2.5 kept
privacy and supply chain in it: `RegsExt`, `UserExt`, `SourceExt`. A ``Raw`` is a view that keeps
the whole body alive; ``copy()`` it to hold it longer than the request.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from market.openrtb_context import (
    App,
    BrandVersion,
    Broadcaster,
    Content,
    Data,
    Device,
    DigitalChannel,
    DistributionChannel,
    Dooh,
    Eid,
    Geo,
    Producer,
    Publisher,
    Segment,
    Site,
    Uid,
    User,
    UserAgent,
    UserExt,
)
from market.openrtb_offer import (
    Audio,
    Banner,
    Deal,
    DurFloors,
    Format,
    Imp,
    Metric,
    Native,
    NativeAsset,
    NativeData,
    NativeEventTracker,
    NativeImage,
    NativeRequest,
    NativeTitle,
    Pmp,
    Qty,
    Refresh,
    RefSettings,
    TimedMedia,
    Video,
)
from market.openrtb_types import NO_EXT, Int64, Name, Signal, SignalCode, SignalText, Text

__all__ = [
    "NO_EXT",
    "App",
    "Audio",
    "Banner",
    "Bid",
    "BidRequest",
    "BidResponse",
    "BrandVersion",
    "Broadcaster",
    "Content",
    "Data",
    "Deal",
    "Device",
    "DigitalChannel",
    "DistributionChannel",
    "Dooh",
    "DurFloors",
    "Eid",
    "Format",
    "Geo",
    "Imp",
    "Metric",
    "Native",
    "NativeAsset",
    "NativeData",
    "NativeEventTracker",
    "NativeImage",
    "NativeRequest",
    "NativeTitle",
    "Pmp",
    "Producer",
    "Publisher",
    "Qty",
    "RefSettings",
    "Refresh",
    "Regs",
    "RegsExt",
    "SeatBid",
    "Segment",
    "Site",
    "Source",
    "SourceExt",
    "SupplyChain",
    "SupplyChainNode",
    "TimedMedia",
    "Uid",
    "User",
    "UserAgent",
    "UserExt",
    "Video",
    "encode_response",
]


class BidRequest(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What an exchange offers: one auction of one or more impressions. Source: 3.2.1."""

    id: Name
    imp: Annotated[list[Imp], Meta(min_length=1)]
    site: Site | None = None
    app: App | None = None
    dooh: Dooh | None = None
    device: Device | None = None
    user: User | None = None
    test: Int64 | None = None
    at: Int64 | None = None
    tmax: Int64 | None = None
    """Milliseconds for everything, Internet latency included."""
    wseat: list[Text] | None = None
    bseat: list[Text] | None = None
    allimps: Int64 | None = None
    cur: list[Text] | None = None
    wlang: list[Text] | None = None
    wlangb: list[Text] | None = None
    acat: list[Text] | None = None
    bcat: list[Text] | None = None
    cattax: Int64 | None = None
    badv: list[Text] | None = None
    bapp: list[Text] | None = None
    source: Source | None = None
    regs: Regs | None = None
    ext: msgspec.Raw = NO_EXT


class Regs(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The regulations the request is subject to. Source: 3.2.3."""

    coppa: Signal | None = None
    gdpr: Signal | None = None
    us_privacy: SignalText | None = None
    gpp: SignalText | None = None
    gpp_sid: list[SignalCode] | None = None
    ext: RegsExt | None = None


class RegsExt(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where OpenRTB 2.5 kept the privacy signals."""

    gdpr: Signal | None = None
    us_privacy: SignalText | None = None
    gpp: SignalText | None = None
    gpp_sid: list[SignalCode] | None = None


class Source(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Who decides on the sale, and through whose hands the request came. Source: 3.2.2."""

    fd: Int64 | None = None
    tid: Text | None = None
    pchain: str | None = None
    schain: SupplyChain | None = None
    ext: SourceExt | None = None


class SourceExt(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where OpenRTB 2.5 kept the supply chain; measurement partner beside it."""

    schain: SupplyChain | None = None
    omidpn: Text | None = None
    omidpv: Text | None = None


class SupplyChain(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The sellers between publisher and us, in order. Source: 3.2.25."""

    complete: Int64 | None = None
    nodes: list[SupplyChainNode] | None = None
    ver: Text | None = None
    ext: msgspec.Raw = NO_EXT


class SupplyChainNode(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One seller of the chain. Source: 3.2.26."""

    asi: str | None = None
    sid: Text | None = None
    rid: Text | None = None
    name: Text | None = None
    domain: str | None = None
    hp: Int64 | None = None
    ext: msgspec.Raw = NO_EXT


class Bid(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An offer for one impression. Source: 4.2.3."""

    id: str
    impid: str
    price: float
    """CPM in the response's ``cur``."""
    nurl: str | None = None
    burl: str | None = None
    lurl: str | None = None
    adm: str | None = None
    adid: str | None = None
    adomain: tuple[str, ...] | None = None
    bundle: str | None = None
    iurl: str | None = None
    cid: str | None = None
    crid: str | None = None
    tactic: str | None = None
    cattax: int | None = None
    cat: tuple[str, ...] | None = None
    attr: tuple[int, ...] | None = None
    apis: tuple[int, ...] | None = None
    api: int | None = None
    protocol: int | None = None
    qagmediarating: int | None = None
    language: str | None = None
    langb: str | None = None
    dealid: str | None = None
    w: int | None = None
    h: int | None = None
    wratio: int | None = None
    hratio: int | None = None
    exp: int | None = None
    dur: int | None = None
    mtype: int | None = None
    slotinpod: int | None = None
    ext: msgspec.Raw = NO_EXT


class SeatBid(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The bids of one buyer seat. Source: 4.2.2."""

    bid: tuple[Bid, ...]
    seat: str | None = None
    group: int | None = None
    ext: msgspec.Raw = NO_EXT


class BidResponse(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Our answer: bids, or the reason for none. Source: 4.2.1."""

    id: str
    seatbid: tuple[SeatBid, ...] | None = None
    bidid: str | None = None
    cur: str | None = None
    customdata: str | None = None
    nbr: int | None = None
    ext: msgspec.Raw = NO_EXT


_RESPONSES = msgspec.json.Encoder()


def encode_response(response: BidResponse) -> bytes:
    """The response as JSON: what is absent is left out, and ``nbr`` 0 or an empty ``seatbid`` stay.

    Prices must be finite: JSON has no word for the others.
    """
    return _RESPONSES.encode(response)
