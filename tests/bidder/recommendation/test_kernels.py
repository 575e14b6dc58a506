import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidder.recommendation.evaluation import logits_of_rows, probabilities_of_rows
from bidder.recommendation.kernels import (
    block_probabilities,
    context_side,
    pair_logits,
    pair_probabilities,
    sigmoid,
)
from bidder.recommendation.network import creative_tables
from market.events import FEATURE_COUNT
from market.features import AD_BUCKETS, AD_ROWS, CONTEXT_BUCKETS, CONTEXT_ROWS
from tests.reference import recommendation as reference

pytestmark = pytest.mark.plain


def context_rows(buckets):
    return [field * CONTEXT_BUCKETS + bucket for field, bucket in enumerate(buckets)]


def ad_rows(buckets):
    return [field * AD_BUCKETS + bucket for field, bucket in enumerate(buckets)]


CONTEXTS = st.lists(
    st.integers(0, CONTEXT_BUCKETS - 1), min_size=FEATURE_COUNT, max_size=FEATURE_COUNT
).map(context_rows)
ADS = st.lists(st.integers(0, AD_BUCKETS - 1), min_size=6, max_size=6).map(ad_rows)


def scored(weights, features, ad_features):
    """Returns (pctr, pcvr) the way the decision kernel asks for it: one request, one creative."""
    ad_vectors, ad_bias = creative_tables(weights, np.array([ad_features], np.uint32))
    vector, bias = np.empty(16), np.empty(2)
    context_side(
        np.array(features, np.uint32), weights.context_vectors, weights.context_bias, vector, bias
    )
    return pair_probabilities(vector, bias, 0, ad_vectors, ad_bias, weights.calibration)


@given(features=CONTEXTS, ad_features=ADS)
@settings(max_examples=60, deadline=None)
def test_a_pair_scores_what_the_unsplit_formula_says(drawn, features, ad_features):
    found = scored(drawn, features, ad_features)
    for head in range(2):
        expected = reference.probability(head, features, ad_features, drawn)
        assert found[head] == pytest.approx(expected, abs=1e-6)


def test_trained_weights_score_what_the_unsplit_formula_says(trained):
    log = trained.world.log
    found = probabilities_of_rows(trained.weights, log.features[:40], log.ad_features[:40])
    for n in range(40):
        for head in range(2):
            expected = reference.probability(
                head, log.features[n], log.ad_features[n], trained.weights
            )
            assert found[n, head] == pytest.approx(expected, abs=1e-6)


def test_absent_values_score_by_their_own_rows(drawn):
    features, ad_features = context_rows([0] * FEATURE_COUNT), ad_rows([0] * 6)
    expected = [reference.probability(head, features, ad_features, drawn) for head in range(2)]
    assert scored(drawn, features, ad_features) == pytest.approx(expected, abs=1e-6)


def test_zero_tables_score_the_calibrated_bias_whoever_asks(drawn):
    weights = drawn._replace(
        context_vectors=np.zeros_like(drawn.context_vectors),
        context_bias=np.zeros_like(drawn.context_bias),
        ad_vectors=np.zeros_like(drawn.ad_vectors),
        ad_bias=np.zeros_like(drawn.ad_bias),
    )
    low = scored(weights, context_rows([0] * FEATURE_COUNT), ad_rows([0] * 6))
    high = scored(weights, context_rows([511] * FEATURE_COUNT), ad_rows([255] * 6))
    assert low == high
    for head in range(2):
        slope, intercept = weights.calibration[head]
        expected = 1.0 / (1.0 + np.exp(-(slope * float(weights.bias[head]) + intercept)))
        assert low[head] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("block", [1, 7, 4096])
def test_a_block_gives_bit_for_bit_what_single_rows_give(drawn, block):
    rng = np.random.default_rng(5)
    count, creative_count = 5000, 40
    features = rng.integers(0, CONTEXT_ROWS, (count, FEATURE_COUNT)).astype(np.uint32)
    rows = rng.integers(0, creative_count, count)
    ad_vectors, ad_bias = creative_tables(
        drawn, rng.integers(0, AD_ROWS, (creative_count, 6)).astype(np.uint32)
    )
    single, vector, bias = np.empty((count, 2)), np.empty(16), np.empty(2)
    for n in range(count):
        context_side(features[n], drawn.context_vectors, drawn.context_bias, vector, bias)
        single[n] = pair_probabilities(
            vector, bias, rows[n], ad_vectors, ad_bias, drawn.calibration
        )
    found = np.empty((count, 2))
    for first in range(0, count, block):
        part = slice(first, first + block)
        block_probabilities(
            features[part], rows[part], drawn.context_vectors, drawn.context_bias,
            ad_vectors, ad_bias, drawn.calibration, found[part],
        )  # fmt: skip
    assert np.array_equal(found.view(np.uint64), single.view(np.uint64))


def test_logits_and_probabilities_belong_together(drawn):
    rng = np.random.default_rng(6)
    features = rng.integers(0, CONTEXT_ROWS, (50, FEATURE_COUNT)).astype(np.uint32)
    ad_features = rng.integers(0, AD_ROWS, (50, 6)).astype(np.uint32)
    z = logits_of_rows(drawn, features, ad_features) * drawn.calibration[:, 0]
    expected = 1.0 / (1.0 + np.exp(-(z + drawn.calibration[:, 1])))
    assert probabilities_of_rows(drawn, features, ad_features) == pytest.approx(expected, abs=1e-12)


def test_logits_of_a_request_ignore_what_was_scored_before_it(drawn):
    ad_vectors, ad_bias = creative_tables(drawn, np.array([ad_rows([1] * 6)], np.uint32))
    vector, bias = np.full(16, np.nan), np.full(2, np.nan)
    features = np.array(context_rows([3] * FEATURE_COUNT), np.uint32)
    context_side(features, drawn.context_vectors, drawn.context_bias, vector, bias)
    found = pair_logits(vector, bias, 0, ad_vectors, ad_bias)
    expected = [reference.logit(h, features, ad_rows([1] * 6), drawn) for h in range(2)]
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("logit", [0.0, 1e-9, 40.0, 800.0])
def test_a_sigmoid_saturates_without_overflow_and_is_symmetric(logit):
    assert sigmoid(logit) + sigmoid(-logit) == pytest.approx(1.0, abs=1e-15)
    assert 0.0 <= sigmoid(-logit) <= 0.5 <= sigmoid(logit) <= 1.0
