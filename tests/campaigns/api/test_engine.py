from __future__ import annotations

import os

from ledger.view import ActivityView, LedgerView
from market.control import ControlBlock, Word, WorkerWord

PATH = "/api/v1/overview"


def test_without_a_recorder_an_overview_says_why_there_are_no_numbers(plane, body):
    plane.editor.post("/api/v1/campaigns", json=body).raise_for_status()
    overview = plane.viewer.get(PATH).json()
    (campaign,) = overview["campaigns"]
    assert campaign["numbers"] is None
    assert campaign["name"] == body["name"]
    assert (campaign["line_item_count"], campaign["creative_count"]) == (2, 1)
    assert "recorder" in overview["recorder_problem"]


def test_an_overview_shows_numbers_and_processes(plane, ledger, body, deployment):
    plane.editor.post("/api/v1/campaigns", json=body).raise_for_status()
    activity = ActivityView(1, 50, 9, 8, 4, 2, 30_000_000, 9_000_000, 0.0, 0.0)
    ledger.view = LedgerView(1, 1, True, 0, (), (activity,), (), ())
    block = ControlBlock(deployment.control_path)
    block.words[Word.CONTROLLER_READY] = 1
    block.words[Word.INTENT_VERSION] = 1
    block.worker(0)[WorkerWord.PID] = os.getpid()
    overview = plane.viewer.get(PATH).json()
    assert overview["recorder_problem"] == ""
    numbers = overview["campaigns"][0]["numbers"]
    assert (numbers["wins"], numbers["spend_micros"], numbers["cpa_micros"]) == (
        9, 9_000_000, 4_500_000,
    )  # fmt: skip
    engine = overview["engine"]
    assert engine["controller_is_ready"]
    assert (engine["intent_version_in_force"], engine["intent_version_published"]) == (1, 2)
    assert [worker["pid"] for worker in engine["workers"]] == [os.getpid()]


def test_an_overview_needs_a_key_and_health_needs_none(plane):
    assert plane.anyone.get(PATH).status_code == 401
    assert plane.anyone.get("/healthz").json() == {"status": "ok"}
