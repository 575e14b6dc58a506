"""Markets whose parameters are hidden from the fit, and the ledger logs that an engine makes there.

Each market is a scenario with drawn numbers. The whole engine (``policies.rehearsal``) bids in it
for a day and a bit; the recorder's events are the log. A second day, of another seed, is kept for
forecasts: its bids are shown to the twin, its outcomes are not.

Two families, in turns. ``single``: one rival without tastes for scenes or users, so that presence,
median and spread are the numbers of the scenario. ``several``: two to four rivals, unlike, with
tastes; only what can be observed (win rates, click rate, delays) has one true value there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from bidder.recommendation.network import read_artefact
from ledger.log import MemoryLog
from ledger.segment import RECORDS
from market.campaign import Budget, Campaign, Creative, Goal, GoalKind, LineItem
from market.chance import Purpose, code_of, pair_code
from market.events import SCHEMA_VERSION, read_events
from market.exchange import DEFAULT_EXCHANGES
from market.intent import Intent
from policies.rehearsal import Rehearsal
from simulator.calibration.ledger_reading import reading_of
from simulator.competitors import build_rivals
from simulator.episode import DecisionLog, run_episode
from simulator.exchange import Exchange, bids_of
from simulator.kernels import best_rivals, uniform_table
from simulator.registration import register
from simulator.scenario import Competitor, Scenario, load

if TYPE_CHECKING:
    from simulator.calibration.log import Log

SALT = bytes(16)
HOUR_MS = 3_600_000
_RATES = {"USD": 1_000_000}
_RIVAL_DRAWS = 100
_NAME = code_of("hidden markets")


class Market(NamedTuple):
    """A scenario, and whether its rivals' numbers are observable one by one."""

    scenario: Scenario
    family: str
    value_micros: int


class Day(NamedTuple):
    """A day that the engine bid in.

    Attributes:
        events: of the recorder, in order.
        log: what calibration reads of them.
        decisions: what was decided, opportunity by opportunity.
        requests: how many there were.
    """

    events: npt.NDArray[np.void]
    log: Log
    decisions: DecisionLog
    requests: int


def hidden_market(number: int) -> Market:
    """Returns the market of a number; nothing of it is told to the fit."""
    draw = _uniforms(number, 40)
    base = load("parity")
    family = ("single", "several")[number % 2]
    count = 1 if family == "single" else 2 + int(draw[0] * 3)
    interests = base.people.interests
    competitors = tuple(
        Competitor(
            name=f"rival-{j}",
            presence=0.55 + 0.4 * float(draw[1 + j]),
            cpm_median=1.5 + 3.0 * float(draw[5 + j]),
            sigma=0.3 + 0.4 * float(draw[9 + j]),
            scene_sigma=0.0 if family == "single" else 0.25 * float(draw[13 + j]),
            interest=interests[int(draw[17 + j] * len(interests))],
            interest_weight=0.0 if family == "single" else 0.3 * float(draw[21 + j]),
        )
        for j in range(count)
    )
    shape = tuple(0.4 + 1.2 * float(u) for u in _uniforms(number + 1_000_003, 24))
    response = msgspec.structs.replace(
        base.response,
        ctr=0.12 + 0.12 * float(draw[25]),
        cvr=0.3 + 0.3 * float(draw[26]),
        delay_ms_median=int(600_000 * 6.0 ** float(draw[27])),
        delay_sigma=0.5 + 0.6 * float(draw[28]),
        delay_ms_min=0,
        delay_ms_max=10**12,
    )
    scenario = msgspec.structs.replace(
        base,
        name=f"hidden-{number}",
        world_seed=pair_code(_NAME, number) >> 3,
        requests_per_day=int(3_000 + 2_000 * float(draw[29])),
        hour_shapes={"flat": shape},
        competitors=competitors,
        response=response,
        people=msgspec.structs.replace(base.people, user_count=3_000),
    )
    # Bids are pctr x pcvr x value; this puts most of them between half and three times a median.
    value = int(150_000 + 150_000 * float(draw[30]))
    return Market(scenario, family, value)


def exchange_of(market: Market, seed: int) -> Exchange:
    """Returns a fresh exchange of a market."""
    creatives = register(_campaigns(market), 1_200_000)
    return Exchange(market.scenario, creatives, seed=seed, user_salt=SALT)


