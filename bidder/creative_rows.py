"""A creative as the kernels and the answer see it: its row of columns, and its renditions.

A rendition is a creative in one protocol: VAST 2, 3 or 4 of the same file are three renditions of
one creative, a banner is one. The kernel chooses the rendition, because only it knows which
protocols the chosen creative's slot accepts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from market.creative import DATA_FIELDS, banner_type_of, media_bit
from market.opportunity import NATIVE_DATA_COUNT
from market.snapshot import RENDITION_COUNT_MAX
from market.vast import VAST_VERSIONS, Wording, vast_document

if TYPE_CHECKING:
    from market.campaign import Campaign
    from market.creative import Creative, NativeImage

assert len(VAST_VERSIONS) <= RENDITION_COUNT_MAX
assert len(DATA_FIELDS) == NATIVE_DATA_COUNT
_NO_PROTOCOLS = (0,) * RENDITION_COUNT_MAX


def renditions_of(campaign: Campaign, creative: Creative) -> tuple[tuple[int, str], ...]:
    """Returns (protocol, markup template) of every rendition, the best protocol first.

    A creative that brings its markup has one; one that brings a media file has one for every
    version of VAST. That of a native ad is the tag of its video asset.
    """
    if not creative.media_url:
        return ((creative.protocol, creative.adm),)
    wording = Wording(creative.name or campaign.name, campaign.advertiser_domain)
    return tuple(
        (protocol, vast_document(creative, wording, protocol)) for protocol in VAST_VERSIONS
    )


def fit_columns(
    creative: Creative, rendition_first: int, renditions: tuple[tuple[int, str], ...]
) -> tuple[object, ...]:
    """Returns the columns of CREATIVE_DTYPE from ``rendition_first`` to ``image_types``."""
    protocols = [protocol for protocol, _ in renditions]
    parts = creative.native
    images = (None, None) if parts is None else (parts.icon, parts.image)
    return (
        rendition_first, [*protocols, *_NO_PROTOCOLS][:RENDITION_COUNT_MAX],
        _bits(creative.apis), _bits(creative.expand_directions),
        banner_type_of(creative) if creative.format == "banner" else 0,
        creative.linearity, creative.delivery, creative.bitrate_kbps, creative.skip_after_ms,
        0 if parts is None else len(parts.title),
        [0 if parts is None else len(parts.data(kind)) for kind in range(NATIVE_DATA_COUNT)],
        [_size(image) for image in images],
        [0 if image is None else media_bit(image.media_type) for image in images],
    )  # fmt: skip


def size_of(creative: Creative) -> int:
    """Returns w << 16 | h; 0 for a native ad, whose video has a size and which itself has none."""
    return 0 if creative.format == "native" else creative.width << 16 | creative.height


def _size(image: NativeImage | None) -> int:
    return 0 if image is None else image.width << 16 | image.height


def _bits(codes: tuple[int, ...]) -> int:
    return sum(1 << code for code in set(codes))
