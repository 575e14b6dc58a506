"""Archives, checkpoints and retention: older files go, and a recorder starts as if they had not."""

from __future__ import annotations

import gzip

import pytest

from ledger.archive import compress
from ledger.checkpoint import checkpoint_sequences, read_checkpoint, rebuild
from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.frame import SegmentFile
from ledger.inspection import Condition, inspect
from ledger.log_retention import retain
from ledger.record import Recorder
from ledger.segment import RECORDS, SegmentReader, SegmentWriter, recover
from market.errors import Corrupt, NotReady
from market.events import EventKind, read_events
from market.exchange import DEFAULT_EXCHANGES
from tests.ledger.bids import bid_event, fingerprint, notice, recorder
from tests.ledger.logs import (
    FRAME_COUNT,
    SCHEMA,
    FullDisk,
    UnsyncedDisk,
    assert_true_prefix,
    flipped,
    read_all,
    replayed,
    write_log,
)

DISK = UnsyncedDisk()


def test_an_archive_is_a_gzip_file_of_the_segment_and_is_read_like_it(tmp_path):
    paths = write_log(tmp_path, segment_bytes_max=300)
    whole = [path.read_bytes() for path in paths]
    reader = SegmentReader(tmp_path, DISK, SCHEMA)
    seen = reader.read(400)
    for path in paths[:-1]:
        saved = compress(DISK, path)
        archive = tmp_path / f"{path.name}.gz"
        assert saved == len(whole[paths.index(path)]) - archive.stat().st_size
        assert not path.exists()
    packed = [gzip.decompress((tmp_path / f"{path.name}.gz").read_bytes()) for path in paths[:-1]]
    assert packed == whole[:-1]
    assert_true_prefix(seen + read_all(reader))  # a reader in the middle goes on
    _, frames = replayed(tmp_path, expected_sequence=FRAME_COUNT)
    assert_true_prefix(frames)
    for start in range(1, FRAME_COUNT + 1):
        assert SegmentReader(tmp_path, DISK, SCHEMA, start).read(10)[0].sequence == start
    assert inspect(tmp_path, DISK, SCHEMA).condition is Condition.WHOLE


def test_a_log_whose_newest_segment_was_compressed_by_hand_goes_on_in_a_new_one(tmp_path):
    paths = write_log(tmp_path, segment_bytes_max=300)
    compress(DISK, paths[-1])
    _, frames = replayed(tmp_path, expected_sequence=FRAME_COUNT)
    assert_true_prefix(frames)
    with SegmentWriter(tmp_path, DISK, SCHEMA) as writer:
        assert writer.append(2, b"more") == FRAME_COUNT + 1
        writer.commit()
        assert writer.path.name == f"{len(paths) + 1:08d}.seg"
    assert replayed(tmp_path)[0].last_sequence == FRAME_COUNT + 1


def test_every_flipped_bit_of_an_archive_is_refused(tmp_path):
    paths = write_log(tmp_path, segment_bytes_max=300)
    compress(DISK, paths[1])
    archive = tmp_path / f"{paths[1].name}.gz"
    harmless = refused = 0
    for _ in flipped(archive):
        try:
            _, frames = replayed(tmp_path)
        except Corrupt:
            refused += 1
            continue
        # Bits that say nothing of the content, such as the time in gzip's header.
        assert_true_prefix(frames)
        harmless += 1
    assert refused > 15 * harmless > 0
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(Corrupt, match="no whole archive"):
        recover(tmp_path, DISK, SCHEMA)


def test_a_disk_that_is_full_keeps_the_segment(tmp_path):
    paths = write_log(tmp_path, segment_bytes_max=300)
    before = paths[0].read_bytes()
    with pytest.raises(NotReady, match="the segment is kept"):
        compress(FullDisk(20), paths[0])
    assert paths[0].read_bytes() == before
    assert_true_prefix(replayed(tmp_path)[1])


def play(folder, *, until=60):
    """A log of bids and notices over several segments; returns its core."""
    core = recorder({1: 10**6, 2: 10**6}, log=(log := writer_of(folder)))
    with log:
        for n in range(until):
            budgets = (1, 2) if n % 3 else (1,)
            core.take_bids(bid_event(n, budgets=budgets, deadline_ms=n + 15, bid_ms=n), n)
            if n >= 5 and n % 2:
                core.take_notice(notice(EventKind.BILLING, n - 5, n, 60))
            if n >= 9 and n % 4 == 0:
                core.take_notice(notice(EventKind.LOSS, n - 9, n, 10))
            if n >= 9 and n % 5 == 0:
                core.take_notice(notice(EventKind.CONVERSION, n - 9, n, order_id=f"o{n}"))
            core.step(n)
    return core


def writer_of(folder):
    return SegmentWriter(folder, DISK, EVENT_LOG, segment_bytes_max=4_000)


def core_of(folder):
    core = Recorder(DEFAULT_EXCHANGES, 1)
    recovery = rebuild(core, folder, DISK)
    return core, recovery


def retained(folder, **rest):
    asked = {"handled_sequence": 2**40, "oldest_ms": 2**40, **rest}
    return retain(folder, DISK, DEFAULT_EXCHANGES, **asked)


