"""The recorder process: bids from the rings, notices over HTTP, both into the log; owns the money.

    python -m ledger.recorder DEPLOYMENT

It drains the workers' rings about every millisecond, commits in groups (2 ms, 1,000 events, or as
soon as no further notice comes), and answers a notice once its commit is on disk:

    GET|POST /n/{kind}/{token}?..   200; 302 for a click; 400 for macros that cannot be read; 403
                                    forged; 410 a charge days late; 503 while none can commit
    GET /ledger                     totals as JSON (``ledger.view``); 401 without the token
    POST /ledger/adjustments        books credits and corrections (``ledger.adjustment``); the same
    GET /metrics                    what exchanges' notices do, for Prometheus; no money in it
    GET /live, /ready               200, or 503 while it cannot commit

Time is the control block's: steps of an episode where an exchange drives the clock, else every
50 ms. SIGTERM, SIGINT or the STOP word: drain, commit, answer, leave. SIGUSR1 writes the names of
all imported modules to ``logs/recorder.modules``, for the test that no framework is among them.

What it deliberately does not do: it never reads a campaign, never asks the store, and never
imports chdb, pyarrow, fastapi, sqlalchemy or torch. Everything that decides is in
``ledger.record``; here are sockets, files, timers and signals.
"""

from __future__ import annotations

import asyncio
import gc
import hmac
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec
import uvloop
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from ledger.adjustment import adjustment_event, decode_adjustments
from ledger.checkpoint import rebuild
from ledger.event_log import EVENT_LOG
from ledger.exposition import MetricsPage, node_families
from ledger.http import BAD_REQUEST, HttpServer, response
from ledger.link import WorkerLink
from ledger.notice import landing_location, open_path, read_notice
from ledger.notice_price import Prices, Unreadable
from ledger.outcome import Answer, Outcome
from ledger.record import Recorder, meet_kernels
from ledger.ring import Ring
from ledger.segment import Disk, RealDisk, Recovery, SegmentWriter
from market.chance import code_of
from market.control import ControlBlock, Word, is_alive
from market.deployment import read_deployment
from market.errors import BadInput, Corrupt, Forbidden, LodestoneError, NotReady
from market.events import EVENT_DTYPE, EventKind
from market.exchange import check_profiles
from market.money import amount_micros
from market.snapshot import read_snapshot, snapshot_path
from market.state import CREDIT_DTYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from prometheus_client import Metric

    from ledger.http import Headers
    from ledger.shared_budgets import SharedBudgets
    from ledger.view import LedgerView
    from market.deployment import Deployment
    from market.notices import Token

USAGE: Final = "python -m ledger.recorder DEPLOYMENT"

EVENTS_RING_CAPACITY: Final = 32_768
CREDITS_RING_CAPACITY: Final = 16_384

COMMIT_EVENTS: Final = 1_000
"""So many events are committed without waiting for more."""

COMMIT_NS: Final = 2_000_000
"""No event waits longer for a commit that others join."""

STEP_MS: Final = 50
"""Between two steps of the wall clock."""

# A wake-up costs more than what a tick does, so nothing to do for 100 ticks means fewer of them.
_TICK_S: Final = 0.001
_IDLE_TICKS: Final = 100
_IDLE_TICK_S: Final = 0.02
_IDLE_EPISODE_TICK_S: Final = 0.005
_GARBAGE_MAX: Final = 50_000
_LOOK_NS: Final = 1_000_000_000
_RETRY_NS: Final = 50_000_000
_STOP_S: Final = 1.0
_URL_SAFE: Final = "%/:?#[]@!$&'()*+,;=~"

_NO_STORE: Final = ("cache-control", "no-store")
_OK: Final = response(200, b"", _NO_STORE)
_NO_TOKEN: Final = response(401, b"", ("www-authenticate", "Bearer"), _NO_STORE)
_FORBIDDEN: Final = response(403)
_NOT_FOUND: Final = response(404)
_NO_LANDING: Final = response(404, b"this creative has no landing page\n", _NO_STORE)
_WRONG_METHOD: Final = response(405, b"", ("allow", "GET, POST"))
_TOO_OLD: Final = response(410)
_UNAVAILABLE: Final = response(503, b"", ("retry-after", "1"))


