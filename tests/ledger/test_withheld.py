"""A budget above its limit: what its open bids give back is not bid again."""

from __future__ import annotations

import pytest

from market.events import EventKind
from market.state import CreditKind
from tests.ledger.bids import (
    CrashingLog,
    bid_event,
    budgets_array,
    credits_of,
    notice,
    rebuilt,
    recorder,
)

BUDGET = int(CreditKind.BUDGET)
BILLING, LOSS = EventKind.BILLING, EventKind.LOSS


def lowered(log, bids=4, limit=150):
    """A worker with open bids of 100 each; then the limit falls, and its lease is taken back."""
    core = recorder({1: 10_000}, log=log)
    credits_of(core)
    for number in range(bids):
        core.take_bids(bid_event(number, reserved=100, deadline_ms=50), 1)
    core.commit()
    assert core.ledger.define(budgets_array({1: limit})) == {0}
    core.suspend_worker(0)
    core.close_worker(0, 0)
    core.resume_worker(0)
    core.step(2)
    (total,) = core.ledger.totals()
    assert total.held_micros == bids * 100
    return core


def test_a_lowered_limit_is_kept_once_the_open_bids_are_over():
    log = CrashingLog()
    core = lowered(log)
    core.take_notice(notice(BILLING, 0, 3, 90))  # the rest, 10, is withheld
    core.take_notice(notice(LOSS, 1, 4))  # so is all of a lost bid
    core.commit()
    (total,) = core.ledger.totals()
    assert (total.spent_on_time_micros, total.held_micros) == (90, 200)
    assert credits_of(core) == {}
    core.step(60)  # the other two expire: 60 of what comes back fits below the limit of 150
    (total,) = core.ledger.totals()
    assert (total.spent_on_time_micros, total.held_micros) == (90, 60)
    assert credits_of(core) == {(BUDGET, 1): 60}
    core.step(61)
    assert rebuilt(core, log).ledger.totals() == core.ledger.totals()


def test_a_raised_limit_lends_again():
    core = lowered(CrashingLog())
    core.step(60)
    credits_of(core)
    core.ledger.define(budgets_array({1: 10_000}))
    core.step(61)
    assert credits_of(core)[BUDGET, 1] > 1_000


@pytest.mark.parametrize("commits", ["one each", "one for all"])
def test_what_is_withheld_does_not_depend_on_how_notices_are_grouped_into_commits(commits):
    """A late win between two losses: the first loss gives back, the second one is withheld."""
    core = recorder({1: 1_000}, log=CrashingLog())
    credits_of(core)
    for number in range(3):
        core.take_bids(bid_event(number, reserved=100, deadline_ms=500 if number else 2), 1)
    core.ledger.define(budgets_array({1: core.ledger.totals()[0].held_micros}))
    for kind, number, at in ((LOSS, 1, 5), (BILLING, 0, 6), (LOSS, 2, 7)):
        core.take_notice(notice(kind, number, at, 100))
        if commits == "one each":
            core.commit()
    core.commit()
    core.commit()
    (total,) = core.ledger.totals()
    assert total.spent_late_micros == 100
    assert total.held_micros == total.limit_micros - 100
    assert credits_of(core) == {(BUDGET, 1): 200}


def test_an_undefined_budget_withholds_nothing():
    """After a restart limits are not known before the first snapshot."""
    log = CrashingLog()
    core = recorder({1: 10_000}, log=log)
    core.take_bids(bid_event(1, reserved=100, deadline_ms=50), 1)
    core.commit()
    again = recorder({}, log=CrashingLog())
    for frame in log.frames():
        again.replay(frame)
    again.take_notice(notice(LOSS, 1, 3))
    again.commit()
    assert credits_of(again) == {(BUDGET, 1): 100}
