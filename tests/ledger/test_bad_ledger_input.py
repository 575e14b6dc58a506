"""Input that is odd but must not stop a recorder: it is taken or left alone, and counted."""

from __future__ import annotations

import pytest

from ledger.event_log import EVENT_LOG
from ledger.inspection import Condition, inspect
from ledger.notice_price import CLOCK_SKEW_MS
from ledger.outcome import Outcome
from ledger.segment import recover
from market.events import EventKind
from tests.ledger.bids import CrashingLog, bid_event, notice, recorder
from tests.ledger.logs import SCHEMA, UnsyncedDisk, write_log
from tests.ledger.recorders import Place
from tests.pages import samples_of

DISK = UnsyncedDisk()
FOREIGN = ("00000001.seg.bak", "README", ".DS_Store", "1.seg", "core", "events.seg", "a.checkpoint")


def test_foreign_files_are_left_alone_and_told(tmp_path):
    write_log(tmp_path)
    for name in FOREIGN:
        (tmp_path / name).write_bytes(b"not ours")
    (tmp_path / "folder").mkdir()
    want = tuple(sorted((*FOREIGN, "folder")))
    assert recover(tmp_path, DISK, SCHEMA).foreign_names == want
    found = inspect(tmp_path, DISK, SCHEMA)
    assert (found.condition, found.foreign_names) == (Condition.WHOLE, want)
    assert {(tmp_path / name).read_bytes() for name in FOREIGN} == {b"not ours"}


def test_an_empty_folder_with_foreign_files_is_an_empty_log(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    recovery = recover(tmp_path, DISK, EVENT_LOG)
    assert (recovery.frames, recovery.foreign_names) == (0, ("notes.txt",))


@pytest.mark.parametrize(("ahead_ms", "count"), [(CLOCK_SKEW_MS, 0), (CLOCK_SKEW_MS + 1, 1)])
def test_a_bid_from_the_future_is_reserved_and_counted(ahead_ms, count):
    core = recorder({1: 10_000}, log=CrashingLog(), now_ms=1_000)
    made = 1_000 + ahead_ms
    core.take_bids(bid_event(1, bid_ms=made, deadline_ms=made + 50), 1_000)
    core.commit()
    assert core.view(1_000).future_bids == count
    core.step(made + 50)
    assert core.ledger.totals()[0].open_count == 1  # until its own deadline, never less
    assert core.take_notice(notice(EventKind.BILLING, 1, made + 50, 60)).outcome is Outcome.CHARGED
    core.step(made + 51)
    total = core.ledger.totals()[0]
    assert (total.spent_on_time_micros, total.open_count) == (60, 0)


def test_the_recorder_tells_of_foreign_files_and_future_bids(tmp_path):
    place = Place(tmp_path / "run")
    place.deployment.segment_folder.mkdir()
    (place.deployment.segment_folder / "notes.txt").write_text("x")
    place.start()
    worker = place.worker()
    worker.events.push(bid_event(1, bid_ms=2**50, deadline_ms=2**50 + 1))
    place.bill(1, 10, bid_ms=2**50, deadline_ms=2**50 + 1)
    page = samples_of(place.get("/metrics")[2].decode())
    told = {name: value for name, value in page.items() if "future" in str(name)}
    assert list(told.values()) == [1.0]
    _, said, _ = place.stop()
    assert "left 1 foreign files alone: notes.txt" in said
