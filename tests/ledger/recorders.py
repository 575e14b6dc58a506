"""A real recorder process with this test as its worker, controller, supervisor and exchange."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from ledger.ring import Ring
from ledger.view import LedgerView
from market.control import ControlBlock, Word, WorkerWord
from market.deployment import Deployment, write_deployment
from market.events import EVENT_DTYPE, EventKind
from market.notices import notice_path, sign
from market.snapshot import snapshot_path, write_snapshot
from market.state import CREDIT_DTYPE
from tests.ledger.bids import bid_event, snapshot_of, token_of
from tests.reference.worker import Worker

REPOSITORY = Path(__file__).parents[2]
WAIT_S = 120


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(is_so, wait_s=WAIT_S):
    """Polls until ``is_so()`` is true, and returns what it said."""
    deadline = time.monotonic() + wait_s
    while not (found := is_so()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)
    return found


class Place:
    """A run folder, and at most one recorder process in it."""

    def __init__(self, folder, limits=None, *, worker_count=1, is_episode=False, **deployment):
        self.deployment = Deployment(
            folder=str(folder), bid_port=1, notice_port=free_port(), control_port=2,
            worker_count=worker_count, base_url="http://127.0.0.1", notice_key_hex="11" * 32,
            user_salt_hex="22" * 16, is_episode=is_episode, **deployment,
        )  # fmt: skip
        self.key = bytes.fromhex(self.deployment.notice_key_hex)
        for made in (self.deployment.log_folder, self.deployment.snapshot_folder):
            made.mkdir(parents=True)
        self.control = ControlBlock.create(self.deployment.control_path)
        self.words = self.control.words
        self.path = write_deployment(self.deployment)
        self.publish({1: 10**9} if limits is None else limits)
        for worker in range(worker_count):
            self.control.worker(worker)[WorkerWord.PID] = os.getpid()
        self.process = None

    def publish(self, limits, **rest):
        """What the controller does with a new snapshot."""
        version = self.words[Word.SNAPSHOT_VERSION] + 1
        snapshot = snapshot_of(limits, version=version, **rest)
        write_snapshot(snapshot_path(self.deployment.snapshot_folder, version), snapshot)
        self.words[Word.SNAPSHOT_VERSION] = version

    def spawn(self, **rest):
        """Starts a recorder and does not wait for it."""
        self.words[Word.RECORDER_READY] = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ledger.recorder", str(self.path)],
            cwd=REPOSITORY, stderr=subprocess.PIPE, **rest,
        )  # fmt: skip
        return self.process

    def start(self):
        """Starts a recorder and waits until it answers."""
        process = self.spawn()
        until(lambda: self.words[Word.RECORDER_READY] or process.poll() is not None)
        assert process.poll() is None, process.stderr.read()
        return self

    def stop(self, number=signal.SIGTERM):
        """Ends the recorder; returns (exit code, what it said, seconds it took)."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, said.decode(), time.monotonic() - began

    def worker(self, index=0):
        folder = self.deployment.ring_folder
        return Worker(
            Ring(folder / f"events-{index}.ring", EVENT_DTYPE),
            Ring(folder / f"credits-{index}.ring", CREDIT_DTYPE),
            index,
        )

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.deployment.notice_port, timeout=WAIT_S)

    def get(self, path, method="GET", token=None):
        """(status, headers, body) of one request on a connection of its own."""
        token = self.deployment.ledger_token if token is None else token
        connection = self.connect()
        try:
            connection.request(method, path, headers={"authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def ledger(self):
        status, _, body = self.get("/ledger")
        assert status == 200
        return msgspec.json.decode(body, type=LedgerView)

    def spent(self, budget_id=1):
        view = next(view for view in self.ledger().budgets if view.budget_id == budget_id)
        return view.spent_on_time_micros, view.spent_late_micros

    def path_of(self, kind, number, query="", **bid):
        """The URL path of a notice as the worker would have signed it."""
        token = token_of(bid_event(number, **bid))
        return notice_path(kind, *sign(self.key, token)) + query

    def say(self, kind, number, query="", **bid):
        return self.get(self.path_of(kind, number, query, **bid))[0]

    def bill(self, number, price, **bid):
        return self.say(EventKind.BILLING, number, f"?p={price / 1000}", **bid)
