"""A store of an older version is brought to the newest, on both engines, however often it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ledger.loader import event_table
from ledger.migration import migrate
from ledger.rollup import touched_days
from ledger.sql import schema_versions
from market.errors import BadInput, Corrupt
from tests.ledger.stores import empty_tables, made_up_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ledger.analytics import AnalyticsEngine

LAST = len(schema_versions())


@pytest.fixture
def engine(shared: AnalyticsEngine) -> Iterator[AnalyticsEngine]:
    yield shared
    shared.execute("DROP TABLE IF EXISTS made_up")
    empty_tables(shared)
    shared.execute("TRUNCATE TABLE schema_versions")
    migrate(shared, schema_versions())


def tables(engine: AnalyticsEngine) -> set[object]:
    found = engine.execute("SELECT name FROM system.tables WHERE database = currentDatabase()")
    return {name for (name,) in found.rows}


def forget_later_versions(engine: AnalyticsEngine) -> None:
    """Leaves what a build before there were versions had made."""
    for name in sorted(str(name) for name in tables(engine)):
        if name not in ("events", "cursors") and not name.startswith("."):
            engine.execute(f"DROP TABLE {name}")


def test_a_store_from_before_versions_keeps_its_rows_and_knows_its_days(
    engine: AnalyticsEngine,
) -> None:
    forget_later_versions(engine)
    assert tables(engine) == {"events", "cursors"}
    events = made_up_events(600, seed=1)
    engine.insert("events", event_table(events))
    assert migrate(engine, schema_versions()) == LAST
    assert engine.execute("SELECT count() AS n FROM events FINAL").rows == [[600]]
    days, counts = np.unique(events["bid_ms"] // 86_400_000, return_counts=True)
    assert touched_days(engine) == dict(zip(days.tolist(), counts.tolist(), strict=True))


def test_a_version_is_applied_once(engine: AnalyticsEngine) -> None:
    versions = (*schema_versions(), ("CREATE TABLE made_up (x Int64) ENGINE = Memory",))
    assert migrate(engine, versions) == LAST + 1
    assert migrate(engine, versions) == LAST + 1


def test_a_migration_that_broke_off_is_finished_by_the_next(engine: AnalyticsEngine) -> None:
    create = "CREATE TABLE IF NOT EXISTS made_up (x Int64) ENGINE = MergeTree ORDER BY x"
    add = "ALTER TABLE made_up ADD COLUMN y UInt32"
    with pytest.raises(BadInput, match="nonsense"):
        migrate(engine, (*schema_versions(), (create, add, "nonsense")))
    assert migrate(engine, (*schema_versions(), (create, add))) == LAST + 1
    assert engine.execute("SELECT x, y FROM made_up").rows == []


def test_a_store_of_a_later_build_is_refused(engine: AnalyticsEngine) -> None:
    migrate(engine, (*schema_versions(), ()))
    with pytest.raises(Corrupt, match=f"schema version {LAST + 1}: this build knows"):
        migrate(engine, schema_versions())
