"""A small world around the recorder's core: workers, an exchange, a disk, crashes of everybody.

Every action is a method, so that a random driver and hypothesis can both play it. After each one
``check`` compares the core with the reference model and looks at the bounds.
"""

from __future__ import annotations

import copy
from collections import defaultdict

from ledger.adjustment import Adjustment, adjustment_event
from ledger.lease import LeasesGranted, LeasesReturned, decode_message
from ledger.outcome import Outcome
from ledger.record import Recorder
from ledger.segment import CONTROL
from market.errors import NotReady
from market.events import EventKind
from market.exchange import DEFAULT_EXCHANGES
from tests.ledger.bids import (
    CrashingLog,
    bid_event,
    budgets_array,
    credits_of,
    fingerprint,
    notice,
    rebuilt,
)
from tests.reference.budget import Owner

LIFE_MS_MAX = 20


class Worker:
    def __init__(self):
        self.available = defaultdict(int)
        self.ring = []
        self.read_count = 0
        self.released_count = 0


class World:
    def __init__(self, limits, worker_count, *, allows_late):
        self.limits = limits
        self.allows_late = allows_late
        self.log = CrashingLog()
        self.core = Recorder(DEFAULT_EXCHANGES, worker_count)
        self.core.write_to(self.log)
        self.core.ledger.define(budgets_array(limits))
        self.workers = [Worker() for _ in range(worker_count)]
        self.owner = Owner(limits)
        self.durable_owner = copy.deepcopy(self.owner)
        self.now = 0
        self.bids = []
        self.unacked = []
        self.frames_seen = 0
        self.lost = set()
        self.late_wins = 0
        self.changes = self.adjustments = 0
        self.ceilings = {}
        self.step(0)

    # Actions.

    def bid(self, worker_index, budgets, cap, life):
        worker = self.workers[worker_index]
        if all(worker.available.get(budget, 0) >= cap for budget in budgets):
            for budget in budgets:
                worker.available[budget] -= cap
            number = len(self.bids)
            event = bid_event(
                number, worker=worker_index, budgets=budgets, reserved=cap, bid_ms=self.now,
                deadline_ms=self.now + life,
            )  # fmt: skip
            worker.ring.append((number, worker_index, budgets, cap, self.now + life, event))
            self.bids.append((worker_index, budgets, cap, self.now + life))

    def drain(self):
        for worker in self.workers:
            for number, index, budgets, cap, deadline, event in worker.ring[worker.read_count :]:
                if number not in self.owner.bids:
                    self.owner.reserve(number, index, budgets, cap, deadline)
                self.core.take_bids(event, self.now)
            worker.read_count = len(worker.ring)

    def say(self, kind, number, price):
        """One notice; the exchange repeats it, or not, whatever it was answered."""
        deadline = self.bids[number][3]
        charges = kind is EventKind.BILLING
        if charges and not self.allows_late and (self.now > deadline or number in self.lost):
            return None
        if kind is EventKind.LOSS:
            self.lost.add(number)
        if not self.core.is_known(number, number + 1):
            self.drain()
        commits = self.core.commit_count
        answer = self.core.take_notice(notice(kind, number, self.now, price))
        if self.core.commit_count != commits:
            self._after_commit()
        if answer.waits and answer.outcome is not Outcome.DUPLICATE:
            self.unacked.append((kind, number, price, self.now, answer.outcome))
        elif answer.outcome is Outcome.DUPLICATE and charges and not answer.waits:
            assert self.owner.settle(number, price, self.now) in ("duplicate", "disputed")
        return answer.outcome

    def commit(self):
        try:
            self.core.commit()
        except NotReady:
            assert self.log.is_full
        else:
            self._after_commit()

    def step(self, ms):
        """Time passes; a full disk must not let anything expire."""
        self.now += ms
        self.drain()
        try:
            self.core.step(self.now)
        except NotReady:
            assert self.log.is_full
        else:
            self._after_commit()

    def set_limit(self, budget, limit):
        """The advertiser changes a limit; who holds too much loses what is not reserved."""
        if self.core.is_stuck:
            return
        sums = {total.budget_id: total for total in self.core.ledger.totals()}
        now = sums[budget].spent_on_time_micros + sums[budget].held_micros
        self.ceilings[budget] = max(self.ceilings.get(budget, 0), now, self.limits[budget])
        self.limits[budget] = self.owner.limits[budget] = limit
        self.durable_owner.limits[budget] = limit
        for index in sorted(self.core.ledger.define(budgets_array(self.limits))):
            self.core.suspend_worker(index)
            self.drain()
            self.workers[index].available = defaultdict(int)
            self.core.close_worker(index, 0)
            self.core.resume_worker(index)
        self.changes += 1

    def adjust(self, budget, amount):
        """A credit note or a correction is booked."""
        self.adjustments += 1
        event = adjustment_event(
            Adjustment(
                reference=str(self.adjustments), day_at_ms=0, exchange=1, campaign_id=2,
                budgets=(budget,), amount_micros=amount, account_currency=840,
                billed_micros=amount, bill_currency=840,
            ),
            self.now,
        )  # fmt: skip
        if self.core.take_adjustment(event).waits:
            self.unacked.append(("adjustment", budget, amount, self.now, Outcome.ADJUSTED))

    def fill_disk(self, is_full):
        self.log.is_full = is_full

    def crash_worker(self, index):
        """The process is gone with its memory; its ring is not."""
        self.workers[index].available = defaultdict(int)
        self.core.suspend_worker(index)
        self.drain()
        self.core.close_worker(index, self.core.ledger.deadline_ms_max(index))
        self.core.resume_worker(index)

    def crash_recorder(self):
        """The process is gone with its memory and what was not committed; rings are not."""
        self.log.crash()
        self.log.is_full = False
        self.unacked = []
        self.owner = copy.deepcopy(self.durable_owner)
        again = rebuilt(self.core, self.log)
        again.write_to(self.log)
        self.core = again
        for worker in self.workers:
            worker.read_count = worker.released_count
        self.drain()
        for index, worker in enumerate(self.workers):
            worker.available = defaultdict(int)
            self.core.close_worker(index, 0)

    # What must hold.

    def check(self):
        if self.log.pending:
            # What a commit withheld of budgets above their limit is said in the next one.
            self.commit()
            if self.log.pending:
                return
        for total in self.core.ledger.totals():
            limit = self.limits[total.budget_id]
            on_time, late = total.spent_on_time_micros, total.spent_late_micros
            adjusted = total.adjusted_micros
            if not self.adjustments:
                # A limit that was lowered below what was spent or reserved cannot be kept at once.
                ceiling = max(limit, self.ceilings.get(total.budget_id, 0))
                assert on_time + total.held_micros <= ceiling
                assert max(0, on_time + late - ceiling) <= late
                if not self.allows_late:
                    assert late == 0
                    assert on_time <= ceiling
            assert adjusted == self.owner.adjusted[total.budget_id]
            held = [self.owner.held[w, total.budget_id] for w in range(len(self.workers))]
            assert (on_time, late, total.held_micros, total.open_count) == (
                self.owner.on_time[total.budget_id],
                self.owner.late[total.budget_id],
                sum(held),
                len(self.owner.open_bids(total.budget_id)),
            )
            assert min(held, default=0) >= 0
        assert self.core.ledger.unfunded_count == 0

    def check_accounts(self):
        """With nothing under way, every micro that a worker holds is where both think it is."""
        self.fill_disk(is_full=False)
        self.drain()
        self.commit()
        for index, worker in enumerate(self.workers):
            for budget in self.limits:
                assert self.core.ledger.available_micros(index, budget) == worker.available.get(
                    budget, 0
                )
        assert fingerprint(rebuilt(self.core, self.log)) == fingerprint(self.core)

    # Within.

    def _settle_unacked(self):
        """Says to the model what has become durable."""
        for kind, number, price, now, outcome in self.unacked:
            if kind == "adjustment":
                self.owner.adjust(number, price)
            elif kind is EventKind.LOSS:
                self.owner.loss(number)
            elif kind is EventKind.BILLING:
                assert self.owner.settle(number, price, now) == outcome.value
                self.late_wins += outcome is Outcome.LATE
        self.unacked = []

    def _follow_control(self):
        """Lets the model do what the log says of leases and expiry: it may never refuse."""
        for kind, body in self.log.durable[self.frames_seen :]:
            message = decode_message(body) if kind == CONTROL else None
            if isinstance(message, LeasesGranted):
                for worker, budget, amount in message.leases:
                    assert self.owner.lease(worker, budget, amount) == amount > 0
            elif isinstance(message, LeasesReturned):
                for worker, budget, amount in message.leases:
                    self.owner.give_back(worker, budget, amount)
            elif message is not None:
                self.owner.expire(message.now_ms)
        self.frames_seen = len(self.log.durable)

    def _after_commit(self):
        self._settle_unacked()
        self._follow_control()
        self.durable_owner = copy.deepcopy(self.owner)
        for index, worker in enumerate(self.workers):
            worker.released_count = worker.read_count
            for (_, key), amount in credits_of(self.core, index).items():
                worker.available[key] = worker.available.get(key, 0) + amount
