"""What an OpenRTB 2.6 request offers: impressions, their formats, floors and deals.

Field names and nesting are those of the specification (InteractiveAdvertisingBureau/openrtb2.x:
2.6.md; OpenRTB Native Ads 1.2), named per class. Import these names from `market.openrtb`.
"""

from __future__ import annotations

import msgspec

from market.openrtb_types import NO_EXT, Code, Finite, Int64, Name, Text


class Imp(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An impression on offer, in one format or several. Source: 3.2.4."""

    id: Name
    metric: list[Metric] | None = None
    banner: Banner | None = None
    video: Video | None = None
    audio: Audio | None = None
    native: Native | None = None
    pmp: Pmp | None = None
    displaymanager: str | None = None
    displaymanagerver: Text | None = None
    instl: Int64 | None = None
    tagid: Text | None = None
    bidfloor: Finite | None = None
    """CPM in ``bidfloorcur``."""
    bidfloorcur: str | None = None
    clickbrowser: Int64 | None = None
    secure: Int64 | None = None
    iframebuster: list[Text] | None = None
    rwdd: Int64 | None = None
    ssai: Int64 | None = None
    exp: Int64 | None = None
    """Seconds that may pass between auction and impression."""
    qty: Qty | None = None
    dt: Finite | None = None
    """When the impression is expected to be displayed (DOOH), milliseconds since 1970."""
    refresh: Refresh | None = None
    ext: msgspec.Raw = NO_EXT


class Metric(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A measured property of the impression, such as viewability. Source: 3.2.5."""

    type: Text | None = None
    value: Finite | None = None
    vendor: Text | None = None
    ext: msgspec.Raw = NO_EXT


class Format(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A size that a banner may take: exact, or a ratio with a least width. Source: 3.2.10."""

    w: Int64 | None = None
    h: Int64 | None = None
    wratio: Int64 | None = None
    hratio: Int64 | None = None
    wmin: Int64 | None = None
    ext: msgspec.Raw = NO_EXT


class Banner(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A banner on offer, or the companion of a video or audio ad. Source: 3.2.6."""

    format: list[Format] | None = None
    w: Int64 | None = None
    h: Int64 | None = None
    btype: list[Code] | None = None
    battr: list[Code] | None = None
    pos: Int64 | None = None
    mimes: list[Text] | None = None
    topframe: Int64 | None = None
    expdir: list[Code] | None = None
    api: list[Code] | None = None
    id: Text | None = None
    vcm: Int64 | None = None
    ext: msgspec.Raw = NO_EXT


class DurFloors(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The floor for creatives of a range of durations, in seconds. Source: 3.2.35."""

    mindur: Int64 | None = None
    maxdur: Int64 | None = None
    bidfloor: Finite | None = None
    ext: msgspec.Raw = NO_EXT


class TimedMedia(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What video and audio share: durations, pods, delivery. Source: 3.2.7, 3.2.8."""

    mimes: list[Text] | None = None
    minduration: Int64 | None = None
    maxduration: Int64 | None = None
    startdelay: Int64 | None = None
    maxseq: Int64 | None = None
    poddur: Int64 | None = None
    protocols: list[Code] | None = None
    podid: Text | None = None
    podseq: Int64 | None = None
    rqddurs: list[Code] | None = None
    sequence: Int64 | None = None
    slotinpod: Int64 | None = None
    mincpmpersec: Finite | None = None
    battr: list[Code] | None = None
    maxextended: Int64 | None = None
    minbitrate: Int64 | None = None
    maxbitrate: Int64 | None = None
    delivery: list[Code] | None = None
    companionad: list[Banner] | None = None
    api: list[Code] | None = None
    companiontype: list[Code] | None = None
    durfloors: list[DurFloors] | None = None
    ext: msgspec.Raw = NO_EXT


class Video(TimedMedia, frozen=True, gc=False, omit_defaults=True):
    """A video on offer, in a stream or beside text. Source: 3.2.7."""

    protocol: list[Code] | Code | None = None
    """The place of ``protocols`` before OpenRTB 2.1; still sent."""
    w: Int64 | None = None
    h: Int64 | None = None
    placement: Int64 | None = None
    plcmt: Int64 | None = None
    linearity: Int64 | None = None
    skip: Int64 | None = None
    skipmin: Int64 | None = None
    skipafter: Int64 | None = None
    boxingallowed: Int64 | None = None
    playbackmethod: list[Code] | None = None
    playbackend: Int64 | None = None
    pos: Int64 | None = None
    poddedupe: list[Code] | None = None


class Audio(TimedMedia, frozen=True, gc=False, omit_defaults=True):
    """An audio slot on offer. Source: 3.2.8."""

    feed: Int64 | None = None
    stitched: Int64 | None = None
    nvol: Int64 | None = None


class NativeTitle(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A title asset and its longest length in characters. Source: Native 1.2, 4.3."""

    len: Int64 | None = None
    ext: msgspec.Raw = NO_EXT


class NativeImage(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An image asset: exact size, or a least one. Source: Native 1.2, 4.4."""

    type: Int64 | None = None
    w: Int64 | None = None
    wmin: Int64 | None = None
    h: Int64 | None = None
    hmin: Int64 | None = None
    mimes: list[Text] | None = None
    ext: msgspec.Raw = NO_EXT


class NativeData(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A text asset of a kind: sponsor, description, rating. Source: Native 1.2, 4.6."""

    type: Int64 | None = None
    len: Int64 | None = None
    ext: msgspec.Raw = NO_EXT


class NativeAsset(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One part of a native ad; exactly one kind is set. Source: Native 1.2, 4.2."""

    id: Int64 | None = None
    required: Int64 | None = None
    title: NativeTitle | None = None
    img: NativeImage | None = None
    video: Video | None = None
    data: NativeData | None = None
    ext: msgspec.Raw = NO_EXT


class NativeEventTracker(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An event that may be tracked, and by which methods. Source: Native 1.2, 4.7."""

    event: Int64 | None = None
    methods: list[Code] | None = None
    ext: msgspec.Raw = NO_EXT


class NativeRequest(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The native markup request, with the 1.0 fields still sent. Source: Native 1.2, 4.1."""

    ver: Text | None = None
    layout: Int64 | None = None
    adunit: Int64 | None = None
    context: Int64 | None = None
    contextsubtype: Int64 | None = None
    plcmttype: Int64 | None = None
    plcmtcnt: Int64 | None = None
    seq: Int64 | None = None
    assets: list[NativeAsset] | None = None
    aurlsupport: Int64 | None = None
    durlsupport: Int64 | None = None
    eventtrackers: list[NativeEventTracker] | None = None
    privacy: Int64 | None = None
    ext: msgspec.Raw = NO_EXT


class Native(NativeRequest, frozen=True, gc=False, omit_defaults=True):
    """A native slot on offer. Source: 3.2.9.

    The specification puts a `NativeRequest` into ``request`` as a JSON string; some exchanges put
    the object there, others its fields straight into ``imp.native``, hence the base class.
    `market.openrtb_decode.native_request_of` reads all three.
    """

    request: msgspec.Raw = NO_EXT
    api: list[Code] | None = None
    battr: list[Code] | None = None


class Pmp(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The private marketplace of an impression. Source: 3.2.11."""

    private_auction: Int64 | None = None
    deals: list[Deal] | None = None
    ext: msgspec.Raw = NO_EXT


class Deal(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Terms agreed beforehand between seller and buyer. Source: 3.2.12."""

    id: Name | int | float
    bidfloor: Finite | None = None
    """CPM in this deal's own ``bidfloorcur``: absent means USD, whatever the imp says."""
    bidfloorcur: str | None = None
    at: Int64 | None = None
    wseat: list[Text] | None = None
    wadomain: list[Text] | None = None
    guar: Int64 | None = None
    mincpmpersec: Finite | None = None
    durfloors: list[DurFloors] | None = None
    ext: msgspec.Raw = NO_EXT


class Qty(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How many impressions one billable event stands for (DOOH). Source: 3.2.31."""

    multiplier: Finite | None = None
    sourcetype: Int64 | None = None
    vendor: Text | None = None
    ext: msgspec.Raw = NO_EXT


class RefSettings(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A mechanism that refreshes the ad slot. Source: 3.2.34."""

    reftype: Int64 | None = None
    minint: Int64 | None = None
    ext: msgspec.Raw = NO_EXT


class Refresh(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How often the ad slot was refreshed, and why. Source: 3.2.33."""

    refsettings: list[RefSettings] | None = None
    count: Int64 | None = None
    ext: msgspec.Raw = NO_EXT
