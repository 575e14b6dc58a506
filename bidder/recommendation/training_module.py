"""One head as a torch module: a factorisation machine, or with width 0 a logistic regression.

A table holds the linear term in column 0 and the factors in the others. Gradients are sparse, so
that an optimizer step touches the rows of its batch and no other: Adam's moments do not keep moving
a rare row through steps in which it was not seen, and its L2 term does not shrink it meanwhile.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bidder.recommendation.calibration import F64, calibrated, fit_platt, log_loss
from market.features import AD_ROWS, CONTEXT_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

_FACTOR_SPREAD = 0.05
"""Standard deviation of untrained factors: small enough that the first logits are the base rate's,
not zero because then neither side of a product would ever get a gradient."""

_SCORING_ROWS = 65_536


class Examples(NamedTuple):
    """Rows of one head in order of time.

    Attributes:
        features: [N, F] int32 rows of the context table.
        ad_features: [N, A] int32 rows of the ad table.
        labels: [N] float32, 0 or 1.
        weights: [N] float32.
    """

    features: Tensor
    ad_features: Tensor
    labels: Tensor
    weights: Tensor


class Tables(NamedTuple):
    """The numbers of one head.

    Attributes:
        context: [V, 1 + E] float32, column 0 linear.
        ad: [W, 1 + E] float32, likewise.
        bias: logit of the base rate of the training rows.
    """

    context: Tensor
    ad: Tensor
    bias: float


class Checkpoint(NamedTuple):
    """The tables after one epoch, and how they did on the calibration slice.

    Attributes:
        tables: a copy.
        epoch: counted from 1.
        log_loss: after calibration, on the later half of the calibration slice.
    """

    tables: Tables
    epoch: int
    log_loss: float


class Batches:
    """Examples in batches of a random order per epoch: slices of tensors, no loader per item."""

    def __init__(self, examples: Examples, batch_rows: int, generator: torch.Generator) -> None:
        """Keeps ``examples``; ``generator`` gives the order of every epoch."""
        self._examples = examples
        self._batch_rows = batch_rows
        self._generator = generator

    def __len__(self) -> int:
        """Returns the batches of an epoch; the last may be smaller."""
        return math.ceil(self._examples.labels.shape[0] / self._batch_rows)

    def __iter__(self) -> Iterator[Examples]:
        """Yields the batches of the next epoch."""
        order = torch.randperm(self._examples.labels.shape[0], generator=self._generator)
        for chosen in order.split(self._batch_rows):
            yield Examples(*(tensor[chosen] for tensor in self._examples))


class HeadModule(pl.LightningModule):
    """Learns one head and keeps the epoch that does best after calibration.

    A fixed number of epochs, and the best of them by LogLoss after calibration: stopping on AUC
    keeps overconfident nets, stopping on raw LogLoss keeps the first epoch.
    """

    best: Checkpoint | None

    def __init__(
        self,
        width: int,
        base_rate: float,
        held_out: Examples,
        *,
        learning_rate: float,
        l2: float,
        epochs: int,
        generator: torch.Generator,
    ) -> None:
        """Draws the untrained tables.

        Args:
            width: E, 0 for a logistic regression.
            base_rate: of the training rows; the fixed bias is its logit, so that every other
                number is a departure from it and shrinks towards it.
            held_out: the calibration slice; its earlier half fits the calibrator of an epoch, its
                later half judges it.
            learning_rate: of Adam in the first epoch; falls along a cosine.
            l2: of the penalty l2 * |row|^2 over the rows of a batch, linear terms and factors.
            epochs: how many will be run.
            generator: of the untrained factors.
        """
        super().__init__()
        self.bias = float(np.log(base_rate) - np.log1p(-base_rate))
        self.context = _untrained(CONTEXT_ROWS, width, generator)
        self.ad = _untrained(AD_ROWS, width, generator)
        self.best = None
        self._held_out = held_out
        self._learning_rate = learning_rate
        self._l2 = l2
        self._epochs = epochs

    def forward(self, features: Tensor, ad_features: Tensor) -> Tensor:
        """Returns [N] logits, uncalibrated."""
        return _logits(Tables(self.context, self.ad, self.bias), features, ad_features)

    def training_step(self, batch: Examples) -> Tensor:
        """Returns the batch's weighted mean LogLoss plus the penalty on its rows."""
        features, ad_features, labels, weights = batch
        loss = nn.functional.binary_cross_entropy_with_logits(
            self(features, ad_features), labels, weights, reduction="sum"
        )
        penalty = _squares(self.context, features) + _squares(self.ad, ad_features)
        return loss / weights.sum() + self._l2 * penalty

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        """Returns Adam for sparse gradients, with a cosine over the epochs."""
        adam = torch.optim.SparseAdam(self.parameters(), lr=self._learning_rate)
        return [adam], [torch.optim.lr_scheduler.CosineAnnealingLR(adam, self._epochs)]

    def on_train_epoch_end(self) -> None:
        """Keeps a copy of this epoch's tables if they are the best so far."""
        tables = Tables(self.context.detach(), self.ad.detach(), self.bias)
        logits = logits_of(tables, self._held_out)
        labels, weights = labels_and_weights(self._held_out)
        half = labels.shape[0] // 2
        calibration = fit_platt(logits[:half], labels[:half], weights[:half])
        judged = log_loss(calibrated(logits[half:], calibration), labels[half:], weights[half:])
        if self.best is None or judged < self.best.log_loss:
            kept = Tables(tables.context.clone(), tables.ad.clone(), tables.bias)
            self.best = Checkpoint(kept, self.current_epoch + 1, judged)


