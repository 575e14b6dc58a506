"""Which bid requests a worker refuses so that it answers the others in time: rules, no clock.

Three rules refuse a request before its body is looked at, with the same 204 that says "no bid":

* too late: its turn came after more than half of the exchange's own time limit (requests that were
  pipelined, or that arrived while the loop was busy), or more requests than ``QUEUE_MAX`` came
  between two turns of the loop's timer;
* overload: the loop lags. The smallest lag of the last 100 ms is above 5 ms, so it is no single
  stall but a queue that does not empty: a share of the traffic is refused, which grows until the
  lag falls. The exchanges that bring the least value for a unit of time are refused first;
  An exchange that leaves a second or more for an answer (the twin, whose day must not depend on how
  fast this machine is) is not late for a lag, and not refused for one;
* throttled: the exchange sends more than the rate its profile allows (``qps_max``, divided evenly
  over the workers).

Why the smallest lag and not the mean: a burst that is worked off within 100 ms is what a queue is
for. Source: K. Nichols and V. Jacobson, "Controlling queue delay", ACM Queue 10(5), 2012 (the
minimum over an interval tells a standing queue from a good one).

Which of an exchange's requests are refused is decided by adding up its share: of every hundred at a
share of 0.3 exactly thirty, spread evenly, and no random number is needed.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Final

from market.decision import NoBidReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from market.exchange import ExchangeProfile

TICK_MS: Final = 10
"""The loop's timer calls ``Shedder.tick`` so often; how late it is called is the loop's lag."""

LAG_NS_MAX: Final = 5_000_000
"""A lag that is never below this for WINDOW_NS is a standing queue."""

WINDOW_NS: Final = 100_000_000

QUEUE_MAX: Final = 1_000
"""Requests that are answered between two ticks; further ones are refused until the next."""

SHARE_MAX: Final = 0.95
"""Something is always answered, so that it is noticed when the load has gone."""

HASTY_MS_MAX: Final = 1_000
"""An exchange with a shorter time limit than this is hurt by a queue."""

_LAGS_MIN: Final = 3
_SHARE_UP: Final = 0.05
_SHARE_UP_MAX: Final = 0.2
_SHARE_DOWN: Final = 0.02
_WAIT_SHARE: Final = 0.5
_BURST_S: Final = 0.1
_OVERLOADED: Final = int(NoBidReason.OVERLOADED)
_THROTTLED: Final = int(NoBidReason.THROTTLED)


class Gate:
    """What the rules know of one exchange.

    Attributes:
        is_open: neither throttled nor shed from: the usual case, told by one look.
        is_hasty: a queue makes its answers late.
        queue_max: its requests are refused when so many came since the loop's last turn.
        wait_ns_max: a request that waited longer is refused.
        share: of this exchange's requests that is refused now, 0-1.
        taken: requests since the last window's end.
    """

    __slots__ = ("_debt", "_per_ns", "_tokens", "_tokens_max", "is_hasty", "is_open", "queue_max",
                 "share", "taken", "wait_ns_max")  # fmt: skip

    def __init__(self, time_ms_max: int, qps_max: float) -> None:
        """Takes the limits of an exchange at this worker; ``qps_max`` 0 = as much as it likes."""
        self.is_hasty = time_ms_max < HASTY_MS_MAX
        self.queue_max = QUEUE_MAX if self.is_hasty else sys.maxsize
        self.wait_ns_max = int(time_ms_max * _WAIT_SHARE * 1e6)
        self.share = 0.0
        self.taken = 0
        self.is_open = qps_max == 0
        self._debt = 0.0
        self._per_ns = qps_max / 1e9
        self._tokens_max = max(1.0, qps_max * _BURST_S)
        self._tokens = self._tokens_max

    def refusal(self) -> int:
        """Returns why the next request is refused (a NoBidReason), 0 if it is not."""
        if self._per_ns:
            if self._tokens < 1.0:
                return _THROTTLED
            self._tokens -= 1.0
        self._debt += self.share
        if self._debt >= 1.0:
            self._debt -= 1.0
            return _OVERLOADED
        return 0

    def refill(self, elapsed_ns: int) -> None:
        """Lets ``elapsed_ns`` pass: the exchange may send that much more."""
        if self._per_ns:
            self._tokens = min(self._tokens_max, self._tokens + self._per_ns * elapsed_ns)

    def refuse(self, share: float) -> None:
        """Refuses this share of the requests from now on."""
        self.share = share
        self.is_open = share == 0.0 and self._per_ns == 0.0
        if share == 0.0:
            self._debt = 0.0


class Shedder:
    """The rules of one worker.

    Attributes:
        gates: by exchange name.
        share: of the hasty exchanges' requests that is refused for overload now.
        lag_ns: the smallest lag of the last 100 ms.
    """

    def __init__(
        self, profiles: Iterable[ExchangeProfile], worker_count: int = 1, *, is_on: bool = True
    ) -> None:
        """Starts with nothing refused.

        Args:
            profiles: of all exchanges.
            worker_count: workers that share an exchange's rate.
            is_on: False refuses nothing: in an episode the exchange waits for its answers, and
                what it is told must not depend on how busy the machine was.
        """
        self._is_on = is_on
        self.gates: dict[str, Gate] = {
            profile.name: Gate(profile.time_ms_max, profile.qps_max / worker_count)
            for profile in profiles
        }
        self.share = 0.0
        self.lag_ns = 0
        self._worth: dict[str, float] = dict.fromkeys(self.gates, 0.0)
        self._taken = 0
        self._lags: deque[tuple[int, int]] = deque()
        self._ticked_ns = 0
        self._window_end_ns = 0

    def refusal(self, gate: Gate, waited_ns: int) -> int:
        """Returns why a request of ``gate`` is refused (a NoBidReason), 0 if it is to be answered.

        Args:
            gate: of its exchange.
            waited_ns: since its last bytes were read.
        """
        if not self._is_on:
            return 0
        self._taken += 1
        gate.taken += 1
        if waited_ns > gate.wait_ns_max or self._taken > gate.queue_max:
            return _OVERLOADED
        if gate.is_open:
            return 0
        return gate.refusal()

    def learn(self, worth: Mapping[str, float]) -> None:
        """Takes what a unit of time spent on each exchange brings, in any unit, by name."""
        self._worth.update(worth)

    def tick(self, now_ns: int, due_ns: int) -> None:
        """Lets time pass.

        Args:
            now_ns: monotonic.
            due_ns: when this call should have come.
        """
        self._taken = 0
        elapsed_ns = now_ns - self._ticked_ns if self._ticked_ns else 0
        self._ticked_ns = now_ns
        for gate in self.gates.values():
            gate.refill(elapsed_ns)
        lags = self._lags
        lags.append((now_ns, max(0, now_ns - due_ns)))
        while lags[0][0] <= now_ns - WINDOW_NS:
            lags.popleft()
        if now_ns < self._window_end_ns:
            return
        self._window_end_ns = now_ns + WINDOW_NS
        self.lag_ns = min(lag for _, lag in lags) if len(lags) >= _LAGS_MIN else 0
        self._set_share()

    def _set_share(self) -> None:
        before = self.share
        if self.lag_ns > LAG_NS_MAX:
            step = min(_SHARE_UP * self.lag_ns / LAG_NS_MAX, _SHARE_UP_MAX)
            self.share = min(SHARE_MAX, before + step)
        else:
            self.share = max(0.0, before - _SHARE_DOWN)
        if before or self.share:
            self._spread()
        for gate in self.gates.values():
            gate.taken = 0

    def _spread(self) -> None:
        """Gives the share to the exchanges whose requests are worth least, all of one first."""
        hasty = {name: gate for name, gate in self.gates.items() if gate.is_hasty}
        total = sum(gate.taken for gate in hasty.values())
        left = self.share * total
        for name in sorted(hasty, key=lambda name: (self._worth[name], name)):
            gate = hasty[name]
            if total == 0:
                gate.refuse(self.share)
                continue
            refused = min(left, float(gate.taken))
            left -= refused
            # One that sends nothing now is as good as the next: it gets the last one's share.
            gate.refuse(refused / gate.taken if gate.taken else float(left > 0))


def worth_of(value_micros: float, busy_ns: int) -> float:
    """Returns value per unit of time; an exchange that was not asked yet is worth the most."""
    return value_micros / busy_ns if busy_ns else float("inf")
