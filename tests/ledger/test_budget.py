"""The owner of the budgets, rule by rule; histories are in test_budget_histories."""

from __future__ import annotations

import numpy as np
import pytest

from ledger.account import RESERVATIONS_PER_LEASE, Charge, Settlement
from ledger.budget import IDLE_MS, BudgetLedger
from ledger.lease import Credit, Lease
from ledger.reservation import bid_key
from market.state import CreditKind
from tests.ledger.bids import FAR_MS, bid_event, budgets_array, no_bid_event

BUDGET, CAP = CreditKind.BUDGET, CreditKind.CAP


def ledger_with(limits, *, worker_count=1):
    """A ledger whose first leases are granted."""
    ledger = BudgetLedger()
    ledger.define(budgets_array(limits))
    ledger.grant(ledger.top_up(0, worker_count))
    return ledger


def reserve(ledger, number, now_ms=0, **bid):
    """Opens one bid and returns its (slot, reservation)."""
    assert ledger.reserve(bid_event(number, **bid), now_ms).new == [0]
    slot = ledger.bids.find(bid_key(number, number + 1))
    return slot, ledger.bids.reservation(slot)


def total(ledger, budget_id=1):
    return next(total for total in ledger.totals() if total.budget_id == budget_id)


def money(ledger, budget_id=1):
    """(S_on, S_late, held, open count)."""
    return total(ledger, budget_id)[2:6]


# Leases.


def test_the_first_lease_is_a_share_of_half_the_budget_for_each_worker():
    ledger = BudgetLedger()
    ledger.define(budgets_array({1: 1_000, 2: 7}))
    granted = ledger.top_up(0, 2)
    assert granted == (Lease(0, 1, 250), Lease(1, 1, 250), Lease(0, 2, 1), Lease(1, 2, 1))
    assert ledger.grant(granted)[:2] == [Credit(0, BUDGET, 1, 250), Credit(1, BUDGET, 1, 250)]
    assert money(ledger) == (0, 0, 500, 0)
    assert ledger.top_up(0, 2) == ()


def test_a_worker_is_topped_up_only_below_half_of_the_target():
    ledger = ledger_with({1: 1_000})
    assert money(ledger) == (0, 0, 500, 0)
    # 500 are free: the target is 250. 500 - 370 = 130 is above half of it, 120 below.
    for number in range(37):
        reserve(ledger, number, reserved=10)
    assert ledger.top_up(0, 1) == ()
    reserve(ledger, 37, reserved=10)
    assert ledger.top_up(0, 1) == (Lease(0, 1, 130),)


def test_a_lease_is_worth_a_few_of_the_largest_reservations_while_there_is_money():
    ledger = ledger_with({1: 1_000})
    reserve(ledger, 1, reserved=200)
    reserve(ledger, 2, reserved=180)
    (lease,) = ledger.top_up(0, 1)
    assert lease.amount_micros == min(RESERVATIONS_PER_LEASE * 200 - 120, 500)


def test_what_is_free_is_handed_out_in_order_of_workers_and_never_twice():
    ledger = BudgetLedger()
    ledger.define(budgets_array({1: 100}))
    ledger.grant((Lease(0, 1, 50),))
    reserve(ledger, 1, reserved=40)
    assert ledger.top_up(0, 3) == (Lease(0, 1, 50),)
    ledger.grant((Lease(0, 1, 50),))
    assert total(ledger).held_micros == 100


def test_late_wins_reduce_later_leases():
    ledger = ledger_with({1: 1_000})
    slot, bid = reserve(ledger, 1, reserved=400)
    ledger.expire(2_000)
    ledger.settle(slot, bid, 400, is_late=True)
    assert money(ledger) == (0, 400, 500, 0)
    for number in range(2, 7):
        reserve(ledger, number, reserved=100)
    assert sum(lease.amount_micros for lease in ledger.top_up(2_000, 1)) == 100