def test_what_is_handled_and_old_goes_and_a_recorder_starts_as_if_it_had_not(tmp_path):
    play(tmp_path)
    whole, _ = core_of(tmp_path)
    count = len(list(tmp_path.glob("*.seg")))
    assert count > 5
    done = retained(tmp_path, oldest_ms=40)
    assert 2 < len(done.removed) < count - 1
    assert len(done.removed) + len(done.compressed) == count - 1
    assert len(list(tmp_path.glob("*.seg"))) == 1
    assert checkpoint_sequences(tmp_path, DISK) == [done.checkpoint_sequence]
    again, recovery = core_of(tmp_path)
    assert fingerprint(again) == fingerprint(whole)
    assert recovery.frames < whole.sequence == again.sequence
    assert again.view(0).exchanges == whole.view(0).exchanges
    assert inspect(tmp_path, DISK, EVENT_LOG).condition is Condition.WHOLE
    # A second time on top of the first, and then everything that may go.
    done = retained(tmp_path)
    assert done.compressed == ()
    assert len(checkpoint_sequences(tmp_path, DISK)) == 1
    assert fingerprint(core_of(tmp_path)[0]) == fingerprint(whole)
    assert retained(tmp_path).removed == ()
    with writer_of(tmp_path) as log:
        again.write_to(log)
        again.take_bids(bid_event(500), 100)
        again.commit()
    assert core_of(tmp_path)[0].is_known(500, 501)


@pytest.mark.parametrize("why", ["not handled", "too young"])
def test_what_is_not_handled_or_too_young_is_only_compressed(tmp_path, why):
    core = play(tmp_path)
    rest = {"handled_sequence": 3} if why == "not handled" else {"oldest_ms": 0}
    done = retained(tmp_path, **rest)
    assert done.removed == ()
    assert done.checkpoint_sequence == 0
    assert len(done.compressed) > 4
    assert done.saved_bytes > 0
    assert core_of(tmp_path)[0].sequence == core.sequence


def test_a_checkpoint_is_of_the_frames_of_which_it_says_it_is(tmp_path):
    play(tmp_path)
    done = retained(tmp_path, oldest_ms=30)
    state = read_checkpoint(tmp_path, DISK)
    assert state is not None
    assert state.sequence == done.checkpoint_sequence
    first = SegmentReader(tmp_path, DISK, EVENT_LOG, state.sequence + 1).read(1)[0]
    assert first.sequence == state.sequence + 1


def test_retention_killed_anywhere_loses_nothing(tmp_path):
    class Killed(Exception):
        pass

    class DyingDisk(UnsyncedDisk):
        def __init__(self, calls):
            self.calls = calls

        def may_die(self):
            if self.calls == 0:
                raise Killed
            self.calls -= 1

        def write(self, descriptor, data):
            self.may_die()
            return super().write(descriptor, data)

        def rename(self, old, new):
            self.may_die()
            super().rename(old, new)

        def remove(self, path):
            self.may_die()
            super().remove(path)

    for calls in range(100):
        folder = tmp_path / str(calls)
        play(folder, until=30)
        want = fingerprint(core_of(folder)[0])
        try:
            retain(
                folder, DyingDisk(calls), DEFAULT_EXCHANGES, handled_sequence=2**40, oldest_ms=20
            )
        except Killed:
            assert fingerprint(core_of(folder)[0]) == want
            retained(folder, oldest_ms=20)
            assert fingerprint(core_of(folder)[0]) == want
        else:
            assert calls >= 8
            break
    else:
        pytest.fail("it never came to its end")


def test_a_damaged_checkpoint_is_refused_and_not_left_out(tmp_path):
    play(tmp_path)
    retained(tmp_path, oldest_ms=40)
    (path,) = tmp_path.glob("*.checkpoint")
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(Corrupt, match=r"checkpoint: .*restore it from a copy"):
            core_of(tmp_path)
        path.write_bytes(whole[:at])
        with pytest.raises(Corrupt, match=r"checkpoint: "):
            core_of(tmp_path)
    path.unlink()
    with pytest.raises(Corrupt, match="older segments are missing"):
        core_of(tmp_path)


def test_a_damaged_segment_is_neither_removed_nor_compressed(tmp_path):
    play(tmp_path)
    first = min(tmp_path.glob("*.seg"))
    damaged = bytearray(first.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    first.write_bytes(damaged)
    with pytest.raises(Corrupt, match="00000001"):
        retained(tmp_path)
    assert first.read_bytes() == damaged
    assert list(tmp_path.glob("*.checkpoint")) == []


def test_a_reader_goes_on_when_the_segment_that_it_has_read_to_its_end_is_gone(tmp_path):
    play(tmp_path)
    whole = SegmentReader(tmp_path, DISK, EVENT_LOG).read(1 << 30)
    paths = sorted(tmp_path.glob("*.seg"))
    with SegmentFile(DISK, paths[3], EVENT_LOG) as segment:
        segment.read_file_head()
        end = segment.sequence - 1
    reader = SegmentReader(tmp_path, DISK, EVENT_LOG)
    seen = reader.read(1 << 30, end)
    assert seen[-1].sequence == end
    done = retain(tmp_path, DISK, DEFAULT_EXCHANGES, handled_sequence=end, oldest_ms=2**40)
    assert done.removed == tuple(path.name for path in paths[:3])
    assert seen + reader.read(1 << 30) == whole


def test_a_recorder_is_not_disturbed_while_its_old_segments_go(tmp_path):
    core = recorder({1: 10**6}, log=(log := SegmentWriter(tmp_path, RealDisk(), EVENT_LOG, 4_000)))
    with log:
        for n in range(40):
            core.take_bids(bid_event(n, deadline_ms=n + 5, bid_ms=n), n)
            core.step(n)
            if n % 10 == 9:
                retained(tmp_path, oldest_ms=n - 5)
    assert (
        fingerprint(core_of(tmp_path)[0])[0][0].held_micros == core.ledger.totals()[0].held_micros
    )
    left = SegmentReader(
        tmp_path, DISK, EVENT_LOG, checkpoint_sequences(tmp_path, DISK)[-1] + 1
    ).read(1 << 30)
    bids = [read_events(f.body, f.schema_version)["bid_hi"][0] for f in left if f.kind == RECORDS]
    assert bids == list(range(40 - len(bids), 40))
