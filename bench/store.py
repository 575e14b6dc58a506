"""``python -m bench store``: what it costs to load, keep and ask events, on chDB in this process.

Events are a day of delivery as ``_day`` draws it: bids with random 128-bit ids, a tenth of them won
and shown, 40 campaigns of 8 advertisers, hashed features out of a few thousand. CPU is of this
process with all threads of the engine. Ratios have their baseline in the same run:

* ``rollup_speedup``: one question over the day's events, and over its roll-up; both answers must
  be equal.
* ``postgres_statement_ratio``: what four nodes say a second of 2,000 budgets that all of them draw
  on (``ledger.allotment``, over a unix socket, durable), over the bids that an embedded owner
  reserves and settles; absent where no server is installed. The log is in neither.
"""

from __future__ import annotations

import importlib
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ledger.analytics import EngineAnalytics
from ledger.budget import BudgetLedger
from ledger.embedded import ChdbEngine
from ledger.frame import BODY_BYTES_MAX
from ledger.loader import event_table, in_table_order
from ledger.query import Query, Scope, answer
from ledger.rollup import build_day
from market.events import DAY_MS, EVENT_DTYPE, EventFlag, EventKind
from market.snapshot import BUDGET_DTYPE

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ledger.analytics import AnalyticsEngine
    from ledger.postgres import PostgresOwner

BIDS: Final = 400_000
BATCH: Final = 50_000
SETTLED: Final = 3_000
SETTLE_BATCH: Final = 100
NODES: Final = 4
SHARED_BUDGETS: Final = 2_000
TURNS: Final = 5
_DAY: Final = 20_454
_SEED: Final = 3


def run(rounds: int) -> dict[str, object]:
    """Returns the figures; questions are medians of ``rounds``."""
    events = _day()
    found: dict[str, object] = {"events": len(events), "rounds": rounds}
    with tempfile.TemporaryDirectory() as folder:
        engine = ChdbEngine(Path(folder))
        try:
            found |= _loaded(engine, events)
            found |= _asked(engine, rounds)
        finally:
            engine.close()
    found["log_bytes_per_event"] = EVENT_DTYPE.itemsize
    found["log_frame_bytes_max"] = BODY_BYTES_MAX
    found |= _settled()
    return found


def _loaded(engine: AnalyticsEngine, events: npt.NDArray[np.void]) -> dict[str, object]:
    wall, cpu = time.perf_counter(), time.process_time()
    for at in range(0, len(events), BATCH):
        engine.insert("events", event_table(in_table_order(events[at : at + BATCH])))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    merged = time.process_time()
    engine.execute("OPTIMIZE TABLE events FINAL")
    merged = time.process_time() - merged
    ((size, rows),) = engine.execute(
        "SELECT sum(bytes_on_disk) AS size, sum(rows) AS n FROM system.parts "
        "WHERE database = currentDatabase() AND table = 'events' AND active"
    ).rows
    return {
        "load_events_per_s": round(len(events) / wall),
        "load_cpu_us_per_event": round(1e6 * cpu / len(events), 3),
        "merge_cpu_us_per_event": round(1e6 * merged / len(events), 3),
        "table_bytes_per_event": round(float(str(size)) / float(str(rows)), 1),
    }


