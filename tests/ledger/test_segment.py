"""The segment log against damage, full disks, kills and power cuts."""

from __future__ import annotations

import errno
import os
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
from ledger.frame import FRAME_OVERHEAD_BYTES, HEADER, file_head, frame_head
from ledger.segment import (
    CONTROL,
    RECORDS,
    Frame,
    RealDisk,
    Recovery,
    Schema,
    SegmentReader,
    SegmentWriter,
    recover,
)
from market.errors import BadInput, Corrupt, NotReady

SCHEMA = Schema(name="trial", version=3, record_bytes=4)
ROOT = Path(ledger.__file__).parents[1]
FRAME_COUNT = 30


class UnsyncedDisk(RealDisk):
    """The real disk without the wait: for tests in which neither power nor process fails."""

    def fdatasync(self, descriptor):
        pass

    def fsync_folder(self, folder):
        pass


class FullDisk(UnsyncedDisk):
    """Takes ``room`` more bytes and then says ENOSPC, also in the middle of a write."""

    def __init__(self, room):
        self.room = room

    def write(self, descriptor, data):
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = min(self.room, len(data))
        self.room -= count
        return super().write(descriptor, data[:count])


class CountingDisk(RealDisk):
    """Remembers how much was read of which file."""

    def __init__(self):
        self.paths = {}
        self.bytes_read = {}

    def open_read(self, path):
        descriptor = super().open_read(path)
        self.paths[descriptor] = path.name
        return descriptor

    def read(self, descriptor, count, offset):
        data = super().read(descriptor, count, offset)
        name = self.paths[descriptor]
        self.bytes_read[name] = self.bytes_read.get(name, 0) + len(data)
        return data


