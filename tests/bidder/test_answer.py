"""The bid response: identity, notices that open again, markup that is filled."""

from __future__ import annotations

import msgspec

from bidder.answer import CLICK_URL, IMPRESSION_URL, refuse
from market.events import EventKind
from market.exchange import DEFAULT_EXCHANGES
from market.notices import open_notice
from market.openrtb import BidResponse
from tests.bidder.requests import body_of
from tests.bidder.services import BASE_URL, KEY, NOW_MS, Sink, service_of

DEFAULT = DEFAULT_EXCHANGES[0]


def bid_of(*imps, **changes):
    sink = Sink()
    answered = service_of(sink=sink, worker=0).answer(body_of(*imps, **changes), DEFAULT, NOW_MS)
    response = msgspec.json.decode(answered.body, type=BidResponse)
    (seat,) = response.seatbid
    (bid,) = seat.bid
    return bid, seat.seat, response, sink.events[0]


def test_every_notice_opens_to_what_was_reserved():
    bid, _, _, event = bid_of({"qty": {"multiplier": 2.5}}, test=1)
    for kind, url in (
        (EventKind.WIN, bid.nurl), (EventKind.BILLING, bid.burl), (EventKind.LOSS, bid.lurl),
    ):  # fmt: skip
        path, _, query = url.removeprefix(BASE_URL).partition("?")
        _, _, name, signed = path.split("/")
        opened, token = open_notice(KEY, name, signed)
        assert opened is kind
        assert "${AUCTION_PRICE}" in query
        assert (token.bid_hi, token.bid_lo) == (event["bid_hi"], event["bid_lo"])
        assert token.reserved_micros == event["amount_micros"]
        assert token.quantity_micros == event["quantity_micros"] == 2_500_000
        assert token.deadline_ms == event["deadline_ms"] == NOW_MS + 300_000
        assert (token.is_test, token.worker, token.exchange) == (1, 0, DEFAULT.exchange_id)
        assert token.bid_ms == NOW_MS


def test_the_markup_has_the_click_and_the_impression_url_in_it():
    bid, _, _, _ = bid_of()
    assert f"{BASE_URL}/n/impression/" in bid.adm
    assert f"{BASE_URL}/n/click/" in bid.adm
    assert IMPRESSION_URL not in bid.adm
    assert CLICK_URL not in bid.adm


def test_a_bid_says_what_an_exchange_checks_blocks_against():
    bid, seat, response, event = bid_of(cur=["EUR"])
    assert bid.adomain
    assert bid.cat
    assert bid.crid == bid.adid == str(event["creative_id"])
    assert bid.cid == str(event["campaign_id"])
    assert (bid.w, bid.h, bid.mtype) == (300, 250, 1)
    assert (seat, response.cur, response.bidid) == ("lodestone", "EUR", bid.id)
    assert bid.exp == 300


def test_a_video_says_duration_and_protocol_and_a_native_has_no_size():
    video, _, _, _ = bid_of({"banner": None, "video": {"mimes": ["video/mp4"]}})
    assert video.mtype == 2
    assert video.dur
    assert video.protocol
    native, _, _, _ = bid_of({"native": {"request": "{}"}, "banner": None})
    assert (native.mtype, native.w, native.h, native.dur) == (4, None, None, None)


def test_a_deal_is_named_as_the_exchange_named_it():
    deals = [{"id": "other"}, {"id": "some-deal-id", "bidfloor": 0.5}]
    bid, _, _, _ = bid_of({"pmp": {"private_auction": 1, "deals": deals}})
    assert bid.dealid == "some-deal-id"


def test_a_refusal_has_a_body_only_where_the_exchange_wants_one():
    assert refuse("r", 2, DEFAULT) is None
    assert refuse("r", 2, DEFAULT_EXCHANGES[2]) == b'{"id":"r","seatbid":[],"nbr":2}'
