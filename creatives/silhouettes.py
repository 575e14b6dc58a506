"""A product's picture, by category, as shapes in a square of 100 by 100; y points down.

Pure data, drawn by :mod:`creatives.picture`. Each is an original drawing of a kind of product, with
no trade dress of any maker; where an advertiser has a photograph, that takes its place.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from creatives.brief import Category


class Tone(StrEnum):
    """Which of a palette's product colours fills a shape."""

    BASE = "base"
    LIGHT = "light"
    DARK = "dark"
    TRIM = "trim"
    PAPER = "paper"
    INK = "ink"


class Shape(msgspec.Struct, frozen=True):
    """One filled outline.

    Attributes:
        tone: its colour.
        path: ``M x y``, ``L x y``, ``C x y x y x y`` and ``Z``, as in SVG paths; or one of
            ``ellipse cx cy rx ry`` and ``rect x y width height radius``.
        opacity: 0..1.
        stroke: width of the line along the path; 0 fills it.
        turn: degrees clockwise about ``pivot``.
        pivot: what a turned shape turns about.
    """

    tone: Tone
    path: str
    opacity: float = 1.0
    stroke: float = 0.0
    turn: float = 0.0
    pivot: tuple[float, float] = (50.0, 50.0)


_B, _L, _D, _T, _P, _I = Tone.BASE, Tone.LIGHT, Tone.DARK, Tone.TRIM, Tone.PAPER, Tone.INK

