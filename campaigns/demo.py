"""The main job, end to end: campaigns through the API, bids over HTTP, money, and what came of it.

``lodestone demo`` starts the engine, creates three campaigns, lets the digital twin act as an
exchange for one simulated day, and writes ``summary.json`` and ``report.html``. The exchange is a
process of its own that knows only what a real one would: URLs, and the episode clock it drives.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bidder.catalogue import read_catalogue
from bidder.replay import Replay
from campaigns.demo_summary import DemoSummary, report_of, summarise
from campaigns.lifeline import tied
from campaigns.serve import end, interrupt
from campaigns.supervisor import Supervisor, endpoints_of, lock_folder, new_deployment
from ledger.report_page import write_report
from ledger.store import StoreClient
from market.campaign import Campaign
from market.errors import BadInput, NotReady
from market.exchange import DEFAULT_EXCHANGES
from market.money import MICROS, micros_to_text
from policies.controller import fetch_view
from simulator.live_report import LiveProgress, LiveReport
from simulator.registration import register
from simulator.scenario import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from market.deployment import Deployment

SCENARIO = "demo"
TICK_MS = 1_800_000
_CAMPAIGNS = Path(__file__).parent / "demo.toml"
_LOAD_S_MAX = 60.0
_ORDER_VALUE_MICROS = 1_600_000
"""Mean value of an order where a campaign's goal names none."""


def run_demo(
    folder: Path, *, seed: int, workers: int, connections: int, keeps_running: bool, as_json: bool
) -> DemoSummary:
    """Runs the demo in ``folder`` (emptied first) and returns its summary.

    Raises:
        NotReady: a process of the engine did not come up, or left early.
        BadInput: the run's own figures disagree with each other; the message names them.
    """
    console = Console(stderr=as_json, highlight=False)
    _empty(folder)
    deployment = new_deployment(
        folder, worker_count=workers, is_episode=True, seed=seed, tick_ms=TICK_MS
    )
    # Every no-bid is recorded: a day of the demo is small, and its reasons are then exact.
    deployment = msgspec.structs.replace(deployment, no_bid_sample_rate=1.0)
    with console.status("compiling decision kernels (first run only)"):
        Replay(read_catalogue(), DEFAULT_EXCHANGES[1], load(SCENARIO).start_at_ms)
    supervisor = Supervisor(deployment)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        with console.status("starting") as status:
            supervisor.start(lambda part: status.update(f"starting {part}"))
            status.update("creating campaigns, rendering their creatives")
            campaigns = create_campaigns(deployment)
        live = _run_exchange(supervisor, campaigns, console, seed, connections)
        with console.status("loading events into the store"):
            summary = _finish(supervisor, live, campaigns, folder)
        if as_json:
            sys.stdout.write(msgspec.json.encode(summary).decode() + "\n")
        else:
            console.print(_table(summary, campaigns))
            console.print(f"\n{folder / 'summary.json'}  {folder / 'report.html'}")
        if summary.disagreements:
            raise BadInput("counts disagree: " + "; ".join(summary.disagreements))
        if keeps_running:
            _stay(supervisor, console)
        return summary
    finally:
        end(supervisor)


def create_campaigns(deployment: Deployment) -> tuple[Campaign, ...]:
    """Creates the demo's campaigns through the HTTP API and returns them as stored.

    Raises:
        NotReady: the control plane refuses one; the message has its answer.
    """
    bodies = tomllib.loads(_CAMPAIGNS.read_text())["campaigns"]
    key = deployment.api_key_path.read_text().strip()
    created: list[Campaign] = []
    with httpx.Client(
        base_url=endpoints_of(deployment).api_url,
        headers={"authorization": f"Bearer {key}"},
        timeout=60,
    ) as client:
        for body in bodies:
            answer = client.post("/campaigns", json=body)
            if answer.status_code != 201:
                raise NotReady(f"campaign '{body['name']}': {answer.status_code} {answer.text}")
            created.append(msgspec.json.decode(answer.content, type=Campaign))
    return tuple(created)


