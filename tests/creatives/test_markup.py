import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import msgspec
import pytest

from creatives.brief import Brief
from creatives.geometry import Size
from creatives.markup import (
    CLICK_URL_TOKEN,
    IMPRESSION_URL_TOKEN,
    MediaFile,
    Medium,
    NativeKind,
    NativeSlot,
    Spot,
    VastVersion,
    banner_template,
    native_template,
    vast_template,
)
from market.errors import BadInput

IMAGE = "https://cdn.example/assets/" + "a" * 64
SIZE = Size(300, 250)
SEEN = "https://bid.example/n/impression/Zm9v_-=?p=${AUCTION_PRICE}&m=42"
CLICKED = "https://bid.example/n/click/Zm9v_-=?b=1f&m=42&x=a'b(c)$d"
HOSTILE = [
    "<script>alert(1)</script>",
    '" onload="alert(1)" x=\'',
    "]]></AdTitle><Impression><![CDATA[https://evil.example/]]>",
    "</a><img src=x onerror=alert(1)>",
    "&lt;already&amp;escaped",
    "{{CLICK_URL}} {{IMPRESSION_URL}}",
    "${AUCTION_PRICE} ${AUCTION_ID:B64}",
    "back\\slash \\u003cscript\\u003e",
    "\u96e8 \U0001f45f \u202e",
]
VIDEO = Spot(
    medium=Medium.VIDEO,
    duration_ms=3_723_045,
    media_files=(
        MediaFile("https://cdn.example/a.mp4?x=1&y=2", "video/mp4", 1280, 720, 1800),
        MediaFile("https://cdn.example/a.m3u8", "video/mp2t", 640, 360, 600, is_streaming=True),
    ),
    skip_after_ms=5_000,
)
AUDIO = Spot(
    medium=Medium.AUDIO,
    duration_ms=15_000,
    media_files=(MediaFile("https://cdn.example/a.mp3", "audio/mpeg", 0, 0, 128),),
)


def hostile(brief: Brief, text: str) -> Brief:
    product = msgspec.structs.replace(brief.product, name=text, brand=text)
    return msgspec.structs.replace(
        brief, product=product, headline=text, body=text, call_to_action=text
    )


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def replaced(template: str) -> str:
    """What a bidder does for every bid."""
    return template.replace(IMPRESSION_URL_TOKEN, SEEN).replace(CLICK_URL_TOKEN, CLICKED)


def inline(text: str) -> ET.Element:
    root = ET.fromstring(text)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    found = root.find("Ad/InLine")
    assert found is not None
    return found


def names(element: ET.Element | None) -> list[str]:
    assert element is not None
    return [child.tag for child in element]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_cannot_leave_a_banners_attribute(brief, text):
    made = Tags(banner_template(hostile(brief, text), IMAGE, SIZE))
    assert [tag for tag, _ in made.tags] == ["a", "img", "img"]
    assert made.text == []
    (_, link), (_, picture), (_, pixel) = made.tags
    assert set(link) == {"href", "target", "rel"}
    assert set(picture) == {"src", "width", "height", "alt", "style"}
    assert picture["alt"] == f"{text}: {text}"
    assert pixel["src"] == IMPRESSION_URL_TOKEN


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_can_form_no_token_and_no_macro(brief, text):
    bad = hostile(brief, text)
    plain = hostile(brief, "plain words")
    for make in (
        lambda one: banner_template(one, IMAGE, SIZE),
        lambda one: native_template(one, IMAGE, SIZE),
        lambda one: vast_template(one, "k1", VIDEO, VastVersion.VAST_3_0),
        lambda one: vast_template(one, "k1", VIDEO, VastVersion.VAST_4_2),
    ):
        template = make(bad)
        assert template.count(IMPRESSION_URL_TOKEN) == 1
        assert template.count(CLICK_URL_TOKEN) == 1
        assert template.count("{{") == 2
        assert template.count("${") == make(plain).count("${")


def test_the_only_macros_of_a_template_make_vast_4_2s_serving_id(brief):
    four = vast_template(brief, "k1", VIDEO, VastVersion.VAST_4_2)
    assert inline(four).findtext("AdServingId") == "${AUCTION_BID_ID}-${AUCTION_IMP_ID}"
    assert four.count("${") == 2
    for template in (
        banner_template(brief, IMAGE, SIZE),
        native_template(brief, IMAGE, SIZE),
        vast_template(brief, "k1", VIDEO, VastVersion.VAST_3_0),
    ):
        assert "${" not in template


def test_a_finished_banner_leads_through_the_click_notice_and_notes_the_impression(brief):
    (_, link), (_, picture), (_, pixel) = Tags(replaced(banner_template(brief, IMAGE, SIZE))).tags
    assert link["href"] == CLICKED
    assert picture["src"] == IMAGE
    assert (picture["width"], picture["height"]) == ("300", "250")
    assert pixel["src"] == SEEN


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("version", VastVersion)
@pytest.mark.parametrize("spot", [VIDEO, AUDIO], ids=["video", "audio"])
def test_vast_is_well_formed_and_carries_any_text_unchanged(brief, text, version, spot):
    ad = inline(replaced(vast_template(hostile(brief, text), "k1", spot, version)))
    assert ad.findtext("AdTitle") == text
    assert ad.findtext("Advertiser") == text
    assert ad.findtext("Impression") == SEEN
    linear = ad.find("Creatives/Creative/Linear")
    assert linear is not None
    assert linear.findtext("VideoClicks/ClickThrough") == CLICKED
    files = linear.findall("MediaFiles/MediaFile")
    assert [file.text for file in files] == [file.url for file in spot.media_files]


