"""Variants of an advertisement: copy, layout, image, markup and what the law says of it.

From one brief the room makes creatives that differ in attributes that matter, renders them with
Pillow, keeps them by content hash, and hands out the markup a bid carries. It reaches no network
and reads no clock; it decides neither what to bid nor which variant to show.
"""

from creatives.assets import Asset, AssetStore
from creatives.brief import Brief, Category, Product
from creatives.fonts import FontBook, FontChain, FontFace
from creatives.geometry import STANDARD_SIZES, Size
from creatives.layout import Emphasis, LayoutKind
from creatives.markup import (
    CLICK_URL_TOKEN,
    IMPRESSION_URL_TOKEN,
    MediaFile,
    Medium,
    NativeKind,
    NativeSlot,
    Spot,
    VastVersion,
    banner_template,
    native_template,
    vast_template,
)
from creatives.palette import PaletteKind
from creatives.render import MediaType, render
from creatives.studio import RenderedCreative, render_variants
from creatives.variants import Attributes, HeadlineForm, Variant, variants

__all__ = [
    "CLICK_URL_TOKEN",
    "IMPRESSION_URL_TOKEN",
    "STANDARD_SIZES",
    "Asset",
    "AssetStore",
    "Attributes",
    "Brief",
    "Category",
    "Emphasis",
    "FontBook",
    "FontChain",
    "FontFace",
    "HeadlineForm",
    "LayoutKind",
    "MediaFile",
    "MediaType",
    "Medium",
    "NativeKind",
    "NativeSlot",
    "PaletteKind",
    "Product",
    "RenderedCreative",
    "Size",
    "Spot",
    "Variant",
    "VastVersion",
    "banner_template",
    "native_template",
    "render",
    "render_variants",
    "variants",
    "vast_template",
]
