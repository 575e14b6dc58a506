"""Bid answers: what a strict exchange accepts, refuses and fills in."""

from __future__ import annotations

import msgspec
import pytest

from ledger.notice_price import Prices
from market.errors import BadInput
from market.events import EventKind
from market.exchange import ExchangeProfile
from market.price_encryption import PriceEncoding, PriceKeys
from simulator.bid_answer import PriceWriter, click_token, filled, price_text, read_answer
from simulator.exchange import LossReason

BID = {
    "id": "00000000000000010000000000000002", "impid": "1", "price": 2.5, "crid": "7", "w": 300,
    "h": 250, "mtype": 1, "nurl": "http://x/n/win/t?p=${AUCTION_PRICE}", "lurl": "http://x/n/loss/t",
    "adm": '<a href="http://x/n/click/t"><img src=\'http://x/n/impression/t?p=1&amp;q=2\'/></a>',
}  # fmt: skip


def answer(**changes):
    bid = {**BID, **{name: value for name, value in changes.items() if name in BID}}
    bid = {name: value for name, value in bid.items() if value is not None}
    whole = {"id": "r1", "cur": "USD", "seatbid": [{"seat": "s", "bid": [bid]}]}
    whole |= {name[1:]: value for name, value in changes.items() if name.startswith("_")}
    return msgspec.json.encode(whole)


def test_a_bid_is_read_as_it_was_made():
    bid, others = read_answer(answer(), "r1", "USD")
    assert others == 0
    assert (bid.bid_hi, bid.bid_lo, bid.price_cpm_micros) == (1, 2, 2_500_000)
    assert (bid.creative_id, bid.size, bid.format) == (7, 300 << 16 | 250, 1)
    assert (bid.reason, bid.fault, bid.seat) == (LossReason.WON, "", "s")
    assert bid.urls == {
        EventKind.WIN: "http://x/n/win/t?p=${AUCTION_PRICE}",
        EventKind.LOSS: "http://x/n/loss/t",
        EventKind.IMPRESSION: "http://x/n/impression/t?p=1&q=2",
        EventKind.CLICK: "http://x/n/click/t",
    }


def test_urls_are_found_in_vast_markup_too():
    vast = (
        "<VAST><Impression><![CDATA[http://x/n/impression/t?p=${AUCTION_PRICE}]]></Impression>"
        "<ClickThrough><![CDATA[http://x/n/click/t]]></ClickThrough></VAST>"
    )
    bid, _ = read_answer(answer(adm=vast), "r1", "USD")
    assert bid.urls[EventKind.IMPRESSION] == "http://x/n/impression/t?p=${AUCTION_PRICE}"
    assert bid.urls[EventKind.CLICK] == "http://x/n/click/t"


@pytest.mark.parametrize("body", [b'{"id":"r1"}', b'{"id":"r1","seatbid":[],"nbr":2}'])
def test_an_answer_without_a_bid_is_none(body):
    assert read_answer(body, "r1", "USD") == (None, 0)


@pytest.mark.parametrize(
    ("changes", "reason", "fault"),
    [
        ({"_id": "r2"}, LossReason.INVALID_RESPONSE, "wrong_request_id"),
        ({"impid": "2"}, LossReason.INVALID_RESPONSE, "wrong_imp_id"),
        ({"_cur": "EUR"}, LossReason.INVALID_RESPONSE, "wrong_currency"),
        ({"crid": None}, LossReason.MISSING_CREATIVE_ID, "missing_crid"),
        ({"adm": None}, LossReason.MISSING_MARKUP, "missing_adm"),
        ({"adm": ""}, LossReason.MISSING_MARKUP, "missing_adm"),
    ],
)
def test_a_bid_that_breaks_openrtb_is_refused_by_name(changes, reason, fault):
    bid, _ = read_answer(answer(**changes), "r1", "USD")
    assert (bid.reason, bid.fault) == (reason, fault)


