"""The loader at scale: takes events from Kafka into the analytics engine, each event once.

    python -m ledger.kafka_loader DEPLOYMENT

Any number of these form one group and share the topic's partitions. A batch is inserted, and only
then its offsets are committed; a crash, a lost partition or an engine that refuses means that the
batch is read again, by this process or another, and the engine keeps one row of an event id. What
is no message of a shipper goes to a quarantine file with its place, is counted, and holds nobody
up.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from ledger.follower import Complaint, run_follower, until_stopped
from ledger.loader import event_table, in_table_order, joined
from ledger.shipper import events_of
from market.control import FollowedWords, Word
from market.errors import BadInput, Corrupt, NotReady

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from ledger.analytics import AnalyticsEngine
    from market.deployment import Deployment

GROUP: Final = "lodestone-loader"
BATCH_MESSAGES: Final = 500
BATCH_ROWS: Final = 50_000
BATCH_S: Final = 1.0
"""However few rows there are, they are inserted after so long."""
POLL_MS: Final = 200
RETRY_S: Final = 1.0
_VALUE_BYTES_KEPT: Final = 4_096


class Record(Protocol):
    """A message as a consumer hands it out."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Consumer(Protocol):
    """What is used of aiokafka's consumer, which comes without types."""

    async def start(self) -> None: ...  # noqa: D102
    async def stop(self) -> None: ...  # noqa: D102
    async def getmany(  # noqa: D102
        self, *, timeout_ms: int, max_records: int
    ) -> Mapping[object, list[Record]]: ...
    async def commit(self, offsets: dict[object, int]) -> None: ...  # noqa: D102
    def assignment(self) -> Collection[object]: ...  # noqa: D102
    def highwater(self, partition: object) -> int | None: ...  # noqa: D102
    def last_poll_timestamp(self, partition: object) -> int | None: ...  # noqa: D102
    async def position(self, partition: object) -> int: ...  # noqa: D102


class Poison(msgspec.Struct, frozen=True):
    """A message that could not be read, as a line of the quarantine file.

    Attributes:
        topic: where it was.
        partition: of the topic.
        offset: in the partition.
        reason: what is wrong with it.
        byte_count: of its value.
        value_base64: the value's first bytes.
    """

    topic: str
    partition: int
    offset: int
    reason: str
    byte_count: int
    value_base64: str


class Quarantine:
    """A file of messages that could not be read, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        """Opens nothing until there is something to keep; ``count`` counts from now on."""
        self._path = path
        self.count = 0

    def keep(self, record: Record, reason: str) -> None:
        """Adds a message."""
        value = record.value or b""
        poison = Poison(
            record.topic, record.partition, record.offset, reason, len(value),
            base64.b64encode(value[:_VALUE_BYTES_KEPT]).decode(),
        )  # fmt: skip
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(poison) + b"\n")
        self.count += 1


class KafkaLoader:
    """Moves batches from a consumer to an engine; used by one task.

    Attributes:
        row_count: events inserted, repeats included.
        had_all_ms: epoch milliseconds of the latest moment of which is known that all that the
            broker had then in this loader's partitions is inserted; None = of none.
    """

    def __init__(self, consumer: Consumer, engine: AnalyticsEngine, quarantine: Quarantine) -> None:
        """Takes a consumer that commits nothing by itself."""
        self._consumer = consumer
        self._engine = engine
        self._quarantine = quarantine
        self._rows: list[npt.NDArray[np.void]] = []
        self._offsets: dict[object, int] = {}
        self.row_count = 0
        self.had_all_ms: int | None = None

    def forget(self) -> None:
        """Drops what is read and not inserted: its partitions may be another's now."""
        self._rows.clear()
        self._offsets.clear()

    async def load_batch(self) -> int:
        """Takes what there is, up to about BATCH_ROWS rows; returns how many rows it inserted.

        After an error nothing is committed: the caller lets the consumer go and starts another.

        Raises:
            NotReady: the engine or the broker refuses.
        """
        row_count = 0
        had_all_ms = self.had_all_ms
        clock = asyncio.get_running_loop().time
        until_s = clock() + BATCH_S
        while row_count < BATCH_ROWS and clock() < until_s:
            found = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH_MESSAGES)
            for partition, records in found.items():
                row_count += self._take(records)
                if records:
                    self._offsets[partition] = records[-1].offset + 1
            # In a topic that never rests there is always more after the batch, so not only then.
            had_all_ms = await self._had_all_ms() or had_all_ms
            if not any(found.values()):
                break
        offsets, rows = dict(self._offsets), list(self._rows)
        if rows:
            table = event_table(in_table_order(joined(rows)))
            await asyncio.get_running_loop().run_in_executor(
                None, self._engine.insert, "events", table
            )
        if offsets:
            await self._consumer.commit(offsets)
        self.forget()
        inserted = sum(part.shape[0] for part in rows)
        self.row_count += inserted
        self.had_all_ms = had_all_ms
        return inserted

    async def _had_all_ms(self) -> int | None:
        """Returns when the broker had no more than was taken by now; None: it had, or is unknown.

        By what the broker said last, of each partition: that nothing comes is no sign, since
        nothing comes of a broker that is away, either.
        """
        said_ms: list[int] = []
        for partition in self._consumer.assignment():
            end = self._consumer.highwater(partition)
            at_ms = self._consumer.last_poll_timestamp(partition)
            if end is None or at_ms is None or await self._consumer.position(partition) < end:
                return None
            said_ms.append(at_ms)
        return min(said_ms, default=None)

    def _take(self, records: list[Record]) -> int:
        count = 0
        for record in records:
            try:
                events = events_of(record.value or b"", record.headers)
            except Corrupt as error:
                self._quarantine.keep(record, str(error))
                continue
            self._rows.append(events)
            count += events.shape[0]
        return count


