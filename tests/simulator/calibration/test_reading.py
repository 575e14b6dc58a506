"""Readers: everything that a file holds is used, or handed back with the rule it breaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.loader import event_table
from ledger.segment import RECORDS, SegmentWriter
from market.errors import BadInput
from market.events import EVENT_DTYPE, EventFlag, EventKind
from simulator.calibration.ledger_reading import read_ledger, reading_of
from simulator.calibration.log import HOUR_MS, NEVER, split
from simulator.calibration.reading import read_ipinyou, read_open_bandit
from tests.simulator.calibration.logs import START_MS, event

DATA = Path(__file__).parents[4] / "shared" / "data"
BANDIT_HEADER = "row,timestamp,item_id,position,click,propensity_score\n"


def test_ipinyou_lines_become_won_impressions(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("0\t80\t0.0001\t25\n1 50 0.0002 24\n")
    log, bad, counts = read_ipinyou(path)
    assert not bad
    assert counts == {"lines": 2}
    assert log.at_ms.tolist() == [24 * HOUR_MS, 25 * HOUR_MS], "in order of time"
    assert log.paid_cpm_micros.tolist() == [500_000, 800_000], "fen are a hundredth of a yuan"
    assert log.least_cpm_micros.tolist() == log.most_cpm_micros.tolist()
    assert log.clicked.tolist() == [1, 0]
    assert log.currency == "CNY"
    assert not log.has_bids


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("0 80 0.0001", "3 fields"),
        ("x 80 0.0001 4", "no number"),
        ("2 80 0.0001 4", "click"),
        ("0 -1 0.0001 4", "price"),
        ("0 nan 0.0001 4", "price"),
        ("0 80 1.5 4", "pctr"),
        ("0 80 0.5 4.5", "hour"),
        ("0 80 0.5 inf", "hour"),
        ("", "0 fields"),
        ("\udcff", "1 fields"),
    ],
)
def test_a_bad_line_is_handed_back_with_its_number_and_rule(tmp_path, line, why):
    path = tmp_path / "log.txt"
    text = f"0 80 0.0001 4\n{line}\n1 70 0.0001 5\n"
    path.write_bytes(text.encode(errors="surrogateescape"))
    log, (bad,), counts = read_ipinyou(path)
    assert log.row_count == 2
    assert counts["lines"] == 3
    assert (bad.file, bad.line) == ("log.txt", 2)
    assert why in bad.why


def test_open_bandit_rows_keep_their_position_and_time(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text(
        BANDIT_HEADER + "0,2019-11-24 00:00:17.004101+00:00,79,2,0,0.08\n"
        "1,2019-11-24 01:00:19+00:00,14,1,1,0.01\n"
        "2,not a time,14,1,1,0.01\n3,2019-11-24 01:00:19+00:00,14,left,1,0.01\n4,5\n"
    )
    log, bad, counts = read_open_bandit(path)
    assert log.scenes == ("position 1", "position 2")
    assert log.scene.tolist() == [1, 0]
    assert log.clicked.tolist() == [0, 1]
    assert log.at_ms[0] == 1_574_553_617_004
    assert not log.has_prices
    assert [line.line for line in bad] == [4, 5, 6]
    assert counts["lines"] == 5


def test_an_open_quote_spoils_its_line_and_no_other(tmp_path):
    path = tmp_path / "all.csv"
    good = "2019-11-24 01:00:19+00:00,14,1,0,0.01\n"
    path.write_text(f'{BANDIT_HEADER}0,{good}1,"{good}2,{good}3,"{"x" * 200_000}\n4,{good}')
    log, bad, counts = read_open_bandit(path)
    assert log.row_count == 3
    assert [line.line for line in bad] == [3, 5]
    assert counts["lines"] == 5


def test_an_open_bandit_file_without_its_columns_is_refused(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match="timestamp"):
        read_open_bandit(path)


def events():
    """Five bids: won and told, won at the floor, lost and told, filtered, and one still open."""
    click_ms, order_ms = START_MS + 10_000, START_MS + 70_000
    return np.concatenate([
        *(event(EventKind.BID, n, floor_cpm_micros=500_000, user_key=7) for n in range(1, 6)),
        event(EventKind.NO_BID, 90, bid_ms=0, weight=10.0),
        event(EventKind.WIN, 1, price_cpm_micros=2_000_000, floor_cpm_micros=1_500_001),
        event(EventKind.WIN, 2, price_cpm_micros=2_000_000, floor_cpm_micros=500_000),
        event(EventKind.LOSS, 3, price_cpm_micros=2_400_000, reason=102),
        event(EventKind.LOSS, 4, price_cpm_micros=0, reason=200),
        event(EventKind.CLICK, 1, ts_ms=click_ms),
        event(EventKind.CONVERSION, 1, ts_ms=order_ms),
    ])  # fmt: skip


def test_events_become_rows_that_say_what_is_known_of_the_price():
    log, bad, counts = reading_of(events(), "run")
    assert not bad
    by_bid = np.argsort(log.key_lo)
    known = np.stack((log.least_cpm_micros, log.most_cpm_micros), axis=1)[by_bid].tolist()
    assert known == [
        [1_500_001, 1_500_001], [0, 500_000], [2_400_000, 2_400_000], [0, NEVER], [0, NEVER],
    ]  # fmt: skip
    assert log.is_decided[by_bid].tolist() == [1, 1, 1, 0, 0]
    assert log.has_won[by_bid].tolist() == [1, 1, 0, 0, 0]
    assert log.delay_ms[by_bid].tolist() == [60_000, -1, -1, -1, -1]
    assert log.requests.tolist() == [15.0], "five bids and a no-bid that stands for ten"
    assert log.request_unit == pytest.approx(105 / 15)
    assert counts["bids without an outcome"] == 2


def test_prices_that_are_not_told_are_bounds():
    told = events()
    told["floor_cpm_micros"] = 500_000
    told["price_cpm_micros"][told["kind"] == EventKind.LOSS] = 0
    log = reading_of(told, "run").log
    by_bid = np.argsort(log.key_lo)
    known = np.stack((log.least_cpm_micros, log.most_cpm_micros), axis=1)[by_bid].tolist()
    assert known[:3] == [[0, 2_000_000], [0, 2_000_000], [2_000_000, NEVER]]


def test_what_is_paid_below_the_bid_is_the_price_of_a_second_price_auction():
    told = events()
    told["floor_cpm_micros"] = 500_000
    told["price_cpm_micros"][told["kind"] == EventKind.WIN] = 1_250_000
    log = reading_of(told, "run").log
    won = log.has_won > 0
    assert set(log.least_cpm_micros[won]) == set(log.most_cpm_micros[won]) == {1_250_000}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ts_ms": 0}, "ts_ms"),
        ({"ts_ms": START_MS - 1, "bid_ms": START_MS}, "ts_ms"),
        ({"price_cpm_micros": 0}, "price"),
        ({"price_cpm_micros": -5}, "price"),
        ({"floor_cpm_micros": -1}, "floor"),
    ],
)
def test_a_bad_record_is_handed_back(changes, why):
    spoilt = event(EventKind.BID, 50, **changes)
    reading = reading_of(np.concatenate([events(), spoilt]), "run")
    (bad,) = reading.bad
    assert bad.line == 13
    assert why in bad.why
    assert reading.log.row_count == 5


def test_a_record_of_an_unknown_kind_is_handed_back():
    (bad,) = reading_of(np.concatenate([events(), event(77, 50)]), "run").bad
    assert "kind" in bad.why


def test_notices_of_bids_that_are_not_there_are_handed_back_and_repeats_counted():
    orphan = event(EventKind.CLICK, 1_234)
    reading = reading_of(np.concatenate([events(), orphan, events()[6:8]]), "run")
    (bad,) = reading.bad
    assert "no bid" in bad.why
    assert reading.counts["repeated"] == 2


def test_test_requests_are_left_out_and_counted():
    test = event(EventKind.BID, 60, flags=EventFlag.TEST)
    reading = reading_of(np.concatenate([events(), test]), "run")
    assert reading.counts["of test requests"] == 1
    assert reading.log.row_count == 5


@pytest.mark.parametrize("field", ["exchange", "bid_currency"])
def test_a_log_of_two_markets_is_refused(field):
    other = event(EventKind.BID, 60, **{field: 978})
    with pytest.raises(BadInput, match="several"):
        reading_of(np.concatenate([events(), other]), "run")


def test_segments_and_parquet_say_the_same(tmp_path):
    told = events()
    folder = tmp_path / "run" / "segments"
    writer = SegmentWriter(folder, RealDisk(), EVENT_LOG)
    writer.append(RECORDS, told.tobytes())
    writer.commit()
    writer.close()
    pq.write_table(event_table(told), tmp_path / "events.parquet")
    one = read_ledger(tmp_path / "run").log
    two = read_ledger(tmp_path / "events.parquet").log
    for name, column in zip(one._fields, one, strict=True):
        assert np.array_equal(column, getattr(two, name)), name


def test_a_folder_without_segments_and_a_table_without_columns_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no \*\.seg"):
        read_ledger(tmp_path)
    table = event_table(np.zeros(1, EVENT_DTYPE)).drop_columns(["bid_hi"])
    pq.write_table(table, tmp_path / "events.parquet")
    with pytest.raises(BadInput, match="bid_hi"):
        read_ledger(tmp_path / "events.parquet")


def test_the_real_files_are_read_whole():
    if not DATA.exists():
        pytest.skip("../shared/data is missing: iPinYou and Open Bandit logs")
    reading = read_ipinyou(DATA / "ipinyou_2259" / "test.txt")
    assert (reading.log.row_count, len(reading.bad)) == (80_000, 0)
    assert int(reading.log.clicked.sum()) == 26
    reading = read_open_bandit(DATA / "open_bandit" / "bts_all" / "all.csv")
    assert (reading.log.row_count, len(reading.bad)) == (10_000, 0)
    assert int(reading.log.clicked.sum()) == 42


def test_a_ledger_without_bids_is_an_empty_log():
    for nothing in (events()[:0], events()[5:6]):
        log = reading_of(nothing, "run").log
        assert log.row_count == 0
        with pytest.raises(BadInput, match="empty"):
            split(log)
