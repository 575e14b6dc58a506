"""The recorder's end of a worker: leases come back exactly, whoever was killed in between."""

from __future__ import annotations

import pytest

from ledger.link import _RESET, WorkerLink
from ledger.ring import Ring
from market.control import WORKER_WORDS, WorkerWord
from market.events import EVENT_DTYPE, EventKind
from market.state import CREDIT_DTYPE, CreditKind
from tests.ledger.bids import CrashingLog, budgets_array, notice, rebuilt, recorder
from tests.reference.worker import Worker

LIMIT = 1_000
PID = int(WorkerWord.PID)


class Place:
    """One worker, its rings on disk, and the recorder that owns its money."""

    def __init__(self, folder, capacity=64):
        self.folder = folder
        self.living = {101}
        self.words = memoryview(bytearray(8 * WORKER_WORDS)).cast("q")
        self.words[PID] = 101
        Ring.create(folder / "events.ring", EVENT_DTYPE, 256)
        Ring.create(folder / "credits.ring", CREDIT_DTYPE, capacity)
        self.log = CrashingLog()
        self.core = recorder({1: LIMIT}, log=self.log)
        self.link = self.open_link()
        self.worker = self.start_worker()
        self.now = 0
        self.turn()

    def open_link(self):
        return WorkerLink(
            0,
            Ring(self.folder / "events.ring", EVENT_DTYPE),
            Ring(self.folder / "credits.ring", CREDIT_DTYPE),
            self.words,
            self.living.__contains__,
        )

    def start_worker(self):
        return Worker(
            Ring(self.folder / "events.ring", EVENT_DTYPE),
            Ring(self.folder / "credits.ring", CREDIT_DTYPE),
        )

    def turn(self, ms=0, *, is_thorough=False):
        """What the process does in one tick of its own."""
        self.now += ms
        self.link.read(self.core, self.now)
        self.link.watch(self.core, self.now, is_thorough=is_thorough)
        self.core.step(self.now)
        self.link.release()
        self.link.push_credits(self.core)

    def restart_recorder(self):
        self.log.crash()
        self.core = rebuilt(self.core, self.log)
        self.core.write_to(self.log)
        self.link = self.open_link()

    def held(self):
        return self.core.ledger.totals()[0].held_micros

    def available(self):
        return self.core.ledger.available_micros(0, 1)


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    place.worker.take_credits()
    assert place.worker.available == {1: 500}
    return place


def test_bids_and_credits_go_through_the_rings(place):
    assert place.worker.bid(1, 100, deadline_ms=50)
    place.turn()
    assert place.core.ledger.totals()[0].open_count == 1
    place.turn(51)
    place.worker.take_credits()
    assert place.worker.available[1] == place.available() == 500


def test_room_in_the_events_ring_comes_back_only_with_the_release(place):
    place.worker.bid(1, 1)
    place.link.read(place.core, 0)
    assert Ring(place.folder / "events.ring", EVENT_DTYPE).pending_count() == 1
    place.link.release()
    assert Ring(place.folder / "events.ring", EVENT_DTYPE).pending_count() == 0


def test_reading_stops_while_the_core_has_no_room(place):
    place.worker.bid(1, 1)
    place.core._buffer._bytes = 1 << 30
    assert place.link.read(place.core, 0) == 0
    place.core._buffer._bytes = 0
    assert place.link.read(place.core, 0) == 1


def test_credits_that_do_not_fit_wait_and_none_is_lost(tmp_path):
    place = Place(tmp_path, capacity=2)
    place.worker.take_credits()
    for number in range(5):
        assert place.worker.bid(number, 10, caps=(number + 1,), deadline_ms=10)
    place.turn()
    place.turn(11)
    counts = {}
    for _ in range(4):
        counts.update(place.worker.take_credits())
        place.turn()
    assert place.worker.available[1] == place.available() == 500
    assert counts == {1: 1, 2: 1, 3: 1, 4: 1, 5: 1}


def test_a_recorder_that_restarts_takes_back_the_credits_it_cannot_remember(place):
    for number in range(2):
        place.worker.bid(number, 100, deadline_ms=50)
    place.turn()
    place.core.take_notice(notice(EventKind.BILLING, 0, 1, 60))
    place.core.commit()  # durable, but its credit was never pushed
    place.worker.bid(2, 100, deadline_ms=50)
    place.restart_recorder()
    place.link.fence(place.core, 0)
    place.turn(2)
    assert place.link.is_fencing, "the worker has not looked at its credits yet"
    assert not place.worker.bid(3, 301, deadline_ms=50)
    assert place.worker.bid(4, 50, deadline_ms=50)
    place.worker.take_credits()
    assert place.worker.available == {1: 0}
    assert not place.worker.bid(5, 1, deadline_ms=50)
    place.turn(1)
    assert not place.link.is_fencing
    place.turn(1)
    place.worker.take_credits()
    totals = place.core.ledger.totals()[0]
    assert (totals.spent_on_time_micros, totals.open_count) == (60, 3)
    assert place.worker.available[1] == place.available()
    assert totals.spent_on_time_micros + totals.held_micros <= LIMIT
    place.turn(100)
    place.worker.take_credits()
    assert place.worker.available[1] == place.available() == place.held()
    assert place.core.ledger.unfunded_count == 0


