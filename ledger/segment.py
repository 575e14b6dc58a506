"""The segment log: what happened, in order, on disk before anyone is told that it happened.

A log is a folder of files ``00000001.seg``, ``00000002.seg``, ... of frames (``ledger.frame``),
whose sequences count 1, 2, 3, ... through the whole log. What holds:

- ``SegmentWriter.commit`` returns only when its frames are on disk; a commit lies in one file, and
  a file is complete on disk before the next one is created.
- ``recover`` cuts a torn tail and nothing else. A bad frame with a good one anywhere after it, a
  gap in the sequences, a missing file, or less than was acked: ``Corrupt``, and no byte is changed.
  A disk that persists the blocks of one unfinished commit out of order can leave, after a power
  cut, a bad frame before a good one; this is refused as well, because it looks the same as damage.
- One writer at a time, by a lock on the folder that the operating system drops with the process.

What it deliberately does not do: it deletes nothing (retention belongs to whoever ships the log;
the newest file must stay, it holds the sequence), it knows no event, and it reads no clock.
A writer or reader belongs to one thread. The disk is an argument, so that tests can break it.
"""

from __future__ import annotations

import contextlib
import sys
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

import msgspec

from ledger.archive import Archives
from ledger.disk import Disk, RealDisk, write_all
from ledger.folder import (
    OwnerEpoch,
    first_sequence,
    foreign_names,
    lock_folder,
    segment_indices,
    segment_path,
)
from ledger.frame import (
    BODY_BYTES_MAX,
    CONTROL,
    FRAME_OVERHEAD_BYTES,
    RECORDS,
    REMEDY,
    Frame,
    Schema,
    SegmentFile,
    disk_errors_of,
    file_head,
    frame_head,
    reason_of,
)
from ledger.reader import SegmentReader
from market.errors import BadInput, Corrupt, NotReady

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

__all__ = [
    "CONTROL",
    "RECORDS",
    "Disk",
    "Frame",
    "RealDisk",
    "Recovery",
    "Schema",
    "SegmentReader",
    "SegmentWriter",
    "recover",
]


class Recovery(msgspec.Struct, frozen=True):
    """What ``recover`` found and did."""

    frames: int
    """How many whole frames the log holds."""
    cut_bytes: int
    """Length of the torn tail that was cut; 0 after an orderly stop."""
    cut_file: str | None
    """Name of the file it was cut from."""
    last_sequence: int
    """Sequence of the last whole frame; 0 for an empty log."""
    foreign_names: tuple[str, ...] = ()
    """Files in the folder that are none of the log's: left alone, and told."""


