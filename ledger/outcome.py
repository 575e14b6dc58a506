"""What may become of a notice: its outcome, the flags of its event, and what may not precede it."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from ledger.account import Charge
from market.events import EventFlag, EventKind

# Plain numbers: masking with a member of a flag enum takes a microsecond.
_CHARGED: Final = int(EventFlag.CHARGED)


class Outcome(enum.Enum):
    """What became of a notice."""

    RECORDED = "recorded"
    """It moves no money; a loss notice released its reservation."""
    CHARGED = "charged"
    LATE = "late"
    DISPUTED = "disputed"
    TEST = "test"
    UNKNOWN_BUDGET = "unknown_budget"
    """Charged as a late win to the line item, but no budget of it is known."""
    DUPLICATE = "duplicate"
    """Said before: not recorded again."""
    TOO_OLD = "too_old"
    """It would charge a bid so old that nobody remembers whether it was charged."""
    UNKNOWN_BID = "unknown_bid"
    """The bid is not known, and no token tells of it."""
    ADJUSTED = "adjusted"
    """An adjustment was booked."""
    NOT_READY = "not_ready"
    """The log cannot be written: ask again later. Nothing was charged."""


CHARGE_FLAGS: Final = {
    Charge.ON_TIME: _CHARGED,
    Charge.LATE: _CHARGED | int(EventFlag.LATE),
    Charge.DISPUTED: int(EventFlag.DISPUTED),
    Charge.TEST: int(EventFlag.TEST),
}
OUTCOMES: Final = {
    Charge.ON_TIME: Outcome.CHARGED,
    Charge.LATE: Outcome.LATE,
    Charge.DISPUTED: Outcome.DISPUTED,
    Charge.TEST: Outcome.TEST,
}


class Answer(NamedTuple):
    """What to tell the exchange, and when: ``waits`` for the next commit, or now."""

    outcome: Outcome
    waits: bool


class PendingNotice(NamedTuple):
    """A notice in the log's buffer, to be counted when the commit comes back."""

    key: int
    kind: int
    flags: int
    amount_micros: int
    value_micros: int
    order_code: int
    received_ms: int
    event: bytes | bytearray


def _bits(*kinds: EventKind) -> int:
    return sum(1 << kind for kind in kinds)


# What cannot have been told before a notice of a kind, in the order in which things happen. Billing
# may come hours after what was shown, so only a loss is out of order with it.
AFTER: Final[dict[int, int]] = {
    EventKind.WIN: _bits(
        EventKind.LOSS, EventKind.BILLING, EventKind.IMPRESSION, EventKind.CLICK,
        EventKind.CONVERSION,
    ),
    EventKind.BILLING: _bits(EventKind.LOSS),
    EventKind.IMPRESSION: _bits(EventKind.LOSS, EventKind.CLICK, EventKind.CONVERSION),
    EventKind.CLICK: _bits(EventKind.LOSS, EventKind.CONVERSION),
    EventKind.CONVERSION: _bits(EventKind.LOSS),
    EventKind.LOSS: _bits(
        EventKind.WIN, EventKind.BILLING, EventKind.IMPRESSION, EventKind.CLICK,
        EventKind.CONVERSION,
    ),
}  # fmt: skip
