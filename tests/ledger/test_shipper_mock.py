"""The shipper against brokers that answer with errors, slowly, or from another place."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from ledger.disk import RealDisk
from ledger.event_log import EVENT_LOG
from ledger.loader import joined
from ledger.segment import RECORDS, SegmentReader, SegmentWriter
from ledger.shipper import CursorFile, KafkaSender, Shipper, events_of
from market.errors import NotReady
from tests.ledger.mock_cluster import (
    NETWORK,
    NOT_ENOUGH_REPLICAS,
    NOT_LEADER,
    REQUEST_TIMED_OUT,
    MockCluster,
)
from tests.ledger.stores import made_up_events

FRAMES = 12


@pytest.fixture
def cluster():
    made = MockCluster("events")
    yield made
    made.close()


@pytest.fixture
def events(tmp_path):
    made = made_up_events(1_200, seed=3)
    with SegmentWriter(tmp_path / "segments", RealDisk(), EVENT_LOG) as writer:
        for part in np.array_split(made, FRAMES):
            writer.append(RECORDS, part.tobytes())
            writer.commit()
    return made


def ids(events):
    return sorted(zip(events["id_hi"].tolist(), events["id_lo"].tolist(), strict=True))


class Shipping:
    """A shipper of the test's log, a frame a call, that is asked until all is shipped."""

    def __init__(self, folder, cluster):
        self.cursor = CursorFile(folder / "cursor", RealDisk())
        self.cluster = cluster
        self.sender = KafkaSender(cluster.servers, cluster.topic)
        self.durable = 0
        self.shipper = Shipper(
            SegmentReader(folder / "segments", RealDisk(), EVENT_LOG), self.sender, self.cursor,
            lambda: self.durable,
        )  # fmt: skip
        self.refused = 0

    async def ship_all(self, before=lambda sequence: None):
        try:
            for sequence in range(1, FRAMES + 1):
                self.durable = sequence
                before(sequence)
                while self.shipper.shipped_sequence < sequence:
                    stood = self.cursor.read()
                    assert stood == sequence
                    try:
                        await self.shipper.ship()
                    except NotReady:
                        self.refused += 1
                        assert self.refused < 60
                        assert self.cursor.read() == stood  # it moves only after every ack
                        await asyncio.sleep(0.05)
                assert self.cursor.read() == sequence + 1
        finally:
            await self.sender.close()


async def arrived(cluster):
    consumer = AIOKafkaConsumer(
        bootstrap_servers=cluster.servers, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(cluster.topic, n) for n in range(cluster.partitions)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found = []
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            for records in (await consumer.getmany(timeout_ms=300)).values():
                found += [events_of(record.value, record.headers) for record in records]
        return joined(found)
    finally:
        await consumer.stop()


def assert_all_arrived(cluster, events):
    """Each event at least once; a repeat is the same to the byte."""
    found = asyncio.run(arrived(cluster))
    assert sorted(set(ids(found))) == ids(events)
    assert len({event.tobytes() for event in found}) == events.shape[0]


@pytest.mark.parametrize(
    "codes",
    [
        (NOT_LEADER,) * 3,
        (REQUEST_TIMED_OUT, NOT_LEADER),
        (NOT_ENOUGH_REPLICAS,) * 4,
        (NETWORK, NETWORK),
        (NETWORK, NOT_LEADER, NOT_ENOUGH_REPLICAS, REQUEST_TIMED_OUT),
    ],
)
def test_pushed_errors_lose_nothing_and_hold_the_cursor(tmp_path, cluster, events, codes):
    def before(sequence):
        if sequence % 4 == 0:
            cluster.push_errors(*codes)

    shipping = Shipping(tmp_path, cluster)
    asyncio.run(asyncio.wait_for(shipping.ship_all(before), 60))
    assert_all_arrived(cluster, events)


def test_slow_brokers_are_waited_for(tmp_path, cluster, events):
    cluster.set_latency(80)
    shipping = Shipping(tmp_path, cluster)
    asyncio.run(asyncio.wait_for(shipping.ship_all(), 60))
    assert shipping.refused == 0
    cluster.set_latency(0)
    assert_all_arrived(cluster, events)


def test_leaders_that_move_are_followed(tmp_path, cluster, events):
    def before(sequence):
        for partition in range(cluster.partitions):
            cluster.move_leader(partition, 1 + (sequence + partition) % cluster.brokers)

    shipping = Shipping(tmp_path, cluster)
    asyncio.run(asyncio.wait_for(shipping.ship_all(before), 90))
    assert_all_arrived(cluster, events)


def test_a_broker_that_is_down_for_a_while_costs_time_only(tmp_path, cluster, events):
    """All leaders lie on the broker that goes; what was sent to it waits or is sent again."""
    for partition in range(cluster.partitions):
        cluster.move_leader(partition, 1)

    async def ship():
        shipping = Shipping(tmp_path, cluster)
        working = asyncio.create_task(shipping.ship_all())
        while shipping.shipper.shipped_sequence < 3:  # noqa: ASYNC110 - what is looked at tells no one
            await asyncio.sleep(0.01)
        cluster.set_down(1)
        stood = shipping.shipper.shipped_sequence
        await asyncio.sleep(1)
        assert shipping.shipper.shipped_sequence <= stood + 1
        cluster.set_up(1)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(working), 60)
        assert working.done()
        working.result()

    asyncio.run(ship())
    assert_all_arrived(cluster, events)
