"""Writes a bid response in machine code: the bytes that ``bidder.answer.respond`` would give.

What a rendition's bids always say lies ready as JSON (``bidder.native.renderer``), cut where a bid
says something of its own. Between two cuts stands an operation: copy a fragment, then write one
value; where the value is absent the fragment, its key, is left out too.

N = decisions, R = renditions of creatives, L = line item rows, P = bytes of the pool,
O = operations, S = spans in the pool.
"""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The three rules that compare them are off
# inside; callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bidder.native.kernels_copy import copy_bytes
from bidder.native.kernels_memo import place_of
from bidder.native.kernels_sign import TOKEN_CHARS, Record, sign_into
from market.kernel import bare_kernel as kernel
from market.kernels import hash_pair

if TYPE_CHECKING:
    import numpy.typing as npt

    from bidder.native.renderer import Fragments

# What an operation writes after its fragment; its argument says which. Constants, because a kernel
# takes no enum at this price.
OP_TEXT = 0
"""Nothing."""
OP_BID_ID = 1
"""32 hexadecimal digits in quotes."""
OP_PRICE = 2
"""A price, from CPM micros."""
OP_NUMBER = 3
"""An integer of NUMBER_*; absent where it is negative."""
OP_DIGITS = 4
"""The same in quotes."""
OP_IMP_ID = 5
"""The imp's id, a JSON string as it came in the request."""
OP_DEAL_ID = 6
"""The deal's, likewise; absent where the bid is on none."""
OP_SIGNED = 7
"""The token, then the tag that begins at the argument: the end of a notice URL's path."""
OP_SUFFIX = 8
"""The exchange's suffix of the price macro; absent where it has none."""

OP_BYTES_MAX = (0, 34, 18, 20, 22, 0, 0, 126, 16)
"""The most bytes that each operation writes after its fragment; ids of the request come on top."""

NUMBER_CAMPAIGN = 0
NUMBER_WIDTH = 1
NUMBER_HEIGHT = 2
NUMBER_EXPIRY_S = 3
NUMBER_MTYPE = 4

FRAME_HEAD = 0
"""Of the HTTP answer, up to and including "content-length: "; empty where it is not wanted."""
FRAME_OPEN = 1
FRAME_SEATS = 2
FRAME_NEXT_BID = 3
FRAME_SEAT = 4
FRAME_NEXT_SEAT = 5
FRAME_BID_ID = 6
FRAME_CURRENCY = 7
FRAME_CLOSE = 8
FRAME_CURRENCIES = 9
"""Names of all currencies in quotes, five bytes each by ISO 4217 number."""
FRAME_COUNT = 10
"""Rows of ``Fragments.spans`` of the pieces around the bids, in the order in which they go out."""

NOTHING = 0
"""Nobody bids: the answer is a refusal, which is not written here."""
BY_REQUEST = -1
"""A bid says what only this request asks for: ``bidder.answer`` writes this response.

A flexible size, categories in another taxonomy, text that could be taken for a mark.
"""
TOO_LONG = -2
"""The response may not fit ``out``: ``bidder.answer`` writes it."""
MISSING = -16
"""MISSING - n: the fragments of decision n were not made yet; make them and call again."""

ROW_MISSING = -1
ROW_BY_REQUEST = -2
ROW_BY_SLOT = -3
"""In place of a row's first operation; BY_SLOT: a native ad, which has a row for each slot."""

ROW_DTYPE = np.dtype(
    [
        # its operations, or ROW_MISSING and so on
        ("op_first", np.int32),
        ("op_count", np.int32),
        # the most bytes that a bid takes, ids of the request aside
        ("byte_count", np.int32),
        # 1: its ad has categories in other taxonomies than the usual one
        ("has_taxonomies", np.uint8),
    ],
    align=True,
)
"""How the bids of one rendition are written, or those of one for one native slot."""

_TAG_CHARS = 14
_QUOTE = np.uint8(ord('"'))
_HEAD_END_BYTES = 20 + 4
"""Digits of a length, and the empty line."""
_FRAME_VALUES_BYTES = 34 + 5
"""A bid id and a currency in quotes."""
_MILLION = 1_000_000
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8).copy()


@kernel
def write_number(value: int, out: npt.NDArray[np.uint8], at: int) -> int:
    """Writes a number >= 0 in decimal from out[at]; returns where it ends."""
    value = np.int64(value)
    digit_count = 1
    rest = value // 10
    while rest > 0:
        digit_count += 1
        rest //= 10
    for place in range(at + digit_count - 1, at - 1, -1):
        rest = value // 10
        out[place] = 48 + value - 10 * rest
        value = rest
    return at + digit_count


