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

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from ledger.http import response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import Metric

    from ledger.view import NodeStatus

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


def node_families(status: NodeStatus) -> Iterator[Metric]:
    """Yields how a machine stands with the owner of budgets that it shares; no money in it."""
    for name, text, value in (
        ("lodestone_budget_owner_open", "1: the owner has answered this process.", status.is_open),
        (
            "lodestone_budget_owner_age_seconds",
            "Since the owner of shared budgets answered last; -1 if it never did.",
            status.contact_ms_ago / 1000 if status.contact_ms_ago >= 0 else -1,
        ),
    ):
        yield GaugeMetricFamily(name, text, value)
    turns = CounterMetricFamily(
        "lodestone_budget_turns_total", "Turns with the owner of shared budgets.",
        labels=("result",),
    )  # fmt: skip
    turns.add_metric(("answered",), status.turns)
    turns.add_metric(("failed",), status.failures)
    yield turns
    asked = CounterMetricFamily(
        "lodestone_budget_asks_total", "Times that money of a shared budget was asked for.",
        labels=("result",),
    )  # fmt: skip
    asked.add_metric(("granted",), status.asked - status.refused)
    asked.add_metric(("refused",), status.refused)
    yield asked