def _run_exchange(
    supervisor: Supervisor,
    campaigns: tuple[Campaign, ...],
    console: Console,
    seed: int,
    connections: int,
) -> LiveReport:
    """Lets the twin play its day against the engine, showing how it goes; returns its report."""
    deployment = supervisor.deployment
    out = deployment.root / "exchange.json"
    process = _launch_exchange(deployment, campaigns, out, seed, connections)
    names = {campaign.campaign_id: campaign for campaign in campaigns}
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(40), TextColumn("{task.percentage:3.0f}%"),
        TimeElapsedColumn(), console=console,
    )  # fmt: skip
    task = bar.add_task("00:00", total=1.0)
    start_ms = load(SCENARIO).start_at_ms
    try:
        with Live(bar, console=console, refresh_per_second=4, transient=True) as screen:
            for progress in _progress_of(process):
                supervisor.watch()
                minutes = (progress.clock_ms - start_ms) // 60_000
                clock = f"{minutes // 60:02d}:{minutes % 60:02d}"
                bar.update(task, completed=progress.share_done, description=clock)
                screen.update(Group(bar, _progress_table(progress, names)))
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if code:
        assert process.stderr is not None
        raise NotReady(f"exchange left with code {code}: {process.stderr.read().decode().strip()}")
    return msgspec.json.decode(out.read_bytes(), type=LiveReport)


