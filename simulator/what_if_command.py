"""``lodestone simulate``: runs the days that are missing, and says what came of all of them."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from market.errors import BadInput
from simulator.what_if import Checkpoint, check_chosen, compare, load_market, parse_policy, run_day
from simulator.what_if_report import page, tables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from simulator.what_if import Market, Policy

INTERRUPTED = 130
"""What a shell expects of a process that Ctrl-C has ended."""


def run_simulate(
    scenario: str,
    policies: Sequence[str],
    agents: Sequence[int],
    replications: int,
    seed: int,
    folder: Path,
    *,
    threads: int = 1,
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
    checkpoint = Checkpoint(folder / "days.ndjson", market, chosen, seed)
    missing = checkpoint.missing(chosen_policies, replications)
    errors = Console(stderr=True)
    try:
        _run_days(market, chosen, seed, missing, checkpoint, threads, errors)
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


def _run_days(
    market: Market,
    chosen: Sequence[int],
    seed: int,
    missing: Sequence[tuple[int, Policy]],
    checkpoint: Checkpoint,
    threads: int,
    errors: Console,
) -> None:
    """Runs the missing days; each is kept as soon as it ends, in whatever order they do."""
    columns = (
        TextColumn("days"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with (
        Progress(*columns, console=errors, disable=not errors.is_terminal) as progress,
        ThreadPoolExecutor(threads) as pool,
    ):
        task = progress.add_task("days", total=len(missing))
        running = [
            pool.submit(run_day, market, chosen, policy, seed, replication)
            for replication, policy in missing
        ]
        try:
            for day in as_completed(running):
                checkpoint.add(day.result())
                progress.advance(task)
        except BaseException:
            # Days that have begun are waited for, and run again by the next command.
            pool.shutdown(cancel_futures=True)
            raise
