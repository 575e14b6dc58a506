"""Small logs whose truth is known, for the tests of calibration."""

from __future__ import annotations

import numpy as np

from market.chance import Purpose
from market.events import EVENT_DTYPE, EventKind
from simulator.calibration.log import HOUR_MS, NEVER, Log
from simulator.kernels import normal_table, uniform_table

DAY_MS = 24 * HOUR_MS
START_MS = 1_767_139_200_000
"""A midnight in UTC."""


def uniforms(seed, count):
    keys = np.arange(count, dtype=np.uint64)
    return uniform_table(
        seed, int(Purpose.NOISE), np.zeros_like(keys), keys, np.zeros(1, np.int64)
    )[:, 0]


def normals(seed, count):
    keys = np.arange(count, dtype=np.uint64)
    return normal_table(seed, int(Purpose.NOISE), np.zeros_like(keys), keys, 1)[:, 0]


def bid_log(
    count=6_000, *, days=2, seed=1, presence=0.8, median=2.0, sigma=0.5, floor=0.5,
    ctr=(0.1, 0.2), cvr=0.4, delay_ms=1_200_000, delay_sigma=0.8, told=True,
):  # fmt: skip
    """A ledger's log of one log-normal rival, first price; draws have nothing to do with the twin.

    ``told`` says whether the exchange tells the price to win.
    """
    u = [uniforms(seed + n, count) for n in range(6)]
    at_ms = np.sort((START_MS + u[0] * days * DAY_MS).astype(np.int64))
    scene = (u[1] * len(ctr)).astype(np.int32)
    bid = np.rint(1e6 * median * np.exp(0.6 * normals(seed + 20, count))).astype(np.int64)
    floors = np.full(count, round(floor * 1e6), np.int64)
    bid = np.maximum(bid, floors)
    rival = np.rint(1e6 * median * np.exp(sigma * normals(seed + 21, count))).astype(np.int64)
    rival = np.where((u[2] < presence) & (rival >= floors), rival, 0)
    won = bid > rival
    least = np.where(rival > 0, rival, 0)
    most = np.where(rival > 0, rival, floors)
    if not told:
        least, most = np.where(won, 0, bid), np.where(won, bid, NEVER)
    clicked = won & (u[3] < np.array(ctr)[scene])
    delay = np.rint(delay_ms * np.exp(delay_sigma * normals(seed + 22, count))).astype(np.int64)
    end_ms = START_MS + days * DAY_MS
    followed = np.where(clicked, end_ms - at_ms, -1)
    converted = clicked & (u[4] < cvr) & (delay <= followed)
    hours = at_ms // HOUR_MS - START_MS // HOUR_MS
    return Log(
        source="ledger", currency="USD", hour_first=START_MS // HOUR_MS,
        requests=np.bincount(hours, minlength=24 * days).astype(float), request_unit=1.0,
        covered=np.ones(24 * days),
        scenes=tuple(f"slot {n}" for n in range(len(ctr))), at_ms=at_ms,
        key_hi=np.full(count, seed, np.uint64), key_lo=np.arange(count, dtype=np.uint64),
        user=np.zeros(count, np.uint64), scene=scene, bid_cpm_micros=bid,
        floor_cpm_micros=floors, least_cpm_micros=least, most_cpm_micros=most,
        has_won=won.astype(np.uint8), is_decided=np.ones(count, np.uint8),
        paid_cpm_micros=np.where(won, bid, 0), clicked=clicked.astype(np.uint8),
        converted=converted.astype(np.uint8), delay_ms=np.where(converted, delay, -1),
        followed_ms=followed, delay_tick_ms=1, end_ms=end_ms,
    )  # fmt: skip


def ipinyou_text(hours, rows_per_hour, *, price=60, spread=0.8, click_every=50, seed=3):
    """Lines ``click price pctr hour``, prices log-normal in whole fen."""
    count = len(hours) * rows_per_hour
    prices = np.rint(price * np.exp(spread * normals(seed, count))).astype(int)
    lines = [
        f"{int(row % click_every == 0)}\t{prices[row]}\t0.000500\t{hours[row // rows_per_hour]}"
        for row in range(count)
    ]
    return "\n".join(lines) + "\n"


def event(kind, bid, *, ts_ms=START_MS, bid_ms=None, **fields):
    """One record of the ledger; ``bid`` is the low word of its bid id."""
    record = np.zeros(1, EVENT_DTYPE)
    record["kind"], record["bid_lo"], record["id_hi"] = kind, bid, kind
    record["id_lo"], record["ts_ms"] = bid, ts_ms
    record["bid_ms"] = ts_ms if bid_ms is None else bid_ms
    record["bid_currency"], record["exchange"], record["weight"] = 840, 1, 1.0
    if kind == EventKind.BID:
        record["opportunity_lo"], record["price_cpm_micros"] = bid, 2_000_000
    for name, value in fields.items():
        record[name] = value
    return record