class BreakableDisk(RealDisk):
    """A disk whose calls can fail, and which a power cut puts back to what was synced.

    Between two syncs of a file the disk may have got any number of the calls, and any part of the
    last write, or only the length that the write gave the file (zeros).
    """

    def __init__(self):
        self.paths = {}
        self.synced = {}
        self.calls_since = {}
        self.unsynced_names = set()
        self.calls_until_failure = None
        self.keeps_failing = False

    def may_fail(self):
        if self.calls_until_failure is None:
            return
        if self.calls_until_failure == 0:
            if not self.keeps_failing:
                self.calls_until_failure = None
            raise OSError(errno.EIO, "Input/output error")
        self.calls_until_failure -= 1

    def open_append(self, path, *, is_new):
        self.may_fail()
        if not path.exists():
            self.unsynced_names.add(path)
        descriptor = super().open_append(path, is_new=is_new)
        self.paths[descriptor] = path
        self.synced.setdefault(path, b"")
        if is_new:
            self.calls_since.setdefault(path, []).append(0)
        return descriptor

    def write(self, descriptor, data):
        if self.calls_until_failure == 0 and len(data) > 1:
            count = super().write(descriptor, data[: len(data) // 2])
        else:
            self.may_fail()
            count = super().write(descriptor, data)
        self.calls_since.setdefault(self.paths[descriptor], []).append(bytes(data[:count]))
        return count

    def truncate(self, descriptor, size):
        self.may_fail()
        super().truncate(descriptor, size)
        self.calls_since.setdefault(self.paths[descriptor], []).append(size)

    def fdatasync(self, descriptor):
        self.may_fail()
        path = self.paths[descriptor]
        self.synced[path] = path.read_bytes()
        self.calls_since[path] = []

    def fsync_folder(self, folder):
        self.may_fail()
        self.unsynced_names.clear()

    def cut_power(self, choose):
        """Puts the files back; ``choose(what, high)`` says how much of what came through."""
        for path in sorted(self.synced):
            if path in self.unsynced_names and not choose("name on disk", 1):
                path.unlink(missing_ok=True)
                del self.synced[path]
                continue
            content = self.synced[path]
            calls = self.calls_since.get(path, [])
            for call in calls[: choose("calls on disk", len(calls))]:
                if isinstance(call, int):
                    content = content[:call]
                    continue
                whole = choose("bytes on disk", len(call))
                content += call[:whole] + bytes(len(call) - whole) * choose("length on disk", 1)
                if whole < len(call):
                    break
            path.write_bytes(content)
            self.synced[path] = content
        self.calls_since.clear()
        self.unsynced_names.clear()


class HookedDisk(RealDisk):
    """Lets something else happen right after a call of the reader."""

    def __init__(self, **hooks):
        self.hooks = hooks

    def size(self, descriptor):
        size = super().size(descriptor)
        self.hooks.pop("after_size", int)()
        return size

    def read(self, descriptor, count, offset):
        data = super().read(descriptor, count, offset)
        self.hooks.pop("after_read", int)()
        return data


def body_of(sequence):
    """A body that only this sequence has."""
    return struct.pack("<I", sequence) * (1 + sequence % 3)


def write_log(folder, *, segment_bytes_max=1 << 20, schema=SCHEMA, count=FRAME_COUNT):
    """Writes ``count`` frames, a commit each, and returns the segment files."""
    with SegmentWriter(folder, UnsyncedDisk(), schema, segment_bytes_max) as writer:
        for _ in range(count):
            sequence = writer.durable_sequence + 1
            kind = RECORDS if sequence % 2 else CONTROL
            assert writer.append(kind, body_of(sequence)) == sequence
            assert writer.commit() == sequence
    return sorted(folder.glob("*.seg"))


def replayed(folder, schema=SCHEMA, **expectations):
    """Recovers the log; returns the report and the frames."""
    frames = []
    recovery = recover(folder, UnsyncedDisk(), schema, replay=frames.append, **expectations)
    assert recovery.frames == len(frames)
    return recovery, frames


def read_all(reader, durable_sequence=None):
    frames = []
    while batch := reader.read(200, durable_sequence):
        frames += batch
    return frames


def assert_true_prefix(frames):
    """Every frame says what was written under its sequence, from the first on."""
    assert [(frame.sequence, frame.body) for frame in frames] == [
        (sequence, body_of(sequence)) for sequence in range(1, len(frames) + 1)
    ]


def first_sequence_in(path):
    """The sequence in the file's header, read without the code under test."""
    return struct.unpack_from("<4sBxHIQ", path.read_bytes())[4]


def refusal_of(writer):
    """Commits; returns what the refusal says, or None where the commit went through."""
    try:
        writer.commit()
    except NotReady as refusal:
        return str(refusal)
    return None


def frame_ends(path, first_sequence):
    """Offsets in the file at which a frame ends, the header's first."""
    ends = [len(file_head(SCHEMA, first_sequence))]
    sequence = first_sequence
    while ends[-1] < path.stat().st_size:
        ends.append(ends[-1] + FRAME_OVERHEAD_BYTES + len(body_of(sequence)))
        sequence += 1
    assert ends[-1] == path.stat().st_size
    return ends


def flipped(path):
    """Flips every bit of the file in turn; afterwards the file is whole again."""
    whole = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for at, byte in enumerate(whole):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), at)
                yield at
                os.pwrite(file.fileno(), whole, 0)  # all of it: the tail may have been cut
    assert path.read_bytes() == whole


# Writing


def test_frames_come_back_in_order_with_kind_version_and_body(tmp_path):
    write_log(tmp_path, segment_bytes_max=300)
    recovery, frames = replayed(tmp_path)
    assert recovery == Recovery(
        frames=FRAME_COUNT, cut_bytes=0, cut_file=None, last_sequence=FRAME_COUNT
    )
    assert_true_prefix(frames)
    assert [frame.kind for frame in frames] == [RECORDS, CONTROL] * (FRAME_COUNT // 2)
    assert {frame.schema_version for frame in frames} == {3}


def test_nothing_is_in_the_file_before_a_commit_and_a_commit_of_nothing_is_harmless(tmp_path):
    with SegmentWriter(tmp_path, RealDisk(), SCHEMA) as writer:
        assert writer.commit() == 0
        assert [writer.append(CONTROL, b"a"), writer.append(CONTROL, b"b")] == [1, 2]
        assert writer.path.read_bytes() == b""
        assert writer.durable_sequence == 0
        assert writer.commit() == 2
        assert writer.commit() == 2
        assert writer.pending_bytes == 0


def test_a_commit_lies_in_one_file_and_files_stay_below_the_bound(tmp_path):
    with SegmentWriter(tmp_path, UnsyncedDisk(), SCHEMA, segment_bytes_max=400) as writer:
        for group in range(6):
            for _ in range(3):
                writer.append(CONTROL, bytes(40))
            assert writer.commit() == 3 * (group + 1)
        writer.append(CONTROL, bytes(1000))
        writer.commit()
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("*.seg"))]
    header = len(file_head(SCHEMA, 1))
    group = 3 * (FRAME_OVERHEAD_BYTES + 40)
    assert sizes == [header + group] * 6 + [header + FRAME_OVERHEAD_BYTES + 1000]


