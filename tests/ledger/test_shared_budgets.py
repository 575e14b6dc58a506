"""Real recorders, each with its own folder, that share budgets at a real PostgreSQL server."""

from __future__ import annotations

import shutil
import signal
import time

import msgspec
import pytest

from ledger.node_command import run_close_node, run_nodes
from ledger.postgres import PostgresOwner
from ledger.record import Recorder
from ledger.recorder import _shared_budgets
from market.errors import BadInput
from market.exchange import DEFAULT_EXCHANGES
from tests.ledger.postgres_server import postgres_or_skip
from tests.ledger.recorders import Place, until

SOON_MS = 3_600_000
PRICE = 10


@pytest.fixture(scope="module")
def server():
    running = postgres_or_skip()
    yield running
    running.stop()


@pytest.fixture
def url(server):
    return server.new_database()


@pytest.fixture
def machines(tmp_path, url):
    """Makes machines, by name; ends their recorders."""
    made = []

    def make(name, limits, folder=None, **rest):
        place = Place(folder or tmp_path / name, limits, budgets_url=url, node=name, **rest)
        made.append(place)
        return place

    yield make
    for place in made:
        if place.process is not None and place.process.poll() is None:
            place.process.kill()
        if place.process is not None:
            place.process.communicate()


def now_ms():
    return time.time_ns() // 1_000_000


class Bidder:
    """A machine's worker, that bids as long as it can and wins everything at its price."""

    def __init__(self, place, first, budget=1):
        self.place, self.budget = place, budget
        self.numbers = iter(range(first, first + 1_000_000, 2))
        self.attach()
        self.bids = []

    def attach(self):
        self.worker = self.place.worker()

    def bid(self, count=1_000_000):
        """Makes as many bids as there is money for; returns how many."""
        self.worker.take_credits()
        made = 0
        bid = {"bid_ms": now_ms(), "deadline_ms": now_ms() + SOON_MS}
        while made < count:
            number = next(self.numbers)
            if not self.worker.bid(number, PRICE, budgets=(self.budget,), **bid):
                break
            self.bids.append((number, bid))
            made += 1
        return made

    def bill(self):
        """Every bid is won."""
        bids, self.bids = self.bids, []
        for number, bid in bids:
            rest = {"reserved": PRICE, "budgets": (self.budget,), **bid}
            assert self.place.bill(number, PRICE, **rest) == 200
        return len(bids)


def view_of(place, budget=1):
    return next(view for view in place.ledger().budgets if view.budget_id == budget)


def allotted(*places, budget=1):
    return sum(view_of(place, budget).allotted_micros for place in places)


def has_money(*bidders):
    for bidder in bidders:
        until(lambda each=bidder: each.worker.take_credits() is not None
              and each.worker.available.get(each.budget, 0) >= PRICE)  # fmt: skip


def test_two_recorders_spend_exactly_the_budget_that_they_share(machines):
    limit = 3_000
    places = [machines(name, {1: limit}).start() for name in ("a", "b")]
    bidders = [Bidder(place, 1 + i) for i, place in enumerate(places)]
    won = 0

    def spend():
        nonlocal won
        for bidder in bidders:
            bidder.bid(5)
            won += bidder.bill()
        return won * PRICE >= limit

    until(spend, 90)
    assert sum(place.spent()[0] for place in places) == limit
    assert all(place.spent()[0] > 0 and place.spent()[1] == 0 for place in places)
    assert not any(bidder.bid() for bidder in bidders)
    status = places[0].ledger().node
    assert status.is_open
    assert status.asked > 0
    until(lambda: view_of(places[0]).others_spent_micros == places[1].spent()[0])


def test_a_killed_recorder_comes_back_to_what_it_had_and_no_older_process_may_go_on(machines, url):
    place = machines("a", {1: 100_000}).start()
    other = machines("b", {1: 100_000}).start()
    bidder = Bidder(place, 1)
    has_money(bidder)
    bidder.bid(20)
    assert bidder.bill() == 20
    bidder.bid(5)
    until(lambda: view_of(place).open_count == 5)
    place.stop(signal.SIGKILL)
    place.start()
    bidder.attach()
    assert bidder.bill() == 5
    assert place.spent() == (250, 0)
    has_money(bidder)
    assert allotted(place, other) <= 100_000
    owner = PostgresOwner(url)
    (log_id,) = {each.log_id for each in owner.nodes() if each.node == "a"}
    # Another process opens the same log somewhere else: the older one ends by itself.
    owner.open("a", log_id, 10**9)
    assert place.process.wait(30) == 2
    said = place.process.stderr.read().decode()
    assert "another process opened its log" in said
    owner.close()


