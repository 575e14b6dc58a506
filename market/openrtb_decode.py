"""Decodes OpenRTB bodies: in one pass when they are clean, mended field by field when they are not.

The fast path is one decoder over the wide types of `market.openrtb`. What it refuses (a number
that is empty text, a flag that is ``true``, a scalar for an array, an integer beyond int64, a float
that is "nan") goes to the mending: each object is cut into its fields, each field is given to the
decoder of its own type, and only what that refuses is cut further. So a wrong value costs its own
field or array element, and a request is lost only where there is nothing to answer: no JSON
object, no ``id``, no ``imp`` array, no imp that has an id.

Over-long integers are caught here and nowhere else: the bounds of `market.openrtb_types.Int64` make
the decoder refuse them, the mending clamps them (`market.openrtb_reading.integer`).

What this file does not do: judge values that have the right type.
"""

from __future__ import annotations

import functools
import json
import re
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, NoReturn, TypeAlias, cast

import msgspec

from market.errors import BadInput
from market.openrtb import BidRequest, Native, NativeRequest
from market.openrtb_reading import code, finite, integer, number_text


class Dropped(msgspec.Struct, frozen=True):
    """A part of a request that was not taken as it came."""

    pointer: str
    """JSON pointer (RFC 6901) to the part, "" for the whole body."""
    value: str
    """What stood there, as JSON text, shortened."""
    rule: str
    """What was expected there, and what became of the value."""


_Report: TypeAlias = list[Dropped]
_Read: TypeAlias = Callable[[msgspec.Raw, str, _Report], object]
"""(value, pointer to it, report to add to) -> what was read, or None for nothing usable."""
_Scalar: TypeAlias = str | float | bool | None

_REQUESTS = msgspec.json.Decoder(BidRequest, strict=False)
_OBJECTS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAYS = msgspec.json.Decoder(list[msgspec.Raw])

_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_ESCAPES = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair: one character
    r"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})"  # half of one
    r"|.)",
    re.DOTALL,
)
_DIGITS_MAX = 300
"""Digits of an integer that is read exactly; a longer one is out of every range."""
_EXCERPT_BYTES = 80
_SAYS_NOTHING = (b"null", b'""', b"[]", b"{}")


def decode_request(body: bytes) -> BidRequest:
    """The bid request that a body holds, whatever the state of its optional fields.

    Raises:
        BadInput: the body is not JSON, its root is no object, or it has no ``id`` or no ``imp``
            array with at least one usable imp; also when it is nested deeper than the interpreter
            recurses (about a thousand levels).

    Source: OpenRTB 2.6, 2.6 (unknown fields are tolerated) and 3.2.1 (required fields).
    """
    try:
        return _REQUESTS.decode(body)
    except _REFUSED:
        return _mended_request(body)[0]


def decode_request_reporting(body: bytes) -> tuple[BidRequest, tuple[Dropped, ...]]:
    """The bid request, as `decode_request` reads it, and what in it was dropped or mended.

    Raises:
        BadInput: as `decode_request`.
    """
    try:
        return _REQUESTS.decode(body), ()
    except _REFUSED:
        return _mended_request(body)


def native_request_of(native: Native) -> NativeRequest | None:
    """The native markup request of an imp: from its string, its object, or the imp itself.

    A 1.0 request, wrapped in an object with the one field ``native``, is unwrapped. None when
    there is none or it is beyond reading; wrong fields in it cost only themselves.

    Source: OpenRTB Native Ads 1.2, 4.1; OpenRTB 2.6, 3.2.9.
    """
    if len(native.request) == 0:
        return native if native.assets else None
    body = bytes(native.request)
    try:
        if body.startswith(b'"'):
            body = cast("str", json.loads(_json(body, []).decode())).encode()
        body = _json(body, [])
        wrapped = _OBJECTS.decode(body).get("native")
        root = msgspec.Raw(body) if wrapped is None else wrapped
        return cast("NativeRequest | None", _reader(NativeRequest)(root, "", []))
    except _REFUSED:
        return None


