"""Lax decoding: a wrong value costs its field; a request is lost only with nothing to answer."""

from __future__ import annotations

import functools
import json
import math
import types
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market import openrtb_decode
from market.errors import BadInput
from market.openrtb import BidRequest, Native
from market.openrtb_decode import (
    Dropped,
    decode_request,
    decode_request_reporting,
    native_request_of,
)
from market.openrtb_types import INT64_MAX, INT64_MIN

# --- a request in which every field of every object is set ---------------------------------------


def example(kind: Any) -> Any:
    """A JSON value of a type, with every field and one element in every array."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return example(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return example(next(option for option in arguments if option is not type(None)))
    if origin is list:
        return [example(arguments[0])]
    if issubclass(kind, msgspec.Struct):
        return {field.name: example(field.type) for field in msgspec.structs.fields(kind)}
    return {str: "x", int: 7, float: 0.5, msgspec.Raw: {"vendor": [1]}}[kind]


def pointers_of(value: Any, pointer: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a JSON value, its root excepted and vendor extensions not entered."""
    children = (
        enumerate(value) if isinstance(value, list) else value.items() if value != EXT else ()
    )
    found: list[tuple[str | int, ...]] = []
    for step, child in children:
        here = (*pointer, step)
        found.append(here)
        if isinstance(child, (dict, list)):
            found += pointers_of(child, here)
    return found


EXT = {"vendor": [1]}
RICH = example(BidRequest)
# Losing one of these loses the only imp, and with it the request.
ESSENTIAL = {("id",), ("imp",), ("imp", 0), ("imp", 0, "id")}
OPTIONAL = [pointer for pointer in pointers_of(RICH) if pointer not in ESSENTIAL]
HOLE = "@hole@"
WRONG = [
    "null", "true", "false", "0", "-1", "2.5", "1e999", "9" * 23, '""', '"x"', '" 3 "', '"nan"',
    "[]", "{}", "[null]", "[[]]", "[{}]", '[1,"x",2.5]', '{"id":{}}', r'"\ud83d"',
]  # fmt: skip


@functools.cache
def rich_around(pointer: tuple[str | int, ...]) -> tuple[str, str]:
    """The text of the rich request before and after the value at a place."""
    root = json.loads(json.dumps(RICH))
    parent = functools.reduce(lambda value, step: value[step], pointer[:-1], root)
    parent[pointer[-1]] = HOLE
    before, after = json.dumps(root).split(json.dumps(HOLE))
    return before, after


def rich_with(pointer: tuple[str | int, ...], text: str) -> bytes:
    """The rich request with the value at a place replaced by JSON text."""
    before, after = rich_around(pointer)
    return f"{before}{text}{after}".encode()


def fields_of(value: Any) -> dict[str | int, Any]:
    if isinstance(value, list):
        return dict(enumerate(value))
    return {name: getattr(value, name) for name in value.__struct_fields__}


def assert_equal_beside(found: Any, expected: Any, pointer: tuple[str | int, ...]) -> None:
    """Everything is equal that is neither on the way to the place nor below it."""
    step, *rest = pointer
    if found is None or found == []:  # the part that holds the place could not do without it
        return
    for name, value in fields_of(expected).items():
        if name != step:
            assert fields_of(found)[name] == value
    if rest and fields_of(found).get(step) is not None:
        assert_equal_beside(fields_of(found)[step], fields_of(expected)[step], tuple(rest))


