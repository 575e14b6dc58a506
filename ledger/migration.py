"""Migration: brings a store from the version of its tables to that of this build.

Versions are the parts of ``schema.sql``; table ``schema_versions`` says which of them a store has.
A store that is older gets what it lacks, in order, when it is opened. Neither engine has
transactions over DDL, so a version is recorded after its statements: a crash in between runs them
again, which each of them must bear. A column that is there already is not added again, since
ClickHouse 18.16 knows no ``ADD COLUMN IF NOT EXISTS``.

What this deliberately does not do: go back. A store of a later version is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from ledger.sql import bind
from market.errors import Corrupt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.analytics import AnalyticsEngine

_VERSIONS: Final = """
CREATE TABLE IF NOT EXISTS schema_versions (
  version UInt32
) ENGINE = ReplacingMergeTree
ORDER BY version
"""
_TABLES: Final = "SELECT name FROM system.tables WHERE database = currentDatabase()"
_COLUMN: Final = """
SELECT count() AS n FROM system.columns
WHERE database = currentDatabase() AND table = %(table)s AND name = %(name)s
"""
_ADD_COLUMN: Final = re.compile(r"\s*ALTER TABLE (\w+) ADD COLUMN (\w+)\b", re.IGNORECASE)


def migrate(engine: AnalyticsEngine, versions: Sequence[Sequence[str]]) -> int:
    """Runs what the store lacks of ``versions`` and returns the version it has then.

    Args:
        engine: The store.
        versions: Statements by version, the first one first; see ``ledger.sql.schema_versions``.

    Raises:
        Corrupt: the store was made by a later build.
        BadInput: the engine refuses a statement.
        NotReady: the engine cannot now; the same call goes on where this one ended.
    """
    found = _version_of(engine)
    if found > len(versions):
        raise Corrupt(
            f"analytics store of schema version {found}: this build knows versions up to "
            f"{len(versions)}; run the build that made it or a newer one"
        )
    for version in range(found + 1, len(versions) + 1):
        for statement in versions[version - 1]:
            if not _is_done(engine, statement):
                engine.execute(statement)
        engine.insert("schema_versions", pa.table({"version": pa.array([version], pa.uint32())}))
    return len(versions)


def _version_of(engine: AnalyticsEngine) -> int:
    """Returns the version of the store's tables; 0 where there is none."""
    tables = {str(name) for (name,) in engine.execute(_TABLES).rows}
    if "schema_versions" not in tables:
        # Before there were versions the tables were those of version 1, which does no harm twice.
        engine.execute(_VERSIONS)
        return 0
    ((version,),) = engine.execute("SELECT max(version) AS version FROM schema_versions").rows
    assert isinstance(version, int)
    return version


def _is_done(engine: AnalyticsEngine, statement: str) -> bool:
    adds = _ADD_COLUMN.match(statement)
    if adds is None:
        return False
    ((count,),) = engine.execute(bind(_COLUMN, {"table": adds[1], "name": adds[2]})).rows
    return count != 0
