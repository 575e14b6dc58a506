"""The HTTP face of a bid worker: ``POST /bid/{exchange}``, ``/live``, ``/ready``, ``/metrics``.

Transport (keep-alive, pipelining, gzip in, limits) is ``ledger.http``; what is refused before it is
looked at, ``bidder.shedding``; the answer, ``bidder.service``. Source of the statuses: OpenRTB 2.6
section 2.

``/live`` is 200 while the process turns. ``/ready`` is 200 from the first snapshot on, when every
kernel is compiled, and stays so whatever becomes of recorder and controller: the worker then bids
from its leases, and ``/metrics`` tells that it does.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple, cast

from bidder.metrics import STATUS_200, STATUS_204, STATUS_400, STATUS_413
from ledger.http import TOO_LARGE, Headers, accepts_gzip, response
from market.decision import NoBidReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from bidder.metrics import Meter, WorkerMetrics
    from bidder.native import engine as native
    from bidder.native.engine import Engine
    from bidder.service import BidService
    from bidder.shedding import Gate, Shedder
    from market.exchange import ExchangeProfile

_VERSION = ("x-openrtb-version", "2.6")
NO_CONTENT = response(204, b"", _VERSION)
BAD_REQUEST = response(400, b"", _VERSION)
_NOT_FOUND = response(404)
_NOT_ALLOWED = response(405, b"", ("allow", "POST"))
_NOT_READY = response(503, b"no snapshot yet\n")
_ALIVE = response(200, b"alive\n")
_READY = response(200, b"ready\n")
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-openrtb-version: 2.6\r\n"
_GZIP_LEVEL = 1
_FOREIGN_TYPES = (b"protobuf", b"avro")
_NO_SNAPSHOT = int(NoBidReason.NOT_READY)


class Lane(NamedTuple):
    """What one exchange's requests meet: looked up once, by the path of the request."""

    profile: ExchangeProfile
    gate: Gate
    meter: Meter


