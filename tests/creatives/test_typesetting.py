import pytest
from hypothesis import given
from hypothesis import strategies as st

from creatives.geometry import Box
from creatives.typesetting import Align, TextBlock, Weight, break_units, fit, place
from market.errors import BadInput


class Typewriter:
    """Every character is 0.6 of the size wide and 0.7 high; wide ones are 1.0 wide."""

    def width(self, text: str, size_px: int, weight: Weight) -> float:
        return sum(1.0 if ord(one) > 0x2E80 else 0.6 for one in text) * size_px

    def ink(self, text: str, size_px: int, weight: Weight) -> Box:
        return Box(0, -round(0.7 * size_px), round(self.width(text, size_px, weight)), 2)

    def is_right_to_left(self, text: str) -> bool:
        return text.startswith("\u05d0")


def block(text: str, largest: int = 40, lines: int = 4, **more) -> TextBlock:
    return TextBlock("headline", text, Weight.BOLD, largest, 10, lines, **more)


words = st.lists(st.text("abc", min_size=1, max_size=8), min_size=1, max_size=12).map(" ".join)


@given(text=words, width=st.integers(60, 400), height=st.integers(10, 200))
def test_what_fits_keeps_every_word_and_stays_inside(text, width, height):
    try:
        found = fit(block(text), width, height, Typewriter())
    except BadInput:
        return
    assert " ".join(found.lines) == text
    assert found.width <= width
    assert found.height <= height
    assert len(found.lines) <= 4


@given(text=words, width=st.integers(60, 400), height=st.integers(20, 200))
def test_no_larger_size_would_fit(text, width, height):
    try:
        found = fit(block(text), width, height, Typewriter())
    except BadInput:
        return
    if found.size_px < 40:
        larger = TextBlock("headline", text, Weight.BOLD, 40, found.size_px + 1, 4)
        with pytest.raises(BadInput):
            fit(larger, width, height, Typewriter())


def test_a_text_that_cannot_be_set_names_itself_its_box_and_the_rule():
    with pytest.raises(BadInput) as caught:
        fit(block("incomprehensibilities"), 100, 50, Typewriter())
    assert "headline 'incomprehensibilities'" in str(caught.value)
    assert "100x50 pixels" in str(caught.value)
    assert "10 px, its smallest legible size" in str(caught.value)
    assert caught.value.pointer == "/headline"


def test_more_lines_than_allowed_are_refused():
    with pytest.raises(BadInput, match=r"at most 1 line"):
        fit(block("a long line of words", lines=1), 60, 500, Typewriter())


def test_balanced_lines_are_no_more_but_more_even():
    text = "one two three four five six"
    plain = fit(block(text, largest=20), 250, 200, Typewriter())
    even = fit(block(text, largest=20, is_balanced=True), 250, 200, Typewriter())
    assert len(even.lines) == len(plain.lines)
    assert even.size_px == plain.size_px
    assert even.width < plain.width


def test_text_without_spaces_breaks_between_characters_but_not_before_closing_marks():
    units = [unit for unit, _ in break_units("\u96e8\u5929\u3002\u8dd1\u300c\u978b\u300d")]
    assert units == ["\u96e8", "\u5929\u3002", "\u8dd1", "\u300c\u978b\u300d"]


def test_latin_words_inside_wide_text_stay_whole():
    units = [unit for unit, _ in break_units("\u8dd1Runner\u978b")]
    assert units == ["\u8dd1", "Runner", "\u978b"]


def test_a_combining_mark_stays_with_its_letter():
    assert break_units("\u30ab\u3099\u30ad") == (("\u30ab\u3099", " "), ("\u30ad", ""))


def test_joined_units_give_the_text_back():
    text = "Run \u96e8\u5929 now, \u96e8"
    joined = "".join(glue + unit for unit, glue in break_units(text))
    assert joined.strip() == text


def test_lines_start_at_the_reading_edge():
    box = Box(10, 10, 310, 110)
    measure = Typewriter()
    left = place(fit(block("abc"), 300, 100, measure), box, Align.START, measure)
    right = place(fit(block("\u05d0bc"), 300, 100, measure), box, Align.START, measure)
    middle = place(fit(block("abc"), 300, 100, measure), box, Align.CENTRE, measure)
    assert left.lines[0].ink.left == 10
    assert right.lines[0].ink.right == 310
    assert abs((middle.lines[0].ink.left - 10) - (310 - middle.lines[0].ink.right)) <= 1
    assert {text.lines[0].ink.top for text in (left, right, middle)} == {10}