def test_a_budget_whose_end_has_passed_gets_no_lease():
    ledger = BudgetLedger()
    ledger.define(budgets_array({1: 1_000}, end_at_ms=500))
    assert ledger.top_up(500, 1) == ()
    assert ledger.top_up(499, 1) == ()  # it was looked at, and nothing has touched it since
    ledger.define(budgets_array({1: 1_001}, end_at_ms=500))
    assert ledger.top_up(499, 1) == (Lease(0, 1, 500),)


def test_a_higher_limit_frees_money_and_a_lower_one_names_who_holds_too_much():
    ledger = ledger_with({1: 1_000}, worker_count=2)
    assert ledger.define(budgets_array({1: 4_000})) == set()
    granted = ledger.top_up(0, 2)
    assert granted == (Lease(0, 1, 625), Lease(1, 1, 625))
    ledger.grant(granted)
    reserve(ledger, 1, worker=1, reserved=875)
    assert ledger.define(budgets_array({1: 1_750})) == set()
    assert ledger.define(budgets_array({1: 1_749})) == {0}
    assert ledger.top_up(0, 2) == ()


def test_an_idle_worker_strands_money_once_another_has_none():
    ledger = ledger_with({1: 1_000}, worker_count=2)
    assert ledger.stranding(IDLE_MS, 2) == set()  # nobody has bid, so nobody lacks anything
    for number in range(75):
        reserve(ledger, number, now_ms=number, reserved=10)
        ledger.grant(ledger.top_up(number, 2))
    assert (ledger.available_micros(0, 1), ledger.available_micros(1, 1)) == (0, 250)
    assert ledger.stranding(IDLE_MS, 2) == {1}
    ledger.close_worker(1, 0)
    ledger.give_back(ledger.thaw(IDLE_MS))
    ledger.grant(ledger.top_up(IDLE_MS, 2))
    # Both get their share of the 250: the next turn would strand less.
    assert (ledger.available_micros(0, 1), ledger.available_micros(1, 1)) == (62, 62)


@pytest.mark.parametrize("why", ["used", "suspended", "ended", "free", "worth too little"])
def test_no_lease_is_recalled_where_that_helps_nobody(why):
    ledger = ledger_with({1: 1_000}, worker_count=2)
    reserve(ledger, 1, worker=0, reserved=250)
    reserve(ledger, 2, now_ms=500 if why == "used" else 0, worker=1, reserved=1)
    if why != "free":
        ledger.define(budgets_array({1: 500}, end_at_ms=IDLE_MS if why == "ended" else 10**9))
    if why == "worth too little":
        reserve(ledger, 3, worker=1, reserved=229)
    if why == "suspended":
        ledger.suspend_worker(1)
    # 250 were reserved once, so "a few reservations" are 1,000: hold it against smaller ones.
    ledger._budgets[1].reserved_micros_max = 5
    assert ledger.stranding(IDLE_MS, 2) == set()


def test_no_lease_is_granted_from_a_budget_that_only_the_log_knows():
    ledger = BudgetLedger()
    ledger.grant((Lease(0, 1, 50),))
    assert total(ledger).limit_micros == 0
    assert ledger.top_up(0, 1) == ()


# Reservations.


def test_a_bid_takes_from_all_of_its_budgets_or_from_none():
    ledger = ledger_with({1: 1_000, 2: 100})
    reserve(ledger, 1, budgets=(1, 2), reserved=50)
    assert money(ledger, 1)[3] == money(ledger, 2)[3] == 1
    slot, _ = reserve(ledger, 2, budgets=(1, 2), reserved=1)
    assert ledger.unfunded_count == 1
    assert money(ledger, 1)[3] == 1
    assert ledger.release(slot) == []


def test_a_bid_that_is_read_twice_is_reserved_once():
    ledger = ledger_with({1: 1_000})
    events = np.concatenate([bid_event(1), bid_event(2), bid_event(1)])
    assert ledger.reserve(events, 0).new == [0, 1]
    assert ledger.reserve(events, 0).new == []
    assert money(ledger) == (0, 0, 500, 2)


