"""A bid service of the shipped catalogue, funded, with its events in a list."""

from __future__ import annotations

import numpy as np

from bidder.candidates import Compilation, allocate_rows, compile_snapshot
from bidder.catalogue import read_catalogue
from bidder.decide import Decider
from bidder.edge import Edge
from bidder.native.engine import Engine
from bidder.native.reader import Reader
from bidder.native.renderer import Renderer
from bidder.recommendation.network import read_artefact
from bidder.server import HEAD
from bidder.service import BidService
from bidder.supply_chain import NO_SUPPLY
from market.control import new_live_arrays
from market.events import EVENT_DTYPE
from market.state import CREDIT_DTYPE, CreditKind

NOW_MS = 1_700_000_000_000
KEY = bytes(range(32))
BASE_URL = "https://bid.example"
RATES = {"USD": 1_000_000, "EUR": 1_080_000, "GBP": 1_270_000}


class Sink:
    """Where events go; ``room`` is how many more it takes."""

    def __init__(self, room=10**6):
        self.room = room
        self.events = []

    def free_count(self):
        return self.room

    def push_raw(self, record):
        if self.room == 0:
            return False
        self.room -= 1
        self.events.extend(np.frombuffer(bytes(record), EVENT_DTYPE))
        return True


def catalogue_snapshot(campaigns=None, *, version=1, now_ms=NOW_MS, landscapes=()):
    campaigns = campaigns or read_catalogue()
    return compile_snapshot(
        campaigns, read_artefact(),
        Compilation(
            version=version, policy_version=1, intent_version=1, now_ms=now_ms, seed=1,
            rates_micros=RATES, default_seat="lodestone", rows=allocate_rows({}, campaigns),
            landscapes=landscapes,
        ),
    )  # fmt: skip


def funds_of(snapshot, amount=10**12):
    budgets = snapshot.arrays.budgets["budget_id"]
    return np.array([(budget, amount, CreditKind.BUDGET) for budget in budgets], CREDIT_DTYPE)


def service_of(
    campaigns=None, *, sink=None, funds=10**12, worker=0, landscapes=(), supply=NO_SUPPLY, **rest
):
    snapshot = catalogue_snapshot(campaigns, landscapes=landscapes)
    live = new_live_arrays()
    live.is_active[:] = 1
    decider = Decider(snapshot, live, worker=worker)
    decider.credit(funds_of(snapshot, funds), NOW_MS)
    return BidService(decider, Edge(b"salt", supply=supply), sink or Sink(), BASE_URL, KEY, **rest)


def engine_of(service, profiles, *, supply=NO_SUPPLY, tcf_vendor_id=None, worker=0):
    """The native path in front of a service that was made here, for these profiles."""
    reader = Reader(b"salt", (1, 2), tcf_vendor_id, supply)
    renderer = Renderer(
        service.answers, service.desk.decider.snapshot, KEY, worker, HEAD + b"content-length: "
    )
    engine = Engine(service, reader, renderer, {profile.name: profile for profile in profiles})
    engine.swap(service.desk.decider.snapshot)
    return engine
