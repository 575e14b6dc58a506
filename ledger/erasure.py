"""Erasure and access by user (GDPR, articles 15 and 17): what the store holds of one person.

A person is known here by pseudonyms only, keyed hashes whose salt rotates; whoever asks brings the
id, and ``ledger.salts`` turns it into the pseudonyms that it had. To erase is to take from every
event of theirs whose it was: the pseudonym, the features and the counters that were made with it.
The event stays, because it is also a fact of an advertiser's account: that something was shown,
when, and what it cost. It can no longer be joined with anything of the person.

The pseudonyms of erased users are remembered, so that events that come later, or are loaded again
from the log, lose theirs as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from ledger.chores import Erased
from ledger.mutation import UNLINK, mutate
from ledger.rollup import iso_day
from ledger.sql import bind
from market.errors import BadInput
from market.events import EVENT_DTYPE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from ledger.analytics import AnalyticsEngine
    from ledger.sql import Analytics, Cell, Value

USER_KEYS_MAX: Final = 10_000
_KEYS_PER_MUTATION: Final = 1_000
_ROWS_PER_QUESTION: Final = 2_000
# Not DISTINCT, which 18.16 answers once for each of its threads.
_OF_ERASED: Final = """
SELECT user_key FROM events
WHERE user_key != 0 AND user_key IN (SELECT user_key FROM erased_users)
"""
_OF_DAYS: Final = " AND day IN %(days)s"
_ONE_EACH: Final = " GROUP BY user_key LIMIT %(limit)s"


def erase(engine: AnalyticsEngine, user_keys: Sequence[int], now_ms: int) -> Erased:
    """Takes from every event of these users whose it was; returns when that is done.

    Args:
        engine: The store.
        user_keys: Pseudonyms.
        now_ms: When, for the record.

    Raises:
        BadInput: a pseudonym is 0, which is nobody, or there are too many of them.
        NotReady: the engine cannot now; the same call does the rest.
    """
    _check(user_keys)
    keys = sorted(set(user_keys))
    # First remembered, then erased: a crash in between is healed by ``erase_again``.
    rows = {
        "user_key": pa.array(np.array(keys, np.uint64)),
        "erased_ms": pa.array(np.full(len(keys), now_ms, np.int64)),
    }
    engine.insert("erased_users", pa.table(rows))
    return Erased(len(keys), _unlink(engine, keys))


def erase_again(engine: AnalyticsEngine, days: Collection[int] | None = None) -> Erased:
    """Erases what was loaded of erased users since; see ``erase``.

    Args:
        engine: The store.
        days: Days to look at, of the bids, since 1970; None: all of them, which reads a column of
            the whole table.
    """
    if days is not None and not days:
        return Erased(0, 0)
    if engine.execute("SELECT count() AS n FROM erased_users").rows == [[0]]:
        return Erased(0, 0)
    values: dict[str, Value] = {"limit": USER_KEYS_MAX}
    sql = _OF_ERASED
    if days is not None:
        sql += _OF_DAYS
        values["days"] = [iso_day(day) for day in sorted(days)]
    found = engine.execute(bind(sql + _ONE_EACH, values)).rows
    keys = [int(str(key)) for (key,) in found]
    return Erased(len(keys), _unlink(engine, keys))


def events_of(analytics: Analytics, user_keys: Sequence[int]) -> Iterator[dict[str, Cell]]:
    """Yields every event of these users, by the names of its columns, in order of time.

    Raises:
        BadInput: a pseudonym is 0, which is nobody, or there are too many of them.
        NotReady: the store cannot now.
    """
    _check(user_keys)
    names = ", ".join(EVENT_DTYPE.names or ())
    begun_at = 0
    while True:
        answer = analytics.query(
            f"SELECT {names} FROM events FINAL WHERE user_key IN %(keys)s "  # noqa: S608 - of ours
            "ORDER BY ts_ms, id_hi, id_lo LIMIT %(first)s, %(count)s",
            keys=list(user_keys),
            first=begun_at,
            count=_ROWS_PER_QUESTION,
        )
        for row in answer.rows:
            yield dict(zip(answer.columns, row, strict=True))
        if len(answer.rows) < _ROWS_PER_QUESTION:
            return
        begun_at += _ROWS_PER_QUESTION


def _unlink(engine: AnalyticsEngine, keys: Sequence[int]) -> int:
    count = 0
    for at in range(0, len(keys), _KEYS_PER_MUTATION):
        some = list(keys[at : at + _KEYS_PER_MUTATION])
        count += mutate(
            engine, "events", UNLINK, "user_key != 0 AND user_key IN %(keys)s", {"keys": some}
        )
    return count


def _check(user_keys: Sequence[int]) -> None:
    if not 1 <= len(user_keys) <= USER_KEYS_MAX:
        raise BadInput(f"{len(user_keys)} user keys: there must be between 1 and {USER_KEYS_MAX}")
    if any(not 0 < key < 1 << 64 for key in user_keys):
        raise BadInput("user key 0 or beyond 64 bits: 0 stands for nobody, who cannot be erased")