def test_a_bid_id_that_was_made_twice_is_credited_back_to_who_made_it_again():
    ledger = ledger_with({1: 1_000})
    reserve(ledger, 1, reserved=30)
    again = bid_event(1, reserved=30, worker=1, caps=(5, 6))
    assert ledger.reserve(again, 0) == (
        [],
        [
            Credit(1, CreditKind.BUDGET, 1, 30), Credit(1, CreditKind.CAP, 5, 1),
            Credit(1, CreditKind.CAP, 6, 1),
        ],
    )  # fmt: skip
    assert money(ledger)[3] == 1, "the owner knows one"


def test_events_that_are_no_bids_reserve_nothing_and_are_always_new():
    ledger = ledger_with({1: 1_000})
    events = np.concatenate([no_bid_event(1), no_bid_event(1), bid_event(1)])
    assert ledger.reserve(events, 0).new == [0, 1, 2]
    assert len(ledger.bids) == 1


# Settlements.


def test_a_win_on_time_is_charged_and_the_rest_goes_back_to_its_worker():
    ledger = ledger_with({1: 1_000, 2: 1_000})
    slot, bid = reserve(ledger, 1, budgets=(1, 2), reserved=100, deadline_ms=50)
    assert ledger.judge(slot, bid, 60, 50) == Settlement(Charge.ON_TIME, 60)
    assert ledger.settle(slot, bid, 60, is_late=False) == [
        Credit(0, BUDGET, 1, 40), Credit(0, BUDGET, 2, 40),
    ]  # fmt: skip
    assert money(ledger, 1) == money(ledger, 2) == (60, 0, 440, 0)
    assert ledger.available_micros(0, 1) == 440


def test_a_second_charging_notice_is_a_duplicate_whatever_it_says():
    ledger = ledger_with({1: 1_000})
    slot, bid = reserve(ledger, 1)
    ledger.settle(slot, bid, 60, is_late=False)
    for amount in (0, 60, 100, 101):
        assert ledger.judge(slot, bid, amount, 10) == Settlement(Charge.DUPLICATE, 0)


def test_a_price_above_the_reservation_is_disputed_and_the_reservation_expires():
    ledger = ledger_with({1: 1_000})
    slot, bid = reserve(ledger, 1, reserved=100, deadline_ms=50)
    assert ledger.judge(slot, bid, 101, 10) == Settlement(Charge.DISPUTED, 0)
    assert money(ledger) == (0, 0, 500, 1)
    assert ledger.expire(51) == (1, [Credit(0, BUDGET, 1, 100)])
    assert ledger.judge(slot, bid, 101, 60) == Settlement(Charge.DISPUTED, 0)


def test_a_win_after_the_deadline_is_late_even_before_it_is_expired():
    ledger = ledger_with({1: 1_000})
    slot, bid = reserve(ledger, 1, reserved=100, deadline_ms=50)
    assert ledger.judge(slot, bid, 70, 51) == Settlement(Charge.LATE, 70)
    assert ledger.settle(slot, bid, 70, is_late=True) == [Credit(0, BUDGET, 1, 100)]
    assert money(ledger) == (0, 70, 500, 0)
    assert ledger.expire(51) == (0, [])


def test_a_win_after_a_loss_notice_is_late_and_always_paid():
    ledger = ledger_with({1: 1_000})
    slot, bid = reserve(ledger, 1, reserved=100, deadline_ms=50)
    assert ledger.release(slot) == [Credit(0, BUDGET, 1, 100)]
    assert ledger.release(slot) == []
    assert ledger.judge(slot, bid, 100, 10) == Settlement(Charge.LATE, 100)
    assert ledger.settle(slot, bid, 100, is_late=True) == []
    assert money(ledger) == (0, 100, 500, 0)


