"""Invalid traffic on both engines: what is marked, why, what it cost, and that it can be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.chores import Marking
from ledger.fraud.evidence import Seen, read_access_log
from ledger.fraud.kernels import in_bursts
from ledger.fraud.marking import mark
from ledger.fraud.terms import Reason, Rules
from ledger.loader import event_table
from ledger.query import Query, Scope, answer
from ledger.rollup import build_changed
from market.addresses import AddressRanges, read_address_ranges
from market.errors import BadInput
from market.events import DAY_MS, EVENT_DTYPE, EventFlag, EventKind, event_id
from market.notices import notice_path, sign
from tests.ledger.bids import bid_event, token_of
from tests.ledger.stores import START_MS, Asked
from tests.reference import fraud as reference

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.analytics import AnalyticsEngine

FIRST = START_MS // DAY_MS
MINUTE_MS = 60_000
RULES = Rules(
    clicks_max=3, impressions_max=5, flood_clicks_min=10, flood_ctr_max=0.5, conversion_ms_min=2_000
)


@pytest.mark.plain
@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=30),
    window_ms=st.integers(0, 20),
    count_max=st.integers(0, 5),
)
def test_bursts_are_those_of_a_slow_count(rows, window_ms, count_max) -> None:
    rows.sort()
    group = np.array([group for group, _ in rows], np.uint64)
    at_ms = np.array([at for _, at in rows], np.int64)
    found = in_bursts(group, at_ms, window_ms, count_max).tolist()
    assert found == reference.in_bursts(group.tolist(), at_ms.tolist(), window_ms, count_max)


class Traffic:
    """Events as they are made: bids of one advertiser with what came of them."""

    def __init__(self) -> None:
        self.rows: list[np.void] = []
        self.ids: dict[tuple[int, EventKind], tuple[int, int]] = {}

    def add(self, bid: int, kind: EventKind, at_ms: int, **values: int) -> None:
        event = np.zeros((), EVENT_DTYPE)
        event["bid_hi"], event["bid_lo"] = bid, bid + 1
        event["kind"], event["ts_ms"], event["recv_ms"] = kind, START_MS + at_ms, START_MS + at_ms
        event["bid_ms"] = START_MS + values.pop("day", 0) * DAY_MS
        event["advertiser_id"] = event["campaign_id"] = 1
        event["line_item_id"] = event["exchange"] = event["format"] = 1
        event["account_currency"] = 840
        event["id_hi"], event["id_lo"] = event_id(kind, bid, bid + 1, values.get("order_code", 0))
        for name, value in values.items():
            event[name] = value
        self.rows.append(event)
        self.ids[bid, kind] = (int(event["id_hi"]), int(event["id_lo"]))

    def shown(self, bid: int, at_ms: int, **values: int) -> None:
        """An impression, and the billing notice that charges for it."""
        self.add(bid, EventKind.IMPRESSION, at_ms, **values)
        self.add(
            bid, EventKind.BILLING, at_ms + 5, amount_micros=1_000, flags=int(EventFlag.CHARGED),
            **values,
        )  # fmt: skip

    def load(self, engine: AnalyticsEngine) -> None:
        engine.insert("events", event_table(np.array(self.rows)))


def marks(engine: AnalyticsEngine) -> dict[tuple[int, int], Reason]:
    rows = engine.execute(
        "SELECT id_hi, id_lo, reasons FROM invalid_traffic FINAL WHERE reasons != 0"
    ).rows
    return {(hi, lo): Reason(bits) for hi, lo, bits in rows}


def test_each_rule_marks_what_breaks_it_and_nothing_else(engine: AnalyticsEngine) -> None:
    traffic = Traffic()
    # A person, within every limit: three clicks in a minute, a conversion after four seconds.
    for bid in (1, 2, 3):
        traffic.shown(bid, bid * 10_000, user_key=7)
        traffic.add(bid, EventKind.CLICK, bid * 10_000 + 900, user_key=7)
    traffic.add(1, EventKind.CONVERSION, 10_000 + 4_900, user_key=7)
    # A script: four clicks in a minute, its impressions spread over an hour.
    for n, bid in enumerate((11, 12, 13, 14)):
        traffic.shown(bid, n * 10 * MINUTE_MS, user_key=8)
        traffic.add(bid, EventKind.CLICK, 40 * MINUTE_MS + n * 15_000, user_key=8)
    # A shared device: six impressions in a minute, and a click on one of them.
    for n in range(6):
        traffic.shown(21 + n, 120 * MINUTE_MS + n * 11_000, user_key=9, line_item_id=2)
    traffic.add(23, EventKind.CLICK, 122 * MINUTE_MS, user_key=9, line_item_id=2)
    # A flood: eleven clicks of different users on one impression.
    for n in range(11):
        traffic.add(41 + n, EventKind.CLICK, n * 1_000, user_key=100 + n, line_item_id=3)
    traffic.shown(41, 0, user_key=100, line_item_id=3)
    # An install within a second of its click, by nobody known.
    traffic.add(61, EventKind.CLICK, 5_000, line_item_id=4)
    traffic.add(61, EventKind.CONVERSION, 6_000, line_item_id=4)
    first_order = traffic.ids[61, EventKind.CONVERSION]
    traffic.add(61, EventKind.CONVERSION, 6_500, line_item_id=4, order_code=5)
    second_order = traffic.ids[61, EventKind.CONVERSION]
    # A third order of that click, long after it, is a person's.
    traffic.add(61, EventKind.CONVERSION, 90_000, line_item_id=4, order_code=6)
    traffic.load(engine)
    done = mark(engine, Marking(FIRST, FIRST, RULES))
    found = marks(engine)
    ids = traffic.ids
    click, shown, billed = EventKind.CLICK, EventKind.IMPRESSION, EventKind.BILLING
    expected = {ids[bid, click]: Reason.CLICK_RATE for bid in (11, 12, 13, 14)}
    expected |= {ids[bid, shown]: Reason.DEVICE_STORM for bid in range(21, 27)}
    expected |= {ids[bid, billed]: Reason.INVALID_BID for bid in range(21, 27)}
    expected[ids[23, click]] = Reason.INVALID_BID
    expected |= {ids[41 + n, click]: Reason.CLICK_FLOOD for n in range(11)}
    expected |= dict.fromkeys((first_order, second_order), Reason.SHORT_CONVERSION)
    assert found == expected
    assert (done.events, done.rows_written) == (len(expected), len(expected))
    assert done.spend_micros_by_currency == {840: 6_000}
    assert done.events_by_reason["DEVICE_STORM"] == 6


def test_money_of_marked_events_is_a_sum_of_its_own_and_nothing_is_deleted(
    engine: AnalyticsEngine,
) -> None:
    traffic = Traffic()
    for n in range(8):
        traffic.shown(n + 1, n * 1_000, user_key=5)
    traffic.shown(50, 0, user_key=6)
    traffic.load(engine)
    query = Query(
        ("impressions", "invalid_impressions", "spend_micros", "invalid_spend_micros"),
        START_MS, START_MS + DAY_MS,
    )  # fmt: skip

    def said():
        return answer(Asked(engine), Scope(1), query).rows

    build_changed(engine)
    assert said() == (("USD", 9, 0, 9_000, 0),)
    mark(engine, Marking(FIRST, FIRST, RULES))
    assert said() == (("USD", 9, 8, 9_000, 8_000),)
    build_changed(engine)
    assert said() == (("USD", 9, 8, 9_000, 8_000),)
    mark(engine, Marking(FIRST, FIRST, Rules(impressions_max=8)))
    assert said() == (("USD", 9, 0, 9_000, 0),)


def test_judging_again_writes_nothing_and_evidence_stays(engine: AnalyticsEngine) -> None:
    traffic = Traffic()
    traffic.shown(1, 0, user_key=5)
    traffic.add(1, EventKind.CLICK, 5_000, user_key=5)
    traffic.add(2, EventKind.CLICK, 5_000, user_key=5)
    traffic.load(engine)
    seen = ((int(EventKind.IMPRESSION), 1, 2), (int(EventKind.CLICK), 99, 100))
    assert mark(engine, Marking(FIRST, FIRST, RULES, seen)).rows_written == 3
    expected = {
        traffic.ids[1, EventKind.IMPRESSION]: Reason.DATA_CENTRE,
        traffic.ids[1, EventKind.BILLING]: Reason.INVALID_BID,
        traffic.ids[1, EventKind.CLICK]: Reason.INVALID_BID,
    }
    assert marks(engine) == expected
    for marking in (Marking(FIRST, FIRST, RULES, seen), Marking(FIRST, FIRST, RULES)):
        assert mark(engine, marking).rows_written == 0
        assert marks(engine) == expected


def test_a_burst_over_midnight_is_seen_from_the_second_day(engine: AnalyticsEngine) -> None:
    traffic = Traffic()
    for n in range(6):
        traffic.shown(n + 1, DAY_MS + (n - 3) * 1_000, user_key=5, day=int(n >= 3))
    traffic.load(engine)
    mark(engine, Marking(FIRST + 1, FIRST + 1, RULES))
    assert {traffic.ids[n, EventKind.IMPRESSION] for n in (4, 5, 6)} < set(marks(engine))
    assert len(marks(engine)) == 6  # three impressions and their billing notices


def test_what_cannot_be_judged_is_refused(engine: AnalyticsEngine) -> None:
    with pytest.raises(BadInput, match="ascending days"):
        mark(engine, Marking(5, 4))
    with pytest.raises(BadInput, match="clicks_max -1"):
        Rules(clicks_max=-1)
    with pytest.raises(BadInput, match="flood_ctr_max 0"):
        Rules(flood_ctr_max=0)


def test_an_access_log_tells_which_bids_came_from_data_centres(tmp_path: Path) -> None:
    path = tmp_path / "data_centres.txt"
    path.write_text("# made up\n192.0.2.0/25\n2001:db8::/64  # and IPv6\n\n")
    ranges = read_address_ranges(path)
    key = bytes(32)
    text, tags = sign(key, token_of(bid_event(7)))

    def line(address: str, kind: EventKind, tail: str = "") -> str:
        path = notice_path(kind, text, tags)
        return f'{address} - - [22/Nov/2026:17:00:00 +0000] "GET {path}{tail} HTTP/1.1" 200 0 "-"'

    lines = [
        line("192.0.2.9", EventKind.CLICK),
        line("192.0.2.9", EventKind.CLICK),
        line("192.0.2.200", EventKind.IMPRESSION, "?p=1"),
        line("2001:db8::9", EventKind.IMPRESSION, "?p=1"),
        line("::ffff:192.0.2.9", EventKind.IMPRESSION),
        line("192.0.2.9", EventKind.BILLING, "?p=1"),
        line("192.0.2.9", EventKind.CLICK).replace("/n/click/", "/n/click/A"),
        '192.0.2.9 - - [x] "GET /robots.txt HTTP/1.1" 404 0',
        "\x16\x03\x01 nonsense",
    ]
    found = read_access_log(lines, ranges, key)
    assert found.from_data_centres == (
        Seen(EventKind.CLICK, 7, 8),
        Seen(EventKind.IMPRESSION, 7, 8),
    )
    assert (found.notices, found.unread) == (5, 3)


def test_a_line_that_is_no_range_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ranges.txt"
    path.write_text("10.0.0.0/8\n10.0.0.0/99\n")
    with pytest.raises(BadInput, match=r"ranges\.txt, line 2"):
        read_address_ranges(path)
    assert "10.0.0.1" not in AddressRanges(())
