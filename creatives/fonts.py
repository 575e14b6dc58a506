"""Fonts as configuration: a chain of faces per locale, and nothing is ever drawn as tofu.

A face is a file (or the one that Pillow carries); a chain is tried in order. A text is drawn in the
first face that holds all of it; where none does it is split into runs, each in the first face that
holds it. A character that no face holds is the caller's error, named, before anything is drawn.

What this does not do: it never looks for fonts on the machine or the network, and it does not
reorder right-to-left text that needs two faces (that is refused; name one face that holds all of
it).
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import math
import unicodedata
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from PIL import Image, ImageDraw, ImageFont, features

from creatives.brief import pointer_of
from creatives.geometry import Box
from creatives.typesetting import Weight
from market.errors import BadInput, NotReady

if TYPE_CHECKING:
    from creatives.palette import Rgb

_PROBE_SIZE = 32
"""Pixels at which a character is drawn to see whether a face holds it."""

_REFERENCE_SIZE = 100
"""Pixels at which a text is measured once for every size."""

_REMEMBERED = 4096
"""Texts whose measures are kept; a brief in nine sizes asks for a few hundred."""

_NO_CHARACTER = "\U0010ffff"
"""A noncharacter, which no font may map: what is drawn for it is the face's tofu."""


class Direction(StrEnum):
    """Reading direction, in the words of the shaping engine."""

    LEFT_TO_RIGHT = "ltr"
    RIGHT_TO_LEFT = "rtl"


class FontFace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One face.

    Attributes:
        path: a TrueType or OpenType file; "" is the face built into Pillow (Aileron, printable
            ASCII and some punctuation, public domain).
        index: number of the face inside a collection (.ttc).
        embolden: width of an outline drawn around each glyph, as a share of the size; stands in for
            a bold cut where there is none.
    """

    path: str = ""
    index: int = 0
    embolden: float = 0.0


class FontChain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The faces of one locale, most wanted first.

    Attributes:
        locale: a BCP 47 tag or its beginning; "" serves every locale that has no chain of its own.
        regular: faces for running text.
        bold: faces for headlines and buttons.
    """

    locale: str
    regular: tuple[FontFace, ...]
    bold: tuple[FontFace, ...]


class FontBook:
    """Every chain of an installation, loaded once."""

    def __init__(self, chains: tuple[FontChain, ...]) -> None:
        """Loads the faces.

        Raises:
            NotReady: Pillow was built without RAQM, so complex scripts would come out broken.
            BadInput: two chains share a locale, a chain is empty, or a file is no font.
        """
        if not features.check("raqm"):
            msg = "Pillow has no RAQM; text of many scripts would be drawn wrongly: use its wheel"
            raise NotReady(msg)
        faces: dict[FontFace, _LoadedFace] = {}
        self._typefaces: dict[str, Typeface] = {}
        for chain in chains:
            if chain.locale in self._typefaces:
                msg = f"font chain {chain.locale!r} is given twice; a locale has one chain"
                raise BadInput(msg)
            loaded: dict[Weight, tuple[_LoadedFace, ...]] = {}
            for weight, wanted in ((Weight.REGULAR, chain.regular), (Weight.BOLD, chain.bold)):
                if not wanted:
                    msg = f"font chain {chain.locale!r} has no {weight} face; it needs at least one"
                    raise BadInput(msg)
                for face in wanted:
                    if face not in faces:
                        faces[face] = _LoadedFace(face)
                loaded[weight] = tuple(faces[face] for face in wanted)
            self._typefaces[chain.locale] = Typeface(loaded)

    @classmethod
    def shipped(cls) -> FontBook:
        """Pillow's Aileron, then the DejaVu Sans that Matplotlib carries; no file of the machine.

        Covers Latin, Greek, Cyrillic, Armenian, Georgian, Hebrew and Arabic; no Han, Thai or Indic.
        """
        found = importlib.util.find_spec("matplotlib")
        if found is None or found.origin is None:
            msg = "matplotlib is not installed; the shipped fonts need the DejaVu files it carries"
            raise NotReady(msg)
        folder = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
        dejavu = FontFace(str(folder / "DejaVuSans.ttf"))
        dejavu_bold = FontFace(str(folder / "DejaVuSans-Bold.ttf"))
        any_locale = FontChain(
            locale="",
            regular=(FontFace(), dejavu),
            bold=(FontFace(embolden=0.022), dejavu_bold),
        )
        return cls((any_locale,))

    def typeface(self, locale: str) -> Typeface:
        """The faces for a locale: its own chain, else that of a shorter tag, else the general one.

        Raises:
            BadInput: there is no chain for it.
        """
        tag = locale
        while tag:
            if tag in self._typefaces:
                return self._typefaces[tag]
            tag = tag.rpartition("-")[0]
        if "" not in self._typefaces:
            msg = f"locale {locale!r} has no font chain; the book knows {sorted(self._typefaces)}"
            raise BadInput(msg, "/locale")
        return self._typefaces[""]


