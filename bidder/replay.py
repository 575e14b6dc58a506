"""Replays OpenRTB request files through the edge and the decision that serve.

Every body gets the answer that ``POST /bid/{exchange}`` would give, and every imp without a bid
its reason and the request field that caused it. Budgets are full and no exchange listens: this
shows matching and pricing, not delivery.
"""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bidder.candidates import Compilation, allocate_rows, compile_snapshot
from bidder.decide import Decider
from bidder.edge import Edge, Refusal
from bidder.no_bid import explain
from bidder.recommendation.network import read_artefact
from bidder.service import BidService, Examined
from market.control import new_live_arrays
from market.decision import NoBidReason
from market.errors import BadInput
from market.money import CURRENCY_NAMES
from market.openrtb_decode import Dropped, decode_request, decode_request_reporting
from market.state import CREDIT_DTYPE, CreditKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from market.campaign import Campaign
    from market.exchange import ExchangeProfile

BODY_BYTES_MAX = 8 * 1024 * 1024
_NDJSON = (".ndjson", ".jsonl")


class ReplayedBid(msgspec.Struct, frozen=True):
    """One bid, short: for people."""

    imp_id: str
    seat: str
    price_cpm: float
    currency: str
    campaign: str
    creative: str
    format: int
    deal: str | None


class ReplayedRefusal(msgspec.Struct, frozen=True):
    """Why an imp got no bid; ``imp_index`` -1 speaks of the whole request."""

    imp_index: int
    reason: str
    field: str
    text: str


class Replayed(msgspec.Struct, frozen=True):
    """What became of one body.

    Attributes:
        name: file, and line for NDJSON.
        status: HTTP status that would be answered.
        detail: what is wrong with a malformed body, else "".
        mended: fields that the lax decoder dropped or mended.
        latency_us: of decode, decision and answer.
    """

    name: str
    status: int
    detail: str
    bids: tuple[ReplayedBid, ...]
    refusals: tuple[ReplayedRefusal, ...]
    mended: tuple[str, ...]
    latency_us: float


class Summary(msgspec.Struct, frozen=True):
    """Totals over all bodies, the one object that ``--json`` prints last."""

    files: int
    answered_200: int
    answered_204: int
    answered_400: int
    answered_5xx: int
    bids: int
    no_bids_by_reason: dict[str, int]
    latency_us_p50: float
    latency_us_p99: float


class _Kept:
    """Takes events and forgets them: a replay has no ledger."""

    def free_count(self) -> int:
        return 1_000_000

    def push_raw(self, record: memoryview) -> bool:
        return len(record) > 0


