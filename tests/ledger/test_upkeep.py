"""Retention, erasure and exports, on both engines."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from pyarrow import dataset, parquet

from ledger.chores import Erase, Erased, Keep, Retain, RollUp
from ledger.erasure import erase, erase_again, events_of
from ledger.export import MANIFEST, Manifest, export_answer, export_events
from ledger.housekeeping import Housekeeper
from ledger.loader import event_table
from ledger.query import Query, Scope, answer
from ledger.rollup import build_changed, freshness
from market.errors import BadInput
from market.events import DAY_MS, EVENT_DTYPE
from tests.ledger.stores import START_MS, Asked, made_up_events

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.analytics import AnalyticsEngine

FIRST = START_MS // DAY_MS
ALL = Scope(None)


def number(engine: AnalyticsEngine, sql: str) -> object:
    return engine.execute(sql).rows[0][0]


def delivered(engine: AnalyticsEngine):
    query = Query(
        ("bids", "clicks", "spend_micros"), START_MS, START_MS + 20 * DAY_MS,
        dimensions=("campaign_id", "day"),
    )  # fmt: skip
    return answer(Asked(engine), ALL, query).rows


# Retention.


def test_old_events_go_their_sums_stay_and_users_are_forgotten_first(
    engine: AnalyticsEngine,
) -> None:
    engine.insert("events", event_table(made_up_events(2_000, seed=1, days=10)))
    before = delivered(engine)
    keeper = Housekeeper(engine)
    chore = Retain(FIRST + 9, Keep(event_days=4, hour_days=100, user_days=2))
    done = keeper.do(chore)
    assert (done.event_days_dropped, done.hour_days_dropped) == (6, 0)
    assert number(engine, "SELECT toUInt16(min(day)) AS d FROM events") == FIRST + 6
    assert delivered(engine) == before
    for day, has_users in ((FIRST + 6, 0), (FIRST + 7, 0), (FIRST + 8, 1), (FIRST + 9, 1)):
        counted = f"SELECT max(user_key) != 0 AS u FROM events WHERE day = toDate({day})"
        assert number(engine, counted) == has_users
    forgotten = (
        "SELECT countIf(arraySum(features) != 0 OR arraySum(caps) != 0) AS n FROM events "
        "WHERE user_key = 0"
    )
    assert number(engine, forgotten) == 0
    assert done.events_unlinked > 0
    assert keeper.do(chore) == msgspec.structs.replace(
        done, event_days_dropped=0, events_unlinked=0
    )
    later = keeper.do(Retain(FIRST + 9, Keep(event_days=2, hour_days=5, user_days=1)))
    assert (later.event_days_dropped, later.hour_days_dropped) == (2, 5)
    # The hours of a bid day that is gone reached into the next day, at most by an hour here.
    left = [row for row in delivered(engine) if row[1] >= "2026-01-07"]
    assert [row for row in before if row[1] >= "2026-01-07"] == left


def test_an_event_that_comes_after_its_day_was_dropped_changes_no_sum(
    engine: AnalyticsEngine,
) -> None:
    events = made_up_events(800, seed=2, days=5)
    engine.insert("events", event_table(events))
    before = delivered(engine)
    chore = Retain(FIRST + 4, Keep(event_days=2, hour_days=100, user_days=1))
    Housekeeper(engine).do(chore)
    engine.insert("events", event_table(events[:50]))
    build_changed(engine)
    assert delivered(engine) == before
    assert Housekeeper(engine).do(chore).event_days_dropped > 0


@pytest.mark.parametrize(
    ("user_days", "event_days", "hour_days"), [(0, 1, 1), (2, 1, 1), (1, 3, 2), (1, 1, 70_000)]
)
def test_how_long_must_make_sense(user_days: int, event_days: int, hour_days: int) -> None:
    with pytest.raises(BadInput, match="none longer than the next"):
        Keep(event_days=event_days, hour_days=hour_days, user_days=user_days)


# Erasure and access.


def test_erased_users_leave_no_trace_and_no_sum_changes(engine: AnalyticsEngine) -> None:
    events = made_up_events(1_000, seed=3)
    events["user_key"] = np.random.default_rng(3).integers(1, 6, 1_000)
    engine.insert("events", event_table(events))
    Housekeeper(engine).do(RollUp())
    before = delivered(engine)
    of_two = np.isin(events["user_key"], (2, 4))
    done = Housekeeper(engine).do(Erase((2, 4, 4), START_MS))
    assert (done.users, done.events) == (2, int(of_two.sum()))
    assert number(engine, "SELECT countIf(user_key IN (2, 4)) AS n FROM events") == 0
    left = "SELECT count() AS n FROM events WHERE user_key = 0 AND arraySum(features) != 0"
    assert number(engine, left) == 0
    assert number(engine, "SELECT count() AS n FROM events WHERE user_key != 0") == int(
        (~of_two).sum()
    )
    assert delivered(engine) == before
    assert list(events_of(Asked(engine), (2, 4))) == []


def test_what_is_loaded_again_of_an_erased_user_is_erased_again(engine: AnalyticsEngine) -> None:
    events = made_up_events(300, seed=4)
    events["user_key"] = 9
    erase(engine, (9,), START_MS)
    engine.insert("events", event_table(events))
    assert erase_again(engine) == erase_again_done(300)
    assert erase_again(engine) == erase_again_done(0)
    assert Housekeeper(engine).upkeep()  # a day to roll up
    assert number(engine, "SELECT max(user_key) AS u FROM events") == 0


def erase_again_done(events: int):
    return Erased(users=int(events > 0), events=events)


def test_a_user_gets_all_and_only_what_is_its_own(engine: AnalyticsEngine) -> None:
    events = made_up_events(5_000, seed=5)
    events["user_key"] = np.where(np.arange(5_000) % 2 == 0, 7, 2**64 - 1)
    engine.insert("events", event_table(events))
    found = list(events_of(Asked(engine), (2**64 - 1,)))
    own = events[1::2]
    assert {(row["id_hi"], row["id_lo"]) for row in found} == set(
        zip(own["id_hi"].tolist(), own["id_lo"].tolist(), strict=True)
    )
    assert [row["ts_ms"] for row in found] == sorted(own["ts_ms"].tolist())
    assert set(found[0]) == set(EVENT_DTYPE.names or ())
    by_id = {(row["id_hi"], row["id_lo"]): row for row in found}
    for event in own[:20]:
        row = by_id[int(event["id_hi"]), int(event["id_lo"])]
        assert row["features"] == event["features"].tolist()


def test_nobody_cannot_be_erased(engine: AnalyticsEngine) -> None:
    for keys in ((0,), (), (2**64,)):
        with pytest.raises(BadInput):
            erase(engine, keys, START_MS)


# Exports.


def test_an_export_is_what_the_store_holds_to_the_last_bit(
    engine: AnalyticsEngine, tmp_path: Path
) -> None:
    events = made_up_events(900, seed=6, days=3)
    events["amount_micros"][0] = 2**53 + 1
    repeated = events[:100].copy()
    repeated["recv_ms"] += 5
    for part in (events, repeated):
        engine.insert("events", event_table(part))
    manifest = export_events(Asked(engine), ALL, FIRST, FIRST + 1, tmp_path / "out", part_rows=100)
    kept = np.concatenate([repeated, events[100:]])
    kept = kept[kept["bid_ms"] // DAY_MS <= FIRST + 1]
    kept = kept[np.lexsort((kept["id_lo"], kept["id_hi"]))]
    assert manifest.rows == kept.shape[0] == sum(file.rows for file in manifest.files)
    assert len(manifest.files) > 5
    on_disk = msgspec.json.decode((tmp_path / "out" / MANIFEST).read_bytes(), type=Manifest)
    assert on_disk == manifest
    for file in manifest.files:
        body = (tmp_path / "out" / file.path).read_bytes()
        assert hashlib.sha256(body).hexdigest() == file.sha256
    files = sorted((tmp_path / "out").rglob("*.parquet"))
    table = dataset.dataset(files).to_table().sort_by([("id_hi", "ascending")])
    for name in EVENT_DTYPE.names or ():
        assert table[name].to_pylist() == kept[name].tolist(), name


def test_an_advertiser_gets_its_own_events_and_nothing_of_users(
    engine: AnalyticsEngine, tmp_path: Path
) -> None:
    events = made_up_events(600, seed=7)
    engine.insert("events", event_table(events))
    manifest = export_events(Asked(engine), Scope(2), FIRST, FIRST + 1, tmp_path / "out")
    table = dataset.dataset(sorted((tmp_path / "out").rglob("*.parquet"))).to_table()
    assert set(table["advertiser_id"].to_pylist()) == {2}
    assert table.num_rows == manifest.rows == int((events["advertiser_id"] == 2).sum())
    assert not {"user_key", "features", "caps", "propensity"} & set(table.column_names)


def test_an_export_never_mixes_with_what_is_there(engine: AnalyticsEngine, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("x")
    with pytest.raises(BadInput, match="must be empty"):
        export_events(Asked(engine), ALL, FIRST, FIRST, tmp_path)
    with pytest.raises(BadInput, match="ascending days"):
        export_events(Asked(engine), ALL, FIRST, FIRST - 1, tmp_path / "out")


def test_an_answer_can_be_kept_as_parquet(engine: AnalyticsEngine, tmp_path: Path) -> None:
    engine.insert("events", event_table(made_up_events(500, seed=8)))
    query = Query(
        ("spend_micros", "ctr"), START_MS, START_MS + 2 * DAY_MS, dimensions=("day", "campaign_id")
    )
    found = answer(Asked(engine), ALL, query)
    export_answer(found, tmp_path / "answer.parquet")
    table = parquet.read_table(tmp_path / "answer.parquet")
    assert table.column_names == list(found.columns)
    assert [tuple(row.values()) for row in table.to_pylist()] == list(found.rows)


def test_days_that_retention_dropped_are_not_computed_again(engine: AnalyticsEngine) -> None:
    engine.insert("events", event_table(made_up_events(500, seed=9, days=4)))
    Housekeeper(engine).do(Retain(FIRST + 3, Keep(event_days=2, hour_days=9, user_days=1)))
    assert freshness(Asked(engine)) == (set(range(FIRST, FIRST + 4)), set())
