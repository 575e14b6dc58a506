"""The edge: every column of an opportunity, against the twin's own arrays and field by field."""

from __future__ import annotations

import numpy as np
import pytest

from bidder.edge import Edge, age_band
from market.chance import code_of
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
        ({"banner": {"w": 300, "h": 250, "btype": [2]}}, "imp.banner.btype"),
        ({"bidfloor": -1}, "imp.bidfloor"),
        ({"video": {"minduration": 30, "maxduration": 15}}, "imp.video.minduration"),
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
        (({},), {"bcat": ["483"], "cattax": 6}, NoBidReason.CATEGORY_BLOCKED, "cattax"),
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
    assert read(cattax=6).imps, "another taxonomy forbids nothing where nothing is blocked"


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
        (
            {"banner": {"w": 1, "h": 2, "battr": [3, "8", 99]}},
            "attributes_blocked",
            1 << 3 | 1 << 8,
        ),
        ({"banner": {"w": 1, "h": 2, "mimes": ["image/jpg"]}}, "media_types", 1),
        ({"banner": {"w": 1, "h": 2, "mimes": ["x/y"]}}, "media_types", 1 << 63),
        ({"pmp": {"private_auction": 1}}, "is_private", 1),
        ({"banner": None, "native": {"request": "{}"}}, "formats", Format.NATIVE),
        ({"video": {"mimes": ["video/mp4"]}}, "formats", Format.BANNER | Format.VIDEO),
        ({"banner": None, "video": {"protocols": [2, 7]}}, "protocols", 1 << 2 | 1 << 7),
        ({"banner": None, "video": {"rqddurs": [15, 30]}}, "duration_ms_max", 15_000),
        ({"banner": None, "video": {"maxduration": 30}}, "duration_ms_max", 30_000),
    ],
)
def test_a_field_of_an_imp_becomes_its_column(imp, column, expected):
    assert record_of(imp)[column] == expected


def test_an_imp_of_several_formats_holds_what_all_of_them_accept():
    record = record_of(
        {
            "banner": {"w": 300, "h": 250, "mimes": ["text/html"]},
            "native": {"request": "{}", "battr": [9]},
            "video": {"minduration": 5, "maxduration": 20, "protocols": [2, 3], "battr": [1]},
            "audio": {"minduration": 10, "maxduration": 60, "protocols": [3, 9]},
        }
    )
    assert (record["duration_ms_min"], record["duration_ms_max"]) == (10_000, 20_000)
    assert record["protocols"] == 1 << 3
    assert record["attributes_blocked"] == 1 << 1 | 1 << 9
    assert not record["media_types"] & 1, "a banner that is no image leaves no image to native"
    nothing = record_of({"video": {"protocols": [2]}, "audio": {"protocols": [9]}})
    assert nothing["protocols"] == 1, "no protocol is accepted by both"


def test_a_deal_keeps_its_own_floor_currency_seats_and_domains():
    deals = [
        {"id": "a", "bidfloor": 2, "bidfloorcur": "GBP", "at": 3, "wseat": ["s1", 2]},
        {"bidfloor": 1},
        {"id": "neg", "bidfloor": -1},
        {"id": 7, "wadomain": ["shop.example"], "wseat": ["s1"]},
    ]
    offer = read({"bidfloor": 5, "bidfloorcur": "EUR", "pmp": {"deals": deals}})
    assert [deal.id for deal in offer.deals[0]] == ["a", 7]
    first, second = offer.opportunities.deals
    assert first[["code", "floor_cpm_micros", "floor_currency", "auction_type"]].tolist() == (
        code_of("a"), 2_000_000, 826, 3,
    )  # fmt: skip
    assert second[["code", "floor_cpm_micros", "floor_currency"]].tolist() == (
        code_of("7"), -1, 840,
    ), "an absent floor is the imp's; an absent currency is USD"  # fmt: skip

    def pool(deal, name):
        at = deal[f"{name}_first"]
        return offer.opportunities.codes[at : at + deal[f"{name}_count"]].tolist()

    assert pool(first, "seat") == [code_of("s1"), code_of("2")]
    assert pool(first, "domain") == []
    assert pool(second, "seat") == [code_of("s1")]
    assert pool(second, "domain") == [code_of("shop.example")]


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


def test_ages_are_decades_in_the_year_of_arrival():
    assert age_band(NOW_MS, 1993) == "30"
    assert age_band(NOW_MS, 1994) == "20"


def test_unknown_currencies_are_left_out_and_none_means_usd():
    assert read().opportunities.records["currencies"][0].tolist() == [840] + [0] * 7
    listed = read(cur=["XXX", "eur", "USD"]).opportunities.records["currencies"][0]
    assert listed.tolist() == [978, 840] + [0] * 6
    assert not read(cur=["XXX"]).opportunities.records["currencies"].any()
