"""Policies on the same days: pairing saves noise, intervals cover, an interrupt loses nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import simulator.world.scenario as worlds
from market.errors import BadInput
from simulator import what_if
from simulator.scenario import text_of
from simulator.what_if import (
    METRICS,
    Checkpoint,
    Outcome,
    check_chosen,
    compare,
    load_market,
    parse_policy,
    run_day,
)
from simulator.what_if_command import over_threads, run_simulate
from simulator.what_if_report import page, tables

ROOT = Path(__file__).parents[2]
STILL = (Path(worlds.__file__).parent / "scenarios" / "still_day.toml").read_text()


def small_text(opportunities=4_000):
    return (
        STILL.replace("200_000", str(opportunities))
        .replace("count = 20_000", "count = 500")
        .replace("count = 24", "count = 8")
        .replace("budget_micros = 1_000_000_000", "budget_micros = 20_000_000")
    )


@pytest.fixture(scope="module")
def scenario_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("worlds") / "small.toml"
    path.write_text(small_text())
    return str(path)


@pytest.fixture(scope="module")
def market(scenario_file):
    return load_market(scenario_file)


POLICIES = tuple(parse_policy(text) for text in ("pid", "constant:0.8", "off"))


@pytest.fixture(scope="module")
def outcomes(market):
    return [run_day(market, (0, 2), policy, 4, day) for day in range(6) for policy in POLICIES]


def test_off_bids_nothing_and_adds_nothing_and_others_go_on(outcomes):
    for outcome in outcomes:
        is_off = outcome.policy == "off"
        assert (outcome.spend_micros == 0) == is_off
        assert (outcome.exposures == 0) == is_off
        assert outcome.value_micros is not None
    assert sum(outcome.value_micros for outcome in outcomes if outcome.policy == "off") > 0


def test_a_day_depends_on_seed_and_number_only(market, outcomes):
    assert run_day(market, (0, 2), POLICIES[0], 4, 0) == outcomes[0]
    assert run_day(market, (0, 2), POLICIES[0], 5, 0) != outcomes[0]


def test_bands_and_differences_are_those_of_the_days(market, outcomes):
    found = compare(market, (0, 2), POLICIES, 4, outcomes)
    assert found.replications == 6
    spend = [o.spend_micros for o in outcomes if o.policy == "pid"]
    band = next(b for b in found.bands if (b.policy, b.metric) == ("pid", "spend_micros"))
    assert band.mean == pytest.approx(np.mean(spend))
    assert [band.p10, band.p50, band.p90] == pytest.approx(np.quantile(spend, [0.1, 0.5, 0.9]))
    other = [o.spend_micros for o in outcomes if o.policy == "constant:0.8"]
    change = np.subtract(other, spend)
    (difference,) = [
        d for d in found.differences if (d.policy, d.metric) == ("constant:0.8", "spend_micros")
    ]
    assert difference.baseline == "pid"
    assert difference.mean == pytest.approx(change.mean())
    # Student's t with 5 degrees of freedom, 97.5 %: 2.5706.
    reach = 2.5706 * change.std(ddof=1) / np.sqrt(6)
    assert difference.high - difference.mean == pytest.approx(reach, rel=1e-4)
    assert difference.mean - difference.low == pytest.approx(reach, rel=1e-4)


def test_what_does_not_exist_is_left_out(market, outcomes):
    found = compare(market, (0, 2), POLICIES, 4, outcomes)
    told = {(band.policy, band.metric) for band in found.bands}
    assert ("off", "cpa_micros") not in told
    assert ("off", "roas") not in told
    assert ("pid", "roas") in told
    one = compare(market, (0, 2), POLICIES, 4, outcomes[:3])
    assert one.replications == 1
    assert one.differences == ()


def outcome_of(day, policy, spend):
    return Outcome(day, policy, spend, 1, 1, 1.0, 1, None, None)


def test_intervals_of_the_mean_difference_cover_it_as_often_as_they_claim(market):
    """Days that share noise: 95 % intervals miss a true difference of 3 in 5 % of 400 cases."""
    draw = np.random.Generator(np.random.PCG64(5))
    pair = POLICIES[:2]
    missed, widths = 0, []
    for _ in range(400):
        shared = draw.normal(1000, 100, 8)
        days = [
            outcome_of(day, policy.text, shared[day] + 3 * (policy == pair[1]) + draw.normal(0, 2))
            for day in range(8)
            for policy in pair
        ]
        found = compare(market, (0,), pair, 1, days)
        spend = next(d for d in found.differences if d.metric == "spend_micros")
        missed += not spend.low <= 3 <= spend.high
        widths.append(spend.high - spend.low)
        assert spend.correlation > 0.9
    assert abs(missed - 20) < 4 * np.sqrt(400 * 0.05 * 0.95)
    # Unpaired, an interval were some 30 times as wide.
    assert np.mean(widths) < 10


def test_laws_wait_for_orders_that_are_under_way():
    """A median delay of an hour is two ticks; without the mechanism nothing is waited for."""
    waiting = load_market("market_day")
    assert waiting.lag_ticks == 2
    assert load_market("still_day").lag_ticks == 0
    # Where targets bind, what is taken for failures moves bids down.
    everybody, pid = range(waiting.agents.law.shape[0]), parse_policy("pid")
    patient, hasty = (
        run_day(market, everybody, pid, 1, 0) for market in (waiting, replace(waiting, lag_ticks=0))
    )
    assert patient.spend_micros > 1.01 * hasty.spend_micros


def test_auctionnets_market_is_a_market_too():
    found = cached_auctionnet()
    assert found.value_micros is None
    assert found.conversions > 0
    assert found.spend_micros > 0


def test_a_day_stops_whoever_has_less_than_the_scenario_s_minimum():
    market = load_market("auctionnet")
    assert market.min_remaining_micros == 100_000
    policy = parse_policy("constant:1,budget=0.001")
    strict = replace(market, min_remaining_micros=10**6)
    spends = [run_day(each, (0,), policy, 1, 0).spend_micros for each in (market, strict)]
    assert spends[0] > spends[1] > 0


@cache
def cached_auctionnet():
    return run_day(load_market("auctionnet"), (0,), POLICIES[0], 1, 0)


def test_a_name_that_is_no_market_is_told_which_are():
    for name in ("demo", "atlantis"):
        with pytest.raises(BadInput, match="one of auctionnet, market_day, rush_hour, still_day"):
            load_market(name)


def test_a_file_that_is_no_market_is_told_which_are(tmp_path):
    with pytest.raises(BadInput, match=r"No such file .* one of auctionnet, market_day"):
        load_market(str(tmp_path / "none.toml"))
    (tmp_path / "broken.toml").write_text("a = = 3")
    with pytest.raises(BadInput, match="must be TOML"):
        load_market(str(tmp_path / "broken.toml"))


def test_days_that_hand_orders_on_are_no_replications(tmp_path):
    path = tmp_path / "carried.toml"
    path.write_text("is_carried = true\n" + small_text())
    with pytest.raises(BadInput, match="every replication is a day by itself") as caught:
        load_market(str(path))
    assert caught.value.pointer == "/is_carried"


def test_a_period_scenario_is_known_by_its_values_however_they_are_written(tmp_path):
    text, _ = text_of("auctionnet")
    before, values = text.split("[values]\n")
    values, after = values.split("[auction]")
    pairs = ", ".join(values.split("\n")).strip(", ")
    inline = tmp_path / "inline.toml"
    inline.write_text(f"values = {{ {pairs} }}\n{before}[auction]{after}")
    assert load_market(str(inline)).agents.law.shape == (48,)


def test_a_policy_that_leaves_the_range_of_bids_is_refused_before_a_day_is_run(tmp_path):
    text, _ = text_of("auctionnet")
    path = tmp_path / "rich.toml"
    path.write_text(text.replace("limits = [60.0,", "limits = [90_000.0,"))
    agents = tuple(range(8))
    with pytest.raises(BadInput, match=r"policy 'pid,target=1000': agents.unit_micros"):
        run_simulate(str(path), ["pid", "pid,target=1000"], agents, 1, 1, tmp_path / "run")
    assert not (tmp_path / "run" / "days.ndjson").exists()


def test_policies_are_read_or_named_with_what_they_must_be():
    assert parse_policy("pacing:0.25").gain == 0.25
    for text in ("", "magic", "pid:1", "constant", "constant:", "pacing:x", "off:1", "constant:-1"):
        with pytest.raises(BadInput, match=r"must be|is no number"):
            parse_policy(text)
    with pytest.raises(BadInput, match="0 to 100"):
        parse_policy("constant:nan")
    assert parse_policy("pid,target=0.9,budget=2")[3:] == (2.0, 0.9)
    for text in ("pid,speed=2", "pid,budget=1,budget=2", "pid,budget=0", "pid,budget=x"):
        with pytest.raises(BadInput, match="policy 'pid,"):
            parse_policy(text)


def test_a_policy_may_change_budget_and_target_of_the_chosen_only(market):
    agents = parse_policy("pid,budget=2,target=0.5").applied(market.agents, (1,))
    others = [row for row in range(agents.law.shape[0]) if row != 1]
    assert agents.budget_micros[1] == 2 * market.agents.budget_micros[1]
    assert agents.unit_micros[1] == 0.5 * market.agents.unit_micros[1]
    for name, column in agents._asdict().items():
        assert np.array_equal(column[others], getattr(market.agents, name)[others]), name
    more = run_day(market, (1,), parse_policy("constant:1,budget=2"), 4, 0)
    less = run_day(market, (1,), parse_policy("constant:1,budget=0.1"), 4, 0)
    assert more.spend_micros > less.spend_micros > 0


def test_chosen_agents_exist(market):
    assert check_chosen(market, (3, 1, 3)) == (1, 3)
    with pytest.raises(BadInput, match="must be 0 to 7"):
        check_chosen(market, (8,))
    with pytest.raises(BadInput, match="at least one"):
        check_chosen(market, ())


def test_a_checkpoint_keeps_days_and_forgets_a_line_that_was_cut(tmp_path, market, outcomes):
    path = tmp_path / "days.ndjson"
    first = Checkpoint(path, market, (0, 2), 4)
    for outcome in outcomes[:5]:
        first.add(outcome)
    path.write_bytes(path.read_bytes() + b'{"replication": 1, "pol')
    again = Checkpoint(path, market, (0, 2), 4)
    assert again.outcomes == outcomes[:5]
    missing = [(day, policy.text) for day, policy in again.missing(POLICIES, 3)]
    assert missing == [(1, "off"), (2, "pid"), (2, "constant:0.8"), (2, "off")]
    again.add(outcomes[5])
    assert Checkpoint(path, market, (0, 2), 4).outcomes == outcomes[:6]


def test_a_checkpoint_of_another_run_is_refused(tmp_path, market):
    path = tmp_path / "days.ndjson"
    Checkpoint(path, market, (0, 2), 4)
    with pytest.raises(BadInput, match="of another seed, agents; name another folder"):
        Checkpoint(path, market, (1,), 5)
    path.write_text("hello\n")
    with pytest.raises(BadInput, match="or removed"):
        Checkpoint(path, market, (0, 2), 4)


def test_what_is_no_checkpoint_is_left_as_it_was(tmp_path, market):
    path = tmp_path / "days.ndjson"
    for text in ("a note that ends without a line", "a note\nand more", '{"a": 1}\n{"b": 2'):
        path.write_text(text)
        with pytest.raises(BadInput, match="or removed"):
            Checkpoint(path, market, (0, 2), 4)
        assert path.read_text() == text


def test_a_checkpoint_whose_first_line_was_cut_is_started_anew(tmp_path, market, outcomes):
    path = tmp_path / "days.ndjson"
    Checkpoint(path, market, (0, 2), 4)
    whole = path.read_bytes()
    for size in (0, 20, len(whole) - 1):
        path.write_bytes(whole[:size])
        Checkpoint(path, market, (0, 2), 4).add(outcomes[0])
        assert path.read_bytes().startswith(whole)
        assert Checkpoint(path, market, (0, 2), 4).outcomes == outcomes[:1]


@pytest.mark.parametrize("place", ["file", "file/inside", "folder"])
def test_a_folder_that_is_none_is_told(tmp_path, market, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "days.ndjson").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"must be a folder that can be written"):
        Checkpoint(tmp_path / place / "days.ndjson", market, (0, 2), 4)


def test_days_of_other_rules_are_not_mixed_in(tmp_path, market, monkeypatch):
    path = tmp_path / "days.ndjson"
    Checkpoint(path, market, (0, 2), 4)
    monkeypatch.setattr(what_if, "EDITION", what_if.EDITION + 1)
    with pytest.raises(BadInput, match="of another edition; name another folder"):
        Checkpoint(path, market, (0, 2), 4)


def test_fewer_days_than_are_kept_may_be_asked_for(tmp_path, scenario_file):
    for count in (3, 2):
        assert run_simulate(scenario_file, ["pid"], (0,), count, 9, tmp_path) == 0
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["replications"] == 2
    assert {band["days"] for band in found["bands"]} == {2}


def test_threads_change_nothing_and_an_earlier_run_is_extended(tmp_path, scenario_file, capsys):
    texts = [policy.text for policy in POLICIES]
    one, two = tmp_path / "one", tmp_path / "two"
    assert run_simulate(scenario_file, texts[:2], (0,), 2, 9, one) == 0
    assert run_simulate(scenario_file, texts, (0,), 4, 9, one, as_json=True) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert run_simulate(scenario_file, texts, (0,), 4, 9, two, mapper=over_threads(3)) == 0
    assert (one / "comparison.json").read_bytes() == (two / "comparison.json").read_bytes()
    assert (one / "report.html").read_bytes() == (two / "report.html").read_bytes()
    assert printed == json.loads((two / "comparison.json").read_text())
    assert printed["replications"] == 4
    assert "difference" in capsys.readouterr().out.lower()


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.pictures, self.fetched = 0, 0, []

    def handle_starttag(self, tag, attrs):
        self.rows += tag == "tr"
        self.pictures += tag == "svg"
        self.fetched += [value for name, value in attrs if name in ("src", "href")]


def test_the_page_has_every_number_and_fetches_nothing(market, outcomes):
    found = compare(market, (0, 2), POLICIES, 4, outcomes)
    seen = _Page()
    seen.feed(page(found))
    assert seen.rows == len(found.bands) + len(found.differences) + 2
    assert seen.pictures == 2
    assert all(value.startswith("#") for value in seen.fetched)
    assert [table.row_count for table in tables(found)] == [
        len(found.bands),
        len(found.differences),
    ]
    assert {band.metric for band in found.bands} == set(METRICS)


def cells(found):
    """What the tables say, as {(metric, policy): cells}, bands and differences."""
    return [
        {(row[0], row[1]): row[2:] for row in zip(*(c.cells for c in table.columns), strict=True)}
        for table in tables(found)
    ]


def test_the_tables_say_what_was_found(market):
    days = [
        Outcome(day, policy, spend, 7, count, 1.0, 9_000_000, None, value)
        for day, (low, high) in enumerate([(1_000_000, 3_000_000), (2_000_000, 4_500_000)])
        for policy, spend, count, value in (
            ("pid", low, 4, -100_000_000), ("constant:0.8", high, day, 50_000_000),
        )
    ]  # fmt: skip
    bands, changes = cells(compare(market, (0,), POLICIES[:2], 4, days))
    assert bands["spend", "pid"] == ("1.50", "1.10", "1.50", "1.90")
    assert bands["ROAS", "pid"] == ("6.750", "4.950", "6.750", "8.550")
    # Of two days one has no conversion, so there is one CPA.
    assert bands["CPA (1 of 2 days)", "constant:0.8"][0] == "4.50"
    # 2 and 2.5: mean 2.25, and Student's t with one degree of freedom, 12.7062, times .25.
    assert changes["spend", "constant:0.8"] == ("2.25", "-0.93", "5.43", "+150.0%", "1.00")
    # The baseline's mean is -100: 150 more are more, not less.
    assert changes["added by advertising", "constant:0.8"][3] == "+150.0%"


def test_a_page_without_anything_to_compare_has_no_picture_of_it(market):
    nothing = [Outcome(day, policy, 0, 0, 0, 0.0, 0, None, None)
               for day in range(2) for policy in ("pid", "off")]  # fmt: skip
    seen = _Page()
    seen.feed(page(compare(market, (0,), (POLICIES[0], POLICIES[2]), 4, nothing)))
    assert seen.pictures == 1


@pytest.fixture
def interruptible():
    """A process that was started in the background ignores Ctrl-C, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_keeps_what_was_run(tmp_path):
    """Ctrl-C in the middle of many days: exit code 130, and the same command goes on."""
    scenario = tmp_path / "small.toml"
    scenario.write_text(small_text(40_000))
    command = [
        sys.executable, "lodestone.py", "simulate", str(scenario), "--policy", "pid", "--policy",
        "off", "--replications", "2000", "--folder", str(tmp_path / "run"),
    ]  # fmt: skip
    days = tmp_path / "run" / "days.ndjson"
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 120
            while not days.exists() or days.read_text().count("\n") < 4:
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()  # nothing to wait for, whatever went wrong
    assert process.returncode == 130
    assert "the same command goes on" in said
    kept = days.read_text().splitlines()[1:]
    assert len(kept) >= 3
    assert all("spend_micros" in json.loads(line) for line in kept)
    assert run_simulate(str(scenario), ["pid", "off"], (0,), 1, 1, tmp_path / "run") == 0
    assert days.read_text().splitlines()[1:] == kept