class RecorderProcess:
    """The recorder of one deployment, from its files to its port."""

    def __init__(
        self,
        deployment: Deployment,
        disk: Disk,
        wall_ms: Callable[[], int],
        clock_ns: Callable[[], int],
    ) -> None:
        """Recovers the log and opens the rings; nothing is answered yet.

        Raises:
            BadInput: profiles and price keys of the deployment do not fit.
            Corrupt: control block, log or a ring is damaged.
            NotReady: another recorder has the log open, or the disk refuses.
        """
        self._deployment = deployment
        self._key = bytes.fromhex(deployment.notice_key_hex)
        self._authorization = f"Bearer {deployment.ledger_token}".encode()
        self._clock_ns = clock_ns
        profiles = tuple(check_profiles(deployment.exchanges).values())
        self._prices = Prices(profiles, deployment.price_keys)
        self.core = Recorder(profiles, deployment.worker_count)
        self._control = ControlBlock(deployment.control_path)
        self._words = self._control.words
        self._words[Word.RECORDER_READY] = 0
        self._now_ms = self._control.clock(wall_ms)
        self.recovery: Recovery = rebuild(self.core, deployment.segment_folder, disk)
        self._writer = SegmentWriter(deployment.segment_folder, disk, EVENT_LOG)
        self.core.write_to(self._writer)
        window_ms = max(max(profile.billing_window_ms.values()) for profile in profiles)
        self._links = self._open_links(self._now_ms() + window_ms)
        self._shared = _shared_budgets(deployment, self.core)
        self._page = MetricsPage(self._families, clock_ns)
        self._server = HttpServer(self._answer, clock_ns)
        self._waiting: list[tuple[asyncio.Future[bytes], bytes]] = []
        self._committed = self.core.commit_count
        self._pending_since_ns = 0
        self._pending_seen = 0
        self._retry_ns = 0
        self._next_step_ns = 0
        self._next_look_ns = 0
        self._snapshot_version = 0
        self._wake: asyncio.Future[None] | None = None
        self._is_idle = False
        self._is_stopping = False

    async def run(self) -> None:
        """Serves until it is told to stop.

        Raises:
            Corrupt: a ring was damaged while running.
            OSError: the notice port cannot be bound.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGUSR1, self._write_modules)
        self._tick()
        port = self._deployment.notice_port
        await self._server.listen(self._deployment.host, port)
        self._words[Word.RECORDER_READY] = 1
        idle_ticks = 0
        while not self._is_stopping:
            idle_ticks = 0 if self._tick() else idle_ticks + 1
            self._is_idle = idle_ticks > _IDLE_TICKS
            idle_s = _IDLE_EPISODE_TICK_S if self._is_episode() else _IDLE_TICK_S
            await self._pause(loop, idle_s if self._is_idle else _TICK_S)
            self._is_stopping = self._is_stopping or bool(self._words[Word.STOP])
        self._words[Word.RECORDER_READY] = 0
        await self._leave(loop)

    # One turn.

    def _tick(self) -> bool:
        """Does everything that is due; returns whether there was anything."""
        now_ns, now_ms = self._clock_ns(), self._now_ms()
        self._words[Word.RECORDER_BEAT_NS] = now_ns
        is_busy = self._drain(now_ms) > 0 or bool(self._waiting)
        is_thorough = now_ns >= self._next_look_ns
        if is_thorough:
            self._next_look_ns = now_ns + _LOOK_NS
        for link in self._links:
            link.watch(self.core, now_ms, is_thorough=is_thorough)
        if is_thorough and not self._is_episode():
            self._recall(self.core.stranding(now_ms))
        if self.core.is_stuck and now_ns < self._retry_ns:
            return False
        if self._is_episode():
            is_busy = self._step_episode() or is_busy
        elif now_ns >= self._next_step_ns:
            self._next_step_ns = now_ns + STEP_MS * 1_000_000
            self._read_snapshot(may_recall=True)
            if self._step(now_ms) and self._shared is not None:
                self._share(self._shared, now_ms)
        self._commit_if_due(now_ns)
        return is_busy

    def _drain(self, now_ms: int) -> int:
        return sum(link.read(self.core, now_ms) for link in self._links)

    def _is_episode(self) -> bool:
        return self._deployment.is_episode or self._words[Word.CLOCK_MS] != 0

    def _step_episode(self) -> bool:
        """Does one step of the exchange's clock, and says so once all of it is done."""
        step = self._words[Word.CLOCK_STEP]
        if step == self._words[Word.RECORDER_STEP]:
            return False
        self._read_snapshot(may_recall=False)
        # The clock is read after its step was seen, and the rings after the clock.
        now_ms = self._now_ms()
        self._drain(now_ms)
        if self._step(now_ms):
            self._recall(self.core.stranding(now_ms))
            # What is taken back in a step is also given out in it, however long that takes.
            if not any(link.is_fencing for link in self._links):
                self._words[Word.RECORDER_STEP] = step
        return True

    def _step(self, now_ms: int) -> bool:
        try:
            self.core.step(now_ms)
        except NotReady as error:
            self._after_failure(error)
            return False
        self._after_commit()
        return True

    def _share(self, shared: SharedBudgets, now_ms: int) -> None:
        """Does what is due with the owner of budgets that machines share."""
        try:
            self._recall(shared.step(now_ms, lambda: secrets.token_hex(16)))
        except NotReady as error:
            self._after_failure(error)

    def _view(self) -> LedgerView:
        now_ms = self._now_ms()
        view = self.core.view(now_ms)
        return view if self._shared is None else self._shared.told_of(view, now_ms)

    def _commit_if_due(self, now_ns: int) -> None:
        """Commits when enough waits, for long enough, or when nothing more is coming."""
        count = self.core.pending_count
        if count == 0:
            self._pending_seen = 0
            return
        if self._pending_seen == 0:
            self._pending_since_ns = now_ns
        is_due = (
            count >= COMMIT_EVENTS
            or now_ns - self._pending_since_ns >= COMMIT_NS
            or (self._waiting and count == self._pending_seen)
            or self.core.is_stuck
        )
        self._pending_seen = count
        if is_due:
            self._commit()

    def _commit(self) -> None:
        try:
            self.core.commit()
        except NotReady as error:
            self._after_failure(error)
        else:
            self._after_commit()

    def _after_commit(self) -> None:
        """Lets out what waited: room in the rings, credits, then answers."""
        self._pending_seen = 0
        if self._retry_ns:
            self._retry_ns = 0
            _say("the log can be written again")
        for link in self._links:
            link.release()
            link.push_credits(self.core)
        self._words[Word.DURABLE_SEQUENCE] = self.core.sequence
        self._committed = self.core.commit_count
        waiting, self._waiting = self._waiting, []
        for future, answer in waiting:
            future.set_result(answer)

    def _after_failure(self, error: NotReady) -> None:
        """Answers those who wait that nothing was charged."""
        if self._retry_ns == 0:
            _say(f"notices are answered 503: {error}")
        self._retry_ns = self._clock_ns() + _RETRY_NS
        waiting, self._waiting = self._waiting, []
        for future, _ in waiting:
            future.set_result(_UNAVAILABLE)

    def _read_snapshot(self, *, may_recall: bool) -> None:
        """Takes budgets and landing pages of a new snapshot; a bad one is refused and told."""
        version = self._words[Word.SNAPSHOT_VERSION]
        if version == self._snapshot_version:
            return
        self._snapshot_version = version
        try:
            snapshot = read_snapshot(snapshot_path(self._deployment.snapshot_folder, version))
        except Corrupt as error:
            _say(f"kept the budgets of the snapshot before: {error}")
            return
        holders = self.core.take_snapshot(snapshot)
        if may_recall:
            self._recall(holders)

    def _recall(self, workers: set[int]) -> None:
        """Begins to take the leases of living workers back, to hand them out anew."""
        for worker in sorted(workers):
            self._links[worker].fence(self.core, 0)

    # Requests.

    def _answer(  # noqa: PLR0911 - one path after the other
        self,
        method: bytes,
        path: bytes,
        query: bytes,
        headers: Headers,
        body: bytes,
        arrived_ns: int,
    ) -> bytes | asyncio.Future[bytes]:
        del arrived_ns
        if method not in (b"GET", b"POST"):
            return _WRONG_METHOD
        if path.startswith(b"/n/"):
            return self._take_notice(path, query)
        if path == b"/ledger":
            if not hmac.compare_digest(headers.authorization, self._authorization):
                return _NO_TOKEN
            view = msgspec.json.encode(self._view())
            return response(200, view, ("content-type", "application/json"), _NO_STORE)
        if path == b"/ledger/adjustments":
            if not hmac.compare_digest(headers.authorization, self._authorization):
                return _NO_TOKEN
            return self._book(body) if method == b"POST" else _WRONG_METHOD
        if path == b"/live":
            return _OK
        if path == b"/ready":
            return _UNAVAILABLE if self.core.is_stuck else _OK
        return self._page.answer() if path == b"/metrics" else _NOT_FOUND

    def _book(self, body: bytes) -> bytes | asyncio.Future[bytes]:
        """Books adjustments; answers how many were new once all of them are on disk."""
        try:
            adjustments = decode_adjustments(body)
        except BadInput as error:
            return response(400, f"{error}\n".encode())
        now_ms = self._now_ms()
        answers = [
            self.core.take_adjustment(adjustment_event(adjustment, now_ms))
            for adjustment in adjustments
        ]
        if any(answer.outcome is Outcome.NOT_READY for answer in answers):
            return _UNAVAILABLE
        booked = sum(answer.outcome is Outcome.ADJUSTED for answer in answers)
        told = msgspec.json.encode({"booked": booked, "repeated": len(answers) - booked})
        waits = any(answer.waits for answer in answers)
        return self._answer_when_durable(
            Answer(Outcome.ADJUSTED, waits),
            response(200, told, ("content-type", "application/json"), _NO_STORE),
        )

    def _families(self) -> Iterator[Metric]:
        view = self.core.view(self._now_ms())
        notices = CounterMetricFamily(
            "lodestone_notices_total",
            "Notices that were not simply taken, by what was wrong (ledger.view.ExchangeView).",
            labels=("exchange", "case"),
        )
        faults = CounterMetricFamily(
            "lodestone_notice_faults_total",
            "Notices that could not be read, by what was wrong (ledger.notice_price.Fault).",
            labels=("exchange", "fault"),
        )
        for each in view.exchanges:
            for case, count in msgspec.structs.asdict(each).items():
                if isinstance(count, int):
                    notices.add_metric((each.name, case), count)
            for fault, count in each.faults.items():
                faults.add_metric((each.name, fault), count)
        yield notices
        yield faults
        for name, text, value in (
            ("lodestone_log_sequence", "Last frame of the event log on disk.", view.sequence),
            ("lodestone_log_writable", "1: the last commit worked.", int(view.is_writable)),
            ("lodestone_log_frames_lost", "Frames that a repair gave up.", view.lost_frames),
            ("lodestone_future_bids", "Bids made later than now, since start.", view.future_bids),
            ("lodestone_unfunded_bids", "Bids above their worker's lease.", view.unfunded_bids),
            ("lodestone_events_uncommitted", "Events in no commit yet.", self.core.pending_count),
        ):
            yield GaugeMetricFamily(name, text, value)
        if self._shared is not None:
            yield from node_families(self._shared.status(self._now_ms()))
        waiting = GaugeMetricFamily(
            "lodestone_ring_events", "Events a worker has pushed and nobody has read.",
            labels=("worker",),
        )  # fmt: skip
        for link in self._links:
            waiting.add_metric((str(link.worker),), link.waiting_count())
        yield waiting

    def _take_notice(self, path: bytes, query: bytes) -> bytes | asyncio.Future[bytes]:
        core = self.core
        try:
            kind, token = open_path(self._key, path)
        except Forbidden:
            core.behaviour().forged += 1
            return _FORBIDDEN
        except BadInput:
            core.behaviour().wrong_kind += 1
            return _NOT_FOUND
        now_ms = self._now_ms()
        try:
            notice = read_notice(kind, token, query, core.charging, self._prices, now_ms)
        except Unreadable as error:
            core.behaviour(token.exchange).count_malformed(error.fault)
            return BAD_REQUEST
        if notice is None:
            core.behaviour(token.exchange).audits += 1
            return _OK
        if not core.is_known(token.bid_hi, token.bid_lo):
            self._drain(now_ms)
        answer = core.take_notice(notice, token)
        if core.commit_count != self._committed:
            # A second notice of the same bid committed the first.
            self._after_commit()
        return self._answer_when_durable(answer, self._answer_of(answer, kind, token))

    def _answer_when_durable(self, answer: Answer, text: bytes) -> bytes | asyncio.Future[bytes]:
        if not answer.waits:
            return text
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, text))
        if self.core.pending_count >= COMMIT_EVENTS:
            self._commit()
        elif self._is_idle:
            self._is_idle = False
            self._wake_up()
        return future

    def _answer_of(self, answer: Answer, kind: EventKind, token: Token) -> bytes:
        if answer.outcome is Outcome.NOT_READY:
            return _UNAVAILABLE
        if answer.outcome is Outcome.TOO_OLD:
            return _TOO_OLD
        if kind is not EventKind.CLICK:
            return _OK
        landing_url = self.core.landing_url(token.creative_id)
        if landing_url is None:
            return _NO_LANDING
        location = quote(landing_location(self._key, token, landing_url), safe=_URL_SAFE)
        return response(302, b"", ("location", location), _NO_STORE)

    # Start and end.

    def _open_links(self, until_ms: int) -> list[WorkerLink]:
        """Opens each worker's rings, creates those that are missing, and takes old leases back.

        Raises:
            Corrupt: a ring is damaged.
        """
        folder = self._deployment.ring_folder
        folder.mkdir(parents=True, exist_ok=True)
        holders = self.core.ledger.workers()
        links: list[WorkerLink] = []
        for worker in range(max([self._deployment.worker_count, *(w + 1 for w in holders)])):
            events, is_whole = _open_ring(
                folder / f"events-{worker}.ring", EVENT_DTYPE, EVENTS_RING_CAPACITY
            )
            credits_ring, _ = _open_ring(
                folder / f"credits-{worker}.ring", CREDIT_DTYPE, CREDITS_RING_CAPACITY
            )
            link = WorkerLink(worker, events, credits_ring, self._control.worker(worker), is_alive)
            links.append(link)
            if worker in holders or events.pending_count():
                # Bids may be missing where the machine lost power: wait for any that could be.
                # Those in the ring may have been taken before: then they are no repeats.
                link.fence(self.core, 0 if is_whole else until_ms)
        return links

    def _stop(self) -> None:
        self._is_stopping = True
        self._wake_up()

    async def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        """Takes what is there, makes it durable, and answers those who wait."""
        self._drain(self._now_ms())
        self._commit()
        self._server.close()
        deadline = loop.time() + _STOP_S
        while self._server.connections and loop.time() < deadline:
            await self._pause(loop, _TICK_S)
            self._commit()
        self._writer.close()

    async def _pause(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._wake = loop.create_future()
        timer = loop.call_later(seconds, self._wake_up)
        await self._wake
        timer.cancel()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _write_modules(self) -> None:
        path = self._deployment.log_folder / "recorder.modules"
        temporary = path.with_suffix(".tmp")
        temporary.write_text("\n".join(sorted(sys.modules)), encoding="utf-8")
        temporary.rename(path)


def _open_ring(path: Path, dtype: np.dtype[np.void], capacity: int) -> tuple[Ring, bool]:
    """Returns the ring in ``path`` and whether nothing pushed into it can be missing."""
    if path.exists():
        ring = Ring(path, dtype)
        if ring.was_made_since_boot:
            return ring, True
    return Ring.create(path, dtype, capacity), False


def _shared_budgets(deployment: Deployment, core: Recorder) -> SharedBudgets | None:
    """Returns the turns with the owner of shared budgets; None where they are this machine's alone.

    Raises:
        BadInput: the deployment names no node, cannot share, or shared before; or the password's
            file cannot be read.
    """
    if not deployment.budgets_url:
        if core.log_id:
            raise BadInput(
                "deployment: budgets_url is empty, but the log is that of a machine that shares "
                "its budgets with others; name their owner again, or start with an empty log"
            )
        return None
    if not deployment.node:
        raise BadInput("deployment: node is empty; with budgets_url each machine needs a name")
    if deployment.is_episode:
        raise BadInput("deployment: an episode cannot share budgets; leave budgets_url empty")
    # Only who shares loads the driver.
    from ledger.postgres import PostgresOwner  # noqa: PLC0415
    from ledger.shared_budgets import SharedBudgets  # noqa: PLC0415

    owner = PostgresOwner.of(deployment)
    return SharedBudgets(core, deployment.node, deployment.worker_count, owner)


def _say(text: str) -> None:
    sys.stderr.write(f"recorder: {text}\n")
    sys.stderr.flush()


def _anchored_wall_ms() -> Callable[[], int]:
    """Returns a wall clock that does not jump: read once, then carried on by the monotonic one."""
    ahead_ns = time.time_ns() - time.monotonic_ns()
    return lambda: (time.monotonic_ns() + ahead_ns) // 1_000_000


def _told(recovery: Recovery) -> str:
    names = recovery.foreign_names
    foreign = f", left {len(names)} foreign files alone: {', '.join(names[:5])}" if names else ""
    cut = f", cut {recovery.cut_bytes} torn bytes from {recovery.cut_file}"
    return (
        f"recovered {recovery.frames} frames up to sequence {recovery.last_sequence}"
        f"{cut if recovery.cut_bytes else ''}{foreign}"
    )


def main(arguments: list[str]) -> int:
    """Runs the recorder of the deployment whose path is given; returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write(f"usage: {USAGE}\n")
        return 2
    try:
        deployment = read_deployment(Path(arguments[0]))
        process = RecorderProcess(deployment, RealDisk(), _anchored_wall_ms(), time.monotonic_ns)
        _say(_told(process.recovery))
        # Compiled before the first bid; what lives now lives forever, so no sweep looks at it.
        amount_micros(1_000_000, 1_000_000, 1_000_000)
        code_of("order")
        meet_kernels()
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GARBAGE_MAX)
        uvloop.run(process.run())
    except (BadInput, Corrupt) as error:
        _say(str(error))
        return 2
    except (LodestoneError, OSError) as error:
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
