"""A request's bytes to its answer's bytes in one call: read, decide, render.

Nothing is done here that is not done in the kernels it calls; it saves the way back to Python
between them, which takes as long as they do.
"""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bidder.kernels import decide_block
from bidder.kernels_bundle import Kind, opened
from bidder.native.kernels_render import render
from bidder.native.kernels_request import read_bundled
from bidder.native.wire import Count
from market.kernel import bare_kernel as kernel

if TYPE_CHECKING:
    import numpy.typing as npt

_RECORDS = int(Count.RECORDS)
_TMAX = int(Count.TMAX_MS)
_WHOLE = int(Count.REQUEST_REFUSAL)
_TAXONOMY = int(Count.TAXONOMY)
_MS = np.int64(1_000_000)

# Columns of ``limits``: what an exchange leaves for an answer.
LIMIT_DEFAULT_MS = 0
LIMIT_BUFFER_MS = 1
LIMIT_OWN_NS = 2
LIMIT_WAITS = 3
LIMIT_COUNT = 4

# Places in ``told``: how far it came, and what Python goes on with.
TOLD_PHASE = 0
TOLD_ALLOWED_NS = 1
TOLD_COUNT = 2
TOLD_ROW = 3
"""Line item row of the first record, -1 = no bid."""
TOLD_REASON = 4
TOLD_FORMAT = 5
TOLD_PLACES = 6

UNREAD = 0
"""The reader left it; nothing but scratch was written, and the result is minus its `Bail`."""
REFUSED = 1
"""Too late, or refused as a whole: read, nothing decided."""
DECIDED = 2
"""Decided; the result is the renderer's."""


@kernel
def decide_read(
    address: int, kind: Kind, records: npt.NDArray[np.void], codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void], count: int, worker: int, seed: int, sample_rate: float,
    decisions: npt.NDArray[np.void], events: npt.NDArray[np.void],
) -> None:  # fmt: skip
    """Decides the first ``count`` records of a request in order, as `bidder.desk.Desk.decide` does.

    A response has one currency: after the first bid the later records may only use that one.
    """
    currency = 0
    for n in range(count):
        if currency != 0:
            currencies = records[n]["currencies"]
            for place in range(1, currencies.shape[0]):
                currencies[place] = 0
            currencies[0] = currency
        decide_block(
            address, kind, records[n : n + 1], codes, deals, worker, seed, sample_rate,
            decisions[n : n + 1], events[n : n + 1],
        )  # fmt: skip
        if decisions[n]["line_item_row"] >= 0:
            currency = np.int64(decisions[n]["bid_currency"])


@kernel
def answer_bundled(
    reading: int, reading_kind: Kind, deciding: int, deciding_kind: Kind, writing: int,
    writing_kind: Kind, first: int, last: int, lane: int, arrival_ms: int, spent_ns: int,
    suffix: int,
) -> int:  # fmt: skip
    """Answers the body at [first, last) of the buffer; returns what ``told[TOLD_PHASE]`` says.

    Args:
        reading: address of the bundle of ``read_bundled``, with ``reading_kind``.
        reading_kind: see there.
        deciding: address of the decider's bundle, with ``deciding_kind``.
        deciding_kind: see there.
        writing: address of a bundle of (limits [lanes, LIMIT_COUNT] int64, settings [2] int64:
            worker and seed, sample_rate [1] float64, decisions, events, fragments, signing, out,
            told [TOLD_PLACES] int64).
        writing_kind: see there.
        first: of the body.
        last: past its end.
        lane: of the exchange.
        arrival_ms: epoch milliseconds, the decision's now.
        spent_ns: of the exchange's time, with what deciding will take.
        suffix: as `bidder.native.kernels_render.render` takes it.
    """
    limits, settings, sample_rate, decisions, events, fragments, signing, out, told = opened(
        writing, writing_kind
    )
    told[TOLD_PHASE] = UNREAD
    cause = read_bundled(reading, reading_kind, first, last, lane, arrival_ms)
    if cause != 0:
        return -cause
    body, _, _, _, wire = opened(reading, reading_kind)
    counts = wire.counts
    count = counts[_RECORDS]
    told[TOLD_COUNT] = count
    allowed_ms = limits[lane, LIMIT_DEFAULT_MS]
    if counts[_TMAX] > 0 and limits[lane, LIMIT_WAITS] == 0:
        allowed_ms = counts[_TMAX]
    allowed_ns = min((allowed_ms - limits[lane, LIMIT_BUFFER_MS]) * _MS, limits[lane, LIMIT_OWN_NS])
    told[TOLD_ALLOWED_NS] = allowed_ns
    if spent_ns >= allowed_ns or counts[_WHOLE] != 0:
        told[TOLD_PHASE] = REFUSED
        return 0
    decide_read(
        deciding, deciding_kind, wire.records, wire.codes, wire.deals, count, settings[0],
        settings[1], sample_rate[0], decisions, events,
    )  # fmt: skip
    told[TOLD_PHASE] = DECIDED
    told[TOLD_ROW] = decisions[0]["line_item_row"]
    told[TOLD_REASON] = decisions[0]["reason"]
    told[TOLD_FORMAT] = decisions[0]["format"]
    return render(
        body, wire.records, wire.spans, wire.deal_spans, wire.slot_keys, decisions, count,
        fragments, signing, settings[0], suffix, counts[_TAXONOMY], out,
    )  # fmt: skip
