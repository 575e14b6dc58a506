"""Names of events as machine code: BLAKE2b of one short text, for a block of records.

The name of an event is a function of what it says (``market.events.event_digest``), and every bid
needs one before it is written. Texts of four numbers fit one block of the hash.

Source: RFC 7693, sections 3.1 to 3.3 and appendix A; digest of 16 bytes, no key.
"""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from market.events import EventKind
from market.kernel import bare_kernel as kernel

if TYPE_CHECKING:
    import numpy.typing as npt

_BID = int(EventKind.BID)
_IV = np.array(
    [
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    ],
    np.uint64,
)  # fmt: skip
_SIGMA = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
    ],
    np.int64,
)  # fmt: skip
_MIXED = np.array(
    [
        [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15],
        [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14],
    ],
    np.int64,
)  # fmt: skip
_ROUNDS = 12
_SIZE_AND_SHAPE = np.uint64(0x01010010)
"""Parameter block: digest of 16 bytes, no key, fanout and depth 1."""

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_TEN = np.uint64(10)
_ZERO = np.uint64(48)
_SPACE = np.uint64(32)
_U3, _U7, _U8, _U16, _U24, _U32, _U40, _U48, _U63, _U1 = (
    np.uint64(n) for n in (3, 7, 8, 16, 24, 32, 40, 48, 63, 1)
)

SCRATCH_WORDS = 64
"""Of uint64, that ``name_events`` works in."""


@kernel
def _put(words: npt.NDArray[np.uint64], at: int, byte: np.uint64) -> None:
    place = np.uint64(at)
    words[at >> 3] |= byte << ((place & _U7) << _U3)


@kernel
def _put_number(scratch: npt.NDArray[np.uint64], at: int, number: np.uint64) -> int:
    """Writes a number in decimal; returns where the text goes on."""
    count = 1
    left = number // _TEN
    while left > np.uint64(0):
        count += 1
        left //= _TEN
    left = number
    for i in range(count):
        _put(scratch, at + count - 1 - i, _ZERO + left % _TEN)
        left //= _TEN
    return at + count


@kernel
def _digest(scratch: npt.NDArray[np.uint64], count: int) -> tuple[np.uint64, np.uint64]:
    """Returns the digest of the ``count`` bytes in scratch[:16]; scratch[16:32] is worked in."""
    v = scratch[16:32]
    for i in range(8):
        v[i] = _IV[i]
        v[i + 8] = _IV[i]
    h0 = _IV[0] ^ _SIZE_AND_SHAPE
    h1 = _IV[1]
    v[0] = h0
    v[12] ^= np.uint64(count)
    v[14] ^= _ALL
    for round_ in range(_ROUNDS):
        s = _SIGMA[round_ % 10]
        for g in range(8):
            a, b, c, d = _MIXED[g, 0], _MIXED[g, 1], _MIXED[g, 2], _MIXED[g, 3]
            va, vb, vc, vd = v[a], v[b], v[c], v[d]
            va = va + vb + scratch[s[2 * g]]
            vd ^= va
            vd = (vd >> _U32) | (vd << _U32)
            vc = vc + vd
            vb ^= vc
            vb = (vb >> _U24) | (vb << _U40)
            va = va + vb + scratch[s[2 * g + 1]]
            vd ^= va
            vd = (vd >> _U16) | (vd << _U48)
            vc = vc + vd
            vb ^= vc
            vb = (vb >> _U63) | (vb << _U1)
            v[a], v[b], v[c], v[d] = va, vb, vc, vd
    return h0 ^ v[0] ^ v[8], h1 ^ v[1] ^ v[9]


@kernel
def name_events(events: npt.NDArray[np.void], now_ms: int, scratch: npt.NDArray[np.uint64]) -> None:
    """Writes id and time of taking into events[N] of kinds BID and NO_BID.

    A bid is named by its bid id, a no-bid by opportunity and time. Times are never below 0.

    Args:
        events: [N] of EVENT_DTYPE, changed in place.
        now_ms: becomes ``recv_ms``.
        scratch: [SCRATCH_WORDS], of no meaning.

    Source: ``market.events.event_digest``, its slow twin.
    """
    for i in range(events.shape[0]):
        event = events[i]
        event["recv_ms"] = now_ms
        for k in range(16):
            scratch[k] = np.uint64(0)
        kind = event["kind"]
        at = _put_number(scratch, 0, np.uint64(kind))
        is_bid = kind == _BID
        first = event["bid_hi"] if is_bid else event["opportunity_hi"]
        second = event["bid_lo"] if is_bid else event["opportunity_lo"]
        third = np.uint64(0) if is_bid else np.uint64(event["ts_ms"])
        for number in (first, second, third):
            _put(scratch, at, _SPACE)
            at = _put_number(scratch, at + 1, number)
        event["id_hi"], event["id_lo"] = _digest(scratch, at)
