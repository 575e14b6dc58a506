"""The bid response: identity, notices that open again, markup that is filled."""

from __future__ import annotations

import json

import msgspec

from bidder.answer import CLICK_URL, IMPRESSION_URL, refuse
from bidder.catalogue import read_catalogue
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


def test_an_exchange_that_encodes_prices_is_asked_to_in_the_price_macro_alone():
    profile = msgspec.structs.replace(DEFAULT, price_suffix="B64")
    answered = service_of().answer(body_of(), profile, NOW_MS)
    (seat,) = msgspec.json.decode(answered.body, type=BidResponse).seatbid
    (bid,) = seat.bid
    for url in (bid.nurl, bid.burl, bid.lurl, bid.adm):
        assert "p=${AUCTION_PRICE:B64}" in url
        assert "${AUCTION_PRICE}" not in url
    assert "${AUCTION_MIN_TO_WIN}" in bid.nurl


def one_creative(**changes):
    """The shipped catalogue's first campaign with one line item and its first banner, changed."""
    campaign = read_catalogue()[0]
    item = campaign.line_items[0]
    creative = msgspec.structs.replace(item.creatives[0], **changes)
    items = (msgspec.structs.replace(item, creatives=(creative,)),)
    return msgspec.structs.replace(campaign, line_items=items, app_bundle="com.alpine")


def test_an_app_ad_names_its_bundle_its_apis_and_what_it_does():
    creative = {"apis": (5, 7), "attributes": (4,), "expand_directions": (5,)}
    imp = {"banner": {"w": 300, "h": 250, "api": [5, 6, 7], "expdir": [5]}}
    answered = service_of((one_creative(**creative),)).answer(body_of(imp), DEFAULT, NOW_MS)
    (bid,) = msgspec.json.decode(answered.body, type=BidResponse).seatbid[0].bid
    assert (bid.bundle, bid.apis, bid.attr) == ("com.alpine", (5, 7), (4,))


def test_a_flexible_size_is_answered_as_its_ratio():
    banner = {"format": [{"wratio": 12, "hratio": 10, "wmin": 300}]}
    bid, _, _, event = bid_of({"banner": banner})
    assert (bid.w, bid.h, bid.wratio, bid.hratio) == (None, None, 12, 10)
    assert event["size"] == 300 << 16 | 250
    both = {"w": 300, "h": 250, "format": [{"wratio": 6, "hratio": 5}]}
    bid, _, _, _ = bid_of({"banner": both})
    assert (bid.w, bid.h, bid.wratio, bid.hratio) == (300, 250, None, None)


def test_finished_native_markup_is_sent_as_it_is():
    adm = '{"link":{"url":"{{CLICK_URL}}"},"imptrackers":["{{IMPRESSION_URL}}"]}'
    made = one_creative(format="native", adm=adm, width=0, height=0)
    imp = {"banner": None, "native": {"request": "{}"}}
    answered = service_of((made,)).answer(body_of(imp), DEFAULT, NOW_MS)
    (bid,) = msgspec.json.decode(answered.body, type=BidResponse).seatbid[0].bid
    assert msgspec.json.decode(bid.adm)["link"]["url"].startswith(f"{BASE_URL}/n/click/")
    needs_title = json.dumps({"assets": [{"id": 1, "required": 1, "title": {"len": 25}}]})
    imp = {"banner": None, "native": {"request": needs_title}}
    assert service_of((made,)).answer(body_of(imp), DEFAULT, NOW_MS).bid_count == 0


def test_the_reservation_lives_no_longer_than_the_seller_says():
    bid, _, _, event = bid_of({"exp": 45})
    assert bid.exp == 45
    assert event["deadline_ms"] == NOW_MS + 45_000
    bid, _, _, _ = bid_of({"exp": 86_400})
    assert bid.exp == 300, "nor longer than our own wait"
