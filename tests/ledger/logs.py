"""Small logs that say what was written to them, and disks that break: for the segment log."""

from __future__ import annotations

import errno
import os
import struct

from ledger.frame import FRAME_OVERHEAD_BYTES, file_head
from ledger.segment import CONTROL, RECORDS, RealDisk, Schema, SegmentWriter, recover
from market.errors import NotReady

SCHEMA = Schema(name="trial", version=3, record_bytes=4)
FRAME_COUNT = 30


class UnsyncedDisk(RealDisk):
    """The real disk without the wait: for tests in which neither power nor process fails."""

    def fdatasync(self, descriptor):
        pass

    def fsync_folder(self, folder):
        pass


class FullDisk(UnsyncedDisk):
    """Segments take ``room`` more bytes and then say ENOSPC, also in the middle of a write."""

    def __init__(self, room):
        self.room = room
        self.others = set()

    def open_append(self, path, *, is_new):
        descriptor = super().open_append(path, is_new=is_new)
        (self.others.discard if ".seg" in path.name else self.others.add)(descriptor)
        return descriptor

    def write(self, descriptor, data):
        if descriptor in self.others:
            return super().write(descriptor, data)
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
