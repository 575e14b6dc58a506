"""What a worker counts, in its row of a file that all workers map.

The workers share one port, so a scrape reaches any of them: each writes only its own row, and
whoever is asked answers with all rows, labelled ``worker="n"`` (``bidder.metrics_page``). A row
goes on counting when its worker is started again; the supervisor makes the file anew when the
engine starts.

What is counted at every request is a handful of integer words in that row (a word is 60 ns through
a memoryview and 120 ns through numpy). The times of the stages are taken at one request in
``SAMPLE_EVERY``; histograms and the moving p99 are of those.

Labels have fixed sets of values: exchange profiles, no-bid reasons, stages, formats, statuses.
"""

from __future__ import annotations

import enum
import mmap
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt

from bidder.native.wire import Bail
from market.control import Word
from market.decision import NO_BID_REASON_COUNT
from market.errors import Corrupt
from market.opportunity import FORMAT_COUNT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from market.control import ControlBlock
    from market.deployment import Deployment
    from market.exchange import ExchangeProfile


class Stage(enum.IntEnum):
    """The parts of an answer, in order."""

    TRANSPORT = 0
    """From the reading of the last bytes to the handler: HTTP parsing, inflating, earlier requests
    of the same batch. The write is not in it."""
    DECODE = 1
    """From JSON to the request's types."""
    PRIVACY = 2
    """What may be known of the user."""
    READ = 3
    """From the request to opportunities."""
    DECIDE = 4
    """Match, score, price, reserve."""
    EVENT = 5
    """Into the ring to the recorder."""
    RENDER = 6
    """Markup, signatures, JSON."""


STAGE_COUNT: Final = len(Stage)
SAMPLE_EVERY: Final = 16
"""One request in so many has its stages timed."""

BOUNDS_NS: Final = tuple(
    step * 10**power for power in range(3, 8) for step in (1, 2, 5)
)  # 1 us .. 50 ms
BUCKET_COUNT: Final = len(BOUNDS_NS) + 1
_ABOVE_NS: Final = 100_000_000
_DECAY: Final = 0.5
_P99_COUNT_MIN: Final = 50

STATUSES: Final = (200, 204, 400, 413)
STATUS_200, STATUS_204, STATUS_400, STATUS_413 = range(len(STATUSES))


_BEATS: Final[tuple[tuple[Literal["recorder", "controller"], Word], ...]] = (
    ("recorder", Word.RECORDER_BEAT_NS),
    ("controller", Word.CONTROLLER_BEAT_NS),
)


class Gauge(enum.IntEnum):
    """A worker's own gauges and plain counters; index of ``gauges`` in its row."""

    SHED_SHARE_PPM = 0
    LAG_NS = 1
    EVENTS_WAITING = 2
    EVENTS_CAPACITY = 3
    BUDGETS = 4
    BUDGETS_FUNDED = 5
    """Budgets of the snapshot that something can still be reserved from: 0 = the leases ran out."""


def row_dtype(exchange_count: int) -> np.dtype[np.void]:
    """Returns the dtype of a worker's row for so many exchange profiles; all words are int64."""
    word = np.int64
    return np.dtype(
        [
            ("gauges", word, (16,)),
            ("responses", word, (exchange_count, len(STATUSES))),
            # imps that got a bid, by Format bit index
            ("bids", word, (exchange_count, FORMAT_COUNT)),
            # imps (or whole requests) that got none, by NoBidReason
            ("no_bids", word, (exchange_count, NO_BID_REASON_COUNT)),
            # requests that the native path left to the default one, by Bail
            ("left", word, (len(Bail),)),
            # requests given up because too little time was left before this stage
            ("late", word, (STAGE_COUNT,)),
            ("stage_counts", word, (STAGE_COUNT, BUCKET_COUNT)),
            ("stage_ns", word, (STAGE_COUNT,)),
        ]
    )


class Meter:
    """The words of one exchange in a worker's row, and what its requests are worth.

    Attributes:
        responses: [STATUSES].
        bids: [FORMAT_COUNT].
        no_bids: [NO_BID_REASON_COUNT].
        time_ns_max: the worker's own limit for an answer to this exchange.
        value_micros: expected value of the bids of timed requests, USD.
        busy_ns: time that those requests took.
    """

    __slots__ = ("bids", "busy_ns", "no_bids", "responses", "time_ns_max", "value_micros")

    def __init__(self, row: np.void, index: int, profile: ExchangeProfile) -> None:
        """Takes the row and the exchange's place in it."""
        self.responses = memoryview(row["responses"][index])
        self.bids = memoryview(row["bids"][index])
        self.no_bids = memoryview(row["no_bids"][index])
        self.time_ns_max = profile.time_ms_max * 1_000_000
        self.value_micros = 0.0
        self.busy_ns = 0


