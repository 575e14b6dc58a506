"""Chores: what an operator has done to the store, by the one process that may write to it.

A chore is a message, and so is what was done; ``ledger.housekeeping`` does them. A running store
takes them over its socket and does them in the engine's thread, between batches and questions;
where no store runs, whoever has the engine in hand does the same.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ledger.fraud.terms import Rules
from market.errors import BadInput

_DAY_MAX: Final = 65_535


class Keep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many days each thing is kept, today included.

    Attributes:
        event_days: events and their marks.
        hour_days: hourly sums and attributions, which hold no user.
        user_days: the pseudonym of the user in an event, and what is derived from it. Attribution
            joins by it: choose more than its longest window and its learning days together.
    """

    event_days: int = 90
    hour_days: int = 760
    user_days: int = 60

    def __post_init__(self) -> None:
        """Checks the order that makes sense."""
        if not 1 <= self.user_days <= self.event_days <= self.hour_days <= _DAY_MAX:
            raise BadInput(
                f"keep user_days {self.user_days}, event_days {self.event_days}, hour_days "
                f"{self.hour_days}: they must be 1 or more, none longer than the next"
            )


class Retained(msgspec.Struct, frozen=True, tag="retained"):
    """What a run did."""

    event_days_dropped: int
    hour_days_dropped: int
    events_unlinked: int
    """Events that no longer say whose they were."""


class Erased(msgspec.Struct, frozen=True, tag="erased"):
    """What was done.

    Attributes:
        users: pseudonyms that are erased from now on.
        events: events that lost their user.
    """

    users: int
    events: int


class Marking(msgspec.Struct, frozen=True):
    """What to judge.

    Attributes:
        first_day, last_day: of the bids, since 1970, UTC, the last one included.
        rules: the limits.
        from_data_centres: (kind, bid_hi, bid_lo) of notices that came from one
            (``ledger.fraud.evidence``).
    """

    first_day: int
    last_day: int
    rules: Rules = Rules()
    from_data_centres: tuple[tuple[int, int, int], ...] = ()


class Marked(msgspec.Struct, frozen=True, tag="marked"):
    """What is marked in these days now.

    Attributes:
        rows_written: marks that are new, changed or taken back.
        events: events that are invalid.
        events_by_reason: an event may have several.
        spend_micros_by_currency: what was charged by invalid events.
    """

    rows_written: int
    events: int
    events_by_reason: dict[str, int]
    spend_micros_by_currency: dict[int, int]


class RolledUp(msgspec.Struct, frozen=True, tag="rolled_up"):
    """Which days were computed; since 1970, UTC."""

    days: tuple[int, ...]


class RollUp(msgspec.Struct, frozen=True, tag="roll_up"):
    """Compute the hours of every day that has changed; see ``ledger.rollup``."""


class Retain(msgspec.Struct, frozen=True, tag="retain"):
    """Drop what is older than it may be; see ``ledger.store_retention``.

    Attributes:
        today: day since 1970, UTC, the last one to keep.
        keep: how long.
    """

    today: int
    keep: Keep


class Erase(msgspec.Struct, frozen=True, tag="erase"):
    """Take from every event of these users whose it was; see ``ledger.erasure``."""

    user_keys: tuple[int, ...]
    now_ms: int


class Mark(msgspec.Struct, frozen=True, tag="mark"):
    """Mark invalid traffic; see ``ledger.fraud``."""

    marking: Marking


Chore = RollUp | Retain | Erase | Mark
Done = RolledUp | Retained | Erased | Marked
