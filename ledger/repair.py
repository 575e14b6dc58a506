"""Repair: makes a damaged log readable again, and says in the log itself what is lost.

Every frame that is still good stays, under its sequence. In the place of each lost one comes a
frame that says so (``ledger.lease.FramesLost``), so that sequences still count without a gap and
whoever replays the log knows. Files are rewritten beside the old ones, which are kept as
``*.damaged``: nothing that was on disk is thrown away.

What a lost frame charged is missing from the budgets afterwards, and may be spent a second time.
``lodestone ledger reconcile`` finds it in the exchange's bill and books it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ledger.archive import archive_path
from ledger.disk import write_whole
from ledger.folder import archived_indices, lock_folder, segment_path
from ledger.frame import (
    CONTROL,
    HEADER,
    disk_errors_of,
    file_head,
    frame_head,
)
from ledger.inspection import (
    BAD,
    Condition,
    Inspection,
    Piece,
    inspect,
    losses_of,
    read_segment,
    walk,
)
from ledger.lease import FramesLost, encode_message
from market.errors import Corrupt

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.disk import Disk
    from ledger.frame import Schema


class Repair(msgspec.Struct, frozen=True):
    """What a repair found and did.

    Attributes:
        found: the log before it.
        rewritten: names of the segments that were made anew.
        kept: names under which the damaged ones are still there.
    """

    found: Inspection
    rewritten: tuple[str, ...]
    kept: tuple[str, ...]


def repair(folder: Path, disk: Disk, schema: Schema) -> Repair:
    """Makes a damaged log one that a recorder starts on; a whole or torn one is left as it is.

    It can be killed at any moment and run again: each file is replaced at once.

    Raises:
        Corrupt: it cannot be repaired: a newer build wrote it, or its first frames are gone.
        NotReady: a recorder has the log open, or the disk refuses.
    """
    lock = lock_folder(folder, disk)
    try:
        found = inspect(folder, disk, schema)
        if found.condition is Condition.UNREADABLE:
            raise Corrupt(
                f"{folder}: a frame or file is of a newer build or of another log; run the newest "
                "build, or move the other log's file away (`lodestone ledger inspect` names it)"
            )
        if found.condition is not Condition.DAMAGED:
            return Repair(found, (), ())
        if found.lacks_start:
            raise Corrupt(
                f"{folder}: its first segments are gone and no checkpoint stands for them, so what "
                "the budgets spent is not known; restore them from a copy"
            )
        contents = _contents(folder, disk, schema)
        kept = [_replace(folder, disk, index, content) for index, content in contents]
        return Repair(
            found,
            tuple(segment_path(folder, index).name for index, _ in contents),
            tuple(name for name in kept if name),
        )
    finally:
        disk.close(lock)


def _contents(folder: Path, disk: Disk, schema: Schema) -> list[tuple[int, bytes]]:
    """Returns the new bytes of every segment that needs some, oldest first."""
    pieces = list(walk(folder, disk, schema))
    losses, _ = losses_of(pieces, archived_indices(folder, disk))
    # Which frames are to be filled in, by the piece in whose place they come.
    fills: dict[tuple[int, int], tuple[int, int]] = {}
    touched: set[int] = set()
    for loss in losses:
        at = loss.at
        if at.kind == HEADER:
            # Missing between two files: at the end of the earlier one, or there is none.
            position = pieces.index(at)
            at = pieces[position - 1] if position else at
            fills[at.segment, at.end] = loss.first_sequence, loss.last_sequence
        else:
            fills[at.segment, at.start] = loss.first_sequence, loss.last_sequence
        touched.add(at.segment)
        for other in loss.others:
            # Nothing comes in its place, but its segment's header may have to be made anew.
            none = loss.last_sequence + 1, loss.last_sequence
            fills.setdefault((other.segment, other.start), none)
            touched.add(other.segment)
    return [
        (index, _content(folder, disk, schema, index, pieces, fills)) for index in sorted(touched)
    ]


def _content(
    folder: Path,
    disk: Disk,
    schema: Schema,
    index: int,
    pieces: list[Piece],
    fills: dict[tuple[int, int], tuple[int, int]],
) -> bytes:
    own = [piece for piece in pieces if piece.segment == index]
    data = read_segment(folder, disk, index)[0] if own[-1].end else b""
    body: list[bytes] = []
    firsts: list[int] = []
    for start in sorted({piece.start for piece in own} | {own[-1].end}):
        filled = fills.pop((index, start), None)
        if filled:
            body += _filling(schema, *filled)
            firsts.append(filled[0])
        for piece in own:
            if piece.start == start and piece.kind != BAD:
                firsts.append(piece.sequence)
                if piece.kind != HEADER:
                    body.append(data[piece.start : piece.end])
    return b"".join((file_head(schema, min(firsts)), *body))


def _filling(schema: Schema, first: int, last: int) -> list[bytes]:
    body = encode_message(FramesLost(first, last))
    return [
        part
        for sequence in range(first, last + 1)
        for part in (frame_head(CONTROL, schema.version, sequence, body), body)
    ]


def _replace(folder: Path, disk: Disk, index: int, content: bytes) -> str:
    """Puts ``content`` in the segment's place; returns the name under which the old one is kept."""
    path = segment_path(folder, index)
    archive = archive_path(path)
    kept = ""
    with disk_errors_of(path, "replacing the damaged segment"):
        is_archive = not disk.exists(path) and disk.exists(archive)
        old = archive if is_archive else path
        if disk.exists(old):
            target = old.with_name(f"{old.name}.damaged")
            number = 1
            while disk.exists(target):
                number += 1
                target = old.with_name(f"{old.name}.damaged-{number}")
            disk.link(old, target)
            kept = target.name
        write_whole(disk, path, content)
        if is_archive:
            disk.remove(archive)
            disk.fsync_folder(folder)
    return kept
