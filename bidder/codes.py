"""Codes of texts: the book that a process keeps so that a text is hashed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from market.chance import code_of
from market.openrtb_reading import number_text

if TYPE_CHECKING:
    from collections.abc import Sequence

_CODE_BOOK_MAX = 500_000
_TEXT_CHARS_MAX = 256
"""Longer texts are no names that come back: they are hashed and forgotten."""


class CodeBook(dict[str, int]):
    """Codes of texts seen before: hashing a text once saves a microsecond at every later request.

    Bounded: texts come from outside, so a full book is emptied rather than grown for ever, and it
    holds no long ones.
    """

    def __missing__(self, text: str) -> int:
        """Returns the code of a text that is not in the book, and enters it."""
        if len(text) > _TEXT_CHARS_MAX:
            return code_of(text)
        if len(self) >= _CODE_BOOK_MAX:
            self.clear()
        code = self[text] = code_of(text)
        return code

    def of(self, value: str | float | None) -> int:
        """Returns the code of an identifier, 0 for one that says nothing."""
        text = value if isinstance(value, str) else number_text(value)
        return self[text] if text else 0

    def add(self, pool: list[int], values: Sequence[str | float | None] | None) -> None:
        """Appends the codes of a list of identifiers to ``pool``; empty ones say nothing."""
        for value in values or ():
            text = value if isinstance(value, str) else number_text(value)
            if text:
                pool.append(self[text])
