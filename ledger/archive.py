"""Archives: closed segments, compressed, and read as if they were not.

``00000001.seg`` becomes ``00000001.seg.gz``, an ordinary gzip file of the very same bytes. The
archive is complete on disk, and was unpacked and compared, before the segment's own name goes;
where both are there (a crash in between), the segment counts. The newest is never an archive.

gzip, and not something better, because the recorder replays archives and may hold no library.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from ledger.disk import read_whole, write_all
from market.errors import Corrupt, NotReady

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.disk import Disk

ARCHIVE_SUFFIX: Final = ".gz"

SEGMENT_BYTES_MAX: Final = 1 << 28
"""More than this is unpacked of no archive, so that a damaged one cannot ask for all memory."""

_GZIP: Final = 31
_LEVEL: Final = 1
"""Level 6 takes four times as long for a tenth less; both leave about a third of an event log."""


class Source:
    """The bytes of a segment, from its file."""

    is_archive = False

    def __init__(self, disk: Disk, descriptor: int) -> None:
        """Takes an open descriptor over."""
        self._disk = disk
        self._descriptor = descriptor

    def size(self) -> int:
        """Returns how many there are now."""
        return self._disk.size(self._descriptor)

    def read(self, count: int, offset: int) -> bytes:
        """Returns up to ``count`` bytes at ``offset``."""
        return self._disk.read(self._descriptor, count, offset)

    def close(self) -> None:
        """Closes the file."""
        self._disk.close(self._descriptor)


class _Unpacked(Source):
    """The bytes of a segment, from its archive."""

    is_archive = True

    def __init__(self, content: bytes) -> None:
        self._content = content

    def size(self) -> int:
        return len(self._content)

    def read(self, count: int, offset: int) -> bytes:
        return self._content[offset : offset + count]

    def close(self) -> None:
        pass


class Archives:
    """Unpacks archives, and keeps the last one: a reader opens a file once for every read."""

    def __init__(self) -> None:
        """Has unpacked nothing yet."""
        self._kept: tuple[Path, bytes] | None = None

    def unpack(self, disk: Disk, path: Path) -> bytes:
        """Returns the segment in the archive ``path``.

        Raises:
            Corrupt: it is damaged.
            OSError: it is not there, or the disk refuses.
        """
        if self._kept is None or self._kept[0] != path:
            self._kept = path, unpacked(path, read_whole(disk, path))
        return self._kept[1]


def archive_path(path: Path) -> Path:
    """Returns where the archive of the segment ``path`` lies."""
    return path.with_name(path.name + ARCHIVE_SUFFIX)


def has_segment(disk: Disk, path: Path) -> bool:
    """Returns whether there is a segment at ``path``, compressed or not."""
    return disk.exists(path) or disk.exists(archive_path(path))


def open_source(disk: Disk, path: Path, archives: Archives | None) -> Source:
    """Opens the segment ``path``, or its archive.

    Raises:
        Corrupt: there is only an archive, and it is damaged.
        OSError: there is neither, or the disk refuses.
    """
    try:
        return Source(disk, disk.open_read(path))
    except FileNotFoundError:
        # Compressed since its name was read, or long ago.
        if not disk.exists(archive_path(path)):
            raise
    return _Unpacked((archives or Archives()).unpack(disk, archive_path(path)))


def unpacked(path: Path, content: bytes) -> bytes:
    """Returns what the gzip file ``content`` holds.

    Raises:
        Corrupt: it is no whole gzip file, or holds more than a segment can be.
    """
    stream = zlib.decompressobj(_GZIP)
    try:
        data = stream.decompress(content, SEGMENT_BYTES_MAX)
    except zlib.error as error:
        raise Corrupt(
            f"{path}: the archive is damaged ({error}); restore it from a copy, or see what is "
            "lost with `lodestone ledger inspect`"
        ) from error
    if not stream.eof or stream.unused_data:
        raise Corrupt(
            f"{path}: {len(content)} bytes are no whole archive of at most {SEGMENT_BYTES_MAX}; "
            "restore it from a copy, or see what is lost with `lodestone ledger inspect`"
        )
    return data


def compress(disk: Disk, path: Path) -> int:
    """Replaces the closed segment ``path`` by its archive; returns how many bytes that saved.

    The caller knows that the segment is closed and good.

    Raises:
        NotReady: the disk refuses; the segment is still there.
    """
    target = archive_path(path)
    temporary = target.with_name(target.name + ".tmp")
    try:
        whole = read_whole(disk, path)
        stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        packed = stream.compress(whole) + stream.flush()
        descriptor = disk.open_append(temporary, is_new=True)
        try:
            write_all(disk, descriptor, packed)
            disk.fdatasync(descriptor)
        finally:
            disk.close(descriptor)
        if unpacked(temporary, read_whole(disk, temporary)) != whole:
            raise NotReady(f"{temporary}: it does not hold what was written; the segment is kept")
        disk.rename(temporary, target)
        disk.fsync_folder(path.parent)
        disk.remove(path)
        disk.fsync_folder(path.parent)
    except OSError as error:
        raise NotReady(f"{path}: compressing it failed: {error}; the segment is kept") from error
    return len(whole) - len(packed)
