"""A worker's money, slow and obvious: what it may reserve, from its credits and its bids alone."""

from __future__ import annotations

from market.state import CreditKind
from tests.ledger.bids import bid_event


class Worker:
    def __init__(self, events, credits_ring, index=0):
        self.events = events
        self.credits_ring = credits_ring
        self.index = index
        self.available = {}

    def take_credits(self):
        """Takes all credits there are; returns the counter credits."""
        counts = {}
        for key, amount, kind in self.credits_ring.drain(1_000_000).tolist():
            if kind == CreditKind.RESET:
                self.available = dict.fromkeys(self.available, 0)
            elif kind == CreditKind.BUDGET:
                self.available[key] = self.available.get(key, 0) + amount
            else:
                counts[key] = counts.get(key, 0) + amount
        return counts

    def bid(self, number, reserved, *, budgets=(1,), **rest):
        """Makes a bid if it can be paid; returns whether it did."""
        if any(self.available.get(budget, 0) < reserved for budget in budgets):
            return False
        for budget in budgets:
            self.available[budget] -= reserved
        event = bid_event(number, reserved=reserved, budgets=budgets, worker=self.index, **rest)
        assert self.events.push(event)
        return True
