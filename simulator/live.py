"""The twin as a real exchange: the same market over HTTP, on the episode clock.

    python -m simulator.live DEPLOYMENT --scenario demo --campaigns FILE.json --out FILE.json

It speaks OpenRTB to the bid port, sends the notices to the URLs that the bids carry, and plays the
user's browser (impression, click) and the advertiser's page (conversion). It knows nothing of the
bidder but its deployment: ports, base URL, exchange profiles, and the control block, whose clock
words it drives. A slice:

1. send the slice's requests, collect the answers, clear the auctions;
2. send the notices that fell due, wait for every answer;
3. set the clock to the next slice, wait until recorder and controller have acknowledged it.

With one connection everything is sent strictly in order (lockstep); with more, requests and notices
of a slice travel side by side, the notices of one bid still in order. Notices are pipelined; one
that is answered 503 is sent again, after those that were sent behind it. ``--campaigns`` names the
registered creatives, see ``simulator.registration``. Standard output carries JSON lines:
progress, at most four times a second, and at the end the report that also goes to ``--out``.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import msgspec
import numpy as np
import uvloop

from market.control import ControlBlock, Word, WorkerWord
from market.deployment import read_deployment
from market.errors import BadInput, Corrupt, LodestoneError, NotReady
from market.events import EventKind
from market.kernels import amount_micros
from market.money import MICROS
from market.notices import KIND_NAMES, QUERY_ORDER, QUERY_VALUE
from simulator.bid_answer import (
    LiveBid,
    PriceWriter,
    click_token,
    filled,
    price_text,
    read_answer,
)
from simulator.bid_request import RequestWriter
from simulator.exchange import Bids, Exchange, LossReason, profile_of
from simulator.http_client import Answer, Lane, Target, get_request, post_head, target_of
from simulator.live_report import LiveProgress, LiveReport, LiveTally
from simulator.registration import read_registered
from simulator.scenario import load, slices

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    import numpy.typing as npt

    from market.deployment import Deployment
    from simulator.registration import RegisteredCreative
    from simulator.scenario import Scenario
    from simulator.supply import Offers

DEADLINE_S = 60.0
"""How long an acknowledgement, an answer or a notice's delivery may take on the machine's clock."""

_START_DEADLINES = 5
"""How many times that a worker may take to be ready: the first start on a machine compiles."""

PROGRESS_S = 0.25
"""Least time between two reports of progress."""

_POLL_S = 0.001
_STOP_POLL_S = 0.1
_RETRY_S = 0.05
_LATENCIES_SHOWN = 2000
_CLICK_STATUS = 302
_OK = 200
_NO_CONTENT = 204
_UNAVAILABLE = 503


class _Open(NamedTuple):
    """A bid whose notices are still to come."""

    bid: LiveBid
    price_cpm_micros: int
    charging: EventKind
    macros: dict[str, str]


class LiveExchange:
    """One episode of the twin against a running bidder."""

    def __init__(
        self,
        deployment: Deployment,
        scenario: Scenario,
        creatives: tuple[RegisteredCreative, ...],
        *,
        seed: int,
        connections: int,
        wall_ns: Callable[[], int],
        on_progress: Callable[[LiveProgress], None],
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Maps the control block and builds the market; nothing is sent yet.

        Args:
            deployment: the running engine.
            scenario: the market.
            creatives: registered, as the file of ``--campaigns`` names them.
            seed: of everything that happens.
            connections: for bid requests and for notices; 1 = lockstep.
            wall_ns: a clock of the machine that never goes back, in nanoseconds.
            on_progress: called at most every ``PROGRESS_S``, and at the end.
            deadline_s: how long anything may take.

        Raises:
            BadInput: the scenario or the creatives break a rule.
            Corrupt: the control block is damaged.
        """
        self._profile = profile_of(scenario, deployment.exchanges)
        self._exchange = Exchange(
            scenario,
            creatives,
            seed=seed,
            user_salt=bytes.fromhex(deployment.user_salt_hex),
            profile=self._profile,
        )
        self._writer = RequestWriter(self._exchange)
        self._prices = PriceWriter(self._profile, deployment.price_keys)
        self._deployment, self._scenario = deployment, scenario
        self._block = ControlBlock(deployment.control_path)
        self._words = self._block.words
        self._wall_ns, self._on_progress = wall_ns, on_progress
        self._deadline_s = deadline_s
        self._tally = LiveTally(creatives)
        path = f"/bid/{self._profile.name}"
        bidder = Target(deployment.host, deployment.bid_port, path)
        self._post_head = post_head(bidder)
        self._bid_lanes = [Lane(bidder.host, bidder.port) for _ in range(connections)]
        self._notice_lanes: list[dict[tuple[str, int], Lane]] = [{} for _ in range(connections)]
        self._open: dict[int, _Open] = {}
        self._tokens: dict[int, str] = {}
        self._delivered: set[tuple[int, int]] = set()
        self._started_ns = self._progress_ns = wall_ns()
        self._episode: asyncio.Task[None] | None = None
        self._is_stopping = False

    def stop(self) -> None:
        """Cuts the episode short; ``run`` then returns its report. Safe in a signal handler."""
        self._is_stopping = True
        if self._episode is not None:
            self._episode.cancel()

    async def run(self) -> LiveReport:
        """Runs the episode and returns its report; cut short if the control block says stop.

        Raises:
            NotReady: recorder, controller or bidder did not answer in time; the message names it.
        """
        self._episode = asyncio.create_task(self._run_slices())
        watch = asyncio.create_task(self._watch_stop())
        if self._is_stopping:
            self._episode.cancel()
        try:
            await self._episode
        except asyncio.CancelledError:
            if not self._is_stopping:
                raise
        finally:
            watch.cancel()
            for lane in self._bid_lanes:
                lane.close()
            for lanes in self._notice_lanes:
                for lane in lanes.values():
                    lane.close()
        self._show(self._words[Word.CLOCK_MS], is_last=True)
        return self._report(is_complete=not self._is_stopping)

    async def _watch_stop(self) -> None:
        # The word is shared memory, which wakes nobody.
        while not self._words[Word.STOP]:  # noqa: ASYNC110
            await asyncio.sleep(_STOP_POLL_S)
        self.stop()

    async def _run_slices(self) -> None:
        await self._step(self._scenario.start_at_ms)
        await self._wait_for_workers()
        for piece in slices(self._scenario):
            if piece.has_traffic:
                await self._auction(self._exchange.offers(piece.start_ms, piece.end_ms))
            await self._tell(self._exchange.due_rows(piece.start_ms))
            await self._step(piece.end_ms)
            self._show(piece.end_ms, is_last=False)

    async def _step(self, clock_ms: int) -> None:
        """Sets the clock and waits until recorder and controller have caught up with it."""
        words = self._words
        words[Word.CLOCK_MS] = clock_ms
        step = words[Word.CLOCK_STEP] + 1
        words[Word.CLOCK_STEP] = step
        until = self._wall_ns() + self._deadline_s * 1e9
        awaited = {"recorder": Word.RECORDER_STEP, "controller": Word.CONTROLLER_STEP}
        while late := [name for name, word in awaited.items() if words[word] < step]:
            if self._wall_ns() > until:
                found = ", ".join(f"{name} is at {words[awaited[name]]}" for name in late)
                raise NotReady(
                    f"clock step {step} ({clock_ms} ms): {found} after {self._deadline_s:g} s; "
                    "recorder and controller must acknowledge every step"
                )
            await asyncio.sleep(_POLL_S)

    async def _wait_for_workers(self) -> None:
        """Waits until every bid worker answers: all have a snapshot from the first step on.

        A worker that is late to listen would leave its requests unanswered, or, where others take
        them, its leases unused for the whole episode.
        """
        deadline_s = _START_DEADLINES * self._deadline_s
        until = self._wall_ns() + deadline_s * 1e9
        workers = range(self._deployment.worker_count)
        while late := [w for w in workers if not self._block.worker(w)[WorkerWord.IS_READY]]:
            if self._wall_ns() > until:
                raise NotReady(
                    f"bid workers {late} of {self._deployment.folder} are not ready after "
                    f"{deadline_s:g} s; every one must serve a snapshot before the first request: "
                    "see their logs"
                )
            await asyncio.sleep(_POLL_S)

    async def _auction(self, offers: Offers) -> None:
        """Sends the requests of a slice, reads the answers, clears the auctions."""
        answers: dict[int, LiveBid] = {}
        places = iter(range(offers.sequence.shape[0]))

        async def send(lane: Lane) -> None:
            for place in places:
                bid = await self._request(lane, offers, place)
                if bid is not None:
                    answers[place] = bid

        try:
            async with asyncio.timeout(self._deadline_s):
                await _side_by_side([send(lane) for lane in self._bid_lanes])
        except TimeoutError as error:
            raise NotReady(
                f"bidder at {self._deployment.host}:{self._deployment.bid_port}: a slice of "
                f"{offers.sequence.shape[0]} requests took more than {self._deadline_s:g} s"
            ) from error
        self._clear(offers, dict(sorted(answers.items())))

    async def _request(self, lane: Lane, offers: Offers, place: int) -> LiveBid | None:
        """Sends one bid request and returns the bid, if there is one."""
        tally, body = self._tally, self._writer.body(offers, place)
        tally.requests += 1
        began = self._wall_ns()
        try:
            answer = await lane.ask(b"%s%d\r\n\r\n%s" % (self._post_head, len(body), body))
        except OSError:
            tally.answers["lost"] += 1
            return None
        latency = self._wall_ns() - began
        tally.latency_ns.append(latency)
        tally.late_answers += latency > self._scenario.tmax_ms * 1_000_000
        tally.answers[str(answer.status)] += 1
        bid = self._bid_in(answer, self._exchange.request_id(int(offers.sequence[place])))
        if bid is None:
            return None
        tally.bids += 1
        tally.expected[EventKind.BID.name.lower()] += 1
        tally.add(bid.creative_id, "bids")
        return bid

    def _bid_in(self, answer: Answer, request_id: str) -> LiveBid | None:
        """Returns the bid in an answer; None if there is none or it cannot be read."""
        if answer.status != _OK:
            self._tally.no_bids += answer.status == _NO_CONTENT
            return None
        try:
            bid, others = read_answer(answer.body, request_id, self._scenario.currency)
        except BadInput:
            self._tally.errors["undecodable"] += 1
            return None
        if others:
            self._tally.errors["more_than_one_bid"] += others
        if bid is None:
            self._tally.no_bids += 1
        elif bid.fault:
            self._tally.errors[bid.fault] += 1
        return bid

    def _clear(self, offers: Offers, answers: dict[int, LiveBid]) -> None:
        """Clears the bids, keyed by their place in the block, and remembers their URLs."""
        places, made = list(answers), list(answers.values())
        bids = Bids(
            offer=np.array(places, np.int64),
            bid_hi=np.array([bid.bid_hi for bid in made], np.uint64),
            bid_lo=np.array([bid.bid_lo for bid in made], np.uint64),
            price_cpm_micros=np.array([bid.price_cpm_micros for bid in made], np.int64),
            creative_id=np.array([bid.creative_id for bid in made], np.int64),
            size=np.array([bid.size for bid in made], np.uint32),
            format=np.array([bid.format for bid in made], np.uint8),
            rate_micros=np.full(len(made), MICROS, np.int64),
            fault=np.array([bid.reason for bid in made], np.uint16),
        )
        clearing = self._exchange.clear(offers, bids)
        tally = self._tally
        for i, (place, bid) in enumerate(answers.items()):
            reason, sequence = int(clearing.reason[i]), int(offers.sequence[place])
            has_won = reason == LossReason.WON
            tally.wins += has_won
            tally.losses += not has_won
            if has_won:
                tally.add(bid.creative_id, "wins")
            elif reason != LossReason.OUTBID and not bid.fault:
                tally.errors[LossReason(reason).name.lower()] += 1
            price = self._prices.told(
                int(clearing.clearing_cpm_micros[i] or clearing.rival_cpm_micros[i])
            )
            scene = self._exchange.supply.scenes[offers.scene[place]]
            assert scene.format.name is not None
            self._open[sequence] = _Open(
                bid,
                price,
                _KINDS[self._profile.charging[scene.format.name.lower()]],
                {
                    "AUCTION_ID": self._exchange.request_id(sequence),
                    "AUCTION_BID_ID": bid.response_id,
                    "AUCTION_IMP_ID": "1",
                    "AUCTION_SEAT_ID": bid.seat,
                    "AUCTION_AD_ID": bid.ad_id,
                    "AUCTION_PRICE": self._prices.text(
                        price, self._words[Word.CLOCK_MS], bid.bid_lo
                    ),
                    "AUCTION_MBR": f"{price / max(bid.price_cpm_micros, 1):.6f}",
                    "AUCTION_CURRENCY": self._scenario.currency,
                    "AUCTION_LOSS": str(reason),
                    "AUCTION_MIN_TO_WIN": price_text(int(clearing.min_to_win_cpm_micros[i])),
                },
            )

    async def _tell(self, rows: npt.NDArray[np.void]) -> None:
        """Sends the notices that fell due: those of one bid in order, over one connection."""
        count = len(self._notice_lanes)
        by_lane: defaultdict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
        columns = (rows[name].tolist() for name in ("sequence", "kind", "copy", "value_micros"))
        for row in zip(*columns, strict=True):
            by_lane[row[0] % count].append(row)

        async def send(lane: int, notices: Sequence[tuple[int, int, int, int]]) -> None:
            for volley in _volleys(notices):
                await _side_by_side(
                    [
                        self._notice(lane, sequence, EventKind(kind), copy, value)
                        for sequence, kind, copy, value in volley
                    ]
                )

        await _side_by_side([send(lane, notices) for lane, notices in by_lane.items()])

    async def _notice(
        self, lane: int, sequence: int, kind: EventKind, copy: int, value_micros: int
    ) -> None:
        """Delivers one notice and counts it."""
        tally, name = self._tally, KIND_NAMES[kind]
        url = self._url(sequence, kind, value_micros)
        if not url:
            tally.without_url[name] += 1
            return
        try:
            target = target_of(url)
        except BadInput:
            tally.errors["notice_url_not_http"] += 1
            return
        answer = await self._deliver(lane, target, name)
        tally.sent[name] += 1
        tally.repeated += copy
        if answer.status != (_CLICK_STATUS if kind is EventKind.CLICK else _OK):
            tally.refused[f"{name} {answer.status}"] += 1
            return
        if kind is EventKind.CLICK:
            self._tokens[sequence] = click_token(answer.location)
            tally.errors["click_without_token"] += not self._tokens[sequence]
        if (sequence, kind) not in self._delivered:
            self._delivered.add((sequence, kind))
            self._count_distinct(sequence, kind, value_micros)

    def _count_distinct(self, sequence: int, kind: EventKind, value_micros: int) -> None:
        """Counts what one event, told for the first time, must become in the bidder's ledger."""
        tally, about = self._tally, self._open[sequence]
        tally.expected[KIND_NAMES[kind]] += 1
        creative_id = about.bid.creative_id
        if kind in _COUNTED:
            tally.add(creative_id, _COUNTED[kind])
        if kind is about.charging:
            # Every imp of the twin is one impression; amounts stay in bid currency.
            spent = int(amount_micros(about.price_cpm_micros, MICROS, MICROS))
            tally.add(creative_id, "spend_micros", spent)
        if kind is EventKind.CONVERSION:
            tally.add(creative_id, "value_micros", value_micros)

    def _url(self, sequence: int, kind: EventKind, value_micros: int) -> str:
        """Returns where a notice goes, macros filled; "" if the bid did not say."""
        about = self._open[sequence]
        if kind is not EventKind.CONVERSION:
            shown = {"AUCTION_IMP_TS": str(self._words[Word.CLOCK_MS])}
            return filled(
                about.bid.urls.get(kind, ""), about.macros | shown, self._profile.price_suffix
            )
        token = self._tokens.get(sequence, "")
        order = quote(self._exchange.request_id(sequence), safe="")
        query = f"{QUERY_ORDER}={order}&{QUERY_VALUE}={price_text(value_micros)}"
        return f"{self._deployment.base_url}/n/conversion/{token}?{query}" if token else ""

    async def _deliver(self, lane: int, target: Target, name: str) -> Answer:
        """Returns the answer to a notice; tries again while the server is away or says 503."""
        lanes = self._notice_lanes[lane]
        server = (target.host, target.port)
        if server not in lanes:
            lanes[server] = Lane(*server)
        until = self._wall_ns() + self._deadline_s * 1e9
        while True:
            try:
                async with asyncio.timeout(self._deadline_s):
                    answer = await lanes[server].ask(get_request(target))
            except OSError as error:  # TimeoutError is one
                lanes[server].close()
                trouble = f"{type(error).__name__} {error}"
            else:
                if answer.status != _UNAVAILABLE:
                    return answer
                trouble = "503"
            if self._wall_ns() > until:
                raise NotReady(
                    f"{name} notice to {target.host}:{target.port}: {trouble} for "
                    f"{self._deadline_s:g} s; it must be answered"
                )
            self._tally.retries += 1
            await asyncio.sleep(_RETRY_S)

    def _show(self, clock_ms: int, *, is_last: bool) -> None:
        """Reports progress, if the last report is long enough ago."""
        now = self._wall_ns()
        if not is_last and now - self._progress_ns < PROGRESS_S * 1e9:
            return
        self._progress_ns = now
        scenario, tally = self._scenario, self._tally
        whole = scenario.duration_ms + scenario.drain_ms
        self._on_progress(
            LiveProgress(
                clock_ms=clock_ms,
                share_done=min((clock_ms - scenario.start_at_ms) / whole, 1.0),
                wall_s=(now - self._started_ns) / 1e9,
                requests=tally.requests,
                bids=tally.bids,
                wins=tally.wins,
                impressions=tally.total("impressions"),
                clicks=tally.total("clicks"),
                conversions=tally.total("conversions"),
                spend_micros=tally.total("spend_micros"),
                latency_ms_p99=tally.latency_ms(0.99, _LATENCIES_SHOWN),
                campaigns=tally.campaigns(),
            )
        )

    def _report(self, *, is_complete: bool) -> LiveReport:
        tally = self._tally
        return LiveReport(
            is_complete=is_complete,
            scenario=self._scenario.name,
            seed=self._exchange.seed,
            connections=len(self._bid_lanes),
            clock_ms=self._words[Word.CLOCK_MS],
            requests=tally.requests,
            answers=dict(tally.answers),
            bids=tally.bids,
            no_bids=tally.no_bids,
            wins=tally.wins,
            losses=tally.losses,
            notices_sent=dict(tally.sent),
            repeated_notices_sent=tally.repeated,
            notices_refused=dict(tally.refused),
            notice_retries=tally.retries,
            notices_without_url=dict(tally.without_url),
            notices_undelivered=self._exchange.pending_count,
            events_expected=dict(tally.expected),
            errors={name: count for name, count in tally.errors.items() if count},
            late_answers=tally.late_answers,
            latency_ms_p50=tally.latency_ms(0.5),
            latency_ms_p99=tally.latency_ms(0.99),
            latency_ms_max=tally.latency_ms(1.0),
            latency_histogram=tally.histogram(),
            spend_micros=tally.total("spend_micros"),
            creatives=tally.creatives(),
            campaigns=tally.campaigns(),
            wall_s=(self._wall_ns() - self._started_ns) / 1e9,
        )


