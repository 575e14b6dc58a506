"""How far those who follow the log have come: words in the control block, told on ``/metrics``.

Store, shipper and Kafka loader have no port of their own. Each writes its words, and any worker's
page tells them. What stands there is of the process that wrote last: a counter begins at 0 when its
process does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from market.control import Word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Metric

_SEQUENCES: Final = (("store", Word.STORE_SEQUENCE), ("shipper", Word.SHIPPER_SEQUENCE))
_ROWS: Final = (("store", Word.STORE_ROWS), ("kafka_loader", Word.KAFKA_LOADER_ROWS))
_CAUGHT_UP: Final = (
    ("store", Word.STORE_CAUGHT_UP_NS),
    ("shipper", Word.SHIPPER_CAUGHT_UP_NS),
    ("kafka_loader", Word.KAFKA_LOADER_CAUGHT_UP_NS),
)


class Words(Protocol):
    """The words of a control block: a memoryview, or ``FollowedWords``."""

    def __getitem__(self, word: int, /) -> int: ...  # noqa: D105
    def __setitem__(self, word: int, value: int, /) -> None: ...  # noqa: D105


class LogProgress:
    """What a process that reads the log itself says of itself."""

    def __init__(
        self,
        words: Words,
        sequence_word: Word,
        caught_up_word: Word,
        clock_ns: Callable[[], int],
        rows_word: Word | None = None,
    ) -> None:
        """Takes the process's words, and the machine's monotonic clock; it has done no rows yet."""
        self._words = words
        self._sequence_word = sequence_word
        self._caught_up_word = caught_up_word
        self._clock_ns = clock_ns
        self._rows_word = rows_word
        self._row_count = 0
        # What was durable at a moment, and the moment: it was caught up with once that is done.
        self._goal = (words[Word.DURABLE_SEQUENCE], clock_ns())
        if rows_word is not None:
            words[rows_word] = 0

    def moved(self, sequence: int, row_count: int = 0) -> None:
        """Says that every frame up to ``sequence`` is done, the last ``row_count`` rows now."""
        self._row_count += row_count
        self._words[self._sequence_word] = sequence
        if self._rows_word is not None:
            self._words[self._rows_word] = self._row_count
        goal, goal_ns = self._goal
        now = (self._words[Word.DURABLE_SEQUENCE], self._clock_ns())
        if sequence >= now[0]:
            self._words[self._caught_up_word] = now[1]
        elif sequence >= goal:
            # A log that is written all the time is never at its end: what counts is how long ago
            # all of it was what is done now.
            self._words[self._caught_up_word] = goal_ns
        else:
            return
        self._goal = now


def families(words: memoryview, now_ns: int) -> Iterator[Metric]:
    """Yields what is known of each process that ever followed this run's log."""
    heard = {name for name, word in _CAUGHT_UP if words[word]}
    heard |= {name for name, word in _SEQUENCES if words[word]}
    sequences = CounterMetricFamily(
        "lodestone_log_frames_read_total",
        "Sequence of the last frame of the event log that this process is done with.",
        labels=("process",),
    )
    behind = GaugeMetricFamily(
        "lodestone_log_frames_behind",
        "Durable frames of the event log that this process is not done with.",
        labels=("process",),
    )
    for name, word in _SEQUENCES:
        if name in heard:
            sequences.add_metric((name,), words[word])
            behind.add_metric((name,), max(0, words[Word.DURABLE_SEQUENCE] - words[word]))
    yield sequences
    yield behind
    seconds = GaugeMetricFamily(
        "lodestone_log_behind_seconds",
        "Time since all there was then is done by now; it grows while the process is away, too.",
        labels=("process",),
    )
    for name, word in _CAUGHT_UP:
        if words[word]:
            seconds.add_metric((name,), max(0, now_ns - words[word]) / 1e9)
    yield seconds
    rows = CounterMetricFamily(
        "lodestone_rows_loaded_total",
        "Events inserted into the analytics engine, repeats included.",
        labels=("process",),
    )
    for name, word in _ROWS:
        if words[word] or name in heard:
            rows.add_metric((name,), words[word])
    yield rows
    quarantined = CounterMetricFamily(
        "lodestone_quarantined_messages_total",
        "Messages that were no shipper's and went to the quarantine file.",
    )
    if "kafka_loader" in heard or words[Word.KAFKA_LOADER_QUARANTINED]:
        quarantined.add_metric((), words[Word.KAFKA_LOADER_QUARANTINED])
    yield quarantined
