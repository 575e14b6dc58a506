"""``lodestone calibrate LOGS``: reads a log, fits the twin, judges it, writes what it found.

Into the folder of the report go ``calibration.toml`` (every number with its interval),
``report.html`` and ``report.json``, ``scenario.toml`` where the log shows rivals, and
``quarantine.ndjson`` with every line that could not be used. While it runs, ``checkpoint.ndjson``
holds the finished steps; the same command goes on from there.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from market.errors import BadInput
from simulator.calibration.checkpoint import Checkpoint, key_of
from simulator.calibration.fidelity import FULL, Effort, Step, compare
from simulator.calibration.fit import calibrate
from simulator.calibration.ledger_reading import read_ledger
from simulator.calibration.log import Log, Reading, Split, check_hours, split
from simulator.calibration.page import report_html
from simulator.calibration.reading import read_ipinyou, read_open_bandit
from simulator.calibration.report import Part, Report, scope_of
from simulator.calibration.scenario_fit import fitted_scenario, scenario_toml
from simulator.scenario import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from simulator.calibration.terms import Calibration
    from simulator.scenario import Scenario

_TRAIN, _TEST, _BANDIT = "train.txt", "test.txt", "all.csv"


class _Source(NamedTuple):
    """A log as it was found: its files, and what was read of each part."""

    files: tuple[Path, ...]
    readings: tuple[Reading, ...]


def run_calibrate(
    path: Path,
    out: Path,
    *,
    template: str,
    seed: int,
    as_json: bool,
    effort: Effort = FULL,
) -> Report:
    """Calibrates to a log and writes the report; prints its rows, or the report as JSON.

    Args:
        path: a run folder, a folder of segments, a Parquet file of events, an iPinYou-style file or
            a folder with ``train.txt`` and ``test.txt`` or one of them, or an Open Bandit
            ``all.csv`` or its folder.
        out: folder of the report.
        template: scenario that the fitted numbers are written over.
        seed: of all draws.
        as_json: print the report as one line of JSON.
        effort: how many days are drawn.

    Raises:
        BadInput: there is no such log, it is empty or under 6 hours, or says nothing of prices.
        Corrupt: a segment log is damaged.
    """
    scenario = load(template)
    out.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console,
    ) as progress:  # fmt: skip
        reading = progress.add_task("reading", total=None)
        source = _read(path, lambda count: progress.update(reading, completed=count))
        _quarantine(out, source.readings)
        parts = _parts(source)
        progress.update(reading, total=1, completed=1)
        fitting = progress.add_task("fitting", total=1)
        calibration = calibrate(parts.fitted)
        _write(out / "calibration.toml", calibration.to_toml())
        notes = _write_scenario(out / "scenario.toml", calibration, scenario)
        progress.update(fitting, completed=1)
        checkpoint = Checkpoint(
            out / "checkpoint.ndjson", key_of(source.files, f"{seed} {template} {effort}")
        )
        judging = progress.add_task(
            "judging", total=len(effort.steps()), completed=len(checkpoint.steps)
        )
        done = checkpoint.steps

        def on_step(step: Step) -> None:
            checkpoint.add(step)
            progress.advance(judging)

        rows = compare(calibration, parts, seed=seed, effort=effort, done=done, on_step=on_step)
    can_say, cannot_say = scope_of(calibration.source)
    counts: dict[str, int] = {}
    for one in source.readings:
        for name, count in one.counts.items():
            counts[name] = counts.get(name, 0) + count
    report = Report(
        log=path.resolve().name,
        source=calibration.source,
        split=parts.rule,
        fitted=_part(parts.fitted),
        held_back=_part(parts.held_back),
        quarantined=sum(len(one.bad) for one in source.readings),
        counts=counts,
        can_say=can_say,
        cannot_say=cannot_say,
        notes=notes,
        rows=rows,
        calibration=calibration,
    )
    _write(out / "report.json", msgspec.json.encode(report).decode())
    _write(out / "report.html", report_html(report))
    checkpoint.remove()
    _print(report, out, as_json=as_json)
    return report


def _read(path: Path, on_read: Callable[[int], None]) -> _Source:
    if path.is_dir() and (path / _TEST).exists():
        return _read_pair(path)
    if path.is_dir() and (path / _BANDIT).exists():
        path = path / _BANDIT
    if path.is_dir():
        folder = path / "segments" if (path / "segments").is_dir() else path
        files = tuple(sorted(folder.glob("*.seg")))
        reading = read_ledger(path, on_read)
    elif not path.exists():
        raise BadInput(f"log '{path}': there is no such file or folder")
    else:
        files = (path,)
        if path.suffix == ".parquet":
            reading = read_ledger(path)
        elif path.suffix == ".csv":
            reading = read_open_bandit(path)
        else:
            reading = read_ipinyou(path)
    return _Source(files, (reading,))


def _read_pair(folder: Path) -> _Source:
    """Returns an iPinYou-style folder: ``train.txt`` before ``test.txt``, where there are both."""
    files = tuple(path for path in (folder / _TRAIN, folder / _TEST) if path.exists())
    return _Source(files, tuple(read_ipinyou(path) for path in files))


def _parts(source: _Source) -> Split:
    """Returns what is fitted and what is held back: the second file, or the end of the only one."""
    if len(source.readings) == 1:
        return split(source.readings[0].log)
    train, test = (reading.log for reading in source.readings)
    train_file, test_file = source.files
    check_hours(train, f"log '{train_file}'")
    if not test.row_count:
        raise BadInput(f"log '{test_file}': empty, no usable row; there is nothing to judge by")
    return Split(train, test, f"fitted: {_TRAIN}, held back: {_TEST}")


def _write_scenario(path: Path, calibration: Calibration, template: Scenario) -> tuple[str, ...]:
    """Writes the fitted scenario; where there can be none, returns why."""
    try:
        text = scenario_toml(fitted_scenario(calibration, template))
    except BadInput as error:
        path.unlink(missing_ok=True)
        return (f"no scenario.toml: {error}",)
    _write(path, text)
    return ()


def _quarantine(out: Path, readings: tuple[Reading, ...]) -> None:
    """Writes every line that could not be used; no file where there is none."""
    path = out / "quarantine.ndjson"
    bad = [line for reading in readings for line in reading.bad]
    if bad:
        _write(path, "".join(msgspec.json.encode(line).decode() + "\n" for line in bad))
    else:
        path.unlink(missing_ok=True)


def _part(log: Log) -> Part:
    return Part(
        rows=log.row_count,
        hours=int(np.count_nonzero(log.requests)),
        clicks=int(log.clicked.sum()),
        conversions=int(log.converted.sum()),
    )


def _write(path: Path, text: str) -> None:
    """Replaces a file; a reader never sees half of it."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def _print(report: Report, out: Path, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
        return
    lines = [
        f"{row.name:28} twin {row.twin:7.2%}  naive {row.naive:7.2%}  floor {row.floor:7.2%}  "
        f"{row.verdict}"
        for row in report.rows
    ]
    if report.quarantined:
        lines.append(f"{report.quarantined} lines quarantined: {out / 'quarantine.ndjson'}")
    lines += report.notes
    lines.append(f"report: {out / 'report.html'}")
    sys.stdout.write("\n".join(lines) + "\n")
