"""Every rule of a campaign, each broken alone; and what the decoder refuses before any rule."""

from __future__ import annotations

import msgspec
import pytest

from market.campaign import (
    CREATIVES_MAX,
    LINE_ITEMS_MAX,
    Budget,
    Campaign,
    Creative,
    Flight,
    FrequencyCap,
    Goal,
    GoalKind,
    LineItem,
    Problem,
    Targeting,
    check,
    format_bit,
    problems_of,
    time_zone_of,
)
from market.creative import AD_FIELDS, MEDIA_TYPES
from market.errors import BadInput
from market.money import BUDGET_MICROS_MAX, PRICE_CPM_MICROS_MAX
from market.opportunity import Format
from market.targeting import TARGETABLE

CREATIVE = Creative(
    creative_id=1,
    format="banner",
    width=300,
    height=250,
    landing_url="https://shop.example/",
    asset_sha256="0" * 64,
    features={"headline": "sale", "layout": "hero"},
)
LINE_ITEM = LineItem(
    line_item_id=1,
    targeting=Targeting(include={"country": ("deu",)}, exclude={"segment": ("bots",)}),
    deals=("deal-1",),
    frequency_caps=(FrequencyCap(impressions=3),),
    creatives=(CREATIVE,),
)
CAMPAIGN = Campaign(
    name="Spring sale",
    currency="EUR",
    time_zone="Europe/Berlin",
    goal=Goal(GoalKind.TARGET_CPA, target_cpa_micros=5_000_000),
    budget=Budget(daily_micros=10_000_000, lifetime_micros=100_000_000),
    advertiser_domain="shop.example",
    category="IAB18",
    flight=Flight(start_at_ms=1_000, end_at_ms=2_000),
    line_items=(LINE_ITEM,),
)
MAX_CONVERSIONS = Goal(GoalKind.MAX_CONVERSIONS, value_per_conversion_micros=1)
TARGET_ROAS = Goal(GoalKind.TARGET_ROAS, target_roas=2.0, value_per_conversion_micros=1)
VIDEO = {"format": "video", "media_type": "video/mp4", "duration_ms": 15_000, "protocol": 3}


def of(**changes):
    return msgspec.structs.replace(CAMPAIGN, **changes)


def of_line_item(**changes):
    return of(line_items=(LINE_ITEM, msgspec.structs.replace(LINE_ITEM, **changes)))


def of_creative(**changes):
    return of_line_item(creatives=(CREATIVE, msgspec.structs.replace(CREATIVE, **changes)))


def of_target(**include):
    return of_line_item(targeting=Targeting(include=include))


ITEM = "/line_items/1"
AD = "/line_items/1/creatives/1"
NAME = "must be 1-200 characters"
CURRENCY = "must be an ISO 4217 code in capitals, such as USD"
ZONE = "must be an IANA time zone, such as Europe/Berlin"
HOST = "must be a host name in lower case, such as shop.example"
CATEGORY = "must be a category of the IAB content taxonomy, such as IAB18"
AMOUNT = f"must be > 0 and at most {BUDGET_MICROS_MAX} micros"
CEILING = f"must be > 0 and at most {PRICE_CPM_MICROS_MAX} micros CPM"
LATER = "must be later than start_at_ms"
VALUES = "must hold values that are not empty"
PIXELS = "must be 1-65535 pixels for banner and video"
DURATION = "must be > 0 for video and audio"
SHA256 = "must be 64 hexadecimal digits in lower case"
URL = "must be an http or https URL"

