"""The loader: takes the event log into the analytics engine, each event once.

Frames of records are read from a cursor on, turned into columns and inserted; then the cursor,
which lies in the engine too, is moved. A crash between the two repeats the batch, and a repeat is
harmless: an event id names its row, and the engine keeps one row of an id (``schema.sql``).

Control frames are skipped: they are the budget owner's book-keeping (leases, credits), and all the
money that moved is said again in the events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from ledger.event_log import EVENT_LOG
from ledger.frame import RECORDS
from ledger.segment import SegmentReader
from ledger.sql import bind
from market.errors import Corrupt
from market.events import DAY_MS, EVENT_DTYPE, read_events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ledger.analytics import AnalyticsEngine, ArrowTable
    from ledger.disk import Disk

BATCH_ROWS: Final = 50_000
"""Rows of a batch while there are more to load; one frame more at most."""

# A Date of ClickHouse counts days since 1970 in sixteen bits.
_DAY_MAX: Final = 65_535


class Loader:
    """Follows one log into one engine; used by one thread."""

    def __init__(
        self,
        engine: AnalyticsEngine,
        folder: Path,
        disk: Disk,
        durable_sequence: Callable[[], int | None],
    ) -> None:
        """Starts at the engine's cursor; the log need not exist yet.

        Args:
            engine: Where the rows go.
            folder: The event log.
            disk: The disk it lies on.
            durable_sequence: Up to which frame the writer calls the log durable, asked before each
                batch; None where nobody says, and then everything that is written is loaded.

        Raises:
            Corrupt: the engine's table was made by another build.
        """
        _check_columns(engine)
        self._engine = engine
        self._durable_sequence = durable_sequence
        self._reader = SegmentReader(folder, disk, EVENT_LOG, from_sequence=read_cursor(engine))
        self._loaded_sequence = self._reader.next_sequence - 1
        self._pending: ArrowTable | None = None

    @property
    def loaded_sequence(self) -> int:
        """Sequence up to which every frame's events are in the engine; 0 when none is."""
        return self._loaded_sequence

    def load_batch(self) -> int:
        """Loads the next frames, about ``BATCH_ROWS`` rows, and returns how many rows it took.

        After an error the same batch is inserted by the next call. 0 means that there is nothing
        more for now, or nothing but control frames.

        Raises:
            NotReady: the engine or the disk refuses; call again later.
            Corrupt: the log is damaged.
        """
        if self._pending is None:
            self._pending = self._read_batch()
        batch, last_sequence = self._pending, self._reader.next_sequence - 1
        if last_sequence > self._loaded_sequence:
            if batch.num_rows:
                self._engine.insert("events", batch)
            write_cursor(self._engine, last_sequence + 1)
        self._pending = None
        self._loaded_sequence = last_sequence
        return batch.num_rows

    def _read_batch(self) -> ArrowTable:
        frames = self._reader.read(BATCH_ROWS * EVENT_DTYPE.itemsize, self._durable_sequence())
        events = [
            read_events(frame.body, frame.schema_version)
            for frame in frames
            if frame.kind == RECORDS
        ]
        return event_table(in_table_order(joined(events)))


def joined(parts: Sequence[npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
    """Returns arrays of EVENT_DTYPE as one: as bytes, because numpy copies field by field."""
    return np.frombuffer(b"".join(part.tobytes() for part in parts), EVENT_DTYPE)


def read_cursor(engine: AnalyticsEngine) -> int:
    """Returns the sequence of the first frame that the engine does not have."""
    question = "SELECT max(next_sequence) AS next_sequence FROM cursors WHERE log = %(log)s"
    (row,) = engine.execute(bind(question, {"log": EVENT_LOG.name})).rows
    (next_sequence,) = row
    assert isinstance(next_sequence, int)
    return max(1, next_sequence)


def write_cursor(engine: AnalyticsEngine, next_sequence: int) -> None:
    """Stores what ``read_cursor`` returns; it never goes back."""
    rows = {
        "log": pa.array([EVENT_LOG.name], pa.string()),
        "next_sequence": pa.array([next_sequence], pa.uint64()),
    }
    engine.insert("cursors", pa.table(rows))


def event_table(events: npt.NDArray[np.void]) -> ArrowTable:
    """Returns [N] of EVENT_DTYPE as the columns of table ``events``.

    ``day`` is the UTC day of ``bid_ms``, at the nearest day that a Date can hold.
    """
    day = np.clip(events["bid_ms"] // DAY_MS, 0, _DAY_MAX).astype(np.int32)
    columns = {"day": pa.array(day, pa.int32()).cast(pa.date32())}
    for name in EVENT_DTYPE.names or ():
        columns[name] = _column(events[name])
    return pa.table(columns)


def _check_columns(engine: AnalyticsEngine) -> None:
    rows = engine.execute(
        "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = 'events'"
    ).rows
    needed = event_table(np.zeros(0, EVENT_DTYPE)).column_names
    differing = {str(name) for (name,) in rows} ^ set(needed)
    if differing:
        raise Corrupt(
            f"analytics table events: it differs from this build's in {sorted(differing)}; delete "
            "the store's folder, and the store loads it again from the segments"
        )


def in_table_order(events: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Returns ``events`` by the sorting key of the table, and of one id in the order of the log.

    The engine sorts what is not sorted, column by column, which took it half of an insert's time;
    moving whole records is an eighth of that.
    """
    names = ("id_lo", "id_hi", "kind", "campaign_id", "advertiser_id")
    order = np.lexsort(tuple(events[name] for name in names))
    return events.view(f"V{EVENT_DTYPE.itemsize}")[order].view(EVENT_DTYPE)


def _column(values: npt.NDArray[np.generic]) -> object:
    flat = pa.array(np.ascontiguousarray(values).ravel())
    if values.ndim == 1:
        return flat
    row_count, width = values.shape
    ends = pa.array(np.arange(row_count + 1, dtype=np.int32) * width, pa.int32())
    return pa.ListArray.from_arrays(ends, flat)
