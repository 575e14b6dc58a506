import pytest
from hypothesis import given
from hypothesis import strategies as st

from creatives.palette import (
    BLACK,
    CONTRAST_MIN,
    WHITE,
    PaletteKind,
    contrast,
    from_oklch,
    luminance,
    palette_of,
    parse_colour,
    readable,
    to_oklch,
)

colours = st.tuples(*[st.integers(0, 255)] * 3)


def spelled(colour: tuple[int, int, int]) -> str:
    return "#" + bytes(colour).hex()


@given(colour=colours, kind=st.sampled_from(PaletteKind))
def test_every_text_colour_can_be_read_whatever_the_brand_colour(colour, kind):
    palette = palette_of(spelled(colour), kind)
    for surface in (palette.ground, palette.stage):
        for end in (surface.start, surface.end):
            assert contrast(surface.ink, end) >= CONTRAST_MIN
            assert contrast(surface.muted_ink, end) >= CONTRAST_MIN
        assert contrast(surface.on_button, surface.button) >= CONTRAST_MIN


@given(colour=colours)
def test_a_brands_palettes_are_all_different(colour):
    assert len({palette_of(spelled(colour), kind) for kind in PaletteKind}) == len(PaletteKind)


@given(colour=colours)
def test_a_colour_survives_the_way_to_oklch_and_back(colour):
    back = from_oklch(*to_oklch(colour))
    assert max(abs(a - b) for a, b in zip(colour, back, strict=True)) <= 1


def test_contrast_is_that_of_the_standards_examples():
    # WCAG 2.2: black on white is 21; G18's tools give 4.54 for #767676 on white.
    assert contrast(BLACK, WHITE) == pytest.approx(21.0)
    assert contrast(parse_colour("#767676"), WHITE) == pytest.approx(4.54, abs=0.005)
    assert luminance(WHITE) == pytest.approx(1.0)


def test_oklch_of_pure_colours_is_that_of_the_source():
    # CSS Color 4, sample values: red is 0.628 0.258 29.2; blue is 0.452 0.313 264.1.
    assert to_oklch((255, 0, 0)) == pytest.approx((0.628, 0.258, 29.23), abs=0.01)
    assert to_oklch((0, 0, 255)) == pytest.approx((0.452, 0.313, 264.05), abs=0.01)


@given(colour=colours, ground=colours)
def test_a_readable_colour_reaches_the_ratio_on_any_one_ground(colour, ground):
    assert contrast(readable(colour, (ground,)), ground) >= CONTRAST_MIN


def test_a_colour_that_can_be_read_already_is_left_alone():
    assert readable((10, 20, 30), (WHITE,)) == (10, 20, 30)
