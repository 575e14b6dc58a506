"""The users: shares as the scenario says, tastes standardised, segments their strongest ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from simulator.population import SEGMENT_COUNT, build_population, segment_texts
from tests.simulator.markets import changed, scenario_of

COUNT = 20_000


@pytest.fixture(scope="module")
def demo():
    return build_population(scenario_of("demo"))


def assert_share(found, share, count=COUNT):
    """Within 4 standard errors of a binomial share."""
    assert abs(found / count - share) <= 4 * np.sqrt(share * (1 - share) / count)


def test_users_are_a_function_of_people_and_world_seed(demo):
    again = build_population(scenario_of("demo"))
    other = build_population(changed(scenario_of("demo"), world_seed=2027))
    assert all(np.array_equal(a, b) for a, b in zip(demo, again, strict=True))
    assert not np.array_equal(demo.interest, other.interest)
    assert set(demo.user_ids).isdisjoint(other.user_ids)


def test_user_ids_are_distinct(demo):
    assert len(set(demo.user_ids)) == COUNT


def test_countries_devices_genders_and_ages_have_their_shares(demo):
    people = scenario_of("demo").people
    for row, country in enumerate(people.countries):
        assert_share(np.count_nonzero(demo.country == row), country.share)
    for row, device in enumerate(people.devices):
        assert_share(np.count_nonzero(demo.device == row), device.share)
    genders = Counter(demo.gender)
    known = people.gender_known_share
    assert_share(genders["F"], people.gender_shares["F"] * known)
    assert_share(genders[""], 1 - known)
    assert_share(np.count_nonzero(demo.year_of_birth == 0), 1 - people.age_known_share)
    born = demo.year_of_birth[demo.year_of_birth > 0]
    twenties = np.count_nonzero((2026 - born) // 10 == 2)
    assert_share(twenties, people.age_shares["20"], born.shape[0])


def test_regions_belong_to_the_country_and_set_the_clock(demo):
    people = scenario_of("demo").people
    for row in range(0, COUNT, 97):
        regions = people.countries[demo.country[row]].regions
        assert demo.utc_offset_minutes[row] == regions[demo.region[row]].utc_offset_minutes
        assert demo.language[row] in people.countries[demo.country[row]].languages


def test_only_cellular_connections_have_a_carrier(demo):
    for connection, carrier in zip(demo.connection, demo.carrier, strict=True):
        assert bool(carrier) == (connection in ("6", "7"))


def test_a_country_without_carriers_sends_none():
    parity = build_population(scenario_of())
    sent = {c for c, country in zip(parity.carrier, parity.country, strict=True) if country == 1}
    assert sent == {""}


def test_tastes_have_mean_0_and_variance_1_over_users(demo):
    for values in (demo.interest, demo.proneness):
        assert np.abs(values.mean(axis=0)).max() < 0.02
        assert np.abs(values.std(axis=0) - 1).max() < 0.02


def test_groups_explain_the_stated_share_of_tastes(demo):
    groups = np.stack([demo.country, demo.region, demo.device], axis=1)
    _, member = np.unique(groups, axis=0, return_inverse=True)
    means = np.zeros_like(demo.interest[: member.max() + 1])
    np.add.at(means, member, demo.interest)
    means /= np.bincount(member)[:, None]
    explained = np.var(means[member], axis=0).mean()
    # Gender and age, the other two groups, are not looked at here.
    assert 0.1 < explained < scenario_of("demo").people.group_share

    alone = build_population(changed(scenario_of("demo"), people__group_share=0.0))
    means = np.zeros_like(means)
    np.add.at(means, member, alone.interest)
    means /= np.bincount(member)[:, None]
    assert np.var(means[member], axis=0).mean() < 0.01


def test_segments_are_the_strongest_interests_strongest_first(demo):
    for row in range(0, COUNT, 97):
        order = sorted(range(demo.interest.shape[1]), key=lambda k: -demo.interest[row, k])
        assert demo.segments[row].tolist() == order[:SEGMENT_COUNT]
    assert segment_texts(scenario_of("demo").people)[7] == "int-travel"


def test_activity_has_mean_1(demo):
    sigma = scenario_of("demo").people.activity_sigma
    error = np.sqrt((np.exp(sigma**2) - 1) / COUNT)
    assert abs(demo.activity.mean() - 1) <= 4 * error
