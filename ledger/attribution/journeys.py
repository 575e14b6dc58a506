"""Journeys: what one advertiser's users saw, clicked and bought, in order, for the console.

An advertiser sees its own touches and conversions and nobody else's, and never an id of a user: a
person is a number inside one answer, which the next answer may give to another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from ledger.attribution.identity import NOBODY_LINKED, Identity
from ledger.attribution.table import currency_name
from market.errors import BadInput
from market.events import EventFlag, EventKind

if TYPE_CHECKING:
    from ledger.reports import Window
    from ledger.sql import Analytics

JOURNEYS_MAX: Final = 1_000
"""Persons of one answer."""

STEPS_MAX: Final = 200
"""Steps of one journey; of more, the latest are shown."""

_NAMES: Final = {
    int(EventKind.IMPRESSION): "impression",
    int(EventKind.CLICK): "click",
    int(EventKind.CONVERSION): "conversion",
}
_NUMBERS: Final[dict[str, int]] = {
    "impression": int(EventKind.IMPRESSION),
    "billing": int(EventKind.BILLING),
    "click": int(EventKind.CLICK),
    "conversion": int(EventKind.CONVERSION),
    "left_out": int(EventFlag.TEST | EventFlag.DISPUTED),
}

_OF_ADVERTISER: Final = """
FROM events FINAL
WHERE advertiser_id = %(advertiser_id)s AND user_key != 0
    AND kind IN (%(impression)s, %(billing)s, %(click)s, %(conversion)s)
    AND bitAnd(flags, %(left_out)s) = 0 AND ts_ms >= %(start_ms)s AND ts_ms < %(end_ms)s
"""

_USERS: Final = f"""
SELECT user_key, max(kind = %(conversion)s) AS has_converted, max(ts_ms) AS last_ms
{_OF_ADVERTISER}
GROUP BY user_key
ORDER BY has_converted DESC, last_ms DESC, user_key
LIMIT %(users_max)s
"""

# An impression and its billing notice are one step, at the time of the earlier.
_STEPS: Final = f"""
SELECT user, at_ms, what, campaign, line_item, creative, place, value, currency
FROM (
    SELECT user_key AS user, min(ts_ms) AS at_ms,
        if(kind = %(billing)s, %(impression)s, kind) AS what, bid_hi, bid_lo, order_code,
        max(campaign_id) AS campaign, max(line_item_id) AS line_item, max(creative_id) AS creative,
        max(exchange) AS place, max(value_micros) AS value, max(account_currency) AS currency
    {_OF_ADVERTISER} AND user_key IN %(users)s
    GROUP BY user, what, bid_hi, bid_lo, order_code
) AS steps
ORDER BY user, at_ms DESC, what DESC, campaign, line_item, creative
LIMIT %(steps_max)s BY user
"""  # noqa: S608 - of constants


class Step(msgspec.Struct, frozen=True):
    """One thing that happened to a person; ids are the advertiser's own."""

    at_ms: int
    what: str
    """impression, click or conversion."""
    campaign_id: int
    line_item_id: int
    creative_id: int
    exchange: int
    value_micros: int
    """Of a conversion, else 0."""
    currency: str


class Journey(msgspec.Struct, frozen=True):
    """What happened to one person, oldest first."""

    number: int
    """From 1 on, inside this answer."""
    conversions: int
    value_micros_by_currency: dict[str, int]
    steps: tuple[Step, ...]


def journeys(
    analytics: Analytics,
    advertiser_id: int,
    window: Window,
    limit: int = 100,
    identity: Identity = NOBODY_LINKED,
) -> tuple[Journey, ...]:
    """Returns the journeys of the persons who converted last, then of those who were last seen.

    Args:
        analytics: Who is asked.
        advertiser_id: Whose touches; it comes from the caller's key, never from a request.
        window: What happened in it is shown; its buckets do not matter here.
        limit: Persons at most.
        identity: Which users are one person.

    Raises:
        BadInput: ``limit`` is not in 1..JOURNEYS_MAX.
    """
    if not 1 <= limit <= JOURNEYS_MAX:
        raise BadInput(f"limit {limit}: it must be in 1..{JOURNEYS_MAX}")
    asked: dict[str, Any] = {
        "advertiser_id": advertiser_id, "start_ms": window.start_ms, "end_ms": window.end_ms,
    }  # fmt: skip
    answer = analytics.query(_USERS, **_NUMBERS, **asked, users_max=limit)
    person_of: dict[int, int] = {}
    for place, row in enumerate(answer.rows):
        user = int(str(row[0]))
        if user not in person_of:
            # The first of a person's users brings all of them, seen lately or not.
            person_of |= dict.fromkeys(identity.users(user), place)
    if not person_of:
        return ()
    steps: dict[int, list[Step]] = {}
    found = analytics.query(
        _STEPS, **_NUMBERS, **asked, users=sorted(person_of), steps_max=STEPS_MAX
    )
    for row in found.rows:
        user, at_ms, what, campaign, line_item, creative, place, value, currency = (
            int(str(cell)) for cell in row
        )
        is_conversion = what == EventKind.CONVERSION
        step = Step(
            at_ms, _NAMES[what], campaign, line_item, creative, place,
            value if is_conversion else 0, currency_name(currency),
        )  # fmt: skip
        steps.setdefault(person_of[user], []).append(step)
    return tuple(
        _journey(number, steps[person]) for number, person in enumerate(sorted(steps), start=1)
    )


def _journey(number: int, steps: list[Step]) -> Journey:
    order = {name: place for place, name in enumerate(_NAMES.values())}
    shown = sorted(steps, key=lambda step: (step.at_ms, order[step.what]))[-STEPS_MAX:]
    bought = [step for step in shown if step.what == "conversion"]
    values: dict[str, int] = {}
    for step in bought:
        values[step.currency] = values.get(step.currency, 0) + step.value_micros
    return Journey(number, len(bought), values, tuple(shown))
