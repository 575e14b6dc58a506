"""The processes of one engine: what the supervisor does when one is lost or will not start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import msgspec
import numpy as np
import pytest

from bidder.caps import map_cap_slots
from bidder.kernels_cap import cap_add, cap_count
from campaigns.supervisor import (
    RESTARTS_MAX,
    STOP_S_MAX,
    Supervisor,
    endpoints_of,
    lock_folder,
    new_deployment,
)
from market.control import ControlBlock, Word, WorkerWord
from market.deployment import write_deployment
from market.errors import Corrupt, NotReady
from market.exchange import DEFAULT_EXCHANGES
from tests.engines import REPOSITORY, Market, bids_in, served, until

FAR_MS = 2**60
MODULES = {
    "bidder.worker": ["0"], "ledger.recorder": [], "ledger.store": [], "policies.controller": [],
    "campaigns.server": [],
}  # fmt: skip


@pytest.fixture
def started(tmp_path):
    """A running engine with one worker, and the market it is in."""
    supervisor = Supervisor(new_deployment(tmp_path / "run", worker_count=1, tick_ms=60_000))
    market = None
    try:
        supervisor.start()
        market = Market(msgspec.structs.asdict(endpoints_of(supervisor.deployment)))
        yield supervisor, market
    finally:
        supervisor.stop()
        if market is not None:
            market.close()


def test_a_killed_worker_is_started_again_and_budgets_stay_exact(started):
    supervisor, market = started
    market.create(budget={"daily_micros": 1_000_000})
    charged, open_bids = [], []
    for _ in range(10):
        bid = market.bid_soon()
        assert market.say(bid["burl"], bid["price"]) == 200
        charged.append(bid)
        open_bids.append(market.bid_soon())
    first = supervisor.process_id("worker 0")
    os.kill(first, signal.SIGKILL)
    until(lambda: _looked(supervisor) and supervisor.process_id("worker 0") != first)
    row = supervisor.block.worker(0)
    until(lambda: row[WorkerWord.PID] == supervisor.process_id("worker 0"))
    until(lambda: row[WorkerWord.IS_READY])
    # The wins of the dead worker's bids arrive while its lease is being taken back.
    for bid in open_bids:
        assert market.say(bid["burl"], bid["price"]) == 200
    bid = market.bid_soon()
    assert market.say(bid["burl"], bid["price"]) == 200
    view = market.ledger()
    (budget,) = view.budgets
    assert (view.unfunded_bids, budget.spent_late_micros) == (0, 0)
    assert budget.spent_on_time_micros == market.spend() > 0
    assert budget.spent_on_time_micros + budget.held_micros <= budget.limit_micros
    # What is left can be bid, and not a micro more.
    while (bid := _bid_or_none(market)) is not None:
        assert market.say(bid["burl"], bid["price"]) == 200
    (budget,) = market.ledger().budgets
    # The dead worker's lease waits for the deadline of its last bid; all else was spent.
    dearest_micros = max(round(1_000 * bid["price"]) for bid in open_bids)
    left = budget.limit_micros - budget.spent_on_time_micros - budget.held_micros
    assert 0 <= left < 2 * dearest_micros
    assert budget.spent_late_micros == 0
    assert market.ledger().unfunded_bids == 0
    until(lambda: market.ledger_bids() == market.bid_count)
    begun = time.monotonic()
    codes = supervisor.stop()
    assert time.monotonic() - begun < STOP_S_MAX + 0.1
    assert codes == dict.fromkeys(
        ["worker 0", "recorder", "store", "control plane", "controller"], 0
    )
    assert bids_in(supervisor.deployment.root) == market.bid_count


def _looked(supervisor):
    supervisor.watch()
    return True


def _bid_or_none(market):
    """A bid; None once requests over two seconds brought none (leases come in parts)."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        if (bid := market.bid()) is not None:
            return bid
    return None


