"""Bids, notices, snapshots and logs for the tests of the money."""

from __future__ import annotations

import numpy as np

from ledger.record import Recorder
from ledger.segment import CONTROL, RECORDS, Frame
from market.errors import NotReady
from market.events import EVENT_DTYPE, SCHEMA_VERSION, EventFlag, EventKind
from market.exchange import DEFAULT_EXCHANGES
from market.notices import Token
from market.protocols import Notice
from market.snapshot import (
    BUDGET_DTYPE,
    CREATIVE_DTYPE,
    LINE_ITEM_DTYPE,
    CreativeText,
    Snapshot,
    SnapshotArrays,
    SnapshotHead,
)

FAR_MS = 2**62
BANNER, VIDEO = 1, 2


def bid_event(
    number,
    *,
    worker=0,
    budgets=(1,),
    caps=(),
    reserved=100,
    bid_ms=0,
    deadline_ms=1_000,
    line_item_id=7,
    creative_id=70,
    exchange=1,
    shown=BANNER,
    is_test=False,
    rate=1_000_000,
    quantity=1_000_000,
    pctr=0.5,
    pcvr=0.25,
):
    """One BID, [1] of EVENT_DTYPE; its bid id is (number, number + 1)."""
    event = np.zeros(1, EVENT_DTYPE)
    for name, value in {
        "kind": EventKind.BID, "bid_hi": number, "bid_lo": number + 1, "opportunity_hi": number,
        "ts_ms": bid_ms, "bid_ms": bid_ms, "deadline_ms": deadline_ms, "user_key": 99,
        "price_cpm_micros": reserved * 1_000, "amount_micros": reserved, "value_micros": 5,
        "advertiser_id": 1, "campaign_id": 2, "line_item_id": line_item_id,
        "creative_id": creative_id, "exchange": exchange, "bid_currency": 840,
        "account_currency": 840, "worker": worker, "format": shown, "pctr": pctr, "pcvr": pcvr,
        "flags": EventFlag.TEST if is_test else 0, "weight": 1.0, "rate_micros": rate,
        "quantity_micros": quantity,
    }.items():  # fmt: skip
        event[name] = value
    event["budgets"][0, : len(budgets)] = budgets
    event["caps"][0, : len(caps)] = caps
    event["features"][0] = range(12)
    return event


def no_bid_event(number, *, ts_ms=0, worker=0):
    event = np.zeros(1, EVENT_DTYPE)
    event["kind"] = EventKind.NO_BID
    event["opportunity_hi"], event["opportunity_lo"] = number, 1
    event["ts_ms"], event["weight"], event["worker"] = ts_ms, 64.0, worker
    return event


def token_of(event):
    """The token that the worker signs for a bid."""
    bid = event[0]
    return Token(
        int(bid["bid_hi"]), int(bid["bid_lo"]), int(bid["advertiser_id"]), int(bid["campaign_id"]),
        int(bid["line_item_id"]), int(bid["creative_id"]), int(bid["amount_micros"]),
        int(bid["rate_micros"]), int(bid["quantity_micros"]), int(bid["bid_ms"]),
        int(bid["deadline_ms"]), int(bid["exchange"]), int(bid["bid_currency"]),
        int(bid["account_currency"]), int(bid["format"]),
        int(bool(int(bid["flags"]) & EventFlag.TEST)), int(bid["worker"]),
    )  # fmt: skip


def notice(kind, number, at_ms=0, price=0, **rest):
    """A notice of bid ``number`` with a price per impression (the CPM is a thousand times it)."""
    return Notice(kind, number, number + 1, at_ms, price * 1_000, **rest)


def budgets_array(limits, *, end_at_ms=FAR_MS):
    rows = np.zeros(len(limits), BUDGET_DTYPE)
    rows["budget_id"] = list(limits)
    rows["limit_micros"] = list(limits.values())
    rows["end_at_ms"] = end_at_ms
    rows["currency"] = 840
    return rows


