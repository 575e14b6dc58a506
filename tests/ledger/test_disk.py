"""The real disk: what the log's durability rests on."""

from __future__ import annotations

import pytest

from ledger.disk import RealDisk


def test_a_missing_folder_has_no_names_and_is_made_with_its_parents(tmp_path):
    disk, folder = RealDisk(), tmp_path / "a" / "b"
    assert disk.list_names(folder) == []
    disk.make_folder(folder)
    disk.make_folder(folder)
    assert folder.is_dir()
    assert disk.list_names(tmp_path / "a") == ["b"]


def test_a_folder_has_one_lock_which_closing_gives_back(tmp_path):
    disk = RealDisk()
    held = disk.lock(tmp_path)
    with pytest.raises(BlockingIOError):
        disk.lock(tmp_path)
    disk.close(held)
    disk.close(disk.lock(tmp_path))


def test_writes_append_also_after_a_cut_and_a_new_file_starts_empty(tmp_path):
    disk, path = RealDisk(), tmp_path / "file"
    file = disk.open_append(path, is_new=True)
    assert disk.write(file, memoryview(b"abcdef")) == 6
    disk.truncate(file, 2)
    assert disk.write(file, memoryview(b"XY")) == 2
    disk.fdatasync(file)
    disk.fsync_folder(tmp_path)
    disk.close(file)
    assert disk.exists(path)

    file = disk.open_read(path)
    assert disk.size(file) == 4
    assert disk.read(file, 100, 1) == b"bXY"
    disk.close(file)

    disk.close(disk.open_append(path, is_new=False))
    assert path.read_bytes() == b"abXY"
    disk.close(disk.open_append(path, is_new=True))
    assert path.read_bytes() == b""


def test_appending_to_a_file_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        RealDisk().open_append(tmp_path / "file", is_new=False)