def test_a_writer_takes_up_where_the_last_one_stopped(tmp_path):
    write_log(tmp_path, segment_bytes_max=300, count=7)
    write_log(tmp_path, segment_bytes_max=300, count=8)
    assert_true_prefix(replayed(tmp_path)[1])
    assert replayed(tmp_path)[0].last_sequence == 15


@pytest.mark.parametrize(
    ("kind", "body", "rule_broken"),
    [
        (RECORDS, b"12345", "records of 4 bytes"),
        (CONTROL, b"", "must be 1 to"),
        (CONTROL, bytes((16 << 20) + 1), "must be 1 to"),
        (HEADER, b"1234", "frame kind 0"),
    ],
)
def test_a_body_that_breaks_a_rule_is_refused(tmp_path, kind, body, rule_broken):
    with SegmentWriter(tmp_path, RealDisk(), SCHEMA) as writer:
        with pytest.raises(BadInput, match=rule_broken):
            writer.append(kind, body)
        assert writer.append(CONTROL, b"good") == 1


def test_frames_that_wait_for_a_commit_are_bounded(tmp_path):
    with SegmentWriter(tmp_path, RealDisk(), SCHEMA, pending_bytes_max=200) as writer:
        writer.append(CONTROL, bytes(100))
        with pytest.raises(NotReady, match="commit first"):
            writer.append(CONTROL, bytes(100))
        assert writer.commit() == 1
        assert writer.append(CONTROL, bytes(100)) == 2


def test_a_log_has_one_writer_and_is_not_recovered_under_it(tmp_path):
    with SegmentWriter(tmp_path, RealDisk(), SCHEMA) as writer:
        with pytest.raises(NotReady, match="another writer"):
            SegmentWriter(tmp_path, RealDisk(), SCHEMA)
        writer.append(CONTROL, b"mine")
        writer.commit()
        with pytest.raises(NotReady, match="another writer"):
            recover(tmp_path, RealDisk(), SCHEMA)
    assert recover(tmp_path, RealDisk(), SCHEMA).last_sequence == 1


def test_a_writer_that_could_not_open_the_log_leaves_it_unlocked(tmp_path):
    (path,) = write_log(tmp_path)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(NotReady, match="recover the log first"):
        SegmentWriter(tmp_path, RealDisk(), SCHEMA)
    assert recover(tmp_path, RealDisk(), SCHEMA).last_sequence == FRAME_COUNT - 1


# Schemas


def test_a_newer_schema_goes_into_a_new_file_and_readers_take_both(tmp_path):
    older = Schema(name="trial", version=2, record_bytes=2)
    write_log(tmp_path, schema=older, count=3)
    paths = write_log(tmp_path, count=2)
    assert [path.name for path in paths] == ["00000001.seg", "00000002.seg"]
    frames = read_all(SegmentReader(tmp_path, RealDisk(), SCHEMA))
    assert [frame.schema_version for frame in frames] == [2, 2, 2, 3, 3]
    assert frames == replayed(tmp_path)[1]
    assert_true_prefix(frames)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (Schema("trial", 2, 4), "version 3; this build reads up to 2"),
        (Schema("other", 3, 4), "belongs to a log of 'trial'"),
        (Schema("trial", 3, 8), "a changed record needs a new version"),
    ],
)
def test_a_log_of_another_schema_is_refused_by_writer_reader_and_recovery(
    tmp_path, schema, message
):
    write_log(tmp_path)
    with pytest.raises(Corrupt, match=message):
        recover(tmp_path, RealDisk(), schema)
    with pytest.raises(Corrupt, match=message):
        SegmentReader(tmp_path, RealDisk(), schema).read(100)
    with pytest.raises(Corrupt, match=message):
        SegmentWriter(tmp_path, RealDisk(), schema)


# Recovery


def test_a_missing_or_empty_folder_is_an_empty_log(tmp_path):
    empty = Recovery(frames=0, cut_bytes=0, cut_file=None, last_sequence=0)
    assert recover(tmp_path / "nowhere", RealDisk(), SCHEMA) == empty
    assert recover(tmp_path, RealDisk(), SCHEMA) == empty
    SegmentWriter(tmp_path / "a" / "b", RealDisk(), SCHEMA).close()
    assert recover(tmp_path / "a" / "b", RealDisk(), SCHEMA) == empty


