"""Settings compared on the same coins: what is said, how sure, and that a run can go on."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.errors import BadInput, Corrupt
from simulator.scenario import text_of
from simulator.what_if.command import CHECKPOINT, INTERRUPTED, over_threads, run_simulate
from simulator.what_if.comparison import COST, SUMS, Comparison, compare, paired_interval
from simulator.what_if.page import page_of
from simulator.what_if.setting import Setting, read_setting, read_settings
from simulator.what_if.trial import Checkpoint, Outcome, Plan, Trial, run_trial
from tests.reference import what_if as slow

WAYS = ("pid", "gentle=pacing,gain=0.3", "bold=pid,budget=2")


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """A market as AuctionNet's with fewer opportunities and more conversions."""
    text, _ = text_of("auctionnet")
    text = text.replace("opportunity_count = 500_000", "opportunity_count = 5_000")
    text = text.replace("mean = 0.0005", "mean = 0.05")
    path = tmp_path_factory.mktemp("markets") / "small.toml"
    path.write_text(text)
    return str(path)


def plan_of(market, ways=WAYS, rows=(0, 9)):
    return Plan(market, 3, rows, read_settings(ways))


def read_comparison(out):
    return msgspec.json.decode((out / "comparison.json").read_bytes(), type=Comparison)


@pytest.fixture(scope="module")
def run(market, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    run_simulate(plan_of(market), 6, out, over_threads(1), as_json=True)
    return out


def test_a_comparison_says_what_each_setting_brings_and_what_is_different(run):
    found = read_comparison(run)
    assert [each.setting for each in found.forecasts] == ["pid", "gentle", "bold"]
    assert found.baseline == "pid"
    assert found.periods == 6
    for each in found.forecasts:
        for metric in (*SUMS, COST):
            band = each.bands[metric]
            assert 0 < band.p10 <= band.p50 <= band.p90
        assert sum(each.spend_by_tick) == pytest.approx(each.mean["spend_micros"])
    by_name = {(each.setting, each.metric): each for each in found.differences}
    assert len(by_name) == 12
    assert by_name["bold", "spend_micros"].mean > 0
    assert by_name["bold", "spend_micros"].is_clear


def test_threads_and_a_loop_find_the_same(run, market, tmp_path):
    run_simulate(plan_of(market), 6, tmp_path, over_threads(3), as_json=True)
    for name in ("comparison.json", "report.html"):
        assert (tmp_path / name).read_bytes() == (run / name).read_bytes()


def test_the_same_setting_under_another_name_differs_by_nothing(market):
    plan = plan_of(market, ("pid", "again=pid"))
    found = compare(plan, [run_trial(plan, period) for period in range(3)])
    for each in found.differences:
        assert each.mean == each.low == each.high == 0.0
        assert not each.is_clear


def test_an_interrupted_run_goes_on_and_comes_to_the_same(run, market, tmp_path, capsys):
    def interrupted(function, items):
        for item in items[:2]:
            yield function(item)
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        run_simulate(plan_of(market), 6, tmp_path, interrupted, as_json=True)
    assert ended.value.code == INTERRUPTED
    assert "stopped with 2 of 6 periods" in capsys.readouterr().err
    # A crash in the middle of a line loses that line and nothing else.
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-7])
    played = []

    def counted(function, items):
        played.extend(items)
        return map(function, items)

    run_simulate(plan_of(market), 6, tmp_path, counted, as_json=True)
    assert played == [1, 2, 3, 4, 5]
    assert (tmp_path / "comparison.json").read_bytes() == (run / "comparison.json").read_bytes()


