"""What a period's auctions take from a world and give back to it: arrays of one tick.

A period (a day, say) is cut into ticks; a tick is a run of opportunities with consecutive numbers.
For every tick, in order::

    world.fill(tick, first, supply)      what is on offer, and what each agent's bidder thinks of it
    weights[A]                           set by control laws, or from outside
    clear_tick(...)                      auctions: charges accounts, writes exposures and feedback
    world.settle(tick, first, supply, exposures, accounts)     what people did

and at the end ``world.finish(accounts)``. No more than one tick is ever held in memory. The engine
bids ``weights[a] * value[a, j]``: a bid is linear in what the bidder believes, and the same number
for all slots of an opportunity.

Dimension names: A = agents, n = opportunities of the tick, K = slots at most, T = ticks,
E = exposures of the tick, D = deals.

Rules for a world:

* Draws are keyed: ``market.kernels.uniform(at_opportunity(stream(seed, purpose), period, number),
  actor)``, where ``number`` names the opportunity within the period: ``first + j``, which counts
  them from 0, or tick and column, where a tick's traffic may change without moving the draws of the
  next. Nothing that anybody bids may change a draw.
* State that changes (users, carts, fatigue) is the world's own. ``fill`` sees it as of the end of
  the tick before; an exposure changes nothing for later opportunities of the same tick.
* One world object serves one period, so that periods can run on threads: see ``WorldMaker``.
* ``settle`` is called for every tick, also for one without exposures, so that what comes late
  (delayed conversions) can be booked at its time; ``finish`` books what comes after the period.
* The engine books spend_micros, wins, exposures, value_sum and status; the world books
  expected_conversions, conversions and return_micros, and touches nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

VALUE_MAX = 1e6
"""No exposure is worth more; a value is finite and at least 0."""
WEIGHT_MAX = 1e12
"""Micros per unit of value; no weight is larger, and none is below 0."""

STATUS_ABSENT = 0
"""Status of an agent that has not entered yet or has left: it does not bid."""
STATUS_LIVE = 1
"""Status of an agent that bids."""
STATUS_OUT = 2
"""Status of an agent that could not pay a price: it does not bid again in this period."""


class Deals(NamedTuple):
    """The deals of a period: on which terms some agents buy some opportunities.

    An opportunity carries one deal or none (``Supply.deal``). Every agent makes one bid: whoever
    may use the deal and reaches its floor bids on the deal, whose floor replaces both floors of
    the opportunity; everybody else bids in the open auction, which a private auction does not have.

    * At a fixed price (a preferred deal) bids on the deal have the first look: they take the best
      slots, the highest bid first, and pay the agreed price.
    * Otherwise (a private marketplace) bids on the deal and open bids compete by price, and each
      winner pays by its own terms: its own bid at first price; at second price the next lower bid
      that takes part, at least the deal's floor; where the deal says nothing, what the rule of the
      opportunity makes of the same bids and the deal's floor.

    Source: OpenRTB 2.6, 3.2.11 (``Pmp``), 3.2.12 (``Deal``). How deals rank against open bids is
    left to exchanges there; first look at fixed price is the trade's meaning of a preferred deal.

    Attributes:
        floor_micros: [D] ``bidfloor``, of one exposure; the agreed price at fixed price. >= 1.
        auction_type: [D] ``at``: 0 = as the opportunity, 1 first price, 2 second price, 3 fixed
            price.
        is_private: [D] ``private_auction`` of opportunities that carry it: 1 = deal bids only.
        may_use: [D, A] 1 where the agent is one of the deal's seats (``wseat``).
    """

    floor_micros: I64
    auction_type: U8
    is_private: U8
    may_use: U8


class DealAccounts(NamedTuple):
    """What was sold on deals in a period; part of what ``Accounts`` say. Changed in place.

    Attributes:
        exposures: [D, A] slots won on the deal and shown.
        spend_micros: [D, A] charged for them.
    """

    exposures: I64
    spend_micros: I64


class Supply(NamedTuple):
    """What is on offer in one tick; ``world.fill`` writes every element, the engine reads.

    Prices are of one exposure: amounts, not CPM. C-contiguous; ``value`` is agent-major, so that
    each agent's bids are one contiguous run.

    Attributes:
        value: [A, n] what an exposure is worth to the agent's bidder, in units that its weight
            turns into micros (a predicted conversion probability, or a predicted return in
            units of currency); 0 = not eligible, no bid. In [0, VALUE_MAX].
        floor_micros: [n] hard floor: a bid below it is none. At least 1, whole micros.
        soft_floor_micros: [n] second price and GSP: a winner whose bid is below it pays its own
            bid, one at or above it pays at least the soft floor; 0 = none. Whole micros.
        exposure_draw: [n] uniform in [0, 1): slot k is exposed iff the draw times 10^6 is below
            slot_weights_micros[k] (a slot is never exposed when one above it is not).
        slot_count: [n] slots of this opportunity, 0 to K.
        rule: [n] ``market.auction.Rule`` of this opportunity; several slots at second price are
            sold by GSP.
        deal: [n] 0 = none, d = row d - 1 of ``deals``. A world without deals need not write it.
        deals: those of the world, the same in all ticks; the engine fills it in.
    """

    value: F32
    floor_micros: F32
    soft_floor_micros: F32
    exposure_draw: F32
    slot_count: U8
    rule: U8
    deal: U8
    deals: Deals


class Exposures(NamedTuple):
    """The slots that were sold and shown, in order of opportunity, then slot; and their prices.

    Attributes:
        opportunity: [E] column j of the tick's ``Supply``; its number is first + j.
        slot: [E] 0 = the best.
        agent: [E] row of the accounts.
        price_micros: [E] what the agent was charged.
    """

    opportunity: I32
    slot: U8
    agent: I32
    price_micros: I64


class Feedback(NamedTuple):
    """What a tick's auctions tell of the competition, per opportunity; at least the floor.

    Where an opportunity has no slots, both are the highest bid. Where it carries a deal, both are
    of the bids that took part, in their order, and at least the floor of whoever may still enter:
    the deal's in a private auction, the opportunity's otherwise.

    Attributes:
        min_to_win_micros: [n] bid of the first agent without a slot: with a bid above it, a winner
            would still have won some slot (AuctionNet's leastWinningCost).
        min_to_enter_micros: [n] bid of the last slot's winner: what a loser had to beat.
    """

    min_to_win_micros: F32
    min_to_enter_micros: F32


class Accounts(NamedTuple):
    """What every agent has and has done in this period; arrays are changed in place.

    Attributes:
        budget_micros: [A] of the period. Whoever raises one after the agent ran dry sets its status
            to STATUS_LIVE again.
        spend_micros: [A] charged; never above the budget.
        status: [A] STATUS_*.
        wins: [A] slots won, exposed or not.
        exposures: [A] slots won and shown: those that are paid.
        value_sum: [A] sum over exposures of the agent's ``value``: its bidder's own forecast.
        expected_conversions: [A] sum over exposures of the true conversion probability, which no
            bidder knows: for rewards and curves with less noise.
        conversions: [A] that happened.
        return_micros: [A] what conversions were worth to the advertiser.
    """

    budget_micros: I64
    spend_micros: I64
    status: U8
    wins: I64
    exposures: I64
    value_sum: F64
    expected_conversions: F64
    conversions: I64
    return_micros: I64


class World(Protocol):
    """One period of a world: what is on offer, and what people do. See the module for its rules."""

    @property
    def opportunity_counts(self) -> I64:
        """[T] opportunities of each tick; known beforehand, since nothing that is bid moves it."""
        ...

    @property
    def agent_count(self) -> int:
        """A."""
        ...

    @property
    def slot_weights_micros(self) -> I64:
        """[K] probability that a sold slot is exposed, times 10^6: above 0, never increasing."""
        ...

    @property
    def deals(self) -> Deals:
        """The deals that opportunities may carry; ``no_deals`` where there are none."""
        ...

    def fill(self, tick: int, first: int, supply: Supply) -> None:
        """Writes what is on offer in ``tick``, whose first opportunity has the number ``first``."""
        ...

    def settle(
        self, tick: int, first: int, supply: Supply, exposures: Exposures, accounts: Accounts
    ) -> None:
        """Draws what people did after these exposures, and books it."""
        ...

    def finish(self, accounts: Accounts) -> None:
        """Books what comes after the last tick."""
        ...


if TYPE_CHECKING:
    WorldMaker = Callable[[int], World]
    """Returns the world of a period, given its number; called on the thread that runs it."""


def new_accounts(budget_micros: I64) -> Accounts:
    """Returns accounts [A] at the start of a period: everybody live, nothing spent."""
    count = budget_micros.shape[0]
    return Accounts(
        budget_micros=budget_micros.astype(np.int64),
        spend_micros=np.zeros(count, np.int64),
        status=np.full(count, STATUS_LIVE, np.uint8),
        wins=np.zeros(count, np.int64),
        exposures=np.zeros(count, np.int64),
        value_sum=np.zeros(count),
        expected_conversions=np.zeros(count),
        conversions=np.zeros(count, np.int64),
        return_micros=np.zeros(count, np.int64),
    )


def no_deals(agent_count: int) -> Deals:
    """Returns the deals of a world that has none."""
    return Deals(
        floor_micros=np.zeros(0, np.int64),
        auction_type=np.zeros(0, np.uint8),
        is_private=np.zeros(0, np.uint8),
        may_use=np.zeros((0, agent_count), np.uint8),
    )


def new_deal_accounts(deals: Deals) -> DealAccounts:
    """Returns what was sold on deals at the start of a period: nothing."""
    shape = deals.may_use.shape
    return DealAccounts(np.zeros(shape, np.int64), np.zeros(shape, np.int64))


def new_supply(agent_count: int, opportunity_count: int, deals: Deals | None = None) -> Supply:
    """Returns arrays of one tick for a world to fill."""
    n = opportunity_count
    return Supply(
        value=np.zeros((agent_count, n), np.float32),
        floor_micros=np.ones(n, np.float32),
        soft_floor_micros=np.zeros(n, np.float32),
        exposure_draw=np.zeros(n, np.float32),
        slot_count=np.zeros(n, np.uint8),
        rule=np.zeros(n, np.uint8),
        deal=np.zeros(n, np.uint8),
        deals=no_deals(agent_count) if deals is None else deals,
    )
