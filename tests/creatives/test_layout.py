import itertools

import msgspec
import pytest

from creatives.geometry import STANDARD_SIZES, Box, Size
from creatives.layout import Arrangement, Copy, Emphasis, LayoutKind, arrange
from market.errors import BadInput

COPIES = {
    "usual": Copy(
        "Northpeak",
        "Run dry when the rain doesn't stop",
        "A waterproof road shoe that still breathes. Free returns for 60 days.",
        "Shop now",
        "$89",
    ),
    "short": Copy("Om", "Go", "Now.", "Go", "$1"),
    "no price": Copy("Northpeak", "Quiet at last", "Twelve hours of calm.", "Listen", ""),
    "long price": Copy(
        "Northpeak", "Fly home", "All taxes are in it.", "Book", "IDR\u00a01,250,000"
    ),
    "right to left": Copy(
        "\u05d2\u05e9\u05dd",
        "\u05e8\u05d5\u05e5 \u05d9\u05d1\u05e9 \u05d1\u05d2\u05e9\u05dd",
        "\u05e0\u05e2\u05dc \u05e2\u05de\u05d9\u05d3\u05d4 \u05d1\u05de\u05d9\u05dd",
        "\u05dc\u05e7\u05e0\u05d9\u05d9\u05d4",
        "$89",
    ),
}
EVERY = list(itertools.product(STANDARD_SIZES, LayoutKind, Emphasis))


def shared(first: Box, second: Box) -> bool:
    """Pixels in common, told apart from Box.overlaps by counting on each axis."""
    across = set(range(first.left, first.right)) & set(range(second.left, second.right))
    down = set(range(first.top, first.bottom)) & set(range(second.top, second.bottom))
    return bool(across and down)


def inside(inner: Box, outer: Box) -> bool:
    return (
        outer.left <= inner.left <= inner.right <= outer.right
        and outer.top <= inner.top <= inner.bottom <= outer.bottom
    )


def layers(made: Arrangement) -> dict[str, Box]:
    boxes = {"subject": made.subject, "button": made.button}
    if made.mark is not None:
        boxes["mark"] = made.mark
    if made.tag is not None:
        boxes["tag"] = made.tag
    for text in made.texts:
        if text.name not in {"call_to_action", "product.price_micros"}:
            boxes[text.name] = text.box
    return boxes


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_no_layers_overlap_and_all_ink_is_inside_its_box_in_every_size(fonts, copy):
    typeface = fonts.typeface("en")
    for size, kind, emphasis in EVERY:
        made = arrange(copy, size, kind, emphasis, typeface)
        where = f"{size} {kind} {emphasis}"
        canvas = Box(0, 0, size.width, size.height)
        boxes = layers(made)
        for name, box in boxes.items():
            assert inside(box, canvas), f"{where}: {name} leaves the canvas"
            assert min(box.width, box.height) > 0, f"{where}: {name} is empty"
        for one, other in itertools.combinations(boxes, 2):
            assert not shared(boxes[one], boxes[other]), f"{where}: {one} and {other} overlap"
        pills = {"call_to_action": made.button, "product.price_micros": made.tag}
        for text in made.texts:
            for line in text.lines:
                assert inside(line.ink, text.box), f"{where}: {text.name} leaves its box"
            pill = pills.get(text.name)
            assert pill is None or inside(text.box, pill), f"{where}: {text.name} leaves its pill"
        assert inside(made.subject, made.stage), where


def test_every_size_shows_brand_headline_and_button_and_all_but_small_strips_the_body(fonts):
    typeface = fonts.typeface("en")
    for size, kind, emphasis in EVERY:
        made = arrange(COPIES["usual"], size, kind, emphasis, typeface)
        names = {text.name for text in made.texts}
        assert {"product.brand", "headline", "call_to_action"} <= names
        assert ("body" in names) == (size.height >= 60), size
        headline = next(text for text in made.texts if text.name == "headline")
        assert " ".join(line.text for line in headline.lines) == COPIES["usual"].headline


