import numpy as np
import pytest

from bidder.recommendation.response_log import check_log, read_log, write_log
from market.errors import BadInput
from market.features import AD_ROWS, CONTEXT_ROWS
from tests.bidder.recommendation.known_world import known_world


def test_a_log_reads_back_as_it_was_written(tmp_path):
    log = known_world(1, 200).log
    write_log(tmp_path / "log.npz", log)
    for found, expected in zip(read_log(tmp_path / "log.npz"), log, strict=True):
        assert np.array_equal(found, expected)
        assert found.dtype == expected.dtype


def test_a_file_that_is_no_log_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"missing\.npz"):
        read_log(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(BadInput, match=r"text\.npz"):
        read_log(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", features=np.zeros(3))
    with pytest.raises(BadInput, match=r"other\.npz"):
        read_log(tmp_path / "other.npz")


def changed(name, row, value):
    log = known_world(1, 200).log
    array = getattr(log, name).copy()
    array[row] = value
    return log._replace(**{name: array})


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (changed("features", (3, 0), CONTEXT_ROWS), f"features: holds row {CONTEXT_ROWS}"),
        (changed("ad_features", (3, 0), AD_ROWS), f"ad_features: holds row {AD_ROWS}"),
        (changed("clicked", 3, 2), "clicked: holds 2"),
        (changed("ts_ms", 9, 0), "ts_ms: row 9 is earlier"),
        (changed("weight", 9, -1.0), "weight: every weight"),
        (changed("weight", 9, np.nan), "weight: every weight"),
        (known_world(1, 200).log._replace(clicked=np.zeros(200)), "clicked: shape"),
        (known_world(1, 200).log._replace(features=np.zeros((200, 5), np.uint32)), "features: sh"),
    ],
)
def test_a_log_that_breaks_a_rule_is_refused_with_the_rule(log, message):
    with pytest.raises(BadInput, match=message):
        check_log(log)


def test_a_conversion_without_a_click_is_refused():
    log = known_world(1, 200).log
    row = int(np.flatnonzero(log.clicked == 0)[0])
    log.converted[row] = 1
    with pytest.raises(BadInput, match=f"converted: row {row} is 1 and clicked 0"):
        check_log(log)