def test_the_engine_goes_on_when_another_part_is_killed_and_starts_it_again(started):
    supervisor, market = started
    with pytest.raises(NotReady, match="another engine runs in it"):
        Supervisor(supervisor.deployment)
    market.create(budget={"daily_micros": 1_000_000_000})
    before = market.bid_soon()
    first = {name: supervisor.process_id(name) for name in ("recorder", "store", "controller")}
    for pid in first.values():
        os.kill(pid, signal.SIGKILL)
    for _ in range(20):
        assert market.bid() is not None, "leases and snapshot are held by the worker"
    until(lambda: _looked(supervisor) and all(
        supervisor.process_id(name) != pid for name, pid in first.items()
    ))  # fmt: skip
    words = supervisor.block.words
    beats = words[Word.RECORDER_BEAT_NS], words[Word.CONTROLLER_BEAT_NS]
    until(lambda: words[Word.RECORDER_BEAT_NS] > beats[0])
    until(lambda: words[Word.CONTROLLER_BEAT_NS] > beats[1])
    until(lambda: words[Word.RECORDER_READY] == 1)
    until(lambda: market.say(before["burl"], before["price"]) == 200)
    bid = market.bid_soon()
    assert market.say(bid["burl"], bid["price"]) == 200
    until(lambda: market.ledger_bids() == market.bid_count)
    (budget,) = market.ledger().budgets
    assert (market.ledger().unfunded_bids, budget.spent_late_micros) == (0, 0)


def test_a_part_that_dies_again_and_again_ends_the_engine_in_one_line(started):
    supervisor, _ = started
    for _ in range(RESTARTS_MAX):
        os.kill(supervisor.process_id("recorder"), signal.SIGKILL)
        _wait_for_beat(supervisor, time.monotonic_ns())
    os.kill(supervisor.process_id("recorder"), signal.SIGKILL)
    with pytest.raises(NotReady, match=r"^recorder was ended by signal 9: recovered"):
        until(lambda: _looked(supervisor) and False)


def test_workers_bid_on_while_recorder_store_and_controller_hang_and_say_so(started):
    supervisor, market = started
    market.create(budget={"daily_micros": 1_000_000_000})
    market.bid_soon()
    hung = [supervisor.process_id(name) for name in ("recorder", "store", "controller")]
    for pid in hung:
        os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: min(_silences(market)) > 1.0)
        took = []
        for _ in range(50):
            begun = time.monotonic()
            assert market.bid() is not None
            took.append(time.monotonic() - begun)
        assert sorted(took)[25] < 0.1, "nothing on the path waits for them"
        assert market.http.get(_worker_url(market, "/ready")).status_code == 200
        _looked(supervisor)
        assert hung == [
            supervisor.process_id(name) for name in ("recorder", "store", "controller")
        ], "what hangs is told, not killed"
    finally:
        for pid in hung:
            os.kill(pid, signal.SIGCONT)
    until(lambda: max(_silences(market)) < 1.0)
    until(lambda: market.ledger_bids() == market.bid_count)
    assert market.ledger().unfunded_bids == 0


def _worker_url(market, path):
    return market.endpoints["bid_url"].replace("/bid/default", path)


def _silences(market):
    """Seconds since recorder and controller gave a sign, as a worker's metrics tell."""
    text = market.http.get(_worker_url(market, "/metrics")).text
    return [
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines() if line.startswith("lodestone_silence_seconds{")
    ]  # fmt: skip


def test_open_reservations_of_a_killed_worker_expire_back(tmp_path):
    windows = dict.fromkeys(("banner", "video", "audio", "native"), 1_500)
    deployment = msgspec.structs.replace(
        new_deployment(tmp_path / "run", worker_count=1, tick_ms=60_000),
        exchanges=tuple(
            msgspec.structs.replace(profile, billing_window_ms=windows)
            for profile in DEFAULT_EXCHANGES
        ),
    )
    supervisor = Supervisor(deployment)
    market = None
    try:
        supervisor.start()
        market = Market(msgspec.structs.asdict(endpoints_of(deployment)))
        market.create(budget={"daily_micros": 1_000_000})
        for _ in range(20):
            market.bid_soon()
        until(lambda: market.ledger_bids() == market.bid_count)
        (budget,) = market.ledger().budgets
        assert budget.open_count > 0
        first = supervisor.process_id("worker 0")
        os.kill(first, signal.SIGKILL)
        until(lambda: _looked(supervisor) and supervisor.process_id("worker 0") != first)
        until(lambda: _looked(supervisor) and market.ledger().budgets[0].open_count == 0)
        row = supervisor.block.worker(0)
        until(lambda: row[WorkerWord.PID] == supervisor.process_id("worker 0"))
        until(lambda: row[WorkerWord.IS_READY])
        # All of the budget can be bid again: nothing stays locked with the dead.
        spent, charged = 0, 0
        while spent < 900_000:
            bid = market.bid_soon()
            assert market.say(bid["burl"], bid["price"]) == 200
            spent += round(1_000 * bid["price"])
            charged += 1
        (budget,) = market.ledger().budgets
        assert charged > 0
        assert budget.spent_late_micros == 0
        assert 900_000 <= budget.spent_on_time_micros <= budget.limit_micros
    finally:
        supervisor.stop()
        if market is not None:
            market.close()


