"""Pods: how many ads an imp may hold, and what a bid leaves for those after it."""

from __future__ import annotations

import msgspec
import pytest

from bidder.pods import ADS_MAX, PodWatch, ads_of, is_dynamic, places_of
from market.chance import code_of
from market.creative import Creative
from market.decision import NoBidReason
from market.exchange import DEFAULT_EXCHANGES
from market.openrtb import Audio, BidResponse, Imp, Video
from market.opportunity import CodeList, no_opportunities
from market.snapshot import CreativeText
from tests.bidder.requests import body_of
from tests.bidder.services import NOW_MS, service_of
from tests.bidder.worlds import one_item_campaign

VIDEO = {"mimes": ["video/mp4"], "protocols": [3]}
TEXT = CreativeText(("",), "", "shop.example", "IAB18", "", "")


def campaign(n, category, *durations):
    """Advertiser ``n`` with a video of each duration, seconds."""
    creatives = tuple(
        Creative(
            creative_id=n * 10 + k, format="video", width=640, height=360,
            duration_ms=seconds * 1000, protocol=3, media_type="video/mp4",
            media_url="https://shop.example/v.mp4", landing_url="https://shop.example/",
        )
        for k, seconds in enumerate(durations)
    )  # fmt: skip
    made = one_item_campaign(creatives)
    (item,) = made.line_items
    return msgspec.structs.replace(
        made, campaign_id=n, advertiser_id=n, advertiser_domain=f"a{n}.example",
        category=category, line_items=(msgspec.structs.replace(item, line_item_id=n),),
    )  # fmt: skip


CAMPAIGNS = (
    campaign(1, "IAB1", 15), campaign(2, "IAB2", 15, 30), campaign(3, "IAB2", 20),
    campaign(4, "IAB4", 30),
)  # fmt: skip


MINUTE = (campaign(1, "IAB1", 15), campaign(2, "IAB2", 20), campaign(3, "IAB3", 25))


def bids(*videos, campaigns=CAMPAIGNS, **changes):
    """(imp id, advertiser, duration, slotinpod) of every bid."""
    imps = [{"banner": None, "video": {**VIDEO, **video}} for video in videos]
    body = body_of(*imps, **changes)
    answered = service_of(campaigns).answer(body, DEFAULT_EXCHANGES[2], NOW_MS)
    response = msgspec.json.decode(answered.body, type=BidResponse)
    return [
        (bid.impid, bid.adomain[0], bid.dur, bid.slotinpod)
        for seat in response.seatbid
        for bid in seat.bid
    ]


@pytest.mark.parametrize(
    ("imp", "count"),
    [
        (Imp(id="1"), 1),
        (Imp(id="1", video=Video()), 1),
        (Imp(id="1", video=Video(podid="p", rqddurs=[15])), 1),
        (Imp(id="1", video=Video(maxseq=3)), 3),
        (Imp(id="1", video=Video(poddur=60)), ADS_MAX),
        (Imp(id="1", video=Video(poddur=60, minduration=15)), 4),
        (Imp(id="1", video=Video(poddur=60, maxseq=2)), 2),
        (Imp(id="1", video=Video(poddur=60, rqddurs=[30, 20])), 3),
        (Imp(id="1", audio=Audio(poddur=30, minduration=10)), 3),
        (Imp(id="1", video=Video(poddur=10, minduration=60)), 1),
        (Imp(id="1", video=Video(maxseq=10**9)), ADS_MAX),
        (Imp(id="1", video=Video(maxseq=-1, poddur=-5)), 1),
    ],
)
def test_only_time_for_sale_holds_several_ads(imp, count):
    assert ads_of(imp) == count
    sold = imp.video or imp.audio
    has_time = sold is not None and ((sold.poddur or 0) > 0 or (sold.maxseq or 0) > 0)
    assert is_dynamic(sold) == has_time


def test_a_slot_after_another_goes_to_another_advertiser_and_category():
    found = bids({"podid": "p"}, {"podid": "p"}, {"podid": "p"}, {"podid": "p"})
    domains = [domain for _, domain, _, _ in found]
    assert len(found) == 3, "four advertisers, two of them in one category"
    assert len(set(domains)) == 3
    assert not {"a2.example", "a3.example"} <= set(domains)
    assert all(place is None for *_, place in found), "a slot is a slot"


def test_another_pod_and_an_imp_outside_are_not_narrowed():
    found = bids({"podid": "p"}, {"podid": "q"}, {}, campaigns=CAMPAIGNS[:1])
    assert [domain for _, domain, _, _ in found] == ["a1.example"] * 3


