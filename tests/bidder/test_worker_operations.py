"""Workers in operation: several on one snapshot, caps among them, silence, money's end, logs."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from bidder.catalogue import read_catalogue
from market.campaign import CapPeriod, FrequencyCap
from market.control import Word, WorkerWord
from market.events import EventKind
from market.exchange import DEFAULT_EXCHANGES
from tests.bidder.requests import body_of
from tests.bidder.services import catalogue_snapshot, funds_of, service_of
from tests.bidder.workers import WorkerPlace
from tests.ledger.recorders import REPOSITORY, WAIT_S, until
from tests.pages import sample

BID = "/bid/twin"
SECOND_NS = 1_000_000_000
STATUS_LINE = b"HTTP/1.1 200"


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Machine code on disk before several workers start: else each compiles the same at once."""
    service = service_of()
    service._decider.warm_up()
    service.warm_up(DEFAULT_EXCHANGES[0])


@pytest.fixture
def place_of(tmp_path):
    places = []

    def make(**changes):
        places.append(WorkerPlace(tmp_path / str(len(places)), **changes))
        return places[-1]

    yield make
    for place in places:
        place.stop(signal.SIGKILL)


def now_ms():
    return time.time_ns() // 1_000_000


def hammer(place, count, body, threads=6):
    """Sends requests over many connections at once; returns the statuses."""
    statuses = []

    def send(number):
        for _ in range(count // threads):
            # A connection each: the kernel spreads connections over the workers, not requests.
            status, _ = place.ask("POST", BID, body(number))
            statuses.append(status)

    senders = [threading.Thread(target=send, args=(n,)) for n in range(threads)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return statuses


def test_workers_that_bid_for_one_user_at_once_overshoot_a_cap_by_less_than_their_number(place_of):
    workers, allowed = 3, 5
    cap = FrequencyCap(impressions=allowed, period=CapPeriod.WEEK)
    campaign = next(c for c in read_catalogue() if c.line_items[0].line_item_id == 101)
    (item,) = (i for i in campaign.line_items if i.line_item_id == 101)
    campaign = msgspec.structs.replace(
        campaign, line_items=(msgspec.structs.replace(item, frequency_caps=(cap,)),)
    )
    place = place_of(workers=workers)
    place.start(catalogue_snapshot((campaign,), now_ms=now_ms()))
    users = [f"u{n}" for n in range(4)]
    numbers = iter(range(1_000_000))
    lock = threading.Lock()

    def body(thread):
        with lock:
            number = next(numbers)
        return body_of(id=f"r{number}", user={"id": users[thread % len(users)]})

    statuses = hammer(place, 40 * len(users), body, threads=8)
    assert set(statuses) == {200, 204}
    events = place.drain()
    bids = events[events["kind"] == EventKind.BID]
    assert len(set(bids["worker"].tolist())) > 1, "the kernel spread them"
    keys = bids["user_key"].tolist()
    assert len(set(keys)) == len(users)
    for key in set(keys):
        assert allowed <= keys.count(key) <= allowed + workers - 1
    again = hammer(place, 24, body)
    assert set(again) == {204}


def test_swaps_under_load_over_many_connections_lose_no_request(place_of):
    place = place_of(workers=2, events_capacity=100_000)
    place.start()
    is_over = threading.Event()
    statuses, failures = [], []

    def flow(number):
        try:
            connection = place.connect()
            while not is_over.is_set():
                statuses.append(place.ask("POST", BID, body_of(id=f"{number}"), connection)[0])
            connection.close()
        except OSError as error:
            failures.append(error)

    clients = [threading.Thread(target=flow, args=(n,)) for n in range(4)]
    for client in clients:
        client.start()
    try:
        for _ in range(6):
            place.publish()
            for row in place.rows:
                until(lambda: row[WorkerWord.SNAPSHOT_VERSION] == place.version)  # noqa: B023
            seen = len(statuses)
            until(lambda: len(statuses) > seen + 20)  # noqa: B023
    finally:
        is_over.set()
        for client in clients:
            client.join()
    assert failures == []
    assert set(statuses) <= {200, 204}
    assert statuses.count(200) > 100
    assert all(row[WorkerWord.SNAPSHOTS_REFUSED] == 0 for row in place.rows)


def test_any_worker_tells_the_counts_of_all(place_of):
    place = place_of(workers=2)
    place.start()
    hammer(place, 30, lambda number: body_of(id=f"r{number}"))
    hammer(place, 6, lambda _: body_of({"bidfloor": 9_000}))
    hammer(place, 6, lambda _: b"{")

    def total(name, **labels):
        _, wanted = sample(name, **labels)
        return sum(
            value for (found, has), value in place.metrics().items()
            if found == name and wanted <= has
        )  # fmt: skip

    until(lambda: total("lodestone_bid_responses_total", exchange="twin") == 42)
    assert total("lodestone_bid_responses_total", exchange="twin", status=200) == 30
    assert total("lodestone_bids_total", exchange="twin", format="banner") == 30
    assert total("lodestone_no_bids_total", exchange="twin", reason="below_floor") == 6
    assert total("lodestone_no_bids_total", exchange="twin", reason="malformed_request") == 6
    assert total("lodestone_worker_ready") == 2
    assert {dict(labels)["worker"] for _, labels in place.metrics()} == {"0", "1"}


def test_a_silent_recorder_and_controller_are_told_and_the_worker_bids_on(place_of):
    place = place_of()
    words = place.control.words
    place.start()

    def silence_s(process):
        return place.metrics().get(sample("lodestone_silence_seconds", process=process))

    assert silence_s("recorder") is None, "none was ever heard"
    words[Word.RECORDER_BEAT_NS] = words[Word.CONTROLLER_BEAT_NS] = time.monotonic_ns()
    until(lambda: silence_s("recorder") is not None)
    assert silence_s("recorder") < 2
    words[Word.RECORDER_BEAT_NS] = time.monotonic_ns() - 60 * SECOND_NS
    until(lambda: silence_s("recorder") >= 60)
    assert place.ask("GET", "/ready")[0] == 200
    assert place.ask("POST", BID, body_of())[0] == 200
    until(lambda: silence_s("controller") > 3.2)
    until(lambda: {("silent", "recorder"), ("silent", "controller")} <= set(place.said()))
    words[Word.RECORDER_BEAT_NS] = words[Word.CONTROLLER_BEAT_NS] = time.monotonic_ns()
    until(lambda: ("heard_again", "recorder") in place.said())
    until(lambda: silence_s("recorder") < 3)


def test_when_the_leases_run_out_it_says_so_and_bids_again_with_new_ones(place_of):
    place = place_of()
    place.start()
    snapshot = catalogue_snapshot(now_ms=now_ms())
    place.publish(snapshot)
    # The owner takes all back, and grants enough for a few bids.
    assert place.credits.push(funds_of(snapshot, -(10**13)))
    until(lambda: place.ask("POST", BID, body_of(id="poor"))[0] == 204)
    until(lambda: ("out_of_money", "") in place.said())
    page = place.metrics()
    assert page[sample("lodestone_budgets_funded", worker=0)] == 0
    assert page[sample("lodestone_budgets", worker=0)] > 0
    refused = {"worker": 0, "exchange": "twin", "reason": "budget_exhausted"}
    assert page[sample("lodestone_no_bids_total", **refused)] >= 1
    assert place.ask("GET", "/ready")[0] == 200
    assert place.credits.push(funds_of(snapshot, 10**14))
    until(lambda: place.ask("POST", BID, body_of(id="rich"))[0] == 200)
    until(lambda: place.said()[-1] == ("money_again", ""))
    until(lambda: place.metrics()[sample("lodestone_budgets_funded", worker=0)] > 0)


def test_a_client_that_pipelines_metrics_in_a_loop_costs_a_worker_next_to_nothing(place_of):
    place = place_of()
    place.start()
    first = place.ask("GET", "/metrics")[1]
    asked, seen = 2_000, b""
    before = process_cpu_s(place.process.pid)
    with socket.create_connection(("127.0.0.1", place.deployment.bid_port), WAIT_S) as client:
        sender = threading.Thread(
            target=client.sendall, args=(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * asked,)
        )
        sender.start()
        received = answered = 0
        while answered < asked:
            seen = seen[-len(STATUS_LINE) + 1 :] + client.recv(1 << 20)
            answered += seen.count(STATUS_LINE)
            received += 1
            assert received < 10**6
        sender.join()
    # A page made anew is some 2 ms: each of them would be four seconds of a core.
    assert process_cpu_s(place.process.pid) - before < 1.5
    assert len(first) > 5_000


def process_cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_no_user_address_or_consent_reaches_a_log_or_a_metric(place_of):
    canaries = [f"canary{random.getrandbits(64):x}" for _ in range(4)]
    user, eid, consent, segment = canaries
    address = "203.0.113.77"
    place = place_of()
    place.start()
    bodies = [
        body_of(
            {"bidfloor": floor}, id=f"{segment}-request",
            user={
                "id": user, "buyeruid": user, "consent": consent,
                "eids": [{"source": "x.example", "uids": [{"id": eid}]}],
                "data": [{"segment": [{"id": segment}]}],
            },
            device={"ip": address, "ifa": user, "geo": {"lat": 52.123456, "lon": 13.654321}},
            regs={"gdpr": 1},
        )
        for floor in (0, 9_999)
    ]  # fmt: skip
    for body in bodies:
        for sent in (body, body[:-5], body.replace(b'"imp"', b'"pmi"')):
            place.ask("POST", BID, sent)
    place.publish(body=b"damaged")
    until(lambda: place.row[WorkerWord.SNAPSHOTS_REFUSED] == 1)
    place.ask("POST", f"/bid/{user}", bodies[0])
    page = place.ask("GET", "/metrics")[1].decode()
    _, log, _ = place.stop()
    assert "snapshot_refused" in log
    for text in (page, log):
        for canary in (*canaries, address, "52.12", "13.65"):
            assert canary not in text


WARM = """
import gc
from numba.core.dispatcher import Dispatcher
from market.exchange import DEFAULT_EXCHANGES
from tests.bidder.requests import body_of
from tests.bidder.services import NOW_MS, service_of

def compiled():
    return {
        f"{each.py_func.__module__}.{each.py_func.__qualname__}": len(each.overloads)
        for each in gc.get_objects() if isinstance(each, Dispatcher)
    }

service = service_of()
service._decider.warm_up()
service.warm_up(DEFAULT_EXCHANGES[0])
before = compiled()
video = {"banner": None, "video": {"mimes": ["video/mp4"], "protocols": [2], "w": 640, "h": 360}}
deal = {"pmp": {"deals": [{"id": "AB-Agency1-0001", "bidfloor": 1}]}}
for body in (body_of(), body_of({}, video, deal), body_of(user={"id": "u"}, bcat=["IAB18"])):
    service.answer(body, DEFAULT_EXCHANGES[0], NOW_MS)
assert service.bid_count > 0
late = {name for name, count in compiled().items() if count != before.get(name, 0)}
assert not late, late
print("warm")
"""


def test_no_kernel_is_compiled_after_the_warm_up():
    done = subprocess.run(
        [sys.executable, "-c", WARM], cwd=REPOSITORY, capture_output=True, text=True, timeout=110,
        check=False,
    )  # fmt: skip
    assert done.stdout == "warm\n", done.stderr
