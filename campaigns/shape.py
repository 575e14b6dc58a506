"""Reads a JSON body into a frozen type, naming every field that does not fit, not only the first.

msgspec stops at the first mistake; a form wants all of them. So the body is walked along the type:
what fits is kept, what does not is reported with its JSON pointer and replaced by the field's
default, so that the rest can still be judged. Where nothing is reported the result is exactly
what msgspec itself decodes (a property test holds it to that).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, cast

import msgspec
from msgspec import inspect

from campaigns.refusals import Refusal, RefusalKind, invalid_campaign
from market.campaign import Problem
from market.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

VALUE_CHARS_MAX = 200
"""A longer value is cut in a problem: it is shown to say which one is meant."""

_UNUSABLE = object()
"""Stands for a Struct that refuses to be built even from defaults."""

_LEAVES: dict[type[inspect.Type], tuple[type, str]] = {
    inspect.StrType: (str, "must be text"),
    inspect.IntType: (int, "must be an integer"),
    inspect.FloatType: (float, "must be a number"),
    inspect.BoolType: (bool, "must be true or false"),
}


class Shaped(NamedTuple, Generic[T]):
    """What a body was read as.

    Attributes:
        value: the body; where it did not fit, a default stands.
        problems: every place that did not fit, in document order.
    """

    value: T
    problems: tuple[Problem, ...]


def decode_json(body: bytes) -> object:
    """Returns a JSON body as dicts, lists and scalars.

    Raises:
        Refusal: MALFORMED_JSON.
    """
    try:
        return msgspec.json.decode(body)
    # Depth and encoding are not of msgspec's own error class.
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(RefusalKind.MALFORMED_JSON, f"the body is no JSON: {error}") from error


def shape(value: object, into: type[T]) -> Shaped[T]:
    """Returns a decoded JSON value as a Struct type, with every place that does not fit.

    Raises:
        Refusal: INVALID_CAMPAIGN, when so much does not fit that no stand-in can be made.
    """
    problems: list[Problem] = []
    mended = _mend(_type_info(into), value, "", problems)
    if mended is _UNUSABLE:
        raise invalid_campaign(tuple(problems))
    return Shaped(msgspec.convert(mended, into), tuple(problems))


def judged(misfits: tuple[Problem, ...], rules: Iterable[Problem]) -> tuple[Problem, ...]:
    """Returns misfits of shape and broken rules together, without rules that judge a stand-in.

    Where a field did not fit its default was judged instead; what that broke says nothing about
    the body. Such are the field itself, what it holds, what holds it, and its neighbours (a goal
    of an unknown kind does not lack a target).
    """

    def is_consequence(rule: Problem) -> bool:
        return any(
            _is_within(rule.pointer, misfit.pointer)
            or _is_within(misfit.pointer, rule.pointer)
            or (_parent(misfit.pointer) and _parent(misfit.pointer) == _parent(rule.pointer))
            for misfit in misfits
        )

    return (*misfits, *(rule for rule in rules if not is_consequence(rule)))


def pointer_token(name: str) -> str:
    """Returns a name as it stands in a JSON pointer (RFC 6901 section 3)."""
    return name.replace("~", "~0").replace("/", "~1")


def merge_patch(target: object, patch: object) -> object:
    """Returns ``target`` changed by a JSON merge patch; null removes.

    Source: RFC 7396 section 2.
    """
    if not isinstance(patch, dict):
        return patch
    merged: dict[str, object] = {}
    if isinstance(target, dict):
        merged.update(cast("dict[str, object]", target))
    for name, value in cast("dict[str, object]", patch).items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


@functools.cache
def _type_info(into: type) -> inspect.Type:
    return inspect.type_info(into)


def _mend(node: inspect.Type, value: object, at: str, problems: list[Problem]) -> object:
    """Returns ``value`` as something that converts to ``node``; a problem says where it did not."""
    match node:
        case inspect.StructType():
            return _mend_struct(node, value, at, problems)
        case inspect.DictType() if isinstance(value, dict):
            entries = cast("dict[str, object]", value).items()
            return {
                name: _mend(node.value_type, each, f"{at}/{pointer_token(name)}", problems)
                for name, each in entries
            }
        case inspect.VarTupleType() if isinstance(value, list):
            entries = enumerate(cast("list[object]", value))
            items = [_mend(node.item_type, each, f"{at}/{i}", problems) for i, each in entries]
            return [each for each in items if each is not _UNUSABLE]
        case inspect.UnionType() if value is not None:
            (inner,) = (each for each in node.types if not isinstance(each, inspect.NoneType))
            return _mend(inner, value, at, problems)
        case _ if _fits(node, value):
            return value
        case _:
            return _misfit(node, value, at, problems)


def _fits(node: inspect.Type, value: object) -> bool:
    """Returns whether a scalar is what ``node`` asks for."""
    match node:
        case inspect.UnionType():
            return value is None
        case inspect.EnumType():
            return value in _names(node)
        case inspect.FloatType():
            # JSON knows one kind of number; a bool is none.
            return type(value) in (int, float)
        case _:
            return type(node) in _LEAVES and type(value) is _LEAVES[type(node)][0]


def _mend_struct(
    node: inspect.StructType, value: object, at: str, problems: list[Problem]
) -> object:
    if not isinstance(value, dict):
        return _misfit(node, value, at, problems)
    given = cast("dict[str, object]", value)
    fields = {field.encode_name: field for field in node.fields}
    found: list[Problem] = []
    mended: dict[str, object] = {}
    for name, each in given.items():
        pointer = f"{at}/{pointer_token(name)}"
        field = fields.get(name)
        if field is None:
            rule = f"is no field; must be one of {', '.join(fields)}"
            found.append(Problem(pointer, _shown(each), rule))
            continue
        before = len(found)
        mended[name] = _mend(field.type, each, pointer, found)
        is_itself_wrong = len(found) > before and found[before].pointer == pointer
        if not field.required and (mended[name] is _UNUSABLE or is_itself_wrong):
            del mended[name]
    for name, field in fields.items():
        if field.required and name not in given:
            found.append(Problem(f"{at}/{name}", "missing", "is required"))
            mended[name] = _blank(field.type)
    refusal = _refusal_of(node, mended)
    if refusal is not None and not found:
        # A part that is always used within one whole may count its pointer from there.
        own = refusal.pointer.removeprefix(f"/{at.rpartition('/')[2]}")
        found.append(Problem(at + own, _shown(_at(mended, own)), str(refusal)))
    problems.extend(found)
    return mended if refusal is None else _UNUSABLE


def _refusal_of(node: inspect.StructType, mended: dict[str, object]) -> BadInput | None:
    """Returns why the Struct refuses to be built (its ``__post_init__``), None if it does not."""
    if any(value is _UNUSABLE for value in mended.values()):
        return BadInput("a part of it cannot be built")
    try:
        msgspec.convert(mended, node.cls)
    except BadInput as error:
        return error
    return None


def _misfit(node: inspect.Type, value: object, at: str, problems: list[Problem]) -> object:
    match node:
        case inspect.StructType() | inspect.DictType():
            rule = "must be an object"
        case inspect.VarTupleType():
            rule = "must be a list"
        case inspect.EnumType():
            rule = f"must be one of {', '.join(_names(node))}"
        case _:
            rule = _LEAVES[type(node)][1]
    problems.append(Problem(at, _shown(value), rule))
    return _blank(node)


def _blank(node: inspect.Type) -> object:
    """Returns the plainest JSON value that converts to ``node``."""
    match node:
        case inspect.StructType():
            return {f.encode_name: _blank(f.type) for f in node.fields if f.required}
        case inspect.DictType():
            return {}
        case inspect.VarTupleType():
            return []
        case inspect.UnionType():
            return None
        case inspect.EnumType():
            return _names(node)[0]
        case _:
            return _LEAVES[type(node)][0]()


def _names(node: inspect.EnumType) -> list[str]:
    return [str(member.value) for member in node.cls]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= VALUE_CHARS_MAX else f"{text[: VALUE_CHARS_MAX - 3]}..."


def _at(value: object, pointer: str) -> object:
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        value = cast("dict[str, object]", value).get(name) if isinstance(value, dict) else None
    return value


def _is_within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(f"{outer}/")


def _parent(pointer: str) -> str:
    return pointer.rpartition("/")[0]