def test_a_currency_that_is_not_named_is_usd():
    assert read_answer(answer(_cur=None), "r1", "USD")[0].fault == ""
    assert read_answer(answer(_cur=None), "r1", "EUR")[0].fault == "wrong_currency"


def test_the_first_bid_counts_and_the_others_are_counted():
    seats = [{"bid": [BID, BID]}, {"bid": [BID]}]
    bid, others = read_answer(answer(_seatbid=seats), "r1", "USD")
    assert (bid.creative_id, others) == (7, 2)


def test_a_foreign_bid_id_and_creative_id_are_taken_as_they_come():
    one, _ = read_answer(answer(id="bid-1", crid="banner-a"), "r1", "USD")
    other, _ = read_answer(answer(id="bid-2"), "r1", "USD")
    assert one.bid_id == "bid-1"
    assert one.creative_id == 0
    assert (one.bid_hi, one.bid_lo) != (other.bid_hi, other.bid_lo)


@pytest.mark.parametrize("body", [b"", b"null", b"<html>", b'{"id":1}', b'{"id":"r1","seatbid":3}'])
def test_a_body_that_is_no_bid_response_is_an_error(body):
    with pytest.raises(BadInput, match="r1"):
        read_answer(body, "r1", "USD")


def test_macros_are_filled_quoted_and_emptied_without_a_value():
    url = (
        "http://x/?p=${AUCTION_PRICE}&c=%24%7BAUCTION_CURRENCY%7D&s=${AUCTION_SEAT_ID:B64}&q=${X_Y}"
    )
    found = filled(
        url, {"AUCTION_PRICE": "1.5", "AUCTION_CURRENCY": "USD", "AUCTION_SEAT_ID": "a b"}
    )
    assert found == "http://x/?p=1.5&c=USD&s=YSBi&q="


def test_a_price_is_filled_in_the_agreed_encoding_and_in_no_other():
    values = {"AUCTION_PRICE": "secret", "AUCTION_LOSS": "0"}
    assert filled("${AUCTION_PRICE:OXCRYPT}", values, "OXCRYPT") == "secret"
    assert filled("%24%7BAUCTION_PRICE%3AOXCRYPT%7D", values, "OXCRYPT") == "secret"
    assert filled("${AUCTION_PRICE:OTHER}", values, "OXCRYPT") == "${AUCTION_PRICE:OTHER}"
    assert filled("${AUCTION_LOSS:OXCRYPT}", values, "OXCRYPT") == "${AUCTION_LOSS:OXCRYPT}"


@pytest.mark.parametrize("encoding", PriceEncoding)
def test_a_written_price_is_read_to_the_price_that_was_told(encoding):
    profile = ExchangeProfile(name="one", exchange_id=7, price_encoding=encoding)
    keys = {"one": PriceKeys("0a" * 32, "0b" * 32)} if encoding is PriceEncoding.GOOGLE else {}
    writer, reader = PriceWriter(profile, keys), Prices((profile,), keys)
    for price in (0, 999, 1_000, 1_234_567, 9_999_999_999):
        told = writer.told(price)
        assert price - 1_000 < told <= price
        assert reader.read(7, writer.text(told, 5_000, price), 5_000, 5_000) == told


def test_an_exchange_that_encrypts_needs_keys():
    profile = ExchangeProfile(name="one", exchange_id=7, price_encoding=PriceEncoding.GOOGLE)
    with pytest.raises(BadInput, match="price_keys: exchange 'one'"):
        PriceWriter(profile, {})


def test_prices_are_written_exactly():
    assert price_text(1_234_567) == "1.234567"
    assert price_text(0) == "0.000000"
    assert price_text(10_000_000_000) == "10000.000000"


def test_the_conversion_token_is_taken_from_the_location():
    assert click_token("https://shop.example/x?a=1&lsclk=tok-en_1#top") == "tok-en_1"
    assert click_token("https://shop.example/") == ""
    assert click_token("http://[bad") == ""
