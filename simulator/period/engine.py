"""Runs periods: a world's ticks through the auctions, agents under their control laws.

What it does not do: it draws nothing and knows no user; that is the world's (``seam``).

Dimension names: A = agents, n = opportunities of a tick, K = slots at most, T = ticks.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from market import kernels_control
from market.errors import BadInput
from market.kernels_control import EXTERNAL, LAWS, MEMORY_SIZE
from simulator.period import kernels_auction
from simulator.period.kernels_deals import FIXED_PRICE, DealScratch
from simulator.period.scenario import DEALS_MAX
from simulator.period.seam import (
    F32,
    F64,
    I64,
    STATUS_OUT,
    U8,
    VALUE_MAX,
    WEIGHT_MAX,
    Accounts,
    DealAccounts,
    Deals,
    Exposures,
    Feedback,
    Supply,
    World,
    new_accounts,
    new_deal_accounts,
    new_supply,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from simulator.period.seam import WorldMaker

    Bidders = Callable[["View"], F32]
    """Returns weights [A] of the tick that is about to start; those of EXTERNAL agents are used."""

BLOCK = 512
"""Opportunities that are ranked at a time: 48 agents' rows of them fit the second cache level."""
AGENTS_MAX = kernels_auction.AGENTS_MAX


class Agents(NamedTuple):
    """Who bids in a period, and how.

    Attributes:
        budget_micros: [A] of the period, > 0.
        unit_micros: [A] T, what a unit of value may cost: the target cost per conversion where
            value is a conversion probability; 10^6 / target ROAS where it is a return.
        has_target: [A] 1 if spend / (value * T) must not exceed 1.
        is_return: [A] 1 if value is a return in units of currency, 0 if a conversion probability.
        law: [A] of ``market.kernels_control.LAWS``.
        gain: [A] of the law.
        prior: [A] weight of "the forecast is right" in the laws, in units of value.
        enter_tick: [A] first tick with bids.
        leave_tick: [A] first tick without any more.
    """

    budget_micros: I64
    unit_micros: F64
    has_target: U8
    is_return: U8
    law: U8
    gain: F64
    prior: F64
    enter_tick: I64
    leave_tick: I64


class View(NamedTuple):
    """What whoever sets weights from outside may see before a tick; do not write.

    Attributes:
        tick: about to start.
        accounts: so far.
        weight: [A] of the tick before.
        supply: of the tick before; None before the first.
        feedback: of the tick before; None before the first.
    """

    tick: int
    accounts: Accounts
    weight: F32
    supply: Supply | None
    feedback: Feedback | None


class Trace(NamedTuple):
    """What the accounts said at the end of each tick, all [T, A], and the weights in it."""

    weight: F32
    spend_micros: I64
    wins: I64
    exposures: I64
    value_sum: F64
    expected_conversions: F64
    conversions: I64
    return_micros: I64


class PeriodResult(NamedTuple):
    """What became of a period.

    Attributes:
        accounts: at the end, with what came late.
        revenue_micros: [K] earned by each slot; adds up to what agents spent.
        trace: by tick.
        opportunities: auctioned.
        deal_accounts: what of it was sold on deals.
    """

    accounts: Accounts
    revenue_micros: I64
    trace: Trace
    opportunities: int
    deal_accounts: DealAccounts


class TickRoom:
    """Arrays of one tick, made once for the largest and cut for each: no tick allocates."""

    def __init__(
        self,
        agent_count: int,
        opportunities_max: int,
        slot_count: int,
        deals: Deals | None = None,
    ) -> None:
        """Makes room for ticks of up to ``opportunities_max``, and books for ``deals``."""
        self._agents = agent_count
        self._supply = new_supply(agent_count, opportunities_max, deals)
        self.deal_accounts = new_deal_accounts(self._supply.deals)
        self.deal_scratch = DealScratch(
            np.zeros(1, np.float32),
            np.zeros(slot_count + 1, np.float32),
            np.zeros(slot_count + 1, np.uint8),
            np.zeros(slot_count, np.int64),
        )
        self._values = self._supply.value.reshape(-1)
        self._feedback = Feedback(
            np.zeros(opportunities_max, np.float32), np.zeros(opportunities_max, np.float32)
        )
        room = opportunities_max * slot_count
        self.exposures = Exposures(
            np.zeros(room, np.int32),
            np.zeros(room, np.uint8),
            np.zeros(room, np.int32),
            np.zeros(room, np.int64),
        )

    def supply(self, count: int) -> Supply:
        """Returns the supply of a tick of ``count`` opportunities, to be filled."""
        whole = self._supply
        value = self._values[: self._agents * count].reshape(self._agents, count)
        return Supply(
            value,
            whole.floor_micros[:count],
            whole.soft_floor_micros[:count],
            whole.exposure_draw[:count],
            whole.slot_count[:count],
            whole.rule[:count],
            whole.deal[:count],
            whole.deals,
        )

    def feedback(self, count: int) -> Feedback:
        """Returns the feedback of such a tick."""
        return Feedback(*(array[:count] for array in self._feedback))


