"""Native ads on the native path: the bytes of ``bidder.answer``, written in machine code.

A slot's first ad is made from the decoded request; from then on nothing of it is decoded any more.
"""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bidder.native import engine
from market.exchange import DEFAULT_EXCHANGES, check_profiles
from tests.bidder.native.bodies import golden_bodies, real_bodies
from tests.bidder.native.test_engine import Pair
from tests.bidder.services import NOW_MS

PROFILES = check_profiles(DEFAULT_EXCHANGES)
PLAIN = PROFILES["default"]
GOLDEN = [(name, body) for name, body in golden_bodies() if b'"native"' in body]
REAL = [
    (name, body)
    for name, body in real_bodies()
    if name.startswith(("032", "080", "107", "132")) and b'"native"' in body
]
FEED = {"app": {"bundle": "com.feed"}}
TITLE = {"id": 1, "required": 1, "title": {"len": 90}}
VIDEO = {
    "id": 2, "required": 1,
    "video": {"mimes": ["video/mp4"], "minduration": 5, "maxduration": 15, "protocols": [2, 3]},
}  # fmt: skip
IMAGE = {"id": 3, "img": {"type": 3, "wmin": 600, "hmin": 314, "mimes": ["image/jpeg"]}}
SPONSOR = {"id": 4, "data": {"type": 1, "len": 40}}
PIXEL = [{"event": 1, "methods": [1, 2]}]


class Ads(Pair):
    """A pair that counts the bids which the native side leaves to the default path."""

    def __init__(self):
        super().__init__(DEFAULT_EXCHANGES)
        self.left = 0
        finish = self.behind.finish

        def counted(*arguments):
            body = finish(*arguments)
            self.left += body.count(b'"impid"')
            return body

        self.behind.finish = counted

    def bids(self, body, profile=PLAIN, now_ms=NOW_MS):
        """The bids with native ads in the answer of both, in order; all written natively."""
        before = self.left
        answered, is_native = self.both(body, profile, now_ms)
        assert is_native
        assert self.left == before
        if answered.status != 200:
            return []
        response = json.loads(answered.body)
        found = [bid for seat in response["seatbid"] for bid in seat["bid"]]
        return [bid for bid in found if bid["mtype"] == 4]


@pytest.fixture(scope="module")
def ads():
    return Ads()


def slot(request, **fields):
    """A native slot; its request is sent as text, as most exchanges do."""
    return {"native": {"request": json.dumps(request), **fields}}


def body_of(*imps, **changes):
    numbered = [{"id": str(n), **imp} for n, imp in enumerate(imps, 1)]
    return json.dumps({"id": "r", "imp": numbered, **FEED, **changes}).encode()


@pytest.mark.parametrize("profile", DEFAULT_EXCHANGES, ids=lambda profile: profile.name)
@pytest.mark.parametrize(("name", "body"), [*GOLDEN, *REAL], ids=[n for n, _ in [*GOLDEN, *REAL]])
def test_a_printed_request_gets_the_native_ad_of_the_default_path(ads, profile, name, body):
    for round_ in range(2):
        found = ads.bids(body, profile, NOW_MS + round_)
        bids_nothing = ("unknown", "unreadable", "too_long", "multi_format", "breq.native")
        assert name.endswith(bids_nothing) or name.startswith("132") or found


def test_a_slot_that_is_known_is_never_decoded_again(monkeypatch):
    ads = Ads()
    bodies = [body for _, body in [*GOLDEN, *REAL]]
    first = [ads.bids(body) for body in bodies]
    assert sum(map(len, first)) >= 5
    monkeypatch.delattr(engine, "decode_request")
    second = [ads.bids(body, PLAIN, NOW_MS + 1) for body in bodies]
    assert [len(bids) for bids in second] == [len(bids) for bids in first]


def test_another_line_item_of_a_known_slot_gets_an_ad_of_its_own(ads):
    # The highest bidder goes when its seat is blocked; the slot stays the same.
    request = {"ver": "1.2", "assets": [TITLE]}
    shown = set()
    blocked = []
    while True:
        found = ads.bids(body_of(slot(request), badv=blocked))
        if not found:
            break
        shown.add(found[0]["adm"].partition('"link"')[0])
        assert found[0]["adomain"][0] not in blocked
        blocked += found[0]["adomain"]
    assert len(shown) > 1


