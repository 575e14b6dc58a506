"""The baseline of the bench: it sells what the engine sells, and has AuctionNet's defects."""

from __future__ import annotations

import math

import numpy as np

from market.auction import Rule
from simulator.period.engine import TickRoom, clear_tick
from simulator.period.seam import Supply, new_accounts, no_deals
from tests.reference import auctionnet as baseline

COUNT, AGENTS = 2_000, 48


def supply_of(value):
    n = value.shape[1]
    draws = np.random.default_rng(2).random(n).astype(np.float32)
    return Supply(
        value, np.full(n, 100, np.float32), np.zeros(n, np.float32), draws,
        np.full(n, 3, np.uint8), np.full(n, Rule.GSP, np.uint8), np.zeros(n, np.uint8),
        no_deals(value.shape[0]),
    )  # fmt: skip


def test_with_money_enough_both_sell_the_same_slots_at_the_same_prices():
    rng = np.random.default_rng(1)
    value = np.clip(rng.normal(5e-4, 2.5e-4, (AGENTS, COUNT)), 1e-5, 1).astype(np.float32)
    limit = rng.uniform(60, 130, AGENTS)
    bids = value.T.astype(np.float64) * limit
    slot, cost, prices = baseline.auction_pass(bids)
    room, revenue = TickRoom(AGENTS, COUNT, 3), np.zeros(3, np.int64)
    accounts = new_accounts(np.full(AGENTS, 10**12))
    supply = supply_of(value)._replace(exposure_draw=np.zeros(COUNT, np.float32))
    exposures, feedback = clear_tick(
        accounts, (limit * 1e6).astype(np.float32), supply,
        np.array([1_000_000, 800_000, 480_000]), revenue, room,
    )  # fmt: skip
    mine = np.zeros_like(slot)
    mine[exposures.opportunity, exposures.agent] = exposures.slot + 1
    # Bids lie on a grid of 2^-17: a tie there may go to the other of two.
    assert (mine != slot).any(axis=1).mean() < 1e-3
    paid = np.zeros_like(cost)
    paid[exposures.opportunity, exposures.agent] = exposures.price_micros / 1e6
    same = mine == slot
    assert np.allclose(paid[same], cost[same], rtol=2e-5, atol=2e-6)
    assert np.allclose(feedback.min_to_win_micros / 1e6, prices[:, -1], rtol=2e-5, atol=2e-6)


def test_the_baseline_throws_the_last_bidder_away():
    bids = np.zeros((1, AGENTS))
    sold = []
    for bidders in range(5):
        outcome = baseline.run_tick(
            np.zeros_like(bids), np.zeros_like(bids), bids, np.full(AGENTS, 9.0)
        )
        sold.append(int((outcome.slot > 0).sum()))
        bids[0, bidders] = 0.01 * (bidders + 1)
    assert sold == [0, 0, 1, 2, 3]


def test_the_baseline_s_conversions_are_no_frequencies():
    """The test that the engine passes within 3 standard errors, failed by 10 and more."""
    value = np.full((100_000, 6), 0.05)
    found = baseline.conversions(value, 0.15 * value, np.ones(value.shape, int)).mean()
    error = math.sqrt(0.05 * 0.95 / value.size)
    assert found - 0.05 > 10 * error


def test_the_baseline_repeats_its_draws_in_every_tick():
    value = np.full((500, AGENTS), 0.5)
    shown, sigma = np.ones(value.shape, int), baseline.sigmas(value)
    first, second = (baseline.conversions(value, sigma, shown) for _ in range(2))
    assert np.array_equal(first, second)


def test_the_baseline_runs_a_tick_again_until_nobody_overspends():
    rng = np.random.default_rng(3)
    value = rng.uniform(0.01, 0.02, (200, AGENTS))
    outcome = baseline.run_tick(value, baseline.sigmas(value), value * 100, np.full(AGENTS, 5.0))
    assert outcome.passes > 1
    assert (outcome.cost.sum(axis=0) <= 5.0).all()


def test_the_baseline_never_shows_the_third_slot_without_the_second():
    slot, _, _ = baseline.auction_pass(np.random.default_rng(4).random((2_000, AGENTS)))
    shown = baseline.exposures(slot)
    by_slot = [((slot == k) & (shown == 1)).any(axis=1) for k in (1, 2, 3)]
    assert by_slot[0].all()
    assert not (by_slot[2] & ~by_slot[1]).any()
    assert abs(by_slot[1].mean() - 0.8) < 0.03
    assert abs(by_slot[2].mean() - 0.48) < 0.04


def test_what_is_reported_of_the_baseline_is_consistent():
    """Nothing is paid or converted in a cell without a slot that is shown."""
    value = np.random.default_rng(5).uniform(0.01, 0.02, (300, AGENTS))
    outcome = baseline.run_tick(value, baseline.sigmas(value), value * 100, np.full(AGENTS, 1e6))
    assert outcome.passes == 1
    assert ((outcome.cost > 0) == (outcome.is_exposed == 1)).all()
    assert (outcome.has_converted <= outcome.is_exposed).all()
    assert (outcome.is_exposed <= (outcome.slot > 0)).all()
