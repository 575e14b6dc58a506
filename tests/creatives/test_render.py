import io
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image, ImageChops

from creatives.brief import Category
from creatives.geometry import STANDARD_SIZES, Box, Size
from creatives.layout import Arrangement, Emphasis, LayoutKind
from creatives.palette import PaletteKind, contrast, luminance
from creatives.render import (
    MediaType,
    compose,
    paint_scene,
    paint_words,
    render,
    tag_colours,
)
from creatives.variants import Attributes, HeadlineForm, Variant, designs, variant_of
from market.errors import BadInput

PLAIN = Attributes(HeadlineForm.WRITTEN, PaletteKind.BRAND, LayoutKind.SPLIT, Emphasis.PRODUCT)


def looks(brief, size: Size) -> list[Variant]:
    """One variant per layout and emphasis, the palettes taking turns."""
    wanted = [one for one in designs(brief) if one.headline is HeadlineForm.WRITTEN]
    unlike = {(one.layout, one.emphasis): one for one in wanted}
    kinds = list(PaletteKind)
    return [
        variant_of(brief, size, msgspec.structs.replace(one, palette=kinds[index % len(kinds)]))
        for index, one in enumerate(unlike.values())
    ]


def changed(before: Image.Image, after: Image.Image) -> Image.Image:
    """255 where two pictures differ, 0 where they do not."""
    red, green, blue = ImageChops.difference(before, after).split()
    most = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return most.point(lambda level: 255 if level else 0)


def without(mask: Image.Image, boxes: list[Box]) -> Image.Image:
    rest = mask.copy()
    for box in boxes:
        rest.paste(0, (box.left, box.top, box.right, box.bottom))
    return rest


def extremes(picture: Image.Image) -> tuple[float, float]:
    """The least and the greatest luminance of a picture's pixels, by WCAG's formula."""
    value = np.arange(256) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    levels = linear[np.asarray(picture)] @ np.array([0.2126, 0.7152, 0.0722])
    return float(levels.min()), float(levels.max())


def painted(variant: Variant, made: Arrangement, fonts) -> tuple[Image.Image, Image.Image]:
    scene = paint_scene(variant, made)
    finished = scene.copy()
    paint_words(finished, variant, made, fonts.typeface(variant.brief.locale))
    return scene, finished


def test_equal_input_gives_equal_bytes_in_every_size_and_format(brief, fonts):
    for size in STANDARD_SIZES:
        for media_type in MediaType:
            first = render(variant_of(brief, size, PLAIN), fonts, media_type)
            again = render(variant_of(brief, size, PLAIN), fonts, media_type)
            assert first == again, f"{size} {media_type}"


def test_another_process_with_another_hash_seed_renders_the_same_bytes(brief, fonts):
    program = (
        "import hashlib, sys, msgspec\n"
        "from creatives import Attributes, Brief, FontBook, Size, render\n"
        "from creatives.variants import variant_of\n"
        "brief, attributes = msgspec.json.decode(sys.stdin.buffer.read(), "
        "type=tuple[Brief, Attributes])\n"
        "variant = variant_of(brief, Size(300, 250), attributes)\n"
        "data = render(variant, FontBook.shipped())\n"
        "print(variant.creative_key, hashlib.sha256(data).hexdigest())\n"
    )
    root = Path(__file__).parents[2]
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=msgspec.json.encode((brief, PLAIN)),
            capture_output=True,
            check=True,
            cwd=root,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1


def test_drawn_words_stay_inside_their_boxes_in_every_size_layout_and_emphasis(brief, fonts):
    for size in STANDARD_SIZES:
        for variant in looks(brief, size):
            made = compose(variant, fonts)
            scene, finished = painted(variant, made, fonts)
            boxes = [text.box for text in made.texts] + ([made.mark] if made.mark else [])
            words = changed(scene, finished)
            where = f"{size} {variant.attributes}"
            assert without(words, boxes).getbbox() is None, f"{where}: ink outside the boxes"
            for text in made.texts:
                for line in text.lines:
                    ink = line.ink
                    assert words.crop((ink.left, ink.top, ink.right, ink.bottom)).getbbox(), (
                        f"{where}: nothing drawn for {line.text!r}"
                    )


def test_the_product_is_drawn_inside_its_box(brief, fonts):
    for size in STANDARD_SIZES:
        variant = variant_of(brief, size, PLAIN)
        made = compose(variant, fonts)
        other = msgspec.structs.replace(
            variant,
            brief=msgspec.structs.replace(
                brief, product=msgspec.structs.replace(brief.product, category=Category.FOOD)
            ),
        )
        mask = changed(paint_scene(variant, made), paint_scene(other, made))
        assert mask.getbbox() is not None
        assert without(mask, [made.subject]).getbbox() is None, size


def test_every_category_has_a_picture_of_its_own(brief, fonts):
    pictures = set()
    for category in Category:
        product = msgspec.structs.replace(brief.product, category=category)
        variant = variant_of(msgspec.structs.replace(brief, product=product), Size(300, 250), PLAIN)
        pictures.add(render(variant, fonts))
    assert len(pictures) == len(Category)


@pytest.mark.parametrize(("media_type", "name"), [(MediaType.JPEG, "JPEG"), (MediaType.PNG, "PNG")])
def test_a_file_is_of_its_type_and_size_and_carries_no_metadata(brief, fonts, media_type, name):
    for size in STANDARD_SIZES:
        data = render(variant_of(brief, size, PLAIN), fonts, media_type)
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == name
            assert image.size == (size.width, size.height)
            assert not image.getexif()


def test_display_sizes_stay_under_the_150_kilobytes_that_exchanges_take(brief, fonts):
    for size in STANDARD_SIZES:
        if size.height < 1000:
            for variant in looks(brief, size):
                assert len(render(variant, fonts)) < 150_000, size


def test_words_can_be_read_on_the_pixels_they_are_drawn_on(brief, fonts):
    # The palette promises 4.5 on the gradient's ends; light behind the product must not spoil it.
    for size in STANDARD_SIZES:
        for variant in looks(brief, size):
            made = compose(variant, fonts)
            scene = paint_scene(variant, made)
            surface = variant.palette.stage if made.is_poster else variant.palette.ground
            for text in made.texts:
                if text.name not in {"headline", "body"}:
                    continue
                colour = surface.ink if text.name == "headline" else surface.muted_ink
                box = text.box
                worst = min(
                    (max(light, ground) + 0.05) / (min(light, ground) + 0.05)
                    for light in [luminance(colour)]
                    for ground in extremes(scene.crop((box.left, box.top, box.right, box.bottom)))
                )
                assert worst >= 4.4, f"{size} {variant.attributes} {text.name}: {worst:.2f}"


def test_the_price_tag_can_be_told_from_what_is_behind_it(brief, fonts):
    for size in STANDARD_SIZES:
        for variant in looks(brief, size):
            made = compose(variant, fonts)
            if made.tag is None:
                continue
            fill, ink = tag_colours(variant.palette, made)
            on_stage = made.is_poster or made.stage.contains(made.tag)
            surface = variant.palette.stage if on_stage else variant.palette.ground
            for end in (surface.start, surface.end):
                assert contrast(fill, end) > 1.3, f"{size} {variant.attributes}"
            assert contrast(fill, ink) >= 4.5


def test_a_character_without_a_glyph_stops_the_creative_before_a_file_exists(brief, fonts):
    strange = msgspec.structs.replace(brief, body="Waterproof \u96e8")
    with pytest.raises(BadInput, match=r"body 'Waterproof .*U\+96E8"):
        render(variant_of(strange, Size(300, 250), PLAIN), fonts)
