"""Responses: rates as the scenario says, tastes that features explain up to a residual."""

from __future__ import annotations

from functools import cache

import msgspec
import numpy as np
import pytest

from market.creative import AD_FIELDS
from market.errors import BadInput
from simulator.exchange import profile_of
from simulator.kernels import response_probabilities
from simulator.population import build_population
from simulator.registration import RegisteredCreative
from simulator.response import (
    VOCABULARY_ID_FIRST,
    build_response,
    choose_ads,
    respond,
    vocabulary_ads,
)
from simulator.supply import Supply
from tests.simulator.markets import SALT, changed, scenario_of

COUNT = 60_000


@cache
def market(name="demo", **changes):
    scenario = changed(scenario_of(name), **changes)
    population = build_population(scenario)
    return Supply(scenario, population, profile_of(scenario), seed=4, user_salt=SALT), population


def creative(number, **features):
    return RegisteredCreative(
        creative_id=number, campaign_id=1, value_per_conversion_micros=1, features=features
    )


def latents(ads, **changes):
    """Appeal to a click [C, K] and main effect [C] of some ads."""
    response = build_response(*market(**changes), ads)
    return response.appeal[0], response.ad_effect[0]


def test_the_day_has_the_click_and_conversion_rate_of_the_scenario():
    supply, population = market()
    ads = vocabulary_ads(supply.scenario, supply.scenes)
    response = build_response(supply, population, ads)
    offers = supply.block(0, COUNT)
    records = offers.opportunities.records
    keys = [np.ascontiguousarray(records[name]) for name in ("key_hi", "key_lo")]
    uniforms = (np.arange(COUNT) * 0.618) % 1.0
    shown = choose_ads(ads, supply.scenes, offers.scene, uniforms)
    found = respond(4, *keys, offers.user, offers.scene, shown, response)
    clicks = int(found.clicked.sum())
    assert abs(clicks - COUNT * 0.05) <= 4 * np.sqrt(COUNT * 0.05 * 0.95)
    # The coins keep to the probabilities, and those to the scenario.
    expected = found.view * found.click
    assert abs(clicks - expected.sum()) <= 4 * np.sqrt((expected * (1 - expected)).sum())
    assert expected.mean() == pytest.approx(0.05, abs=0.002)
    conversions = int(found.converted.sum())
    assert abs(conversions / clicks - 0.25) <= 4 * np.sqrt(0.25 * 0.75 / clicks)
    assert not (found.clicked > found.viewed).any()
    assert not (found.converted > found.clicked).any()


def test_an_ad_in_view_is_seen_as_often_as_its_placement_says():
    supply, population = market()
    response = build_response(supply, population, (creative(1),))
    offers = supply.block(0, COUNT)
    records = offers.opportunities.records
    keys = [np.ascontiguousarray(records[name]) for name in ("key_hi", "key_lo")]
    zeros = np.zeros(COUNT, np.int32)
    found = respond(4, *keys, offers.user, offers.scene, zeros, response)
    tag = supply.scenes[0].placement
    is_here = np.array([scene.placement.tag == tag.tag for scene in supply.scenes])[offers.scene]
    share, count = tag.viewability, int(is_here.sum())
    assert abs(found.viewed[is_here].mean() - share) <= 4 * np.sqrt(share * (1 - share) / count)


def test_an_ads_appeal_is_that_of_its_features_plus_a_residual_of_its_own():
    features = {"category": "IAB18", "headline": "priced", "layout": "poster"}
    ads = (creative(1, **features), creative(2, **features), creative(3, headline="named"))
    appeal, effect = latents(ads)
    residual = np.sqrt(scenario_of("demo").response.residual_share)
    gap = np.abs(appeal[0] - appeal[1])
    assert 0 < gap.max() < 5 * residual
    # Without residual, equal features are equal ads.
    appeal, effect = latents(ads, response__residual_share=0.0)
    assert np.array_equal(appeal[0], appeal[1])
    assert effect[0] == effect[1]
    assert not np.allclose(appeal[0], appeal[2])


def test_features_are_compared_as_bidders_compare_texts():
    ads = (creative(1, category="IAB18"), creative(1 + 1, category=" iab18 "))
    appeal, _ = latents(ads, response__residual_share=0.0)
    assert np.array_equal(appeal[0], appeal[1])


