"""chDB is one path per process, so that each test has a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import sys
from pathlib import Path
import pyarrow as pa
from ledger.embedded import ChdbEngine
from market.errors import BadInput, NotReady
folder = Path(sys.argv[1])
engine = ChdbEngine(folder)

def refusal(work, *arguments):
    try:
        work(*arguments)
    except (BadInput, NotReady) as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError(f"{arguments} was taken")
"""

TESTS = {
    "an insert that fails is to be repeated, and the engine goes on": """
text = refusal(engine.insert, "cursors", pa.table({"nope": pa.array([1])}))
assert text.startswith("NotReady: analytics table cursors in") and "1 rows were not taken" in text
rows = pa.table({"log": pa.array(["x"]), "next_sequence": pa.array([7], pa.uint64())})
engine.insert("cursors", rows)
assert engine.execute("SELECT log, next_sequence FROM cursors").rows == [["x", 7]]
""",
    "a statement without an answer has no rows": """
assert engine.execute("CREATE TABLE other (x Int64) ENGINE = MergeTree ORDER BY x").rows == []
assert engine.execute("SELECT x FROM other").rows == []
""",
    "an answer of no known shape is refused, and the next one is whole": """
assert refusal(engine.execute, "SELECT unhex('ff') AS bytes").startswith("BadInput")
assert refusal(engine.execute, "SELECT number FROM numbers(10) FORMAT CSV").startswith("BadInput")
assert engine.execute("SELECT 1 AS one").rows == [[1]]
""",
    "an error is short": """
text = refusal(engine.execute, "SELECT 1 +")
assert "Syntax error" in text and len(text) < 600 and "Expected one of" not in text
""",
    "what is inserted is on disk before insert returns": """
settings = engine.execute("SELECT engine_full FROM system.tables WHERE name = 'events'").rows[0][0]
assert "fsync_after_insert = 1" in settings and "fsync_part_directory = 1" in settings
""",
    "rows of more than a hundred days are taken at once": """
import numpy as np
from ledger.loader import event_table
from market.events import DAY_MS, EVENT_DTYPE
events = np.zeros(500, EVENT_DTYPE)
events["id_lo"] = np.arange(500)
events["bid_ms"] = np.arange(500) * DAY_MS
engine.insert("events", event_table(events))
question = "SELECT count() AS n, uniqExact(day) AS days FROM events FINAL"
assert engine.execute(question).rows == [[500, 500]]
""",
    "a closed folder is free for the next": """
import fcntl, os
engine.close()
descriptor = os.open(folder, os.O_RDONLY)
fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
""",
}


@pytest.mark.parametrize("name", TESTS)
def test_in_a_process_of_its_own(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + TESTS[name], str(tmp_path / "store")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
