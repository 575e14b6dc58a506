"""``lodestone store``: what an operator asks of a run's store, and has done to it.

    lodestone store query | export | roll-up | retain | mark
    lodestone store consent | access | erase | rotate-salt | audit

Each works beside a running engine and on a stopped one. Whatever looks at users or events, or
changes them, leaves an entry in the run's audit log first: what was not recorded does not happen.
A user's id is read from standard input, since arguments stand in process lists and histories.
"""

# ruff: noqa: PLC0415 - a command imports what it needs only when it is asked for

from __future__ import annotations

import datetime
import os
import pwd
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from market.errors import BadInput

if TYPE_CHECKING:
    import contextlib

    from ledger.chores import Done
    from ledger.opening import OpenStore
    from ledger.privacy.audit import AuditLog
    from ledger.privacy.salts import Salts
    from ledger.privacy.secret import Secret
    from market.deployment import Deployment

app = typer.Typer(
    help="Ask a run's store, export it, and keep it: retention, users, invalid traffic, audit.",
    no_args_is_help=True,
)

AUDIT_FILE: Final = "audit.log"
SALTS_FILE: Final = "user_salts.sealed"
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_EVIDENCE_PER_CHORE: Final = 10_000

Run = Annotated[Path, typer.Argument(help="Run folder.")]
Advertiser = Annotated[
    int | None, typer.Option(help="Only this advertiser's; all of them if none is named.")
]
FirstDay = Annotated[str, typer.Option(help="First day of bids, YYYY-MM-DD, UTC.")]
LastDay = Annotated[str, typer.Option(help="Last day of bids, itself included.")]


@app.callback()
def _app() -> None:
    """Ask a run's store, export it, and keep it: retention, users, invalid traffic, audit."""


