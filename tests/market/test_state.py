"""The state of a decision starts with nothing to spend."""

from __future__ import annotations

import pytest

from market.decision import NO_BID_REASON_COUNT
from market.state import CAP_PROBES, CAP_SLOT_COUNT, CREDIT_DTYPE, new_state


def test_a_new_state_has_no_money_and_no_counts():
    state = new_state(3, worker_count=2, slots=64)
    assert state.available_micros.tolist() == [0, 0, 0]
    assert state.cap_slots.shape == (2, 64)
    assert not state.cap_slots.tobytes().strip(b"\0")
    assert state.no_bids.tolist() == [0] * NO_BID_REASON_COUNT


@pytest.mark.parametrize("slots", [3, 65, CAP_SLOT_COUNT + 1])
def test_slots_that_are_no_power_of_two_are_refused(slots):
    with pytest.raises(AssertionError, match="power of two"):
        new_state(1, slots=slots)


def test_the_slots_that_ship_are_enough_to_probe():
    assert CAP_SLOT_COUNT & (CAP_SLOT_COUNT - 1) == 0
    assert CAP_PROBES < CAP_SLOT_COUNT


def test_a_credit_is_three_words():
    assert CREDIT_DTYPE.itemsize == 24
