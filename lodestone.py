"""The front door: one command, its sub-commands mapped to rooms, imports only what is asked for.

    lodestone demo | serve | replay | train | report

Each takes ``--json``, prints progress on a terminal, and leaves with code 2 and one clear line when
its input is bad.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from market.errors import LodestoneError

app = typer.Typer(
    name="lodestone",
    help="An ad-tech decision and bidding engine: bidder, market twin, policies, campaigns.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")]


@app.command()
def replay(
    paths: Annotated[list[Path], typer.Argument(help="Request files, NDJSON, gzip, or folders.")],
    campaigns: Annotated[
        Path | None, typer.Option(help="Campaign file (TOML or JSON) instead of the shipped one.")
    ] = None,
    exchange: Annotated[str, typer.Option(help="Exchange profile to answer as.")] = "default",
    as_json: Json = False,
) -> None:
    """Send OpenRTB requests through the edge and the decision; say what is bid, or why not."""
    from bidder.replay_table import run_replay

    run_replay(tuple(paths), campaigns, exchange, as_json=as_json)


def main() -> None:
    """Runs the command line; bad input is one line on stderr and code 2."""
    try:
        app(standalone_mode=True)
    except LodestoneError as error:
        sys.stderr.write(f"lodestone: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