BROKEN = [
    (of(name=""), "/name", "''", NAME),
    (of(name="   "), "/name", "'   '", NAME),
    (of(name="x" * 201), "/name", repr("x" * 201), NAME),
    (of(currency="eur"), "/currency", "'eur'", CURRENCY),
    (of(currency="BTC"), "/currency", "'BTC'", CURRENCY),
    (of(time_zone="Mars/Base"), "/time_zone", "'Mars/Base'", ZONE),
    (of(time_zone="../UTC"), "/time_zone", "'../UTC'", ZONE),
    (of(advertiser_domain="Shop.Example"), "/advertiser_domain", "'Shop.Example'", HOST),
    (of(advertiser_domain="shop"), "/advertiser_domain", "'shop'", HOST),
    (of(advertiser_domain="shop.example\n"), "/advertiser_domain", r"'shop.example\n'", HOST),
    (of(advertiser_domain="-a.example"), "/advertiser_domain", "'-a.example'", HOST),
    (of(advertiser_domain="a b.example"), "/advertiser_domain", "'a b.example'", HOST),
    (of(advertiser_domain="https://a.example"), "/advertiser_domain", "'https://a.example'", HOST),
    (of(category=""), "/category", "''", CATEGORY),
    (of(category="IAB 18"), "/category", "'IAB 18'", CATEGORY),
    (of(category="IAB18\n"), "/category", r"'IAB18\n'", CATEGORY),
    (
        of(goal=Goal(GoalKind.TARGET_CPA)),
        "/goal/target_cpa_micros", "missing", "goal target_cpa requires it",
    ),
    (
        of(goal=Goal(GoalKind.TARGET_ROAS, value_per_conversion_micros=1)),
        "/goal/target_roas", "missing", "goal target_roas requires it",
    ),
    (
        of(goal=Goal(GoalKind.TARGET_ROAS, target_roas=2.0)),
        "/goal/value_per_conversion_micros", "missing", "goal target_roas requires it",
    ),
    (
        of(goal=Goal(GoalKind.MAX_CONVERSIONS)),
        "/goal/value_per_conversion_micros", "missing", "goal max_conversions requires it",
    ),
    (
        of(goal=Goal(GoalKind.TARGET_CPA, target_cpa_micros=0)),
        "/goal/target_cpa_micros", "0", AMOUNT,
    ),
    (
        of(goal=Goal(GoalKind.TARGET_CPA, target_cpa_micros=BUDGET_MICROS_MAX + 1)),
        "/goal/target_cpa_micros", str(BUDGET_MICROS_MAX + 1), AMOUNT,
    ),
    (
        of(goal=Goal(GoalKind.MAX_CONVERSIONS, value_per_conversion_micros=-1)),
        "/goal/value_per_conversion_micros", "-1", AMOUNT,
    ),
    (
        of(goal=msgspec.structs.replace(TARGET_ROAS, target_roas=0.0)),
        "/goal/target_roas", "0.0", "must be 0.001-1000",
    ),
    (
        of(goal=msgspec.structs.replace(TARGET_ROAS, target_roas=1000.5)),
        "/goal/target_roas", "1000.5", "must be 0.001-1000",
    ),
    (
        of(goal=msgspec.structs.replace(TARGET_ROAS, target_roas=float("nan"))),
        "/goal/target_roas", "nan", "must be 0.001-1000",
    ),
    (of(budget=Budget()), "/budget", "empty", "must set daily_micros, lifetime_micros, or both"),
    (of(budget=Budget(daily_micros=0)), "/budget/daily_micros", "0", AMOUNT),
    (of(budget=Budget(lifetime_micros=-5)), "/budget/lifetime_micros", "-5", AMOUNT),
    (
        of(budget=Budget(lifetime_micros=BUDGET_MICROS_MAX + 1)),
        "/budget/lifetime_micros", str(BUDGET_MICROS_MAX + 1), AMOUNT,
    ),
    (
        of(budget=Budget(daily_micros=11, lifetime_micros=10)),
        "/budget/daily_micros", "11", "must not exceed lifetime_micros",
    ),
    (of(flight=Flight(2_000, 2_000)), "/flight/end_at_ms", "2000", LATER),
    (of(flight=Flight(2_000, 1_999)), "/flight/end_at_ms", "1999", LATER),
    (
        of(line_items=(LINE_ITEM,) * (LINE_ITEMS_MAX + 1)),
        "/line_items", str(LINE_ITEMS_MAX + 1), f"must have at most {LINE_ITEMS_MAX} entries",
    ),
    (of_line_item(bid_cpm_micros_max=0), f"{ITEM}/bid_cpm_micros_max", "0", CEILING),
    (
        of_line_item(bid_cpm_micros_max=PRICE_CPM_MICROS_MAX + 1),
        f"{ITEM}/bid_cpm_micros_max", str(PRICE_CPM_MICROS_MAX + 1), CEILING,
    ),
    (
        of_target(planet=("mars",)),
        f"{ITEM}/targeting/include/planet", "'planet'", f"must be one of {', '.join(TARGETABLE)}",
    ),
    (of_target(country=()), f"{ITEM}/targeting/include/country", "()", VALUES),
    (
        of_line_item(targeting=Targeting(exclude={"keyword": ("war", " ")})),
        f"{ITEM}/targeting/exclude/keyword", "('war', ' ')", VALUES,
    ),
    (
        of(categories_by_taxonomy={"1": ("IAB1",)}), "/categories_by_taxonomy/1", "'1'",
        "must be a number of AdCOM's list Category Taxonomies other than 1",
    ),
    (
        of(categories_by_taxonomy={"6": ()}), "/categories_by_taxonomy/6", "()",
        "must name the ad's category in this taxonomy, and the tiers above it",
    ),
    (
        of(app_bundle=" com.shop"), "/app_bundle", "' com.shop'",
        "must be at most 200 characters without white space",
    ),
    (
        of_line_item(deals=(), is_deal_only=True),
        f"{ITEM}/deals", "empty", "a deal-only line item needs a deal",
    ),
    (
        of_line_item(frequency_caps=(FrequencyCap(impressions=1),) * 4),
        f"{ITEM}/frequency_caps", "4", "must have at most 3 entries",
    ),
    (
        of_line_item(frequency_caps=(FrequencyCap(1), FrequencyCap(0))),
        f"{ITEM}/frequency_caps/1/impressions", "0", "must be 1-10000",
    ),
    (
        of_line_item(frequency_caps=(FrequencyCap(10_001),)),
        f"{ITEM}/frequency_caps/0/impressions", "10001", "must be 1-10000",
    ),
    (
        of_line_item(creatives=(CREATIVE,) * (CREATIVES_MAX + 1)),
        f"{ITEM}/creatives", str(CREATIVES_MAX + 1), f"must have at most {CREATIVES_MAX} entries",
    ),
    (
        of_creative(format="popup"),
        f"{AD}/format", "'popup'", "must be one of banner, video, audio, native",
    ),
    (of_creative(width=0), f"{AD}/width", "0", PIXELS),
    (of_creative(height=65_536), f"{AD}/height", "65536", PIXELS),
    (of_creative(**VIDEO, height=0), f"{AD}/height", "0", PIXELS),
    (of_creative(format="native", width=-1), f"{AD}/width", "-1", PIXELS),
    (of_creative(**VIDEO | {"duration_ms": 0}), f"{AD}/duration_ms", "0", DURATION),
    (
        of_creative(format="audio", media_type="audio/mp4", protocol=7),
        f"{AD}/duration_ms", "0", DURATION,
    ),
    (of_creative(**VIDEO | {"protocol": 0}), f"{AD}/protocol", "0", "must be 1-63"),
    (of_creative(duration_ms=-1), f"{AD}/duration_ms", "-1", DURATION),
    (of_creative(duration_ms=86_400_001), f"{AD}/duration_ms", "86400001", DURATION),
    (
        of_creative(media_type="image/bmp"),
        f"{AD}/media_type", "'image/bmp'", f"must be one of {', '.join(MEDIA_TYPES)}",
    ),
    (
        of_creative(attributes=(1, 64)),
        f"{AD}/attributes", "(1, 64)", "must be AdCOM creative attributes, 1-63",
    ),
    (
        of_creative(attributes=(0,)),
        f"{AD}/attributes", "(0,)", "must be AdCOM creative attributes, 1-63",
    ),
    (of_creative(protocol=64), f"{AD}/protocol", "64", "must be 0-63"),
    (of_creative(protocol=-1), f"{AD}/protocol", "-1", "must be 0-63"),
    (of_creative(asset_sha256="F" * 64), f"{AD}/asset_sha256", repr("F" * 64), SHA256),
    (of_creative(asset_sha256="0" * 63), f"{AD}/asset_sha256", repr("0" * 63), SHA256),
    (
        of_creative(asset_sha256="0" * 64 + "\n"),
        f"{AD}/asset_sha256", repr("0" * 64 + "\n"), SHA256,
    ),
    (of_creative(landing_url=""), f"{AD}/landing_url", "''", URL),
    (
        of_creative(landing_url="javascript:alert(1)"),
        f"{AD}/landing_url", "'javascript:alert(1)'", URL,
    ),
    (
        of_creative(features={"mood": "blue"}),
        f"{AD}/features/mood", "'mood'", f"must be one of {', '.join(AD_FIELDS)}",
    ),
]  # fmt: skip

