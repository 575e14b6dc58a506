"""The log in memory: sequences as on disk, frames only where they are asked for."""

from __future__ import annotations

from ledger.frame import CONTROL, RECORDS
from ledger.log import MemoryLog


def test_a_memory_log_counts_frames_and_keeps_them_only_where_asked():
    kept, dropped = MemoryLog(is_kept=True), MemoryLog()
    for log in (kept, dropped):
        assert log.commit() == 0
        assert (log.append(CONTROL, b"a"), log.append(RECORDS, b"b")) == (1, 2)
        assert log.commit() == 2
    assert kept.frames == [(CONTROL, b"a"), (RECORDS, b"b")]
    assert dropped.frames == []
