"""The decision kernels against their slow twin, block sizes, money, credits, and conformance."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidder.decide import Decider
from market.budgets import day_bounds_ms
from market.campaign import PERIOD_MS, Budget, CapPeriod, CapScope, Flight, FrequencyCap, LineItem
from market.conformance import Standing, check_agent
from market.control import ControlBlock, Word, new_live_arrays
from market.decision import DECISION_DTYPE, NoBidReason
from market.events import EVENT_DTYPE, EventFlag, EventKind
from market.kernels import amount_micros
from market.money import PRICE_CPM_MICROS_MAX
from market.opportunity import Format
from market.state import CreditKind, new_state
from tests.bidder.worlds import (
    NOW_MS,
    NUMBERS,
    World,
    campaign_of,
    creative_of,
    credits_of,
    limits_of,
    opportunities_of,
    snapshot_of,
)
from tests.reference.decide import Answer, plain

pytestmark = pytest.mark.plain

SEEDS = st.integers(0, 2**32)
BLOCK = 40


def told(decision):
    """What a decision says, in the words of the twin."""
    answer = Answer(*(int(decision[name]) for name in Answer._fields))
    return answer if answer.reason == NoBidReason.BID else Answer(answer.reason, answer.detail)


def one_campaign(**changes):
    """A campaign with one line item that bids on everything, but for ``changes``."""
    rng = random.Random(4)
    campaign = campaign_of(rng, 1)
    creative = msgspec.structs.replace(
        next(c for n in range(99) if (c := _creative(n)).format == "banner"),
        creative_id=10, width=300, height=250, attributes=(), is_secure=True, apis=(),
        expand_directions=(),
    )  # fmt: skip
    item_fields = {
        key: changes.pop(key) for key in list(changes) if key in LineItem.__struct_fields__
    }
    item = msgspec.structs.replace(
        LineItem(line_item_id=7, creatives=(creative,), bid_cpm_micros_max=5_000_000), **item_fields
    )
    fields = {
        "currency": "USD", "flight": Flight(), "line_items": (item,),
        "budget": Budget(lifetime_micros=10**9), "advertiser_domain": "shop.example",
        "category": "IAB18",
    }  # fmt: skip
    return msgspec.structs.replace(campaign, **{**fields, **changes})


def _creative(n):
    return creative_of(random.Random(n), 10)


def plain_block(count, **columns):
    """``count`` banner imps that nothing forbids, but for ``columns``."""
    block = opportunities_of(random.Random(9), count)
    records = block.records
    first = records.dtype.names.index("duration_ms_min")
    last = records.dtype.names.index("native_needs_video")
    for name in records.dtype.names[first : last + 1]:
        records[name] = 0
    for name in ("list_count", "deal_count", "is_private", "is_test", "is_secure", "size_count",
                 "floor_cpm_micros", "attributes_blocked", "protocols", "media_types",
                 "dimensions", "languages", "second_cpm_micros",
                 "duration_floor_count"):  # fmt: skip
        records[name] = 0
    records["formats"] = Format.BANNER
    records["auction_type"] = 2
    records["floor_currency"] = NUMBERS["USD"]
    records["currencies"] = 0
    records["currencies"][:, 0] = NUMBERS["USD"]
    records["quantity_micros"] = 1_000_000
    records["arrival_ms"] = NOW_MS + np.arange(count)
    records["user_key"] = 77
    for name, value in columns.items():
        records[name] = value
    return block


def decider_of(campaign, *, funds=None, is_active=True, **rest):
    live = new_live_arrays()
    live.is_active[:8] = is_active
    decider = Decider(snapshot_of((campaign,)), live, **rest)
    decider.credit(credits_of(limits_of((campaign,)) if funds is None else funds), NOW_MS)
    return decider


# The twin.


@settings(max_examples=25)
@given(SEEDS)
def test_every_decision_is_that_of_the_slow_twin(seed):
    rng = random.Random(seed)
    world = World(rng, campaign_count=rng.choice((1, 4, 12)))
    block = opportunities_of(rng, BLOCK)
    decisions, _ = world.decider().decide(block)
    twin = world.twin()
    for n in range(BLOCK):
        expected = twin.decide(plain(block, n))
        assert told(decisions[n]) == expected, f"opportunity {n} of seed {seed}"


def test_random_worlds_reach_every_reason_that_a_decision_can_give():
    seen = set()
    for seed in range(60):
        rng = random.Random(seed)
        decisions, _ = World(rng).decider().decide(opportunities_of(rng, BLOCK))
        seen |= set(decisions["reason"].tolist())
    within = set(range(NoBidReason.FORMAT_NOT_SERVED, NoBidReason.TARGETING_VIEWABILITY + 1))
    assert not within - seen
    assert NoBidReason.BID in seen


def test_a_snapshot_without_creatives_has_no_active_line_item():
    decider = decider_of(one_campaign(creatives=()))
    decisions, _ = decider.decide(plain_block(2))
    assert decisions["reason"].tolist() == [NoBidReason.NO_ACTIVE_LINE_ITEM] * 2


@settings(max_examples=10)
@given(SEEDS)
def test_blocks_of_any_size_give_the_same_answers_and_events(seed):
    rng = random.Random(seed)
    world, block = World(rng), opportunities_of(rng, 60)
    whole = world.decider(no_bid_sample_rate=0.5)
    expected, events = whole.decide(block)
    for size in (1, 7, 4096):
        parts = world.decider(no_bid_sample_rate=0.5)
        found = [
            parts.decide(block._replace(records=block.records[at : at + size].copy()))
            for at in range(0, 60, size)
        ]
        assert (np.concatenate([d for d, _ in found]) == expected).all()
        assert (np.concatenate([e for _, e in found]) == events).all()
        assert parts.available() == whole.available()


def test_the_fast_way_for_one_opportunity_decides_as_a_block_does():
    rng = random.Random(1)
    world, block = World(rng), opportunities_of(rng, BLOCK)
    expected, _ = world.decider().decide(block)
    single = world.decider()
    single.warm_up()
    events = np.zeros(1, EVENT_DTYPE)
    for n in range(BLOCK):
        found = np.zeros(1, DECISION_DTYPE)
        one = block._replace(records=block.records[n : n + 1].copy())
        single.decide_one(one, found, events)
        assert found[0] == expected[n]


# What a bid says, and what is recorded of it.


@settings(max_examples=10)
@given(SEEDS)
def test_an_event_says_what_its_decision_says(seed):
    rng = random.Random(seed)
    world, block = World(rng), opportunities_of(rng, BLOCK)
    decider = world.decider(no_bid_sample_rate=1.0, worker=0)
    decisions, events = decider.decide(block)
    assert events.shape == decisions.shape
    is_bid = decisions["reason"] == NoBidReason.BID
    assert (events["kind"] == np.where(is_bid, EventKind.BID, EventKind.NO_BID)).all()
    for event_name, name in (
        ("bid_hi", "bid_hi"), ("bid_lo", "bid_lo"), ("price_cpm_micros", "bid_cpm_micros"),
        ("amount_micros", "reserved_micros"), ("reason", "reason"), ("budgets", "budgets"),
        ("caps", "caps"), ("features", "features"), ("deal_code", "deal_code"),
        ("rate_micros", "rate_micros"), ("line_item_id", "line_item_id"), ("pctr", "pctr"),
    ):  # fmt: skip
        assert (events[event_name] == decisions[name]).all(), event_name
    records = block.records
    assert (events["quantity_micros"] == records["quantity_micros"]).all()
    assert (events["ts_ms"] == records["arrival_ms"]).all()
    assert (events["user_key"] == records["user_key"]).all()
    assert (events["flags"] == np.where(records["is_test"], EventFlag.TEST, 0)).all()


def test_no_bids_are_sampled_without_bias_and_weighted_by_the_share():
    decider = decider_of(one_campaign(), is_active=False, no_bid_sample_rate=0.25)
    _, events = decider.decide(plain_block(4_000, key_lo=np.arange(4_000)))
    assert (events["weight"] == 4).all()
    # 4,000 draws of 1/4: 1,000 with deviation 27; the draws are fixed.
    assert abs(events.shape[0] - 1_000) < 110


def test_a_bid_id_depends_on_opportunity_time_and_line_item_only():
    first, _ = decider_of(one_campaign()).decide(plain_block(3))
    again, _ = decider_of(one_campaign(bid_cpm_micros_max=4_000_000)).decide(plain_block(3))
    assert first["bid_hi"].tolist() == again["bid_hi"].tolist()
    assert first["bid_lo"].tolist() == again["bid_lo"].tolist()
    assert (first["bid_cpm_micros"] != again["bid_cpm_micros"]).any()
    later, _ = decider_of(one_campaign()).decide(plain_block(3, arrival_ms=NOW_MS + 9))
    assert not set(first["bid_hi"].tolist()) & set(later["bid_hi"].tolist())


def test_a_bid_that_is_worth_more_than_any_integer_is_cut_at_the_ceiling():
    campaign = one_campaign()
    decider = decider_of(campaign)
    decider._live.pacing_lambda[:] = 1e-300
    decider.refresh()
    decisions, _ = decider.decide(plain_block(1))
    assert decisions["bid_cpm_micros"][0] == campaign.line_items[0].bid_cpm_micros_max


def test_no_bid_is_above_the_highest_price_that_a_notice_may_state():
    campaign = one_campaign(bid_cpm_micros_max=PRICE_CPM_MICROS_MAX)
    decider = decider_of(campaign, funds=dict.fromkeys(limits_of((campaign,)), 10**15))
    decider._live.pacing_lambda[:] = 1e-9
    decider.refresh()
    currencies = np.zeros((1, 8), np.uint16)
    currencies[0, 0] = NUMBERS["JPY"]
    decisions, _ = decider.decide(plain_block(1, currencies=currencies))
    assert decisions["bid_cpm_micros"][0] == PRICE_CPM_MICROS_MAX
    assert decisions["reserved_micros"][0] == amount_micros(PRICE_CPM_MICROS_MAX, 10**6, 6_700)


def test_a_choice_without_a_draw_has_propensity_one_and_a_drawn_one_less():
    settled, _ = decider_of(one_campaign()).decide(plain_block(1))
    assert settled["propensity"][0] == 1.0
    creative = one_campaign().line_items[0].creatives[0]
    pair = (creative, msgspec.structs.replace(creative, creative_id=11))
    drawn, _ = decider_of(one_campaign(creatives=pair)).decide(plain_block(200))
    assert ((drawn["propensity"] > 0) & (drawn["propensity"] < 1)).all()
    assert set(drawn["creative_id"].tolist()) == {10, 11}


# What policies set.


def test_a_decider_with_the_words_of_a_control_block_sees_that_the_live_arrays_changed(tmp_path):
    control = ControlBlock.create(tmp_path / "control.bin")
    decider = Decider(snapshot_of((one_campaign(),)), control.live, words=control.words)
    decider.credit(credits_of(limits_of((one_campaign(),))), NOW_MS)
    assert reasons(decider, 1) == [NoBidReason.NOT_ACTIVE]
    control.live.is_active[0] = 1
    control.words[Word.LIVE_EPOCH] += 1
    assert reasons(decider, 1) == [NoBidReason.BID]
    control.live.is_active[0] = 0
    assert reasons(decider, 1) == [NoBidReason.NOT_ACTIVE], "a pause does not wait for the word"


# Money and counts.


@settings(max_examples=15)
@given(SEEDS)
def test_what_is_reserved_is_what_is_missing_from_the_budgets(seed):
    rng = random.Random(seed)
    world, block = World(rng), opportunities_of(rng, 80)
    decider = world.decider()
    decisions, _ = decider.decide(block)
    expected = dict(world.limits)
    for decision in decisions[decisions["reason"] == NoBidReason.BID]:
        for budget in decision["budgets"]:
            if budget:
                expected[int(budget)] -= int(decision["reserved_micros"])
    assert decider.available() == expected
    assert min(expected.values()) >= 0


def test_a_bid_needs_its_whole_reservation_in_every_budget():
    campaign = one_campaign(budget=Budget(daily_micros=10**6, lifetime_micros=10**9))
    price, _ = decider_of(campaign).decide(plain_block(1))
    reserved = int(price["reserved_micros"][0])
    daily, lifetime = limits_of((campaign,))
    enough = decider_of(campaign, funds={daily: reserved, lifetime: reserved + 1})
    assert reasons(enough, 1) == [NoBidReason.BID]
    assert enough.available() == {daily: 0, lifetime: 1}
    for funds in ({daily: reserved - 1, lifetime: 10**9}, {daily: 10**9, lifetime: reserved - 1}):
        decider = decider_of(campaign, funds=funds)
        assert reasons(decider, 1) == [NoBidReason.BUDGET_EXHAUSTED]
        assert decider.available() == funds


def test_a_swap_keeps_money_of_budgets_that_stay_leave_and_come_back():
    first, second = one_campaign(), one_campaign(campaign_id=2)
    kept, gone = next(iter(limits_of((first,)))), next(iter(limits_of((second,))))
    decider = decider_of(first)
    decider.swap(snapshot_of((second,), version=2))
    decider.credit(credits_of({kept: 5, gone: 70}), NOW_MS)
    assert decider.available() == {kept: 10**9 + 5, gone: 70}
    decider.swap(snapshot_of((first,), version=3))
    assert decider.state.available_micros.tolist() == [10**9 + 5]
    assert decider.available() == {kept: 10**9 + 5, gone: 70}


def test_a_reset_takes_back_everything_and_later_credits_count():
    first, second = one_campaign(), one_campaign(campaign_id=2)
    kept, parked = next(iter(limits_of((first,)))), next(iter(limits_of((second,))))
    decider = decider_of(first)
    decider.credit(credits_of({parked: 9}), NOW_MS)
    decider.credit(credits_of({0: 0}, CreditKind.RESET), NOW_MS)
    assert sum(decider.available().values()) == 0
    decider.credit(credits_of({kept: 4}), NOW_MS)
    assert decider.available()[kept] == 4


def capped(*caps):
    return one_campaign(frequency_caps=caps)


def reasons(decider, count, **columns):
    return decider.decide(plain_block(count, **columns))[0]["reason"].tolist()


def test_money_of_a_day_is_not_spent_before_or_after_it():
    campaign = one_campaign(budget=Budget(daily_micros=10**9))
    start, end = day_bounds_ms(campaign, NOW_MS)
    decider = decider_of(campaign)
    assert reasons(decider, 1, arrival_ms=start) == [NoBidReason.BID]
    assert reasons(decider, 1, arrival_ms=end - 1) == [NoBidReason.BID]
    assert reasons(decider, 1, arrival_ms=start - 1) == [NoBidReason.BUDGET_EXHAUSTED]
    assert reasons(decider, 1, arrival_ms=end) == [NoBidReason.BUDGET_EXHAUSTED]


def test_a_cap_credit_takes_a_count_back_and_a_negative_one_puts_it_there_again():
    decider = decider_of(capped(FrequencyCap(impressions=1)))
    decisions, _ = decider.decide(plain_block(2))
    assert decisions["reason"].tolist() == [NoBidReason.BID, NoBidReason.FREQUENCY_CAP]
    key = int(decisions["caps"][0, 0])
    decider.credit(credits_of({key: 1}, CreditKind.CAP), NOW_MS)
    assert reasons(decider, 2) == [NoBidReason.BID, NoBidReason.FREQUENCY_CAP]
    decider.credit(credits_of({key: 1}, CreditKind.CAP), NOW_MS)
    decider.credit(credits_of({key: -1}, CreditKind.CAP), NOW_MS)
    assert reasons(decider, 1) == [NoBidReason.FREQUENCY_CAP]


def test_a_cap_credit_never_makes_a_count_negative():
    decider = decider_of(capped(FrequencyCap(impressions=1)))
    decisions, _ = decider.decide(plain_block(1))
    key = int(decisions["caps"][0, 0])
    decider.credit(credits_of({key: 5}, CreditKind.CAP), NOW_MS)
    assert reasons(decider, 2) == [NoBidReason.BID, NoBidReason.FREQUENCY_CAP]


@pytest.mark.parametrize("period", list(CapPeriod))
def test_a_cap_counts_per_user_and_fixed_window(period):
    decider = decider_of(capped(FrequencyCap(impressions=1, period=period)))
    end = (NOW_MS // PERIOD_MS[period] + 1) * PERIOD_MS[period]
    assert reasons(decider, 1, arrival_ms=end - 1) == [NoBidReason.BID]
    assert reasons(decider, 1, arrival_ms=end - 1) == [NoBidReason.FREQUENCY_CAP]
    assert reasons(decider, 1, arrival_ms=end - 1, user_key=78) == [NoBidReason.BID]
    assert reasons(decider, 1, arrival_ms=end) == [NoBidReason.BID]


def test_two_caps_over_one_counter_count_a_bid_once():
    decider = decider_of(capped(FrequencyCap(impressions=2), FrequencyCap(impressions=3)))
    assert reasons(decider, 3) == [NoBidReason.BID, NoBidReason.BID, NoBidReason.FREQUENCY_CAP]


def test_a_cap_that_nothing_showable_reaches_is_not_the_reason():
    decider = decider_of(capped(FrequencyCap(impressions=1)))
    assert reasons(decider, 1) == [NoBidReason.BID]
    sizes = np.zeros((1, 16), np.uint32)
    sizes[0, 0] = 728 << 16 | 90
    assert reasons(decider, 1, sizes=sizes, size_count=1) == [NoBidReason.SIZE_NOT_OFFERED]


def test_workers_that_share_counters_hold_a_cap_together():
    slots = new_state(0, worker_count=2).cap_slots
    cap = capped(FrequencyCap(impressions=2, scope=CapScope.CAMPAIGN))
    one, two = (decider_of(cap, worker=n, cap_slots=slots) for n in range(2))
    assert reasons(one, 1) + reasons(two, 1) == [NoBidReason.BID, NoBidReason.BID]
    assert reasons(one, 1) + reasons(two, 1) == [NoBidReason.FREQUENCY_CAP] * 2


def test_a_full_counter_table_fails_closed():
    slots = new_state(0, slots=16).cap_slots
    decider = decider_of(capped(FrequencyCap(impressions=9)), cap_slots=slots)
    found = [reasons(decider, 1, user_key=user)[0] for user in range(1, 40)]
    assert found == [NoBidReason.BID] * 16 + [NoBidReason.FREQUENCY_CAP] * 23
    # Windows that are over make room again.
    assert reasons(decider, 1, arrival_ms=NOW_MS + 10**9) == [NoBidReason.BID]


def test_a_capped_line_item_does_not_meet_a_user_it_cannot_count():
    decider = decider_of(capped(FrequencyCap(impressions=9)))
    assert reasons(decider, 1, user_key=0) == [NoBidReason.USER_UNKNOWN_FOR_CAP]


def test_a_pause_and_a_multiplier_are_read_live():
    decider = decider_of(one_campaign(bid_cpm_micros_max=10**10))
    before, _ = decider.decide(plain_block(1))
    decider._live.pacing_lambda[0] = 2.0
    after, _ = decider.decide(plain_block(1))
    assert after["bid_cpm_micros"][0] == pytest.approx(before["bid_cpm_micros"][0] / 2, abs=1)
    decider._live.is_active[0] = 0
    assert reasons(decider, 1) == [NoBidReason.NOT_ACTIVE]


def test_warming_up_leaves_no_trace():
    decider = decider_of(capped(FrequencyCap(impressions=1)))
    before = decider.available()
    decider.warm_up()
    assert decider.available() == before
    assert not decider.state.no_bids.any()
    assert not decider.state.cap_slots["key"].any()


# Conformance.


class Agent:
    """The decider as the twin of the market meets it."""

    def __init__(self, decider):
        self.decider = decider

    def decide(self, opportunities):
        return self.decider.decide(opportunities)[0]

    def notice(self, notices):
        pass

    def advance(self, now_ms):
        pass


@pytest.mark.parametrize("seed", range(6))
def test_the_decider_keeps_what_every_bid_agent_must_keep(seed):
    rng = random.Random(seed)
    world = World(rng)

    def make_agent(standing):
        decider = world.decider(
            is_funded=standing is not Standing.UNFUNDED, is_paused=standing is Standing.PAUSED
        )
        if standing is Standing.READY:
            decider.credit(credits_of(dict.fromkeys(world.limits, 10**12)), NOW_MS)
        return Agent(decider)

    check_agent(make_agent, opportunities_of(rng, 400))
