"""Where and to whom: each field of device, site, app and user becomes its column or list."""

from __future__ import annotations

import pytest

from bidder.codes import CodeBook
from bidder.context import age_band, dimensions_of, languages_of, lists_of
from bidder.privacy import Permission
from market.chance import code_of
from market.openrtb_decode import decode_request
from market.opportunity import CodeList, Dimension, PositionKind
from tests.bidder.requests import body_of

NOW_MS = 1_700_000_000_000
ALLOWED = Permission()
CHROME_ON_ANDROID = (
    "Mozilla/5.0 (Linux; Android 14; K) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/125.0.0.0 Mobile Safari/537.36"
)
HINTS = {
    "platform": {"brand": "Android", "version": ["13", "1"]},
    "browsers": [{"brand": "Not A;Brand"}, {"brand": "Chromium"}, {"brand": "Microsoft Edge"}],
    "model": "Pixel",
}


def request_of(**changes):
    return decode_request(body_of(**changes))


def found(dimension, permission=ALLOWED, **changes):
    codes, _ = dimensions_of(request_of(**changes), "default", NOW_MS, permission, CodeBook())
    return codes[dimension]


def place_of(permission=ALLOWED, **device):
    request = request_of(device=device)
    return dimensions_of(request, "default", NOW_MS, permission, CodeBook())[1]


def listed(which, permission=ALLOWED, **changes):
    pool = []
    first, count = lists_of(request_of(**changes), permission, CodeBook(), pool)
    return pool[first[which] : first[which] + count[which]]


def coded(*texts):
    return [code_of(text) for text in texts]


@pytest.mark.parametrize(
    ("dimension", "changes", "text"),
    [
        (Dimension.METRO, {"device": {"geo": {"metro": 501}}}, "501"),
        (Dimension.ZIP, {"device": {"geo": {"zip": "EC1A 1BB"}}}, "ec1a 1bb"),
        (Dimension.MAKE, {"device": {"make": "Apple"}}, "apple"),
        (Dimension.MODEL, {"device": {"model": "iPhone"}}, "iphone"),
        (Dimension.MODEL, {"device": {"sua": HINTS}}, "pixel"),
        (Dimension.OS, {"device": {"os": "iOS", "sua": HINTS}}, "ios"),
        (Dimension.OS, {"device": {"sua": HINTS, "ua": "iPhone OS 17_5"}}, "android"),
        (Dimension.OS, {"device": {"ua": CHROME_ON_ANDROID}}, "android"),
        (Dimension.BROWSER, {"device": {"sua": HINTS, "ua": CHROME_ON_ANDROID}}, "microsoft edge"),
        (Dimension.BROWSER, {"device": {"ua": CHROME_ON_ANDROID}}, "google chrome"),
        (Dimension.LANGUAGE, {"device": {"langb": "de-CH"}}, "de"),
        (Dimension.LANGUAGE, {"device": {"language": "fr", "langb": "de-CH"}}, "fr"),
        (Dimension.CONTENT_SERIES, {"site": {"content": {"series": "S"}}}, "s"),
        (Dimension.CONTENT_LANGUAGE, {"site": {"content": {"language": "en"}}}, "en"),
        (Dimension.CONTENT_LANGUAGE, {"site": {"content": {"langb": "pt-BR"}}}, "pt"),
        (Dimension.LIVESTREAM, {"site": {"content": {"livestream": 1}}}, "1"),
        (Dimension.LIVESTREAM, {"site": {"content": {"livestream": 0}}}, "0"),
        (Dimension.INVENTORY, {"site": None, "app": {"bundle": 123}}, "123"),
    ],
)
def test_a_field_becomes_the_code_of_its_text(dimension, changes, text):
    assert found(dimension, **changes) == code_of(text)


def test_what_is_not_said_has_no_code():
    unsaid = {
        Dimension.METRO, Dimension.ZIP, Dimension.MAKE, Dimension.OS, Dimension.BROWSER,
        Dimension.LIVESTREAM, Dimension.CONTENT_SERIES,
    }  # fmt: skip
    assert not any(found(dimension, device={"ua": "curl"}) for dimension in unsaid)
    assert found(Dimension.LIVESTREAM, site={"content": {}}) == 0


def test_what_privacy_forbids_is_left_out():
    geo = {"country": "DEU", "city": "Berlin", "zip": "10115", "lat": 52.5, "lon": 13.4}
    no_place = Permission(precise_geo="device.lmt")
    assert found(Dimension.ZIP, no_place, device={"geo": geo}) == 0
    assert found(Dimension.CITY, no_place, device={"geo": geo}) == 0
    assert found(Dimension.COUNTRY, no_place, device={"geo": geo}) == code_of("deu")
    assert place_of(no_place, geo=geo).position_kind == PositionKind.NONE
    assert place_of(geo=geo).position_kind == PositionKind.DEVICE
    user = {"keywords": "tea", "eids": [{"source": "id.example"}], "gender": "F"}
    assert listed(CodeList.USER_KEYWORD, Permission(segments="x"), user=user) == []
    assert listed(CodeList.EID_SOURCE, Permission(eids="x"), user=user) == []
    assert listed(CodeList.EID_SOURCE, Permission(segments="x"), user=user) == coded("id.example")
    assert found(Dimension.GENDER, Permission(demographics="x"), user=user) == 0


