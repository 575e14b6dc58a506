"""Adjustments: credits and corrections that are booked after the fact, each once.

An exchange credits invalid traffic, or bills what the ledger did not see. An adjustment says by how
much the money of a day, campaign and deal changes: above 0 more was spent, below 0 less. It is an
event of kind ADJUSTMENT of that day, it moves the budgets that the day's bids drew on, and its id
is derived from what it says, so that sending it again books nothing.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec
import numpy as np

from market.errors import BadInput
from market.events import BUDGETS_PER_LINE_ITEM, EVENT_DTYPE, EventFlag, EventKind, event_id
from market.money import BUDGET_MICROS_MAX, CURRENCY_NAMES

ADJUSTMENTS_MAX: Final = 1_000
"""In one request."""

_CODE_MAX: Final = 2**64
_SUM_MAX: Final = 1_000 * BUDGET_MICROS_MAX


class Adjustment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One correction.

    Attributes:
        reference: who says so: number of the invoice or credit note, or a ticket.
        day_at_ms: an instant of the day it belongs to, epoch milliseconds.
        exchange: id of the exchange.
        advertiser_id, campaign_id: whose money it is.
        deal_code: ``market.chance.code_of`` of the deal's id; 0 = the open auction.
        budgets: ids of the budgets that it moves, as the day's bids named them; at most 3.
        amount_micros: account currency; above 0: more was spent.
        account_currency: ISO 4217 number.
        billed_micros: the same in the currency of the bill.
        bill_currency: ISO 4217 number.
        before_micros: what the ledger had for this day, campaign and deal, in ``bill_currency``:
            two corrections of one amount are two, when the second saw the first.
    """

    reference: str
    day_at_ms: int
    exchange: int
    advertiser_id: int = 0
    campaign_id: int
    deal_code: int = 0
    budgets: tuple[int, ...] = ()
    amount_micros: int
    account_currency: int
    billed_micros: int
    bill_currency: int
    before_micros: int = 0

    def __post_init__(self) -> None:
        """Checks every range.

        Raises:
            BadInput: a value breaks its rule.
        """
        if not 1 <= len(self.reference) <= 200:
            raise BadInput(
                f"adjustment: reference has {len(self.reference)} characters; it must be 1-200"
            )
        for name, value, low, high in (
            ("day_at_ms", self.day_at_ms, 0, 2**62),
            ("exchange", self.exchange, 0, 2**16),
            ("advertiser_id", self.advertiser_id, 0, 2**32),
            ("campaign_id", self.campaign_id, 0, 2**32),
            ("deal_code", self.deal_code, 0, _CODE_MAX),
            ("amount_micros", self.amount_micros, -BUDGET_MICROS_MAX, BUDGET_MICROS_MAX),
            ("billed_micros", self.billed_micros, -BUDGET_MICROS_MAX, BUDGET_MICROS_MAX),
            ("before_micros", self.before_micros, -_SUM_MAX, _SUM_MAX),
            *(("a budget's id", key, 1, _CODE_MAX) for key in self.budgets),
        ):
            if not low <= value < high:
                raise BadInput(f"adjustment: {name} is {value}; it must be {low} to {high - 1}")
        _check_money(self)


def _check_money(adjustment: Adjustment) -> None:
    amount, billed = adjustment.amount_micros, adjustment.billed_micros
    if amount * billed <= 0:
        raise BadInput(
            f"adjustment: amount_micros is {amount} and billed_micros {billed}; both must be above "
            "0, or both below"
        )
    for number in (adjustment.account_currency, adjustment.bill_currency):
        if number not in CURRENCY_NAMES:
            raise BadInput(f"adjustment: currency {number} must be a known ISO 4217 number")
    budgets = adjustment.budgets
    if len(budgets) > BUDGETS_PER_LINE_ITEM or len(set(budgets)) < len(budgets):
        raise BadInput(
            f"adjustment: budgets are {budgets}; at most {BUDGETS_PER_LINE_ITEM}, each once"
        )


def decode_adjustments(body: bytes) -> list[Adjustment]:
    """Returns the adjustments in a JSON list.

    Raises:
        BadInput: it is none, one breaks a rule, or there are too many; none is booked then.
    """
    try:
        found = msgspec.json.decode(body, type=list[Adjustment])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInput(f"adjustments: {error}") from error
    if not 1 <= len(found) <= ADJUSTMENTS_MAX:
        raise BadInput(f"adjustments: {len(found)} in one request; it must be 1-{ADJUSTMENTS_MAX}")
    return found


def adjustment_event(adjustment: Adjustment, now_ms: int) -> bytes:
    """Returns the record of an adjustment that is booked now.

    ``value_micros`` is its amount in ``bid_currency``, so that what was billed can be compared.
    """
    digest = blake2b(msgspec.json.encode(adjustment), digest_size=16).digest()
    hi, lo = (int.from_bytes(part, "little") for part in (digest[:8], digest[8:]))
    event = np.zeros(1, EVENT_DTYPE)
    id_hi, id_lo = event_id(EventKind.ADJUSTMENT, hi, lo)
    for name, value in {
        "kind": EventKind.ADJUSTMENT, "flags": EventFlag.CHARGED, "id_hi": id_hi, "id_lo": id_lo,
        "bid_hi": hi, "bid_lo": lo, "ts_ms": now_ms, "recv_ms": now_ms,
        "bid_ms": adjustment.day_at_ms, "deadline_ms": adjustment.day_at_ms,
        "exchange": adjustment.exchange, "advertiser_id": adjustment.advertiser_id,
        "campaign_id": adjustment.campaign_id, "deal_code": adjustment.deal_code,
        "amount_micros": adjustment.amount_micros, "value_micros": adjustment.billed_micros,
        "account_currency": adjustment.account_currency, "bid_currency": adjustment.bill_currency,
        "weight": 1.0, "rate_micros": 1_000_000, "quantity_micros": 1_000_000,
    }.items():  # fmt: skip
        event[name] = value
    event["budgets"][0, : len(adjustment.budgets)] = adjustment.budgets
    return event.tobytes()
