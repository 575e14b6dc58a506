"""Leases: what the owner of the budgets hands out and takes back, and how the log says so.

Every change of what is held is a control frame of the event log, written before it is acted on;
what is spent is said by the notice events themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from market.errors import Corrupt

if TYPE_CHECKING:
    from market.state import CreditKind


class Credit(NamedTuple):
    """What a worker is told, as a record of ``market.state.CREDIT_DTYPE``."""

    worker: int
    kind: CreditKind
    key: int
    amount: int


class Lease(NamedTuple):
    """An amount that moves between a budget and what a worker holds of it."""

    worker: int
    budget_id: int
    amount_micros: int


class Allotment(NamedTuple):
    """What one machine may spend and hold of a budget that machines share, in all."""

    budget_id: int
    allotted_micros: int


class LeasesGranted(msgspec.Struct, frozen=True, tag="granted"):
    """These amounts are held by these workers from now on."""

    leases: tuple[Lease, ...]


class LeasesReturned(msgspec.Struct, frozen=True, tag="returned"):
    """These amounts are held no longer."""

    leases: tuple[Lease, ...]


class ReservationsExpired(msgspec.Struct, frozen=True, tag="expired"):
    """Every open reservation whose deadline is before ``now_ms`` was released."""

    now_ms: int


class BudgetsAllotted(msgspec.Struct, frozen=True, tag="allotted"):
    """The log is a node's (``ledger.allotment``); these allotments are its limits from now on.

    Attributes:
        log_id: names the log, wherever it lies; the first such frame of a log makes it up.
    """

    log_id: str
    allotments: tuple[Allotment, ...]


class FramesLost(msgspec.Struct, frozen=True, tag="lost"):
    """A repair put this frame where a damaged one was; what that one said is not known.

    Attributes:
        first_sequence, last_sequence: the lost range that this frame's sequence is in.
    """

    first_sequence: int
    last_sequence: int


LeaseMessage = LeasesGranted | LeasesReturned | ReservationsExpired | BudgetsAllotted | FramesLost

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[LeaseMessage] = msgspec.msgpack.Decoder(LeaseMessage)


def encode_message(message: LeaseMessage) -> bytes:
    """Returns the body of the control frame."""
    return _encoder.encode(message)


def decode_message(body: bytes) -> LeaseMessage:
    """Returns what a control frame says.

    Raises:
        Corrupt: nothing that this build knows.
    """
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise Corrupt(
            f"control frame of {len(body)} bytes: {error}; run the build that wrote the log or a "
            "newer one"
        ) from error
