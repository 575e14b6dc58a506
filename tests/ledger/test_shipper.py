"""From the log to Kafka, on a real broker that is stopped, killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.frame import CONTROL, RECORDS, Frame
from ledger.segment import SegmentReader, SegmentWriter
from ledger.shipper import (
    MESSAGE_BYTES_MAX,
    CursorFile,
    KafkaSender,
    Shipper,
    events_of,
    split,
)
from market.control import ControlBlock, Word
from market.deployment import Deployment, write_deployment
from market.errors import Corrupt, NotReady
from market.events import EVENT_DTYPE, SCHEMA_VERSION
from tests.ledger.brokers import Broker, broker_or_skip, wait_until
from tests.ledger.stores import made_up_events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOPIC = "events"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker_or_skip(tmp_path_factory.mktemp("broker")) as running:
        yield running


class Run:
    """A deployment whose log the test writes, and whose shipper it starts."""

    def __init__(self, root: Path, broker: Broker, topic: str) -> None:
        self.deployment = Deployment(
            folder=str(root), bid_port=1, notice_port=2, control_port=3,
            base_url="http://127.0.0.1:2", notice_key_hex="00" * 32, user_salt_hex="00" * 16,
            kafka_servers=broker.servers, kafka_topic=broker.create_topic(topic),
        )  # fmt: skip
        self.path = write_deployment(self.deployment)
        self.control = ControlBlock.create(self.deployment.control_path)
        self.cursor = CursorFile(root / "shipper.cursor", RealDisk())

    def write(self, events: np.ndarray, frames: int) -> int:
        with SegmentWriter(self.deployment.segment_folder, RealDisk(), EVENT_LOG) as writer:
            for part in np.array_split(events, frames):
                writer.append(RECORDS, part.tobytes())
                writer.commit()
            return writer.durable_sequence

    @contextlib.contextmanager
    def shipping(self) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "ledger.shipper", str(self.path)],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def received(broker: Broker, topic: str) -> list[tuple[int, bytes, np.ndarray]]:
    """Every message of a topic: (partition, key, events), in the order of each partition."""

    async def read() -> list[tuple[int, bytes, np.ndarray]]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=broker.servers, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(topic, n) for n in range(4)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            found = []
            while any([await consumer.position(each) < ends[each] for each in partitions]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += [
                        (record.partition, record.key, events_of(record.value, record.headers))
                        for record in records
                    ]
            return found
        finally:
            await consumer.stop()

    return asyncio.run(read())


def ids(events: np.ndarray) -> set[tuple[int, int]]:
    return set(zip(events["id_hi"].tolist(), events["id_lo"].tolist(), strict=True))


def test_every_event_arrives_in_its_campaign_s_order(tmp_path: Path, broker: Broker) -> None:
    run = Run(tmp_path, broker, "in-order")
    events = made_up_events(6_000, seed=1)
    last = run.write(events, 12)
    with run.shipping() as process:
        wait_until(lambda: run.cursor.read() == last + 1, "shipping")
        process.terminate()
        assert process.wait(10) == 0
    messages = received(broker, "in-order")
    arrived = np.concatenate([found for _, _, found in messages])
    assert arrived.shape[0] == 6_000
    for campaign in np.unique(events["campaign_id"]):
        own = [(place, found) for place, key, found in messages if key == b"%d" % campaign]
        assert len({place for place, _ in own}) == 1
        sent = events[events["campaign_id"] == campaign]
        found = np.concatenate([found for _, found in own])
        assert all(np.array_equal(found[name], sent[name]) for name in EVENT_DTYPE.names)


def test_nothing_is_lost_when_the_broker_is_killed_and_the_shipper_too(
    tmp_path: Path, broker: Broker
) -> None:
    run = Run(tmp_path, broker, "killed")
    events = made_up_events(20_000, seed=2)
    parts = np.array_split(events, 4)
    sent = run.write(parts[0], 40)
    with run.shipping() as process:
        wait_until(lambda: run.cursor.read() > 1, "the first frames")
        broker.kill()
        sent = run.write(parts[1], 40)
        assert run.cursor.read() <= sent
        process.kill()
    broker.start()
    sent = run.write(parts[2], 40)
    with run.shipping():
        wait_until(lambda: run.cursor.read() == sent + 1, "shipping after the broker's return")
        broker.stop()
        sent = run.write(parts[3], 40)
        broker.start()
        wait_until(lambda: run.cursor.read() == sent + 1, "shipping after a stop")
        run.control.words[Word.STOP] = 1
    arrived = np.concatenate([found for _, _, found in received(broker, "killed")])
    assert ids(arrived) == ids(events)


def test_a_shipper_whose_broker_is_dead_leaves_when_it_is_told(
    tmp_path: Path, broker: Broker
) -> None:
    run = Run(tmp_path, broker, "left")
    run.write(made_up_events(300, seed=3), 3)
    with run.shipping() as process:
        wait_until(lambda: run.cursor.read() == 4, "the first frames")
        broker.kill()
        try:
            run.write(made_up_events(300, seed=4), 3)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)  # so that it is sending
            process.terminate()
            assert process.wait(60) == 0
        finally:
            broker.start()
    assert run.cursor.read() == 4


def test_what_the_recorder_does_not_call_durable_is_not_shipped(
    tmp_path: Path, broker: Broker
) -> None:
    run = Run(tmp_path, broker, "durable")
    run.write(made_up_events(300, seed=3), 3)
    run.control.words[Word.DURABLE_SEQUENCE] = 2
    with run.shipping():
        wait_until(lambda: run.cursor.read() == 3, "the durable frames")
        run.control.words[Word.DURABLE_SEQUENCE] = 3
        wait_until(lambda: run.cursor.read() == 4, "the last frame")


def test_a_broker_that_is_not_there_keeps_the_cursor_where_it_is(tmp_path: Path) -> None:
    with SegmentWriter(tmp_path / "log", RealDisk(), EVENT_LOG) as writer:
        writer.append(RECORDS, made_up_events(10, seed=4).tobytes())
        writer.commit()
    cursor = CursorFile(tmp_path / "cursor", RealDisk())
    sender = KafkaSender("127.0.0.1:1", TOPIC)
    shipper = Shipper(
        SegmentReader(tmp_path / "log", RealDisk(), EVENT_LOG), sender, cursor, lambda: None
    )
    for _ in range(2):
        with pytest.raises(NotReady, match=r"Kafka at 127\.0\.0\.1:1, topic events: .*sent again"):
            asyncio.run(shipper.ship())
    assert cursor.read() == 1
    assert shipper.shipped_sequence == 0


def test_a_frame_is_split_by_campaign_and_by_size() -> None:
    events = np.zeros(MESSAGE_BYTES_MAX // EVENT_DTYPE.itemsize + 7, EVENT_DTYPE)
    events["campaign_id"][::1000] = 9
    events["id_lo"] = np.arange(events.shape[0])
    messages = split(Frame(5, RECORDS, SCHEMA_VERSION, events.tobytes()))
    assert all(len(message.value) <= MESSAGE_BYTES_MAX for message in messages)
    back = [events_of(message.value, message.headers) for message in messages]
    assert sum(part.shape[0] for part in back) == events.shape[0]
    assert all(len(set(part["campaign_id"].tolist())) == 1 for part in back)
    assert split(Frame(6, CONTROL, SCHEMA_VERSION, b"grant")) == []


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (bytes(EVENT_DTYPE.itemsize), ()),
        (bytes(EVENT_DTYPE.itemsize), (("schema", b"\x01"),)),
        (bytes(EVENT_DTYPE.itemsize), (("schema", b"\xff\xff"),)),
        (bytes(EVENT_DTYPE.itemsize - 1), (("schema", SCHEMA_VERSION.to_bytes(2, "little")),)),
        (b"", (("schema", SCHEMA_VERSION.to_bytes(2, "little")),)),
    ],
)
def test_what_no_shipper_sent_is_no_message(
    value: bytes, headers: tuple[tuple[str, bytes], ...]
) -> None:
    with pytest.raises(Corrupt):
        events_of(value, headers)


def test_a_cursor_is_kept_whole_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    cursor = CursorFile(tmp_path / "cursor", RealDisk())
    assert cursor.read() == 1
    for sequence in (2, 2**40, 7):
        cursor.write(sequence)
        assert CursorFile(tmp_path / "cursor", RealDisk()).read() == sequence
    whole = (tmp_path / "cursor").read_bytes()
    for at in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        (tmp_path / "cursor").write_bytes(damaged)
        with pytest.raises(Corrupt, match="cursor cursor: 20 bytes are no cursor"):
            cursor.read()
    (tmp_path / "cursor").write_bytes(whole[:-1])
    with pytest.raises(Corrupt, match="19 bytes are no cursor"):
        cursor.read()


def test_a_deployment_without_kafka_is_told_in_one_line(tmp_path: Path) -> None:
    deployment = Deployment(
        folder=str(tmp_path), bid_port=1, notice_port=2, control_port=3, base_url="http://x",
        notice_key_hex="00" * 32, user_salt_hex="00" * 16,
    )  # fmt: skip
    path = write_deployment(deployment)
    done = subprocess.run(
        [sys.executable, "-m", "ledger.shipper", str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        done.stderr
        == "shipper: deployment: kafka_servers is empty; name the brokers as host:port\n"
    )
