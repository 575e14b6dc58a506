"""Hashed ad features: what is known of every creative, and where absent values go."""

from __future__ import annotations

import string

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.campaign import Budget, Campaign, Creative, Goal, GoalKind
from market.chance import code_of
from market.creative import AD_FIELDS
from market.events import FEATURE_COUNT
from market.features import (
    AD_BUCKETS,
    AD_ROWS,
    CONTEXT_BUCKETS,
    CONTEXT_DIMENSIONS,
    CONTEXT_ROWS,
    SEGMENT_FEATURE_COUNT,
    ad_feature_rows,
    ad_features,
)
from tests.reference.chance import feature_row

CAMPAIGN = Campaign(
    name="c",
    currency="EUR",
    time_zone="UTC",
    goal=Goal(GoalKind.TARGET_CPA, target_cpa_micros=1),
    budget=Budget(1),
    advertiser_domain="a.example",
    category="IAB18",
)
CREATIVE = Creative(format="banner", width=300, height=250, features={"headline": "Sale"})
TEXTS = st.text(max_size=12)


def rows(**values):
    """Rows by field name; a field that is not given is absent."""
    return [
        feature_row(field, code_of(values[name]) if name in values else 0, AD_BUCKETS)
        for field, name in enumerate(AD_FIELDS)
    ]


def test_category_format_and_size_are_known_of_every_creative():
    found = ad_features(CAMPAIGN, CREATIVE)
    expected = rows(category="IAB18", format="banner", size="300x250", headline="Sale")
    assert found.tolist() == expected
    assert found.dtype == np.uint32


@pytest.mark.parametrize("field", AD_FIELDS)
def test_what_a_creative_says_of_itself_goes_before_what_is_known(field):
    creative = msgspec.structs.replace(CREATIVE, features={field: "own"})
    known = {"category": "IAB18", "format": "banner", "size": "300x250"}
    assert ad_features(CAMPAIGN, creative).tolist() == rows(**known | {field: "own"})


@given(st.lists(TEXTS, min_size=len(AD_FIELDS), max_size=len(AD_FIELDS)))
def test_every_row_lies_in_its_field_and_its_first_one_means_absent(values):
    for field, (row, value) in enumerate(zip(ad_feature_rows(values), values, strict=True)):
        assert field * AD_BUCKETS <= row < (field + 1) * AD_BUCKETS
        assert (row == field * AD_BUCKETS) == (value == "")
    assert max(ad_feature_rows(values)) < AD_ROWS


# Codes fold the case of ASCII letters alone.
_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@given(TEXTS.filter(bool), TEXTS.filter(bool))
def test_one_value_has_the_same_row_in_any_case_and_company(value, other):
    one = ad_feature_rows([value.translate(_UPPER), other])
    two = ad_feature_rows([value.translate(_LOWER), value])
    assert one[0] == two[0]


def test_the_context_table_has_a_field_for_each_feature_of_an_event():
    assert len(CONTEXT_DIMENSIONS) + SEGMENT_FEATURE_COUNT == FEATURE_COUNT
    assert len(set(CONTEXT_DIMENSIONS)) == len(CONTEXT_DIMENSIONS)
    assert CONTEXT_ROWS == FEATURE_COUNT * CONTEXT_BUCKETS