def _asked(engine: AnalyticsEngine, rounds: int) -> dict[str, object]:
    analytics = EngineAnalytics(engine)
    query = Query(
        ("bids", "impressions", "clicks", "ctr", "spend_micros"),
        _DAY * DAY_MS, (_DAY + 2) * DAY_MS, dimensions=("day", "campaign_id"),
    )  # fmt: skip
    scope = Scope(None)
    counted = answer(analytics, scope, query)
    events_s = _median_s(lambda: answer(analytics, scope, query), rounds)
    cpu = time.process_time()
    row_count = build_day(engine, _DAY)
    cpu = time.process_time() - cpu
    rolled = answer(analytics, scope, query)
    assert rolled.rows == counted.rows, "a roll-up says something else than its events"
    assert (rolled.days_rolled, counted.days_rolled) == (1, 0)
    rollup_s = _median_s(lambda: answer(analytics, scope, query), rounds)
    ((size,),) = engine.execute(
        "SELECT sum(bytes_on_disk) AS size FROM system.parts "
        "WHERE database = currentDatabase() AND table = 'delivery_hours' AND active"
    ).rows
    ((events,),) = engine.execute("SELECT count() AS n FROM events").rows
    return {
        "query_events_ms": round(1e3 * events_s, 2),
        "query_rollup_ms": round(1e3 * rollup_s, 2),
        "rollup_speedup": round(events_s / rollup_s, 1),
        "rollup_cpu_us_per_event": round(1e6 * cpu / float(str(events)), 3),
        "rollup_rows_per_day": row_count,
        "rollup_bytes_per_row": round(float(str(size)) / row_count, 1),
    }


def _settled() -> dict[str, object]:
    """Reservations and settlements of both owners, the same bids in the same batches."""
    bids = _bids_to_settle()
    embedded = BudgetLedger()
    embedded.define(budgets())
    embedded.grant(embedded.top_up(0, 1))
    begun = time.perf_counter()
    for at in range(0, SETTLED, SETTLE_BATCH):
        batch = bids[at : at + SETTLE_BATCH]
        embedded.reserve(batch, 0)
        for slot in range(SETTLE_BATCH):
            key = int(batch["bid_hi"][slot]) << 64 | int(batch["bid_lo"][slot])
            found = embedded.bids.find(key)
            assert found is not None
            bid = embedded.bids.reservation(found)
            judged = embedded.judge(found, bid, 50, 5)
            embedded.settle(found, bid, judged.amount_micros, is_late=False)
    embedded_s = time.perf_counter() - begun
    result: dict[str, object] = {"embedded_settle_per_s": round(SETTLED / embedded_s)}
    servers: Any = importlib.import_module("tests.ledger.postgres_server")
    tools = servers.tools()
    if tools is None:
        return result
    server = servers.PostgresServer(tools)
    try:
        statements_per_s = _turned(server.new_database())
    finally:
        server.stop()
    return {
        **result,
        "postgres_statements_per_s": round(statements_per_s),
        "postgres_statement_ratio": round(statements_per_s * embedded_s / SETTLED, 4),
    }


def _turned(url: str) -> float:
    """Statements a second of nodes that share all their budgets, their own CPU in it."""
    postgres: Any = importlib.import_module("ledger.postgres")
    allotment: Any = importlib.import_module("ledger.allotment")
    owners = [postgres.PostgresOwner(url) for _ in range(NODES)]
    for i, owner in enumerate(owners):
        owner.open(f"node-{i}", f"log-{i}", 0)

    def turn(owner: PostgresOwner, number: int) -> None:
        spent = 100 * number
        owner.turn(
            number,
            [
                allotment.Statement(
                    budget_id, 0, 10**12, 2**62, 1_000_000 + spent, spent, 0, 0, 100, 50_000, 1_000
                )
                for budget_id in range(SHARED_BUDGETS)
            ],
        )

    def turns(owner: PostgresOwner) -> None:
        for number in range(1, TURNS + 1):
            turn(owner, number)

    for owner in owners:
        turn(owner, 0)
    with ThreadPoolExecutor(NODES) as pool:
        begun = time.perf_counter()
        list(pool.map(turns, owners))
        took_s = time.perf_counter() - begun
    for owner in owners:
        owner.close()
    return NODES * TURNS * SHARED_BUDGETS / took_s


def budgets() -> npt.NDArray[np.void]:
    """One budget that is never spent."""
    made = np.zeros(1, BUDGET_DTYPE)
    made["budget_id"], made["limit_micros"], made["end_at_ms"] = 1, 10**12, 2**62
    return made


