"""Every way not to bid is told: a code, a field or none, and a clear text."""

from __future__ import annotations

import pytest

from bidder.no_bid import EXPLANATIONS, explain
from market.decision import LIST_DETAIL, NoBidReason
from market.opportunity import CodeList, Dimension

OURS = {  # nothing that the exchange said forbids it
    NoBidReason.MALFORMED_REQUEST, NoBidReason.OVERLOADED, NoBidReason.RECORDER_BEHIND,
    NoBidReason.CONTRADICTORY_REQUEST, NoBidReason.NO_ACTIVE_LINE_ITEM, NoBidReason.OUTSIDE_FLIGHT,
    NoBidReason.NOT_ACTIVE, NoBidReason.BUDGET_EXHAUSTED, NoBidReason.TARGETING_DIMENSION,
    NoBidReason.THROTTLED, NoBidReason.NOT_READY,
}  # fmt: skip


def test_every_reason_but_bid_has_an_explanation():
    assert set(EXPLANATIONS) == set(NoBidReason) - {NoBidReason.BID}


@pytest.mark.parametrize("reason", sorted(EXPLANATIONS))
def test_an_explanation_has_a_code_of_openrtb_or_our_own_and_a_text(reason):
    told = explain(reason)
    assert 0 < told.nbr <= 17 or 500 <= told.nbr < 600
    assert told.text
    if reason != NoBidReason.TARGETING_DIMENSION:
        assert bool(told.field) == (reason not in OURS)


def test_a_dimension_names_its_own_field():
    fields = {explain(NoBidReason.TARGETING_DIMENSION, d).field for d in Dimension}
    assert len(fields) == len(Dimension)
    assert explain(NoBidReason.TARGETING_DIMENSION, Dimension.OS).field == "device.os"


@pytest.mark.parametrize(
    ("reason", "listed", "field"),
    [
        (NoBidReason.TARGETING_KEYWORD, CodeList.USER_KEYWORD, "user.keywords|kwarray"),
        (NoBidReason.TARGETING_SEGMENT, CodeList.EID_SOURCE, "user.eids.source"),
        (NoBidReason.TARGETING_DIMENSION, CodeList.SITE, "site.domain|app.bundle"),
    ],
)
def test_a_list_without_a_reason_of_its_own_names_its_field(reason, listed, field):
    assert explain(reason, LIST_DETAIL + listed).field == field
