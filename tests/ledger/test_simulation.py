"""The ledger and the shipper on a simulated machine, whose power fails at every call in turn.

Everything is a function of a seed. What is compared is a model of thirty lines: which bids and
charges were acknowledged, and what they cost. A failure names the seed and the call.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from ledger.checkpoint import rebuild
from ledger.event_log import EVENT_LOG
from ledger.frame import RECORDS
from ledger.log_retention import retain
from ledger.outcome import Outcome
from ledger.record import Recorder
from ledger.segment import SegmentReader, SegmentWriter
from ledger.shipper import CursorFile, Shipper, events_of
from market.errors import NotReady
from market.events import EventFlag, EventKind, read_events
from market.exchange import DEFAULT_EXCHANGES
from tests.ledger.bids import bid_event, budgets_array, notice
from tests.ledger.simulated import PowerCut, SimulatedBroker, SimulatedDisk

LOG, HOME = Path("/run/segments"), Path("/run")
LIMITS = {1: 4_000, 2: 9_000}
ACTIONS = 80


class Model:
    """What was acknowledged, and what was only asked for: the latter may be there or not."""

    def __init__(self):
        self.asked, self.acked = {}, {}

    def ask(self, key, amount):
        self.asked.setdefault(key, amount)

    def ack(self):
        self.acked |= self.asked

    def holds(self, found):
        """Nothing that was acknowledged is lost or changed; nothing is there that nobody asked."""
        assert self.acked.items() <= found.items()
        assert found.items() <= self.asked.items()


class Machine:
    """A recorder and a shipper, started again after each power cut."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.disk = SimulatedDisk(self.chance)
        self.broker = SimulatedBroker(self.chance)
        self.model = Model()
        self.now = 0
        self.bids = 0
        self.cuts = 0
        self.acknowledged = 0

    def start(self):
        self.core = Recorder(DEFAULT_EXCHANGES, 1)
        rebuild(self.core, LOG, self.disk)
        self.writer = SegmentWriter(LOG, self.disk, EVENT_LOG, segment_bytes_max=3_000)
        self.core.write_to(self.writer)
        self.core.ledger.define(budgets_array(LIMITS))
        self.core.close_worker(0, self.core.ledger.deadline_ms_max(0))
        cursor = CursorFile(HOME / "cursor", self.disk)
        self.shipper = Shipper(
            SegmentReader(LOG, self.disk, EVENT_LOG, cursor.read()), self.broker, cursor,
            lambda: self.core.sequence,
        )  # fmt: skip

    def act(self):
        draw = self.chance.random()
        self.now += self.chance.randint(0, 3)
        if draw < 0.35:
            self.bid()
        elif draw < 0.6 and self.bids:
            self.charge()
        elif draw < 0.75:
            self.step()
        elif draw < 0.9:
            self.ship()
        elif draw < 0.95:
            self.disk.full_until = self.disk.calls + self.chance.randint(1, 12)
        else:
            handled = self.shipper.shipped_sequence
            self.quietly(
                lambda: retain(
                    LOG, self.disk, DEFAULT_EXCHANGES, handled_sequence=handled,
                    oldest_ms=self.now - 10,
                )
            )  # fmt: skip

    def quietly(self, action):
        try:
            action()
        except NotReady:
            return False
        return True

    def commit(self):
        if self.quietly(self.core.commit):
            self.acknowledged += len(self.model.asked) - len(self.model.acked)
            self.model.ack()

    def bid(self):
        number, self.bids = self.bids, self.bids + 1
        budgets = self.chance.choice(((1,), (2,), (1, 2)))
        cap = self.chance.randint(1, 300)
        if all(self.core.ledger.available_micros(0, budget) >= cap for budget in budgets):
            event = bid_event(
                number, budgets=budgets, reserved=cap, bid_ms=self.now,
                deadline_ms=self.now + self.chance.randint(1, 20),
            )  # fmt: skip
            self.model.ask((EventKind.BID, number), cap)
            self.core.take_bids(event, self.now)
            self.commit()

    def charge(self):
        number = self.chance.randrange(self.bids)
        price = self.chance.randint(1, 300)
        answer = self.core.take_notice(notice(EventKind.BILLING, number, self.now, price))
        if answer.outcome in (Outcome.CHARGED, Outcome.LATE):
            self.model.ask((EventKind.BILLING, number), price)
        if answer.waits:
            self.commit()

    def step(self):
        if self.quietly(lambda: self.core.step(self.now)):
            self.model.ack()

    def ship(self):
        self.quietly(lambda: asyncio.run(self.shipper.ship()))

    def run(self, cuts_at=None):
        """Starts, acts, and starts again wherever the power fails; ends whole."""
        self.disk.cuts_at = cuts_at
        self.survive(self.start)
        for _ in range(ACTIONS):
            self.survive(self.act)
        self.disk.full_until = 0
        self.survive(self.commit)
        self.check_money()
        for _ in range(300):
            if self.shipper.shipped_sequence == self.core.sequence:
                break
            self.survive(self.ship)
        assert self.shipper.shipped_sequence == self.core.sequence
        self.check_shipped()

    def survive(self, action):
        try:
            action()
        except PowerCut:
            self.cuts += 1
            self.disk.crash()
            self.start()
            self.model.holds(self.found())
            # What came through is true from now on, and what did not was never acknowledged.
            self.model.asked = self.model.acked = dict(self.found())
            self.check_money()

    def found(self):
        """{(kind, bid): amount} of all that the recorder knows, from its own state."""
        bids = self.core.ledger.bids
        known = {}
        for key, slot in bids.items():
            number = key >> 64
            event = read_events(bytes(bids.event(slot)), EVENT_LOG.version)[0]
            known[EventKind.BID, number] = int(event["amount_micros"])
            if bids.seen[slot] & 1 << EventKind.BILLING and self.core.ledger.is_charged(slot):
                # The price is not kept with the bid: it is in the log, or in a checkpoint's sums.
                known[EventKind.BILLING, number] = self.model.asked[EventKind.BILLING, number]
        return known

    def check_money(self):
        charged = sum(
            amount for (kind, _), amount in self.model.acked.items() if kind is EventKind.BILLING
        )
        totals = self.core.ledger.totals()
        for total in totals:
            assert total.spent_on_time_micros + total.held_micros <= LIMITS[total.budget_id]
        spent = self.core.view(0).line_items
        assert sum(view.spend_micros for view in spent) == charged

    def check_shipped(self):
        """Every event of the log is in the topic, and nothing else is; repeats have equal ids."""
        arrived = {}
        for message in self.broker.messages:
            for event in events_of(message.value, message.headers):
                name = int(event["id_hi"]), int(event["id_lo"])
                assert arrived.setdefault(name, event.tobytes()) == event.tobytes()
        shipped = {
            (EventKind(int(event["kind"])), int(event["bid_hi"])): int(event["amount_micros"])
            for content in arrived.values()
            for event in read_events(content, EVENT_LOG.version)
            if not int(event["flags"]) & EventFlag.DISPUTED
        }
        assert shipped == self.model.acked


