"""The budget owner, slow and obvious: the table of rules, one method a row, nothing else.

Source: the design's budget rules. B limit, S_on spent on time, S_late paid for late wins, held by
(worker, budget). Written from the rules, not from ``ledger.budget``.
"""

from __future__ import annotations

from collections import defaultdict


class Owner:
    def __init__(self, limits):
        self.limits = dict(limits)
        self.on_time, self.late = defaultdict(int), defaultdict(int)
        self.held, self.adjusted = defaultdict(int), defaultdict(int)
        self.bids = {}

    def lease(self, worker, budget, asked):
        held = sum(held for (_, of), held in self.held.items() if of == budget)
        spent = self.on_time[budget] + self.late[budget] + self.adjusted[budget]
        granted = min(asked, max(0, self.limits[budget] - spent - held))
        self.held[worker, budget] += granted
        return granted

    def give_back(self, worker, budget, amount):
        self.held[worker, budget] -= amount

    def adjust(self, budget, amount):
        self.adjusted[budget] += amount

    def reserve(self, bid, worker, budgets, cap, deadline):
        is_held = all(self.held[worker, key] - self.open(worker, key) >= cap for key in budgets)
        self.bids[bid] = [worker, budgets, cap, deadline, "open" if is_held else "released"]

    def settle(self, bid, price, now):
        worker, budgets, cap, deadline, state = self.bids[bid]
        if state == "settled":
            return "duplicate"
        if price > cap:
            return "disputed"
        is_late = state == "released" or now > deadline
        for budget in budgets:
            if is_late:
                self.late[budget] += price
            else:
                self.on_time[budget] += price
                self.held[worker, budget] -= price
        self.bids[bid][4] = "settled"
        return "late" if is_late else "charged"

    def loss(self, bid):
        if self.bids[bid][4] == "open":
            self.bids[bid][4] = "released"

    def expire(self, now):
        for bid in self.bids.values():
            if bid[4] == "open" and bid[3] < now:
                bid[4] = "released"

    def open(self, worker, budget):
        return sum(cap for of, _, cap, _, _ in self.open_bids(budget) if of == worker)

    def open_bids(self, budget):
        return [bid for bid in self.bids.values() if bid[4] == "open" and budget in bid[1]]
