from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.progress import LogProgress
from ledger.segment import CONTROL, SegmentWriter
from ledger.sql import Rows
from ledger.store import Store, StoreClient
from market.control import Word
from market.errors import BadInput, NotReady
from market.events import EVENT_DTYPE, EventKind
from tests.ledger.stores import (
    ClickHouseServer,
    RunFolder,
    clickhouse_or_skip,
    made_up_events,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEAVE_S = 2.0
SLOW_QUESTION = "SELECT sum(sleepEachRow(0.5)) AS slept FROM numbers(4)"


@pytest.fixture(scope="module", params=["chdb", "clickhouse-server"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClickHouseServer | None]:
    """The same suite on both engines: None is chDB in the store's own process."""
    if request.param == "chdb":
        yield None
        return
    running = clickhouse_or_skip(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


def _url(server: ClickHouseServer | None) -> str:
    return server.new_database() if server else ""


@pytest.fixture(scope="module")
def store(
    server: ClickHouseServer | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunFolder]:
    """One running store with an empty log, for the tests that only ask."""
    folder = RunFolder(tmp_path_factory.mktemp("store"), _url(server))
    with folder.running():
        yield folder


@pytest.fixture
def folder(server: ClickHouseServer | None, tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path, _url(server))


@pytest.fixture
def embedded(tmp_path: Path) -> RunFolder:
    """For what only the embedded engine has: files of its own."""
    return RunFolder(tmp_path)


def test_events_that_are_loaded_twice_count_once(folder: RunFolder) -> None:
    events = made_up_events(50_000, seed=1)
    repeated = events.copy()
    repeated["recv_ms"] += 1000
    repeated["reason"] = 77
    first = folder.write(*np.split(events, 5))
    with folder.running() as process:
        folder.wait_for(first, process)
        assert folder.count() == 50_000
        second = folder.write(*np.split(repeated, 5))
        folder.wait_for(second, process)
        assert folder.count() == 50_000
        rows = folder.client.query(
            "SELECT count() AS all, countIf(reason = 77) AS last FROM events FINAL"
        ).rows
        assert rows == [[50_000, 50_000]]
        rows = folder.client.query(
            "SELECT count() AS ids, sum(received) AS received FROM ("
            "SELECT id_hi, id_lo, argMax(recv_ms, recv_ms) AS received FROM events "
            "GROUP BY advertiser_id, campaign_id, kind, id_hi, id_lo) AS latest"
        ).rows
        assert rows == [[50_000, int(repeated["recv_ms"].sum())]]


def test_every_field_comes_back_exactly(folder: RunFolder) -> None:
    events = made_up_events(300, seed=2)
    events["amount_micros"][0] = 2**53 + 1
    events["price_cpm_micros"][0] = -(2**62) - 1
    events["user_key"][0] = 2**64 - 1
    events["bid_ms"][1:4] = [0, 1, 2**40]
    with folder.running() as process:
        folder.wait_for(folder.write(events), process)
        names = EVENT_DTYPE.names or ()
        answer = folder.client.query(f"SELECT {', '.join(names)} FROM events FINAL")
    found = {(row[0], row[1]): row for row in answer.rows}
    assert len(found) == 300
    for record in events:
        expected = [value.tolist() for value in (record[name] for name in names)]
        assert found[expected[0], expected[1]] == expected


def test_a_sum_of_money_is_exact(folder: RunFolder) -> None:
    events = made_up_events(2, seed=3)
    events["amount_micros"] = [2**53, 1]
    with folder.running() as process:
        folder.wait_for(folder.write(events), process)
        rows = folder.client.query("SELECT sum(amount_micros) AS sum FROM events FINAL").rows
    assert rows == [[2**53 + 1]]


def test_kill_9_while_loading_loses_nothing_and_counts_nothing_twice(folder: RunFolder) -> None:
    frames = [made_up_events(5_000, seed=seed) for seed in range(80)]
    last = folder.write(*frames)
    stood_at = 0
    for _ in range(4):
        process = folder.start()

        def has_progressed() -> bool:
            nonlocal stood_at
            assert process.poll() is None, process.communicate()[1]  # noqa: B023
            before, stood_at = stood_at, max(stood_at, folder.loaded())
            return stood_at > before

        wait_until(has_progressed, "progress")
        # There is always more to load, so the next batch is on its way by now.
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        assert stood_at < last
    with folder.running() as process:
        folder.wait_for(last, process)
        rows = folder.client.query(
            "SELECT count() AS count, uniqExact(id_hi, id_lo) AS ids, sum(amount_micros) AS sum "
            "FROM events FINAL"
        ).rows
        amounts = sum(int(frame["amount_micros"].sum()) for frame in frames)
        assert rows == [[400_000, 400_000, amounts]]


def test_a_restart_goes_on_from_the_cursor(folder: RunFolder) -> None:
    events = made_up_events(2_000, seed=4)
    with folder.running() as process:
        folder.wait_for(folder.write(events[:1000]), process)
    with folder.running() as process:
        assert folder.loaded() == 1
        folder.wait_for(folder.write(events[1000:]), process)
        assert folder.count("events") == 2_000


def test_a_config_file_where_the_store_is_started_is_not_taken(embedded: RunFolder) -> None:
    elsewhere = embedded.deployment.root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "config.xml").write_text(f"<clickhouse><path>{elsewhere}/</path></clickhouse>")
    process = embedded.start(elsewhere)
    try:
        embedded.wait_for(embedded.write(made_up_events(10, seed=10)), process)
        assert [path.name for path in elsewhere.iterdir()] == ["config.xml"]
        assert (embedded.deployment.store_folder / "data").exists()
    finally:
        process.kill()
        process.communicate()


def test_a_store_that_lost_its_folder_loads_the_log_again(embedded: RunFolder) -> None:
    last = embedded.write(*np.split(made_up_events(1_000, seed=5), 4))
    for name in ("lost", "lost-again"):
        with embedded.running() as process:
            embedded.wait_for(last, process)
            assert embedded.count() == 1_000
        embedded.deployment.store_folder.rename(embedded.deployment.root / name)


def test_what_the_recorder_does_not_call_durable_is_not_loaded(folder: RunFolder) -> None:
    folder.write(*np.split(made_up_events(300, seed=6), 3))
    folder.control.words[Word.DURABLE_SEQUENCE] = 2
    with folder.running() as process:
        folder.wait_for(2, process)
        assert folder.client.loaded_sequence(at_least=3) == 2
        assert folder.count() == 200
        folder.control.words[Word.DURABLE_SEQUENCE] = 3
        folder.wait_for(3, process)
        assert folder.count() == 300


def test_control_frames_move_the_cursor_and_are_not_rows(folder: RunFolder) -> None:
    with SegmentWriter(folder.deployment.segment_folder, RealDisk(), EVENT_LOG) as writer:
        writer.append(CONTROL, b"grant")
        writer.commit()
    last = folder.write(made_up_events(10, seed=7))
    with folder.running() as process:
        folder.wait_for(last, process)
        assert folder.count() == 10


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_store_in_the_middle_of_a_question(
    folder: RunFolder, name: signal.Signals
) -> None:
    with folder.running() as process, ThreadPoolExecutor(1) as thread:
        question = thread.submit(folder.client.query, SLOW_QUESTION)
        began = time.monotonic()
        wait_until(question.running, "the question")
        process.send_signal(name)
        assert process.wait(LEAVE_S) == 0
        assert time.monotonic() - began < LEAVE_S
        with pytest.raises(NotReady):
            question.result()
        assert not folder.deployment.store_socket.exists()


def test_the_stop_word_ends_the_store(folder: RunFolder) -> None:
    with folder.running() as process:
        folder.control.words[Word.STOP] = 1
        assert process.wait(LEAVE_S) == 0


def test_a_damaged_log_ends_the_store_with_one_line_and_code_2(folder: RunFolder) -> None:
    folder.write(*np.split(made_up_events(100, seed=8), 2))
    (segment,) = folder.deployment.segment_folder.glob("*.seg")
    damaged = bytearray(segment.read_bytes())
    damaged[500] ^= 1
    segment.write_bytes(damaged)
    process = folder.start()
    _, text = process.communicate(timeout=60)
    assert process.returncode == 2
    assert re.fullmatch(r"store: .*00000001\.seg at offset .*\n", text), text


def test_a_second_store_on_one_folder_is_refused(embedded: RunFolder) -> None:
    with embedded.running():
        process = embedded.start()
        _, text = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "another process has it open" in text
        assert len(text.splitlines()) == 1
        assert embedded.client.query("SELECT 1 AS one").rows == [[1]]


def test_a_deployment_that_is_missing_is_told_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ledger.store", str(tmp_path / "deployment.json")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"store: deployment deployment\.json: .*\n", done.stderr), done.stderr


def test_a_slow_question_holds_up_neither_progress_nor_other_callers(store: RunFolder) -> None:
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(store.client.query, SLOW_QUESTION)
        wait_until(slow.running, "the slow question")
        answered = 0
        while not slow.done():
            began = time.monotonic()
            store.client.loaded_sequence()
            answered += time.monotonic() - began < 0.5
        assert slow.result().rows == [[0]]
        assert answered > 2


def test_many_callers_get_their_own_answers(store: RunFolder) -> None:
    def ask(number: int) -> list[list[object]]:
        return store.client.query("SELECT %(number)s AS number", number=number).rows

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(200))) == [[[number]] for number in range(200)]


