"""The decision: reasons keep their numbers, and a bid's columns fit those of its event."""

from __future__ import annotations

from market.decision import DECISION_DTYPE, NO_BID_REASON_COUNT, REASON_RANKS, NoBidReason
from market.events import EVENT_DTYPE

RECORDED_REASONS = (
    "BID", "MALFORMED_REQUEST", "TOO_LITTLE_TIME", "OVERLOADED", "RECORDER_BEHIND", "UNUSABLE_IMP",
    "CONTRADICTORY_REQUEST", "PRIVACY_FORBIDS", "NO_ACTIVE_LINE_ITEM", "FORMAT_NOT_SERVED",
    "SEAT_NOT_ALLOWED", "SEAT_BLOCKED", "CATEGORY_NOT_ALLOWED", "CATEGORY_BLOCKED",
    "ADVERTISER_BLOCKED", "APP_BLOCKED", "TARGETING_DIMENSION", "TARGETING_SEGMENT",
    "TARGETING_CATEGORY", "TARGETING_KEYWORD", "DEAL_REQUIRED", "OUTSIDE_FLIGHT", "NOT_ACTIVE",
    "CURRENCY_NOT_CONVERTIBLE", "SIZE_NOT_OFFERED", "DURATION_NOT_ACCEPTED",
    "PROTOCOL_NOT_ACCEPTED", "MEDIA_TYPE_NOT_ACCEPTED", "ATTRIBUTE_BLOCKED", "NOT_SECURE",
    "USER_UNKNOWN_FOR_CAP", "FREQUENCY_CAP", "BUDGET_EXHAUSTED", "BELOW_FLOOR",
)  # fmt: skip


def test_a_reason_keeps_the_number_that_events_hold():
    assert [reason.name for reason in sorted(NoBidReason)][: len(RECORDED_REASONS)] == list(
        RECORDED_REASONS
    )
    assert max(NoBidReason) < NO_BID_REASON_COUNT


def test_every_reason_has_a_turn_of_its_own_whatever_its_number():
    ranks = [int(REASON_RANKS[reason]) for reason in NoBidReason]
    assert sorted(ranks) == list(range(len(NoBidReason)))
    in_turn = (
        NoBidReason.BID, NoBidReason.UNUSABLE_IMP, NoBidReason.FORMAT_NOT_SERVED,
        NoBidReason.CURRENCY_NOT_CONVERTIBLE, NoBidReason.SIZE_NOT_OFFERED,
        NoBidReason.BANNER_TYPE_BLOCKED, NoBidReason.LINEARITY_NOT_ACCEPTED,
        NoBidReason.DURATION_NOT_ACCEPTED, NoBidReason.PROTOCOL_NOT_ACCEPTED,
        NoBidReason.MEDIA_TYPE_NOT_ACCEPTED, NoBidReason.DELIVERY_NOT_ACCEPTED,
        NoBidReason.NATIVE_ASSET_MISSING, NoBidReason.ATTRIBUTE_BLOCKED,
        NoBidReason.SKIP_NOT_ACCEPTED, NoBidReason.EXPANSION_NOT_ALLOWED,
        NoBidReason.API_NOT_SUPPORTED, NoBidReason.NOT_SECURE, NoBidReason.FREQUENCY_CAP,
        NoBidReason.BELOW_FLOOR,
    )  # fmt: skip
    assert [int(REASON_RANKS[reason]) for reason in in_turn] == sorted(
        int(REASON_RANKS[reason]) for reason in in_turn
    )


def test_columns_of_one_name_have_one_type_in_a_decision_and_in_its_event():
    """So that a bid's event is its decision, copied."""
    shared = set(DECISION_DTYPE.names) & set(EVENT_DTYPE.names) - {"reason"}
    assert {"bid_hi", "line_item_id", "rate_micros", "features", "budgets", "caps"} <= shared
    for name in shared:
        assert DECISION_DTYPE[name] == EVENT_DTYPE[name], name
    # A reason is ours in a decision and may be an exchange's loss code in an event.
    assert DECISION_DTYPE["reason"].itemsize <= EVENT_DTYPE["reason"].itemsize
