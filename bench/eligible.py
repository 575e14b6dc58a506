"""How many line items a request of the load leaves to decide between."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from bench.kernels_eligible import count_eligible
from bidder.decide import Decider
from bidder.edge import Edge
from market.control import new_live_arrays
from market.exchange import DEFAULT_EXCHANGES
from market.openrtb_decode import decode_request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from market.snapshot import Snapshot


def eligible_p50(snapshot: Snapshot, bodies: Iterable[bytes]) -> int:
    """Returns the median over requests of the most line items that any of its imps leaves."""
    live = new_live_arrays()
    live.is_active[:] = 1
    decider = Decider(snapshot, live)
    edge = Edge(bytes(16))
    now_ms = time.time_ns() // 1_000_000
    found: list[int] = []
    for body in bodies:
        offer = edge.read(decode_request(body), DEFAULT_EXCHANGES[0], now_ms)
        out = np.zeros(offer.opportunities.records.shape[0], np.int64)
        decider.make_ready(offer.opportunities)
        bundle = decider.bundle
        count_eligible(bundle.address, bundle.kind, *offer.opportunities, out)
        found.append(int(out.max(initial=0)))
    return int(np.median(found))
