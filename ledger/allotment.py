"""Allotments: how machines share budgets, in two levels, with a bound that no crash can break.

The **owner** (``ledger.postgres``) knows every shared budget's limit B and what it has allotted to
each **node**, a machine with a recorder and its log. A node's embedded ``BudgetLedger`` leases,
reserves and settles as ever, with its allotment for a limit. The two speak about twice a second, in
one transaction for all budgets that changed, so what the owner does grows with machines and not
with bids.

Of one budget let A' be the allotment in a node's log, u = S + S_adj + held what it has spent and
leased by that log, and A the owner's row for the node.

1. A node says ``held = max(A', u)`` once all of that is durable in its log.
2. The owner sets A = held + grant, grant <= B - sum(A) over all nodes, and commits.
3. Only then does the node write A' = A into its log, and only after that may a lease use it.
4. To give back, a node lowers A' in its log first. What is leased or reserved above it comes back
   as for a lowered limit (``BudgetLedger.withhold``): u never rises while it is above A', so what
   the node says falls to A' and the owner's row with it.

Hence u <= max(A', u said last) <= A for every node at every commit, but for late wins and
corrections, and sum(A) <= B at the owner unless B was lowered: over all machines together
S_on <= B, and the overspend is at most what late wins and corrections cost, whatever crashes,
repeats or is lost. An answer that is lost leaves A above A': money that waits, never money that is
spent twice; the node's next statement frees it.

What a node says of its spend is cumulative, so a repeat is harmless. A log has an id, a frame of
its own; whoever opens it at the owner takes a higher epoch, and every transaction of an older one
is refused (``ledger.postgres.Fenced``). A log that lacks frames the owner has heard of, or another
log under the same node's name, is refused: it does not know what was spent. Between two processes
on *copies* of one log only that stands, so the older one may spend until its next turn: move a log,
never copy it. Before its first answer a process leases nothing: somebody may have closed its node.
Afterwards it goes on within its allotments while the owner cannot be reached.

A dead node keeps its allotments. An operator may close it (``lodestone ledger close-node``): what
it had not said to be spent goes back to the budgets, and is what may be overspent if its open bids
win after all. A node that was closed and comes back gets the owner's rows for its allotments
(A' = min(A', A)); what it spent meanwhile counts, and is shown.

How much a node asks for: ten seconds of its pace, at least a few of the largest reservations per
worker; the owner gives at most half of what is free, divided by the nodes, until only that least is
left. A node that made no bid on a budget for a second gives back all it did not reserve where
another waits in vain, and waits ever longer before it asks again.

What is here is pure: ``Node`` decides for a machine, ``answer_to`` for the owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ledger.account import RESERVATIONS_PER_LEASE
from ledger.lease import Allotment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ledger.account import Position

HORIZON_S: Final = 10.0
"""Of its pace, what a node wants to have at hand, and asks for when half is left: every 5 s."""

REPORT_MS: Final = 5_000
"""What was spent is said this often where nothing else is to be said of a budget."""

IDLE_MS: Final = 1_000
"""A node that made no bid on a budget for so long gives back where another waits."""

WAIT_MS: Final = 500
"""Before a node asks again for what it was refused, doubled up to ``WAIT_MS_MAX``."""

WAIT_MS_MAX: Final = 4_000

LENT_MS: Final = 2 * WAIT_MS_MAX
"""Before a node asks again for what it gave back, so that who waits for it asks before it does."""

LENT_MS_MAX: Final = 64_000
"""Doubled up to this as long as it makes no bid."""

FIRST_PART: Final = 16
"""Of a budget that it has not bid on yet, a node asks for a 16th. Half of it, by ``lease_amounts``
divided by the workers, is what the first bid may cost."""

_PACE_KEPT_S: Final = 10.0


class Statement(NamedTuple):
    """What a node says of one budget; all of it is durable in its log. Money in micros.

    Attributes:
        budget_id: of the budget.
        version: of the intent that says the limit; -1: this node does not know it.
        limit_micros, end_at_ms: by that intent.
        held_micros: what the node may have spent and held of it, at most.
        spent_on_time_micros, spent_late_micros, adjusted_micros: all that it ever spent.
        open_micros: reserved by bids that may still be charged.
        asked_micros: what it would like to have beside ``held_micros``.
        least_micros: so much of that is of use to it even where little is left.
    """

    budget_id: int
    version: int
    limit_micros: int
    end_at_ms: int
    held_micros: int
    spent_on_time_micros: int
    spent_late_micros: int
    adjusted_micros: int
    open_micros: int
    asked_micros: int
    least_micros: int


class Others(NamedTuple):
    """What the owner knows of one budget and of all other nodes' part in it.

    Attributes:
        limit_micros: the newest intent's.
        allotted_micros: theirs.
        spent_micros: theirs, as they said last.
        waiting_micros: what they asked for and did not get.
    """

    limit_micros: int
    allotted_micros: int
    spent_micros: int
    waiting_micros: int


class Told(NamedTuple):
    """What the owner answers for one budget.

    Attributes:
        budget_id: of the budget.
        allotted_micros: the node's, committed.
        surplus_micros: what it must give back of that, because the limit was lowered.
        refused_micros: of what it asked for, because nothing is left.
        others_spent_micros: what all other nodes have spent.
    """

    budget_id: int
    allotted_micros: int
    surplus_micros: int
    refused_micros: int
    others_spent_micros: int


class Answer(NamedTuple):
    """What the owner answers to a turn; ``wanted``: budgets that other nodes wait for in vain."""

    told: tuple[Told, ...]
    wanted: frozenset[int]


class Owner(Protocol):
    """The owner of shared budgets, as a node sees it."""

    def open(self, node: str, log_id: str, sequence: int) -> tuple[Allotment, ...]:
        """Takes the node over and returns what the owner has allotted to it.

        Raises:
            Forbidden: the node's name is another log's, or the log lacks frames.
            NotReady: the owner cannot be reached.
        """
        ...

    def turn(self, sequence: int, statements: Sequence[Statement]) -> Answer:
        """Takes what the node says as of that frame of its log; what it answers is committed.

        Raises:
            Forbidden: another process has opened the node, or an operator closed it.
            NotReady: the owner cannot be reached; whether it took the statements is not known.
        """
        ...

    def close(self) -> None:
        """Lets the connection go."""
        ...


def answer_to(said: Statement, others: Others, node_count: int) -> Told:
    """Returns what the owner does with one statement: grants, or asks for something back."""
    free = others.limit_micros - others.allotted_micros - said.held_micros
    most = max(said.least_micros, free // (2 * node_count))
    granted = max(0, min(said.asked_micros, free, most))
    surplus = 0
    if free < 0:
        spent = said.spent_on_time_micros + said.spent_late_micros + said.adjusted_micros
        room = max(0, said.held_micros - spent)
        all_room = room + max(0, others.allotted_micros - others.spent_micros)
        # Each node's part of what is too much, by what it could give; rounded up, so that it ends.
        surplus = min(room, -(free * room // all_room)) if room else 0
    is_short = granted >= free and granted < said.asked_micros
    return Told(
        said.budget_id,
        said.held_micros + granted,
        surplus,
        said.asked_micros - granted if is_short else 0,
        others.spent_micros,
    )


class _Memory:
    """What a node remembers of one budget while it runs."""

    __slots__ = (
        "ask_at_ms", "is_due", "lent_ms", "pace_per_s", "row_micros", "said", "said_at_ms",
        "seen_ms", "used_at_ms", "used_micros", "wait_ms",
    )  # fmt: skip

    def __init__(self, used_micros: int, now_ms: int) -> None:
        self.used_micros = used_micros
        self.used_at_ms = self.seen_ms = self.ask_at_ms = now_ms
        self.pace_per_s = 0.0
        self.wait_ms, self.lent_ms = WAIT_MS, LENT_MS
        self.said: Statement | None = None
        self.said_at_ms = self.row_micros = 0
        self.is_due = False

    def has_news(self, said: Statement, now_ms: int) -> bool:
        """Returns whether the owner should hear this now."""
        before = self.said
        if (
            before is None
            or self.is_due
            or said.asked_micros
            or said.held_micros != self.row_micros
        ):
            return True
        if said[1:4] != before[1:4]:
            return True
        return said[5:9] != before[5:9] and now_ms - self.said_at_ms >= REPORT_MS

    def follow(self, used_micros: int, now_ms: int) -> None:
        """Takes what is spent and reserved by now."""
        seconds = (now_ms - self.seen_ms) / 1000
        if used_micros > self.used_micros:
            self.used_at_ms, self.lent_ms = now_ms, LENT_MS
        if seconds > 0:
            pace = max(0, used_micros - self.used_micros) / seconds
            kept = self.pace_per_s * max(0.0, 1 - seconds / _PACE_KEPT_S)
            self.pace_per_s = max(pace, kept)
            self.seen_ms = now_ms
            self.used_micros = used_micros


class Node:
    """What one machine says of its budgets, and what it does with the answers.

    Attributes:
        asked_count, refused_count: statements that asked for money, and those that got none.
        others_spent_micros: by budget, what the other machines have spent as last told.
    """

    def __init__(self, worker_count: int) -> None:
        """Has said nothing yet."""
        self._worker_count = worker_count
        self._memories: dict[int, _Memory] = {}
        self._wanted: frozenset[int] = frozenset()
        self.asked_count = self.refused_count = 0
        self.others_spent_micros: dict[int, int] = {}

    def look(
        self, at: Position, version: int, now_ms: int
    ) -> tuple[Allotment | None, Statement | None]:
        """Returns a lowered allotment for the log, and what is to be said; None: nothing new.

        Args:
            at: the budget.
            version: of the intent that its limit is from.
            now_ms: the run's clock.
        """
        used = at.spent_micros + at.open_micros
        memory = self._memories.get(at.budget_id)
        if memory is None:
            memory = self._memories[at.budget_id] = _Memory(used, now_ms)
        memory.follow(used, now_ms)
        least = 2 * RESERVATIONS_PER_LEASE * at.reserved_micros_max * self._worker_count
        least = least or max(1, at.limit_micros // FIRST_PART)
        target = max(least, int(memory.pace_per_s * HORIZON_S))
        keep = at.allotted_micros
        asked = 0
        if at.is_defined and at.end_at_ms <= now_ms:
            keep = min(keep, max(0, used))
        elif at.is_defined:
            keep = self._kept(at, memory, used, target, now_ms)
            room = keep - used
            if keep == at.allotted_micros and 2 * room < target and now_ms >= memory.ask_at_ms:
                asked = max(0, min(target - room, at.limit_micros - keep))
        held = max(keep, at.spent_micros + at.held_micros)
        said = Statement(
            at.budget_id, version if at.is_defined else -1,
            at.limit_micros if at.is_defined else 0, at.end_at_ms if at.is_defined else 0, held,
            at.spent_on_time_micros, at.spent_late_micros, at.adjusted_micros, at.open_micros,
            asked, least,
        )  # fmt: skip
        lowered = Allotment(at.budget_id, keep) if keep < at.allotted_micros else None
        return lowered, said if memory.has_news(said, now_ms) else None

    def _kept(self, at: Position, memory: _Memory, used: int, target: int, now_ms: int) -> int:
        """Returns the allotment less what others can use better."""
        room = at.allotted_micros - used
        if at.allotted_micros > at.limit_micros:
            return max(0, at.limit_micros)
        is_idle = now_ms - memory.used_at_ms >= IDLE_MS
        if room > 0 and is_idle and at.budget_id in self._wanted and now_ms >= memory.ask_at_ms:
            memory.ask_at_ms = now_ms + memory.lent_ms
            memory.lent_ms = min(2 * memory.lent_ms, LENT_MS_MAX)
            return max(0, used)
        # What nobody leased yet can be given back without a worker being interrupted.
        unleased = at.allotted_micros - at.spent_micros - at.held_micros
        if room > 4 * target and unleased > 0:
            return at.allotted_micros - min(unleased, room - 2 * target)
        return at.allotted_micros

    def unheard(self, statements: Iterable[Statement]) -> None:
        """Takes that the owner may have granted what its lost answer said: it must hear again."""
        for said in statements:
            self._memories[said.budget_id].is_due = True

    def hear(
        self,
        statements: Iterable[Statement],
        answer: Answer,
        allotted: Mapping[int, int],
        now_ms: int,
    ) -> tuple[Allotment, ...]:
        """Takes the answer to statements; returns the allotments that change, for the log.

        Args:
            statements: that were answered.
            answer: the owner's.
            allotted: what the log says by now.
            now_ms: the run's clock.
        """
        asked = {said.budget_id: said for said in statements}
        changed: list[Allotment] = []
        for told in answer.told:
            said = asked[told.budget_id]
            memory = self._memories[told.budget_id]
            memory.said, memory.said_at_ms = said, now_ms
            memory.row_micros = told.allotted_micros
            memory.is_due = told.surplus_micros > 0
            self.others_spent_micros[told.budget_id] = told.others_spent_micros
            if said.asked_micros:
                self.asked_count += 1
                if told.allotted_micros > said.held_micros:
                    memory.wait_ms = WAIT_MS
                else:
                    self.refused_count += 1
                    memory.ask_at_ms = now_ms + memory.wait_ms
                    memory.wait_ms = min(2 * memory.wait_ms, WAIT_MS_MAX)
            now = allotted.get(told.budget_id, 0)
            # Only what was granted is added: what is held above a lowered one is on its way back.
            granted = told.allotted_micros - said.held_micros
            amount = max(0, min(now + granted, told.allotted_micros - told.surplus_micros))
            if amount != now:
                changed.append(Allotment(told.budget_id, amount))
        self._wanted = answer.wanted
        return tuple(changed)


def opened(mine: Iterable[Allotment], rows: Iterable[Allotment]) -> tuple[Allotment, ...]:
    """Returns the allotments of a log that its owner knows less of: min(A', A), for the log."""
    known = dict(rows)
    return tuple(
        Allotment(budget_id, known.get(budget_id, 0))
        for budget_id, amount in mine
        if known.get(budget_id, 0) < amount
    )
