"""The environments as Gymnasium sees them."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from market.errors import BadInput
from simulator.environment.gymnasium import ENVIRONMENT_ID, CampaignEnv, CampaignVectorEnv
from simulator.environment.kernels_environment import OBSERVATION
from simulator.environment.markets import Markets
from simulator.period.scenario import load, read
from simulator.scenario import text_of

COMPETITIONS = pytest.mark.parametrize("competition", ["prices", "agents"])


def episode(env, seed, action=0.1):
    observation, info = env.reset(seed=seed)
    found = [observation]
    is_over, total = False, 0.0
    while not is_over:
        observation, reward, is_over, is_cut, info = env.step(np.array([action], np.float32))
        assert not is_cut
        found.append(observation)
        total += reward
    return np.array(found), total, info


@COMPETITIONS
def test_gymnasium_finds_nothing_wrong(competition):
    """Its warnings are errors here."""
    check_env(CampaignEnv(competition=competition), skip_render_check=True)


@COMPETITIONS
def test_a_seed_determines_everything(competition):
    first, second = (episode(CampaignEnv(competition=competition), 5) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert first[1:] == second[1:]
    other = episode(CampaignEnv(competition=competition), 6)
    assert not np.array_equal(first[0], other[0])


def test_an_episode_is_a_period_and_its_rewards_are_its_score():
    observations, total, info = episode(CampaignEnv(), 9)
    assert observations.shape == (49, len(OBSERVATION))
    assert total == pytest.approx(info["score"])
    assert 0 < info["spend_micros"] <= info["budget_micros"]
    assert info["score"] <= info["expected_conversions"] + 1e-9
    assert observations[:, OBSERVATION.index("time_left")] == pytest.approx(
        np.arange(48, -1, -1) / 48
    )


def test_the_target_is_observed():
    """Without it no policy could tell a campaign that may pay 6 from one that may pay 13."""
    env = CampaignEnv()
    field = OBSERVATION.index("log_target")
    seen = {}
    for seed in range(40):
        observation, info = env.reset(seed=seed)
        seen[info["target_micros"]] = float(observation[field])
    assert len(seen) == 8
    targets = sorted(seen)
    assert [seen[target] for target in targets] == pytest.approx(np.log(np.array(targets) / 9.5e6))


def test_a_reset_without_a_seed_goes_on_to_the_next_episode():
    env = CampaignEnv()
    first = episode(env, 5)[0]
    second, _ = env.reset()
    assert not np.array_equal(first[0], second)
    again = CampaignEnv()
    again.reset(seed=5)
    assert np.array_equal(again.reset()[0], second)


def test_stepping_needs_an_episode():
    env = CampaignEnv()
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(1, np.float32))
    episode(env, 1)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(1, np.float32))
    with pytest.raises(ResetNeeded):
        CampaignVectorEnv(2).step(np.zeros((2, 1), np.float32))


@COMPETITIONS
def test_the_vector_is_many_single_ones(competition):
    vector = CampaignVectorEnv(5, competition=competition)
    seen = [vector.reset(seed=20)[0]]
    actions = np.linspace(-0.4, 0.4, 5, dtype=np.float32)[:, None]
    totals = np.zeros(5)
    for tick in range(48):
        observation, reward, is_over, is_cut, info = vector.step(actions)
        assert vector.observation_space.contains(observation)
        assert is_over.all() == is_over.any() == (tick == 47)
        assert not is_cut.any()
        seen.append(observation)
        totals += reward
    for i in range(5):
        single, total, last = episode(CampaignEnv(competition=competition), 20 + i, actions[i, 0])
        assert np.array_equal(single, np.array(seen)[:, i])
        assert total == pytest.approx(totals[i])
        assert last["spend_micros"] == info["spend_micros"][i]


def test_after_the_last_step_the_vector_starts_again_by_itself():
    vector = CampaignVectorEnv(3)
    assert vector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    first, _ = vector.reset(seed=[4, 7, 9])
    for _ in range(48):
        vector.step(np.zeros((3, 1), np.float32))
    observation, reward, is_over, _, info = vector.step(np.ones((3, 1), np.float32))
    assert (reward == 0).all()
    assert not is_over.any()
    assert (info["spend_micros"] == 0).all()
    single = CampaignEnv()
    single.reset(seed=7)
    assert np.array_equal(single.reset()[0], observation[1])
    assert not np.array_equal(first, observation)


def test_gymnasium_makes_them_by_name():
    single = gymnasium.make(ENVIRONMENT_ID, competition="agents")
    many = gymnasium.make_vec(ENVIRONMENT_ID, 3, vectorization_mode="vector_entry_point")
    assert isinstance(single.unwrapped, CampaignEnv)
    assert isinstance(many.unwrapped, CampaignVectorEnv)
    assert many.reset(seed=3)[0].shape == (3, len(OBSERVATION))
    observations, total, _ = episode(single, 3)
    assert len(observations) == 49
    assert total > 0


def test_what_a_step_returned_is_not_changed_by_the_next():
    vector = CampaignVectorEnv(2)
    vector.reset(seed=1)
    observation, reward, *_ = vector.step(np.zeros((2, 1), np.float32))
    kept = observation.copy(), reward.copy()
    vector.step(np.ones((2, 1), np.float32))
    assert np.array_equal(kept[0], observation)
    assert np.array_equal(kept[1], reward)


def test_an_unseeded_vector_draws_a_seed_and_a_list_must_hold_one_each():
    vector = CampaignVectorEnv(2)
    one, _ = vector.reset()
    two, _ = CampaignVectorEnv(2).reset()
    assert not np.array_equal(one, two)
    with pytest.raises(BadInput, match="seeds: one is None"):
        vector.reset(seed=[1, None])
    with pytest.raises(BadInput, match="seeds: 3; there must be 2"):
        vector.reset(seed=[1, 2, 3])
    with pytest.raises(BadInput, match="seed -1: it must be 0 to"):
        vector.reset(seed=[1, -1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, "environments: 0; there must be 1 to"),
        ({"competition": "nobody"}, "competition 'nobody': it must be prices or agents"),
        ({"reward": "money"}, "reward 'money': it must be expected or sampled"),
        ({"scenario": "auctionnet"}, "/campaign is missing"),
        ({"scenario": "nowhere"}, "scenario 'nowhere'"),
    ],
)
def test_markets_refuse_what_they_cannot_be(given, message):
    with pytest.raises(BadInput, match=message):
        Markets(**given)


@pytest.mark.parametrize("env", [CampaignEnv(), CampaignVectorEnv(2)])
def test_options_that_would_be_ignored_are_refused(env):
    env.reset(seed=1, options={})
    with pytest.raises(BadInput, match="reset_mask"):
        env.reset(seed=1, options={"reset_mask": [True, False]})


def test_only_a_price_process_needs_prices():
    text, name = text_of("campaign")
    start, end = text.index("[price_process]"), text.index("[campaign]")
    scenario = read(text[:start] + text[end:], name)
    with pytest.raises(BadInput, match="/price_process is missing"):
        Markets(scenario)
    Markets(scenario, competition="agents").reset([1])


@pytest.mark.parametrize("actions", [[0.0, float("nan")], [0.0]])
def test_an_action_that_is_none_is_refused(actions):
    markets = Markets(load("campaign"), 2)
    markets.reset([1, 2])
    with pytest.raises(BadInput, match="actions"):
        markets.step(np.array(actions, np.float32))
