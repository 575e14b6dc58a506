"""Trains the recommendation network from a response log, with a logistic regression beside it.

The log is cut along time into training, calibration and test. Per head (clicks on all rows,
conversions on clicked rows) a factorisation machine and a logistic regression are trained on the
first slice; the calibration slice chooses the epoch, fits the calibrator and chooses which of the
two serves; the test slice is only scored. With few positives the regression serves: it is then as
good as any network and better calibrated.

Equal logs, seeds and settings give equal weights.

    python -m bidder.recommendation.training --log LOG.npz --out FOLDER --seed 7
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import lightning.pytorch as pl
import msgspec
import numpy as np
import torch

from bidder.recommendation.calibration import F64, fit_platt, log_loss
from bidder.recommendation.card import Fit, HeadScores, Scores
from bidder.recommendation.export import export_onnx
from bidder.recommendation.network import (
    EMBEDDING_WIDTH,
    HEADS,
    Weights,
    weights_of,
    write_artefact,
)
from bidder.recommendation.response_log import check_log, read_log
from bidder.recommendation.scores import fit_of
from bidder.recommendation.training_module import (
    Batches,
    Examples,
    HeadModule,
    Tables,
    labels_and_weights,
    logits_of,
    with_unseen,
)
from market.errors import BadInput, LodestoneError
from market.features import AD_BUCKETS, AD_ROWS, CONTEXT_BUCKETS, CONTEXT_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from market.protocols import ResponseLog

FACTOR_POSITIVES_MIN = 300
"""Fewest training positives for which factors are tried at all."""

_BATCH_ROWS_MIN = 64
_STEPS_MIN = 100


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to train.

    Attributes:
        width: E, factors per field and head.
        epochs: all are run, the best is kept.
        learning_rate: of the first epoch.
        l2: penalty of a row's squares against the LogLoss summed over the training examples, as a
            Gaussian prior of variance 1 / (2 l2) on each number has it.
        batch_rows_max: rows of a batch; fewer where an epoch would have under 100 steps.
        training_share: earliest share of the log.
        calibration_share: the share after it; the rest is the test slice.
    """

    width: int = EMBEDDING_WIDTH
    epochs: int = 10
    learning_rate: float = 0.01
    l2: float = 20.0
    batch_rows_max: int = 4096
    training_share: float = 0.7
    calibration_share: float = 0.15

    def __post_init__(self) -> None:
        """Checks what no type can.

        Raises:
            BadInput: a slice would be empty, or nothing would be learnt.
        """
        test_share = 1.0 - self.training_share - self.calibration_share
        if min(self.training_share, self.calibration_share, test_share) <= 0.0:
            raise BadInput(
                f"training settings: training_share {self.training_share} and calibration_share "
                f"{self.calibration_share} must be > 0 and leave a share for the test"
            )
        for name in ("width", "epochs", "learning_rate", "batch_rows_max"):
            if getattr(self, name) <= 0:
                raise BadInput(f"training settings: {name} is {getattr(self, name)}; must be > 0")


class _Slices(NamedTuple):
    """One head's rows in order of time."""

    training: Examples
    calibration: Examples
    test: Examples


class _Head(NamedTuple):
    """What the artefact holds of a head."""

    tables: Tables
    calibration: F64


class _Candidate(NamedTuple):
    """A model that may serve, how it did on the calibration slice, and its scores on the test."""

    head: _Head
    selection_log_loss: float
    scores: Fit


_UNTRAINED = _Head(
    Tables(torch.zeros((CONTEXT_ROWS, 1)), torch.zeros((AD_ROWS, 1)), -20.0), np.array([1.0, 0.0])
)


