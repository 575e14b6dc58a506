"""Cases in which the two paths once differed, or one request cost more than it may."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from bidder.desk import RECORDS_MAX
from bidder.edge import Edge
from bidder.native.memo import HELD_MAX, memo_tables
from bidder.native.reader import Reader
from bidder.native.wire import Bail
from bidder.supply_chain import read_supply
from market.exchange import DEFAULT_EXCHANGES, ChainRule, SellersRule
from market.openrtb_decode import decode_request
from tests.bidder.services import NOW_MS, Sink, engine_of, service_of
from tests.bidder.test_golden import SUPPLY

PROFILE = DEFAULT_EXCHANGES[0]
IMP = {"id": "1", "banner": {"w": 300, "h": 250}}


def body_of(**rest):
    return json.dumps({"id": "1", "imp": [IMP], **rest}).encode()


def test_the_kind_of_a_channel_is_part_of_what_a_seller_is_judged_by():
    supply = read_supply(next(path for path in sorted(SUPPLY.iterdir()) if path.is_dir()))
    profile = msgspec.structs.replace(
        PROFILE, sellers_rule=SellersRule.REQUIRED, seller_domain="exchange.example"
    )
    plain = service_of(supply=supply)
    engine = engine_of(service_of(supply=supply), [profile], supply=supply)
    for body in (
        body_of(), body_of(app={"name": "x"}),
        body_of(dooh={"publisher": {"id": "p", "domain": "d.example"}}),
        body_of(app={"publisher": {"id": "p", "domain": "d.example"}}),
        body_of(site={"publisher": {"id": "p", "domain": "d.example"}}),
    ):  # fmt: skip
        expected = plain.answer(body, profile, NOW_MS)
        found = engine.answered(body, profile, NOW_MS)
        assert (found.status, found.body) == (expected.status, expected.body), body


@pytest.mark.parametrize("domain", ["." * 60_000, "a." * 130, "x" * 256])
def test_what_is_no_domain_is_left_at_once(domain):
    reader = Reader(b"salt", (1, 2))
    body = body_of(site={"domain": domain})
    request = decode_request(body)
    for _ in range(2):
        cause = reader.read(body, PROFILE, NOW_MS)
        reader.remember(request, PROFILE)
    assert cause == Bail.CAPACITY


def test_a_request_for_thousands_of_ads_makes_no_more_records_than_are_decided():
    imps = [
        {"id": str(n), "video": {"maxseq": 8, "mimes": ["video/mp4"], "maxduration": 30}}
        for n in range(8_000)
    ]
    request = decode_request(json.dumps({"id": "1", "imp": imps}).encode())
    offer = Edge(b"salt").read(request, PROFILE, NOW_MS)
    assert len(offer.imps) == RECORDS_MAX
    assert [refusal.field for refusal in offer.refusals] == ["imp"]


def test_a_pod_keeps_whole_ads_however_many_deals_it_has():
    deals = [{"id": f"d{n}"} for n in range(20)]
    imp = {
        "id": "1", "video": {"maxseq": 8, "mimes": ["video/mp4"], "maxduration": 30},
        "pmp": {"deals": deals},
    }  # fmt: skip
    offer = Edge(b"salt").read(
        decode_request(json.dumps({"id": "1", "imp": [imp]}).encode()), PROFILE, NOW_MS
    )
    assert len(offer.imps) == 64
    assert len(offer.imps) % 8 == 0


def test_a_deal_that_is_listed_twice_is_bid_on_once():
    imp = {**IMP, "pmp": {"deals": [{"id": "d", "at": 3, "bidfloor": 1}, {"id": " D "}]}}
    body = json.dumps({"id": "1", "imp": [imp]}).encode()
    offer = Edge(b"salt").read(decode_request(body), PROFILE, NOW_MS)
    assert len(offer.imps) == 2
    reader = Reader(b"salt", (1, 2))
    reader.read(body, PROFILE, NOW_MS)
    reader.remember(decode_request(body), PROFILE)
    assert reader.read(body, PROFILE, NOW_MS) == Bail.READ
    assert reader.wire.records[:2].tobytes() == offer.opportunities.records.tobytes()
    assert reader.wire.counts[0] == 2


def test_more_deals_than_are_looked_up_leave_none_out():
    reader = Reader(b"salt", (1, 2))
    reader.memory.hold([7] * (HELD_MAX + 1))
    assert reader.memory.tables.limits[0] == 1, "the same deal of many line items is one"
    reader.memory.hold(range(1, HELD_MAX + 2))
    assert reader.memory.tables.limits[0] == memo_tables().limits[0]


class Clock:
    """Stands still until it is told to jump at its n-th reading."""

    def __init__(self, jump_at, by_ns):
        self.readings, self.jump_at, self.by_ns = 0, jump_at, by_ns

    def __call__(self):
        self.readings += 1
        return self.by_ns if self.readings >= self.jump_at else 0


@pytest.mark.parametrize("jump_at", range(2, 7))
def test_time_that_the_native_path_took_is_not_given_again_by_the_default_one(jump_at):
    sink = Sink()
    clock = Clock(jump_at, 200_000_000)
    service = service_of(sink=sink, clock_ns=clock)
    engine = engine_of(service, DEFAULT_EXCHANGES)
    money = service.desk.decider.available()
    engine._clock_ns = clock
    body = body_of(site={"domain": "news.example"})
    answered = engine.answered(body, PROFILE, NOW_MS)
    if answered.status == 204:
        assert sink.events == []
        assert service.desk.decider.available() == money
    else:
        # The clock jumped when the bid was already recorded: it is told of.
        assert len(sink.events) == answered.bid_count


def test_a_chain_that_hides_a_seller_is_refused_where_sellers_are_judged():
    nodes = [{"asi": "shady.example"}, {"asi": "exchange.example", "sid": "9"}]
    body = body_of(site={"domain": "a.example"}, source={"schain": {"complete": 1, "nodes": nodes}})
    service = service_of()
    strict = msgspec.structs.replace(PROFILE, chain_rule=ChainRule.OPTIONAL, chain_nodes_max=2)
    examined = service.examine(decode_request(body), strict, NOW_MS)
    assert [refusal.reason.name for refusal in examined.refusals] == ["SUPPLY_CHAIN_INCOMPLETE"]
    assert np.all([service.examine(decode_request(body), PROFILE, NOW_MS).bids])
