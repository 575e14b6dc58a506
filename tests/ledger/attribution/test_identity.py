from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.attribution.identity import NOBODY_LINKED, identity_of, person_groups
from ledger.attribution.kernels import components, dense_codes
from market.errors import BadInput
from tests.reference import attribution as reference

KEYS = st.integers(1, 9) | st.integers(2**63, 2**64 - 1)


@pytest.mark.plain
@given(st.lists(st.tuples(KEYS, st.integers(0, 6)), max_size=30))
def test_persons_are_the_closure_of_all_links(links):
    array = np.array(links, np.uint64).reshape(-1, 2)
    identity = identity_of(array[:, 0], array[:, 1])
    expected = reference.persons(links)
    assert dict(zip(*(each.tolist() for each in identity), strict=True)) == expected
    for user in [*expected, 77]:
        alike = {u for u, person in expected.items() if person == expected.get(user)}
        assert set(identity.users(user)) == (alike or {user})


@pytest.mark.plain
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30))
def test_components_have_their_least_node_as_root(pairs):
    array = np.array(pairs, np.int64).reshape(-1, 2)
    roots = components(array[:, 0].copy(), array[:, 1].copy(), 12)
    users = reference.persons([(node, 100 + node) for node in range(12)])
    assert len(users) == 12
    links = [(a, 50 + i) for i, (a, _) in enumerate(pairs)]
    links += [(b, 50 + i) for i, (_, b) in enumerate(pairs)]
    expected = reference.persons(links)
    assert roots.tolist() == [expected.get(node, node) for node in range(12)]


@pytest.mark.plain
@pytest.mark.parametrize("count", [0, 1, 5_000])
def test_equal_pairs_have_one_number_however_many_there_are(count):
    rng = np.random.default_rng(count)
    high = rng.integers(0, 5_000, count).astype(np.uint64)
    low = rng.integers(0, 2, count).astype(np.uint64) << np.uint64(63)
    codes, seen_at = dense_codes(high, low)
    numbers = {}
    for pair, code in zip(zip(high.tolist(), low.tolist(), strict=True), codes, strict=True):
        assert numbers.setdefault(pair, len(numbers)) == code
    assert seen_at.shape[0] == len(numbers)
    assert [(int(high[i]), int(low[i])) for i in seen_at] == list(numbers)


def test_an_unknown_user_joins_nobody_but_the_notices_of_its_own_bid():
    advertiser = np.ones(5, np.uint32)
    users = np.array([0, 0, 0, 4, 4], np.uint64)
    bids = np.array([7, 7, 4, 1, 2], np.uint64)
    groups, count = person_groups(
        NOBODY_LINKED, advertiser, users, np.array([1, 1, 1, 8, 9], np.uint64), bids
    )
    assert groups.tolist() == [0, 0, 1, 2, 2]
    assert count == 3


def test_advertisers_never_share_a_person():
    groups, _ = person_groups(
        NOBODY_LINKED,
        np.array([1, 2, 1], np.uint32),
        np.array([5, 5, 5], np.uint64),
        np.zeros(3, np.uint64),
        np.zeros(3, np.uint64),
    )
    assert groups.tolist() == [0, 1, 0]


def test_a_map_that_joins_nobody_or_is_ragged_is_refused():
    with pytest.raises(BadInput, match="user key 0"):
        identity_of(np.array([1, 0], np.uint64), np.array([1, 1], np.uint64))
    with pytest.raises(BadInput, match="2 user keys and 1 person codes"):
        identity_of(np.array([1, 2], np.uint64), np.array([1], np.uint64))
