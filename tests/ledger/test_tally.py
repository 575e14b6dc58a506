"""Counters: what is counted once a bid, and what is counted every time."""

from __future__ import annotations

import numpy as np
import pytest

from ledger.kernels_budget import NEW, REPEAT
from ledger.reservation import reservation_of
from ledger.tally import Behaviour, Tally, exchange_views
from ledger.view import ActivityView
from market.events import EventKind
from tests.ledger.bids import bid_event

WIN, BILLING, IMPRESSION = EventKind.WIN, EventKind.BILLING, EventKind.IMPRESSION
CLICK, CONVERSION, LOSS = EventKind.CLICK, EventKind.CONVERSION, EventKind.LOSS
BID = reservation_of(bid_event(1, line_item_id=7, creative_id=70, pctr=0.5, pcvr=0.25).tobytes())


def add_bids(tally, *shown, became=NEW, **rest):
    events = [bid_event(1, line_item_id=item, creative_id=ad, **rest) for item, ad in shown]
    tally.add_bids(np.concatenate(events), np.full(len(events), became, np.uint8))


def counted(*notices):
    """(wins, impressions, clicks, conversions) of one bid with these (kind, seen before)."""
    tally = Tally()
    for kind, seen in notices:
        tally.add_notice(BID, kind, sum(1 << before for before in seen), 0, 0)
    (view,) = tally.line_items()
    return view.wins, view.impressions, view.clicks, view.conversions


@pytest.mark.parametrize(
    ("notices", "expected"),
    [
        ([(WIN, [])], (1, 0, 0, 0)),
        ([(BILLING, [])], (1, 1, 0, 0)),
        ([(WIN, []), (BILLING, [WIN]), (IMPRESSION, [WIN, BILLING])], (1, 1, 0, 0)),
        ([(IMPRESSION, []), (WIN, [IMPRESSION])], (1, 1, 0, 0)),
        ([(LOSS, [])], (0, 0, 0, 0)),
        ([(CLICK, [BILLING]), (CONVERSION, []), (CONVERSION, [CONVERSION])], (0, 0, 1, 2)),
    ],
)
def test_wins_and_impressions_count_once_a_bid_however_many_notices_say_so(notices, expected):
    assert counted(*notices) == expected


def test_bids_money_and_expectations_add_up_by_line_item_and_by_creative():
    tally = Tally()
    add_bids(tally, (7, 70), (7, 71), (8, 70), (7, 70))
    tally.add_notice(BID, BILLING, 0, 30, 0)
    tally.add_notice(BID, CONVERSION, 0, 0, 900)
    first = ActivityView(7, 3, 1, 1, 0, 1, 900, 30, 0.5, 0.125)
    other = ActivityView(8, 1, 0, 0, 0, 0, 0, 0, 0.0, 0.0)
    assert tally.line_items() == (first, other)
    assert [(view.id, view.bids, view.spend_micros) for view in tally.creatives()] == [
        (70, 3, 30), (71, 1, 0),
    ]  # fmt: skip


def test_any_number_of_line_items_and_creatives_is_counted():
    tally = Tally()
    shown = [(n % 700, 2**32 - 1 - n) for n in range(2_000)]
    for _ in range(2):
        add_bids(tally, *shown)
    assert {view.id: view.bids for view in tally.line_items()} == {
        n: 2 * sum(n == item for item, _ in shown) for n in range(700)
    }
    assert {view.id: view.bids for view in tally.creatives()} == {ad: 2 for _, ad in shown}
    assert tally.line_items()[0].bids == 6, "asked again, it is the same"


def test_repeats_and_tests_are_not_counted():
    tally = Tally()
    add_bids(tally, (7, 70), became=REPEAT)
    add_bids(tally, (7, 70), is_test=True)
    assert tally.line_items() == ()


def test_exchanges_are_named_by_their_profile_or_their_number_and_strangers_by_nothing():
    strange, known = Behaviour(), Behaviour()
    strange.forged, known.late = 2, 3
    views = exchange_views([(4, known), (0, strange), (9, Behaviour())], {4: "twin"})
    assert [view.name for view in views] == ["", "9", "twin"]
    assert (views[0].forged, views[2].late, views[1].late) == (2, 3, 0)