@given(value=st.text(max_size=40) | st.integers(-(2**63), 2**64 - 1) | st.booleans())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_value_reaches_the_engine_as_it_is(store: RunFolder, value: str | int) -> None:
    answer = store.client.query("SELECT %(value)s AS value", value=value)
    assert answer.rows[0][0] == value


@pytest.mark.parametrize(
    "value",
    ["' OR 1=1 --", "\\", "\\'", "a\0b", "%(value)s", "{x:UInt8}", "/* */", "ü\u2028☃\U0001f600"],
)
def test_hostile_text_stays_text(store: RunFolder, value: str) -> None:
    answer = store.client.query(
        "SELECT %(value)s AS value, length(%(value)s) AS length, %(value)s IN %(values)s AS is_in",
        value=value,
        values=[value, "other"],
    )
    assert answer.columns == ["value", "length", "is_in"]
    assert answer.rows == [[value, len(value.encode()), 1]]


def test_floats_lists_dates_and_nothing_come_back(store: RunFolder) -> None:
    answer = store.client.query(
        "SELECT %(share)s AS share, [1, 2] AS list, toDate(20000) AS day, %(nothing)s AS nothing, "
        "toUInt64(18446744073709551615) AS big",
        share=0.1,
        nothing=None,
    )
    assert answer.rows == [[0.1, [1, 2], "2024-10-04", None, 2**64 - 1]]


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("DROP TABLE events", "one SELECT"),
        ("SELECT nope FROM events", "nope"),
        ("SELECT (", "Syntax error"),
        ("SELECT 1 FORMAT CSV", "SELECT 1 FORMAT CSV"),
        ("SELECT number FROM numbers(1000001)", "Limit for result exceeded"),
        ("SELECT %(missing)s", "no value was given"),
    ],
)
def test_a_bad_question_is_refused_with_its_reason(store: RunFolder, sql: str, rule: str) -> None:
    with pytest.raises(BadInput, match=re.escape(rule)):
        store.client.query(sql)
    assert store.count() == 0


