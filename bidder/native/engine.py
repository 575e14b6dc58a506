"""The native path of a worker: a request's bytes in, its answer's bytes out.

Reads with the reader kernel, decides and records at the desk that the default path uses too, and
renders with the renderer kernel. Whatever the reader does not understand is left to the default
path (`bidder.service`) before anything was changed, and counted by cause; what the default path
then worked out once (a consent string, a slot, a supply chain) is remembered for the next request
that says the same. Answers, events and money are those of the default path, to the byte.

What it deliberately does not do: decide anything by itself, or tell why there is no bid (an
exchange that asks for reasons gets them from the default path).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from bidder.kernels_bundle import Bundle
from bidder.metrics import SAMPLE_EVERY, Stage
from bidder.native.kernels_answer import (
    DECIDED,
    LIMIT_COUNT,
    TOLD_ALLOWED_NS,
    TOLD_COUNT,
    TOLD_FORMAT,
    TOLD_PHASE,
    TOLD_PLACES,
    TOLD_REASON,
    TOLD_ROW,
    UNREAD,
    answer_bundled,
)
from bidder.native.kernels_head import read_head
from bidder.native.kernels_render import MISSING
from bidder.native.kernels_request import read_bundled
from bidder.native.wire import BODY_PAD, IMPS_MAX, Bail, Count
from bidder.server import NO_CONTENT, framed
from bidder.service import Answered
from market.decision import REASON_RANKS, NoBidReason
from market.errors import BadInput
from market.kernel import compiled_for
from market.openrtb_decode import decode_request
from market.opportunity import FORMAT_COUNT, Opportunities

if TYPE_CHECKING:
    from collections.abc import Callable

    from bidder.metrics import Meter
    from bidder.native.reader import Reader
    from bidder.native.renderer import Renderer
    from bidder.service import BidService
    from market.exchange import ExchangeProfile
    from market.snapshot import Snapshot

BUFFER_BYTES: Final = 1 << 18
"""What comes in one piece beyond this is left to the default path."""

_RECORDS, _REFUSALS, _TMAX, _WHOLE = (
    int(Count.RECORDS), int(Count.REFUSALS), int(Count.TMAX_MS), int(Count.REQUEST_REFUSAL),
)  # fmt: skip
_DECODE, _DECIDE, _EVENT, _RENDER, _TRANSPORT = (
    int(Stage.DECODE), int(Stage.DECIDE), int(Stage.EVENT), int(Stage.RENDER), int(Stage.TRANSPORT),
)  # fmt: skip
_SAMPLE_MASK = SAMPLE_EVERY - 1
_MISSES = (
    int(Bail.PRIVACY_MISS), int(Bail.SUPPLY_MISS), int(Bail.SLOT_MISS), int(Bail.AGENT_MISS),
)  # fmt: skip
_FORMAT_BITS = {1 << bit: bit for bit in range(FORMAT_COUNT)}
_HEAD_END = b"\r\n\r\n"


class Lane(NamedTuple):
    """What the native path knows of an exchange: looked up once, not per request."""

    profile: ExchangeProfile
    row: int
    record: np.void
    meter: Meter
    tmax_ms_default: int
    network_buffer_ms: int
    waits: bool


class Engine:
    """Answers for one worker.

    Attributes:
        bails: requests that were left to the default path, by `Bail`.
    """

    def __init__(
        self,
        service: BidService,
        reader: Reader,
        renderer: Renderer,
        profiles: dict[str, ExchangeProfile],
        clock_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        """Takes the default path, and what reads and renders without it.

        Args:
            service: answers what is left to it; its desk decides for both.
            reader: made with the same salt, vendor id and supply as the service's edge.
            renderer: of the service's answers, with the HTTP head of an answer that bids.
            profiles: by name, in the order of ``paths``.
            clock_ns: monotonic, as the service's.
        """
        self.bails = service.metrics.left
        self._service = service
        self._desk = service.desk
        self._reader = reader
        self._renderer = renderer
        self._clock_ns = clock_ns
        self._needs_ns = service.metrics.stages.needs_ns
        self._turn = 0
        self.lanes = tuple(
            Lane(
                profile, row, reader.profile(profile), service.metrics.meters[profile.exchange_id],
                profile.tmax_ms_default, profile.network_buffer_ms, profile.waits,
            )
            for row, profile in enumerate(profiles.values())
        )  # fmt: skip
        self._by_name = {lane.profile.name: lane for lane in self.lanes}
        paths = [f"/bid/{name}".encode() for name in profiles]
        self._paths = np.zeros((len(paths), max(map(len, paths))), np.uint8)
        for row, path in zip(self._paths, paths, strict=True):
            row[: len(path)] = np.frombuffer(path, np.uint8)
        self._path_lengths = np.array([len(path) for path in paths], np.int64)
        self._buffer = np.zeros(BUFFER_BYTES + BODY_PAD, np.uint8)
        self._view = self._buffer.data
        wire = reader.wire
        self._wire = wire
        self._counts = wire.counts.data
        self._refusals = wire.refusals
        self._imp_index = wire.imp_index
        self._records = [wire.records[n : n + 1] for n in range(IMPS_MAX)]
        self._block = Opportunities(wire.records, wire.codes, wire.deals)
        self._first = Opportunities(self._records[0], wire.codes, wire.deals)
        decisions = self._desk.decisions
        self._rows: Any = self._desk.rows
        self._reasons: Any = decisions["reason"]
        self._formats: Any = decisions["format"]
        self._read_head: Any = compiled_for(
            read_head, self._buffer, 0, 0, self._paths, self._path_lengths
        )
        profile_rows = np.concatenate([lane.record.reshape(1) for lane in self.lanes])
        keys = np.array([*reader.salts, *reader.memo_key], np.uint64)
        self._bundle = Bundle(self._buffer, profile_rows, keys, reader.memory.tables, wire)
        self._read_request: Any = compiled_for(
            read_bundled, self._bundle.address, self._bundle.kind, 0, 0, 0, 0
        )
        self._limits = np.array(
            [
                (lane.tmax_ms_default, lane.network_buffer_ms, lane.meter.time_ns_max, lane.waits)
                for lane in self.lanes
            ],
            np.int64,
        ).reshape(-1, LIMIT_COUNT)
        told = np.zeros(TOLD_PLACES, np.int64)
        self._told_array, self._told = told, told.data
        renderer.warm_up()
        self._bind()

    def swap(self, snapshot: Snapshot) -> None:
        """Answers with ``snapshot`` from the next request on; the service has it already."""
        self._renderer.swap(self._service.answers, snapshot)
        self._reader.memory.hold(snapshot.arrays.deal_codes.tolist())
        self._bind()

    def _bind(self) -> None:
        """Lays out what the one call of the usual request reads, and looks up its machine code."""
        desk, renderer = self._desk, self._renderer
        decider = desk.decider
        decider.make_ready(self._block)
        settings = np.array([decider.worker, decider.snapshot.head.seed], np.int64)
        self._writing = Bundle(
            self._limits, settings, np.array([decider.sample_rate]), desk.decisions, desk.events,
            renderer.fragments, renderer.signing, renderer.out, self._told_array,
        )  # fmt: skip
        self._decide_bundle = decider.bundle
        self._answer_request: Any = compiled_for(
            answer_bundled, self._bundle.address, self._bundle.kind, decider.bundle.address,
            decider.bundle.kind, self._writing.address, self._writing.kind, 0, 0, 0, 0, 0, -1,
        )  # fmt: skip

    def load(self, data: bytes) -> bool:
        """Takes bytes into the buffer in which all offsets lie; False if they are too many."""
        count = len(data)
        if count > BUFFER_BYTES:
            return False
        self._view[:count] = data
        return True

    def head(self, first: int, last: int) -> tuple[int, int, int, bool]:
        """Returns (lane, first and last + 1 of the body, whether gzip is accepted).

        Lane LEFT: no whole request of the usual kind begins at ``first``.
        """
        return self._read_head(self._buffer, first, last, self._paths, self._path_lengths)

    def answered(
        self, body: bytes, profile: ExchangeProfile, arrival_ms: int, spent_ms: float = 0.0
    ) -> Answered:
        """Returns the answer to one body, by this path or else the default one (no HTTP)."""
        answer = None
        arrived_ns = self._clock_ns() - int(spent_ms * 1e6)
        if self.load(body):
            lane = self._by_name[profile.name]
            answer = self.answer(lane, 0, len(body), arrival_ms, arrived_ns)
        if answer is None:
            spent_ms = (self._clock_ns() - arrived_ns) / 1e6
            return self._service.answer(body, profile, arrival_ms, spent_ms)
        bid_count = int((self._rows[: self._counts[_RECORDS]] >= 0).sum())
        reason = NoBidReason.BID if bid_count else NoBidReason(int(self._reasons[0]))
        if answer is NO_CONTENT:
            return Answered(204, b"", reason, 0)
        return Answered(200, answer.partition(_HEAD_END)[2], reason, bid_count)

    def answer(
        self, lane: Lane, first: int, last: int, arrival_ms: int, arrived_ns: int
    ) -> bytes | None:
        """Returns the whole HTTP answer to the body at [first, last) of the buffer, or None.

        None: it is left to the default path, and nothing was changed.

        Args:
            lane: of the exchange it came from.
            first: of the body.
            last: past the body.
            arrival_ms: epoch milliseconds, the decision's now.
            arrived_ns: the monotonic clock when its bytes were read.
        """
        self._turn = turn = (self._turn + 1) & _SAMPLE_MASK
        desk, told = self._desk, self._told
        # One request in so many takes the steps one by one, with a look at the clock between them;
        # so does one whose events may not all fit.
        if turn == 0 or not desk.has_room(IMPS_MAX):
            return self._answer_by_steps(lane, first, last, arrival_ms, arrived_ns)
        desk.decider.make_ready(self._block)
        reading, deciding, writing = self._bundle, desk.decider.bundle, self._writing
        if deciding is not self._decide_bundle:
            self._bind()
            deciding, writing = self._decide_bundle, self._writing
        spent_ns = self._clock_ns() + self._needs_ns[_DECIDE] - arrived_ns
        suffix = self._renderer.suffix_row(lane.profile) if lane.profile.price_suffix else -1
        written = self._answer_request(
            reading.address, reading.kind, deciding.address, deciding.kind, writing.address,
            writing.kind, first, last, lane.row, arrival_ms, spent_ns, suffix,
        )  # fmt: skip
        phase = told[TOLD_PHASE]
        if phase == UNREAD:
            return self._answer_by_steps(lane, first, last, arrival_ms, arrived_ns)
        if phase != DECIDED:
            # Rare, and the default path knows how to say it.
            return None
        count = told[TOLD_COUNT]
        late_ns = arrived_ns + told[TOLD_ALLOWED_NS] - self._needs_ns[_EVENT]
        if self._clock_ns() >= late_ns:
            desk.take_back(count, arrival_ms)
            return None
        desk.record(count)
        if written < 0 or (written == 0 and lane.profile.answers_nbr):
            return self._rendered(lane, first, last, count, arrival_ms)
        if count == 1 and not self._counts[_REFUSALS]:
            if told[TOLD_ROW] >= 0:
                lane.meter.bids[_FORMAT_BITS[told[TOLD_FORMAT]]] += 1
            else:
                lane.meter.no_bids[told[TOLD_REASON]] += 1
        else:
            self._tally(lane.meter, count)
        return self._renderer.written(written) if written else NO_CONTENT

    def _answer_by_steps(
        self, lane: Lane, first: int, last: int, arrival_ms: int, arrived_ns: int
    ) -> bytes | None:
        """As ``answer``, each step a call of its own."""
        meter, counts = lane.meter, self._counts
        begun_ns = self._clock_ns()
        cause = self._read(lane, first, last, arrival_ms)
        if cause:
            self.bails[cause] += 1
            return None
        read_ns = self._clock_ns()
        count = counts[_RECORDS]
        tmax_ms = counts[_TMAX]
        is_told = tmax_ms > 0 and not lane.waits
        allowed_ms = (tmax_ms if is_told else lane.tmax_ms_default) - lane.network_buffer_ms
        deadline_ns = arrived_ns + min(allowed_ms * 1_000_000, meter.time_ns_max)
        is_late = read_ns + self._needs_ns[_DECIDE] >= deadline_ns
        if is_late or counts[_WHOLE] or not self._desk.has_room(count):
            # Rare, and the default path knows how to say it.
            return None
        if count == 1:
            self._desk.decide(self._first, 1)
        else:
            self._desk.decide(self._block, count, self._records)
        decided_ns = self._clock_ns()
        if decided_ns + self._needs_ns[_EVENT] >= deadline_ns:
            self._desk.take_back(count, arrival_ms)
            return None
        self._desk.record(count)
        recorded_ns = self._clock_ns()
        answer = self._rendered(lane, first, last, count, arrival_ms)
        if self._turn == 0:
            add = self._service.metrics.stages.add
            ended_ns = self._clock_ns()
            add(_TRANSPORT, begun_ns - arrived_ns)
            add(_DECODE, read_ns - begun_ns)
            add(_DECIDE, decided_ns - read_ns)
            add(_EVENT, recorded_ns - decided_ns)
            add(_RENDER, ended_ns - recorded_ns)
            meter.busy_ns += ended_ns - begun_ns
            meter.value_micros += self._desk.value_micros(count)
        return answer

    def _read(self, lane: Lane, first: int, last: int, arrival_ms: int) -> int:
        """Fills the wire; returns 0 or the `Bail` for which the request is left."""
        bundle = self._bundle
        cause = self._read_request(bundle.address, bundle.kind, first, last, lane.row, arrival_ms)
        if cause in _MISSES:
            try:
                request = decode_request(bytes(self._view[first:last]))
            except BadInput:
                return cause
            if self._reader.remember(request, lane.profile):
                cause = self._read_request(
                    bundle.address, bundle.kind, first, last, lane.row, arrival_ms
                )
        return cause

    def _rendered(self, lane: Lane, first: int, last: int, count: int, arrival_ms: int) -> bytes:
        """Returns the answer to what was just decided, and counts what became of each imp."""
        renderer, profile = self._renderer, lane.profile
        length = renderer.render(self._buffer, self._wire, self._desk.decisions, count, profile)
        if length <= MISSING:
            length = self._native_rendered(profile, first, last, count, length)
        if length > 0 or (length == 0 and not profile.answers_nbr):
            self._tally(lane.meter, count)
            return renderer.written(length) if length else NO_CONTENT
        request = decode_request(bytes(self._view[first:last]))
        body = self._service.finish(request, profile, arrival_ms, count)
        return framed(body) if body else NO_CONTENT

    def _native_rendered(
        self, profile: ExchangeProfile, first: int, last: int, count: int, length: int
    ) -> int:
        """Has the native ads made that ``render`` misses by ``length``; returns what it says then.

        Still MISSING: the renderer's pool does not hold all of them at once.
        """
        renderer, wire, decisions = self._renderer, self._wire, self._desk.decisions
        request = decode_request(bytes(self._view[first:last]))
        for _ in range(2 * count):
            n = MISSING - length
            native = request.imp[int(wire.imp_index[n])].native
            assert native is not None, "a native ad is bid for an imp that takes one"
            renderer.make_native(decisions[n], wire.slot_keys[n], native)
            length = renderer.render(self._buffer, wire, decisions, count, profile)
            if length > MISSING:
                break
        return length

    def _tally(self, meter: Meter, count: int) -> None:
        """Counts bids by format, and of each imp without one the reason that came furthest."""
        rows = self._rows
        refusal_count = self._counts[_REFUSALS]
        for reason in self._refusals[:refusal_count, 1].tolist() if refusal_count else ():
            meter.no_bids[reason] += 1
        if count == 1:
            if rows[0] >= 0:
                meter.bids[_FORMAT_BITS[int(self._formats[0])]] += 1
            else:
                meter.no_bids[int(self._reasons[0])] += 1
            return
        lost: dict[int, int] = {}
        won: set[int] = set()
        for n in range(count):
            index = int(self._imp_index[n])
            if rows[n] >= 0:
                won.add(index)
                meter.bids[_FORMAT_BITS[int(self._formats[n])]] += 1
                continue
            reason = int(self._reasons[n])
            if index not in lost or REASON_RANKS[lost[index]] < REASON_RANKS[reason]:
                lost[index] = reason
        for index, reason in lost.items():
            if index not in won:
                meter.no_bids[reason] += 1
