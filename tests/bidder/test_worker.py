"""A bid worker as a process of its own: readiness, snapshots under load, full rings, leaving."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import msgspec
import pytest

from market.control import Word, WorkerWord
from market.events import EventKind
from market.exchange import DEFAULT_EXCHANGES
from tests.bidder.requests import body_of
from tests.bidder.workers import WorkerPlace
from tests.ledger.recorders import REPOSITORY, until

BID = "/bid/twin"


@pytest.fixture
def idle(tmp_path):
    place = WorkerPlace(tmp_path)
    yield place
    place.stop(signal.SIGKILL)


@pytest.fixture
def place(idle):
    return idle.start()


def test_it_is_not_ready_before_the_first_snapshot_and_ready_after_it(idle):
    until(idle.is_listening, 60)
    assert idle.ask("GET", "/ready")[0] == 503
    assert idle.ask("POST", BID, body_of())[0] == 204
    idle.start()
    assert idle.ask("GET", "/ready")[0] == 200
    assert idle.row[WorkerWord.SNAPSHOT_VERSION] == 1
    assert idle.row[WorkerWord.PID] == idle.process.pid


def test_it_answers_bids_over_real_sockets_and_its_events_reach_the_ring(place):
    status, body = place.ask("POST", BID, body_of())
    assert status == 200
    (event,) = place.drain()
    bid = json.loads(body)["seatbid"][0]["bid"][0]
    assert event["kind"] == EventKind.BID
    assert bid["id"] == f"{int(event['bid_hi']):016x}{int(event['bid_lo']):016x}"
    assert place.ask("POST", "/bid/nobody", body_of())[0] == 404
    assert place.ask("POST", BID, b"{") == (400, b"")
    connection = place.connect()
    connection.request("POST", BID, gzip.compress(body_of()), {"content-encoding": "gzip"})
    assert connection.getresponse().status == 200
    connection.close()
    until(lambda: place.row[WorkerWord.MALFORMED_COUNT] == 1)
    assert place.row[WorkerWord.BID_COUNT] == 2


def test_new_snapshots_are_swapped_in_while_requests_flow_and_none_is_dropped(place):
    statuses, versions, is_over = [], set(), threading.Event()

    def flow():
        connection = place.connect()
        while not is_over.is_set():
            statuses.append(place.ask("POST", BID, body_of(), connection)[0])
            versions.update(place.drain()["snapshot_version"].tolist())
        connection.close()

    client = threading.Thread(target=flow)
    client.start()
    try:
        for _ in range(5):
            place.publish()
            until(lambda: place.row[WorkerWord.SNAPSHOT_VERSION] == place.version)
            until(lambda: place.version in versions)
    finally:
        is_over.set()
        client.join()
    assert set(statuses) == {200}
    assert versions >= {2, 3, 4, 5, 6}


def test_a_corrupt_snapshot_is_refused_counted_and_the_old_one_goes_on(place):
    good = place.deployment.snapshot_folder / "snapshot-0000000001.bin"
    broken = bytearray(good.read_bytes())
    broken[len(broken) // 2] ^= 1
    place.publish(body=bytes(broken))
    until(lambda: place.row[WorkerWord.SNAPSHOTS_REFUSED] == 1)
    assert place.ask("POST", BID, body_of())[0] == 200
    assert place.drain()["snapshot_version"].tolist() == [1]
    assert place.row[WorkerWord.SNAPSHOT_VERSION] == 1
    place.publish()
    until(lambda: place.row[WorkerWord.SNAPSHOT_VERSION] == 3)
    assert place.row[WorkerWord.SNAPSHOTS_REFUSED] == 1
    assert "checksum" in place.stop()[1]


def test_a_full_ring_of_events_means_204_until_the_recorder_catches_up(tmp_path):
    place = WorkerPlace(tmp_path, events_capacity=3)
    try:
        place.start()
        found = [place.ask("POST", BID, body_of())[0] for _ in range(5)]
        assert found == [200, 200, 200, 204, 204]
        assert place.drain().shape[0] == 3
        assert place.ask("POST", BID, body_of())[0] == 200
    finally:
        place.stop(signal.SIGKILL)


def test_a_pause_stops_bids_at_the_next_request(place):
    assert place.ask("POST", BID, body_of())[0] == 200
    place.control.live.is_active[:] = 0
    assert place.ask("POST", BID, body_of())[0] == 204


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_two_seconds(place, number):
    connection = place.connect()
    place.ask("POST", BID, body_of(), connection)
    code, said, took_s = place.stop(number)
    assert code == 0
    assert [json.loads(line)["event"] for line in said.splitlines()] == [
        "ready", "snapshot", "leaving",
    ]  # fmt: skip
    assert took_s < 2
    connection.close()


def test_the_stop_word_ends_it(place):
    place.control.words[Word.STOP] = 1
    until(lambda: place.process.poll() is not None, 2)
    assert place.process.returncode == 0


def test_a_running_worker_has_imported_no_framework(place):
    assert place.ask("POST", BID, body_of())[0] == 200
    place.process.send_signal(signal.SIGUSR1)
    written = place.deployment.log_folder / "worker-0.modules"
    until(written.exists)
    modules = {name.split(".")[0] for name in written.read_text().splitlines()}
    assert "bidder" in modules
    frameworks = ("chdb", "pyarrow", "fastapi", "sqlalchemy", "torch", "pydantic", "pandas", "rich")
    assert not modules & set(frameworks)
    with open(f"/proc/{place.process.pid}/maps", encoding="utf-8") as file:  # noqa: PTH123 - /proc
        mapped = file.read()
    assert "uvloop" in mapped
    for library in ("chdb", "libarrow", "libtorch"):
        assert library not in mapped


def test_a_missing_deployment_is_one_line_and_code_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bidder.worker", os.fspath(tmp_path / "none.json"), "0"],
        cwd=REPOSITORY, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.decode().count("\n") == 1


def _left(place):
    """(exit code, the one line) of a worker that does not start."""
    try:
        code = place.process.wait(timeout=60)
    finally:
        place.stop(signal.SIGKILL)
    (line,) = place.log().splitlines()
    return code, line


def test_a_supply_file_that_cannot_be_read_is_one_line_and_code_2(tmp_path):
    folder = tmp_path / "supply"
    (folder / "sellers.json").mkdir(parents=True)
    (folder / "sellers.json" / "exchange.example.json").write_text(
        '{"sellers": [{"seller_id": "1", "seller_type": "NOBODY"}]}'
    )
    code, line = _left(WorkerPlace(tmp_path / "run", supply_folder=os.fspath(folder)))
    assert code == 2
    assert line.startswith("worker 0: sellers.json of exchange.example: /sellers/0/seller_type")
    code, line = _left(WorkerPlace(tmp_path / "other", supply_folder=os.fspath(tmp_path / "none")))
    assert (code, "supply folder none: it is missing" in line) == (2, True)


def test_a_profile_that_breaks_a_rule_is_one_line_and_code_2(tmp_path):
    profile = msgspec.structs.replace(DEFAULT_EXCHANGES[0], currency="XXQ")
    code, line = _left(WorkerPlace(tmp_path, exchanges=(profile,)))
    assert code == 2
    assert line == "worker 0: exchange 'default': currency is XXQ; it must be ISO 4217"


def test_a_port_that_is_taken_is_one_line_and_code_1(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        place = WorkerPlace(tmp_path, bid_port=other.getsockname()[1])
        code, line = _left(place)
    assert code == 1
    assert line.startswith("worker 0: ")
    assert "in use" in line
