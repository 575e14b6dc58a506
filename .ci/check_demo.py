# ruff: noqa: T201 - a check that prints is what this is
"""Holds a demo's summary.json against what the demo promises; prints each rule, fails on any."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(path: str) -> int:
    """Returns 0 if every promise is kept."""
    s = json.loads(Path(path).read_text())
    rules = {
        "requests >= 60,000": s["requests"] >= 60_000,
        "0.05 <= wins / bids <= 0.6": 0.05 <= s["wins"] / s["bids"] <= 0.6,
        "three campaigns": len(s["campaigns"]) == 3,
        "50 conversions in each": all(c["conversions"] >= 50 for c in s["campaigns"]),
        "a budget runs out": s["budgets_exhausted"] >= 1,
        "overspend is 0": s["overspend_micros"] == 0,
        "targets within 25 %": all(
            abs(c["achieved_to_target"] - 1) <= 0.25
            for c in s["campaigns"]
            if c["achieved_to_target"] is not None
        ),
        "two targets": sum(c["target"] is not None for c in s["campaigns"]) == 2,
        "events recorded = expected": s["events_recorded"] == s["events_expected"] > 0,
        "repeats were ignored": s["duplicates_ignored"] > 0,
        "counts agree": s["disagreements"] == [],
        "within two minutes": s["wall_s"] < 120,
    }
    for rule, is_kept in rules.items():
        print(f"{'ok  ' if is_kept else 'FAIL'} {rule}")
    return 0 if all(rules.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
