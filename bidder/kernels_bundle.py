"""Tuples of arrays behind one address: what a call need not unpack every time.

A kernel takes a Python tuple of arrays apart at every call, some 25 ns an array, and a decision
reads fifty of them that change once a snapshot. ``Bundle`` takes such arguments apart once, keeps
the result in memory as the compiler lays it out, and a kernel gets it back by ``opened``.

What is kept are pointers into the arrays, not references: a bundle holds the Python objects, so the
arrays live as long as it does. Where kernels are plain Python (``NUMBA_DISABLE_JIT=1``) the kind
that a bundle hands over is the tuple itself.
"""

# llvmlite and numba's extension interface have no types that a checker could follow.
# pyright: basic
# ruff: noqa: ANN401, ARG001

from __future__ import annotations

from typing import Any, TypeAlias

import numba
import numpy as np
from llvmlite import ir
from numba.core import config, types
from numba.extending import intrinsic

from market.kernel import bare_kernel as kernel

Kind: TypeAlias = Any
"""What a bundle holds: to the compiler a type, in plain Python the tuple itself."""


def _without_owner(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Returns ``value`` with every array's owner cleared: nobody counts references to it."""
    if isinstance(kind, types.Array):
        array = context.make_helper(builder, kind, value=value)
        array.meminfo = ir.Constant(array.meminfo.type, None)
        array.parent = ir.Constant(array.parent.type, None)
        return array._getvalue()  # noqa: SLF001 - numba's own name for it
    if isinstance(kind, types.BaseTuple):
        for place, part in enumerate(kind.types):  # pyright: ignore[reportAttributeAccessIssue]
            inner = builder.extract_value(value, place)
            value = builder.insert_value(
                value, _without_owner(context, builder, part, inner), place
            )
    return value


@intrinsic
def _byte_count(typing_context: Any, value: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        laid_out = context.get_value_type(signature.args[0])
        return context.get_constant(types.intp, context.get_abi_sizeof(laid_out))

    return types.intp(value), build


@intrinsic
def _put(typing_context: Any, address: Any, value: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        laid_out = context.get_value_type(signature.args[1])
        place = builder.inttoptr(arguments[0], laid_out.as_pointer())
        builder.store(_without_owner(context, builder, signature.args[1], arguments[1]), place)
        return context.get_dummy_value()

    return types.void(address, value), build


def _loaded(builder: Any, place: Any) -> Any:
    """Returns what lies at ``place``, read part by part: the compiler drops what nobody uses."""
    laid_out = place.type.pointee
    if isinstance(laid_out, ir.LiteralStructType):
        count = len(laid_out.elements)
    elif isinstance(laid_out, ir.ArrayType):
        count = laid_out.count
    else:
        return builder.load(place)
    value = ir.Constant(laid_out, ir.Undefined)
    for part in range(count):
        at = builder.gep(place, [ir.IntType(32)(0), ir.IntType(32)(part)], inbounds=True)
        value = builder.insert_value(value, _loaded(builder, at), part)
    return value


@intrinsic
def _opened(typing_context: Any, address: Any, kind: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        laid_out = context.get_value_type(signature.return_type)
        return _loaded(builder, builder.inttoptr(arguments[0], laid_out.as_pointer()))

    return kind.instance_type(address, kind), build


@kernel
def _size(value: Any) -> int:
    return _byte_count(value)  # pyright: ignore[reportCallIssue]


@kernel
def _keep(address: int, value: Any) -> None:
    _put(address, value)  # pyright: ignore[reportCallIssue]


# Made at import from numba's own settings, so no stub knows it.
_IS_PLAIN = bool(config.DISABLE_JIT)  # pyright: ignore[reportAttributeAccessIssue]


def _as_it_is(address: int, kind: Any) -> Any:
    return kind


opened: Any = _as_it_is if _IS_PLAIN else _opened
"""``opened(address, kind)`` in a kernel is the bundled tuple. A kernel that is handed the tuple
itself is handed every array of it, word by word; so kernels pass address and kind on, and open."""


class Bundle:
    """A tuple of tuples of arrays, laid out once.

    Attributes:
        address: where it lies; valid as long as the bundle.
        kind: what lies there; an argument of the kernel beside the address.
    """

    def __init__(self, *parts: Any) -> None:
        """Lays the parts out; the arrays stay where they are and may change in place."""
        self._parts = parts
        self.address = 0
        self.kind: Any = parts
        if not _IS_PLAIN:
            self.kind = numba.typeof(parts)
            self._memory = np.zeros(_size(parts), np.uint8)
            self.address = int(self._memory.ctypes.data)
            _keep(self.address, parts)
