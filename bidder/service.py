"""One bid request in, one answer out: decode, read, decide, record, respond. No sockets here.

The HTTP worker, ``lodestone replay`` and the tests all answer through ``BidService``; what differs
is where the events go (a ring, a list) and who moves the clock.

Before each stage the time that is left is held against what this stage and the later ones lately
took (their p99): a request that cannot be answered in time is given up there, and counted. Nothing
is kept of it: a decision whose answer would come too late is taken back before anyone hears of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bidder.answer import Answers, BidPlace, refuse, respond
from bidder.desk import RECORDS_MAX, Desk
from bidder.edge import Edge, Offer, Refusal
from bidder.metrics import SAMPLE_EVERY, Stage, memory_metrics
from bidder.no_bid import explain
from bidder.pods import PodWatch, places_of
from market.decision import DECISION_DTYPE, REASON_RANKS, NoBidReason
from market.errors import BadInput
from market.exchange import DEFAULT_EXCHANGES
from market.openrtb_decode import decode_request
from market.opportunity import FORMAT_COUNT

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from bidder.decide import Decider
    from bidder.desk import EventSink
    from bidder.metrics import Meter, WorkerMetrics
    from market.exchange import ExchangeProfile
    from market.openrtb import Bid, BidRequest
    from market.snapshot import Snapshot

_NAMES = DECISION_DTYPE.names or ()
_LINE_ITEM_ROW, _REASON, _DETAIL, _BID_CURRENCY, _FORMAT = (
    _NAMES.index(name) for name in ("line_item_row", "reason", "detail", "bid_currency", "format")
)
_FORMAT_BITS = {1 << bit: bit for bit in range(FORMAT_COUNT)}
# Plain integers: an index by an enum's member costs three times as much.
_TRANSPORT, _DECODE, _PRIVACY, _READ, _DECIDE, _EVENT, _RENDER = map(int, Stage)
_SAMPLE_MASK = SAMPLE_EVERY - 1
_TOO_LATE = int(NoBidReason.TOO_LITTLE_TIME)
_WARM_BODY = (
    b'{"id":"warm","imp":[{"id":"1","banner":{"w":1,"h":1}}],"site":{"domain":"warm.example"},'
    b'"device":{"geo":{"country":"ZZZ"}},"user":{"id":"warm"}}'
)


class Answered(NamedTuple):
    """The answer to one request.

    Attributes:
        status: 200 with bids (or a reason the exchange asked for), 204, or 400.
        body: the response, b"" for 204 and 400.
        reason: the NoBidReason of the first imp that got no bid, BID if every imp got one.
        bid_count: bids in the answer.
    """

    status: int
    body: bytes
    reason: NoBidReason
    bid_count: int


class Examined(NamedTuple):
    """What became of each imp: for an answer, and for people who ask why.

    Attributes:
        request_id: of the request.
        bids: (seat, bid) in the order of imps.
        currency: ISO number of all bids, 0 if none.
        refusals: why an imp got none; imp_index as in the request, -1 for all of it.
        decided_count: imps that were decided; 0: some stage was not reached.
    """

    request_id: str
    bids: tuple[tuple[str, Bid], ...]
    currency: int
    refusals: tuple[Refusal, ...]
    decided_count: int = 0


_LATE = Refusal(-1, NoBidReason.TOO_LITTLE_TIME, "tmax")
_GIVEN_UP = Answered(204, b"", NoBidReason.TOO_LITTLE_TIME, 0)


class _Void:
    """Takes events that nobody must see: those of the warm-up."""

    def free_count(self) -> int:
        return 1_000_000

    def push_raw(self, record: memoryview) -> bool:
        return len(record) > 0


class BidService:
    """Answers requests for one worker.

    Attributes:
        metrics: what is counted, by exchange.
        desk: where records are decided and recorded.
    """

    def __init__(
        self,
        decider: Decider,
        edge: Edge,
        sink: EventSink,
        base_url: str,
        notice_key: bytes,
        *,
        metrics: WorkerMetrics | None = None,
        clock_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        """Takes the decider with its snapshot, the edge, and where events go.

        Args:
            decider: decides.
            edge: reads requests.
            sink: takes the events.
            base_url: what notice URLs begin with.
            notice_key: signs them.
            metrics: what to count in (None: for nobody), of the profiles that requests come from.
            clock_ns: monotonic; one that stands still leaves only the time spent before.
        """
        self.metrics = metrics or memory_metrics(DEFAULT_EXCHANGES)
        self.desk = Desk(decider, sink)
        self._decider = decider
        self._edge = edge
        self._base_url = base_url
        self._notice_key = notice_key
        self._clock_ns = clock_ns
        self._meters = self.metrics.meters
        self._needs_ns = self.metrics.stages.needs_ns
        self._turn = 0
        # When the request at hand was read, decided and recorded.
        self._read_ns = self._decided_ns = self._recorded_ns = 0
        self._answers = Answers(decider.snapshot, base_url, notice_key)
        edge.deals_held = _deals_held(decider.snapshot)

    @property
    def no_bids(self) -> npt.NDArray[np.int64]:
        """[NO_BID_REASON_COUNT] imps (or requests) that got no bid, by reason."""
        return self.metrics.row["no_bids"].sum(axis=0)

    @property
    def malformed_count(self) -> int:
        """Bodies that were no OpenRTB request."""
        return int(self.no_bids[NoBidReason.MALFORMED_REQUEST])

    @property
    def bid_count(self) -> int:
        """Bids made."""
        return int(self.metrics.row["bids"].sum())

    def swap(self, snapshot: Snapshot) -> None:
        """Serves ``snapshot`` from the next request on."""
        self._decider.swap(snapshot)
        self._answers = Answers(snapshot, self._base_url, self._notice_key)
        self._edge.deals_held = _deals_held(snapshot)

    def warm_up(self, profile: ExchangeProfile) -> None:
        """Compiles (or loads) everything that an answer takes; leaves no count and no event."""
        counts = self.metrics.row.copy()
        sink, self.desk.sink = self.desk.sink, _Void()
        turn, self._turn = self._turn, 0
        try:
            assert self.answer(_WARM_BODY, profile, 0).bid_count == 0, "flights begin after 1970"
        finally:
            self.desk.sink, self._turn = sink, turn
            for name in counts.dtype.names or ():
                self.metrics.row[name] = counts[name]

    def answer(
        self, body: bytes, profile: ExchangeProfile, arrival_ms: int, spent_ms: float = 0.0
    ) -> Answered:
        """Returns the answer to one body; never raises for what a body says.

        Args:
            body: as sent, already inflated.
            profile: of the exchange it came from.
            arrival_ms: epoch milliseconds, the decision's now.
            spent_ms: real time since its bytes arrived.
        """
        meter = self._meters[profile.exchange_id]
        clock_ns = self._clock_ns
        begun_ns = clock_ns()
        arrived_ns = begun_ns - int(spent_ms * 1e6)
        is_late = arrived_ns + meter.time_ns_max <= begun_ns + self._needs_ns[_DECODE]
        if is_late and not profile.answers_nbr:
            # Who asks for a reason gets it under the id of the request, which is still unread.
            self._give_up(meter, _DECODE)
            return _GIVEN_UP
        try:
            request = decode_request(body)
        except BadInput:
            meter.no_bids[NoBidReason.MALFORMED_REQUEST] += 1
            return Answered(400, b"", NoBidReason.MALFORMED_REQUEST, 0)
        decoded_ns = clock_ns()
        examined = self._examine(request, profile, arrival_ms, arrived_ns, decoded_ns)
        answered = self.conclude(examined, profile)
        self._turn = turn = (self._turn + 1) & _SAMPLE_MASK
        if turn == 0 and examined.decided_count:
            self._time(request, meter, arrived_ns, begun_ns, decoded_ns, examined.decided_count)
        return answered

    @property
    def answers(self) -> Answers:
        """What builds the bids of the current snapshot."""
        return self._answers

    def finish(
        self, request: BidRequest, profile: ExchangeProfile, arrival_ms: int, count: int
    ) -> bytes:
        """Returns the answer's body to what the desk has just decided; b"" for a 204.

        For the native path, where a bid's markup depends on more of the request than it kept.
        """
        offer = self._edge.read(request, profile, arrival_ms)
        meter = self._meters[profile.exchange_id]
        for refusal in offer.refusals:
            meter.no_bids[refusal.reason] += 1
        examined = self._tell(request, profile, meter, offer, count, arrival_ms)
        return self.conclude(examined, profile).body

    def conclude(self, examined: Examined, profile: ExchangeProfile) -> Answered:
        """Returns the answer that says what became of a request."""
        first = examined.refusals[0].reason if examined.refusals else NoBidReason.BID
        if examined.bids:
            response = respond(examined.request_id, examined.currency, list(examined.bids))
            return Answered(200, response, first, len(examined.bids))
        refusal = refuse(examined.request_id, explain(first).nbr, profile)
        return Answered(204 if refusal is None else 200, refusal or b"", first, 0)

    def examine(
        self,
        request: BidRequest,
        profile: ExchangeProfile,
        arrival_ms: int,
        spent_ms: float = 0.0,
    ) -> Examined:
        """Decides every imp of a decoded request and records the events; says what became of it."""
        now_ns = self._clock_ns()
        return self._examine(request, profile, arrival_ms, now_ns - int(spent_ms * 1e6), now_ns)

    def _examine(
        self,
        request: BidRequest,
        profile: ExchangeProfile,
        arrival_ms: int,
        arrived_ns: int,
        now_ns: int,
    ) -> Examined:
        meter = self._meters[profile.exchange_id]
        clock_ns, needs_ns = self._clock_ns, self._needs_ns
        is_told = request.tmax is not None and request.tmax > 0 and not profile.waits
        tmax = request.tmax if is_told else None
        allowed_ms = (tmax or profile.tmax_ms_default) - profile.network_buffer_ms
        deadline_ns = arrived_ns + min(allowed_ms * 1_000_000, meter.time_ns_max)
        if now_ns + needs_ns[_READ] >= deadline_ns:
            return self._too_late(request, meter, _READ)
        offer = self._edge.read(request, profile, arrival_ms)
        self._read_ns = now_ns = clock_ns()
        if now_ns + needs_ns[_DECIDE] >= deadline_ns:
            return self._too_late(request, meter, _DECIDE)
        for refusal in offer.refusals:
            meter.no_bids[refusal.reason] += 1
        count = min(len(offer.imps), RECORDS_MAX)
        if not self.desk.has_room(count):
            return self._refused(request, meter, Refusal(-1, NoBidReason.RECORDER_BEHIND, ""))
        self._decide(offer, count)
        self._decided_ns = now_ns = clock_ns()
        if now_ns + needs_ns[_EVENT] >= deadline_ns:
            self.desk.take_back(count, arrival_ms)
            return self._too_late(request, meter, _EVENT)
        self.desk.record(count)
        self._recorded_ns = clock_ns()
        # No check before rendering: the recorder may have read the events by now, and an event
        # cannot be taken out of the ring. A bid given up here would stay on the books as one that
        # was answered. What rendering takes is in the need that was checked before the event.
        return self._tell(request, profile, meter, offer, count, arrival_ms)

    def _tell(
        self,
        request: BidRequest,
        profile: ExchangeProfile,
        meter: Meter,
        offer: Offer,
        count: int,
        arrival_ms: int,
    ) -> Examined:
        """Returns the bids of the decisions at hand, and why the other imps got none."""
        refusals = list(offer.refusals)
        bids: list[tuple[str, Bid]] = []
        lost: dict[int, Refusal] = {}
        won: set[int] = set()
        currency = 0
        is_test = int(request.test == 1)
        for n in range(count):
            # One call for the whole record; field by field costs ten times that.
            decision = self.desk.decisions[n].item()
            if decision[_LINE_ITEM_ROW] < 0:
                reason = NoBidReason(decision[_REASON])
                index = offer.imp_indexes[n]
                known = lost.get(index)
                if known is None or REASON_RANKS[known.reason] < REASON_RANKS[reason]:
                    field = explain(reason, decision[_DETAIL]).field
                    lost[index] = Refusal(index, reason, offer.permission.blamed(field))
                continue
            won.add(offer.imp_indexes[n])
            currency = decision[_BID_CURRENCY]
            meter.bids[_FORMAT_BITS[decision[_FORMAT]]] += 1
            at = BidPlace(
                arrival_ms, profile.exchange_id, offer.quantities_micros[n], is_test,
                self._decider.worker, profile.price_suffix, request.cattax or 1,
            )  # fmt: skip
            bids.append(self._answers.bid(offer.imps[n], offer.deals[n], decision, at))
        # An imp with deals is decided once for each: it got no bid if none of them brought one.
        for index, refusal in lost.items():
            if index not in won:
                meter.no_bids[refusal.reason] += 1
                refusals.append(refusal)
        return Examined(request.id, tuple(bids), currency, tuple(refusals), count)

    def _refused(self, request: BidRequest, meter: Meter, refusal: Refusal) -> Examined:
        meter.no_bids[refusal.reason] += 1
        return Examined(request.id, (), 0, (refusal,))

    def _too_late(self, request: BidRequest, meter: Meter, stage: int) -> Examined:
        self._give_up(meter, stage)
        return Examined(request.id, (), 0, (_LATE,))

    def _give_up(self, meter: Meter, stage: int) -> None:
        self.metrics.late[stage] += 1
        meter.no_bids[_TOO_LATE] += 1

    def _time(
        self,
        request: BidRequest,
        meter: Meter,
        arrived_ns: int,
        begun_ns: int,
        decoded_ns: int,
        decided_count: int,
    ) -> None:
        """Counts the times of the request that was just answered, and what it is worth."""
        add = self.metrics.stages.add
        clock_ns = self._clock_ns
        ended_ns = clock_ns()
        # Privacy is decided within the reading: it is decided once more, for its time alone.
        self._edge.permission(request)
        privacy_ns = clock_ns() - ended_ns
        add(_TRANSPORT, begun_ns - arrived_ns)
        add(_DECODE, decoded_ns - begun_ns)
        add(_PRIVACY, privacy_ns)
        add(_READ, max(0, self._read_ns - decoded_ns - privacy_ns))
        add(_DECIDE, self._decided_ns - self._read_ns)
        add(_EVENT, self._recorded_ns - self._decided_ns)
        add(_RENDER, ended_ns - self._recorded_ns)
        meter.busy_ns += ended_ns - begun_ns
        meter.value_micros += self.desk.value_micros(decided_count)

    def _decide(self, offer: Offer, count: int) -> None:
        """Decides the first ``count`` records of what a request offers."""
        places = places_of(offer.imps[:count], offer.imp_indexes[:count]) if count > 1 else ()
        block = offer.opportunities
        self.desk.decide(block, count, pods=PodWatch(places, block) if places else None)


def _deals_held(snapshot: Snapshot) -> frozenset[int]:
    """Returns the codes of the deals that some line item holds."""
    return frozenset(snapshot.arrays.deal_codes.tolist())
