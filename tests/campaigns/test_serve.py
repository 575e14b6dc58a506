"""``lodestone serve`` from outside: what it prints, what it answers, how it ends and goes on."""

from __future__ import annotations

import json
import signal
import time

import pytest

from market.events import EventKind
from tests.engines import bids_in, events_in, served, until

STOP_S_MAX = 2.0
PAUSE_S_MAX = 1.0


def test_the_whole_engine_answers_and_a_ctrl_c_ends_it_in_time_with_no_event_lost(tmp_path):
    folder = tmp_path / "run"
    with served(folder, "--workers", "2") as engine:
        market = engine.up()
        assert {"bid_url", "notice_url", "api_url", "console_url"} <= market.endpoints.keys()
        assert {module: len(pids) for module, pids in engine.pids.items()} == {
            "ledger.recorder": 1, "ledger.store": 1, "campaigns.server": 1,
            "policies.controller": 1, "bidder.worker": 2,
        }  # fmt: skip
        ready = market.endpoints["bid_url"].replace("/bid/default", "/ready")
        assert market.http.get(ready).status_code == 200
        assert market.http.get(market.endpoints["console_url"]).status_code == 200
        assert market.api.get("/overview").json()["campaigns"] == []
        market.create()
        market.bid_soon()
        spend = 0
        for _ in range(200):
            bid = market.bid()
            assert bid is not None
            assert market.say(bid["burl"], bid["price"]) == 200
            spend += 1
        # A last breath of bids whose events only the rings hold yet.
        for _ in range(50):
            assert market.bid() is not None
        code, seconds = engine.leave(signal.SIGINT)
        assert (code, seconds < STOP_S_MAX) == (0, True), (seconds, engine.said())
        assert not any(engine.living().values())
        assert engine.process.stdout.read() == "", "only the first line"
        assert engine.said() == "stopping\n"
        assert bids_in(folder) == market.bid_count == 251
        assert (events_in(folder)["kind"] == EventKind.BILLING).sum() == spend


def test_a_run_goes_on_after_torn_frames_and_crashes_and_refuses_damage(tmp_path):
    folder = tmp_path / "run"
    with served(folder) as engine:
        market = engine.up()
        market.create()
        for _ in range(20):
            bid = market.bid_soon()
            assert market.say(bid["burl"], bid["price"]) == 200
        # The supervisor is killed, and with it every process at once.
        before = market.ledger()
        spend = market.spend()
        assert spend > 0
        code, _ = engine.leave(signal.SIGKILL)
        assert code == -signal.SIGKILL
        until(lambda: not any(engine.living().values()), 10)
        answered = market.bid_count

    (segment,) = (folder / "segments").glob("*.seg")
    whole = segment.read_bytes()
    segment.write_bytes(whole + whole[-40:][:31])
    with served(folder) as engine:
        market = engine.up()
        assert f"cut 31 torn bytes from {segment.name}" in engine.log("recorder")
        assert market.spend() == spend
        after = market.ledger()
        assert [b.spent_on_time_micros for b in after.budgets] == [
            b.spent_on_time_micros for b in before.budgets
        ]
        # Old secrets and ports: a notice of the run before is still good, and charged once.
        assert market.say(bid["burl"], bid["price"]) == 200
        assert market.spend() == spend
        market.bid_soon()
        assert engine.leave(signal.SIGTERM)[0] == 0
        assert not any(engine.living().values())
        assert bids_in(folder) == answered + market.bid_count

    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    segment.write_bytes(damaged)
    with served(folder) as engine:
        code, _ = engine.leave()
        (line,) = engine.said().splitlines()
        assert code == 2
        assert segment.name in line
        assert "damage inside the log" in line
        assert engine.process.stdout.read() == ""


def test_after_a_pause_no_bid_is_answered_later_than_a_second(tmp_path):
    with served(tmp_path / "run") as engine:
        market = engine.up()
        campaign = market.create()
        path = f"/campaigns/{campaign['campaign_id']}"
        market.bid_soon()
        asked_at = time.monotonic()
        assert market.api.post(f"{path}:pause").status_code == 200
        answered, last_bid_at = 0, asked_at
        while time.monotonic() < asked_at + 2 * PAUSE_S_MAX:
            if market.bid() is not None:
                last_bid_at = time.monotonic()
            answered += 1
        assert answered > 100
        assert last_bid_at - asked_at < PAUSE_S_MAX
        assert market.api.post(f"{path}:resume").status_code == 200
        market.bid_soon()

        # A second engine in the folder is refused and does the first no harm.
        with served(tmp_path / "run") as second:
            code, _ = second.leave()
            assert code == 1
            (line,) = second.said().splitlines()
            assert "another engine runs in it" in line
        assert market.bid() is not None


@pytest.mark.parametrize(
    "body", ["{", "[]", '{"folder": 1}', json.dumps({"folder": "x"}), "\x00\xff"]
)
def test_a_damaged_deployment_file_is_one_line_and_code_2(tmp_path, body):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "deployment.json").write_text(body)
    with served(folder) as engine:
        assert engine.leave()[0] == 2
        (line,) = engine.said().splitlines()
        assert line.startswith("lodestone: deployment deployment.json: ")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with served(tmp_path / "file" / "run") as engine:
        assert engine.leave()[0] == 1
        (line,) = engine.said().splitlines()
        assert "Not a directory" in line
