"""A bid request in one call: bytes to opportunities."""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bidder.kernels_bundle import opened
from bidder.native.kernels_offer import fill_offer
from bidder.native.kernels_read import read_body
from market.kernel import bare_kernel as kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    from bidder.native.kernels_memo import Memo
    from bidder.native.wire import Wire


@kernel
def read_request(
    body: npt.NDArray[np.uint8], first: int, last: int, profile: np.void, arrival_ms: int,
    salt_0: np.uint64, salt_1: np.uint64, memo_0: np.uint64, memo_1: np.uint64, memo: Memo,
    wire: Wire,
) -> int:  # fmt: skip
    """Reads body[first:last] into ``wire``; returns 0, or the `Bail` for which it did not.

    Args:
        body: bytes, with BODY_PAD readable ones behind ``last``.
        first: where the request begins.
        last: past its end.
        profile: record of PROFILE_DTYPE, the exchange it came from.
        arrival_ms: epoch milliseconds, the decision's now.
        salt_0: with ``salt_1`` the key of user pseudonyms (``market.chance.salt_words``).
        salt_1: see there.
        memo_0: with ``memo_1`` the random key of the memo tables.
        memo_1: see there.
        memo: what the default path has worked out so far.
        wire: overwritten, whatever comes of it.
    """
    cause = read_body(
        body, first, last, wire.cells, wire.staged, wire.text, np.uint64(memo_0), np.uint64(memo_1)
    )
    if cause == 0:
        cause = fill_offer(
            body, last, profile, arrival_ms, np.uint64(salt_0), np.uint64(salt_1), memo, wire
        )
    else:
        wire.missed_count[0] = 0
    return -cause


@kernel
def read_bundled(
    address: int,
    kind: Any,  # noqa: ANN401 - whatever the bundle holds
    first: int,
    last: int,
    lane: int,
    arrival_ms: int,
) -> int:
    """As ``read_request``, with (body, profiles, keys, memo, wire) in a ``kernels_bundle``.

    profiles: [P] of PROFILE_DTYPE, of which row ``lane`` is the exchange's; keys: [4] uint64, the
    key of user pseudonyms and the key of the memo tables.
    """
    body, profiles, keys, memo, wire = opened(address, kind)
    return read_request(
        body, first, last, profiles[lane], arrival_ms, keys[0], keys[1], keys[2], keys[3], memo,
        wire,
    )  # fmt: skip
