"""One imp as the bidder sees it: which formats it takes, and what each of them may be.

An imp that offers nothing usable is named by the field that makes it so. A format that cannot be
used costs only itself: the others go on. Formats never speak for each other, so every rule lies in
a column of its own format (``market.opportunity``).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from bidder.native_ad import NativeNeeds, native_needs
from bidder.timed import NOT_PLAYED, SECONDS_MAX, Played, mask_of, media_mask, played_of
from market.creative import ATTRIBUTE_SKIPPABLE
from market.money import MICROS
from market.opportunity import (
    DURATION_COUNT_MAX,
    NATIVE_DATA_COUNT,
    OPPORTUNITY_DTYPE,
    RATIO_COUNT_MAX,
    SIZE_COUNT_MAX,
    Format,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from market.openrtb import Banner, Imp, Qty, TimedMedia, Video

# Plain integers: arithmetic on an enum member costs a microsecond.
_BANNER, _VIDEO, _AUDIO, _NATIVE = (int(f) for f in Format)
FORMAT_NAMES = {int(f): str(f.name).lower() for f in Format}
_SIZE_MAX = 65_535
_MULTIPLIER_MAX = 1_000
_MRAID = 1 << 3 | 1 << 5 | 1 << 6
"""API frameworks by which an app lets an ad expand: MRAID 1, 2 and 3."""
_ZERO_SIZES = (0,) * SIZE_COUNT_MAX
_EXP_MS_MAX = 10**12


def block_struct(first: str, end: str) -> struct.Struct:
    """Returns a packer for the columns of an opportunity from ``first`` up to, without, ``end``.

    "" as the end means the end of the record.
    """
    letters = {"u8": "Q", "i8": "q", "u4": "I", "i4": "i", "u2": "H", "u1": "B"}
    names = (*(OPPORTUNITY_DTYPE.names or ()), "")
    fields = cast("Mapping[str, tuple[Any, ...]]", OPPORTUNITY_DTYPE.fields)
    layout, at = "<", fields[first][1]
    for name in names[names.index(first) : names.index(end)]:
        dtype, offset = fields[name][0], fields[name][1]
        base, shape = dtype.subdtype or (dtype, (1,))
        layout += f"{offset - at}x{shape[0]}{letters[base.str[1:]]}"
        at = offset + dtype.itemsize
    end_at = fields[end][1] if end else OPPORTUNITY_DTYPE.itemsize
    return struct.Struct(f"{layout}{end_at - at}x")


REST = ("apis", "quantity_micros")
"""The columns of ``Slot.rest``: from the first up to, without, the second."""
_REST = block_struct(*REST)
NO_REST = bytes(_REST.size)


class Slot(NamedTuple):
    """What one imp accepts: values in the order of the columns of ``market.opportunity``.

    Attributes:
        formats: mask of Format.
        sizes: [SIZE_COUNT_MAX] exact banner sizes, then zeros.
        size_count: of them.
        duration_ms_min: by what is played, as the next four.
        rest: bytes of the columns that only a special slot fills (``REST``).
        quantity_micros: impressions per bid times 10^6.
        exp_ms: longest time between auction and impression that the seller names, 0 = unsaid.
    """

    formats: int
    sizes: tuple[int, ...]
    size_count: int
    duration_ms_min: tuple[int, ...]
    duration_ms_max: tuple[int, ...]
    attributes_blocked: tuple[int, ...]
    protocols: tuple[int, ...]
    media_types: tuple[int, ...]
    rest: bytes
    quantity_micros: int
    exp_ms: int


class _Frame(NamedTuple):
    """What the banner of an imp accepts."""

    sizes: tuple[int, ...]
    ratios: tuple[int, ...]
    ratio_widths_min: tuple[int, ...]
    attributes_blocked: int
    media_types: int
    apis: int
    types_blocked: int
    expand_directions: int

    def is_special(self) -> bool:
        """Returns whether it fills a column of REST."""
        return bool(self.apis or self.types_blocked or self.expand_directions or self.ratios)


class _Screen(NamedTuple):
    """What only a video player asks for."""

    skippable_ms_min: int
    skip_after_ms_min: int
    player_size: int
    linearity: int


_NO_FRAME = _Frame((), (), (), 0, 0, 0, 0, 0)
_NO_SCREEN = _Screen(0, 0, 0, 0)
_NO_NEEDS = NativeNeeds(
    0, (0,) * NATIVE_DATA_COUNT, 0, (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), 0, NOT_PLAYED
)


def slot_of(imp: Imp) -> Slot | str:
    """Returns what the imp accepts, or the field that makes it unusable."""
    if imp.bidfloor is not None and imp.bidfloor < 0:
        return "imp.bidfloor"
    quantity = MICROS if imp.qty is None else _quantity(imp.qty)
    if quantity is None:
        return "imp.qty.multiplier"
    frame = None if imp.banner is None else _frame_of(imp.banner)
    video = None if imp.video is None else _played(imp.video, "imp.video")
    audio = None if imp.audio is None else _played(imp.audio, "imp.audio")
    needs = None if imp.native is None else native_needs(imp.native)
    parts = (frame, video, audio, needs)
    formats = sum(
        1 << place
        for place, part in enumerate(parts)
        if part is not None and not isinstance(part, str)
    )
    if not formats:
        return next((part for part in parts if isinstance(part, str)), "imp.banner")
    return _slot(
        imp, formats, quantity,
        frame if isinstance(frame, _Frame) else _NO_FRAME,
        video if isinstance(video, Played) else NOT_PLAYED,
        audio if isinstance(audio, Played) else NOT_PLAYED,
        needs if isinstance(needs, NativeNeeds) else _NO_NEEDS,
    )  # fmt: skip


def _slot(
    imp: Imp, formats: int, quantity_micros: int, frame: _Frame, video: Played, audio: Played,
    needs: NativeNeeds,
) -> Slot:  # fmt: skip
    native, asset = imp.native, needs.video
    video_attributes = video.attributes_blocked
    screen = _NO_SCREEN
    if imp.video is not None:
        screen = _screen_of(imp.video)
        # A player without skipping takes no creative that skips itself (2.6 section 3.2.7).
        video_attributes |= 1 << ATTRIBUTE_SKIPPABLE if imp.video.skip == 0 else 0
    rest = NO_REST
    is_special = (
        formats & _NATIVE
        or frame.is_special()
        or video.is_special()
        or audio.is_special()
        or screen != _NO_SCREEN
    )
    if is_special:
        apis = mask_of(native.api) if native is not None else 0
        rest = _rest(frame, (video, audio, asset), screen, needs, apis)
    return Slot(
        formats, (*frame.sizes, *_ZERO_SIZES[len(frame.sizes) :]), len(frame.sizes),
        (video.duration_ms_min, audio.duration_ms_min, asset.duration_ms_min),
        (video.duration_ms_max, audio.duration_ms_max, asset.duration_ms_max),
        (
            frame.attributes_blocked, video_attributes, audio.attributes_blocked,
            mask_of(native.battr) if native is not None else 0,
        ),
        (video.protocols, audio.protocols, asset.protocols),
        (frame.media_types, video.media_types, audio.media_types, asset.media_types),
        rest, quantity_micros, min(max(imp.exp or 0, 0) * 1000, _EXP_MS_MAX),
    )  # fmt: skip


def _played(media: TimedMedia, at: str) -> Played | str:
    """Returns what the player takes, or the field that makes it unusable, below ``at``."""
    played = played_of(media)
    return f"{at}.{played}" if isinstance(played, str) else played


def _rest(
    frame: _Frame, played: tuple[Played, ...], screen: _Screen, needs: NativeNeeds, native_apis: int
) -> bytes:
    """Returns the columns of REST."""
    durations: list[int] = []
    for each in played:
        durations += each.durations_ms
        durations += (0,) * (DURATION_COUNT_MAX - len(each.durations_ms))
    no_ratios = (0,) * (RATIO_COUNT_MAX - len(frame.ratios))
    video, audio, asset = played
    return _REST.pack(
        frame.apis, video.apis, audio.apis, native_apis,
        *frame.ratios, *no_ratios, *frame.ratio_widths_min, *no_ratios, *durations,
        video.bitrate_kbps_min, audio.bitrate_kbps_min, asset.bitrate_kbps_min,
        video.bitrate_kbps_max, audio.bitrate_kbps_max, asset.bitrate_kbps_max,
        screen.skippable_ms_min, screen.skip_after_ms_min, screen.player_size,
        video.deliveries, audio.deliveries, asset.deliveries,
        screen.linearity, frame.types_blocked, frame.expand_directions,
        needs.title_chars, *needs.data_chars, needs.images_required,
        *needs.width_min, *needs.width_max, *needs.height_min, *needs.height_max,
        *needs.image_types, needs.needs_video,
    )  # fmt: skip


def _quantity(qty: Qty) -> int | None:
    """Returns impressions per bid times 10^6; None for a multiplier that cannot be paid for."""
    if qty.multiplier is None:
        return MICROS
    if not 0 < qty.multiplier <= _MULTIPLIER_MAX:
        return None
    return max(round(qty.multiplier * MICROS), 1)


def _frame_of(banner: Banner) -> _Frame | str:
    """Returns what a banner accepts, or the field that leaves no size."""
    sizes: dict[int, None] = {}
    ratios: dict[int, int] = {}
    for each in banner.format or ():
        if 0 < (each.w or 0) <= _SIZE_MAX and 0 < (each.h or 0) <= _SIZE_MAX:
            sizes[(each.w or 0) << 16 | (each.h or 0)] = None
        elif 0 < (each.wratio or 0) <= _SIZE_MAX and 0 < (each.hratio or 0) <= _SIZE_MAX:
            least = min(max(each.wmin or 0, 0), _SIZE_MAX)
            ratios[(each.wratio or 0) << 16 | (each.hratio or 0)] = least
    if 0 < (banner.w or 0) <= _SIZE_MAX and 0 < (banner.h or 0) <= _SIZE_MAX:
        sizes[(banner.w or 0) << 16 | (banner.h or 0)] = None
    if not sizes and not ratios:
        return "imp.banner.format" if banner.format is not None else "imp.banner.w"
    apis = mask_of(banner.api)
    directions = mask_of(banner.expdir) & 0xFF
    # In an iframe nothing can grow over the page; an app's ad view can (MRAID).
    if banner.topframe == 0 and not apis & _MRAID:
        directions = 0
    return _Frame(
        tuple(sizes)[:SIZE_COUNT_MAX], tuple(ratios)[:RATIO_COUNT_MAX],
        tuple(ratios.values())[:RATIO_COUNT_MAX], mask_of(banner.battr),
        media_mask(banner.mimes), apis, mask_of(banner.btype) & 0xFF, directions,
    )  # fmt: skip


def _screen_of(video: Video) -> _Screen:
    """Returns what only a video player asks for. Source: 2.6 section 3.2.7."""
    size = 0
    if video.boxingallowed == 0:
        width, height = video.w or 0, video.h or 0
        if 0 < width <= _SIZE_MAX and 0 < height <= _SIZE_MAX:
            size = width << 16 | height
    return _Screen(
        min(max(video.skipmin or 0, 0), SECONDS_MAX) * 1000,
        min(max(video.skipafter or 0, 0), SECONDS_MAX) * 1000,
        size,
        video.linearity if video.linearity in (1, 2) else 0,
    )
