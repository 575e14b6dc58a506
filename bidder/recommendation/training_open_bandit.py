"""Trains a click model on Open Bandit logs and judges it off-policy.

    python -m bidder.recommendation.training_open_bandit FOLDER --seed 7

The logs are not part of the package; ``open_bandit`` describes the format.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bidder.recommendation.open_bandit import (
    CALIBRATION_SHARE,
    TRAINING_SHARE,
    OpenBanditReport,
    judge_open_bandit,
)
from bidder.recommendation.training import Settings, train
from market.errors import LodestoneError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bidder.recommendation.card import Scores
    from bidder.recommendation.network import Weights
    from market.protocols import ResponseLog


def train_and_judge(folder: Path, seed: int) -> OpenBanditReport:
    """Returns the report on a click model trained with ``seed`` on the random log in ``folder``.

    Raises:
        BadInput: a file is missing or broken.
    """
    settings = Settings(training_share=TRAINING_SHARE, calibration_share=CALIBRATION_SHARE)

    def train_clicks(log: ResponseLog) -> tuple[Weights, Scores]:
        return train(log, seed, settings, heads=("pctr",))

    return judge_open_bandit(folder, train_clicks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command of this module; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bidder.recommendation.training_open_bandit")
    parser.add_argument("folder", type=Path, help="with random_all and bts_all")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args(arguments)
    try:
        report = train_and_judge(given.folder, given.seed)
    except LodestoneError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