def all_values(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [deep for element in value for deep in all_values(element)]
    if isinstance(value, msgspec.Struct):
        return [deep for field in fields_of(value).values() for deep in all_values(field)]
    return [value]


ANY_CHARACTER = st.text(st.characters(exclude_categories=()))
JSON_TEXT = st.one_of(
    st.recursive(
        st.none() | st.booleans() | st.integers() | ANY_CHARACTER
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(ANY_CHARACTER, inner, max_size=4),
        max_leaves=8,
    ).map(json.dumps),
    st.sampled_from([
        "1e999", "-1e999", "1e400", "0.1e-999", "9" * 23, "-" + "9" * 23, "9" * 5000, '""', '" 3 "',
        '"nan"', '"inf"', '"' + "9" * 5000 + '"', r'"\ud83d"', r'"\udc00 x"', r'{"\ud800":[1e999]}',
        "[" * 100 + "]" * 100, '{"a":' * 100 + "1" + "}" * 100, "[[]]", "[{}]", "[null]", "{}",
    ]),
)  # fmt: skip


def test_a_request_with_every_field_set_takes_the_fast_path() -> None:
    request, dropped = decode_request_reporting(json.dumps(RICH).encode())
    assert dropped == ()
    assert all(value is not None for value in all_values(request))


def test_mending_a_clean_request_changes_nothing() -> None:
    body = json.dumps(RICH, separators=(",", ":")).encode()
    mended, dropped = openrtb_decode._mended_request(body)
    assert mended == decode_request(body)
    assert dropped == ()


@pytest.mark.parametrize("text", WRONG)
def test_no_wrong_value_in_any_optional_place_costs_the_request(text: str) -> None:
    for pointer in OPTIONAL:
        request = decode_request(rich_with(pointer, text))
        assert (request.id, request.imp[0].id) == ("x", "x"), pointer


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(OPTIONAL), JSON_TEXT)
def test_no_optional_field_costs_the_request_or_another_field(
    pointer: tuple[str | int, ...], text: str
) -> None:
    request, dropped = decode_request_reporting(rich_with(pointer, text))
    assert_equal_beside(request, decode_request(json.dumps(RICH).encode()), pointer)
    place = "".join(f"/{step}" for step in pointer)
    for part in dropped:
        assert (
            part.pointer == "" or part.pointer.startswith(place) or place.startswith(part.pointer)
        )


def integers_of(kind: Any, value: Any) -> list[int]:
    """The integers in a value, save those whose type is text that may come as a number."""
    plain, _ = openrtb_decode._plain_types(kind)
    if isinstance(value, msgspec.Struct):
        return [
            number
            for name, field_type in types_of(type(value))
            for number in integers_of(field_type, getattr(value, name))
        ]
    if isinstance(value, list):
        element = typing.get_args(next(one for one in plain if typing.get_origin(one) is list))[0]
        return [number for one in value for number in integers_of(element, one)]
    return [value] if isinstance(value, int) and float not in plain else []


@functools.cache
def types_of(struct: type[msgspec.Struct]) -> list[tuple[str, Any]]:
    return [(field.name, field.type) for field in msgspec.structs.fields(struct)]


@pytest.mark.parametrize(
    "text", ["9" * 23, "-" + "9" * 23, "9" * 19, "1e999", '"' + "9" * 23 + '"']
)
def test_every_integer_that_is_decoded_fits_an_array(text: str) -> None:
    for pointer in OPTIONAL:
        request = decode_request(rich_with(pointer, text))
        numbers = integers_of(BidRequest, request)
        assert len(numbers) > 100
        assert all(INT64_MIN <= number <= INT64_MAX for number in numbers), pointer
        assert all(
            math.isfinite(value) for value in all_values(request) if isinstance(value, float)
        ), pointer


def assert_request_or_bad_input(body: bytes) -> None:
    try:
        request = decode_request(body)
    except BadInput:
        return
    assert request.id
    assert all(imp.id for imp in request.imp)
    msgspec.json.encode(request)  # no half characters, which nothing could send on


@settings(max_examples=400, deadline=None)
@given(st.binary() | JSON_TEXT.map(str.encode))
def test_any_bytes_are_a_request_or_bad_input(body: bytes) -> None:
    assert_request_or_bad_input(body)


@settings(max_examples=400, deadline=None)
@given(
    st.integers(min_value=0),
    st.integers(min_value=0, max_value=4),
    st.binary(max_size=4) | st.sampled_from([b"NaN", b"\\", b'"', b"[" * 2000, b"\xff", b"\x00"]),
)
def test_a_damaged_request_is_a_request_or_bad_input(at: int, cut: int, put: bytes) -> None:
    body = json.dumps(RICH).encode()
    at %= len(body)
    assert_request_or_bad_input(body[:at] + put + body[at + cut :])


