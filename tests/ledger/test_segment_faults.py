"""The segment log on full and failing disks, under kills and power cuts, and against a list."""

from __future__ import annotations

import errno
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import ledger
from ledger.segment import (
    CONTROL,
    RECORDS,
    Frame,
    RealDisk,
    Schema,
    SegmentReader,
    SegmentWriter,
    recover,
)
from market.errors import NotReady
from tests.ledger.logs import (
    SCHEMA,
    BreakableDisk,
    FullDisk,
    assert_true_prefix,
    body_of,
    read_all,
    refusal_of,
    replayed,
    write_log,
)


def write_nine_frames(folder, disk):
    """Three commits of three frames over two files; returns how many commits were refused."""
    refusals = 0
    with SegmentWriter(folder, disk, SCHEMA, segment_bytes_max=200) as writer:
        for last in (3, 6, 9):
            for sequence in range(last - 2, last + 1):
                writer.append(CONTROL, body_of(sequence))
            sizes = {path: path.stat().st_size for path in folder.glob("*.seg")}
            if (refusal := refusal_of(writer)) is not None:
                refusals += 1
                assert f"{writer.path}: committing 3 frames" in refusal
                assert "No space left on device" in refusal
                assert writer.durable_sequence == last - 3
                for path in folder.glob("*.seg"):
                    assert path.stat().st_size == sizes.get(path, 0)
                disk.room = sys.maxsize
                assert writer.commit() == last
    return refusals


def test_a_disk_full_at_any_byte_loses_nothing_and_the_next_commit_succeeds(tmp_path):
    def contents_of(folder):
        return {path.name: path.read_bytes() for path in folder.glob("*.seg")}

    assert write_nine_frames(tmp_path / "room", FullDisk(sys.maxsize)) == 0
    contents = contents_of(tmp_path / "room")
    assert len(contents) > 1
    for room in range(sum(map(len, contents.values()))):
        folder = tmp_path / str(room)
        assert write_nine_frames(folder, FullDisk(room)) == 1
        assert contents_of(folder) == contents
        recovery, frames = replayed(folder, expected_sequence=9)
        assert recovery.cut_bytes == 0
        assert_true_prefix(frames)


@pytest.mark.parametrize("keeps_failing", [False, True])
def test_a_disk_that_fails_at_any_call_loses_nothing_acked(tmp_path, keeps_failing):
    for call in range(100):
        disk = BreakableDisk()
        folder = tmp_path / str(call)
        refusals = 0
        with SegmentWriter(folder, disk, SCHEMA, segment_bytes_max=150) as writer:
            disk.calls_until_failure, disk.keeps_failing = call, keeps_failing
            for sequence in range(1, 7):
                writer.append(CONTROL, body_of(sequence))
                if (refusal := refusal_of(writer)) is not None:
                    refusals += 1
                    assert "Input/output error" in refusal
                    assert writer.durable_sequence == sequence - 1
                    disk.calls_until_failure = None
            has_failed = disk.calls_until_failure is None
            disk.calls_until_failure = None
            assert writer.commit() == 6
        recovery, frames = replayed(folder, expected_sequence=6)
        assert recovery.cut_bytes == 0
        assert len(frames) == 6
        assert_true_prefix(frames)
        if not has_failed:
            break
        assert refusals == 1
    assert 12 <= call < 99  # each call has failed once: six commits write and sync at least


def test_a_disk_that_cannot_even_cut_the_torn_part_is_cut_by_the_next_commit(tmp_path):
    disk = BreakableDisk()
    with SegmentWriter(tmp_path, disk, SCHEMA) as writer:
        writer.append(CONTROL, body_of(1))
        writer.commit()
        writer.append(CONTROL, body_of(2))
        disk.calls_until_failure, disk.keeps_failing = 0, True
        for _ in range(2):
            with pytest.raises(NotReady, match="the next commit must cut the torn part first"):
                writer.commit()
        disk.calls_until_failure = None
        writer.append(CONTROL, body_of(3))
        assert writer.commit() == 3
    assert_true_prefix(replayed(tmp_path, expected_sequence=3)[1])


