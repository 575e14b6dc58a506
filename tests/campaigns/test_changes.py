from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.auth import Actor, add_advertiser
from campaigns.changes import (
    Change,
    Idempotency,
    campaign_of,
    campaigns_of,
    changed_campaign,
    changes_of,
    check_version,
    new_campaign,
    replay_of,
    store_campaign,
    store_change,
)
from campaigns.refusals import Refusal, RefusalKind
from campaigns.shape import Shaped
from campaigns.store import Role, intent_of
from market.campaign import Budget, Creative, Flight, LineItem, Status

replace = msgspec.structs.replace
NOW = Change("create", "why", 5)


def create(store, actor, asked, idempotency=None):
    campaign = new_campaign(actor, Shaped(asked, ()))
    with store.writing() as session:
        return store_campaign(session, actor, campaign, NOW, idempotency)


def change(store, actor, current, asked):
    edited = changed_campaign(actor, current, Shaped(asked, ()))
    with store.writing() as session:
        return store_change(session, actor, current, edited, Change("update", "because", 9))


def broken_of(function, *arguments):
    with pytest.raises(Refusal) as refused:
        function(*arguments)
    assert refused.value.kind is RefusalKind.INVALID_CAMPAIGN
    return [problem.pointer for problem in refused.value.problems]


def ids(campaign):
    return [
        (item.line_item_id, [each.creative_id for each in item.creatives])
        for item in campaign.line_items
    ]


def test_ids_are_assigned_and_never_given_out_twice(store, actor, asked):
    first = create(store, actor, asked)
    second = create(store, actor, asked)
    assert (first.campaign_id, ids(first)) == (1, [(1, [1, 2]), (2, [])])
    assert (second.campaign_id, ids(second)) == (2, [(3, [3, 4]), (4, [])])
    ended = change(store, actor, first, replace(first, line_items=()))
    renewed = change(store, actor, ended, replace(ended, line_items=asked.line_items))
    assert ids(renewed) == [(5, [5, 6]), (6, [])]


def test_what_is_kept_keeps_its_id_and_what_is_new_gets_one(store, actor, asked):
    campaign = create(store, actor, asked)
    one, two = campaign.line_items
    new = Creative(width=1, height=1, landing_url="https://shop.example/")
    one = replace(one, creatives=(one.creatives[1], new))
    changed = change(store, actor, campaign, replace(campaign, line_items=(two, LineItem(), one)))
    assert ids(changed) == [(2, []), (3, []), (1, [2, 3])]


def test_an_id_that_is_not_the_campaigns_own_is_a_broken_rule(store, actor, asked):
    other = create(store, actor, asked)
    campaign = create(store, actor, asked)
    one, two = campaign.line_items
    foreign = replace(one, creatives=(other.line_items[0].creatives[0], one.creatives[0]))
    twice = replace(two, line_item_id=one.line_item_id)
    stolen = replace(campaign, line_items=(foreign, twice, other.line_items[1]))
    read = Shaped(stolen, ())
    assert broken_of(changed_campaign, actor, campaign, read) == [
        "/line_items/0/creatives/0/creative_id",
        "/line_items/1/line_item_id",
        "/line_items/2/line_item_id",
    ]


def test_a_new_campaign_brings_no_ids(actor, asked):
    item = LineItem(
        line_item_id=3, creatives=(replace(asked.line_items[0].creatives[0], creative_id=4),)
    )
    brought = replace(
        asked, campaign_id=1, advertiser_id=actor.advertiser_id + 1, version=2, line_items=(item,)
    )
    assert broken_of(new_campaign, actor, Shaped(brought, ())) == [
        "/campaign_id", "/advertiser_id", "/version", "/line_items/0/line_item_id",
        "/line_items/0/creatives/0/creative_id",
    ]  # fmt: skip


def test_the_advertiser_is_the_keys(store, actor, asked):
    assert create(store, actor, asked).advertiser_id == actor.advertiser_id


def test_the_currency_never_changes(store, actor, asked):
    campaign = create(store, actor, asked)
    read = Shaped(replace(campaign, currency="EUR"), ())
    assert broken_of(changed_campaign, actor, campaign, read) == ["/currency"]


def test_a_policy_must_be_one_that_exists(actor, asked):
    assert broken_of(new_campaign, actor, Shaped(replace(asked, policy="psychic"), ())) == [
        "/policy"
    ]


