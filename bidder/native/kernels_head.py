"""The head of a bid request as machine code: request line and headers, for the usual exchange.

What is read here is a strict part of HTTP/1.1: a POST to a known path with a body of stated length,
and no header that changes how a request is framed or answered. Everything else, however legal, is
left to ``ledger.http``, which knows all of it; so a doubt is never decided here.

Source: RFC 9112 sections 3, 5 and 6; RFC 9110 sections 5.5 and 5.6.2 (field values, tokens).
"""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from market.kernel import bare_kernel as kernel

if TYPE_CHECKING:
    import numpy.typing as npt

LEFT = -1
"""Left to the whole HTTP server."""
_CR, _LF, _TAB, _BLANK, _COLON, _DELETE = 13, 10, 9, 32, 58, 127


def _texts(*names: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(name.ljust(32, b"\0") for name in names), np.uint8).reshape(
        -1, 32
    )


def _token_bytes() -> npt.NDArray[np.uint8]:
    """Lower case of every byte that a header's name may hold (RFC 9110 5.6.2), 0 for the others."""
    table = np.zeros(256, np.uint8)
    for byte in b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz":
        table[byte] = byte
    for byte in b"ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        table[byte] = byte + 32
    return table


_LOWER = _token_bytes()
_METHOD = _texts(b"POST ")
_VERSION = _texts(b" HTTP/1.1\r\n")
# Names that matter, by number below.
_NAMES = _texts(
    b"content-length", b"content-type", b"connection", b"accept-encoding", b"x-openrtb-version",
    b"content-encoding", b"transfer-encoding", b"expect", b"upgrade",
)  # fmt: skip
_NAME_LENGTHS = np.array([14, 12, 10, 15, 17, 16, 17, 6, 7], np.int64)
_CONTENT_LENGTH, _CONTENT_TYPE, _CONNECTION, _ACCEPT_ENCODING, _OPENRTB = range(5)
_FIRST_FORBIDDEN = 5
_JSON = _texts(b"application/json")
_KEEP_ALIVE = _texts(b"keep-alive")
_TWO = _texts(b"2.")
_GZIP = _texts(b"gzip")


@kernel
def starts_with(
    data: npt.NDArray[np.uint8], at: int, last: int, text: npt.NDArray[np.uint8], length: int
) -> bool:
    """Returns whether data[at:last] begins with ``length`` bytes of ``text``."""
    same = 0
    while same < length and at + same < last and data[at + same] == text[same]:
        same += 1
    return same == length


@kernel
def _is_value(
    data: npt.NDArray[np.uint8], at: int, last: int, text: npt.NDArray[np.uint8], length: int
) -> bool:
    """Returns whether data[at:last], in lower case, begins with ``text``."""
    same = 0
    while (
        same < length
        and at + same < last
        and (_LOWER[data[at + same]] == text[same] or data[at + same] == text[same])
    ):
        same += 1
    return same == length


@kernel
def _holds(
    data: npt.NDArray[np.uint8], at: int, last: int, text: npt.NDArray[np.uint8], length: int
) -> bool:
    """Returns whether ``text`` is somewhere in data[at:last], in lower case."""
    while at < last and not _is_value(data, at, last, text, length):
        at += 1
    return at < last


@kernel
def _name_number(data: npt.NDArray[np.uint8], at: int, last: int) -> int:
    """Returns which of the names that matter data[at:last] is, -1 if it is another."""
    found = -1
    for number in range(_NAMES.shape[0]):
        if last - at == _NAME_LENGTHS[number] and _is_value(
            data, at, last, _NAMES[number], last - at
        ):
            found = number
    return found


@kernel
def _decimal(data: npt.NDArray[np.uint8], at: int, last: int) -> int:
    """Returns the number that data[at:last] writes in digits, LEFT if it is none or too large."""
    if last <= at or last - at > 9:
        return LEFT
    number = 0
    for i in range(at, last):
        digit = np.int64(data[i]) - 48
        if digit < 0 or digit > 9:
            return LEFT
        number = number * 10 + digit
    return number


@kernel
def _request_line(
    data: npt.NDArray[np.uint8],
    first: int,
    last: int,
    paths: npt.NDArray[np.uint8],
    path_lengths: npt.NDArray[np.int64],
) -> tuple[int, int]:
    """Returns (path number, first byte of the headers); LEFT and LEFT for another request."""
    if starts_with(data, first, last, _METHOD[0], 5):
        for number in range(paths.shape[0]):
            end = first + 5 + path_lengths[number]
            if starts_with(data, first + 5, last, paths[number], path_lengths[number]) and (
                starts_with(data, end, last, _VERSION[0], 11)
            ):
                return number, end + 11
    return LEFT, LEFT


@kernel
def _field(data: npt.NDArray[np.uint8], at: int, last: int) -> tuple[int, int, int, int]:
    """Returns (name's number, first and last + 1 of its value, the next line) of one header line.

    The next line is LEFT where the line is not whole, or not written as usual.
    """
    colon = at
    while colon < last and _LOWER[data[colon]] != 0:
        colon += 1
    if colon == at or colon >= last or data[colon] != _COLON:
        return LEFT, 0, 0, LEFT
    end = colon + 1
    while end < last and (_BLANK <= data[end] < _DELETE or data[end] == _TAB):
        end += 1
    if last - end < 2 or data[end] != _CR or data[end + 1] != _LF:
        return LEFT, 0, 0, LEFT
    start, stop = colon + 1, end
    while start < stop and (data[start] == _BLANK or data[start] == _TAB):
        start += 1
    while stop > start and (data[stop - 1] == _BLANK or data[stop - 1] == _TAB):
        stop -= 1
    return _name_number(data, at, colon), start, stop, end + 2


@kernel
def _is_usual(data: npt.NDArray[np.uint8], name: int, start: int, stop: int) -> bool:
    """Returns whether a header with this value leaves framing and answer as they are."""
    if name == _CONTENT_TYPE:
        return _is_value(data, start, stop, _JSON[0], 16)
    if name == _CONNECTION:
        return stop - start == 10 and _is_value(data, start, stop, _KEEP_ALIVE[0], 10)
    if name == _OPENRTB:
        return starts_with(data, start, stop, _TWO[0], 2)
    return name < _FIRST_FORBIDDEN


@kernel
def read_head(
    data: npt.NDArray[np.uint8],
    first: int,
    last: int,
    paths: npt.NDArray[np.uint8],
    path_lengths: npt.NDArray[np.int64],
) -> tuple[int, int, int, bool]:
    """Returns (path number, first byte of the body, its last + 1, whether gzip is accepted).

    Path number LEFT: data[first:last] does not begin with a whole request of the usual kind.

    Args:
        data: what came, [*] uint8.
        first: where the request begins.
        last: past the last byte that came.
        paths: [P, *] uint8, targets in full.
        path_lengths: [P] int64.
    """
    path, at = _request_line(data, first, last, paths, path_lengths)
    length = LEFT
    accepts_gzip = False
    while at >= 0 and last - at >= 2:
        if data[at] == _CR:
            body = at + 2
            if data[at + 1] != _LF or length < 0 or body + length > last:
                break
            return path, body, body + length, accepts_gzip
        name, start, stop, following = _field(data, at, last)
        if following < 0 or not _is_usual(data, name, start, stop):
            break
        if name == _CONTENT_LENGTH:
            if length >= 0:
                break
            length = _decimal(data, start, stop)
            if length < 0:
                break
        accepts_gzip = accepts_gzip or (
            name == _ACCEPT_ENCODING and _holds(data, start, stop, _GZIP[0], 4)
        )
        at = following
    return LEFT, 0, 0, False
