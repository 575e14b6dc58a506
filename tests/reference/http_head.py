"""The usual head of a bid request in plain Python: a regular expression and a few rules."""

from __future__ import annotations

import re

_HEAD = re.compile(
    rb"POST (/[^ ]*) HTTP/1\.1\r\n((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\x20-\x7e\t]*\r\n)*)\r\n"
)
_FORBIDDEN = {b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"}


def read_head(data: bytes, paths: list[bytes]) -> tuple[int, int, int, bool] | None:
    """Returns (path number, body's first, body's last + 1, accepts gzip), None for any doubt."""
    found = _HEAD.match(data)
    if found is None or found[1] not in paths:
        return None
    headers = [
        (name.lower(), value.strip(b" \t"))
        for name, _, value in (line.partition(b":") for line in found[2].split(b"\r\n")[:-1])
    ]
    values = dict(headers)
    lengths = [value for name, value in headers if name == b"content-length"]
    is_usual = (
        not _FORBIDDEN & values.keys()
        and len(lengths) == 1
        and re.fullmatch(rb"[0-9]{1,9}", lengths[0]) is not None
        and all(
            v.lower().startswith(b"application/json") for n, v in headers if n == b"content-type"
        )
        and all(v.lower() == b"keep-alive" for n, v in headers if n == b"connection")
        and all(v.startswith(b"2.") for n, v in headers if n == b"x-openrtb-version")
    )
    if not is_usual:
        return None
    first = found.end()
    last = first + int(lengths[0])
    if last > len(data):
        return None
    accepts = any(b"gzip" in v.lower() for n, v in headers if n == b"accept-encoding")
    return paths.index(found[1]), first, last, accepts
