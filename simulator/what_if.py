"""What if some agents bid by another policy: the same days for each policy, and the differences.

A replication is one day of a market (a ``WorldScenario`` or a ``PeriodScenario``). All policies
meet the same users, needs, coins and competitors' laws in it (common random numbers), so that the
difference between two of them within a day is far less noisy than either. What is reported per
policy are bands over days (p10, p50, p90: what a day may bring), and per pair of policies the mean
difference with its confidence interval (what the policy changes).

Policies are control laws of ``market.kernels_control``, for the *chosen* agents, with their budget
and target or a multiple of them; all others keep the laws of the scenario. ``off`` does not bid at
all: the difference to it is what the chosen agents' advertising truly added, organic orders
included.

What it does not do: it writes no file but its checkpoint and draws no picture
(``simulator.what_if_report``).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from scipy.stats import t as student

from market.errors import BadInput
from market.kernels_control import CONSTANT, PACING, PID
from simulator.period import auctionnet
from simulator.period.engine import check_agents, run_period
from simulator.period.scenario import PeriodScenario
from simulator.period.scenario import read as read_period
from simulator.scenario import text_of
from simulator.world.building import agents_of, build_tables, lag_ticks_of
from simulator.world.scenario import WORLDS_FOLDER, WorldScenario, shipped
from simulator.world.scenario import read as read_world
from simulator.world.world import PeriodWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from simulator.period.engine import Agents
    from simulator.period.seam import World

LAWS = {"off": CONSTANT, "constant": CONSTANT, "pid": PID, "pacing": PACING}
"""``off`` is a constant multiplier of 0, which never bids."""
TAKES_GAIN = ("constant", "pacing")
CONFIDENCE = 0.95
BANDS = (0.1, 0.5, 0.9)
GAIN_MAX = 100.0
FACTOR_MAX = 1_000.0
FACTORS = ("budget", "target")
AUCTIONNET = "auctionnet"
"""The ``PeriodScenario`` that ships."""


class Policy(NamedTuple):
    """How the chosen agents bid, as it is written: ``pid``, ``constant:0.8``, ``pid,budget=2``.

    Attributes:
        text: as written; names it in tables.
        law: of ``market.kernels_control``.
        gain: of the law.
        budget_factor: times the agents' budgets in the scenario.
        target_factor: times what a unit of value may cost them.
    """

    text: str
    law: int
    gain: float
    budget_factor: float = 1.0
    target_factor: float = 1.0

    def applied(self, agents: Agents, rows: Sequence[int]) -> Agents:
        """Returns the agents with this policy in ``rows``."""
        chosen = list(rows)
        law, gain = agents.law.copy(), agents.gain.copy()
        budget, unit = agents.budget_micros.copy(), agents.unit_micros.copy()
        law[chosen], gain[chosen] = self.law, self.gain
        budget[chosen] = np.maximum(np.round(budget[chosen] * self.budget_factor), 1)
        unit[chosen] *= self.target_factor
        return agents._replace(law=law, gain=gain, budget_micros=budget, unit_micros=unit)


class Outcome(msgspec.Struct, frozen=True):
    """What the chosen agents did in one day under one policy; amounts in micros.

    Attributes:
        conversions, return_micros: as reported.
        expected_conversions: sum of true probabilities over exposures.
        value_micros: of all orders of their products, organic ones included, over the lifetime and
            less returns; None where the market knows no organic orders.
        incremental_micros: of it, what all advertising of the day added; None likewise.
    """

    replication: int
    policy: str
    spend_micros: int
    exposures: int
    conversions: int
    expected_conversions: float
    return_micros: int
    value_micros: int | None
    incremental_micros: int | None


class Metric(NamedTuple):
    """A number that is told of a day; ``unit`` is "micros", "count" or "ratio"."""

    label: str
    unit: str


METRICS = {
    "spend_micros": Metric("spend", "micros"),
    "exposures": Metric("exposures", "count"),
    "conversions": Metric("conversions", "count"),
    "expected_conversions": Metric("expected conversions", "count"),
    "cpa_micros": Metric("CPA", "micros"),
    "return_micros": Metric("return", "micros"),
    "roas": Metric("ROAS", "ratio"),
    "value_micros": Metric("value of all orders", "micros"),
    "incremental_micros": Metric("added by advertising", "micros"),
}


def reading(outcome: Outcome, metric: str) -> float | None:
    """Returns the metric of a day; None where it does not exist (a CPA without conversions)."""
    if metric == "cpa_micros":
        return outcome.spend_micros / outcome.conversions if outcome.conversions else None
    if metric == "roas":
        return outcome.return_micros / outcome.spend_micros if outcome.spend_micros else None
    return getattr(outcome, metric)


class Band(msgspec.Struct, frozen=True):
    """What a metric is over days under one policy; ``days`` in which it exists."""

    policy: str
    metric: str
    days: int
    mean: float
    p10: float
    p50: float
    p90: float


class Difference(msgspec.Struct, frozen=True):
    """Mean of metric(policy) - metric(baseline) over days in which both exist.

    Attributes:
        low, high: of the confidence interval of the mean (CONFIDENCE, Student's t).
        correlation: between the two policies' days: what common random numbers save; None where
            one of them never varies.
    """

    policy: str
    baseline: str
    metric: str
    days: int
    mean: float
    low: float
    high: float
    correlation: float | None


class Comparison(msgspec.Struct, frozen=True):
    """What was asked, and what came of it."""

    scenario: str
    seed: int
    agents: tuple[int, ...]
    policies: tuple[str, ...]
    replications: int
    currency: str
    bands: tuple[Band, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Market:
    """A market that can be run over and over."""

    name: str
    text: str
    currency: str
    agents: Agents
    world: Callable[[int, int], World]
    """Returns the world of (seed, period)."""
    min_remaining_micros: int
    lag_ticks: int = 0
    """After how many ticks control laws take conversions for observed."""


def load_market(name: str) -> Market:
    """Returns the market of a scenario that ships under this name, or in the file of this path.

    A file with ``[values]`` is a ``PeriodScenario``, any other a ``WorldScenario``.

    Raises:
        BadInput: there is none, it breaks its schema, or its days hand orders on to the next.
    """
    if name in shipped():
        text, short = text_of(name, WORLDS_FOLDER)
        return _world_market(read_world(text, short), text)
    known = f"must be a .toml file or one of {', '.join((AUCTIONNET, *shipped()))}"
    if name.endswith(".toml"):
        path = Path(name)
        try:
            text, short = path.read_text(encoding="utf-8"), path.stem
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"scenario '{name}': {error}; it {known}") from error
    elif name == AUCTIONNET:
        text, short = text_of(name)
    else:
        raise BadInput(f"scenario '{name}': {known}")
    if _has_values(text):
        return _period_market(read_period(text, short), short, text)
    return _world_market(read_world(text, short), text)


def _has_values(text: str) -> bool:
    try:
        return "values" in msgspec.toml.decode(text, type=dict[str, object])
    except msgspec.DecodeError:  # whoever reads it says what is wrong
        return False


def parse_policy(text: str) -> Policy:
    """Returns the policy that ``LAW[:GAIN][,budget=FACTOR][,target=FACTOR]`` names.

    Raises:
        BadInput: it names none.
    """
    head, *parts = text.split(",")
    law, has_gain, gain_text = head.partition(":")
    known = (
        "must be pid, off, constant:GAIN or pacing:GAIN, then ,budget=FACTOR and ,target=FACTOR "
        "as wanted"
    )
    if law not in LAWS or (bool(has_gain) != (law in TAKES_GAIN)):
        raise BadInput(f"policy '{text}': {known}", "/policy")
    gain = _factor(text, "gain", gain_text, 0.0, GAIN_MAX) if has_gain else 0.0
    factors: dict[str, float] = {}
    for part in parts:
        name, _, value = part.partition("=")
        if name not in FACTORS or name in factors:
            raise BadInput(f"policy '{text}': '{part}'; it {known}", "/policy")
        factors[name] = _factor(text, name, value, 1e-6, FACTOR_MAX)
    return Policy(text, LAWS[law], gain, factors.get("budget", 1.0), factors.get("target", 1.0))


def _factor(text: str, name: str, value: str, least: float, most: float) -> float:
    try:
        number = float(value)
    except ValueError:
        raise BadInput(f"policy '{text}': the {name} '{value}' is no number", "/policy") from None
    if not least <= number <= most:
        raise BadInput(
            f"policy '{text}': {name} {value}; it must be {least:g} to {most:g}", "/policy"
        )
    return number


def check_chosen(market: Market, chosen: Sequence[int]) -> tuple[int, ...]:
    """Returns the chosen agents, distinct and in order.

    Raises:
        BadInput: there is none, or one that the market does not have.
    """
    count = market.agents.budget_micros.shape[0]
    if not chosen:
        raise BadInput("agents: empty; at least one must be chosen", "/agents")
    for agent in chosen:
        if not 0 <= agent < count:
            raise BadInput(f"agents: {agent}; must be 0 to {count - 1}", "/agents")
    return tuple(sorted(set(chosen)))


def check_policies(market: Market, chosen: Sequence[int], policies: Iterable[Policy]) -> None:
    """Checks that the chosen agents can bid by each of the policies.

    Raises:
        BadInput: budgets, targets or bids leave their range; the message names policy and agent.
    """
    count, ticks = market.agents.law.shape[0], int(market.agents.leave_tick.max())
    for policy in policies:
        try:
            check_agents(policy.applied(market.agents, chosen), count, ticks)
        except BadInput as error:
            raise BadInput(f"policy '{policy.text}': {error}", "/policy") from error


def run_day(
    market: Market, chosen: Sequence[int], policy: Policy, seed: int, replication: int
) -> Outcome:
    """Returns what becomes of the chosen agents in one day under ``policy``."""
    rows = list(chosen)
    world = market.world(seed, replication)
    result = run_period(
        world,
        policy.applied(market.agents, rows),
        min_remaining_micros=market.min_remaining_micros,
        lag_ticks=market.lag_ticks,
    )
    accounts = result.accounts
    value, incremental = None, None
    if isinstance(world, PeriodWorld):
        truth = world.incrementality.value_micros
        value, incremental = int(truth.total[rows].sum()), int(truth.incremental[rows].sum())
    return Outcome(
        replication=replication,
        policy=policy.text,
        spend_micros=int(accounts.spend_micros[rows].sum()),
        exposures=int(accounts.exposures[rows].sum()),
        conversions=int(accounts.conversions[rows].sum()),
        expected_conversions=float(accounts.expected_conversions[rows].sum()),
        return_micros=int(accounts.return_micros[rows].sum()),
        value_micros=value,
        incremental_micros=incremental,
    )


def compare(
    market: Market,
    chosen: Sequence[int],
    policies: Sequence[Policy],
    seed: int,
    outcomes: Sequence[Outcome],
) -> Comparison:
    """Returns bands and differences to the first policy, of days that all policies have run."""
    by_policy = {policy.text: _in_order(outcomes, policy.text) for policy in policies}
    days = min(len(each) for each in by_policy.values())
    by_policy = {text: each[:days] for text, each in by_policy.items()}
    bands = [
        band
        for text, each in by_policy.items()
        for metric in METRICS
        if (band := _band(text, metric, each)) is not None
    ]
    baseline = policies[0].text
    differences = [
        difference
        for policy in policies[1:]
        for metric in METRICS
        if (
            difference := _difference(
                policy.text, baseline, metric, by_policy[policy.text], by_policy[baseline]
            )
        )
        is not None
    ]
    return Comparison(
        scenario=market.name,
        seed=seed,
        agents=tuple(chosen),
        policies=tuple(policy.text for policy in policies),
        replications=days,
        currency=market.currency,
        bands=tuple(bands),
        differences=tuple(differences),
    )


EDITION = 2
"""Of the twin: raised when a day comes out otherwise than before, so that days never mix."""


class _Header(msgspec.Struct, frozen=True):
    """First line of a checkpoint: whose rows follow."""

    edition: int
    scenario_text: str
    seed: int
    agents: tuple[int, ...]


class Checkpoint:
    """Days that were run, one line of JSON each, appended when they end: an interrupt loses one.

    Further policies and days may be added to a checkpoint, for a day depends on neither; another
    scenario, seed or choice of agents may not.
    """

    def __init__(self, path: Path, market: Market, chosen: Sequence[int], seed: int) -> None:
        """Opens or starts the file; a line that was cut by a kill is taken off and run again.

        Raises:
            BadInput: the file is of another run, or no checkpoint, and stays as it is; or the
                folder is none.
        """
        self._path = path
        self.outcomes: list[Outcome] = []
        header = _Header(EDITION, market.text, seed, tuple(chosen))
        first = msgspec.json.encode(header) + b"\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise BadInput(
                f"folder '{path.parent}': {error}; it must be a folder that can be written"
            ) from error
        if first.startswith(whole):
            path.write_bytes(first)
            return
        complete = whole[: whole.rfind(b"\n") + 1]
        lines = complete.splitlines()
        try:
            found = msgspec.json.decode(lines[0] if lines else whole, type=_Header)
            self.outcomes = [msgspec.json.decode(line, type=Outcome) for line in lines[1:]]
        except msgspec.DecodeError as error:
            raise BadInput(
                f"checkpoint '{path}': {error}; it must be one of this command, or removed"
            ) from error
        if found != header:
            names = header.__struct_fields__
            other = [name for name in names if getattr(found, name) != getattr(header, name)]
            raise BadInput(
                f"checkpoint '{path}' is of another {', '.join(other)}; "
                "name another folder, or remove it"
            )
        if len(complete) < len(whole):
            os.truncate(path, len(complete))

    def missing(self, policies: Iterable[Policy], replications: int) -> list[tuple[int, Policy]]:
        """Returns the days still to run, all policies of a day side by side."""
        done = {(outcome.replication, outcome.policy) for outcome in self.outcomes}
        wanted = list(policies)
        return [
            (replication, policy)
            for replication in range(replications)
            for policy in wanted
            if (replication, policy.text) not in done
        ]

    def add(self, outcome: Outcome) -> None:
        """Keeps a day."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(outcome) + b"\n")
        self.outcomes.append(outcome)


def _world_market(scenario: WorldScenario, text: str) -> Market:
    if scenario.is_carried:
        # Nobody would be told of the orders that such a day hands on to the next.
        raise BadInput(
            f"scenario '{scenario.name}': /is_carried is true; it must be false or absent, since "
            "every replication is a day by itself",
            "/is_carried",
        )
    tables = build_tables(scenario)
    return Market(
        name=scenario.name,
        text=text,
        currency=scenario.currency,
        agents=agents_of(tables),
        world=partial(PeriodWorld, tables),
        min_remaining_micros=1,
        lag_ticks=lag_ticks_of(tables),
    )


def _period_market(scenario: PeriodScenario, name: str, text: str) -> Market:
    # The market's own seed, so that budgets and limits are the same whatever the run's.
    agents = auctionnet.agents_of(scenario, 0)
    return Market(
        name=name,
        text=text,
        currency="",
        agents=agents,
        world=partial(auctionnet.AuctionNetWorld, scenario, agents),
        min_remaining_micros=scenario.auction.min_remaining_micros,
    )


def _in_order(outcomes: Sequence[Outcome], policy: str) -> list[Outcome]:
    """Returns the outcomes of a policy from day 0 on, up to the first that is missing."""
    found = {outcome.replication: outcome for outcome in outcomes if outcome.policy == policy}
    days: list[Outcome] = []
    while len(days) in found:
        days.append(found[len(days)])
    return days


def _band(policy: str, metric: str, days: Sequence[Outcome]) -> Band | None:
    values = [value for day in days if (value := reading(day, metric)) is not None]
    if not values:
        return None
    p10, p50, p90 = np.quantile(values, BANDS).tolist()
    return Band(policy, metric, len(values), float(np.mean(values)), p10, p50, p90)


def _difference(
    policy: str, baseline: str, metric: str, mine: Sequence[Outcome], theirs: Sequence[Outcome]
) -> Difference | None:
    pairs = [
        (x, y)
        for a, b in zip(mine, theirs, strict=True)
        if (x := reading(a, metric)) is not None and (y := reading(b, metric)) is not None
    ]
    # One day has no spread, and an interval without one would claim certainty.
    if len(pairs) < 2:
        return None
    x, y = np.array(pairs).T
    change = x - y
    reach = student.ppf(0.5 + CONFIDENCE / 2, len(pairs) - 1) * change.std(ddof=1)
    reach /= np.sqrt(len(pairs))
    varies = x.std() > 0 and y.std() > 0
    return Difference(
        policy=policy,
        baseline=baseline,
        metric=metric,
        days=len(pairs),
        mean=float(change.mean()),
        low=float(change.mean() - reach),
        high=float(change.mean() + reach),
        correlation=float(np.corrcoef(x, y)[0, 1]) if varies else None,
    )
