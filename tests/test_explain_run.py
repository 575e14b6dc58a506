"""``lodestone explain --run``: a real engine's campaigns, pauses, money and frequency counts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import msgspec
import pytest

from campaigns.supervisor import new_deployment
from market.deployment import write_deployment
from market.exchange import DEFAULT_EXCHANGES
from tests.engines import CAMPAIGN, REPOSITORY, served, until

EXCHANGE = "house"
"""An exchange that only this run has."""


@pytest.fixture
def engine(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    house = msgspec.structs.replace(DEFAULT_EXCHANGES[2], name=EXCHANGE, exchange_id=77)
    deployment = new_deployment(folder, worker_count=1, tick_ms=60_000)
    write_deployment(msgspec.structs.replace(deployment, exchanges=(*DEFAULT_EXCHANGES, house)))
    with served(folder) as engine:
        yield engine


def explained(engine, request, *arguments):
    """What the command prints on a request, as JSON unless told otherwise."""
    path = engine.folder / "request.json"
    path.write_text(json.dumps(request))
    done = subprocess.run(
        [sys.executable, "-m", "lodestone", "explain", str(path), "--run", str(engine.folder),
         "--exchange", EXCHANGE, *(arguments or ["--json"])],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout if arguments else json.loads(done.stdout)


def test_a_running_engine_and_one_that_has_ended_are_explained(engine):
    market = engine.up()
    (line_item,) = CAMPAIGN["line_items"]
    campaign = market.create(
        line_items=[{**line_item, "frequency_caps": [{"impressions": 1, "period": "day"}]}]
    )
    until(lambda: market.bid(user={"id": "met"}))
    until(lambda: market.ledger_bids() == market.bid_count)
    counted = market.ledger()

    # A user that was met: the worker's own frequency counts say so.
    met = market.request(user={"id": "met"})
    found = explained(engine, met)
    assert market.post(met, EXCHANGE).status_code == found["status"]
    assert found["bids"] == []
    (verdict,) = found["imps"][0]["verdicts"]
    (failed,) = verdict["failed"]
    assert failed["reason"] == "frequency_cap"
    assert failed["asked"] == "id=met"
    assert found["notes"] == [
        "money: the limit less what was spent; how workers share it is not seen"
    ]

    # A new one: what is explained is what is then bid, and explaining it has reserved nothing.
    new = market.request(user={"id": "new"})
    found = explained(engine, new)
    (told,) = found["bids"]
    assert market.ledger().budgets == counted.budgets
    answer = market.post(new, EXCHANGE)
    market.bid_count += 1
    (seat_bid,) = answer.json()["seatbid"]
    assert found["status"] == answer.status_code == 200
    assert told["price_cpm"] == pytest.approx(seat_bid["bid"][0]["price"], abs=1e-6)
    assert str(told["creative_id"]) == seat_bid["bid"][0]["crid"]
    assert explained(engine, new)["bids"] == [], "now it was met"

    other = market.request(user={"id": "other"})
    table = explained(engine, other, "--exchange", EXCHANGE)
    assert "1 of 1 line items may bid" in table
    assert f"line item {told['line_item_id']} bids" in table

    assert market.api.post(f"/campaigns/{campaign['campaign_id']}:pause").status_code == 200
    until(lambda: market.bid() is None)
    (verdict,) = explained(engine, other)["imps"][0]["verdicts"]
    reasons = {failed["reason"]: failed["rule"] for failed in verdict["failed"]}
    assert reasons["not_active"] == "campaign is paused"

    engine.leave(signal.SIGTERM)
    ended = explained(engine, met)
    assert "the recorder does not answer: every budget is taken as full" in ended["notes"]
    (verdict,) = ended["imps"][0]["verdicts"]
    assert {"not_active", "frequency_cap"} <= {failed["reason"] for failed in verdict["failed"]}
