"""What ``GET /metrics`` of a process answers: the Prometheus text format, by prometheus_client.

The families are made from what is counted anyway (mapped rows, the ledger's totals) at the moment
they are asked for; nothing is counted in a registry of the library, and its default collectors are
not part of a page. Label values come from fixed sets (an exchange's name, a reason, a stage), never
from a request: a label that takes its value from outside would let a sender fill the memory of
whoever scrapes.

Source: Prometheus documentation, "Exposition formats", text-based format 0.0.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from ledger.http import response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Metric

PAGE_S: Final = 1.0
"""A page is answered again for so long: who asks in a loop must not keep the process busy."""

_TYPE: Final = ("content-type", CONTENT_TYPE_PLAIN_0_0_4)


class MetricsPage:
    """The answer to ``GET /metrics``; a ``prometheus_client.registry.Collector``."""

    def __init__(
        self, families: Callable[[], Iterable[Metric]], clock_ns: Callable[[], int]
    ) -> None:
        """Takes what makes the families, and a monotonic clock."""
        self._families = families
        self._clock_ns = clock_ns
        self._answer = b""
        self._until_ns = 0

    def collect(self) -> Iterable[Metric]:
        """Returns the families as they are now."""
        return self._families()

    def answer(self) -> bytes:
        """Returns the whole HTTP answer, at most ``PAGE_S`` old."""
        now_ns = self._clock_ns()
        if not self._answer or now_ns >= self._until_ns:
            self._answer = response(200, generate_latest(self), _TYPE)
            self._until_ns = now_ns + int(PAGE_S * 1e9)
        return self._answer
