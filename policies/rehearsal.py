"""The whole engine in one process, as an agent for the twin: bidder, budgets' owner, control loop.

The same decision kernels, the same recorder core and the same control loop that serve behind HTTP,
called one after the other in the order in which an episode's clock steps call the processes. A
rehearsal and a live episode with the same seed therefore give the same decisions and the same
spend, to the micro (``tests/test_parity.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bidder.decide import Decider
from ledger.record import Recorder
from market.control import new_live_arrays
from policies.tick import ControlLoop, TickRecord

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from bidder.recommendation.network import Weights
    from ledger.view import LedgerView
    from market.exchange import ExchangeProfile
    from market.intent import Intent
    from market.opportunity import Opportunities
    from market.protocols import Notice
    from market.snapshot import Snapshot

_CREDITS_MAX = 65_536


class Rehearsal:
    """A ``market.protocols.BidAgent`` that is the engine itself, with one worker.

    Attributes:
        events: what the worker recorded, in order, one array per block.
        records: what the policies set, and why.
        recorder: the owner of the budgets.
    """

    def __init__(
        self,
        intent: Intent,
        weights: Weights,
        exchanges: tuple[ExchangeProfile, ...],
        *,
        seed: int,
        rates_micros: dict[str, int],
        tick_ms: int,
        no_bid_sample_rate: float = 0.0,
        asset_base_url: str = "",
    ) -> None:
        """Starts with no money and no snapshot; the first ``advance`` makes both."""
        self._intent = intent
        self._live = new_live_arrays()
        self._sample_rate = no_bid_sample_rate
        self._loop = ControlLoop(
            weights, seed=seed, rates_micros=rates_micros, tick_ms=tick_ms,
            asset_base_url=asset_base_url,
        )  # fmt: skip
        self._decider: Decider | None = None
        self._snapshot: Snapshot | None = None
        self._now_ms = 0
        self.recorder = Recorder(exchanges, worker_count=1)
        self.events: list[npt.NDArray[np.void]] = []
        self.records: list[TickRecord] = []

    def change(self, intent: Intent) -> None:
        """Makes ``intent`` what the advertisers want from the next ``advance`` on."""
        self._intent = intent

    def decide(self, opportunities: Opportunities) -> npt.NDArray[np.void]:
        """See ``BidAgent``; the events of the block go to the recorder at once."""
        assert self._decider is not None, "advance comes before the first decision"
        decisions, events = self._decider.decide(opportunities)
        if events.shape[0]:
            self.recorder.take_bids(events, self._now_ms)
            self.events.append(events)
        return decisions

    def notice(self, notices: tuple[Notice, ...]) -> None:
        """See ``BidAgent``; every notice is durable and settled when this returns."""
        for notice in notices:
            self.recorder.take_notice(notice)
        self.recorder.commit()

    def advance(self, now_ms: int) -> None:
        """See ``BidAgent``: recorder first, then controller, as the episode's clock steps go."""
        self._now_ms = now_ms
        if self._snapshot is not None:
            self.recorder.take_snapshot(self._snapshot)
        self.recorder.step(now_ms)
        acted = self._loop.act(self._intent, now_ms, self.view, self._live)
        if acted is not None:
            self.records.extend(acted.records)
            self._snapshot = acted.snapshot
            if self._decider is None:
                self._decider = Decider(
                    acted.snapshot, self._live, no_bid_sample_rate=self._sample_rate
                )
                self._decider.warm_up()
            else:
                self._decider.swap(acted.snapshot)
        assert self._decider is not None, "the first advance always publishes a snapshot"
        self._decider.credit(self.recorder.credits(0, _CREDITS_MAX), now_ms)

    def view(self) -> LedgerView:
        """Returns the ledger as of now."""
        return self.recorder.view(self._now_ms)
