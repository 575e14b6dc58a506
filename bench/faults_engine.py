"""A recorder and bid workers as they ship, and an exchange that asks, wins and sends notices.

The bench stands where supervisor, controller and exchange stand: it starts and kills the processes,
publishes snapshots, posts real OpenRTB bodies over HTTP, and calls the notice URLs that the answers
carry. What an exchange was told (an answer with a bid, a 200 to a notice) is what may not be lost.
"""

from __future__ import annotations

import heapq
import html
import http.client
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from bidder.candidates import Compilation, allocate_rows, compile_snapshot
from bidder.caps import create_cap_file
from bidder.catalogue import read_catalogue
from bidder.metrics import create_metrics_file
from bidder.recommendation.network import read_artefact
from ledger.notice import Charging, open_path
from ledger.view import LedgerView
from market.control import ControlBlock, Word, WorkerWord
from market.deployment import Deployment, write_deployment
from market.events import EventKind
from market.exchange import DEFAULT_EXCHANGES
from market.money import amount_micros, price_from_wire
from market.openrtb import BidResponse
from market.snapshot import snapshot_path, write_snapshot
from simulator.bid_answer import filled, price_text
from tests.ledger.recorders import free_port, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bench.faults_log import Key
    from market.campaign import Budget, Campaign
    from market.openrtb import Bid

REPOSITORY = Path(__file__).parents[1]
_RESPONSE = msgspec.json.Decoder(BidResponse)
_IMPRESSION = re.compile(r"http://[^\"'<>\s\])]+/n/impression/[^\"'<>\s\])]*")
_REQUESTS_PER_CONNECTION = 8
_ANSWER_S = 5.0
_TELLERS = 4
_RETRY_S = 0.2
_START_S = 240
"""A first start on a new machine compiles kernels; a later one takes two seconds."""


