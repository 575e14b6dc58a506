"""What a TC string permits: purposes, vendors, restrictions, disclosure, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.privacy.consent import NEEDS, Registration, check_valid, may_process, permits
from bidder.privacy.consent_string import decode_consent
from bidder.privacy.use import Use
from market.errors import BadInput
from tests.reference import privacy as reference

VENDOR = 99
OURS = Registration(VENDOR)
NOT_ALLOWED, REQUIRE_CONSENT, REQUIRE_INTEREST, UNDEFINED = range(4)
FIRST_OF_MARCH_2026 = 17_723_232_000
"""Deciseconds."""


def consent(**changes):
    return decode_consent(reference.consent_string({**reference.CONSENTING, **changes}))


def uses(said, registration=OURS):
    return {use for use in Use if permits(said, registration, use)}


def test_full_consent_permits_every_use():
    assert uses(consent()) == set(Use)


@pytest.mark.parametrize("vendor_id", [0, 1, 6, 8, 98, 100, 754, 756, 65_535])
def test_consent_for_other_vendors_permits_nothing(vendor_id):
    assert uses(consent(), Registration(vendor_id)) == set()


@pytest.mark.parametrize(
    ("missing", "left"),
    [
        (1, {Use.PRECISE_GEO}),
        (2, {Use.SEGMENTS, Use.DEMOGRAPHICS}),
        (3, {Use.USER_ID, Use.PRECISE_GEO}),
        (4, {Use.USER_ID, Use.PRECISE_GEO}),
        (7, {Use.SEGMENTS, Use.DEMOGRAPHICS, Use.PRECISE_GEO}),
    ],
)
def test_a_purpose_without_consent_forbids_the_uses_that_stand_on_it(missing, left):
    assert uses(consent(purposes=reference.CONSENTING["purposes"] - {missing})) == left


@given(st.sets(st.integers(1, 24)), st.booleans())
def test_a_use_is_permitted_exactly_when_all_it_needs_is_there(purposes, has_geo):
    said = consent(purposes=purposes, special_features={1} if has_geo else {2})
    for use in Use:
        needs = NEEDS[use]
        has_all = purposes.issuperset(needs.purposes) and (has_geo or not needs.special_features)
        assert permits(said, OURS, use) == has_all


def test_precise_geolocation_needs_its_special_feature():
    assert uses(consent(special_features=set())) == set(Use) - {Use.PRECISE_GEO}


@pytest.mark.parametrize("kind", [NOT_ALLOWED, UNDEFINED, REQUIRE_INTEREST])
@pytest.mark.parametrize("purpose", [1, 2, 3, 4, 7])
def test_a_publisher_may_forbid_a_purpose_whatever_the_user_said(purpose, kind):
    said = consent(restrictions=[(purpose, kind, {VENDOR})])
    assert not may_process(said, OURS, purpose)
    without = consent(purposes=reference.CONSENTING["purposes"] - {purpose})
    assert uses(said) == uses(without)


def test_a_restriction_of_other_vendors_or_purposes_is_not_ours():
    assert uses(consent(restrictions=[(1, NOT_ALLOWED, {98, 100}), (9, NOT_ALLOWED, {99})])) == set(
        Use
    )


def test_a_publisher_that_requires_consent_changes_nothing_for_purposes_on_consent():
    assert uses(consent(restrictions=[(2, REQUIRE_CONSENT, {VENDOR})])) == set(Use)


def test_contradicting_restrictions_forbid():
    flexible = Registration(VENDOR, flexible=frozenset({2}))
    both = [(2, REQUIRE_CONSENT, {VENDOR}), (2, REQUIRE_INTEREST, {VENDOR})]
    assert not may_process(consent(restrictions=both), flexible, 2)


INTEREST = {"interests": {2, 7}, "vendors_interest": {VENDOR}}
ON_INTEREST = Registration(VENDOR, frozenset({2, 7}))


@pytest.mark.parametrize(
    ("registration", "changes", "expected"),
    [
        # on legitimate interest: the user must not have objected, to the purpose or the vendor
        (ON_INTEREST, {**INTEREST, "purposes": {1}}, True),
        (ON_INTEREST, {**INTEREST, "interests": {7}}, False),
        (ON_INTEREST, {**INTEREST, "vendors_interest": set()}, False),
        (ON_INTEREST, {"purposes": {2}}, False),
        # a publisher that requires consent
        (ON_INTEREST, {**INTEREST, "restrictions": [(2, REQUIRE_CONSENT, {VENDOR})]}, False),
        (ON_INTEREST._replace(flexible=frozenset({2})),
         {**INTEREST, "restrictions": [(2, REQUIRE_CONSENT, {VENDOR})]}, True),
        (ON_INTEREST._replace(flexible=frozenset({2})),
         {**INTEREST, "purposes": {1}, "restrictions": [(2, REQUIRE_CONSENT, {VENDOR})]}, False),
        # a publisher that requires legitimate interest
        (OURS, {**INTEREST, "restrictions": [(2, REQUIRE_INTEREST, {VENDOR})]}, False),
        (Registration(VENDOR, flexible=frozenset({2})),
         {**INTEREST, "restrictions": [(2, REQUIRE_INTEREST, {VENDOR})]}, True),
        (Registration(VENDOR, flexible=frozenset({2})),
         {"restrictions": [(2, REQUIRE_INTEREST, {VENDOR})]}, False),
        # flexible without a restriction: the registered basis stays
        (ON_INTEREST._replace(flexible=frozenset({2})), {"purposes": {2}}, False),
    ],
)  # fmt: skip
def test_the_legal_basis_is_the_registered_one_unless_a_publisher_may_change_it(
    registration, changes, expected
):
    assert may_process(consent(**changes), registration, 2) == expected


@pytest.mark.parametrize("purpose", [1, 3, 4, 5, 6])
def test_some_purposes_have_no_legitimate_interest(purpose):
    everything = frozenset(range(1, 25))
    said = consent(interests=everything, vendors_interest={VENDOR}, purposes=set())
    assert not may_process(said, Registration(VENDOR, everything), purpose)
    assert may_process(said, Registration(VENDOR, everything), 2)


def test_a_purpose_1_that_was_not_disclosed_is_not_permitted():
    assert not may_process(consent(one_treatment=True), OURS, 1)


def test_a_vendor_that_was_not_disclosed_may_nothing():
    assert uses(consent(disclosed={7, 755})) == set()
    assert uses(consent(disclosed={7, VENDOR})) == set(Use)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"policy_version": 5, "disclosed": {VENDOR}}, None),
        ({"updated": FIRST_OF_MARCH_2026, "disclosed": {VENDOR}}, None),
        ({"updated": FIRST_OF_MARCH_2026 - 1}, None),
        ({"is_service_specific": False}, "IsServiceSpecific"),
        ({"policy_version": 3}, "TcfPolicyVersion"),
        ({"policy_version": 5}, "disclosed vendors"),
        ({"updated": FIRST_OF_MARCH_2026}, "disclosed vendors"),
    ],
)
def test_a_string_is_valid_under_the_policies_it_was_made_under(changes, fault):
    if fault is None:
        check_valid(consent(**changes))
        return
    with pytest.raises(BadInput, match=fault):
        check_valid(consent(**changes))
