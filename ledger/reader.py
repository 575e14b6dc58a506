"""The reader of a segment log: follows it from a sequence on, while it is written.

Archives are read like segments. Nothing here changes a byte.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from typing import TYPE_CHECKING

from ledger.archive import Archives, has_segment
from ledger.folder import first_sequence, segment_indices, segment_path
from ledger.frame import (
    FRAME_OVERHEAD_BYTES,
    REMEDY,
    Frame,
    Schema,
    SegmentFile,
)
from market.errors import BadInput, Corrupt, NotReady

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.disk import Disk


class SegmentReader:
    """Follows a log that may be written at this moment, from a sequence on.

    The cursor is ``next_sequence``: keep it after the frames are handled, and start from it again.
    Between reads no file is open.
    """

    def __init__(self, folder: Path, disk: Disk, schema: Schema, from_sequence: int = 1) -> None:
        """Looks at nothing yet; the log may not exist.

        Raises:
            BadInput: ``from_sequence`` is below 1.
        """
        if from_sequence < 1:
            raise BadInput(f"from_sequence {from_sequence}: sequences start at 1")
        self._folder = folder
        self._disk = disk
        self._schema = schema
        self._archives = Archives()
        self._next_sequence = from_sequence
        # Where the next frame starts: file index (0 = not looked up yet) and offset; and the frame
        # before it, to notice a log that was cut and rewritten under the cursor.
        self._index = 0
        self._offset = 0
        self._before = (0, b"")

    @property
    def next_sequence(self) -> int:
        """The cursor: sequence of the first frame not yet returned."""
        return self._next_sequence

    def read(self, max_bytes: int, durable_sequence: int | None = None) -> list[Frame]:
        """Returns the next whole frames in order; none when there is nothing new.

        Args:
            max_bytes: Bound on the sum of the frames' bytes in the log; the first frame is
                returned even where it alone is larger.
            durable_sequence: Frames after it are left for later. A reader sees what was written,
                and a machine that loses power (or a commit that fails) can take back what was not
                yet synced; the sequence is then given to another frame. A reader whose cursor
                outlives that must pass the writer's ``durable_sequence``.

        Raises:
            Corrupt: a frame is bad and later ones are good, the log no longer has or not yet has
                the cursor's frame, or frames already returned were replaced.
            NotReady: the log is shorter than what was read (a commit failed and its frames are to
                be written again), or the disk refuses.
        """
        last = sys.maxsize if durable_sequence is None else durable_sequence
        frames: list[Frame] = []
        if self._next_sequence > last:
            return frames
        if self._index and not has_segment(self._disk, segment_path(self._folder, self._index)):
            # Read to its end and removed by retention since: the next one has the cursor's frame.
            self._index, self._offset, self._before = 0, 0, (0, b"")
        if self._index == 0 and not self._find_cursor():
            return frames
        try:
            may_go_on = True
            while may_go_on and self._next_sequence <= last:
                # Asked before reading: a file is complete once the next one exists.
                is_complete = has_segment(self._disk, segment_path(self._folder, self._index + 1))
                may_go_on = self._read_file(frames, max_bytes, last, is_complete=is_complete)
                if may_go_on:
                    self._index, self._offset, self._before = self._index + 1, 0, (0, b"")
        except (Corrupt, NotReady):
            # Good frames are handed out first: the next read meets the same trouble without any.
            if not frames:
                raise
        return frames

    def _read_file(
        self, frames: list[Frame], max_bytes: int, last: int, *, is_complete: bool
    ) -> bool:
        """Adds frames of the cursor's file; returns whether to go on in the next file."""
        room = max_bytes - sum(FRAME_OVERHEAD_BYTES + len(frame.body) for frame in frames)
        path = segment_path(self._folder, self._index)
        with SegmentFile(
            self._disk, path, self._schema, sequence=self._next_sequence, archives=self._archives
        ) as segment:
            segment.resume(self._offset, self._before)
            while self._next_sequence <= last:
                frame = segment.next_frame()
                if frame is None:
                    segment.refuse_damage(is_last=not is_complete)
                    return is_complete
                room -= FRAME_OVERHEAD_BYTES + len(frame.body)
                if frames and room < 0:
                    return False
                frames.append(frame)
                self._move_to(segment, frame.sequence + 1)
        return False

    def _move_to(self, segment: SegmentFile, next_sequence: int) -> None:
        self._next_sequence = next_sequence
        self._offset = segment.offset
        self._before = segment.before

    def _find_cursor(self) -> bool:
        """Finds the cursor's file by the headers, and its place in that file; False if too early.

        Of the files before it only headers are read, and of those only log2 of their number.
        """
        indices = segment_indices(self._folder, self._disk)
        position = (
            bisect_right(
                indices,
                self._next_sequence,
                key=lambda index: first_sequence(
                    self._disk, segment_path(self._folder, index), self._schema, self._archives
                ),
            )
            - 1
        )
        if position < 0:
            if self._next_sequence == 1 and indices in ([], [1]):
                for index in indices:
                    with SegmentFile(
                        self._disk, segment_path(self._folder, index), self._schema
                    ) as first:
                        first.read_file_head()
                        first.refuse_damage(is_last=True)
                return False
            raise Corrupt(
                f"{self._folder}: the cursor is at sequence {self._next_sequence}, and no segment "
                "starts at or before it; restore the older segments, or load from the oldest left"
            )
        with SegmentFile(
            self._disk, segment_path(self._folder, indices[position]), self._schema,
            archives=self._archives,
        ) as segment:  # fmt: skip
            segment.read_file_head()
            while (sequence := segment.sequence or 1) < self._next_sequence:
                if segment.next_frame() is None:
                    raise Corrupt(
                        f"{segment.path}: the log ends before sequence {sequence} "
                        f"({segment.fault or 'end of file'}) and the cursor is at "
                        f"{self._next_sequence}: frames that were read are missing; {REMEDY}"
                    )
            self._index = indices[position]
            self._move_to(segment, sequence)
        return True
