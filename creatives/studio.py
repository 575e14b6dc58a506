"""From a brief to creatives that can be bid: variants, rendered, stored, with their markup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from creatives.assets import Asset, AssetStore
from creatives.geometry import Size
from creatives.layout import Emphasis, LayoutKind
from creatives.markup import banner_template
from creatives.render import MediaType, compose, render
from creatives.variants import Variant, variants
from market.errors import BadInput

if TYPE_CHECKING:
    from creatives.brief import Brief
    from creatives.fonts import FontBook
    from creatives.layout import Arrangement


_Setting = tuple[Size, str, LayoutKind, Emphasis]
"""What the places of words depend on: everything but colours."""


class RenderedCreative(msgspec.Struct, frozen=True):
    """A variant with its stored image and the markup that shows it.

    Attributes:
        variant: what it is, with its key and attributes.
        asset: the stored image.
        width: pixels of the creative.
        height: pixels of the creative.
        adm_template: banner HTML with the tokens of :mod:`creatives.markup`.
    """

    variant: Variant
    asset: Asset
    width: int
    height: int
    adm_template: str


def render_variants(
    brief: Brief,
    sizes: tuple[Size, ...],
    count: int,
    store: AssetStore,
    fonts: FontBook,
    media_type: MediaType = MediaType.JPEG,
) -> tuple[RenderedCreative, ...]:
    """Makes ``count`` designs of a brief in every size, renders and stores them.

    Nothing is stored unless everything fits.

    Args:
        brief: what to say.
        sizes: canvases; the answer holds design by design, each in the order of ``sizes``.
        count: how many designs.
        store: where images are kept.
        fonts: what texts are set in.
        media_type: what images are encoded as.

    Raises:
        BadInput: a text has characters without glyphs or does not fit, a price cannot be printed,
            or fewer than ``count`` designs can be made; the message names which and why.
    """
    arrangements: dict[_Setting, Arrangement] = {}
    refusals: dict[_Setting, BadInput] = {}

    def check(variant: Variant) -> None:
        setting = _setting(variant)
        if setting in refusals:
            raise refusals[setting]
        if setting not in arrangements:
            try:
                arrangements[setting] = compose(variant, fonts)
            except BadInput as error:
                refusals[setting] = error
                raise

    made = variants(brief, sizes, count, check)
    return tuple(
        _rendered(variant, arrangements[_setting(variant)], store, fonts, media_type)
        for design in made
        for variant in design
    )


def _setting(variant: Variant) -> _Setting:
    return variant.size, variant.brief.headline, variant.layout, variant.attributes.emphasis


def _rendered(
    variant: Variant,
    arrangement: Arrangement,
    store: AssetStore,
    fonts: FontBook,
    media_type: MediaType,
) -> RenderedCreative:
    asset = store.put(render(variant, fonts, media_type, arrangement), media_type)
    return RenderedCreative(
        variant=variant,
        asset=asset,
        width=asset.width,
        height=asset.height,
        adm_template=banner_template(variant.brief, store.url(asset), variant.size),
    )
