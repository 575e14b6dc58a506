import hashlib

import msgspec
import numpy as np
import pytest

from bidder.recommendation.card import Scores
from bidder.recommendation.network import (
    SHIPPED_ARTEFACT,
    Weights,
    check_rows,
    creative_tables,
    read_artefact,
    read_card,
    weights_of,
    write_artefact,
)
from market.errors import BadInput, Corrupt
from market.features import AD_ROWS, CONTEXT_ROWS
from tests.reference import recommendation as reference

SCORES = Scores(None, None)


def written(path, weights):
    return write_artefact(
        path, weights, command="train it", seed=7, data="a log", row_count=3, scores=SCORES
    )


def test_an_artefact_reads_back_as_it_was_written(tmp_path, drawn):
    card = written(tmp_path / "response.npz", drawn)
    found = read_artefact(tmp_path / "response.npz")
    for name in Weights._fields[:-1]:
        assert np.array_equal(getattr(found, name), getattr(drawn, name)), name
    assert found.version == drawn.version == card.version
    assert read_card(tmp_path / "response.npz") == card


def test_equal_weights_give_equal_bytes_and_equal_versions(tmp_path, drawn):
    written(tmp_path / "one.npz", drawn)
    again = weights_of(*(table.copy() for table in drawn[:-1]))
    written(tmp_path / "two.npz", again)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert again.version == drawn.version


@pytest.mark.parametrize("name", Weights._fields[:-1])
def test_one_changed_number_anywhere_changes_the_version(drawn, name):
    table = getattr(drawn, name).copy()
    table.flat[-1] += 1.0
    changed = weights_of(*drawn._replace(**{name: table})[:-1])
    assert changed.version != drawn.version
    assert 0 < changed.version < 2**32


def test_a_damaged_artefact_is_refused(tmp_path, drawn):
    path = tmp_path / "response.npz"
    written(path, drawn)
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    with pytest.raises(Corrupt, match="sha256"):
        read_artefact(path)


def test_an_artefact_without_its_card_is_refused(tmp_path, drawn):
    path = tmp_path / "response.npz"
    written(path, drawn)
    path.with_suffix(".json").unlink()
    with pytest.raises(Corrupt, match="card"):
        read_artefact(path)


def test_a_card_with_the_right_hash_and_another_version_is_refused(tmp_path, drawn):
    path = tmp_path / "response.npz"
    card = written(path, drawn)
    forged = msgspec.structs.replace(card, version=card.version ^ 1)
    path.with_suffix(".json").write_bytes(msgspec.json.encode(forged))
    with pytest.raises(Corrupt, match="version"):
        read_artefact(path)


def test_an_artefact_with_tables_of_another_model_is_refused(tmp_path, drawn):
    path = tmp_path / "response.npz"
    card = written(path, drawn)
    with path.open("wb") as file:
        np.savez(file, **{**drawn._asdict(), "ad_bias": drawn.ad_bias[:-1]})
    body = path.read_bytes()
    forged = msgspec.structs.replace(card, sha256=hashlib.sha256(body).hexdigest())
    path.with_suffix(".json").write_bytes(msgspec.json.encode(forged))
    with pytest.raises(Corrupt, match="ad_bias"):
        read_artefact(path)


def test_weights_that_are_not_finite_are_refused(drawn):
    table = drawn.context_bias.copy()
    table[3, 1] = np.inf
    with pytest.raises(BadInput, match="context_bias: holds a number that is not finite"):
        weights_of(*drawn._replace(context_bias=table)[:-1])


def test_an_artefact_cannot_be_written_to_by_who_reads_it(tmp_path, drawn):
    written(tmp_path / "response.npz", drawn)
    with pytest.raises(ValueError, match="read-only"):
        read_artefact(tmp_path / "response.npz").bias[0] = 0.0


@pytest.mark.parametrize(
    ("rows", "wrong"), [([-1, 0], -1), ([0, CONTEXT_ROWS], CONTEXT_ROWS), ([2**32 - 1], 2**32 - 1)]
)
def test_rows_outside_their_table_are_named_and_refused(rows, wrong):
    with pytest.raises(BadInput, match=rf"features: holds row {wrong}; rows must be in \[0, 6144"):
        check_rows(np.array(rows, np.int64), CONTEXT_ROWS, "features")


def test_the_first_and_last_row_of_a_table_pass():
    check_rows(np.array([[0, CONTEXT_ROWS - 1]], np.uint32), CONTEXT_ROWS, "features")
    check_rows(np.empty((0, 12), np.uint32), CONTEXT_ROWS, "features")


@pytest.mark.parametrize("row", [-1, AD_ROWS])
def test_publishing_refuses_ad_rows_outside_the_table(drawn, row):
    with pytest.raises(BadInput, match=f"ad_feature_rows: holds row {row}"):
        creative_tables(drawn, np.array([[0, 1, 2, 3, 4, row]], np.int64))


def test_a_creative_publishes_alike_alone_and_among_others(drawn):
    rng = np.random.default_rng(2)
    rows = rng.integers(0, AD_ROWS, (300, 6)).astype(np.uint32)
    vectors, bias = creative_tables(drawn, rows)
    assert vectors.dtype == bias.dtype == np.float32
    for n in range(0, 300, 17):
        alone_vectors, alone_bias = creative_tables(drawn, rows[n : n + 1])
        assert np.array_equal(alone_vectors[0], vectors[n])
        assert np.array_equal(alone_bias[0], bias[n])


def test_a_creatives_bias_holds_the_heads_bias_and_no_context(drawn):
    rows = np.array([[7 * 40, 301, 519, 770, 1030, 1400]], np.uint32)
    _, bias = creative_tables(drawn, rows)
    for head in range(2):
        expected = reference.logit(head, [], rows[0], drawn)
        assert bias[0, head] == pytest.approx(expected, abs=1e-6)


def test_no_creative_publishes_as_empty_tables(drawn):
    vectors, bias = creative_tables(drawn, np.empty((0, 6), np.uint32))
    assert vectors.shape == (0, 16)
    assert bias.shape == (0, 2)


def test_what_ships_is_whole_small_and_says_how_it_was_made():
    weights = read_artefact()
    card = read_card()
    assert weights.version == card.version
    assert SHIPPED_ARTEFACT.stat().st_size < 2_000_000
    onnx = SHIPPED_ARTEFACT.with_suffix(".onnx")
    assert onnx.stat().st_size < 2_000_000
    assert hashlib.sha256(onnx.read_bytes()).hexdigest() == card.onnx_sha256
    assert card.command.endswith(f"--seed {card.seed}")
    assert card.data
    for head in (card.scores.pctr, card.scores.pcvr):
        served = getattr(head, head.serves)
        assert served.log_loss < head.constant_log_loss
        assert abs(served.bias_ratio - 1.0) < 4.0 / np.sqrt(head.positive_count)
