import json
import subprocess
import sys

import numpy as np
import pytest

from bidder.recommendation.network import read_artefact, read_card
from bidder.recommendation.response_log import write_log
from bidder.recommendation.scores import fit_of
from bidder.recommendation.training import (
    FACTOR_POSITIVES_MIN,
    Settings,
    main,
    train,
    train_and_write,
)
from market.errors import BadInput
from market.protocols import ResponseLog
from tests.bidder.recommendation.known_world import known_world

QUICK = Settings(epochs=2)


def truth_on_test_slice(trained, head):
    """Returns the scores of the true probabilities on the rows that the model was tested on."""
    world = trained.world
    is_row = np.arange(world.pctr.shape[0]) >= int(0.85 * world.pctr.shape[0])
    p, labels = world.pctr, world.log.clicked
    if head == "pcvr":
        is_row &= world.log.clicked == 1
        p, labels = world.pcvr, world.log.converted
    logits = np.log(p[is_row]) - np.log1p(-p[is_row])
    return fit_of(logits, labels[is_row], np.ones(int(is_row.sum())), np.array([1.0, 0.0]))


@pytest.mark.parametrize(("head", "share"), [("pctr", 0.75), ("pcvr", 0.2)])
def test_factors_recover_what_a_logistic_regression_cannot(trained, head, share):
    scores = getattr(trained.scores, head)
    truth = truth_on_test_slice(trained, head)
    assert scores.serves == "factorised"
    assert scores.factorised.log_loss < scores.linear.log_loss < scores.constant_log_loss
    assert scores.factorised.auc > scores.linear.auc + scores.linear.auc_error
    # nobody beats the truth but by luck
    assert scores.factorised.log_loss > truth.log_loss - 3.0 / np.sqrt(scores.row_count)
    gap = scores.linear.log_loss - truth.log_loss
    assert scores.linear.log_loss - scores.factorised.log_loss > share * gap


@pytest.mark.parametrize("head", ["pctr", "pcvr"])
def test_served_probabilities_are_calibrated_on_later_rows(trained, head):
    scores = getattr(trained.scores, head)
    fit = scores.factorised
    # both the calibration slice and the test slice are samples
    error = np.sqrt(1.0 / scores.positives_calibration + 1.0 / scores.positive_count)
    assert abs(fit.bias_ratio - 1.0) < 3.0 * error
    # noise of 15 bins at the truth, and as much again for what 6 epochs leave
    assert fit.ece < 2.0 * truth_on_test_slice(trained, head).ece


def test_the_bias_is_the_base_rate_so_raw_predictions_have_the_right_level(trained):
    for scores in (trained.scores.pctr, trained.scores.pcvr):
        assert 0.85 < scores.factorised.bias_ratio_raw < 1.15
        assert 0.85 < scores.linear.bias_ratio_raw < 1.15


def test_equal_seeds_give_equal_weights_and_others_do_not():
    log = known_world(5, 4_000).log
    one, two, other = (train(log, seed, QUICK)[0] for seed in (7, 7, 8))
    assert one.version == two.version != other.version
    for first, second in zip(one, two, strict=True):
        assert np.array_equal(first, second)


def test_with_few_positives_the_logistic_regression_serves():
    world = known_world(6, 6_000, click_logit=-4.5)
    weights, scores = train(world.log, 7, QUICK, heads=("pctr",))
    assert scores.pctr.positives_train < FACTOR_POSITIVES_MIN
    assert scores.pctr.factorised is None
    assert scores.pctr.serves == "linear"
    assert not weights.context_vectors.any()
    assert weights.context_bias[:, 0].any()


def test_a_head_that_was_not_trained_says_never():
    weights, scores = train(known_world(6, 4_000).log, 7, QUICK, heads=("pctr",))
    assert scores.pcvr is None
    assert not weights.context_bias[:, 1].any()
    assert weights.bias[1] == -20.0


