"""From Kafka to a ClickHouse server: a rebalance, kills and poison in the middle of a load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from ledger.clickhouse import ClickHouseEngine, address_of
from ledger.frame import RECORDS, Frame
from ledger.kafka_loader import GROUP, KafkaLoader, Quarantine, let_go
from ledger.shipper import split
from market.control import ControlBlock, Word
from market.deployment import Deployment, write_deployment
from market.events import SCHEMA_VERSION
from tests.ledger.brokers import Broker, broker_or_skip, wait_until
from tests.ledger.stores import ClickHouseServer, clickhouse_or_skip, made_up_events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker_or_skip(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    running = clickhouse_or_skip(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.fixture
def started(
    tmp_path: Path, broker: Broker, server: ClickHouseServer, request: pytest.FixtureRequest
) -> Iterator[Run]:
    run = Run(tmp_path, broker, server, f"topic-{zlib.crc32(request.node.name.encode())}")
    yield run
    run.engine.close()


class Run:
    def __init__(self, root: Path, broker: Broker, server: ClickHouseServer, topic: str) -> None:
        self.broker = broker
        self.deployment = Deployment(
            folder=str(root), bid_port=1, notice_port=2, control_port=3,
            base_url="http://127.0.0.1:2", notice_key_hex="00" * 32, user_salt_hex="00" * 16,
            kafka_servers=broker.servers, kafka_topic=broker.create_topic(topic),
            analytics_url=server.new_database(),
        )  # fmt: skip
        self.deployment.log_folder.mkdir()
        self.path = write_deployment(self.deployment)
        self.control = ControlBlock.create(self.deployment.control_path)
        self.engine = ClickHouseEngine(address_of(self.deployment.analytics_url))
        self.quarantine = self.deployment.log_folder / "quarantine.jsonl"

    def send(self, events: np.ndarray, frames: int, poison: tuple[bytes, ...] = ()) -> None:
        async def send() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=self.broker.servers, acks="all")
            await producer.start()
            topic = self.deployment.kafka_topic
            for value in poison:
                await producer.send_and_wait(topic, value=value, key=b"1")
            for sequence, part in enumerate(np.array_split(events, frames), 1):
                for message in split(Frame(sequence, RECORDS, SCHEMA_VERSION, part.tobytes())):
                    await producer.send(
                        topic, value=message.value, key=message.key, headers=list(message.headers)
                    )
            await producer.stop()

        asyncio.run(send())

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ledger.kafka_loader", str(self.path)],
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextlib.contextmanager
    def loading(self) -> Iterator[subprocess.Popen[str]]:
        process = self.start()
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def count(self) -> int:
        (row,) = self.engine.execute("SELECT count() AS n FROM events FINAL").rows
        return int(str(row[0]))


def test_two_loaders_share_a_load_and_lose_nothing_in_a_rebalance(
    started: Run,
) -> None:
    run = started
    run.send(made_up_events(40_000, seed=1), 80)
    with run.loading():
        wait_until(lambda: run.count() > 0, "the first rows")
        with run.loading() as second:
            run.send(made_up_events(40_000, seed=2), 80)
            wait_until(lambda: run.count() == 80_000, "both loads")
            wait_until(lambda: run.broker.member_count(GROUP) == 2, "the second loader")
            second.terminate()
            assert second.wait(20) == 0
        run.send(made_up_events(5_000, seed=3), 10)
        wait_until(lambda: run.count() == 85_000, "the load after the second one left")
    assert not run.quarantine.exists()


def test_a_loader_killed_in_the_middle_repeats_its_batch_and_counts_nothing_twice(
    started: Run,
) -> None:
    run = started
    events = made_up_events(60_000, seed=4)
    run.send(events, 60)
    for _ in range(3):
        with run.loading():
            before = run.count()
            wait_until(lambda before=before: run.count() > before or before == 60_000, "some rows")
    with run.loading():
        wait_until(lambda: run.count() == 60_000, "all rows")
    (row,) = run.engine.execute("SELECT sum(amount_micros) AS s FROM events FINAL").rows
    assert row[0] == int(events["amount_micros"].sum())


def test_the_server_and_the_broker_may_go_and_come_back(
    started: Run, broker: Broker, server: ClickHouseServer
) -> None:
    run = started
    run.send(made_up_events(1_000, seed=5), 4)
    with run.loading() as process:
        wait_until(lambda: run.count() == 1_000, "the first load")
        server.kill()
        run.send(made_up_events(1_000, seed=6), 4)
        server.start()
        wait_until(lambda: run.count() == 2_000, "the load after the server's return")
        broker.kill()
        broker.start()
        run.send(made_up_events(1_000, seed=7), 4)
        wait_until(lambda: run.count() == 3_000, "the load after the broker's return")
        run.control.words[Word.STOP] = 1
        assert process.wait(20) == 0


def test_poison_is_kept_with_its_place_and_holds_nobody_up(
    started: Run,
) -> None:
    run = started
    run.send(made_up_events(2_000, seed=8), 4, poison=(b"not ours", b""))
    with run.loading():
        wait_until(lambda: run.count() == 2_000, "the rows behind the poison")
        before_ns = time.monotonic_ns()
        wait_until(
            lambda: run.control.words[Word.KAFKA_LOADER_CAUGHT_UP_NS] > before_ns, "having all"
        )
    kept = [json.loads(line) for line in run.quarantine.read_text().splitlines()]
    assert [(each["topic"], each["byte_count"]) for each in kept] == [
        (run.deployment.kafka_topic, 8),
        (run.deployment.kafka_topic, 0),
    ]
    assert [each["offset"] for each in kept] == [0, 1]
    assert all("it has no header 'schema'" in each["reason"] for each in kept)
    assert kept[0]["value_base64"] == "bm90IG91cnM="


class Topic:
    """A topic of one partition as aiokafka's consumer shows it, whose messages nobody can read.

    ``later`` is how many more come while one is taken; while it ``is_away`` nothing is heard of it.
    """

    def __init__(self, later: int) -> None:
        self._later = later
        self._taken = self._end = 0
        self._heard_ms: int | None = None
        self.is_away = False

    async def getmany(
        self, *, timeout_ms: int, max_records: int
    ) -> dict[str, list[SimpleNamespace]]:
        del timeout_ms, max_records
        await asyncio.sleep(0.05)
        if self.is_away:
            return {}
        self._heard_ms = (self._heard_ms or 1_000) + 50
        self._taken = self._end
        self._end += self._later
        return {"partition": [message_of_nobody(self._taken - 1)]} if self._taken else {}

    async def commit(self, offsets: dict[object, int]) -> None:
        del offsets

    def assignment(self) -> set[str]:
        return {"partition"}

    def highwater(self, partition: object) -> int:
        del partition
        return self._taken

    def last_poll_timestamp(self, partition: object) -> int | None:
        del partition
        return self._heard_ms

    async def position(self, partition: object) -> int:
        del partition
        return self._taken


def message_of_nobody(offset: int) -> SimpleNamespace:
    return SimpleNamespace(topic="t", partition=0, offset=offset, value=b"", headers=())


def test_a_loader_of_a_topic_that_never_rests_has_had_all_of_it_a_moment_ago(
    tmp_path: Path,
) -> None:
    loader = KafkaLoader(Topic(later=1), None, Quarantine(tmp_path / "quarantine"))
    asyncio.run(loader.load_batch())
    first_ms = loader.had_all_ms
    asyncio.run(loader.load_batch())
    assert first_ms is not None
    assert loader.had_all_ms is not None
    assert loader.had_all_ms > first_ms


def test_a_broker_that_is_away_is_not_taken_for_one_that_has_no_more(tmp_path: Path) -> None:
    topic = Topic(later=0)
    topic.is_away = True
    loader = KafkaLoader(topic, None, Quarantine(tmp_path / "quarantine"))
    asyncio.run(loader.load_batch())
    assert loader.had_all_ms is None
    topic.is_away = False
    asyncio.run(loader.load_batch())
    here_ms = loader.had_all_ms
    assert here_ms is not None
    topic.is_away = True
    asyncio.run(loader.load_batch())
    assert loader.had_all_ms == here_ms


class Fetching:
    """A consumer as aiokafka leaves it when a fetch was waiting for a broker that is down."""

    def __init__(self) -> None:
        self._client = self
        self.is_closed = False

    async def stop(self) -> None:
        fetch = asyncio.ensure_future(asyncio.sleep(60))
        await asyncio.sleep(0)
        fetch.cancel()
        await fetch

    async def close(self) -> None:
        self.is_closed = True


def test_a_consumer_whose_fetch_is_cancelled_is_let_go_and_the_loader_lives() -> None:
    consumer = Fetching()
    asyncio.run(let_go(consumer))
    assert consumer.is_closed


def test_a_loader_that_is_told_to_stop_while_it_lets_go_stops() -> None:
    async def told() -> None:
        task = asyncio.ensure_future(let_go(Fetching()))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(told())