def labels_and_weights(examples: Examples) -> tuple[npt.NDArray[np.uint8], F64]:
    """Returns ([N] labels, [N] weights) as calibration and scores take them."""
    return examples.labels.numpy().astype(np.uint8), examples.weights.numpy().astype(np.float64)


def logits_of(tables: Tables, examples: Examples) -> F64:
    """Returns [N] uncalibrated logits of ``examples``, in blocks and without gradients."""
    blocks = zip(
        examples.features.split(_SCORING_ROWS),
        examples.ad_features.split(_SCORING_ROWS),
        strict=True,
    )
    with torch.no_grad():
        return torch.cat([_logits(tables, *block) for block in blocks]).numpy().astype(np.float64)


def with_unseen(table: Tensor, rows: Tensor, buckets: int) -> Tensor:
    """Returns ``table`` where every row that training never saw is the mean of those of its field.

    The mean is over the training examples, so a value that nobody knows counts as the average
    value of its field, not as the random numbers that its row started from.

    Args:
        table: [fields * buckets, 1 + E].
        rows: [N, fields] rows of the training examples.
        buckets: rows per field.
    """
    counts = torch.bincount(rows.flatten(), minlength=table.shape[0])
    by_field = table.double().view(-1, buckets, table.shape[1])
    share = counts.view(-1, buckets, 1) / rows.shape[0]
    mean = (by_field * share).sum(1, keepdim=True).expand_as(by_field)
    return torch.where(share > 0, by_field, mean).float().view_as(table)


def _logits(tables: Tables, features: Tensor, ad_features: Tensor) -> Tensor:
    context, ad = (
        nn.functional.embedding_bag(rows, table, mode="sum", sparse=True)
        for rows, table in ((features, tables.context), (ad_features, tables.ad))
    )
    return tables.bias + context[:, 0] + ad[:, 0] + (context[:, 1:] * ad[:, 1:]).sum(1)


def _untrained(row_count: int, width: int, generator: torch.Generator) -> nn.Parameter:
    table = torch.randn((row_count, 1 + width), generator=generator) * _FACTOR_SPREAD
    table[:, 0] = 0.0
    return nn.Parameter(table)


def _squares(table: nn.Parameter, rows: Tensor) -> Tensor:
    """Returns the sum of squares of each row that occurs in ``rows``, once each."""
    return nn.functional.embedding(rows.unique(), table, sparse=True).square().sum()
