"""Inspection: what a segment log holds and what it lacks, byte for byte, without changing any.

A log is whole, torn (its last file ends in the middle of a frame, as a crash leaves it: the next
start cuts that), or damaged: good frames come after bad bytes, after a gap or after a missing file.
``ledger.repair`` makes a damaged log readable again; this says beforehand what that would lose.
"""

from __future__ import annotations

import enum
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ledger.archive import archive_path
from ledger.checkpoint import checkpoint_sequences
from ledger.disk import read_whole
from ledger.event_log import EVENT_LOG
from ledger.folder import archived_indices, foreign_names, listed_indices, segment_path
from ledger.frame import (
    CONTROL,
    FRAME_OVERHEAD_BYTES,
    HEADER,
    MAGIC,
    RECORDS,
    Frame,
    disk_errors_of,
    header_trouble,
    parse_frame,
)
from market.events import read_events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ledger.disk import Disk
    from ledger.frame import Schema

BAD: Final = -1
"""Kind of a piece that is no good frame."""

_GZIP: Final = 31
_CHUNK_BYTES: Final = 1 << 16


class Condition(enum.Enum):
    """What must be done about a log before it can be written again."""

    WHOLE = "whole"
    TORN = "torn"
    """Nothing: the next start cuts the torn tail, which was never acknowledged."""
    DAMAGED = "damaged"
    """Restore the files from a copy, or repair the log and lose what is listed."""
    UNREADABLE = "unreadable"
    """Run the build that wrote it, or take another log's file out; a repair would be wrong."""


class Piece(NamedTuple):
    """Consecutive bytes of one (unpacked) segment: a header, a frame, or bytes that are neither.

    Attributes:
        segment: its number.
        start, end: where its bytes lie; equal where something is missing.
        kind: of the frame, or ``BAD``.
        sequence: of the frame; 0 of a bad piece.
        reason: what is wrong, of a bad piece.
        is_foreign: written by a newer build, or for another log.
        records: how many records the frame has.
        first_ms, last_ms: when its first and last event were received; 0 where it has none.
    """

    segment: int
    start: int
    end: int
    kind: int
    sequence: int = 0
    reason: str = ""
    is_foreign: bool = False
    records: int = 0
    first_ms: int = 0
    last_ms: int = 0


class Fault(msgspec.Struct, frozen=True):
    """Bytes that are no good frame where one must be, or frames that are not there at all.

    Attributes:
        file: name of the segment.
        offset: where it begins, in the unpacked segment.
        byte_count: how many bytes are bad; 0 where frames are simply missing.
        reason: what is wrong.
        first_sequence, last_sequence: of the frames that are lost; 0 where none is.
        events_max: so many events at most can have been in the bad bytes.
        after_ms, before_ms: when the events around it were received; 0 where nothing tells.
    """

    file: str
    offset: int
    byte_count: int
    reason: str
    first_sequence: int
    last_sequence: int
    events_max: int
    after_ms: int
    before_ms: int

    @property
    def lost_frames(self) -> int:
        """How many frames are lost by it."""
        return self.last_sequence - self.first_sequence + 1 if self.first_sequence else 0


class SegmentReport(msgspec.Struct, frozen=True):
    """One segment: how much of it is good; sequences are 0 where it has no good frame."""

    file: str
    is_archive: bool
    byte_count: int
    frames: int
    records: int
    first_sequence: int
    last_sequence: int