def _mended_request(body: bytes) -> tuple[BidRequest, tuple[Dropped, ...]]:
    report: _Report = []
    try:
        fields = _OBJECTS.decode(_json(body, report))
        imps = fields.get("imp")
        if imps is None or not _opens(imps, b"["):
            _refuse("imp", imps, "an array of impressions")
        values = _field_values(BidRequest, fields, "", report)
        if "id" not in values:
            _refuse("id", fields.get("id"), "text that is not empty")
        if not values["imp"]:
            _refuse("imp", imps, "an array with at least one impression that has an id")
        return BidRequest(**values), tuple(report)
    except msgspec.ValidationError as error:
        raise BadInput(f"bid request: {error}; the root must be an object") from error
    except msgspec.DecodeError as error:
        raise BadInput(f"bid request: {error}; it must be JSON") from error
    except RecursionError as error:
        raise BadInput(
            "bid request: it is nested deeper than about a thousand levels; it must be flatter"
        ) from error


def _refuse(name: str, raw: msgspec.Raw | None, rule: str) -> NoReturn:
    found = "absent" if raw is None else _excerpt(raw)
    raise BadInput(f"bid request: {name} is {found}; it must be {rule}", f"/{name}")


def _json(body: bytes, report: _Report) -> bytes:
    """The body with U+FFFD for what no text holds: bytes that are no UTF-8, halves of characters.

    Senders cut titles and city names in the middle of a character. The fast path takes such bytes
    where it does not look (unknown fields), so they must not cost the request elsewhere.
    """
    text = body.decode("utf-8", "replace")
    mended = _ESCAPES.sub(lambda found: "\\ufffd" if found["lone"] else found[0], text)
    encoded = mended.encode()
    if encoded != body:
        report.append(Dropped("", "", "expected UTF-8; what is no character is read as U+FFFD"))
    return encoded


@functools.cache
def _reader(kind: object) -> _Read:
    """A reader for values of a type: its decoder, then, for what that refuses, its mending."""
    decode = msgspec.json.Decoder(cast("type[object]", kind), strict=False).decode
    mend = _mending(kind)
    unreadable = _unreadable(kind)

    def read(raw: msgspec.Raw, pointer: str, report: _Report) -> object:
        try:
            return decode(raw)
        except msgspec.ValidationError:
            value = mend(raw, pointer, report)
        if value is not None or unreadable is None or bytes(raw) in _SAYS_NOTHING:
            return value
        report.append(Dropped(pointer, _excerpt(raw), f"a privacy signal; read as {unreadable}"))
        return unreadable

    return read


def _unreadable(kind: object) -> object:
    """What a value of this type that no mending can read stands for.

    None, which is absent, for all but privacy signals (`market.openrtb_types.Signal`).
    """
    if typing.get_origin(kind) is Annotated:
        for constraint in typing.get_args(kind)[1:]:
            if "unreadable" in (constraint.extra or {}):
                return constraint.extra["unreadable"]
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        found = (_unreadable(option) for option in typing.get_args(kind))
        return next((each for each in found if each is not None), None)
    return None


def _mending(kind: object) -> _Read:
    """What to do with a value that the decoder of its type refuses. None stands for absent."""
    plain, separator = _plain_types(kind)
    for option in plain:
        if typing.get_origin(option) is list:
            return _array_mending(_reader(typing.get_args(option)[0]))
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            return _object_mending(option)
    return _scalar_mending(frozenset(plain), separator)


def _plain_types(kind: object) -> tuple[list[object], str | None]:
    """The alternatives of a type without None and constraints, and the separator it names."""
    if typing.get_origin(kind) is Annotated:
        inner, *constraints = typing.get_args(kind)
        plain, separator = _plain_types(inner)
        for constraint in constraints:
            separator = (constraint.extra or {}).get("separator", separator)
        return plain, separator
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return [kind], None
    plain: list[object] = []
    separator: str | None = None
    for option in typing.get_args(kind):
        if option is not types.NoneType:
            found, named = _plain_types(option)
            plain += found
            separator = named or separator
    return plain, separator


def _object_mending(struct: type[msgspec.Struct]) -> _Read:
    def mend(raw: msgspec.Raw, pointer: str, report: _Report) -> object:
        if (only := _only_element(raw)) is not None:
            report.append(
                Dropped(pointer, _excerpt(raw), "expected an object; its array is opened")
            )
            raw, pointer = only, f"{pointer}/0"
        if not _opens(raw, b"{"):
            report.append(Dropped(pointer, _excerpt(raw), "expected an object; dropped"))
            return None
        values = _field_values(struct, _OBJECTS.decode(raw), pointer, report)
        for field in _fields(struct):
            if field.is_required and field.name not in values:
                rule = f"expected an object with {field.name}; dropped"
                report.append(Dropped(pointer, _excerpt(raw), rule))
                return None
        return struct(**values)

    _fields(struct)  # built at import: the first dirty request must not wait for it
    return mend


