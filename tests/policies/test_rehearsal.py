from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bidder.recommendation.network import read_artefact
from ledger.log import MemoryLog
from ledger.segment import RECORDS
from market.campaign import Budget, Goal, GoalKind, Status
from market.conformance import Standing, check_agent
from market.events import SCHEMA_VERSION, EventFlag, EventKind, read_events
from market.exchange import DEFAULT_EXCHANGES
from market.intent import Intent
from policies.rehearsal import Rehearsal
from simulator.episode import run_episode
from simulator.exchange import Exchange
from simulator.registration import register
from simulator.scenario import load
from tests.market.test_conformance import ARRIVAL_MS, block
from tests.policies.intents import RATES, campaign, creative, intent, line_item

SCENARIO = "parity"
HOUR_MS = 3_600_000
SALT = bytes(16)
MAX = Goal(kind=GoalKind.MAX_CONVERSIONS, value_per_conversion_micros=400_000)


def rehearsal(an_intent, **given):
    return Rehearsal(
        an_intent, read_artefact(), DEFAULT_EXCHANGES, seed=5, rates_micros=RATES,
        tick_ms=HOUR_MS, **given,
    )  # fmt: skip


def campaigns():
    """One that runs out of money, one on its target, one that is paused; in three sizes."""

    def items(number):
        sizes = [(300, 250), (728, 90), (320, 50)]
        ads = tuple(creative(number * 100 + i, width=w, height=h) for i, (w, h) in enumerate(sizes))
        return (line_item(number * 10, ads),)

    return (
        campaign(1, items(1), goal=MAX, budget=Budget(1_000_000), policy="constant"),
        campaign(2, items(2)),
        campaign(3, items(3), goal=MAX, status=Status.PAUSED),
    )


class PausedAtNoon(Rehearsal):
    """Pauses campaign 2 after twelve hours and looks where the money is whenever time passes."""

    first_ms = 0
    paused_ms = 0
    checks = 0

    def advance(self, now_ms):
        self.first_ms = self.first_ms or now_ms
        if not self.paused_ms and now_ms >= self.first_ms + 12 * HOUR_MS:
            self.paused_ms = now_ms
            one, two, three = self._intent.campaigns
            self.change(Intent(2, (one, msgspec.structs.replace(two, status=Status.PAUSED), three)))
        super().advance(now_ms)
        self.checks += 1
        available = self._decider.available()
        for budget in self.view().budgets:
            assert budget.spent_on_time_micros + budget.held_micros <= budget.limit_micros
            assert 0 <= available.get(budget.budget_id, 0) <= budget.held_micros
            if not budget.open_count:
                assert available.get(budget.budget_id, 0) == budget.held_micros


def play():
    """(agent, its log's events, the episode) of one day of the twin."""
    log = MemoryLog(is_kept=True)
    agent = PausedAtNoon(
        Intent(1, campaigns()), read_artefact(), DEFAULT_EXCHANGES, seed=5, rates_micros=RATES,
        tick_ms=HOUR_MS,
    )  # fmt: skip
    agent.recorder.write_to(log)
    exchange = Exchange(load(SCENARIO), register(campaigns(), 1_200_000), seed=5, user_salt=SALT)
    episode = run_episode(exchange, agent)
    bodies = [body for kind, body in log.frames if kind == RECORDS]
    return agent, np.concatenate([read_events(body, SCHEMA_VERSION) for body in bodies]), episode


@pytest.fixture(scope="module")
def day():
    return play()


def test_it_is_an_agent_like_any_other():
    def make(standing):
        is_paused = standing is Standing.PAUSED
        agent = rehearsal(intent(
            campaign(goal=MAX, status=Status.PAUSED if is_paused else Status.ACTIVE,
                     budget=Budget(10**9))
        ))  # fmt: skip
        agent.advance(ARRIVAL_MS - 2)
        if standing is not Standing.UNFUNDED:
            # The recorder has seen the first snapshot's budgets: now there is money.
            agent.advance(ARRIVAL_MS - 1)
        return agent

    check_agent(make, block())


def test_the_day_is_as_demanding_as_it_claims(day):
    agent, events, _ = day
    assert agent.paused_ms
    assert agent.checks > 100
    kinds = set(events["kind"].tolist())
    assert {EventKind.BID, EventKind.WIN, EventKind.BILLING, EventKind.LOSS} <= kinds
    assert agent.view().unfunded_bids == 0
    small = [b for b in agent.view().budgets if b.limit_micros == 1_000_000]
    assert max(b.spent_on_time_micros for b in small) > 950_000, "a budget runs out"


def test_money_is_conserved_from_the_notices_to_the_budgets_and_line_items(day):
    agent, events, _ = day
    charged = events[(events["flags"] & EventFlag.CHARGED) != 0]
    view = agent.view()
    spent = int(charged["amount_micros"].sum())
    assert spent > 1_000_000
    assert len(np.unique(charged[["bid_hi", "bid_lo"]])) == len(charged), "once per bid"
    assert sum(b.spent_on_time_micros + b.spent_late_micros for b in view.budgets) == spent
    assert sum(item.spend_micros for item in view.line_items) == spent
    for item in view.line_items:
        its = charged[charged["line_item_id"] == item.id]
        assert int(its["amount_micros"].sum()) == item.spend_micros


def test_a_paused_campaign_never_bids_and_one_that_is_paused_stops_at_once(day):
    agent, events, _ = day
    bids = events[events["kind"] == EventKind.BID]
    assert set(bids["campaign_id"].tolist()) == {1, 2}
    of_two = bids[bids["campaign_id"] == 2]["ts_ms"]
    assert len(of_two) > 50
    assert of_two.max() < agent.paused_ms


def test_every_tick_is_kept_with_its_reason(day):
    agent, _, _ = day
    ticks = {record.at_ms for record in agent.records}
    assert len(ticks) >= 24
    assert all((at - agent.first_ms) % HOUR_MS == 0 for at in ticks)
    assert {record.policy for record in agent.records} == {"constant", "pid"}
    assert all(record.reason for record in agent.records)


def test_the_same_seed_gives_the_same_events(day):
    np.testing.assert_array_equal(play()[1], day[1])