@pytest.mark.parametrize("is_recovered", [False, True])
def test_what_a_killed_writer_left_unsynced_is_synced_before_it_counts(tmp_path, is_recovered):
    disk = BreakableDisk()
    with SegmentWriter(tmp_path, disk, SCHEMA) as writer:
        writer.append(CONTROL, body_of(1))
        disk.calls_until_failure, disk.keeps_failing = 1, True  # written, neither synced nor cut
        with pytest.raises(NotReady, match="Input/output error"):
            writer.commit()
    disk.calls_until_failure = None
    if is_recovered:
        known = recover(tmp_path, disk, SCHEMA).last_sequence
    else:
        with SegmentWriter(tmp_path, disk, SCHEMA) as writer:
            known = writer.durable_sequence
    assert known == 1
    disk.cut_power(lambda _what, _high: 0)
    assert replayed(tmp_path, expected_sequence=known)[0].last_sequence == 1


def test_a_cut_after_a_failed_commit_is_synced_before_the_next_file_repeats_its_frames(tmp_path):
    disk = BreakableDisk()
    with SegmentWriter(tmp_path, disk, SCHEMA, segment_bytes_max=150) as writer:
        writer.append(CONTROL, body_of(1))
        writer.commit()
        writer.append(CONTROL, body_of(2))
        disk.calls_until_failure = 1  # written, not synced
        with pytest.raises(NotReady, match="Input/output error"):
            writer.commit()
        writer.append(CONTROL, bytes(150))
        assert writer.commit() == 3
        assert writer.path.name == "00000002.seg"
    # Of what the first file got after its last sync, the write comes through and the cut does not.
    disk.cut_power(lambda what, high: min(high, 1) if what == "calls on disk" else high)
    assert replayed(tmp_path, expected_sequence=3)[0].last_sequence == 3


def test_a_disk_that_cannot_be_read_is_reported_with_the_file(tmp_path):
    class Unreadable(RealDisk):
        def read(self, descriptor, count, offset):
            raise OSError(errno.EIO, "Input/output error")

    (path,) = write_log(tmp_path)
    with pytest.raises(NotReady, match=f"{path}: reading the segment failed: Input/output"):
        recover(tmp_path, Unreadable(), SCHEMA)
    with pytest.raises(NotReady, match=f"{path}: reading the segment failed: Input/output"):
        SegmentReader(tmp_path, Unreadable(), SCHEMA).read(100)


ROOT = Path(ledger.__file__).parents[1]

WRITE_FOR_EVER = """
import os, struct, sys
from pathlib import Path
from ledger.segment import CONTROL, RECORDS, RealDisk, Schema, SegmentWriter, recover

folder, frame_count = Path(sys.argv[1]), int(sys.argv[2])
schema = Schema(name="trial", version=3, record_bytes=4)
sequence = recover(folder, RealDisk(), schema).last_sequence
with SegmentWriter(folder, RealDisk(), schema, segment_bytes_max=2000) as writer:
    while sequence < frame_count:
        for _ in range(1 + sequence % 4):
            sequence += 1
            writer.append(CONTROL, struct.pack("<I", sequence) * (1 + sequence % 3))
        os.write(1, struct.pack("<Q", writer.commit()))
"""


def start_writer(folder, frame_count):
    return subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, str(folder), str(frame_count)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )


def acks_of(child):
    while ack := child.stdout.read(8):
        yield struct.unpack("<Q", ack)[0]


def test_no_acked_frame_is_lost_when_the_writer_is_killed(tmp_path):
    acked = kills = 0
    for lap in range(24):
        with start_writer(tmp_path, sys.maxsize) as child:
            acks = acks_of(child)
            before = acked
            for _ in range(1 + 13 * lap % 40):
                acked = next(acks)
            child.kill()
            acked = max([acked, *acks])  # what it could still say before it died
            kills += child.wait() == -9
        assert acked > before
        recovery, frames = replayed(tmp_path, expected_sequence=acked)
        assert_true_prefix(frames)
        assert recovery.last_sequence >= acked
        acked = recovery.last_sequence
    assert kills == 24
    assert len(list(tmp_path.glob("*.seg"))) > 3


