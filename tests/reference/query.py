"""Answers to queries, slow and obvious: one event after the other, in Python's numbers.

Written from the documentation of measures (docs/store.md), not from the SQL.
"""

from __future__ import annotations

import datetime
import math
from collections import defaultdict
from fractions import Fraction

from market.events import EventFlag, EventKind
from market.money import CURRENCY_NAMES
from market.opportunity import Format

HOUR_MS = 3_600_000
COUNTS = {
    "bids": EventKind.BID, "wins": EventKind.WIN, "losses": EventKind.LOSS,
    "impressions": EventKind.IMPRESSION, "clicks": EventKind.CLICK,
    "conversions": EventKind.CONVERSION,
}  # fmt: skip
QUOTIENTS = {
    "win_rate": ("wins", "bids"), "ctr": ("clicks", "impressions"),
    "cvr": ("conversions", "clicks"),
    "roas": ("conversion_value_micros", "spend_micros"),
    "invalid_click_rate": ("invalid_clicks", "clicks"),
    "ecpm_micros": ("spend_micros", "impressions"), "cpc_micros": ("spend_micros", "clicks"),
    "cpa_micros": ("spend_micros", "conversions"),
}  # fmt: skip


def last_of_each_id(events):
    """The event that was received last of each id; the later one in the log where equal."""
    kept = {}
    for event in events:
        key = (int(event["id_hi"]), int(event["id_lo"]))
        if key not in kept or event["recv_ms"] >= kept[key]["recv_ms"]:
            kept[key] = event
    return kept


def key_of(event, dimension):
    at = datetime.datetime.fromtimestamp(int(event["ts_ms"]) // 1000, datetime.UTC)
    if dimension in ("month", "day"):
        return at.strftime("%Y-%m-01" if dimension == "month" else "%Y-%m-%d")
    if dimension in ("hour_ms", "hour_of_day"):
        return int(event["ts_ms"]) // HOUR_MS * HOUR_MS if dimension == "hour_ms" else at.hour
    if dimension == "currency":
        return CURRENCY_NAMES[int(event["account_currency"])]
    if dimension == "format":
        return Format(int(event["format"])).name
    return int(event[dimension])


def count_event(sums, event, is_invalid):
    kind, flags = int(event["kind"]), int(event["flags"])
    if flags & EventFlag.CHARGED:
        sums["spend_micros"] += int(event["amount_micros"])
        if flags & EventFlag.LATE:
            sums["late_spend_micros"] += int(event["amount_micros"])
        if is_invalid:
            sums["invalid_spend_micros"] += int(event["amount_micros"])
    if flags & EventFlag.DISPUTED:
        sums["disputed"] += 1
        sums["disputed_micros"] += int(event["amount_micros"])
        return
    for name, counted in COUNTS.items():
        if kind == counted:
            sums[name] += 1
            if is_invalid and name in ("impressions", "clicks", "conversions"):
                sums[f"invalid_{name}"] += 1
    if kind == EventKind.CONVERSION:
        sums["conversion_value_micros"] += int(event["value_micros"])
        if is_invalid:
            sums["invalid_conversion_value_micros"] += int(event["value_micros"])


def measure(sums, name):
    if name not in QUOTIENTS:
        return sums[name]
    above, below = QUOTIENTS[name]
    if not sums[below]:
        return None
    quotient = Fraction(sums[above], sums[below]) * (1000 if name == "ecpm_micros" else 1)
    if name.endswith("_micros"):
        return math.floor(quotient + Fraction(1, 2))
    return float(quotient)


def answer(events, advertiser_id, dimensions, measures, filters, start_ms, end_ms, invalid=()):
    """Rows of (dimensions..., measures...), in the order of the dimensions."""
    groups = defaultdict(lambda: defaultdict(int))
    for key, event in last_of_each_id(events).items():
        if not start_ms <= event["ts_ms"] < end_ms or event["flags"] & EventFlag.TEST:
            continue
        if event["kind"] == EventKind.NO_BID:
            continue
        if advertiser_id is not None and event["advertiser_id"] != advertiser_id:
            continue
        if any(key_of(event, name) not in wanted for name, wanted in filters.items()):
            continue
        group = tuple(key_of(event, name) for name in dimensions)
        count_event(groups[group], event, key in invalid)
    if not dimensions:
        groups[()]
    return [
        (*group, *(measure(groups[group], name) for name in measures))
        for group in sorted(groups, key=lambda group: tuple(map(str, group)))
    ]
