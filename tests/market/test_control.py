"""The control block, shared by two real processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from market.control import (
    LINE_ITEM_ROWS_MAX,
    WORKER_WORDS,
    WORKERS_MAX,
    ControlBlock,
    Word,
    WorkerWord,
    new_live_arrays,
)
from market.errors import Corrupt

# Runs each line it is sent, and answers with what the line was worth.
OTHER_PROCESS = """
import sys
from pathlib import Path
from market.control import ControlBlock, Word
block = ControlBlock(Path(sys.argv[1]))
now = block.clock(lambda: -1)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.bin"


@pytest.fixture
def ask(path):
    """A function that has another process, which maps the same block, evaluate an expression."""
    ControlBlock.create(path)
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def asked(expression):
            process.stdin.write(f"{expression}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        yield asked
        process.stdin.close()
        assert process.wait(30) == 0


def test_words_are_shared_by_two_processes(path, ask):
    block = ControlBlock(path)
    block.words[Word.STOP] = 1
    block.words[Word.CLOCK_STEP] = -(2**63)
    assert ask("block.words[Word.STOP], block.words[Word.CLOCK_STEP]") == f"(1, {-(2**63)})"
    ask("block.words.__setitem__(Word.CONTROLLER_STEP, 2**63 - 1)")
    assert block.words[Word.CONTROLLER_STEP] == 2**63 - 1


def test_live_arrays_are_shared_by_two_processes(path, ask):
    block = ControlBlock(path)
    last = LINE_ITEM_ROWS_MAX - 1
    block.live.pacing_lambda[last] = 2.5
    block.live.is_active[0] = 1
    assert ask(f"float(block.live.pacing_lambda[{last}])") == "2.5"
    assert ask("block.live.is_active[:2].tolist()") == "[1, 0]"
    ask(f"block.live.shading_factor.__setitem__({last}, 0.25)")
    assert block.live.shading_factor[last] == 0.25


def test_a_worker_s_words_are_its_own_and_seen_by_the_others(path, ask):
    block = ControlBlock(path)
    ask(f"block.worker({WORKERS_MAX - 1}).__setitem__({int(WorkerWord.BID_COUNT)}, 5)")
    for index in range(WORKERS_MAX):
        words = block.worker(index).tolist()
        assert len(words) == WORKER_WORDS
        assert sum(words) == (5 if index == WORKERS_MAX - 1 else 0)


def test_the_clock_is_the_wall_s_until_an_exchange_drives_an_episode(path, ask):
    block = ControlBlock(path)
    now_ms = block.clock(lambda: 1_700_000_000_000)
    assert now_ms() == 1_700_000_000_000
    assert ask("now()") == "-1"
    block.words[Word.CLOCK_MS] = 5_000
    assert now_ms() == 5_000
    assert ask("now()") == "5000"


def test_a_new_block_bids_values_for_nobody(path):
    block = ControlBlock.create(path)
    for name, found, start in zip(block.live._fields, block.live, new_live_arrays(), strict=True):
        assert found.dtype == start.dtype, name
        assert (found == start).all(), name
    assert block.live.pacing_lambda.min() == block.live.shading_factor.min() == 1.0
    assert not block.live.ratio_mu.any()
    assert not block.live.is_active.any()
    assert not any(block.words[1:])


def test_no_two_arrays_overlap_and_none_leaves_the_block(path):
    block = ControlBlock.create(path)
    for place, array in enumerate(block.live, 2):
        array[:] = place
    for index in range(WORKERS_MAX):
        for word in range(WORKER_WORDS):
            block.worker(index)[word] = index
    again = ControlBlock(path)
    for place, array in enumerate(again.live, 2):
        assert array.shape == (LINE_ITEM_ROWS_MAX,)
        assert (array == place).all()
    assert [set(again.worker(index)) for index in range(WORKERS_MAX)] == [
        {index} for index in range(WORKERS_MAX)
    ]
    assert len(Word) <= len(again.words)
    assert not any(again.words[1:])
    assert path.stat().st_size == ControlBlock.BYTE_COUNT


def test_live_arrays_begin_at_whole_words(path):
    """So that the store of a float64 is one store, which no reader sees half done."""
    for array in ControlBlock.create(path).live:
        assert array.ctypes.data % 8 == 0


def test_creating_a_block_again_starts_from_nothing(path):
    old = ControlBlock.create(path)
    old.words[Word.STOP] = 1
    new = ControlBlock.create(path)
    assert new.words[Word.STOP] == 0
    new.words[Word.CLOCK_STEP] = 3
    assert old.words[Word.CLOCK_STEP] == 0, "whoever still maps the old file is left alone"


@pytest.mark.parametrize("index", [-1, WORKERS_MAX])
def test_there_is_no_worker_beyond_the_last(path, index):
    with pytest.raises(AssertionError):
        ControlBlock.create(path).worker(index)


def test_a_missing_block_is_corrupt_and_says_what_to_do(path):
    with pytest.raises(Corrupt, match=r"control block control\.bin: .*start `lodestone serve`"):
        ControlBlock(path)


@pytest.mark.parametrize("change", [-1, -8, 1, 8])
def test_a_block_of_another_size_is_corrupt(path, change):
    path.write_bytes(bytes(ControlBlock.BYTE_COUNT + change))
    with pytest.raises(Corrupt, match=f"{ControlBlock.BYTE_COUNT + change} bytes, must be"):
        ControlBlock(path)


def test_an_empty_block_is_corrupt(path):
    path.touch()
    with pytest.raises(Corrupt, match=r"control block control\.bin: "):
        ControlBlock(path)


def test_a_file_that_is_no_control_block_is_corrupt(path):
    path.write_bytes(bytes(ControlBlock.BYTE_COUNT))
    with pytest.raises(Corrupt, match="wrong magic"):
        ControlBlock(path)


def test_words_have_places_of_their_own():
    assert len({int(word) for word in Word}) == len(Word)
    assert max(WorkerWord) < WORKER_WORDS
