"""``lodestone simulate``: runs the days that are missing, and says what came of all of them."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import TYPE_CHECKING, Protocol

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from market.errors import BadInput
from simulator.what_if import (
    Checkpoint,
    check_chosen,
    check_policies,
    compare,
    load_market,
    parse_policy,
    run_day,
)
from simulator.what_if_report import page, tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from simulator.what_if import Market, Outcome, Policy

    Day = tuple[int, Policy]

INTERRUPTED = 130
"""What a shell expects of a process that Ctrl-C has ended."""


class Mapper(Protocol):
    """``map`` over days on whatever runs them; in any order."""

    def __call__(
        self, function: Callable[[Day], Outcome], days: Sequence[Day], /
    ) -> Iterable[Outcome]:
        """Returns what ``function`` gives for each of the days."""
        ...


def over_threads(threads: int) -> Mapper:
    """Returns a mapper over so many threads of this process."""

    def mapped(function: Callable[[Day], Outcome], days: Sequence[Day]) -> Iterable[Outcome]:
        with ThreadPoolExecutor(threads) as pool:
            try:
                for day in as_completed([pool.submit(function, day) for day in days]):
                    yield day.result()
            finally:
                # Days that have begun are waited for, and run again by the next command.
                pool.shutdown(cancel_futures=True)

    return mapped


def run_simulate(
    scenario: str,
    policies: Sequence[str],
    agents: Sequence[int],
    replications: int,
    seed: int,
    folder: Path,
    *,
    mapper: Mapper | None = None,
    as_json: bool = False,
) -> int:
    """Prints the comparison, writes ``report.html`` and ``comparison.json``; returns the exit code.

    An interrupt leaves the days that were run in ``folder``; the same command goes on with them.

    Raises:
        BadInput: scenario, policies, agents or the folder's checkpoint are wrong.
    """
    if not policies or len(set(policies)) != len(policies):
        raise BadInput(
            f"policies: {list(policies)}; there must be at least one, each once", "/policy"
        )
    chosen_policies = [parse_policy(text) for text in policies]
    market = load_market(scenario)
    chosen = check_chosen(market, agents)
    check_policies(market, chosen, chosen_policies)
    checkpoint = Checkpoint(folder / "days.ndjson", market, chosen, seed)
    missing = checkpoint.missing(chosen_policies, replications)
    errors = Console(stderr=True)
    try:
        function = partial(_run, market, chosen, seed)
        _watch((mapper or over_threads(1))(function, missing), len(missing), checkpoint, errors)
    except KeyboardInterrupt:
        left = len(checkpoint.missing(chosen_policies, replications))
        errors.print(
            f"stopped with {left} of {replications * len(policies)} days to run; "
            "the same command goes on"
        )
        return INTERRUPTED
    asked = [each for each in checkpoint.outcomes if each.replication < replications]
    found = compare(market, chosen, chosen_policies, seed, asked)
    encoded = msgspec.json.encode(found)
    (folder / "comparison.json").write_bytes(msgspec.json.format(encoded) + b"\n")
    (folder / "report.html").write_text(page(found), encoding="utf-8")
    if as_json:
        sys.stdout.write(encoded.decode() + "\n")
        return 0
    console = Console()
    for table in tables(found):
        console.print(table)
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True)
    return 0


def _run(market: Market, chosen: Sequence[int], seed: int, day: Day) -> Outcome:
    replication, policy = day
    return run_day(market, chosen, policy, seed, replication)


def _watch(days: Iterable[Outcome], count: int, checkpoint: Checkpoint, errors: Console) -> None:
    """Keeps each day as soon as it ends, in whatever order they do, and shows how many have."""
    columns = (
        TextColumn("days"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as progress:
        task = progress.add_task("days", total=count)
        for day in days:
            checkpoint.add(day)
            progress.advance(task)
