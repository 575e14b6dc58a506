"""``lodestone attribute`` for people and for machines: who earned the conversions of a run."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from rich.console import Console
from rich.table import Table

from ledger.attribution.identity import NOBODY_LINKED
from ledger.attribution.table import Attributor, currency_name, day_credits, day_paths
from ledger.attribution.terms import NOBODY, Level, Lookback, Model, Rules
from ledger.opening import deployment_of, open_started_engine
from ledger.store import StoreClient
from market.errors import BadInput, NotReady
from market.events import DAY_MS, EventKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ledger.attribution.identity import Identity
    from ledger.attribution.table import DayCredits
    from ledger.sql import Analytics

_WIDTH: Final = 160
Kind = TypeVar("Kind", Model, Level)

_DAYS = """
SELECT DISTINCT intDiv(ts_ms, %(day_ms)s) AS day FROM events FINAL
WHERE kind = %(conversion)s ORDER BY day
"""


class Share(msgspec.Struct, frozen=True):
    """What a channel earned under one model."""

    conversions: int
    credit_micros: int
    value_micros: int


class Earned(msgspec.Struct, frozen=True):
    """What one channel earned, by model; money in ``currency``."""

    advertiser_id: int
    channel: int
    """Id at the level; -1: nobody, conversions without a touch in their window."""
    currency: str
    shares: dict[str, Share]


class Report(msgspec.Struct, frozen=True):
    """What ``lodestone attribute --json`` prints."""

    level: str
    days: int
    conversions: int
    is_stored: bool
    """False: the run's embedded store is in use by its process, so the table was left alone."""
    rows_written: int
    channels: tuple[Earned, ...]


def run_attribute(
    folder: Path,
    models: Sequence[str],
    level: str,
    rules: Rules,
    *,
    as_json: bool,
    joins_devices: bool = False,
) -> None:
    """Computes every day of a run anew, stores what changed, and prints what each channel earned.

    Raises:
        BadInput: a model or level is none, or the folder holds no run.
        NotReady: the store can be neither opened nor asked, or its server is not there.
    """
    chosen = tuple(_named(Model, "model", name) for name in models) or tuple(Model)
    identity = consented_identity(folder) if joins_devices else NOBODY_LINKED
    report = attribute(folder, chosen, _named(Level, "level", level), rules, identity)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.flush()
    else:
        console = Console(highlight=False)
        # Numbers are never cut off, not even in a pipe, which rich takes to be 80 wide.
        console.width = max(console.width, _WIDTH)
        console.print(_table(report, chosen))


def consented_identity(folder: Path) -> Identity:
    """Returns who is one person on several devices, of a run's user table.

    Raises:
        BadInput: the run has none, or its key is not in the environment.
        Corrupt: the key is another.
    """
    from ledger.privacy.secret import read_secret  # noqa: PLC0415
    from ledger.privacy.users import USERS_FILE, UserTable  # noqa: PLC0415

    path = folder / USERS_FILE
    if not path.exists():
        raise BadInput(f"run folder {folder}: nobody consented; see `lodestone store consent`")
    table = UserTable(path, read_secret("privacy_key", os.environ))
    try:
        return table.identity()
    finally:
        table.close()


def attribute(
    folder: Path,
    models: Sequence[Model],
    level: Level,
    rules: Rules,
    identity: Identity = NOBODY_LINKED,
) -> Report:
    """Returns what each channel of a run earned; see ``run_attribute``."""
    deployment = deployment_of(folder)
    try:
        engine = open_started_engine(deployment)
    except NotReady:
        if deployment.analytics_url:
            raise
        # A running store has the embedded engine's folder: it answers, but only its own process
        # may write. What it cannot answer is an error again.
        return _report(StoreClient(deployment.store_socket), None, models, level, rules, identity)
    try:
        attributor = Attributor(engine, rules, identity)
        return _report(attributor.analytics, attributor, models, level, rules, identity)
    finally:
        engine.close()


def _report(
    analytics: Analytics,
    attributor: Attributor | None,
    models: Sequence[Model],
    level: Level,
    rules: Rules,
    identity: Identity,
) -> Report:
    rows = analytics.query(_DAYS, day_ms=DAY_MS, conversion=int(EventKind.CONVERSION)).rows
    days = {int(str(day)) for (day,) in rows}
    if attributor:
        days = set(attributor.kept_days(days | attributor.stored_days()))
    written = conversion_count = 0
    tallied: dict[tuple[int, int, int], dict[str, list[int]]] = {}
    for day, paths in day_paths(analytics, sorted(days), rules, identity):
        conversion_count += int((paths.conversions.at_ms // DAY_MS == day).sum())
        for model in models:
            found = day_credits(paths, day, model, level, rules)
            _tally(tallied, found)
            if attributor:
                written += attributor.store(found)
    channels = tuple(
        Earned(
            advertiser_id, channel, currency_name(currency),
            {name: Share(*sums) for name, sums in shares.items()},
        )
        for (advertiser_id, channel, currency), shares in sorted(tallied.items())
    )  # fmt: skip
    return Report(
        level.name.lower(), len(days), conversion_count, attributor is not None, written, channels
    )


def _tally(tallied: dict[tuple[int, int, int], dict[str, list[int]]], found: DayCredits) -> None:
    for (advertiser_id, _, _, channel), (_, currency, credit, value) in found.rows.items():
        shares = tallied.setdefault((advertiser_id, channel, currency), {})
        sums = shares.setdefault(found.model.name.lower(), [0, 0, 0])
        sums[0] += 1
        sums[1] += credit
        sums[2] += value


def _named(kind: type[Kind], what: str, name: str) -> Kind:
    try:
        return kind[name.upper().replace("-", "_")]
    except KeyError:
        names = ", ".join(each.name.lower() for each in kind)
        raise BadInput(f"{what} '{name}': it must be one of {names}") from None


def _table(report: Report, models: Sequence[Model]) -> Table:
    kept = "" if report.is_stored else "; not stored, the store is running"
    table = Table(
        title=f"{report.conversions} conversions on {report.days} days by {report.level}{kept}"
    )
    for name in ("advertiser", report.level, "", *(model.name.lower() for model in models)):
        table.add_column(name, justify="right", no_wrap=True)
    for earned in report.channels:
        channel = "nobody" if earned.channel == NOBODY else str(earned.channel)
        shares = [earned.shares.get(model.name.lower(), Share(0, 0, 0)) for model in models]
        table.add_row(
            f"{earned.advertiser_id}",
            channel,
            f"conversions\n{earned.currency}",
            *(
                f"{share.credit_micros / 1e6:,.2f}\n[dim]{share.value_micros / 1e6:,.2f}[/dim]"
                for share in shares
            ),
        )
    return table


def rules_of(click_days: float, view_days: float, half_life_days: float) -> Rules:
    """Returns the rules that the command line asks for."""
    return Rules(
        lookback=Lookback(round(click_days * DAY_MS), round(view_days * DAY_MS)),
        half_life_ms=round(half_life_days * DAY_MS),
    )
