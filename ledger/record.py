"""The recorder's core: bids and notices in; events, leases, credits and answers out.

No sockets, no rings, no clock: the recorder process drives it, and so does the twin in process, so
that both keep the same money by the same code.

What happens first is written. Bids and lease changes take effect when they are given to the log;
a notice takes effect, and may be answered, only when its commit came back. So nothing that a caller
learns here can be undone by a crash, and a replay of the log rebuilds the very same state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from ledger.account import Charge, Settlement
from ledger.budget import BudgetLedger
from ledger.checkpoint import RecorderState
from ledger.event_buffer import EventBuffer
from ledger.event_bytes import EVENT_BYTES, event_part
from ledger.frame import CONTROL, Frame
from ledger.kernels_budget import NEW, REPEAT
from ledger.kernels_event_id import SCRATCH_WORDS, name_events
from ledger.kernels_reservation import HAS_ORDERS
from ledger.lease import (
    Allotment,
    BudgetsAllotted,
    Credit,
    FramesLost,
    Lease,
    LeaseMessage,
    LeasesGranted,
    LeasesReturned,
    ReservationsExpired,
    decode_message,
)
from ledger.notice import Charging, bid_from_token, fill_notice_event
from ledger.notice_price import CLOCK_SKEW_MS
from ledger.outbox import Outbox
from ledger.outcome import AFTER, CHARGE_FLAGS, OUTCOMES, Answer, Outcome, PendingNotice
from ledger.reservation import (
    CHARGED_MEMORY_MS,
    IS_BID,
    Reservation,
    ReservationState,
    bid_key,
    reservation_of,
)
from ledger.tally import Behaviour, Tally, exchange_views
from ledger.view import BudgetView, LedgerView
from market.errors import NotReady
from market.events import EVENT_DTYPE, EventFlag, EventKind, read_events
from market.kernel import SameTypes
from market.money import amount_micros
from market.state import CreditKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.log import Log
    from market.exchange import ExchangeProfile
    from market.notices import Token
    from market.protocols import Notice
    from market.snapshot import Snapshot

_BID: Final = int(EventKind.BID)
_NO_BID: Final = int(EventKind.NO_BID)
# Plain numbers: masking with a member of a flag enum takes a microsecond.
_TEST: Final = int(EventFlag.TEST)
_CHARGED: Final = int(EventFlag.CHARGED)
_DISPUTED: Final = int(EventFlag.DISPUTED)
_LATE: Final = int(EventFlag.LATE)
# No kind has this number: the bid had a charging notice whose price was refused.
_IS_DISPUTED: Final = 1 << 15


_ID, _ID_AT = event_part("id_hi", "id_lo")
_RECEIVED, _RECEIVED_AT = event_part("recv_ms")
_AMOUNT, _AMOUNT_AT = event_part("amount_micros")


_MANY: Final = 300
_name_events = SameTypes(name_events)


class Recorder:
    """Everything that the recorder process knows.

    Attributes:
        ledger: the owner of the budgets.
        sequence: last durable frame of the log.
        is_stuck: the last commit failed; until one works no notice is taken.
        commit_count: commits that worked; a notice that waits is done when it has grown.
        log_id: names the log where budgets are shared between machines; "" where they are not.
        intent_version: of the last snapshot taken.
        snapshot_count: snapshots taken.
    """

    def __init__(self, exchanges: Sequence[ExchangeProfile], worker_count: int) -> None:
        """Knows nothing yet: ``replay`` what there is, then ``write_to`` a log."""
        self.ledger = BudgetLedger()
        self.charging: Final = Charging(exchanges)
        self.sequence = 0
        self.is_stuck = False
        self.commit_count = 0
        self.log_id = ""
        self.intent_version = 0
        self.snapshot_count = 0
        self._worker_count = worker_count
        self._buffer = EventBuffer()
        self._tally = Tally()
        self._behaviours: dict[int, Behaviour] = {}
        self._landing_urls: dict[int, str] = {}
        self._adjustments: set[tuple[int, int]] = set()
        self._future_bids = 0
        self._lost_frames = 0
        # Budgets of each line item as snapshots named them, with the time that they are for.
        self._line_item_budgets: dict[int, dict[int, tuple[int, int]]] = {}
        self._pending: list[PendingNotice] = []
        # Of the pending notices: their event ids, and the bids whose money they move.
        self._pending_ids: set[tuple[int, int]] = set()
        self._moving: set[int] = set()
        self._staged: list[Credit] = []
        self._staged_caps: list[npt.NDArray[np.void]] = []
        self._scratch = np.zeros(SCRATCH_WORDS, np.uint64)
        # What left the leases of budgets above their limit, and is not yet said in the log.
        self._withheld: list[Lease] = []
        self._outbox = Outbox()

    # Before the start.

    def replay(self, frame: Frame) -> None:
        """Takes one frame of the log, in order: what it says happened, happens again.

        Raises:
            Corrupt: a frame that this build cannot read.
        """
        if frame.kind == CONTROL:
            self._obey(decode_message(frame.body))
        else:
            self._repeat(read_events(frame.body, frame.schema_version))
        self._staged.clear()
        self.sequence = frame.sequence

    def state(self) -> RecorderState:
        """Returns what the replay so far came to, for a checkpoint."""
        return RecorderState(
            sequence=self.sequence,
            ledger=self.ledger.state(),
            line_items=self._tally.line_items(),
            creatives=self._tally.creatives(),
            behaviours={
                exchange: (behaviour.late, behaviour.disputed, behaviour.reordered)
                for exchange, behaviour in self._behaviours.items()
            },
            adjustments=sorted(self._adjustments),
            lost_frames=self._lost_frames,
            log_id=self.log_id,
            allotments=self.ledger.allotments(),
        )

    def restore(self, state: RecorderState) -> None:
        """Takes a checkpoint's state, before anything is replayed: its frames need no replay.

        Raises:
            Corrupt: it holds bids of a version that this build cannot read.
        """
        self.sequence = state.sequence
        self.ledger.restore(state.ledger)
        self._tally.restore(state.line_items, state.creatives)
        for exchange, (late, disputed, reordered) in state.behaviours.items():
            behaviour = self.behaviour(exchange)
            behaviour.late, behaviour.disputed = late, disputed
            behaviour.reordered = reordered
        self._adjustments = set(state.adjustments)
        self._lost_frames = state.lost_frames
        if state.log_id:
            self._obey(BudgetsAllotted(state.log_id, state.allotments))

    def write_to(self, log: Log) -> None:
        """Writes to ``log`` from now on."""
        self._buffer.log = log
        missing = self.ledger.missing_leases() if self._lost_frames else ()
        if missing:
            self._buffer.say(LeasesGranted(missing))
            self.ledger.grant(missing)
        self.sequence = log.commit()

    def take_snapshot(self, snapshot: Snapshot) -> set[int]:
        """Takes budgets, their limits and landing pages from a new snapshot.

        Returns the workers that hold more of a budget than its lowered limit allows.
        """
        arrays = snapshot.arrays
        for creative_id, text in zip(
            arrays.creatives["creative_id"].tolist(), snapshot.head.creatives, strict=True
        ):
            self._landing_urls[creative_id] = text.landing_url
        spans = [
            (budget_id, (start, end))
            for budget_id, start, end in zip(
                arrays.budgets["budget_id"].tolist(),
                arrays.budgets["start_at_ms"].tolist(),
                arrays.budgets["end_at_ms"].tolist(),
                strict=True,
            )
        ]
        used = arrays.line_items["is_used"].tolist()
        ids = arrays.line_items["line_item_id"].tolist()
        for is_used, line_item_id, rows in zip(
            used, ids, arrays.line_items["budget_rows"].tolist(), strict=True
        ):
            if is_used:
                known = self._line_item_budgets.setdefault(line_item_id, {})
                known.update(spans[row] for row in rows if row >= 0)
        self.intent_version = snapshot.head.intent_version
        self.snapshot_count += 1
        return self.ledger.define(arrays.budgets)

    def allot(self, log_id: str, allotments: tuple[Allotment, ...]) -> set[int]:
        """Takes allotments of shared budgets (``ledger.allotment``); durable before they are used.

        Returns the workers that hold more than a lowered one allows.
        """
        self._buffer.say(BudgetsAllotted(log_id, allotments))
        self.log_id = log_id
        return self.ledger.allot(allotments)

    def stranding(self, now_ms: int) -> set[int]:
        """Returns the workers whose unused leases keep money from others."""
        return self.ledger.stranding(now_ms, self._worker_count)

    # What comes in.

    @property
    def has_room(self) -> bool:
        """Whether more bids may be taken; not while too much waits for a log that stands still."""
        return self._buffer.has_room

    @property
    def pending_count(self) -> int:
        """Events that the next commit will make durable."""
        return self._buffer.pending_count

    def take_bids(
        self, events: npt.NDArray[np.void], now_ms: int, *, credits_repeats: bool = True
    ) -> None:
        """Takes what a worker recorded, [N] of EVENT_DTYPE of kinds BID and NO_BID, in order.

        Args:
            events: of one worker.
            now_ms: the run's clock.
            credits_repeats: give back what the worker took for bids that are known already; not
                where they may be the very events that were taken before a crash.
        """
        body = bytearray(events.tobytes())
        taken = np.frombuffer(body, EVENT_DTYPE)
        kinds = taken["kind"]
        assert ((kinds == _BID) | (kinds == _NO_BID)).all(), "workers make no other events"
        _name_events(taken, now_ms, self._scratch)
        self._future_bids += int(np.count_nonzero(taken["bid_ms"] > now_ms + CLOCK_SKEW_MS))
        became, repeats = self._reserve(taken, now_ms)
        if not (became == REPEAT).any():
            self._buffer.write(body)
            return
        if credits_repeats:
            self._stage(repeats)
        for i in np.flatnonzero(became == NEW).tolist():
            self._buffer.write(body[i * EVENT_BYTES : (i + 1) * EVENT_BYTES])

    def is_known(self, bid_hi: int, bid_lo: int) -> bool:
        """Returns whether the bid was taken already (a notice may overtake it in its ring)."""
        return self.ledger.bids.find(bid_key(bid_hi, bid_lo)) is not None

    def take_notice(self, notice: Notice, token: Token | None = None) -> Answer:
        """Takes one notice at ``notice.at_ms``; its answer may leave as ``Answer`` says.

        Args:
            notice: what the exchange said.
            token: what its URL says of the bid, where it came by one; without it only bids that
                are still known have notices.
        """
        if self.is_stuck:
            return Answer(Outcome.NOT_READY, waits=False)
        bids = self.ledger.bids
        key = bid_key(notice.bid_hi, notice.bid_lo)
        slot = bids.find(key)
        seen = 0 if slot is None else bids.seen[slot]
        if slot is not None and seen & IS_BID:
            event = bids.event(slot)
        elif token is not None:
            event = bid_from_token(token, self._budgets_of(token.line_item_id, token.bid_ms))
        else:
            self.behaviour(0).unknown += 1
            return Answer(Outcome.UNKNOWN_BID, waits=False)
        bid = reservation_of(event)
        charges = notice.kind is self.charging.kind(bid.exchange, bid.format)
        moves = charges or notice.kind is EventKind.LOSS
        if moves and (key in self._moving or (slot is None and self._moving)):
            # Two notices of one bid that move its money: the second must see what the first did. A
            # bid that only its token tells of spends what leases keep frozen, as others like it do.
            try:
                self.commit()
            except NotReady:
                return Answer(Outcome.NOT_READY, waits=False)
            return self.take_notice(notice, token)
        outcome, amount, flags = self._judge(slot, seen, bid, notice, charges=charges)
        if outcome in (Outcome.TOO_OLD, Outcome.DUPLICATE):
            return Answer(outcome, waits=False)
        if notice.unread_count:
            self.behaviour(bid.exchange).macros_ignored += notice.unread_count
        return self._record(slot, bid, event, notice, outcome, amount, flags, moves=moves)

    def take_adjustment(self, event: bytes | bytearray) -> Answer:
        """Takes a credit or correction, a record of kind ADJUSTMENT; its budgets' money moves.

        The same one again is a duplicate, however often it is sent.
        """
        if self.is_stuck:
            return Answer(Outcome.NOT_READY, waits=False)
        name = _ID.unpack_from(event, _ID_AT)
        if name in self._adjustments:
            return Answer(Outcome.DUPLICATE, waits=False)
        if name in self._pending_ids:
            return Answer(Outcome.DUPLICATE, waits=True)
        self._pending_ids.add(name)
        (amount,) = _AMOUNT.unpack_from(event, _AMOUNT_AT)
        (received_ms,) = _RECEIVED.unpack_from(event, _RECEIVED_AT)
        self._pending.append(
            PendingNotice(
                0, int(EventKind.ADJUSTMENT), _CHARGED, amount, 0, 0, received_ms, event
            )
        )  # fmt: skip
        self._buffer.write(event)
        return Answer(Outcome.ADJUSTED, waits=True)

    def behaviour(self, exchange: int = 0) -> Behaviour:
        """Returns the counters of an exchange; 0: of notices nobody signed.

        What is refused before it comes here is counted in them by whoever refuses it.
        """
        found = self._behaviours.get(exchange)
        if found is None:
            found = self._behaviours[exchange] = Behaviour()
        return found

    def step(self, now_ms: int) -> None:
        """Lets time pass: expires reservations, takes frozen leases back, tops leases up.

        Every bid and notice that came before must have been taken: that makes it safe to hand the
        expired money out again.

        Raises:
            NotReady: the log stands still. Nothing that matters has happened; try again.
        """
        self.commit()
        released = self.ledger.release_due(now_ms, withholds=True)
        self._staged += released.told
        self._withheld += released.kept
        self._staged_caps += released.caps
        if released.bid_count:
            self._buffer.say(ReservationsExpired(now_ms))
        # Before anything is granted: it is free only because this left the leases.
        self._say_withheld()
        returned = self.ledger.thaw(now_ms)
        if returned:
            self._buffer.say(LeasesReturned(returned))
            self.ledger.give_back(returned)
        granted = self.ledger.top_up(now_ms, self._worker_count)
        if granted:
            self._buffer.say(LeasesGranted(granted))
            self._staged += self.ledger.grant(granted)
        self.commit()

    def commit(self) -> None:
        """Makes everything durable, and then true: answers and credits may leave.

        Raises:
            NotReady: the log cannot be written; what waits is kept for the next try.
        """
        try:
            self.sequence = self._buffer.commit()
        except NotReady:
            self.is_stuck = True
            raise
        self.is_stuck = False
        self.commit_count += 1
        pending = self._pending
        if pending:
            self._pending = []
            self._pending_ids.clear()
            self._moving.clear()
            for notice in pending:
                self._stage(self._apply(notice))
        if self._staged:
            self._outbox.add(self._staged)
            self._staged.clear()
        for caps in self._staged_caps:
            self._outbox.add_caps(caps)
        self._staged_caps.clear()
        self._say_withheld()

    # What goes out.

    def credits(self, worker: int, count_max: int) -> npt.NDArray[np.void]:
        """Returns [N] of CREDIT_DTYPE that ``worker`` is due, at most so many; each only once."""
        return self._outbox.take(worker, count_max)

    def suspend_worker(self, worker: int) -> None:
        """Grants nothing to ``worker`` until ``resume_worker``."""
        self.ledger.suspend_worker(worker)

    def close_worker(self, worker: int, until_ms: int) -> None:
        """Takes back what ``worker`` has not reserved, after ``until_ms``.

        Call it when the worker can no longer use it (it crashed, or took a RESET credit) and all
        its bids were taken. The budget credits that it did not get yet are part of that.
        """
        self.ledger.close_worker(worker, until_ms)
        self._staged = [
            credit
            for credit in self._staged
            if credit.worker != worker or credit.kind is not CreditKind.BUDGET
        ]
        self._outbox.drop_money(worker)

    def resume_worker(self, worker: int) -> None:
        """Grants leases to ``worker`` again."""
        self.ledger.resume_worker(worker)

    def landing_url(self, creative_id: int) -> str | None:
        """Returns where a click on a creative leads, if any snapshot since the start said so."""
        return self._landing_urls.get(creative_id)

    def view(self, now_ms: int) -> LedgerView:
        """Returns the totals as of the last commit."""
        return LedgerView(
            at_ms=now_ms,
            sequence=self.sequence,
            is_writable=not self.is_stuck,
            unfunded_bids=self.ledger.unfunded_count,
            budgets=tuple(BudgetView(*total) for total in self.ledger.totals()),
            line_items=self._tally.line_items(),
            creatives=self._tally.creatives(),
            exchanges=exchange_views(self._behaviours.items(), self.charging.names),
            future_bids=self._future_bids,
            lost_frames=self._lost_frames,
        )

    # Within.

    def _judge(
        self, slot: int | None, seen: int, bid: Reservation, notice: Notice, *, charges: bool
    ) -> tuple[Outcome, int, int]:
        """Returns outcome, amount and flags of a notice, and counts it where it is ignored."""
        behaviour = self.behaviour(bid.exchange)
        if charges and notice.at_ms > bid.deadline_ms + CHARGED_MEMORY_MS:
            behaviour.too_old += 1
            return Outcome.TOO_OLD, 0, 0
        if notice.kind is not EventKind.CONVERSION and seen & 1 << notice.kind:
            behaviour.duplicates_ignored += 1
            return Outcome.DUPLICATE, 0, 0
        if not charges:
            return Outcome.RECORDED, 0, bid.flags & _TEST
        quantity_micros = notice.multiplier_micros or bid.quantity_micros
        asked = amount_micros(notice.price_cpm_micros, quantity_micros, bid.rate_micros)
        if slot is not None and (seen & IS_BID or self.ledger.is_charged(slot)):
            settlement = self.ledger.judge(slot, bid, asked, notice.at_ms)
        else:
            behaviour.unknown += 1
            settlement = self.ledger.judge_unknown(bid, asked, notice.at_ms)
        charge = settlement.charge
        if notice.is_contradictory and charge in (Charge.ON_TIME, Charge.LATE):
            charge, settlement = Charge.DISPUTED, Settlement(Charge.DISPUTED, 0)
        if charge is Charge.DUPLICATE or (charge is Charge.DISPUTED and seen & _IS_DISPUTED):
            behaviour.duplicates_ignored += 1
            return Outcome.DUPLICATE, 0, 0
        if charge is Charge.LATE and not bid.budgets and not seen & IS_BID:
            return Outcome.UNKNOWN_BUDGET, settlement.amount_micros, CHARGE_FLAGS[charge]
        return OUTCOMES[charge], int(settlement.amount_micros), CHARGE_FLAGS[charge]

    def _record(
        self,
        slot: int | None,
        bid: Reservation,
        event: bytearray,
        notice: Notice,
        outcome: Outcome,
        amount: int,
        flags: int,
        *,
        moves: bool,
    ) -> Answer:
        """Puts a notice's event into the log, unless it is there already."""
        order_code = fill_notice_event(event, notice, amount, flags, bid.worker)
        name = _ID.unpack_from(event, _ID_AT)
        is_order_known = (
            notice.kind is EventKind.CONVERSION
            and slot is not None
            and order_code in self.ledger.bids.orders.get(slot, ())
        )
        if is_order_known or name in self._pending_ids:
            self.behaviour(bid.exchange).duplicates_ignored += 1
            return Answer(Outcome.DUPLICATE, waits=not is_order_known)
        key = bid_key(notice.bid_hi, notice.bid_lo)
        self._pending_ids.add(name)
        if moves:
            self._moving.add(key)
        self._pending.append(
            PendingNotice(
                key, int(notice.kind), flags, amount, notice.value_micros, order_code,
                notice.at_ms, event,
            )
        )  # fmt: skip
        self._buffer.write(event)
        return Answer(outcome, waits=True)

    def _reserve(
        self, events: npt.NDArray[np.void], now_ms: int
    ) -> tuple[npt.NDArray[np.uint8], list[Credit]]:
        """Opens the reservations of bid events and counts them."""
        became, repeats = self.ledger.reserve_block(events, now_ms)
        self._tally.add_bids(events, became)
        return became, repeats

    def _apply(self, notice: PendingNotice) -> list[Credit]:
        """Makes a durable notice true; what the bid's worker is told of it."""
        key, kind, flags, amount, value, order_code, received_ms, event = notice
        if kind == EventKind.ADJUSTMENT:
            self._adjustments.add(_ID.unpack_from(event, _ID_AT))
            self.ledger.adjust(reservation_of(event).budgets, amount)
            return []
        bids = self.ledger.bids
        slot = bids.find(key)
        if slot is None:
            bid = reservation_of(event)
            slot = bids.add(event, ReservationState.RELEASED, received_ms)
        else:
            bid = bids.reservation(slot) if bids.seen[slot] & IS_BID else reservation_of(event)
        seen = bids.seen[slot]
        behaviour = self.behaviour(bid.exchange)
        behaviour.reordered += bool(seen & AFTER[kind])
        if flags & _DISPUTED:
            bids.seen[slot] = seen | _IS_DISPUTED
            behaviour.disputed += 1
            return []
        told: list[Credit] = []
        if flags & _CHARGED:
            is_late = bool(flags & _LATE)
            behaviour.late += is_late
            told = self.ledger.settle(slot, bid, amount, is_late=is_late)
        elif kind == EventKind.LOSS:
            told = self.ledger.release(slot)
        elif kind == EventKind.CONVERSION:
            bids.orders.setdefault(slot, set()).add(order_code)
        bids.seen[slot] = seen | 1 << kind
        if not flags & _TEST:
            self._tally.add_notice(bid, kind, seen, amount, value)
        return told

    def _stage(self, told: list[Credit]) -> None:
        """Keeps credits for the next commit, but for what budgets above their limit withhold.

        One event after the other, so that it does not matter how they are grouped into commits.
        """
        left, withheld = self.ledger.withhold(told)
        self._staged += left
        self._withheld += withheld

    def _say_withheld(self) -> None:
        if self._withheld:
            self._buffer.say(LeasesReturned(tuple(self._withheld)))
            self._withheld.clear()

    def _obey(self, message: LeaseMessage) -> None:
        if isinstance(message, LeasesGranted):
            self.ledger.grant(message.leases)
        elif isinstance(message, LeasesReturned):
            self.ledger.give_back(message.leases)
        elif isinstance(message, FramesLost):
            self._lost_frames += 1
        elif isinstance(message, BudgetsAllotted):
            self.log_id = message.log_id
            self.ledger.allot(message.allotments)
        else:
            self.ledger.release_due(message.now_ms, withholds=False)

    def _repeat(self, events: npt.NDArray[np.void]) -> None:
        """Takes events of the log: runs of bids at once, notices one by one."""
        is_bid = (events["kind"] == EventKind.BID) | (events["kind"] == EventKind.NO_BID)
        edges = np.flatnonzero(np.diff(is_bid)) + 1
        for run in np.split(np.arange(events.shape[0]), edges):
            part = events[run[0] : run[-1] + 1]
            if is_bid[run[0]]:
                self._repeat_bids(np.frombuffer(bytearray(part.tobytes()), EVENT_DTYPE))
                continue
            body = part.tobytes()
            names = ("bid_hi", "bid_lo", "kind", "flags", "amount_micros", "value_micros")
            columns = [part[name].tolist() for name in (*names, "order_code", "recv_ms")]
            for i, (hi, lo, *values) in enumerate(zip(*columns, strict=True)):
                event = body[i * EVENT_BYTES : (i + 1) * EVENT_BYTES]
                self._apply(PendingNotice._make((bid_key(hi, lo), *values, event)))

    def _repeat_bids(self, events: npt.NDArray[np.void]) -> None:
        """Takes bids of the log, which holds new ones only.

        One that is known all the same was forgotten by the run that wrote it, which looked at other
        slots in other moments: its memory must be over, and then it is forgotten here, too.
        """
        at_ms = int(events["recv_ms"][0])
        became, _ = self._reserve(events, at_ms)
        bids = self.ledger.bids
        for i in np.flatnonzero(became == REPEAT).tolist():
            event = events[i : i + 1]
            slot = bids.find(bid_key(int(event["bid_hi"][0]), int(event["bid_lo"][0])))
            assert slot is not None, "a repeat is known"
            if bids.is_over(slot, int(event["recv_ms"][0])):
                bids.forget(slot)
                self._reserve(event, at_ms)

    def _budgets_of(self, line_item_id: int, bid_ms: int) -> list[int]:
        """Returns the budgets that a bid of the line item at that time drew on."""
        known = self._line_item_budgets.get(line_item_id, {})
        return [key for key, (start, end) in sorted(known.items()) if start <= bid_ms < end]


def meet_kernels() -> None:
    """Has every kernel that a bid meets compiled, by a recorder that is thrown away."""
    core = Recorder((), 1)
    events = np.zeros(_MANY, EVENT_DTYPE)
    events["kind"] = EventKind.BID
    events["bid_lo"] = events["line_item_id"] = np.arange(_MANY)
    events["budgets"][0, 0] = 1
    core.take_bids(events, 0)
    core.is_known(0, 0)
    core.step(1)
    core.ledger.bids.go_on(HAS_ORDERS)