class Replay:
    """The bidder of one process, with full budgets and nobody to notify."""

    def __init__(
        self, campaigns: tuple[Campaign, ...], profile: ExchangeProfile, now_ms: int
    ) -> None:
        """Compiles the campaigns into today's snapshot and funds every budget to its limit."""
        self._profile = profile
        self._campaigns = {str(campaign.campaign_id): campaign.name for campaign in campaigns}
        snapshot = compile_snapshot(
            campaigns,
            read_artefact(),
            Compilation(
                version=1, policy_version=0, intent_version=0, now_ms=now_ms, seed=1,
                rates_micros={"USD": 1_000_000, "EUR": 1_080_000, "GBP": 1_270_000},
                default_seat=profile.seat, rows=allocate_rows({}, campaigns),
            ),
        )  # fmt: skip
        live = new_live_arrays()
        live.is_active[: snapshot.arrays.line_items.shape[0]] = 1
        self._decider = Decider(snapshot, live)
        self._decider.warm_up()
        self._limits = np.array(
            [
                (b["budget_id"], b["limit_micros"], CreditKind.BUDGET)
                for b in snapshot.arrays.budgets
            ],
            CREDIT_DTYPE,
        )
        self._service = BidService(
            self._decider, Edge(b"replay"), _Kept(), "https://bidder.example", b"\0" * 32
        )

    def run(self, name: str, body: bytes, arrival_ms: int) -> Replayed:
        """Returns what becomes of one (inflated) body."""
        self._decider.state.available_micros[:] = 0
        self._decider.credit(self._limits, arrival_ms)
        start = time.perf_counter_ns()
        try:
            request = decode_request(body)
        except BadInput as error:
            latency_us = (time.perf_counter_ns() - start) / 1000
            told = _told(Refusal(-1, NoBidReason.MALFORMED_REQUEST, ""))
            return Replayed(name, 400, str(error), (), (told,), (), latency_us)
        examined = self._service.examine(request, self._profile, arrival_ms)
        answered = self._service.conclude(examined, self._profile)
        latency_us = (time.perf_counter_ns() - start) / 1000
        _, mended = decode_request_reporting(body)
        return Replayed(
            name, answered.status, "", self._bids(examined), tuple(map(_told, examined.refusals)),
            tuple(map(_mend, mended)), latency_us,
        )  # fmt: skip

    def _bids(self, examined: Examined) -> tuple[ReplayedBid, ...]:
        return tuple(
            ReplayedBid(
                imp_id=bid.impid, seat=seat, price_cpm=bid.price,
                currency=CURRENCY_NAMES[examined.currency],
                campaign=self._campaigns.get(bid.cid or "", ""), creative=bid.crid or "",
                format=bid.mtype or 0, deal=bid.dealid,
            )
            for seat, bid in examined.bids
        )  # fmt: skip


def bodies_of(paths: tuple[Path, ...]) -> Iterator[tuple[str, bytes]]:
    """Yields (name, body) of every request in the files and folders, gzip inflated.

    A folder gives its files in order of name; README files and ``manifest.json`` speak about
    requests and are passed over. A gzip body that does not inflate is given as it is: the bidder
    answers 400 to it.

    Raises:
        BadInput: a path does not exist.
    """
    for path in paths:
        if path.is_dir():
            members = sorted(p for p in path.iterdir() if p.is_file())
            yield from bodies_of(
                tuple(p for p in members if p.name != "manifest.json" and p.suffix != ".md")
            )
            continue
        if not path.is_file():
            raise BadInput(f"request file '{path}': it must be a file or folder that exists")
        body = path.read_bytes()
        stem = path.name
        if path.suffix == ".gz":
            stem = path.stem
            try:
                body = zlib.decompressobj(31).decompress(body, BODY_BYTES_MAX)
            except zlib.error:
                yield path.name, body
                continue
        if stem.endswith(_NDJSON):
            for number, line in enumerate(body.splitlines(), 1):
                if line.strip():
                    yield f"{path.name}:{number}", line
            continue
        yield path.name, body


def summary_of(replayed: list[Replayed]) -> Summary:
    """Returns the totals over ``replayed``."""
    reasons: dict[str, int] = {}
    for each in replayed:
        for refusal in each.refusals:
            reasons[refusal.reason] = reasons.get(refusal.reason, 0) + 1
    latencies = np.array([each.latency_us for each in replayed] or [0.0])

    def answered(low: int, high: int) -> int:
        return sum(low <= each.status <= high for each in replayed)

    return Summary(
        files=len(replayed),
        answered_200=answered(200, 200),
        answered_204=answered(204, 204),
        answered_400=answered(400, 400),
        answered_5xx=answered(500, 599),
        bids=sum(len(each.bids) for each in replayed),
        no_bids_by_reason=dict(sorted(reasons.items())),
        latency_us_p50=float(np.percentile(latencies, 50)),
        latency_us_p99=float(np.percentile(latencies, 99)),
    )


def _told(refusal: Refusal) -> ReplayedRefusal:
    explanation = explain(refusal.reason)
    return ReplayedRefusal(
        refusal.imp_index,
        refusal.reason.name.lower(),
        refusal.field or explanation.field,
        explanation.text,
    )


def _mend(dropped: Dropped) -> str:
    return f"{dropped.pointer}: was {dropped.value}; {dropped.rule}"
