"""The reader of our own ledger: events of bids, joined by bid id, into rows.

Reads a run folder or folder of segments (``ledger.segment``), or a Parquet file with the columns of
``market.events.EVENT_DTYPE``. What is known of the market price of a bid (the highest price that
somebody else would have paid):

* a loss notice that tells the price to win: that price; one that does not: it is above the bid
* a win that tells the least price that would have won: that price, where it was the floor at most
  the floor; a win that does not: below what was paid, or, where less was paid than bid, that
* lost for another reason than price, or no notice yet: nothing is known
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.segment import RECORDS, SegmentReader
from market.errors import BadInput
from market.events import EVENT_DTYPE, EventFlag, EventKind, read_events
from market.features import CONTEXT_BUCKETS, CONTEXT_DIMENSIONS
from market.money import CURRENCY_NUMBERS, PRICE_CPM_MICROS_MAX
from market.opportunity import Dimension
from simulator.calibration.log import (
    F64,
    HOUR_MS,
    NEVER,
    BadLine,
    Log,
    Reading,
    joined_scenes,
    rows_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCENE_ROWS_MIN = 200
"""Bids that a placement needs to be told apart from the rest."""

OUTBID: Final = 102
"""OpenRTB loss reason: lost to a higher bid."""

_READ_BYTES = 64 << 20
_PLACEMENT = CONTEXT_DIMENSIONS.index(Dimension.PLACEMENT)
_Events = npt.NDArray[np.void]


def read_ledger(path: Path, on_read: Callable[[int], None] | None = None) -> Reading:
    """Returns the log of a ledger.

    Args:
        path: a folder with ``*.seg`` files, a run folder with such in ``segments``, or a Parquet
            file of events.
        on_read: told how many events were read so far.

    Raises:
        BadInput: there is no log there, or it mixes currencies or exchanges.
        Corrupt: the segment log is damaged (``ledger.segment`` says where).
    """
    if path.is_dir():
        folder = path / "segments" if (path / "segments").is_dir() else path
        events = _segment_events(folder, on_read)
    else:
        events = _parquet_events(path)
    return reading_of(events, path.name)


def reading_of(events: _Events, name: str) -> Reading:
    """Returns the log of [N] events of EVENT_DTYPE in the order in which they were recorded.

    Raises:
        BadInput: the events are of several exchanges or in several currencies.
    """
    counts = {"events": int(events.shape[0])}
    fault = _faults(events)
    bad = [
        BadLine(name, int(row) + 1, _RULES[fault[row]], _told(events[row]))
        for row in np.flatnonzero(fault)
    ]
    kept = events[fault == 0]
    number = np.flatnonzero(fault == 0)
    is_test = (kept["flags"] & EventFlag.TEST) != 0
    counts["of test requests"] = int(is_test.sum())
    kept, number = kept[~is_test], number[~is_test]
    _, first = np.unique(kept[["id_hi", "id_lo"]], return_index=True)
    counts["repeated"] = int(kept.shape[0] - first.shape[0])
    first.sort()
    kept, number = kept[first], number[first]
    bids = kept[kept["kind"] == EventKind.BID]
    _check_one(bids, "exchange", "exchanges")
    _check_one(bids, "bid_currency", "currencies")
    order = np.lexsort((bids["bid_lo"], bids["bid_hi"]))
    bids = bids[order]
    place = _place_of(bids, kept)
    is_orphan = (place < 0) & (kept["kind"] != EventKind.NO_BID)
    bad += [
        BadLine(name, int(number[row]) + 1, "no bid of this id in the log", _told(kept[row]))
        for row in np.flatnonzero(is_orphan)
    ]
    log = _log_of(bids, kept, place, counts)
    return Reading(log, tuple(bad), counts)


def _segment_events(folder: Path, on_read: Callable[[int], None] | None) -> _Events:
    if not any(folder.glob("*.seg")):
        raise BadInput(f"log '{folder}': no *.seg file; it must be a run or segment folder")
    reader = SegmentReader(folder, RealDisk(), EVENT_LOG)
    parts: list[_Events] = []
    count = 0
    while frames := reader.read(_READ_BYTES):
        for frame in frames:
            if frame.kind == RECORDS:
                parts.append(read_events(frame.body, frame.schema_version))
                count += parts[-1].shape[0]
        if on_read is not None:
            on_read(count)
    return np.concatenate([np.zeros(0, EVENT_DTYPE), *parts])


def _parquet_events(path: Path) -> _Events:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"log '{path}': {error}; it must be a Parquet file of events") from error
    names = EVENT_DTYPE.names or ()
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise BadInput(f"log '{path}': lacks the columns {', '.join(missing)} of an event")
    events = np.zeros(table.num_rows, EVENT_DTYPE)
    for name in names:
        column = table[name].combine_chunks()
        shape = EVENT_DTYPE[name].shape
        flat = column.flatten() if shape else column
        if flat.null_count or (shape and len(flat) != table.num_rows * shape[0]):
            raise BadInput(
                f"log '{path}': column {name} has empty cells or lists of another length"
            )
        events[name] = flat.to_numpy(zero_copy_only=False).reshape(events.shape[0], *shape)
    return events


_RULES: Final = {
    1: "kind is none of EventKind",
    2: "ts_ms and bid_ms must be above 0, and ts_ms not before bid_ms",
    3: "price must be 0 to the highest allowed price, and above 0 for a bid",
    4: "floor must not be negative",
    5: "weight must be a number above 0",
}


def _faults(events: _Events) -> npt.NDArray[np.int64]:
    """Returns [N] the first rule of ``_RULES`` that an event breaks; 0 = none."""
    kind, price = events["kind"], events["price_cpm_micros"]
    is_price = (price >= 0) & (price <= PRICE_CPM_MICROS_MAX)
    is_price &= (kind != EventKind.BID) | (price > 0)
    is_time = (events["ts_ms"] > 0) & (events["bid_ms"] > 0)
    is_time &= events["ts_ms"] >= events["bid_ms"]
    # A no-bid has no bid: it is told by its own time.
    is_time |= (kind == EventKind.NO_BID) & (events["ts_ms"] > 0)
    is_weight = np.isfinite(events["weight"]) & (events["weight"] > 0)
    rules = (
        np.isin(kind, [int(known) for known in EventKind]), is_time, is_price,
        events["floor_cpm_micros"] >= 0, is_weight | (kind != EventKind.NO_BID),
    )  # fmt: skip
    fault = np.zeros(events.shape[0], np.int64)
    for code in range(len(rules), 0, -1):
        fault[~rules[code - 1]] = code
    return fault


def _told(event: np.void) -> str:
    names = ("kind", "ts_ms", "bid_ms", "bid_hi", "bid_lo", "price_cpm_micros", "weight")
    return " ".join(f"{name}={event[name]}" for name in names)


def _check_one(bids: _Events, field: str, many: str) -> None:
    found = np.unique(bids[field])
    if found.shape[0] > 1:
        raise BadInput(
            f"log of several {many}: {', '.join(map(str, found.tolist()))}; a market has one, so "
            f"split the log by {field} first"
        )


def _place_of(bids: _Events, events: _Events) -> npt.NDArray[np.int64]:
    """Returns [N] row of the event's bid in ``bids`` (sorted by bid id); -1 = not there."""
    keys = bids[["bid_hi", "bid_lo"]]
    wanted = events[["bid_hi", "bid_lo"]]
    both = np.concatenate((keys, wanted))
    _, inverse = np.unique(both, return_inverse=True)
    row = np.full(both.shape[0], -1, np.int64)
    row[inverse[: keys.shape[0]]] = np.arange(keys.shape[0])
    return row[inverse[keys.shape[0] :]]