def test_the_video_of_a_native_ad_has_its_urls_in_vast_in_json_in_json(ads):
    for _ in range(2):
        (bid,) = ads.bids(body_of(slot({"ver": "1.2", "assets": [TITLE, VIDEO], "x": 1})))
    vast = json.loads(bid["adm"])["assets"][1]["video"]["vasttag"]
    for url in (f"{kind}/" for kind in ("impression", "click")):
        assert f"https://bid.example/n/{url}" in vast
    assert "@slot" not in bid["adm"]


def test_native_slots_of_one_request_each_get_their_own_ad(ads):
    requests = (
        {"ver": "1.2", "assets": [TITLE, SPONSOR], "eventtrackers": PIXEL},
        {"native": {"ver": "1.0", "assets": [{**TITLE, "id": 11}, {**IMAGE, "id": 12}]}},
        {"ver": "1.1", "assets": [{**TITLE, "id": 21}]},
        {"ver": "1.2", "assets": [TITLE, SPONSOR], "eventtrackers": PIXEL},
    )
    for round_ in range(2):
        found = ads.bids(body_of(*map(slot, requests), id=f"r{round_}"))
        made = {bid["impid"]: json.loads(bid["adm"]) for bid in found}
        assert len(made) == len(requests)
        assert [asset["id"] for asset in made["2"]["native"]["assets"]] == [11, 12]
        assert [asset["id"] for asset in made["3"]["assets"]] == [21]
        assert "eventtrackers" in made["1"]
        assert "imptrackers" in made["3"]


def test_native_beside_a_banner_in_one_imp_and_native_beside_banners_in_others(ads):
    banner = {"banner": {"w": 300, "h": 250}}
    odd = {"banner": {"w": 123, "h": 45}}
    native = slot({"ver": "1.2", "assets": [TITLE, IMAGE]})
    before = ads.left
    for _ in range(2):
        answered, is_native = ads.both(body_of({**odd, **native}, banner, native, odd), PLAIN)
        assert is_native
        bids = [bid for seat in json.loads(answered.body)["seatbid"] for bid in seat["bid"]]
        assert {(bid["impid"], bid["mtype"]) for bid in bids} == {("1", 4), ("2", 1), ("3", 4)}
        # Where the banner may be filled too, whichever is worth more is.
        assert ads.both(body_of({**banner, **native}), PLAIN)[1]
    assert ads.left == before


def test_a_deal_and_the_open_auction_for_one_slot_get_one_markup(ads):
    deals = {"pmp": {"deals": [{"id": "some-deal-id", "bidfloor": 0.1}]}}
    for _ in range(2):
        found = ads.bids(body_of({**slot({"ver": "1.2", "assets": [TITLE]}), **deals}))
        assert found


@pytest.mark.parametrize("version", ["1.2 @slot-07@", "1.2 \\u0040slot-07@", "@slot-"])
def test_a_version_that_could_be_taken_for_a_mark_is_left_to_the_default_path(ads, version):
    text = json.dumps({"ver": "<>", "assets": [TITLE]}).replace("<>", version)
    body = body_of({"native": {"request": text}})
    for _ in range(2):
        before = ads.left
        answered, is_native = ads.both(body, PLAIN)
        assert (answered.status, is_native, ads.left - before) == (200, True, 1)


def test_a_swap_of_snapshots_forgets_what_native_ads_were_made(ads):
    body = body_of(slot({"ver": "1.2", "assets": [TITLE, IMAGE]}))
    (first,) = ads.bids(body)
    snapshot = ads.behind.desk.decider.snapshot
    for service in (ads.plain, ads.behind):
        service.swap(snapshot)
    ads.native.swap(snapshot)
    assert not ads.native._renderer.fragments.native_keys.any()
    (second,) = ads.bids(body)
    assert json.loads(second["adm"])["assets"] == json.loads(first["adm"])["assets"]


