"""Hidden markets: the fit never sees a parameter, and its intervals hold them.

A small version of ``python -m bench calibration``; with so few markets the bounds are loose, and
only a method that is plainly wrong fails.
"""

from __future__ import annotations

import pytest

from bench.calibration import recover, summary
from bench.hidden_markets import bid_day, exchange_of, hidden_market
from simulator.calibration.fit import calibrate
from simulator.calibration.log import HOUR_MS
from simulator.calibration.scenario_fit import fitted_scenario, hour_shape, scenario_toml
from simulator.episode import run_episode
from simulator.exchange import Exchange
from simulator.scenario import load, read
from tests.simulator.markets import PriceAgent

NUMBERS = (2, 3)


@pytest.fixture(scope="module")
def found():
    return [recover(number) for number in NUMBERS]


def test_most_intervals_hold_the_truth(found):
    told = summary(found)
    assert told["intervals"] >= 18
    assert told["coverage_95"] >= 0.8


def test_what_bids_would_have_won_on_another_day_is_forecast(found):
    held = [hit for one in found for hit in one.forecast.values()]
    assert sum(held) >= len(held) // 2


@pytest.fixture(scope="module")
def fitted_day():
    market = hidden_market(4)
    day = bid_day(market, 7)
    return market, day, calibrate(day.log)


def test_every_event_of_an_engine_is_used_and_every_price_told(fitted_day):
    _, day, _ = fitted_day
    assert day.log.is_decided.all()
    assert day.log.is_told.all()
    assert day.log.requests.sum() == day.requests
    assert day.log.delay_tick_ms == 120_000


def test_the_fitted_scenario_is_a_file_that_the_twin_runs_like_the_hidden_market(fitted_day):
    market, day, calibration = fitted_day
    template = load("parity")
    scenario = fitted_scenario(calibration, template)
    assert read(scenario_toml(scenario), "fitted") == scenario
    assert scenario.requests_per_day == pytest.approx(market.scenario.requests_per_day, rel=0.03)
    price = round(sorted(day.log.bid_cpm_micros)[day.log.row_count // 2])
    rates = []
    for one in (market.scenario, scenario):
        ads = exchange_of(market, 1).creatives
        result = run_episode(
            Exchange(one, ads, seed=21, user_salt=bytes(16)), PriceAgent(price, ads)
        ).result
        rates.append(result.total("impression_count") / result.bid_count)
    assert rates[1] == pytest.approx(rates[0], abs=0.04)


def test_the_fitted_hours_come_out_of_the_scenarios_time_zones(fitted_day):
    _, _, calibration = fitted_day
    template = load("parity")
    shape = hour_shape(calibration, template)
    assert len(shape) == 24
    assert min(shape) > 0
    scenario = fitted_scenario(calibration, template)
    exchange = Exchange(scenario, (), seed=3, user_salt=bytes(16))
    start = scenario.start_at_ms
    hours = [
        exchange.offers(start + h * HOUR_MS, start + (h + 1) * HOUR_MS).sequence.shape[0]
        for h in range(24)
    ]
    wanted = [rate.value for rate in calibration.supply.requests_per_hour]
    assert sum(abs(a - b) for a, b in zip(hours, wanted, strict=True)) < 0.12 * sum(wanted)