class SegmentWriter:
    """Appends frames to a log; nothing is durable before ``commit`` returns.

    It takes up where the last segment ends, and starts a new file when that one is full or was
    written with an older schema. Use it as a context manager, or call ``close``.
    """

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        schema: Schema,
        segment_bytes_max: int = 64 << 20,
        pending_bytes_max: int = 32 << 20,
    ) -> None:
        """Locks the folder (created where missing) and finds the end of the log.

        Args:
            folder: The log; call ``recover`` on it first.
            disk: The disk to write to.
            schema: What the bodies are made of.
            segment_bytes_max: A commit that would make a file longer starts a new one; a single
                commit that is longer than this gets a file of its own.
            pending_bytes_max: Bound on frames not yet committed, so that a full disk fills no
                memory.

        Raises:
            NotReady: another process writes this log, its tail is torn (``recover`` was not run),
                or the disk refuses.
            Corrupt: the last segments are damaged, or the schema does not fit.
        """
        self._folder = folder
        self._disk = disk
        self._schema = schema
        self._segment_bytes_max = segment_bytes_max
        self._pending_bytes_max = pending_bytes_max
        self._pending: list[bytes] = []
        self._pending_frames = 0
        self._pending_bytes = 0
        self._is_torn = False
        with disk_errors_of(folder, "creating the log's folder"):
            disk.make_folder(folder)
        with contextlib.ExitStack() as undo:
            self._lock = lock_folder(folder, disk)
            undo.callback(disk.close, self._lock)
            self.epoch: Final = OwnerEpoch(folder, disk)
            """Which owner of the log this is."""
            self._index, self._bytes, next_sequence = _end_of_log(folder, disk, schema)
            self._durable_sequence = next_sequence - 1
            self._next_sequence = next_sequence
            with disk_errors_of(self.path, "opening the segment to append to"):
                self._file = disk.open_append(self.path, is_new=self._bytes == 0)
            undo.callback(disk.close, self._file)
            if self._bytes:
                # What a killed writer left may be in the cache only, and counts as durable here.
                with disk_errors_of(self.path, "syncing the segment to append to"):
                    disk.fdatasync(self._file)
                    disk.fsync_folder(folder)
            undo.pop_all()

    @property
    def path(self) -> Path:
        """The segment that the last commit went to."""
        return segment_path(self._folder, self._index)

    @property
    def durable_sequence(self) -> int:
        """Sequence of the last frame that is on disk; 0 when none is."""
        return self._durable_sequence

    @property
    def pending_bytes(self) -> int:
        """Bytes of the frames appended and not yet committed."""
        return self._pending_bytes

    def append(self, kind: int, body: bytes) -> int:
        """Returns the sequence that ``body`` will have once committed.

        Args:
            kind: ``RECORDS`` or ``CONTROL``.
            body: Whole records of the schema's ``record_bytes``, or one message.

        Raises:
            BadInput: the body does not fit the kind, or is empty, or is too long.
            NotReady: ``pending_bytes_max`` is reached; nothing was appended.
        """
        self._check_body(kind, body)
        if self._pending_bytes + FRAME_OVERHEAD_BYTES + len(body) > self._pending_bytes_max:
            raise NotReady(
                f"{self.path}: {self._pending_bytes} bytes wait for a commit and {len(body)} more "
                f"were given; at most {self._pending_bytes_max} may wait, commit first"
            )
        sequence = self._next_sequence
        head = frame_head(kind, self._schema.version, sequence, body)
        self._pending += (head, body)
        self._pending_frames += 1
        self._pending_bytes += len(head) + len(body)
        self._next_sequence += 1
        return sequence

    def commit(self) -> int:
        """Puts everything appended so far on disk and returns the highest durable sequence.

        Raises:
            NotReady: the disk refused. The file is cut back to its last durable frame, and the
                frames are kept for the next commit; a process that dies before that may or may
                not leave them in the log.
            Corrupt: the log has another owner by now; nothing was written.
        """
        if not self._pending:
            return self._durable_sequence
        try:
            self.epoch.check()
            self._write_group()
        except OSError as error:
            raise NotReady(
                f"{self.path}: committing {self._pending_frames} frames ({self._pending_bytes} "
                f"bytes) failed: {reason_of(error)}; nothing may be acked before a commit, "
                f"so the frames are kept and {self._cut_torn_part()}"
            ) from error
        self._durable_sequence = self._next_sequence - 1
        self._pending = []
        self._pending_frames = 0
        self._pending_bytes = 0
        return self._durable_sequence

    def close(self) -> None:
        """Closes the files and lets the lock go; what was not committed is dropped."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                self._disk.close(descriptor)
        self._file = self._lock = -1

    def __enter__(self) -> SegmentWriter:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes."""
        self.close()

    def _check_body(self, kind: int, body: bytes) -> None:
        size = self._schema.record_bytes
        if kind not in {RECORDS, CONTROL}:
            raise BadInput(
                f"frame kind {kind}: it must be {RECORDS} (records) or {CONTROL} (control)"
            )
        if not 0 < len(body) <= BODY_BYTES_MAX:
            raise BadInput(f"frame body of {len(body)} bytes: it must be 1 to {BODY_BYTES_MAX}")
        if kind == RECORDS and (size == 0 or len(body) % size):
            raise BadInput(
                f"frame body of {len(body)} bytes: schema {self._schema.name!r} version "
                f"{self._schema.version} has records of {size} bytes, and a body holds whole ones"
            )

    def _write_group(self) -> None:
        if self._is_torn:
            self._disk.truncate(self._file, self._bytes)
            self._is_torn = False
        if self._bytes and self._bytes + self._pending_bytes > self._segment_bytes_max:
            self._roll()
        is_new = self._bytes == 0
        head = file_head(self._schema, self._durable_sequence + 1) if is_new else b""
        group = memoryview(b"".join((head, *self._pending)))
        self._is_torn = True
        write_all(self._disk, self._file, group)
        self._disk.fdatasync(self._file)
        if is_new:
            self._disk.fsync_folder(self._folder)
        self._is_torn = False
        self._bytes += len(group)

    def _roll(self) -> None:
        # A cut after a failed commit must reach the disk before the next file repeats its frames.
        self._disk.fdatasync(self._file)
        file = self._disk.open_append(segment_path(self._folder, self._index + 1), is_new=True)
        full, self._file = self._file, file
        self._index += 1
        self._bytes = 0
        self._disk.close(full)

    def _cut_torn_part(self) -> str:
        """Returns what became of the torn part, for the message of the error that tore it.

        Cutting is also right after a failed fdatasync: the kernel may have marked the pages clean,
        so that only writing them again makes the next fdatasync mean something.
        """
        if self._is_torn:
            try:
                self._disk.truncate(self._file, self._bytes)
            except OSError as error:
                return f"the next commit must cut the torn part first ({reason_of(error)})"
            self._is_torn = False
        return f"the file is {self._bytes} bytes long as before"


