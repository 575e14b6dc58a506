"""The exchange's bill against the ledger, and the adjustments that make the two agree."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest

from ledger.adjustment import Adjustment, adjustment_event, decode_adjustments
from ledger.event_log import EVENT_LOG
from ledger.outcome import Outcome
from ledger.reconcile import (
    Status,
    day_span_ms,
    ledger_sums,
    read_bill,
    reconcile,
    zone_of,
)
from ledger.segment import SegmentWriter
from market.chance import code_of
from market.errors import BadInput, NotReady
from market.events import DAY_MS, EventKind
from tests.ledger.bids import CrashingLog, bid_event, notice, rebuilt, recorder
from tests.ledger.logs import UnsyncedDisk
from tests.ledger.recorders import REPOSITORY, Place

DISK = UnsyncedDisk()
DAY_0 = int(datetime(2026, 10, 24, tzinfo=UTC).timestamp() * 1000)
HEAD = "day,campaign_id,deal_id,currency,impressions,amount\n"
BILLING = EventKind.BILLING


def bill_of(*lines):
    return read_bill((HEAD + "\n".join(lines)).splitlines())


def adjustment(**rest):
    asked = {
        "reference": "INV-1", "day_at_ms": DAY_0, "exchange": 1, "campaign_id": 2, "budgets": (1,),
        "amount_micros": 70, "account_currency": 840, "billed_micros": 70, "bill_currency": 840,
    }  # fmt: skip
    return Adjustment(**asked | rest)


@pytest.fixture
def folder(tmp_path):
    """Two days, two campaigns, a deal: bids with a clearing price of a cent (10,000 micros)."""
    path = tmp_path / "segments"
    with SegmentWriter(path, DISK, EVENT_LOG) as log:
        core = recorder({1: 10**9, 2: 10**9}, log=log, now_ms=DAY_0)
        for n in range(12):
            at = DAY_0 + n // 6 * DAY_MS + 1_000
            event = bid_event(
                n, budgets=(1, 2), reserved=20_000, bid_ms=at, deadline_ms=at + 1_000,
                rate=1_100_000 if n == 11 else 1_000_000,
            )  # fmt: skip
            event["campaign_id"] = 2 + n % 2
            event["deal_code"] = code_of("deal-1") if n % 3 == 0 else 0
            event["bid_currency"] = 978 if n == 11 else 840
            core.take_bids(event, at)
            core.take_notice(notice(BILLING, n, at, 10_000))
            core.step(at)
    return path


def found_in(folder, bill, zone="UTC", **rest):
    zone = ZoneInfo(zone)
    days = sorted({line.day for line in bill.lines})
    spans = [(day, *day_span_ms(date.fromisoformat(day), zone)) for day in days]
    asked = {"exchange": 1, "reference": "INV-1", "zone": zone, "tolerance_micros": 0, **rest}
    return reconcile(bill, ledger_sums(folder, DISK, asked["exchange"], spans), **asked)


def differences(found):
    return {
        (each.day, each.campaign_id, each.deal_id, each.currency): (
            each.difference_micros,
            each.status,
        )
        for each in found.differences
    }


FAIR = (
    "2026-10-24,2,,USD,2,0.02",
    "2026-10-24,2,deal-1,USD,1,0.01",
    "2026-10-24,3,,USD,2,0.02",
    "2026-10-24,3,deal-1,USD,1,0.01",
    "2026-10-25,2,,USD,2,0.02",
    "2026-10-25,2,deal-1,USD,1,0.01",
    "2026-10-25,3,,USD,1,0.01",
    "2026-10-25,3,,EUR,1,0.01",
    "2026-10-25,3,deal-1,USD,1,0.01",
)


def test_a_fair_bill_is_equal_line_by_line_and_nothing_is_to_book(folder):
    found = found_in(folder, bill_of(*FAIR))
    assert {each.status for each in found.differences} == {Status.EQUAL}
    assert len(found.differences) == len(FAIR)
    assert found.adjustments == ()
    assert sum(each.ledger_impressions for each in found.differences) == 12


def test_every_kind_of_difference_is_told(folder):
    bill = bill_of(
        "2026-10-24,2,,USD,2,0.025",  # 5,000 more
        "2026-10-24,2,deal-1,USD,1,0.004",  # 6,000 less
        "2026-10-24,3,,USD,2,0.02",
        "2026-10-24,9,,USD,7,0.07",  # nobody knows of it
        *FAIR[4:],
    )
    found = found_in(folder, bill)
    told = {key: value for key, value in differences(found).items() if value[1] is not Status.EQUAL}
    assert told == {
        ("2026-10-24", 2, "", "USD"): (5_000, Status.BILLED_MORE),
        ("2026-10-24", 2, "deal-1", "USD"): (-6_000, Status.BILLED_LESS),
        ("2026-10-24", 3, "deal-1", "USD"): (-10_000, Status.NOT_BILLED),
        ("2026-10-24", 9, "", "USD"): (70_000, Status.ONLY_BILLED),
    }
    assert [(each.campaign_id, each.amount_micros, each.budgets) for each in found.adjustments] == [
        (2, 5_000, (1, 2)),
        (2, -6_000, (1, 2)),
        (3, -10_000, (1, 2)),
        (9, 70_000, ()),
    ]
    assert found.unbookable == ()


def test_lines_of_one_key_are_added_and_a_rounding_is_tolerated(folder):
    bill = bill_of("2026-10-24,2,,USD,1,0.013", "2026-10-24,2,,usd,1,0.0069", *FAIR[1:])
    assert found_in(folder, bill, tolerance_micros=100).adjustments == ()
    (adjusted,) = found_in(folder, bill, tolerance_micros=99).adjustments
    assert adjusted.amount_micros == -100


def test_a_difference_in_another_currency_is_booked_at_the_lines_own_rate(folder):
    bill = bill_of(*FAIR[:7], "2026-10-25,3,,EUR,1,0.02", FAIR[8])
    (adjusted,) = found_in(folder, bill).adjustments
    assert (adjusted.billed_micros, adjusted.amount_micros) == (10_000, 11_000)
    assert (adjusted.bill_currency, adjusted.account_currency) == (978, 840)
    bill = bill_of(*FAIR, "2026-10-24,2,,EUR,1,0.02")
    found = found_in(folder, bill)
    assert found.adjustments == ()
    (told,) = found.unbookable
    assert "the ledger has no charge in EUR from which to know the rate to USD" in told


def test_another_exchanges_charges_are_not_this_ones(folder):
    found = found_in(folder, bill_of(FAIR[0]), exchange=2)
    assert differences(found) == {
        ("2026-10-24", 2, "", "USD"): (20_000, Status.ONLY_BILLED),
    }


def test_a_day_of_the_bill_is_the_calendars_with_its_change_of_clocks(tmp_path):
    zone = ZoneInfo("Europe/Berlin")
    hours = []
    for day in (date(2026, 10, 24), date(2026, 10, 25), date(2026, 3, 29)):
        start, end = day_span_ms(day, zone)
        hours.append((end - start) / 3_600_000)
    assert hours == [24, 25, 23]
    start, end = day_span_ms(date(2026, 10, 25), zone)
    path = tmp_path / "segments"
    with SegmentWriter(path, DISK, EVENT_LOG) as log:
        core = recorder({1: 10**9}, log=log, now_ms=start - 1)
        for n, at in enumerate((start - 1, start, end - 1, end)):
            core.take_bids(bid_event(n, reserved=20_000, bid_ms=at, deadline_ms=at + 5), at)
            # The notice of the last bid of a day comes on the next day, and counts on the bid's.
            core.take_notice(notice(BILLING, n, at + 2, 10_000))
            core.step(at + 2)
    bill = bill_of(
        "2026-10-24,2,,USD,1,0.01", "2026-10-25,2,,USD,2,0.02", "2026-10-26,2,,USD,1,0.01"
    )
    assert {each.status for each in found_in(path, bill, "Europe/Berlin").differences} == {
        Status.EQUAL
    }
    assert {each.status for each in found_in(path, bill, "UTC").differences} != {Status.EQUAL}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("day,amount\n2026-10-24,1", "deal_id, currency, impressions are missing"),
        (HEAD, "it has no line"),
        (HEAD + "24.10.2026,2,,USD,1,1", "line 2: day '24.10.2026'; it must be YYYY-MM-DD"),
        (HEAD + "2026-10-24,-2,,USD,1,1", "line 2: campaign_id '-2'; it must be a whole number"),
        (HEAD + "2026-10-24,²,,USD,1,1", "line 2: campaign_id"),
        (HEAD + "2026-10-24,2,,USD,1,1e400", "line 2: amount '1e400'; it must be within"),
        (HEAD + "2026-10-24,2,,USD,1,NaN", "line 2: amount 'NaN'"),
        (HEAD + "2026-10-24,2,,USD,1,one", "line 2: amount 'one'; it must be a decimal number"),
        (HEAD + "2026-10-24,2,,XXX,1,1", "currency 'XXX'"),
        (HEAD + "2026-10-24,2," + "d" * 201 + ",USD,1,1", "deal_id has 201 characters"),
        (HEAD + "2026-10-24,2", "line 2: amount ''"),
    ],
)
def test_a_bill_that_breaks_a_rule_is_refused_with_its_line(text, rule):
    with pytest.raises(BadInput) as refused:
        read_bill(text.splitlines())
    assert rule in str(refused.value)


def test_a_time_zone_must_exist():
    with pytest.raises(BadInput, match="time zone 'Mars/Base'"):
        zone_of("Mars/Base")


# Booking.


def test_an_adjustment_moves_its_budgets_once_and_survives_a_replay():
    log = CrashingLog()
    core = recorder({1: 1_000, 2: 500}, log=log)
    event = adjustment_event(adjustment(budgets=(1, 2), amount_micros=300, billed_micros=300), 5)
    assert core.take_adjustment(event) == (Outcome.ADJUSTED, True)
    assert core.take_adjustment(event) == (Outcome.DUPLICATE, True)
    assert [total.adjusted_micros for total in core.ledger.totals()] == [0, 0]  # not durable yet
    core.commit()
    assert core.take_adjustment(event) == (Outcome.DUPLICATE, False)
    again = rebuilt(core, log)
    for each in (core, again):
        assert [total.adjusted_micros for total in each.ledger.totals()] == [300, 300]
    again.write_to(log)
    assert again.take_adjustment(event) == (Outcome.DUPLICATE, False)


def test_a_correction_takes_money_from_what_may_be_leased_and_a_credit_gives_it_back():
    core = recorder({1: 1_000})
    core.take_adjustment(adjustment_event(adjustment(amount_micros=990, billed_micros=990), 0))
    core.step(1)
    (total,) = core.ledger.totals()
    # What was leased before stays held: 990 + held is above the limit, and nothing more is lent.
    held = total.held_micros
    assert total.adjusted_micros + held > 1_000
    core.take_bids(bid_event(1, reserved=100, deadline_ms=5), 1)
    core.step(10)
    (total,) = core.ledger.totals()
    assert total.held_micros == held - 100  # what the expired bid gave back is not bid again
    core.take_adjustment(
        adjustment_event(adjustment(reference="CN-2", amount_micros=-900, billed_micros=-900), 20)
    )
    core.step(21)
    (total,) = core.ledger.totals()
    assert total.adjusted_micros == 90
    assert 90 + total.held_micros <= 1_000


def test_while_the_log_cannot_be_written_nothing_is_booked():
    log = CrashingLog()
    core = recorder({1: 1_000}, log=log)
    log.is_full = True
    core.take_bids(bid_event(1), 0)
    with pytest.raises(NotReady):
        core.commit()
    assert core.take_adjustment(adjustment_event(adjustment(), 0)).outcome is Outcome.NOT_READY


@pytest.mark.parametrize(
    "change",
    [
        {"reference": ""}, {"amount_micros": 0}, {"amount_micros": -1}, {"campaign_id": -1},
        {"bill_currency": 1}, {"budgets": (1, 1)}, {"budgets": (1, 2, 3, 4)}, {"budgets": (0,)},
        {"exchange": 70_000}, {"amount_micros": 10**16, "billed_micros": 10**16},
        {"deal_code": 2**64}, {"extra": 1},
    ],
)  # fmt: skip
def test_an_adjustment_that_breaks_a_rule_is_refused(change):
    body = msgspec.to_builtins(adjustment()) | change
    with pytest.raises(BadInput, match="adjustment"):
        decode_adjustments(msgspec.json.encode([body]))


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"[1]", b"\xff", b"[" * 5_000])
def test_a_body_that_is_no_list_of_adjustments_is_refused(body):
    with pytest.raises(BadInput, match="adjustments"):
        decode_adjustments(body)


def command(place, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "lodestone", "ledger", arguments[0],
         str(place.path.parent), *arguments[1:], "--json"],
        cwd=REPOSITORY, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_bill_is_reconciled_and_booked_once_against_a_running_engine(tmp_path):
    place = Place(tmp_path / "run").start()
    try:
        worker = place.worker()
        now = DAY_0
        worker.events.push(
            bid_event(1, reserved=100_000, bid_ms=now, deadline_ms=2**60, exchange=1)
        )
        assert place.bill(1, 20_000, reserved=100_000, bid_ms=now, deadline_ms=2**60) == 200
        invoice = tmp_path / "bill.csv"
        invoice.write_text(HEAD + "2026-10-24,2,,USD,1,0.05\n")
        asked = ("reconcile", str(invoice), "--exchange", "default")
        shown = command(place, *asked)
        (line,) = shown["reconciliation"]["differences"]
        assert (line["billed_micros"], line["ledger_micros"]) == (50_000, 20_000)
        assert shown["booked"] is None
        assert command(place, *asked, "--book")["booked"] == {"booked": 1, "repeated": 0}
        (budget,) = place.ledger().budgets
        assert (budget.adjusted_micros, budget.spent_on_time_micros) == (30_000, 20_000)
        shown = command(place, *asked, "--book")
        assert shown["reconciliation"]["differences"][0]["status"] == "equal"
        assert shown["booked"] is None
        (sent,) = decode_adjustments(
            msgspec.json.encode([adjustment(amount_micros=-5, billed_micros=-5)])
        )
        assert sent.amount_micros == -5
        assert place.get("/ledger/adjustments")[0] == 405
        assert place.get("/ledger/adjustments", "POST", token="wrong")[0] == 401
        assert place.get("/ledger/adjustments", "POST")[0] == 400
        found = command(place, "inspect")
        assert found["condition"] == "whole"
    finally:
        place.stop()