def train(
    log: ResponseLog,
    seed: int,
    settings: Settings | None = None,
    heads: Sequence[str] = HEADS,
) -> tuple[Weights, Scores]:
    """Returns a network trained on ``log`` and its scores on the log's last slice.

    Args:
        log: in order of time.
        seed: of the untrained factors and the order of rows.
        settings: the defaults are those of the artefact that ships.
        heads: which to train. One that is left out has no scores, and says of everything that it
            hardly ever happens, so that nothing is bid on it.

    Raises:
        BadInput: the log breaks a rule (``check_log``), a slice has no row for a head, or the
            training slice has no positive or no negative for it.
    """
    settings = settings or Settings()
    check_log(log)
    trained: list[_Head] = []
    scores: list[HeadScores | None] = []
    for index, name in enumerate(HEADS):
        head, head_scores = (
            _train_head(name, log, len(HEADS) * seed + index, settings)
            if name in heads
            else (_UNTRAINED, None)
        )
        trained.append(head)
        scores.append(head_scores)
    context, ad = (
        np.stack([_padded(getattr(head.tables, side), settings.width) for head in trained], 1)
        for side in ("context", "ad")
    )
    weights = weights_of(
        context_vectors=context[:, :, 1:].reshape(context.shape[0], -1),
        context_bias=np.ascontiguousarray(context[:, :, 0]),
        ad_vectors=ad[:, :, 1:].reshape(ad.shape[0], -1),
        ad_bias=np.ascontiguousarray(ad[:, :, 0]),
        bias=np.array([head.tables.bias for head in trained], np.float32),
        calibration=np.stack([head.calibration for head in trained]),
    )
    return weights, Scores(*scores)


def train_and_write(
    log: ResponseLog,
    folder: Path,
    seed: int,
    command: str,
    data: str = "",
    settings: Settings | None = None,
) -> Scores:
    """Trains on ``log`` and writes response.npz, response.onnx and response.json into ``folder``.

    Args:
        log: in order of time.
        folder: made if it is not there.
        seed: as for ``train``.
        command: what reproduces the artefact, for its card.
        data: what the log is, for the card.
        settings: as for ``train``.

    Raises:
        BadInput: as ``train``.
    """
    weights, scores = train(log, seed, settings)
    folder.mkdir(parents=True, exist_ok=True)
    write_artefact(
        folder / "response.npz",
        weights,
        command=command,
        seed=seed,
        data=data,
        row_count=log.ts_ms.shape[0],
        scores=scores,
        onnx_sha256=export_onnx(weights, folder / "response.onnx"),
    )
    return scores


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command of this module; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bidder.recommendation.training")
    parser.add_argument("--log", type=Path, required=True, help="response log, .npz")
    parser.add_argument("--out", type=Path, required=True, help="folder for the artefact")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--data", default="", help="what the log is, for the card")
    given = parser.parse_args(arguments)
    command = (
        f"python -m bidder.recommendation.training --log {_shown(given.log)} "
        f"--out {_shown(given.out)} --seed {given.seed}"
    )
    try:
        log = read_log(given.log)
        scores = train_and_write(
            log, given.out, given.seed, command, given.data or _shown(given.log)
        )
    except LodestoneError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(scores), indent=2).decode() + "\n")
    return 0


def _shown(path: Path) -> str:
    """Returns ``path`` as a card may show it: nobody else has this machine's folders."""
    return path.name if path.is_absolute() else path.as_posix()


def _train_head(
    name: str, log: ResponseLog, seed: int, settings: Settings
) -> tuple[_Head, HeadScores]:
    """Returns the head ``name`` as it will serve, and what is said of it and of its rival."""
    slices = _slices(name, log, settings)
    positives = [int(examples.labels.sum()) for examples in slices]
    row_count = slices.training.labels.shape[0]
    if not 0 < positives[0] < row_count:
        raise BadInput(
            f"response log: {positives[0]} positives for {name} in {row_count} training rows; "
            "there must be rows of both kinds"
        )
    linear = _fit(slices, 0, seed, settings)
    factorised = None
    if positives[0] >= FACTOR_POSITIVES_MIN:
        factorised = _fit(slices, settings.width, seed, settings)
    serving = linear
    if factorised is not None and factorised.selection_log_loss < linear.selection_log_loss:
        serving = factorised
    labels, weights = labels_and_weights(slices.test)
    scores = HeadScores(
        positives_train=positives[0],
        positives_calibration=positives[1],
        row_count=labels.shape[0],
        positive_count=positives[2],
        constant_log_loss=log_loss(
            np.full(labels.shape[0], _rate(slices.training)), labels, weights
        ),
        factorised=None if factorised is None else factorised.scores,
        linear=linear.scores,
        serves="linear" if serving is linear else "factorised",
    )
    return serving.head, scores


