"""VAST by version: what each asks for is there, in its order, and no text can break out."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import msgspec
import pytest

from market.creative import Creative, NativeImage
from market.vast import CLICK_URL_TOKEN, IMPRESSION_URL_TOKEN, VAST_VERSIONS, Wording, vast_document

VIDEO = Creative(
    creative_id=7, format="video", width=640, height=360, duration_ms=15_500, protocol=3,
    media_type="video/mp4", media_url="https://shop.example/v.mp4?a=1&b=2", bitrate_kbps=800,
    landing_url="https://shop.example/", attributes=(16,), skip_after_ms=5_000,
)  # fmt: skip
WORDING = Wording("Tea & <cake> {{CLICK_URL}} ${AUCTION_PRICE}", "shop.example")


def document(protocol, **changes):
    creative = msgspec.structs.replace(VIDEO, **changes)
    return parsed(vast_document(creative, WORDING, protocol))


def parsed(text):
    """The document without the name space that VAST 4 has and VAST 3 has not."""
    return ET.fromstring(text.replace(' xmlns="http://www.iab.com/VAST"', ""))


@pytest.mark.parametrize(("protocol", "version"), VAST_VERSIONS.items())
def test_every_version_is_an_in_line_ad_with_one_file_and_both_tokens(protocol, version):
    root = document(protocol)
    assert root.get("version") == version
    ad = root.find("Ad/InLine")
    assert ad.findtext("Impression") == IMPRESSION_URL_TOKEN
    linear = ad.find("Creatives/Creative/Linear")
    assert linear.findtext("VideoClicks/ClickThrough") == CLICK_URL_TOKEN
    (file,) = linear.findall("MediaFiles/MediaFile")
    assert file.text == VIDEO.media_url
    assert (file.get("type"), file.get("delivery")) == ("video/mp4", "progressive")
    assert (file.get("width"), file.get("height"), file.get("bitrate")) == ("640", "360", "800")


@pytest.mark.parametrize(
    ("protocol", "has"),
    [
        (2, set()), (3, {"skip", "advertiser"}),
        (7, {"skip", "advertiser", "universal", "value"}),
        (11, {"skip", "advertiser", "universal", "serving", "kind"}),
        (13, {"skip", "advertiser", "universal", "serving", "kind"}),
        (15, {"skip", "advertiser", "universal", "serving", "kind"}),
    ],
)  # fmt: skip
def test_a_version_has_what_its_schema_knows_and_nothing_else(protocol, has):
    root = document(protocol)
    universal = root.find(".//UniversalAdId")
    found = {
        "skip": root.find(".//Linear").get("skipoffset") is not None,
        "advertiser": root.find(".//Advertiser") is not None,
        "universal": universal is not None,
        "value": universal is not None and universal.get("idValue") is not None,
        "serving": root.find(".//AdServingId") is not None,
        "kind": root.find("Ad").get("adType") is not None,
    }
    assert {name for name, is_there in found.items() if is_there} == has


@pytest.mark.parametrize("protocol", VAST_VERSIONS)
def test_the_name_space_came_with_vast_4(protocol):
    root = ET.fromstring(vast_document(VIDEO, WORDING, protocol))
    assert root.tag == ("{http://www.iab.com/VAST}VAST" if protocol >= 7 else "VAST")


def test_times_have_milliseconds_from_vast_3_on():
    assert document(2).findtext(".//Duration") == "00:00:15"
    assert document(3).findtext(".//Duration") == "00:00:15.500"
    assert document(3).find(".//Linear").get("skipoffset") == "00:00:05.000"
    assert document(13, duration_ms=3_723_004).findtext(".//Duration") == "01:02:03.004"


def test_words_can_form_neither_a_token_nor_a_macro_and_read_as_they_were():
    text = vast_document(VIDEO, WORDING, 13)
    assert text.count("{{CLICK_URL}}") == 1
    assert "${AUCTION_PRICE}" not in text
    assert parsed(text).findtext(".//AdTitle") == WORDING.title


def test_an_address_can_not_end_its_section():
    url = "https://shop.example/a]]>b"
    found = document(13, media_url=url).find(".//MediaFile").text
    assert found == "https://shop.example/a]]%3Eb"


@pytest.mark.parametrize("protocol", VAST_VERSIONS)
def test_images_beside_the_video_have_a_creative_and_the_click_of_their_own(protocol):
    image = NativeImage(url="https://shop.example/c.png?a&b", width=300, height=250)
    root = document(protocol, companions=(image,))
    (companion,) = root.findall(".//CompanionAds/Companion")
    assert (companion.get("width"), companion.get("height")) == ("300", "250")
    assert companion.find("StaticResource").text == image.url
    assert companion.find("StaticResource").get("creativeType") == "image/jpeg"
    assert companion.findtext("CompanionClickThrough") == CLICK_URL_TOKEN
    ids = [creative.get("id") for creative in root.iter("Creative")]
    assert ids == ["7", "7-beside"]
    assert len(root.findall(".//UniversalAdId")) == (2 if protocol >= 7 else 0)


def test_what_is_not_known_is_left_out_and_audio_has_no_size():
    root = document(
        13, bitrate_kbps=0, media_type="audio/mp4", width=0, height=0, delivery=1, attributes=(),
        skip_after_ms=0,
    )  # fmt: skip
    file = root.find(".//MediaFile")
    assert file.get("bitrate") is None
    assert (file.get("width"), file.get("delivery")) == ("0", "streaming")
    assert root.find(".//Linear").get("skipoffset") is None
    assert root.find("Ad").get("adType") == "audio"