# --- what costs the request ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message", "pointer"),
    [
        (b"", "must be JSON", ""),
        (b"malformed", "must be JSON", ""),
        (b'{"id":"r","imp":[{"id":"1"}],}', "must be JSON", ""),
        (b'{"id":"r","imp":[{"id":"1"}]', "must be JSON", ""),
        (b'{"id":"r","imp":[{"id":"1"}]} {}', "must be JSON", ""),
        (b'{"id":"r","imp":[{"id":"1"}],"tmax":NaN}', "must be JSON", ""),
        (b'{"id":"r","imp":[{"id":"1"}],"ext":{"x":"\\xF0"}}', "must be JSON", ""),
        (b'{"id":"r","imp":[{"id":"1","secure":""}],"ext":{"x":"\x01"}}', "must be JSON", ""),
        (b"\x1f\x8b\x08", "must be JSON", ""),
        (b"[]", "root must be an object", ""),
        (b"null", "root must be an object", ""),
        (b'"{}"', "root must be an object", ""),
        (b"{}", "imp is absent", "/imp"),
        (b'{"id":"r"}', "imp is absent", "/imp"),
        (b'{"id":"r","imp":null}', "imp is null", "/imp"),
        (b'{"id":"r","imp":[]}', r"imp is \[\]", "/imp"),
        (b'{"id":"r","imp":{"id":"1"}}', "imp is .* an array", "/imp"),
        (b'{"id":"r","imp":"1"}', "imp is .* an array", "/imp"),
        (b'{"id":"r","imp":[{"id":null},{"banner":{}},3]}', "at least one impression", "/imp"),
        (b'{"imp":[{"id":"1"}]}', "id is absent", "/id"),
        (b'{"id":null,"imp":[{"id":"1"}]}', "id is null", "/id"),
        (b'{"id":"","imp":[{"id":"1"}]}', 'id is ""', "/id"),
        (b'{"id":{},"imp":[{"id":"1"}]}', "id is {}", "/id"),
        (b'{"id":true,"imp":[{"id":"1"}]}', "id is true", "/id"),
    ],
)
def test_only_a_request_without_anything_to_answer_is_bad_input(
    body: bytes, message: str, pointer: str
) -> None:
    with pytest.raises(BadInput, match=message) as raised:
        decode_request(body)
    assert raised.value.pointer == pointer
    with pytest.raises(BadInput, match=message):
        decode_request_reporting(body)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("before", [b'{"id":"r","ext":', b'{"tmax":"","ext":', b""])
def test_a_body_that_is_nested_without_end_is_bad_input(before: bytes, opening: bytes) -> None:
    with pytest.raises(BadInput, match=r"nested|JSON|root"):
        decode_request(before + opening * 100_000)


# --- what is mended, and how ---------------------------------------------------------------------


def only_imp(fields: str) -> Any:
    return decode_request(b'{"id":"r","imp":[{"id":"1",%s}]}' % fields.encode()).imp[0]


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("320", 320),
        ('"320"', 320),
        ("320.0", 320),
        ('"320.0"', 320),
        ("320.7", 320),
        ('" 3 "', 3),
        ("true", 1),
        ("false", 0),
        ('"true"', 1),
        ("[300]", 300),
        ("1e3", 1000),
        ("9" * 23, INT64_MAX),
        ("-" + "9" * 23, INT64_MIN),
        ('"' + "9" * 23 + '"', INT64_MAX),
        ("9" * 5000, INT64_MAX),
        ("1e999", INT64_MAX),
        ("null", None),
        ('"null"', None),
        ('""', None),
        ('"wide"', None),
        ("{}", None),
        ("[]", None),
        ("[1,2]", None),
        ("[[1]]", None),
    ],
)
def test_an_integer_is_read_however_it_is_sent(sent: str, read: int | None) -> None:
    assert only_imp(f'"secure":{sent}').secure == read


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("1.5", 1.5),
        ('"1.5"', 1.5),
        ('" 1.5 "', 1.5),
        ("2", 2.0),
        ("9" * 23, 1e23),
        ('"nan"', None),
        ('"inf"', None),
        ("1e999", None),
        ("9" * 5000, None),
        ("true", None),
        ('""', None),
        ("[0.5]", 0.5),
    ],
)
def test_a_floor_is_a_finite_number_or_absent(sent: str, read: float | None) -> None:
    assert only_imp(f'"bidfloor":{sent}').bidfloor == read


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ('"USD"', "USD"),
        ("840", "840"),
        ("9" * 23, "9" * 23),
        ("84.0", "84"),
        ('["USD"]', "USD"),
        ("true", None),
        ("{}", None),
        ('["USD","EUR"]', None),
        (r'"\ud83d!"', "\ufffd!"),
        (r'"\\ud83d"', r"\ud83d"),
        (r'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (r'"\ude00\ud83d\u0041"', "\ufffd\ufffdA"),
    ],
)
def test_text_is_read_however_it_is_sent(sent: str, read: str | None) -> None:
    assert only_imp(f'"bidfloorcur":{sent}').bidfloorcur == read


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ('[1,"2",3.0]', [1, "2", 3]),
        ('["VAST 2.0",true]', ["VAST 2.0", 1]),
        ("[1,null,{},[2],2.5,4]", [1, 2, 4]),
        ("[" + "9" * 23 + "]", [INT64_MAX]),
        ("3", [3]),
        ('"VAST 2.0"', ["VAST 2.0"]),
        ('"3"', ["3"]),
        ("null", None),
        ('""', None),
        ("{}", None),
        ("[]", []),
    ],
)
def test_codes_are_read_however_they_are_sent(sent: str, read: list[str | int] | None) -> None:
    assert only_imp(f'"video":{{"protocols":{sent}}}').video.protocols == read