def clear_tick(
    accounts: Accounts,
    weight: F32,
    supply: Supply,
    slot_weights_micros: I64,
    revenue_micros: I64,
    room: TickRoom,
    *,
    min_remaining_micros: int = 1,
    block: int = BLOCK,
    is_wide: bool | None = None,
) -> tuple[Exposures, Feedback]:
    """Sells one tick: charges ``accounts``, adds to revenue_micros[K], returns what was shown.

    The returned arrays lie in ``room`` and hold until its next tick. ``block`` and ``is_wide`` (for
    more than 64 agents; default: as needed) change no result.
    """
    count = supply.value.shape[1]
    assert block > 0, "a block holds an opportunity at least"
    assert min_remaining_micros > 0, "whoever has nothing left does not bid"
    assert room.deal_accounts.exposures.shape == supply.deals.may_use.shape, "books of these deals"
    has_many = weight.shape[0] > kernels_auction.NARROW_MAX
    assert is_wide is not False or not has_many, "too many agents to be narrow"
    feedback = room.feedback(count)
    written = kernels_auction.clear_tick(
        weight,
        *supply,
        room.deal_accounts,
        room.deal_scratch,
        slot_weights_micros,
        min_remaining_micros,
        accounts.budget_micros,
        accounts.spend_micros,
        accounts.status,
        accounts.wins,
        accounts.exposures,
        accounts.value_sum,
        revenue_micros,
        block,
        has_many if is_wide is None else is_wide,
        *room.exposures,
        *feedback,
    )
    shown = room.exposures
    exposures = Exposures(
        shown.opportunity[:written],
        shown.slot[:written],
        shown.agent[:written],
        shown.price_micros[:written],
    )
    return exposures, feedback


def run_period(
    world: World,
    agents: Agents,
    *,
    bidders: Bidders | None = None,
    min_remaining_micros: int = 1,
    lag_ticks: int = 0,
    block: int = BLOCK,
    is_wide: bool | None = None,
) -> PeriodResult:
    """Returns what becomes of one period.

    Args:
        world: of this period, new.
        agents: who bids.
        bidders: sets the weights of agents whose law is EXTERNAL.
        min_remaining_micros: an agent with less left is out.
        lag_ticks: after how many ticks laws expect to have observed what an exposure brought.
        block: see ``clear_tick``, as the next.
        is_wide: see ``clear_tick``.

    Raises:
        BadInput: agents do not fit the world, or a number is out of range.
    """
    if bidders is None and (agents.law == EXTERNAL).any():
        raise BadInput("agents.law: some are external; bidders must be given to set their weights")
    period = play(
        world,
        agents,
        min_remaining_micros=min_remaining_micros,
        lag_ticks=lag_ticks,
        block=block,
        is_wide=is_wide,
    )
    weight: F32 | None = None
    while True:
        try:
            view = period.send(weight)
        except StopIteration as ended:
            return cast("PeriodResult", ended.value)
        weight = None if bidders is None else bidders(view)


