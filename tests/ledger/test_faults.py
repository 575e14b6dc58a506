"""A small part of ``python -m bench faults``: each kind of fault once or a few times."""

from __future__ import annotations

import pytest

from bench import faults_histories, faults_money, faults_pipeline
from ledger.budget import BudgetLedger
from tests.ledger.brokers import broker_or_skip
from tests.ledger.stores import clickhouse_or_skip

NOTHING_WRONG = (
    "kills_without_acks", "money_events_lost", "wrong_amounts", "duplicates_after_dedup",
    "unaccounted_micros", "overspend_on_time_micros", "overspend_beyond_bound_micros",
)  # fmt: skip


def wrong(found):
    return {name: found[name] for name in NOTHING_WRONG if found.get(name, 0)}


def test_five_thousand_histories_are_those_of_the_model():
    tally = faults_histories.play_histories(5_000, 1)
    assert tally.late_wins > 100
    assert tally.crashes > 1_000
    assert tally.overspend_on_time_micros == tally.overspend_beyond_bound_micros == 0


def test_a_history_that_differs_names_its_seed(monkeypatch):
    honest = BudgetLedger.release
    monkeypatch.setattr(  # an owner that forgets what a loss notice gives back
        BudgetLedger, "release", lambda self, slot: [] if slot == 1 else honest(self, slot)
    )
    with pytest.raises(AssertionError, match=r"history \d+: budget \d: "):
        faults_histories.play_histories(200, 1)


@pytest.mark.parametrize("has_late", [False, True])
def test_a_recorder_killed_at_random_loses_no_acknowledged_money(tmp_path, has_late):
    found = faults_money.recorder_kills(tmp_path / "run", 2, 5, has_late=has_late)
    assert found["money_events_acked"] > 0
    assert wrong(found) == {}


def test_a_worker_killed_at_random_loses_no_bid_of_its_ring(tmp_path):
    found = faults_money.worker_kills(tmp_path / "run", 3, 5)
    assert found["money_events_acked"] > 0
    assert found["bids_lost"] == found["unfunded_bids"] == 0
    assert wrong(found) == {}


def test_a_full_disk_lets_no_bid_outgrow_its_lease_and_is_over_by_itself(tmp_path):
    found = faults_money.full_disk(tmp_path / "run")
    assert found["notices_refused"] > 0
    assert found["bids_beyond_lease"] == found["unfunded_bids"] == 0
    assert found["recovered_by_itself"] == 1


def test_a_hung_recorder_loses_nothing(tmp_path):
    found = faults_money.hung_recorder(tmp_path / "run", 1.0)
    assert found["bids_meanwhile"] > 0
    assert found["bids_lost"] == 0


def test_a_clock_that_jumps_a_day_expires_nothing(tmp_path):
    found = faults_money.clock_jump(tmp_path / "run")
    if "clock_jump" in found:
        pytest.skip(found["clock_jump"])
    assert (found["charged"], found["expired_early_micros"]) == (3, 0)


def test_everybody_between_log_and_tables_may_be_killed(tmp_path):
    with broker_or_skip(tmp_path / "probe"):
        clickhouse_or_skip(tmp_path).stop()
    found = faults_pipeline.pipeline_kills(tmp_path / "pipeline", 1, 5)
    assert found["money_events"] > 0
    assert wrong(found) == {}
    assert found["wrong_micros"] == 0