def test_a_reader_follows_a_live_writer_across_files(tmp_path):
    eager = SegmentReader(tmp_path, RealDisk(), SCHEMA)
    careful = SegmentReader(tmp_path, RealDisk(), SCHEMA)
    seen, durable = [], []
    with start_writer(tmp_path, 2000) as child:
        for ack in acks_of(child):
            seen += read_all(eager)
            assert len(seen) >= ack
            durable += read_all(careful, ack)
            assert len(durable) == ack
        assert child.wait() == 0
    assert len(seen) == len(durable) >= 2000
    assert_true_prefix(seen)
    assert durable == seen
    assert len(list(tmp_path.glob("*.seg"))) > 20


class LogAgainstAList(RuleBasedStateMachine):
    """Any order of appends, commits, disk failures, kills, power cuts, upgrades and reads."""

    def __init__(self):
        super().__init__()
        self.home = tempfile.TemporaryDirectory()
        self.folder = Path(self.home.name) / "log"
        self.disk = BreakableDisk()
        self.version = 1
        self.body_count = 0
        self.acked: list[tuple[int, int, bytes]] = []
        self.waiting: list[tuple[int, int, bytes]] = []
        self.seen: list[Frame] = []
        self.reader = SegmentReader(self.folder, self.disk, Schema("list", 99, 4))
        self.writer: SegmentWriter

    def teardown(self):
        if hasattr(self, "writer"):
            self.writer.close()
        self.home.cleanup()

    @property
    def schema(self):
        return Schema("list", self.version, 4)

    @initialize()
    def open_the_writer(self):
        self.writer = SegmentWriter(self.folder, self.disk, self.schema, segment_bytes_max=250)

    @rule(words=st.integers(1, 20), is_control=st.booleans())
    def append(self, words, is_control):
        kind = CONTROL if is_control else RECORDS
        self.body_count += 1
        body = struct.pack("<I", self.body_count) * words  # no two alike
        sequence = self.writer.append(kind, body)
        self.waiting.append((kind, self.version, body))
        assert sequence == len(self.acked) + len(self.waiting)

    @rule()
    def commit(self):
        assert self.writer.commit() == len(self.acked) + len(self.waiting)
        self.acked += self.waiting
        self.waiting = []

    @precondition(lambda self: self.waiting)
    @rule(calls=st.integers(0, 6), keeps_failing=st.booleans())
    def commit_on_a_failing_disk(self, calls, keeps_failing):
        self.disk.calls_until_failure, self.disk.keeps_failing = calls, keeps_failing
        try:
            self.commit()
        except NotReady:
            assert self.writer.durable_sequence == len(self.acked)
        self.disk.calls_until_failure = None

    @rule()
    def kill_the_writer(self):
        self.restart()

    @rule()
    def upgrade(self):
        self.version += 1
        self.restart()

    @rule(data=st.data())
    def cut_the_power(self, data):
        self.writer.close()
        self.disk.cut_power(lambda what, high: data.draw(st.integers(0, high), label=what))
        self.restart()

    def restart(self):
        self.writer.close()
        frames: list[Frame] = []
        recovery = recover(
            self.folder,
            self.disk,
            self.schema,
            expected_sequence=len(self.acked),
            replay=frames.append,
        )
        found = [(frame.kind, frame.schema_version, frame.body) for frame in frames]
        assert found == (self.acked + self.waiting)[: len(found)]
        assert recovery.last_sequence == len(found) >= len(self.acked)
        self.acked, self.waiting = found, []
        self.open_the_writer()
        assert self.writer.durable_sequence == len(self.acked)

    @rule(max_bytes=st.integers(1, 500))
    def read(self, max_bytes):
        self.seen += self.reader.read(max_bytes, self.writer.durable_sequence)

    @rule(back=st.integers(0, 5))
    def read_from_a_kept_cursor(self, back):
        self.seen = self.seen[: max(len(self.seen) - back, 0)]
        self.reader = SegmentReader(
            self.folder, self.disk, Schema("list", 99, 4), len(self.seen) + 1
        )

    @invariant()
    def the_reader_saw_what_was_acked(self):
        assert [
            (frame.kind, frame.schema_version, frame.body) for frame in self.seen
        ] == self.acked[: len(self.seen)]
        assert [frame.sequence for frame in self.seen] == list(range(1, len(self.seen) + 1))


TestLogAgainstAList = LogAgainstAList.TestCase
TestLogAgainstAList.settings = settings(
    max_examples=250, stateful_step_count=40, deadline=None, derandomize=True
)