def test_a_late_win_overspends_by_itself_and_no_more():
    ledger = ledger_with({1: 200})
    late, bid = reserve(ledger, 1, reserved=100, deadline_ms=10)
    ledger.expire(11)
    ledger.grant((Lease(0, 1, 100),))
    for number in (2, 3):
        slot, other = reserve(ledger, number, reserved=100, deadline_ms=50)
        ledger.settle(slot, other, 100, is_late=False)
    assert ledger.judge(late, bid, 100, 20) == Settlement(Charge.LATE, 100)
    ledger.settle(late, bid, 100, is_late=True)
    assert money(ledger) == (200, 100, 0, 0)


def test_a_test_bid_is_never_charged_and_expires():
    ledger = ledger_with({1: 1_000})
    slot, bid = reserve(ledger, 1, is_test=True, deadline_ms=50)
    assert ledger.judge(slot, bid, 10, 10) == Settlement(Charge.TEST, 0)
    assert ledger.judge_unknown(bid, 10, 10) == Settlement(Charge.TEST, 0)
    assert ledger.expire(51)[0] == 1


def test_an_unfunded_bid_cannot_break_the_bound_its_win_is_late():
    ledger = ledger_with({1: 100})
    slot, bid = reserve(ledger, 1, reserved=51)
    assert ledger.judge(slot, bid, 51, 10) == Settlement(Charge.LATE, 51)


def test_expiry_takes_place_after_the_deadline_not_at_it():
    ledger = ledger_with({1: 1_000})
    reserve(ledger, 1, reserved=100, deadline_ms=50)
    assert ledger.expire(50) == (0, [])
    assert ledger.expire(51) == (1, [Credit(0, BUDGET, 1, 100)])


@pytest.mark.parametrize("ending", ["loss", "expiry"])
def test_frequency_counts_come_back_with_a_reservation_and_go_again_with_a_late_win(ending):
    ledger = ledger_with({1: 1_000})
    slot, bid = reserve(ledger, 1, caps=(8, 9), reserved=100, deadline_ms=50)
    told = ledger.release(slot) if ending == "loss" else ledger.expire(51)[1]
    assert told[1:] == [Credit(0, CAP, 8, 1), Credit(0, CAP, 9, 1)]
    told = ledger.settle(slot, bid, 1, is_late=True)
    assert told == [Credit(0, CAP, 8, -1), Credit(0, CAP, 9, -1)]


def test_a_charged_bid_keeps_its_frequency_counts():
    ledger = ledger_with({1: 1_000})
    slot, bid = reserve(ledger, 1, caps=(8, 9), reserved=100)
    assert ledger.settle(slot, bid, 100, is_late=False) == []
    late, bid = reserve(ledger, 2, caps=(8, 9), reserved=100, deadline_ms=5)
    assert ledger.settle(late, bid, 100, is_late=True) == [Credit(0, BUDGET, 1, 100)]


# Crashed workers.


def test_a_crashed_workers_lease_is_held_until_its_last_deadline_has_passed():
    ledger = ledger_with({1: 1_000})
    reserve(ledger, 1, reserved=100, deadline_ms=50)
    reserve(ledger, 2, reserved=100, deadline_ms=80)
    assert ledger.deadline_ms_max(0) == 80
    ledger.close_worker(0, ledger.deadline_ms_max(0))
    assert ledger.available_micros(0, 1) == 0
    assert ledger.thaw(80) == ()
    assert ledger.thaw(81) == (Lease(0, 1, 300),)
    ledger.give_back((Lease(0, 1, 300),))
    assert money(ledger) == (0, 0, 200, 2)
    assert ledger.thaw(10_000) == ()


def test_a_crashed_workers_wins_settle_against_its_lease():
    ledger = ledger_with({1: 1_000})
    slot, bid = reserve(ledger, 1, reserved=100, deadline_ms=50)
    ledger.close_worker(0, 50)
    assert ledger.judge(slot, bid, 60, 50).charge is Charge.ON_TIME
    assert ledger.settle(slot, bid, 60, is_late=False) == [Credit(0, BUDGET, 1, 40)]
    assert money(ledger) == (60, 0, 440, 0)
    # The 40 belong to the next process of this worker, the frozen 400 to nobody yet.
    assert ledger.available_micros(0, 1) == 40


