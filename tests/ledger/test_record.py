"""The recorder's core: what is recorded, charged, counted and told, and when it becomes true."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ledger.event_log import EVENT_LOG
from ledger.frame import CONTROL, RECORDS
from ledger.notice_price import Fault
from ledger.outcome import Answer, Outcome
from ledger.record import Recorder, meet_kernels
from ledger.reservation import CHARGED_MEMORY_MS, RELEASED_MEMORY_MS
from ledger.segment import Frame, SegmentWriter, recover
from market.errors import Corrupt, NotReady
from market.events import EVENT_DTYPE, SCHEMAS, EventFlag, EventKind, event_id
from market.exchange import DEFAULT_EXCHANGES, ExchangeProfile
from tests.ledger.bids import (
    VIDEO,
    CrashingLog,
    bid_event,
    credits_of,
    fingerprint,
    no_bid_event,
    notice,
    rebuilt,
    recorder,
    snapshot_of,
    token_of,
)
from tests.ledger.logs import FullDisk, UnsyncedDisk

BILLING, WIN, LOSS = EventKind.BILLING, EventKind.WIN, EventKind.LOSS
IMPRESSION, CLICK, CONVERSION = EventKind.IMPRESSION, EventKind.CLICK, EventKind.CONVERSION
MONEY = (1, 1)  # (CreditKind.BUDGET, budget id)


@pytest.fixture
def log():
    return CrashingLog()


@pytest.fixture
def core(log):
    core = recorder({1: 1_000_000}, log=log)
    credits_of(core)
    return core


def spent(core, budget_id=1):
    total = next(total for total in core.ledger.totals() if total.budget_id == budget_id)
    return total.spent_on_time_micros, total.spent_late_micros


def bid(core, number=1, **rest):
    event = bid_event(number, **rest)
    core.take_bids(event, 5)
    return event


def take(core, kind, number=1, at_ms=10, price=0, token=None, **rest):
    return core.take_notice(notice(kind, number, at_ms, price, **rest), token)


def said(core, kind, number=1, at_ms=10, price=0, token=None, **rest):
    """The outcome of a notice that is committed at once."""
    answer = take(core, kind, number, at_ms, price, token, **rest)
    if answer.waits:
        core.commit()
    return answer.outcome


def exchange(core, name="default"):
    return next(view for view in core.view(0).exchanges if view.name == name)


# Bids.


def test_kernels_are_compiled_beforehand_without_a_trace(core):
    before = fingerprint(core)
    meet_kernels()
    assert fingerprint(core) == before


def test_a_recorded_bid_has_an_id_and_the_time_of_its_taking(core, log):
    bid(core, 1)
    bid(core, 1)
    core.commit()
    (event,) = log.events()
    assert (int(event["id_hi"]), int(event["id_lo"])) == event_id(EventKind.BID, 1, 2)
    assert event["recv_ms"] == 5
    given = bid_event(1)[0]
    for name in EVENT_DTYPE.names:
        if name not in ("id_hi", "id_lo", "recv_ms"):
            assert np.array_equal(event[name], given[name]), name


def test_taking_bids_does_not_change_the_callers_array(core):
    events = bid_event(1)
    before = events.tobytes()
    core.take_bids(events, 5)
    assert events.tobytes() == before


def test_sampled_no_bids_are_recorded_each_with_an_id_of_its_own(core, log):
    events = [no_bid_event(1), no_bid_event(2), no_bid_event(1, ts_ms=9), bid_event(3)]
    core.take_bids(np.concatenate(events), 5)
    core.commit()
    recorded = log.events()
    assert recorded["kind"].tolist() == [9, 9, 9, 1]
    assert len({(int(event["id_hi"]), int(event["id_lo"])) for event in recorded}) == 4
    assert core.view(0).line_items[0].bids == 1


def test_a_notice_among_a_workers_events_is_a_bug(core):
    event = bid_event(1)
    event["kind"] = EventKind.BILLING
    with pytest.raises(AssertionError):
        core.take_bids(event, 5)


# Charging.


def test_a_charge_is_true_only_after_the_commit(core, log):
    bid(core, reserved=100)
    assert take(core, BILLING, price=60) == Answer(Outcome.CHARGED, waits=True)
    assert spent(core) == (0, 0)
    assert credits_of(core) == {}
    core.commit()
    assert spent(core) == (60, 0)
    assert credits_of(core) == {MONEY: 40}
    event = log.events()[-1]
    assert (event["kind"], event["amount_micros"], event["price_cpm_micros"]) == (7, 60, 60_000)
    assert event["flags"] == EventFlag.CHARGED
    assert (event["user_key"], event["features"].tolist()) == (99, list(range(12)))
    assert (event["bid_ms"], event["ts_ms"]) == (0, 10)


def test_what_is_charged_follows_rate_and_quantity_of_the_bid(core):
    bid(core, reserved=1_000, rate=2_000_000, quantity=500_000)
    assert said(core, BILLING, price=60) is Outcome.CHARGED
    assert spent(core) == (60, 0)
    bid(core, 2, reserved=1_000, rate=2_000_000, quantity=3_000_000)
    assert said(core, BILLING, 2, price=60) is Outcome.CHARGED
    assert spent(core) == (60 + 360, 0)


def test_a_repeat_is_answered_counted_and_not_recorded(core, log):
    bid(core)
    first = take(core, BILLING, price=60)
    again = take(core, BILLING, price=60)
    assert first == Answer(Outcome.CHARGED, waits=True)
    # The first one is what its bid is charged by; until that is on disk, nobody may be told.
    core.commit()
    assert again.outcome is Outcome.DUPLICATE
    assert take(core, BILLING, price=90) == Answer(Outcome.DUPLICATE, waits=False)
    assert spent(core) == (60, 0)
    assert exchange(core).duplicates_ignored == 2
    assert len(log.events()) == 2


def test_a_repeat_of_a_notice_that_is_not_yet_durable_waits_for_it(core, log):
    bid(core)
    for kind in (WIN, CLICK):
        take(core, kind)
        assert take(core, kind) == Answer(Outcome.DUPLICATE, waits=True)
    commits = core.commit_count
    take(core, BILLING, price=1)
    assert take(core, BILLING, price=1).outcome is Outcome.DUPLICATE
    assert core.commit_count == commits + 1
    assert len(log.events()) == 4


@pytest.mark.parametrize("kind", [WIN, IMPRESSION, CLICK])
def test_notices_that_do_not_charge_are_recorded_once_and_move_no_money(core, log, kind):
    bid(core)
    assert said(core, kind, price=60) is Outcome.RECORDED
    assert said(core, kind, price=60) is Outcome.DUPLICATE
    assert spent(core) == (0, 0)
    assert log.events()[-1]["flags"] == 0
    assert log.events()[-1]["amount_micros"] == 0
    assert said(core, BILLING, price=60) is Outcome.CHARGED


def test_video_is_charged_by_its_impression_and_not_by_its_billing_notice(core):
    bid(core, shown=VIDEO)
    assert said(core, BILLING, price=60) is Outcome.RECORDED
    assert said(core, IMPRESSION, price=50) is Outcome.CHARGED
    assert spent(core) == (50, 0)


def test_an_exchange_may_charge_by_win_notice(log):
    profile = ExchangeProfile(name="odd", exchange_id=4, charging={"banner": "win"})
    core = Recorder((profile,), 1)
    core.write_to(log)
    core.take_snapshot(snapshot_of({1: 1_000}))
    core.step(0)
    bid(core, exchange=4)
    assert said(core, WIN, price=60) is Outcome.CHARGED
    assert said(core, BILLING, price=60) is Outcome.RECORDED
    assert spent(core) == (60, 0)


def test_a_disputed_price_is_recorded_once_and_a_right_one_is_charged_after_it(core, log):
    bid(core, reserved=100)
    assert said(core, BILLING, price=101) is Outcome.DISPUTED
    assert log.events()[-1]["flags"] == EventFlag.DISPUTED
    assert log.events()[-1]["amount_micros"] == 0
    assert said(core, BILLING, price=200) is Outcome.DUPLICATE
    assert spent(core) == (0, 0)
    assert core.view(0).line_items[0].impressions == 0
    assert exchange(core).disputed == 1
    assert said(core, BILLING, price=100) is Outcome.CHARGED
    assert core.view(0).line_items[0].impressions == 1


def test_a_dispute_and_the_true_notice_after_it_are_two_events(core, log):
    bid(core, reserved=100)
    said(core, BILLING, price=101)
    said(core, BILLING, price=100)
    disputed, charged = log.events()[-2:]
    assert (disputed["kind"], charged["kind"]) == (BILLING, BILLING)
    assert (disputed["flags"], charged["flags"]) == (EventFlag.DISPUTED, EventFlag.CHARGED)
    names = {(int(event["id_hi"]), int(event["id_lo"])) for event in (disputed, charged)}
    assert len(names) == 2
    assert event_id(BILLING, 1, 2) in names
    assert fingerprint(rebuilt(core, log)) == fingerprint(core)


def test_a_notice_in_another_currency_or_of_another_ad_is_disputed_at_any_price(core, log):
    bid(core, reserved=100)
    assert said(core, BILLING, price=1, is_contradictory=True) is Outcome.DISPUTED
    assert (spent(core), exchange(core).disputed) == ((0, 0), 1)
    assert said(core, BILLING, price=2, is_contradictory=True) is Outcome.DUPLICATE
    assert said(core, BILLING, price=60) is Outcome.CHARGED
    assert said(core, BILLING, price=60, is_contradictory=True) is Outcome.DUPLICATE
    assert spent(core) == (60, 0)


def test_fewer_impressions_than_were_bid_on_cost_less(core):
    bid(core, reserved=250, quantity=2_500_000)
    assert said(core, BILLING, price=100, multiplier_micros=1_500_000) is Outcome.CHARGED
    bid(core, 2, reserved=250, quantity=2_500_000)
    assert said(core, BILLING, 2, price=100) is Outcome.CHARGED
    assert spent(core) == (150 + 250, 0)


def test_an_event_happened_when_its_impression_was_shown_and_is_received_now(core, log):
    bid(core, reserved=100, deadline_ms=50)
    assert said(core, BILLING, at_ms=40, price=9, shown_ms=20) is Outcome.CHARGED
    assert (log.events()[-1]["ts_ms"], log.events()[-1]["recv_ms"]) == (20, 40)
    # Money goes by when the notice came: the reservation was given back.
    bid(core, 2, reserved=100, deadline_ms=50)
    core.step(51)
    assert said(core, BILLING, 2, at_ms=60, price=9, shown_ms=20) is Outcome.LATE


@pytest.mark.parametrize(
    ("told", "count"),
    [
        ((WIN, BILLING, CLICK, CONVERSION), 0),
        ((BILLING, CLICK, WIN), 1),
        ((CLICK, IMPRESSION), 1),
        ((CONVERSION, CLICK, IMPRESSION, WIN), 3),
        ((LOSS, WIN), 1),
        ((LOSS, BILLING), 1),
        ((BILLING, LOSS), 1),
        ((CLICK, BILLING), 0),
        ((WIN, WIN), 0),
    ],
)
def test_notices_out_of_order_are_taken_and_counted(core, log, told, count):
    bid(core, reserved=100)
    for kind in told:
        said(core, kind, price=60)
    assert exchange(core).reordered == count
    assert sum(spent(core)) == (60 if BILLING in told else 0)
    again = rebuilt(core, log)
    assert {view.name: view.reordered for view in again.view(0).exchanges} == {"default": count}


def test_values_that_cannot_be_read_are_counted_and_cost_nothing(core):
    bid(core, reserved=100)
    assert said(core, BILLING, price=60, unread_count=2) is Outcome.CHARGED
    assert said(core, BILLING, price=60, unread_count=2) is Outcome.DUPLICATE
    assert exchange(core).macros_ignored == 2


def test_a_disputed_reservation_is_released_when_it_expires(core):
    bid(core, reserved=100, deadline_ms=50)
    said(core, BILLING, price=101)
    core.step(50)
    assert credits_of(core) == {}
    core.step(51)
    assert credits_of(core) == {MONEY: 100}


def test_a_late_win_is_paid_marked_and_counted(core, log):
    bid(core, reserved=100, deadline_ms=50)
    core.step(51)
    assert said(core, BILLING, at_ms=60, price=70) is Outcome.LATE
    assert log.events()[-1]["flags"] == EventFlag.CHARGED | EventFlag.LATE
    assert spent(core) == (0, 70)
    assert exchange(core).late == 1
    assert core.view(0).line_items[0].spend_micros == 70


def test_a_loss_notice_gives_the_reservation_back_once(core, log):
    bid(core, reserved=100, caps=(9,))
    assert said(core, LOSS, price=3, reason=102) is Outcome.RECORDED
    assert credits_of(core) == {MONEY: 100, (2, 9): 1}
    assert (log.events()[-1]["reason"], log.events()[-1]["price_cpm_micros"]) == (102, 3_000)
    assert said(core, LOSS) is Outcome.DUPLICATE
    assert credits_of(core) == {}
    assert said(core, BILLING, price=70) is Outcome.LATE
    assert credits_of(core) == {(2, 9): -1}


def test_a_loss_notice_after_the_charge_moves_nothing(core):
    bid(core)
    said(core, BILLING, price=60)
    credits_of(core)
    assert said(core, LOSS) is Outcome.RECORDED
    assert credits_of(core) == {}
    assert spent(core) == (60, 0)


def test_loss_and_win_of_one_bid_in_one_commit_see_each_other(core):
    bid(core, reserved=100)
    assert take(core, LOSS) == Answer(Outcome.RECORDED, waits=True)
    assert take(core, BILLING, price=70) == Answer(Outcome.LATE, waits=True)
    core.commit()
    assert spent(core) == (0, 70)
    bid(core, 2, reserved=100)
    assert take(core, BILLING, 2, price=70) == Answer(Outcome.CHARGED, waits=True)
    assert take(core, LOSS, 2) == Answer(Outcome.RECORDED, waits=True)
    core.commit()
    assert spent(core) == (70, 70)


def test_a_test_bid_is_recorded_and_never_charged_or_counted(core, log):
    bid(core, reserved=100, is_test=True, deadline_ms=50)
    assert said(core, BILLING, price=60) is Outcome.TEST
    assert said(core, BILLING, price=60) is Outcome.DUPLICATE
    assert said(core, CLICK) is Outcome.RECORDED
    assert [event["flags"] for event in log.events()] == [EventFlag.TEST] * 3
    assert spent(core) == (0, 0)
    assert core.view(0).line_items == ()
    core.step(51)
    assert credits_of(core) == {MONEY: 100}


# Clicks and conversions.


def test_one_conversion_counts_per_bid_and_order(core, log):
    bid(core)
    bid(core, 2)
    for number, order, value in ((1, "A", 500), (1, "A", 900), (1, "B", 50), (2, "A", 7)):
        take(core, CONVERSION, number, order_id=order, value_micros=value)
    assert take(core, CONVERSION, order_id=" a ") == Answer(Outcome.DUPLICATE, waits=True)
    core.commit()
    assert take(core, CONVERSION, order_id="A") == Answer(Outcome.DUPLICATE, waits=False)
    view = core.view(0).line_items[0]
    assert (view.conversions, view.conversion_value_micros) == (3, 557)
    conversions = log.events()[log.events()["kind"] == CONVERSION]
    assert conversions["value_micros"].tolist() == [500, 50, 7]


def test_counters_follow_what_became_of_the_bids(core):
    for number in range(10):
        bid(core, number, creative_id=70 + number % 2, pctr=0.25, pcvr=0.5)
    for number in range(6):
        said(core, WIN, number)
    for number in range(4):
        said(core, BILLING, number, price=10)
        said(core, IMPRESSION, number)
    said(core, BILLING, 9, price=10)
    said(core, CLICK, 0)
    said(core, CONVERSION, 0, order_id="A", value_micros=3)
    view = core.view(123)
    (item,) = view.line_items
    assert (item.id, item.bids, item.wins, item.impressions) == (7, 10, 7, 5)
    assert (item.clicks, item.conversions, item.spend_micros) == (1, 1, 50)
    assert (item.expected_clicks, item.expected_conversions) == (1.25, 0.625)
    assert [(creative.id, creative.bids) for creative in view.creatives] == [(70, 5), (71, 5)]
    assert (view.at_ms, view.is_writable, view.unfunded_bids) == (123, True, 0)


# Bids that are not known.


def test_without_a_token_an_unknown_bid_is_unknown(core):
    assert said(core, BILLING, price=10) is Outcome.UNKNOWN_BID
    assert exchange(core, "").unknown == 1


def test_a_forgotten_bids_late_win_is_paid_once_from_its_line_items_budget(core, log):
    token = token_of(bid_event(1, reserved=100, deadline_ms=50))
    now = RELEASED_MEMORY_MS * 3
    assert said(core, CLICK, at_ms=now, token=token) is Outcome.RECORDED
    assert said(core, BILLING, at_ms=now, price=101, token=token) is Outcome.DISPUTED
    assert said(core, BILLING, at_ms=now, price=70, token=token) is Outcome.LATE
    assert said(core, BILLING, at_ms=now, price=70, token=token) is Outcome.DUPLICATE
    assert said(core, IMPRESSION, at_ms=now, price=70, token=token) is Outcome.RECORDED
    assert spent(core) == (0, 70)
    event = log.events()[-2]
    assert (event["line_item_id"], event["budgets"].tolist()) == (7, [1, 0, 0])
    assert fingerprint(rebuilt(core, log)) == fingerprint(core)


def test_unknown_bids_of_one_commit_do_not_spend_the_same_frozen_money_twice(log):
    core = recorder({1: 1_000}, log=log)
    core.close_worker(0, until_ms=900)
    frozen = core.view(0).budgets[0].held_micros
    bids = [bid_event(number, reserved=390, deadline_ms=900) for number in range(1, 7)]
    for number, event in enumerate(bids, 1):
        core.take_notice(notice(BILLING, number, 10, 390), token_of(event))
    core.commit()
    (budget,) = core.view(10).budgets
    assert budget.spent_on_time_micros == frozen // 390 * 390
    assert budget.spent_on_time_micros + budget.spent_late_micros == 6 * 390
    assert budget.held_micros == frozen - budget.spent_on_time_micros >= 0
    assert budget.spent_on_time_micros + budget.held_micros <= budget.limit_micros
    assert fingerprint(rebuilt(core, log)) == fingerprint(core)


def test_a_late_win_without_a_known_budget_is_still_paid_and_recorded(core, log):
    token = token_of(bid_event(1, reserved=100, deadline_ms=50, line_item_id=8))
    assert said(core, BILLING, at_ms=60, price=70, token=token) is Outcome.UNKNOWN_BUDGET
    assert log.events()[-1]["flags"] == EventFlag.CHARGED | EventFlag.LATE
    assert spent(core) == (0, 0)
    assert core.view(0).line_items[0].spend_micros == 70
    assert said(core, BILLING, at_ms=60, price=70, token=token) is Outcome.DUPLICATE
    assert fingerprint(rebuilt(core, log)) == fingerprint(core)


def test_a_win_whose_bid_was_lost_with_the_power_is_charged_on_time(core, log):
    token = token_of(bid_event(1, reserved=100, deadline_ms=50))
    core.close_worker(0, 50)
    assert said(core, BILLING, price=70, token=token) is Outcome.CHARGED
    assert spent(core) == (70, 0)
    assert core.ledger.totals()[0].held_micros == 500_000 - 70
    assert fingerprint(rebuilt(core, log)) == fingerprint(core)


def test_a_charging_notice_that_comes_days_late_is_not_taken_but_a_conversion_is(core):
    bid(core, deadline_ms=50)
    now = 50 + CHARGED_MEMORY_MS
    assert take(core, BILLING, at_ms=now + 1, price=1) == Answer(Outcome.TOO_OLD, waits=False)
    assert said(core, CONVERSION, at_ms=now * 9, order_id="A") is Outcome.RECORDED
    assert exchange(core).too_old == 1
    assert said(core, BILLING, at_ms=now, price=1) is Outcome.LATE


def test_refused_notices_are_counted_per_exchange(core):
    core.behaviour().forged += 1
    core.behaviour().wrong_kind += 1
    core.behaviour(1).count_malformed(Fault.PRICE_MISSING)
    core.behaviour(1).count_malformed(Fault.PRICE_STALE)
    core.behaviour(1).count_malformed(Fault.PRICE_STALE)
    core.behaviour(1).audits += 1
    core.behaviour(999).audits += 1
    assert (exchange(core, "").forged, exchange(core, "").wrong_kind) == (1, 1)
    assert (exchange(core).malformed, exchange(core).audits) == (3, 1)
    assert exchange(core).faults == {"price_missing": 1, "price_stale": 2}
    assert exchange(core, "999").audits == 1


# The log that cannot be written.


def test_while_nothing_can_be_committed_notices_are_refused_and_nothing_is_charged(core, log):
    bid(core, reserved=100)
    bid(core, 2, reserved=100, deadline_ms=20)
    core.commit()
    log.is_full = True
    assert take(core, BILLING, price=60) == Answer(Outcome.CHARGED, waits=True)
    with pytest.raises(NotReady):
        core.commit()
    assert core.is_stuck
    assert spent(core) == (0, 0)
    assert take(core, BILLING, 2, price=60) == Answer(Outcome.NOT_READY, waits=False)
    with pytest.raises(NotReady):
        core.step(1_000)
    assert credits_of(core) == {}, "nothing may expire while notices cannot be settled"
    assert not core.view(0).is_writable
    log.is_full = False
    core.commit()
    assert spent(core) == (60, 0)
    assert take(core, BILLING, price=60) == Answer(Outcome.DUPLICATE, waits=False)
    assert said(core, BILLING, 2, at_ms=20, price=60) is Outcome.CHARGED
    assert spent(core) == (120, 0)
    assert fingerprint(rebuilt(core, log)) == fingerprint(core)


def test_a_full_disk_at_the_second_notice_of_a_bid_refuses_it(core, log):
    bid(core)
    core.commit()
    log.is_full = True
    take(core, LOSS)
    assert take(core, BILLING, price=1) == Answer(Outcome.NOT_READY, waits=False)
    log.is_full = False
    core.commit()
    assert said(core, BILLING, price=1) is Outcome.LATE


def test_no_lease_leaves_before_it_is_durable(log):
    core = Recorder(DEFAULT_EXCHANGES, 1)
    core.write_to(log)
    core.take_snapshot(snapshot_of({1: 1_000}))
    log.is_full = True
    with pytest.raises(NotReady):
        core.step(0)
    assert credits_of(core) == {}
    log.is_full = False
    core.step(0)
    assert credits_of(core) == {MONEY: 500}


def test_bids_are_taken_while_the_disk_is_full_until_there_is_no_room(core, log):
    log.is_full = True
    many = np.concatenate([bid_event(number) for number in range(3_000)])
    while core.has_room:
        many["bid_hi"] += np.uint64(3_000)
        core.take_bids(many, 5)
    assert len(core.ledger.bids) * EVENT_DTYPE.itemsize >= 8 << 20
    log.is_full = False
    core.commit()
    assert core.has_room
    assert len(log.events()) == len(core.ledger.bids)


def test_on_a_real_disk_that_fills_up_what_was_answered_is_there_afterwards(tmp_path):
    disk = FullDisk(room=20_000)
    core = recorder({1: 10**9}, log=SegmentWriter(tmp_path, disk, EVENT_LOG))
    acked, refused = [], []
    for number in range(200):
        core.take_bids(bid_event(number, reserved=100), 0)
        answer = take(core, BILLING, number, price=10 + number % 50)
        try:
            core.commit()
        except NotReady:
            refused.append(number)
        else:
            assert answer.outcome is Outcome.CHARGED
            acked.append(number)
    assert acked
    assert refused
    core._buffer.log.close()
    again = Recorder(DEFAULT_EXCHANGES, 1)
    recover(tmp_path, UnsyncedDisk(), EVENT_LOG, replay=again.replay)
    assert spent(again) == (sum(10 + number % 50 for number in acked), 0)
    for number in refused:
        assert not again.is_known(number, number + 1) or not again.ledger.is_charged(
            again.ledger.bids.find((number << 64) | (number + 1))
        )


# Replays.


def test_a_rebuilt_core_goes_on_exactly_where_the_live_one_was(core, log):
    chance = random.Random(4)
    for number in range(300):
        bid(core, number, reserved=100, deadline_ms=number + 40, caps=(number % 7,))
        for kind in chance.sample([WIN, BILLING, LOSS, CLICK, CONVERSION], 3):
            before = max(0, number - chance.randrange(60))
            take(core, kind, before, number, price=chance.randrange(110), order_id=str(number))
        if number % 9 == 0:
            core.step(number)
    core.commit()
    again = rebuilt(core, log)
    assert fingerprint(again) == fingerprint(core)
    assert again.view(0).line_items == core.view(0).line_items
    assert again.sequence == core.sequence
    assert log.control_count() > 20
    assert again.ledger.expire(10**6)[0] == core.ledger.expire(10**6)[0] > 0


def test_a_bid_that_came_again_after_it_was_forgotten_is_new_in_a_replay_too(core, log):
    bid(core, reserved=100, deadline_ms=50)
    core.step(100)
    bids = core.ledger.bids
    ((_, slot),) = bids.items()
    bids.forget(slot)
    now = RELEASED_MEMORY_MS * 3
    core.take_bids(bid_event(1, reserved=100, deadline_ms=now + 1_000), now)
    assert said(core, BILLING, at_ms=now, price=60) is Outcome.CHARGED
    assert spent(core) == (60, 0)
    assert fingerprint(rebuilt(core, log)) == fingerprint(core)


def test_a_replay_hands_out_no_credits(core, log):
    bid(core, reserved=100)
    said(core, BILLING, price=60)
    again = rebuilt(core, log)
    again.write_to(log)
    again.commit()
    assert credits_of(again) == {}


def test_a_log_of_the_first_schema_version_is_still_read(core):
    old = np.zeros(1, SCHEMAS[1])
    for name in SCHEMAS[1].names:
        old[name] = bid_event(1)[name]
    again = Recorder(DEFAULT_EXCHANGES, 1)
    again.replay(Frame(sequence=1, kind=RECORDS, schema_version=1, body=old.tobytes()))
    assert again.is_known(1, 2)
    with pytest.raises(Corrupt, match="control frame"):
        again.replay(Frame(sequence=2, kind=CONTROL, schema_version=1, body=b"?"))


def test_a_very_large_group_is_written_in_several_frames(log):
    core = recorder({1: 10**12}, log=log)
    events = np.concatenate([bid_event(number, reserved=1) for number in range(100)])
    events = np.tile(events, 600)
    events["bid_hi"] = np.arange(60_000)
    core.take_bids(events, 5)
    core.commit()
    assert len(log.durable) == 3
    assert len(log.events()) == 60_000


# Credits and workers.


def test_credits_come_in_bounded_portions_and_only_once(core):
    for number in range(10):
        bid(core, number, caps=(number + 1,), deadline_ms=50)
    core.step(51)
    portions = [len(core.credits(0, 4)) for _ in range(4)]
    assert portions == [4, 4, 3, 0]
    assert len(core.credits(5, 4)) == 0


def test_a_closed_worker_loses_its_undelivered_money_but_not_its_frequency_counts(core):
    bid(core, caps=(9,), deadline_ms=50)
    core.step(51)
    core.close_worker(0, 60)
    assert credits_of(core) == {(2, 9): 1}
    assert core.ledger.available_micros(0, 1) == 0
    core.step(61)
    assert credits_of(core) == {MONEY: 500_000}


def test_a_suspended_worker_is_granted_nothing_until_it_resumes():
    core = Recorder(DEFAULT_EXCHANGES, 1)
    core.suspend_worker(0)
    core.take_snapshot(snapshot_of({1: 1_000}))
    core.step(0)
    assert credits_of(core) == {}
    core.resume_worker(0)
    core.step(0)
    assert credits_of(core) == {MONEY: 500}


def test_landing_pages_stay_known_after_their_creative_left_the_snapshot():
    core = Recorder(DEFAULT_EXCHANGES, 1)
    assert core.landing_url(70) is None
    core.take_snapshot(snapshot_of({1: 1_000}))
    core.take_snapshot(snapshot_of({1: 1_000}, creatives={71: "https://b.example"}))
    assert core.landing_url(70) == "https://shop.example/page"
    assert core.landing_url(71) == "https://b.example"
