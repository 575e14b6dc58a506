import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creatives.compliance import Counting, Examples, Field, Kind, Rule, Severity
from creatives.compliance.matching import fold, length, spans, unknown_codes


def rule(**changes: Any) -> Rule:
    fields: dict[str, Any] = {
        "id": "T",
        "version": 1,
        "title": "t",
        "kind": Kind.LEXICON,
        "severity": Severity.BLOCK,
        "fields": (Field.HEADLINE,),
        "source_url": "https://law.example/",
        "checked_on": datetime.date(2026, 11, 22),
        "owner": "me",
        "cure": "c",
        "examples": Examples(("x",), ("y",), ("z",)),
    }
    return Rule(**{**fields, **changes})


FIRST = rule(terms=("first", "best in"), exceptions=("first aid",))
BEST = rule(terms=("\u6700\u4f73",))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("First of all", ["First"]),
        ("the FIRST, the first", ["FIRST", "first"]),
        ("\uff26\uff29\uff32\uff33\uff34 class", ["\uff26\uff29\uff32\uff33\uff34"]),
        ("fi\u200brst", ["fi\u200brst"]),
        ("firsthand", []),
        ("thefirst", []),
        ("First aid kit", []),
        ("First aid comes first", ["first"]),
        ("best  in", []),
    ],
)
def test_terms_are_found_folded_as_words_and_outside_exceptions(text, found):
    assert [text[start:end] for start, end in spans(FIRST, text, {})] == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\u4eba\u4eba\u6700\u4f73\u54c1", ["\u6700\u4f73"]),
        ("\u6700 \u4f73", ["\u6700 \u4f73"]),
        ("\u6700\u3000\u4f73", ["\u6700\u3000\u4f73"]),
        ("\u6700\u65b0\u4f73\u54c1", []),
    ],
)
def test_terms_without_word_borders_are_found_anywhere_even_spaced_out(text, found):
    assert [text[start:end] for start, end in spans(BEST, text, {})] == found


def test_variant_characters_are_taken_for_those_of_the_term():
    state = rule(terms=("\u56fd\u5bb6\u7ea7",))
    folding = {"\u570b": "\u56fd", "\u7d1a": "\u7ea7"}
    assert spans(state, "\u570b\u5bb6\u7d1a", folding) == ((0, 3),)
    assert spans(state, "\u570b\u5bb6\u7d1a", {}) == ()


def test_overlapping_terms_are_reported_once_the_longer_first():
    both = rule(terms=("ab", "ab cd", "cd"))
    assert spans(both, "ab cd", {}) == ((0, 5),)


def test_patterns_are_found_outside_exceptions():
    number = rule(kind=Kind.REGEX, pattern=r"#\d", exceptions=("model #7",))
    assert spans(number, "model #7 is #1", {}) == ((12, 14),)


@pytest.mark.parametrize(
    ("text", "counting", "is_right"),
    [
        ("1234", Counting.CODE_POINTS, True),
        ("12345", Counting.CODE_POINTS, False),
        ("1", Counting.CODE_POINTS, False),
        ("\u6700\u4f73", Counting.EAST_ASIAN_WIDTH, True),
        ("\u6700\u4f731", Counting.EAST_ASIAN_WIDTH, False),
        ("\u6700\u4f731", Counting.CODE_POINTS, True),
    ],
)
def test_a_length_must_lie_in_its_range_the_way_the_platform_counts(text, counting, is_right):
    short = rule(kind=Kind.LENGTH, length_min=2, length_max=4, counting=counting)
    assert (spans(short, text, {}) == ()) is is_right


def test_wide_and_full_width_characters_count_two():
    assert length("a\u6700\uff21\uff71", Counting.EAST_ASIAN_WIDTH) == 1 + 2 + 2 + 1


def test_codes_off_the_list_are_unknown_unless_the_vendors():
    codes = rule(
        kind=Kind.METADATA, fields=(Field.ATTRIBUTES,), codes=(1, 2), vendor_codes_from=500
    )
    assert unknown_codes(codes, (1, 3, 499, 500, 900)) == (3, 499)
    without = rule(kind=Kind.METADATA, fields=(Field.ATTRIBUTES,), codes=(1, 2))
    assert unknown_codes(without, (500,)) == (500,)


@given(text=st.text(max_size=40))
def test_folding_keeps_track_of_where_every_character_came_from(text):
    folded, places = fold(text, {})
    assert len(folded) == len(places)
    assert list(places) == sorted(places)
    assert all(0 <= place < len(text) for place in places)


@given(text=st.text("firstand ", max_size=30))
def test_a_span_always_holds_its_term(text):
    for start, end in spans(FIRST, text, {}):
        assert text[start:end] in {"first", "best in"}