TEXTS = st.text(max_size=8) | st.sampled_from(
    ["1.0", "1.1", "1.2", '"', "\\", "{{CLICK_URL}}", "${AUCTION_PRICE}", "</script>", "\u2028"]
)
LENGTHS = st.sampled_from([None, 0, 5, 25, 90, 65_535])
SIDES = st.sampled_from([None, 0, 1, 64, 300, 1_200, 70_000])
IMAGES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from([1, 2, 3, 500]), "w": SIDES, "h": SIDES, "wmin": SIDES,
        "hmin": SIDES, "mimes": st.lists(st.sampled_from(["image/jpeg", "image/png"])),
    },
)  # fmt: skip
ASSETS = st.fixed_dictionaries(
    {"id": st.integers(-2, 1_000)},
    optional={
        "required": st.sampled_from([0, 0, 0, 0, 1]),
        "title": st.fixed_dictionaries({}, optional={"len": LENGTHS}),
        "img": IMAGES,
        "data": st.fixed_dictionaries({"type": st.integers(0, 13)}, optional={"len": LENGTHS}),
        "video": st.fixed_dictionaries({
            "mimes": st.just(["video/mp4"]),
            "protocols": st.lists(st.sampled_from([2, 3, 6, 7]), min_size=1),
            "minduration": st.sampled_from([1, 5, 20]), "maxduration": st.sampled_from([10, 60]),
        }),
    },
)  # fmt: skip
REQUESTS = st.fixed_dictionaries(
    {"assets": st.lists(ASSETS, max_size=6)},
    optional={
        "ver": TEXTS | st.sampled_from(["1.0", "1.1", "1.2", 1.2, 1]),
        "eventtrackers": st.lists(
            st.fixed_dictionaries({
                "event": st.integers(1, 3), "methods": st.lists(st.integers(1, 2)),
            }),
            max_size=3,
        ),
        "ext": st.dictionaries(TEXTS, TEXTS, max_size=2),
    },
)  # fmt: skip


@st.composite
def slots(draw):
    """An imp with a native slot: as text, as an object, or as fields of the imp; rooted or not."""
    request = draw(REQUESTS)
    shape = draw(st.integers(0, 4))
    rooted = {"native": request} if shape < 2 else request
    fields = draw(st.sampled_from([{}, {"ver": "1.1"}, {"api": [5]}, {"battr": [3]}]))
    if shape == 4:
        return {"native": {**fields, **request}}
    if shape % 2:
        return {"native": {**fields, "request": rooted}}
    text = json.dumps(rooted, ensure_ascii=draw(st.booleans()), indent=draw(st.none() | st.just(1)))
    return {"native": {**fields, "request": text}}


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(slots(), min_size=1, max_size=3), st.booleans(), st.sampled_from(list(PROFILES)),
)  # fmt: skip
def test_any_assets_get_the_markup_of_the_default_path(ads, imps, is_ascii, name):
    numbered = [{"id": str(n), **imp} for n, imp in enumerate(imps, 1)]
    request = {"id": "r", "imp": numbered, **FEED}
    body = json.dumps(request, ensure_ascii=is_ascii).encode(errors="surrogatepass")
    before = ads.left
    for round_ in range(2):
        ads.both(body, PROFILES[name], NOW_MS + round_)
    assert ads.left == before


def test_a_thousand_slots_in_a_row_have_one_answer_on_both_paths_and_most_are_bid_on():
    ads = Ads()
    rng = random.Random(14)
    bid_count = 0
    for n in range(1_000):
        wanted = rng.sample([TITLE, IMAGE, SPONSOR, VIDEO], rng.choice((1, 2, 3)))
        assets = [
            {**asset, "id": rng.randrange(9), "required": int(rng.random() < 0.2)}
            for asset in wanted
        ]
        request = {
            "ver": rng.choice(("1.0", "1.1", "1.2")), "assets": assets,
            "eventtrackers": PIXEL * rng.randrange(2),
        }  # fmt: skip
        imp = slot({"native": request} if rng.random() < 0.3 else request)
        bid_count += len(ads.bids(body_of(imp), PLAIN, NOW_MS + n))
    assert bid_count > 500
