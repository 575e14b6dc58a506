"""The exchange: first price against the best rival, draws that no bid moves, notices about it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from market.decision import DECISION_DTYPE, NoBidReason
from market.errors import BadInput
from market.events import EventKind
from market.exchange import DEFAULT_EXCHANGES
from market.kernels import amount_micros
from simulator.exchange import Exchange, LossReason, bids_of, profile_of
from tests.simulator.markets import (
    SALT,
    VALUE_MICROS,
    ads_of,
    bids_on,
    changed,
    exchange_of,
    scenario_of,
    size_of,
)

HOUR_MS = 3_600_000
PRICE = 2_500_000


def fitting(exchange, offers):
    """Creative ids that fit the scenes of a block."""
    ads = ads_of()
    by_scene = [
        next(
            ad.creative_id
            for ad in ads
            if size_of(ad) in scene.sizes and ad.features["format"] == scene.format.name.lower()
        )
        for scene in exchange.supply.scenes
    ]
    return np.array(by_scene)[offers.scene]


@pytest.fixture
def exchange():
    return exchange_of()


def day(exchange, hours=25):
    start = exchange.scenario.start_at_ms
    return exchange.offers(start, start + hours * HOUR_MS)


def test_the_least_price_that_wins_wins_and_a_micro_less_does_not(exchange):
    offers = day(exchange)
    ids = fitting(exchange, offers)
    least = exchange.clear(offers, bids_on(offers, PRICE, ids)).min_to_win_cpm_micros
    assert exchange.clear(offers, bids_on(offers, least, ids)).has_won.all()
    below = exchange.clear(offers, bids_on(offers, least - 1, ids))
    assert not below.has_won.any()
    floor = offers.opportunities.records["floor_cpm_micros"]
    is_outbid = below.reason == LossReason.OUTBID
    assert (is_outbid == (least - 1 >= floor)).all()
    assert (below.reason[~is_outbid] == LossReason.BELOW_FLOOR).all()


def test_a_winner_pays_its_bid_and_a_tie_goes_to_the_rival(exchange):
    offers = day(exchange)
    ids = fitting(exchange, offers)
    rival = exchange.clear(offers, bids_on(offers, PRICE, ids)).rival_cpm_micros
    assert (rival > 0).any()
    tied = exchange.clear(offers, bids_on(offers, np.maximum(rival, 1), ids))
    assert not tied.has_won[rival > 0].any()
    above = exchange.clear(offers, bids_on(offers, rival + 5_000_000, ids))
    assert above.has_won.all()
    assert (above.clearing_cpm_micros == rival + 5_000_000).all()


def test_an_impression_costs_its_price_by_the_money_rule(exchange):
    offers = day(exchange)
    bids = bids_on(offers, 3_333_333, fitting(exchange, offers))
    bids.rate_micros[:] = 1_080_000
    clearing = exchange.clear(offers, bids)
    assert set(clearing.amount_micros[clearing.has_won].tolist()) == {
        int(amount_micros(3_333_333, 1_000_000, 1_080_000))
    }
    assert not clearing.amount_micros[~clearing.has_won].any()


def test_nothing_that_is_drawn_depends_on_what_was_bid():
    one, other = exchange_of(), exchange_of()
    offers = day(one)
    ids = fitting(one, offers)
    places = np.arange(0, offers.sequence.shape[0], 3)
    full = one.clear(offers, bids_on(offers, 9_000_000, ids))
    some = other.clear(day(other), bids_on(offers, 4_000_000, ids[places], places))
    both = full.has_won[places] & some.has_won
    assert both.sum() > 100
    assert np.array_equal(full.rival_cpm_micros[places], some.rival_cpm_micros)
    for name in ("click_probability", "conversion_probability", "has_clicked", "has_converted",
                 "value_micros"):  # fmt: skip
        assert np.array_equal(getattr(full, name)[places][both], getattr(some, name)[both]), name
    told = [
        {
            (row["sequence"], row["kind"], row["copy"]): row["due_ms"]
            for row in each.due_rows(2**62)
            if row["sequence"] in set(places[both].tolist())
        }
        for each in (one, other)
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"creative_id": 999}, LossReason.CREATIVE_FILTERED),
        ({"size": 5 << 16 | 5}, LossReason.SIZE_NOT_ALLOWED),
        ({"format": 8}, LossReason.FORMAT_NOT_ALLOWED),
        ({"price_cpm_micros": 10_000}, LossReason.BELOW_FLOOR),
        ({"fault": LossReason.MISSING_MARKUP}, LossReason.MISSING_MARKUP),
    ],
)
def test_a_bid_that_breaks_a_rule_loses_for_that_reason(exchange, change, reason):
    offers = day(exchange)
    scenes = exchange.supply.scenes
    banners = [
        place
        for place, scene in enumerate(offers.scene.tolist())
        if scenes[scene].placement.tag == "gearbox-text"
    ]
    bids = bids_on(offers, 90_000_000, fitting(exchange, offers)[banners], banners)
    assert exchange.clear(offers, bids).has_won.all()
    for name, value in change.items():
        getattr(bids, name)[:] = value
    clearing = exchange.clear(offers, bids)
    assert (clearing.reason == reason).all()
    assert not clearing.has_won.any()
    lost = [n for n in exchange.due(2**62) if n.kind is EventKind.LOSS]
    assert {notice.reason for notice in lost} == {reason}


def test_a_players_ad_may_have_any_size(exchange):
    offers = day(exchange)
    videos = [
        place
        for place, scene in enumerate(offers.scene.tolist())
        if exchange.supply.scenes[scene].placement.video
    ]
    bids = bids_on(offers, 90_000_000, fitting(exchange, offers)[videos], videos)
    bids.size[:] = 640 << 16 | 360
    assert exchange.clear(offers, bids).has_won.all()


def test_two_bids_on_one_opportunity_are_a_programmers_error(exchange):
    offers = day(exchange, hours=1)
    bids = bids_on(offers, PRICE, 1, [0, 0])
    with pytest.raises(AssertionError, match="one bid an opportunity"):
        exchange.clear(offers, bids)


def test_a_block_without_bids_clears_to_nothing(exchange):
    offers = day(exchange, hours=1)
    clearing = exchange.clear(offers, bids_on(offers, PRICE, 1, np.zeros(0, np.int64)))
    assert clearing.has_won.shape == (0,)
    assert exchange.pending_count == 0


def test_notices_are_told_once_they_are_due_and_then_forgotten(exchange):
    offers = day(exchange, hours=1)
    exchange.clear(offers, bids_on(offers, PRICE, fitting(exchange, offers)))
    start, whole = exchange.scenario.start_at_ms, exchange.pending_count
    assert exchange.due(start - 1) == ()
    now = start + 1_000
    early = exchange.due_rows(now)
    assert 0 < early.shape[0] < whole
    assert early["due_ms"].max() <= now
    assert exchange.due(now) == ()
    late = exchange.due_rows(2**62)
    assert late["due_ms"].min() > now
    assert early.shape[0] + late.shape[0] == whole


def test_a_notice_says_what_became_of_its_bid(exchange):
    offers = day(exchange)
    bids = bids_on(offers, PRICE, fitting(exchange, offers))
    clearing = exchange.clear(offers, bids)
    place = {
        (int(hi), int(lo)): i
        for i, (hi, lo) in enumerate(zip(bids.bid_hi, bids.bid_lo, strict=True))
    }
    now = exchange.scenario.end_at_ms + 30 * 24 * HOUR_MS
    kinds = set()
    for notice in exchange.due(now):
        i = place[notice.bid_hi, notice.bid_lo]
        kinds.add(notice.kind)
        assert notice.at_ms == now
        if notice.kind is EventKind.LOSS:
            assert notice.reason == clearing.reason[i]
            assert notice.price_cpm_micros == clearing.min_to_win_cpm_micros[i]
            continue
        assert clearing.has_won[i]
        assert notice.reason == 0
        if notice.kind is EventKind.CONVERSION:
            assert clearing.has_converted[i]
            assert notice.value_micros == clearing.value_micros[i] > 0
            assert notice.order_id == exchange.request_id(int(offers.sequence[i]))
        else:
            assert notice.value_micros == 0
            assert notice.order_id == ""
            expected = 0 if notice.kind is EventKind.CLICK else PRICE
            assert notice.price_cpm_micros == expected
    assert kinds == {
        EventKind.WIN, EventKind.BILLING, EventKind.IMPRESSION, EventKind.CLICK,
        EventKind.CONVERSION, EventKind.LOSS,
    }  # fmt: skip


def test_orders_are_worth_what_the_registration_says_on_average():
    scenario = changed(
        scenario_of(), response__ctr=0.45, response__cvr=0.89, requests_per_day=20_000
    )
    exchange = exchange_of(scenario)
    offers = day(exchange)
    clearing = exchange.clear(offers, bids_on(offers, 90_000_000, fitting(exchange, offers)))
    values = clearing.value_micros[clearing.has_converted]
    sigma = scenario.response.value_sigma
    error = VALUE_MICROS * np.sqrt((np.exp(sigma**2) - 1) / values.shape[0])
    assert values.shape[0] > 3000
    assert abs(values.mean() - VALUE_MICROS) <= 4 * error
    assert not clearing.value_micros[~clearing.has_converted].any()


def test_creatives_may_be_registered_in_any_order():
    ads = ads_of()
    one, other = exchange_of(), exchange_of(ads=ads[::-1])
    offers = day(one, hours=4)
    ids = fitting(one, offers)
    a, b = (each.clear(offers, bids_on(offers, 9_000_000, ids)) for each in (one, other))
    assert np.array_equal(a.click_probability, b.click_probability)
    assert np.array_equal(a.creative, len(ads) - 1 - b.creative)


def test_decisions_without_a_bid_become_none():
    decisions = np.zeros(3, DECISION_DTYPE)
    decisions["reason"] = [NoBidReason.BELOW_FLOOR, NoBidReason.BID, NoBidReason.FREQUENCY_CAP]
    decisions["bid_currency"] = 840
    decisions["bid_cpm_micros"] = [1, 2, 3]
    bids = bids_of(decisions, "USD")
    assert bids.offer.tolist() == [1]
    assert bids.price_cpm_micros.tolist() == [2]


def test_a_bid_in_a_foreign_currency_is_an_error():
    decisions = np.zeros(1, DECISION_DTYPE)
    decisions["bid_currency"] = 978
    with pytest.raises(BadInput, match=r"978.*USD"):
        bids_of(decisions, "USD")


def test_a_slice_too_long_for_the_billing_window_is_an_error():
    with pytest.raises(BadInput, match="billing window of 300000 ms") as caught:
        exchange_of(changed(scenario_of(), slice_ms=150_000))
    assert caught.value.pointer == "/slice_ms"


def test_an_exchange_profile_that_is_not_there_is_an_error():
    with pytest.raises(BadInput, match="'nowhere'; it must be one of default, twin"):
        profile_of(changed(scenario_of(), exchange="nowhere"))


def test_the_profile_of_the_bidder_sets_name_and_window():
    own = msgspec.structs.replace(
        DEFAULT_EXCHANGES[1], exchange_id=9, billing_window_ms={"banner": 400_000, "video": 500_000}
    )
    exchange = Exchange(scenario_of(), (), seed=1, user_salt=SALT, profile=own)
    records = day(exchange).opportunities.records
    assert set(records["exchange"].tolist()) == {9}
    assert set(records["billing_window_ms"].tolist()) == {400_000, 500_000}


def test_an_unregistered_market_refuses_every_creative():
    exchange = exchange_of(ads=())
    offers = day(exchange, hours=1)
    clearing = exchange.clear(offers, bids_on(offers, 9_000_000, 1))
    assert (clearing.reason == LossReason.CREATIVE_FILTERED).all()