def test_values_that_training_never_saw_count_as_their_fields_average(trained):
    weights, log = trained.weights, trained.world.log
    seen = log.features[: int(0.7 * log.ts_ms.shape[0])]
    for field in (0, 11):
        unseen = field * 512 + 300
        assert unseen not in seen[:, field]
        expected = weights.context_bias[seen[:, field], 0].mean(dtype=np.float64)
        assert weights.context_bias[unseen, 0] == pytest.approx(expected, abs=1e-6)
        mean = weights.context_vectors[seen[:, field]].mean(0, dtype=np.float64)
        assert weights.context_vectors[unseen, :8] == pytest.approx(mean[:8], abs=1e-6)


def test_a_row_of_weight_three_teaches_as_three_rows_would():
    log = known_world(5, 20_000).log
    sampled = (log.clicked == 1) | (np.arange(20_000) % 3 == 0)
    thinned = ResponseLog(*(array[sampled] for array in log))
    thinned = thinned._replace(weight=np.where(thinned.clicked == 1, 1.0, 3.0).astype(np.float32))
    weights, scores = train(thinned, 7, QUICK, heads=("pctr",))
    full_rate = log.clicked[: int(0.7 * 20_000)].mean()
    found = 1.0 / (1.0 + np.exp(-float(weights.bias[0])))
    assert found == pytest.approx(full_rate, rel=0.1)
    assert 0.8 < scores.pctr.linear.bias_ratio < 1.2


def test_no_row_of_one_instant_is_both_learnt_from_and_tested_on():
    log = known_world(5, 8_000).log
    # one burst across the cut between calibration and test
    ts_ms = log.ts_ms.copy()
    ts_ms[6_500:7_200] = ts_ms[6_500]
    _, scores = train(log._replace(ts_ms=ts_ms), 7, QUICK, heads=("pctr",))
    assert scores.pctr.row_count == 8_000 - 6_500


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (known_world(5, 3_000, click_logit=-40.0).log, "0 positives for pctr in 2100"),
        (known_world(5, 3_000, conversion_logit=-40.0).log, "0 positives for pcvr"),
        (known_world(5, 0).log, "no row for pctr"),
        (known_world(5, 900).log._replace(ts_ms=np.zeros(900, np.int64)), "no row for pctr"),
    ],
)
def test_a_log_that_teaches_nothing_is_refused_with_what_it_lacks(log, message):
    with pytest.raises(BadInput, match=message):
        train(log, 7, QUICK)


@pytest.mark.parametrize(
    "wrong",
    [{"training_share": 0.9, "calibration_share": 0.1}, {"epochs": 0}, {"learning_rate": -1.0}],
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(BadInput, match="training settings"):
        Settings(**wrong)


def test_an_artefact_is_written_with_its_card_and_its_onnx_file(tmp_path):
    log = known_world(5, 8_000).log
    scores = train_and_write(log, tmp_path / "new", 7, "the command", "the data", QUICK)
    path = tmp_path / "new" / "response.npz"
    card = read_card(path)
    assert (card.command, card.seed, card.data, card.row_count) == (
        "the command", 7, "the data", 8_000,
    )  # fmt: skip
    assert card.scores == scores
    assert read_artefact(path).version == card.version
    assert path.with_suffix(".onnx").stat().st_size < 2_000_000
    assert path.stat().st_size < 2_000_000


def test_the_command_trains_from_a_file_and_prints_scores(tmp_path):
    write_log(tmp_path / "log.npz", known_world(5, 1_500).log)
    done = subprocess.run(
        [
            sys.executable, "-W", "error", "-m", "bidder.recommendation.training",
            "--log", tmp_path / "log.npz", "--out", tmp_path / "out", "--seed", "3",
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pctr"]["row_count"] == 225
    # not a terminal: no bar, no advertisements, nothing but errors would be on this stream
    assert done.stderr == ""
    card = read_card(tmp_path / "out" / "response.npz")
    assert card.command.endswith("--log log.npz --out out --seed 3")


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, capsys):
    status = main(["--log", str(tmp_path / "none.npz"), "--out", str(tmp_path)])
    assert status == 2
    assert capsys.readouterr().err.count("\n") == 1
