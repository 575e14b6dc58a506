from __future__ import annotations

import pytest

from ledger.reports import TimeSpan
from ledger.sql import Rows, bind, check_is_question, quote, schema_versions
from market.errors import BadInput


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (None, "NULL"),
        (True, "1"),
        (False, "0"),
        (2**53 + 1, "9007199254740993"),
        (2**64 - 1, "18446744073709551615"),
        (-5, "(-5)"),
        (0.1, "0.1"),
        (-0.0, "(-0.0)"),
        (float("inf"), "inf"),
        ("it's", r"'it\'s'"),
        ("a\\", r"'a\\'"),
        ("nul\0tab\t", r"'nul\0tab\t'"),
        ((1, -2), "(1, (-2))"),
        (["a", "b'"], r"('a', 'b\'')"),
    ],
)
def test_a_value_becomes_a_literal(value: object, literal: str) -> None:
    assert quote(value) == literal


@pytest.mark.parametrize("value", [(), [], 2**64, -(2**63) - 1, "\ud800"])
def test_a_value_without_a_literal_is_refused(value: object) -> None:
    with pytest.raises(BadInput):
        quote(value)


def test_every_place_of_a_name_is_filled() -> None:
    assert bind("SELECT %(a)s - %(b)s + %(a)s", {"a": 1, "b": -2}) == "SELECT 1 - (-2) + 1"


def test_a_value_that_looks_like_a_place_stays_text() -> None:
    sql = bind("SELECT %(a)s, %(b)s", {"a": "%(b)s", "b": "x"})
    assert sql == "SELECT '%(b)s', 'x'"


def test_a_percent_sign_of_the_question_stays() -> None:
    assert bind("SELECT 7 % 4, name LIKE 'a%'", {}) == "SELECT 7 % 4, name LIKE 'a%'"


def test_a_name_without_a_value_and_a_value_without_a_name_are_refused() -> None:
    with pytest.raises(BadInput, match=r"no value was given for %\(a\)s"):
        bind("SELECT %(a)s", {})
    with pytest.raises(BadInput, match="nothing asks for the value of b"):
        bind("SELECT %(a)s", {"a": 1, "b": 2})


@pytest.mark.parametrize("sql", ["SELECT 1", " \n select ';' AS text", r"SELECT '\';' AS text"])
def test_one_select_is_a_question(sql: str) -> None:
    check_is_question(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "DROP TABLE events",
        "INSERT INTO events (id_hi) VALUES (1)",
        "SELECT 1; DROP TABLE events",
        "SELECT 1 INTO OUTFILE 'x'",
        "SELECTED",
    ],
)
def test_anything_else_is_no_question(sql: str) -> None:
    with pytest.raises(BadInput, match="one SELECT"):
        check_is_question(sql)


def test_the_first_version_of_the_schema_is_two_tables() -> None:
    statements, *later = schema_versions()
    assert [statement.split("(")[0].strip() for statement in statements] == [
        "CREATE TABLE IF NOT EXISTS events",
        "CREATE TABLE IF NOT EXISTS cursors",
    ]
    for statement in (*statements, *(each for version in later for each in version)):
        assert "--" not in statement
        assert ";" not in statement


def test_rows_become_records_by_the_names_of_their_columns() -> None:
    rows = Rows(columns=["last_ms", "first_ms"], rows=[[2, 1]])
    assert rows.records(TimeSpan) == (TimeSpan(first_ms=1, last_ms=2),)
