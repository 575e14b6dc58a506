"""Breaks a text into lines and finds the largest size at which it stays inside its box. Pure.

Whole candidate lines are measured, never sums of their parts, because shaping depends on
neighbours; and fitting goes by ink, not by nominal line height, because accents, descenders and
Arabic reach further than that says. Text that does not fit at a legible size is refused, never cut.

Lines break at spaces, and between characters of scripts written without them (Han, kana, Hangul
wide forms), never before closing or after opening punctuation. Phrase-aware breaking and Thai,
which needs a dictionary, are not done here: such text breaks at its spaces only.
"""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import msgspec

from creatives.brief import pointer_of
from creatives.geometry import Box
from market.errors import BadInput


class Weight(StrEnum):
    """Which chain of faces a text is set in."""

    REGULAR = "regular"
    BOLD = "bold"


class Align(StrEnum):
    """Which edge the lines of a text share."""

    START = "start"
    """Left, or right for text that reads right to left."""
    CENTRE = "centre"


class Measure(Protocol):
    """What typesetting must know about type; :class:`creatives.fonts.Typeface` is one."""

    def width(self, text: str, size_px: int, weight: Weight) -> float:
        """About how wide the ink is, in pixels; cheap, for finding where lines may break."""
        ...

    def ink(self, text: str, size_px: int, weight: Weight) -> Box:
        """The box of the drawn pixels, relative to the pen's start on the base line."""
        ...

    def is_right_to_left(self, text: str) -> bool:
        """Whether the text reads right to left."""
        ...


class TextBlock(msgspec.Struct, frozen=True):
    """A text and the rules it is set by.

    Attributes:
        name: path of the field in the brief, ``product.brand``; for messages.
        text: what it says.
        weight: which faces.
        size_px_max: where fitting starts.
        size_px_min: the smallest legible size; a text that needs a smaller one is refused.
        line_count_max: most lines.
        line_spacing: base line to base line, as a multiple of the size.
        is_balanced: lines of even length rather than full ones.
    """

    name: str
    text: str
    weight: Weight
    size_px_max: int
    size_px_min: int
    line_count_max: int = 1
    line_spacing: float = 1.2
    is_balanced: bool = False


class SetText(msgspec.Struct, frozen=True):
    """A text in lines at a size, before it has a place.

    Attributes:
        block: what was set.
        size_px: the size found.
        lines: the lines.
        inks: the box of each line's pixels, relative to its pen's start.
        leading_px: base line to base line.
    """

    block: TextBlock
    size_px: int
    lines: tuple[str, ...]
    inks: tuple[Box, ...]
    leading_px: int

    @property
    def width(self) -> int:
        """Pixels across the widest line."""
        return max(ink.width for ink in self.inks)

    @property
    def height(self) -> int:
        """Pixels from the top of the first line's ink to the bottom of the last one's."""
        return (len(self.lines) - 1) * self.leading_px + self.inks[-1].bottom - self.inks[0].top


class PlacedLine(msgspec.Struct, frozen=True):
    """One line: where its pen starts on the base line, and the box of its drawn pixels."""

    text: str
    x: int
    baseline: int
    ink: Box


class PlacedText(msgspec.Struct, frozen=True):
    """A text set in lines inside its box."""

    name: str
    box: Box
    size_px: int
    weight: Weight
    lines: tuple[PlacedLine, ...]


def fit(block: TextBlock, width: int, height: int, measure: Measure) -> SetText:
    """Sets a text at the largest size at which every line stays inside ``width`` x ``height``.

    Raises:
        BadInput: it does not fit at ``size_px_min``; the message names text, box and rule.
    """
    low, high = block.size_px_min, max(block.size_px_min, block.size_px_max)
    best = _set_at(block, low, width, measure)
    if best is None or best.height > height:
        msg = (
            f"{block.name} {block.text!r} does not fit a box of {width}x{height} pixels in at most "
            f"{block.line_count_max} line(s) at {low} px, its smallest legible size: shorten it"
        )
        raise BadInput(msg, pointer_of(block.name))
    while low < high:
        middle = (low + high + 1) // 2
        lines = _broken(block, middle, width, measure)
        # The body of a line is over half its size high: most sizes fall out without exact ink.
        least = 0 if lines is None else (len(lines) - 1) * middle * block.line_spacing + middle / 2
        trial = None if lines is None or least > height else _set_at(block, middle, width, measure)
        if trial is not None and trial.height <= height:
            low, best = middle, trial
        else:
            high = middle - 1
    return _balanced(best, width, measure) if block.is_balanced else best


