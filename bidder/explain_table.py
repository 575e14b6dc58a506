"""``lodestone explain``: where its case comes from, and how it is printed."""

from __future__ import annotations

import http.client
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from bidder.candidates import Compilation, allocate_rows, compile_snapshot
from bidder.caps import map_cap_slots
from bidder.catalogue import SHIPPED_CATALOGUE, read_catalogue
from bidder.edge import Edge
from bidder.explain import explain_request
from bidder.explain_item import Case
from bidder.recommendation.network import read_artefact
from bidder.replay import bodies_of
from bidder.supply_chain import read_supply
from ledger.view import LedgerView
from market.control import ControlBlock, Word, new_live_arrays
from market.deployment import Deployment, read_deployment
from market.errors import BadInput, NotReady
from market.exchange import DEFAULT_EXCHANGES, check_profiles
from market.intent import read_intent
from market.snapshot import read_snapshot, snapshot_path
from market.state import CAP_PROBES, CAP_SLOT_DTYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bidder.explanation import Explanation, ImpVerdict, Verdict
    from market.exchange import ExchangeProfile

_LEDGER_S_MAX = 2.0
_ROWS_MAX = 40
"""Line items that a table shows of an imp; the JSON has all."""

_FAILED_MAX = 4
_WIDTH = 140


def run_explain(
    path: Path, exchange: str, catalogue: Path | None, run: Path | None, *, as_json: bool
) -> None:
    """Prints why each line item would or would not bid on the request in ``path``.

    Args:
        path: of one request; NDJSON gives one explanation a line, gzip is inflated.
        exchange: name of the profile it comes through.
        catalogue: campaigns with full budgets (None: those that ship).
        run: folder of an engine: its snapshot, pauses, money and frequency counts instead.
        as_json: one JSON object a request, one a line.

    Raises:
        BadInput: a file, the exchange or a body is wrong.
        NotReady: the engine in ``run`` has no snapshot yet.
        Corrupt: a file of the run is damaged.
    """
    wall_ms = time.time_ns() // 1_000_000
    if run is not None:
        if catalogue is not None:
            raise BadInput("explain: --catalogue and --run name two sources; give one of them")
        profiles, case, now_ms = case_of_run(run, wall_ms)
    else:
        profiles, now_ms = check_profiles(DEFAULT_EXCHANGES), wall_ms
        case = case_of_catalogue(catalogue or SHIPPED_CATALOGUE, now_ms)
    if exchange not in profiles:
        raise BadInput(f"exchange '{exchange}': it must be one of {', '.join(profiles)}")
    profile = profiles[exchange]
    console = Console(highlight=False)
    if not console.is_terminal:
        # A pipe or a file has no width of its own, and 80 columns would cut the reasons.
        console.width = _WIDTH
    for _, body in bodies_of((path,)):
        explanation = explain_request(case, body, profile, now_ms)
        if as_json:
            sys.stdout.buffer.write(msgspec.json.encode(explanation) + b"\n")
            sys.stdout.flush()
        else:
            console.print(table_of(explanation))


def case_of_catalogue(path: Path, now_ms: int) -> Case:
    """Returns the campaigns of a file as today's snapshot, every budget full, no user met before.

    Raises:
        BadInput: the file is unreadable, or a campaign breaks a rule.
    """
    campaigns = read_catalogue(path)
    seat = DEFAULT_EXCHANGES[0].seat
    snapshot = compile_snapshot(
        campaigns,
        read_artefact(),
        Compilation(
            version=1, policy_version=0, intent_version=0, now_ms=now_ms, seed=1,
            rates_micros={"USD": 1_000_000, "EUR": 1_080_000, "GBP": 1_270_000},
            default_seat=seat, rows=allocate_rows({}, campaigns),
        ),
    )  # fmt: skip
    live = new_live_arrays()
    live.is_active[:] = 1
    budgets = snapshot.arrays.budgets
    return Case(
        campaigns, snapshot, live,
        dict(zip(budgets["budget_id"].tolist(), budgets["limit_micros"].tolist(), strict=True)),
        np.zeros((1, CAP_PROBES), CAP_SLOT_DTYPE), Edge(b"explain"), seat,
        ("every budget is full, nothing is paused, and no user was met before",),
    )  # fmt: skip


