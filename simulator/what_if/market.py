"""The markets in which settings can be compared: every scenario of the period engine, by name."""

from __future__ import annotations

import functools
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from simulator.period import auctionnet, scenario

if TYPE_CHECKING:
    from simulator.period.engine import Agents
    from simulator.period.seam import WorldMaker


class Market(NamedTuple):
    """One market, ready to be played.

    Attributes:
        agents: who bids, as the scenario has it.
        maker: makes the world of a period, given its number.
        min_remaining_micros: an agent with less left is out.
    """

    agents: Agents
    maker: WorldMaker
    min_remaining_micros: int


@functools.lru_cache(maxsize=4)
def market_of(name: str, seed: int) -> Market:
    """Returns the market of the scenario that ships under ``name``, or of a ``.toml`` file.

    Raises:
        BadInput: there is none, or it breaks its schema.
    """
    read = scenario.load(name)
    agents = auctionnet.agents_of(read, seed)
    return Market(
        agents,
        partial(auctionnet.AuctionNetWorld, read, agents, seed),
        read.auction.min_remaining_micros,
    )
