"""The edge: every column of an opportunity, against the twin's own arrays and field by field."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bidder.edge import Edge
from market.chance import code_of, opportunity_key, pair_code
from market.decision import NoBidReason
from market.exchange import DEFAULT_EXCHANGES
from market.openrtb_decode import decode_request
from market.opportunity import OPPORTUNITY_DTYPE, CodeList, Dimension, Format
from simulator.bid_request import RequestWriter
from simulator.exchange import Exchange
from simulator.scenario import load
from tests.bidder.requests import body_of

PROFILE = DEFAULT_EXCHANGES[0]
SALT = b"0123456789abcdef"
NOW_MS = 1_700_000_000_000


def read(*imps, **changes):
    return Edge(SALT).read(decode_request(body_of(*imps, **changes)), PROFILE, NOW_MS)


def record_of(imp, **changes):
    offer = read(imp, **changes)
    assert not offer.refusals, offer.refusals
    return offer.opportunities.records[0]


def codes(offer, listed):
    record = offer.opportunities.records[0]
    first, count = record["list_first"][listed], record["list_count"][listed]
    return offer.opportunities.codes[first : first + count].tolist()


@pytest.mark.parametrize("name", ["demo", "parity"])
def test_what_the_edge_reads_in_json_is_what_the_twin_has_in_arrays(name):
    scenario = load(name)
    exchange = Exchange(scenario, (), seed=4, user_salt=SALT)
    writer = RequestWriter(exchange)
    profile = next(p for p in DEFAULT_EXCHANGES if p.name == scenario.exchange)
    offers = exchange.offers(scenario.start_at_ms, scenario.end_at_ms)
    count = offers.opportunities.records.shape[0]
    edge = Edge(SALT)
    slices = ("list_first", "deal_first")
    for place in range(0, count, max(count // 400, 1)):
        expected = offers.opportunities.records[place]
        request = decode_request(writer.body(offers, place))
        offer = edge.read(request, profile, int(expected["arrival_ms"]))
        assert not offer.refusals
        found = offer.opportunities.records[0]
        for column in OPPORTUNITY_DTYPE.names:
            if column not in slices:
                assert np.array_equal(found[column], expected[column]), (place, column)
        for listed in CodeList:
            first, size = expected["list_first"][listed], expected["list_count"][listed]
            theirs = offers.opportunities.codes[first : first + size].tolist()
            assert codes(offer, listed) == theirs, (place, listed)


# What makes a request or an imp unusable, and what names it.


@pytest.mark.parametrize(
    ("imp", "field"),
    [
        ({"banner": None}, "imp.banner"),
        ({"banner": {}}, "imp.banner.w"),
        ({"banner": {"w": 300, "h": -1}}, "imp.banner.w"),
        ({"banner": {"format": []}}, "imp.banner.format"),
        ({"bidfloor": -1}, "imp.bidfloor"),
        ({"qty": {"multiplier": 0}}, "imp.qty.multiplier"),
        ({"qty": {"multiplier": -2}}, "imp.qty.multiplier"),
        ({"qty": {"multiplier": 1000.5}}, "imp.qty.multiplier"),
        ({"qty": {"multiplier": 1e306}}, "imp.qty.multiplier"),
    ],
)
def test_an_unusable_imp_is_dropped_with_its_field_and_the_others_go_on(imp, field):
    offer = read({"id": "bad", **imp}, {"id": "good"})
    assert [(r.imp_index, r.reason, r.field) for r in offer.refusals] == [
        (0, NoBidReason.UNUSABLE_IMP, field)
    ]
    assert [imp.id for imp in offer.imps] == ["good"]


@pytest.mark.parametrize(
    ("imps", "changes", "reason", "field"),
    [
        (({},), {"app": {"bundle": "a"}}, NoBidReason.CONTRADICTORY_REQUEST, "app"),
        (({},), {"dooh": {"id": "a"}}, NoBidReason.CONTRADICTORY_REQUEST, "dooh"),
        (({"id": "1"}, {"id": "1"}), {}, NoBidReason.CONTRADICTORY_REQUEST, "imp.id"),
        (({},), {"at": 4}, NoBidReason.AUCTION_TYPE_UNKNOWN, "at"),
        (({},), {"at": 500}, NoBidReason.AUCTION_TYPE_UNKNOWN, "at"),
    ],
)
def test_a_request_that_cannot_be_used_is_refused_as_a_whole(imps, changes, reason, field):
    offer = read(*imps, **changes)
    assert offer.refusals == ((-1, reason, field),)
    assert not offer.imps


def test_a_category_block_in_the_first_taxonomy_is_read():
    assert codes(read(bcat=["IAB25", 7], cattax=1), CodeList.CATEGORY_BLOCKED) == [
        code_of("IAB25"), code_of("7"),
    ]  # fmt: skip
    other = read(cattax=6)
    assert other.imps, "another taxonomy forbids nothing where nothing is blocked"
    assert not codes(other, CodeList.TAXONOMY)


def test_a_category_block_in_another_taxonomy_asks_for_ads_that_are_named_in_it():
    offer = read(bcat=["483", "x"], acat=["7"], cattax=6)
    assert codes(offer, CodeList.CATEGORY_BLOCKED) == [code_of("6:483"), code_of("6:x")]
    assert codes(offer, CodeList.CATEGORY_ALLOWED) == [code_of("6:7")]
    assert codes(offer, CodeList.TAXONOMY) == [code_of("6:")]


# Field by field.


@pytest.mark.parametrize(
    ("imp", "column", "expected"),
    [
        ({"bidfloor": 1.25, "bidfloorcur": "eur"}, "floor_cpm_micros", 1_250_000),
        ({"bidfloor": 1.25, "bidfloorcur": " eur "}, "floor_currency", 978),
        ({"bidfloorcur": "XXX"}, "floor_currency", 0),
        ({}, "floor_currency", 840),
        ({"secure": 1}, "is_secure", 1),
        ({"secure": "0"}, "is_secure", 0),
        ({"qty": {"multiplier": 2.5}}, "quantity_micros", 2_500_000),
        ({"qty": {"multiplier": 0.1}}, "quantity_micros", 100_000),
        ({"qty": {"multiplier": 1e-9}}, "quantity_micros", 1),
        ({"qty": {}}, "quantity_micros", 1_000_000),
        ({"pmp": {"private_auction": 1, "deals": [{"id": "a"}]}}, "is_private", 1),
        ({"metric": [{"type": "Viewability", "value": 0.25}]}, "viewability_ppm", 250_000),
        ({"metric": [{"type": "viewability", "value": 0}]}, "viewability_ppm", 1),
        ({"metric": [{"type": "viewability", "value": 71}]}, "viewability_ppm", 0),
        ({"metric": [{"type": "ctr", "value": 0.5}, {}]}, "viewability_ppm", 0),
        ({"banner": None, "native": {"request": "{}"}}, "formats", Format.NATIVE),
        ({"video": {"mimes": ["video/mp4"]}}, "formats", Format.BANNER | Format.VIDEO),
    ],
)
def test_a_field_of_an_imp_becomes_its_column(imp, column, expected):
    assert record_of(imp)[column] == expected


def test_an_imp_is_offered_once_per_deal_and_once_in_the_open_auction():
    deals = [{"id": "a", "bidfloor": 2}, {"bidfloor": 1}, {"id": 7}]
    offer = read({"id": "x"}, {"id": "y", "pmp": {"deals": deals}})
    assert [imp.id for imp in offer.imps] == ["x", "y", "y", "y"]
    assert offer.imp_indexes == (0, 1, 1, 1)
    assert [[deal.id for deal in of] for of in offer.deals] == [[], ["a"], [7], []]
    plain, first, second, opened = offer.opportunities.records
    key = opportunity_key("default", "r1", "y")
    assert (int(opened["key_hi"]), int(opened["key_lo"])) == key, "as without deals"
    for record, name in ((first, "a"), (second, "7")):
        assert record["key_hi"] == pair_code(key[0], code_of(name)), "each bid has its own name"
        assert record["key_lo"] == key[1]
        assert record["is_private"]
        assert record["deal_count"] == 1
        assert offer.opportunities.deals[record["deal_first"]]["code"] == code_of(name)
    for record in (plain, opened):
        assert not record["is_private"]
        assert record["deal_count"] == 0
    same = [
        n for n in OPPORTUNITY_DTYPE.names if not n.startswith(("key_hi", "deal", "is_private"))
    ]
    assert first[same] == opened[same]


def test_a_private_auction_has_no_open_record():
    offer = read({"pmp": {"private_auction": 1, "deals": [{"id": "a"}]}})
    assert len(offer.imps) == 1
    assert offer.opportunities.records["is_private"].all()
    for deals in ([], [{"id": "a", "bidfloor": -1}], [{"id": "a", "at": 600}]):
        nothing = read({"pmp": {"private_auction": 1, "deals": deals}})
        assert nothing.refusals == ((0, NoBidReason.DEAL_REQUIRED, "imp.pmp.deals"),)


def test_deals_that_nobody_holds_are_left_out():
    edge = Edge(SALT)
    edge.deals_held = frozenset({code_of("mine")})
    deals = [{"id": "theirs"}, {"id": "MINE"}]
    offer = edge.read(decode_request(body_of({"pmp": {"deals": deals}})), PROFILE, NOW_MS)
    assert [[deal.id for deal in of] for of in offer.deals] == [["MINE"], []]


def test_an_exchanges_own_auction_type_is_read_by_its_profile():
    profile = msgspec.structs.replace(PROFILE, auction_types={"501": 1, "600": 2})
    deals = [{"id": "a", "at": 600}, {"id": "b", "at": 3}, {"id": "c", "at": 601}]
    request = decode_request(body_of({"pmp": {"deals": deals}}, at=501))
    offer = Edge(SALT).read(request, profile, NOW_MS)
    assert offer.opportunities.records["auction_type"].tolist() == [1, 1, 1]
    assert offer.opportunities.deals["auction_type"].tolist() == [2, 3]


def test_languages_are_of_the_first_list_that_is_sent():
    def languages(**changes):
        found = read(**changes).opportunities.records["languages"][0].tolist()
        return [code for code in found if code]

    assert languages() == []
    assert languages(wlang=["en", "FR", "en"]) == [code_of("en"), code_of("fr")]
    assert languages(wlangb=["en-GB", "zh-Hant"]) == [code_of("en"), code_of("zh")]
    assert len(languages(wlang=[f"{a}a" for a in "bcdefghijk"])) == 8, "no more fit a record"


def test_lists_of_the_request_land_in_their_slices():
    offer = read(
        wseat=["s"], bseat=["t", ""], acat=["IAB1"], badv=["Shop.example", None], bapp=["com.x"],
        site={"domain": "d", "cat": ["IAB2"], "keywords": "a, b,,", "content": {"cat": ["IAB3"]}},
    )  # fmt: skip
    for listed, values in {
        CodeList.SEAT_ALLOWED: ["s"], CodeList.SEAT_BLOCKED: ["t"],
        CodeList.CATEGORY_ALLOWED: ["IAB1"], CodeList.ADVERTISER_BLOCKED: ["shop.example"],
        CodeList.APP_BLOCKED: ["com.x"], CodeList.CATEGORY: ["IAB2", "IAB3"],
        CodeList.KEYWORD: ["a", "b"], CodeList.SEGMENT: [],
    }.items():  # fmt: skip
        assert codes(offer, listed) == [code_of(value) for value in values], listed


def test_the_hour_is_the_users_own():
    # 14 November 2023, 22:13 UTC, a Tuesday.
    for offset, expected in ((0, "tue 22"), (120, "wed 0"), (-1380, "mon 23"), (None, "tue 22")):
        offer = read(device={"geo": {"utcoffset": offset}})
        hour = offer.opportunities.records[0]["dimensions"][Dimension.HOUR_OF_WEEK]
        assert hour == code_of(expected)


def test_unknown_currencies_are_left_out_and_none_means_usd():
    assert read().opportunities.records["currencies"][0].tolist() == [840] + [0] * 7
    listed = read(cur=["XXX", "eur", "USD"]).opportunities.records["currencies"][0]
    assert listed.tolist() == [978, 840] + [0] * 6
    assert not read(cur=["XXX"]).opportunities.records["currencies"].any()
    profile = msgspec.structs.replace(PROFILE, currency="GBP")
    offer = Edge(SALT).read(decode_request(body_of()), profile, NOW_MS)
    assert offer.opportunities.records["currencies"][0, 0] == 826, "of the exchange by default"
