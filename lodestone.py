"""The front door: one command, its sub-commands mapped to rooms, imports only what is asked for.

    lodestone demo | serve | replay | explain | attribute | calibrate | simulate | ledger ... |
    store ... | train response

Each takes ``--json``, prints progress on a terminal, and leaves with code 2 and one clear line when
its input is bad or a file is damaged, with 1 when it cannot be done now.
"""

# ruff: noqa: PLC0415 - a command imports its room only when it is asked for

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ledger import store_commands
from market.errors import BadInput, Corrupt, LodestoneError

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


@app.command()
def explain(
    request: Annotated[Path, typer.Argument(help="One OpenRTB request (or NDJSON, or gzip).")],
    exchange: Annotated[str, typer.Option(help="Exchange profile it comes through.")] = "default",
    catalogue: Annotated[
        Path | None, typer.Option(help="Campaign file (TOML or JSON) instead of the shipped one.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Run folder: its campaigns, pauses, money and caps instead.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say of every line item why it would or would not bid on a request, and at what price."""
    from bidder.explain_table import run_explain

    run_explain(request, exchange, catalogue, run, as_json=as_json)


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Of everything that happens in the market.")] = 1,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Bid workers.")] = 2,
    connections: Annotated[int, typer.Option(min=1, help="Of the exchange.")] = 8,
    folder: Annotated[Path, typer.Option(help="Run folder; emptied first.")] = Path("runs/demo"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the engine running.")] = False,
    as_json: Json = False,
) -> None:
    """Run one simulated day end to end: campaigns, bids, money, report."""
    from campaigns.demo import run_demo

    run_demo(
        folder, seed=seed, workers=workers, connections=connections, keeps_running=keep,
        as_json=as_json,
    )  # fmt: skip


@app.command()
def serve(
    workers: Annotated[int, typer.Option(min=1, max=64, help="Bid workers.")] = 1,
    folder: Annotated[Path, typer.Option(help="Run folder; an earlier run goes on.")] = Path(
        "runs/serve"
    ),
    as_json: Json = False,
) -> None:
    """Run the engine on this machine until Ctrl-C."""
    from campaigns.serve import run_serve

    run_serve(folder, workers=workers, as_json=as_json)


@app.command()
def attribute(
    folder: Annotated[Path, typer.Argument(help="Run folder.")],
    model: Annotated[
        list[str] | None, typer.Option(help="Model, or several; all of them if none is named.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="Channel: campaign, line_item, creative or exchange.")
    ] = "campaign",
    click_days: Annotated[float, typer.Option(help="Window of clicks.")] = 30.0,
    view_days: Annotated[float, typer.Option(help="Window of impressions; 0: clicks only.")] = 1.0,
    half_life_days: Annotated[float, typer.Option(help="Of the model decay.")] = 7.0,
    join_devices: Annotated[
        bool, typer.Option("--join-devices", help="Join users who consented to be one person.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say which campaigns earned a run's conversions, by model; late events are taken in."""
    from ledger.attribution.command import rules_of, run_attribute

    rules = rules_of(click_days, view_days, half_life_days)
    run_attribute(
        folder, tuple(model or ()), by, rules, as_json=as_json, joins_devices=join_devices
    )


@app.command()
def simulate(
    scenario: Annotated[str, typer.Argument(help="A shipped market, or a .toml file.")],
    policy: Annotated[
        list[str],
        typer.Option(
            help="pid, constant:GAIN, pacing:GAIN or off, then ,budget=FACTOR ,target=FACTOR; "
            "the first is the baseline."
        ),
    ],
    agent: Annotated[list[int] | None, typer.Option(help="Whose policy; default 0.")] = None,
    replications: Annotated[int, typer.Option(min=1, help="Days.")] = 20,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Of everything that happens.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Days at a time.")] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Days as Ray tasks, so many at once.")] = False,
    folder: Annotated[Path, typer.Option(help="Days that were run stay here.")] = Path(
        "runs/what_if"
    ),
    as_json: Json = False,
) -> None:
    """Say what other bid policies would bring in the twin, on the same days, with intervals."""
    from functools import partial

    from simulator.what_if_command import over_threads, run_simulate

    mapper = over_threads(threads)
    if ray:
        from policies.training.distributed import ray_map

        mapper = partial(ray_map, cpus=threads)
    code = run_simulate(
        scenario, policy, agent or [0], replications, seed, folder, mapper=mapper, as_json=as_json
    )
    if code:
        raise typer.Exit(code)


@app.command()
def calibrate(
    logs: Annotated[Path, typer.Argument(help="Run folder, Parquet, iPinYou or Open Bandit log.")],
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("runs/calibration"),
    scenario: Annotated[str, typer.Option(help="What the log does not show: users, sites.")] = (
        "demo"
    ),
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 1,
    as_json: Json = False,
) -> None:
    """Fit the twin to event logs, and report how far it is from days that were held back."""
    from simulator.calibration.command import run_calibrate

    run_calibrate(logs, out, template=scenario, seed=seed, as_json=as_json)


ledger = typer.Typer(help="Look after the event log and the money in it.", no_args_is_help=True)
app.add_typer(ledger, name="ledger")

Run = Annotated[Path, typer.Argument(help="Run folder.")]


@ledger.command("inspect")
def ledger_inspect(folder: Run, as_json: Json = False) -> None:
    """Say what a run's event log holds, and what is damaged or missing; change nothing."""
    from ledger.command import run_inspect

    run_inspect(folder, as_json=as_json)


@ledger.command("repair")
def ledger_repair(folder: Run, as_json: Json = False) -> None:
    """Make a damaged log readable again; what is lost is said, damaged files are kept."""
    from ledger.command import run_repair

    run_repair(folder, as_json=as_json)


@ledger.command("retain")
def ledger_retain(
    folder: Run,
    days: Annotated[float, typer.Option(min=0, help="Keep events received this lately.")] = 30.0,
    as_json: Json = False,
) -> None:
    """Compress closed segments; remove those that are loaded and older than so many days."""
    from ledger.command import run_retain

    run_retain(folder, days, as_json=as_json)


@ledger.command("nodes")
def ledger_nodes(folder: Run, as_json: Json = False) -> None:
    """List the machines that share budgets with this one, and how much each has of them."""
    from ledger.node_command import run_nodes

    run_nodes(folder, as_json=as_json)


@ledger.command("close-node")
def ledger_close_node(
    folder: Run,
    node: Annotated[str, typer.Argument(help="Name of a machine that will not return.")],
    yes: Annotated[bool, typer.Option("--yes", help="Close it; else only say the stake.")] = False,
    as_json: Json = False,
) -> None:
    """Say what closing a dead machine's node puts at stake; with --yes, give its money back."""
    from ledger.node_command import run_close_node

    run_close_node(folder, node, closes=yes, as_json=as_json)


@ledger.command("reconcile")
def ledger_reconcile(
    folder: Run,
    invoice: Annotated[
        Path, typer.Argument(help="CSV: day,campaign_id,deal_id,currency,impressions,amount.")
    ],
    exchange: Annotated[str, typer.Option(help="Whose bill it is: name of its profile.")],
    time_zone: Annotated[str, typer.Option(help="Of the bill's days.")] = "UTC",
    tolerance_micros: Annotated[
        int, typer.Option(min=0, help="Up to this a line counts as equal.")
    ] = 10_000,
    reference: Annotated[
        str, typer.Option(help="Number of the invoice; default: the file's name.")
    ] = "",
    book: Annotated[
        bool, typer.Option("--book", help="Book the differences as adjustments.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Hold an exchange's bill against the ledger by day, campaign and deal."""
    from ledger.command import run_reconcile

    run_reconcile(
        folder, invoice, exchange=exchange, time_zone=time_zone,
        tolerance_micros=tolerance_micros, reference=reference, books=book, as_json=as_json,
    )  # fmt: skip


app.add_typer(store_commands.app, name="store")

train = typer.Typer(help="Train what ships (needs the extra `train`).", no_args_is_help=True)
app.add_typer(train, name="train")


@train.callback()
def _train() -> None:
    """Train what ships (needs the extra `train`)."""


@train.command()
def response(
    seed: Annotated[int, typer.Option(help="Of the log's days and of the training.")] = 7,
    impressions: Annotated[int, typer.Option(min=1, help="Rows of the twin's log.")] = 1_000_000,
    scenario: Annotated[str, typer.Option(help="Market to learn from.")] = "demo",
    out: Annotated[Path, typer.Option(help="Where the artefact goes.")] = Path(
        "bidder/recommendation/artefacts"
    ),
    as_json: Json = False,
) -> None:
    """Train the response model on the twin's impressions; writes artefact, card and ONNX file."""
    import msgspec

    from bidder.recommendation.training import train_and_write
    from simulator.logs import response_log
    from simulator.scenario import load

    command = (
        f"lodestone train response --scenario {scenario} --impressions {impressions} --seed {seed}"
    )
    scores = train_and_write(
        response_log(load(scenario), seed, impressions),
        out,
        seed,
        command,
        f"{impressions:,} impressions of random ads in the market of scenario {scenario}, on the "
        "days before it starts",
    )
    encoded = msgspec.json.encode(scores)
    sys.stdout.write((encoded if as_json else msgspec.json.format(encoded)).decode() + "\n")


def main() -> None:
    """Runs the command line; an error is one line on stderr.

    Code 2: something must be changed first (bad input, a damaged file); 1: try again later.
    """
    try:
        app(standalone_mode=True)
    except (LodestoneError, OSError) as error:
        sys.stderr.write(f"lodestone: {error}\n")
        sys.exit(2 if isinstance(error, BadInput | Corrupt) else 1)


if __name__ == "__main__":
    main()
