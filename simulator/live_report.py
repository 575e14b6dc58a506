"""What the twin reports of a run over HTTP: counts that the other side must be able to confirm.

``events_expected`` is what the bidder's ledger must hold, each distinct event once: one BID for
every bid that came, and each notice that was answered as it should be. ``spend_micros`` is what it
must have charged, in bid currency.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.registration import RegisteredCreative

LATENCY_BOUNDS_MS = (
    0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0, 1000.0,
)  # fmt: skip


class LiveCreative(msgspec.Struct, frozen=True, kw_only=True):
    """One creative's, or one campaign's, part of a run; ``id`` is the creative's or campaign's."""

    id: int
    bids: int = 0
    wins: int = 0
    impressions: int = 0
    clicks: int = 0
    conversions: int = 0
    spend_micros: int = 0
    value_micros: int = 0


class LiveReport(msgspec.Struct, frozen=True, kw_only=True):
    """A run over HTTP, finished or cut short.

    Attributes:
        is_complete: the episode ran to its end.
        clock_ms: where the episode clock stands.
        requests: bid requests sent.
        answers: by HTTP status; "lost" = the connection broke.
        bids, no_bids: of the answers with 200 and 204.
        wins, losses: cleared bids.
        notices_sent: answered deliveries by kind, repetitions included.
        repeated_notices_sent: second deliveries among them.
        notices_refused: by kind and status, such as "win 403".
        notice_retries: deliveries that were tried again after a 503 or a broken connection.
        notices_without_url: by kind, due notices that the bid gave no URL for.
        notices_undelivered: scheduled after the end.
        events_expected: distinct events by kind.
        errors: answers that break OpenRTB or the house's own rules, by name.
        late_answers: slower than ``tmax``.
        latency_ms_p50, latency_ms_p99, latency_ms_max: of bid requests, on the machine's clock.
        latency_histogram: answers by upper bound in milliseconds; the last key is "more".
        spend_micros: charged, in bid currency: clearing prices of delivered charging notices.
        creatives, campaigns: parts, by id.
        wall_s: how long it took on the machine's clock.
    """

    kind: str = "result"
    is_complete: bool
    scenario: str
    seed: int
    connections: int
    clock_ms: int
    requests: int
    answers: dict[str, int]
    bids: int
    no_bids: int
    wins: int
    losses: int
    notices_sent: dict[str, int]
    repeated_notices_sent: int
    notices_refused: dict[str, int]
    notice_retries: int
    notices_without_url: dict[str, int]
    notices_undelivered: int
    events_expected: dict[str, int]
    errors: dict[str, int]
    late_answers: int
    latency_ms_p50: float
    latency_ms_p99: float
    latency_ms_max: float
    latency_histogram: dict[str, int]
    spend_micros: int
    creatives: tuple[LiveCreative, ...]
    campaigns: tuple[LiveCreative, ...]
    wall_s: float


class LiveProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run has come; one JSON line each."""

    kind: str = "progress"
    clock_ms: int
    share_done: float
    wall_s: float
    requests: int
    bids: int
    wins: int
    impressions: int
    clicks: int
    conversions: int
    spend_micros: int
    latency_ms_p99: float
    campaigns: tuple[LiveCreative, ...]


class LiveTally:
    """Counts while a run goes on."""

    def __init__(self, creatives: Iterable[RegisteredCreative]) -> None:
        """Starts at zero."""
        self.requests = self.bids = self.no_bids = self.wins = self.losses = 0
        self.repeated = self.retries = self.late_answers = 0
        self.answers: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.without_url: Counter[str] = Counter()
        self.expected: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.latency_ns: list[int] = []
        self._campaign_of = {c.creative_id: c.campaign_id for c in creatives}
        self._parts: defaultdict[int, Counter[str]] = defaultdict(Counter)

    def add(self, creative_id: int, name: str, amount: int = 1) -> None:
        """Adds to one creative's field ``name`` of ``LiveCreative``."""
        self._parts[creative_id][name] += amount

    def total(self, name: str) -> int:
        """Returns a field of ``LiveCreative`` added up over creatives."""
        return sum(part[name] for part in self._parts.values())

    def creatives(self) -> tuple[LiveCreative, ...]:
        """Returns every creative that bid."""
        return tuple(LiveCreative(id=key, **self._parts[key]) for key in sorted(self._parts))

    def campaigns(self) -> tuple[LiveCreative, ...]:
        """Returns every registered campaign that bid."""
        sums: defaultdict[int, Counter[str]] = defaultdict(Counter)
        for creative_id, part in self._parts.items():
            campaign_id = self._campaign_of.get(creative_id)
            if campaign_id is not None:
                sums[campaign_id].update(part)
        return tuple(LiveCreative(id=key, **sums[key]) for key in sorted(sums))

    def latency_ms(self, share: float, last: int | None = None) -> float:
        """Returns a quantile of the latency, over all answers or the ``last`` ones; 0 = none."""
        taken = self.latency_ns[-last:] if last else self.latency_ns
        return float(np.quantile(np.array(taken), share)) / 1e6 if taken else 0.0

    def histogram(self) -> dict[str, int]:
        """Returns answers by upper bound of the latency in milliseconds."""
        counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
        for latency in self.latency_ns:
            counts[bisect_left(LATENCY_BOUNDS_MS, latency / 1e6)] += 1
        names = [*map(str, LATENCY_BOUNDS_MS), "more"]
        return dict(zip(names, counts, strict=True))
