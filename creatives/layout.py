"""Where the product, the words and the button of an advertisement go, for a size. Pure.

The canvas is divided into a stage (the product, with its price) and a column (the words); each text
is fitted into its share of the column; the column is then stacked with even gaps. Three families of
sizes are divided in their own way: strips (under 120 px high), wide sizes and tall sizes.

No two layers of an arrangement share a pixel, and all ink lies inside its box; that is checked for
every arrangement before it leaves this module.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from creatives.geometry import Box, Size
from creatives.typesetting import Align, Measure, PlacedText, SetText, TextBlock, Weight, fit, place
from market.errors import BadInput

STRIP_HEIGHT_PX = 120
"""Sizes lower than this are strips: one row of product, words and button."""

SMALL_STRIP_HEIGHT_PX = 60
"""Strips lower than this have no room for a body."""

LEGIBLE_PX = 11
"""Smallest size of running text, in pixels; strips and brand lines go down to 8."""


class LayoutKind(StrEnum):
    """How stage and words share the canvas; an attribute that learning sees."""

    SPLIT = "split"
    """Stage first: left in wide sizes, on top in tall ones."""
    FLIPPED = "flipped"
    """Words first."""
    POSTER = "poster"
    """The stage fills the canvas; the words stand beside the product, or above and beneath it."""


class Emphasis(StrEnum):
    """What is made large; an attribute that learning sees."""

    PRODUCT = "product"
    MESSAGE = "message"
    PRICE = "price"


class Copy(msgspec.Struct, frozen=True):
    """The words of one creative, as drawn. ``price`` is "" where none is shown."""

    brand: str
    headline: str
    body: str
    call_to_action: str
    price: str


class Arrangement(msgspec.Struct, frozen=True):
    """Everything that has a place in one creative.

    Attributes:
        size: the canvas.
        stage: where the product's ground is painted; the whole canvas in a poster.
        is_poster: whether the words stand on the stage's colours.
        subject: where the product is drawn.
        mark: the brand's mark, a square; None where there is no room for one.
        button: the pill under the call to action.
        tag: the pill under the price; None where no price is shown.
        texts: every text with its lines.
    """

    size: Size
    stage: Box
    is_poster: bool
    subject: Box
    mark: Box | None
    button: Box
    tag: Box | None
    texts: tuple[PlacedText, ...]

    @property
    def ground(self) -> Box:
        """What the stage leaves of the canvas; the stage always takes one side whole."""
        width, height = self.size.width, self.size.height
        return Box(
            self.stage.right if self.stage.left == 0 and self.stage.right < width else 0,
            self.stage.bottom if self.stage.top == 0 and self.stage.bottom < height else 0,
            self.stage.left if self.stage.left > 0 else width,
            self.stage.top if self.stage.top > 0 else height,
        )

    def layers(self) -> tuple[Box, ...]:
        """The boxes that must not share a pixel: product, mark, pills, text outside the pills."""
        pills = tuple(box for box in (self.button, self.tag) if box is not None)
        marks = () if self.mark is None else (self.mark,)
        loose = tuple(
            text.box
            for text in self.texts
            if text.name not in {"call_to_action", "product.price_micros"}
        )
        return (self.subject, *marks, *pills, *loose)


class _Division(msgspec.Struct, frozen=True):
    """A canvas divided, before any text is measured.

    ``unit`` is the size of running text in pixels, from which every other measure follows.
    ``upper`` holds the brand and headline, ``lower`` the body and button; they are one box in split
    layouts.
    """

    stage: Box
    subject: Box
    tag: Box | None
    upper: Box
    lower: Box | None
    unit: float
    align: Align


def arrange(
    copy: Copy, size: Size, kind: LayoutKind, emphasis: Emphasis, measure: Measure
) -> Arrangement:
    """Places the words of a creative in a size.

    Args:
        copy: what is said.
        size: the canvas.
        kind: how stage and words share it.
        emphasis: what is made large.
        measure: the type it is set in.

    Raises:
        BadInput: a text does not fit its box at a legible size; the message names text, box and
        rule.
    """
    try:
        if size.height < STRIP_HEIGHT_PX:
            arrangement = _strip(copy, size, kind, emphasis, measure)
        else:
            arrangement = _sheet(copy, size, kind, emphasis, measure)
    except BadInput as error:
        msg = f"{size} {kind}, {emphasis} first: {error}"
        raise BadInput(msg, error.pointer) from error
    flaws = flaws_of(arrangement)
    assert not flaws, flaws
    return arrangement


def flaws_of(arrangement: Arrangement) -> tuple[str, ...]:
    """Every way in which an arrangement breaks its promises; none for a sound one."""
    canvas = Box(0, 0, arrangement.size.width, arrangement.size.height)
    flaws = [
        f"{name} {box} leaves the canvas"
        for name, box in (("stage", arrangement.stage), *enumerate(arrangement.layers()))
        if not canvas.contains(box)
    ]
    layers = arrangement.layers()
    flaws += [
        f"layers {first} and {second} overlap"
        for index, first in enumerate(layers)
        for second in layers[index + 1 :]
        if first.overlaps(second)
    ]
    for text in arrangement.texts:
        flaws += [
            f"{text.name}: ink {line.ink} of {line.text!r} leaves its box {text.box}"
            for line in text.lines
            if not text.box.contains(line.ink)
        ]
        holder = {
            "call_to_action": arrangement.button,
            "product.price_micros": arrangement.tag,
        }.get(text.name)
        if holder is not None and not holder.contains(text.box):
            flaws.append(f"{text.name}: box {text.box} leaves its pill {holder}")
    return tuple(flaws)


def _sheet(
    copy: Copy, size: Size, kind: LayoutKind, emphasis: Emphasis, measure: Measure
) -> Arrangement:
    """Wide and tall sizes."""
    if size.width >= 1.05 * size.height:
        division = _wide(size, kind, emphasis, has_price=bool(copy.price))
    else:
        division = _tall(size, kind, emphasis, has_price=bool(copy.price))
    texts: list[PlacedText] = []
    tag = None
    if division.tag is not None:
        scale = 1.9 if emphasis is Emphasis.PRICE else 1.3
        tag, price = _pill(
            "product.price_micros", copy.price, division.tag, division.unit * scale, measure
        )
        texts.append(price)
    upper, lower = division.upper, division.lower
    scale = {Emphasis.PRODUCT: 2.5, Emphasis.MESSAGE: 3.0, Emphasis.PRICE: 2.2}[emphasis]
    unit = division.unit
    gap = round(0.85 * unit)
    column = _Column(upper, unit, division.align, measure, gap)
    column.reserve_brand(copy.brand)
    if lower is None:
        column.reserve_button(copy.call_to_action)
        column.reserve_body(copy.body, share=0.5)
        column.reserve_headline(copy.headline, scale)
        return _arrangement(size, kind, division, column.stack(), tag, texts)
    column.reserve_headline(copy.headline, scale)
    rest = _Column(lower, unit, division.align, measure, gap)
    rest.reserve_button(copy.call_to_action)
    rest.reserve_body(copy.body, share=1.0)
    first, second = column.stack(), rest.stack()
    stacked = _Stacked(
        (*first.texts, *second.texts), first.mark or second.mark, second.button or first.button
    )
    return _arrangement(size, kind, division, stacked, tag, texts)


def _wide(size: Size, kind: LayoutKind, emphasis: Emphasis, *, has_price: bool) -> _Division:
    """Stage and column side by side."""
    width, height = size.width, size.height
    margin = max(10, round(0.06 * height))
    share = {Emphasis.PRODUCT: 0.54, Emphasis.MESSAGE: 0.38, Emphasis.PRICE: 0.47}[emphasis]
    if width < 400:  # narrow: words need their share first
        share -= 0.08 if emphasis is Emphasis.PRODUCT else 0.04
    stage_width = round(share * width)
    if kind is LayoutKind.SPLIT:
        side, column = Box(0, 0, stage_width, height), Box(stage_width, 0, width, height)
    else:
        side, column = (
            Box(width - stage_width, 0, width, height),
            Box(0, 0, width - stage_width, height),
        )
    column = column.inset(margin, margin)
    unit = _unit(column.width, column.height)
    subject, tag = _staged(side, margin, unit, emphasis, has_price=has_price)
    stage = Box(0, 0, width, height) if kind is LayoutKind.POSTER else side
    return _Division(stage, subject, tag, column, None, unit, Align.START)


def _tall(size: Size, kind: LayoutKind, emphasis: Emphasis, *, has_price: bool) -> _Division:
    """Stage and column one above the other; a poster has words on both sides of the product."""
    width, height = size.width, size.height
    margin = max(10, round(0.06 * width))
    share = {Emphasis.PRODUCT: 0.53, Emphasis.MESSAGE: 0.38, Emphasis.PRICE: 0.46}[emphasis]
    margins = 2
    if kind is LayoutKind.POSTER:
        share *= 0.84
        margins = 4
    # A product is about as high as wide: a stage much taller than that is empty.
    stage_height = min(round(share * height), round(1.35 * width))
    words = height - stage_height
    unit = _unit(width - 2 * margin, words - margins * margin)
    if kind is LayoutKind.POSTER:
        top = round(0.48 * words)
        bottom = top + stage_height
        upper = Box(0, 0, width, top).inset(margin, margin)
        lower = Box(0, bottom, width, height).inset(margin, margin)
        middle = Box(0, top - margin, width, bottom + margin)
        subject, tag = _staged(middle, margin, unit, emphasis, has_price=has_price)
        return _Division(Box(0, 0, width, height), subject, tag, upper, lower, unit, Align.CENTRE)
    if kind is LayoutKind.SPLIT:
        stage, column = Box(0, 0, width, stage_height), Box(0, stage_height, width, height)
    else:
        stage, column = Box(0, words, width, height), Box(0, 0, width, words)
    column = column.inset(margin, margin)
    subject, tag = _staged(stage, margin, unit, emphasis, has_price=has_price)
    return _Division(stage, subject, tag, column, None, unit, Align.CENTRE)


def _staged(
    stage: Box, margin: int, unit: float, emphasis: Emphasis, *, has_price: bool
) -> tuple[Box, Box | None]:
    """The product's box, and beneath it the one its price tag may use, which is a little wider."""
    subject = stage.inset(margin, margin)
    if not has_price:
        return subject, None
    tag_height = round(unit * (3.6 if emphasis is Emphasis.PRICE else 2.5))
    top = subject.bottom - tag_height
    near = margin // 3
    return (
        Box(subject.left, subject.top, subject.right, top - round(0.6 * unit)),
        Box(stage.left + near, top, stage.right - near, subject.bottom),
    )


