from typing import NamedTuple

import numpy as np
import pytest

from bidder.recommendation.card import Scores
from bidder.recommendation.network import Weights, weights_of
from bidder.recommendation.training import Settings, train
from market.features import AD_ROWS, CONTEXT_ROWS
from tests.bidder.recommendation.known_world import KnownWorld, known_world

LOG_ROWS = 60_000


class Trained(NamedTuple):
    world: KnownWorld
    weights: Weights
    scores: Scores


@pytest.fixture(scope="session")
def trained() -> Trained:
    """A model trained once for all tests, and the world that it learnt from."""
    world = known_world(3, LOG_ROWS)
    weights, scores = train(world.log, 7, Settings(epochs=6))
    return Trained(world, weights, scores)


@pytest.fixture(scope="session")
def drawn() -> Weights:
    """Weights of about the size of trained ones, with rows of zeros among them."""
    rng = np.random.default_rng(11)

    def table(*shape: int) -> np.ndarray:
        numbers = rng.normal(0.0, 0.2, shape)
        numbers[::7] = 0.0
        return numbers.astype(np.float32)

    return weights_of(
        context_vectors=table(CONTEXT_ROWS, 16),
        context_bias=table(CONTEXT_ROWS, 2),
        ad_vectors=table(AD_ROWS, 16),
        ad_bias=table(AD_ROWS, 2),
        bias=np.array([-4.0, -2.0], np.float32),
        calibration=np.array([[0.9, 0.1], [1.2, -0.3]]),
    )
