"""One imp as the bidder sees it: which formats, sizes, lengths and technologies it accepts.

An imp that offers nothing usable is named by the field that makes it so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from market.campaign import MEDIA_TYPES
from market.money import MICROS
from market.openrtb import Banner, Imp, Qty, TimedMedia, Video
from market.openrtb_reading import integers, protocols_of, texts
from market.opportunity import SIZE_COUNT_MAX, Format

if TYPE_CHECKING:
    from collections.abc import Sequence

# Plain integers: arithmetic on an enum member costs a microsecond.
_BANNER, _VIDEO, _AUDIO, _NATIVE = (int(f) for f in Format)
FORMAT_NAMES = {int(f): str(f.name).lower() for f in Format}
_SIZE_MAX = 65_535
_BTYPE_XHTML_BANNER = 2
_NO_KNOWN_MEDIA = 1 << 63
_MEDIA_BITS = {name: 1 << i for i, name in enumerate(MEDIA_TYPES)} | {
    "image/jpg": 1 << MEDIA_TYPES.index("image/jpeg"),
    "text/javascript": 1 << MEDIA_TYPES.index("application/javascript"),
    "audio/mp3": 1 << MEDIA_TYPES.index("audio/mpeg"),
}


def _family(*prefixes: str) -> int:
    return sum(1 << i for i, name in enumerate(MEDIA_TYPES) if name.startswith(prefixes))


_FAMILIES = {
    _BANNER: _family("image/", "text/", "application/"),
    _VIDEO: _family("video/"),
    _AUDIO: _family("audio/"),
    _NATIVE: _family("image/"),
}
_MULTIPLIER_MAX = 1_000
_NO_KNOWN_PROTOCOL = 1


class Slot(NamedTuple):
    """What one imp accepts, over all its formats."""

    formats: int
    sizes: tuple[int, ...]
    duration_ms_min: int
    duration_ms_max: int
    attributes_blocked: int
    protocols: int
    media_types: int
    quantity_micros: int


def slot_of(imp: Imp) -> Slot | str:  # noqa: C901 - one format after the other
    """Returns what the imp accepts, or the field that makes it unusable."""
    if imp.bidfloor is not None and imp.bidfloor < 0:
        return "imp.bidfloor"
    quantity = MICROS if imp.qty is None else _quantity(imp.qty)
    if quantity is None:
        return "imp.qty.multiplier"
    formats = attributes = protocols = media = 0
    sizes: tuple[int, ...] = ()
    duration = (0, 0)
    says_media = False
    fault = "imp.banner"
    banner = imp.banner
    if banner is not None:
        found = _sizes(banner)
        if isinstance(found, str):
            fault = found
        else:
            sizes = found
            formats = _BANNER
            attributes = _bits(banner.battr)
            says_media = bool(banner.mimes)
            media = _media(banner.mimes, _BANNER)
    # A native image is an image too: beside a banner that names its types it follows them.
    if imp.native is not None:
        media |= 0 if says_media else _FAMILIES[_NATIVE]
        formats |= _NATIVE
        attributes |= _bits(imp.native.battr)
    for kind, timed in ((_VIDEO, imp.video), (_AUDIO, imp.audio)):
        if timed is None:
            continue
        span = _duration(timed)
        if span is None:
            return f"imp.{FORMAT_NAMES[kind]}.minduration"
        accepted = _bits(protocols_of(timed) if isinstance(timed, Video) else timed.protocols)
        if formats & _VIDEO:
            span, accepted = _both(duration, span), _common(protocols, accepted)
        formats |= kind
        duration, protocols = span, accepted
        attributes |= _bits(timed.battr)
        says_media = says_media or bool(timed.mimes)
        media |= _media(timed.mimes, kind)
    if not formats:
        return fault
    return Slot(
        formats, sizes, duration[0], duration[1], attributes, protocols,
        media if says_media else 0, quantity,
    )  # fmt: skip


def _quantity(qty: Qty) -> int | None:
    """Returns impressions per bid times 10^6; None for a multiplier that cannot be paid for."""
    if qty.multiplier is None:
        return MICROS
    if not 0 < qty.multiplier <= _MULTIPLIER_MAX:
        return None
    return max(round(qty.multiplier * MICROS), 1)


def _both(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """Returns the durations that a video and an audio slot of one imp both accept."""
    longest = min(one[1], other[1]) if one[1] and other[1] else one[1] or other[1]
    return max(one[0], other[0]), longest


def _common(one: int, other: int) -> int:
    """Returns the protocols that both masks accept; a mask of 0 accepts any."""
    if not one or not other:
        return one or other
    return one & other or _NO_KNOWN_PROTOCOL


def _bits(codes: Sequence[str | float] | None) -> int:
    """Returns a mask with bit k set for every code k in 1..63."""
    mask = 0
    for code in integers(codes) if codes else ():
        if 0 < code < 64:
            mask |= 1 << code
    return mask


def _media(mimes: Sequence[str | float] | None, kind: int) -> int:
    """Returns the media types accepted of a format: all of its family where none is named."""
    if not mimes:
        return _FAMILIES[kind]
    mask = 0
    for mime in texts(mimes):
        mask |= _MEDIA_BITS.get(mime.strip().lower(), 0)
    return mask or _NO_KNOWN_MEDIA


def _sizes(banner: Banner) -> tuple[int, ...] | str:
    """Returns the exact sizes a banner accepts (w << 16 | h), or the field that offers none."""
    if _BTYPE_XHTML_BANNER in integers(banner.btype):
        return "imp.banner.btype"
    pairs = [(f.w or 0, f.h or 0) for f in banner.format or ()]
    if banner.w is not None and banner.h is not None:
        pairs.append((banner.w, banner.h))
    sizes = dict.fromkeys(
        w << 16 | h for w, h in pairs if 0 < w <= _SIZE_MAX and 0 < h <= _SIZE_MAX
    )
    if not sizes:
        return "imp.banner.format" if banner.format is not None else "imp.banner.w"
    return tuple(sizes)[:SIZE_COUNT_MAX]


def _duration(media: TimedMedia) -> tuple[int, int] | None:
    """Returns accepted (shortest, longest) in ms, 0 = open; None when they contradict."""
    required = [seconds for seconds in integers(media.rqddurs) if 0 < seconds <= 86_400]
    if required:
        # Exact lengths, and a record holds one range: the first of them.
        return required[0] * 1000, required[0] * 1000
    shortest = max(media.minduration or 0, 0) * 1000
    longest = max(media.maxduration or 0, 0) * 1000
    if longest and shortest > longest:
        return None
    return min(shortest, 10**12), min(longest, 10**12)
