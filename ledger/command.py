"""``lodestone ledger``: inspect, repair, retain and reconcile, for people and for machines."""

from __future__ import annotations

import http.client
import sys
import time
from datetime import date
from typing import TYPE_CHECKING, Final

import msgspec
from rich.console import Console
from rich.table import Table

from ledger.adjustment import ADJUSTMENTS_MAX
from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.inspection import Condition, inspect
from ledger.log_retention import retain
from ledger.reconcile import (
    Reconciliation,
    Status,
    day_span_ms,
    ledger_sums,
    read_bill,
    reconcile,
    zone_of,
)
from ledger.repair import repair
from ledger.shipper import CursorFile
from ledger.store import StoreClient
from market.deployment import read_deployment
from market.errors import BadInput, Corrupt, NotReady
from market.events import DAY_MS
from market.money import MICROS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ledger.adjustment import Adjustment
    from ledger.inspection import Inspection
    from market.deployment import Deployment

_WIDTH: Final = 160
_ANSWER_S_MAX: Final = 30.0


class Booked(msgspec.Struct, frozen=True):
    """What the recorder said to adjustments."""

    booked: int
    repeated: int


class Reconciled(msgspec.Struct, frozen=True):
    """What ``lodestone ledger reconcile --json`` prints."""

    reconciliation: Reconciliation
    booked: Booked | None


def run_inspect(folder: Path, *, as_json: bool) -> None:
    """Prints what a run's log holds.

    Raises:
        Corrupt: after printing: no recorder starts on it as it is.
    """
    found = inspect(_log_of(folder), RealDisk(), EVENT_LOG)
    if as_json:
        _print_json(found)
    else:
        _print_inspection(found)
    if found.condition in {Condition.DAMAGED, Condition.UNREADABLE}:
        raise Corrupt(
            f"{folder}: the log is {found.condition.value}; restore it from a copy, or see "
            "`lodestone ledger repair`"
        )


def run_repair(folder: Path, *, as_json: bool) -> None:
    """Repairs a run's log and prints what that cost.

    Raises:
        Corrupt: it cannot be repaired.
        NotReady: its recorder is running, or the disk refuses.
    """
    done = repair(_log_of(folder), RealDisk(), EVENT_LOG)
    if as_json:
        _print_json(done)
        return
    _print_inspection(done.found)
    console = _console()
    if done.rewritten:
        console.print(f"rewritten: {', '.join(done.rewritten)}; kept: {', '.join(done.kept)}")
    else:
        console.print("nothing to repair")


