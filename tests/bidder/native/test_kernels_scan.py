"""The scanner sees in bytes what the standard library sees, or bails."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.native.kernels_scan import (
    DEPTH,
    DEPTH_MAX,
    ENCODING,
    FLOAT_MANTISSA_MAX,
    IS_ESCAPED,
    IS_WIDE,
    MALFORMED,
    NUMBER,
    PLACE,
    float_number,
    number,
    number_end,
    skip_space,
    skip_value,
    string_end,
    whole_number,
)
from bidder.native.kernels_value import unescape, write_integer
from bidder.native.wire import BODY_PAD, TEXT_MAX
from tests.reference.json_text import depth_of, value_of

pytestmark = pytest.mark.plain

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip
JSON_BYTES = (
    b'{}[],:"\\ \t\n0123456789.eE+-truefalsn\x00\x1f\x7f\x80\xc3\xa9\xed\xa0\xf0\x9f\x98\x80u'
)


def padded(text, filler=0x5B):
    """The text in an array with the bytes behind it that a reader may look at."""
    body = np.full(len(text) + BODY_PAD, filler, np.uint8)
    body[: len(text)] = np.frombuffer(text, np.uint8)
    return body


def end_of(text):
    return int(skip_value(padded(text), 0, len(text)))


def is_json(text):
    """Whether the text is one JSON value and nothing else."""
    found = value_of(text)
    return found is not None and found[1] == len(text)


@given(JSON, st.booleans(), st.sampled_from([None, 1]))
def test_every_json_value_is_skipped_to_its_end(value, is_ascii, indent):
    text = json.dumps(value, ensure_ascii=is_ascii, indent=indent).encode(errors="surrogatepass")
    found = value_of(text)
    if found is None:  # half a surrogate pair
        assert end_of(text) == ENCODING
    else:
        assert end_of(text) in (len(text), NUMBER)


@given(
    st.one_of(
        st.lists(st.sampled_from([bytes([byte]) for byte in JSON_BYTES]), max_size=30).map(
            b"".join
        ),
        st.binary(max_size=20),
        st.tuples(JSON, st.integers(0, 60), st.binary(max_size=3)).map(
            lambda parts: bytes(json.dumps(parts[0]), "ascii")[: parts[1]] + parts[2]
        ),
    )
)
def test_what_is_accepted_is_json_and_ends_where_json_ends(text):
    if not text:
        return
    end = end_of(text)
    if end >= 0:
        assert is_json(text[:end]), text
        # It ends where it must: a longer beginning of the text is no JSON.
        assert not any(is_json(text[:more]) for more in range(end + 1, len(text) + 1)), text
    elif is_json(text):
        assert end == NUMBER, text


@pytest.mark.parametrize(
    "text",
    [
        b'"\x1f"', b'"\\x41"', b'"\\u12G4"', b'"open', b"{", b"[1,]", b'{"a":1,}', b'{"a" 1}',
        b"01",
        b"-", b"1.", b".5", b"1e", b"+1", b"NaN", b"Infinity", b"tru", b"nul", b"'a'", b"[1 2]",
        b'{1:2}', b'{"a"}', b"]", b"}", b'{"a":1]', b"[1}", b"\xef\xbb\xbf1", b"//",
    ],
)  # fmt: skip
def test_what_is_no_json_is_malformed(text):
    assert end_of(text) == MALFORMED


@pytest.mark.parametrize(
    "sequence",
    [
        b"\x80", b"\xc0\xaf", b"\xc1\xbf", b"\xc3", b"\xe0\x80\xaf", b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80",
        b"\xff", b"\xe2\x82", b"\xf0\x9f\x98",
    ],
)  # fmt: skip
def test_bytes_that_are_no_utf_8_are_refused(sequence):
    assert value_of(b'"' + sequence + b'"') is None
    assert end_of(b'"' + sequence + b'"') == ENCODING


@given(st.text())
def test_a_string_ends_at_its_closing_quote_and_says_what_it_holds(text):
    is_whole = not any(0xD800 <= ord(char) <= 0xDFFF for char in text)
    written = json.dumps(text, ensure_ascii=False).encode(errors="surrogatepass")
    end = int(string_end(padded(written), 1, len(written)))
    if not is_whole:
        assert end == ENCODING
        return
    assert end & PLACE == len(written) - 1
    assert bool(end & IS_ESCAPED) == (b"\\" in written)
    assert bool(end & IS_WIDE) == (not text.isascii())


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\b\f")))
def test_an_unescaped_string_is_what_json_reads(text):
    for written in (json.dumps(text), json.dumps(text, ensure_ascii=False)):
        body = padded(written.encode())
        out = np.zeros(TEXT_MAX, np.uint8)
        count = int(unescape(body, 1, len(written.encode()) - 1, out))
        if count >= 0:
            assert out[:count].tobytes().decode() == text
        else:  # a control character
            assert any(ord(char) < 32 for char in text)


def test_a_string_longer_than_the_scratch_is_not_written_beyond_it():
    written = b'"' + b"\\u00e9" * TEXT_MAX + b'"'
    out = np.zeros(TEXT_MAX, np.uint8)
    assert unescape(padded(written), 1, len(written) - 1, out) < 0


@given(st.integers(-(10**17), 10**17), st.integers(0, 12), st.integers(-4, 4), st.booleans())
def test_a_number_is_the_decimal_that_stands_there(digits, places, exponent, has_exponent):
    plain = format(Decimal(digits).scaleb(-places), "f")
    text = f"{plain}e{exponent}" if has_exponent else plain
    raw = text.encode()
    end, mantissa, scale = (int(part) for part in number(padded(raw), 0, len(raw)))
    assert int(number_end(padded(raw), 0, len(raw))) == len(raw)
    if end == NUMBER:
        assert len(plain.replace(".", "").strip("-")) > 17
        return
    assert end == len(raw)
    assert Decimal(mantissa).scaleb(scale) == Decimal(text)
    is_exact, value = float_number(mantissa, scale)
    if is_exact:
        assert abs(mantissa) <= FLOAT_MANTISSA_MAX
        assert value == float(text)
    else:
        assert value == pytest.approx(float(text), rel=1e-15)
    is_whole, whole = whole_number(mantissa, scale)
    if is_whole:
        assert whole == Decimal(text)


@given(st.integers(0, 200), st.integers(1, 400))
def test_digits_beyond_eighteen_are_cut_off_and_never_read_as_an_integer(whole, places):
    text = f"{whole}.{'0' * (places - 1)}1".encode()
    end, mantissa, scale = (int(part) for part in number(padded(text), 0, len(text)))
    assert end in (len(text), NUMBER)
    if end == len(text):
        assert not whole_number(mantissa, scale)[0]


@given(st.integers(-(2**62), 2**62))
def test_an_integer_is_written_as_python_writes_it(value):
    out = np.zeros(40, np.uint8)
    count = int(write_integer(value, out))
    assert out[:count].tobytes() == str(value).encode()


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nesting_is_followed_to_a_limit(opening):
    closing = b"]" if opening == b"[" else b"}"
    fits = opening * DEPTH_MAX + b"1" + closing * DEPTH_MAX
    assert depth_of(value_of(fits)[0]) == DEPTH_MAX
    assert end_of(fits) == len(fits)
    assert end_of(opening * 200 + b"1" + closing * 200) == DEPTH
    assert end_of(opening * 30_000) == DEPTH


@pytest.mark.parametrize("filler", b'["{,:1 \\tu}]')
def test_bytes_behind_the_body_are_never_believed(filler):
    whole = b'{"a":[1,{"b":"\\u00e9c"},true,null],"d":-1.5e3}'
    for last in range(1, len(whole)):
        body = padded(whole[:last], filler)
        end = int(skip_value(body, 0, last))
        assert end < 0
    assert skip_space(padded(b"   ", filler), 0, 3) == 3
