"""Recorders and workers that are killed, hung, out of disk and out of time; what it costs.

Recorder, rings, log and notices are the real ones, in processes of their own. The worker that is
killed is a process that reserves and pushes over the real rings by the rules of a bid worker
(``tests.reference.worker``).
"""

from __future__ import annotations

import http.client
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.frame import RECORDS
from ledger.segment import SegmentReader
from market.control import WorkerWord
from market.events import EventFlag, EventKind, read_events
from tests.ledger.recorders import Place, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

REPOSITORY = Path(__file__).parents[1]
_CAP = 1_000
_LONG_MS = 600_000

_WORKER = """
import sys, time
from pathlib import Path
from ledger.ring import Ring
from market.control import ControlBlock, WorkerWord
from market.events import EVENT_DTYPE
from market.state import CREDIT_DTYPE
from tests.reference.worker import Worker
import os

root, start, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
words = ControlBlock(root / "control.bin").worker(0)
rings = root / "rings"
worker = Worker(
    Ring(rings / "events-0.ring", EVENT_DTYPE), Ring(rings / "credits-0.ring", CREDIT_DTYPE)
)
words[WorkerWord.BID_COUNT] = 0
words[WorkerWord.PID] = os.getpid()
made = 0
while True:
    worker.take_credits()
    now = time.time_ns() // 1_000_000
    if worker.bid(start + made, 1_000, bid_ms=now, deadline_ms=now + 1_500):
        made += 1
        words[WorkerWord.BID_COUNT] = made
    else:
        time.sleep(0.002)
"""


def recorder_kills(  # noqa: C901 - one loop around one process
    folder: Path, kills: int, seed: int, *, has_late: bool
) -> dict[str, int]:
    """Kills the recorder again and again while bids and notices come; looks at every micro."""
    chance = random.Random(seed)
    limit = kills * 4 * _CAP
    place: Any = Place(folder, {1: limit})
    acked: dict[int, int] = {}
    prices: dict[int, int] = {}
    number = idle = 0
    waiting: list[tuple[int, dict[str, int]]] = []
    for _ in range(kills):
        place.start()
        worker = place.worker()
        killer: threading.Timer | None = None
        give_up = time.monotonic() + 20
        while place.process.poll() is None and time.monotonic() < give_up:
            worker.take_credits()
            now = time.time_ns() // 1_000_000
            life = chance.choice((30, _LONG_MS)) if has_late else _LONG_MS
            bid = {"bid_ms": now, "deadline_ms": now + life}
            if worker.bid(number, _CAP, **bid):
                waiting.append((number, bid))
                number += 1
            if not waiting:
                time.sleep(0.002)
                continue
            chosen, bid = chance.choice(waiting[-8:] if chance.random() < 0.7 else waiting)
            price = prices.setdefault(chosen, chance.randint(1, _CAP))
            try:
                if place.bill(chosen, price, reserved=_CAP, **bid) == 200:
                    acked.setdefault(chosen, price)
                    if killer is None:
                        # At a random moment after the first acknowledgement.
                        killer = threading.Timer(chance.uniform(0, 0.3), place.process.kill)
                        killer.start()
            except (OSError, http.client.HTTPException):
                break
        idle += killer is None
        if killer is not None:
            killer.join()
        place.process.kill()
        place.process.communicate()
    place.start()
    # Nothing that was acknowledged may need another notice; repeats must change nothing.
    for chosen, bid in waiting[-20:]:
        if chosen in acked:
            place.bill(chosen, acked[chosen], reserved=_CAP, **bid)
    (budget,) = place.ledger().budgets
    place.stop()
    return {"kills": kills, "kills_without_acks": idle} | _money(place, acked, budget)


def _money(place: Any, acked: dict[int, int], budget: Any) -> dict[str, int]:  # noqa: ANN401 - of tests
    charged: dict[int, list[int]] = {}
    late = 0
    for event in _events(place):
        if int(event["flags"]) & EventFlag.CHARGED:
            charged.setdefault(int(event["bid_hi"]), []).append(int(event["amount_micros"]))
            late += bool(int(event["flags"]) & EventFlag.LATE)
    spent = budget.spent_on_time_micros + budget.spent_late_micros
    over = max(0, spent - budget.limit_micros)
    return {
        "money_events_acked": len(acked),
        "money_events_lost": sum(number not in charged for number in acked),
        "wrong_amounts": sum(
            charged[number][0] != price for number, price in acked.items() if number in charged
        ),
        "duplicates_after_dedup": sum(len(amounts) - 1 for amounts in charged.values()),
        "unaccounted_micros": abs(spent - sum(map(sum, charged.values()))),
        "late_wins": late,
        "overspend_on_time_micros": max(0, budget.spent_on_time_micros - budget.limit_micros),
        "overspend_micros": over,
        "overspend_beyond_bound_micros": max(0, over - budget.spent_late_micros),
    }


def _events(place: Any) -> Iterator[np.void]:  # noqa: ANN401 - of tests
    reader = SegmentReader(place.deployment.segment_folder, RealDisk(), EVENT_LOG)
    while frames := reader.read(8 << 20):
        for frame in frames:
            if frame.kind == RECORDS:
                yield from read_events(frame.body, frame.schema_version)


