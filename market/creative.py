"""The creative: one thing that can be shown, and what a slot must know to take it or leave it.

A creative brings its markup in one of three ways:

- ``adm``: finished but for two tokens, ``{{IMPRESSION_URL}}`` and ``{{CLICK_URL}}``;
- ``media_url``: a video or audio file, for which VAST is written in the version that a player asks
  for (``market.vast``);
- ``native``: the parts of a native ad, put together as each request asks (``bidder.native_ad``).

Codes are those of AdCOM 1.0. This file says what there is and which rules it keeps; whether a slot
takes it is decided by the bidder.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from market.opportunity import Format

if TYPE_CHECKING:
    from collections.abc import Iterator

AD_FIELDS: tuple[str, ...] = ("category", "format", "size", "headline", "layout", "palette")
"""Attributes of a creative that the recommendation model learns from, in this order."""

MEDIA_TYPES: tuple[str, ...] = (
    "image/jpeg", "image/png", "image/gif", "image/webp", "text/html", "video/mp4", "video/webm",
    "video/ogg", "video/3gpp", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/aac",
    "application/javascript",
)  # fmt: skip
"""Bit k of ``media_types`` in an opportunity and a creative is MEDIA_TYPES[k]."""

ATTRIBUTES_EXPANDABLE = (3, 4, 5)
"""AdCOM list "Creative Attributes": expands by itself, on a click, on a rollover."""
ATTRIBUTE_SKIPPABLE = 16
"""The creative itself has a skip button."""

DATA_FIELDS: tuple[str, ...] = (
    "", "sponsored", "description", "rating", "likes", "downloads", "price", "sale_price", "phone",
    "address", "description2", "display_url", "call_to_action",
)  # fmt: skip
"""Field of `NativeParts` by data asset type. Source: OpenRTB Native 1.2, 7.4."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_URL_STARTS = ("https://", "http://")
_TEXT_CHARS_MAX = 1_000
_PIXELS_MAX = 65_535
_DURATION_MS_MAX = 86_400_000


class NativeImage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An image of a native ad or beside a video, kept elsewhere; width and height in pixels."""

    url: str
    width: int
    height: int
    media_type: str = "image/jpeg"


class NativeParts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a native ad can be put together from; what is empty is not there.

    Attributes:
        title: the headline.
        image: the main picture.
        icon: of the brand or the app.
        sponsored: who pays, as it is to be named.
        description: the text; the other fields are the data assets of DATA_FIELDS.
    """

    title: str
    image: NativeImage | None = None
    icon: NativeImage | None = None
    sponsored: str = ""
    description: str = ""
    rating: str = ""
    likes: str = ""
    downloads: str = ""
    price: str = ""
    sale_price: str = ""
    phone: str = ""
    address: str = ""
    description2: str = ""
    display_url: str = ""
    call_to_action: str = ""

    def data(self, kind: int) -> str:
        """Returns the text of a data asset type, "" for one that it lacks."""
        is_known = 0 < kind < len(DATA_FIELDS)
        return str(getattr(self, DATA_FIELDS[kind])) if is_known else ""