@pytest.mark.parametrize("segment_bytes_max", [1 << 20, 300])
def test_every_truncation_gives_the_last_whole_frame_and_can_be_written_on(
    tmp_path, segment_bytes_max
):
    path = write_log(tmp_path, segment_bytes_max=segment_bytes_max)[-1]
    whole = path.read_bytes()
    first = first_sequence_in(path)
    ends = frame_ends(path, first)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        whole_frames = sum(end <= size for end in ends[1:])
        kept = max((end for end in ends if end <= size), default=0)
        recovery, frames = replayed(tmp_path)
        assert_true_prefix(frames)
        assert recovery == Recovery(
            frames=first - 1 + whole_frames,
            cut_bytes=size - kept,
            cut_file=path.name if size > kept else None,
            last_sequence=first - 1 + whole_frames,
        )
        assert path.stat().st_size == kept
        with pytest.raises(Corrupt, match="acked frames are missing"):
            replayed(tmp_path, expected_sequence=FRAME_COUNT)
        write_log(tmp_path, count=FRAME_COUNT - recovery.last_sequence)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("segment_bytes_max", [1 << 20, 300])
def test_every_flipped_bit_is_refused_or_cuts_the_last_frame_only(tmp_path, segment_bytes_max):
    paths = write_log(tmp_path, segment_bytes_max=segment_bytes_max)
    refused = cut = 0
    for path in paths:
        ends = frame_ends(path, first_sequence_in(path))
        whole = path.read_bytes()
        for at in flipped(path):
            damaged = path.read_bytes()
            is_tail = path == paths[-1] and at >= ends[-2]
            with pytest.raises(Corrupt, match=r"\.seg"):
                replayed(tmp_path, expected_sequence=FRAME_COUNT if is_tail else 0)
            assert path.read_bytes() == damaged  # the evidence stays
            refused += not is_tail
            if is_tail:
                recovery, frames = replayed(tmp_path)
                assert_true_prefix(frames)
                assert recovery.last_sequence == FRAME_COUNT - 1
                assert recovery.cut_file == path.name
                assert recovery.cut_bytes == len(whole) - ends[-2]
                cut += 1
    assert cut == 8 * (FRAME_OVERHEAD_BYTES + len(body_of(FRAME_COUNT)))
    assert refused + cut == 8 * sum(path.stat().st_size for path in paths)


def test_the_report_of_damage_names_file_offset_and_remedy(tmp_path):
    (path,) = write_log(tmp_path)
    ends = frame_ends(path, 1)
    data = bytearray(path.read_bytes())
    data[ends[4] + FRAME_OVERHEAD_BYTES] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt) as refusal:
        recover(tmp_path, RealDisk(), SCHEMA)
    message = str(refusal.value)
    assert f"{path} at offset {ends[4]}: the checksum does not match" in message
    assert f"a good frame follows at offset {ends[5]}" in message
    assert "restore it from a copy" in message


def test_a_frame_that_was_cut_out_leaves_a_gap_that_is_refused(tmp_path):
    (path,) = write_log(tmp_path)
    ends = frame_ends(path, 1)
    data = path.read_bytes()
    path.write_bytes(data[: ends[4]] + data[ends[5] :])
    with pytest.raises(Corrupt, match="has sequence 6, and 5 must come next"):
        recover(tmp_path, RealDisk(), SCHEMA)
    path.write_bytes(data[: ends[4]] + data[ends[3] :])
    with pytest.raises(Corrupt, match="has sequence 4, and 5 must come next"):
        recover(tmp_path, RealDisk(), SCHEMA)


def test_a_missing_segment_is_refused(tmp_path):
    paths = write_log(tmp_path, segment_bytes_max=300)
    assert len(paths) == 4
    whole = paths[2].read_bytes()
    paths[2].unlink()
    with pytest.raises(Corrupt, match=r"00000003\.seg: the segment is missing"):
        recover(tmp_path, RealDisk(), SCHEMA)
    with pytest.raises(Corrupt, match=r"00000003\.seg: the segment is missing"):
        SegmentWriter(tmp_path, RealDisk(), SCHEMA)
    paths[2].write_bytes(paths[1].read_bytes())
    with pytest.raises(Corrupt, match=r"00000003\.seg: it starts at sequence"):
        recover(tmp_path, RealDisk(), SCHEMA)
    paths[2].write_bytes(whole)
    paths[-1].unlink()
    with pytest.raises(Corrupt, match="acked frames are missing"):
        recover(tmp_path, RealDisk(), SCHEMA, expected_sequence=FRAME_COUNT)