@pytest.mark.parametrize(
    ("dedupe", "count"), [([1], 4), ([2], 3), ([3], 4), ([4], 4), ([1, 2], 3), (["x"], 3)]
)
def test_what_must_not_come_twice_is_the_sellers_to_say(dedupe, count):
    """Kinds named: 1 advertiser, 2 category, 3 creative, 4 file (by its advertiser)."""
    slots = [{"podid": "p", "poddedupe": dedupe}] * 4
    found = bids(*slots)
    categories = {"a1.example": 1, "a2.example": 2, "a3.example": 2, "a4.example": 4}
    if dedupe != [2]:
        assert len({domain for _, domain, _, _ in found}) == len(found)
    if 2 in dedupe or dedupe == ["x"]:
        assert len({categories[domain] for _, domain, _, _ in found}) == len(found)
    assert len(found) == count


def test_a_dynamic_pod_is_filled_within_its_time_by_different_advertisers():
    found = bids({"poddur": 60, "maxseq": 4}, campaigns=MINUTE)
    assert sum(seconds for _, _, seconds, _ in found) == 60
    assert sum(s for _, _, s, _ in bids({"poddur": 59}, campaigns=MINUTE)) < 59
    assert len({domain for _, domain, _, _ in found}) == 3
    assert {place for *_, place in found} == {0}, "any place in the pod will do"


def test_what_is_left_of_the_time_limits_the_next_ad():
    found = bids({"poddur": 40, "maxseq": 4, "poddedupe": [2]})
    assert sum(seconds for _, _, seconds, _ in found) <= 40
    lengths = bids({"poddur": 45, "rqddurs": [15, 30], "maxseq": 3})
    assert sum(seconds for _, _, seconds, _ in lengths) <= 45
    assert {seconds for _, _, seconds, _ in lengths} <= {15, 30}


def test_a_hybrid_pod_keeps_slot_and_time_apart_from_one_advertiser():
    found = bids({"podid": "p", "rqddurs": [15]}, {"podid": "p", "poddur": 30, "maxseq": 2})
    first = found[0]
    assert first[0] == "1"
    assert first[3] is None
    assert found[1:]
    assert all(imp == "2" and place == 0 for imp, _, _, place in found[1:])
    assert first[1] not in {domain for _, domain, _, _ in found[1:]}


def test_no_bid_in_a_dynamic_pod_is_told_once_with_the_reason_of_the_first_ad():
    service = service_of(CAMPAIGNS)
    body = body_of({"banner": None, "video": {**VIDEO, "poddur": 10, "maxseq": 5}})
    answered = service.answer(body, DEFAULT_EXCHANGES[0], NOW_MS)
    assert answered.reason == NoBidReason.DURATION_NOT_ACCEPTED
    assert service.no_bids[NoBidReason.DURATION_NOT_ACCEPTED] == 1
    assert service.no_bids[NoBidReason.POD_FULL] == 0


def test_bids_of_a_pod_have_ids_of_their_own():
    answered = service_of(MINUTE).answer(
        body_of({"banner": None, "video": {**VIDEO, "poddur": 60}}), DEFAULT_EXCHANGES[0], NOW_MS
    )
    response = msgspec.json.decode(answered.body, type=BidResponse)
    ids = [bid.id for seat in response.seatbid for bid in seat.bid]
    assert len(set(ids)) == len(ids) == 3


def test_records_know_which_ad_of_which_imp_they_are():
    pod = Imp(id="1", video=Video(podid="p", maxseq=2))
    slot = Imp(id="2", video=Video(podid="p"))
    other = Imp(id="3")
    # Two records an ad of the first imp: one for its deal, one open.
    places = places_of((pod,) * 4 + (slot, other), (0, 0, 0, 0, 1, 2))
    assert [place and (place.imp_index, place.sequence) for place in places] == [
        (0, 0), (0, 0), (0, 1), (0, 1), (1, 0), None,
    ]  # fmt: skip
    assert places_of((other,), (0,)) == ()


def test_bids_on_several_deals_for_one_ad_do_not_exclude_each_other():
    pod = Imp(id="1", video=Video(podid="p", maxseq=2, poddur=60))
    block = no_opportunities(4, 1, 1)
    watch = PodWatch(places_of((pod,) * 4, (0, 0, 0, 0)), block)
    watch.take(0, TEXT, 30_000)
    blocked = watch.opportunities.records["list_count"][:, CodeList.ADVERTISER_BLOCKED]
    assert blocked.tolist() == [0, 0, 1, 1]
    first = watch.opportunities.records["list_first"][2, CodeList.ADVERTISER_BLOCKED]
    assert watch.opportunities.codes[first] == code_of("shop.example")
    assert watch.opportunities.records["duration_ms_max"][:, 0].tolist() == [0, 0, 30_000, 30_000]
    assert not watch.is_full(2)
    watch.take(1, TEXT, 60_000)
    assert watch.is_full(2), "the longer of the two may win"
