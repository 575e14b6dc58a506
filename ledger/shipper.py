"""The shipper: carries the event log to Kafka, each event at least once.

    python -m ledger.shipper DEPLOYMENT

The log is written first, always; this process follows it. Kafka being slow, away or dead means that
the cursor stands still and the segments grow: nothing on the bid path waits for it, and nothing is
lost. A frame of the log becomes one message per campaign in it, keyed by the campaign, so that a
campaign's events stay in order; the header says the schema version and the frame. The cursor moves
only when the broker has acknowledged every message before it, and it survives a crash: what was
sent and not noted is sent again, and whoever loads it removes duplicates by the events' ids.

It deliberately uses no transactions: ids are deterministic and the store deduplicates, so nothing
needs exactly-once delivery.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time
import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np

from ledger.disk import RealDisk, read_whole, write_whole
from ledger.event_log import EVENT_LOG
from ledger.follower import Complaint, run_follower, until_stopped
from ledger.frame import RECORDS
from ledger.progress import LogProgress
from ledger.segment import SegmentReader
from market.control import FollowedWords, Word
from market.errors import BadInput, Corrupt, NotReady
from market.events import EVENT_DTYPE, SCHEMA_VERSION, read_events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from ledger.disk import Disk
    from ledger.frame import Frame
    from market.deployment import Deployment

HEADER_SCHEMA: Final = "schema"
"""Name of the header with the records' schema version, u16 little-endian."""
HEADER_FRAME: Final = "frame"
"""Name of the header with the frame's sequence in the log, u64 little-endian."""

BATCH_BYTES: Final = 8 << 20
"""Of the log, that are sent before the cursor moves."""
MESSAGE_BYTES_MAX: Final = 1 << 20
"""A broker's usual limit is a little above; a campaign's part of a frame is split at it."""
POLL_S: Final = 0.05
RETRY_S: Final = 1.0
STOP_S: Final = 2.0

_SCHEMA: Final = struct.Struct("<H")
_FRAME: Final = struct.Struct("<Q")
_CURSOR: Final = struct.Struct("<8sQI")
_CURSOR_MAGIC: Final = b"LODESHIP"


