"""``lodestone simulate``: settings compared, for people and for machines."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from market.errors import BadInput
from simulator.what_if.comparison import Comparison, compare
from simulator.what_if.page import write_page
from simulator.what_if.trial import Checkpoint, Plan, Trial, run_trial
from simulator.what_if.words import (
    DIFFERENCE_COLUMNS,
    FORECAST_COLUMNS,
    difference_rows,
    forecast_rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells have it."""

CHECKPOINT: Final = "periods.jsonl"


class Mapper(Protocol):
    """``map`` over periods: a loop, threads, or Ray tasks."""

    def __call__(
        self, function: Callable[[int], Trial], items: Sequence[int], /
    ) -> Iterator[Trial]:
        """Yields the results in the order of the items."""
        ...


def over_threads(threads: int) -> Mapper:
    """Returns a mapper over so many threads of this process."""

    def mapped(function: Callable[[int], Trial], items: Sequence[int]) -> Iterator[Trial]:
        if threads == 1:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(threads) as pool:
            try:
                yield from pool.map(function, items)
            finally:
                pool.shutdown(cancel_futures=True)

    return mapped


def run_simulate(plan: Plan, periods: int, out: Path, mapper: Mapper, *, as_json: bool) -> None:
    """Compares the settings of a plan over ``periods`` periods and writes what was found.

    Leaves ``periods.jsonl`` (what is done), ``comparison.json`` and ``report.html`` in ``out``. The
    same command after an interruption goes on with the periods that are missing.

    Raises:
        BadInput: the plan breaks a rule, or ``out`` holds another comparison.
    """
    if periods < 2:
        raise BadInput(f"--periods is {periods}; it must be 2 or more: one has no interval")
    plan.check()
    checkpoint = Checkpoint(out / CHECKPOINT, plan)
    missing = [period for period in range(periods) if period not in checkpoint.trials]
    try:
        for trial in _watched(
            mapper(partial(run_trial, plan), missing), periods - len(missing), periods
        ):
            checkpoint.add(trial)
    except KeyboardInterrupt:
        sys.stderr.write(
            f"lodestone: stopped with {len(checkpoint.trials)} of {periods} periods in {out}; "
            "the same command goes on from there\n"
        )
        sys.exit(INTERRUPTED)
    comparison = compare(plan, [checkpoint.trials[period] for period in range(periods)])
    encoded = msgspec.json.encode(comparison)
    (out / "comparison.json").write_bytes(msgspec.json.format(encoded))
    write_page(out / "report.html", comparison, plan.settings)
    if as_json:
        sys.stdout.write(encoded.decode() + "\n")
        return
    console = Console(highlight=False)
    for table in tables(comparison):
        console.print(table)
    console.print(f"report: {out / 'report.html'}")


def _watched(trials: Iterable[Trial], done: int, periods: int) -> Iterator[Trial]:
    """Yields the trials while a bar on standard error shows how many are done."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("periods"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=periods, completed=done)
        for trial in trials:
            yield trial
            bar.advance(task)


def tables(comparison: Comparison) -> tuple[Table, Table]:
    """Returns the forecasts and the differences as tables for a terminal."""
    forecast = Table(title=f"a period of {comparison.scenario}")
    paired = Table(
        title=f"against {comparison.baseline}: {comparison.periods} periods on the same coins, 95 %"
    )
    for table, columns, rows in (
        (forecast, FORECAST_COLUMNS, forecast_rows(comparison)),
        (paired, DIFFERENCE_COLUMNS, difference_rows(comparison)),
    ):
        for place, column in enumerate(columns):
            is_name = place < 2
            table.add_column(column, justify="left" if is_name else "right", no_wrap=is_name)
        before = ""
        for row in rows:
            if before and row[0] != before:
                table.add_section()
            before = row[0]
            table.add_row(*row)
    return forecast, paired