@app.command()
def query(
    run: Run,
    measure: Annotated[list[str], typer.Option(help="Measure, or several.")],
    start: Annotated[str, typer.Option(help="Of the events: YYYY-MM-DD or YYYY-MM-DDTHH, UTC.")],
    end: Annotated[str, typer.Option(help="The same, exclusive.")],
    by: Annotated[list[str] | None, typer.Option(help="Dimension, or several.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Filter: campaign_id=1,2 or currency=USD.")
    ] = None,
    order: Annotated[
        list[str] | None, typer.Option(help="Name to order by; -name: descending.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Rows at most.")] = 1_000,
    advertiser: Advertiser = None,
    parquet: Annotated[
        Path | None, typer.Option(help="Write the rows to this Parquet file, too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Answer a question out of closed lists of measures, dimensions and filters."""
    import msgspec

    from ledger.export import export_answer
    from ledger.query import Query, Scope, answer

    asked = Query(
        measures=tuple(measure),
        start_ms=_hour_ms("start", start),
        end_ms=_hour_ms("end", end),
        dimensions=tuple(by or ()),
        filters=_filters(where or []),
        order_by=tuple(order or ()),
        limit=limit,
    )
    with _opened(run) as store:
        _note(store.deployment, "query", f"advertiser {advertiser}: {msgspec.json.encode(asked)!r}")
        found = answer(store.analytics, Scope(advertiser), asked)
    if parquet:
        export_answer(found, parquet)
    if as_json:
        _print(found)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="there is more" if found.is_cut else None)
    for name in found.columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console = Console(highlight=False)
    console.width = max(console.width, 160)
    console.print(table)


@app.command()
def export(
    run: Run,
    out: Annotated[Path, typer.Argument(help="Empty folder for the Parquet files.")],
    first_day: FirstDay,
    last_day: LastDay,
    advertiser: Advertiser = None,
) -> None:
    """Write events as Parquet, a folder a day, with a manifest."""
    from ledger.export import export_events
    from ledger.query import Scope

    first, last = _day("first-day", first_day), _day("last-day", last_day)
    with _opened(run) as store:
        _note(store.deployment, "export", f"advertiser {advertiser}: {first_day} to {last_day}")
        _print(export_events(store.analytics, Scope(advertiser), first, last, out))


@app.command("roll-up")
def roll_up(run: Run) -> None:
    """Compute the hourly sums of every day that has changed; the store does it by itself, too."""
    from ledger.chores import RollUp

    with _opened(run) as store:
        _print(store.do(RollUp()))


@app.command()
def retain(
    run: Run,
    event_days: Annotated[int, typer.Option(help="Events are kept so long.")] = 90,
    hour_days: Annotated[int, typer.Option(help="Hourly sums and attributions.")] = 760,
    user_days: Annotated[int, typer.Option(help="Whose an event was.")] = 60,
    today: Annotated[
        str | None, typer.Option(help="Last day to keep; by default the machine's, UTC.")
    ] = None,
) -> None:
    """Drop what is older than it may be."""
    from ledger.chores import Keep, Retain

    day = _now_ms() // _DAY_MS if today is None else _day("today", today)
    keep = Keep(event_days, hour_days, user_days)
    with _opened(run) as store:
        _note(store.deployment, "retain", f"{keep} on day {day}")
        _print(store.do(Retain(day, keep)))


@app.command()
def mark(
    run: Run,
    first_day: FirstDay,
    last_day: LastDay,
    rules: Annotated[
        Path | None, typer.Option(help="Limits as JSON; by default those that ship.")
    ] = None,
    data_centres: Annotated[
        Path | None, typer.Option(help="Address ranges, a CIDR block a line.")
    ] = None,
    access_log: Annotated[
        Path | None, typer.Option(help="The edge's access log, common or combined format.")
    ] = None,
) -> None:
    """Mark invalid traffic: nothing is deleted, and its money is a sum of its own."""
    import msgspec

    from ledger.chores import Mark, Marked, Marking
    from ledger.fraud.evidence import read_access_log
    from ledger.fraud.terms import Rules
    from market.addresses import read_address_ranges

    if (data_centres is None) != (access_log is None):
        raise BadInput("--data-centres and --access-log: one is of no use without the other")
    first, last = _day("first-day", first_day), _day("last-day", last_day)
    try:
        limits = msgspec.json.decode(rules.read_bytes(), type=Rules) if rules else Rules()
    except msgspec.MsgspecError as error:
        raise BadInput(f"rules {rules}: {error}") from error
    with _opened(run) as store:
        seen: tuple[tuple[int, int, int], ...] = ()
        if data_centres and access_log:
            key = bytes.fromhex(store.deployment.notice_key_hex)
            with access_log.open(encoding="utf-8", errors="replace") as lines:
                evidence = read_access_log(lines, read_address_ranges(data_centres), key)
            seen = evidence.from_data_centres
            sys.stderr.write(
                f"{access_log.name}: {evidence.notices} notices, {len(seen)} from data centres, "
                f"{evidence.unread} lines that are none\n"
            )
        _note(store.deployment, "mark", f"{first_day} to {last_day}: {limits}")
        done: Done | None = None
        # What was told of data centres stays, so that a long list can come in parts.
        for at in range(0, max(1, len(seen)), _EVIDENCE_PER_CHORE):
            part = seen[at : at + _EVIDENCE_PER_CHORE]
            done = store.do(Mark(Marking(first, last, limits, part)))
    assert isinstance(done, Marked)
    _print(done)


@app.command()
def access(run: Run) -> None:
    """Print every event of the user whose id stands on standard input, as JSON lines."""
    import msgspec

    from ledger.erasure import events_of

    user_id = _user_id()
    with _opened(run) as store:
        audit = _audit(store.deployment)
        salts = _salts(store.deployment)
        audit.append(_now_ms(), _actor(), "access", "", audit.subject_of(user_id))
        for event in events_of(store.analytics, salts.user_keys(user_id)):
            sys.stdout.buffer.write(msgspec.json.encode(event) + b"\n")
    sys.stdout.flush()


@app.command()
def erase(run: Run) -> None:
    """Take from every event of the user whose id stands on standard input whose it was."""
    from ledger.chores import Erase
    from ledger.privacy.users import USERS_FILE, UserTable

    user_id = _user_id()
    with _opened(run) as store:
        audit = _audit(store.deployment)
        keys = _salts(store.deployment).user_keys(user_id)
        now_ms = _now_ms()
        audit.append(now_ms, _actor(), "erase", "", audit.subject_of(user_id))
        users = store.deployment.root / USERS_FILE
        if users.exists():
            table = UserTable(users, _privacy_key())
            table.erase(keys)
            table.close()
        _print(store.do(Erase(keys, now_ms)))


@app.command()
def consent(run: Run) -> None:
    """Take consents to be one person on several devices from standard input, JSON a line.

    A line is {"user_id", "person", "consented_ms", "consent"}; with "is_withdrawn": true the user
    is removed. ``lodestone attribute --join-devices`` joins by them.
    """
    from ledger.opening import deployment_of
    from ledger.privacy.users import USERS_FILE, UserTable, read_consents

    deployment = deployment_of(run)
    key = _privacy_key()
    given, withdrawn = read_consents(sys.stdin.read(), _salts(deployment), key)
    _note(deployment, "consent", f"{len(given)} pseudonyms joined, {len(withdrawn)} withdrawn")
    table = UserTable(deployment.root / USERS_FILE, key)
    table.put(given)
    removed = table.erase(withdrawn)
    table.close()
    sys.stdout.write(f'{{"joined":{len(given)},"withdrawn":{removed}}}\n')


@app.command("rotate-salt")
def rotate_salt(
    run: Run,
    keep_days: Annotated[
        int, typer.Option(help="Old pseudonyms can be found so long; then nobody can.")
    ] = 60,
) -> None:
    """Make pseudonyms with a new salt from the engine's next start on."""
    import secrets

    import msgspec

    from ledger.opening import deployment_of
    from ledger.privacy.salts import SALT_BYTES, write_salts
    from market.deployment import write_deployment

    if keep_days < 0:
        raise BadInput(f"keep-days {keep_days}: it must be 0 or more")
    deployment = deployment_of(run)
    salts = _salts(deployment, is_key_needed=True)
    new = salts.rotated(secrets.token_bytes(SALT_BYTES), _now_ms(), keep_days * _DAY_MS)
    _note(deployment, "rotate-salt", f"{len(new.old)} old salts are kept {keep_days} days")
    # The old salt is safe before the new one is in use: a crash in between loses nobody.
    write_salts(deployment.root / SALTS_FILE, _privacy_key(), new)
    write_deployment(msgspec.structs.replace(deployment, user_salt_hex=new.current.hex()))
    sys.stdout.write(f'{{"old_salts":{len(new.old)}}}\n')


@app.command()
def audit(
    run: Run,
    head: Annotated[str, typer.Option(help="Digest that was written down elsewhere.")] = "",
) -> None:
    """Check the audit log's chain, and print its length and last digest: write that down."""
    from ledger.opening import deployment_of

    chain = _audit(deployment_of(run)).verify(head)
    sys.stdout.write(f'{{"entries":{chain.entries},"head":"{chain.head}"}}\n')


def _opened(run: Path) -> contextlib.AbstractContextManager[OpenStore]:
    from ledger.opening import open_store

    return open_store(run)


def _print(done: object) -> None:
    import msgspec

    sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")
    sys.stdout.flush()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _actor() -> str:
    """Returns who runs this, by the process and not by the environment, which anyone may set."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _note(deployment: Deployment, action: str, detail: str) -> None:
    _audit(deployment).append(_now_ms(), _actor(), action, detail)


def _audit(deployment: Deployment) -> AuditLog:
    """Returns the run's audit log, under a key of its own or one made from the run's."""
    from ledger.privacy.audit import AuditLog
    from ledger.privacy.secret import Secret, read_secret

    if "LODESTONE_AUDIT_KEY" in os.environ or "LODESTONE_AUDIT_KEY_FILE" in os.environ:
        key = read_secret("audit_key", os.environ)
    else:
        key = Secret(bytes.fromhex(deployment.notice_key_hex)).derive("audit")
    return AuditLog(deployment.root / AUDIT_FILE, key)


def _privacy_key() -> Secret:
    from ledger.privacy.secret import read_secret

    return read_secret("privacy_key", os.environ)


def _salts(deployment: Deployment, *, is_key_needed: bool = False) -> Salts:
    from ledger.privacy.salts import Salts, read_salts

    current = bytes.fromhex(deployment.user_salt_hex)
    path = deployment.root / SALTS_FILE
    if not is_key_needed and not path.exists():
        return Salts(current)
    return read_salts(path, _privacy_key(), current)


def _user_id() -> str:
    text = sys.stdin.read().strip()
    if not text:
        raise BadInput("user id: standard input is empty; write the id there, alone")
    return text


def _day(name: str, text: str) -> int:
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"{name} '{text[:40]}': it must be a day as YYYY-MM-DD") from error
    return (day - datetime.date(1970, 1, 1)).days


def _hour_ms(name: str, text: str) -> int:
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"{name} '{text[:40]}': it must be YYYY-MM-DD or YYYY-MM-DDTHH") from error
    if at.tzinfo is None:
        at = at.replace(tzinfo=datetime.UTC)
    return round(at.timestamp() * 1_000)


def _filters(texts: list[str]) -> dict[str, tuple[int | str, ...]]:
    found: dict[str, tuple[int | str, ...]] = {}
    for text in texts:
        name, is_one, values = text.partition("=")
        if not is_one or name in found:
            raise BadInput(f"where '{text[:40]}': it must be name=value,value, each name once")
        found[name] = tuple(
            int(value) if value.isdecimal() else value for value in values.split(",")
        )
    return found
