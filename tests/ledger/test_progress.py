"""What is told of those who follow the log."""

from __future__ import annotations

import pytest
from prometheus_client.exposition import generate_latest

from ledger.progress import LogProgress, families
from market.control import ControlBlock, FollowedWords, Word
from tests.pages import sample, samples_of

SECOND_NS = 1_000_000_000


class _Page:
    def __init__(self, words, now_ns):
        self._words, self._now_ns = words, now_ns

    def collect(self):
        return families(self._words, self._now_ns)


def page_of(words, now_ns=10 * SECOND_NS):
    return samples_of(generate_latest(_Page(words, now_ns)).decode())


@pytest.fixture
def path(tmp_path):
    ControlBlock.create(tmp_path / "control.bin")
    return tmp_path / "control.bin"


def test_of_processes_that_never_ran_nothing_is_told(path):
    assert page_of(ControlBlock(path).words) == {}


def test_a_process_tells_how_far_it_is_and_since_when_it_has_not_had_all(path):
    words = ControlBlock(path).words
    now_ns = 3 * SECOND_NS
    store = LogProgress(
        words, Word.STORE_SEQUENCE, Word.STORE_CAUGHT_UP_NS, lambda: now_ns, Word.STORE_ROWS
    )
    words[Word.DURABLE_SEQUENCE] = 5
    store.moved(5, 400)
    words[Word.DURABLE_SEQUENCE] = 9
    now_ns = 4 * SECOND_NS
    store.moved(7, 100)
    page = page_of(words)
    own = {"process": "store"}
    assert page[sample("lodestone_log_frames_read_total", **own)] == 7
    assert page[sample("lodestone_log_frames_behind", **own)] == 2
    assert page[sample("lodestone_log_behind_seconds", **own)] == 7
    assert page[sample("lodestone_rows_loaded_total", **own)] == 500
    assert not any("shipper" in str(key) or "kafka" in str(key) for key in page)
    now_ns = 9 * SECOND_NS
    store.moved(9)
    page = page_of(words)
    assert page[sample("lodestone_log_frames_behind", **own)] == 0
    assert page[sample("lodestone_log_behind_seconds", **own)] == 1


def test_who_follows_a_log_that_never_rests_is_no_later_than_its_batches(path):
    words = ControlBlock(path).words
    now_ns = SECOND_NS
    store = LogProgress(words, Word.STORE_SEQUENCE, Word.STORE_CAUGHT_UP_NS, lambda: now_ns)
    own = sample("lodestone_log_behind_seconds", process="store")
    for second in range(2, 60):
        # While a batch is inserted there is always one more.
        now_ns = second * SECOND_NS
        words[Word.DURABLE_SEQUENCE] = second
        store.moved(second - 1)
    assert page_of(words, now_ns)[own] == 1
    for second in range(60, 70):
        # Now they come faster than they are done.
        now_ns = second * SECOND_NS
        words[Word.DURABLE_SEQUENCE] += 100
        store.moved(second)
    assert page_of(words, now_ns)[own] >= 9


def test_words_are_set_in_the_block_of_the_engine_that_runs_now(path):
    words = FollowedWords(path)
    words[Word.SHIPPER_SEQUENCE] = 3
    old = ControlBlock(path)
    path.unlink()
    ControlBlock.create(path)
    words[Word.SHIPPER_SEQUENCE] = 4
    assert (old.words[Word.SHIPPER_SEQUENCE], words[Word.SHIPPER_SEQUENCE]) == (3, 4)
    assert ControlBlock(path).words[Word.SHIPPER_SEQUENCE] == 4
