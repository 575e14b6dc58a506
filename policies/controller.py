"""The controller process: reads intent and ledger, sets bids each tick, publishes snapshots.

    python -m policies.controller DEPLOYMENT

It is the only writer of snapshots, of the live arrays and of the words that announce them. A pause
is written into the active bits as soon as it is seen, before anything else is computed. In an
episode it acts at the exchange's clock steps only, so that a run can be repeated; otherwise it
looks for changed intent ten times a second and ticks every ``tick_ms``.
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bidder.recommendation.network import read_artefact
from ledger.view import LedgerView
from market.control import WORKERS_MAX, ControlBlock, Word, WorkerWord
from market.deployment import Deployment, read_deployment
from market.errors import BadInput, Corrupt, LodestoneError, NotReady
from market.intent import Intent, intent_version, read_intent
from market.snapshot import read_snapshot, snapshot_path, write_snapshot
from policies.tick import ControlLoop, TickRecord

if TYPE_CHECKING:
    from collections.abc import Callable

INTENT_POLL_S = 0.1
STEP_POLL_S = 0.001
SNAPSHOTS_KEPT = 3
VIEW_S_MAX = 0.8
"""A recorder that answers no sooner must not hold up a pause, which acts within a second."""


class Controller:
    """The control loop with its files: what ``main`` runs, without signals and sleeping."""

    def __init__(self, deployment: Deployment, wall: Callable[[], int]) -> None:
        """Maps the control block and picks up after the last snapshot, if there is one."""
        self._deployment = deployment
        self._block = ControlBlock(deployment.control_path)
        self._clock = self._block.clock(wall)
        self._intent = Intent(version=0)
        version, rows = _last_snapshot(deployment)
        self.loop = ControlLoop(
            read_artefact(),
            seed=deployment.seed,
            rates_micros=deployment.rates_micros,
            tick_ms=deployment.tick_ms,
            asset_base_url=f"http://{deployment.host}:{deployment.control_port}",
            landscapes=deployment.landscapes,
            snapshot_version=version,
            rows=rows,
            announce=self._announce_live,
        )
        self._journal = (deployment.root / "policy.jsonl").open("ab")

    def run_once(self) -> bool:
        """Does what is due now; True if something was done."""
        words = self._block.words
        if self._deployment.is_episode:
            step = words[Word.CLOCK_STEP]
            if step == words[Word.CONTROLLER_STEP] or words[Word.RECORDER_STEP] < step:
                return False
            self._act()
            words[Word.CONTROLLER_STEP] = step
            return True
        return self._act()

    def _act(self) -> bool:
        if intent_version(self._intent_folder) != self._intent.version:
            self._intent = read_intent(self._intent_folder)
        acted = self.loop.act(
            self._intent, self._clock(), lambda: fetch_view(self._deployment), self._block.live
        )
        if acted is None:
            return False
        self._record(acted.records)
        version = acted.snapshot.head.version
        write_snapshot(snapshot_path(self._deployment.snapshot_folder, version), acted.snapshot)
        words = self._block.words
        words[Word.SNAPSHOT_VERSION] = version
        words[Word.INTENT_VERSION] = self._intent.version
        words[Word.CONTROLLER_READY] = 1
        self._forget_old_snapshots()
        return True

    def beat(self, now_ns: int) -> None:
        """Says that the process turns, at this time of the machine's monotonic clock."""
        self._block.words[Word.CONTROLLER_BEAT_NS] = now_ns

    def _announce_live(self) -> None:
        """Tells the workers that the live arrays changed, so that they make their bounds anew."""
        self._block.words[Word.LIVE_EPOCH] += 1

    def close(self) -> None:
        """Closes the journal."""
        self._journal.close()

    @property
    def is_stopping(self) -> bool:
        """Whether the supervisor asked every process to leave."""
        return self._block.words[Word.STOP] != 0

    @property
    def _intent_folder(self) -> Path:
        return self._deployment.root / "intent"

    def _record(self, records: tuple[TickRecord, ...]) -> None:
        for record in records:
            self._journal.write(msgspec.json.encode(record._asdict()) + b"\n")
        self._journal.flush()

    def _forget_old_snapshots(self) -> None:
        """Deletes snapshots that no live worker serves any more, keeping the last few."""
        serving = [
            self._block.worker(i)[WorkerWord.SNAPSHOT_VERSION]
            for i in range(WORKERS_MAX)
            if self._block.worker(i)[WorkerWord.PID]
        ]
        oldest = min([*serving, self.loop.snapshot_version - SNAPSHOTS_KEPT])
        for path in self._deployment.snapshot_folder.glob("snapshot-*.bin"):
            if int(path.stem.split("-")[1]) < oldest:
                path.unlink()


def fetch_view(deployment: Deployment) -> LedgerView:
    """Returns the recorder's view of the ledger.

    Raises:
        NotReady: the recorder does not answer.
    """
    connection = http.client.HTTPConnection(
        deployment.host, deployment.notice_port, timeout=VIEW_S_MAX
    )
    headers = {"authorization": f"Bearer {deployment.ledger_token}"}
    try:
        connection.request("GET", "/ledger", headers=headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"recorder at port {deployment.notice_port}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise NotReady(f"recorder at port {deployment.notice_port}: answered {response.status}")
    return msgspec.json.decode(body, type=LedgerView)


def _last_snapshot(deployment: Deployment) -> tuple[int, dict[int, int]]:
    """Returns the newest readable snapshot's version and its rows; (0, {}) if there is none.

    A damaged file is skipped: the campaign store has all that a new snapshot needs, only the rows
    of open leases are worth keeping.
    """
    paths = sorted(deployment.snapshot_folder.glob("snapshot-*.bin"), reverse=True)
    newest = max((int(path.stem.split("-")[1]) for path in paths), default=0)
    for path in paths:
        try:
            snapshot = read_snapshot(path)
        except Corrupt as error:
            _say(error)
            continue
        items = snapshot.arrays.line_items
        return newest, {
            int(item["line_item_id"]): row for row, item in enumerate(items) if item["is_used"]
        }
    return newest, {}


def _say(error: Exception) -> None:
    """Tells the operator in one line."""
    sys.stderr.write(f"controller: {error}\n")
    sys.stderr.flush()


def main(deployment_path: str) -> int:
    """Runs the controller until SIGTERM, SIGINT or the stop word; returns the exit code."""
    try:
        deployment = read_deployment(Path(deployment_path))
        controller = Controller(deployment, lambda: time.time_ns() // 1_000_000)
        with contextlib.closing(controller):
            _run(controller, STEP_POLL_S if deployment.is_episode else INTENT_POLL_S)
    except (LodestoneError, OSError) as error:
        _say(error)
        return 2 if isinstance(error, Corrupt) else 1
    return 0


def _run(controller: Controller, pause_s: float) -> None:
    """Does what is due until told to leave; a ledger that is away is told once."""
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))
    last_failure = ""
    while not stopped and not controller.is_stopping:
        controller.beat(time.monotonic_ns())
        try:
            is_busy = controller.run_once()
            last_failure = ""
        except (NotReady, BadInput) as error:
            # Bidding goes on with what was published last; the next round tries again. An intent
            # that cannot be compiled must not end the engine for all the others.
            is_busy = False
            if str(error) != last_failure:
                last_failure = str(error)
                _say(error)
        if not is_busy:
            time.sleep(pause_s)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
