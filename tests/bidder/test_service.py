"""One request in, one answer out: statuses, reasons, currencies, events before answers."""

from __future__ import annotations

import msgspec
import pytest

from market.decision import NoBidReason
from market.events import EventKind
from market.exchange import DEFAULT_EXCHANGES
from market.openrtb import BidResponse
from market.openrtb_decode import decode_request
from tests.bidder.requests import body_of
from tests.bidder.services import NOW_MS, Sink, catalogue_snapshot, service_of

DEFAULT, TWIN, VERBOSE = DEFAULT_EXCHANGES


def answer(service, body, profile=DEFAULT, **rest):
    answered = service.answer(body, profile, NOW_MS, **rest)
    response = msgspec.json.decode(answered.body, type=BidResponse) if answered.body else None
    return answered, response


def test_a_bid_is_recorded_before_it_is_answered():
    sink = Sink()
    answered, response = answer(service_of(sink=sink), body_of())
    assert (answered.status, answered.bid_count, answered.reason) == (200, 1, NoBidReason.BID)
    (event,) = sink.events
    assert event["kind"] == EventKind.BID
    bid = response.seatbid[0].bid[0]
    assert bid.id == f"{int(event['bid_hi']):016x}{int(event['bid_lo']):016x}"
    assert round(bid.price * 1e6) == event["price_cpm_micros"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"id":"1"}', b'{"id":"1","imp":[]}', b"\xff"])
def test_what_is_no_request_is_400_without_a_body_and_counted(body):
    service = service_of()
    answered, _ = answer(service, body)
    assert (answered.status, answered.body) == (400, b"")
    assert service.malformed_count == 1
    assert service.no_bids[NoBidReason.MALFORMED_REQUEST] == 1


def test_a_no_bid_is_204_or_a_reason_where_the_exchange_asks_for_one():
    body = body_of({"bidfloor": 9_000})
    assert answer(service_of(), body)[0][:3] == (204, b"", NoBidReason.BELOW_FLOOR)
    answered, response = answer(service_of(), body, VERBOSE)
    assert (answered.status, response.nbr, response.seatbid) == (200, 519, ())
    assert response.id == "r1"


@pytest.mark.parametrize(
    ("tmax", "spent_ms", "is_late"),
    [
        (None, 0, False), (0, 0, False), (-5, 0, False), (20, 0, True), (21, 0, False),
        (100, 79, False), (100, 80, True), (10_000, 81, True),
    ],
)  # fmt: skip
def test_a_request_with_too_little_time_is_not_decided(tmax, spent_ms, is_late):
    answered, response = answer(service_of(), body_of(tmax=tmax), VERBOSE, spent_ms=spent_ms)
    assert (answered.reason == NoBidReason.TOO_LITTLE_TIME) is is_late
    assert (response.nbr == 15) is is_late


def test_without_room_for_events_there_is_no_bid_and_no_reservation():
    service = service_of(sink=Sink(room=1))
    before = service._decider.available()
    answered, _ = answer(service, body_of({}, {}))
    assert (answered.status, answered.reason) == (204, NoBidReason.RECORDER_BEHIND)
    assert service._decider.available() == before
    assert answer(service, body_of({}))[0].status == 200
    assert answer(service, body_of({}))[0].reason == NoBidReason.RECORDER_BEHIND


def test_all_bids_of_an_answer_are_in_one_currency():
    _, response = answer(service_of(), body_of({}, {}, {}, cur=["GBP", "EUR", "USD"]))
    bids = [bid for seat in response.seatbid for bid in seat.bid]
    assert {bid.impid for bid in bids} == {"1", "2", "3"}
    assert response.cur in ("GBP", "EUR", "USD")


def test_an_imp_that_cannot_be_used_costs_only_itself_and_is_counted():
    service = service_of()
    answered, response = answer(service, body_of({"banner": {}}, {}, {"bidfloor": 9_999}))
    assert (answered.status, answered.bid_count) == (200, 1)
    assert response.seatbid[0].bid[0].impid == "2"
    assert service.no_bids[NoBidReason.UNUSABLE_IMP] == 1
    assert service.no_bids[NoBidReason.BELOW_FLOOR] == 1


def test_refusals_name_the_place_of_the_imp_in_the_request():
    service = service_of()
    request = decode_request(body_of({"banner": {}}, {"bidfloor": 9_999}, {}, {"bidfloor": -1}))
    examined = service.examine(request, DEFAULT, NOW_MS)
    assert sorted((r.imp_index, r.field) for r in examined.refusals) == [
        (0, "imp.banner.w"), (1, "imp.bidfloor"), (3, "imp.bidfloor"),
    ]  # fmt: skip
    assert len(examined.bids) == 1


def test_no_more_than_64_imps_are_looked_at():
    answered, _ = answer(service_of(), body_of(*[{}] * 70))
    assert answered.bid_count == 64


def test_a_swap_serves_the_new_snapshot_from_the_next_request_on():
    sink = Sink()
    service = service_of(sink=sink)
    answer(service, body_of())
    service.swap(catalogue_snapshot(version=2))
    assert answer(service, body_of())[0].status == 200
    assert [int(event["snapshot_version"]) for event in sink.events] == [1, 2]