def test_an_ad_without_features_has_only_its_residual():
    appeal, effect = latents((creative(1),), response__residual_share=0.0)
    assert not appeal.any()
    assert not effect.any()


def test_appeals_have_variance_1_over_ads():
    supply, _ = market()
    ads = vocabulary_ads(supply.scenario, supply.scenes, per_size=400)
    wide = [
        creative(ad.creative_id, **{**ad.features, "category": f"c{i}", "headline": f"h{i}"})
        for i, ad in enumerate(ads)
    ]
    appeal, _ = latents(tuple(wide))
    assert np.mean(appeal**2) == pytest.approx(1.0, abs=0.25)


def test_features_that_weigh_more_move_the_appeal_more():
    base = dict.fromkeys(AD_FIELDS, "x")
    ads = [creative(1, **base)]
    ads += [creative(1 + i, **{**base, "category": f"v{i}"}) for i in range(1, 40)]
    ads += [creative(99 + i, **{**base, "format": f"v{i}"}) for i in range(1, 40)]
    appeal, _ = latents(tuple(ads), response__residual_share=0.0)
    moved = np.abs(appeal - appeal[0]).mean(axis=1)
    weights = scenario_of("demo").response.ad_weights
    ratio = moved[1:40].mean() / moved[40:].mean()
    assert ratio == pytest.approx(weights["category"] / weights["format"], rel=0.35)


def test_who_likes_what_the_ad_speaks_to_clicks_more():
    supply, population = market()
    response = build_response(supply, population, (creative(1, category="IAB18"),))
    liking = population.interest @ response.appeal[0, 0]
    users = np.arange(len(population.user_ids), dtype=np.int32)
    zeros = np.zeros(users.shape[0], np.int32)
    _, click, _ = response_probabilities(users, zeros, zeros, *response)
    fond, cool = click[liking > 1].mean(), click[liking < -1].mean()
    assert fond > 1.5 * cool


def test_vocabulary_ads_cover_every_size_on_offer_with_texts_of_the_vocabulary():
    supply, _ = market("parity")
    ads = vocabulary_ads(supply.scenario, supply.scenes, per_size=5)
    assert [ad.creative_id for ad in ads] == list(
        range(VOCABULARY_ID_FIRST, VOCABULARY_ID_FIRST + len(ads))
    )
    shapes = {(ad.features["format"], ad.features["size"]) for ad in ads}
    assert shapes == {
        ("banner", "728x90"), ("banner", "300x250"), ("banner", "320x50"), ("video", "1280x720"),
    }  # fmt: skip
    for field, values in supply.scenario.ad_vocabulary.items():
        assert {ad.features[field] for ad in ads} <= set(values)


def test_ads_are_chosen_evenly_from_those_that_fit_the_scene():
    supply, _ = market("parity")
    ads = vocabulary_ads(supply.scenario, supply.scenes, per_size=2)
    for place, scene in enumerate(supply.scenes):
        uniforms = (np.arange(400) + 0.5) / 400
        rows = choose_ads(ads, supply.scenes, np.full(400, place, np.int32), uniforms)
        shown, counts = np.unique(rows, return_counts=True)
        fits = [
            row
            for row, ad in enumerate(ads)
            if ad.features["size"] in {f"{s >> 16}x{s & 0xFFFF}" for s in scene.sizes}
            and ad.features["format"] == scene.format.name.lower()
        ]
        assert shown.tolist() == fits
        assert counts.max() - counts.min() <= 1


def test_a_scene_that_no_ad_fits_gets_none():
    supply, _ = market("parity")
    rows = choose_ads(
        (creative(1, format="banner", size="1x1"),),
        supply.scenes,
        np.zeros(3, np.int32),
        np.zeros(3),
    )
    assert rows.tolist() == [-1, -1, -1]


def test_a_click_rate_above_what_comes_into_view_is_an_error():
    scenario = scenario_of("demo")
    hidden = tuple(
        msgspec.structs.replace(
            publisher,
            placements=tuple(
                msgspec.structs.replace(placement, viewability=0.04)
                for placement in publisher.placements
            ),
        )
        for publisher in scenario.publishers
    )
    scenario = changed(scenario, publishers=hidden)
    population = build_population(scenario)
    supply = Supply(scenario, population, profile_of(scenario), seed=1, user_salt=SALT)
    with pytest.raises(BadInput, match="come into view"):
        build_response(supply, population, ())
