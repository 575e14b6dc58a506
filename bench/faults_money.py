"""Recorders that are killed, out of disk and out of time; what it costs.

Recorder, rings, log and notices are the real ones, in processes of their own. The worker is the
bench, which reserves and pushes over the real rings by the rules of a bid worker
(``tests.reference.worker``), so that it can bid at the moment it wants; killed workers are in
``bench.faults_workers``.
"""

from __future__ import annotations

import http.client
import os
import random
import resource
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

from bench.faults_log import Key, money
from tests.ledger.recorders import Place, until

if TYPE_CHECKING:
    from pathlib import Path

_CAP = 1_000
_LONG_MS = 600_000


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
        give_up = time.monotonic() + 90
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
    return {"kills": kills, "kills_without_acks": idle} | money(
        place.deployment.segment_folder,
        {(number, number + 1): amount for number, amount in acked.items()},
        [budget],
    )


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


def fake_clock(**settings: str) -> dict[str, str] | None:
    """Returns the environment in which processes see another wall clock; None without libfaketime.

    Only the wall clock: time-outs and latencies stay those of the machine.
    """
    found = subprocess.run(
        ["dpkg", "-L", "libfaketime"], capture_output=True, text=True, check=False
    )
    libraries = [line for line in found.stdout.split() if line.endswith("libfaketimeMT.so.1")]
    if not libraries:
        return None
    return {
        "LD_PRELOAD": libraries[0], "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1", **settings,
    }  # fmt: skip


def clock_jump(folder: Path) -> dict[str, object]:
    """The wall clock jumps a day on and two back: no reservation expires, every win is on time."""
    offset = folder / "offset"
    env = fake_clock(FAKETIME_TIMESTAMP_FILE=str(offset), FAKETIME_NO_CACHE="1")
    if env is None:
        return {"missing": "libfaketime is not installed"}
    place: Any = Place(folder, {1: 10**7})
    offset.write_text("+0")
    place.spawn(env=os.environ | env)
    until(lambda: place.words[7])
    worker = place.worker()
    until(lambda: worker.take_credits() is not None and worker.available)
    acked: dict[Key, int] = {}
    for number, jump in enumerate(("+86400", "-86400", "+0")):
        now = time.time_ns() // 1_000_000
        bid = {"bid_ms": now, "deadline_ms": now + _LONG_MS}
        worker.bid(number, _CAP, **bid)
        offset.write_text(jump)
        time.sleep(0.3)
        if place.bill(number, _CAP, reserved=_CAP, **bid) == 200:
            acked[number, number + 1] = _CAP
    (budget,) = place.ledger().budgets
    place.stop()
    return {
        "jumps": 3,
        "charged": len(acked),
        "expired_early_micros": budget.spent_late_micros,
        "on_time_micros": budget.spent_on_time_micros,
        **money(place.deployment.segment_folder, acked, [budget]),
    }
