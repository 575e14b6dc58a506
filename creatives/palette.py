"""Colours: from one brand colour, four palettes whose text can be read.

Colours are worked on in OKLCH (lightness, chroma, hue), where equal steps look equal, and checked
by the contrast ratio of WCAG 2.2 (1.4.3: at least 4.5 for text). Source: B. Ottosson, "A perceptual
color space for image processing" (2020); WCAG 2.2, relative luminance and contrast ratio.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

Rgb = tuple[int, int, int]
"""Red, green, blue in 0..255, sRGB."""

CONTRAST_MIN = 4.5
"""WCAG 2.2 success criterion 1.4.3, text of any size."""

WHITE: Rgb = (255, 255, 255)
BLACK: Rgb = (0, 0, 0)


class PaletteKind(StrEnum):
    """Which of a brand's palettes; an attribute that learning sees."""

    BRAND = "brand"
    PAPER = "paper"
    NIGHT = "night"
    CONTRAST = "contrast"


class Surface(msgspec.Struct, frozen=True):
    """A ground that carries text: a gradient, and colours that can be read on both of its ends."""

    start: Rgb
    end: Rgb
    ink: Rgb
    muted_ink: Rgb
    button: Rgb
    on_button: Rgb


class Palette(msgspec.Struct, frozen=True):
    """The colours of one creative.

    Attributes:
        kind: which of the brand's palettes this is.
        ground: behind the words of a split layout.
        stage: behind the product, and behind everything in a poster layout.
        product: main colour of the product's silhouette.
        trim: its second colour.
    """

    kind: PaletteKind
    ground: Surface
    stage: Surface
    product: Rgb
    trim: Rgb


def palette_of(brand_colour: str, kind: PaletteKind) -> Palette:
    """Returns one palette of a brand.

    Args:
        brand_colour: ``#rrggbb``.
        kind: which palette.
    """
    lightness, chroma, hue = to_oklch(parse_colour(brand_colour))
    # A grey brand stays grey; a loud one is toned down where it covers an area.
    area = min(chroma, 0.16)
    lively = 0.0 if chroma < 0.03 else max(0.12, min(chroma, 0.2))
    opposite = (hue + 175.0) % 360.0
    # Greens turn to teal, all else the other way: towards yellow, greens and reds go muddy.
    neighbour = (hue + (28.0 if 90.0 <= hue < 220.0 else -28.0)) % 360.0
    brand = from_oklch(min(max(lightness, 0.42), 0.68), lively, hue)
    warm = from_oklch(0.8, 0.155, 85.0 if abs((hue - 85.0 + 180) % 360 - 180) > 40 else 350.0)
    match kind:
        case PaletteKind.BRAND:
            return Palette(
                kind,
                ground=_surface((0.4, area, hue), (0.29, area, hue), button=warm),
                stage=_surface((0.97, 0.02, hue), (0.86, min(area, 0.07), hue), button=brand),
                product=brand,
                trim=warm,
            )
        case PaletteKind.PAPER:
            return Palette(
                kind,
                ground=_surface((0.995, 0.003, hue), (0.965, 0.012, hue), button=brand),
                stage=_surface(
                    (0.54, lively, hue), (0.4, min(lively, 0.17), neighbour), button=WHITE
                ),
                product=from_oklch(0.94, min(area, 0.04), hue),
                trim=warm,
            )
        case PaletteKind.NIGHT:
            return Palette(
                kind,
                ground=_surface(
                    (0.21, min(area, 0.04), hue),
                    (0.14, min(area, 0.035), hue),
                    button=from_oklch(0.82, min(lively, 0.14), hue),
                ),
                stage=_surface(
                    (0.4, min(area, 0.1), hue), (0.19, min(area, 0.06), hue), button=warm
                ),
                product=from_oklch(0.78, min(lively, 0.15), hue),
                trim=warm,
            )
        case PaletteKind.CONTRAST:
            return Palette(
                kind,
                ground=_surface((0.965, 0.02, opposite), (0.93, 0.035, opposite), button=brand),
                stage=_surface((0.9, 0.065, opposite), (0.8, 0.095, opposite), button=brand),
                product=brand,
                trim=from_oklch(0.97, 0.02, hue),
            )


