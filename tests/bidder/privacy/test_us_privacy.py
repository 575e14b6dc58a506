"""The CCPA string: which of its combinations are said at all, and which permit."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.privacy.us_privacy import UsPrivacy, decode_us_privacy, us_privacy_permits
from market.errors import BadInput


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # the examples of the specification
        ("1YNN", True),
        ("1NYN", False),
        ("1-Y-", False),
        ("1---", True),
        # a user who was not told could not opt out
        ("1NNN", False),
        ("1-N-", False),
        ("1YNY", True),
        ("1YN-", True),
        ("1YYY", False),
        ("1ynn", True),
        ("1yYn", False),
    ],
)
def test_only_a_notice_without_an_opt_out_or_no_law_at_all_permits(text, expected):
    assert us_privacy_permits(decode_us_privacy(text)) == expected


def test_its_characters_are_notice_opt_out_and_agreement():
    assert decode_us_privacy("1YN-") == UsPrivacy(notice="Y", opt_out="N", lspa="-")


@pytest.mark.parametrize(
    "text",
    [
        "", "1", "1YN", "1YNNN", "2YNN", "0YNN", "YNNN", "1XNN", "1YN ", " 1YNN", "1YNN\n", "1YNé",
        "null",
    ],
)  # fmt: skip
def test_what_is_no_us_privacy_string_of_version_1_is_refused(text):
    with pytest.raises(BadInput):
        decode_us_privacy(text)


@pytest.mark.parametrize("text", ["1Y--", "1Y-N", "1N-Y", "1-" + "-N"])
def test_an_opt_out_that_is_not_said_although_the_law_applies_is_refused(text):
    with pytest.raises(BadInput, match="1---"):
        decode_us_privacy(text)


def test_no_combination_with_an_opt_out_permits():
    for notice, lspa in itertools.product("YN-", repeat=2):
        assert not us_privacy_permits(decode_us_privacy(f"1{notice}Y{lspa}"))


@given(st.text(max_size=8))
def test_no_text_does_worse_than_being_refused(text):
    with contextlib.suppress(BadInput):
        decode_us_privacy(text)