class _Field(NamedTuple):
    name: str
    is_required: bool
    read: _Read


@functools.cache
def _fields(struct: type[msgspec.Struct]) -> tuple[_Field, ...]:
    return tuple(
        _Field(field.name, field.required, _reader(field.type))
        for field in msgspec.structs.fields(struct)
    )


def _field_values(
    struct: type[msgspec.Struct], fields: dict[str, msgspec.Raw], pointer: str, report: _Report
) -> dict[str, Any]:
    """The values of an object's known fields, without those that are absent or unusable."""
    values: dict[str, Any] = {}
    for name, _, read in _fields(struct):
        raw = fields.get(name)
        if raw is not None and (value := read(raw, f"{pointer}/{name}", report)) is not None:
            values[name] = value
    return values


def _array_mending(read_element: _Read) -> _Read:
    def mend(raw: msgspec.Raw, pointer: str, report: _Report) -> object:
        if _opens(raw, b"["):
            found = [
                read_element(element, f"{pointer}/{index}", report)
                for index, element in enumerate(_ARRAYS.decode(raw))
            ]
            return [element for element in found if element is not None]
        if bytes(raw) == b'""':
            report.append(Dropped(pointer, _excerpt(raw), "expected an array; dropped"))
            return None
        if (element := read_element(raw, pointer, report)) is None:
            return None
        report.append(Dropped(pointer, _excerpt(raw), "expected an array; read as an array of one"))
        return [element]

    return mend


def _scalar_mending(plain: frozenset[object], separator: str | None) -> _Read:
    noun, convert = _CONVERSIONS.get(plain, ("text", _text))

    def mend(raw: msgspec.Raw, pointer: str, report: _Report) -> object:
        value: object
        if separator is not None and _opens(raw, b"["):
            elements = [_scalar(element) for element in _ARRAYS.decode(raw)]
            value = separator.join(text for text in map(_text, elements) if text) or None
        else:
            only = _only_element(raw)
            value = convert(_scalar(raw if only is None else only))
        fate = "dropped" if value is None else f"read as {str(value)[:_EXCERPT_BYTES]}"
        report.append(Dropped(pointer, _excerpt(raw), f"expected {noun}; {fate}"))
        return value

    return mend


def _text(value: _Scalar) -> str | None:
    return None if isinstance(value, bool) else number_text(value)


def _integer(value: _Scalar) -> int | None:
    return None if value is None else integer(value)


def _finite(value: _Scalar) -> float | None:
    return None if value is None or isinstance(value, bool) else finite(value)


def _code(value: _Scalar) -> int | None:
    return None if value is None else code(value)


_CONVERSIONS: dict[frozenset[object], tuple[str, Callable[[_Scalar], object]]] = {
    frozenset({int}): ("an integer within int64", _integer),
    frozenset({float}): ("a finite number", _finite),
    frozenset({str, int}): ("an integer within int64", _code),
}
"""How a scalar is mended, by the plain alternatives of its type; all others are text."""


def _scalar(raw: msgspec.Raw) -> _Scalar:
    """The value of a scalar; None for null, and for arrays and objects, which no scalar means."""
    if _opens(raw, b"[") or _opens(raw, b"{"):
        return None
    return cast("_Scalar", json.loads(bytes(raw).decode(), parse_int=_number))


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS_MAX else float(digits)


def _only_element(raw: msgspec.Raw) -> msgspec.Raw | None:
    """The element of an array of one, which senders put where one value belongs."""
    if not _opens(raw, b"["):
        return None
    elements = _ARRAYS.decode(raw)
    return elements[0] if len(elements) == 1 else None


def _opens(raw: msgspec.Raw, bracket: bytes) -> bool:
    return bytes(memoryview(raw)[:1]) == bracket


def _excerpt(raw: msgspec.Raw) -> str:
    shown = bytes(memoryview(raw)[:_EXCERPT_BYTES]).decode("utf-8", "ignore")
    return shown if len(raw) <= _EXCERPT_BYTES else f"{shown}…"


_fields(BidRequest)
_reader(NativeRequest)