def test_every_change_counts_and_leaves_its_trace(store, actor, asked):
    created = create(store, actor, asked)
    paused = change(store, actor, created, replace(created, status=Status.PAUSED))
    assert (created.version, paused.version) == (1, 2)
    with store.reading() as session:
        events = changes_of(session, actor, created.campaign_id, 0, 10)
        trace = [
            (e.action, e.version, e.at_ms, e.actor_kind, e.actor, e.before, e.after, e.reason)
            for e in events
        ]
        assert intent_of(session) == (3, (paused,))
    assert trace == [
        ("create", 1, 5, "api_key", actor.key_id, None, created, "why"),
        ("update", 2, 9, "api_key", actor.key_id, created, paused, "because"),
    ]


def test_a_change_that_changes_nothing_leaves_none(store, actor, asked):
    campaign = create(store, actor, asked)
    assert change(store, actor, campaign, campaign) is campaign
    with store.reading() as session:
        assert len(changes_of(session, actor, campaign.campaign_id, 0, 10)) == 1
        assert intent_of(session)[0] == 2


def test_money_is_kept_to_the_micro(store, actor, asked):
    campaign = create(store, actor, replace(asked, budget=Budget(lifetime_micros=10**15 - 1)))
    with store.reading() as session:
        kept = campaign_of(session, actor, campaign.campaign_id)
    assert kept.budget.lifetime_micros == 999_999_999_999_999


def test_an_advertiser_sees_its_own_campaigns_only(store, actor, asked):
    with store.writing() as session:
        other = Actor(add_advertiser(session, "B", 0), "k", Role.EDITOR)
    mine = [create(store, actor, asked) for _ in range(3)]
    theirs = create(store, other, asked)
    with store.reading() as session:
        assert campaigns_of(session, actor, 0, 10) == tuple(mine)
        assert campaigns_of(session, actor, 1, 1) == (mine[1],)
        assert campaigns_of(session, other, 0, 10) == (theirs,)
        for function, page in ((campaign_of, ()), (changes_of, (0, 10))):
            with pytest.raises(Refusal) as refused:
                function(session, actor, theirs.campaign_id, *page)
            assert refused.value.kind is RefusalKind.NOT_FOUND


@given(st.integers())
def test_no_number_whatever_its_size_is_more_than_not_found(campaign_id):
    with pytest.raises(Refusal) as refused:
        campaign_of(_NoSession(), Actor(1, "k", Role.VIEWER), campaign_id)
    assert refused.value.kind is RefusalKind.NOT_FOUND


class _NoSession:
    """A table without rows; it refuses what SQLite cannot hold, as the driver does."""

    def get(self, _model, key):
        assert -(2**63) <= key < 2**63


def test_a_viewer_changes_nothing(store, actor, asked):
    campaign = create(store, actor, asked)
    viewer = actor._replace(role=Role.VIEWER)
    for function, arguments in (
        (new_campaign, (viewer, Shaped(asked, ()))),
        (changed_campaign, (viewer, campaign, Shaped(campaign, ()))),
    ):
        with pytest.raises(Refusal) as refused:
            function(*arguments)
        assert refused.value.kind is RefusalKind.FORBIDDEN


def test_a_repeated_create_is_answered_as_before_even_after_a_change(store, actor, asked):
    idempotency = Idempotency("key", "hash")
    created = create(store, actor, asked, idempotency)
    change(store, actor, created, replace(created, name="Other"))
    with store.reading() as session:
        assert replay_of(session, actor, idempotency) == created
        assert replay_of(session, actor, Idempotency("another", "hash")) is None
        with pytest.raises(Refusal) as refused:
            replay_of(session, actor, Idempotency("key", "other hash"))
    assert refused.value.kind is RefusalKind.IDEMPOTENCY_KEY_REUSED


def test_idempotency_keys_of_two_advertisers_are_two(store, actor, asked):
    with store.writing() as session:
        other = Actor(add_advertiser(session, "B", 0), "k", Role.EDITOR)
    create(store, actor, asked, Idempotency("key", "hash"))
    with store.reading() as session:
        assert replay_of(session, other, Idempotency("key", "other hash")) is None


@pytest.mark.parametrize("tag", ['"3"', "*", '"2", "3"', ' "3" '])
def test_if_match_lets_pass_what_names_the_version(asked, tag):
    check_version(replace(asked, version=3), tag)


@pytest.mark.parametrize("tag", ['"2"', "3", 'W/"3"', "", '"33"'])
def test_if_match_stops_what_does_not(asked, tag):
    with pytest.raises(Refusal) as refused:
        check_version(replace(asked, version=3), tag)
    assert refused.value.kind is RefusalKind.VERSION_MISMATCH


@pytest.mark.parametrize("at_ms", [-1, 2**63, 10**30])
def test_a_flight_lies_in_times_that_arrays_can_hold(actor, asked, at_ms):
    flight = Flight(start_at_ms=at_ms)
    read = Shaped(replace(asked, flight=flight), ())
    assert broken_of(new_campaign, actor, read) == ["/flight/start_at_ms"]