SILHOUETTES: dict[Category, tuple[Shape, ...]] = {
    Category.FOOTWEAR: (
        Shape(_D, "M 8 66 C 6 52 8 40 13 33 C 17 31 20 40 21 50 L 22 66 Z"),
        Shape(
            _B,
            "M 10 67 C 9 54 10 42 14 33 C 18 29 21 32 24 35 C 28 40 35 40 40 35 L 46 29 "
            "C 49 27 52 28 54 31 C 60 42 69 48 80 51 C 91 54 96 59 96 67 Z",
        ),
        Shape(_D, "M 10 67 C 9 55 10 44 13.5 35 C 19 42 22 54 22 67 Z", opacity=0.55),
        Shape(_L, "M 74 49 C 90 53 96 58 96 67 L 68 67 C 67 59 69 53 74 49 Z", opacity=0.6),
        Shape(_T, "M 30 67 L 41 43 L 49 43 L 39 67 Z"),
        Shape(_T, "M 43 67 L 52 46 L 57 49 L 50 67 Z", opacity=0.75),
        Shape(_D, "M 46 29 C 49 27 52 28 54 31 L 58 37 L 52 41 L 43.5 32 Z", opacity=0.5),
        Shape(_P, "M 59 35.5 L 52.5 42", stroke=2.2),
        Shape(_P, "M 64 40.5 L 57.5 47", stroke=2.2),
        Shape(_P, "M 69.5 44.8 L 63.5 51", stroke=2.2),
        Shape(
            _P,
            "M 7 67 L 93 67 C 97 67 98 70 97.5 73 C 97 78 93 80 88 80 L 16 80 C 9 80 6 76 6 71 Z",
        ),
        Shape(_D, "M 8 76 L 97 76 C 95.5 79 92 80 88 80 L 16 80 C 12 80 9.5 78.5 8 76 Z"),
        Shape(_T, "M 12 71 L 40 71", stroke=1.6, opacity=0.9),
    ),
    Category.APPAREL: (
        Shape(
            _B,
            "M 34 14 C 40 23 60 23 66 14 L 80 20 C 86 23 90 32 96 46 L 80 54 L 75 45 L 76 86 "
            "C 76 89 74 90 72 90 L 28 90 C 26 90 24 89 24 86 L 25 45 L 20 54 L 4 46 "
            "C 10 32 14 23 20 20 Z",
        ),
        Shape(_D, "M 25 45 L 27 36 C 27 56 29 74 33 90 L 28 90 C 26 90 24 89 24 86 Z", opacity=0.4),
        Shape(_D, "M 75 45 L 73 36 C 73 56 71 74 67 90 L 72 90 C 74 90 76 89 76 86 Z", opacity=0.4),
        Shape(_D, "M 33.5 14.5 C 40 26 60 26 66.5 14.5", stroke=3.4),
        Shape(_L, "M 45 90 C 49 74 46 62 52 52", stroke=1.4, opacity=0.35),
        Shape(_T, "ellipse 50 47 10.5 10.5"),
        Shape(_P, "M 42.5 51 L 48 42 L 52 47 L 54.5 44 L 58 51 Z"),
        Shape(_D, "M 8.5 43.5 L 22.5 50.5", stroke=1.4, opacity=0.5),
        Shape(_D, "M 91.5 43.5 L 77.5 50.5", stroke=1.4, opacity=0.5),
    ),
    Category.ELECTRONICS: (
        Shape(_D, "M 19 58 C 14 4 86 4 81 58", stroke=8.5),
        Shape(_B, "M 19 56 C 15 7 85 7 81 56", stroke=5.5),
        Shape(_L, "M 30 24 C 38 15.5 50 13.5 58 15", stroke=1.6, opacity=0.7),
        Shape(_I, "rect 28 52 10 33 5"),
        Shape(_I, "rect 62 52 10 33 5"),
        Shape(_B, "rect 9 49 22 39 10.5"),
        Shape(_B, "rect 69 49 22 39 10.5"),
        Shape(_D, "M 24 50 C 30 53 31 57 31 60 L 31 78 C 31 83 28 87 24 87.5 Z", opacity=0.45),
        Shape(_D, "M 76 50 C 70 53 69 57 69 60 L 69 78 C 69 83 72 87 76 87.5 Z", opacity=0.45),
        Shape(_L, "rect 13 56 3.4 17 1.7", opacity=0.75),
        Shape(_L, "rect 73.5 56 3.4 17 1.7", opacity=0.5),
        Shape(_T, "ellipse 20.5 68.5 4.6 4.6"),
        Shape(_T, "ellipse 82 68.5 4.6 4.6"),
    ),
    Category.BEAUTY: (
        Shape(_I, "rect 43.5 2 13 16 6"),
        Shape(_D, "rect 39 14 22 17 3"),
        Shape(_L, "rect 42 16 2.6 13 1.3", opacity=0.5),
        Shape(_T, "rect 41 31 18 5 1"),
        Shape(
            _B,
            "M 38 36 L 62 36 C 71 38 77 43 77 52 L 77 88 C 77 93 74 95 70 95 L 30 95 "
            "C 26 95 23 93 23 88 L 23 52 C 23 43 29 38 38 36 Z",
        ),
        Shape(
            _D, "M 66 37.5 C 73 40 77 45 77 52 L 77 88 C 77 93 74 95 70 95 L 64 95 Z", opacity=0.35
        ),
        Shape(_P, "rect 23 56 54 26 0"),
        Shape(_T, "ellipse 50 64.5 4.2 4.2"),
        Shape(_I, "rect 36 72 28 2.4 1.2", opacity=0.7),
        Shape(_I, "rect 41 76.6 18 1.8 0.9", opacity=0.4),
        Shape(_L, "rect 28 45 3.6 46 1.8", opacity=0.55),
    ),
    Category.FOOD: (
        Shape(_P, "M 43 15 C 38 10 47 7 42 1", stroke=2.2, opacity=0.75),
        Shape(_P, "M 55 15 C 50 9 60 6 55 -1", stroke=2.2, opacity=0.75),
        Shape(_D, "rect 31 19 38 8 3"),
        Shape(
            _D,
            "M 25 26 L 75 26 C 77 26 78 27 78.4 29 L 79.4 35 L 20.6 35 L 21.6 29 "
            "C 22 27 23 26 25 26 Z",
        ),
        Shape(_L, "rect 27 28.5 30 1.8 0.9", opacity=0.4),
        Shape(
            _P, "M 24 35 L 76 35 L 70 92 C 69.7 94.6 68 96 65 96 L 35 96 C 32 96 30.3 94.6 30 92 Z"
        ),
        Shape(_B, "M 25.6 50 L 74.4 50 L 71.6 77 L 28.4 77 Z"),
        Shape(_D, "M 62 50 L 74.4 50 L 71.6 77 L 61 77 Z", opacity=0.3),
        Shape(_I, "M 66 35 L 76 35 L 70 92 C 69.7 94.6 68 96 65 96 L 61 96 Z", opacity=0.09),
        Shape(_T, "ellipse 50 63.5 9 9"),
        Shape(_P, "M 46 63 C 46 58 53 57 55 59 C 56 65 52 69 47.5 68 Z"),
        Shape(_T, "M 46 69.5 C 48 66 51 62 54 60", stroke=1.0),
    ),
    Category.HOME: (
        Shape(_I, "M 24 80 L 31 80 L 27 96 L 23.5 96 Z"),
        Shape(_I, "M 76 80 L 69 80 L 73 96 L 76.5 96 Z"),
        Shape(_B, "rect 21 12 58 58 15"),
        Shape(_D, "M 50 17 L 50 52", stroke=1.2, opacity=0.35),
        Shape(_D, "M 36 16.5 L 36 52", stroke=1.2, opacity=0.25),
        Shape(_D, "M 64 16.5 L 64 52", stroke=1.2, opacity=0.25),
        Shape(_T, "rect 34 33 27 22 6", turn=-9, pivot=(47.0, 44.0)),
        Shape(_P, "M 38 49 L 57 46", stroke=1.4, opacity=0.6, turn=-4, pivot=(47.0, 44.0)),
        Shape(_L, "rect 21 52 58 17 7"),
        Shape(_D, "rect 18 66 64 17 6"),
        Shape(_B, "rect 9 42 19 43 9.5"),
        Shape(_B, "rect 72 42 19 43 9.5"),
        Shape(_L, "rect 13 46.5 10 3.4 1.7", opacity=0.6),
        Shape(_L, "rect 76 46.5 10 3.4 1.7", opacity=0.6),
    ),
    Category.GAMES: (
        Shape(_D, "rect 24 25 17 14 6"),
        Shape(_D, "rect 59 25 17 14 6"),
        Shape(
            _B,
            "M 28 30 C 36 28 64 28 72 30 C 85 33 91 48 95 66 C 97.5 78 89 85 81 79 "
            "C 75 74 72 68 66 66 L 34 66 C 28 68 25 74 19 79 C 11 85 2.5 78 5 66 "
            "C 9 48 15 33 28 30 Z",
        ),
        Shape(_L, "M 24 34.5 C 38 31.5 62 31.5 76 34.5", stroke=1.6, opacity=0.6),
        Shape(_I, "ellipse 39.5 57.5 7.4 7.4"),
        Shape(_D, "ellipse 39.5 56.5 4.8 4.8"),
        Shape(_I, "ellipse 60.5 57.5 7.4 7.4"),
        Shape(_D, "ellipse 60.5 56.5 4.8 4.8"),
        Shape(_I, "rect 22.6 37 5.4 17 1.8"),
        Shape(_I, "rect 16.8 42.8 17 5.4 1.8"),
        Shape(_T, "ellipse 75 39.6 3.4 3.4"),
        Shape(_P, "ellipse 81.4 45.8 3.4 3.4"),
        Shape(_P, "ellipse 68.6 45.8 3.4 3.4"),
        Shape(_T, "ellipse 75 52 3.4 3.4"),
        Shape(_T, "rect 44.5 40 11 4 2", opacity=0.9),
    ),
    Category.TRAVEL: (
        Shape(_I, "M 40 26 L 40 8 C 40 5 42 4 44 4 L 56 4 C 58 4 60 5 60 8 L 60 26", stroke=3.6),
        Shape(_I, "rect 29 87 10 8 3"),
        Shape(_I, "rect 61 87 10 8 3"),
        Shape(_B, "rect 21 21 58 69 10"),
        Shape(
            _D,
            "M 66 21 L 69 21 C 75 21 79 25 79 31 L 79 80 C 79 86 75 90 69 90 L 66 90 Z",
            opacity=0.35,
        ),
        Shape(_D, "rect 32.5 27 3 57 1.5", opacity=0.55),
        Shape(_D, "rect 43.5 27 3 57 1.5", opacity=0.55),
        Shape(_D, "rect 54.5 27 3 57 1.5", opacity=0.55),
        Shape(_D, "rect 65 27 3 57 1.5", opacity=0.55),
        Shape(_L, "rect 25 30 2.8 30 1.4", opacity=0.7),
        Shape(_T, "rect 21 47 58 6 0"),
        Shape(_P, "rect 45 44.5 10 11 2.5"),
        Shape(_I, "ellipse 50 50 1.6 1.6"),
        Shape(_T, "ellipse 64 70 7.5 7.5"),
        Shape(_P, "M 59.5 72.5 L 63.5 66 L 65.5 69 L 66.8 67.6 L 68.8 72.5 Z"),
    ),
    Category.FINANCE: (
        Shape(_T, "rect 13 18 70 45 6", turn=-13, pivot=(48.0, 41.0)),
        Shape(_D, "rect 13 28 70 9 0", opacity=0.3, turn=-13, pivot=(48.0, 41.0)),
        Shape(_B, "rect 14 36 74 48 6.5"),
        Shape(
            _L,
            "M 52 36 L 81.5 36 C 85.5 36 88 38.5 88 42.5 L 88 77.5 C 88 81.5 85.5 84 81.5 84 "
            "L 66 84 C 80 70 72 48 52 36 Z",
            opacity=0.3,
        ),
        Shape(_T, "rect 21 50 13 10 2.5"),
        Shape(_D, "M 27.5 50 L 27.5 60", stroke=0.9, opacity=0.6),
        Shape(_D, "M 21 55 L 34 55", stroke=0.9, opacity=0.6),
        Shape(_P, "rect 21 67 11 3 1.5"),
        Shape(_P, "rect 35 67 11 3 1.5"),
        Shape(_P, "rect 49 67 11 3 1.5"),
        Shape(_P, "rect 21 74.5 22 2.4 1.2", opacity=0.65),
        Shape(_P, "M 71 66.5 C 73.5 69 73.5 73 71 75.5", stroke=1.8, opacity=0.9),
        Shape(_P, "M 74.8 63.8 C 79 68 79 74 74.8 78.2", stroke=1.8, opacity=0.9),
        Shape(_P, "M 78.6 61.2 C 84.4 67 84.4 75 78.6 80.8", stroke=1.8, opacity=0.9),
    ),
    Category.SPORTS: (
        Shape(_B, "ellipse 50 50 41 41"),
        Shape(
            _D, "M 50 9 C 72 8 92 28 91 50 C 91 72 72 92 50 91 C 74 82 78 26 50 9 Z", opacity=0.35
        ),
        Shape(_I, "M 50 9 L 50 91", stroke=2.4),
        Shape(_I, "M 9 50 L 91 50", stroke=2.4),
        Shape(_I, "M 22 20 C 42 36 42 64 22 80", stroke=2.4),
        Shape(_I, "M 78 20 C 58 36 58 64 78 80", stroke=2.4),
        Shape(_L, "ellipse 34 27 11 6", opacity=0.45, turn=-35, pivot=(34.0, 27.0)),
    ),
    Category.APPS: (
        Shape(_I, "rect 27 3 46 94 9"),
        Shape(_P, "rect 30 6.5 40 87 6.5"),
        Shape(
            _B, "M 30 13 C 30 9 33 6.5 36.5 6.5 L 63.5 6.5 C 67 6.5 70 9 70 13 L 70 40 L 30 40 Z"
        ),
        Shape(_I, "rect 43 9 14 3.4 1.7"),
        Shape(_T, "ellipse 50 26 8 8"),
        Shape(_P, "M 47.6 21.8 L 54.6 26 L 47.6 30.2 Z"),
        Shape(_L, "rect 34 45 14.6 14.6 3.4"),
        Shape(_T, "rect 51.4 45 14.6 14.6 3.4"),
        Shape(_D, "rect 34 62.4 14.6 14.6 3.4", opacity=0.8),
        Shape(_L, "rect 51.4 62.4 14.6 14.6 3.4", opacity=0.7),
        Shape(_B, "rect 36 81.5 28 7 3.5"),
        Shape(_P, "rect 44 84.2 12 1.7 0.85"),
    ),
    Category.OTHER: (
        Shape(_L, "M 50 12 L 92 29 L 50 46 L 8 29 Z"),
        Shape(_B, "M 8 29 L 50 46 L 50 94 L 8 76 Z"),
        Shape(_D, "M 92 29 L 50 46 L 50 94 L 92 76 Z"),
        Shape(_T, "M 22 23.3 L 64 40.3 L 78 34.7 L 36 17.7 Z"),
        Shape(_T, "M 64 40.3 L 78 34.7 L 78 48.5 L 71 49 L 64 54.3 Z", opacity=0.92),
        Shape(_P, "M 14 62 L 32 69.6 L 32 80 L 14 72.4 Z"),
        Shape(_I, "M 17 66.8 L 28 71.4", stroke=1.2, opacity=0.6),
        Shape(_I, "M 17 70.2 L 24 73.2", stroke=1.2, opacity=0.6),
    ),
}
"""One drawing per category."""
