"""Bid workers that are killed while they answer; a day that ends while they do."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from bench.bodies import bodies, templates
from bench.faults_engine import Engine, Traffic, campaigns_with, wait_for
from bench.faults_log import events_of, key_of, money
from bench.faults_money import fake_clock
from market.budgets import budgets_of
from market.campaign import Budget
from market.control import WorkerWord
from market.events import EventFlag, EventKind

if TYPE_CHECKING:
    from pathlib import Path

_WORKERS = 2
_PER_SECOND = 100.0
_USERS = 10_000
_WINDOW_MS = 30_000
_LATE_WINDOW_MS = 2_000
_SMALLEST_MICROS = 30_000
_ENDLESS_MICROS = 10**13
_DAY_MS = 86_400_000
_WAIT_S = 120.0


def requests(count: int, seed: int) -> list[bytes]:
    """Returns real OpenRTB bodies."""
    found, _ = templates()
    return bodies(found, count, _USERS, seed)


def worker_kills(
    folder: Path, sent: list[bytes], kills: int, seed: int, *, has_late: bool
) -> dict[str, int]:
    """Kills workers at random while the others bid; then nobody bids, and all must come to rest.

    Most budgets are small, so that they are spent to their end under the kills. When all workers
    are dead and every deadline is over, nothing may be reserved or held any more.
    """
    chance = random.Random(seed)
    budgets = [Budget(lifetime_micros=_SMALLEST_MICROS * 4**n) for n in range(6)]
    budgets.append(Budget(lifetime_micros=_ENDLESS_MICROS))
    window_ms = _LATE_WINDOW_MS if has_late else _WINDOW_MS
    engine = Engine(
        folder, campaigns_with(budgets), worker_count=_WORKERS, window_ms=window_ms
    ).start()
    traffic = Traffic(engine, sent, _PER_SECOND, seed, late_share=0.3 if has_late else 0.0)
    idle = beyond = 0
    try:
        traffic.start()
        for _ in range(kills):
            told = traffic.told_count
            try:
                wait_for(
                    "a worker that has answered, and a notice acknowledged",
                    lambda told=told: _candidates(engine, traffic) and traffic.told_count > told,
                    _WAIT_S, traffic.errors,
                )  # fmt: skip
            except RuntimeError:
                idle += 1
            # Whatever it is doing then.
            time.sleep(chance.uniform(0.0, 0.3))
            victim = chance.choice(_candidates(engine, traffic) or list(range(_WORKERS)))
            engine.kill_worker(victim)
            traffic.since[victim] = -1
            beyond += _beyond(engine)
        traffic.stop()
        engine.kill_all_workers()
        wait_for(
            "the end of every reservation and lease",
            lambda: all(b.open_count == b.held_micros == 0 for b in engine.ledger().budgets),
            _WAIT_S + window_ms / 1e3, (),
        )  # fmt: skip
        view = engine.ledger()
    finally:
        engine.stop()
    folder = engine.deployment.segment_folder
    logged = {key_of(event) for event in events_of(folder) if event["kind"] == EventKind.BID}
    return {
        "kills": kills,
        "kills_without_acks": idle,
        "bids_answered": len(traffic.answered),
        "bids_lost": sum(key not in logged for key in traffic.answered),
        "unfunded_bids": view.unfunded_bids,
        "beyond_limit_while_killed_micros": beyond,
        "requests_answered": sum(traffic.statuses.values()) - traffic.statuses[0],
    } | money(folder, traffic.acked, view.budgets)


def _candidates(engine: Engine, traffic: Traffic) -> list[int]:
    """Returns the workers that answered a bid since their process became ready."""
    found: list[int] = []
    for n, row in enumerate(engine.rows):
        if not row[WorkerWord.IS_READY]:
            continue
        if traffic.since[n] < 0:
            # An answer of the dead process may still have been read; from here on it is the new's.
            traffic.since[n] = 0
        elif traffic.since[n] > 0:
            found.append(n)
    return found


def _beyond(engine: Engine) -> int:
    return sum(
        max(0, b.spent_on_time_micros + b.held_micros - b.limit_micros)
        for b in engine.ledger().budgets
    )


def rollover(folder: Path, sent: list[bytes], side_s: float, seed: int) -> dict[str, object]:
    """A day ends while bids are made and notices come: every budget is exact, each for its day.

    The processes' clock is set so that midnight comes ``side_s`` after the load begins; the
    controller's part, a snapshot with the new day's budgets, follows half a second after it. Some
    daily budgets are small enough to be spent on either day.
    """
    if fake_clock() is None:
        return {"missing": "libfaketime is not installed"}
    budgets = [Budget(daily_micros=_SMALLEST_MICROS * 4**n) for n in range(4)]
    budgets.append(Budget(daily_micros=_ENDLESS_MICROS, lifetime_micros=_ENDLESS_MICROS))
    for start_s in (10, 30, 90, 270):
        # How long the start takes is not known before, and the clock is set before it.
        engine, midnight_ms = _before_midnight(folder / str(start_s), budgets, start_s + side_s)
        if midnight_ms - engine.now_ms() > 500 * side_s:
            break
        engine.stop()
    else:
        raise RuntimeError(f"the engine of {folder} was not up in {start_s} s")
    try:
        traffic = Traffic(engine, sent, _PER_SECOND, seed, delay_s=(0.2, 3.0)).start()
        wait_for(
            "midnight", lambda: engine.now_ms() >= midnight_ms, start_s + side_s + 9, traffic.errors
        )
        before = len(traffic.answered)
        told_before = traffic.told_count
        time.sleep(0.5)
        engine.publish(engine.now_ms())
        time.sleep(side_s)
        traffic.stop()
        view = engine.ledger()
    finally:
        engine.stop()
    segments = engine.deployment.segment_folder
    wrong_day, crossing = _days(segments, budgets, midnight_ms)
    return {
        "bids_before_midnight": before,
        "bids_after": len(traffic.answered) - before,
        "notices_acked_before_midnight": told_before,
        "notices_of_yesterday_after_midnight": crossing,
        "events_on_the_wrong_day": wrong_day,
        "unfunded_bids": view.unfunded_bids,
        **money(segments, traffic.acked, view.budgets),
    }


def _days(segments: Path, budgets: list[Budget], midnight_ms: int) -> tuple[int, int]:
    """Returns events that name a budget of another day, and charges over midnight."""
    spans: dict[int, tuple[int, int]] = {}
    for at_ms in (midnight_ms - 1, midnight_ms):
        for campaign in campaigns_with(budgets):
            for row in budgets_of(campaign, at_ms):
                spans[row.budget_id] = row.start_at_ms, row.end_at_ms
    wrong_day = crossing = 0
    for event in events_of(segments):
        bid_ms = int(event["bid_ms"])
        if event["kind"] != EventKind.BID and int(event["flags"]) & EventFlag.CHARGED:
            crossing += bid_ms < midnight_ms <= int(event["recv_ms"])
        for budget_id in event["budgets"].tolist():
            if budget_id:
                start, end = spans[budget_id]
                wrong_day += not start <= bid_ms < end
    return wrong_day, crossing


def _before_midnight(folder: Path, budgets: list[Budget], ahead_s: float) -> tuple[Engine, int]:
    """Starts an engine on whose clock midnight is ``ahead_s`` from now; returns it and midnight."""
    now_ms = time.time_ns() // 1_000_000
    midnight_ms = (now_ms // _DAY_MS + 1) * _DAY_MS
    # Whole seconds: what libfaketime takes.
    fast_s = (midnight_ms - now_ms) // 1_000 - int(ahead_s)
    engine = Engine(
        folder, campaigns_with(budgets), worker_count=_WORKERS,
        env=fake_clock(FAKETIME=f"{fast_s:+d}s"), ahead_ms=fast_s * 1_000,
    )  # fmt: skip
    return engine.start(), midnight_ms
