"""Queries on both engines: the same as a slow count of the events, whatever is rolled up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from ledger.loader import event_table
from ledger.measures import DIVIDED, SUMS
from ledger.query import DIMENSIONS, FILTERS, MEASURES, ROWS_MAX, Query, Scope, answer, read_query
from ledger.reports import campaign_totals
from ledger.rollup import build_changed, build_day, freshness, touched_days
from ledger.sql import Rows
from market.errors import BadInput
from market.events import DAY_MS, EventFlag
from tests.ledger.stores import START_MS, Asked, made_up_events
from tests.reference import query as reference

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ledger.analytics import AnalyticsEngine, ArrowTable

FIRST = START_MS // DAY_MS
WHOLE = {"start_ms": START_MS, "end_ms": START_MS + 4 * DAY_MS}
ADVERTISERS = (1, 2, 3)


def with_more_keys(events: npt.NDArray[np.void], seed: int) -> npt.NDArray[np.void]:
    rng = np.random.default_rng(seed)
    events["exchange"] = rng.integers(1, 4, events.shape[0])
    events["format"] = rng.choice(np.array([1, 2, 4, 8], np.uint8), events.shape[0])
    return events


def random_query(rng: np.random.Generator) -> Query:
    dimensions = tuple(
        str(name) for name in rng.permutation(sorted(DIMENSIONS))[: rng.integers(0, 4)]
    )
    measures = tuple(str(name) for name in rng.permutation(MEASURES)[: rng.integers(1, 7)])
    filters: dict[str, tuple[int | str, ...]] = {}
    if rng.random() < 0.4:
        filters["campaign_id"] = tuple(rng.integers(1, 6, 2).tolist())
    if rng.random() < 0.3:
        filters["currency"] = ("USD",)
    if rng.random() < 0.3:
        filters["format"] = ("BANNER", "VIDEO", 8)
    hours = np.sort(rng.choice(49, 2, replace=False)) * 3_600_000
    return Query(
        measures, START_MS + int(hours[0]), START_MS + int(hours[1]), dimensions, filters,
        limit=ROWS_MAX,
    )  # fmt: skip


def expected(events, scope: Scope, query: Query, invalid=()) -> list[tuple[object, ...]]:
    columns = list(query.dimensions)
    money = any(name.endswith("_micros") or name == "roas" for name in query.measures)
    if money and "currency" not in columns:
        columns.append("currency")
    filters = {
        name: ["NATIVE" if value == 8 and name == "format" else value for value in values]
        for name, values in query.filters.items()
    }
    return reference.answer(
        events, scope.advertiser_id, columns, query.measures, filters, query.start_ms,
        query.end_ms, invalid,
    )  # fmt: skip


def rows_of(found) -> list[tuple[object, ...]]:
    return sorted(found.rows, key=lambda row: tuple(map(str, row)))


def check(engine: AnalyticsEngine, events, seed: int, count: int, invalid=()) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        query = random_query(rng)
        scope = Scope(int(rng.integers(1, 5)))
        found = answer(Asked(engine), scope, query)
        rows = sorted(expected(events, scope, query, invalid), key=lambda r: tuple(map(str, r)))
        assert not found.is_cut
        assert rows_of(found) == rows, query


def test_answers_are_those_of_a_slow_count_in_every_state_of_the_roll_ups(
    engine: AnalyticsEngine,
) -> None:
    events = with_more_keys(made_up_events(1_500, seed=1), 1)
    engine.insert("events", event_table(events))
    assert freshness(Asked(engine)).changed == {FIRST, FIRST + 1}
    check(engine, events, seed=2, count=12)
    build_day(engine, FIRST, slice_rows=100)
    assert freshness(Asked(engine)) == ({FIRST}, {FIRST + 1})
    check(engine, events, seed=3, count=12)
    assert build_changed(engine) == (FIRST + 1,)
    assert build_changed(engine) == ()
    check(engine, events, seed=4, count=12)
    # Repeats with a later word on some events, and events of a third day.
    repeated = events[::3].copy()
    repeated["recv_ms"] += 9
    repeated["amount_micros"] += 1_000_003
    late = with_more_keys(made_up_events(200, seed=5, days=1), 5)
    late["bid_ms"] += 2 * DAY_MS
    late["ts_ms"] += 2 * DAY_MS
    for more in (repeated, late, late):
        engine.insert("events", event_table(more))
    assert freshness(Asked(engine)).changed == {FIRST, FIRST + 1, FIRST + 2}
    everything = np.concatenate([events, repeated, late])
    check(engine, everything, seed=6, count=8)
    build_day(engine, FIRST + 1)
    check(engine, everything, seed=7, count=8)
    build_changed(engine)
    check(engine, everything, seed=8, count=8)


def test_marked_events_are_summed_apart_and_their_days_computed_anew(
    engine: AnalyticsEngine,
) -> None:
    events = with_more_keys(made_up_events(800, seed=11), 11)
    engine.insert("events", event_table(events))
    build_changed(engine)
    marked = events[::4]
    invalid = set(zip(marked["id_hi"].tolist(), marked["id_lo"].tolist(), strict=True))
    table = {
        "day": pa.array((marked["bid_ms"] // DAY_MS).astype(np.int32)).cast(pa.date32()),
        "id_hi": pa.array(marked["id_hi"].copy()),
        "id_lo": pa.array(marked["id_lo"].copy()),
        "advertiser_id": pa.array(marked["advertiser_id"].copy()),
        "reasons": pa.array(np.ones(marked.shape[0], np.uint16)),
        "version": pa.array(np.ones(marked.shape[0], np.uint64)),
    }
    engine.insert("invalid_traffic", pa.table(table))
    assert freshness(Asked(engine)).changed == {FIRST, FIRST + 1}
    check(engine, events, seed=12, count=8, invalid=invalid)
    build_changed(engine)
    check(engine, events, seed=13, count=8, invalid=invalid)
    table["reasons"] = pa.array(np.zeros(marked.shape[0], np.uint16))
    table["version"] = pa.array(np.full(marked.shape[0], 2, np.uint64))
    engine.insert("invalid_traffic", pa.table(table))
    build_changed(engine)
    check(engine, events, seed=14, count=8)


def test_sums_are_those_of_the_reports(engine: AnalyticsEngine) -> None:
    events = made_up_events(3_000, seed=21)
    engine.insert("events", event_table(events))
    build_changed(engine)
    names = (
        "bids", "wins", "impressions", "clicks", "conversions", "conversion_value_micros",
        "spend_micros",
    )  # fmt: skip
    query = Query(names, dimensions=("campaign_id", "currency"), **WHOLE)
    found = answer(Asked(engine), Scope(None), query)
    totals = campaign_totals(Asked(engine))
    assert found.rows == tuple(
        (total.campaign_id, total.currency, *(getattr(total, name) for name in names))
        for total in totals
    )


def test_no_query_of_an_advertiser_shows_anything_of_another(engine: AnalyticsEngine) -> None:
    events = with_more_keys(made_up_events(2_000, seed=31), 31)
    engine.insert("events", event_table(events))
    build_day(engine, FIRST)
    campaigns = {1: {1, 2}, 2: {3, 4}, 3: {5}}
    asking_all = Query(
        ("bids", "spend_micros"), dimensions=("campaign_id",),
        filters={"campaign_id": (1, 2, 3, 4, 5)}, **WHOLE,
    )  # fmt: skip
    for advertiser in ADVERTISERS:
        seen = {row[0] for row in answer(Asked(engine), Scope(advertiser), asking_all).rows}
        assert seen == campaigns[advertiser]
    assert answer(Asked(engine), Scope(77), asking_all).rows == ()


def test_rows_come_in_the_order_and_the_pieces_that_were_asked_for(
    engine: AnalyticsEngine,
) -> None:
    engine.insert("events", event_table(made_up_events(1_000, seed=41)))

    def rows(limit: int, offset: int):
        query = Query(
            ("bids", "clicks"), dimensions=("campaign_id", "day"), order_by=("-bids", "day"),
            limit=limit, offset=offset, **WHOLE,
        )  # fmt: skip
        return answer(Asked(engine), Scope(None), query)

    whole = rows(1_000, 0)
    assert list(whole.rows) == sorted(whole.rows, key=lambda row: (-row[2], row[1], row[0]))
    pieces = [rows(4, offset) for offset in range(0, len(whole.rows), 4)]
    assert sum((piece.rows for piece in pieces), ()) == whole.rows
    assert [piece.is_cut for piece in pieces] == [True] * (len(pieces) - 1) + [False]


def test_an_empty_store_answers_with_nothing(engine: AnalyticsEngine) -> None:
    assert answer(Asked(engine), Scope(1), Query(("bids", "ctr"), **WHOLE)).rows == ((0, None),)
    query = Query(("spend_micros",), **WHOLE)
    assert answer(Asked(engine), Scope(1), query).columns == ("currency", "spend_micros")
    assert answer(Asked(engine), Scope(1), query).rows == ()
    assert touched_days(engine) == {}


class NobodyAsked:
    """A store that must not be reached."""

    def query(self, sql: str, /, **parameters: object):
        raise AssertionError(f"asked {sql}")


@pytest.mark.parametrize(
    ("body", "pointer", "said"),
    [
        ({"measures": []}, "/measures", "at least one measure"),
        ({"measures": ["bids", "sum(amount_micros)"]}, "/measures/1", "must be one of bids, wins"),
        ({"dimensions": ["user_key"]}, "/dimensions/0", "must be one of month"),
        ({"dimensions": ["advertiser_id"]}, "/dimensions/0", "must be one of month"),
        ({"dimensions": ["day", "day"]}, "/dimensions", "once"),
        ({"filters": {"advertiser_id": [2]}}, "/filters/advertiser_id", "must be one of"),
        ({"filters": {"campaign_id": []}}, "/filters/campaign_id", "0 values"),
        ({"filters": {"campaign_id": ["1 OR 1"]}}, "/filters/campaign_id", "a whole number"),
        ({"filters": {"campaign_id": [-1]}}, "/filters/campaign_id", "must be in 0..2"),
        ({"filters": {"currency": ["XXX"]}}, "/filters/currency", "must be one of AED"),
        ({"order_by": ["-ctr"]}, "/order_by/0", "must be one of bids"),
        ({"order_by": ["day"]}, "/order_by/0", "must be one of bids"),
        ({"start_ms": 1}, "/start_ms", "whole hour"),
        ({"start_ms": 0}, "/end_ms", "hours; there must be"),
        ({"end_ms": START_MS}, "/end_ms", "0 hours"),
        ({"limit": 0}, "/limit", "must be in 1.."),
        ({"limit": 100_001}, "/limit", "must be in 1.."),
        ({"offset": -1}, "/offset", "must be in 0.."),
    ],
)
def test_what_is_not_on_the_lists_is_refused_before_the_store_is_asked(body, pointer, said) -> None:
    query = read_query(json.dumps({"measures": ["bids"], **WHOLE, **body}).encode())
    with pytest.raises(BadInput, match=said) as caught:
        answer(_FreshButSilent(), Scope(1), query)
    assert caught.value.pointer == pointer


class _FreshButSilent(NobodyAsked):
    """Knows that nothing is rolled up, and answers no question about events."""

    def query(self, sql: str, /, **parameters: object):
        if "FROM rollup_days" in sql or "FROM touched_days" in sql:
            return Rows(["day_number", "n"], [])
        if "FROM retention" in sql:
            return Rows(["day_number"], [[0]])
        return super().query(sql, **parameters)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b'{"measures": ["bids"]}', b'{"measures": "bids"}', b"[" * 100_000,
        json.dumps({"measures": ["bids"], "advertiser_id": 2, **WHOLE}).encode(),
        json.dumps({"measures": ["bids"], "sql": "SELECT 1", **WHOLE}).encode(),
    ],
)  # fmt: skip
def test_a_body_that_is_no_query_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput, match="query:"):
        read_query(body)


def test_the_lists_are_what_the_documentation_says() -> None:
    assert set(FILTERS) < set(DIMENSIONS)
    assert set(MEASURES) == {*SUMS, *DIVIDED}


def test_a_day_that_has_nothing_to_sum_is_rolled_up_to_nothing(engine: AnalyticsEngine) -> None:
    events = made_up_events(200, seed=51, days=1)
    engine.insert("events", event_table(events))
    assert build_day(engine, FIRST) > 0
    # The last word on every event of the day is that it was a test.
    repeated = events.copy()
    repeated["flags"] = int(EventFlag.TEST)
    repeated["recv_ms"] += 1
    engine.insert("events", event_table(repeated))
    assert build_changed(engine) == (FIRST,)
    assert freshness(Asked(engine)) == ({FIRST}, set())
    query = Query(("bids", "disputed"), **WHOLE)
    assert answer(Asked(engine), Scope(None), query).rows == ((0, 0),)
    assert engine.execute("SELECT count() AS n FROM delivery_hours").rows == [[0]]


def test_two_processes_that_build_a_day_at_once_leave_it_whole(engine: AnalyticsEngine) -> None:
    events = made_up_events(400, seed=52, days=1)
    engine.insert("events", event_table(events))
    query = Query(("bids",), **WHOLE)
    before = answer(Asked(engine), Scope(None), query).rows
    second = _InTheMiddle(engine, lambda: build_day(engine, FIRST))
    build_day(second, FIRST)
    assert second.was_there
    assert freshness(Asked(engine)) == ({FIRST}, set())
    assert answer(Asked(engine), Scope(None), query).rows == before
    tables = engine.execute("SELECT name FROM system.tables WHERE database = currentDatabase()")
    assert not [name for (name,) in tables.rows if str(name).startswith("delivery_hours_")]


class _InTheMiddle:
    """An engine that does something else just before a partition is replaced."""

    def __init__(self, engine: AnalyticsEngine, act: Callable[[], object]) -> None:
        self._engine, self._act, self.was_there = engine, act, False

    def execute(self, sql: str) -> Rows:
        if "REPLACE PARTITION" in sql and not self.was_there:
            self.was_there = True
            self._act()
        return self._engine.execute(sql)

    def insert(self, table: str, rows: ArrowTable) -> None:
        self._engine.insert(table, rows)
