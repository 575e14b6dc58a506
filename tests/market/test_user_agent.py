"""User agents: what a handful of tokens says, and versions as numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.user_agent import VERSION_PART_MAX, agent_of, brand_of, packed_parts, packed_version

CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36"
SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15"


def version(major, minor=0, patch=0):
    return major << 32 | minor << 16 | patch


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Mozilla/5.0 (Linux; Android 14; K) {CHROME}", ("Android", version(14), "Google Chrome")),
        (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) {SAFARI}",
            ("iOS", version(17, 5, 1), "Safari"),
        ),
        (
            f"Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) {SAFARI}",
            ("iOS", version(17, 5), "Safari"),
        ),
        (
            f"Mozilla/5.0 (Windows NT 10.0; Win64) {CHROME} Edg/125.0",
            ("Windows", version(10), "Microsoft Edge"),
        ),
        (
            f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {SAFARI}",
            ("macOS", version(10, 15, 7), "Safari"),
        ),
        (f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {CHROME}", ("Chrome OS", 0, "Google Chrome")),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0",
            ("Linux", 0, "Firefox"),
        ),
        (f"Mozilla/5.0 (Windows NT 10.0) {CHROME} OPR/110.0", ("Windows", version(10), "Opera")),
        ("curl/8.1", ("", 0, "")),
        ("", ("", 0, "")),
    ],
)
def test_an_agent_is_told_by_its_tokens(text, expected):
    assert agent_of(text) == expected


@pytest.mark.parametrize(
    ("text", "packed"),
    [
        ("14", version(14)), ("14.4.1", version(14, 4, 1)), ("14_4", version(14, 4)),
        (" 6.1 (beta)", version(6, 1)), ("10.0.19045.1", version(10, 0, 19045)), ("XP", 0),
        ("", 0), (".5", 0), ("99999.1", version(VERSION_PART_MAX, 1)),
        ("9" * 40, version(VERSION_PART_MAX)),
    ],
)  # fmt: skip
def test_a_version_is_its_leading_numbers(text, packed):
    assert packed_version(text) == packed


PARTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=3)


@given(PARTS, PARTS)
def test_packed_versions_are_ordered_as_versions_are(one, other):
    def key(parts):
        return [min(part, VERSION_PART_MAX) for part in [*parts, 0, 0][:3]]

    packed = [packed_version(".".join(map(str, parts))) for parts in (one, other)]
    assert (packed[0] < packed[1]) == (key(one) < key(other))


@given(st.text())
def test_no_text_breaks_the_reading(text):
    agent = agent_of(text)
    assert 0 <= agent.os_version < 1 << 48
    assert 0 <= packed_version(text) < 1 << 48


def test_parts_stop_at_the_first_that_is_no_number():
    assert packed_parts(["14", "x", "1"]) == version(14)
    assert packed_parts(["²"]) == 0
    assert packed_parts([]) == 0


def test_the_brand_is_the_browser_and_not_its_engine_or_grease():
    assert brand_of(["Not A(Brand", "Chromium", "Google Chrome"]) == "Google Chrome"
    assert brand_of(["Chromium", "Not.A/Brand"]) == "Chromium"
    assert brand_of(["Not;A Brand", ""]) == ""
