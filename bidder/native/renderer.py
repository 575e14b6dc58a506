"""The Python face of the native renderer: ready fragments of JSON, and the call of its kernel.

A fragment is what all bids of one rendition of a creative have in common. It is cut from a bid that
``bidder.answer`` itself makes, with marks where a bid says something of its own; so a field that
answer.py adds to every such bid is here without a change, and the bytes are the same by
construction. Fragments are made at the first bid (tens of microseconds) and found again by their
text after a new snapshot, so that a swap costs a worker next to nothing.

A native ad is put together as its slot asks, so its fragments are those of a rendition and a slot:
they are found by both, in a table of bounded size that is emptied when it is full. What the slot
asks is not in the arrays that the kernel reads: `Renderer.make_native` wants it from the caller.

What this file does not do: decide, or answer with a refusal.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from bidder.answer import BID_TAG_PLACES, NOTHING_SPECIAL, response_of
from bidder.native.kernels_memo import place_of
from bidder.native.kernels_render import (
    FRAME_COUNT,
    MISSING,
    NUMBER_CAMPAIGN,
    NUMBER_EXPIRY_S,
    NUMBER_HEIGHT,
    NUMBER_MTYPE,
    NUMBER_WIDTH,
    OP_BID_ID,
    OP_BYTES_MAX,
    OP_DEAL_ID,
    OP_DIGITS,
    OP_IMP_ID,
    OP_NUMBER,
    OP_PRICE,
    OP_SIGNED,
    OP_SUFFIX,
    OP_TEXT,
    ROW_BY_REQUEST,
    ROW_BY_SLOT,
    ROW_DTYPE,
    ROW_MISSING,
    TOO_LONG,
    native_key,
    render,
)
from bidder.native.kernels_sign import (
    BLOCK_WORDS,
    INITIAL_STATE,
    SIGNING_DTYPE,
    compress,
)
from bidder.native.wire import Count
from bidder.native.wire import wire as new_wire
from bidder.native_ad import Clip, native_markup
from market.decision import DECISION_DTYPE
from market.kernel import compiled_for
from market.money import CURRENCY_NAMES
from market.openrtb import encode_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from bidder.answer import Answers, Shown
    from bidder.native.wire import Wire
    from market.creative import NativeParts
    from market.exchange import ExchangeProfile
    from market.openrtb import Bid, Native
    from market.snapshot import Snapshot

POOL_BYTES: Final = 64 << 20
"""Room for fragments, about 2 kB a rendition. Memory is taken as it fills; full, it starts over."""
NATIVE_PLACES: Final = 1 << 15
"""Places for native ads, a power of two; half of them are used, which is what the pool holds."""
_OPS_MAX: Final = 1 << 20
_SPANS_MAX: Final = 4_096
_TAXONOMY: Final = int(Count.TAXONOMY)
_SUFFIX_BYTES_MAX: Final = OP_BYTES_MAX[OP_SUFFIX]
_ANSWER_BYTES: Final = 1 << 20
_KEY_BLOCK_BYTES: Final = 128
_CURRENCY_COUNT: Final = 1_000
"""ISO 4217 numbers have three digits."""
_NO_CLIP: Final = Clip("", 0, 0, 0)


class Fragments(NamedTuple):
    """What the kernel writes from.

    R = renditions, C = places for native ads, L = line item rows, P = bytes, O = operations,
    S = spans.

    Attributes:
        pool: [P] uint8, JSON.
        ops: [O, 4] int32: operation, its argument, first byte and byte count of its fragment.
        rows: [R + C] of ROW_DTYPE: of the renditions, then of the places.
        seats: [L] int32, row of the span of its seat in quotes, -1 when not looked up yet.
        spans: [S, 2] int32, first and past-last byte in the pool: the FRAME_COUNT pieces of a
            response around its bids, then seats, and suffixes of the price macro.
        native_keys: [1, C] uint64, open addressing as in `bidder.native.kernels_memo`: the
            ``native_key`` of a rendition and a slot whose row R + place is made, 0 = empty.
    """

    pool: npt.NDArray[np.uint8]
    ops: npt.NDArray[np.int32]
    rows: npt.NDArray[np.void]
    seats: npt.NDArray[np.int32]
    spans: npt.NDArray[np.int32]
    native_keys: npt.NDArray[np.uint64]


class _Slot(NamedTuple):
    """Where a bid says something of its own: the operation that writes it, and its argument."""

    op: int
    argument: int = 0


_VALUES: Final[dict[str, _Slot]] = {
    "bid_id": _Slot(OP_BID_ID),
    "imp_id": _Slot(OP_IMP_ID),
    "price": _Slot(OP_PRICE),
    "cid": _Slot(OP_DIGITS, NUMBER_CAMPAIGN),
    "dealid": _Slot(OP_DEAL_ID),
    "w": _Slot(OP_NUMBER, NUMBER_WIDTH),
    "h": _Slot(OP_NUMBER, NUMBER_HEIGHT),
    "exp": _Slot(OP_NUMBER, NUMBER_EXPIRY_S),
    "mtype": _Slot(OP_NUMBER, NUMBER_MTYPE),
}
"""Arguments of ``Answers.fill`` that are whole JSON values."""
_SUFFIX: Final = _Slot(OP_SUFFIX)
_SIGNED: Final = tuple(_Slot(OP_SIGNED, place) for place in BID_TAG_PLACES)
_SLOTS: Final = (*_VALUES.values(), _SUFFIX, *_SIGNED)
_MARK: Final = "@slot-"
_CUT: Final = re.compile(rb"@slot-(\d\d)@")
_KEY: Final = re.compile(rb',"[a-z]+":\Z')


def _mark(slot: _Slot) -> str:
    return f"{_MARK}{_SLOTS.index(slot):02}@"


_MARKS: Final[dict[str, Any]] = {
    # Raw JSON is encoded without quotes, whatever the type of its field.
    **{name: msgspec.Raw(_mark(slot).encode()) for name, slot in _VALUES.items()},
    "signed": [_mark(slot) for slot in _SIGNED],
    "price_suffix": _mark(_SUFFIX),
}
"""What ``Answers.fill`` is called with."""


class _Op(NamedTuple):
    op: int
    argument: int
    text: bytes


def cut(template: bytes) -> list[_Op]:
    """Returns the operations that write a bid, from its JSON with marks in it.

    The key of a field that may be absent is a fragment of its own, so that it can be left out.
    """
    pieces = _CUT.split(template)
    ops: list[_Op] = []
    for text, number in zip(pieces[::2], pieces[1::2], strict=False):
        slot = _SLOTS[int(number)]
        lead = text
        if slot.op == OP_SUFFIX:
            lead = b":"
        elif slot.op in (OP_NUMBER, OP_DIGITS, OP_IMP_ID, OP_DEAL_ID):
            key = _KEY.search(text)
            assert key is not None, f"no key in front of a {slot}: {text!r}"
            lead = key.group()
        before = text.removesuffix(lead)
        assert len(before) + len(lead) == len(text), f"{text!r} must end with {lead!r}"
        if before:
            ops.append(_Op(OP_TEXT, 0, before))
        ops.append(_Op(slot.op, slot.argument, lead))
    ops.append(_Op(OP_TEXT, 0, pieces[-1]))
    return ops


def signing_of(notice_key: bytes) -> npt.NDArray[np.void]:
    """Returns [1] of SIGNING_DTYPE with the states of a key (RFC 2104 sections 2 and 4)."""
    if len(notice_key) > _KEY_BLOCK_BYTES:
        notice_key = hashlib.sha512(notice_key).digest()
    padded = notice_key.ljust(_KEY_BLOCK_BYTES, b"\0")
    signing = np.zeros(1, SIGNING_DTYPE)
    for name, pad in (("inner", 0x36), ("outer", 0x5C)):
        block = bytes(byte ^ pad for byte in padded)
        schedule = signing["schedule"][0]
        schedule[:BLOCK_WORDS] = np.frombuffer(block, ">u8")
        compress(INITIAL_STATE, schedule, signing[name][0])
    return signing


def rendition_count(snapshot: Snapshot) -> int:
    """Returns how many renditions the creatives of a snapshot have; they lie one after another."""
    if not snapshot.head.creatives:
        return 0
    firsts = snapshot.arrays.creatives["rendition_first"]
    return int(firsts[-1]) + len(snapshot.head.creatives[-1].adms)


def _frame(head: bytes) -> tuple[bytes, ...]:
    """Returns the FRAME_COUNT pieces: those of a response with two seats and three bids, and so on.

    The response is made by ``bidder.answer`` with marks in it, as a creative's fragments are.
    """

    def mark(k: int) -> Any:  # noqa: ANN401 - stands where the Struct says str
        return msgspec.Raw(b"@%d@" % k)

    seats = [(mark(3), (mark(1), mark(2))), (mark(5), (mark(4),))]
    response = encode_response(response_of(mark(0), mark(6), mark(7), seats))
    pieces = re.split(rb"@\d@", response)
    assert pieces.pop(5) == pieces[3], "every seat is named in the same way"
    names = [CURRENCY_NAMES.get(number, "") for number in range(_CURRENCY_COUNT)]
    currencies = b"".join(f'"{name:3}"'.encode() for name in names)
    assert len(currencies) == 5 * _CURRENCY_COUNT
    return head, *pieces, currencies


class Renderer:
    """Renders responses for one worker.

    Attributes:
        out: [*] uint8, where the kernel writes; valid until the next call.
        fragments: of the current snapshot; ``rows`` and ``seats`` are other arrays after a swap.
        signing: [1] of SIGNING_DTYPE.
    """

    def __init__(
        self,
        answers: Answers,
        snapshot: Snapshot,
        notice_key: bytes,
        worker: int,
        head: bytes,
        *,
        pool_bytes: int = POOL_BYTES,
        answer_bytes: int = _ANSWER_BYTES,
        native_places: int = NATIVE_PLACES,
    ) -> None:
        """Takes the answers whose bytes it must give, and what signs.

        Args:
            answers: of ``snapshot``.
            snapshot: that decisions are made against.
            notice_key: of ``answers``.
            worker: index of the worker that bids.
            head: of an HTTP answer with a body, up to and including "content-length: "; b"" to
                render bodies alone.
            pool_bytes: room for fragments.
            answer_bytes: room for one answer.
            native_places: for native ads, a power of two.
        """
        self.out = np.zeros(answer_bytes, np.uint8)
        self.signing = signing_of(notice_key)
        self._view = self.out.data
        self._worker = worker
        self._frame = _frame(head)
        self._code: Callable[..., int] | None = None
        self._pool_used = 0
        self._ops_used = 0
        self._native_count = 0
        # By its text, what lies in the pool: (first operation, operations, most bytes) of a bid,
        # and the row of a span.
        self._places: dict[bytes, tuple[int, int, int]] = {}
        self._span_rows: dict[str, int] = {}
        self.fragments = Fragments(
            pool=np.zeros(pool_bytes, np.uint8),
            ops=np.zeros((_OPS_MAX, 4), np.int32),
            rows=np.zeros(0, ROW_DTYPE),
            seats=np.zeros(0, np.int32),
            spans=np.zeros((_SPANS_MAX, 2), np.int32),
            native_keys=np.zeros((1, native_places), np.uint64),
        )
        self.swap(answers, snapshot)
        self._start_over()

    def swap(self, answers: Answers, snapshot: Snapshot) -> None:
        """Renders bids of ``snapshot`` from the next call on; fragments are kept by their text."""
        self._answers = answers
        places = self.fragments.native_keys.shape[1]
        rows = np.zeros(rendition_count(snapshot) + places, ROW_DTYPE)
        rows["op_first"] = ROW_MISSING
        seats = np.full(snapshot.arrays.line_items.shape[0], -1, np.int32)
        self.fragments = self.fragments._replace(rows=rows, seats=seats)
        self._forget_natives()

    def warm_up(self) -> None:
        """Compiles (or loads) the kernels for the very types that requests will use."""
        self._bind()
        self._native_place(np.uint64(1), 0)

    def _bind(self) -> Callable[..., int]:
        wire = new_wire()
        self._code = compiled_for(
            render, np.zeros(1, np.uint8), wire.records, wire.spans, wire.deal_spans,
            wire.slot_keys, np.zeros(1, DECISION_DTYPE), 0, self.fragments, self.signing,
            self._worker, -1, 1, self.out,
        )  # fmt: skip
        return self._code

    def render(
        self,
        body: npt.NDArray[np.uint8],
        wire: Wire,
        decisions: npt.NDArray[np.void],
        count: int,
        profile: ExchangeProfile,
    ) -> int:
        """Writes the answer into ``out``; returns its length, or what ``kernels_render`` says else.

        MISSING - n: decision n is for a native slot that is met for the first time, so
        `make_native` must be called for it, then this again.

        The arrays must be writable and contiguous: the kernel does not look at their types.

        Args:
            body: [*] uint8, of the request, in which the spans of ``wire`` lie.
            wire: the request as read.
            decisions: [N] of DECISION_DTYPE; the first ``count`` are looked at.
            count: records of ``wire`` that were decided.
            profile: of the exchange that asked.
        """
        code = self._code or self._bind()
        records, id_spans, deal_spans = wire.records, wire.spans, wire.deal_spans
        slot_keys = wire.slot_keys
        taxonomy = wire.counts.item(_TAXONOMY)
        for _ in range(2 * count + 1):
            suffix = self.suffix_row(profile) if profile.price_suffix else -1
            written = code(
                body, records, id_spans, deal_spans, slot_keys, decisions, count, self.fragments,
                self.signing, self._worker, suffix, taxonomy, self.out,
            )  # fmt: skip
            if written > MISSING or not self.make(decisions[MISSING - written]):
                return written
        # The pool is too small for the bids of this one response.
        return TOO_LONG

    def written(self, length: int) -> bytes:
        """Returns the first ``length`` bytes of ``out``, to be kept."""
        return bytes(self._view[:length])

    def suffix_row(self, profile: ExchangeProfile) -> int:
        """Returns an exchange's suffix of the price macro as the kernel takes it; look it up anew.

        A row of ``fragments.spans``, which ``make`` may move; -1 where the exchange wants none.
        """
        assert len(profile.price_suffix) <= _SUFFIX_BYTES_MAX, profile.price_suffix
        return self._span_row(profile.price_suffix) if profile.price_suffix else -1

    def make(self, decision: np.void) -> bool:
        """Makes what is missing to render ``decision``, which bids; False if it is nothing.

        Nothing, that is, that can be made without the request.
        """
        line_item_row, rendition_row = (
            int(decision[name]) for name in ("line_item_row", "rendition_row")
        )
        is_seat = self.fragments.seats[line_item_row] < 0
        if is_seat:
            seat = msgspec.json.encode(self._answers.seat(line_item_row)).decode()
            self.fragments.seats[line_item_row] = self._span_row(seat)
        is_row = self.fragments.rows["op_first"][rendition_row] == ROW_MISSING
        if is_row:
            shown = self._answers.shown(int(decision["creative_row"]), rendition_row)
            row = self._row(shown)
            self.fragments.rows[rendition_row] = *row, bool(shown.others)
        return bool(is_seat or is_row)

    def make_native(self, decision: np.void, slot_key: np.uint64, native: Native) -> None:
        """Makes what is missing to render ``decision``, which bids with a native ad.

        Args:
            decision: that ``render`` asked for.
            slot_key: of its record (``Wire.slot_keys``).
            native: what the imp of its record asks for, as the default path decodes it.
        """
        rendition_row = int(decision["rendition_row"])
        shown = self._answers.shown(int(decision["creative_row"]), rendition_row)
        assert shown.native is not None, "only a native ad is missing by its slot"
        row = self._native_row(shown, shown.native, native)
        keys = self.fragments.native_keys
        if 2 * self._native_count >= keys.shape[1]:
            self._forget_natives()
        key, place = self._native_place(slot_key, rendition_row)
        self._native_count += int(keys[0, place] == 0)
        # Rows of places are the last ones.
        self.fragments.rows[place - keys.shape[1]] = *row, bool(shown.others)
        keys[0, place] = key

    def _native_place(self, slot_key: np.uint64, rendition_row: int) -> tuple[np.uint64, int]:
        """Returns a native ad's key, and the place of it or of the gap where it would stand."""
        key = np.uint64(native_key(slot_key, rendition_row))
        return key, int(place_of(self.fragments.native_keys, 0, key))

    def _forget_natives(self) -> None:
        self.fragments.native_keys[:] = 0
        self._native_count = 0

    def _row(self, shown: Shown) -> tuple[int, int, int]:
        """Returns the first fields of a record of ROW_DTYPE, its fragments now in the pool."""
        # A text that could be taken for a mark is left to answer.py.
        if _MARK.encode() in msgspec.json.encode(shown):
            return ROW_BY_REQUEST, 0, 0
        if shown.native is not None:
            return ROW_BY_SLOT, 0, 0
        return self._placed(self._answers.fill(shown, **_MARKS))

    def _native_row(self, shown: Shown, parts: NativeParts, native: Native) -> tuple[int, int, int]:
        """Returns ``_row`` of a native ad for its slot, which has texts of its own: a version."""
        if _MARK in native_markup(native, parts, _NO_CLIP, "", ""):
            return ROW_BY_REQUEST, 0, 0
        special = NOTHING_SPECIAL._replace(native=native)
        return self._placed(self._answers.fill(shown, special=special, **_MARKS))

    def _placed(self, bid: Bid) -> tuple[int, int, int]:
        """Returns the first fields of a record of ROW_DTYPE for a bid with marks in it."""
        template = msgspec.json.encode(bid)
        if len(template) > self.fragments.pool.shape[0] // 2:
            return ROW_BY_REQUEST, 0, 0
        name = hashlib.blake2b(template, digest_size=16).digest()
        place = self._places.get(name)
        if place is None:
            place = self._place(template)
            self._places[name] = place
        return place

    def _place(self, template: bytes) -> tuple[int, int, int]:
        """Returns (first operation, operations, most bytes) of a template, now in the pool."""
        ops = cut(template)
        if self._ops_used + len(ops) > _OPS_MAX:
            self._start_over()
        at = self._append(b"".join(op.text for op in ops))
        first = self._ops_used
        table: list[tuple[int, int, int, int]] = []
        for op, argument, text in ops:
            table.append((op, argument, at, len(text)))
            at += len(text)
        self._ops_used += len(ops)
        self.fragments.ops[first : self._ops_used] = table
        return first, len(ops), sum(len(op.text) + OP_BYTES_MAX[op.op] for op in ops)

    def _span_row(self, text: str) -> int:
        """Returns the row of the span of a text, which is now in the pool."""
        row = self._span_rows.get(text)
        if row is None:
            if FRAME_COUNT + len(self._span_rows) == _SPANS_MAX:
                self._start_over()
            at = self._append(text.encode())
            row = self._span_rows[text] = FRAME_COUNT + len(self._span_rows)
            self.fragments.spans[row] = at, self._pool_used
        return row

    def _append(self, text: bytes) -> int:
        """Puts a text into the pool, which starts over when it is full; returns where it lies."""
        if self._pool_used + len(text) > self.fragments.pool.shape[0]:
            self._start_over()
        at = self._pool_used
        self._pool_used += len(text)
        self.fragments.pool[at : self._pool_used] = np.frombuffer(text, np.uint8)
        return at

    def _start_over(self) -> None:
        """Forgets all fragments: the pool is bounded, and what is in use is soon made again."""
        self._places.clear()
        self._span_rows.clear()
        self._ops_used = self._pool_used = 0
        self.fragments.rows["op_first"] = ROW_MISSING
        self.fragments.seats[:] = -1
        self._forget_natives()
        for piece, text in enumerate(self._frame):
            at = self._append(text)
            self.fragments.spans[piece] = at, self._pool_used