def _log_of(
    bids: _Events, events: _Events, place: npt.NDArray[np.int64], counts: dict[str, int]
) -> Log:
    count = bids.shape[0]
    rows = {kind: np.flatnonzero((events["kind"] == kind) & (place >= 0)) for kind in EventKind}

    def column(kind: EventKind, name: str, nothing: int) -> npt.NDArray[np.int64]:
        out = np.full(count, nothing, np.int64)
        # The first of its kind counts: what comes later under another id tells the same bid.
        own = rows[kind][::-1]
        out[place[own]] = events[name][own].astype(np.int64)
        return out

    bid = bids["price_cpm_micros"].astype(np.int64)
    floor = bids["floor_cpm_micros"].astype(np.int64)
    paid = column(EventKind.WIN, "price_cpm_micros", -1)
    paid = np.where(paid < 0, column(EventKind.BILLING, "price_cpm_micros", -1), paid)
    has_won = paid >= 0
    least, most, is_decided = _market_price(
        bid, floor, np.maximum(paid, 0), has_won,
        column(EventKind.WIN, "floor_cpm_micros", -1),
        column(EventKind.LOSS, "price_cpm_micros", -1),
        column(EventKind.LOSS, "reason", -1),
    )  # fmt: skip
    counts["bids without an outcome"] = int((~has_won & (is_decided == 0)).sum())
    end_ms = int(events["ts_ms"].max()) + 1 if events.shape[0] else 0
    click = column(EventKind.CLICK, "ts_ms", -1)
    order = column(EventKind.CONVERSION, "ts_ms", -1)
    is_clicked = click >= 0
    counts["conversions without a click"] = int(((order >= 0) & ~is_clicked).sum())
    is_converted = is_clicked & (order >= click)
    delay = np.where(is_converted, order - click, -1)
    placement, inverse, row_counts = np.unique(
        bids["features"][:, _PLACEMENT], return_inverse=True, return_counts=True
    )
    names = [f"placement {int(row) - _PLACEMENT * CONTEXT_BUCKETS}" for row in placement]
    new_row, scenes = joined_scenes(names, row_counts, SCENE_ROWS_MIN)
    by_time = np.argsort(bids["ts_ms"], kind="stable")
    hour_first, requests, covered, unit = _requests(events)
    log = Log(
        source="ledger",
        currency=_currency(bids),
        hour_first=hour_first,
        requests=requests,
        request_unit=unit,
        covered=covered,
        scenes=scenes or ("all",),
        at_ms=bids["ts_ms"].astype(np.int64),
        key_hi=bids["opportunity_hi"].astype(np.uint64),
        key_lo=bids["opportunity_lo"].astype(np.uint64),
        user=bids["user_key"].astype(np.uint64),
        scene=new_row[inverse].astype(np.int32),
        bid_cpm_micros=bid,
        floor_cpm_micros=floor,
        least_cpm_micros=least,
        most_cpm_micros=most,
        has_won=has_won.astype(np.uint8),
        is_decided=is_decided,
        paid_cpm_micros=np.maximum(paid, 0),
        clicked=is_clicked.astype(np.uint8),
        converted=is_converted.astype(np.uint8),
        delay_ms=delay,
        followed_ms=np.where(is_clicked, end_ms - click, -1),
        delay_tick_ms=_tick_ms(delay),
        end_ms=end_ms,
    )
    return rows_of(log, by_time)


