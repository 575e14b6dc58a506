"""One period of a world, as the period engine runs it (``simulator.period.seam.World``).

Users start a period with needs and without memory of exposures, or as the period before left them
(``Carried``): then a run of two periods is two runs of one, with the first's ``carried`` handed
to the second. What accounts say is what reports say (``attribution``, delays, returns); the truth
is in ``orders`` and ``incrementality``.

Dimension names: as in ``simulator.world.tables``; n = opportunities of a tick, E = exposures.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from market.errors import BadInput
from market.money import MICROS
from simulator.period.engine import run_period, run_periods
from simulator.world import kernels_outcome, kernels_values
from simulator.world.building import agents_of, lag_ticks_of
from simulator.world.carrying import (
    DUE_DTYPE,
    Carried,
    check_carried,
    copied,
    new_state,
    people_of,
    turned,
)
from simulator.world.kernels_outcome import (
    CARTED,
    CLICKED,
    ORDERED,
    ORGANIC_COLUMN,
    VIEWED,
    OrderColumns,
)
from simulator.world.kernels_values import Crowd, UserState, new_scratch
from simulator.world.orders import ORDER_DTYPE, incrementality

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.period.engine import PeriodResult
    from simulator.period.seam import I64, Accounts, Deals, Exposures, Supply
    from simulator.world.orders import Incrementality
    from simulator.world.tables import Tables

    _Due = tuple[npt.NDArray[np.int32], I64, I64]

_STEP_ZERO = 1 << 24
"""Number of the first tick among those in which needs arise: some lie before the period."""
_DAYS_OF_LOSS = 31
"""Orders that fall due later than so many periods meet no tracking loss."""
_HALF_LIVES_BEFORE = 6
"""Needs that arose longer ago than so many half-lives are left out: 1.6 % of what is felt."""


class Funnel(NamedTuple):
    """How far exposures came, all [A] int64."""

    views: I64
    clicks: I64
    carts: I64
    orders: I64


class PeriodWorld:
    """One period of a world. Serves once; periods share tables, and what is carried."""

    def __init__(
        self, tables: Tables, seed: int, period: int, carried: Carried | None = None
    ) -> None:
        """Starts the period with this number.

        Args:
            tables: of the scenario.
            seed: of what happens.
            period: its number.
            carried: what the period before left; None = users come with needs drawn for this
                period, and remember nothing.

        Raises:
            BadInput: ``carried`` is not of the period before, or of another world.
        """
        self._tables, self._seed, self._period = tables, seed, period
        agents, categories = self.agent_count, tables.traffic.need_cdf.shape[0]
        ticks = tables.scenario.tick_count
        self._is_handed_on = tables.scenario.is_carried
        self._age = 0
        # What accounts are told at the end of each tick, and last of all after the period.
        self._told: list[list[_Due]] = [[] for _ in range(ticks + 1)]
        self._later: list[npt.NDArray[np.void]] = []
        if carried is None:
            self._state = new_state(tables)
            decay = tables.effects.need_decay
            oldest = math.ceil(_HALF_LIVES_BEFORE * math.log(0.5) / math.log(decay))
            for age in range(oldest, -1, -1):
                self._raise_needs(-age, decay**age)
        else:
            check_carried(carried, tables, period)
            self._age = carried.age
            self._state = copied(carried.state)
            self._tables = tables._replace(users=turned(tables.users, ticks * carried.age))
            due = carried.due
            self._tell_at(due["tick"], due["agent"], due["conversions"], due["micros"])
        self._tracking_loss = _tracking_loss(tables)
        largest = int(tables.traffic.counts.max(initial=0))
        self._room = Crowd(
            np.zeros(largest, np.int32), np.zeros(largest, np.int32), np.zeros(largest, np.float32)
        )
        self._crowd = self._room
        self._odds = np.empty(agents * largest, np.float32)
        self._scratch = new_scratch(
            tables.users.taste.shape[1], tables.users.style.shape[1], categories, agents
        )
        self._orders: list[npt.NDArray[np.void]] = []
        self._funnel = Funnel(*(np.zeros(agents, np.int64) for _ in Funnel._fields))

    @property
    def opportunity_counts(self) -> I64:
        """[T] opportunities of each tick."""
        return self._tables.traffic.counts

    @property
    def agent_count(self) -> int:
        """A."""
        return self._tables.agents.category.shape[0]

    @property
    def slot_weights_micros(self) -> I64:
        """[K] probability that a sold slot is exposed, times 10^6."""
        weights = np.array(self._tables.scenario.slot_weights)
        return np.round(weights * MICROS).astype(np.int64)

    @property
    def deals(self) -> Deals:
        """The scenario's deals, in the order of the file."""
        return self._tables.deals

    @property
    def funnel(self) -> Funnel:
        """How far the exposures came so far, by agent."""
        return self._funnel

    @property
    def crowd(self) -> Crowd:
        """Who was where in the tick that was filled last."""
        return self._crowd

    @property
    def state(self) -> UserState:
        """The users as of the end of the last tick that was settled; do not write."""
        return self._state

    @property
    def carried(self) -> Carried:
        """What this period leaves to the next; whole once its last tick is settled."""
        state = copied(self._state)
        kernels_outcome.end_period(self._tables.scenario.tick_count, self._tables.effects, state)
        due = np.concatenate([np.zeros(0, DUE_DTYPE), *self._later])
        people = people_of(self._tables.scenario)
        return Carried(self._period, self._age + 1, people, state, due)

    @property
    def orders(self) -> npt.NDArray[np.void]:
        """[O] ORDER_DTYPE, so far, in order of tick."""
        return np.concatenate([np.zeros(0, ORDER_DTYPE), *self._orders])

    @property
    def incrementality(self) -> Incrementality:
        """What advertising has added so far."""
        return incrementality(self.orders, self._tables.agents.margin)

    def fill(self, tick: int, first: int, supply: Supply) -> None:
        """Draws who is where, the terms of sale, and what agents believe."""
        # Draws are named by tick and column: a shock in one tick moves no draw of the next.
        del first
        tables, count = self._tables, supply.value.shape[1]
        room = self._room
        self._crowd = Crowd(
            room.user[:count],
            room.scene[:count],
            room.turn[:count],
        )
        kernels_values.draw_crowd(
            self._seed,
            self._period,
            tick,
            tables.users,
            tables.scenes,
            tables.traffic,
            self._crowd,
        )
        kernels_values.draw_terms(
            self._seed,
            self._period,
            tick,
            self._crowd.scene,
            tables.scenes,
            supply.floor_micros,
            supply.soft_floor_micros,
            supply.exposure_draw,
            supply.slot_count,
            supply.rule,
            supply.deal,
        )
        kernels_values.fill_values(
            tick,
            self._crowd,
            tables.users,
            tables.agents,
            tables.scenes,
            tables.effects,
            self._state,
            float(tables.traffic.holiday_cart[tick]),
            tables.traffic.surge[tick],
            self._scratch,
            supply.value,
            self._against(count),
        )

    def settle(
        self, tick: int, first: int, supply: Supply, exposures: Exposures, accounts: Accounts
    ) -> None:
        """Draws what people did and bought anyway, books what is reported, and lets time pass."""
        del first
        tables = self._tables
        outcome = self._exposed(tick, supply, exposures, accounts)
        user, agent, has_ordered, had_ordered, memory = self._visited(tick)
        by_ad = np.flatnonzero(outcome == ORDERED)
        by_visit = np.flatnonzero(has_ordered | had_ordered)
        rows = np.zeros(by_ad.size + by_visit.size, ORDER_DTYPE)
        rows["tick"] = tick
        ads, visits = rows[: by_ad.size], rows[by_ad.size :]
        column = exposures.opportunity[by_ad]
        ads["column"], ads["agent"] = column, exposures.agent[by_ad]
        ads["user"], ads["scene"] = self._crowd.user[column], self._crowd.scene[column]
        ads["is_ad"] = ads["is_real"] = 1
        visits["column"], visits["agent"] = ORGANIC_COLUMN + by_visit, agent[by_visit]
        visits["user"], visits["scene"] = user[by_visit], -1
        visits["is_real"], visits["is_alone"] = has_ordered[by_visit], had_ordered[by_visit]
        self._priced(tick, rows, memory[by_visit])
        self._orders.append(rows)
        self._tell(tick, rows)
        self._book(tick, accounts)
        kernels_outcome.remember_exposures(
            tick,
            exposures.opportunity,
            exposures.agent,
            outcome,
            self._crowd,
            tables.agents,
            tables.effects,
            self._state,
        )
        kernels_outcome.remember_visits(
            user, agent, has_ordered, had_ordered, tables.agents, tables.effects, self._state
        )
        kernels_outcome.pass_time(tables.effects, self._state)
        self._raise_needs(tick + 1, 1.0)

    def finish(self, accounts: Accounts) -> None:
        """Books what falls due after the last tick, unless it is handed on."""
        self._book(self._tables.scenario.tick_count, accounts)

    def _raise_needs(self, tick: int, factor: float) -> None:
        effects, step = self._tables.effects, _STEP_ZERO + tick
        # Whole needs, as many in all as the rate says: a rate below 1 is one every few ticks.
        count = math.floor((step + 1) * effects.need_count) - math.floor(step * effects.need_count)
        kernels_outcome.raise_needs(
            self._seed,
            self._period,
            step,
            effects.need_size * factor,
            count,
            self._tables.traffic.need_cdf,
            self._state.need,
        )

    def _against(self, count: int) -> npt.NDArray[np.float32]:
        """Returns [A, count] room for the odds against clicks of the tick that was filled last."""
        return self._odds[: self.agent_count * count].reshape(self.agent_count, count)

    def _exposed(
        self, tick: int, supply: Supply, exposures: Exposures, accounts: Accounts
    ) -> npt.NDArray[np.uint8]:
        """Returns [E] how far each exposure came."""
        tables = self._tables
        outcome = np.empty(exposures.agent.shape[0], np.uint8)
        kernels_outcome.draw_outcomes(
            self._seed,
            self._period,
            tick,
            exposures.opportunity,
            exposures.agent,
            self._crowd,
            tables.users,
            tables.agents,
            tables.scenes,
            tables.traffic.surge[tick],
            tables.effects.order_rate,
            supply.value,
            self._against(supply.value.shape[1]),
            outcome,
            accounts.expected_conversions,
        )
        for total, stage in zip(self._funnel, (VIEWED, CLICKED, CARTED, ORDERED), strict=True):
            total[:] += np.bincount(exposures.agent[outcome >= stage], minlength=self.agent_count)
        return outcome

    def _visited(
        self, tick: int
    ) -> tuple[
        npt.NDArray[np.int32],
        npt.NDArray[np.int32],
        npt.NDArray[np.uint8],
        npt.NDArray[np.uint8],
        npt.NDArray[np.float32],
    ]:
        """Returns user, agent, has_ordered, had_ordered and memory [V] of the tick's visits."""
        tables = self._tables
        count = int(tables.traffic.visits[tick])
        visits = (
            np.empty(count, np.int32),
            np.empty(count, np.int32),
            np.empty(count, np.uint8),
            np.empty(count, np.uint8),
            np.empty(count, np.float32),
        )
        kernels_outcome.draw_visits(
            self._seed,
            self._period,
            tick,
            tables.users,
            tables.agents,
            tables.scenes,
            tables.traffic,
            tables.effects,
            self._state,
            float(tables.traffic.holiday_cart[tick]),
            *visits,
        )
        return visits

    def _priced(
        self, tick: int, rows: npt.NDArray[np.void], memory: npt.NDArray[np.float32]
    ) -> None:
        """Fills what the orders bring and when; ``memory`` is of those without an ad."""
        tables, count = self._tables, rows.shape[0]
        found = OrderColumns(
            *(np.empty(count, np.int64) for _ in OrderColumns._fields[:-1]),
            is_reported=np.empty(count, np.uint8),
        )
        remembered = np.zeros(count, np.float32)
        remembered[count - memory.shape[0] :] = memory
        kernels_outcome.draw_orders(
            self._seed,
            self._period,
            tick,
            np.ascontiguousarray(rows["column"]),
            np.ascontiguousarray(rows["agent"]),
            np.ascontiguousarray(rows["is_ad"]),
            np.ascontiguousarray(rows["is_real"]),
            remembered,
            tables.agents,
            tables.orders,
            self._tracking_loss,
            found,
        )
        for name, column in found._asdict().items():
            rows[name] = column

    def _tell(self, tick: int, rows: npt.NDArray[np.void]) -> None:
        """Keeps what accounts will be told of the reported orders, by when."""
        known = rows[rows["is_reported"] == 1]
        brought = known["first_micros"] + known["repeat_micros"] + known["in_app_micros"]
        ones, zeros = np.ones(known.shape[0], np.int64), np.zeros(known.shape[0], np.int64)
        events = [("due_tick", ones, brought), ("refund_tick", zeros, -known["refund_micros"])]
        for name, count, micros in events:
            assert (known[name] >= tick).all()
            self._tell_at(known[name], known["agent"], count, micros)

    def _tell_at(self, when: I64, agent: npt.NDArray[np.int32], count: I64, micros: I64) -> None:
        """Keeps what accounts will be told at these ticks.

        What lies beyond the period is handed on, or told at its end where no period follows.
        """
        last = self._tables.scenario.tick_count
        is_later = when >= last
        if self._is_handed_on and is_later.any():
            rows = np.zeros(int(is_later.sum()), DUE_DTYPE)
            rows["tick"], rows["agent"] = when[is_later] - last, agent[is_later]
            rows["conversions"], rows["micros"] = count[is_later], micros[is_later]
            self._later.append(rows)
            when, agent = when[~is_later], agent[~is_later]
            count, micros = count[~is_later], micros[~is_later]
        when = np.minimum(when, last)
        for at in np.unique(when).tolist():
            here = when == at
            self._told[at].append((agent[here], count[here], micros[here]))

    def _book(self, tick: int, accounts: Accounts) -> None:
        for agent, count, micros in self._told[tick]:
            np.add.at(accounts.conversions, agent, count)
            np.add.at(accounts.return_micros, agent, micros)
        self._told[tick] = []


