"""Unaligned loads from bytes: one byte, eight as a word, 32 as a mask of those that end a string.

An array index in a kernel costs a comparison for negative numbers, and eight bytes eight loads;
these read memory as it lies and check nothing. Their plain twins, which check every index, take
their place under NUMBA_DISABLE_JIT=1 and NUMBA_BOUNDSCHECK=1, so that a test run with either finds
a load outside of its array.
"""

# numba's intrinsics are handed objects of the compiler, which have no types to name.
# ruff: noqa: ANN401, PLR1714

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

from market.kernel import bare_kernel as kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]

_CHUNK = 32
_EIGHT = np.uint64(8)
_ONE = np.uint32(1)


def _is_bytes(array: Any) -> bool:
    return isinstance(array, types.Array) and array.dtype == types.uint8 and array.ndim == 1


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    index = context.cast(builder, arguments[1], signature.args[1], types.int64)
    return builder.gep(array.data, [index])


def _loader(result: Any, kind: Any) -> Any:
    """Returns the typing and code of a load of ``kind`` at (bytes, index), as numba wants them."""

    def typing(_context: Any, array: Any, index: Any) -> Any:
        if not (_is_bytes(array) and isinstance(index, types.Integer)):
            return None

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address = _address(context, builder, signature, arguments)
            return builder.load(builder.bitcast(address, kind.as_pointer()), align=1)

        return result(array, index), code

    return typing


@intrinsic  # pyright: ignore[reportUntypedFunctionDecorator]
def _byte_at(context: Any, array: Any, index: Any) -> Any:
    return _loader(types.uint8, ir.IntType(8))(context, array, index)


@intrinsic  # pyright: ignore[reportUntypedFunctionDecorator]
def _word_at(context: Any, array: Any, index: Any) -> Any:
    return _loader(types.uint64, ir.IntType(64))(context, array, index)


@intrinsic  # pyright: ignore[reportUntypedFunctionDecorator]
def _special_bits(_context: Any, array: Any, index: Any) -> Any:
    if not (_is_bytes(array) and isinstance(index, types.Integer)):
        return None

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        chunk = ir.VectorType(ir.IntType(8), _CHUNK)

        def each(byte: int) -> Any:
            return ir.Constant(chunk, [byte] * _CHUNK)

        address = _address(context, builder, signature, arguments)
        text = builder.load(builder.bitcast(address, chunk.as_pointer()), align=1)
        is_quote = builder.icmp_signed("==", text, each(34))
        is_backslash = builder.icmp_signed("==", text, each(92))
        # As signed bytes those from 128 on are negative.
        is_foreign = builder.icmp_signed("<", text, each(32))
        special = builder.or_(builder.or_(is_quote, is_backslash), is_foreign)
        return builder.bitcast(special, ir.IntType(_CHUNK))

    return types.uint32(array, index), code


@intrinsic  # pyright: ignore[reportUntypedFunctionDecorator]
def _first_bit(_context: Any, bits: Any) -> Any:
    if bits != types.uint32:
        return None

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        found = builder.cttz(arguments[0], cgutils.true_bit)
        return builder.zext(found, ir.IntType(64))

    return types.int64(bits), code


def _plain_byte_at(body: Bytes, at: int) -> np.uint8:
    assert at >= 0
    return body[at]


def _plain_word_at(body: Bytes, at: int) -> np.uint64:
    assert at >= 0
    word = np.uint64(0)
    for i in range(8):
        word |= np.uint64(body[at + i]) << (_EIGHT * np.uint64(i))
    return word


def _plain_special_bits(body: Bytes, at: int) -> np.uint32:
    assert at >= 0
    bits = np.uint32(0)
    for i in range(_CHUNK):
        byte = body[at + i]
        if byte == 34 or byte == 92 or byte < 32 or byte >= 128:
            bits |= np.uint32(_ONE << np.uint32(i))
    return bits


def _plain_first_bit(bits: np.uint32) -> int:
    at = 0
    while not bits & np.uint32(1):
        bits >>= np.uint32(1)
        at += 1
    return at


_is_checked = bool(config.DISABLE_JIT or config.BOUNDSCHECK)  # pyright: ignore[reportAttributeAccessIssue]

byte_at = cast(
    "Callable[[Bytes, int], np.uint8]", kernel(_plain_byte_at) if _is_checked else _byte_at
)
"""(bytes, position) -> the byte there."""
word_at = cast(
    "Callable[[Bytes, int], np.uint64]", kernel(_plain_word_at) if _is_checked else _word_at
)
"""(bytes, position) -> the eight bytes from there on, the first lowest."""
special_bits = cast(
    "Callable[[Bytes, int], np.uint32]",
    kernel(_plain_special_bits) if _is_checked else _special_bits,
)
"""(bytes, position) -> bit k set: byte k from there on is a quote, a backslash, a control character
or beyond ASCII."""
first_bit = cast(
    "Callable[[np.uint32], int]", kernel(_plain_first_bit) if _is_checked else _first_bit
)
"""(bits) -> place of the lowest bit that is set; at least one must be."""