def test_an_answer_holds_nothing_of_a_question_that_failed_before_it(store: RunFolder) -> None:
    for sql in (
        "SELECT number FROM numbers(1000001)",
        "SELECT number, throwIf(number = 500000) AS thrown FROM numbers(1000000)",
        "SELECT throwIf(number = 5) AS thrown FROM numbers(10)",
    ):
        with pytest.raises(BadInput):
            store.client.query(sql)
        assert store.client.query("SELECT 1 AS one") == Rows(columns=["one"], rows=[[1]])


def test_a_question_that_needs_too_much_memory_is_to_be_retried(store: RunFolder) -> None:
    with pytest.raises(NotReady, match=r"(?i)memory"):
        store.client.query("SELECT length(groupArray(number)) AS n FROM numbers(1000000000)")


def test_a_stranger_on_the_socket_harms_nobody(store: RunFolder) -> None:
    for message in (b"\xff\xff\xff\xff", b"\x03\0\0\0abc", b"\x05\0", b""):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
            stranger.settimeout(10)
            stranger.connect(str(store.deployment.store_socket))
            stranger.sendall(message)
            stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(1000):
                pass
    assert store.client.query("SELECT 1 AS one").rows == [[1]]


def test_the_store_is_its_owners_alone(embedded: RunFolder) -> None:
    with embedded.running():
        assert embedded.deployment.store_socket.stat().st_mode & 0o077 == 0
        assert embedded.deployment.store_folder.stat().st_mode & 0o077 == 0


