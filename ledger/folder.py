"""The folder of a segment log: names of its files, its lock, and the epoch of its owner.

Beside the segments lie ``owner.epoch``, checkpoints (``ledger.checkpoint``), what a repair kept
(``*.damaged``, ``*.torn``), and perhaps files of others, which nobody reads and which are told.

Two locks keep a log to one writer. The system's lock on the folder ends with the process, and holds
on one machine. The epoch counts owners and lies in a file: whoever opens the log raises it, and a
writer looks at it before every commit, so that an owner on a file system without such locks, or one
that was believed dead, stops as soon as there is another.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

from ledger.archive import ARCHIVE_SUFFIX
from ledger.disk import read_whole, write_whole
from ledger.frame import REMEDY, SegmentFile, disk_errors_of, reason_of
from market.errors import Corrupt, NotReady

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.archive import Archives
    from ledger.disk import Disk
    from ledger.frame import Schema

EPOCH_NAME: Final = "owner.epoch"
CHECKPOINT_SUFFIX: Final = ".checkpoint"

_NAME: Final = re.compile(r"(\d{8,})\.seg(\.gz)?")
_OURS: Final = re.compile(
    r"\d{8,}\.seg(\.gz)?(\.tmp|\.damaged(-\d+)?|\.torn(-\d+)?)?"
    r"|owner\.epoch(\.tmp)?|\d+\.checkpoint(\.tmp)?"
)


def segment_path(folder: Path, index: int) -> Path:
    """Returns where segment ``index`` lies, unless it was compressed."""
    return folder / f"{index:08d}.seg"


def segment_indices(folder: Path, disk: Disk) -> list[int]:
    """Returns the numbers of the segments, oldest first, which follow each other.

    Raises:
        Corrupt: one of them is missing.
        NotReady: the disk refuses.
    """
    indices = listed_indices(folder, disk)
    if indices and (index := indices[0]) + len(indices) - 1 != indices[-1]:
        while index in indices:
            index += 1
        raise Corrupt(
            f"{segment_path(folder, index)}: the segment is missing, and later ones exist; {REMEDY}"
        )
    return indices


def listed_indices(folder: Path, disk: Disk) -> list[int]:
    """Returns the numbers of the segments that there are, oldest first, with gaps if there are."""
    names = _names(folder, disk)
    return sorted({int(match[1]) for name in names if (match := _NAME.fullmatch(name))})


def archived_indices(folder: Path, disk: Disk) -> set[int]:
    """Returns the numbers of the segments that are there as archives only."""
    names = set(_names(folder, disk))
    return {
        int(match[1])
        for name in names
        if (match := _NAME.fullmatch(name))
        and match[2]
        and name.removesuffix(ARCHIVE_SUFFIX) not in names
    }


def foreign_names(folder: Path, disk: Disk) -> tuple[str, ...]:
    """Returns the names in the folder that are none of ours, in order."""
    return tuple(sorted(name for name in _names(folder, disk) if not _OURS.fullmatch(name)))


def first_sequence(disk: Disk, path: Path, schema: Schema, archives: Archives | None = None) -> int:
    """Returns the first sequence of a segment, as its header says.

    A segment whose header is not whole yet is the newest: everything comes before it.
    """
    with SegmentFile(disk, path, schema, archives=archives) as segment:
        segment.read_file_head()
        return sys.maxsize if segment.sequence is None else segment.sequence


def lock_folder(folder: Path, disk: Disk) -> int:
    """Returns a descriptor that holds the log's lock until it is closed.

    Raises:
        NotReady: another process has it, or the disk refuses.
    """
    try:
        return disk.lock(folder)
    except BlockingIOError as error:
        raise NotReady(
            f"{folder}: another writer has this log open; a log has one writer, stop that one first"
        ) from error
    except OSError as error:
        raise NotReady(f"{folder}: locking the log failed: {reason_of(error)}; retry") from error


class OwnerEpoch:
    """The number of this owner of a log, in order of time; a writer with an old one must stop."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        """Becomes the newest owner.

        Raises:
            NotReady: the disk refuses.
            Corrupt: the file holds no number.
        """
        self._path = folder / EPOCH_NAME
        self._disk = disk
        with disk_errors_of(self._path, "becoming the log's owner"):
            self.number = (self._read() if disk.exists(self._path) else 0) + 1
            write_whole(disk, self._path, b"%d\n" % self.number)

    def check(self) -> None:
        """Returns where there is no newer owner.

        Raises:
            Corrupt: there is one: this process must stop, and write nothing more.
            OSError: the disk refuses to say.
        """
        if (number := self._read()) != self.number:
            raise Corrupt(
                f"{self._path}: owner {number} has taken this log over from owner {self.number}; "
                "this one stops and has written nothing since. A log has one owner: see which "
                "machine runs the other"
            )

    def _read(self) -> int:
        content = read_whole(self._disk, self._path)
        if not content.strip().isdigit():
            raise Corrupt(
                f"{self._path}: {content[:20]!r} is no epoch; stop every recorder of this log and "
                "delete the file"
            )
        return int(content)


def _names(folder: Path, disk: Disk) -> list[str]:
    with disk_errors_of(folder, "listing the segments"):
        return disk.list_names(folder)
