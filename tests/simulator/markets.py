"""Small markets and agents that the twin's tests share."""

from __future__ import annotations

from functools import cache

import msgspec
import numpy as np

from market.decision import DECISION_DTYPE, NoBidReason
from market.kernels import hash_pair
from market.money import currency_number
from simulator.exchange import Bids, Exchange
from simulator.response import vocabulary_ads
from simulator.scenario import load
from simulator.supply import scenes_of

SALT = b"0123456789abcdef"
VALUE_MICROS = 20_000_000


@cache
def scenario_of(name="parity"):
    return load(name)


def changed(scenario, **changes):
    """The scenario with top-level fields, or with fields of parts (``part__field``), replaced."""
    for path, value in changes.items():
        part, _, field = path.partition("__")
        whole = (
            msgspec.structs.replace(getattr(scenario, part), **{field: value}) if field else value
        )
        scenario = msgspec.structs.replace(scenario, **{part: whole})
    return scenario


@cache
def ads_of(scenario_name="parity", per_size=4):
    """Creatives that fit every scene, numbered from 1, in campaigns of three."""
    scenario = scenario_of(scenario_name)
    return tuple(
        msgspec.structs.replace(
            ad,
            creative_id=1 + i,
            campaign_id=1 + i % 3,
            value_per_conversion_micros=VALUE_MICROS,
        )
        for i, ad in enumerate(vocabulary_ads(scenario, scenes_of(scenario), per_size))
    )


def exchange_of(scenario=None, *, seed=1, ads=None):
    scenario = scenario or scenario_of()
    return Exchange(scenario, ads_of() if ads is None else ads, seed=seed, user_salt=SALT)


def size_of(ad):
    width, _, height = ad.features["size"].partition("x")
    return int(width) << 16 | int(height)


def bids_on(offers, price_cpm_micros, creative_id, places=None):
    """One bid at each place, the size and format left unsaid."""
    places = np.arange(offers.sequence.shape[0]) if places is None else np.asarray(places)
    count = places.shape[0]
    records = offers.opportunities.records[places]
    return Bids(
        offer=places,
        bid_hi=hashed(records["key_hi"]),
        bid_lo=hashed(records["key_lo"]),
        price_cpm_micros=np.broadcast_to(np.int64(price_cpm_micros), count).copy(),
        creative_id=np.broadcast_to(np.int64(creative_id), count).copy(),
        size=np.zeros(count, np.uint32),
        format=np.zeros(count, np.uint8),
        rate_micros=np.full(count, 1_000_000),
        fault=np.zeros(count, np.uint16),
    )


def hashed(keys):
    return np.array([hash_pair(key, np.uint64(9)) for key in keys], np.uint64)


class PriceAgent:
    """Bids one price on what passes ``share`` of its own coin, with the first ad that fits.

    Keeps everything that it is told, as an agent that learns would.
    """

    def __init__(self, price_cpm_micros, ads, currency="USD", modulus=1):
        self._price, self._ads, self._currency = price_cpm_micros, ads, currency_number(currency)
        self._modulus = modulus
        self.seen, self.notices, self.times = [], [], []

    def decide(self, opportunities):
        records = opportunities.records
        self.seen.append(records.shape[0])
        decisions = np.zeros(records.shape[0], DECISION_DTYPE)
        decisions["reason"] = NoBidReason.NO_ACTIVE_LINE_ITEM
        for decision, record in zip(decisions, records, strict=True):
            sizes = set(record["sizes"][: record["size_count"]].tolist())
            fitting = [
                ad
                for ad in self._ads
                if (size_of(ad) in sizes or not sizes)
                and (ad.features["format"] == "video") == (record["formats"] == 2)
            ]
            if not fitting or int(record["key_lo"]) % self._modulus:
                continue
            ad = fitting[int(record["key_hi"]) % len(fitting)]
            decision["reason"] = NoBidReason.BID
            decision["bid_hi"] = hash_pair(record["key_hi"], np.uint64(1))
            decision["bid_lo"] = hash_pair(record["key_lo"], np.uint64(2))
            decision["creative_id"] = ad.creative_id
            decision["campaign_id"] = ad.campaign_id
            decision["bid_cpm_micros"] = self._price
            decision["bid_currency"] = self._currency
            decision["rate_micros"] = 1_000_000
            decision["size"] = size_of(ad) if sizes else 0
            decision["format"] = record["formats"]
        return decisions

    def notice(self, notices):
        self.notices.extend(notices)

    def advance(self, now_ms):
        self.times.append(now_ms)
