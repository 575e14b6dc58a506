"""What is played, as a slot takes it: the video, the audio, or the video asset of a native ad.

Reads the fields that `market.openrtb.TimedMedia` has for all three; what only a video player has
(skip buttons, shapes, linearity) is the slot's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from market.creative import MEDIA_TYPES
from market.openrtb import Video
from market.openrtb_reading import code, integers, texts
from market.opportunity import DURATION_COUNT_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from market.openrtb import TimedMedia

SECONDS_MAX = 86_400
"""No ad is longer than a day."""
NO_KNOWN = 1
"""Bit 0 names nothing: a mask of it alone accepts no code, where 0 would accept any."""
NO_KNOWN_MEDIA = 1 << 63
_KBPS_MAX = 2**32 - 1
_MEDIA_BITS = {name: 1 << i for i, name in enumerate(MEDIA_TYPES)} | {
    "image/jpg": 1 << MEDIA_TYPES.index("image/jpeg"),
    "text/javascript": 1 << MEDIA_TYPES.index("application/javascript"),
    "audio/mp3": 1 << MEDIA_TYPES.index("audio/mpeg"),
}
_PROTOCOL_NAMES = {
    f"{standard} {version}{suffix}".lower(): number + is_wrapper
    for standard, version, number, wrapper in (
        ("vast", "1.0", 1, 4), ("vast", "2.0", 2, 5), ("vast", "3.0", 3, 6), ("vast", "4.0", 7, 8),
        ("daast", "1.0", 9, 10), ("vast", "4.1", 11, 12), ("vast", "4.2", 13, 14),
        ("vast", "4.3", 15, 16),
    )
    for suffix, is_wrapper in (("", 0), (" wrapper", wrapper - number))
}  # fmt: skip
"""Protocols that some exchanges write as names, with their numbers in AdCOM 1.0."""


class Played(NamedTuple):
    """What a player takes; the columns of ``market.opportunity`` of the same names.

    Attributes:
        duration_ms_min: shortest, 0 = any.
        duration_ms_max: longest, 0 = any.
        durations_ms: the exact lengths that are taken, at most DURATION_COUNT_MAX; () = a range.
        protocols: mask of protocols, 0 = any.
        media_types: mask of MEDIA_TYPES, 0 = any.
        bitrate_kbps_min: 0 = any.
        bitrate_kbps_max: 0 = any.
        deliveries: mask of delivery methods, 0 = any.
        attributes_blocked: mask of creative attributes.
        apis: mask of API frameworks.
    """

    duration_ms_min: int
    duration_ms_max: int
    durations_ms: tuple[int, ...]
    protocols: int
    media_types: int
    bitrate_kbps_min: int
    bitrate_kbps_max: int
    deliveries: int
    attributes_blocked: int
    apis: int

    def is_special(self) -> bool:
        """Returns whether it asks for more than a range of lengths, protocols and media types."""
        return bool(
            self.durations_ms
            or self.bitrate_kbps_min
            or self.bitrate_kbps_max
            or self.deliveries
            or self.apis
        )


NOT_PLAYED = Played(0, 0, (), 0, 0, 0, 0, 0, 0, 0)


def played_of(media: TimedMedia) -> Played | str:
    """Returns what the player takes, or the field of it that makes it unusable."""
    durations = _durations(media)
    if isinstance(durations, str):
        return durations
    shortest, longest, exact = durations
    lowest = min(max(media.minbitrate or 0, 0), _KBPS_MAX)
    highest = min(max(media.maxbitrate or 0, 0), _KBPS_MAX)
    if highest and lowest > highest:
        return "minbitrate"
    return Played(
        shortest, longest, exact, _protocols(media), media_mask(media.mimes), lowest, highest,
        _deliveries(media.delivery), mask_of(media.battr), mask_of(media.api),
    )  # fmt: skip


def mask_of(codes: Sequence[str | float] | None) -> int:
    """Returns a mask with bit k set for every code k in 1..63."""
    mask = 0
    for each in integers(codes) if codes else ():
        if 0 < each < 64:
            mask |= 1 << each
    return mask


def accepted_mask(codes: Sequence[str | float] | None) -> int:
    """Returns the mask of a list that accepts: 0 where there is none, NO_KNOWN if it names none."""
    return mask_of(codes) or NO_KNOWN if codes else 0


def media_mask(mimes: Sequence[str | float] | None) -> int:
    """Returns the media types accepted, 0 = any; NO_KNOWN_MEDIA where only unknown ones are."""
    if not mimes:
        return 0
    mask = 0
    for mime in texts(mimes):
        mask |= _MEDIA_BITS.get(mime.strip().lower(), 0)
    return mask or NO_KNOWN_MEDIA


def _deliveries(methods: Sequence[str | float] | None) -> int:
    """Returns the delivery methods accepted; the column has room for the eight lowest codes."""
    return mask_of(methods) & 0xFF or NO_KNOWN if methods else 0


def _protocols(media: TimedMedia) -> int:
    """Returns the protocols accepted, from ``protocols`` or else the older ``video.protocol``."""
    listed = media.protocols
    if not listed and isinstance(media, Video):
        older = media.protocol
        listed = older if isinstance(older, list) or older is None else [older]
    if not listed:
        return 0
    numbers = [
        _PROTOCOL_NAMES.get(each.strip().lower(), code(each)) if isinstance(each, str) else each
        for each in listed
    ]
    return accepted_mask([number for number in numbers if number is not None]) or NO_KNOWN


def _durations(media: TimedMedia) -> tuple[int, int, tuple[int, ...]] | str:
    """Returns (shortest ms, longest ms, exact ms), or the field that leaves none.

    A dynamic pod takes nothing longer than itself. Source: 2.6 section 3.2.7: ``rqddurs`` and the
    range exclude each other; ``maxextended`` seconds may be played beyond the range, -1 = any.
    """
    pod = min(max(media.poddur or 0, 0), SECONDS_MAX)
    if media.rqddurs:
        most = pod or SECONDS_MAX
        listed = integers(media.rqddurs)
        exact = dict.fromkeys(seconds * 1000 for seconds in listed if 0 < seconds <= most)
        return (0, 0, tuple(exact)[:DURATION_COUNT_MAX]) if exact else "rqddurs"
    shortest = min(max(media.minduration or 0, 0), SECONDS_MAX)
    longest = min(max(media.maxduration or 0, 0), SECONDS_MAX)
    if longest and shortest > longest:
        return "minduration"
    extended = media.maxextended or 0
    if longest and extended:
        longest = 0 if extended == -1 else min(longest + max(extended, 0), SECONDS_MAX)
    if pod:
        longest = min(longest, pod) if longest else pod
        if shortest > longest:
            return "poddur"
    return shortest * 1000, longest * 1000, ()
