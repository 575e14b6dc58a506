"""Builds the ``adm`` of a bid as a template: banner HTML, VAST for video and audio, native JSON.

A template is finished but for two tokens, which the bidder replaces byte for byte in every bid:
``{{IMPRESSION_URL}}`` and ``{{CLICK_URL}}``, by notice URLs. These must be absolute and, OpenRTB
macros aside, spelled as RFC 3986 asks; then they are safe in every place where a token stands. No
other text can hold a token or a macro: ``{`` and ``$`` of the advertiser's words are escaped.

In every format a click goes to the click notice itself, which sends the visitor on to the landing
page with the token that its conversions need; the landing page stands in no markup.
"""

from __future__ import annotations

import html
import json
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from creatives.brief import Brief, checked_url
from creatives.price import price_label
from market.errors import BadInput

if TYPE_CHECKING:
    from creatives.geometry import Size

IMPRESSION_URL_TOKEN = "{{IMPRESSION_URL}}"  # noqa: S105 (a placeholder, not a secret)
"""Stands for the URL that notes an impression."""

CLICK_URL_TOKEN = "{{CLICK_URL}}"  # noqa: S105 (a placeholder, not a secret)
"""Stands for the URL that notes a click."""

_AD_SERVING_ID = "${AUCTION_BID_ID}-${AUCTION_IMP_ID}"
"""Differs with every ad served; the exchange fills it in. Source: OpenRTB 2.6, 4.4."""


class VastVersion(StrEnum):
    """Which VAST; OpenRTB protocols 3 and 13."""

    VAST_3_0 = "3.0"
    VAST_4_2 = "4.2"


class Medium(StrEnum):
    """What a VAST document plays."""

    VIDEO = "video"
    AUDIO = "audio"


class MediaFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One encoding of a spot, kept elsewhere.

    Attributes:
        url: where the player finds it.
        media_type: ``video/mp4``, ``audio/mpeg``, ...
        width: pixels; 0 for audio.
        height: pixels; 0 for audio.
        bitrate_kbps: kilobits per second.
        is_streaming: whether it is streamed rather than downloaded as one file.
    """

    url: str
    media_type: str
    width: int
    height: int
    bitrate_kbps: int
    is_streaming: bool = False

    def __post_init__(self) -> None:
        """Raises BadInput when a field breaks its rule."""
        checked_url("media_file.url", self.url)
        if min(self.width, self.height) < 0 or self.bitrate_kbps < 1:
            msg = (
                f"media_file is {self.width}x{self.height} at {self.bitrate_kbps} kbps; "
                "sides must be >= 0 and the bit rate >= 1"
            )
            raise BadInput(msg, "/media_file")


class Spot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A video or audio advertisement: how long it runs and where its encodings are.

    Attributes:
        medium: video or audio.
        duration_ms: running time.
        media_files: at least one encoding.
        skip_after_ms: when a viewer may skip it; None for never.
    """

    medium: Medium
    duration_ms: int
    media_files: tuple[MediaFile, ...]
    skip_after_ms: int | None = None

    def __post_init__(self) -> None:
        """Raises BadInput when the fields contradict each other."""
        if self.duration_ms < 1 or not self.media_files:
            msg = (
                f"spot runs {self.duration_ms} ms in {len(self.media_files)} media files; "
                "it must run at least 1 ms and have at least one"
            )
            raise BadInput(msg, "/spot")
        if self.skip_after_ms is not None and not 0 <= self.skip_after_ms <= self.duration_ms:
            msg = f"spot.skip_after_ms is {self.skip_after_ms}; it must be 0 to {self.duration_ms}"
            raise BadInput(msg, "/spot/skip_after_ms")
        for file in self.media_files:
            if not file.media_type.startswith(f"{self.medium}/"):
                msg = (
                    f"media_file.media_type is {file.media_type!r} in {self.medium}; it must match"
                )
                raise BadInput(msg, "/spot/media_files")
            if self.medium is Medium.VIDEO and not (file.width and file.height):
                msg = f"media_file {file.url!r} has no size; a video must have one"
                raise BadInput(msg, "/spot/media_files")


