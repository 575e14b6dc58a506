"""When a worker refuses: late turns, a standing queue, exchanges above their rate."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.shedding import (
    LAG_NS_MAX,
    QUEUE_MAX,
    SHARE_MAX,
    TICK_MS,
    WINDOW_NS,
    Gate,
    Shedder,
    worth_of,
)
from market.decision import NoBidReason
from market.exchange import DEFAULT_EXCHANGES

TICK_NS = TICK_MS * 1_000_000


def profile(name="one", **changes):
    number = sum(name.encode())
    return msgspec.structs.replace(DEFAULT_EXCHANGES[0], name=name, exchange_id=number, **changes)


class Worker:
    """A loop that turns every ``TICK_MS``, always ``lag_ns`` late, and its requests."""

    def __init__(self, *profiles, worker_count=1):
        self.shedder = Shedder(profiles or (profile(),), worker_count)
        self.now_ns = 0

    def turn(self, lag_ns=0, **requests):
        """One turn of the loop; returns how many of each exchange's requests were refused."""
        self.now_ns += TICK_NS
        refused = {
            name: sum(self.shedder.refusal(self.shedder.gates[name], 0) != 0 for _ in range(count))
            for name, count in requests.items()
        }
        self.shedder.tick(self.now_ns + lag_ns, self.now_ns)
        return refused

    def turns(self, count, lag_ns=0, **requests):
        total = dict.fromkeys(requests, 0)
        for _ in range(count):
            for name, refused in self.turn(lag_ns, **requests).items():
                total[name] += refused
        return total


def test_nothing_is_refused_while_the_loop_keeps_up():
    worker = Worker()
    assert worker.turns(100, lag_ns=LAG_NS_MAX, one=50) == {"one": 0}
    assert worker.shedder.share == 0.0


def test_a_single_stall_sheds_nothing():
    worker = Worker()
    worker.turns(30, one=10)
    worker.turn(500_000_000, one=10)
    assert worker.turns(30, one=10) == {"one": 0}


def test_a_standing_queue_sheds_a_growing_share_and_recovery_ends_it():
    worker = Worker()
    shares = []
    for _ in range(30):
        worker.turns(10, 2 * LAG_NS_MAX, one=100)
        shares.append(worker.shedder.share)
    grown = shares[1:]
    assert grown == sorted(grown)
    assert grown[0] < 0.3
    assert grown[-1] == SHARE_MAX
    worker.turns(1_000, one=100)
    assert worker.shedder.share == 0.0
    assert worker.turns(10, one=100) == {"one": 0}


def test_the_share_that_is_shed_is_the_share_that_is_told():
    worker = Worker()
    while worker.shedder.share < 0.5:
        worker.turns(10, 2 * LAG_NS_MAX, one=100)
    share = worker.shedder.gates["one"].share
    assert sum(
        worker.shedder.gates["one"].refusal() == NoBidReason.OVERLOADED for _ in range(1_000)
    ) == pytest.approx(1_000 * share, abs=1)


def test_exchanges_that_bring_least_for_their_time_are_shed_first():
    worker = Worker(profile("rich"), profile("poor"), profile("middle"))
    worker.shedder.learn({"rich": 3.0, "middle": 2.0, "poor": 1.0})
    while worker.shedder.share < 0.5:
        worker.turns(10, 2 * LAG_NS_MAX, rich=30, middle=30, poor=30)
    shares = {name: gate.share for name, gate in worker.shedder.gates.items()}
    assert shares["poor"] == 1.0
    assert 0 < shares["middle"] < 1
    assert shares["rich"] == 0.0


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 200), min_size=1),
    st.lists(st.floats(0, 10), min_size=4, max_size=4),
)
def test_the_shed_requests_add_up_to_the_share_whoever_they_are_of(counts, worths):
    worker = Worker(*(profile(name) for name in "abcd"))
    worker.shedder.learn(dict(zip("abcd", worths, strict=True)))
    while worker.shedder.share < 0.4:
        worker.turns(10, 2 * LAG_NS_MAX, **counts)
    if not sum(counts.values()):
        return
    worker.turns(10, 2 * LAG_NS_MAX, **counts)
    gates = worker.shedder.gates
    refused = sum(gates[name].share * count for name, count in counts.items())
    assert refused == pytest.approx(worker.shedder.share * sum(counts.values()))
    assert all(0.0 <= gate.share <= 1.0 for gate in gates.values())


def test_a_request_whose_turn_comes_too_late_is_refused():
    shedder = Shedder((profile(time_ms_max=80),))
    gate = shedder.gates["one"]
    assert shedder.refusal(gate, 40_000_000) == 0
    assert shedder.refusal(gate, 40_000_001) == NoBidReason.OVERLOADED


def test_more_requests_than_the_queue_holds_are_refused_until_the_loop_turns():
    shedder = Shedder((profile(),))
    gate = shedder.gates["one"]
    found = [shedder.refusal(gate, 0) for _ in range(QUEUE_MAX + 5)]
    assert found == [0] * QUEUE_MAX + [NoBidReason.OVERLOADED] * 5
    shedder.tick(1, 1)
    assert shedder.refusal(gate, 0) == 0


@given(st.floats(10, 5_000), st.integers(1, 4), st.integers(1, 60))
def test_an_exchange_gets_its_rate_and_a_tenth_of_a_second_on_top(qps, workers, per_turn):
    worker = Worker(profile(qps_max=qps), worker_count=workers)
    turns = 300
    answered = turns * per_turn - worker.turns(turns, one=per_turn)["one"]
    rate = qps / workers
    allowed = rate * turns * TICK_MS / 1e3 + max(1.0, rate / 10)
    assert answered <= allowed + 1
    assert answered >= min(turns * per_turn, rate * (turns - 1) * TICK_MS / 1e3) - per_turn - 1


def test_an_exchange_that_leaves_a_second_is_never_refused_for_a_queue():
    worker = Worker(profile("twin", time_ms_max=60_000), profile("one"))
    assert worker.turns(300, 10 * LAG_NS_MAX, twin=100, one=10)["twin"] == 0
    assert worker.shedder.share == SHARE_MAX
    twin = worker.shedder.gates["twin"]
    assert not any(worker.shedder.refusal(twin, 0) for _ in range(3 * QUEUE_MAX))


def test_throttling_says_so_and_spares_the_others():
    shedder = Shedder((profile("a", qps_max=10), profile("b")))
    found = [shedder.refusal(shedder.gates["a"], 0) for _ in range(3)]
    assert found == [0, NoBidReason.THROTTLED, NoBidReason.THROTTLED]
    assert shedder.refusal(shedder.gates["b"], 0) == 0
    shedder.tick(TICK_NS, TICK_NS)
    shedder.tick(TICK_NS + 100_000_000, TICK_NS + 100_000_000)
    assert shedder.refusal(shedder.gates["a"], 0) == 0


def test_an_exchange_that_was_never_asked_counts_as_worth_most():
    assert worth_of(0, 0) == float("inf")
    assert worth_of(6, 3) == 2
    assert Gate(80, 0).is_open
    assert not Gate(80, 1).is_open
    assert WINDOW_NS == 10 * TICK_NS


def test_in_an_episode_nothing_is_refused_however_late_it_is():
    shedder = Shedder((profile(qps_max=1),), is_on=False)
    gate = shedder.gates[profile().name]
    assert all(shedder.refusal(gate, 10**12) == 0 for _ in range(5_000))
