"""The table on both engines: it is what the events say, whatever came late and in what order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ledger.analytics import EngineAnalytics
from ledger.attribution.identity import identity_of
from ledger.attribution.journeys import STEPS_MAX, journeys
from ledger.attribution.reading import read_bids, read_conversions
from ledger.attribution.table import Attributor, channel_credits
from ledger.attribution.terms import CREDIT_MICROS, NOBODY, Level, Lookback, Model, Rules
from ledger.chores import Keep, Retain
from ledger.clickhouse import ClickHouseEngine, address_of
from ledger.embedded import ChdbEngine
from ledger.housekeeping import Housekeeper
from ledger.loader import event_table
from ledger.reports import Window
from market.errors import BadInput
from market.events import DAY_MS, EVENT_DTYPE, EventFlag, EventKind, event_id
from tests.ledger.attribution.worlds import rows_of
from tests.ledger.stores import START_MS, clickhouse_or_skip, empty_tables
from tests.reference import attribution as reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ledger.analytics import AnalyticsEngine

HOUR_MS = 3_600_000
DAY = START_MS // DAY_MS
RULES = Rules(lookback=Lookback(8 * HOUR_MS, 3 * HOUR_MS), learning_days=2)
WINDOW = Window(START_MS, START_MS + 4 * DAY_MS, DAY_MS)
KINDS = (EventKind.IMPRESSION, EventKind.BILLING, EventKind.CLICK, EventKind.CONVERSION)


def history(seed: int, bid_count: int = 400) -> np.ndarray:
    """Bids of twenty users over three days with all their notices, some of them tests."""
    rng = np.random.default_rng(seed)
    bids = np.zeros(bid_count, EVENT_DTYPE)
    bids["bid_hi"], bids["bid_lo"] = rng.integers(0, 2**64, (2, bid_count), np.uint64)
    bids["bid_ms"] = START_MS + np.sort(rng.integers(0, 3 * DAY_MS - HOUR_MS, bid_count))
    bids["user_key"] = rng.integers(0, 20, bid_count)
    bids["user_key"] *= np.uint64(0x0765_4321_9ABC_DEF1)
    bids["advertiser_id"] = rng.integers(1, 3, bid_count)
    bids["campaign_id"] = bids["advertiser_id"] * 10 + rng.integers(0, 3, bid_count)
    bids["line_item_id"] = bids["campaign_id"] * 10 + rng.integers(0, 2, bid_count)
    bids["creative_id"] = bids["line_item_id"] * 10
    bids["exchange"] = rng.integers(1, 4, bid_count)
    bids["account_currency"] = np.where(bids["advertiser_id"] == 1, 840, 978)
    bids["flags"] = np.where(rng.random(bid_count) < 0.05, int(EventFlag.TEST), 0)
    parts = []
    for kind, chance, delay_ms in zip(
        KINDS, (0.6, 0.7, 0.3, 0.2), (2_000, 1_000, 60_000, HOUR_MS), strict=True
    ):
        part = bids[rng.random(bid_count) < chance].copy()
        part["kind"] = kind
        part["ts_ms"] = part["bid_ms"] + delay_ms + rng.integers(0, delay_ms, part.shape[0])
        part["recv_ms"] = part["ts_ms"] + 5
        if kind == EventKind.CONVERSION:
            part["order_code"] = rng.integers(1, 2**64, part.shape[0], np.uint64)
            part["value_micros"] = rng.integers(0, 10**8, part.shape[0])
        ids = [
            event_id(*key)
            for key in zip(
                *(part[name].tolist() for name in ("kind", "bid_hi", "bid_lo", "order_code")),
                strict=True,
            )
        ]
        part["id_hi"], part["id_lo"] = np.array(ids, np.uint64).T
        parts.append(part)
    return np.concatenate(parts)


@pytest.fixture(scope="module", params=["chdb", "clickhouse-server"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AnalyticsEngine]:
    if request.param == "chdb":
        opened = ChdbEngine(tmp_path_factory.mktemp("store"))
        yield opened
        opened.close()
        return
    server = clickhouse_or_skip(tmp_path_factory.mktemp("server"))
    try:
        opened = ClickHouseEngine(address_of(server.url))
        yield opened
        opened.close()
    finally:
        server.stop()


@pytest.fixture
def empty(engine: AnalyticsEngine) -> AnalyticsEngine:
    empty_tables(engine)
    return engine


def stored(engine: AnalyticsEngine) -> list[list[object]]:
    return engine.execute(
        "SELECT advertiser_id, id_hi, id_lo, model, level, channel, ts_ms, account_currency, "
        "credit_micros, value_micros FROM attributions FINAL "
        "WHERE credit_micros != 0 OR value_micros != 0 "
        "ORDER BY advertiser_id, id_hi, id_lo, model, level, channel"
    ).rows


def counted(events: np.ndarray) -> np.ndarray:
    return events[events["flags"] == 0]


def test_columns_are_read_whole_in_any_number_of_parts(empty: AnalyticsEngine) -> None:
    events = history(1)
    empty.insert("events", event_table(events))
    empty.insert("events", event_table(events))  # repeats count once
    analytics = EngineAnalytics(empty)
    end_ms = START_MS + 9 * DAY_MS
    real = counted(events)
    whole = read_bids(analytics, START_MS, end_ms)
    parts = read_bids(analytics, START_MS, end_ms, part_rows=50)
    touches = real[real["kind"] != EventKind.CONVERSION]
    for found in (whole, parts):
        rows = {(row["bid_hi"], row["bid_lo"]): row for row in rows_of(found)}
        assert len(rows) == found.bid_hi.shape[0]
        assert set(rows) == set(
            zip(*(touches[n].tolist() for n in ("bid_hi", "bid_lo")), strict=True)
        )
        for event in touches:
            row = rows[int(event["bid_hi"]), int(event["bid_lo"])]
            name = "clicked_ms" if event["kind"] == EventKind.CLICK else "shown_ms"
            assert row[name] <= event["ts_ms"]
            assert row["user_key"] == event["user_key"]
            assert row["line_item_id"] == event["line_item_id"]
            assert row["exchange"] == event["exchange"]
    bought = real[real["kind"] == EventKind.CONVERSION]
    found = read_conversions(analytics, START_MS, end_ms, part_rows=7)
    assert sorted(zip(found.id_lo.tolist(), found.value_micros.tolist(), strict=True)) == sorted(
        zip(bought["id_lo"].tolist(), bought["value_micros"].tolist(), strict=True)
    )
    assert read_bids(analytics, 0, 1).bid_hi.shape == (0,)


def test_every_conversion_is_shared_to_the_last_micro_and_as_the_twin_says(
    empty: AnalyticsEngine,
) -> None:
    events = history(2)
    empty.insert("events", event_table(events))
    attributor = Attributor(empty, RULES)
    done = attributor.recompute(range(DAY, DAY + 4))
    real = counted(events)
    bought = real[real["kind"] == EventKind.CONVERSION]
    assert done.conversions == bought.shape[0] > 30
    sums: dict[tuple[object, ...], list[int]] = {}
    for row in stored(empty):
        total = sums.setdefault(tuple(row[1:5]), [0, 0])
        total[0] += row[8]
        total[1] += row[9]
    values = {(int(e["id_hi"]), int(e["id_lo"])): int(e["value_micros"]) for e in bought}
    assert len(sums) == len(values) * len(Model) * len(Level)
    for (id_hi, id_lo, _, _), total in sums.items():
        assert total == [CREDIT_MICROS, values[id_hi, id_lo]]
    # Last click against the twin, event by event.
    analytics = EngineAnalytics(empty)
    bids = rows_of(read_bids(analytics, START_MS - DAY_MS, START_MS + 9 * DAY_MS))
    touches = reference.touches_of(bids, "campaign_id", {})
    got = {
        (row[1], row[2]): row[5]
        for row in stored(empty)
        if row[3] == Model.LAST_CLICK and row[4] == Level.CAMPAIGN
    }
    conversions = rows_of(read_conversions(analytics, START_MS, START_MS + 9 * DAY_MS))
    expected = {}
    for row in conversions:
        path = reference.path_of(touches, row, {}, 8 * HOUR_MS, 3 * HOUR_MS, 1_000)
        clicks = [touch for touch in path if touch.is_click]
        last = (clicks or path)[-1].channel if path else NOBODY
        expected[row["id_hi"], row["id_lo"]] = last
    assert got == expected
    assert NOBODY in expected.values()


def test_late_events_in_any_order_end_in_the_same_table(empty: AnalyticsEngine) -> None:
    events = history(3)
    rng = np.random.default_rng(4)
    late = rng.random(events.shape[0]) < 0.3
    events["recv_ms"][late] += 5 * DAY_MS
    days = range(DAY, DAY + 4)
    empty.insert("events", event_table(events[~late]))
    attributor = Attributor(empty, RULES)
    attributor.recompute(days)
    before = stored(empty)
    empty.insert("events", event_table(events[late]))
    changed = attributor.days_to_redo(since_ms=int(events["recv_ms"][late].min()))
    assert set(changed) <= set(days)
    again = attributor.recompute(changed)
    after = stored(empty)
    assert after != before
    assert again.rows_written > 0
    assert attributor.recompute(days).rows_written == 0, "an unchanged day must write nothing"
    assert stored(empty) == after
    for table in ("events", "attributions"):
        empty.execute(f"TRUNCATE TABLE {table}")
    empty.insert("events", event_table(events[rng.permutation(events.shape[0])]))
    attributor.recompute(days)
    assert stored(empty) == after


def test_a_day_alone_is_what_it_is_among_others(empty: AnalyticsEngine) -> None:
    empty.insert("events", event_table(history(5)))
    attributor = Attributor(empty, RULES)
    attributor.recompute(range(DAY, DAY + 4))
    for day in range(DAY, DAY + 4):
        assert attributor.recompute([day]).rows_written == 0


def test_what_is_no_longer_earned_becomes_zero(empty: AnalyticsEngine) -> None:
    events = history(6)
    empty.insert("events", event_table(events))
    attributor = Attributor(empty, RULES)
    attributor.recompute(range(DAY, DAY + 4))
    # The same events, received again as tests: they count nowhere any more.
    withdrawn = events.copy()
    withdrawn["flags"] = EventFlag.TEST
    withdrawn["recv_ms"] += 9 * DAY_MS
    empty.insert("events", event_table(withdrawn))
    since_ms = int(withdrawn["recv_ms"].min())
    attributor.recompute(attributor.days_to_redo(since_ms))
    assert stored(empty) == []
    assert channel_credits(EngineAnalytics(empty), 1, WINDOW) == ()


def test_reports_are_of_one_advertiser_and_sum_to_its_conversions(empty: AnalyticsEngine) -> None:
    events = history(7)
    empty.insert("events", event_table(events))
    Attributor(empty, RULES).recompute(range(DAY, DAY + 4))
    real = counted(events)
    for advertiser in (1, 2):
        own = real[
            (real["kind"] == EventKind.CONVERSION)
            & (real["advertiser_id"] == advertiser)
            & (real["ts_ms"] < WINDOW.end_ms)
        ]
        rows = channel_credits(EngineAnalytics(empty), advertiser, WINDOW)
        assert {row.model for row in rows} == {model.name.lower() for model in Model}
        assert {row.channel // 10 for row in rows if row.channel != NOBODY} == {advertiser}
        assert {row.currency for row in rows} == {"USD" if advertiser == 1 else "EUR"}
        for model in Model:
            mine = [row for row in rows if row.model == model.name.lower()]
            assert sum(row.credit_micros for row in mine) == own.shape[0] * CREDIT_MICROS
            assert sum(row.value_micros for row in mine) == own["value_micros"].sum()
        half = Window(START_MS + 30 * HOUR_MS, START_MS + 50 * HOUR_MS, HOUR_MS)
        inside = own[(own["ts_ms"] >= half.start_ms) & (own["ts_ms"] < half.end_ms)]
        rows = channel_credits(
            EngineAnalytics(empty), advertiser, half, Level.EXCHANGE, [Model.LINEAR]
        )
        assert sum(row.credit_micros for row in rows) == inside.shape[0] * CREDIT_MICROS


def test_journeys_show_an_advertiser_its_own_steps_and_no_user(empty: AnalyticsEngine) -> None:
    events = history(8)
    empty.insert("events", event_table(events))
    analytics = EngineAnalytics(empty)
    real = counted(events)
    for advertiser in (1, 2):
        mine = real[(real["advertiser_id"] == advertiser) & (real["user_key"] != 0)]
        found = journeys(analytics, advertiser, WINDOW, limit=1_000)
        assert len(found) == np.unique(mine["user_key"]).shape[0]
        assert [journey.number for journey in found] == list(range(1, len(found) + 1))
        steps = [step for journey in found for step in journey.steps]
        assert {step.campaign_id // 10 for step in steps} == {advertiser}
        for what, kind in (("click", EventKind.CLICK), ("conversion", EventKind.CONVERSION)):
            assert sorted(step.at_ms for step in steps if step.what == what) == sorted(
                mine["ts_ms"][mine["kind"] == kind].tolist()
            )
        seen = mine[(mine["kind"] == EventKind.IMPRESSION) | (mine["kind"] == EventKind.BILLING)]
        assert sum(step.what == "impression" for step in steps) == np.unique(seen["bid_lo"]).size
        for journey in found:
            assert list(journey.steps) == sorted(journey.steps, key=lambda step: step.at_ms)
            assert len(journey.steps) <= STEPS_MAX
        bought = mine[mine["kind"] == EventKind.CONVERSION]
        assert sum(sum(j.value_micros_by_currency.values()) for j in found) == int(
            bought["value_micros"].sum()
        )
        assert sum(journey.conversions for journey in found) == bought.shape[0]
        keys = {str(key) for key in np.unique(mine["user_key"])}
        assert not any(key in repr(found) for key in keys)
    assert journeys(analytics, 3, WINDOW) == ()
    with pytest.raises(BadInput, match="limit 0"):
        journeys(analytics, 1, WINDOW, limit=0)


def test_journeys_of_linked_users_are_one(empty: AnalyticsEngine) -> None:
    events = history(9)
    empty.insert("events", event_table(events))
    analytics = EngineAnalytics(empty)
    real = counted(events)
    users = np.unique(real["user_key"][(real["advertiser_id"] == 1) & (real["user_key"] != 0)])
    apart = journeys(analytics, 1, WINDOW, limit=1_000)
    one = journeys(
        analytics, 1, WINDOW, 1_000, identity_of(users, np.full(users.shape[0], 5, np.uint64))
    )
    assert len(apart) == users.shape[0] > 1
    assert len(one) == 1
    steps = sum(len(journey.steps) for journey in apart)
    assert len(one[0].steps) == min(steps, STEPS_MAX)


def test_days_that_retention_took_events_from_are_left_as_they_are(empty: AnalyticsEngine) -> None:
    events = history(seed=12)
    empty.insert("events", event_table(events))
    attributor = Attributor(empty, RULES)
    days = range(DAY, DAY + 3)
    attributor.recompute(days)
    before = stored(empty)
    assert before
    Housekeeper(empty).do(Retain(DAY + 2, Keep(event_days=2, hour_days=9, user_days=2)))
    assert attributor.kept_days(days) == []
    assert attributor.recompute(days).rows_written == 0
    assert stored(empty) == before
