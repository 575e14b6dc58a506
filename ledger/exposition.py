"""The Prometheus text format, version 0.0.4: what ``GET /metrics`` of a process answers.

A family is named once, with its help and kind, and then its samples follow. Label values come from
fixed sets (an exchange's name, a reason, a stage), never from a request: a label that takes its
value from outside would let a sender fill the memory of whoever scrapes.

Source: Prometheus documentation, "Exposition formats", text-based format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ledger.http import response

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Labels: TypeAlias = tuple[tuple[str, str], ...]

_TYPE: Final = ("content-type", "text/plain; version=0.0.4; charset=utf-8")
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Exposition:
    """Collects families and their samples; ``answer`` is the HTTP answer."""

    def __init__(self) -> None:
        """Starts empty."""
        self._lines: list[str] = []

    def family(
        self, name: str, kind: Kind, text: str, samples: Iterable[tuple[Labels, float]]
    ) -> None:
        """Adds a family of counters or gauges; one without samples is left out."""
        written = [f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
        if written:
            self._lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *written]

    def histograms(
        self,
        name: str,
        text: str,
        bounds: Sequence[float],
        samples: Iterable[tuple[Labels, Sequence[int], float]],
    ) -> None:
        """Adds a family of histograms.

        Args:
            name: of the family, unit last (``_seconds``).
            text: what it says.
            bounds: upper bounds of the buckets; one more bucket holds what is above the last.
            samples: labels, counts per bucket (not yet summed up), sum of all values.
        """
        self._lines += [f"# HELP {name} {text}", f"# TYPE {name} histogram"]
        for labels, counts, total in samples:
            below = 0
            for bound, count in zip((*map(_number, bounds), "+Inf"), counts, strict=True):
                below += count
                self._lines.append(f"{name}_bucket{_labels((*labels, ('le', bound)))} {below}")
            self._lines.append(f"{name}_sum{_labels(labels)} {_number(total)}")
            self._lines.append(f"{name}_count{_labels(labels)} {below}")

    def text(self) -> str:
        """Returns everything in the text format."""
        return "\n".join((*self._lines, ""))

    def answer(self) -> bytes:
        """Returns the whole HTTP answer."""
        return response(200, self.text().encode(), _TYPE)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels) + "}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.10g}"
