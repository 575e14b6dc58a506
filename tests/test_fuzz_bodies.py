"""Any body is answered: 200, 204, 400 or 413, never an exception, in memory that does not grow.

The bulk comes from ``tests.mutations``, by seed; ``--fuzz-cases`` runs more than the ordinary run,
``--fuzz-seed S`` others, ``--fuzz-seed S:N`` the one case that a failure named. Hypothesis looks at
single values of real requests and shrinks what fails.
"""

from __future__ import annotations

import gc
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.http import inflate_or_status
from market.events import EVENT_DTYPE
from market.exchange import DEFAULT_EXCHANGES, check_profiles
from market.money import PRICE_CPM_MICROS_MAX
from market.openrtb import BidResponse
from tests import mutations
from tests.bidder.services import NOW_MS, engine_of, service_of

PROFILES = check_profiles(DEFAULT_EXCHANGES)
PARTS = 8
GROWTH_BYTES_MAX = 64 << 20
_PAGE_BYTES = 4_096
_RESPONSE = msgspec.json.Decoder(BidResponse)


class CountingSink:
    """Takes every event and keeps none."""

    def __init__(self):
        self.count = 0

    def free_count(self):
        return 1_000

    def push_raw(self, record):
        self.count += 1
        return len(record) == EVENT_DTYPE.itemsize


@pytest.fixture(scope="module")
def sink():
    return CountingSink()


class Native:
    """The native path with the default one behind it, with the service's face."""

    def __init__(self, service):
        self._engine = engine_of(service, PROFILES.values())
        self.answer = self._engine.answered


@pytest.fixture(scope="module", params=["default", "native"])
def service(request, sink):
    behind = service_of(sink=sink, funds=10**14)
    return behind if request.param == "default" else Native(behind)


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def answered(service, body, profile, coding=b""):
    """The status of a body as the worker answers it, and the bids in its answer."""
    if coding:
        body = inflate_or_status(coding, body, mutations.LIMIT_BYTES)
        if isinstance(body, int):
            return body, 0
    if len(body) > mutations.LIMIT_BYTES:
        return 413, 0
    answer = service.answer(body, profile, NOW_MS)
    assert answer.status in (200, 204, 400)
    if answer.status != 200:
        assert answer.body == b""
        return answer.status, 0
    response = _RESPONSE.decode(answer.body)
    bids = [bid for seat in response.seatbid or () for bid in seat.bid]
    assert len(bids) == answer.bid_count
    assert bids or profile.answers_nbr
    for bid in bids:
        assert 0 < bid.price <= PRICE_CPM_MICROS_MAX / 1e6
        assert bid.adm
    return 200, len(bids)


def case_of(seed, number):
    """(body, coding, profile) of one case."""
    chosen = mutations.chance_of(seed, number)
    coding = b""
    if chosen.random() < 0.02:
        coding, body = mutations.packed_case(chosen)
    else:
        body = mutations.body_case(chosen)
    return body, coding, PROFILES["verbose" if chosen.random() < 0.2 else "default"]


def statuses_of(service, sink, some):
    """How many of the cases got each status; a failure names its case."""
    statuses = {}
    for seed, number in some:
        body, coding, profile = case_of(seed, number)
        events = sink.count
        try:
            status, bid_count = answered(service, body, profile, coding)
            assert sink.count - events >= bid_count
        except BaseException as error:
            error.add_note(f"pytest tests/test_fuzz_bodies.py --fuzz-seed {seed}:{number}")
            raise
        statuses[status] = statuses.get(status, 0) + 1
    return statuses


def test_the_bodies_to_start_from_are_real_and_answered(service):
    sources = mutations.sources()
    assert len(sources) >= 20
    found = [answered(service, source.body, PROFILES["default"]) for source in sources]
    assert sum(status == 200 for status, _ in found) >= 10
    assert sum(len(source.spans) for source in sources) > 1_000


@pytest.mark.parametrize("part", range(PARTS))
def test_no_mutated_body_is_answered_with_an_exception(service, sink, fuzz, part):
    some = mutations.cases(fuzz.seed, fuzz.count)[part::PARTS]
    statuses = statuses_of(service, sink, some)
    assert statuses.keys() <= {200, 204, 400, 413}
    if len(some) >= 1_000:
        # Neither all refused nor all taken: the mutations reach every stage.
        assert all(statuses[status] > len(some) // 20 for status in (200, 204, 400))


def test_memory_stays_flat(service, sink):
    """The same 3,000 bodies again and again: what they leave behind must not add up."""
    some = mutations.cases(None, 3_000, seed=7)
    statuses_of(service, sink, some)
    gc.collect()
    before = resident_bytes()
    for _ in range(2):
        statuses_of(service, sink, some)
    gc.collect()
    assert resident_bytes() - before < GROWTH_BYTES_MAX


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.data())
def test_any_value_in_any_place_of_a_real_request_is_answered(service, data):
    source = data.draw(st.sampled_from([s for s in mutations.sources() if s.spans]))
    body = source.body
    places = data.draw(st.sets(st.sampled_from(source.spans), min_size=1, max_size=3))
    for span in sorted(places, reverse=True):
        if span.end <= len(body):
            value = json.dumps(data.draw(JSON), ensure_ascii=data.draw(st.booleans()))
            new = value.encode(errors="surrogatepass")
            body = body[: span.first] + new + body[span.end :]
    status, _ = answered(service, body, PROFILES["default"])
    assert status in (200, 204, 400)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_answered(service, body):
    assert answered(service, body, PROFILES["default"])[0] in (200, 204, 400)


@settings(max_examples=200)
@given(st.binary(max_size=200), st.sampled_from([b"gzip", b"x-gzip", b"deflate", b"br", b" "]))
def test_any_compressed_bytes_are_answered(service, body, coding):
    assert answered(service, body, PROFILES["default"], coding)[0] in (200, 204, 400)


@pytest.mark.parametrize("size", [mutations.LIMIT_BYTES + 1, 200 << 20])
def test_a_gzip_bomb_is_413_and_takes_no_memory(service, size):
    bomb = mutations.bomb(size)
    before = resident_bytes()
    assert answered(service, bomb, PROFILES["default"], b"gzip") == (413, 0)
    assert resident_bytes() - before < 16 << 20


def test_a_case_is_the_same_whenever_it_is_made():
    for number in (0, 1, 17, 4_000):
        assert case_of(5, number) == case_of(5, number)
    assert mutations.cases("5:17", 1_000) == [(5, 17)]
    assert mutations.cases("5", 3) == [(5, 0), (5, 1), (5, 2)]