def _surface(
    start: tuple[float, float, float], end: tuple[float, float, float], *, button: Rgb
) -> Surface:
    """A gradient with inks that can be read on both ends, and a button that can be told from it."""
    ends = (from_oklch(*start), from_oklch(*end))
    hue = start[2]
    is_dark = max(luminance(colour) for colour in ends) < 0.4
    strong = from_oklch(0.985 if is_dark else 0.2, 0.01 if is_dark else 0.03, hue)
    soft = from_oklch(0.88 if is_dark else 0.42, 0.025 if is_dark else 0.035, hue)
    return Surface(
        start=ends[0],
        end=ends[1],
        ink=readable(strong, ends),
        muted_ink=readable(soft, ends),
        button=button,
        on_button=readable(from_oklch(0.985, 0.01, hue), (button,))
        if luminance(button) < 0.3
        else readable(from_oklch(0.22, 0.05, hue), (button,)),
    )


def readable(colour: Rgb, grounds: Iterable[Rgb], ratio: float = CONTRAST_MIN) -> Rgb:
    """Returns ``colour``, lightened or darkened only as far as it takes to be read on every ground.

    Returns the better of black and white when no lightness of the colour reaches ``ratio``.
    """
    grounds = tuple(grounds)

    def worst(candidate: Rgb) -> float:
        return min(contrast(candidate, ground) for ground in grounds)

    if worst(colour) >= ratio:
        return colour
    lightness, chroma, hue = to_oklch(colour)
    for step in range(1, 51):
        for moved in (lightness + step * 0.02, lightness - step * 0.02):
            if 0.0 <= moved <= 1.0:
                candidate = from_oklch(moved, chroma, hue)
                if worst(candidate) >= ratio:
                    return candidate
    return max((WHITE, BLACK), key=worst)


def contrast(first: Rgb, second: Rgb) -> float:
    """Contrast ratio of two colours, 1 to 21. Source: WCAG 2.2, contrast ratio."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: Rgb) -> float:
    """Relative luminance, 0 (black) to 1 (white). Source: WCAG 2.2, relative luminance."""
    red, green, blue = (_linear(channel) for channel in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def parse_colour(text: str) -> Rgb:
    """The three channels of ``#rrggbb``."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    """The colour ``share`` (0..1) of the way from ``first`` to ``second``."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def to_oklch(colour: Rgb) -> tuple[float, float, float]:
    """Lightness 0..1, chroma >= 0 and hue in degrees of an sRGB colour. Source: Ottosson 2020."""
    red, green, blue = (_linear(channel) for channel in colour)
    long = math.cbrt(0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue)
    medium = math.cbrt(0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue)
    short = math.cbrt(0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue)
    lightness = 0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short
    a = 1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short
    b = 0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short
    return lightness, math.hypot(a, b), math.degrees(math.atan2(b, a)) % 360.0


def from_oklch(lightness: float, chroma: float, hue: float) -> Rgb:
    """The sRGB colour of (lightness, chroma, hue); chroma gives way until it is in gamut."""
    low, high = 0.0, chroma
    channels = _oklch_to_linear(lightness, chroma, hue)
    if not _is_in_gamut(channels):
        for _ in range(12):
            middle = (low + high) / 2
            if _is_in_gamut(_oklch_to_linear(lightness, middle, hue)):
                low = middle
            else:
                high = middle
        channels = _oklch_to_linear(lightness, low, hue)
    red, green, blue = (_encoded(channel) for channel in channels)
    return red, green, blue


def _oklch_to_linear(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _is_in_gamut(channels: tuple[float, float, float]) -> bool:
    return all(-1e-4 <= channel <= 1.0001 for channel in channels)


def _linear(channel: int) -> float:
    """One sRGB channel, 0..255, as linear light (IEC 61966-2-1)."""
    value = channel / 255.0
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _encoded(light: float) -> int:
    """Linear light as an sRGB channel, 0..255 (IEC 61966-2-1)."""
    clamped = min(max(light, 0.0), 1.0)
    value = 12.92 * clamped if clamped <= 0.0031308 else 1.055 * clamped ** (1 / 2.4) - 0.055
    return round(value * 255)
