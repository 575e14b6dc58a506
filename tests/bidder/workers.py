"""A real bid worker process, with this test as its supervisor, controller and recorder."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time

import numpy as np

from bidder.caps import create_cap_file
from bidder.metrics import create_metrics_file
from ledger.ring import Ring
from market.control import ControlBlock, Word, WorkerWord
from market.deployment import Deployment, write_deployment
from market.events import EVENT_DTYPE
from market.snapshot import snapshot_path, write_snapshot
from market.state import CREDIT_DTYPE
from tests.bidder.services import catalogue_snapshot, funds_of
from tests.ledger.recorders import REPOSITORY, WAIT_S, free_port, until
from tests.pages import samples_of


class WorkerPlace:
    """A run folder and the worker processes in it; most tests have one, worker 0."""

    def __init__(self, folder, *, events_capacity=4_096, workers=1, bid_port=0, **deployment):
        self.deployment = Deployment(
            folder=str(folder), bid_port=bid_port or free_port(), notice_port=1, control_port=2,
            base_url="http://127.0.0.1:1", notice_key_hex="11" * 32, user_salt_hex="22" * 16,
            worker_count=workers, **deployment,
        )  # fmt: skip
        for made in (
            self.deployment.log_folder, self.deployment.ring_folder,
            self.deployment.snapshot_folder,
        ):  # fmt: skip
            made.mkdir(parents=True)
        self.control = ControlBlock.create(self.deployment.control_path)
        rings = self.deployment.ring_folder
        self.all_events = [
            Ring.create(rings / f"events-{n}.ring", EVENT_DTYPE, events_capacity)
            for n in range(workers)
        ]
        self.all_credits = [
            Ring.create(rings / f"credits-{n}.ring", CREDIT_DTYPE, 4_096) for n in range(workers)
        ]
        self.events, self.credits = self.all_events[0], self.all_credits[0]
        create_cap_file(rings / "caps.bin", workers)
        create_metrics_file(self.deployment.metrics_path, self.deployment)
        self.rows = [self.control.worker(n) for n in range(workers)]
        self.row = self.rows[0]
        self.version = 0
        self.path = write_deployment(self.deployment)
        self.processes = [self.spawn(n) for n in range(workers)]

    @property
    def process(self):
        return self.processes[0]

    def spawn(self, worker):
        with self._log_path(worker).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "bidder.worker", str(self.path), str(worker)],
                cwd=REPOSITORY, stderr=log,
            )  # fmt: skip

    def _log_path(self, worker):
        return self.deployment.log_folder / f"worker-{worker}.log"

    def log(self, worker=0):
        """What a worker has said so far."""
        return self._log_path(worker).read_text()

    def said(self, worker=0):
        """The events in a worker's log: [(event, process or "")]."""
        lines = [json.loads(line) for line in self.log(worker).splitlines()]
        return [(line["event"], line.get("process", "")) for line in lines]

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
            for credits_ring in self.all_credits:
                assert credits_ring.push(funds_of(snapshot))
        self.control.words[Word.SNAPSHOT_VERSION] = self.version
        return path

    def start(self, snapshot=None):
        """Publishes the first snapshot and waits until every worker serves it."""
        self.publish(snapshot)
        for row, process in zip(self.rows, self.processes, strict=True):
            until(lambda: row[WorkerWord.IS_READY] or process.poll() is not None, 120)  # noqa: B023
            assert process.poll() is None, self.log()
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
        """The events of all workers."""
        taken = [ring.drain(100_000) for ring in self.all_events if ring.pending_count()]
        return np.concatenate(taken) if taken else np.zeros(0, EVENT_DTYPE)

    def metrics(self):
        """The samples of ``GET /metrics``, see ``tests.pages``; up to a second old."""
        status, body = self.ask("GET", "/metrics")
        assert status == 200
        return samples_of(body.decode())

    def stop(self, number=signal.SIGTERM):
        """Ends worker 0 (others are killed); returns (exit code, its log, seconds it took)."""
        for other in self.processes[1:]:
            other.kill()
            other.wait()
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(timeout=WAIT_S)
        return self.process.returncode, self.log(), time.monotonic() - began
