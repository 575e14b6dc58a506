"""Changing rows that are there: the one thing that a log of facts does not do, but for privacy.

Rows are rewritten by the engine's mutations (``ALTER TABLE ... UPDATE``), which 18.16 runs beside
its other work: ``mutate`` returns only when they are over, so that what is said to be erased is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from ledger.sql import bind
from market.errors import NotReady

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ledger.analytics import AnalyticsEngine
    from ledger.sql import Value

UNLINK: Final = (
    "user_key = 0, features = arrayMap(x -> toUInt32(0), features), "
    "caps = arrayMap(x -> toUInt64(0), caps)"
)
"""Takes from an event whose it was: the pseudonym, and the numbers that are made with it."""

_POLL_S: Final = 0.02
_POLL_COUNT: Final = 15_000
_UNDER_WAY: Final = """
SELECT count() AS n FROM system.mutations
WHERE database = currentDatabase() AND table = %(table)s AND is_done = 0
"""


def mutate(
    engine: AnalyticsEngine, table: str, change: str, where: str, values: Mapping[str, Value]
) -> int:
    """Rewrites the rows of ``table`` that ``where`` says, and returns how many there were.

    Args:
        engine: The store.
        table: A table of ``schema.sql``.
        change: ``column = expression``, of ours.
        where: A condition of ours that no longer holds for a row that was changed.
        values: For its ``%(name)s``.

    Raises:
        NotReady: it is not over after five minutes; the engine goes on with it.
    """
    counted = f"SELECT count() AS n FROM {table} WHERE {where}"  # noqa: S608 - of ours
    ((count,),) = engine.execute(bind(counted, values)).rows
    assert isinstance(count, int)
    if not count:
        return 0
    engine.execute(bind(f"ALTER TABLE {table} UPDATE {change} WHERE {where}", values))
    for _ in range(_POLL_COUNT):
        if engine.execute(bind(_UNDER_WAY, {"table": table})).rows == [[0]]:
            return count
        time.sleep(_POLL_S)
    raise NotReady(f"analytics table {table}: {count} rows are still being rewritten; ask again")