def snapshot_of(limits, *, line_items=None, creatives=None, version=1):
    """A snapshot with budgets {id: limit}, line items {id: budget rows} and landing pages."""
    line_items = {7: (0,)} if line_items is None else line_items
    creatives = {70: "https://shop.example/page"} if creatives is None else creatives
    arrays = {
        name: np.zeros(0, np.uint64)
        for name in SnapshotArrays._fields
        if name not in ("line_items", "creatives", "budgets")
    }
    items = np.zeros(len(line_items), LINE_ITEM_DTYPE)
    for row, (line_item_id, budget_rows) in enumerate(line_items.items()):
        items[row]["line_item_id"] = line_item_id
        items[row]["is_used"] = 1
        items[row]["budget_rows"] = (*budget_rows, -1, -1, -1)[:3]
    shown = np.zeros(len(creatives), CREATIVE_DTYPE)
    shown["creative_id"] = list(creatives)
    head = SnapshotHead(
        version=version, model_version=1, policy_version=1, intent_version=1, created_at_ms=0,
        seed=1, seats={},
        creatives=tuple(CreativeText(("",), url, "", "", "", "") for url in creatives.values()),
    )  # fmt: skip
    return Snapshot(
        head,
        SnapshotArrays(line_items=items, creatives=shown, budgets=budgets_array(limits), **arrays),
    )


class CrashingLog:
    """A log whose uncommitted frames are lost in a crash, on a disk that can be full."""

    def __init__(self):
        self.durable = []
        self.pending = []
        self.is_full = False

    def append(self, kind, body):
        self.pending.append((kind, bytes(body)))
        return len(self.durable) + len(self.pending)

    def commit(self):
        if self.is_full and self.pending:
            raise NotReady("the disk is full")
        self.durable += self.pending
        self.pending = []
        return len(self.durable)

    def crash(self):
        self.pending = []

    def frames(self):
        return [
            Frame(sequence=n, kind=kind, schema_version=SCHEMA_VERSION, body=body)
            for n, (kind, body) in enumerate(self.durable, 1)
        ]

    def events(self):
        bodies = [body for kind, body in self.durable if kind == RECORDS]
        return np.frombuffer(b"".join(bodies), EVENT_DTYPE)

    def control_count(self):
        return sum(kind == CONTROL for kind, _ in self.durable)


def recorder(limits, *, worker_count=1, log=None, now_ms=0):
    """A core that knows these budgets and has granted its first leases."""
    core = Recorder(DEFAULT_EXCHANGES, worker_count)
    core.write_to(CrashingLog() if log is None else log)
    core.take_snapshot(snapshot_of(limits, line_items={7: tuple(range(len(limits)))[:3]}))
    core.step(now_ms)
    return core


def rebuilt(core, log):
    """A core rebuilt from what is durable in ``log``, with the limits of ``core``."""
    again = Recorder(DEFAULT_EXCHANGES, core._worker_count)
    for frame in log.frames():
        again.replay(frame)
    totals = core.ledger.totals()
    again.ledger.define(budgets_array({total.budget_id: total.limit_micros for total in totals}))
    return again


def fingerprint(core):
    """Everything about money and bids that a rebuilt core must have in common with the live one."""
    ledger = core.ledger
    leases = {
        (budget_id, worker): (lease.held_micros, lease.open_micros)
        for budget_id, budget in ledger._budgets.items()
        for worker, lease in budget.leases.items()
        if lease.held_micros or lease.open_micros
    }
    bids = {
        key: (ledger.bids.state[slot], ledger.bids.seen[slot], ledger.bids.orders.get(slot))
        for key, slot in ledger.bids.items()
    }
    view = core.view(0)
    return ledger.totals(), leases, bids, view.line_items, view.creatives, ledger.unfunded_count


def credits_of(core, worker=0):
    """What the worker is due, {(kind, key): amount}; taken out of the core."""
    due = core.credits(worker, 1_000_000)
    return {(int(kind), int(key)): int(amount) for key, amount, kind in due.tolist()}
