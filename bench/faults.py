"""Faults, seeded: processes killed at random points, outages, full disks, clocks, random histories.

``--rounds N`` (default 5): 10 N kills of each kind, N pairs of windows, 200,000 N histories. What
must hold is 0 in every line that says ``lost``, ``duplicates``, ``wrong``, ``without``,
``unaccounted`` or ``beyond``; ``wrong`` at the end counts the lines for which it does not.

What only counts runs side by side in three lanes: much of it is waiting, for a process to start or
a group of consumers to notice. What compares latencies comes after it, alone.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import (
    faults_histories,
    faults_money,
    faults_outage,
    faults_pipeline,
    faults_workers,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SEED = 20_261
_BODIES = 2_000
_BROKER = Path(__file__).resolve().parents[2] / "shared" / "kafka" / "broker"
_MUST_BE_ZERO = (
    "kills_without_acks", "money_events_lost", "bids_lost", "wrong_amounts", "wrong_micros",
    "duplicates_after_dedup", "unaccounted_micros", "unfunded_bids", "overspend_on_time_micros",
    "overspend_beyond_bound_micros", "beyond_limit_with_held_micros",
    "beyond_limit_while_killed_micros", "events_on_the_wrong_day", "bids_beyond_lease",
    "expired_early_micros",
)  # fmt: skip

Part = tuple[str, "Callable[[], object]"]


class Extent(NamedTuple):
    """How much of everything.

    Attributes:
        kills: of each kind of process.
        histories: random ones of the budget protocol.
        outage: broker and store down, and how long.
        hung: the recorder hung.
        side_s: load before midnight, and after it.
    """

    kills: int
    histories: int
    outage: faults_outage.Windows
    hung: faults_outage.Windows
    side_s: float


def extent(rounds: int) -> Extent:
    """Returns what ``--rounds`` asks for; 5 is the full set, within half an hour on two cores."""
    windows = faults_outage.Windows
    return Extent(
        10 * rounds, 200_000 * rounds, windows(30, rounds, 60), windows(10, rounds, 10), 15
    )


def run(rounds: int) -> dict[str, object]:
    """Runs everything; what is missing on this machine is said in its place."""
    return faults(extent(rounds), SEED)


def faults(much: Extent, seed: int) -> dict[str, object]:
    """Runs every fault and returns what each came to, with the time it took, and the sums."""
    began = time.monotonic()
    found: dict[str, object] = {"seed": seed}
    console = Console(stderr=True)
    console.print(f"faults: seed {seed}")
    sent = faults_workers.requests(_BODIES, seed)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home,
        Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), console=console,
        ) as progress,
    ):  # fmt: skip
        lanes, alone = _plan(Path(home), much, seed, sent)
        bar = progress.add_task("faults", total=sum(map(len, lanes)) + len(alone))

        def play(parts: Sequence[Part]) -> None:
            for name, part in parts:
                start = time.monotonic()
                came_to = part()
                found[name] = came_to
                found[f"{name}_s"] = round(time.monotonic() - start, 1)
                console.print(f"{name}: {came_to}")
                progress.advance(bar)

        with ThreadPoolExecutor(len(lanes)) as pool:
            for lane in [pool.submit(play, parts) for parts in lanes]:
                lane.result()
        play(alone)
    found["all_s"] = round(time.monotonic() - began, 1)
    return found | _sums(found)


def _plan(
    place: Path, much: Extent, seed: int, sent: list[bytes]
) -> tuple[list[list[Part]], list[Part]]:
    first, second = much.kills // 2, much.kills - much.kills // 2
    money, workers, pipeline = faults_money, faults_workers, faults_pipeline
    killed: list[Part] = [
        ("recorder", lambda: money.recorder_kills(place / "r", second, seed, has_late=False)),
        (
            "recorder_late",
            lambda: money.recorder_kills(place / "q", first, seed + 1, has_late=True),
        ),
        ("worker", lambda: workers.worker_kills(place / "w", sent, second, seed, has_late=False)),
        (
            "worker_late",
            lambda: workers.worker_kills(place / "v", sent, first, seed + 1, has_late=True),
        ),
        ("store", lambda: pipeline.store_kills(place / "s", much.kills, seed)),
        ("day_rollover", lambda: workers.rollover(place / "d", sent, much.side_s, seed)),
        ("full_disk", lambda: money.full_disk(place / "f")),
        ("clock_jump", lambda: money.clock_jump(place / "c")),
        ("histories", lambda: _histories(much.histories, seed)),
    ]
    hung = (
        "hung_recorder",
        lambda: faults_outage.hung_recorder(place / "h", sent, much.hung, seed),
    )
    if not _BROKER.exists() or shutil.which("clickhouse-server") is None:
        missing = {"missing": "../shared/kafka/broker or clickhouse-server is not there"}
        return [killed, [("pipeline", lambda: missing), ("outage", lambda: missing)]], [hung]
    # Two pipelines at once: a killed loader's place is kept for ten seconds, whoever waits.
    piped: list[list[Part]] = [
        [("pipeline", lambda: pipeline.pipeline_kills(place / "p", second, seed))],
        [("pipeline_second", lambda: pipeline.pipeline_kills(place / "o", first, seed + 1))],
    ]
    outage = ("outage", lambda: faults_outage.outage(place / "u", sent, much.outage, seed))
    return [killed, *(lane for lane in piped if much.kills > 1)], [hung, outage]


def _histories(count: int, seed: int) -> dict[str, int]:
    """Raises AssertionError at the first history that is not the model's."""
    return {"histories": count} | faults_histories.play_side_by_side(count, seed, 2)._asdict()


def wrong_in(part: Mapping[str, object]) -> dict[str, object]:
    """Returns what of a part's figures must be 0 and is not."""
    return {name: part[name] for name in _MUST_BE_ZERO if part.get(name, 0)}


def _sums(found: Mapping[str, object]) -> dict[str, object]:
    """Returns the figures over all parts, by the names that are asked for."""
    parts = {name: part for name, part in found.items() if isinstance(part, dict)}
    kills: dict[str, int] = {}
    for name, part in parts.items():
        done = part.get("kills", {})
        kind = name.partition("_")[0]
        for victim, count in (done if isinstance(done, dict) else {kind: done}).items():
            kills[victim] = kills.get(victim, 0) + count

    def total(figure: str) -> int:
        return sum(int(part.get(figure, 0)) for part in parts.values())

    on_time = [part for part in parts.values() if not part.get("late_wins", 0)]
    return {
        "kills": kills,
        "kills_least": min(kills.values(), default=0),
        **{
            figure: total(figure)
            for figure in (
                "kills_without_acks", "money_events_acked", "money_events_lost",
                "duplicates_after_dedup", "late_wins", "overspend_beyond_bound_micros",
            )
        },
        "overspend_micros": sum(int(part.get("overspend_micros", 0)) for part in on_time),
        "wrong": {name: wrong for name, part in parts.items() if (wrong := wrong_in(part))},
    }  # fmt: skip
