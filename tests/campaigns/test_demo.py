"""The demo's parts that need no engine: what it deletes, what it registers, what it reports."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from campaigns import demo
from campaigns.demo_summary import goal_text, report_of, summarise
from campaigns.supervisor import lock_folder, new_deployment
from ledger.report_page import write_report
from ledger.view import ExchangeView
from market.campaign import Budget, Goal, GoalKind
from market.control import WorkerWord
from market.creative import AD_FIELDS
from market.decision import NoBidReason
from market.errors import BadInput, NotReady
from market.events import EVENT_DTYPE, EventFlag, EventKind, event_id
from simulator.live_report import LATENCY_BOUNDS_MS, LiveReport
from simulator.registration import read_registered
from tests.ledger.stores import RunFolder
from tests.policies.intents import MIDNIGHT_MS, activity, campaign, view

CAMPAIGNS = (
    campaign(1, budget=Budget(daily_micros=10_000_000)),
    campaign(
        2,
        goal=Goal(
            kind=GoalKind.TARGET_ROAS, target_roas=4.0, value_per_conversion_micros=8_000_000
        ),
    ),
    campaign(
        3,
        goal=Goal(kind=GoalKind.MAX_CONVERSIONS, value_per_conversion_micros=1),
        policy="constant",
    ),
)


def made_events():
    """Campaign 1: four bids of 3.00, three charged, two conversions. Campaign 2: one of 2.00, an
    order of 10.00. Campaign 3 never bids; one opportunity got no bid.
    """
    said = [(EventKind.BID, 1, n, 3_000_000, 0, 0) for n in range(4)]
    said += [(EventKind.WIN, 1, n, 0, 0, 0) for n in range(3)]
    said += [(EventKind.BILLING, 1, n, 3_000_000, 0, EventFlag.CHARGED) for n in range(3)]
    said += [(EventKind.CONVERSION, 1, n, 0, 7, 0) for n in range(2)]
    said += [
        (EventKind.BID, 2, 9, 2_500_000, 0, 0),
        (EventKind.BILLING, 2, 9, 2_000_000, 0, EventFlag.CHARGED),
        (EventKind.CONVERSION, 2, 9, 0, 10_000_000, 0),
        (EventKind.NO_BID, 0, 20, 0, 0, 0),
    ]
    events = np.zeros(len(said), EVENT_DTYPE)
    for event, (kind, campaign_id, bid, amount, value, flags) in zip(events, said, strict=True):
        order = bid + 1 if kind is EventKind.CONVERSION else 0
        event["id_hi"], event["id_lo"] = event_id(kind, bid, bid, order)
        for name, it in {
            "kind": kind, "campaign_id": campaign_id, "advertiser_id": 1, "bid_hi": bid,
            "bid_lo": bid, "amount_micros": amount, "value_micros": value, "flags": flags,
            "line_item_id": campaign_id * 10, "account_currency": 840, "bid_currency": 840,
            "ts_ms": MIDNIGHT_MS + 60_000, "bid_ms": MIDNIGHT_MS, "recv_ms": MIDNIGHT_MS,
            "weight": 1.0, "price_cpm_micros": 1_000_000, "order_code": order,
            "reason": NoBidReason.BELOW_FLOOR if kind is EventKind.NO_BID else 0,
        }.items():  # fmt: skip
            event[name] = it
    return events


def ledger_view(**changes):
    """What the recorder would say of those events."""
    exchange = ExchangeView("twin", 0, 0, 5, 0, 0, 0, 0, 0)
    items = [
        activity(10, bids=4, spend_micros=9_000_000),
        activity(20, bids=1, spend_micros=2_000_000),
    ]
    found = msgspec.structs.replace(view(line_items=items), exchanges=(exchange,))
    return msgspec.structs.replace(found, **changes)


def live_report(**changes):
    """What the exchange would say of those events."""
    bounds = [str(bound) for bound in LATENCY_BOUNDS_MS]
    found = LiveReport(
        is_complete=True, scenario="demo", seed=1, connections=1,
        clock_ms=MIDNIGHT_MS + 86_400_000, requests=6, answers={"200": 5, "204": 1}, bids=5,
        no_bids=1, wins=4, losses=1, notices_sent={}, repeated_notices_sent=5, notices_refused={},
        notice_retries=0, notices_without_url={}, notices_undelivered=0,
        events_expected={"bid": 5, "win": 3, "billing": 4, "conversion": 3}, errors={},
        late_answers=0, latency_ms_p50=0.5, latency_ms_p99=2.25, latency_ms_max=3.0,
        latency_histogram={**dict.fromkeys(bounds, 1), "more": 2}, spend_micros=11_000_000,
        creatives=(), campaigns=(), wall_s=1.25,
    )  # fmt: skip
    return msgspec.structs.replace(found, **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder whose store holds the made-up events, with two workers that worked."""
    folder = RunFolder(tmp_path_factory.mktemp("demo"))
    for index, (requests, cpu_ns) in enumerate([(4, 1_000_000), (2, 200_000)]):
        row = folder.control.worker(index)
        row[WorkerWord.PID], row[WorkerWord.REQUEST_COUNT] = index + 1, requests
        row[WorkerWord.CPU_NS] = cpu_ns
    with folder.running() as process:
        folder.wait_for(folder.write(made_events()), process)
        yield folder