def test_a_suspended_worker_gets_nothing_and_after_it_everything():
    ledger = BudgetLedger()
    ledger.suspend_worker(0)
    ledger.define(budgets_array({1: 1_000}))
    assert ledger.top_up(0, 2) == (Lease(1, 1, 250),)
    ledger.resume_worker(0)
    assert ledger.top_up(0, 1) == (Lease(0, 1, 500),)


def test_a_win_whose_bid_was_lost_with_the_power_is_paid_from_the_frozen_lease():
    ledger = ledger_with({1: 1_000})
    _, bid = reserve(BudgetLedger(), 1, reserved=100, deadline_ms=50)
    assert ledger.judge_unknown(bid, 60, 10) == Settlement(Charge.LATE, 60)
    ledger.close_worker(0, 50)
    assert ledger.judge_unknown(bid, 60, 10) == Settlement(Charge.ON_TIME, 60)
    assert ledger.judge_unknown(bid, 60, 51) == Settlement(Charge.LATE, 60)
    assert ledger.judge_unknown(bid, 101, 10) == Settlement(Charge.DISPUTED, 0)
    assert ledger.judge_unknown(bid._replace(budget_1=0), 60, 10) == Settlement(Charge.LATE, 60)


def test_a_bid_of_a_worker_thought_dead_settles_against_its_frozen_lease():
    ledger = ledger_with({1: 1_000})
    ledger.close_worker(0, 100)
    slot, bid = reserve(ledger, 1, reserved=80, deadline_ms=300)
    assert money(ledger) == (0, 0, 500, 1)
    assert ledger.thaw(101) == (Lease(0, 1, 420),), "what it reserved meanwhile is not free"
    ledger.give_back((Lease(0, 1, 420),))
    assert ledger.judge(slot, bid, 60, 200) == Settlement(Charge.ON_TIME, 60)
    ledger.settle(slot, bid, 60, is_late=False)
    assert money(ledger) == (60, 0, 20, 0)


def test_a_bid_of_a_worker_whose_lease_was_given_back_is_unfunded_and_its_win_late():
    ledger = ledger_with({1: 1_000})
    ledger.close_worker(0, 100)
    ledger.give_back(ledger.thaw(101))
    slot, bid = reserve(ledger, 1, reserved=80, deadline_ms=300)
    assert ledger.unfunded_count == 1
    assert ledger.judge(slot, bid, 60, 200) == Settlement(Charge.LATE, 60)
    ledger.settle(slot, bid, 60, is_late=True)
    assert money(ledger) == (0, 60, 0, 0)


def test_what_a_new_worker_was_granted_covers_its_bids_before_the_frozen_lease_does():
    ledger = ledger_with({1: 1_000})
    ledger.close_worker(0, 100)
    ledger.grant((Lease(0, 1, 100),))
    reserve(ledger, 1, reserved=80)
    assert ledger.available_micros(0, 1) == 20
    reserve(ledger, 2, reserved=80)
    assert ledger.available_micros(0, 1) == 0
    assert ledger.thaw(101) == (Lease(0, 1, 440),)


def test_closing_a_worker_twice_freezes_what_came_between_until_the_later_time():
    ledger = ledger_with({1: 1_000})
    ledger.close_worker(0, 100)
    ledger.grant((Lease(0, 1, 50),))
    ledger.close_worker(0, 10)
    assert ledger.thaw(100) == ()
    assert ledger.thaw(101) == (Lease(0, 1, 550),)


def test_only_workers_that_hold_money_are_named():
    ledger = ledger_with({1: 1_000}, worker_count=2)
    ledger.grant((Lease(5, 1, 1),))
    assert ledger.workers() == [0, 1, 5]
    ledger.give_back((Lease(5, 1, 1),))
    assert ledger.workers() == [0, 1]


def test_a_budget_without_an_end_is_never_over():
    ledger = ledger_with({1: 1_000})
    reserve(ledger, 1, reserved=480)
    assert ledger.top_up(FAR_MS - 1, 1) != ()
