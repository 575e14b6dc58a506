"""The HTTP face of a bid worker: ``POST /bid/{exchange}``, ``/live`` and ``/ready``.

Transport (keep-alive, pipelining, gzip in, limits) is ``ledger.http``; the answer is
``bidder.service``. Source of the statuses: OpenRTB 2.6 section 2.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from ledger.http import Headers, response

if TYPE_CHECKING:
    from collections.abc import Callable

    from bidder.service import BidService
    from market.exchange import ExchangeProfile

_VERSION = ("x-openrtb-version", "2.6")
NO_CONTENT = response(204, b"", _VERSION)
BAD_REQUEST = response(400, b"", _VERSION)
_NOT_FOUND = response(404)
_NOT_ALLOWED = response(405, b"", ("allow", "POST"))
_NOT_READY = response(503, b"no snapshot yet\n")
_TOO_LARGE = response(413)
_ALIVE = response(200, b"alive\n")
_READY = response(200, b"ready\n")
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-openrtb-version: 2.6\r\n"
_GZIP_LEVEL = 1
_FOREIGN_TYPES = (b"protobuf", b"avro")


class BidHandler:
    """Routes a worker's requests; a ``ledger.http.Handler``.

    Attributes:
        service: answers bids; None until the first snapshot is there.
        request_count: bid requests answered, malformed ones included.
    """

    def __init__(
        self,
        profiles: dict[str, ExchangeProfile],
        now_ms: Callable[[], int],
        clock_ns: Callable[[], int],
        before: Callable[[], None],
    ) -> None:
        """Takes the profiles by name, the episode clock, the monotonic clock, and ``before``.

        ``before`` runs ahead of every bid request: it takes in credits and new snapshots.
        """
        self._profiles = {f"/bid/{name}".encode(): profile for name, profile in profiles.items()}
        self._now_ms = now_ms
        self._clock_ns = clock_ns
        self._before = before
        self.service: BidService | None = None
        self.request_count = 0

    def __call__(  # noqa: PLR0911 - one status after the other
        self, method: bytes, path: bytes, query: bytes, headers: Headers, body: bytes,
        arrived_ns: int,
    ) -> bytes:  # fmt: skip
        """Returns the whole HTTP answer."""
        del query
        profile = self._profiles.get(path)
        if profile is None:
            return self._answer_other(path)
        if method != b"POST":
            return _NOT_ALLOWED
        self._before()
        service = self.service
        if service is None:
            return NO_CONTENT
        if len(body) > profile.body_bytes_max:
            return _TOO_LARGE
        self.request_count += 1
        if headers.content_type and any(name in headers.content_type for name in _FOREIGN_TYPES):
            return BAD_REQUEST
        spent_ms = (self._clock_ns() - arrived_ns) / 1e6
        answered = service.answer(body, profile, self._now_ms(), spent_ms)
        if answered.status == 204:
            return NO_CONTENT
        if answered.status == 400:
            return BAD_REQUEST
        if profile.answers_gzip and b"gzip" in headers.accept_encoding:
            packer = zlib.compressobj(_GZIP_LEVEL, wbits=31)
            packed = packer.compress(answered.body) + packer.flush()
            return b"%scontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s" % (
                _HEAD, len(packed), packed,
            )  # fmt: skip
        return b"%scontent-length: %d\r\n\r\n%s" % (_HEAD, len(answered.body), answered.body)

    def _answer_other(self, path: bytes) -> bytes:
        if path == b"/live":
            return _ALIVE
        if path == b"/ready":
            self._before()
            return _NOT_READY if self.service is None else _READY
        return _NOT_FOUND
