"""Native ads: what a request requires, and the ad that answers it asset by asset."""

from __future__ import annotations

import json

import msgspec
import pytest

from bidder.native_ad import Clip, native_markup, native_needs
from market.creative import NativeImage, NativeParts
from market.openrtb import Native, NativeAsset
from market.openrtb import NativeImage as ImageAsset

PARTS = NativeParts(
    title="Trail shoes", sponsored="Alpine", description="Dry feet.", call_to_action="Buy",
    image=NativeImage(url="https://shop.example/m.jpg", width=1200, height=627),
    icon=NativeImage(url="https://shop.example/i.png", width=64, height=64, media_type="image/png"),
)  # fmt: skip
NO_CLIP = Clip("", 0, 0, 0)
CLIP = Clip("<VAST/>", 3, 15_000, 1 << 5)
SEEN, CLICK = "https://bid.example/seen", "https://bid.example/click"


def native(*assets, is_text=True, root=False, **fields):
    request = {"ver": "1.2", "assets": list(assets), **fields}
    text = json.dumps({"native": request} if root else request)
    return Native(request=msgspec.Raw(json.dumps(text) if is_text else text))


def required(**asset):
    return {"id": 1, "required": 1, **asset}


def image(**fields):
    return required(img=fields)


def needs(*assets):
    found = native_needs(native(*assets))
    assert not isinstance(found, str), found
    return found


def shown(*assets, parts=PARTS, clip=NO_CLIP, **fields):
    return json.loads(native_markup(native(*assets, **fields), parts, clip, SEEN, CLICK))


@pytest.mark.parametrize(
    ("asset", "mask", "icon", "main"),
    [
        (image(type=3), 2, None, (0, 65_535, 0, 65_535)),
        (image(), 2, None, (0, 65_535, 0, 65_535)),
        (image(type=1, w=64, h=64), 1, (64, 64, 64, 64), None),
        (image(type=2), 1, (0, 65_535, 0, 65_535), None),
        (image(w=64, h=64), 1, (64, 64, 64, 64), None),
        (image(w=600, h=600), 2, None, (600, 600, 600, 600)),
        (image(type=3, wmin=600, h=314), 2, None, (600, 65_535, 314, 314)),
        (image(type=3, w=180, wmin=0, h=120, hmin=0), 2, None, (0, 65_535, 0, 65_535)),
    ],
)
def test_a_required_image_is_an_icon_or_the_main_one_with_its_sizes(asset, mask, icon, main):
    found = needs(asset)
    boxes = tuple(
        zip(
            found.width_min, found.width_max, found.height_min, found.height_max, strict=True
        )
    )  # fmt: skip
    any_size = (0, 65_535, 0, 65_535)
    assert found.images_required == mask
    assert boxes == (icon or any_size, main or any_size)


def test_two_assets_for_one_part_must_both_be_met():
    found = needs(
        required(title={"len": 90}), required(title={"len": 25}),
        image(type=3, wmin=600, mimes=["image/jpeg", "image/png"]),
        image(type=3, wmin=900, mimes=["image/png", "image/gif"]),
        required(data={"type": 2, "len": 0}), {"id": 9, "data": {"type": 1, "len": 5}},
    )  # fmt: skip
    assert found.title_chars == 25
    assert found.width_min[1] == 900
    assert found.image_types[1] == 1 << 1
    assert found.data_chars[:3] == (0, 0, 65_535)
    assert found.needs_video == 0


def test_images_that_no_type_can_meet_meet_none():
    assert needs(image(mimes=["image/png"]), image(mimes=["image/gif"])).image_types[1] == 1 << 63


def test_the_request_may_be_text_an_object_or_rooted():
    for each in (native(image()), native(image(), is_text=False), native(image(), root=True)):
        assert native_needs(each).images_required == 2
    fields_of_its_own = Native(assets=[NativeAsset(required=1, img=ImageAsset())])
    assert native_needs(fields_of_its_own).images_required == 2
    assert native_needs(Native()) == "imp.native.request"
    assert native_needs(Native(request=msgspec.Raw(b'"{"'))) == "imp.native.request"


def test_the_answer_repeats_the_ids_and_leaves_out_what_does_not_fit():
    ad = shown(
        {"id": 5, "required": 1, "title": {"len": 25}},
        {"id": 7, "img": {"type": 3, "wmin": 600}},
        {"id": 8, "img": {"type": 1, "w": 50, "h": 50}},
        {"id": 9, "data": {"type": 1, "len": 25}},
        {"id": 10, "data": {"type": 4}},
        {"id": 11, "data": {"type": 12, "len": 2}},
    )
    assert ad["assets"] == [
        {"id": 5, "title": {"text": "Trail shoes"}},
        {"id": 7, "img": {"type": 3, "url": "https://shop.example/m.jpg", "w": 1200, "h": 627}},
        {"id": 9, "data": {"type": 1, "value": "Alpine"}},
    ]
    assert ad["link"] == {"url": CLICK}


@pytest.mark.parametrize(
    ("fields", "is_rooted", "version"),
    [
        ({}, False, "1.2"), ({"ver": "1.1"}, False, "1.1"), ({"ver": 1}, False, "1"),
        ({"ver": "1.0"}, True, "1.0"), ({"root": True}, True, "1.2"),
        ({"root": True, "is_text": False}, True, "1.2"),
    ],
)  # fmt: skip
def test_before_1_1_and_where_the_request_had_one_there_is_a_root(fields, is_rooted, version):
    ad = shown(required(title={"len": 25}), **fields)
    assert list(ad) == (["native"] if is_rooted else ["ver", "assets", "link", "imptrackers"])
    assert ad.get("native", ad)["ver"] == version


def test_impressions_are_tracked_as_the_request_asks():
    pixel = {"eventtrackers": [{"event": 2, "methods": [1]}, {"event": 1, "methods": [2, 1]}]}
    ad = shown(**pixel)
    assert ad["eventtrackers"] == [{"event": 1, "method": 1, "url": SEEN}]
    assert "imptrackers" not in ad
    script = {"eventtrackers": [{"event": 1, "methods": [2]}]}
    assert shown(**script)["imptrackers"] == [SEEN]


def test_a_video_is_shown_where_it_fits_or_is_required():
    fitting = {"protocols": [3], "maxduration": 15, "mimes": ["video/mp4"]}
    assert shown({"id": 4, "video": fitting}, clip=CLIP)["assets"] == [
        {"id": 4, "video": {"vasttag": "<VAST/>"}}
    ]
    for other in ({"maxduration": 14}, {"protocols": [2]}, {"mimes": ["video/webm"]},
                  {"rqddurs": [14]}):  # fmt: skip
        assert shown({"id": 4, "video": fitting | other}, clip=CLIP)["assets"] == []
    assert shown({"id": 4, "video": fitting}, clip=NO_CLIP)["assets"] == []


def test_a_request_that_names_no_asset_gets_all_there_is():
    ids = [(asset["id"], [*asset][1]) for asset in shown()["assets"]]
    assert ids == [(1, "title"), (2, "img"), (3, "img"), (4, "data"), (5, "data"), (6, "data")]


def test_words_can_form_no_macro_and_no_tag():
    parts = msgspec.structs.replace(PARTS, title="<b>${AUCTION_PRICE}{{CLICK_URL}}")
    text = native_markup(native(required(title={})), parts, NO_CLIP, SEEN, CLICK)
    assert "${" not in text
    assert "<" not in text
    assert json.loads(text)["assets"][0]["title"]["text"] == parts.title