def recover(
    folder: Path,
    disk: Disk,
    schema: Schema,
    *,
    expected_sequence: int = 0,
    oldest_sequence: int = 1,
    replay: Callable[[Frame], None] | None = None,
) -> Recovery:
    """Checks the whole log, cuts a torn tail, syncs what it keeps, and returns what it found.

    Args:
        folder: The log; a missing folder is an empty log.
        disk: The disk it lies on.
        schema: The newest schema the caller understands.
        expected_sequence: The highest sequence known elsewhere to have been acked. Without it, a
            bit flipped in the very last frame cannot be told from a torn write.
        oldest_sequence: The oldest frame that must still be there. Files with older frames only
            are not looked at, and retention may have removed them.
        replay: Called with every whole frame in order, as a log can be larger than memory. When
            this function raises, what was replayed must be thrown away.

    Raises:
        Corrupt: damage that is no torn tail; the message says where. No byte was changed.
        NotReady: a writer has the log open, or the disk refuses.
    """
    if not segment_indices(folder, disk):
        _check_acked(folder, 0, max(expected_sequence, oldest_sequence - 1))
        return Recovery(
            frames=0, cut_bytes=0, cut_file=None, last_sequence=0,
            foreign_names=foreign_names(folder, disk),
        )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.callback(disk.close, lock_folder(folder, disk))
        # Listed again: before the lock, a writer could still have added a file.
        indices = _needed(segment_indices(folder, disk), folder, disk, schema, oldest_sequence)
        frames = 0
        sequence: int | None = None
        for index in indices[:-1]:
            with SegmentFile(
                disk, segment_path(folder, index), schema, sequence=sequence
            ) as segment:
                frames += _walk(segment, replay, oldest_sequence)
                segment.refuse_damage(is_last=False)
                sequence = segment.sequence
        path = segment_path(folder, indices[-1])
        with SegmentFile(disk, path, schema, sequence=sequence) as segment:
            frames += _walk(segment, replay, oldest_sequence)
            segment.refuse_damage(is_last=not segment.is_archive)
            last_sequence = _next_sequence_after(segment, indices[-1]) - 1
            _check_acked(path, last_sequence, max(expected_sequence, oldest_sequence - 1))
            kept, cut_bytes = segment.offset, segment.size - segment.offset
            is_archive = segment.is_archive
        with disk_errors_of(path, "cutting the torn tail and syncing the rest"):
            if not is_archive:
                file = disk.open_append(path, is_new=False)
                stack.callback(disk.close, file)
                if cut_bytes:
                    disk.truncate(file, kept)
                # Whole frames of a commit that was never acked may be in the cache only.
                disk.fdatasync(file)
            disk.fsync_folder(folder)
    return Recovery(
        frames=frames,
        cut_bytes=cut_bytes,
        cut_file=path.name if cut_bytes else None,
        last_sequence=last_sequence,
        foreign_names=foreign_names(folder, disk),
    )


