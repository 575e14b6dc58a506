"""The engine on a real ClickHouse server: the loader's promises hold there as in chDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from ledger.clickhouse import Address, ClickHouseEngine, address_of
from ledger.clickhouse_blocks import column_bytes
from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.loader import Loader, event_table, read_cursor, write_cursor
from ledger.segment import RECORDS, SegmentWriter
from market.errors import BadInput, NotReady
from market.events import DAY_MS, EVENT_DTYPE
from tests.ledger.stores import ClickHouseServer, clickhouse_or_skip, made_up_events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    running = clickhouse_or_skip(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.fixture
def engine(server: ClickHouseServer) -> Iterator[ClickHouseEngine]:
    own = ClickHouseEngine(address_of(server.new_database()))
    yield own
    own.close()


def event_count(engine: ClickHouseEngine) -> object:
    return engine.execute("SELECT count() AS n FROM events FINAL").rows[0][0]


def test_what_is_inserted_comes_back_exactly(engine: ClickHouseEngine) -> None:
    events = made_up_events(500, seed=3)
    events["amount_micros"][0] = 2**53 + 1
    events["bid_hi"][0] = 2**64 - 1
    table = event_table(events)
    engine.insert("events", table)
    names = ", ".join(table.column_names)
    rows = engine.execute(f"SELECT {names} FROM events FINAL ORDER BY id_hi, id_lo").rows
    expected = sorted(
        (
            [cell.isoformat() if hasattr(cell, "isoformat") else cell for cell in row]
            for row in zip(*(column.to_pylist() for column in table.columns), strict=True)
        ),
        key=lambda row: row[1:3],
    )
    assert rows == expected


def test_a_part_of_a_table_is_inserted_as_what_it_is(engine: ClickHouseEngine) -> None:
    # Arrow slices share the whole column's buffers and lists begin in the middle of them.
    events = made_up_events(100, seed=4)
    engine.insert("events", event_table(events).slice(30, 40))
    rows = engine.execute("SELECT id_hi, features, budgets FROM events FINAL ORDER BY id_hi").rows
    expected = [
        [each["id_hi"], each["features"].tolist(), each["budgets"].tolist()] for each in events
    ][30:70]
    assert rows == sorted(expected, key=lambda row: row[0])


def test_text_of_any_length_is_inserted_as_it_is(engine: ClickHouseEngine) -> None:
    names = ["", "x" * 127, "\u00e9" * 64, "x" * 128, "x" * 20_000]
    logs = pa.table({"log": names, "next_sequence": pa.array(range(5), pa.uint64())})
    engine.insert("cursors", logs)
    found = engine.execute("SELECT log FROM cursors FINAL ORDER BY next_sequence").rows
    assert found == [[name] for name in names]


def test_a_table_without_rows_is_inserted_by_doing_nothing(engine: ClickHouseEngine) -> None:
    engine.insert("events", event_table(made_up_events(1, seed=4)[:0]))
    assert event_count(engine) == 0


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        (pa.array([1, None], pa.int64()), "Int64", "it has nulls"),
        (pa.array([-1], pa.int64()), "UInt64", "values of int64"),
        (pa.array([2**32], pa.int64()), "UInt32", "values of int64"),
        (pa.array([65_536], pa.int32()).cast(pa.date32()), "Date", "values of int32"),
        (pa.array([0.1], pa.float64()), "Float32", "values of float64"),
        (pa.array([1], pa.int64()), "Decimal(18, 6)", "the store's tables have"),
    ],
)
def test_a_column_that_the_server_has_not_is_refused(
    values: object, kind: str, reason: str
) -> None:
    with pytest.raises(BadInput, match=reason):
        column_bytes(values, kind)


def test_the_connection_works_after_a_column_that_was_refused(engine: ClickHouseEngine) -> None:
    late = pa.table(
        {
            "day": pa.array([70_000], pa.int32()).cast(pa.date32()),
            "build": pa.array([1], pa.uint64()),
        }
    )
    with pytest.raises(BadInput):
        engine.insert("rollup_days", late)
    table = event_table(made_up_events(2, seed=4))
    engine.insert("events", table)
    assert event_count(engine) == 2


def test_the_same_rows_twice_count_once(engine: ClickHouseEngine) -> None:
    table = event_table(made_up_events(2_000, seed=4))
    engine.insert("events", table)
    engine.insert("events", table)
    assert event_count(engine) == 2_000


def test_rows_of_more_than_a_hundred_days_are_taken_at_once(engine: ClickHouseEngine) -> None:
    events = np.zeros(150, EVENT_DTYPE)
    events["id_lo"] = np.arange(150)
    events["bid_ms"] = np.arange(150) * DAY_MS
    engine.insert("events", event_table(events))
    assert event_count(engine) == 150


def test_a_statement_without_an_answer_has_no_rows(engine: ClickHouseEngine) -> None:
    assert engine.execute("CREATE TABLE other (x Int64) ENGINE = Memory").rows == []
    assert engine.execute("SELECT x FROM other").rows == []


def test_an_insert_that_fails_is_to_be_repeated_and_the_engine_goes_on(
    engine: ClickHouseEngine,
) -> None:
    with pytest.raises(NotReady, match=r"analytics table cursors at .* 1 rows were not taken"):
        engine.insert("cursors", pa.table({"nope": pa.array([1])}))
    write_cursor(engine, 7)
    assert read_cursor(engine) == 7


def test_a_wrong_statement_is_bad_input_and_its_message_is_short(engine: ClickHouseEngine) -> None:
    with pytest.raises(BadInput, match="Syntax error") as caught:
        engine.execute("SELECT 1 +")
    assert len(str(caught.value)) < 700
    assert "Stack trace" not in str(caught.value)
    assert engine.execute("SELECT 1 AS one").rows == [[1]]


def test_a_question_that_takes_too_long_may_be_asked_again(engine: ClickHouseEngine) -> None:
    engine._question_settings = {"max_execution_time": 1}
    with pytest.raises(NotReady, match="retry"):
        engine.execute("SELECT count() AS n FROM (SELECT number FROM system.numbers) AS t")
    assert engine.execute("SELECT 1 AS one").rows == [[1]]


def test_the_loader_goes_on_where_its_cursor_stands_after_the_server_was_killed(
    tmp_path: Path,
) -> None:
    folder, log = tmp_path / "server", tmp_path / "log"
    folder.mkdir()
    log.mkdir()
    events = made_up_events(9_000, seed=5)
    writer = SegmentWriter(log, RealDisk(), EVENT_LOG)
    for part in np.array_split(events, 9):
        writer.append(RECORDS, part.tobytes())
    last = writer.commit()
    writer.close()
    server = clickhouse_or_skip(folder)
    try:
        engine = ClickHouseEngine(address_of(server.url))
        loader = Loader(engine, log, RealDisk(), lambda: last)
        server.kill()
        with pytest.raises(NotReady, match="not taken"):
            loader.load_batch()
        server.start()
        while loader.load_batch():
            pass
        assert loader.loaded_sequence == last
        server.kill()
        server.start()
        engine.close()
        again = ClickHouseEngine(address_of(server.url))
        assert event_count(again) == 9_000
        assert read_cursor(again) == last + 1
        # A store that lost its cursor's last move loads a batch twice.
        again.execute("TRUNCATE TABLE cursors")
        repeated = Loader(again, log, RealDisk(), lambda: last)
        while repeated.load_batch():
            pass
        assert event_count(again) == 9_000
        again.close()
    finally:
        server.stop()


def test_no_server_is_said_with_its_address() -> None:
    with pytest.raises(NotReady, match=r"ClickHouse at 127\.0\.0\.1:1/default: .*start it"):
        ClickHouseEngine(Address("127.0.0.1", 1, "default", "", "default"))


def test_a_wrong_password_is_said_without_it(server: ClickHouseServer) -> None:
    address = Address("127.0.0.1", server.port, "nobody", "hush-hush", "default")
    with pytest.raises(NotReady, match="check user, password and database") as caught:
        ClickHouseEngine(address)
    assert "hush-hush" not in str(caught.value)


def test_an_address_is_read_from_its_url() -> None:
    assert address_of("clickhouse://ads:p%40ss@ch.example:9440/events") == Address(
        "ch.example", 9440, "ads", "p@ss", "events"
    )
    assert address_of("clickhouse://ch.example") == Address(
        "ch.example", 9000, "default", "", "default"
    )


@pytest.mark.parametrize("url", ["http://x", "clickhouse://", "clickhouse://u:secret@h:port/d", ""])
def test_what_is_no_such_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(BadInput, match="it must be clickhouse://") as caught:
        address_of(url)
    assert "secret" not in str(caught.value)