def _volleys(
    notices: Sequence[tuple[int, int, int, int]],
) -> list[list[tuple[int, int, int, int]]]:
    """Returns (sequence, kind, ...) rows cut into runs that may be pipelined, in order.

    A server that waits for its disk then waits once for many notices. A conversion follows the
    answer to its click, so it starts a new run where the click is in the current one.
    """
    volleys: list[list[tuple[int, int, int, int]]] = [[]]
    clicked: set[int] = set()
    for row in notices:
        if row[1] == EventKind.CONVERSION and row[0] in clicked:
            volleys.append([])
            clicked.clear()
        elif row[1] == EventKind.CLICK:
            clicked.add(row[0])
        volleys[-1].append(row)
    return volleys


async def _side_by_side(work: Sequence[Coroutine[None, None, None]]) -> None:
    """Waits for all of ``work``; the first failure ends the rest and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from failed


_KINDS = {name: kind for kind, name in KIND_NAMES.items()}
_COUNTED = {
    EventKind.IMPRESSION: "impressions",
    EventKind.CLICK: "clicks",
    EventKind.CONVERSION: "conversions",
}


def main(arguments: Sequence[str]) -> int:
    """Runs the command of the module docstring and returns its exit status.

    0: the report is written (``is_complete`` says whether the episode ended or was stopped).
    1: the other side did not answer. 2: bad input, or a damaged file.
    """
    parser = argparse.ArgumentParser(prog="python -m simulator.live")
    parser.add_argument("deployment", type=Path, help="path of deployment.json")
    parser.add_argument("--scenario", default="demo", help="name, or path of a .toml file")
    parser.add_argument("--campaigns", type=Path, required=True, help="registered creatives, JSON")
    parser.add_argument("--out", type=Path, required=True, help="where the report is written")
    parser.add_argument("--seed", type=int, default=1, help="of everything that happens")
    parser.add_argument("--connections", type=int, default=8, help="1 = lockstep, in order")
    chosen = parser.parse_args(arguments)
    try:
        report = uvloop.run(_run(chosen))
    except LodestoneError as error:
        sys.stderr.write(f"simulator.live: {error}\n")
        return 2 if isinstance(error, BadInput | Corrupt) else 1
    line = msgspec.json.encode(report)
    chosen.out.write_bytes(msgspec.json.format(line))
    sys.stdout.write(line.decode() + "\n")
    return 0


async def _run(chosen: argparse.Namespace) -> LiveReport:
    """Reads the inputs and runs the episode; SIGTERM and SIGINT stop it."""
    if chosen.connections < 1:
        raise BadInput(f"--connections is {chosen.connections}; it must be 1 or more")
    try:
        body = chosen.campaigns.read_bytes()
    except OSError as error:
        raise BadInput(f"--campaigns {chosen.campaigns.name}: {error.strerror}") from error

    def show(progress: LiveProgress) -> None:
        sys.stdout.write(msgspec.json.encode(progress).decode() + "\n")
        sys.stdout.flush()

    exchange = LiveExchange(
        read_deployment(chosen.deployment),
        load(chosen.scenario),
        read_registered(body),
        seed=chosen.seed,
        connections=chosen.connections,
        wall_ns=time.perf_counter_ns,
        on_progress=show,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, exchange.stop)
    return await exchange.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
