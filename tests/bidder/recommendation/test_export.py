import numpy as np
import onnx
import pytest

from bidder.recommendation.evaluation import logits_of_rows
from bidder.recommendation.export import export_onnx, logits_by_onnx, open_session, parity
from bidder.recommendation.network import SHIPPED_ARTEFACT, read_artefact
from bidder.recommendation.training_module import Examples, Tables, logits_of
from market.errors import BadInput, Corrupt
from market.events import FEATURE_COUNT
from market.features import AD_BUCKETS, AD_ROWS, CONTEXT_BUCKETS, CONTEXT_ROWS


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "response.onnx"
    export_onnx(trained.weights, path)
    return path


def any_rows(count, seed=1):
    rng = np.random.default_rng(seed)
    features = rng.integers(0, CONTEXT_BUCKETS, (count, FEATURE_COUNT))
    ad_features = rng.integers(0, AD_BUCKETS, (count, 6))
    return (
        features + np.arange(FEATURE_COUNT) * CONTEXT_BUCKETS,
        ad_features + np.arange(6) * AD_BUCKETS,
    )


def test_kernels_and_onnxruntime_agree_on_trained_weights(trained, exported):
    log = trained.world.log
    found = parity(trained.weights, exported, log.features[:5_000], log.ad_features[:5_000])
    assert found.probability_difference_max <= 1e-5
    assert found.logit_difference_max <= 2e-5
    assert found.is_same_order


def test_kernels_and_onnxruntime_agree_on_rows_that_nobody_trained(trained, exported):
    assert parity(trained.weights, exported, *any_rows(5_000)).probability_difference_max <= 1e-5


def test_parity_sees_a_model_that_is_another_one(trained, drawn, exported):
    found = parity(drawn, exported, *any_rows(2_000))
    assert found.probability_difference_max > 1e-3
    assert not found.is_same_order


def test_torch_agrees_too(trained, exported):
    """The graph is written by hand, so that training's own arithmetic is held against it."""
    torch = pytest.importorskip("torch")
    weights, (features, ad_features) = trained.weights, any_rows(500)
    by_onnx = logits_by_onnx(open_session(exported), features, ad_features)
    rows = Examples(
        torch.from_numpy(features), torch.from_numpy(ad_features),
        torch.zeros(500), torch.ones(500),
    )  # fmt: skip
    for head in range(2):
        columns = slice(8 * head, 8 * head + 8)
        tables = Tables(
            *(
                torch.from_numpy(np.concatenate([bias[:, [head]], vectors[:, columns]], 1))
                for bias, vectors in (
                    (weights.context_bias, weights.context_vectors),
                    (weights.ad_bias, weights.ad_vectors),
                )
            ),
            bias=float(weights.bias[head]),
        )
        assert logits_of(tables, rows) == pytest.approx(by_onnx[:, head], abs=2e-5)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_any_number_of_rows_may_be_asked(trained, exported, count):
    features, ad_features = any_rows(count)
    found = logits_by_onnx(open_session(exported), features, ad_features)
    expected = logits_of_rows(trained.weights, features, ad_features)
    assert found == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(
    ("name", "row", "row_count"),
    [
        ("features", -1, CONTEXT_ROWS),
        ("features", CONTEXT_ROWS, CONTEXT_ROWS),
        ("ad_features", -1, AD_ROWS),
        ("ad_features", AD_ROWS, AD_ROWS),
    ],
)
def test_rows_outside_a_table_reach_neither_engine(trained, exported, name, row, row_count):
    rows = dict(zip(("features", "ad_features"), any_rows(3), strict=True))
    rows[name][1, 2] = row
    message = rf"holds row {row}; rows must be in \[0, {row_count}\)"
    with pytest.raises(BadInput, match=message):
        logits_by_onnx(open_session(exported), **rows)
    with pytest.raises(BadInput, match=message):
        logits_of_rows(trained.weights, **rows)


def test_the_model_is_one_file_of_its_weights_version(trained, exported, tmp_path):
    assert sorted(exported.parent.iterdir()) == [exported]
    model = onnx.load(exported)
    assert model.model_version == trained.weights.version
    assert exported.stat().st_size < 2_000_000
    assert export_onnx(trained.weights, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()


def test_a_file_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(Corrupt, match=r"none\.onnx"):
        open_session(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(Corrupt, match=r"text\.onnx"):
        open_session(tmp_path / "text.onnx")


def test_what_ships_is_the_same_model_twice():
    found = parity(read_artefact(), SHIPPED_ARTEFACT.with_suffix(".onnx"), *any_rows(5_000))
    assert found.probability_difference_max <= 1e-5
