"""A real Kafka broker on loopback, for the tests of this folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
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


@contextlib.contextmanager
def broker_or_skip(folder: Path) -> Iterator[Broker]:
    """A running broker; where there is none to start, skips, or fails if one is required."""
    if not _BROKER.exists():
        lacking = "../shared/kafka/broker is not there: it starts Apache Kafka (needs Java 17)"
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
