"""The slow twin of ``ledger.reports``: the same numbers by plain Python over the events.

Written from the meaning of an event (``market.events``): an event counts once, by its id; the one
received last speaks for it; tests count nowhere; spent is what was charged.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from market.decision import NoBidReason
from market.events import EVENT_DTYPE, EventFlag, EventKind
from market.money import CURRENCY_NAMES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Event = dict[str, Any]
PerCampaign = dict[tuple[int, str], dict[str, int]]


def distinct(events: npt.NDArray[np.void]) -> list[Event]:
    last: dict[tuple[int, int], Event] = {}
    for record in events:
        event = dict(zip(EVENT_DTYPE.names, record.tolist(), strict=True))
        key = (event["id_hi"], event["id_lo"])
        if key not in last or event["recv_ms"] >= last[key]["recv_ms"]:
            last[key] = event
    return list(last.values())


def _counted(events: npt.NDArray[np.void]) -> list[Event]:
    return [event for event in distinct(events) if not event["flags"] & EventFlag.TEST]


def _campaign(event: Event) -> tuple[int, str]:
    return event["campaign_id"], CURRENCY_NAMES[event["account_currency"]]


def events_recorded(events: npt.NDArray[np.void]) -> int:
    return sum(1 for event in distinct(events) if event["kind"] in range(1, 9))


def campaign_totals(events: npt.NDArray[np.void]) -> PerCampaign:
    rows: PerCampaign = {}
    names = {
        EventKind.BID: "bids",
        EventKind.WIN: "wins",
        EventKind.IMPRESSION: "impressions",
        EventKind.CLICK: "clicks",
        EventKind.CONVERSION: "conversions",
    }
    for event in _counted(events):
        if event["kind"] == EventKind.NO_BID or event["flags"] & EventFlag.DISPUTED:
            continue
        row = rows.setdefault(
            _campaign(event),
            dict.fromkeys((*names.values(), "conversion_value_micros", "spend_micros"), 0),
        )
        if event["kind"] in names:
            row[names[event["kind"]]] += 1
        if event["kind"] == EventKind.CONVERSION:
            row["conversion_value_micros"] += event["value_micros"]
        if event["flags"] & EventFlag.CHARGED:
            row["spend_micros"] += event["amount_micros"]
    return rows


def over_time(
    events: npt.NDArray[np.void], start_ms: int, end_ms: int, bucket_ms: int, *, is_spend: bool
) -> dict[tuple[int, str], dict[int, int]]:
    """Spend (or the number of conversions) per campaign and bucket; empty buckets are absent."""
    rows: dict[tuple[int, str], dict[int, int]] = {}
    for event in _counted(events):
        has_it = (
            event["flags"] & EventFlag.CHARGED
            if is_spend
            else event["kind"] == EventKind.CONVERSION and not event["flags"] & EventFlag.DISPUTED
        )
        if has_it and start_ms <= event["ts_ms"] < end_ms:
            buckets = rows.setdefault(_campaign(event), defaultdict(int))
            bucket = (event["ts_ms"] - start_ms) // bucket_ms
            buckets[bucket] += event["amount_micros"] if is_spend else 1
    return rows


def win_prices(events: npt.NDArray[np.void]) -> dict[str, list[int]]:
    """Every clearing price per currency of bids, sorted."""
    prices: dict[str, list[int]] = defaultdict(list)
    for event in _counted(events):
        if event["kind"] == EventKind.WIN and not event["flags"] & EventFlag.DISPUTED:
            prices[CURRENCY_NAMES[event["bid_currency"]]].append(event["price_cpm_micros"])
    return {currency: sorted(values) for currency, values in prices.items()}


def no_bids(events: npt.NDArray[np.void]) -> dict[str, tuple[int, float]]:
    rows: dict[str, tuple[int, float]] = {}
    for event in _counted(events):
        if event["kind"] == EventKind.NO_BID:
            name = NoBidReason(event["reason"]).name
            samples, weight = rows.get(name, (0, 0.0))
            rows[name] = (samples + 1, weight + event["weight"])
    return rows


def irregular(events: npt.NDArray[np.void]) -> PerCampaign:
    rows: PerCampaign = {}
    for event in _counted(events):
        is_disputed = bool(event["flags"] & EventFlag.DISPUTED)
        is_late = bool(event["flags"] & EventFlag.LATE)
        if not is_disputed and not is_late:
            continue
        row = rows.setdefault(
            _campaign(event),
            dict.fromkeys(("disputed", "disputed_micros", "late", "late_spend_micros"), 0),
        )
        if is_disputed:
            row["disputed"] += 1
            row["disputed_micros"] += event["amount_micros"]
        if is_late:
            row["late"] += 1
            if event["flags"] & EventFlag.CHARGED:
                row["late_spend_micros"] += event["amount_micros"]
    return rows