def test_an_object_in_place_of_its_array_is_an_array_of_one() -> None:
    assert only_imp('"banner":{"format":{"w":1}}').banner.format[0].w == 1
    assert only_imp('"banner":[{"w":1}]').banner.w == 1
    assert only_imp('"banner":[]').banner is None


def test_keywords_in_an_array_are_joined() -> None:
    body = b'{"id":"r","imp":[{"id":"1"}],"user":{"id":4,"keywords":["a",2,true,"","b c"]}}'
    user = decode_request(body).user
    assert user is not None
    assert (user.id, user.keywords) == (4, "a,2,b c")


def test_an_imp_that_is_unusable_costs_only_itself() -> None:
    body = b'{"id":"r","imp":[7,null,{"id":"1"},{"banner":{}},{"id":2},{"id":""}]}'
    request, dropped = decode_request_reporting(body)
    assert [imp.id for imp in request.imp] == ["1", "2"]
    assert [(part.pointer, part.value) for part in dropped] == [
        ("/imp/0", "7"),
        ("/imp/1", "null"),
        ("/imp/3", '{"banner":{}}'),
        ("/imp/4/id", "2"),
        ("/imp/5/id", '""'),
        ("/imp/5", '{"id":""}'),
    ]


def test_a_deal_without_an_id_costs_only_itself() -> None:
    imp = only_imp('"pmp":{"private_auction":1,"deals":[{"bidfloor":2},{"id":77},{"id":"d"}]}')
    assert imp.pmp.private_auction == 1
    assert [deal.id for deal in imp.pmp.deals] == [77, "d"]


def test_a_vendor_extension_is_kept_as_it_came() -> None:
    clean = only_imp('"ext":{"a": [1e999]}')
    mended = only_imp('"secure":"","ext":{"a": [1e999]}')
    assert bytes(clean.ext) == bytes(mended.ext) == b'{"a": [1e999]}'
    assert len(only_imp('"secure":""').ext) == 0


def test_bytes_that_are_no_utf8_cost_a_character_and_not_the_request() -> None:
    body = b'{"id":"r","imp":[{"id":"1"}],"device":{"geo":{"city":"K\xf6ln"}}}'
    request, dropped = decode_request_reporting(body)
    assert request.device is not None
    assert request.device.geo is not None
    assert request.device.geo.city == "K\ufffdln"
    assert [part.pointer for part in dropped] == [""]


def test_a_report_names_the_place_the_value_and_what_became_of_it() -> None:
    body = b'{"id":"r","imp":[{"id":"1","instl":true}],"tmax":"soon","cur":"EUR","source":"%s"}'
    _, dropped = decode_request_reporting(body % (b"s" * 200))
    assert dropped == (
        Dropped("/imp/0/instl", "true", "expected an integer within int64; read as 1"),
        Dropped("/tmax", '"soon"', "expected an integer within int64; dropped"),
        Dropped("/cur", '"EUR"', "expected an array; read as an array of one"),
        Dropped("/source", '"' + "s" * 79 + "…", "expected an object; dropped"),
    )