def played(seed, cuts_at=None):
    machine = Machine(seed)
    try:
        machine.run(cuts_at)
    except BaseException as error:
        error.add_note(f"seed {seed}, power cut at call {cuts_at}")
        raise
    return machine


@pytest.mark.parametrize("seed", range(8))
def test_a_power_cut_at_any_call_loses_nothing_that_was_acknowledged(seed):
    calls = played(seed).disk.calls
    assert calls > 50
    cuts = acknowledged = 0
    for at in range(1, calls, 1 if seed == 0 else 6):
        machine = played(seed, at)
        cuts += machine.cuts
        acknowledged += machine.acknowledged
    assert cuts >= (calls - 1) // (1 if seed == 0 else 6) - 2
    assert acknowledged > 2 * cuts


def test_a_run_is_a_function_of_its_seed():
    runs = [played(77, 60) for _ in range(2)]
    assert runs[0].disk.files == runs[1].disk.files
    assert runs[0].broker.messages == runs[1].broker.messages


def test_the_runs_reach_what_they_are_for():
    """Full disks, lost acknowledgements, checkpoints, archives, late wins: all of it happens."""
    names, refused, late, cut = set(), 0, 0, 0
    for seed in range(12):
        machine = played(seed)
        names |= {path.suffix for path in machine.disk.files}
        refused += machine.broker.refused
        late += sum(total.spent_late_micros for total in machine.core.ledger.totals())
        cut += bool(machine.disk.full_until or machine.core.is_stuck)
    assert {".seg", ".gz", ".checkpoint", ".epoch"} <= names
    assert refused > 5
    assert late > 0


def test_the_log_itself_says_what_was_acknowledged():
    machine = played(5, 100)
    reader = SegmentReader(
        LOG, machine.disk, EVENT_LOG,
        max(1, *(int(p.stem) + 1 for p in machine.disk.files if p.suffix == ".checkpoint"), 1),
    )  # fmt: skip
    frames = reader.read(1 << 30)
    assert frames[-1].sequence <= machine.core.sequence
    told = {
        (EventKind(int(event["kind"])), int(event["bid_hi"]))
        for frame in frames
        if frame.kind == RECORDS
        for event in read_events(frame.body, frame.schema_version)
        if not int(event["flags"]) & EventFlag.DISPUTED
    }
    assert told <= machine.model.acked.keys()