def place(text: SetText, box: Box, align: Align, measure: Measure) -> PlacedText:
    """Puts set text into ``box``, its ink starting at the box's top."""
    is_from_right = align is Align.START and measure.is_right_to_left(text.block.text)
    baseline = box.top - text.inks[0].top
    lines: list[PlacedLine] = []
    for line, ink in zip(text.lines, text.inks, strict=True):
        if align is Align.CENTRE:
            left = box.left + (box.width - ink.width) // 2
        elif is_from_right:
            left = box.right - ink.width
        else:
            left = box.left
        x = left - ink.left
        lines.append(PlacedLine(line, x, baseline, ink.moved(x, baseline)))
        baseline += text.leading_px
    return PlacedText(text.block.name, box, text.size_px, text.block.weight, tuple(lines))


def _set_at(block: TextBlock, size_px: int, width: float, measure: Measure) -> SetText | None:
    """The text in lines at a size, or None where a line is too wide or lines are too many.

    Breaks are found by approximate widths; the ink of the finished lines is exact and decides.
    Where a line turns out a little too wide after all, breaks are sought again with some room to
    spare.
    """
    for spare in (0.0, 0.01, 0.03):
        lines = _broken(block, size_px, width * (1 - spare), measure)
        if lines is None:
            return None
        inks = [measure.ink(line, size_px, block.weight) for line in lines]
        if all(ink.width <= width for ink in inks):
            # Nominal spacing, unless a tall script would touch the line above.
            touching = max((a.bottom - b.top + 1 for a, b in pairwise(inks)), default=0)
            leading = max(round(size_px * block.line_spacing), touching)
            return SetText(block, size_px, lines, tuple(inks), leading)
    return None


def _broken(
    block: TextBlock, size_px: int, width: float, measure: Measure
) -> tuple[str, ...] | None:
    """The fullest lines of about ``width``; None if they are too many or a piece is wider."""
    lines: list[str] = []
    for unit, glue in break_units(block.text):
        longer = f"{lines[-1]}{glue}{unit}" if lines else unit
        if measure.width(longer, size_px, block.weight) <= width:
            lines[-1:] = [longer]
        elif (
            len(lines) == block.line_count_max or measure.width(unit, size_px, block.weight) > width
        ):
            return None
        else:
            lines.append(unit)
    return tuple(lines)


def _balanced(text: SetText, width: int, measure: Measure) -> SetText:
    """The same size and number of lines, in the narrowest width that allows them."""
    count = len(text.lines)
    if count == 1:
        return text
    low, high = width // 2, text.width
    while low < high:
        middle = (low + high) // 2
        lines = _broken(text.block, text.size_px, middle, measure)
        if lines is not None and len(lines) <= count:
            high = middle
        else:
            low = middle + 1
    even = _set_at(text.block, text.size_px, high + 1, measure)
    is_better = even is not None and len(even.lines) == count and even.height <= text.height
    return even if even is not None and is_better else text


@lru_cache(maxsize=1024)
def break_units(text: str) -> tuple[tuple[str, str], ...]:
    """The pieces of a text that stay together, each with the glue before it when lines are joined.

    Glue is " " where the text had a space and "" between wide characters.
    """
    units: list[tuple[str, str]] = []
    for word in text.split(" "):
        if not word:
            continue
        glue, piece = " ", ""
        for character in word:
            if piece and _may_break(piece, character):
                units.append((piece, glue))
                glue, piece = "", ""
            piece += character
        units.append((piece, glue))
    return tuple(units)


def _may_break(piece: str, following: str) -> bool:
    """Whether a line may end after ``piece`` where ``following`` comes next, without a space."""
    before, kind = piece[-1], unicodedata.category(following)
    if kind in {"Pe", "Pf", "Po", "Mn", "Mc", "Me", "Cf", "Lm", "Zs"}:
        return False  # closing punctuation, marks and lengthened sounds stay with what they follow
    if unicodedata.category(before) in {"Ps", "Pi", "Cf", "Zs"}:
        return False
    return _is_wide(before) or _is_wide(following)


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in {"W", "F"}
