"""What the native path's reader leaves for the decision and the renderer: one request as arrays.

All of it is scratch of one worker, made once (`wire`) and overwritten by every request; nothing in
it outlives the answer. Rows beyond `Count` are left-overs of earlier requests.

What this file does not do: read (`bidder.native.kernels_read`) or render.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from market.opportunity import DEAL_DTYPE, OPPORTUNITY_DTYPE

IMPS_MAX: Final = 64
"""Imps of one request, and records made of them: what the default path looks at too."""
CODES_MAX: Final = 2_048
DEALS_MAX: Final = 128
TEXT_MAX: Final = 16_384
"""Bytes of one unescaped string, and of the ids of one imp together, ``BODY_PAD`` included."""
BODY_PAD: Final = 32
"""Bytes that must lie behind a body in its array: text is looked at 32 bytes at a time."""
CELLS_MAX: Final = 4_096


class Bail(enum.IntEnum):
    """Why a request is handed to the default path. Nothing but the wire has been written then.

    A cause says what the reader met, not that the request is wrong: most of these get an answer.
    """

    READ = 0
    """No bail: the wire holds the request."""
    MALFORMED = 1
    """Not JSON as RFC 8259 has it, or something behind the root object."""
    ENCODING = 2
    """Bytes that are no UTF-8, or half of a surrogate pair."""
    ESCAPE = 3
    """An escape where the raw bytes are needed: a key, an id, a currency."""
    TYPE = 4
    """A value of another type than the field's usual ones."""
    NUMBER = 5
    """A number that is not read exactly: too many digits, too large an exponent, a fraction."""
    DUPLICATE = 6
    """A key that stands twice in one object."""
    DEPTH = 7
    """Nested deeper than the reader follows."""
    CAPACITY = 8
    """More imps, deals, codes or text than the wire holds."""
    REQUIRED = 9
    """No request id, no imp array, an empty one, or an imp without an id."""
    PRIVACY_MISS = 10
    """Privacy signals whose verdict is not remembered yet."""
    SUPPLY_MISS = 11
    """Sellers whose verdict is not remembered yet."""
    SLOT_MISS = 12
    """Formats of an imp (a native request, a banner's sizes ...) that are not remembered yet."""
    SLOT = 13
    """An imp that becomes other than one record, as a pod does: always for the default path."""
    UNREAD = 14
    """A field that the default path obeys and this reader does not know."""
    TEXT = 15
    """Text that Python compares by rules beyond ASCII: foreign white space, foreign letters."""
    AGENT_MISS = 16
    """A user agent that is not remembered yet."""
    SUPPLY = 17
    """Sellers that are judged by more than is remembered: an address, a page without a domain."""


class Count(enum.IntEnum):
    """Places in `Wire.counts`."""

    RECORDS = 0
    CODES = 1
    DEALS = 2
    REFUSALS = 3
    IMPS = 4
    """Imps in the request, refused ones too."""
    TMAX_MS = 5
    """As sent; 0 when absent, which the default path treats alike."""
    IS_TEST = 6
    REQUEST_REFUSAL = 7
    """NoBidReason that refuses the whole request (``refusals[0]`` then has imp index -1), or 0."""

    TAXONOMY = 8
    """``cattax`` of the request, 1 when absent or 0: how the renderer's answer names categories."""


COUNT_COUNT: Final = len(Count)


class Wire(NamedTuple):
    """One request after reading.

    N = IMPS_MAX records, P = CODES_MAX, Q = DEALS_MAX.

    Attributes:
        records: [N] of OPPORTUNITY_DTYPE, those that the default edge would make, byte for byte.
        codes: [P] uint64, the pool that the records' and deals' slices point into.
        deals: [Q] of DEAL_DTYPE.
        spans: [1 + N, 2] int32, first and past-last byte in the body's array of a raw JSON string,
            quotes included: row 0 the request's id, row 1 + n the imp id of record n. They hold no
            escapes, so they are what the encoder writes for their text: the renderer copies them.
        deal_spans: [Q, 2] int32, the same for deal ids.
        imp_index: [N] int32, which imp of the request record n is of.
        refusals: [N, 3] int32: imp index, NoBidReason, number of the field at fault
            (`bidder.native.reader.FIELDS`).
        counts: [COUNT_COUNT] int64, by `Count`.
        text: [TEXT_MAX] uint8, unescaped strings; scratch.
        cells: [CELLS_MAX] int64, what the fields of the request said (`bidder.native.fields`);
            the reader's own.
        staged: [P] uint64, codes in the order of the body; the reader's own.
        shared: [1] of OPPORTUNITY_DTYPE, what all records have in common; the reader's own.
        open: [1] of OPPORTUNITY_DTYPE, the open record of the imp at hand; the reader's own.
        missed: [3 + N, 2] uint64, group and key of what is not remembered; `bidder.native.memo`'s.
        missed_imps: [3 + N] int32, the imp whose slot each is, -1 for none.
        missed_count: [1] int64, of them.
        slot_keys: [N] uint64, what the memo knows the slot of record n by, 0 where it knows none:
            records of one key are of imps that ask the same of every format, word for word.
    """

    records: npt.NDArray[np.void]
    codes: npt.NDArray[np.uint64]
    deals: npt.NDArray[np.void]
    spans: npt.NDArray[np.int32]
    deal_spans: npt.NDArray[np.int32]
    imp_index: npt.NDArray[np.int32]
    refusals: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int64]
    text: npt.NDArray[np.uint8]
    cells: npt.NDArray[np.int64]
    staged: npt.NDArray[np.uint64]
    shared: npt.NDArray[np.void]
    open: npt.NDArray[np.void]
    missed: npt.NDArray[np.uint64]
    missed_imps: npt.NDArray[np.int32]
    missed_count: npt.NDArray[np.int64]
    slot_keys: npt.NDArray[np.uint64]


def wire() -> Wire:
    """Returns zeroed arrays for one worker."""
    return Wire(
        records=np.zeros(IMPS_MAX, OPPORTUNITY_DTYPE),
        codes=np.zeros(CODES_MAX, np.uint64),
        deals=np.zeros(DEALS_MAX, DEAL_DTYPE),
        spans=np.zeros((1 + IMPS_MAX, 2), np.int32),
        deal_spans=np.zeros((DEALS_MAX, 2), np.int32),
        imp_index=np.zeros(IMPS_MAX, np.int32),
        refusals=np.zeros((IMPS_MAX, 3), np.int32),
        counts=np.zeros(COUNT_COUNT, np.int64),
        text=np.zeros(TEXT_MAX, np.uint8),
        cells=np.zeros(CELLS_MAX, np.int64),
        staged=np.zeros(CODES_MAX, np.uint64),
        shared=np.zeros(1, OPPORTUNITY_DTYPE),
        open=np.zeros(1, OPPORTUNITY_DTYPE),
        missed=np.zeros((3 + IMPS_MAX, 2), np.uint64),
        missed_imps=np.zeros(3 + IMPS_MAX, np.int32),
        missed_count=np.zeros(1, np.int64),
        slot_keys=np.zeros(IMPS_MAX, np.uint64),
    )
