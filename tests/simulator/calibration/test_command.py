"""The command: what it refuses, what it writes, and that an interrupted run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import lodestone
from bench.hidden_markets import bid_day, hidden_market
from ledger.loader import event_table
from market.errors import BadInput
from simulator.calibration import command
from simulator.calibration.fidelity import Effort
from simulator.calibration.terms import read_calibration
from simulator.scenario import load
from tests.simulator.calibration.logs import ipinyou_text

DATA = Path(__file__).parents[4] / "shared" / "data"
SMALL = Effort(twin_days=2, naive_days=2, floor_pairs=10)


def run(path, out, **given):
    values = {"template": "parity", "seed": 1, "as_json": False, "effort": SMALL, **given}
    return command.run_calibrate(path, out, **values)


@pytest.fixture
def two_days(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text(ipinyou_text(range(48), 60))
    return path


def test_it_writes_the_report_and_what_was_fitted(two_days, tmp_path, capsys):
    out = tmp_path / "out"
    report = run(two_days, out)
    assert sorted(path.name for path in out.iterdir()) == [
        "calibration.toml", "report.html", "report.json",
    ]  # fmt: skip
    assert read_calibration((out / "calibration.toml").read_text()) == report.calibration
    told = json.loads((out / "report.json").read_text())
    assert [row["name"] for row in told["rows"]] == [
        "requests per hour", "requests by hour", "win price", "win price by hour", "CTR",
    ]  # fmt: skip
    page = (out / "report.html").read_text()
    ElementTree.fromstring(page.split("\n", 1)[1])
    assert any("shows no rivals" in note for note in report.notes)
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "no evidence" in page
    assert "UTC" not in page, "the file counts hours, and does not say of which clock"
    assert "quarantine.ndjson" not in page, "there is none"
    assert "win price by hour" in capsys.readouterr().out


def test_bad_lines_are_quarantined_beside_the_report_and_counted(two_days, tmp_path):
    out = tmp_path / "out"
    lines = two_days.read_text().splitlines()
    lines[5] = "0 x 0.1 0"
    lines.insert(100, "half a li")
    two_days.write_text("\n".join(lines) + "\n")
    report = run(two_days, out)
    assert report.quarantined == 2
    bad = [json.loads(line) for line in (out / "quarantine.ndjson").read_text().splitlines()]
    assert [(line["line"], line["text"]) for line in bad] == [(6, "0 x 0.1 0"), (101, "half a li")]
    assert report.fitted.rows + report.held_back.rows + report.quarantined == len(lines)
    two_days.write_text(ipinyou_text(range(48), 60))
    assert run(two_days, out).quarantined == 0
    assert not (out / "quarantine.ndjson").exists(), "of an earlier run"


def test_an_empty_log_a_short_one_and_none_are_refused(tmp_path):
    for text, why in (("", "empty"), (ipinyou_text(range(5), 50), "6 hours")):
        path = tmp_path / "log.txt"
        path.write_text(text)
        with pytest.raises(BadInput, match=why):
            run(path, tmp_path / "out")
    with pytest.raises(BadInput, match="no such"):
        run(tmp_path / "nothing.txt", tmp_path / "out")


def test_a_log_of_bad_lines_only_is_refused_and_its_lines_are_kept(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("a b c\n" * 3)
    with pytest.raises(BadInput, match="empty"):
        run(path, tmp_path / "out")
    assert len((tmp_path / "out" / "quarantine.ndjson").read_text().splitlines()) == 3


def test_an_interrupted_run_leaves_a_checkpoint_and_goes_on_to_the_same_report(
    two_days, tmp_path, monkeypatch
):
    whole = run(two_days, tmp_path / "whole")
    out = tmp_path / "out"
    add = command.Checkpoint.add
    steps = []

    def interrupted(self, step):
        add(self, step)
        steps.append((step.phase, step.number))
        if len(steps) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.Checkpoint, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(two_days, out)
    assert len((out / "checkpoint.ndjson").read_text().splitlines()) == 6
    with (out / "checkpoint.ndjson").open("a") as file:
        file.write('{"phase": "fl')
    resumed = run(two_days, out)
    assert len(steps) == len(SMALL.steps()), "nothing is done twice"
    assert len(set(steps)) == len(steps)
    assert msgspec.structs.replace(resumed, log=whole.log) == whole
    assert not (out / "checkpoint.ndjson").exists()


def test_a_checkpoint_of_another_log_is_not_used(two_days, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def stop(self, step):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.Checkpoint, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        run(two_days, out)
    before = (out / "checkpoint.ndjson").read_text()
    two_days.write_text(ipinyou_text(range(48), 61))
    with pytest.raises(KeyboardInterrupt):
        run(two_days, out)
    assert (out / "checkpoint.ndjson").read_text() != before


def test_the_command_line_says_in_one_line_what_is_wrong(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text(ipinyou_text(range(3), 10))
    result = CliRunner().invoke(
        lodestone.app, ["calibrate", str(path), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code != 0
    assert isinstance(result.exception, BadInput)
    assert "6 hours" in str(result.exception)


def test_a_ledger_becomes_a_scenario(tmp_path):
    market = hidden_market(6)
    day = bid_day(market, 9)
    path = tmp_path / "events.parquet"
    pq.write_table(event_table(day.events), path)
    report = run(path, tmp_path / "out")
    assert {"win rate by bid", "spend by bid multiplier"} <= {row.name for row in report.rows}
    scenario = load(str(tmp_path / "out" / "scenario.toml"))
    assert scenario.name == "parity-fitted"
    assert len(scenario.competitors) == len(report.calibration.rivals.rivals)
    rates = [rate.value for rate in report.calibration.supply.requests_per_hour]
    assert scenario.requests_per_day == round(sum(rates))


def test_the_real_logs_say_what_they_can_and_no_more(tmp_path):
    if not DATA.exists():
        pytest.skip("../shared/data is missing: iPinYou logs of won impressions")
    effort = Effort(twin_days=2, naive_days=2, floor_pairs=5)
    report = run(DATA / "ipinyou_1458", tmp_path / "out", effort=effort)
    assert (report.fitted.rows, report.held_back.rows) == (220_000, 80_000)
    rows = {row.name: row for row in report.rows}
    assert rows["CTR"].verdict == "no evidence", "51 clicks cannot show a fifth"
    assert rows["win price"].verdict in {"better", "within noise"}
    assert rows["win price by hour"].detectable <= 0.05, "there is evidence, whatever it says"
    assert "win rate by bid" not in rows
    assert report.calibration.rivals is None
