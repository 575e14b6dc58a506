"""A real engine under ``lodestone serve``, with this test as its advertiser and exchange."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import httpx
import msgspec
import numpy as np

from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.segment import RECORDS, SegmentReader
from ledger.view import LedgerView
from market.deployment import read_deployment
from market.events import EventKind, read_events

REPOSITORY = Path(__file__).parents[1]
WAIT_S = 90

CAMPAIGN = {
    "name": "Spring sale", "currency": "USD", "time_zone": "UTC",
    "advertiser_domain": "shop.example", "policy": "constant",
    "goal": {"kind": "max_conversions", "value_per_conversion_micros": 2_000_000},
    "budget": {"daily_micros": 50_000_000},
    "line_items": [
        {
            "name": "everyone",
            "creatives": [
                {
                    "name": "square", "width": 300, "height": 250, "is_secure": True,
                    "adm": '<a href="{{CLICK_URL}}">x</a><img src="{{IMPRESSION_URL}}">',
                    "landing_url": "https://shop.example/",
                }
            ],
        }
    ],
}  # fmt: skip


def until(is_so, wait_s=WAIT_S):
    """Polls until ``is_so()`` is true, and returns what it said."""
    deadline = time.monotonic() + wait_s
    while not (found := is_so()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
    return found


def children_of(pid):
    """Process ids of a process's children, by what they run: ``{"ledger.recorder": [123]}``."""
    found = {}
    for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        words = Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0")
        if b"-m" in words:
            module = words[words.index(b"-m") + 1].decode()
            found.setdefault(module, []).append(int(each))
    return found


def events_in(folder):
    """Every event in the segments of a run folder, [N] of EVENT_DTYPE."""
    reader = SegmentReader(Path(folder) / "segments", RealDisk(), EVENT_LOG)
    bodies = []
    while batch := reader.read(1 << 24):
        bodies += [
            read_events(frame.body, frame.schema_version)
            for frame in batch
            if frame.kind == RECORDS
        ]
    return np.concatenate(bodies)


def bids_in(folder):
    return int(np.count_nonzero(events_in(folder)["kind"] == EventKind.BID))


class Market:
    """Speaks HTTP to a running engine: campaigns in, bid requests and notices out.

    Attributes:
        bid_count: bids that were answered.
    """

    _numbers = count(1)

    def __init__(self, endpoints):
        self.endpoints = endpoints
        key = Path(endpoints["api_key_file"]).read_text().strip()
        self.api = httpx.Client(
            base_url=endpoints["api_url"], headers={"authorization": f"Bearer {key}"}, timeout=30,
            trust_env=False,
        )  # fmt: skip
        self.http = httpx.Client(timeout=30, trust_env=False)
        self.bid_count = 0

    def close(self):
        self.api.close()
        self.http.close()

    def request(self, **values):
        """A bid request for a 300x250 banner at a floor of 0.01 CPM."""
        number = next(self._numbers)
        return {
            "id": f"r{number}", "tmax": 5_000, "at": 1, "cur": ["USD"],
            "imp": [{"id": "1", "secure": 1, "bidfloor": 0.01,
                     "banner": {"format": [{"w": 300, "h": 250}]}}],
            "site": {"domain": "news.example", "page": "https://news.example/"},
            "device": {"ua": "Mozilla/5.0", "geo": {"country": "USA"}, "devicetype": 2},
            "user": {"id": f"u{number}"},
            **values,
        }  # fmt: skip

    def post(self, body, exchange="twin"):
        """The answer to one body; the twin's profile has no real-time limit to be unlucky with."""
        url = self.endpoints["bid_url"].replace("/bid/default", f"/bid/{exchange}")
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(url, content=content, headers={"content-type": "application/json"})

    def bid(self, **values):
        """The bid on one request; None if there was none."""
        answer = self.post(self.request(**values))
        if answer.status_code == 204:
            return None
        assert answer.status_code == 200, answer.text
        self.bid_count += 1
        return answer.json()["seatbid"][0]["bid"][0]

    def bid_soon(self, **values):
        """The first bid there is, once campaigns, budgets and leases have come round."""
        return until(lambda: self.bid(**values))

    def create(self, **values):
        answer = self.api.post("/campaigns", json={**CAMPAIGN, **values})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def say(self, url, price=None, change=lambda url: url):
        """Sends a notice; the price is filled in as an exchange does."""
        filled = url.replace("${AUCTION_PRICE}", "" if price is None else str(price))
        return self.http.get(change(filled)).status_code

    def ledger(self):
        deployment = read_deployment(Path(self.endpoints["folder"]) / "deployment.json")
        answer = self.http.get(
            self.endpoints["notice_url"].replace("/n/", "/ledger"),
            headers={"authorization": f"Bearer {deployment.ledger_token}"},
        )
        return msgspec.json.decode(answer.raise_for_status().content, type=LedgerView)

    def spend(self):
        return sum(item.spend_micros for item in self.ledger().line_items)

    def ledger_bids(self):
        return sum(item.bids for item in self.ledger().line_items)


class Served:
    """``lodestone serve --json`` in a folder."""

    def __init__(self, folder, *arguments):
        self.folder = Path(folder)
        self._errors = tempfile.NamedTemporaryFile("w")  # noqa: SIM115 - closed by end()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lodestone", "serve", "--json", "--folder", str(folder),
             *arguments],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=self._errors, text=True,
        )  # fmt: skip
        self.market = None
        self.pids = {}

    def up(self):
        """Waits for the first line; returns the market to play in."""
        line = self.process.stdout.readline()
        assert line, f"it left: {self.said()}"
        self.market = Market(json.loads(line))
        self.pids = children_of(self.process.pid)
        return self.market

    @property
    def deployment(self):
        return read_deployment(self.folder / "deployment.json")

    def said(self):
        return Path(self._errors.name).read_text()

    def log(self, name):
        return (self.folder / "logs" / f"{name}.log").read_text()

    def leave(self, number=None):
        """Waits for the end, after a signal if one is given; returns (exit code, seconds)."""
        begun = time.monotonic()
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=WAIT_S)
        return code, time.monotonic() - begun

    def living(self):
        """Those of its processes that still run."""
        return {
            module: [pid for pid in pids if Path(f"/proc/{pid}").exists()]
            for module, pids in self.pids.items()
        }

    def end(self):
        """Leaves nothing behind, whatever the test did."""
        if self.process.poll() is None:
            self.pids = {**self.pids, **children_of(self.process.pid)}
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pids in self.living().values():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self.market is not None:
            self.market.close()
        self.process.stdout.close()
        self._errors.close()


@contextlib.contextmanager
def served(folder, *arguments):
    """An engine that is gone when the block ends."""
    engine = Served(folder, *arguments)
    try:
        yield engine
    finally:
        engine.end()