def case_of_run(folder: Path, wall_ms: int) -> tuple[dict[str, ExchangeProfile], Case, int]:
    """Returns (profiles, case, the run's time) of the engine in ``folder``, running or not.

    Raises:
        NotReady: it has published no snapshot yet.
        Corrupt: a file of the run is damaged.
    """
    deployment = read_deployment(folder / "deployment.json")
    block = ControlBlock(deployment.control_path)
    version = block.words[Word.SNAPSHOT_VERSION]
    if version == 0:
        raise NotReady(f"run folder '{folder}': no snapshot yet; create a campaign, then ask again")
    snapshot = read_snapshot(snapshot_path(deployment.snapshot_folder, version))
    intent = read_intent(deployment.intent_folder)
    notes: list[str] = []
    if intent.version != snapshot.head.intent_version:
        notes.append(
            f"campaigns are of intent {intent.version}, the snapshot is of intent "
            f"{snapshot.head.intent_version}: a change is on its way"
        )
    limits = snapshot.arrays.budgets
    money = dict(zip(limits["budget_id"].tolist(), limits["limit_micros"].tolist(), strict=True))
    view = _ledger(deployment)
    if view is None:
        notes.append("the recorder does not answer: every budget is taken as full")
    else:
        notes.append("money: the limit less what was spent; how workers share it is not seen")
        for budget in view.budgets:
            spent = budget.spent_on_time_micros + budget.spent_late_micros
            left = budget.limit_micros - spent - budget.others_spent_micros
            if budget.allotted_micros is not None:
                left = min(left, budget.allotted_micros - spent)
            money[budget.budget_id] = max(0, left)
        if view.node is not None and (view.node.trouble or not view.node.is_open):
            notes.append(
                f"budgets are shared; their owner does not answer node '{view.node.node}', which "
                f"bids on from what it was allotted: {view.node.trouble or 'no answer yet'}"
            )
    profiles = check_profiles(deployment.exchanges)
    case = Case(
        intent.campaigns, snapshot, block.live, money,
        map_cap_slots(deployment.ring_folder / "caps.bin", deployment.worker_count),
        edge_of(deployment), next(iter(profiles.values())).seat, tuple(notes),
    )  # fmt: skip
    return profiles, case, block.clock(lambda: wall_ms)()


def edge_of(deployment: Deployment) -> Edge:
    """Returns the edge that the workers of a deployment have."""
    folder = deployment.supply_folder
    return Edge(
        bytes.fromhex(deployment.user_salt_hex),
        deployment.tcf_vendor_id,
        read_supply(Path(folder) if folder else None),
    )


def _ledger(deployment: Deployment) -> LedgerView | None:
    """Returns the recorder's totals, None when it does not answer."""
    connection = http.client.HTTPConnection(
        deployment.host, deployment.notice_port, timeout=_LEDGER_S_MAX
    )
    try:
        connection.request(
            "GET", "/ledger", headers={"authorization": f"Bearer {deployment.ledger_token}"}
        )
        answer = connection.getresponse()
        body = answer.read()
        return msgspec.json.decode(body, type=LedgerView) if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def table_of(explanation: Explanation) -> Group:
    """Returns what people read: the answer, then a table of line items for every imp."""
    return Group(*_head(explanation), *map(_imp_table, explanation.imps))


def _head(explanation: Explanation) -> Iterator[Text]:
    yield Text(
        f"request {explanation.request_id} by {explanation.exchange}: {explanation.status}, "
        f"{len(explanation.bids)} bids, snapshot {explanation.snapshot_version}",
        style="bold",
    )
    for bid in explanation.bids:
        deal = f" on deal {bid.deal}" if bid.deal else ""
        yield Text(
            f"  imp {bid.imp_id}: line item {bid.line_item_id} bids {bid.price_cpm:.2f} "
            f"{bid.currency} CPM with creative {bid.creative_id}{deal}",
            style="green",
        )
    for refused in explanation.refused:
        where = "request" if refused.imp_index < 0 else f"imp #{refused.imp_index}"
        field = f" ({refused.field})" if refused.field else ""
        yield Text(f"  {where}: {refused.reason}{field}: {refused.text}", style="yellow")
    for note in explanation.notes:
        yield Text(f"  {note}", style="dim")


def _imp_table(imp: ImpVerdict) -> Table:
    deal = f", deal {imp.deal}" if imp.deal else ""
    eligible = sum(verdict.is_eligible for verdict in imp.verdicts)
    table = Table(
        title=f"imp {imp.imp_id}{deal}: {eligible} of {len(imp.verdicts)} line items may bid",
        title_justify="left", caption=_caption(imp), caption_justify="left",
    )  # fmt: skip
    table.add_column("line item", overflow="fold")
    for name in ("pctr", "pcvr", "value", "shading", "bid", "floor"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why not", overflow="fold")
    for verdict in imp.verdicts[:_ROWS_MAX]:
        table.add_row(*_cells(verdict), style="" if verdict.is_eligible else "dim")
    return table


def _caption(imp: ImpVerdict) -> str:
    reasons = Counter(failed.reason for verdict in imp.verdicts for failed in verdict.failed)
    told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(8))
    left_out = len(imp.verdicts) - _ROWS_MAX
    more = f"{left_out} more line items are in the JSON. " if left_out > 0 else ""
    return f"{more}{told}"


def _cells(verdict: Verdict) -> Iterator[str | Text]:
    yield f"{verdict.line_item_id} {verdict.line_item or verdict.campaign}"
    yield "" if verdict.pctr is None else f"{verdict.pctr:.3%}"
    yield "" if verdict.pcvr is None else f"{verdict.pcvr:.3%}"
    yield "" if verdict.value_micros is None else f"{verdict.value_micros / 1e6:.6f}"
    yield "" if verdict.shading is None else f"{verdict.shading:.2f}"
    yield "" if verdict.bid_cpm is None else f"{verdict.bid_cpm:.2f} {verdict.currency}"
    yield "" if verdict.floor_cpm is None else f"{verdict.floor_cpm:.2f}"
    if verdict.is_eligible:
        yield Text("may bid", style="green")
        return
    lines = [
        f"{failed.reason}: {failed.rule}"
        + (f"; {failed.field} is {failed.asked}" if failed.asked else "")
        for failed in verdict.failed
    ]
    more = len(lines) - _FAILED_MAX
    yield "\n".join(lines[:_FAILED_MAX] + ([f"and {more} more"] if more > 0 else []))
