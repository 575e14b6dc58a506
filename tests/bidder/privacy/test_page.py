"""``docs/privacy.md`` says what the code does: its tables are compared row by row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bidder.privacy import FORBIDDING_FIELDS, PRIVACY_FIELDS, ZEROED_FIELDS, Use
from bidder.privacy.consent import NEEDS
from bidder.privacy.us_section import LAYOUTS
from tests.bidder.privacy.cases import FORBIDDEN
from tests.bidder.test_privacy import FIELDS

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "privacy.md").read_text()


def table(first_heading):
    """The rows of the table whose first column has this heading, as lists of cells."""
    lines = PAGE[PAGE.index(f"| {first_heading} |") :].splitlines()
    rows = []
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def names(cell):
    return tuple(re.findall(r"`([^`]+)`", cell))


def numbers(values):
    return ", ".join(map(str, values))


def test_the_uses_are_those_of_the_code_with_the_fields_and_purposes_they_need():
    found = [(use, names(fields), *rest) for use, fields, *rest in table("use")]
    assert found == [
        (use.name, FIELDS[use], numbers(NEEDS[use].purposes), numbers(NEEDS[use].special_features))
        for use in Use
    ]


def test_every_field_that_forbids_has_a_row_and_no_other():
    rows = table("forbidding field")
    assert {names(row[0])[0] for row in rows} == set(FORBIDDING_FIELDS) - {""}
    read = {field for row in rows for field in names(row[1])}
    assert read == {*PRIVACY_FIELDS, *ZEROED_FIELDS}
    assert {field for field, _ in FORBIDDEN} == set(FORBIDDING_FIELDS) - {""}, "each has its cases"


def test_the_sections_are_those_that_are_read():
    assert table("section") == [
        [
            str(section_id), layouts[0].name, numbers(layouts[0].versions),
            str(layouts[0].geo or "none: never permitted"),
        ]
        for section_id, layouts in LAYOUTS.items()
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["exemplary", "supplemental"])
def test_the_examples_that_the_page_points_at_are_there(name):
    folder = Path(__file__).resolve().parents[2] / "golden" / "bid" / name
    assert len(list(folder.glob("privacy_*.json"))) >= 15
