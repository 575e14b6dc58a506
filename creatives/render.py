"""Draws a variant and encodes it: equal input, equal bytes.

Drawing is done by Pillow on the calling thread, from memory only. Equal input gives equal bytes for
one version of Pillow; another version may encode otherwise, so assets are named by what they hold.
"""

from __future__ import annotations

import io
from enum import StrEnum
from typing import TYPE_CHECKING

from PIL import Image

from creatives.layout import Arrangement, Copy, arrange
from creatives.palette import Palette, Rgb, Surface, readable
from creatives.picture import paint_gradient, paint_pill, paint_product
from creatives.price import price_label
from creatives.typesetting import PlacedText, Weight

if TYPE_CHECKING:
    from creatives.fonts import FontBook, Typeface
    from creatives.geometry import Box
    from creatives.variants import Variant

JPEG_QUALITY = 88
"""Text on flat colour shows ringing below about 85; sizes stay under 150 KB up to 1200x628."""


class MediaType(StrEnum):
    """What a still creative is encoded as."""

    JPEG = "image/jpeg"
    PNG = "image/png"


def compose(variant: Variant, fonts: FontBook) -> Arrangement:
    """Places the words of a variant.

    Raises:
        BadInput: a character has no glyph, or a text does not fit; the message names both.
    """
    brief = variant.brief
    typeface = fonts.typeface(brief.locale)
    copy = copy_of(variant, typeface)
    for name, text in (
        ("product.brand", copy.brand),
        ("headline", copy.headline),
        ("body", copy.body),
        ("call_to_action", copy.call_to_action),
        ("product.price_micros", copy.price),
    ):
        typeface.check(name, text)
    return arrange(copy, variant.size, variant.layout, variant.attributes.emphasis, typeface)


def copy_of(variant: Variant, typeface: Typeface) -> Copy:
    """The words of a variant as they are drawn."""
    brief, product = variant.brief, variant.brief.product
    return Copy(
        brand=product.brand,
        headline=brief.headline,
        body=brief.body,
        call_to_action=brief.call_to_action,
        price=price_label(product.price_micros, product.currency, brief.language, typeface.covers),
    )


def render(
    variant: Variant,
    fonts: FontBook,
    media_type: MediaType = MediaType.JPEG,
    arrangement: Arrangement | None = None,
) -> bytes:
    """The finished file of a variant.

    Args:
        variant: what to draw.
        fonts: what to set it in.
        media_type: JPEG, or PNG where every pixel must be kept (five times the bytes).
        arrangement: what :func:`compose` gave for the same variant and fonts, to spare the work.

    Raises:
        BadInput: as :func:`compose`.
    """
    arrangement = arrangement or compose(variant, fonts)
    canvas = paint_scene(variant, arrangement)
    paint_words(canvas, variant, arrangement, fonts.typeface(variant.brief.locale))
    return encode(canvas, media_type)


def paint_scene(variant: Variant, arrangement: Arrangement) -> Image.Image:
    """Everything but the words."""
    size, palette = variant.size, variant.palette
    canvas = Image.new("RGB", (size.width, size.height))
    if not arrangement.is_poster:
        paint_gradient(canvas, arrangement.ground, palette.ground.start, palette.ground.end)
    paint_gradient(canvas, arrangement.stage, palette.stage.start, palette.stage.end)
    category = variant.brief.product.category
    paint_product(canvas, arrangement.stage, arrangement.subject, category, palette)
    words = _words_surface(palette, arrangement)
    paint_pill(canvas, arrangement.button, words.button)
    if arrangement.tag is not None:
        paint_pill(canvas, arrangement.tag, tag_colours(palette, arrangement)[0])
    if arrangement.mark is not None:
        paint_pill(canvas, arrangement.mark, words.button, radius=0.28 * arrangement.mark.height)
    return canvas


def paint_words(
    canvas: Image.Image, variant: Variant, arrangement: Arrangement, typeface: Typeface
) -> None:
    """Every text of an arrangement, and the initial in the brand's mark."""
    palette = variant.palette
    words = _words_surface(palette, arrangement)
    colours: dict[str, Rgb] = {
        "product.brand": words.muted_ink,
        "headline": words.ink,
        "body": words.muted_ink,
        "call_to_action": words.on_button,
        "product.price_micros": tag_colours(palette, arrangement)[1],
    }
    for text in arrangement.texts:
        _draw_text(canvas, text, colours[text.name], typeface)
    if arrangement.mark is not None:
        _draw_initial(canvas, arrangement.mark, variant.brief.product.brand, words, typeface)


def encode(canvas: Image.Image, media_type: MediaType) -> bytes:
    """The canvas as a file, without metadata."""
    file = io.BytesIO()
    if media_type is MediaType.JPEG:
        # 4:4:4, because halved colour smears text.
        canvas.save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        canvas.save(file, "PNG", compress_level=6)
    return file.getvalue()


def tag_colours(palette: Palette, arrangement: Arrangement) -> tuple[Rgb, Rgb]:
    """Ground and ink of the price tag: unlike the button where both stand on the same surface."""
    tag = arrangement.tag
    if tag is not None and not arrangement.is_poster and arrangement.stage.contains(tag):
        return palette.stage.button, palette.stage.on_button
    surface = _words_surface(palette, arrangement)
    return surface.ink, readable(surface.end, (surface.ink,))


def _words_surface(palette: Palette, arrangement: Arrangement) -> Surface:
    return palette.stage if arrangement.is_poster else palette.ground


def _draw_text(canvas: Image.Image, text: PlacedText, colour: Rgb, typeface: Typeface) -> None:
    for line in text.lines:
        typeface.draw(canvas, line.text, (line.x, line.baseline), text.size_px, text.weight, colour)


def _draw_initial(
    canvas: Image.Image, mark: Box, brand: str, words: Surface, typeface: Typeface
) -> None:
    initial = brand.strip()[0].upper()
    size_px = max(7, round(0.62 * mark.height))
    ink = typeface.ink(initial, size_px, Weight.BOLD)
    x = mark.left + (mark.width - ink.width) // 2 - ink.left
    y = mark.top + (mark.height - ink.height) // 2 - ink.top
    typeface.draw(canvas, initial, (x, y), size_px, Weight.BOLD, words.on_button)
