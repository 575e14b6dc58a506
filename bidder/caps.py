"""The frequency counters of all workers in one mapped file: a table per worker, read by all.

SO_REUSEPORT spreads a user's requests over the workers, so a cap must be held against the sum over
all tables; each worker writes only its own, so no lock is needed. Between two workers that bid for
one user in the same instant the sum can miss the other's bid: at most workers - 1 too many.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from market.errors import Corrupt
from market.state import CAP_SLOT_COUNT, CAP_SLOT_DTYPE

if TYPE_CHECKING:
    from pathlib import Path

_ROW_BYTES = CAP_SLOT_COUNT * CAP_SLOT_DTYPE.itemsize


def create_cap_file(path: Path, worker_count: int) -> None:
    """Creates the file with empty tables unless it is there with the right size already."""
    size = worker_count * _ROW_BYTES
    if path.exists() and path.stat().st_size == size:
        return
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.truncate(size)
    temporary.rename(path)


def map_cap_slots(path: Path, worker_count: int) -> npt.NDArray[np.void]:
    """Returns [worker_count, CAP_SLOT_COUNT] of CAP_SLOT_DTYPE, shared with the other workers.

    Raises:
        Corrupt: the file is missing or of the wrong size.
    """
    try:
        with path.open("r+b") as file:
            view = mmap.mmap(file.fileno(), 0)
    except (OSError, ValueError) as error:
        raise Corrupt(f"cap file {path.name}: {error}; start `lodestone serve` again") from error
    if len(view) != worker_count * _ROW_BYTES:
        raise Corrupt(
            f"cap file {path.name}: {len(view)} bytes, must be {worker_count * _ROW_BYTES} for "
            f"{worker_count} workers; delete it and start again"
        )
    return np.frombuffer(view, CAP_SLOT_DTYPE).reshape(worker_count, CAP_SLOT_COUNT)