def run_retain(folder: Path, days: float, *, as_json: bool) -> None:
    """Compresses and removes segments of a run's log, and prints which.

    Raises:
        NotReady: the store cannot say how far it has loaded the log.
    """
    deployment = _deployment_of(folder)
    done = retain(
        deployment.segment_folder,
        RealDisk(),
        deployment.exchanges,
        handled_sequence=_handled_sequence(deployment),
        oldest_ms=int(time.time_ns() // 1_000_000 - days * DAY_MS),
    )
    if as_json:
        _print_json(done)
        return
    _console().print(
        f"removed {len(done.removed)} segments, compressed {len(done.compressed)} and saved "
        f"{done.saved_bytes:,} bytes; the checkpoint stands for frames up to "
        f"{done.checkpoint_sequence}"
    )


def run_reconcile(
    folder: Path,
    invoice: Path,
    *,
    exchange: str,
    time_zone: str,
    tolerance_micros: int,
    reference: str,
    books: bool,
    as_json: bool,
) -> None:
    """Prints how a bill and the ledger differ; with ``books``, books the differences.

    Raises:
        BadInput: the bill cannot be read, or no exchange has that name.
        NotReady: the recorder is not there to book, or cannot write.
    """
    deployment = _deployment_of(folder)
    number = next((p.exchange_id for p in deployment.exchanges if p.name == exchange), None)
    if number is None:
        names = ", ".join(profile.name for profile in deployment.exchanges)
        raise BadInput(f"exchange '{exchange}': it must be one of {names}")
    zone = zone_of(time_zone)
    try:
        with invoice.open(encoding="utf-8-sig", newline="") as text:
            bill = read_bill(text)
    except UnicodeDecodeError as error:
        raise BadInput(f"{invoice}: {error}; a bill is UTF-8") from error
    days = sorted({line.day for line in bill.lines})
    spans = [(day, *day_span_ms(date.fromisoformat(day), zone)) for day in days]
    found = reconcile(
        bill,
        ledger_sums(deployment.segment_folder, RealDisk(), number, spans),
        exchange=number,
        reference=reference or invoice.name,
        zone=zone,
        tolerance_micros=tolerance_micros,
    )
    booked = _book(deployment, found.adjustments) if books and found.adjustments else None
    if as_json:
        _print_json(Reconciled(found, booked))
        return
    console = _console()
    console.print(_difference_table(found))
    for trouble in found.unbookable:
        console.print(f"not bookable: {trouble}")
    if booked:
        console.print(f"booked {booked.booked} adjustments, {booked.repeated} were booked before")


def _book(deployment: Deployment, adjustments: Sequence[Adjustment]) -> Booked:
    booked = repeated = 0
    for at in range(0, len(adjustments), ADJUSTMENTS_MAX):
        connection = http.client.HTTPConnection(
            deployment.host, deployment.notice_port, timeout=_ANSWER_S_MAX
        )
        try:
            connection.request(
                "POST",
                "/ledger/adjustments",
                msgspec.json.encode(adjustments[at : at + ADJUSTMENTS_MAX]),
                {"authorization": f"Bearer {deployment.ledger_token}"},
            )
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotReady(
                f"recorder at port {deployment.notice_port}: {error}; start the engine and book "
                "again: what is booked already counts once"
            ) from error
        finally:
            connection.close()
        if answer.status != 200:
            raise NotReady(
                f"recorder: it answered {answer.status} {body.decode(errors='replace')[:200]}; "
                "book again: what is booked already counts once"
            )
        told = msgspec.json.decode(body, type=Booked)
        booked, repeated = booked + told.booked, repeated + told.repeated
    return Booked(booked, repeated)


def _handled_sequence(deployment: Deployment) -> int:
    """Returns up to which frame the store has loaded the log, and the shipper shipped it."""
    handled = StoreClient(deployment.store_socket).loaded_sequence()
    if deployment.kafka_servers:
        handled = min(
            handled, CursorFile(deployment.root / "shipper.cursor", RealDisk()).read() - 1
        )
    return handled


def _deployment_of(folder: Path) -> Deployment:
    deployment = read_deployment(folder / "deployment.json")
    return msgspec.structs.replace(deployment, folder=str(folder.resolve()))


def _log_of(folder: Path) -> Path:
    return _deployment_of(folder).segment_folder


def _print_json(value: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.flush()


def _console() -> Console:
    console = Console(highlight=False)
    # Numbers are never cut off, not even in a pipe, which rich takes to be 80 wide.
    console.width = max(console.width, _WIDTH)
    return console


def _print_inspection(found: Inspection) -> None:
    console = _console()
    table = Table("segment", "bytes", "frames", "records", "sequences", "archive")
    for each in found.segments:
        table.add_row(
            each.file, f"{each.byte_count:,}", f"{each.frames:,}", f"{each.records:,}",
            f"{each.first_sequence}-{each.last_sequence}", "gz" if each.is_archive else "",
        )  # fmt: skip
    console.print(table)
    if found.faults:
        faults = Table("segment", "offset", "bad bytes", "lost frames", "events at most", "why")
        for fault in found.faults:
            lost = f"{fault.first_sequence}-{fault.last_sequence}" if fault.lost_frames else ""
            faults.add_row(
                fault.file, str(fault.offset), f"{fault.byte_count:,}", lost,
                str(fault.events_max), fault.reason,
            )  # fmt: skip
        console.print(faults)
    foreign = f"; foreign files: {', '.join(found.foreign_names)}" if found.foreign_names else ""
    console.print(
        f"the log is {found.condition.value}: {found.lost_frames} frames lost, "
        f"{found.torn_bytes} torn bytes{foreign}"
    )


def _difference_table(found: Reconciliation) -> Table:
    table = Table(
        "day", "campaign", "deal", "currency", "billed", "ledger", "difference", "billed imp.",
        "ledger imp.", "status",
    )  # fmt: skip
    for each in found.differences:
        table.add_row(
            each.day, str(each.campaign_id), each.deal_id, each.currency,
            *(
                f"{micros / MICROS:,.6f}"
                for micros in (each.billed_micros, each.ledger_micros, each.difference_micros)
            ),
            f"{each.billed_impressions:,}", f"{each.ledger_impressions:,}", each.status.value,
        )  # fmt: skip
    equal = sum(each.status is Status.EQUAL for each in found.differences)
    table.caption = f"{equal} of {len(found.differences)} lines are equal"
    return table
