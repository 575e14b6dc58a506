"""The tailing reader: whole frames in order, none twice, none skipped, beside a live writer."""

from __future__ import annotations

import os

import pytest

from ledger.frame import FRAME_OVERHEAD_BYTES
from ledger.segment import CONTROL, RealDisk, Schema, SegmentReader, SegmentWriter
from market.errors import BadInput, Corrupt, NotReady
from tests.ledger.logs import (
    FRAME_COUNT,
    SCHEMA,
    CountingDisk,
    HookedDisk,
    UnsyncedDisk,
    assert_true_prefix,
    body_of,
    first_sequence_in,
    flipped,
    frame_ends,
    read_all,
    write_log,
)


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


def test_a_reader_keeps_nothing_of_a_file_that_is_not_durable(tmp_path):
    (path,) = write_log(tmp_path, schema=Schema("trial", 2, 2), count=1)
    reader = SegmentReader(tmp_path, RealDisk(), SCHEMA)
    assert reader.read(1 << 20, durable_sequence=0) == []
    path.unlink()  # a power cut and an upgrade: the file comes again with another header
    write_log(tmp_path)
    assert len(reader.read(1 << 20, durable_sequence=FRAME_COUNT)) == FRAME_COUNT


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
