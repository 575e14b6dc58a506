"""A real bid worker process, with this test as its supervisor, controller and recorder."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import time

import numpy as np

from bidder.caps import create_cap_file
from ledger.ring import Ring
from market.control import ControlBlock, Word, WorkerWord
from market.deployment import Deployment, write_deployment
from market.events import EVENT_DTYPE
from market.snapshot import snapshot_path, write_snapshot
from market.state import CREDIT_DTYPE
from tests.bidder.services import catalogue_snapshot, funds_of
from tests.ledger.recorders import REPOSITORY, WAIT_S, free_port, until


class WorkerPlace:
    """A run folder and the one worker process in it."""

    def __init__(self, folder, *, events_capacity=4_096):
        self.deployment = Deployment(
            folder=str(folder), bid_port=free_port(), notice_port=1, control_port=2,
            base_url="http://127.0.0.1:1", notice_key_hex="11" * 32, user_salt_hex="22" * 16,
        )  # fmt: skip
        for made in (
            self.deployment.log_folder, self.deployment.ring_folder,
            self.deployment.snapshot_folder,
        ):  # fmt: skip
            made.mkdir(parents=True)
        self.control = ControlBlock.create(self.deployment.control_path)
        rings = self.deployment.ring_folder
        self.events = Ring.create(rings / "events-0.ring", EVENT_DTYPE, events_capacity)
        self.credits = Ring.create(rings / "credits-0.ring", CREDIT_DTYPE, 4_096)
        create_cap_file(rings / "caps.bin", 1)
        self.row = self.control.worker(0)
        self.version = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bidder.worker", str(write_deployment(self.deployment)), "0"],
            cwd=REPOSITORY, stderr=subprocess.PIPE,
        )  # fmt: skip

    def publish(self, snapshot=None, *, body=None):
        """What the controller does: a new snapshot (or these bytes), then its version."""
        self.version += 1
        path = snapshot_path(self.deployment.snapshot_folder, self.version)
        if body is not None:
            path.write_bytes(body)
        else:
            now_ms = time.time_ns() // 1_000_000
            snapshot = snapshot or catalogue_snapshot(version=self.version, now_ms=now_ms)
            write_snapshot(path, snapshot)
            self.control.live.is_active[:] = 1
            assert self.credits.push(funds_of(snapshot))
        self.control.words[Word.SNAPSHOT_VERSION] = self.version
        return path

    def start(self):
        """Publishes the first snapshot and waits until the worker serves it."""
        self.publish()
        until(lambda: self.row[WorkerWord.IS_READY] or self.process.poll() is not None, 120)
        assert self.process.poll() is None, self.process.stderr.read()
        return self

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.deployment.bid_port, timeout=WAIT_S)

    def ask(self, method, path, body=None, connection=None):
        """(status, body) of one request."""
        own = connection or self.connect()
        own.request(method, path, body)
        answer = own.getresponse()
        found = answer.status, answer.read()
        if connection is None:
            own.close()
        return found

    def is_listening(self):
        try:
            return self.ask("GET", "/live")[0] == 200
        except OSError:
            return False

    def drain(self):
        return (
            self.events.drain(100_000) if self.events.pending_count() else np.zeros(0, EVENT_DTYPE)
        )

    def stop(self, number=signal.SIGTERM):
        """Ends the worker; returns (exit code, what it said, seconds it took)."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, said.decode(), time.monotonic() - began
