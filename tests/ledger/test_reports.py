from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import reports
from ledger.clickhouse import ClickHouseEngine, address_of
from ledger.loader import event_table
from ledger.reports import Window
from ledger.rollup import build_changed, build_day, freshness
from market.errors import BadInput
from market.events import EventFlag, EventKind
from tests.ledger.stores import START_MS, Asked, RunFolder, clickhouse_or_skip, made_up_events
from tests.reference import reports as reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ledger.analytics import AnalyticsEngine
    from ledger.sql import Analytics

HOUR_MS = 3_600_000
WHOLE_HOURS = Window(START_MS + HOUR_MS, START_MS + 30 * HOUR_MS, 2 * HOUR_MS)
WINDOW = Window(START_MS + HOUR_MS, START_MS + 30 * HOUR_MS + 1, HOUR_MS)


def events_with_repeats() -> npt.NDArray[np.void]:
    """Events, a third of them received again: later, earlier, and with other contents."""
    events = made_up_events(6_000, seed=11)
    again = events[::3].copy()
    again["recv_ms"] += np.where(np.arange(again.shape[0]) % 2, 500, -500)
    again["amount_micros"] += 12_345
    again["value_micros"] += 77
    return np.concatenate([events, again])


@pytest.fixture(scope="module")
def events() -> npt.NDArray[np.void]:
    return events_with_repeats()


@pytest.fixture(scope="module", params=["chdb", "clickhouse-server"])
def analytics(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    events: npt.NDArray[np.void],
) -> Iterator[Analytics]:
    """The same events on both engines: in a store process, and on a real server."""
    if request.param == "chdb":
        folder = RunFolder(tmp_path_factory.mktemp("store"))
        with folder.running() as process:
            folder.wait_for(folder.write(*np.array_split(events, 3)), process)
            yield folder.client
        return
    server = clickhouse_or_skip(tmp_path_factory.mktemp("server"))
    try:
        engine = ClickHouseEngine(address_of(server.url))
        for part in np.array_split(events, 3):
            engine.insert("events", event_table(part))
        yield Asked(engine)
        engine.close()
    finally:
        server.stop()


def test_campaign_totals_are_the_twins(analytics: Analytics, events: npt.NDArray[np.void]) -> None:
    rows = reports.campaign_totals(analytics)
    expected = reference.campaign_totals(events)
    assert [(row.campaign_id, row.currency) for row in rows] == sorted(expected)
    for row in rows:
        found = msgspec.structs.asdict(row)
        key = (found.pop("campaign_id"), found.pop("currency"))
        assert found == expected[key]
    assert all(row.bids and row.conversions and row.spend_micros for row in rows)


def test_totals_are_the_twins(analytics: Analytics, events: npt.NDArray[np.void]) -> None:
    found = reports.totals(analytics)
    rows = reference.campaign_totals(events)
    for name in ("bids", "wins", "impressions", "clicks", "conversions"):
        assert getattr(found, name) == sum(row[name] for row in rows.values()), name
    assert found.events_recorded == reference.events_recorded(events) < 6_000
    assert found.spend_micros_by_currency == {
        currency: sum(row["spend_micros"] for key, row in rows.items() if key[1] == currency)
        for currency in ("USD", "EUR")
    }
    with pytest.raises(BadInput, match="USD, EUR"):
        _ = found.spend_micros


def test_spend_over_time_is_the_twins(analytics: Analytics, events: npt.NDArray[np.void]) -> None:
    found = reports.spend_over_time(analytics, WINDOW)
    assert series_of(found) == reference.over_time(
        events, WINDOW.start_ms, WINDOW.end_ms, WINDOW.bucket_ms, is_spend=True
    )
    assert {len(row.values) for row in found} == {WINDOW.bucket_count} == {30}


def test_conversions_over_time_are_the_twins(
    analytics: Analytics, events: npt.NDArray[np.void]
) -> None:
    found = reports.conversions_over_time(analytics, WINDOW)
    assert series_of(found) == reference.over_time(
        events, WINDOW.start_ms, WINDOW.end_ms, WINDOW.bucket_ms, is_spend=False
    )


def test_the_whole_span_in_buckets_sums_to_the_totals(analytics: Analytics) -> None:
    span = reports.time_span(analytics)
    window = Window(span.first_ms, span.last_ms + 1, HOUR_MS)
    totals = reports.campaign_totals(analytics)
    for series, name in (
        (reports.spend_over_time, "spend_micros"),
        (reports.conversions_over_time, "conversions"),
    ):
        found = {
            (row.campaign_id, row.currency): sum(row.values) for row in series(analytics, window)
        }
        expected = {(row.campaign_id, row.currency): getattr(row, name) for row in totals}
        assert found == expected, name