def _launch_exchange(
    deployment: Deployment, campaigns: tuple[Campaign, ...], out: Path, seed: int, connections: int
) -> subprocess.Popen[bytes]:
    """Starts the twin as an exchange that has reviewed the creatives; it reports to ``out``."""
    registered = write_registered(deployment, campaigns)
    return subprocess.Popen(  # noqa: S603 - our own module
        tied([
            sys.executable, "-m", "simulator.live", str(deployment.root / "deployment.json"),
            "--scenario", SCENARIO, "--campaigns", str(registered), "--out", str(out),
            "--seed", str(seed), "--connections", str(connections),
        ]),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def write_registered(deployment: Deployment, campaigns: tuple[Campaign, ...]) -> Path:
    """Writes the creatives that the exchange has reviewed into the run folder; returns the file."""
    path = deployment.root / "registered.json"
    path.write_bytes(msgspec.json.encode(register(campaigns, _ORDER_VALUE_MICROS)))
    return path


def _progress_of(process: subprocess.Popen[bytes]) -> Iterator[LiveProgress]:
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("kind") == "progress":
            yield msgspec.json.decode(line, type=LiveProgress)


def _finish(
    supervisor: Supervisor, live: LiveReport, campaigns: tuple[Campaign, ...], folder: Path
) -> DemoSummary:
    """Waits until the store holds everything that was committed; writes summary and report."""
    deployment = supervisor.deployment
    view = fetch_view(deployment)
    store = StoreClient(deployment.store_socket)
    _wait(lambda: store.loaded_sequence(view.sequence) >= view.sequence, "the store", supervisor)
    start_ms = load(SCENARIO).start_at_ms
    summary = summarise(store, view, live, supervisor.block, campaigns, start_ms)
    (folder / "summary.json").write_bytes(msgspec.json.format(msgspec.json.encode(summary)))
    write_report(folder / "report.html", report_of(summary, store, live, campaigns, start_ms))
    return summary


def _wait(is_done: Callable[[], bool], name: str, supervisor: Supervisor) -> None:
    deadline = time.monotonic() + _LOAD_S_MAX
    while not is_done():
        supervisor.watch()
        if time.monotonic() > deadline:
            raise NotReady(f"{name} did not catch up within {_LOAD_S_MAX:.0f} s")


def _stay(supervisor: Supervisor, console: Console) -> None:
    """Leaves the engine running until Ctrl-C."""
    endpoints = endpoints_of(supervisor.deployment)
    key = supervisor.deployment.api_key_path.read_text().strip()
    console.print(f"\nconsole: {endpoints.console_url}#key={key}", soft_wrap=True)
    console.print(
        "The simulated day is over and its clock stands still: edits wait for a step that no "
        f"longer comes.\nTo go on in real time: Ctrl-C, then lodestone serve --folder "
        f"{supervisor.deployment.folder}",
        soft_wrap=True,
    )
    try:
        while True:
            supervisor.watch()
            time.sleep(0.2)
    except KeyboardInterrupt:
        console.print("stopping")


def _empty(folder: Path) -> None:
    """Makes ``folder`` an empty run folder; refuses to delete anything that is not an old run.

    Raises:
        BadInput: it is not empty and no run folder.
        NotReady: an engine runs in it.
    """
    if folder.exists():
        is_run = folder.is_dir() and (folder / "deployment.json").exists()
        if not is_run and (not folder.is_dir() or any(folder.iterdir())):
            raise BadInput(
                f"run folder '{folder}': it is not empty and holds no earlier run; name another one"
            )
        lock_folder(folder).close()
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _progress_table(progress: LiveProgress, campaigns: dict[int, Campaign]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("campaign", "bids", "wins", "clicks", "conv.", "spend", "of budget", "CPA"):
        table.add_column(name, justify="left" if name == "campaign" else "right")
    for part in progress.campaigns:
        campaign = campaigns[part.id]
        budget = campaign.budget.daily_micros or 0
        table.add_row(
            campaign.name, f"{part.bids:,}", f"{part.wins:,}", f"{part.clicks:,}",
            f"{part.conversions:,}", micros_to_text(part.spend_micros, campaign.currency),
            f"{part.spend_micros / budget:.0%}" if budget else "",
            f"{part.spend_micros / part.conversions / MICROS:.2f}" if part.conversions else "",
        )  # fmt: skip
    table.caption = f"{progress.requests:,} requests, latency p99 {progress.latency_ms_p99:.1f} ms"
    return table


def _table(summary: DemoSummary, campaigns: tuple[Campaign, ...]) -> Group:
    table = Table(title="One simulated day", title_justify="left")
    for name in ("campaign", "goal", "target", "achieved", "spend", "budget", "wins", "conv."):
        table.add_column(name, justify="left" if name in ("campaign", "goal") else "right")
    for row in summary.campaigns:
        table.add_row(
            row.name, row.goal, _goal_value(row.target, row.goal),
            _goal_value(row.achieved, row.goal),
            micros_to_text(row.spend_micros, row.currency),
            micros_to_text(row.budget_micros, row.currency)
            + (" (ran out)" if row.is_budget_exhausted else ""),
            f"{row.wins:,}", f"{row.conversions:,}",
        )  # fmt: skip
    return Group(table, _facts(summary, campaigns[0].currency))


def _goal_value(value: float | None, goal: str) -> str:
    """Returns a target, or what was achieved of it: a ratio for ROAS, else money."""
    if value is None:
        return ""
    return f"{value:.2f}" if goal == "target_roas" else f"{value / MICROS:.3f}"


def _facts(summary: DemoSummary, currency: str) -> Table:
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column()
    facts.add_column(justify="right")
    for name, value in (
        ("requests", f"{summary.requests:,}"),
        ("bids / wins", f"{summary.bids:,} / {summary.wins:,} ({summary.wins_per_bid:.1%})"),
        ("spend, overspend",
         f"{micros_to_text(summary.spend_micros, currency)}, "
         f"{micros_to_text(summary.overspend_micros, currency)}"),
        ("events recorded / expected",
         f"{summary.events_recorded:,} / {summary.events_expected:,}"),
        ("repeated notices ignored", f"{summary.duplicates_ignored:,}"),
        ("latency p50 / p99",
         f"{summary.latency_us.p50:,.0f} / {summary.latency_us.p99:,.0f} us"),
        ("worker CPU per request", f"{summary.cpu_us_per_request:.0f} us"),
        ("real time", f"{summary.wall_s:.0f} s"),
    ):  # fmt: skip
        facts.add_row(name, value)
    return facts
