"""Creatives: the rules of each kind, told by field, and what is read off the markup."""

from __future__ import annotations

import msgspec
import pytest

from market.creative import (
    DATA_FIELDS,
    Creative,
    NativeImage,
    NativeParts,
    banner_type_of,
    faults_of,
)

BANNER = Creative(width=300, height=250, adm="<img>", landing_url="https://shop.example/")
VIDEO = Creative(
    format="video", width=640, height=360, duration_ms=15_000, protocol=3, media_type="video/mp4",
    media_url="https://shop.example/v.mp4", landing_url="https://shop.example/",
)  # fmt: skip
ICON = NativeImage(url="https://shop.example/i.png", width=64, height=64, media_type="image/png")
NATIVE = Creative(
    format="native", landing_url="https://shop.example/",
    native=NativeParts(title="Shoes", sponsored="Alpine", icon=ICON),
)  # fmt: skip


def fields(creative, **changes):
    return [fault.field for fault in faults_of(msgspec.structs.replace(creative, **changes))]


def parts(**changes):
    return {"native": msgspec.structs.replace(NATIVE.native, **changes)}


def icon(**changes):
    return parts(icon=msgspec.structs.replace(ICON, **changes))


@pytest.mark.parametrize("creative", [BANNER, VIDEO, NATIVE])
def test_a_sound_creative_has_no_fault(creative):
    assert fields(creative) == []


@pytest.mark.parametrize(
    ("creative", "changes", "field"),
    [
        (BANNER, {"banner_type": 5}, "banner_type"),
        (BANNER, {"apis": (0,)}, "apis"),
        (BANNER, {"attributes": (3,)}, "expand_directions"),
        (BANNER, {"expand_directions": (1,)}, "expand_directions"),
        (BANNER, {"attributes": (4,), "expand_directions": (7,)}, "expand_directions"),
        (BANNER, {"adm": "", "media_url": "https://shop.example/v", "duration_ms": 1}, "media_url"),
        (VIDEO, {"media_url": "ftp://shop.example/v"}, "media_url"),
        (VIDEO, {"media_url": "http://shop.example/v"}, "media_url"),
        (VIDEO, {"adm": "<VAST/>"}, "media_url"),
        (VIDEO, {"bitrate_kbps": -1}, "bitrate_kbps"),
        (VIDEO, {"delivery": 0}, "delivery"),
        (VIDEO, {"linearity": 3}, "linearity"),
        (VIDEO, {"skip_after_ms": 5_000}, "skip_after_ms"),
        (VIDEO, {"skip_after_ms": 15_001, "attributes": (16,)}, "skip_after_ms"),
        (VIDEO, {"duration_ms": 0}, "duration_ms"),
        (BANNER, {"companions": (ICON,)}, "companions"),
        (VIDEO, {"companions": (NativeImage(url="x", width=1, height=1),)}, "companions/0/url"),
        (NATIVE, {"adm": "{}"}, "native"),
        (NATIVE, {"format": "audio", "duration_ms": 9, "protocol": 3}, "native"),
        (NATIVE, {"media_url": "https://shop.example/v"}, "duration_ms"),
        (NATIVE, parts(title=" "), "native/title"),
        (NATIVE, parts(description="x" * 1_001), "native/description"),
        (NATIVE, icon(url="//shop.example/i"), "native/icon/url"),
        (NATIVE, icon(url="http://shop.example/i"), "native/icon/url"),
        (NATIVE, icon(width=0), "native/icon/width"),
        (NATIVE, icon(media_type="image/bmp"), "native/icon/media_type"),
    ],
)
def test_a_broken_rule_names_its_field(creative, changes, field):
    assert fields(creative, **changes) == [field]


def test_what_is_not_secure_may_be_plain_http():
    url = "http://shop.example/v"
    assert fields(VIDEO, media_url=url, is_secure=False) == []
    assert fields(NATIVE, is_secure=False, **icon(url=url)) == []


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"adm": "Buy shoes"}, 1),
        ({"adm": '<a><IMG src="x"></a>'}, 2),
        ({"adm": "<script></script><img>"}, 3),
        ({"adm": "<script></script><iframe></iframe>"}, 4),
        ({"adm": ""}, 2),
        ({"adm": "<iframe>", "banner_type": 3}, 3),
    ],
)
def test_a_banners_type_is_as_said_or_as_its_markup_shows(changes, kind):
    assert banner_type_of(msgspec.structs.replace(BANNER, **changes)) == kind


def test_data_assets_have_their_numbers_of_the_native_specification():
    numbered = {DATA_FIELDS[1]: "sponsored", DATA_FIELDS[2]: "description", DATA_FIELDS[12]: "call"}
    assert all(field.startswith(name) for field, name in numbered.items())
    assert NATIVE.native.data(1) == "Alpine"
    assert [NATIVE.native.data(kind) for kind in (0, 2, 13, 500, -1)] == [""] * 5
    assert set(DATA_FIELDS[1:]) <= set(NativeParts.__struct_fields__)