def _slices(name: str, log: ResponseLog, settings: Settings) -> _Slices:
    """Returns the rows of head ``name``, cut where the log is cut; no instant is in two slices.

    Raises:
        BadInput: a slice is empty.
    """
    count = log.ts_ms.shape[0]
    shares = (settings.training_share, settings.training_share + settings.calibration_share)
    cuts = [
        int(np.searchsorted(log.ts_ms, log.ts_ms[int(share * count)])) if count else 0
        for share in shares
    ]
    labels = log.clicked if name == "pctr" else log.converted
    is_row = np.ones(count, np.bool_) if name == "pctr" else log.clicked == 1
    slices: list[Examples] = []
    for first, end in zip([0, *cuts], [*cuts, count], strict=True):
        rows = first + np.flatnonzero(is_row[first:end])
        if not rows.size:
            raise BadInput(
                f"response log: no row for {name} between rows {first} and {end} of {count}; "
                f"{_SLICES_RULE}"
            )
        slices.append(
            Examples(
                torch.from_numpy(log.features[rows].astype(np.int32)),
                torch.from_numpy(log.ad_features[rows].astype(np.int32)),
                torch.from_numpy(labels[rows].astype(np.float32)),
                torch.from_numpy(log.weight[rows]),
            )
        )
    return _Slices(*slices)


_SLICES_RULE = "training, calibration and test each need some, at times of their own"


def _fit(slices: _Slices, width: int, seed: int, settings: Settings) -> _Candidate:
    """Returns the best epoch of one candidate, calibrated on the calibration slice and scored."""
    training, calibration, test = slices
    generator = torch.Generator().manual_seed(seed)
    module = HeadModule(
        width,
        _rate(training),
        calibration,
        learning_rate=settings.learning_rate,
        l2=settings.l2 / training.labels.shape[0],
        epochs=settings.epochs,
        generator=generator,
    )
    batch_rows = max(_BATCH_ROWS_MIN, training.labels.shape[0] // _STEPS_MIN)
    batches = Batches(training, min(batch_rows, settings.batch_rows_max), generator)
    _run(module, batches, settings.epochs)
    best = module.best
    assert best is not None, "an epoch was run, so one is the best"
    tables = Tables(
        with_unseen(best.tables.context, training.features, CONTEXT_BUCKETS),
        with_unseen(best.tables.ad, training.ad_features, AD_BUCKETS),
        best.tables.bias,
    )
    calibrator = fit_platt(logits_of(tables, calibration), *labels_and_weights(calibration))
    scores = fit_of(logits_of(tables, test), *labels_and_weights(test), calibrator)
    return _Candidate(_Head(tables, calibrator), best.log_loss, scores)


def _run(module: HeadModule, batches: Batches, epochs: int) -> None:
    """Trains ``module`` in place; draws a progress bar if a person is watching.

    On one thread: batches are too small to share, and threads that wait for one another cost more
    than they bring wherever another process is busy.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        # which accelerators there are and which products one may try is no news to our users
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # lightning 2.6 asks torch for a class that torch 2.13 has deprecated
        warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=epochs,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
        )
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            trainer.fit(module, batches)
        finally:
            torch.set_num_threads(threads)


def _rate(examples: Examples) -> float:
    labels, weights = labels_and_weights(examples)
    return float(np.average(labels, weights=weights))


def _padded(table: torch.Tensor, width: int) -> np.ndarray:
    """Returns the table with ``width`` factors; those of a logistic regression are all zero."""
    return np.pad(table.numpy(), ((0, 0), (0, 1 + width - table.shape[1])))


if __name__ == "__main__":
    sys.exit(main())
