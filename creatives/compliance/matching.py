"""Finds what a rule looks for in a text. Pure.

Texts are folded before terms are sought: compatibility forms (NFKC), case, the pack's variant
characters, and characters that hide a term from a naive search (zero-width ones, and spaces between
wide characters). Spans are given in the text as it was written.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from creatives.compliance.rules import Counting, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from creatives.compliance.rules import Rule

Span = tuple[int, int]
"""First code point of a match, and the one after its last."""


def spans(rule: Rule, text: str, folding: Mapping[str, str]) -> tuple[Span, ...]:
    """Where ``text`` breaks a rule of kind lexicon, regex or length, in order, without overlaps."""
    match rule.kind:
        case Kind.LEXICON:
            return _lexicon_spans(rule, text, folding)
        case Kind.REGEX:
            found = tuple(match.span() for match in re.finditer(rule.pattern, text))
            excused = _term_spans(rule.exceptions, text, folding)
            return tuple(span for span in found if not _is_inside(span, excused))
        case Kind.LENGTH:
            count = length(text, rule.counting)
            is_right = rule.length_min <= count <= rule.length_max
            return () if is_right else ((0, len(text)),)
        case Kind.METADATA:
            msg = f"rule {rule.id} looks at codes, not at text"
            raise AssertionError(msg)


def unknown_codes(rule: Rule, codes: tuple[int, ...]) -> tuple[int, ...]:
    """The codes that a metadata rule does not know."""
    known = frozenset(rule.codes)
    limit = rule.vendor_codes_from
    return tuple(code for code in codes if code not in known and not 0 < limit <= code)


def length(text: str, counting: Counting) -> int:
    """How long a text is, the way a platform counts."""
    if counting is Counting.CODE_POINTS:
        return len(text)
    return sum(2 if unicodedata.east_asian_width(one) in {"W", "F"} else 1 for one in text)


def fold(text: str, folding: Mapping[str, str]) -> tuple[str, tuple[int, ...]]:
    """The folded text, and for each of its characters the place it came from."""
    folded: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if unicodedata.category(character) == "Cf":
            continue
        if character.isspace() and _is_between_wide(text, place):
            continue
        for one in unicodedata.normalize("NFKC", character).casefold():
            folded.append(folding.get(one, one))
            places.append(place)
    return "".join(folded), tuple(places)


def _lexicon_spans(rule: Rule, text: str, folding: Mapping[str, str]) -> tuple[Span, ...]:
    excused = _term_spans(rule.exceptions, text, folding)
    found = [
        span for span in _term_spans(rule.terms, text, folding) if not _is_inside(span, excused)
    ]
    found.sort(key=lambda span: (span[0], -span[1]))
    kept: list[Span] = []
    for span in found:
        if not kept or span[0] >= kept[-1][1]:
            kept.append(span)
    return tuple(kept)


def _term_spans(terms: tuple[str, ...], text: str, folding: Mapping[str, str]) -> list[Span]:
    folded, places = fold(text, folding)
    found: list[Span] = []
    for term in terms:
        wanted, _ = fold(term, folding)
        start = folded.find(wanted)
        while start >= 0:
            end = start + len(wanted)
            if _stands_alone(folded, start, end):
                found.append((places[start], places[end - 1] + 1))
            start = folded.find(wanted, start + 1)
    return found


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether a term is a word of its own; scripts without spaces have no such thing."""
    before = text[start - 1] if start else " "
    after = text[end] if end < len(text) else " "
    return not (_joins(before, text[start]) or _joins(text[end - 1], after))


def _joins(first: str, second: str) -> bool:
    return first.isalnum() and second.isalnum() and not _is_wide(first) and not _is_wide(second)


def _is_between_wide(text: str, place: int) -> bool:
    before = next((one for one in reversed(text[:place]) if not one.isspace()), " ")
    after = next((one for one in text[place:] if not one.isspace()), " ")
    return _is_wide(before) and _is_wide(after)


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in {"W", "F"}


def _is_inside(span: Span, others: list[Span]) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in others)