class StageTimes:
    """Histograms of the stages in a worker's row, and what each took lately.

    Attributes:
        needs_ns: by Stage, the sum of the moving p99 (of few times the median) of this stage and
            all later ones: with less time than that left, the stage is not begun.
    """

    def __init__(self, row: np.void) -> None:
        """Takes the row."""
        self.needs_ns = [0] * STAGE_COUNT
        self._counts: npt.NDArray[np.int64] = row["stage_counts"]
        self._words = [memoryview(counts) for counts in self._counts]
        self._sums = memoryview(row["stage_ns"])
        self._seen = self._counts.copy()
        self._recent = np.zeros((STAGE_COUNT, BUCKET_COUNT))

    def add(self, stage: int, taken_ns: int) -> None:
        """Counts one time."""
        self._words[stage][bisect_left(BOUNDS_NS, taken_ns)] += 1
        self._sums[stage] += taken_ns

    def roll(self) -> None:
        """Forgets half of what was before the last call, and sets ``needs_ns`` anew."""
        now = self._counts.copy()
        self._recent = self._recent * _DECAY + (now - self._seen)
        self._seen = now
        later_ns = 0
        for stage in reversed(range(STAGE_COUNT)):
            recent = self._recent[stage]
            # The p99 of a few is their worst, and one bad moment would give up seconds of requests,
            # which are then not timed and cannot show that it is over.
            is_enough = recent.sum() >= _P99_COUNT_MIN
            later_ns += quantile_ns(recent, 0.99 if is_enough else 0.5)
            self.needs_ns[stage] = later_ns


def quantile_ns(counts: npt.NDArray[np.float64], share: float) -> int:
    """Returns the upper bound of the bucket that this share of the times reaches; 0 of nothing."""
    total = float(counts.sum())
    if total < 1e-3:
        return 0
    bucket = int(np.searchsorted(np.cumsum(counts), share * total))
    return BOUNDS_NS[bucket] if bucket < len(BOUNDS_NS) else _ABOVE_NS


class WorkerMetrics:
    """What one worker counts.

    Attributes:
        row: its record of ``row_dtype``.
        meters: by exchange_id.
        stages: times of the stages.
        late: by Stage, see ``row_dtype``.
        left: by Bail, see ``row_dtype``.
        gauges: by ``Gauge``.
    """

    def __init__(self, row: np.void, profiles: Sequence[ExchangeProfile]) -> None:
        """Takes a writable record; ``profiles`` in the order of its rows."""
        self.row = row
        self.meters: dict[int, Meter] = {
            profile.exchange_id: Meter(row, index, profile)
            for index, profile in enumerate(profiles)
        }
        self.stages = StageTimes(row)
        self.late = memoryview(row["late"])
        self.left = memoryview(row["left"])
        self.gauges = memoryview(row["gauges"])


def memory_metrics(profiles: Sequence[ExchangeProfile]) -> WorkerMetrics:
    """Returns metrics that nobody else sees: of a replay, the twin, a test."""
    return WorkerMetrics(np.zeros(1, row_dtype(len(profiles)))[0], profiles)


def create_metrics_file(path: Path, deployment: Deployment) -> None:
    """Creates the file with a zeroed row per worker, replacing an older one."""
    size = deployment.worker_count * row_dtype(len(deployment.exchanges)).itemsize
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.truncate(size)
    temporary.rename(path)


def map_metrics(path: Path, deployment: Deployment) -> npt.NDArray[np.void]:
    """Returns [worker_count] of ``row_dtype``, shared with the other workers.

    Raises:
        Corrupt: the file is missing or of the wrong size.
    """
    dtype = row_dtype(len(deployment.exchanges))
    size = deployment.worker_count * dtype.itemsize
    try:
        with path.open("r+b") as file:
            view = mmap.mmap(file.fileno(), 0)
    except (OSError, ValueError) as error:
        raise Corrupt(
            f"metrics file {path.name}: {error}; start `lodestone serve` again"
        ) from error
    if len(view) != size:
        raise Corrupt(
            f"metrics file {path.name}: {len(view)} bytes, must be {size} for "
            f"{deployment.worker_count} workers and {len(deployment.exchanges)} exchanges; "
            "start `lodestone serve` again"
        )
    return np.frombuffer(view, dtype)


def silences(
    block: ControlBlock, now_ns: int
) -> Iterator[tuple[Literal["recorder", "controller"], float]]:
    """Yields (process, seconds since its last sign of life) of those that ever gave one."""
    for name, word in _BEATS:
        beat_ns = block.words[word]
        if beat_ns:
            yield name, max(0, now_ns - beat_ns) / 1e9