KEPT = {
    "the example itself": CAMPAIGN,
    "a name of 200 characters": of(name="x" * 200),
    "a host of many labels": of(advertiser_domain="a.b-c.d1.co.uk"),
    "conversions for their value": of(goal=MAX_CONVERSIONS),
    "a return on spend": of(goal=TARGET_ROAS),
    "the highest return": of(goal=msgspec.structs.replace(TARGET_ROAS, target_roas=1000.0)),
    "a daily budget only": of(budget=Budget(daily_micros=1)),
    "a lifetime budget only": of(budget=Budget(lifetime_micros=BUDGET_MICROS_MAX)),
    "daily equal to lifetime": of(budget=Budget(10, 10)),
    "an open flight": of(flight=Flight()),
    "a flight with a start only": of(flight=Flight(start_at_ms=5)),
    "a flight of a millisecond": of(flight=Flight(5, 6)),
    "no line items": of(line_items=()),
    "as many line items as there may be": of(line_items=(LINE_ITEM,) * LINE_ITEMS_MAX),
    "the highest ceiling": of_line_item(bid_cpm_micros_max=PRICE_CPM_MICROS_MAX),
    "a category in other taxonomies": of(
        categories_by_taxonomy={"6": ("483", "460"), "20": ("x",)}
    ),
    "an advertised app": of(app_bundle="com.shop"),
    "every name that can be targeted": of_target(**dict.fromkeys(TARGETABLE, ("x",))),
    "a deal-only line item": of_line_item(is_deal_only=True),
    "the largest cap": of_line_item(frequency_caps=(FrequencyCap(10_000),) * 3),
    "as many creatives as there may be": of_line_item(creatives=(CREATIVE,) * CREATIVES_MAX),
    "a video": of_creative(**VIDEO),
    "an audio spot": of_creative(
        format="audio",
        media_type="audio/mpeg",
        width=0,
        height=0,
        duration_ms=86_400_000,
        protocol=7,
    ),
    "a native ad without a size": of_creative(format="native", width=0, height=0),
    "markup without an asset": of_creative(asset_sha256="", media_type="text/html"),
    "the last attribute and protocol": of_creative(attributes=(1, 63), protocol=63),
    "a landing page without https": of_creative(landing_url="http://shop.example"),
}


