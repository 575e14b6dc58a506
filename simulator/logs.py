"""Training logs: what users did with ads shown at random, in the same market, on earlier days.

Random creatives, so that no policy's taste is in the log; every opportunity becomes an impression.
The days lie before the scenario's start and have request ids of their own, so that a model trained
on them has seen neither the opportunities nor the coins of any episode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from market.chance import Purpose
from market.creative import AD_FIELDS
from market.errors import BadInput
from market.events import FEATURE_COUNT
from market.features import CONTEXT_BUCKETS, CONTEXT_DIMENSIONS, ad_feature_rows
from market.opportunity import CodeList
from market.protocols import ResponseLog
from simulator.exchange import profile_of
from simulator.kernels import feature_rows, uniform_table
from simulator.population import SEGMENT_COUNT, build_population
from simulator.response import build_response, choose_ads, respond, vocabulary_ads
from simulator.scenario import DAY_MS, Scenario
from simulator.supply import Supply, scenes_of

if TYPE_CHECKING:
    from simulator.registration import RegisteredCreative

_SERIES = ".log"
_BLOCK = 65_536
_NO_SALT = b""
"""Logs hold no user keys, so nothing is salted."""


def response_log(
    scenario: Scenario,
    seed: int,
    impression_count: int,
    creatives: tuple[RegisteredCreative, ...] | None = None,
) -> ResponseLog:
    """Returns a log of so many impressions, of the days that end when the scenario starts.

    Args:
        scenario: the market.
        seed: of the draws; another seed gives other days of the same market.
        impression_count: rows.
        creatives: that are shown, each with its ``format`` and ``size`` among its features; None =
            ads made from the scenario's vocabulary, ``VOCABULARY_ADS_PER_SIZE`` for every size.

    Raises:
        BadInput: a scene on offer fits none of the creatives, or the count is below 1.
    """
    if impression_count < 1:
        raise BadInput(f"impression_count is {impression_count}; it must be 1 or more")
    days = -(-impression_count // scenario.requests_per_day)
    population = build_population(scenario)
    scenes = scenes_of(scenario)
    ads = vocabulary_ads(scenario, scenes) if creatives is None else creatives
    supply = Supply(
        scenario, population, profile_of(scenario), seed=seed, user_salt=_NO_SALT,
        series=_SERIES, start_at_ms=scenario.start_at_ms - days * DAY_MS,
    )  # fmt: skip
    response = build_response(supply, population, ads)
    ad_rows = np.array(
        [ad_feature_rows([ad.features.get(field, "") for field in AD_FIELDS]) for ad in ads]
    )
    context = np.array(CONTEXT_DIMENSIONS, np.int64)
    log = ResponseLog(
        features=np.empty((impression_count, FEATURE_COUNT), np.uint32),
        ad_features=np.empty((impression_count, len(AD_FIELDS)), np.uint32),
        clicked=np.empty(impression_count, np.uint8),
        converted=np.empty(impression_count, np.uint8),
        ts_ms=np.empty(impression_count, np.int64),
        weight=np.ones(impression_count, np.float32),
    )
    for first in range(0, impression_count, _BLOCK):
        rows = slice(first, min(first + _BLOCK, impression_count))
        offers = supply.block(first, rows.stop - first)
        records, codes = offers.opportunities.records, offers.opportunities.codes
        key_hi = np.ascontiguousarray(records["key_hi"])
        key_lo = np.ascontiguousarray(records["key_lo"])
        chance = uniform_table(
            seed, int(Purpose.CREATIVE_CHOICE), key_hi, key_lo, np.zeros(1, np.int64)
        )[:, 0]
        ad = choose_ads(ads, scenes, offers.scene, chance)
        if (ad < 0).any():
            scene = scenes[offers.scene[np.argmax(ad < 0)]]
            raise BadInput(
                f"response log: placement '{scene.placement.tag}' fits none of the {len(ads)} "
                "creatives; every scene of the scenario must fit one"
            )
        segments = records["list_first"][:, CodeList.SEGMENT, None] + np.arange(SEGMENT_COUNT)
        log.features[rows] = feature_rows(
            context,
            np.ascontiguousarray(records["dimensions"]),
            codes[segments],
            CONTEXT_BUCKETS,
            FEATURE_COUNT,
        )
        log.ad_features[rows] = ad_rows[ad]
        outcome = respond(seed, key_hi, key_lo, offers.user, offers.scene, ad, response)
        log.clicked[rows], log.converted[rows] = outcome.clicked, outcome.converted
        log.ts_ms[rows] = records["arrival_ms"]
    return log
