"""Retention: how long the store keeps what, and nothing longer.

Events go by whole days of their bids (``DROP PARTITION``), which costs nothing however many there
are. Before a day's events go, its hours are computed for the last time; they stay as long as
``hour_days`` say. From ``user_days`` on an event no longer says whose it was.

The day from which on a table is kept is stored before anything is dropped. A crash in between
leaves days that the next run drops, and never a day that looks whole and is not: nothing is
computed from a day before ``kept_from``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from ledger.analytics import EngineAnalytics
from ledger.chores import Retained
from ledger.mutation import UNLINK, mutate
from ledger.rollup import build_changed, drop_days, kept_from

if TYPE_CHECKING:
    from ledger.analytics import AnalyticsEngine
    from ledger.chores import Keep


def retain(engine: AnalyticsEngine, today: int, keep: Keep) -> Retained:
    """Drops what is older than it may be.

    Args:
        engine: The store; only its own process may.
        today: Day since 1970, UTC, that is the last one to keep.
        keep: How long.

    Raises:
        NotReady: the engine cannot now; the same call does the rest.
    """
    first_event = max(0, today - keep.event_days + 1)
    first_hour = max(0, today - keep.hour_days + 1)
    build_changed(engine)
    _keep_from(engine, "events", first_event)
    _keep_from(engine, "delivery_hours", first_hour)
    first_user = max(0, today - keep.user_days + 1)
    _keep_from(engine, "users", first_user)
    event_days = drop_days(engine, "events", first_event)
    drop_days(engine, "invalid_traffic", first_event)
    hour_days = drop_days(engine, "delivery_hours", first_hour)
    found = engine.execute("SELECT name FROM system.tables WHERE database = currentDatabase()")
    if ["attributions"] in found.rows:
        drop_days(engine, "attributions", first_hour)
    unlinked = mutate(
        engine, "events", UNLINK, "day < toDate(%(day)s) AND user_key != 0", {"day": first_user}
    )
    return Retained(event_days, hour_days, unlinked)


def _keep_from(engine: AnalyticsEngine, name: str, day: int) -> None:
    """Stores from when on a table is kept; that never goes back."""
    if day > kept_from(EngineAnalytics(engine), name):
        rows = {
            "name": pa.array([name], pa.string()),
            "kept_from": pa.array([day], pa.int32()).cast(pa.date32()),
        }
        engine.insert("retention", pa.table(rows))
