"""The native path against the default one: answers, events, money and counters, to the byte."""

from __future__ import annotations

import json
import random

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from bidder.catalogue import read_catalogue
from bidder.native.wire import Bail
from market.events import EVENT_DTYPE
from market.exchange import DEFAULT_EXCHANGES, check_profiles
from tests.bidder.native.bodies import FULL, golden_bodies, mutated, real_bodies
from tests.bidder.services import NOW_MS, Sink, catalogue_snapshot, engine_of, service_of
from tests.bidder.test_golden import CASES, bidder, masked

PROFILES = check_profiles(DEFAULT_EXCHANGES)
BODIES = [*real_bodies(), *golden_bodies()]
BASES = [json.loads(body) for _, body in golden_bodies()] + [FULL]


class Pair:
    """Two bidders in the same state: one answers natively where it can, the other never."""

    def __init__(self, profiles, make=service_of):
        self.plain_sink, self.native_sink = Sink(), Sink()
        self.plain = make(sink=self.plain_sink)
        self.behind = make(sink=self.native_sink)
        self.native = engine_of(self.behind, profiles)

    def both(self, body, profile, now_ms=NOW_MS):
        """The answer of both, which must be one; whether it was native."""
        bails = sum(self.native.bails)
        expected = self.plain.answer(body, profile, now_ms)
        found = self.native.answered(body, profile, now_ms)
        assert (found.status, found.body) == (expected.status, expected.body)
        assert found.bid_count == expected.bid_count
        self.check_state()
        return found, sum(self.native.bails) == bails

    def check_state(self):
        assert len(self.native_sink.events) == len(self.plain_sink.events)
        if self.plain_sink.events:
            mine, other = self.native_sink.events[-1], self.plain_sink.events[-1]
            for name in EVENT_DTYPE.names:
                assert np.array_equal(mine[name], other[name]), name
        ours, theirs = self.behind.desk.decider, self.plain.desk.decider
        assert ours.available() == theirs.available()
        assert np.array_equal(ours.state.cap_slots, theirs.state.cap_slots)
        for name in ("no_bids", "bids"):
            ours, theirs = self.behind.metrics.row[name], self.plain.metrics.row[name]
            assert np.array_equal(ours, theirs), name


@pytest.fixture(scope="module")
def pair():
    return Pair(DEFAULT_EXCHANGES)


@pytest.mark.parametrize("profile", DEFAULT_EXCHANGES, ids=lambda profile: profile.name)
def test_every_printed_body_has_one_answer_on_both_paths(pair, profile):
    for round_ in range(2):
        for name, body in BODIES:
            try:
                pair.both(body, profile, NOW_MS + round_ * 1_000)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error


@pytest.mark.parametrize("path", CASES, ids=[f"{p.parent.name}/{p.stem}" for p in CASES])
def test_a_golden_request_has_its_golden_answer_natively(path):
    case = json.loads(path.read_text())
    profile, service = bidder(case)
    engine = engine_of(
        service, [profile], supply=service._edge._supply, tcf_vendor_id=case.get("tcf_vendor_id")
    )
    body = json.dumps(case["request"]).encode()
    answered = engine.answered(body, profile, NOW_MS)
    assert answered.status == case["expected"]["status"]
    assert masked(answered.body.decode()) == case["expected"]["response"], case["about"]


def test_most_real_bodies_that_bid_are_answered_natively():
    if not real_bodies():
        pytest.skip("../shared/requests is not there: real bodies of exchanges")
    pair = Pair(DEFAULT_EXCHANGES)
    profile = PROFILES["default"]
    native = []
    for name, body in real_bodies():
        answered, is_native = pair.both(body, profile)
        if answered.status == 200:
            native.append((name, is_native))
    left = [name for name, is_native in native if not is_native]
    assert len(left) <= 2, (left, {Bail(n).name: c for n, c in enumerate(pair.native.bails) if c})


def test_a_thousand_requests_in_a_row_leave_both_in_the_same_state():
    pair = Pair(DEFAULT_EXCHANGES, lambda sink: service_of(sink=sink, funds=3_000_000))
    chosen = random.Random(7)
    statuses = set()
    for n in range(1_000):
        name, body = chosen.choice(BODIES)
        try:
            answered, _ = pair.both(
                body, PROFILES[chosen.choice(("default", "twin"))], NOW_MS + n * 250
            )
        except AssertionError as error:
            raise AssertionError(f"request {n}, {name}: {error}") from error
        statuses.add(answered.status)
    assert statuses == {200, 204, 400}


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(mutated(BASES))
def test_a_mutated_body_has_one_answer_on_both_paths(pair, body):
    pair.both(body, PROFILES["default"])


def test_a_full_sink_and_a_missed_deadline_are_left_to_the_default_path():
    pair = Pair(DEFAULT_EXCHANGES)
    name, body = golden_bodies()[0]
    pair.plain_sink.room = pair.native_sink.room = 0
    answered, _ = pair.both(body, PROFILES["default"])
    assert answered.status == 204, name


def test_a_swap_of_snapshots_is_followed():
    pair = Pair(DEFAULT_EXCHANGES)
    body = dict(golden_bodies())["banner"]
    first, _ = pair.both(body, PROFILES["default"])
    campaigns = tuple(
        msgspec.structs.replace(
            campaign,
            line_items=tuple(
                msgspec.structs.replace(
                    item,
                    creatives=tuple(
                        msgspec.structs.replace(each, adm=each.adm + "<!-- second -->")
                        for each in item.creatives
                    ),
                )
                for item in campaign.line_items
            ),
        )
        for campaign in read_catalogue()
    )
    other = catalogue_snapshot(campaigns, version=2)
    for service in (pair.plain, pair.behind):
        service.swap(other)
    pair.native.swap(other)
    second, is_native = pair.both(body, PROFILES["default"], NOW_MS + 1)
    assert b"second" in second.body
    assert b"second" not in first.body
    assert is_native
