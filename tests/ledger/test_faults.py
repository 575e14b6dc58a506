"""A tenth of ``python -m bench faults``, or less: each kind of fault once or a few times."""

from __future__ import annotations

import pytest

from bench import faults, faults_histories, faults_money, faults_outage, faults_pipeline
from bench.faults_workers import requests, rollover, worker_kills
from ledger.budget import BudgetLedger
from tests.ledger.brokers import broker_or_skip
from tests.ledger.stores import clickhouse_or_skip

SEED = 5


@pytest.fixture(scope="module")
def sent():
    return requests(500, SEED)


@pytest.fixture
def servers(tmp_path):
    with broker_or_skip(tmp_path / "probe", is_ended=True):
        clickhouse_or_skip(tmp_path).stop()


def assert_sound(found):
    if "missing" in found:
        pytest.skip(found["missing"])
    assert found["money_events_acked"] > 0
    assert faults.wrong_in(found) == {}


def test_ten_thousand_histories_are_those_of_the_model():
    tally = faults_histories.play_histories(10_000, 1)
    assert tally.late_wins > 100
    assert tally.crashes > 1_000
    assert tally.undead_bids > 100
    assert tally.overspend_on_time_micros == tally.overspend_beyond_bound_micros == 0


def test_histories_in_two_processes_are_those_in_one():
    assert faults_histories.play_side_by_side(300, 1, 2) == faults_histories.play_histories(300, 1)


def test_a_history_that_differs_names_its_seed(monkeypatch):
    honest = BudgetLedger.release
    monkeypatch.setattr(  # an owner that forgets what a loss notice gives back
        BudgetLedger, "release", lambda self, slot: [] if slot == 1 else honest(self, slot)
    )
    with pytest.raises(AssertionError, match=r"history \d+: budget \d: "):
        faults_histories.play_histories(200, 1)


@pytest.mark.parametrize("has_late", [False, True])
def test_a_recorder_killed_at_random_loses_no_acknowledged_money(tmp_path, has_late):
    assert_sound(faults_money.recorder_kills(tmp_path / "run", 2, SEED, has_late=has_late))


@pytest.mark.parametrize("has_late", [False, True])
def test_workers_killed_at_random_lose_no_bid_and_what_they_held_comes_back(
    tmp_path, sent, has_late
):
    found = worker_kills(tmp_path / "run", sent, 3, SEED, has_late=has_late)
    assert_sound(found)
    assert found["bids_answered"] > 0
    if has_late:
        assert found["late_wins"] > 0
    else:
        assert found["late_wins"] == found["overspend_micros"] == 0


def test_a_day_that_ends_under_load_leaves_every_budget_exact(tmp_path, sent):
    found = rollover(tmp_path / "run", sent, 2, SEED)
    assert_sound(found)
    assert found["bids_before_midnight"] > 0
    assert found["bids_after"] > 0
    assert found["notices_of_yesterday_after_midnight"] > 0
    assert found["overspend_micros"] == 0


def test_a_full_disk_lets_no_bid_outgrow_its_lease_and_is_over_by_itself(tmp_path):
    found = faults_money.full_disk(tmp_path / "run")
    assert found["notices_refused"] > 0
    assert found["bids_beyond_lease"] == found["unfunded_bids"] == 0
    assert found["recovered_by_itself"] == 1


def test_a_hung_recorder_loses_nothing(tmp_path, sent):
    windows = faults_outage.Windows(seconds=1, pairs=1, outage_s=1)
    found = faults_outage.hung_recorder(tmp_path / "run", sent, windows, SEED)
    assert_sound(found)
    assert found["bids_meanwhile"] > 0
    assert found["requests_timed"] > 0


def test_a_clock_that_jumps_a_day_expires_nothing(tmp_path):
    found = faults_money.clock_jump(tmp_path / "run")
    assert_sound(found)
    assert found["charged"] == 3


@pytest.mark.usefixtures("servers")
def test_everybody_between_log_and_tables_may_be_killed(tmp_path):
    found = faults_pipeline.pipeline_kills(tmp_path / "pipeline", 1, SEED)
    assert set(found["kills"]) == {"kafka", "clickhouse", "shipper", "kafka_loader"}
    assert_sound(found)


def test_a_killed_store_loads_every_event_once(tmp_path):
    assert_sound(faults_pipeline.store_kills(tmp_path / "store", 2, SEED))


@pytest.mark.usefixtures("servers")
def test_an_outage_of_broker_and_store_loses_nothing_and_stops_no_bid(tmp_path, sent):
    windows = faults_outage.Windows(seconds=1, pairs=1, outage_s=2)
    found = faults_outage.outage(tmp_path / "outage", sent, windows, SEED)
    assert_sound(found)
    assert found["notices_acked_meanwhile"] > 0