def _bids_to_settle() -> npt.NDArray[np.void]:
    rng = np.random.default_rng(_SEED)
    bids = np.zeros(SETTLED, EVENT_DTYPE)
    bids["kind"] = EventKind.BID
    bids["bid_hi"], bids["bid_lo"] = rng.integers(0, 2**64, (2, SETTLED), np.uint64)
    bids["deadline_ms"], bids["amount_micros"] = 1_000_000, 100
    bids["budgets"][:, 0] = 1
    return bids


def _day() -> npt.NDArray[np.void]:
    """[N] events of one day, in the order in which they were received."""
    rng = np.random.default_rng(_SEED)
    bids = np.zeros(BIDS, EVENT_DTYPE)
    for name in ("bid_hi", "bid_lo", "opportunity_hi", "opportunity_lo"):
        bids[name] = rng.integers(0, 2**64, BIDS, np.uint64)
    users = rng.integers(1, 2**64, BIDS // 4, np.uint64)
    bids["user_key"] = users[rng.zipf(1.3, BIDS) % len(users)]
    bids["bid_ms"] = _DAY * DAY_MS + np.sort(rng.integers(0, DAY_MS, BIDS))
    bids["deadline_ms"] = bids["bid_ms"] + 600_000
    bids["campaign_id"] = rng.zipf(1.4, BIDS) % 40 + 1
    bids["advertiser_id"] = bids["campaign_id"] % 8 + 1
    bids["line_item_id"] = bids["campaign_id"] * 4 + rng.integers(0, 4, BIDS)
    bids["creative_id"] = bids["line_item_id"] * 4 + rng.integers(0, 4, BIDS)
    bids["exchange"] = rng.integers(1, 6, BIDS)
    bids["format"] = 1
    bids["bid_currency"] = bids["account_currency"] = 840
    for name in ("price_cpm_micros", "floor_cpm_micros", "value_micros"):
        bids[name] = rng.lognormal(14, 0.7, BIDS)
    bids["amount_micros"] = bids["price_cpm_micros"] // 1_000
    bids["features"] = rng.zipf(1.3, bids["features"].shape) % 4_096
    bids["budgets"][:, :2] = rng.integers(1, 2**64, (40, 2), np.uint64)[bids["campaign_id"] - 1]
    for name in ("pctr", "pcvr"):
        bids[name] = rng.beta(2, 50, BIDS)
    bids["propensity"] = bids["weight"] = bids["shading_factor"] = 1.0
    bids["rate_micros"] = bids["quantity_micros"] = 1_000_000
    bids["size"] = (300 << 16) | 250
    parts: list[npt.NDArray[np.void]] = []
    shown = rng.random(BIDS) < 0.1
    clicked = shown & (rng.random(BIDS) < 0.02)
    for kind, chosen, delay_ms in (
        (EventKind.BID, np.ones(BIDS, np.bool_), 0),
        (EventKind.LOSS, ~shown & (rng.random(BIDS) < 0.5), 200),
        (EventKind.BILLING, shown, 900),
        (EventKind.IMPRESSION, shown, 1_500),
        (EventKind.CLICK, clicked, 9_000),
    ):
        part = bids[chosen]
        part["kind"] = kind
        part["ts_ms"] = part["bid_ms"] + delay_ms
        part["recv_ms"] = part["ts_ms"] + 2
        # As good as the ids that are derived: 128 bits that do not compress.
        part["id_hi"], part["id_lo"] = rng.integers(0, 2**64, (2, len(part)), np.uint64)
        part["flags"] = int(EventFlag.CHARGED) if kind == EventKind.BILLING else 0
        parts.append(part)
    events = np.concatenate(parts)
    return events[np.argsort(events["recv_ms"], kind="stable")]


def _median_s(ask: Callable[[], object], rounds: int) -> float:
    times: list[float] = []
    for _ in range(rounds):
        begun = time.perf_counter()
        ask()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)