async def run(deployment: Deployment) -> None:
    """Loads until SIGTERM, SIGINT or the stop word.

    Raises:
        BadInput: the deployment names no Kafka or no server for the events.
        NotReady: the engine is not there.
    """
    from ledger.clickhouse import ClickHouseEngine, address_of  # noqa: PLC0415

    if not deployment.kafka_servers or not deployment.analytics_url:
        raise BadInput(
            "deployment: kafka_servers and analytics_url must both be set; the embedded engine "
            "belongs to one process, which loads the log itself"
        )
    words = FollowedWords(deployment.control_path)
    engine = ClickHouseEngine(address_of(deployment.analytics_url))
    quarantine = Quarantine(deployment.log_folder / "quarantine.jsonl")
    try:
        await until_stopped(
            _follow(deployment, engine, quarantine, words), lambda: bool(words[Word.STOP])
        )
    finally:
        engine.close()


async def _follow(
    deployment: Deployment, engine: AnalyticsEngine, quarantine: Quarantine, words: FollowedWords
) -> None:
    from aiokafka.errors import KafkaError  # noqa: PLC0415 - only who loads from Kafka has it

    complaint = Complaint("kafka loader")
    row_count = words[Word.KAFKA_LOADER_ROWS] = words[Word.KAFKA_LOADER_QUARANTINED] = 0
    while True:
        consumer, loader = _consumer_of(deployment, engine, quarantine)
        try:
            await consumer.start()
            while True:
                inserted = await loader.load_batch()
                complaint.is_over()
                row_count += inserted
                words[Word.KAFKA_LOADER_ROWS] = row_count
                words[Word.KAFKA_LOADER_QUARANTINED] = quarantine.count
                if loader.had_all_ms is not None:
                    ago_ns = time.time_ns() - loader.had_all_ms * 1_000_000
                    words[Word.KAFKA_LOADER_CAUGHT_UP_NS] = time.monotonic_ns() - max(0, ago_ns)
        except (NotReady, KafkaError, OSError) as error:
            text = " ".join(f"{type(error).__name__} {error}".split())[:300]
            complaint.say(f"{text}; the batch is read again")
        finally:
            await let_go(consumer)
        await asyncio.sleep(RETRY_S)


async def let_go(consumer: Any) -> None:  # noqa: ANN401 - aiokafka's, which comes without types
    """Leaves the group, so that the others have its partitions at once; a dead broker is no error.

    aiokafka's ``stop`` awaits the fetches that it cancelled. One that was just waiting to ask a
    broker that is down lets its CancelledError out, and then ``stop`` ends before it closed the
    connections (0.14, ``Fetcher.close``).

    Raises:
        asyncio.CancelledError: whoever called is cancelled.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        await consumer._client.close()  # noqa: SLF001 - what ``stop`` did not come to


def _consumer_of(
    deployment: Deployment, engine: AnalyticsEngine, quarantine: Quarantine
) -> tuple[Any, KafkaLoader]:
    from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener  # noqa: PLC0415

    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=deployment.kafka_servers, group_id=GROUP, enable_auto_commit=False,
        auto_offset_reset="earliest", max_partition_fetch_bytes=8 << 20,
    )  # fmt: skip
    loader = KafkaLoader(consumer, engine, quarantine)

    class Listener(ConsumerRebalanceListener):
        # aiokafka takes coroutines here, and says plain methods in its types.
        async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, revoked: object
        ) -> None:
            # The eager protocol takes everything; what was read is read again after it.
            del revoked
            loader.forget()

        async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, assigned: object
        ) -> None:
            del assigned

    consumer.subscribe([deployment.kafka_topic], listener=Listener())
    return consumer, loader


if __name__ == "__main__":
    sys.exit(run_follower("kafka loader", run, sys.argv[1:]))
