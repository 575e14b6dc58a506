"""Many learning advertisers: what RLlib drives is the period engine, and it learns on it."""

from __future__ import annotations

import numpy as np
import pytest
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from market.errors import BadInput
from market.kernels_control import CONSTANT
from policies.training.distributed import ray_cluster
from policies.training.multi_agent import ManyAdvertisers
from simulator.environment.gymnasium import CampaignEnv
from simulator.environment.kernels_environment import OBSERVATION
from simulator.period import auctionnet
from simulator.period.engine import run_period
from simulator.period.scenario import read
from simulator.scenario import text_of

TICKS = 48


def small(count=6_000):
    text, _ = text_of("auctionnet")
    text = text.replace("opportunity_count = 500_000", f"opportunity_count = {count}")
    # As many conversions in fewer opportunities.
    return read(text.replace("mean = 0.0005", "mean = 0.05"), "small")


def played(environment, actions, seed=None):
    """(rewards by agent, observations of every step) of a period with fixed actions."""
    seen, _ = environment.reset(seed=seed)
    total = dict.fromkeys(seen, 0.0)
    shown = [seen]
    is_over = False
    while not is_over:
        seen, rewards, ends, cuts, _ = environment.step({name: actions[name] for name in seen})
        assert not any(cuts.values())
        for name, reward in rewards.items():
            total[name] += reward
        shown.append(seen)
        is_over = ends["__all__"]
    return total, shown


def constant(environment, log_alpha):
    return {name: np.array([log_alpha], np.float32) for name in environment.possible_agents}


def test_constant_actions_play_the_period_of_constant_laws():
    scenario = small()
    environment = ManyAdvertisers({"scenario": scenario, "seed": 3, "rewards": "sampled"})
    rewards, shown = played(environment, constant(environment, 0.0), seed=0)
    agents = auctionnet.agents_of(scenario, 3)
    agents = agents._replace(law=np.full_like(agents.law, CONSTANT), gain=np.ones_like(agents.gain))
    world = auctionnet.AuctionNetWorld(scenario, agents, 3, 0)
    result = run_period(world, agents, min_remaining_micros=scenario.auction.min_remaining_micros)
    assert result.accounts.conversions.sum() > 200
    assert np.allclose(list(rewards.values()), auctionnet.score(result, agents), atol=1e-9)
    assert len(shown) == TICKS + 1
    budget_left = [seen["agent_5"][OBSERVATION.index("budget_left")] for seen in shown[:-1]]
    spent = np.concatenate([[0], result.trace.spend_micros[:-1, 5]])
    expected = 1.0 - spent / agents.budget_micros[5]
    assert np.allclose(budget_left, expected, atol=1e-6)


def one_campaign(count=4_000):
    """A market whose campaign is the same in every episode of ``CampaignEnv``: its first agent."""
    text, _ = text_of("campaign")
    limits, budgets = text.index("cost_limits"), text.index("laws = [")
    text = text[:limits] + "cost_limits = [9.0]\nbudgets = [30.0]\n" + text[budgets:]
    text = text.replace("budget_factor = [0.5, 2.0]", "budget_factor = [1.0, 1.0]")
    return read(text.replace("opportunity_count = 2_880", f"opportunity_count = {count}"), "one")


@pytest.mark.parametrize("count", [4_000, 40])
def test_an_observation_means_what_it_means_to_a_single_campaign(count):
    """Also where some ticks are empty: 40 opportunities in 48 ticks."""
    scenario = one_campaign(count)
    many = ManyAdvertisers({"scenario": scenario, "seed": 4, "learners": (0,)})
    alone = CampaignEnv(scenario, competition="agents")
    seen, _ = many.reset(seed=0)
    single, _ = alone.reset(seed=4)
    actions = np.random.default_rng(1).uniform(-0.6, 0.6, (TICKS, 1)).astype(np.float32)
    for action in actions:
        assert dict(zip(OBSERVATION, seen["agent_0"], strict=True)) == pytest.approx(
            dict(zip(OBSERVATION, single, strict=True)), rel=1e-5, abs=1e-6
        )
        seen, rewards, ends, _, _ = many.step({"agent_0": action})
        single, reward, is_over, _, _ = alone.step(action)
        assert rewards["agent_0"] == pytest.approx(reward)
        assert ends["__all__"] == is_over


def test_environments_without_a_seed_play_different_periods():
    """RLlib gives none to its runners unless it is configured to; they must not learn alike."""
    one, two = (ManyAdvertisers({"scenario": small(500)}) for _ in range(2))
    first, _ = one.reset()
    one_period = one.period
    second, _ = two.reset()
    assert one_period != two.period
    one.reset()
    assert one.period == one_period + 1
    assert first.keys() == second.keys()


@pytest.mark.parametrize("seed", [-1, 2**62])
def test_a_seed_that_names_no_period_is_refused(seed):
    with pytest.raises(BadInput, match=f"seed {seed}: it must be 0 to"):
        ManyAdvertisers({"scenario": small(500)}).reset(seed=seed)


def test_those_who_do_not_learn_follow_their_laws_and_the_others_do_not_move_their_draws():
    environment = ManyAdvertisers({"scenario": small(), "learners": (0, 7)})
    assert environment.possible_agents == ["agent_0", "agent_7"]
    calm, _ = played(environment, constant(environment, -2.0), seed=1)
    assert environment.period == 1_000_003
    wild, shown = played(environment, constant(environment, 1.0), seed=1)
    assert calm != wild
    assert played(environment, constant(environment, 1.0), seed=1)[0] == wild
    for seen in shown:
        for name, row in seen.items():
            assert environment.observation_spaces[name].contains(row)
    # The next reset without a seed is another period.
    assert played(environment, constant(environment, 1.0))[0] != wild
    assert environment.period == 1_000_004


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"scenarios": "auctionnet"}, r"\['scenarios'\] is unknown"),
        ({"learners": (48,)}, "rows 0 to 47"),
        ({"learners": ()}, "rows 0 to 47"),
        ({"rewards": "clicks"}, "'expected' or 'sampled'"),
        ({"scenario": "nowhere"}, "nowhere"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_named(config, message):
    with pytest.raises(BadInput, match=message):
        ManyAdvertisers(config)


def test_an_action_that_is_no_number_is_refused():
    environment = ManyAdvertisers({"scenario": small()})
    environment.reset()
    with pytest.raises(BadInput, match="must be finite"):
        environment.step(constant(environment, np.nan))


@pytest.mark.filterwarnings("ignore")  # Ray's and torch's own
def test_rllib_trains_two_policies_on_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with ray_cluster(1):
        config = (
            PPOConfig()
            .environment(ManyAdvertisers, env_config={"scenario": small(500), "learners": (0, 1)})
            .debugging(seed=7)
            .env_runners(num_env_runners=0, num_envs_per_env_runner=1)
            .learners(num_learners=0, num_gpus_per_learner=0)
            .training(train_batch_size_per_learner=96, minibatch_size=48, num_epochs=1)
            .multi_agent(
                policies={"even", "odd"},
                policy_mapping_fn=lambda agent, *_, **__: (
                    "odd" if int(agent.rsplit("_", 1)[1]) % 2 else "even"
                ),
            )
            .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[8]))
        )
        algorithm = config.build_algo()
        try:
            result = algorithm.train()
        finally:
            algorithm.stop()
    assert result["env_runners"]["num_env_steps_sampled"] >= 96
    assert {"even", "odd"} <= result["learners"].keys()
    assert np.isfinite(result["env_runners"]["episode_return_mean"])
