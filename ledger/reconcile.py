"""Reconciliation: the exchange's bill against the ledger, by day, campaign and deal.

A bill is a CSV file with the columns ``day,campaign_id,deal_id,currency,impressions,amount``: the
day as YYYY-MM-DD in the bill's time zone, an empty ``deal_id`` for the open auction, the amount in
units of the currency. Lines of one day, campaign, deal and currency are added up.

The ledger's side is summed from the log: every event that moved money on that exchange, at its
clearing price in the currency of the bid, which is what the exchange bills, and what was adjusted
before. The day is that of the bid.

What it deliberately does not do: it decides no dispute. It shows differences, and makes of them the
adjustments that ``POST /ledger/adjustments`` books.
"""

from __future__ import annotations

import csv
import enum
import sys
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import numpy as np

from ledger.adjustment import Adjustment
from ledger.event_log import EVENT_LOG
from ledger.folder import first_sequence, segment_indices, segment_path
from ledger.frame import RECORDS
from ledger.segment import SegmentReader
from market.chance import code_of
from market.errors import BadInput
from market.events import EVENT_DTYPE, EventFlag, EventKind, read_events
from market.money import (
    BUDGET_MICROS_MAX,
    CURRENCY_NAMES,
    MICROS,
    amount_micros,
    currency_number,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import date
    from pathlib import Path

    import numpy.typing as npt

    from ledger.disk import Disk

COLUMNS: Final = ("day", "campaign_id", "deal_id", "currency", "impressions", "amount")
_BILLED_FROM: Final = ("value_micros", "price_cpm_micros", "quantity_micros")
_KEYS: Final = ("campaign_id", "deal_code", "bid_currency")
_READ_BYTES: Final = 16 << 20
_DEAL_CHARACTERS_MAX: Final = 200
_U32: Final = 2**32


class Line(NamedTuple):
    """What is compared: one day, campaign, deal and currency."""

    day: str
    campaign_id: int
    deal_code: int
    currency: int


class Sum(msgspec.Struct):
    """Money and impressions of a line.

    Attributes:
        micros: in the line's currency.
        impressions: charged (billed) ones.
        account_micros, account_currency: the same money in the advertiser's account.
        advertiser_id, budgets: of the line's last charged event.
    """

    micros: int = 0
    impressions: int = 0
    account_micros: int = 0
    account_currency: int = 0
    advertiser_id: int = 0
    budgets: tuple[int, ...] = ()


class Status(enum.Enum):
    """How a line of the bill and the ledger's differ."""

    EQUAL = "equal"
    """Apart from at most the tolerance."""
    BILLED_MORE = "billed_more"
    BILLED_LESS = "billed_less"
    ONLY_BILLED = "only_billed"
    """The ledger has no charge for it."""
    NOT_BILLED = "not_billed"
    """The bill says nothing of it."""


class Difference(msgspec.Struct, frozen=True):
    """One line on both sides; money in micros of ``currency``."""

    day: str
    campaign_id: int
    deal_id: str
    """As in the bill; the ledger's code in hexadecimal where the bill does not name it."""
    currency: str
    billed_micros: int
    ledger_micros: int
    billed_impressions: int
    ledger_impressions: int
    status: Status

    @property
    def difference_micros(self) -> int:
        """What was billed above the ledger."""
        return self.billed_micros - self.ledger_micros


class Reconciliation(msgspec.Struct, frozen=True):
    """All lines, in order, and what would make the ledger agree."""

    differences: tuple[Difference, ...]
    adjustments: tuple[Adjustment, ...]
    unbookable: tuple[str, ...]
    """Lines whose difference has no known rate to the account's currency, and why."""


class Bill(msgspec.Struct, frozen=True):
    """A bill as it was read."""

    lines: dict[Line, Sum]
    deal_ids: dict[int, str]
    """By code."""


def read_bill(text: Iterable[str]) -> Bill:
    """Returns the bill in CSV lines.

    Raises:
        BadInput: a column is missing, or a value breaks its rule; the message names the line.
    """
    rows = csv.DictReader(text)
    missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise BadInput(f"bill: columns {', '.join(missing)} are missing; it must have {COLUMNS}")
    lines: dict[Line, Sum] = {}
    deal_ids = {0: ""}
    try:
        for row in rows:
            line, deal_id, found = _line_of(row, f"bill, line {rows.line_num}")
            deal_ids[line.deal_code] = deal_id
            own = lines.setdefault(line, Sum())
            own.micros += found.micros
            own.impressions += found.impressions
    except csv.Error as error:
        raise BadInput(f"bill, line {rows.line_num}: {error}") from error
    if not lines:
        raise BadInput("bill: it has no line")
    return Bill(lines, deal_ids)


def _line_of(row: dict[str, str | None], at: str) -> tuple[Line, str, Sum]:
    values = {name: (row[name] or "").strip() for name in COLUMNS}
    try:
        day = datetime.strptime(values["day"], "%Y-%m-%d").date()  # noqa: DTZ007 - a day alone
    except ValueError as error:
        raise BadInput(f"{at}: day '{values['day'][:40]}'; it must be YYYY-MM-DD") from error
    deal_id = values["deal_id"]
    if len(deal_id) > _DEAL_CHARACTERS_MAX:
        raise BadInput(f"{at}: deal_id has {len(deal_id)} characters; at most 200")
    try:
        amount = Decimal(values["amount"])
    except InvalidOperation as error:
        raise BadInput(
            f"{at}: amount '{values['amount'][:40]}'; it must be a decimal number"
        ) from error
    if not amount.is_finite() or abs(amount) > BUDGET_MICROS_MAX // MICROS:
        raise BadInput(
            f"{at}: amount '{values['amount'][:40]}'; it must be within "
            f"{BUDGET_MICROS_MAX // MICROS} units"
        )
    line = Line(
        day.isoformat(),
        _whole(values["campaign_id"], f"{at}: campaign_id", _U32),
        code_of(deal_id) if deal_id else 0,
        currency_number(values["currency"]),
    )
    impressions = _whole(values["impressions"] or "0", f"{at}: impressions", BUDGET_MICROS_MAX)
    return line, deal_id, Sum(int((amount * MICROS).to_integral_value()), impressions)


def _whole(text: str, name: str, high: int) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 18 or int(text) >= high:
        raise BadInput(f"{name} '{text[:40]}'; it must be a whole number from 0 to {high - 1}")
    return int(text)


def zone_of(name: str) -> ZoneInfo:
    """Returns a time zone.

    Raises:
        BadInput: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadInput(f"time zone '{name[:60]}': it must be a name such as UTC") from error


def day_span_ms(day: date, zone: ZoneInfo) -> tuple[int, int]:
    """Returns [start, end) of a calendar day: 23, 24 or 25 hours."""
    beyond = day + timedelta(days=1)
    start, end = (
        int(datetime(each.year, each.month, each.day, tzinfo=zone).timestamp() * 1000)
        for each in (day, beyond)
    )
    return start, end


def ledger_sums(
    folder: Path, disk: Disk, exchange: int, spans: Sequence[tuple[str, int, int]]
) -> dict[Line, Sum]:
    """Returns what the log says was charged on an exchange, by line.

    Args:
        folder: The event log; its recorder may be running.
        disk: The disk it lies on.
        exchange: Its id.
        spans: (day, start, end) of the days that are asked for, in order, epoch milliseconds.

    Raises:
        Corrupt: the log is damaged, or its older segments are gone.
        NotReady: the disk refuses.
    """
    sums: dict[Line, Sum] = {}
    days = np.array([(start, end) for _, start, end in spans], np.int64)
    for events in _charges(folder, disk, spans[0][1]):
        own = events[events["exchange"] == exchange]
        day = np.searchsorted(days[:, 0], own["bid_ms"], side="right") - 1
        inside = (day >= 0) & (own["bid_ms"] < days[np.maximum(day, 0), 1])
        _add(sums, [name for name, _, _ in spans], day[inside], own[inside])
    return sums


def _charges(folder: Path, disk: Disk, from_ms: int) -> Iterator[npt.NDArray[np.void]]:
    """Yields the log's events that moved money, [N] of EVENT_DTYPE."""
    indices = segment_indices(folder, disk)
    if not indices:
        return
    path = segment_path(folder, indices[0])
    start = first_sequence(disk, path, EVENT_LOG)
    reader = SegmentReader(folder, disk, EVENT_LOG, max(1, min(start, sys.maxsize - 1)))
    is_first = start > 1
    while frames := reader.read(_READ_BYTES):
        parts = [
            read_events(frame.body, frame.schema_version)
            for frame in frames
            if frame.kind == RECORDS
        ]
        events = np.concatenate([np.zeros(0, EVENT_DTYPE), *parts])
        if is_first and events.shape[0]:
            is_first = False
            if (received_ms := int(events["recv_ms"][0])) > from_ms:
                raise BadInput(
                    f"the bill begins at {from_ms} ms and the log only at {received_ms} ms: what "
                    "came before was removed by `lodestone ledger retain`; reconcile later days, "
                    "or restore the older segments"
                )
        yield events[(events["flags"] & int(EventFlag.CHARGED)) != 0]


def _add(
    sums: dict[Line, Sum],
    names: Sequence[str],
    day: npt.NDArray[np.int64],
    events: npt.NDArray[np.void],
) -> None:
    """Adds events that moved money, [N], each of the day ``names[day[n]]``."""
    if not events.shape[0]:
        return
    is_adjustment = events["kind"] == EventKind.ADJUSTMENT
    billed = np.fromiter(
        (
            value if adjusts else amount_micros(price, quantity, MICROS)
            for adjusts, value, price, quantity in zip(
                is_adjustment.tolist(),
                *(events[name].tolist() for name in _BILLED_FROM),
                strict=True,
            )
        ),
        np.int64,
        events.shape[0],
    )
    keys = np.stack([day.astype(np.uint64), *(events[name].astype(np.uint64) for name in _KEYS)])
    found, last, group = np.unique(
        keys[:, ::-1], axis=1, return_index=True, return_inverse=True
    )  # fmt: skip
    group = group.ravel()[::-1]
    last = events.shape[0] - 1 - last
    micros = np.zeros(found.shape[1], np.int64)
    account = np.zeros(found.shape[1], np.int64)
    np.add.at(micros, group, billed)
    np.add.at(account, group, events["amount_micros"])
    impressions = np.bincount(group, ~is_adjustment, found.shape[1]).astype(np.int64)
    rows: list[list[int]] = found.T.tolist()
    for i, (index, campaign_id, deal_code, currency) in enumerate(rows):
        own = sums.setdefault(Line(names[index], campaign_id, deal_code, currency), Sum())
        event = events[last[i]]
        own.micros += int(micros[i])
        own.impressions += int(impressions[i])
        own.account_micros += int(account[i])
        own.account_currency = int(event["account_currency"])
        own.advertiser_id = int(event["advertiser_id"]) or own.advertiser_id
        own.budgets = tuple(key for key in event["budgets"].tolist() if key) or own.budgets


def reconcile(
    bill: Bill,
    ledger: dict[Line, Sum],
    *,
    exchange: int,
    reference: str,
    zone: ZoneInfo,
    tolerance_micros: int,
) -> Reconciliation:
    """Returns how bill and ledger differ, line by line, and what would book it.

    Args:
        bill: of one exchange.
        ledger: what ``ledger_sums`` says of the bill's days.
        exchange: its id.
        reference: of the bill; in every adjustment.
        zone: the bill's time zone.
        tolerance_micros: up to this a line counts as equal: a bill is rounded.
    """
    differences: list[Difference] = []
    adjustments: list[Adjustment] = []
    unbookable: list[str] = []
    for line in sorted({*bill.lines, *ledger}):
        billed, own = bill.lines.get(line), ledger.get(line)
        found = _difference(line, billed, own, bill.deal_ids, tolerance_micros)
        differences.append(found)
        if found.status is Status.EQUAL:
            continue
        known = own or _like(line, ledger)
        adjustment = _adjustment(line, found, known, exchange, reference, zone)
        if isinstance(adjustment, str):
            unbookable.append(adjustment)
        else:
            adjustments.append(adjustment)
    return Reconciliation(tuple(differences), tuple(adjustments), tuple(unbookable))


def _difference(
    line: Line,
    billed: Sum | None,
    own: Sum | None,
    deal_ids: dict[int, str],
    tolerance_micros: int,
) -> Difference:
    billed_micros = billed.micros if billed else 0
    ledger_micros = own.micros if own else 0
    above = billed_micros - ledger_micros
    if abs(above) <= tolerance_micros:
        status = Status.EQUAL
    elif own is None:
        status = Status.ONLY_BILLED
    elif billed is None:
        status = Status.NOT_BILLED
    else:
        status = Status.BILLED_MORE if above > 0 else Status.BILLED_LESS
    return Difference(
        day=line.day,
        campaign_id=line.campaign_id,
        deal_id=deal_ids.get(line.deal_code, f"code {line.deal_code:016x}"),
        currency=CURRENCY_NAMES.get(line.currency, str(line.currency)),
        billed_micros=billed_micros,
        ledger_micros=ledger_micros,
        billed_impressions=billed.impressions if billed else 0,
        ledger_impressions=own.impressions if own else 0,
        status=status,
    )


def _like(line: Line, ledger: dict[Line, Sum]) -> Sum | None:
    """Returns another line of the campaign's day: its budgets, account and advertiser."""
    alike = [
        (other.currency != line.currency, other, own)
        for other, own in ledger.items()
        if (other.day, other.campaign_id) == (line.day, line.campaign_id)
    ]
    return min(alike, key=lambda each: each[:2])[2] if alike else None


def _adjustment(
    line: Line, found: Difference, known: Sum | None, exchange: int, reference: str, zone: ZoneInfo
) -> Adjustment | str:
    above = found.difference_micros
    place = f"{found.day}, campaign {found.campaign_id}, deal '{found.deal_id}'"
    account = known.account_currency if known else line.currency
    amount = above
    if known and account != line.currency:
        if found.ledger_micros == 0 or known.account_micros * found.ledger_micros <= 0:
            return (
                f"{place}: the ledger has no charge in {found.currency} from which to know the "
                f"rate to {CURRENCY_NAMES.get(account, account)}; book it by hand"
            )
        # The day's own rate: what the account was charged for what the exchange asked.
        amount = round(above * known.account_micros / found.ledger_micros)
    if amount == 0:
        return f"{place}: the difference is below a micro of the account's currency"
    start, end = day_span_ms(datetime.fromisoformat(line.day).date(), zone)
    return Adjustment(
        reference=reference, day_at_ms=(start + end) // 2, exchange=exchange,
        advertiser_id=known.advertiser_id if known else 0, campaign_id=line.campaign_id,
        deal_code=line.deal_code, budgets=known.budgets if known else (),
        amount_micros=amount, account_currency=account, billed_micros=above,
        bill_currency=line.currency, before_micros=found.ledger_micros,
    )  # fmt: skip
