"""Whether a creative may be shown in an imp, written from the specification; not from the kernels.

Source: OpenRTB 2.6, 3.2.6 (banner), 3.2.7 (video), 3.2.8 (audio), 3.2.10 (sizes); Dynamic Native
Ads API 1.2, 4; AdCOM 1.0 lists. ``o`` is an opportunity as ``tests.reference.decide.plain`` gives
it, ``creative`` the campaign's own words. Checks run in the order of the reasons' turns.
"""

from __future__ import annotations

from market.campaign import format_bit
from market.chance import code_of
from market.creative import DATA_FIELDS, MEDIA_TYPES
from market.decision import NoBidReason
from market.vast import VAST_VERSIONS

FORMATS = ("banner", "video", "audio", "native")
SKIPPABLE = 16
NO_LIMIT = 65_535


def not_showable(o, creative):
    """The first reason why this creative cannot be shown, None if it can."""
    if not format_bit(creative.format) & o["formats"]:
        return NoBidReason.FORMAT_NOT_SERVED
    checks = {
        "banner": banner_reasons, "video": video_reasons, "audio": audio_reasons,
        "native": native_reasons,
    }[creative.format]  # fmt: skip
    for is_broken, reason in (*checks(o, creative), *behaviour_reasons(o, creative)):
        if is_broken:
            return reason
    return None


def bits(mask):
    return {k for k in range(64) if mask >> k & 1}


def box(size):
    return size >> 16, size & 0xFFFF


def until_zero(values):
    values = list(values)
    return values[: values.index(0)] if 0 in values else values


def banner_reasons(o, creative):
    width, height = creative.width, creative.height
    exact = [box(size) for size in o["sizes"]]
    ratios = [box(ratio) for ratio in until_zero(o["ratios"])]
    fills = any(
        width * h == height * w and width >= least
        for (w, h), least in zip(ratios, o["ratio_widths_min"], strict=False)
    )
    is_any = not exact and not ratios
    yield not (is_any or (width, height) in exact or fills), NoBidReason.SIZE_NOT_OFFERED
    yield banner_type(creative) in bits(o["banner_types_blocked"]), NoBidReason.BANNER_TYPE_BLOCKED
    yield not takes_type(o["media_types"][0], creative), NoBidReason.MEDIA_TYPE_NOT_ACCEPTED


def banner_type(creative):
    """1 text, 2 image, 3 script, 4 iframe, where the creative does not say itself."""
    adm = creative.adm.lower()
    told = [kind for kind, tag in ((4, "<iframe"), (3, "<script"), (2, "<img")) if tag in adm] or [
        1 if adm else 2
    ]
    return creative.banner_type or told[0]


def video_reasons(o, creative):
    if o["player_size"]:
        w, h = box(o["player_size"])
        shape, mine = w * creative.height, h * creative.width
        yield abs(shape - mine) > shape / 100, NoBidReason.SIZE_NOT_OFFERED
    yield (
        o["linearity"] and o["linearity"] != creative.linearity,
        NoBidReason.LINEARITY_NOT_ACCEPTED,
    )
    yield from played_reasons(o, creative, 0)


def audio_reasons(o, creative):
    yield from played_reasons(o, creative, 1)


def played_reasons(o, creative, played):
    length = creative.duration_ms
    exact = until_zero(o["durations_ms"][played * 8 : played * 8 + 8])
    longest = o["duration_ms_max"][played] or float("inf")
    fits = length in exact if exact else o["duration_ms_min"][played] <= length <= longest
    yield not fits, NoBidReason.DURATION_NOT_ACCEPTED
    yield rendition(o, creative, played) is None, NoBidReason.PROTOCOL_NOT_ACCEPTED
    yield (
        not takes_type(o["media_types"][played + 1], creative),
        (NoBidReason.MEDIA_TYPE_NOT_ACCEPTED),
    )
    ways = bits(o["deliveries"][played])
    yield bool(ways) and creative.delivery not in ways, NoBidReason.DELIVERY_NOT_ACCEPTED
    low, high = o["bitrate_kbps_min"][played], o["bitrate_kbps_max"][played]
    known = creative.bitrate_kbps
    yield (
        bool(low or high) and not (known and low <= known <= (high or known)),
        NoBidReason.DELIVERY_NOT_ACCEPTED,
    )


def rendition(o, creative, played):
    """The protocol in which the creative is played, None if the player knows none of its own."""
    mine = list(VAST_VERSIONS) if creative.media_url else [creative.protocol]
    accepted = bits(o["protocols"][played])
    if not accepted or mine == [0]:
        return creative.protocol if creative.protocol in mine else mine[0]
    return next((protocol for protocol in mine if protocol in accepted), None)


def takes_type(mask, creative):
    return mask == 0 or MEDIA_TYPES.index(creative.media_type) in bits(mask)


def native_reasons(o, creative):
    missing = NoBidReason.NATIVE_ASSET_MISSING
    if o["native_needs_video"]:
        has_video = creative.duration_ms and (creative.media_url or creative.protocol)
        yield not has_video, missing
        yield from played_reasons(o, creative, 2)
    parts = creative.native
    wanted = [("title", o["native_title_chars"])]
    wanted += zip(DATA_FIELDS[1:], o["native_data_chars"][1:], strict=True)
    for field, most in wanted:
        text = getattr(parts, field) if parts else ""
        yield most and not (text and (most == NO_LIMIT or len(text) <= most)), missing
    for k, field in enumerate(("icon", "image")):
        if k in bits(o["native_images_required"]):
            yield not is_image(o, k, getattr(parts, field) if parts else None), missing


def is_image(o, k, image):
    return (
        image is not None
        and o["native_width_min"][k] <= image.width <= o["native_width_max"][k]
        and o["native_height_min"][k] <= image.height <= o["native_height_max"][k]
        and takes_type(o["native_image_types"][k], image)
    )


def behaviour_reasons(o, creative):
    place = FORMATS.index(creative.format)
    does = set(creative.attributes)
    yield does & bits(o["attributes_blocked"][place]), NoBidReason.ATTRIBUTE_BLOCKED
    if creative.format == "video" and SKIPPABLE in does:
        shortest = o["skippable_ms_min"]
        yield shortest and creative.duration_ms <= shortest, NoBidReason.SKIP_NOT_ACCEPTED
        yield creative.skip_after_ms < o["skip_after_ms_min"], NoBidReason.SKIP_NOT_ACCEPTED
    if creative.format == "banner":
        free = bits(o["expand_directions"])
        yield not set(creative.expand_directions) <= free, NoBidReason.EXPANSION_NOT_ALLOWED
    yield not set(creative.apis) <= bits(o["apis"][place]), NoBidReason.API_NOT_SUPPORTED
    yield o["is_secure"] and not creative.is_secure, NoBidReason.NOT_SECURE
    spoken = until_zero(o["languages"])
    mine = code_of(creative.language) if creative.language else None
    yield spoken and mine not in spoken, NoBidReason.LANGUAGE_NOT_ALLOWED
