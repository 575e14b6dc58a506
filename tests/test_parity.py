"""One decision, everywhere: an episode over HTTP and the same one in process agree to the micro.

A real engine (one worker, recorder, controller, control plane) is driven by the twin in lockstep on
the episode clock; then the same campaigns, seed and clock are rehearsed in one process. Every line
item, creative, price and reason must be equal, and so must every charge. The rehearsal is then run
again with one constant changed, and the same comparison must fail.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
import uvloop

from bidder.recommendation.network import read_artefact
from campaigns.supervisor import Supervisor, endpoints_of, new_deployment
from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.log import MemoryLog
from ledger.segment import RECORDS, SegmentReader
from market.decision import NoBidReason
from market.events import EVENT_DTYPE, EventFlag, EventKind, read_events
from market.intent import read_intent
from policies.bidding import pid
from policies.controller import fetch_view
from policies.rehearsal import Rehearsal
from simulator.episode import run_episode
from simulator.exchange import Exchange
from simulator.live import LiveExchange
from simulator.registration import register
from simulator.scenario import read as read_scenario

SEED = 3
TICK_MS = 25_000_000
"""Three more ticks after the first, in 25 hours and ten minutes of episode."""

_SCENARIO = Path(__file__).parents[1] / "simulator" / "scenarios" / "parity.toml"
_DECIDED = [name for name in EVENT_DTYPE.names or () if name not in ("id_hi", "id_lo", "recv_ms")]
_TOLD = [
    "id_hi", "id_lo", "bid_hi", "bid_lo", "kind", "line_item_id", "creative_id", "flags",
    "price_cpm_micros", "amount_micros", "value_micros", "reason", "floor_cpm_micros", "ts_ms",
]  # fmt: skip


def _scenario():
    """25,000 opportunities, 2% of the charging notices later than their window."""
    text = _SCENARIO.read_text()
    for old, new in (
        ("requests_per_day = 2_400", "requests_per_day = 24_000"),
        ("user_count = 800", "user_count = 1_500"),
        ("late_share = 0.0\nlate_ms = [0, 0]", "late_share = 0.02\nlate_ms = [1_000, 200_000]"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    return read_scenario(text, "parity")


def _bodies():
    def creatives(category, sizes, headlines=("written", "priced")):
        return [
            {
                "name": f"{category} {w}x{h} {headline}", "width": w, "height": h,
                "adm": '<a href="{{CLICK_URL}}">x</a><img src="{{IMPRESSION_URL}}">',
                "landing_url": "https://shop.example/", "is_secure": True,
                "features": {"headline": headline, "layout": "split", "palette": "night"},
            }
            for w, h in sizes
            for headline in headlines
        ]  # fmt: skip

    def body(name, goal, daily, line_items, policy="pid", **more):
        return {
            "name": name, "currency": "USD", "time_zone": "UTC", "goal": goal, "policy": policy,
            "advertiser_domain": f"{name}.example", "budget": {"daily_micros": daily, **more},
            "line_items": line_items,
        }  # fmt: skip

    sizes = [(300, 250), (728, 90), (320, 50)]
    return [
        body(
            "exhausted",
            {"kind": "max_conversions", "value_per_conversion_micros": 400_000},
            2_500_000,
            [
                {
                    "name": "india",
                    "creatives": creatives("a", sizes),
                    "targeting": {"include": {"country": ["IND"]}},
                }
            ],
            policy="constant",
            lifetime_micros=4_000_000,
        ),
        body(
            "capped",
            {"kind": "target_cpa", "target_cpa_micros": 350_000},
            50_000_000,
            [
                {
                    "name": "capped",
                    "creatives": creatives("b", sizes),
                    "frequency_caps": [
                        {"impressions": 2, "period": "day", "scope": "line_item"},
                        {"impressions": 1, "period": "hour", "scope": "creative"},
                    ],
                    "targeting": {"include": {"country": ["USA"]}, "exclude": {"os": ["iOS"]}},
                }
            ],
        ),
        body(
            "roas",
            {
                "kind": "target_roas",
                "target_roas": 4.0,
                "value_per_conversion_micros": 1_200_000,
            },
            30_000_000,
            [
                {
                    "name": "segments",
                    "creatives": creatives("c", sizes),
                    "targeting": {
                        "include": {"segment": ["int-autos", "int-travel"], "country": ["IND"]}
                    },
                    "bid_cpm_micros_max": 9_000_000,
                }
            ],
        ),
    ]


class Live:
    """What the engine behind HTTP recorded."""

    def __init__(self, events, view, report, intent, salt):
        is_decision = np.isin(events["kind"], [EventKind.BID, EventKind.NO_BID])
        self.decisions = events[is_decision]
        self.notices = events[~is_decision]
        self.view = view
        self.report = report
        self.intent = intent
        self.salt = salt


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    deployment = msgspec.structs.replace(
        new_deployment(
            tmp_path_factory.mktemp("parity"), worker_count=1, is_episode=True, seed=SEED,
            tick_ms=TICK_MS,
        ),
        no_bid_sample_rate=1.0,
    )  # fmt: skip
    supervisor = Supervisor(deployment)
    try:
        supervisor.start()
        key = deployment.api_key_path.read_text().strip()
        for body in _bodies():
            answer = httpx.post(
                f"{endpoints_of(deployment).api_url}/campaigns",
                json=body, headers={"authorization": f"Bearer {key}"}, timeout=60,
            )  # fmt: skip
            assert answer.status_code == 201, answer.text
        intent = read_intent(deployment.intent_folder)
        exchange = LiveExchange(
            deployment, _scenario(), register(intent.campaigns, 1_200_000),
            seed=SEED, connections=1, wall_ns=time.perf_counter_ns, on_progress=lambda _: None,
            deadline_s=120,
        )  # fmt: skip
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(exchange.run())
        view = fetch_view(deployment)
    finally:
        supervisor.stop()
    reader = SegmentReader(deployment.segment_folder, RealDisk(), EVENT_LOG)
    frames = []
    while batch := reader.read(1 << 24):
        frames += batch
    events = np.concatenate(
        [read_events(frame.body, frame.schema_version) for frame in frames if frame.kind == RECORDS]
    )
    return Live(events, view, report, intent, bytes.fromhex(deployment.user_salt_hex))


def _rehearse(live):
    scenario = _scenario()
    deployment = new_deployment(Path("unused"), worker_count=1, tick_ms=TICK_MS, seed=SEED)
    log = MemoryLog(is_kept=True)
    agent = Rehearsal(
        live.intent, read_artefact(), deployment.exchanges, seed=SEED,
        rates_micros=deployment.rates_micros, tick_ms=TICK_MS, no_bid_sample_rate=1.0,
    )  # fmt: skip
    agent.recorder.write_to(log)
    exchange = Exchange(
        scenario, register(live.intent.campaigns, 1_200_000), seed=SEED, user_salt=live.salt
    )
    episode = run_episode(exchange, agent)
    events = np.concatenate([read_events(body, 2) for kind, body in log.frames if kind == RECORDS])
    is_decision = np.isin(events["kind"], [EventKind.BID, EventKind.NO_BID])
    return events[is_decision], events[~is_decision], agent, episode


def _differences(ours, theirs, names):
    """Returns the first place at which two logs differ, per column."""
    if len(ours) != len(theirs):
        return {"length": (len(ours), len(theirs))}
    found = {}
    for name in names:
        is_equal = ours[name] == theirs[name]
        is_equal = is_equal.all(axis=tuple(range(1, is_equal.ndim)))
        if not is_equal.all():
            at = int(np.argmin(is_equal))
            found[name] = (at, ours[name][at], theirs[name][at])
    return found


@pytest.fixture(scope="module")
def rehearsed(live):
    return _rehearse(live)


def test_the_episode_is_as_demanding_as_it_claims(live):
    reasons = set(live.decisions["reason"].tolist())
    assert len(live.decisions) >= 20_000
    assert {NoBidReason.BUDGET_EXHAUSTED, NoBidReason.FREQUENCY_CAP} <= reasons
    assert len(np.unique(live.decisions["snapshot_version"])) >= 4
    assert len(np.unique(live.decisions["policy_version"])) >= 4
    assert len(np.unique(live.decisions["line_item_id"])) == 4  # three line items, and none
    assert live.report.repeated_notices_sent > 100
    assert np.count_nonzero(live.notices["flags"] & EventFlag.LATE) > 20
    assert sum(e.duplicates_ignored for e in live.view.exchanges) > 100
    assert live.report.is_complete
    assert not live.report.errors
    assert sum(live.report.answers[status] for status in ("200", "204")) == live.report.requests
    assert not live.report.notices_refused


def test_http_and_process_make_the_same_decisions(live, rehearsed):
    decisions, _, _, episode = rehearsed
    assert episode.result.opportunity_count == live.report.requests == len(decisions)
    assert _differences(live.decisions, decisions, _DECIDED) == {}


def test_http_and_process_record_the_same_notices_and_charges(live, rehearsed):
    _, notices, _, _ = rehearsed
    by_id = {"order": ["id_hi", "id_lo"]}
    ours, theirs = np.sort(live.notices, **by_id), np.sort(notices, **by_id)
    assert _differences(ours, theirs, _TOLD) == {}


def test_http_and_process_spend_the_same_to_the_micro(live, rehearsed):
    agent = rehearsed[2]
    assert agent.view().budgets == live.view.budgets
    assert agent.view().line_items == live.view.line_items
    spent = sum(item.spend_micros for item in live.view.line_items)
    assert spent > 10_000_000
    assert all(
        budget.spent_on_time_micros <= budget.limit_micros
        for budget in live.view.budgets
        if budget.limit_micros
    )


def test_the_comparison_sees_one_changed_constant(live, monkeypatch):
    monkeypatch.setattr(pid, "PRIOR_CONVERSIONS", pid.PRIOR_CONVERSIONS * 1.01)
    decisions, _, agent, _ = _rehearse(live)
    found = _differences(live.decisions, decisions, _DECIDED)
    assert {"price_cpm_micros", "amount_micros"} & set(found)
    assert agent.view().line_items != live.view.line_items
