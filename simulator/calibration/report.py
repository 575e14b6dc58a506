"""The fidelity report as data: what ``report.json`` holds and ``page`` draws."""

from __future__ import annotations

import msgspec

from simulator.calibration.fidelity import RowReport
from simulator.calibration.terms import Calibration


class Part(msgspec.Struct, frozen=True):
    """One half of the log."""

    rows: int
    hours: int
    clicks: int
    conversions: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the report says.

    Attributes:
        log: its name.
        source: kind of log.
        split: how it was cut in two.
        fitted, held_back: the halves.
        quarantined: lines or records that could not be used.
        counts: what else was met while reading.
        can_say, cannot_say: what a log of this kind shows, and what not, a sentence each.
        notes: what could not be written, and why.
        rows: the comparison.
        calibration: what was fitted.
    """

    log: str
    source: str
    split: str
    fitted: Part
    held_back: Part
    quarantined: int
    counts: dict[str, int]
    can_say: tuple[str, ...]
    cannot_say: tuple[str, ...]
    notes: tuple[str, ...]
    rows: tuple[RowReport, ...]
    calibration: Calibration


def scope_of(source: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns what a log of a kind can show, and what it cannot."""
    return _SCOPE[source]


_SCOPE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "ledger": (
        (
            "Supply of requests, as far as no-bids were sampled into the ledger; else of bids.",
            "Prices to win, rivals and win rate by bid, by bids that won and bids that lost.",
            "Clicks by slot, conversions and their delays, with what was still on its way.",
        ),
        ("Bids far outside the range that was bid rest on the log-normal shape of rivals' bids.",),
    ),
    "ipinyou": (
        (
            "Prices of won impressions by hour, supply of won impressions, clicks.",
        ),
        (
            "Bids and losses are not in the file: no win rate, no rivals, no spend at other bids. "
            "The price landscape is of auctions that this advertiser won.",
            "No conversions, no slots, no users: rows are resampled as if independent, which makes "
            "the noise floor too small rather than too large.",
        ),
    ),
    "open_bandit": (
        ("Clicks by position, supply of impressions by hour.",),
        ("There are no prices, no bids and no conversions in the file.",),
    ),
}  # fmt: skip