def test_while_postgres_is_dead_bids_go_on_within_what_was_allotted(machines, server):
    limit = 64_000
    place = machines("a", {1: limit}).start()
    bidder = Bidder(place, 1)
    has_money(bidder)
    server.kill()
    try:
        until(lambda: place.ledger().node.failures > 0)
        have = allotted(place)
        assert 0 < have < limit

        def use_up():
            bidder.bid()
            bidder.bill()
            return place.spent()[0] > have - PRICE

        until(use_up)
        assert not bidder.bid()
        assert place.spent()[0] <= have
        _, _, page = place.get("/metrics")
        assert b'lodestone_budget_turns_total{result="failed"}' in page
        # A recorder that starts now leases nothing: it does not know who it is.
        place.stop(signal.SIGKILL)
        place.start()
        bidder.attach()
        until(lambda: place.ledger().node.failures > 0)
        assert not bidder.bid()
        assert place.ledger().node.is_open is False
    finally:
        server.start()
    has_money(bidder)
    assert bidder.bid(3) == 3
    assert allotted(place) <= limit


def test_a_limit_below_what_is_allotted_is_kept_by_all_machines_together(machines):
    places = [machines(name, {1: 64_000}).start() for name in ("a", "b")]
    bidders = [Bidder(place, 1 + i) for i, place in enumerate(places)]
    has_money(*bidders)
    for bidder in bidders:
        bidder.bid(30)
    until(lambda: all(view_of(place).open_count == 30 for place in places))
    for place in places:
        place.publish({1: 700})

    def is_kept():
        for bidder in bidders:
            bidder.worker.take_credits()
        return sum(view_of(place).held_micros for place in places) == 600

    until(is_kept)
    assert sum(bidder.bill() for bidder in bidders) == 60
    until(lambda: allotted(*places) <= 700)
    rest = 0

    def spend():
        nonlocal rest
        for bidder in bidders:
            bidder.bid(1)
            rest += bidder.bill()
        return rest == 10

    until(spend, 60)
    assert sum(place.spent()[0] for place in places) == 700


def test_a_closed_node_gives_its_money_back_and_may_return(machines, url, capsys):
    dead, living = (machines(name, {1: 1_600}).start() for name in ("a", "b"))
    one, two = Bidder(dead, 1), Bidder(living, 2)
    has_money(one, two)
    one.bid(1)
    until(lambda: view_of(dead).open_count == 1)
    dead.stop(signal.SIGKILL)
    owner = PostgresOwner(url)
    folder = dead.deployment.root
    run_nodes(folder, as_json=False)
    assert "closed" in capsys.readouterr().out
    for closes in (False, True):
        run_close_node(folder, "a", closes=closes, as_json=not closes)
    stake, told = capsys.readouterr().out.split("\n", 1)
    assert 10 <= msgspec.json.decode(stake)["stake_micros"] <= 1_600
    assert "It is closed" in told
    with pytest.raises(BadInput, match="no open node"):
        run_close_node(folder, "a", closes=False, as_json=False)
    won = 0

    def spend():
        nonlocal won
        two.bid(100)
        won += two.bill()
        return won == 160

    until(spend, 60)
    # It comes back: the bid of its log is still open, and wins; nothing else is left to bid.
    dead.start()
    until(lambda: dead.ledger().node.is_open)
    one.attach()
    assert one.bill() == 1
    assert not one.bid()

    def counted():
        return {each.node: each.spent_micros for each in owner.nodes()} == {"a": 10, "b": 1_600}

    until(counted)
    owner.close()


def test_another_log_under_a_name_that_is_taken_is_refused(machines, tmp_path):
    place = machines("a", {1: 1_000}).start()
    until(lambda: place.ledger().node.is_open)
    twin = machines("a", {1: 1_000}, tmp_path / "twin")
    _, said = twin.spawn().communicate(timeout=60)
    assert twin.process.returncode == 2
    assert b"its name belongs to another log" in said
    # So is a log from a copy that lacks what the owner has heard of.
    copy = tmp_path / "copy"
    shutil.copytree(place.deployment.segment_folder, copy)
    bidder = Bidder(place, 1)
    has_money(bidder)
    bidder.bid(5)
    bidder.bill()
    turns = place.ledger().node.turns
    until(lambda: place.ledger().node.turns > turns + 2)
    place.stop()
    shutil.rmtree(place.deployment.segment_folder)
    shutil.copytree(copy, place.deployment.segment_folder)
    _, said = place.spawn().communicate(timeout=60)
    assert place.process.returncode == 2
    assert b"restore the whole log" in said


def test_a_deployment_that_cannot_share_is_refused(machines):
    given = machines("a", {1: 1}).deployment
    core = Recorder(DEFAULT_EXCHANGES, 1)
    for change, rule in (
        ({"node": ""}, "node is empty"),
        ({"is_episode": True}, "an episode cannot share"),
        ({"budgets_password_file": "/nowhere"}, "budgets_password_file"),
    ):
        with pytest.raises(BadInput, match=rule):
            _shared_budgets(msgspec.structs.replace(given, **change), core)
    alone = msgspec.structs.replace(given, budgets_url="")
    assert _shared_budgets(alone, core) is None
    core.allot("a log of a node", ())
    with pytest.raises(BadInput, match="name their owner again"):
        _shared_budgets(alone, core)
