"""One period under every setting: the unit of work, and what is kept of it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from market.errors import BadInput, Corrupt
from simulator.period.auctionnet import score_of
from simulator.period.engine import run_period
from simulator.what_if.market import market_of
from simulator.what_if.setting import Setting

if TYPE_CHECKING:
    from pathlib import Path

_HEADER_KIND: Final = "lodestone what-if 1"


class Plan(msgspec.Struct, frozen=True):
    """What is compared.

    Attributes:
        scenario: name, or path of a ``.toml`` file.
        seed: of everything that happens.
        rows: of the agents that are steered; what is told of is their sum.
        settings: the first is what the others are held against.
    """

    scenario: str
    seed: int
    rows: tuple[int, ...]
    settings: tuple[Setting, ...]

    def check(self) -> None:
        """Checks the rows against the scenario.

        Raises:
            BadInput: a row is none of the scenario's agents, or the scenario breaks a rule.
        """
        count = market_of(self.scenario, self.seed).agents.law.shape[0]
        wrong = [row for row in self.rows if not 0 <= row < count]
        if wrong or not self.rows:
            raise BadInput(f"--agent: {wrong or 'none'}; it must be one of 0 to {count - 1}")


class Outcome(msgspec.Struct, frozen=True):
    """What the steered agents had at the end of a period; money in micros.

    Attributes:
        expected_conversions: sum of the true probabilities: the same mean, less noise.
        score: conversions x min(1, (target / cost per conversion)^2), added up over agents.
        spend_by_tick: spend in each tick.
    """

    spend_micros: int
    exposures: int
    conversions: int
    expected_conversions: float
    return_micros: int
    score: float
    spend_by_tick: tuple[int, ...]


class Trial(msgspec.Struct, frozen=True):
    """One period: an outcome for each setting, in their order."""

    period: int
    outcomes: tuple[Outcome, ...]


def run_trial(plan: Plan, period: int) -> Trial:
    """Returns what becomes of the period under every setting of the plan."""
    market = market_of(plan.scenario, plan.seed)
    rows = list(plan.rows)
    outcomes: list[Outcome] = []
    for setting in plan.settings:
        agents = setting.applied(market.agents, rows)
        result = run_period(
            market.maker(period), agents, min_remaining_micros=market.min_remaining_micros
        )
        accounts = result.accounts
        score = score_of(accounts.conversions, accounts.spend_micros, agents.unit_micros)
        by_tick = np.diff(result.trace.spend_micros[:, rows].sum(axis=1), prepend=0)
        outcomes.append(
            Outcome(
                spend_micros=int(accounts.spend_micros[rows].sum()),
                exposures=int(accounts.exposures[rows].sum()),
                conversions=int(accounts.conversions[rows].sum()),
                expected_conversions=float(accounts.expected_conversions[rows].sum()),
                return_micros=int(accounts.return_micros[rows].sum()),
                score=float(score[rows].sum()),
                spend_by_tick=tuple(by_tick.tolist()),
            )
        )
    return Trial(period, tuple(outcomes))


class Checkpoint:
    """The trials that are done, in a file that grows by a line each: a run goes on where it ended.

    Attributes:
        trials: by period.
        torn: lines at the end that a crash cut; they are written again.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        """Reads what is there, or begins the file.

        Raises:
            BadInput: the file is of another plan.
            Corrupt: a line in the middle cannot be read.
        """
        self._path = path
        self.trials: dict[int, Trial] = {}
        self.torn = 0
        name = f"{_HEADER_KIND} {_digest(plan)}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name}\n", "utf-8")
            return
        header, *lines = path.read_bytes().split(b"\n")
        if header.decode(errors="replace") != name:
            raise BadInput(
                f"{path}: holds the periods of another comparison; name another --out, or delete it"
            )
        whole = lines[:-1] if lines else []
        self.torn = int(bool(lines) and lines[-1] != b"")
        for number, line in enumerate(whole, 2):
            try:
                trial = msgspec.json.decode(line, type=Trial)
            except msgspec.MsgspecError as error:
                raise Corrupt(f"{path}: line {number}: {error}; delete the file") from error
            self.trials[trial.period] = trial
        if self.torn:
            path.write_bytes(b"\n".join([header, *whole, b""]))

    def add(self, trial: Trial) -> None:
        """Keeps a trial."""
        self.trials[trial.period] = trial
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(trial) + b"\n")


def _digest(plan: Plan) -> str:
    return hashlib.blake2b(msgspec.json.encode(plan), digest_size=8).hexdigest()