class NativeKind(StrEnum):
    """What a native asset shows. Source: OpenRTB Native 1.2, 7.3 and 7.4."""

    TITLE = "title"
    MAIN_IMAGE = "main_image"
    SPONSORED = "sponsored"
    DESCRIPTION = "description"
    PRICE = "price"
    CALL_TO_ACTION = "call_to_action"


class NativeSlot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One asset that a native request asks for.

    Attributes:
        id: of the asset in the request; the answer repeats it.
        kind: what it shows.
        length_max: most characters; 0 for no limit.
    """

    id: int
    kind: NativeKind
    length_max: int = 0


NATIVE_SLOTS = (
    NativeSlot(1, NativeKind.TITLE, 140),
    NativeSlot(2, NativeKind.MAIN_IMAGE),
    NativeSlot(3, NativeKind.SPONSORED),
    NativeSlot(4, NativeKind.DESCRIPTION),
    NativeSlot(5, NativeKind.CALL_TO_ACTION),
)
"""Slots of a template whose request is not known yet; whoever answers a request passes its ids."""

_DATA_TYPES = {
    NativeKind.SPONSORED: 1,
    NativeKind.DESCRIPTION: 2,
    NativeKind.PRICE: 6,
    NativeKind.CALL_TO_ACTION: 12,
}
"""Data asset types. Source: OpenRTB Native 1.2, 7.4."""

_MAIN_IMAGE_TYPE = 3
_IMPRESSION_EVENT = 1
_IMAGE_PIXEL_METHOD = 1


def banner_template(brief: Brief, image_url: str, size: Size) -> str:
    """The HTML of a still banner.

    Args:
        brief: words for the alternative text.
        image_url: where the rendered image lies; absolute, or a path on the page's own host.
        size: of the image.
    """
    label = f"{brief.product.brand}: {brief.headline}"
    return (
        f'<a href="{CLICK_URL_TOKEN}" target="_blank" rel="noopener nofollow sponsored">'
        f'<img src="{_html(image_url)}" width="{size.width}" height="{size.height}" '
        f'alt="{_html(label)}" style="display:block;border:0"></a>'
        f'<img src="{IMPRESSION_URL_TOKEN}" width="1" height="1" alt="" '
        'style="position:absolute;left:-9999px">'
    )


def vast_template(brief: Brief, creative_key: str, spot: Spot, version: VastVersion) -> str:
    """An in-line VAST document with one linear creative.

    Elements stand in the order of each version's schema. VAST 3.0 knows no audio; players take it
    by its media type.

    Args:
        brief: title and advertiser.
        creative_key: id of the creative.
        spot: what is played.
        version: which VAST.

    Source: IAB Tech Lab vast3_draft.xsd and vast_4.2.xsd.
    """
    is_4 = version is VastVersion.VAST_4_2
    key = _html(creative_key)
    title = f"<AdTitle>{_html(brief.product.name)}</AdTitle>"
    advertiser = f"<Advertiser>{_html(brief.product.brand)}</Advertiser>"
    impression = f"<Impression>{_cdata(IMPRESSION_URL_TOKEN)}</Impression>"
    duration = f"<Duration>{_clock(spot.duration_ms)}</Duration>"
    files = "".join(_media_file(file) for file in spot.media_files)
    media = f"<MediaFiles>{files}</MediaFiles>"
    through = f"<ClickThrough>{_cdata(CLICK_URL_TOKEN)}</ClickThrough>"
    clicks = f"<VideoClicks>{through}</VideoClicks>"
    skip = "" if spot.skip_after_ms is None else f' skipoffset="{_clock(spot.skip_after_ms)}"'
    if is_4:
        linear = f"<Linear{skip}>{duration}{media}{clicks}</Linear>"
        universal = f'<UniversalAdId idRegistry="lodestone">{key}</UniversalAdId>'
        creative = f'<Creative id="{key}">{linear}{universal}</Creative>'
        serving = f"<AdServingId>{_AD_SERVING_ID}</AdServingId>"
        inner = (
            f"<AdSystem>lodestone</AdSystem>{impression}{serving}{title}{advertiser}"
            f"<Creatives>{creative}</Creatives>"
        )
        ad = f'<Ad id="{key}" adType="{spot.medium}">'
        root = f'<VAST version="4.2" xmlns="http://www.iab.com/VAST">{ad}'
    else:
        linear = f"<Linear{skip}>{duration}{clicks}{media}</Linear>"
        creative = f'<Creative id="{key}">{linear}</Creative>'
        inner = (
            f"<AdSystem>lodestone</AdSystem>{title}{advertiser}{impression}"
            f"<Creatives>{creative}</Creatives>"
        )
        root = f'<VAST version="3.0"><Ad id="{key}">'
    return f'<?xml version="1.0" encoding="UTF-8"?>{root}<InLine>{inner}</InLine></Ad></VAST>'


def native_template(
    brief: Brief, image_url: str, size: Size, slots: tuple[NativeSlot, ...] = NATIVE_SLOTS
) -> str:
    """The JSON of a native response; its root is the Native object itself, as since version 1.1.

    Args:
        brief: the words.
        image_url: where the main image lies.
        size: of that image.
        slots: the assets that the request asks for.

    Raises:
        BadInput: two slots share an id, a text is longer than its slot, or a price is asked for and
            the product has none.

    Source: OpenRTB Dynamic Native Ads API 1.2, 5.1 to 5.8.
    """
    if len({slot.id for slot in slots}) != len(slots):
        msg = f"native slots have ids {[slot.id for slot in slots]}; each must be used once"
        raise BadInput(msg, "/slots")
    native = {
        "ver": "1.2",
        "assets": [_native_asset(brief, image_url, size, slot) for slot in slots],
        "link": {"url": CLICK_URL_TOKEN},
        "eventtrackers": [
            {
                "event": _IMPRESSION_EVENT,
                "method": _IMAGE_PIXEL_METHOD,
                "url": IMPRESSION_URL_TOKEN,
            }
        ],
    }
    return msgspec.json.encode(native).decode()


def _native_asset(brief: Brief, image_url: str, size: Size, slot: NativeSlot) -> dict[str, object]:
    if slot.kind is NativeKind.MAIN_IMAGE:
        image = {"type": _MAIN_IMAGE_TYPE, "url": image_url, "w": size.width, "h": size.height}
        return {"id": slot.id, "img": image}
    product = brief.product
    match slot.kind:
        case NativeKind.TITLE:
            text = brief.headline
        case NativeKind.SPONSORED:
            text = product.brand
        case NativeKind.DESCRIPTION:
            text = brief.body
        case NativeKind.CALL_TO_ACTION:
            text = brief.call_to_action
        case NativeKind.PRICE:
            text = price_label(product.price_micros, product.currency, brief.language)
    if not text:
        msg = f"native slot {slot.id} asks for a price; product.price_micros is 0, which shows none"
        raise BadInput(msg, "/product/price_micros")
    if slot.length_max and len(text) > slot.length_max:
        msg = (
            f"native {slot.kind} {text!r} has {len(text)} characters; "
            f"slot {slot.id} takes at most {slot.length_max}"
        )
        raise BadInput(msg, "/slots")
    if slot.kind is NativeKind.TITLE:
        return {"id": slot.id, "title": {"text": _json(text)}}
    return {"id": slot.id, "data": {"type": _DATA_TYPES[slot.kind], "value": _json(text)}}


def _media_file(file: MediaFile) -> str:
    delivery = "streaming" if file.is_streaming else "progressive"
    return (
        f'<MediaFile delivery="{delivery}" type="{_html(file.media_type)}" width="{file.width}" '
        f'height="{file.height}" bitrate="{file.bitrate_kbps}">{_cdata(file.url)}</MediaFile>'
    )


def _html(text: str) -> str:
    """Text for HTML and XML, between tags or double quotes; it can form no token and no macro."""
    return html.escape(text, quote=True).replace("{", "&#123;").replace("$", "&#36;")


def _cdata(url: str) -> str:
    """A URL or token in CDATA; RFC 3986 has no ``>``, so nothing inside can close the section."""
    assert "]]>" not in url
    return f"<![CDATA[{url}]]>"


def _json(text: str) -> msgspec.Raw:
    """Text as a JSON string that can form no token, no macro and no HTML tag."""
    quoted = json.dumps(text)
    for character in "{$<":
        quoted = quoted.replace(character, f"\\u{ord(character):04x}")
    return msgspec.Raw(quoted)


def _clock(duration_ms: int) -> str:
    """``HH:MM:SS.mmm``, as VAST writes times."""
    seconds, milliseconds = divmod(duration_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}"
