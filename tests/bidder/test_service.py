"""One request in, one answer out: statuses, reasons, currencies, events before answers."""

from __future__ import annotations

import msgspec
import pytest

from bidder.catalogue import read_catalogue
from bidder.metrics import SAMPLE_EVERY, Stage
from market.decision import NoBidReason
from market.events import EventKind
from market.exchange import DEFAULT_EXCHANGES, check_profiles
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


def dealt(bidfloor, **pmp):
    deals = [{"id": "some-deal-id", "bidfloor": bidfloor}, {"id": "nobody-has-it"}]
    return body_of({"pmp": {"deals": deals, **pmp}})


def test_an_imp_with_deals_gets_a_bid_for_each_and_an_open_one():
    sink = Sink()
    answered, response = answer(service_of(sink=sink), dealt(1))
    bids = [bid for seat in response.seatbid for bid in seat.bid]
    assert [bid.dealid for bid in bids] == ["some-deal-id", None]
    assert len({bid.id for bid in bids}) == answered.bid_count == len(sink.events) == 2
    assert answered.reason == NoBidReason.BID


def test_an_imp_is_refused_only_if_no_deal_and_no_open_auction_brings_a_bid():
    service = service_of()
    answered, response = answer(service, dealt(9_000))
    assert [bid.dealid for seat in response.seatbid for bid in seat.bid] == [None]
    assert answered.reason == NoBidReason.BID, "the open bid stands for the imp"
    assert not service.no_bids.any()
    refused, _ = answer(service, dealt(9_000, private_auction=1))
    assert (refused.status, refused.reason) == (204, NoBidReason.BELOW_FLOOR)
    assert service.no_bids.sum() == 1


def test_the_deals_that_count_are_those_of_the_snapshot_in_force():
    service = service_of()
    service.swap(catalogue_snapshot(read_catalogue()[:1], version=2))
    refused, _ = answer(service, dealt(1, private_auction=1))
    assert refused.reason == NoBidReason.DEAL_REQUIRED


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


class Clock:
    """A clock that jumps ``late_ms`` ahead at its n-th reading of a request."""

    def __init__(self, jump_at=None, late_ms=0):
        self.now_ns = 0
        self.readings = 0
        self.jump_at = jump_at
        self.late_ns = late_ms * 1_000_000

    def __call__(self):
        self.readings += 1
        self.now_ns += 1_000 + (self.late_ns if self.readings == self.jump_at else 0)
        return self.now_ns


@pytest.mark.parametrize(
    ("jump_at", "stage"), [(2, Stage.READ), (3, Stage.DECIDE), (4, Stage.EVENT)]
)
def test_a_request_that_runs_out_of_time_is_given_up_before_the_next_stage(jump_at, stage):
    sink, clock = Sink(), Clock(jump_at, late_ms=80)
    service = service_of(sink=sink, clock_ns=clock)
    money = service._decider.available()
    counts = service._decider.state.cap_slots.copy()
    answered, response = answer(service, body_of(user={"id": "u"}), VERBOSE)
    assert (answered.reason, response.nbr) == (NoBidReason.TOO_LITTLE_TIME, 15)
    assert service.metrics.late[stage] == 1
    assert sink.events == []
    assert service._decider.available() == money, "nothing stays reserved"
    now = service._decider.state.cap_slots
    assert not (now["count"] != counts["count"]).any(), "nothing stays counted"
    assert answer(service, body_of(user={"id": "u"}), VERBOSE)[0].status == 200


def test_time_that_passes_after_the_decision_is_recorded_costs_nothing():
    sink = Sink()
    service = service_of(sink=sink, clock_ns=Clock(5, late_ms=80))
    assert answer(service, body_of())[0].bid_count == len(sink.events) == 1


def test_what_the_stages_lately_took_is_taken_off_the_time_that_is_left():
    service = service_of(clock_ns=Clock())
    stages = service.metrics.stages
    for _ in range(100):
        stages.add(Stage.DECIDE, 30_000_000)
    stages.roll()
    assert stages.needs_ns[Stage.DECIDE] == stages.needs_ns[Stage.DECODE] == 50_000_000
    assert stages.needs_ns[Stage.EVENT] == 0
    assert answer(service, body_of(), spent_ms=25)[0].status == 200
    answered, _ = answer(service, body_of(), spent_ms=31)
    assert answered.reason == NoBidReason.TOO_LITTLE_TIME
    assert service.metrics.late[Stage.DECODE] == 1, "not even parsed"


def test_one_request_in_sixteen_is_timed_and_valued():
    service = service_of(clock_ns=Clock())
    for _ in range(3 * SAMPLE_EVERY):
        answer(service, body_of())
    counts = service.metrics.row["stage_counts"].sum(axis=1)
    assert counts.tolist() == [3] * len(Stage)
    meter = service.metrics.meters[DEFAULT.exchange_id]
    assert meter.value_micros > 0
    assert meter.busy_ns > 0
    assert list(meter.bids) == [3 * SAMPLE_EVERY, 0, 0, 0]


def test_a_warm_up_leaves_no_count_no_event_and_no_money_taken():
    sink = Sink()
    service = service_of(sink=sink, clock_ns=Clock())
    money = service._decider.available()
    service.warm_up(DEFAULT)
    assert sink.events == []
    assert not service.no_bids.any()
    assert service._decider.available() == money
    assert not any(service.metrics.row[name].any() for name in service.metrics.row.dtype.names)


def test_an_exchange_that_waits_is_answered_however_long_it_took():
    twin = check_profiles(DEFAULT_EXCHANGES)["twin"]
    service = service_of(clock_ns=Clock())
    body = body_of(tmax=1)
    assert service.answer(body, twin, NOW_MS, spent_ms=5_000).status == 200
    assert service.answer(body, DEFAULT_EXCHANGES[0], NOW_MS, spent_ms=5_000).status == 204
