"""Supply: how many opportunities when and where, and what their records say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.chance import opportunity_key, user_key
from market.errors import BadInput
from market.opportunity import CODE_LIST_COUNT, CodeList
from simulator.exchange import profile_of
from simulator.population import build_population
from simulator.supply import IMP_ID, Supply
from tests.simulator.markets import SALT, changed, scenario_of

HOUR_MS = 3_600_000


def supply_of(name="parity", seed=1, **options):
    scenario = scenario_of(name)
    return Supply(
        scenario, build_population(scenario), profile_of(scenario), seed=seed, user_salt=SALT,
        **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def supply():
    return supply_of()


@pytest.fixture(scope="module")
def demo():
    return supply_of("demo")


@settings(max_examples=40)
@given(st.lists(st.integers(0, 90_000_000), min_size=1, max_size=4, unique=True))
def test_any_cut_of_time_gives_the_same_opportunities(supply, cuts):
    start = supply.start_at_ms
    whole = supply.offers(start, start + 90_000_000)
    edges = [0, *sorted(cuts), 90_000_000]
    pieces = [supply.offers(start + a, start + b) for a, b in itertools.pairwise(edges)]
    for name in ("sequence", "scene", "user"):
        joined = np.concatenate([getattr(piece, name) for piece in pieces])
        assert np.array_equal(joined, getattr(whole, name))
    floors = [piece.opportunities.records["floor_cpm_micros"] for piece in pieces]
    assert np.array_equal(np.concatenate(floors), whole.opportunities.records["floor_cpm_micros"])


def test_a_day_has_as_many_requests_as_the_scenario_says(demo):
    start = demo.start_at_ms
    assert abs(demo.offers(start, start + 24 * HOUR_MS).sequence.shape[0] - 72_000) <= 1


def test_every_hour_has_the_traffic_of_the_local_hours_of_its_scenes(demo):
    scenario = scenario_of("demo")
    weights = np.zeros(24)
    shares = {country.name: country.share for country in scenario.people.countries}
    for publisher in scenario.publishers:
        where = publisher.countries or tuple(shares)
        for country in scenario.people.countries:
            if country.name in where:
                share = shares[country.name] / sum(shares[name] for name in where)
                shape = np.array(scenario.hour_shapes[publisher.hour_shape])
                local = (np.arange(24) + country.utc_offset_minutes // 60) % 24
                weights += publisher.share * share * shape[local] / shape.sum()
    expected = 72_000 * weights / weights.sum()
    start = demo.start_at_ms
    for hour in range(24):
        found = demo.offers(start + hour * HOUR_MS, start + (hour + 1) * HOUR_MS)
        # Requests are stratified over time: no more than one off at either end.
        assert abs(found.sequence.shape[0] - expected[hour]) <= 2


def test_scenes_are_met_in_proportion_to_their_traffic(demo):
    start = demo.start_at_ms
    offers = demo.offers(start, start + 24 * HOUR_MS)
    is_game = [scene.publisher.publisher_id == "pub-block" for scene in demo.scenes]
    share = scenario_of("demo").publishers[6].share
    found = np.array(is_game)[offers.scene].mean()
    assert abs(found - share) <= 4 * np.sqrt(share * (1 - share) / offers.scene.shape[0])


def test_users_meet_the_scenes_of_their_country_and_device(demo):
    start = demo.start_at_ms
    offers = demo.offers(start, start + HOUR_MS)
    people, population = scenario_of("demo").people, demo.population
    for scene, user in zip(offers.scene.tolist(), offers.user.tolist(), strict=True):
        assert population.country[user] == demo.scenes[scene].country
        allowed = demo.scenes[scene].placement.device_types
        assert not allowed or people.devices[population.device[user]].device_type in allowed


def test_publishers_meet_users_who_like_their_topic(demo):
    start = demo.start_at_ms
    offers = demo.offers(start, start + 24 * HOUR_MS)
    topics = scenario_of("demo").people.interests
    topic = np.array([topics.index(scene.publisher.topic) for scene in demo.scenes])
    liking = demo.population.interest[offers.user, topic[offers.scene]]
    # Weights exp(pull * z) of a standard normal taste shift its mean to pull.
    assert liking.mean() == pytest.approx(scenario_of("demo").people.topic_pull, abs=0.1)


def test_floors_lie_around_the_placements_floor_in_whole_cents(demo):
    start = demo.start_at_ms
    offers = demo.offers(start, start + HOUR_MS)
    floors = offers.opportunities.records["floor_cpm_micros"]
    assert not (floors % 10_000).any()
    for scene, floor in zip(offers.scene.tolist(), floors.tolist(), strict=True):
        placement = demo.scenes[scene].placement
        spread = placement.floor_spread * placement.floor_cpm
        assert abs(floor / 1e6 - placement.floor_cpm) <= spread + 0.005


def test_an_opportunity_is_named_by_exchange_request_and_imp(supply):
    offers = supply.offers(supply.start_at_ms, supply.start_at_ms + HOUR_MS)
    for record, number in zip(offers.opportunities.records, offers.sequence, strict=True):
        key = opportunity_key("twin", supply.request_id(int(number)), IMP_ID)
        assert (int(record["key_hi"]), int(record["key_lo"])) == key
    assert offers.sequence.tolist() == list(range(offers.sequence.shape[0]))


def test_a_user_is_known_by_its_salted_pseudonym(supply):
    offers = supply.offers(supply.start_at_ms, supply.start_at_ms + HOUR_MS)
    for record, user in zip(offers.opportunities.records, offers.user, strict=True):
        assert int(record["user_key"]) == user_key(SALT, supply.population.user_ids[user])


def test_all_requests_of_a_slice_arrive_at_its_start(supply):
    start = supply.start_at_ms + 5 * HOUR_MS + 1
    records = supply.offers(start, start + HOUR_MS).opportunities.records
    assert records.shape[0] > 0
    assert (records["arrival_ms"] == start).all()


def test_a_block_of_requests_says_what_slices_say(supply):
    start, step = supply.start_at_ms, scenario_of().slice_ms
    slices = [supply.offers(at, at + step) for at in range(start, start + 4 * HOUR_MS, step)]
    count = sum(piece.sequence.shape[0] for piece in slices)
    block = supply.block(0, count)
    records = np.concatenate([piece.opportunities.records for piece in slices])
    for name in records.dtype.names:
        if name != "list_first":
            assert np.array_equal(block.opportunities.records[name], records[name]), name


def test_list_slices_share_the_pool_without_overlap(supply):
    block = supply.block(0, 500).opportunities
    first, count = block.records["list_first"], block.records["list_count"]
    assert (first[:, 1:] == first[:, :-1] + count[:, :-1]).all()
    assert (first[1:, 0] == first[:-1, -1] + count[:-1, -1]).all()
    assert int(count.sum()) == block.codes.shape[0]
    assert (count[:, CodeList.SEGMENT] == 3).all()
    assert count.shape[1] == CODE_LIST_COUNT
    filled = {CodeList.SEGMENT, CodeList.CATEGORY, CodeList.SITE}
    assert set(np.flatnonzero(count.any(axis=0)).tolist()) == filled


def test_another_seed_is_another_day_of_the_same_market(supply):
    other = supply_of(seed=2)
    mine, theirs = supply.block(0, 400), other.block(0, 400)
    assert mine.sequence.shape == theirs.sequence.shape
    assert not np.array_equal(mine.user, theirs.user)
    keys = {tuple(key) for key in mine.opportunities.records[["key_hi", "key_lo"]].tolist()}
    assert keys.isdisjoint(theirs.opportunities.records[["key_hi", "key_lo"]].tolist())
    assert np.array_equal(supply.population.interest, other.population.interest)


def test_a_series_is_another_stream_of_the_same_seed(supply):
    other = supply_of(series=".log")
    assert other.request_id(3) == "parity.log-1-3"
    assert not np.array_equal(other.block(0, 99).user, supply.block(0, 99).user)


def test_a_placement_that_no_user_can_meet_is_an_error():
    scenario = changed(scenario_of(), people__user_count=1)
    with pytest.raises(BadInput, match="meets no user") as caught:
        Supply(scenario, build_population(scenario), profile_of(scenario), seed=1, user_salt=SALT)
    assert caught.value.pointer == "/people/user_count"