def test_older_segments_may_be_gone_only_where_the_caller_says_so(tmp_path):
    paths = write_log(tmp_path, segment_bytes_max=300)
    first = first_sequence_in(paths[2])
    for path in paths[:2]:
        path.unlink()
    with pytest.raises(Corrupt, match=f"starts at sequence {first}, and must start at 1"):
        recover(tmp_path, RealDisk(), SCHEMA)
    recovery, frames = replayed(tmp_path, oldest_sequence=first)
    assert frames[0].sequence == first
    assert recovery.last_sequence == FRAME_COUNT
    with pytest.raises(Corrupt, match="no segment starts at or before it"):
        SegmentReader(tmp_path, RealDisk(), SCHEMA).read(100)
    assert SegmentReader(tmp_path, RealDisk(), SCHEMA, first).read(100)[0].sequence == first


def test_a_lost_sequence_is_refused(tmp_path):
    paths = write_log(tmp_path, segment_bytes_max=300)
    for path in paths[:-1]:
        path.unlink()
    paths[-1].write_bytes(b"")
    with pytest.raises(Corrupt, match="the log's sequence is lost"):
        recover(tmp_path, RealDisk(), SCHEMA)
    with pytest.raises(Corrupt, match="the log's sequence is lost"):
        SegmentWriter(tmp_path, RealDisk(), SCHEMA)


@pytest.mark.parametrize("content", [b"id,price\n1,2\n", b"PK\x03\x04", b"\xf5LSX" + bytes(60)])
def test_a_file_that_is_no_segment_is_refused_and_left_alone(tmp_path, content):
    write_log(tmp_path)
    foreign = tmp_path / "00000002.seg"
    foreign.write_bytes(content)
    with pytest.raises(Corrupt, match=r"00000002\.seg: it starts with .*, no segment does"):
        recover(tmp_path, RealDisk(), SCHEMA)
    assert foreign.read_bytes() == content


@pytest.mark.parametrize("on_disk", range(6))
def test_a_first_write_of_which_only_the_length_got_to_disk_is_cut(tmp_path, on_disk):
    (path,) = write_log(tmp_path, count=1)
    whole = path.read_bytes()
    path.write_bytes(whole[:on_disk] + bytes(len(whole) - on_disk))
    recovery, _ = replayed(tmp_path)
    assert (recovery.cut_bytes, recovery.last_sequence) == (len(whole), 0)
    write_log(tmp_path, count=1)
    assert path.read_bytes() == whole


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    write_log(tmp_path)
    (tmp_path / "00000001.seg.copy").write_bytes(b"not ours")
    (tmp_path / "notes.txt").write_bytes(b"not ours")
    assert replayed(tmp_path)[0].last_sequence == FRAME_COUNT


def test_a_newer_format_is_refused(tmp_path):
    body = struct.pack("<HI", 2, 4) + b"trial"
    content = frame_head(HEADER, 3, 1, body) + body
    (tmp_path / "00000001.seg").write_bytes(content)
    with pytest.raises(Corrupt, match="format version 2; this build reads up to 1"):
        recover(tmp_path, RealDisk(), SCHEMA)


def test_a_kind_of_frame_from_the_future_is_refused(tmp_path):
    content = file_head(SCHEMA, 1) + frame_head(3, 3, 1, b"body") + b"body"
    (tmp_path / "00000001.seg").write_bytes(content)
    with pytest.raises(Corrupt, match="kind 3 of frame is not known"):
        recover(tmp_path, RealDisk(), SCHEMA)


def test_a_torn_frame_may_hold_a_copy_of_an_older_frame(tmp_path):
    (path,) = write_log(tmp_path)
    first_frame = path.read_bytes()[slice(*frame_ends(path, 1)[:2])]
    with SegmentWriter(tmp_path, RealDisk(), SCHEMA) as writer:
        writer.append(CONTROL, first_frame + b"and more")
        writer.commit()
    os.truncate(path, path.stat().st_size - 1)
    assert replayed(tmp_path)[0].last_sequence == FRAME_COUNT