def _unit(width: int, height: int) -> float:
    """The size of running text for a column: 17 of it across, 13 down, and never illegible.

    Narrow columns take 11 across, up to 13 pixels: their height would stay empty otherwise.
    """
    return max(float(LEGIBLE_PX), min(max(width / 17, min(width / 11, 13.0)), height / 13))


def _strip(
    copy: Copy, size: Size, kind: LayoutKind, emphasis: Emphasis, measure: Measure
) -> Arrangement:
    """Product, words, price and button in one row."""
    width, height = size.width, size.height
    is_small = height < SMALL_STRIP_HEIGHT_PX
    margin = round((0.1 if is_small else 0.14) * height)
    unit = max(9.0, height / 6.4)
    share = {Emphasis.PRODUCT: 1.9, Emphasis.MESSAGE: 1.4, Emphasis.PRICE: 1.5}[emphasis]
    stage_width = min(round(share * height), round(0.3 * width))
    is_first = kind is not LayoutKind.FLIPPED
    stage = Box(0, 0, stage_width, height)
    row = Box(stage_width, 0, width, height)
    if not is_first:
        stage, row = stage.moved(width - stage_width, 0), row.moved(-stage_width, 0)
    row = row.inset(margin, margin)
    texts: list[PlacedText] = []

    pill_height = min(row.height, round(2.5 * unit))
    top = (height - pill_height) // 2
    area = Box(row.right - round(0.32 * width), top, row.right, top + pill_height)
    button, label = _pill("call_to_action", copy.call_to_action, area, unit * 1.1, measure, 8)
    button, label = _shifted(button, label, area.right - button.right)
    texts.append(label)
    right = button.left - margin
    tag = None
    if copy.price and (emphasis is Emphasis.PRICE or width >= 600):
        scale = 1.6 if emphasis is Emphasis.PRICE else 1.2
        area = Box(right - round(0.22 * width), top, right, top + pill_height)
        tag, price = _pill("product.price_micros", copy.price, area, unit * scale, measure, 8)
        tag, price = _shifted(tag, price, area.right - tag.right)
        texts.append(price)
        right = tag.left - margin
    column = _Column(
        Box(row.left, row.top, right, row.bottom), unit, Align.START, measure, 3, legible_px=8
    )
    column.reserve_brand(copy.brand, has_mark=not is_small)
    if not is_small:
        column.reserve_body(copy.body, share=0.5)
    column.reserve_headline(copy.headline, 2.0 if emphasis is Emphasis.MESSAGE else 1.6)
    inset = max(2, margin // 2)
    division = _Division(
        stage=Box(0, 0, width, height) if kind is LayoutKind.POSTER else stage,
        subject=stage.inset(inset, inset),
        tag=tag,
        upper=row,
        lower=None,
        unit=unit,
        align=Align.START,
    )
    stacked = column.stack()
    return _arrangement(
        size, kind, division, _Stacked(stacked.texts, stacked.mark, button), tag, texts
    )


class _Stacked(msgspec.Struct, frozen=True):
    """A column with everything in its place; ``button`` is None where it stands elsewhere."""

    texts: tuple[PlacedText, ...]
    mark: Box | None
    button: Box | None


def _arrangement(
    size: Size,
    kind: LayoutKind,
    division: _Division,
    stacked: _Stacked,
    tag: Box | None,
    texts: list[PlacedText],
) -> Arrangement:
    assert stacked.button is not None
    return Arrangement(
        size=size,
        stage=division.stage,
        is_poster=kind is LayoutKind.POSTER,
        subject=division.subject,
        mark=stacked.mark,
        button=stacked.button,
        tag=tag,
        texts=(*texts, *stacked.texts),
    )


class _Column:
    """Collects the rows of a column, each taking its height from what is left; then stacks them.

    Rows are reserved in order of claim (brand and button are fixed, the body takes a share, the
    headline the rest) and stacked in order of reading.
    """

    def __init__(
        self,
        box: Box,
        unit: float,
        align: Align,
        measure: Measure,
        gap_px: int,
        legible_px: int = LEGIBLE_PX,
    ) -> None:
        self._box = box
        self._unit = unit
        self._align = align
        self._measure = measure
        self._legible_px = legible_px
        self._left_px = box.height
        self._gap_px = gap_px
        self._brand: SetText | None = None
        self._mark_px = 0
        self._headline: SetText | None = None
        self._body: SetText | None = None
        self._button: SetText | None = None
        self._pill_px = 0

    def reserve_brand(self, brand: str, *, has_mark: bool = True) -> None:
        """One line, with a square mark before it."""
        self._mark_px = round(1.5 * self._unit) if has_mark else 0
        block = TextBlock(
            "product.brand",
            brand,
            Weight.BOLD,
            size_px_max=round(self._unit),
            size_px_min=min(8, round(self._unit)),
        )
        room = self._box.width - self._mark_room_px
        height = max(self._mark_px, round(1.2 * self._unit))
        self._brand = fit(block, room, height, self._measure)
        self._claim(max(self._mark_px, self._brand.height))

    def reserve_button(self, call_to_action: str) -> None:
        """One line in a pill."""
        size = 1.05 * self._unit
        self._pill_px = round(2.4 * size)
        block = _label("call_to_action", call_to_action, size, min(self._legible_px, 10))
        self._button = _fit_label(block, self._box.width, self._pill_px, self._measure)
        self._claim(self._pill_px + self._gap_px // 2)

    def reserve_body(self, body: str, share: float) -> None:
        """Several lines, in at most ``share`` of the height that is left."""
        block = TextBlock(
            "body",
            body,
            Weight.REGULAR,
            size_px_max=round(self._unit),
            size_px_min=min(self._legible_px, round(self._unit)),
            line_count_max=7,
            line_spacing=1.32,
            is_balanced=True,
        )
        height = int(share * (self._left_px - self._gap_px))
        self._body = fit(block, self._box.width, height, self._measure)
        self._claim(self._body.height)

    def reserve_headline(self, headline: str, scale: float) -> None:
        """Several even lines, in the height that is left."""
        block = TextBlock(
            "headline",
            headline,
            Weight.BOLD,
            size_px_max=round(scale * self._unit),
            size_px_min=max(self._legible_px, round(1.1 * self._unit)),
            line_count_max=5,
            line_spacing=1.16,
            is_balanced=True,
        )
        self._headline = fit(block, self._box.width, self._left_px, self._measure)
        self._claim(self._headline.height)

    def stack(self) -> _Stacked:
        """Puts the rows one beneath the other, the spare height shared out around them."""
        rows = [row for row in (self._brand, self._headline, self._body, self._button) if row]
        heights = [self._height(row) for row in rows]
        spare = self._box.height - sum(heights)
        gap = min(spare // max(1, len(rows) - 1), round(1.7 * self._gap_px)) if rows[1:] else 0
        y = self._box.top + (spare - gap * (len(rows) - 1)) // 2
        texts: list[PlacedText] = []
        mark: Box | None = None
        button: Box | None = None
        for row, height in zip(rows, heights, strict=True):
            area = Box(self._box.left, y, self._box.right, y + height)
            if row is self._brand:
                mark, text = self._place_brand(row, area)
            elif row is self._button:
                button, text = _pill_around(row, area, self._align, self._measure)
            else:
                text = place(row, area, self._align, self._measure)
            texts.append(text)
            y += height + gap
        return _Stacked(tuple(texts), mark, button)

    @property
    def _mark_room_px(self) -> int:
        return self._mark_px + round(0.5 * self._unit) if self._mark_px else 0

    def _claim(self, height: int) -> None:
        self._left_px -= height + self._gap_px

    def _height(self, row: SetText) -> int:
        if row is self._brand:
            return max(self._mark_px, row.height)
        return self._pill_px if row is self._button else row.height

    def _place_brand(self, row: SetText, area: Box) -> tuple[Box | None, PlacedText]:
        """Mark and name side by side, as one group."""
        group = self._mark_room_px + row.width
        is_from_right = self._measure.is_right_to_left(row.block.text)
        if self._align is Align.CENTRE:
            left = area.left + (area.width - group) // 2
        else:
            left = area.right - group if is_from_right else area.left
        top = area.top + (area.height - row.height) // 2
        name_left = left if is_from_right else left + self._mark_room_px
        box = Box(name_left, top, name_left + row.width, top + row.height)
        text = place(row, box, Align.CENTRE, self._measure)
        if not self._mark_px:
            return None, text
        mark_left = left + group - self._mark_px if is_from_right else left
        return Box(mark_left, area.top, mark_left + self._mark_px, area.top + self._mark_px), text


_PILL_PAD = 1.0
"""Space between a pill's end and its label, as a multiple of the label's size."""

_PILL_PAD_MIN = 0.45
"""The same where a label would not fit otherwise."""


def _label(name: str, text: str, size: float, legible_px: int) -> TextBlock:
    return TextBlock(name, text, Weight.BOLD, round(size), min(round(size), legible_px))


def _pill(
    name: str, text: str, area: Box, size: float, measure: Measure, legible_px: int = 10
) -> tuple[Box, PlacedText]:
    """A label of about ``size`` pixels in a pill in the middle of ``area``."""
    size = min(size, area.height / 1.7)
    label = _fit_label(_label(name, text, size, legible_px), area.width, area.height, measure)
    return _pill_around(label, area, Align.CENTRE, measure)


def _fit_label(block: TextBlock, width: int, height: int, measure: Measure) -> SetText:
    """A label for a pill of at most ``width`` x ``height``, the space at its ends included."""
    room = width - 2 * round(_PILL_PAD * block.size_px_max)
    try:
        return fit(block, room, height - 4, measure)
    except BadInput:
        narrow = msgspec.structs.replace(block, size_px_max=block.size_px_min)
        room = width - 2 * round(_PILL_PAD_MIN * block.size_px_min)
        return fit(narrow, room, height - 4, measure)


def _pill_around(
    label: SetText, area: Box, align: Align, measure: Measure
) -> tuple[Box, PlacedText]:
    """The pill of a label: as high as ``area``, as wide as the label asks."""
    width = min(area.width, label.width + 2 * round(_PILL_PAD * label.size_px))
    if align is Align.CENTRE:
        left = area.left + (area.width - width) // 2
    elif measure.is_right_to_left(label.block.text):
        left = area.right - width
    else:
        left = area.left
    pill = Box(left, area.top, left + width, area.bottom)
    top = pill.top + (pill.height - label.height) // 2
    box = Box(pill.left, top, pill.right, top + label.height)
    return pill, place(label, box, Align.CENTRE, measure)


def _shifted(pill: Box, text: PlacedText, x: int) -> tuple[Box, PlacedText]:
    """Pill and label moved right by ``x`` pixels."""
    lines = tuple(
        msgspec.structs.replace(line, x=line.x + x, ink=line.ink.moved(x, 0)) for line in text.lines
    )
    return pill.moved(x, 0), msgspec.structs.replace(text, box=text.box.moved(x, 0), lines=lines)
