"""Days of a budget: midnight in the campaign's time zone, also where the clock changes."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from ledger.outcome import Outcome
from market.budgets import budgets_of
from market.events import EventKind
from market.snapshot import BUDGET_DTYPE
from tests.ledger.bids import CrashingLog, bid_event, credits_of, notice, rebuilt, recorder
from tests.market.test_budgets import campaign

HOUR_MS = 3_600_000
BERLIN = ZoneInfo("Europe/Berlin")
DAYS = {"spring": (2026, 3, 29, 23), "autumn": (2026, 10, 25, 25), "plain": (2026, 6, 1, 24)}


def rows_at(now_ms):
    rows = budgets_of(campaign("Europe/Berlin", 1_000, 5_000), now_ms)
    found = np.zeros(len(rows), BUDGET_DTYPE)
    for i, row in enumerate(rows):
        for name, value in zip(row._fields, row, strict=True):
            found[i][name] = value
    return rows, found


def lend(core, rows, now_ms):
    core.ledger.define(rows)
    core.step(now_ms)
    credits_of(core)


@pytest.mark.parametrize("day", DAYS)
def test_a_notice_counts_on_the_day_of_its_bid_whenever_it_comes(day):
    year, month, number, hours = DAYS[day]
    midnight = int(datetime(year, month, number, tzinfo=BERLIN).timestamp() * 1000)
    end = midnight + hours * HOUR_MS
    log = CrashingLog()
    core = recorder({}, log=log, now_ms=midnight)
    (today, life), rows = rows_at(midnight)
    assert (today.start_at_ms, today.end_at_ms) == (midnight, end)
    assert rows_at(end - 1)[0][0] == today
    (tomorrow, same), next_rows = rows_at(end)
    assert tomorrow.start_at_ms == end
    assert same == life

    lend(core, rows, midnight)
    last = end - 1
    core.take_bids(
        bid_event(
            1, budgets=(today.budget_id, life.budget_id), reserved=100, bid_ms=last,
            deadline_ms=last + 600_000,
        ),
        last,
    )  # fmt: skip
    lend(core, next_rows, end)
    core.take_bids(
        bid_event(
            2, budgets=(tomorrow.budget_id, life.budget_id), reserved=50, bid_ms=end,
            deadline_ms=end + 600_000,
        ),
        end,
    )  # fmt: skip
    at = end + 300_000
    assert core.take_notice(notice(EventKind.BILLING, 1, at, 90)).outcome is Outcome.CHARGED
    assert core.take_notice(notice(EventKind.BILLING, 2, at, 40)).outcome is Outcome.CHARGED
    core.step(at)
    for each in (core, rebuilt(core, log)):
        spent = {t.budget_id: t.spent_on_time_micros for t in each.ledger.totals()}
        assert spent == {today.budget_id: 90, tomorrow.budget_id: 40, life.budget_id: 130}
    # Yesterday's budget lends nothing any more, whatever comes back to it.
    before = {t.budget_id: t.held_micros for t in core.ledger.totals()}[today.budget_id]
    core.step(at + 1_000_000)
    after = {t.budget_id: t.held_micros for t in core.ledger.totals()}[today.budget_id]
    assert after <= before
