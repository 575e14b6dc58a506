"""The loader: takes the event log into the analytics engine, each event once.

Frames of records are read from a cursor on, turned into columns and inserted; then the cursor,
which lies in the engine too, is moved. A crash between the two repeats the batch, and a repeat is
harmless: an event id names its row, and the engine keeps one row of an id (``schema.sql``).

While the engine takes a batch, another thread reads, checks and sorts the next one: both spend
their time outside Python, so a log that is behind is loaded by two cores. Batches are still
inserted one after the other, in the order of the log, each before its cursor.

Control frames are skipped: they are the budget owner's book-keeping (leases, credits), and all the
money that moved is said again in the events.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

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

BATCH_ROWS: Final = 80_000
"""Rows of a batch while there are more to load.

The engine works by the part: of a larger one each row is cheaper to write and is merged less often,
and a question waits longer for its turn. What a batch copies (26 MB) is below the size from which
the allocator gives memory back to the system and takes it anew each time.
"""

_READ_AHEAD_ROWS: Final = BATCH_ROWS // 2
"""After a batch of so many rows there is more to read, most likely."""

# A Date of ClickHouse counts days since 1970 in sixteen bits.
_DAY_MAX: Final = 65_535


class _Batch(NamedTuple):
    """What is inserted at once, and the last frame that it is made of."""

    table: ArrowTable
    last_sequence: int


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
        # One batch at a time is being read, by whichever thread: the reader is never in two hands.
        self._pending: _Batch | None = None
        self._ahead: Future[_Batch] | None = None
        self._thread = ThreadPoolExecutor(1, "read-ahead")

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
            self._pending = self._next_batch()
        table, last_sequence = self._pending
        if table.num_rows >= _READ_AHEAD_ROWS and self._ahead is None:
            self._ahead = self._thread.submit(self._read_batch)
        if last_sequence > self._loaded_sequence:
            if table.num_rows:
                self._engine.insert("events", table)
            write_cursor(self._engine, last_sequence + 1)
        self._pending = None
        self._loaded_sequence = last_sequence
        return table.num_rows

    def _next_batch(self) -> _Batch:
        """Returns what was read ahead, or, where that was nothing, what there is by now."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            batch = ahead.result()
            if batch.last_sequence > self._loaded_sequence:
                return batch
        return self._read_batch()

    def _read_batch(self) -> _Batch:
        frames = self._reader.read(BATCH_ROWS * EVENT_DTYPE.itemsize, self._durable_sequence())
        events = [
            read_events(frame.body, frame.schema_version)
            for frame in frames
            if frame.kind == RECORDS
        ]
        table = event_table(in_table_order(joined(events)))
        return _Batch(table, self._reader.next_sequence - 1)


def joined(parts: Sequence[npt.NDArray[np.void]]) -> npt.NDArray[np.void]:
    """Returns arrays of EVENT_DTYPE as one: as bytes, because numpy copies field by field."""
    return np.frombuffer(b"".join([part.view(np.uint8).data for part in parts]), EVENT_DTYPE)


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
    moving whole records is an eighth of that. The lower half of an id is left out: two ids of one
    upper half are nothing that the engine could not sort by itself.
    """
    campaigns = events["advertiser_id"].astype(np.uint64) << np.uint64(32) | events["campaign_id"]
    order = np.lexsort((events["id_hi"], events["kind"], campaigns))
    return events.view(f"V{EVENT_DTYPE.itemsize}")[order].view(EVENT_DTYPE)


def _column(values: npt.NDArray[np.generic]) -> object:
    flat = pa.array(np.ascontiguousarray(values).ravel())
    if values.ndim == 1:
        return flat
    row_count, width = values.shape
    ends = pa.array(np.arange(row_count + 1, dtype=np.int32) * width, pa.int32())
    return pa.ListArray.from_arrays(ends, flat)
