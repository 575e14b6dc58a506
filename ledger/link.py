"""The recorder's end of one worker: its two rings, and how to take its leases back exactly.

A worker that crashed took what it held with it; a recorder that restarted does not know which
credits it had pushed; a limit that was lowered must be taken back from those who hold it. All three
are one procedure, the fence:

1. Grants and credits to the worker stop.
2. A RESET credit goes into its ring. A worker that takes it can reserve nothing more, so from then
   on all its bids are in the events ring; so are those of a worker that is dead (looked at after
   the push: a new process drains its credits, and so the RESET, before it answers anything).
3. The events ring is drained. Held minus open reservations is now exactly what the worker did not
   use: it is frozen and goes back to the budget, at once if the worker is the same living process,
   after its last reservation's deadline if it crashed.
4. Grants and credits go on, unless there is no worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from market.control import WorkerWord
from market.state import CREDIT_DTYPE, CreditKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from ledger.record import Recorder
    from ledger.ring import Ring

_READ_MAX: Final = 4_096
_PID: Final = int(WorkerWord.PID)
_RESET: Final = np.array([(0, 0, CreditKind.RESET)], CREDIT_DTYPE)


class WorkerLink:
    """One worker as the recorder sees it.

    Attributes:
        worker: its index.
        is_fencing: its leases are being taken back.
        is_gone: they were, and no process has come in its place yet.
    """

    def __init__(
        self,
        worker: int,
        events: Ring,
        credits_ring: Ring,
        words: memoryview,
        is_alive: Callable[[int], bool],
    ) -> None:
        """Takes the two rings, the worker's row of the control block, and how to ask for a pid."""
        self.is_fencing = False
        self.is_gone = False
        self.worker = worker
        self._events = events
        self._credits = credits_ring
        self._words = words
        self._is_alive = is_alive
        self._pid = words[_PID]
        self._reset_position: int | None = None
        self._until_ms = 0

    def read(self, recorder: Recorder, now_ms: int) -> int:
        """Hands the worker's events to ``recorder``; returns how many there were.

        Raises:
            Corrupt: the ring is damaged.
        """
        count = 0
        while self._events.pending_count() and recorder.has_room:
            events = self._events.read(_READ_MAX)
            # While leases are taken back a worker holds nothing that a repeat could be missing.
            recorder.take_bids(events, now_ms, credits_repeats=not self.is_fencing)
            count += events.shape[0]
        return count

    def waiting_count(self) -> int:
        """Returns how many events the worker has pushed that were not read."""
        return self._events.pending_count()

    def release(self) -> None:
        """Lets the ring's room be used again: what was read is durable."""
        self._events.release()

    def push_credits(self, recorder: Recorder) -> None:
        """Pushes what the worker is due and its ring has room for."""
        if not self.is_fencing and not self.is_gone:
            due = recorder.credits(self.worker, self._credits.free_count())
            if due.shape[0]:
                is_pushed = self._credits.push(due)
                assert is_pushed, "no more than fits was asked for"

    def fence(self, recorder: Recorder, until_ms: int) -> None:
        """Begins to take the worker's leases back.

        Args:
            recorder: whose leases they are.
            until_ms: before this time nothing is given to others.
        """
        recorder.suspend_worker(self.worker)
        self.is_fencing = True
        self._until_ms = max(self._until_ms, until_ms)

    def watch(self, recorder: Recorder, now_ms: int, *, is_thorough: bool) -> None:
        """Notices that the worker's process ended or was replaced, and carries a fence through.

        Args:
            recorder: whose leases the worker holds.
            now_ms: the run's clock.
            is_thorough: ask the system whether the process is alive, not only the control block.
        """
        pid = self._words[_PID]
        if self.is_gone:
            self._wait_for_another(recorder, pid, is_thorough=is_thorough)
        elif not self.is_fencing:
            is_replaced = self._pid not in (0, pid)
            if is_replaced or (is_thorough and pid and not self._is_alive(pid)):
                self.fence(recorder, 0)
            else:
                self._pid = pid
        if self.is_fencing:
            self._carry_through(recorder, now_ms)

    def _carry_through(self, recorder: Recorder, now_ms: int) -> None:
        if self._reset_position is None:
            if not self._credits.push(_RESET):
                return
            self._reset_position = self._credits.head
        pid = self._words[_PID]
        is_dead = pid == 0 or not self._is_alive(pid)
        if not is_dead and self._credits.tail < self._reset_position:
            return
        self.read(recorder, now_ms)
        if self._events.pending_count():
            return
        until_ms = self._until_ms
        if is_dead or pid != self._pid:
            until_ms = max(until_ms, recorder.ledger.deadline_ms_max(self.worker))
        recorder.close_worker(self.worker, until_ms)
        self.is_fencing = False
        self._reset_position = None
        self._until_ms = 0
        self._pid = pid
        self.is_gone = is_dead
        if not is_dead:
            recorder.resume_worker(self.worker)

    def _wait_for_another(self, recorder: Recorder, pid: int, *, is_thorough: bool) -> None:
        """Goes on with a new process; else takes back what expired reservations released."""
        if pid and self._is_alive(pid):
            # Nothing was pushed since the RESET, so this one holds nothing.
            self._pid = pid
            self.is_gone = False
            recorder.resume_worker(self.worker)
        elif is_thorough:
            until_ms = recorder.ledger.deadline_ms_max(self.worker)
            recorder.close_worker(self.worker, until_ms)
