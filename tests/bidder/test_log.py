"""A worker's log: JSON lines of fixed fields, one a second of each event."""

from __future__ import annotations

import io
import json
import subprocess
import sys

from bidder.log import WorkerLog
from tests.ledger.recorders import REPOSITORY


class Place:
    def __init__(self):
        self.stream, self.now_ns = io.StringIO(), 0
        self.log = WorkerLog(self.stream, 2, lambda: 1_700, lambda: self.now_ns)

    def lines(self):
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_what_changed():
    place = Place()
    place.log.say("snapshot", version=7)
    place.log.say("silent", process="recorder")
    assert place.lines() == [
        {"at_ms": 1_700, "event": "snapshot", "worker": 2, "version": 7},
        {"at_ms": 1_700, "event": "silent", "worker": 2, "process": "recorder"},
    ]


def test_of_one_event_there_is_one_line_a_second_with_how_many_were_left_out():
    place = Place()
    for version in range(10):
        place.log.say("snapshot", version=version)
    place.log.say("ready")
    place.now_ns = 1_000_000_000
    place.log.say("snapshot", version=10)
    assert [(line["event"], line.get("left_out", 0)) for line in place.lines()] == [
        ("snapshot", 0), ("ready", 0), ("snapshot", 9),
    ]  # fmt: skip


def test_who_tells_a_state_asks_whether_a_line_is_due():
    place = Place()
    assert place.log.is_due("shedding")
    place.log.say("shedding", share=5)
    assert not place.log.is_due("shedding")
    assert place.log.is_due("shedding_over"), "each event has its own second"
    place.now_ns = 1_000_000_000
    place.log.say("shedding", share=10)
    assert [line.get("left_out", 0) for line in place.lines()] == [0, 0], "asking is not saying"


def test_a_log_configures_nothing_for_others_and_brings_no_console():
    code = (
        "import sys\n"
        "import bidder.log\n"
        "assert 'structlog' in sys.modules\n"
        "assert 'rich' not in sys.modules\n"
        "import rich.console, structlog\n"
        "assert not structlog.is_configured()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, timeout=60, check=True)
