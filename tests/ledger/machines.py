"""A small world of machines that share budgets: cores with logs, one real owner, crashes of all."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import Future

import psycopg

from ledger.postgres import Fenced, PostgresOwner, unsigned
from ledger.record import Recorder
from ledger.shared_budgets import SharedBudgets
from market.errors import NotReady
from market.events import EventKind
from market.exchange import DEFAULT_EXCHANGES
from tests.ledger.bids import CrashingLog, bid_event, budgets_array, credits_of, notice
from tests.reference.allotments import Shared

FAR_MS = 2**60


class WatchedOwner:
    """The real owner; it tells the model what it committed, and can be cut off."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.real = PostgresOwner(world.url)
        self.fate = "answers"

    def open(self, node, log_id, sequence):
        if self.fate != "answers":
            raise NotReady("cut off")
        return self.real.open(node, log_id, sequence)

    def turn(self, sequence, statements):
        if self.fate == "is away":
            raise NotReady("cut off before")
        answer = self.real.turn(sequence, statements)
        self.world.see()
        for said, told in zip(statements, answer.told, strict=True):
            model = self.world.models[said.budget_id]
            if said.version > self.world.owner_versions[said.budget_id]:
                self.world.owner_versions[said.budget_id] = said.version
                model.publish(said.limit_micros)
            model.turn(self.name, said.held_micros, told.allotted_micros)
        if self.fate == "loses its answer":
            self.real.close()
            raise NotReady("cut off after")
        return answer

    def close(self):
        self.real.close()


def inline(do):
    """Does it at once; a future as a thread would give."""
    future = Future()
    try:
        future.set_result(do())
    except Exception as error:  # noqa: BLE001 - whoever takes the result sees it
        future.set_exception(error)
    return future


class Machine:
    def __init__(self, world, name, worker_count):
        self.world, self.name, self.worker_count = world, name, worker_count
        self.log = CrashingLog()
        self.version, self.limits = 0, {}
        self.ring, self.open = [], {}
        self.start()

    def start(self):
        """The process, from its log; what came out of the rings since the last commit again."""
        self.core = Recorder(DEFAULT_EXCHANGES, self.worker_count)
        for frame in self.log.frames():
            self.core.replay(frame)
        self.core.write_to(self.log)
        self.core.intent_version = self.version
        self.core.ledger.define(self.rows())
        self.owner = WatchedOwner(self.world, self.name)
        self.shared = SharedBudgets(self.core, self.name, self.worker_count, self.owner, inline)
        self.workers = [defaultdict(int) for _ in range(self.worker_count)]
        for event in self.ring:
            self.core.take_bids(event, self.world.now)
        self.recall(range(self.worker_count))
        self.is_up = True

    def crash(self):
        self.log.crash()
        self.owner.close()
        self.is_up = False

    def rows(self):
        return budgets_array(self.limits, end_at_ms=self.world.end_at_ms)

    def publish(self, limits, version):
        """A snapshot of that intent."""
        self.limits, self.version = dict(limits), version
        self.core.intent_version = version
        self.core.snapshot_count += 1
        self.recall(self.core.ledger.define(self.rows()))

    def recall(self, workers):
        for worker in workers:
            self.core.suspend_worker(worker)
            self.workers[worker].clear()
            self.core.close_worker(worker, 0)
            self.core.resume_worker(worker)

    def bid(self, worker, budgets, cap, life):
        have = self.workers[worker]
        if any(have[key] < cap for key in budgets):
            return False
        for key in budgets:
            have[key] -= cap
        number = self.world.bid_count = self.world.bid_count + 2
        deadline = self.world.now + life
        event = bid_event(
            number, worker=worker, budgets=budgets, reserved=cap, bid_ms=self.world.now,
            deadline_ms=deadline,
        )  # fmt: skip
        self.ring.append(event)
        self.open[number] = (cap, deadline)
        self.core.take_bids(event, self.world.now)
        return True

    def say(self, kind, number, price):
        cap, deadline = self.open.pop(number)
        if self.world.now <= deadline:
            self.core.take_notice(notice(kind, number, self.world.now, min(price, cap)))
            self.commit()

    def commit(self):
        self.core.commit()
        self.ring.clear()
        self._take_credits()

    def turn(self):
        """One step of the recorder: time, then its turn with the owner."""
        self.core.step(self.world.now)
        self.ring.clear()
        self._take_credits()
        try:
            self.recall(self.shared.step(self.world.now, lambda: f"log of {self.name}"))
        except Fenced:
            self.crash()

    def _take_credits(self):
        for index, worker in enumerate(self.workers):
            for (_, key), amount in credits_of(self.core, index).items():
                worker[key] += amount


class World:
    def __init__(self, url, limits, machine_count, *, worker_count=1, end_at_ms=FAR_MS):
        self.url, self.end_at_ms = url, end_at_ms
        with psycopg.connect(url, autocommit=True) as connection:
            found = connection.execute("SELECT to_regclass('budget_nodes')").fetchone()
            if found[0] is not None:
                connection.execute("TRUNCATE budget_nodes, shared_budgets, budget_allotments")
        self.now = self.bid_count = self.version = 0
        self.limits = dict(limits)
        self.models = {key: Shared(0) for key in limits}
        self.owner_versions = dict.fromkeys(limits, -1)
        self.machines = [Machine(self, f"node-{i}", worker_count) for i in range(machine_count)]
        self.operator = PostgresOwner(url)
        self.publish(limits)

    def publish(self, limits, to=None):
        self.version += 1
        self.limits = dict(limits)
        for machine in self.machines if to is None else to:
            if machine.is_up:
                machine.publish(limits, self.version)

    def pass_time(self, ms, steps=1):
        for _ in range(steps):
            self.now += ms
            for machine in self.machines:
                if machine.is_up:
                    machine.turn()

    def close_node(self, machine):
        """An operator closes the node, whether its machine is dead or only silent."""
        self.operator.close_node(machine.name)
        with psycopg.connect(self.url) as connection:
            rows = connection.execute(
                "SELECT budget_id, allotted_micros FROM budget_allotments WHERE log_id = %s",
                (f"log of {machine.name}",),
            ).fetchall()
        for key, row in rows:
            self.models[unsigned(key)].close(machine.name, row)

    def spent(self, key):
        return sum(
            total.spent_on_time_micros + total.spent_late_micros
            for machine in self.machines
            for total in machine.core.ledger.totals()
            if total.budget_id == key
        )

    def see(self):
        """Shows the model what every log says by now."""
        for key, model in self.models.items():
            for machine in self.machines:
                ledger = machine.core.ledger
                if machine.is_up and key in ledger.budget_ids() and ledger.may_lease:
                    at = ledger.position(key)
                    model.see(machine.name, at.allotted_micros, at.spent_micros + at.held_micros)

    def check(self):
        self.see()
        for key, model in self.models.items():
            model.check(self.spent(key))

    def close(self):
        for machine in self.machines:
            machine.owner.close()
        self.operator.close()


BILLING, LOSS = EventKind.BILLING, EventKind.LOSS
