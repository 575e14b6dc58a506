"""A log has one owner: by the system's lock on one machine, by the epoch wherever that fails."""

from __future__ import annotations

import errno
import os

import pytest

from ledger.disk import RealDisk
from ledger.folder import EPOCH_NAME
from ledger.segment import CONTROL, SegmentWriter
from market.errors import Corrupt, NotReady
from tests.ledger.logs import SCHEMA, UnsyncedDisk, body_of, replayed


class Unlocked(UnsyncedDisk):
    """A file system on which every lock is granted, as some network file systems do."""

    def lock(self, folder):
        return os.open(folder, os.O_RDONLY)


def test_a_second_owner_is_refused_by_the_lock(tmp_path):
    with (
        SegmentWriter(tmp_path, RealDisk(), SCHEMA) as first,
        pytest.raises(NotReady, match="another writer has this log open"),
    ):
        SegmentWriter(tmp_path, RealDisk(), SCHEMA)
    assert first.epoch.number == 1


def test_where_the_lock_fails_the_older_owner_stops_at_its_next_commit(tmp_path):
    with SegmentWriter(tmp_path, Unlocked(), SCHEMA) as first:
        first.append(CONTROL, body_of(1))
        first.commit()
        first.append(CONTROL, body_of(2))
        with SegmentWriter(tmp_path, Unlocked(), SCHEMA) as second:
            with pytest.raises(Corrupt, match="owner 2 has taken this log over from owner 1"):
                first.commit()
            second.append(CONTROL, body_of(2))
            assert second.commit() == 2
            with pytest.raises(Corrupt, match="owner 2"):
                first.commit()
    _, frames = replayed(tmp_path)
    assert [frame.body for frame in frames] == [body_of(1), body_of(2)]


def test_every_owner_has_a_number_of_its_own(tmp_path):
    numbers = []
    for _ in range(4):
        with SegmentWriter(tmp_path, RealDisk(), SCHEMA) as writer:
            numbers.append(writer.epoch.number)
    assert numbers == [1, 2, 3, 4]


def test_an_epoch_that_is_no_number_is_refused(tmp_path):
    with SegmentWriter(tmp_path, RealDisk(), SCHEMA):
        pass
    (tmp_path / EPOCH_NAME).write_bytes(b"\x00\x01")
    with pytest.raises(Corrupt, match="is no epoch"):
        SegmentWriter(tmp_path, RealDisk(), SCHEMA)


def test_a_read_only_disk_is_refused_with_the_file(tmp_path):
    class ReadOnly(RealDisk):
        def open_append(self, path, *, is_new):
            raise OSError(errno.EROFS, "Read-only file system")

    with pytest.raises(NotReady, match=r"owner\.epoch: .*Read-only file system"):
        SegmentWriter(tmp_path, ReadOnly(), SCHEMA)
    with SegmentWriter(tmp_path, RealDisk(), SCHEMA):  # nothing stayed locked
        pass
