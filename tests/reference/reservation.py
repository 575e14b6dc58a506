"""Known bids and what their reservations do to leases, slow and obvious: lists and dicts.

Written from the rules in ``docs/ledger.md`` and the docstrings of ``BudgetLedger``: a bid reserves
from every budget of it or from none; what is due gives back in the order of deadlines by second,
then of arrival; a budget above its limit keeps what comes back until it is at its limit.
"""

from __future__ import annotations

from collections import defaultdict

SECOND_MS = 1_024


class Bids:
    def __init__(self, limits):
        self.limits = limits
        self.held, self.open, self.owed = (defaultdict(int) for _ in range(3))
        self.bids = {}
        self.unfunded = 0

    def reserve(self, number, worker, budgets, caps, amount, deadline):
        """Says whether the bid is new or a repeat."""
        if number in self.bids:
            return "repeat"
        is_held = all(self.held[worker, key] - self.open[worker, key] >= amount for key in budgets)
        self.unfunded += not is_held
        if is_held:
            for key in budgets:
                self.open[worker, key] += amount
        state = "open" if is_held else "released"
        self.bids[number] = [state, worker, budgets, caps, amount, deadline]
        return "new"

    def expire(self, now):
        """(how many, money back, counts back), each by (worker, key)."""
        due = [bid for bid in self.bids.values() if bid[0] == "open" and bid[5] < now]
        money, counts = defaultdict(int), defaultdict(int)
        for bid in sorted(due, key=lambda bid: bid[5] // SECOND_MS):
            _, worker, budgets, caps, amount, _ = bid
            bid[0] = "released"
            for key in budgets:
                self.open[worker, key] -= amount
                held = sum(held for (_, of), held in self.held.items() if of == key)
                kept = min(amount, max(0, held - self.limits[key]))
                self.held[worker, key] -= kept
                money[worker, key] += amount - kept
            for key in caps:
                counts[worker, key] += 1
        return len(due), {k: v for k, v in money.items() if v}, dict(counts)
