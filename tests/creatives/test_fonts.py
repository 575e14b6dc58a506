import importlib.util
from pathlib import Path

import pytest
from PIL import Image

from creatives.fonts import FontBook, FontChain, FontFace
from creatives.typesetting import Weight
from market.errors import BadInput

ARABIC = "\u0645\u0631\u062d\u0628\u0627"
HAN = "\u96e8"


def carried(name: str) -> FontFace:
    """A face among those that Matplotlib carries."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    return FontFace(str(Path(spec.origin).parent / "mpl-data/fonts/ttf" / name))


def book(*faces: FontFace, locale: str = "") -> FontBook:
    return FontBook((FontChain(locale, faces, faces),))


def pixels(typeface, text: str) -> Image.Image:
    canvas = Image.new("RGB", (400, 80))
    typeface.draw(canvas, text, (10, 55), 40, Weight.REGULAR, (255, 255, 255))
    return canvas


def test_a_character_that_no_face_holds_is_refused_by_name(fonts):
    with pytest.raises(BadInput, match=r"U\+96E8 CJK UNIFIED IDEOGRAPH-96E8") as caught:
        fonts.typeface("zh").check("headline", f"Rain {HAN}")
    assert caught.value.pointer == "/headline"


def test_the_built_in_face_alone_holds_no_accents_and_says_so():
    typeface = book(FontFace()).typeface("fr")
    assert typeface.covers("Ete")
    assert not typeface.covers("\u00c9t\u00e9")
    assert not typeface.covers("Ete\u0301")


def test_an_accent_written_apart_counts_as_the_letter_it_makes(fonts):
    assert fonts.typeface("fr").covers("Ete\u0301")


def test_joiners_and_marks_of_direction_need_no_glyph(fonts):
    assert fonts.typeface("en").covers("a\u200db\u200e\ufe0f")


def test_a_text_is_drawn_in_the_first_face_that_holds_all_of_it(fonts):
    mixed = fonts.typeface("fr")
    alone = book(carried("DejaVuSans.ttf")).typeface("fr")
    assert pixels(mixed, "\u00c9t\u00e9").tobytes() == pixels(alone, "\u00c9t\u00e9").tobytes()
    assert pixels(mixed, "Ete").tobytes() != pixels(alone, "Ete").tobytes()


def test_a_text_that_no_face_holds_whole_is_drawn_in_runs_one_after_the_other():
    letters, signs = FontFace(), carried("STIXSizOneSymReg.ttf")
    typeface = book(letters, signs).typeface("en")
    typeface.check("headline", "Sum \u2211 now")
    parts = [
        book(letters).typeface("en").ink("Sum", 40, Weight.REGULAR).width,
        book(signs).typeface("en").ink("\u2211", 40, Weight.REGULAR).width,
        book(letters).typeface("en").ink("now", 40, Weight.REGULAR).width,
    ]
    ink = typeface.ink("Sum \u2211 now", 40, Weight.REGULAR)
    assert ink.width > sum(parts)
    drawn = pixels(typeface, "Sum \u2211 now").getbbox()
    assert drawn is not None
    assert drawn[2] - drawn[0] > sum(parts)


def test_right_to_left_text_that_needs_two_faces_is_refused():
    typeface = book(carried("DejaVuSans.ttf"), carried("STIXNonUni.ttf")).typeface("ar")
    typeface.check("headline", ARABIC)
    with pytest.raises(BadInput, match="right to left and needs several"):
        typeface.check("headline", f"{ARABIC} \ue000")


def test_right_to_left_text_is_shaped_and_direction_is_known(fonts):
    typeface = fonts.typeface("ar")
    typeface.check("headline", ARABIC)
    assert typeface.is_right_to_left(ARABIC)
    assert not typeface.is_right_to_left("abc")
    apart = sum(typeface.ink(one, 40, Weight.REGULAR).width for one in ARABIC)
    assert typeface.ink(ARABIC, 40, Weight.REGULAR).width < apart  # joined forms are narrower


def test_ink_is_where_pixels_are_drawn(fonts):
    typeface = fonts.typeface("en")
    for text in ("Shop now", "jgy", "$89", "\u00c9t\u00e9"):
        ink = typeface.ink(text, 40, Weight.REGULAR).moved(10, 55)
        drawn = pixels(typeface, text).getbbox()
        assert drawn is not None
        assert ink.left <= drawn[0]
        assert ink.top <= drawn[1]
        assert drawn[2] <= ink.right
        assert drawn[3] <= ink.bottom


def test_the_approximate_width_is_near_the_exact_one(fonts):
    typeface = fonts.typeface("en")
    for weight in Weight:
        for size_px in (9, 14, 33, 80):
            text = "Run dry when the rain doesn't stop"
            exact = typeface.ink(text, size_px, weight).width
            assert typeface.width(text, size_px, weight) == pytest.approx(exact, rel=0.02, abs=2)


def test_the_longest_matching_locale_wins(fonts):
    faces = (FontFace(),)
    several = FontBook(tuple(FontChain(locale, faces, faces) for locale in ("", "zh", "zh-Hant")))
    assert several.typeface("zh-Hant-TW") is several.typeface("zh-Hant")
    assert several.typeface("zh-Hans") is several.typeface("zh")
    assert several.typeface("de") is several.typeface("")


def test_a_locale_without_a_chain_is_refused():
    with pytest.raises(BadInput, match="'de' has no font chain"):
        book(FontFace(), locale="en").typeface("de")


def test_a_missing_file_and_a_file_that_is_no_font_are_refused(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        book(FontFace(str(tmp_path / "none.ttf")))
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"not a font")
    with pytest.raises(BadInput, match="not a font file"):
        book(FontFace(str(broken)))


def test_an_empty_or_repeated_chain_is_refused():
    with pytest.raises(BadInput, match="needs at least one"):
        FontBook((FontChain("", (), (FontFace(),)),))
    chain = FontChain("en", (FontFace(),), (FontFace(),))
    with pytest.raises(BadInput, match="given twice"):
        FontBook((chain, chain))