def test_a_folder_of_another_comparison_or_with_damage_is_refused(run, market, tmp_path):
    with pytest.raises(BadInput, match="another comparison"):
        Checkpoint(run / CHECKPOINT, plan_of(market, rows=(1,)))
    path = tmp_path / CHECKPOINT
    lines = (run / CHECKPOINT).read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b"{", *lines[1:]]))
    with pytest.raises(Corrupt, match="line 2"):
        Checkpoint(path, plan_of(market))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pid", Setting("pid", "pid")),
        ("a b=pacing", Setting("a b", "pacing")),
        ("x=constant, gain = 0.5,target=0.9", Setting("x", "constant", 0.5, 1.0, 0.9)),
    ],
)
def test_settings_are_read(text, expected):
    assert read_setting(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("greedy", "law is 'greedy'; it must be one of constant, pid, pacing"),
        ("pid,speed=2", "'speed=2'; it must be one each of gain=NUMBER"),
        ("pid,gain=1,gain=2", "'gain=2'"),
        ("pid,budget=much", "budget is 'much'; it must be a number"),
        ("pid,budget=0", "budget is 0; it must be 1e-06 to 1000"),
        ("pid,gain=nan", "gain is nan"),
    ],
)
def test_a_setting_that_breaks_a_rule_is_named(text, message):
    with pytest.raises(BadInput, match=message):
        read_setting(text)


def test_a_comparison_needs_two_settings_periods_and_agents_that_exist(market, tmp_path):
    with pytest.raises(BadInput, match="1 given; name at least two"):
        read_settings(["pid"])
    with pytest.raises(BadInput, match="'pid' stands twice"):
        read_settings(["pid", "pid"])
    with pytest.raises(BadInput, match=r"\[48\]; it must be one of 0 to 47"):
        plan_of(market, rows=(0, 48)).check()
    with pytest.raises(BadInput, match="--periods is 1"):
        run_simulate(plan_of(market), 1, tmp_path, over_threads(1), as_json=True)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=10, max_size=10))
def test_paired_intervals_are_the_textbooks(differences):
    found, expected = paired_interval(np.array(differences)), slow.paired_interval(differences)
    # Tables give t to four digits.
    atol = 1e-3 * (expected[2] - expected[1]) + 1e-6
    assert np.allclose(found, expected, rtol=1e-9, atol=atol)


def outcome(spend, conversions):
    return Outcome(spend, 1, conversions, float(conversions), 0, 0.0, (spend,))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(*([st.integers(1, 10**9), st.integers(1, 100)] * 2)), min_size=5, max_size=5)
)
def test_a_cost_per_conversion_has_the_jackknifes_interval(periods):
    plan = Plan("any", 1, (0,), read_settings(WAYS[:2]))
    trials = [Trial(n, (outcome(*row[:2]), outcome(*row[2:]))) for n, row in enumerate(periods)]
    found = next(each for each in compare(plan, trials).differences if each.metric == COST)
    base_spend, base, spend, conversions = zip(*periods, strict=True)
    expected = slow.ratio_interval(spend, conversions, base_spend, base)
    # Tables give t to four digits.
    atol = 1e-3 * (expected[2] - expected[1]) + 1e-6
    assert np.allclose((found.mean, found.low, found.high), expected, rtol=1e-9, atol=atol)


def test_without_conversions_nothing_is_said_of_their_cost():
    plan = Plan("any", 1, (0,), read_settings(WAYS[:2]))
    trials = [Trial(n, (outcome(5, 0), outcome(5, 2))) for n in range(3)]
    found = compare(plan, trials)
    assert found.forecasts[0].mean[COST] is None
    assert found.forecasts[0].periods_without_conversions == 3
    cost = next(each for each in found.differences if each.metric == COST)
    assert (cost.mean, cost.is_clear) == (None, False)
    assert "no conversions" in page_of(found, plan.settings)


def test_the_page_is_whole_and_safe(run, market):
    ways = ("<b>&=pid", *WAYS[1:])
    plan = plan_of(market, ways)
    found = compare(plan, [run_trial(plan, period) for period in range(2)])
    page = page_of(found, plan.settings)
    assert "<b>&" not in page
    assert page == page_of(found, plan.settings)
    body = page.removeprefix("<!DOCTYPE html>\n")
    assert ET.fromstring(body).tag == "html"
    assert page.count("<svg") == 3
