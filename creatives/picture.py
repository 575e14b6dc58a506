"""Paints the product's side of a creative: ground, glow, shadow and silhouette, and every pill.

Shapes are drawn as masks at three times their size and reduced, because Pillow's own shapes are not
antialiased; each mask is no larger than its shape. Nothing is random, and nothing is read from
files.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from creatives.geometry import Box
from creatives.palette import BLACK, WHITE, Palette, Rgb, luminance, mix
from creatives.silhouettes import SILHOUETTES, Shape, Tone

if TYPE_CHECKING:
    from creatives.brief import Category

_OVERSAMPLING = 3
"""Mask pixels per pixel and axis: nine levels of coverage, which the eye takes as smooth."""

_CURVE_STEPS = 20
"""Straight pieces of one Bezier curve; at 1000 pixels a piece is off the curve by under a pixel."""

_SHADOW_ROOM = 1.1
"""Height of product and shadow together, as a multiple of the product's."""

Points = npt.NDArray[np.float64]
"""An outline, [P, 2]: x and y."""


class _Tones(msgspec.Struct, frozen=True):
    """What a silhouette is painted with: each tone from its upper to its lower edge."""

    base: tuple[Rgb, Rgb]
    light: tuple[Rgb, Rgb]
    dark: tuple[Rgb, Rgb]
    trim: tuple[Rgb, Rgb]
    paper: tuple[Rgb, Rgb]
    ink: tuple[Rgb, Rgb]

    def of(self, tone: Tone) -> tuple[Rgb, Rgb]:
        match tone:
            case Tone.BASE:
                return self.base
            case Tone.LIGHT:
                return self.light
            case Tone.DARK:
                return self.dark
            case Tone.TRIM:
                return self.trim
            case Tone.PAPER:
                return self.paper
            case Tone.INK:
                return self.ink


def paint_gradient(canvas: Image.Image, box: Box, start: Rgb, end: Rgb) -> None:
    """Fills ``box`` from ``start`` at its upper left to ``end`` at its lower right corner."""
    canvas.paste(_gradient(box.width, box.height, start, end), (box.left, box.top))


def paint_product(
    canvas: Image.Image, stage: Box, subject: Box, category: Category, palette: Palette
) -> None:
    """Paints glow, shadow and product; the glow stays in ``stage``, all else in ``subject``."""
    _paint_glow(canvas, stage, subject, palette)
    picture = product_picture(subject.width, subject.height, category, palette)
    canvas.paste(picture, (subject.left, subject.top), picture)


def _gradient(width: int, height: int, start: Rgb, end: Rgb) -> Image.Image:
    # The colour depends on x + y only, so each row is the one above it, moved left by a pixel.
    share = np.linspace(0, 1, width + height - 1)[:, None]
    first, last = np.array(start, dtype=np.float64), np.array(end, dtype=np.float64)
    colours = np.rint(first + (last - first) * share).astype(np.uint8).tobytes()
    rows = b"".join(colours[3 * y : 3 * (y + width)] for y in range(height))
    return Image.frombytes("RGB", (width, height), rows)


def paint_pill(canvas: Image.Image, box: Box, colour: Rgb, radius: float | None = None) -> None:
    """Fills ``box`` with rounded corners; with round ends where no radius is given."""
    radius = box.height / 2 if radius is None else radius
    points = _rounded(0.0, 0.0, float(box.width), float(box.height), radius)
    mask = _mask(points, box.width, box.height, stroke=0.0)
    canvas.paste(colour, (box.left, box.top), mask)


