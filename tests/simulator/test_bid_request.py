"""Bid requests: reading the JSON by the rules of the market gives back the record in the arrays."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest

from market.chance import code_of, opportunity_key, user_key
from market.creative import MEDIA_TYPES
from market.money import CURRENCY_NUMBERS, price_from_wire
from market.openrtb import BidRequest
from market.opportunity import OPPORTUNITY_DTYPE, CodeList, Dimension
from simulator.bid_request import RequestWriter
from simulator.exchange import profile_of
from tests.simulator.markets import SALT, exchange_of, scenario_of

HOUR_MS = 3_600_000
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def record_of(request, profile, arrival_ms):
    """What an opportunity says of a request, read off plain JSON by the documented rules."""
    record = np.zeros(1, OPPORTUNITY_DTYPE)[0]
    imp, device, user = request["imp"][0], request["device"], request["user"]
    kind = "site" if "site" in request else "app"
    channel, geo = request[kind], device["geo"]
    key = opportunity_key(profile.name, request["id"], imp["id"])
    record["key_hi"], record["key_lo"] = key
    record["arrival_ms"] = arrival_ms
    record["user_key"] = user_key(SALT, user["id"])
    record["exchange"] = profile.exchange_id
    moment = datetime.fromtimestamp(arrival_ms / 1000, UTC)
    local = moment + timedelta(minutes=geo["utcoffset"])
    age = f"{(moment.year - user['yob']) // 10 * 10}" if "yob" in user else None
    said = {
        Dimension.EXCHANGE: profile.name,
        Dimension.COUNTRY: geo["country"],
        Dimension.REGION: geo["region"],
        Dimension.CITY: geo.get("city"),
        Dimension.DEVICE_TYPE: str(device["devicetype"]),
        Dimension.OS: device["os"],
        Dimension.CONNECTION: str(device["connectiontype"]),
        Dimension.LANGUAGE: device["language"],
        Dimension.INVENTORY_TYPE: kind,
        Dimension.INVENTORY: channel["domain"] if kind == "site" else channel["bundle"],
        Dimension.PUBLISHER: channel["publisher"]["id"],
        Dimension.PLACEMENT: imp["tagid"],
        Dimension.HOUR_OF_WEEK: f"{DAYS[local.weekday()]} {local.hour}",
        Dimension.GENDER: user.get("gender"),
        Dimension.AGE_BAND: age,
        Dimension.CARRIER: device.get("carrier"),
        Dimension.BROWSER: browser_of(device["ua"]),
        Dimension.INTERSTITIAL: "0",
        Dimension.REWARDED: "0",
    }
    for dimension, text in said.items():
        record["dimensions"][dimension] = code_of(text) if text else 0
    record["os_version"] = os_version_of(device)
    record["auction_type"] = request["at"]
    record["is_secure"] = imp["secure"]
    record["floor_cpm_micros"] = price_from_wire(imp["bidfloor"])
    record["floor_currency"] = CURRENCY_NUMBERS[imp.get("bidfloorcur", "USD")]
    for place, name in enumerate(request["cur"]):
        record["currencies"][place] = CURRENCY_NUMBERS[name]
    shown = imp.get("banner") or imp["video"]
    for place, size in enumerate(shown.get("format", ())):
        record["sizes"][place] = size["w"] << 16 | size["h"]
        record["size_count"] = place + 1
    record["media_types"][int("video" in imp)] = sum(
        1 << MEDIA_TYPES.index(mime) for mime in shown.get("mimes", ())
    )
    record["formats"] = 1 if "banner" in imp else 2
    record["duration_ms_min"][0] = shown.get("minduration", 0) * 1000
    record["duration_ms_max"][0] = shown.get("maxduration", 0) * 1000
    record["quantity_micros"] = 1_000_000
    record["billing_window_ms"] = profile.billing_window_ms[
        "banner" if "banner" in imp else "video"
    ]
    return record


def browser_of(user_agent):
    return "Google Chrome" if "Chrome" in user_agent else "Safari" * ("Safari" in user_agent)


def os_version_of(device):
    """What ``iPhone OS 17_5`` and the like say of the system that the request names."""
    written = {"Android": "Android ", "iOS": " OS ", "Windows": "Windows NT ", "macOS": "Mac OS X "}
    before = written.get(device["os"])
    if before is None or before not in device["ua"]:
        return 0
    text = re.match(r"[0-9._]+", device["ua"].split(before, 1)[1])[0]
    parts = [int(part) for part in re.findall(r"[0-9]+", text)]
    return sum(part << (32 - 16 * place) for place, part in enumerate(parts[:3]))


def lists_of(request):
    channel = request.get("site") or request["app"]
    segments = [s["id"] for data in request["user"]["data"] for s in data["segment"]]
    sites = [channel["bundle"]] if "bundle" in channel else parents_of(channel["domain"])
    return tuple(
        [code_of(text) for text in texts] for texts in (segments, channel.get("cat", ()), sites)
    )


def parents_of(domain):
    labels = domain.split(".")
    return [".".join(labels[place:]) for place in range(len(labels) - 1)]


@pytest.mark.parametrize("name", ["parity", "demo"])
def test_a_request_says_field_for_field_what_its_opportunity_says(name):
    scenario = scenario_of(name)
    exchange, profile = exchange_of(scenario, ads=()), profile_of(scenario)
    writer = RequestWriter(exchange)
    compared, kinds = 0, set()
    for hour in range(0, 26, 2):
        start = scenario.start_at_ms + hour * HOUR_MS
        offers = exchange.offers(start, start + 2 * scenario.slice_ms)
        block = offers.opportunities
        for place, record in enumerate(block.records):
            request = msgspec.json.decode(writer.body(offers, place))
            expected = record_of(request, profile, start)
            for field in OPPORTUNITY_DTYPE.names:
                if field not in {"list_first", "list_count"}:
                    assert np.array_equal(record[field], expected[field]), (field, request)
            first, count = record["list_first"], record["list_count"]
            found = [
                block.codes[first[kind] : first[kind] + count[kind]].tolist()
                for kind in (CodeList.SEGMENT, CodeList.CATEGORY, CodeList.SITE)
            ]
            assert found == list(lists_of(request))
            compared += 1
            kinds.add((record["formats"], "gender" in request["user"], "app" in request))
    assert compared > 50
    assert len(kinds) >= 4


def test_a_request_is_openrtb_and_the_same_on_every_run():
    scenario = scenario_of()
    bodies = []
    for _ in range(2):
        exchange = exchange_of(scenario, ads=())
        offers = exchange.offers(scenario.start_at_ms, scenario.start_at_ms + HOUR_MS)
        writer = RequestWriter(exchange)
        bodies.append([writer.body(offers, place) for place in range(offers.scene.shape[0])])
    assert bodies[0] == bodies[1]
    for body in bodies[0]:
        request = msgspec.json.decode(body, type=BidRequest)
        assert request.tmax == scenario.tmax_ms
        assert len(request.imp) == 1
        assert (request.site is None) != (request.app is None)


def test_a_video_request_carries_its_player():
    exchange = exchange_of(ads=())
    offers = exchange.supply.block(0, 400)
    writer = RequestWriter(exchange)
    videos = [
        place
        for place, scene in enumerate(offers.scene.tolist())
        if exchange.supply.scenes[scene].placement.video
    ]
    request = msgspec.json.decode(writer.body(offers, videos[0]), type=BidRequest)
    video = request.imp[0].video
    assert (video.w, video.h, video.minduration, video.maxduration) == (1280, 720, 5, 30)
    assert video.mimes == ["video/mp4", "video/webm"]
    assert request.imp[0].banner is None
