from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.loader import BATCH_ROWS, Loader, event_table
from ledger.segment import CONTROL, RECORDS, Schema, SegmentWriter
from ledger.sql import Rows, schema_versions
from market.errors import Corrupt, NotReady
from market.events import DAY_MS, EVENT_DTYPE, SCHEMAS
from tests.ledger.stores import made_up_events

if TYPE_CHECKING:
    from pathlib import Path

ENGINE_TYPES = {
    "uint8": "UInt8",
    "uint16": "UInt16",
    "uint32": "UInt32",
    "uint64": "UInt64",
    "int64": "Int64",
    "float32": "Float32",
}


class ListEngine:
    """An ``AnalyticsEngine`` that keeps what it is given, and refuses when told to."""

    def __init__(self, columns: list[str] | None = None) -> None:
        self.columns = columns or ["day", *(EVENT_DTYPE.names or ())]
        self.batches: list[pa.Table] = []
        self.cursor = 0
        self.is_refusing = ""

    def execute(self, sql: str) -> Rows:
        if "system.columns" in sql:
            return Rows(["name"], [[name] for name in self.columns])
        assert sql.startswith("SELECT max(next_sequence)")
        return Rows(["next_sequence"], [[self.cursor]])

    def insert(self, table: str, rows: pa.Table) -> None:
        if self.is_refusing == table:
            raise NotReady(f"{table}: told to refuse")
        if table == "events":
            self.batches.append(rows)
        else:
            self.cursor = max(self.cursor, rows["next_sequence"][0].as_py())

    def close(self) -> None:
        pass

    @property
    def ids(self) -> list[tuple[int, int]]:
        return [
            pair
            for batch in self.batches
            for pair in zip(batch["id_hi"].to_pylist(), batch["id_lo"].to_pylist(), strict=True)
        ]


def write(folder: Path, *bodies: tuple[int, bytes]) -> int:
    with SegmentWriter(folder, RealDisk(), EVENT_LOG) as writer:
        for kind, body in bodies:
            writer.append(kind, body)
            writer.commit()
        return writer.durable_sequence


def ids_of(events: npt.NDArray[np.void]) -> list[tuple[int, int]]:
    return list(zip(events["id_hi"].tolist(), events["id_lo"].tolist(), strict=True))


def loader_of(engine: ListEngine, folder: Path) -> Loader:
    return Loader(engine, folder, RealDisk(), lambda: None)


def test_the_schema_has_every_field_of_an_event_with_its_type_and_in_its_order() -> None:
    events, _ = schema_versions()[0]
    columns = re.findall(r"^  (\w+) (\S+?),?$", events, re.MULTILINE)
    expected = [("day", "Date")]
    for name in EVENT_DTYPE.names or ():
        dtype = EVENT_DTYPE[name]
        engine_type = ENGINE_TYPES[dtype.base.name]
        expected.append((name, f"Array({engine_type})" if dtype.subdtype else engine_type))
    assert columns == expected


def test_a_table_holds_exactly_what_the_events_hold() -> None:
    events = made_up_events(500, seed=1)
    table = event_table(events)
    assert table.column_names == ["day", *(EVENT_DTYPE.names or ())]
    for name in EVENT_DTYPE.names or ():
        assert table[name].to_pylist() == events[name].tolist(), name


def test_the_day_is_the_day_of_the_bid() -> None:
    events = np.zeros(5, EVENT_DTYPE)
    events["bid_ms"] = [0, DAY_MS - 1, DAY_MS, -1, 2**62]
    events["ts_ms"] = 10 * DAY_MS
    days = event_table(events)["day"].cast(pa.int32()).to_pylist()
    assert days == [0, 0, 1, 0, 65_535]


def test_every_event_is_loaded_once_and_the_cursor_stands_behind_it(tmp_path: Path) -> None:
    events = made_up_events(300, seed=2)
    write(tmp_path, (RECORDS, events[:100].tobytes()), (RECORDS, events[100:].tobytes()))
    engine = ListEngine()
    loader = loader_of(engine, tmp_path)
    assert loader.loaded_sequence == 0
    assert loader.load_batch() == 300
    assert sorted(engine.ids) == sorted(ids_of(events))
    assert (loader.loaded_sequence, engine.cursor) == (2, 3)
    assert loader.load_batch() == 0

    again = loader_of(engine, tmp_path)
    assert again.loaded_sequence == 2
    assert again.load_batch() == 0
    assert len(engine.ids) == 300


def test_a_long_log_comes_in_batches(tmp_path: Path) -> None:
    frame = made_up_events(10_000, seed=3)
    frames = 2 * BATCH_ROWS // 10_000 + 1
    write(tmp_path, *[(RECORDS, frame.tobytes())] * frames)
    engine = ListEngine()
    loader = loader_of(engine, tmp_path)
    counts = [loader.load_batch() for _ in range(4)]
    assert sum(counts) == frames * 10_000
    assert max(counts) <= BATCH_ROWS + 10_000
    assert counts[0] >= 20_000
    assert counts[-1] == 0