def worker_kills(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kills the worker again and again; no bid of its ring is lost, no budget overspent."""
    chance = random.Random(seed)
    place: Any = Place(folder, {1: kills * 60 * _CAP})
    place.control.worker(0)[WorkerWord.PID] = 0
    place.start()
    reader = SegmentReader(place.deployment.segment_folder, RealDisk(), EVENT_LOG)
    words = place.control.worker(0)
    acked: dict[int, int] = {}
    known: set[int] = set()
    made = idle = 0
    for kill in range(kills):
        start = kill * 1_000_000
        child = subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(folder), str(start), str(seed)], cwd=REPOSITORY
        )
        until(lambda child=child: words[WorkerWord.PID] == child.pid)
        time.sleep(chance.uniform(0.0, 0.1))
        before = len(acked)
        give_up = time.monotonic() + 10
        while len(acked) == before and time.monotonic() < give_up:
            for chosen, bid in _new_bids(reader):
                known.add(chosen)
                is_billed = chance.random() < 0.5 and len(acked) < before + 4
                if is_billed and place.bill(chosen, _CAP, reserved=_CAP, **bid) == 200:
                    acked[chosen] = _CAP
            time.sleep(0.005)
        child.kill()
        child.wait()
        made += words[WorkerWord.BID_COUNT]
        idle += len(acked) == before
    until(lambda: place.ledger().budgets[0].open_count == 0)
    for event in _events(place):
        if event["kind"] == EventKind.BID:
            known.add(int(event["bid_hi"]))
    view = place.ledger()
    place.stop()
    found = {"kills": kills, "kills_without_acks": idle, "bids_lost": max(0, made - len(known))}
    return found | {"unfunded_bids": view.unfunded_bids} | _money(place, acked, view.budgets[0])


def _new_bids(reader: SegmentReader) -> Iterator[tuple[int, dict[str, int]]]:
    for frame in reader.read(8 << 20):
        if frame.kind == RECORDS:
            for event in read_events(frame.body, frame.schema_version):
                if event["kind"] == EventKind.BID:
                    times = {name: int(event[name]) for name in ("bid_ms", "deadline_ms")}
                    yield int(event["bid_hi"]), times


def hung_recorder(folder: Path, seconds: float) -> dict[str, object]:
    """SIGSTOP for a while: workers bid on from their leases, nothing is lost."""
    place: Any = Place(folder, {1: 10**9})
    place.start()
    worker = place.worker()
    until(lambda: worker.take_credits() is not None and worker.available)
    place.process.send_signal(signal.SIGSTOP)
    end = time.monotonic() + seconds
    made = 0
    while time.monotonic() < end:
        now = time.time_ns() // 1_000_000
        made += worker.bid(made, _CAP, bid_ms=now, deadline_ms=now + _LONG_MS)
        time.sleep(0.002)
    place.process.send_signal(signal.SIGCONT)
    until(lambda: worker.events.tail == worker.events.head)
    place.stop()
    logged = {int(event["bid_hi"]) for event in _events(place)}
    return {"hung_s": seconds, "bids_meanwhile": made, "bids_lost": made - len(logged)}


def full_disk(folder: Path) -> dict[str, object]:
    """No room for the log: notices are refused, no bid outgrows its durable lease, all recovers."""
    place: Any = Place(folder, {1: 10**7})
    place.start()
    worker = place.worker()
    until(lambda: worker.take_credits() is not None and worker.available)
    now = time.time_ns() // 1_000_000
    bid = {"bid_ms": now, "deadline_ms": now + _LONG_MS}
    worker.bid(0, _CAP, **bid)
    (segment,) = place.deployment.segment_folder.glob("*.seg")
    pid, limit = place.process.pid, resource.RLIMIT_FSIZE
    resource.prlimit(pid, limit, (segment.stat().st_size, resource.RLIM_INFINITY))
    refused = made = 0
    lent = worker.available[1]
    end = time.monotonic() + 2
    while time.monotonic() < end:
        worker.take_credits()
        made += worker.bid(1 + made, _CAP, **bid)
        refused += place.bill(0, _CAP, reserved=_CAP, **bid) == 503
    resource.prlimit(pid, limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    began = time.monotonic()
    until(lambda: place.get("/ready")[0] == 200)
    recovered_s = time.monotonic() - began
    answer = place.bill(0, _CAP, reserved=_CAP, **bid)
    until(lambda: place.ledger().budgets[0].open_count == made)
    view = place.ledger()
    place.stop()
    return {
        "notices_refused": refused,
        "bids_beyond_lease": max(0, made - lent // _CAP),
        "unfunded_bids": view.unfunded_bids,
        "recovered_by_itself": int(answer == 200),
        "recovered_ms": round(recovered_s * 1e3),
    }


def clock_jump(folder: Path) -> dict[str, object]:
    """The wall clock jumps a day on and two back: no reservation expires, every win is on time."""
    found = subprocess.run(
        ["dpkg", "-L", "libfaketime"], capture_output=True, text=True, check=False
    )
    libraries = [line for line in found.stdout.split() if line.endswith("libfaketimeMT.so.1")]
    if not libraries:
        return {"clock_jump": "libfaketime is not installed"}
    place: Any = Place(folder, {1: 10**7})
    offset = folder / "offset"
    offset.write_text("+0")
    place.spawn(
        env=os.environ
        | {
            "LD_PRELOAD": libraries[0], "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
    )  # fmt: skip
    until(lambda: place.words[7])
    worker = place.worker()
    until(lambda: worker.take_credits() is not None and worker.available)
    charged = 0
    for number, jump in enumerate(("+86400", "-86400", "+0")):
        now = time.time_ns() // 1_000_000
        bid = {"bid_ms": now, "deadline_ms": now + _LONG_MS}
        worker.bid(number, _CAP, **bid)
        offset.write_text(jump)
        time.sleep(0.3)
        charged += place.bill(number, _CAP, reserved=_CAP, **bid) == 200
    (budget,) = place.ledger().budgets
    place.stop()
    return {
        "jumps": 3,
        "charged": charged,
        "expired_early_micros": budget.spent_late_micros,
        "on_time_micros": budget.spent_on_time_micros,
    }
