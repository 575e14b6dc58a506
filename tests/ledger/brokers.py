"""A real Kafka broker on loopback, for the tests of this folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.ledger.stores import free_ports, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

_BROKER = Path(__file__).resolve().parents[3] / "shared" / "kafka" / "broker"


class Broker:
    """Apache Kafka in a child process; its data stay in ``folder`` over restarts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._controller_port = free_ports(2)
        self.servers = f"127.0.0.1:{self._port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [str(_BROKER), str(self._folder), str(self._port), str(self._controller_port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(b"broker ready"), line

    def kill(self) -> None:
        """kill -9 of the JVM."""
        os.kill(int((self._folder / "broker.pid").read_text()), signal.SIGKILL)
        self._wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self._wait()

    def _wait(self) -> None:
        assert self.process is not None
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def create_topic(self, name: str, partitions: int = 4) -> str:
        asyncio.run(self._create_topic(name, partitions))
        wait_until(lambda: asyncio.run(self._has_topic(name)), "the topic")
        return name

    async def _create_topic(self, name: str, partitions: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, partitions, 1)])
        finally:
            await admin.close()

    async def _has_topic(self, name: str) -> bool:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        await admin.start()
        try:
            return name in await admin.list_topics()
        finally:
            await admin.close()

    def member_count(self, group: str) -> int:
        """How many consumers are in a group and know their partitions."""
        return asyncio.run(self._member_count(group))

    async def _member_count(self, group: str) -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        await admin.start()
        try:
            (answer,) = await admin.describe_consumer_groups([group])
        finally:
            await admin.close()
        (_, _, state, _, _, members, *_), *_ = answer.groups
        return len(members) if state == "Stable" else 0


class NamedBroker(Broker):
    """The broker that ``LODESTONE_KAFKA`` names: somebody else's, so no test may end it."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self.process = None

    def start(self) -> None:
        pytest.skip(f"{self.servers} (LODESTONE_KAFKA) is not ours to start and end")

    kill = stop = start

    def create_topic(self, name: str, partitions: int = 4) -> str:
        """Makes a topic that no other run has; it stays behind."""
        return super().create_topic(f"{name}-{uuid.uuid4().hex[:8]}", partitions)


@contextlib.contextmanager
def broker_or_skip(folder: Path, *, is_ended: bool = False) -> Iterator[Broker]:
    """A running broker: the one that ``LODESTONE_KAFKA`` names as host:port, or one of our own.

    Where there is none to start, skips, or fails if one is required; also where the test ends
    brokers (``is_ended``), which it may do to its own only.
    """
    named = os.environ.get("LODESTONE_KAFKA")
    if named and not is_ended:
        yield NamedBroker(named)
        return
    if not _BROKER.exists():
        lacking = (
            "../shared/kafka/broker, which starts Apache Kafka on Java 17, is not there: install "
            "Kafka and name it with LODESTONE_KAFKA=host:port"
        )
        if "kafka" in os.environ.get("LODESTONE_REQUIRE", ""):
            pytest.fail(lacking)
        pytest.skip(lacking)
    broker = Broker(folder)
    try:
        yield broker
    finally:
        if broker.process is not None and broker.process.poll() is None:
            broker.stop()


__all__ = ["Broker", "broker_or_skip", "wait_until"]
