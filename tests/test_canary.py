"""No secret, raw user id or address leaves its place: planted, run, and looked for everywhere."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys

import httpx
import numpy as np

from market.events import EventKind
from tests.engines import REPOSITORY, events_in, served, until

USER = "canary-user-5f1d9c"
ADDRESS = "203.0.113.77"
PRIVACY_KEY = "c4aa17" + "5e" * 29
PASSWORD = "canary-password-77"


def commands(folder):
    """Everything that an operator does with users and keys, also what fails."""
    environment = {**os.environ, "LODESTONE_PRIVACY_KEY": PRIVACY_KEY}
    told = []
    for words, stdin in (
        (("access",), USER), (("erase",), USER), (("rotate-salt",), ""), (("access",), USER),
        (("query", "--measure", "bids", "--start", "2026-01-01", "--end", "2026-01-02"), ""),
        (("audit", "--head", "0f" * 32), ""),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "lodestone", "store", words[0], str(folder), *words[1:]],
            input=stdin, text=True, capture_output=True, check=False, cwd=REPOSITORY,
            env=environment,
        )  # fmt: skip
        assert done.returncode == (2 if words[0] == "audit" else 0), done.stderr
        told.append(done.stdout + done.stderr)
    # A server that is not there, asked with a password: the traceback is looked at, too.
    url = f"clickhouse://canary:{PASSWORD}@127.0.0.1:1/x"
    program = f"from ledger.clickhouse import *\nClickHouseEngine(address_of({url!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, check=False, cwd=REPOSITORY
    )
    assert "NotReady" in done.stderr
    told.append("\n".join(line for line in done.stderr.splitlines() if "canary:" not in line))
    assert PASSWORD not in done.stderr
    return told


def bid_again(market, **request):
    with contextlib.suppress(httpx.TransportError):
        return market.bid(**request)
    return None


def test_what_is_secret_or_personal_stands_nowhere_but_where_it_belongs(tmp_path):
    with served(tmp_path / "run", "--workers", "1") as engine:
        market = engine.up()
        deployment = engine.deployment
        market.create()
        person = {"user": {"id": USER, "buyeruid": USER}}
        device = {"ua": "Mozilla/5.0", "ip": ADDRESS, "geo": {"country": "USA"}, "devicetype": 2,
                  "ifa": USER}  # fmt: skip
        bid = market.bid_soon(**person, device=device)
        for _ in range(20):
            market.bid(**person, device=device)
        assert market.say(bid["burl"], bid["price"]) == 200
        market.say(
            bid["burl"], bid["price"], lambda url: url.replace("/n/billing/", "/n/billing/A")
        )
        market.say(bid["burl"], "not-a-price")
        market.post(json.dumps({"id": USER, "imp": USER, "user": 5}).encode())
        market.post(f'{{"id": "{USER}", "device": {{"ip": "{ADDRESS}"'.encode())
        market.api.get("/campaigns", headers={"authorization": "Bearer canary-wrong-key"})
        until(lambda: market.ledger_bids() >= 1)
        api_key = (tmp_path / "run" / "api_key").read_text().strip()
        os.kill(engine.pids["bidder.worker"][0], signal.SIGABRT)
        until(lambda: bid_again(market, user={"id": USER}, device=device))
        told = commands(engine.folder)
        engine.leave(signal.SIGINT)
        told.append(engine.said())
    events = events_in(tmp_path / "run")
    assert np.count_nonzero(events["kind"] == EventKind.BILLING) == 1
    assert np.count_nonzero(events["user_key"]) > 0, "a user was bid for, under a pseudonym"
    hexes = (deployment.notice_key_hex, deployment.user_salt_hex, PRIVACY_KEY)
    forbidden = [USER, ADDRESS, PASSWORD, api_key, "canary-wrong-key", deployment.ledger_token]
    needles = {text.encode() for text in (*forbidden, *hexes)}
    needles |= {bytes.fromhex(text) for text in hexes}
    belongs = {"deployment.json", "api_key"}
    found = []
    count = has_name = 0
    for path in sorted((tmp_path / "run").rglob("*")):
        if path.is_file() and path.name not in belongs:
            count += 1
            body = path.read_bytes()
            found += [(str(path), needle) for needle in needles if needle in body]
            has_name += b"Spring sale" in body
    found += [("told", needle) for needle in needles for text in told if needle in text.encode()]
    assert count > 10
    assert has_name, "what is no secret is found by the same search"
    assert found == []
