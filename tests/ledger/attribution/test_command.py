"""The command as it is called, on a run whose store is stopped and on one whose store runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ledger.attribution.command import Report, rules_of
from ledger.attribution.terms import CREDIT_MICROS, Lookback, Rules
from market.errors import BadInput
from market.events import DAY_MS, EventKind
from tests.ledger.attribution.test_table import counted, history
from tests.ledger.stores import RunFolder

REPOSITORY = Path(__file__).parents[3]


def attribute(*arguments):
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "lodestone.py"), "attribute", *map(str, arguments)],
        capture_output=True,
        timeout=120,
        check=False,
    )


def report(*arguments):
    done = attribute(*arguments, "--json")
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Report)


def test_a_run_is_reported_alike_beside_its_store_and_after_it(tmp_path):
    folder = RunFolder(tmp_path)
    events = history(12, bid_count=200)
    bought = counted(events)
    bought = bought[bought["kind"] == EventKind.CONVERSION]
    with folder.running() as process:
        folder.wait_for(folder.write(*np.array_split(events, 2)), process)
        beside = report(tmp_path, "--model", "markov", "--model", "last-click")
    assert not beside.is_stored
    assert beside.rows_written == 0
    after = report(tmp_path, "--model", "markov", "--model", "last-click")
    assert after.is_stored
    assert after.channels == beside.channels
    assert after.conversions == bought.shape[0]
    for name in ("markov", "last_click"):
        shares = [earned.shares[name] for earned in after.channels if name in earned.shares]
        assert sum(share.credit_micros for share in shares) == bought.shape[0] * CREDIT_MICROS
        assert sum(share.value_micros for share in shares) == bought["value_micros"].sum()
    assert after.rows_written > bought.shape[0]
    again = report(tmp_path, "--model", "markov", "--model", "last-click")
    assert again == msgspec.structs.replace(after, rows_written=0)
    shown = attribute(tmp_path, "--by", "exchange").stdout.decode()
    assert "shapley" in shown
    assert f"{bought.shape[0]} conversions" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "best"], "model 'best': it must be one of last_click, first"),
        (["--by", "user"], "level 'user': it must be one of campaign"),
        (["--half-life-days", "0"], "half_life_ms 0"),
        (["--click-days", "-1"], "neither may be negative"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_code_2(tmp_path, arguments, said):
    done = attribute(tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_a_folder_without_a_store_is_refused(tmp_path):
    RunFolder(tmp_path)
    done = attribute(tmp_path)
    assert done.returncode == 2
    assert b"its store was never started" in done.stderr


def test_rules_have_ranges():
    assert rules_of(2, 0.5, 1) == Rules(
        lookback=Lookback(2 * DAY_MS, DAY_MS // 2), half_life_ms=DAY_MS
    )
    with pytest.raises(BadInput, match="sum to at most 1"):
        Rules(position_first=0.7, position_last=0.4)
    with pytest.raises(BadInput, match="touches_max 0"):
        Rules(touches_max=0)
    rules = Rules(lookbacks={7: Lookback(90 * DAY_MS, 0)})
    assert rules.lookback_of(7).view_ms == 0
    assert rules.lookback_of(8) == Lookback()
    assert rules.lookback_ms_max == 90 * DAY_MS