@lru_cache(maxsize=64)
def product_picture(width: int, height: int, category: Category, palette: Palette) -> Image.Image:
    """The product on nothing, RGBA, as large as ``width`` x ``height`` allow.

    Cached, because the creatives of one brief share it; callers must not draw on it.
    """
    picture = Image.new("RGBA", (width, height))
    outlines = [(shape, _outline(shape)) for shape in SILHOUETTES[category]]
    points = np.concatenate([outline for _, outline in outlines])
    slack = max(shape.stroke for shape, _ in outlines) / 2
    low = points.min(axis=0) - slack
    across, down = (float(side) for side in points.max(axis=0) + slack - low)
    # A little air around it all, a pixel at least.
    scale = 0.98 * min((width - 2) / across, (height - 2) / (down * _SHADOW_ROOM))
    left = (width - scale * across) / 2
    top = (height - scale * down * _SHADOW_ROOM) / 2
    origin = np.array([left, top]) - scale * low
    _paint_shadow(picture, left, top + scale * down, scale * across)
    tones = _tones(palette)
    for shape, outline in outlines:
        _paint_shape(picture, shape, outline * scale + origin, shape.stroke * scale, tones)
    return picture


def _paint_shape(
    picture: Image.Image, shape: Shape, points: Points, stroke: float, tones: _Tones
) -> None:
    margin = stroke / 2 + 1
    lows, highs = points.min(axis=0) - margin, points.max(axis=0) + margin
    left, top = (max(0, math.floor(edge)) for edge in lows)
    right = min(picture.width, math.ceil(highs[0]))
    bottom = min(picture.height, math.ceil(highs[1]))
    width, height = right - left, bottom - top
    mask = _mask(points - np.array([left, top]), width, height, stroke)
    if shape.opacity < 1.0:
        mask = mask.point([round(level * shape.opacity) for level in range(256)])
    layer = _gradient(width, height, *tones.of(shape.tone))
    layer.putalpha(mask)
    picture.alpha_composite(layer, (left, top))


def _mask(points: Points, width: int, height: int, stroke: float) -> Image.Image:
    """Coverage of an outline, 0..255, in a picture of ``width`` x ``height``."""
    large = Image.new("L", (width * _OVERSAMPLING, height * _OVERSAMPLING))
    draw = ImageDraw.Draw(large)
    corners = [(float(x), float(y)) for x, y in points * _OVERSAMPLING]
    if stroke:
        line = max(1, round(stroke * _OVERSAMPLING))
        draw.line(corners, fill=255, width=line, joint="curve")
        for x, y in (corners[0], corners[-1]):
            draw.ellipse((x - line / 2, y - line / 2, x + line / 2, y + line / 2), fill=255)
    else:
        draw.polygon(corners, fill=255)
    return large.reduce(_OVERSAMPLING)


def _paint_glow(canvas: Image.Image, stage: Box, subject: Box, palette: Palette) -> None:
    """Two discs of light behind the product; faint, so that words beside them stay clear."""
    is_dark = luminance(palette.stage.end) < 0.4
    light = mix(palette.stage.start, WHITE, 0.5 if is_dark else 0.8)
    radius = 0.56 * min(subject.width, subject.height)
    x, y = (subject.left + subject.right) / 2, (subject.top + subject.bottom) / 2
    for share, strength in ((1.0, 0.30 if is_dark else 0.55), (0.72, 0.34 if is_dark else 0.6)):
        reach = radius * share
        mask = _disc(math.ceil(reach), round(255 * strength))
        left, top = round(x) - mask.width // 2, round(y) - mask.height // 2
        area = Box(left, top, left + mask.width, top + mask.height).clipped(stage)
        if area.width > 0 and area.height > 0:
            seen = area.moved(-left, -top)
            mask = mask.crop((seen.left, seen.top, seen.right, seen.bottom))
            canvas.paste(light, (area.left, area.top), mask)


@lru_cache(maxsize=64)
def _disc(radius: int, level: int) -> Image.Image:
    """A disc of ``level`` (0..255) as a mask; cached, because the creatives of a brief share it."""
    side = 2 * radius + 2
    mask = _mask(_ellipse(radius + 1.0, radius + 1.0, radius, radius), side, side, 0.0)
    return mask.point([round(coverage * level / 255) for coverage in range(256)])


