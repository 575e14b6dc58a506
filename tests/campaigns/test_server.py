from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest

from market.control import ControlBlock, Word
from market.deployment import write_deployment
from market.intent import intent_version, read_intent
from tests.campaigns.conftest import free_port, until

LEAVE_S_MAX = 2.0


@contextmanager
def process_of(deployment):
    """The real process, its output in one file; killed at the end if it still runs."""
    path = write_deployment(deployment)
    log = deployment.root / "log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "campaigns.server", str(path)], stdout=file, stderr=file
        )
    try:
        yield process, log
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def answers(deployment):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", deployment.control_port)) == 0


def started(process, log, deployment):
    def is_up():
        assert process.poll() is None, log.read_text()
        return answers(deployment)

    until(is_up, 60)


def client_of(deployment):
    key = deployment.api_key_path.read_text().strip()
    return httpx.Client(
        base_url=f"http://127.0.0.1:{deployment.control_port}", trust_env=False,
        headers={"Authorization": f"Bearer {key}"},
    )  # fmt: skip


def test_the_process_serves_restarts_and_leaves_with_nothing_secret_in_its_output(deployment, body):
    block = ControlBlock(deployment.control_path)
    outputs = []
    for leave in (signal.SIGTERM, signal.SIGINT, None):
        with process_of(deployment) as (process, log):
            started(process, log, deployment)
            # The port answers only once the key and the intent are there.
            assert deployment.api_key_path.stat().st_mode & 0o777 == 0o600
            key = deployment.api_key_path.read_text().strip()
            with client_of(deployment) as client:
                before = client.get("/api/v1/campaigns").json()["campaigns"]
                created = client.post("/api/v1/campaigns", json=body)
                assert created.status_code == 201
                intent = read_intent(deployment.intent_folder)
                assert len(intent.campaigns) == len(before) + 1
                assert client.get(f"/api/v1/campaigns?x={key}").status_code == 200
                client.get("/nothing", headers={"Authorization": f"Bearer {key}x"})
                begun = time.monotonic()
                # The client's connection stays open: leaving does not wait for it.
                if leave is None:
                    block.words[Word.STOP] = 1
                else:
                    process.send_signal(leave)
                assert process.wait(10) == 0
                assert time.monotonic() - begun < LEAVE_S_MAX
            outputs.append((key, log.read_text()))
    assert len({key for key, _ in outputs}) == 1, "a restart keeps the key"
    for key, output in outputs:
        assert key.partition(".")[2] not in output


def test_a_kill_between_commit_and_publication_is_healed_by_the_next_start(deployment, body):
    with process_of(deployment) as (process, log):
        started(process, log, deployment)
        with client_of(deployment) as client:
            client.post("/api/v1/campaigns", json=body).raise_for_status()
        process.kill()
        process.wait()
    # What the process would have left had it died before it wrote the files.
    for path in deployment.intent_folder.iterdir():
        path.unlink()
    assert intent_version(deployment.intent_folder) == 0
    with process_of(deployment) as (process, log):
        started(process, log, deployment)
        assert intent_version(deployment.intent_folder) == 2
        assert read_intent(deployment.intent_folder).campaigns[0].name == body["name"]


@pytest.mark.parametrize("damage", ["deployment", "control block", "database", "port"])
def test_what_cannot_start_leaves_with_2_and_one_line(deployment, damage):
    taken = socket.socket()
    taken.bind(("127.0.0.1", deployment.control_port if damage == "port" else free_port()))
    taken.listen()
    match damage:
        case "control block":
            deployment.control_path.write_bytes(b"x")
        case "database":
            deployment.database_path.write_bytes(b"no database at all, only words" * 40)
    path = write_deployment(deployment)
    if damage == "deployment":
        path.write_text("{")
    done = subprocess.run(
        [sys.executable, "-m", "campaigns.server", str(path)],
        capture_output=True, timeout=60, text=True, check=False,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )  # fmt: skip
    taken.close()
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
