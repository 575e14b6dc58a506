"""The recorder as a process: over its port, through its rings, and after every kind of end."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import resource
import signal
import socket
import threading
import time
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from ledger.event_log import EVENT_LOG
from ledger.segment import RECORDS, RealDisk, SegmentReader
from market.control import Word, WorkerWord
from market.events import EventFlag, EventKind, read_events
from market.notices import QUERY_ORDER, QUERY_VALUE
from market.price_encryption import PriceKeys
from tests.ledger.recorders import Place, until
from tests.pages import sample, samples_of

BILLING, WIN, LOSS = EventKind.BILLING, EventKind.WIN, EventKind.LOSS
CLICK, CONVERSION = EventKind.CLICK, EventKind.CONVERSION
SOON_MS = 3_600_000


def now_ms():
    return time.time_ns() // 1_000_000


def times():
    now = now_ms()
    return {"bid_ms": now, "deadline_ms": now + SOON_MS}


def events_of(place):
    frames = SegmentReader(place.deployment.segment_folder, RealDisk(), EVENT_LOG).read(1 << 30)
    return [
        event
        for frame in frames
        if frame.kind == RECORDS
        for event in read_events(frame.body, frame.schema_version)
    ]


@pytest.fixture
def places(tmp_path):
    made = []

    def make(**rest):
        made.append(Place(tmp_path / f"run{len(made)}", **rest))
        return made[-1]

    yield make
    for place in made:
        if place.process is not None and place.process.poll() is None:
            place.process.kill()
        if place.process is not None:
            place.process.communicate()


@pytest.fixture
def place(places):
    return places().start()


@pytest.fixture
def worker(place):
    worker = place.worker()
    until(lambda: worker.take_credits() or worker.available)
    return worker


# Money over HTTP.


def test_a_bid_is_charged_by_its_billing_notice_and_the_rest_is_credited(place, worker):
    assert worker.available == {1: 500_000_000}
    bid = times()
    assert worker.bid(1, 100, **bid)
    assert place.bill(1, 60, **bid) == 200
    until(lambda: worker.take_credits() is not None and worker.available[1] == 500_000_000 - 60)
    assert place.spent() == (60, 0)
    assert place.bill(1, 60, **bid) == 200
    assert place.spent() == (60, 0)
    view = place.ledger()
    assert view.exchanges[0].duplicates_ignored == 1
    assert view.sequence == place.words[Word.DURABLE_SEQUENCE] > 0
    (item,) = view.line_items
    assert (item.id, item.bids, item.impressions, item.spend_micros) == (7, 1, 1, 60)
    assert [int(event["kind"]) for event in events_of(place)] == [1, 7]


def test_every_answer_is_the_one_that_was_promised(place, worker):
    bid = times()
    worker.bid(1, 100, **bid)
    path = place.path_of(BILLING, 1, "?p=0.05", **bid)
    assert place.say(BILLING, 1, "?p=${AUCTION_PRICE}", **bid) == 400
    assert place.say(BILLING, 1, "", **bid) == 400
    assert place.say(BILLING, 1, "?p=AUDIT", **bid) == 200
    assert place.get(path.replace("billing", "win"))[0] == 403
    assert place.get(path[:40] + ("A" if path[40] != "A" else "B") + path[41:])[0] == 403
    assert place.get("/n/nothing/x")[0] == 404
    assert place.get("/elsewhere")[0] == 404
    assert place.get(path, "PUT")[0] == 405
    assert place.get(path, "HEAD")[0] == 405
    assert place.spent() == (0, 0)
    assert place.bill(1, 101, **bid) == 200
    assert place.spent() == (0, 0)
    assert place.get(path, "POST")[0] == 200
    assert place.spent() == (50, 0)
    assert place.get("/live")[0] == place.get("/ready")[0] == 200
    named = {view.name: view for view in place.ledger().exchanges}
    assert named[""].forged == 2
    default = named["default"]
    assert (default.malformed, default.audits, default.disputed) == (2, 1, 1)
    old = {"bid_ms": 1, "deadline_ms": 2}
    assert place.bill(2, 10, **old) == 410


def test_price_keys_that_do_not_fit_the_profiles_are_one_line_that_shows_no_key(tmp_path):
    secret = "ab" * 31
    place = Place(tmp_path / "run", price_keys={"default": PriceKeys(secret, secret)})
    _, said = place.spawn().communicate(timeout=60)
    assert place.process.returncode == 2
    assert said.decode() == (
        "recorder: price_keys: exchange 'default' is no exchange that encrypts prices; "
        "the deployment must agree\n"
    )


def test_a_click_leads_to_the_landing_page_and_its_token_lets_conversions_in(place, worker):
    bid = times()
    worker.bid(1, 100, **bid)
    path = place.path_of(CLICK, 1, **bid)
    status, headers, _ = place.get(path)
    assert status == 302
    assert headers["location"].startswith("https://shop.example/page?lsclk=")
    signed = parse_qs(urlsplit(headers["location"]).query)["lsclk"][0]
    for order, value in (("A", "19.99"), ("A", "19.99"), ("B", "1")):
        query = f"?{QUERY_ORDER}={order}&{QUERY_VALUE}={value}"
        assert place.get(f"/n/conversion/{signed}{query}")[0] == 200
    assert place.get(f"/n/conversion/{signed}?v=much")[0] == 400
    assert place.get(path)[0] == 302
    (item,) = place.ledger().line_items
    assert (item.clicks, item.conversions, item.conversion_value_micros) == (1, 2, 20_990_000)
    assert place.say(CLICK, 2, creative_id=71, **bid) == 404


def test_a_landing_page_cannot_smuggle_headers_into_the_answer(place):
    place.publish({1: 10**9}, creatives={70: "https://shop.example/\r\nset-cookie: a=b é"})
    path = place.path_of(CLICK, 1, **times())
    evil = until(lambda: (found := place.get(path)[1]["location"]) and "cookie" in found and found)
    assert "\r" not in evil
    assert evil.startswith("https://shop.example/%0D%0Aset-cookie:%20a=b%20%C3%A9?lsclk=")


def test_many_clients_at_once_are_each_answered_after_their_commit(place, worker):
    bid = times()
    for number in range(400):
        assert worker.bid(number, 100, **bid)
    statuses = []

    def exchange(first):
        connection = place.connect()
        for number in range(first, 400, 8):
            connection.request("GET", place.path_of(BILLING, number, "?p=0.01", **bid))
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=exchange, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 400
    assert place.spent() == (4_000, 0)


# Time.


def test_a_reservation_expires_on_the_wall_clock_and_its_late_win_is_paid(place, worker):
    bid = {"bid_ms": now_ms(), "deadline_ms": now_ms() + 100}
    full = worker.available[1]
    worker.bid(1, 100, **bid)
    until(lambda: worker.take_credits() is not None and worker.available[1] == full)
    assert place.bill(1, 60, **bid) == 200
    assert place.spent() == (0, 60)


def test_a_new_snapshot_brings_its_budgets_and_a_lowered_limit_is_kept(place, worker):
    place.publish({1: 10**9, 2: 800})
    until(lambda: worker.take_credits() is not None and worker.available.get(2) == 400)
    place.publish({1: 10**9, 2: 100})
    until(lambda: worker.take_credits() is not None and worker.available[2] == 50)
    held = {view.budget_id: view.held_micros for view in place.ledger().budgets}
    assert held[2] == 50


@pytest.mark.parametrize("is_episode", [False, True])
def test_one_worker_can_spend_what_an_idle_one_was_lent(places, is_episode):
    place = places(limits={1: 1_000}, worker_count=2, is_episode=is_episode).start()
    busy, idle = place.worker(0), place.worker(1)
    bids = iter(range(1, 1_000))

    def step():
        if is_episode:
            place.words[Word.CLOCK_MS] += 10_000
            place.words[Word.CLOCK_STEP] += 1
            until(
                lambda: (
                    idle.take_credits() is not None
                    and place.words[Word.RECORDER_STEP] == place.words[Word.CLOCK_STEP]
                )
            )
        idle.take_credits()
        busy.take_credits()
        while busy.bid(next(bids), 10, deadline_ms=now_ms() + SOON_MS):
            pass
        return sum(view.held_micros for view in place.ledger().budgets) == 1_000 and (
            idle.available.get(1, 0) <= 40
        )

    until(step)
    assert next(bids) * 10 >= 1_000 - 40


def test_a_bad_snapshot_is_told_and_the_budgets_before_it_stay(place, worker):
    folder = place.deployment.snapshot_folder
    (folder / "snapshot-0000000002.bin").write_bytes(b"damaged")
    place.words[Word.SNAPSHOT_VERSION] = 2
    place.publish({1: 10**9, 2: 800})
    until(lambda: worker.take_credits() is not None and worker.available.get(2) == 400)
    (folder / "snapshot-0000000004.bin").write_bytes(b"damaged")
    place.words[Word.SNAPSHOT_VERSION] = 4
    assert place.process.stderr.readline().startswith(b"recorder: recovered 0 frames")
    said = until(place.process.stderr.readline).decode()
    assert said.startswith("recorder: kept the budgets of the snapshot before: snapshot")
    assert {view.budget_id for view in place.ledger().budgets} == {1, 2}


def test_in_an_episode_nothing_expires_between_the_steps_of_the_exchange(places):
    place = places(is_episode=True).start()
    worker = place.worker()
    assert worker.take_credits() == {}
    assert worker.available == {}

    def step(clock_ms):
        place.words[Word.CLOCK_MS] = clock_ms
        place.words[Word.CLOCK_STEP] += 1
        until(lambda: place.words[Word.RECORDER_STEP] == place.words[Word.CLOCK_STEP])
        worker.take_credits()

    step(1_000)
    assert worker.available == {1: 500_000_000}
    worker.bid(1, 100, bid_ms=1_000, deadline_ms=1_500)
    worker.bid(2, 100, bid_ms=1_000, deadline_ms=1_500)
    place.words[Word.CLOCK_MS] = 1_500
    assert place.bill(1, 60, deadline_ms=1_500) == 200
    worker.take_credits()
    assert worker.available == {1: 500_000_000 - 160}, "a settlement is credited at once"
    place.words[Word.CLOCK_MS] = 9_000
    began = time.monotonic()
    until(lambda: time.monotonic() > began + 0.2)
    assert worker.take_credits() == {}
    assert worker.available == {1: 500_000_000 - 160}, "the clock moved, its step did not"
    step(9_000)
    assert worker.available == {1: 500_000_000 - 60}
    assert place.bill(2, 60, deadline_ms=1_500) == 200
    view = place.ledger()
    assert (view.at_ms, view.budgets[0].spent_late_micros) == (9_000, 60)


# Ends and starts.


def test_nothing_acked_is_lost_or_charged_twice_when_it_is_killed_again_and_again(places):
    place = places()
    chance = random.Random(11)
    bid, acked, asked = times(), set(), set()
    for _ in range(5):
        place.start()
        worker = place.worker()
        while not worker.available.get(1):
            until(worker.credits_ring.pending_count)
            worker.take_credits()
        killer = threading.Timer(chance.uniform(0.1, 0.5), place.process.kill)
        killer.start()
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                number = len(asked)
                worker.bid(number, 100, **bid)
                asked.add(number)
                if place.bill(number, 10, **bid) == 200:
                    acked.add(number)
        killer.join()
        place.process.communicate()
    assert len(acked) > 50
    place.start()
    charged = place.spent()[0] // 10
    assert len(acked) <= charged <= len(asked)
    assert [place.bill(n, 10, **bid) for n in sorted(asked)] == [200] * len(asked)
    assert place.spent() == (10 * len(asked), 0)
    events = [event for event in events_of(place) if event["kind"] == BILLING]
    assert sorted(int(event["bid_hi"]) for event in events) == sorted(asked)
    assert all(event["flags"] == EventFlag.CHARGED for event in events)
    view = place.ledger()
    assert view.unfunded_bids == 0
    assert view.budgets[0].spent_on_time_micros + view.budgets[0].held_micros <= 10**9


def test_a_worker_that_lives_on_gets_its_money_back_from_the_next_recorder(place, worker):
    bid = times()
    worker.bid(1, 100, **bid)
    until(lambda: place.ledger().budgets[0].open_count == 1)
    place.process.kill()
    place.process.communicate()
    place.start()
    until(lambda: worker.take_credits() is not None and worker.available[1] >= 400_000_000)
    view = place.ledger().budgets[0]
    assert view.open_count == 1
    assert view.held_micros == worker.available[1] + 100


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, "stop word"])
def test_it_leaves_in_time_with_everything_taken_and_committed(place, worker, end):
    bid = times()
    open_connection = place.connect()
    open_connection.request("GET", "/live")
    assert open_connection.getresponse().read() == b""
    for number in range(500):
        worker.bid(number, 100, **bid)
    if end == "stop word":
        place.words[Word.STOP] = 1
    code, said, seconds = place.stop(signal.SIGCONT if end == "stop word" else end)
    open_connection.close()
    assert (code, seconds < 2) == (0, True), said
    assert worker.events.free_count() == worker.events.capacity
    assert len(events_of(place)) == 500
    assert place.words[Word.RECORDER_READY] == 0


def test_a_torn_tail_is_cut_and_told_and_damage_stops_the_start(place, worker):
    bid = times()
    for number in range(3):
        worker.bid(number, 100, **bid)
        assert place.bill(number, 10, **bid) == 200
    place.stop()
    (segment,) = place.deployment.segment_folder.glob("*.seg")
    whole = segment.read_bytes()
    segment.write_bytes(whole + whole[-40:][:31])
    place.start()
    assert place.spent() == (30, 0)
    _, said, _ = place.stop()
    assert "cut 31 torn bytes from 00000001.seg" in said.splitlines()[0]
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    segment.write_bytes(damaged)
    place.spawn().wait(timeout=30)
    code, said, _ = place.stop()
    assert code == 2
    assert len(said.splitlines()) == 1
    assert "damage inside the log" in said


def test_a_second_recorder_and_a_taken_port_are_refused_in_one_line(places, place):
    second = places()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", second.deployment.notice_port))
        taken.listen()
        second.spawn().wait(timeout=30)
        code, said, _ = second.stop()
        assert (code, len(said.splitlines())) == (1, 2)
        assert "in use" in said
    first, other = place.process, place.spawn()
    other.wait(timeout=30)
    code, said, _ = place.stop()
    place.process = first
    assert (code, len(said.splitlines())) == (1, 1)
    assert "another writer has this log open" in said


def test_a_deployment_that_cannot_be_read_is_refused_in_one_line(places):
    place = places()
    place.path.write_text("{}")
    place.spawn().wait(timeout=30)
    code, said, _ = place.stop()
    assert (code, len(said.splitlines())) == (2, 1)
    assert said.startswith("recorder: deployment deployment.json")


def test_a_damaged_ring_is_refused_in_one_line(places):
    place = places()
    place.deployment.ring_folder.mkdir()
    (place.deployment.ring_folder / "events-0.ring").write_bytes(b"x" * 256)
    place.spawn().wait(timeout=30)
    code, said, _ = place.stop()
    assert (code, len(said.splitlines())) == (2, 1)
    assert "ring events-0.ring" in said


def test_a_disk_that_is_full_means_503_and_no_charge_until_there_is_room(place, worker):
    bid = times()
    for number in range(3):
        worker.bid(number, 100, **bid)
    assert place.bill(0, 10, **bid) == 200
    (segment,) = place.deployment.segment_folder.glob("*.seg")
    until(lambda: place.ledger().budgets[0].open_count == 2)
    pid = place.process.pid
    unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    room = segment.stat().st_size + 7
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, unlimited[1]))
    assert place.bill(1, 10, **bid) == 503
    assert place.bill(2, 10, **bid) == 503
    assert place.get("/ready")[0] == 503
    assert place.get("/live")[0] == 200
    assert place.spent() == (10, 0)
    assert not place.ledger().is_writable
    resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
    until(lambda: place.get("/ready")[0] == 200)
    assert place.bill(1, 10, **bid) == 200
    assert place.bill(2, 10, **bid) == 200
    assert place.spent() == (30, 0)
    _, said, _ = place.stop()
    assert [line.split(":")[1].strip() for line in said.splitlines()[1:]] == [
        "notices are answered 503", "the log can be written again",
    ]  # fmt: skip
    place.start()
    assert place.spent() == (30, 0)


def test_a_crashed_worker_is_seen_through_its_pid_and_its_lease_waits(place, worker):
    bid = {"bid_ms": now_ms(), "deadline_ms": now_ms() + 1_500}
    worker.bid(1, 100, **bid)
    until(lambda: place.ledger().budgets[0].open_count == 1)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    place.control.worker(0)[WorkerWord.PID] = child
    until(lambda: worker.take_credits() is not None and worker.available[1] == 0)
    assert place.ledger().budgets[0].held_micros == 500_000_000
    assert place.bill(1, 60, **bid) == 200
    assert place.spent() == (60, 0), "a win of a crashed worker settles against its lease"
    until(lambda: place.ledger().budgets[0].held_micros == 0)
    place.control.worker(0)[WorkerWord.PID] = os.getpid()
    until(lambda: worker.take_credits() is not None and worker.available[1] > 0)


# What it is made of.


def test_a_running_recorder_has_imported_no_framework(place, worker):
    bid = times()
    worker.bid(1, 100, **bid)
    assert place.bill(1, 60, **bid) == 200
    place.process.send_signal(signal.SIGUSR1)
    written = place.deployment.log_folder / "recorder.modules"
    until(written.exists)
    modules = {name.split(".")[0] for name in written.read_text().splitlines()}
    assert "ledger" in modules
    for framework in ("chdb", "pyarrow", "fastapi", "sqlalchemy", "torch", "pydantic", "pandas"):
        assert framework not in modules
    with open(f"/proc/{place.process.pid}/maps", encoding="utf-8") as file:  # noqa: PTH123 - /proc
        mapped = file.read()
    assert "uvloop" in mapped
    for library in ("chdb", "libarrow", "libtorch"):
        assert library not in mapped


def test_the_view_is_json_that_other_rooms_can_decode(place):
    body = place.get("/ledger")[2]
    view = msgspec.json.decode(body)
    assert {"at_ms", "sequence", "is_writable", "budgets", "line_items", "creatives"} < set(view)


@pytest.mark.parametrize("token", ["", "wrong", "\u00e9"])
def test_budgets_and_spend_are_told_to_nobody_without_the_token(place, token):
    status, headers, body = place.get("/ledger", token=token)
    assert (status, body) == (401, b"")
    assert headers["www-authenticate"] == "Bearer"


def test_its_metrics_count_notices_by_exchange_and_name_no_bid_and_no_money(place):
    worker = place.worker()
    until(lambda: worker.take_credits() is not None and worker.available.get(1))
    when = times()
    assert worker.bid(1, 300, **when)
    assert place.bill(1, 200, **when) == 200
    assert place.bill(1, 200, **when) == 200
    path = place.path_of(BILLING, 1, **when)
    assert place.get(path[:-2] + ("AA" if path[-2:] != "AA" else "BB"))[0] == 403
    status, headers, body = place.get("/metrics", token="")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    text = body.decode()
    page = samples_of(text)
    again = {"exchange": "default", "case": "duplicates_ignored"}
    assert page[sample("lodestone_notices_total", **again)] == 1
    assert page[sample("lodestone_notices_total", exchange="", case="forged")] == 1
    assert page[sample("lodestone_ring_events", worker=0)] == 0
    assert page[sample("lodestone_log_writable")] == 1
    assert "spend" not in text
    assert "budget" not in text


def test_it_gives_a_sign_of_life_at_every_turn(place):
    first = place.words[Word.RECORDER_BEAT_NS]
    assert first > 0
    until(lambda: place.words[Word.RECORDER_BEAT_NS] > first)


def test_a_request_that_was_answered_twice_in_a_millisecond_locks_no_money(place):
    worker = place.worker()
    until(lambda: worker.take_credits() is not None and worker.available.get(1))
    leased, when = worker.available[1], times()
    assert worker.bid(1, 300, caps=(7,), **when)
    assert worker.bid(1, 300, caps=(7,), **when)
    counts = {}

    def is_credited():
        counts.update(worker.take_credits())
        return counts.get(7)

    assert until(is_credited) == 1, "one of the two counts is taken back"
    (budget,) = place.ledger().budgets
    assert budget.open_count == 1
    assert worker.available[1] == leased - 300
    assert place.ledger().unfunded_bids == 0
