"""JSON as RFC 8259 has it, by the standard library: what the scanner of the native path must see.

Slow and obvious: decode the bytes strictly, hand them to ``json`` with everything switched off that
is no JSON, and keep numbers as decimals.
"""

from __future__ import annotations

import json
from decimal import Decimal


def value_of(text: bytes):
    """The value of a JSON text and the number of bytes it takes, or None when it is no JSON.

    Numbers are Decimals. Halves of surrogate pairs, which the grammar lets pass, are refused.
    """

    def refuse(word):
        raise ValueError(word)

    decoder = json.JSONDecoder(
        parse_float=Decimal, parse_int=Decimal, parse_constant=refuse, strict=True
    )
    try:
        characters = text.decode("utf-8")
        value, end = decoder.raw_decode(characters)
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    except (ValueError, RecursionError):
        return None
    return value, len(characters[:end].encode())


def depth_of(value) -> int:
    """How many brackets are open around the innermost value."""
    if isinstance(value, dict):
        return 1 + max((depth_of(each) for each in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth_of(each) for each in value), default=0)
    return 0
