"""The segment log: what is written comes back, and damage is refused or, at the tail, cut."""

from __future__ import annotations

import os
import struct

import pytest

from ledger.frame import FRAME_OVERHEAD_BYTES, HEADER, file_head, frame_head
from ledger.segment import (
    CONTROL,
    RECORDS,
    RealDisk,
    Recovery,
    Schema,
    SegmentReader,
    SegmentWriter,
    recover,
)
from market.errors import BadInput, Corrupt, NotReady
from tests.ledger.logs import (
    FRAME_COUNT,
    SCHEMA,
    UnsyncedDisk,
    assert_true_prefix,
    body_of,
    first_sequence_in,
    flipped,
    frame_ends,
    read_all,
    replayed,
    write_log,
)


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