def _needed(
    indices: list[int], folder: Path, disk: Disk, schema: Schema, oldest_sequence: int
) -> list[int]:
    """Returns the segments from the one on that has ``oldest_sequence``."""
    if oldest_sequence == 1 or len(indices) == 1:
        return indices
    archives = Archives()
    found = bisect_right(
        indices,
        oldest_sequence,
        key=lambda index: first_sequence(disk, segment_path(folder, index), schema, archives),
    )
    return indices[max(0, found - 1) :]


def _walk(
    segment: SegmentFile, replay: Callable[[Frame], None] | None, oldest_sequence: int
) -> int:
    """Returns how many frames the rest of ``segment`` holds."""
    is_oldest = segment.sequence is None
    segment.read_file_head()
    if is_oldest and segment.sequence is not None and segment.sequence > oldest_sequence:
        raise Corrupt(
            f"{segment.path}: the log starts at sequence {segment.sequence}, and must start at "
            f"{oldest_sequence} or before: older segments are missing; {REMEDY}"
        )
    frames = 0
    while (frame := segment.next_frame()) is not None:
        frames += 1
        if replay is not None:
            replay(frame)
    return frames


def _next_sequence_after(segment: SegmentFile, index: int) -> int:
    """Returns the sequence that comes after a walked last segment."""
    if segment.sequence is not None:
        return segment.sequence
    if index > 1:
        raise Corrupt(
            f"{segment.path}: its header is not whole and the segment before it is gone, so the "
            f"log's sequence is lost; {REMEDY}"
        )
    return 1


def _check_acked(path: Path, last_sequence: int, expected_sequence: int) -> None:
    if last_sequence < expected_sequence:
        raise Corrupt(
            f"{path}: the log ends at sequence {last_sequence}, and {expected_sequence} was acked: "
            f"acked frames are missing; {REMEDY}"
        )


def _end_of_log(folder: Path, disk: Disk, schema: Schema) -> tuple[int, int, int]:
    """Returns where to append: index of the file, its length (0 for a new one), next sequence."""
    indices = segment_indices(folder, disk)
    if not indices:
        return 1, 0, 1
    sequence: int | None = None
    for index in indices[-2:-1]:  # the one before tells the sequence if the last is still empty
        with SegmentFile(disk, segment_path(folder, index), schema) as segment:
            _walk(segment, None, sys.maxsize)
            segment.refuse_damage(is_last=False)
            sequence = segment.sequence
    index = indices[-1]
    with SegmentFile(disk, segment_path(folder, index), schema, sequence=sequence) as segment:
        _walk(segment, None, sys.maxsize)
        segment.refuse_damage(is_last=True)
        next_sequence = _next_sequence_after(segment, index)
        if segment.offset < segment.size:
            raise NotReady(
                f"{segment.path} at offset {segment.offset}: {segment.fault}; a writer starts at a "
                "whole frame, so recover the log first"
            )
        is_closed = segment.is_archive or segment.schema_version < schema.version
        if segment.size > 0 and is_closed:
            return index + 1, 0, next_sequence
        return index, segment.size, next_sequence
