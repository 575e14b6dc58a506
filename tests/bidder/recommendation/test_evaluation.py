import numpy as np
import pytest

from bidder.recommendation.evaluation import evaluate, probabilities_of_rows
from market.errors import BadInput
from market.protocols import ResponseLog


def last_slice(trained):
    first = int(0.85 * trained.world.log.ts_ms.shape[0])
    return ResponseLog(*(array[first:] for array in trained.world.log))


def test_the_kernels_score_what_training_said_of_its_test_slice(trained):
    found = evaluate(trained.weights, last_slice(trained))
    for head in ("pctr", "pcvr"):
        expected = getattr(trained.scores, head)
        assert getattr(found, head).row_count == expected.row_count
        assert getattr(found, head).positive_count == expected.positive_count
        for name in ("auc", "log_loss", "bias_ratio", "ece"):
            assert getattr(getattr(found, head).fit, name) == pytest.approx(
                getattr(expected.factorised, name), abs=1e-4
            )


def test_a_log_without_clicks_says_nothing_of_conversions(trained):
    log = last_slice(trained)
    silent = ResponseLog(*(array[log.clicked == 0] for array in log))
    found = evaluate(trained.weights, silent)
    assert found.pcvr.fit is None
    assert found.pctr.fit.auc is None
    assert found.pctr.fit.bias_ratio is None
    assert found.pctr.positive_count == 0


def test_a_category_that_is_predicted_too_high_shows(trained):
    # all of the log, learnt from or not, so that every category has clicks enough to say something
    log = trained.world.log
    found = evaluate(trained.weights, log).pctr.categories
    assert found.category_count == 5
    assert 0.7 < found.bias_ratio_min <= 1.0 <= found.bias_ratio_max < 1.3
    bias = trained.weights.ad_bias.copy()
    category = int(np.bincount(log.ad_features[log.clicked == 1, 0]).argmax())
    bias[category, 0] += 1.0
    wrong = evaluate(trained.weights._replace(ad_bias=bias), log).pctr.categories
    assert wrong.bias_ratio_max > 1.5


def test_rows_outside_a_table_are_refused_before_kernels(trained):
    log = last_slice(trained)
    features = log.features.astype(np.int64)
    features[0, 0] = -1
    with pytest.raises(BadInput, match="features: holds row -1"):
        probabilities_of_rows(trained.weights, features, log.ad_features)
