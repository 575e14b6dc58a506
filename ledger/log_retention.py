"""Retention: closed segments are compressed, and go once a checkpoint stands for them.

A segment goes when it is closed, when whoever follows the log has handled all of it (the store's
cursor, the shipper's), and when its newest event is older than asked for. Before any goes, a
checkpoint (``ledger.checkpoint``) of everything up to the last of them is on disk. It is made by
replaying the log, here, so that the recorder is not asked and may run meanwhile: only files that it
never touches again are looked at.

What it deliberately does not do: it reads no clock, and it never touches the newest segment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ledger.archive import archive_path, compress
from ledger.checkpoint import checkpoint_sequences, read_checkpoint, write_checkpoint
from ledger.event_log import EVENT_LOG
from ledger.folder import (
    CHECKPOINT_SUFFIX,
    archived_indices,
    first_sequence,
    segment_indices,
    segment_path,
)
from ledger.frame import RECORDS, SegmentFile, disk_errors_of
from ledger.record import Recorder
from market.events import read_events

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ledger.checkpoint import RecorderState
    from ledger.disk import Disk
    from ledger.frame import Frame
    from market.exchange import ExchangeProfile


class Retention(msgspec.Struct, frozen=True):
    """What was done.

    Attributes:
        removed: names of the segments that are gone.
        compressed: names of the segments that became archives.
        saved_bytes: by compression.
        checkpoint_sequence: last frame that the newest checkpoint stands for; 0 = there is none.
    """

    removed: tuple[str, ...]
    compressed: tuple[str, ...]
    saved_bytes: int
    checkpoint_sequence: int


def retain(
    folder: Path,
    disk: Disk,
    exchanges: Sequence[ExchangeProfile],
    *,
    handled_sequence: int,
    oldest_ms: int,
) -> Retention:
    """Compresses what is closed, and removes what is handled and older than ``oldest_ms``.

    It can be killed at any moment and run again. One at a time for a log.

    Args:
        folder: The event log; its recorder may be running.
        disk: The disk it lies on.
        exchanges: The deployment's profiles, as the recorder has them.
        handled_sequence: Up to which frame every follower has handled the log.
        oldest_ms: Segments whose newest event was received before this may go.

    Raises:
        Corrupt: the log is damaged; nothing was removed.
        NotReady: the disk refuses.
    """
    closed = segment_indices(folder, disk)[:-1]
    removable = _removable(folder, disk, closed, handled_sequence, oldest_ms)
    removed: list[str] = []
    if removable:
        state = _replayed(folder, disk, exchanges, removable)
        write_checkpoint(folder, disk, state)
        removed = _remove(folder, disk, removable, state.sequence)
    packed = archived_indices(folder, disk)
    left = [index for index in closed if index not in set(removable) and index not in packed]
    saved = sum(compress(disk, segment_path(folder, index)) for index in left)
    return Retention(
        removed=tuple(removed),
        compressed=tuple(segment_path(folder, index).name for index in left),
        saved_bytes=saved,
        checkpoint_sequence=max(checkpoint_sequences(folder, disk), default=0),
    )


def _removable(
    folder: Path, disk: Disk, closed: list[int], handled_sequence: int, oldest_ms: int
) -> list[int]:
    """Returns the oldest segments that may go, up to the first that may not."""
    found: list[int] = []
    for index in closed:
        if first_sequence(disk, segment_path(folder, index + 1), EVENT_LOG) > handled_sequence + 1:
            break
        newest_ms = -(2**63)
        with SegmentFile(disk, segment_path(folder, index), EVENT_LOG) as segment:
            while (frame := segment.next_frame()) is not None:
                if frame.kind == RECORDS:
                    received = read_events(frame.body, frame.schema_version)["recv_ms"]
                    newest_ms = max(newest_ms, int(received.max()))
            segment.refuse_damage(is_last=False)
        if newest_ms >= oldest_ms:
            break
        found.append(index)
    return found


def _replayed(
    folder: Path, disk: Disk, exchanges: Sequence[ExchangeProfile], indices: list[int]
) -> RecorderState:
    """Returns what everything up to the last of these segments comes to."""
    core = Recorder(exchanges, 1)
    before = read_checkpoint(folder, disk)
    if before is not None:
        core.restore(before)

    def take(frame: Frame) -> None:
        if frame.sequence > core.sequence:
            core.replay(frame)

    sequence: int | None = None
    for index in indices:
        path = segment_path(folder, index)
        with SegmentFile(disk, path, EVENT_LOG, sequence=sequence) as segment:
            while (frame := segment.next_frame()) is not None:
                take(frame)
            segment.refuse_damage(is_last=False)
            sequence = segment.sequence
    return core.state()


def _remove(folder: Path, disk: Disk, indices: list[int], sequence: int) -> list[str]:
    """Removes segments, oldest first, and the checkpoints before ``sequence``."""
    names: list[str] = []
    with disk_errors_of(folder, "removing old segments"):
        for index in indices:
            path = segment_path(folder, index)
            for each in (path, archive_path(path)):
                if disk.exists(each):
                    disk.remove(each)
                    names.append(each.name)
            # One by one: a power cut may bring any unsynced name back, and must leave no gap.
            disk.fsync_folder(folder)
        for older in checkpoint_sequences(folder, disk):
            if older < sequence:
                disk.remove(folder / f"{older}{CHECKPOINT_SUFFIX}")
        disk.fsync_folder(folder)
    return names