def _wait_for_beat(supervisor, after_ns):
    words = supervisor.block.words
    until(lambda: _looked(supervisor) and words[Word.RECORDER_BEAT_NS] > after_ns)


def test_no_process_outlives_a_supervisor_that_is_killed(tmp_path):
    with served(tmp_path / "run", "--workers", "2") as engine:
        engine.up()
        assert sorted(engine.pids) == sorted(MODULES)
        assert len(engine.pids["bidder.worker"]) == 2
        stopped = engine.pids["bidder.worker"][0]
        os.kill(stopped, signal.SIGSTOP)
        engine.process.kill()
        engine.process.wait()
        until(lambda: not any(engine.living().values()), 10)


def test_a_part_that_finds_damage_at_the_start_is_named_with_its_last_words(tmp_path):
    deployment = new_deployment(tmp_path / "run", worker_count=1, tick_ms=60_000)
    supervisor = Supervisor(deployment)
    (deployment.ring_folder / "events-0.ring").write_bytes(b"x" * 256)
    try:
        with pytest.raises(Corrupt, match=r"^recorder stopped: ring events-0\.ring"):
            supervisor.start()
    finally:
        codes = supervisor.stop()
    assert codes["recorder"] == 2
    assert supervisor.stop() == {}, "nothing is left to end"


def test_the_layout_of_a_run_keeps_what_counts_and_makes_the_rest_anew(tmp_path):
    deployment = new_deployment(tmp_path / "run", worker_count=2, tick_ms=60_000)
    first = Supervisor(deployment)
    caps = deployment.ring_folder / "caps.bin"
    cap_add(map_cap_slots(caps, 2), 1, np.uint64(7), 3, 0, FAR_MS)
    deployment.control_path.write_bytes(b"damaged")
    first.stop()
    second = Supervisor(msgspec.structs.replace(deployment, worker_count=1))
    count = cap_count(map_cap_slots(caps, 1), np.uint64(7), 0)
    assert count == 3, "frequency counts outlive a restart with fewer workers"
    assert second.block.words[Word.SNAPSHOT_VERSION] == 0
    second.stop()
    lock_folder(deployment.root).close()


def test_ports_are_free_and_secrets_fresh_for_each_deployment(tmp_path):
    one, two = (
        new_deployment(tmp_path / name, worker_count=1, tick_ms=60_000) for name in ("a", "b")
    )
    assert len({one.bid_port, one.notice_port, one.control_port}) == 3
    assert one.notice_key_hex != two.notice_key_hex
    assert one.user_salt_hex != two.user_salt_hex
    assert (len(one.notice_key_hex), len(one.user_salt_hex)) == (64, 32)


@pytest.mark.parametrize("damage", ["deployment", "control block"])
@pytest.mark.parametrize("module", MODULES)
def test_every_process_leaves_with_code_2_and_one_line_of_a_damaged_file(tmp_path, module, damage):
    deployment = new_deployment(tmp_path / "run", worker_count=1, tick_ms=60_000)
    Supervisor(deployment).stop()
    ControlBlock.create(deployment.control_path)
    path = write_deployment(deployment)
    if damage == "deployment":
        path.write_text('{"folder": "x"')
    else:
        deployment.control_path.write_bytes(b"x" * 64)
    left = subprocess.run(
        [sys.executable, "-m", module, str(path), *MODULES[module]],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    (line,) = left.stderr.splitlines()
    assert left.returncode == 2
    assert ("deployment.json" if damage == "deployment" else "control.bin") in line
    assert left.stdout == ""