class Engine:
    """A run folder with one recorder and some bid workers.

    Attributes:
        workers: the workers' processes; their rows of the control block are ``rows``.
    """

    def __init__(
        self,
        folder: Path,
        campaigns: tuple[Campaign, ...],
        *,
        worker_count: int = 1,
        window_ms: int = 600_000,
        env: Mapping[str, str] | None = None,
        ahead_ms: int = 0,
        **deployment: Any,  # noqa: ANN401 - fields of Deployment
    ) -> None:
        """Makes the folder; nothing runs yet.

        Args:
            folder: of the run; it is made.
            campaigns: that bid.
            worker_count: bid workers.
            window_ms: life of a reservation, of every format.
            env: environment of the processes.
            ahead_ms: how far the processes' clock is ahead of the bench's.
            deployment: further fields of the deployment.
        """
        profile = msgspec.structs.replace(
            DEFAULT_EXCHANGES[0],
            billing_window_ms=dict.fromkeys(DEFAULT_EXCHANGES[0].billing_window_ms, window_ms),
        )
        notice_port = free_port()
        self.deployment = Deployment(
            folder=str(folder), bid_port=free_port(), notice_port=notice_port, control_port=1,
            worker_count=worker_count, base_url=f"http://127.0.0.1:{notice_port}",
            notice_key_hex="11" * 32, user_salt_hex="22" * 16, exchanges=(profile,), **deployment,
        )  # fmt: skip
        for made in (
            self.deployment.log_folder, self.deployment.ring_folder,
            self.deployment.snapshot_folder,
        ):  # fmt: skip
            made.mkdir(parents=True)
        self.control = ControlBlock.create(self.deployment.control_path)
        create_cap_file(self.deployment.ring_folder / "caps.bin", worker_count)
        create_metrics_file(self.deployment.metrics_path, self.deployment)
        self.path = write_deployment(self.deployment)
        self.rows = [self.control.worker(n) for n in range(worker_count)]
        self.workers: list[subprocess.Popen[bytes]] = []
        self.recorder: subprocess.Popen[bytes] | None = None
        self._campaigns = campaigns
        self._model = read_artefact()
        self._env = None if env is None else {**os.environ, **env}
        self._ahead_ms = ahead_ms

    def now_ms(self) -> int:
        """Epoch milliseconds as the processes see them."""
        return time.time_ns() // 1_000_000 + self._ahead_ms

    def publish(self, now_ms: int) -> None:
        """Does what the controller does: a snapshot of the campaigns as they are at ``now_ms``."""
        version = int(self.control.words[Word.SNAPSHOT_VERSION]) + 1
        snapshot = compile_snapshot(
            self._campaigns, self._model,
            Compilation(
                version=version, policy_version=1, intent_version=1, now_ms=now_ms, seed=1,
                rates_micros=self.deployment.rates_micros, default_seat="lodestone",
                rows=allocate_rows({}, self._campaigns),
            ),
        )  # fmt: skip
        write_snapshot(snapshot_path(self.deployment.snapshot_folder, version), snapshot)
        self.control.live.is_active[: snapshot.arrays.line_items.shape[0]] = 1
        self.control.words[Word.SNAPSHOT_VERSION] = version

    def start(self) -> Engine:
        """Starts everything and waits until every worker serves and holds leases."""
        self.publish(self.now_ms())
        words = self.control.words
        self.recorder = self._spawn("ledger.recorder")
        until(lambda: words[Word.RECORDER_READY], _START_S)
        self.workers = [self._spawn("bidder.worker", str(n)) for n in range(len(self.rows))]
        for row in self.rows:
            until(lambda row=row: row[WorkerWord.IS_READY], _START_S)
        return self

    def spawn(self, module: str) -> subprocess.Popen[bytes]:
        """Starts another process of the deployment, ``python -m module DEPLOYMENT``."""
        return self._spawn(module)

    def kill_worker(self, index: int) -> None:
        """kill -9, and another process in its place at once."""
        self.workers[index].kill()
        self.workers[index].wait()
        self.rows[index][WorkerWord.IS_READY] = 0
        self.workers[index] = self._spawn("bidder.worker", str(index))

    def kill_all_workers(self) -> None:
        """kill -9 of every worker; none comes in its place."""
        for process in self.workers:
            process.kill()
            process.wait()

    def ledger(self) -> LedgerView:
        """What the recorder says of the money."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.deployment.notice_port, timeout=30
        )
        try:
            token = self.deployment.ledger_token
            connection.request("GET", "/ledger", headers={"authorization": f"Bearer {token}"})
            return msgspec.json.decode(connection.getresponse().read(), type=LedgerView)
        finally:
            connection.close()

    def stop(self) -> None:
        """Ends what runs."""
        self.kill_all_workers()
        if self.recorder is not None:
            self.recorder.terminate()
            self.recorder.wait(30)

    def _spawn(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        name = "-".join((module.rpartition(".")[2], *arguments))
        with (self.deployment.log_folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, str(self.path), *arguments],
                cwd=REPOSITORY, stderr=log, stdout=log, env=self._env,
            )  # fmt: skip


def campaigns_with(budgets: Sequence[Budget]) -> tuple[Campaign, ...]:
    """Returns the campaigns that ship once for each budget, with ids of their own, in UTC.

    They bid alike and the lower id wins a tie: an earlier budget is spent before a later one.
    """
    made: list[Campaign] = []
    for n, budget in enumerate(budgets):
        for campaign in read_catalogue():
            items = tuple(
                msgspec.structs.replace(
                    item,
                    line_item_id=item.line_item_id + 1_000 * n,
                    frequency_caps=(),
                    creatives=tuple(
                        msgspec.structs.replace(each, creative_id=each.creative_id + 100_000 * n)
                        for each in item.creatives
                    ),
                )
                for item in campaign.line_items
            )
            made.append(
                msgspec.structs.replace(
                    campaign, campaign_id=campaign.campaign_id + 10 * n, line_items=items,
                    budget=budget, time_zone="UTC",
                )
            )  # fmt: skip
    return tuple(made)


class Offer(NamedTuple):
    """A bid of an answer, as the exchange sees it: what to call, and what it then costs."""

    key: Key
    worker: int
    deadline_ms: int
    path: str
    amount_micros: int
    is_test: bool
    """Of a request that says test: nothing is ever charged for it."""


class Traffic:
    """An exchange: one thread asks for bids at a steady rate, some tell of the wins.

    A notice is sent until it is answered 200, as exchanges do; one in ten is sent once more then.

    Attributes:
        answered: of every bid in an answer that came, the worker that made it.
        acked: what every notice that was answered 200 charges.
        since: by worker, bids answered since somebody last set it to 0.
        told_count: notices answered 200 so far.
        refused: answers to notices other than 200, by status.
        statuses: answers to bid requests, by status; 0: the connection broke.
    """

    def __init__(
        self,
        engine: Engine,
        bodies: Sequence[bytes],
        per_second: float,
        seed: int,
        *,
        delay_s: tuple[float, float] = (0.0, 0.5),
        late_share: float = 0.0,
    ) -> None:
        """Takes whom to ask, what, and how often.

        Args:
            engine: that is asked.
            bodies: sent in turn, again and again.
            per_second: bid requests.
            seed: of what is won, when it is told, and at what price.
            delay_s: least and most time from the answer to the notice.
            late_share: share of the wins that are told after their reservation's deadline.
        """
        self._engine, self._bodies = engine, bodies
        self._gap_s = 1 / per_second
        self._delay_s, self._late_share = delay_s, late_share
        self._chance = random.Random(seed)
        self._told_chance = random.Random(seed + 1)
        self._key = bytes.fromhex(engine.deployment.notice_key_hex)
        self._charging = Charging(engine.deployment.exchanges)
        self.answered: dict[Key, int] = {}
        self.acked: dict[Key, int] = {}
        self.since: Counter[int] = Counter()
        self.told_count = 0
        self.refused: Counter[int] = Counter()
        self.statuses: Counter[int] = Counter()
        self.errors: list[BaseException] = []
        self._due: list[tuple[float, int, Offer]] = []
        # By bid: since when a notice is due that was not answered 200 yet.
        self._owed: dict[Key, float] = {}
        self._lock = threading.Lock()
        self._is_asking = self._is_telling = True
        self._threads = [
            threading.Thread(target=self._guarded, args=(part,), daemon=True)
            for part in (self._ask_all, *(self._tell_all,) * _TELLERS)
        ]

    def start(self) -> Traffic:
        """Begins."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """Asks no more, and returns once every notice was answered 200."""
        self._is_asking = False
        self._threads[0].join()
        try:
            until(lambda: not (self._due or self._owed) or self.errors, 120)
        finally:
            self._is_telling = False
            for thread in self._threads[1:]:
                thread.join()
        if self.errors:
            raise self.errors[0]

    def is_behind(self, at_s: float) -> bool:
        """Whether a notice that was due by ``at_s`` (monotonic) is not acknowledged yet."""
        with self._lock:
            return any(due_s <= at_s for due_s in self._owed.values())

    def _guarded(self, part: Callable[[], None]) -> None:
        try:
            part()
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            self.errors.append(error)

    def _ask_all(self) -> None:
        port = self._engine.deployment.bid_port
        connection, left = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S), 0
        due_s = time.monotonic()
        number = 0
        while self._is_asking:
            due_s = max(due_s + self._gap_s, time.monotonic() - 1.0)
            time.sleep(max(0.0, due_s - time.monotonic()))
            if left == 0:
                # A new connection may go to another worker.
                connection.close()
                left = _REQUESTS_PER_CONNECTION
            left -= 1
            number += 1
            try:
                connection.request(
                    "POST", "/bid/default", self._bodies[number % len(self._bodies)],
                    {"content-type": "application/json", "x-openrtb-version": "2.6"},
                )  # fmt: skip
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException):
                self.statuses[0] += 1
                connection.close()
                left = 0
                time.sleep(0.005)
                continue
            self.statuses[answer.status] += 1
            if answer.status == 200:
                self._take(body)
        connection.close()

    def _take(self, body: bytes) -> None:
        """Notes the bids of an answer, and decides which of them win."""
        for seat in _RESPONSE.decode(body).seatbid or ():
            for bid in seat.bid:
                offer = self._offer(bid)
                self.answered[offer.key] = offer.worker
                self.since[offer.worker] += 1
                if not offer.is_test and self._chance.random() < 0.7:
                    at_s = time.monotonic() + self._chance.uniform(*self._delay_s)
                    if self._chance.random() < self._late_share:
                        left_ms = offer.deadline_ms - self._engine.now_ms()
                        at_s = time.monotonic() + left_ms / 1e3 + self._chance.uniform(0.1, 1)
                    with self._lock:
                        self._owed[offer.key] = at_s
                        heapq.heappush(self._due, (at_s, len(self.answered), offer))

    def _offer(self, bid: Bid) -> Offer:
        assert bid.burl, "every bid has a billing URL"
        _, token = open_path(self._key, urlsplit(bid.burl).path.encode())
        url = bid.burl
        if self._charging.kind(token.exchange, token.format) is not EventKind.BILLING:
            found = _IMPRESSION.search(html.unescape(bid.adm or ""))
            assert found, "a bid that its impression charges has an impression URL"
            url = found[0]
        most = price_from_wire(bid.price)
        cpm = self._chance.randint(most // 2, most)
        parts = urlsplit(filled(url, {"AUCTION_PRICE": price_text(cpm)}))
        return Offer(
            (token.bid_hi, token.bid_lo), token.worker, token.deadline_ms,
            f"{parts.path}?{parts.query}",
            amount_micros(cpm, token.quantity_micros, token.rate_micros), bool(token.is_test),
        )  # fmt: skip

    def _tell_all(self) -> None:
        port = self._engine.deployment.notice_port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
        while self._is_telling:
            with self._lock:
                is_due = self._due and self._due[0][0] <= time.monotonic()
                at_s, number, offer = heapq.heappop(self._due) if is_due else (0.0, 0, None)
            if offer is None:
                time.sleep(0.002)
                continue
            try:
                connection.request("GET", offer.path)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 0
            with self._lock:
                is_repeat = offer.key in self.acked
                if status == 200:
                    self.acked.setdefault(offer.key, offer.amount_micros)
                    self._owed.pop(offer.key, None)
                    self.told_count += 1
                else:
                    self.refused[status] += 1
                if status != 200 or (not is_repeat and self._told_chance.random() < 0.1):
                    again_s = max(at_s, time.monotonic()) + _RETRY_S
                    heapq.heappush(self._due, (again_s, number, offer))
        connection.close()


def wait_for(
    what: str, is_so: Callable[[], Any], wait_s: float, errors: Iterable[BaseException]
) -> None:
    """Polls until ``is_so()``.

    Raises:
        RuntimeError: it did not happen in time; names ``what``.
    """
    give_up = time.monotonic() + wait_s
    while not is_so():
        for error in errors:
            raise error
        if time.monotonic() > give_up:
            raise RuntimeError(f"{what} did not happen in {wait_s} s")
        time.sleep(0.005)
