from __future__ import annotations

import hashlib

import msgspec
import pytest

from campaigns.refusals import Refusal, RefusalKind
from campaigns.rendering import (
    CreativeOrder,
    NewCampaign,
    Studio,
    order_problems,
    with_creatives,
)
from campaigns.shape import shape
from creatives.brief import Brief, Category, Product
from market.campaign import Campaign, LineItem, problems_of
from market.creative import AD_FIELDS
from market.errors import BadInput

BRIEF = Brief(
    product=Product(
        "Trail shoe", "Northway", "https://northway.example/shoe", 89_900_000, "USD",
        Category.FOOTWEAR,
    ),
    headline="Run where roads end",
    body="Grip for mud, rock and rain.",
    call_to_action="See it",
)  # fmt: skip
ORDER = CreativeOrder(brief=BRIEF, sizes=("300x250", "320x50"), count=2)


@pytest.fixture
def studio(tmp_path):
    return Studio(tmp_path / "assets", "https://ads.example/assets")


def new(asked, order, line_items=()):
    fields = {name: getattr(asked, name) for name in Campaign.__struct_fields__}
    return NewCampaign(**{**fields, "line_items": line_items, "creatives": order})


def test_an_order_becomes_creatives_that_may_be_stored_and_bid(studio, asked):
    creatives = studio.render(ORDER, is_kept=True)
    assert [(each.width, each.height) for each in creatives] == [(300, 250), (320, 50)] * 2
    assert problems_of(with_creatives(new(asked, ORDER), creatives)) == ()
    for creative in creatives:
        data, media_type = studio.image(creative.asset_sha256)
        assert hashlib.sha256(data).hexdigest() == creative.asset_sha256
        assert media_type == creative.media_type
        assert f"https://ads.example/assets/{creative.asset_sha256}" in creative.adm
        assert "{{IMPRESSION_URL}}" in creative.adm
        assert creative.landing_url == BRIEF.product.landing_url
        assert creative.is_secure
        assert set(creative.features) == {"headline", "layout", "palette"} <= set(AD_FIELDS)


def test_designs_of_one_order_differ_in_what_learning_sees(studio):
    creatives = studio.render(
        msgspec.structs.replace(ORDER, sizes=("300x250",), count=4), is_kept=True
    )
    assert len({tuple(each.features.values()) for each in creatives}) == 4
    assert len({each.asset_sha256 for each in creatives}) == 4


def test_a_plain_http_address_makes_a_creative_insecure(tmp_path):
    studio = Studio(tmp_path, "http://127.0.0.1:8080/assets")
    assert not studio.render(msgspec.structs.replace(ORDER, count=1), is_kept=True)[0].is_secure


def test_a_trial_gives_the_same_creatives_and_keeps_nothing(studio, tmp_path):
    trial = studio.render(ORDER, is_kept=False)
    assert list((tmp_path / "assets").iterdir()) == []
    assert studio.render(ORDER, is_kept=True) == trial


def test_an_image_that_is_not_there_is_bad_input(studio):
    for name in ("0" * 64, "../api_key", ""):
        with pytest.raises(BadInput):
            studio.image(name)


def test_a_campaign_without_line_items_gets_one_with_its_creatives(studio, asked):
    creatives = studio.render(ORDER, is_kept=True)
    campaign = with_creatives(new(asked, ORDER), creatives)
    assert type(campaign) is Campaign
    assert campaign.line_items == (LineItem(name=asked.name, creatives=creatives),)


def test_line_items_with_creatives_keep_theirs_and_others_get_the_order(studio, asked):
    creatives = studio.render(ORDER, is_kept=True)
    one, two = asked.line_items
    campaign = with_creatives(new(asked, ORDER, (one, two)), creatives)
    assert campaign.line_items == (one, msgspec.structs.replace(two, creatives=creatives))


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        (
            {"sizes": ("300x250", "big", "0x1", "1x")},
            ["/creatives/sizes/1", "/creatives/sizes/2", "/creatives/sizes/3"],
        ),
        ({"count": 0}, ["/creatives/count"]),
        ({"count": 51}, ["/creatives/count"]),
        ({"sizes": ()}, ["/creatives/count"]),
        ({}, []),
    ],
)
def test_every_rule_of_an_order_is_named(asked, changes, pointers):
    problems = order_problems(new(asked, msgspec.structs.replace(ORDER, **changes)))
    assert [problem.pointer for problem in problems] == pointers


def test_an_order_that_no_line_item_needs_is_a_broken_rule(asked):
    (problem,) = order_problems(new(asked, ORDER, asked.line_items[:1]))
    assert problem.pointer == "/creatives"
    assert order_problems(new(asked, ORDER, asked.line_items)) == ()


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"sizes": ("300x250", "300x250")}, "/creatives/sizes"),
        ({"sizes": ("9000x250",)}, "/creatives/sizes"),
        ({"sizes": ("2x2",)}, "/creatives"),
        ({"brief": msgspec.structs.replace(BRIEF, headline="字" * 3)}, "/creatives"),
    ],
)
def test_what_cannot_be_drawn_is_refused_below_creatives(studio, changes, pointer):
    with pytest.raises(Refusal) as refused:
        studio.render(msgspec.structs.replace(ORDER, **changes), is_kept=True)
    assert refused.value.kind is RefusalKind.INVALID_CAMPAIGN
    assert refused.value.pointer.startswith(pointer)


def test_rules_that_the_brief_checks_itself_are_found_at_their_fields(asked):
    order = msgspec.to_builtins(ORDER)
    order["brief"]["headline"] = " "
    order["brief"]["product"]["price_micros"] = -1
    order["brief"]["product"]["landing_url"] = "shop"
    body = {**msgspec.to_builtins(asked, builtin_types=()), "line_items": [], "creatives": order}
    body = msgspec.json.decode(msgspec.json.encode(body))
    pointers = [problem.pointer for problem in shape(body, NewCampaign).problems]
    # A Struct stops at its own first broken rule.
    assert pointers == ["/creatives/brief/product/landing_url"]
    order["brief"]["product"]["landing_url"] = "https://shop.example"
    order["brief"]["product"]["price_micros"] = 1
    body = msgspec.json.decode(msgspec.json.encode({**body, "creatives": order}))
    pointers = [problem.pointer for problem in shape(body, NewCampaign).problems]
    assert pointers == ["/creatives/brief/headline"]
