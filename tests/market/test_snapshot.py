"""The snapshot file: whole or refused, whatever happens to its bytes or to its writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from market import snapshot as module
from market.errors import Corrupt
from market.opportunity import CodeList, Dimension
from market.snapshot import (
    AREA_DTYPE,
    BUDGET_DTYPE,
    CAP_DTYPE,
    CREATIVE_DTYPE,
    INDEX_SLOT_DTYPE,
    LANDSCAPE_DTYPE,
    LAYOUT_VERSION,
    LINE_ITEM_DTYPE,
    CreativeText,
    Snapshot,
    SnapshotArrays,
    SnapshotHead,
    Table,
    read_snapshot,
    snapshot_path,
    write_snapshot,
)

LAYOUT_AT = 8
SEED = 3


def snapshot(version=7, rows=2, rng=None):
    """A snapshot whose every array holds something, each of another shape."""
    rng = rng or np.random.Generator(np.random.PCG64(SEED))

    def records(dtype, count):
        return np.frombuffer(rng.bytes(dtype.itemsize * count), np.uint8).view(dtype)

    return Snapshot(
        SnapshotHead(
            version=version,
            model_version=2,
            policy_version=3,
            intent_version=4,
            created_at_ms=5,
            seed=6,
            creatives=(
                CreativeText(("<img>",), "https://a.example", "a.example", "IAB1", "de", ""),
            ),
            seats={2**64 - 1: "seat"},
        ),
        SnapshotArrays(
            line_items=records(LINE_ITEM_DTYPE, rows),
            creatives=records(CREATIVE_DTYPE, 1),
            budgets=records(BUDGET_DTYPE, 1),
            caps=records(CAP_DTYPE, 0),
            deal_codes=np.zeros(0, np.uint64),
            domain_codes=np.array([2**63], np.uint64),
            areas=records(AREA_DTYPE, 1),
            landscape=records(LANDSCAPE_DTYPE, 1),
            index_slots=records(INDEX_SLOT_DTYPE, 1),
            index_blocks=rng.integers(0, 2**63, (3, 8), np.uint64),
            index_defaults=rng.integers(0, 2**63, (1, 2, 8), np.uint64),
            index_named=np.array([1, 0], np.uint8),
            expression_first=np.array([0, 1], np.int32),
            expression_rows=np.array([0], np.int32),
            currencies=np.array([978], np.uint16),
            rates_micros=np.array([[1_000_000]], np.int64),
            context_vectors=rng.random((2, 2), np.float32),
            context_bias=rng.random((2, 2), np.float32),
            ad_vectors=rng.random((1, 2), np.float32),
            ad_bias=rng.random((1, 2), np.float32),
            calibration=np.array([[1.0, 0.0], [1.0, 0.0]]),
        ),
    )


def same(one, other):
    assert one.head == other.head
    for name, mine, theirs in zip(SnapshotArrays._fields, one.arrays, other.arrays, strict=True):
        assert mine.dtype == theirs.dtype, name
        assert mine.shape == theirs.shape, name
        assert mine.tobytes() == theirs.tobytes(), name


def test_a_snapshot_comes_back_as_it_was_written(tmp_path):
    path = snapshot_path(tmp_path, 7)
    write_snapshot(path, snapshot())
    same(read_snapshot(path), snapshot())
    assert [each.name for each in tmp_path.iterdir()] == ["snapshot-0000000007.bin"]


def test_a_snapshot_without_campaigns_comes_back(tmp_path):
    empty = snapshot()
    arrays = SnapshotArrays(
        *(np.zeros((0, *array.shape[1:]), array.dtype) for array in empty.arrays)
    )
    nothing = Snapshot(msgspec.structs.replace(empty.head, creatives=(), seats={}), arrays)
    write_snapshot(tmp_path / "s.bin", nothing)
    same(read_snapshot(tmp_path / "s.bin"), nothing)


def test_arrays_that_are_not_contiguous_come_back_in_order(tmp_path):
    whole = snapshot()
    turned = np.arange(12, dtype=np.uint64).reshape(4, 3).T[:, ::2]
    turned_snapshot = Snapshot(whole.head, whole.arrays._replace(index_blocks=turned))
    write_snapshot(tmp_path / "s.bin", turned_snapshot)
    assert read_snapshot(tmp_path / "s.bin").arrays.index_blocks.tolist() == turned.tolist()


def test_arrays_come_back_read_only_and_aligned_to_a_cache_line(tmp_path):
    write_snapshot(tmp_path / "s.bin", snapshot())
    for name, array in read_snapshot(tmp_path / "s.bin").arrays._asdict().items():
        assert array.ctypes.data % 64 == 0, name
        assert not array.flags.writeable, name
        assert array.flags.c_contiguous, name


def test_a_flip_of_any_bit_is_refused_and_names_the_file(tmp_path):
    path = tmp_path / "flipped.bin"
    write_snapshot(path, snapshot())
    good = path.read_bytes()
    refusals = []
    with path.open("r+b", buffering=0) as file:
        for at, byte in enumerate(good):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), at)
                try:
                    read_snapshot(path)
                except Corrupt as refused:
                    refusals.append(str(refused))
            os.pwrite(file.fileno(), bytes([byte]), at)
    assert len(refusals) == 8 * len(good)
    assert all(refusal.startswith("snapshot flipped.bin: ") for refusal in refusals)
    same(read_snapshot(path), snapshot())


def test_every_truncation_is_refused_and_names_the_file(tmp_path):
    path = tmp_path / "short.bin"
    write_snapshot(path, snapshot())
    whole = path.stat().st_size
    refusals = []
    for length in reversed(range(whole)):
        os.truncate(path, length)
        try:
            read_snapshot(path)
        except Corrupt as refused:
            refusals.append(str(refused))
    assert len(refusals) == whole
    assert all(refusal.startswith("snapshot short.bin: ") for refusal in refusals)


def test_bytes_after_the_end_are_refused(tmp_path):
    path = tmp_path / "long.bin"
    write_snapshot(path, snapshot())
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(Corrupt, match="length or checksum is wrong"):
        read_snapshot(path)


def test_a_missing_file_is_corrupt_and_says_what_to_do(tmp_path):
    with pytest.raises(Corrupt, match=r"snapshot none\.bin: .*restart the controller"):
        read_snapshot(tmp_path / "none.bin")


@pytest.mark.parametrize("layout", [0, LAYOUT_VERSION + 1])
def test_another_layout_is_refused_by_its_number_even_if_the_file_is_whole(
    tmp_path, monkeypatch, layout
):
    path = tmp_path / "old.bin"
    monkeypatch.setattr(module, "LAYOUT_VERSION", layout)
    write_snapshot(path, snapshot())
    monkeypatch.undo()
    rule = f"layout {layout}; this build reads .* layout {LAYOUT_VERSION}"
    with pytest.raises(Corrupt, match=rule):
        read_snapshot(path)


def test_a_whole_file_whose_head_says_something_else_is_corrupt(tmp_path, monkeypatch):
    """A build that changed the head and forgot the layout version."""
    path = tmp_path / "other.bin"
    monkeypatch.setattr(module, "_Header", lambda head, _: {"chapter": head.version})
    write_snapshot(path, snapshot())
    monkeypatch.undo()
    with pytest.raises(Corrupt, match=r"^snapshot other\.bin: .*missing required field"):
        read_snapshot(path)


WRITER = """
import resource, signal, sys
from pathlib import Path
from market.snapshot import read_snapshot, write_snapshot
path, limit = Path(sys.argv[1]), int(sys.argv[2])
old = read_snapshot(path)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
write_snapshot(path, old)
"""


@pytest.mark.parametrize("limit", [0, 100, 1_000])
def test_a_writer_that_dies_before_the_rename_leaves_the_old_file(tmp_path, limit):
    """The kernel kills the writer in the middle of its write."""
    path = tmp_path / "s.bin"
    write_snapshot(path, snapshot())
    before = path.read_bytes()
    assert len(before) > 1_000
    died = subprocess.run([sys.executable, "-c", WRITER, str(path), str(limit)], check=False)
    assert died.returncode == -signal.SIGXFSZ
    assert path.read_bytes() == before
    same(read_snapshot(path), snapshot())


def test_a_mapped_snapshot_outlives_its_successor(tmp_path):
    """A worker may still read a version whose name was given to a new file."""
    path = tmp_path / "s.bin"
    write_snapshot(path, snapshot())
    old = read_snapshot(path)
    write_snapshot(path, snapshot(version=8, rows=5))
    same(old, snapshot())
    assert read_snapshot(path).head.version == 8


def test_dimensions_and_tables_of_lists_share_one_count_without_meeting():
    assert max(Dimension) < min(Table) <= max(Table) < module.TABLE_COUNT
    rules = {each.name for each in CodeList if each.name.endswith(("_ALLOWED", "_BLOCKED"))}
    for name in {each.name for each in CodeList} - rules - {"TAXONOMY"}:
        assert Table[f"{name}_EXCLUDED"] != Table[name]
