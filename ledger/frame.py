"""The frame: how the segment log lies on disk, and which bytes of a file are a good frame.

A frame, little-endian::

    magic 4 | kind u8 | 0 u8 | schema version u16 | body length u32 | sequence u64 | crc u32 | body

The CRC-32 covers everything but itself. A segment file starts with a frame of kind ``HEADER``;
its body is format version u16, size of a record u32, name of the schema, and its sequence is the
one that the first data frame after it has. Data frames are ``RECORDS`` (packed fixed-width records
of one schema version) or ``CONTROL`` (one opaque message); their sequences count up by one.

It deliberately knows the size of a record and never its fields: ``market.events`` reads those.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from typing import TYPE_CHECKING, Final

import msgspec

from ledger.archive import open_source
from market.errors import BadInput, Corrupt, NotReady

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from ledger.archive import Archives
    from ledger.disk import Disk

FORMAT_VERSION: Final = 1
MAGIC: Final = b"\xf5LSG"
"""0xF5 occurs in no UTF-8 text, so no name or JSON message can look like the start of a frame."""

HEADER: Final = 0
RECORDS: Final = 1
CONTROL: Final = 2

BODY_BYTES_MAX: Final = 16 << 20
"""A longer body is refused, so that a damaged length cannot ask for gigabytes."""

REMEDY: Final = (
    "nothing was changed; restore it from a copy before starting again, or see what is lost with "
    "`lodestone ledger inspect`"
)

_HEAD: Final = struct.Struct("<4sBxHIQ")
_CRC: Final = struct.Struct("<I")
_FILE_HEAD: Final = struct.Struct("<HI")
FRAME_OVERHEAD_BYTES: Final = _HEAD.size + _CRC.size

_WINDOW_BYTES: Final = 1 << 20
"""Bytes read from the disk at once, or one frame where that is longer."""


class Schema(msgspec.Struct, frozen=True):
    """What a log's bodies are made of: the caller's current version of the record.

    Logs of an older version are read, and written on in a new file. A log with a newer one, or
    with the same version and another ``record_bytes``, is refused.

    Raises:
        BadInput: a field is out of range.
    """

    name: str
    """1 to 64 bytes of UTF-8; two logs with different names are never read as each other."""
    version: int
    """1 to 65535."""
    record_bytes: int
    """Size of one record; 0 for a log that holds control messages only."""

    def __post_init__(self) -> None:
        """Checks the ranges that the file format gives."""
        if not 1 <= len(self.name.encode()) <= 64:
            raise BadInput(f"schema name {self.name!r}: it must be 1 to 64 bytes long")
        if not 1 <= self.version <= 0xFFFF:
            raise BadInput(f"schema {self.name!r}: version {self.version} must be in 1..65535")
        if not 0 <= self.record_bytes <= BODY_BYTES_MAX:
            raise BadInput(
                f"schema {self.name!r}: record_bytes {self.record_bytes} "
                f"must be in 0..{BODY_BYTES_MAX}"
            )


class Frame(msgspec.Struct, frozen=True):
    """One frame as it lies in the log."""

    sequence: int
    kind: int
    """``RECORDS`` or ``CONTROL``."""
    schema_version: int
    """The version the body was written in, which may be older than the reader's."""
    body: bytes


def frame_head(kind: int, schema_version: int, sequence: int, body: bytes) -> bytes:
    """Returns the bytes that precede ``body`` on disk."""
    head = _HEAD.pack(MAGIC, kind, schema_version, len(body), sequence)
    return head + _CRC.pack(zlib.crc32(body, zlib.crc32(head)))


def file_head(schema: Schema, first_sequence: int) -> bytes:
    """Returns the header frame of a file whose first data frame has ``first_sequence``."""
    body = _FILE_HEAD.pack(FORMAT_VERSION, schema.record_bytes) + schema.name.encode()
    return frame_head(HEADER, schema.version, first_sequence, body) + body


def parse_frame(data: bytes, at: int) -> Frame | str:
    """Returns the whole good frame at ``data[at:]``, or why there is none."""
    body_at = at + FRAME_OVERHEAD_BYTES
    if body_at > len(data):
        return "the frame's head is cut short"
    magic, kind, schema_version, length, sequence = _HEAD.unpack_from(data, at)
    if magic != MAGIC:
        return "no frame starts here"
    if length > BODY_BYTES_MAX:
        return f"the body's length is {length}, above {BODY_BYTES_MAX}"
    if body_at + length > len(data):
        return "the frame's body is cut short"
    body = data[body_at : body_at + length]
    (crc,) = _CRC.unpack_from(data, at + _HEAD.size)
    if crc != zlib.crc32(body, zlib.crc32(data[at : at + _HEAD.size])):
        return "the checksum does not match"
    return Frame(sequence=sequence, kind=kind, schema_version=schema_version, body=body)


