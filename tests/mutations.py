"""Dirt: real request bodies, and what a seed makes of them.

A mutation cuts a JSON value (or a whole field) out of a body and puts something else there: another
type, null, an absurd number, a part of another request, a deep nest, a megabyte. Then bytes may be
broken too. Bodies are cut, never parsed and written again, so that a case takes microseconds, and
so that there may be equal keys and broken UTF-8 in it.

Case ``n`` of seed ``s`` is the same everywhere: ``pytest --fuzz-seed s:n`` runs that one alone.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from functools import cache
from json.decoder import scanstring
from pathlib import Path
from typing import NamedTuple

GOLDEN = Path(__file__).parent / "golden" / "bid"
REAL = Path(__file__).resolve().parents[1].parent / "shared" / "requests"
LIMIT_BYTES = 1 << 20

NUMBERS = (
    b"0", b"-0", b"-1", b"1", b"3.7", b"-2.5e-300", b"1e308", b"1e999", b"-1e999", b"NaN",
    b"Infinity", b"-Infinity", b"2147483648", b"9223372036854775807", b"9223372036854775808",
    b"18446744073709551616", b"-9223372036854775809", b"99999999999999999999999", b"1" * 400,
    b"0x10", b"01", b"1.", b".5", b"+1", b"1e", b"--1",
)  # fmt: skip
TEXTS = (
    b'""', b'" "', b'"0"', b'"1.5"', b'" 320 "', b'"-1"', b'"nan"', b'"inf"', b'"null"',
    b'"\\u0000"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\xff\xfe"', b'"\xc3"',
    b'"\\x41"', b'"\x01"', b'"\xed\xa0\x80"', "\"\u0130\u017f\u00df\"".encode(),
    b'"${AUCTION_PRICE}"', b'"../../etc"', b'"<script>"', b'"a' + b"b" * 3_000 + b'"',
)  # fmt: skip
OTHERS = (
    b"null", b"true", b"false", b"[]", b"{}", b"[null]", b"[[]]", b"[{}]", b'{"":null}', b"",
    b"nul", b"[1,]", b"{,}", b"[" * 40 + b"]" * 40, b'{"a":' * 40 + b"1" + b"}" * 40,
    b"[0" + b",0" * 300 + b"]", b"[" + b",".join(b'"%d"' % n for n in range(300)) + b"]",
)  # fmt: skip
SCRAPS = (
    b"\x00", b"\xff", b"\xc0\x80", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\r\n", b" ",
    b"\xef\xbb\xbf", b"/**/", b"\\u", b"\\ud834",
)  # fmt: skip
_SPACE = " \t\r\n"


class Span(NamedTuple):
    """A value in a body: its bytes ``first:end``; ``field`` is where its key begins, -1: no key."""

    first: int
    end: int
    field: int


class Source(NamedTuple):
    """A body and where its values are; ``spans`` is empty where it is no JSON."""

    name: str
    body: bytes
    spans: tuple[Span, ...]


def spans_of(body: bytes) -> tuple[Span, ...]:
    """Every value of a JSON text, outer ones first; () where it is no JSON."""
    text = body.decode("latin-1")  # one character a byte
    found: list[Span] = []
    decoder = json.JSONDecoder()

    def skip(at: int) -> int:
        while at < len(text) and text[at] in _SPACE:
            at += 1
        return at

    def value(at: int, field: int) -> int:
        index = len(found)
        found.append(Span(at, at, field))
        opened = text[at]
        if opened in "{[":
            at = skip(at + 1)
            while text[at] not in "}]":
                key = -1
                if opened == "{":
                    key = at
                    _, at = scanstring(text, at + 1, False)
                    at = skip(at)
                    assert text[at] == ":"
                    at = skip(at + 1)
                at = skip(value(at, key))
                at = skip(at + 1) if text[at] == "," else at
            at += 1
        elif opened == '"':
            _, at = scanstring(text, at + 1, False)
        else:
            _, at = decoder.raw_decode(text, at)
        found[index] = Span(found[index].first, at, field)
        return at

    try:
        value(skip(0), -1)
    except (ValueError, IndexError, AssertionError):
        return ()
    return tuple(found)


@cache
def sources() -> tuple[Source, ...]:
    """The bodies to start from: those that exchanges publish, where they are, and the goldens'."""
    bodies: dict[str, bytes] = {}
    for path in sorted(REAL.glob("[0-9]*")):
        body = path.read_bytes()
        bodies[path.name] = gzip.decompress(body) if path.suffix == ".gz" else body
    for path in sorted(GOLDEN.glob("*/*.json")):
        request = json.loads(path.read_text())["request"]
        bodies[path.name] = json.dumps(request, separators=(",", ":")).encode()
    return tuple(Source(name, body, spans_of(body)) for name, body in bodies.items())


def cases(option: str | None, count: int, seed: int = 20_260_101) -> list[tuple[int, int]]:
    """The (seed, number) of the cases to run: ``count`` of them, or the one that was asked for."""
    if option is None:
        return [(seed, number) for number in range(count)]
    first, _, number = option.partition(":")
    if number:
        return [(int(first), int(number))]
    return [(int(first), number) for number in range(count)]


