from typing import Any

import msgspec
import pytest

from creatives.brief import TEXT_LENGTH_MAX, Brief, checked_url
from market.errors import BadInput


def with_changes(brief: Brief, changes: dict[str, Any]) -> Brief:
    return msgspec.structs.replace(brief, **changes)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"headline": "  "}, "/headline"),
        ({"headline": "x" * (TEXT_LENGTH_MAX + 1)}, "/headline"),
        ({"body": "two\nlines"}, "/body"),
        ({"body": "zero\x00"}, "/body"),
        ({"body": "lone \ud800 surrogate"}, "/body"),
        ({"body": "noncharacter \uffff"}, "/body"),
        ({"call_to_action": ""}, "/call_to_action"),
        ({"locale": "english"}, "/locale"),
        ({"brand_colour": "#FFF"}, "/brand_colour"),
    ],
)
def test_a_brief_that_breaks_a_rule_is_refused_with_the_field(brief, changes, pointer):
    with pytest.raises(BadInput) as caught:
        with_changes(brief, changes)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": ""}, "/product/name"),
        ({"price_micros": -1}, "/product/price_micros"),
        ({"currency": "usd"}, "/product/currency"),
        ({"landing_url": "shop.example"}, "/product/landing_url"),
    ],
)
def test_a_product_that_breaks_a_rule_is_refused_with_the_field(brief, changes, pointer):
    with pytest.raises(BadInput) as caught:
        msgspec.structs.replace(brief.product, **changes)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "//shop.example/",
        "https:///path",
        'https://shop.example/"onload=',
        "https://shop.example/<script>",
        "https://shop.example/]]>",
        "https://shop.example/{{CLICK_URL}}",
        "https://shop.example/${AUCTION_PRICE}",
        "https://shop.example/a b",
        "https://shop.example/100%",
        "https://[shop.example/",
        "https://shop.example/" + "a" * 2048,
    ],
)
def test_a_url_that_could_break_markup_or_hold_a_token_is_refused(url):
    with pytest.raises(BadInput):
        checked_url("landing_url", url)


@pytest.mark.parametrize(
    "url", ["https://shop.example/a?b=c&d=%20#e", "http://127.0.0.1:8080/x", "https://[::1]/$5"]
)
def test_an_ordinary_url_passes_unchanged(url):
    assert checked_url("landing_url", url) == url


def test_the_language_is_the_first_subtag_of_the_locale(brief):
    assert with_changes(brief, {"locale": "zh-Hans-CN"}).language == "zh"


def test_a_brief_from_json_with_an_unknown_field_is_refused(brief):
    raw = msgspec.json.decode(msgspec.json.encode(brief))
    assert msgspec.convert(raw, Brief) == brief
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**raw, "headlin": "typo"}, Brief)