def test_a_report_points_into_the_array_that_stood_for_an_object() -> None:
    _, dropped = decode_request_reporting(b'{"id":"r","imp":[{"id":"1"}],"app":[{"paid":"no"}]}')
    assert [part.pointer for part in dropped] == ["/app", "/app/0/paid"]


def test_the_last_of_two_equal_keys_wins_on_both_paths() -> None:
    assert decode_request(b'{"id":"a","imp":[{"id":"1"}],"id":"b"}').id == "b"
    assert decode_request(b'{"id":"a","imp":[{"id":"1"}],"id":"b","at":""}').id == "b"


# --- native --------------------------------------------------------------------------------------

ASSETS = '{"ver":"1.2","assets":[{"id":1,"required":true,"title":{"len":"90"}}]}'


@pytest.mark.parametrize(
    "native",
    [
        f'{{"request":{json.dumps(ASSETS)}}}',
        f'{{"request":{json.dumps(json.dumps({"native": json.loads(ASSETS)}))}}}',
        f'{{"request":{ASSETS}}}',
        f'{{"request":{{"native":{ASSETS}}}}}',
        ASSETS,
    ],
    ids=["string", "1.0 string", "object", "1.0 object", "in place"],
)
def test_a_native_request_is_read_from_wherever_it_stands(native: str) -> None:
    found = only_imp(f'"native":{native}').native
    asked = native_request_of(found)
    assert asked is not None
    assert (asked.ver, len(asked.assets or ())) == ("1.2", 1)
    asset = (asked.assets or ())[0]
    assert asset.title is not None
    assert (asset.id, asset.required, asset.title.len) == (1, 1, 90)


@pytest.mark.parametrize("sent", ['""', '"..."', "null", "3", "[]", '"[]"', '"\\"{}\\""', '"NaN"'])
def test_a_native_request_beyond_reading_is_none(sent: str) -> None:
    assert native_request_of(only_imp(f'"native":{{"request":{sent}}}').native) is None
    assert native_request_of(Native()) is None


@settings(deadline=None)
@given(JSON_TEXT | JSON_TEXT.map(json.dumps) | ANY_CHARACTER.map(json.dumps))
def test_no_native_request_raises(sent: str) -> None:
    native_request_of(only_imp(f'"native":{{"request":{sent}}}').native)


@pytest.mark.parametrize("garbled", ['"yes"', '{"applies": 1}', "[1, 2]", '"1x"'])
@pytest.mark.parametrize("field", ["coppa", "gdpr"])
def test_a_garbled_flag_that_protects_the_user_reads_as_set(field: str, garbled: str) -> None:
    body = f'{{"id":"1","imp":[{{"id":"1"}}],"regs":{{"{field}":{garbled}}}}}'
    request, report = decode_request_reporting(body.encode())
    assert getattr(request.regs, field) == 1
    assert report[-1].pointer == f"/regs/{field}"
    assert report[-1].rule == "a privacy signal; read as 1"


@pytest.mark.parametrize("nothing", ["null", '""', "[]", "{}"])
def test_a_flag_that_says_nothing_at_all_is_absent(nothing: str) -> None:
    body = f'{{"id":"1","imp":[{{"id":"1"}}],"regs":{{"coppa":{nothing}}}}}'
    request, _ = decode_request_reporting(body.encode())
    assert request.regs is not None
    assert request.regs.coppa is None


def test_garbled_privacy_texts_and_sections_are_kept_as_unreadable() -> None:
    request, _ = decode_request_reporting(
        b'{"id":"1","imp":[{"id":"1"}],"user":{"consent":true},'
        b'"regs":{"us_privacy":{"a":1},"ext":{"gpp":[1,2],"gpp_sid":[7,{"a":1}]}}}'
    )
    assert request.user is not None
    assert request.user.consent == "?"
    assert request.regs is not None
    assert request.regs.us_privacy == "?"
    assert request.regs.ext is not None
    assert request.regs.ext.gpp == "?"
    assert request.regs.ext.gpp_sid == [7, "?"]
