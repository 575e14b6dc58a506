"""Reservations: found by bid, expired by deadline, forgotten when their time is over."""

from __future__ import annotations

import random

import pytest

from ledger.event_bytes import EVENT_BYTES
from ledger.reservation import (
    CHARGED_MEMORY_MS,
    RELEASED_MEMORY_MS,
    Reservations,
    ReservationState,
    bid_key,
)
from market.events import EventKind
from tests.ledger.bids import bid_event

OPEN, RELEASED, CHARGED = (
    ReservationState.OPEN,
    ReservationState.RELEASED,
    ReservationState.CHARGED,
)


def add(bids, number, *, deadline_ms=1_000, state=OPEN, now_ms=0):
    event = bid_event(number, deadline_ms=deadline_ms)
    return bids.add(event.tobytes(), state, now_ms)


def key(number):
    return bid_key(number, number + 1)


def test_a_bid_is_found_by_its_id_and_its_record_is_kept_whole():
    bids = Reservations()
    event = bid_event(2**64 - 2, budgets=(5, 6), caps=(9,), reserved=123, worker=3, rate=7)
    slot = bids.add(event.tobytes(), OPEN, 0)
    assert bids.find(key(2**64 - 2)) == slot
    assert bids.find(key(1)) is None
    assert bytes(bids.event(slot)) == event.tobytes()
    bid = bids.reservation(slot)
    assert (bid.reserved_micros, bid.worker, bid.rate_micros) == (123, 3, 7)
    assert (bid.budgets, bid.caps) == ([5, 6], [9])
    assert (bid.line_item_id, bid.creative_id, bid.is_test) == (7, 70, False)
    assert len(bids) == 1


def test_a_copy_of_a_record_is_no_view_of_it():
    bids = Reservations()
    slot = add(bids, 1)
    bids.event(slot)[:] = bytes(EVENT_BYTES)
    assert bids.reservation(slot).reserved_micros == 100


def test_due_bids_are_those_with_a_deadline_before_now_each_once():
    chance = random.Random(5)
    bids = Reservations(capacity=4)
    deadlines = {number: chance.randrange(0, 9_000) for number in range(300)}
    slots = {add(bids, number, deadline_ms=at): number for number, at in deadlines.items()}
    popped = set()
    now = 0
    while now <= 9_000:
        due = {slots[slot] for slot in bids.due(now, 1_000).tolist()}
        assert due == {n for n, at in deadlines.items() if at < now} - popped
        for number in due:
            bids.close(bids.find(key(number)), RELEASED)
        popped |= due
        now += chance.randrange(0, 1_500)
    assert len(popped) > 200


def test_a_settled_bid_is_never_due():
    bids = Reservations()
    bids.close(add(bids, 1), CHARGED)
    still_open = add(bids, 2)
    assert bids.due(10_000, 9).tolist() == [still_open]


@pytest.mark.parametrize(
    ("state", "memory_ms"), [(RELEASED, RELEASED_MEMORY_MS), (CHARGED, CHARGED_MEMORY_MS)]
)
def test_room_is_made_by_forgetting_bids_whose_memory_is_over(state, memory_ms):
    bids = Reservations(capacity=4)
    for number in range(4):
        bids.close(add(bids, number, deadline_ms=number), state)
    bids.orders[bids.find(key(0))] = {77}
    bids.seen[bids.find(key(0))] = 1 << EventKind.CONVERSION
    now = memory_ms + 3
    slots = {add(bids, number, deadline_ms=now, now_ms=now) for number in (10, 11, 12)}
    assert [bids.find(key(number)) for number in (0, 1, 2)] == [None, None, None]
    assert bids.find(key(3)) is not None
    assert bids.orders == {}
    assert len(slots) == 3
    assert len(bids) == 4


def test_the_pool_grows_when_nothing_may_be_forgotten():
    bids = Reservations(capacity=2)
    slots = {number: add(bids, number, now_ms=10**15) for number in range(100)}
    assert len(set(slots.values())) == 100
    for number, slot in slots.items():
        assert bids.find(key(number)) == slot
        assert bids.reservation(slot).deadline_ms == 1_000
    assert len(bids.due(10**15, 1_000)) == 100


def test_a_slot_that_was_given_to_another_bid_is_due_at_the_other_bids_deadline():
    bids = Reservations(capacity=1)
    bids.close(add(bids, 1, deadline_ms=5), RELEASED)
    late = RELEASED_MEMORY_MS + 10
    slot = add(bids, 2, deadline_ms=late + 5_000, now_ms=late)
    assert slot == 0
    assert bids.due(late, 9).tolist() == []
    assert bids.due(late + 5_001, 9).tolist() == [slot]
