"""The processes of one engine: what the supervisor does when one is lost or will not start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import msgspec
import pytest

from campaigns.supervisor import (
    STOP_S_MAX,
    Supervisor,
    endpoints_of,
    lock_folder,
    new_deployment,
)
from market.control import ControlBlock, Word, WorkerWord
from market.deployment import write_deployment
from market.errors import Corrupt, NotReady
from tests.engines import REPOSITORY, Market, bids_in, until

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


def test_a_lost_recorder_and_a_second_engine_are_told_in_one_line(started):
    supervisor, _ = started
    with pytest.raises(NotReady, match="another engine runs in it"):
        Supervisor(supervisor.deployment)
    os.kill(supervisor.process_id("recorder"), signal.SIGKILL)
    with pytest.raises(NotReady, match=r"^recorder was ended by signal 9: recovered 0 frames"):
        until(lambda: _looked(supervisor) and False)


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
    caps.write_bytes(b"\x01" + caps.read_bytes()[1:])
    deployment.control_path.write_bytes(b"damaged")
    first.stop()
    second = Supervisor(deployment)
    assert caps.read_bytes()[0] == 1, "frequency counts outlive a restart"
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
