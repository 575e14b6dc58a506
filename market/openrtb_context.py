"""Where and to whom an OpenRTB 2.6 request would show the ad: inventory, device, user.

Field names and nesting are those of the specification (InteractiveAdvertisingBureau/openrtb2.x:
2.6.md), named per class. Import these names from `market.openrtb`.
"""

from __future__ import annotations

import msgspec

from market.openrtb_types import NO_EXT, Finite, Int64, Keywords, Signal, SignalText, Text


class DistributionChannel(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What site, app and DOOH inventory share. Source: 3.2.13, 3.2.14, 3.2.32."""

    id: Text | None = None
    name: Text | None = None
    domain: str | None = None
    keywords: Keywords | None = None
    publisher: Publisher | None = None
    content: Content | None = None
    ext: msgspec.Raw = NO_EXT


class DigitalChannel(DistributionChannel, frozen=True, gc=False, omit_defaults=True):
    """What sites and apps share. Source: 3.2.13, 3.2.14."""

    cattax: Int64 | None = None
    cat: list[Text] | None = None
    sectioncat: list[Text] | None = None
    pagecat: list[Text] | None = None
    privacypolicy: Int64 | None = None
    kwarray: list[Text] | None = None
    inventorypartnerdomain: str | None = None


class Site(DigitalChannel, frozen=True, gc=False, omit_defaults=True):
    """The website that shows the ad. Source: 3.2.13."""

    page: str | None = None
    ref: str | None = None
    search: Text | None = None
    mobile: Int64 | None = None


class App(DigitalChannel, frozen=True, gc=False, omit_defaults=True):
    """The application that shows the ad. Source: 3.2.14."""

    bundle: Text | None = None
    storeurl: str | None = None
    ver: Text | None = None
    paid: Int64 | None = None


class Dooh(DistributionChannel, frozen=True, gc=False, omit_defaults=True):
    """The screen out of home; excludes site and app. Source: 3.2.32."""

    venuetype: list[Text] | None = None
    venuetypetax: Int64 | None = None


class Publisher(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The seller of the inventory. Source: 3.2.15."""

    id: Text | None = None
    name: Text | None = None
    cattax: Int64 | None = None
    cat: list[Text] | None = None
    domain: str | None = None
    ext: msgspec.Raw = NO_EXT


class Producer(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The producer of the content. Source: 3.2.17."""

    id: Text | None = None
    name: Text | None = None
    cattax: Int64 | None = None
    cat: list[Text] | None = None
    domain: str | None = None
    ext: msgspec.Raw = NO_EXT


class Broadcaster(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The network or the channel that carries the content. Source: 3.2.23, 3.2.24."""

    id: Text | None = None
    name: Text | None = None
    domain: str | None = None
    ext: msgspec.Raw = NO_EXT


class Content(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What the ad stands in or beside: an article, an episode, a song. Source: 3.2.16."""

    id: Text | None = None
    episode: Int64 | None = None
    title: Text | None = None
    series: Text | None = None
    season: Text | None = None
    artist: Text | None = None
    genre: Text | None = None
    gtax: Int64 | None = None
    genres: list[Text] | None = None
    album: Text | None = None
    isrc: Text | None = None
    producer: Producer | None = None
    url: str | None = None
    cattax: Int64 | None = None
    cat: list[Text] | None = None
    prodq: Int64 | None = None
    videoquality: Int64 | None = None
    """The place of ``prodq`` before OpenRTB 2.4; still sent."""
    context: Int64 | None = None
    contentrating: Text | None = None
    userrating: Text | None = None
    qagmediarating: Int64 | None = None
    keywords: Keywords | None = None
    kwarray: list[Text] | None = None
    livestream: Int64 | None = None
    sourcerelationship: Int64 | None = None
    len: Int64 | None = None
    language: str | None = None
    langb: str | None = None
    embeddable: Int64 | None = None
    data: list[Data] | None = None
    network: Broadcaster | None = None
    channel: Broadcaster | None = None
    realtime: Int64 | None = None
    firstbroadcast: Int64 | None = None
    ext: msgspec.Raw = NO_EXT


class Device(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What the user looks at. Source: 3.2.18."""

    geo: Geo | None = None
    dnt: Signal | None = None
    lmt: Signal | None = None
    ua: str | None = None
    sua: UserAgent | None = None
    ip: str | None = None
    ipv6: str | None = None
    devicetype: Int64 | None = None
    make: Text | None = None
    model: Text | None = None
    os: Text | None = None
    osv: Text | None = None
    hwv: Text | None = None
    h: Int64 | None = None
    w: Int64 | None = None
    ppi: Int64 | None = None
    pxratio: Finite | None = None
    js: Int64 | None = None
    geofetch: Int64 | None = None
    flashver: Text | None = None
    language: str | None = None
    langb: str | None = None
    carrier: Text | None = None
    mccmnc: Text | None = None
    connectiontype: Int64 | None = None
    ifa: Text | None = None
    didsha1: Text | None = None
    didmd5: Text | None = None
    dpidsha1: Text | None = None
    dpidmd5: Text | None = None
    macsha1: Text | None = None
    macmd5: Text | None = None
    ext: msgspec.Raw = NO_EXT


class Geo(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where the device is, or where the user lives. Source: 3.2.19."""

    lat: Finite | None = None
    lon: Finite | None = None
    type: Int64 | None = None
    accuracy: Int64 | None = None
    """Metres."""
    lastfix: Int64 | None = None
    """Seconds since the fix."""
    ipservice: Int64 | None = None
    country: str | None = None
    region: Text | None = None
    regionfips104: Text | None = None
    metro: Text | None = None
    city: Text | None = None
    zip: Text | None = None
    utcoffset: Int64 | None = None
    """Minutes."""
    ext: msgspec.Raw = NO_EXT


class BrandVersion(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A browser or platform and its version components. Source: 3.2.30."""

    brand: Text | None = None
    version: list[Text] | None = None
    ext: msgspec.Raw = NO_EXT


class UserAgent(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The structured user agent (``device.sua``), preferred over ``ua``. Source: 3.2.29."""

    browsers: list[BrandVersion] | None = None
    platform: BrandVersion | None = None
    mobile: Int64 | None = None
    architecture: Text | None = None
    bitness: Text | None = None
    model: Text | None = None
    source: Int64 | None = None
    ext: msgspec.Raw = NO_EXT


class User(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Who is offered the ad. Source: 3.2.20."""

    id: Text | None = None
    buyeruid: Text | None = None
    yob: Int64 | None = None
    gender: str | None = None
    keywords: Keywords | None = None
    kwarray: list[Text] | None = None
    customdata: Text | None = None
    geo: Geo | None = None
    data: list[Data] | None = None
    consent: SignalText | None = None
    eids: list[Eid] | None = None
    ext: UserExt | None = None


class UserExt(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where OpenRTB 2.5 kept the consent string and the extended ids of a user."""

    consent: SignalText | None = None
    eids: list[Eid] | None = None


class Data(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Segments of one data provider. Source: 3.2.21."""

    id: Text | None = None
    name: Text | None = None
    cids: list[Text] | None = None
    segment: list[Segment] | None = None
    ext: msgspec.Raw = NO_EXT


class Segment(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One segment that the user or content is in. Source: 3.2.22."""

    id: Text | None = None
    name: Text | None = None
    value: Text | None = None
    ext: msgspec.Raw = NO_EXT


class Eid(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The ids of a user at one identity provider. Source: 3.2.27."""

    inserter: str | None = None
    source: str | None = None
    matcher: str | None = None
    mm: Int64 | None = None
    uids: list[Uid] | None = None
    ext: msgspec.Raw = NO_EXT


class Uid(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One id of a user and the kind of agent it comes from. Source: 3.2.28."""

    id: Text | None = None
    atype: Int64 | None = None
    ext: msgspec.Raw = NO_EXT