def play(
    world: World,
    agents: Agents,
    *,
    min_remaining_micros: int = 1,
    lag_ticks: int = 0,
    block: int = BLOCK,
    is_wide: bool | None = None,
) -> Generator[View, F32 | None, PeriodResult]:
    """Plays a period tick by tick; arguments and errors are those of ``run_period``.

    Yields what may be seen before each tick, and is sent the weights [A] of the EXTERNAL agents in
    it (those of others are ignored; None: as in the tick before). Returns what became of it.
    """
    if min_remaining_micros < 1:
        raise BadInput(f"min_remaining_micros: is {min_remaining_micros}; it must be at least 1")
    if lag_ticks < 0:
        raise BadInput(f"lag_ticks: is {lag_ticks}; it must not be negative")
    counts = world.opportunity_counts
    check_agents(agents, world.agent_count, counts.shape[0])
    slot_weights = world.slot_weights_micros
    check_slot_weights(slot_weights)
    deals = world.deals
    check_deals(deals, world.agent_count)
    accounts = new_accounts(agents.budget_micros)
    memory = np.empty((world.agent_count, MEMORY_SIZE))
    kernels_control.start_laws(memory)
    weight = np.zeros(world.agent_count, np.float32)
    revenue = np.zeros(slot_weights.shape[0], np.int64)
    trace = _new_trace(counts.shape[0], world.agent_count)
    room = TickRoom(world.agent_count, int(counts.max(initial=0)), slot_weights.shape[0], deals)
    nothing = np.zeros(world.agent_count)
    supply, feedback = None, None
    first = 0
    for tick, count in enumerate(counts.tolist()):
        come_and_go(tick, agents, accounts)
        sent = yield View(tick, accounts, weight, supply, feedback)
        if sent is not None:
            weight[:] = _checked(sent, tick, world.agent_count)
        lagged = tick - 1 - lag_ticks
        kernels_control.set_weights(
            tick,
            agents.law,
            agents.gain,
            agents.unit_micros,
            agents.has_target,
            agents.is_return,
            agents.prior,
            agents.enter_tick,
            agents.leave_tick,
            accounts.budget_micros,
            accounts.spend_micros,
            accounts.value_sum,
            trace.value_sum[lagged] if lagged >= 0 else nothing,
            accounts.conversions,
            accounts.return_micros,
            memory,
            weight,
        )
        supply = room.supply(count)
        world.fill(tick, first, supply)
        exposures, feedback = clear_tick(
            accounts,
            weight,
            supply,
            slot_weights,
            revenue,
            room,
            min_remaining_micros=min_remaining_micros,
            block=block,
            is_wide=is_wide,
        )
        world.settle(tick, first, supply, exposures, accounts)
        _record(trace, tick, weight, accounts)
        first += count
    world.finish(accounts)
    return PeriodResult(accounts, revenue, trace, first, room.deal_accounts)


def run_periods(
    maker: WorldMaker,
    agents: Callable[[int], Agents],
    periods: Sequence[int],
    *,
    threads: int = 1,
    min_remaining_micros: int = 1,
    lag_ticks: int = 0,
) -> list[PeriodResult]:
    """Returns the results of independent periods, in order; the same for any number of threads.

    Budgets are sequential, so a period is never split; ``agents`` says who bids in a period.
    """

    def run(period: int) -> PeriodResult:
        return run_period(
            maker(period),
            agents(period),
            min_remaining_micros=min_remaining_micros,
            lag_ticks=lag_ticks,
        )

    if threads == 1:
        return [run(period) for period in periods]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, periods))


def come_and_go(tick: int, agents: Agents, accounts: Accounts) -> None:
    """Sets the status of agents that enter or leave at ``tick``."""
    status = accounts.status
    kernels_auction.come_and_go(tick, agents.enter_tick, agents.leave_tick, status)
    assert status.max(initial=0) <= STATUS_OUT


def check_agents(agents: Agents, agent_count: int, tick_count: int) -> None:
    """Checks agents against a world of ``agent_count`` agents and ``tick_count`` ticks.

    Raises:
        BadInput: a number breaks a rule; the message names the field and the agent.
    """
    if not 1 <= agent_count <= AGENTS_MAX:
        raise BadInput(f"agents: {agent_count}; there must be 1 to {AGENTS_MAX}")
    for name, array in agents._asdict().items():
        if array.shape != (agent_count,):
            raise BadInput(f"agents.{name}: shape {array.shape}; it must be ({agent_count},)")
    _each(agents.budget_micros > 0, "budget_micros", agents.budget_micros, "must be > 0")
    _each(
        (agents.unit_micros >= 0) & (agents.unit_micros * np.e <= WEIGHT_MAX),
        "unit_micros",
        agents.unit_micros,
        f"must be 0 to {WEIGHT_MAX / np.e:.3g}",
    )
    _each(np.isin(agents.law, LAWS), "law", agents.law, f"must be one of {LAWS}")
    _each(agents.prior > 0, "prior", agents.prior, "must be > 0")
    alpha_max = WEIGHT_MAX / np.maximum(agents.unit_micros, 1.0)
    _each(
        (agents.gain >= 0) & (agents.gain <= alpha_max),
        "gain",
        agents.gain,
        f"must be >= 0, and no weight above {WEIGHT_MAX:.0e}",
    )
    spans = (agents.enter_tick >= 0) & (agents.enter_tick < agents.leave_tick)
    _each(spans, "leave_tick", agents.leave_tick, "must be after enter_tick, which is >= 0")
    _each(
        agents.enter_tick < tick_count,
        "enter_tick",
        agents.enter_tick,
        f"must be one of {tick_count} ticks",
    )


