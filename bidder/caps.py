"""The frequency counters of all workers in one mapped file: a table per worker, read by all.

SO_REUSEPORT spreads a user's requests over the workers, so a cap must be held against the sum over
all tables; each worker writes only its own, so no lock is needed. Between two workers that bid for
one user in the same instant the sum can miss the other's bid: at most workers - 1 too many.

The counters outlive every process and every change of the number of workers: the tables of workers
that are no more stay in the sum until the last of their windows is over. A counter whose window is
over is free for another (``bidder.kernels_cap``), so a table is only full when that many windows
are open; then capped line items do not bid rather than bid too often.

File, little-endian: magic, tables, slots per table (int64 each); tables from byte 64.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from market.errors import Corrupt
from market.state import CAP_SLOT_DTYPE

if TYPE_CHECKING:
    from pathlib import Path

CAP_FILE_SLOT_COUNT: Final = 1 << 20
"""Slots per worker: so many (user, scope, window) can be counted at once, in 24 MiB."""

_MAGIC: Final = 0x4C4F4445_43415053  # "LODECAPS"
_DATA_AT: Final = 64
_CURE: Final = "delete it and start `lodestone serve` again: frequency counts begin at 0"


def create_cap_file(
    path: Path, worker_count: int, *, now_ms: int = 0, slot_count: int = CAP_FILE_SLOT_COUNT
) -> None:
    """Makes the file fit for ``worker_count`` workers; what it counts stays.

    Only call it while no worker runs. A file of another layout is replaced by an empty one.

    Args:
        path: of the file.
        worker_count: tables that will be written.
        now_ms: a table of a worker that is no more is dropped when all it counts is over by then.
        slot_count: per table, a power of two.
    """
    assert slot_count & (slot_count - 1) == 0
    tables = _tables(path, slot_count)
    if tables is None:
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.truncate(_size(worker_count, slot_count))
            file.write(_head(worker_count, slot_count))
        temporary.rename(path)
        return
    live = [
        index
        for index, table in enumerate(tables)
        if ((table["expires_ms"] > now_ms) & (table["count"] > 0)).any()
    ]
    count = max([worker_count, *(index + 1 for index in live)])
    del tables
    with path.open("r+b") as file:
        file.truncate(_size(count, slot_count))
        file.write(_head(count, slot_count))


def map_cap_slots(path: Path, worker_count: int) -> npt.NDArray[np.void]:
    """Returns [tables, slots] of CAP_SLOT_DTYPE, shared with the other workers.

    There are at least ``worker_count`` tables; worker n writes table n.

    Raises:
        Corrupt: the file is missing, damaged, or made for fewer workers.
    """
    try:
        with path.open("r+b") as file:
            view = mmap.mmap(file.fileno(), 0)
    except (OSError, ValueError) as error:
        raise Corrupt(f"cap file {path.name}: {error}; start `lodestone serve` again") from error
    magic, table_count, slot_count = _read_head(view)
    if magic != _MAGIC or len(view) != _size(table_count, slot_count):
        raise Corrupt(f"cap file {path.name}: {len(view)} bytes are no counters; {_CURE}")
    if table_count < worker_count:
        raise Corrupt(
            f"cap file {path.name}: it is for {table_count} workers, must be for {worker_count}; "
            "start `lodestone serve` again"
        )
    return np.frombuffer(view, CAP_SLOT_DTYPE, offset=_DATA_AT).reshape(table_count, slot_count)


def _tables(path: Path, slot_count: int) -> npt.NDArray[np.void] | None:
    """Returns the tables of a file of this layout, None where there is none."""
    if not path.exists() or path.stat().st_size < _DATA_AT:
        return None
    with path.open("rb") as file:
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    magic, table_count, slots = _read_head(view)
    if magic != _MAGIC or slots != slot_count or len(view) != _size(table_count, slot_count):
        return None
    return np.frombuffer(view, CAP_SLOT_DTYPE, offset=_DATA_AT).reshape(table_count, slot_count)


def _size(table_count: int, slot_count: int) -> int:
    return _DATA_AT + table_count * slot_count * CAP_SLOT_DTYPE.itemsize


def _head(table_count: int, slot_count: int) -> bytes:
    return np.array([_MAGIC, table_count, slot_count], "<i8").tobytes()


def _read_head(view: mmap.mmap) -> tuple[int, int, int]:
    if len(view) < _DATA_AT:
        return 0, 0, 0
    magic, table_count, slot_count = np.frombuffer(view, "<i8", 3).tolist()
    return magic, table_count, slot_count