def _paint_shadow(picture: Image.Image, left: float, floor: float, width: float) -> None:
    """A blurred ellipse on which the product stands."""
    coarse = max(1, picture.width // 160)
    size = (max(1, picture.width // coarse), max(1, picture.height // coarse))
    shadow = Image.new("L", size)
    depth = 0.022 * width
    box = (
        (left + 0.06 * width) / coarse,
        (floor - depth) / coarse,
        (left + 0.94 * width) / coarse,
        (floor + depth) / coarse,
    )
    ImageDraw.Draw(shadow).ellipse(box, fill=120)
    shadow = shadow.filter(ImageFilter.GaussianBlur(max(0.6, 0.022 * width / coarse)))
    picture.putalpha(shadow.resize(picture.size, Image.Resampling.BICUBIC))


def _tones(palette: Palette) -> _Tones:
    base, trim = palette.product, palette.trim
    deep = mix(palette.product, BLACK, 0.5)
    return _Tones(
        base=(mix(base, WHITE, 0.14), mix(base, BLACK, 0.16)),
        light=(mix(base, WHITE, 0.62), mix(base, WHITE, 0.36)),
        dark=(mix(base, BLACK, 0.26), mix(base, BLACK, 0.46)),
        trim=(mix(trim, WHITE, 0.12), mix(trim, BLACK, 0.1)),
        paper=(WHITE, mix(WHITE, base, 0.1)),
        ink=(mix(deep, (28, 30, 38), 0.75), mix(deep, (14, 15, 20), 0.85)),
    )


def _outline(shape: Shape) -> Points:
    """The shape as points in the 100 by 100 square."""
    kind, _, rest = shape.path.partition(" ")
    if kind == "ellipse":
        points = _ellipse(*(float(part) for part in rest.split()))
    elif kind == "rect":
        points = _rounded(*(float(part) for part in rest.split()))
    else:
        points = _path(shape.path)
    if shape.turn:
        angle = math.radians(shape.turn)
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        pivot = np.array(shape.pivot)
        points = (points - pivot) @ turn + pivot
    return points


def _path(text: str) -> Points:
    """The points of an SVG path of M, L, C and Z commands with absolute coordinates."""
    parts = text.split()
    points: list[Points] = []
    index = 0
    while index < len(parts):
        command = parts[index]
        index += 1
        if command == "Z":
            continue
        count = {"M": 2, "L": 2, "C": 6}[command]
        numbers = np.array([float(part) for part in parts[index : index + count]]).reshape(-1, 2)
        index += count
        if command == "C":
            share = np.linspace(0, 1, _CURVE_STEPS + 1)[1:, None]
            nodes = (points[-1][-1], *numbers)
            weights = ((1 - share) ** 3, 3 * share * (1 - share) ** 2, 3 * share**2 * (1 - share))
            numbers = (
                weights[0] * nodes[0]
                + weights[1] * nodes[1]
                + weights[2] * nodes[2]
                + share**3 * nodes[3]
            )
        points.append(numbers)
    return np.concatenate(points)


def _ellipse(x: float, y: float, across: float, down: float) -> Points:
    angle = np.linspace(0, 2 * math.pi, 4 * _CURVE_STEPS, endpoint=False)
    return np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], axis=1)


def _rounded(left: float, top: float, width: float, height: float, radius: float) -> Points:
    radius = min(radius, width / 2, height / 2)
    quarter = np.linspace(0, math.pi / 2, _CURVE_STEPS)
    corners = (
        (left + width - radius, top + height - radius, 0.0),
        (left + radius, top + height - radius, math.pi / 2),
        (left + radius, top + radius, math.pi),
        (left + width - radius, top + radius, 3 * math.pi / 2),
    )
    return np.concatenate(
        [
            np.stack(
                [x + radius * np.cos(start + quarter), y + radius * np.sin(start + quarter)],
                axis=1,
            )
            for x, y, start in corners
        ]
    )