def test_a_crashed_worker_is_noticed_by_the_next_process_and_frozen_until_its_last_deadline(place):
    place.worker.bid(1, 100, deadline_ms=50)
    place.turn()
    place.worker.bid(2, 100, deadline_ms=80)
    place.living = {202}
    place.link._is_alive = place.living.__contains__
    place.words[PID] = 202
    place.worker = place.start_worker()
    place.turn(1)
    assert place.link.is_fencing
    place.worker.take_credits()
    place.turn(1)
    assert not place.link.is_fencing
    assert place.core.ledger.totals()[0].open_count == 2
    assert place.held() == 500 + place.available()
    place.turn(78)  # 80: the last deadline itself
    assert place.held() == 500 + place.available() - 100
    place.turn(1)
    place.worker.take_credits()
    assert place.worker.available[1] == place.available() == place.held()


def test_a_worker_that_died_unseen_is_found_by_asking_and_gets_nothing_while_gone(place):
    place.worker.bid(1, 100, deadline_ms=50)
    place.turn()
    place.living.clear()
    place.turn(1)
    assert not place.link.is_fencing
    place.turn(1, is_thorough=True)
    assert place.link.is_gone
    place.turn(60, is_thorough=True)
    place.turn(1)
    place.turn(1, is_thorough=True)
    place.turn(1)
    assert place.held() == 0, "nobody holds what nobody can spend"
    place.living.add(303)
    place.words[PID] = 303
    place.worker = place.start_worker()
    place.worker.take_credits()
    assert not any(place.worker.available.values())
    place.turn(1)
    place.worker.take_credits()
    assert place.worker.available[1] == place.available() == place.held() > 0


def test_a_new_process_cannot_use_the_credits_of_the_dead_one(place):
    place.worker.bid(1, 100, deadline_ms=50)
    place.turn()
    place.core.take_notice(notice(EventKind.BILLING, 1, 1, 60))
    place.turn()
    assert Ring(place.folder / "credits.ring", CREDIT_DTYPE).pending_count() > 0
    place.living.clear()
    place.turn(1, is_thorough=True)
    worker = place.start_worker()
    worker.take_credits()
    assert not any(worker.available.values())


def test_a_worker_that_leaves_in_order_is_gone_too(place):
    place.words[PID] = 0
    place.turn(1)
    assert place.link.is_gone
    place.turn(1)
    assert place.held() == 0


def test_a_worker_that_was_never_started_may_be_granted_its_share(tmp_path):
    place = Place(tmp_path)
    place.link._pid = 0
    place.words[PID] = 0
    place.turn(1, is_thorough=True)
    place.words[PID] = 101
    place.turn(1, is_thorough=True)
    assert not place.link.is_fencing
    assert place.available() == 500


def test_a_full_credits_ring_holds_the_fence_up_and_nothing_else(tmp_path):
    place = Place(tmp_path, capacity=1)
    place.link.fence(place.core, 0)
    place.turn(1)
    assert place.link.is_fencing
    place.worker.take_credits()
    place.turn(1)
    place.worker.take_credits()
    place.turn(1)
    assert not place.link.is_fencing


def test_a_lowered_limit_takes_back_what_a_worker_holds_too_much(place):
    assert place.core.ledger.define(budgets_array({1: 200})) == {0}
    place.link.fence(place.core, 0)
    place.turn(1)
    place.worker.take_credits()
    place.turn(1)
    place.worker.take_credits()
    place.turn(1)
    place.worker.take_credits()
    assert place.worker.available[1] == place.held() == 100


def test_a_fence_waits_for_bids_that_do_not_fit_yet(place):
    place.worker.bid(1, 100, deadline_ms=50)
    place.core._buffer._bytes = 1 << 30
    place.link.fence(place.core, 0)
    place.link.watch(place.core, 0, is_thorough=False)
    place.worker.take_credits()
    place.link.watch(place.core, 0, is_thorough=False)
    assert place.link.is_fencing
    place.core._buffer._bytes = 0
    place.link.watch(place.core, 0, is_thorough=False)
    assert not place.link.is_fencing


def test_a_reset_credit_has_the_kind_that_workers_know():
    assert _RESET["kind"] == CreditKind.RESET


def test_what_a_worker_took_for_the_same_bid_twice_comes_back(place):
    for _ in range(3):
        assert place.worker.bid(1, 100, caps=(9,), deadline_ms=50)
    place.turn()
    assert place.worker.take_credits() == {9: 2}
    assert place.worker.available[1] == place.available() == 400
    place.turn(51)
    assert place.worker.take_credits() == {9: 1}
    assert place.worker.available[1] == place.available() == 500


def test_events_that_are_read_again_after_a_crash_are_credited_to_nobody(place):
    assert place.worker.bid(1, 100, caps=(9,), deadline_ms=5_000)
    place.link.read(place.core, place.now)
    place.core.step(place.now)
    # The recorder dies between its commit and the release of the ring.
    place.restart_recorder()
    place.link.fence(place.core, 0)
    place.turn()
    counts = place.worker.take_credits()
    place.turn()
    counts |= place.worker.take_credits()
    assert counts == {}
    assert place.core.ledger.totals()[0].open_count == 1
    assert place.worker.available[1] == place.available() <= LIMIT - 100