# Full and failing disks


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


# Reading


@pytest.mark.parametrize("start", range(1, FRAME_COUNT + 2))
def test_a_reader_starts_at_any_sequence(tmp_path, start):
    write_log(tmp_path, segment_bytes_max=300)
    reader = SegmentReader(tmp_path, RealDisk(), SCHEMA, start)
    frames = read_all(reader)
    assert [frame.sequence for frame in frames] == list(range(start, FRAME_COUNT + 1))
    assert all(frame.body == body_of(frame.sequence) for frame in frames)
    assert reader.next_sequence == FRAME_COUNT + 1


def test_a_read_is_bounded_in_bytes_but_returns_at_least_one_frame(tmp_path):
    write_log(tmp_path, segment_bytes_max=300)
    sizes = [FRAME_OVERHEAD_BYTES + len(body_of(sequence)) for sequence in range(1, 31)]
    reader = SegmentReader(tmp_path, RealDisk(), SCHEMA)
    assert [frame.sequence for frame in reader.read(1)] == [1]
    assert [frame.sequence for frame in reader.read(sum(sizes[1:20]))] == list(range(2, 21))
    assert [frame.sequence for frame in reader.read(sizes[20] + sizes[21] - 1)] == [21]
    assert [frame.sequence for frame in reader.read(1 << 20)] == list(range(22, 31))
    assert reader.read(1 << 20) == []


def test_a_reader_leaves_what_is_not_durable(tmp_path):
    write_log(tmp_path, segment_bytes_max=300)
    reader = SegmentReader(tmp_path, RealDisk(), SCHEMA)
    assert reader.read(1 << 20, durable_sequence=0) == []
    assert [frame.sequence for frame in reader.read(1 << 20, 17)] == list(range(1, 18))
    assert reader.read(1 << 20, durable_sequence=17) == []
    assert [frame.sequence for frame in reader.read(1 << 20, 99)] == list(range(18, 31))


def test_a_reader_may_come_before_the_log_and_sees_a_frame_when_it_is_whole(tmp_path):
    folder = tmp_path / "log"
    reader = SegmentReader(folder, RealDisk(), SCHEMA)
    assert reader.read(100) == []
    write_log(tmp_path / "made", count=2)
    whole = (tmp_path / "made" / "00000001.seg").read_bytes()
    ends = frame_ends(tmp_path / "made" / "00000001.seg", 1)
    folder.mkdir()
    seen = []
    for size in range(len(whole) + 1):
        (folder / "00000001.seg").write_bytes(whole[:size])
        seen += reader.read(1 << 20)
        assert len(seen) == sum(end <= size for end in ends[1:])
    assert_true_prefix(seen)


def test_finding_the_cursor_reads_headers_of_few_files_and_frames_of_one(tmp_path):
    with SegmentWriter(tmp_path, UnsyncedDisk(), SCHEMA, segment_bytes_max=3 << 20) as writer:
        for _ in range(64):
            writer.append(CONTROL, bytes(2 << 20))
            writer.commit()
    disk = CountingDisk()
    assert SegmentReader(tmp_path, disk, SCHEMA, 64).read(1)[0].sequence == 64
    before = {name: count for name, count in disk.bytes_read.items() if name != "00000064.seg"}
    assert len(before) <= 7
    assert max(before.values()) <= 1 << 20


def test_a_reader_whose_cursor_is_beyond_the_log_says_that_frames_are_missing(tmp_path):
    write_log(tmp_path)
    with pytest.raises(Corrupt, match="frames that were read are missing"):
        SegmentReader(tmp_path, RealDisk(), SCHEMA, FRAME_COUNT + 2).read(100)
    with pytest.raises(Corrupt, match="no segment starts at or before it"):
        SegmentReader(tmp_path / "other", RealDisk(), SCHEMA, 2).read(100)
    with pytest.raises(BadInput, match="sequences start at 1"):
        SegmentReader(tmp_path, RealDisk(), SCHEMA, 0)