def chance_of(seed: int, number: int) -> random.Random:
    return random.Random(seed << 32 | number)


def nasty(chosen: random.Random) -> bytes:
    """One JSON value, or something that is none."""
    kind = chosen.random()
    if kind < 0.3:
        return chosen.choice(NUMBERS)
    if kind < 0.55:
        return chosen.choice(TEXTS)
    if kind < 0.8:
        return chosen.choice(OTHERS)
    source = chosen.choice(sources())
    if not source.spans:
        return b"null"
    span = chosen.choice(source.spans)
    return source.body[span.first : span.end]


def body_case(chosen: random.Random) -> bytes:
    """A request body with one to four wrong values, and sometimes wrong bytes."""
    source = chosen.choice(sources())
    body = source.body
    kind = chosen.random()
    if kind < 0.004:
        return absurd(chosen, source)
    if source.spans and kind < 0.95:
        spans = sorted({chosen.choice(source.spans) for _ in range(chosen.choice((1, 1, 2, 4)))})
        for span in reversed(spans):
            if span.end <= len(body):
                body = _replaced(body, span, chosen)
    if kind > 0.8:
        for _ in range(chosen.choice((1, 1, 2, 8))):
            body = broken(body, chosen)
    return body


def absurd(chosen: random.Random, source: Source) -> bytes:
    """A body that is too much of something: depth, length, repeated imps or keys."""
    span = chosen.choice(source.spans) if source.spans else Span(0, 0, -1)
    before, after = source.body[: span.first], source.body[span.end :]
    depth = chosen.choice((200, 1_100, 20_000, 200_000))
    return chosen.choice(
        (
            lambda: before + b"[" * depth + b"]" * depth + after,
            lambda: before + b'{"a":' * depth + b"1" + b"}" * depth + after,
            lambda: b"[" * depth,
            lambda: before + b'"' + b"x" * 1_000_000 + b'"' + after,
            lambda: before + b'"' + b"\\ud800" * 150_000 + b'"' + after,
            lambda: before + b"9" * 900_000 + after,
            lambda: before + b"[" + b",".join([b'{"id":"1"}'] * 50_000) + b"]" + after,
            lambda: b'{"id":"r","imp":[' + b",".join(
                b'{"id":"%d","banner":{"w":300,"h":250}}' % n for n in range(5_000)
            ) + b"]}",
            lambda: b"{" + b'"id":"r",' * 90_000 + b'"imp":[{"id":"1","banner":{}}]}',
            lambda: before + b" " * 900_000 + after,
        )
    )()  # fmt: skip


def broken(body: bytes, chosen: random.Random) -> bytes:
    """Bytes of a body cut, doubled, changed or put in."""
    at = chosen.randrange(len(body) + 1)
    kind = chosen.randrange(5)
    if kind == 0:
        return body[:at]
    if kind == 1:
        return body[:at] + chosen.choice(SCRAPS) + body[at:]
    if kind == 2:
        return body[:at] + bytes([chosen.randrange(256)]) + body[at + 1 :]
    end = min(len(body), at + chosen.randrange(40))
    return body[:at] + body[end:] if kind == 3 else body[:end] + body[at:]


def packed_case(chosen: random.Random) -> tuple[bytes, bytes]:
    """(Content-Encoding, body) of something that says it is compressed: bombs, cuts, lies."""
    kind = chosen.randrange(6)
    coding = chosen.choice((b"gzip", b"gzip", b"gzip", b"x-gzip", b"deflate", b"br", b"gzip, gzip"))
    if kind == 0:
        return coding, bomb(chosen.choice((LIMIT_BYTES - 1, LIMIT_BYTES + 1, 40 << 20)))
    body = gzip.compress(body_case(chosen)[:100_000], 1)
    if kind == 1:
        return coding, body
    if kind == 2:
        return coding, body + body
    if kind == 3:
        return coding, body_case(chosen)[:100_000]
    return coding, broken(body, chosen)


@cache
def bomb(size: int) -> bytes:
    """A gzip body that inflates to ``size`` zeros."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return squeezer.compress(bytes(size)) + squeezer.flush()


def _replaced(body: bytes, span: Span, chosen: random.Random) -> bytes:
    first, end, field = span
    kind = chosen.random()
    value = body[first:end]
    if kind < 0.6:
        new = nasty(chosen)
    elif kind < 0.7:
        new = b"[" + value + b"," + nasty(chosen) + b"]"
    elif kind < 0.75:
        new = b'"' + value.replace(b'"', b"") + b'"'
    elif kind < 0.8:
        new = value.strip(b'"')
    elif kind < 0.9 and field >= 0:
        # The same key twice, with another value.
        return body[:end] + b"," + body[field:first] + nasty(chosen) + body[end:]
    elif field >= 0:
        return body[:field] + chosen.choice((b'"":0', b'"ext":{}', b'"\xff":1', b"")) + body[end:]
    else:
        new = value + b"," + value
    return body[:first] + new + body[end:]