def test_without_a_store_the_client_says_retry(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=r"store at store\.sock"):
        StoreClient(tmp_path / "store.sock").query("SELECT 1")


def test_a_socket_path_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="at most 107 bytes"):
        StoreClient(tmp_path / ("x" * 100)).loaded_sequence()


def test_a_question_that_is_too_long_is_refused(store: RunFolder) -> None:
    with pytest.raises(BadInput, match="at most 1048576"):
        store.client.query("SELECT %(text)s", text="x" * (1 << 20))


def test_who_only_asks_does_not_load_the_engine() -> None:
    engines = {"chdb", "pyarrow", "clickhouse_driver"}
    code = f"import sys, ledger.store, ledger.reports; print({engines} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_store_says_in_the_control_block_how_far_it_has_come(folder: RunFolder) -> None:
    words = folder.control.words
    with folder.running() as process:
        sequence = folder.write(*np.array_split(made_up_events(600, seed=19), 3))
        words[Word.DURABLE_SEQUENCE] = sequence - 1
        folder.wait_for(sequence - 1, process)
        wait_until(lambda: words[Word.STORE_ROWS] == 400, "two frames of three")
        before_ns = time.monotonic_ns()
        words[Word.DURABLE_SEQUENCE] = sequence
        folder.wait_for(sequence, process)
        wait_until(lambda: words[Word.STORE_CAUGHT_UP_NS] > before_ns, "having all of it")
    assert (words[Word.STORE_SEQUENCE], words[Word.STORE_ROWS]) == (sequence, 600)
    with folder.running():
        wait_until(lambda: words[Word.STORE_ROWS] == 0, "the counter of a new process")
    assert words[Word.STORE_SEQUENCE] == sequence


def test_kinds_are_told_apart(folder: RunFolder) -> None:
    events = made_up_events(5_000, seed=9)
    with folder.running() as process:
        folder.wait_for(folder.write(events), process)
        rows = folder.client.query(
            "SELECT kind, count() AS count FROM events FINAL GROUP BY kind ORDER BY kind"
        ).rows
    assert rows == [[int(kind), int((events["kind"] == kind).sum())] for kind in EventKind]


class _Keeper:
    """Upkeep that first cannot, then finds something, then nothing."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.results: list[Exception | bool] = [
            NotReady("not now"), BadInput("not so"), True, False, False,
        ]  # fmt: skip

    def upkeep(self) -> bool:
        result = self.results.pop(0)
        self.said.append(result)
        if isinstance(result, Exception):
            raise result
        return result


class _NothingToLoad:
    loaded_sequence = 7

    def load_batch(self) -> int:
        return 0


def test_upkeep_that_fails_is_said_and_tried_again_while_loading_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    keeper = _Keeper()
    thread = ThreadPoolExecutor(1)
    words = [0] * 64
    progress = LogProgress(words, Word.STORE_SEQUENCE, Word.STORE_CAUGHT_UP_NS, lambda: 5)
    store = Store(None, _NothingToLoad(), keeper, thread, progress, upkeep_s=0.01)

    async def until_done() -> None:
        loading = asyncio.create_task(store.load())
        while keeper.results:
            await asyncio.sleep(0.01)
            assert not loading.done()
        loading.cancel()

    asyncio.run(asyncio.wait_for(until_done(), 60))
    thread.shutdown()
    assert (words[Word.STORE_SEQUENCE], words[Word.STORE_CAUGHT_UP_NS]) == (7, 5)
    assert [str(each) for each in keeper.said] == ["not now", "not so", "True", "False", "False"]
    assert capsys.readouterr().err == "store: upkeep: not now\nstore: upkeep: not so\n"
