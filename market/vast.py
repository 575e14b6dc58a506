"""VAST: the document that a video or audio player asks for, in the version that it understands.

One in-line ad with one linear creative of one media file, and the images that may stand beside it.
The two tokens of markup templates
stand in CDATA, so a notice URL needs no escaping; every other text is escaped so that it can form
neither token nor macro.

Source: IAB Tech Lab VAST 2.0 (vast_2.0.1.xsd), 3.0, 4.0-4.3 (vast_4.2.xsd); AdCOM 1.0, list
"Creative Subtypes - Audio/Video".
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from market.creative import Creative, NativeImage

IMPRESSION_URL_TOKEN = "{{IMPRESSION_URL}}"  # noqa: S105 (a placeholder, not a secret)
CLICK_URL_TOKEN = "{{CLICK_URL}}"  # noqa: S105 (a placeholder, not a secret)

VAST_VERSIONS: dict[int, str] = {15: "4.3", 13: "4.2", 11: "4.1", 7: "4.0", 3: "3.0", 2: "2.0"}
"""Protocols that a media file is rendered in, the best first: what is written in the root."""

_AD_SERVING_ID = "${AUCTION_BID_ID}-${AUCTION_IMP_ID}"
"""Differs with every ad served; the exchange fills it in. Source: OpenRTB 2.6, 4.4."""
_FIRST_WITH_SKIP = 3.0
_FIRST_WITH_UNIVERSAL_ID = 4.0
_FIRST_WITH_SERVING_ID = 4.1


class Wording(NamedTuple):
    """What a VAST document names besides the creative itself.

    Attributes:
        title: of the ad.
        advertiser: who pays.
    """

    title: str
    advertiser: str


def vast_document(creative: Creative, wording: Wording, protocol: int) -> str:
    """Returns the VAST of a creative's media file as a markup template.

    Args:
        creative: its media_url, media_type, size, duration, bitrate, delivery and skip button.
        wording: the names in it.
        protocol: of VAST_VERSIONS.
    """
    version = VAST_VERSIONS[protocol]
    number = float(version)
    key = _text(str(creative.creative_id))
    duration = f"<Duration>{_clock(creative.duration_ms, has_ms=number >= _FIRST_WITH_SKIP)}"
    clicks = f"<VideoClicks><ClickThrough>{_cdata(CLICK_URL_TOKEN)}</ClickThrough></VideoClicks>"
    media = f"<MediaFiles>{_media_file(creative)}</MediaFiles>"
    skip = ""
    if creative.skip_after_ms and number >= _FIRST_WITH_SKIP:
        skip = f' skipoffset="{_clock(creative.skip_after_ms, has_ms=True)}"'
    title = f"<AdTitle>{_text(wording.title)}</AdTitle>"
    impression = f"<Impression>{_cdata(IMPRESSION_URL_TOKEN)}</Impression>"
    advertiser = f"<Advertiser>{_text(wording.advertiser)}</Advertiser>"
    if number < _FIRST_WITH_UNIVERSAL_ID:
        # VAST 2 knows no advertiser; both want the clicks before the files.
        named = advertiser if number >= _FIRST_WITH_SKIP else ""
        linear = f"<Linear{skip}>{duration}</Duration>{clicks}{media}</Linear>"
        inner = f"<AdSystem>lodestone</AdSystem>{title}{named}{impression}"
        ad, universal, space = f'<Ad id="{key}">', "", ""
    else:
        linear = f"<Linear{skip}>{duration}</Duration>{media}{clicks}</Linear>"
        has_serving_id = number >= _FIRST_WITH_SERVING_ID
        serving = f"<AdServingId>{_AD_SERVING_ID}</AdServingId>" if has_serving_id else ""
        inner = f"<AdSystem>lodestone</AdSystem>{impression}{serving}{title}{advertiser}"
        kind = f' adType="{creative.media_type.partition("/")[0]}"' if has_serving_id else ""
        ad = f'<Ad id="{key}"{kind}>'
        value = "" if has_serving_id else f' idValue="{key}"'
        universal = f'<UniversalAdId idRegistry="lodestone"{value}>{key}</UniversalAdId>'
        space = ' xmlns="http://www.iab.com/VAST"'
    beside = ""
    if creative.companions:
        images = "".join(_companion(image) for image in creative.companions)
        beside = f'<Creative id="{key}-beside"><CompanionAds>{images}</CompanionAds>{universal}'
        beside += "</Creative>"
    root = f'<VAST version="{version}"{space}>'
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{root}{ad}<InLine>{inner}'
        f'<Creatives><Creative id="{key}">{linear}{universal}</Creative>{beside}</Creatives>'
        "</InLine></Ad></VAST>"
    )


def _companion(image: NativeImage) -> str:
    """An image with the same click as the video; the player shows it where it has such a place."""
    return (
        f'<Companion width="{image.width}" height="{image.height}">'
        f'<StaticResource creativeType="{image.media_type}">{_cdata(image.url)}</StaticResource>'
        f"<CompanionClickThrough>{_cdata(CLICK_URL_TOKEN)}</CompanionClickThrough></Companion>"
    )


def _media_file(creative: Creative) -> str:
    # VAST knows two ways; a file that is downloaded first is fetched as a progressive one.
    delivery = "streaming" if creative.delivery == 1 else "progressive"
    bitrate = f' bitrate="{creative.bitrate_kbps}"' if creative.bitrate_kbps else ""
    return (
        f'<MediaFile delivery="{delivery}" type="{creative.media_type}" width="{creative.width}" '
        f'height="{creative.height}"{bitrate}>{_cdata(creative.media_url)}</MediaFile>'
    )


def _text(text: str) -> str:
    """Text between tags or double quotes; it can form no token and no macro."""
    return html.escape(text, quote=True).replace("{", "&#123;").replace("$", "&#36;")


def _cdata(url: str) -> str:
    """A URL in CDATA; what would close the section is percent-encoded, as RFC 3986 asks anyway."""
    return f"<![CDATA[{url.replace(']]>', ']]%3E')}]]>"


def _clock(duration_ms: int, *, has_ms: bool) -> str:
    """``HH:MM:SS.mmm``; VAST 2 knows whole seconds only."""
    seconds, milliseconds = divmod(duration_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    whole = f"{hours:02}:{minutes:02}:{seconds:02}"
    return f"{whole}.{milliseconds:03}" if has_ms else whole