def test_reading_ahead_skips_and_repeats_nothing_while_batches_are_refused(tmp_path: Path) -> None:
    events = made_up_events(2 * BATCH_ROWS + 10_000, seed=13)
    parts = np.array_split(events, 20)
    write(tmp_path, *[(RECORDS, part.tobytes()) for part in parts[:17]])
    engine = ListEngine()
    loader = loader_of(engine, tmp_path)
    loaded = 0
    for table in ("events", "", "cursors", "", "", ""):
        engine.is_refusing = table
        if table:
            with pytest.raises(NotReady, match="told to refuse"):
                loader.load_batch()
            assert engine.cursor == (loader.loaded_sequence + 1 if loader.loaded_sequence else 0)
        else:
            loaded += loader.load_batch()
    assert loaded == sum(map(len, parts[:17]))
    # What was read ahead at the end of the log was nothing, and is not the last word.
    write(tmp_path, *[(RECORDS, part.tobytes()) for part in parts[17:]])
    loaded += loader.load_batch()
    assert loaded == len(events)
    assert (loader.loaded_sequence, engine.cursor) == (20, 21)
    assert set(engine.ids) == set(ids_of(events))
    assert set(Counter(engine.ids).values()) <= {1, 2}


def test_damage_that_was_read_ahead_is_told_after_the_batch_before_it(tmp_path: Path) -> None:
    frame = made_up_events(10_000, seed=14).tobytes()
    count = BATCH_ROWS // 10_000 + 2
    write(tmp_path, *[(RECORDS, frame)] * count)
    (segment,) = tmp_path.glob("*.seg")
    with segment.open("r+b") as file:
        file.seek(-len(frame) - 1_000, 2)
        file.write(b"\0" * 500)
    engine = ListEngine()
    loader = loader_of(engine, tmp_path)
    loaded = 0
    with pytest.raises(Corrupt):  # noqa: PT012 - how many batches come before it is not the point
        while True:
            loaded += loader.load_batch()
    assert loaded == (count - 2) * 10_000
    assert engine.cursor == count - 1


@pytest.mark.parametrize("table", ["events", "cursors"])
def test_a_refused_batch_is_inserted_again_and_none_is_skipped(tmp_path: Path, table: str) -> None:
    events = made_up_events(200, seed=4)
    write(tmp_path, (RECORDS, events.tobytes()))
    engine = ListEngine()
    loader = loader_of(engine, tmp_path)
    engine.is_refusing = table
    for _ in range(3):
        with pytest.raises(NotReady, match="told to refuse"):
            loader.load_batch()
        assert loader.loaded_sequence == 0
    engine.is_refusing = ""
    assert loader.load_batch() == 200
    assert set(engine.ids) == set(ids_of(events))
    assert (loader.loaded_sequence, engine.cursor) == (1, 2)


def test_the_cursor_moves_only_after_the_rows(tmp_path: Path) -> None:
    write(tmp_path, (RECORDS, made_up_events(10, seed=5).tobytes()))
    engine = ListEngine()
    engine.is_refusing = "events"
    with pytest.raises(NotReady):
        loader_of(engine, tmp_path).load_batch()
    assert engine.cursor == 0


def test_control_frames_are_skipped_and_counted_as_loaded(tmp_path: Path) -> None:
    events = made_up_events(3, seed=6)
    write(tmp_path, (CONTROL, b"lease"), (RECORDS, events.tobytes()), (CONTROL, b"lease"))
    engine = ListEngine()
    loader = loader_of(engine, tmp_path)
    assert loader.load_batch() == 3
    assert (loader.loaded_sequence, engine.cursor) == (3, 4)
    write(tmp_path, (CONTROL, b"lease"))
    assert loader.load_batch() == 0
    assert (loader.loaded_sequence, engine.cursor) == (4, 5)


def test_frames_that_are_not_durable_are_left(tmp_path: Path) -> None:
    events = made_up_events(30, seed=7)
    write(tmp_path, *[(RECORDS, part.tobytes()) for part in np.split(events, 3)])
    durable: list[int | None] = [1]
    engine = ListEngine()
    loader = Loader(engine, tmp_path, RealDisk(), lambda: durable[0])
    assert loader.load_batch() == 10
    assert loader.load_batch() == 0
    durable[0] = 3
    assert loader.load_batch() == 20


def test_events_of_an_older_schema_come_with_the_defaults_of_what_they_lack(tmp_path: Path) -> None:
    old = np.zeros(2, SCHEMAS[1])
    old["id_hi"] = [1, 2]
    old["price_cpm_micros"] = 2**53 + 1
    schema = Schema(EVENT_LOG.name, 1, SCHEMAS[1].itemsize)
    with SegmentWriter(tmp_path, RealDisk(), schema) as writer:
        writer.append(RECORDS, old.tobytes())
        writer.commit()
    write(tmp_path, (RECORDS, made_up_events(1, seed=8).tobytes()))
    engine = ListEngine()
    assert loader_of(engine, tmp_path).load_batch() == 3
    rows = {row["id_hi"]: row for batch in engine.batches for row in batch.to_pylist()}
    for key in (1, 2):
        assert rows[key]["price_cpm_micros"] == 2**53 + 1
        assert rows[key]["rate_micros"] == 1_000_000
        assert rows[key]["order_code"] == 0


def test_a_table_of_another_build_is_refused(tmp_path: Path) -> None:
    names = ["day", *(EVENT_DTYPE.names or ())]
    with pytest.raises(Corrupt, match=r"differs from this build's in \['size'\]"):
        loader_of(ListEngine([name for name in names if name != "size"]), tmp_path)
