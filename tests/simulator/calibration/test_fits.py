"""Fits against truth that is known, and against slow definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.errors import BadInput
from simulator.calibration.delays import click_places, delay_log_likelihood, fit_delays
from simulator.calibration.fit import calibrate
from simulator.calibration.log import HOUR_MS, NEVER, check_hours, hours_of, rows_of, split
from simulator.calibration.play import forecast, play
from simulator.calibration.prices import fit_landscape, product_limit
from simulator.calibration.rates import fit_response, fit_supply
from simulator.calibration.reading import read_ipinyou
from simulator.calibration.rivals import fit_rivals, win_probabilities
from simulator.calibration.terms import read_calibration
from tests.reference import calibration as reference
from tests.simulator.calibration.logs import START_MS, bid_log, ipinyou_text

TRUTH = {"presence": 0.8, "cpm_median": 2.0, "sigma": 0.5}


@pytest.mark.parametrize("told", [True, False], ids=["told", "censored"])
def test_a_rival_is_found_whether_or_not_prices_are_told(told):
    fit = fit_rivals(bid_log(told=told))
    (rival,) = fit.rivals
    for name, value in TRUTH.items():
        found = getattr(rival, name)
        # Wider than 95 %: this is one draw of many.
        half = found.high - found.low
        assert found.low - half < value < found.high + half, name
        assert half < 0.5 * value, "and it says something"


def test_prices_that_are_not_told_make_wider_intervals():
    told, censored = (fit_rivals(bid_log(told=told)).rivals[0].cpm_median for told in (True, False))
    assert censored.high - censored.low > 1.5 * (told.high - told.low)


def test_bids_that_only_won_say_nothing_of_prices():
    log = bid_log(told=False)
    with pytest.raises(BadInput, match="wins and losses"):
        fit_rivals(rows_of(log, log.has_won > 0))


def test_a_log_with_few_bids_is_refused():
    with pytest.raises(BadInput, match="100"):
        fit_rivals(bid_log(99))


def test_a_forecast_of_the_bids_as_they_were_holds_what_came():
    log = bid_log()
    told = forecast(fit_rivals(log), log, 1.0, seed=1, draws=200)
    low, middle, high = told.wins
    assert low < middle < high
    spread = high - low
    assert abs(int(log.has_won.sum()) - middle) < 3 * spread


def test_higher_bids_are_told_to_win_more_and_lower_ones_less():
    log = bid_log()
    fit = fit_rivals(log)
    rates = [float(win_probabilities(fit, log, times).mean()) for times in (0.5, 1.0, 2.0)]
    truth = [
        np.mean([
            reference.win_probability(bid * times / 1e6, 0.5, [(0.8, 2.0, 0.5)])
            for bid in log.bid_cpm_micros[:500]
        ])
        for times in (0.5, 1.0, 2.0)
    ]  # fmt: skip
    assert rates == sorted(rates)
    assert rates == pytest.approx(truth, abs=0.03)


def test_delays_and_the_share_that_converts_are_found_in_a_log_that_ends_early():
    log = bid_log(20_000, days=1, delay_ms=10_800_000, ctr=(0.3, 0.3))
    clicks = log.clicked > 0
    assert log.converted[clicks].mean() < 0.37, "some of the 40 % are still on their way"
    delay, cvr = fit_delays(log)
    assert cvr.covers(0.4)
    assert delay.median_ms.low < 10_800_000 < 1.1 * delay.median_ms.high
    assert delay.sigma.value == pytest.approx(0.8, rel=0.15)


def test_a_log_with_hardly_any_conversions_has_no_delay():
    assert fit_delays(bid_log(400, cvr=0.02)) is None


@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 40), st.floats(300_000, 3_000_000), st.floats(0.3, 1.2),
    st.sampled_from([60_000, 120_000, 300_000]),
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=4),
)  # fmt: skip
def test_a_delay_on_a_clock_of_ticks_is_that_of_two_instants_told_late(
    steps, median, sigma, tick, places
):
    delay = float(steps * tick)
    theta = np.array([40.0, math.log(median), math.log(sigma)])
    at = np.array([places]) * tick
    got = delay_log_likelihood(
        theta, np.array([delay]), np.zeros(0), tick, at, np.zeros((0, len(places)))
    )
    wanted = math.log(
        reference.delay_chance_through_ticks(delay, median, sigma, tick, at[0].tolist())
    )
    assert got == pytest.approx(wanted, abs=1e-3)


def test_where_in_their_ticks_people_click_is_learnt_from_how_many_ticks_they_take():
    tick, rng = 1000.0, np.random.default_rng(4)
    for mean in (150.0, 400.0, 5000.0):
        after = rng.exponential(mean, 4_000)
        places = click_places(np.ceil(after / tick) * tick, tick)
        assert ((places > 0) & (places < tick)).all()
        assert places.mean() == pytest.approx((after % tick).mean(), rel=0.1)
    late = click_places(np.array([100.0, 1000.0, 2000.0]), tick)
    assert (late[0] > 900).all(), "a bid in the middle of a tick has its click after it"


def test_delays_that_are_told_on_a_clock_are_as_long_as_they_are():
    """People click right after a bid at the start of a tick; both instants are told at its end."""
    tick = 600_000
    fine = bid_log(20_000, days=1, delay_ms=3_000_000, ctr=(0.3, 0.3))
    at = fine.at_ms // tick * tick
    has_clicked = fine.clicked > 0
    end = fine.end_ms // tick * tick
    ordered = at + 60_000 + fine.delay_ms
    delay = np.where(fine.converted > 0, -(-ordered // tick) * tick - (at + tick), -1)
    is_known = (delay >= 0) & (at + tick + delay <= end)
    log = fine._replace(
        at_ms=at,
        delay_ms=np.where(is_known, delay, -1),
        converted=is_known.astype(np.uint8),
        followed_ms=np.where(has_clicked, end - at - tick, -1),
        delay_tick_ms=tick,
        end_ms=end,
    )
    told, _ = fit_delays(rows_of(log, np.flatnonzero(log.followed_ms != 0)))
    exact, _ = fit_delays(fine)
    assert told.median_ms.value == pytest.approx(exact.median_ms.value, rel=0.02)
    assert told.sigma.value == pytest.approx(exact.sigma.value, rel=0.03)


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 1), st.sampled_from([1.0, 2.0, 0.25])),
        min_size=1, max_size=12,
    )
)  # fmt: skip
def test_the_product_limit_is_that_of_kaplan_and_meier(rows):
    price, is_above, weight = (np.array(column) for column in zip(*rows, strict=True))
    distinct, survival = product_limit(price, is_above, weight)
    wanted = reference.product_limit(rows)
    assert distinct.tolist() == [row[0] for row in wanted]
    assert survival == pytest.approx([row[1] for row in wanted], abs=1e-12)


def test_a_landscape_of_hours_alike_is_pooled_and_one_of_hours_apart_is_not(tmp_path):
    alike = tmp_path / "alike.txt"
    alike.write_text(ipinyou_text(range(24), 300))
    apart = tmp_path / "apart.txt"
    apart.write_text("".join(
        ipinyou_text([hour], 300, price=20 if hour < 12 else 200, seed=hour) for hour in range(24)
    ))  # fmt: skip
    one, two = (fit_landscape(read_ipinyou(path).log) for path in (alike, apart))
    medians = np.array(one.cpm_micros)[:, 200]
    assert medians.std() < 0.03 * medians.mean(), "a raw hour of 300 is off by twice that"
    assert two.pooled_weight == 0.0
    assert two.bandwidth_hours <= 1.0
    medians = np.array(two.cpm_micros)[:, 200]
    assert medians[3] == pytest.approx(200_000, rel=0.15)
    assert medians[18] == pytest.approx(2_000_000, rel=0.15)


def test_supply_counts_hours_as_far_as_they_are_covered():
    log = bid_log(24_000, days=2)
    half = log._replace(covered=np.where(np.arange(48) == 0, 0.5, 1.0))
    rates = fit_supply(half).requests_per_hour
    whole = fit_supply(log).requests_per_hour
    assert rates[0].value == pytest.approx(whole[0].value * 2 / 1.5)
    assert rates[5].value == whole[5].value
    assert fit_supply(log).requests_per_day.covers(12_000)


def test_an_hour_that_was_not_seen_is_borrowed_and_said_to_be():
    log = hours_of(bid_log(24_000, days=1), START_MS // HOUR_MS, START_MS // HOUR_MS + 20)
    fit = fit_supply(log)
    assert fit.is_seen == (True,) * 20 + (False,) * 4
    assert fit.requests_per_hour[22].value == pytest.approx(1_000, rel=0.2)
    seen, borrowed = fit.requests_per_hour[5], fit.requests_per_hour[22]
    assert borrowed.high - borrowed.low > seen.high - seen.low


def test_click_rates_of_small_slots_are_drawn_to_the_middle():
    log = bid_log(8_000, ctr=(0.1, 0.2))
    few = np.flatnonzero((log.scene == 1) & (log.has_won > 0))[:20]
    cut = rows_of(log, np.concatenate((np.flatnonzero(log.scene == 0), few)))
    cut = cut._replace(clicked=np.where(cut.scene == 1, cut.has_won, cut.clicked))
    big, small = fit_response(cut, None).ctr_by_scene
    assert big.value == pytest.approx(0.1, abs=0.02)
    assert small.value < 1.0, "20 clicks of 20 are no certainty"
    assert small.high - small.low > big.high - big.low


def test_the_twin_played_on_its_own_log_is_like_it():
    log = bid_log()
    drawn = play(calibrate(log), log, seed=1)
    assert drawn.has_won.mean() == pytest.approx(log.has_won.mean(), abs=0.03)
    for scene in (0, 1):
        here = (log.scene == scene) & (log.has_won > 0)
        there = (drawn.scene == scene) & (drawn.has_won > 0)
        assert drawn.clicked[there].mean() == pytest.approx(log.clicked[here].mean(), abs=0.04)
    assert drawn.converted.sum() == pytest.approx(log.converted.sum(), rel=0.3)
    assert drawn.requests.sum() == pytest.approx(log.requests.sum(), rel=0.06)
    again = play(calibrate(log), log, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True)), (
        "the same seed draws the same day"
    )
    assert not np.array_equal(play(calibrate(log), log, seed=2).has_won, drawn.has_won)


def test_a_calibration_is_read_back_from_its_toml():
    fitted = calibrate(bid_log())
    assert read_calibration(fitted.to_toml()) == fitted
    with pytest.raises(BadInput, match="calibration"):
        read_calibration("x = 1")


def test_a_log_is_cut_by_days_and_one_of_a_day_by_hours():
    log = bid_log(4_000, days=4)
    parts = split(log)
    assert parts.held_back.requests.shape == (24,)
    assert parts.fitted.row_count + parts.held_back.row_count == log.row_count
    assert parts.fitted.at_ms.max() < parts.held_back.at_ms.min()
    assert split(bid_log(4_000, days=1)).held_back.requests.shape == (6,)


def test_the_part_to_fit_knows_nothing_of_what_came_later():
    log = bid_log(20_000, days=2, delay_ms=20_000_000)
    cut = START_MS // HOUR_MS + 24
    part = hours_of(log, START_MS // HOUR_MS, cut)
    order_ms = part.at_ms + part.delay_ms
    assert (order_ms[part.converted > 0] <= cut * HOUR_MS).all()
    assert part.converted.sum() < log.converted[log.at_ms < cut * HOUR_MS].sum()
    assert (part.followed_ms[part.clicked > 0] <= 24 * HOUR_MS).all()


def test_short_and_empty_logs_are_refused_with_a_reason():
    log = bid_log(4_000, days=1)
    first = START_MS // HOUR_MS
    with pytest.raises(BadInput, match="6 hours"):
        check_hours(hours_of(log, first, first + 5), "the log")
    check_hours(hours_of(log, first, first + 7), "the log")
    with pytest.raises(BadInput, match="empty"):
        calibrate(rows_of(log, np.zeros(0, np.int64)))
    with pytest.raises(BadInput, match="6 hours"):
        split(hours_of(log, first, first + 6))
    assert split(hours_of(log, first, first + 7)).fitted.requests.shape == (6,)


def test_a_log_that_starts_late_in_a_day_is_cut_by_hours():
    log = bid_log(8_000, days=2)
    first = START_MS // HOUR_MS
    parts = split(hours_of(log, first + 20, first + 44))
    assert parts.fitted.requests.shape == (18,)
    assert parts.held_back.requests.shape == (6,)
    assert "hours" in parts.rule
    # Six hours of the first day are enough to fit.
    parts = split(hours_of(log, first + 18, first + 44))
    assert parts.fitted.requests.shape == (6,)


def test_a_day_and_a_bit_is_cut_by_hours_and_not_into_a_day_and_a_bit():
    log = bid_log(8_000, days=2)
    first = START_MS // HOUR_MS
    parts = split(hours_of(log, first, first + 25))
    assert parts.held_back.requests.shape == (6,)
    assert parts.fitted.row_count < 4 * parts.held_back.row_count


def test_a_row_ages_away_is_refused_and_not_waited_for():
    log = bid_log(4_000, days=4)
    late = np.arange(log.row_count) == log.row_count - 1
    hours = 50_000_000
    far = log._replace(
        at_ms=np.where(late, (log.hour_first + hours - 1) * HOUR_MS, log.at_ms),
        requests=np.zeros(hours), covered=np.ones(hours),
    )  # fmt: skip
    far.requests[:96] = log.requests
    with pytest.raises(BadInput, match="at most"):
        split(far)


def test_bounds_of_unknown_prices_are_never_taken_for_prices():
    log = bid_log(told=False)
    assert not (log.is_told > 0).any() or (log.most_cpm_micros[log.is_told > 0] < NEVER).all()
    assert fit_rivals(log).rivals[0].cpm_median.value < 100


def test_sampled_requests_have_wider_intervals():
    log = bid_log(24_000, days=1)
    whole, sampled = (
        fit_supply(log._replace(request_unit=unit)).requests_per_day for unit in (1.0, 25.0)
    )
    assert sampled.high - sampled.low == pytest.approx(5 * (whole.high - whole.low), rel=0.05)


def test_bids_that_price_did_not_decide_are_not_decided_by_the_twin():
    log = bid_log()
    refused = np.arange(log.row_count) % 3 == 0
    cut = log._replace(
        is_decided=np.where(refused, 0, 1).astype(np.uint8),
        has_won=np.where(refused, 0, log.has_won).astype(np.uint8),
    )
    drawn = play(calibrate(log), cut, seed=1)
    assert not drawn.has_won[refused].any()
    assert drawn.has_won[~refused].mean() == pytest.approx(cut.has_won[~refused].mean(), abs=0.03)
