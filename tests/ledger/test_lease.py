"""Lease messages: what the log says of leases can be read again, and nothing else can."""

from __future__ import annotations

import pytest

from ledger.lease import (
    Lease,
    LeasesGranted,
    LeasesReturned,
    ReservationsExpired,
    decode_message,
    encode_message,
)
from market.errors import Corrupt


@pytest.mark.parametrize(
    "message",
    [
        LeasesGranted((Lease(0, 2**64 - 1, 10**15), Lease(63, 1, 1))),
        LeasesReturned((Lease(1, 2, 3),)),
        ReservationsExpired(1_790_000_000_000),
    ],
)
def test_a_message_comes_back_as_it_was(message):
    assert decode_message(encode_message(message)) == message


@pytest.mark.parametrize(
    "body", [b"", b"\x80", b"garbage", encode_message(ReservationsExpired(1))[:-1]]
)
def test_a_message_that_this_build_does_not_know_stops_the_start(body):
    with pytest.raises(Corrupt, match="control frame"):
        decode_message(body)
