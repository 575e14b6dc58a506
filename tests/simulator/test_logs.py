"""Training logs: the same market and kernels, random ads, other days."""

from __future__ import annotations

import numpy as np
import pytest

from market.creative import AD_FIELDS
from market.errors import BadInput
from market.events import FEATURE_COUNT
from market.features import AD_BUCKETS, AD_ROWS, CONTEXT_ROWS, ad_feature_rows
from simulator import logs
from simulator.logs import response_log
from simulator.registration import RegisteredCreative
from tests.simulator.markets import ads_of, scenario_of

COUNT = 80_000


@pytest.fixture(scope="module")
def log():
    return response_log(scenario_of("demo"), 3, COUNT)


def test_a_log_has_the_shapes_and_types_of_the_contract(log):
    assert log.features.shape == (COUNT, FEATURE_COUNT)
    assert log.ad_features.shape == (COUNT, len(AD_FIELDS))
    types = [array.dtype.name for array in log]
    assert types == ["uint32", "uint32", "uint8", "uint8", "int64", "float32"]
    assert log.features.max() < CONTEXT_ROWS
    assert log.ad_features.max() < AD_ROWS
    assert (log.weight == 1).all()
    assert (np.diff(log.ts_ms) >= 0).all()
    assert (log.converted <= log.clicked).all()


def test_a_log_has_the_rates_of_the_scenario(log):
    clicks = int(log.clicked.sum())
    assert abs(clicks / COUNT - 0.05) <= 4 * np.sqrt(0.05 * 0.95 / COUNT)
    assert abs(log.converted.sum() / clicks - 0.25) <= 4 * np.sqrt(0.25 * 0.75 / clicks)


def test_a_log_ends_before_the_scenario_starts(log):
    start = scenario_of("demo").start_at_ms
    assert log.ts_ms[-1] < start
    assert log.ts_ms[0] == start - 2 * 86_400_000


def test_a_log_is_a_function_of_scenario_and_seed_whatever_the_block(log, monkeypatch):
    monkeypatch.setattr(logs, "_BLOCK", 1_000)
    again = response_log(scenario_of("demo"), 3, 5_000)
    assert again.ts_ms.shape == (5_000,)
    # One day holds 5,000 rows, two hold 80,000: the draws are the same, the days are not.
    for name in ("features", "ad_features", "clicked", "converted"):
        mine, theirs = getattr(again, name), getattr(log, name)[:5_000]
        if name == "features":
            hour = 6
            mine, theirs = np.delete(mine, hour, axis=1), np.delete(theirs, hour, axis=1)
        assert np.array_equal(mine, theirs), name
    assert not np.array_equal(response_log(scenario_of("demo"), 4, 5_000).clicked, again.clicked)


def test_features_tell_who_clicks(log):
    """Interest segments (fields 9 to 11) and the ad's category (field 0) interact."""
    segment, category = log.features[:, 9], log.ad_features[:, 0]
    cells = segment.astype(np.int64) * AD_ROWS + category
    _, member, count = np.unique(cells, return_inverse=True, return_counts=True)
    rate = np.bincount(member, log.clicked) / count
    share = log.clicked.mean()
    chi_square = np.sum(count * (rate - share) ** 2 / (share * (1 - share)))
    cells_seen = count.shape[0]
    # 6 standard errors of a chi-square with one degree of freedom a cell.
    assert chi_square > cells_seen + 6 * np.sqrt(2 * cells_seen)


def test_ads_fit_the_scenes_that_show_them(log):
    place, size = log.features[:, 5], log.ad_features[:, AD_FIELDS.index("size")]
    sizes_by_place = {row: set(size[place == row].tolist()) for row in np.unique(place).tolist()}
    assert max(len(sizes) for sizes in sizes_by_place.values()) == 2
    assert AD_BUCKETS * 2 <= size.min() < AD_BUCKETS * 3


def test_a_log_can_be_made_with_registered_creatives():
    ads = ads_of()
    log = response_log(scenario_of(), 3, 2_000, ads)
    known = {
        tuple(ad_feature_rows([ad.features.get(field, "") for field in AD_FIELDS]).tolist())
        for ad in ads
    }
    assert set(map(tuple, log.ad_features.tolist())) <= known


def test_a_scene_that_no_creative_fits_is_an_error():
    lone = RegisteredCreative(
        creative_id=1, campaign_id=1, value_per_conversion_micros=0,
        features={"format": "banner", "size": "728x90"},
    )  # fmt: skip
    with pytest.raises(BadInput, match="fits none of the 1 creatives"):
        response_log(scenario_of(), 3, 2_000, (lone,))


def test_an_empty_log_is_an_error():
    with pytest.raises(BadInput, match="impression_count is 0"):
        response_log(scenario_of(), 3, 0)
