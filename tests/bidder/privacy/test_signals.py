"""Where privacy signals are read from, and in which form they are kept."""

from __future__ import annotations

import pytest

from bidder.privacy.signals import Signals, signals_of
from market.openrtb_decode import decode_request
from tests.bidder.privacy.cases import ZEROED
from tests.bidder.requests import body_of


def read(**changes):
    return signals_of(decode_request(body_of(**changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"device": {}, "regs": {}, "user": {}},
        {"device": {"dnt": 0, "lmt": 0, "ifa": "x"}, "regs": {"coppa": 0, "ext": {}}},
        {"regs": {"us_privacy": "", "gpp": "", "gpp_sid": []}, "user": {"consent": "", "ext": {}}},
    ],
)
def test_what_nobody_signals_is_silence(changes):
    assert read(**changes) == Signals()


@pytest.mark.parametrize("ext", [False, True])
def test_every_signal_is_read_from_its_newer_and_from_its_older_place(ext):
    regs = {"gdpr": 1, "us_privacy": "1YNN", "gpp": "DBA", "gpp_sid": [7, "8"]}
    user = {"consent": "CPc"}
    if ext:
        regs, user = {"ext": regs}, {"ext": user}
    found = read(regs={**regs, "coppa": 1}, user=user, device={"dnt": 1, "lmt": 1, "ifa": ZEROED})
    assert found == Signals(
        dnt=True, lmt=True, is_ifa_zeroed=True, coppa=True, gdpr=True, consents=("CPc",),
        us_privacy=("1YNN",), gpp=("DBA",), gpp_sid=((7, 8),),
    )  # fmt: skip


def test_texts_that_differ_between_the_places_are_both_kept_the_newer_first():
    found = read(
        regs={"us_privacy": "1YNN", "gpp": "A", "ext": {"us_privacy": "1YYN", "gpp": "A"}},
        user={"consent": "new", "ext": {"consent": "old"}},
    )
    assert found.consents == ("new", "old")
    assert found.us_privacy == ("1YNN", "1YYN")
    assert found.gpp == ("A",)


@pytest.mark.parametrize(
    ("newer", "older", "expected"),
    [(None, None, None), (0, None, False), (None, 0, False), (0, 1, True), (1, 0, True)],
)
def test_gdpr_applies_if_either_place_says_so(newer, older, expected):
    assert read(regs={"gdpr": newer, "ext": {"gdpr": older}}).gdpr is expected


def test_an_entry_that_names_no_section_is_kept_as_none():
    assert read(regs={"gpp_sid": [7, "usca", 2.5]}).gpp_sid == ((7, 0, 0),)


def test_a_long_text_is_not_kept_whole():
    found = read(
        user={"consent": "C" * 500_000, "ext": {"consent": "D" * 500_000}},
        regs={"gpp": "E" * 500_000},
    )
    assert max(map(len, (*found.consents, *found.gpp))) < 10
