"""The disk as an argument: the system calls that durable files need, so that tests can break them.

It deliberately has no notion of what is written; ``ledger.segment`` decides that, and when to sync.
"""

from __future__ import annotations

import fcntl
import os
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class Disk(Protocol):
    """The system calls a log makes; each may raise OSError, as the real ones do."""

    def list_names(self, folder: Path) -> list[str]:
        """Returns the names in ``folder``; none when there is no folder."""
        ...

    def make_folder(self, folder: Path) -> None:
        """Creates ``folder`` durably, with its parents, where it is missing."""
        ...

    def lock(self, folder: Path) -> int:
        """Returns a descriptor that holds the folder's only lock until it is closed."""
        ...

    def exists(self, path: Path) -> bool:
        """Returns whether there is a file at ``path``."""
        ...

    def open_read(self, path: Path) -> int:
        """Returns a descriptor for reading."""
        ...

    def open_append(self, path: Path, *, is_new: bool) -> int:
        """Returns a descriptor for appending; ``is_new`` creates the file, and empties it."""
        ...

    def close(self, descriptor: int) -> None:
        """Closes ``descriptor``."""
        ...

    def size(self, descriptor: int) -> int:
        """Returns the length of the file in bytes."""
        ...

    def read(self, descriptor: int, count: int, offset: int) -> bytes:
        """Returns up to ``count`` bytes from ``offset``; fewer only at the end of the file."""
        ...

    def write(self, descriptor: int, data: memoryview) -> int:
        """Appends some of ``data`` and returns how many bytes."""
        ...

    def truncate(self, descriptor: int, size: int) -> None:
        """Cuts the file to ``size`` bytes."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Gives a file another name at once; what had that name before is gone."""
        ...

    def link(self, old: Path, new: Path) -> None:
        """Gives a file a second name, which no other file may have."""
        ...

    def remove(self, path: Path) -> None:
        """Takes a file's name away, and the file with its last name."""
        ...

    def fdatasync(self, descriptor: int) -> None:
        """Returns when the file's bytes and length are on disk."""
        ...

    def fsync_folder(self, folder: Path) -> None:
        """Returns when the folder's entries are on disk."""
        ...


class RealDisk:
    """The disk of this machine."""

    def list_names(self, folder: Path) -> list[str]:
        """See ``Disk``."""
        return os.listdir(folder) if folder.exists() else []  # noqa: PTH208 - names are asked for

    def make_folder(self, folder: Path) -> None:
        """See ``Disk``."""
        if not folder.is_dir():
            self.make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            self.fsync_folder(folder.parent)

    def lock(self, folder: Path) -> int:
        """See ``Disk``; by ``flock``, which ends with the process, however it ends."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def exists(self, path: Path) -> bool:
        """See ``Disk``."""
        return path.exists()

    def open_read(self, path: Path) -> int:
        """See ``Disk``."""
        return os.open(path, os.O_RDONLY)

    def open_append(self, path: Path, *, is_new: bool) -> int:
        """See ``Disk``."""
        new = os.O_CREAT | os.O_TRUNC if is_new else 0
        return os.open(path, os.O_WRONLY | os.O_APPEND | new, 0o644)

    def close(self, descriptor: int) -> None:
        """See ``Disk``."""
        os.close(descriptor)

    def size(self, descriptor: int) -> int:
        """See ``Disk``."""
        return os.fstat(descriptor).st_size

    def read(self, descriptor: int, count: int, offset: int) -> bytes:
        """See ``Disk``; one ``pread`` is short only at the end of a regular file."""
        return os.pread(descriptor, count, offset)

    def write(self, descriptor: int, data: memoryview) -> int:
        """See ``Disk``."""
        return os.write(descriptor, data)

    def truncate(self, descriptor: int, size: int) -> None:
        """See ``Disk``."""
        os.ftruncate(descriptor, size)

    def rename(self, old: Path, new: Path) -> None:
        """See ``Disk``."""
        old.rename(new)

    def link(self, old: Path, new: Path) -> None:
        """See ``Disk``."""
        new.hardlink_to(old)

    def remove(self, path: Path) -> None:
        """See ``Disk``."""
        path.unlink()

    def fdatasync(self, descriptor: int) -> None:
        """See ``Disk``; macOS has no fdatasync, and its fsync does not reach the platter."""
        if sys.platform == "darwin":
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(descriptor)

    def fsync_folder(self, folder: Path) -> None:
        """See ``Disk``."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_whole(disk: Disk, path: Path, content: bytes) -> None:
    """Writes a file so that after any crash it is the old one or the new one, never part of it.

    Raises:
        OSError: the disk refuses; the old file is still there.
    """
    temporary = path.with_name(path.name + ".tmp")
    descriptor = disk.open_append(temporary, is_new=True)
    try:
        write_all(disk, descriptor, content)
        disk.fdatasync(descriptor)
    finally:
        disk.close(descriptor)
    disk.rename(temporary, path)
    disk.fsync_folder(path.parent)


def write_all(disk: Disk, descriptor: int, content: bytes | memoryview) -> None:
    """Appends all of ``content``, in as many writes as the disk takes it."""
    view = memoryview(content)
    written = 0
    while written < len(view):
        written += disk.write(descriptor, view[written:])


def read_whole(disk: Disk, path: Path) -> bytes:
    """Returns all of a file.

    Raises:
        OSError: it is not there, or the disk refuses.
    """
    descriptor = disk.open_read(path)
    try:
        return disk.read(descriptor, disk.size(descriptor), 0)
    finally:
        disk.close(descriptor)
