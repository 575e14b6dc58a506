"""Episodes: any agent, any block size, the same result; everything adds up."""

from __future__ import annotations

import numpy as np
import pytest

from market.decision import NoBidReason
from market.errors import BadInput
from market.events import EventKind
from market.kernels import amount_micros
from simulator.episode import run_episode
from simulator.scenario import slices
from tests.simulator.markets import PriceAgent, ads_of, bids_on, changed, exchange_of, scenario_of

HOUR_MS = 3_600_000
PRICE = 3_000_000


def short(**changes):
    return changed(scenario_of(), duration_ms=6 * HOUR_MS, requests_per_day=12_000, **changes)


def episode(*, block_max=4096, scenario=None, price=PRICE, seed=1, modulus=1):
    agent = PriceAgent(price, ads_of(), modulus=modulus)
    exchange = exchange_of(scenario or short(), seed=seed)
    return (
        run_episode(exchange, agent, block_max=block_max, keeps_log=True, keeps_notices=True),
        agent,
    )


@pytest.fixture(scope="module")
def played():
    return episode()


@pytest.mark.parametrize("block_max", [1, 7])
def test_blocks_of_any_size_give_the_same_episode(played, block_max):
    whole, in_blocks = played[0], episode(block_max=block_max)
    assert max(in_blocks[1].seen) <= block_max < max(played[1].seen)
    assert in_blocks[0].result == whole.result
    assert in_blocks[0].notices == whole.notices
    for mine, theirs in zip(in_blocks[0].log, whole.log, strict=True):
        assert np.array_equal(mine, theirs)


def test_an_episode_can_be_run_again_and_is_the_same(played):
    assert episode()[0].result == played[0].result


def test_another_seed_is_another_episode(played):
    assert episode(seed=2)[0].result != played[0].result


def test_the_agent_is_told_the_time_before_and_after_every_slice(played):
    scenario = short()
    pieces = list(slices(scenario))
    assert played[1].times == [scenario.start_at_ms, *(piece.end_ms for piece in pieces)]
    assert played[1].times[-1] == scenario.end_at_ms + scenario.drain_ms


def test_the_agent_is_told_every_notice_that_falls_due_and_no_other(played):
    run, agent = played
    assert tuple(agent.notices) == run.notices
    assert sum(run.result.notice_counts.values()) == len(run.notices)
    times = [notice.at_ms for notice in run.notices]
    assert times == sorted(times)
    assert set(times) <= {piece.start_ms for piece in slices(short())}


def test_money_is_conserved_between_log_notices_and_result(played):
    run, _ = played
    billed = {}
    for notice in run.notices:
        if notice.kind is EventKind.BILLING:
            billed[notice.bid_hi, notice.bid_lo] = notice.price_cpm_micros
    told = sum(int(amount_micros(price, 1_000_000, 1_000_000)) for price in billed.values())
    log = run.log
    logged = sum(
        int(amount_micros(price, 1_000_000, 1_000_000))
        for price in log.clearing_cpm_micros[log.has_won == 1].tolist()
    )
    # The drain is longer than any billing delay, so that every win was billed.
    assert told == logged == run.result.total("spend_micros") > 0


def test_the_result_adds_up_to_the_log(played):
    run, _ = played
    log, result = run.log, run.result
    is_bid = log.decisions["reason"] == NoBidReason.BID
    assert result.opportunity_count == log.sequence.shape[0] == 3_000
    assert result.bid_count == is_bid.sum() == sum(c.bid_count for c in result.creatives)
    assert result.total("impression_count") == log.has_won.sum()
    assert result.unregistered_bid_count == 0
    assert (np.diff(log.sequence) == 1).all()
    for creative in result.creatives:
        mine = is_bid & (log.decisions["creative_id"] == creative.creative_id)
        assert creative.bid_count == mine.sum()
        assert creative.impression_count == log.has_won[mine].sum()
        assert creative.conversion_count <= creative.click_count <= creative.impression_count


def test_what_happened_is_what_was_expected_within_its_noise(played):
    result = played[0].result
    clicks = sum(creative.expected_clicks for creative in result.creatives)
    conversions = sum(creative.expected_conversions for creative in result.creatives)
    assert abs(result.total("click_count") - clicks) <= 4 * np.sqrt(clicks)
    assert abs(result.total("conversion_count") - conversions) <= 4 * np.sqrt(conversions)


def test_what_comes_after_the_end_is_counted(played):
    run, _ = played
    told = {(n.bid_hi, n.bid_lo) for n in run.notices if n.kind is EventKind.CONVERSION}
    assert run.result.total("conversion_count") >= len(told)
    assert run.result.undelivered_notice_count >= (run.result.total("conversion_count") - len(told))


def test_an_agent_that_never_bids_costs_nothing():
    run, _ = episode(modulus=2**64)
    assert run.result.bid_count == 0
    assert run.result.notice_counts == {}
    assert run.notices == ()


def test_a_higher_price_wins_more(played):
    higher = episode(price=2 * PRICE)[0].result.total("impression_count")
    assert higher > played[0].result.total("impression_count")


def test_an_exchange_is_used_once():
    exchange = exchange_of()
    start = exchange.scenario.start_at_ms
    offers = exchange.offers(start, start + HOUR_MS)
    exchange.clear(offers, bids_on(offers, PRICE, 1))
    with pytest.raises(BadInput, match="needs a fresh one"):
        run_episode(exchange, PriceAgent(PRICE, ads_of()))


def test_a_market_without_traffic_logs_nothing():
    scenario = changed(scenario_of(), duration_ms=1, requests_per_day=1, drain_ms=120_000)
    agent = PriceAgent(PRICE, ads_of())
    run = run_episode(exchange_of(scenario), agent, keeps_log=True)
    assert run.log.sequence.shape[0] == run.result.opportunity_count
    assert run.notices is None