class Typeface:
    """Measures and draws text in one locale's chains; a :class:`creatives.typesetting.Measure`."""

    def __init__(self, faces: dict[Weight, tuple[_LoadedFace, ...]]) -> None:
        """Keeps the loaded faces of each weight."""
        self._faces = faces
        self._runs: dict[tuple[str, Weight], tuple[tuple[_LoadedFace, str], ...]] = {}
        self._widths: dict[tuple[str, Weight], float] = {}
        self._inks: dict[tuple[str, int, Weight], Box] = {}
        self._checked: set[str] = set()

    def covers(self, text: str) -> bool:
        """Whether both weights hold every character of ``text``."""
        return all(
            any(face.covers(character) for face in faces)
            for faces in self._faces.values()
            for character in _drawn(text)
        )

    def check(self, name: str, text: str) -> None:
        """Does nothing when ``text`` can be drawn.

        Raises:
            BadInput: a character has no glyph in any face, or right-to-left text needs two faces.
        """
        if text in self._checked:
            return
        for weight, faces in self._faces.items():
            for character in _drawn(text):
                if not any(face.covers(character) for face in faces):
                    title = unicodedata.name(character, "unnamed")
                    msg = (
                        f"{name} {text!r} holds {character!r} (U+{ord(character):04X} {title}); "
                        f"no {weight} face of its font chain has a glyph for it"
                    )
                    raise BadInput(msg, pointer_of(name))
            if _is_right_to_left(text) and len(self._split(text, weight)) > 1:
                msg = (
                    f"{name} {text!r} is written right to left and needs several {weight} faces; "
                    "its font chain must hold one face for all of it"
                )
                raise BadInput(msg, pointer_of(name))
        if len(self._checked) >= _REMEMBERED:
            self._checked.clear()
        self._checked.add(text)

    def is_right_to_left(self, text: str) -> bool:
        """Whether the first letter with a direction reads right to left (Unicode annex 9, P2)."""
        return _is_right_to_left(text)

    def width(self, text: str, size_px: int, weight: Weight) -> float:
        """About how wide the ink of ``text`` is, in pixels; exact to 1 % or so.

        Measured once, large, and scaled: glyphs scale evenly, and a text is asked for many sizes.
        """
        known = self._widths.get((text, weight))
        if known is None:
            left, _, right, _ = self._fine_ink(text, _REFERENCE_SIZE, weight)
            known = (right - left) / _REFERENCE_SIZE
            if len(self._widths) >= _REMEMBERED:
                self._widths.clear()
            self._widths[text, weight] = known
        return known * size_px

    def ink(self, text: str, size_px: int, weight: Weight) -> Box:
        """The box of the drawn pixels, relative to the pen's start on the base line."""
        known = self._inks.get((text, size_px, weight))
        if known is None:
            scale = _oversampling(size_px)
            left, top, right, bottom = self._fine_ink(text, size_px * scale, weight)
            known = Box(
                math.floor(left / scale),
                math.floor(top / scale),
                math.ceil(right / scale),
                math.ceil(bottom / scale),
            )
            if len(self._inks) >= _REMEMBERED:
                self._inks.clear()
            self._inks[text, size_px, weight] = known
        return known

    def draw(
        self,
        canvas: Image.Image,
        text: str,
        pen: tuple[int, int],
        size_px: int,
        weight: Weight,
        colour: Rgb,
    ) -> None:
        """Draws one line of ``text`` whose base line starts at ``pen`` (x, y in pixels)."""
        scale = _oversampling(size_px)
        ink = self.ink(text, size_px, weight)
        mask = Image.new("L", (ink.width * scale, ink.height * scale))
        draw = ImageDraw.Draw(mask)
        x = -float(ink.left * scale)
        for face, part in self._split(text, weight):
            font = face.sized(size_px * scale)
            draw.text(
                (x, -ink.top * scale),
                part,
                fill=255,
                font=font,
                anchor="ls",
                direction=_direction(text),
                stroke_width=face.face.embolden * size_px * scale,
            )
            x += font.getlength(part, direction=_direction(text))
        canvas.paste(colour, (pen[0] + ink.left, pen[1] + ink.top), mask.reduce(scale))

    def _fine_ink(
        self, text: str, size_px: int, weight: Weight
    ) -> tuple[float, float, float, float]:
        pen = 0.0
        left = top = math.inf
        right = bottom = -math.inf
        for face, part in self._split(text, weight):
            font = face.sized(size_px)
            box = font.getbbox(
                part,
                anchor="ls",
                direction=_direction(text),
                stroke_width=face.face.embolden * size_px,
            )
            left, top = min(left, pen + box[0]), min(top, box[1])
            right, bottom = max(right, pen + box[2]), max(bottom, box[3])
            pen += font.getlength(part, direction=_direction(text))
        return left, top, right, bottom

    def _split(self, text: str, weight: Weight) -> tuple[tuple[_LoadedFace, str], ...]:
        """The runs of ``text``: one where a face holds it all, else as few as the chain allows."""
        known = self._runs.get((text, weight))
        if known is not None:
            return known
        faces = self._faces[weight]
        runs: list[tuple[_LoadedFace, str]] = []
        for face in faces:
            if all(face.covers(character) for character in _drawn(text)):
                runs = [(face, text)]
                break
        else:
            for character in text:
                face = next((face for face in faces if face.covers(character)), faces[-1])
                joins = unicodedata.category(character) in {"Mn", "Mc", "Me", "Cf"}
                if runs and (joins or runs[-1][0] is face):
                    runs[-1] = (runs[-1][0], runs[-1][1] + character)
                else:
                    runs.append((face, character))
        if len(self._runs) >= _REMEMBERED:
            self._runs.clear()
        self._runs[text, weight] = tuple(runs)
        return self._runs[text, weight]


