"""Damage of a log: what an inspection says of it, and what a repair makes of it."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys

import pytest

from ledger.archive import compress
from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.inspection import Condition, inspect, walk
from ledger.lease import FramesLost, decode_message
from ledger.repair import repair
from ledger.segment import CONTROL, RECORDS, SegmentWriter, recover
from market.errors import Corrupt, NotReady
from tests.ledger.bids import bid_event, recorder, snapshot_of
from tests.ledger.logs import (
    FRAME_COUNT,
    SCHEMA,
    UnsyncedDisk,
    body_of,
    first_sequence_in,
    flipped,
    frame_ends,
    replayed,
    write_log,
)
from tests.ledger.recorders import REPOSITORY, Place

DISK = UnsyncedDisk()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def assert_repaired(folder, lost, count=FRAME_COUNT):
    """The log is whole, says which frames are lost, and has every other one as it was."""
    assert inspect(folder, DISK, SCHEMA).condition is Condition.WHOLE
    _, frames = replayed(folder, expected_sequence=count)
    assert [frame.sequence for frame in frames] == list(range(1, count + 1))
    for frame in frames:
        if frame.sequence in lost:
            said = decode_message(frame.body)
            assert isinstance(said, FramesLost)
            assert said.first_sequence <= frame.sequence <= said.last_sequence
        else:
            assert frame.body == body_of(frame.sequence)
    with SegmentWriter(folder, DISK, SCHEMA) as writer:
        assert writer.append(CONTROL, body_of(count + 1)) == count + 1


def test_a_whole_log_is_whole_and_a_repair_leaves_it_alone(tmp_path):
    write_log(tmp_path, segment_bytes_max=300)
    found = inspect(tmp_path, DISK, SCHEMA)
    assert found.condition is Condition.WHOLE
    assert found.faults == ()
    assert sum(segment.frames for segment in found.segments) == FRAME_COUNT
    assert found.segments[-1].last_sequence == FRAME_COUNT
    before = contents(tmp_path)
    assert repair(tmp_path, DISK, SCHEMA).rewritten == ()
    assert contents(tmp_path) == before


def test_a_torn_tail_is_told_and_left_to_the_next_start(tmp_path):
    (path,) = write_log(tmp_path)
    path.write_bytes(path.read_bytes()[:-3])
    found = inspect(tmp_path, DISK, SCHEMA)
    assert found.condition is Condition.TORN
    assert found.torn_bytes == len(body_of(FRAME_COUNT)) + 24 - 3
    assert repair(tmp_path, DISK, SCHEMA).rewritten == ()
    assert recover(tmp_path, DISK, SCHEMA).cut_bytes == found.torn_bytes


def test_every_flipped_bit_that_a_start_refuses_is_found_and_costs_its_frame_only(tmp_path):
    folder = tmp_path / "log"
    (path,) = write_log(folder, count=4)
    ends = frame_ends(path, 1)
    for at in flipped(path):
        found = inspect(folder, DISK, SCHEMA)
        if at >= ends[-2]:  # the last frame: a torn tail, as nothing comes after it
            assert found.condition is Condition.TORN
            continue
        assert found.condition is Condition.DAMAGED, at
        (fault,) = found.faults
        lost = [
            n for n, (start, end) in enumerate(itertools.pairwise(ends), 1) if start <= at < end
        ]
        assert found.lost_frames == len(lost)
        assert fault.offset == (ends[lost[0] - 1] if lost else 0)
        with pytest.raises(Corrupt, match=r"inspect|no segment"):
            recover(folder, DISK, SCHEMA)
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        done = repair(copy, DISK, SCHEMA)
        assert done.kept == ("00000001.seg.damaged",)
        assert (copy / done.kept[0]).read_bytes() == path.read_bytes()
        assert_repaired(copy, lost, 4)
        shutil.rmtree(copy)


@pytest.mark.parametrize("step", [1, 7])
def test_a_segment_cut_short_in_the_middle_of_the_log_loses_what_was_cut(tmp_path, step):
    for size in range(0, 300, 13 * step):
        folder = tmp_path / str(size)
        paths = write_log(folder, segment_bytes_max=300)
        middle = paths[1]
        first, beyond = first_sequence_in(middle), first_sequence_in(paths[2])
        ends = frame_ends(middle, first)
        if size >= ends[-1]:
            break
        middle.write_bytes(middle.read_bytes()[:size])
        kept = sum(end <= size for end in ends[1:]) if size >= ends[0] else 0
        found = inspect(folder, DISK, SCHEMA)
        assert found.condition is Condition.DAMAGED
        lost = range(first + kept, beyond)
        assert found.lost_frames == len(lost)
        repair(folder, DISK, SCHEMA)
        assert_repaired(folder, lost)


@pytest.mark.parametrize("gone", [(1,), (1, 2), (0,), (0, 1)])
def test_missing_segments_are_filled_with_frames_that_say_so(tmp_path, gone):
    paths = write_log(tmp_path, segment_bytes_max=300)
    assert len(paths) >= 4
    first, beyond = first_sequence_in(paths[gone[0]]), first_sequence_in(paths[gone[-1] + 1])
    for index in gone:
        paths[index].unlink()
    found = inspect(tmp_path, DISK, SCHEMA)
    assert found.condition is Condition.DAMAGED
    assert found.lost_frames == beyond - first
    if gone[0] == 0:
        before = contents(tmp_path)
        with pytest.raises(Corrupt, match="its first segments are gone"):
            repair(tmp_path, DISK, SCHEMA)
        assert contents(tmp_path) == before
        return
    assert repair(tmp_path, DISK, SCHEMA).kept == ()
    assert_repaired(tmp_path, range(first, beyond))


def test_damage_in_two_files_and_a_gap_between_them_is_one_loss_with_its_range(tmp_path):
    paths = write_log(tmp_path, segment_bytes_max=300)
    last_good = first_sequence_in(paths[2]) - 2
    beyond = first_sequence_in(paths[3])
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    paths[2].unlink()
    found = inspect(tmp_path, DISK, SCHEMA)
    assert [fault.file for fault in found.faults] == [paths[1].name, paths[2].name]
    assert found.lost_frames == beyond - last_good - 1
    repair(tmp_path, DISK, SCHEMA)
    assert_repaired(tmp_path, range(last_good + 1, beyond))


def test_a_file_that_is_no_segment_is_moved_aside(tmp_path):
    write_log(tmp_path)
    foreign = tmp_path / "00000002.seg"
    foreign.write_bytes(b"id,price\n1,2\n")
    found = inspect(tmp_path, DISK, SCHEMA)
    assert found.condition is Condition.DAMAGED
    assert found.faults[0].reason.startswith("it is no segment: it starts with b'id,p'")
    assert found.lost_frames == 0
    assert repair(tmp_path, DISK, SCHEMA).kept == ("00000002.seg.damaged",)
    assert (tmp_path / "00000002.seg.damaged").read_bytes() == b"id,price\n1,2\n"
    assert_repaired(tmp_path, ())


def test_a_log_of_a_newer_build_is_not_repaired(tmp_path):
    newer = type(SCHEMA)("trial", SCHEMA.version + 1, 4)
    write_log(tmp_path, schema=newer)
    before = contents(tmp_path)
    assert inspect(tmp_path, DISK, SCHEMA).condition is Condition.UNREADABLE
    with pytest.raises(Corrupt, match="run the newest build"):
        repair(tmp_path, DISK, SCHEMA)
    assert contents(tmp_path) == before


def test_a_log_that_is_written_is_not_repaired(tmp_path):
    with (
        SegmentWriter(tmp_path, RealDisk(), SCHEMA),
        pytest.raises(NotReady, match="another writer has this log open"),
    ):
        repair(tmp_path, RealDisk(), SCHEMA)


@pytest.mark.parametrize("part", [0.02, 0.5, 0.98])
def test_a_damaged_archive_keeps_what_comes_before_the_damage(tmp_path, part):
    paths = write_log(tmp_path, segment_bytes_max=300)
    compress(DISK, paths[1])
    archive = tmp_path / (paths[1].name + ".gz")
    packed = bytearray(archive.read_bytes())
    packed[int(len(packed) * part)] ^= 0x55
    archive.write_bytes(packed)
    first, beyond = first_sequence_in(paths[0]), first_sequence_in(paths[2])
    with pytest.raises(Corrupt, match="archive"):
        recover(tmp_path, DISK, SCHEMA)
    found = inspect(tmp_path, DISK, SCHEMA)
    assert found.condition is Condition.DAMAGED
    assert any("the archive is damaged" in fault.reason for fault in found.faults)
    done = repair(tmp_path, DISK, SCHEMA)
    assert done.kept == (archive.name + ".damaged",)
    assert not archive.exists()
    assert_repaired(tmp_path, range(beyond - found.lost_frames, beyond))
    assert found.lost_frames <= beyond - first


def test_every_kill_of_a_repair_leaves_a_log_that_it_repairs(tmp_path):
    class Killed(Exception):
        pass

    class DyingDisk(UnsyncedDisk):
        def __init__(self, calls):
            self.calls = calls

        def __getattribute__(self, name):
            got = super().__getattribute__(name)
            if name in {"write", "rename", "link", "remove", "open_append", "fsync_folder"}:
                if self.calls == 0:
                    raise Killed
                self.calls -= 1
            return got

    for calls in range(40):
        folder = tmp_path / str(calls)
        paths = write_log(folder, segment_bytes_max=300)
        lost = [first_sequence_in(paths[1]), first_sequence_in(paths[2])]
        for path in paths[1:3]:
            damaged = bytearray(path.read_bytes())
            damaged[frame_ends(path, first_sequence_in(path))[0] + 3] ^= 1
            path.write_bytes(damaged)
        try:
            repair(folder, DyingDisk(calls), SCHEMA)
        except Killed:
            repair(folder, DISK, SCHEMA)
            assert_repaired(folder, lost)
        else:
            assert calls >= 8
            break
    else:
        pytest.fail("the repair never came to its end")


def test_after_a_repair_the_budgets_are_cautious_and_keep_their_bound(tmp_path):
    """Each frame of a log of money is lost in turn; the recorder that replays the rest is sane."""
    limit = 10_000

    def play(folder):
        with SegmentWriter(folder, DISK, EVENT_LOG) as log:
            core = recorder({1: limit}, log=log)
            for n in range(12):
                core.take_bids(bid_event(n, reserved=100, deadline_ms=50 + n), n)
                if n % 3 == 0:
                    core.step(n)
                core.commit()
            core.step(55)
            core.commit()
        return log.durable_sequence

    play(tmp_path / "whole")
    (path,) = (tmp_path / "whole").glob("*.seg")
    starts = [
        piece.start for piece in walk(
            tmp_path / "whole", DISK, EVENT_LOG
        ) if piece.kind in {RECORDS, CONTROL}
    ]  # fmt: skip
    assert len(starts) == 14
    for lost, start in enumerate(starts[:-1], 1):
        folder = tmp_path / str(lost)
        folder.mkdir()
        damaged = bytearray(path.read_bytes())
        damaged[start + 30] ^= 1
        (folder / path.name).write_bytes(damaged)
        found = repair(folder, DISK, EVENT_LOG).found
        assert (found.faults[0].first_sequence, found.lost_frames) == (lost, 1)
        core = recorder({})
        recover(folder, DISK, EVENT_LOG, replay=core.replay)
        with SegmentWriter(folder, DISK, EVENT_LOG) as log:
            core.write_to(log)
            core.take_snapshot(snapshot_of({1: limit}))
            assert core.view(0).lost_frames == 1
            for worker in core.ledger.workers():
                core.close_worker(worker, 0)
            for now in (60, 70, 80):
                core.step(now)
                (total,) = core.ledger.totals()
                assert total.spent_on_time_micros + total.held_micros <= limit
                assert core.ledger.missing_leases() == ()


def test_a_damaged_run_is_inspected_repaired_and_started_again_by_its_commands(tmp_path):
    def command(name):
        return subprocess.run(
            [sys.executable, "-m", "lodestone", "ledger", name, str(tmp_path / "run"), "--json"],
            cwd=REPOSITORY, capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    place = Place(tmp_path / "run").start()
    for number in range(3):
        place.worker().events.push(bid_event(number, bid_ms=1, deadline_ms=2**60))
        assert place.bill(number, 10, bid_ms=1, deadline_ms=2**60) == 200
    place.stop()
    (path,) = place.deployment.segment_folder.glob("*.seg")
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    process = place.spawn()
    assert process.wait(60) == 2
    assert b"lodestone ledger inspect" in process.communicate()[1]
    shown = command("inspect")
    assert shown.returncode == 2
    assert json.loads(shown.stdout)["condition"] == "damaged"
    assert b"the log is damaged" in shown.stderr
    assert path.read_bytes() == damaged
    done = json.loads(command("repair").stdout)
    assert done["rewritten"] == [path.name]
    assert done["found"]["lost_frames"] == 1
    assert command("inspect").returncode == 0
    assert place.start().ledger().lost_frames == 1
    place.stop()