class Creative(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One thing that can be shown.

    Attributes:
        creative_id: unique over all advertisers; assigned by the control plane.
        format: banner, video, audio or native.
        width: pixels; 0 for audio, and of a native ad's video.
        height: as width.
        duration_ms: of video and audio, and of a native ad with a video; else 0.
        media_type: of MEDIA_TYPES.
        protocol: AdCOM list "Creative Subtypes - Audio/Video" (2 = VAST 2, 3 = VAST 3, 7 = VAST
            4.0, 5 = a VAST 2 wrapper, ...) of ``adm``; with ``media_url`` the version for a player
            that names none. 0 for banner and native.
        attributes: AdCOM list "Creative Attributes" that are true of it.
        adm: markup template. ``{{IMPRESSION_URL}}`` and ``{{CLICK_URL}}`` are filled per bid.
        landing_url: where a click leads.
        asset_sha256: content hash of the rendered asset, "" if the markup needs none.
        language: ISO 639-1, "" if none.
        is_secure: every URL in it is https.
        features: value per name of AD_FIELDS, what the recommendation model sees of it.
        media_url: address of the video or audio file, for creatives without ``adm``.
        bitrate_kbps: of the file, 0 if unknown: then only slots that ask for none take it.
        delivery: AdCOM list "Delivery Methods": 1 streaming, 2 progressive, 3 download.
        linearity: 1 plays in the stream, 2 lies over it.
        skip_after_ms: when its own skip button works; needs attribute 16.
        apis: AdCOM list "API Frameworks" that its markup cannot do without.
        banner_type: AdCOM list "Banner types": 1 text, 2 image, 3 script, 4 iframe; 0 = read off
            the markup.
        expand_directions: AdCOM list "Expandable Directions" it expands in; needs attribute 3, 4
            or 5.
        native: the parts of a native ad, for creatives without ``adm``.
        companions: images shown beside what ``media_url`` plays, where a player has room.
    """

    creative_id: int = 0
    name: str = ""
    format: str = "banner"
    width: int = 0
    height: int = 0
    duration_ms: int = 0
    media_type: str = "image/jpeg"
    protocol: int = 0
    attributes: tuple[int, ...] = ()
    adm: str = ""
    landing_url: str = ""
    asset_sha256: str = ""
    language: str = ""
    is_secure: bool = True
    features: dict[str, str] = {}
    media_url: str = ""
    bitrate_kbps: int = 0
    delivery: int = 2
    linearity: int = 1
    skip_after_ms: int = 0
    apis: tuple[int, ...] = ()
    banner_type: int = 0
    expand_directions: tuple[int, ...] = ()
    native: NativeParts | None = None
    companions: tuple[NativeImage, ...] = ()


class Fault(NamedTuple):
    """A broken rule of a creative: the field, what stands there, what must hold."""

    field: str
    value: object
    rule: str


def media_bit(media_type: str) -> int:
    """Returns the bit of a name of MEDIA_TYPES."""
    return 1 << MEDIA_TYPES.index(media_type)


def banner_type_of(creative: Creative) -> int:
    """Returns the AdCOM banner type of a creative: as given, else as its markup shows.

    Source: AdCOM 1.0, list "Banner Ad Types" (OpenRTB 2.6 ``btype``).
    """
    if creative.banner_type:
        return creative.banner_type
    markup = creative.adm.lower()
    for found, tag in ((4, "<iframe"), (3, "<script"), (2, "<img")):
        if tag in markup:
            return found
    return 1 if markup else 2


def faults_of(creative: Creative) -> Iterator[Fault]:
    """Yields every rule that a creative breaks, in the order of its fields."""
    names = tuple(str(f.name).lower() for f in Format)
    is_sized = creative.format in ("banner", "video")
    pixels = "must be 1-65535 pixels for banner and video"
    yield from _broken(
        (creative.format in names, "format", creative.format, f"must be one of {', '.join(names)}"),
        (int(is_sized) <= creative.width <= _PIXELS_MAX, "width", creative.width, pixels),
        (int(is_sized) <= creative.height <= _PIXELS_MAX, "height", creative.height, pixels),
        (
            creative.media_type in MEDIA_TYPES, "media_type", creative.media_type,
            f"must be one of {', '.join(MEDIA_TYPES)}",
        ),
    )  # fmt: skip
    yield from _played_faults(creative)
    sha256 = creative.asset_sha256
    yield from _broken(
        (
            all(1 <= attribute <= 63 for attribute in creative.attributes), "attributes",
            creative.attributes, "must be AdCOM creative attributes, 1-63",
        ),
        (
            sha256 == "" or bool(_SHA256.fullmatch(sha256)), "asset_sha256", sha256,
            "must be 64 hexadecimal digits in lower case",
        ),
        (
            creative.landing_url.startswith(_URL_STARTS), "landing_url", creative.landing_url,
            "must be an http or https URL",
        ),
        *(
            (name in AD_FIELDS, f"features/{name}", name, f"must be one of {', '.join(AD_FIELDS)}")
            for name in creative.features
        ),
        (
            all(1 <= api <= 63 for api in creative.apis), "apis", creative.apis,
            "must be AdCOM API frameworks, 1-63",
        ),
    )  # fmt: skip
    yield from _banner_faults(creative)
    if creative.companions and not creative.media_url:
        yield Fault("companions", len(creative.companions), "need the media_url that they go with")
    for i, companion in enumerate(creative.companions):
        yield from _image_faults(creative, companion, f"companions/{i}")
    if creative.native is not None:
        yield from _native_faults(creative, creative.native)


def _broken(*rules: tuple[bool, str, object, str]) -> Iterator[Fault]:
    """Yields the rules, each (is it kept, field, value, text), that are not kept."""
    for is_kept, field, value, rule in rules:
        if not is_kept:
            yield Fault(field, value, rule)


def _played_faults(creative: Creative) -> Iterator[Fault]:
    """What must hold of what is played: video and audio, and the video of a native ad."""
    is_played = creative.format in ("video", "audio")
    duration_ms_min = int(is_played or bool(creative.media_url))
    # A player that lists its protocols must be able to tell whether it can play this.
    protocol_min = int(is_played)
    url, skip_ms = creative.media_url, creative.skip_after_ms
    yield from _broken(
        (
            duration_ms_min <= creative.duration_ms <= _DURATION_MS_MAX, "duration_ms",
            creative.duration_ms, "must be > 0 for video and audio",
        ),
        (
            protocol_min <= creative.protocol <= 63, "protocol", creative.protocol,
            f"must be {protocol_min}-63",
        ),
        (
            url == "" or url.startswith(_URL_STARTS), "media_url", url,
            "must be an http or https URL",
        ),
        (
            url == "" or creative.format != "banner", "media_url", url,
            "is for video, audio and native",
        ),
        (
            url == "" or creative.adm == "", "media_url", url,
            "must be empty where adm says it all",
        ),
        (
            not (creative.is_secure and url.startswith("http://")), "media_url", url,
            "must be https where is_secure says so",
        ),
        (
            0 <= creative.bitrate_kbps <= 1_000_000, "bitrate_kbps", creative.bitrate_kbps,
            "must be 0-1000000 kilobits a second",
        ),
        (creative.delivery in (1, 2, 3), "delivery", creative.delivery, "must be 1, 2 or 3"),
        (creative.linearity in (1, 2), "linearity", creative.linearity, "must be 1 or 2"),
        (
            skip_ms == 0 or ATTRIBUTE_SKIPPABLE in creative.attributes, "skip_after_ms", skip_ms,
            "needs attribute 16, a skip button",
        ),
        (
            skip_ms == 0 or 0 < skip_ms <= creative.duration_ms, "skip_after_ms", skip_ms,
            "must lie within its duration",
        ),
    )  # fmt: skip


def _banner_faults(creative: Creative) -> Iterator[Fault]:
    directions = creative.expand_directions
    is_expandable = any(a in creative.attributes for a in ATTRIBUTES_EXPANDABLE)
    yield from _broken(
        (0 <= creative.banner_type <= 4, "banner_type", creative.banner_type, "must be 0-4"),
        (
            all(1 <= direction <= 6 for direction in directions), "expand_directions", directions,
            "must be AdCOM expandable directions, 1-6",
        ),
        (
            bool(directions) == is_expandable, "expand_directions", directions,
            "must name where it expands to if, and only if, attribute 3, 4 or 5 says that it does",
        ),
    )  # fmt: skip


def _native_faults(creative: Creative, parts: NativeParts) -> Iterator[Fault]:
    yield from _broken(
        (
            creative.format == "native" and creative.adm == "", "native", "parts",
            "is for native creatives without adm",
        ),
        (bool(parts.title.strip()), "native/title", parts.title, "must not be empty"),
    )  # fmt: skip
    for field in ("title", *DATA_FIELDS[1:]):
        text = str(getattr(parts, field))
        rule = f"must be at most {_TEXT_CHARS_MAX} characters"
        yield from _broken(
            (len(text) <= _TEXT_CHARS_MAX, f"native/{field}", text[:80], rule),
        )
    for field, image in (("image", parts.image), ("icon", parts.icon)):
        if image is not None:
            yield from _image_faults(creative, image, f"native/{field}")


def _image_faults(creative: Creative, image: NativeImage, at: str) -> Iterator[Fault]:
    is_sized = 1 <= image.width <= _PIXELS_MAX and 1 <= image.height <= _PIXELS_MAX
    yield from _broken(
        (
            image.url.startswith(_URL_STARTS), f"{at}/url", image.url,
            "must be an http or https URL",
        ),
        (
            not (creative.is_secure and image.url.startswith("http://")), f"{at}/url", image.url,
            "must be https where is_secure says so",
        ),
        (is_sized, f"{at}/width", f"{image.width}x{image.height}", "must be 1-65535 pixels"),
        (
            image.media_type in MEDIA_TYPES, f"{at}/media_type", image.media_type,
            f"must be one of {', '.join(MEDIA_TYPES)}",
        ),
    )  # fmt: skip