def _market_price(
    bid: npt.NDArray[np.int64],
    floor: npt.NDArray[np.int64],
    paid: npt.NDArray[np.int64],
    has_won: npt.NDArray[np.bool_],
    told_at_win: npt.NDArray[np.int64],
    told_at_loss: npt.NDArray[np.int64],
    loss_reason: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Returns [N] each: least and most market price, and whether price decided.

    A win that was not told the price repeats the floor of its bid; so where no win says anything
    else than its floor, nothing was told.
    """
    least = np.zeros(bid.shape[0], np.int64)
    most = np.full(bid.shape[0], NEVER)
    has_lost = (loss_reason == OUTBID) & ~has_won
    is_told = has_lost & (told_at_loss > 0)
    least = np.where(is_told, told_at_loss, np.where(has_lost, bid, least))
    most = np.where(is_told, told_at_loss, most)
    wins_tell = bool((has_won & (told_at_win > 0) & (told_at_win != floor)).any())
    is_exact = has_won & (told_at_win > 0) & (told_at_win > np.maximum(floor, 1)) & wins_tell
    is_below_floor = has_won & (told_at_win > 0) & ~is_exact & wins_tell
    is_second = has_won & ~is_exact & ~is_below_floor & (paid < bid) & (paid > floor)
    least = np.where(is_exact, told_at_win, np.where(is_second, paid, least))
    most = np.where(has_won, np.where(is_exact, told_at_win, paid), most)
    most = np.where(is_below_floor, np.maximum(floor, 1), most)
    return least, most, (has_won | has_lost).astype(np.uint8)


def _requests(events: _Events) -> tuple[int, F64, F64, float]:
    """Returns the first hour, [H] requests and share covered, and ``Log.request_unit``.

    Requests are bids and no-bids, those weighted by how many they stand for.
    """
    is_request = np.isin(events["kind"], [int(EventKind.BID), int(EventKind.NO_BID)])
    asked = events[is_request]
    if not asked.shape[0]:
        return 0, np.zeros(0), np.zeros(0), 1.0
    weight = np.where(asked["kind"] == EventKind.NO_BID, asked["weight"], 1.0)
    first, last = int(asked["ts_ms"].min()), int(asked["ts_ms"].max())
    hour = asked["ts_ms"] // HOUR_MS - first // HOUR_MS
    requests = np.bincount(hour, weights=weight).astype(np.float64)
    covered = np.ones(requests.shape[0])
    covered[0] -= first % HOUR_MS / HOUR_MS
    end = last % HOUR_MS + _step_ms(asked["ts_ms"])
    covered[-1] -= 1.0 - min(end / HOUR_MS, 1.0)
    unit = float(np.sum(weight**2) / np.sum(weight))
    return first // HOUR_MS, requests, covered, max(unit, 1.0)


def _step_ms(at_ms: npt.NDArray[np.int64]) -> int:
    """Returns the step of the clock that the times are told on: an episode's slice, or 1 ms."""
    steps = np.diff(np.unique(at_ms))
    return int(np.gcd.reduce(steps)) if steps.shape[0] else 1


def _tick_ms(delay: npt.NDArray[np.int64]) -> int:
    known = delay[delay > 0]
    return int(np.gcd.reduce(known)) if known.shape[0] > 1 else 1


def _currency(bids: _Events) -> str:
    if not bids.shape[0]:
        return ""
    by_number = {number: name for name, number in CURRENCY_NUMBERS.items()}
    return by_number.get(int(bids["bid_currency"][0]), str(bids["bid_currency"][0]))