@kernel
def write_price(cpm_micros: int, out: npt.NDArray[np.uint8], at: int) -> int:
    """Writes ``market.money.price_to_wire(cpm_micros)`` as JSON from out[at]; returns its end.

    A float prints as the shortest decimal that reads back as it; a number of micros up to
    PRICE_CPM_MICROS_MAX has at most 11 digits and a float tells 15 apart, so that decimal is the
    price itself. Below 10^-5 the encoder writes an exponent, which a price of one digit reaches.
    """
    micros = np.int64(cpm_micros)
    if 0 < micros < 10:
        out[at] = 48 + micros
        out[at + 1] = ord("e")
        out[at + 2] = ord("-")
        out[at + 3] = ord("6")
        return at + 4
    whole = micros // _MILLION
    rest = micros - whole * _MILLION
    at = write_number(whole, out, at)
    out[at] = ord(".")
    at += 1
    scale = np.int64(_MILLION // 10)
    while True:
        digit = rest // scale
        out[at] = 48 + digit
        at += 1
        rest -= digit * scale
        if rest == 0:
            return at
        scale //= 10


@kernel
def write_hex(word: np.uint64, out: npt.NDArray[np.uint8], at: int) -> int:
    """Writes 16 hexadecimal digits from out[at]; returns where they end."""
    for k in range(16):
        out[at + k] = _HEX[np.int64((word >> np.uint64(60 - 4 * k)) & np.uint64(15))]
    return at + 16


@kernel
def write_bid_id(decision: Record, out: npt.NDArray[np.uint8], at: int) -> int:
    """Writes the bid's 128-bit id in quotes from out[at]; returns where it ends."""
    out[at] = _QUOTE
    at = write_hex(decision["bid_hi"], out, at + 1)
    at = write_hex(decision["bid_lo"], out, at)
    out[at] = _QUOTE
    return at + 1


@kernel
def number_of(which: int, decision: Record, opportunity: Record) -> int:
    """Returns the value of a NUMBER_*, -1 where the bid leaves its field out."""
    if which == NUMBER_CAMPAIGN:
        return np.int64(decision["campaign_id"])
    if which == NUMBER_EXPIRY_S:
        return (decision["deadline_ms"] - opportunity["arrival_ms"]) // 1000
    if which == NUMBER_MTYPE:
        # Bit k is OpenRTB mtype k + 1.
        mtype = 1
        bits = np.int64(decision["format"])
        while bits > 1:
            bits >>= 1
            mtype += 1
        return mtype
    size = np.int64(decision["size"])
    pixels = size >> 16 if which == NUMBER_WIDTH else size & 0xFFFF
    return pixels if pixels > 0 else -1


@kernel
def deal_row(decision: Record, opportunity: Record) -> int:
    """Returns the row of a bid's deal among all of the request, -1 where it is on none."""
    if decision["deal_index"] < 0:
        return -1
    return np.int64(opportunity["deal_first"]) + np.int64(decision["deal_index"])


@kernel
def span_length(spans: npt.NDArray[np.int32], row: int) -> int:
    """Returns the bytes of a span: first and past-last byte."""
    return np.int64(spans[row, 1]) - np.int64(spans[row, 0])


@kernel
def copy_span(
    source: npt.NDArray[np.uint8], spans: npt.NDArray[np.int32], row: int,
    out: npt.NDArray[np.uint8], at: int,
) -> int:  # fmt: skip
    """Copies a span of ``source`` to out[at:]; returns where it ends."""
    return copy_bytes(source, spans[row, 0], span_length(spans, row), out, at)


@kernel
def native_key(slot_key: np.uint64, rendition_row: int) -> np.uint64:
    """Returns what a rendition's markup for a native slot is found by, never 0."""
    key = hash_pair(np.uint64(slot_key), np.uint64(rendition_row))
    return key if key != np.uint64(0) else np.uint64(1)


@kernel
def row_of(decision: Record, slot_key: np.uint64, fragments: Fragments) -> int:
    """Returns the row of ``Fragments.rows`` that a bid is written by, -1 if it is not made yet.

    A slot without a key has no row of its own: its native bids have the row that says so.
    """
    row = np.int64(decision["rendition_row"])
    if fragments.rows[row]["op_first"] != ROW_BY_SLOT or slot_key == np.uint64(0):
        return row
    keys = fragments.native_keys
    key = native_key(slot_key, row)
    place = place_of(keys, 0, key)
    if keys[0, place] != key:
        return -1
    return fragments.rows.shape[0] - keys.shape[1] + place


@kernel
def write_field(
    kind: int, which: int, pool: npt.NDArray[np.uint8], key: int, key_count: int,
    decision: Record, opportunity: Record, out: npt.NDArray[np.uint8], at: int,
) -> int:  # fmt: skip
    """Writes the key and the number of an OP_NUMBER or OP_DIGITS, or nothing if it is absent."""
    number = number_of(which, decision, opportunity)
    if number < 0:
        return at
    at = copy_bytes(pool, key, key_count, out, at)
    if kind == OP_NUMBER:
        return write_number(number, out, at)
    out[at] = _QUOTE
    at = write_number(number, out, at + 1)
    out[at] = _QUOTE
    return at + 1


@kernel
def write_bid(
    body: npt.NDArray[np.uint8], id_spans: npt.NDArray[np.int32],
    deal_spans: npt.NDArray[np.int32], decision: Record, opportunity: Record, n: int,
    slot_key: np.uint64, fragments: Fragments, signing: Record, worker: int, suffix: int,
    out: npt.NDArray[np.uint8], at: int,
) -> int:  # fmt: skip
    """Signs and writes the bid of decision n as a JSON object from out[at]; returns its end."""
    sign_into(decision, opportunity, worker, signing)
    pool, ops = fragments.pool, fragments.ops
    row = fragments.rows[row_of(decision, slot_key, fragments)]
    first = row["op_first"]
    deal = deal_row(decision, opportunity)
    for op in range(first, first + row["op_count"]):
        kind, which, text, count = ops[op, 0], ops[op, 1], ops[op, 2], ops[op, 3]
        if kind in (OP_NUMBER, OP_DIGITS):
            at = write_field(kind, which, pool, text, count, decision, opportunity, out, at)
            continue
        if (kind == OP_DEAL_ID and deal < 0) or (kind == OP_SUFFIX and suffix < 0):
            continue
        at = copy_bytes(pool, text, count, out, at)
        if kind == OP_SIGNED:
            at = copy_bytes(signing["text"], 0, TOKEN_CHARS, out, at)
            at = copy_bytes(signing["text"], TOKEN_CHARS + which, _TAG_CHARS, out, at)
        elif kind == OP_SUFFIX:
            at = copy_span(pool, fragments.spans, suffix, out, at)
        elif kind == OP_IMP_ID:
            at = copy_span(body, id_spans, 1 + n, out, at)
        elif kind == OP_DEAL_ID:
            at = copy_span(body, deal_spans, deal, out, at)
        elif kind == OP_PRICE:
            at = write_price(decision["bid_cpm_micros"], out, at)
        elif kind == OP_BID_ID:
            at = write_bid_id(decision, out, at)
    return at


@kernel
def length_max(
    records: npt.NDArray[np.void], id_spans: npt.NDArray[np.int32],
    deal_spans: npt.NDArray[np.int32], slot_keys: npt.NDArray[np.uint64],
    decisions: npt.NDArray[np.void], count: int, fragments: Fragments, taxonomy: int,
) -> int:  # fmt: skip
    """Returns an upper bound on the bytes of the response; <= 0: a code of ``render``."""
    spans = fragments.spans
    between = np.int64(spans[FRAME_NEXT_SEAT, 1]) - np.int64(spans[FRAME_NEXT_BID, 0])
    total = np.int64(0)
    bid_count = 0
    is_by_request = False
    for n in range(count):
        decision = decisions[n]
        item_row = decision["line_item_row"]
        if item_row < 0:
            continue
        bid_count += 1
        rendition = fragments.rows[decision["rendition_row"]]
        seat = fragments.seats[item_row]
        if rendition["op_first"] == ROW_MISSING or seat < 0:
            return MISSING - n
        is_renamed = rendition["has_taxonomies"] != 0 and taxonomy != 1
        if is_renamed or decision["ratio"] != 0:
            is_by_request = True
            continue
        row_number = row_of(decision, slot_keys[n], fragments)
        if row_number < 0:
            return MISSING - n
        row = fragments.rows[row_number]
        if row["op_first"] < 0:
            is_by_request = True
            continue
        deal = deal_row(decision, records[n])
        total += row["byte_count"] + span_length(spans, seat) + between
        total += span_length(id_spans, 1 + n) + (span_length(deal_spans, deal) if deal >= 0 else 0)
    if bid_count == 0:
        return NOTHING
    if is_by_request:
        return BY_REQUEST
    around = np.int64(spans[FRAME_CLOSE, 1]) - np.int64(spans[FRAME_OPEN, 0])
    return total + around + span_length(id_spans, 0) + _FRAME_VALUES_BYTES


@kernel
def write_response(
    body: npt.NDArray[np.uint8], records: npt.NDArray[np.void],
    id_spans: npt.NDArray[np.int32], deal_spans: npt.NDArray[np.int32],
    slot_keys: npt.NDArray[np.uint64], decisions: npt.NDArray[np.void], count: int,
    fragments: Fragments, signing: Record, worker: int, suffix: int, out: npt.NDArray[np.uint8],
    at: int,
) -> int:  # fmt: skip
    """Writes the response from out[at]; returns where it ends. At least one decision bids.

    One seatbid a seat; seats in the order of their first bids, bids in the order of decisions.
    """
    pool, spans, seats = fragments.pool, fragments.spans, fragments.seats
    at = copy_span(pool, spans, FRAME_OPEN, out, at)
    at = copy_span(body, id_spans, 0, out, at)
    first_bid = -1
    last_bid = -1
    for n in range(count):
        item_row = decisions[n]["line_item_row"]
        if item_row < 0:
            continue
        last_bid = n
        seat = seats[item_row]
        is_first_of_seat = True
        for m in range(n):
            before = decisions[m]["line_item_row"]
            if before >= 0 and seats[before] == seat:
                is_first_of_seat = False
        if not is_first_of_seat:
            continue
        piece = FRAME_NEXT_SEAT
        if first_bid < 0:
            first_bid = n
            piece = FRAME_SEATS
        for m in range(n, count):
            later = decisions[m]["line_item_row"]
            if later >= 0 and seats[later] == seat:
                at = copy_span(pool, spans, piece, out, at)
                at = write_bid(
                    body, id_spans, deal_spans, decisions[m], records[m], m, slot_keys[m],
                    fragments, signing, worker, suffix, out, at,
                )  # fmt: skip
                piece = FRAME_NEXT_BID
        at = copy_span(pool, spans, FRAME_SEAT, out, at)
        at = copy_span(pool, spans, seat, out, at)
    at = copy_span(pool, spans, FRAME_BID_ID, out, at)
    at = write_bid_id(decisions[first_bid], out, at)
    at = copy_span(pool, spans, FRAME_CURRENCY, out, at)
    name = spans[FRAME_CURRENCIES, 0] + 5 * np.int64(decisions[last_bid]["bid_currency"])
    at = copy_bytes(pool, name, 5, out, at)
    return copy_span(pool, spans, FRAME_CLOSE, out, at)


@kernel
def render(
    body: npt.NDArray[np.uint8], records: npt.NDArray[np.void],
    id_spans: npt.NDArray[np.int32], deal_spans: npt.NDArray[np.int32],
    slot_keys: npt.NDArray[np.uint64], decisions: npt.NDArray[np.void], count: int,
    fragments: Fragments, signing: npt.NDArray[np.void], worker: int, suffix: int, taxonomy: int,
    out: npt.NDArray[np.uint8],
) -> int:  # fmt: skip
    """Writes the answer to a request from out[0]; returns its length, or <= 0: NOTHING and so on.

    Nothing is written where the result is not positive. Request and decisions are only read, so the
    call can be repeated, or the response be written by ``bidder.answer``.

    Args:
        body: of the request, in which the id and deal spans lie.
        records: ``Wire.records``.
        id_spans: ``Wire.spans``.
        deal_spans: ``Wire.deal_spans``.
        slot_keys: ``Wire.slot_keys``.
        decisions: [N] of DECISION_DTYPE, of the first ``count`` records.
        count: decisions to look at.
        fragments: of the snapshot that was decided against.
        signing: [1] of SIGNING_DTYPE.
        worker: index of the worker that bids.
        suffix: row of the span of the exchange's suffix of the price macro, -1: it wants none.
        taxonomy: in which the request names categories (``Count.TAXONOMY``), 1 = the usual one.
        out: where it goes.
    """
    bound = length_max(
        records, id_spans, deal_spans, slot_keys, decisions, count, fragments, taxonomy
    )
    if bound <= 0:
        return bound
    head_count = span_length(fragments.spans, FRAME_HEAD)
    if bound + head_count + _HEAD_END_BYTES > out.shape[0]:
        return TOO_LONG
    first = np.int64(0)
    if head_count > 0:
        # The length stands in front of what it counts: a place as wide as the bound is left for it,
        # and the rare answer whose length has fewer digits is moved up to it.
        copy_span(fragments.pool, fragments.spans, FRAME_HEAD, out, 0)
        first = write_number(bound, out, head_count) + 4
    end = write_response(
        body, records, id_spans, deal_spans, slot_keys, decisions, count, fragments, signing[0],
        worker, suffix, out, first,
    )  # fmt: skip
    if head_count == 0:
        return end
    at = write_number(end - first, out, head_count)
    out[at] = ord("\r")
    out[at + 1] = ord("\n")
    out[at + 2] = ord("\r")
    out[at + 3] = ord("\n")
    at += 4
    return copy_bytes(out, first, end - first, out, at) if at < first else end
