"""The controller's process, with this test as its control plane, recorder and workers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import numpy as np
import pytest

from campaigns.supervisor import new_deployment
from market.campaign import Status
from market.control import ControlBlock, Word, WorkerWord
from market.deployment import write_deployment
from market.errors import NotReady
from market.intent import write_intent
from market.snapshot import read_snapshot, snapshot_path
from policies.controller import SNAPSHOTS_KEPT, Controller, fetch_view
from tests.engines import REPOSITORY, until
from tests.policies.intents import MIDNIGHT_MS, campaign, intent, view

PAUSE_S_MAX = 1.0


class Ledger:
    """A recorder that only shows a view: all of it that the controller can see.

    ``answers``: 200, another status, or None to keep the connection waiting.
    """

    def __init__(self, port):
        self.answers = 200
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if outer.answers is None:
                    outer.released.wait(30)
                body = msgspec.json.encode(view())
                with contextlib.suppress(OSError):
                    self.send_response(outer.answers or 503)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True

        self.server = Server(("127.0.0.1", port), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Place:
    """A run folder with a control block, a ledger, and at most one controller process."""

    def __init__(self, folder, **given):
        self.deployment = new_deployment(folder, worker_count=1, **{"tick_ms": 3_600_000, **given})
        for made in (self.deployment.snapshot_folder, self.deployment.log_folder):
            made.mkdir(parents=True)
        self.block = ControlBlock.create(self.deployment.control_path)
        self.words = self.block.words
        self.path = write_deployment(self.deployment)
        self.ledger = Ledger(self.deployment.notice_port)
        self.errors = self.deployment.log_folder / "controller.log"
        self.process = None
        self.version = 0
        self.controller = None

    def here(self):
        """The controller in this process, at a time that stands still."""
        self.controller = Controller(self.deployment, lambda: MIDNIGHT_MS)
        return self.controller

    def want(self, *campaigns):
        self.version += 1
        write_intent(self.deployment.intent_folder, intent(*campaigns, version=self.version))

    def start(self):
        with self.errors.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "policies.controller", str(self.path)],
                cwd=REPOSITORY, stdout=file, stderr=file,
            )  # fmt: skip
        return self

    def published(self, version):
        """Waits for a snapshot version; returns it as a worker reads it."""

        def is_out():
            assert self.process.poll() is None, self.said()
            return self.words[Word.SNAPSHOT_VERSION] >= version

        until(is_out)
        found = self.words[Word.SNAPSHOT_VERSION]
        return read_snapshot(snapshot_path(self.deployment.snapshot_folder, found))

    def said(self):
        return self.errors.read_text()

    def files(self):
        return sorted(
            int(path.stem.split("-")[1]) for path in self.deployment.snapshot_folder.glob("*.bin")
        )

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.controller is not None:
            self.controller.close()
        self.ledger.close()


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path / "run")
    yield made
    made.close()


def paused(a_campaign):
    return msgspec.structs.replace(a_campaign, status=Status.PAUSED)


def test_it_publishes_a_first_snapshot_and_leaves_on_a_signal(place):
    place.want(campaign())
    place.start()
    snapshot = place.published(1)
    assert snapshot.head.version == snapshot.head.intent_version == 1
    assert place.words[Word.CONTROLLER_READY] == 1
    assert place.words[Word.INTENT_VERSION] == 1
    assert place.block.live.is_active[0] == 1
    records = (place.deployment.root / "policy.jsonl").read_text().splitlines()
    assert msgspec.json.decode(records[0])["reason"]
    place.process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    assert place.process.wait(10) == 0
    assert time.monotonic() - begun < 2
    assert place.said() == ""


def test_without_any_campaign_there_is_a_snapshot_too(place):
    place.start()
    snapshot = place.published(1)
    assert not snapshot.arrays.line_items["is_used"].any()
    place.words[Word.STOP] = 1
    assert place.process.wait(10) == 0


def test_a_pause_stops_bids_within_a_second_and_a_ledger_that_hangs_does_not_hold_it_up(place):
    one, two = campaign(1), campaign(2)
    place.want(one, two)
    place.start().published(1)
    live = place.block.live
    assert live.is_active[:2].tolist() == [1, 1]
    place.want(paused(one), two)
    begun = time.monotonic()
    until(lambda: live.is_active[0] == 0)
    assert time.monotonic() - begun < PAUSE_S_MAX
    place.published(2)

    # The ledger hangs: the first change is written and waits for it, the second comes meanwhile.
    place.ledger.answers = None
    epoch = place.words[Word.LIVE_EPOCH]
    place.want(one, two)
    until(lambda: live.is_active[0] == 1)
    # Workers are told at once: until then none would look for what was switched on.
    until(lambda: place.words[Word.LIVE_EPOCH] > epoch)
    place.want(one, paused(two))
    begun = time.monotonic()
    until(lambda: live.is_active[1] == 0)
    assert time.monotonic() - begun < PAUSE_S_MAX


def test_a_recorder_that_is_away_is_one_line_and_the_old_snapshot_stays(place):
    place.want(campaign())
    place.start().published(1)
    place.ledger.answers = 503
    place.want(campaign(), campaign(2))
    until(place.said)
    begun = time.monotonic()
    # A few more rounds: no second line, no new snapshot.
    until(lambda: time.monotonic() > begun + 0.5)
    (line,) = place.said().splitlines()
    assert line.startswith(f"controller: recorder at port {place.deployment.notice_port}: ")
    assert place.words[Word.SNAPSHOT_VERSION] == 1
    assert place.files() == [1]
    assert place.block.live.is_active[0] == 1
    place.ledger.answers = 200
    assert place.published(2).head.intent_version == 2


def test_a_corrupt_last_snapshot_is_one_line_that_names_it_and_a_new_one_is_made(place):
    place.want(campaign(1), campaign(2))
    place.start().published(1)
    place.want(campaign(2))
    snapshot = place.published(2)
    row = int(np.flatnonzero(snapshot.arrays.line_items["line_item_id"] == 20)[0])
    assert row == 1
    place.process.kill()
    place.process.wait()
    last = snapshot_path(place.deployment.snapshot_folder, 2)
    last.write_bytes(last.read_bytes()[:-3] + b"xyz")
    place.words[Word.SNAPSHOT_VERSION] = 0
    place.start()
    snapshot = place.published(3)
    (line,) = place.said().splitlines()
    assert last.name in line
    assert snapshot.head.version == 3, "a version is never used twice"
    found = snapshot.arrays.line_items
    assert found["line_item_id"][row] == 20, "rows are those of the newest file that can be read"


def test_old_snapshots_are_deleted_only_when_no_live_worker_serves_them(place):
    row = place.block.worker(0)
    row[WorkerWord.PID], row[WorkerWord.SNAPSHOT_VERSION] = os.getpid(), 1
    controller = place.here()
    for number in range(1, 8):
        place.want(*[campaign(n + 1) for n in range(number)])
        assert controller.run_once()
    assert place.files() == [1, 2, 3, 4, 5, 6, 7]
    row[WorkerWord.SNAPSHOT_VERSION] = 6
    place.want(campaign(1))
    assert controller.run_once()
    assert place.files() == list(range(8 - SNAPSHOTS_KEPT, 9))
    # A worker that is just starting serves none yet, and may still read the current one.
    row[WorkerWord.SNAPSHOT_VERSION] = 0
    place.want(campaign(2))
    assert controller.run_once()
    assert place.files()[-1] == 9


def test_nothing_is_written_when_nothing_is_due(place):
    place.want(campaign(1))
    controller = place.here()
    assert controller.run_once()
    assert not controller.run_once()
    assert place.files() == [1]


def test_in_an_episode_it_acts_at_clock_steps_after_the_recorder(tmp_path):
    place = Place(tmp_path / "run", is_episode=True)
    try:
        place.want(campaign(1))
        controller = place.here()
        assert not controller.run_once()
        place.words[Word.CLOCK_MS] = MIDNIGHT_MS
        place.words[Word.CLOCK_STEP] = 1
        assert not controller.run_once()
        place.words[Word.RECORDER_STEP] = 1
        assert controller.run_once()
        assert (place.words[Word.CONTROLLER_STEP], place.files()) == (1, [1])
        # A step in which nothing is due is acknowledged all the same.
        place.words[Word.CLOCK_STEP] = place.words[Word.RECORDER_STEP] = 2
        assert controller.run_once()
        assert (place.words[Word.CONTROLLER_STEP], place.files()) == (2, [1])
    finally:
        place.close()


def test_an_intent_that_cannot_be_read_ends_it_with_code_2_and_one_line(place):
    place.want(campaign(1))
    (place.deployment.intent_folder / "current").write_text("soon")
    place.start()
    assert place.process.wait(30) == 2
    (line,) = place.said().splitlines()
    assert line.startswith("controller: intent current: holds b'soon'")


def test_a_recorder_that_speaks_no_http_is_not_ready(place):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        deployment = msgspec.structs.replace(
            place.deployment, notice_port=listener.getsockname()[1]
        )

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"who are you?\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(NotReady, match=f"recorder at port {deployment.notice_port}"):
            fetch_view(deployment)
        thread.join()
