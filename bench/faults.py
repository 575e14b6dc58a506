"""Faults, seeded: processes killed at random points, full disks, jumping clocks, random histories.

``--rounds N`` (default 5): 10 N kills of each kind and 200,000 N histories. What must hold is 0 in
every line that says ``lost``, ``duplicates``, ``wrong``, ``without`` or ``beyond``.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import faults_histories, faults_money, faults_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 20_261
HUNG_S = 10.0
_BROKER = Path(__file__).resolve().parents[2] / "shared" / "kafka" / "broker"


def run(rounds: int) -> dict[str, object]:
    """Runs everything; what is missing on this machine is said in its place."""
    return faults(10 * rounds, 200_000 * rounds, HUNG_S)


def faults(kills: int, histories: int, hung_s: float) -> dict[str, object]:
    """Runs every fault and returns what each came to, with the time it took.

    Args:
        kills: of each kind of process.
        histories: random ones of the budget protocol.
        hung_s: how long the recorder is stopped.
    """
    found: dict[str, object] = {"seed": SEED}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        place = Path(home)
        parts: dict[str, Callable[[], object]] = {
            "recorder": lambda: faults_money.recorder_kills(
                place / "recorder", (kills + 1) // 2, SEED, has_late=False
            ),
            "recorder_with_late_wins": lambda: faults_money.recorder_kills(
                place / "late", (kills + 1) // 2, SEED + 1, has_late=True
            ),
            "worker": lambda: faults_money.worker_kills(place / "worker", kills, SEED),
            "hung_recorder": lambda: faults_money.hung_recorder(place / "hung", hung_s),
            "full_disk": lambda: faults_money.full_disk(place / "full"),
            "clock_jump": lambda: faults_money.clock_jump(place / "clock"),
            "store": lambda: faults_pipeline.store_kills(place / "store", kills, SEED),
            "pipeline": lambda: _pipeline(place / "pipeline", kills),
            "histories": lambda: _histories(histories),
        }
        for name, part in parts.items():
            began = time.monotonic()
            came_to = part()
            found[name] = came_to
            found[f"{name}_s"] = round(time.monotonic() - began, 1)
            print(f"faults.{name}: {came_to}", flush=True)
    return found


def _histories(count: int) -> dict[str, int]:
    """Raises AssertionError at the first history that is not the model's."""
    return {"histories": count} | faults_histories.play_histories(count, SEED)._asdict()


def _pipeline(folder: Path, kills: int) -> object:
    if not _BROKER.exists() or shutil.which("clickhouse-server") is None:
        return "../shared/kafka/broker or clickhouse-server is not there"
    return faults_pipeline.pipeline_kills(folder, kills, SEED)
