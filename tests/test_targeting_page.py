"""The page on targeting: whole, and about what there is."""

from __future__ import annotations

import re
from pathlib import Path

from market.exchange import ExchangeProfile
from market.targeting import TARGETABLE, Targeting

PAGE = (Path(__file__).parents[1] / "docs" / "targeting.md").read_text()


def rows_below(heading):
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_the_page_has_a_row_for_everything_that_may_be_targeted():
    assert sorted(rows_below("What may be targeted")) == sorted(TARGETABLE)
    for name in Targeting.__struct_fields__:
        assert f"`{name}`" in PAGE or f"targeting.{name}" in PAGE, name


def test_the_page_speaks_of_fields_that_a_profile_has():
    named = rows_below("Who sells")
    assert len(named) >= 7
    assert set(named) <= set(ExchangeProfile.__struct_fields__)
