import csv
from pathlib import Path

import numpy as np
import pytest

from bidder.recommendation.off_policy import off_policy_value
from bidder.recommendation.open_bandit import model_policy, read_bandit_log, response_log_of
from bidder.recommendation.response_log import check_log
from market.creative import AD_FIELDS
from market.errors import BadInput
from market.features import AD_BUCKETS, CONTEXT_BUCKETS

REAL = Path(__file__).parents[4] / "shared" / "data" / "open_bandit"

needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"no Open Bandit logs in {REAL}")


def write_logs(folder, rows=400, item_count=4):
    """Writes both policies' logs in the format, of our own making."""
    rng = np.random.default_rng(9)
    for policy in ("random", "bts"):
        path = folder / f"{policy}_all"
        path.mkdir(parents=True)
        with (path / "item_context.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["", "item_id", *(f"item_feature_{k}" for k in range(4))])
            for item in range(item_count):
                # hashed texts differ between policies, as in the original
                writer.writerow([item, item, item - 1.5, f"{policy}{item % 2}", policy, f"x{item}"])
        with (path / "all.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["", "timestamp", "item_id", "position", "click", "propensity_score",
                 *(f"user_feature_{k}" for k in range(4))]
            )  # fmt: skip
            for n in range(rows):
                user = rng.integers(0, 3, 4)
                item = int(rng.integers(0, item_count))
                click = int(rng.random() < (0.5 if item == 2 else 0.1))
                at = f"2019-11-24 {n // 60:02d}:{n % 60:02d}:00.500000+00:00"
                writer.writerow(
                    [n, at, item, n % 3 + 1, click, 1.0 / item_count, *(f"u{x}" for x in user)]
                )


def test_a_log_becomes_hashed_fields_of_its_own(tmp_path):
    write_logs(tmp_path)
    log = read_bandit_log(tmp_path, "random")
    check_log(response_log_of(log))
    fields = log.features.astype(np.int64) - np.arange(12) * CONTEXT_BUCKETS
    assert ((fields >= 0) & (fields < CONTEXT_BUCKETS)).all()
    # placement, hour, gender, age band and two segments carry something; the others are absent
    assert [f for f in range(12) if fields[:, f].any()] == [5, 6, 7, 8, 9, 10]
    assert [len(np.unique(fields[:, f])) for f in (5, 6, 7)] == [3, 7, 3]
    ads = log.item_features.astype(np.int64) - np.arange(6) * AD_BUCKETS
    present = {name: len(np.unique(ads[:, k])) for k, name in enumerate(AD_FIELDS)}
    assert present == {
        "category": 2, "format": 1, "size": 4, "headline": 4, "layout": 4, "palette": 1,
    }  # fmt: skip
    assert not ads[:, AD_FIELDS.index("palette")].any()
    assert log.ts_ms[1] - log.ts_ms[0] == 60_000
    assert log.ts_ms[0] % 1000 == 500


def test_both_policies_items_have_the_same_rows(tmp_path):
    write_logs(tmp_path)
    random, thompson = (read_bandit_log(tmp_path, policy) for policy in ("random", "bts"))
    assert np.array_equal(random.item_features, thompson.item_features)


def test_a_models_policy_is_a_distribution_that_prefers_what_it_predicts(tmp_path, drawn):
    write_logs(tmp_path, rows=30)
    log = read_bandit_log(tmp_path, "random")
    found = model_policy(drawn, log)
    assert found.shape == (30, 4)
    assert found.sum(1) == pytest.approx(np.ones(30))
    assert (found > 0.0).all()
    assert found.max() > found.min()


@pytest.mark.parametrize("name", ["random_all/all.csv", "random_all/item_context.csv"])
def test_one_line_says_which_file_is_missing(tmp_path, name):
    write_logs(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BadInput, match=name) as caught:
        read_bandit_log(tmp_path, "random")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"), [("timestamp", "time"), (",0.25,", ",often,"), ("2019-11-24", "yesterday")]
)
def test_a_file_of_another_format_is_refused(tmp_path, old, new):
    write_logs(tmp_path)
    path = tmp_path / "random_all" / "all.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(BadInput, match=r"all\.csv"):
        read_bandit_log(tmp_path, "random")


@needs_real
def test_the_uniform_policys_value_under_the_thompson_log_is_the_known_one():
    """Figures measured elsewhere on the same files with another program."""
    log = read_bandit_log(REAL, "bts")
    rewards, uniform = log.clicked.astype(float), np.full(log.items.shape[0], 1.0 / 80.0)
    plain = off_policy_value(rewards, uniform, log.propensity)
    assert plain.ips == pytest.approx(0.0024, abs=5e-5)
    assert plain.snips == pytest.approx(0.0023, abs=5e-5)
    assert plain.effective_sample_size == pytest.approx(340.0, abs=1.0)
    assert plain.weight_max == pytest.approx(278.0, abs=0.5)
    clipped = off_policy_value(rewards, uniform, log.propensity, clip=10.0)
    assert clipped.snips == pytest.approx(0.0031, abs=5e-5)


@needs_real
def test_the_real_logs_have_the_rows_and_clicks_that_are_known_of_them():
    for policy, clicks in (("random", 38), ("bts", 42)):
        log = read_bandit_log(REAL, policy)
        assert log.items.shape == (10_000,)
        assert int(log.clicked.sum()) == clicks
        assert log.item_features.shape == (80, len(AD_FIELDS))
        check_log(response_log_of(log))
