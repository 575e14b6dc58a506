"""Auctions from their papers: one opportunity, Python integers and fractions, no ranking tricks.

Ranked position auction: bids at or above the reserve take the slots in order, the lower agent
first among equals (Edelman, Ostrovsky and Schwarz 2007; Varian 2007).
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction


def ranking(bids, reserve):
    """Agents that may win, best first."""
    good = [agent for agent, bid in enumerate(bids) if bid > 0 and bid >= reserve]
    return sorted(good, key=lambda agent: (-bids[agent], agent))


def first_price(bids, reserve, weights):
    """[(agent, price)] by slot: a winner pays its bid."""
    return [(agent, bids[agent]) for agent in ranking(bids, reserve)[: len(weights)]]


def gsp(bids, reserve, weights):
    """[(agent, price)] by slot: a winner pays the bid of the agent ranked next, or the reserve."""
    agents = ranking(bids, reserve)
    paid = [*(bids[agent] for agent in agents[1:]), reserve]
    return list(zip(agents, paid, strict=False))[: len(weights)]


def second_price(bids, reserve, weights):
    """Vickrey 1961: the highest bid wins and pays the highest of the others, or the reserve."""
    assert len(weights) == 1
    agents = ranking(bids, reserve)
    if not agents:
        return []
    others = [bid for agent, bid in enumerate(bids) if agent != agents[0]]
    return [(agents[0], max([reserve, *others]))]


def vcg(bids, reserve, weights):
    """[(agent, price)] by slot: a winner pays the welfare that the others lose by its presence.

    Welfare counts the seller, who values each exposure at the reserve; it is the best over all
    ways to put agents, or nobody, into slots. weights are in micros.
    """
    shares = [Fraction(weight, 1_000_000) for weight in weights]
    sales = []
    for slot, agent in enumerate(ranking(bids, reserve)[: len(weights)]):
        others = {each: bid for each, bid in enumerate(bids) if each != agent and bid > 0}
        without = max(_welfares(others, reserve, shares))
        everybody = {each: bid for each, bid in enumerate(bids) if bid > 0}
        present = max(_welfares(everybody, reserve, shares)) - shares[slot] * bids[agent]
        sales.append((agent, math.ceil((without - present) / shares[slot])))
    return sales


def _welfares(bids, reserve, shares):
    nobody = [None] * len(shares)
    for placed in set(itertools.permutations([*bids, *nobody], len(shares))):
        yield sum(
            share * (reserve if agent is None else bids[agent])
            for share, agent in zip(shares, placed, strict=True)
        )


def wins(bids, reserve, weights, agent):
    """Whether ``agent`` gets some slot."""
    return agent in ranking(bids, reserve)[: len(weights)]
