import numpy as np
import pytest

from bidder.recommendation.off_policy import off_policy_value
from market.errors import BadInput

# 3 actions with known rewards; the logging policy prefers the worst
REWARD = np.array([0.1, 0.3, 0.6])
LOGGING = np.array([0.7, 0.2, 0.1])
TARGET = np.array([0.1, 0.2, 0.7])


def logged(seed, count=4_000):
    rng = np.random.default_rng(seed)
    actions = rng.choice(3, count, p=LOGGING)
    return (rng.random(count) < REWARD[actions]).astype(float), TARGET[actions], LOGGING[actions]


def test_estimates_find_the_targets_value_within_their_errors():
    truth = float(REWARD @ TARGET)
    values = [off_policy_value(*logged(seed)) for seed in range(200)]
    for name in ("ips", "snips"):
        found = np.array([getattr(value, name) for value in values])
        errors = np.array([getattr(value, f"{name}_error") for value in values])
        assert found.mean() == pytest.approx(truth, abs=4.0 * found.std() / np.sqrt(200))
        assert errors.mean() == pytest.approx(found.std(), rel=0.2)


def test_clipping_lowers_the_error_and_pulls_towards_the_logging_policy():
    plain, clipped = (off_policy_value(*logged(1), clip=clip) for clip in (None, 2.0))
    assert clipped.weight_max == 2.0
    assert plain.weight_max == pytest.approx(7.0)
    assert clipped.ips_error < plain.ips_error
    assert float(REWARD @ LOGGING) < clipped.snips < plain.snips
    assert clipped.effective_sample_size > plain.effective_sample_size


def test_a_policy_judged_on_its_own_log_is_worth_the_mean_reward():
    rewards, _, logging = logged(2)
    value = off_policy_value(rewards, logging, logging)
    assert value.ips == value.snips == pytest.approx(rewards.mean())
    assert value.effective_sample_size == pytest.approx(rewards.shape[0])
    assert value.reward_count == rewards.sum()


def test_a_log_that_cannot_say_anything_is_refused():
    with pytest.raises(BadInput, match="0 rows"):
        off_policy_value(np.empty(0), np.empty(0), np.empty(0))
    with pytest.raises(BadInput, match="least logging probability is 0"):
        off_policy_value(np.ones(2), np.ones(2), np.array([0.5, 0.0]))
    with pytest.raises(BadInput, match="never chooses"):
        off_policy_value(np.ones(2), np.zeros(2), np.ones(2))
