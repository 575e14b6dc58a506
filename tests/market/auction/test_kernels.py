"""The four auction rules against the papers, and what must hold of any auction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from market.auction import Rule, clear, kernels
from market.money import PRICE_CPM_MICROS_MAX
from tests.reference import auction as reference

pytestmark = pytest.mark.plain

TWINS = {
    Rule.FIRST_PRICE: reference.first_price,
    Rule.SECOND_PRICE: reference.second_price,
    Rule.GSP: reference.gsp,
    Rule.VCG: reference.vcg,
}
MULTI_SLOT = (Rule.FIRST_PRICE, Rule.GSP, Rule.VCG)

# Few values, so that ties and bids at the reserve are common; and the whole range.
PRICES = st.integers(0, 6) | st.integers(0, PRICE_CPM_MICROS_MAX)
BIDS = st.lists(PRICES, min_size=1, max_size=5)
WEIGHTS = st.lists(st.integers(1, 1_000_000), min_size=1, max_size=3).map(
    lambda weights: sorted(weights, reverse=True)
)
RULES_AND_WEIGHTS = st.one_of(
    st.tuples(st.sampled_from(MULTI_SLOT), WEIGHTS),
    st.tuples(st.just(Rule.SECOND_PRICE), st.just([1_000_000])),
)


def cleared(rule, bids, reserve, weights):
    """The outcome of one opportunity."""
    return clear(
        rule,
        np.array(bids, np.int64).reshape(-1, 1),
        np.array([reserve], np.int64),
        np.array(weights, np.int64),
    )


def sales(outcome, opportunity=0):
    """[(agent, price)] by slot, as the twins say it."""
    count = int(outcome.sold[opportunity].sum())
    assert outcome.sold[opportunity, :count].all(), "slots are sold from the first"
    assert (outcome.winner[opportunity, count:] == -1).all()
    assert (outcome.price_cpm_micros[opportunity, count:] == 0).all()
    return list(
        zip(
            outcome.winner[opportunity, :count].tolist(),
            outcome.price_cpm_micros[opportunity, :count].tolist(),
            strict=True,
        )
    )


@given(RULES_AND_WEIGHTS, BIDS, PRICES)
def test_every_rule_sells_what_its_paper_sells(rule_and_weights, bids, reserve):
    rule, weights = rule_and_weights
    outcome = cleared(rule, bids, reserve, weights)
    assert sales(outcome) == TWINS[rule](bids, reserve, weights)


@given(RULES_AND_WEIGHTS, BIDS, PRICES)
def test_a_winner_pays_between_the_reserve_and_its_bid(rule_and_weights, bids, reserve):
    rule, weights = rule_and_weights
    for agent, price in sales(cleared(rule, bids, reserve, weights)):
        assert reserve <= price <= bids[agent]


@given(RULES_AND_WEIGHTS, BIDS, PRICES)
def test_as_many_slots_are_sold_as_there_are_bids_at_the_reserve(rule_and_weights, bids, reserve):
    rule, weights = rule_and_weights
    good = sum(bid > 0 and bid >= reserve for bid in bids)
    assert cleared(rule, bids, reserve, weights).sold.sum() == min(good, len(weights))


@given(RULES_AND_WEIGHTS, BIDS, PRICES, st.data())
def test_above_min_to_win_every_winner_still_wins_and_below_it_none(
    rule_and_weights, bids, reserve, data
):
    rule, weights = rule_and_weights
    outcome = cleared(rule, bids, reserve, weights)
    assume(outcome.sold.any())
    agent = data.draw(st.sampled_from([agent for agent, _ in sales(outcome)]))
    least = int(outcome.min_to_win_cpm_micros[0])
    assert least >= reserve
    above = [*bids[:agent], least + 1, *bids[agent + 1 :]]
    assert reference.wins(above, reserve, weights, agent)
    if least > 0:
        below = [*bids[:agent], least - 1, *bids[agent + 1 :]]
        assert not reference.wins(below, reserve, weights, agent)


@given(RULES_AND_WEIGHTS, BIDS, PRICES, st.data())
def test_above_min_to_enter_every_loser_wins_and_below_it_none(
    rule_and_weights, bids, reserve, data
):
    rule, weights = rule_and_weights
    outcome = cleared(rule, bids, reserve, weights)
    winners = {agent for agent, _ in sales(outcome)}
    losers = [agent for agent in range(len(bids)) if agent not in winners]
    assume(losers)
    agent = data.draw(st.sampled_from(losers))
    least = int(outcome.min_to_enter_cpm_micros[0])
    assert least >= reserve
    above = [*bids[:agent], least + 1, *bids[agent + 1 :]]
    assert reference.wins(above, reserve, weights, agent)
    if least > 0:
        below = [*bids[:agent], least - 1, *bids[agent + 1 :]]
        assert not reference.wins(below, reserve, weights, agent)


@given(BIDS, PRICES, PRICES, PRICES)
def test_in_a_second_price_auction_no_bid_is_better_than_the_value(others, value, other, reserve):
    def utility(bid):
        won = dict(sales(cleared(Rule.SECOND_PRICE, [*others, bid], reserve, [1_000_000])))
        return value - won[len(others)] if len(others) in won else 0

    assert utility(value) >= utility(other)


@given(BIDS, PRICES, PRICES, WEIGHTS, PRICES)
def test_in_a_vcg_auction_no_bid_is_better_than_the_value(others, value, other, weights, reserve):
    """Up to the micro by which a price per exposure is rounded up."""

    def utility(bid):
        found = sales(cleared(Rule.VCG, [*others, bid], reserve, weights))
        return sum(
            weights[slot] * (value - price)
            for slot, (agent, price) in enumerate(found)
            if agent == len(others)
        )

    assert utility(value) > utility(other) - weights[0]


@given(st.sampled_from([Rule.FIRST_PRICE, Rule.GSP]), BIDS, PRICES, WEIGHTS)
def test_prices_never_rise_from_one_slot_to_the_next(rule, bids, reserve, weights):
    paid = [price for _, price in sales(cleared(rule, bids, reserve, weights))]
    assert paid == sorted(paid, reverse=True)


@given(BIDS, PRICES, WEIGHTS)
def test_vcg_never_takes_more_than_gsp_takes_for_the_same_bids(bids, reserve, weights):
    vcg = cleared(Rule.VCG, bids, reserve, weights)
    gsp = cleared(Rule.GSP, bids, reserve, weights)
    assert (vcg.winner == gsp.winner).all()
    assert (vcg.price_cpm_micros <= gsp.price_cpm_micros).all()


@given(BIDS, PRICES, st.integers(1, 1_000_000))
def test_with_one_slot_vcg_and_gsp_are_the_second_price_auction(bids, reserve, weight):
    second = sales(cleared(Rule.SECOND_PRICE, bids, reserve, [weight]))
    assert sales(cleared(Rule.VCG, bids, reserve, [weight])) == second
    assert sales(cleared(Rule.GSP, bids, reserve, [weight])) == second


@given(RULES_AND_WEIGHTS, BIDS, PRICES, st.randoms(use_true_random=False))
def test_a_permutation_of_losers_changes_nothing(rule_and_weights, bids, reserve, random):
    """Losers that tie with a winner keep their places: the tie is decided by them."""
    rule, weights = rule_and_weights
    before = cleared(rule, bids, reserve, weights)
    enough = int(before.min_to_enter_cpm_micros[0])
    losers = [agent for agent, bid in enumerate(bids) if bid < enough]
    shuffled = [bids[agent] for agent in losers]
    random.shuffle(shuffled)
    after_bids = list(bids)
    for agent, bid in zip(losers, shuffled, strict=True):
        after_bids[agent] = bid
    after = cleared(rule, after_bids, reserve, weights)
    for name, was, now in zip(before._fields, before, after, strict=True):
        assert (was == now).all(), name


@given(RULES_AND_WEIGHTS, BIDS, PRICES, st.randoms(use_true_random=False))
def test_prices_depend_on_the_bids_and_not_on_who_made_them(
    rule_and_weights, bids, reserve, random
):
    rule, weights = rule_and_weights
    shuffled = list(bids)
    random.shuffle(shuffled)
    before = cleared(rule, bids, reserve, weights)
    after = cleared(rule, shuffled, reserve, weights)
    assert (before.sold == after.sold).all()
    assert (before.price_cpm_micros == after.price_cpm_micros).all()
    assert (before.min_to_win_cpm_micros == after.min_to_win_cpm_micros).all()
    assert (before.min_to_enter_cpm_micros == after.min_to_enter_cpm_micros).all()


@pytest.mark.parametrize("rule", [Rule.SECOND_PRICE, Rule.GSP, Rule.VCG])
def test_a_lone_bidder_above_the_reserve_wins_and_pays_the_reserve(rule):
    outcome = cleared(rule, [0, 500, 0], 100, [1_000_000])
    assert sales(outcome) == [(1, 100)]
    assert outcome.min_to_win_cpm_micros.tolist() == [100]
    assert outcome.min_to_enter_cpm_micros.tolist() == [500]


def test_a_lone_bidder_pays_its_bid_at_first_price():
    assert sales(cleared(Rule.FIRST_PRICE, [0, 500, 0], 100, [1_000_000])) == [(1, 500)]


def test_a_slot_that_costs_nothing_is_sold():
    outcome = cleared(Rule.GSP, [7], 0, [1_000_000])
    assert outcome.sold.tolist() == [[True]]
    assert outcome.price_cpm_micros.tolist() == [[0]]


def test_no_bid_wins_nothing_where_there_is_no_reserve():
    outcome = cleared(Rule.FIRST_PRICE, [0, 0], 0, [1_000_000])
    assert outcome.sold.tolist() == [[False]]
    assert outcome.winner.tolist() == [[-1]]


def test_a_bid_at_the_reserve_wins_and_one_micro_below_it_does_not():
    assert sales(cleared(Rule.GSP, [100], 100, [1_000_000])) == [(0, 100)]
    assert sales(cleared(Rule.GSP, [99], 100, [1_000_000])) == []


def test_ties_go_to_the_lowest_agent_which_pays_the_tied_bid():
    outcome = cleared(Rule.GSP, [3, 9, 9, 9], 1, [1_000_000, 500_000])
    assert sales(outcome) == [(1, 9), (2, 9)]


def test_the_published_example_of_gsp_and_vcg_comes_out():
    """Edelman, Ostrovsky and Schwarz 2007, section III: bids 10, 4, 2; 200 and 100 clicks an hour.

    GSP takes 4 x 200 = 800 and 2 x 100 = 200; VCG 600 and 200: 3 and 2 a click.
    """
    weights = [1_000_000, 500_000]
    assert sales(cleared(Rule.GSP, [10, 4, 2], 0, weights)) == [(0, 4), (1, 2)]
    assert sales(cleared(Rule.VCG, [10, 4, 2], 0, weights)) == [(0, 3), (1, 2)]


def test_a_vcg_price_that_is_no_whole_micro_is_rounded_up():
    """(1 - .5) * 4 + .5 * 1 = 2.5."""
    assert sales(cleared(Rule.VCG, [9, 4, 1], 0, [1_000_000, 500_000])) == [(0, 3), (1, 1)]


def test_the_largest_bids_reserve_and_weights_do_not_overflow():
    top = PRICE_CPM_MICROS_MAX
    outcome = cleared(Rule.VCG, [top, top, top, top], top, [1_000_000, 999_999, 1])
    assert sales(outcome) == [(0, top), (1, top), (2, top)]


@pytest.mark.parametrize("rule", MULTI_SLOT)
def test_a_block_clears_as_its_opportunities_do_one_by_one(rule):
    """More opportunities than one inner block holds, and not a multiple of it."""
    rng = np.random.Generator(np.random.PCG64(5))
    bids = rng.integers(0, 50, (6, 1_100))
    reserve = rng.integers(0, 30, 1_100)
    weights = np.array([1_000_000, 800_000, 480_000])
    whole = clear(rule, bids, reserve, weights)
    for size in (1, 7, 64):
        for first in range(0, 1_100, size if size > 1 else 97):
            part = slice(first, first + size)
            piece = clear(rule, np.ascontiguousarray(bids[:, part]), reserve[part], weights)
            for name, all_of_it, some in zip(whole._fields, whole, piece, strict=True):
                assert (all_of_it[part] == some).all(), (name, first, size)


def test_rank_keeps_bid_and_agent_of_the_highest_bids():
    bids = np.array([[5, 0], [7, 0], [7, 3]], np.int64)
    ranked = np.full((2, 2), -1, np.int64)
    kernels.rank(bids, 0, 2, ranked)
    agents = kernels.AGENTS_MAX - 1 - (ranked & (kernels.AGENTS_MAX - 1))
    assert (ranked >> 20).tolist() == [[7, 3], [7, 0]]
    assert agents.tolist() == [[1, 2], [2, 0]]


@pytest.mark.parametrize(
    ("bids", "reserve", "weights", "rule", "message"),
    [
        ([[-1]], [0], [1], Rule.GSP, "bids are 0-"),
        ([[PRICE_CPM_MICROS_MAX + 1]], [0], [1], Rule.GSP, "bids are 0-"),
        ([[1]], [-1], [1], Rule.GSP, "a reserve is never negative"),
        ([[1]], [0, 0], [1], Rule.GSP, "one reserve per opportunity"),
        ([[1]], [0], [], Rule.GSP, "at least one slot"),
        ([[1]], [0], [1, 0], Rule.GSP, "a slot that is never exposed"),
        ([[1]], [0], [1_000_001], Rule.GSP, "a weight is a probability"),
        ([[1]], [0], [1, 2], Rule.GSP, "weights never increase"),
        ([[1]], [0], [2, 1], Rule.SECOND_PRICE, "second price: one slot"),
    ],
)
def test_an_auction_that_makes_no_sense_is_refused(bids, reserve, weights, rule, message):
    with pytest.raises(AssertionError, match=message):
        clear(
            rule,
            np.array(bids, np.int64),
            np.array(reserve, np.int64),
            np.array(weights, np.int64),
        )


def test_an_outcome_cannot_be_changed():
    outcome = cleared(Rule.GSP, [5, 4], 1, [1_000_000])
    for array in outcome:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_no_opportunities_clear_to_nothing():
    outcome = clear(
        Rule.VCG, np.zeros((3, 0), np.int64), np.zeros(0, np.int64), np.array([1_000_000])
    )
    assert [array.shape for array in outcome] == [(0, 1), (0, 1), (0, 1), (0,), (0,)]
