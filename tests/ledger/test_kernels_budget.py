"""Bids in blocks against the slow twin: the same money, the same credits, the same bids known."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
import pytest

from ledger.budget import BudgetLedger
from ledger.kernels_budget import NEW
from ledger.kernels_event_id import SCRATCH_WORDS, name_events
from ledger.kernels_reservation import SECONDS
from ledger.lease import Lease
from ledger.reservation import bid_key
from market.events import EventKind, event_id
from tests.ledger.bids import bid_event, budgets_array, no_bid_event
from tests.reference.reservation import Bids

WORKERS, LEASE = 3, 400
# Past the memory of released bids; more than one turn of the lists of open bids.
JUMPS = (400_000, SECONDS * 1_024 + 1, 5 * SECONDS * 1_024)
BUDGETS = (1, 2, 2**64 - 1)


def both(limits):
    ledger = BudgetLedger(bid_capacity=2)
    ledger.define(budgets_array(dict.fromkeys(limits, 10**9)))
    twin = Bids(dict(limits))
    for worker in range(WORKERS):
        for key in limits:
            ledger.grant((Lease(worker, key, LEASE),))
            twin.held[worker, key] += LEASE
    ledger.define(budgets_array(limits))
    return ledger, twin


def play(seed, block_max):
    chance = random.Random(seed)
    # One budget is far above its limit from the start, one a little, one not.
    ledger, twin = both({BUDGETS[0]: 300, BUDGETS[1]: WORKERS * LEASE - 150, BUDGETS[2]: 10**9})
    now, number, released = 10**6, 0, 0
    for _ in range(60):
        now += chance.choice((1, 60, 700, 3_000, 9_000, chance.choice(JUMPS)))
        block, expected = [], []
        for _ in range(chance.randint(1, block_max)):
            recent = [name for name, bid in twin.bids.items() if bid[5] + 290_000 > now]
            again = bool(recent) and chance.random() < 0.1
            name = chance.choice(recent) if again else number
            worker, amount = chance.randrange(WORKERS), chance.randint(0, 60)
            budgets = tuple(chance.sample(BUDGETS, chance.randint(0, 3)))
            caps = tuple(chance.sample((5, 6, 7), chance.randint(0, 2)))
            deadline = now + chance.choice((-5, 50, 900, 5_000, 50_000, chance.choice(JUMPS)))
            if not again:
                number += 1
            block.append(
                bid_event(
                    name, worker=worker, budgets=budgets, caps=caps, reserved=amount,
                    deadline_ms=deadline,
                )
            )  # fmt: skip
            expected.append(twin.reserve(name, worker, budgets, caps, amount, deadline))
        became, _ = ledger.reserve_block(np.concatenate(block), now)
        assert [("repeat", "new")[int(each == NEW)] for each in became] == expected
        found = ledger.release_due(now, withholds=True)
        count, money, counts = twin.expire(now)
        released += count
        assert found.bid_count == count
        assert {(c.worker, c.key): c.amount for c in found.told} == money
        back = defaultdict(int)
        for caps in found.caps:
            for key, worker in caps.tolist():
                back[worker, key] += 1
        assert back == counts
        for key in BUDGETS:
            held = sum(held for (_, of), held in twin.held.items() if of == key)
            total = next(total for total in ledger.totals() if total.budget_id == key)
            assert total.held_micros == held
            for worker in range(WORKERS):
                free = twin.held[worker, key] - twin.open[worker, key]
                assert ledger.available_micros(worker, key) == free
    assert released > 100
    assert twin.unfunded == ledger.unfunded_count > 0
    for name, bid in twin.bids.items():
        slot = ledger.bids.find(bid_key(name, name + 1))
        # Forgotten is only what is over: a released bid, 300 seconds after its deadline.
        assert slot is not None or (bid[0] == "released" and bid[5] + 300_000 < now)
    return len(ledger.bids)


@pytest.mark.parametrize("seed", range(12))
def test_blocks_of_bids_do_what_one_bid_after_the_other_does(seed):
    assert play(seed, block_max=30) > 0


@pytest.mark.plain
def test_a_few_bids_do_the_same_where_kernels_are_plain_python():
    assert play(99, block_max=8) > 0


@pytest.mark.plain
def test_events_are_named_by_what_they_say():
    chance = random.Random(4)
    events = np.concatenate(
        [
            no_bid_event(chance.randrange(2**60), ts_ms=chance.randrange(2**42))
            if n % 3 == 0
            else bid_event(chance.choice((0, 9, 10, 2**64 - 2, chance.randrange(2**64 - 1))))
            for n in range(40)
        ]
    )
    name_events(events, 77, np.full(SCRATCH_WORDS, 2**63, np.uint64))
    assert events["recv_ms"].tolist() == [77] * 40
    for event in events:
        names = ("bid_hi", "bid_lo") if event["kind"] == EventKind.BID else (
            "opportunity_hi", "opportunity_lo", "ts_ms",
        )  # fmt: skip
        said = [int(event[name]) for name in names]
        assert (int(event["id_hi"]), int(event["id_lo"])) == event_id(int(event["kind"]), *said)


def test_known_bids_are_found_while_the_pool_grows_and_forgets():
    ledger = BudgetLedger(bid_capacity=2)
    chance = random.Random(8)
    now, known = 0, {}
    for _ in range(300):
        now += 2_000
        block = []
        for _ in range(20):
            number = chance.randrange(2**63)
            known[number] = now + chance.randint(0, 5_000)
            block.append(bid_event(number, budgets=(), deadline_ms=known[number]))
        ledger.reserve_block(np.concatenate(block), now)
        ledger.release_due(now, withholds=False)
    found = {
        number for number in known if ledger.bids.find(bid_key(number, number + 1)) is not None
    }
    assert {number for number, deadline in known.items() if deadline + 300_000 >= now} <= found
    assert len(ledger.bids) == len(found) == len(ledger.bids.items())
    # What is over is forgotten by the time that a pool of its size was gone through.
    assert len(found) < len(known) * 3 // 4