class Inspection(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        condition: what must be done.
        segments: in order.
        faults: in order of the log.
        torn_bytes: length of the torn tail.
        lost_frames: frames that are lost, as far as anything tells.
        foreign_names: files in the folder that are none of the log's.
        lacks_start: its first segments are gone, and no checkpoint stands for them.
    """

    condition: Condition
    segments: tuple[SegmentReport, ...]
    faults: tuple[Fault, ...]
    torn_bytes: int
    lost_frames: int
    foreign_names: tuple[str, ...]
    lacks_start: bool


class Loss(NamedTuple):
    """Frames that are lost, and the piece in whose place they were.

    Attributes:
        at: the bad piece, or the piece before which frames are missing.
        first_sequence, last_sequence: of the lost frames; last < first where none is lost.
        others: further bad pieces of the same stretch.
    """

    at: Piece
    first_sequence: int
    last_sequence: int
    others: tuple[Piece, ...]


def inspect(folder: Path, disk: Disk, schema: Schema) -> Inspection:
    """Returns what the log in ``folder`` holds and lacks; no byte is changed.

    Raises:
        NotReady: the disk refuses.
    """
    pieces = list(walk(folder, disk, schema))
    archived = archived_indices(folder, disk)
    losses, tail = losses_of(pieces, archived)
    times = _Times(pieces)
    faults = [
        fault
        for loss in losses
        for fault in _faults_of(folder, loss, schema, times)
    ]  # fmt: skip
    missing = _missing_start(folder, disk, pieces)
    faults += missing
    condition = Condition.DAMAGED if faults else Condition.TORN if tail else Condition.WHOLE
    if any(piece.is_foreign for piece in pieces):
        condition = Condition.UNREADABLE
    return Inspection(
        condition=condition,
        segments=_segments(folder, pieces, archived),
        faults=tuple(faults),
        torn_bytes=tail.end - tail.start if tail else 0,
        lost_frames=sum(fault.lost_frames for fault in faults),
        foreign_names=foreign_names(folder, disk),
        lacks_start=bool(missing),
    )


def walk(folder: Path, disk: Disk, schema: Schema) -> Iterator[Piece]:
    """Yields every piece of the log, in order; a missing segment is a bad piece without bytes.

    Raises:
        NotReady: the disk refuses.
    """
    indices = listed_indices(folder, disk)
    known = set(indices)
    expected = 1
    for index in range(indices[0], indices[-1] + 1) if indices else ():
        if index not in known:
            yield Piece(index, 0, 0, BAD, reason="the segment is missing")
            continue
        pieces = list(_pieces_of(folder, disk, schema, index, expected))
        if not pieces and index != indices[-1]:
            pieces = [Piece(index, 0, 0, BAD, reason="the segment is empty")]
        for piece in pieces:
            if piece.kind not in {BAD, HEADER}:
                expected = piece.sequence + 1
            yield piece


def losses_of(pieces: list[Piece], archived: set[int]) -> tuple[list[Loss], Piece | None]:
    """Returns what is lost, and the torn tail if there is one.

    Args:
        pieces: of the whole log.
        archived: segments that are archives, which cannot be torn.
    """
    losses: list[Loss] = []
    waiting: list[Piece] = []
    # The first segment of all starts at 1; after retention only its header tells.
    expected = 1 if pieces and pieces[0].segment == 1 else 0
    for piece in pieces:
        if piece.kind == BAD:
            waiting.append(piece)
            continue
        expected = expected or piece.sequence
        if waiting or piece.sequence > expected:
            at, *others = waiting or [piece]
            losses.append(Loss(at, expected, piece.sequence - 1, tuple(others)))
            waiting = []
        expected = piece.sequence + (piece.kind != HEADER)
    tail = None
    if waiting and waiting[-1] == pieces[-1] and waiting[-1].segment not in archived:
        last = waiting[-1]
        if not last.reason.startswith(_NO_SEGMENT) and last.end > last.start:
            tail = waiting.pop()
    if waiting:
        at, *others = waiting
        losses.append(Loss(at, expected, expected - 1, tuple(others)))
    return losses, tail


_NO_SEGMENT: Final = "it is no segment"


def read_segment(folder: Path, disk: Disk, index: int) -> tuple[bytes, str]:
    """Returns the bytes of a segment, of a damaged archive those before the damage, and its fault.

    Raises:
        NotReady: the disk refuses.
    """
    path = segment_path(folder, index)
    with disk_errors_of(path, "reading the segment"):
        if disk.exists(path):
            return read_whole(disk, path), ""
        packed = read_whole(disk, archive_path(path))
    stream = zlib.decompressobj(_GZIP)
    parts: list[bytes] = []
    try:
        for at in range(0, len(packed), _CHUNK_BYTES):
            # One by one: what came before the damage is kept.
            parts += [stream.decompress(packed[at : at + _CHUNK_BYTES])]
    except zlib.error as error:
        return b"".join(parts), f"the archive is damaged: {error}"
    return b"".join(parts), "" if stream.eof else "the archive is cut short"


def _pieces_of(
    folder: Path, disk: Disk, schema: Schema, index: int, expected: int
) -> Iterator[Piece]:
    data, trouble = read_segment(folder, disk, index)
    at = 0
    while at < len(data):
        found = _piece_at(data, at, index, expected, schema)
        if found.kind == BAD and not found.is_foreign:
            end = _next_good(data, at + 1, expected)
            found = found._replace(end=end)
        if found.kind not in {BAD, HEADER}:
            expected = found.sequence + 1
        yield found
        at = found.end
    if trouble:
        yield Piece(index, len(data), len(data), BAD, reason=trouble)


def _piece_at(data: bytes, at: int, index: int, expected: int, schema: Schema) -> Piece:
    found = parse_frame(data, at)
    if isinstance(found, str):
        start = data[at : at + len(MAGIC)]
        if at == 0 and not MAGIC.startswith(start.rstrip(b"\0")):
            found = f"{_NO_SEGMENT}: it starts with {start!r}"
        return Piece(index, at, len(data), BAD, reason=found)
    end = at + FRAME_OVERHEAD_BYTES + len(found.body)
    bad = Piece(index, at, end, BAD)
    if (found.kind == HEADER) != (at == 0):
        return bad._replace(
            reason="no header starts the segment" if at == 0 else "a header inside the segment"
        )
    if found.kind == HEADER:
        if trouble := header_trouble(found, schema):
            return bad._replace(reason=trouble, is_foreign=True)
    elif found.kind not in {RECORDS, CONTROL} or found.schema_version > schema.version:
        told = f"kind {found.kind}, schema version {found.schema_version}: of a newer build"
        return bad._replace(reason=told, is_foreign=True)
    if found.sequence < expected:
        return bad._replace(
            reason=f"sequence {found.sequence} comes after {expected - 1}: a copy of an older frame"
        )
    return _good(found, index, at, end, schema)


def _good(found: Frame, index: int, at: int, end: int, schema: Schema) -> Piece:
    records = first_ms = last_ms = 0
    if found.kind == RECORDS and schema.record_bytes:
        records = len(found.body) // schema.record_bytes
        if schema.name == EVENT_LOG.name:
            received = read_events(found.body, found.schema_version)["recv_ms"]
            records = received.shape[0]
            first_ms, last_ms = int(received[0]), int(received[-1])
    return Piece(
        index, at, end, found.kind, found.sequence, records=records, first_ms=first_ms,
        last_ms=last_ms,
    )  # fmt: skip


def _next_good(data: bytes, start: int, expected: int) -> int:
    """Returns where the next frame starts that can belong here; the end where there is none."""
    at = data.find(MAGIC, start)
    while at >= 0:
        found = parse_frame(data, at)
        if isinstance(found, Frame) and found.kind != HEADER and found.sequence >= expected:
            return at
        at = data.find(MAGIC, at + 1)
    return len(data)


class _Times:
    """When the events around a place of the log were received."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._told = [piece for piece in pieces if piece.last_ms]

    def around(self, at: Piece) -> tuple[int, int]:
        place = at.segment, at.start
        before = [piece for piece in self._told if (piece.segment, piece.start) < place]
        after = [piece for piece in self._told if (piece.segment, piece.start) >= place]
        return before[-1].last_ms if before else 0, after[0].first_ms if after else 0


def _faults_of(folder: Path, loss: Loss, schema: Schema, times: _Times) -> Iterator[Fault]:
    is_lost = loss.last_sequence >= loss.first_sequence
    for position, piece in enumerate((loss.at, *loss.others)):
        is_bad = piece.kind == BAD
        byte_count = piece.end - piece.start if is_bad else 0
        after_ms, before_ms = times.around(piece)
        counts = is_lost and position == 0
        yield Fault(
            file=segment_path(folder, piece.segment).name,
            offset=piece.start,
            byte_count=byte_count,
            reason=piece.reason if is_bad else "frames are missing before it",
            first_sequence=loss.first_sequence if counts else 0,
            last_sequence=loss.last_sequence if counts else 0,
            events_max=byte_count // schema.record_bytes if schema.record_bytes else 0,
            after_ms=after_ms,
            before_ms=before_ms,
        )


def _missing_start(folder: Path, disk: Disk, pieces: list[Piece]) -> list[Fault]:
    """Returns the fault of a log whose first frames are neither there nor in a checkpoint."""
    first = next((piece.sequence for piece in pieces if piece.kind != BAD), 1)
    if not pieces or pieces[0].segment == 1:
        return []
    if any(sequence + 1 >= first for sequence in checkpoint_sequences(folder, disk)):
        return []
    name = segment_path(folder, pieces[0].segment).name
    reason = "older segments are missing, and no checkpoint stands for them"
    return [Fault(name, 0, 0, reason, 1, first - 1, 0, 0, 0)]


def _segments(folder: Path, pieces: list[Piece], archived: set[int]) -> tuple[SegmentReport, ...]:
    by_index: dict[int, list[Piece]] = {}
    for piece in pieces:
        by_index.setdefault(piece.segment, []).append(piece)
    reports: list[SegmentReport] = []
    for index, own in by_index.items():
        good = [piece for piece in own if piece.kind not in {BAD, HEADER}]
        reports.append(
            SegmentReport(
                file=segment_path(folder, index).name,
                is_archive=index in archived,
                byte_count=own[-1].end,
                frames=len(good),
                records=sum(piece.records for piece in good),
                first_sequence=good[0].sequence if good else 0,
                last_sequence=good[-1].sequence if good else 0,
            )
        )
    return tuple(reports)
