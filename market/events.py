"""The event: one fixed-width record for everything that happens to a bid, with a derived id.

An event says everything that learning will need later, so that no join is needed to train on a
log. Its id is derived from what it says (kind, bid id, and for a conversion the order id): a retry
has the same id and is harmless. Its day is its bid's day.

The layout is versioned. Writers write ``SCHEMA_VERSION``; ``read_events`` accepts every version in
``SCHEMAS`` and returns records of the current one, with the defaults that a missing field had.
"""

from __future__ import annotations

import enum
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from market.errors import Corrupt

FEATURE_COUNT = 12
"""Hashed user and context features of the recommendation model in a bid record."""

BUDGETS_PER_LINE_ITEM = 3
"""Budgets a line item draws on at most: daily, lifetime, shared."""

CAPS_PER_LINE_ITEM = 3
"""Frequency caps that can bind one bid at most."""

SCHEMA_VERSION = 2

DAY_MS = 86_400_000


class EventKind(enum.IntEnum):
    """What happened. Numbers are stored: add, never renumber."""

    BID = 1
    WIN = 2
    IMPRESSION = 3
    CLICK = 4
    CONVERSION = 5
    LOSS = 6
    BILLING = 7
    ADJUSTMENT = 8
    NO_BID = 9


class EventFlag(enum.IntFlag):
    """What is special about an event."""

    TEST = 1
    """The request had test = 1: nothing is charged."""
    CHARGED = 2
    """This notice moved money: amount_micros was settled."""
    DISPUTED = 4
    """The clearing price was above the reservation: recorded, not charged."""
    LATE = 8
    """Arrived after the reservation's deadline or after its loss notice; paid as a late win."""


_V1 = [
    ("id_hi", np.uint64),
    ("id_lo", np.uint64),
    ("bid_hi", np.uint64),
    ("bid_lo", np.uint64),
    ("opportunity_hi", np.uint64),
    ("opportunity_lo", np.uint64),
    # when it happened (episode or wall clock) and when the recorder took it, epoch milliseconds
    ("ts_ms", np.int64),
    ("recv_ms", np.int64),
    # when the bid was made: the event's day is this day
    ("bid_ms", np.int64),
    # until when a notice settles on time
    ("deadline_ms", np.int64),
    ("user_key", np.uint64),
    ("deal_code", np.uint64),
    # bid: what was bid; win, billing, impression: the clearing price; loss: the price to win
    ("price_cpm_micros", np.int64),
    # bid: the reservation (cap); notice that charges: what was charged; all in account currency
    ("amount_micros", np.int64),
    # what had to be paid at least: bid: the floor; win: what would just have won, where it was told
    ("floor_cpm_micros", np.int64),
    # bid: expected value of the impression; conversion: value reported; account currency
    ("value_micros", np.int64),
    ("advertiser_id", np.uint32),
    ("campaign_id", np.uint32),
    ("line_item_id", np.uint32),
    ("creative_id", np.uint32),
    ("snapshot_version", np.uint32),
    ("model_version", np.uint32),
    ("policy_version", np.uint32),
    ("exchange", np.uint16),
    # ISO 4217 numbers: of the bid on the wire, and of the advertiser's account
    ("bid_currency", np.uint16),
    ("account_currency", np.uint16),
    # no-bid: NoBidReason; loss: OpenRTB loss reason code
    ("reason", np.uint16),
    ("worker", np.uint16),
    ("flags", np.uint16),
    ("kind", np.uint8),
    ("format", np.uint8),
    ("pctr", np.float32),
    ("pcvr", np.float32),
    # probability that this creative was chosen for this opportunity, for off-policy evaluation
    ("propensity", np.float32),
    # how many like it this record stands for: 1, or 1 / sampling rate for a sampled no-bid
    ("weight", np.float32),
    ("features", np.uint32, (FEATURE_COUNT,)),
    ("budgets", np.uint64, (BUDGETS_PER_LINE_ITEM,)),
    ("caps", np.uint64, (CAPS_PER_LINE_ITEM,)),
]
# Version 2 adds what a settlement needs to be recomputed from the record alone.
_V2 = [
    *_V1,
    # account currency per unit of bid currency, and impressions per bid, both times 10^6
    ("rate_micros", np.int64),
    ("quantity_micros", np.int64),
    # conversion: code of the order id; shading: bid / value; w << 16 | h of the creative shown
    ("order_code", np.uint64),
    ("shading_factor", np.float32),
    ("size", np.uint32),
]

SCHEMAS: dict[int, np.dtype[np.void]] = {
    1: np.dtype(_V1, align=True),
    2: np.dtype(_V2, align=True),
}
_DEFAULTS: dict[str, int] = {"rate_micros": 1_000_000, "quantity_micros": 1_000_000}

EVENT_DTYPE = SCHEMAS[SCHEMA_VERSION]


def read_events(body: bytes | memoryview, schema_version: int) -> npt.NDArray[np.void]:
    """Returns the records in ``body`` as [N] of EVENT_DTYPE, whatever version they were written in.

    Raises:
        Corrupt: the version is unknown, or the body is no whole number of records.
    """
    dtype = SCHEMAS.get(schema_version)
    if dtype is None:
        raise Corrupt(
            f"event schema version {schema_version}: this build reads {sorted(SCHEMAS)}; "
            "an operator must run a build that is at least as new as the one that wrote the log"
        )
    if len(body) % dtype.itemsize:
        raise Corrupt(
            f"event frame of {len(body)} bytes: schema version {schema_version} has records of "
            f"{dtype.itemsize} bytes, so the length must be a multiple of that"
        )
    old = np.frombuffer(body, dtype)
    if schema_version == SCHEMA_VERSION:
        return old
    new = np.zeros(old.shape[0], EVENT_DTYPE)
    for name in EVENT_DTYPE.names or ():
        if name in (dtype.names or ()):
            new[name] = old[name]
        else:
            new[name] = _DEFAULTS.get(name, 0)
    return new


def event_id(kind: int, bid_hi: int, bid_lo: int, order_code: int = 0) -> tuple[int, int]:
    """Returns the 128-bit id of an event as (hi, lo): a function of what it says and nothing else.

    A repeated notice therefore has the id of the first; two orders of one click have two ids.
    """
    digest = event_digest(kind, bid_hi, bid_lo, order_code)
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def event_digest(kind: int, bid_hi: int, bid_lo: int, order_code: int = 0) -> bytes:
    """Returns ``event_id`` as the 16 bytes of ``id_hi`` and ``id_lo`` in a record."""
    return blake2b(b"%d %d %d %d" % (kind, bid_hi, bid_lo, order_code), digest_size=16).digest()
