"""Episodes: any bid agent put into the twin, in process, slice by slice.

Each slice runs as an exchange over HTTP runs it (``simulator.live``): the agent decides on the
opportunities, the auctions are cleared, the notices that fell due are handed over, the time is
told. How the opportunities of a slice are cut into blocks changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from market.decision import DECISION_DTYPE
from market.errors import BadInput
from market.events import EventKind
from market.opportunity import OPPORTUNITY_DTYPE
from simulator.exchange import Bids, Clearing, Exchange, bids_of
from simulator.scenario import slices

if TYPE_CHECKING:
    from market.protocols import BidAgent, Notice
    from simulator.supply import Offers

BLOCK_MAX = 4096
"""Opportunities handed to an agent at once, unless said otherwise."""

_SUMS = (
    "impression_count", "spend_micros", "click_count", "conversion_count", "value_micros",
)  # fmt: skip


class CreativeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one creative's bids in an episode.

    Clicks, conversions and their values are those that the won impressions lead to, whether or not
    their notices arrived before the end. The ``expected_*`` are sums of true probabilities: the
    same mean, far less noise.
    """

    creative_id: int
    campaign_id: int
    bid_count: int
    impression_count: int
    spend_micros: int
    click_count: int
    conversion_count: int
    value_micros: int
    expected_clicks: float
    expected_conversions: float


class EpisodeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an agent in an episode.

    Attributes:
        scenario, seed: what was run.
        opportunity_count: offered.
        bid_count: bids made.
        unregistered_bid_count: bids with creatives that the exchange does not know.
        notice_counts: delivered, by kind, repetitions included.
        repeated_notice_count: second deliveries among them.
        undelivered_notice_count: scheduled after the end.
        creatives: in the order of registration.
    """

    scenario: str
    seed: int
    opportunity_count: int
    bid_count: int
    unregistered_bid_count: int
    notice_counts: dict[str, int]
    repeated_notice_count: int
    undelivered_notice_count: int
    creatives: tuple[CreativeResult, ...]

    def total(self, name: str) -> int:
        """Returns the sum of a whole-number field over creatives, such as ``spend_micros``."""
        assert name in _SUMS, name
        return sum(getattr(creative, name) for creative in self.creatives)


class DecisionLog(NamedTuple):
    """Every decision of an episode and what became of it; all [N], in order of arrival.

    Attributes:
        sequence: int64 number of the request.
        opportunities: records of ``OPPORTUNITY_DTYPE``; their list slices point nowhere.
        decisions: records of ``DECISION_DTYPE``.
        has_won: uint8.
        clearing_cpm_micros: int64, 0 where not won.
        rival_cpm_micros: int64 best rival bid where a bid was made, else 0.
    """

    sequence: npt.NDArray[np.int64]
    opportunities: npt.NDArray[np.void]
    decisions: npt.NDArray[np.void]
    has_won: npt.NDArray[np.uint8]
    clearing_cpm_micros: npt.NDArray[np.int64]
    rival_cpm_micros: npt.NDArray[np.int64]


class Episode(NamedTuple):
    """A finished episode; ``log`` and ``notices`` only where they were asked for."""

    result: EpisodeResult
    log: DecisionLog | None
    notices: tuple[Notice, ...] | None


def run_episode(
    exchange: Exchange,
    agent: BidAgent,
    *,
    block_max: int = BLOCK_MAX,
    keeps_log: bool = False,
    keeps_notices: bool = False,
) -> Episode:
    """Runs ``agent`` through the whole episode of a fresh exchange.

    The agent is told the time once before the first slice, so that it can prepare, and after every
    slice.

    Args:
        exchange: the market; nothing may be pending in it.
        agent: any ``BidAgent``.
        block_max: opportunities handed over at once at most.
        keeps_log: return every decision.
        keeps_notices: return every notice, in the order of delivery.

    Raises:
        BadInput: the exchange was used before, or a decision cannot be a bid in it.
    """
    if exchange.pending_count:
        raise BadInput(
            f"exchange with {exchange.pending_count} notices pending: an episode needs a fresh one"
        )
    scenario = exchange.scenario
    tally = _Tally(exchange)
    notices: list[Notice] = []
    agent.advance(scenario.start_at_ms)
    for piece in slices(scenario):
        if piece.has_traffic:
            offers = exchange.offers(piece.start_ms, piece.end_ms)
            decisions = _decide(agent, offers, block_max)
            bids = bids_of(decisions, scenario.currency)
            tally.add(offers, decisions, bids, exchange.clear(offers, bids), keeps_log=keeps_log)
        rows = exchange.due_rows(piece.start_ms)
        told = exchange.notices_of(rows, piece.start_ms)
        tally.add_notices(rows)
        agent.notice(told)
        if keeps_notices:
            notices.extend(told)
        agent.advance(piece.end_ms)
    return Episode(
        result=tally.result(exchange),
        log=tally.log() if keeps_log else None,
        notices=tuple(notices) if keeps_notices else None,
    )


def _decide(agent: BidAgent, offers: Offers, block_max: int) -> npt.NDArray[np.void]:
    """Returns [N] decisions, asked for in blocks."""
    opportunities = offers.opportunities
    count = opportunities.records.shape[0]
    decisions = np.zeros(count, DECISION_DTYPE)
    for first in range(0, count, block_max):
        block = opportunities._replace(records=opportunities.records[first : first + block_max])
        decisions[first : first + block_max] = agent.decide(block)
    return decisions


class _Tally:
    """Adds up an episode; one row per registered creative."""

    def __init__(self, exchange: Exchange) -> None:
        count = len(exchange.creatives)
        self._sums = {name: np.zeros(count, np.int64) for name in ("bid_count", *_SUMS)}
        self._expected_clicks = np.zeros(count)
        self._expected_conversions = np.zeros(count)
        self._opportunity_count = self._bid_count = self._unregistered = self._repeated = 0
        self._notices = np.zeros(max(EventKind) + 1, np.int64)
        self._logged: list[DecisionLog] = []

    def add(
        self,
        offers: Offers,
        decisions: npt.NDArray[np.void],
        bids: Bids,
        clearing: Clearing,
        *,
        keeps_log: bool,
    ) -> None:
        self._opportunity_count += decisions.shape[0]
        self._bid_count += bids.offer.shape[0]
        is_known = clearing.creative >= 0
        self._unregistered += int(np.count_nonzero(~is_known))
        np.add.at(self._sums["bid_count"], clearing.creative[is_known], 1)
        won = clearing.has_won
        row = clearing.creative[won]
        for name, values in (
            ("impression_count", won),
            ("spend_micros", clearing.amount_micros),
            ("click_count", clearing.has_clicked),
            ("conversion_count", clearing.has_converted),
            ("value_micros", clearing.value_micros),
        ):
            np.add.at(self._sums[name], row, values[won])
        click = clearing.click_probability[won]
        np.add.at(self._expected_clicks, row, click)
        np.add.at(self._expected_conversions, row, click * clearing.conversion_probability[won])
        if keeps_log:
            self._logged.append(_logged(offers, decisions, bids, clearing))

    def add_notices(self, rows: npt.NDArray[np.void]) -> None:
        self._notices += np.bincount(rows["kind"], minlength=self._notices.shape[0])
        self._repeated += int(np.count_nonzero(rows["copy"]))

    def log(self) -> DecisionLog:
        if not self._logged:
            empty = np.zeros(0, np.int64)
            return DecisionLog(
                empty, np.zeros(0, OPPORTUNITY_DTYPE), np.zeros(0, DECISION_DTYPE),
                np.zeros(0, np.uint8), empty, empty,
            )  # fmt: skip
        return DecisionLog(*map(np.concatenate, zip(*self._logged, strict=True)))

    def result(self, exchange: Exchange) -> EpisodeResult:
        return EpisodeResult(
            scenario=exchange.scenario.name,
            seed=exchange.seed,
            opportunity_count=self._opportunity_count,
            bid_count=self._bid_count,
            unregistered_bid_count=self._unregistered,
            notice_counts={
                kind.name.lower(): int(self._notices[kind])
                for kind in EventKind
                if self._notices[kind]
            },
            repeated_notice_count=self._repeated,
            undelivered_notice_count=exchange.pending_count,
            creatives=tuple(
                CreativeResult(
                    creative_id=creative.creative_id,
                    campaign_id=creative.campaign_id,
                    expected_clicks=float(self._expected_clicks[row]),
                    expected_conversions=float(self._expected_conversions[row]),
                    **{name: int(values[row]) for name, values in self._sums.items()},
                )
                for row, creative in enumerate(exchange.creatives)
            ),
        )


def _logged(
    offers: Offers, decisions: npt.NDArray[np.void], bids: Bids, clearing: Clearing
) -> DecisionLog:
    count = decisions.shape[0]
    has_won = np.zeros(count, np.uint8)
    price = np.zeros(count, np.int64)
    rival = np.zeros(count, np.int64)
    has_won[bids.offer] = clearing.has_won
    price[bids.offer] = clearing.clearing_cpm_micros
    rival[bids.offer] = clearing.rival_cpm_micros
    return DecisionLog(
        offers.sequence, offers.opportunities.records, decisions, has_won, price, rival
    )