class BidHandler:
    """Routes a worker's requests; a ``ledger.http.Handler``.

    Attributes:
        service: answers bids; None until the first snapshot is there.
        request_count: bid requests answered, malformed and refused ones included.
    """

    def __init__(
        self,
        profiles: dict[str, ExchangeProfile],
        now_ms: Callable[[], int],
        clock_ns: Callable[[], int],
        before: Callable[[], None],
        shedder: Shedder,
        metrics: WorkerMetrics,
        expose: Callable[[], bytes],
    ) -> None:
        """Takes what a worker holds.

        Args:
            profiles: by name.
            now_ms: the run's clock.
            clock_ns: monotonic.
            before: runs ahead of every bid request: takes in credits and new snapshots.
            shedder: says which requests are refused unread.
            metrics: what to count in.
            expose: makes the answer to ``/metrics``.
        """
        self._lanes = {
            f"/bid/{name}".encode(): Lane(
                profile, shedder.gates[name], metrics.meters[profile.exchange_id]
            )
            for name, profile in profiles.items()
        }
        self._now_ms = now_ms
        self._clock_ns = clock_ns
        self._before = before
        self._refusal = shedder.refusal
        self._expose = expose
        self.service: BidService | None = None
        self.request_count = 0
        self._engine: Engine | None = None
        self._native: list[tuple[Lane, native.Lane]] = []

    def use(self, engine: Engine | None) -> None:
        """Answers natively what ``engine`` can; None: everything on the default path."""
        self._engine = engine
        lanes = () if engine is None else engine.lanes
        self._native = list(zip(self._lanes.values(), lanes, strict=engine is not None))

    def stream(self, data: bytes, arrived_ns: int) -> tuple[bytes, int]:
        """Answers whole bid requests at the start of ``data``; a ``ledger.http.Stream``.

        Only the usual kind of request is looked at here; what the engine leaves, the default path
        answers in its place, so that answers keep their order.
        """
        engine = self._engine
        if engine is None or not engine.load(data):
            return b"", 0
        used, count = 0, len(data)
        answers: list[bytes] = []
        while used < count:
            number, first, last, is_gzip = engine.head(used, count)
            if number < 0:
                break
            lane, native_lane = self._native[number]
            profile, gate, meter = lane
            if (is_gzip and profile.answers_gzip) or last - first > profile.body_bytes_max:
                break
            used = last
            self._before()
            self.request_count += 1
            waited_ns = self._clock_ns() - arrived_ns
            refusal = self._refusal(gate, waited_ns)
            if refusal:
                answers.append(_refuse(meter, refusal))
                continue
            answer = engine.answer(native_lane, first, last, self._now_ms(), arrived_ns)
            if answer is None:
                # What the native path took is gone from the time that is left.
                waited_ns = self._clock_ns() - arrived_ns
                answer = self._answer_default(lane, data[first:last], waited_ns, is_gzip=False)
            else:
                meter.responses[STATUS_204 if answer is NO_CONTENT else STATUS_200] += 1
            answers.append(answer)
        return answers[0] if len(answers) == 1 else b"".join(answers), used

    def __call__(  # noqa: PLR0911 - one status after the other
        self, method: bytes, path: bytes, query: bytes, headers: Headers, body: bytes,
        arrived_ns: int,
    ) -> bytes:  # fmt: skip
        """Returns the whole HTTP answer."""
        del query
        lane = self._lanes.get(path)
        if lane is None:
            return self._answer_other(path)
        if method != b"POST":
            return _NOT_ALLOWED
        self._before()
        profile, gate, meter = lane
        service = self.service
        if service is None:
            return _refuse(meter, _NO_SNAPSHOT)
        self.request_count += 1
        waited_ns = self._clock_ns() - arrived_ns
        refusal = self._refusal(gate, waited_ns)
        if refusal:
            return _refuse(meter, refusal)
        if len(body) > profile.body_bytes_max:
            meter.responses[STATUS_413] += 1
            return TOO_LARGE
        if headers.content_type and _is_foreign(headers.content_type):
            meter.responses[STATUS_400] += 1
            return BAD_REQUEST
        is_gzip = profile.answers_gzip and accepts_gzip(headers.accept_encoding)
        return self._answer_default(lane, body, waited_ns, is_gzip=is_gzip)

    def _answer_default(self, lane: Lane, body: bytes, waited_ns: int, *, is_gzip: bool) -> bytes:
        """Returns the default path's answer as HTTP."""
        profile, _, meter = lane
        service = cast("BidService", self.service)
        answered = service.answer(body, profile, self._now_ms(), waited_ns / 1e6)
        if answered.status == 204:
            meter.responses[STATUS_204] += 1
            return NO_CONTENT
        if answered.status == 400:
            meter.responses[STATUS_400] += 1
            return BAD_REQUEST
        meter.responses[STATUS_200] += 1
        return framed(answered.body, is_gzip=is_gzip)

    def _answer_other(self, path: bytes) -> bytes:
        if path == b"/live":
            return _ALIVE
        if path == b"/ready":
            self._before()
            return _NOT_READY if self.service is None else _READY
        if path == b"/metrics":
            return self._expose()
        return _NOT_FOUND


def framed(body: bytes, *, is_gzip: bool = False) -> bytes:
    """Returns an answer with a body as HTTP."""
    if is_gzip:
        packer = zlib.compressobj(_GZIP_LEVEL, wbits=31)
        packed = packer.compress(body) + packer.flush()
        return b"%scontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s" % (
            HEAD, len(packed), packed,
        )  # fmt: skip
    return b"%scontent-length: %d\r\n\r\n%s" % (HEAD, len(body), body)


def _is_foreign(content_type: bytes) -> bool:
    name = content_type.lower()
    return any(foreign in name for foreign in _FOREIGN_TYPES)


def _refuse(meter: Meter, reason: int) -> bytes:
    """Counts a request that is answered unread."""
    meter.no_bids[reason] += 1
    meter.responses[STATUS_204] += 1
    return NO_CONTENT
