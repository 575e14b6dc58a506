"""The slot: what every format of an imp may be, column by column, and what makes it unusable."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.edge import Edge
from bidder.slot import NO_REST, REST, block_struct, slot_of
from market.exchange import DEFAULT_EXCHANGES
from market.openrtb import (
    Audio,
    Banner,
    BidRequest,
    Imp,
    Native,
    NativeAsset,
    NativeData,
    NativeImage,
    NativeTitle,
    Video,
)
from market.openrtb import Format as Size
from market.openrtb_decode import decode_request
from market.opportunity import OPPORTUNITY_DTYPE, Format
from tests.bidder.requests import body_of

COLUMNS = OPPORTUNITY_DTYPE.names
SPECIAL = COLUMNS[COLUMNS.index(REST[0]) : COLUMNS.index(REST[1])]
PLAIN = ("sizes", "size_count", "duration_ms_min", "duration_ms_max", "attributes_blocked",
         "protocols", "media_types", "formats", "quantity_micros")  # fmt: skip


def slot(**imp):
    return slot_of(decode_request(body_of(imp)).imp[0])


def column(imp, name):
    """A column as the record holds it: from the slot, or from the bytes of its rest."""
    found = slot(**imp)
    assert not isinstance(found, str), found
    if name in PLAIN:
        return np.asarray(getattr(found, name)).tolist()
    record = np.zeros(1, OPPORTUNITY_DTYPE)
    at = OPPORTUNITY_DTYPE.fields[REST[0]][1]
    record.view(np.uint8)[at : at + len(found.rest)] = np.frombuffer(found.rest, np.uint8)
    return record[name][0].tolist()


def video(**fields):
    return {"banner": None, "video": fields}


def banner(**fields):
    return {"banner": {"w": 300, "h": 250, **fields}}


def native(*assets, **fields):
    request = json.dumps({"ver": "1.2", "assets": assets})
    return {"banner": None, "native": {"request": request, **fields}}


def required(**asset):
    return {"id": 1, "required": 1, **asset}


BY_FORMAT = [0, 0, 0, 0]
BY_PLAYED = [0, 0, 0]


def at(place, value, zeros):
    return [*zeros[:place], value, *zeros[place + 1 :]]


@pytest.mark.parametrize(
    ("imp", "name", "expected"),
    [
        (banner(battr=[3, "8", 99]), "attributes_blocked", at(0, 1 << 3 | 1 << 8, BY_FORMAT)),
        (banner(mimes=["image/jpg"]), "media_types", at(0, 1, BY_FORMAT)),
        (banner(mimes=["x/y"]), "media_types", at(0, 1 << 63, BY_FORMAT)),
        (banner(api=[3, 7]), "apis", at(0, 1 << 3 | 1 << 7, BY_FORMAT)),
        (banner(btype=[1, 4]), "banner_types_blocked", 1 << 1 | 1 << 4),
        (banner(expdir=[2, 4]), "expand_directions", 1 << 2 | 1 << 4),
        (banner(expdir=[2], topframe=0), "expand_directions", 0),
        (banner(expdir=[2], topframe=0, api=[5]), "expand_directions", 1 << 2),
        (
            {"banner": {"format": [{"wratio": 6, "hratio": 5, "wmin": 300}, {"w": 1, "h": 2}]}},
            "ratios",
            [6 << 16 | 5, 0, 0, 0],
        ),
        (
            {"banner": {"format": [{"wratio": 6, "hratio": 5, "wmin": 300}]}},
            "ratio_widths_min",
            [300, 0, 0, 0],
        ),
        (video(protocols=[2, 7]), "protocols", at(0, 1 << 2 | 1 << 7, BY_PLAYED)),
        (video(maxduration=30), "duration_ms_max", at(0, 30_000, BY_PLAYED)),
        (video(battr=[1]), "attributes_blocked", at(1, 1 << 1, BY_FORMAT)),
        (video(skip=0), "attributes_blocked", at(1, 1 << 16, BY_FORMAT)),
        (video(skip=1, skipmin=16, skipafter=5), "skippable_ms_min", 16_000),
        (video(skip=1, skipmin=16, skipafter=5), "skip_after_ms_min", 5_000),
        (video(linearity=2), "linearity", 2),
        (video(linearity=7), "linearity", 0),
        (video(boxingallowed=0, w=640, h=360), "player_size", 640 << 16 | 360),
        (video(boxingallowed=1, w=640, h=360), "player_size", 0),
        (video(boxingallowed=0), "player_size", 0),
        (video(minbitrate=300, maxbitrate=1500), "bitrate_kbps_min", at(0, 300, BY_PLAYED)),
        (video(minbitrate=300, maxbitrate=1500), "bitrate_kbps_max", at(0, 1500, BY_PLAYED)),
        (video(delivery=[2]), "deliveries", at(0, 1 << 2, BY_PLAYED)),
        (video(rqddurs=[15, 30]), "durations_ms", [15_000, 30_000, *[0] * 22]),
        (
            {"banner": None, "audio": {"rqddurs": [15], "maxduration": 9}},
            "durations_ms",
            [*[0] * 8, 15_000, *[0] * 15],
        ),
        ({"banner": None, "audio": {"api": [7]}}, "apis", at(2, 1 << 7, BY_FORMAT)),
        ({"banner": None, "audio": {"battr": [9]}}, "attributes_blocked", at(2, 1 << 9, BY_FORMAT)),
        (native(battr=[9]), "attributes_blocked", at(3, 1 << 9, BY_FORMAT)),
        (native(api=[3]), "apis", at(3, 1 << 3, BY_FORMAT)),
        (native(required(title={"len": 25})), "native_title_chars", 25),
        (native(required(title={})), "native_title_chars", 65_535),
        (native({"id": 1, "title": {"len": 25}}), "native_title_chars", 0),
        (native(required(video={"protocols": [3]})), "native_needs_video", 1),
        (native(required(video={"protocols": [3]})), "protocols", at(2, 1 << 3, BY_PLAYED)),
    ],
)  # fmt: skip
def test_a_field_of_a_format_becomes_its_column(imp, name, expected):
    assert column(imp, name) == expected


def test_formats_do_not_speak_for_each_other():
    imp = {
        "banner": {"w": 300, "h": 250, "mimes": ["text/html"], "battr": [3]},
        "native": {"request": "{}", "battr": [9]},
        "video": {"minduration": 5, "maxduration": 20, "protocols": [2, 3], "battr": [1]},
        "audio": {
            "minduration": 10, "maxduration": 60, "protocols": [3, 9], "mimes": ["audio/mp3"],
        },
    }  # fmt: skip
    assert column(imp, "formats") == 15
    assert column(imp, "duration_ms_min") == [5_000, 10_000, 0]
    assert column(imp, "duration_ms_max") == [20_000, 60_000, 0]
    assert column(imp, "protocols") == [1 << 2 | 1 << 3, 1 << 3 | 1 << 9, 0]
    assert column(imp, "attributes_blocked") == [1 << 3, 1 << 1, 0, 1 << 9]
    html, mpeg = 1 << 4, 1 << 10
    assert column(imp, "media_types") == [html, 0, mpeg, 0]


def test_a_plain_banner_or_video_has_no_special_column():
    assert slot(banner={"w": 300, "h": 250, "pos": 1, "battr": [3]}).rest is NO_REST
    assert slot(**video(protocols=[3], maxduration=30, mimes=["video/mp4"])).rest is NO_REST
    assert slot(**video(linearity=1)).rest is not NO_REST
    assert not any(NO_REST)
    assert len(NO_REST) == block_struct(*REST).size


@pytest.mark.parametrize(
    ("imp", "field"),
    [
        ({"banner": None}, "imp.banner"),
        ({"banner": {"format": [{"wratio": 6}]}}, "imp.banner.format"),
        (video(minduration=30, maxduration=15), "imp.video.minduration"),
        (video(rqddurs=[0]), "imp.video.rqddurs"),
        (video(minduration=31, poddur=30), "imp.video.poddur"),
        (video(minbitrate=9, maxbitrate=8), "imp.video.minbitrate"),
        ({"banner": None, "audio": {"rqddurs": [-1]}}, "imp.audio.rqddurs"),
        ({"banner": None, "native": {"request": "no json"}}, "imp.native.request"),
        ({"banner": None, "native": {}}, "imp.native.request"),
        (native(required(data={"type": 501})), "imp.native.request.assets.data.type"),
        (native(required(img={"type": 500})), "imp.native.request.assets.img"),
        (
            native(required(video={"rqddurs": [-1]})),
            "imp.native.request.assets.video.rqddurs",
        ),
    ],
)
def test_an_imp_that_offers_nothing_names_the_field(imp, field):
    assert slot(**imp) == field


def test_a_format_that_cannot_be_used_leaves_the_others():
    broken = {"minduration": 30, "maxduration": 15}
    assert slot(banner={"w": 1, "h": 2}, video=broken).formats == Format.BANNER
    assert slot(banner={"w": 0}, video={}).formats == Format.VIDEO


def test_the_sellers_word_on_time_to_the_impression_is_kept():
    assert slot(exp=120).exp_ms == 120_000
    assert slot(exp=-3).exp_ms == 0
    assert slot(exp=2**60).exp_ms == 10**12


EXTREMES = st.sampled_from((None, -(2**63), -1, 0, 1, 65_535, 65_536, 2**31, 2**32, 2**63 - 1))
LISTS = st.none() | st.lists(EXTREMES.filter(lambda n: n is not None), max_size=9)


def objects(kind, **rest):
    """Any object of a type whose numbers and lists of numbers are extreme."""
    drawn = {}
    for field in msgspec.structs.fields(kind):
        hint = str(field.type)
        if hint.startswith("list[") and "Annotated[int" in hint:
            drawn[field.name] = LISTS
        elif hint.startswith("typing.Optional[typing.Annotated[int"):
            drawn[field.name] = EXTREMES
    return st.builds(kind, **{**drawn, **rest})


VIDEOS = objects(Video, companionad=st.none(), durfloors=st.none(), mimes=st.none())
ASSETS = st.builds(
    NativeAsset, required=st.just(1), id=EXTREMES,
    title=st.none() | objects(NativeTitle), img=st.none() | objects(NativeImage, mimes=st.none()),
    data=st.none() | objects(NativeData), video=st.none() | VIDEOS,
)  # fmt: skip


@given(
    objects(Banner, format=st.none() | st.lists(objects(Size), max_size=20), mimes=st.none()),
    VIDEOS, objects(Audio, companionad=st.none(), durfloors=st.none(), mimes=st.none()),
    st.builds(Native, assets=st.none() | st.lists(ASSETS, max_size=6), api=LISTS, battr=LISTS),
    EXTREMES,
)  # fmt: skip
def test_no_number_is_too_large_for_its_column(banner, video, audio, native, exp):
    offered = Imp(id="1", banner=banner, video=video, audio=audio, native=native, exp=exp)
    found = slot_of(offered)
    assert not isinstance(found, str) or found.startswith("imp.")
    request = BidRequest(id="r", imp=[offered])
    offer = Edge(b"salt").read(request, DEFAULT_EXCHANGES[0], 1_700_000_000_000)
    assert len(offer.refusals) == isinstance(found, str)