@pytest.mark.parametrize(
    ("campaign", "pointer", "value", "rule"),
    BROKEN,
    ids=[f"{pointer} {value[:20]}" for _, pointer, value, _ in BROKEN],
)
def test_a_broken_rule_is_named_with_its_field_and_value(campaign, pointer, value, rule):
    assert problems_of(campaign) == (Problem(pointer, value, rule),)


@pytest.mark.parametrize("campaign", KEPT.values(), ids=KEPT.keys())
def test_a_campaign_that_keeps_every_rule_has_no_problem_and_passes_unchanged(campaign):
    assert problems_of(campaign) == ()
    assert check(campaign) is campaign


def test_all_broken_rules_are_told_at_once_in_document_order():
    campaign = msgspec.structs.replace(of_creative(width=0), name="", budget=Budget())
    assert [problem.pointer for problem in problems_of(campaign)] == [
        "/name",
        "/budget",
        "/line_items/1/creatives/1/width",
    ]


def test_check_raises_with_every_problem_and_points_to_the_first():
    with pytest.raises(BadInput) as refused:
        check(of(name="", currency="eur"))
    assert refused.value.pointer == "/name"
    assert str(refused.value) == f"campaign /name: is ''; {NAME}; /currency: is 'eur'; {CURRENCY}"


def test_a_campaign_survives_json():
    assert msgspec.json.decode(msgspec.json.encode(CAMPAIGN), type=Campaign) == CAMPAIGN


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("goal",),
        ("budget",),
        ("flight",),
        ("line_items", 0),
        ("line_items", 0, "targeting"),
        ("line_items", 0, "frequency_caps", 0),
        ("line_items", 0, "creatives", 0),
    ],
)
def test_a_misspelt_field_is_refused_where_it_stands(path):
    place = document = msgspec.json.decode(msgspec.json.encode(CAMPAIGN))
    for step in path:
        place = place[step]
    place["typo"] = 1
    at = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    with pytest.raises(msgspec.ValidationError, match="unknown field `typo`") as refused:
        msgspec.json.decode(msgspec.json.encode(document), type=Campaign)
    if path:
        assert str(refused.value).endswith(f"at `{at}`")


@pytest.mark.parametrize("missing", ["name", "currency", "time_zone", "goal", "budget"])
def test_a_missing_field_is_refused_by_its_name(missing):
    document = msgspec.to_builtins(CAMPAIGN)
    del document[missing]
    with pytest.raises(msgspec.ValidationError, match=f"missing required field `{missing}`"):
        msgspec.convert(document, Campaign)


def test_a_value_of_the_wrong_type_or_word_is_refused():
    document = msgspec.to_builtins(CAMPAIGN)
    with pytest.raises(msgspec.ValidationError, match="Expected `int"):
        msgspec.convert(document | {"budget": {"daily_micros": "10"}}, Campaign)
    with pytest.raises(msgspec.ValidationError, match="Invalid enum value 'running'"):
        msgspec.convert(document | {"status": "running"}, Campaign)


def test_a_campaign_cannot_be_changed():
    with pytest.raises(AttributeError):
        CAMPAIGN.name = "other"


def test_the_name_of_a_format_is_its_bit():
    assert [format_bit(name) for name in ("banner", "video", "audio", "native")] == [1, 2, 4, 8]
    assert format_bit("video") == Format.VIDEO


def test_the_time_zone_of_a_campaign_is_the_one_it_names():
    assert time_zone_of(CAMPAIGN).key == "Europe/Berlin"