def header_trouble(found: Frame, schema: Schema) -> str:
    """Returns why a segment with this good header is none of this log or build; "" if it is one."""
    format_version, record_bytes = _FILE_HEAD.unpack_from(found.body)
    if format_version > FORMAT_VERSION:
        return (
            f"format version {format_version}; this build reads up to {FORMAT_VERSION}, run the "
            "build that wrote it or a newer one"
        )
    name = found.body[_FILE_HEAD.size :].decode(errors="backslashreplace")
    if name != schema.name:
        return (
            f"it belongs to a log of {name!r}, this one is of {schema.name!r}; move the file out "
            "of the folder"
        )
    if found.schema_version > schema.version:
        return (
            f"schema {name!r} version {found.schema_version}; this build reads up to "
            f"{schema.version}, run the build that wrote it or a newer one"
        )
    if found.schema_version == schema.version and record_bytes != schema.record_bytes:
        return (
            f"records of {record_bytes} bytes under schema {name!r} version {schema.version}, "
            f"which has {schema.record_bytes} in this build; a changed record needs a new version"
        )
    return ""


class SegmentFile:
    """One segment file open for reading, walked frame by frame; a context manager.

    ``next_frame`` stops at the end of the file or at a ``fault``: bytes that are no good frame.
    Whether a fault is a torn tail or damage is told by ``refuse_damage``.

    Attributes:
        path: The file.
        size: Its length when it was opened, unpacked.
        offset: Where the next frame starts.
        sequence: What the next frame's sequence must be; None when nothing told yet.
        fault: Why there is no frame at ``offset`` although there should be; None at a clean end.
        before: Offset and head of the frame that ends at ``offset``.
        schema_version: The version in the file's header; 0 when that was not read.
    """

    def __init__(
        self,
        disk: Disk,
        path: Path,
        schema: Schema,
        *,
        sequence: int | None = None,
        archives: Archives | None = None,
    ) -> None:
        """Opens ``path``, or its archive where there is only that.

        Args:
            disk: the disk it lies on.
            path: of the segment, without the ending of an archive.
            schema: of the log.
            sequence: what its first frame must have, where that is known.
            archives: where unpacked archives are kept from one opening to the next.

        Raises:
            NotReady: the disk refuses.
            Corrupt: the archive cannot be unpacked.
        """
        self.path = path
        self.offset = 0
        self.sequence = sequence
        self.fault: str | None = None
        self.before = (0, b"")
        self.schema_version = 0
        self._schema = schema
        self._window = b""
        self._window_offset = 0
        with disk_errors_of(path, "opening the segment to read"):
            self._source = open_source(disk, path, archives)
        with disk_errors_of(path, "asking the segment's size"):
            self.size = self._source.size()

    @property
    def is_archive(self) -> bool:
        """Whether it was compressed, and can neither be torn nor appended to."""
        return self._source.is_archive

    def __enter__(self) -> SegmentFile:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self._source.close()

    def resume(self, offset: int, before: tuple[int, bytes]) -> None:
        """Goes to ``offset``, where an earlier walk of this file stopped after ``before``.

        Raises:
            Corrupt: another frame lies there now.
            NotReady: the file has become shorter than that.
        """
        before_at, head = before
        if self.size < offset:
            raise NotReady(
                f"{self.path}: it is {self.size} bytes long and was read up to {offset}; a commit "
                "failed and is to be written again, or unsynced frames were lost; retry"
            )
        if self._read(before_at, len(head)) != head:
            raise Corrupt(
                f"{self.path}: the frame at offset {before_at} was replaced after it was read, so "
                "what was read was never durable; load again from the oldest sequence"
            )
        self.offset = offset
        self.before = before

    def read_file_head(self) -> bool:
        """Reads the header frame, if that is what comes next; False when it is not whole.

        Raises:
            Corrupt: the file is no segment of this log, or of a version this build cannot read.
        """
        if self.offset > 0:
            return True
        found = self._parse_at(0)
        if isinstance(found, str):
            self.fault = found
            start = self._read(0, len(MAGIC))
            # A torn header is a beginning of ours, with zeros where only the length got to disk.
            if not MAGIC.startswith(start.rstrip(b"\0")):
                raise Corrupt(f"{self.path}: it starts with {start!r}, no segment does; {REMEDY}")
            return False
        self._check_file_head(found)
        self._step_over(found)
        self.sequence = found.sequence
        self.schema_version = found.schema_version
        return True

    def next_frame(self) -> Frame | None:
        """Returns the next data frame; None at the end of the file or at a fault.

        Raises:
            Corrupt: a good frame that does not belong here: a gap in the sequences, a version or a
                kind from the future.
        """
        if not self.read_file_head() or self.offset == self.size:
            return None
        found = self._parse_at(self.offset)
        if isinstance(found, str):
            self.fault = found
            return None
        at = f"{self.path} at offset {self.offset}"
        if found.kind not in {RECORDS, CONTROL}:
            raise Corrupt(f"{at}: kind {found.kind} of frame is not known; {REMEDY}")
        self._check_version(found)
        if found.sequence != self.sequence:
            raise Corrupt(
                f"{at}: the frame has sequence {found.sequence}, and {self.sequence} must come "
                f"next; {REMEDY}"
            )
        self._step_over(found)
        self.sequence = found.sequence + 1
        return found

    def refuse_damage(self, *, is_last: bool) -> None:
        """Returns where ``fault`` is None or may be a torn tail of the log.

        Args:
            is_last: No later file exists. A file is complete on disk before the next is created,
                so that only the last one can have a torn tail.

        Raises:
            Corrupt: it is damage.
        """
        if self.fault is None:
            return
        later = None if is_last else "a later segment exists"
        if is_last and (at := self._offset_of_later_frame()) is not None:
            # Seen while the writer cut and rewrote a failed commit? Then the frame is good by now.
            self._window = b""
            if isinstance(self._parse_at(self.offset), Frame):
                return
            later = f"a good frame follows at offset {at}"
        if later is not None:
            raise Corrupt(
                f"{self.path} at offset {self.offset}: {self.fault}, and {later}, so this is no "
                f"torn write but damage inside the log; {REMEDY}"
            )

    def _offset_of_later_frame(self) -> int | None:
        start = self.offset + 1
        with disk_errors_of(self.path, "reading the segment"):
            data = self._source.read(max(self.size - start, 0), start)
        at = data.find(MAGIC)
        while at >= 0:
            found = parse_frame(data, at)
            # A frame of an earlier sequence would be a copy inside the torn frame's body.
            if isinstance(found, Frame) and found.sequence >= (self.sequence or 0):
                return start + at
            at = data.find(MAGIC, at + 1)
        return None

    def _check_file_head(self, found: Frame) -> None:
        if found.kind != HEADER:
            raise Corrupt(f"{self.path}: it starts with a frame that is no header; {REMEDY}")
        if trouble := header_trouble(found, self._schema):
            raise Corrupt(f"{self.path}: {trouble}")
        if self.sequence is not None and found.sequence != self.sequence:
            raise Corrupt(
                f"{self.path}: it starts at sequence {found.sequence}, and {self.sequence} must "
                f"come next; {REMEDY}"
            )

    def _check_version(self, found: Frame) -> None:
        if found.schema_version > self._schema.version:
            raise Corrupt(
                f"{self.path} at offset {self.offset}: schema {self._schema.name!r} version "
                f"{found.schema_version}; this build reads up to {self._schema.version}, run the "
                "build that wrote it or a newer one"
            )

    def _step_over(self, found: Frame) -> None:
        self.before = (self.offset, self._read(self.offset, FRAME_OVERHEAD_BYTES))
        self.offset += FRAME_OVERHEAD_BYTES + len(found.body)
        self.fault = None

    def _parse_at(self, offset: int) -> Frame | str:
        head = self._read(offset, FRAME_OVERHEAD_BYTES)
        if len(head) == FRAME_OVERHEAD_BYTES and head.startswith(MAGIC):
            length: int = _HEAD.unpack_from(head)[3]
            self._fill(offset, FRAME_OVERHEAD_BYTES + min(length, BODY_BYTES_MAX))
        return parse_frame(self._window, offset - self._window_offset)

    def _read(self, offset: int, count: int) -> bytes:
        """Returns ``count`` bytes at ``offset``, or fewer at the end of the file."""
        self._fill(offset, count)
        at = offset - self._window_offset
        return self._window[at : at + count]

    def _fill(self, offset: int, count: int) -> None:
        window_end = self._window_offset + len(self._window)
        if self._window_offset <= offset and offset + count <= window_end:
            return
        count = max(min(max(count, _WINDOW_BYTES), self.size - offset), 0)
        with disk_errors_of(self.path, "reading the segment"):
            self._window = self._source.read(count, offset)
        self._window_offset = offset


@contextlib.contextmanager
def disk_errors_of(path: Path, action: str) -> Generator[None]:
    """Turns an OSError into a NotReady that names the file and what was tried."""
    try:
        yield
    except OSError as error:
        raise NotReady(f"{path}: {action} failed: {reason_of(error)}; retry") from error


def reason_of(error: OSError) -> str:
    """Returns what the system says about ``error``, in words."""
    return error.strerror or str(error)
