"""Native ads: what a native request requires, and the ad put together as it asks.

The request names assets by its own ids; the answer repeats those ids. An asset that is required
must be there and fit, or the creative cannot be shown (the kernel compares lengths and sizes); one
that is not required is left out where the creative has nothing that fits.

Source: OpenRTB Dynamic Native Ads API 1.2, 4 (request) and 5 (response).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec

from bidder.timed import NOT_PLAYED, Played, media_mask, played_of
from market.creative import NativeImage, NativeParts, media_bit
from market.openrtb import (
    Native,
    NativeAsset,
    NativeData,
    NativeEventTracker,
    NativeRequest,
    NativeTitle,
)
from market.openrtb import NativeImage as ImageAsset
from market.openrtb_decode import native_request_of
from market.openrtb_reading import integers, number_text
from market.opportunity import NATIVE_DATA_COUNT, NATIVE_IMAGE_COUNT, NO_LENGTH_LIMIT

_AT = "imp.native.request"
_SIZE_MAX = 65_535
_REQUESTS_MAX = 4_096
"""Native requests that are remembered: a placement sends the same text for months."""
_ICON, _MAIN = 0, 1
_IMAGES_BY_TYPE = {None: _MAIN, 1: _ICON, 2: _ICON, 3: _MAIN}
"""Image asset types; 2 is the logo of version 1.1, now deprecated. Source: Native 1.2, 7.3."""
_ICON_PIXELS_MAX = 128
_TYPES_BY_IMAGE = (1, 3)
_IMPRESSION_EVENT = 1
_PIXEL_METHOD = 1


class NativeNeeds(NamedTuple):
    """What a native ad must have; the columns ``native_*`` of ``market.opportunity``.

    Attributes:
        title_chars: 0 = no title is required.
        data_chars: by data asset type.
        images_required: mask of icon (bit 0) and main image (bit 1).
        width_min, width_max, height_min, height_max: pixels, by image.
        image_types: mask of media types by image, 0 = any.
        needs_video: 1 if a video is required, which must be as ``video`` says.
        video: what the player of the video asset takes.
    """

    title_chars: int
    data_chars: tuple[int, ...]
    images_required: int
    width_min: tuple[int, ...]
    width_max: tuple[int, ...]
    height_min: tuple[int, ...]
    height_max: tuple[int, ...]
    image_types: tuple[int, ...]
    needs_video: int
    video: Played


class Clip(NamedTuple):
    """The video of a native ad; ``vast`` is "" where there is none.

    Attributes:
        vast: its document, with notice URLs in it.
        protocol: of that document.
        duration_ms: of the video.
        media_bit: its media type.
    """

    vast: str
    protocol: int
    duration_ms: int
    media_bit: int


class _Box(NamedTuple):
    """Sizes and media types that an image slot takes."""

    width_min: int
    width_max: int
    height_min: int
    height_max: int
    types: int


_ANY_BOX = _Box(0, _SIZE_MAX, 0, _SIZE_MAX, 0)


def native_needs(native: Native) -> NativeNeeds | str:
    """Returns what the request requires, or the field that makes it unusable."""
    request = _request_of(native)
    if request is None:
        return _AT
    assets = request.assets or []
    required = [asset for asset in assets if asset.required == 1]
    title = 0
    data = [0] * NATIVE_DATA_COUNT
    for asset in required:
        if asset.title is not None:
            title = _shorter(title, asset.title.len)
        elif asset.data is not None:
            kind = asset.data.type or 0
            if not 0 < kind < NATIVE_DATA_COUNT:
                return f"{_AT}.assets.data.type"
            data[kind] = _shorter(data[kind], asset.data.len)
    images = _images_needed(required)
    if images is None:
        return f"{_AT}.assets.img"
    video = _video_needed(assets)
    if isinstance(video, str):
        return f"{_AT}.assets.video.{video}"
    mask, boxes = images
    return NativeNeeds(
        title, tuple(data), mask,
        tuple(box.width_min for box in boxes), tuple(box.width_max for box in boxes),
        tuple(box.height_min for box in boxes), tuple(box.height_max for box in boxes),
        tuple(box.types for box in boxes),
        int(any(asset.video is not None for asset in required)), video,
    )  # fmt: skip


def _images_needed(required: list[NativeAsset]) -> tuple[int, list[_Box]] | None:
    """Returns (mask, box of each) of the required images, None if one can be no image of ours."""
    mask = 0
    boxes = [_ANY_BOX] * NATIVE_IMAGE_COUNT
    for asset in required:
        if asset.img is None:
            continue
        which, box = _which(asset.img), _box_of(asset.img)
        if which is None or box is None:
            return None
        mask |= 1 << which
        boxes[which] = _within(boxes[which], box)
    return mask, boxes


def _video_needed(assets: list[NativeAsset]) -> Played | str:
    """Returns what the player of the video asset takes, or the field that makes it unusable."""
    needed: Played | str = NOT_PLAYED
    for asset in assets:
        if asset.video is None:
            continue
        played = played_of(asset.video)
        if not isinstance(played, str) or asset.required == 1:
            needed = played
    return needed


def native_markup(
    native: Native, parts: NativeParts, clip: Clip, impression: str, click: str
) -> str:
    """Returns the ``adm`` of a native ad: its JSON, with the ids and trackers of the request.

    Args:
        native: of the imp, with a request that ``native_needs`` could read.
        parts: of the creative.
        clip: its video.
        impression: URL to be fetched when the ad is shown.
        click: URL to be opened on a click; it sends the visitor on to the landing page.

    Before version 1.1 the object stood in a root named ``native``, in request and response
    (Native 1.2, 4.1 and 5.1). Without an impression tracker by pixel among the ``eventtrackers``
    asked for, the URL goes into ``imptrackers``, which every version knows (5.1, 5.8).
    """
    request = _request_of(native)
    assert request is not None, "the slot of an unreadable native request is refused"
    wanted = request.assets if request.assets else _assets_of(parts)
    assets = [
        {"id": asset.id or 0, **shown}
        for asset in wanted
        if (shown := _shown(asset, parts, clip)) is not None
    ]
    version = number_text(request.ver) or number_text(native.ver) or "1.2"
    ad: dict[str, object] = {"ver": version, "assets": assets, "link": {"url": click}}
    if _takes_pixel(request.eventtrackers or ()):
        ad["eventtrackers"] = [
            {"event": _IMPRESSION_EVENT, "method": _PIXEL_METHOD, "url": impression}
        ]
    else:
        ad["imptrackers"] = [impression]
    is_rooted = version.startswith("1.0") or _is_rooted(native)
    return msgspec.json.encode({"native": ad} if is_rooted else ad).decode()


def _request_of(native: Native) -> NativeRequest | None:
    """Returns the native markup request of an imp; None if there is none that can be read."""
    if len(native.request) == 0:
        return native_request_of(native)
    return _remembered(bytes(native.request))


@lru_cache(_REQUESTS_MAX)
def _remembered(text: bytes) -> NativeRequest | None:
    return native_request_of(Native(request=msgspec.Raw(text)))


def _is_rooted(native: Native) -> bool:
    """Returns whether the request came in an object with the one field ``native``."""
    head = bytes(native.request)[:64].lstrip(b'" \t\r\n{\\')
    return head.startswith(b"native")


def _shorter(one: int, length: int | None) -> int:
    """Returns the tighter of two limits on characters; 0 = none yet, absent = no limit."""
    limit = length if length is not None and 0 < length < NO_LENGTH_LIMIT else NO_LENGTH_LIMIT
    return min(one, limit) if one else limit


def _which(image: ImageAsset) -> int | None:
    """Returns which of our images an asset asks for; None for types of the exchange's own.

    Without a type a small square is taken for the icon. Source: Native 1.2, 7.3: an icon is square
    and at least 50 pixels are to be supported.
    """
    if image.type is None and image.w is not None and image.w == image.h:
        return _ICON if 0 < image.w <= _ICON_PIXELS_MAX else _MAIN
    return _IMAGES_BY_TYPE.get(image.type)


def _box_of(image: ImageAsset) -> _Box | None:
    """Returns the sizes that an image asset takes, None if none; ``w`` without ``wmin`` is exact.

    Source: Native 1.2, 4.4. A ``wmin`` of 0, which exchanges send beside ``w``, asks for any size.
    """
    width = _range_of(image.w, image.wmin)
    height = _range_of(image.h, image.hmin)
    if width is None or height is None:
        return None
    return _Box(*width, *height, media_mask(image.mimes))


def _range_of(exact: int | None, least: int | None) -> tuple[int, int] | None:
    if least is not None:
        return (max(least, 0), _SIZE_MAX) if least <= _SIZE_MAX else None
    if exact is None or exact <= 0:
        return 0, _SIZE_MAX
    return (exact, exact) if exact <= _SIZE_MAX else None


def _within(one: _Box, other: _Box) -> _Box:
    """Returns what two assets that show the same image both take."""
    both = one.types & other.types if one.types and other.types else one.types or other.types
    return _Box(
        max(one.width_min, other.width_min), min(one.width_max, other.width_max),
        max(one.height_min, other.height_min), min(one.height_max, other.height_max),
        both or (1 << 63 if one.types and other.types else 0),
    )  # fmt: skip


def _shown(asset: NativeAsset, parts: NativeParts, clip: Clip) -> dict[str, object] | None:
    """Returns the answer to one asset without its id, None if the creative has nothing for it."""
    if asset.title is not None:
        fits = len(parts.title) <= _shorter(0, asset.title.len)
        return {"title": {"text": _quoted(parts.title)}} if fits else None
    if asset.img is not None:
        return _shown_image(asset.img, parts)
    if asset.data is not None:
        text = parts.data(asset.data.type or 0)
        fits = 0 < len(text) <= _shorter(0, asset.data.len)
        return {"data": {"type": asset.data.type, "value": _quoted(text)}} if fits else None
    if asset.video is not None and clip.vast:
        played = played_of(asset.video)
        fits = not isinstance(played, str) and _is_taken(played, clip)
        return {"video": {"vasttag": clip.vast}} if fits else None
    return None


def _shown_image(asset: ImageAsset, parts: NativeParts) -> dict[str, object] | None:
    which = _which(asset)
    box = _box_of(asset)
    image: NativeImage | None = None if which is None else (parts.icon, parts.image)[which]
    if which is None or box is None or image is None or not _fits(image, box):
        return None
    return {
        "img": {
            "type": _TYPES_BY_IMAGE[which], "url": image.url, "w": image.width, "h": image.height
        }
    }  # fmt: skip


def _fits(image: NativeImage, box: _Box) -> bool:
    return (
        box.width_min <= image.width <= box.width_max
        and box.height_min <= image.height <= box.height_max
        and (not box.types or bool(box.types & media_bit(image.media_type)))
    )


def _is_taken(played: Played, clip: Clip) -> bool:
    """Returns whether a video that is not required may be shown: length, protocol, media type."""
    duration = clip.duration_ms
    is_length = (
        duration in played.durations_ms
        if played.durations_ms
        else played.duration_ms_min <= duration <= (played.duration_ms_max or duration)
    )
    is_spoken = not played.protocols or bool(played.protocols >> clip.protocol & 1)
    return (
        is_length
        and is_spoken
        and (not played.media_types or bool(played.media_types & clip.media_bit))
    )


def _assets_of(parts: NativeParts) -> list[NativeAsset]:
    """Returns an asset for everything there is, numbered from 1: for a request that names none."""
    kinds = [kind for kind in range(1, NATIVE_DATA_COUNT) if parts.data(kind)]
    wanted = [
        NativeAsset(title=NativeTitle()),
        *(NativeAsset(img=ImageAsset(type=kind)) for kind in _TYPES_BY_IMAGE),
        *(NativeAsset(data=NativeData(type=kind)) for kind in kinds),
    ]
    return [msgspec.structs.replace(asset, id=n) for n, asset in enumerate(wanted, 1)]


def _quoted(text: str) -> msgspec.Raw:
    """Text as a JSON string that can form no macro of the exchange and no HTML tag."""
    quoted = msgspec.json.encode(text).decode()
    for character in "{$<":
        quoted = quoted.replace(character, f"\\u{ord(character):04x}")
    return msgspec.Raw(quoted.encode())


def _takes_pixel(trackers: list[NativeEventTracker] | tuple[()]) -> bool:
    return any(
        tracker.event == _IMPRESSION_EVENT and _PIXEL_METHOD in integers(tracker.methods)
        for tracker in trackers
    )
