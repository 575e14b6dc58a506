"""The file of registered creatives: read strictly, and made from campaigns."""

from __future__ import annotations

import pytest

from market.campaign import Budget, Campaign, Creative, Goal, GoalKind, LineItem
from market.creative import AD_FIELDS
from market.errors import BadInput
from market.features import ad_feature_rows, ad_features
from simulator.registration import read_registered, register

ONE = b'{"creative_id":7,"campaign_id":1,"value_per_conversion_micros":5,"features":{"size":"1x1"}}'


def test_a_registration_is_read_as_it_is_written():
    (creative,) = read_registered(b"[" + ONE + b"]")
    assert (creative.creative_id, creative.campaign_id) == (7, 1)
    assert creative.value_per_conversion_micros == 5
    assert creative.features == {"size": "1x1"}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{}", "Expected `array`"),
        (b"[" + ONE + b"," + ONE + b"]", "7: its id is used twice"),
        (ONE.replace(b'"size"', b'"colour"').join([b"[", b"]"]), "feature 'colour'"),
        (ONE.replace(b'"campaign_id"', b'"campain_id"').join([b"[", b"]"]), "campain_id"),
        (ONE.replace(b":7", b":0").join([b"[", b"]"]), ">= 1"),
    ],
)
def test_a_broken_registration_is_an_error_that_names_what_is_wrong(body, text):
    with pytest.raises(BadInput, match=text):
        read_registered(body)


def test_campaigns_register_the_features_that_the_model_hashes():
    creatives = tuple(
        Creative(
            creative_id=number, name="x", width=300, height=250, landing_url="https://shop.example",
            features={"headline": "priced", "palette": "night"},
        )
        for number in (4, 9)
    )  # fmt: skip
    goal = Goal(GoalKind.TARGET_CPA, target_cpa_micros=10**7)
    campaign = Campaign(
        name="c", currency="USD", time_zone="UTC", goal=goal, budget=Budget(daily_micros=1),
        advertiser_domain="shop.example", category="IAB18", campaign_id=3,
        line_items=(LineItem(line_item_id=1, creatives=creatives),),
    )  # fmt: skip
    registered = register((campaign,), 2_000)
    assert [creative.creative_id for creative in registered] == [4, 9]
    assert registered[0].campaign_id == 3
    assert registered[0].value_per_conversion_micros == 2_000
    texts = [registered[0].features.get(field, "") for field in AD_FIELDS]
    assert ad_feature_rows(texts).tolist() == ad_features(campaign, creatives[0]).tolist()


def test_a_goal_that_values_conversions_is_believed():
    goal = Goal(GoalKind.MAX_CONVERSIONS, value_per_conversion_micros=77)
    campaign = Campaign(
        name="c", currency="USD", time_zone="UTC", goal=goal, budget=Budget(daily_micros=1),
        advertiser_domain="shop.example", campaign_id=3,
        line_items=(LineItem(creatives=(Creative(creative_id=1),)),),
    )  # fmt: skip
    assert register((campaign,), 2_000)[0].value_per_conversion_micros == 77