@pytest.mark.parametrize("segment_bytes_max", [1 << 20, 300])
def test_a_reader_never_returns_a_flipped_frame_nor_skips_it(tmp_path, segment_bytes_max):
    paths = write_log(tmp_path, segment_bytes_max=segment_bytes_max)
    for path in paths:
        first = first_sequence_in(path)
        ends = frame_ends(path, first)
        for at in flipped(path):
            reader = SegmentReader(tmp_path, UnsyncedDisk(), SCHEMA)
            good_before = first - 1 + sum(end <= at for end in ends[1:])
            is_tail = path == paths[-1] and at >= ends[-2]
            frames = []
            try:
                while batch := reader.read(200):
                    frames += batch
            except Corrupt:
                assert not is_tail
            else:
                assert is_tail
            assert_true_prefix(frames)
            # A bad header may already be met while the reader looks for its first file.
            assert len(frames) == good_before or (at < ends[0] and not frames)
            assert reader.next_sequence == len(frames) + 1


def test_a_reader_hands_out_the_good_frames_before_it_reports_the_bad_one(tmp_path):
    paths = write_log(tmp_path, segment_bytes_max=300)
    reader = SegmentReader(tmp_path, RealDisk(), SCHEMA)
    frames = reader.read(1)
    data = bytearray(paths[1].read_bytes())
    data[0] ^= 1
    paths[1].write_bytes(data)
    frames += reader.read(1 << 20)
    assert len(frames) == first_sequence_in(paths[1]) - 1 > 1
    assert_true_prefix(frames)
    for _ in range(2):
        with pytest.raises(Corrupt, match=r"00000002\.seg"):
            reader.read(1 << 20)


def test_a_reader_notices_that_frames_it_returned_were_taken_back(tmp_path):
    (path,) = write_log(tmp_path, count=3)
    ends = frame_ends(path, 1)
    reader = SegmentReader(tmp_path, RealDisk(), SCHEMA)
    assert len(reader.read(1 << 20)) == 3
    whole = path.read_bytes()
    os.truncate(path, ends[2])
    with pytest.raises(NotReady, match="was read up to"):
        reader.read(1 << 20)
    path.write_bytes(whole)
    assert reader.read(1 << 20) == []
    os.truncate(path, ends[2])
    with SegmentWriter(tmp_path, RealDisk(), SCHEMA) as writer:
        writer.append(CONTROL, b"other" * 20)
        writer.commit()
    with pytest.raises(Corrupt, match="was replaced after it was read"):
        reader.read(1 << 20)


def test_a_reader_at_the_end_of_a_file_skips_nothing_when_the_writer_moves_on(tmp_path):
    write_log(tmp_path, count=2)
    with SegmentWriter(tmp_path, UnsyncedDisk(), SCHEMA, segment_bytes_max=200) as writer:

        def move_on():
            for sequence in range(3, 11):
                writer.append(CONTROL, body_of(sequence))
                writer.commit()
            assert writer.path.name > "00000001.seg"

        disk = HookedDisk()
        reader = SegmentReader(tmp_path, disk, SCHEMA)
        frames = reader.read(1 << 20)
        disk.hooks["after_size"] = move_on
        frames += reader.read(1 << 20)
        frames += reader.read(1 << 20)
    assert len(frames) == 10
    assert_true_prefix(frames)


def test_a_reader_takes_a_commit_that_is_cut_and_written_again_for_no_damage(tmp_path):
    (path,) = write_log(tmp_path)
    whole = path.read_bytes()
    ends = frame_ends(path, 1)
    disk = HookedDisk()
    reader = SegmentReader(tmp_path, disk, SCHEMA)
    frames = reader.read(1 << 20, durable_sequence=9)
    disk.hooks["after_size"] = lambda: os.truncate(path, ends[9] + 1)
    disk.hooks["after_read"] = lambda: disk.hooks.update(
        after_read=lambda: path.write_bytes(whole)  # after the second read
    )
    assert reader.read(1 << 20) == []
    assert not disk.hooks
    frames += reader.read(1 << 20)
    assert len(frames) == FRAME_COUNT
    assert_true_prefix(frames)


# Processes

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


# A log against a list


class LogAgainstAList(RuleBasedStateMachine):
    """Any order of appends, commits, disk failures, kills, power cuts, upgrades and reads."""

    def __init__(self):
        super().__init__()
        self.home = tempfile.TemporaryDirectory()
        self.folder = Path(self.home.name) / "log"
        self.disk = BreakableDisk()
        self.version = 1
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
        body = os.urandom(4 * words)
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
    max_examples=150, stateful_step_count=40, deadline=None, derandomize=True
)
