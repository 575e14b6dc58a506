"""``lodestone ledger nodes`` and ``close-node``: machines that share budgets, for operators."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import msgspec
from rich.console import Console
from rich.table import Table

from ledger.postgres import NodeView, PostgresOwner
from market.deployment import read_deployment
from market.errors import BadInput
from market.money import MICROS

if TYPE_CHECKING:
    from pathlib import Path

_WIDTH: Final = 160


class Closing(msgspec.Struct, frozen=True):
    """What ``close-node --json`` prints.

    Attributes:
        node: as it was before.
        stake_micros: allotted and not said to be spent: what may be overspent.
        is_closed: whether it was closed now.
    """

    node: NodeView
    stake_micros: int
    is_closed: bool


def run_nodes(folder: Path, *, as_json: bool) -> None:
    """Prints every node of the owner that a run names.

    Raises:
        BadInput: the run shares no budgets.
        NotReady: the owner does not answer.
    """
    owner = PostgresOwner.of(read_deployment(folder / "deployment.json"))
    try:
        found = owner.nodes()
    finally:
        owner.close()
    if as_json:
        _print_json(found)
        return
    table = Table(
        "node", "silent s", "budgets", "allotted", "spent", "open bids", "closed", "log"
    )  # fmt: skip
    for each in found:
        money = (each.allotted_micros, each.spent_micros, each.open_micros)
        table.add_row(
            each.node, f"{each.silent_s:,}", f"{each.budgets:,}",
            *(f"{micros / MICROS:,.6f}" for micros in money),
            "closed" if each.is_closed else "", each.log_id,
        )  # fmt: skip
    _console().print(table)


def run_close_node(folder: Path, node: str, *, closes: bool, as_json: bool) -> None:
    """Prints what closing a node puts at stake; with ``closes``, closes it.

    Raises:
        BadInput: the run shares no budgets, or no open node has that name.
        NotReady: the owner does not answer.
    """
    owner = PostgresOwner.of(read_deployment(folder / "deployment.json"))
    try:
        if closes:
            found = owner.close_node(node)
        else:
            named = [each for each in owner.nodes() if each.node == node and not each.is_closed]
            if not named:
                raise BadInput(f"node '{node}': no open node has this name")
            (found,) = named
    finally:
        owner.close()
    stake = found.allotted_micros - found.spent_micros
    if as_json:
        _print_json(Closing(found, stake, closes))
        return
    _console().print(
        f"node '{node}', silent for {found.silent_s:,} s: {stake / MICROS:,.6f} were allotted and "
        f"not said to be spent, {found.open_micros / MICROS:,.6f} of it reserved by open bids. "
        "If its machine still runs or those bids win, so much may be overspent. "
        + ("It is closed." if closes else "Nothing was changed; --yes closes it.")
    )


def _print_json(value: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.flush()


def _console() -> Console:
    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)
    return console