class _LoadedFace:
    """A face in memory, with its sizes and what it is known to hold."""

    def __init__(self, face: FontFace) -> None:
        self.face = face
        if face.path:
            try:
                data = Path(face.path).read_bytes()
            except OSError as error:
                msg = f"font {face.path!r} cannot be read ({error.strerror}); name an existing file"
                raise BadInput(msg) from error
        else:
            data = _built_in()
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._data = data
        self._sizes: dict[int, ImageFont.FreeTypeFont] = {}
        self._covered: dict[str, bool] = {}
        try:
            self._tofu = self._picture(_NO_CHARACTER)
        except OSError as error:
            msg = f"font {face.path!r} face {face.index} is not a font file ({error})"
            raise BadInput(msg) from error

    def sized(self, size_px: int) -> ImageFont.FreeTypeFont:
        font = self._sizes.get(size_px)
        if font is None:
            font = ImageFont.truetype(
                io.BytesIO(self._data),
                size=size_px,
                index=self.face.index,
                layout_engine=ImageFont.Layout.RAQM,
            )
            self._sizes[size_px] = font
        return font

    def covers(self, character: str) -> bool:
        """Whether the face has a glyph: what it draws is there, and is not its tofu."""
        known = self._covered.get(character)
        if known is None:
            picture = self._picture(character)
            has_ink = picture.getbbox() is not None
            if unicodedata.category(character) == "Zs":
                known = not has_ink
            else:
                known = has_ink and picture.tobytes() != self._tofu.tobytes()
            self._covered[character] = known
        return known

    def _picture(self, character: str) -> Image.Image:
        picture = Image.new("L", (4 * _PROBE_SIZE, 3 * _PROBE_SIZE))
        ImageDraw.Draw(picture).text(
            (_PROBE_SIZE, 2 * _PROBE_SIZE),
            character,
            fill=255,
            font=self.sized(_PROBE_SIZE),
            anchor="ls",
        )
        return picture


def _built_in() -> bytes:
    """The font file that Pillow carries."""
    font = ImageFont.load_default(size=_PROBE_SIZE)
    assert isinstance(font, ImageFont.FreeTypeFont)  # the bitmap one is for Pillow without FreeType
    return font.font_bytes


def _drawn(text: str) -> str:
    """The characters that need a glyph: joiners, marks of direction and variation selectors do not.

    The shaping engine acts on those and draws nothing for them.
    """
    return "".join(
        character
        for character in unicodedata.normalize("NFC", text)
        if unicodedata.category(character) != "Cf"
        and not 0xFE00 <= ord(character) <= 0xFE0F
        and not 0xE0100 <= ord(character) <= 0xE01EF
    )


def _oversampling(size_px: int) -> int:
    """How many times larger a text is drawn before it is reduced.

    Pillow puts glyphs on whole pixels, which spaces small text unevenly; drawn larger, they fall on
    fractions of one.
    """
    if size_px < 28:
        return 4
    return 2 if size_px < 72 else 1


def _is_right_to_left(text: str) -> bool:
    for character in text:
        direction = unicodedata.bidirectional(character)
        if direction in {"L", "R", "AL"}:
            return direction != "L"
    return False


def _direction(text: str) -> Direction:
    return Direction.RIGHT_TO_LEFT if _is_right_to_left(text) else Direction.LEFT_TO_RIGHT