def test_vast_3_has_its_elements_in_the_order_of_its_schema(brief):
    ad = inline(vast_template(brief, "k1", VIDEO, VastVersion.VAST_3_0))
    assert names(ad) == ["AdSystem", "AdTitle", "Advertiser", "Impression", "Creatives"]
    linear = ad.find("Creatives/Creative/Linear")
    assert names(linear) == ["Duration", "VideoClicks", "MediaFiles"]
    assert names(ad.find("Creatives/Creative")) == ["Linear"]


def test_vast_4_2_has_its_elements_in_the_order_of_its_schema(brief):
    text = vast_template(brief, "k1", VIDEO, VastVersion.VAST_4_2)
    ad = inline(text)
    assert names(ad) == [
        "AdSystem",
        "Impression",
        "AdServingId",
        "AdTitle",
        "Advertiser",
        "Creatives",
    ]
    assert names(ad.find("Creatives/Creative")) == ["Linear", "UniversalAdId"]
    linear = ad.find("Creatives/Creative/Linear")
    assert names(linear) == ["Duration", "MediaFiles", "VideoClicks"]
    root = ET.fromstring(text)
    assert root.tag == "{http://www.iab.com/VAST}VAST"
    assert root[0].attrib == {"id": "k1", "adType": "video"}


def test_vast_times_are_spelled_as_clocks(brief):
    ad = inline(vast_template(brief, "k1", VIDEO, VastVersion.VAST_3_0))
    linear = ad.find("Creatives/Creative/Linear")
    assert linear is not None
    assert linear.findtext("Duration") == "01:02:03.045"
    assert linear.get("skipoffset") == "00:00:05.000"
    other = inline(vast_template(brief, "k1", AUDIO, VastVersion.VAST_4_2))
    unskippable = other.find("Creatives/Creative/Linear")
    assert unskippable is not None
    assert unskippable.get("skipoffset") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"duration_ms": 0},
        {"media_files": ()},
        {"skip_after_ms": 4_000_000},
        {"medium": Medium.AUDIO},
        {"media_files": (MediaFile("https://cdn.example/a.mp4", "video/mp4", 0, 0, 800),)},
    ],
)
def test_a_spot_that_contradicts_itself_is_refused(changes):
    with pytest.raises(BadInput):
        msgspec.structs.replace(VIDEO, **changes)


def test_a_media_file_with_a_url_that_could_close_cdata_is_refused():
    with pytest.raises(BadInput, match=r"media_file\.url"):
        MediaFile("https://cdn.example/]]>", "video/mp4", 640, 360, 800)


@pytest.mark.parametrize("text", HOSTILE)
def test_native_is_valid_json_and_carries_any_text_unchanged(brief, text):
    template = native_template(hostile(brief, text), IMAGE, SIZE)
    assert "<" not in template
    native = json.loads(replaced(template))
    assets = {asset["id"]: asset for asset in native["assets"]}
    assert assets[1]["title"] == {"text": text}
    assert assets[2]["img"] == {"type": 3, "url": IMAGE, "w": 300, "h": 250}
    assert assets[3]["data"] == {"type": 1, "value": text}
    assert assets[4]["data"] == {"type": 2, "value": text}
    assert assets[5]["data"] == {"type": 12, "value": text}


def test_native_follows_version_1_2(brief):
    native = json.loads(replaced(native_template(brief, IMAGE, SIZE)))
    assert set(native) == {"ver", "assets", "link", "eventtrackers"}
    assert native["ver"] == "1.2"
    assert native["link"] == {"url": CLICKED}
    assert native["eventtrackers"] == [{"event": 1, "method": 1, "url": SEEN}]
    for asset in native["assets"]:
        assert len(set(asset) & {"title", "img", "video", "data"}) == 1


def test_native_answers_with_the_ids_of_the_request(brief):
    slots = (NativeSlot(77, NativeKind.PRICE), NativeSlot(5, NativeKind.TITLE, 90))
    native = json.loads(native_template(brief, IMAGE, SIZE, slots))
    assert native["assets"] == [
        {"id": 77, "data": {"type": 6, "value": "$89"}},
        {"id": 5, "title": {"text": brief.headline}},
    ]


def test_a_native_text_longer_than_its_slot_is_refused(brief):
    with pytest.raises(BadInput, match="has 34 characters; slot 1 takes at most 25"):
        native_template(brief, IMAGE, SIZE, (NativeSlot(1, NativeKind.TITLE, 25),))


def test_native_slots_with_one_id_twice_or_a_price_that_is_not_shown_are_refused(brief):
    twice = (NativeSlot(1, NativeKind.TITLE), NativeSlot(1, NativeKind.SPONSORED))
    with pytest.raises(BadInput, match="used once"):
        native_template(brief, IMAGE, SIZE, twice)
    free = msgspec.structs.replace(
        brief, product=msgspec.structs.replace(brief.product, price_micros=0)
    )
    with pytest.raises(BadInput, match="price_micros is 0"):
        native_template(free, IMAGE, SIZE, (NativeSlot(1, NativeKind.PRICE),))