@pytest.mark.parametrize("bucket_count", [1, 7, 40])
def test_win_prices_are_the_twins(
    analytics: Analytics, events: npt.NDArray[np.void], bucket_count: int
) -> None:
    found = reports.win_prices(analytics, bucket_count)
    expected = reference.win_prices(events)
    assert [row.currency for row in found] == ["USD", "EUR"]
    for row in found:
        counts = [0] * len(row.counts)
        for price in expected[row.currency]:
            counts[min(price // row.bucket_cpm_micros, len(counts) - 1)] += 1
        assert list(row.counts) == counts
        assert len(counts) <= bucket_count + 2
        assert 0 < counts[-1] <= 0.011 * sum(counts) + 1


def test_no_bids_are_the_twins(analytics: Analytics, events: npt.NDArray[np.void]) -> None:
    found = reports.no_bids(analytics)
    assert {row.reason: (row.samples, row.opportunities) for row in found} == reference.no_bids(
        events
    )
    weights = [row.opportunities for row in found]
    assert weights == sorted(weights, reverse=True)


def test_irregular_amounts_are_the_twins(
    analytics: Analytics, events: npt.NDArray[np.void]
) -> None:
    found: reference.PerCampaign = {}
    for row in reports.irregular(analytics):
        values = msgspec.structs.asdict(row)
        found[values.pop("campaign_id"), values.pop("currency")] = values
    assert found == reference.irregular(events)


def test_the_time_span_is_that_of_the_events(
    analytics: Analytics, events: npt.NDArray[np.void]
) -> None:
    span = reports.time_span(analytics)
    assert (span.first_ms, span.last_ms) == (events["ts_ms"].min(), events["ts_ms"].max())


def test_a_value_is_quoted_the_same_for_every_engine(analytics: Analytics) -> None:
    text = "' OR 1=1 -- \\ \n\r\t\b\f\0 %(b)s {x} ü☃"
    numbers = [2**53 + 1, -(2**63), 2**64 - 1, 0]
    answer = analytics.query(
        "SELECT %(text)s AS text, length(%(text)s) AS length, %(a)s AS a, %(b)s AS b, %(c)s AS c, "
        "%(d)s AS d, 5 -%(b)s AS less, %(a)s IN %(numbers)s AS is_in",
        text=text, a=numbers[0], b=-7, c=numbers[2], d=True, numbers=numbers,
    )  # fmt: skip
    assert answer.rows == [[text, len(text.encode()), *(2**53 + 1, -7, 2**64 - 1, 1, 12, 1)]]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Analytics]:
    folder = RunFolder(tmp_path_factory.mktemp("store"))
    with folder.running():
        yield folder.client


def test_an_empty_run_has_zeros_everywhere(empty: Analytics) -> None:
    assert reports.totals(empty) == reports.Totals(0, 0, 0, 0, 0, 0, {})
    assert reports.totals(empty).spend_micros == 0
    assert reports.campaign_totals(empty) == ()
    assert reports.win_prices(empty) == ()
    assert reports.no_bids(empty) == ()
    assert reports.irregular(empty) == ()
    assert reports.spend_over_time(empty, WINDOW) == ()
    assert reports.time_span(empty) == reports.TimeSpan(0, 0)


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "bucket_ms"), [(0, 0, 1), (5, 4, 1), (0, 10, 0), (0, 10_001, 1)]
)
def test_a_window_without_sensible_buckets_is_refused(
    start_ms: int, end_ms: int, bucket_ms: int
) -> None:
    with pytest.raises(BadInput, match="buckets"):
        Window(start_ms, end_ms, bucket_ms)


def test_a_bucket_count_out_of_range_is_refused(empty: Analytics) -> None:
    with pytest.raises(BadInput, match="bucket_count 0"):
        reports.win_prices(empty, 0)


@given(high=st.integers(0, 10**12), bucket_count=st.integers(1, 1000))
def test_a_nice_width_is_the_least_that_reaches(high: int, bucket_count: int) -> None:
    width = reports.nice_width(high, bucket_count)
    widths = [step * 10**power for power in range(13) for step in (1, 2, 5)]
    assert width == next(each for each in widths if each * bucket_count >= max(high, 1))


def test_every_kind_of_event_is_among_the_made_up_ones(events: npt.NDArray[np.void]) -> None:
    assert set(np.unique(events["kind"]).tolist()) == {int(kind) for kind in EventKind}


def series_of(
    found: tuple[reports.CampaignSeries, ...],
) -> dict[tuple[int, str], dict[int, int]]:
    return {
        (row.campaign_id, row.currency): {
            bucket: value for bucket, value in enumerate(row.values) if value
        }
        for row in found
    }


def test_reports_are_the_same_from_events_and_from_roll_ups(engine: AnalyticsEngine) -> None:
    events = events_with_repeats()
    # One campaign of which all that is left is disputed, and one of which nothing but tests.
    events["flags"][events["campaign_id"] == 3] = EventFlag.DISPUTED
    events["flags"][events["campaign_id"] == 4] = EventFlag.TEST | EventFlag.CHARGED
    engine.insert("events", event_table(events))
    asked = Asked(engine)

    def answers() -> list[object]:
        return [
            reports.campaign_totals(asked), reports.totals(asked),
            reports.spend_over_time(asked, WHOLE_HOURS),
        ]  # fmt: skip

    counted = answers()
    expected = reference.campaign_totals(events)
    assert {(row.campaign_id, row.currency) for row in reports.campaign_totals(asked)} == {
        key for key, row in expected.items() if any(row.values())
    }
    assert reports.totals(asked).events_recorded == reference.events_recorded(events)
    first, *_ = sorted(freshness(asked).changed)
    build_day(engine, first)
    assert answers() == counted
    assert build_changed(engine)
    assert not freshness(asked).changed
    assert answers() == counted
    # Hours of an earlier version do not say how many events there were.
    engine.execute("TRUNCATE TABLE rollup_days")
    engine.execute(
        "INSERT INTO rollup_days (day, build) "
        "SELECT day, sum(inserted) AS build FROM touched_days GROUP BY day"
    )
    assert not freshness(asked).changed
    assert answers() == counted
    again = events[:50].copy()
    again["recv_ms"] += 10_000
    again["amount_micros"] += 1
    engine.insert("events", event_table(again))
    after = np.concatenate([events, again])
    found = {row.campaign_id: row.spend_micros for row in reports.campaign_totals(asked)}
    assert found == {
        key[0]: row["spend_micros"]
        for key, row in reference.campaign_totals(after).items()
        if any(row.values())
    }