class Message(NamedTuple):
    """One message: records of one campaign out of one frame."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Sender(Protocol):
    """Whoever brings messages to a broker."""

    async def send(self, messages: Sequence[Message]) -> None:
        """Returns once every message is acknowledged by all in-sync replicas.

        Raises:
            NotReady: at least one was not; which of them arrived is not known.
        """
        ...


class CursorFile:
    """A sequence on disk, replaced as a whole: the old one or the new one, never half of it."""

    def __init__(self, path: Path, disk: Disk) -> None:
        """Reads nothing yet."""
        self._path = path
        self._disk = disk

    def read(self) -> int:
        """Returns the first sequence that is not done; 1 where there is no file.

        Raises:
            Corrupt: the file is damaged.
            NotReady: the disk refuses.
        """
        try:
            body = read_whole(self._disk, self._path)
        except FileNotFoundError:
            return 1
        except OSError as error:
            raise NotReady(f"cursor {self._path.name}: {error}; retry") from error
        sequence = _sequence_of(body)
        if sequence is None:
            raise Corrupt(
                f"cursor {self._path.name}: {len(body)} bytes are no cursor; delete it, and "
                "everything is sent again (whoever loads it removes the duplicates)"
            )
        return sequence

    def write(self, next_sequence: int) -> None:
        """Stores the sequence; returns when it is on disk.

        Raises:
            NotReady: the disk refuses; the old one is still there.
        """
        content = _CURSOR.pack(_CURSOR_MAGIC, next_sequence, _check(next_sequence))
        try:
            write_whole(self._disk, self._path, content)
        except OSError as error:
            raise NotReady(
                f"cursor {self._path.name}: {error}; what was sent is sent again"
            ) from error


def _check(sequence: int) -> int:
    return zlib.crc32(_FRAME.pack(sequence))


def _sequence_of(body: bytes) -> int | None:
    if len(body) != _CURSOR.size:
        return None
    magic, sequence, check = _CURSOR.unpack(body)
    return sequence if magic == _CURSOR_MAGIC and check == _check(sequence) else None


class Shipper:
    """Follows one log to one sender."""

    def __init__(
        self,
        reader: SegmentReader,
        sender: Sender,
        cursor: CursorFile,
        durable_sequence: Callable[[], int | None],
    ) -> None:
        """Takes a reader that starts at the cursor.

        Args:
            reader: of the log, at ``cursor.read()``.
            sender: to the broker.
            cursor: moved after acknowledgements only.
            durable_sequence: up to which frame the log is on disk; None where nobody says.
        """
        self._reader = reader
        self._sender = sender
        self._cursor = cursor
        self._durable_sequence = durable_sequence
        self._pending: list[Frame] = []
        self.shipped_sequence = reader.next_sequence - 1

    async def ship(self) -> int:
        """Sends the next frames and moves the cursor; returns how many frames it took.

        After an error the same frames are sent by the next call.

        Raises:
            NotReady: the broker did not acknowledge all, or the disk refuses; call again.
            Corrupt: the log is damaged.
        """
        if not self._pending:
            self._pending = self._reader.read(BATCH_BYTES, self._durable_sequence())
        if not self._pending:
            return 0
        await self._sender.send([message for frame in self._pending for message in split(frame)])
        last = self._pending[-1].sequence
        self._cursor.write(last + 1)
        count, self._pending = len(self._pending), []
        self.shipped_sequence = last
        return count


def split(frame: Frame) -> list[Message]:
    """Returns the messages of a frame, in order of campaigns; none for a control frame."""
    if frame.kind != RECORDS:
        return []
    events = read_events(frame.body, frame.schema_version)
    headers = (
        (HEADER_SCHEMA, _SCHEMA.pack(SCHEMA_VERSION)),
        (HEADER_FRAME, _FRAME.pack(frame.sequence)),
    )
    width = EVENT_DTYPE.itemsize
    most = MESSAGE_BYTES_MAX // width
    campaigns = events["campaign_id"]
    whole = events.view(f"V{width}")
    messages: list[Message] = []
    for campaign in np.unique(campaigns).tolist():
        own = whole[campaigns == campaign]
        messages += [
            Message(b"%d" % campaign, own[at : at + most].tobytes(), headers)
            for at in range(0, own.shape[0], most)
        ]
    return messages


def events_of(value: bytes, headers: Sequence[tuple[str, bytes]]) -> npt.NDArray[np.void]:
    """Returns the events of a message, [N] of EVENT_DTYPE.

    Raises:
        Corrupt: it is no message of a shipper of this build or an older one.
    """
    said = dict(headers).get(HEADER_SCHEMA)
    if said is None or len(said) != _SCHEMA.size:
        raise Corrupt("message: it has no header 'schema' of two bytes; it is not a shipper's")
    (version,) = _SCHEMA.unpack(said)
    events = read_events(value, version)
    if events.shape[0] == 0:
        raise Corrupt("message: it holds no event")
    return events


class KafkaSender:
    """A ``Sender`` to a Kafka cluster: acks=all, idempotent, every future looked at."""

    def __init__(self, servers: str, topic: str) -> None:
        """Connects to nothing yet; ``servers`` is ``host:port`` with commas between."""
        self._servers = servers
        self._topic = topic
        self._producer: Producer | None = None

    async def send(self, messages: Sequence[Message]) -> None:
        """See ``Sender``."""
        from aiokafka.errors import KafkaError  # noqa: PLC0415 - only who ships loads it

        try:
            producer = await self._connected()
            waits = [
                await producer.send(
                    self._topic, value=message.value, key=message.key,
                    headers=list(message.headers),
                )
                for message in messages
            ]  # fmt: skip
            results = await asyncio.gather(*waits, return_exceptions=True)
        except (KafkaError, OSError) as error:
            await self.close()
            raise NotReady(self._trouble(error)) from error
        failed = [result for result in results if isinstance(result, BaseException)]
        if failed:
            # An idempotent producer that failed once may refuse everything after it.
            await self.close()
            raise NotReady(
                f"{len(failed)} of {len(results)} messages: {self._trouble(failed[0])}"
            ) from failed[0]

    async def close(self) -> None:
        """Lets the connection go; what is not acknowledged by then counts as not sent."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            # It waits for what is under way, and without a broker it would wait for ever.
            await asyncio.wait_for(producer.stop(), STOP_S)
        except TimeoutError:
            whole: Any = producer
            await whole._sender.close()  # noqa: SLF001 - what ``stop`` did not come to
            await whole.client.close()

    async def _connected(self) -> Producer:
        if self._producer is None:
            from aiokafka import AIOKafkaProducer  # noqa: PLC0415 - as above

            producer: Producer = AIOKafkaProducer(
                bootstrap_servers=self._servers, acks="all", enable_idempotence=True,
                compression_type="lz4", linger_ms=5, max_request_size=2 * MESSAGE_BYTES_MAX,
            )  # fmt: skip
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    def _trouble(self, error: BaseException) -> str:
        text = " ".join(f"{type(error).__name__} {error}".split())[:300]
        return f"Kafka at {self._servers}, topic {self._topic}: {text}; they are sent again"


class Producer(Protocol):
    """What is used of aiokafka's producer, which comes without types."""

    async def start(self) -> None: ...  # noqa: D102
    async def stop(self) -> None: ...  # noqa: D102
    async def send(  # noqa: D102
        self, topic: str, *, value: bytes, key: bytes, headers: list[tuple[str, bytes]]
    ) -> asyncio.Future[object]: ...


async def run(deployment: Deployment) -> None:
    """Ships until SIGTERM, SIGINT or the stop word.

    Raises:
        BadInput: the deployment names no Kafka.
        Corrupt: the control block, the cursor or the log is damaged.
    """
    if not deployment.kafka_servers:
        raise BadInput("deployment: kafka_servers is empty; name the brokers as host:port")
    words = FollowedWords(deployment.control_path)
    disk = RealDisk()
    cursor = CursorFile(deployment.root / "shipper.cursor", disk)
    sender = KafkaSender(deployment.kafka_servers, deployment.kafka_topic)
    shipper = Shipper(
        SegmentReader(deployment.segment_folder, disk, EVENT_LOG, cursor.read()),
        sender, cursor, lambda: words[Word.DURABLE_SEQUENCE] or None,
    )  # fmt: skip
    try:
        progress = LogProgress(
            words, Word.SHIPPER_SEQUENCE, Word.SHIPPER_CAUGHT_UP_NS, time.monotonic_ns
        )
        await until_stopped(_follow(shipper, progress), lambda: bool(words[Word.STOP]))
    finally:
        await sender.close()


async def _follow(shipper: Shipper, progress: LogProgress) -> None:
    complaint = Complaint("shipper")
    while True:
        try:
            count = await shipper.ship()
        except NotReady as error:
            complaint.say(str(error))
            await asyncio.sleep(RETRY_S)
            continue
        complaint.is_over()
        progress.moved(shipper.shipped_sequence)
        if count == 0:
            await asyncio.sleep(POLL_S)


if __name__ == "__main__":
    sys.exit(run_follower("shipper", run, sys.argv[1:]))
