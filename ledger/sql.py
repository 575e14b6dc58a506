"""Questions to the analytics store in SQL: values in, rows out, the same on every engine.

A question is SQL text of ours with ``%(name)s`` where a value goes. Values are quoted by one
function, in the literals that chDB 26.9 and ClickHouse from 18.16 on read alike (18.16 knows no
parameters of its own). Identifiers are never values: no table or column name comes from input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec

from market.errors import BadInput

Value = bool | int | float | str | None | Sequence[bool | int | float | str]
"""What may be put into a question; a sequence becomes the right side of IN."""

Cell = int | float | str | list[int | float] | None
"""What comes back: dates as ISO 8601 text, 64-bit integers exact."""

Record = TypeVar("Record", bound=msgspec.Struct)

_PLACE: Final = re.compile(r"%\(([a-z_][a-z0-9_]*)\)s")
_LITERAL: Final = re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)
_SELECT: Final = re.compile(r"\s*SELECT\b", re.IGNORECASE)
_OUTFILE: Final = re.compile(r"\bINTO\s+OUTFILE\b", re.IGNORECASE)
_FORMAT: Final = re.compile(r"\bFORMAT\s+\w+\s*\Z", re.IGNORECASE)
_COMMENT: Final = re.compile(r"--[^\n]*")
_VERSION: Final = re.compile(r"^-- version (\d+)$", re.MULTILINE)
_ESCAPES: Final = str.maketrans(
    {
        "\\": r"\\", "'": r"\'", "\0": r"\0", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r",
        "\t": r"\t",
    }
)  # fmt: skip


class Rows(msgspec.Struct, frozen=True, tag="rows"):
    """The answer to a question: names of its columns, and its rows in the order of the answer."""

    columns: list[str]
    rows: list[list[Cell]]

    def records(self, kind: type[Record]) -> tuple[Record, ...]:
        """Returns the rows as ``kind``, whose fields are the columns' names.

        Raises:
            msgspec.ValidationError: a column is missing or of another type: the question and the
                type do not belong together.
        """
        return tuple(
            msgspec.convert(dict(zip(self.columns, row, strict=True)), kind) for row in self.rows
        )


class Analytics(Protocol):
    """Whoever answers questions: ``ledger.store.StoreClient``, or an engine in a test."""

    def query(self, sql: str, /, **parameters: Value) -> Rows:
        """Returns the answer to a SELECT whose ``%(name)s`` are filled with ``parameters``."""
        ...


def quote(value: Value) -> str:
    """Returns ``value`` as a literal that both engines read as that very value.

    Negative numbers stand in brackets, since ``a -%(b)s`` would otherwise begin a comment.

    Raises:
        BadInput: a sequence without an element (IN () is no SQL), text with a lone surrogate, or an
            integer that neither Int64 nor UInt64 holds.
    """
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return _quote_text(value)
    if isinstance(value, (bool, int, float)):
        return _quote_number(value)
    if not value:
        raise BadInput("value (): a list to look in must have at least one element")
    return f"({', '.join(quote(element) for element in value)})"


def bind(sql: str, parameters: Mapping[str, Value]) -> str:
    """Returns ``sql`` with each ``%(name)s`` replaced by the quoted value of that name.

    A value is never looked at again, so one that contains ``%(name)s`` stays text.

    Raises:
        BadInput: a name without a value, a value that is not asked for, or one without a literal.
    """
    unused = set(parameters)

    def literal(place: re.Match[str]) -> str:
        name = place[1]
        if name not in parameters:
            raise BadInput(f"question '{_short(sql)}': no value was given for %({name})s")
        unused.discard(name)
        return quote(parameters[name])

    bound = _PLACE.sub(literal, sql)
    if unused:
        raise BadInput(
            f"question '{_short(sql)}': nothing asks for the value of {', '.join(sorted(unused))}"
        )
    return bound


def check_is_question(sql: str) -> None:
    """Returns if ``sql`` is one SELECT and nothing else.

    This catches mistakes of our own; it is no fence against SQL that an enemy wrote, which must
    never get here.

    Raises:
        BadInput: it starts otherwise, holds a second statement, writes a file, or names a format.
    """
    bare = _LITERAL.sub("''", sql)
    is_more = ";" in bare or _OUTFILE.search(bare) or _FORMAT.search(bare)
    if not _SELECT.match(bare) or is_more:
        raise BadInput(
            f"question '{_short(sql)}': it must be one SELECT, without ';', INTO OUTFILE and FORMAT"
        )


def schema_versions() -> tuple[tuple[str, ...], ...]:
    """Returns the statements of ``schema.sql`` by version, the first first, without comments."""
    text = Path(__file__).with_name("schema.sql").read_text("utf-8")
    _, *versions = _VERSION.split(text)
    numbers = [int(number) for number in versions[::2]]
    assert numbers == list(range(1, len(numbers) + 1)), "versions of schema.sql must be 1, 2, ..."
    return tuple(_statements(part) for part in versions[1::2])


def _statements(text: str) -> tuple[str, ...]:
    return tuple(
        "\n".join(line for line in statement.splitlines() if line.strip())
        for statement in _COMMENT.sub("", text).split(";")
        if statement.strip()
    )


def _quote_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"value {value!r}: it must be text that UTF-8 can hold") from error
    return f"'{value.translate(_ESCAPES)}'"


def _quote_number(value: float) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise BadInput(
            f"value {value}: a whole number must lie in -2^63..2^64-1, where it is exact"
        )
    text = repr(value)
    return f"({text})" if text.startswith("-") else text


def _short(sql: str) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= 80 else f"{text[:77]}..."
