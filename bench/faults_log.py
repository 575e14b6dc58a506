"""What the event log says of the money, held against what was acknowledged and what budgets say."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.frame import RECORDS
from ledger.segment import SegmentReader
from market.events import EventFlag, read_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from ledger.view import BudgetView

Key = tuple[int, int]
"""A bid id: its high and its low half."""


def events_of(folder: Path) -> Iterator[np.void]:
    """Yields every event of the log in a segment folder, in order."""
    reader = SegmentReader(folder, RealDisk(), EVENT_LOG)
    while frames := reader.read(8 << 20):
        for frame in frames:
            if frame.kind == RECORDS:
                yield from read_events(frame.body, frame.schema_version)


def key_of(event: np.void) -> Key:
    """Returns the bid id of an event."""
    return int(event["bid_hi"]), int(event["bid_lo"])


def money(folder: Path, acked: Mapping[Key, int], budgets: Iterable[BudgetView]) -> dict[str, int]:
    """Holds log, acknowledgements and budgets against one another.

    Args:
        folder: of the segments.
        acked: by bid, what its acknowledged notice charges.
        budgets: what the recorder says, after everything has settled.

    Returns:
        What is lost, double or wrong (all 0 in a sound ledger), and how much of late wins and
        overspend there was.
    """
    charged: dict[Key, list[int]] = defaultdict(list)
    by_budget: dict[tuple[int, bool], int] = defaultdict(int)
    late = 0
    for event in events_of(folder):
        flags = int(event["flags"])
        if flags & EventFlag.CHARGED:
            amount, is_late = int(event["amount_micros"]), bool(flags & EventFlag.LATE)
            charged[key_of(event)].append(amount)
            late += is_late
            for budget_id in event["budgets"].tolist():
                if budget_id:
                    by_budget[budget_id, is_late] += amount
    found = {
        "money_events_acked": len(acked),
        "money_events_lost": sum(key not in charged for key in acked),
        "wrong_amounts": sum(
            charged[key][0] != amount for key, amount in acked.items() if key in charged
        ),
        "duplicates_after_dedup": sum(len(amounts) - 1 for amounts in charged.values()),
        "late_wins": late,
    }
    sums = dict.fromkeys(
        (
            "unaccounted_micros", "overspend_on_time_micros", "overspend_micros",
            "overspend_beyond_bound_micros", "beyond_limit_with_held_micros", "budgets_spent",
        ),
        0,
    )  # fmt: skip
    for budget in budgets:
        on_time, spent_late = budget.spent_on_time_micros, budget.spent_late_micros
        over = max(0, on_time + spent_late - budget.limit_micros)
        sums["unaccounted_micros"] += abs(on_time - by_budget[budget.budget_id, False])
        sums["unaccounted_micros"] += abs(spent_late - by_budget[budget.budget_id, True])
        sums["overspend_on_time_micros"] += max(0, on_time - budget.limit_micros)
        sums["overspend_micros"] += over
        sums["overspend_beyond_bound_micros"] += max(0, over - spent_late)
        sums["beyond_limit_with_held_micros"] += max(
            0, on_time + budget.held_micros - budget.limit_micros
        )
        sums["budgets_spent"] += on_time > budget.limit_micros // 2
    return found | sums
