"""The card beside an artefact: how it was made, from what, and how good it is.

Types only, so that reading an artefact needs nothing that scoring or training needs.
"""

from __future__ import annotations

import msgspec


class Fit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores of one model for one head.

    Attributes:
        auc: probability that a positive is ranked above a negative, ties count half; None with
            one class only.
        auc_error: its standard error, None as above.
        log_loss_raw: LogLoss before calibration.
        log_loss: LogLoss of the calibrated probabilities.
        bias_ratio_raw: mean prediction / rate before calibration; None without a positive.
        bias_ratio: mean prediction / rate of the calibrated probabilities.
        ece: expected calibration error over 15 bins of equal mass, calibrated.
    """

    auc: float | None
    auc_error: float | None
    log_loss_raw: float
    log_loss: float
    bias_ratio_raw: float | None
    bias_ratio: float | None
    ece: float


class HeadScores(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Scores of one head beside those of a logistic regression on the same rows.

    Attributes:
        positives_train: positives in the training slice.
        positives_calibration: positives in the calibration slice.
        row_count: rows of the test slice (clicked rows for pcvr).
        positive_count: positives of the test slice; bias_ratio has an error of about its
            1 / sqrt.
        constant_log_loss: LogLoss of always saying the training slice's rate.
        factorised: of the factorisation machine; None where too few positives forbade one.
        linear: of the logistic regression.
        serves: "factorised" or "linear", which of the two is in the artefact: chosen on the
            calibration slice, never on the test slice.
    """

    positives_train: int
    positives_calibration: int
    row_count: int
    positive_count: int
    constant_log_loss: float
    factorised: Fit | None
    linear: Fit
    serves: str


class Scores(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores of both heads; None for one that was not trained."""

    pctr: HeadScores | None
    pcvr: HeadScores | None


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an artefact says of itself, kept beside it as JSON.

    Attributes:
        command: what reproduces it.
        seed: of the training run.
        data: what it was trained on, in words.
        row_count: impressions in that data.
        scores: on the last slice of the data, which neither training nor calibration saw.
        version: of the weights.
        sha256: of the .npz file, hexadecimal.
        onnx_sha256: of the .onnx file, "" if there is none.
    """

    command: str
    seed: int
    data: str
    row_count: int
    scores: Scores
    version: int
    sha256: str
    onnx_sha256: str = ""