def bid_day(market: Market, seed: int) -> Day:
    """Returns a day of the engine in a market: its events, decisions and log."""
    campaigns = _campaigns(market)
    kept = MemoryLog(is_kept=True)
    agent = Rehearsal(
        Intent(1, campaigns), read_artefact(), DEFAULT_EXCHANGES, seed=seed, rates_micros=_RATES,
        tick_ms=HOUR_MS, no_bid_sample_rate=1.0,
    )  # fmt: skip
    agent.recorder.write_to(kept)
    exchange = Exchange(market.scenario, register(campaigns, 1_200_000), seed=seed, user_salt=SALT)
    episode = run_episode(exchange, agent, keeps_log=True)
    assert episode.log is not None
    events = np.concatenate(
        [read_events(body, SCHEMA_VERSION) for kind, body in kept.frames if kind == RECORDS]
    )
    log = reading_of(events, market.scenario.name).log
    return Day(events, log, episode.log, episode.result.opportunity_count)


class Outcome(NamedTuple):
    """What a day's bids, times something, got in the market itself.

    Attributes:
        wins: of won impressions.
        spend_micros: of their prices.
        clicks, conversions: expected, from true probabilities.
    """

    wins: int
    spend_micros: int
    clicks: float
    conversions: float


def outcomes_of(
    market: Market, day: Day, seed: int, multipliers: tuple[float, ...]
) -> tuple[Outcome, ...]:
    """Returns what a day's bids had got at each multiplier, in the market itself."""
    scenario = market.scenario
    exchange = exchange_of(market, seed)
    offers = exchange.offers(scenario.start_at_ms, scenario.end_at_ms)
    found: list[Outcome] = []
    for multiplier in multipliers:
        decisions = day.decisions.decisions.copy()
        decisions["bid_cpm_micros"] = np.rint(decisions["bid_cpm_micros"] * multiplier)
        got = exchange.clear(offers, bids_of(decisions, scenario.currency))
        clicks = got.click_probability
        found.append(Outcome(
            int(got.has_won.sum()), int(got.amount_micros.sum()), float(clicks.sum()),
            float((clicks * got.conversion_probability).sum()),
        ))  # fmt: skip
    return tuple(found)


def true_win_rates(
    market: Market, day: Day, seed: int, multipliers: tuple[float, ...]
) -> tuple[float, ...]:
    """Returns the probability that a bid of a day wins, at each multiplier.

    Over many draws of the rivals against the same bids, users and scenes.
    """
    scenario = market.scenario
    exchange = exchange_of(market, seed)
    offers = exchange.offers(scenario.start_at_ms, scenario.end_at_ms)
    bids = bids_of(day.decisions.decisions, scenario.currency)
    records = offers.opportunities.records[bids.offer]
    floor = np.ascontiguousarray(records["floor_cpm_micros"])
    rivals = build_rivals(scenario, exchange.supply.scenes)
    won = np.zeros(len(multipliers))
    for draw in range(_RIVAL_DRAWS):
        best = best_rivals(
            pair_code(seed, draw + 1) >> 1, np.ascontiguousarray(records["key_hi"]),
            np.ascontiguousarray(records["key_lo"]), offers.scene[bids.offer],
            offers.user[bids.offer], floor, *rivals, exchange.population.interest,
        )  # fmt: skip
        for row, multiplier in enumerate(multipliers):
            bid = np.rint(bids.price_cpm_micros * multiplier)
            won[row] += float(np.mean((bid > best) & (bid >= floor)))
    return tuple((won / _RIVAL_DRAWS).tolist())


def _campaigns(market: Market) -> tuple[Campaign, ...]:
    """Campaigns of several values a conversion, so that bids spread; each with all three sizes."""
    sizes = ((300, 250), (728, 90), (320, 50))
    return tuple(
        Campaign(
            campaign_id=number, advertiser_id=1, name=f"campaign {number}", currency="USD",
            time_zone="UTC", advertiser_domain="shop.example",
            goal=Goal(
                kind=GoalKind.MAX_CONVERSIONS,
                value_per_conversion_micros=market.value_micros,
            ),
            budget=Budget(daily_micros=10**12),
            policy="constant",
            line_items=(
                LineItem(
                    line_item_id=number * 10, name=f"line {number}",
                    creatives=tuple(
                        Creative(
                            creative_id=number * 100 + i, width=w, height=h, adm="<p>x</p>",
                            landing_url="https://shop.example/",
                        )
                        for i, (w, h) in enumerate(sizes)
                    ),
                ),
            ),
        )
        for number in (1,)
    )  # fmt: skip


def _uniforms(number: int, count: int) -> npt.NDArray[np.float64]:
    keys = np.array([number], np.uint64)
    return uniform_table(
        _NAME >> 1, int(Purpose.POPULATION), np.zeros_like(keys), keys, np.arange(count)
    )[0]