@pytest.mark.parametrize(
    ("device", "version"),
    [
        ({"os": "iOS", "osv": "17.5.1"}, (17, 5, 1)),
        ({"os": "iOS", "osv": 17}, (17, 0, 0)),
        ({"os": "Windows", "osv": "XP"}, (0, 0, 0)),
        ({"sua": HINTS}, (13, 1, 0)),
        ({"sua": HINTS, "osv": "14"}, (14, 0, 0)),
        ({"os": "Tizen", "sua": HINTS}, (0, 0, 0)),
        ({"ua": CHROME_ON_ANDROID}, (14, 0, 0)),
        ({"os": "android", "ua": CHROME_ON_ANDROID}, (14, 0, 0)),
        ({"os": "iOS", "ua": CHROME_ON_ANDROID}, (0, 0, 0)),
    ],
)
def test_a_version_is_of_the_system_that_the_request_names(device, version):
    major, minor, patch = version
    assert place_of(**device).os_version == major << 32 | minor << 16 | patch


@pytest.mark.parametrize(
    ("geo", "expected"),
    [
        (
            {"lat": 52.5200066, "lon": -13.405, "accuracy": 20, "type": 1},
            (52_520_007, -13_405_000, 20, 1),
        ),
        ({"lat": 1, "lon": 2, "type": 2}, (1_000_000, 2_000_000, 0, 2)),
        ({"lat": 1, "lon": 2, "type": 3}, (1_000_000, 2_000_000, 0, 1)),
        ({"lat": 1, "lon": 2}, (1_000_000, 2_000_000, 0, 1)),
        ({"lat": 1, "lon": 2, "ipservice": 3}, (1_000_000, 2_000_000, 0, 2)),
        ({"lat": 1, "lon": 2, "accuracy": -5}, (1_000_000, 2_000_000, 0, 1)),
        ({"lat": 0, "lon": 0, "type": 1}, (0, 0, 0, 0)),
        ({"lat": 123.4, "lon": 6}, (0, 0, 0, 0)),
        ({"lat": 1}, (0, 0, 0, 0)),
    ],
)  # fmt: skip
def test_a_position_has_a_kind_and_an_accuracy(geo, expected):
    place = place_of(geo=geo)
    assert place[1:] == expected


def test_lists_of_site_and_user_are_read_from_all_their_places():
    site = {
        "domain": "www.Sport.news.example", "cat": ["IAB17"], "sectioncat": ["IAB17-1"],
        "pagecat": ["IAB17-2"], "keywords": "a", "kwarray": ["b", "c d"],
        "content": {"cat": ["483"], "cattax": 6, "kwarray": ["e"]},
    }  # fmt: skip
    assert listed(CodeList.SITE, site=site) == coded("sport.news.example", "news.example")
    assert listed(CodeList.CATEGORY, site=site) == coded("IAB17", "IAB17-1", "IAB17-2", "6:483")
    assert listed(CodeList.KEYWORD, site=site) == coded("a", "b", "c d", "e")
    user = {"keywords": "x, y", "kwarray": ["z"], "ext": {"eids": [{"source": "old.example"}]}}
    assert listed(CodeList.USER_KEYWORD, user=user) == coded("x", "y", "z")
    assert listed(CodeList.EID_SOURCE, user=user) == coded("old.example")
    app = {"bundle": "com.game", "domain": "maker.example"}
    assert listed(CodeList.SITE, site=None, app=app) == coded("com.game")


def test_languages_are_none_two_letter_texts_or_the_first_part_of_tags():
    assert languages_of(request_of()) == ()
    assert languages_of(request_of(wlang=["EN", "", 7])) == ("en", "7")
    assert languages_of(request_of(wlangb=["en_US", "en-GB"])) == ("en",)


def test_long_texts_are_read_and_not_remembered():
    codes = CodeBook()
    long = "a." * 100_000
    request = request_of(
        site={"domain": long, "keywords": long},
        device={"ua": long + CHROME_ON_ANDROID, "make": long},
    )
    found, place = dimensions_of(request, "default", NOW_MS, ALLOWED, codes)
    lists_of(request, ALLOWED, codes, [])
    assert found[Dimension.MAKE] == code_of(long)
    assert place.os_version == 0
    assert max(map(len, codes)) <= 256


def test_ages_are_decades_in_the_year_of_arrival():
    assert age_band(NOW_MS, 1993) == "30"
    assert age_band(NOW_MS, 1994) == "20"
