"""A recorder's part in budgets that machines share: its turns with the owner, off its loop.

``SharedBudgets`` stands between the recorder's core, which is only touched on the recorder's loop,
and the owner, which is only spoken to in a thread of its own: the loop never waits for a server.
A turn: look at the budgets, a few at a time; wait for a commit of the log, so that what was seen is
durable; hand the statements to the thread; take the answer when it is there. The rules and the
bound are in ``ledger.allotment``.

While the owner cannot be reached the recorder goes on within its allotments; turns are tried again
every second, and the metrics tell of it. ``Forbidden`` goes up to the recorder, which ends.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

import msgspec

from ledger.allotment import Answer, Node, opened
from ledger.lease import Allotment
from ledger.view import NodeStatus
from market.errors import NotReady

if TYPE_CHECKING:
    from collections.abc import Callable

    from ledger.allotment import Owner, Statement
    from ledger.record import Recorder
    from ledger.view import LedgerView

Heard = Answer | tuple[Allotment, ...]
"""What the owner says to a turn, or to ``open``."""

TURN_MS: Final = 500
"""From the start of one turn to that of the next."""

RETRY_MS: Final = 1_000
"""After a turn that failed."""

LOOKS_MAX: Final = 512
"""Budgets looked at in one step of the recorder: about a millisecond."""

STATEMENTS_MAX: Final = 5_000
"""In one turn; what is left is said in the next."""


class Errand:
    """One thread that does one thing after the other; it ends with the process."""

    def __init__(self) -> None:
        """Starts the thread."""
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="budgets", daemon=True).start()

    def send(self, do: Callable[[], Heard]) -> Future[Heard]:
        """Does ``do`` in the thread; the future has what it returned or raised."""
        future: Future[Heard] = Future()

        def doing() -> None:
            try:
                result = do()
            except BaseException as error:  # noqa: BLE001 - whoever takes the result sees it
                future.set_exception(error)
            else:
                future.set_result(result)

        self._queue.put(doing)
        return future

    def _run(self) -> None:
        while True:
            self._queue.get()()


class SharedBudgets:
    """The turns of one recorder."""

    def __init__(
        self,
        core: Recorder,
        name: str,
        worker_count: int,
        owner: Owner,
        send: Callable[[Callable[[], Heard]], Future[Heard]] | None = None,
    ) -> None:
        """Stops the core's leases until the owner has answered.

        Args:
            core: after its replay.
            name: of the node.
            worker_count: of this machine.
            owner: of the budgets; only spoken to through ``send``.
            send: does something somewhere else than here; default: in a thread.
        """
        self._core = core
        self._name = name
        self._owner = owner
        self._send = send or Errand().send
        self._node = Node(worker_count)
        self._is_open = False
        self._future: Future[Heard] | None = None
        self._statements: list[Statement] = []
        # Budgets to look at before the turn, None between two turns; and what no turn had room for.
        self._left: list[int] | None = None
        self._rest: list[int] = []
        # Budgets of days gone by with nothing to say, until the next snapshot.
        self._resting: set[int] = set()
        self._seen_snapshots = 0
        self._seen_commits = 0
        self._next_ms = self._contact_ms = -1
        self._turns = self._failures = 0
        self._trouble = ""
        core.ledger.may_lease = False

    def step(self, now_ms: int, new_log_id: Callable[[], str]) -> set[int]:
        """Does what is due, without waiting; returns the workers whose leases must be taken back.

        Args:
            now_ms: a clock that does not jump.
            new_log_id: makes the id of a log that has none.

        Raises:
            Forbidden: the node is another process's now, or was closed.
            BadInput: the owner refuses this log.
        """
        if not self._core.log_id:
            self._core.allot(new_log_id(), ())
            self._seen_commits = self._core.commit_count
        if self._future is not None:
            return self._take_answer(now_ms) if self._future.done() else set()
        if now_ms < self._next_ms:
            return set()
        if not self._is_open:
            if self._core.commit_count > self._seen_commits:
                sequence, log_id = self._core.sequence, self._core.log_id
                self._future = self._send(lambda: self._owner.open(self._name, log_id, sequence))
            return set()
        if self._left is None:
            self._next_ms = now_ms
            self._left = self._rest or self._awake()
            self._rest = []
            self._seen_commits = self._core.commit_count
        if self._left:
            return self._look(now_ms)
        if self._core.commit_count > self._seen_commits:
            statements, sequence = tuple(self._statements), self._core.sequence
            self._future = self._send(lambda: self._owner.turn(sequence, statements))
        return set()

    def status(self, now_ms: int) -> NodeStatus:
        """Returns how it stands."""
        return NodeStatus(
            node=self._name,
            is_open=self._is_open,
            contact_ms_ago=-1 if self._contact_ms < 0 else now_ms - self._contact_ms,
            turns=self._turns,
            failures=self._failures,
            asked=self._node.asked_count,
            refused=self._node.refused_count,
            trouble=self._trouble,
        )

    def told_of(self, view: LedgerView, now_ms: int) -> LedgerView:
        """Returns the view with what is known of the other machines."""
        others = self._node.others_spent_micros
        allotted = dict(self._core.ledger.allotments())
        return msgspec.structs.replace(
            view,
            node=self.status(now_ms),
            budgets=tuple(
                msgspec.structs.replace(
                    budget,
                    others_spent_micros=others.get(budget.budget_id, 0),
                    allotted_micros=allotted.get(budget.budget_id, 0),
                )
                for budget in view.budgets
            ),
        )

    # On the recorder's loop.

    def _awake(self) -> list[int]:
        if self._seen_snapshots != self._core.snapshot_count:
            self._seen_snapshots = self._core.snapshot_count
            self._resting.clear()
        return [each for each in self._core.ledger.budget_ids() if each not in self._resting]

    def _look(self, now_ms: int) -> set[int]:
        """Looks at the next budgets; lowers what is given back, in the log, before it is said."""
        assert self._left is not None
        part, self._left = self._left[:LOOKS_MAX], self._left[LOOKS_MAX:]
        lowered: list[Allotment] = []
        ledger = self._core.ledger
        for i, budget_id in enumerate(part):
            if len(self._statements) == STATEMENTS_MAX:
                self._rest, self._left = part[i:] + self._left, []
                break
            at = ledger.position(budget_id)
            less, said = self._node.look(at, self._core.intent_version, now_ms)
            if less is said is None and (not at.is_defined or at.end_at_ms <= now_ms):
                self._resting.add(budget_id)
            if less is not None:
                lowered.append(less)
            if said is not None:
                self._statements.append(said)
        holders = self._core.allot(self._core.log_id, tuple(lowered)) if lowered else set[int]()
        self._seen_commits = self._core.commit_count
        return holders

    def _take_answer(self, now_ms: int) -> set[int]:
        assert self._future is not None
        future, self._future = self._future, None
        statements, self._statements, self._left = self._statements, [], None
        try:
            answer = future.result()
        except NotReady as error:
            self._failures += 1
            self._trouble = str(error)
            self._next_ms = now_ms + RETRY_MS
            self._node.unheard(statements)
            self._resting.difference_update(said.budget_id for said in statements)
            return set()
        self._turns += 1
        self._trouble = ""
        self._contact_ms = now_ms
        ledger = self._core.ledger
        if isinstance(answer, Answer):
            self._next_ms += TURN_MS
            allotted = {
                each.budget_id: ledger.position(each.budget_id).allotted_micros
                for each in answer.told
            }
            changed = self._node.hear(statements, answer, allotted, now_ms)
        else:
            changed = opened(ledger.allotments(), answer)
        holders = self._core.allot(self._core.log_id, changed) if changed else set[int]()
        self._is_open = ledger.may_lease = True
        return holders
