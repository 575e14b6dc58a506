"""Budgets that machines share, slow and obvious: two levels in one page.

Source: the rules 1 to 4 of the design (docs/ledger.md, "Budgets shared between machines"). Of one
budget: the owner's limit and rows, and per node the share in its log and what it has spent and
leased by that log. Every method asserts what the rules allow; ``check`` is the bound.
"""

from __future__ import annotations

from collections import defaultdict


class Shared:
    def __init__(self, limit):
        self.limit = self.ceiling = limit
        self.rows, self.stakes = defaultdict(int), defaultdict(int)
        self.shares, self.used = defaultdict(int), defaultdict(int)

    def publish(self, limit):
        self.limit = limit
        self._settle()

    def turn(self, node, said, row):
        """A node said what it holds at most; the owner committed a row for it."""
        assert max(self.shares[node], self.used[node]) <= said
        assert said <= self.rows[node] + self.stakes[node]
        assert row <= max(said, self.limit - (sum(self.rows.values()) - self.rows[node]))
        self.rows[node] = row
        self._settle()

    def close(self, node, row):
        """An operator gives back what a node did not say to be spent: it is at stake."""
        self.stakes[node] += self.rows[node] - row
        self.rows[node] = row

    def see(self, node, share, used):
        """What the node's log says by now."""
        self.shares[node], self.used[node] = share, used
        assert share <= self.rows[node] + self.stakes[node]
        assert used <= self.rows[node] + self.stakes[node]

    def check(self, spent):
        assert sum(self.rows.values()) <= self.ceiling
        assert spent <= sum(self.used.values()) <= self.ceiling

    def _settle(self):
        # A limit that was lowered below what is allotted is kept as that comes back.
        self.ceiling = max(self.limit, sum(self.rows.values())) + sum(self.stakes.values())