def test_the_price_is_shown_where_it_is_what_matters(fonts):
    typeface = fonts.typeface("en")
    for size in STANDARD_SIZES:
        for kind in LayoutKind:
            made = arrange(COPIES["usual"], size, kind, Emphasis.PRICE, typeface)
            assert made.tag is not None, f"{size} {kind}"
            bare = arrange(COPIES["no price"], size, kind, Emphasis.PRODUCT, typeface)
            assert bare.tag is None


def test_emphasis_makes_its_part_larger(fonts):
    typeface = fonts.typeface("en")

    def made(emphasis: Emphasis, size: Size) -> Arrangement:
        return arrange(COPIES["usual"], size, LayoutKind.SPLIT, emphasis, typeface)

    for size in (Size(1200, 628), Size(1080, 1920), Size(300, 600)):
        product, message, price = (made(emphasis, size) for emphasis in Emphasis)
        assert product.stage.width * product.stage.height > price.stage.width * price.stage.height
        assert price.stage.width * price.stage.height > message.stage.width * message.stage.height
        sizes = [
            next(text.size_px for text in one.texts if text.name == "headline")
            for one in (product, message)
        ]
        assert sizes[1] > sizes[0]
        assert price.tag is not None
        assert product.tag is not None
        assert price.tag.height > product.tag.height


def test_the_three_layouts_of_a_size_are_different(fonts):
    typeface = fonts.typeface("en")
    for size in STANDARD_SIZES:
        made = {
            arrange(COPIES["usual"], size, kind, Emphasis.PRODUCT, typeface) for kind in LayoutKind
        }
        assert len(made) == len(LayoutKind), size


def test_ground_and_stage_cover_the_canvas_without_overlap(fonts):
    typeface = fonts.typeface("en")
    for size, kind, emphasis in EVERY:
        made = arrange(COPIES["usual"], size, kind, emphasis, typeface)
        if kind is LayoutKind.POSTER:
            assert made.stage == Box(0, 0, size.width, size.height)
            continue
        assert not shared(made.ground, made.stage)
        area = sum(box.width * box.height for box in (made.ground, made.stage))
        assert area == size.width * size.height


def test_a_headline_that_is_too_long_is_refused_with_size_text_box_and_rule(fonts):
    copy = Copy("Northpeak", "word " * 40 + "end", "Body.", "Shop now", "$89")
    with pytest.raises(BadInput, match=r"320x50 split, product first: headline 'word .* box of"):
        arrange(copy, Size(320, 50), LayoutKind.SPLIT, Emphasis.PRODUCT, fonts.typeface("en"))


def test_a_text_that_does_not_fit_points_to_its_field_of_the_brief(fonts):
    wordy = "word " * 30 + "end"
    usual = msgspec.structs.asdict(COPIES["usual"])
    for name, pointer in (
        ("brand", "/product/brand"),
        ("headline", "/headline"),
        ("body", "/body"),
        ("call_to_action", "/call_to_action"),
        ("price", "/product/price_micros"),
    ):
        copy = Copy(**{**usual, name: wordy})
        with pytest.raises(BadInput) as caught:
            arrange(copy, Size(300, 250), LayoutKind.SPLIT, Emphasis.PRICE, fonts.typeface("en"))
        assert caught.value.pointer == pointer


def test_right_to_left_words_stand_at_the_right_edge(fonts):
    made = arrange(
        COPIES["right to left"],
        Size(1200, 628),
        LayoutKind.SPLIT,
        Emphasis.PRODUCT,
        fonts.typeface("he"),
    )
    headline = next(text for text in made.texts if text.name == "headline")
    assert all(line.ink.right == headline.box.right for line in headline.lines)
    assert made.button.right == headline.box.right
    brand = next(text for text in made.texts if text.name == "product.brand")
    assert made.mark is not None
    assert made.mark.left > brand.box.right
