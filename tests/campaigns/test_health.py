from __future__ import annotations

import os
import subprocess
import sys

import pytest

from campaigns.health import EngineWatch
from market.control import ControlBlock, Word, WorkerWord
from market.errors import Corrupt


@pytest.fixture
def block(tmp_path):
    return ControlBlock.create(tmp_path / "control.bin")


def test_a_new_engine_has_nothing_ready_and_no_workers(block, tmp_path):
    health = EngineWatch(tmp_path / "control.bin").health(3)
    assert (health.recorder_is_ready, health.controller_is_ready) == (False, False)
    assert (health.snapshot_version, health.intent_version_in_force) == (0, 0)
    assert health.intent_version_published == 3
    assert health.workers == ()


def test_what_processes_write_is_what_is_shown(block, tmp_path):
    block.words[Word.RECORDER_READY] = 1
    block.words[Word.CONTROLLER_READY] = 1
    block.words[Word.SNAPSHOT_VERSION] = 5
    block.words[Word.INTENT_VERSION] = 4
    block.words[Word.CLOCK_MS] = 1_700_000_000_000
    row = block.worker(2)
    written = {
        WorkerWord.PID: os.getpid(), WorkerWord.SNAPSHOT_VERSION: 5, WorkerWord.IS_READY: 1,
        WorkerWord.REQUEST_COUNT: 100, WorkerWord.BID_COUNT: 40, WorkerWord.CPU_NS: 7_000,
        WorkerWord.SNAPSHOTS_REFUSED: 1, WorkerWord.RECORDER_BEHIND_COUNT: 2,
        WorkerWord.MALFORMED_COUNT: 3,
    }  # fmt: skip
    for word, value in written.items():
        row[word] = value
    watch = EngineWatch(tmp_path / "control.bin")
    health = watch.health(4)
    assert (health.recorder_is_ready, health.controller_is_ready) == (True, True)
    assert (health.snapshot_version, health.intent_version_in_force) == (5, 4)
    assert health.clock_ms == 1_700_000_000_000
    (worker,) = health.workers
    assert worker.index == 2
    assert worker.is_alive
    assert worker.is_ready
    assert (worker.request_count, worker.bid_count, worker.cpu_ns) == (100, 40, 7_000)
    assert (worker.snapshots_refused, worker.malformed_count) == (1, 3)
    assert worker.recorder_behind_count == 2
    assert watch.clock(lambda: 1)() == 1_700_000_000_000


def test_a_worker_that_died_is_not_alive_whatever_it_wrote(block, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    block.worker(0)[WorkerWord.PID] = process.pid
    block.worker(0)[WorkerWord.IS_READY] = 1
    process.wait()
    (worker,) = EngineWatch(tmp_path / "control.bin").health(1).workers
    assert worker.is_ready
    assert not worker.is_alive


def test_the_stop_word_is_seen(block, tmp_path):
    watch = EngineWatch(tmp_path / "control.bin")
    assert not watch.is_stopping
    block.words[Word.STOP] = 1
    assert watch.is_stopping


def test_without_a_control_block_there_is_nothing_to_watch(tmp_path):
    with pytest.raises(Corrupt):
        EngineWatch(tmp_path / "control.bin")