def summary_of(run, a_view=None, live=None):
    return summarise(
        run.client, a_view or ledger_view(), live or live_report(), run.control, CAMPAIGNS,
        MIDNIGHT_MS,
    )  # fmt: skip


def test_the_summary_counts_events_by_sql_and_says_who_reached_what(run):
    summary = summary_of(run)
    assert (summary.bids, summary.wins, summary.conversions) == (5, 3, 3)
    assert (summary.events_recorded, summary.events_expected) == (15, 15)
    assert (summary.spend_micros, summary.overspend_micros) == (11_000_000, 0)
    assert summary.no_bids_by_reason == {"BELOW_FLOOR": 1}
    assert (summary.workers, summary.cpu_us_per_request) == (2, 200.0)
    assert (summary.latency_us.p50, summary.latency_us.p99) == (500.0, 2250.0)
    assert (summary.duplicates_ignored, summary.simulated_ms) == (5, 86_400_000)
    assert summary.disagreements == ()
    one, two = summary.campaigns
    assert (one.target, one.achieved, one.achieved_to_target) == (5e6, 4.5e6, 0.9)
    assert (two.target, two.achieved, two.achieved_to_target) == (4.0, 5.0, 1.25)


def test_a_budget_is_exhausted_when_less_is_left_than_its_dearest_bid(run):
    assert [row.is_budget_exhausted for row in summary_of(run).campaigns] == [True, False]


@pytest.mark.parametrize(
    ("a_view", "live", "told"),
    [
        ({}, {"events_expected": {"bid": 14}}, "events: store 15, exchange 14"),
        ({}, {"bids": 6}, "bids: store 5, exchange 6"),
        ({"line_items": (activity(10, bids=4, spend_micros=11_000_000),)}, {},
         "bids: store 5, ledger 4"),
        ({"line_items": (activity(10, bids=5, spend_micros=10_999_999),)}, {},
         "spend_micros: store 11000000, ledger 10999999"),
        ({}, {"spend_micros": 11_000_001}, "spend_micros: store 11000000, exchange 11000001"),
        ({}, {"notices_refused": {"win 403": 2}}, "notices refused 2, must be 0"),
        ({}, {"errors": {"no price": 1}}, "answers that break OpenRTB 1, must be 0"),
        ({"unfunded_bids": 3}, {}, "bids beyond a lease 3, must be 0"),
    ],
)  # fmt: skip
def test_every_disagreement_is_found_and_named(run, a_view, live, told):
    summary = summary_of(run, ledger_view(**a_view), live_report(**live))
    assert summary.disagreements == (told,)


def test_the_report_shows_the_run_and_its_last_latency_bucket_is_open(run, tmp_path):
    data = report_of(summary_of(run), run.client, live_report(), CAMPAIGNS, MIDNIGHT_MS)
    assert data.latency.is_last_open
    assert data.latency.counts == (*[1] * len(LATENCY_BOUNDS_MS), 2)
    assert data.latency.edges_ms[:2] == (0.0, LATENCY_BOUNDS_MS[0])
    assert [part.totals.campaign_id for part in data.campaigns] == [1, 2]
    assert [sum(part.spend_micros) for part in data.campaigns] == [9_000_000, 2_000_000]
    assert [sum(part.conversions) for part in data.campaigns] == [2, 1]
    assert [sum(part.plan_micros) for part in data.campaigns] == [10_000_000, 100_000_000]
    write_report(tmp_path / "report.html", data)
    assert "campaign 2" in (tmp_path / "report.html").read_text()


def test_goals_are_told_in_words():
    assert [goal_text(each) for each in CAMPAIGNS] == [
        "target CPA 5.00 USD", "target ROAS 4", "most conversions",
    ]  # fmt: skip


def test_only_an_old_run_or_an_empty_folder_is_emptied(tmp_path):
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(BadInput, match="holds no earlier run"):
        demo._empty(foreign)
    with pytest.raises(BadInput, match="holds no earlier run"):
        demo._empty(foreign / "holiday.jpg")
    assert (foreign / "holiday.jpg").read_bytes() == b"x"
    run = tmp_path / "run"
    demo._empty(run)
    demo._empty(run)
    (run / "deployment.json").write_text("{}")
    (run / "segments").mkdir()
    with lock_folder(run), pytest.raises(NotReady, match="another engine runs in it"):
        demo._empty(run)
    demo._empty(run)
    assert list(run.iterdir()) == []


def test_the_exchange_is_told_every_creative_that_may_be_shown(tmp_path):
    deployment = new_deployment(tmp_path, worker_count=1, tick_ms=1)
    registered = read_registered(demo.write_registered(deployment, CAMPAIGNS).read_bytes())
    assert {(each.campaign_id, each.creative_id) for each in registered} == {
        (1, 101), (1, 102), (2, 201), (2, 202), (3, 301), (3, 302),
    }  # fmt: skip
    assert {"category", "format", "size"} <= registered[0].features.keys() <= set(AD_FIELDS)
    values = {each.campaign_id: each.value_per_conversion_micros for each in registered}
    assert values == {1: demo._ORDER_VALUE_MICROS, 2: 8_000_000, 3: 1}