def _tracking_loss(tables: Tables) -> npt.NDArray[np.float64]:
    """Returns the share of orders that are not reported by tick; the last holds ever after."""
    loss = tables.traffic.tracking_loss
    if not tables.scenario.is_carried:
        return loss
    # Days are alike: what falls due on a later one meets that day's hours.
    return np.concatenate([np.tile(loss[:-1], _DAYS_OF_LOSS), loss[-1:]])


def run(
    tables: Tables,
    seed: int,
    periods: Sequence[int],
    *,
    threads: int = 1,
    carried: Carried | None = None,
) -> list[tuple[PeriodResult, PeriodWorld]]:
    """Returns results and worlds of the periods of these numbers.

    Periods are independent, and the same for any ``threads``, unless the scenario ``is_carried``:
    then each starts from what the one before left, the first from ``carried`` (None: from users
    without memory), and the last world's ``carried`` is where to go on.

    Raises:
        BadInput: periods that are carried are not consecutive, or more than one thread is asked
            for; or ``carried`` is given where periods are independent, or does not fit.
    """
    agents = agents_of(tables)
    lag_ticks = lag_ticks_of(tables)
    if tables.scenario.is_carried:
        if threads != 1:
            raise BadInput(f"threads: is {threads}; it must be 1 where /is_carried is true")
        found: list[tuple[PeriodResult, PeriodWorld]] = []
        for period in periods:
            world = PeriodWorld(tables, seed, period, carried)
            found.append((run_period(world, agents, lag_ticks=lag_ticks), world))
            carried = world.carried
        return found
    if carried is not None:
        raise BadInput("carried: is given; it must be None where /is_carried is false")
    worlds = {period: PeriodWorld(tables, seed, period) for period in periods}
    results = run_periods(
        worlds.__getitem__,
        lambda _: agents,
        periods,
        threads=threads,
        lag_ticks=lag_ticks,
    )
    return [(result, worlds[period]) for result, period in zip(results, periods, strict=True)]