def check_slot_weights(slot_weights_micros: I64) -> None:
    """Checks the exposure probabilities of slots.

    Raises:
        BadInput: they are none.
    """
    weights = slot_weights_micros
    is_good = weights.shape[0] > 0 and weights[0] <= 1_000_000 and weights[-1] > 0
    if not is_good or (weights[1:] > weights[:-1]).any():
        raise BadInput(
            f"slot_weights_micros: is {weights.tolist()}; it must hold at least one probability "
            "times 10^6, above 0 and never increasing"
        )


def check_deals(deals: Deals, agent_count: int) -> None:
    """Checks the terms of deals.

    Raises:
        BadInput: a number breaks a rule; the message names the field and the deal.
    """
    count = deals.floor_micros.shape[0]
    if count > DEALS_MAX:
        raise BadInput(f"deals: {count}; there must be at most {DEALS_MAX}")
    shapes = {"auction_type": (count,), "is_private": (count,), "may_use": (count, agent_count)}
    for name, shape in shapes.items():
        found = getattr(deals, name).shape
        if found != shape:
            raise BadInput(f"deals.{name}: shape {found}; it must be {shape}")
    floor, kind = deals.floor_micros, deals.auction_type
    is_good = (floor >= 1) & (floor <= kernels_auction.BID_MICROS_MAX)
    rule = f"must be 1 to {kernels_auction.BID_MICROS_MAX}"
    _each(is_good, "floor_micros", floor, rule, "deals")
    _each(kind <= FIXED_PRICE, "auction_type", kind, "must be 0, 1, 2 or 3", "deals")


def check_supply(supply: Supply, slot_count: int) -> None:
    """Asserts that a world keeps the rules of ``seam.Supply``: for the tests of worlds.

    The engine trusts a world: to look at every value would cost as much as an auction.
    """
    value = supply.value
    assert value.flags.c_contiguous, "values are agent-major and contiguous"
    assert np.isfinite(value).all(), "values are finite"
    assert value.min(initial=0.0) >= 0.0, "no value is negative"
    assert value.max(initial=0.0) <= VALUE_MAX, f"no value is above {VALUE_MAX}"
    for prices in (supply.floor_micros, supply.soft_floor_micros):
        assert (prices == np.floor(prices)).all(), "floors are whole micros"
        assert prices.max(initial=0.0) <= kernels_auction.BID_MICROS_MAX
    assert supply.floor_micros.min(initial=1.0) >= 1.0, "a floor is at least a micro"
    assert supply.soft_floor_micros.min(initial=0.0) >= 0.0
    assert supply.exposure_draw.min(initial=0.0) >= 0.0
    assert supply.exposure_draw.max(initial=0.0) < 1.0
    assert supply.slot_count.max(initial=0) <= slot_count
    assert np.isin(supply.rule, (1, 2, 3, 4)).all(), "rules are those of market.auction.Rule"
    assert supply.deal.max(initial=0) <= supply.deals.floor_micros.shape[0], "deals exist"


def _each(
    is_good: object, name: str, values: I64 | F64 | U8, rule: str, whole: str = "agents"
) -> None:
    wrong = np.flatnonzero(~np.asarray(is_good))
    if wrong.size:
        raise BadInput(f"{whole}.{name}[{wrong[0]}]: is {values[wrong[0]]}; it {rule}")


def _checked(weight: F32, tick: int, count: int) -> F32:
    # The comparison is false for NaN.
    if weight.shape != (count,) or not ((weight >= 0) & (weight <= WEIGHT_MAX)).all():
        raise BadInput(f"weights of tick {tick}: must be {count}, each 0 to {WEIGHT_MAX:.0e}")
    return weight


def _new_trace(ticks: int, agents: int) -> Trace:
    shape = (ticks, agents)
    return Trace(
        weight=np.zeros(shape, np.float32),
        spend_micros=np.zeros(shape, np.int64),
        wins=np.zeros(shape, np.int64),
        exposures=np.zeros(shape, np.int64),
        value_sum=np.zeros(shape),
        expected_conversions=np.zeros(shape),
        conversions=np.zeros(shape, np.int64),
        return_micros=np.zeros(shape, np.int64),
    )


def _record(trace: Trace, tick: int, weight: F32, accounts: Accounts) -> None:
    trace.weight[tick] = weight
    for name in Trace._fields[1:]:
        getattr(trace, name)[tick] = getattr(accounts, name)
